//! Children that are plain async functions.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use mainstay_supervisors::{
    Address, ChildSpec, ExitReason, NodeStatus, Restart, Shutdown, ShutdownPlan, SpecError,
    StartFailure, Started, Strategy, TaskContext,
};

use crate::kit::{Do, LineDead, Log, generous, puppet, settle, started};
use crate::monitors::watcher;

/// Says when it is dropped.
struct Held(Log, &'static str);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.say(format!("drop {}", self.1));
    }
}

/// A task that never ends and does not listen.
fn sleeper(id: &'static str, log: &Log) -> ChildSpec {
    let log = log.clone();
    ChildSpec::task(id, move |_| {
        let held = Held(log.clone(), id);
        async move {
            held.0.say(format!("start {id}"));
            std::future::pending::<()>().await;
            drop(held);
            Ok::<(), LineDead>(())
        }
    })
}

/// A task that ends by itself, this long after it was told to.
fn listener(id: &'static str, log: &Log, takes: Duration) -> ChildSpec {
    let log = log.clone();
    ChildSpec::task(id, move |context: TaskContext| {
        let log = log.clone();
        async move {
            let mut stopping = context.stopping();
            assert!(!stopping.is_asked());
            (&mut stopping).await;
            // Once told it stays so.
            (&mut stopping).await;
            context.stopping().await;
            tokio::time::sleep(takes).await;
            log.say(format!("stop {id}"));
            Ok::<(), LineDead>(())
        }
    })
}

#[tokio::test(start_paused = true)]
async fn a_permanent_task_is_run_again_whatever_its_end() {
    let task = ChildSpec::task("t", |context: TaskContext| async move {
        assert_eq!(context.path.to_string(), "root/t");
        match context.generation.0 {
            1 => Ok(()),
            2 => Err(LineDead(4)),
            3 => panic!("plain text"),
            _ => {
                let previous = context.previous.clone().unwrap();
                assert!(matches!(&*previous, ExitReason::Panicked(_)));
                std::future::pending().await
            }
        }
    });
    let (tree, mut events) = started(generous(Strategy::OneForOne).child(task)).await;
    let ended = events.exited("t").await;
    assert!(matches!(*ended, ExitReason::Stopped { reason: None }));
    let failed = events.exited("t").await;
    assert_eq!(failed.downcast_ref::<LineDead>(), Some(&LineDead(4)));
    let panicked = events.exited("t").await;
    assert!(matches!(&*panicked, ExitReason::Panicked(panic) if panic.message == "plain text"));
    events.restarted("t").await;
    let child = &tree.which_children().await.unwrap()[0];
    assert_eq!(child.generation.0, 4);
    assert_eq!(child.status, NodeStatus::Running);
    assert!(child.cell.is_none());
    tree.shutdown(ShutdownPlan::default()).await;
}

#[tokio::test(start_paused = true)]
async fn a_transient_task_is_run_until_it_returns_well() {
    let runs = Arc::new(AtomicU64::new(0));
    let counted = runs.clone();
    let task = ChildSpec::task("t", move |_| {
        let run = counted.fetch_add(1, Ordering::SeqCst);
        async move {
            if run < 2 {
                return Err(LineDead(1));
            }
            Ok(())
        }
    });
    let (tree, mut events) =
        started(generous(Strategy::OneForOne).child(task.restart(Restart::Transient))).await;
    for _ in 0..2 {
        assert!(matches!(*events.exited("t").await, ExitReason::Failed(_)));
    }
    assert!(events.exited("t").await.is_normal());
    settle().await;
    assert_eq!(runs.load(Ordering::SeqCst), 3);
    assert_eq!(tree.count_children().await.unwrap().active, 0);
    tree.shutdown(ShutdownPlan::default()).await;
}

#[tokio::test(start_paused = true)]
async fn a_task_that_does_not_listen_is_dropped_in_its_turn_and_that_is_graceful() {
    let log = Log::default();
    let (tree, _events) = started(
        generous(Strategy::OneForOne)
            .child(puppet("a", &log))
            .child(sleeper("t", &log))
            .child(puppet("b", &log)),
    )
    .await;
    settle().await;
    assert_eq!(log.take(), ["start a", "start t", "start b"]);
    let report = tree.shutdown(ShutdownPlan::default()).await;
    assert_eq!(report.graceful, 3);
    assert_eq!(
        log.take(),
        ["stop b", "drop b", "drop t", "stop a", "drop a"]
    );
}

#[tokio::test(start_paused = true)]
async fn a_task_that_listens_is_waited_for_within_its_limit() {
    let log = Log::default();
    let limit = Shutdown::Timeout(Duration::from_secs(3));
    let (tree, _events) = started(
        generous(Strategy::OneForOne)
            .child(listener("slow", &log, Duration::from_secs(4)).shutdown(limit))
            .child(listener("quick", &log, Duration::from_secs(2)).shutdown(limit)),
    )
    .await;
    let (watcher, mut downs) = watcher().await;
    for id in ["slow", "quick"] {
        tree.monitor_child(&watcher, &id.into()).await.unwrap();
    }
    settle().await;
    let report = tree.shutdown(ShutdownPlan::default()).await;
    assert_eq!(report.graceful, 1);
    assert_eq!(report.killed.len(), 1);
    assert_eq!(report.killed[0].to_string(), "root/slow");
    assert_eq!(log.take(), ["stop quick"]);
    let ended = downs.recv().await.unwrap().claim().unwrap();
    assert!(
        matches!(&*ended.reason, ExitReason::Stopped { reason: Some(text) } if text == "shutdown")
    );
    let ended = downs.recv().await.unwrap().claim().unwrap();
    assert!(matches!(*ended.reason, ExitReason::Killed));
}

#[tokio::test(start_paused = true)]
async fn a_task_lives_its_life_by_request() {
    let log = Log::default();
    let (tree, _events) = started(generous(Strategy::OneForOne)).await;
    let up = tree.start_child(sleeper("t", &log)).await.unwrap();
    assert!(matches!(&up, Started::Up { generation, cell: None, .. } if generation.0 == 1));
    assert!(up.cell().is_none());
    settle().await;
    tree.terminate_child(&"t".into()).await.unwrap();
    assert_eq!(log.take(), ["start t", "drop t"]);
    let again = tree.restart_child(&"t".into()).await.unwrap();
    assert!(matches!(again, Started::Up { generation, .. } if generation.0 == 2));
    tree.terminate_child(&"t".into()).await.unwrap();
    tree.delete_child(&"t".into()).await.unwrap();
    tree.shutdown(ShutdownPlan::default()).await;
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_task_can_be_monitored() {
    let (tree, _events) = started(generous(Strategy::OneForOne)).await;
    let (watcher, mut downs) = watcher().await;
    let task = ChildSpec::task("t", |_| async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        Err(LineDead(8))
    });
    tree.start_child(task.restart(Restart::Transient))
        .await
        .unwrap();
    let monitor = tree.monitor_child(&watcher, &"t".into()).await.unwrap();
    let down = downs.recv().await.unwrap();
    assert_eq!(down.reference(), monitor.reference());
    let ended = down.claim().unwrap();
    assert_eq!(ended.path.to_string(), "root/t");
    assert_eq!(ended.reason.downcast_ref::<LineDead>(), Some(&LineDead(8)));
    assert!(tree.monitor_child(&watcher, &"x".into()).await.is_err());
    tree.shutdown(ShutdownPlan::default()).await;
}

/// RX-28: no task outlives a supervisor that was killed.
#[tokio::test(start_paused = true)]
async fn no_task_survives_a_killed_supervisor() {
    let log = Log::default();
    let hour = Duration::from_secs(3600);
    let (tree, _events) = started(
        generous(Strategy::OneForOne)
            .child(sleeper("t", &log))
            .child(listener("l", &log, hour)),
    )
    .await;
    settle().await;
    tree.cell().kill();
    tree.wait().await;
    assert_eq!(log.take(), ["start t", "drop t"]);
}

#[tokio::test(start_paused = true)]
async fn a_task_restarts_with_its_group() {
    let log = Log::default();
    let address = Address::new();
    let (tree, mut events) = started(
        generous(Strategy::OneForAll)
            .child(puppet("a", &log).address(&address))
            .child(sleeper("t", &log)),
    )
    .await;
    settle().await;
    log.take();
    address.cast(Do::Fail(1)).unwrap();
    events.restarted("t").await;
    settle().await;
    assert_eq!(log.take(), ["drop a", "drop t", "start a", "start t"]);
    tree.shutdown(ShutdownPlan::default()).await;
}

#[tokio::test(start_paused = true)]
async fn a_task_takes_no_messages() {
    let address = Address::<Do>::new();
    let spec = generous(Strategy::OneForOne).child(sleeper("t", &Log::default()).address(&address));
    let refused = spec.start().await.unwrap_err();
    assert!(matches!(
        refused,
        StartFailure::Spec {
            source: SpecError::AddressType { .. },
            ..
        }
    ));
}
