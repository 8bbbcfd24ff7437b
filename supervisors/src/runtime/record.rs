//! The record of one incarnation: what its end truly was, and who wants to know.
//!
//! Written by the wrapper (which sees callbacks fail), read by the keeper (which sees the task end),
//! closed by the supervisor. It outlives all three for those who hold a monitor or an address.
//!
//! Invariants: a record is closed once, and only then do monitors hear of it, each exactly once; a
//! monitor set on a closed record hears at once; addresses are not filled again once they were
//! emptied. There is one for each child, so what few need is boxed.

mod desk;
mod monitors;
mod testimony;

use std::collections::HashMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use futures_util::task::AtomicWaker;
use ractor::{ActorCell, ActorId};
use tokio::sync::Notify;
use tokio::time::Instant;
use tracing::Span;

use crate::address::Binding;
use crate::exit::ExitReason;
use crate::id::{ChildId, Generation, SupervisorPath};
use crate::runtime::timesheet::{Meter, Sight, Timesheet};

pub(crate) use desk::Command;
use desk::Lent;
use monitors::Monitors;
pub(crate) use monitors::next_reference;
use testimony::Testimony;

type Live = HashMap<ActorId, Weak<Record>, foldhash::fast::RandomState>;
static LIVE: LazyLock<Mutex<Live>> = LazyLock::new(Mutex::default);

/// A lock whose holder cannot panic midway, so that poison carries no meaning.
pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Default)]
struct Notes {
    testimony: Option<Box<Testimony>>,
    /// Set by the wrapper when `post_stop` has run to its end.
    stopped: bool,
    /// Set at the first sign of the end.
    leaving: bool,
    /// Set when the actor exists; for finding the record by it.
    actor: Option<ActorId>,
    /// Set from when it was ready to when the record is closed.
    cell: Option<ActorCell>,
    /// The addresses to be filled; none once the record is closed.
    bindings: Vec<Arc<dyn Binding>>,
    /// What the keeper has not read yet.
    command: Option<Box<Command>>,
    /// Set while a launch is being polled.
    lent: Option<Box<Lent>>,
    monitors: Option<Box<Monitors>>,
    /// What is done with it at present, while somebody traces that: its start, and then its stop.
    work: Option<Box<Span>>,
    /// Made when somebody waits for the end.
    closed: Option<Arc<Notify>>,
    /// The callback that was under way when somebody last looked.
    seen: Option<Box<Sight>>,
}

impl Notes {
    fn testimony(&mut self) -> &mut Testimony {
        self.testimony.get_or_insert_default()
    }
}

pub(crate) struct Record {
    pub(crate) id: ChildId,
    /// Where its supervisor stands; nowhere for a root.
    above: Option<SupervisorPath>,
    pub(crate) generation: Generation,
    pub(crate) sheet: Timesheet,
    notes: Mutex<Notes>,
    /// The start was given up; whatever becomes of it must die.
    cancelled: AtomicBool,
    /// The start took too long. Set under the lock of the notes.
    overdue: AtomicBool,
    /// It is up; set once.
    ready: AtomicBool,
    /// There is a state that was not dropped yet.
    full: AtomicBool,
    /// The state is being dropped.
    dropping: AtomicBool,
    /// Wakes the keeper, which then looks at all of this.
    desk: AtomicWaker,
    exit: OnceLock<Arc<ExitReason>>,
}

impl Record {
    pub(crate) fn new(
        id: ChildId,
        above: Option<SupervisorPath>,
        generation: Generation,
        bindings: Vec<Arc<dyn Binding>>,
    ) -> Arc<Self> {
        Arc::new(Self {
            id,
            above,
            generation,
            sheet: Timesheet::new(),
            notes: Mutex::new(Notes {
                bindings,
                ..Notes::default()
            }),
            cancelled: AtomicBool::new(false),
            overdue: AtomicBool::new(false),
            ready: AtomicBool::new(false),
            full: AtomicBool::new(false),
            dropping: AtomicBool::new(false),
            desk: AtomicWaker::new(),
            exit: OnceLock::new(),
        })
    }

    /// Its place in the tree.
    pub(crate) fn path(&self) -> SupervisorPath {
        match &self.above {
            Some(above) => above.child(&self.id),
            None => SupervisorPath::root(self.id.as_str()),
        }
    }

    /// What was counted so far.
    pub(crate) fn meter(&self) -> Meter {
        let mut notes = lock(&self.notes);
        let sent = notes
            .bindings
            .iter()
            .map(|binding| binding.sent(self.generation))
            .reduce(u64::saturating_add);
        let mut seen = notes.seen.take().map(|seen| *seen);
        let meter = self.sheet.read(Instant::now(), &mut seen);
        notes.seen = seen.map(Box::new);
        Meter { sent, ..meter }
    }

    /// The record of a live supervised actor.
    pub(crate) fn of(actor: ActorId) -> Option<Arc<Self>> {
        lock(&LIVE).get(&actor).and_then(Weak::upgrade)
    }

    pub(crate) fn enlist(self: &Arc<Self>, actor: ActorId) {
        lock(&self.notes).actor = Some(actor);
        lock(&LIVE).insert(actor, Arc::downgrade(self));
    }

    /// Whether every address can take this actor.
    pub(crate) fn fits(&self, cell: &ActorCell) -> bool {
        let notes = lock(&self.notes);
        notes.bindings.iter().all(|binding| binding.fits(cell))
    }

    /// The actor, from its `pre_start` on.
    pub(crate) fn actor(&self) -> Option<ActorId> {
        lock(&self.notes).actor
    }

    /// Fills the addresses. Called by the incarnation itself once it is ready, hence never after
    /// its own failure or stop.
    pub(crate) fn arrive(self: &Arc<Self>, cell: &ractor::ActorCell) {
        let mut notes = lock(&self.notes);
        // One that was left behind may come here late.
        if !notes.leaving {
            notes.cell = Some(cell.clone());
            for binding in &notes.bindings {
                binding.up(cell, self);
            }
        }
    }

    /// Adds an address, which is told at once what it missed.
    pub(crate) fn bind(self: &Arc<Self>, binding: Arc<dyn Binding>) {
        let mut notes = lock(&self.notes);
        if let Some(reason) = self.exit.get() {
            binding.recall(self, reason);
            return;
        }
        if let Some(cell) = &notes.cell {
            binding.up(cell, self);
            if notes.leaving {
                binding.leaving(self.generation);
            }
        }
        notes.bindings.push(binding);
    }

    /// Empties the addresses: the first sign of the end.
    pub(crate) fn leave(&self) {
        let mut notes = lock(&self.notes);
        if !std::mem::replace(&mut notes.leaving, true) {
            for binding in &notes.bindings {
                binding.leaving(self.generation);
            }
        }
    }

    /// Closes the record: addresses settle, monitors hear. Calls after the first do nothing.
    pub(crate) fn close(self: &Arc<Self>, reason: &Arc<ExitReason>) {
        self.leave();
        let (monitors, closed, bindings) = {
            let mut notes = lock(&self.notes);
            if self.exit.set(reason.clone()).is_err() {
                return;
            }
            if let Some(actor) = notes.actor {
                lock(&LIVE).remove(&actor);
            }
            let bindings = std::mem::take(&mut notes.bindings);
            for binding in &bindings {
                binding.ended(self.generation, reason);
            }
            notes.cell = None;
            (notes.monitors.take(), notes.closed.take(), bindings)
        };
        // They remember the record.
        drop(bindings);
        self.let_go_of_spans();
        if let Some(closed) = closed {
            closed.notify_waiters();
        }
        if let Some(monitors) = monitors {
            self.tell(*monitors, reason);
        }
    }

    pub(crate) fn exit(&self) -> Option<Arc<ExitReason>> {
        self.exit.get().cloned()
    }

    pub(crate) async fn ended(&self) -> Arc<ExitReason> {
        loop {
            let closed = {
                let mut notes = lock(&self.notes);
                // Looked up under the lock that `close` takes: no notice is missed.
                if let Some(reason) = self.exit() {
                    return reason;
                }
                notes
                    .closed
                    .get_or_insert_default()
                    .clone()
                    .notified_owned()
            };
            closed.await;
        }
    }
}

/// An end on its way to the supervisor. Lost or handled, the record is closed.
pub(crate) struct Obituary {
    pub(crate) record: Arc<Record>,
    pub(crate) reason: Arc<ExitReason>,
}

impl Obituary {
    /// Whether a text of ractor's may belong to it.
    pub(crate) fn wants_text(&self) -> bool {
        matches!(*self.reason, ExitReason::Stopped { reason: None })
    }

    /// Adds ractor's text of a stop, which came by the supervisor's other port.
    pub(crate) fn complete(&mut self) {
        if self.wants_text() {
            self.reason = Arc::new(self.record.verdict(false));
        }
    }
}

impl Drop for Obituary {
    fn drop(&mut self) {
        self.record.close(&self.reason);
    }
}
