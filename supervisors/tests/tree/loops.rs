//! Ids that are in use, and children that do not come back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mainstay_supervisors::{
    Address, Backoff, ChildSpec, DeleteChildError, Jitter, NodeStatus, Restart, RestartChildError,
    Shutdown, ShutdownPlan, StartChildError, StartContext, StartError, Started, Strategy,
};

use crate::admin::{counts, id};
use crate::dynamic::{HOUR, dynamic, lasting};
use crate::kit::{
    Do, LineDead, Log, Puppet, Script, generous, ping, puppet, scripted, settle, started,
};

const STRATEGIES: [Strategy; 3] = [
    Strategy::OneForOne,
    Strategy::OneForAll,
    Strategy::RestForOne,
];

/// OTP-TMP-02: whatever became of a temporary child, its id is free at once; that of another is present
/// when it stays down, and started when it comes back.
#[tokio::test(start_paused = true)]
async fn an_id_is_free_present_or_started_by_what_became_of_its_child() {
    let log = Log::default();
    for strategy in STRATEGIES {
        for restart in [Restart::Permanent, Restart::Transient, Restart::Temporary] {
            for way in 0..4 {
                let child = || puppet("a", &log).restart(restart);
                let (tree, mut events) = started(generous(strategy)).await;
                tree.start_child(child()).await.unwrap();
                let address: Address<Do> = tree.address(&id("a")).await.unwrap();
                let actor = address.current().unwrap();
                match way {
                    0 => tree.terminate_child(&id("a")).await.unwrap(),
                    1 => actor.kill(),
                    2 => actor.send_message(Do::Fail(1)).unwrap(),
                    _ => actor.stop(None),
                }
                if way > 0 {
                    events.exited("a").await;
                    settle().await;
                }
                let again = tree.start_child(child()).await;
                let comes_back = match restart {
                    Restart::Permanent => way > 0,
                    Restart::Transient => matches!(way, 1 | 2),
                    Restart::Temporary => false,
                };
                let expected = match again {
                    Ok(Started::Up { .. }) => restart == Restart::Temporary,
                    Err(StartChildError::AlreadyStarted { .. }) => comes_back,
                    Err(StartChildError::AlreadyPresent { .. }) => {
                        !comes_back && restart != Restart::Temporary
                    }
                    _ => false,
                };
                assert!(expected, "{strategy:?} {restart:?} {way}: {again:?}");
                tree.shutdown(ShutdownPlan::default()).await;
            }
        }
    }
}

/// Comes up as long as `works` says so, else fails after a second.
fn deadlock(id: &str, log: &Log, works: &Arc<AtomicBool>) -> ChildSpec {
    let (name, log, works) = (id.to_owned(), log.clone(), works.clone());
    let short = Duration::from_millis(100);
    ChildSpec::actor(id, move |context: StartContext| {
        let works = works.load(Ordering::SeqCst);
        let script = Script {
            name: name.clone(),
            log: log.clone(),
            generation: context.generation.0,
            start_takes: Duration::from_secs(u64::from(!works)),
            fail_pre_start: !works,
            ..Script::default()
        };
        Ok((Puppet, script))
    })
    .backoff(Backoff::new(short, short).jitter(Jitter::None))
}

/// OTP's `hanging_restart_loop` and `hanging_restart_loop_rest_for_one`: a child in its restart loop is seen, refused thrice, ended by request, and revived when it can be.
#[tokio::test(start_paused = true)]
async fn a_child_that_hangs_in_its_restart_loop_can_be_ended_and_revived() {
    for strategy in STRATEGIES {
        let log = Log::default();
        let works = Arc::new(AtomicBool::new(true));
        let spec = generous(strategy)
            .child(puppet("a", &log))
            .child(deadlock("b", &log, &works))
            .child(puppet("c", &log));
        let (tree, mut events) = started(spec).await;
        let address: Address<Do> = tree.address(&id("b")).await.unwrap();
        works.store(false, Ordering::SeqCst);
        address.cast(Do::Fail(1)).unwrap();
        events.exited("b").await;
        tokio::time::sleep(Duration::from_millis(3500)).await;
        let b = tree.which_child(&id("b")).await.unwrap();
        assert_eq!(b.status, NodeStatus::Restarting, "{strategy:?}");
        assert!(b.generation.0 > 2 && b.cell.is_none());
        let active = if strategy == Strategy::OneForOne {
            2
        } else {
            1
        };
        assert_eq!(counts(&tree).await, [3, active, 0, 3], "{strategy:?}");
        let twice = tree.start_child(puppet("b", &log)).await;
        assert!(matches!(twice, Err(StartChildError::AlreadyStarted { .. })));
        let again = tree.restart_child(&id("b")).await;
        assert!(matches!(again, Err(RestartChildError::Restarting { .. })));
        let deleted = tree.delete_child(&id("b")).await;
        assert!(matches!(deleted, Err(DeleteChildError::Restarting { .. })));
        let c = tree.which_child(&id("c")).await.unwrap().status;
        let waits = strategy != Strategy::OneForOne;
        assert_eq!(c == NodeStatus::Restarting, waits, "{strategy:?}: {c:?}");

        tree.terminate_child(&id("b")).await.unwrap();
        settle().await;
        let b = tree.which_child(&id("b")).await.unwrap();
        assert_eq!(b.status, NodeStatus::Idle);
        assert_eq!(counts(&tree).await, [3, 2, 0, 3], "the others are up");
        works.store(true, Ordering::SeqCst);
        tokio::time::sleep(HOUR).await;
        assert!(address.current().is_none());
        tree.restart_child(&id("b")).await.unwrap();
        assert!(ping(&address).await > 2);
        assert_eq!(counts(&tree).await, [3, 3, 0, 3]);
        tree.shutdown(ShutdownPlan::default()).await;
    }
}

/// OTP's `hanging_restart_loop_simple`: the same of a dynamic child, which is forgotten then.
#[tokio::test(start_paused = true)]
async fn a_dynamic_child_in_its_restart_loop_can_be_ended() {
    let log = Log::default();
    let works = Arc::new(AtomicBool::new(true));
    let (tree, jobs, mut events) = dynamic(lasting()).await;
    let (key, outcome) = jobs.start_child(deadlock("b", &log, &works)).await.unwrap();
    works.store(false, Ordering::SeqCst);
    outcome.cell().unwrap().kill();
    events.exited(key.id().as_str()).await;
    tokio::time::sleep(Duration::from_millis(3500)).await;
    let child = jobs.which_child(&key).await.unwrap();
    assert_eq!(child.status, NodeStatus::Restarting);
    jobs.terminate_child(&key).await.unwrap();
    assert_eq!(counts(&tree).await, [0; 4]);
    let report = tree.shutdown(ShutdownPlan::default()).await;
    assert_eq!(report.took.as_secs(), 0);
}

/// OTP's `hanging_restart_loop`, its end: a supervisor whose child is in its loop ends like any other.
#[tokio::test(start_paused = true)]
async fn a_supervisor_ends_in_the_middle_of_a_restart_loop() {
    for strategy in STRATEGIES {
        let log = Log::default();
        let works = Arc::new(AtomicBool::new(true));
        let spec = generous(strategy)
            .child(puppet("a", &log))
            .child(deadlock("b", &log, &works));
        let (tree, mut events) = started(spec).await;
        let address: Address<Do> = tree.address(&id("b")).await.unwrap();
        works.store(false, Ordering::SeqCst);
        address.cast(Do::Fail(1)).unwrap();
        events.exited("b").await;
        tokio::time::sleep(Duration::from_millis(3500)).await;
        let report = tree.shutdown(ShutdownPlan::default()).await;
        assert!(report.took < Duration::from_secs(2), "{report:?}");
        log.take();
        works.store(true, Ordering::SeqCst);
        tokio::time::sleep(HOUR).await;
        assert!(log.take().is_empty());
    }
}

/// `restart_child` that fails or is ignored leaves the spec, and costs nothing.
#[tokio::test(start_paused = true)]
async fn a_restart_by_request_that_fails_leaves_the_spec() {
    let log = Log::default();
    let spec = crate::kit::gated("a", &log, |context| match context.generation.0 {
        2 => Err(StartError::failed(LineDead(2))),
        3 => Err(StartError::Ignore),
        _ => Ok(()),
    });
    let (tree, _events) = started(generous(Strategy::OneForAll).child(spec)).await;
    tree.terminate_child(&id("a")).await.unwrap();
    let failed = tree.restart_child(&id("a")).await;
    assert!(
        matches!(&failed, Err(RestartChildError::Failed { reason, .. })
            if reason.downcast_ref() == Some(&LineDead(2))),
        "{failed:?}"
    );
    assert_eq!(counts(&tree).await, [1, 0, 0, 1]);
    let ignored = tree.restart_child(&id("a")).await.unwrap();
    assert!(matches!(ignored, Started::Ignored));
    let up = tree.restart_child(&id("a")).await.unwrap();
    assert!(matches!(up, Started::Up { generation, .. } if generation.0 == 4));
    assert_eq!(tree.snapshot().await.window.unwrap().0, 0);
    tree.shutdown(ShutdownPlan::default()).await;
}

/// EXD-29, the other end: no limit is too long for the clock.
#[tokio::test(start_paused = true)]
async fn the_longest_limits_are_taken() {
    let log = Log::default();
    let stubborn = Script {
        log: log.clone(),
        stop_takes: Duration::from_secs(3),
        ..Script::default()
    };
    let child = scripted("a", stubborn)
        .shutdown(Shutdown::Timeout(Duration::MAX))
        .start_timeout(Duration::MAX);
    let (tree, _events) = started(generous(Strategy::OneForOne).child(child)).await;
    let began = tokio::time::Instant::now();
    tree.terminate_child(&id("a")).await.unwrap();
    assert_eq!(began.elapsed().as_secs(), 3);
    tree.restart_child(&id("a")).await.unwrap();
    let plan = ShutdownPlan::within(Duration::MAX);
    let report = tree.shutdown(plan).await;
    assert_eq!((report.took.as_secs(), report.graceful), (3, 1));
}
