//! Who may be sent when: a venue's limits, and the queue of those that have to wait for them.
//!
//! One machine, because a limit without its queue is a refusal and a queue without its limit delivers
//! nothing. Each pool of [`RateLimits`] has a meter (a token bucket or a strict sliding window) and a
//! bounded queue of its own; the shell submits, delivers what is granted, and calls back when it says so.
//!
//! ```text
//!           submit                      meter pays
//!  (new) ------------> Waiting -------------------------> Granted
//!     |                   | deadline: Expired
//!     | Full, TooDear     | withdrawn by its owner
//!     v                   v
//!  Refused              (gone, nothing paid)
//! ```
//!
//! Invariants: what is submitted is granted, expired, withdrawn or refused, exactly once; lanes go before
//! arrival, and nobody overtakes within a lane; what one pool lacks holds up no other; the reserve is
//! taken by the reserved lane alone. Absent on purpose: a clock, a task, and what is sent.

mod bucket;
mod feedback;
mod ledger;
mod meter;
mod pressure;
mod queue;
mod window;

use std::time::{Duration, Instant};

use crate::config::limits::{Lane, Pool, RateLimits, Weight};
pub use bucket::TokenBucket;
use feedback::Feedback;
use ledger::Ledger;
pub use ledger::Movement;
use meter::Meter;
use pressure::Gauge;
pub use pressure::{Pressure, PressureChange};
pub use queue::{QueueFull, Ticket, WaitingQueue};
pub use window::SlidingWindow;

/// Names one that waits, for [`Limiter::withdraw`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Place {
    pool: usize,
    ticket: Ticket,
}

/// Why something was not even queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Its pool's queue holds as many as it may.
    Full {
        /// How many that is.
        capacity: usize,
    },
    /// It costs more than its lane can ever have.
    TooDear {
        /// What it costs.
        cost: u64,
        /// The most that its lane can have.
        most: u64,
    },
}

/// What happened to those that waited, in this order.
#[derive(Debug)]
#[must_use]
pub struct Turn<T> {
    /// Whose deadline passed first. Nothing was paid for them.
    pub expired: Vec<T>,
    /// Who may be sent, in this order.
    pub granted: Vec<T>,
    /// Pools whose pressure has changed.
    pub changes: Vec<PressureChange>,
}

/// What a pool looks like now.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PoolStatus {
    /// Its name.
    pub name: String,
    /// What could be taken out of it now.
    pub tokens: u64,
    /// The most that it can hold.
    pub capacity: u64,
    /// How many wait for it.
    pub queued: usize,
    /// How many may.
    pub queue_capacity: usize,
    /// How full its queue is.
    pub pressure: Pressure,
    /// How long a producer should hold back before it submits more: nothing, one, two or four intervals.
    pub suggested_delay: Duration,
    /// Until when the venue's complaint keeps all but the reserved lane waiting.
    pub paused_until: Option<Instant>,
}

#[derive(Debug)]
struct Account<T> {
    pool: Pool,
    meter: Meter,
    queue: WaitingQueue<T>,
    gauge: Gauge,
    ledger: Ledger,
}

/// The machine. See the module's documentation.
#[derive(Debug)]
pub struct Limiter<T> {
    accounts: Vec<Account<T>>,
    feedback: Feedback,
    control_cost: u64,
}

impl<T> Limiter<T> {
    /// Every pool full, nobody waiting. `limits` have been [checked](RateLimits::check).
    #[must_use]
    pub fn new(limits: &RateLimits, now: Instant) -> Self {
        let accounts = limits.pools.iter().map(|pool| Account {
            meter: Meter::new(pool.rule, now),
            queue: WaitingQueue::new(limits.queue),
            gauge: Gauge::new(pool.name.to_string()),
            ledger: Ledger::new(pool.rule.capacity()),
            pool: pool.clone(),
        });
        Self {
            accounts: accounts.collect(),
            feedback: Feedback::new(limits.pause, limits.adaptive),
            control_cost: limits.control_cost,
        }
    }

    /// Pays at once, if nobody of the same or an earlier lane waits and the pool has it. Whether it did.
    pub fn try_acquire(&mut self, weight: Weight, now: Instant) -> bool {
        let Some((_, cost)) = self.price(weight, now) else {
            return true;
        };
        let pool = self.pool_of(weight);
        let paused = self.feedback.is_paused(weight.lane, now);
        let Some(account) = self.accounts.get_mut(pool) else {
            return true;
        };
        let waiting = account
            .queue
            .first_lane()
            .is_some_and(|lane| lane <= weight.lane);
        !waiting && !paused && account.pay(weight.lane, cost, now)
    }

    /// Queues `item` until it is granted or `deadline` has passed. Call [`Limiter::turn`] after it: what
    /// can be paid at once is granted there.
    ///
    /// # Errors
    ///
    /// [`Refusal`], with the item.
    pub fn submit(
        &mut self,
        item: T,
        weight: Weight,
        deadline: Option<Instant>,
    ) -> Result<Place, (T, Refusal)> {
        let pool = self.pool_of(weight);
        let Some(account) = self.accounts.get_mut(pool) else {
            // Without pools nothing is ever submitted.
            return Err((item, Refusal::Full { capacity: 0 }));
        };
        let most = account.pool.available(weight.lane);
        if weight.cost > most {
            let cost = weight.cost;
            return Err((item, Refusal::TooDear { cost, most }));
        }
        match account.queue.push(item, weight.lane, weight.cost, deadline) {
            Ok(ticket) => Ok(Place { pool, ticket }),
            Err((item, QueueFull { capacity })) => Err((item, Refusal::Full { capacity })),
        }
    }

    /// Takes back what waits; `None` if it does no more.
    pub fn withdraw(&mut self, place: Place) -> Option<T> {
        self.accounts
            .get_mut(place.pool)?
            .queue
            .remove(place.ticket)
    }

    /// Takes back what waits because its deadline has passed; `None` if it does no more.
    pub fn expire(&mut self, place: Place) -> Option<T> {
        let account = self.accounts.get_mut(place.pool)?;
        let item = account.queue.remove(place.ticket)?;
        account.ledger.expired(1);
        Some(item)
    }

    /// Takes back all that waits and is `dead`.
    #[must_use]
    pub fn sweep(&mut self, mut dead: impl FnMut(&T) -> bool) -> Vec<T> {
        let queues = self.accounts.iter_mut().map(|account| &mut account.queue);
        queues.flat_map(|queue| queue.sweep(&mut dead)).collect()
    }

    /// What has become of those that wait, by `now`. Call it after each submission, after
    /// [`Limiter::withdraw`] and at [`Limiter::next_timeout`].
    pub fn turn(&mut self, now: Instant) -> Turn<T> {
        let mut turn = Turn {
            expired: Vec::new(),
            granted: Vec::new(),
            changes: Vec::new(),
        };
        for account in &mut self.accounts {
            let expired = account.queue.expire(now);
            account.ledger.expired(expired.len());
            turn.expired.extend(expired);
            while let Some((lane, cost)) = account.queue.first() {
                let cost = self
                    .feedback
                    .charge(cost, account.pool.available(lane), now);
                if self.feedback.is_paused(lane, now) || !account.pay(lane, cost, now) {
                    break;
                }
                turn.granted.extend(account.queue.pop());
            }
            turn.changes.extend(
                account
                    .gauge
                    .on_fill(account.queue.len(), account.queue.capacity()),
            );
        }
        turn
    }

    /// When [`Limiter::turn`] wants to be called; `None` while nobody waits.
    #[must_use]
    pub fn next_timeout(&mut self, now: Instant) -> Option<Instant> {
        let mut next: Option<Instant> = None;
        for account in &mut self.accounts {
            let Some((lane, cost)) = account.queue.first() else {
                continue;
            };
            let cost = self
                .feedback
                .charge(cost, account.pool.available(lane), now);
            let floor = account.pool.rule.capacity() - account.pool.available(lane);
            let paid = account.meter.ready_at(cost, floor, now);
            let granted = paid.max(self.feedback.paused_until(lane).unwrap_or(paid));
            let first = account
                .queue
                .next_deadline()
                .map_or(granted, |deadline| deadline.min(granted));
            next = Some(next.map_or(first, |next| next.min(first)));
        }
        next
    }

    /// Books something that was sent without asking, such as a pong that the protocol demands at once.
    pub fn spend(&mut self, weight: Weight, now: Instant) {
        let pool = self.pool_of(weight);
        if let Some(account) = self.accounts.get_mut(pool) {
            account.force(weight.cost, now);
        }
    }

    /// Gives back what was paid at `paid_at` for something that was not sent after all.
    pub fn refund(&mut self, weight: Weight, now: Instant) {
        let pool = self.pool_of(weight);
        if let Some(account) = self.accounts.get_mut(pool) {
            account.refund(weight.cost, now);
        }
    }

    /// The venue says that we are too fast: pools are emptied down to their reserve, and all but the
    /// reserved lane rests for `pause`, or for the configured time if it does not say. Until when.
    pub fn on_limited(&mut self, pause: Option<Duration>, now: Instant) -> Instant {
        for account in &mut self.accounts {
            account.drain(now);
        }
        self.feedback.on_limited(pause, now)
    }

    /// What a control frame costs; zero where they are not counted.
    #[must_use]
    pub fn control_cost(&self) -> u64 {
        self.control_cost
    }

    /// What has happened in the pools since the last call, in their order.
    #[must_use]
    pub fn movements(&mut self) -> Vec<Movement> {
        let mut movements = Vec::new();
        for (pool, account) in self.accounts.iter_mut().enumerate() {
            let (queued, capacity) = (account.queue.len(), account.queue.capacity());
            movements.extend(account.ledger.close(pool, queued, capacity));
        }
        movements
    }

    /// What requests cost by now, in hundredths of their usual price; 100 without complaints.
    #[must_use]
    pub fn price_percent(&mut self, now: Instant) -> u64 {
        self.feedback.percent(now)
    }

    /// For how long the venue's complaint keeps all but the reserved lane waiting.
    #[must_use]
    pub fn rest(&self, now: Instant) -> Option<Duration> {
        let until = self.feedback.paused_until(Lane::Normal)?;
        Some(until.saturating_duration_since(now)).filter(|rest| !rest.is_zero())
    }

    /// How every pool stands.
    #[must_use]
    pub fn status(&mut self, now: Instant) -> Vec<PoolStatus> {
        let paused_until = self
            .feedback
            .paused_until(Lane::Normal)
            .filter(|until| *until > now);
        self.accounts
            .iter_mut()
            .map(|account| {
                let pressure = Pressure::of(account.queue.len(), account.queue.capacity());
                PoolStatus {
                    name: account.pool.name.to_string(),
                    tokens: account.meter.available(now),
                    capacity: account.pool.rule.capacity(),
                    queued: account.queue.len(),
                    queue_capacity: account.queue.capacity(),
                    pressure,
                    suggested_delay: pressure.delay(account.pool.rule.interval()),
                    paused_until,
                }
            })
            .collect()
    }

    fn pool_of(&self, weight: Weight) -> usize {
        if weight.pool < self.accounts.len() {
            weight.pool
        } else {
            0
        }
    }

    /// The pool and what it costs by now; `None` without any pool.
    fn price(&mut self, weight: Weight, now: Instant) -> Option<(usize, u64)> {
        let pool = self.pool_of(weight);
        let most = self.accounts.get(pool)?.pool.available(weight.lane);
        if weight.cost > most {
            return Some((pool, weight.cost));
        }
        Some((pool, self.feedback.charge(weight.cost, most, now)))
    }
}

impl<T> Account<T> {
    /// Pays if what the lane may not touch is left.
    fn pay(&mut self, lane: Lane, cost: u64, now: Instant) -> bool {
        let floor = self.pool.rule.capacity() - self.pool.available(lane);
        self.metered(now, |meter, ledger| {
            let paid = meter.take(cost, floor, now);
            if paid {
                ledger.paid(cost);
            }
            paid
        })
    }

    fn force(&mut self, cost: u64, now: Instant) {
        self.metered(now, |meter, ledger| {
            meter.force(cost, now);
            ledger.paid(cost);
        });
    }

    fn refund(&mut self, cost: u64, now: Instant) {
        self.metered(now, |meter, ledger| {
            meter.refund(cost, now);
            ledger.gave_back(cost);
        });
    }

    fn drain(&mut self, now: Instant) {
        let reserve = self.pool.reserve;
        self.metered(now, |meter, _| meter.drain_to(reserve, now));
    }

    fn metered<R>(&mut self, now: Instant, act: impl FnOnce(&mut Meter, &mut Ledger) -> R) -> R {
        self.ledger.before(self.meter.available(now));
        let done = act(&mut self.meter, &mut self.ledger);
        self.ledger.after(self.meter.available(now));
        done
    }
}

#[cfg(test)]
mod tests;
