//! A WebSocket server that plays scripts and writes down everything it receives.
//!
//! The door to the scripted half of the kit: starting, stopping, counting, waiting. What happens on
//! one connection is in `driver`.
//!
//! Invariants: connection *n* plays script *n*, and the last script repeats; without a script every
//! connection is accepted and left to the test; the journal is written before anybody is told.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Mutex as AsyncMutex, mpsc};
use tokio::time::{Instant, timeout};

use super::certificate::StartError;
use super::connection::{Driver, ServerConnection};
use super::driver;
use super::handshake::UpgradeRequest;
use super::journal::{ExpectError, Journal};
use super::listener::{Bound, ListenOptions, Listener};
use super::matcher::Matcher;
use super::script::{Responder, Script, ScriptFailure};
use crate::connector::Connector;

/// One thing the server noticed.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Received {
    /// The number of the connection, counted from 1.
    pub connection: u64,
    /// When.
    pub at: Instant,
    /// What.
    pub kind: ReceivedKind,
}

/// What can come from a client.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReceivedKind {
    /// A TCP connection.
    Accepted,
    /// The request to upgrade it.
    Upgrade(UpgradeRequest),
    /// A text message.
    Text(String),
    /// A binary message.
    Binary(Bytes),
    /// A ping; it has been answered.
    Ping(Bytes),
    /// A pong.
    Pong(Bytes),
    /// A close frame.
    Close {
        /// Its status code, if it had one.
        code: Option<u16>,
        /// Its reason.
        reason: String,
    },
    /// The end of the connection, whoever ended it.
    Ended {
        /// What went wrong, if anything did.
        error: Option<String>,
    },
}

/// A scripted WebSocket server on the loopback.
///
/// ```
/// use mainstay::testing::{Script, ScriptedServer};
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
/// let server = ScriptedServer::builder().script(Script::echo()).start().await?;
/// assert!(server.url().starts_with("ws://127.0.0.1:"));
/// server.stop().await;
/// # Ok::<(), mainstay::testing::StartError>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct ScriptedServer {
    listener: Listener,
    pub(super) shared: Arc<Shared>,
    arrivals: AsyncMutex<mpsc::Receiver<ServerConnection>>,
}

/// What the server and its connections share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) journal: Arc<Journal<Received>>,
    pub(super) open: AtomicUsize,
    pub(super) failures: Mutex<Vec<ScriptFailure>>,
    pub(super) arrivals: mpsc::Sender<ServerConnection>,
    pub(super) patience: Duration,
    /// The only path that is served, if there is one.
    pub(super) path: Option<String>,
    scripts: Mutex<Vec<Script>>,
    /// The open connections by number. Set when one opens, cleared when it ends.
    drivers: Mutex<BTreeMap<u64, Driver>>,
}

impl Shared {
    pub(super) fn write(&self, connection: u64, kind: ReceivedKind) {
        self.journal.write(Received {
            connection,
            at: Instant::now(),
            kind,
        });
    }

    pub(super) fn register(&self, connection: u64, driver: Driver) {
        self.lock_drivers().insert(connection, driver);
    }

    pub(super) fn unregister(&self, connection: u64) {
        self.lock_drivers().remove(&connection);
    }

    pub(super) fn drivers(&self) -> Vec<(u64, Driver)> {
        let drivers = self.lock_drivers();
        drivers
            .iter()
            .map(|(id, driver)| (*id, driver.clone()))
            .collect()
    }

    fn lock_drivers(&self) -> MutexGuard<'_, BTreeMap<u64, Driver>> {
        self.drivers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn script(&self, number: u64) -> Script {
        let scripts = self.scripts.lock().unwrap_or_else(PoisonError::into_inner);
        let index = usize::try_from(number - 1).unwrap_or(usize::MAX);
        scripts
            .get(index)
            .or(scripts.last())
            .cloned()
            .unwrap_or_default()
    }
}

impl ScriptedServer {
    /// A server without TLS and without a script.
    ///
    /// # Errors
    ///
    /// [`StartError`] if the loopback cannot be bound.
    pub async fn plain() -> Result<Self, StartError> {
        Self::builder().start().await
    }

    /// A server with TLS and without a script.
    ///
    /// # Errors
    ///
    /// [`StartError`] if the loopback cannot be bound or no certificate can be made.
    pub async fn tls() -> Result<Self, StartError> {
        Self::builder().tls(true).start().await
    }

    /// A server for a first test: at the path `/ws` it answers `ping` by `pong` and any other text by
    /// `echo: ` and that text.
    ///
    /// # Errors
    ///
    /// [`StartError`] if the loopback cannot be bound.
    pub async fn mock() -> Result<Self, StartError> {
        Self::builder().mock().start().await
    }

    /// [`ScriptedServer::mock`] with TLS.
    ///
    /// # Errors
    ///
    /// [`StartError`] if the loopback cannot be bound or no certificate can be made.
    pub async fn mock_tls() -> Result<Self, StartError> {
        Self::builder().mock().tls(true).start().await
    }

    /// A server with options.
    pub fn builder() -> ScriptedServerBuilder {
        ScriptedServerBuilder::default()
    }

    /// Where a client should connect: with the server's path, if it has one, else ending in `/`.
    #[must_use]
    pub fn url(&self) -> String {
        let path = self.shared.path.as_deref().unwrap_or("/");
        format!("{}{path}", self.listener.origin())
    }

    /// The bound address.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.listener.address
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

    /// What brings a session here without a socket; only of a server [in memory](ScriptedServerBuilder::in_memory).
    #[must_use]
    pub fn connector(&self) -> Option<Arc<dyn Connector>> {
        self.listener.connector()
    }

    /// How many WebSocket connections are open now.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.shared.open.load(Ordering::SeqCst)
    }

    /// How many TCP connections were ever accepted.
    #[must_use]
    pub fn accepted(&self) -> u64 {
        self.listener.accepted()
    }

    /// The next connection that was opened and not yet handed out. Up to 256 wait here; later ones
    /// are served by their script alone.
    ///
    /// # Errors
    ///
    /// [`ExpectError`] if none came within the server's patience.
    pub async fn next_connection(&self) -> Result<ServerConnection, ExpectError> {
        let mut arrivals = self.arrivals.lock().await;
        let arrival = timeout(self.shared.patience, arrivals.recv()).await;
        arrival.ok().flatten().ok_or_else(|| ExpectError {
            awaited: "a connection".to_owned(),
            within: self.shared.patience,
            instead: Vec::new(),
        })
    }

    /// Adds a script for the connections to come.
    pub fn push_script(&self, script: Script) {
        let mut scripts = self
            .shared
            .scripts
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        scripts.push(script);
    }

    /// Everything that was received, in order; the newest 65,536 entries.
    #[must_use]
    pub fn received(&self) -> Vec<Received> {
        self.shared.journal.entries()
    }

    /// Asserts that a client sends such a text message, or has sent it, on any connection: exactly this text,
    /// JSON with at least these members, or what the [`Matcher`] says. It awaits the message itself and does
    /// not poll.
    ///
    /// ```
    /// # use mainstay::{Client, Frame, testing::{Matcher, ScriptedServer}};
    /// # use std::time::Duration;
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
    /// # let server = ScriptedServer::mock().await?;
    /// # let session = Client::connect(server.url()).await?;
    /// let soon = Duration::from_secs(5);
    /// session.send(Frame::text(r#"{"op":"buy","size":3}"#)).await?;
    /// server.expect_message(r#"{"op":"buy","size":3}"#, soon).await?;
    /// server.expect_message(serde_json::json!({ "op": "buy" }), soon).await?;
    /// server.expect_message(Matcher::regex(r#""size":\d+"#)?, soon).await?;
    /// server.expect_message(Matcher::predicate(|text| text.len() > 5), soon).await?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`ExpectError`] after `within`, with what came instead.
    #[doc(alias = "assert_message_sent")]
    pub async fn expect_message(
        &self,
        message: impl Into<Matcher>,
        within: Duration,
    ) -> Result<Received, ExpectError> {
        let matcher = message.into();
        let awaited = format!("{matcher:?}");
        let accept = |entry: &Received| match &entry.kind {
            ReceivedKind::Text(text) => matcher.matches(text),
            _ => false,
        };
        self.wait_for(&awaited, within, accept).await
    }

    /// Awaits the first entry of the log that `accept` accepts, looking from the beginning.
    ///
    /// # Errors
    ///
    /// [`ExpectError`], in which `awaited` says what was awaited.
    pub async fn wait_for(
        &self,
        awaited: &str,
        within: Duration,
        mut accept: impl FnMut(&Received) -> bool,
    ) -> Result<Received, ExpectError> {
        let mut cursor = 0;
        let pick = |entry: &Received| accept(entry).then(|| entry.clone());
        let journal = &self.shared.journal;
        journal.next(&mut cursor, within, awaited, pick).await
    }

    /// The scripts that met something unexpected.
    #[must_use]
    pub fn failures(&self) -> Vec<ScriptFailure> {
        let failures = &self.shared.failures;
        failures
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Refuses connections for so long, and returns when it does: the port is closed, and connections that are
    /// open stay.
    pub async fn refuse_for(&self, time: Duration) {
        self.listener.shutter().shut(time).await;
    }

    /// Ends every connection without a word and returns when no task is left. Dropping the server
    /// does the same without waiting.
    pub async fn stop(mut self) {
        self.listener.stop().await;
    }
}

/// Options of a [`ScriptedServer`].
#[derive(Debug, Clone)]
#[must_use = "call `start`"]
pub struct ScriptedServerBuilder {
    listen: ListenOptions,
    scripts: Vec<Script>,
    path: Option<String>,
    patience: Duration,
}

impl Default for ScriptedServerBuilder {
    fn default() -> Self {
        Self {
            listen: ListenOptions::default(),
            scripts: Vec::new(),
            path: None,
            patience: Duration::from_secs(10),
        }
    }
}

impl ScriptedServerBuilder {
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

    /// The port, for a server that comes back where another one was. Default: any free one.
    pub fn port(mut self, port: u16) -> Self {
        self.listen.port = port;
        self
    }

    /// Whether to serve in memory, without a socket, so that a test can run under paused time. Sessions come by
    /// [`ScriptedServer::connector`]; whatever host the url names. Default: no.
    pub fn in_memory(mut self, in_memory: bool) -> Self {
        self.listen.in_memory = in_memory;
        self
    }

    /// What the certificate is good for. Default: `localhost`, `127.0.0.1` and `::1`.
    pub fn certificate_names(mut self, names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.listen.certificate.names = names.into_iter().map(Into::into).collect();
        self
    }

    /// Whether the certificate's time is over. Default: no.
    pub fn certificate_expired(mut self, expired: bool) -> Self {
        self.listen.certificate.expired = expired;
        self
    }

    /// Adds a script: the first is for the first connection, the last repeats.
    pub fn script(mut self, script: Script) -> Self {
        self.scripts.push(script);
        self
    }

    /// Adds scripts.
    pub fn scripts(mut self, scripts: impl IntoIterator<Item = Script>) -> Self {
        self.scripts.extend(scripts);
        self
    }

    /// Answers every text message as the function says: a script for every connection, or the last ones.
    pub fn respond(self, respond: impl Fn(&str) -> Option<String> + Send + Sync + 'static) -> Self {
        self.script(Script::responding(Responder::new(respond)))
    }

    /// The path that is served, beginning with `/`; requests for others are answered by 404. Default: every
    /// path is served.
    pub fn path(mut self, path: impl Into<String>) -> Self {
        let path = path.into();
        self.path = Some(match path.starts_with('/') {
            true => path,
            false => format!("/{path}"),
        });
        self
    }

    fn mock(self) -> Self {
        self.path("/ws")
            .script(Script::responding(Responder::default()))
    }

    /// How long waits without a deadline of their own last. Default: 10 seconds.
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Starts listening.
    ///
    /// # Errors
    ///
    /// [`StartError`] if the loopback cannot be bound or no certificate can be made.
    pub async fn start(self) -> Result<ScriptedServer, StartError> {
        const ARRIVALS: usize = 256;
        let bound = Bound::bind(&self.listen).await?;
        let (arrive, arrivals) = mpsc::channel(ARRIVALS);
        let shared = Arc::new(Shared {
            journal: Arc::new(Journal::new()),
            open: AtomicUsize::new(0),
            failures: Mutex::new(Vec::new()),
            arrivals: arrive,
            patience: self.patience,
            path: self.path,
            drivers: Mutex::new(BTreeMap::new()),
            scripts: Mutex::new(self.scripts),
        });
        let tls = bound
            .certificates
            .as_ref()
            .map(|certificates| Arc::clone(&certificates.server));
        let serving = Arc::clone(&shared);
        let listener = bound.serve(move |number, pipe| {
            serving.write(number, ReceivedKind::Accepted);
            let script = serving.script(number);
            driver::serve(Arc::clone(&serving), number, pipe, tls.clone(), script)
        });
        Ok(ScriptedServer {
            listener,
            shared,
            arrivals: AsyncMutex::new(arrivals),
        })
    }
}
