//! The way out: what callers hand to a connection.
//!
//! A [`Line`] is the sending end of one open connection. With every request travels a [`ReplyPort`], by which its caller
//! learns its fate.
//!
//! Invariants: the queue is bounded; a request whose caller has gone is not written.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::clock;
use super::lane::{Lane, LaneReader, lanes};
use super::port::{Bound, ReplyPort};
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
    /// Where requests are counted whose callers have gone before the answer.
    pub(crate) given_up: Arc<AtomicUsize>,
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
    pub(crate) fn into_line(
        self,
        epoch: Epoch,
        reporter: &Arc<Reporter>,
        given_up: &Arc<AtomicUsize>,
    ) -> Line {
        Line {
            given_up: Arc::clone(given_up),
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

    /// The ports of those who wait for what becomes of it.
    pub(crate) fn ports(&self) -> impl Iterator<Item = &ReplyPort> {
        let (one, many) = match self {
            Self::Request { port, .. } | Self::Frame { port, .. } => (Some(port), &[][..]),
            Self::Batch { requests } => (None, &requests[..]),
            Self::Close { .. } => (None, &[][..]),
        };
        one.into_iter().chain(many.iter().map(|(_, port)| port))
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
        self.resolve(ReplyPort::expired);
    }

    /// There was no room for it.
    pub(crate) fn crowd_out(self, bound: Bound) {
        self.resolve(|port| port.crowded(bound));
    }

    fn resolve(self, tell: impl Fn(ReplyPort)) {
        match self {
            Self::Request { port, .. } | Self::Frame { port, .. } => tell(port),
            Self::Batch { requests } => requests.into_iter().for_each(|(_, port)| tell(port)),
            Self::Close { .. } => {}
        }
    }
}
