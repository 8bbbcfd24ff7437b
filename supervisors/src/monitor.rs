//! Monitors: one message when an actor has ended, without any link to it.
//!
//! The contract is Erlang's: each monitor has its own reference and yields exactly one [`Down`],
//! also when the actor had ended before. ractor's own monitors keep silent then, are keyed by
//! watcher, and share a port with the events of children; so none of that is used.
//!
//! Invariants: two monitors on one actor are independent; a `Down` is an ordinary message of the
//! watcher and touches nobody's supervision events; monitors of watchers that have ended do not pile
//! up at a supervised actor that lives on.

use std::sync::{Arc, Weak};

use ractor::{ActorCell, ActorRef, DerivedActorRef, Message};

use crate::exit::ExitReason;
use crate::id::{ChildId, Generation, SupervisorPath};
use crate::runtime::record::{Record, next_reference};

/// An actor that was monitored has ended.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Down {
    /// Which monitor this belongs to; compare with [`MonitorRef::reference`].
    pub reference: u64,
    /// The actor's child id; empty for one that is not supervised by this crate.
    pub id: ChildId,
    /// Its place in the tree.
    pub path: SupervisorPath,
    /// Its incarnation.
    pub generation: Generation,
    /// How it ended.
    pub reason: Arc<ExitReason>,
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

/// A monitor that was set. Dropping it changes nothing; [`demonitor`](Self::demonitor) ends it.
#[derive(Debug)]
pub struct MonitorRef {
    reference: u64,
    watched: Watched,
}

enum Watched {
    Record(Weak<Record>),
    Task(tokio::task::AbortHandle),
}

impl std::fmt::Debug for Watched {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Record(_) => "supervised",
            Self::Task(_) => "foreign",
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
        match self.watched {
            Watched::Record(record) => record
                .upgrade()
                .is_some_and(|record| record.demonitor(self.reference)),
            Watched::Task(task) => {
                let pending = !task.is_finished();
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
pub fn monitor(watcher: &impl Watcher, target: impl Into<ActorCell>) -> MonitorRef {
    let target = target.into();
    match Record::of(target.get_id()) {
        Some(record) => monitor_record(watcher, &record),
        None => {
            let reference = next_reference();
            let tell = watcher.deliver();
            let name = target.get_name().unwrap_or_default();
            let task = tokio::spawn(async move {
                let was_up = target.get_status() < ractor::ActorStatus::Stopping;
                // Never fails without a limit; returns at once for one that has stopped.
                let _ = target.wait(None).await;
                let reason = if was_up {
                    ExitReason::Unobserved
                } else {
                    ExitReason::NoProcess
                };
                tell(Down {
                    reference,
                    id: ChildId::from(""),
                    path: SupervisorPath::root(&name),
                    generation: Generation::default(),
                    reason: Arc::new(reason),
                });
            });
            MonitorRef {
                reference,
                watched: Watched::Task(task.abort_handle()),
            }
        }
    }
}

pub(crate) fn monitor_record(watcher: &impl Watcher, record: &Arc<Record>) -> MonitorRef {
    let reference = next_reference();
    record.monitor(reference, watcher.deliver(), watcher.cell());
    MonitorRef {
        reference,
        watched: Watched::Record(Arc::downgrade(record)),
    }
}

/// A monitor on nothing: its `Down` comes at once.
pub(crate) fn monitor_nothing(watcher: &impl Watcher) -> MonitorRef {
    let reference = next_reference();
    watcher.deliver()(Down {
        reference,
        id: ChildId::from(""),
        path: SupervisorPath::root(""),
        generation: Generation::default(),
        reason: Arc::new(ExitReason::NoProcess),
    });
    MonitorRef {
        reference,
        watched: Watched::Record(Weak::new()),
    }
}
