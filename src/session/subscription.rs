//! What the user holds of a subscription: a typed stream that says when it was interrupted.
//!
//! It decodes each message once, in the consumer's own task, and checks the venue's sequence numbers
//! while it is at it. Everything that was lost, for whatever reason, comes as the same [`Event::Gap`].
//!
//! Invariants: in the order of arrival; after a gap comes `Resynced` or the end before the next data;
//! nothing of an older epoch after a newer one; a duplicate by the venue's own numbers is not shown.

mod options;
mod unsubscribe;

use std::collections::VecDeque;
use std::fmt;
use std::ops::Deref;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::{Duration, Instant};

use futures_util::Stream;
use mainstay_supervisors::Address;
pub use options::SubscribeOptions;
use tokio::task::coop::poll_proceed;
use tracing::Span;
pub use unsubscribe::Unsubscribed;

use super::clock;
use super::plane::Plane;
use super::spans::Traced;
use super::subscriber::{BATCH, Subscriber};
use super::subscription_manager::SubscriptionMessage;
use crate::close::GapCause;
use crate::error::{DecodeError, EndReason};
use crate::frame::Frame;
use crate::platform::Message;
use crate::protocol::continuity::{Epoch, Gap, Item, Items, Resynced};
use crate::protocol::losses::{LossAction, Losses};
use crate::protocol::sequence::{SequenceCheck, Step, Verdict};
use crate::telemetry::spans;

/// Items taken out of the queue at once: a reader's whole batch, so that it changes hands and is not copied.
const TAKE: usize = BATCH;

/// What a subscription yields.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Event<M> {
    /// A message.
    Data(Data<M>),
    /// Something may have been missed here; what follows is `Resynced` or `Ended`.
    Gap(Gap),
    /// The stream goes on. `complete` says whether what was missed still matters.
    Resynced(Resynced),
    /// The subscription is over; nothing follows.
    Ended(EndReason),
}

/// A message with where and when it came from. Dereferences to the message.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Data<M> {
    /// The message.
    pub message: M,
    /// The epoch of the connection that brought it.
    pub epoch: Epoch,
    /// When it was read from the socket.
    pub received: Instant,
    /// Under [`Overflow::Conflate`](crate::config::Overflow::Conflate): how many older messages of its key were left out
    /// since the one before it. Else 0.
    pub replaced: u64,
}

impl<M> Deref for Data<M> {
    type Target = M;

    fn deref(&self) -> &M {
        &self.message
    }
}

/// A stream of [`Event`]s of one channel.
///
/// Dropping it unsubscribes; [`Subscription::unsubscribe`] also waits for the venue's confirmation. It survives every reconnect and every restart in the session's tree; it
/// ends with the session, or when the venue refuses its channel for good.
// What every batch touches comes first: of hundreds that take turns none is in the nearest cache.
#[repr(C)]
pub struct Subscription<M> {
    subscriber: Arc<Subscriber>,
    /// Taken out of the queue and not yet decoded.
    taken: Items<Frame>,
    over: bool,
    /// Decoded and not yet yielded; at most two.
    ready: VecDeque<Event<M>>,
    /// Who asked the queue last. Set by [`Self::poll_items`].
    asked: Option<Waker>,
    samples: Samples,
    /// What it found to be lost while the stream went on.
    losses: Found,
    sequence: SequenceCheck,
    plane: Arc<Plane>,
    manager: Address<Traced<SubscriptionMessage>>,
    /// Since when the sequence is broken and a snapshot is awaited.
    broken_since: Option<Instant>,
    /// Open since then, until the stream goes on, if somebody listens.
    gap: Option<Span>,
}

/// Which batches are sampled: each, unless they come so fast that looking at the clock would cost more than they do.
#[derive(Debug, Default)]
struct Samples {
    /// A batch that was read before this comes close to the last one that was sampled.
    apart: Option<Instant>,
    left_out: u8,
}

impl Samples {
    /// Batches closer to each other than this are sampled one in [`Self::RARE`].
    const CLOSE: Duration = Duration::from_millis(1);
    const RARE: u8 = 16;

    fn wants(&mut self, received: Instant) -> bool {
        if self.apart.is_some_and(|apart| received < apart) && self.left_out + 1 < Self::RARE {
            self.left_out += 1;
            return false;
        }
        (self.apart, self.left_out) = (received.checked_add(Self::CLOSE), 0);
        true
    }
}

/// What a consumer finds to be lost in what it is given.
#[derive(Debug, Default)]
struct Found {
    lost: u64,
    losses: Losses,
    /// Open while messages are lost, if somebody listens. Set by the first, taken with the next batch.
    span: Option<Span>,
}

impl Found {
    /// So many more are lost; `open` makes a span.
    fn lose(&mut self, lost: u64, at: Instant, open: impl FnOnce() -> Span) {
        self.lost = self.lost.saturating_add(lost);
        match self.losses.on_delivered(self.lost, at) {
            LossAction::Begin if spans::hears_debug() => self.span = Some(open()),
            LossAction::Begin => self.losses.forget(self.lost),
            LossAction::End(lost) => self.end(lost),
            LossAction::Nothing => {}
        }
    }

    /// There is a batch to be read, or none will come.
    fn settle(&mut self) {
        if self.span.is_some()
            && let LossAction::End(lost) = self.losses.on_caught_up(self.lost)
        {
            self.end(lost);
        }
    }

    fn end(&mut self, lost: u64) {
        if let Some(span) = self.span.take() {
            span.record("lost", lost);
        }
    }
}

impl<M: Message> Subscription<M> {
    pub(crate) fn new(
        subscriber: Arc<Subscriber>,
        plane: Arc<Plane>,
        manager: Address<Traced<SubscriptionMessage>>,
    ) -> Self {
        Self {
            subscriber,
            plane,
            manager,
            taken: Items::new(),
            samples: Samples::default(),
            asked: None,
            ready: VecDeque::new(),
            sequence: SequenceCheck::new(),
            broken_since: None,
            gap: None,
            losses: Found::default(),
            over: false,
        }
    }

    /// The next event; `None` once it is over.
    ///
    /// Cancel safe: an event that was not returned is returned by the next call.
    #[allow(
        clippy::should_implement_trait,
        reason = "it is the `next` of a stream, as `StreamExt` has it"
    )]
    pub fn next(&mut self) -> impl Future<Output = Option<Event<M>>> {
        Next(self)
    }

    /// The channel; `None` for [`Session::messages`](super::Session::messages).
    #[must_use]
    pub fn channel(&self) -> Option<&str> {
        self.subscriber.channel.as_deref()
    }

    /// Messages and interruptions that wait to be taken.
    #[must_use]
    pub fn depth(&self) -> usize {
        self.subscriber.depth() + self.taken.len() + self.ready.len()
    }

    #[inline(always)]
    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Option<Event<M>>> {
        // What happens for nearly every message, apart from what hardly ever does.
        if self.ready.is_empty()
            && !self.over
            && let Some(event) = self.next_message()
        {
            return Poll::Ready(Some(event));
        }
        self.poll_rest(cx)
    }

    /// What the first item becomes if it is a message, and an event.
    #[inline(always)]
    fn next_message(&mut self) -> Option<Event<M>> {
        let (payload, epoch, received) = self.taken.pop_data()?;
        match M::from_frame(payload) {
            Ok(message) if message.sequence().is_none() => Some(Event::Data(Data {
                message,
                epoch,
                received,
                replaced: 0,
            })),
            decoded => self.judge(decoded, epoch, received, 0),
        }
    }

    // Not inlined, so that what is done for each message is: an event is then made where the consumer reads it.
    #[inline(never)]
    fn poll_rest(&mut self, cx: &mut Context<'_>) -> Poll<Option<Event<M>>> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Poll::Ready(Some(event));
            }
            if self.over {
                return Poll::Ready(None);
            }
            match self.taken.pop_front() {
                Some(item) => {
                    if let Some(event) = self.read(item) {
                        return Poll::Ready(Some(event));
                    }
                }
                None => match self.poll_items(cx) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(()) if self.taken.is_empty() => {
                        self.over = true;
                        return Poll::Ready(None);
                    }
                    Poll::Ready(()) => {
                        self.sample();
                        if let Some(event) = self.next_message() {
                            return Poll::Ready(Some(event));
                        }
                    }
                },
            }
        }
    }

    /// Takes what waits, unless it is known that nothing does, or other tasks are to have their turn: a reader on another thread
    /// may fill the queue as fast as it is emptied.
    fn poll_items(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // First of all: whoever is `asked` is known to the queue.
        let proceed = ready!(poll_proceed(cx));
        match &mut self.asked {
            Some(asked) if asked.will_wake(cx.waker()) => {
                if self.subscriber.is_awaited() {
                    return Poll::Pending;
                }
            }
            asked => *asked = Some(cx.waker().clone()),
        }
        ready!(self.subscriber.poll_items(&mut self.taken, TAKE, cx));
        proceed.made_progress();
        Poll::Ready(())
    }

    /// A sample of the way from socket to consumer for a batch that is taken.
    fn sample(&mut self) {
        self.losses.settle();
        if let Some(received) = self.taken.received()
            && self.samples.wants(received)
        {
            self.plane
                .counters
                .delivery(clock::now().saturating_duration_since(received));
        }
    }

    /// Reads one item. What it becomes is returned, or put into `ready` if that is not one event.
    fn read(&mut self, item: Item<Frame>) -> Option<Event<M>> {
        match item {
            Item::Data {
                payload,
                epoch,
                received,
                replaced,
            } => self.judge(M::from_frame(payload), epoch, received, replaced),
            Item::Gap(gap) => {
                self.sequence.reset();
                let (counters, cause) = (&self.plane.counters, gap.cause.label());
                counters.lost(cause, gap.missed.unwrap_or_default());
                if let GapCause::Lagged = gap.cause {
                    // Made by the queue itself, and so by nobody who counts.
                    counters.gap(cause, 1);
                }
                // A gap within a gap: the one that is open goes on.
                match self.broken_since.take() {
                    None => Some(Event::Gap(gap)),
                    Some(_) => None,
                }
            }
            Item::Resynced(resynced) => {
                self.goes_on(resynced.epoch);
                Some(Event::Resynced(resynced))
            }
            Item::Ended(reason) => {
                self.over = true;
                self.gap = None;
                Some(Event::Ended(reason))
            }
        }
    }

    /// What a message becomes, or one that could not be read.
    #[inline(never)]
    fn judge(
        &mut self,
        decoded: Result<M, DecodeError>,
        epoch: Epoch,
        received: Instant,
        replaced: u64,
    ) -> Option<Event<M>> {
        match decoded {
            Ok(message) => self.check(Data {
                message,
                epoch,
                received,
                replaced,
            }),
            Err(error) => {
                let error = self.plane.secrets.clean_decoding(error);
                let cause = GapCause::Undecodable {
                    detail: error.to_string(),
                };
                self.lost(cause, epoch, received, Some(1 + replaced));
                None
            }
        }
    }

    fn check(&mut self, data: Data<M>) -> Option<Event<M>> {
        let Some(step) = data.message.sequence() else {
            return Some(Event::Data(data));
        };
        match self.sequence.on_step(step) {
            Verdict::Contiguous => Some(Event::Data(data)),
            Verdict::Resynced => {
                let Some(since) = self.broken_since.take() else {
                    return Some(Event::Data(data));
                };
                self.goes_on(data.epoch);
                let length = data.received.saturating_duration_since(since);
                let resynced = Resynced::new(data.epoch, true, length);
                self.ready.push_back(Event::Resynced(resynced));
                self.ready.push_back(Event::Data(data));
                None
            }
            Verdict::Broken { expected, found } => {
                let cause = GapCause::SequenceBreak { expected, found };
                match step {
                    // Deltas are worth nothing until a snapshot has come.
                    Step::Linked { .. } | Step::Range { .. } => self.broken(cause, &data),
                    Step::Snapshot { .. } | Step::Next { .. } | Step::Run { .. } => {
                        self.lost(
                            cause,
                            data.epoch,
                            data.received,
                            found.checked_sub(expected),
                        );
                        self.ready.push_back(Event::Data(data));
                    }
                }
                None
            }
            Verdict::Ignored if self.broken_since.is_none() => {
                self.broken(GapCause::StateMissing, &data);
                None
            }
            Verdict::Duplicate | Verdict::Ignored => None,
        }
    }

    /// A loss after which nothing can be used until the channel has been subscribed to afresh.
    fn broken(&mut self, cause: GapCause, data: &Data<M>) {
        self.count(&cause);
        if spans::hears_debug() {
            let (session, channel) = (self.plane.reporter.name(), self.channel());
            self.gap = Some(spans::gap(session, channel, cause.label()));
        }
        self.ready
            .push_back(Event::Gap(Gap::new(cause, data.received, data.epoch)));
        self.broken_since = Some(data.received);
        // Without a manager the session is being restarted, and resubscribes anyway.
        let _ = self
            .manager
            .cast(SubscriptionMessage::Resync(Arc::clone(&self.subscriber), data.received).into());
    }

    /// A loss after which the stream goes on at once.
    fn lost(&mut self, cause: GapCause, epoch: Epoch, at: Instant, missed: Option<u64>) {
        self.count(&cause);
        let counters = &self.plane.counters;
        counters.lost(cause.label(), missed.unwrap_or_default());
        let (session, channel) = (self.plane.reporter.name(), &self.subscriber.channel);
        self.losses.lose(missed.unwrap_or(1), at, || {
            spans::loss(session, channel.as_deref(), cause.label())
        });
        if self.broken_since.is_some() {
            // A loss within a gap: the one that is open covers it, and only its end ends it.
            return;
        }
        let gap = Gap::new(cause, at, epoch);
        let gap = match missed {
            Some(missed) => gap.with_missed(missed),
            None => gap,
        };
        self.ready.push_back(Event::Gap(gap));
        let resynced = Resynced::new(epoch, false, Duration::ZERO);
        self.ready.push_back(Event::Resynced(resynced));
    }

    /// The stream goes on, in this epoch.
    fn goes_on(&mut self, epoch: Epoch) {
        if let Some(gap) = self.gap.take() {
            gap.record("epoch", epoch.as_u64());
        }
    }

    fn count(&self, cause: &GapCause) {
        self.plane.counters.gap(cause.label(), 1);
        self.subscriber.broken();
    }
}

/// The next event. A type of its own, so that the compiler may put it where it is awaited.
struct Next<'s, M>(&'s mut Subscription<M>);

impl<M: Message> Future for Next<'_, M> {
    type Output = Option<Event<M>>;

    #[inline(always)]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.get_mut().0.poll_event(cx)
    }
}

impl<M: Message + Unpin> Stream for Subscription<M> {
    type Item = Event<M>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Event<M>>> {
        self.get_mut().poll_event(cx)
    }
}

impl<M> Drop for Subscription<M> {
    fn drop(&mut self) {
        self.losses.settle();
        self.subscriber.leave();
        // Without a manager the table is cleared by the one that comes.
        let _ = self
            .manager
            .cast(SubscriptionMessage::Unsubscribe(Arc::clone(&self.subscriber)).into());
    }
}

impl<M> fmt::Debug for Subscription<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription")
            .field("channel", &self.subscriber.channel)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_are_sampled_each_and_those_that_come_close_together_one_in_sixteen() {
        let begin = Instant::now();
        let mut samples = Samples::default();
        let apart = (0..100).filter(|at| samples.wants(begin + *at * Samples::CLOSE));
        assert_eq!(apart.count(), 100);
        let begin = begin + 200 * Samples::CLOSE;
        let close = (0..160).filter(|at| samples.wants(begin + Duration::from_nanos(*at)));
        assert_eq!(close.count(), 10);
    }
}
