//! How long a restart waits: pure delay arithmetic.
//!
//! Its own module, and public, because every layer that retries something needs the same
//! arithmetic. Time and randomness are arguments.
//!
//! ```text
//! attempt   1           2     3          4          ..
//! ceiling   0 or min    min   min·f      min·f²     .. at most max; linear: min, 2·min, 3·min
//! delay     by jitter: Full 0..=ceiling, Equal ceiling/2..=ceiling, None ceiling,
//!           Percent(p) ceiling-p%..=ceiling
//! ```
//!
//! Invariants: no delay exceeds `max`, with any jitter (the cap comes after the growth and before
//! the jitter); any attempt number, however large, gives a delay and never a panic.

use std::time::Duration;

use crate::policy::Intensity;

/// How the delay is spread, so that many clients do not return at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Jitter {
    /// Anywhere between zero and the ceiling. The default.
    #[default]
    Full,
    /// Half of the ceiling, and up to the other half on top.
    Equal,
    /// The ceiling itself.
    None,
    /// The ceiling less up to so many percent of it.
    Percent(u8),
}

/// How the ceiling grows from one attempt to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Growth {
    /// By the factor: `min`, `min·factor`, `min·factor²`. The default.
    #[default]
    Exponential,
    /// By `min`: `min`, `2·min`, `3·min`. The factor plays no part.
    Linear,
}

/// Why a [`Backoff`] is refused.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum BackoffError {
    /// The shortest delay is longer than the longest.
    #[error("backoff min {min:?} is longer than max {max:?}; shorten `min` or lengthen `max`")]
    MinAboveMax {
        /// The shortest delay as given.
        min: Duration,
        /// The longest delay as given.
        max: Duration,
    },
    /// The factor is not a number of at least one.
    #[error("backoff factor {0} does not grow; give a finite number of at least 1")]
    Factor(f64),
    /// No attempt is allowed at all.
    #[error("backoff allows 0 attempts; use a temporary child instead")]
    NoAttempts,
    /// More than the whole delay would be taken away.
    #[error("backoff jitter of {0} % takes more than there is; give at most 100 %")]
    Jitter(u8),
}

/// The delays between consecutive restarts of one child.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Backoff {
    /// Ceiling of the first delay.
    pub min: Duration,
    /// Ceiling of every delay.
    pub max: Duration,
    /// Growth from one attempt to the next. Default 2.
    pub factor: f64,
    /// Default [`Growth::Exponential`].
    pub growth: Growth,
    /// Default [`Jitter::Full`].
    pub jitter: Jitter,
    /// Whether the first restart after a stable run happens at once. Default yes. A restart that
    /// failed to *start* always waits at least a millisecond.
    pub first_immediate: bool,
    /// How long an incarnation must have been up for the attempts to count from one again.
    /// Default: `max`.
    pub reset_after: Duration,
    /// After so many consecutive attempts the supervisor gives up as if its intensity were
    /// exhausted. Default: no limit.
    pub max_attempts: Option<u32>,
}

impl Backoff {
    /// Exponential delays between `min` and `max` with full jitter, the first restart at once.
    #[must_use]
    pub fn new(min: Duration, max: Duration) -> Self {
        Self {
            min,
            max,
            factor: 2.0,
            growth: Growth::Exponential,
            jitter: Jitter::Full,
            first_immediate: true,
            reset_after: max,
            max_attempts: None,
        }
    }

    /// Sets the growth from one attempt to the next.
    #[must_use]
    pub fn factor(mut self, factor: f64) -> Self {
        self.factor = factor;
        self
    }

    /// Sets how the ceiling grows.
    #[must_use]
    pub fn growth(mut self, growth: Growth) -> Self {
        self.growth = growth;
        self
    }

    /// Sets how delays are spread.
    #[must_use]
    pub fn jitter(mut self, jitter: Jitter) -> Self {
        self.jitter = jitter;
        self
    }

    /// Sets whether the first restart happens at once.
    #[must_use]
    pub fn first_immediate(mut self, yes: bool) -> Self {
        self.first_immediate = yes;
        self
    }

    /// Sets how long a run must last to count as stable.
    #[must_use]
    pub fn reset_after(mut self, uptime: Duration) -> Self {
        self.reset_after = uptime;
        self
    }

    /// Sets after how many consecutive attempts the supervisor gives up.
    #[must_use]
    pub fn max_attempts(mut self, attempts: u32) -> Self {
        self.max_attempts = Some(attempts);
        self
    }

    /// Whether the values make sense together.
    ///
    /// # Errors
    /// Names the first value that does not.
    pub fn check(&self) -> Result<(), BackoffError> {
        if self.min > self.max {
            return Err(BackoffError::MinAboveMax {
                min: self.min,
                max: self.max,
            });
        }
        if !self.factor.is_finite() || self.factor < 1.0 {
            return Err(BackoffError::Factor(self.factor));
        }
        if self.max_attempts == Some(0) {
            return Err(BackoffError::NoAttempts);
        }
        match self.jitter {
            Jitter::Percent(percent) if percent > 100 => Err(BackoffError::Jitter(percent)),
            Jitter::Percent(_) | Jitter::Full | Jitter::Equal | Jitter::None => Ok(()),
        }
    }

    /// The longest the given attempt may wait; attempts count from one.
    #[must_use]
    pub fn ceiling(&self, attempt: u32) -> Duration {
        let steps = if self.first_immediate {
            match attempt {
                0 | 1 => return Duration::ZERO,
                n => n - 2,
            }
        } else {
            attempt.saturating_sub(1)
        };
        if self.min.is_zero() {
            return Duration::ZERO;
        }
        let max = self.max.as_secs_f64();
        let growth = match self.growth {
            Growth::Exponential => self.factor.powf(f64::from(steps)),
            Growth::Linear => f64::from(steps) + 1.0,
        };
        let grown = self.min.as_secs_f64() * growth;
        // Not `min`: an infinite or undefined product must give the cap too.
        if grown < max {
            // Not a number below zero either, which `check` refuses.
            Duration::try_from_secs_f64(grown).map_or(self.max, |delay| delay.min(self.max))
        } else {
            self.max
        }
    }

    /// The least the given attempt may wait; attempts count from one.
    fn floor(&self, attempt: u32) -> Duration {
        // One jitter adds, another takes away.
        self.delay(attempt, 0.0).min(self.delay(attempt, 1.0))
    }

    /// Whether a child that fails at once, again and again, is restarted for ever: its delays alone, however
    /// the jitter falls, keep it from ever using up this intensity, and no
    /// [`max_attempts`](Self::max_attempts) ends it.
    ///
    /// That is so when the least that the first `max_restarts` attempts wait adds up to more than `within`.
    /// It is about one child: others under the same supervisor use up the same intensity.
    ///
    /// ```
    /// use mainstay_supervisors::{Backoff, Intensity, Jitter};
    /// use std::time::Duration;
    ///
    /// let seconds = Duration::from_secs;
    /// let three_in_five = Intensity::new(3, seconds(5));
    /// let backoff = Backoff::new(seconds(1), seconds(30));
    /// assert!(!backoff.is_unlimited(three_in_five), "full jitter may wait for nothing at all");
    ///
    /// let steady = backoff.jitter(Jitter::None).first_immediate(false);
    /// assert!(steady.is_unlimited(three_in_five), "1 s, 2 s and 4 s are more than 5 s");
    /// assert!(!steady.max_attempts(9).is_unlimited(three_in_five));
    /// ```
    #[must_use]
    pub fn is_unlimited(&self, intensity: Intensity) -> bool {
        if self.max_attempts.is_some() {
            return false;
        }
        // Where every run counts as stable, each attempt is the first.
        if self.reset_after.is_zero() {
            return self.floor(1).saturating_mul(intensity.max_restarts) > intensity.within;
        }
        let mut waited = Duration::ZERO;
        for attempt in 1..=intensity.max_restarts {
            let floor = self.floor(attempt);
            // They only grow, so the rest waits no less.
            let rest = intensity.max_restarts - attempt + 1;
            if waited.saturating_add(floor.saturating_mul(rest)) > intensity.within {
                return true;
            }
            // Nor any more, once the longest delay is reached.
            if floor == self.floor(u32::MAX) {
                return false;
            }
            waited = waited.saturating_add(floor);
        }
        false
    }

    /// How long the given attempt waits; attempts count from one, `random` lies within `0.0..=1.0`.
    ///
    /// ```
    /// use mainstay_supervisors::backoff::{Backoff, Jitter};
    /// use std::time::Duration;
    ///
    /// let backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1)).jitter(Jitter::None);
    /// let delays: Vec<u128> = (1..=6).map(|n| backoff.delay(n, 0.5).as_millis()).collect();
    /// assert_eq!(delays, [0, 100, 200, 400, 800, 1000]);
    /// ```
    #[must_use]
    pub fn delay(&self, attempt: u32, random: f64) -> Duration {
        let ceiling = self.ceiling(attempt);
        let random = if random.is_finite() {
            random.clamp(0.0, 1.0)
        } else {
            1.0
        };
        match self.jitter {
            Jitter::Full => part(ceiling, random),
            Jitter::Equal => (ceiling / 2 + part(ceiling / 2, random)).min(ceiling),
            Jitter::None => ceiling,
            Jitter::Percent(percent) => {
                let share = f64::from(percent.min(100)) / 100.0;
                ceiling.saturating_sub(part(ceiling, share * random))
            }
        }
    }
}

/// So much of `whole`. The longest durations are no whole number of seconds, and round up beyond what fits.
fn part(whole: Duration, share: f64) -> Duration {
    Duration::try_from_secs_f64(whole.as_secs_f64() * share).map_or(whole, |part| part.min(whole))
}

impl Default for Backoff {
    /// The first restart at once, then from 50 ms to 5 s; 5 s of uptime count as stable.
    fn default() -> Self {
        Self::new(Duration::from_millis(50), Duration::from_secs(5))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn without_an_immediate_first_the_first_delay_is_min() {
        let backoff = Backoff::new(Duration::from_millis(10), Duration::from_secs(1))
            .first_immediate(false)
            .jitter(Jitter::None);
        assert_eq!(backoff.delay(1, 0.0), Duration::from_millis(10));
        assert_eq!(backoff.delay(2, 0.0), Duration::from_millis(20));
    }

    #[test]
    fn nonsense_is_refused_by_name() {
        let (short, long) = (Duration::from_millis(1), Duration::from_secs(1));
        assert!(matches!(
            Backoff::new(long, short).check(),
            Err(BackoffError::MinAboveMax { .. })
        ));
        assert!(matches!(
            Backoff::new(short, long).factor(f64::NAN).check(),
            Err(BackoffError::Factor(_))
        ));
        assert!(matches!(
            Backoff::new(short, long).factor(0.5).check(),
            Err(BackoffError::Factor(_))
        ));
        assert_eq!(
            Backoff::new(short, long).max_attempts(0).check(),
            Err(BackoffError::NoAttempts)
        );
    }

    #[test]
    fn linear_delays_grow_by_the_first_one() {
        let backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(3))
            .first_immediate(false)
            .growth(Growth::Linear)
            .jitter(Jitter::None);
        let delays: Vec<u64> = (1..=5).map(|n| backoff.delay(n, 0.0).as_secs()).collect();
        assert_eq!(delays, [1, 2, 3, 3, 3]);
    }

    #[test]
    fn between_equal_bounds_the_delay_is_constant() {
        let second = Duration::from_secs(1);
        let backoff = Backoff::new(second, second)
            .first_immediate(false)
            .jitter(Jitter::None)
            .max_attempts(5);
        assert_eq!(backoff.check(), Ok(()));
        for (attempt, random) in [(1, 0.0), (2, 0.5), (5, 1.0)] {
            assert_eq!(backoff.delay(attempt, random), second);
        }
    }

    #[test]
    fn a_percentage_of_jitter_takes_at_most_that_much_away() {
        let backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(1))
            .first_immediate(false)
            .jitter(Jitter::Percent(25));
        assert_eq!(backoff.delay(1, 0.0), Duration::from_secs(1));
        assert_eq!(backoff.delay(1, 1.0), Duration::from_millis(750));
        assert_eq!(
            backoff.jitter(Jitter::Percent(101)).check(),
            Err(BackoffError::Jitter(101))
        );
    }

    #[test]
    fn the_longest_delay_there_is_does_not_panic() {
        for max in [Duration::MAX, Duration::from_secs(u64::MAX - 500)] {
            let percent = [0, 1, 50, 100].map(Jitter::Percent);
            for jitter in [Jitter::Full, Jitter::Equal, Jitter::None]
                .into_iter()
                .chain(percent)
            {
                let backoff = Backoff::new(max, max).jitter(jitter);
                for random in [0.0, 0.5, 1.0f64.next_down(), 1.0, f64::NAN, -1.0] {
                    assert!(backoff.delay(9, random) <= max, "{jitter:?} {max:?}");
                }
                assert!(!backoff.max_attempts(1).is_unlimited(Intensity::default()));
                let _ = backoff.is_unlimited(Intensity::default());
            }
        }
    }

    #[test]
    fn a_factor_that_check_refuses_does_not_panic() {
        for factor in [-2.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 0.0] {
            let backoff =
                Backoff::new(Duration::from_secs(1), Duration::from_secs(9)).factor(factor);
            assert!(backoff.check().is_err(), "{factor}");
            for attempt in [1, 2, 3, u32::MAX] {
                assert!(backoff.delay(attempt, 0.5) <= Duration::from_secs(9));
            }
        }
    }

    #[test]
    fn no_delay_stays_no_delay_however_many_the_attempts() {
        let backoff = Backoff::new(Duration::ZERO, Duration::from_secs(5)).jitter(Jitter::None);
        assert_eq!(backoff.delay(u32::MAX, 1.0), Duration::ZERO);
    }

    fn any_backoff() -> impl Strategy<Value = Backoff> {
        (
            0u64..10_000,
            0u64..100_000,
            1.0f64..100.0,
            prop_oneof![
                Just(Jitter::Full),
                Just(Jitter::Equal),
                Just(Jitter::None),
                (0..=100u8).prop_map(Jitter::Percent)
            ],
            prop_oneof![Just(Growth::Exponential), Just(Growth::Linear)],
            any::<bool>(),
        )
            .prop_map(|(min, more, factor, jitter, growth, first)| {
                Backoff::new(
                    Duration::from_millis(min),
                    Duration::from_millis(min + more),
                )
                .factor(factor)
                .growth(growth)
                .jitter(jitter)
                .first_immediate(first)
            })
    }

    proptest! {
        #[test]
        fn no_delay_exceeds_the_cap(backoff in any_backoff(), attempt: u32, random: f64) {
            prop_assert!(backoff.delay(attempt, random) <= backoff.max);
        }

        /// The definition, step by step.
        #[test]
        fn restarts_are_unlimited_when_the_least_delays_exceed_the_window(
            backoff in any_backoff(), max_restarts in 0u32..50, millis in 1u64..100_000,
        ) {
            let within = Duration::from_millis(millis);
            let always_first = backoff.reset_after.is_zero();
            let waits = (1..=max_restarts).map(|n| backoff.floor(if always_first { 1 } else { n }));
            let waited = waits.fold(Duration::ZERO, Duration::saturating_add);
            let unlimited = waited > within && backoff.max_attempts.is_none();
            prop_assert_eq!(backoff.is_unlimited(Intensity::new(max_restarts, within)), unlimited);
        }

        #[test]
        fn ceilings_never_shrink(backoff in any_backoff(), attempt in 0u32..1_000_000) {
            prop_assert!(backoff.ceiling(attempt) <= backoff.ceiling(attempt + 1));
        }

        #[test]
        fn equal_jitter_keeps_half(backoff in any_backoff(), attempt in 0u32..100, random in 0.0f64..=1.0) {
            let backoff = backoff.jitter(Jitter::Equal);
            prop_assert!(backoff.delay(attempt, random) >= backoff.ceiling(attempt) / 2);
        }
    }
}
