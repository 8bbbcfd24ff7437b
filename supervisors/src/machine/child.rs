//! What the machine knows of one child.
//!
//! Plain data; the rules that move it are in `decide` and `sequence`.
//!
//! Invariants: the generation is that of the present incarnation, or of the last one.

use std::sync::Arc;
use std::time::Instant;

use super::admin::{Asked, Ticket};
use super::roster::Rank;
use crate::backoff::Backoff;
use crate::exit::ExitReason;
use crate::id::{ChildId, Generation};
use crate::policy::{ChildKind, Restart, Shutdown};

/// The part of a child's spec that decisions need.
#[derive(Debug, Clone)]
pub(crate) struct ChildPlan {
    pub(crate) id: ChildId,
    pub(crate) kind: ChildKind,
    pub(crate) restart: Restart,
    pub(crate) significant: bool,
    pub(crate) shutdown: Shutdown,
    pub(crate) backoff: Backoff,
    /// Given out by an earlier run of the supervisor.
    pub(crate) last_generation: Generation,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Phase {
    /// No process.
    Idle,
    Starting {
        since: Instant,
    },
    Running {
        since: Instant,
    },
    /// Told to end; also one that was still starting.
    Stopping,
    /// To be started then.
    Waiting {
        until: Instant,
    },
}

impl Phase {
    /// Whether there is, or may be, a process.
    pub(super) fn is_live(self) -> bool {
        match self {
            Self::Starting { .. } | Self::Running { .. } | Self::Stopping => true,
            Self::Idle | Self::Waiting { .. } => false,
        }
    }

    /// Whether it counts as active for whoever counts children, as in OTP.
    pub(super) fn is_active(self) -> bool {
        match self {
            Self::Running { .. } | Self::Stopping => true,
            Self::Idle | Self::Starting { .. } | Self::Waiting { .. } => false,
        }
    }
}

#[derive(Debug)]
pub(super) struct Child {
    pub(super) plan: ChildPlan,
    /// Given by the roster.
    pub(super) rank: Rank,
    /// Changed by the roster alone.
    phase: Phase,
    pub(super) generation: Generation,
    /// Consecutive restarts; zero again after a stable run, as soon as that has ended.
    pub(super) attempts: u32,
    /// It failed by itself, and is not up since: its next start is an attempt of its own, and not one that comes
    /// along with a sibling's.
    pub(super) failed: bool,
    /// Restarts in this run of the supervisor.
    pub(super) restarts: u64,
    pub(super) last_exit: Option<Arc<ExitReason>>,
    /// When the last incarnation ended; taken when the next is up.
    pub(super) ended_at: Option<Instant>,
    /// Has no process now, but a sequence will start it again.
    pub(super) planned: bool,
    /// Was started in this run of the supervisor.
    pub(super) started: bool,
    /// Was up in this run of the supervisor.
    pub(super) been_up: bool,
    /// To be forgotten when the step is over: a temporary child that has ended, or one that was deleted.
    pub(super) gone: bool,
    /// Failed too often and is left alone; until it is started again.
    pub(super) parked: bool,
    /// Who waits for the present start; taken with the answer.
    pub(super) asked: Option<Asked>,
    /// Who waits for its end; taken with the answer. The shell has one ticket for all who do.
    pub(super) terminators: Vec<Ticket>,
    /// Was terminated by request or parked, and is not started again by the sequence that is under way.
    pub(super) held: bool,
}

impl Child {
    pub(super) fn new(plan: ChildPlan) -> Self {
        Self {
            generation: plan.last_generation,
            plan,
            rank: Rank::FIRST,
            phase: Phase::Idle,
            attempts: 0,
            failed: false,
            restarts: 0,
            last_exit: None,
            ended_at: None,
            planned: false,
            started: false,
            been_up: false,
            gone: false,
            parked: false,
            asked: None,
            terminators: Vec::new(),
            held: false,
        }
    }

    pub(super) fn phase(&self) -> Phase {
        self.phase
    }

    /// For the roster: puts it into this phase and tells the one before.
    pub(super) fn set_phase(&mut self, phase: Phase) -> Phase {
        std::mem::replace(&mut self.phase, phase)
    }

    /// The how manyth attempt its next start is; zero when that is not caused by its own failure.
    pub(super) fn attempt(&self) -> u32 {
        if self.failed { self.attempts } else { 0 }
    }

    /// Whether it has been up for long enough to be taken for stable.
    pub(super) fn has_proved(&self, now: Instant) -> bool {
        let up = match self.phase {
            Phase::Running { since } => Some(now.saturating_duration_since(since)),
            Phase::Idle | Phase::Starting { .. } | Phase::Stopping | Phase::Waiting { .. } => None,
        };
        up.is_some_and(|up| up >= self.plan.backoff.reset_after)
    }

    /// Whether its end, should it come now, was wanted.
    pub(super) fn was_told(&self) -> bool {
        matches!(self.phase, Phase::Stopping) || !self.terminators.is_empty()
    }

    /// Whether it counts as active for auto-shutdown: one that restarts does.
    pub(super) fn is_active(&self) -> bool {
        !self.gone
            && (self.phase.is_live() || self.planned || matches!(self.phase, Phase::Waiting { .. }))
    }

    pub(super) fn is_temporary(&self) -> bool {
        self.plan.restart == Restart::Temporary
    }
}
