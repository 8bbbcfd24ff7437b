//! The events of a running supervisor as a stream.
//!
//! Apart from the observers of a spec, which run inside the supervisor: a stream is read elsewhere, at its
//! reader's pace, and can be opened and closed while the supervisor works.
//!
//! Invariants: a supervisor never waits for a reader and runs no code of one; a reader that is too slow
//! loses the oldest events and is told how many; a stream ends with its supervisor, and only after
//! everything that was said before; without readers an event costs one atomic load.

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use futures_util::future::{BoxFuture, FutureExt};
use futures_util::stream::Stream;
use futures_util::task::AtomicWaker;

use super::SupervisorEvent;
use crate::runtime::record::{Record, lock};

/// The reader of an [`EventStream`] was too slow for this many events, which were the oldest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0} events were missed; read quicker, or subscribe with more room")]
pub struct Missed(pub u64);

/// Events of a supervisor and of all beneath it, from
/// [`SupervisorRef::subscribe`](crate::SupervisorRef::subscribe) on. Drop it to unsubscribe.
///
/// It is also a [`Stream`].
pub struct EventStream {
    ring: Arc<Ring>,
    audience: Arc<Audience>,
    /// Ready when the supervisor has ended; taken then.
    end: Option<BoxFuture<'static, ()>>,
    /// `None` was told.
    over: bool,
}

impl EventStream {
    pub(crate) fn new(audience: &Arc<Audience>, record: Arc<Record>, capacity: usize) -> Self {
        Self {
            ring: audience.admit(capacity),
            audience: audience.clone(),
            end: Some(Box::pin(async move { drop(record.ended().await) })),
            over: false,
        }
    }

    /// The next event; or how many were lost before the one that follows; or `None`, for good, when the
    /// supervisor has ended. Nothing is lost by dropping the future.
    pub async fn next(&mut self) -> Option<Result<SupervisorEvent, Missed>> {
        std::future::poll_fn(|context| Pin::new(&mut *self).poll_next(context)).await
    }
}

impl Stream for EventStream {
    type Item = Result<SupervisorEvent, Missed>;

    fn poll_next(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<SupervisorEvent, Missed>>> {
        if self.over {
            return Poll::Ready(None);
        }
        // Before looking, so that nothing comes unnoticed in between.
        self.ring.reader.register(context.waker());
        if let Some(end) = &mut self.end
            && end.poll_unpin(context).is_ready()
        {
            self.end = None;
        }
        match self.ring.take() {
            Some(item) => Poll::Ready(Some(item)),
            None if self.end.is_none() => {
                self.over = true;
                Poll::Ready(None)
            }
            None => Poll::Pending,
        }
    }
}

impl Drop for EventStream {
    fn drop(&mut self) {
        self.audience.dismiss(&self.ring);
    }
}

impl fmt::Debug for EventStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventStream")
            .field("capacity", &self.ring.capacity)
            .field("over", &self.over)
            .finish_non_exhaustive()
    }
}

/// Who reads the events of one supervisor.
#[derive(Default)]
pub(crate) struct Audience {
    rings: Mutex<Vec<Arc<Ring>>>,
    /// How many rings there are.
    size: AtomicUsize,
}

impl Audience {
    pub(crate) fn is_anybody(&self) -> bool {
        self.size.load(Ordering::SeqCst) != 0
    }

    pub(crate) fn tell(&self, event: &SupervisorEvent) {
        if !self.is_anybody() {
            return;
        }
        // A copy, so that nobody who comes or goes waits for the telling.
        let rings = lock(&self.rings).clone();
        for ring in rings {
            ring.put(event.clone());
        }
    }

    fn admit(&self, capacity: usize) -> Arc<Ring> {
        let ring = Arc::new(Ring {
            capacity: capacity.max(1),
            kept: Mutex::default(),
            reader: AtomicWaker::new(),
        });
        let mut rings = lock(&self.rings);
        rings.push(ring.clone());
        self.size.store(rings.len(), Ordering::SeqCst);
        ring
    }

    fn dismiss(&self, ring: &Arc<Ring>) {
        let mut rings = lock(&self.rings);
        rings.retain(|other| !Arc::ptr_eq(other, ring));
        self.size.store(rings.len(), Ordering::SeqCst);
    }
}

/// What one reader has still to read.
struct Ring {
    capacity: usize,
    kept: Mutex<Kept>,
    reader: AtomicWaker,
}

#[derive(Default)]
struct Kept {
    events: VecDeque<SupervisorEvent>,
    /// Lost since the reader was told.
    missed: u64,
}

impl Ring {
    fn put(&self, event: SupervisorEvent) {
        let mut kept = lock(&self.kept);
        let lost = if kept.events.len() >= self.capacity {
            kept.missed += 1;
            kept.events.pop_front()
        } else {
            None
        };
        kept.events.push_back(event);
        drop(kept);
        self.reader.wake();
        // It may hold the last reference to an error of the user's.
        drop(lost);
    }

    fn take(&self) -> Option<Result<SupervisorEvent, Missed>> {
        let mut kept = lock(&self.kept);
        match std::mem::take(&mut kept.missed) {
            0 => kept.events.pop_front().map(Ok),
            missed => Some(Err(Missed(missed))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::SupervisorEventKind;
    use crate::exit::ExitReason;
    use crate::id::{ChildId, Generation};

    fn record() -> Arc<Record> {
        Record::new(ChildId::from("top"), None, Generation(1), Vec::new())
    }

    fn event(number: u64) -> SupervisorEvent {
        SupervisorEvent {
            generation: Generation(number),
            ..SupervisorEvent::sample(SupervisorEventKind::Ready)
        }
    }

    fn now(stream: &mut EventStream) -> Option<Option<Result<u64, Missed>>> {
        let next = stream.next().now_or_never();
        next.map(|next| next.map(|item| item.map(|event| event.generation.0)))
    }

    #[test]
    fn a_slow_reader_keeps_the_latest_and_is_told_how_many_it_missed() {
        let audience = Arc::default();
        let record = record();
        let mut slow = EventStream::new(&audience, record.clone(), 2);
        let mut quick = EventStream::new(&audience, record.clone(), 5);
        for number in 1..=5 {
            audience.tell(&event(number));
        }
        for expected in [Err(Missed(3)), Ok(4), Ok(5)] {
            assert_eq!(now(&mut slow), Some(Some(expected)));
        }
        assert_eq!(now(&mut slow), None, "more may come");
        audience.tell(&event(6));
        assert_eq!(now(&mut slow), Some(Some(Ok(6))), "counted once");
        for expected in [Err(Missed(1)), Ok(2), Ok(3), Ok(4), Ok(5), Ok(6)] {
            assert_eq!(now(&mut quick), Some(Some(expected)));
        }
    }

    #[test]
    fn a_stream_ends_after_what_was_said_and_stays_ended() {
        let audience = Arc::default();
        let record = record();
        let mut stream = EventStream::new(&audience, record.clone(), 0);
        audience.tell(&event(1));
        record.close(&Arc::new(ExitReason::Killed));
        assert_eq!(now(&mut stream), Some(Some(Ok(1))), "room for one at least");
        assert_eq!(now(&mut stream), Some(None));
        audience.tell(&event(2));
        assert_eq!(now(&mut stream), Some(None));
        let mut late = EventStream::new(&audience, record, 8);
        assert_eq!(now(&mut late), Some(None));
    }

    #[test]
    fn nothing_is_kept_for_a_stream_that_was_dropped() {
        let audience = Arc::default();
        let stream = EventStream::new(&audience, record(), 8);
        let other = EventStream::new(&audience, record(), 8);
        audience.tell(&event(1));
        let ring = Arc::downgrade(&stream.ring);
        drop(stream);
        assert!(ring.upgrade().is_none());
        assert_eq!(audience.size.load(Ordering::SeqCst), 1);
        drop(other);
        assert_eq!(audience.size.load(Ordering::SeqCst), 0);
    }
}
