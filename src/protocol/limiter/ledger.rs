//! What has happened in a pool since somebody last asked.
//!
//! Apart because the pool's meter knows only how it stands: that time has put something back shows when
//! somebody looks, and is told once.
//!
//! Invariants: bounded whatever happens, since it holds sums; what was given back was not consumed.

/// Something that has happened in a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Movement {
    /// Time has put back into the bucket, or let out of the window. It is noticed by who comes next.
    Refilled {
        /// The pool, by its place among the limits' pools.
        pool: usize,
        /// What could be taken before the first of it.
        before: u64,
        /// That and all that time has put back since, whatever was paid in between: always more.
        after: u64,
    },
    /// The deadlines of some that waited have passed. Nothing was paid for them.
    Expired {
        /// The pool.
        pool: usize,
        /// How many.
        count: u64,
    },
    /// Something was paid.
    Consumed {
        /// The pool.
        pool: usize,
        /// How often.
        count: u64,
        /// What it cost together.
        cost: u64,
        /// What is left.
        left: u64,
    },
    /// The queue has grown.
    Queued {
        /// The pool.
        pool: usize,
        /// How many wait now.
        queued: usize,
        /// How many may.
        capacity: usize,
    },
}

/// The sums. See the module's documentation.
#[derive(Debug)]
pub(super) struct Ledger {
    /// What could be taken when the meter was last looked at.
    known: u64,
    /// From where it rose by time alone, and by how much in all.
    refilled: Option<(u64, u64)>,
    expired: u64,
    count: u64,
    cost: u64,
    /// The length of the queue that was told of last.
    queued: usize,
}

impl Ledger {
    /// Of a pool in which `known` can be taken.
    pub(super) fn new(known: u64) -> Self {
        Self {
            known,
            refilled: None,
            expired: 0,
            count: 0,
            cost: 0,
            queued: 0,
        }
    }

    /// The meter stands at `tokens` before anything is done to it: what is more than was known is time's.
    pub(super) fn before(&mut self, tokens: u64) {
        if tokens > self.known {
            let (from, risen) = self.refilled.unwrap_or((self.known, 0));
            // Something may have been paid since it last rose.
            let more = tokens - self.known;
            self.refilled = Some((from, risen.saturating_add(more)));
        }
        self.known = tokens;
    }

    /// It stands there after something was done to it.
    pub(super) fn after(&mut self, tokens: u64) {
        self.known = tokens;
    }

    /// `cost` was paid.
    pub(super) fn paid(&mut self, cost: u64) {
        self.count += 1;
        self.cost = self.cost.saturating_add(cost);
    }

    /// `cost` was given back.
    pub(super) fn gave_back(&mut self, cost: u64) {
        self.count = self.count.saturating_sub(1);
        self.cost = self.cost.saturating_sub(cost);
    }

    /// The deadlines of so many have passed.
    pub(super) fn expired(&mut self, count: usize) {
        self.expired += count as u64;
    }

    /// Everything since the last call, in the order of [`Movement`]'s variants.
    pub(super) fn close(
        &mut self,
        pool: usize,
        queued: usize,
        capacity: usize,
    ) -> impl Iterator<Item = Movement> + use<> {
        let refilled = self
            .refilled
            .take()
            .map(|(before, risen)| Movement::Refilled {
                pool,
                before,
                after: before.saturating_add(risen),
            });
        let expired = std::mem::take(&mut self.expired);
        let expired = (expired > 0).then_some(Movement::Expired {
            pool,
            count: expired,
        });
        let (count, cost) = (
            std::mem::take(&mut self.count),
            std::mem::take(&mut self.cost),
        );
        let consumed = (count > 0).then_some(Movement::Consumed {
            pool,
            count,
            cost,
            left: self.known,
        });
        let grown = queued > std::mem::replace(&mut self.queued, queued);
        let queued = grown.then_some(Movement::Queued {
            pool,
            queued,
            capacity,
        });
        [refilled, expired, consumed, queued].into_iter().flatten()
    }
}
