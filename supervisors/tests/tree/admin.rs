//! Adding, ending and reviving children of a running supervisor.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use mainstay_supervisors::{
    Address, AutoShutdown, Backoff, ChildId, ChildSpec, DeleteChildError, ExitReason, Jitter,
    LookupError, NodeStatus, Restart, RestartChildError, Root, Shutdown, ShutdownPlan, SpecError,
    StartChildError, StartError, Started, Strategy, SupervisorEnded, TerminateChildError,
};

use crate::kit::{
    Do, LineDead, Log, Script, gated, generous, ping, puppet, scripted, settle, started,
};

const HOUR: Duration = Duration::from_secs(3600);

pub(crate) fn id(id: &str) -> ChildId {
    id.into()
}

/// A child whose restarts wait for an hour.
fn patient(id: &str, log: &Log) -> ChildSpec {
    let backoff = Backoff::new(HOUR, HOUR)
        .first_immediate(false)
        .jitter(Jitter::None);
    puppet(id, log).backoff(backoff)
}

/// A child whose start takes an hour.
fn slow(id: &str, log: &Log) -> ChildSpec {
    let script = Script {
        log: log.clone(),
        start_takes: HOUR,
        ..Script::default()
    };
    scripted(id, script).start_timeout(2 * HOUR)
}

pub(crate) async fn counts(tree: &Root) -> [usize; 4] {
    let counts = tree.count_children().await.unwrap();
    [
        counts.specs,
        counts.active,
        counts.supervisors,
        counts.workers,
    ]
}

pub(crate) async fn ids(tree: &Root) -> Vec<String> {
    let children = tree.which_children().await.unwrap();
    children.iter().map(|child| child.id.to_string()).collect()
}

/// EXS-03: start, delete refused, terminate, restart, terminate, delete.
#[tokio::test(start_paused = true)]
async fn a_child_lives_its_whole_life_by_request() {
    let log = Log::default();
    let (tree, _events) = started(generous(Strategy::OneForOne)).await;
    let up = tree.start_child(puppet("a", &log)).await.unwrap();
    let Started::Up { generation, cell } = up else {
        panic!("{up:?}");
    };
    assert_eq!(generation.0, 1);
    assert_eq!(cell.unwrap().get_status(), ractor::ActorStatus::Running);
    let address: Address<Do> = tree.address(&id("a")).await.unwrap();
    assert_eq!(ping(&address).await, 1);
    let refused = tree.delete_child(&id("a")).await;
    assert!(matches!(refused, Err(DeleteChildError::Running { .. })));

    tree.terminate_child(&id("a")).await.unwrap();
    assert_eq!(log.take(), ["start a", "stop a", "drop a"]);
    assert!(address.current().is_none());
    tree.terminate_child(&id("a")).await.unwrap();
    let again = tree.restart_child(&id("a")).await.unwrap();
    assert!(matches!(again, Started::Up { generation, .. } if generation.0 == 2));
    assert_eq!(ping(&address).await, 2, "the address follows");
    let refused = tree.restart_child(&id("a")).await;
    assert!(matches!(refused, Err(RestartChildError::Running { .. })));

    tree.terminate_child(&id("a")).await.unwrap();
    tree.delete_child(&id("a")).await.unwrap();
    assert_eq!(counts(&tree).await, [0, 0, 0, 0]);
    let gone = tree.delete_child(&id("a")).await;
    assert!(matches!(gone, Err(DeleteChildError::NotFound { .. })));
    let gone = tree.terminate_child(&id("a")).await;
    assert!(matches!(gone, Err(TerminateChildError::NotFound { .. })));
    let gone = tree.restart_child(&id("a")).await;
    assert!(matches!(gone, Err(RestartChildError::NotFound { .. })));
    tree.shutdown(ShutdownPlan::default()).await;
}

/// RX-10, OTP-TMP-02: nothing changes, neither the child nor the intensity. OTP-TYPE-05: what stays down can be
/// brought back by request.
#[tokio::test(start_paused = true)]
async fn a_child_whose_id_is_in_use_is_not_started() {
    let log = Log::default();
    let (tree, _events) = started(
        generous(Strategy::OneForAll)
            .child(puppet("a", &log))
            .child(puppet("t", &log).restart(Restart::Transient)),
    )
    .await;
    let before = tree.which_child(&id("a")).await.unwrap().cell.unwrap();
    let refused = tree.start_child(puppet("a", &log)).await.unwrap_err();
    let StartChildError::AlreadyStarted {
        generation, cell, ..
    } = refused
    else {
        panic!("{refused}");
    };
    assert_eq!(generation.0, 1);
    assert_eq!(cell.unwrap().get_id(), before.get_id());

    let address: Address<Do> = tree.address(&id("t")).await.unwrap();
    address.cast(Do::Stop(None)).unwrap();
    settle().await;
    let refused = tree.start_child(puppet("t", &log)).await.unwrap_err();
    assert!(matches!(refused, StartChildError::AlreadyPresent { .. }));
    assert_eq!(tree.snapshot().await.window.unwrap().0, 0);
    assert_eq!(
        log.take(),
        ["start a", "start t", "stop t", "drop t"],
        "nobody else was started"
    );
    tree.restart_child(&id("t")).await.unwrap();
    assert_eq!(ping(&address).await, 2);
    tree.shutdown(ShutdownPlan::default()).await;
}

/// OTP-TMP-02, OTP-TYPE-06, EXD-39, EXT-06: a temporary id is free at once, however the child ended.
#[tokio::test(start_paused = true)]
async fn a_temporary_id_can_be_started_again_at_once() {
    let log = Log::default();
    for strategy in [
        Strategy::OneForOne,
        Strategy::OneForAll,
        Strategy::RestForOne,
    ] {
        let (tree, _events) = started(generous(strategy)).await;
        let temporary = || puppet("t", &log).restart(Restart::Temporary);
        for end in [None, Some(Do::Stop(None)), Some(Do::Fail(1))] {
            tree.start_child(temporary()).await.unwrap();
            match end {
                None => tree.terminate_child(&id("t")).await.unwrap(),
                Some(end) => {
                    let address: Address<Do> = tree.address(&id("t")).await.unwrap();
                    address.cast(end).unwrap();
                    settle().await;
                }
            }
            assert_eq!(counts(&tree).await, [0, 0, 0, 0]);
            let gone = tree.terminate_child(&id("t")).await;
            assert!(matches!(gone, Err(TerminateChildError::NotFound { .. })));
        }
        tree.shutdown(ShutdownPlan::default()).await;
    }
}

/// OTP-START-03, OTP-START-05, OTP-START-10, EXD-16.
#[tokio::test(start_paused = true)]
async fn only_a_start_that_went_well_or_was_ignored_keeps_the_spec() {
    let log = Log::default();
    let (tree, _events) = started(generous(Strategy::OneForOne).child(puppet("a", &log))).await;
    let ignore = |_: &_| Err(StartError::Ignore);
    let ignored = tree.start_child(gated("i", &log, ignore)).await.unwrap();
    assert!(matches!(ignored, Started::Ignored));
    assert_eq!(counts(&tree).await, [2, 1, 0, 2]);
    let temporary = gated("t", &log, ignore).restart(Restart::Temporary);
    let ignored = tree.start_child(temporary).await.unwrap();
    assert!(ignored.cell().is_none());
    assert_eq!(counts(&tree).await, [2, 1, 0, 2]);

    let fail = |_: &_| Err(StartError::failed(LineDead(7)));
    let failed = tree.start_child(gated("f", &log, fail)).await.unwrap_err();
    let StartChildError::Failed { reason, .. } = failed else {
        panic!("{failed}");
    };
    assert_eq!(reason.downcast_ref::<LineDead>(), Some(&LineDead(7)));
    let overdue = slow("slow", &log).start_timeout(Duration::from_secs(1));
    let failed = tree.start_child(overdue).await.unwrap_err();
    assert!(matches!(failed, StartChildError::Failed { reason, .. }
        if matches!(*reason, ExitReason::StartTimeout(_))));
    assert_eq!(ids(&tree).await, ["i", "a"]);
    assert_eq!(tree.snapshot().await.window.unwrap().0, 0);
    tree.shutdown(ShutdownPlan::default()).await;
}

/// The caller knows at once; the supervisor goes on.
#[tokio::test(start_paused = true)]
async fn a_postponed_start_is_the_supervisors_from_then_on() {
    let log = Log::default();
    let (tree, _events) = started(generous(Strategy::OneForOne)).await;
    let spec = gated("p", &log, |context| match context.generation.0 {
        1 => Err(StartError::Postpone(Duration::from_secs(9))),
        _ => Ok(()),
    });
    let began = tokio::time::Instant::now();
    let postponed = tree.start_child(spec).await.unwrap();
    assert!(matches!(postponed, Started::Postponed(delay) if delay.as_secs() == 9));
    assert!(began.elapsed() < Duration::from_secs(1));
    let status = tree.which_child(&id("p")).await.unwrap().status;
    assert_eq!(status, NodeStatus::Restarting);
    let address: Address<Do> = tree.address(&id("p")).await.unwrap();
    assert_eq!(ping(&address).await, 2);
    assert_eq!(began.elapsed().as_secs(), 9);
    tree.shutdown(ShutdownPlan::default()).await;
}

/// EXS-04, EXD-15, OTP-SIG-05 in part, OTP-START-15.
#[tokio::test(start_paused = true)]
async fn a_spec_that_makes_no_sense_here_is_refused() {
    let log = Log::default();
    let (tree, _events) = started(generous(Strategy::OneForOne)).await;
    let significant = puppet("a", &log)
        .restart(Restart::Transient)
        .significant(true);
    let refused = tree.start_child(significant).await.unwrap_err();
    assert!(matches!(
        refused,
        StartChildError::Spec {
            source: SpecError::SignificantNever { .. },
            ..
        }
    ));
    assert_eq!(counts(&tree).await, [0, 0, 0, 0]);
    assert!(log.take().is_empty());
    tree.shutdown(ShutdownPlan::default()).await;
}

/// Whoever waits for a start or a stop keeps nobody else waiting. Trap 7.
#[tokio::test(start_paused = true)]
async fn the_supervisor_answers_while_children_start_and_stop() {
    let log = Log::default();
    let stubborn = scripted(
        "stubborn",
        Script {
            log: log.clone(),
            stop_takes: HOUR,
            ..Script::default()
        },
    )
    .shutdown(Shutdown::Infinite);
    let (tree, _events) = started(generous(Strategy::OneForOne).child(stubborn)).await;
    let began = tokio::time::Instant::now();
    let (at, by) = (tree.clone(), log.clone());
    let starting = tokio::spawn(async move { at.start_child(slow("slow", &by)).await });
    let at = tree.clone();
    let stopping = tokio::spawn(async move { at.terminate_child(&id("stubborn")).await });
    settle().await;
    let refused = tree.start_child(slow("slow", &log)).await.unwrap_err();
    assert!(matches!(
        refused,
        StartChildError::AlreadyStarted { cell: None, .. }
    ));
    let refused = tree.delete_child(&id("stubborn")).await;
    assert!(matches!(refused, Err(DeleteChildError::Running { .. })));
    let refused = tree.restart_child(&id("stubborn")).await;
    assert!(matches!(refused, Err(RestartChildError::Running { .. })));
    tree.start_child(puppet("quick", &log)).await.unwrap();
    assert_eq!(counts(&tree).await, [3, 2, 0, 3]);
    assert!(began.elapsed() < Duration::from_secs(1));

    starting.await.unwrap().unwrap();
    stopping.await.unwrap().unwrap();
    assert_eq!(began.elapsed().as_secs(), HOUR.as_secs());
    tree.shutdown(ShutdownPlan::default()).await;
}

#[tokio::test(start_paused = true)]
async fn a_child_terminated_while_it_starts_never_comes_alive() {
    let log = Log::default();
    let (tree, _events) = started(generous(Strategy::OneForOne)).await;
    let (at, by) = (tree.clone(), log.clone());
    let starting = tokio::spawn(async move { at.start_child(slow("slow", &by)).await });
    settle().await;
    tree.terminate_child(&id("slow")).await.unwrap();
    let failed = starting.await.unwrap();
    assert!(matches!(failed, Err(StartChildError::Failed { .. })));
    assert_eq!(counts(&tree).await, [0, 0, 0, 0]);
    tokio::time::sleep(2 * HOUR).await;
    assert!(log.take().is_empty());
    tree.shutdown(ShutdownPlan::default()).await;
}

/// A `restart_child` whose start hangs can be ended like any other start; the spec stays.
#[tokio::test(start_paused = true)]
async fn a_restart_by_request_that_hangs_can_be_terminated() {
    let log = Log::default();
    let by = log.clone();
    let spec = ChildSpec::actor("a", move |context: mainstay_supervisors::StartContext| {
        let again = context.generation.0 > 1;
        let script = Script {
            name: "a".to_owned(),
            log: by.clone(),
            start_takes: if again { HOUR } else { Duration::ZERO },
            ..Script::default()
        };
        Ok((crate::kit::Puppet, script))
    });
    let (tree, _events) =
        started(generous(Strategy::OneForOne).child(spec.start_timeout(2 * HOUR))).await;
    tree.terminate_child(&id("a")).await.unwrap();
    let at = tree.clone();
    let restarting = tokio::spawn(async move { at.restart_child(&id("a")).await });
    settle().await;
    let refused = tree.delete_child(&id("a")).await;
    assert!(matches!(refused, Err(DeleteChildError::Running { .. })));
    tree.terminate_child(&id("a")).await.unwrap();
    let failed = restarting.await.unwrap();
    assert!(matches!(failed, Err(RestartChildError::Failed { .. })));
    assert_eq!(counts(&tree).await, [1, 0, 0, 1]);
    tree.delete_child(&id("a")).await.unwrap();
    tree.shutdown(ShutdownPlan::default()).await;
}

#[tokio::test(start_paused = true)]
async fn a_child_in_its_backoff_can_be_terminated_and_stays_down() {
    let log = Log::default();
    let (tree, mut events) = started(generous(Strategy::OneForOne).child(patient("a", &log))).await;
    let address: Address<Do> = tree.address(&id("a")).await.unwrap();
    address.cast(Do::Fail(1)).unwrap();
    events.exited("a").await;
    settle().await;
    let refused = tree.start_child(puppet("a", &log)).await.unwrap_err();
    assert!(matches!(
        refused,
        StartChildError::AlreadyStarted { cell: None, .. }
    ));
    let refused = tree.restart_child(&id("a")).await;
    assert!(matches!(refused, Err(RestartChildError::Restarting { .. })));
    let refused = tree.delete_child(&id("a")).await;
    assert!(matches!(refused, Err(DeleteChildError::Restarting { .. })));

    tree.terminate_child(&id("a")).await.unwrap();
    tokio::time::sleep(2 * HOUR).await;
    let a = tree.which_child(&id("a")).await.unwrap();
    assert_eq!((a.status, a.generation.0), (NodeStatus::Idle, 1));
    tree.restart_child(&id("a")).await.unwrap();
    assert_eq!(ping(&address).await, 2);
    tree.shutdown(ShutdownPlan::default()).await;
}

#[tokio::test(start_paused = true)]
async fn a_child_added_during_a_group_restart_starts_after_the_group() {
    let log = Log::default();
    let spec = generous(Strategy::OneForAll)
        .child(patient("a", &log))
        .child(puppet("b", &log));
    let (tree, mut events) = started(spec).await;
    let address: Address<Do> = tree.address(&id("a")).await.unwrap();
    address.cast(Do::Fail(1)).unwrap();
    events.exited("a").await;
    log.take();
    let began = tokio::time::Instant::now();
    tree.start_child(puppet("c", &log)).await.unwrap();
    assert_eq!(began.elapsed().as_secs(), HOUR.as_secs());
    let lines = log.take();
    assert!(
        lines.ends_with(&["start a", "start b", "start c"].map(str::to_owned)),
        "{lines:?}"
    );
    tree.shutdown(ShutdownPlan::default()).await;
}

/// Whoever reads it knows which child, which supervisor, and what to do.
#[tokio::test(start_paused = true)]
async fn refusals_name_the_child_and_the_remedy() {
    let log = Log::default();
    let (tree, _events) = started(generous(Strategy::OneForOne).child(puppet("a", &log))).await;
    let said = |error: &dyn std::error::Error| error.to_string();
    let error = tree.start_child(puppet("a", &log)).await.unwrap_err();
    assert_eq!(
        said(&error),
        "child a is already started, as incarnation 1; terminate and delete it first, or use another id"
    );
    let error = tree.restart_child(&id("a")).await.unwrap_err();
    assert_eq!(said(&error), "child a is running; terminate it first");
    let error = tree.delete_child(&id("a")).await.unwrap_err();
    assert_eq!(said(&error), "child a is running; terminate it first");
    for error in [
        said(&tree.terminate_child(&id("b")).await.unwrap_err()),
        said(&tree.restart_child(&id("b")).await.unwrap_err()),
        said(&tree.delete_child(&id("b")).await.unwrap_err()),
        said(&tree.which_child(&id("b")).await.unwrap_err()),
    ] {
        assert_eq!(
            error,
            "there is no child b; see `which_children` for those there are"
        );
    }
    tree.terminate_child(&id("a")).await.unwrap();
    let error = tree.start_child(puppet("a", &log)).await.unwrap_err();
    assert_eq!(
        said(&error),
        "child a is already present, without a process; restart or delete it"
    );
    tree.shutdown(ShutdownPlan::default()).await;
    let error = tree.which_child(&id("a")).await.unwrap_err();
    assert_eq!(
        said(&error),
        "the supervisor root ends or has ended; wait with `up` of its address or reference for the next one"
    );
}

/// Nobody waits for an answer that will not come.
#[tokio::test(start_paused = true)]
async fn callers_of_a_supervisor_that_ends_are_told() {
    let log = Log::default();
    let (tree, _events) = started(generous(Strategy::OneForOne)).await;
    let (at, by) = (tree.clone(), log.clone());
    let starting = tokio::spawn(async move { at.start_child(slow("slow", &by)).await });
    settle().await;
    tree.shutdown(ShutdownPlan::default()).await;
    let told = starting.await.unwrap();
    assert!(matches!(told, Err(StartChildError::ShuttingDown(_))));
    let told = tree.start_child(puppet("a", &log)).await;
    assert!(matches!(told, Err(StartChildError::ShuttingDown(_))));
    let told = tree.terminate_child(&id("a")).await;
    assert!(matches!(told, Err(TerminateChildError::ShuttingDown(_))));
    let ended: SupervisorEnded = tree.count_children().await.unwrap_err();
    assert_eq!(ended.supervisor.as_ref(), Some(tree.path()));
    let told = tree.address::<Do>(&id("a")).await.unwrap_err();
    assert_eq!(told, LookupError::SupervisorEnded(ended));
    assert!(log.take().is_empty());
}

#[tokio::test(start_paused = true)]
async fn callers_of_a_supervisor_that_is_killed_are_told() {
    let log = Log::default();
    let (tree, _events) = started(generous(Strategy::OneForOne)).await;
    let (at, by) = (tree.clone(), log.clone());
    let starting = tokio::spawn(async move { at.start_child(slow("slow", &by)).await });
    settle().await;
    tree.cell().kill();
    let told = starting.await.unwrap();
    assert!(matches!(told, Err(StartChildError::ShuttingDown(_))));
    assert!(log.take().is_empty());
}

/// The call is carried out, whether or not somebody waits.
#[tokio::test(start_paused = true)]
async fn a_call_that_is_dropped_does_its_work() {
    let log = Log::default();
    let (tree, _events) = started(generous(Strategy::OneForOne)).await;
    let second = Duration::from_secs(1);
    let dropped = tokio::time::timeout(second, tree.start_child(slow("slow", &log))).await;
    assert!(dropped.is_err());
    tokio::time::sleep(HOUR).await;
    assert_eq!(counts(&tree).await, [1, 1, 0, 1]);
    tree.shutdown(ShutdownPlan::default()).await;
}

/// OTP-SIG-03, OTP-SIG-04: the end by request is not the child's own.
#[tokio::test(start_paused = true)]
async fn terminating_a_significant_child_does_not_end_the_supervisor() {
    let log = Log::default();
    for mode in [AutoShutdown::AnySignificant, AutoShutdown::AllSignificant] {
        for restart in [Restart::Transient, Restart::Temporary] {
            let spec = generous(Strategy::OneForOne)
                .auto_shutdown(mode)
                .child(puppet("a", &log).restart(restart).significant(true));
            let (tree, _events) = started(spec).await;
            tree.terminate_child(&id("a")).await.unwrap();
            settle().await;
            assert_eq!(counts(&tree).await[1], 0);
            tree.shutdown(ShutdownPlan::default()).await;
        }
    }
}

/// A child that was added is restarted like any other, and forgotten when its supervisor restarts.
#[tokio::test(start_paused = true)]
async fn an_added_child_is_supervised_as_long_as_its_supervisor_lives() {
    let log = Log::default();
    let made = Arc::new(AtomicU32::new(0));
    let below = generous(Strategy::OneForOne).child(puppet("fixed", &log));
    let (tree, mut events) =
        started(generous(Strategy::OneForOne).child(ChildSpec::supervisor("s", below))).await;
    let s = tree.which_child(&id("s")).await.unwrap();
    let count = made.clone();
    let added = gated("added", &log, move |_| {
        count.fetch_add(1, Ordering::SeqCst);
        Ok(())
    });
    let below = s.supervisor.unwrap();
    below.start_child(added).await.unwrap();
    let address: Address<Do> = below.address(&id("added")).await.unwrap();
    address.cast(Do::Fail(1)).unwrap();
    events.restarted("added").await;
    assert_eq!(made.load(Ordering::SeqCst), 2);

    s.cell.unwrap().kill();
    events.restarted("s").await;
    let s = tree.which_child(&id("s")).await.unwrap();
    let children = s.supervisor.unwrap().which_children().await.unwrap();
    assert_eq!(children.len(), 1);
    assert_eq!(children[0].id.as_str(), "fixed");
    assert!(!address.status().is_up());
    tree.shutdown(ShutdownPlan::default()).await;
}
