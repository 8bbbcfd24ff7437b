//! The words a spec is written in: restart types, strategies, limits, verdicts.
//!
//! Plain data, apart from the specs that carry factories, so that the machine can use it without
//! knowing an actor.
//!
//! Invariants: every type is `Copy` and comparable; defaults are OTP's, except that the intensity is
//! Elixir's (3 restarts in 5 s, where OTP has 1) and its window exact instead of having a grain of one second.

use std::time::Duration;

/// When an ended child is started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Restart {
    /// Always. The default.
    #[default]
    Permanent,
    /// Only after an abnormal end: failure, panic, kill, cancelled task, a hung handler, a start that failed.
    Transient,
    /// Never; the spec is forgotten with the child.
    Temporary,
}

impl Restart {
    /// The restart type in OTP's word, as renderings and logs use it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Permanent => "permanent",
            Self::Transient => "transient",
            Self::Temporary => "temporary",
        }
    }
}

/// How a child is asked to end, and how long it may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Shutdown {
    /// It is killed at once; its `post_stop` does not run.
    Kill,
    /// It is stopped, and killed when it has not ended after this long. Workers default to 5 s. A sub-supervisor
    /// shares it out among its own children, as it would the total of a shutdown.
    Timeout(Duration),
    /// It is stopped and waited for, bounded only by the total of a [`ShutdownPlan`](crate::ShutdownPlan).
    /// The default of sub-supervisors.
    Infinite,
    /// It takes no further message, handles those in its mailbox, and then stops; it is killed when it has not
    /// ended after this long. Those it calls for that must still be there: children are ended in reverse
    /// start order, so put them before it. A task or a supervisor has no mailbox of this kind, and is
    /// stopped as by `Timeout`.
    Drain(Duration),
}

/// Who is restarted along with a child that ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Strategy {
    /// Nobody.
    OneForOne,
    /// All children.
    OneForAll,
    /// The children that stand after it.
    RestForOne,
}

impl Strategy {
    /// The strategy in OTP's word, as renderings and logs use it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::OneForOne => "one_for_one",
            Self::OneForAll => "one_for_all",
            Self::RestForOne => "rest_for_one",
        }
    }
}

/// Whether a supervisor ends when its significant children have ended by themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum AutoShutdown {
    /// No. The default; significant children are then refused.
    #[default]
    Never,
    /// With the first of them.
    AnySignificant,
    /// With the last of them.
    AllSignificant,
}

/// What a supervisor does when a child has failed more often than its intensity, or the child's own
/// [`Backoff::max_attempts`](crate::Backoff), allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum OnExhausted {
    /// It ends, with everything beneath it, and leaves the rest to the supervisor above. The default, as
    /// in OTP.
    #[default]
    Shutdown,
    /// It goes on without the child, which is *parked*: without a process until
    /// [`restart_child`](crate::SupervisorRef::restart_child) or a later restart of its group, and shown
    /// as such. Under one_for_all and
    /// rest_for_one those who would have been restarted with it are stopped and parked as well.
    ///
    /// For children whose loss the others can live with; nobody above hears of it but by the event.
    Park,
}

/// How many restarts a supervisor may make within a sliding window before it gives up.
///
/// The window is exact: a restart counts until it is *older* than `within`, so one made exactly
/// `within` ago still counts. `max_restarts` of zero ends the supervisor at the first failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Intensity {
    /// Restarts allowed within the window. Default 3.
    pub max_restarts: u32,
    /// Length of the window. Default 5 s.
    pub within: Duration,
}

impl Intensity {
    /// At most `max_restarts` restarts `within` a sliding window.
    #[must_use]
    pub fn new(max_restarts: u32, within: Duration) -> Self {
        Self {
            max_restarts,
            within,
        }
    }
}

impl Default for Intensity {
    fn default() -> Self {
        Self::new(3, Duration::from_secs(5))
    }
}

/// What a child's `classify` makes of an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Verdict {
    /// The restart type decides, and the restart counts.
    #[default]
    Default,
    /// The restart type and the backoff decide, but the restart does not count against the intensity.
    ///
    /// For losses that are nobody's fault, as of a network.
    Uncounted {
        /// Whether the incarnation proved stable. `true` resets the backoff's attempt counter;
        /// `false` lets it grow, however long the incarnation was up.
        stable: bool,
        /// The restart waits at least this long, whatever the backoff says; a millisecond after an incarnation that
        /// was not up for as long.
        at_least: Duration,
    },
    /// The child is not restarted, whatever its restart type.
    DontRestart,
    /// The supervisor ends at once, with [`ShutdownCause::Escalated`](crate::ShutdownCause::Escalated).
    Escalate,
}

/// Whether a child works or supervises.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ChildKind {
    /// An actor.
    Worker,
    /// A sub-supervisor.
    Supervisor,
}

impl ChildKind {
    /// The kind in OTP's word, as renderings and logs use it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Worker => "worker",
            Self::Supervisor => "supervisor",
        }
    }
}
