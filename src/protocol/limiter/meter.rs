//! The two rules behind one face.
//!
//! Apart so that neither rule knows of the other, and the limiter of neither.

use std::time::Instant;

use super::bucket::TokenBucket;
use super::window::SlidingWindow;
use crate::config::limits::Rule;

/// What a pool counts with.
#[derive(Debug)]
pub(super) enum Meter {
    Bucket(TokenBucket),
    Window(SlidingWindow),
}

impl Meter {
    pub(super) fn new(rule: Rule, now: Instant) -> Self {
        match rule {
            Rule::Bucket {
                capacity,
                refill,
                every,
            } => Self::Bucket(TokenBucket::new(capacity, refill, every, now)),
            Rule::Window { limit, within } => Self::Window(SlidingWindow::new(limit, within)),
        }
    }

    pub(super) fn available(&mut self, now: Instant) -> u64 {
        match self {
            Self::Bucket(bucket) => bucket.tokens(now),
            Self::Window(window) => window.available(now),
        }
    }

    pub(super) fn take(&mut self, cost: u64, floor: u64, now: Instant) -> bool {
        match self {
            Self::Bucket(bucket) => bucket.take(cost, floor, now),
            Self::Window(window) => window.take(cost, floor, now),
        }
    }

    pub(super) fn force(&mut self, cost: u64, now: Instant) {
        match self {
            Self::Bucket(bucket) => bucket.force(cost, now),
            Self::Window(window) => window.force(cost, now),
        }
    }

    pub(super) fn refund(&mut self, cost: u64, now: Instant) {
        match self {
            Self::Bucket(bucket) => bucket.refund(cost, now),
            Self::Window(window) => window.refund(cost),
        }
    }

    pub(super) fn drain_to(&mut self, level: u64, now: Instant) {
        match self {
            Self::Bucket(bucket) => bucket.drain_to(level, now),
            Self::Window(window) => window.drain_to(level, now),
        }
    }

    pub(super) fn ready_at(&mut self, cost: u64, floor: u64, now: Instant) -> Instant {
        match self {
            Self::Bucket(bucket) => bucket.ready_at(cost, floor, now),
            Self::Window(window) => window.ready_at(cost, floor, now),
        }
    }
}
