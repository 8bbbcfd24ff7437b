//! What a supervisor reports while it works.
//!
//! One type for the observer and for `tracing` (target `supervisors`), so that both tell the same
//! story with the same words.
//!
//! # Catalogue
//! Each event is one record of `tracing`, whose message is the event's name. Names, fields and levels are
//! a contract. Every record has `supervisor.path` and `supervisor.strategy`; one about a child also
//! `child.id`, `child.kind`, `child.generation` and, where there was an actor, `child.actor_id`. Those that
//! have `exit.kind` and `exit.reason` also have, when an error or a panic is at the root of it,
//! `exception.type` (`error` or `panic`), `exception.message`, and `exception.stacktrace` where the causes
//! of the error, or the place and the stack of the panic, are known.
//!
//! | Event | Level | Further fields |
//! |---|---|---|
//! | `child.start` | `debug` | `restart.attempt` |
//! | `child.started` | `info`; `debug` when it was added by `start_child` | `duration_ms` |
//! | `child.restarted` | `info` | `duration_ms` |
//! | `child.start_failed` | `warn` | `exit.kind`, `exit.reason` |
//! | `child.ignored` | `info`; `debug` when it was added by `start_child` | none |
//! | `child.postponed` | `debug` | `restart.delay_ms` |
//! | `child.exit` | `error` when it is permanent and its `classify` did not say `Uncounted` or `DontRestart`; else `debug` when it ended well for good, `warn` otherwise | `exit.kind`, `exit.reason`, `duration_ms` |
//! | `child.restart_planned` | `debug`; `info` when it stands for a group | `restart.attempt`, `restart.delay_ms`, `restart.counted`, `restart.window_used`, `restart.window_limit`, `children.count` |
//! | `sup.intensity_low` | `warn` | `restart.window_used`, `restart.window_limit` |
//! | `child.stop` | `debug` | `shutdown.limit_ms` where there is one |
//! | `child.stopped` | `debug`; `warn` when it failed while it stopped | `exit.kind`, `exit.reason` |
//! | `child.killed` | `warn` | none |
//! | `child.abandoned` | `error` | none |
//! | `child.parked` | `error` | `exit.kind`, `exit.reason` |
//! | `sup.exhausted` | `error` | `exit.kind`, `exit.reason` |
//! | `sup.auto_shutdown` | `info` | `exit.kind`, `exit.reason` |
//! | `sup.escalated` | `error` | `exit.kind`, `exit.reason` |
//! | `sup.ready` | `info` | `children.count` |
//! | `sup.shutdown` | `info` | `exit.kind`, `exit.reason`, `children.count` |
//!
//! `exit.kind` is [`ExitReason::kind`], in `sup.shutdown` [`ShutdownCause::kind`]; units are in the names;
//! `children.count` is [`SupervisorEvent::children`]: one report stands for so many. `child.actor_id` is for
//! traces and never for the labels of a metric. Beside these, under the same target, there are `warn` and
//! `error` records in plain words about what user code did to its supervisor: a panic in a `classify` or an
//! observer, a start or a drop that does not yield, a root that was dropped; and about specs that nothing
//! limits: `unlimited restarts`, a `warn` at the start of a tree, once for each supervisor that has such
//! children, with `supervisor.path`, `child.id` of the first and `children.count`
//! (see [`Backoff::is_unlimited`](crate::Backoff::is_unlimited)).
//!
//! # Spans
//! Around bounded work, and none around a child's life. Records that belong to one are made within it.
//!
//! | Span | Level | From | To | Fields |
//! |---|---|---|---|---|
//! | `child.start` | `debug` | `child.start` | `child.started`, or what tells that it did not | `supervisor.path`, `child.id`, `child.generation`, `restart.attempt` |
//! | `child.restart` | `info` | `child.restart_planned` | the last of the group is up, or given up | `supervisor.path`, `child.id`, `child.generation`, `children.count` |
//! | `child.stop` | `debug` | `child.stop` | `child.stopped` | `supervisor.path`, `child.id`, `child.generation` |
//! | `sup.shutdown` | `info` | `sup.shutdown` | the supervisor has ended | `supervisor.path`, `exit.kind` |
//!
//! A start lies within the restart that it is a part of, a stop within the shutdown, and both within what the
//! supervisor above does with this one at the time. A restart follows from the span that the failed callback ran
//! in, if there was one. An actor's factory, `pre_start` and `post_start` run within `child.start`, its
//! `post_stop` within `child.stop`; of a thread-local one only what runs on its own thread after `pre_start`.
//!
//! # Secrets
//! `exit.reason` and the `exception` fields repeat the `Display` of the child's own error, of the errors it
//! names as its causes, or a panic's message. What must not be in logs must not be there.
//!
//! Invariants: every incarnation has one `ChildStarting`, at most one `ChildStarted`/`ChildRestarted` and
//! `ChildStopping`, and exactly one of `ChildStartFailed`, `ChildExited`, `ChildStopped`, or, when its factory made nothing, of `ChildIgnored`
//! and `ChildPostponed`; an exit is reported before it is acted upon. Under a supervisor that is killed
//! nobody is left to report ends.

mod stream;

use std::sync::Arc;
use std::time::Duration;

use ractor::ActorId;

use crate::exit::{ExitReason, ShutdownCause};
use crate::id::{ChildId, Generation, SupervisorPath};
use crate::policy::{ChildKind, Restart, Strategy, Verdict};

pub(crate) use stream::Audience;
pub use stream::{EventStream, Missed};

/// Something that happened in a supervisor.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct SupervisorEvent {
    /// The supervisor it happened in.
    pub path: SupervisorPath,
    /// That supervisor's strategy.
    pub strategy: Strategy,
    /// The child it is about; `None` when it is about the supervisor itself.
    pub child: Option<ChildId>,
    /// That child's incarnation; zero where there is none.
    pub generation: Generation,
    /// Whether that child works or supervises.
    pub child_kind: Option<ChildKind>,
    /// When that child is started again.
    pub restart: Option<Restart>,
    /// Whether that child was added by [`start_child`](crate::SupervisorRef::start_child): then somebody
    /// knows of its start already.
    pub added: bool,
    /// That incarnation's actor, where there was one. Meant for finding it in traces; each incarnation
    /// has another, so it makes no label of a metric.
    pub actor: Option<ActorId>,
    /// What the child's `classify` said of the end that this is about.
    pub verdict: Verdict,
    /// How many children the event stands for: those that a planned restart takes along, those that are
    /// up when the supervisor is ready or begins to end, and otherwise the one it is about.
    pub children: usize,
    /// What happened.
    pub kind: SupervisorEventKind,
}

/// What happened.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum SupervisorEventKind {
    /// An incarnation of the child is being made.
    ChildStarting {
        /// The how manyth consecutive restart attempt it is; zero for the first start, and for one that comes along
        /// with another's.
        attempt: u32,
    },
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
    /// The child declined to start. Its spec stays, unless it is temporary or its supervisor dynamic: then it
    /// is forgotten.
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
    /// The child is told to end. Told once, with the first of the orders it gets.
    ChildStopping {
        /// How long it may take before it is killed: nothing when it is killed at once, and without limit
        /// where there is none.
        limit: Option<Duration>,
    },
    /// The child ended as told.
    ChildStopped {
        /// How.
        reason: Arc<ExitReason>,
    },
    /// The child did not end within its limit, or its spec asks for nothing else, and was killed;
    /// `ChildStopped` follows.
    ChildKilled,
    /// The child did not die of the kill and was left behind; `ChildStopped` follows, or `ChildExited` when it
    /// was its watchdog that killed it.
    ChildAbandoned,
    /// The supervisor gives up: too many restarts.
    Exhausted {
        /// How the last child ended.
        reason: Arc<ExitReason>,
    },
    /// The child failed too often and is left alone, without a process, until somebody restarts it or its group is
    /// restarted.
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
            Self::ChildStarting { .. } => "child.start",
            Self::ChildStarted { .. } => "child.started",
            Self::ChildRestarted { .. } => "child.restarted",
            Self::ChildStartFailed { .. } => "child.start_failed",
            Self::ChildIgnored => "child.ignored",
            Self::ChildPostponed { .. } => "child.postponed",
            Self::ChildExited { .. } => "child.exit",
            Self::RestartPlanned { .. } => "child.restart_planned",
            Self::IntensityLow { .. } => "sup.intensity_low",
            Self::ChildParked { .. } => "child.parked",
            Self::ChildStopping { .. } => "child.stop",
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

#[cfg(test)]
impl SupervisorEvent {
    /// An event of a root, about a permanent worker.
    pub(crate) fn sample(kind: SupervisorEventKind) -> Self {
        Self {
            path: SupervisorPath::root("top"),
            strategy: Strategy::OneForOne,
            child: Some(ChildId::from("worker")),
            generation: Generation(3),
            child_kind: Some(ChildKind::Worker),
            restart: Some(Restart::Permanent),
            added: false,
            actor: Some(ActorId::Local(7)),
            verdict: Verdict::Default,
            children: 1,
            kind,
        }
    }
}
