//! In which order children are stopped and started.
//!
//! Boot, group restart and end are all sequences over positions; a restart under one_for_one needs
//! none.
//!
//! Invariants: children stop one after the other in reverse start order and start one after the
//! other in start order; a failure of an earlier child widens the sequence and keeps the longer
//! delay; temporary children of a group are not started again.

use std::time::{Duration, Instant};

use super::child::Phase;
use super::{Action, Machine, Mode, Standing};
use crate::event::SupervisorEventKind;
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
        next: usize,
    },
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Sequence {
    /// The first position that belongs to it; all later ones do.
    pub(super) from: usize,
    pub(super) stage: Stage,
    /// No start before this.
    not_before: Option<Instant>,
}

impl Sequence {
    pub(super) fn boot() -> Self {
        Self {
            from: 0,
            stage: Stage::Starting { next: 0 },
            not_before: None,
        }
    }

    pub(super) fn due(&self) -> Option<Instant> {
        match self.stage {
            Stage::Waiting => self.not_before,
            Stage::Stopping | Stage::Starting { .. } => None,
        }
    }

    /// Whether it is the start of `at` that it waits for.
    pub(super) fn starts(&self, at: usize) -> bool {
        matches!(self.stage, Stage::Starting { next } if next == at)
    }

    /// Nothing is started before this either.
    pub(super) fn wait_until(&mut self, until: Instant) {
        self.not_before = self.not_before.max(Some(until));
    }

    /// The child at `at` does not want to be started.
    pub(super) fn pass(&mut self, at: usize) {
        if let Stage::Starting { next } = &mut self.stage
            && *next == at
        {
            *next += 1;
        }
    }
}

impl Machine {
    /// Plans the restart of everything from position `from`, because of the child at `failed`.
    /// Returns who is going to be restarted.
    pub(super) fn plan_group(&mut self, failed: usize, from: usize, due: Instant) -> Vec<ChildId> {
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
        let mut group = Vec::new();
        for at in from..self.children.len() {
            let child = &mut self.children[at];
            // During the boot a temporary child may still have to be up for the first time.
            if child.gone || child.held || (child.is_temporary() && child.been_up) {
                continue;
            }
            if let Phase::Waiting { until } = child.phase {
                not_before = not_before.max(until);
                child.phase = Phase::Idle;
            }
            child.planned = true;
            group.push(child.plan.id.clone());
            self.settle(at, Standing::Restarting);
        }
        debug_assert!(from <= failed);
        self.sequence = Some(Sequence {
            from,
            stage: Stage::Stopping,
            not_before: Some(not_before),
        });
        group
    }

    /// Starts those whose wait is over.
    pub(super) fn start_due(&mut self, now: Instant) {
        if !matches!(self.mode, Mode::Up) {
            return;
        }
        for at in 0..self.children.len() {
            if matches!(self.children[at].phase, Phase::Waiting { until } if until <= now) {
                self.start(now, at);
            }
        }
    }

    /// Goes on with what is under way, as far as it can.
    pub(super) fn advance(&mut self, now: Instant) {
        match &self.mode {
            Mode::Up => self.advance_sequence(now),
            Mode::Ending { cause, .. } => {
                let cause = cause.clone();
                if self.none_left_from(now, 0) {
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
                Stage::Starting { next } if next == self.children.len() => {
                    self.sequence = None;
                    if std::mem::take(&mut self.booting) {
                        self.notice_self(SupervisorEventKind::Ready);
                        self.out.push(Action::Ready);
                    }
                    return;
                }
                Stage::Starting { next } => {
                    let child = &self.children[next];
                    match child.phase {
                        Phase::Running { .. } => {}
                        Phase::Idle if child.gone || child.held => {}
                        Phase::Idle => {
                            self.start(now, next);
                            return;
                        }
                        Phase::Starting { .. } | Phase::Stopping | Phase::Waiting { .. } => return,
                    }
                    Stage::Starting { next: next + 1 }
                }
                Stage::Stopping | Stage::Waiting => return,
            };
            if let Some(sequence) = &mut self.sequence {
                sequence.stage = stage;
            }
        }
    }

    /// Whether nobody lives from this position on; tells the last one who does to stop.
    fn none_left_from(&mut self, now: Instant, from: usize) -> bool {
        let last = self.children[from..]
            .iter()
            .rposition(super::child::Child::is_live);
        let Some(at) = last.map(|last| from + last) else {
            return true;
        };
        if !matches!(self.children[at].phase, Phase::Stopping) {
            self.children[at].phase = Phase::Stopping;
            self.order_stop(now, at);
        }
        false
    }

    pub(super) fn start(&mut self, now: Instant, at: usize) {
        let child = &mut self.children[at];
        child.generation = child.generation.next();
        child.phase = Phase::Starting { since: now };
        child.planned = false;
        if child.started {
            child.restarts += 1;
        }
        child.started = true;
        self.out.push(Action::Start {
            child: child.plan.id.clone(),
            generation: child.generation,
            attempt: child.attempts,
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
        let own = match self.children[at].plan.shutdown {
            Shutdown::Kill => Some(Duration::ZERO),
            Shutdown::Timeout(limit) => Some(limit),
            Shutdown::Infinite => None,
        };
        let (last, deadline) = match &self.mode {
            Mode::Up | Mode::Ended => (false, None),
            Mode::Ending { deadline, .. } => (true, *deadline),
        };
        let Some(deadline) = deadline else {
            return StopOrder {
                patience: own,
                grace: GRACE,
                deadline: None,
                last,
            };
        };
        let left = deadline.saturating_duration_since(now);
        let live = self.children.iter().filter(|child| child.is_live()).count();
        let live = u32::try_from(live).unwrap_or(u32::MAX).max(1);
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
        }
    }
}
