//! What one incarnation does with its time.
//!
//! Its own file because it is on the way of every message: the actor's own task writes it, with plain
//! stores and hardly ever a look at the clock; whoever wants to know does the work.
//!
//! Invariants: one writer, the actor's task; a reader may find a figure a callback old, never a torn
//! one; a callback that waits is timed exactly from when it first waits, quick ones by samples.

use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::Instant;

/// A callback as long as this, in nanoseconds, is worth the two looks at the clock. Of shorter ones
/// so many are left out that the looks cost a share as small.
const WORTH: u32 = 4_096;
/// At most so many are left out in a row.
const LEFT_OUT: u32 = 256;

/// What was counted of an incarnation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Meter {
    /// Messages that were handled.
    pub(crate) handled: u64,
    /// Time spent in callbacks that have ended.
    pub(crate) busy: Duration,
    /// How long the present callback has been running.
    pub(crate) handler_age: Option<Duration>,
    /// Messages sent through addresses; unknown where there is none.
    pub(crate) sent: Option<u64>,
}

#[derive(Debug)]
pub(crate) struct Timesheet {
    /// What moments are counted from.
    epoch: Instant,
    /// Goes up when a callback begins and when it ends: odd while one runs, and twice the callbacks that ended.
    turn: AtomicU64,
    /// Callbacks that ended and were no message's.
    events: AtomicU64,
    /// In nanoseconds.
    busy: AtomicU64,
    /// The turn that `stamp` belongs to; zero while it is being written.
    stamped: AtomicU64,
    /// When that callback began, in nanoseconds.
    stamp: AtomicU64,
    /// The turn behind the last callback that was timed.
    timed: AtomicU64,
    /// The turn from which on the next one is timed; zero until the first one may begin.
    due: AtomicU64,
    /// How long the last one took that was timed, in nanoseconds.
    last: AtomicU32,
}

/// What a callback is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Callback {
    Message,
    Event,
}

/// A callback that is under way, as its own task knows it: its turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Timing(u64);

impl Timing {
    /// Of one that has not begun.
    pub(crate) const NONE: Self = Self(0);
}

/// A callback that is under way, as a reader saw it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sight {
    pub(crate) turn: u64,
    pub(crate) at: Instant,
}

impl Timesheet {
    pub(crate) fn new() -> Self {
        Self {
            epoch: Instant::now(),
            turn: AtomicU64::new(0),
            events: AtomicU64::new(0),
            busy: AtomicU64::new(0),
            stamped: AtomicU64::new(0),
            stamp: AtomicU64::new(0),
            timed: AtomicU64::new(0),
            due: AtomicU64::new(0),
            last: AtomicU32::new(0),
        }
    }

    /// A callback begins; one that comes before all others does at the second attempt.
    #[inline]
    pub(crate) fn begin_in_turn(&self) -> Option<Timing> {
        let turn = self.turn.load(Ordering::Relaxed) + 1;
        if turn >= self.due.load(Ordering::Relaxed) && !self.begin_timed(turn) {
            return None;
        }
        self.turn.store(turn, Ordering::Release);
        Some(Timing(turn))
    }

    #[cold]
    fn begin_timed(&self, turn: u64) -> bool {
        let first = self.due.load(Ordering::Relaxed) == 0;
        if first {
            self.due.store(1, Ordering::Relaxed);
        } else {
            self.note_begin(turn);
        }
        !first
    }

    /// A callback begins.
    #[inline]
    pub(crate) fn begin(&self) -> Timing {
        let turn = self.turn.load(Ordering::Relaxed) + 1;
        self.turn.store(turn, Ordering::Release);
        if turn >= self.due.load(Ordering::Relaxed) {
            self.note_begin(turn);
        }
        Timing(turn)
    }

    /// Drives it on to its end or its panic.
    pub(crate) async fn drive<F: Future>(
        &self,
        timing: Timing,
        callback: F,
    ) -> std::thread::Result<F::Output> {
        let mut callback = pin!(callback);
        poll_fn(|context| match poll(callback.as_mut(), context) {
            Ok(Poll::Ready(value)) => Poll::Ready(Ok(value)),
            Ok(Poll::Pending) => {
                self.wait(timing);
                Poll::Pending
            }
            Err(payload) => Poll::Ready(Err(payload)),
        })
        .await
    }

    /// The callback waits.
    #[inline]
    pub(crate) fn wait(&self, timing: Timing) {
        if !self.is_timed(timing) {
            self.note_begin(timing.0);
        }
    }

    #[inline]
    pub(crate) fn end(&self, timing: Timing, kind: Callback) {
        let ended = timing.0 + 1;
        if self.is_timed(timing) {
            self.note_end(ended);
        }
        if kind == Callback::Event {
            let events = self.events.load(Ordering::Relaxed) + 1;
            self.events.store(events, Ordering::Relaxed);
        }
        self.turn.store(ended, Ordering::Release);
    }

    /// Whether it is known when the callback began, or first waited.
    #[inline]
    fn is_timed(&self, timing: Timing) -> bool {
        self.stamped.load(Ordering::Relaxed) == timing.0
    }

    #[cold]
    fn note_begin(&self, turn: u64) {
        let now = self.moment(Instant::now());
        self.stamped.store(0, Ordering::Release);
        self.stamp.store(now, Ordering::Release);
        self.stamped.store(turn, Ordering::Release);
    }

    /// Those that were left out are taken to have been as quick as the quicker of their neighbours.
    #[cold]
    fn note_end(&self, ended: u64) {
        let began = self.stamp.load(Ordering::Relaxed);
        let took = self.moment(Instant::now()).saturating_sub(began);
        let short = u32::try_from(took).unwrap_or(u32::MAX);
        let untimed = (ended - self.timed.load(Ordering::Relaxed)) / 2 - 1;
        let left_out = u64::from(short.min(self.last.load(Ordering::Relaxed))) * untimed;
        let busy = self.busy.load(Ordering::Relaxed);
        let busy = busy.saturating_add(took).saturating_add(left_out);
        self.busy.store(busy, Ordering::Relaxed);
        self.last.store(short, Ordering::Relaxed);
        let leave_out = WORTH / short.max(WORTH / LEFT_OUT);
        self.timed.store(ended, Ordering::Relaxed);
        self.due
            .store(ended + 1 + 2 * u64::from(leave_out), Ordering::Relaxed);
    }

    /// What can be said now. `seen` is what the last reader saw and this one will have seen: a
    /// callback that has neither waited nor been timed is as old as its first sight.
    pub(crate) fn read(&self, now: Instant, seen: &mut Option<Sight>) -> Meter {
        let stamped = self.stamped.load(Ordering::Acquire);
        let stamp = self.stamp.load(Ordering::Acquire);
        let whole = self.stamped.load(Ordering::Acquire) == stamped;
        let turn = self.turn.load(Ordering::Acquire);
        let handler_age = if turn % 2 == 1 {
            let sight = match *seen {
                Some(sight) if sight.turn == turn => sight,
                _ => *seen.insert(Sight { turn, at: now }),
            };
            let age = now.saturating_duration_since(sight.at);
            if whole && stamped == turn {
                let known = Duration::from_nanos(self.moment(now).saturating_sub(stamp));
                Some(age.max(known))
            } else {
                Some(age)
            }
        } else {
            *seen = None;
            None
        };
        Meter {
            handled: (turn / 2).saturating_sub(self.events.load(Ordering::Relaxed)),
            busy: Duration::from_nanos(self.busy.load(Ordering::Relaxed)),
            handler_age,
            sent: None,
        }
    }

    fn moment(&self, at: Instant) -> u64 {
        nanos(at.saturating_duration_since(self.epoch))
    }
}

/// Polls a callback, and catches its panic.
#[inline]
pub(crate) fn poll<F: Future>(
    callback: Pin<&mut F>,
    context: &mut Context<'_>,
) -> std::thread::Result<Poll<F::Output>> {
    catch_unwind(AssertUnwindSafe(|| callback.poll(context)))
}

/// More than five hundred years are as good as five hundred.
fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Timesheet {
        async fn run<T>(
            &self,
            kind: Callback,
            callback: impl Future<Output = T>,
        ) -> std::thread::Result<T> {
            let timing = self.begin();
            let outcome = self.drive(timing, callback).await;
            self.end(timing, kind);
            outcome
        }
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn a_callback_that_waits_is_timed_exactly() {
        let sheet = Timesheet::new();
        for _ in 0..3 {
            let slept = sheet.run(Callback::Message, tokio::time::sleep(SECOND));
            assert!(slept.await.is_ok());
        }
        let meter = sheet.read(Instant::now(), &mut None);
        assert_eq!(meter.handled, 3);
        assert_eq!(meter.busy, 3 * SECOND);
        assert_eq!(meter.handler_age, None);
    }

    #[tokio::test(start_paused = true)]
    async fn quick_callbacks_are_left_out_of_the_timing_and_counted() {
        let sheet = Timesheet::new();
        // The first is timed, and the next after as many as may be left out.
        for at in 0..LEFT_OUT + 2 {
            let kind = match at % 2 {
                0 => Callback::Message,
                _ => Callback::Event,
            };
            assert!(sheet.run(kind, async {}).await.is_ok());
            let timed = if at <= LEFT_OUT { 1 } else { LEFT_OUT + 2 };
            assert_eq!(sheet.timed.load(Ordering::Relaxed), 2 * u64::from(timed));
        }
        let handled = sheet.read(Instant::now(), &mut None).handled;
        assert_eq!(handled, u64::from(LEFT_OUT / 2 + 1));
        assert_eq!(sheet.busy.load(Ordering::Relaxed), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn the_present_callback_has_an_age() {
        let sheet = Timesheet::new();
        for _ in 0..LEFT_OUT + 3 {
            assert!(sheet.run(Callback::Message, async {}).await.is_ok());
        }
        let callback = sheet.run(Callback::Message, tokio::time::sleep(10 * SECOND));
        let mut callback = pin!(callback);
        tokio::select! {
            biased;
            _ = &mut callback => unreachable!("it takes longer"),
            () = tokio::time::sleep(3 * SECOND) => {}
        }
        let age = sheet.read(Instant::now(), &mut None).handler_age;
        assert_eq!(age, Some(3 * SECOND));
    }

    #[tokio::test(start_paused = true)]
    async fn a_callback_that_never_waited_is_as_old_as_its_first_sight() {
        let sheet = Timesheet::new();
        sheet.turn.store(7, Ordering::Release);
        let mut seen = None;
        let begun = Instant::now();
        assert_eq!(
            sheet.read(begun, &mut seen).handler_age,
            Some(Duration::ZERO)
        );
        let age = sheet.read(begun + SECOND, &mut seen).handler_age;
        assert_eq!(age, Some(SECOND));
        // The next one is young again.
        sheet.turn.store(9, Ordering::Release);
        let age = sheet.read(begun + 2 * SECOND, &mut seen).handler_age;
        assert_eq!(age, Some(Duration::ZERO));
    }

    #[tokio::test]
    async fn a_panic_ends_the_callback() {
        let sheet = Timesheet::new();
        assert!(
            sheet
                .run(Callback::Message, async { panic!("as told") })
                .await
                .is_err()
        );
        assert_eq!(sheet.read(Instant::now(), &mut None).handler_age, None);
    }
}
