//! What the SubscriptionManager does about channels that somebody let go of.
//!
//! Apart from the wishes because it is about those who wait for the venue to confirm an end, and about letting go of
//! many: what is let go of is gathered until something else has to be done, or until a turn of the mailbox has
//! brought no more of it, so that the venue is told of it together, as it is asked together for what is wanted.
//!
//! Invariants: each of them is answered once; nobody waits for a connection that is over; nothing is gathered for
//! longer than [`GATHER`] while there is more to come.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ractor::ActorRef;
use tokio::sync::oneshot;

use super::{AGAIN, SubscriptionMessage, SubscriptionState, Traced, clock};
use crate::error::UnsubscribeError;
use crate::protocol::continuity::Epoch;
use crate::protocol::subscriptions::ReleaseAction;
use crate::session::adapter::AdapterMessage;
use crate::session::subscriber::Subscriber;
use crate::session::subscription::Unsubscribed;

/// What became of a channel.
pub(super) type Released = Result<Unsubscribed, UnsubscribeError>;

/// A subscription that its user has let go of.
#[derive(Debug)]
pub(crate) struct Leaving {
    pub(crate) subscriber: Arc<Subscriber>,
    /// Who waits for what becomes of its channel.
    pub(crate) reply: Option<oneshot::Sender<Released>>,
}

impl Leaving {
    /// One for whose end nobody waits.
    pub(super) fn unheard(subscriber: &Arc<Subscriber>) -> Self {
        Self {
            subscriber: Arc::clone(subscriber),
            reply: None,
        }
    }
}

/// Subscriptions that have been let go of and not been seen off.
#[derive(Debug, Default)]
pub(super) struct Departures {
    leaving: Vec<Leaving>,
    /// How many of them there were a turn of the mailbox ago, and until when more are waited for. Set by the first,
    /// cleared when that message has come round.
    turn: Option<(usize, Instant)>,
}

/// How long more is waited for as long as each turn of the mailbox brings more.
const GATHER: Duration = Duration::from_millis(5);

impl SubscriptionState {
    /// These have been let go of.
    pub(super) fn leave(
        &mut self,
        myself: &ActorRef<Traced<SubscriptionMessage>>,
        leaving: impl IntoIterator<Item = Leaving>,
    ) {
        let departures = &mut self.departures;
        departures.leaving.extend(leaving);
        if departures.turn.is_none() {
            departures.turn = Some((departures.leaving.len(), clock::now() + GATHER));
            come_round(myself);
        }
    }

    /// The mailbox has had its turn since the first of them, or since it was last asked.
    pub(super) fn gathered(&mut self, myself: &ActorRef<Traced<SubscriptionMessage>>) {
        let count = self.departures.leaving.len();
        match &mut self.departures.turn {
            Some((before, until)) if count > *before && clock::now() < *until => {
                *before = count;
                come_round(myself);
            }
            turn => {
                *turn = None;
                self.see_off();
            }
        }
    }

    /// Withdraws the wishes of all that have been let go of.
    pub(super) fn see_off(&mut self) {
        if !self.departures.leaving.is_empty() {
            if let Some((before, _)) = &mut self.departures.turn {
                *before = 0;
            }
            let leaving = std::mem::take(&mut self.departures.leaving);
            self.part(leaving);
        }
    }

    /// Withdraws the wishes of these, and tells the venue of all channels that nobody wants any more.
    pub(super) fn part(&mut self, leaving: Vec<Leaving>) {
        let subscribers = leaving.iter().map(|one| &one.subscriber);
        let was_there = self.arguments.plane.routes.remove_all(subscribers);
        let mut told = Vec::new();
        for (Leaving { subscriber, reply }, was_there) in leaving.into_iter().zip(was_there) {
            let became = match was_there {
                true => self.unwish(&subscriber),
                false => Some(Unsubscribed::Untold),
            };
            match (became, &subscriber.channel) {
                (None, Some(channel)) => {
                    told.push(Arc::clone(channel));
                    if let Some(reply) = reply {
                        let waiting = self.releasing.entry(Arc::clone(channel)).or_default();
                        waiting.push(reply);
                    }
                }
                (became, _) => {
                    if let Some(reply) = reply {
                        // Who no longer waits wants no answer.
                        let _ = reply.send(Ok(became.unwrap_or(Unsubscribed::Untold)));
                    }
                }
            }
        }
        self.tell_released(told);
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

    /// Tells the venue that nobody wants these any more, in as few requests as it allows.
    pub(super) fn tell_released(&self, channels: Vec<Arc<str>>) {
        if let (Some(epoch), false) = (self.epoch, channels.is_empty()) {
            self.tell(AdapterMessage::Release(epoch, channels));
        }
    }
}

/// Asks to be told when what is in the mailbox now has been handled.
fn come_round(myself: &ActorRef<Traced<SubscriptionMessage>>) {
    // An actor that is gone sees nobody off; the one that comes finds who has left in the table.
    let _ = myself.cast(SubscriptionMessage::Gathered.into());
}
