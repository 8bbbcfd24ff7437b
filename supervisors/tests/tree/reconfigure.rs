//! Another spec for a running supervisor.

use std::time::Duration;

use mainstay_supervisors::{
    Address, Backoff, ChildSpec, DynamicSpec, ExitReason, Generation, Intensity, Jitter,
    NodeStatus, OnExhausted, ReconfigureError, Restart, Root, Shutdown, ShutdownCause,
    ShutdownPlan, SpecError, StartChildError, Strategy, SupervisorSpec,
};

use crate::admin::{counts, id, ids};
use crate::dynamic::{HOUR, add, dynamic, lasting};
use crate::kit::{Do, Log, Script, gated, generous, ping, puppet, scripted, settle, started};

async fn generations(tree: &Root) -> Vec<(String, NodeStatus, u64)> {
    let snapshot = tree.snapshot().await;
    let children = snapshot.children.iter();
    children
        .map(|child| (child.id.to_string(), child.status, child.generation.0))
        .collect()
}

/// OTP-UPG-01, OTP-UPG-02: flags change; new specs are listed and not started; those that are in both
/// are updated; those that are not in it are kept, at the end. Nobody is touched.
#[tokio::test(start_paused = true)]
async fn a_new_spec_changes_what_is_listed_and_starts_nobody() {
    let log = Log::default();
    let spec = generous(Strategy::OneForOne).children(["a", "b", "c"].map(|id| puppet(id, &log)));
    let (tree, _events) = started(spec).await;
    log.take();
    let new = SupervisorSpec::new(Strategy::RestForOne)
        .intensity(Intensity::new(7, HOUR))
        .child(puppet("n", &log))
        .child(
            puppet("b", &log)
                .restart(Restart::Transient)
                .shutdown(Shutdown::Infinite),
        );
    tree.reconfigure(new).await.unwrap();
    assert!(log.take().is_empty());
    let up = NodeStatus::Running;
    let expected = [
        ("n", NodeStatus::Idle, 0),
        ("b", up, 1),
        ("a", up, 1),
        ("c", up, 1),
    ];
    let expected = expected.map(|(id, status, nth)| (id.to_owned(), status, nth));
    assert_eq!(generations(&tree).await, expected);
    assert_eq!(ids(&tree).await, ["c", "a", "b", "n"]);
    assert_eq!(counts(&tree).await, [4, 3, 0, 4]);
    let snapshot = tree.snapshot().await;
    assert_eq!(snapshot.strategy, Some(Strategy::RestForOne));
    assert_eq!(snapshot.window, Some((0, 7)));
    let b = tree.child_spec(&id("b")).await.unwrap();
    assert_eq!(
        (b.restart, b.shutdown),
        (Restart::Transient, Shutdown::Infinite)
    );

    tree.restart_child(&id("n")).await.unwrap();
    let present = tree.start_child(puppet("n", &log)).await;
    assert!(matches!(
        present,
        Err(StartChildError::AlreadyStarted { .. })
    ));
    log.take();
    tree.shutdown(ShutdownPlan::default()).await;
    let mut ends = log.take();
    ends.retain(|line| line.starts_with("stop"));
    assert_eq!(
        ends,
        ["stop c", "stop a", "stop b", "stop n"],
        "the new order"
    );
}

/// OTP-UPG-01: the new strategy, restart type, factory and limits are what is gone by from then on.
#[tokio::test(start_paused = true)]
async fn what_was_changed_takes_effect() {
    let log = Log::default();
    let (a, b) = (Address::new(), Address::new());
    let spec = generous(Strategy::OneForOne)
        .child(puppet("a", &log).address(&a))
        .child(puppet("b", &log).address(&b));
    let (tree, mut events) = started(spec).await;
    let stubborn = Script {
        log: log.clone(),
        stop_takes: HOUR,
        ..Script::default()
    };
    let new = generous(Strategy::OneForAll)
        .child(puppet("a", &log).restart(Restart::Transient))
        .child(scripted("b", stubborn).shutdown(Shutdown::Timeout(Duration::from_secs(2))));
    tree.reconfigure(new).await.unwrap();

    // The strategy, and the new factory of `b`; addresses that were given out go on.
    a.cast(Do::Fail(1)).unwrap();
    events.restarted("b").await;
    assert_eq!((ping(&a).await, ping(&b).await), (2, 2));
    // The limit, of the incarnation that the new factory made.
    let began = tokio::time::Instant::now();
    tree.terminate_child(&id("b")).await.unwrap();
    assert_eq!(began.elapsed().as_secs(), 2);
    // The restart type.
    a.cast(Do::Stop(None)).unwrap();
    events.exited("a").await;
    settle().await;
    assert_eq!(
        tree.which_child(&id("a")).await.unwrap().status,
        NodeStatus::Idle
    );
    tree.shutdown(ShutdownPlan::default()).await;
}

/// The limit to stop counts for one that was started before, too.
#[tokio::test(start_paused = true)]
async fn a_running_child_is_ended_by_its_new_limit() {
    let log = Log::default();
    let slow = || {
        scripted(
            "a",
            Script {
                log: log.clone(),
                stop_takes: HOUR,
                ..Script::default()
            },
        )
    };
    let (tree, _events) =
        started(generous(Strategy::OneForOne).child(slow().shutdown(Shutdown::Infinite))).await;
    let new = generous(Strategy::OneForOne)
        .child(slow().shutdown(Shutdown::Timeout(Duration::from_secs(3))));
    tree.reconfigure(new).await.unwrap();
    let report = tree.shutdown(ShutdownPlan::within(HOUR)).await;
    assert_eq!(report.took.as_secs(), 3);
    assert_eq!(report.killed.len(), 1);
}

/// OTP-UPG-01: restarts that were made count under the new intensity as well, and the new choice is what
/// happens when it is used up.
#[tokio::test(start_paused = true)]
async fn a_new_intensity_takes_effect_at_once() {
    let log = Log::default();
    let address = Address::new();
    let child = || puppet("a", &log).address(&address);
    let with = |max| SupervisorSpec::new(Strategy::OneForOne).intensity(Intensity::new(max, HOUR));
    let (tree, mut events) = started(with(5).child(child())).await;
    for _ in 0..2 {
        address.cast(Do::Fail(1)).unwrap();
        events.restarted("a").await;
    }
    let new = with(2).on_exhausted(OnExhausted::Park).child(child());
    tree.reconfigure(new).await.unwrap();
    assert_eq!(tree.snapshot().await.window, Some((2, 2)));
    address.cast(Do::Fail(1)).unwrap();
    events.exited("a").await;
    settle().await;
    assert_eq!(generations(&tree).await[0].1, NodeStatus::Parked);

    tree.reconfigure(with(3).child(child())).await.unwrap();
    tree.restart_child(&id("a")).await.unwrap();
    events.names();
    address.cast(Do::Fail(1)).unwrap();
    events.restarted("a").await;
    address.cast(Do::Fail(1)).unwrap();
    let reason = tree.wait().await;
    assert!(matches!(
        &*reason,
        ExitReason::Ended(ShutdownCause::Exhausted { .. })
    ));
}

/// OTP-UPG-01, OTP-UPG-02, OTP-UPG-03, OTP-UPG-04: a spec that makes no sense, or is for the other kind of
/// supervisor, changes nothing.
#[tokio::test(start_paused = true)]
async fn a_faulty_spec_is_refused_and_everything_stays() {
    let log = Log::default();
    let (tree, _events) = started(generous(Strategy::OneForOne).child(puppet("a", &log))).await;
    let before = tree.snapshot().await.to_string();
    let one = || SupervisorSpec::new(Strategy::OneForAll);
    let faulty = [
        one().child(puppet("x", &log)).child(puppet("x", &log)),
        one().intensity(Intensity::new(9, Duration::ZERO)),
        one().child(
            puppet("a", &log)
                .restart(Restart::Transient)
                .significant(true),
        ),
        one().child(puppet("", &log)),
    ];
    for spec in faulty {
        let refused = tree.reconfigure(spec).await;
        assert!(matches!(refused, Err(ReconfigureError::Spec { .. })));
    }
    let refused = tree.reconfigure(DynamicSpec::new()).await;
    assert!(matches!(refused, Err(ReconfigureError::Kind { .. })));
    assert_eq!(tree.snapshot().await.to_string(), before);
    tree.shutdown(ShutdownPlan::default()).await;
    let late = tree.reconfigure(one()).await;
    assert!(matches!(late, Err(ReconfigureError::ShuttingDown(_))));
}

/// EXD-09, EXD-10, OTP-UPG-03, OTP-UPG-04: what a dynamic supervisor allows, and shares, from then on.
#[tokio::test(start_paused = true)]
async fn a_dynamic_supervisor_goes_by_its_new_options() {
    let log = Log::default();
    let told = log.clone();
    let spec = gated("a", &log, move |context| {
        told.say(format!("shared {:?}", context.shared::<u32>()));
        Ok(())
    });
    let (tree, jobs, mut events) = dynamic(lasting().max_children(2).shared(1u32)).await;
    let (key, address) = add(&jobs, spec.clone()).await;
    add(&jobs, spec.clone()).await;
    let supervisor = jobs.current().unwrap();
    let smaller = lasting().max_children(1).shared(2u32);
    supervisor.reconfigure(smaller).await.unwrap();
    assert_eq!(counts(&tree).await, [2, 2, 0, 2], "nobody is ended");
    let refused = jobs.start_child(spec.clone()).await;
    assert!(matches!(
        refused,
        Err(StartChildError::MaxChildren { limit: 1, .. })
    ));
    log.take();
    address.cast(Do::Fail(1)).unwrap();
    events.restarted(key.id().as_str()).await;
    assert!(log.take().contains(&"shared Some(2)".to_owned()));

    supervisor.reconfigure(lasting()).await.unwrap();
    add(&jobs, spec.clone()).await;
    assert!(log.take().contains(&"shared None".to_owned()));
    assert_eq!(
        jobs.current().unwrap().cell().get_id(),
        supervisor.cell().get_id()
    );

    let listed = SupervisorSpec::from(DynamicSpec::new()).child(puppet("a", &log));
    let at = || supervisor.path().clone();
    let misfit = |source| ReconfigureError::Spec {
        supervisor: at(),
        source,
    };
    let other_kind = ReconfigureError::Kind { supervisor: at() };
    let faulty = [
        (
            SupervisorSpec::from(lasting().intensity(Intensity::new(1, Duration::ZERO))),
            misfit(SpecError::ZeroWindow),
        ),
        (listed, misfit(SpecError::DynamicChild { child: id("a") })),
        (generous(Strategy::OneForOne), other_kind),
    ];
    for (spec, expected) in faulty {
        assert_eq!(supervisor.reconfigure(spec).await, Err(expected));
    }
    assert_eq!(counts(&tree).await, [3, 3, 0, 3]);
    tree.shutdown(ShutdownPlan::default()).await;
}

/// It lasts as long as the incarnation.
#[tokio::test(start_paused = true)]
async fn a_restarted_supervisor_begins_with_the_spec_above_it() {
    let log = Log::default();
    let below = generous(Strategy::OneForOne).child(puppet("a", &log));
    let (tree, mut events) =
        started(generous(Strategy::OneForOne).child(ChildSpec::supervisor("s", below))).await;
    let s = tree
        .which_child(&id("s"))
        .await
        .unwrap()
        .supervisor
        .unwrap();
    let new = generous(Strategy::OneForAll).child(puppet("n", &log));
    s.reconfigure(new).await.unwrap();
    assert_eq!(s.count_children().await.unwrap().specs, 2);
    s.cell().kill();
    events.restarted("s").await;
    let s = tree.which_child(&id("s")).await.unwrap();
    assert_eq!(s.generation, Generation(2));
    let children = s.supervisor.unwrap().which_children().await.unwrap();
    assert_eq!(children.len(), 1);
    assert_eq!(children[0].id, id("a"));
    tree.shutdown(ShutdownPlan::default()).await;
}

/// A group that restarts is not changed under way.
#[tokio::test(start_paused = true)]
async fn a_group_that_restarts_is_not_reconfigured() {
    let log = Log::default();
    let address = Address::new();
    let long = Backoff::new(HOUR, HOUR)
        .first_immediate(false)
        .jitter(Jitter::None);
    let spec = || {
        let patient = puppet("a", &log).backoff(long).address(&address);
        generous(Strategy::OneForAll).child(patient)
    };
    let (tree, mut events) = started(spec()).await;
    address.cast(Do::Fail(1)).unwrap();
    events.exited("a").await;
    settle().await;
    let busy = tree.reconfigure(spec()).await;
    assert!(
        matches!(&busy, Err(ReconfigureError::Busy { supervisor }) if supervisor == tree.path()),
        "{busy:?}"
    );
    assert_eq!(ping_after(&address, 2 * HOUR).await, 2);
    tree.reconfigure(spec()).await.unwrap();
    address.cast(Do::Fail(1)).unwrap();
    events.exited("a").await;
    assert_eq!(ping_after(&address, 2 * HOUR).await, 3);
    tree.shutdown(ShutdownPlan::default()).await;
}

async fn ping_after(address: &Address<Do>, within: Duration) -> u64 {
    address.up(within).await.unwrap();
    ping(address).await
}

/// The spec of a child in its backoff may change; it comes back by the new one.
#[tokio::test(start_paused = true)]
async fn a_child_in_its_backoff_comes_back_by_its_new_spec() {
    let log = Log::default();
    let address = Address::new();
    let long = Backoff::new(HOUR, HOUR)
        .first_immediate(false)
        .jitter(Jitter::None);
    let spec =
        generous(Strategy::OneForOne).child(puppet("a", &log).backoff(long).address(&address));
    let (tree, mut events) = started(spec).await;
    address.cast(Do::Fail(1)).unwrap();
    events.exited("a").await;
    settle().await;
    log.take();
    let told = log.clone();
    let new = gated("a", &log, move |_| {
        told.say("by the new spec");
        Ok(())
    });
    tree.reconfigure(generous(Strategy::OneForOne).child(new))
        .await
        .unwrap();
    assert_eq!(generations(&tree).await[0].1, NodeStatus::Restarting);
    assert_eq!(ping_after(&address, 2 * HOUR).await, 2);
    assert_eq!(log.take()[0], "by the new spec");
    tree.shutdown(ShutdownPlan::default()).await;
}
