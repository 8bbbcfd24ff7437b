//! What a session is told once, before it starts.
//!
//! A builder collects options in layers and `build` checks them all; a [`Config`] that exists is right and
//! never changes. It stands on the lowest floor because every actor reads its part of it.
//!
//! ```text
//! user       the builder's methods and its `settings`
//! preset     `preset`, `profile`
//! platform   `Platform::defaults`, when the session starts
//! default    the library
//! ```
//!
//! The first layer that says something about an option wins, option by option: one that names
//! `liveness.quiet` leaves `liveness.grace` to those below. [`Config::explain`] tells who said what.
//!
//! Invariants: whatever cannot work is refused by `build`, all of it at once, each with the option's name,
//! the value and the remedy; header values and certificates never appear in `Debug`.

mod breaker;
mod builder;
mod calendar;
mod check;
mod conflation;
pub(crate) mod endpoint;
mod explain;
mod headers;
pub(crate) mod limits;
mod options;
mod profile;
mod read;
pub(crate) mod record;
mod settings;
pub(crate) mod tls;
mod value;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName};

use crate::connector::Connector;
use crate::error::{ConfigError, ConfigErrors};
use crate::telemetry::Collector;
pub use breaker::BreakerPolicy;
pub use builder::ConfigBuilder;
pub use calendar::Calendar;
pub use conflation::ConflationKey;
pub use endpoint::{Endpoint, Urls};
pub use explain::{Effective, Explanation, Layer};
pub use headers::Headers;
pub use limits::{Costs, Lane, Pool, RateLimits, Rule, Weight};
pub use options::{
    Ladder, Liveness, Offline, Overflow, PhaseLimits, Queue, Reconnect, ReconnectOwner, StableBy,
    WireBackend,
};
pub use profile::Profile;
pub use record::Record;
pub use settings::{
    BackoffSettings, LadderSettings, LimitSettings, LivenessSettings, OfflineSettings,
    QueueSettings, ReconnectSettings, Settings,
};
pub use tls::Tls;

/// Everything that a session is told about its connection.
#[derive(Clone)]
#[non_exhaustive]
pub struct Config {
    /// Where to connect.
    pub endpoint: Endpoint,
    /// Where to connect when [`endpoint`](Self::endpoint) cannot be reached, in the order of preference. Default none.
    ///
    /// Each of them has a score that falls with failures and comes back with time: the next attempt goes to the one that
    /// stands best, and of equals to the first. From a lesser one the session goes back
    /// ([`fail_back_after`](Reconnect::fail_back_after)). All of them get the same headers and credentials, so name only
    /// those that you would trust with them. [`Session::endpoints`](crate::Session::endpoints) tells how they stand.
    pub fallbacks: Vec<Endpoint>,
    /// Whom to trust.
    pub tls: Tls,
    /// Headers of the upgrade request, beside those of RFC 6455.
    pub headers: HeaderMap,
    /// Deadlines of the phases.
    pub limits: PhaseLimits,
    /// Reconnecting.
    pub reconnect: Reconnect,
    /// Silence.
    pub liveness: Liveness,
    /// What is done when the data of a channel with a cadence is late.
    pub ladder: Ladder,
    /// How long a request may take unless it says otherwise. Default 10 s.
    pub request_timeout: Duration,
    /// How long the whole start may take. Default 30 s.
    pub start_timeout: Duration,
    /// How long a shutdown may take in all, and how long an attempt to connect waits for the connection before it to
    /// let go of its socket. Default 5 s.
    pub shutdown_timeout: Duration,
    /// How long written bytes may wait for a peer that does not read. Default 10 s.
    pub write_timeout: Duration,
    /// Whether a platform's subscriptions are made again on the next connection. Default yes. Without it each
    /// ends with its connection, by `EndReason::NotRestored` behind the gap.
    pub restore_subscriptions: bool,
    /// Requests and frames that may wait to be written. Default 1024.
    pub outbound_capacity: usize,
    /// What may wait for the session to be live.
    pub offline: Offline,
    /// Of how many requests [`Session::latency`](crate::Session::latency) tells, the latest ones. Default 100.
    pub latency_window: usize,
    /// One in so many batches of received frames has a span; none if 0. Default 0.
    pub batch_spans: usize,
    /// The queue of a subscription that does not bring its own.
    pub queue: Queue,
    /// Bytes read from the socket at once, at most. Default 512 KiB. A connection begins with 4 KiB; what it reads at once
    /// grows with the traffic, and falls with it: not with silence, so that who was busy and says nothing more keeps its
    /// room. Smaller pins less memory when messages are kept; larger is faster where there is much to read, as long as it
    /// stays in the cache: where messages have 4 KiB and more tungstenite's wire reads half as much. Over TLS up to 128 KiB more,
    /// and no more than this, are read ahead; that room follows the traffic likewise.
    pub read_buffer: usize,
    /// Who reads and writes frames. Default [`WireBackend::Tungstenite`].
    pub wire: WireBackend,
    /// Largest message accepted. Default 16 MiB; a larger one ends the connection.
    pub max_message: usize,
    /// Whether and how the session is recorded. Default: not at all.
    pub record: Option<Record>,
    /// How fast the venue lets itself be asked. Default none, or what the platform says.
    pub rate_limits: Option<RateLimits>,
    /// How often the session may try to connect. Default none. Sessions that share an address share a
    /// [`Gate`](crate::Gate) instead.
    pub connect_limits: Option<RateLimits>,
    /// Who hears of everything that happens, beside the session's own metrics. Default: nobody.
    pub collectors: Vec<Arc<dyn Collector>>,
    /// Opens the byte stream in place of name resolution and TCP. Default: none.
    pub connector: Option<Arc<dyn Connector>>,
    /// What it was made of; for `explain`, and to put a platform's defaults beneath.
    layers: Layers,
}

impl Config {
    /// Begins the description of a connection to `url` (`ws://` or `wss://`).
    pub fn builder(url: impl Into<String>) -> ConfigBuilder {
        ConfigBuilder::default().settings(Settings {
            url: Some(url.into()),
            ..Settings::default()
        })
    }

    /// A configuration whose user layer is this JSON text; see [`Settings`] for its form.
    ///
    /// # Errors
    ///
    /// [`ConfigErrors`] with everything that is wrong: names that are no options, values that cannot be
    /// read, and values that cannot work.
    pub fn from_json(text: &str) -> Result<Self, ConfigErrors> {
        let (settings, errors) = read::read_json(text);
        let layers = Layers {
            user: settings,
            ..Layers::default()
        };
        layers.build(errors)
    }

    /// Wherever it may connect, in the order of preference.
    pub(crate) fn endpoints(&self) -> impl Iterator<Item = &Endpoint> {
        [&self.endpoint].into_iter().chain(&self.fallbacks)
    }

    /// This configuration with a platform's `defaults` beneath what was said so far. `Session::start` does
    /// this with its platform.
    ///
    /// It is built anew from its layers, so that a field which was assigned to afterwards is forgotten.
    ///
    /// # Errors
    ///
    /// [`ConfigErrors`] where the two do not fit together.
    pub fn with_platform(&self, defaults: Settings) -> Result<Self, ConfigErrors> {
        if defaults.is_empty() {
            return Ok(self.clone());
        }
        let layers = Layers {
            platform: Some(Box::new(defaults)),
            ..self.layers.clone()
        };
        layers.build(Vec::new())
    }
}

/// What was said, by whom. The library's defaults are not in it.
#[derive(Debug, Clone, Default)]
struct Layers {
    user: Settings,
    /// Most sessions have no more than one layer, and each is a kilobyte that lives as long as the session.
    preset: Option<Box<Settings>>,
    platform: Option<Box<Settings>>,
    /// Not an option that layers could differ in: all are told.
    collectors: Vec<Arc<dyn Collector>>,
    /// Not an option that a file could hold: the user's alone.
    connector: Option<Arc<dyn Connector>>,
}

impl Layers {
    fn merged(&self) -> Settings {
        let Self {
            user,
            preset,
            platform,
            collectors: _,
            connector: _,
        } = self.clone();
        [preset, platform]
            .into_iter()
            .flatten()
            .fold(user, |said, below| said.or(*below))
    }

    /// Puts the layers over the defaults and checks the whole. `errors` are those found before.
    fn build(self, mut errors: Vec<ConfigError>) -> Result<Config, ConfigErrors> {
        let said = self.merged();
        let endpoint = match &said.url {
            Some(url) => Endpoint::parse(url)
                .map_err(|error| errors.push(error))
                .ok(),
            None => {
                let remedy = "give the url to connect to, ws:// or wss://";
                // A url that could not be read is missing for that reason.
                if !errors.iter().any(|error| error.option == "url") {
                    errors.push(ConfigError::new("url", "none", remedy));
                }
                None
            }
        };
        let fallbacks = match &said.fallbacks {
            Some(Some(urls)) => read_fallbacks(urls, endpoint.as_ref(), &mut errors),
            Some(None) | None => Vec::new(),
        };
        let subprotocols = said.subprotocols.as_deref().unwrap_or_default();
        let headers = said.headers.build(subprotocols, &mut errors);
        let mut config = Config {
            // What stands here in place of one that was refused is never seen.
            endpoint: endpoint.unwrap_or_else(Endpoint::nowhere),
            fallbacks,
            headers,
            tls: Tls::default(),
            limits: PhaseLimits::default(),
            reconnect: Reconnect::default(),
            liveness: Liveness::default(),
            ladder: Ladder::default(),
            request_timeout: Duration::from_secs(10),
            start_timeout: Duration::from_secs(30),
            shutdown_timeout: Duration::from_secs(5),
            write_timeout: Duration::from_secs(10),
            restore_subscriptions: true,
            outbound_capacity: 1024,
            offline: Offline::default(),
            latency_window: 100,
            batch_spans: 0,
            queue: Queue::default(),
            read_buffer: 512 * 1024,
            wire: WireBackend::default(),
            max_message: 16 * 1024 * 1024,
            record: None,
            rate_limits: None,
            connect_limits: None,
            collectors: self.collectors.clone(),
            connector: self.connector.clone(),
            layers: self,
        };
        said.apply(&mut config);
        check::check(&config, &mut errors);
        ConfigErrors::none_of(errors)?;
        Ok(config)
    }
}

/// Further endpoints; what is wrong with each is noted.
fn read_fallbacks(
    urls: &Urls,
    first: Option<&Endpoint>,
    errors: &mut Vec<ConfigError>,
) -> Vec<Endpoint> {
    let mut refuse = |value: String, remedy: &str| {
        errors.push(ConfigError::new("fallbacks", value, remedy));
    };
    if urls.0.is_empty() {
        refuse(
            "an empty list".to_owned(),
            "name at least one url, or leave it out",
        );
    }
    let mut fallbacks: Vec<Endpoint> = Vec::new();
    for url in &urls.0 {
        match Endpoint::parse(url) {
            Err(error) => refuse(error.value, &error.remedy),
            Ok(endpoint) if first == Some(&endpoint) || fallbacks.contains(&endpoint) => {
                refuse(
                    endpoint.to_string(),
                    "name each endpoint once, url included",
                );
            }
            Ok(endpoint) => fallbacks.push(endpoint),
        }
    }
    if fallbacks.len() > MOST_FALLBACKS {
        let remedy = format!("name at most {MOST_FALLBACKS}");
        refuse(format!("{} urls", urls.0.len()), &remedy);
    }
    fallbacks
}

/// Each has a score, a line in an inspection, and a probe when the session goes back.
const MOST_FALLBACKS: usize = 100;

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("endpoint", &self.endpoint)
            .field("fallbacks", &self.fallbacks)
            .field("tls", &self.tls)
            .field(
                "headers",
                &self
                    .headers
                    .keys()
                    .map(HeaderName::as_str)
                    .collect::<Vec<_>>(),
            )
            .field("limits", &self.limits)
            .field("reconnect", &self.reconnect)
            .field("liveness", &self.liveness)
            .field("ladder", &self.ladder)
            .field("request_timeout", &self.request_timeout)
            .field("start_timeout", &self.start_timeout)
            .field("shutdown_timeout", &self.shutdown_timeout)
            .field("write_timeout", &self.write_timeout)
            .field("restore_subscriptions", &self.restore_subscriptions)
            .field("outbound_capacity", &self.outbound_capacity)
            .field("offline", &self.offline)
            .field("latency_window", &self.latency_window)
            .field("batch_spans", &self.batch_spans)
            .field("queue", &self.queue)
            .field("read_buffer", &self.read_buffer)
            .field("wire", &self.wire)
            .field("max_message", &self.max_message)
            .field("record", &self.record)
            .field("rate_limits", &self.rate_limits)
            .field("connect_limits", &self.connect_limits)
            .field("collectors", &self.collectors.len())
            .field("connector", &self.connector)
            .finish()
    }
}

#[cfg(test)]
mod tests;
