//! When attempts to connect are given a rest together.
//!
//! Apart from the backoff, which is one session's affair: a breaker is shared by all that connect to the same
//! place. The machine is [`protocol::breaker`](crate::protocol::breaker).
//!
//! Invariant: plain data.

use std::time::Duration;

use crate::error::ConfigError;

/// When a circuit breaker opens, and when it closes again.
///
/// ```
/// use std::time::Duration;
/// use mainstay::config::BreakerPolicy;
///
/// let policy = BreakerPolicy::new(10, Duration::from_secs(60)).rest(Duration::from_secs(20));
/// assert!(policy.check().is_ok());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct BreakerPolicy {
    /// So many failures within [`within`](Self::within) open it. A failure is an attempt that led to no
    /// connection, or a connection that was lost before it was stable.
    pub failures: u32,
    /// How long a failure is remembered.
    pub within: Duration,
    /// How long nobody connects after it has opened. Default 30 s. Shorter finds a peer that is back sooner, and
    /// costs one that is in trouble a probe each time.
    pub rest: Duration,
    /// How long the probe's session must have been live before everybody else may follow. Default 1 s. Without
    /// it a server that accepts and closes would be taken for a healthy one.
    pub proof: Duration,
}

impl BreakerPolicy {
    /// It opens after `failures` failures `within` this time.
    #[must_use]
    pub fn new(failures: u32, within: Duration) -> Self {
        Self {
            failures,
            within,
            rest: Duration::from_secs(30),
            proof: Duration::from_secs(1),
        }
    }

    /// Another rest.
    #[must_use]
    pub fn rest(self, rest: Duration) -> Self {
        Self { rest, ..self }
    }

    /// Another proof.
    #[must_use]
    pub fn proof(self, proof: Duration) -> Self {
        Self { proof, ..self }
    }

    /// Whether it can work.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] for the first value that cannot: no failures at all or more than 10 000, and times of
    /// zero (but for the proof) or of more than a day.
    pub fn check(&self) -> Result<(), ConfigError> {
        if self.failures == 0 || self.failures > MOST {
            let remedy = format!("give a number from 1 to {MOST}");
            let value = self.failures.to_string();
            return Err(ConfigError::new("breaker.failures", value, remedy));
        }
        let times = [
            ("breaker.within", self.within, false),
            ("breaker.rest", self.rest, false),
            ("breaker.proof", self.proof, true),
        ];
        for (option, value, zero) in times {
            if value > LONGEST || (value.is_zero() && !zero) {
                let remedy = "give a duration of at most a day, above zero unless it is the proof";
                return Err(ConfigError::new(option, format!("{value:?}"), remedy));
            }
        }
        Ok(())
    }
}

/// Each failure in the window is remembered.
const MOST: u32 = 10_000;
const LONGEST: Duration = Duration::from_secs(24 * 3600);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_work_is_refused_by_name() {
        let second = Duration::from_secs(1);
        let good = BreakerPolicy::new(5, second);
        assert!(good.proof(Duration::ZERO).check().is_ok());
        for (policy, option) in [
            (BreakerPolicy::new(0, second), "breaker.failures"),
            (BreakerPolicy::new(10_001, second), "breaker.failures"),
            (BreakerPolicy::new(5, Duration::ZERO), "breaker.within"),
            (good.rest(Duration::ZERO), "breaker.rest"),
            (good.proof(Duration::MAX), "breaker.proof"),
        ] {
            assert_eq!(policy.check().expect_err("refused").option, option);
        }
    }
}
