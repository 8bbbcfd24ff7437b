//! Children that come and go by request: what is kept, refused, found and shared.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use mainstay_supervisors::{
    Address, Backoff, ChildKey, ChildSpec, DeleteChildError, DynamicRef, DynamicSpec, ExitReason,
    Intensity, Jitter, LookupError, NodeStatus, PartitionSpec, Restart, RestartChildError, Root,
    Shutdown, ShutdownPlan, StartChildError, StartError, Started, Strategy, SupervisorEnded,
    SupervisorRef, TaskRef, TaskSpec, TerminateChildError,
};

use crate::kit::{
    Do, Events, LineDead, Log, Script, gated, generous, ping, puppet, scripted, settle, started,
};

pub(crate) const HOUR: Duration = Duration::from_secs(3600);

/// A dynamic supervisor at the top of a tree.
pub(crate) async fn dynamic(spec: DynamicSpec) -> (Root, DynamicRef, Events) {
    let jobs = DynamicRef::new();
    let (tree, events) = started(spec.reference(&jobs).into()).await;
    (tree, jobs, events)
}

/// One whose intensity is never used up.
pub(crate) fn lasting() -> DynamicSpec {
    DynamicSpec::new().intensity(Intensity::new(100_000, Duration::from_secs(5)))
}

pub(crate) async fn counts(jobs: &DynamicRef) -> [usize; 4] {
    let counts = jobs.count_children().await.unwrap();
    [
        counts.specs,
        counts.active,
        counts.supervisors,
        counts.workers,
    ]
}

pub(crate) async fn add(jobs: &DynamicRef, spec: ChildSpec) -> (ChildKey, Address<Do>) {
    let (key, outcome) = jobs.start_child(spec).await.unwrap();
    assert!(matches!(outcome, Started::Up { .. }), "{outcome:?}");
    let address = jobs.address(&key).await.unwrap();
    (key, address)
}

/// A child whose restarts wait for an hour.
fn patient(id: &str, log: &Log) -> ChildSpec {
    let backoff = Backoff::new(HOUR, HOUR)
        .first_immediate(false)
        .jitter(Jitter::None);
    puppet(id, log).backoff(backoff)
}

/// OTP-START-06, OTP-START-12, EXD-16; OTP-START-03 as in Elixir: nothing stays of one that declines.
#[tokio::test(start_paused = true)]
async fn only_children_that_came_up_are_kept() {
    let log = Log::default();
    let (tree, jobs, _events) = dynamic(DynamicSpec::new()).await;
    add(&jobs, puppet("ok", &log)).await;
    for restart in [Restart::Permanent, Restart::Transient, Restart::Temporary] {
        let declines = gated("i", &log, |_| Err(StartError::Ignore)).restart(restart);
        let (key, outcome) = jobs.start_child(declines).await.unwrap();
        assert!(matches!(outcome, Started::Ignored));
        assert_eq!(
            jobs.which_child(&key).await.unwrap_err(),
            LookupError::NotFound {
                child: key.id().clone()
            }
        );
        assert_eq!(
            jobs.terminate_child(&key).await,
            Err(TerminateChildError::NotFound {
                child: key.id().clone()
            })
        );
        assert_eq!(counts(&jobs).await, [1, 1, 0, 1]);
    }
    let broken = |script: Script| scripted("f", script);
    let failures = [
        gated("f", &log, |_| Err(StartError::failed(LineDead(7)))),
        gated("f", &log, |_| panic!("no junk in Rust, but this")),
        broken(Script {
            fail_pre_start: true,
            ..Script::default()
        }),
        broken(Script {
            fail_post_start: true,
            ..Script::default()
        }),
        broken(Script {
            start_takes: HOUR,
            ..Script::default()
        }),
    ];
    let mut reasons = Vec::new();
    for failing in failures {
        let Err(StartChildError::Failed { reason, .. }) = jobs.start_child(failing).await else {
            panic!("it started");
        };
        assert_eq!(counts(&jobs).await, [1, 1, 0, 1]);
        reasons.push(match reason.downcast_ref::<LineDead>() {
            Some(error) => error.to_string(),
            None => reason.to_string(),
        });
    }
    assert_eq!(reasons[0], "the line is dead (7)");
    assert!(reasons[1].contains("no junk"), "{reasons:?}");
    assert_eq!(
        reasons[2..4],
        ["the line is dead (0)", "the line is dead (1)"]
    );
    assert!(reasons[4].contains("within 30s"), "{reasons:?}");
    assert_eq!(
        tree.snapshot().await.window,
        Some((0, 3)),
        "it cost nothing"
    );
    tree.shutdown(ShutdownPlan::default()).await;
}

/// OTP-START-14, OTP-ADM-08: there are no keys but those that were given, and one of another
/// supervisor's finds nobody.
#[tokio::test(start_paused = true)]
async fn a_child_is_found_by_its_key_and_a_foreign_key_finds_nobody() {
    let log = Log::default();
    let (tree, jobs, _events) = dynamic(DynamicSpec::new()).await;
    let (others_tree, others, _) = dynamic(DynamicSpec::new()).await;
    let spec = puppet("job", &log)
        .restart(Restart::Transient)
        .shutdown(Shutdown::Timeout(Duration::from_secs(9)));
    let (first, _) = add(&jobs, spec.clone()).await;
    let (second, _) = add(&jobs, spec.clone()).await;
    let (foreign, _) = add(&others, spec).await;
    let read = jobs.child_spec(&first).await.unwrap();
    assert_eq!(read.id, *first.id());
    assert_eq!(read.restart, Restart::Transient);
    assert_eq!(read.shutdown, Shutdown::Timeout(Duration::from_secs(9)));
    let listed: Vec<ChildKey> = jobs
        .which_children()
        .await
        .unwrap()
        .into_iter()
        .map(|(key, child)| {
            assert_eq!(child.status, NodeStatus::Running);
            assert!(child.cell.is_some());
            key
        })
        .collect();
    assert_eq!(listed, [second, first], "newest first");

    let child = foreign.id().clone();
    let unknown = LookupError::NotFound {
        child: child.clone(),
    };
    assert_eq!(jobs.child_spec(&foreign).await, Err(unknown.clone()));
    assert_eq!(jobs.which_child(&foreign).await.unwrap_err(), unknown);
    assert_eq!(jobs.address::<Do>(&foreign).await.unwrap_err(), unknown);
    assert_eq!(
        jobs.terminate_child(&foreign).await,
        Err(TerminateChildError::NotFound { child })
    );
    assert_eq!(counts(&others).await, [1, 1, 0, 1]);
    tree.shutdown(ShutdownPlan::default()).await;
    others_tree.shutdown(ShutdownPlan::default()).await;
}

/// EXD-18, EXD-24; whoever starts holds a place, and one that did not start gives it back.
#[tokio::test(start_paused = true)]
async fn there_are_never_more_children_than_allowed() {
    let log = Log::default();
    let (tree, jobs, _events) = dynamic(DynamicSpec::new().max_children(0)).await;
    let refused = jobs.start_child(puppet("a", &log)).await;
    assert!(matches!(
        refused,
        Err(StartChildError::MaxChildren { limit: 0, .. })
    ));
    assert!(log.take().is_empty(), "it was not tried");
    tree.shutdown(ShutdownPlan::default()).await;

    let (tree, jobs, mut events) = dynamic(lasting().max_children(1)).await;
    for _ in 0..3 {
        let declines = gated("i", &log, |_| Err(StartError::Ignore));
        jobs.start_child(declines).await.unwrap();
        let fails = gated("f", &log, |_| Err(StartError::failed(LineDead(1))));
        let failed = jobs.start_child(fails).await;
        assert!(matches!(failed, Err(StartChildError::Failed { .. })));
    }
    let (key, address) = add(&jobs, puppet("a", &log)).await;
    address.cast(Do::Fail(1)).unwrap();
    events.restarted(key.id().as_str()).await;
    let refused = jobs.start_child(puppet("b", &log)).await;
    assert!(matches!(
        refused,
        Err(StartChildError::MaxChildren { limit: 1, .. })
    ));
    address.cast(Do::Stop(None)).unwrap();
    events.restarted(key.id().as_str()).await;
    jobs.terminate_child(&key).await.unwrap();

    let slow = || {
        scripted(
            "slow",
            Script {
                start_takes: Duration::from_secs(9),
                ..Script::default()
            },
        )
        .restart(Restart::Temporary)
    };
    let (one, other) = tokio::join!(jobs.start_child(slow()), jobs.start_child(slow()));
    let refused = [one.is_err(), other.is_err()];
    assert_eq!(refused.into_iter().filter(|yes| *yes).count(), 1);
    let (waits, outcome) = {
        let postpones = gated("p", &log, |_| Err(StartError::Postpone(HOUR)));
        let (key, _) = jobs.which_children().await.unwrap().pop().unwrap();
        jobs.terminate_child(&key).await.unwrap();
        jobs.start_child(postpones).await.unwrap()
    };
    assert!(matches!(outcome, Started::Postponed(_)));
    let refused = jobs.start_child(puppet("b", &log)).await;
    assert!(matches!(
        refused,
        Err(StartChildError::MaxChildren { limit: 1, .. })
    ));
    jobs.terminate_child(&waits).await.unwrap();
    add(&jobs, puppet("b", &log)).await;
    tree.shutdown(ShutdownPlan::default()).await;
}

/// EXD-39, EXD-40.
#[tokio::test(start_paused = true)]
async fn a_terminated_child_is_not_found_again() {
    let log = Log::default();
    let (tree, jobs, mut events) = dynamic(DynamicSpec::new()).await;
    let limits = [
        (Shutdown::Kill, "killed"),
        (Shutdown::Timeout(Duration::from_secs(1)), "stopped"),
        (Shutdown::Infinite, "stopped"),
    ];
    for (shutdown, kind) in limits {
        let (key, address) = add(&jobs, puppet("a", &log).shutdown(shutdown)).await;
        jobs.terminate_child(&key).await.unwrap();
        let reason = events.stopped(key.id().as_str()).await;
        assert_eq!(reason.kind(), kind);
        assert!(address.current().is_none());
        let again = jobs.terminate_child(&key).await;
        assert!(matches!(again, Err(TerminateChildError::NotFound { .. })));
        assert_eq!(counts(&jobs).await, [0; 4]);
    }
    tree.shutdown(ShutdownPlan::default()).await;
}

/// One that waits for its restart is listed, counted without being active, and can be ended.
#[tokio::test(start_paused = true)]
async fn a_child_that_restarts_can_be_seen_and_terminated() {
    let log = Log::default();
    let (tree, jobs, mut events) = dynamic(lasting()).await;
    let (key, address) = add(&jobs, patient("a", &log)).await;
    let (other, _) = add(&jobs, puppet("b", &log)).await;
    address.cast(Do::Fail(1)).unwrap();
    events.exited(key.id().as_str()).await;
    settle().await;
    assert_eq!(counts(&jobs).await, [2, 1, 0, 2]);
    let child = jobs.which_child(&key).await.unwrap();
    assert_eq!(child.status, NodeStatus::Restarting);
    assert!(child.cell.is_none());
    assert_eq!(jobs.which_children().await.unwrap().len(), 2);
    jobs.terminate_child(&key).await.unwrap();
    assert_eq!(counts(&jobs).await, [1, 1, 0, 1]);
    log.take();
    tokio::time::sleep(2 * HOUR).await;
    assert!(log.take().is_empty(), "it does not come back");
    assert!(jobs.which_child(&other).await.is_ok());
    tree.shutdown(ShutdownPlan::default()).await;
}

/// A reference is for as long as the program runs: children do not come back, and neither do keys.
#[tokio::test(start_paused = true)]
async fn a_reference_reaches_the_next_incarnation() {
    let log = Log::default();
    let jobs = DynamicRef::new();
    let below = ChildSpec::supervisor("jobs", lasting().reference(&jobs));
    assert!(jobs.current().is_none());
    let early = jobs.start_child(puppet("a", &log)).await;
    assert!(matches!(early, Err(StartChildError::ShuttingDown(_))));
    let SupervisorEnded { supervisor, .. } = jobs.count_children().await.unwrap_err();
    assert_eq!(supervisor, None, "it was never up");
    let long = Backoff::new(HOUR, HOUR)
        .first_immediate(false)
        .jitter(Jitter::None);
    let (tree, mut events) =
        started(generous(Strategy::OneForOne).child(below.backoff(long))).await;
    let (old, address) = add(&jobs, puppet("a", &log)).await;
    jobs.current().unwrap().cell().kill();
    events.exited("jobs").await;
    settle().await;
    assert!(address.current().is_none());
    assert!(jobs.current().is_none());
    let none = jobs.start_child(puppet("a", &log)).await;
    assert!(matches!(none, Err(StartChildError::ShuttingDown(_))));
    let none = jobs.terminate_child(&old).await;
    assert!(matches!(none, Err(TerminateChildError::ShuttingDown(_))));
    assert!(jobs.up(Duration::from_secs(1)).await.is_err());

    let supervisor = jobs.up(2 * HOUR).await.unwrap();
    assert_eq!(supervisor.generation().0, 2);
    assert_eq!(counts(&jobs).await, [0; 4]);
    let (new, _) = add(&jobs, puppet("a", &log)).await;
    assert_ne!(old, new);
    let gone = jobs.terminate_child(&old).await;
    assert!(matches!(gone, Err(TerminateChildError::NotFound { .. })));
    tree.shutdown(ShutdownPlan::default()).await;
    let none = jobs.start_child(puppet("a", &log)).await;
    assert!(matches!(none, Err(StartChildError::ShuttingDown(_))));
}

/// The tree owns its supervisors; a reference only reaches one.
#[tokio::test(start_paused = true)]
async fn dropping_the_last_reference_ends_nobody() {
    let log = Log::default();
    let (tree, jobs, _events) = dynamic(DynamicSpec::new()).await;
    let (_, address) = add(&jobs, puppet("a", &log)).await;
    drop(jobs);
    settle().await;
    assert_eq!(ping(&address).await, 1);
    assert_eq!(tree.count_children().await.unwrap().active, 1);
    tree.shutdown(ShutdownPlan::default()).await;
}

/// Two references of one supervisor are as good as one.
#[tokio::test(start_paused = true)]
async fn two_references_can_reach_one_supervisor() {
    let log = Log::default();
    let (red, blue) = (DynamicRef::new(), DynamicRef::new());
    let spec = DynamicSpec::new().reference(&red).reference(&blue);
    let tree = spec.start().await.unwrap();
    let (first, _) = add(&red, puppet("a", &log)).await;
    let (second, _) = add(&blue, puppet("a", &log)).await;
    assert_eq!(counts(&red).await, [2, 2, 0, 2]);
    blue.terminate_child(&first).await.unwrap();
    red.terminate_child(&second).await.unwrap();
    tree.shutdown(ShutdownPlan::default()).await;
}

/// OTP-ADM-03, OTP-STRAT-13, EXD-16: a start tells more than that it went well through whatever its
/// factory was given, typed by whoever wrote both.
#[tokio::test(start_paused = true)]
async fn a_start_can_tell_more_through_its_factory() {
    let log = Log::default();
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let number = Arc::new(AtomicU32::new(0));
    let spec = gated("a", &log, move |_| {
        let _ = tell.send(number.fetch_add(1, Ordering::SeqCst));
        Ok(())
    });
    let (tree, mut events) = started(generous(Strategy::OneForOne)).await;
    tree.start_child(spec.clone()).await.unwrap();
    assert_eq!(told.try_recv(), Ok(0));
    tree.terminate_child(&"a".into()).await.unwrap();
    tree.restart_child(&"a".into()).await.unwrap();
    assert_eq!(told.try_recv(), Ok(1));
    let address: Address<Do> = tree.address(&"a".into()).await.unwrap();
    events.names();
    address.cast(Do::Fail(1)).unwrap();
    events.restarted("a").await;
    assert_eq!(told.try_recv(), Ok(2), "a restart may tell too");
    tree.shutdown(ShutdownPlan::default()).await;

    let (tree, jobs, mut events) = dynamic(lasting()).await;
    let (key, address) = add(&jobs, spec).await;
    assert_eq!(told.try_recv(), Ok(3));
    address.cast(Do::Fail(1)).unwrap();
    events.restarted(key.id().as_str()).await;
    assert_eq!(told.try_recv(), Ok(4));
    tree.shutdown(ShutdownPlan::default()).await;
}

/// Two addresses of one child, one address twice, and one spec for two children.
#[tokio::test(start_paused = true)]
async fn a_spec_with_two_addresses_fills_both_over_restarts() {
    let log = Log::default();
    let (one, two) = (Address::new(), Address::new());
    let spec = puppet("a", &log).address(&one).address(&two).address(&one);
    let (tree, jobs, mut events) = dynamic(lasting()).await;
    let (key, own) = add(&jobs, spec.clone()).await;
    one.cast(Do::Fail(1)).unwrap();
    events.restarted(key.id().as_str()).await;
    for address in [&one, &two, &own] {
        assert_eq!(ping(address).await, 2);
    }
    let (later, newer) = add(&jobs, spec).await;
    let latest = newer.current().unwrap().get_id();
    assert_eq!(one.current().unwrap().get_id(), latest, "whoever came last");
    assert_ne!(own.current().unwrap().get_id(), latest);
    jobs.terminate_child(&later).await.unwrap();
    assert!(newer.current().is_none());
    assert_eq!(ping(&own).await, 2);
    let (_, apart) = jobs
        .start_actor("b", |_| Ok((crate::kit::Puppet, Script::default())))
        .await
        .unwrap();
    assert!(apart.status().is_up());
    tree.shutdown(ShutdownPlan::default()).await;
}

/// A child whose start hangs can be ended by the key that its listing shows.
#[tokio::test(start_paused = true)]
async fn a_child_that_starts_can_be_terminated_by_its_listed_key() {
    let log = Log::default();
    let (tree, jobs, _events) = dynamic(DynamicSpec::new()).await;
    let script = Script {
        log: log.clone(),
        start_takes: HOUR,
        ..Script::default()
    };
    let slow = scripted("slow", script).start_timeout(2 * HOUR);
    let at = jobs.clone();
    let starting = tokio::spawn(async move { at.start_child(slow).await });
    settle().await;
    let (key, child) = jobs.which_children().await.unwrap().remove(0);
    assert_eq!(child.status, NodeStatus::Starting);
    assert_eq!(counts(&jobs).await, [1, 0, 0, 1]);
    jobs.terminate_child(&key).await.unwrap();
    let Err(StartChildError::Failed { reason, .. }) = starting.await.unwrap() else {
        panic!("it started");
    };
    assert!(matches!(&*reason, ExitReason::StartFailed(_)), "{reason}");
    tree.shutdown(ShutdownPlan::default()).await;
    tokio::time::sleep(2 * HOUR).await;
    assert!(log.take().is_empty());
}

/// The calls by id for those without a process.
async fn refuses_calls_of_static_ones(supervisor: &SupervisorRef, id: &str) {
    let path = supervisor.path().to_string();
    for id in [id, "nobody"] {
        let restarted = supervisor.restart_child(&id.into()).await.unwrap_err();
        assert!(
            matches!(&restarted, RestartChildError::Dynamic { .. }),
            "{restarted}"
        );
        let deleted = supervisor.delete_child(&id.into()).await.unwrap_err();
        assert!(
            matches!(&deleted, DeleteChildError::Dynamic { .. }),
            "{deleted}"
        );
        for (text, remedy) in [
            (restarted.to_string(), "through its `DynamicRef`"),
            (deleted.to_string(), "`terminate_child`"),
        ] {
            assert!(text.contains(remedy) && text.contains(&path), "{text}");
        }
    }
}

/// OTP's `child_adm_simple`, and Elixir's `DynamicSupervisor`, which has no such calls: neither `restart_child` nor
/// `delete_child`, whoever is named. A handle on the supervisor as such may start, ask and end by id.
#[tokio::test(start_paused = true)]
async fn a_dynamic_supervisor_refuses_the_calls_of_a_static_one() {
    let log = Log::default();
    let (tree, jobs, mut events) = dynamic(DynamicSpec::new()).await;
    let (key, address) = add(&jobs, patient("job", &log)).await;
    assert_eq!(key.id().as_str(), "job-1");
    let supervisor = jobs.current().unwrap();
    refuses_calls_of_static_ones(&supervisor, "job-1").await;
    address.cast(Do::Fail(1)).unwrap();
    events.exited("job-1").await;
    settle().await;
    refuses_calls_of_static_ones(&supervisor, "job-1").await;
    assert_eq!(counts(&jobs).await, [1, 0, 0, 1]);
    supervisor.terminate_child(key.id()).await.unwrap();
    assert_eq!(counts(&jobs).await, [0; 4]);
    tree.shutdown(ShutdownPlan::default()).await;

    let tasks = TaskRef::new();
    let tree = TaskSpec::new().reference(&tasks).start().await.unwrap();
    let task = tasks.run(std::future::pending::<Result<(), LineDead>>());
    let task = task.await.unwrap();
    refuses_calls_of_static_ones(&tree, task.key().id().as_str()).await;
    assert_eq!(tasks.count().await.unwrap().active, 1);
    tree.shutdown(ShutdownPlan::default()).await;

    let (spec, partitions) = PartitionSpec::dynamic(DynamicSpec::new())
        .partitions(1)
        .build()
        .unwrap();
    let tree = spec.start().await.unwrap();
    let only = partitions.route(&0).unwrap().current().unwrap();
    refuses_calls_of_static_ones(&only, "job-1").await;
    tree.shutdown(ShutdownPlan::default()).await;
}

/// Whoever has ids of his own starts by them: each is one child's, listed with a key, and forgotten with it. A number
/// that comes to such an id is refused, and the next one is free.
#[tokio::test(start_paused = true)]
async fn a_dynamic_child_can_have_an_id_of_its_own() {
    let log = Log::default();
    let (tree, jobs, mut events) = dynamic(lasting()).await;
    let supervisor = jobs.current().unwrap();
    for _ in 0..2 {
        let started = supervisor.start_child(puppet("job-1", &log)).await;
        assert!(matches!(started, Ok(Started::Up { .. })));
        let again = supervisor.start_child(puppet("job-1", &log)).await;
        assert!(matches!(again, Err(StartChildError::AlreadyStarted { .. })));
        let address: Address<Do> = supervisor.address(&"job-1".into()).await.unwrap();
        address.cast(Do::Fail(1)).unwrap();
        events.restarted("job-1").await;
        let (key, _) = jobs.which_children().await.unwrap().remove(0);
        jobs.terminate_child(&key).await.unwrap();
        assert_eq!(counts(&jobs).await, [0; 4]);
    }
    supervisor.start_child(puppet("job-1", &log)).await.unwrap();
    let refused = jobs.start_child(puppet("job", &log)).await.unwrap_err();
    assert!(matches!(refused, StartChildError::AlreadyStarted { .. }));
    let (second, _) = add(&jobs, puppet("job", &log)).await;
    assert_eq!(second.id().as_str(), "job-2");
    assert_eq!(counts(&jobs).await, [2, 2, 0, 2]);
    tree.shutdown(ShutdownPlan::default()).await;
}
