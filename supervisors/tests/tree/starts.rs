//! Starting a tree, and failing to.

use std::error::Error;
use std::time::Duration;

use mainstay_supervisors::{
    Address, Backoff, ChildKind, ChildSpec, ExitReason, Intensity, NodeStatus, Restart, Shutdown,
    ShutdownCause, ShutdownPlan, SpecError, StartError, StartFailure, Strategy, SupervisorSpec,
};

use crate::kit::{Do, LineDead, Log, Script, gated, generous, ping, puppet, scripted, started};

/// OTP-START-01.
#[tokio::test(start_paused = true)]
async fn a_supervisor_without_children_starts_and_ends() {
    let (tree, _events) = started(generous(Strategy::OneForOne)).await;
    let report = tree.shutdown(ShutdownPlan::default()).await;
    assert_eq!(report.graceful, 0);
    assert!(matches!(
        &*tree.wait().await,
        ExitReason::Ended(ShutdownCause::Requested)
    ));
}

/// OTP-START-09, section 6 of the cases: child 3 of 4 fails; the error names it, the started ones
/// are ended in reverse, the fourth is never tried. Probe 1.
#[tokio::test(start_paused = true)]
async fn a_child_that_fails_at_boot_fails_the_start_by_name() {
    let log = Log::default();
    let spec = generous(Strategy::OneForOne)
        .child(puppet("a", &log))
        .child(puppet("b", &log))
        .child(gated("c", &log, |_| Err(StartError::failed(LineDead(1)))))
        .child(puppet("d", &log));
    let failure = spec.start().await.unwrap_err();
    let StartFailure::Child { child, reason, .. } = &failure else {
        panic!("{failure}");
    };
    assert_eq!(child.as_str(), "c");
    assert_eq!(reason.downcast_ref::<LineDead>(), Some(&LineDead(1)));
    assert_eq!(
        log.take(),
        ["start a", "start b", "stop b", "drop b", "stop a", "drop a"]
    );
}

/// OTP-TYPE-11: the error chain of nested supervisors leads to the cause.
#[tokio::test(start_paused = true)]
async fn a_nested_start_failure_is_told_from_the_root() {
    let below = generous(Strategy::OneForOne).child(gated("deep", &Log::default(), |_| {
        Err(StartError::failed(LineDead(1)))
    }));
    let spec = generous(Strategy::OneForOne).child(ChildSpec::supervisor("below", below));
    let failure = spec.start().await.unwrap_err();
    let StartFailure::Child { child, reason, .. } = &failure else {
        panic!("{failure}");
    };
    assert_eq!(child.as_str(), "below");
    assert_eq!(reason.downcast_ref::<LineDead>(), Some(&LineDead(1)));
    let told = failure.source().unwrap().to_string();
    assert!(
        told.contains("deep") && told.contains("the line is dead"),
        "{told}"
    );
}

#[tokio::test(start_paused = true)]
async fn failures_of_pre_start_post_start_and_factory_fail_the_start() {
    let log = Log::default();
    let scripts = [
        Script {
            fail_pre_start: true,
            ..Script::default()
        },
        Script {
            fail_post_start: true,
            ..Script::default()
        },
    ];
    for (code, script) in (0..).zip(scripts) {
        let failure = generous(Strategy::OneForOne)
            .child(scripted("a", script))
            .start()
            .await
            .unwrap_err();
        assert!(
            matches!(&failure, StartFailure::Child { reason, .. }
                if reason.downcast_ref::<LineDead>() == Some(&LineDead(code))),
            "{failure:?}"
        );
    }
    // Probe 18: a panic in the factory is a failed start.
    let failure = generous(Strategy::OneForOne)
        .child(gated("a", &log, |_| panic!("factory")))
        .start()
        .await
        .unwrap_err();
    assert!(
        matches!(&failure, StartFailure::Child { reason, .. }
            if reason.to_string().contains("factory")),
        "{failure:?}"
    );
}

/// OTP-START-03, section 2.1: ignore keeps the spec without a process.
#[tokio::test(start_paused = true)]
async fn an_ignored_child_is_listed_as_idle_and_a_temporary_one_forgotten() {
    let log = Log::default();
    let spec = generous(Strategy::OneForOne)
        .child(gated("a", &log, |_| Err(StartError::Ignore)))
        .child(gated("t", &log, |_| Err(StartError::Ignore)).restart(Restart::Temporary))
        .child(puppet("b", &log));
    let (tree, _events) = started(spec).await;
    let snapshot = tree.snapshot().await;
    assert_eq!(snapshot.find(["a"]).unwrap().status, NodeStatus::Idle);
    assert!(snapshot.find(["t"]).is_none());
    assert_eq!(snapshot.find(["b"]).unwrap().status, NodeStatus::Running);
    tree.shutdown(ShutdownPlan::default()).await;
}

/// Probe 14: a start that hangs ends at its limit, and the supervisor is not deaf meanwhile.
#[tokio::test(start_paused = true)]
async fn a_start_that_hangs_fails_at_its_limit() {
    let script = Script {
        start_takes: Duration::from_secs(3600),
        ..Script::default()
    };
    let began = tokio::time::Instant::now();
    let failure = generous(Strategy::OneForOne)
        .child(scripted("a", script).start_timeout(Duration::from_secs(2)))
        .start()
        .await
        .unwrap_err();
    assert_eq!(began.elapsed().as_secs(), 2);
    assert!(
        matches!(&failure, StartFailure::Child { reason, .. }
            if matches!(**reason, ExitReason::StartTimeout(_))),
        "{failure:?}"
    );
}

/// A postponed first start holds the boot back, in order, and fails nothing.
#[tokio::test(start_paused = true)]
async fn a_start_postponed_at_boot_keeps_the_order() {
    let log = Log::default();
    let spec = generous(Strategy::RestForOne)
        .child(gated("a", &log, |context| match context.generation.0 {
            1 => Err(StartError::Postpone(Duration::from_secs(9))),
            _ => Ok(()),
        }))
        .child(puppet("b", &log));
    let began = tokio::time::Instant::now();
    let (tree, _events) = started(spec).await;
    assert_eq!(began.elapsed().as_secs(), 9);
    assert_eq!(log.take(), ["start a", "start b"]);
    tree.shutdown(ShutdownPlan::default()).await;
}

/// OTP-START-15, OTP-ADM-04, OTP-ADM-06, OTP-START-08, OTP-SIG-05 in part: and nobody is started by them.
#[tokio::test(start_paused = true)]
async fn specs_that_make_no_sense_are_refused_by_name() {
    let log = Log::default();
    let a = || puppet("a", &log);
    let one = || SupervisorSpec::new(Strategy::OneForOne);
    let wrong_type = Address::<Other>::new();
    let shared = Address::<Do>::new();
    let cases = [
        (one().child(a()).child(a()), "used twice"),
        (
            one()
                .child(a().address(&shared))
                .child(puppet("b", &log).address(&shared)),
            "child b has the address of child a; give each",
        ),
        (
            one().name(""),
            "the supervisor's name is \"\", which is empty; give it one",
        ),
        (
            one().name("desk/one"),
            "the supervisor's name \"desk/one\" has a `/` in it, which separates the parts of a path; use another",
        ),
        (
            one().child(ChildSpec::supervisor("below", one().name("a/b"))),
            "sub-supervisor below",
        ),
        (
            one().child(puppet("", &log)),
            "a child id is \"\", which is empty; give the child a name",
        ),
        (
            one().child(puppet("a/b", &log)),
            "child id \"a/b\" has a `/` in it, which separates the parts of a path; use another",
        ),
        (
            one()
                .auto_shutdown(mainstay_supervisors::AutoShutdown::AnySignificant)
                .child(a().significant(true)),
            "significant and permanent",
        ),
        (
            one().child(a().significant(true).restart(Restart::Transient)),
            "never shuts down",
        ),
        (
            one().intensity(Intensity::new(1, Duration::ZERO)),
            "window is zero",
        ),
        (one().child(a().start_timeout(Duration::ZERO)), "is zero"),
        (one().child(a().watchdog(Duration::ZERO)), "watchdog"),
        (
            one().child(a().address(&wrong_type)),
            "another message type",
        ),
        (
            one().child(a().backoff(Backoff::new(Duration::from_secs(2), Duration::from_secs(1)))),
            "backoff of child a",
        ),
        (
            one().child(ChildSpec::supervisor("below", one().child(a()).child(a()))),
            "sub-supervisor below",
        ),
    ];
    for (spec, text) in cases {
        let error: SpecError = spec.check().unwrap_err();
        assert!(error.to_string().contains(text), "{error}");
        let refused = spec.start().await.unwrap_err();
        assert!(
            matches!(&refused, StartFailure::Spec { source, .. } if *source == error),
            "{refused:?}"
        );
    }
    assert!(log.take().is_empty());
}

struct Other;
mainstay_supervisors::message!(Other);

/// OTP-START-13.
#[test]
fn the_defaults_are_those_of_otp() {
    let worker = format!("{:?}", puppet("a", &Log::default()));
    assert!(worker.contains("Worker") && worker.contains("Permanent") && worker.contains("5s"));
    let below = ChildSpec::supervisor("b", SupervisorSpec::new(Strategy::OneForOne));
    assert!(format!("{below:?}").contains("Infinite"));
    assert_eq!(
        Intensity::default(),
        Intensity::new(3, Duration::from_secs(5))
    );
}

#[tokio::test(start_paused = true)]
async fn the_factory_is_told_how_the_predecessor_ended() {
    let log = Log::default();
    let told = log.clone();
    let address = Address::new();
    let spec = generous(Strategy::OneForOne).child(
        gated("a", &log, move |context| {
            let previous = context.previous.as_ref().map(|reason| reason.kind());
            told.say(format!(
                "{} {} {} {previous:?}",
                context.path, context.generation, context.attempt
            ));
            Ok(())
        })
        .address(&address),
    );
    let (tree, mut events) = started(spec).await;
    address.cast(Do::Fail(1)).unwrap();
    events.restarted("a").await;
    ping(&address).await;
    let lines = log.take();
    assert!(lines.contains(&"root/a 1 0 None".to_owned()), "{lines:?}");
    assert!(
        lines.contains(&"root/a 2 1 Some(\"failed\")".to_owned()),
        "{lines:?}"
    );
    tree.shutdown(ShutdownPlan::default()).await;
}

/// A start that is under way does not delay a shutdown.
#[tokio::test(start_paused = true)]
async fn a_shutdown_gets_through_while_a_child_is_starting() {
    let address = Address::new();
    let log = Log::default();
    let late = log.clone();
    let spec = generous(Strategy::OneForOne).child(
        ChildSpec::actor("a", move |context: mainstay_supervisors::StartContext| {
            let again = context.generation.0 > 1;
            Ok((
                crate::kit::Puppet,
                Script {
                    log: late.clone(),
                    start_takes: Duration::from_secs(if again { 600 } else { 0 }),
                    ..Script::default()
                },
            ))
        })
        .start_timeout(Duration::from_secs(3600))
        .address(&address),
    );
    let (tree, mut events) = started(spec).await;
    address.cast(Do::Fail(1)).unwrap();
    events.exited("a").await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let report = tree.shutdown(ShutdownPlan::default()).await;
    assert!(report.took < Duration::from_secs(2), "{report:?}");
}

/// Whoever no longer waits for a start does not leave half a tree behind.
#[tokio::test(start_paused = true)]
async fn a_start_that_is_dropped_midway_leaves_nothing_behind() {
    let log = Log::default();
    let hour = Duration::from_secs(3600);
    let spec = generous(Strategy::OneForOne)
        .child(puppet("a", &log))
        .child(gated("b", &log, move |_| Err(StartError::Postpone(hour))));
    let given_up = tokio::time::timeout(Duration::from_secs(1), spec.start()).await;
    assert!(given_up.is_err());
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(log.take(), ["start a", "drop a"]);
}

/// OTP-ADM-04: every combination that makes sense is taken, and read back as it was given.
#[tokio::test(start_paused = true)]
async fn every_combination_of_valid_options_is_taken() {
    let log = Log::default();
    let second = Duration::from_secs(1);
    let mut spec = generous(Strategy::OneForOne)
        .auto_shutdown(mainstay_supervisors::AutoShutdown::AllSignificant);
    let mut given = Vec::new();
    for restart in [Restart::Permanent, Restart::Transient, Restart::Temporary] {
        for shutdown in [
            Shutdown::Kill,
            Shutdown::Timeout(Duration::ZERO),
            Shutdown::Timeout(second),
            Shutdown::Infinite,
        ] {
            for significant in [false, true] {
                for kind in [ChildKind::Worker, ChildKind::Supervisor] {
                    if significant && restart == Restart::Permanent {
                        continue;
                    }
                    let id = given.len().to_string();
                    let child = match kind {
                        ChildKind::Worker => puppet(&id, &log),
                        ChildKind::Supervisor => {
                            ChildSpec::supervisor(id, SupervisorSpec::new(Strategy::OneForOne))
                        }
                    };
                    spec = spec.child(
                        child
                            .restart(restart)
                            .shutdown(shutdown)
                            .significant(significant),
                    );
                    given.push((restart, shutdown, significant, kind));
                }
            }
        }
    }
    let (tree, _events) = started(spec).await;
    for (at, given) in given.iter().enumerate() {
        let id = at.to_string().into();
        let read = tree.child_spec(&id).await.unwrap();
        let read = (read.restart, read.shutdown, read.significant, read.kind);
        assert_eq!(read, *given);
    }
    let counts = tree.count_children().await.unwrap();
    assert_eq!((counts.specs, counts.active), (40, 40));
    tree.shutdown(ShutdownPlan::default()).await;
}

/// EXS-01: the strategy is the one thing that has to be said.
#[tokio::test(start_paused = true)]
async fn a_supervisor_without_options_has_those_of_elixir() {
    let log = Log::default();
    for strategy in [
        Strategy::OneForOne,
        Strategy::OneForAll,
        Strategy::RestForOne,
    ] {
        let (tree, _events) = started(SupervisorSpec::new(strategy)).await;
        let snapshot = tree.snapshot().await;
        assert_eq!(snapshot.strategy, Some(strategy));
        assert_eq!(snapshot.window, Some((0, 3)));
        let significant = puppet("a", &log)
            .restart(Restart::Transient)
            .significant(true);
        let refused = tree.start_child(significant).await;
        assert!(refused.is_err(), "never shuts down for a child");
        tree.shutdown(ShutdownPlan::default()).await;
    }
}
