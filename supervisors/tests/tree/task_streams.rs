//! Streams of tasks: how many run, in which order their results come, and what is left of those nobody asks for.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use mainstay_supervisors::{
    ExitReason, Root, ShutdownPlan, StartTaskError, StreamError, StreamSpec, TaskRef, TaskSpec,
    TaskStream,
};

use crate::kit::{LineDead, Log, settle};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

async fn tasks(spec: TaskSpec) -> (Root, TaskRef) {
    let tasks = TaskRef::new();
    let root = spec.reference(&tasks).start().await.unwrap();
    (root, tasks)
}

/// Takes so many seconds.
async fn lasts(seconds: u64) -> Result<u64, LineDead> {
    tokio::time::sleep(SECOND * seconds as u32).await;
    Ok(seconds)
}

fn at_once(limit: usize) -> StreamSpec {
    StreamSpec::new().max_concurrency(limit).timeout(HOUR)
}

fn count(taken: &AtomicUsize) {
    taken.fetch_add(1, Ordering::SeqCst);
}

/// Results, or how a task ended instead.
async fn all(stream: TaskStream<u64>) -> Vec<Result<u64, String>> {
    let told = stream.map(|item| item.map_err(|error| error.to_string()));
    told.collect().await
}

async fn nobody_left(tasks: &TaskRef) {
    settle().await;
    assert_eq!(tasks.count().await.unwrap().specs, 0);
}

/// Elixir's `async_stream`: streams an enumerable, with slowest first.
#[tokio::test(start_paused = true)]
async fn results_come_in_the_order_of_the_inputs_or_as_they_are_there() {
    let (root, tasks) = tasks(TaskSpec::new()).await;
    let seconds = [4, 3, 2, 1];
    let ordered = all(tasks.stream(at_once(4), seconds, lasts)).await;
    assert_eq!(ordered, seconds.map(Ok));
    let began = tokio::time::Instant::now();
    let unordered = all(tasks.stream(at_once(4).unordered(), seconds, lasts)).await;
    assert_eq!(unordered, [1, 2, 3, 4].map(Ok));
    assert_eq!(began.elapsed().as_secs(), 4);
    let one_by_one = all(tasks.stream(at_once(0), seconds, lasts)).await;
    assert_eq!(one_by_one, seconds.map(Ok), "none at a time is one");
    assert_eq!(began.elapsed().as_secs(), 14);
    let mut none = tasks.stream(at_once(4), [], lasts);
    assert!(none.next().await.is_none());
    assert!(none.next().await.is_none(), "for good");
    nobody_left(&tasks).await;
    root.shutdown(ShutdownPlan::default()).await;
}

/// Elixir's `async_stream`: streams an enumerable with exits.
#[tokio::test(start_paused = true)]
async fn a_task_that_fails_is_an_item_like_any_other() {
    let (root, tasks) = tasks(TaskSpec::new()).await;
    let make = |number: u64| async move {
        match number {
            1 => Err(LineDead(1)),
            2 => panic!("two"),
            number => Ok(number),
        }
    };
    let mut items = tasks.stream(at_once(2), 0..5u64, make);
    assert_eq!(items.next().await.unwrap().unwrap(), 0);
    let Some(Err(StreamError::Ended(failed))) = items.next().await else {
        panic!("it has a result");
    };
    assert_eq!(failed.downcast_ref(), Some(&LineDead(1)));
    let Some(Err(StreamError::Ended(panicked))) = items.next().await else {
        panic!("it has a result");
    };
    assert!(matches!(&*panicked.reason, ExitReason::Panicked(panic) if panic.message == "two"));
    assert_eq!(all(items).await, [Ok(3), Ok(4)]);

    let panics = |number: u64| -> std::future::Ready<Result<u64, LineDead>> {
        panic!("before there is a future, {number}")
    };
    let ends = all(tasks.stream(at_once(2), [7], panics)).await;
    assert!(
        ends[0]
            .as_ref()
            .unwrap_err()
            .contains("ended without a result")
    );
    nobody_left(&tasks).await;
    root.shutdown(ShutdownPlan::default()).await;
}

/// Elixir's `async_stream`: shuts down unused tasks.
#[tokio::test(start_paused = true)]
async fn tasks_of_a_stream_that_is_dropped_end() {
    let (root, tasks) = tasks(TaskSpec::new()).await;
    for spec in [at_once(4), at_once(4).unordered()] {
        let mut items = tasks.stream(spec, [0, 9, 9, 9, 9], lasts);
        assert_eq!(items.next().await.unwrap().unwrap(), 0);
        settle().await;
        assert_eq!(tasks.count().await.unwrap().active, 3, "and no further");
        drop(items);
        nobody_left(&tasks).await;
    }
    let never_polled = tasks.stream(at_once(4), [1, 2], lasts);
    nobody_left(&tasks).await;
    drop(never_polled);

    // Those whose start is still on its way to the supervisor do not come up afterwards.
    let mut starting = tasks.stream(at_once(4), [9, 9, 9, 9], lasts);
    let polled = tokio::time::timeout(Duration::ZERO, starting.next()).await;
    assert!(polled.is_err());
    drop(starting);
    nobody_left(&tasks).await;
    root.shutdown(ShutdownPlan::default()).await;
}

/// Elixir's `async_stream`: raises an error if `max_children` is reached, with clean stream shutdown.
#[tokio::test(start_paused = true)]
async fn a_start_that_is_refused_ends_the_stream_at_once() {
    for spec in [at_once(2), at_once(2).unordered()] {
        let (root, tasks) = tasks(TaskSpec::new().max_children(1)).await;
        let taken = Arc::new(AtomicUsize::new(0));
        let counted = taken.clone();
        let inputs = (0..9u64).inspect(move |_| count(&counted));
        let forever = |_| std::future::pending::<Result<u64, LineDead>>();
        let began = tokio::time::Instant::now();
        let mut items = tasks.stream(spec, inputs, forever);
        let refused = items.next().await.unwrap().unwrap_err();
        assert!(
            matches!(
                refused,
                StreamError::NotStarted(StartTaskError::MaxChildren { limit: 1, .. })
            ),
            "{refused}"
        );
        assert!(began.elapsed() < SECOND, "whoever runs is not waited for");
        assert!(items.next().await.is_none());
        assert_eq!(taken.load(Ordering::SeqCst), 2);
        nobody_left(&tasks).await;
        root.shutdown(ShutdownPlan::default()).await;
    }
}

/// Elixir's `async_stream`: with `on_timeout` set to `kill_task`, and `timeout`, where whoever asks goes no further.
#[tokio::test(start_paused = true)]
async fn a_task_that_takes_too_long_is_killed_and_told() {
    let (root, tasks) = tasks(TaskSpec::new()).await;
    let spec = || at_once(2).timeout(2 * SECOND);
    let mut items = tasks.stream(spec(), [9, 1, 9, 1], lasts);
    let late = items.next().await.unwrap().unwrap_err();
    let StreamError::TimedOut { task, within, .. } = late else {
        panic!("it ended otherwise: {late}");
    };
    assert_eq!((task.as_str(), within), ("task-1", 2 * SECOND));
    assert_eq!(items.next().await.unwrap().unwrap(), 1);
    assert!(matches!(
        items.next().await,
        Some(Err(StreamError::TimedOut { .. }))
    ));
    assert_eq!(all(items).await, [Ok(1)]);
    nobody_left(&tasks).await;

    let items = tasks.stream(spec(), [1, 9, 1, 1, 1], lasts);
    let good: Vec<_> = items
        .map(Result::ok)
        .take_while(|item| std::future::ready(item.is_some()))
        .collect()
        .await;
    assert_eq!(good.len(), 1);
    nobody_left(&tasks).await;

    let longest = at_once(1).timeout(Duration::MAX);
    assert_eq!(all(tasks.stream(longest, [3600], lasts)).await, [Ok(3600)]);
    let five = StreamSpec::new().max_concurrency(1);
    let slow = all(tasks.stream(five, [6], lasts)).await;
    assert!(slow[0].as_ref().unwrap_err().contains("within 5s"));
    root.shutdown(ShutdownPlan::default()).await;
}

/// Inputs without end, and a consumer that takes its time: no more are taken than there is room for.
#[tokio::test(start_paused = true)]
async fn neither_tasks_nor_results_pile_up() {
    for spec in [at_once(3), at_once(3).unordered()] {
        let (root, tasks) = tasks(TaskSpec::new()).await;
        let taken = Arc::new(AtomicUsize::new(0));
        let counted = taken.clone();
        let inputs = (1..).inspect(move |_| count(&counted));
        // The first of all is the slowest.
        let make = |number: u64| lasts(if number == 1 { 60 } else { number % 3 });
        let mut items = tasks.stream(spec, inputs, make);
        assert_eq!(taken.load(Ordering::SeqCst), 0);
        for yielded in 0..50 {
            assert!(items.next().await.unwrap().is_ok());
            tokio::time::sleep(SECOND / 4).await;
            let under_way = taken.load(Ordering::SeqCst) - yielded - 1;
            assert!(under_way <= 3, "{under_way}");
            assert!(tasks.count().await.unwrap().active <= 3);
        }
        drop(items);
        nobody_left(&tasks).await;
        root.shutdown(ShutdownPlan::default()).await;
    }
}

/// Whoever gives up waiting for the next one loses none; and anybody may ask.
#[tokio::test(start_paused = true)]
async fn a_next_that_is_dropped_loses_nothing() {
    let (root, tasks) = tasks(TaskSpec::new()).await;
    let mut items = tasks.stream(at_once(2), [3, 3, 1, 2], lasts);
    let mut given_up = 0;
    while tokio::time::timeout(SECOND / 3, items.next())
        .await
        .map_or_else(|_| true, |item| item.is_none())
    {
        given_up += 1;
    }
    assert!(given_up > 5);
    let rest = tokio::spawn(all(items)).await.unwrap();
    assert_eq!(rest, [3, 1, 2].map(Ok));
    root.shutdown(ShutdownPlan::default()).await;
}

/// The supervisor ends: so do those that run, and the stream.
#[tokio::test(start_paused = true)]
async fn a_stream_ends_with_its_supervisor() {
    let (root, tasks) = tasks(TaskSpec::new()).await;
    let mut items = tasks.stream(at_once(2), 9.., lasts);
    let log = Log::default();
    let told = log.clone();
    let reader = tokio::spawn(async move {
        while let Some(item) = items.next().await {
            told.say(match item {
                Ok(_) => "result",
                Err(StreamError::Ended(error)) if error.reason.is_normal() => "stopped",
                Err(StreamError::NotStarted(StartTaskError::ShuttingDown(_))) => "over",
                Err(_) => "otherwise",
            });
        }
    });
    settle().await;
    let report = root.shutdown(ShutdownPlan::default()).await;
    assert_eq!(report.graceful, 2);
    reader.await.unwrap();
    let said = log.take();
    assert_eq!(said.last().unwrap(), "over");
    assert!(!said.contains(&"otherwise".to_owned()), "{said:?}");
}
