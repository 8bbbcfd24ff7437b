//! The way out: what callers hand to a connection, and how each learns its fate.
//!
//! A [`Line`] is the sending end of one open connection. With every request travels a [`ReplyPort`];
//! wherever in the process it is dropped, its caller hears the truth: *not sent* if no byte was handed
//! to the socket, *unknown* if one was.
//!
//! Invariants: the queue is bounded; a port resolves exactly once; a request whose caller has gone is
//! not written; one that was written before its caller went is counted as given up until it resolves.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tracing::Span;

use super::clock;
use super::lane::{Lane, LaneReader, lanes};
use super::reporter::Reporter;
use crate::close::CloseReason;
use crate::frame::Frame;
use crate::protocol::call::Call;
use crate::protocol::continuity::Epoch;
use crate::protocol::high_water::{HighWater, Level};
use crate::protocol::recording::Mark;

/// The sending end of one connection.
#[derive(Debug)]
pub(crate) struct Line {
    /// The connection's epoch.
    pub(crate) epoch: Epoch,
    /// Its queue.
    pub(crate) sender: Lane<Outbound>,
    /// A queue of its own for heartbeats and closing, so that a crowd of requests cannot hold them up.
    pub(crate) urgent: Lane<Outbound>,
    /// Who is told when the queue fills up, and whether that has been said.
    reporter: Arc<Reporter>,
    high_water: Mutex<HighWater>,
    /// What `high_water` remembers, so that the lock is taken only while the queue is rather full.
    above: AtomicBool,
}

impl Line {
    /// How full the queue for requests is.
    pub(crate) fn level(&self) -> Level {
        let capacity = self.sender.max_capacity();
        Level::of(capacity - self.sender.capacity(), capacity)
    }

    /// Something has been put into the queue: tells of it if it has filled up.
    pub(crate) fn rose(&self) {
        let level = self.level();
        if !level.is_full() && !self.above.load(Ordering::Relaxed) {
            return;
        }
        let mut high_water = self
            .high_water
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let told = high_water.on_rise(level, clock::now());
        self.above.store(high_water.is_above(), Ordering::Relaxed);
        drop(high_water);
        if told {
            self.reporter.filling("requests", None, level);
        }
    }

    /// How many wait to be written.
    pub(crate) fn queued(&self) -> usize {
        let waiting = |queue: &Lane<Outbound>| queue.max_capacity() - queue.capacity();
        waiting(&self.sender) + waiting(&self.urgent)
    }

    /// Both ends of a line whose queue holds `capacity` requests.
    pub(crate) fn channel(capacity: usize) -> (LineSender, LaneReader<Outbound>) {
        let (sender, urgent, reader) = lanes(capacity, URGENT);
        (LineSender { sender, urgent }, reader)
    }
}

/// Heartbeats and close frames that may wait.
const URGENT: usize = 64;

/// The sending end before it has an epoch.
#[derive(Debug)]
pub(crate) struct LineSender {
    sender: Lane<Outbound>,
    urgent: Lane<Outbound>,
}

impl LineSender {
    /// Gives it its epoch, and somebody to tell when it fills up.
    pub(crate) fn into_line(self, epoch: Epoch, reporter: &Arc<Reporter>) -> Line {
        Line {
            epoch,
            sender: self.sender,
            urgent: self.urgent,
            reporter: Arc::clone(reporter),
            high_water: Mutex::default(),
            above: AtomicBool::new(false),
        }
    }
}

/// What a connection is asked to write.
#[derive(Debug)]
pub(crate) enum Outbound {
    /// A request; the connection chooses its id.
    Request {
        /// What to ask.
        call: Call,
        /// Where the answer goes.
        port: ReplyPort,
        /// Why the library itself asks; `None` for the user's own requests.
        mark: Option<Mark>,
    },
    /// Several requests in one frame.
    Batch {
        /// What to ask, and where each answer goes.
        requests: Vec<(Call, ReplyPort)>,
    },
    /// A frame as it is.
    Frame {
        /// The frame.
        frame: Frame,
        /// Who hears that it was written.
        port: ReplyPort,
    },
    /// A close frame (RFC 6455, section 5.5.1), after which nothing more is written.
    Close {
        /// The status code.
        code: u16,
        /// The reason text.
        reason: String,
        /// Why it is sent, which is why the connection will have ended.
        cause: CloseReason,
    },
}

impl Outbound {
    /// Whether nobody waits for it any more.
    pub(crate) fn is_abandoned(&self) -> bool {
        match self {
            Self::Request { port, .. } | Self::Frame { port, .. } => port.is_abandoned(),
            Self::Batch { requests } => requests.iter().all(|(_, port)| port.is_abandoned()),
            Self::Close { .. } => false,
        }
    }

    /// How much of it its caller has brought: methods, parameters, payloads.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Request { call, .. } => call.bytes(),
            Self::Frame { frame, .. } => frame.payload().len(),
            Self::Batch { requests } => requests.iter().map(|(call, _)| call.bytes()).sum(),
            Self::Close { .. } => 0,
        }
    }

    /// Its turn under a limit did not come in time.
    pub(crate) fn expire(self) {
        match self {
            Self::Request { port, .. } | Self::Frame { port, .. } => port.expired(),
            Self::Batch { requests } => requests.into_iter().for_each(|(_, port)| port.expired()),
            Self::Close { .. } => {}
        }
    }
}

/// How a request or a frame ended, as the connection sees it.
#[derive(Debug)]
pub(crate) enum Fate {
    /// The raw answer, and when it came.
    Answered(Frame, Instant),
    /// Written to the socket; for frames that expect no answer.
    Written,
    /// Its turn under a limit did not come in time; nothing was written.
    Expired,
    /// The connection is gone.
    Lost {
        /// Whether a byte may have left.
        written: bool,
        /// Why, where that is known.
        reason: Option<CloseReason>,
    },
}

/// What has become of a request so far; shared by its port and its caller.
#[derive(Debug, Default)]
struct Progress {
    stage: AtomicU8,
    /// The request's id; zero until it has one.
    id: AtomicU64,
    /// In microseconds; zero if nobody has set one.
    limit: AtomicU64,
    /// Where it is counted if its caller goes before the answer. Set before it is written; frames have none.
    given_up: OnceLock<Arc<AtomicUsize>>,
}

/// In a queue of ours.
const QUEUED: u8 = 0;
/// Handed to the socket.
const WRITTEN: u8 = 1;
/// Taken back by its caller; it will not be written.
const WITHDRAWN: u8 = 2;
/// Written, and its caller has gone.
const GIVEN_UP: u8 = 3;
/// Written, and its fate is known.
const RESOLVED: u8 = 4;

impl Progress {
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
        let stage = self.stage.load(Ordering::Acquire);
        matches!(stage, WRITTEN | GIVEN_UP | RESOLVED)
    }

    /// Its caller has gone. Whether it had been written.
    fn give_up(&self) -> bool {
        if self.leave_queue(WITHDRAWN) {
            return false;
        }
        if let Some(counted) = self.given_up.get()
            && self.stage.load(Ordering::Acquire) == WRITTEN
        {
            // Counted first, so that it is never taken off before it was put there.
            counted.fetch_add(1, Ordering::AcqRel);
            if !self.move_on(WRITTEN, GIVEN_UP) {
                counted.fetch_sub(1, Ordering::AcqRel);
            }
        }
        self.is_written()
    }

    /// Its fate is known. Whether its caller had gone before that.
    fn resolve(&self) -> bool {
        if self.move_on(WRITTEN, RESOLVED) || !self.move_on(GIVEN_UP, RESOLVED) {
            return false;
        }
        if let Some(counted) = self.given_up.get() {
            counted.fetch_sub(1, Ordering::AcqRel);
        }
        true
    }
}

/// Resolves one caller, exactly once.
#[derive(Debug)]
pub(crate) struct ReplyPort {
    /// Taken when the caller has been told.
    sender: Option<oneshot::Sender<Fate>>,
    progress: Arc<Progress>,
}

/// The caller's end of a port. Dropping it withdraws what has not been written.
#[derive(Debug)]
pub(crate) struct Reply {
    receiver: oneshot::Receiver<Fate>,
    progress: Arc<Progress>,
    /// The request's span, which is told the id at the end; disabled if nobody listens.
    span: Span,
}

impl ReplyPort {
    /// A port and its caller's end.
    pub(crate) fn new() -> (Self, Reply) {
        let (sender, receiver) = oneshot::channel();
        let progress = Arc::new(Progress::default());
        let reply = Reply {
            receiver,
            progress: Arc::clone(&progress),
            span: Span::none(),
        };
        (
            Self {
                sender: Some(sender),
                progress,
            },
            reply,
        )
    }

    /// Whether it may be written; from here on its fate is at best unknown. `false` if its caller has
    /// withdrawn it.
    #[must_use]
    pub(crate) fn begin_writing(&self) -> bool {
        self.progress.leave_queue(WRITTEN)
    }

    /// [`Self::begin_writing`] for a request, which is counted in `given_up` from the moment at which its caller
    /// goes to the moment at which its fate is known.
    #[must_use]
    pub(crate) fn begin_waiting(&self, given_up: &Arc<AtomicUsize>) -> bool {
        // Set once: a port is written once.
        let _ = self.progress.given_up.set(Arc::clone(given_up));
        self.begin_writing()
    }

    /// The request has its id.
    pub(crate) fn identify(&self, id: u64) {
        self.progress.id.store(id, Ordering::Relaxed);
    }

    /// How long its caller waits, if that has been said.
    pub(crate) fn limit(&self) -> Option<Duration> {
        let limit = self.progress.limit.load(Ordering::Relaxed);
        (limit > 0).then(|| Duration::from_micros(limit))
    }

    /// Whether nobody waits any more.
    pub(crate) fn is_abandoned(&self) -> bool {
        self.sender.as_ref().is_none_or(oneshot::Sender::is_closed)
    }

    /// The answer came. Whether it came late: when its caller had gone.
    pub(crate) fn answer(mut self, frame: Frame, at: Instant) -> bool {
        self.tell(Fate::Answered(frame, at))
    }

    /// The frame left.
    pub(crate) fn flushed(mut self) {
        self.tell(Fate::Written);
    }

    /// Its turn under a limit did not come in time.
    pub(crate) fn expired(mut self) {
        self.tell(Fate::Expired);
    }

    /// The connection ended.
    pub(crate) fn lost(mut self, reason: &CloseReason) {
        let written = self.progress.is_written();
        self.tell(Fate::Lost {
            written,
            reason: Some(reason.clone()),
        });
    }

    /// Whether its caller had given up what was written.
    fn tell(&mut self, fate: Fate) -> bool {
        let Some(sender) = self.sender.take() else {
            return false;
        };
        let late = self.progress.resolve();
        // A caller that has gone away does not want to know.
        let _ = sender.send(fate);
        late
    }
}

impl Drop for ReplyPort {
    fn drop(&mut self) {
        let written = self.progress.is_written();
        self.tell(Fate::Lost {
            written,
            reason: None,
        });
    }
}

impl Reply {
    /// Says how long the answer is waited for.
    pub(crate) fn within(&self, limit: Duration) {
        let limit = u64::try_from(limit.as_micros()).unwrap_or(u64::MAX);
        self.progress.limit.store(limit, Ordering::Relaxed);
    }

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

    /// Waits for the fate. Cancel safe.
    pub(crate) async fn fate(&mut self) -> Option<Fate> {
        (&mut self.receiver).await.ok()
    }

    /// Takes it back at the deadline: `Some` with the fate if that is known after all, else whether it
    /// had been written.
    pub(crate) fn give_up(&mut self) -> Result<Fate, bool> {
        let written = self.progress.give_up();
        self.receiver.close();
        self.receiver.try_recv().map_err(|_| written)
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        if !self.span.is_disabled() && self.id() > 0 {
            self.span
                .record("jsonrpc.request.id", &*self.id().to_string());
        }
        // If it has been written, it has been; nobody asks any more.
        let _ = self.progress.give_up();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_port_dropped_before_writing_says_not_sent() {
        let (port, mut reply) = ReplyPort::new();
        drop(port);
        assert!(matches!(
            reply.fate().await,
            Some(Fate::Lost { written: false, .. })
        ));
    }

    #[tokio::test]
    async fn a_port_dropped_after_writing_says_unknown() {
        let (port, mut reply) = ReplyPort::new();
        assert!(port.begin_writing());
        drop(port);
        assert!(matches!(
            reply.fate().await,
            Some(Fate::Lost { written: true, .. })
        ));
    }

    #[test]
    fn what_its_caller_has_given_up_in_the_queue_is_never_written() {
        let (port, mut reply) = ReplyPort::new();
        assert!(matches!(reply.give_up(), Err(false)), "not written");
        assert!(!port.begin_writing());
    }

    #[test]
    fn what_was_written_cannot_be_given_up() {
        let (port, mut reply) = ReplyPort::new();
        assert!(port.begin_writing());
        assert!(matches!(reply.give_up(), Err(true)), "written");
    }

    #[test]
    fn what_was_written_and_given_up_is_counted_until_its_fate_is_known() {
        let given_up = Arc::new(AtomicUsize::new(0));
        let counted = || given_up.load(Ordering::Relaxed);
        let waiting = || {
            let (port, reply) = ReplyPort::new();
            assert!(port.begin_waiting(&given_up));
            (port, reply)
        };
        let (in_time, reply) = waiting();
        assert!(
            !in_time.answer(Frame::text("{}"), Instant::now()),
            "in time"
        );
        drop(reply);
        assert_eq!(counted(), 0);

        let (late, mut reply) = waiting();
        assert!(matches!(reply.give_up(), Err(true)));
        drop(reply);
        assert_eq!(counted(), 1);
        assert!(late.answer(Frame::text("{}"), Instant::now()), "late");
        assert_eq!(counted(), 0);

        let (lost, reply) = waiting();
        drop(reply);
        assert_eq!(counted(), 1);
        drop(lost);
        assert_eq!(counted(), 0);
    }

    #[test]
    fn a_dropped_caller_withdraws_what_has_not_been_written() {
        let (port, reply) = ReplyPort::new();
        assert!(!port.is_abandoned());
        drop(reply);
        assert!(port.is_abandoned());
        assert!(!port.begin_writing());
    }
}
