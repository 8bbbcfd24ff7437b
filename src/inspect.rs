//! Looking at a whole program: its sessions, pools and trees, as one value that can be printed, drawn and serialised.
//!
//! Name what is to be looked at once, in an [`Inspector`]; look as often as you like. A session alone answers
//! [`Session::inspect`], a pool [`Pool::inspect`]. For an orchestrator's probes there are
//! [`Inspector::ready`] and [`Inspector::alive`], and [`Probe`] with the body.
//!
//! ```
//! use mainstay::inspect::{Inspector, Probe};
//! use mainstay::pool::Registry;
//! use mainstay::Client;
//! # use mainstay::testing::ScriptedServer;
//!
//! # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
//! # let server = ScriptedServer::plain().await?;
//! let registry = Registry::new();
//! registry.insert("main", Client::connect(server.url()).await?)?;
//!
//! let inspector = Inspector::new().registry(&registry);
//! let seen = inspector.inspect().await;
//! println!("{seen}"); // for people
//! println!("{}", seen.to_mermaid()); // to be drawn
//! println!("{}", seen.to_json()); // for programs
//! assert_eq!(seen.sessions[0].id, "main");
//! assert_eq!(Probe::of(inspector.ready()).http_status(), 200);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Secrets
//!
//! No credential and no word of a peer's is in an inspection. Names of channels, sessions and children are, and so
//! are the texts of actors' own errors and panics: keep credentials out of those.
//!
//! # Invariants
//!
//! Looking changes nothing and sends nothing; a part that does not answer in time is marked and not waited for.

use std::fmt;
use std::time::SystemTime;

use futures_util::future::join_all;
use mainstay_supervisors::{SupervisorRef, TreeSnapshot};
use serde::Serialize;

use crate::error::{Category, Entry, Recovery, explained, told_with_causes};
use crate::pool::{ConnectionId, Pool, Registry};
use crate::protocol::serial;
use crate::session::Session;
use crate::session::clock;
use crate::session::inspect::{Chart, trees};

pub use crate::pool::inspect::{NamedInspection, PoolInspection, PoolNotAlive, PoolNotReady};
pub use crate::session::inspect::{
    ChannelInspection, ConnectionInspection, HeartbeatInspection, LimiterInspection,
    RequestsInspection, SessionInspection, StepInspection, SubscriptionInspection,
};
pub use crate::session::probe::{NotAlive, NotReady, Probe};

/// What is to be looked at. Cheap to clone. It holds handles: a session named here goes on until it ends, as one in
/// a registry does.
#[derive(Debug, Clone, Default)]
pub struct Inspector {
    sessions: Vec<(ConnectionId, Session)>,
    registries: Vec<Registry>,
    pools: Vec<Pool>,
    trees: Vec<SupervisorRef>,
}

/// Everything at one moment. `Display` is text for people; [`Inspection::to_json`] is for programs.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct Inspection {
    /// When this was, by the wall clock.
    #[serde(rename = "taken_at_unix_ms", serialize_with = "serial::unix_millis")]
    pub taken_at: SystemTime,
    /// Sessions by name, and those of registries.
    pub sessions: Vec<NamedInspection>,
    /// Pools with their sessions.
    pub pools: Vec<PoolInspection>,
    /// Other trees.
    #[serde(serialize_with = "trees")]
    pub trees: Vec<TreeSnapshot>,
}

/// Why a program is not ready, or not alive: the first that is not.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Unwell {
    /// A session is not ready.
    #[error("session {id}: {reason}")]
    SessionNotReady {
        /// Which.
        id: ConnectionId,
        /// Why.
        reason: NotReady,
    },
    /// A session is not alive.
    #[error("session {id}: {reason}")]
    SessionNotAlive {
        /// Which.
        id: ConnectionId,
        /// Why.
        reason: NotAlive,
    },
    /// A pool is not ready.
    #[error("pool {name}: {reason}")]
    PoolNotReady {
        /// Which.
        name: String,
        /// Why.
        reason: PoolNotReady,
    },
    /// A pool is not alive.
    #[error("pool {name}: {reason}")]
    PoolNotAlive {
        /// Which.
        name: String,
        /// Why.
        reason: PoolNotAlive,
    },
    /// A tree has ended.
    #[error("tree {path} has ended")]
    TreeEnded {
        /// Which.
        path: String,
    },
}

impl Unwell {
    /// What to do about it.
    #[must_use]
    pub fn recovery(&self) -> Recovery {
        match self {
            Self::SessionNotReady { reason, .. } => reason.recovery(),
            Self::SessionNotAlive { reason, .. } => reason.recovery(),
            Self::PoolNotReady { reason, .. } => reason.recovery(),
            Self::PoolNotAlive { reason, .. } => reason.recovery(),
            Self::TreeEnded { .. } => Recovery::Stop,
        }
    }

    fn entry(&self) -> Entry {
        match self {
            Self::SessionNotReady { reason, .. } => reason.entry(),
            Self::SessionNotAlive { reason, .. } => reason.entry(),
            Self::PoolNotReady { reason, .. } => reason.entry(),
            Self::PoolNotAlive { reason, .. } => reason.entry(),
            Self::TreeEnded { .. } => Entry::new(
                "tree-ended",
                Category::Supervision,
                "read the last reports of its supervisor, and start it again",
            ),
        }
    }
}

explained!(Unwell);
told_with_causes!(Unwell);

impl Inspector {
    /// Nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Also this session, under this name.
    #[must_use]
    pub fn session(mut self, id: impl Into<ConnectionId>, session: &Session) -> Self {
        self.sessions.push((id.into(), session.clone()));
        self
    }

    /// Also the sessions that this registry holds when somebody looks.
    #[must_use]
    pub fn registry(mut self, registry: &Registry) -> Self {
        self.registries.push(registry.clone());
        self
    }

    /// Also this pool.
    #[must_use]
    pub fn pool(mut self, pool: &Pool) -> Self {
        self.pools.push(pool.clone());
        self
    }

    /// Also this tree.
    #[must_use]
    pub fn tree(mut self, tree: &SupervisorRef) -> Self {
        self.trees.push(tree.clone());
        self
    }

    /// Everything at this moment; cancel safe.
    pub async fn inspect(&self) -> Inspection {
        let sessions = self.sessions().into_iter();
        let sessions = sessions.map(|(id, session)| NamedInspection::of(id, session));
        let trees = self.trees.iter().map(SupervisorRef::snapshot);
        Inspection {
            taken_at: clock::wall(),
            sessions: join_all(sessions).await,
            pools: join_all(self.pools.iter().map(Pool::inspect)).await,
            trees: join_all(trees).await,
        }
    }

    /// Whether every session and every pool is ready and every tree runs.
    ///
    /// # Errors
    ///
    /// [`Unwell`]: the first that is not.
    pub fn ready(&self) -> Result<(), Unwell> {
        for (id, session) in self.sessions() {
            session
                .ready()
                .map_err(|reason| Unwell::SessionNotReady { id, reason })?;
        }
        for pool in &self.pools {
            pool.ready().map_err(|reason| Unwell::PoolNotReady {
                name: pool.name().to_owned(),
                reason,
            })?;
        }
        self.trees_run()
    }

    /// Whether every session and every pool is alive and every tree runs.
    ///
    /// # Errors
    ///
    /// [`Unwell`]: the first that is not.
    pub fn alive(&self) -> Result<(), Unwell> {
        for (id, session) in self.sessions() {
            session
                .alive()
                .map_err(|reason| Unwell::SessionNotAlive { id, reason })?;
        }
        for pool in &self.pools {
            pool.alive().map_err(|reason| Unwell::PoolNotAlive {
                name: pool.name().to_owned(),
                reason,
            })?;
        }
        self.trees_run()
    }

    /// The session under a name, wherever it stands: among those named here, in a registry, in a pool.
    #[must_use]
    pub fn find(&self, id: &str) -> Option<Session> {
        let named = self.sessions.iter();
        let mut named = named.filter(|(name, _)| name.as_str() == id);
        let session = named.next().map(|(_, session)| session.clone());
        session
            .or_else(|| self.registries.iter().find_map(|one| one.lookup(id)))
            .or_else(|| self.pools.iter().find_map(|one| one.session(id)))
    }

    /// The roots of all that is looked at.
    #[cfg(feature = "console-server")]
    pub(crate) fn supervisors(&self) -> Vec<SupervisorRef> {
        let sessions = self.sessions().into_iter();
        let mut roots: Vec<_> = sessions.filter_map(|(_, one)| one.supervisor()).collect();
        roots.extend(self.pools.iter().filter_map(Pool::supervisor));
        roots.extend(self.trees.iter().cloned());
        roots
    }

    fn sessions(&self) -> Vec<(ConnectionId, Session)> {
        let mut sessions = self.sessions.clone();
        for registry in &self.registries {
            let members = registry.list().into_iter();
            sessions.extend(members.map(|member| (member.id, member.session)));
        }
        sessions
    }

    fn trees_run(&self) -> Result<(), Unwell> {
        for tree in &self.trees {
            if has_ended(tree) {
                return Err(Unwell::TreeEnded {
                    path: tree.path().to_string(),
                });
            }
        }
        Ok(())
    }
}

impl Inspection {
    /// As JSON, in one line. Names and meanings of the fields stay; new ones may come.
    #[must_use]
    pub fn to_json(&self) -> String {
        // Strings, numbers and trees that are JSON already: nothing of it can fail.
        serde_json::to_string(self).unwrap_or_else(|_| "{}".to_owned())
    }

    /// As a [Mermaid](https://mermaid.js.org) flowchart.
    #[must_use]
    pub fn to_mermaid(&self) -> String {
        let mut chart = Chart::default();
        for one in &self.sessions {
            chart.session(&one.id, &one.session);
        }
        for pool in &self.pools {
            pool.draw(&mut chart);
        }
        for tree in &self.trees {
            chart.tree(tree);
        }
        chart.finish()
    }
}

impl fmt::Display for Inspection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sessions = self.sessions.iter().map(ToString::to_string);
        let pools = self.pools.iter().map(ToString::to_string);
        let trees = self.trees.iter().map(ToString::to_string);
        let all: Vec<String> = sessions.chain(pools).chain(trees).collect();
        f.write_str(&all.join("\n\n"))
    }
}

fn has_ended(tree: &SupervisorRef) -> bool {
    matches!(
        tree.cell().get_status(),
        mainstay_supervisors::ractor::ActorStatus::Stopping
            | mainstay_supervisors::ractor::ActorStatus::Stopped
    )
}
