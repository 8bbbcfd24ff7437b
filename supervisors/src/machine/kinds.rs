//! Dynamic supervisors, reconfiguration, draining and what addresses are told, with plain values.

use std::time::Duration;

use super::scenarios::{Drive, SECOND, exit, plan, rules_of};
use super::{Action, ChildPlan, Input, Population, Request, Rules, Standing, StartRefusal, Ticket};
use crate::backoff::{Backoff, Jitter};
use crate::exit::{ExitReason, ShutdownCause};
use crate::policy::{AutoShutdown, ChildKind, Intensity, Restart, Shutdown, Strategy};
use crate::snapshot::NodeStatus;

fn dynamic(max_children: Option<usize>) -> Rules {
    Rules {
        population: Population::Dynamic { max_children },
        ..rules_of(Strategy::OneForOne, 3)
    }
}

/// A child whose first restart is made at once.
fn permanent(id: &str) -> ChildPlan {
    plan(id, Restart::Permanent, Shutdown::Infinite)
}

fn of(id: &str, restart: Restart) -> ChildPlan {
    plan(id, restart, Shutdown::Infinite)
}

/// What the addresses of children are told.
fn told(drive: &mut Drive, input: Input) -> Vec<String> {
    let actions = drive.machine.step(drive.now, input);
    let told = actions.iter().filter_map(|action| match action {
        Action::Settle {
            child, standing, ..
        } => Some(match standing {
            Standing::Restarting { attempt, next_at } => {
                format!("{child} {attempt} in {:?}", *next_at - drive.now)
            }
            Standing::Down(reason) => format!("{child} {}", reason.kind()),
        }),
        _ => None,
    });
    told.collect()
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
    assert_eq!(drive.statuses()[0].1, NodeStatus::Restarting);
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
        assert_eq!(drive.stopped("a", 1), ["forget a"]);
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
    assert_eq!(drive.stopped("a", 1), ["3: terminated", "forget a"]);
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
    let stopping = |(_, status)| status == NodeStatus::Stopping;
    assert!(drive.statuses().into_iter().all(stopping));
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
    let actions = drive
        .machine
        .step(drive.now, exit("c", 1, ExitReason::Killed));
    assert!(actions.iter().any(|action| matches!(
        action,
        Action::Exit(ShutdownCause::Exhausted { child, .. }) if child.as_str() == "a"
    )));
}

/// OTP-UPG-01, OTP-UPG-02, OTP-UPG-03, OTP-UPG-04.
#[test]
fn a_new_spec_changes_rules_and_plans_and_starts_nobody() {
    let mut drive = Drive::by(
        rules_of(Strategy::OneForAll, 3),
        ["a", "b", "c"].map(permanent),
    );
    drive.up(&["a", "b", "c"]);
    let plans = vec![of("n", Restart::Permanent), of("b", Restart::Transient)];
    let new = Rules {
        intensity: Intensity::new(7, SECOND),
        ..rules_of(Strategy::OneForOne, 3)
    };
    assert_eq!(
        drive.request(1, Request::Reconfigure(new, plans)),
        ["admit n", "1: reconfigured"]
    );
    assert_eq!(
        drive.statuses(),
        [
            ("n".to_owned(), NodeStatus::Idle),
            ("b".to_owned(), NodeStatus::Running),
            ("a".to_owned(), NodeStatus::Running),
            ("c".to_owned(), NodeStatus::Running)
        ]
    );
    assert_eq!(drive.machine.window(drive.now).1, 7);
    assert_eq!(drive.stopped("b", 1), Vec::<String>::new(), "transient now");
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

#[test]
fn what_was_booked_before_counts_against_a_new_intensity() {
    let allow = |restarts| rules_of(Strategy::OneForOne, restarts);
    let mut drive = Drive::by(allow(5), [permanent("a")]);
    drive.up(&["a"]);
    assert_eq!(drive.exited("a", 1), ["start a#2"]);
    drive.started("a", 2);
    drive.request(1, Request::Reconfigure(allow(1), vec![permanent("a")]));
    assert_eq!(drive.exited("a", 2), ["exit"]);
}

#[test]
fn a_child_whose_new_plan_is_of_another_kind_is_counted_among_that_kind() {
    let rules = rules_of(Strategy::OneForOne, 3);
    let mut drive = Drive::by(rules, ["a", "b", "c"].map(permanent));
    drive.up(&["a", "b", "c"]);
    let kinds = |drive: &Drive| {
        let counts = drive.machine.counts();
        (counts.supervisors, counts.workers)
    };
    assert_eq!(kinds(&drive), (0, 3));
    for (kind, counted) in [
        (ChildKind::Supervisor, (1, 2)),
        (ChildKind::Supervisor, (1, 2)),
        (ChildKind::Worker, (0, 3)),
    ] {
        let plan = ChildPlan {
            kind,
            ..permanent("b")
        };
        drive.request(1, Request::Reconfigure(rules, vec![plan]));
        assert_eq!(kinds(&drive), counted, "{kind:?}");
    }
}

/// OTP-SIG-08, OTP-SIG-09, OTP-SIG-10, OTP-SIG-11, OTP-SIG-12, OTP-SIG-13, OTP-SIG-14.
#[test]
fn a_new_mode_of_auto_shutdown_holds_for_children_that_run() {
    let significant = |id| ChildPlan {
        significant: true,
        ..of(id, Restart::Temporary)
    };
    let plans = || vec![significant("a"), significant("b")];
    let with = |mode| Rules {
        auto_shutdown: mode,
        ..rules_of(Strategy::OneForOne, 3)
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
    let same = rules_of(Strategy::OneForAll, 3);
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

/// What addresses are told: when the next attempt is due, and that there will be none.
#[test]
fn whoever_waits_for_a_child_is_told_what_follows() {
    let slow = ChildPlan {
        backoff: Backoff::new(SECOND, 8 * SECOND)
            .jitter(Jitter::None)
            .first_immediate(false),
        ..permanent("slow")
    };
    let by = rules_of(Strategy::OneForAll, 9);
    let mut drive = Drive::by(by, [permanent("a"), slow]);
    drive.up(&["a", "slow"]);
    let failed = exit("slow", 1, ExitReason::Killed);
    assert_eq!(told(&mut drive, failed), ["a 0 in 1s", "slow 1 in 1s"]);
    drive.stopped("a", 1);
    drive.now += SECOND;
    assert_eq!(drive.step(Input::Tick), ["start a#2"]);
    drive.started("a", 2);
    let failed = drive.refused("slow", 2, StartRefusal::Postponed(3 * SECOND));
    assert_eq!(failed, Vec::<String>::new());
    let ended = told(
        &mut drive,
        Input::Request(Ticket(1), Request::Terminate("slow".into())),
    );
    assert_eq!(ended, ["slow killed"]);
}

/// Alone or in a group: it will not come back, and nobody waits for it in vain.
#[test]
fn whoever_waits_for_a_child_is_told_when_the_supervisor_ends_first() {
    let slow = |id| ChildPlan {
        backoff: Backoff::new(SECOND, SECOND)
            .jitter(Jitter::None)
            .first_immediate(false),
        ..permanent(id)
    };
    for (strategy, waits) in [
        (Strategy::OneForOne, vec!["a killed"]),
        (Strategy::OneForAll, vec!["a killed", "b stopped"]),
    ] {
        let mut drive = Drive::new(strategy, ["a", "b"].map(slow));
        drive.up(&["a", "b"]);
        drive.exited("a", 1);
        if strategy == Strategy::OneForAll {
            drive.stopped("b", 1);
        }
        let ended = told(&mut drive, Input::Shutdown { deadline: None });
        assert_eq!(ended, waits, "{strategy:?}");
        let idle = ("a".to_owned(), NodeStatus::Idle);
        assert_eq!(drive.statuses()[0], idle, "{strategy:?}");
    }
}

#[test]
fn a_supervisor_is_shown_as_starting_until_everybody_was_up_once() {
    let mut drive = Drive::new(Strategy::OneForAll, ["a", "b"].map(permanent));
    drive.step(Input::Boot);
    drive.started("a", 1);
    assert_eq!(drive.machine.status(), NodeStatus::Starting);
    drive.started("b", 1);
    assert_eq!(drive.machine.status(), NodeStatus::Running);
    drive.exited("b", 1);
    assert_eq!(drive.machine.status(), NodeStatus::Running, "a restart");
    drive.step(Input::Shutdown { deadline: None });
    assert_eq!(drive.machine.status(), NodeStatus::Stopping);
}

/// Only who is to drain is told so, within whatever limit there is.
#[test]
fn a_child_that_drains_is_told_so() {
    for total in [None, Some(8 * SECOND)] {
        let plans = [
            ("timed", Shutdown::Timeout(SECOND)),
            ("drains", Shutdown::Drain(SECOND)),
        ];
        let mut drive = Drive::by(
            rules_of(Strategy::OneForOne, 3),
            plans.map(|(id, shutdown)| plan(id, Restart::Permanent, shutdown)),
        );
        drive.up(&["timed", "drains"]);
        let deadline = total.map(|total| drive.now + total);
        let first = drive.machine.step(drive.now, Input::Shutdown { deadline });
        let ended = exit("drains", 1, ExitReason::Drained);
        let second = drive.machine.step(drive.now, ended);
        let orders: Vec<_> = first
            .iter()
            .chain(&second)
            .filter_map(|action| match action {
                Action::Stop { child, order, .. } => {
                    Some((child.as_str(), order.drain, order.patience))
                }
                _ => None,
            })
            .collect();
        let limit = Some(SECOND);
        assert_eq!(orders, [("drains", true, limit), ("timed", false, limit)]);
    }
}
