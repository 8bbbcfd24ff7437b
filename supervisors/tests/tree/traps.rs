//! ractor's twelve traps that no other file tests. 1, 2, 5 and 6 are in `shutdown`, 8 in `exits`,
//! 11 in `monitors`; 12 is the compile matrix.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use mainstay_supervisors::{
    Address, ChildSpec, ShutdownPlan, Strategy, SupervisorEventKind, SupervisorSpec,
};
use ractor::{Actor, SupervisionEvent};

use crate::kit::{Do, Log, Puppet, Script, generous, ping, puppet, scripted, settle, started};

async fn slow_drop(end: impl FnOnce(&Address<Do>)) -> Vec<String> {
    let log = Log::default();
    let address = Address::new();
    let script = Script {
        log: log.clone(),
        drop_takes: Duration::from_millis(150),
        ..Script::default()
    };
    let spec = generous(Strategy::OneForOne).child(scripted("a", script).address(&address));
    let (tree, mut events) = started(spec).await;
    log.take();
    end(&address);
    events.restarted("a").await;
    let lines = log.take();
    tree.shutdown(ShutdownPlan::default()).await;
    lines
}

/// Trap 3, on a real clock: the state of a failed actor outlives its exit event, not its successor's
/// start.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_actors_state_is_gone_before_the_replacement_starts() {
    let lines = slow_drop(|address| {
        address.cast(Do::Fail(1)).unwrap();
    })
    .await;
    assert_eq!(lines, ["drop a", "start a"]);
}

/// Trap 4, on a real clock: a stop or kill sends the state to the supervisor; it is not kept there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_or_killed_actors_state_is_gone_before_the_replacement_starts() {
    let lines = slow_drop(|address| {
        address.cast(Do::Stop(None)).unwrap();
    })
    .await;
    assert_eq!(lines, ["stop a", "drop a", "start a"]);
    let lines = slow_drop(|address| address.current().unwrap().kill()).await;
    assert_eq!(lines, ["drop a", "start a"]);
}

/// Trap 4: a state whose drop panics does not hurt the supervisor.
#[tokio::test(start_paused = true)]
async fn a_state_that_panics_when_dropped_harms_nobody() {
    let address = Address::new();
    let script = Script {
        drop_panics: true,
        ..Script::default()
    };
    let spec = generous(Strategy::OneForOne).child(scripted("a", script).address(&address));
    let (tree, mut events) = started(spec).await;
    address.cast(Do::Stop(None)).unwrap();
    events.restarted("a").await;
    address.current().unwrap().kill();
    events.restarted("a").await;
    address.cast(Do::Fail(1)).unwrap();
    events.restarted("a").await;
    assert_eq!(ping(&address).await, 4);
    tree.shutdown(ShutdownPlan::default()).await;
}

/// Trap 7: while one child takes an hour to start again, the supervisor answers and acts.
#[tokio::test(start_paused = true)]
async fn the_supervisor_is_not_deaf_while_a_child_starts() {
    let log = Log::default();
    let (slow, quick) = (Address::new(), Address::new());
    let spec = generous(Strategy::OneForOne)
        .child(
            ChildSpec::actor("slow", |context: mainstay_supervisors::StartContext| {
                let hour = Duration::from_secs(3600);
                Ok((
                    Puppet,
                    Script {
                        start_takes: hour * u32::from(context.generation.0 > 1),
                        ..Script::default()
                    },
                ))
            })
            .start_timeout(Duration::from_secs(7200))
            .address(&slow),
        )
        .child(puppet("quick", &log).address(&quick));
    let (tree, mut events) = started(spec).await;
    slow.cast(Do::Fail(1)).unwrap();
    events.exited("slow").await;
    let began = tokio::time::Instant::now();
    let snapshot = tree.snapshot().await;
    assert_eq!(
        snapshot.find(["slow"]).unwrap().status,
        mainstay_supervisors::NodeStatus::Restarting
    );
    quick.cast(Do::Fail(1)).unwrap();
    events.restarted("quick").await;
    assert!(began.elapsed() < Duration::from_secs(1));
    tree.shutdown(ShutdownPlan::default()).await;
}

/// RX-12, trap 9: actors that are linked to the supervisor, and forged events, move nothing. Probe 7.
#[tokio::test(start_paused = true)]
async fn strangers_and_forged_events_are_ignored() {
    let address = Address::new();
    let spec = generous(Strategy::OneForOne).child(puppet("a", &Log::default()).address(&address));
    let (tree, _events) = started(spec).await;
    for end in [0, 1, 2] {
        let (stranger, join) =
            Actor::spawn_linked(None, Puppet, Script::default(), tree.cell().clone())
                .await
                .unwrap();
        match end {
            0 => stranger.stop(None),
            1 => stranger.kill(),
            _ => stranger.send_message(Do::Fail(1)).unwrap(),
        }
        join.await.unwrap();
    }
    let child = address.current().unwrap();
    child.notify_supervisor(SupervisionEvent::ActorFailed(
        child.get_cell(),
        "forged".into(),
    ));
    child.notify_supervisor(SupervisionEvent::ActorTerminated(
        child.get_cell(),
        None,
        None,
    ));
    settle().await;
    assert_eq!(ping(&address).await, 1);
    tree.shutdown(ShutdownPlan::default()).await;
}

/// Trap 9 with the `monitors` feature: what the supervisor monitors does not move it either.
#[cfg(feature = "monitors")]
#[tokio::test(start_paused = true)]
async fn what_a_supervisor_monitors_does_not_move_it() {
    let address = Address::new();
    let spec = generous(Strategy::OneForOne).child(puppet("a", &Log::default()).address(&address));
    let (tree, _events) = started(spec).await;
    let (stranger, join) = Actor::spawn(None, Puppet, Script::default()).await.unwrap();
    tree.cell().monitor(stranger.get_cell());
    stranger.send_message(Do::Fail(1)).unwrap();
    join.await.unwrap();
    settle().await;
    assert_eq!(ping(&address).await, 1);
    tree.shutdown(ShutdownPlan::default()).await;
}

/// Trap 10: failures are not laundered into a clean exit on their way up.
#[tokio::test(start_paused = true)]
async fn a_panic_two_levels_down_is_known_at_the_top() {
    let address = Address::new();
    let none = mainstay_supervisors::Intensity::new(0, Duration::from_secs(1));
    let below = SupervisorSpec::new(Strategy::OneForOne)
        .intensity(none)
        .child(puppet("a", &Log::default()).address(&address));
    let spec = SupervisorSpec::new(Strategy::OneForOne)
        .intensity(none)
        .child(ChildSpec::supervisor("below", below));
    let (tree, _events) = started(spec).await;
    address.cast(Do::PanicText).unwrap();
    let reason = tree.wait().await.to_string();
    assert!(reason.contains("plain text"), "{reason}");
}

/// RX-26: one start, one exit, one restart event per incarnation.
#[tokio::test(start_paused = true)]
async fn each_incarnation_is_reported_once() {
    let address = Address::new();
    let spec = generous(Strategy::OneForOne).child(puppet("a", &Log::default()).address(&address));
    let (tree, mut events) = started(spec).await;
    address.cast(Do::Fail(1)).unwrap();
    address.changes().next().await;
    ping(&address).await;
    tree.shutdown(ShutdownPlan::default()).await;
    assert_eq!(
        events.names(),
        [
            "child.started a",
            "sup.ready",
            "child.exit a",
            "child.restart_planned a",
            "child.restarted a",
            "sup.shutdown",
            "child.stopped a",
        ]
    );
}

/// Events of all supervisors reach the observer of the root, with their paths.
#[tokio::test(start_paused = true)]
async fn the_roots_observer_sees_the_whole_tree() {
    let address = Address::new();
    let seen = Arc::new(AtomicU32::new(0));
    let own = seen.clone();
    let below = generous(Strategy::OneForOne)
        .observe(move |_| {
            own.fetch_add(1, Ordering::Relaxed);
        })
        .child(puppet("a", &Log::default()).address(&address));
    let spec = generous(Strategy::OneForOne).child(ChildSpec::supervisor("below", below));
    let (tree, mut events) = started(spec).await;
    address.cast(Do::Fail(1)).unwrap();
    let event = events
        .until(|event| matches!(event.kind, SupervisorEventKind::ChildExited { .. }))
        .await;
    assert_eq!(event.path.to_string(), "root/below");
    assert!(seen.load(Ordering::Relaxed) > 0);
    tree.shutdown(ShutdownPlan::default()).await;
}
