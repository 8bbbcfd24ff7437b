//! How waiting for a limiter's leave can end.
//!
//! Apart because a limiter can be used without any session.
//!
//! Invariant: nothing was sent and nothing paid when one of these is returned.

use std::time::Duration;

use super::Recovery;

/// A limiter did not let it pass.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LimitError {
    /// As many wait as may.
    #[error("rate limiter's queue of {capacity} is full: send less, or raise `rate_limits.queue`")]
    QueueFull {
        /// How many that is.
        capacity: usize,
    },
    /// It costs more than its lane can ever have.
    #[error(
        "cost of {cost} is above the {most} that the rate limiter can ever give: lower the cost, or raise the pool"
    )]
    TooDear {
        /// What it costs.
        cost: u64,
        /// The most that its lane can have.
        most: u64,
    },
    /// Its turn did not come in time.
    #[error("its turn under the rate limit did not come within {waited:?}")]
    Expired {
        /// How long it waited.
        waited: Duration,
    },
}

impl LimitError {
    /// What to do about it.
    #[must_use]
    pub fn recovery(&self) -> Recovery {
        match self {
            Self::QueueFull { .. } | Self::Expired { .. } => Recovery::Retry,
            Self::TooDear { .. } => Recovery::Stop,
        }
    }
}
