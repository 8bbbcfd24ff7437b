//! Events as a stream, of trees that work.

use std::time::Duration;

use futures_util::StreamExt;
use mainstay_supervisors::{
    Address, ChildSpec, EventStream, Intensity, Missed, ShutdownPlan, Strategy, SupervisorSpec,
};

use crate::admin::id;
use crate::kit::{Do, Log, generous, ping, puppet, started};

/// Everything up to the end, as `path event child`.
async fn rest(stream: EventStream) -> Vec<String> {
    let named = stream.map(|event| match event {
        Ok(event) => {
            let child = event.child.map(|id| id.to_string()).unwrap_or_default();
            let told = format!("{} {} {child}", event.path, event.kind.name());
            told.trim().to_owned()
        }
        Err(Missed(count)) => format!("missed {count}"),
    });
    tokio::time::timeout(Duration::from_secs(3600), named.collect())
        .await
        .expect("the stream ends")
}

#[tokio::test(start_paused = true)]
async fn a_stream_tells_everything_in_order_and_ends_with_its_supervisor() {
    let address = Address::new();
    let spec = generous(Strategy::OneForOne).child(puppet("a", &Log::default()).address(&address));
    let (tree, mut events) = started(spec).await;
    let stream = tree.subscribe(64);
    address.cast(Do::Fail(1)).unwrap();
    events.restarted("a").await;
    tree.shutdown(ShutdownPlan::default()).await;
    assert_eq!(
        rest(stream).await,
        [
            "root child.exit a",
            "root child.restart_planned a",
            "root child.start a",
            "root child.restarted a",
            "root sup.shutdown",
            "root child.stop a",
            "root child.stopped a",
        ]
    );
    assert!(rest(tree.subscribe(64)).await.is_empty(), "it has ended");
}

/// A reader that never reads holds nobody up, and finds the latest.
#[tokio::test(start_paused = true)]
async fn a_reader_that_does_not_read_slows_nobody() {
    let address = Address::new();
    let spec = generous(Strategy::OneForOne).child(puppet("a", &Log::default()).address(&address));
    let (tree, mut events) = started(spec).await;
    let stream = tree.subscribe(3);
    for code in 1..=10 {
        address.cast(Do::Fail(code)).unwrap();
        events.restarted("a").await;
        ping(&address).await;
    }
    tree.shutdown(ShutdownPlan::default()).await;
    assert_eq!(
        rest(stream).await,
        [
            "missed 40",
            "root sup.shutdown",
            "root child.stop a",
            "root child.stopped a",
        ],
        "four for each crash and three for the end"
    );
}

/// A stream of a sub-supervisor ends with its incarnation; that of the root hears the next one as well.
#[tokio::test(start_paused = true)]
async fn the_roots_stream_hears_a_restarted_sub_supervisor() {
    let address = Address::new();
    let below = SupervisorSpec::new(Strategy::OneForOne)
        .intensity(Intensity::new(0, Duration::from_secs(5)))
        .child(puppet("a", &Log::default()).address(&address));
    let spec = generous(Strategy::OneForOne).child(ChildSpec::supervisor("below", below));
    let (tree, mut events) = started(spec).await;
    let of_root = tree.subscribe(64);
    let below = tree.which_child(&id("below")).await.unwrap();
    let of_below = below.supervisor.unwrap().subscribe(64);
    for code in 1..=2 {
        address.cast(Do::Fail(code)).unwrap();
        events.restarted("below").await;
    }
    tree.shutdown(ShutdownPlan::default()).await;
    let once = [
        "root/below child.exit a",
        "root/below sup.exhausted a",
        "root/below sup.shutdown",
    ];
    assert_eq!(rest(of_below).await, once);
    let heard = rest(of_root).await;
    for event in once {
        let times = heard.iter().filter(|other| *other == event).count();
        assert_eq!(
            times,
            if event.ends_with("shutdown") { 3 } else { 2 },
            "{event}"
        );
    }
    assert_eq!(heard.last().unwrap(), "root child.stopped below");
}

/// A supervisor that is killed says nothing more, and its stream ends all the same.
#[tokio::test(start_paused = true)]
async fn the_stream_of_a_killed_supervisor_ends() {
    let (tree, _events) =
        started(generous(Strategy::OneForOne).child(puppet("a", &Log::default()))).await;
    let mut stream = tree.subscribe(8);
    tree.cell().kill();
    assert!(stream.next().await.is_none());
}

/// Streams that were dropped, and one whose reader gave up waiting, change nothing.
#[tokio::test(start_paused = true)]
async fn streams_come_and_go_while_the_tree_works() {
    let address = Address::new();
    let spec = generous(Strategy::OneForOne).child(puppet("a", &Log::default()).address(&address));
    let (tree, mut events) = started(spec).await;
    let mut patient = tree.subscribe(64);
    for _ in 0..100 {
        drop(tree.subscribe(64));
    }
    let waiting = tokio::time::timeout(Duration::from_secs(1), patient.next());
    assert!(waiting.await.is_err(), "nothing happens");
    address.cast(Do::Fail(1)).unwrap();
    events.restarted("a").await;
    let event = patient.next().await.unwrap().unwrap();
    assert_eq!(event.kind.name(), "child.exit");
    tree.shutdown(ShutdownPlan::default()).await;
}
