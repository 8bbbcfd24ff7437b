//! How whoever asks learns what became of it.
//!
//! With every request travels a [`ReplyPort`]; wherever in the process it is dropped, its caller hears the truth: *not
//! sent* if no byte was handed to the socket, *unknown* if one was. Apart from the line because a port outlives its
//! way through it. Both ends are one allocation: a thousand callers that take turns find each other's out of the caches.
//!
//! Invariants: a port resolves exactly once; a request whose caller has gone is not written; one that was written before
//! its caller went is counted as given up until it resolves; nobody is woken who has gone.

use std::future::poll_fn;
use std::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use tracing::Span;

use crate::close::CloseReason;
use crate::frame::Frame;

/// How a request or a frame ended, as the connection sees it.
#[derive(Debug)]
pub(crate) enum Fate {
    /// The raw answer, and when it came.
    Answered(Frame, Instant),
    /// Written to the socket; for frames that expect no answer.
    Written,
    /// Its turn under a limit did not come in time; nothing was written.
    Expired,
    /// There was no answer in time, and the connection kept the time.
    Overdue {
        /// Whether it was written.
        written: bool,
    },
    /// There was no room for it; nothing was written.
    Crowded(Bound),
    /// The connection is gone.
    Lost {
        /// Whether a byte may have left.
        written: bool,
        /// Why, where that is known.
        reason: Option<CloseReason>,
    },
}

/// What there may be no room in.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Bound {
    /// The requests that are under way on one connection.
    InFlight,
    /// A line's queue, which has this much.
    Outbound(usize),
}

/// How long an answer is waited for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wait {
    /// In all.
    pub(crate) limit: Duration,
    /// From when on, and until when, if the connection is to tell of the end and to count the time that it took.
    pub(crate) kept: Option<(Instant, Instant)>,
}

/// What both ends know.
#[derive(Debug)]
struct Progress {
    stage: AtomicU8,
    /// The request's id; zero until it has one.
    id: AtomicU64,
    wait: Option<Wait>,
    /// Where a request is counted whose caller goes before the answer.
    given_up: Arc<AtomicUsize>,
    told: Mutex<Told>,
}

#[derive(Debug)]
enum Told {
    Nothing,
    Waits(Waker),
    Fate(Fate),
    /// The caller knows, or does not want to.
    Gone,
}

/// In a queue of ours.
const QUEUED: u8 = 0;
/// Handed to the socket; no answer is expected.
const WRITTEN: u8 = 1;
/// Handed to the socket; an answer is expected.
const ASKED: u8 = 2;
/// Taken back by its caller; it will not be written.
const WITHDRAWN: u8 = 3;
/// Asked, and its caller has gone.
const GIVEN_UP: u8 = 4;
/// Handed to the socket, and its fate is known.
const RESOLVED: u8 = 5;

impl Progress {
    fn stage(&self) -> u8 {
        self.stage.load(Ordering::Acquire)
    }

    /// From queued to `next`. Exactly one of writing and withdrawing succeeds.
    fn leave_queue(&self, next: u8) -> bool {
        self.move_on(QUEUED, next)
    }

    fn move_on(&self, from: u8, to: u8) -> bool {
        self.stage
            .compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }

    fn is_written(&self) -> bool {
        !matches!(self.stage(), QUEUED | WITHDRAWN)
    }

    /// Its caller has gone. Whether it had been written.
    fn give_up(&self) -> bool {
        if self.leave_queue(WITHDRAWN) {
            return false;
        }
        if self.stage() == ASKED {
            // Counted first, so that it is never taken off before it was put there.
            self.given_up.fetch_add(1, Ordering::AcqRel);
            if !self.move_on(ASKED, GIVEN_UP) {
                self.given_up.fetch_sub(1, Ordering::AcqRel);
            }
        }
        self.is_written()
    }

    /// Its fate is known. Whether its caller had gone before that.
    fn resolve(&self) -> bool {
        match self.stage() {
            ASKED if self.move_on(ASKED, RESOLVED) => false,
            WRITTEN => {
                self.move_on(WRITTEN, RESOLVED);
                false
            }
            // Also one whose caller has gone just now.
            ASKED | GIVEN_UP => {
                let late = self.move_on(GIVEN_UP, RESOLVED);
                if late {
                    self.given_up.fetch_sub(1, Ordering::AcqRel);
                }
                late
            }
            _ => false,
        }
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the caller, unless it knows or has gone.
    #[inline(always)]
    fn tell(&self, fate: Fate) {
        let mut told = self.told();
        if matches!(*told, Told::Fate(_) | Told::Gone) {
            return;
        }
        let waker = match &mut *told {
            Told::Waits(waker) => Some(std::mem::replace(waker, Waker::noop().clone())),
            _ => None,
        };
        *told = Told::Fate(fate);
        drop(told);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// Resolves one caller, exactly once.
#[derive(Debug)]
pub(crate) struct ReplyPort {
    progress: Arc<Progress>,
    /// Whether the caller has been told.
    over: bool,
}

/// The caller's end of a port. Dropping it withdraws what has not been written.
#[derive(Debug)]
pub(crate) struct Reply {
    progress: Arc<Progress>,
    /// The request's span, which is told the id at the end; disabled if nobody listens.
    span: Span,
}

impl ReplyPort {
    /// A port and its caller's end. A request that its caller gives up is counted in `given_up` until its fate is known.
    pub(crate) fn new(given_up: &Arc<AtomicUsize>, wait: Option<Wait>) -> (Self, Reply) {
        Self::with(given_up, wait, Told::Nothing)
    }

    /// [`Self::new`] for a caller that waits already, with this waker.
    #[inline(always)]
    pub(crate) fn awaited(given_up: &Arc<AtomicUsize>, wait: Wait, waker: &Waker) -> (Self, Reply) {
        Self::with(given_up, Some(wait), Told::Waits(waker.clone()))
    }

    #[inline(always)]
    fn with(given_up: &Arc<AtomicUsize>, wait: Option<Wait>, told: Told) -> (Self, Reply) {
        let progress = Arc::new(Progress {
            stage: AtomicU8::new(QUEUED),
            id: AtomicU64::new(0),
            wait,
            given_up: Arc::clone(given_up),
            told: Mutex::new(told),
        });
        let reply = Reply {
            progress: Arc::clone(&progress),
            span: Span::none(),
        };
        let port = Self {
            progress,
            over: false,
        };
        (port, reply)
    }

    /// Whether a frame may be written; from here on its fate is at best unknown. `false` if its caller has
    /// withdrawn it.
    #[must_use]
    pub(crate) fn begin_writing(&self) -> bool {
        self.progress.leave_queue(WRITTEN)
    }

    /// [`Self::begin_writing`] for a request, which is counted as given up from the moment at which its caller
    /// goes to the moment at which its fate is known.
    #[must_use]
    pub(crate) fn begin_waiting(&self) -> bool {
        self.progress.leave_queue(ASKED)
    }

    /// The request has its id.
    pub(crate) fn identify(&self, id: u64) {
        self.progress.id.store(id, Ordering::Relaxed);
    }

    /// How long its caller waits, if that has been said.
    pub(crate) fn limit(&self) -> Option<Duration> {
        self.progress.wait.map(|wait| wait.limit)
    }

    /// Since when its caller waits, if the connection is to count how long.
    pub(crate) fn asked(&self) -> Option<Instant> {
        self.progress.wait?.kept.map(|(asked, _)| asked)
    }

    /// When the caller is to be told that it has waited long enough, if the connection is to do that, and still can.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let (_, deadline) = self.progress.wait?.kept?;
        matches!(self.progress.stage(), QUEUED | ASKED).then_some(deadline)
    }

    /// The caller has waited long enough: tells it so, and no more.
    pub(crate) fn overdue(&self) {
        let written = self.progress.give_up();
        self.progress.tell(Fate::Overdue { written });
    }

    /// Whether nobody waits any more.
    pub(crate) fn is_abandoned(&self) -> bool {
        matches!(self.progress.stage(), WITHDRAWN | GIVEN_UP)
    }

    /// The answer is here, and its caller is told with [`Self::answer`]. Whether it came late: when its caller had gone.
    #[must_use]
    pub(crate) fn resolve(&self) -> bool {
        self.progress.resolve()
    }

    /// The answer came.
    #[inline(always)]
    pub(crate) fn answer(mut self, frame: Frame, at: Instant) {
        self.tell(Fate::Answered(frame, at));
    }

    /// The frame left.
    pub(crate) fn flushed(mut self) {
        self.tell(Fate::Written);
    }

    /// Its turn under a limit did not come in time.
    pub(crate) fn expired(mut self) {
        self.tell(Fate::Expired);
    }

    /// There was no room for it.
    #[cold]
    pub(crate) fn crowded(mut self, bound: Bound) {
        self.tell(Fate::Crowded(bound));
    }

    /// The connection ended.
    pub(crate) fn lost(mut self, reason: &CloseReason) {
        let written = self.progress.is_written();
        self.tell(Fate::Lost {
            written,
            reason: Some(reason.clone()),
        });
    }

    fn tell(&mut self, fate: Fate) {
        self.over = true;
        self.progress.resolve();
        self.progress.tell(fate);
    }
}

impl Drop for ReplyPort {
    fn drop(&mut self) {
        if !self.over {
            let written = self.progress.is_written();
            self.tell(Fate::Lost {
                written,
                reason: None,
            });
        }
    }
}

impl Reply {
    /// Whether it has been handed to the socket.
    pub(crate) fn is_written(&self) -> bool {
        self.progress.is_written()
    }

    /// The request's span is to learn its id.
    pub(crate) fn tell_id(&mut self, span: &Span) {
        if !span.is_disabled() {
            self.span = span.clone();
        }
    }

    /// The request's id; zero until it is written.
    pub(crate) fn id(&self) -> u64 {
        self.progress.id.load(Ordering::Relaxed)
    }

    /// The fate, once. Afterwards there is none.
    pub(crate) fn poll_fate(&mut self, cx: &mut Context<'_>) -> Poll<Option<Fate>> {
        let mut told = self.progress.told();
        match &mut *told {
            Told::Nothing => *told = Told::Waits(cx.waker().clone()),
            Told::Waits(waker) => waker.clone_from(cx.waker()),
            Told::Fate(_) => {
                let before = std::mem::replace(&mut *told, Told::Gone);
                drop(told);
                return Poll::Ready(match before {
                    Told::Fate(fate) => Some(fate),
                    Told::Nothing | Told::Waits(_) | Told::Gone => None,
                });
            }
            Told::Gone => return Poll::Ready(None),
        }
        Poll::Pending
    }

    /// The answer, or [`Self::poll_fate`] if it is another. Taken out where it lies: what holds any fate is large.
    #[inline(always)]
    pub(crate) fn poll_answer(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Frame, Option<Fate>>> {
        let mut told = self.progress.told();
        if let Told::Fate(Fate::Answered(frame, _)) = &mut *told {
            let frame = std::mem::replace(frame, Frame::Close(None));
            *told = Told::Gone;
            return Poll::Ready(Ok(frame));
        }
        drop(told);
        self.poll_fate(cx).map(Err)
    }

    /// Waits for the fate. Cancel safe.
    pub(crate) async fn fate(&mut self) -> Option<Fate> {
        poll_fn(|cx| self.poll_fate(cx)).await
    }

    /// Takes it back at the deadline: the fate if that is known after all, else whether it had been written.
    pub(crate) fn give_up(&mut self) -> Result<Fate, bool> {
        let written = self.progress.give_up();
        match std::mem::replace(&mut *self.progress.told(), Told::Gone) {
            Told::Fate(fate) => Ok(fate),
            Told::Nothing | Told::Waits(_) | Told::Gone => Err(written),
        }
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        if !self.span.is_disabled() && self.id() > 0 {
            self.span
                .record("jsonrpc.request.id", &*self.id().to_string());
        }
        if self.progress.stage() != RESOLVED {
            // If it has been written, it has been; nobody asks any more.
            let _ = self.give_up();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port() -> (ReplyPort, Reply) {
        ReplyPort::new(&Arc::default(), None)
    }

    #[tokio::test]
    async fn a_port_dropped_before_writing_says_not_sent() {
        let (port, mut reply) = port();
        drop(port);
        assert!(matches!(
            reply.fate().await,
            Some(Fate::Lost { written: false, .. })
        ));
        assert!(reply.fate().await.is_none(), "once");
    }

    #[tokio::test]
    async fn a_port_dropped_after_writing_says_unknown() {
        for begin in [ReplyPort::begin_writing, ReplyPort::begin_waiting] {
            let (port, mut reply) = port();
            assert!(begin(&port));
            drop(port);
            assert!(matches!(
                reply.fate().await,
                Some(Fate::Lost { written: true, .. })
            ));
        }
    }

    #[test]
    fn what_its_caller_has_given_up_in_the_queue_is_never_written() {
        let (port, mut reply) = port();
        assert!(matches!(reply.give_up(), Err(false)), "not written");
        assert!(!port.begin_writing());
    }

    #[test]
    fn what_was_written_cannot_be_given_up() {
        let (port, mut reply) = port();
        assert!(port.begin_writing());
        assert!(matches!(reply.give_up(), Err(true)), "written");
    }

    #[tokio::test]
    async fn a_frame_that_was_written_and_left_is_said_to_have_been_written() {
        let (port, mut reply) = port();
        assert!(port.begin_writing());
        port.flushed();
        assert!(matches!(reply.fate().await, Some(Fate::Written)));
    }

    #[test]
    fn what_was_written_and_given_up_is_counted_until_its_fate_is_known() {
        let given_up = Arc::new(AtomicUsize::new(0));
        let counted = || given_up.load(Ordering::Relaxed);
        let waiting = || {
            let (port, reply) = ReplyPort::new(&given_up, None);
            assert!(port.begin_waiting());
            (port, reply)
        };
        let (in_time, reply) = waiting();
        assert!(!in_time.resolve(), "in time");
        in_time.answer(Frame::text("{}"), Instant::now());
        drop(reply);
        assert_eq!(counted(), 0);

        let (late, mut reply) = waiting();
        assert!(matches!(reply.give_up(), Err(true)));
        drop(reply);
        assert_eq!(counted(), 1);
        assert!(late.resolve(), "late");
        assert_eq!(counted(), 0);

        let (lost, reply) = waiting();
        drop(reply);
        assert_eq!(counted(), 1);
        drop(lost);
        assert_eq!(counted(), 0);
    }

    #[tokio::test]
    async fn what_is_overdue_is_told_so_and_its_answer_is_late() {
        let given_up = Arc::new(AtomicUsize::new(0));
        let now = Instant::now();
        let wait = Wait {
            limit: Duration::ZERO,
            kept: Some((now, now)),
        };
        let (port, mut reply) = ReplyPort::new(&given_up, Some(wait));
        assert!(port.begin_waiting());
        assert_eq!((port.asked(), port.deadline()), (Some(now), Some(now)));
        port.overdue();
        assert_eq!(port.deadline(), None, "once");
        assert_eq!(given_up.load(Ordering::Relaxed), 1);
        assert!(port.resolve(), "late");
        assert_eq!(given_up.load(Ordering::Relaxed), 0);
        port.answer(Frame::text("{}"), now);
        assert!(matches!(
            reply.fate().await,
            Some(Fate::Overdue { written: true })
        ));

        let (port, mut reply) = ReplyPort::new(&given_up, Some(wait));
        port.overdue();
        assert!(!port.begin_waiting(), "withdrawn");
        assert!(matches!(
            reply.fate().await,
            Some(Fate::Overdue { written: false })
        ));
    }

    #[tokio::test]
    async fn whoever_waits_is_woken_and_whoever_has_gone_is_not() {
        let (asked, mut reply) = port();
        let waits = tokio::spawn(async move { reply.fate().await });
        tokio::task::yield_now().await;
        asked.answer(Frame::text("{}"), Instant::now());
        assert!(matches!(waits.await.unwrap(), Some(Fate::Answered(..))));

        let (asked, mut reply) = port();
        assert!(asked.begin_waiting());
        let task = futures_util::task::noop_waker();
        let weak = Arc::downgrade(&asked.progress);
        assert!(
            reply
                .poll_fate(&mut Context::from_waker(&task))
                .is_pending()
        );
        drop(reply);
        assert!(matches!(*asked.progress.told(), Told::Gone), "no waker");
        drop(asked);
        assert!(weak.upgrade().is_none());
    }

    #[test]
    fn a_dropped_caller_withdraws_what_has_not_been_written() {
        let (port, reply) = port();
        assert!(!port.is_abandoned());
        drop(reply);
        assert!(port.is_abandoned());
        assert!(!port.begin_writing());
    }
}
