//! A pool at one moment, as one value, and what it says to probes.
//!
//! Apart from [`PoolHealth`] because that is what requests are routed by, and this is for whoever looks.
//!
//! Invariants: those of a session's inspection.

use std::fmt;

use futures_util::future::join_all;
use mainstay_supervisors::TreeSnapshot;
use serde::Serialize;

use super::{ConnectionId, Pool, PoolHealth};
use crate::error::{Category, Entry, Recovery, explained, told_with_causes};
use crate::session::Session;
use crate::session::inspect::{self, Chart, OneLine, SessionInspection};
use crate::session::probe::Probe;

/// A pool at one moment; [`Pool::inspect`] makes it. `Display` is text for people.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct PoolInspection {
    /// Its name.
    pub name: String,
    /// What [`Pool::ready`] says.
    pub ready: Probe,
    /// What [`Pool::alive`] says.
    pub alive: Probe,
    /// The score of each session.
    pub health: PoolHealth,
    /// Each session, in the order in which they were added.
    pub sessions: Vec<NamedInspection>,
    /// The tree of all of them; `None` while its supervisor is not up.
    #[serde(serialize_with = "inspect::tree")]
    pub tree: Option<TreeSnapshot>,
}

/// A session under its id.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct NamedInspection {
    /// Its connection id, or the name that it was given for looking.
    pub id: String,
    /// The session.
    #[serde(flatten)]
    pub session: SessionInspection,
}

/// Why a pool is not ready.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PoolNotReady {
    /// It has been shut down, or its supervisor is not up.
    #[error(transparent)]
    NotAlive(#[from] PoolNotAlive),
    /// Nobody has added a session.
    #[error("no session in the pool; add one")]
    Empty,
    /// None of its sessions is live.
    #[error("none of {sessions} sessions is live")]
    NoneLive {
        /// How many there are.
        sessions: usize,
    },
}

/// Why a pool is not alive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PoolNotAlive {
    /// It has been shut down.
    #[error("the pool has been shut down")]
    Closed,
    /// Its supervisor is not up: not yet, not any more, or about to be restarted.
    #[error("the pool's supervisor is not up")]
    NotUp,
}

impl PoolNotReady {
    /// What to do about it.
    #[must_use]
    pub fn recovery(&self) -> Recovery {
        match self {
            Self::NotAlive(reason) => reason.recovery(),
            Self::Empty => Recovery::Stop,
            Self::NoneLive { .. } => Recovery::Retry,
        }
    }

    pub(crate) fn entry(&self) -> Entry {
        match self {
            Self::NotAlive(reason) => reason.entry(),
            Self::Empty => Entry::new(
                "pool-empty",
                Category::Configuration,
                "add a session; those whose end nothing can cure leave",
            ),
            Self::NoneLive { .. } => Entry::new(
                "pool-none-live",
                Category::Network,
                "ask the pool's health and each session's history why",
            ),
        }
    }
}

impl PoolNotAlive {
    /// What to do about it.
    #[must_use]
    pub fn recovery(&self) -> Recovery {
        match self {
            Self::Closed => Recovery::Stop,
            Self::NotUp => Recovery::Retry,
        }
    }

    pub(crate) fn entry(&self) -> Entry {
        match self {
            Self::Closed => Entry::new(
                "pool-ended",
                Category::Lifecycle,
                "start another pool; this one was shut down",
            ),
            Self::NotUp => Entry::new(
                "pool-not-up",
                Category::Supervision,
                "ask again in a moment; if it stays so, look at the tree that was to start it",
            ),
        }
    }
}

explained!(PoolNotReady, PoolNotAlive);
told_with_causes!(PoolNotReady, PoolNotAlive);

impl Pool {
    /// Everything about the pool and its sessions at this moment. It waits for the trees' answers, a second or two at
    /// most; cancel safe.
    pub async fn inspect(&self) -> PoolInspection {
        let members = self.members();
        let members = members.into_iter();
        let sessions = members.map(|member| NamedInspection::of(member.id, member.session));
        PoolInspection {
            name: self.shared.spec.name.to_string(),
            ready: Probe::of(self.ready()),
            alive: Probe::of(self.alive()),
            health: self.health(),
            sessions: join_all(sessions).await,
            tree: self.tree().await,
        }
    }

    /// Whether a request would find a session: at least one is live.
    ///
    /// # Errors
    ///
    /// [`PoolNotReady`].
    pub fn ready(&self) -> Result<(), PoolNotReady> {
        self.alive()?;
        let members = self.members();
        if members.is_empty() {
            return Err(PoolNotReady::Empty);
        }
        if members.iter().any(|member| member.session.ready().is_ok()) {
            return Ok(());
        }
        Err(PoolNotReady::NoneLive {
            sessions: members.len(),
        })
    }

    /// Whether the pool's supervisor is up. An empty pool is alive.
    ///
    /// # Errors
    ///
    /// [`PoolNotAlive`].
    pub fn alive(&self) -> Result<(), PoolNotAlive> {
        if self.is_closed() {
            return Err(PoolNotAlive::Closed);
        }
        match self.shared.supervisor.current() {
            Some(_) => Ok(()),
            None => Err(PoolNotAlive::NotUp),
        }
    }
}

impl PoolInspection {
    /// The pool as a [Mermaid](https://mermaid.js.org) flowchart.
    #[must_use]
    pub fn to_mermaid(&self) -> String {
        let mut chart = Chart::default();
        self.draw(&mut chart);
        chart.finish()
    }

    pub(crate) fn draw(&self, chart: &mut Chart) {
        let (live, all) = (self.health.live, self.health.sessions.len());
        chart.open(&format!("{}: {live} of {all} live", self.name));
        for one in &self.sessions {
            chart.session(&one.id, &one.session);
        }
        if let Some(tree) = &self.tree {
            chart.tree(tree);
        }
        chart.close();
    }
}

impl fmt::Display for PoolInspection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let health = self.health.to_string();
        let mut lines = health.lines();
        let first = lines.next().unwrap_or_default();
        write!(f, "{}: {}", OneLine(&self.name), OneLine(first))?;
        for line in lines {
            write!(f, "\n{}", OneLine(line))?;
        }
        for one in &self.sessions {
            write!(f, "\n{one}")?;
        }
        if let Some(tree) = &self.tree {
            write!(f, "\n{tree}")?;
        }
        Ok(())
    }
}

impl NamedInspection {
    /// Looks at a session.
    pub(crate) async fn of(id: ConnectionId, session: Session) -> Self {
        Self {
            id: id.to_string(),
            session: session.inspect().await,
        }
    }
}

impl fmt::Display for NamedInspection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", OneLine(&self.id), self.session)
    }
}
