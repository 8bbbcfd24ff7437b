//! Supervisors whose spec is made at their start, and addresses of supervisors.

use std::time::Duration;

use mainstay_supervisors::{
    Address, Backoff, ChildKind, ChildSpec, DynamicRef, ExitReason, Generation, Intensity, Jitter,
    NodeStatus, Restart, ShutdownCause, ShutdownPlan, SpecError, StartContext, StartError,
    StartFailure, Started, Strategy, SupervisorAddress, SupervisorNotUp, SupervisorSpec,
};

use crate::admin::{counts, id};
use crate::dynamic::{HOUR, add, lasting};
use crate::kit::{Events, LineDead, Log, generous, ping, puppet, settle, started};

fn empty() -> SupervisorSpec {
    SupervisorSpec::new(Strategy::OneForOne)
}

fn ignoring(_: StartContext) -> Result<SupervisorSpec, StartError> {
    Err(StartError::Ignore)
}

/// OTP-START-02: the supervisor's own init declines. Its parent starts and nobody else hears of it.
#[tokio::test(start_paused = true)]
async fn a_supervisor_can_decline_to_start() {
    let log = Log::default();
    let spec = generous(Strategy::OneForOne)
        .child(puppet("a", &log))
        .child(ChildSpec::supervisor_with("s", ignoring))
        .child(ChildSpec::supervisor_with("t", ignoring).restart(Restart::Temporary));
    let (tree, mut events) = started(spec).await;
    assert_eq!(counts(&tree).await, [2, 1, 1, 1]);
    let s = tree.which_child(&id("s")).await.unwrap();
    assert_eq!(
        (s.kind, s.status),
        (ChildKind::Supervisor, NodeStatus::Idle)
    );
    assert!(s.supervisor.is_none() && s.cell.is_none());
    let again = tree.restart_child(&id("s")).await.unwrap();
    assert!(matches!(again, Started::Ignored));
    let added = ChildSpec::supervisor_with("n", ignoring);
    let added = tree.start_child(added).await.unwrap();
    assert!(matches!(added, Started::Ignored));
    let names = events.names();
    assert!(names.contains(&"child.ignored s".to_owned()), "{names:?}");
    let ends = names.iter().filter(|name| name.starts_with("child.exit"));
    assert_eq!(ends.count(), 0, "{names:?}");
    let report = tree.shutdown(ShutdownPlan::default()).await;
    assert_eq!(report.graceful, 1);
}

/// Made from what is true then; children that were there before go on being numbered.
#[tokio::test(start_paused = true)]
async fn a_spec_is_made_anew_at_each_start() {
    let log = Log::default();
    let address = Address::new();
    let (by, at) = (log.clone(), address.clone());
    let make = move |context: StartContext| {
        let deeper = empty().child(puppet("deep", &by));
        let spec = generous(Strategy::OneForAll)
            .child(puppet("always", &by).address(&at))
            .child(ChildSpec::supervisor("below", deeper));
        let nth = context.generation.0;
        Ok(spec.child(puppet(&format!("only-{nth}"), &by)))
    };
    let spec = generous(Strategy::OneForOne).child(ChildSpec::supervisor_with("s", make));
    let (tree, mut events) = started(spec).await;
    let s = tree.which_child(&id("s")).await.unwrap();
    assert_eq!(s.kind, ChildKind::Supervisor);
    s.supervisor.unwrap().cell().kill();
    events.restarted("s").await;
    assert_eq!(ping(&address).await, 2);
    let snapshot = tree.snapshot().await;
    let s = snapshot.find(["s"]).unwrap();
    assert_eq!(s.strategy, Some(Strategy::OneForAll));
    let standing: Vec<(&str, Generation)> = s
        .children
        .iter()
        .map(|child| (child.id.as_str(), child.generation))
        .collect();
    let [one, two] = [1, 2].map(Generation);
    assert_eq!(standing, [("always", two), ("below", two), ("only-2", one)]);
    let deep = snapshot.find(["s", "below", "deep"]).unwrap();
    assert_eq!(deep.generation, two);
    tree.shutdown(ShutdownPlan::default()).await;
}

/// OTP-START-09: an init that fails, panics, or makes no sense is a failed start, by name.
#[tokio::test(start_paused = true)]
async fn a_spec_that_cannot_be_made_fails_the_start() {
    type Make = fn(StartContext) -> Result<SupervisorSpec, StartError>;
    let makes: [Make; 3] = [
        |_| Err(StartError::failed(LineDead(1))),
        |_| panic!("init"),
        |_| Ok(empty().intensity(Intensity::new(1, Duration::ZERO))),
    ];
    for (at, make) in makes.into_iter().enumerate() {
        let log = Log::default();
        let spec = generous(Strategy::OneForOne)
            .child(puppet("a", &log))
            .child(ChildSpec::supervisor_with("s", make));
        let failure = spec.start().await.unwrap_err();
        let StartFailure::Child { child, reason, .. } = failure else {
            panic!("{failure}");
        };
        assert_eq!(child.as_str(), "s");
        match at {
            0 => assert_eq!(reason.downcast_ref(), Some(&LineDead(1))),
            1 => assert!(reason.to_string().contains("panicked: init"), "{reason}"),
            _ => assert_eq!(reason.downcast_ref(), Some(&SpecError::ZeroWindow)),
        }
        assert_eq!(log.take(), ["start a", "stop a", "drop a"]);
    }
}

/// As for an actor: later, and without cost.
#[tokio::test(start_paused = true)]
async fn a_supervisor_can_ask_for_a_later_start() {
    let jobs = DynamicRef::new();
    let reference = jobs.clone();
    let make = move |context: StartContext| match context.generation.0 {
        1 => Err(StartError::Postpone(HOUR)),
        _ => Ok(lasting().reference(&reference)),
    };
    let began = tokio::time::Instant::now();
    let spec = generous(Strategy::OneForOne).child(ChildSpec::supervisor_with("jobs", make));
    let (tree, _events) = started(spec).await;
    assert_eq!(began.elapsed(), HOUR);
    assert_eq!(tree.snapshot().await.window.unwrap().0, 0);
    let (_, job) = add(&jobs, puppet("job", &Log::default())).await;
    assert_eq!(ping(&job).await, 1);
    tree.shutdown(ShutdownPlan::default()).await;
}

/// Emptied when the supervisor begins to end; `up` waits for the next one, and no longer than told.
#[tokio::test(start_paused = true)]
async fn an_address_of_a_supervisor_waits_over_its_restart() {
    let log = Log::default();
    let address = SupervisorAddress::new();
    let SupervisorNotUp { within, .. } = address.up(Duration::from_secs(1)).await.unwrap_err();
    assert_eq!(within, Duration::from_secs(1));
    let long = Backoff::new(HOUR, HOUR)
        .first_immediate(false)
        .jitter(Jitter::None);
    let below = generous(Strategy::OneForOne)
        .address(&address)
        .child(puppet("a", &log));
    let spec = generous(Strategy::OneForOne).child(ChildSpec::supervisor("s", below).backoff(long));
    let (tree, mut events) = started(spec).await;
    let first = address.up(Duration::ZERO).await.unwrap();
    assert_eq!(first.count_children().await.unwrap().active, 1);
    first.cell().kill();
    events.exited("s").await;
    settle().await;
    assert!(address.current().is_none());
    assert!(address.up(Duration::from_secs(1)).await.is_err());
    let began = tokio::time::Instant::now();
    let second = address.up(2 * HOUR).await.unwrap();
    assert!(began.elapsed() <= HOUR);
    assert_ne!(first.cell().get_id(), second.cell().get_id());
    assert_eq!(second.generation(), Generation(2));
    assert!(
        first.count_children().await.is_err(),
        "the old one is stale"
    );
    tree.shutdown(ShutdownPlan::default()).await;
    assert!(address.current().is_none());
}

/// Nobody is handed a supervisor that has begun to end.
#[tokio::test(start_paused = true)]
async fn an_address_of_a_supervisor_is_empty_while_it_ends() {
    let log = Log::default();
    let address = SupervisorAddress::new();
    let script = crate::kit::Script {
        log: log.clone(),
        stop_takes: Duration::from_secs(3),
        ..crate::kit::Script::default()
    };
    let spec = generous(Strategy::OneForOne)
        .address(&address)
        .child(crate::kit::scripted("slow", script));
    let (tree, _events) = started(spec).await;
    let (report, seen) = tokio::join!(tree.shutdown(ShutdownPlan::default()), async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        address.current().is_some()
    });
    assert_eq!(report.took.as_secs(), 3);
    assert!(!seen);
}

/// Filled only when every child is up: whoever gets it finds them.
#[tokio::test(start_paused = true)]
async fn an_address_of_a_supervisor_is_filled_when_its_children_are_up() {
    let log = Log::default();
    let address = SupervisorAddress::new();
    let script = crate::kit::Script {
        log: log.clone(),
        start_takes: Duration::from_secs(9),
        ..crate::kit::Script::default()
    };
    let (spec, _events) = Events::of(
        generous(Strategy::OneForOne)
            .address(&address)
            .child(crate::kit::scripted("slow", script)),
    );
    let starting = tokio::spawn(spec.start());
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(address.current().is_none());
    let up = address.up(HOUR).await.unwrap();
    assert_eq!(up.count_children().await.unwrap().active, 1);
    let tree = starting.await.unwrap().unwrap();
    tree.shutdown(ShutdownPlan::default()).await;
    assert!(matches!(
        &*tree.wait().await,
        ExitReason::Ended(ShutdownCause::Requested)
    ));
}
