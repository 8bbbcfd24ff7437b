//! What a session is told once, before it starts.
//!
//! A builder collects options and `build` checks them all; a [`Config`] that exists is right and never
//! changes. It stands on the lowest floor because every actor reads its part of it.
//!
//! Invariants: a value that cannot work is refused by `build` with the option's name, the value and the
//! remedy; header values and certificates never appear in `Debug`.

pub(crate) mod endpoint;
pub(crate) mod record;
pub(crate) mod tls;

use std::fmt;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use mainstay_supervisors::backoff::Backoff;

use crate::error::ConfigError;
pub use endpoint::Endpoint;
pub use record::Record;
pub use tls::Tls;

/// Which of the two layers retries when a connection is lost. Exactly one does.
///
/// Both restart policies derive from this one value, so that "both" and "none" cannot be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ReconnectOwner {
    /// Layer 1: the Transport is restarted beneath a Client that stays.
    Client,
    /// Layer 2: the loss ends the connection's subtree, which the Adapter's supervisor restarts.
    Adapter,
}

/// A deadline for each phase between nothing and live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct PhaseLimits {
    /// Resolving the host name. Default 5 s.
    pub dns: Duration,
    /// The TCP handshake, for all addresses together. Default 5 s.
    pub tcp: Duration,
    /// The TLS handshake. Default 5 s.
    pub tls: Duration,
    /// The opening handshake of RFC 6455. Default 5 s.
    pub upgrade: Duration,
    /// Each step of authentication and preparation. Default 10 s.
    pub auth: Duration,
    /// From the opening handshake to the first frame of any kind. Default: none, since a quiet
    /// service may rightly say nothing until it is asked.
    pub first_data: Option<Duration>,
}

impl Default for PhaseLimits {
    fn default() -> Self {
        Self {
            dns: Duration::from_secs(5),
            tcp: Duration::from_secs(5),
            tls: Duration::from_secs(5),
            upgrade: Duration::from_secs(5),
            auth: Duration::from_secs(10),
            first_data: None,
        }
    }
}

/// How a lost connection is sought again.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Reconnect {
    /// Which layer retries. Default [`ReconnectOwner::Adapter`] for a session with an adapter,
    /// [`ReconnectOwner::Client`] for `Client::connect`.
    pub owner: ReconnectOwner,
    /// Delays between attempts. Default: the first at once, then full jitter from 250 ms to 30 s.
    pub backoff: Backoff,
    /// How long a connection must have been live before the attempt counter goes back to zero.
    /// Default 10 s. Shorter lets a server that accepts and closes be redialed faster.
    pub stable_after: Duration,
    /// Whether the very first connection is retried too, instead of failing `start`. Default no.
    pub retry_first: bool,
}

/// When a silent connection is given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Liveness {
    /// After this long without a single inbound frame a ping is sent. Default 15 s.
    pub quiet: Duration,
    /// How long the answer to that ping (or anything else) may take. Default 10 s.
    pub grace: Duration,
}

impl Liveness {
    /// A ping after `quiet` without a frame, and the end after `grace` more.
    #[must_use]
    pub fn new(quiet: Duration, grace: Duration) -> Self {
        Self { quiet, grace }
    }
}

impl Default for Liveness {
    fn default() -> Self {
        Self {
            quiet: Duration::from_secs(15),
            grace: Duration::from_secs(10),
        }
    }
}

/// What happens when a subscription's queue is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Overflow {
    /// The oldest message goes; the consumer is told of a gap. The default.
    DropOldest,
    /// The message that came last goes; the consumer is told of a gap.
    DropNewest,
    /// The connection waits for the consumer, at most this long for a batch of messages; then the
    /// oldest go. While it waits nothing else is read from this connection.
    Block(Duration),
    /// The subscription ends.
    Disconnect,
}

/// Bound and rule of a subscription's queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Queue {
    /// Messages that may wait. Default 4096.
    pub capacity: usize,
    /// What happens beyond. Default [`Overflow::DropOldest`].
    pub overflow: Overflow,
}

impl Default for Queue {
    fn default() -> Self {
        Self {
            capacity: 4096,
            overflow: Overflow::DropOldest,
        }
    }
}

impl Queue {
    /// A queue for `capacity` messages with the rule `overflow`.
    #[must_use]
    pub fn new(capacity: usize, overflow: Overflow) -> Self {
        Self { capacity, overflow }
    }
}

/// Everything that a session is told about its connection.
#[derive(Clone)]
#[non_exhaustive]
pub struct Config {
    /// Where to connect.
    pub endpoint: Endpoint,
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
    /// How long a request may take unless it says otherwise. Default 10 s.
    pub request_timeout: Duration,
    /// How long the whole start may take. Default 30 s.
    pub start_timeout: Duration,
    /// How long a shutdown may take in all. Default 5 s.
    pub shutdown_timeout: Duration,
    /// How long written bytes may wait for a peer that does not read. Default 10 s.
    pub write_timeout: Duration,
    /// Requests and frames that may wait to be written. Default 1024.
    pub outbound_capacity: usize,
    /// The queue of a subscription that does not bring its own.
    pub queue: Queue,
    /// Bytes read from the socket at once. Default 64 KiB. Smaller saves memory per connection and
    /// pins less of it when messages are kept; larger is faster for large messages.
    pub read_buffer: usize,
    /// Largest message accepted. Default 16 MiB; a larger one ends the connection.
    pub max_message: usize,
    /// Whether and how the session is recorded. Default: not at all.
    pub record: Option<Record>,
}

impl Config {
    /// Begins the description of a connection to `url` (`ws://` or `wss://`).
    pub fn builder(url: impl Into<String>) -> ConfigBuilder {
        ConfigBuilder {
            url: url.into(),
            tls: Tls::default(),
            headers: Vec::new(),
            limits: PhaseLimits::default(),
            owner: ReconnectOwner::Adapter,
            backoff: None,
            stable_after: Duration::from_secs(10),
            retry_first: false,
            liveness: Liveness::default(),
            request_timeout: Duration::from_secs(10),
            start_timeout: Duration::from_secs(30),
            shutdown_timeout: Duration::from_secs(5),
            write_timeout: Duration::from_secs(10),
            outbound_capacity: 1024,
            queue: Queue::default(),
            read_buffer: 64 * 1024,
            max_message: 16 * 1024 * 1024,
            record: None,
        }
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("endpoint", &self.endpoint)
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
            .field("request_timeout", &self.request_timeout)
            .field("start_timeout", &self.start_timeout)
            .field("shutdown_timeout", &self.shutdown_timeout)
            .field("write_timeout", &self.write_timeout)
            .field("outbound_capacity", &self.outbound_capacity)
            .field("queue", &self.queue)
            .field("read_buffer", &self.read_buffer)
            .field("max_message", &self.max_message)
            .field("record", &self.record)
            .finish()
    }
}

/// Collects the options of a [`Config`]; `build` checks them.
#[derive(Clone)]
#[must_use = "a builder does nothing until `build`"]
pub struct ConfigBuilder {
    url: String,
    tls: Tls,
    headers: Vec<(String, String)>,
    limits: PhaseLimits,
    owner: ReconnectOwner,
    backoff: Option<Backoff>,
    stable_after: Duration,
    retry_first: bool,
    liveness: Liveness,
    request_timeout: Duration,
    start_timeout: Duration,
    shutdown_timeout: Duration,
    write_timeout: Duration,
    outbound_capacity: usize,
    queue: Queue,
    read_buffer: usize,
    max_message: usize,
    record: Option<Record>,
}

impl fmt::Debug for ConfigBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The url may hold user info until `build` has refused it.
        f.debug_struct("ConfigBuilder").finish_non_exhaustive()
    }
}

impl ConfigBuilder {
    /// Whom to trust on `wss://`. Default: the platform's roots where that feature is on.
    pub fn tls(mut self, tls: Tls) -> Self {
        self.tls = tls;
        self
    }

    /// Adds a header to the upgrade request. Its value never appears in `Debug`, logs or errors.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Deadlines of the phases of opening.
    pub fn limits(mut self, limits: PhaseLimits) -> Self {
        self.limits = limits;
        self
    }

    /// Which layer retries a lost connection. Default [`ReconnectOwner::Adapter`].
    pub fn reconnect_owner(mut self, owner: ReconnectOwner) -> Self {
        self.owner = owner;
        self
    }

    /// Delays between attempts.
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = Some(backoff);
        self
    }

    /// How long a connection must have been live before the attempt counter goes back to zero.
    pub fn stable_after(mut self, stable_after: Duration) -> Self {
        self.stable_after = stable_after;
        self
    }

    /// Whether the very first connection is retried too. Default no: `start` returns its error.
    pub fn retry_first(mut self, retry: bool) -> Self {
        self.retry_first = retry;
        self
    }

    /// When a silent connection is given up.
    pub fn liveness(mut self, liveness: Liveness) -> Self {
        self.liveness = liveness;
        self
    }

    /// How long a request may take unless it says otherwise. Default 10 s.
    pub fn request_timeout(mut self, limit: Duration) -> Self {
        self.request_timeout = limit;
        self
    }

    /// How long the whole start may take. Default 30 s.
    pub fn start_timeout(mut self, limit: Duration) -> Self {
        self.start_timeout = limit;
        self
    }

    /// How long a shutdown may take in all. Default 5 s.
    pub fn shutdown_timeout(mut self, limit: Duration) -> Self {
        self.shutdown_timeout = limit;
        self
    }

    /// How long written bytes may wait for a peer that does not read. Default 10 s.
    pub fn write_timeout(mut self, limit: Duration) -> Self {
        self.write_timeout = limit;
        self
    }

    /// Requests and frames that may wait to be written. Default 1024.
    pub fn outbound_capacity(mut self, capacity: usize) -> Self {
        self.outbound_capacity = capacity;
        self
    }

    /// The queue of a subscription that does not bring its own.
    pub fn queue(mut self, queue: Queue) -> Self {
        self.queue = queue;
        self
    }

    /// Bytes read from the socket at once. Default 64 KiB.
    pub fn read_buffer(mut self, bytes: usize) -> Self {
        self.read_buffer = bytes;
        self
    }

    /// Largest message accepted. Default 16 MiB.
    pub fn max_message(mut self, bytes: usize) -> Self {
        self.max_message = bytes;
        self
    }

    /// Records the session into a file. Default: it is not recorded.
    pub fn record(mut self, record: Record) -> Self {
        self.record = Some(record);
        self
    }

    /// Checks every option and returns the configuration.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] names the first option that cannot work, its value, and what to write instead.
    pub fn build(self) -> Result<Config, ConfigError> {
        let endpoint = Endpoint::parse(&self.url)?;
        if endpoint.is_tls() {
            // Loads the trust anchors now, so that a configuration without any fails here.
            self.tls.client_config()?;
        }
        let headers = headers(&self.headers)?;
        for (option, value) in [
            ("limits.dns", self.limits.dns),
            ("limits.tcp", self.limits.tcp),
            ("limits.tls", self.limits.tls),
            ("limits.upgrade", self.limits.upgrade),
            ("limits.auth", self.limits.auth),
            (
                "limits.first_data",
                self.limits.first_data.unwrap_or(LONGEST),
            ),
            ("stable_after", self.stable_after),
            ("liveness.quiet", self.liveness.quiet),
            ("liveness.grace", self.liveness.grace),
            ("request_timeout", self.request_timeout),
            ("start_timeout", self.start_timeout),
            ("shutdown_timeout", self.shutdown_timeout),
            ("write_timeout", self.write_timeout),
        ] {
            // The phases of opening are only ever waited for; the others are added to moments.
            let longest = if option.starts_with("limits.") {
                Duration::MAX
            } else {
                LONGEST
            };
            if value.is_zero() || value > longest {
                let remedy = "give a duration above zero, of at most a year";
                return Err(ConfigError::new(option, format!("{value:?}"), remedy));
            }
        }
        for (option, value, largest) in [
            ("outbound_capacity", self.outbound_capacity, 1 << 20),
            ("queue.capacity", self.queue.capacity, 1 << 24),
            ("read_buffer", self.read_buffer, 1 << 26),
            ("max_message", self.max_message, 1 << 32),
        ] {
            if value == 0 || value > largest {
                let remedy = format!("give a number from 1 to {largest}");
                return Err(ConfigError::new(option, value.to_string(), remedy));
            }
        }
        if let Some(record) = &self.record {
            record.check(LONGEST)?;
        }
        let backoff = self.backoff.unwrap_or_else(default_backoff);
        backoff.check().map_err(|error| {
            ConfigError::new("backoff", format!("{backoff:?}"), error.to_string())
        })?;
        Ok(Config {
            endpoint,
            tls: self.tls,
            headers,
            limits: self.limits,
            reconnect: Reconnect {
                owner: self.owner,
                backoff,
                stable_after: self.stable_after,
                retry_first: self.retry_first,
            },
            liveness: self.liveness,
            request_timeout: self.request_timeout,
            start_timeout: self.start_timeout,
            shutdown_timeout: self.shutdown_timeout,
            write_timeout: self.write_timeout,
            outbound_capacity: self.outbound_capacity,
            queue: self.queue,
            read_buffer: self.read_buffer,
            max_message: self.max_message,
            record: self.record,
        })
    }
}

/// The longest duration that an option may have. Sums of a few of them stay within any clock.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 3600);

fn default_backoff() -> Backoff {
    Backoff::new(Duration::from_millis(250), Duration::from_secs(30))
}

fn headers(given: &[(String, String)]) -> Result<HeaderMap, ConfigError> {
    let mut headers = HeaderMap::with_capacity(given.len());
    for (name, value) in given {
        let parsed = HeaderName::from_bytes(name.as_bytes()).map_err(|_| {
            // What follows a colon may be a value that was put into the wrong place.
            let name = name.split(':').next().unwrap_or_default();
            ConfigError::new(
                "header",
                name,
                "use a valid HTTP header name (RFC 9110, 5.1)",
            )
        })?;
        if RESERVED.contains(&parsed.as_str()) {
            let remedy = "leave out the headers that the opening handshake itself writes";
            return Err(ConfigError::new("header", name, remedy));
        }
        let mut value = HeaderValue::from_str(value).map_err(|_| {
            let remedy = format!("use visible ASCII in the value of {name:?}");
            ConfigError::new("header", "[redacted]", remedy)
        })?;
        value.set_sensitive(true);
        headers.append(parsed, value);
    }
    Ok(headers)
}

/// Written by the opening handshake itself (RFC 6455, section 4.1).
const RESERVED: [&str; 9] = [
    "host",
    "connection",
    "upgrade",
    "sec-websocket-key",
    "sec-websocket-accept",
    "sec-websocket-version",
    "sec-websocket-extensions",
    "content-length",
    "transfer-encoding",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn builder() -> ConfigBuilder {
        Config::builder("ws://localhost")
    }

    #[track_caller]
    fn refused(builder: ConfigBuilder) -> String {
        builder.build().expect_err("refused").to_string()
    }

    #[test]
    fn the_defaults_are_valid() {
        assert!(builder().build().is_ok());
    }

    #[test]
    fn a_duration_of_nothing_or_of_more_than_a_year_is_refused_by_name() {
        for odd in [Duration::ZERO, Duration::MAX] {
            let text = refused(builder().request_timeout(odd));
            assert!(text.starts_with("request_timeout cannot be"), "{text}");
            let text = refused(builder().liveness(Liveness::new(odd, Duration::from_secs(1))));
            assert!(text.starts_with("liveness.quiet cannot be"), "{text}");
            let text = refused(builder().shutdown_timeout(odd));
            assert!(text.starts_with("shutdown_timeout cannot be"), "{text}");
        }
    }

    #[test]
    fn a_size_that_no_machine_has_is_refused_by_name() {
        for odd in [0, usize::MAX, 1 << 46] {
            let text = refused(builder().read_buffer(odd));
            assert!(text.starts_with("read_buffer cannot be"), "{text}");
            let text = refused(builder().outbound_capacity(odd));
            assert!(text.starts_with("outbound_capacity cannot be"), "{text}");
        }
    }

    #[test]
    fn a_backoff_that_cannot_work_is_refused() {
        let backwards = Backoff::new(Duration::from_secs(2), Duration::from_secs(1));
        assert!(refused(builder().backoff(backwards)).starts_with("backoff cannot be"));
    }

    #[test]
    fn headers_of_the_handshake_and_headers_that_are_none_are_refused_without_their_values() {
        assert!(refused(builder().header("Upgrade", "h2c")).contains("Upgrade"));
        for (name, value) in [("x-key", "hunter2\r\nx: y"), ("x-key: hunter2", "")] {
            let text = refused(builder().header(name, value));
            assert!(!text.contains("hunter2"), "{text}");
            assert!(text.contains("x-key"), "{text}");
        }
    }
}
