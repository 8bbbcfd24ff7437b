//! The guide's second table: when a child's end is the supervisor's.

use std::sync::Arc;

use super::table;
use crate::event::SupervisorEventKind;
use crate::exit::{ExitReason, ShutdownCause};
use crate::id::Generation;
use crate::machine::scenarios::{Drive, SECOND, judged, plan, rules_of};
use crate::machine::{Action, ChildPlan, Input, Judged, Request, Rules, StartRefusal, Ticket};
use crate::policy::{AutoShutdown, OnExhausted, Restart, Shutdown, Strategy, Verdict};
use crate::shutdown::Parting;
use crate::snapshot::NodeStatus;

/// What a supervisor is asked to do by one row of the second table, and what it then came to.
struct Trial {
    drive: Drive,
    /// How the supervisor ended, once it has decided to.
    cause: Option<ShutdownCause>,
    stopped: Vec<String>,
}

impl Trial {
    /// A supervisor whose children, all with these plans, are up.
    fn new(rules: Rules, plans: impl IntoIterator<Item = ChildPlan>) -> Self {
        let plans: Vec<ChildPlan> = plans.into_iter().collect();
        let ids: Vec<_> = plans.iter().map(|plan| plan.id.clone()).collect();
        let mut trial = Self {
            drive: Drive::by(rules, plans),
            cause: None,
            stopped: Vec::new(),
        };
        trial.step(Input::Boot);
        for id in ids {
            trial.started(id.as_str(), 1);
        }
        trial
    }

    fn step(&mut self, input: Input) {
        let actions = self.drive.machine.step(self.drive.now, input);
        for action in actions {
            match action {
                Action::Notice {
                    kind: SupervisorEventKind::Shutdown { cause },
                    ..
                } => self.cause = Some(cause),
                Action::Stop { child, .. } => self.stopped.push(child.to_string()),
                _ => {}
            }
        }
    }

    fn started(&mut self, id: &str, generation: u64) {
        self.step(Input::Started {
            child: id.into(),
            generation: Generation(generation),
        });
    }

    fn ends(&mut self, id: &str, generation: u64, verdict: Verdict, reason: ExitReason) {
        self.step(Input::Exited {
            child: id.into(),
            generation: Generation(generation),
            reason: Arc::new(reason),
            parting: Parting::Graceful,
            judged: Judged {
                verdict,
                ..judged()
            },
        });
    }

    fn fails(&mut self, id: &str, generation: u64) {
        self.ends(id, generation, Verdict::Default, ExitReason::Killed);
    }

    fn finishes(&mut self, id: &str, generation: u64) {
        let stopped = ExitReason::Stopped { reason: None };
        self.ends(id, generation, Verdict::Default, stopped);
    }

    fn refused(&mut self, id: &str, generation: u64, refusal: StartRefusal) {
        self.step(Input::Refused {
            child: id.into(),
            generation: Generation(generation),
            refusal,
        });
    }

    fn asked(&mut self, request: Request) {
        self.step(Input::Request(Ticket(1), request));
    }

    fn status(&self, id: &str) -> Option<NodeStatus> {
        let view = self.drive.machine.view_of(self.drive.now, &id.into());
        view.map(|view| view.status)
    }

    /// In the words of the table.
    fn outcome(&self) -> String {
        let Some(cause) = &self.cause else {
            return "goes on".to_owned();
        };
        let name = match cause {
            ShutdownCause::Exhausted { .. } => "Exhausted",
            ShutdownCause::AutoShutdown { .. } => "AutoShutdown",
            ShutdownCause::Escalated { .. } => "Escalated",
            ShutdownCause::StartFailed { .. } => "StartFailed",
            ShutdownCause::Requested => "Requested",
        };
        format!("ends: [`{name}`](crate::ShutdownCause::{name})")
    }
}

fn start_failed() -> StartRefusal {
    StartRefusal::Failed {
        reason: Arc::new(ExitReason::Killed),
        judged: judged(),
    }
}

/// A supervisor with one restart in its window and the rules changed.
fn with(change: impl FnOnce(&mut Rules), plans: impl IntoIterator<Item = ChildPlan>) -> Trial {
    let mut rules = rules_of(Strategy::OneForOne, 1);
    change(&mut rules);
    Trial::new(rules, plans)
}

/// Two children that can end a supervisor.
fn significant(mode: AutoShutdown, strategy: Strategy) -> Trial {
    let plans = ["a", "b"].map(|id| ChildPlan {
        significant: true,
        ..plan(id, Restart::Transient, Shutdown::Infinite)
    });
    let change = |rules: &mut Rules| {
        rules.auto_shutdown = mode;
        rules.strategy = strategy;
    };
    with(change, plans)
}

/// Does what a row says; what its last column says is asserted here.
fn trials(row: &str) -> Vec<Trial> {
    let permanent = |id| plan(id, Restart::Permanent, Shutdown::Infinite);
    let once = |id| ChildPlan {
        backoff: permanent(id).backoff.max_attempts(1),
        ..permanent(id)
    };
    let modes = [AutoShutdown::AnySignificant, AutoShutdown::AllSignificant];
    let fail_twice = |mut trial: Trial| {
        trial.fails("b", 1);
        trial.started("b", 2);
        trial.fails("b", 2);
        assert_ne!(trial.status("b"), Some(NodeStatus::Restarting));
        trial
    };
    match row {
        "one restart more than the intensity allows" => {
            vec![fail_twice(with(|_| {}, ["a", "b"].map(permanent)))]
        }
        "one restart more than `max_attempts`" => {
            let generous = |rules: &mut Rules| rules.intensity.max_restarts = 9;
            vec![fail_twice(with(generous, ["a", "b"].map(once)))]
        }
        "one of both, with [`Park`](crate::OnExhausted::Park)" => {
            let park = |rules: &mut Rules| rules.on_exhausted = OnExhausted::Park;
            let generous = |rules: &mut Rules| {
                rules.on_exhausted = OnExhausted::Park;
                rules.intensity.max_restarts = 9;
            };
            let trials = vec![
                fail_twice(with(park, ["a", "b"].map(permanent))),
                fail_twice(with(generous, ["a", "b"].map(once))),
            ];
            for trial in &trials {
                assert_eq!(trial.status("b"), Some(NodeStatus::Parked));
                assert_eq!(trial.status("a"), Some(NodeStatus::Running));
            }
            let group = |rules: &mut Rules| {
                rules.on_exhausted = OnExhausted::Park;
                rules.intensity.max_restarts = 0;
                rules.strategy = Strategy::OneForAll;
            };
            let mut trial = with(group, ["a", "b"].map(permanent));
            trial.fails("b", 1);
            trial.finishes("a", 1);
            assert_eq!(trial.status("a"), Some(NodeStatus::Parked));
            trials.into_iter().chain([trial]).collect()
        }
        "a significant child ended by itself and is not restarted, by `AnySignificant`" => {
            let mut trial = significant(AutoShutdown::AnySignificant, Strategy::OneForOne);
            trial.finishes("a", 1);
            vec![trial]
        }
        "… by `AllSignificant`, and it was the last" => {
            let mut trial = significant(AutoShutdown::AllSignificant, Strategy::OneForOne);
            trial.finishes("a", 1);
            assert_eq!(trial.outcome(), "goes on");
            trial.finishes("b", 1);
            vec![trial]
        }
        "… by `AllSignificant`, and it was not the last" => {
            let mut trial = significant(AutoShutdown::AllSignificant, Strategy::OneForOne);
            trial.finishes("a", 1);
            vec![trial]
        }
        "… by `AllSignificant`, and another waits for its restart" => {
            let slow = ["a", "b"].map(|id| ChildPlan {
                significant: true,
                backoff: permanent(id).backoff.first_immediate(false),
                ..plan(id, Restart::Transient, Shutdown::Infinite)
            });
            let all = |rules: &mut Rules| rules.auto_shutdown = AutoShutdown::AllSignificant;
            let mut trial = with(all, slow);
            trial.fails("a", 1);
            assert_eq!(trial.status("a"), Some(NodeStatus::Restarting));
            trial.finishes("b", 1);
            vec![trial]
        }
        "… was terminated by request" => {
            let by = modes.map(|mode| {
                let mut trial = significant(mode, Strategy::OneForOne);
                for id in ["a", "b"] {
                    trial.asked(Request::Terminate(id.into()));
                    trial.finishes(id, 1);
                }
                trial
            });
            by.into()
        }
        "… ended as a bystander of a group" => {
            let by = modes.map(|mode| {
                let mut trial = significant(mode, Strategy::OneForAll);
                trial.fails("a", 1);
                assert_eq!(trial.stopped, ["b"]);
                trial.finishes("b", 1);
                trial
            });
            by.into()
        }
        "a child was judged `Escalate`" => {
            let mut trial = with(|_| {}, ["a", "b"].map(permanent));
            trial.ends("b", 1, Verdict::Escalate, ExitReason::Killed);
            assert_eq!(trial.stopped, ["a"]);
            vec![trial]
        }
        "a child fails to start at the supervisor's own start" => {
            let rules = rules_of(Strategy::OneForOne, 1);
            let plans = ["a", "b", "c", "d"].map(permanent);
            let mut trial = Trial {
                drive: Drive::by(rules, plans),
                cause: None,
                stopped: Vec::new(),
            };
            trial.step(Input::Boot);
            trial.started("a", 1);
            trial.started("b", 1);
            trial.refused("c", 1, start_failed());
            trial.finishes("b", 1);
            trial.finishes("a", 1);
            assert_eq!(trial.stopped, ["b", "a"]);
            assert!(trial.drive.machine.has_ended());
            let fourth = trial.drive.machine.view(trial.drive.now).nth(3);
            assert_eq!(fourth.map(|view| view.generation), Some(Generation(0)));
            let named = |cause: &Option<ShutdownCause>| match cause {
                Some(ShutdownCause::StartFailed { child, .. }) => child.to_string(),
                _ => String::new(),
            };
            assert_eq!(named(&trial.cause), "c");
            vec![trial]
        }
        "a child fails when started by `start_child`" => {
            let mut trial = with(|_| {}, [permanent("a")]);
            trial.asked(Request::Start(permanent("b")));
            trial.refused("b", 1, start_failed());
            assert_eq!(trial.status("b"), None);
            vec![trial]
        }
        "a child fails when started by `restart_child`" => {
            let mut trial = with(|_| {}, [permanent("a")]);
            trial.asked(Request::Terminate("a".into()));
            trial.finishes("a", 1);
            trial.asked(Request::Restart("a".into()));
            trial.refused("a", 2, start_failed());
            assert_eq!(trial.status("a"), Some(NodeStatus::Idle));
            vec![trial]
        }
        "… that had asked to be postponed, and fails then" => {
            let mut trial = with(|_| {}, [permanent("a")]);
            trial.asked(Request::Start(permanent("b")));
            trial.refused("b", 1, StartRefusal::Postponed(SECOND));
            trial.drive.now += SECOND;
            trial.step(Input::Tick);
            trial.refused("b", 2, start_failed());
            assert_eq!(trial.status("b"), Some(NodeStatus::Restarting));
            assert_eq!(trial.drive.machine.window(trial.drive.now), (1, 1));
            vec![trial]
        }
        other => panic!("nobody knows how to do {other:?}"),
    }
}

#[test]
fn the_supervisor_ends_when_the_guide_says_and_for_that_cause() {
    let rows = table("# Does the supervisor end?");
    assert_eq!(rows.len(), 14);
    for row in rows {
        for trial in trials(row[0]) {
            assert_eq!(row[1], trial.outcome(), "{}", row[0]);
        }
    }
}
