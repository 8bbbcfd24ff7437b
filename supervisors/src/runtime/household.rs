//! What a supervisor and the keepers of its children share.
//!
//! Apart from both because it belongs to neither: whoever has something for the supervisor (a keeper its
//! report, a caller its question) does the supervisor's work itself where nobody else is at it. So an end is
//! followed by a start without a way through a mailbox, and a supervisor whose own task is queued behind
//! a callback that blocks is not deaf.
//!
//! Invariants: one at a time is at work, and never while it waits for something; what nobody could deal
//! with is left to the supervisor's own task, which is woken; a supervisor that is gone, or was killed, is
//! nobody's work any more: the ends of its children would be taken for theirs.

use std::any::Any;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, TryLockError};

use slab::Slab;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use crate::exit::ExitReason;
use crate::runtime::inbox::{Inbox, Letter, Reader};
use crate::runtime::keeper::Minding;
use crate::runtime::record::{Record, lock};
use crate::runtime::supervisor::State;
use crate::shutdown::{Parting, ShutdownReport};

/// After how many letters somebody else leaves the rest to the supervisor.
const LETTERS_PER_REPORT: u32 = 16;

/// Ends when the token was dropped: when all keepers of a supervisor are done.
pub(crate) type Census = oneshot::Receiver<()>;
/// Held by the household, which all keepers of a supervisor hold.
pub(crate) type Token = oneshot::Sender<()>;

/// The token in it is dropped with the last of the keepers.
pub(crate) struct Household {
    pub(crate) inbox: Inbox,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) doom: Arc<Doom>,
    /// Everything the supervisor knows, while there is one.
    office: Mutex<Option<State>>,
    /// Set when the supervisor ends in order, which is work.
    ends_in_order: AtomicBool,
    /// Where the supervisor and all keepers run.
    runtime: Handle,
    _token: Token,
}

/// How far somebody came with the letters.
pub(crate) struct Attended {
    /// Something is left to read.
    pub(crate) more: bool,
    /// The supervisor is to end.
    pub(crate) ended: bool,
}

impl Household {
    /// Of a supervisor on the present runtime.
    pub(crate) fn new(
        inbox: Inbox,
        ledger: Arc<Ledger>,
        doom: Arc<Doom>,
        token: Token,
    ) -> Arc<Self> {
        let household = Arc::new(Self {
            inbox,
            ledger,
            doom,
            office: Mutex::new(None),
            ends_in_order: AtomicBool::new(false),
            runtime: Handle::current(),
            _token: token,
        });
        household.inbox.belongs_to(&household);
        household
    }

    /// Opens the office: the supervisor is there from now on.
    pub(crate) fn open(&self, state: State) {
        *lock(&self.office) = Some(state);
    }

    /// From now on the supervisor's actor is at its end, but not the supervisor.
    pub(crate) fn note_orderly_end(&self) {
        self.ends_in_order.store(true, Ordering::SeqCst);
    }

    /// It was killed, or is about to be, or its actor has not yet begun to end in order.
    fn is_dead(&self) -> bool {
        let ends = self.doom.has_come() || self.inbox.is_nobodys();
        ends && !self.ends_in_order.load(Ordering::SeqCst)
    }

    /// Closes it for good. Waits for whoever is at work.
    pub(crate) fn close(&self) {
        let state = lock(&self.office).take();
        // What it holds is the user's too, and its drop may want to report.
        drop(state);
    }

    /// Looks something up or notes it down.
    pub(crate) fn with<T>(&self, look: impl FnOnce(&mut State) -> T) -> Option<T> {
        lock(&self.office).as_mut().map(look)
    }

    /// The supervisor's own turn at the letters: waits for a keeper that is at them.
    ///
    /// # Panics
    /// When reading panicked, here or in a keeper's task: the supervisor is what fails.
    pub(crate) fn attend(&self, reader: Reader, limit: u32) -> Attended {
        if self.is_dead() {
            // The kill is on its way.
            return Attended {
                more: false,
                ended: false,
            };
        }
        let (attended, fault) = {
            let mut office = lock(&self.office);
            let Some(state) = office.as_mut() else {
                return Attended {
                    more: false,
                    ended: true,
                };
            };
            let attended = state.attend(reader, limit);
            for keeper in state.births() {
                tokio::spawn(keeper);
            }
            (attended, state.fault())
        };
        match fault {
            Some(payload) => resume_unwind(payload),
            None => attended,
        }
    }

    /// Reads what somebody has just put in, in the task that did, where that is one of the same runtime.
    pub(crate) fn serve(&self) {
        let at_home = Handle::try_current().is_ok_and(|here| here.id() == self.runtime.id());
        let office = if at_home { self.enter() } else { None };
        match office {
            Some(office) => {
                if let Some(keeper) = self.work(office, None) {
                    tokio::spawn(keeper);
                }
            }
            None => self.inbox.wake(),
        }
    }

    /// Unless somebody else is at work, or nobody is to be.
    fn enter(&self) -> Option<MutexGuard<'_, Option<State>>> {
        if self.is_dead() {
            return None;
        }
        match self.office.try_lock() {
            Ok(office) => Some(office),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// Has the supervisor know. A keeper that has nothing else to do goes on as the one that comes back.
    pub(crate) fn report(&self, letter: Letter) -> Option<Minding> {
        match self.enter() {
            Some(office) => self.work(office, Some(letter)),
            None => {
                self.inbox.put(letter);
                None
            }
        }
    }

    /// Reads `report`, unless others are before it, and what else is there; what is left is the supervisor's.
    /// The first keeper that is to begin is the caller's to run.
    fn work(
        &self,
        mut office: MutexGuard<'_, Option<State>>,
        report: Option<Letter>,
    ) -> Option<Minding> {
        let state = office.as_mut()?;
        if let Some(report) = report.and_then(|report| state.take(report)) {
            self.inbox.leave(report);
        }
        let Attended { more, ended } = state.attend(Reader::Keeper, LETTERS_PER_REPORT);
        let mut births = state.births();
        let next = births.next();
        for keeper in births {
            tokio::spawn(keeper);
        }
        drop(office);
        if more || ended {
            self.inbox.wake();
        }
        next
    }
}

/// What reading a letter may end in.
pub(crate) type Fault = Box<dyn Any + Send>;

/// What becomes of a supervisor's descendants at its end.
#[derive(Debug, Default)]
pub(crate) struct Ledger(Mutex<ShutdownReport>);

impl Ledger {
    pub(crate) fn note(&self, record: &Record, parting: Parting, brutal: bool) {
        let mut report = lock(&self.0);
        report.killed_by_spec += usize::from(brutal && parting == Parting::Killed);
        match parting {
            Parting::Graceful => report.graceful += 1,
            Parting::Killed => report.killed.push(record.path()),
            Parting::Abandoned => report.abandoned.push(record.path()),
        }
    }

    pub(crate) fn absorb(&self, below: &Self) {
        let below = below.report();
        let mut report = lock(&self.0);
        report.graceful += below.graceful;
        report.killed.extend(below.killed);
        report.killed_by_spec += below.killed_by_spec;
        report.abandoned.extend(below.abandoned);
    }

    pub(crate) fn report(&self) -> ShutdownReport {
        lock(&self.0).clone()
    }
}

/// The end of all children of a supervisor that cannot end them itself.
#[derive(Default)]
pub(crate) struct Doom {
    come: AtomicBool,
    /// Whose keepers want to know.
    enrolled: Mutex<Slab<Arc<Record>>>,
}

impl Doom {
    /// It has come, for good.
    pub(crate) fn come(&self) {
        self.come.store(true, Ordering::SeqCst);
        for (_, record) in &*lock(&self.enrolled) {
            record.doomed();
        }
    }

    fn has_come(&self) -> bool {
        self.come.load(Ordering::SeqCst)
    }

    pub(crate) fn enrol(self: &Arc<Self>, record: &Arc<Record>) -> Enrolment {
        Enrolment {
            at: lock(&self.enrolled).insert(record.clone()),
            doom: self.clone(),
            reported: false,
        }
    }
}

/// Has a keeper hear of the doom, and sees to it that the record of one that is dropped at its work, with
/// the runtime, is closed.
pub(crate) struct Enrolment {
    doom: Arc<Doom>,
    at: usize,
    /// The end is known to whoever is to know it.
    reported: bool,
}

impl Enrolment {
    pub(crate) fn has_come(&self) -> bool {
        self.doom.has_come()
    }

    pub(crate) fn note_reported(&mut self) {
        self.reported = true;
    }
}

impl Drop for Enrolment {
    fn drop(&mut self) {
        let record = lock(&self.doom.enrolled).try_remove(self.at);
        if let Some(record) = record
            && !self.reported
        {
            record.close(&Arc::new(ExitReason::Cancelled));
        }
    }
}
