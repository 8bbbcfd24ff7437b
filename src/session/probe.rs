//! Answers for those who ask whether something works: readiness and liveness, as orchestrators ask for them.
//!
//! Apart from the state because a probe asks one question, and wants a reason with the no. An HTTP server is the
//! program's own: [`Probe`] gives it status and body.
//!
//! Invariants: asking waits for nothing and sends nothing; no reason repeats a peer's words.

use std::fmt;

use serde::Serialize;

use super::Session;
use super::plane::SessionState;
use crate::close::CloseReason;
use crate::error::{Category, EndReason, Entry, Recovery, explained, told_with_causes};

/// Why a session is not ready.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum NotReady {
    /// It seeks a connection.
    #[error("seeking a connection")]
    Connecting,
    /// It has a connection and is authenticating, preparing or restoring.
    #[error("connected; authenticating, preparing or restoring")]
    Establishing,
    /// It is between two attempts.
    #[error("down: {}", .0.without_peers_words())]
    Down(CloseReason),
    /// It is over for good.
    #[error("{}", without_peers_words(.0))]
    Ended(EndReason),
}

/// Why a session is not alive: it is over for good, and only a new one helps.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{}", without_peers_words(.0))]
#[non_exhaustive]
pub struct NotAlive(pub EndReason);

impl NotReady {
    /// What to do about it.
    #[must_use]
    pub fn recovery(&self) -> Recovery {
        match self {
            Self::Connecting | Self::Establishing => Recovery::Retry,
            Self::Down(reason) => reason.recovery(),
            Self::Ended(reason) => reason.recovery(),
        }
    }

    pub(crate) fn entry(&self) -> Entry {
        match self {
            Self::Connecting | Self::Establishing => Entry::new(
                "not-ready",
                Category::Lifecycle,
                "ask again in a moment; if it stays so, read the session's history",
            ),
            Self::Down(reason) => reason.entry(),
            Self::Ended(reason) => reason.entry(),
        }
    }
}

impl NotAlive {
    /// What to do about it.
    #[must_use]
    pub fn recovery(&self) -> Recovery {
        self.0.recovery()
    }

    pub(crate) fn entry(&self) -> Entry {
        self.0.entry()
    }
}

explained!(NotReady, NotAlive);
told_with_causes!(NotReady, NotAlive);

/// How a session ended, for those who may be strangers.
pub(crate) fn without_peers_words(reason: &EndReason) -> String {
    match reason {
        EndReason::Fatal(close) => format!("ended: {}", close.without_peers_words()),
        EndReason::Refused(_) => "channel refused".to_owned(),
        EndReason::Shutdown
        | EndReason::Exhausted(_)
        | EndReason::Lagged
        | EndReason::NotRestored => reason.to_string(),
    }
}

impl Session {
    /// Whether requests and subscriptions go through: the session is live, which it is once it is authenticated
    /// and its subscriptions are restored.
    ///
    /// # Errors
    ///
    /// [`NotReady`]. All but [`NotReady::Ended`] may pass by themselves.
    pub fn ready(&self) -> Result<(), NotReady> {
        match self.state() {
            SessionState::Live { .. } => Ok(()),
            SessionState::Connecting => Err(NotReady::Connecting),
            SessionState::Establishing { .. } => Err(NotReady::Establishing),
            SessionState::Down { reason } => Err(NotReady::Down(reason)),
            SessionState::Ended(reason) => Err(NotReady::Ended(reason)),
        }
    }

    /// Whether the session's tree runs and has not given up. A session that seeks its connection is alive.
    ///
    /// # Errors
    ///
    /// [`NotAlive`], with the reason for its end.
    pub fn alive(&self) -> Result<(), NotAlive> {
        match self.state() {
            SessionState::Ended(reason) => Err(NotAlive(reason)),
            SessionState::Connecting
            | SessionState::Establishing { .. }
            | SessionState::Live { .. }
            | SessionState::Down { .. } => Ok(()),
        }
    }
}

/// The answer to a probe, with what an HTTP server would send. `Display` is its body as text.
///
/// ```
/// use mainstay::inspect::Probe;
/// # use mainstay::{Client, Config};
/// # use mainstay::testing::ScriptedServer;
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
/// # let server = ScriptedServer::plain().await?;
/// # let session = Client::connect(server.url()).await?;
/// let probe = Probe::of(session.ready());
/// assert_eq!(probe.http_status(), 200);
/// assert_eq!(probe.to_string(), "ok");
/// assert_eq!(probe.to_json(), r#"{"ok":true,"reason":null}"#);
///
/// session.shutdown().await;
/// let probe = Probe::of(session.alive());
/// assert_eq!(probe.http_status(), 503);
/// assert_eq!(probe.to_string(), "not ok: session was shut down on purpose");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Probe {
    /// Whether all is well.
    pub ok: bool,
    /// Why not.
    pub reason: Option<String>,
}

impl Probe {
    /// The answer that a question came to.
    pub fn of<E: fmt::Display>(answer: Result<(), E>) -> Self {
        let reason = answer.err().map(|error| error.to_string());
        Self {
            ok: reason.is_none(),
            reason,
        }
    }

    /// 200 or 503 (RFC 9110, sections 15.3.1 and 15.6.4).
    #[must_use]
    pub fn http_status(&self) -> u16 {
        if self.ok { 200 } else { 503 }
    }

    /// Its body as JSON: an object with `ok` and `reason`.
    #[must_use]
    pub fn to_json(&self) -> String {
        let reason = serde_json::Value::from(self.reason.as_deref());
        format!(r#"{{"ok":{},"reason":{reason}}}"#, self.ok)
    }
}

impl fmt::Display for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.reason {
            None => f.write_str("ok"),
            Some(reason) => write!(f, "not ok: {reason}"),
        }
    }
}
