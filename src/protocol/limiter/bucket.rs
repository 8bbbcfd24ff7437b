//! The token bucket: a burst at any time, and a steady refill.
//!
//! Apart because it is the rule that most venues mean by "credits".
//!
//! Invariants: whole tokens, whole intervals; never below zero, never above the capacity; no part of an
//! interval is lost by asking often. Deliberately absent: the reserve, which is the caller's floor.

use std::time::{Duration, Instant};

/// The bucket. See the module's documentation.
#[derive(Debug, Clone)]
pub struct TokenBucket {
    capacity: u64,
    refill: u64,
    every: Duration,
    tokens: u64,
    /// The end of the last interval that was credited.
    credited: Instant,
}

impl TokenBucket {
    /// A full bucket. An interval of nothing counts as a nanosecond.
    #[must_use]
    pub fn new(capacity: u64, refill: u64, every: Duration, now: Instant) -> Self {
        Self {
            capacity,
            refill,
            every: every.max(Duration::from_nanos(1)),
            tokens: capacity,
            credited: now,
        }
    }

    /// What it holds.
    #[must_use]
    pub fn tokens(&mut self, now: Instant) -> u64 {
        self.credit(now);
        self.tokens
    }

    /// Takes `cost` if `floor` is left after it. Whether it did.
    pub fn take(&mut self, cost: u64, floor: u64, now: Instant) -> bool {
        self.credit(now);
        let enough = self.tokens >= cost.saturating_add(floor) || cost == 0;
        if enough {
            self.tokens -= cost;
        }
        enough
    }

    /// Takes `cost`, or what there is of it.
    pub fn force(&mut self, cost: u64, now: Instant) {
        self.credit(now);
        self.tokens = self.tokens.saturating_sub(cost);
    }

    /// Puts `cost` back.
    pub fn refund(&mut self, cost: u64, now: Instant) {
        self.credit(now);
        self.tokens = self.tokens.saturating_add(cost).min(self.capacity);
    }

    /// Takes all above `level`.
    pub fn drain_to(&mut self, level: u64, now: Instant) {
        self.credit(now);
        self.tokens = self.tokens.min(level);
    }

    /// When `cost` can be taken with `floor` left, if nobody else takes anything.
    #[must_use]
    pub fn ready_at(&mut self, cost: u64, floor: u64, now: Instant) -> Instant {
        self.credit(now);
        let missing = cost.saturating_add(floor).saturating_sub(self.tokens);
        if missing == 0 || cost == 0 {
            return now;
        }
        let intervals = missing.div_ceil(self.refill.max(1));
        let wait = u32::try_from(intervals).map_or(Duration::MAX, |intervals| {
            self.every.saturating_mul(intervals)
        });
        self.credited.checked_add(wait).unwrap_or(now + self.every)
    }

    fn credit(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.credited).as_nanos();
        let intervals = passed / self.every.as_nanos();
        if intervals == 0 {
            return;
        }
        let refilled = u64::try_from(intervals)
            .unwrap_or(u64::MAX)
            .saturating_mul(self.refill);
        self.tokens = self.tokens.saturating_add(refilled).min(self.capacity);
        // What is left of the passed time after whole intervals counts towards the next one.
        let part = passed % self.every.as_nanos();
        self.credited = now - Duration::from_nanos(u64::try_from(part).unwrap_or(0));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_full_bucket_allows_its_capacity_and_then_its_refill() {
        let now = Instant::now();
        let mut bucket = TokenBucket::new(3, 1, SECOND, now);
        assert_eq!((0..5).filter(|_| bucket.take(1, 0, now)).count(), 3);
        assert_eq!(bucket.ready_at(1, 0, now), now + SECOND);
        assert!(!bucket.take(1, 0, now + SECOND - Duration::from_nanos(1)));
        assert!(bucket.take(1, 0, now + SECOND));
    }

    #[test]
    fn a_floor_is_left_untouched() {
        let now = Instant::now();
        let mut bucket = TokenBucket::new(10, 1, SECOND, now);
        assert_eq!((0..20).filter(|_| bucket.take(1, 4, now)).count(), 6);
        assert_eq!((0..20).filter(|_| bucket.take(1, 0, now)).count(), 4);
    }

    #[test]
    fn asking_often_loses_no_part_of_an_interval() {
        let now = Instant::now();
        let mut bucket = TokenBucket::new(100, 1, Duration::from_millis(10), now);
        bucket.drain_to(0, now);
        for step in 1..=1000 {
            let _ = bucket.tokens(now + Duration::from_micros(300 * step));
        }
        assert_eq!(bucket.tokens(now + Duration::from_millis(300)), 30);
    }

    proptest! {
        #[test]
        fn tokens_stay_between_zero_and_capacity_and_what_passes_is_capacity_and_refills(
            capacity in 1_u64..50, refill in 1_u64..20, millis in 1_u64..50,
            steps in prop::collection::vec((0_u64..40, 0_u64..60, 0_u8..8), 1..200),
        ) {
            let began = Instant::now();
            let every = Duration::from_millis(millis);
            let mut bucket = TokenBucket::new(capacity, refill, every, began);
            let (mut now, mut taken, mut given) = (began, 0, 0);
            for (pause, cost, kind) in steps {
                now += Duration::from_millis(pause);
                match kind {
                    0 => bucket.force(cost, now),
                    1 => bucket.drain_to(cost, now),
                    2 => { bucket.refund(cost, now); given += cost; }
                    _ => {
                        let ready = bucket.ready_at(cost.min(capacity), 0, now);
                        let took = bucket.take(cost, 0, now);
                        prop_assert_eq!(took, ready <= now && cost <= capacity || cost == 0);
                        taken += if took { cost } else { 0 };
                        if !took && cost <= capacity {
                            prop_assert!(bucket.clone().take(cost, 0, ready));
                        }
                    }
                }
                prop_assert!(bucket.tokens(now) <= capacity);
                let intervals = (now - began).as_nanos() / every.as_nanos();
                prop_assert!(u128::from(taken) <= u128::from(capacity + given) + intervals * u128::from(refill));
            }
        }
    }
}
