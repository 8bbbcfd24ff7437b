//! A picture of a tree at one moment.
//!
//! Plain data and its rendering; `SupervisorRef::snapshot` takes the picture.
//!
//! Invariants: a supervisor that does not answer in time is marked unreachable and its part of the
//! tree left out; taking a picture never blocks a supervisor.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

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
    /// It failed too often and has no process until somebody restarts it.
    Parked,
    /// It did not answer in time.
    Unreachable,
}

impl fmt::Display for NodeStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Stopping => "stopping",
            Self::Restarting => "restarting",
            Self::Idle => "idle",
            Self::Parked => "parked",
            Self::Unreachable => "unreachable",
        })
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
    /// How long it has been up.
    pub uptime: Option<Duration>,
    /// Restarts of this node since its supervisor started.
    pub restarts: u64,
    /// A supervisor's restarts within its intensity window, and how many are allowed.
    pub window: Option<(u32, u32)>,
    /// Consecutive restart attempts.
    pub attempts: u32,
    /// When the next restart is due.
    pub next_restart: Option<Duration>,
    /// How the incarnation before ended.
    pub last_exit: Option<Arc<ExitReason>>,
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

    fn line(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.id)?;
        if let Some(strategy) = self.strategy {
            let name = match strategy {
                Strategy::OneForOne => "one_for_one",
                Strategy::OneForAll => "one_for_all",
                Strategy::RestForOne => "rest_for_one",
            };
            write!(f, " [{name}]")?;
        }
        write!(f, " {} #{}", self.status, self.generation)?;
        if let Some(uptime) = self.uptime {
            write!(f, " up {uptime:.1?}")?;
        }
        if self.restarts > 0 {
            write!(f, " restarts {}", self.restarts)?;
        }
        if let Some((used, limit)) = self.window {
            write!(f, " window {used}/{limit}")?;
        }
        if let Some(due) = self.next_restart {
            write!(f, " next in {due:.1?}")?;
        }
        if let Some(reason) = &self.last_exit {
            write!(f, " last exit: {reason}")?;
        }
        Ok(())
    }

    fn beneath(&self, f: &mut fmt::Formatter<'_>, indent: &str) -> fmt::Result {
        for (at, child) in self.children.iter().enumerate() {
            let last = at + 1 == self.children.len();
            write!(f, "\n{indent}{}", if last { "└─ " } else { "├─ " })?;
            child.line(f)?;
            let deeper = format!("{indent}{}", if last { "   " } else { "│  " });
            child.beneath(f, &deeper)?;
        }
        Ok(())
    }
}

impl fmt::Display for TreeSnapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.line(f)?;
        self.beneath(f, "")
    }
}
