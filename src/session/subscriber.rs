//! The queue between a connection's reader and one subscription, as both sides hold it.
//!
//! A shell around the pure `ContinuityQueue`: a lock taken once per batch, one wake-up per batch, and
//! the right to close. It outlives every connection and every actor: the user holds one end.
//!
//! Invariants: the reader never waits here (it asks [`Subscriber::poll_room`] instead); once the
//! consumer has gone nothing is queued any more; a consumer is awaited only while its waker is here and what it has not
//! been given is nothing.

mod behind;
mod room;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use behind::Behind;
use tracing::Span;

use crate::close::GapCause;
use crate::config::{Overflow, Queue};
use crate::error::EndReason;
use crate::frame::Frame;
use crate::platform::ChannelKind;
use crate::protocol::continuity::{ContinuityQueue, Epoch, Items, OverflowRule};
use crate::protocol::high_water::{HighWater, Level};
use crate::protocol::losses::{LossAction, Losses};
use crate::telemetry::spans;

/// How far above its capacity a blocking queue may grow by one batch.
pub(crate) const BATCH: usize = 1024;

/// A consumer that is given no more than so many items is woken by what comes next, even if it comes before they are read.
const LITTLE: usize = 64;

/// One subscription's queue.
// What every batch touches comes first, here and in `Shared`: of hundreds that take turns none is in the nearest cache.
#[derive(Debug)]
#[repr(C, align(64))]
pub(crate) struct Subscriber {
    /// Set when the consumer has gone.
    gone: AtomicBool,
    /// Whether `shared` has a time until which the reader waits whatever the rule says.
    held: AtomicBool,
    /// Whether `shared` has the consumer's waker, and nothing has come in since it was left there. Changed under the lock.
    awaited: AtomicBool,
    shared: Mutex<Shared>,
    rule: Queue,
    /// The channel, or `None` for whoever listens to all that has no other place.
    pub(crate) channel: Option<Arc<str>>,
    /// What kind of stream it is.
    pub(crate) kind: ChannelKind,
    /// Gaps that the consumer found itself, in what it was given.
    found: AtomicU64,
}

/// Nothing more is let in.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Over;

/// What is to be told of a batch that has been queued; nearly always nothing.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Delivered {
    /// The queue has become so full.
    pub(crate) filling: Option<Level>,
    /// A stretch of losses begins.
    pub(crate) loses: bool,
    /// The queue has no room left that its rule allows: the reader may have to wait.
    pub(crate) full: bool,
}

impl Delivered {
    /// Whether there is anything to be told.
    pub(crate) fn is_notable(self) -> bool {
        self.loses || self.filling.is_some()
    }
}

/// A queue at one moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Look {
    /// Items that wait.
    pub(crate) messages: usize,
    /// Messages that may.
    pub(crate) capacity: usize,
    /// When data last came in.
    pub(crate) last_received: Option<Instant>,
    /// Since when the stream is interrupted.
    pub(crate) interrupted_since: Option<Instant>,
    /// Gaps so far, wherever they were found.
    pub(crate) gaps: u64,
    /// Messages dropped for want of room.
    pub(crate) lost: u64,
    /// Messages that newer ones of their key have taken the place of.
    pub(crate) conflated: u64,
}

#[derive(Debug)]
#[repr(C)]
struct Shared {
    /// Left by a consumer that has found nothing, or has been given all there was; taken by who wakes it.
    consumer: Option<Waker>,
    /// What has come since the queue was found empty.
    behind: Behind,
    queue: ContinuityQueue<Frame>,
    high_water: HighWater,
    losses: Losses,
    /// The queue has room for a batch more than the rule says, until it is within the rule again.
    widened: bool,
    /// The reader that waits for room under [`Overflow::Block`], or while the consumer changes hands.
    reader: Option<Waker>,
    /// Until when the consumer changes hands. Set by the hand-over, cleared by who receives it.
    held_until: Option<Instant>,
    /// Open while the stream is interrupted, if somebody listens.
    gap: Option<Span>,
    /// Open while the consumer is behind and loses messages, if somebody listens. Set by the reader, taken by whoever
    /// ends the stretch.
    loss: Option<Span>,
}

/// A stretch of losses that is over.
struct Lost {
    span: Span,
    lost: u64,
}

impl Drop for Lost {
    fn drop(&mut self) {
        self.span.record("lost", self.lost);
    }
}

impl Shared {
    /// Has `consumer` woken by the next who changes anything.
    fn await_news(&mut self, consumer: &Waker) {
        match &mut self.consumer {
            Some(waker) => waker.clone_from(consumer),
            none => *none = Some(consumer.clone()),
        }
    }

    /// The stretch that is open is over. To be dropped outside the lock.
    fn caught_up(&mut self) -> Option<Lost> {
        let span = self.loss.take()?;
        let lost = match self.losses.on_caught_up(self.queue.dropped()) {
            LossAction::End(lost) => lost,
            LossAction::Nothing | LossAction::Begin => 0,
        };
        Some(Lost { span, lost })
    }
}

impl Subscriber {
    /// An empty queue.
    pub(crate) fn new(channel: Option<Arc<str>>, kind: ChannelKind, rule: Queue) -> Arc<Self> {
        let (capacity, bytes) = room::bounds(&rule);
        let overflow = match &rule.overflow {
            Overflow::DropOldest | Overflow::Block(_) => OverflowRule::DropOldest,
            Overflow::DropNewest => OverflowRule::DropNewest,
            Overflow::Conflate(_) => OverflowRule::Conflate,
            Overflow::Disconnect => OverflowRule::Disconnect,
        };
        let queue = ContinuityQueue::new(capacity, overflow, kind.restores_state)
            .within_bytes(bytes, |frame: &Frame| frame.payload().len());
        let queue = match &rule.overflow {
            Overflow::Conflate(key) => {
                let key = key.clone();
                queue.conflating_by(move |frame| key.of(frame.payload()))
            }
            Overflow::DropOldest
            | Overflow::DropNewest
            | Overflow::Block(_)
            | Overflow::Disconnect => queue,
        };
        Arc::new(Self {
            gone: AtomicBool::new(false),
            held: AtomicBool::new(false),
            awaited: AtomicBool::new(false),
            shared: Mutex::new(Shared {
                consumer: None,
                behind: Behind::default(),
                queue,
                high_water: HighWater::default(),
                losses: Losses::default(),
                widened: false,
                reader: None,
                held_until: None,
                gap: None,
                loss: None,
            }),
            rule,
            channel,
            kind,
            found: AtomicU64::new(0),
        })
    }

    /// Queues a batch of one epoch, if the consumer is there, and wakes it once. Takes `frames` over, whose payloads
    /// have so many `bytes`, and may leave room in their place. `read` is what the session has read so far.
    pub(crate) fn deliver(
        &self,
        frames: &mut VecDeque<Frame>,
        bytes: usize,
        epoch: Epoch,
        received: Instant,
        read: u64,
    ) -> Delivered {
        let mut guard = self.lock();
        if self.is_gone() {
            return Delivered::default();
        }
        let shared = &mut *guard;
        if shared.queue.is_empty() {
            shared.behind = Behind::new(read);
        } else if shared.behind.holds_much(read) && self.takes(shared) {
            frames.iter_mut().for_each(Frame::detach);
        }
        self.make_room(shared, frames.len());
        shared.queue.push_batch(frames, bytes, epoch, received);
        shared.behind.came(bytes);
        let consumer = self.take_consumer(shared);
        let level = self.level(shared);
        let filling = shared.high_water.on_rise(level, received);
        let full = !self.is_below(shared);
        let lost = shared.queue.dropped();
        let (loses, caught_up) = match shared.losses.on_delivered(lost, received) {
            // What nearly always is, without a look at what else may be.
            LossAction::Nothing => {
                drop(guard);
                if let Some(consumer) = consumer {
                    consumer.wake();
                }
                return Delivered {
                    filling: filling.then_some(level),
                    loses: false,
                    full,
                };
            }
            LossAction::Begin if spans::hears_debug() => (true, None),
            LossAction::Begin => {
                shared.losses.forget(lost);
                (false, None)
            }
            LossAction::End(lost) => (false, shared.loss.take().map(|span| Lost { span, lost })),
        };
        drop(guard);
        drop(caught_up);
        if let Some(consumer) = consumer {
            consumer.wake();
        }
        Delivered {
            filling: filling.then_some(level),
            loses,
            full,
        }
    }

    /// Lets go of what was read with others' messages long ago, when so much has been read: what waits is copied.
    pub(crate) fn let_go(&self, read: u64) {
        let mut guard = self.lock();
        let shared = &mut *guard;
        if !shared.queue.is_empty() && shared.behind.is_stale(read) {
            shared.queue.data_mut().for_each(Frame::detach);
        }
    }

    /// The consumer, if it is to be woken because something has changed.
    fn take_consumer(&self, shared: &mut Shared) -> Option<Waker> {
        self.awaited.store(false, Ordering::Release);
        shared.consumer.take()
    }

    /// How much of what the rule allows is taken.
    fn level(&self, shared: &Shared) -> Level {
        Level {
            waiting: shared.queue.len(),
            capacity: self.rule.capacity,
            bytes: shared.queue.bytes(),
            max_bytes: self.rule.bytes,
        }
    }

    /// The span of the stretch of losses that has just begun. It is over when the consumer has caught up, or is gone.
    pub(crate) fn keep_loss(&self, span: Span) {
        let mut shared = self.lock();
        if span.is_disabled() {
            let lost = shared.queue.dropped();
            shared.losses.forget(lost);
            return;
        }
        shared.loss = Some(span);
        // It may have caught up already, or have no consumer any more.
        let over = self.is_gone() || shared.queue.is_ended() || self.level(&shared).is_calm();
        let over = over.then(|| shared.caught_up()).flatten();
        drop(shared);
        drop(over);
    }

    /// Announces a gap since `since`, or since the last message if that came later. Whether it did:
    /// not while a gap is open already.
    pub(crate) fn interrupt(&self, cause: GapCause, epoch: Epoch, since: Instant) -> bool {
        self.change(|queue| {
            let since = queue
                .last_received()
                .map_or(since, |received| received.max(since));
            queue.interrupt(cause, epoch, since)
        })
    }

    /// The span of the gap that has just been announced. It is over when the stream goes on, or ends.
    pub(crate) fn keep_gap(&self, span: Span) {
        let mut shared = self.lock();
        // It may go on already.
        let over = match shared.queue.interrupted_since() {
            Some(_) => shared.gap.replace(span),
            None => Some(span),
        };
        drop(shared);
        drop(over);
    }

    /// Announces that the stream goes on, if a gap is open.
    pub(crate) fn resync(&self, epoch: Epoch, now: Instant) -> bool {
        let goes_on = self.change(|queue| queue.resync(epoch, now));
        if goes_on {
            let gap = self.lock().gap.take();
            if let Some(gap) = gap {
                gap.record("epoch", epoch.as_u64());
            }
        }
        goes_on
    }

    /// Nothing will follow what is queued.
    pub(crate) fn end(&self, reason: EndReason) {
        self.change(|queue| queue.end(reason));
        let mut shared = self.lock();
        let (reader, gap) = (shared.reader.take(), shared.gap.take());
        let loss = shared.caught_up();
        drop(shared);
        drop((gap, loss));
        if let Some(reader) = reader {
            reader.wake();
        }
    }

    /// The consumer has gone. What waited for it is let go of.
    pub(crate) fn leave(&self) {
        self.gone.store(true, Ordering::Relaxed);
        let mut shared = self.lock();
        let mut items = Items::new();
        shared.queue.pop_many(&mut items, usize::MAX);
        let (reader, gap) = (shared.reader.take(), shared.gap.take());
        let consumer = self.take_consumer(&mut shared);
        let loss = shared.caught_up();
        drop(shared);
        drop((items, gap, loss, consumer));
        if let Some(reader) = reader {
            reader.wake();
        }
    }

    /// Whether the consumer has gone.
    pub(crate) fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Relaxed)
    }

    /// Whether new data is taken, be it in the place of older.
    fn takes(&self, shared: &Shared) -> bool {
        match self.rule.overflow {
            Overflow::DropNewest | Overflow::Disconnect => shared.queue.has_room(),
            Overflow::DropOldest | Overflow::Conflate(_) | Overflow::Block(_) => true,
        }
    }

    /// Takes up to `limit` items out. `Ready` with nothing added means that the subscription is over.
    ///
    /// Who is given all there was, and little, will soon be back and find nothing: it is woken by what comes next, as who
    /// found nothing is, and need not ask again while [`Self::is_awaited`].
    pub(crate) fn poll_items(
        &self,
        items: &mut Items<Frame>,
        limit: usize,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        let mut guard = self.lock();
        let shared = &mut *guard;
        shared.queue.pop_many(items, limit);
        self.narrow(shared);
        let level = self.level(shared);
        shared.high_water.on_fall(level);
        if items.len() <= LITTLE && shared.queue.is_empty() && !shared.queue.is_ended() {
            shared.await_news(cx.waker());
            self.awaited.store(true, Ordering::Release);
        }
        let pending = items.is_empty() && !shared.queue.is_ended();
        let reader = if self.is_below(shared) {
            shared.reader.take()
        } else {
            None
        };
        if shared.loss.is_some() && level.is_calm() {
            let loss = shared.caught_up();
            drop(guard);
            drop(loss);
        } else {
            drop(guard);
        }
        if let Some(reader) = reader {
            reader.wake();
        }
        if pending {
            return Poll::Pending;
        }
        Poll::Ready(())
    }

    /// Whether nothing has come in since [`Self::poll_items`] was called by a consumer that is to be woken.
    pub(crate) fn is_awaited(&self) -> bool {
        self.awaited.load(Ordering::Acquire)
    }

    /// When data last came; `None` before the first. An error if nothing more is let in: its consumer has gone, or was
    /// too slow for a queue that ends with that.
    pub(crate) fn last_received(&self) -> Result<Option<Instant>, Over> {
        let shared = self.lock();
        if self.is_gone() || shared.queue.is_ended() {
            return Err(Over);
        }
        Ok(shared.queue.last_received())
    }

    /// How many items wait, and the payload bytes of those that are messages.
    pub(crate) fn held(&self) -> (usize, usize) {
        let shared = self.lock();
        (shared.queue.len(), shared.queue.bytes())
    }

    /// How full it is, from 0 to 1; above while the reader waits for room.
    #[cfg(any(feature = "otel", feature = "prometheus"))]
    pub(crate) fn share(&self) -> f64 {
        self.level(&self.lock()).share()
    }

    /// The consumer found a gap in what it was given.
    pub(crate) fn broken(&self) {
        self.found.fetch_add(1, Ordering::Relaxed);
    }

    /// How it stands, for whoever looks.
    pub(crate) fn look(&self) -> Look {
        let shared = self.lock();
        let queue = &shared.queue;
        Look {
            messages: queue.len(),
            capacity: self.rule.capacity,
            last_received: queue.last_received(),
            interrupted_since: queue.interrupted_since(),
            gaps: queue.gaps() + self.found.load(Ordering::Relaxed),
            lost: queue.dropped(),
            conflated: queue.conflated(),
        }
    }

    /// How many items wait.
    pub(crate) fn depth(&self) -> usize {
        self.lock().queue.len()
    }

    fn change<R>(&self, change: impl FnOnce(&mut ContinuityQueue<Frame>) -> R) -> R {
        let mut shared = self.lock();
        let result = change(&mut shared.queue);
        let consumer = self.take_consumer(&mut shared);
        drop(shared);
        if let Some(consumer) = consumer {
            consumer.wake();
        }
        result
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        // The queue is never left half changed: the only code of a user's that runs under the lock finds a key, and its
        // panic is caught.
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
