//! Addresses of supervisors: one value that reaches whichever incarnation of a supervisor is up.
//!
//! A [`SupervisorRef`] goes stale with its supervisor, as an `ActorRef` does with its actor; dynamic
//! supervisors, partitions and task supervisors are spoken to for as long as the program runs.
//!
//! Invariants: filled when all children listed in the spec are up, emptied when the supervisor begins
//! to end or is gone, whichever comes first; a later incarnation is never emptied by an earlier one.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::handle::SupervisorRef;

/// No supervisor came up at the address in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "no supervisor came up at the address within {within:?}; start the spec that has the address, or wait longer"
)]
#[non_exhaustive]
pub struct SupervisorNotUp {
    /// How long it was waited for.
    pub within: Duration,
}

/// Reaches whichever incarnation of a supervisor is up. Clones reach the same.
///
/// Give it to [`SupervisorSpec::address`](crate::SupervisorSpec::address).
#[derive(Clone)]
pub struct SupervisorAddress {
    place: Arc<watch::Sender<Option<SupervisorRef>>>,
}

impl SupervisorAddress {
    /// An address of nobody yet.
    #[must_use]
    pub fn new() -> Self {
        Self {
            place: Arc::new(watch::Sender::new(None)),
        }
    }

    /// The incarnation that is up. It may end at any moment; do not keep it.
    #[must_use]
    pub fn current(&self) -> Option<SupervisorRef> {
        self.place.borrow().clone()
    }

    /// The incarnation that is up, waited for `within` at most. Dropping the future changes nothing.
    ///
    /// # Errors
    /// When nobody came up in time.
    pub async fn up(&self, within: Duration) -> Result<SupervisorRef, SupervisorNotUp> {
        let mut place = self.place.subscribe();
        let found = tokio::time::timeout(within, place.wait_for(Option::is_some)).await;
        match found {
            Ok(Ok(supervisor)) => supervisor.clone().ok_or(SupervisorNotUp { within }),
            Ok(Err(_)) | Err(_) => Err(SupervisorNotUp { within }),
        }
    }

    pub(crate) fn seat(&self) -> Arc<dyn Seat> {
        self.place.clone()
    }
}

impl Default for SupervisorAddress {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for SupervisorAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SupervisorAddress")
            .field(&*self.place.borrow())
            .finish()
    }
}

/// The side of such an address that a spec holds.
pub(crate) trait Seat: Send + Sync {
    fn up(&self, supervisor: &SupervisorRef);
    /// May come more than once, and without `up`.
    fn leaving(&self, supervisor: &SupervisorRef);
}

impl Seat for watch::Sender<Option<SupervisorRef>> {
    fn up(&self, supervisor: &SupervisorRef) {
        self.send_replace(Some(supervisor.clone()));
    }

    fn leaving(&self, supervisor: &SupervisorRef) {
        self.send_if_modified(|present| {
            let mine = present
                .as_ref()
                .is_some_and(|present| present.cell().get_id() == supervisor.cell().get_id());
            if mine {
                *present = None;
            }
            mine
        });
    }
}
