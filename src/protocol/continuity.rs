//! What one subscription yields, in order: data, the gaps in it, and where it goes on.
//!
//! The words of the continuity promise and the queue that keeps it ([`ContinuityQueue`]), apart from
//! whoever fills and empties it, because the promise must hold for every order of data, losses,
//! overflow and reading.
//!
//! Invariants, for whoever pops:
//! - nothing of an older epoch comes after something of a newer one;
//! - between a [`Gap`] and the next data stands a [`Resynced`];
//! - every loss is a gap, also when no data follows and also when this very queue was too small;
//! - `Ended` comes last, once.

mod items;
mod queue;

pub use items::Items;
pub use queue::{ContinuityQueue, OverflowRule, Pushed};

use std::fmt;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::close::GapCause;
use crate::error::EndReason;

/// Counts the connections of a session: 1, 2, 3, … Serialised as its number.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Epoch(u64);

impl Epoch {
    /// Before the first connection.
    pub const NONE: Self = Self(0);

    /// The epoch with this number.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The one after this.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// Its number.
    #[must_use]
    pub const fn as_u64(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// From here on something may be missing.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Gap {
    /// Why; the first cause if several losses became one gap, [`GapCause::Lagged`] if this queue
    /// dropped from its front.
    pub cause: GapCause,
    /// When the loss was noticed, or when the first item arrived that was dropped.
    pub since: Instant,
    /// The epoch that was interrupted.
    pub epoch: Epoch,
    /// How many messages are known to have been dropped; at least so many are missing.
    pub missed: Option<u64>,
}

impl Gap {
    /// A gap of unknown size.
    #[must_use]
    pub fn new(cause: GapCause, since: Instant, epoch: Epoch) -> Self {
        Self {
            cause,
            since,
            epoch,
            missed: None,
        }
    }

    /// The same gap, with so many messages known to be missing.
    #[must_use]
    pub fn with_missed(self, missed: u64) -> Self {
        Self {
            missed: Some(missed),
            ..self
        }
    }
}

/// From here on the data is without a gap again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Resynced {
    /// The epoch of what follows.
    pub epoch: Epoch,
    /// Whether what follows begins with the whole state, so that nothing that was missed is needed.
    pub complete: bool,
    /// From the gap's `since` until now.
    pub length: Duration,
}

impl Resynced {
    /// An end of a gap that lasted for `length`.
    #[must_use]
    pub fn new(epoch: Epoch, complete: bool, length: Duration) -> Self {
        Self {
            epoch,
            complete,
            length,
        }
    }
}

/// What a subscription yields.
#[derive(Debug, Clone)]
pub enum Item<T> {
    /// A message.
    Data {
        /// The message.
        payload: T,
        /// The connection that it came by.
        epoch: Epoch,
        /// When it was read.
        received: Instant,
        /// How many older messages of its key it has taken the place of.
        replaced: u64,
    },
    /// Something may be missing from here on.
    Gap(Gap),
    /// The stream goes on from here.
    Resynced(Resynced),
    /// Nothing will follow.
    Ended(EndReason),
}
