//! The circuit breaker: after many failures nobody connects for a while, then one does, for all.
//!
//! Apart from the backoff because that spreads one session's attempts, and a thousand sessions that each wait
//! politely still knock all the time.
//!
//! ```text
//!            failures within the window            rest is over: one probe
//!   Closed ----------------------------> Open --------------------------> HalfOpen
//!     ^                                   ^                                  |  |
//!     |                                   +-- the probe failed (a new rest) -+  |
//!     |                                   +-- it was given up (no rest) -----+  |
//!     +------------------- the probe's session was live for the proof ---------+
//! ```
//!
//! Invariants: while it is open nobody passes; while it is half open one does; an attempt that began before it
//! opened changes nothing after that; it waits for nobody who has gone. Absent on purpose: a clock, and those
//! who wait.

use std::collections::VecDeque;
use std::fmt;
use std::time::Instant;

use crate::config::BreakerPolicy;

/// Whether attempts pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BreakerState {
    /// Everybody passes.
    Closed,
    /// Nobody passes.
    Open,
    /// One probe has passed, and everybody else waits for what becomes of it.
    HalfOpen,
}

impl BreakerState {
    /// A constant word.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half open",
        }
    }
}

impl fmt::Display for BreakerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

/// An attempt that passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attempt(u64);

/// What an attempt that wants to pass is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Answer {
    /// Begin. Tell the breaker of the end, whatever it is.
    Pass(Attempt),
    /// Ask again at this time, or when something has been told to the breaker, whichever is first.
    Wait(Option<Instant>),
}

/// How an attempt, or the connection that it led to, ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The connection had been stable.
    Stable,
    /// There was none, or it was lost before it was stable.
    Failed,
    /// We gave it up ourselves, which says nothing about the peer.
    GivenUp,
}

#[derive(Debug)]
enum State {
    Closed,
    Open {
        until: Instant,
    },
    HalfOpen {
        probe: Attempt,
        /// Set when the probe's session is live.
        live_since: Option<Instant>,
    },
}

/// The machine. See the module's documentation.
#[derive(Debug)]
pub struct Breaker {
    policy: BreakerPolicy,
    state: State,
    /// When the last failures were; the oldest first, no more than open it.
    failures: VecDeque<Instant>,
    attempts: u64,
}

impl Breaker {
    /// A closed one. `policy` has been [checked](BreakerPolicy::check).
    #[must_use]
    pub fn new(policy: BreakerPolicy) -> Self {
        Self {
            policy,
            state: State::Closed,
            failures: VecDeque::new(),
            attempts: 0,
        }
    }

    /// Its state. That a probe's proof is complete is noticed here and by [`Breaker::ask`].
    #[must_use]
    pub fn state(&mut self, now: Instant) -> BreakerState {
        self.settle(now);
        match self.state {
            State::Closed => BreakerState::Closed,
            State::Open { .. } => BreakerState::Open,
            State::HalfOpen { .. } => BreakerState::HalfOpen,
        }
    }

    /// Whether, and when, an attempt would have to wait; asks for nothing.
    #[must_use]
    pub fn closed_until(&mut self, now: Instant) -> Option<Option<Instant>> {
        self.settle(now);
        match self.state {
            State::Open { until } if now < until => Some(Some(until)),
            State::Closed | State::Open { .. } => None,
            State::HalfOpen { live_since, .. } => {
                Some(live_since.map(|since| since + self.policy.proof))
            }
        }
    }

    /// Whether an attempt may begin.
    pub fn ask(&mut self, now: Instant) -> Answer {
        if let Some(until) = self.closed_until(now) {
            return Answer::Wait(until);
        }
        self.attempts += 1;
        let attempt = Attempt(self.attempts);
        if matches!(self.state, State::Open { .. }) {
            self.state = State::HalfOpen {
                probe: attempt,
                live_since: None,
            };
        }
        Answer::Pass(attempt)
    }

    /// The attempt led to a session that is live.
    pub fn on_live(&mut self, attempt: Attempt, now: Instant) {
        if let State::HalfOpen { probe, live_since } = &mut self.state
            && *probe == attempt
        {
            *live_since = Some(now);
        }
        self.settle(now);
    }

    /// The attempt, or the connection that it led to, has ended.
    pub fn on_end(&mut self, attempt: Attempt, outcome: Outcome, now: Instant) {
        self.settle(now);
        match (&self.state, outcome) {
            (State::Closed, Outcome::Failed) => self.on_failure(now),
            (State::HalfOpen { probe, .. }, _) if *probe == attempt => match outcome {
                Outcome::Failed => self.open(now),
                Outcome::GivenUp => self.state = State::Open { until: now },
                // Where the proof takes longer than what counts as stable, stable is proof enough.
                Outcome::Stable => self.close(),
            },
            (State::Closed, Outcome::Stable | Outcome::GivenUp)
            | (State::Open { .. } | State::HalfOpen { .. }, _) => {}
        }
    }

    fn on_failure(&mut self, now: Instant) {
        self.failures.push_back(now);
        while let Some(first) = self.failures.front() {
            if now.saturating_duration_since(*first) <= self.policy.within {
                break;
            }
            self.failures.pop_front();
        }
        if self.failures.len() >= self.policy.failures as usize {
            self.open(now);
        }
    }

    fn open(&mut self, now: Instant) {
        self.failures.clear();
        self.state = State::Open {
            until: now + self.policy.rest,
        };
    }

    fn close(&mut self) {
        self.failures.clear();
        self.state = State::Closed;
    }

    /// Closes it if the probe has been live for long enough.
    fn settle(&mut self, now: Instant) {
        if let State::HalfOpen {
            live_since: Some(since),
            ..
        } = self.state
            && now.saturating_duration_since(since) >= self.policy.proof
        {
            self.close();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn policy() -> BreakerPolicy {
        BreakerPolicy::new(3, 10 * SECOND)
            .rest(5 * SECOND)
            .proof(2 * SECOND)
    }

    #[track_caller]
    fn pass(breaker: &mut Breaker, now: Instant) -> Attempt {
        match breaker.ask(now) {
            Answer::Pass(attempt) => attempt,
            Answer::Wait(until) => panic!("had to wait until {until:?}"),
        }
    }

    fn fail(breaker: &mut Breaker, now: Instant) {
        let attempt = pass(breaker, now);
        breaker.on_end(attempt, Outcome::Failed, now);
    }

    fn opened(now: Instant) -> Breaker {
        let mut breaker = Breaker::new(policy());
        for _ in 0..3 {
            fail(&mut breaker, now);
        }
        assert_eq!(breaker.state(now), BreakerState::Open);
        breaker
    }

    #[test]
    fn failures_in_the_window_open_it_and_older_ones_do_not() {
        let now = Instant::now();
        let mut breaker = Breaker::new(policy());
        fail(&mut breaker, now);
        fail(&mut breaker, now + 6 * SECOND);
        fail(&mut breaker, now + 11 * SECOND);
        assert_eq!(breaker.state(now + 11 * SECOND), BreakerState::Closed);
        fail(&mut breaker, now + 12 * SECOND);
        assert_eq!(breaker.state(now + 12 * SECOND), BreakerState::Open);
    }

    #[test]
    fn after_the_rest_one_probe_passes_and_its_proof_lets_everybody_follow() {
        let now = Instant::now();
        let mut breaker = opened(now);
        let rested = now + 5 * SECOND;
        assert_eq!(breaker.ask(now + SECOND), Answer::Wait(Some(rested)));
        let probe = pass(&mut breaker, rested);
        assert_eq!(breaker.state(rested), BreakerState::HalfOpen);
        assert_eq!(breaker.ask(rested), Answer::Wait(None));
        breaker.on_live(probe, rested + SECOND);
        let proven = rested + 3 * SECOND;
        assert_eq!(breaker.ask(rested + 2 * SECOND), Answer::Wait(Some(proven)));
        pass(&mut breaker, proven);
        assert_eq!(breaker.state(proven), BreakerState::Closed);
    }

    #[test]
    fn a_probe_that_fails_begins_another_rest_and_one_that_is_given_up_does_not() {
        let now = Instant::now();
        let mut breaker = opened(now);
        let rested = now + 5 * SECOND;
        let probe = pass(&mut breaker, rested);
        breaker.on_live(probe, rested);
        breaker.on_end(probe, Outcome::Failed, rested + SECOND);
        let again = rested + 6 * SECOND;
        assert_eq!(
            breaker.ask(rested + SECOND),
            Answer::Wait(Some(again)),
            "accepted and closed is no proof"
        );
        let probe = pass(&mut breaker, again);
        breaker.on_end(probe, Outcome::GivenUp, again);
        pass(&mut breaker, again);
    }

    #[test]
    fn what_began_before_it_opened_changes_nothing_after_that() {
        let now = Instant::now();
        let mut breaker = Breaker::new(policy());
        let early = pass(&mut breaker, now);
        for _ in 0..3 {
            fail(&mut breaker, now);
        }
        breaker.on_live(early, now);
        breaker.on_end(early, Outcome::Failed, now + SECOND);
        assert_eq!(
            breaker.ask(now + SECOND),
            Answer::Wait(Some(now + 5 * SECOND))
        );
    }

    #[test]
    fn ends_that_say_nothing_about_the_peer_are_not_counted() {
        let now = Instant::now();
        let mut breaker = Breaker::new(policy());
        for outcome in [Outcome::GivenUp, Outcome::Stable].repeat(20) {
            let attempt = pass(&mut breaker, now);
            breaker.on_end(attempt, outcome, now);
        }
        assert_eq!(breaker.state(now), BreakerState::Closed);
    }

    proptest! {
        /// Whatever happens: at most one probe at a time, nobody passes during a rest, and who has to wait can
        /// always pass in the end.
        #[test]
        fn a_breaker_lets_one_probe_through_and_waits_for_nobody_who_has_gone(
            steps in prop::collection::vec((0_u64..4_000, 0_u8..6, any::<prop::sample::Index>()), 1..200),
        ) {
            let mut now = Instant::now();
            let mut breaker = Breaker::new(policy());
            let mut running: Vec<Attempt> = Vec::new();
            for (pause, what, which) in steps {
                now += Duration::from_millis(pause);
                match what {
                    0..=2 => {
                        let before = breaker.state(now);
                        let closed = breaker.closed_until(now);
                        match breaker.ask(now) {
                            Answer::Pass(attempt) => {
                                prop_assert!(closed.is_none());
                                prop_assert!(before != BreakerState::HalfOpen);
                                running.push(attempt);
                            }
                            Answer::Wait(until) => {
                                prop_assert_eq!(closed, Some(until));
                                prop_assert!(until.is_none_or(|until| until > now));
                                prop_assert!(before != BreakerState::Closed);
                            }
                        }
                    }
                    _ if running.is_empty() => {}
                    3 => breaker.on_live(*which.get(&running), now),
                    _ => {
                        let attempt = running.swap_remove(which.index(running.len()));
                        let outcome = if what == 4 { Outcome::Failed } else { Outcome::GivenUp };
                        breaker.on_end(attempt, outcome, now);
                    }
                }
            }
            for attempt in running {
                breaker.on_end(attempt, Outcome::GivenUp, now);
            }
            let passes = matches!(breaker.ask(now + 10 * SECOND), Answer::Pass(_));
            prop_assert!(passes, "{breaker:?}");
        }
    }
}
