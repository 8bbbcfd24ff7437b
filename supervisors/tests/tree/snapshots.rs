//! Pictures of a tree.

use std::sync::Mutex;
use std::sync::mpsc;
use std::time::{Duration, SystemTime};

use mainstay_supervisors::{
    Address, ChildKind, ChildSpec, NodeStatus, ShutdownPlan, Strategy, SupervisorEventKind,
};

use crate::kit::{Do, Log, Script, generous, puppet, scripted, started};

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
        "top [one_for_one] running #1 up 3.0s window 0/100\n\
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

/// Whoever asks for the top of a large tree gets no more.
#[tokio::test(start_paused = true)]
async fn a_snapshot_goes_as_deep_as_it_is_asked_to() {
    let log = Log::default();
    let deepest = generous(Strategy::OneForOne).child(puppet("d", &log));
    let below = generous(Strategy::OneForOne).child(ChildSpec::supervisor("c", deepest));
    let spec = generous(Strategy::OneForOne).child(ChildSpec::supervisor("b", below));
    let (tree, _events) = started(spec).await;
    let all = ["b", "c", "d"];
    for levels in 0..=4 {
        let snapshot = tree.snapshot_to(levels).await;
        assert_eq!(snapshot.status, NodeStatus::Running);
        for depth in 1..=3 {
            let found = snapshot.find(all[..depth].iter().copied());
            assert_eq!(found.is_some(), depth <= levels, "{depth} of {levels}");
            assert!(found.is_none_or(|node| node.status == NodeStatus::Running));
        }
    }
    assert_eq!(
        tree.snapshot_to(3).await.to_string(),
        tree.snapshot().await.to_string()
    );
    tree.shutdown(ShutdownPlan::default()).await;
}

/// The root is a node like any other: up since its children were, with an actor, and stopping while
/// it ends.
#[tokio::test(start_paused = true)]
async fn a_root_tells_of_itself_what_it_tells_of_children() {
    let before = SystemTime::now();
    let slow = Script {
        start_takes: Duration::from_secs(2),
        stop_takes: Duration::from_secs(2),
        ..Script::default()
    };
    let (tree, mut events) =
        started(generous(Strategy::OneForAll).child(scripted("slow", slow))).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let up = tree.snapshot().await;
    assert_eq!(
        up.uptime,
        Some(Duration::from_secs(1)),
        "the boot is not in it"
    );
    assert_eq!(up.actor, Some(tree.cell().get_id()));
    for node in [&up, up.find(["slow"]).unwrap()] {
        assert!(node.started_at.is_some_and(|at| at >= before));
        assert!(node.actor.is_some());
    }

    let (ending, during) = tokio::join!(tree.shutdown(ShutdownPlan::default()), async {
        events
            .until(|event| event.kind.name() == "sup.shutdown")
            .await;
        tree.snapshot().await
    });
    assert_eq!(ending.graceful, 1);
    assert_eq!(during.status, NodeStatus::Stopping);
    assert_eq!(during.find(["slow"]).unwrap().status, NodeStatus::Stopping);

    let after = tree.snapshot().await;
    assert_eq!(after.status, NodeStatus::Idle);
    assert_eq!((after.uptime, after.actor), (None, None));
    assert_eq!(after.last_exit.unwrap().kind(), "ended");
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_of_a_live_tree_is_json_and_mermaid() {
    let address = Address::new();
    let log = Log::default();
    let below = generous(Strategy::RestForOne).child(puppet("c", &log).address(&address));
    let spec = generous(Strategy::OneForOne)
        .child(puppet("a \"quoted\"", &log))
        .child(ChildSpec::supervisor("b", below));
    let (tree, mut events) = started(spec).await;
    address.cast(Do::Fail(1)).unwrap();
    events.restarted("c").await;
    let snapshot = tree.snapshot().await;
    let json: serde_json::Value = serde_json::from_str(&snapshot.to_json()).unwrap();
    assert_eq!(json["children"][0]["id"], "a \"quoted\"");
    let c = &json["children"][1]["children"][0];
    assert_eq!(c["path"], "root/b/c");
    assert_eq!(c["last_exit"]["reason"], "failed: the line is dead (1)");
    let drawn = snapshot.to_mermaid();
    assert!(
        drawn.contains("n1(\"a #34;quoted#34;<br/>running"),
        "{drawn}"
    );
    assert!(drawn.contains("n2 --> n3\n    n0 --> n2"), "{drawn}");
    tree.shutdown(ShutdownPlan::default()).await;
}

/// On a real clock: the supervisor's thread is blocked.
#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_supervisor_that_does_not_answer_is_marked_and_not_waited_for() {
    let (release, gate) = mpsc::channel::<()>();
    let gate = Mutex::new(gate);
    let (hanging, mut hangs) = tokio::sync::mpsc::unbounded_channel();
    let address = Address::new();
    let log = Log::default();
    let below = generous(Strategy::OneForOne)
        .observe(move |event| {
            if matches!(event.kind, SupervisorEventKind::ChildExited { .. }) {
                hanging.send(()).unwrap();
                let _ = gate.lock().unwrap().recv();
            }
        })
        .child(puppet("stuck", &log).address(&address));
    let spec = generous(Strategy::OneForOne)
        .child(ChildSpec::supervisor("below", below))
        .child(puppet("fine", &log));
    let (tree, _events) = started(spec).await;
    address.cast(Do::Fail(1)).unwrap();
    hangs.recv().await.unwrap();
    // It hangs until it is released below, so an answer means that it was not waited for.
    let waited = tokio::time::timeout(Duration::from_secs(60), tree.snapshot());
    let snapshot = waited.await.expect("the snapshot does not wait for it");
    assert_eq!(
        snapshot.find(["below"]).unwrap().status,
        NodeStatus::Unreachable
    );
    assert_eq!(snapshot.find(["fine"]).unwrap().status, NodeStatus::Running);
    drop(release);
    tree.shutdown(ShutdownPlan::default()).await;
}
