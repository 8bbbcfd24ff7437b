//! Deribit's credits: three accounts, what each method takes out of them, and what may not wait.
//!
//! Apart because it is a table out of the venue's documentation ("Rate limits"). Who exceeds it is told
//! 10028 and loses the connection, so that it pays to be exact.
//!
//! Invariants: cancels and answers to heartbeats find something left; a subscribe and an unsubscribe of one
//! channel keep their order.

use std::time::Duration;

use crate::config::limits::{Costs, Lane, Pool, RateLimits, Rule, Weight};

/// What every request costs that is neither a subscription nor for the matching engine.
const REQUEST: u64 = 500;
const SUBSCRIBE: u64 = 3_000;

/// The pools' places.
const REQUESTS: usize = 0;
const SUBSCRIBES: usize = 1;
const MATCHING: usize = 2;

/// How fast orders may be sent: the venue decides by the volume that an account has traded.
/// `private/get_account_summary` tells the account's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Tier {
    /// 30 a second, bursts of 100.
    First,
    /// 20 a second, bursts of 50.
    Second,
    /// 10 a second, bursts of 30.
    Third,
    /// 5 a second, bursts of 20: the usual.
    Fourth,
    /// What the account has been granted.
    Custom {
        /// Orders a second, at least 1.
        per_second: u64,
        /// Orders at once.
        burst: u64,
    },
}

impl Tier {
    fn rule(self) -> Rule {
        let (per_second, burst) = match self {
            Self::First => (30, 100),
            Self::Second => (20, 50),
            Self::Third => (10, 30),
            Self::Fourth => (5, 20),
            Self::Custom { per_second, burst } => (per_second, burst),
        };
        Rule::Bucket {
            capacity: burst,
            refill: 1,
            every: Duration::from_secs(1) / u32::try_from(per_second.max(1)).unwrap_or(u32::MAX),
        }
    }
}

/// Deribit's limits for an account of this tier: 500 of 50,000 credits for a request, 3,000 of 30,000 for a
/// subscription, each refilled by 10,000 a second, and orders by the tier.
///
/// Sessions of one account share them: give all of them one [`Limiter`](crate::Limiter). An unsubscribe is
/// charged like a subscribe, which is more than the venue takes, so that neither overtakes the other.
#[must_use]
pub fn rate_limits(tier: Tier) -> RateLimits {
    let credits = |capacity| Rule::Bucket {
        capacity,
        refill: REQUEST,
        every: Duration::from_millis(50),
    };
    RateLimits::pools([
        Pool::new("requests", credits(50_000)),
        Pool::new("subscribes", credits(30_000)).reserve(0),
        Pool::new("matching", tier.rule()),
    ])
    .costs(costs())
    // Both credit pools are full again after this long.
    .pause(Duration::from_secs(5))
}

/// Whether this cancels orders, or quotes.
pub(super) fn is_cancel(method: &str) -> bool {
    method
        .strip_prefix("private/cancel")
        .is_some_and(|rest| !rest.starts_with("_transfer") && !rest.starts_with("_withdrawal"))
}

fn costs() -> Costs {
    let request = Weight::new(REQUEST).of_pool(REQUESTS);
    let subscription = Weight::new(SUBSCRIBE).of_pool(SUBSCRIBES);
    let order = Weight::new(1).of_pool(MATCHING);
    let cancel = order.lane(Lane::Reserved);
    Costs::new(request)
        .containing("/subscribe", subscription)
        .containing("/unsubscribe", subscription)
        // These cancel no orders.
        .prefix("private/cancel_transfer", request)
        .prefix("private/cancel_withdrawal", request)
        .prefix("private/cancel", cancel)
        .exact("private/close_position", order)
        .exact("private/buy", order)
        .exact("private/sell", order)
        .exact("private/edit", order)
        .exact("private/edit_by_label", order)
        .exact("private/mass_quote", order)
        .exact("private/execute_block_trade", order)
        .exact("private/verify_block_trade", order)
        .exact("private/move_positions", order)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_tier_can_pay_for_every_method() {
        let custom = Tier::Custom {
            per_second: 1,
            burst: 1,
        };
        for tier in [Tier::First, Tier::Second, Tier::Third, Tier::Fourth, custom] {
            assert!(rate_limits(tier).check().is_ok(), "{tier:?}");
        }
    }

    #[test]
    fn each_method_is_charged_to_its_account() {
        let limits = rate_limits(Tier::Fourth);
        let charged = |method| {
            let weight = limits.weigh(method);
            let pool = limits.pools.get(weight.pool).expect("a pool");
            (pool.name.to_string(), weight.cost, weight.lane)
        };
        let usual = |pool: &str, cost| (pool.to_owned(), cost, Lane::Normal);
        assert_eq!(charged("public/test"), usual("requests", 500));
        assert_eq!(charged("private/get_positions"), usual("requests", 500));
        assert_eq!(charged("private/cancel_withdrawal"), usual("requests", 500));
        assert_eq!(
            charged("private/enable_cancel_on_disconnect"),
            usual("requests", 500)
        );
        assert_eq!(charged("public/subscribe"), usual("subscribes", 3_000));
        assert_eq!(
            charged("private/unsubscribe_all"),
            usual("subscribes", 3_000)
        );
        assert_eq!(charged("private/buy"), usual("matching", 1));
        let cancel = ("matching".to_owned(), 1, Lane::Reserved);
        assert_eq!(charged("private/cancel"), cancel);
        assert_eq!(charged("private/cancel_all_by_currency"), cancel);
    }

    #[test]
    fn twenty_requests_a_second_pass_after_the_burst() {
        let limits = rate_limits(Tier::Fourth);
        let Some(Rule::Bucket {
            capacity,
            refill,
            every,
        }) = limits.pools.first().map(|pool| pool.rule)
        else {
            panic!("a bucket");
        };
        assert_eq!(capacity / REQUEST, 100);
        assert_eq!(1_000 / every.as_millis() * u128::from(refill / REQUEST), 20);
    }
}
