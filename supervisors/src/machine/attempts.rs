//! Which attempt a restart is, and when attempts are forgotten, with plain values.

use std::time::Duration;

use super::scenarios::{Drive, SECOND, exit, judged, plan};
use super::{Action, ChildPlan, Input, Judged, Request, Standing, StartRefusal};
use crate::event::SupervisorEventKind;
use crate::exit::ExitReason;
use crate::policy::{Restart, Shutdown, Strategy, Verdict};

fn permanent(id: &str) -> ChildPlan {
    plan(id, Restart::Permanent, Shutdown::Infinite)
}

/// Longer than the backoff's `reset_after`.
const LONG: Duration = Duration::from_secs(10);

/// What is said of attempts: to addresses, to the factory, and in the plan.
fn told(drive: &mut Drive, input: Input) -> Vec<String> {
    let actions = drive.machine.step(drive.now, input);
    let lines = actions.iter().filter_map(|action| match action {
        Action::Settle {
            child,
            standing: Standing::Restarting { attempt, .. },
            ..
        } => Some(format!("{child} restarts {attempt}")),
        Action::Start { child, attempt, .. } => Some(format!("{child} starts {attempt}")),
        Action::Notice {
            child: Some(child),
            kind: SupervisorEventKind::RestartPlanned { attempt, .. },
            ..
        } => Some(format!("{child} planned {attempt}")),
        _ => None,
    });
    lines.collect()
}

fn killed(id: &str, generation: u64) -> Input {
    exit(id, generation, ExitReason::Killed)
}

fn attempts(drive: &Drive) -> Vec<u32> {
    let views = drive.machine.view(drive.now);
    views.map(|view| view.attempts).collect()
}

/// `b` failed twice before; that is not why it restarts now.
#[test]
fn a_child_that_restarts_along_with_another_makes_no_attempt_of_its_own() {
    let mut drive = Drive::new(Strategy::OneForAll, ["a", "b"].map(permanent));
    drive.up(&["a", "b"]);
    for generation in 1..=2 {
        drive.exited("b", generation);
        drive.stopped("a", generation);
        drive.now += SECOND;
        drive.step(Input::Tick);
        drive.started("a", generation + 1);
        drive.started("b", generation + 1);
    }
    assert_eq!(attempts(&drive), [0, 2]);
    assert_eq!(
        told(&mut drive, killed("a", 3)),
        ["a restarts 1", "b restarts 0", "a planned 1"]
    );
    drive.stopped("b", 3);
    let started = told(&mut drive, Input::Tick);
    assert_eq!(started, Vec::<String>::new(), "it is under way already");
    assert_eq!(drive.started("a", 4), ["start b#4"]);
    assert_eq!(drive.machine.view(drive.now).nth(1).unwrap().attempt, 0);
    // One that fails to start along with it makes attempts from then on.
    let failed = StartRefusal::Failed {
        reason: ExitReason::Killed.into(),
        judged: judged(),
    };
    let refused = Input::Refused {
        child: "b".into(),
        generation: crate::id::Generation(4),
        refusal: failed,
    };
    assert_eq!(
        told(&mut drive, refused),
        ["a restarts 0", "b restarts 3", "b planned 3"]
    );
}

/// A restart that its own failure has caused stays that when a sibling's failure comes on top.
#[test]
fn an_attempt_of_its_own_stays_one_when_a_group_takes_it_along() {
    let mut drive = Drive::new(Strategy::RestForOne, ["a", "b"].map(permanent));
    drive.up(&["a", "b"]);
    drive.exited("b", 1);
    assert_eq!(
        told(&mut drive, killed("a", 1)),
        ["a restarts 1", "b restarts 1", "a planned 1"]
    );
    assert_eq!(drive.failed("b", 2), ["start a#2"]);
    let up = Input::Started {
        child: "a".into(),
        generation: crate::id::Generation(2),
    };
    assert_eq!(told(&mut drive, up), ["b starts 1"]);
}

/// It is shown while the child is up, and counts when it is stopped instead of failing.
#[test]
fn attempts_are_forgotten_as_soon_as_a_child_has_proved_stable() {
    let mut drive = Drive::new(Strategy::OneForAll, ["a", "b"].map(permanent));
    drive.up(&["a", "b"]);
    drive.exited("b", 1);
    drive.stopped("a", 1);
    drive.started("a", 2);
    drive.started("b", 2);
    assert_eq!(attempts(&drive), [0, 1]);
    drive.now += LONG;
    assert_eq!(attempts(&drive), [0, 0]);
    drive.exited("a", 2);
    drive.stopped("b", 2);
    drive.started("a", 3);
    drive.started("b", 3);
    assert_eq!(
        attempts(&drive),
        [1, 0],
        "it was stopped, and has not failed"
    );
    drive.stopped("b", 3);
    assert_eq!(attempts(&drive), [1, 1]);
}

/// The verdict of the child's own judge comes before its uptime.
#[test]
fn a_verdict_decides_whether_attempts_are_forgotten() {
    let mut drive = Drive::new(Strategy::OneForOne, [permanent("a")]);
    drive.up(&["a"]);
    drive.exited("a", 1);
    drive.started("a", 2);
    drive.now += LONG;
    let verdict = Verdict::Uncounted {
        stable: false,
        at_least: Duration::ZERO,
    };
    let judged = Judged {
        verdict,
        ..judged()
    };
    let ended = Input::Exited {
        child: "a".into(),
        generation: crate::id::Generation(2),
        reason: ExitReason::Killed.into(),
        parting: crate::shutdown::Parting::Graceful,
        judged,
    };
    assert_eq!(told(&mut drive, ended), ["a restarts 2", "a planned 2"]);
}

/// A parked child that comes back with its group does so at nobody's attempt.
#[test]
fn a_terminated_child_that_its_group_revives_makes_no_attempt() {
    let mut drive = Drive::new(Strategy::OneForAll, ["a", "b"].map(permanent));
    drive.up(&["a", "b"]);
    drive.exited("b", 1);
    drive.stopped("a", 1);
    drive.started("a", 2);
    drive.failed("b", 2);
    drive.request(1, Request::Terminate("b".into()));
    drive.stopped("a", 2);
    drive.now += LONG;
    drive.step(Input::Tick);
    drive.started("a", 3);
    assert_eq!(
        told(&mut drive, killed("a", 3)),
        ["a restarts 1", "b restarts 0", "a planned 1", "a starts 1"]
    );
}
