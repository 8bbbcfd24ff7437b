//! The end of a subscription that is awaited.
//!
//! Apart from reading one because it is about the venue: a subscription that is dropped is over for its holder
//! at once, and for the venue when that has said so.
//!
//! Invariants: whatever the answer, and also without one, the subscription is over and its wish withdrawn.

use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use super::Subscription;
use crate::error::UnsubscribeError;
use crate::platform::Message;
use crate::session::clock::from_now;
use crate::session::plane::SessionState;
use crate::session::subscription_manager::SubscriptionMessage;

/// What became of a subscription's channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unsubscribed {
    /// The venue confirmed that it sends the channel no more.
    Confirmed,
    /// Other subscriptions of this session want the channel: the venue was told nothing and goes on sending.
    Shared,
    /// There was nobody to be told, or nothing to tell: no connection was up, the subscription was over already,
    /// or the platform asks nobody for this channel, as on a bare connection.
    Untold,
}

impl<M: Message> Subscription<M> {
    /// Ends the subscription and waits `within` at most for the venue's confirmation that it sends the channel no
    /// more. If others of this session share the channel, the venue is told nothing, and that is the answer.
    ///
    /// A venue that is too busy for the moment is told again, until the deadline and beyond.
    ///
    /// # Errors
    ///
    /// [`UnsubscribeError`]: refused by the venue, not confirmed in time, or the connection ended, with which every
    /// subscription on it is void. The subscription is over in any case.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the subscription, as dropping the subscription does; nothing is waited for.
    pub async fn unsubscribe(self, within: Duration) -> Result<Unsubscribed, UnsubscribeError> {
        let ended = self.end(within).await;
        ended.inspect_err(|error| self.plane.failed("subscription", error.explain().code))
    }

    async fn end(&self, within: Duration) -> Result<Unsubscribed, UnsubscribeError> {
        let deadline = from_now(within);
        let channel = || self.channel().unwrap_or_default().to_owned();
        // From now on the reader waits for this consumer no more.
        self.subscriber.leave();
        let mut state = self.plane.watch_state();
        let epoch = state.borrow().epoch();
        let void = || match epoch {
            Some(_) => Err(UnsubscribeError::ConnectionLost { channel: channel() }),
            None => Ok(Unsubscribed::Untold),
        };
        let (reply, answered) = oneshot::channel();
        let message = SubscriptionMessage::Release(self.subscriber.clone(), reply).into();
        let answer = async {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.manager.cast_when_up(message, left).await {
                Ok(_) => answered.await.unwrap_or_else(|_| void()),
                Err(_) => void(),
            }
        };
        // Who learns of the end from its own side does not wait for an actor to be told.
        let over = state.wait_for(|state| match epoch {
            Some(_) => state.epoch() != epoch,
            None => matches!(state, SessionState::Ended(_)),
        });
        tokio::select! {
            biased;
            answer = timeout_at(deadline, answer) => answer.unwrap_or_else(|_| {
                Err(UnsubscribeError::Timeout { channel: channel(), limit: within })
            }),
            _ = over => void(),
        }
    }
}
