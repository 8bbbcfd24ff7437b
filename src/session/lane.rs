//! Two bounded queues into one reader: what is urgent, and everything else.
//!
//! Apart from the line, which knows what travels here, because this is about room alone. tokio's channel takes room for
//! 32 values with its making, and each session has two, nearly always empty: these take room when somebody waits.
//!
//! Invariants: no more waits than there is room for; what is urgent comes first, and of equals what came first; what
//! is handed over and not read is dropped with the reader, or comes back; what is read in one go is fetched under one
//! lock, and makes room when the last of it is read, or the reader settles.

use std::array;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use tokio::sync::mpsc::error::{SendError, TrySendError};
use tokio::sync::{Semaphore, SemaphorePermit, TryAcquireError};

/// Values for which a queue keeps its room when it is empty again.
const SPARE: usize = 128;

/// Their places among the queues; the first is read first.
const URGENT: usize = 0;
const USUAL: usize = 1;

/// The sending end of one of the two queues.
#[derive(Debug)]
pub(crate) struct Lane<T> {
    lanes: Arc<Lanes<T>>,
    which: usize,
}

/// The reading end of both.
#[derive(Debug)]
pub(crate) struct LaneReader<T> {
    lanes: Arc<Lanes<T>>,
    /// Fetched from the usual queue, and not read yet.
    fetched: VecDeque<T>,
    /// Read, and its room not yet given back.
    read: usize,
    /// How many were fetched the last time.
    last: usize,
}

#[derive(Debug)]
struct Lanes<T> {
    waiting: Mutex<Waiting<T>>,
    room: [Semaphore; 2],
    capacity: [usize; 2],
    /// How many urgent ones wait, so that whoever reads usual ones can see that without the lock.
    urgent: AtomicUsize,
}

#[derive(Debug)]
struct Waiting<T> {
    queues: [VecDeque<T>; 2],
    /// Woken by the next value; under the lock that its sender holds anyway.
    reader: Option<Waker>,
    closed: bool,
}

/// Room for one value. Free again when this is dropped, or the value is read.
#[derive(Debug)]
pub(crate) struct Room<'a, T> {
    lane: &'a Lane<T>,
    permit: SemaphorePermit<'a>,
}

/// The queue for what is usual, the one for what is `urgent`, each with its room, and their reader.
pub(crate) fn lanes<T>(usual: usize, urgent: usize) -> (Lane<T>, Lane<T>, LaneReader<T>) {
    let capacity = [urgent, usual];
    let lanes = Arc::new(Lanes {
        waiting: Mutex::new(Waiting {
            queues: array::from_fn(|_| VecDeque::new()),
            reader: None,
            closed: false,
        }),
        room: capacity.map(Semaphore::new),
        capacity,
        urgent: AtomicUsize::new(0),
    });
    let lane = |which| Lane {
        lanes: Arc::clone(&lanes),
        which,
    };
    let reader = LaneReader {
        lanes: Arc::clone(&lanes),
        fetched: VecDeque::new(),
        read: 0,
        last: 0,
    };
    (lane(USUAL), lane(URGENT), reader)
}

impl<T> Lanes<T> {
    fn lock(&self) -> MutexGuard<'_, Waiting<T>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take_urgent(&self) -> Option<T> {
        if self.urgent.load(Ordering::Acquire) == 0 {
            return None;
        }
        let value = self.lock().queues[URGENT].pop_front()?;
        self.urgent.fetch_sub(1, Ordering::AcqRel);
        self.room[URGENT].add_permits(1);
        Some(value)
    }

    /// From now on nothing more is taken in.
    fn close(&self) {
        self.lock().closed = true;
        for room in &self.room {
            room.close();
        }
    }
}

impl<T> Lane<T> {
    fn room(&self) -> &Semaphore {
        &self.lanes.room[self.which]
    }

    /// Hands a value over, if there is room.
    ///
    /// # Errors
    ///
    /// The value, and whether the queue is full or nobody reads it any more.
    pub(crate) fn try_send(&self, value: T) -> Result<(), TrySendError<T>> {
        match self.try_reserve() {
            Ok(room) => room.fill(value).map_err(TrySendError::Closed),
            Err(TrySendError::Full(())) => Err(TrySendError::Full(value)),
            Err(TrySendError::Closed(())) => Err(TrySendError::Closed(value)),
        }
    }

    /// Room for a value, if there is some.
    ///
    /// # Errors
    ///
    /// Whether the queue is full or nobody reads it any more.
    #[inline(always)]
    pub(crate) fn try_reserve(&self) -> Result<Room<'_, T>, TrySendError<()>> {
        match self.room().try_acquire() {
            Ok(permit) => Ok(Room { lane: self, permit }),
            Err(TryAcquireError::Closed) => Err(TrySendError::Closed(())),
            Err(TryAcquireError::NoPermits) => Err(TrySendError::Full(())),
        }
    }

    /// Hands a value over as soon as there is room. Dropped before, nothing was handed over.
    ///
    /// # Errors
    ///
    /// The value, if nobody reads any more.
    pub(crate) async fn send(&self, value: T) -> Result<(), SendError<T>> {
        match self.reserve().await {
            Ok(room) => room.fill(value).map_err(SendError),
            Err(SendError(())) => Err(SendError(value)),
        }
    }

    /// Waits for room. Cancel safe.
    ///
    /// # Errors
    ///
    /// If nobody reads any more.
    pub(crate) async fn reserve(&self) -> Result<Room<'_, T>, SendError<()>> {
        let permit = self.room().acquire().await;
        let permit = permit.map_err(|_| SendError(()))?;
        Ok(Room { lane: self, permit })
    }

    /// Whether nobody reads any more.
    pub(crate) fn is_closed(&self) -> bool {
        self.room().is_closed()
    }

    /// How many values there is room for now.
    pub(crate) fn capacity(&self) -> usize {
        self.room().available_permits()
    }

    /// How many values there is room for when it is empty.
    pub(crate) fn max_capacity(&self) -> usize {
        self.lanes.capacity[self.which]
    }
}

impl<T> Room<'_, T> {
    /// Hands the value over; one that nobody reads any more is dropped.
    pub(crate) fn send(self, value: T) {
        drop(self.fill(value));
    }

    /// Hands the value over.
    ///
    /// # Errors
    ///
    /// The value, if nobody reads any more.
    #[inline(always)]
    pub(crate) fn fill(self, value: T) -> Result<(), T> {
        let lanes = &self.lane.lanes;
        let mut waiting = lanes.lock();
        if waiting.closed {
            return Err(value);
        }
        waiting.queues[self.lane.which].push_back(value);
        if self.lane.which == URGENT {
            lanes.urgent.fetch_add(1, Ordering::AcqRel);
        }
        let reader = waiting.reader.take();
        drop(waiting);
        // Whoever reads the value makes room.
        self.permit.forget();
        if let Some(reader) = reader {
            reader.wake();
        }
        Ok(())
    }
}

impl<T> LaneReader<T> {
    /// The next value, the urgent ones first. It is pending as well when nobody is left who could send.
    #[inline(always)]
    pub(crate) fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<T> {
        if let Some(value) = self.take() {
            return Poll::Ready(value);
        }
        let mut waiting = self.lanes.lock();
        if waiting.queues.iter().all(VecDeque::is_empty) {
            waiting.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        drop(waiting);
        // One has come since the first look.
        self.take().map_or(Poll::Pending, Poll::Ready)
    }

    #[inline(always)]
    fn take(&mut self) -> Option<T> {
        if let Some(value) = self.lanes.take_urgent() {
            return Some(value);
        }
        if self.fetched.is_empty() {
            self.fetch();
        }
        let value = self.fetched.pop_front()?;
        self.read += 1;
        if self.fetched.is_empty() {
            self.settle();
        }
        Some(value)
    }

    fn fetch(&mut self) {
        let mut waiting = self.lanes.lock();
        let queue = &mut waiting.queues[USUAL];
        let large = queue.capacity().max(self.fetched.capacity()) > SPARE;
        if large && queue.is_empty() && self.last <= SPARE {
            // Room for many is kept as long as many come.
            queue.shrink_to(SPARE);
            self.fetched.shrink_to(SPARE);
        }
        if !queue.is_empty() {
            self.last = queue.len();
            std::mem::swap(queue, &mut self.fetched);
        }
    }

    /// Gives back the room of what was read.
    pub(crate) fn settle(&mut self) {
        if self.read > 0 {
            self.lanes.room[USUAL].add_permits(std::mem::take(&mut self.read));
        }
    }

    /// Looks at everything that waits, and is woken when more comes, without reading any of it.
    pub(crate) fn watch(&self, cx: &Context<'_>, mut look: impl FnMut(&T)) {
        let mut waiting = self.lanes.lock();
        waiting.reader = Some(cx.waker().clone());
        self.fetched.iter().for_each(&mut look);
        waiting.queues.iter().flatten().for_each(look);
    }

    /// Takes no more, and hands back what waits.
    pub(crate) fn close(&mut self) -> impl Iterator<Item = T> {
        self.lanes.close();
        std::iter::from_fn(|| self.take())
    }
}

impl<T> Drop for LaneReader<T> {
    fn drop(&mut self) {
        for value in self.close() {
            // One by one, and without the lock: what hears of it may look at the queue.
            drop(value);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use futures_util::poll;

    use super::*;

    #[tokio::test]
    async fn what_is_urgent_comes_first() {
        let (usual, urgent, mut reader) = lanes(4, 4);
        usual.try_send(1).unwrap();
        usual.try_send(2).unwrap();
        urgent.try_send(3).unwrap();
        let mut read = Vec::new();
        while let Poll::Ready(value) = poll!(poll_fn(|cx| reader.poll_recv(cx))) {
            read.push(value);
        }
        assert_eq!(read, [3, 1, 2]);
    }

    #[tokio::test]
    async fn a_full_queue_takes_more_when_something_was_read_and_not_before() {
        let (usual, urgent, mut reader) = lanes(1, 1);
        usual.try_send(1).unwrap();
        assert!(matches!(usual.try_send(2), Err(TrySendError::Full(2))));
        urgent.try_send(9).unwrap();
        assert_eq!((usual.capacity(), usual.max_capacity()), (0, 1));
        let mut later = Box::pin(usual.send(2));
        assert!(poll!(&mut later).is_pending());
        assert_eq!(poll_fn(|cx| reader.poll_recv(cx)).await, 9);
        assert!(poll!(&mut later).is_pending(), "the other queue's room");
        assert_eq!(poll_fn(|cx| reader.poll_recv(cx)).await, 1);
        assert!(poll!(&mut later).is_ready());
        assert_eq!(poll_fn(|cx| reader.poll_recv(cx)).await, 2);
    }

    #[tokio::test]
    async fn room_that_is_given_back_is_room_again() {
        let (usual, _urgent, _reader) = lanes::<u8>(1, 1);
        let room = usual.reserve().await.unwrap();
        assert!(matches!(usual.try_send(1), Err(TrySendError::Full(1))));
        drop(room);
        usual.try_send(1).unwrap();
    }

    #[tokio::test]
    async fn a_reader_that_waits_is_woken() {
        let (usual, _urgent, mut reader) = lanes(1, 1);
        let reading = tokio::spawn(async move { poll_fn(|cx| reader.poll_recv(cx)).await });
        tokio::task::yield_now().await;
        usual.send(7).await.unwrap();
        assert_eq!(reading.await.unwrap(), 7);
    }

    #[tokio::test]
    async fn nothing_is_taken_in_when_nobody_reads() {
        let (usual, urgent, mut reader) = lanes(2, 1);
        usual.try_send(1).unwrap();
        urgent.try_send(2).unwrap();
        let room = usual.reserve().await.unwrap();
        let mut waits = Box::pin(urgent.send(3));
        assert!(poll!(&mut waits).is_pending());
        assert_eq!(reader.close().collect::<Vec<_>>(), [2, 1]);
        room.send(4);
        assert_eq!(waits.await, Err(SendError(3)));
        assert!(matches!(usual.try_send(5), Err(TrySendError::Closed(5))));
        assert!(usual.is_closed());
        assert_eq!(reader.close().next(), None);
    }

    #[tokio::test]
    async fn what_is_fetched_takes_room_until_it_is_read_and_lets_the_urgent_pass() {
        let (usual, urgent, mut reader) = lanes(3, 1);
        for value in 1..=3 {
            usual.try_send(value).unwrap();
        }
        let mut read = async || poll_fn(|cx| reader.poll_recv(cx)).await;
        assert_eq!(read().await, 1);
        urgent.try_send(9).unwrap();
        assert_eq!(read().await, 9, "before what was fetched");
        assert_eq!(usual.capacity(), 0, "not settled");
        let mut seen = Vec::new();
        let waker = futures_util::task::noop_waker();
        reader.watch(&Context::from_waker(&waker), |value| seen.push(*value));
        assert_eq!(seen, [2, 3]);
        reader.settle();
        assert_eq!(usual.capacity(), 1);
        usual.try_send(4).unwrap();
        assert!(matches!(usual.try_send(5), Err(TrySendError::Full(5))));
        assert_eq!(reader.close().collect::<Vec<_>>(), [2, 3, 4]);
    }

    #[tokio::test]
    async fn room_for_many_is_kept_as_long_as_many_come() {
        let (usual, _urgent, mut reader) = lanes(4 * SPARE, 1);
        let mut burst = |many: usize| {
            for value in 0..many {
                usual.try_send(value).unwrap();
            }
            for value in 0..many {
                assert_eq!(reader.take(), Some(value));
            }
            assert_eq!(reader.take(), None);
            reader.fetched.capacity() + reader.lanes.lock().queues[USUAL].capacity()
        };
        assert!(burst(3 * SPARE) > 2 * SPARE);
        assert!(burst(2 * SPARE) > 2 * SPARE);
        assert!(burst(1) <= 2 * SPARE);
    }

    #[test]
    fn what_was_not_read_is_dropped_with_the_reader() {
        let (usual, _urgent, reader) = lanes(1, 1);
        let value = Arc::new(());
        usual.try_send(Arc::clone(&value)).unwrap();
        drop(reader);
        assert_eq!(Arc::strong_count(&value), 1);
    }
}
