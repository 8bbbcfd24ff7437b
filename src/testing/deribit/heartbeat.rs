//! When the venue says it is alive, asks whether the client is, and gives up.
//!
//! A file of its own because it is a pure machine: it is asked for its next deadline and answers
//! what to do when it has come.
//!
//! ```text
//! quiet for less than one interval: heartbeat, every interval
//! quiet for one interval          : test_request, then
//!     public/test in time         : back to heartbeats
//!     not within the grace        : give up
//! ```
//!
//! Invariants: any message of the client makes it loud; only `public/test` answers a test request.

use std::time::Duration;

use tokio::time::Instant;

/// What is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(super) enum Due {
    Nothing,
    Heartbeat,
    TestRequest,
    GiveUp,
}

#[derive(Debug)]
pub(super) struct Heartbeat {
    interval: Duration,
    grace: Duration,
    next: Instant,
    received: Instant,
    /// Set by a test request, cleared by its answer.
    give_up: Option<Instant>,
}

impl Heartbeat {
    pub(super) fn new(interval: Duration, grace: f64, now: Instant) -> Self {
        // A divisor may have made it very short; a venue does not spin.
        let interval = interval.max(Duration::from_millis(1));
        Self {
            interval,
            grace: interval.mul_f64(grace),
            next: now + interval,
            received: now,
            give_up: None,
        }
    }

    pub(super) fn on_message(&mut self, now: Instant) {
        self.received = now;
    }

    pub(super) fn on_test(&mut self) {
        self.give_up = None;
    }

    /// A test request was sent outside the rhythm.
    pub(super) fn on_test_request(&mut self, now: Instant) {
        self.give_up.get_or_insert(now + self.grace);
    }

    pub(super) fn next_timeout(&self) -> Instant {
        self.give_up.map_or(self.next, |at| at.min(self.next))
    }

    pub(super) fn on_timeout(&mut self, now: Instant) -> Due {
        if self.give_up.is_some_and(|at| at <= now) {
            return Due::GiveUp;
        }
        if now < self.next {
            return Due::Nothing;
        }
        self.next = now + self.interval;
        if self.give_up.is_some() {
            return Due::Heartbeat;
        }
        if now.duration_since(self.received) >= self.interval {
            self.on_test_request(now);
            return Due::TestRequest;
        }
        Due::Heartbeat
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_quiet_client_is_asked_and_then_given_up() {
        let start = Instant::now();
        let mut heartbeat = Heartbeat::new(SECOND * 10, 1.0, start);
        assert_eq!(heartbeat.next_timeout(), start + SECOND * 10);
        assert_eq!(heartbeat.on_timeout(start + SECOND * 10), Due::TestRequest);
        assert_eq!(heartbeat.next_timeout(), start + SECOND * 20);
        assert_eq!(heartbeat.on_timeout(start + SECOND * 20), Due::GiveUp);
    }

    #[test]
    fn an_answer_buys_another_interval() {
        let start = Instant::now();
        let mut heartbeat = Heartbeat::new(SECOND * 10, 1.0, start);
        assert_eq!(heartbeat.on_timeout(start + SECOND * 10), Due::TestRequest);
        heartbeat.on_message(start + SECOND * 15);
        heartbeat.on_test();
        assert_eq!(heartbeat.on_timeout(start + SECOND * 20), Due::Heartbeat);
        assert_eq!(heartbeat.on_timeout(start + SECOND * 30), Due::TestRequest);
    }

    #[test]
    fn another_request_is_no_answer() {
        let start = Instant::now();
        let mut heartbeat = Heartbeat::new(SECOND * 10, 1.0, start);
        assert_eq!(heartbeat.on_timeout(start + SECOND * 10), Due::TestRequest);
        heartbeat.on_message(start + SECOND * 15);
        assert_eq!(heartbeat.on_timeout(start + SECOND * 20), Due::GiveUp);
    }
}
