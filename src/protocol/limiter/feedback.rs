//! What the venue's complaints change: a rest, and prices that rise and fall again.
//!
//! Apart because a complaint (HTTP 429, close code 1008, an error object) says that the pools were wrong,
//! and no pool can know that.
//!
//! Invariants: the reserved lane never rests; prices are between once and ten times the usual.

use std::time::{Duration, Instant};

use crate::config::limits::Lane;

/// The memory of complaints.
#[derive(Debug)]
pub(super) struct Feedback {
    pause: Duration,
    adaptive: bool,
    paused_until: Option<Instant>,
    /// In thousandths.
    factor: u64,
    /// Set by a complaint; when prices last fell.
    eased: Option<Instant>,
    /// When the venue last complained.
    complained: Option<Instant>,
}

/// What a price rises to at once, is multiplied by, and can become at most; in thousandths.
const RISE: u64 = 1_500;
const MOST: u64 = 10_000;
const USUAL: u64 = 1_000;
/// Prices fall by a twentieth each time this has passed.
const EASE_EVERY: Duration = Duration::from_secs(5);
/// Without a complaint for this long they are the usual again.
const FORGET_AFTER: Duration = Duration::from_secs(60);
/// The longest rest that a venue may ask for.
const LONGEST: Duration = Duration::from_secs(3600);

impl Feedback {
    pub(super) fn new(pause: Duration, adaptive: bool) -> Self {
        Self {
            pause,
            adaptive,
            paused_until: None,
            factor: USUAL,
            eased: None,
            complained: None,
        }
    }

    /// The venue complained. Until when to rest; a longer rest that was asked for before stands.
    pub(super) fn on_limited(&mut self, pause: Option<Duration>, now: Instant) -> Instant {
        self.ease(now);
        if self.adaptive {
            self.factor = (self.factor * RISE / USUAL).min(MOST);
        }
        self.eased = Some(now);
        self.complained = Some(now);
        let until = now + pause.unwrap_or(self.pause).min(LONGEST);
        let until = self.paused_until.map_or(until, |before| before.max(until));
        self.paused_until = Some(until);
        until
    }

    pub(super) fn paused_until(&self, lane: Lane) -> Option<Instant> {
        self.paused_until.filter(|_| lane != Lane::Reserved)
    }

    pub(super) fn is_paused(&self, lane: Lane, now: Instant) -> bool {
        self.paused_until(lane).is_some_and(|until| now < until)
    }

    /// What `cost` is by now, and never more than could be paid at all.
    pub(super) fn charge(&mut self, cost: u64, most: u64, now: Instant) -> u64 {
        self.ease(now);
        if self.factor == USUAL {
            return cost;
        }
        cost.saturating_mul(self.factor)
            .div_ceil(USUAL)
            .min(most)
            .max(cost)
    }

    /// What prices are by now, in hundredths of the usual.
    pub(super) fn percent(&mut self, now: Instant) -> u64 {
        self.ease(now);
        self.factor * 100 / USUAL
    }

    fn ease(&mut self, now: Instant) {
        let (Some(eased), Some(complained)) = (self.eased, self.complained) else {
            return;
        };
        if now.saturating_duration_since(complained) >= FORGET_AFTER {
            self.factor = USUAL;
            self.eased = None;
            return;
        }
        let mut eased = eased;
        while now.saturating_duration_since(eased) >= EASE_EVERY {
            self.factor = (self.factor * 95 / 100).max(USUAL);
            eased += EASE_EVERY;
        }
        self.eased = Some(eased);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prices_rise_with_each_complaint_and_fall_back() {
        let now = Instant::now();
        let mut feedback = Feedback::new(Duration::from_secs(1), true);
        assert_eq!(feedback.charge(100, 1_000, now), 100);
        feedback.on_limited(None, now);
        assert_eq!(feedback.charge(100, 1_000, now), 150);
        assert_eq!(
            feedback.charge(100, 120, now),
            120,
            "what can be paid at all"
        );
        for _ in 0..20 {
            feedback.on_limited(None, now);
        }
        assert_eq!(feedback.charge(100, 2_000, now), 1_000, "at most tenfold");
        assert_eq!(feedback.charge(100, 2_000, now + EASE_EVERY), 950);
        assert_eq!(feedback.charge(100, 2_000, now + FORGET_AFTER), 100);
    }

    #[test]
    fn a_rest_is_as_long_as_the_venue_says_and_spares_the_reserved_lane() {
        let now = Instant::now();
        let mut feedback = Feedback::new(Duration::from_secs(1), false);
        let until = feedback.on_limited(Some(Duration::from_secs(7)), now);
        assert_eq!(until, now + Duration::from_secs(7));
        assert_eq!(
            feedback.on_limited(None, now),
            until,
            "the longer one stands"
        );
        assert!(feedback.is_paused(Lane::High, now) && !feedback.is_paused(Lane::Reserved, now));
        assert!(!feedback.is_paused(Lane::Low, until));
    }
}
