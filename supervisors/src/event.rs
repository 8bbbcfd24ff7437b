//! What a supervisor reports while it works.
//!
//! One type for the observer and for `tracing` (target `supervisors`), so that both tell the same
//! story with the same words.
//!
//! Invariants: every incarnation has at most one `ChildStarted`/`ChildRestarted` and exactly one of
//! `ChildStartFailed`, `ChildExited`, `ChildStopped`; an exit is reported before it is acted upon.

use std::sync::Arc;
use std::time::Duration;

use crate::exit::{ExitReason, ShutdownCause};
use crate::id::{ChildId, Generation, SupervisorPath};

/// Something that happened in a supervisor.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct SupervisorEvent {
    /// The supervisor it happened in.
    pub path: SupervisorPath,
    /// The child it is about; `None` when it is about the supervisor itself.
    pub child: Option<ChildId>,
    /// That child's incarnation; zero where there is none.
    pub generation: Generation,
    /// What happened.
    pub kind: SupervisorEventKind,
}

/// What happened.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum SupervisorEventKind {
    /// The child is up for the first time in this run of its supervisor.
    ChildStarted {
        /// From the start to readiness.
        took: Duration,
    },
    /// The child is up again.
    ChildRestarted {
        /// From the end of its predecessor, or from the request to restart it, to readiness.
        took: Duration,
    },
    /// The child did not become ready.
    ChildStartFailed {
        /// Why.
        reason: Arc<ExitReason>,
    },
    /// The child declined to start; its spec stays.
    ChildIgnored,
    /// The child asked for a later start; neither intensity nor attempts are spent.
    ChildPostponed {
        /// How much later.
        delay: Duration,
    },
    /// The child ended although nobody had told it to.
    ChildExited {
        /// How.
        reason: Arc<ExitReason>,
        /// How long it had been up.
        uptime: Duration,
        /// Whether it is going to be started again.
        restarts: bool,
    },
    /// A restart was decided.
    RestartPlanned {
        /// How long it waits.
        delay: Duration,
        /// The how manyth consecutive attempt it is.
        attempt: u32,
        /// Whether it counted against the intensity.
        counted: bool,
        /// All the children that are restarted, in start order.
        group: Vec<ChildId>,
        /// Restarts that count at present, this one included, and how many may.
        window: (u32, u32),
    },
    /// Nearly as many restarts as the intensity allows: one more at once may be too many. Told once
    /// per approach, when nine tenths of the intensity are used.
    IntensityLow {
        /// Restarts that count at present.
        used: u32,
        /// How many may.
        limit: u32,
    },
    /// The child ended as told.
    ChildStopped {
        /// How.
        reason: Arc<ExitReason>,
    },
    /// The child did not end within its limit and was killed.
    ChildKilled,
    /// The child did not die of the kill and was left behind.
    ChildAbandoned,
    /// The supervisor gives up: too many restarts.
    Exhausted {
        /// How the last child ended.
        reason: Arc<ExitReason>,
    },
    /// The child failed too often and is left alone, without a process, until somebody restarts it.
    ChildParked {
        /// How it ended.
        reason: Arc<ExitReason>,
    },
    /// The supervisor ends because significant children have ended.
    AutoShutdown {
        /// How the last of them ended.
        reason: Arc<ExitReason>,
    },
    /// The supervisor ends because a child's end was to be escalated.
    Escalated {
        /// That end.
        reason: Arc<ExitReason>,
    },
    /// All children are up for the first time.
    Ready,
    /// The supervisor begins to end.
    Shutdown {
        /// Why.
        cause: ShutdownCause,
    },
}

impl SupervisorEventKind {
    /// The event's name in logs.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::ChildStarted { .. } => "child.started",
            Self::ChildRestarted { .. } => "child.restarted",
            Self::ChildStartFailed { .. } => "child.start_failed",
            Self::ChildIgnored => "child.ignored",
            Self::ChildPostponed { .. } => "child.postponed",
            Self::ChildExited { .. } => "child.exit",
            Self::RestartPlanned { .. } => "child.restart_planned",
            Self::IntensityLow { .. } => "sup.intensity_low",
            Self::ChildParked { .. } => "child.parked",
            Self::ChildStopped { .. } => "child.stopped",
            Self::ChildKilled => "child.killed",
            Self::ChildAbandoned => "child.abandoned",
            Self::Exhausted { .. } => "sup.exhausted",
            Self::AutoShutdown { .. } => "sup.auto_shutdown",
            Self::Escalated { .. } => "sup.escalated",
            Self::Ready => "sup.ready",
            Self::Shutdown { .. } => "sup.shutdown",
        }
    }
}
