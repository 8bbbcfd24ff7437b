//! The bounded queue of one subscription, which turns every loss into a gap.
//!
//! Its own file because it is the machine; the words that it speaks stand above.
//!
//! ```text
//!            first data, resync                 interrupt, drop newest
//!   Fresh ----------------------> Continuous ---------------------------> Interrupted
//!                                     ^                                        |
//!                                     |  resync, data of a newer epoch,        |
//!                                     +--- data after a loss that heals -------+
//!
//!   any --- end, overflow under `Disconnect` ---> ended
//! ```
//!
//! Invariants:
//! - a fresh subscription has nothing to miss: before its first data or confirmation no gap is announced;
//! - at most [`CONTROLS`] more items than its capacity are held, however the link flaps, and one message more than
//!   its bytes;
//! - what was queued is popped, or counted in the `missed` of a gap that is popped, or in the `replaced` of a message;
//! - data of an interrupted epoch is not let in until the venue has confirmed the channel again.

mod conflation;

use std::borrow::Cow;
use std::collections::VecDeque;
use std::time::Instant;

use conflation::Conflation;

use super::items::{Items, Mark};
use super::{Epoch, Gap, Item, Resynced};
use crate::close::{CloseReason, GapCause};
use crate::error::EndReason;

/// What happens to data for which there is no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OverflowRule {
    /// The oldest data makes room.
    DropOldest,
    /// The new data is not taken.
    DropNewest,
    /// What a newer message of its key has made old makes room ([`ContinuityQueue::conflating_by`]); where nothing has, the
    /// oldest data does.
    Conflate,
    /// The subscription ends.
    Disconnect,
}

/// What became of pushed data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Pushed {
    /// It will be popped, unless newer data displaces it.
    Queued,
    /// There was no room; it is counted in a gap.
    Dropped,
    /// It belongs to a connection, or a subscription, that is over.
    OldEpoch,
    /// The queue has ended.
    Closed,
}

/// The queue of one subscription. See the module's documentation.
// What every batch touches comes first: of hundreds of queues that take turns none is in the nearest cache.
#[derive(Debug)]
#[repr(C)]
pub struct ContinuityQueue<T> {
    /// Never holds `Item::Ended`.
    items: Items<T>,
    capacity: usize,
    /// No data is let in any more while it has so many bytes.
    max_bytes: usize,
    /// Of the data that is queued.
    bytes: usize,
    weigh: fn(&T) -> usize,
    /// The newest epoch that was let in.
    epoch: Epoch,
    /// When data last came, taken or not; set by `push`.
    received: Option<Instant>,
    dropped: u64,
    /// Only under [`OverflowRule::Conflate`].
    conflation: Option<Box<Conflation<T>>>,
    /// The state after the last of `items`.
    tail: Tail,
    end: End,
    overflow: OverflowRule,
    complete_on_resync: bool,
    /// Everything older is refused.
    floor: Epoch,
    /// Since when the consumer knows of a gap; cleared when it is told that the stream goes on.
    told_since: Option<Instant>,
    gaps: u64,
}

#[derive(Debug)]
enum Tail {
    Fresh,
    Continuous,
    Interrupted {
        since: Instant,
        epoch: Epoch,
        /// The next data of the same epoch ends it: the venue never stopped, only we lost something.
        heals: bool,
    },
}

#[derive(Debug)]
enum End {
    Open,
    Pending(EndReason),
    Told,
}

impl<T> ContinuityQueue<T> {
    /// An empty queue for `capacity` messages, at least one. `complete_on_resync` says whether the
    /// venue sends the whole state after a (re)subscription.
    #[must_use]
    pub fn new(capacity: usize, overflow: OverflowRule, complete_on_resync: bool) -> Self {
        Self {
            capacity: capacity.max(1),
            max_bytes: usize::MAX,
            bytes: 0,
            weigh: |_| 0,
            overflow,
            complete_on_resync,
            items: Items::new(),
            tail: Tail::Fresh,
            epoch: Epoch::NONE,
            floor: Epoch::NONE,
            received: None,
            told_since: None,
            end: End::Open,
            dropped: 0,
            gaps: 0,
            conflation: None,
        }
    }

    /// Says what the key of a message is, for [`OverflowRule::Conflate`]. A message without one is never replaced. It is called
    /// only from when the queue is full until it is empty again.
    #[must_use]
    pub fn conflating_by(
        mut self,
        key_of: impl for<'m> Fn(&'m T) -> Option<Cow<'m, [u8]>> + Send + Sync + 'static,
    ) -> Self {
        self.conflation = Some(Box::new(Conflation::new(key_of)));
        self
    }

    /// Bounds it in bytes, too, as `weigh` counts them: while `max_bytes` are queued there is no room. The last message
    /// that is let in may exceed it.
    #[must_use]
    pub fn within_bytes(mut self, max_bytes: usize, weigh: fn(&T) -> usize) -> Self {
        self.set_max_bytes(max_bytes);
        self.weigh = weigh;
        self
    }

    /// From now on there is room for so many bytes, at least one. What is queued already stays.
    pub fn set_max_bytes(&mut self, max_bytes: usize) {
        self.max_bytes = max_bytes.max(1);
    }

    /// The bytes of the data that is queued.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// From now on there is room for so many messages, at least one. What is queued already stays.
    pub fn set_capacity(&mut self, capacity: usize) {
        self.capacity = capacity.max(1);
    }

    /// Queues data. The first data of a newer epoch says by itself that the stream goes on.
    pub fn push(&mut self, payload: T, epoch: Epoch, received: Instant) -> Pushed {
        if self.is_ended() {
            return Pushed::Closed;
        }
        if epoch < self.floor {
            return Pushed::OldEpoch;
        }
        match self.tail {
            Tail::Interrupted {
                epoch: lost,
                heals: false,
                ..
            } if epoch <= lost => {
                return Pushed::OldEpoch;
            }
            Tail::Continuous if epoch > self.epoch => self.replaced(received),
            Tail::Fresh | Tail::Continuous | Tail::Interrupted { .. } => {}
        }
        let full = !self.has_room();
        match self.overflow {
            OverflowRule::DropNewest | OverflowRule::Disconnect if full => {
                self.miss(epoch, received);
                if self.overflow == OverflowRule::Disconnect {
                    self.end(EndReason::Lagged);
                }
                return Pushed::Dropped;
            }
            OverflowRule::DropOldest
            | OverflowRule::DropNewest
            | OverflowRule::Conflate
            | OverflowRule::Disconnect => {}
        }
        self.go_on(epoch, received);
        if self.overflow == OverflowRule::Conflate && (full || self.counts_keys()) {
            self.conflate(&payload);
        }
        while !self.has_room() {
            self.fold();
        }
        self.bytes += (self.weigh)(&payload);
        self.items.push_back(Item::Data {
            payload,
            epoch,
            received,
            replaced: 0,
        });
        self.received = Some(received);
        Pushed::Queued
    }

    /// Queues a batch of one epoch, as [`ContinuityQueue::push`] would one by one, and leaves `batch` empty. It has so
    /// many `bytes`, as [`ContinuityQueue::within_bytes`] counts them.
    pub fn push_batch(
        &mut self,
        batch: &mut VecDeque<T>,
        bytes: usize,
        epoch: Epoch,
        received: Instant,
    ) {
        debug_assert_eq!(bytes, batch.iter().map(self.weigh).sum::<usize>());
        let count = batch.len();
        let undisturbed = count > 0
            && matches!(self.tail, Tail::Continuous)
            && epoch == self.epoch
            && !self.is_ended()
            && !self.counts_keys();
        let fits = self.items.data().len() + count <= self.capacity
            && self.bytes + bytes <= self.max_bytes
            && self.items.len() + count + 3 <= self.capacity + CONTROLS;
        if undisturbed && !fits && self.may_fold_for(count, bytes) {
            self.fold_for(count);
        } else if !(undisturbed && fits) {
            for payload in batch.drain(..) {
                let _ = self.push(payload, epoch, received);
            }
            return;
        }
        self.bytes += bytes;
        self.items.append(batch, epoch, received);
        self.received = Some(received);
    }

    /// Whether the oldest data is what makes room for so much, only because there are too many messages, and some of
    /// those that are queued stay.
    fn may_fold_for(&self, count: usize, bytes: usize) -> bool {
        let controls = self.items.len() - self.items.data().len();
        self.overflow == OverflowRule::DropOldest
            && count < self.capacity
            && self.bytes + bytes < self.max_bytes
            // Two more may join.
            && controls + 5 <= CONTROLS
    }

    /// Drops the oldest data until so many messages have room.
    fn fold_for(&mut self, count: usize) {
        loop {
            let over = (self.items.data().len() + count).saturating_sub(self.capacity);
            match over {
                0 => return,
                over if self.fold_run(over) => {}
                _ => self.fold(),
            }
        }
    }

    /// Does what [`Self::fold`] would do up to `limit` times, where that is to make the gap at the head longer. Whether
    /// it is.
    fn fold_run(&mut self, limit: usize) -> bool {
        let mut folded = 0;
        let run = self.items.fold_run(limit, |gap, resynced, run, next| {
            folded = run.count as u64;
            gap.cause = GapCause::Lagged;
            gap.missed = Some(gap.missed.unwrap_or(0).saturating_add(folded));
            gap.since = gap.since.min(run.received);
            let length = next.saturating_duration_since(gap.since);
            *resynced = Resynced::new(run.epoch, false, length);
        });
        let Some(run) = run else { return false };
        let weigh = self.weigh;
        self.bytes -= run.map(|payload| weigh(&payload)).sum::<usize>();
        self.dropped += folded;
        true
    }

    /// Announces a gap in `epoch` that began at `now`. Returns whether it did: not while the consumer is, or will be, in a
    /// gap already, not before anything could be missed, and not for an epoch that is long over.
    pub fn interrupt(&mut self, cause: GapCause, epoch: Epoch, now: Instant) -> bool {
        if self.is_ended() || epoch < self.epoch {
            return false;
        }
        if matches!(cause, GapCause::ConnectionLost(_)) {
            self.floor = self.floor.max(epoch.next());
        }
        let healing = matches!(cause, GapCause::Lagged | GapCause::Undecodable { .. });
        match &mut self.tail {
            Tail::Fresh => false,
            Tail::Interrupted {
                epoch: lost, heals, ..
            } => {
                *heals &= healing;
                *lost = epoch.max(*lost);
                false
            }
            Tail::Continuous => {
                self.announce(Gap::new(cause, now, epoch), healing);
                true
            }
        }
    }

    /// The venue has confirmed the channel again on the connection `epoch`. Returns whether this ended
    /// a gap.
    pub fn resync(&mut self, epoch: Epoch, now: Instant) -> bool {
        if self.is_ended() || epoch < self.floor {
            return false;
        }
        match self.tail {
            // An answer that was overtaken by data says nothing about what was dropped since.
            Tail::Interrupted {
                epoch: lost, heals, ..
            } if heals && epoch <= lost => return false,
            Tail::Continuous if epoch <= self.epoch => return false,
            Tail::Continuous => self.replaced(now),
            Tail::Fresh | Tail::Interrupted { .. } => {}
        }
        let announced = !matches!(self.tail, Tail::Fresh);
        self.resume(epoch, self.complete_on_resync, now);
        announced
    }

    /// Nothing will follow what is queued. Only the first reason counts.
    pub fn end(&mut self, reason: EndReason) {
        if let End::Open = self.end {
            self.end = End::Pending(reason);
        }
    }

    /// Takes the next item. After [`Item::Ended`] there is none.
    pub fn pop(&mut self) -> Option<Item<T>> {
        let mut item = self.items.pop_front();
        match &mut item {
            Some(Item::Data {
                payload, replaced, ..
            }) => {
                self.bytes -= (self.weigh)(payload);
                *replaced = self.forget_first();
            }
            Some(Item::Ended(_)) => {}
            Some(Item::Gap(gap)) => self.told_since = Some(gap.since),
            Some(Item::Resynced(_)) => self.told_since = None,
            None => {
                return match std::mem::replace(&mut self.end, End::Told) {
                    End::Pending(reason) => Some(Item::Ended(reason)),
                    End::Told => None,
                    End::Open => {
                        self.end = End::Open;
                        None
                    }
                };
            }
        }
        item
    }

    /// Takes up to `limit` items and appends them to `items`; says how many.
    pub fn pop_many(&mut self, items: &mut Items<T>, limit: usize) -> usize {
        let mut taken = 0;
        if items.is_empty()
            && self.items.len() <= limit
            && self.items.is_plain()
            && self.conflation.is_none()
        {
            // What nearly always is: nothing is moved, nor looked at.
            std::mem::swap(&mut self.items, items);
            self.bytes = 0;
            taken = items.len();
        }
        while taken < limit && self.counts_keys() {
            let Some(item) = self.pop() else { break };
            items.push_back(item);
            taken += 1;
        }
        while taken < limit {
            taken += match self.items.move_run(items, limit - taken) {
                0 => match self.pop() {
                    Some(item) => {
                        items.push_back(item);
                        1
                    }
                    None => break,
                },
                moved => {
                    self.bytes -= match self.items.data().len() {
                        0 => self.bytes,
                        _ => items.data().rev().take(moved).map(self.weigh).sum(),
                    };
                    moved
                }
            };
        }
        taken
    }

    /// The data that is queued, the oldest first.
    pub fn data(&self) -> impl ExactSizeIterator<Item = &T> {
        self.items.data()
    }

    /// How many items are queued, without the end.
    #[must_use]
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether nothing is queued; an end may still be to come.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Whether the next data would displace nothing.
    #[must_use]
    pub fn has_room(&self) -> bool {
        // Three more may join: the end of a gap in front, and a gap with its end behind.
        self.items.data().len() < self.capacity
            && self.bytes < self.max_bytes
            && self.items.len() + 3 <= self.capacity + CONTROLS
    }

    /// Whether [`Self::end`] was called, or an overflow ended it; items may still be queued.
    #[must_use]
    pub fn is_ended(&self) -> bool {
        !matches!(self.end, End::Open)
    }

    /// When data last came, whether there was room for it or not.
    #[must_use]
    pub fn last_received(&self) -> Option<Instant> {
        self.received
    }

    /// How many messages this queue has dropped for want of room.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// How many messages newer ones of their key have taken the place of, and have been told or will be.
    #[must_use]
    pub fn conflated(&self) -> u64 {
        self.conflation.as_ref().map_or(0, |one| one.conflated())
    }

    /// How many gaps were put at its tail. What it drops from its front is in [`Self::dropped`] alone.
    #[must_use]
    pub fn gaps(&self) -> u64 {
        self.gaps
    }

    /// Since when the stream is interrupted, seen from its tail; `None` while it goes on, and before it began.
    #[must_use]
    pub fn interrupted_since(&self) -> Option<Instant> {
        match self.tail {
            Tail::Interrupted { since, .. } => Some(since),
            Tail::Fresh | Tail::Continuous => None,
        }
    }

    /// The messages that wait, the first one first, to be put in other words of the same weight and key.
    pub fn data_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.items.data_mut()
    }

    fn counts_keys(&self) -> bool {
        self.conflation
            .as_ref()
            .is_some_and(|one| one.is_counting())
    }

    /// The first message has been taken out. How many older ones it stood for.
    fn forget_first(&mut self) -> u64 {
        self.conflation.as_mut().map_or(0, |one| one.pop_front())
    }

    /// Data is let in: closes an open gap before it.
    fn go_on(&mut self, epoch: Epoch, now: Instant) {
        let complete = match self.tail {
            Tail::Interrupted {
                epoch: lost, heals, ..
            } => self.complete_on_resync && !(heals && epoch <= lost),
            Tail::Fresh | Tail::Continuous => false,
        };
        self.resume(epoch, complete, now);
    }

    fn resume(&mut self, epoch: Epoch, complete: bool, now: Instant) {
        if let Tail::Interrupted { since, .. } = self.tail {
            let length = now.saturating_duration_since(since);
            self.items
                .push_back(Item::Resynced(Resynced::new(epoch, complete, length)));
        }
        self.tail = Tail::Continuous;
        self.epoch = epoch;
        self.floor = self.floor.max(epoch);
    }

    /// A newer connection speaks, and nobody has said that the old one ended.
    fn replaced(&mut self, now: Instant) {
        let reason = "replaced by a newer connection".to_owned();
        let cause = GapCause::ConnectionLost(CloseReason::Local { reason });
        let since = self.received.unwrap_or(now);
        self.announce(Gap::new(cause, since, self.epoch), false);
    }

    /// New data is not taken: counts it in the gap at the tail, which it opens if need be.
    fn miss(&mut self, epoch: Epoch, received: Instant) {
        self.dropped += 1;
        self.received = Some(received);
        if !matches!(self.tail, Tail::Interrupted { .. }) {
            self.announce(Gap::new(GapCause::Lagged, received, epoch), true);
        }
        if let Some(Mark::Gap(gap)) = self.items.back_mut() {
            gap.missed = Some(gap.missed.unwrap_or(0).saturating_add(1));
        }
        // The venue has gone on, so the next data will do; but it does not begin with the whole state.
        if let Tail::Interrupted {
            epoch: lost, heals, ..
        } = &mut self.tail
        {
            (*lost, *heals) = (epoch, true);
        }
        self.epoch = epoch;
        self.floor = self.floor.max(epoch);
    }

    /// Puts a gap at the tail. If no data came since the last one, that one is opened again instead.
    fn announce(&mut self, gap: Gap, heals: bool) {
        self.gaps += 1;
        let mut since = gap.since;
        let epoch = gap.epoch;
        if self.items.pop_back_resynced() {
            since = match (self.items.back_mut(), self.told_since) {
                (Some(Mark::Gap(earlier)), _) => earlier.since,
                (_, Some(told)) => told,
                (_, None) => since,
            };
        } else {
            self.items.push_back(Item::Gap(gap));
        }
        self.tail = Tail::Interrupted {
            since,
            epoch,
            heals,
        };
    }

    /// The first message is dropped. How many are missing that it stood for.
    fn miss_first(&mut self) -> u64 {
        let replaced = self.forget_first();
        if let Some(conflation) = &mut self.conflation {
            conflation.miss(replaced);
        }
        replaced
    }

    /// Drops the oldest data, together with the gaps before it, into one gap at the head.
    fn fold(&mut self) {
        // The end of a gap that the consumer knows of has to reach it.
        let known = match self.items.front_mut() {
            Some(Mark::Resynced(_)) => self.items.pop_front(),
            _ => None,
        };
        let mut lag: Option<Gap> = None;
        let mut until = None;
        while until.is_none() {
            match self.items.pop_front() {
                Some(Item::Gap(gap)) => lag = Some(joined(lag, gap)),
                Some(Item::Data {
                    payload,
                    epoch,
                    received,
                    ..
                }) => {
                    self.bytes -= (self.weigh)(&payload);
                    let missed = 1 + self.miss_first();
                    self.dropped += missed;
                    let one = Gap::new(GapCause::Lagged, received, epoch).with_missed(missed);
                    lag = Some(joined(lag, one));
                    until = Some((epoch, received));
                }
                Some(Item::Resynced(_) | Item::Ended(_)) => {}
                None => break,
            }
        }
        let (Some(gap), Some((epoch, mut now))) = (lag, until) else {
            return;
        };
        let gap = Gap {
            cause: GapCause::Lagged,
            ..gap
        };
        let since = gap.since;
        match self.items.pop_front() {
            // The stretch ends inside another gap, and with it.
            Some(Item::Gap(next)) => {
                let next_since = next.since;
                let gap = joined(Some(gap), next);
                if let Some(Mark::Resynced(resynced)) = self.items.front_mut() {
                    resynced.length += next_since.saturating_duration_since(since);
                } else if let Tail::Interrupted { since: open, .. } = &mut self.tail {
                    *open = since.min(*open);
                }
                self.items.push_front(Item::Gap(gap));
            }
            other => {
                if let Some(Item::Data { received, .. }) = &other {
                    now = *received;
                }
                let length = now.saturating_duration_since(since);
                if let Some(other) = other {
                    self.items.push_front(other);
                }
                self.items
                    .push_front(Item::Resynced(Resynced::new(epoch, false, length)));
                self.items.push_front(Item::Gap(gap));
            }
        }
        if let Some(known) = known {
            self.items.push_front(known);
        }
    }
}

/// Makes two gaps one: the earlier with the losses of both.
fn joined(gap: Option<Gap>, other: Gap) -> Gap {
    let Some(gap) = gap else {
        return other;
    };
    let missed = match (gap.missed, other.missed) {
        (Some(some), Some(more)) => Some(some.saturating_add(more)),
        (some, more) => some.or(more),
    };
    Gap {
        since: gap.since.min(other.since),
        missed,
        ..gap
    }
}

/// How many more items than its capacity a queue may hold: gaps and their ends.
const CONTROLS: usize = 8;

#[cfg(test)]
mod tests;
