//! The venue's credits: what requests cost and how fast they come back.
//!
//! A file of its own because it is a pure account, shared by all connections: a client that
//! reconnects at once finds it as empty as it left it.
//!
//! Invariant: no bucket holds more than its pool or less than nothing.

use tokio::time::Instant;

/// Non-matching requests: 500 credits each, 50,000 in the pool, 10,000 a second.
const REQUESTS: Rule = Rule {
    cost: 500.0,
    pool: 50_000.0,
    refill: 10_000.0,
};

/// Subscribe calls: 3,000 credits each, 30,000 in the pool, 10,000 a second.
const SUBSCRIBES: Rule = Rule {
    cost: 3_000.0,
    pool: 30_000.0,
    refill: 10_000.0,
};

#[derive(Debug)]
struct Rule {
    cost: f64,
    pool: f64,
    refill: f64,
}

/// What is left.
#[derive(Debug)]
pub(super) struct Credits {
    requests: Bucket,
    subscribes: Bucket,
}

#[derive(Debug)]
struct Bucket {
    left: f64,
    counted: Instant,
}

impl Credits {
    pub(super) fn new(now: Instant) -> Self {
        let full = |rule: &Rule| Bucket {
            left: rule.pool,
            counted: now,
        };
        Self {
            requests: full(&REQUESTS),
            subscribes: full(&SUBSCRIBES),
        }
    }

    /// Pays for one request of `method`; `false` if it cannot be paid.
    pub(super) fn pay(&mut self, method: &str, now: Instant) -> bool {
        match method.ends_with("/subscribe") {
            true => self.subscribes.pay(&SUBSCRIBES, now),
            false => self.requests.pay(&REQUESTS, now),
        }
    }
}

impl Bucket {
    fn pay(&mut self, rule: &Rule, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.counted).as_secs_f64();
        self.counted = now;
        self.left = (self.left + passed * rule.refill).min(rule.pool);
        let enough = self.left >= rule.cost;
        if enough {
            self.left -= rule.cost;
        }
        enough
    }
}
