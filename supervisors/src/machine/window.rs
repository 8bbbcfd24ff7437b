//! The sliding window of restarts.
//!
//! Exact to the nanosecond, where OTP has a grain of one second.
//!
//! Invariants: a restart counts until it is older than the window, so one exactly as old still
//! counts; one that was refused does not.

use std::collections::VecDeque;
use std::time::Instant;

use crate::policy::Intensity;

#[derive(Debug)]
pub(super) struct Window {
    intensity: Intensity,
    restarts: VecDeque<Instant>,
}

impl Window {
    pub(super) fn new(intensity: Intensity) -> Self {
        Self {
            intensity,
            restarts: VecDeque::new(),
        }
    }

    /// Goes on with another intensity; what was booked stays booked.
    pub(super) fn adjust(&mut self, intensity: Intensity) {
        self.intensity = intensity;
    }

    /// Books a restart; `false` when it is one too many.
    #[must_use]
    pub(super) fn book(&mut self, now: Instant) -> bool {
        let limit = self.intensity.max_restarts as usize;
        self.restarts.push_back(now);
        while self
            .restarts
            .front()
            .is_some_and(|at| now.saturating_duration_since(*at) > self.intensity.within)
        {
            self.restarts.pop_front();
        }
        let granted = self.restarts.len() <= limit;
        if !granted {
            // One that is not made does not count.
            self.restarts.pop_back();
        }
        granted
    }

    /// How many restarts count at `now`.
    pub(super) fn used(&self, now: Instant) -> u32 {
        let is_past = |at: &Instant| now.saturating_duration_since(*at) > self.intensity.within;
        // In order, the oldest first; just after one was booked, none is past.
        let past = match self.restarts.front() {
            Some(oldest) if is_past(oldest) => self.restarts.partition_point(is_past),
            Some(_) | None => 0,
        };
        let used = self.restarts.len() - past;
        u32::try_from(used).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    fn window(max: u32, millis: u64) -> Window {
        Window::new(Intensity::new(max, Duration::from_millis(millis)))
    }

    /// RX-25: the boundary is inclusive.
    #[test]
    fn a_restart_exactly_as_old_as_the_window_still_counts() {
        let start = Instant::now();
        let mut at_edge = window(1, 1000);
        assert!(at_edge.book(start));
        assert!(!at_edge.book(start + Duration::from_millis(1000)));

        let mut past_edge = window(1, 1000);
        assert!(past_edge.book(start));
        assert!(past_edge.book(start + Duration::from_millis(1000) + Duration::from_nanos(1)));
    }

    #[test]
    fn an_intensity_of_zero_allows_nothing() {
        assert!(!window(0, 1000).book(Instant::now()));
    }

    proptest! {
        /// RX-25: agrees with counting over the whole history.
        #[test]
        fn the_window_equals_a_naive_count(
            max in 0u32..5,
            within in 1u64..50,
            gaps in proptest::collection::vec(0u64..30, 1..60),
        ) {
            let start = Instant::now();
            let mut window = window(max, within);
            let mut history: Vec<u64> = Vec::new();
            let mut elapsed = 0;
            for gap in gaps {
                elapsed += gap;
                let naive = history.iter().filter(|at| elapsed - **at <= within).count();
                let now = start + Duration::from_millis(elapsed);
                let granted = naive < max as usize;
                if granted {
                    history.push(elapsed);
                }
                prop_assert_eq!(window.book(now), granted);
                prop_assert_eq!(window.used(now) as usize, naive + usize::from(granted));
            }
        }
    }
}
