//! How dynamic children are restarted, and how they end with their supervisor.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use mainstay_supervisors::{
    Backoff, ChildSpec, DynamicSpec, ExitReason, Intensity, Jitter, Restart, Root, Shutdown,
    ShutdownCause, ShutdownPlan, StartError, Strategy, SupervisorEventKind,
};

use crate::dynamic::{HOUR, add, counts, dynamic, lasting};
use crate::kit::{
    Do, LineDead, Log, Script, gated, generous, ping, puppet, scripted, settle, started,
};

fn allowing(max_restarts: u32) -> DynamicSpec {
    DynamicSpec::new().intensity(Intensity::new(max_restarts, HOUR))
}

async fn exhausted_by(tree: &Root, id: &str) -> bool {
    let reason = tree.wait().await;
    assert!(reason.is_normal(), "as `shutdown` in OTP");
    matches!(&*reason, ExitReason::Ended(ShutdownCause::Exhausted { child, .. })
        if child.as_str() == id)
}

fn slow(log: &Log, stop_takes: Duration) -> ChildSpec {
    scripted(
        "slow",
        Script {
            log: log.clone(),
            stop_takes,
            ..Script::default()
        },
    )
}

/// Ends with an error of its own when it is told to end.
fn spiteful(log: &Log) -> ChildSpec {
    scripted(
        "spiteful",
        Script {
            log: log.clone(),
            fail_post_stop: true,
            ..Script::default()
        },
    )
}

/// OTP-STRAT-10.
#[tokio::test(start_paused = true)]
async fn only_the_crashed_child_is_replaced_and_the_third_crash_is_too_much() {
    let log = Log::default();
    let (tree, jobs, mut events) = dynamic(allowing(2)).await;
    let (key, address) = add(&jobs, puppet("a", &log)).await;
    let (_, sibling) = add(&jobs, puppet("a", &log)).await;
    let before = [&address, &sibling].map(|address| address.current().unwrap().get_id());
    for generation in 2..=3 {
        address.cast(Do::Fail(1)).unwrap();
        events.restarted(key.id().as_str()).await;
        assert_eq!(ping(&address).await, generation);
    }
    assert_ne!(address.current().unwrap().get_id(), before[0]);
    assert_eq!(sibling.current().unwrap().get_id(), before[1]);
    assert_eq!(counts(&jobs).await, [2, 2, 0, 2]);
    log.take();
    address.cast(Do::Fail(1)).unwrap();
    assert!(exhausted_by(&tree, key.id().as_str()).await);
    assert_eq!(log.take(), ["drop a", "stop a", "drop a"]);
    assert!(sibling.current().is_none());
    assert!(jobs.current().is_none());
}

/// EXD-19, EXD-20, EXD-21: whoever is not restarted is forgotten.
#[tokio::test(start_paused = true)]
async fn the_restart_type_decides_who_comes_back() {
    let log = Log::default();
    let (tree, jobs, mut events) = dynamic(lasting()).await;
    // Which ends of theirs they come back from: stop, stop with a reason, failure, panic, kill.
    let types = [
        (Restart::Permanent, [true; 5]),
        (Restart::Transient, [false, false, true, true, true]),
        (Restart::Temporary, [false; 5]),
    ];
    for (restart, comes_back) in types {
        for (end, back) in comes_back.into_iter().enumerate() {
            let (key, address) = add(&jobs, puppet("a", &log).restart(restart)).await;
            let actor = address.current().unwrap();
            match end {
                0 => actor.stop(None),
                1 => actor.stop(Some("shutdown".to_owned())),
                2 => actor.send_message(Do::Fail(1)).unwrap(),
                3 => actor.send_message(Do::PanicText).unwrap(),
                _ => actor.kill(),
            }
            if back {
                events.restarted(key.id().as_str()).await;
                assert_eq!(ping(&address).await, 2);
                jobs.terminate_child(&key).await.unwrap();
            } else {
                events.exited(key.id().as_str()).await;
                settle().await;
            }
            assert_eq!(counts(&jobs).await, [0; 4], "{restart:?} {end}");
        }
    }
    tree.shutdown(ShutdownPlan::default()).await;
}

/// Comes up, and fails so many times when it is to come up again.
fn failing_again(log: &Log, times: u32) -> (ChildSpec, Arc<AtomicU32>) {
    let tried = Arc::new(AtomicU32::new(0));
    let tries = tried.clone();
    let spec = gated("a", log, move |_| {
        let nth = tries.fetch_add(1, Ordering::SeqCst);
        if (1..=times).contains(&nth) {
            return Err(StartError::failed(LineDead(nth)));
        }
        Ok(())
    });
    let short = Duration::from_millis(10);
    let quick = Backoff::new(short, short).jitter(Jitter::None);
    (spec.backoff(quick), tried)
}

/// EXD-26.
#[tokio::test(start_paused = true)]
async fn a_restart_that_fails_once_is_tried_again() {
    let log = Log::default();
    let (tree, jobs, mut events) = dynamic(allowing(2)).await;
    let (spec, tried) = failing_again(&log, 1);
    let (key, address) = add(&jobs, spec).await;
    address.cast(Do::Fail(1)).unwrap();
    events.restarted(key.id().as_str()).await;
    assert_eq!(ping(&address).await, 3);
    assert_eq!(tried.load(Ordering::SeqCst), 3);
    tree.shutdown(ShutdownPlan::default()).await;
}

/// EXD-27, EXD-28, OTP-STRAT-15: an intensity of I is used up by exactly I failing attempts, and the
/// sibling goes along.
#[tokio::test(start_paused = true)]
async fn a_child_that_cannot_come_back_ends_the_supervisor() {
    for limit in [1, 10] {
        let log = Log::default();
        let (tree, jobs, _events) = dynamic(allowing(limit)).await;
        let (spec, tried) = failing_again(&log, u32::MAX - 1);
        let (key, address) = add(&jobs, spec).await;
        let (_, sibling) = add(&jobs, puppet("b", &log)).await;
        address.cast(Do::Fail(1)).unwrap();
        assert!(exhausted_by(&tree, key.id().as_str()).await);
        assert_eq!(tried.load(Ordering::SeqCst), 1 + limit);
        assert!(sibling.current().is_none());
        let reason = tree.wait().await;
        assert_eq!(
            reason.downcast_ref::<LineDead>(),
            Some(&LineDead(limit)),
            "the last attempt is the reason"
        );
    }
}

/// OTP-STOP-03, EXD-36: only the one that does not listen is killed.
#[tokio::test(start_paused = true)]
async fn a_dynamic_child_that_ignores_its_limit_is_killed() {
    let log = Log::default();
    let (tree, jobs, mut events) = dynamic(DynamicSpec::new()).await;
    let second = Shutdown::Timeout(Duration::from_secs(1));
    let (deaf, _) = add(&jobs, slow(&log, HOUR).shutdown(second)).await;
    let (good, _) = add(&jobs, puppet("good", &log).shutdown(second)).await;
    let report = tree.shutdown(ShutdownPlan::default()).await;
    let killed: Vec<_> = report.killed.iter().map(ToString::to_string).collect();
    assert_eq!(killed, [format!("root/{deaf}")]);
    assert_eq!(report.graceful, 1);
    assert_eq!(report.took.as_secs(), 1);
    assert_eq!(events.stopped(good.id().as_str()).await.kind(), "stopped");
    assert_eq!(events.stopped(deaf.id().as_str()).await.kind(), "killed");
    assert!(tree.wait().await.is_normal());
}

/// OTP-STOP-05, EXD-31.
#[tokio::test(start_paused = true)]
async fn dynamic_children_that_are_to_be_killed_are_killed() {
    let log = Log::default();
    let (tree, jobs, mut events) = dynamic(DynamicSpec::new()).await;
    let mut keys = Vec::new();
    for _ in 0..10 {
        keys.push(
            add(&jobs, puppet("a", &log).shutdown(Shutdown::Kill))
                .await
                .0,
        );
    }
    log.take();
    let report = tree.shutdown(ShutdownPlan::default()).await;
    assert_eq!((report.killed.len(), report.graceful), (10, 0));
    assert_eq!(log.take(), ["drop a"; 10], "nobody was asked");
    let mut killed = 0;
    while killed < keys.len() {
        let event = events
            .until(|event| matches!(event.kind, SupervisorEventKind::ChildStopped { .. }))
            .await;
        let SupervisorEventKind::ChildStopped { reason } = event.kind else {
            unreachable!();
        };
        assert!(matches!(*reason, ExitReason::Killed), "{reason}");
        killed += 1;
    }
    assert!(tree.wait().await.is_normal());
}

/// OTP-STRAT-12: two that take a second, and one that takes five and has two.
#[tokio::test(start_paused = true)]
async fn dynamic_children_end_side_by_side_each_within_its_own_limit() {
    let log = Log::default();
    let (tree, jobs, _events) = dynamic(DynamicSpec::new()).await;
    let [one, two, five] = [1, 2, 5].map(Duration::from_secs);
    for (takes, limit) in [(one, five), (one, five), (five, two)] {
        add(&jobs, slow(&log, takes).shutdown(Shutdown::Timeout(limit))).await;
    }
    let report = tree.shutdown(ShutdownPlan::default()).await;
    assert_eq!(report.took.as_secs(), 2);
    assert_eq!((report.killed.len(), report.graceful), (1, 2));
}

/// EXD-32, EXD-34: all in good order.
#[tokio::test(start_paused = true)]
async fn dynamic_children_are_ended_in_good_order() {
    for shutdown in [
        Shutdown::Infinite,
        Shutdown::Timeout(Duration::from_secs(5)),
    ] {
        let log = Log::default();
        let (tree, jobs, mut events) = dynamic(DynamicSpec::new()).await;
        let mut keys = Vec::new();
        for _ in 0..3 {
            keys.push(add(&jobs, puppet("a", &log).shutdown(shutdown)).await.0);
        }
        let report = tree.shutdown(ShutdownPlan::default()).await;
        assert_eq!((report.graceful, report.killed.len()), (3, 0));
        let mut reasons = 0;
        while reasons < keys.len() {
            let event = events
                .until(|event| matches!(event.kind, SupervisorEventKind::ChildStopped { .. }))
                .await;
            let SupervisorEventKind::ChildStopped { reason } = event.kind else {
                unreachable!();
            };
            assert!(
                matches!(&*reason, ExitReason::Stopped { reason: Some(text) } if text == "shutdown"),
                "{reason}"
            );
            reasons += 1;
        }
    }
}

/// EXD-33, EXD-35: what a child says at its end is kept, and disturbs nobody.
#[tokio::test(start_paused = true)]
async fn a_child_that_ends_with_an_error_of_its_own_disturbs_nobody() {
    for shutdown in [
        Shutdown::Infinite,
        Shutdown::Timeout(Duration::from_secs(5)),
    ] {
        let log = Log::default();
        let (tree, jobs, mut events) = dynamic(DynamicSpec::new()).await;
        let (key, _) = add(&jobs, spiteful(&log).shutdown(shutdown)).await;
        add(&jobs, puppet("good", &log)).await;
        let report = tree.shutdown(ShutdownPlan::default()).await;
        assert!(report.killed.is_empty() && report.abandoned.is_empty());
        let reason = events.stopped(key.id().as_str()).await;
        assert_eq!(reason.downcast_ref::<LineDead>(), Some(&LineDead(2)));
        let end = tree.wait().await;
        assert!(matches!(&*end, ExitReason::Ended(ShutdownCause::Requested)));
    }
}

/// EXD-37: a permanent child that ends well while everybody ends is not started again, not even one
/// that ended a moment before it was told.
#[tokio::test(start_paused = true)]
async fn nobody_comes_back_while_the_supervisor_ends() {
    let log = Log::default();
    let (tree, jobs, _events) = dynamic(lasting()).await;
    let (_, early) = add(&jobs, puppet("early", &log)).await;
    add(&jobs, puppet("a", &log)).await;
    add(&jobs, slow(&log, Duration::from_secs(3))).await;
    early.current().unwrap().stop(None);
    log.take();
    let report = tree.shutdown(ShutdownPlan::default()).await;
    assert!(report.killed.is_empty());
    assert_eq!(report.took.as_secs(), 3);
    let started = log.take();
    assert!(
        !started.contains(&"start a".to_owned()) && !started.contains(&"start slow".to_owned()),
        "{started:?}"
    );
    assert!(tree.wait().await.is_normal());
}

/// EXD-38.
#[tokio::test(start_paused = true)]
async fn dynamic_children_with_and_without_limits_stand_side_by_side() {
    let log = Log::default();
    let (tree, jobs, mut events) = dynamic(DynamicSpec::new()).await;
    let (patient, _) = add(
        &jobs,
        slow(&log, Duration::from_secs(9)).shutdown(Shutdown::Infinite),
    )
    .await;
    let (brutal, _) = add(&jobs, slow(&log, HOUR).shutdown(Shutdown::Kill)).await;
    let report = tree.shutdown(ShutdownPlan::default()).await;
    assert_eq!((report.killed.len(), report.graceful), (1, 1));
    assert_eq!(report.took.as_secs(), 9);
    assert_eq!(events.stopped(brutal.id().as_str()).await.kind(), "killed");
    assert_eq!(
        events.stopped(patient.id().as_str()).await.kind(),
        "stopped"
    );
}

/// OTP-TMP-01, OTP-STRAT-14: what the factory of a temporary child holds is let go once it is up, also
/// after one of them died; what a child needs to come back is kept, and let go with it.
#[tokio::test(start_paused = true)]
async fn what_a_temporary_child_was_made_of_is_not_kept() {
    let log = Log::default();
    let holding = |restart, held: &Arc<[u8]>| {
        let held = held.clone();
        gated("a", &log, move |_| {
            assert!(!held.is_empty());
            Ok(())
        })
        .restart(restart)
    };
    let held: Arc<[u8]> = vec![1; 10_000].into();
    let holders = || Arc::strong_count(&held) - 1;
    let (tree, jobs, mut events) = dynamic(lasting()).await;
    let mut last = None;
    for _ in 0..100 {
        last = Some(add(&jobs, holding(Restart::Temporary, &held)).await);
    }
    settle().await;
    assert_eq!(holders(), 0);
    let (key, address) = last.unwrap();
    address.cast(Do::Fail(1)).unwrap();
    events.exited(key.id().as_str()).await;
    let (key, _) = add(&jobs, holding(Restart::Temporary, &held)).await;
    settle().await;
    assert_eq!(holders(), 0, "still");
    let spec = jobs.child_spec(&key).await.unwrap();
    assert_eq!(spec.restart, Restart::Temporary);

    for restart in [Restart::Permanent, Restart::Transient] {
        let (key, _) = add(&jobs, holding(restart, &held)).await;
        assert_eq!(holders(), 1);
        jobs.terminate_child(&key).await.unwrap();
        settle().await;
        assert_eq!(holders(), 0);
    }
    tree.shutdown(ShutdownPlan::default()).await;

    for strategy in [
        Strategy::OneForOne,
        Strategy::OneForAll,
        Strategy::RestForOne,
    ] {
        let (tree, _events) = started(generous(strategy)).await;
        tree.start_child(holding(Restart::Temporary, &held))
            .await
            .unwrap();
        settle().await;
        assert_eq!(holders(), 0, "{strategy:?}");
        tree.terminate_child(&"a".into()).await.unwrap();
        for restart in [Restart::Permanent, Restart::Transient] {
            tree.start_child(holding(restart, &held)).await.unwrap();
            assert_eq!(holders(), 1, "{strategy:?}");
            tree.terminate_child(&"a".into()).await.unwrap();
            assert_eq!(holders(), 1, "for `restart_child`");
            tree.delete_child(&"a".into()).await.unwrap();
            settle().await;
            assert_eq!(holders(), 0);
        }
        tree.shutdown(ShutdownPlan::default()).await;
    }
}
