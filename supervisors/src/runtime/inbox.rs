//! The supervisor's own queue.
//!
//! ractor drops what waits in a mailbox when its actor is stopped. A supervisor that was stopped
//! still has to hear its keepers while it ends, so everything meant for it waits here and the
//! mailbox only carries wake-ups.
//!
//! Invariants: what was put in is handled, or dropped with the supervisor's state, and nothing else.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use ractor::{ActorCell, ActorRef};
use tokio::sync::{mpsc, oneshot};

use crate::handle::SupervisorRef;
use crate::id::{ChildId, Generation};
use crate::policy::Strategy;
use crate::runtime::launch::Refusal;
use crate::runtime::record::Obituary;
use crate::runtime::supervisor::Call;
use crate::shutdown::Parting;
use crate::snapshot::{NodeStatus, TreeSnapshot};

/// The mailbox message: look into the inbox.
pub(crate) struct Wake;

crate::message!(Wake);

/// What a supervisor can be told.
pub(crate) enum Letter {
    /// Start the children.
    Boot,
    /// The incarnation is ready.
    Started {
        child: ChildId,
        generation: Generation,
        /// Its actor, where it is one.
        cell: Option<ActorCell>,
    },
    /// The incarnation never became ready, and nothing of it is left.
    Refused {
        child: ChildId,
        generation: Generation,
        refusal: Refusal,
    },
    /// The incarnation has ended, and nothing of it is left.
    Exited {
        child: ChildId,
        generation: Generation,
        parting: Parting,
        obituary: Obituary,
    },
    /// The timer rang.
    Tick,
    /// End in good order.
    Shutdown {
        deadline: Option<Instant>,
        text: Arc<str>,
    },
    /// Tell what stands here; sub-supervisors are asked by whoever asks.
    Describe(oneshot::Sender<Description>),
    /// Change or tell something.
    Call(Call),
}

/// One supervisor's own part of a snapshot.
pub(crate) struct Description {
    pub(crate) status: NodeStatus,
    /// When its children were all up for the first time, and for how long that has been so.
    pub(crate) ready: Option<(SystemTime, Duration)>,
    pub(crate) strategy: Strategy,
    pub(crate) window: (u32, u32),
    pub(crate) children: Vec<TreeSnapshot>,
    /// Which of the children are supervisors that can be asked, by position.
    pub(crate) below: Vec<(usize, SupervisorRef)>,
}

/// How many calls are taken before a report gets its turn.
const CALLS_IN_A_ROW: u32 = 16;

/// The sending side. Calls have a queue of their own, so that somebody who asks does not wait until
/// ten thousand ends have been dealt with.
#[derive(Clone)]
pub(crate) struct Inbox {
    reports: mpsc::UnboundedSender<Letter>,
    calls: mpsc::UnboundedSender<Letter>,
    supervisor: ActorRef<Wake>,
}

impl Inbox {
    pub(crate) fn new(supervisor: ActorRef<Wake>) -> (Self, Letters) {
        let (reports, reported) = mpsc::unbounded_channel();
        let (calls, called) = mpsc::unbounded_channel();
        let inbox = Self {
            reports,
            calls,
            supervisor,
        };
        let letters = Letters {
            reports: reported,
            calls: called,
            calls_taken: 0,
        };
        (inbox, letters)
    }

    /// Drops the letter when the supervisor is gone; an obituary then closes its record.
    pub(crate) fn put(&self, letter: Letter) {
        let queue = match letter {
            Letter::Describe(_) | Letter::Call(_) | Letter::Shutdown { .. } => &self.calls,
            Letter::Boot
            | Letter::Started { .. }
            | Letter::Refused { .. }
            | Letter::Exited { .. }
            | Letter::Tick => &self.reports,
        };
        if queue.send(letter).is_ok() {
            // One that is ending no longer reads its mailbox, but empties the inbox all the same.
            let _ = self.supervisor.send_message(Wake);
        }
    }
}

/// The reading side.
pub(crate) struct Letters {
    reports: mpsc::UnboundedReceiver<Letter>,
    calls: mpsc::UnboundedReceiver<Letter>,
    /// Since the last report.
    calls_taken: u32,
}

impl Letters {
    /// What is to be read next, of what is there.
    pub(crate) fn take(&mut self) -> Option<Letter> {
        if self.calls_taken < CALLS_IN_A_ROW
            && let Ok(call) = self.calls.try_recv()
        {
            self.calls_taken += 1;
            return Some(call);
        }
        self.calls_taken = 0;
        self.reports
            .try_recv()
            .or_else(|_| self.calls.try_recv())
            .ok()
    }

    /// Waits for something to read.
    pub(crate) async fn next(&mut self) -> Option<Letter> {
        tokio::select! {
            biased;
            Some(call) = self.calls.recv() => Some(call),
            Some(report) = self.reports.recv() => Some(report),
            else => None,
        }
    }
}
