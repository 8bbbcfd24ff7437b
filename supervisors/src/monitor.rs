//! Monitors: one message when an actor has ended, without any link to it.
//!
//! The contract is Erlang's: each monitor has its own reference and yields exactly one [`Down`],
//! also when the actor had ended before. ractor's own monitors keep silent then, are keyed by
//! watcher, and share a port with the events of children; so none of that is used.
//!
//! A message cannot be taken out of a mailbox again, so what Erlang's `demonitor` does with `flush`
//! is enforced by type: what a `Down` says is reached by [`Down::claim`] alone, and not any more once
//! [`MonitorRef::demonitor_flush`] was called.
//!
//! Invariants: two monitors on one actor are independent; a `Down` is an ordinary message of the
//! watcher and touches nobody's supervision events; of a claim and a flush exactly one succeeds;
//! monitors of watchers that have ended do not pile up at a supervised actor that lives on.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use ractor::{ActorCell, ActorRef, DerivedActorRef, Message};

use crate::exit::ExitReason;
use crate::id::{ChildId, Generation, SupervisorPath};
use crate::runtime::record::{Record, next_reference};

/// An actor that was monitored has ended. How is told by [`claim`](Self::claim).
#[must_use = "what it says is told by `claim`"]
pub struct Down {
    reference: u64,
    ended: Ended,
    settled: Settled,
}

/// Set by the first of claim and flush.
type Settled = Arc<AtomicBool>;

/// How an actor that was monitored ended.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Ended {
    /// The actor's child id; empty for one that is not supervised by this crate.
    pub id: ChildId,
    /// Its place in the tree.
    pub path: SupervisorPath,
    /// Its incarnation.
    pub generation: Generation,
    /// How it ended.
    pub reason: Arc<ExitReason>,
}

impl Down {
    /// Which monitor this belongs to; compare with [`MonitorRef::reference`].
    #[must_use]
    pub fn reference(&self) -> u64 {
        self.reference
    }

    /// How the actor ended; `None` when the monitor was given back by
    /// [`demonitor_flush`](MonitorRef::demonitor_flush) while this waited in the mailbox: then it is
    /// to be ignored.
    #[must_use]
    pub fn claim(self) -> Option<Ended> {
        let first = !self.settled.swap(true, Ordering::SeqCst);
        first.then_some(self.ended)
    }
}

/// Without what it says, which may be void.
impl fmt::Debug for Down {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Down")
            .field("reference", &self.reference)
            .finish_non_exhaustive()
    }
}

crate::message!(Down);

/// Who can be told of a [`Down`]: an `ActorRef` or `DerivedActorRef` whose messages hold one.
pub trait Watcher {
    /// How to reach it.
    fn deliver(&self) -> Box<dyn FnOnce(Down) + Send>;

    /// The actor that is told, where there is one: its monitors are forgotten when it has ended.
    fn cell(&self) -> Option<ActorCell> {
        None
    }
}

impl<W: Message + From<Down>> Watcher for ActorRef<W> {
    fn deliver(&self) -> Box<dyn FnOnce(Down) + Send> {
        let watcher = self.clone();
        // A watcher that has ended meanwhile no longer wants to know.
        Box::new(move |down| drop(watcher.send_message(W::from(down))))
    }

    fn cell(&self) -> Option<ActorCell> {
        Some(self.get_cell())
    }
}

impl Watcher for DerivedActorRef<Down> {
    fn deliver(&self) -> Box<dyn FnOnce(Down) + Send> {
        let watcher = self.clone();
        Box::new(move |down| drop(watcher.send_message(down)))
    }

    fn cell(&self) -> Option<ActorCell> {
        Some(self.get_cell())
    }
}

/// A monitor that was set. Dropping it changes nothing; [`demonitor`](Self::demonitor) and
/// [`demonitor_flush`](Self::demonitor_flush) end it.
#[derive(Debug)]
pub struct MonitorRef {
    reference: u64,
    watched: Watched,
    settled: Settled,
}

enum Watched {
    Record(Weak<Record>),
    Task {
        task: tokio::task::AbortHandle,
        /// Set by whoever comes first: the task about to tell, or a demonitor.
        over: Arc<AtomicBool>,
    },
}

impl fmt::Debug for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Record(_) => "supervised",
            Self::Task { .. } => "foreign",
        })
    }
}

impl MonitorRef {
    /// The number that this monitor's [`Down`] bears.
    #[must_use]
    pub fn reference(&self) -> u64 {
        self.reference
    }

    /// Takes the monitor back. `true`: no `Down` will come. `false`: it has been sent already and
    /// may wait in the mailbox, to be known by its reference.
    pub fn demonitor(self) -> bool {
        self.end()
    }

    /// Takes the monitor back together with a `Down` that may wait in the mailbox: from now on none
    /// of this monitor can be claimed. `false`: it had been claimed before.
    pub fn demonitor_flush(self) -> bool {
        let first = !self.settled.swap(true, Ordering::SeqCst);
        self.end();
        first
    }

    fn end(&self) -> bool {
        match &self.watched {
            Watched::Record(record) => record
                .upgrade()
                .is_some_and(|record| record.demonitor(self.reference)),
            Watched::Task { task, over } => {
                let pending = !over.swap(true, Ordering::SeqCst);
                task.abort();
                pending
            }
        }
    }
}

/// Watches the actor behind `target`; `watcher` gets exactly one [`Down`].
///
/// Actors that this crate does not supervise can be watched too; how they ended is then unknown
/// ([`ExitReason::Unobserved`]), and a runtime must be present. Prefer
/// [`Address::monitor`](crate::Address::monitor), which also knows how a past incarnation ended.
///
/// The watcher's message is made from a `Down`:
///
/// ```
/// use mainstay_supervisors::{Down, monitor};
/// use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef};
///
/// enum Msg {
///     Watch(ActorCell),
///     Down(Down),
/// }
/// mainstay_supervisors::message!(Msg);
///
/// impl From<Down> for Msg {
///     fn from(down: Down) -> Self {
///         Self::Down(down)
///     }
/// }
///
/// struct Guard;
///
/// # #[cfg_attr(feature = "async-trait", ractor::async_trait)]
/// impl Actor for Guard {
///     type Msg = Msg;
///     type State = ();
///     type Arguments = ();
///
///     async fn pre_start(&self, _: ActorRef<Msg>, (): ()) -> Result<(), ActorProcessingErr> {
///         Ok(())
///     }
///
///     async fn handle(&self, myself: ActorRef<Msg>, msg: Msg, (): &mut ()) -> Result<(), ActorProcessingErr> {
///         match msg {
///             Msg::Watch(worker) => drop(monitor(&myself, worker)),
///             // Taken back meanwhile, there is nothing to claim.
///             Msg::Down(down) => {
///                 if let Some(ended) = down.claim() {
///                     println!("{} ended: {}", ended.path, ended.reason);
///                 }
///             }
///         }
///         Ok(())
///     }
/// }
/// ```
///
/// # Panics
/// Outside a tokio runtime, for an actor that this crate does not supervise; one that it does is watched without.
pub fn monitor(watcher: &impl Watcher, target: impl Into<ActorCell>) -> MonitorRef {
    let target = target.into();
    match Record::of(target.get_id()) {
        Some(record) => monitor_record(watcher, &record),
        None => monitor_foreign(watcher, target),
    }
}

fn monitor_foreign(watcher: &impl Watcher, target: ActorCell) -> MonitorRef {
    let (reference, settled, tell) = telling(watcher);
    let over = Arc::new(AtomicBool::new(false));
    let reason = if target.get_status() < ractor::ActorStatus::Stopping {
        ExitReason::Unobserved
    } else {
        ExitReason::NoProcess
    };
    let first = over.clone();
    let cell = watcher.cell();
    let task = tokio::spawn(async move {
        let forgotten = async {
            match cell {
                Some(cell) => cell.wait(None).await,
                None => std::future::pending().await,
            }
        };
        // Neither fails without a limit; both return at once for one that has stopped.
        tokio::select! {
            biased;
            _ = target.wait(None) => {}
            // Nobody wants to know any more.
            _ = forgotten => return,
        }
        if !first.swap(true, Ordering::SeqCst) {
            let name = target.get_name().unwrap_or_default();
            tell(nobody(&name, reason));
        }
    });
    MonitorRef {
        reference,
        watched: Watched::Task {
            task: task.abort_handle(),
            over,
        },
        settled,
    }
}

pub(crate) fn monitor_record(watcher: &impl Watcher, record: &Arc<Record>) -> MonitorRef {
    let (reference, settled, tell) = telling(watcher);
    record.monitor(reference, tell, watcher.cell());
    MonitorRef {
        reference,
        watched: Watched::Record(Arc::downgrade(record)),
        settled,
    }
}

/// A monitor on nothing: its `Down` comes at once.
pub(crate) fn monitor_nothing(watcher: &impl Watcher) -> MonitorRef {
    let (reference, settled, tell) = telling(watcher);
    tell(nobody("", ExitReason::NoProcess));
    MonitorRef {
        reference,
        watched: Watched::Record(Weak::new()),
        settled,
    }
}

/// A new monitor's reference and mark, and how its watcher is told.
fn telling(watcher: &impl Watcher) -> (u64, Settled, Box<dyn FnOnce(Ended) + Send>) {
    let reference = next_reference();
    let settled = Settled::default();
    let deliver = watcher.deliver();
    let shared = settled.clone();
    let tell = move |ended| {
        deliver(Down {
            reference,
            ended,
            settled: shared,
        });
    };
    (reference, settled, Box::new(tell))
}

fn nobody(name: &str, reason: ExitReason) -> Ended {
    Ended {
        id: ChildId::from(""),
        path: SupervisorPath::root(name),
        generation: Generation::default(),
        reason: Arc::new(reason),
    }
}
