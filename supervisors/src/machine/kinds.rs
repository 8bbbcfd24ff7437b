//! Parked children, dynamic supervisors, reconfiguration and the warning before the end, with plain values.

use std::sync::Arc;
use std::time::Duration;

use super::scenarios::{Drive, SECOND, judged, plan};
use super::{Action, ChildPlan, Input, Population, Request, Rules, StartRefusal};
use crate::backoff::Backoff;
use crate::event::SupervisorEventKind;
use crate::exit::{ExitReason, ShutdownCause};
use crate::id::Generation;
use crate::policy::{AutoShutdown, Intensity, OnExhausted, Restart, Shutdown, Strategy};
use crate::shutdown::Parting;
use crate::snapshot::NodeStatus;

fn rules(strategy: Strategy, max_restarts: u32) -> Rules {
    Rules {
        strategy,
        intensity: Intensity::new(max_restarts, 5 * SECOND),
        auto_shutdown: AutoShutdown::Never,
        on_exhausted: OnExhausted::Shutdown,
        population: Population::Fixed,
    }
}

fn parking(strategy: Strategy, max_restarts: u32) -> Rules {
    Rules {
        on_exhausted: OnExhausted::Park,
        ..rules(strategy, max_restarts)
    }
}

fn dynamic(max_children: Option<usize>) -> Rules {
    Rules {
        population: Population::Dynamic { max_children },
        ..rules(Strategy::OneForOne, 3)
    }
}

/// A child whose first restart is made at once.
fn permanent(id: &str) -> ChildPlan {
    plan(id, Restart::Permanent, Shutdown::Infinite)
}

fn of(id: &str, restart: Restart) -> ChildPlan {
    plan(id, restart, Shutdown::Infinite)
}

fn statuses(drive: &Drive) -> Vec<(String, NodeStatus)> {
    drive
        .machine
        .view(drive.now)
        .map(|view| (view.plan.id.to_string(), view.status))
        .collect()
}

fn stopped(drive: &mut Drive, id: &str, generation: u64) -> Vec<String> {
    drive.step(Input::Exited {
        child: id.into(),
        generation: Generation(generation),
        reason: Arc::new(ExitReason::Stopped { reason: None }),
        parting: Parting::Graceful,
        judged: judged(),
    })
}

/// What is reported, by name.
fn reports(drive: &mut Drive, input: Input) -> Vec<&'static str> {
    let actions = drive.machine.step(drive.now, input);
    let kinds = actions.iter().filter_map(|action| match action {
        Action::Notice { kind, .. } => Some(kind.name()),
        _ => None,
    });
    kinds.collect()
}

fn exit(id: &str, generation: u64) -> Input {
    Input::Exited {
        child: id.into(),
        generation: Generation(generation),
        reason: Arc::new(ExitReason::Killed),
        parting: Parting::Graceful,
        judged: judged(),
    }
}

#[test]
fn a_child_that_fails_too_often_is_parked_and_its_siblings_go_on() {
    let mut drive = Drive::by(parking(Strategy::OneForOne, 1), ["a", "b"].map(permanent));
    drive.up(&["a", "b"]);
    assert_eq!(drive.exited("a", 1), ["start a#2"]);
    drive.started("a", 2);
    assert_eq!(
        reports(&mut drive, exit("a", 2)),
        ["child.exit", "child.parked"]
    );
    assert_eq!(
        statuses(&drive),
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
    assert_eq!(statuses(&drive)[0].1, NodeStatus::Running);
    assert_eq!(
        reports(&mut drive, exit("a", 2)),
        ["child.exit", "child.parked"]
    );
    assert_eq!(statuses(&drive)[0].1, NodeStatus::Parked);
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
    assert_eq!(statuses(&drive)[0].1, NodeStatus::Parked);
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
        let running = statuses(&drive)
            .into_iter()
            .filter(|(_, status)| *status == NodeStatus::Running);
        assert_eq!(running.count(), left);
        assert_eq!(statuses(&drive)[1].1, NodeStatus::Parked);
        assert_eq!(statuses(&drive)[2].1, NodeStatus::Parked);
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
            .jitter(crate::backoff::Jitter::None)
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
        statuses(&drive),
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
    assert_eq!(stopped(&mut drive, "c", 1), ["stop b#1"]);
    assert_eq!(stopped(&mut drive, "b", 1), Vec::<String>::new());
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
    assert_eq!(stopped(&mut drive, "c", 2), Vec::<String>::new());
    drive.now += 9 * SECOND;
    assert_eq!(drive.step(Input::Tick), Vec::<String>::new());
    let parked = |id: &str| (id.to_owned(), NodeStatus::Parked);
    assert_eq!(statuses(&drive), ["a", "b", "c"].map(parked));
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
        reports(&mut drive, exit("a", 1)),
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
    assert_eq!(statuses(&drive)[0].1, NodeStatus::Parked);
}

#[test]
fn the_warning_comes_once_per_approach() {
    let mut drive = Drive::by(rules(Strategy::OneForOne, 2), [permanent("a")]);
    drive.up(&["a"]);
    let mut warnings = Vec::new();
    for generation in 1..=2 {
        let reported = reports(&mut drive, exit("a", generation));
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
    assert!(!reports(&mut drive, exit("a", 3)).contains(&"sup.intensity_low"));
    drive.step(Input::Tick);
    drive.started("a", 4);
    // Clear of it, and near again.
    drive.now += 60 * SECOND;
    assert!(!reports(&mut drive, exit("a", 4)).contains(&"sup.intensity_low"));
    drive.started("a", 5);
    assert!(reports(&mut drive, exit("a", 5)).contains(&"sup.intensity_low"));
}

#[test]
fn the_warning_bears_what_is_used_and_what_is_allowed() {
    let mut drive = Drive::by(rules(Strategy::OneForOne, 1), [permanent("a")]);
    drive.up(&["a"]);
    let actions = drive.machine.step(drive.now, exit("a", 1));
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

/// EXD-18, EXD-24.
#[test]
fn children_that_restart_hold_their_place_among_those_allowed() {
    let mut drive = Drive::by(dynamic(Some(1)), []);
    drive.up(&[]);
    assert_eq!(
        drive.request(1, Request::Start(permanent("a"))),
        ["admit a", "start a#1"]
    );
    assert_eq!(
        drive.request(2, Request::Start(permanent("b"))),
        ["2: not more than 1"]
    );
    drive.started("a", 1);
    drive.exited("a", 1);
    drive.failed("a", 2);
    assert_eq!(statuses(&drive)[0].1, NodeStatus::Restarting);
    assert_eq!(
        drive.request(3, Request::Start(permanent("b"))),
        ["3: not more than 1"]
    );
    assert_eq!(
        drive.request(4, Request::Terminate("a".into())),
        ["4: terminated", "forget a"]
    );
    assert_eq!(
        drive.request(5, Request::Start(permanent("b"))),
        ["admit b", "start b#1"]
    );
}

#[test]
fn none_is_a_limit_too() {
    let mut drive = Drive::by(dynamic(Some(0)), []);
    drive.up(&[]);
    assert_eq!(
        drive.request(1, Request::Start(permanent("a"))),
        ["1: not more than 0"]
    );
}

/// OTP's simple_one_for_one and Elixir's DynamicSupervisor keep nothing of a child without a process.
#[test]
fn a_dynamic_supervisor_forgets_whoever_is_not_restarted() {
    for restart in [Restart::Transient, Restart::Temporary] {
        let mut drive = Drive::by(dynamic(None), []);
        drive.up(&[]);
        drive.request(1, Request::Start(of("a", restart)));
        drive.started("a", 1);
        assert_eq!(stopped(&mut drive, "a", 1), ["forget a"]);
        assert_eq!(drive.machine.counts().specs, 0);
    }
    let mut drive = Drive::by(dynamic(None), []);
    drive.up(&[]);
    drive.request(1, Request::Start(permanent("a")));
    assert_eq!(
        drive.refused("a", 1, StartRefusal::Ignored),
        ["1: ignored", "forget a"]
    );
    drive.request(2, Request::Start(permanent("a")));
    drive.started("a", 1);
    assert_eq!(
        drive.request(3, Request::Terminate("a".into())),
        ["stop a#1"]
    );
    assert_eq!(stopped(&mut drive, "a", 1), ["3: terminated", "forget a"]);
    assert_eq!(
        drive.request(4, Request::Restart("a".into())),
        ["4: not found"]
    );
}

/// OTP-STRAT-12: each has its own limit and the whole time.
#[test]
fn a_dynamic_supervisor_ends_everybody_at_once() {
    let mut drive = Drive::by(dynamic(None), []);
    drive.up(&[]);
    let limits = [1, 2, 300].map(Duration::from_secs);
    for (ticket, limit) in limits.into_iter().enumerate() {
        let id = format!("c{ticket}");
        let timed = plan(&id, Restart::Permanent, Shutdown::Timeout(limit));
        drive.request(ticket as u64, Request::Start(timed));
        drive.started(&id, 1);
    }
    let deadline = Some(drive.now + 8 * SECOND);
    let actions = drive.machine.step(drive.now, Input::Shutdown { deadline });
    let orders: Vec<_> = actions
        .iter()
        .filter_map(|action| match action {
            Action::Stop { order, .. } => order.patience,
            _ => None,
        })
        .collect();
    assert_eq!(
        orders,
        [SECOND, 2 * SECOND, Duration::from_millis(7750)],
        "the last is held to the deadline, less what its kill may take"
    );
    assert_eq!(drive.exited("c1", 1), ["forget c1"]);
    assert_eq!(drive.exited("c0", 1), ["forget c0"]);
    assert_eq!(drive.exited("c2", 1), ["forget c2", "exit"]);
}

#[test]
fn a_dynamic_supervisor_gives_up_like_any_other_and_takes_everybody_along() {
    let mut drive = Drive::by(dynamic(None), []);
    drive.up(&[]);
    for (ticket, id) in ["a", "b", "c"].into_iter().enumerate() {
        drive.request(ticket as u64, Request::Start(permanent(id)));
        drive.started(id, 1);
    }
    for generation in 1..=3 {
        drive.exited("a", generation);
        drive.now += SECOND;
        drive.step(Input::Tick);
        drive.started("a", generation + 1);
    }
    assert_eq!(drive.exited("a", 4), ["forget a", "stop b#1", "stop c#1"]);
    drive.exited("b", 1);
    let actions = drive.machine.step(drive.now, exit("c", 1));
    assert!(actions.iter().any(|action| matches!(
        action,
        Action::Exit(ShutdownCause::Exhausted { child, .. }) if child.as_str() == "a"
    )));
}

/// OTP-UPG-01..04.
#[test]
fn a_new_spec_changes_rules_and_plans_and_starts_nobody() {
    let mut drive = Drive::by(
        rules(Strategy::OneForAll, 3),
        ["a", "b", "c"].map(permanent),
    );
    drive.up(&["a", "b", "c"]);
    let plans = vec![of("n", Restart::Permanent), of("b", Restart::Transient)];
    let new = Rules {
        intensity: Intensity::new(7, SECOND),
        ..rules(Strategy::OneForOne, 3)
    };
    assert_eq!(
        drive.request(1, Request::Reconfigure(new, plans)),
        ["admit n", "1: reconfigured"]
    );
    assert_eq!(
        statuses(&drive),
        [
            ("n".to_owned(), NodeStatus::Idle),
            ("b".to_owned(), NodeStatus::Running),
            ("a".to_owned(), NodeStatus::Running),
            ("c".to_owned(), NodeStatus::Running)
        ]
    );
    assert_eq!(drive.machine.window(drive.now).1, 7);
    assert_eq!(
        stopped(&mut drive, "b", 1),
        Vec::<String>::new(),
        "transient now"
    );
    assert_eq!(drive.exited("a", 1), ["start a#2"], "one for one now");
    assert_eq!(
        drive.request(2, Request::Restart("n".into())),
        ["start n#1"]
    );
    drive.started("n", 1);
    drive.started("a", 2);
    let actions = drive.step(Input::Shutdown { deadline: None });
    assert_eq!(
        actions,
        ["stop c#1"],
        "the new order holds, with those it does not list at the end"
    );
}

/// OTP-SIG-08..13, OTP-SIG-14.
#[test]
fn a_new_mode_of_auto_shutdown_holds_for_children_that_run() {
    let significant = |id| ChildPlan {
        significant: true,
        ..of(id, Restart::Temporary)
    };
    let plans = || vec![significant("a"), significant("b")];
    let with = |mode| Rules {
        auto_shutdown: mode,
        ..rules(Strategy::OneForOne, 3)
    };
    let modes = [
        AutoShutdown::Never,
        AutoShutdown::AnySignificant,
        AutoShutdown::AllSignificant,
    ];
    for before in modes {
        for after in modes {
            let mut drive = Drive::by(with(before), plans());
            drive.up(&["a", "b"]);
            drive.request(1, Request::Reconfigure(with(after), plans()));
            let first = drive.exited("a", 1);
            assert_eq!(
                first == ["forget a", "stop b#1"],
                after == AutoShutdown::AnySignificant,
                "{before:?} to {after:?}: {first:?}"
            );
            if after != AutoShutdown::AnySignificant {
                let second = drive.exited("b", 1);
                assert_eq!(
                    second.contains(&"exit".to_owned()),
                    after == AutoShutdown::AllSignificant
                );
            }
        }
    }
}

#[test]
fn nothing_is_changed_while_a_group_restarts_or_the_supervisor_ends() {
    let same = rules(Strategy::OneForAll, 3);
    let mut drive = Drive::by(same, ["a", "b"].map(permanent));
    drive.up(&["a", "b"]);
    drive.exited("a", 1);
    assert_eq!(
        drive.request(1, Request::Reconfigure(same, vec![])),
        ["1: Busy"]
    );
    drive.step(Input::Shutdown { deadline: None });
    assert_eq!(
        drive.request(2, Request::Reconfigure(same, vec![])),
        ["2: ShuttingDown"]
    );
}
