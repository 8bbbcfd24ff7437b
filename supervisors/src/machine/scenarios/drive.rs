//! What the machine's tests drive it with, and say about it.
//!
//! Its own file because every file of tests here uses it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::backoff::{Backoff, Jitter};
use crate::exit::ExitReason;
use crate::id::Generation;
use crate::machine::{
    Action, Answer, ChildPlan, Denied, Input, Judged, Machine, Outcome, Population, Request, Rules,
    StartDenied, StartRefusal, Ticket,
};
use crate::policy::{
    AutoShutdown, ChildKind, Intensity, OnExhausted, Restart, Shutdown, Strategy, Verdict,
};
use crate::shutdown::{Parting, StopOrder};
use crate::snapshot::NodeStatus;

pub(in crate::machine) const SECOND: Duration = Duration::from_secs(1);

pub(in crate::machine) fn plan(id: &str, restart: Restart, shutdown: Shutdown) -> ChildPlan {
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

pub(in crate::machine) fn rules_of(strategy: Strategy, max_restarts: u32) -> Rules {
    Rules {
        strategy,
        intensity: Intensity::new(max_restarts, 5 * SECOND),
        auto_shutdown: AutoShutdown::Never,
        on_exhausted: OnExhausted::Shutdown,
        population: Population::Fixed,
    }
}

pub(in crate::machine) fn exit(child: &str, generation: u64, reason: ExitReason) -> Input {
    Input::Exited {
        child: child.into(),
        generation: Generation(generation),
        reason: Arc::new(reason),
        parting: Parting::Graceful,
        judged: judged(),
    }
}

pub(in crate::machine) fn judged() -> Judged {
    Judged {
        verdict: Verdict::Default,
        random: 1.0,
    }
}

pub(in crate::machine) struct Drive {
    pub(in crate::machine) machine: Machine,
    pub(in crate::machine) now: Instant,
}

impl Drive {
    pub(in crate::machine) fn new(
        strategy: Strategy,
        plans: impl IntoIterator<Item = ChildPlan>,
    ) -> Self {
        let rules = Rules {
            strategy,
            intensity: Intensity::new(5, 5 * SECOND),
            auto_shutdown: AutoShutdown::Never,
            on_exhausted: OnExhausted::Shutdown,
            population: Population::Fixed,
        };
        Self::by(rules, plans)
    }

    pub(in crate::machine) fn by(rules: Rules, plans: impl IntoIterator<Item = ChildPlan>) -> Self {
        Self {
            machine: Machine::new(rules, plans),
            now: Instant::now(),
        }
    }

    /// What the machine wants done, in short.
    pub(in crate::machine) fn step(&mut self, input: Input) -> Vec<String> {
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

    pub(in crate::machine) fn started(&mut self, child: &str, generation: u64) -> Vec<String> {
        self.step(Input::Started {
            child: child.into(),
            generation: Generation(generation),
        })
    }

    pub(in crate::machine) fn exited(&mut self, child: &str, generation: u64) -> Vec<String> {
        self.step(exit(child, generation, ExitReason::Killed))
    }

    pub(in crate::machine) fn stopped(&mut self, child: &str, generation: u64) -> Vec<String> {
        self.step(exit(
            child,
            generation,
            ExitReason::Stopped { reason: None },
        ))
    }

    /// What is reported, by name.
    pub(in crate::machine) fn reports(&mut self, input: Input) -> Vec<&'static str> {
        let actions = self.machine.step(self.now, input);
        let kinds = actions.iter().filter_map(|action| match action {
            Action::Notice { kind, .. } => Some(kind.name()),
            _ => None,
        });
        kinds.collect()
    }

    pub(in crate::machine) fn statuses(&self) -> Vec<(String, NodeStatus)> {
        let views = self.machine.view(self.now);
        views
            .map(|view| (view.plan.id.to_string(), view.status))
            .collect()
    }

    pub(in crate::machine) fn refused(
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
    pub(in crate::machine) fn failed(&mut self, child: &str, generation: u64) -> Vec<String> {
        let failed = StartRefusal::Failed {
            reason: Arc::new(ExitReason::Killed),
            judged: judged(),
        };
        self.refused(child, generation, failed)
    }

    pub(in crate::machine) fn request(&mut self, ticket: u64, request: Request) -> Vec<String> {
        self.step(Input::Request(Ticket(ticket), request))
    }

    /// Boots everybody in order.
    pub(in crate::machine) fn up(&mut self, ids: &[&str]) {
        self.step(Input::Boot);
        for id in ids {
            self.started(id, 1);
        }
    }

    pub(in crate::machine) fn stop_order(&mut self, deadline: Option<Duration>) -> StopOrder {
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
