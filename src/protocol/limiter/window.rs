//! The strict sliding window: never more than so many within any stretch of this length.
//!
//! Apart from the token bucket, which allows a full burst and its refill within one window; some venues
//! count as this file does, and cut who does not.
//!
//! Invariants: within any window, both of its ends included, at most `limit` was taken (except by
//! [`SlidingWindow::force`], which books what has happened anyway); the log holds no more entries than
//! there are costs in the window.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// The window. See the module's documentation.
#[derive(Debug, Clone)]
pub struct SlidingWindow {
    limit: u64,
    within: Duration,
    /// What was taken and when, the oldest first.
    log: VecDeque<(Instant, u64)>,
    /// The sum of the log.
    taken: u64,
}

impl SlidingWindow {
    /// An empty window.
    #[must_use]
    pub fn new(limit: u64, within: Duration) -> Self {
        Self {
            limit,
            within,
            log: VecDeque::new(),
            taken: 0,
        }
    }

    /// What may still be taken.
    #[must_use]
    pub fn available(&mut self, now: Instant) -> u64 {
        self.slide(now);
        self.limit.saturating_sub(self.taken)
    }

    /// Takes `cost` if `floor` is left after it. Whether it did.
    pub fn take(&mut self, cost: u64, floor: u64, now: Instant) -> bool {
        let enough = cost == 0 || self.available(now) >= cost.saturating_add(floor);
        if enough {
            self.note(cost, now);
        }
        enough
    }

    /// Books `cost` although it may be too much.
    pub fn force(&mut self, cost: u64, now: Instant) {
        self.slide(now);
        // What no window could hold says no more than a full one, and would take longer to count.
        self.note(cost.min(self.limit), now);
    }

    /// Forgets `cost` of what was taken last.
    pub fn refund(&mut self, mut cost: u64) {
        while let Some((_, last)) = self.log.back_mut() {
            let part = cost.min(*last);
            *last -= part;
            cost -= part;
            self.taken -= part;
            if *last > 0 {
                return;
            }
            self.log.pop_back();
        }
    }

    /// Books as much as leaves `level`.
    pub fn drain_to(&mut self, level: u64, now: Instant) {
        let surplus = self.available(now).saturating_sub(level);
        self.note(surplus, now);
    }

    /// When `cost` can be taken with `floor` left, if nobody else takes anything.
    #[must_use]
    pub fn ready_at(&mut self, cost: u64, floor: u64, now: Instant) -> Instant {
        let mut available = self.available(now);
        let needed = cost.saturating_add(floor);
        if cost == 0 || available >= needed {
            return now;
        }
        let mut surplus = self.taken.saturating_sub(self.limit);
        for (at, taken) in &self.log {
            let cured = surplus.min(*taken);
            surplus -= cured;
            available += taken - cured;
            if available >= needed {
                return *at + self.within + TICK;
            }
        }
        now + self.within + TICK
    }

    fn note(&mut self, cost: u64, now: Instant) {
        if cost == 0 {
            return;
        }
        self.taken = self.taken.saturating_add(cost);
        match self.log.back_mut() {
            // Time that stands still, or goes back, makes no new entry.
            Some((at, taken)) if *at >= now => *taken += cost,
            _ => self.log.push_back((now, cost)),
        }
    }

    fn slide(&mut self, now: Instant) {
        while let Some((at, taken)) = self.log.front() {
            if now.saturating_duration_since(*at) <= self.within {
                return;
            }
            self.taken -= taken;
            self.log.pop_front();
        }
    }
}

/// The least by which two moments differ.
const TICK: Duration = Duration::from_nanos(1);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_burst_is_followed_by_a_whole_window_of_rest() {
        let now = Instant::now();
        let second = Duration::from_secs(1);
        let mut window = SlidingWindow::new(3, second);
        assert_eq!((0..5).filter(|_| window.take(1, 0, now)).count(), 3);
        let ready = window.ready_at(1, 0, now);
        assert_eq!(ready, now + second + TICK);
        assert!(!window.take(1, 0, now + second), "both ends belong to it");
        assert!(window.take(1, 0, ready));
    }

    #[test]
    fn what_was_not_sent_is_given_back() {
        let now = Instant::now();
        let mut window = SlidingWindow::new(3, Duration::from_secs(1));
        assert!(window.take(1, 0, now) && window.take(2, 0, now));
        window.refund(2);
        assert_eq!(window.available(now), 2);
    }

    proptest! {
        #[test]
        fn no_window_holds_more_than_its_limit(
            limit in 1_u64..20, millis in 1_u64..50,
            steps in prop::collection::vec((0_u64..30, 0_u64..8, 0_u64..4), 1..200),
        ) {
            let within = Duration::from_millis(millis);
            let mut window = SlidingWindow::new(limit, within);
            let mut now = Instant::now();
            let mut taken: Vec<(Instant, u64)> = Vec::new();
            for (pause, cost, floor) in steps {
                now += Duration::from_millis(pause);
                let ready = window.ready_at(cost, floor, now);
                let took = window.take(cost, floor, now);
                prop_assert_eq!(took, cost == 0 || (ready <= now && cost + floor <= limit));
                if took {
                    taken.push((now, cost));
                } else if cost + floor <= limit {
                    prop_assert!(window.clone().take(cost, floor, ready), "ready when it says so");
                }
            }
            for (end, _) in &taken {
                let start = *end - within;
                let sum: u64 = taken.iter().filter(|(at, _)| *at >= start && at <= end).map(|(_, cost)| cost).sum();
                prop_assert!(sum <= limit, "{} in one window of {}", sum, limit);
            }
        }
    }
}
