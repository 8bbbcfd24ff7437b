//! A venue that speaks Deribit's JSON-RPC API v2, on the loopback, and goes wrong on demand.
//!
//! The door to the simulator: building, injecting faults, observing. The market is in `venue`, the
//! rules of one connection in `session`, its socket in `connection`.
//!
//! Invariants: the market's clock runs whether or not anybody is connected, so that an outage really
//! misses data; every book channel is an unbroken chain unless a fault breaks it; tokens live and die
//! with their connection; secrets never enter the log.

mod book;
mod connection;
mod fault;
mod heartbeat;
mod limits;
mod session;
mod shared;
mod tokens;
mod venue;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

pub use self::fault::Fault;
use self::shared::Shared;
use super::certificate::StartError;
use super::journal::ExpectError;
use super::listener::{Bound, ListenOptions, Listener};
use crate::connector::Connector;

/// One thing the simulator noticed.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct LogEntry {
    /// The number of the connection, counted from 1.
    pub connection: u64,
    /// When.
    pub at: Instant,
    /// What.
    pub event: LogEvent,
}

impl LogEntry {
    /// The method, if this is a request.
    #[must_use]
    pub fn method(&self) -> Option<&str> {
        match &self.event {
            LogEvent::Request { method, .. } => Some(method),
            _ => None,
        }
    }
}

/// What the simulator notices.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum LogEvent {
    /// A WebSocket connection was opened.
    Opened,
    /// A request arrived and was judged.
    Request {
        /// Its method.
        method: String,
        /// Its parameters; credentials and tokens are replaced by `"[redacted]"`.
        params: Value,
        /// The code of the error it is answered with, if it is.
        error: Option<i64>,
    },
    /// A message arrived that is no request.
    Rejected {
        /// The code it was answered with.
        error: i64,
    },
    /// Orders were cancelled because their connection ended.
    OrdersCancelled {
        /// How many.
        count: usize,
    },
    /// The connection ended.
    Ended,
}

/// The simulated venue.
///
/// ```
/// use mainstay::testing::deribit::{DeribitSimulator, Fault};
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
/// let venue = DeribitSimulator::builder().credentials("id", "secret").start().await?;
/// assert!(venue.url().ends_with("/ws/api/v2"));
/// venue.inject(Fault::TcpReset);
/// venue.stop().await;
/// # Ok::<(), mainstay::testing::StartError>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct DeribitSimulator {
    listener: Listener,
    shared: Arc<Shared>,
    clock: JoinHandle<()>,
}

impl DeribitSimulator {
    /// A simulator with options.
    pub fn builder() -> DeribitSimulatorBuilder {
        DeribitSimulatorBuilder::default()
    }

    /// Where a client should connect.
    #[must_use]
    pub fn url(&self) -> String {
        format!("{}/ws/api/v2", self.listener.origin())
    }

    /// The bound address.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.listener.address
    }

    /// What brings a session here without a socket; only of a venue [in memory](DeribitSimulatorBuilder::in_memory).
    #[must_use]
    pub fn connector(&self) -> Option<Arc<dyn Connector>> {
        self.listener.connector()
    }

    /// The authority to trust, in PEM; only with TLS.
    #[must_use]
    pub fn ca_certificate_pem(&self) -> Option<&str> {
        self.listener.ca_certificate_pem()
    }

    /// The authority to trust, in DER; only with TLS.
    #[must_use]
    pub fn ca_certificate_der(&self) -> Option<&[u8]> {
        self.listener.ca_certificate_der()
    }

    /// Makes something go wrong on every open connection, and, where the fault lasts, on those to
    /// come. Returns how many open connections were told.
    ///
    /// A connection that is blocked in a write hears of it when the write is over, at the latest
    /// after the write limit. An outage is a [`Fault::TcpReset`] after a [`Fault::Handshake`] for
    /// `u32::MAX` connections, until [`Fault::Heal`].
    pub fn inject(&self, fault: Fault) -> usize {
        self.shared.inject(fault)
    }

    /// Makes something go wrong on one connection. Returns whether it was open.
    pub fn inject_on(&self, connection: u64, fault: Fault) -> bool {
        self.shared.inject_on(connection, fault)
    }

    /// How many connections are open now. One that a fault made half-open counts until its client
    /// gives it up.
    #[must_use]
    pub fn open_connections(&self) -> usize {
        self.shared.open().len()
    }

    /// The numbers of the open connections, ascending.
    #[must_use]
    pub fn open_connection_ids(&self) -> Vec<u64> {
        self.shared.open()
    }

    /// The most connections that were ever open at once.
    #[must_use]
    pub fn most_open_connections(&self) -> usize {
        self.shared.most_open()
    }

    /// How many TCP connections were ever accepted.
    #[must_use]
    pub fn accepted(&self) -> u64 {
        self.listener.accepted()
    }

    /// Everything that was noticed, in order; the newest 65,536 entries.
    #[must_use]
    pub fn log(&self) -> Vec<LogEntry> {
        self.shared.journal.entries()
    }

    /// Awaits the first entry of the log that `accept` accepts, looking from the beginning.
    ///
    /// # Errors
    ///
    /// [`ExpectError`] with the newest entries.
    pub async fn wait_for(
        &self,
        mut accept: impl FnMut(&LogEntry) -> bool,
        within: Duration,
    ) -> Result<LogEntry, ExpectError> {
        let mut cursor = 0;
        let pick = |entry: &LogEntry| accept(entry).then(|| entry.clone());
        let journal = &self.shared.journal;
        journal
            .next(&mut cursor, within, "a certain entry", pick)
            .await
    }

    /// Awaits the `count`th request of `method` since the start.
    ///
    /// # Errors
    ///
    /// [`ExpectError`] with the newest entries.
    pub async fn wait_for_method(
        &self,
        method: &str,
        count: usize,
        within: Duration,
    ) -> Result<LogEntry, ExpectError> {
        let (mut cursor, mut seen) = (0, 0);
        let pick = |entry: &LogEntry| {
            seen += usize::from(entry.method() == Some(method));
            (seen == count).then(|| entry.clone())
        };
        let journal = &self.shared.journal;
        journal.next(&mut cursor, within, method, pick).await
    }

    /// The number the venue gave last in `channel`, by its own clock and whoever listens: the
    /// `change_id` of a book, the `trade_seq` of trades.
    #[must_use]
    pub fn last_sequence(&self, channel: &str) -> Option<u64> {
        self.shared.venue().last_sequence(channel)
    }

    /// Whether cancel-on-disconnect is switched on for this connection.
    #[must_use]
    pub fn cancels_on_disconnect(&self, connection: u64) -> bool {
        self.shared.cancels_on_disconnect(connection)
    }

    /// How many orders were cancelled because their connection ended.
    #[must_use]
    pub fn orders_cancelled(&self) -> usize {
        self.shared.venue().orders_cancelled()
    }

    /// How many orders are resting.
    #[must_use]
    pub fn open_orders(&self) -> usize {
        self.shared.venue().open_orders(None).len()
    }

    /// Ends every connection without a word and returns when no task is left. Dropping the
    /// simulator does the same without waiting.
    pub async fn stop(mut self) {
        self.clock.abort();
        self.listener.stop().await;
    }
}

impl Drop for DeribitSimulator {
    fn drop(&mut self) {
        self.clock.abort();
    }
}

/// Options of a [`DeribitSimulator`].
#[derive(Debug, Clone)]
#[must_use = "call `start`"]
pub struct DeribitSimulatorBuilder {
    listen: ListenOptions,
    tick_interval: Duration,
    seed: u64,
    instruments: Vec<String>,
    settings: Settings,
}

/// What the connections need to know of the options.
#[derive(Debug, Clone)]
struct Settings {
    client_id: String,
    client_secret: String,
    token_life: Duration,
    heartbeat_scale: u32,
    test_request_grace: f64,
    idle_limit: Duration,
    write_limit: Duration,
    connection_limit: usize,
    rate_limits: bool,
    testnet: bool,
}

impl Default for DeribitSimulatorBuilder {
    fn default() -> Self {
        Self {
            listen: ListenOptions::default(),
            tick_interval: Duration::from_millis(100),
            seed: 1,
            instruments: ["BTC-PERPETUAL", "ETH-PERPETUAL"].map(String::from).into(),
            settings: Settings {
                client_id: "id".to_owned(),
                client_secret: "secret".to_owned(),
                token_life: Duration::from_secs(900),
                heartbeat_scale: 1,
                test_request_grace: 1.0,
                idle_limit: Duration::from_secs(600),
                write_limit: Duration::from_secs(5),
                connection_limit: 1024,
                rate_limits: false,
                testnet: true,
            },
        }
    }
}

impl DeribitSimulatorBuilder {
    /// Whether to speak TLS. Default: no.
    pub fn tls(mut self, tls: bool) -> Self {
        self.listen.tls = tls;
        self
    }

    /// Whether to listen on `::1` instead of `127.0.0.1`. Default: no.
    pub fn ipv6(mut self, ipv6: bool) -> Self {
        self.listen.ipv6 = ipv6;
        self
    }

    /// The port, for a venue that comes back where another one was. Default: any free one.
    pub fn port(mut self, port: u16) -> Self {
        self.listen.port = port;
        self
    }

    /// Whether to serve in memory, without a socket, so that a test can run under paused time. Sessions come by
    /// [`DeribitSimulator::connector`]. Default: no.
    pub fn in_memory(mut self, in_memory: bool) -> Self {
        self.listen.in_memory = in_memory;
        self
    }

    /// The only credentials that are accepted. Default: `id` and `secret`.
    pub fn credentials(mut self, id: impl Into<String>, secret: impl Into<String>) -> Self {
        self.settings.client_id = id.into();
        self.settings.client_secret = secret.into();
        self
    }

    /// How long an access token lives. `expires_in` is this in whole seconds, rounded up.
    /// Default: 900 seconds.
    pub fn token_life(mut self, life: Duration) -> Self {
        self.settings.token_life = life;
        self
    }

    /// The period of the market: every channel says something this often, `agg2` channels and
    /// private ones every tenth time. Default: 100 ms.
    pub fn tick_interval(mut self, interval: Duration) -> Self {
        self.tick_interval = interval.max(Duration::from_millis(1));
        self
    }

    /// The instruments, instead of `BTC-PERPETUAL` and `ETH-PERPETUAL`.
    pub fn instruments(mut self, names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.instruments = names.into_iter().map(Into::into).collect();
        self
    }

    /// One more instrument.
    pub fn instrument(mut self, name: impl Into<String>) -> Self {
        self.instruments.push(name.into());
        self
    }

    /// The seed of the market's moves. Default: 1.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Divides the interval a client asks for with `set_heartbeat`, so that a test need not wait the
    /// 10 seconds that are the least a client may ask for. Default: 1.
    pub fn heartbeat_scale(mut self, divisor: u32) -> Self {
        self.settings.heartbeat_scale = divisor.max(1);
        self
    }

    /// How many intervals a client has to answer a `test_request`. Default: 1.
    pub fn test_request_grace(mut self, intervals: f64) -> Self {
        self.settings.test_request_grace = intervals.clamp(0.0, 1000.0);
        self
    }

    /// A connection without heartbeats that says nothing for this long is closed. Default: 10
    /// minutes.
    pub fn idle_limit(mut self, limit: Duration) -> Self {
        self.settings.idle_limit = limit;
        self
    }

    /// A client that does not read for this long is cut. Default: 5 seconds.
    pub fn write_limit(mut self, limit: Duration) -> Self {
        self.settings.write_limit = limit;
        self
    }

    /// The handshake that would open more connections than this is refused with 429. The venue
    /// allows 32. Default: 1024.
    pub fn connection_limit(mut self, limit: usize) -> Self {
        self.settings.connection_limit = limit;
        self
    }

    /// Whether the venue's credits are counted: 100 requests at once and 20 a second, 10
    /// subscribe calls at once and 3.3 a second; beyond them 10028 and a cut. Default: no.
    pub fn rate_limits(mut self, on: bool) -> Self {
        self.settings.rate_limits = on;
        self
    }

    /// The `testnet` member of every answer. Default: true.
    pub fn testnet(mut self, testnet: bool) -> Self {
        self.settings.testnet = testnet;
        self
    }

    /// Opens the venue.
    ///
    /// # Errors
    ///
    /// [`StartError`] if the loopback cannot be bound or no certificate can be made.
    pub async fn start(self) -> Result<DeribitSimulator, StartError> {
        let bound = Bound::bind(&self.listen).await?;
        let tls = bound
            .certificates
            .as_ref()
            .map(|certificates| Arc::clone(&certificates.server));
        let shared = Arc::new(Shared::new(self.settings, &self.instruments, self.seed));

        // The first one before anybody can be there: timers are coarse, and it would come when they are.
        shared.tick();
        let ticking = Arc::clone(&shared);
        let mut ticks = interval_at(Instant::now() + self.tick_interval, self.tick_interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let clock = tokio::spawn(async move {
            loop {
                ticks.tick().await;
                ticking.tick();
            }
        });
        let serving = Arc::clone(&shared);
        let listener = bound.serve(move |number, pipe| {
            connection::serve(Arc::clone(&serving), number, pipe, tls.clone())
        });
        Ok(DeribitSimulator {
            listener,
            shared,
            clock,
        })
    }
}
