//! ractor's twelve traps that no other file tests. 1, 2, 5 and 6 are in `shutdown`, 8 in `exits`,
//! 11 in `monitors`; 12 is the compile matrix.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mainstay_supervisors::{
    Address, ChildSpec, ExitReason, ShutdownPlan, Strategy, SupervisorEventKind, SupervisorSpec,
    TaskRef, TaskSpec,
};
use ractor::{Actor, SupervisionEvent};
use tokio::sync::mpsc;

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

/// RX-12, trap 9 with the `monitors` feature: what the supervisor monitors does not move it either.
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
            "child.start a",
            "child.started a",
            "sup.ready",
            "child.exit a",
            "child.restart_planned a",
            "child.start a",
            "child.restarted a",
            "sup.shutdown",
            "child.stop a",
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

/// Trap 2, on a real clock: the replacement of a killed supervisor starts after the last of its
/// descendants is gone, state included.
#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_killed_supervisor_is_replaced_after_its_descendants_are_gone() {
    let log = Log::default();
    let address = Address::new();
    let script = Script {
        log: log.clone(),
        drop_takes: Duration::from_millis(200),
        ..Script::default()
    };
    let below = generous(Strategy::OneForOne).child(scripted("deep", script).address(&address));
    let middle = generous(Strategy::OneForOne).child(ChildSpec::supervisor("below", below));
    let spec = generous(Strategy::OneForOne).child(ChildSpec::supervisor("middle", middle));
    let (tree, mut events) = started(spec).await;
    log.take();
    let middle = tree.cell().get_children();
    middle[0].kill();
    events.restarted("middle").await;
    assert_eq!(log.take(), ["drop deep", "start deep"]);
    assert_eq!(ping(&address).await, 2);
    tree.shutdown(ShutdownPlan::default()).await;
}

/// RX-28, trap 6, on a real clock: a supervisor that hangs cannot take its children along; they die
/// all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn the_children_of_a_supervisor_that_hangs_are_killed_with_it() {
    let (release, gate) = std::sync::mpsc::channel::<()>();
    let gate = std::sync::Mutex::new(gate);
    let (hanging, mut hangs) = tokio::sync::mpsc::unbounded_channel();
    let log = Log::default();
    let address = Address::new();
    let below = generous(Strategy::OneForOne)
        .observe(move |event| {
            if matches!(event.kind, SupervisorEventKind::ChildExited { .. }) {
                hanging.send(()).unwrap();
                let _ = gate.lock().unwrap().recv();
            }
        })
        .child(puppet("bystander", &log))
        .child(puppet("stuck", &log).address(&address));
    let spec = generous(Strategy::OneForOne).child(ChildSpec::supervisor("below", below));
    let (tree, _events) = started(spec).await;
    address.cast(Do::Fail(1)).unwrap();
    hangs.recv().await;
    let report = tree
        .shutdown(ShutdownPlan::within(Duration::from_secs(1)))
        .await;
    let abandoned: Vec<_> = report.abandoned.iter().map(ToString::to_string).collect();
    assert_eq!(abandoned, ["root/below"]);
    assert!(log.read().contains(&"drop bystander".to_owned()));
    drop(release);
}

/// An actor that fails when it is spoken to, and blocks in `pre_start` where there is a gate to wait at.
struct Sluggish {
    /// Dropped when nothing of it is left.
    _there: Option<mpsc::UnboundedSender<()>>,
}

#[cfg_attr(feature = "async-trait", ractor::async_trait)]
impl Actor for Sluggish {
    type Msg = Do;
    type State = ();
    type Arguments = Option<std::sync::mpsc::Receiver<()>>;

    async fn pre_start(
        &self,
        _: ractor::ActorRef<Do>,
        gate: Option<std::sync::mpsc::Receiver<()>>,
    ) -> Result<(), ractor::ActorProcessingErr> {
        if let Some(gate) = gate {
            let _ = gate.recv();
        }
        Ok(())
    }

    async fn handle(
        &self,
        _: ractor::ActorRef<Do>,
        _: Do,
        (): &mut (),
    ) -> Result<(), ractor::ActorProcessingErr> {
        Err("as told".into())
    }
}

/// Trap 6, on a real clock: a start that was given up and completes after all does not come alive
/// beside its replacement.
#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_start_that_was_given_up_never_comes_alive() {
    let address = Address::<Do>::new();
    let (release, gate) = std::sync::mpsc::channel();
    let (there, mut gone) = mpsc::unbounded_channel();
    let blocked = Mutex::new(Some((gate, there)));
    let child = ChildSpec::actor("a", move |context: mainstay_supervisors::StartContext| {
        let blocked = (context.generation.0 == 2).then(|| blocked.lock().unwrap().take());
        let (gate, there) = blocked.flatten().unzip();
        Ok((Sluggish { _there: there }, gate))
    });
    let spec = generous(Strategy::OneForOne).child(
        child
            .start_timeout(Duration::from_millis(100))
            .address(&address),
    );
    let (tree, mut events) = started(spec).await;
    address.cast(Do::Fail(1)).unwrap();
    events.restarted("a").await;
    // The start that was given up comes to its end only now.
    drop(release);
    let waited = tokio::time::timeout(Duration::from_secs(60), gone.recv());
    assert_eq!(waited.await, Ok(None), "it is still there");
    settle().await;
    assert_eq!(address.generation().0, 3);
    let alive = tree.cell().get_children();
    assert_eq!(alive.len(), 1, "{alive:?}");
    tree.shutdown(ShutdownPlan::default()).await;
}

struct Scribe(Log);

impl mainstay_supervisors::Watcher for Scribe {
    fn deliver(&self) -> Box<dyn FnOnce(mainstay_supervisors::Down) + Send> {
        let log = self.0.clone();
        Box::new(move |_| log.say("down"))
    }
}

/// Observers know first, then monitors, and only then is the end acted upon.
#[tokio::test(start_paused = true)]
async fn observers_hear_before_monitors_and_both_before_siblings_are_stopped() {
    let log = Log::default();
    let told = log.clone();
    let address = Address::new();
    let spec = generous(Strategy::OneForAll)
        .observe(move |event| told.say(event.kind.name()))
        .child(puppet("a", &log).address(&address))
        .child(puppet("b", &log));
    let (tree, mut events) = started(spec).await;
    address.monitor(&Scribe(log.clone()));
    log.take();
    address.cast(Do::Fail(1)).unwrap();
    events.restarted("b").await;
    let lines = log.take();
    assert_eq!(
        lines[..7],
        [
            "drop a",
            "child.exit",
            "child.restart_planned",
            "down",
            "child.stop",
            "stop b",
            "drop b"
        ]
    );
    tree.shutdown(ShutdownPlan::default()).await;
}

/// Trap 6, on a real clock: the children of a supervisor that was abandoned die before its
/// replacement starts its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn an_abandoned_supervisor_leaves_no_children_beside_its_replacement() {
    let (release, gate) = std::sync::mpsc::channel::<()>();
    let gate = std::sync::Mutex::new(gate);
    let (hanging, mut hangs) = tokio::sync::mpsc::unbounded_channel();
    let log = Log::default();
    let (stuck, other) = (Address::new(), Address::new());
    let below = generous(Strategy::OneForOne)
        .observe(move |event| {
            if matches!(event.kind, SupervisorEventKind::ChildExited { .. }) {
                hanging.send(()).unwrap();
                let _ = gate.lock().unwrap().recv();
            }
        })
        .child(puppet("bystander", &log))
        .child(puppet("stuck", &log).address(&stuck));
    let limit = mainstay_supervisors::Shutdown::Timeout(Duration::from_millis(100));
    let spec = generous(Strategy::OneForAll)
        .child(puppet("other", &log).address(&other))
        .child(ChildSpec::supervisor("below", below).shutdown(limit));
    let (tree, mut events) = started(spec).await;
    stuck.cast(Do::Fail(1)).unwrap();
    hangs.recv().await;
    log.take();
    other.cast(Do::Fail(1)).unwrap();
    events.restarted("below").await;
    let lines = log.take();
    let at = |what: &str| lines.iter().position(|line| line == what);
    assert!(at("drop bystander").is_some(), "{lines:?}");
    assert!(at("drop bystander") < at("start bystander"), "{lines:?}");
    drop(release);
    tree.shutdown(ShutdownPlan::default()).await;
}

/// What a panic left, whose drop panics and leaves the next of its kind.
struct Bomb(u32);

impl Drop for Bomb {
    fn drop(&mut self) {
        if let Some(next) = self.0.checked_sub(1) {
            std::panic::panic_any(Self(next));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn payloads_that_panic_when_they_are_dropped_harm_nobody() {
    let log = Log::default();
    let starts = Arc::new(AtomicU32::new(0));
    let count = starts.clone();
    let spec = generous(Strategy::OneForOne)
        .child(
            ChildSpec::task("bomb", move |_| {
                let first = count.fetch_add(1, Ordering::SeqCst) == 0;
                async move {
                    tokio::task::yield_now().await;
                    if first {
                        std::panic::panic_any(Bomb(3));
                    }
                    std::future::pending::<Result<(), std::io::Error>>().await
                }
            })
            .classify(|_| std::panic::panic_any(Bomb(3))),
        )
        .child(puppet("bystander", &log))
        .observe(|_| std::panic::panic_any(Bomb(3)));
    let (tree, mut events) = started(spec).await;
    events.restarted("bomb").await;
    assert_eq!(starts.load(Ordering::SeqCst), 2);
    assert_eq!(log.read(), ["start bystander"], "the supervisor went on");
    assert!(tree.shutdown(ShutdownPlan::default()).await.is_clean());
}

/// An error that cannot even be told.
#[derive(Debug)]
struct Unspeakable;

impl std::fmt::Display for Unspeakable {
    fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        panic!("no words")
    }
}

impl std::error::Error for Unspeakable {}

#[tokio::test(start_paused = true)]
async fn the_owner_of_a_linked_task_is_stopped_also_when_the_errors_text_panics() {
    let tasks = TaskRef::new();
    let tree = TaskSpec::new().reference(&tasks).start().await.unwrap();
    let script = Script::default();
    let (owner, owner_ended) = Actor::spawn(None, Puppet, script).await.unwrap();
    let failing = async { Err::<(), _>(Unspeakable) };
    let task = tasks.run_linked(&owner.get_cell(), failing).await;
    let _task = task.expect("it runs");
    owner_ended.await.expect("the owner ends");
    tree.shutdown(ShutdownPlan::default()).await;
}

/// ractor's actors, and our tasks, go with the runtime wherever they are. Each of the two runtimes has a paused
/// clock of its own; between them the test stands on the real clock.
#[test]
fn nobody_waits_for_a_tree_whose_runtime_is_gone() {
    let runtime = || {
        tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime")
    };
    let (log, address) = (Log::default(), Address::new());
    let below = generous(Strategy::OneForAll).child(puppet("b", &log));
    let spec = generous(Strategy::OneForOne)
        .child(puppet("a", &log).address(&address))
        .child(ChildSpec::supervisor("below", below));
    let first = runtime();
    let tree = first.block_on(spec.start()).expect("it starts");
    let mut events = tree.subscribe(8);
    drop(first);
    runtime().block_on(async {
        let plan = ShutdownPlan::within(Duration::from_secs(1));
        tree.shutdown(plan).await;
        assert!(matches!(*tree.wait().await, ExitReason::Cancelled));
        assert!(tree.count_children().await.is_err());
        assert!(address.cast(Do::Fail(1)).is_err());
        while events.next().await.is_some() {}
    });
}
