//! Moments in the future, for delays of any length.
//!
//! `Instant + Duration` panics when the sum is beyond what the clock can hold, and a delay may come from
//! a user or, through a classification, from a peer.
//!
//! Invariants: never panics; what lies beyond thirty years does not come.

use std::time::{Duration, Instant};

const NEVER: Duration = Duration::from_secs(30 * 365 * 24 * 3600);

/// `now` and `delay` more.
pub(crate) fn later(now: Instant, delay: Duration) -> Instant {
    now.checked_add(delay.min(NEVER)).unwrap_or(now)
}

/// `delay` from now, by the runtime's clock.
pub(crate) fn from_now(delay: Duration) -> tokio::time::Instant {
    tokio::time::Instant::from_std(later(tokio::time::Instant::now().into_std(), delay))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_delay_is_too_long() {
        let now = Instant::now();
        for delay in [
            Duration::MAX,
            Duration::from_secs(u64::MAX),
            Duration::from_secs(1 << 62),
        ] {
            assert!(later(now, delay) > now + Duration::from_secs(3600));
        }
        assert_eq!(
            later(now, Duration::from_secs(5)),
            now + Duration::from_secs(5)
        );
    }
}
