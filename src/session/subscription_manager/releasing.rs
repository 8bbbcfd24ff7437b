//! What the SubscriptionManager does about channels that somebody let go of.
//!
//! Apart from the wishes because it is about those who wait for the venue to confirm an end.
//!
//! Invariants: each of them is answered once; nobody waits for a connection that is over.

use std::sync::Arc;
use std::time::Duration;

use ractor::ActorRef;
use tokio::sync::oneshot;

use super::Traced;
use super::{AGAIN, SubscriptionMessage, SubscriptionState};
use crate::error::UnsubscribeError;
use crate::protocol::continuity::Epoch;
use crate::protocol::subscriptions::ReleaseAction;
use crate::session::adapter::AdapterMessage;
use crate::session::subscriber::Subscriber;
use crate::session::subscription::Unsubscribed;

/// What became of a channel.
pub(super) type Released = Result<Unsubscribed, UnsubscribeError>;

impl SubscriptionState {
    pub(super) fn release(
        &mut self,
        subscriber: &Arc<Subscriber>,
        reply: oneshot::Sender<Released>,
    ) {
        match (self.unsubscribe(subscriber), &subscriber.channel) {
            (None, Some(channel)) => {
                let waiting = self.releasing.entry(Arc::clone(channel)).or_default();
                waiting.push(reply);
            }
            (became, _) => {
                // Who no longer waits wants no answer.
                let _ = reply.send(Ok(became.unwrap_or(Unsubscribed::Untold)));
            }
        }
    }

    /// Answers those who wait for the release of a channel.
    pub(super) fn settle(&mut self, channel: &str, became: &Released) {
        for reply in self.releasing.remove(channel).unwrap_or_default() {
            let _ = reply.send(became.clone());
        }
    }

    /// Every release is void with its connection.
    pub(super) fn release_all(&mut self) {
        let channels: Vec<_> = self.releasing.keys().cloned().collect();
        for channel in channels {
            let lost = UnsubscribeError::ConnectionLost {
                channel: channel.to_string(),
            };
            self.settle(&channel, &Err(lost));
        }
    }

    /// The venue answered to the release of these.
    pub(super) fn released(
        &mut self,
        epoch: Epoch,
        channels: Vec<Arc<str>>,
        became: impl Fn(&str) -> Released,
    ) {
        for channel in channels {
            let action = self.ledger().on_released(&channel, epoch);
            match action {
                ReleaseAction::Settle => self.settle(&channel, &became(&channel)),
                ReleaseAction::Later | ReleaseAction::Ignore => {}
            }
        }
    }

    pub(super) fn release_refused(&mut self, epoch: Epoch, channels: Vec<Arc<str>>, detail: &str) {
        self.released(epoch, channels, |channel| {
            Err(UnsubscribeError::Rejected {
                channel: channel.to_owned(),
                detail: detail.to_owned(),
            })
        });
    }

    pub(super) fn release_postponed(
        &mut self,
        myself: &ActorRef<Traced<SubscriptionMessage>>,
        epoch: Epoch,
        channels: Vec<Arc<str>>,
        at_least: Duration,
    ) {
        for channel in channels {
            let action = self.ledger().on_release_postponed(&channel, epoch);
            match action {
                ReleaseAction::Settle => self.settle(&channel, &Ok(Unsubscribed::Shared)),
                ReleaseAction::Later => self.again(myself, at_least.max(AGAIN)),
                ReleaseAction::Ignore => {}
            }
        }
    }

    /// Tells the venue that nobody wants these any more.
    pub(super) fn tell_released(&self, channels: Vec<Arc<str>>) {
        if let (Some(epoch), false) = (self.epoch, channels.is_empty()) {
            self.tell(AdapterMessage::Release(epoch, channels));
        }
    }
}
