//! What a shutdown may take and what it came to.
//!
//! Plain data, shared by the machine (which divides the time), the keepers (which spend it) and the
//! caller (who gets the report).
//!
//! Invariants: an order's patience comes before its grace; whatever outlives both is abandoned.

use std::time::{Duration, Instant};

use crate::id::SupervisorPath;

/// How long the end of a tree may take.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ShutdownPlan {
    /// When this has passed, nothing is waited for any more, except what a killed subtree needs to be
    /// gone, a second at most for each level. Zero kills at once. Default 20 s. A `Drop` that blocks its
    /// thread holds up whatever waits on that worker of the runtime.
    ///
    /// Each supervisor keeps a part of what it is given for kills, 250 ms or a quarter for each child that has still to
    /// end, whichever is less: give trees that are dozens of levels deep a third of a second more for each.
    pub total: Duration,
    /// Told to the actors that are stopped. Default `shutdown`.
    pub reason: String,
}

impl ShutdownPlan {
    /// A plan that takes at most `total`.
    #[must_use]
    pub fn within(total: Duration) -> Self {
        Self {
            total,
            ..Self::default()
        }
    }

    /// A plan that asks nobody: everything is killed at once, and given a moment to be gone.
    #[must_use]
    pub fn at_once() -> Self {
        Self::within(Duration::ZERO)
    }

    /// Sets the text that stopped actors are told.
    #[must_use]
    pub fn reason(mut self, reason: impl Into<String>) -> Self {
        self.reason = reason.into();
        self
    }
}

impl Default for ShutdownPlan {
    fn default() -> Self {
        Self {
            total: Duration::from_secs(20),
            reason: "shutdown".to_owned(),
        }
    }
}

/// How a tree ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ShutdownReport {
    /// From the first request to the end.
    pub took: Duration,
    /// Descendants that ended in good order.
    pub graceful: usize,
    /// Descendants that were killed.
    pub killed: Vec<SupervisorPath>,
    /// How many of them because their spec asks for nothing else
    /// ([`Shutdown::Kill`](crate::Shutdown::Kill)).
    pub killed_by_spec: usize,
    /// Descendants that did not even die of the kill. Their tasks may still run.
    pub abandoned: Vec<SupervisorPath>,
}

impl ShutdownReport {
    /// Whether everything ended as its spec asks: nothing had to be killed for taking too long, and
    /// nothing was abandoned.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.killed.len() == self.killed_by_spec && self.abandoned.is_empty()
    }
}

/// How one incarnation is to be ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StopOrder {
    /// Whether it is part of the supervisor's own end, and goes into the report.
    pub(crate) last: bool,
    /// Whether it may handle what is in its mailbox.
    pub(crate) drain: bool,
    /// It is killed when it has not ended after this long; `None` waits without limit.
    pub(crate) patience: Option<Duration>,
    /// It is abandoned when it has not ended this long after the kill.
    pub(crate) grace: Duration,
    /// When a sub-supervisor must have ended; it divides this among its own children.
    pub(crate) deadline: Option<Instant>,
}

impl StopOrder {
    /// This order, given `since` ago, and a newer one: whichever limit comes first holds.
    pub(crate) fn tightened(self, newer: Self, since: Duration) -> Self {
        let patience = newer
            .patience
            .map(|patience| since.saturating_add(patience));
        Self {
            last: self.last || newer.last,
            drain: self.drain && newer.drain,
            patience: sooner(self.patience, patience),
            grace: newer.grace,
            deadline: sooner(self.deadline, newer.deadline),
        }
    }

    /// What is left of the whole time, `since` after it was given.
    pub(crate) fn left(&self, since: Duration) -> Duration {
        self.patience.map_or(Duration::MAX, |patience| {
            patience.saturating_add(self.grace).saturating_sub(since)
        })
    }

    /// Whether it is the spec that asks for the kill: there would be time for more. When time is up,
    /// none is left for the grace either.
    pub(crate) fn is_brutal(&self) -> bool {
        self.patience == Some(Duration::ZERO) && !self.grace.is_zero()
    }
}

/// The lesser of two limits, of which either may be absent.
pub(crate) fn sooner<T: Ord>(one: Option<T>, other: Option<T>) -> Option<T> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

/// How an incarnation took its order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Parting {
    Graceful,
    Killed,
    Abandoned,
}
