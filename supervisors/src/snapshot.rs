//! A picture of a tree at one moment.
//!
//! Plain data, apart from its renderings as text, Mermaid and JSON; `SupervisorRef::snapshot` takes
//! the picture.
//!
//! Invariants: a supervisor that does not answer in time is marked unreachable and its part of the
//! tree left out; taking a picture never blocks a supervisor. What is not known is `None` and never a
//! guess.
//!
//! # Secrets
//! The text of an exit reason is the `Display` of the child's own error, or a panic's message. The text
//! and JSON renderings repeat it: an error that shows a secret shows it here, and in logs. The Mermaid
//! rendering shows the kind of an exit only.

mod json;
mod mermaid;
mod text;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ractor::ActorId;

use crate::exit::ExitReason;
use crate::id::{ChildId, Generation, SupervisorPath};
use crate::policy::{ChildKind, Restart, Strategy};

/// What a node of the tree is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum NodeStatus {
    /// Started and not yet ready.
    Starting,
    /// Up.
    Running,
    /// Told to end, not ended yet.
    Stopping,
    /// Waiting for its restart, or part of a group that is.
    Restarting,
    /// Its spec is there, but no process.
    Idle,
    /// It failed too often and has no process until somebody restarts it, or its group is restarted.
    Parked,
    /// It did not answer in time.
    Unreachable,
}

impl NodeStatus {
    /// The status in one word, as all renderings use it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Stopping => "stopping",
            Self::Restarting => "restarting",
            Self::Idle => "idle",
            Self::Parked => "parked",
            Self::Unreachable => "unreachable",
        }
    }
}

impl fmt::Display for NodeStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One node of the tree with everything beneath it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct TreeSnapshot {
    /// Where it stands.
    pub path: SupervisorPath,
    /// Its id; for a root, its name.
    pub id: ChildId,
    /// Worker or supervisor.
    pub kind: ChildKind,
    /// A supervisor's strategy.
    pub strategy: Option<Strategy>,
    /// How it is restarted; `None` for a root.
    pub restart: Option<Restart>,
    /// What it is doing.
    pub status: NodeStatus,
    /// Its incarnation, or its last one.
    pub generation: Generation,
    /// Its actor while it is up; `None` for a child that is none.
    pub actor: Option<ActorId>,
    /// When it came up, by the wall clock as it was then.
    pub started_at: Option<SystemTime>,
    /// How long it has been up, by a clock that is never set.
    pub uptime: Option<Duration>,
    /// Restarts of this node since its supervisor started.
    pub restarts: u64,
    /// A supervisor's restarts within its intensity window, and how many are allowed.
    pub window: Option<(u32, u32)>,
    /// Consecutive restart attempts that its own failures have caused; zero once it has been up for its backoff's
    /// [`reset_after`](crate::Backoff::reset_after).
    pub attempts: u32,
    /// When the next restart is due.
    pub next_restart: Option<Duration>,
    /// How the incarnation before ended; of a node without a process, how the last one did.
    pub last_exit: Option<Arc<ExitReason>>,
    /// Messages its incarnation has handled. Of a supervisor these are the times its own actor was woken,
    /// each for any number of reports and calls; keepers deal with most reports without waking it.
    pub handled: u64,
    /// How long the callbacks took that its incarnation has finished, waiting included. Those shorter
    /// than a few microseconds are timed by samples.
    pub busy: Duration,
    /// How long its present callback has been running; for one that has blocked its thread from the
    /// start, since somebody first looked.
    pub handler_age: Option<Duration>,
    /// Messages sent through addresses and not handled yet, the one in hand included. Exact only when
    /// every sender uses an address, and unknown where there is none, or nobody counts what is handled:
    /// of tasks, and of actors that somebody else spawned.
    pub queue_depth: Option<u64>,
    /// What stands beneath it, in start order.
    pub children: Vec<TreeSnapshot>,
}

impl TreeSnapshot {
    /// The node reached from here by these ids.
    #[must_use]
    pub fn find<'a>(&self, ids: impl IntoIterator<Item = &'a str>) -> Option<&Self> {
        ids.into_iter().try_fold(self, |node, id| {
            node.children.iter().find(|child| child.id.as_str() == id)
        })
    }

    /// The tree as a [Mermaid](https://mermaid.js.org) flowchart, to be pasted where those are drawn.
    ///
    /// Supervisors and workers differ in shape, each status is a class, and children stand in start
    /// order. Texts are escaped: an id can hold anything.
    #[must_use]
    pub fn to_mermaid(&self) -> String {
        mermaid::render(self)
    }

    /// The tree as JSON, for programs. One object per node; its fields are a contract: names and
    /// meanings stay, new fields may come. Every field is always there, and `null` where it is not
    /// known or makes no sense.
    ///
    /// | Field | Value |
    /// |---|---|
    /// | `path`, `id` | strings |
    /// | `kind` | `"supervisor"` or `"worker"` |
    /// | `strategy` | `"one_for_one"`, `"one_for_all"`, `"rest_for_one"`; of supervisors |
    /// | `restart` | `"permanent"`, `"transient"`, `"temporary"`; `null` for a root |
    /// | `status` | as [`NodeStatus::name`] |
    /// | `generation` | number, the first is 1 |
    /// | `actor` | string, ractor's id |
    /// | `started_at_unix_ms` | number, milliseconds since 1970 |
    /// | `uptime_ms` | number |
    /// | `restarts` | number |
    /// | `window_used`, `window_limit` | numbers; of supervisors |
    /// | `attempts` | number, consecutive ones |
    /// | `next_restart_ms` | number, from now |
    /// | `last_exit` | `{"kind": string, "reason": string}`, the kind as [`ExitReason::kind`] |
    /// | `handled` | number of messages, of this incarnation; of a supervisor see [`handled`](Self::handled) |
    /// | `busy_ms` | number, in callbacks |
    /// | `handler_age_ms` | number, of the present callback |
    /// | `queue_depth` | number, see [`queue_depth`](Self::queue_depth) |
    /// | `children` | array of nodes, in start order |
    ///
    /// Milliseconds are whole. Read the secrets section of [this module](self) before you publish it.
    ///
    /// ```
    /// # use mainstay_supervisors::{ShutdownPlan, Strategy, SupervisorSpec};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let tree = SupervisorSpec::new(Strategy::OneForOne).start().await?;
    /// let json = tree.snapshot().await.to_json();
    /// assert!(json.starts_with(r#"{"path":"root","id":"root","kind":"supervisor","strategy":"one_for_one""#));
    /// # tree.shutdown(ShutdownPlan::default()).await;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn to_json(&self) -> String {
        json::render(self)
    }
}

/// The tree as indented text, for people. Its form may change.
impl fmt::Display for TreeSnapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        text::render(self, f)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::exit::BoxError;

    /// A worker that is up.
    pub(crate) fn worker(id: &str) -> TreeSnapshot {
        let id = ChildId::from(id);
        TreeSnapshot {
            path: SupervisorPath::root("top").child(&id),
            id,
            kind: ChildKind::Worker,
            strategy: None,
            restart: Some(Restart::Permanent),
            status: NodeStatus::Running,
            generation: Generation(1),
            actor: Some(ActorId::Local(7)),
            started_at: Some(SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_123)),
            uptime: Some(Duration::from_millis(1500)),
            restarts: 0,
            window: None,
            attempts: 0,
            next_restart: None,
            last_exit: None,
            handled: 0,
            busy: Duration::ZERO,
            handler_age: None,
            queue_depth: None,
            children: Vec::new(),
        }
    }

    pub(crate) fn failed(text: &str) -> Arc<ExitReason> {
        Arc::new(ExitReason::Failed(BoxError::from(text).into()))
    }

    /// A root over these children.
    pub(crate) fn root(children: impl IntoIterator<Item = TreeSnapshot>) -> TreeSnapshot {
        TreeSnapshot {
            path: SupervisorPath::root("top"),
            kind: ChildKind::Supervisor,
            strategy: Some(Strategy::OneForAll),
            restart: None,
            window: Some((1, 3)),
            children: children.into_iter().collect(),
            ..worker("top")
        }
    }
}
