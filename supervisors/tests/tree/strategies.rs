//! Per strategy: who is restarted, in which order, escalation, and a sibling that fails to start.

use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use mainstay_supervisors::{
    Address, Backoff, ChildSpec, ExitReason, Intensity, Jitter, Restart, Shutdown, ShutdownCause,
    ShutdownPlan, StartError, Started, Strategy, SupervisorEventKind, SupervisorSpec, Verdict,
};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::sync::Semaphore;

use crate::kit::{
    Do, LineDead, Log, Script, gated, generous, ping, puppet, scripted, settle, started,
};

type Addresses = [Address<Do>; 3];

fn three(spec: SupervisorSpec, log: &Log) -> (SupervisorSpec, Addresses) {
    let addresses: Addresses = Default::default();
    let mut spec = spec;
    for (id, address) in ["a", "b", "c"].into_iter().zip(&addresses) {
        spec = spec.child(puppet(id, log).address(address));
    }
    (spec, addresses)
}

async fn generations(addresses: &Addresses) -> [u64; 3] {
    [
        ping(&addresses[0]).await,
        ping(&addresses[1]).await,
        ping(&addresses[2]).await,
    ]
}

async fn after_crash_of_b(strategy: Strategy) -> ([u64; 3], Vec<String>) {
    let log = Log::default();
    let (spec, addresses) = three(generous(strategy), &log);
    let (tree, mut events) = started(spec).await;
    log.take();
    addresses[1].cast(Do::Fail(1)).unwrap();
    events.restarted("b").await;
    settle().await;
    let lines = log.take();
    let generations = generations(&addresses).await;
    tree.shutdown(ShutdownPlan::default()).await;
    (generations, lines)
}

/// OTP-STRAT-02.
#[tokio::test(start_paused = true)]
async fn one_for_one_restarts_only_the_crashed_child() {
    let (generations, lines) = after_crash_of_b(Strategy::OneForOne).await;
    assert_eq!(generations, [1, 2, 1]);
    assert_eq!(lines, ["drop b", "start b"]);
}

/// OTP-STRAT-04.
#[tokio::test(start_paused = true)]
async fn one_for_all_stops_in_reverse_and_starts_in_order() {
    let (generations, lines) = after_crash_of_b(Strategy::OneForAll).await;
    assert_eq!(generations, [2, 2, 2]);
    assert_eq!(
        lines,
        [
            "drop b", "stop c", "drop c", "stop a", "drop a", "start a", "start b", "start c"
        ]
    );
}

/// OTP-STRAT-07.
#[tokio::test(start_paused = true)]
async fn rest_for_one_restarts_the_crashed_child_and_the_later_ones() {
    let (generations, lines) = after_crash_of_b(Strategy::RestForOne).await;
    assert_eq!(generations, [1, 2, 2]);
    assert_eq!(lines, ["drop b", "stop c", "drop c", "start b", "start c"]);
}

/// OTP-STRAT-04, OTP-STRAT-07: intensity then exhausted ends the supervisor, the rest in reverse order.
#[tokio::test(start_paused = true)]
async fn a_group_that_crashes_too_often_ends_the_supervisor() {
    for strategy in [Strategy::OneForAll, Strategy::RestForOne] {
        let log = Log::default();
        let spec =
            SupervisorSpec::new(strategy).intensity(Intensity::new(1, Duration::from_secs(5)));
        let (spec, addresses) = three(spec, &log);
        let (tree, mut events) = started(spec).await;
        addresses[1].cast(Do::Fail(1)).unwrap();
        events.restarted("c").await;
        log.take();
        addresses[1].cast(Do::Fail(1)).unwrap();
        assert!(matches!(
            &*tree.wait().await,
            ExitReason::Ended(ShutdownCause::Exhausted { child, .. }) if child.as_str() == "b"
        ));
        assert_eq!(
            log.take(),
            ["drop b", "stop c", "drop c", "stop a", "drop a"]
        );
    }
}

/// OTP-STRAT-03, OTP-STRAT-05, OTP-STRAT-08: a sibling that cannot be started again takes everybody along.
#[tokio::test(start_paused = true)]
async fn a_sibling_that_fails_to_restart_exhausts_the_supervisor() {
    for strategy in [
        Strategy::OneForOne,
        Strategy::OneForAll,
        Strategy::RestForOne,
    ] {
        let log = Log::default();
        let address = Address::new();
        let spec = SupervisorSpec::new(strategy)
            .child(puppet("a", &log).address(&address))
            .child(
                gated("b", &log, |context| match context.generation.0 {
                    1 => Ok(()),
                    _ => Err(StartError::failed(LineDead(5))),
                })
                .address(&Address::<Do>::new()),
            );
        let (tree, _events) = started(spec).await;
        if strategy == Strategy::OneForOne {
            let b = tree.cell().get_children();
            let a = address.current().unwrap().get_id();
            b.iter().find(|cell| cell.get_id() != a).unwrap().kill();
        } else {
            address.cast(Do::Fail(1)).unwrap();
        }
        let reason = tree.wait().await;
        assert_eq!(
            reason.downcast_ref::<LineDead>(),
            Some(&LineDead(5)),
            "{strategy:?}: {reason}"
        );
        assert!(tree.cell().get_children().is_empty());
    }
}

/// rest_for_one retries from the child that failed to start, one_for_all from the beginning.
#[tokio::test(start_paused = true)]
async fn a_failed_start_in_a_group_retries_from_where_the_strategy_says() {
    for (strategy, generation_of_b) in [(Strategy::OneForAll, 3), (Strategy::RestForOne, 2)] {
        let log = Log::default();
        let addresses: Addresses = Default::default();
        let spec = generous(strategy)
            .child(puppet("a", &log).address(&addresses[0]))
            .child(puppet("b", &log).address(&addresses[1]))
            .child(
                gated("c", &log, |context| match context.generation.0 {
                    2 => Err(StartError::failed(LineDead(5))),
                    _ => Ok(()),
                })
                .address(&addresses[2]),
            );
        let (tree, mut events) = started(spec).await;
        addresses[1].cast(Do::Fail(1)).unwrap();
        events.restarted("c").await;
        assert_eq!(ping(&addresses[1]).await, generation_of_b, "{strategy:?}");
        assert_eq!(ping(&addresses[2]).await, 3);
        tree.shutdown(ShutdownPlan::default()).await;
    }
}

/// Section 6 of the cases: groups revive finished transient children and drop temporary ones.
#[tokio::test(start_paused = true)]
async fn a_group_restart_revives_transient_and_forgets_temporary_children() {
    let log = Log::default();
    let addresses: Addresses = Default::default();
    let spec = generous(Strategy::OneForAll)
        .child(puppet("a", &log).address(&addresses[0]))
        .child(
            puppet("b", &log)
                .restart(Restart::Transient)
                .address(&addresses[1]),
        )
        .child(
            puppet("c", &log)
                .restart(Restart::Temporary)
                .address(&addresses[2]),
        );
    let (tree, mut events) = started(spec).await;
    addresses[1].cast(Do::Stop(None)).unwrap();
    events.exited("b").await;
    addresses[0].cast(Do::Fail(1)).unwrap();
    events.restarted("b").await;
    assert_eq!(ping(&addresses[1]).await, 2);
    let snapshot = tree.snapshot().await;
    assert!(snapshot.find(["c"]).is_none(), "{snapshot}");
    assert!(addresses[2].current().is_none());
    tree.shutdown(ShutdownPlan::default()).await;
}

/// Section 6 of the cases: two crashes queued; one_for_all uses one restart, one_for_one two.
#[tokio::test(start_paused = true)]
async fn two_crashes_at_once_are_one_restart_of_a_group_and_two_of_single_children() {
    for (strategy, restarts) in [(Strategy::OneForAll, 1), (Strategy::OneForOne, 2)] {
        let (spec, addresses) = three(generous(strategy), &Log::default());
        let (tree, mut events) = started(spec).await;
        addresses[0].cast(Do::Fail(1)).unwrap();
        addresses[2].cast(Do::Fail(1)).unwrap();
        events.restarted("c").await;
        settle().await;
        let used = tree.snapshot().await.window.unwrap().0;
        assert_eq!(used, restarts, "{strategy:?}");
        tree.shutdown(ShutdownPlan::default()).await;
    }
}

/// Probe 9: an earlier sibling's crash merges with the group that waits, with the longer delay, and
/// the timer that was armed before restarts nobody twice.
#[tokio::test(start_paused = true)]
async fn an_earlier_crash_merges_with_a_group_in_backoff() {
    let wait = |millis| {
        Backoff::new(Duration::from_millis(millis), Duration::from_millis(millis))
            .jitter(Jitter::None)
            .first_immediate(false)
    };
    let log = Log::default();
    let addresses: Addresses = Default::default();
    let spec = generous(Strategy::RestForOne)
        .child(puppet("a", &log).backoff(wait(100)).address(&addresses[0]))
        .child(puppet("b", &log).backoff(wait(1000)).address(&addresses[1]))
        .child(puppet("c", &log).address(&addresses[2]));
    let (tree, mut events) = started(spec).await;
    let began = tokio::time::Instant::now();
    addresses[1].cast(Do::Fail(1)).unwrap();
    events.exited("b").await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    addresses[0].cast(Do::Fail(1)).unwrap();
    let planned = events
        .until(|event| {
            event.child.as_ref().is_some_and(|id| id.as_str() == "a")
                && matches!(event.kind, SupervisorEventKind::RestartPlanned { .. })
        })
        .await;
    if let SupervisorEventKind::RestartPlanned { group, .. } = planned.kind {
        let group: Vec<_> = group.iter().map(|id| id.as_str()).collect();
        assert_eq!(group, ["a", "b", "c"]);
    }
    events.restarted("c").await;
    assert_eq!(
        began.elapsed().as_millis() / 100,
        10,
        "the remaining second"
    );
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(generations(&addresses).await, [2, 2, 2]);
    tree.shutdown(ShutdownPlan::default()).await;
}

/// A transient sub-supervisor that gave up is left alone, a permanent one restarted; the typed error
/// reaches the parent's classify.
#[tokio::test(start_paused = true)]
async fn an_exhausted_sub_supervisor_ended_normally_for_its_parent() {
    for (restart, comes_back) in [(Restart::Transient, false), (Restart::Permanent, true)] {
        let address = Address::new();
        let log = Log::default();
        let judged = log.clone();
        let below = SupervisorSpec::new(Strategy::OneForOne)
            .intensity(Intensity::new(0, Duration::from_secs(5)))
            .child(puppet("a", &log).address(&address));
        let spec = generous(Strategy::OneForOne).child(
            ChildSpec::supervisor("below", below)
                .restart(restart)
                .classify(move |reason| {
                    judged.say(format!("{:?}", reason.downcast_ref::<LineDead>()));
                    Verdict::Default
                }),
        );
        let (tree, mut events) = started(spec).await;
        address.cast(Do::Fail(4)).unwrap();
        let reason = events.exited("below").await;
        assert!(reason.is_normal());
        assert!(log.read().contains(&"Some(LineDead(4))".to_owned()));
        settle().await;
        assert_eq!(address.current().is_some(), comes_back);
        if comes_back {
            // Generations go on: nobody can mistake an old incarnation for a new one.
            assert_eq!(ping(&address).await, 2);
        }
        tree.shutdown(ShutdownPlan::default()).await;
    }
}

/// The replacement of a group waits for a sibling that is slow to stop (probe 5: no name clash).
#[tokio::test(start_paused = true)]
async fn a_registered_sibling_that_stops_slowly_gives_its_name_back_first() {
    let log = Log::default();
    let address = Address::new();
    let slow = scripted(
        "slow",
        Script {
            log: log.clone(),
            stop_takes: Duration::from_secs(3),
            ..Script::default()
        },
    );
    let spec = generous(Strategy::OneForAll)
        .child(puppet("a", &log).address(&address))
        .child(
            slow.shutdown(Shutdown::Infinite)
                .registered("a-slow-sibling"),
        );
    let (tree, mut events) = started(spec).await;
    address.cast(Do::Fail(1)).unwrap();
    events.restarted("slow").await;
    assert_eq!(tree.snapshot().await.window.unwrap().0, 1);
    tree.shutdown(ShutdownPlan::default()).await;
}

/// An actor that starts when it is let.
struct Late {
    gate: Arc<Semaphore>,
    up: Mutex<mpsc::Sender<()>>,
}

#[cfg_attr(feature = "async-trait", ractor::async_trait)]
impl Actor for Late {
    type Msg = Do;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Do>, (): ()) -> Result<(), ActorProcessingErr> {
        self.gate.acquire().await?.forget();
        Ok(())
    }

    async fn post_start(&self, _: ActorRef<Do>, (): &mut ()) -> Result<(), ActorProcessingErr> {
        let _ = self.up.lock().unwrap().send(());
        Ok(())
    }
}

/// On a real clock, since two workers have to be at it: a temporary child comes up just when its group is told
/// to end. It counts as not yet up, is started again with its group, and whoever asked for it is answered.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_child_that_comes_up_as_its_group_is_stopped_is_started_again_with_it() {
    let address = Address::new();
    let gate = Arc::new(Semaphore::new(0));
    let (up, is_up) = mpsc::channel();
    let is_up = Mutex::new(Some(is_up));
    let opening = gate.clone();
    let spec = generous(Strategy::OneForAll)
        .observe(move |event| {
            if !matches!(event.kind, SupervisorEventKind::ChildExited { .. }) {
                return;
            }
            let Some(is_up) = is_up.lock().unwrap().take() else {
                return;
            };
            // The end has been decided on and nobody was told yet. Woken by this worker it would wait for it.
            let gate = opening.clone();
            std::thread::spawn(move || gate.add_permits(9));
            // What brings it up may have to run on this very worker: then it comes up when this is over.
            let _ = is_up.recv_timeout(Duration::from_secs(2));
            // Until its keeper has told, too; if that takes longer, this tests nothing.
            std::thread::sleep(Duration::from_millis(50));
        })
        .child(puppet("a", &Log::default()).address(&address));
    let (tree, mut events) = started(spec).await;
    let late = ChildSpec::actor("late", move |_| {
        let (gate, up) = (gate.clone(), Mutex::new(up.clone()));
        Ok((Late { gate, up }, ()))
    });
    let at = (*tree).clone();
    let asked = tokio::spawn(async move { at.start_child(late.restart(Restart::Temporary)).await });
    events
        .until(|event| event.kind.name() == "child.start" && event.added)
        .await;
    address.cast(Do::Fail(1)).unwrap();
    let answer = tokio::time::timeout(Duration::from_secs(60), asked).await;
    let answer = answer.expect("it is answered").unwrap();
    assert!(
        matches!(answer, Ok(Started::Up { generation, .. }) if generation.0 == 2),
        "{answer:?}"
    );
    tree.shutdown(ShutdownPlan::default()).await;
}
