//! The one place where the session reads a clock.
//!
//! tokio's clock, so that a paused runtime pauses all of it; handed on as `std` instants, which is what
//! the pure machines speak.

use std::time::{Duration, Instant, SystemTime};

/// Beyond this nothing is waited for; adding more would overflow the clock.
const NEVER: Duration = Duration::from_secs(30 * 365 * 24 * 3600);

/// Now, by the runtime's clock.
pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Now, by the wall clock, which no runtime pauses. For recordings only.
pub(crate) fn wall() -> SystemTime {
    SystemTime::now()
}

/// The wall clock as this runtime has it: where time is paused, as far ahead of the system's as its other clock.
pub(crate) fn wall_of_runtime() -> SystemTime {
    let (ours, real) = (now(), Instant::now());
    let ahead = ours.saturating_duration_since(real);
    let behind = real.saturating_duration_since(ours);
    SystemTime::now() + ahead - behind
}

/// A deadline `limit` from now. No limit is too long.
pub(crate) fn from_now(limit: Duration) -> tokio::time::Instant {
    after(now(), limit)
}

/// A deadline `limit` after `start`. No limit is too long.
pub(crate) fn after(start: Instant, limit: Duration) -> tokio::time::Instant {
    let start = tokio::time::Instant::from_std(start);
    start.checked_add(limit.min(NEVER)).unwrap_or(start)
}
