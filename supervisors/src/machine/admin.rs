//! What the machine answers when somebody adds, ends, revives or deletes a child.
//!
//! Apart from `decide` because nothing here is caused by an end: these are requests, each with a
//! ticket, and the semantics are those of OTP's `supervisor`.
//!
//! ```text
//! start      unknown id ─→ Starting ─up→ answered        ─failed→ answered, forgotten
//! restart    Idle       ─→ Starting ─up→ answered        ─failed→ answered, Idle
//! terminate  live       ─→ Stopping ─ended→ answered     no process: answered at once
//! delete     Idle       ─→ forgotten
//! ```
//!
//! Invariants: each ticket is answered exactly once, at the latest when the supervisor has ended; a
//! start that somebody asked for costs no intensity, however it goes; what was terminated stays down
//! until it is restarted by request or by a group restart that is planned after the answer; while a
//! group restarts, whatever is started in its range takes its turn.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::child::{Child, ChildPlan, Phase};
use super::reconfigure::Unchanged;
use super::sequence::Stage;
use super::{Action, Machine, Mode, Population, Rules};
use crate::admin::Counts;
use crate::exit::ExitReason;
use crate::id::{ChildId, Generation};

/// Which request an answer belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Ticket(pub(crate) u64);

/// What somebody wants of the supervisor.
#[derive(Debug, Clone)]
pub(crate) enum Request {
    Start(ChildPlan),
    Terminate(ChildId),
    Restart(ChildId),
    Delete(ChildId),
    Reconfigure(Rules, Vec<ChildPlan>),
}

#[derive(Debug, Clone)]
pub(crate) enum Answer {
    Start(Result<(ChildId, Outcome), StartDenied>),
    Terminate(Result<(), Denied>),
    Restart(Result<(ChildId, Outcome), Denied>),
    Delete(Result<(), Denied>),
    Reconfigure(Result<(), Unchanged>),
}

/// What became of a start that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Up(Generation),
    Ignored,
    Postponed(Duration),
}

#[derive(Debug, Clone)]
pub(crate) enum StartDenied {
    /// It has a process, or is going to be restarted.
    Started(ChildId, Generation),
    /// Its spec is there, without a process.
    Present,
    /// There are as many children as there may be.
    TooMany(usize),
    Failed(Arc<ExitReason>),
    ShuttingDown,
}

/// Why a child that was named is left as it is. Whoever named it knows its id.
#[derive(Debug, Clone)]
pub(crate) enum Denied {
    NotFound,
    /// It has a process.
    Running,
    /// It is going to be restarted.
    Restarting,
    /// It was to start and did not.
    Failed(Arc<ExitReason>),
    /// So many wait for its end already. Said by the shell, which has them share a ticket.
    Crowded(usize),
    ShuttingDown,
}

/// Somebody waits for a child's start.
#[derive(Debug, Clone, Copy)]
pub(super) enum Asked {
    /// It is new; should the start fail, it is forgotten.
    Add(Ticket),
    /// It was idle; should the start fail, it is so again.
    Revive(Ticket),
}

/// A child as OTP's calls see it.
enum Presence {
    Down,
    Restarting,
    Running,
}

impl Machine {
    pub(super) fn on_request(&mut self, now: Instant, ticket: Ticket, request: Request) {
        match request {
            Request::Start(plan) => {
                if let Err(denied) = self.add(now, ticket, plan) {
                    self.reply(ticket, Answer::Start(Err(denied)));
                }
            }
            Request::Terminate(id) => match self.terminate(now, ticket, &id) {
                Ok(true) => self.reply(ticket, Answer::Terminate(Ok(()))),
                Ok(false) => {}
                Err(error) => self.reply(ticket, Answer::Terminate(Err(error))),
            },
            Request::Restart(id) => {
                if let Err(error) = self.revive(now, ticket, &id) {
                    self.reply(ticket, Answer::Restart(Err(error)));
                }
            }
            Request::Delete(id) => {
                let deleted = self.delete(&id);
                self.reply(ticket, Answer::Delete(deleted));
            }
            Request::Reconfigure(rules, plans) => {
                let changed = self.reconfigure(rules, plans);
                self.reply(ticket, Answer::Reconfigure(changed));
            }
        }
    }

    /// How many children there are, and of which kinds.
    pub(crate) fn counts(&self) -> Counts {
        self.children.counts()
    }

    fn add(&mut self, now: Instant, ticket: Ticket, plan: ChildPlan) -> Result<(), StartDenied> {
        if !matches!(self.mode, Mode::Up) {
            return Err(StartDenied::ShuttingDown);
        }
        if let Some(at) = self.children.find(&plan.id) {
            return Err(match self.presence(at) {
                Presence::Down => StartDenied::Present,
                Presence::Restarting | Presence::Running => {
                    StartDenied::Started(plan.id, self.children[at].generation)
                }
            });
        }
        if let Population::Dynamic {
            max_children: Some(limit),
        } = self.rules.population
            && self.children.len() >= limit
        {
            return Err(StartDenied::TooMany(limit));
        }
        self.out.push(Action::Admit(plan.id.clone()));
        let mut child = Child::new(plan);
        child.asked = Some(Asked::Add(ticket));
        let at = self.children.add(child);
        self.start_in_turn(now, at);
        Ok(())
    }

    /// Whether it is down already; else the answer comes with its end.
    fn terminate(&mut self, now: Instant, ticket: Ticket, id: &ChildId) -> Result<bool, Denied> {
        if matches!(self.mode, Mode::Ended) {
            return Err(Denied::ShuttingDown);
        }
        let at = self.children.find(id).ok_or(Denied::NotFound)?;
        self.held.insert(at);
        let child = &mut self.children[at];
        let planned = std::mem::take(&mut child.planned);
        child.held = true;
        child.parked = false;
        match child.phase() {
            Phase::Idle | Phase::Waiting { .. } => {
                let awaited = planned || matches!(child.phase(), Phase::Waiting { .. });
                self.refuse_asked(at, &Arc::new(ExitReason::Cancelled));
                self.retire(at);
                if awaited {
                    self.settle_down(at);
                }
                return Ok(true);
            }
            Phase::Starting { .. } | Phase::Running { .. } => {
                child.terminators.push(ticket);
                // A group that is being stopped, or a supervisor that ends, gets there in order.
                if matches!(self.mode, Mode::Up) && !self.stops_in_turn(at) {
                    self.set_stopping(now, at);
                    self.order_stop(now, at);
                }
            }
            Phase::Stopping => child.terminators.push(ticket),
        }
        Ok(false)
    }

    fn revive(&mut self, now: Instant, ticket: Ticket, id: &ChildId) -> Result<(), Denied> {
        if !matches!(self.mode, Mode::Up) {
            return Err(Denied::ShuttingDown);
        }
        let at = self.children.find(id).ok_or(Denied::NotFound)?;
        match self.presence(at) {
            Presence::Running => return Err(Denied::Running),
            Presence::Restarting => return Err(Denied::Restarting),
            Presence::Down => {}
        }
        let child = &mut self.children[at];
        child.asked = Some(Asked::Revive(ticket));
        child.held = false;
        child.attempts = 0;
        child.ended_at = child.been_up.then_some(now);
        self.settle_restarting(at, now);
        self.start_in_turn(now, at);
        Ok(())
    }

    fn delete(&mut self, id: &ChildId) -> Result<(), Denied> {
        if !matches!(self.mode, Mode::Up) {
            return Err(Denied::ShuttingDown);
        }
        let at = self.children.find(id).ok_or(Denied::NotFound)?;
        match self.presence(at) {
            Presence::Running => Err(Denied::Running),
            Presence::Restarting => Err(Denied::Restarting),
            Presence::Down => {
                self.dismiss(at);
                Ok(())
            }
        }
    }

    fn presence(&self, at: usize) -> Presence {
        let child = &self.children[at];
        match child.phase() {
            Phase::Idle if child.planned || (self.comes_in_turn(at) && !child.held) => {
                Presence::Restarting
            }
            Phase::Idle => Presence::Down,
            Phase::Waiting { .. } => Presence::Restarting,
            Phase::Starting { .. } if child.asked.is_none() && child.restarts > 0 => {
                Presence::Restarting
            }
            Phase::Stopping if child.planned => Presence::Restarting,
            Phase::Starting { .. } | Phase::Running { .. } | Phase::Stopping => Presence::Running,
        }
    }

    /// Whether a sequence has still to come to this child, to start it.
    fn comes_in_turn(&self, at: usize) -> bool {
        let rank = self.children[at].rank;
        self.sequence
            .as_ref()
            .is_some_and(|sequence| match sequence.stage {
                Stage::Stopping | Stage::Waiting => rank >= sequence.from,
                Stage::Starting { next } => rank >= next,
            })
    }

    fn stops_in_turn(&self, at: usize) -> bool {
        let rank = self.children[at].rank;
        self.sequence.as_ref().is_some_and(|sequence| {
            matches!(sequence.stage, Stage::Stopping) && rank >= sequence.from
        })
    }

    fn start_in_turn(&mut self, now: Instant, at: usize) {
        if self.comes_in_turn(at) {
            self.children[at].planned = true;
        } else {
            self.start(now, at);
        }
    }

    /// A start that somebody waits for has come to something.
    pub(super) fn answer_asked(&mut self, at: usize, outcome: Outcome) {
        let child = &mut self.children[at];
        let Some(asked) = child.asked.take() else {
            return;
        };
        let started = (child.plan.id.clone(), outcome);
        match asked {
            Asked::Add(ticket) => self.reply(ticket, Answer::Start(Ok(started))),
            Asked::Revive(ticket) => self.reply(ticket, Answer::Restart(Ok(started))),
        }
    }

    /// A start that somebody waits for has come to nothing; a new child is forgotten. Returns
    /// whether anybody waited.
    pub(super) fn refuse_asked(&mut self, at: usize, reason: &Arc<ExitReason>) -> bool {
        let answer = match self.children[at].asked.take() {
            None => return false,
            Some(Asked::Add(ticket)) => {
                self.dismiss(at);
                (
                    ticket,
                    Answer::Start(Err(StartDenied::Failed(reason.clone()))),
                )
            }
            Some(Asked::Revive(ticket)) => {
                (ticket, Answer::Restart(Err(Denied::Failed(reason.clone()))))
            }
        };
        self.reply(answer.0, answer.1);
        true
    }

    /// The supervisor ends before the start has come to anything.
    pub(super) fn dismiss_asked(&mut self, at: usize) {
        match self.children[at].asked.take() {
            Some(Asked::Add(ticket)) => {
                self.reply(ticket, Answer::Start(Err(StartDenied::ShuttingDown)));
            }
            Some(Asked::Revive(ticket)) => {
                let denied = Err(Denied::ShuttingDown);
                self.reply(ticket, Answer::Restart(denied));
            }
            None => {}
        }
    }

    /// The child that somebody wanted down is down.
    pub(super) fn answer_terminators(&mut self, at: usize) {
        for ticket in std::mem::take(&mut self.children[at].terminators) {
            self.reply(ticket, Answer::Terminate(Ok(())));
        }
    }

    fn reply(&mut self, ticket: Ticket, answer: Answer) {
        self.out.push(Action::Reply(ticket, answer));
    }

    /// Lets go of what was forgotten in this step, and has the shell do so.
    pub(super) fn forget(&mut self) {
        for at in std::mem::take(&mut self.leavers) {
            self.held.remove(&at);
            let id = self.children.remove(at);
            self.out.push(Action::Forget(id));
        }
    }

    /// Lets go of what holds for one sequence, when none is under way.
    pub(super) fn sweep(&mut self) {
        if self.sequence.is_none() {
            let children = &mut self.children;
            self.held.retain(|at| {
                let idle = matches!(children[*at].phase(), Phase::Idle);
                children[*at].held &= !idle;
                !idle
            });
        }
    }
}
