//! The one place where the session reads a clock.
//!
//! tokio's clock, so that a paused runtime pauses all of it; handed on as `std` instants, which is what
//! the pure machines speak.

use std::time::Instant;

/// Now, by the runtime's clock.
pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
