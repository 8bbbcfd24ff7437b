//! The handle's view of a session's life: where it stands, how it came there, and the user's own turns of it.
//!
//! Apart from the handle's requests because these are about the connection and not about what is said on it.
//!
//! Invariants: every wait has a deadline; a forced reconnect loses no wish; the first close decides what the
//! peer is told.

use std::time::Duration;

use mainstay_supervisors::ShutdownReport;
use tokio::time::{timeout, timeout_at};

use super::clock::from_now;
use super::line::Outbound;
use super::plane::SessionState;
use super::{Session, lock};
use crate::close::CloseReason;
use crate::error::{EndReason, RequestError, WaitError};
use crate::frame::Frame;
use crate::protocol::continuity::Epoch;
use crate::protocol::status::{Status, Transition};

impl Session {
    /// Where the session stands. [`Session::state`] says more about the present, [`Session::history`] about
    /// the way there.
    #[must_use]
    pub fn status(&self) -> Status {
        self.shared.plane.status()
    }

    /// The last 100 steps from status to status, the oldest first: when, from where, to where, why.
    #[must_use]
    pub fn history(&self) -> Vec<Transition> {
        self.shared.plane.history()
    }

    /// Waits until the session stands at `status`, or has passed there since the call.
    ///
    /// # Errors
    ///
    /// [`WaitError::Timeout`] after `limit`; [`WaitError::Ended`] if the session is over, unless that was
    /// awaited. Cancel safe.
    pub async fn wait_for(&self, status: Status, limit: Duration) -> Result<(), WaitError> {
        let plane = &self.shared.plane;
        let deadline = from_now(limit);
        let mut steps = plane.watch_steps();
        let since = *steps.borrow_and_update();
        loop {
            if plane.status() == status || plane.passed(status, since) {
                return Ok(());
            }
            if let SessionState::Ended(reason) = self.state() {
                return Err(WaitError::Ended(reason));
            }
            if timeout_at(deadline, steps.changed()).await.is_err() {
                return Err(WaitError::Timeout {
                    awaited: status.label(),
                    limit,
                    found: plane.status().label(),
                });
            }
        }
    }

    /// Closes the connection with a closing handshake (code 1000) and opens another; returns its epoch when the session
    /// is live on it. Wishes, subscriptions and the handle stay; subscriptions are told of the gap, and
    /// requests in flight end as of unknown fate.
    ///
    /// While no connection is open, it waits for the attempt that is being made. Several calls at once share
    /// one reconnect. The configured start timeout is the deadline.
    ///
    /// # Errors
    ///
    /// [`WaitError`]: not live in time, although attempts go on; or over for good.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future does not stop a reconnect that has begun.
    pub async fn reconnect(&self) -> Result<Epoch, WaitError> {
        let limit = self.shared.config.start_timeout;
        let deadline = from_now(limit);
        let plane = &self.shared.plane;
        let mut state = plane.watch_state();
        let before = plane.epoch();
        let turn = async {
            if let Some(line) = plane.line() {
                let close = Outbound::Close {
                    code: 1000,
                    reason: "reconnecting".to_owned(),
                    cause: CloseReason::Reconnect,
                };
                // A line that is closed already is on its way to the next one.
                let _ = line.urgent.send(close).await;
            }
            let settled = state.wait_for(|state| match state {
                SessionState::Live { epoch } => *epoch > before,
                SessionState::Ended(_) => true,
                SessionState::Connecting
                | SessionState::Establishing { .. }
                | SessionState::Down { .. } => false,
            });
            match settled.await.ok().as_deref() {
                Some(SessionState::Live { epoch }) => Ok(*epoch),
                Some(SessionState::Ended(reason)) => Err(WaitError::Ended(reason.clone())),
                _ => Err(WaitError::Ended(EndReason::Shutdown)),
            }
        };
        timeout_at(deadline, turn).await.unwrap_or_else(|_| {
            Err(WaitError::Timeout {
                awaited: Status::Live.label(),
                limit,
                found: plane.status().label(),
            })
        })
    }

    /// Takes nothing new, waits for the answers that are under way, `within` so long at most, and then ends as
    /// [`Session::shutdown`] does, whose report it returns.
    ///
    /// What is asked from now on is not sent and says so, the repetition of an idempotent call and the query of a
    /// [reconciled](crate::protocol::reconcile) one included. What waits for the session to be live is not waited for.
    /// Whoever has no answer by then is told its fate: not sent, or unknown. Subscriptions bring data to the end.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves a session that takes nothing new and lives on; call it again, or
    /// [`Session::shutdown`].
    pub async fn drain(&self, within: Duration) -> Option<ShutdownReport> {
        let callers = &self.shared.plane.callers;
        callers.drain();
        // Whoever is left is told its fate by the end.
        let _ = timeout(within, callers.none()).await;
        self.shutdown().await
    }

    /// [`Session::shutdown`], with the close frame's code and reason chosen: the closing handshake of RFC
    /// 6455, section 7.1.2, then the end of the tree, within the configured shutdown timeout.
    ///
    /// The first call decides what the peer is told; later ones wait for its end and are well. Where the
    /// tree is the user's own, this only chooses what the peer will be told when that tree ends.
    ///
    /// # Errors
    ///
    /// [`RequestError::Unencodable`] if RFC 6455 does not allow the code (allowed: 1000 to 1003, 1007 to
    /// 1014, 3000 to 4999) or the reason is longer than 123 bytes. The session goes on then.
    pub async fn close(&self, code: u16, reason: impl Into<String>) -> Result<(), RequestError> {
        let reason = reason.into();
        let frame = Frame::Close(Some((code, reason.clone())));
        frame.check().map_err(|detail| RequestError::Unencodable {
            method: "close".to_owned(),
            detail,
        })?;
        lock(&self.shared.plane.farewell).get_or_insert((code, reason));
        self.shutdown().await;
        Ok(())
    }
}
