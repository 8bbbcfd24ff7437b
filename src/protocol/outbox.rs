//! The queue for a session that is not live: what waits in it, how much may, and for how long.
//!
//! ```text
//!            push                       begin, pop, pop ..           pop (empty), stop
//! waiting ----------> waiting     waiting ------------> emptying ---------------------> waiting
//!            refused: too many, too large, nothing may wait
//! ```
//!
//! Pure, and apart from the way out because a line belongs to a connection and this to none.
//!
//! Invariants: never more than the bounds say; first in, first out; each that was let in comes out exactly once,
//! by `pop`, `remove`, `expire` or `clear`; while it is emptied nobody passes it by.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::high_water::{HighWater, Level};
use crate::config::Offline;

/// Where something stands in the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place(u64);

/// Why something was not let in, or not kept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The configuration says that nothing waits.
    #[error("the session is not live, and nothing waits for it, as offline.capacity is 0")]
    NothingWaits,
    /// As many wait as may.
    #[error(
        "the session is not live, and {waiting} requests wait for it already; the most is {capacity}, offline.capacity"
    )]
    TooMany {
        /// How many wait.
        waiting: usize,
        /// How many may.
        capacity: usize,
    },
    /// What waits is as large as it may be.
    #[error(
        "the session is not live, and requests of {waiting} bytes wait for it already; with {bytes} more the most is \
         {most}, offline.bytes"
    )]
    TooLarge {
        /// How large it is.
        bytes: usize,
        /// The bytes of those that wait.
        waiting: usize,
        /// What all may have.
        most: usize,
    },
    /// It has waited for as long as anything may.
    #[error("the session was not live within {0:?}, offline.max_age")]
    TooOld(Duration),
}

/// How things stand.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct OutboxStatus {
    /// How many wait for the session to be live.
    pub waiting: usize,
    /// The bytes of their methods, parameters and payloads.
    pub bytes: usize,
    /// How many were not let in, so far.
    pub refused: u64,
    /// How many were not live in time, so far: by their own deadline or by `offline.max_age`.
    pub expired: u64,
}

#[derive(Debug)]
struct Entry<T> {
    place: u64,
    item: T,
    bytes: usize,
    since: Instant,
}

/// The queue. See the module's documentation.
#[derive(Debug)]
pub struct Outbox<T> {
    limits: Offline,
    entries: VecDeque<Entry<T>>,
    last: u64,
    /// Set while somebody takes out one after the other.
    emptying: bool,
    status: OutboxStatus,
    high_water: HighWater,
}

impl<T> Outbox<T> {
    /// An empty one.
    #[must_use]
    pub fn new(limits: Offline) -> Self {
        Self {
            limits,
            entries: VecDeque::new(),
            last: 0,
            emptying: false,
            status: OutboxStatus::default(),
            high_water: HighWater::default(),
        }
    }

    /// How things stand.
    #[must_use]
    pub fn status(&self) -> OutboxStatus {
        self.status
    }

    /// Somebody was let in at `now`: how full it is, if that is to be told.
    pub fn filling(&mut self, now: Instant) -> Option<Level> {
        let level = self.level();
        self.high_water.on_rise(level, now).then_some(level)
    }

    /// How much of what the bounds allow is taken.
    #[must_use]
    pub fn level(&self) -> Level {
        Level {
            waiting: self.status.waiting,
            capacity: self.limits.capacity,
            bytes: self.status.bytes,
            max_bytes: self.limits.bytes,
        }
    }

    /// Whether somebody who comes now passes nobody by.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.entries.is_empty() && !self.emptying
    }

    /// Lets `item` in behind the others. Take out what is [too old](Self::expire) first.
    ///
    /// # Errors
    ///
    /// The item, and why not.
    pub fn push(&mut self, item: T, bytes: usize, now: Instant) -> Result<Place, (T, Refusal)> {
        let Offline {
            capacity,
            bytes: most,
            ..
        } = self.limits;
        let OutboxStatus {
            waiting,
            bytes: waiting_bytes,
            ..
        } = self.status;
        let refusal = if capacity == 0 {
            Some(Refusal::NothingWaits)
        } else if waiting >= capacity {
            Some(Refusal::TooMany { waiting, capacity })
        } else if waiting_bytes.saturating_add(bytes) > most {
            Some(Refusal::TooLarge {
                bytes,
                waiting: waiting_bytes,
                most,
            })
        } else {
            None
        };
        if let Some(refusal) = refusal {
            self.status.refused += 1;
            return Err((item, refusal));
        }
        self.last += 1;
        self.status.waiting += 1;
        self.status.bytes += bytes;
        self.entries.push_back(Entry {
            place: self.last,
            item,
            bytes,
            since: now,
        });
        Ok(Place(self.last))
    }

    /// Begins to empty it; `false` if it is empty, or is being emptied.
    #[must_use]
    pub fn begin(&mut self) -> bool {
        let begins = !self.emptying && !self.entries.is_empty();
        self.emptying |= begins;
        begins
    }

    /// The next one; with none left it is emptied no more.
    pub fn pop(&mut self) -> Option<T> {
        let next = self.entries.pop_front();
        self.emptying &= next.is_some();
        next.map(|entry| self.out(entry))
    }

    /// It is emptied no more, whatever is left.
    pub fn stop(&mut self) {
        self.emptying = false;
    }

    /// Takes out what has waited for as long as anything may.
    #[must_use]
    pub fn expire(&mut self, now: Instant) -> Vec<T> {
        let Some(age) = self.limits.max_age else {
            return Vec::new();
        };
        let old = |entry: &Entry<T>| now.saturating_duration_since(entry.since) >= age;
        let mut expired = Vec::new();
        // They stand in the order of their age.
        while self.entries.front().is_some_and(old) {
            if let Some(entry) = self.entries.pop_front() {
                self.status.expired += 1;
                expired.push(self.out(entry));
            }
        }
        expired
    }

    /// Takes back what waits at `place`; `None` if it has come out. `late` if it was not live in time.
    pub fn remove(&mut self, place: Place, late: bool) -> Option<T> {
        // Places rise from the front to the back.
        let found = self
            .entries
            .binary_search_by_key(&place.0, |entry| entry.place);
        let entry = self.entries.remove(found.ok()?)?;
        self.status.expired += u64::from(late);
        Some(self.out(entry))
    }

    /// Takes everything out.
    #[must_use]
    pub fn clear(&mut self) -> Vec<T> {
        self.emptying = false;
        let entries = std::mem::take(&mut self.entries);
        entries.into_iter().map(|entry| self.out(entry)).collect()
    }

    fn out(&mut self, entry: Entry<T>) -> T {
        self.status.waiting -= 1;
        self.status.bytes -= entry.bytes;
        self.high_water.on_fall(self.level());
        entry.item
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bounds(capacity: usize, bytes: usize, age: Duration) -> Offline {
        Offline::new(capacity).bytes(bytes).max_age(age)
    }

    #[test]
    fn each_bound_refuses_with_its_name_and_is_counted() {
        let now = Instant::now();
        let mut outbox = Outbox::new(bounds(2, 10, Duration::from_secs(1)));
        assert!(outbox.push("a", 4, now).is_ok());
        let (_, refusal) = outbox.push("large", 7, now).unwrap_err();
        assert!(refusal.to_string().contains("offline.bytes"), "{refusal}");
        assert!(outbox.push("b", 6, now).is_ok());
        let (item, refusal) = outbox.push("c", 0, now).unwrap_err();
        assert_eq!(item, "c");
        assert!(
            refusal.to_string().contains("offline.capacity"),
            "{refusal}"
        );
        let status = outbox.status();
        assert_eq!((status.waiting, status.bytes, status.refused), (2, 10, 2));
        let (_, refusal) = Outbox::new(bounds(0, 10, Duration::MAX))
            .push("a", 1, now)
            .unwrap_err();
        assert_eq!(refusal, Refusal::NothingWaits);
    }

    #[test]
    fn nobody_passes_it_by_until_it_is_empty() {
        let now = Instant::now();
        let mut outbox = Outbox::new(Offline::default());
        assert!(outbox.is_idle() && !outbox.begin());
        assert!(outbox.push("a", 1, now).is_ok());
        assert!(outbox.begin());
        assert!(!outbox.begin(), "by one at a time");
        assert_eq!(outbox.pop(), Some("a"));
        assert!(!outbox.is_idle(), "the first is still on its way");
        assert_eq!(outbox.pop(), None);
        assert!(outbox.is_idle());
    }

    /// What may be done to it.
    #[derive(Debug, Clone)]
    enum Step {
        Push(usize),
        Pop,
        Remove(usize),
        Wait(u64),
        Clear,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0_usize..40).prop_map(Step::Push),
            2 => Just(Step::Pop),
            1 => (0_usize..20).prop_map(Step::Remove),
            1 => (0_u64..60).prop_map(Step::Wait),
            1 => Just(Step::Clear),
        ]
    }

    proptest! {
        #[test]
        fn it_keeps_its_bounds_and_its_order_and_loses_and_doubles_nothing(
            steps in prop::collection::vec(step(), 1..200),
        ) {
            let age = Duration::from_millis(50);
            let mut outbox = Outbox::new(bounds(8, 100, age));
            let (mut now, mut next, mut let_in, mut out) = (Instant::now(), 0_usize, 0, 0);
            let mut places = Vec::new();
            let mut last_out = None;
            for step in steps {
                match step {
                    Step::Push(bytes) => {
                        out += outbox.expire(now).len();
                        if let Ok(place) = outbox.push(next, bytes, now) {
                            places.push(place);
                            let_in += 1;
                        }
                        next += 1;
                    }
                    Step::Pop => if let Some(item) = outbox.pop() {
                        prop_assert!(last_out.is_none_or(|last| last < item), "the order");
                        last_out = Some(item);
                        out += 1;
                    },
                    Step::Remove(index) => if let Some(place) = places.get(index) {
                        out += usize::from(outbox.remove(*place, false).is_some());
                    },
                    Step::Wait(millis) => now += Duration::from_millis(millis),
                    Step::Clear => out += outbox.clear().len(),
                }
                let status = outbox.status();
                prop_assert!(status.waiting <= 8 && status.bytes <= 100, "{status:?}");
                prop_assert_eq!(let_in, out + status.waiting);
            }
            now += age;
            out += outbox.expire(now).len();
            prop_assert_eq!(let_in, out);
            prop_assert_eq!(outbox.status().bytes, 0);
        }
    }
}
