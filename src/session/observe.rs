//! Who is told of a session's life: its steps from status to status, its gaps, confirmations and grants.
//!
//! Apart from subscriptions because an observer is about the session and not about data, and because it may
//! lose: each has a bounded queue, and what finds no room there is counted.
//!
//! Invariants: nobody waits for an observer; one that panics, or is slow, harms neither the session nor
//! another observer; an observer that is dropped is told nothing more.

use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use super::Session;
use super::task::OwnedTask;
use crate::close::GapCause;
use crate::protocol::cadence::Rung;
use crate::protocol::continuity::Epoch;
use crate::protocol::status::Transition;

/// What an observer is told.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Notice {
    /// The session went from one status to another.
    Status(Transition),
    /// Subscriptions were interrupted.
    Gap {
        /// The connection's epoch.
        epoch: Epoch,
        /// Why.
        cause: GapCause,
        /// How many were told.
        subscriptions: u64,
    },
    /// The venue confirmed a channel, for the first time or again.
    Confirmed {
        /// The connection's epoch.
        epoch: Epoch,
        /// Which.
        channel: Arc<str>,
    },
    /// The venue refused a channel for good.
    Refused {
        /// The connection's epoch.
        epoch: Epoch,
        /// Which.
        channel: Arc<str>,
        /// What it said.
        detail: String,
    },
    /// The data of a channel with a cadence is late, and so much has been done about it.
    Stale {
        /// The connection's epoch.
        epoch: Epoch,
        /// Which channel.
        channel: Arc<str>,
        /// What is done now.
        rung: Rung,
        /// How long no data has come.
        quiet: Duration,
    },
    /// Data of a channel that was stale comes again.
    Fresh {
        /// The connection's epoch.
        epoch: Epoch,
        /// Which channel.
        channel: Arc<str>,
    },
    /// The venue granted authorization, or renewed it.
    Authorized {
        /// The connection's epoch.
        epoch: Epoch,
        /// For how long; `None` for ever.
        lasts: Option<Duration>,
    },
    /// The venue refused our credentials, or took authorization back.
    Unauthorized {
        /// The connection's epoch.
        epoch: Epoch,
        /// What it said.
        detail: String,
    },
}

/// The observers of one session.
#[derive(Debug, Default)]
pub(crate) struct Observers {
    seats: Mutex<Vec<Seat>>,
}

#[derive(Debug)]
struct Seat {
    sender: mpsc::Sender<Notice>,
    lost: Arc<AtomicU64>,
}

impl Observers {
    /// Tells everybody; waits for nobody.
    pub(crate) fn tell(&self, notice: &Notice) {
        self.seats()
            .retain(|seat| match seat.sender.try_send(notice.clone()) {
                Ok(()) => true,
                Err(TrySendError::Full(_)) => {
                    seat.lost.fetch_add(1, Ordering::Relaxed);
                    true
                }
                Err(TrySendError::Closed(_)) => false,
            });
    }

    fn admit(&self, capacity: usize) -> Observer {
        self.admit_counting(capacity, &Arc::default())
    }

    /// Lets an observer in whose losses are counted here.
    pub(crate) fn admit_counting(&self, capacity: usize, lost: &Arc<AtomicU64>) -> Observer {
        let (sender, notices) = mpsc::channel(capacity.max(1));
        let lost = Arc::clone(lost);
        let seat = Seat {
            sender,
            lost: Arc::clone(&lost),
        };
        let mut seats = self.seats();
        seats.retain(|seat| !seat.sender.is_closed());
        seats.push(seat);
        Observer { notices, lost }
    }

    fn seats(&self) -> std::sync::MutexGuard<'_, Vec<Seat>> {
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes a session's notices, in order. Dropping it ends the observation.
pub struct Observer {
    notices: mpsc::Receiver<Notice>,
    lost: Arc<AtomicU64>,
}

impl Observer {
    /// The next notice; `None` when nothing is left of the session. Cancel safe.
    pub async fn next(&mut self) -> Option<Notice> {
        self.notices.recv().await
    }

    /// Notices that found no room in the queue.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }
}

impl fmt::Debug for Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Observer")
            .field("waiting", &self.notices.len())
            .field("lost", &self.lost())
            .finish()
    }
}

/// A registered callback. Dropping it unregisters.
#[derive(Debug)]
#[must_use = "a registration that is dropped unregisters its callback"]
pub struct Registration {
    lost: Arc<AtomicU64>,
    panics: Arc<AtomicU64>,
    _task: OwnedTask,
}

impl Registration {
    /// The callback is not called again; a call that runs is finished.
    pub fn unregister(self) {}

    /// Notices that found no room in the queue.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Calls that panicked.
    #[must_use]
    pub fn panics(&self) -> u64 {
        self.panics.load(Ordering::Relaxed)
    }
}

impl Session {
    /// Observes the session's life from now on, with a queue of `capacity` notices (at least 1). There may
    /// be several; each is told everything that its queue has room for.
    #[must_use]
    pub fn observe(&self, capacity: usize) -> Observer {
        self.shared.plane.observers.admit(capacity)
    }

    /// Calls `callback` with each notice from now on, in a task of its own, until the [`Registration`] is
    /// dropped or unregistered. The callback should not block: that holds up its own queue of `capacity`
    /// notices and a thread of the runtime, and nothing else.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn register(
        &self,
        capacity: usize,
        callback: impl Fn(Notice) + Send + Sync + 'static,
    ) -> Registration {
        let mut observer = self.observe(capacity);
        let lost = Arc::clone(&observer.lost);
        let panics = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&panics);
        let task = OwnedTask::spawn(async move {
            while let Some(notice) = observer.next().await {
                let call = AssertUnwindSafe(|| callback(notice));
                if let Err(panic) = std::panic::catch_unwind(call) {
                    counted.fetch_add(1, Ordering::Relaxed);
                    // A payload may panic once more in its drop.
                    std::mem::forget(panic);
                }
            }
        });
        Registration {
            lost,
            panics,
            _task: task,
        }
    }
}
