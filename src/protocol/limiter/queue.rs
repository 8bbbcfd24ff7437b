//! Who waits, in which order, and until when.
//!
//! Apart from the meters because order and deadlines have nothing to do with what things cost.
//!
//! Invariants: bounded in count; what is pushed leaves exactly once, by `pop`, `expire`, `remove` or
//! `sweep`; an earlier lane first, then whoever came first.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use crate::config::limits::Lane;

/// Names one entry; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket {
    lane: Lane,
    arrival: u64,
}

/// The queue holds as many as it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueFull {
    /// How many that is.
    pub capacity: usize,
}

#[derive(Debug)]
struct Entry<T> {
    item: T,
    cost: u64,
    deadline: Option<Instant>,
}

/// The queue. See the module's documentation.
#[derive(Debug)]
pub struct WaitingQueue<T> {
    capacity: usize,
    entries: BTreeMap<Ticket, Entry<T>>,
    deadlines: BTreeSet<(Instant, Ticket)>,
    arrivals: u64,
}

impl<T> WaitingQueue<T> {
    /// An empty queue for `capacity`.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self {
            capacity,
            entries: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            arrivals: 0,
        }
    }

    /// Puts `item` behind those of its lane. The reserved lane may fill the queue once more: a crowd that
    /// waits keeps no heartbeat and no cancel out.
    ///
    /// # Errors
    ///
    /// [`QueueFull`], with the item.
    pub fn push(
        &mut self,
        item: T,
        lane: Lane,
        cost: u64,
        deadline: Option<Instant>,
    ) -> Result<Ticket, (T, QueueFull)> {
        let bound = match lane {
            Lane::Reserved => self.capacity.saturating_mul(2),
            Lane::High | Lane::Normal | Lane::Low => self.capacity,
        };
        if self.entries.len() >= bound {
            let capacity = self.capacity;
            return Err((item, QueueFull { capacity }));
        }
        let arrival = self.arrivals;
        self.arrivals += 1;
        let ticket = Ticket { lane, arrival };
        if let Some(deadline) = deadline {
            self.deadlines.insert((deadline, ticket));
        }
        let entry = Entry {
            item,
            cost,
            deadline,
        };
        self.entries.insert(ticket, entry);
        Ok(ticket)
    }

    /// The lane and the cost of whoever is next.
    #[must_use]
    pub fn first(&self) -> Option<(Lane, u64)> {
        let (ticket, entry) = self.entries.first_key_value()?;
        Some((ticket.lane, entry.cost))
    }

    /// The lane of whoever is next.
    #[must_use]
    pub fn first_lane(&self) -> Option<Lane> {
        self.first().map(|(lane, _)| lane)
    }

    /// Takes whoever is next.
    pub fn pop(&mut self) -> Option<T> {
        let ticket = *self.entries.first_key_value()?.0;
        self.remove(ticket)
    }

    /// Takes a certain one, if it still waits.
    pub fn remove(&mut self, ticket: Ticket) -> Option<T> {
        let entry = self.entries.remove(&ticket)?;
        if let Some(deadline) = entry.deadline {
            self.deadlines.remove(&(deadline, ticket));
        }
        Some(entry.item)
    }

    /// Takes those whose deadline has come, the earliest first.
    #[must_use]
    pub fn expire(&mut self, now: Instant) -> Vec<T> {
        let mut expired = Vec::new();
        while let Some((deadline, ticket)) = self.deadlines.first().copied() {
            if deadline > now {
                break;
            }
            expired.extend(self.remove(ticket));
        }
        expired
    }

    /// Takes all that are `dead`.
    #[must_use]
    pub fn sweep(&mut self, dead: &mut impl FnMut(&T) -> bool) -> Vec<T> {
        let swept: Vec<Ticket> = self
            .entries
            .iter()
            .filter(|(_, entry)| dead(&entry.item))
            .map(|(ticket, _)| *ticket)
            .collect();
        swept
            .into_iter()
            .filter_map(|ticket| self.remove(ticket))
            .collect()
    }

    /// The earliest deadline.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    /// How many wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nobody waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// How many may wait.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.capacity
    }
}
