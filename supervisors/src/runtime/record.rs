//! The record of one incarnation: what its end truly was, and who wants to know.
//!
//! Written by the wrapper (which sees callbacks fail), read by the keeper (which sees the task end),
//! closed by the supervisor. It outlives all three for those who hold a monitor or an address.
//!
//! Invariants: a record is closed once, and only then do monitors hear of it, each exactly once; a
//! monitor set on a closed record hears at once.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError, Weak};

use ractor::{ActorCell, ActorId, ActorStatus};
use tokio::sync::watch;

use crate::address::Binding;
use crate::exit::{ExitReason, ShutdownCause};
use crate::id::{ChildId, Generation, SupervisorPath};
use crate::monitor::Down;

type Notify = Box<dyn FnOnce(Down) + Send>;

/// From how many monitors on it is worth looking for those whose watcher has ended.
const CROWD: usize = 16;

/// Somebody wants to know of the end.
struct Monitor {
    notify: Notify,
    /// Who; unknown for a watcher that is no actor.
    watcher: Option<ActorCell>,
}

impl Monitor {
    fn is_stale(&self) -> bool {
        self.watcher
            .as_ref()
            .is_some_and(|watcher| watcher.get_status() >= ActorStatus::Stopping)
    }
}

static LIVE: LazyLock<Mutex<HashMap<ActorId, Weak<Record>>>> = LazyLock::new(Mutex::default);
static REFERENCES: AtomicU64 = AtomicU64::new(1);

/// A lock whose holder cannot panic midway, so that poison carries no meaning.
pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn next_reference() -> u64 {
    REFERENCES.fetch_add(1, Ordering::Relaxed)
}

#[derive(Default)]
struct Notes {
    /// Set by the wrapper when a callback fails.
    failure: Option<ExitReason>,
    /// Set by the wrapper when `post_stop` has run to its end.
    stopped: bool,
    /// Set by a supervisor about to end in good order.
    cause: Option<ShutdownCause>,
    /// ractor's text for a stop, noted by the supervisor when it hears the event.
    text: Option<String>,
    /// Set when the actor exists; for finding the record by it.
    actor: Option<ActorId>,
    monitors: HashMap<u64, Monitor>,
    /// When there are this many monitors, stale ones are looked for.
    crowd: usize,
}

impl Notes {
    /// Takes out the monitors whose watcher has ended. Looks for them only when their number has
    /// doubled since the last time, so that setting a monitor stays cheap.
    fn stale_monitors(&mut self) -> Vec<Monitor> {
        if self.monitors.len() < self.crowd.max(CROWD) {
            return Vec::new();
        }
        let stale = self.monitors.extract_if(|_, monitor| monitor.is_stale());
        let stale = stale.map(|(_, monitor)| monitor).collect();
        self.crowd = self.monitors.len() * 2;
        stale
    }
}

pub(crate) struct Record {
    pub(crate) id: ChildId,
    pub(crate) path: SupervisorPath,
    pub(crate) generation: Generation,
    bindings: Vec<Arc<dyn Binding>>,
    notes: Mutex<Notes>,
    /// The start was given up; whatever becomes of it must die.
    cancelled: AtomicBool,
    leaving: AtomicBool,
    exit: watch::Sender<Option<Arc<ExitReason>>>,
}

impl Record {
    pub(crate) fn new(
        id: ChildId,
        path: SupervisorPath,
        generation: Generation,
        bindings: Vec<Arc<dyn Binding>>,
    ) -> Arc<Self> {
        Arc::new(Self {
            id,
            path,
            generation,
            bindings,
            notes: Mutex::default(),
            cancelled: AtomicBool::new(false),
            leaving: AtomicBool::new(false),
            exit: watch::Sender::new(None),
        })
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
        self.bindings.iter().all(|binding| binding.fits(cell))
    }

    /// Notes that nobody told how it ended.
    pub(crate) fn note_unobserved(&self) {
        let mut notes = lock(&self.notes);
        if notes.failure.is_none() && !notes.stopped {
            notes.failure = Some(ExitReason::Unobserved);
        }
    }

    /// The actor, from its `pre_start` on.
    pub(crate) fn actor(&self) -> Option<ActorId> {
        lock(&self.notes).actor
    }

    pub(crate) fn cancel_start(&self) {
        self.cancelled.store(true, Ordering::SeqCst);
    }

    pub(crate) fn start_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::SeqCst)
    }

    pub(crate) fn note_failure(&self, reason: ExitReason) {
        self.leave();
        lock(&self.notes).failure.get_or_insert(reason);
    }

    pub(crate) fn note_stopped(&self) {
        lock(&self.notes).stopped = true;
    }

    pub(crate) fn note_cause(&self, cause: ShutdownCause) {
        lock(&self.notes).cause.get_or_insert(cause);
    }

    pub(crate) fn note_text(&self, text: Option<String>) {
        lock(&self.notes).text = text;
    }

    /// Fills the addresses. Called by the incarnation itself once it is ready, hence never after
    /// its own failure or stop.
    pub(crate) fn arrive(self: &Arc<Self>, cell: &ractor::ActorCell) {
        for binding in &self.bindings {
            binding.up(cell, self);
        }
    }

    /// Empties the addresses: the first sign of the end.
    pub(crate) fn leave(&self) {
        if !self.leaving.swap(true, Ordering::SeqCst) {
            for binding in &self.bindings {
                binding.leaving(self.generation);
            }
        }
    }

    /// What the notes make of an end that the join handle reported.
    pub(crate) fn verdict(&self, cancelled: bool) -> ExitReason {
        let mut notes = lock(&self.notes);
        if let Some(failure) = &notes.failure {
            return failure.clone();
        }
        if !notes.stopped {
            return if cancelled {
                ExitReason::Cancelled
            } else {
                ExitReason::Killed
            };
        }
        if let Some(cause) = &notes.cause {
            return ExitReason::Ended(cause.clone());
        }
        match notes.text.take() {
            Some(text) if text == "Drained" => ExitReason::Drained,
            reason => ExitReason::Stopped { reason },
        }
    }

    /// Closes the record: addresses settle, monitors hear. Calls after the first do nothing.
    pub(crate) fn close(self: &Arc<Self>, reason: &Arc<ExitReason>) {
        self.leave();
        let monitors = {
            let mut notes = lock(&self.notes);
            let first = self.exit.send_if_modified(|exit| {
                let first = exit.is_none();
                exit.get_or_insert_with(|| reason.clone());
                first
            });
            if !first {
                return;
            }
            if let Some(actor) = notes.actor {
                lock(&LIVE).remove(&actor);
            }
            std::mem::take(&mut notes.monitors)
        };
        for binding in &self.bindings {
            binding.ended(self.generation, reason);
        }
        for (reference, Monitor { notify, .. }) in monitors {
            let down = self.down(reference, reason.clone());
            // Making the watcher's message of it is the user's code; others still want to hear.
            if catch_unwind(AssertUnwindSafe(|| notify(down))).is_err() {
                tracing::error!(
                    target: "supervisors",
                    { child.path = %self.path },
                    "a watcher panicked while it was told"
                );
            }
        }
    }

    pub(crate) fn failure(&self) -> Option<ExitReason> {
        lock(&self.notes).failure.clone()
    }

    pub(crate) fn exit(&self) -> Option<Arc<ExitReason>> {
        self.exit.borrow().clone()
    }

    pub(crate) async fn ended(&self) -> Arc<ExitReason> {
        let mut exit = self.exit.subscribe();
        match exit.wait_for(Option::is_some).await {
            Ok(reason) => match &*reason {
                Some(reason) => reason.clone(),
                None => Arc::new(ExitReason::Unobserved),
            },
            Err(_) => Arc::new(ExitReason::Unobserved),
        }
    }

    pub(crate) fn monitor(
        self: &Arc<Self>,
        reference: u64,
        notify: Notify,
        watcher: Option<ActorCell>,
    ) {
        let mut notes = lock(&self.notes);
        // Looked up under the lock that `close` takes: no monitor is missed or told twice.
        match self.exit() {
            None => {
                let stale = notes.stale_monitors();
                notes
                    .monitors
                    .insert(reference, Monitor { notify, watcher });
                // What a watcher's message is made of may be the user's, and so is its drop.
                drop(notes);
                drop(stale);
            }
            Some(reason) => {
                drop(notes);
                notify(self.down(reference, reason));
            }
        }
    }

    pub(crate) fn demonitor(&self, reference: u64) -> bool {
        lock(&self.notes).monitors.remove(&reference).is_some()
    }

    fn down(&self, reference: u64, reason: Arc<ExitReason>) -> Down {
        Down {
            reference,
            id: self.id.clone(),
            path: self.path.clone(),
            generation: self.generation,
            reason,
        }
    }
}

/// An end on its way to the supervisor. Lost or handled, the record is closed.
pub(crate) struct Obituary {
    pub(crate) record: Arc<Record>,
    pub(crate) reason: Arc<ExitReason>,
}

impl Obituary {
    /// Adds ractor's text of a stop, which came by the supervisor's other port.
    pub(crate) fn complete(&mut self) {
        if matches!(*self.reason, ExitReason::Stopped { reason: None }) {
            self.reason = Arc::new(self.record.verdict(false));
        }
    }
}

impl Drop for Obituary {
    fn drop(&mut self) {
        self.record.close(&self.reason);
    }
}

#[cfg(test)]
mod tests {
    use super::{CROWD, Record, lock};
    use crate::id::{ChildId, Generation, SupervisorPath};
    use crate::monitor::Down;
    use ractor::{Actor, ActorProcessingErr, ActorRef};

    struct Watching;

    #[cfg_attr(feature = "async-trait", ractor::async_trait)]
    impl Actor for Watching {
        type Msg = Down;
        type State = ();
        type Arguments = ();

        async fn pre_start(&self, _: ActorRef<Down>, (): ()) -> Result<(), ActorProcessingErr> {
            Ok(())
        }
    }

    /// A target that outlives its watchers does not collect them.
    #[tokio::test]
    async fn monitors_of_watchers_that_have_ended_do_not_pile_up() {
        let record = Record::new(
            ChildId::from("a"),
            SupervisorPath::root("a"),
            Generation(1),
            Vec::new(),
        );
        let (faithful, lives) = Actor::spawn(None, Watching, ()).await.unwrap();
        crate::monitor::monitor_record(&faithful, &record);
        for _ in 0..10 * CROWD {
            let (watcher, ended) = Actor::spawn(None, Watching, ()).await.unwrap();
            let set = crate::monitor::monitor_record(&watcher, &record);
            watcher.stop(None);
            ended.await.unwrap();
            drop(set);
        }
        let notes = lock(&record.notes);
        assert!(notes.monitors.len() <= CROWD, "{}", notes.monitors.len());
        let faithful = faithful.get_id();
        assert!(notes.monitors.values().any(|monitor| {
            monitor.watcher.as_ref().map(|watcher| watcher.get_id()) == Some(faithful)
        }));
        lives.abort();
    }
}
