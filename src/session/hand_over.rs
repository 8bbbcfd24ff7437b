//! A live session on its way from one owner to the next, while frames go on coming and going.
//!
//! Apart from the handle because a move within one function needs none of this: between actors the streams wait in a
//! mailbox, and for that long nobody reads them.
//!
//! Invariants: while it is under way no subscription sheds, for as long as was said and no longer; what was queued or
//! asked before is queued and answered after; one that nobody receives lets go of the session as every handle does.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Session;
use super::clock;
use super::plane::Plane;
use crate::protocol::continuity::Epoch;
use crate::telemetry::TelemetryEvent;

/// A session and what its owner reads from it, as a message to the next owner.
///
/// Nothing of the connection changes hands but who reads and writes: frames that come meanwhile wait in the streams'
/// queues, and requests that were asked before are answered to those who asked. Dropping it unreceived drops what is
/// in it: the session ends if this was its last handle, and the streams do.
///
/// ```
/// # #[cfg(feature = "testing")] {
/// use std::time::Duration;
/// use mainstay::testing::ScriptedServer;
/// use mainstay::{Client, HandOver, Frame, Subscription};
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
/// let server = ScriptedServer::mock().await?;
/// let session = Client::connect(&server.url()).await?;
/// let messages = session.messages();
/// let (give, take) = tokio::sync::oneshot::channel::<HandOver<Subscription<Frame>>>();
/// let heir = tokio::spawn(async move {
///     let (session, mut messages) = take.await.expect("an owner before us").receive("heir");
///     session.send_text("hello").await.expect("written");
///     messages.next().await
/// });
/// assert!(give.send(session.hand_over(messages, Duration::from_secs(5))).is_ok());
/// assert!(heir.await?.is_some());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "a hand-over that nobody receives lets go of the session"]
pub struct HandOver<S> {
    session: Session,
    streams: S,
    since: Instant,
    held: Held,
}

/// Has the subscriptions' own rules hold again when it is dropped.
struct Held(Arc<Plane>);

impl Session {
    /// Packs the session and `streams`, whatever its owner reads and keeps besides, for another owner. Clones of the
    /// session that others hold stay what they are.
    ///
    /// For `within` at most, no subscription of the session drops a message for want of room, whatever its
    /// [`Overflow`](crate::config::Overflow): the connection is not read until there is room, as under
    /// [`Overflow::Block`](crate::config::Overflow::Block), and heartbeats and answers wait with it. After that the
    /// subscription's own rule holds again, and what it drops is announced as a gap.
    pub fn hand_over<S>(self, streams: S, within: Duration) -> HandOver<S> {
        let until = clock::from_now(within).into_std();
        for subscriber in self.shared.plane.routes.snapshot().all() {
            subscriber.hold(until);
        }
        HandOver {
            held: Held(Arc::clone(&self.shared.plane)),
            session: self,
            streams,
            since: clock::now(),
        }
    }
}

impl<S> HandOver<S> {
    /// Takes the session and its streams over; an `ownership received` event says so, under the name `owner`.
    pub fn receive(self, owner: &str) -> (Session, S) {
        let Self {
            session,
            streams,
            since,
            held,
        } = self;
        let (mut count, mut waiting) = (0, 0);
        let plane = &session.shared.plane;
        for subscriber in plane.routes.snapshot().all() {
            if !subscriber.is_gone() {
                count += 1;
                waiting += subscriber.depth();
            }
        }
        drop(held);
        plane.report(&TelemetryEvent::OwnershipReceived {
            owner,
            epoch: session.state().epoch().map(Epoch::as_u64),
            streams: count,
            waiting,
            under_way: clock::now().saturating_duration_since(since),
        });
        (session, streams)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        for subscriber in self.0.routes.snapshot().all() {
            subscriber.release();
        }
    }
}

impl<S> fmt::Debug for HandOver<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HandOver")
            .field("session", &self.session)
            .finish_non_exhaustive()
    }
}
