//! Children that fail too often, the warning before, and what is parked, with plain values.

use std::time::Duration;

use super::scenarios::{Drive, SECOND, exit, plan, rules_of};
use super::{Action, ChildPlan, Input, Request, Rules, StartRefusal};
use crate::backoff::{Backoff, Jitter};
use crate::event::SupervisorEventKind;
use crate::exit::ExitReason;
use crate::policy::{AutoShutdown, OnExhausted, Restart, Shutdown, Strategy};
use crate::snapshot::NodeStatus;

fn parking(strategy: Strategy, max_restarts: u32) -> Rules {
    Rules {
        on_exhausted: OnExhausted::Park,
        ..rules_of(strategy, max_restarts)
    }
}

/// A child whose first restart is made at once.
fn permanent(id: &str) -> ChildPlan {
    plan(id, Restart::Permanent, Shutdown::Infinite)
}

fn of(id: &str, restart: Restart) -> ChildPlan {
    plan(id, restart, Shutdown::Infinite)
}

#[test]
fn a_child_that_fails_too_often_is_parked_and_its_siblings_go_on() {
    let mut drive = Drive::by(parking(Strategy::OneForOne, 1), ["a", "b"].map(permanent));
    drive.up(&["a", "b"]);
    assert_eq!(drive.exited("a", 1), ["start a#2"]);
    drive.started("a", 2);
    assert_eq!(
        drive.reports(exit("a", 2, ExitReason::Killed)),
        ["child.exit", "child.parked"]
    );
    assert_eq!(
        drive.statuses(),
        [
            ("a".to_owned(), NodeStatus::Parked),
            ("b".to_owned(), NodeStatus::Running)
        ]
    );
    assert_eq!(drive.machine.next_timeout(), None);
    assert_eq!(drive.machine.counts().active, 1);
}

#[test]
fn a_parked_child_comes_back_by_request_and_is_parked_again_while_the_window_is_full() {
    let mut drive = Drive::by(parking(Strategy::OneForOne, 0), [permanent("a")]);
    drive.up(&["a"]);
    assert_eq!(drive.exited("a", 1), Vec::<String>::new());
    assert_eq!(
        drive.request(1, Request::Restart("a".into())),
        ["start a#2"]
    );
    assert_eq!(drive.started("a", 2), ["1: up #2"]);
    assert_eq!(drive.statuses()[0].1, NodeStatus::Running);
    assert_eq!(
        drive.reports(exit("a", 2, ExitReason::Killed)),
        ["child.exit", "child.parked"]
    );
    assert_eq!(drive.statuses()[0].1, NodeStatus::Parked);
    assert_eq!(
        drive.request(2, Request::Delete("a".into())),
        ["2: deleted", "forget a"]
    );
}

/// A restart that was refused is not made, so it does not count: the window clears although the child
/// was parked in it.
#[test]
fn what_is_parked_does_not_count_against_the_others() {
    let mut drive = Drive::by(parking(Strategy::OneForOne, 1), ["a", "b"].map(permanent));
    drive.up(&["a", "b"]);
    drive.exited("a", 1);
    drive.started("a", 2);
    drive.now += SECOND;
    drive.exited("a", 2);
    assert_eq!(drive.machine.window(drive.now), (1, 1));
    drive.now += 4 * SECOND + Duration::from_nanos(1);
    assert_eq!(drive.machine.window(drive.now), (0, 1));
    assert_eq!(drive.exited("b", 1), ["start b#2"]);
}

#[test]
fn attempts_used_up_park_the_child_as_well() {
    let backoff = Backoff::new(SECOND, SECOND).max_attempts(1);
    let only = ChildPlan {
        backoff,
        ..permanent("a")
    };
    let mut drive = Drive::by(parking(Strategy::OneForOne, 9), [only]);
    drive.up(&["a"]);
    assert_eq!(drive.exited("a", 1), ["start a#2"]);
    assert_eq!(drive.failed("a", 2), Vec::<String>::new());
    assert_eq!(drive.statuses()[0].1, NodeStatus::Parked);
}

/// Those who would have been restarted along are stopped in reverse order and left without a process.
#[test]
fn a_group_is_parked_as_a_whole() {
    for (strategy, left) in [(Strategy::OneForAll, 0), (Strategy::RestForOne, 1)] {
        let mut drive = Drive::by(parking(strategy, 0), ["a", "b", "c"].map(permanent));
        drive.up(&["a", "b", "c"]);
        assert_eq!(drive.exited("b", 1), ["stop c#1"]);
        let after_c = drive.exited("c", 1);
        if left == 0 {
            assert_eq!(after_c, ["stop a#1"]);
            assert_eq!(drive.exited("a", 1), Vec::<String>::new());
        } else {
            assert_eq!(after_c, Vec::<String>::new());
        }
        let running = drive
            .statuses()
            .into_iter()
            .filter(|(_, status)| *status == NodeStatus::Running);
        assert_eq!(running.count(), left);
        assert_eq!(drive.statuses()[1].1, NodeStatus::Parked);
        assert_eq!(drive.statuses()[2].1, NodeStatus::Parked);
        assert_eq!(drive.machine.next_timeout(), None);
        assert_eq!(
            drive.request(1, Request::Restart("b".into())),
            ["start b#2"]
        );
        assert_eq!(drive.started("b", 2), ["1: up #2"]);
    }
}

/// A member whose restart still waits when the group is parked does not come back by itself.
#[test]
fn a_restart_that_waits_is_parked_with_its_group() {
    let slow = |id| ChildPlan {
        backoff: Backoff::new(SECOND, SECOND)
            .jitter(Jitter::None)
            .first_immediate(false),
        ..permanent(id)
    };
    let mut drive = Drive::by(parking(Strategy::RestForOne, 1), ["a", "b"].map(slow));
    drive.up(&["a", "b"]);
    assert_eq!(drive.exited("b", 1), Vec::<String>::new());
    assert_eq!(drive.machine.next_timeout(), Some(drive.now + SECOND));
    assert_eq!(drive.exited("a", 1), Vec::<String>::new());
    assert_eq!(drive.machine.next_timeout(), None);
    drive.now += 9 * SECOND;
    assert_eq!(drive.step(Input::Tick), Vec::<String>::new());
    assert_eq!(
        drive.statuses(),
        [
            ("a".to_owned(), NodeStatus::Parked),
            ("b".to_owned(), NodeStatus::Parked)
        ]
    );
}

/// A member that is just being started when the group is parked, and asks for a delay, does not come
/// back by itself either.
#[test]
fn a_start_that_is_postponed_after_its_group_was_parked_is_not_made_again() {
    let by = parking(Strategy::OneForAll, 0);
    let mut drive = Drive::by(by, ["a", "b", "c"].map(permanent));
    drive.up(&["a", "b", "c"]);
    assert_eq!(drive.exited("a", 1), ["stop c#1"]);
    assert_eq!(drive.stopped("c", 1), ["stop b#1"]);
    assert_eq!(drive.stopped("b", 1), Vec::<String>::new());
    for (ticket, id) in [(1, "a"), (2, "b"), (3, "c")] {
        let starts = format!("start {id}#2");
        assert_eq!(drive.request(ticket, Request::Restart(id.into())), [starts]);
    }
    assert_eq!(drive.started("b", 2), ["2: up #2"]);
    assert_eq!(drive.started("c", 2), ["3: up #2"]);
    // The turn of a to be stopped has not come yet.
    assert_eq!(drive.exited("b", 2), ["stop c#2"]);
    let postponed = StartRefusal::Postponed(SECOND);
    assert_eq!(drive.refused("a", 2, postponed), ["1: failed"]);
    assert_eq!(drive.stopped("c", 2), Vec::<String>::new());
    drive.now += 9 * SECOND;
    assert_eq!(drive.step(Input::Tick), Vec::<String>::new());
    let parked = |id: &str| (id.to_owned(), NodeStatus::Parked);
    assert_eq!(drive.statuses(), ["a", "b", "c"].map(parked));
}

/// A significant child that is parked has ended for good.
#[test]
fn a_significant_child_that_is_parked_ends_the_supervisor_by_auto_shutdown() {
    let by = Rules {
        auto_shutdown: AutoShutdown::AnySignificant,
        ..parking(Strategy::OneForOne, 0)
    };
    let significant = ChildPlan {
        significant: true,
        ..of("a", Restart::Transient)
    };
    let mut drive = Drive::by(by, [significant, permanent("b")]);
    drive.up(&["a", "b"]);
    assert_eq!(
        drive.reports(exit("a", 1, ExitReason::Killed)),
        [
            "child.exit",
            "child.parked",
            "sup.auto_shutdown",
            "sup.shutdown"
        ]
    );
}

/// During the boot a parked child is passed over and the boot goes on.
#[test]
fn a_child_that_is_parked_during_the_boot_does_not_hold_it_up() {
    let mut drive = Drive::by(parking(Strategy::OneForOne, 0), ["a", "b"].map(permanent));
    drive.step(Input::Boot);
    assert_eq!(drive.started("a", 1), ["start b#1"]);
    assert_eq!(drive.exited("a", 1), Vec::<String>::new());
    assert_eq!(drive.started("b", 1), ["ready"]);
    assert_eq!(drive.statuses()[0].1, NodeStatus::Parked);
}

#[test]
fn the_warning_comes_once_per_approach() {
    let mut drive = Drive::by(rules_of(Strategy::OneForOne, 2), [permanent("a")]);
    drive.up(&["a"]);
    let mut warnings = Vec::new();
    for generation in 1..=2 {
        let reported = drive.reports(exit("a", generation, ExitReason::Killed));
        warnings.push(reported.contains(&"sup.intensity_low"));
        drive.now += SECOND;
        drive.step(Input::Tick);
        drive.started("a", generation + 1);
    }
    assert_eq!(
        warnings,
        [false, true],
        "two of two are nine tenths, one is not"
    );
    // The first has left the window, the second has not: near again, but it never was clear of it.
    drive.now += 3 * SECOND + Duration::from_millis(1);
    assert!(
        !drive
            .reports(exit("a", 3, ExitReason::Killed))
            .contains(&"sup.intensity_low")
    );
    drive.step(Input::Tick);
    drive.started("a", 4);
    // Clear of it, and near again.
    drive.now += 60 * SECOND;
    assert!(
        !drive
            .reports(exit("a", 4, ExitReason::Killed))
            .contains(&"sup.intensity_low")
    );
    drive.started("a", 5);
    assert!(
        drive
            .reports(exit("a", 5, ExitReason::Killed))
            .contains(&"sup.intensity_low")
    );
}

#[test]
fn the_warning_bears_what_is_used_and_what_is_allowed() {
    let mut drive = Drive::by(rules_of(Strategy::OneForOne, 1), [permanent("a")]);
    drive.up(&["a"]);
    let actions = drive
        .machine
        .step(drive.now, exit("a", 1, ExitReason::Killed));
    let found = actions.iter().find_map(|action| match action {
        Action::Notice {
            child: None,
            kind: SupervisorEventKind::IntensityLow { used, limit },
            ..
        } => Some((*used, *limit)),
        _ => None,
    });
    assert_eq!(found, Some((1, 1)));
}
