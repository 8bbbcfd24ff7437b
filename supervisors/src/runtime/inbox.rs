//! The supervisor's own queue.
//!
//! ractor drops what waits in a mailbox when its actor is stopped. A supervisor that was stopped
//! still has to hear its keepers while it ends, so everything meant for it waits here and the
//! mailbox only carries wake-ups.
//!
//! Invariants: what was put in is handled, or dropped with the supervisor's state, and nothing else; at
//! most one wake-up is in the mailbox; there are at most two reports for each incarnation, one tick and one order
//! to end, and whoever asks while [`CALLS`] others wait for an answer waits for room.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::{Duration, Instant, SystemTime};

use ractor::{ActorCell, ActorRef, ActorStatus};
use tokio::sync::{Notify, Semaphore, oneshot};

use crate::exit::ExitReason;
use crate::handle::SupervisorRef;
use crate::id::{ChildId, Generation};
use crate::policy::Strategy;
use crate::runtime::household::Household;
use crate::runtime::launch::Refusal;
use crate::runtime::record::{Obituary, lock};
use crate::runtime::supervisor::Call;
use crate::shutdown::{Parting, sooner};
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

impl Letter {
    /// Whether only the supervisor's own task may read it: what it tells may be completed by ractor's event; or
    /// it may be what a kill of the supervisor does to its children, whom ractor kills, and to whom it
    /// links nobody any more, before anybody else can see that there was one.
    fn is_the_supervisors(&self) -> bool {
        match self {
            Self::Exited {
                parting, obituary, ..
            } => {
                let killed = matches!(*obituary.reason, ExitReason::Killed);
                obituary.wants_text() || killed && *parting == Parting::Graceful
            }
            Self::Refused { refusal, .. } => matches!(refusal, Refusal::Failed(_)),
            Self::Boot
            | Self::Started { .. }
            | Self::Tick
            | Self::Shutdown { .. }
            | Self::Describe(_)
            | Self::Call(_) => false,
        }
    }
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

/// How many calls may wait to be read.
const CALLS: usize = 1024;
/// How many calls are taken before a report gets its turn.
const CALLS_IN_A_ROW: u32 = 16;

/// The sending side. Calls have a queue of their own, so that somebody who asks does not wait until
/// ten thousand ends have been dealt with.
#[derive(Clone)]
pub(crate) struct Inbox {
    supervisor: ActorRef<Wake>,
    bell: Arc<Bell>,
}

/// What waits to be read, and what tells the supervisor that there is something.
struct Bell {
    trays: Mutex<Trays>,
    /// For calls.
    room: Semaphore,
    /// A wake-up is in the mailbox.
    rung: AtomicBool,
    /// Whom it belongs to, once there is one.
    household: OnceLock<Weak<Household>>,
    /// For one that reads its mailbox no more.
    ending: Notify,
    /// There is an order.
    ordered: AtomicBool,
    order: Mutex<Option<Order>>,
}

/// Nobody has much in them for long, and there are two for each supervisor: a channel takes room for 32 letters
/// before the first has come.
#[derive(Default)]
struct Trays {
    reports: VecDeque<Letter>,
    calls: VecDeque<Letter>,
    /// Nobody reads any more.
    closed: bool,
}

/// Letters for which a tray that is empty keeps its room.
const SPARE: usize = 8;

/// Takes the first; one that was large and is empty lets go of its room.
fn take_first(tray: &mut VecDeque<Letter>) -> Option<Letter> {
    let letter = tray.pop_front()?;
    if tray.is_empty() && tray.capacity() > SPARE {
        *tray = VecDeque::new();
    }
    Some(letter)
}

/// To end: by when, and what the children are told.
struct Order {
    deadline: Option<Instant>,
    text: Arc<str>,
}

impl Inbox {
    pub(crate) fn new(supervisor: ActorRef<Wake>) -> (Self, Letters) {
        let bell = Arc::new(Bell {
            trays: Mutex::default(),
            room: Semaphore::new(CALLS),
            rung: AtomicBool::new(false),
            household: OnceLock::new(),
            ending: Notify::new(),
            ordered: AtomicBool::new(false),
            order: Mutex::default(),
        });
        let inbox = Self {
            supervisor,
            bell: bell.clone(),
        };
        let letters = Letters {
            bell,
            calls_taken: 0,
            deferred: None,
        };
        (inbox, letters)
    }

    /// Drops the report when the supervisor is gone; an obituary then closes its record.
    pub(crate) fn put(&self, report: Letter) {
        self.leave(report);
        self.wake();
    }

    /// Puts a report in without a word.
    pub(crate) fn leave(&self, report: Letter) {
        let mut trays = lock(&self.bell.trays);
        if !trays.closed {
            trays.reports.push_back(report);
            return;
        }
        drop(trays);
        // One that is gone reads nothing. What the letter holds is dropped without the lock: it may want to report.
        drop(report);
    }

    /// Asks, as soon as there is room. Dropped before, nothing was asked.
    pub(crate) async fn ask(&self, call: Letter) {
        // One that is gone answers nothing, and closes the room with itself.
        if let Ok(room) = self.bell.room.acquire().await {
            let mut trays = lock(&self.bell.trays);
            if !trays.closed {
                // The room is free again when it is read.
                room.forget();
                trays.calls.push_back(call);
            }
        }
        self.serve();
    }

    /// Has the supervisor end. Of several orders the earliest deadline holds, and the last text.
    pub(crate) fn order_end(&self, deadline: Option<Instant>, text: Arc<str>) {
        {
            let mut order = lock(&self.bell.order);
            let known = order.take().and_then(|order| order.deadline);
            *order = Some(Order {
                deadline: sooner(known, deadline),
                text,
            });
            self.bell.ordered.store(true, Ordering::SeqCst);
        }
        self.serve();
    }

    pub(crate) fn belongs_to(&self, household: &Arc<Household>) {
        // Nobody else sets it.
        let _ = self.bell.household.set(Arc::downgrade(household));
    }

    /// Has it read now, by whoever calls, where nobody else is at it. The supervisor's own task may be
    /// queued behind a callback that blocks a worker of the runtime.
    fn serve(&self) {
        match self.bell.household.get().and_then(Weak::upgrade) {
            Some(household) => household.serve(),
            None => self.wake(),
        }
    }

    /// Has the supervisor look into it.
    pub(crate) fn wake(&self) {
        if !self.bell.rung.swap(true, Ordering::SeqCst) {
            // One that is ending no longer reads its mailbox, but empties the inbox all the same.
            let _ = self.supervisor.send_message(Wake);
        }
        self.bell.ending.notify_one();
    }

    /// Whether the supervisor was woken and has not looked yet.
    pub(crate) fn has_woken(&self) -> bool {
        self.bell.rung.load(Ordering::SeqCst)
    }

    /// Whether the supervisor's actor has ended, or begun to.
    pub(crate) fn is_nobodys(&self) -> bool {
        self.supervisor.get_status() >= ActorStatus::Stopping
    }

    /// The supervisor looks.
    pub(crate) fn answer(&self) {
        self.bell.rung.store(false, Ordering::SeqCst);
    }

    /// Waits for a wake-up outside the mailbox. Cancel safe: none is lost.
    pub(crate) async fn woken(&self) {
        self.bell.ending.notified().await;
    }
}

/// Who reads a letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reader {
    /// The supervisor's own task: ractor's events that came before were seen.
    Mailbox,
    /// Anybody else: it may be that ractor's event of an end was not seen yet.
    Keeper,
}

/// The reading side.
pub(crate) struct Letters {
    bell: Arc<Bell>,
    /// Since the last report.
    calls_taken: u32,
    /// To be read by the supervisor itself, before all other reports.
    deferred: Option<Letter>,
}

impl Letters {
    /// What is to be read next, of what is there.
    pub(crate) fn take(&mut self, reader: Reader) -> Option<Letter> {
        if self.bell.ordered.load(Ordering::SeqCst)
            && self.bell.ordered.swap(false, Ordering::SeqCst)
            && let Some(Order { deadline, text }) = lock(&self.bell.order).take()
        {
            return Some(Letter::Shutdown { deadline, text });
        }
        if self.calls_taken < CALLS_IN_A_ROW
            && let Some(call) = self.take_call()
        {
            self.calls_taken += 1;
            return Some(call);
        }
        self.calls_taken = 0;
        self.take_report(reader).or_else(|| self.take_call())
    }

    /// Whether a keeper's report has to wait its turn.
    pub(crate) fn defers(&self, report: &Letter) -> bool {
        self.is_deferred() || self.has_reports() || report.is_the_supervisors()
    }

    /// Whether there is something that a keeper has to leave to the supervisor.
    pub(crate) fn is_deferred(&self) -> bool {
        self.deferred.is_some()
    }

    fn has_reports(&self) -> bool {
        !lock(&self.bell.trays).reports.is_empty()
    }

    fn take_call(&mut self) -> Option<Letter> {
        let call = take_first(&mut lock(&self.bell.trays).calls)?;
        self.bell.room.add_permits(1);
        Some(call)
    }

    fn next_report(&mut self) -> Option<Letter> {
        take_first(&mut lock(&self.bell.trays).reports)
    }

    fn take_report(&mut self, reader: Reader) -> Option<Letter> {
        match reader {
            Reader::Mailbox => self.deferred.take().or_else(|| self.next_report()),
            Reader::Keeper if self.deferred.is_some() => None,
            Reader::Keeper => {
                let report = self.next_report()?;
                if report.is_the_supervisors() {
                    self.deferred = Some(report);
                    return None;
                }
                Some(report)
            }
        }
    }
}

impl Drop for Letters {
    /// Whoever waits for room hears that there will be no answer, and what was not read is dropped.
    fn drop(&mut self) {
        self.bell.room.close();
        let unread = {
            let mut trays = lock(&self.bell.trays);
            trays.closed = true;
            (
                std::mem::take(&mut trays.reports),
                std::mem::take(&mut trays.calls),
            )
        };
        // It may hold what reports when it is dropped.
        drop(unread);
    }
}
