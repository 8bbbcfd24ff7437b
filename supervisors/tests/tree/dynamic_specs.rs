//! What a dynamic supervisor's spec may say, and what it says by default.

use std::time::Duration;

use mainstay_supervisors::{
    AutoShutdown, Backoff, ChildKind, ChildSpec, DynamicRef, DynamicSpec, Intensity, Restart,
    Shutdown, ShutdownPlan, SpecError, StartChildError, Strategy, SupervisorSpec,
};

use crate::dynamic::{HOUR, add, counts, dynamic, lasting};
use crate::kit::{Do, Log, gated, generous, puppet, started};

struct Rates(u32);

/// EXD-14, EXD-25: what is common to all children is there at each start, restarts included.
#[tokio::test(start_paused = true)]
async fn what_the_supervisor_shares_is_in_every_childs_context() {
    let log = Log::default();
    let (tree, jobs, mut events) = dynamic(lasting().shared(Rates(42))).await;
    let told = log.clone();
    let spec = gated("a", &log, move |context| {
        let rates = context.shared::<Rates>().map(|rates| rates.0);
        told.say(format!("{rates:?} {:?}", context.shared::<u32>()));
        Ok(())
    });
    let (key, address) = add(&jobs, spec.clone()).await;
    add(&jobs, spec.clone()).await;
    address.cast(Do::Fail(1)).unwrap();
    events.restarted(key.id().as_str()).await;
    let told = log.take();
    let shared = told.iter().filter(|line| **line == "Some(42) None");
    assert_eq!(shared.count(), 3, "{told:?}");
    tree.shutdown(ShutdownPlan::default()).await;

    let (tree, jobs, _events) = dynamic(lasting()).await;
    log.take();
    add(&jobs, spec).await;
    assert_eq!(log.take()[0], "None None", "nothing by default");
    tree.shutdown(ShutdownPlan::default()).await;
}

/// EXD-04: three restarts in five seconds, any number of children, permanent ones.
#[tokio::test(start_paused = true)]
async fn the_defaults_are_those_of_elixir() {
    let log = Log::default();
    let (tree, jobs, mut events) = dynamic(DynamicSpec::default()).await;
    for _ in 0..200 {
        add(&jobs, puppet("a", &log)).await;
    }
    let short = Duration::from_millis(1);
    let quick = puppet("a", &log).backoff(Backoff::new(short, short));
    let (key, address) = add(&jobs, quick).await;
    let now = jobs.child_spec(&key).await.unwrap();
    assert_eq!(now.restart, Restart::Permanent);
    for _ in 0..4 {
        address.cast(Do::Fail(1)).unwrap();
        events.restarted(key.id().as_str()).await;
        tokio::time::sleep(Duration::from_millis(1700)).await;
    }
    // Two are within the window; a third may be, a fourth may not.
    address.cast(Do::Fail(1)).unwrap();
    events.restarted(key.id().as_str()).await;
    assert_eq!(tree.snapshot().await.window, Some((3, 3)));
    address.cast(Do::Fail(1)).unwrap();
    assert!(tree.wait().await.is_normal());
}

/// EXD-05, EXD-15, EXD-30, OTP-SIG-05: each with an error of its own. What Elixir refuses beyond these
/// (a negative number, another strategy, a shutdown that is none) cannot be written down.
#[tokio::test(start_paused = true)]
async fn a_dynamic_spec_that_makes_no_sense_is_refused() {
    let log = Log::default();
    let spec = || SupervisorSpec::from(DynamicSpec::new());
    let window = spec().intensity(Intensity::new(1, Duration::ZERO)).check();
    assert_eq!(window, Err(SpecError::ZeroWindow));
    for mode in [AutoShutdown::AnySignificant, AutoShutdown::AllSignificant] {
        let significant = spec().auto_shutdown(mode);
        assert_eq!(
            significant.check(),
            Err(SpecError::DynamicAutoShutdown { mode })
        );
        assert!(significant.start().await.is_err());
    }
    let listed = spec().child(puppet("a", &log)).check();
    assert!(matches!(listed, Err(SpecError::DynamicChild { child }) if child.as_str() == "a"));

    let (tree, jobs, _events) = dynamic(DynamicSpec::new()).await;
    let wrong = [
        puppet("", &log),
        puppet("a/b", &log),
        puppet("a", &log).start_timeout(Duration::ZERO),
        puppet("a", &log).backoff(Backoff::new(HOUR, Duration::ZERO)),
        puppet("a", &log)
            .restart(Restart::Transient)
            .significant(true),
    ];
    for spec in wrong {
        let refused = jobs.start_child(spec).await;
        assert!(
            matches!(refused, Err(StartChildError::Spec { .. })),
            "{refused:?}"
        );
    }
    assert_eq!(counts(&jobs).await, [0; 4]);
    assert!(log.take().is_empty());
    tree.shutdown(ShutdownPlan::default()).await;
}

/// EXD-01, EXD-02: ids are the supervisor's, so two dynamic ones need two.
#[tokio::test(start_paused = true)]
async fn dynamic_supervisors_are_children_like_any_other() {
    let log = Log::default();
    let (red, blue) = (DynamicRef::new(), DynamicRef::new());
    let child =
        |id: &str, jobs: &DynamicRef| ChildSpec::supervisor(id, DynamicSpec::new().reference(jobs));
    let twice = generous(Strategy::OneForOne)
        .child(child("jobs", &red))
        .child(child("jobs", &blue));
    assert!(matches!(twice.check(), Err(SpecError::DuplicateId { .. })));
    let (tree, _events) = started(
        generous(Strategy::OneForOne)
            .child(child("red", &red))
            .child(child("blue", &blue)),
    )
    .await;
    let spec = tree.child_spec(&"red".into()).await.unwrap();
    assert_eq!(spec.kind, ChildKind::Supervisor);
    assert_eq!(spec.restart, Restart::Permanent);
    assert_eq!(spec.shutdown, Shutdown::Infinite);
    let (key, _) = add(&red, puppet("job", &log)).await;
    assert_eq!(counts(&red).await, [1, 1, 0, 1]);
    assert_eq!(counts(&blue).await, [0; 4]);
    let snapshot = tree.snapshot().await;
    assert!(snapshot.find(["red", key.id().as_str()]).is_some());
    let report = tree.shutdown(ShutdownPlan::default()).await;
    assert_eq!(report.graceful, 3);
}

/// EXD-29, EXS-04: no limit is too short, and the shortest is a limit and not a kill order.
#[tokio::test(start_paused = true)]
async fn the_shortest_limits_are_taken() {
    let log = Log::default();
    for limit in [Duration::ZERO, Duration::from_millis(1)] {
        let spec = puppet("a", &log).shutdown(Shutdown::Timeout(limit));
        let (tree, jobs, _events) = dynamic(DynamicSpec::new()).await;
        let (key, _) = add(&jobs, spec.clone()).await;
        assert_eq!(
            jobs.child_spec(&key).await.unwrap().shutdown,
            Shutdown::Timeout(limit)
        );
        jobs.terminate_child(&key).await.unwrap();
        tree.shutdown(ShutdownPlan::default()).await;

        let (tree, _events) = started(generous(Strategy::OneForOne)).await;
        tree.start_child(spec).await.unwrap();
        tree.terminate_child(&"a".into()).await.unwrap();
        assert_eq!(tree.count_children().await.unwrap().active, 0);
        tree.shutdown(ShutdownPlan::default()).await;
    }
}
