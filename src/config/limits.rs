//! How fast a venue lets itself be asked: pools, what each request costs of them, and who goes first.
//!
//! Apart from the other options because a venue's platform knows it better than its user does, and because
//! one description can serve several sessions of one account. The machine that keeps to it is
//! [`protocol::limiter`](crate::protocol::limiter).
//!
//! Invariants: plain data; a description that [`RateLimits::check`] lets pass can pay for every request
//! that its costs name.

mod costs;

use std::borrow::Cow;
use std::time::Duration;

use crate::error::ConfigError;
pub use costs::Costs;

/// Who goes first when requests have to wait. Within one lane they go in the order of their arrival.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// Heartbeats and cancels: always first, and a part of each pool is theirs alone.
    Reserved,
    /// Before the usual, such as authentication.
    High,
    /// The usual.
    #[default]
    Normal,
    /// After everything else.
    Low,
}

impl Lane {
    /// Every lane, the first one first.
    pub const ALL: [Self; 4] = [Self::Reserved, Self::High, Self::Normal, Self::Low];
}

/// What a request costs, of which pool, and in which lane it waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Weight {
    /// The pool's place in [`RateLimits::pools`]. A place that is not there means the first.
    pub pool: usize,
    /// What it takes from the pool. Nothing is allowed: such a request only keeps its place in the order.
    pub cost: u64,
    /// The lane.
    pub lane: Lane,
}

impl Weight {
    /// `cost` of the first pool, in the usual lane.
    #[must_use]
    pub const fn new(cost: u64) -> Self {
        Self {
            pool: 0,
            cost,
            lane: Lane::Normal,
        }
    }

    /// The same cost, of another pool.
    #[must_use]
    pub const fn of_pool(self, pool: usize) -> Self {
        Self { pool, ..self }
    }

    /// The same cost, in another lane.
    #[must_use]
    pub const fn lane(self, lane: Lane) -> Self {
        Self { lane, ..self }
    }
}

impl Default for Weight {
    fn default() -> Self {
        Self::new(1)
    }
}

impl From<u64> for Weight {
    fn from(cost: u64) -> Self {
        Self::new(cost)
    }
}

/// The rule by which a pool lets requests pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Rule {
    /// A token bucket: full at first, a request takes its cost out, and time puts back. It allows a burst of
    /// `capacity` at any time, so that in one interval up to `capacity` and a refill may pass.
    Bucket {
        /// The most that it holds.
        capacity: u64,
        /// What each interval puts back.
        refill: u64,
        /// How often. Short intervals with small refills let requests flow evenly.
        every: Duration,
    },
    /// A strict sliding window: never more than `limit` within any `within`, wherever one puts it.
    Window {
        /// The most within the window.
        limit: u64,
        /// How long the window is.
        within: Duration,
    },
}

impl Rule {
    /// The most that can pass at once.
    #[must_use]
    pub fn capacity(&self) -> u64 {
        match self {
            Self::Bucket { capacity, .. } => *capacity,
            Self::Window { limit, .. } => *limit,
        }
    }

    /// What one [interval](Self::interval) gives back.
    #[must_use]
    pub fn refill(&self) -> u64 {
        match self {
            Self::Bucket { refill, .. } => *refill,
            Self::Window { limit, .. } => *limit,
        }
    }

    /// The interval of which suggested delays are multiples.
    #[must_use]
    pub fn interval(&self) -> Duration {
        match self {
            Self::Bucket { every, .. } => *every,
            Self::Window { within, .. } => *within,
        }
    }
}

/// One account of a venue's: a rule, and what of it is kept for heartbeats and cancels.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Pool {
    /// Its name in events and in a status.
    pub name: Cow<'static, str>,
    /// Its rule.
    pub rule: Rule,
    /// What only [`Lane::Reserved`] may take. Default a tenth of the capacity, rounded down.
    pub reserve: u64,
}

impl Pool {
    /// A pool with a tenth in reserve.
    #[must_use]
    pub fn new(name: impl Into<Cow<'static, str>>, rule: Rule) -> Self {
        Self {
            name: name.into(),
            rule,
            reserve: rule.capacity() / 10,
        }
    }

    /// Another reserve. Zero keeps nothing; reserved requests are still the first to be served.
    #[must_use]
    pub fn reserve(self, reserve: u64) -> Self {
        Self { reserve, ..self }
    }
}

/// How fast a venue lets itself be asked. See the module's documentation.
///
/// ```
/// use std::time::Duration;
/// use mainstay::config::{Costs, Lane, RateLimits, Weight};
///
/// let costs = Costs::new(1)
///     .containing("cancel", Weight::new(1).lane(Lane::Reserved))
///     .containing("klines", 2);
/// let limits = RateLimits::bucket(60, 1, Duration::from_secs(1)).costs(costs).queue(100);
/// assert!(limits.check().is_ok());
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RateLimits {
    /// The venue's accounts, at least one unless there is no limit at all.
    pub pools: Vec<Pool>,
    /// What each method costs. Default 1 of the first pool. A platform may judge otherwise
    /// ([`Platform::weigh`](crate::platform::Platform::weigh)).
    pub costs: Costs,
    /// Requests that may wait for each pool. Default 1024. What comes on top is not sent.
    pub queue: usize,
    /// What a ping or a pong of RFC 6455 costs of the first pool. Default 0: most venues count only
    /// messages. They are never held up for long: they use the reserved lane.
    pub control_cost: u64,
    /// How long everything but the reserved lane rests after the venue said "too fast" without saying how
    /// long. Default 1 s.
    pub pause: Duration,
    /// Whether costs rise for a while after the venue said "too fast": at once to one and a half, at most
    /// tenfold, falling by 5 % every 5 s, and back to normal after 60 s without complaint. Default no.
    pub adaptive: bool,
}

impl RateLimits {
    /// No limit at all, for a platform that has some.
    #[must_use]
    pub fn unlimited() -> Self {
        Self::pools([])
    }

    /// One token bucket: `capacity` at first, `refill` more `every` so often.
    #[must_use]
    pub fn bucket(capacity: u64, refill: u64, every: Duration) -> Self {
        let rule = Rule::Bucket {
            capacity,
            refill,
            every,
        };
        Self::pools([Pool::new("requests", rule)])
    }

    /// One strict sliding window: never more than `limit` within any `within`.
    #[must_use]
    pub fn window(limit: u64, within: Duration) -> Self {
        Self::pools([Pool::new("requests", Rule::Window { limit, within })])
    }

    /// Several accounts. [`Weight::pool`] counts them from zero.
    #[must_use]
    pub fn pools(pools: impl IntoIterator<Item = Pool>) -> Self {
        Self {
            pools: pools.into_iter().collect(),
            costs: Costs::default(),
            queue: 1024,
            control_cost: 0,
            pause: Duration::from_secs(1),
            adaptive: false,
        }
    }

    /// What each method costs.
    #[must_use]
    pub fn costs(self, costs: Costs) -> Self {
        Self { costs, ..self }
    }

    /// What each pool keeps for the reserved lane.
    #[must_use]
    pub fn reserve(mut self, reserve: u64) -> Self {
        for pool in &mut self.pools {
            pool.reserve = reserve;
        }
        self
    }

    /// Requests that may wait for each pool.
    #[must_use]
    pub fn queue(self, queue: usize) -> Self {
        Self { queue, ..self }
    }

    /// What a ping or a pong costs.
    #[must_use]
    pub fn control_cost(self, control_cost: u64) -> Self {
        Self {
            control_cost,
            ..self
        }
    }

    /// How long to rest when the venue does not say.
    #[must_use]
    pub fn pause(self, pause: Duration) -> Self {
        Self { pause, ..self }
    }

    /// Whether costs rise after a complaint.
    #[must_use]
    pub fn adaptive(self, adaptive: bool) -> Self {
        Self { adaptive, ..self }
    }

    /// Whether nothing is limited.
    #[must_use]
    pub fn is_unlimited(&self) -> bool {
        self.pools.is_empty()
    }

    /// What a request of `method` costs, by [`RateLimits::costs`] alone.
    #[must_use]
    pub fn weigh(&self, method: &str) -> Weight {
        self.costs.weigh(method)
    }

    /// Whether it can work.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] names what cannot, its value, and the remedy.
    pub fn check(&self) -> Result<(), ConfigError> {
        for pool in &self.pools {
            pool.check()?;
        }
        if self.queue == 0 || self.queue > LARGEST_QUEUE {
            let remedy = format!("give a number from 1 to {LARGEST_QUEUE}");
            return Err(ConfigError::new(
                "rate_limits.queue",
                self.queue.to_string(),
                remedy,
            ));
        }
        check_interval("rate_limits.pause", self.pause)?;
        if self.is_unlimited() {
            return Ok(());
        }
        let control = Weight::new(self.control_cost).lane(Lane::Reserved);
        for weight in self.costs.weights().chain([control]) {
            let Some(pool) = self.pools.get(weight.pool) else {
                let remedy = format!("name a pool below {}", self.pools.len());
                let value = weight.pool.to_string();
                return Err(ConfigError::new("rate_limits.costs", value, remedy));
            };
            let most = pool.available(weight.lane);
            if weight.cost > most {
                let remedy = format!(
                    "give a cost of at most {most}, or pool {:?} more",
                    pool.name
                );
                let value = weight.cost.to_string();
                return Err(ConfigError::new("rate_limits.costs", value, remedy));
            }
        }
        Ok(())
    }
}

impl Pool {
    /// The most that a request in `lane` can ever get at once.
    #[must_use]
    pub fn available(&self, lane: Lane) -> u64 {
        match lane {
            Lane::Reserved => self.rule.capacity(),
            Lane::High | Lane::Normal | Lane::Low => {
                self.rule.capacity().saturating_sub(self.reserve)
            }
        }
    }

    fn check(&self) -> Result<(), ConfigError> {
        let (option, largest) = match self.rule {
            Rule::Bucket { refill, every, .. } => {
                if refill == 0 {
                    let remedy = "give at least 1, or the bucket never fills";
                    return Err(ConfigError::new("rate_limits.refill", "0", remedy));
                }
                check_interval("rate_limits.every", every)?;
                ("rate_limits.capacity", LARGEST)
            }
            Rule::Window { within, .. } => {
                check_interval("rate_limits.within", within)?;
                ("rate_limits.limit", LARGEST)
            }
        };
        let capacity = self.rule.capacity();
        if capacity == 0 || capacity > largest {
            let remedy = format!("give a number from 1 to {largest}");
            return Err(ConfigError::new(option, capacity.to_string(), remedy));
        }
        if self.reserve >= capacity {
            let remedy = format!("give less than the capacity of {capacity}");
            let value = self.reserve.to_string();
            return Err(ConfigError::new("rate_limits.reserve", value, remedy));
        }
        Ok(())
    }
}

fn check_interval(option: &'static str, value: Duration) -> Result<(), ConfigError> {
    if value.is_zero() || value > LONGEST {
        let remedy = "give a duration above zero, of at most a day";
        return Err(ConfigError::new(option, format!("{value:?}"), remedy));
    }
    Ok(())
}

/// Larger sums could not be multiplied by what costs rise to.
const LARGEST: u64 = 1 << 40;
const LARGEST_QUEUE: usize = 1 << 20;
const LONGEST: Duration = Duration::from_secs(24 * 3600);

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[track_caller]
    fn refused(limits: RateLimits) -> String {
        limits.check().expect_err("refused").option.into_owned()
    }

    #[test]
    fn what_cannot_work_is_refused_by_name() {
        assert_eq!(
            refused(RateLimits::bucket(0, 1, SECOND)),
            "rate_limits.capacity"
        );
        assert_eq!(
            refused(RateLimits::bucket(9, 0, SECOND)),
            "rate_limits.refill"
        );
        assert_eq!(
            refused(RateLimits::bucket(9, 1, Duration::ZERO)),
            "rate_limits.every"
        );
        assert_eq!(refused(RateLimits::window(0, SECOND)), "rate_limits.limit");
        assert_eq!(
            refused(RateLimits::window(9, Duration::MAX)),
            "rate_limits.within"
        );
        let nine = || RateLimits::window(9, SECOND);
        assert_eq!(refused(nine().queue(0)), "rate_limits.queue");
        assert_eq!(refused(nine().reserve(9)), "rate_limits.reserve");
        assert_eq!(refused(nine().pause(Duration::ZERO)), "rate_limits.pause");
    }

    #[test]
    fn a_cost_that_can_never_be_paid_is_refused() {
        let limits = RateLimits::window(9, SECOND).reserve(2);
        assert_eq!(
            refused(limits.clone().costs(Costs::new(8))),
            "rate_limits.costs"
        );
        let reserved = Costs::new(1).exact("cancel", Weight::new(8).lane(Lane::Reserved));
        assert!(limits.clone().costs(reserved).check().is_ok());
        let elsewhere = Costs::new(1).exact("buy", Weight::new(1).of_pool(1));
        assert_eq!(refused(limits.costs(elsewhere)), "rate_limits.costs");
    }
}
