//! What a supervisor decides: a pure machine.
//!
//! It has its own floor because restart semantics are worth testing with plain values: it knows no
//! actor, no clock, no timer and no random number. The shell tells it what happened and when, and
//! carries out what it answers.
//!
//! ```text
//! child     Idle ─Start→ Starting ─started→ Running ─told→ Stopping ─ended→ Idle
//!                            └─postponed, failed─┐   └─ended─┐
//!                                     Waiting ←──┴───────────┘
//! sequence  Stopping (reverse order) → Waiting (for the delay) → Starting (in order)
//! machine   Up → Ending (reverse order) → Ended
//! ```
//!
//! Invariants: every `Start` is answered by exactly one `Refused`, or by `Started` and then
//! `Exited`; a child has one incarnation at a time; a restart is booked before it is acted upon; an
//! answer for another incarnation than the present one changes nothing; one deadline is asked for
//! by `next_timeout`, so there are no timers that could be stale.

mod admin;
mod child;
mod decide;
mod reconfigure;
mod roster;
mod sequence;
mod view;
mod window;

#[cfg(test)]
mod attempts;
#[cfg(test)]
mod ends;
#[cfg(test)]
mod kinds;
#[cfg(test)]
mod parking;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod requests;
#[cfg(test)]
mod scenarios;
#[cfg(test)]
mod tables;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub(crate) use admin::{Answer, Denied, Outcome, Request, StartDenied, Ticket};
pub(crate) use child::ChildPlan;
use child::{Child, Phase};
pub(crate) use reconfigure::Unchanged;
use roster::{Rank, Roster};
use sequence::Sequence;
pub(crate) use view::ChildView;
use window::Window;

use crate::event::SupervisorEventKind;
use crate::exit::{ExitReason, ShutdownCause};
use crate::id::{ChildId, Generation};
use crate::policy::{AutoShutdown, Intensity, OnExhausted, Strategy, Verdict};
use crate::shutdown::{Parting, StopOrder};

/// Why an incarnation did not become ready.
#[derive(Debug, Clone)]
pub(crate) enum StartRefusal {
    Ignored,
    Postponed(Duration),
    Failed {
        reason: Arc<ExitReason>,
        judged: Judged,
    },
}

/// What the shell adds to an end: the verdict of the child's `classify`, and a random number.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Judged {
    pub(crate) verdict: Verdict,
    /// Within `0.0..=1.0`.
    pub(crate) random: f64,
}

/// What happened.
#[derive(Debug, Clone)]
pub(crate) enum Input {
    Boot,
    Started {
        child: ChildId,
        generation: Generation,
    },
    Refused {
        child: ChildId,
        generation: Generation,
        refusal: StartRefusal,
    },
    Exited {
        child: ChildId,
        generation: Generation,
        reason: Arc<ExitReason>,
        parting: Parting,
        judged: Judged,
    },
    /// Somebody wants something; the ticket is for the answer.
    Request(Ticket, Request),
    Tick,
    Shutdown {
        deadline: Option<Instant>,
    },
}

/// What the shell has to do, in this order.
#[derive(Debug, Clone)]
#[must_use]
pub(crate) enum Action {
    /// Report.
    Notice {
        child: Option<ChildId>,
        generation: Generation,
        kind: SupervisorEventKind,
    },
    /// Tell the child's addresses what follows.
    Settle {
        child: ChildId,
        generation: Generation,
        standing: Standing,
    },
    Start {
        child: ChildId,
        generation: Generation,
        attempt: u32,
        previous: Option<Arc<ExitReason>>,
    },
    /// May come again for one incarnation, with a tighter order.
    Stop {
        child: ChildId,
        generation: Generation,
        order: StopOrder,
    },
    /// Keep the spec of the child whose start was asked for just now.
    Admit(ChildId),
    /// Drop the child's spec; it has no process.
    Forget(ChildId),
    /// Answer whoever holds the ticket.
    Reply(Ticket, Answer),
    /// All children are up for the first time.
    Ready,
    /// End now; nothing is left to be ended.
    Exit(ShutdownCause),
}

/// What follows an end.
#[derive(Debug, Clone)]
pub(crate) enum Standing {
    Restarting { attempt: u32, next_at: Instant },
    Down(Arc<ExitReason>),
}

#[derive(Debug)]
enum Mode {
    Up,
    Ending {
        cause: ShutdownCause,
        deadline: Option<Instant>,
        /// Where everybody is told at once: they have been.
        told: bool,
    },
    Ended,
}

/// The rules of one supervisor.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules {
    pub(crate) strategy: Strategy,
    pub(crate) intensity: Intensity,
    pub(crate) auto_shutdown: AutoShutdown,
    pub(crate) on_exhausted: OnExhausted,
    pub(crate) population: Population,
}

/// Whose children they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Population {
    /// The supervisor's: listed in its spec, ended one after the other, kept without a process.
    Fixed,
    /// Those of whoever starts them: at most so many, ended all at once, forgotten with their process.
    Dynamic { max_children: Option<usize> },
}

#[derive(Debug)]
pub(crate) struct Machine {
    rules: Rules,
    children: Roster,
    window: Window,
    /// Told that the intensity is nearly used up, and not yet clear of it again.
    warned: bool,
    mode: Mode,
    /// The boot, or the restart of a group.
    sequence: Option<Sequence>,
    /// Until all children were up once.
    booting: bool,
    /// The end of a significant child, as long as it is open whether the supervisor ends with it.
    overdue: Option<(ChildId, Arc<ExitReason>)>,
    /// To be forgotten when what happened has been dealt with.
    leavers: Vec<usize>,
    /// Whose `held` is to be taken back when no sequence is under way.
    held: BTreeSet<usize>,
    out: Vec<Action>,
}

impl Machine {
    pub(crate) fn new(rules: Rules, children: impl IntoIterator<Item = ChildPlan>) -> Self {
        let mut roster = Roster::default();
        for plan in children {
            roster.add(Child::new(plan));
        }
        Self {
            rules,
            children: roster,
            window: Window::new(rules.intensity),
            warned: false,
            mode: Mode::Up,
            sequence: None,
            booting: false,
            overdue: None,
            leavers: Vec::new(),
            held: BTreeSet::new(),
            out: Vec::new(),
        }
    }

    /// Takes in what happened at `now`.
    pub(crate) fn step(&mut self, now: Instant, input: Input) -> Vec<Action> {
        match input {
            Input::Boot => {
                self.booting = true;
                self.sequence = Some(Sequence::boot());
            }
            Input::Started { child, generation } => self.on_started(now, &child, generation),
            Input::Refused {
                child,
                generation,
                refusal,
            } => self.on_refused(now, &child, generation, refusal),
            Input::Exited {
                child,
                generation,
                reason,
                parting,
                judged,
            } => self.on_exited(now, &child, generation, reason, parting, judged),
            Input::Request(ticket, request) => self.on_request(now, ticket, request),
            Input::Tick => {}
            Input::Shutdown { deadline } => self.on_shutdown(now, deadline),
        }
        self.forget();
        self.start_due(now);
        self.advance(now);
        if self.settle_overdue() {
            self.advance(now);
        }
        self.sweep();
        std::mem::take(&mut self.out)
    }

    /// Takes the emptied answer of a step back, so that the next one need not grow.
    pub(crate) fn recycle(&mut self, mut answered: Vec<Action>) {
        const KEPT: usize = 16;
        if answered.capacity() <= KEPT {
            answered.clear();
            self.out = answered;
        }
    }

    /// When `Tick` is wanted next.
    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        if !matches!(self.mode, Mode::Up) {
            return None;
        }
        let sequence = self.sequence.as_ref().and_then(Sequence::due);
        self.children.next_due().into_iter().chain(sequence).min()
    }

    /// Whether `Exit` was answered.
    #[cfg(test)]
    pub(crate) fn has_ended(&self) -> bool {
        matches!(self.mode, Mode::Ended)
    }

    fn on_started(&mut self, now: Instant, id: &ChildId, generation: Generation) {
        let Some(at) = self.present(id, generation) else {
            return;
        };
        // One that was told to stop meanwhile goes on stopping.
        if let Phase::Starting { since } = self.children[at].phase() {
            self.children.set_phase(at, Phase::Running { since: now });
            let child = &mut self.children[at];
            child.been_up = true;
            child.failed = false;
            // Its group may be on the way to stop it: it was to start it again only as one not up yet.
            if child.is_temporary() {
                child.planned = false;
            }
            let kind = match child.ended_at.take() {
                Some(ended) => SupervisorEventKind::ChildRestarted {
                    took: now.saturating_duration_since(ended),
                },
                None => SupervisorEventKind::ChildStarted {
                    took: now.saturating_duration_since(since),
                },
            };
            self.notice(at, kind);
            // One that is to be stopped in its turn answers with its end.
            if self.children[at].terminators.is_empty() {
                self.answer_asked(at, Outcome::Up(generation));
            }
        }
    }

    fn on_shutdown(&mut self, now: Instant, deadline: Option<Instant>) {
        match &mut self.mode {
            Mode::Up => {
                self.end(ShutdownCause::Requested, deadline);
                if deadline.is_some() {
                    self.tighten(now);
                }
            }
            Mode::Ending {
                deadline: known, ..
            } => {
                let tighter = match (*known, deadline) {
                    (Some(known), Some(new)) => new < known,
                    (None, Some(_)) => true,
                    (_, None) => false,
                };
                if tighter {
                    *known = deadline;
                    self.tighten(now);
                }
            }
            Mode::Ended => {}
        }
    }

    /// Holds those that are stopping already to the deadline.
    fn tighten(&mut self, now: Instant) {
        for at in self.children.live() {
            if matches!(self.children[at].phase(), Phase::Stopping) {
                self.order_stop(now, at);
            }
        }
    }

    /// Begins to end.
    fn end(&mut self, cause: ShutdownCause, deadline: Option<Instant>) {
        if !matches!(self.mode, Mode::Up) {
            return;
        }
        self.notice_self(SupervisorEventKind::Shutdown {
            cause: cause.clone(),
        });
        self.mode = Mode::Ending {
            cause,
            deadline,
            told: false,
        };
        self.sequence = None;
        for at in self.children.from(Rank::FIRST) {
            self.dismiss_asked(at);
            let child = &mut self.children[at];
            let waiting = matches!(child.phase(), Phase::Waiting { .. });
            let planned = std::mem::take(&mut child.planned);
            if waiting || (planned && matches!(child.phase(), Phase::Idle)) {
                self.children.set_phase(at, Phase::Idle);
                self.settle_down(at);
            }
        }
    }

    fn present(&self, id: &ChildId, generation: Generation) -> Option<usize> {
        self.children
            .find(id)
            .filter(|at| self.children[*at].generation == generation)
    }

    fn notice(&mut self, at: usize, kind: SupervisorEventKind) {
        let child = &self.children[at];
        self.out.push(Action::Notice {
            child: Some(child.plan.id.clone()),
            generation: child.generation,
            kind,
        });
    }

    fn notice_self(&mut self, kind: SupervisorEventKind) {
        self.out.push(Action::Notice {
            child: None,
            generation: Generation::default(),
            kind,
        });
    }

    fn settle(&mut self, at: usize, standing: Standing) {
        let child = &self.children[at];
        self.out.push(Action::Settle {
            child: child.plan.id.clone(),
            generation: child.generation,
            standing,
        });
    }

    /// It is started again, not before `next_at`.
    fn settle_restarting(&mut self, at: usize, next_at: Instant) {
        let attempt = self.children[at].attempt();
        self.settle(at, Standing::Restarting { attempt, next_at });
    }

    fn settle_down(&mut self, at: usize) {
        let reason = self.children[at].last_exit.clone();
        let reason = reason.unwrap_or_else(|| Arc::new(ExitReason::NoProcess));
        self.settle(at, Standing::Down(reason));
    }
}
