//! The end of a subscription, or of many, that is awaited.
//!
//! Apart from reading one because it is about the venue: a subscription that is dropped is over for its holder
//! at once, and for the venue when that has said so.
//!
//! Invariants: whatever the answer, and also without one, the subscription is over and its wish withdrawn.

use std::sync::Arc;
use std::time::Duration;

use mainstay_supervisors::Address;
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, timeout_at};

use super::Subscription;
use crate::error::UnsubscribeError;
use crate::platform::Message;
use crate::protocol::continuity::Epoch;
use crate::session::Session;
use crate::session::clock::from_now;
use crate::session::plane::{Plane, SessionState};
use crate::session::spans::Traced;
use crate::session::subscription_manager::{Leaving, SubscriptionMessage};

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
        let ended = end_all(vec![self], within).await;
        // One result for one subscription.
        ended.into_iter().next().expect("as many as subscriptions")
    }
}

impl Session {
    /// Ends many subscriptions at once and returns what became of each, in their order. The venue is told of all of
    /// their channels together, in as few requests as it allows; one that it refuses keeps no other from being
    /// confirmed. All have one deadline.
    ///
    /// Subscriptions that are dropped one after the other are gathered likewise, as far as they come together.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the subscriptions, as dropping them does; nothing is waited for.
    pub async fn unsubscribe_all<M: Message>(
        &self,
        subscriptions: impl IntoIterator<Item = Subscription<M>>,
        within: Duration,
    ) -> Vec<Result<Unsubscribed, UnsubscribeError>> {
        end_all(subscriptions.into_iter().collect(), within).await
    }
}

/// What is awaited for one subscription.
struct Ending {
    channel: Option<Arc<str>>,
    plane: Arc<Plane>,
    state: watch::Receiver<SessionState>,
    /// The connection on which it ends, if there is one.
    epoch: Option<Epoch>,
    answer: oneshot::Receiver<Result<Unsubscribed, UnsubscribeError>>,
}

impl Ending {
    fn channel(&self) -> String {
        self.channel.as_deref().unwrap_or_default().to_owned()
    }

    /// What is true where nobody answers.
    fn void(&self) -> Result<Unsubscribed, UnsubscribeError> {
        match self.epoch {
            Some(_) => Err(UnsubscribeError::ConnectionLost {
                channel: self.channel(),
            }),
            None => Ok(Unsubscribed::Untold),
        }
    }

    /// Who learns of the end from its own side does not wait for an actor to be told.
    async fn over(state: &mut watch::Receiver<SessionState>, epoch: Option<Epoch>) {
        let over = state.wait_for(|state| match epoch {
            Some(_) => state.epoch() != epoch,
            None => matches!(state, SessionState::Ended(_)),
        });
        // A session that is gone is over, too.
        let _ = over.await;
    }

    async fn outcome(
        mut self,
        deadline: Instant,
        within: Duration,
    ) -> Result<Unsubscribed, UnsubscribeError> {
        let answer = tokio::select! {
            biased;
            answer = timeout_at(deadline, &mut self.answer) => Some(answer),
            () = Self::over(&mut self.state, self.epoch) => None,
        };
        let ended = match answer {
            Some(Ok(Ok(answer))) => answer,
            Some(Ok(Err(_))) | None => self.void(),
            Some(Err(_)) => Err(UnsubscribeError::Timeout {
                channel: self.channel(),
                limit: within,
            }),
        };
        ended.inspect_err(|error| self.plane.failed("subscription", error.explain().code))
    }
}

/// Those of one session, who are told of together.
struct Group {
    plane: Arc<Plane>,
    manager: Address<Traced<SubscriptionMessage>>,
    epoch: Option<Epoch>,
    leaving: Vec<Leaving>,
}

async fn end_all<M: Message>(
    subscriptions: Vec<Subscription<M>>,
    within: Duration,
) -> Vec<Result<Unsubscribed, UnsubscribeError>> {
    let deadline = from_now(within);
    let mut groups: Vec<Group> = Vec::new();
    let mut endings = Vec::with_capacity(subscriptions.len());
    for subscription in &subscriptions {
        let (subscriber, plane) = (&subscription.subscriber, &subscription.plane);
        // From now on the reader waits for this consumer no more.
        subscriber.leave();
        let state = plane.watch_state();
        let epoch = state.borrow().epoch();
        let (reply, answer) = oneshot::channel();
        let leaving = Leaving {
            subscriber: Arc::clone(subscriber),
            reply: Some(reply),
        };
        match groups
            .iter_mut()
            .find(|group| Arc::ptr_eq(&group.plane, plane))
        {
            Some(group) => group.leaving.push(leaving),
            None => groups.push(Group {
                plane: Arc::clone(plane),
                manager: subscription.manager.clone(),
                epoch,
                leaving: vec![leaving],
            }),
        }
        endings.push(Ending {
            channel: subscriber.channel.clone(),
            plane: Arc::clone(plane),
            state,
            epoch,
            answer,
        });
    }
    for group in groups {
        let message = SubscriptionMessage::Release(group.leaving).into();
        let left = deadline.saturating_duration_since(Instant::now());
        let mut state = group.plane.watch_state();
        // Whom the manager does not hear is told by the loss of the reply.
        tokio::select! {
            biased;
            _ = group.manager.cast_when_up(message, left) => {}
            () = Ending::over(&mut state, group.epoch) => {}
        }
    }
    let mut ended = Vec::with_capacity(endings.len());
    for ending in endings {
        ended.push(ending.outcome(deadline, within).await);
    }
    ended
}
