//! Single decisions of the machine, with plain values.

mod drive;

use std::sync::Arc;
use std::time::Duration;

use super::{Action, ChildPlan, Input, Judged, Population, Request, Rules, StartRefusal, Ticket};
use crate::backoff::{Backoff, Jitter};
use crate::exit::{ExitReason, ShutdownCause};
use crate::id::Generation;
use crate::policy::{AutoShutdown, Intensity, OnExhausted, Restart, Shutdown, Strategy, Verdict};
use crate::shutdown::Parting;
use crate::snapshot::NodeStatus;

pub(super) use drive::{Drive, SECOND, exit, judged, plan, rules_of};

fn permanent(id: &str) -> ChildPlan {
    plan(id, Restart::Permanent, Shutdown::Infinite)
}

#[test]
fn children_boot_one_after_the_other() {
    let mut drive = Drive::new(Strategy::OneForOne, ["a", "b"].map(permanent));
    assert_eq!(drive.step(Input::Boot), ["start a#1"]);
    assert_eq!(drive.started("a", 1), ["start b#1"]);
    assert_eq!(drive.started("b", 1), ["ready"]);
}

#[test]
fn a_first_start_is_seen_as_one_and_a_later_one_as_a_restart() {
    use NodeStatus::{Idle, Restarting, Running, Starting, Stopping};

    fn seen(drive: &Drive) -> Vec<NodeStatus> {
        let statuses = drive.statuses().into_iter();
        statuses.map(|(_, status)| status).collect()
    }
    let mut drive = Drive::new(Strategy::OneForAll, ["a", "b"].map(permanent));
    drive.step(Input::Boot);
    assert_eq!(seen(&drive), [Starting, Idle]);
    drive.started("a", 1);
    assert_eq!(seen(&drive), [Running, Starting]);
    drive.started("b", 1);
    drive.exited("a", 1);
    assert_eq!(seen(&drive), [Restarting, Stopping]);
    assert_eq!(drive.stopped("b", 1), ["start a#2"]);
    assert_eq!(seen(&drive), [Restarting, Restarting]);
    drive.started("a", 2);
    drive.started("b", 2);
    assert_eq!(seen(&drive), [Running, Running]);
}

/// A temporary child whose first start was postponed belongs to its group until it was up once.
#[test]
fn a_postponed_temporary_child_waits_for_the_group_before_it() {
    let temporary = plan("t", Restart::Temporary, Shutdown::Infinite);
    let mut drive = Drive::new(Strategy::RestForOne, [permanent("a"), temporary]);
    drive.step(Input::Boot);
    drive.started("a", 1);
    drive.refused("t", 1, StartRefusal::Postponed(2 * SECOND));
    assert!(drive.exited("a", 1).is_empty(), "the longer delay holds");
    assert_eq!(drive.machine.next_timeout(), Some(drive.now + 2 * SECOND));
    drive.now += 2 * SECOND;
    assert_eq!(drive.step(Input::Tick), ["start a#2"]);
    assert_eq!(drive.started("a", 2), ["start t#2"]);
    assert_eq!(drive.started("t", 2), ["ready"]);
}

/// A restart that failed to start never repeats in the same instant.
#[test]
fn a_failed_restart_always_waits() {
    let mut hasty = permanent("a");
    hasty.backoff = Backoff::new(Duration::ZERO, Duration::ZERO);
    let mut drive = Drive::new(Strategy::OneForOne, [hasty]);
    drive.up(&["a"]);
    assert_eq!(drive.exited("a", 1), ["start a#2"]);
    let failed = StartRefusal::Failed {
        reason: Arc::new(ExitReason::Killed),
        judged: judged(),
    };
    assert!(drive.refused("a", 2, failed).is_empty());
    let due = drive.machine.next_timeout();
    assert_eq!(due, Some(drive.now + Duration::from_millis(1)));
}

/// Trap 9: an end of a dead incarnation.
#[test]
fn a_late_answer_of_an_earlier_incarnation_changes_nothing() {
    let mut drive = Drive::new(Strategy::OneForAll, ["a", "b"].map(permanent));
    drive.up(&["a", "b"]);
    drive.exited("a", 1);
    drive.exited("b", 1);
    drive.now += SECOND;
    drive.started("a", 2);
    assert_eq!(drive.started("b", 2), Vec::<String>::new());
    assert!(drive.exited("a", 1).is_empty());
    assert!(drive.started("b", 1).is_empty());
    assert_eq!(drive.machine.next_timeout(), None);
}

/// Numbering goes on where an earlier run of the supervisor left off.
#[test]
fn generations_continue_after_those_given_out_before() {
    let mut seasoned = permanent("a");
    seasoned.last_generation = Generation(7);
    let mut drive = Drive::new(Strategy::OneForOne, [seasoned]);
    assert_eq!(drive.step(Input::Boot), ["start a#8"]);
}

#[test]
fn without_a_deadline_a_child_gets_its_own_limit() {
    for (shutdown, patience) in [
        (Shutdown::Kill, Some(Duration::ZERO)),
        (Shutdown::Timeout(3 * SECOND), Some(3 * SECOND)),
        (Shutdown::Infinite, None),
    ] {
        let child = plan("a", Restart::Permanent, shutdown);
        let mut drive = Drive::new(Strategy::OneForOne, [child]);
        drive.up(&["a"]);
        assert_eq!(drive.stop_order(None).patience, patience);
    }
}

/// Everybody's patience and grace together fit into what is left.
#[test]
fn a_deadline_is_divided_among_those_who_are_left() {
    let ids = ["a", "b", "c", "d"];
    let mut drive = Drive::new(Strategy::OneForOne, ids.map(permanent));
    drive.up(&ids);
    let total = 2 * SECOND;
    let end = drive.now + total;
    let mut order = drive.stop_order(Some(total));
    for id in ["d", "c", "b", "a"] {
        // Everyone takes all it may.
        let spent = order.patience.unwrap_or(total) + order.grace;
        assert!(!order.grace.is_zero(), "{id} has time to die");
        drive.now += spent;
        assert!(drive.now <= end, "{id} overran");
        let input = Input::Exited {
            child: id.into(),
            generation: Generation(1),
            reason: Arc::new(ExitReason::Abandoned),
            parting: Parting::Abandoned,
            judged: judged(),
        };
        let actions = drive.machine.step(drive.now, input);
        for action in actions {
            if let Action::Stop { order: next, .. } = action {
                order = next;
            }
        }
    }
    assert!(drive.machine.has_ended());
}

#[test]
fn a_shorter_deadline_tightens_the_order_and_a_longer_one_does_not() {
    let mut drive = Drive::new(Strategy::OneForOne, [permanent("a")]);
    drive.up(&["a"]);
    let first = drive.stop_order(Some(60 * SECOND));
    let second = drive.stop_order(Some(10 * SECOND));
    assert!(second.patience < first.patience);
    let deadline = Some(drive.now + 30 * SECOND);
    assert!(drive.step(Input::Shutdown { deadline }).is_empty());
}

#[test]
fn an_escalation_goes_through_while_a_group_is_being_stopped() {
    let mut drive = Drive::new(Strategy::OneForAll, ["a", "b", "c"].map(permanent));
    drive.up(&["a", "b", "c"]);
    assert_eq!(drive.exited("a", 1), ["stop c#1"]);
    let escalating = Input::Exited {
        child: "b".into(),
        generation: Generation(1),
        reason: Arc::new(ExitReason::Killed),
        parting: Parting::Graceful,
        judged: Judged {
            verdict: Verdict::Escalate,
            random: 0.0,
        },
    };
    drive.step(escalating);
    let input = Input::Exited {
        child: "c".into(),
        generation: Generation(1),
        reason: Arc::new(ExitReason::Stopped { reason: None }),
        parting: Parting::Graceful,
        judged: judged(),
    };
    let actions = drive.machine.step(drive.now, input);
    assert!(actions.iter().any(|action| matches!(
        action,
        Action::Exit(ShutdownCause::Escalated { child, .. }) if child.as_str() == "b"
    )));
}

fn all_significant(ids: &[&str]) -> Drive {
    let rules = Rules {
        strategy: Strategy::OneForOne,
        intensity: Intensity::new(5, 5 * SECOND),
        auto_shutdown: AutoShutdown::AllSignificant,
        on_exhausted: OnExhausted::Shutdown,
        population: Population::Fixed,
    };
    let plans = ids.iter().map(|id| ChildPlan {
        significant: true,
        ..plan(id, Restart::Transient, Shutdown::Infinite)
    });
    Drive::by(rules, plans)
}

fn ended_well(drive: &mut Drive, id: &str, generation: u64) -> Vec<String> {
    let reason = ExitReason::Stopped { reason: None };
    drive.step(exit(id, generation, reason))
}

/// OTP's calls end a child before they return; an end meanwhile is looked at afterwards.
#[test]
fn a_significant_child_that_is_being_ended_by_request_is_not_waited_for() {
    let mut drive = all_significant(&["a", "b"]);
    drive.up(&["a", "b"]);
    assert_eq!(
        drive.step(Input::Request(Ticket(1), Request::Terminate("a".into()))),
        ["stop a#1"]
    );
    assert_eq!(ended_well(&mut drive, "b", 1), Vec::<String>::new());
    let ended = ended_well(&mut drive, "a", 1);
    assert!(ended.contains(&"exit".to_owned()), "{ended:?}");
}

/// The same for starts that somebody waits for.
#[test]
fn the_start_of_a_significant_child_that_was_asked_for_decides_after_the_last_ones_end() {
    for fails in [true, false] {
        let mut drive = all_significant(&["a", "b"]);
        drive.up(&["a", "b"]);
        ended_well(&mut drive, "a", 1);
        assert_eq!(
            drive.step(Input::Request(Ticket(1), Request::Restart("a".into()))),
            ["start a#2"]
        );
        assert_eq!(ended_well(&mut drive, "b", 1), Vec::<String>::new());
        if fails {
            let refused = drive.step(Input::Refused {
                child: "a".into(),
                generation: Generation(2),
                refusal: StartRefusal::Failed {
                    reason: Arc::new(ExitReason::Killed),
                    judged: judged(),
                },
            });
            assert!(refused.contains(&"exit".to_owned()), "{refused:?}");
        } else {
            drive.started("a", 2);
            assert_eq!(ended_well(&mut drive, "a", 2), ["exit"]);
        }
    }
}

/// OTP's supervisor is up before it looks at an end.
#[test]
fn a_significant_child_that_ends_while_the_others_boot_ends_the_supervisor_when_it_is_ready() {
    let mut drive = all_significant(&["a", "b"]);
    assert_eq!(drive.step(Input::Boot), ["start a#1"]);
    assert_eq!(drive.started("a", 1), ["start b#1"]);
    assert_eq!(ended_well(&mut drive, "a", 1), Vec::<String>::new());
    assert_eq!(drive.started("b", 1), ["ready"]);
    assert_eq!(ended_well(&mut drive, "b", 1), ["exit"]);

    let mut any = Drive::by(
        Rules {
            auto_shutdown: AutoShutdown::AnySignificant,
            ..drive.machine.rules
        },
        ["a", "b"].map(|id| ChildPlan {
            significant: id == "a",
            ..plan(id, Restart::Transient, Shutdown::Infinite)
        }),
    );
    any.step(Input::Boot);
    any.started("a", 1);
    assert_eq!(ended_well(&mut any, "a", 1), Vec::<String>::new());
    assert_eq!(any.started("b", 1), ["ready", "stop b#1"]);
    assert_eq!(ended_well(&mut any, "b", 1), ["exit"]);
}

/// A significant child that waits for its restart, alone or with its group, counts as alive.
#[test]
fn a_significant_child_that_restarts_counts_as_alive() {
    for strategy in [Strategy::OneForOne, Strategy::RestForOne] {
        let significant = |id| ChildPlan {
            significant: true,
            backoff: Backoff::new(SECOND, SECOND)
                .jitter(Jitter::None)
                .first_immediate(false),
            ..plan(id, Restart::Transient, Shutdown::Infinite)
        };
        let rules = Rules {
            strategy,
            intensity: Intensity::new(5, 5 * SECOND),
            auto_shutdown: AutoShutdown::AllSignificant,
            on_exhausted: OnExhausted::Shutdown,
            population: Population::Fixed,
        };
        let mut drive = Drive::by(rules, ["a", "b"].map(significant));
        drive.up(&["a", "b"]);
        let ended_well = |drive: &mut Drive, id: &str, generation| {
            drive.step(Input::Exited {
                child: id.into(),
                generation: Generation(generation),
                reason: Arc::new(ExitReason::Stopped { reason: None }),
                parting: Parting::Graceful,
                judged: judged(),
            })
        };
        // The later one fails and waits; the earlier one, alone untouched, ends well.
        drive.exited("b", 1);
        assert_eq!(ended_well(&mut drive, "a", 1), Vec::<String>::new());
        drive.now += SECOND;
        assert_eq!(drive.step(Input::Tick), ["start b#2"], "{strategy:?}");
        drive.started("b", 2);
        assert_eq!(ended_well(&mut drive, "b", 2), ["exit"], "{strategy:?}");
    }
}
