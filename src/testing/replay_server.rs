//! A server that plays a recording, so that what once happened happens to a live client again.
//!
//! A file of its own because a recording is a script that nobody wrote. The decisions are in `playback`;
//! the socket is a [`ScriptedServer`]'s.
//!
//! Invariants: connection *n* plays the recording's connection *n*, and the last one repeats; what the
//! client is expected to say is waited for, but not for ever; requests that the recording does not hold
//! are answered with an error, so that nobody waits in vain.

mod playback;

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use futures_util::FutureExt;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep_until, timeout};

use super::certificate::StartError;
use super::connection::{ConnectionEnded, ServerConnection};
use super::server::{ReceivedKind, ScriptedServer};
use crate::frame::Frame;
use crate::protocol::recording::{Entry, Recorded};
use crate::replay::{Replay, ReplayError};
pub use playback::ReplayReport;
use playback::{Next, Playback, Received};

/// A recording could not be played.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReplayServerError {
    /// The recording cannot be read.
    #[error("recording cannot be played")]
    Recording(#[from] ReplayError),
    /// The server cannot start.
    #[error("replay server cannot start")]
    Start(#[from] StartError),
}

/// A server on the loopback that plays a recording.
///
/// What the recording's client received is sent, in its order. What it sent is waited for; requests match
/// by method and parameters, and an answer bears the id of the live request. The whole recording is held
/// in memory.
///
/// ```no_run
/// use mainstay::testing::ReplayServer;
/// use mainstay::Client;
///
/// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
/// let server = ReplayServer::start("/tmp/session.jsonl").await?;
/// let session = Client::connect(server.url()).await?;
/// let mut messages = session.messages();
/// while let Some(event) = messages.next().await {
///     println!("{event:?}");
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct ReplayServer {
    server: Arc<ScriptedServer>,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    /// The recording, connection by connection; never empty.
    parts: Vec<Vec<Entry>>,
    real_time: bool,
    patience: Duration,
    /// What became of the connections so far.
    reports: Mutex<Vec<ReplayReport>>,
    /// How many connections have been played to their end.
    played: watch::Sender<usize>,
}

impl ReplayServer {
    /// Plays the recording at `path` as fast as the client follows.
    ///
    /// # Errors
    ///
    /// [`ReplayServerError`].
    pub async fn start(path: impl AsRef<Path>) -> Result<Self, ReplayServerError> {
        Self::builder().start(path).await
    }

    /// A server with options.
    pub fn builder() -> ReplayServerBuilder {
        ReplayServerBuilder::default()
    }

    /// Where a client should connect, ending in `/`.
    #[must_use]
    pub fn url(&self) -> String {
        self.server.url()
    }

    /// The authority to trust, in PEM; only with TLS.
    #[must_use]
    pub fn ca_certificate_pem(&self) -> Option<&str> {
        self.server.ca_certificate_pem()
    }

    /// How many connections the recording holds; at least one.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.shared.parts.len()
    }

    /// Waits until every connection of the recording has been played to its end. Cancel safe.
    pub async fn played(&self) {
        let parts = self.shared.parts.len();
        // The sender lives in `self`, so this cannot fail.
        let _ = self
            .shared
            .played
            .subscribe()
            .wait_for(|played| *played >= parts)
            .await;
    }

    /// What became of all connections so far.
    #[must_use]
    pub fn report(&self) -> ReplayReport {
        let reports = self.shared.reports.lock();
        let reports = reports.unwrap_or_else(PoisonError::into_inner);
        reports
            .iter()
            .fold(ReplayReport::default(), |sum, one| ReplayReport {
                sent: sum.sent + one.sent,
                matched: sum.matched + one.matched,
                missed: sum.missed + one.missed,
                unexpected: sum.unexpected + one.unexpected,
            })
    }
}

impl Drop for ReplayServer {
    fn drop(&mut self) {
        // It owns the connections' tasks and takes them along.
        self.task.abort();
    }
}

/// Options of a [`ReplayServer`].
#[derive(Debug, Clone)]
#[must_use = "call `start`"]
pub struct ReplayServerBuilder {
    real_time: bool,
    patience: Duration,
    tls: bool,
}

impl Default for ReplayServerBuilder {
    fn default() -> Self {
        Self {
            real_time: false,
            patience: Duration::from_secs(2),
            tls: false,
        }
    }
}

impl ReplayServerBuilder {
    /// Whether to make the pauses between frames that there were when they were recorded. Default: no.
    pub fn real_time(mut self, real_time: bool) -> Self {
        self.real_time = real_time;
        self
    }

    /// How long a recorded message of the client is waited for. Default: 2 seconds; then it counts as
    /// missed and the recording goes on. Its answer is kept until it comes after all.
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Whether to speak TLS. Default: no.
    pub fn tls(mut self, tls: bool) -> Self {
        self.tls = tls;
        self
    }

    /// Reads the recording at `path` and starts listening.
    ///
    /// # Errors
    ///
    /// [`ReplayServerError`].
    pub async fn start(self, path: impl AsRef<Path>) -> Result<ReplayServer, ReplayServerError> {
        let mut replay = Replay::open(path).await?;
        let mut parts = vec![Vec::new()];
        while let Some(entry) = replay.next().await? {
            let opens = matches!(entry.recorded, Recorded::Opened { .. });
            match parts.last_mut() {
                Some(part) if !opens || part.is_empty() => part.push(entry),
                Some(_) | None => parts.push(vec![entry]),
            }
        }
        let server = Arc::new(ScriptedServer::builder().tls(self.tls).start().await?);
        let shared = Arc::new(Shared {
            parts,
            real_time: self.real_time,
            patience: self.patience,
            reports: Mutex::default(),
            played: watch::Sender::new(0),
        });
        let task = tokio::spawn(serve(Arc::clone(&server), Arc::clone(&shared)));
        Ok(ReplayServer {
            server,
            shared,
            task,
        })
    }
}

async fn serve(server: Arc<ScriptedServer>, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    let mut number = 0;
    loop {
        tokio::select! {
            connection = server.next_connection() => {
                // Nobody came for a while; somebody may yet.
                let Ok(connection) = connection else { continue };
                let index = shared.begin();
                let playing = Arc::clone(&shared);
                connections.spawn(play(connection, playing, index, number));
                number += 1;
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

impl Shared {
    /// A place for a connection's report.
    fn begin(&self) -> usize {
        let mut reports = self.reports.lock().unwrap_or_else(PoisonError::into_inner);
        reports.push(ReplayReport::default());
        reports.len() - 1
    }

    fn tell(&self, index: usize, report: ReplayReport) {
        let mut reports = self.reports.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(place) = reports.get_mut(index) {
            *place = report;
        }
    }
}

async fn play(connection: ServerConnection, shared: Arc<Shared>, index: usize, number: usize) {
    let last = shared.parts.len() - 1;
    let entries = shared.parts[number.min(last)].clone();
    let mut player = Player {
        connection,
        playback: Playback::new(entries),
        clock: None,
        shared,
        index,
    };
    // The client has gone: what became of it is in the report.
    let _ = player.play(number < last).await;
}

struct Player {
    connection: ServerConnection,
    playback: Playback,
    /// The frame sent last, and when it was due.
    clock: Option<(SystemTime, Instant)>,
    shared: Arc<Shared>,
    index: usize,
}

impl Player {
    async fn play(&mut self, more: bool) -> Result<(), ConnectionEnded> {
        loop {
            // What has come already is heard before anything is said.
            while let Some(Ok(heard)) = self.connection.recv().now_or_never() {
                self.hear(heard).await?;
            }
            let next = self.playback.next();
            self.shared.tell(self.index, self.playback.report);
            match next {
                Next::Send { at, frame } => {
                    self.wait_for(at).await?;
                    self.send(frame).await?;
                }
                Next::Await => match timeout(self.shared.patience, self.connection.recv()).await {
                    Ok(Ok(heard)) => self.hear(heard).await?,
                    Ok(Err(_)) | Err(_) => self.playback.give_up(),
                },
                Next::AwaitClose => break,
                Next::Over if more => {
                    self.tell_played();
                    return self.connection.hang_up().await;
                }
                Next::Over => break,
            }
        }
        self.tell_played();
        loop {
            if let Ok(heard) = self.connection.recv().await {
                self.hear(heard).await?;
                self.shared.tell(self.index, self.playback.report);
            }
        }
    }

    fn tell_played(&self) {
        self.shared.tell(self.index, self.playback.report);
        self.shared.played.send_modify(|played| *played += 1);
    }

    /// In real time: waits until it is due, and listens meanwhile.
    async fn wait_for(&mut self, at: SystemTime) -> Result<(), ConnectionEnded> {
        if !self.shared.real_time {
            return Ok(());
        }
        let due = match self.clock {
            None => Instant::now(),
            Some((before, due)) => due + at.duration_since(before).unwrap_or_default(),
        };
        self.clock = Some((at, due));
        while Instant::now() < due {
            tokio::select! {
                heard = self.connection.recv() => {
                    if let Ok(heard) = heard {
                        self.hear(heard).await?;
                    }
                }
                () = sleep_until(due) => break,
            }
        }
        Ok(())
    }

    async fn hear(&mut self, heard: ReceivedKind) -> Result<(), ConnectionEnded> {
        let frame = match heard {
            ReceivedKind::Text(text) => Frame::text(text),
            ReceivedKind::Binary(bytes) => Frame::Binary(bytes),
            ReceivedKind::Ended { .. } => return Err(ConnectionEnded),
            ReceivedKind::Accepted
            | ReceivedKind::Upgrade(_)
            | ReceivedKind::Ping(_)
            | ReceivedKind::Pong(_)
            | ReceivedKind::Close { .. } => return Ok(()),
        };
        match self.playback.on_received(&frame) {
            Received::Known(Some(answer)) => self.send(answer).await,
            Received::Unexpected(Some(id)) => {
                let text = format!(
                    r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":-32601,"message":"the recording holds no such request"}}}}"#
                );
                self.send(Frame::text(text)).await
            }
            Received::Known(None) | Received::Unexpected(None) => Ok(()),
        }
    }

    async fn send(&self, frame: Frame) -> Result<(), ConnectionEnded> {
        let connection = &self.connection;
        match frame {
            Frame::Text(text) => connection.send_text(text.as_str()).await,
            Frame::Binary(bytes) => connection.send_binary(bytes).await,
            Frame::Ping(bytes) => connection.ping(bytes).await,
            Frame::Pong(bytes) => connection.pong(bytes).await,
            Frame::Close(close) => {
                let (code, reason) = close.unwrap_or((1000, String::new()));
                connection.close(code, reason).await
            }
        }
    }
}
