//! Why a task does not run, or has no result.
//!
//! Apart from the supervisor of tasks because they are read by whoever waits.
//!
//! Invariants: each names the task or the supervisor, and what can be done; how a task ended is its source.

use std::sync::Arc;
use std::time::Duration;

use crate::admin::{StartChildError, SupervisorEnded};
use crate::exit::ExitReason;
use crate::id::{ChildId, SupervisorPath};
use crate::runtime::record::Record;

/// A task ended without a result.
#[derive(Debug, Clone, thiserror::Error)]
#[error(
    "task {task} ended without a result; the source says how: run it again where twice does no harm"
)]
#[non_exhaustive]
pub struct TaskError {
    /// The id of its key.
    pub task: ChildId,
    /// How it ended: by its own error, a panic, a kill, a stop.
    #[source]
    pub reason: Arc<ExitReason>,
}

impl TaskError {
    pub(super) fn of(record: &Record, reason: Arc<ExitReason>) -> Self {
        Self {
            task: record.id.clone(),
            reason,
        }
    }

    /// The task's own error, if it is of type `E`.
    #[must_use]
    pub fn downcast_ref<E: std::error::Error + 'static>(&self) -> Option<&E> {
        self.reason.downcast_ref()
    }
}

/// Why a task does not run.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum StartTaskError {
    /// There are as many tasks as there may be.
    #[error(
        "supervisor {supervisor} has {limit} tasks already, as many as it may have; wait until one has ended, or raise `max_children`"
    )]
    MaxChildren {
        /// Where it stands.
        supervisor: SupervisorPath,
        /// How many it may have.
        limit: usize,
    },
    /// It was terminated before it was up.
    #[error("task {task} did not start; run it again when what the source names is over")]
    Failed {
        /// The id of its key.
        task: ChildId,
        /// Why it did not start.
        #[source]
        reason: Arc<ExitReason>,
    },
    /// The supervisor ends, has ended, or is being restarted.
    #[error(transparent)]
    ShuttingDown(#[from] SupervisorEnded),
}

impl From<StartChildError> for StartTaskError {
    fn from(error: StartChildError) -> Self {
        match error {
            StartChildError::MaxChildren { supervisor, limit } => {
                Self::MaxChildren { supervisor, limit }
            }
            StartChildError::Failed { child, reason } => Self::Failed {
                task: child,
                reason,
            },
            StartChildError::ShuttingDown(ended) => Self::ShuttingDown(ended),
            // Keys are never used twice, and the spec is ours.
            StartChildError::Spec { ref child, .. }
            | StartChildError::AlreadyStarted { ref child, .. }
            | StartChildError::AlreadyPresent { ref child } => Self::Failed {
                task: child.clone(),
                reason: Arc::new(ExitReason::Failed(Arc::new(error))),
            },
            // Tasks are no partitions.
            StartChildError::Partitioned { supervisor } => {
                Self::ShuttingDown(SupervisorEnded::of(&supervisor))
            }
        }
    }
}

/// Why a [`TaskStream`](super::TaskStream) has no result for an input.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum StreamError {
    /// Its task does not run. The stream ends with this, and so does whatever of it runs.
    #[error(transparent)]
    NotStarted(#[from] StartTaskError),
    /// Its task ended without a result; the others go on.
    #[error(transparent)]
    Ended(#[from] TaskError),
    /// Its task took too long and was killed; the others go on.
    #[error(
        "task {task} had no result within {within:?} and was killed; give each more time with `timeout`, or run it again where twice does no harm"
    )]
    TimedOut {
        /// The id of its key.
        task: ChildId,
        /// How long it was given.
        within: Duration,
    },
}
