//! Who wants to know of an incarnation's end.
//!
//! Apart because others than its supervisor use it.
//!
//! Invariants: each monitor is told once or was taken back; those whose watcher has ended do not pile up.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ractor::{ActorCell, ActorStatus};

use super::{Record, lock};
use crate::exit::{ExitReason, contained};
use crate::monitor::Ended;

type Tell = Box<dyn FnOnce(Ended) + Send>;

/// From how many monitors on it is worth looking for those whose watcher has ended.
const CROWD: usize = 16;

static REFERENCES: AtomicU64 = AtomicU64::new(1);

pub(crate) fn next_reference() -> u64 {
    REFERENCES.fetch_add(1, Ordering::Relaxed)
}

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

#[derive(Default)]
pub(super) struct Monitors {
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

impl Record {
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

    /// Tells them of the end.
    pub(super) fn tell(&self, monitors: Monitors, reason: &Arc<ExitReason>) {
        for Monitor { notify, .. } in monitors.set.into_values() {
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

#[cfg(test)]
mod tests {
    use super::super::{Record, lock};
    use super::CROWD;
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
