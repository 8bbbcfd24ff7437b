//! The SubscriptionManager actor: keeps what the user wants.
//!
//! It stands first in the tree, so that whatever fails below leaves the wishes alone. Should it fail
//! itself, it finds them again in the routing table, which lists every subscriber that still listens.
//!
//! Invariants: only the user adds or removes a wish, save for a channel that the venue refuses for
//! good, whose subscription is then ended with that reason.

mod ladder;
mod releasing;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, MutexGuard};
use std::time::{Duration, Instant};

use mainstay_supervisors::Address;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::sync::oneshot;

use super::adapter::{AdapterEvent, AdapterMessage};
use super::observe::Notice;
use super::plane::Plane;
use super::spans::Traced;
use super::subscriber::Subscriber;
use super::subscription::Unsubscribed;
use super::task::OwnedTask;
use super::{Sink, clock};
use crate::close::{CloseReason, GapCause};
use crate::config::Ladder;
use crate::error::{EndReason, SubscribeError};
use crate::platform::MarketSignal;
use crate::protocol::cadence::Cadences;
use crate::protocol::continuity::Epoch;
use crate::protocol::subscriptions::{Ledger, RefusalAction, WishAction};
use crate::telemetry::TelemetryEvent;
use releasing::Departures;
pub(crate) use releasing::Leaving;

/// The least pause before a channel is asked for again.
const AGAIN: Duration = Duration::from_secs(1);

/// Keeps the wishes.
#[derive(Debug)]
pub(crate) struct SubscriptionManager;

/// What a SubscriptionManager is told.
#[derive(Debug)]
pub(crate) enum SubscriptionMessage {
    /// The user wants channels, one or many at once. Each is answered when confirmed or refused.
    Subscribe(Vec<Wished>),
    /// The user has let go of a subscription.
    Unsubscribe(Arc<Subscriber>),
    /// The user has let go of subscriptions and waits for what the venue says to that.
    Release(Vec<Leaving>),
    /// From itself, behind what has been let go of meanwhile.
    Gathered,
    /// A subscription found its sequence broken: subscribe its channel afresh.
    Resync(Arc<Subscriber>, Instant),
    /// Somebody said that the market has closed or opened.
    Market(MarketSignal),
    /// From the timer of the ladder.
    Look,
    /// From the Adapter.
    Adapter(AdapterEvent),
    /// From its own timer.
    Again,
    /// Panic, to show what happens then.
    #[cfg(feature = "testing")]
    Crash,
}

mainstay_supervisors::message!(Traced<SubscriptionMessage>);

/// A channel that the user wants, and who waits for what becomes of that.
#[derive(Debug)]
pub(crate) struct Wished {
    pub(crate) subscriber: Arc<Subscriber>,
    pub(crate) reply: oneshot::Sender<Result<(), SubscribeError>>,
}

/// What a SubscriptionManager is made of.
pub(crate) struct SubscriptionArguments {
    pub(crate) plane: Arc<Plane>,
    /// Whom to ask for channels; `None` where subscriptions are the user's own requests.
    pub(crate) adapter: Option<Address<Traced<AdapterMessage>>>,
    /// Whether wishes outlive a connection.
    pub(crate) restore: bool,
    /// What is done about data that is late.
    pub(crate) ladder: Ladder,
    /// Where doubts about the connection go.
    pub(crate) doubts: Sink<Doubt>,
}

/// What is done about a connection whose data is late.
#[derive(Debug, Clone)]
pub(crate) enum Doubt {
    /// Probe the connection of this epoch.
    Probe(Epoch),
    /// Give it up.
    Abandon(Epoch, CloseReason),
}

/// What it remembers.
pub(crate) struct SubscriptionState {
    arguments: SubscriptionArguments,
    /// The epoch that may be asked.
    epoch: Option<Epoch>,
    /// Users that wait for a confirmation, by channel.
    waiting: HashMap<Arc<str>, Vec<oneshot::Sender<Result<(), SubscribeError>>>>,
    /// What has been let go of and not seen to yet.
    departures: Departures,
    /// Users that wait for the venue to release a channel, by channel.
    releasing: HashMap<Arc<str>, Vec<oneshot::Sender<releasing::Released>>>,
    /// Channels that an earlier connection had and this one has not confirmed yet.
    restoring: HashSet<Arc<str>>,
    /// The timer of what is asked for again.
    timer: Option<OwnedTask>,
    /// When a broken channel was last asked for afresh.
    asked: HashMap<Arc<str>, Instant>,
    /// Reports of broken channels that came too soon after that, by channel.
    later: HashMap<Arc<str>, OwnedTask>,
    /// The channels that have a cadence.
    cadences: Cadences,
    /// The epoch in which they were last looked at.
    looked_at: Epoch,
    /// Their timer, and the time that it is set to.
    look: Option<(Instant, OwnedTask)>,
}

#[cfg_attr(feature = "async-trait", ractor::async_trait)]
impl Actor for SubscriptionManager {
    type Msg = Traced<SubscriptionMessage>;
    type State = SubscriptionState;
    type Arguments = SubscriptionArguments;

    async fn pre_start(
        &self,
        myself: ActorRef<Self::Msg>,
        arguments: Self::Arguments,
    ) -> Result<Self::State, ActorProcessingErr> {
        let mut ledger = Ledger::after(arguments.plane.epoch());
        let table = arguments.plane.routes.snapshot();
        for subscriber in table.all() {
            match &subscriber.channel {
                // Let go of while there was nobody to hear it.
                _ if subscriber.is_gone() => {
                    arguments.plane.routes.remove(subscriber);
                }
                Some(channel) => {
                    let _ = ledger.wish(channel);
                }
                None => {}
            }
        }
        *arguments.plane.ledger() = ledger;
        let cadences = Cadences::new(arguments.ladder.clone(), arguments.adapter.is_some());
        let mut state = SubscriptionState {
            arguments,
            epoch: None,
            waiting: HashMap::new(),
            departures: Departures::default(),
            releasing: HashMap::new(),
            restoring: HashSet::new(),
            timer: None,
            asked: HashMap::new(),
            later: HashMap::new(),
            cadences,
            looked_at: Epoch::NONE,
            look: None,
        };
        state.expect_all();
        state.arm(&myself);
        Ok(state)
    }

    async fn handle(
        &self,
        myself: ActorRef<Self::Msg>,
        message: Self::Msg,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        let (message, span) = message.open(&state.arguments.plane, "subscription_manager", &myself);
        let _within = span.enter();
        match message {
            SubscriptionMessage::Unsubscribe(subscriber) => {
                let reply = None;
                state.leave(&myself, [Leaving { subscriber, reply }]);
            }
            SubscriptionMessage::Release(leaving) => state.leave(&myself, leaving),
            SubscriptionMessage::Gathered => state.gathered(&myself),
            message => {
                // Whatever comes next finds them gone, and the venue hears of an end before a beginning.
                state.see_off();
                state.act(&myself, message);
            }
        }
        state.arm(&myself);
        Ok(())
    }
}

impl SubscriptionState {
    fn act(
        &mut self,
        myself: &ActorRef<Traced<SubscriptionMessage>>,
        message: SubscriptionMessage,
    ) {
        match message {
            SubscriptionMessage::Subscribe(wished) => self.subscribe(wished),
            SubscriptionMessage::Resync(subscriber, received) => {
                self.resync(myself, &subscriber, received);
            }
            SubscriptionMessage::Market(MarketSignal::Open) => {
                self.cadences.on_opened(clock::now());
            }
            // Whoever is due will find it closed.
            SubscriptionMessage::Market(MarketSignal::Closed { .. }) => {}
            SubscriptionMessage::Look => self.look(myself),
            SubscriptionMessage::Adapter(event) => self.adapter(myself, event),
            #[cfg(feature = "testing")]
            SubscriptionMessage::Crash => panic!("the subscription manager was told to panic"),
            SubscriptionMessage::Again => {
                let channels = self.ledger().retry();
                self.ask(channels);
                let released = self.ledger().retry_releases();
                self.tell_released(released);
            }
            // Seen to already.
            SubscriptionMessage::Unsubscribe(_)
            | SubscriptionMessage::Release(_)
            | SubscriptionMessage::Gathered => {}
        }
    }

    /// The wishes, held for one statement: whoever is told of a change may ask for them.
    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.arguments.plane.ledger()
    }

    /// What is wanted together is asked for together.
    fn subscribe(&mut self, wished: Vec<Wished>) {
        if self.arguments.adapter.is_some() {
            let subscribers = wished.iter().map(|wished| &wished.subscriber);
            self.arguments.plane.routes.add_all(subscribers);
        }
        let ask = wished.into_iter().filter_map(|wished| self.wish(wished));
        let ask = ask.collect();
        self.ask(ask);
    }

    /// Notes a wish. Its channel, if the venue is to be asked for it.
    fn wish(&mut self, wished: Wished) -> Option<Arc<str>> {
        let Wished { subscriber, reply } = wished;
        let Some(channel) = &subscriber.channel else {
            let _ = reply.send(Ok(()));
            return None;
        };
        let wanted = self.ledger().is_wanted(channel);
        let action = self.ledger().wish(channel);
        if !self.ledger().is_releasing(channel) {
            // What was to be told once more is not, for this wish.
            self.settle(channel, &Ok(Unsubscribed::Shared));
        }
        if !wanted {
            let count = self.ledger().wanted();
            let added = TelemetryEvent::SubscriptionAdded { channel, count };
            self.arguments.plane.report(&added);
        }
        if self.arguments.adapter.is_none() {
            self.arguments.plane.admit(&subscriber);
            self.begin_afresh(self.arguments.plane.epoch());
            self.expect(channel);
            self.cadences.on_confirmed(channel, clock::now());
            let _ = reply.send(Ok(()));
            return None;
        }
        self.arguments.plane.end_if_over(&subscriber);
        self.expect(channel);
        let plane = &self.arguments.plane;
        let ask = match action {
            WishAction::Confirmed(epoch) if plane.is_open(epoch) => {
                subscriber.resync(epoch, clock::now());
                self.cadences.on_confirmed(channel, clock::now());
                let _ = reply.send(Ok(()));
                return None;
            }
            WishAction::Ask => Some(Arc::clone(channel)),
            // Confirmed on a connection that has ended; its end has yet to be heard of.
            WishAction::Confirmed(_)
            | WishAction::Wait
            | WishAction::Keep
            | WishAction::Release => None,
        };
        let waiting = self.waiting.entry(Arc::clone(channel)).or_default();
        waiting.retain(|waiting| !waiting.is_closed());
        waiting.push(reply);
        ask
    }

    /// Withdraws the wish of a subscriber that the table no longer has. What became of its channel, unless the venue
    /// has to be told.
    fn unwish(&mut self, subscriber: &Subscriber) -> Option<Unsubscribed> {
        let Some(channel) = &subscriber.channel else {
            return Some(Unsubscribed::Untold);
        };
        self.expect(channel);
        let action = self.ledger().unwish(channel);
        let wanted = self.ledger().is_wanted(channel);
        let became = match action {
            WishAction::Release => None,
            WishAction::Ask | WishAction::Wait | WishAction::Confirmed(_) | WishAction::Keep => {
                Some(match wanted {
                    true => Unsubscribed::Shared,
                    false => Unsubscribed::Untold,
                })
            }
        };
        if !wanted {
            self.waiting.remove(channel);
            self.restoring.remove(channel);
            let count = self.ledger().wanted();
            let removed = TelemetryEvent::SubscriptionRemoved { channel, count };
            self.arguments.plane.report(&removed);
        }
        became
    }

    fn resync(
        &mut self,
        myself: &ActorRef<Traced<SubscriptionMessage>>,
        subscriber: &Arc<Subscriber>,
        received: Instant,
    ) {
        let Some(channel) = &subscriber.channel else {
            return;
        };
        let now = clock::now();
        // A venue whose numbers never fit is not asked at the speed of its answers.
        let paced = self
            .asked
            .get(channel)
            .is_some_and(|asked| now < *asked + AGAIN);
        if paced {
            let (myself, subscriber) = (myself.clone(), Arc::clone(subscriber));
            let later = OwnedTask::spawn(async move {
                tokio::time::sleep(AGAIN).await;
                // An actor that is gone asks for nothing.
                let _ = myself.cast(SubscriptionMessage::Resync(subscriber, received).into());
            });
            self.later.insert(Arc::clone(channel), later);
        } else {
            let afresh = self.ledger().on_broken(channel, received, now);
            if afresh && let Some(epoch) = self.epoch {
                self.asked.insert(Arc::clone(channel), now);
                self.tell(AdapterMessage::Renew(epoch, Arc::clone(channel)));
            }
        }
    }

    fn adapter(&mut self, myself: &ActorRef<Traced<SubscriptionMessage>>, event: AdapterEvent) {
        match event {
            AdapterEvent::Ready(epoch) => {
                let table = self.arguments.plane.routes.snapshot();
                // Who waits for that has a message of their own on the way.
                let gone = table.all().filter(|subscriber| subscriber.is_gone());
                let gone: Vec<_> = gone.map(Leaving::unheard).collect();
                self.part(gone);
                if self.epoch != Some(epoch) {
                    // The end of the one before may never have been said.
                    self.release_all();
                    self.end_unrestored();
                }
                self.epoch = Some(epoch);
                let channels = self.ledger().on_ready(epoch);
                let known = channels
                    .iter()
                    .filter(|one| !self.waiting.contains_key(*one));
                self.restoring = known.cloned().collect();
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
                let channels = self.ledger().on_lost(private);
                self.ask(channels);
            }
            AdapterEvent::Confirmed(epoch, channels) => {
                let mut unwanted = Vec::new();
                for channel in &channels {
                    unwanted.extend(self.confirmed(myself, epoch, channel));
                }
                self.tell_released(unwanted);
                self.report_restored(epoch, channels);
            }
            AdapterEvent::Refused(epoch, channels, detail) => {
                for channel in channels {
                    self.refused(myself, epoch, &channel, &detail);
                }
            }
            AdapterEvent::Postponed(epoch, channels, at_least) => {
                let postponed = channels
                    .iter()
                    .filter(|channel| self.ledger().on_postponed(channel, epoch));
                if postponed.count() > 0 {
                    self.again(myself, at_least.max(AGAIN));
                }
            }
            AdapterEvent::Released(epoch, channels) => {
                self.released(epoch, channels, |_| Ok(Unsubscribed::Confirmed));
            }
            AdapterEvent::Untold(epoch, channels) => {
                self.released(epoch, channels, |_| Ok(Unsubscribed::Untold));
            }
            AdapterEvent::ReleaseRefused(epoch, channels, detail) => {
                self.release_refused(epoch, channels, &detail);
            }
            AdapterEvent::ReleasePostponed(epoch, channels, at_least) => {
                self.release_postponed(myself, epoch, channels, at_least);
            }
            AdapterEvent::Closed => {
                self.epoch = None;
                self.timer = None;
                self.asked.clear();
                self.later.clear();
                self.cadences.on_closed();
                self.ledger().on_closed();
                self.release_all();
                self.end_unrestored();
            }
        }
    }

    fn report_restored(&mut self, epoch: Epoch, mut channels: Vec<Arc<str>>) {
        channels.retain(|channel| self.restoring.remove(channel));
        if !channels.is_empty() {
            let (epoch, channels) = (epoch.as_u64(), &*channels);
            let restored = TelemetryEvent::SubscriptionsRestored { epoch, channels };
            self.arguments.plane.report(&restored);
        }
    }

    /// Where nothing is restored, ends the subscriptions that the connection had.
    fn end_unrestored(&mut self) {
        if self.arguments.restore {
            return;
        }
        let channels = self.ledger().drop_confirmed();
        for channel in channels {
            for subscriber in self.arguments.plane.routes.snapshot().of(&channel) {
                subscriber.end(EndReason::NotRestored);
                self.arguments.plane.routes.remove(subscriber);
            }
            self.expect(&channel);
        }
    }

    /// The venue has confirmed a channel. Yields it if nobody wants it any more, which the venue has to be told.
    fn confirmed(
        &mut self,
        myself: &ActorRef<Traced<SubscriptionMessage>>,
        epoch: Epoch,
        channel: &Arc<str>,
    ) -> Option<Arc<str>> {
        let news = self.ledger().on_confirmed(channel, epoch);
        if !news {
            // Perhaps let go of while the venue was being asked.
            let unwanted = self.ledger().release_unwanted(channel, epoch);
            return unwanted.then(|| Arc::clone(channel));
        }
        let now = clock::now();
        self.cadences.on_confirmed(channel, now);
        let table = self.arguments.plane.routes.snapshot();
        let broken = self.ledger().is_broken_again(channel);
        if broken && let Some(subscriber) = table.of(channel).first() {
            self.resync(myself, subscriber, now);
        }
        for subscriber in table.of(channel) {
            subscriber.resync(epoch, now);
        }
        self.arguments.plane.observers.tell(&Notice::Confirmed {
            epoch,
            channel: Arc::clone(channel),
        });
        for reply in self.waiting.remove(channel).unwrap_or_default() {
            // Who no longer waits has let go of the subscription too.
            let _ = reply.send(Ok(()));
        }
        None
    }

    fn refused(
        &mut self,
        myself: &ActorRef<Traced<SubscriptionMessage>>,
        epoch: Epoch,
        channel: &Arc<str>,
        detail: &str,
    ) {
        let action = self.ledger().on_refused(channel, epoch, detail);
        match action {
            RefusalAction::Ignore => {}
            RefusalAction::Later => self.again(myself, AGAIN),
            RefusalAction::GiveUp => {
                if self.restoring.remove(channel) {
                    let epoch = epoch.as_u64();
                    let failed = TelemetryEvent::RestorationFailed { epoch, channel };
                    self.arguments.plane.report(&failed);
                }
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
                self.arguments.plane.observers.tell(&Notice::Refused {
                    epoch,
                    channel: Arc::clone(channel),
                    detail: detail.clone(),
                });
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
                self.expect(channel);
            }
        }
    }

    fn again(&mut self, myself: &ActorRef<Traced<SubscriptionMessage>>, pause: Duration) {
        let myself = myself.clone();
        self.timer = Some(OwnedTask::spawn(async move {
            tokio::time::sleep(pause).await;
            // An actor that is gone asks for nothing.
            let _ = myself.cast(SubscriptionMessage::Again.into());
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
            let _ = adapter.cast(message.into());
        }
    }
}
