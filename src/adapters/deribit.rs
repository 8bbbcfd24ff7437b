//! [Deribit](https://docs.deribit.com), JSON-RPC API v2 over WebSocket.
//!
//! Apart from the session because these are one venue's words: how it authenticates, what its
//! channels are called, what its error numbers mean and what its messages hold. The session asks
//! [`Deribit`] through [`Platform`]; a program takes its channels from the functions here, such as
//! [`ticker`] and [`book`], and reads typed messages.
//!
//! Invariants: credentials and tokens live in values without `Debug` and in [`Call`]s, which never
//! show them; no text of an error repeats what the venue sent; an error is judged by its number,
//! never by its message. Deliberately absent: signed authentication.

mod authorization;
mod book;
mod builder;
mod channels;
mod decode;
mod error_code;
mod limits;
mod order_book;
mod orders;
mod portfolio;
mod quote;
pub mod rpc;
mod ticker;
mod trades;

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::config::Settings;
use crate::config::limits::{Lane, RateLimits, Weight};
use crate::error::{DecodeError, ErrorObject, Recovery};
use crate::platform::{ChannelKind, Failure, Moment, Platform, Route, TimeQuestion};
use crate::protocol::call::{Batch, Call, Grant, Step};
use crate::protocol::envelope::{self, Envelope};
use authorization::{Credentials, Identity};

pub use book::{Action, Book, BookChange, BookKind, GroupedBook, Level};
pub use builder::{DeribitBuilder, Scope, WhenLocked};
pub use channels::{
    Interval, book, grouped_book, portfolio, quote, ticker, trades, user_changes, user_orders,
    user_trades,
};
pub use error_code::{Category, ErrorCode};
pub use limits::{Tier, rate_limits};
pub use order_book::{BookError, OrderBook};
pub use orders::{Direction, Order, OrderState, Position, UserChanges, UserOrders};
pub use portfolio::Portfolio;
pub use quote::Quote;
pub use ticker::{Greeks, InstrumentState, Stats, Ticker};
pub use trades::{Trade, Trades, UserTrade, UserTrades};

/// The test network, with its own accounts and keys.
pub const TEST_URL: &str = "wss://test.deribit.com/ws/api/v2";

/// The real one.
pub const PRODUCTION_URL: &str = "wss://www.deribit.com/ws/api/v2";

/// The steps of the opening whose results say more than that they were answered.
const TIME: &str = "public/get_time";
const STATUS: &str = "public/status";
const HEARTBEAT: &str = "public/set_heartbeat";
const CANCEL_ON_DISCONNECT: &str = "private/enable_cancel_on_disconnect";

/// Channels in one subscribe request. The venue charges for requests, not for channels (3,000 of
/// 30,000 credits each), so that few requests with many channels restore a session soonest; the
/// bound keeps a request, and what one refusal takes down with it, small.
const CHANNELS_IN_A_BATCH: usize = 100;

/// Deribit, as a [`Platform`].
///
/// Give it to a session together with [`TEST_URL`] or [`PRODUCTION_URL`].
///
/// ```
/// # fn main() -> Result<(), mainstay::error::ConfigError> {
/// use mainstay::adapters::deribit::{Deribit, Scope};
///
/// let public = Deribit::new();
/// let private = Deribit::builder()
///     .credentials("id", "secret")
///     .cancel_on_disconnect(Scope::Connection)
///     .build()?;
/// assert!(format!("{private:?}").contains("[redacted]"));
/// # let _ = public;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Deribit {
    client: Client,
    /// Whole seconds, which is all that the venue knows.
    heartbeat: Duration,
    credentials: Option<Credentials>,
    /// Whom the session becomes once it has logged in.
    identity: Option<Identity>,
    cancel_on_disconnect: Option<Scope>,
    tier: Tier,
    when_locked: WhenLocked,
    /// How often the venue's clock is asked.
    time_sync: Duration,
}

/// How the program introduces itself.
#[derive(Debug, Clone, Serialize)]
struct Client {
    #[serde(rename = "client_name")]
    name: String,
    #[serde(rename = "client_version")]
    version: String,
}

impl Client {
    /// This library.
    fn ours() -> Self {
        Self {
            name: env!("CARGO_PKG_NAME").to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }
}

impl Deribit {
    /// Public data only, a heartbeat every 30 s. [`Deribit::builder`] has the options.
    #[must_use]
    pub fn new() -> Self {
        Self {
            client: Client::ours(),
            heartbeat: builder::DEFAULT_HEARTBEAT,
            credentials: None,
            identity: None,
            cancel_on_disconnect: None,
            tier: Tier::Fourth,
            when_locked: WhenLocked::Proceed,
            time_sync: builder::DEFAULT_TIME_SYNC,
        }
    }

    /// Begins a description with credentials and other options.
    pub fn builder() -> DeribitBuilder {
        DeribitBuilder::default()
    }

    /// Few requests with many channels each, in the order of the wishes within each kind.
    fn batches(&self, verb: Verb, channels: &[Arc<str>]) -> Vec<Batch> {
        let (mut public, mut refusable, mut private) = (Vec::new(), Vec::new(), Vec::new());
        for channel in channels {
            if channels::is_private(channel) {
                private.push(Arc::clone(channel));
            } else if channels::is_raw(channel) && self.credentials.is_none() {
                // The venue may answer these with an error that refuses the whole request (13778).
                refusable.push(Arc::clone(channel));
            } else {
                public.push(Arc::clone(channel));
            }
        }
        let (of_public, of_private) = match verb {
            Verb::Subscribe => ("public/subscribe", "private/subscribe"),
            Verb::Unsubscribe => ("public/unsubscribe", "private/unsubscribe"),
        };
        [
            (of_public, public),
            (of_public, refusable),
            (of_private, private),
        ]
        .iter()
        .flat_map(|(method, channels)| {
            channels.chunks(CHANNELS_IN_A_BATCH).map(|channels| {
                let call = request(method, &Channels { channels });
                Batch::new(call, channels.to_vec())
            })
        })
        .collect()
    }
}

impl Default for Deribit {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Deribit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deribit")
            .field("client", &self.client)
            .field("heartbeat", &self.heartbeat)
            .field(
                "credentials",
                &self.credentials.as_ref().map(|_| "[redacted]"),
            )
            .field("identity", &self.identity)
            .field("cancel_on_disconnect", &self.cancel_on_disconnect)
            .field("tier", &self.tier)
            .field("when_locked", &self.when_locked)
            .field("time_sync", &self.time_sync)
            .finish()
    }
}

impl Platform for Deribit {
    fn name(&self) -> &str {
        "deribit"
    }

    /// The venue's own limits ([`rate_limits`]).
    fn defaults(&self) -> Settings {
        Settings {
            rate_limits: Some(Some(rate_limits(self.tier))),
            ..Settings::default()
        }
    }

    /// As the limits say; cancels use the reserved lane under limits of the user's own, too.
    fn weigh(&self, limits: &RateLimits, call: &Call) -> Weight {
        let weight = limits.weigh(call.method());
        if limits::is_cancel(call.method()) {
            weight.lane(Lane::Reserved)
        } else {
            weight
        }
    }

    /// too_many_requests
    fn limited(&self, error: &ErrorObject) -> bool {
        error.code == 10028
    }

    fn route<'f>(&self, frame: &'f [u8]) -> Route<'f> {
        match envelope::peek(frame) {
            Envelope::Response { id } => Route::Reply(id),
            Envelope::Notification { method, .. } if method == "heartbeat" => Route::Heartbeat,
            Envelope::Notification {
                method,
                channel: Some(channel),
            } if method == "subscription" => Route::Notification(channel),
            Envelope::Notification { .. }
            | Envelope::ForeignResponse
            | Envelope::Request { .. }
            | Envelope::Other => Route::Unrouted,
        }
    }

    fn channel_start(&self, frame: &[u8]) -> Option<usize> {
        envelope::channel_start(frame)
    }

    /// Greeting, clock, status, heartbeat, authentication (with credentials), cancel-on-disconnect (if
    /// chosen). The first that fails gives its name to the error.
    ///
    /// The heartbeat comes before the rest so that a line that dies meanwhile is noticed.
    fn opening(&self) -> Vec<Step> {
        let heartbeat = Heartbeat {
            interval: self.heartbeat.as_secs(),
        };
        let authenticate = self.credentials.as_ref().map(|_| Step::Authenticate);
        let cancel = self
            .cancel_on_disconnect
            .map(|scope| Step::Call(request(CANCEL_ON_DISCONNECT, &CancelOnDisconnect { scope })));
        [
            Step::Call(request("public/hello", &self.client)),
            Step::Call(request(TIME, &NoParams {})),
            Step::Call(request(STATUS, &NoParams {})),
            Step::Call(request(HEARTBEAT, &heartbeat)),
        ]
        .into_iter()
        .chain(authenticate)
        .chain(cancel)
        .collect()
    }

    /// A platform that is locked is waited for, if that was chosen; and what is to be switched on has to be
    /// on.
    fn accepts(&self, step: &str, result: &RawValue) -> Result<(), Failure> {
        match step {
            STATUS if self.when_locked == WhenLocked::Wait => {
                // A status of another form says nothing of a lock.
                let locked = serde_json::from_str::<rpc::PlatformStatus>(result.get())
                    .is_ok_and(|status| status.locked == rpc::Locked::Wholly);
                match locked {
                    true => Err(Failure {
                        detail: "the platform is locked".to_owned(),
                        recovery: Recovery::RetryAfter(error_code::MAINTENANCE),
                    }),
                    false => Ok(()),
                }
            }
            HEARTBEAT | CANCEL_ON_DISCONNECT if result.get() != "\"ok\"" => Err(Failure {
                detail: "the venue did not answer \"ok\"".to_owned(),
                recovery: Recovery::Retry,
            }),
            _ => Ok(()),
        }
    }

    fn time_question(&self) -> Option<TimeQuestion> {
        Some(TimeQuestion::new(
            request(TIME, &NoParams {}),
            self.time_sync,
        ))
    }

    fn authenticate(&self, moment: &Moment) -> Option<Call> {
        let credentials = self.credentials.as_ref()?;
        Some(credentials.authenticate(moment))
    }

    fn granted(&self, result: &RawValue) -> Result<Grant, DecodeError> {
        authorization::granted(result, self.identity.as_ref())
    }

    fn subscribe(&self, channels: &[Arc<str>]) -> Vec<Batch> {
        self.batches(Verb::Subscribe, channels)
    }

    fn unsubscribe(&self, channels: &[Arc<str>]) -> Vec<Batch> {
        self.batches(Verb::Unsubscribe, channels)
    }

    /// The venue leaves out silently what it does not accept, and answers in an order of its own.
    fn confirmed(&self, batch: &Batch, result: &RawValue) -> Vec<Arc<str>> {
        listed(batch, result)
    }

    /// The venue lists what it really has removed.
    fn released(&self, batch: &Batch, result: &RawValue) -> Vec<Arc<str>> {
        listed(batch, result)
    }

    fn channel(&self, name: &str) -> ChannelKind {
        channels::kind(name, self.credentials.is_some())
    }

    fn heartbeat(&self, frame: &[u8]) -> Option<Call> {
        let notification: HeartbeatNotification<'_> = serde_json::from_slice(frame).ok()?;
        let asks = notification.method == "heartbeat" && notification.params.kind == "test_request";
        asks.then(|| request("public/test", &NoParams {}))
    }

    /// Those about tokens, and those about API keys, whose answers show the key's secret.
    fn confidential(&self, method: &str) -> bool {
        let word = method.split_once('/').map_or(method, |(_, word)| word);
        matches!(word, "auth" | "exchange_token" | "fork_token" | "logout")
            || word.contains("api_key")
    }

    fn recovery(&self, error: &ErrorObject) -> Recovery {
        match error_code::recovery(error.code) {
            // There is nothing to authenticate with: another attempt cannot help.
            Recovery::Reauthenticate if self.credentials.is_none() => Recovery::Stop,
            recovery => recovery,
        }
    }
}

#[derive(Clone, Copy)]
enum Verb {
    Subscribe,
    Unsubscribe,
}

#[derive(Serialize)]
struct NoParams {}

#[derive(Serialize)]
struct Heartbeat {
    interval: u64,
}

#[derive(Serialize)]
struct CancelOnDisconnect {
    scope: Scope,
}

#[derive(Serialize)]
struct Channels<'a> {
    #[serde(serialize_with = "names")]
    channels: &'a [Arc<str>],
}

fn names<S: serde::Serializer>(channels: &[Arc<str>], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(channels.iter().map(|channel| &**channel))
}

#[derive(Deserialize)]
struct HeartbeatNotification<'f> {
    #[serde(borrow)]
    method: std::borrow::Cow<'f, str>,
    #[serde(borrow)]
    params: HeartbeatParams<'f>,
}

#[derive(Deserialize)]
struct HeartbeatParams<'f> {
    #[serde(borrow, rename = "type")]
    kind: std::borrow::Cow<'f, str>,
}

/// Those of a batch's channels that the venue lists in its answer.
fn listed(batch: &Batch, result: &RawValue) -> Vec<Arc<str>> {
    let Ok(listed) = serde_json::from_str::<HashSet<String>>(result.get()) else {
        return Vec::new();
    };
    let channels = batch.channels.iter();
    channels
        .filter(|channel| listed.contains(&***channel))
        .cloned()
        .collect()
}

/// A request whose parameters are a struct of ours.
fn request(method: &'static str, params: &impl Serialize) -> Call {
    Call::new(method, params).expect("a struct of strings and integers can be written as JSON")
}

#[cfg(test)]
mod tests;
