//! Watchdogs: actors that hang in a callback, and the meters that tell.

use std::time::Duration;

use mainstay_supervisors::{
    Address, ChildSpec, ExitReason, Intensity, Shutdown, ShutdownCause, ShutdownPlan, Strategy,
    SupervisorEventKind, SupervisorSpec,
};

use crate::kit::{Do, Log, generous, ping, puppet, settle, started};

const SECOND: Duration = Duration::from_secs(1);
const LIMIT: Duration = Duration::from_secs(10);
const FOREVER: Duration = Duration::from_secs(1_000_000);

fn watched(address: &Address<Do>, log: &Log) -> ChildSpec {
    puppet("a", log).watchdog(LIMIT).address(address)
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_waits_forever_is_killed_as_hung_and_replaced() {
    let (address, log) = (Address::new(), Log::default());
    let (tree, mut events) =
        started(generous(Strategy::OneForOne).child(watched(&address, &log))).await;
    // Not at a multiple of anything that the watchdog does.
    tokio::time::sleep(Duration::from_millis(12_345)).await;
    log.take();
    let began = tokio::time::Instant::now();
    address.cast(Do::Sleep(FOREVER)).unwrap();
    let reason = events.exited("a").await;
    assert!(
        matches!(*reason, ExitReason::Hung { in_handler } if in_handler >= LIMIT),
        "{reason}"
    );
    assert_eq!(reason.kind(), "hung");
    assert!(began.elapsed() < LIMIT + SECOND / 10);
    events.restarted("a").await;
    assert_eq!(log.take(), ["drop a", "start a"]);
    assert_eq!(ping(&address).await, 2);
    tree.shutdown(ShutdownPlan::default()).await;
}

#[tokio::test(start_paused = true)]
async fn a_busy_actor_that_gets_on_is_left_alone() {
    let (address, log) = (Address::new(), Log::default());
    let (tree, _events) =
        started(generous(Strategy::OneForOne).child(watched(&address, &log))).await;
    for _ in 0..20 {
        address.cast(Do::Sleep(LIMIT * 9 / 10)).unwrap();
    }
    assert_eq!(
        address
            .call(Do::Ping, Duration::from_secs(3600))
            .await
            .unwrap(),
        1
    );
    tree.shutdown(ShutdownPlan::default()).await;
}

#[tokio::test(start_paused = true)]
async fn a_handler_just_under_the_limit_survives_and_one_just_above_does_not() {
    let (address, log) = (Address::new(), Log::default());
    let (tree, mut events) =
        started(generous(Strategy::OneForOne).child(watched(&address, &log))).await;
    let little = Duration::from_millis(10);
    address.cast(Do::Sleep(LIMIT - little)).unwrap();
    assert_eq!(address.call(Do::Ping, 2 * LIMIT).await.unwrap(), 1);
    address.cast(Do::Sleep(LIMIT + little)).unwrap();
    let reason = events.exited("a").await;
    assert!(matches!(*reason, ExitReason::Hung { .. }), "{reason}");
    tree.shutdown(ShutdownPlan::default()).await;
}

#[tokio::test(start_paused = true)]
async fn a_hang_counts_against_the_intensity() {
    let (address, log) = (Address::new(), Log::default());
    let spec = SupervisorSpec::new(Strategy::OneForOne)
        .intensity(Intensity::new(1, 100 * LIMIT))
        .child(watched(&address, &log));
    let (tree, mut events) = started(spec).await;
    address.cast(Do::Sleep(FOREVER)).unwrap();
    events.restarted("a").await;
    address.cast(Do::Sleep(FOREVER)).unwrap();
    let ExitReason::Ended(ShutdownCause::Exhausted { reason, .. }) = &*tree.wait().await else {
        panic!("it goes on");
    };
    assert!(matches!(**reason, ExitReason::Hung { .. }), "{reason}");
}

/// On a real clock.
#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_handler_that_never_yields_is_left_behind_and_replaced() {
    let (address, log) = (Address::new(), Log::default());
    let child = puppet("a", &log)
        .watchdog(Duration::from_millis(100))
        .address(&address);
    let (tree, mut events) = started(generous(Strategy::OneForOne).child(child)).await;
    let (release, until) = std::sync::mpsc::channel();
    address.cast(Do::Block(until)).unwrap();
    events
        .until(|event| matches!(event.kind, SupervisorEventKind::ChildAbandoned))
        .await;
    let reason = events.exited("a").await;
    assert!(matches!(*reason, ExitReason::Hung { .. }), "{reason}");
    events.restarted("a").await;
    assert_eq!(ping(&address).await, 2);
    drop(release);
    let report = tree.shutdown(ShutdownPlan::default()).await;
    assert_eq!(report.graceful, 1);
}

#[tokio::test(start_paused = true)]
async fn an_idle_actor_is_left_alone() {
    let (address, log) = (Address::new(), Log::default());
    let (tree, mut events) =
        started(generous(Strategy::OneForOne).child(watched(&address, &log))).await;
    tokio::time::sleep(100 * LIMIT).await;
    assert_eq!(ping(&address).await, 1);
    assert_eq!(
        events.names(),
        ["child.start a", "child.started a", "sup.ready"]
    );
    tree.shutdown(ShutdownPlan::default()).await;
}

/// What hangs while it is stopped is governed by its shutdown limit.
#[tokio::test(start_paused = true)]
async fn the_watchdog_does_not_watch_an_end() {
    let (address, log) = (Address::new(), Log::default());
    let child = watched(&address, &log).shutdown(Shutdown::Timeout(3 * LIMIT));
    let (tree, mut events) = started(generous(Strategy::OneForOne).child(child)).await;
    address.cast(Do::Sleep(2 * LIMIT)).unwrap();
    settle().await;
    let report = tree.shutdown(ShutdownPlan::within(10 * LIMIT)).await;
    assert_eq!(report.graceful, 1);
    assert_eq!(
        events.names(),
        [
            "child.start a",
            "child.started a",
            "sup.ready",
            "sup.shutdown",
            "child.stop a",
            "child.stopped a"
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_tells_what_an_actor_does_with_its_time() {
    let (address, log) = (Address::new(), Log::default());
    let spec = generous(Strategy::OneForOne).child(puppet("a", &log).address(&address));
    let (tree, _events) = started(spec).await;
    address.cast(Do::Sleep(3 * SECOND)).unwrap();
    assert_eq!(address.call(Do::Ping, LIMIT).await.unwrap(), 1);
    address.cast(Do::Sleep(5 * SECOND)).unwrap();
    address.cast(Do::Sleep(5 * SECOND)).unwrap();
    tokio::time::sleep(2 * SECOND).await;
    let snapshot = tree.snapshot().await;
    let node = snapshot.find(["a"]).unwrap();
    assert_eq!(node.handled, 2);
    assert_eq!(node.busy, 3 * SECOND);
    assert_eq!(node.handler_age, Some(2 * SECOND));
    assert_eq!(node.queue_depth, Some(2));
    assert!(snapshot.handled > 0);
    tree.shutdown(ShutdownPlan::default()).await;
}
