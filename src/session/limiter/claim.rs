//! What somebody has of a limiter: a place in its queue, or something paid for what may yet not be sent.
//!
//! Apart from the limiter because both are about being dropped.
//!
//! Invariant: what nobody used is given back, and who waits for it is told.

use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::Limiter;
use crate::config::limits::Weight;
use crate::protocol::limiter::Place;
use crate::session::clock;

/// A place in a limiter's queue. Dropping it gives the place back.
#[derive(Debug)]
pub(crate) struct Queued {
    pub(super) limiter: Limiter,
    pub(super) place: Place,
    /// Told of the grant, and of when that was.
    pub(super) receiver: oneshot::Receiver<Instant>,
    /// Since when it has this place.
    pub(super) since: Instant,
    /// What to give back if the grant reached nobody.
    pub(super) refund: Option<Weight>,
}

impl Queued {
    /// Waits until it has been granted; `false` if it never will be. Cancel safe.
    pub(crate) async fn turn(&mut self) -> bool {
        (&mut self.receiver).await.is_ok()
    }

    /// How long it waited, if it has been granted and nobody has waited for that here; told in whole milliseconds, and
    /// not if that is none.
    pub(crate) fn waited(mut self) -> Option<Duration> {
        let granted = self.receiver.try_recv().ok()?;
        whole_millis(granted.saturating_duration_since(self.since))
    }

    /// Takes it back. Whether it still waited.
    fn withdraw(&self) -> bool {
        let waiting = self.limiter.lock().machine.withdraw(self.place);
        waiting.is_some()
    }

    /// Takes it back because its deadline has passed. Whether it still waited.
    pub(crate) fn expire(&self) -> bool {
        let waiting = self.limiter.lock().machine.expire(self.place);
        let waited = waiting.is_some();
        if waited {
            self.limiter.shared.turn();
            self.limiter.shared.earlier.notify_one();
        }
        waited
    }
}

impl Drop for Queued {
    fn drop(&mut self) {
        if self.withdraw() {
            self.limiter.shared.turn();
            self.limiter.shared.earlier.notify_one();
            return;
        }
        if let Some(weight) = self.refund
            && self.receiver.try_recv().is_ok()
        {
            self.limiter.lock().machine.refund(weight, clock::now());
            self.limiter.shared.turn();
        }
    }
}

/// How long something waited for its turn, as a person is told: in whole milliseconds, and not if that is none.
pub(crate) fn whole_millis(waited: Duration) -> Option<Duration> {
    let millis = u64::try_from(waited.as_millis()).unwrap_or(u64::MAX);
    (millis > 0).then(|| Duration::from_millis(millis))
}

/// What has been paid for something that may yet not be sent. Dropping it gives that back.
#[derive(Debug)]
pub(crate) struct Held {
    pub(super) limiter: Limiter,
    /// Taken when it is sent.
    pub(super) weight: Option<Weight>,
}

impl Held {
    /// It is sent.
    pub(crate) fn spend(mut self) {
        self.weight = None;
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(weight) = self.weight {
            self.limiter.lock().machine.refund(weight, clock::now());
            self.limiter.shared.turn();
            self.limiter.shared.earlier.notify_one();
        }
    }
}
