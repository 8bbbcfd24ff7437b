//! The Adapter actor: makes an open connection a live session, and keeps it one.
//!
//! It speaks for one venue through a [`Platform`] and leaves every decision to the pure `Establish`
//! machine: steps, authentication, renewal, restoring. It monitors the Client and starts over with
//! each connection, whichever layer brought it.
//!
//! Invariants: calls run in tasks that it owns, never in a handler; an answer of an earlier connection
//! changes nothing; credentials pass through and are not kept.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use mainstay_supervisors::{Address, Down, MonitorRef, monitor};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use serde_json::value::RawValue;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::Instrument;

use super::client::{ClientEvent, ClientMessage};
use super::observe::Notice;
use super::plane::Plane;
use super::spans::Traced;
use super::subscriber::Subscriber;
use super::task::OwnedTask;
use super::{Sink, clock, request};
use crate::close::{CloseReason, GapCause};
use crate::config::Config;
use crate::config::limits::Lane;
use crate::error::{Kept, NotSentCause, Recovery, RequestError};
use crate::frame::Frame;
use crate::platform::{Moment, Platform};
use crate::protocol::call::{Batch, Call, Grant, Step};
use crate::protocol::continuity::Epoch;
use crate::protocol::establish::{Action, Establish, Failure, Tag};
use crate::protocol::recording::Mark;
use crate::protocol::venue_time::VenueClock;
use crate::telemetry::spans::Stage;

/// Speaks for the venue `P`.
pub(crate) struct Adapter<P>(std::marker::PhantomData<fn() -> P>);

impl<P> Adapter<P> {
    pub(crate) fn new() -> Self {
        Self(std::marker::PhantomData)
    }
}

/// What an Adapter is told.
#[derive(Debug)]
pub(crate) enum AdapterMessage {
    /// From the Client.
    Client(ClientEvent),
    /// From the monitor on the Client.
    ClientDown(Down),
    /// A call of its own has ended.
    Ended(Tag, Result<Frame, RequestError>, Timing),
    /// The venue was asked for its time, and that has ended.
    TimeEnded(Result<Frame, RequestError>, Timing),
    /// Channels to subscribe on the connection of this epoch.
    Subscribe(Epoch, Vec<Arc<str>>),
    /// Channels that nobody wants any more on the connection of this epoch.
    Release(Epoch, Vec<Arc<str>>),
    /// A channel to subscribe afresh on the connection of this epoch.
    Renew(Epoch, Arc<str>),
    /// The venue told somebody that we are not authorized.
    Unauthorized(String),
    /// From its own timer.
    Tick,
    /// Panic, to show what happens then.
    #[cfg(feature = "testing")]
    Crash,
}

mainstay_supervisors::message!(Traced<AdapterMessage>);

impl From<Down> for Traced<AdapterMessage> {
    fn from(down: Down) -> Self {
        AdapterMessage::ClientDown(down).into()
    }
}

/// When a call of the Adapter's own was made, and how long it took.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Timing {
    /// By the wall clock, when it was submitted.
    sent: SystemTime,
    round_trip: Duration,
}

/// What an Adapter reports to the keeper of the wishes.
#[derive(Debug, Clone)]
pub(crate) enum AdapterEvent {
    /// The connection is ready for subscriptions.
    Ready(Epoch),
    /// The private channels have to be asked for again.
    PrivateLost,
    /// These channels are subscribed.
    Confirmed(Epoch, Vec<Arc<str>>),
    /// These were refused.
    Refused(Epoch, Vec<Arc<str>>, String),
    /// These were neither; not to be asked for again before this long.
    Postponed(Epoch, Vec<Arc<str>>, Duration),
    /// The venue sends these no more.
    Released(Epoch, Vec<Arc<str>>),
    /// It refused to stop sending these.
    ReleaseRefused(Epoch, Vec<Arc<str>>, String),
    /// Neither; not to be told again before this long.
    ReleasePostponed(Epoch, Vec<Arc<str>>, Duration),
    /// For these there is nobody to be told.
    Untold(Epoch, Vec<Arc<str>>),
    /// The connection is over.
    Closed,
}

/// What an Adapter is made of.
pub(crate) struct AdapterArguments<P> {
    pub(crate) plane: Arc<Plane>,
    pub(crate) platform: Arc<P>,
    pub(crate) config: Arc<Config>,
    pub(crate) client: Address<Traced<ClientMessage>>,
    pub(crate) events: Sink<AdapterEvent>,
}

/// What it remembers.
pub(crate) struct AdapterState<P> {
    arguments: AdapterArguments<P>,
    establish: Establish,
    /// Keeps the venue's time, where the platform knows how to ask for it.
    clock: Option<VenueClock>,
    /// Calls under way; ended with the actor.
    calls: JoinSet<()>,
    /// The only timer.
    timer: Option<OwnedTask>,
    /// The monitor on the present Client.
    monitor: Option<MonitorRef>,
    /// Whether there may be an end that has not been told yet: from a connection's opening, and from the actor's own
    /// start, since its predecessor may have left one behind.
    untold: bool,
}

#[cfg_attr(feature = "async-trait", ractor::async_trait)]
impl<P: Platform> Actor for Adapter<P> {
    type Msg = Traced<AdapterMessage>;
    type State = AdapterState<P>;
    type Arguments = AdapterArguments<P>;

    async fn pre_start(
        &self,
        _myself: ActorRef<Self::Msg>,
        arguments: Self::Arguments,
    ) -> Result<Self::State, ActorProcessingErr> {
        let question = arguments.platform.time_question();
        Ok(AdapterState {
            arguments,
            establish: Establish::new(),
            clock: question.map(|question| VenueClock::new(question.every)),
            calls: JoinSet::new(),
            timer: None,
            monitor: None,
            untold: true,
        })
    }

    async fn handle(
        &self,
        myself: ActorRef<Self::Msg>,
        message: Self::Msg,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        let (message, span) = message.open(&state.arguments.plane, "adapter", &myself);
        let _within = span.enter();
        let actions = match message {
            AdapterMessage::Client(ClientEvent::Started(client)) => {
                state.watch(monitor(&myself, client));
                Vec::new()
            }
            AdapterMessage::Client(ClientEvent::Opened(epoch)) => {
                state.untold = true;
                state.calls.abort_all();
                let steps = state.arguments.platform.opening();
                if !steps.is_empty() {
                    state.arguments.plane.spans.stage(Stage::Auth);
                }
                state.establish.on_opened(epoch, steps)
            }
            AdapterMessage::Client(ClientEvent::Closed) => state.closed(),
            AdapterMessage::ClientDown(down) => state.client_down(down),
            AdapterMessage::Ended(tag, result, timing) => state.ended(tag, result, timing),
            AdapterMessage::TimeEnded(result, timing) => {
                match state.read(result) {
                    Ok(result) => state.keep_time(&result, timing),
                    Err(_) => state.time_failed(),
                }
                Vec::new()
            }
            AdapterMessage::Subscribe(epoch, channels) => state.subscribe(epoch, channels),
            AdapterMessage::Release(epoch, channels) => {
                let batches = state.to_release(epoch, &channels);
                state.establish.on_released(epoch, batches)
            }
            AdapterMessage::Renew(epoch, channel) => {
                let first = state
                    .arguments
                    .platform
                    .unsubscribe(&[Arc::clone(&channel)]);
                let then = state.to_subscribe(epoch, vec![channel]);
                state.establish.on_broken(epoch, first, then)
            }
            AdapterMessage::Unauthorized(detail) => {
                state.establish.on_unauthorized(detail, clock::now())
            }
            AdapterMessage::Tick => {
                state.ask_time(&myself);
                state.establish.on_tick(clock::now())
            }
            #[cfg(feature = "testing")]
            AdapterMessage::Crash => panic!("the adapter was told to panic"),
        };
        for action in actions {
            state.perform(&myself, action);
        }
        state.arm(&myself);
        Ok(())
    }
}

impl<P: Platform> AdapterState<P> {
    fn subscribe(&mut self, epoch: Epoch, channels: Vec<Arc<str>>) -> Vec<Action> {
        if channels.is_empty() {
            return self.establish.on_wishes(epoch, Vec::new());
        }
        let batches = self.to_subscribe(epoch, channels);
        self.establish.on_wishes(epoch, batches)
    }

    /// The requests that subscribe to these channels.
    fn to_subscribe(&self, epoch: Epoch, channels: Vec<Arc<str>>) -> Vec<Batch> {
        let batches = self.arguments.platform.subscribe(&channels);
        // What the platform asks nobody for is the user's own affair, and counts as confirmed.
        let own = not_in(&batches, channels);
        if !own.is_empty() {
            (self.arguments.events)(AdapterEvent::Confirmed(epoch, own));
        }
        batches
    }

    /// The requests that end these channels' subscriptions.
    fn to_release(&self, epoch: Epoch, channels: &[Arc<str>]) -> Vec<Batch> {
        let batches = self.arguments.platform.unsubscribe(channels);
        let own = not_in(&batches, channels.to_vec());
        if !own.is_empty() {
            (self.arguments.events)(AdapterEvent::Untold(epoch, own));
        }
        batches
    }

    /// The Client tells of an end, and so does its own: once is enough.
    fn closed(&mut self) -> Vec<Action> {
        if !std::mem::take(&mut self.untold) {
            return Vec::new();
        }
        self.calls.abort_all();
        self.establish.on_closed();
        if let Some(clock) = &mut self.clock {
            clock.on_closed();
        }
        (self.arguments.events)(AdapterEvent::Closed);
        Vec::new()
    }

    /// An earlier Client's end says nothing about the present one.
    fn watch(&mut self, present: MonitorRef) {
        if let Some(earlier) = self.monitor.replace(present) {
            earlier.demonitor_flush();
        }
    }

    fn client_down(&mut self, down: Down) -> Vec<Action> {
        if down.claim().is_none() {
            return Vec::new();
        }
        self.monitor = None;
        self.closed()
    }

    fn ended(
        &mut self,
        tag: Tag,
        result: Result<Frame, RequestError>,
        timing: Timing,
    ) -> Vec<Action> {
        let now = clock::now();
        let result = match self.read(result) {
            Ok(result) => result,
            Err(failure) => return self.establish.on_failure(tag, failure, now),
        };
        if let Some(step) = self.establish.step(tag) {
            let platform = &self.arguments.platform;
            let question = platform.time_question();
            let tells_time = question.is_some_and(|question| question.call.method() == step);
            if let Err(mut failure) = platform.accepts(step, &result) {
                failure.detail = self.arguments.plane.secrets.clean(failure.detail);
                return self.establish.on_failure(tag, failure, now);
            }
            if tells_time {
                self.keep_time(&result, timing);
            }
        }
        if self.establish.grants(tag) {
            self.arguments.plane.secrets.learn_grant(&result);
            return match self.arguments.platform.granted(&result) {
                Ok(grant) => self.granted(tag, grant, now),
                Err(error) => {
                    let detail = self.arguments.plane.secrets.clean(error.to_string());
                    let recovery = Recovery::Retry;
                    let failure = Failure { detail, recovery };
                    self.establish.on_failure(tag, failure, now)
                }
            };
        }
        let platform = &self.arguments.platform;
        let confirmed = match (self.establish.batch(tag), self.establish.release(tag)) {
            (Some(batch), _) => platform.confirmed(batch, &result),
            (None, Some(batch)) => platform.released(batch, &result),
            (None, None) => Vec::new(),
        };
        self.establish.on_result(tag, None, &confirmed, now)
    }

    fn granted(&mut self, tag: Tag, grant: Grant, now: std::time::Instant) -> Vec<Action> {
        let plane = &self.arguments.plane;
        let grant = match &plane.hooks {
            Some(hooks) => hooks.renewal(grant),
            None => grant,
        };
        let lasts = grant.lasts;
        let actions = self.establish.on_result(tag, Some(grant), &[], now);
        if let Some(epoch) = self.establish.authorized_at(now) {
            plane.observers.tell(&Notice::Authorized { epoch, lasts });
        }
        actions
    }

    /// The result, or what the platform thinks of its absence.
    fn read(&self, result: Result<Frame, RequestError>) -> Result<Box<RawValue>, Failure> {
        let frame = result.map_err(|error| Failure {
            detail: crate::error::chain(&error),
            recovery: error.recovery(),
        })?;
        match self.arguments.platform.decode(frame.payload()) {
            Ok(Ok(result)) => Ok(result),
            Ok(Err(error)) => {
                let error = self.arguments.plane.secrets.clean_error(error);
                let recovery = self.arguments.platform.recovery(&error);
                request::heed(&self.arguments.plane, &*self.arguments.platform, &error);
                Err(Failure {
                    detail: error.to_string(),
                    recovery,
                })
            }
            Err(error) => Err(Failure {
                detail: self.arguments.plane.secrets.clean(error.to_string()),
                recovery: Recovery::Retry,
            }),
        }
    }

    fn perform(&mut self, myself: &ActorRef<Traced<AdapterMessage>>, action: Action) {
        match action {
            Action::Call { tag, call } => self.call(myself, tag, call),
            Action::Authenticate { tag } => {
                let moment = Moment::new(SystemTime::now(), fastrand::u64(..));
                match self.arguments.platform.authenticate(&moment) {
                    Some(call) => self.call(myself, tag, call),
                    None => {
                        let grant = Some(Grant::default());
                        let actions = self.establish.on_result(tag, grant, &[], clock::now());
                        for action in actions {
                            self.perform(myself, action);
                        }
                    }
                }
            }
            Action::AskWishes { epoch } => {
                self.arguments.plane.spans.stage(Stage::Restore);
                (self.arguments.events)(AdapterEvent::Ready(epoch));
            }
            Action::AskPrivateWishes => (self.arguments.events)(AdapterEvent::PrivateLost),
            Action::Live { epoch } => {
                if let Some(clock) = &mut self.clock {
                    clock.on_live(clock::now());
                }
                self.arguments.plane.live(epoch, true);
            }
            Action::Confirm { epoch, channels } => {
                self.arguments.plane.progress(epoch);
                (self.arguments.events)(AdapterEvent::Confirmed(epoch, channels));
            }
            Action::Refuse {
                epoch,
                channels,
                detail,
            } => {
                (self.arguments.events)(AdapterEvent::Refused(epoch, channels, detail));
            }
            Action::Postpone {
                epoch,
                channels,
                at_least,
            } => {
                (self.arguments.events)(AdapterEvent::Postponed(epoch, channels, at_least));
            }
            Action::ConfirmRelease { epoch, channels } => {
                (self.arguments.events)(AdapterEvent::Released(epoch, channels));
            }
            Action::SubscribeApart { epoch, channels } => {
                let each = channels.into_iter();
                let batches = each.flat_map(|channel| self.to_subscribe(epoch, vec![channel]));
                let batches = batches.collect();
                for action in self.establish.on_wishes_apart(epoch, batches) {
                    self.perform(myself, action);
                }
            }
            Action::ReleaseApart { epoch, channels } => {
                let each = channels.iter().map(std::slice::from_ref);
                let batches = each.flat_map(|channel| self.to_release(epoch, channel));
                let batches = batches.collect();
                for action in self.establish.on_released_apart(epoch, batches) {
                    self.perform(myself, action);
                }
            }
            Action::RefuseRelease {
                epoch,
                channels,
                detail,
            } => {
                (self.arguments.events)(AdapterEvent::ReleaseRefused(epoch, channels, detail));
            }
            Action::PostponeRelease {
                epoch,
                channels,
                at_least,
            } => {
                (self.arguments.events)(AdapterEvent::ReleasePostponed(epoch, channels, at_least));
            }
            Action::AuthorizationLost {
                epoch,
                since,
                detail,
            } => {
                let notice = Notice::Unauthorized {
                    epoch,
                    detail: detail.clone(),
                };
                self.arguments.plane.observers.tell(&notice);
                let cause = GapCause::AuthorizationLost { detail };
                let private = |subscriber: &Subscriber| subscriber.kind.private;
                self.arguments
                    .plane
                    .interrupt_where(private, &cause, epoch, since);
            }
            Action::Abandon {
                epoch,
                step,
                detail,
                recovery,
            } => {
                if step == Step::Authenticate.name() {
                    let detail = detail.clone();
                    let notice = Notice::Unauthorized { epoch, detail };
                    self.arguments.plane.observers.tell(&notice);
                }
                let reason = CloseReason::NotEstablished {
                    step,
                    detail,
                    recovery,
                };
                // A Client that is gone has taken the connection with it.
                let _ = self
                    .arguments
                    .client
                    .cast(ClientMessage::Abandon(epoch, reason).into());
            }
        }
    }

    /// Asks for the venue's time if it is time for that.
    fn ask_time(&mut self, myself: &ActorRef<Traced<AdapterMessage>>) {
        let due = self
            .clock
            .as_mut()
            .is_some_and(|clock| clock.on_tick(clock::now()));
        if due && let Some(question) = self.arguments.platform.time_question() {
            self.submit(myself, question.call, None, AdapterMessage::TimeEnded);
        }
    }

    fn keep_time(&mut self, result: &RawValue, timing: Timing) {
        let Ok(reading) = self.arguments.platform.time(result) else {
            return self.time_failed();
        };
        if let Some(clock) = &mut self.clock {
            clock.on_reading(timing.sent, timing.round_trip, reading, clock::now());
            self.arguments.plane.keep_venue_time(clock.known());
        }
    }

    fn time_failed(&mut self) {
        if let Some(clock) = &mut self.clock {
            clock.on_failure(clock::now());
        }
    }

    fn call(&mut self, myself: &ActorRef<Traced<AdapterMessage>>, tag: Tag, call: Call) {
        let mark = self.establish.mark(tag);
        self.submit(myself, call, mark, move |result, timing| {
            AdapterMessage::Ended(tag, result, timing)
        });
    }

    /// Submits a call at once, so that calls leave in the order in which they were decided, and has a
    /// task of its own wait for the answer and bring it back as a message.
    fn submit(
        &mut self,
        myself: &ActorRef<Traced<AdapterMessage>>,
        call: Call,
        mark: Option<Mark>,
        message: impl FnOnce(Result<Frame, RequestError>, Timing) -> AdapterMessage + Send + 'static,
    ) {
        // What has ended is cleared away, so that the set stays as small as what is under way.
        while self.calls.try_join_next().is_some() {}
        let plane = Arc::clone(&self.arguments.plane);
        let limit = self.arguments.config.limits.auth;
        let myself = myself.clone();
        let (sent, at) = (SystemTime::now(), clock::now());
        let spans = &plane.spans;
        let traced = spans.request(spans.own(), call.method());
        let submitted = match plane.line() {
            Some(line) => {
                let mut toll = request::toll(&plane, &*self.arguments.platform, &call);
                if mark == Some(Mark::Authentication)
                    && let Some((_, weight)) = &mut toll
                {
                    // Nothing goes well without authorization.
                    weight.lane = weight.lane.min(Lane::High);
                }
                request::submit(&line, toll, call, mark, traced.span())
            }
            None => {
                let detail = format!("there is no connection: {}", *plane.watch_state().borrow());
                Err(Kept::new(NotSentCause::NotLive, detail).of(call.method()))
            }
        };
        let platform = Arc::clone(&self.arguments.platform);
        self.calls.spawn(async move {
            let settled = async {
                match submitted {
                    Ok(submitted) => request::settle(&plane, submitted, limit).await,
                    Err(error) => Err(error),
                }
            };
            let result = settled.instrument(traced.span().clone()).await;
            traced.end(&judged(&*platform, &result));
            let round_trip = clock::now().saturating_duration_since(at);
            // An actor that is gone has no use for the answer.
            let _ = myself.cast(message(result, Timing { sent, round_trip }).into());
        });
    }

    fn arm(&mut self, myself: &ActorRef<Traced<AdapterMessage>>) {
        let time = self.clock.as_ref().and_then(VenueClock::next_timeout);
        let next = [self.establish.next_timeout(), time]
            .into_iter()
            .flatten()
            .min();
        self.timer = next.map(|at| {
            let myself = myself.clone();
            OwnedTask::spawn(async move {
                tokio::time::sleep_until(Instant::from_std(at)).await;
                let _ = myself.cast(AdapterMessage::Tick.into());
            })
        });
    }
}

/// The answer as a span tells of it.
fn judged(
    platform: &dyn Platform,
    result: &Result<Frame, RequestError>,
) -> Result<(), RequestError> {
    let frame = result.as_ref().map_err(RequestError::clone)?;
    let method = String::new();
    match platform.decode(frame.payload()) {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(RequestError::Answered { method, error }),
        Err(source) => Err(RequestError::Undecodable { method, source }),
    }
}

/// Those of the channels that no batch names.
fn not_in(batches: &[Batch], mut channels: Vec<Arc<str>>) -> Vec<Arc<str>> {
    let named: HashSet<&Arc<str>> = batches.iter().flat_map(|batch| &batch.channels).collect();
    channels.retain(|channel| !named.contains(channel));
    channels
}
