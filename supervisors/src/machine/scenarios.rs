//! Single decisions of the machine, with plain values.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{
    Action, Answer, ChildPlan, Denied, Input, Judged, Machine, Outcome, Population, Request, Rules,
    StartDenied, StartRefusal, Ticket,
};
use crate::backoff::{Backoff, Jitter};
use crate::exit::{ExitReason, ShutdownCause};
use crate::id::Generation;
use crate::policy::{
    AutoShutdown, ChildKind, Intensity, OnExhausted, Restart, Shutdown, Strategy, Verdict,
};
use crate::shutdown::{Parting, StopOrder};
use crate::snapshot::NodeStatus;

pub(super) const SECOND: Duration = Duration::from_secs(1);

pub(super) fn plan(id: &str, restart: Restart, shutdown: Shutdown) -> ChildPlan {
    ChildPlan {
        id: id.into(),
        kind: ChildKind::Worker,
        restart,
        significant: false,
        shutdown,
        backoff: Backoff::new(SECOND, SECOND).jitter(Jitter::None),
        last_generation: Generation(0),
    }
}

pub(super) fn rules_of(strategy: Strategy, max_restarts: u32) -> Rules {
    Rules {
        strategy,
        intensity: Intensity::new(max_restarts, 5 * SECOND),
        auto_shutdown: AutoShutdown::Never,
        on_exhausted: OnExhausted::Shutdown,
        population: Population::Fixed,
    }
}

pub(super) fn exit(child: &str, generation: u64, reason: ExitReason) -> Input {
    Input::Exited {
        child: child.into(),
        generation: Generation(generation),
        reason: Arc::new(reason),
        parting: Parting::Graceful,
        judged: judged(),
    }
}

pub(super) fn judged() -> Judged {
    Judged {
        verdict: Verdict::Default,
        random: 1.0,
    }
}

pub(super) struct Drive {
    pub(super) machine: Machine,
    pub(super) now: Instant,
}

impl Drive {
    pub(super) fn new(strategy: Strategy, plans: impl IntoIterator<Item = ChildPlan>) -> Self {
        let rules = Rules {
            strategy,
            intensity: Intensity::new(5, 5 * SECOND),
            auto_shutdown: AutoShutdown::Never,
            on_exhausted: OnExhausted::Shutdown,
            population: Population::Fixed,
        };
        Self::by(rules, plans)
    }

    pub(super) fn by(rules: Rules, plans: impl IntoIterator<Item = ChildPlan>) -> Self {
        Self {
            machine: Machine::new(rules, plans),
            now: Instant::now(),
        }
    }

    /// What the machine wants done, in short.
    pub(super) fn step(&mut self, input: Input) -> Vec<String> {
        let actions = self.machine.step(self.now, input);
        actions
            .iter()
            .filter_map(|action| match action {
                Action::Start {
                    child, generation, ..
                } => Some(format!("start {child}#{generation}")),
                Action::Stop {
                    child, generation, ..
                } => Some(format!("stop {child}#{generation}")),
                Action::Ready => Some("ready".to_owned()),
                Action::Exit(_) => Some("exit".to_owned()),
                Action::Admit(child) => Some(format!("admit {child}")),
                Action::Forget(child) => Some(format!("forget {child}")),
                Action::Reply(Ticket(ticket), answer) => {
                    Some(format!("{ticket}: {}", short(answer)))
                }
                Action::Notice { .. } | Action::Settle { .. } => None,
            })
            .collect()
    }

    pub(super) fn started(&mut self, child: &str, generation: u64) -> Vec<String> {
        self.step(Input::Started {
            child: child.into(),
            generation: Generation(generation),
        })
    }

    pub(super) fn exited(&mut self, child: &str, generation: u64) -> Vec<String> {
        self.step(exit(child, generation, ExitReason::Killed))
    }

    pub(super) fn stopped(&mut self, child: &str, generation: u64) -> Vec<String> {
        self.step(exit(
            child,
            generation,
            ExitReason::Stopped { reason: None },
        ))
    }

    /// What is reported, by name.
    pub(super) fn reports(&mut self, input: Input) -> Vec<&'static str> {
        let actions = self.machine.step(self.now, input);
        let kinds = actions.iter().filter_map(|action| match action {
            Action::Notice { kind, .. } => Some(kind.name()),
            _ => None,
        });
        kinds.collect()
    }

    pub(super) fn statuses(&self) -> Vec<(String, NodeStatus)> {
        let views = self.machine.view(self.now);
        views
            .map(|view| (view.plan.id.to_string(), view.status))
            .collect()
    }

    pub(super) fn refused(
        &mut self,
        child: &str,
        generation: u64,
        refusal: StartRefusal,
    ) -> Vec<String> {
        self.step(Input::Refused {
            child: child.into(),
            generation: Generation(generation),
            refusal,
        })
    }

    /// The child's start fails.
    pub(super) fn failed(&mut self, child: &str, generation: u64) -> Vec<String> {
        let failed = StartRefusal::Failed {
            reason: Arc::new(ExitReason::Killed),
            judged: judged(),
        };
        self.refused(child, generation, failed)
    }

    pub(super) fn request(&mut self, ticket: u64, request: Request) -> Vec<String> {
        self.step(Input::Request(Ticket(ticket), request))
    }

    /// Boots everybody in order.
    pub(super) fn up(&mut self, ids: &[&str]) {
        self.step(Input::Boot);
        for id in ids {
            self.started(id, 1);
        }
    }

    fn stop_order(&mut self, deadline: Option<Duration>) -> StopOrder {
        let deadline = deadline.map(|total| self.now + total);
        let actions = self.machine.step(self.now, Input::Shutdown { deadline });
        let order = actions.iter().find_map(|action| match action {
            Action::Stop { order, .. } => Some(*order),
            Action::Start { .. }
            | Action::Ready
            | Action::Exit(_)
            | Action::Admit(_)
            | Action::Forget(_)
            | Action::Reply(..)
            | Action::Notice { .. }
            | Action::Settle { .. } => None,
        });
        order.expect("somebody is told to stop")
    }
}

/// An answer in short.
fn short(answer: &Answer) -> String {
    match answer {
        Answer::Start(Ok((_, outcome))) | Answer::Restart(Ok((_, outcome))) => match outcome {
            Outcome::Up(generation) => format!("up #{generation}"),
            Outcome::Ignored => "ignored".to_owned(),
            Outcome::Postponed(_) => "postponed".to_owned(),
        },
        Answer::Start(Err(denied)) => match denied {
            StartDenied::Started(_, generation) => format!("already started #{generation}"),
            StartDenied::Present => "already present".to_owned(),
            StartDenied::TooMany(limit) => format!("not more than {limit}"),
            StartDenied::Failed(_) => "failed".to_owned(),
            StartDenied::ShuttingDown => "shutting down".to_owned(),
        },
        Answer::Restart(Err(error)) => match error {
            Denied::NotFound => "not found".to_owned(),
            Denied::Running => "running".to_owned(),
            Denied::Restarting => "restarting".to_owned(),
            Denied::Failed(_) => "failed".to_owned(),
            Denied::Crowded(limit) => format!("not more than {limit}"),
            Denied::ShuttingDown => "shutting down".to_owned(),
        },
        Answer::Terminate(Ok(())) => "terminated".to_owned(),
        Answer::Terminate(Err(error)) => format!("{error:?}"),
        Answer::Delete(Ok(())) => "deleted".to_owned(),
        Answer::Delete(Err(error)) => format!("{error:?}"),
        Answer::Reconfigure(Ok(())) => "reconfigured".to_owned(),
        Answer::Reconfigure(Err(unchanged)) => format!("{unchanged:?}"),
    }
}

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
