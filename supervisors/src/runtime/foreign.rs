//! Children that somebody else spawned: only a cell and a join handle are known of them.
//!
//! Its own file because there is no wrapper to tell how they end. What ractor's supervision events
//! say has to do, and those come to the supervisor while a keeper waits for them, with the state of
//! the dead in them.
//!
//! Invariants: an event decides nothing, it only explains an end that the join handle reported; an
//! event that comes before its actor is known waits for it, as long as a start is under way; a state
//! found in an event is dropped by the keeper, before a replacement starts.

use std::any::Any;
use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use ractor::{ActorCell, ActorId, ActorRef, ActorStatus, SupervisionEvent};
use tokio::sync::{Notify, oneshot};
use tokio::time::timeout;

use crate::address::MakeBinding;
use crate::exit::{ExitReason, contained};
use crate::runtime::inbox::Wake;
use crate::runtime::launch::{Launched, Launcher, Order, Process, Refusal, Remains, Takes, made};
use crate::runtime::record::{Record, lock};
use crate::spec::{Spawned, SpecError, StartContext, StartError};

/// How many events of unknown actors are kept while a start is under way.
const EARLY: usize = 64;
/// How long an actor of the wrong type may take to go, and an event to come.
const GRACE: Duration = Duration::from_secs(1);

/// Whatever came with the event of an end.
type Remainder = Box<dyn Any + Send>;

enum Sighting {
    Started,
    Ended(ExitReason, Remainder),
}

/// A child that is known.
struct Stranger {
    cell: ActorCell,
    record: Arc<Record>,
    /// Set when it was told that it is up.
    started: bool,
    /// Cleared when it has fired.
    end: Option<oneshot::Sender<Remainder>>,
}

impl Stranger {
    fn sight(&mut self, sighting: Sighting) {
        match sighting {
            Sighting::Started => {
                if !std::mem::replace(&mut self.started, true) {
                    self.record.arrive(&self.cell);
                    self.record.note_ready();
                }
            }
            Sighting::Ended(reason, remainder) => {
                let Some(end) = self.end.take() else { return };
                self.record.leave();
                match reason {
                    ExitReason::Stopped { reason } => {
                        self.record.note_text(reason);
                        self.record.note_stopped();
                    }
                    other => self.record.note_failure(other),
                }
                if let Err(remainder) = end.send(remainder) {
                    discard(remainder);
                }
            }
        }
    }
}

#[derive(Default)]
struct Register {
    /// Starts under way whose actor is not known yet.
    expected: usize,
    known: HashMap<ActorId, Stranger>,
    /// Events of actors that may turn out to be expected ones.
    early: VecDeque<(ActorId, Sighting)>,
}

/// The foreign children of one supervisor.
#[derive(Default)]
pub(crate) struct Strangers {
    register: Mutex<Register>,
    /// Told when the supervisor has had all events that came before.
    heard: Notify,
}

impl Strangers {
    /// Takes what ractor says of an actor. Gives it back when it is none of ours.
    pub(crate) fn sight(&self, event: SupervisionEvent) -> Option<SupervisionEvent> {
        let who = match &event {
            SupervisionEvent::ActorStarted(who) => who.get_id(),
            // Forged when it still runs.
            SupervisionEvent::ActorTerminated(who, ..) | SupervisionEvent::ActorFailed(who, _)
                if who.get_status() >= ActorStatus::Stopping =>
            {
                who.get_id()
            }
            _ => return Some(event),
        };
        let mut register = lock(&self.register);
        let known = register.known.contains_key(&who);
        if !known && (register.expected == 0 || Record::of(who).is_some()) {
            return Some(event);
        }
        let sighting = match event {
            SupervisionEvent::ActorTerminated(_, state, text) => {
                Sighting::Ended(told(text), Box::new(state))
            }
            SupervisionEvent::ActorFailed(_, error) => {
                Sighting::Ended(ExitReason::Failed(error.into()), Box::new(()))
            }
            _ => Sighting::Started,
        };
        if let Some(stranger) = register.known.get_mut(&who) {
            stranger.sight(sighting);
            return None;
        }
        register.early.push_back((who, sighting));
        let surplus = (register.early.len() > EARLY).then(|| register.early.pop_front());
        drop(register);
        discard(surplus);
        None
    }

    /// The supervisor reads a message, so that there is no event it has not read.
    pub(crate) fn have_been_heard(&self) {
        self.heard.notify_waiters();
    }

    fn is_going(&self, who: ActorId) -> bool {
        let register = lock(&self.register);
        let known = register.known.get(&who);
        known.is_some_and(|stranger| stranger.cell.get_status() < ActorStatus::Stopped)
    }

    fn expect(self: &Arc<Self>) -> Expectation {
        lock(&self.register).expected += 1;
        Expectation(self.clone())
    }
}

/// A start under way.
struct Expectation(Arc<Strangers>);

impl Expectation {
    fn meet(self, mut stranger: Stranger, supervisor: ActorCell) -> Sighted {
        let id = stranger.cell.get_id();
        let (end, ended) = oneshot::channel();
        stranger.end = Some(end);
        let mut register = lock(&self.0.register);
        for (who, sighting) in std::mem::take(&mut register.early) {
            if who == id {
                stranger.sight(sighting);
            } else {
                register.early.push_back((who, sighting));
            }
        }
        let status = stranger.cell.get_status();
        if (ActorStatus::Running..ActorStatus::Stopping).contains(&status) {
            stranger.sight(Sighting::Started);
        }
        register.known.insert(id, stranger);
        drop(register);
        Sighted {
            id,
            supervisor,
            strangers: self.0.clone(),
            ended,
        }
    }
}

impl Drop for Expectation {
    fn drop(&mut self) {
        let mut register = lock(&self.0.register);
        register.expected -= 1;
        let nobodys = (register.expected == 0).then(|| std::mem::take(&mut register.early));
        drop(register);
        discard(nobodys);
    }
}

/// The keeper's hold on a foreign child.
pub(crate) struct Sighted {
    id: ActorId,
    supervisor: ActorCell,
    strangers: Arc<Strangers>,
    ended: oneshot::Receiver<Remainder>,
}

impl Sighted {
    /// What came with the event of the end, if there is one: none comes of an actor that unlinked itself. It is waited for
    /// a second at most, and not for longer than `limit`.
    pub(crate) async fn remainder(mut self, limit: Duration) -> Option<Remainder> {
        // A supervisor that stops reads no more events.
        if self.supervisor.get_status() >= ActorStatus::Stopping {
            return self.ended.try_recv().ok();
        }
        let strangers = self.strangers.clone();
        let mut heard = pin!(strangers.heard.notified());
        heard.as_mut().enable();
        // ractor sends the event before the actor's task ends, and events are read before messages: when the supervisor
        // has read this, it has had the event.
        let _ = ActorRef::<Wake>::from(self.supervisor.clone()).send_message(Wake);
        let asked = async {
            tokio::select! {
                biased;
                ended = &mut self.ended => ended.ok(),
                () = heard => match self.ended.try_recv() {
                    Ok(remainder) => Some(remainder),
                    // Its handle may be done before it is.
                    Err(_) if strangers.is_going(self.id) => (&mut self.ended).await.ok(),
                    Err(_) => None,
                }
            }
        };
        timeout(limit.min(GRACE), asked).await.ok()?
    }
}

impl Drop for Sighted {
    fn drop(&mut self) {
        let stranger = lock(&self.strangers.register).known.remove(&self.id);
        drop(stranger);
    }
}

/// What ractor's text of an end means.
fn told(text: Option<String>) -> ExitReason {
    match text.as_deref() {
        Some("killed") => ExitReason::Killed,
        Some("actor_task_cancelled") => ExitReason::Cancelled,
        // The record knows a drain by its text.
        _ => ExitReason::Stopped { reason: text },
    }
}

/// Drops what may hold a stranger's state, whose drop may panic.
pub(crate) fn discard<T>(what: T) {
    if contained(|| drop(what)).is_none() {
        tracing::warn!(target: "supervisors", "the state of a linked actor panicked in its drop");
    }
}

pub(crate) struct ForeignLauncher<F> {
    spawn: Arc<F>,
}

impl<F> ForeignLauncher<F> {
    pub(crate) fn new(spawn: F) -> Self {
        Self {
            spawn: Arc::new(spawn),
        }
    }
}

impl<F, R> Launcher for ForeignLauncher<F>
where
    F: Fn(StartContext, ActorCell) -> R + Send + Sync + 'static,
    R: Future<Output = Result<Spawned, StartError>> + Send + 'static,
{
    fn takes(&self) -> Takes {
        Takes::Unknown
    }

    fn make_binding(&self) -> Option<MakeBinding> {
        None
    }

    fn launch(&self, order: Order) -> BoxFuture<'static, Result<Launched, Refusal>> {
        let spawn = self.spawn.clone();
        Box::pin(async move {
            let record = order.record;
            let Some(supervisor) = order.supervisor else {
                return Err(Refusal::Failed(Arc::new(ExitReason::NoProcess)));
            };
            let expectation = order.strangers.expect();
            let (context, link) = (order.context, supervisor.clone());
            let spawning = AssertUnwindSafe(async move { spawn(context, link).await });
            let Spawned { cell, join } = made(spawning.catch_unwind().await)?;
            if !record.fits(&cell) {
                cell.kill();
                // Abandoned when it does not go; nobody reaches it anyway.
                let _ = timeout(GRACE, join).await;
                let child = record.id.clone();
                let error = SpecError::AddressType { child };
                return Err(Refusal::Failed(Arc::new(ExitReason::Failed(Arc::new(
                    error,
                )))));
            }
            if cell.try_get_supervisor().map(|above| above.get_id()) != Some(supervisor.get_id()) {
                cell.link(supervisor.clone());
            }
            if record.start_cancelled() {
                cell.kill();
            }
            let stranger = Stranger {
                cell: cell.clone(),
                record: record.clone(),
                started: false,
                end: None,
            };
            let sighted = expectation.meet(stranger, supervisor);
            // Only now: events of actors with a record are no stranger's.
            record.enlist(cell.get_id());
            Ok(Launched {
                process: Process::Actor(cell),
                join,
                remains: Remains::Foreign(Box::new(sighted)),
                supervisor: None,
            })
        })
    }
}
