//! What a venue must tell us, as one trait of pure functions.
//!
//! The session knows sockets, actors and promises; a [`Platform`] knows a venue's words. Whoever
//! writes an adapter implements this trait and nothing else: no clock, no task, no socket. The
//! defaults speak JSON-RPC 2.0, so that a plain service needs hardly a line.
//!
//! Invariants: every method is a function of its arguments and of the platform's own constants;
//! nothing here blocks; credentials stay inside [`Call`]s, which never show them.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde_json::value::RawValue;

use crate::config::Settings;
use crate::config::limits::{RateLimits, Weight};
use crate::error::{DecodeError, ErrorObject, Recovery};
use crate::frame::Frame;
pub use crate::protocol::call::{Batch, Call, Grant, Step};
use crate::protocol::envelope::{self, Envelope};
pub use crate::protocol::establish::Failure;
use crate::protocol::json_rpc;
pub use crate::protocol::market::MarketSignal;
use crate::protocol::sequence;
pub use crate::protocol::venue_time::{Reading, TimeQuestion};

/// Where an inbound frame goes.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Route<'f> {
    /// To the caller that waits for the answer to this request.
    Reply(u64),
    /// To the subscribers of this channel.
    Notification(std::borrow::Cow<'f, str>),
    /// To the `HeartbeatManager`, which asks [`Platform::heartbeat`] for an answer.
    Heartbeat,
    /// It is a JSON array of messages, each of which is routed by itself: the answers to a batch.
    Batch,
    /// To whoever listens to everything else.
    Unrouted,
}

/// A moment, for platforms that sign their authentication.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Moment {
    /// The wall clock.
    pub now: SystemTime,
    /// A random number, for a nonce.
    pub random: u64,
}

impl Moment {
    /// A moment with the wall clock at `now` and `random` as a nonce.
    #[must_use]
    pub fn new(now: SystemTime, random: u64) -> Self {
        Self { now, random }
    }
}

/// What kind of stream a channel is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ChannelKind {
    /// After a (re)subscription the venue first sends the whole state, or every message is the whole
    /// state: a consumer that goes on from there has lost nothing that it still needs.
    pub restores_state: bool,
    /// It needs authorization, and ends when that is lost.
    pub private: bool,
    /// How often data is to be expected at the least, as long as the market is open. Later, the channel is stale and climbs
    /// the [`Ladder`](crate::config::Ladder). Default none: it may be silent for as long as it likes.
    pub cadence: Option<Duration>,
}

impl ChannelKind {
    /// Every message, or the first after a subscription, is the whole state.
    #[must_use]
    pub fn state() -> Self {
        Self {
            restores_state: true,
            private: false,
            cadence: None,
        }
    }

    /// A stream of events: what was missed stays missed.
    #[must_use]
    pub fn events() -> Self {
        Self {
            restores_state: false,
            private: false,
            cadence: None,
        }
    }

    /// The same kind, but in need of authorization.
    #[must_use]
    pub fn private(self) -> Self {
        Self {
            private: true,
            ..self
        }
    }

    /// The same kind, of which data is to be expected at least this often.
    #[must_use]
    pub fn cadence(self, cadence: Duration) -> Self {
        Self {
            cadence: Some(cadence),
            ..self
        }
    }
}

/// A venue's words. Pure; see the module's documentation.
pub trait Platform: fmt::Debug + Send + Sync + 'static {
    /// A short name for paths, logs and tables, such as `deribit`.
    fn name(&self) -> &str;

    /// What this venue asks of a configuration that says nothing about it: a layer beneath the user's and
    /// any preset's, above the library's defaults. Default: nothing.
    fn defaults(&self) -> Settings {
        Settings::default()
    }

    /// Where an inbound text or binary frame goes. Called once for every frame: it looks at bytes and
    /// never parses the payload.
    fn route<'f>(&self, frame: &'f [u8]) -> Route<'f> {
        match envelope::peek(frame) {
            Envelope::Response { id } => Route::Reply(id),
            Envelope::Notification {
                channel: Some(channel),
                ..
            } => Route::Notification(channel),
            Envelope::Other if envelope::is_batch(frame) => Route::Batch,
            _ => Route::Unrouted,
        }
    }

    /// Where the channel's name begins in `frame`, which [`route`](Self::route) has called a notification, if the
    /// bytes before it settle that. `None`, the default, if more than those decide.
    ///
    /// Whoever answers promises: each frame that begins with the same bytes, and goes on with a name without
    /// escapes and control characters, then `"`, then `,` or `}`, is a notification of the channel of that name.
    /// The reader keeps those bytes and asks `route` no more for such frames; for a small message that is a
    /// quarter of all the work. A venue that speaks JSON-RPC answers with [`envelope::channel_start`].
    fn channel_start(&self, frame: &[u8]) -> Option<usize> {
        let _ = frame;
        None
    }

    /// Writes a request with an id that the session chose.
    fn encode(&self, id: u64, call: &Call) -> String {
        json_rpc::request(id, call.method(), call.params())
    }

    /// Writes several requests in one frame, each with an id that the session chose; there are at least two.
    /// `None` if the service does not speak batches: they are then written one after the other, each by
    /// [`Platform::encode`]. Default: `None`, since few venues do. A service that follows section 6 of JSON-RPC 2.0
    /// returns what [`JsonRpc`] does, or [`json_rpc::batch`].
    fn encode_batch(&self, requests: &[(u64, &Call)]) -> Option<String> {
        let _ = requests;
        None
    }

    /// Reads the answer to a request: a result, or the venue's error.
    ///
    /// # Errors
    ///
    /// A [`DecodeError`] if it is neither.
    fn decode(&self, frame: &[u8]) -> Result<Result<Box<RawValue>, ErrorObject>, DecodeError> {
        json_rpc::response(frame).map(|response| response.outcome.map(ToOwned::to_owned))
    }

    /// The steps from an open connection to a live session, in order. Default: none.
    fn opening(&self) -> Vec<Step> {
        Vec::new()
    }

    /// Whether the result of an opening step is good enough to go on. `step` is the step's method; an
    /// authentication is judged by [`Platform::granted`] instead. Default: any result is.
    ///
    /// # Errors
    ///
    /// What is wrong and whether another attempt can help; the connection is given up, and the error of the
    /// start names the step.
    fn accepts(&self, step: &str, result: &RawValue) -> Result<(), Failure> {
        let _ = (step, result);
        Ok(())
    }

    /// What to ask for the venue's time, and how often. An opening step of the same method is used too.
    /// Default: nothing, and [`Session::venue_time`](crate::Session::venue_time) knows none.
    fn time_question(&self) -> Option<TimeQuestion> {
        None
    }

    /// Reads the answer to [`Platform::time_question`]. Default: milliseconds since the Unix epoch.
    ///
    /// # Errors
    ///
    /// A [`DecodeError`] if it is no time.
    fn time(&self, result: &RawValue) -> Result<Reading, DecodeError> {
        serde_json::from_str(result.get())
            .map(Reading::milliseconds)
            .map_err(|error| DecodeError::json("time in milliseconds", &error))
    }

    /// The request that authenticates, made anew for each attempt. Default: none, and
    /// [`Step::Authenticate`] is skipped.
    fn authenticate(&self, moment: &Moment) -> Option<Call> {
        let _ = moment;
        None
    }

    /// What an accepted authentication, its completion ([`Grant::then`]) or a renewal granted. Default: for
    /// ever.
    ///
    /// # Errors
    ///
    /// A [`DecodeError`] if the venue's answer is not what it should be.
    fn granted(&self, result: &RawValue) -> Result<Grant, DecodeError> {
        let _ = result;
        Ok(Grant::default())
    }

    /// The requests that subscribe to these channels (at least one), few with many channels each. A
    /// channel that no request names counts as confirmed at once. A request of several channels that is refused for
    /// good is made again for each of them by itself. Default: none, for services whose subscriptions are made by the
    /// user's own requests.
    fn subscribe(&self, channels: &[Arc<str>]) -> Vec<Batch> {
        let _ = channels;
        Vec::new()
    }

    /// The requests that unsubscribe from these channels, few with many channels each; one that is refused for good is
    /// made again for each channel by itself. Default: none.
    fn unsubscribe(&self, channels: &[Arc<str>]) -> Vec<Batch> {
        let _ = channels;
        Vec::new()
    }

    /// Those of a batch's channels that the venue's answer really confirms; the others count as
    /// rejected. Default: all.
    fn confirmed(&self, batch: &Batch, result: &RawValue) -> Vec<Arc<str>> {
        let _ = result;
        batch.channels.clone()
    }

    /// Those of a batch's channels that the venue's answer really says it sends no more; of the others their holders
    /// are told that the venue refused to stop. Default: all.
    fn released(&self, batch: &Batch, result: &RawValue) -> Vec<Arc<str>> {
        let _ = result;
        batch.channels.clone()
    }

    /// What kind of stream a channel is. Default: events, public.
    fn channel(&self, name: &str) -> ChannelKind {
        let _ = name;
        ChannelKind::events()
    }

    /// The request that answers a heartbeat, if this one asks for an answer. Default: none does.
    fn heartbeat(&self, frame: &[u8]) -> Option<Call> {
        let _ = frame;
        None
    }

    /// Whether this frame says that the market has closed or opened: then the silence of a channel that has a cadence is
    /// no fault. Asked only of what [`Platform::route`] calls [`Route::Heartbeat`], so that no data pays for it.
    /// Default: none does.
    fn market(&self, frame: &[u8]) -> Option<MarketSignal> {
        let _ = frame;
        None
    }

    /// Whether requests of this method, or the answers to them, hold credentials. A recording keeps their
    /// shape and leaves their values out. What [`Platform::authenticate`] and a [`Grant`] ask is known to
    /// hold some in any case. Default: none does.
    fn confidential(&self, method: &str) -> bool {
        let _ = method;
        false
    }

    /// What a request costs under `limits`, and in which lane it waits for its turn. Give cancels
    /// [`Lane::Reserved`](crate::config::Lane::Reserved), which is never held up by a crowd; heartbeats have
    /// it anyway. Default: by the limits' own list. The limits themselves are one of the
    /// [`defaults`](Platform::defaults).
    fn weigh(&self, limits: &RateLimits, call: &Call) -> Weight {
        limits.weigh(call.method())
    }

    /// Whether this error says that we were too fast. The limiter then rests for as long as
    /// [`Platform::recovery`] says, if it does. Default: the code 429.
    fn limited(&self, error: &ErrorObject) -> bool {
        error.code == 429
    }

    /// What to do about one of the venue's own errors. Default: stop.
    fn recovery(&self, error: &ErrorObject) -> Recovery {
        error.recovery()
    }
}

/// A message of a channel, read by the consumer out of the raw frame.
pub trait Message: Sized + Send + 'static {
    /// Reads it.
    ///
    /// # Errors
    ///
    /// A [`DecodeError`] without the payload, such as [`DecodeError::json_as`] makes; the subscription reports it as a gap.
    fn decode(frame: &Frame) -> Result<Self, DecodeError>;

    /// Reads it out of a frame that nobody else needs; the default is [`Message::decode`].
    ///
    /// # Errors
    ///
    /// As [`Message::decode`].
    fn from_frame(frame: Frame) -> Result<Self, DecodeError> {
        Self::decode(&frame)
    }

    /// Its place in the venue's own sequence, if the channel has one. The subscription checks it.
    fn sequence(&self) -> Option<sequence::Step> {
        None
    }
}

impl Message for Frame {
    fn decode(frame: &Frame) -> Result<Self, DecodeError> {
        Ok(frame.clone())
    }

    fn from_frame(frame: Frame) -> Result<Self, DecodeError> {
        Ok(frame)
    }
}

/// A channel's name together with the type of its messages.
pub struct Channel<M> {
    name: Arc<str>,
    message: std::marker::PhantomData<fn() -> M>,
}

impl<M: Message> Channel<M> {
    /// The channel `name`, whose messages are read as `M`.
    #[must_use]
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        Self {
            name: name.into(),
            message: std::marker::PhantomData,
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }
}

impl<M> Clone for Channel<M> {
    fn clone(&self) -> Self {
        Self {
            name: Arc::clone(&self.name),
            message: std::marker::PhantomData,
        }
    }
}

impl<M> fmt::Debug for Channel<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Channel").field(&self.name).finish()
    }
}

/// A plain JSON-RPC 2.0 service: no authentication, no subscriptions of its own; it speaks batches.
#[derive(Debug, Clone, Copy, Default)]
pub struct JsonRpc;

impl Platform for JsonRpc {
    fn name(&self) -> &str {
        "json_rpc"
    }

    fn channel_start(&self, frame: &[u8]) -> Option<usize> {
        envelope::channel_start(frame)
    }

    fn encode_batch(&self, requests: &[(u64, &Call)]) -> Option<String> {
        let each = requests.iter();
        Some(json_rpc::batch(each.map(|(id, call)| {
            json_rpc::request(*id, call.method(), call.params())
        })))
    }
}
