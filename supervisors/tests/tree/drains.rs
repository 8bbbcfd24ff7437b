//! Children that work off their mailbox before they end.

use std::time::Duration;

use mainstay_supervisors::{
    Address, AddressStatus, ChildSpec, Shutdown, ShutdownPlan, Strategy, SupervisorEventKind,
};
use ractor::thread_local::ThreadLocalActorSpawner;
use tokio::sync::oneshot;

use crate::kinds::{foreign, local};
use crate::kit::{Do, Events, Log, Script, generous, ping, puppet, settle, started};

const SECOND: Duration = Duration::from_secs(1);

fn drained(limit: Duration) -> Shutdown {
    Shutdown::Drain(limit)
}

/// How the child ended.
async fn stopped(events: &mut Events) -> String {
    let event = events
        .until(|event| matches!(event.kind, SupervisorEventKind::ChildStopped { .. }))
        .await;
    match event.kind {
        SupervisorEventKind::ChildStopped { reason } => reason.kind().to_owned(),
        other => panic!("{other:?}"),
    }
}

/// What is in the mailbox is handled, what comes later is handed back, and that is told as what it is.
#[tokio::test(start_paused = true)]
async fn a_child_that_drains_handles_what_it_was_sent_and_takes_no_more() {
    let address = Address::new();
    let child = puppet("a", &Log::default())
        .address(&address)
        .shutdown(drained(10 * SECOND));
    let (tree, mut events) = started(generous(Strategy::OneForOne).child(child)).await;
    let began = tokio::time::Instant::now();
    address.cast(Do::Sleep(SECOND)).unwrap();
    let asked = address.clone();
    let answer = tokio::spawn(async move { ping(&asked).await });
    address.cast(Do::Sleep(SECOND)).unwrap();
    settle().await;
    let ending = tokio::spawn(async move { tree.shutdown(ShutdownPlan::default()).await });
    settle().await;
    let refused = address.cast(Do::Fail(1)).unwrap_err();
    assert!(matches!(refused.message, Do::Fail(1)));
    assert!(matches!(refused.status, AddressStatus::Leaving(_)));
    assert_eq!(answer.await.unwrap(), 1);
    let report = ending.await.unwrap();
    assert!(report.is_clean() && report.graceful == 1, "{report:?}");
    assert_eq!(began.elapsed().as_secs(), 2);
    assert_eq!(stopped(&mut events).await, "drained");
}

#[tokio::test(start_paused = true)]
async fn a_child_that_does_not_come_to_an_end_of_its_mailbox_is_killed_at_its_limit() {
    let address = Address::new();
    let child = puppet("a", &Log::default())
        .address(&address)
        .shutdown(drained(3 * SECOND));
    let (tree, mut events) = started(generous(Strategy::OneForOne).child(child)).await;
    for _ in 0..10 {
        address.cast(Do::Sleep(SECOND)).unwrap();
    }
    settle().await;
    let report = tree.shutdown(ShutdownPlan::default()).await;
    assert_eq!(report.killed.len(), 1);
    assert_eq!(report.took.as_secs(), 3);
    assert_eq!(stopped(&mut events).await, "killed");
}

/// The total of a shutdown beats the limit of a drain as it does any other.
#[tokio::test(start_paused = true)]
async fn the_total_cuts_a_drain_short() {
    let address = Address::new();
    let child = puppet("a", &Log::default())
        .address(&address)
        .shutdown(drained(3600 * SECOND));
    let (tree, _events) = started(generous(Strategy::OneForOne).child(child)).await;
    address.cast(Do::Sleep(60 * SECOND)).unwrap();
    settle().await;
    let report = tree.shutdown(ShutdownPlan::within(5 * SECOND)).await;
    assert_eq!(report.killed.len(), 1);
    assert!(report.took <= 5 * SECOND);
}

/// A failure on the way is what it is, and the end all the same.
#[tokio::test(start_paused = true)]
async fn a_child_that_fails_while_it_drains_has_failed_and_is_not_restarted() {
    let address = Address::new();
    let child = puppet("a", &Log::default())
        .address(&address)
        .shutdown(drained(10 * SECOND));
    let (tree, mut events) = started(generous(Strategy::OneForOne).child(child)).await;
    address.cast(Do::Sleep(SECOND)).unwrap();
    address.cast(Do::Fail(1)).unwrap();
    settle().await;
    tree.terminate_child(&"a".into()).await.unwrap();
    assert_eq!(stopped(&mut events).await, "failed");
    assert!(matches!(address.status(), AddressStatus::Down(_)));
    tree.shutdown(ShutdownPlan::default()).await;
}

/// The others have no mailbox to be worked off, and end as by a limit.
#[tokio::test(start_paused = true)]
async fn a_task_and_a_supervisor_are_stopped_instead() {
    let below = generous(Strategy::OneForOne).child(puppet("b", &Log::default()));
    let spec = generous(Strategy::OneForOne)
        .child(ChildSpec::supervisor("below", below).shutdown(drained(SECOND)))
        .child(
            ChildSpec::task("task", |context| async move {
                context.stopping().await;
                Ok::<(), std::io::Error>(())
            })
            .shutdown(drained(SECOND)),
        );
    let (tree, mut events) = started(spec).await;
    let report = tree.shutdown(ShutdownPlan::default()).await;
    assert!(report.is_clean() && report.graceful == 3, "{report:?}");
    assert_eq!(stopped(&mut events).await, "stopped");
    assert_eq!(stopped(&mut events).await, "stopped");
    assert_eq!(stopped(&mut events).await, "ended");
}

/// On a real clock, since a thread-local actor has a runtime of its own: actors of other kinds drain as well.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn foreign_and_thread_local_children_drain_as_well() {
    let spawner = ThreadLocalActorSpawner::new();
    let script = Script::default;
    for child in [foreign("a", script()), local("a", &spawner, script())] {
        let address = Address::new();
        let child = child.address(&address).shutdown(drained(60 * SECOND));
        let (tree, mut events) = started(generous(Strategy::OneForOne).child(child)).await;
        address.cast(Do::Sleep(SECOND / 10)).unwrap();
        let (port, answer) = oneshot::channel();
        address.cast(Do::Ping(port.into())).unwrap();
        tree.terminate_child(&"a".into()).await.unwrap();
        assert_eq!(answer.await, Ok(1));
        assert_eq!(stopped(&mut events).await, "drained");
        tree.shutdown(ShutdownPlan::default()).await;
    }
}
