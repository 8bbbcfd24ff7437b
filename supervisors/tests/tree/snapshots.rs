//! Pictures of a tree.

use std::sync::Mutex;
use std::sync::mpsc;
use std::time::Duration;

use mainstay_supervisors::{
    Address, ChildKind, ChildSpec, NodeStatus, ShutdownPlan, Strategy, SupervisorEventKind,
};

use crate::kit::{Do, Log, generous, puppet, started};

#[tokio::test(start_paused = true)]
async fn a_snapshot_shows_the_whole_tree_in_start_order() {
    let address = Address::new();
    let log = Log::default();
    let below = generous(Strategy::RestForOne).child(puppet("c", &log).address(&address));
    let spec = generous(Strategy::OneForOne)
        .name("top")
        .child(puppet("a", &log))
        .child(ChildSpec::supervisor("b", below));
    let (tree, mut events) = started(spec).await;
    address.cast(Do::Fail(1)).unwrap();
    events.restarted("c").await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let snapshot = tree.snapshot().await;
    assert_eq!(
        snapshot.to_string(),
        "top [one_for_one] running #1 window 0/100\n\
         ├─ a running #1 up 3.0s\n\
         └─ b [rest_for_one] running #1 up 3.0s window 1/100\n   \
         └─ c running #2 up 3.0s restarts 1 last exit: failed: the line is dead (1)"
    );
    let b = snapshot.find(["b"]).unwrap();
    assert_eq!(b.kind, ChildKind::Supervisor);
    assert_eq!(b.strategy, Some(Strategy::RestForOne));
    tree.shutdown(ShutdownPlan::default()).await;
    assert_eq!(tree.snapshot().await.status, NodeStatus::Idle);
}

/// On a real clock: the supervisor's thread is blocked.
#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_supervisor_that_does_not_answer_is_marked_and_not_waited_for() {
    let (release, gate) = mpsc::channel::<()>();
    let gate = Mutex::new(gate);
    let address = Address::new();
    let log = Log::default();
    let below = generous(Strategy::OneForOne)
        .observe(move |event| {
            if matches!(event.kind, SupervisorEventKind::ChildExited { .. }) {
                let _ = gate.lock().unwrap().recv();
            }
        })
        .child(puppet("stuck", &log).address(&address));
    let spec = generous(Strategy::OneForOne)
        .child(ChildSpec::supervisor("below", below))
        .child(puppet("fine", &log));
    let (tree, _events) = started(spec).await;
    address.cast(Do::Fail(1)).unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    let began = std::time::Instant::now();
    let snapshot = tree.snapshot().await;
    assert!(began.elapsed() < Duration::from_secs(2));
    assert_eq!(
        snapshot.find(["below"]).unwrap().status,
        NodeStatus::Unreachable
    );
    assert_eq!(snapshot.find(["fine"]).unwrap().status, NodeStatus::Running);
    drop(release);
    tree.shutdown(ShutdownPlan::default()).await;
}
