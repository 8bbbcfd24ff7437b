//! The room of a queue for whose consumer the reader waits, and that waiting.
//!
//! Apart from the queue because nearly none is ever waited for.
//!
//! Invariants: beyond its rule a queue takes what one batch brings, and the reader waits behind it; who waits is woken by
//! room, by an end, and by a consumer that goes.

use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use super::super::clock;
use super::{BATCH, Shared, Subscriber};
use crate::config::{Overflow, Queue};

/// Messages, and bytes, for which a queue under this rule has room.
pub(super) fn bounds(rule: &Queue) -> (usize, usize) {
    match rule.overflow {
        Overflow::DropOldest
        | Overflow::DropNewest
        | Overflow::Conflate(_)
        | Overflow::Disconnect => (rule.capacity, rule.bytes),
        // Reading waits behind the batch that has filled it.
        Overflow::Block(_) => (rule.capacity.saturating_add(BATCH), usize::MAX),
    }
}

impl Shared {
    /// Room beyond the rule, until the queue is within it again.
    fn widen(&mut self, capacity: usize) {
        self.widened = true;
        self.queue.set_capacity(capacity);
        self.queue.set_max_bytes(usize::MAX);
    }
}

impl Subscriber {
    /// The consumer changes hands: until then the reader waits for room, whatever the rule says.
    pub(crate) fn hold(&self, until: Instant) {
        let mut shared = self.lock();
        shared.held_until = Some(until);
        self.held.store(true, Ordering::Relaxed);
        if !matches!(self.rule.overflow, Overflow::Block(_)) {
            // What one batch brings when there is no room any more.
            shared.widen(self.rule.capacity.saturating_add(BATCH));
        }
    }

    /// There is a consumer again, and the rule holds.
    pub(crate) fn release(&self) {
        let mut shared = self.lock();
        shared.held_until = None;
        self.held.store(false, Ordering::Relaxed);
        self.narrow(&mut shared);
        let reader = shared.reader.take();
        drop(shared);
        if let Some(reader) = reader {
            reader.wake();
        }
    }

    /// Takes the room back that was given beyond the rule, once nothing stands there.
    pub(super) fn narrow(&self, shared: &mut Shared) {
        if shared.widened
            && shared.held_until.is_none()
            && shared.queue.len() <= self.rule.capacity
            && shared.queue.bytes() <= self.rule.bytes
        {
            let (capacity, bytes) = bounds(&self.rule);
            shared.widened = false;
            shared.queue.set_capacity(capacity);
            shared.queue.set_max_bytes(bytes);
        }
    }

    /// Makes room for a batch that is larger than others, if the reader is to wait behind it: one frame may bring any number
    /// of messages.
    #[inline]
    pub(super) fn make_room(&self, shared: &mut Shared, batch: usize) {
        let waits = matches!(self.rule.overflow, Overflow::Block(_)) || shared.held_until.is_some();
        if batch > BATCH && waits && self.is_below(shared) {
            let wide = self.rule.capacity.saturating_add(BATCH);
            shared.widen(wide.max(shared.queue.len() + batch));
        }
    }

    /// Whether the rule leaves room.
    pub(super) fn is_below(&self, shared: &Shared) -> bool {
        shared.queue.len() < self.rule.capacity && shared.queue.bytes() < self.rule.bytes
    }

    /// How long the reader may wait for room, if the rule says that it waits at all, or a hand-over does, and there
    /// is none.
    pub(crate) fn blocks(&self) -> Option<Duration> {
        let rule = match self.rule.overflow {
            Overflow::Block(limit) => Some(limit),
            Overflow::DropOldest
            | Overflow::DropNewest
            | Overflow::Conflate(_)
            | Overflow::Disconnect => None,
        };
        let held = self.held.load(Ordering::Relaxed);
        if self.is_gone() || (rule.is_none() && !held) {
            return None;
        }
        let shared = self.lock();
        if self.is_below(&shared) {
            return None;
        }
        let left = |until: Instant| until.checked_duration_since(clock::now());
        rule.max(shared.held_until.and_then(left))
    }

    /// Ready when the queue is below its capacity again, or nobody consumes it.
    pub(crate) fn poll_room(&self, cx: &mut Context<'_>) -> Poll<()> {
        let waits = matches!(self.rule.overflow, Overflow::Block(_));
        if self.is_gone() || !(waits || self.held.load(Ordering::Relaxed)) {
            return Poll::Ready(());
        }
        let mut shared = self.lock();
        if self.is_below(&shared) || shared.queue.is_ended() {
            return Poll::Ready(());
        }
        shared.reader = Some(cx.waker().clone());
        Poll::Pending
    }
}
