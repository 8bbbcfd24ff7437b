//! The SubscriptionManager actor: keeps what the user wants.
//!
//! It stands first in the tree, so that whatever fails below leaves the wishes alone. Should it fail
//! itself, it finds them again in the routing table, which lists every subscriber that still listens.
//!
//! Invariants: only the user adds or removes a wish, save for a channel that the venue refuses for
//! good, whose subscription is then ended with that reason.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use mainstay_supervisors::Address;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::sync::oneshot;

use super::adapter::{AdapterEvent, AdapterMessage};
use super::clock;
use super::plane::Plane;
use super::subscriber::Subscriber;
use super::task::OwnedTask;
use crate::close::GapCause;
use crate::error::{EndReason, SubscribeError};
use crate::protocol::continuity::Epoch;
use crate::protocol::subscriptions::{Ledger, RefusalAction, WishAction};

/// The least pause before a channel is asked for again.
const AGAIN: Duration = Duration::from_secs(1);

/// Keeps the wishes.
#[derive(Debug)]
pub(crate) struct SubscriptionManager;

/// What a SubscriptionManager is told.
#[derive(Debug)]
pub(crate) enum SubscriptionMessage {
    /// The user wants a channel. Already in the routing table; answered when confirmed or refused.
    Subscribe(Arc<Subscriber>, oneshot::Sender<Result<(), SubscribeError>>),
    /// The user has let go of a subscription.
    Unsubscribe(Arc<Subscriber>),
    /// A subscription found its sequence broken: subscribe its channel afresh.
    Resync(Arc<Subscriber>),
    /// From the Adapter.
    Adapter(AdapterEvent),
    /// From its own timer.
    Again,
    /// Panic, to show what happens then.
    #[cfg(feature = "testing")]
    Crash,
}

mainstay_supervisors::message!(SubscriptionMessage);

/// What a SubscriptionManager is made of.
pub(crate) struct SubscriptionArguments {
    pub(crate) plane: Arc<Plane>,
    /// Whom to ask for channels; `None` where subscriptions are the user's own requests.
    pub(crate) adapter: Option<Address<AdapterMessage>>,
}

/// What it remembers.
pub(crate) struct SubscriptionState {
    arguments: SubscriptionArguments,
    ledger: Ledger,
    /// The epoch that may be asked.
    epoch: Option<Epoch>,
    /// Users that wait for a confirmation, by channel.
    waiting: HashMap<Arc<str>, Vec<oneshot::Sender<Result<(), SubscribeError>>>>,
    /// The only timer.
    timer: Option<OwnedTask>,
}

#[cfg_attr(feature = "async-trait", ractor::async_trait)]
impl Actor for SubscriptionManager {
    type Msg = SubscriptionMessage;
    type State = SubscriptionState;
    type Arguments = SubscriptionArguments;

    async fn pre_start(
        &self,
        _myself: ActorRef<Self::Msg>,
        arguments: Self::Arguments,
    ) -> Result<Self::State, ActorProcessingErr> {
        let mut ledger = Ledger::new();
        for subscriber in arguments.plane.routes.snapshot().all() {
            if let Some(channel) = &subscriber.channel {
                let _ = ledger.wish(channel);
            }
        }
        let waiting = HashMap::new();
        Ok(SubscriptionState {
            arguments,
            ledger,
            epoch: None,
            waiting,
            timer: None,
        })
    }

    async fn handle(
        &self,
        myself: ActorRef<Self::Msg>,
        message: Self::Msg,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            SubscriptionMessage::Subscribe(subscriber, reply) => {
                state.subscribe(&subscriber, reply)
            }
            SubscriptionMessage::Unsubscribe(subscriber) => state.unsubscribe(&subscriber),
            SubscriptionMessage::Resync(subscriber) => state.resync(&subscriber),
            SubscriptionMessage::Adapter(event) => state.adapter(&myself, event),
            #[cfg(feature = "testing")]
            SubscriptionMessage::Crash => panic!("the subscription manager was told to panic"),
            SubscriptionMessage::Again => {
                let channels = state.ledger.retry();
                state.ask(channels);
            }
        }
        Ok(())
    }
}

impl SubscriptionState {
    fn subscribe(
        &mut self,
        subscriber: &Arc<Subscriber>,
        reply: oneshot::Sender<Result<(), SubscribeError>>,
    ) {
        let Some(channel) = &subscriber.channel else {
            let _ = reply.send(Ok(()));
            return;
        };
        let action = self.ledger.wish(channel);
        if self.arguments.adapter.is_none() {
            self.arguments.plane.admit(subscriber);
            let _ = reply.send(Ok(()));
            return;
        }
        self.arguments.plane.routes.add(subscriber);
        match action {
            WishAction::Confirmed(epoch) => {
                subscriber.resync(epoch, clock::now());
                let _ = reply.send(Ok(()));
            }
            WishAction::Ask => {
                self.waiting
                    .entry(Arc::clone(channel))
                    .or_default()
                    .push(reply);
                self.ask(vec![Arc::clone(channel)]);
            }
            WishAction::Wait | WishAction::Keep | WishAction::Release => {
                self.waiting
                    .entry(Arc::clone(channel))
                    .or_default()
                    .push(reply);
            }
        }
    }

    fn unsubscribe(&mut self, subscriber: &Arc<Subscriber>) {
        if !self.arguments.plane.routes.remove(subscriber) {
            return;
        }
        let Some(channel) = &subscriber.channel else {
            return;
        };
        match self.ledger.unwish(channel) {
            WishAction::Release => self.tell(AdapterMessage::Release(vec![Arc::clone(channel)])),
            WishAction::Ask | WishAction::Wait | WishAction::Confirmed(_) | WishAction::Keep => {}
        }
        if !self.ledger.is_wanted(channel) {
            self.waiting.remove(channel);
        }
    }

    fn resync(&mut self, subscriber: &Arc<Subscriber>) {
        let Some(channel) = &subscriber.channel else {
            return;
        };
        if self.ledger.on_broken(channel) {
            self.tell(AdapterMessage::Release(vec![Arc::clone(channel)]));
            self.ask(vec![Arc::clone(channel)]);
        }
    }

    fn adapter(&mut self, myself: &ActorRef<SubscriptionMessage>, event: AdapterEvent) {
        match event {
            AdapterEvent::Ready(epoch) => {
                self.epoch = Some(epoch);
                let channels = self.ledger.on_ready(epoch);
                // Also when there is nothing to ask: the Adapter waits for the answer.
                self.tell(AdapterMessage::Subscribe(epoch, channels));
            }
            AdapterEvent::PrivateLost => {
                let table = self.arguments.plane.routes.snapshot();
                let private = |channel: &str| {
                    table
                        .of(channel)
                        .iter()
                        .any(|subscriber| subscriber.kind.private)
                };
                let channels = self.ledger.on_lost(private);
                self.ask(channels);
            }
            AdapterEvent::Confirmed(epoch, channels) => {
                for channel in channels {
                    self.confirmed(epoch, &channel);
                }
            }
            AdapterEvent::Refused(epoch, channels, detail) => {
                for channel in channels {
                    self.refused(myself, epoch, &channel, &detail);
                }
            }
            AdapterEvent::Postponed(epoch, channels, at_least) => {
                let ledger = &mut self.ledger;
                let postponed = channels
                    .iter()
                    .filter(|channel| ledger.on_postponed(channel, epoch));
                if postponed.count() > 0 {
                    self.again(myself, at_least.max(AGAIN));
                }
            }
            AdapterEvent::Closed => {
                self.epoch = None;
                self.timer = None;
                self.ledger.on_closed();
            }
        }
    }

    fn confirmed(&mut self, epoch: Epoch, channel: &Arc<str>) {
        if !self.ledger.on_confirmed(channel, epoch) {
            if !self.ledger.is_wanted(channel) && self.epoch == Some(epoch) {
                // Let go of while the venue was being asked.
                self.tell(AdapterMessage::Release(vec![Arc::clone(channel)]));
            }
            return;
        }
        let now = clock::now();
        for subscriber in self.arguments.plane.routes.snapshot().of(channel) {
            subscriber.resync(epoch, now);
        }
        for reply in self.waiting.remove(channel).unwrap_or_default() {
            // Who no longer waits has let go of the subscription too.
            let _ = reply.send(Ok(()));
        }
    }

    fn refused(
        &mut self,
        myself: &ActorRef<SubscriptionMessage>,
        epoch: Epoch,
        channel: &Arc<str>,
        detail: &str,
    ) {
        match self.ledger.on_refused(channel, epoch) {
            RefusalAction::Ignore => {}
            RefusalAction::Later => self.again(myself, AGAIN),
            RefusalAction::GiveUp => {
                let table = self.arguments.plane.routes.snapshot();
                let private = table
                    .of(channel)
                    .iter()
                    .any(|subscriber| subscriber.kind.private);
                let detail = match private {
                    true => {
                        format!("{detail} (it is private: the session needs credentials for it)")
                    }
                    false => detail.to_owned(),
                };
                for reply in self.waiting.remove(channel).unwrap_or_default() {
                    let error = SubscribeError::Rejected {
                        channel: channel.to_string(),
                        detail: detail.clone(),
                    };
                    let _ = reply.send(Err(error));
                }
                let now = clock::now();
                for subscriber in self.arguments.plane.routes.snapshot().of(channel) {
                    let cause = GapCause::SubscriptionLost {
                        detail: detail.to_owned(),
                    };
                    subscriber.interrupt(cause, epoch, now);
                    subscriber.end(EndReason::Refused(detail.to_owned()));
                    self.arguments.plane.routes.remove(subscriber);
                }
            }
        }
    }

    fn again(&mut self, myself: &ActorRef<SubscriptionMessage>, pause: Duration) {
        let myself = myself.clone();
        self.timer = Some(OwnedTask::spawn(async move {
            tokio::time::sleep(pause).await;
            // An actor that is gone asks for nothing.
            let _ = myself.cast(SubscriptionMessage::Again);
        }));
    }

    fn ask(&self, channels: Vec<Arc<str>>) {
        if let (Some(epoch), false) = (self.epoch, channels.is_empty()) {
            self.tell(AdapterMessage::Subscribe(epoch, channels));
        }
    }

    fn tell(&self, message: AdapterMessage) {
        if let Some(adapter) = &self.arguments.adapter {
            // An Adapter that is down asks for all wishes when it is back.
            let _ = adapter.cast(message);
        }
    }
}
