//! Cases of Elixir's suites of `Task` and `Task.Supervisor` that the list of cases has not.

use std::convert::Infallible;
use std::future::pending;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use mainstay_supervisors::{
    ChildSpec, Root, ShutdownPlan, StartChildError, Strategy, StreamError, StreamSpec, TaskRef,
    TaskSpec,
};

use crate::kit::{LineDead, Log, generous, settle, started};
use crate::telemetry::Tape;

const SECOND: Duration = Duration::from_secs(1);

async fn tasks() -> (Root, TaskRef) {
    let tasks = TaskRef::new();
    let root = TaskSpec::new().reference(&tasks).start().await.unwrap();
    (root, tasks)
}

/// Takes so many seconds.
async fn lasts(seconds: u64) -> Result<u64, LineDead> {
    tokio::time::sleep(SECOND * seconds as u32).await;
    Ok(seconds)
}

async fn fails(number: u64) -> Result<u64, LineDead> {
    Err(LineDead(number as u32))
}

/// The first takes no time, the others never end.
async fn first_only(number: u64) -> Result<u64, LineDead> {
    match number {
        0 => Ok(0),
        _ => pending().await,
    }
}

/// What a task of a stream came to.
fn told(item: Result<u64, StreamError>) -> String {
    match item {
        Ok(value) => format!("ok {value}"),
        Err(StreamError::Ended(error)) => match error.downcast_ref() {
            Some(LineDead(code)) => format!("failed {code}"),
            None => format!("ended {error}"),
        },
        Err(StreamError::TimedOut { .. }) => "timeout".to_owned(),
        Err(other) => other.to_string(),
    }
}

async fn nobody_left(tasks: &TaskRef) {
    settle().await;
    assert_eq!(tasks.count().await.unwrap().specs, 0);
}

/// Elixir's "`async_stream` with `max_concurrency` equal to, less than and more than the tasks": success, slowest first,
/// exits, inner halt, outer halt, unused tasks, timeouts.
#[tokio::test(start_paused = true)]
async fn a_stream_yields_the_same_however_many_run_at_once() {
    let (root, tasks) = tasks().await;
    for limit in [4, 2, 8] {
        let spec = || {
            StreamSpec::new()
                .max_concurrency(limit)
                .timeout(60 * SECOND)
        };
        let quick = || spec().timeout(SECOND / 2);
        let up = tasks.stream(spec(), 1..=4, lasts).map(told);
        let up: Vec<_> = up.collect().await;
        assert_eq!(up, ["ok 1", "ok 2", "ok 3", "ok 4"]);
        let down = tasks.stream(spec(), (1..=4).rev(), lasts).map(told);
        let down: Vec<_> = down.collect().await;
        assert_eq!(down, ["ok 4", "ok 3", "ok 2", "ok 1"]);
        let exits = tasks.stream(spec(), 1..=4, fails).map(told);
        let exits: Vec<_> = exits.collect().await;
        assert_eq!(exits, ["failed 1", "failed 2", "failed 3", "failed 4"]);
        nobody_left(&tasks).await;

        let inner = tasks.stream(spec(), (1..=8).rev().take(4), lasts).map(told);
        let inner: Vec<_> = inner.collect().await;
        assert_eq!(inner, ["ok 8", "ok 7", "ok 6", "ok 5"]);
        let outer = tasks.stream(spec(), (1..=8).rev(), lasts).take(4).map(told);
        let outer: Vec<_> = outer.collect().await;
        assert_eq!(outer, ["ok 8", "ok 7", "ok 6", "ok 5"]);
        nobody_left(&tasks).await;
        let outer = tasks.stream(spec(), 1..=8, fails).take(4).map(told);
        let outer: Vec<_> = outer.collect().await;
        assert_eq!(outer, ["failed 1", "failed 2", "failed 3", "failed 4"]);
        nobody_left(&tasks).await;

        let unused = tasks.stream(spec(), 0..4, first_only).take(1).map(told);
        let unused: Vec<_> = unused.collect().await;
        assert_eq!(unused, ["ok 0"]);
        nobody_left(&tasks).await;

        let late = tasks.stream(quick(), [1, 0, 1, 0], lasts).map(told);
        let late: Vec<_> = late.collect().await;
        assert_eq!(late, ["timeout", "ok 0", "timeout", "ok 0"]);
        nobody_left(&tasks).await;
    }
    let spec = StreamSpec::new().max_concurrency(4).timeout(SECOND / 2);
    let late = tasks.stream(spec.unordered(), [1, 0, 1, 0], lasts);
    let late: Vec<_> = late.map(told).collect().await;
    assert_eq!(late, ["ok 0", "ok 0", "timeout", "timeout"]);
    root.shutdown(ShutdownPlan::default()).await;
}

/// Elixir's "is zippable" on success, on failure and with slowest first; and streams within streams, "with `$callers`".
#[tokio::test(start_paused = true)]
async fn streams_of_one_supervisor_can_be_read_in_turn_and_within_one_another() {
    let (root, tasks) = tasks().await;
    let spec = || StreamSpec::new().max_concurrency(2);
    let ups = || tasks.stream(spec(), 1..=4, lasts).map(told);
    let zipped: Vec<_> = ups().zip(ups()).collect().await;
    assert!(zipped.iter().all(|(one, other)| one == other));
    assert_eq!(zipped.len(), 4);
    let exits = || tasks.stream(spec(), (1..=4).rev(), fails).map(told);
    let zipped: Vec<_> = exits().zip(exits()).collect().await;
    assert!(zipped.iter().all(|(one, other)| one == other));
    assert_eq!(zipped[0].0, "failed 4");

    let below = tasks.clone();
    let sums = tasks.stream(spec(), 1..=3, move |upto| {
        let inner = below.stream(spec(), 0..=upto, |number| lasts(number / 4));
        inner.fold(Ok(0), |sum, item| async move {
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>(sum? + item?)
        })
    });
    let sums: Vec<_> = sums.map(told).collect().await;
    assert_eq!(sums, ["ok 0", "ok 0", "ok 0"]);
    let below = tasks.clone();
    let nested = tasks.run(async move {
        let inner = below.run(lasts(3)).await?;
        Ok::<_, Box<dyn std::error::Error + Send + Sync>>(inner.await? + 1)
    });
    assert_eq!(nested.await.unwrap().await.unwrap(), 4);
    nobody_left(&tasks).await;
    root.shutdown(ShutdownPlan::default()).await;
}

/// Inputs that say when they are dropped, and may panic at the third.
struct Inputs {
    next: u64,
    panics: bool,
    log: Log,
}

impl Iterator for Inputs {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        self.next += 1;
        assert!(!self.panics || self.next < 3, "no third input");
        (self.next <= 4).then_some(self.next)
    }
}

impl Drop for Inputs {
    fn drop(&mut self) {
        self.log.say("inputs dropped");
    }
}

/// Elixir's "terminates outer effect": what makes the inputs is done with when the stream is, at its end, when it is
/// dropped midway, and when the inputs fail, which is told to whoever asks for the next result.
#[tokio::test(start_paused = true)]
async fn inputs_are_dropped_with_their_stream() {
    let (root, tasks) = tasks().await;
    let log = Log::default();
    let inputs = |panics| Inputs {
        next: 0,
        panics,
        log: log.clone(),
    };
    for limit in [4, 2, 8] {
        let spec = || StreamSpec::new().max_concurrency(limit);
        let mut items = tasks.stream(spec(), inputs(false), lasts);
        while items.next().await.is_some() {}
        assert_eq!(log.take(), ["inputs dropped"]);
        let mut items = tasks.stream(spec(), inputs(false), lasts);
        assert_eq!(items.next().await.unwrap().unwrap(), 1);
        assert!(log.read().is_empty());
        drop(items);
        assert_eq!(log.take(), ["inputs dropped"]);
        nobody_left(&tasks).await;

        let items = tasks.stream(spec(), inputs(true), lasts);
        let collected = tokio::spawn(items.map(told).collect::<Vec<_>>()).await;
        assert!(collected.unwrap_err().is_panic());
        assert_eq!(log.take(), ["inputs dropped"]);
        nobody_left(&tasks).await;
    }
    root.shutdown(ShutdownPlan::default()).await;
}

/// Elixir's `yield_many`: with a limit, less than the limit, with a timeout that kills and one that does not.
#[tokio::test(start_paused = true)]
async fn of_many_handles_so_many_can_be_waited_for() {
    let (root, tasks) = tasks().await;
    let mut handles = FuturesUnordered::new();
    for seconds in [3, 1, 2] {
        handles.push(tasks.run(lasts(seconds)).await.unwrap());
    }
    assert_eq!(handles.next().await.unwrap().unwrap(), 1);
    assert_eq!(tasks.count().await.unwrap().active, 2, "the others go on");
    let rest: Vec<_> = handles.by_ref().take(5).collect().await;
    let rest: Vec<_> = rest.into_iter().map(Result::unwrap).collect();
    assert_eq!(rest, [2, 3], "all there are");

    for seconds in [9, 1] {
        handles.push(tasks.run(lasts(seconds)).await.unwrap());
    }
    let mut within = Vec::new();
    let deadline = tokio::time::Instant::now() + 2 * SECOND;
    while let Ok(Some(item)) = tokio::time::timeout_at(deadline, handles.next()).await {
        within.push(item.unwrap());
    }
    assert_eq!(within, [1]);
    assert_eq!(tasks.count().await.unwrap().active, 1, "and it goes on");
    handles
        .iter()
        .for_each(mainstay_supervisors::TaskHandle::kill);
    assert!(handles.next().await.unwrap().is_err());
    nobody_left(&tasks).await;
    root.shutdown(ShutdownPlan::default()).await;
}

/// Elixir's `Task.Supervisor` "multiple supervisors can be supervised and identified", "counts and returns children".
#[tokio::test(start_paused = true)]
async fn task_supervisors_stand_side_by_side() {
    let refs: [TaskRef; 3] = Default::default();
    let child = |number: usize| {
        let spec = TaskSpec::new().reference(&refs[number]);
        ChildSpec::supervisor(format!("tasks {number}"), spec)
    };
    let spec = generous(Strategy::OneForOne).children([child(0), child(1)]);
    let (tree, _events) = started(spec).await;
    tree.start_child(child(2)).await.unwrap();
    for tasks in &refs {
        assert!(tasks.children().await.unwrap().is_empty());
        let counts = tasks.count().await.unwrap();
        let counts = [
            counts.specs,
            counts.active,
            counts.supervisors,
            counts.workers,
        ];
        assert_eq!(counts, [0; 4]);
    }
    let again = tree.start_child(child(2)).await.unwrap_err();
    assert!(
        matches!(again, StartChildError::AlreadyStarted { .. }),
        "{again}"
    );
    let task = refs[1].run_nolink(lasts(60)).await.unwrap();
    let counts = refs[1].count().await.unwrap();
    assert_eq!((counts.active, counts.workers), (1, 1));
    assert_eq!(refs[1].children().await.unwrap()[0].0, *task.key());
    for other in [0, 2] {
        assert_eq!(refs[other].count().await.unwrap().specs, 0);
        let foreign = refs[other].terminate_child(task.key()).await;
        assert!(foreign.is_err(), "its key is another supervisor's");
    }
    refs[1].terminate_child(task.key()).await.unwrap();
    tree.shutdown(ShutdownPlan::default()).await;
}

/// Elixir's "logs a terminated task": one warning, with who it was and why, and none of one that ended well.
#[tokio::test(start_paused = true)]
async fn a_task_that_fails_is_recorded_once() {
    let tape = Tape::default();
    let _recording = tracing::subscriber::set_default(tape.clone());
    let (root, tasks) = tasks().await;
    let good = tasks.run(async { Ok::<_, Infallible>(()) }).await.unwrap();
    good.await.unwrap();
    let bad = tasks.run(fails(4)).await.unwrap();
    assert!(bad.await.is_err());
    settle().await;
    let told = tape.told();
    let of = |task: &str| {
        let of = told
            .iter()
            .filter(|line| line.contains(&format!(" {task}#")));
        of.map(String::as_str).collect::<Vec<_>>()
    };
    assert_eq!(
        of("task-1"),
        [
            "debug child.start task-1#1",
            "debug child.started task-1#1",
            "debug child.exit task-1#1"
        ]
    );
    assert_eq!(
        of("task-2"),
        [
            "debug child.start task-2#1",
            "debug child.started task-2#1",
            "warn child.exit task-2#1"
        ]
    );
    let exit = tape.find("warn child.exit task-2#1");
    let said = exit
        .values()
        .any(|value| value.contains("the line is dead (4)"));
    assert!(said, "{exit:?}");
    root.shutdown(ShutdownPlan::default()).await;
}
