//! The record of one incarnation: what its end truly was, and who wants to know.
//!
//! Written by the wrapper (which sees callbacks fail), read by the keeper (which sees the task end),
//! closed by the supervisor. It outlives all three for those who hold a monitor or an address.
//!
//! Invariants: a record is closed once, and only then do monitors hear of it, each exactly once; a
//! monitor set on a closed record hears at once; addresses are not filled again once they were
//! emptied. There is one for each child, so what few need is boxed.

use std::collections::HashMap;
use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::task::{Poll, Waker};
use std::time::Duration;

use futures_util::task::AtomicWaker;
use ractor::{ActorCell, ActorId, ActorStatus};
use tokio::runtime::Handle;
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, timeout};

use crate::address::Binding;
use crate::exit::{ExitReason, ShutdownCause, contained};
use crate::id::{ChildId, Generation, SupervisorPath};
use crate::monitor::Ended;
use crate::runtime::inbox::Wake;
use crate::runtime::keeper::{GRACE, Keeper};
use crate::runtime::timesheet::{Meter, Sight, Timesheet};
use crate::shutdown::StopOrder;

type Tell = Box<dyn FnOnce(Ended) + Send>;

/// From how many monitors on it is worth looking for those whose watcher has ended.
const CROWD: usize = 16;

/// Somebody wants to know of the end.
struct Monitor {
    notify: Tell,
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

type Live = HashMap<ActorId, Weak<Record>, foldhash::fast::RandomState>;
static LIVE: LazyLock<Mutex<Live>> = LazyLock::new(Mutex::default);
static REFERENCES: AtomicU64 = AtomicU64::new(1);

/// A lock whose holder cannot panic midway, so that poison carries no meaning.
pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn next_reference() -> u64 {
    REFERENCES.fetch_add(1, Ordering::Relaxed)
}

/// How it came to end, as far as it is known.
#[derive(Default)]
struct Testimony {
    /// Set by the wrapper when a callback fails.
    failure: Option<ExitReason>,
    /// Set by a supervisor about to end in good order.
    cause: Option<ShutdownCause>,
    /// ractor's text for a stop, noted by the supervisor when it hears the event.
    text: Option<String>,
}

#[derive(Default)]
struct Monitors {
    /// By reference.
    set: HashMap<u64, Monitor>,
    /// When there are this many monitors, stale ones are looked for.
    crowd: usize,
}

impl Monitors {
    /// Takes out the monitors whose watcher has ended. Looks for them only when their number has
    /// doubled since the last time, so that setting a monitor stays cheap.
    fn stale(&mut self) -> Vec<Monitor> {
        if self.set.len() < self.crowd.max(CROWD) {
            return Vec::new();
        }
        let stale = self.set.extract_if(|_, monitor| monitor.is_stale());
        let stale = stale.map(|(_, monitor)| monitor).collect();
        self.crowd = self.set.len() * 2;
        stale
    }
}

/// A keeper whose task is running the user's code.
struct Lent {
    keeper: Keeper,
    /// Dropped when that task yields: whoever waits for it hears.
    waiting: Vec<oneshot::Sender<()>>,
}

/// What a keeper is told: end it so; the text is for the actor.
pub(crate) type Command = (StopOrder, Arc<str>);

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
    /// The addresses to be filled.
    bindings: Vec<Arc<dyn Binding>>,
    /// What the keeper has not read yet.
    command: Option<Box<Command>>,
    /// Set while a launch is being polled.
    lent: Option<Box<Lent>>,
    monitors: Option<Box<Monitors>>,
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

    /// Has the keeper end it. One that is done has reported, and reads it no more.
    pub(crate) fn command(self: &Arc<Self>, order: StopOrder, text: Arc<str>) {
        let mut notes = lock(&self.notes);
        let order = match notes.command.take() {
            Some(unread) => unread.0.tightened(order, Duration::ZERO),
            None => order,
        };
        notes.command = Some(Box::new((order, text)));
        self.relieve(&mut notes, order.grace, None);
        drop(notes);
        self.desk.wake();
    }

    /// Has the keeper give the start up, which takes longer than this.
    pub(crate) fn expire(self: &Arc<Self>, limit: Duration) {
        let mut notes = lock(&self.notes);
        self.overdue.store(true, Ordering::SeqCst);
        self.relieve(&mut notes, GRACE, Some(limit));
        drop(notes);
        self.desk.wake();
    }

    /// It is up. A keeper that gave the start up kills what it no longer hears.
    pub(crate) fn note_ready(&self) {
        self.ready.store(true, Ordering::SeqCst);
        self.desk.wake();
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.ready.load(Ordering::SeqCst)
    }

    pub(crate) fn is_overdue(&self) -> bool {
        self.overdue.load(Ordering::SeqCst)
    }

    /// Has the keeper look up: the doom has come.
    pub(crate) fn doomed(self: &Arc<Self>) {
        self.relieve(&mut lock(&self.notes), GRACE, None);
        self.desk.wake();
    }

    /// Keeps the keeper while its task runs the user's code; not when there is something for it to read.
    pub(crate) fn lend(&self, keeper: Keeper) -> Result<(), Keeper> {
        let mut notes = lock(&self.notes);
        // Whoever has news tells it before looking for a keeper that is lent, under this lock.
        if notes.command.is_some() || self.is_overdue() || keeper.doom.has_come() {
            return Err(keeper);
        }
        notes.lent = Some(Box::new(Lent {
            keeper,
            waiting: Vec::new(),
        }));
        Ok(())
    }

    /// Gives the keeper back, unless somebody else has it.
    pub(crate) fn take_back(&self) -> Option<Keeper> {
        let lent = lock(&self.notes).lent.take();
        lent.map(|lent| lent.keeper)
    }

    /// A keeper that cannot look up because the user's code does not yield is relieved.
    fn relieve(self: &Arc<Self>, notes: &mut Notes, grace: Duration, overdue: Option<Duration>) {
        let Some(lent) = &mut notes.lent else {
            return;
        };
        // Without a runtime nothing goes on anyway.
        let Ok(runtime) = Handle::try_current() else {
            return;
        };
        self.cancel_start();
        let (back, returned) = oneshot::channel();
        lent.waiting.push(back);
        let record = self.clone();
        runtime.spawn(async move {
            // It returned, and sees to it itself.
            if timeout(grace, returned).await.is_ok() {
                return;
            }
            let next = record
                .take_back()
                .and_then(|keeper| keeper.relieve(overdue));
            if let Some(next) = next {
                next.await;
            }
        });
    }

    pub(crate) fn take_command(&self) -> Option<Command> {
        lock(&self.notes).command.take().map(|command| *command)
    }

    /// Has the keeper, and nobody else, woken when something is new on its desk. To be looked at after.
    pub(crate) fn wake_at_news(&self, keeper: &Waker) {
        self.desk.register(keeper);
    }

    /// Waits until there is no state any more. Only the keeper may wait.
    pub(crate) async fn emptied(&self) {
        poll_fn(|context| {
            self.wake_at_news(context.waker());
            if self.is_full() {
                Poll::Pending
            } else {
                Poll::Ready(())
            }
        })
        .await;
    }

    pub(crate) fn note_full(&self) {
        self.full.store(true, Ordering::SeqCst);
    }

    pub(crate) fn note_dropping(&self) {
        self.dropping.store(true, Ordering::SeqCst);
        self.desk.wake();
    }

    pub(crate) fn note_emptied(&self) {
        self.full.store(false, Ordering::SeqCst);
        self.desk.wake();
    }

    /// Whether there is a state that was not dropped yet.
    pub(crate) fn is_full(&self) -> bool {
        self.full.load(Ordering::SeqCst)
    }

    /// Whether the task is at its end, but for the drop of the state.
    pub(crate) fn is_dropping(&self) -> bool {
        self.dropping.load(Ordering::SeqCst)
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

    /// Notes that nobody told how it ended.
    pub(crate) fn note_unobserved(&self) {
        let mut notes = lock(&self.notes);
        if !notes.stopped {
            let failure = &mut notes.testimony().failure;
            failure.get_or_insert(ExitReason::Unobserved);
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

    /// Called by the wrapper. From here on ractor need not tell the supervisor anything: the keeper will,
    /// and a second task that is woken costs more than the rest of a restart.
    pub(crate) fn note_failure(&self, reason: ExitReason) {
        self.leave();
        let cell = {
            let mut notes = lock(&self.notes);
            notes.testimony().failure.get_or_insert(reason);
            notes.cell.clone()
        };
        if let Some(cell) = cell
            && let Some(above) = cell.try_get_supervisor()
            && above.is_message_type_of::<Wake>() == Some(true)
        {
            cell.unlink(above);
        }
    }

    pub(crate) fn note_stopped(&self) {
        lock(&self.notes).stopped = true;
    }

    pub(crate) fn note_cause(&self, cause: ShutdownCause) {
        let mut notes = lock(&self.notes);
        notes.testimony().cause.get_or_insert(cause);
    }

    /// What its keeper told it, unless something else was heard.
    pub(crate) fn note_told(&self, text: &str) {
        let mut notes = lock(&self.notes);
        notes
            .testimony()
            .text
            .get_or_insert_with(|| text.to_owned());
    }

    pub(crate) fn note_text(&self, text: Option<String>) {
        if text.is_some() {
            lock(&self.notes).testimony().text = text;
        }
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
        } else if let Some(cell) = &notes.cell {
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

    /// What the notes make of an end that the join handle reported.
    pub(crate) fn verdict(&self, cancelled: bool) -> ExitReason {
        let mut notes = lock(&self.notes);
        let stopped = notes.stopped;
        if let Some(Testimony {
            failure: Some(failure),
            ..
        }) = notes.testimony.as_deref()
        {
            return failure.clone();
        }
        if !stopped {
            return if cancelled {
                ExitReason::Cancelled
            } else {
                ExitReason::Killed
            };
        }
        let Some(testimony) = &mut notes.testimony else {
            return ExitReason::Stopped { reason: None };
        };
        if let Some(cause) = &testimony.cause {
            return ExitReason::Ended(cause.clone());
        }
        match testimony.text.take() {
            Some(text) if text == "Drained" => ExitReason::Drained,
            reason => ExitReason::Stopped { reason },
        }
    }

    /// Closes the record: addresses settle, monitors hear. Calls after the first do nothing.
    pub(crate) fn close(self: &Arc<Self>, reason: &Arc<ExitReason>) {
        self.leave();
        let (monitors, closed) = {
            let mut notes = lock(&self.notes);
            if self.exit.set(reason.clone()).is_err() {
                return;
            }
            if let Some(actor) = notes.actor {
                lock(&LIVE).remove(&actor);
            }
            for binding in &notes.bindings {
                binding.ended(self.generation, reason);
            }
            notes.cell = None;
            (notes.monitors.take(), notes.closed.take())
        };
        if let Some(closed) = closed {
            closed.notify_waiters();
        }
        let monitors = monitors.into_iter().flat_map(|it| it.set.into_values());
        for Monitor { notify, .. } in monitors {
            let ended = self.told(reason.clone());
            // Making the watcher's message of it is the user's code; others still want to hear.
            if contained(|| notify(ended)).is_none() {
                tracing::error!(
                    target: "supervisors",
                    { child.path = %self.path() },
                    "a watcher panicked while it was told"
                );
            }
        }
    }

    pub(crate) fn failure(&self) -> Option<ExitReason> {
        let notes = lock(&self.notes);
        notes.testimony.as_ref()?.failure.clone()
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

    pub(crate) fn monitor(
        self: &Arc<Self>,
        reference: u64,
        notify: Tell,
        watcher: Option<ActorCell>,
    ) {
        let mut notes = lock(&self.notes);
        // Looked up under the lock that `close` takes: no monitor is missed or told twice.
        match self.exit() {
            None => {
                let monitors = notes.monitors.get_or_insert_default();
                let stale = monitors.stale();
                monitors.set.insert(reference, Monitor { notify, watcher });
                // What a watcher's message is made of may be the user's, and so is its drop.
                drop(notes);
                drop(stale);
            }
            Some(reason) => {
                drop(notes);
                notify(self.told(reason));
            }
        }
    }

    pub(crate) fn demonitor(&self, reference: u64) -> bool {
        let mut notes = lock(&self.notes);
        let monitor = notes
            .monitors
            .as_mut()
            .and_then(|it| it.set.remove(&reference));
        // What its message is made of may be the user's, and so is its drop.
        drop(notes);
        monitor.is_some()
    }

    /// What watchers are told.
    fn told(&self, reason: Arc<ExitReason>) -> Ended {
        Ended {
            id: self.id.clone(),
            path: self.path(),
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

#[cfg(test)]
mod tests {
    use super::{CROWD, Record, lock};
    use crate::id::{ChildId, Generation};
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
        let record = Record::new(ChildId::from("a"), None, Generation(1), Vec::new());
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
        let monitors = &notes.monitors.as_ref().unwrap().set;
        assert!(monitors.len() <= CROWD, "{}", monitors.len());
        let faithful = faithful.get_id();
        assert!(monitors.values().any(|monitor| {
            monitor.watcher.as_ref().map(|watcher| watcher.get_id()) == Some(faithful)
        }));
        lives.abort();
    }
}
