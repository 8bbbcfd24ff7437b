//! Ends that look like others and are none of them, with plain values: of bystanders, of children that are not
//! significant, of restarts during the boot, and of those whose ends cost nothing.

use std::time::Duration;

use super::scenarios::{Drive, SECOND, exit, judged, plan, rules_of};
use super::{ChildPlan, Input, Judged, Rules};
use crate::backoff::{Backoff, Jitter};
use crate::exit::ExitReason;
use crate::policy::{AutoShutdown, Restart, Shutdown, Strategy, Verdict};

fn permanent(id: &str) -> ChildPlan {
    plan(id, Restart::Permanent, Shutdown::Infinite)
}

fn killed(drive: &mut Drive, id: &str) -> Vec<&'static str> {
    drive.reports(exit(id, 1, ExitReason::Killed))
}

fn booked(drive: &Drive) -> u32 {
    drive.machine.window(drive.now).0
}

/// Whoever dies while his group is being stopped was to be restarted with it anyway; whoever stands before it was not.
#[test]
fn an_end_within_a_group_that_is_being_stopped_is_no_restart_of_its_own() {
    let three = ["a", "b", "c"].map(permanent);
    let mut drive = Drive::new(Strategy::OneForAll, three.clone());
    drive.up(&["a", "b", "c"]);
    assert_eq!(drive.exited("a", 1), ["stop c#1"]);
    assert_eq!(killed(&mut drive, "b"), ["child.exit"]);
    assert_eq!(booked(&drive), 1);
    assert_eq!(drive.stopped("c", 1), ["start a#2"]);

    let mut drive = Drive::new(Strategy::RestForOne, three);
    drive.up(&["a", "b", "c"]);
    assert_eq!(drive.exited("b", 1), ["stop c#1"]);
    assert_eq!(
        killed(&mut drive, "a"),
        ["child.exit", "child.restart_planned"]
    );
    assert_eq!(booked(&drive), 2);
}

/// The boot fails with the child whose turn it is, and not with one that was up already.
#[test]
fn a_restart_that_fails_during_the_boot_is_no_failure_of_the_boot() {
    let mut drive = Drive::new(Strategy::OneForOne, ["a", "b"].map(permanent));
    drive.step(Input::Boot);
    assert_eq!(drive.started("a", 1), ["start b#1"]);
    assert_eq!(drive.exited("a", 1), ["start a#2"]);
    assert_eq!(drive.failed("a", 2), Vec::<String>::new());
    assert_eq!(booked(&drive), 2);
    assert_eq!(drive.started("b", 1), ["ready"]);
}

#[test]
fn a_child_that_is_not_significant_ends_alone() {
    for mode in [AutoShutdown::AnySignificant, AutoShutdown::AllSignificant] {
        let rules = Rules {
            auto_shutdown: mode,
            ..rules_of(Strategy::OneForOne, 5)
        };
        for restart in [Restart::Transient, Restart::Temporary] {
            let plain = plan("plain", restart, Shutdown::Infinite);
            let mut drive = Drive::by(rules, [plain]);
            drive.up(&["plain"]);
            let ended = drive.stopped("plain", 1);
            assert!(!ended.contains(&"exit".to_owned()), "{mode:?}: {ended:?}");
        }
    }
}

/// Else a start that is up and gone at once, at no cost, would have its supervisor do nothing else.
#[test]
fn an_end_that_costs_nothing_is_followed_a_millisecond_after_its_start_at_the_earliest() {
    let millisecond = Duration::from_millis(1);
    for (uptime, verdict, waits) in [
        (Duration::ZERO, uncounted(), true),
        (millisecond / 2, uncounted(), true),
        (millisecond, uncounted(), false),
        (SECOND, uncounted(), false),
        (Duration::ZERO, Verdict::Default, false),
    ] {
        let mut drive = Drive::new(Strategy::OneForOne, [permanent("a")]);
        drive.up(&["a"]);
        drive.now += uptime;
        let next = drive.step(ended_as(verdict));
        let waited = next.is_empty();
        assert_eq!(waited, waits, "{uptime:?} {verdict:?}: {next:?}");
        if waits {
            assert_eq!(drive.machine.next_timeout(), Some(drive.now + millisecond));
        }
    }
}

/// Nothing is allowed, so nothing is nearly used up; and a tenth of ten is not nine.
#[test]
fn a_warning_needs_an_intensity_of_which_nine_tenths_are_used() {
    let mut none = Drive::by(rules_of(Strategy::OneForOne, 0), [permanent("a")]);
    none.up(&["a"]);
    let reports = none.reports(ended_as(uncounted()));
    assert!(!reports.contains(&"sup.intensity_low"), "{reports:?}");

    // Started again at once: all ten are in the window.
    let quick = ChildPlan {
        backoff: Backoff::new(Duration::ZERO, Duration::ZERO).jitter(Jitter::None),
        ..permanent("a")
    };
    let mut ten = Drive::by(rules_of(Strategy::OneForOne, 10), [quick]);
    ten.up(&["a"]);
    let mut warned = Vec::new();
    for generation in 1..=10 {
        let reports = ten.reports(exit("a", generation, ExitReason::Killed));
        if reports.contains(&"sup.intensity_low") {
            warned.push(generation);
        }
        ten.started("a", generation + 1);
    }
    assert_eq!(warned, [9]);
}

fn uncounted() -> Verdict {
    Verdict::Uncounted {
        stable: true,
        at_least: Duration::ZERO,
    }
}

/// The first incarnation of `a` ends, judged so.
fn ended_as(verdict: Verdict) -> Input {
    match exit("a", 1, ExitReason::Killed) {
        Input::Exited {
            child,
            generation,
            reason,
            parting,
            ..
        } => Input::Exited {
            child,
            generation,
            reason,
            parting,
            judged: Judged {
                verdict,
                ..judged()
            },
        },
        other => other,
    }
}
