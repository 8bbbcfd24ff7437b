//! A thousand children and more.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use mainstay_supervisors::{
    ChildKey, ChildSpec, DynamicRef, DynamicSpec, Restart, Shutdown, ShutdownPlan, Strategy,
    SupervisorEventKind, SupervisorRef, SupervisorSpec, TerminateChildError,
};

use crate::dynamic::{counts, dynamic, lasting};
use crate::kit::{Events, Log, Script, generous, puppet, scripted, settle, started};

async fn keys(jobs: &DynamicRef) -> Vec<ChildKey> {
    let children = jobs.which_children().await.unwrap();
    children.into_iter().map(|(key, _)| key).collect()
}

/// Everybody is killed at once; waits until all ends have been seen.
async fn kill_all(jobs: &DynamicRef, events: &mut Events) {
    let children = jobs.which_children().await.unwrap();
    for (_, child) in &children {
        child.cell.as_ref().unwrap().kill();
    }
    for _ in &children {
        events
            .until(|event| matches!(event.kind, SupervisorEventKind::ChildExited { .. }))
            .await;
    }
    settle().await;
}

async fn a_thousand(jobs: &DynamicRef, spec: &ChildSpec) {
    for _ in 0..1000 {
        jobs.start_child(spec.clone()).await.unwrap();
    }
}

/// OTP-COUNT-01, OTP-COUNT-02. OTP counts one spec, the template; here each child has its own, which
/// goes with it.
async fn come_and_go(spec: ChildSpec, supervisors: usize) {
    let (tree, jobs, mut events) = dynamic(DynamicSpec::new()).await;
    let spec = spec.restart(Restart::Temporary);
    a_thousand(&jobs, &spec).await;
    let first = keys(&jobs).await;
    assert_eq!(first.iter().collect::<HashSet<_>>().len(), 1000);
    assert_eq!(keys(&jobs).await, first, "always in the same order");
    let workers = 1 - supervisors;
    assert_eq!(
        counts(&jobs).await,
        [1000, 1000, 1000 * supervisors, 1000 * workers]
    );
    a_thousand(&jobs, &spec).await;
    let all = keys(&jobs).await;
    assert_eq!(all[1000..], first, "newest first");
    assert_eq!(
        counts(&jobs).await,
        [2000, 2000, 2000 * supervisors, 2000 * workers]
    );
    kill_all(&jobs, &mut events).await;
    assert_eq!(counts(&jobs).await, [0; 4]);
    assert!(keys(&jobs).await.is_empty());
    let report = tree.shutdown(ShutdownPlan::default()).await;
    assert_eq!(report.graceful, 0);
}

/// OTP-COUNT-01.
#[tokio::test(start_paused = true)]
async fn two_thousand_workers_are_counted_right() {
    come_and_go(puppet("a", &Log::default()), 0).await;
}

/// OTP-COUNT-02.
#[tokio::test(start_paused = true)]
async fn two_thousand_supervisors_are_counted_right() {
    let below = SupervisorSpec::new(Strategy::OneForOne);
    come_and_go(ChildSpec::supervisor("s", below), 1).await;
}

/// Whoever asks meanwhile does not wait for all of them.
#[tokio::test(start_paused = true)]
async fn a_thousand_children_killed_at_once_all_come_back_and_calls_are_answered_meanwhile() {
    let (tree, jobs, mut events) = dynamic(lasting()).await;
    a_thousand(&jobs, &puppet("a", &Log::default())).await;
    let children = jobs.which_children().await.unwrap();
    events.names();
    for (_, child) in &children {
        child.cell.as_ref().unwrap().kill();
    }
    tokio::task::yield_now().await;
    assert_eq!(jobs.count_children().await.unwrap().specs, 1000);
    let restarted = events
        .names()
        .iter()
        .filter(|name| name.starts_with("child.restarted"))
        .count();
    assert!(restarted < 1000, "the answer came last");
    for _ in restarted..1000 {
        events
            .until(|event| matches!(event.kind, SupervisorEventKind::ChildRestarted { .. }))
            .await;
    }
    assert_eq!(counts(&jobs).await, [1000, 1000, 0, 1000]);
    let twice = jobs.which_children().await.unwrap();
    assert!(twice.iter().all(|(_, child)| child.generation.0 == 2));
    let report = tree.shutdown(ShutdownPlan::default()).await;
    assert_eq!(report.graceful, 1000);
}

/// Temporary children that are all killed at once are all forgotten, and no restart is booked.
#[tokio::test(start_paused = true)]
async fn a_thousand_temporary_children_killed_at_once_cost_nothing() {
    let (tree, jobs, mut events) = dynamic(DynamicSpec::new()).await;
    let spec = puppet("a", &Log::default()).restart(Restart::Temporary);
    a_thousand(&jobs, &spec).await;
    kill_all(&jobs, &mut events).await;
    assert_eq!(counts(&jobs).await, [0; 4]);
    assert_eq!(tree.snapshot().await.window, Some((0, 3)));
    tree.shutdown(ShutdownPlan::default()).await;
}

/// Callers do not wait for each other, and everybody gets a child of their own.
#[tokio::test(start_paused = true)]
async fn a_thousand_callers_start_a_child_each_at_once() {
    let (tree, jobs, _events) = dynamic(DynamicSpec::new().max_children(900)).await;
    let spec = puppet("a", &Log::default());
    let callers: Vec<_> = (0..1000)
        .map(|_| {
            let (jobs, spec) = (jobs.clone(), spec.clone());
            tokio::spawn(async move { jobs.start_child(spec).await.ok() })
        })
        .collect();
    let mut given = HashSet::new();
    for caller in callers {
        given.extend(caller.await.unwrap().map(|(key, _)| key));
    }
    assert_eq!(given.len(), 900, "as many as there may be");
    assert_eq!(given, keys(&jobs).await.into_iter().collect());
    tree.shutdown(ShutdownPlan::default()).await;
}

/// OTP-SCALE-01, on a real clock: ten times as many children may take fifty times as long to end one by
/// one, which is what a walk over all children at each end would exceed. The best of three rounds counts,
/// so that a machine that is busy with something else does not decide.
#[tokio::test]
async fn ending_children_one_by_one_does_not_depend_on_how_many_there_are() {
    let (tree, jobs, _events) = dynamic(DynamicSpec::new()).await;
    let spec = puppet("a", &Log::default()).restart(Restart::Temporary);
    let mut best = [Duration::MAX; 2];
    for _ in 0..3 {
        for (best, thousands) in best.iter_mut().zip([1, 10]) {
            for _ in 0..thousands {
                a_thousand(&jobs, &spec).await;
            }
            let all = keys(&jobs).await;
            let began = Instant::now();
            for key in &all {
                jobs.terminate_child(key).await.unwrap();
            }
            *best = began.elapsed().max(Duration::from_millis(1)).min(*best);
            assert_eq!(counts(&jobs).await, [0; 4]);
        }
    }
    assert!(best[1] < best[0] * 50, "{best:?}");
    tree.shutdown(ShutdownPlan::default()).await;
}

/// Those who gave up waiting for a child that does not end make room, and those who wait are not too many.
#[tokio::test(start_paused = true)]
async fn callers_that_gave_up_do_not_pile_up_and_the_others_have_a_limit() {
    const WAITING: usize = 1024;
    let hour = Duration::from_secs(3600);
    let script = Script {
        stop_takes: hour,
        ..Script::default()
    };
    let stubborn = scripted("stubborn", script).shutdown(Shutdown::Infinite);
    let (tree, _events) = started(generous(Strategy::OneForOne).child(stubborn)).await;
    let id = "stubborn".into();
    for _ in 0..10_000 {
        let given_up = tokio::time::timeout(Duration::ZERO, tree.terminate_child(&id)).await;
        assert!(given_up.is_err(), "neither answered nor refused");
    }
    let callers: Vec<_> = (0..WAITING)
        .map(|_| {
            let (tree, id) = (SupervisorRef::clone(&tree), id.clone());
            tokio::spawn(async move { tree.terminate_child(&id).await })
        })
        .collect();
    settle().await;
    let refused = tree.terminate_child(&id).await.unwrap_err();
    assert!(
        matches!(&refused, TerminateChildError::Crowded { child, waiting: WAITING } if *child == id),
        "{refused:?}"
    );
    assert!(
        refused
            .to_string()
            .contains("1024 callers wait for the end of child stubborn")
    );
    assert!(tree.restart_child(&id).await.is_err(), "refused at once");
    for caller in callers {
        caller.await.unwrap().expect("it has ended");
    }
    assert!(
        tree.terminate_child(&id).await.is_ok(),
        "there is room again"
    );
    tree.shutdown(ShutdownPlan::default()).await;
}
