//! In which order children are stopped and started.
//!
//! Boot, group restart and end are all sequences over places in the start order; a restart under
//! one_for_one needs none, and the children of a dynamic supervisor are ended all at once.
//!
//! Invariants: listed children stop one after the other in reverse start order and start one after the
//! other in start order; a failure of an earlier child widens the sequence and keeps the longer
//! delay; temporary children of a group are not started again.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::child::Phase;
use super::roster::Rank;
use super::{Action, Machine, Mode, Population};
use crate::event::SupervisorEventKind;
use crate::exit::ExitReason;
use crate::id::ChildId;
use crate::policy::Shutdown;
use crate::shutdown::StopOrder;
use crate::time::later;

/// How long a killed child may take to die when nothing else limits it.
const GRACE: Duration = Duration::from_secs(1);
/// What is set aside for each child that has still to be ended before a deadline.
const RESERVE: Duration = Duration::from_millis(250);

#[derive(Debug, Clone, Copy)]
pub(super) enum Stage {
    Stopping,
    Waiting,
    /// Everything before `next` is up, or not wanted.
    Starting {
        next: Rank,
    },
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Sequence {
    /// The first place that belongs to it; all later ones do.
    pub(super) from: Rank,
    pub(super) stage: Stage,
    /// No start before this.
    not_before: Option<Instant>,
}

impl Sequence {
    pub(super) fn boot() -> Self {
        Self {
            from: Rank::FIRST,
            stage: Stage::Starting { next: Rank::FIRST },
            not_before: None,
        }
    }

    pub(super) fn due(&self) -> Option<Instant> {
        match self.stage {
            Stage::Waiting => self.not_before,
            Stage::Stopping | Stage::Starting { .. } => None,
        }
    }

    /// Whether it is the start at this place that it waits for.
    pub(super) fn starts(&self, rank: Rank) -> bool {
        matches!(self.stage, Stage::Starting { next } if next == rank)
    }

    /// Nothing is started before this either.
    pub(super) fn wait_until(&mut self, until: Instant) {
        self.not_before = self.not_before.max(Some(until));
    }

    /// The child at this place does not want to be started.
    pub(super) fn pass(&mut self, rank: Rank) {
        if let Stage::Starting { next } = &mut self.stage
            && *next == rank
        {
            *next = rank.next();
        }
    }
}

impl Machine {
    /// Plans the restart of everything from a place on. Returns who is going to be restarted.
    pub(super) fn plan_group(&mut self, from: Rank, due: Instant) -> Vec<ChildId> {
        let mut from = from;
        let mut not_before = due;
        if let Some(known) = &self.sequence {
            let remaining = match known.stage {
                Stage::Stopping | Stage::Waiting => {
                    from = from.min(known.from);
                    known.not_before
                }
                // Those before the failed one are up already and stay so.
                Stage::Starting { .. } => None,
            };
            not_before = not_before.max(remaining.unwrap_or(due));
        }
        let mut members = Vec::new();
        for at in self.children.from(from) {
            let child = &mut self.children[at];
            // During the boot a temporary child may still have to be up for the first time.
            if child.gone || child.held || (child.is_temporary() && child.been_up) {
                continue;
            }
            child.planned = true;
            if let Phase::Waiting { until } = child.phase() {
                not_before = not_before.max(until);
                self.children.set_phase(at, Phase::Idle);
            }
            members.push(at);
        }
        for at in &members {
            self.settle_restarting(*at, not_before);
        }
        self.sequence = Some(Sequence {
            from,
            stage: Stage::Stopping,
            not_before: Some(not_before),
        });
        let ids = members
            .into_iter()
            .map(|at| self.children[at].plan.id.clone());
        ids.collect()
    }

    /// Has everything from a place on stopped and left without a process.
    pub(super) fn park_group(&mut self, from: Rank) {
        let mut from = from;
        if let Some(known) = &self.sequence
            && matches!(known.stage, Stage::Stopping | Stage::Waiting)
        {
            from = from.min(known.from);
        }
        for at in self.children.from(from) {
            self.park(at);
        }
        self.sequence = Some(Sequence {
            from,
            stage: Stage::Stopping,
            not_before: None,
        });
    }

    /// Has the child, once without a process, left alone.
    pub(super) fn park(&mut self, at: usize) {
        let child = &mut self.children[at];
        child.parked = true;
        child.held = true;
        child.failed = false;
        self.held.insert(at);
        let planned = std::mem::take(&mut self.children[at].planned);
        let awaited = match self.children[at].phase() {
            Phase::Waiting { .. } => {
                self.children.set_phase(at, Phase::Idle);
                true
            }
            Phase::Idle => planned,
            // Stopped in its turn, and settled then.
            Phase::Starting { .. } | Phase::Running { .. } | Phase::Stopping => false,
        };
        if awaited {
            self.refuse_asked(at, &Arc::new(ExitReason::Cancelled));
            self.settle_down(at);
        }
    }

    /// Starts those whose wait is over.
    pub(super) fn start_due(&mut self, now: Instant) {
        if !matches!(self.mode, Mode::Up) {
            return;
        }
        while let Some(at) = self.children.due(now) {
            self.start(now, at);
        }
    }

    /// Goes on with what is under way, as far as it can.
    pub(super) fn advance(&mut self, now: Instant) {
        match &mut self.mode {
            Mode::Up => self.advance_sequence(now),
            Mode::Ending { cause, told, .. } => {
                let cause = cause.clone();
                let told = std::mem::replace(told, true);
                let none_left = match self.rules.population {
                    Population::Fixed => self.none_left_from(now, Rank::FIRST),
                    Population::Dynamic { .. } => {
                        if !told {
                            self.stop_all(now);
                        }
                        self.children.live_count() == 0
                    }
                };
                if none_left {
                    self.mode = Mode::Ended;
                    self.out.push(Action::Exit(cause));
                }
            }
            Mode::Ended => {}
        }
    }

    fn advance_sequence(&mut self, now: Instant) {
        while let Some(sequence) = self.sequence {
            let from = sequence.from;
            let not_before = sequence.not_before;
            let stage = match sequence.stage {
                Stage::Stopping if self.none_left_from(now, from) => Stage::Waiting,
                Stage::Waiting if not_before.is_none_or(|due| due <= now) => {
                    Stage::Starting { next: from }
                }
                Stage::Starting { next } => {
                    let Some(at) = self.children.first_from(next) else {
                        self.sequence = None;
                        if std::mem::take(&mut self.booting) {
                            self.notice_self(SupervisorEventKind::Ready);
                            self.out.push(Action::Ready);
                        }
                        return;
                    };
                    let child = &self.children[at];
                    let rank = child.rank;
                    match child.phase() {
                        Phase::Running { .. } => {}
                        Phase::Idle if child.held => {}
                        Phase::Idle => {
                            self.start(now, at);
                            if let Some(sequence) = &mut self.sequence {
                                sequence.stage = Stage::Starting { next: rank };
                            }
                            return;
                        }
                        Phase::Starting { .. } | Phase::Stopping | Phase::Waiting { .. } => return,
                    }
                    Stage::Starting { next: rank.next() }
                }
                Stage::Stopping | Stage::Waiting => return,
            };
            if let Some(sequence) = &mut self.sequence {
                sequence.stage = stage;
            }
        }
    }

    /// Whether nobody lives from this place on; tells the last one who does to stop.
    fn none_left_from(&mut self, now: Instant, from: Rank) -> bool {
        let Some(at) = self.children.last_live_from(from) else {
            return true;
        };
        if !matches!(self.children[at].phase(), Phase::Stopping) {
            self.set_stopping(now, at);
            self.order_stop(now, at);
        }
        false
    }

    /// The child is about to be told to stop: how long it was up is known only now.
    pub(super) fn set_stopping(&mut self, now: Instant, at: usize) {
        let child = &mut self.children[at];
        if child.has_proved(now) {
            child.attempts = 0;
        }
        self.children.set_phase(at, Phase::Stopping);
    }

    /// Tells everybody at once; each has the whole time.
    fn stop_all(&mut self, now: Instant) {
        for at in self.children.live() {
            if !matches!(self.children[at].phase(), Phase::Stopping) {
                self.set_stopping(now, at);
            }
            self.order_stop(now, at);
        }
    }

    pub(super) fn start(&mut self, now: Instant, at: usize) {
        self.children.set_phase(at, Phase::Starting { since: now });
        let child = &mut self.children[at];
        child.generation = child.generation.next();
        child.planned = false;
        child.parked = false;
        if child.started {
            child.restarts += 1;
        }
        child.started = true;
        self.out.push(Action::Start {
            child: child.plan.id.clone(),
            generation: child.generation,
            attempt: child.attempt(),
            previous: child.last_exit.clone(),
        });
    }

    pub(super) fn order_stop(&mut self, now: Instant, at: usize) {
        let order = self.order(now, at);
        let child = &self.children[at];
        self.out.push(Action::Stop {
            child: child.plan.id.clone(),
            generation: child.generation,
            order,
        });
    }

    /// Divides what is left of the deadline: a child gets its own limit, but leaves a reserve for
    /// its own kill and for each child that has still to be ended after it.
    fn order(&self, now: Instant, at: usize) -> StopOrder {
        let shutdown = self.children[at].plan.shutdown;
        let own = match shutdown {
            Shutdown::Kill => Some(Duration::ZERO),
            Shutdown::Timeout(limit) | Shutdown::Drain(limit) => Some(limit),
            Shutdown::Infinite => None,
        };
        let drain = matches!(shutdown, Shutdown::Drain(_));
        let (last, deadline) = match &self.mode {
            Mode::Up | Mode::Ended => (false, None),
            Mode::Ending { deadline, .. } => (true, *deadline),
        };
        let Some(deadline) = deadline else {
            return StopOrder {
                patience: own,
                grace: GRACE,
                // A sub-supervisor shares out its limit as it would a total.
                deadline: own.map(|own| later(now, own)),
                last,
                drain,
            };
        };
        let left = deadline.saturating_duration_since(now);
        let in_turn = match self.rules.population {
            Population::Fixed => self.children.live_count(),
            Population::Dynamic { .. } => 1,
        };
        let live = u32::try_from(in_turn).unwrap_or(u32::MAX).max(1);
        let reserve = RESERVE.min(left / live.saturating_mul(4));
        let cap = left.saturating_sub(reserve.saturating_mul(live));
        let patience = own.map_or(cap, |own| own.min(cap));
        let grace = left
            .saturating_sub(patience)
            .saturating_sub(reserve.saturating_mul(live - 1));
        StopOrder {
            patience: Some(patience),
            grace: grace.min(GRACE),
            deadline: Some(later(now, patience)),
            last,
            drain,
        }
    }
}
