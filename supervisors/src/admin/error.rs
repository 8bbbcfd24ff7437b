//! Why a call to a supervisor was refused.
//!
//! Apart because there is one type for each call. The machine says why in fewer words; whoever asked adds
//! here what he asked for.
//!
//! Invariants: each names the child or the supervisor, and what can be done; what it was caused by is its source
//! and not in the text.

use std::sync::Arc;

use ractor::ActorCell;

use crate::exit::ExitReason;
use crate::id::{ChildId, Generation, SupervisorPath};
use crate::machine::Denied;
use crate::spec::SpecError;

/// Why a child was not added. Nothing of it is kept.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum StartChildError {
    /// The spec makes no sense here.
    #[error("the spec of child {child:?} makes no sense; change what the source names")]
    Spec {
        /// Its id.
        child: ChildId,
        /// What is wrong with it.
        source: SpecError,
    },
    /// The id is in use by a child that runs, or that the supervisor is about to restart.
    #[error(
        "child {child} is already started, as incarnation {generation}; terminate and delete it first, or use another id"
    )]
    AlreadyStarted {
        /// That id.
        child: ChildId,
        /// Its present or last incarnation.
        generation: Generation,
        /// Its actor, when one is up.
        cell: Option<ActorCell>,
    },
    /// The id is in use by a child without a process.
    #[error("child {child} is already present, without a process; restart or delete it")]
    AlreadyPresent {
        /// That id.
        child: ChildId,
    },
    /// A dynamic supervisor has as many children as it may, those that restart included.
    #[error(
        "supervisor {supervisor} has {limit} children already, as many as it may have; wait until one has ended, or raise `max_children`"
    )]
    MaxChildren {
        /// Where it stands.
        supervisor: SupervisorPath,
        /// How many it may have.
        limit: usize,
    },
    /// A partitioned supervisor has its partitions and nobody else.
    #[error(
        "supervisor {supervisor} has its partitions alone; have more of them with `resize`, or start the child under another supervisor"
    )]
    Partitioned {
        /// Where it stands.
        supervisor: SupervisorPath,
    },
    /// It did not start, or was terminated before it was up.
    #[error("child {child} did not start; mend what the source names, then start it again")]
    Failed {
        /// Its id.
        child: ChildId,
        /// Why it did not start.
        #[source]
        reason: Arc<ExitReason>,
    },
    /// The supervisor ends or has ended.
    #[error(transparent)]
    ShuttingDown(#[from] SupervisorEnded),
}

/// Why a supervisor did not add a child, by one who does not say which.
#[derive(Debug)]
pub(crate) enum Refused {
    Spec(SpecError),
    Started {
        generation: Generation,
        cell: Option<ActorCell>,
    },
    Present,
    TooMany(usize),
    Failed(Arc<ExitReason>),
    ShuttingDown,
}

impl Refused {
    pub(super) fn of(self, child: ChildId, supervisor: &SupervisorPath) -> StartChildError {
        match self {
            Self::Spec(source) => StartChildError::Spec { child, source },
            Self::Started { generation, cell } => StartChildError::AlreadyStarted {
                child,
                generation,
                cell,
            },
            Self::Present => StartChildError::AlreadyPresent { child },
            Self::TooMany(limit) => StartChildError::MaxChildren {
                supervisor: supervisor.clone(),
                limit,
            },
            Self::Failed(reason) => StartChildError::Failed { child, reason },
            Self::ShuttingDown => SupervisorEnded::of(supervisor).into(),
        }
    }
}

/// Why a supervisor goes on by its old spec.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ReconfigureError {
    /// The new one makes no sense.
    #[error("the new spec of supervisor {supervisor} makes no sense; change what the source names")]
    Spec {
        /// Where it stands.
        supervisor: SupervisorPath,
        /// What is wrong with the spec.
        source: SpecError,
    },
    /// A static supervisor, a dynamic one and one of partitions stay what they are.
    #[error(
        "the new spec is for another kind of supervisor than {supervisor} is: static, dynamic or partitioned; start a new one by it"
    )]
    Kind {
        /// Where it stands.
        supervisor: SupervisorPath,
    },
    /// Children are being started or restarted in order.
    #[error("supervisor {supervisor} is starting a group of children; ask again when they are up")]
    Busy {
        /// Where it stands.
        supervisor: SupervisorPath,
    },
    /// The supervisor ends or has ended.
    #[error(transparent)]
    ShuttingDown(#[from] SupervisorEnded),
}

/// Why a child was not terminated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TerminateChildError {
    /// There is no such child.
    #[error("there is no child {child}; see `which_children` for those there are")]
    NotFound {
        /// The id that was asked for.
        child: ChildId,
    },
    /// Too many wait for its end already. It has been told to end all the same.
    #[error(
        "{waiting} callers wait for the end of child {child} already; watch it with `monitor_child` instead, or have one task ask"
    )]
    Crowded {
        /// Its id.
        child: ChildId,
        /// How many there may be.
        waiting: usize,
    },
    /// The supervisor has ended, or ended meanwhile.
    #[error(transparent)]
    ShuttingDown(#[from] SupervisorEnded),
}

impl TerminateChildError {
    pub(super) fn of(denied: Denied, child: &ChildId, supervisor: &SupervisorPath) -> Self {
        match denied {
            Denied::NotFound => Self::NotFound {
                child: child.clone(),
            },
            Denied::Crowded(waiting) => Self::Crowded {
                child: child.clone(),
                waiting,
            },
            // Neither keeps a child from being terminated: then it is the supervisor that is in the way.
            Denied::Running | Denied::Restarting | Denied::Failed(_) | Denied::ShuttingDown => {
                SupervisorEnded::of(supervisor).into()
            }
        }
    }
}

/// Why a child was not restarted by request.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum RestartChildError {
    /// There is no such child.
    #[error("there is no child {child}; see `which_children` for those there are")]
    NotFound {
        /// The id that was asked for.
        child: ChildId,
    },
    /// It has a process.
    #[error("child {child} is running; terminate it first")]
    Running {
        /// Its id.
        child: ChildId,
    },
    /// Its supervisor is about to restart it.
    #[error("child {child} is being restarted already; wait until it is up, or terminate it first")]
    Restarting {
        /// Its id.
        child: ChildId,
    },
    /// A dynamic supervisor keeps no child that could be started again.
    #[error(
        "supervisor {supervisor} is dynamic and forgets whoever has ended; start a new child through its `DynamicRef` or `TaskRef`"
    )]
    Dynamic {
        /// Where it stands.
        supervisor: SupervisorPath,
    },
    /// It did not start, or was terminated before it was up. The spec stays.
    #[error("child {child} did not start; mend what the source names, then restart it")]
    Failed {
        /// Its id.
        child: ChildId,
        /// Why it did not start.
        #[source]
        reason: Arc<ExitReason>,
    },
    /// The supervisor ends or has ended.
    #[error(transparent)]
    ShuttingDown(#[from] SupervisorEnded),
}

impl RestartChildError {
    pub(super) fn of(denied: Denied, child: &ChildId, supervisor: &SupervisorPath) -> Self {
        let child = child.clone();
        match denied {
            Denied::NotFound => Self::NotFound { child },
            Denied::Running => Self::Running { child },
            Denied::Restarting => Self::Restarting { child },
            Denied::Failed(reason) => Self::Failed { child, reason },
            // Only one can wait for a start.
            Denied::Crowded(_) | Denied::ShuttingDown => SupervisorEnded::of(supervisor).into(),
        }
    }
}

/// Why a child's spec was not deleted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DeleteChildError {
    /// There is no such child.
    #[error("there is no child {child}; see `which_children` for those there are")]
    NotFound {
        /// The id that was asked for.
        child: ChildId,
    },
    /// It has a process.
    #[error("child {child} is running; terminate it first")]
    Running {
        /// Its id.
        child: ChildId,
    },
    /// Its supervisor is about to restart it.
    #[error("child {child} is being restarted; terminate it first")]
    Restarting {
        /// Its id.
        child: ChildId,
    },
    /// A dynamic supervisor keeps no child that could be deleted.
    #[error(
        "supervisor {supervisor} is dynamic and forgets whoever has ended; end a child with `terminate_child`"
    )]
    Dynamic {
        /// Where it stands.
        supervisor: SupervisorPath,
    },
    /// Keys are routed to all its partitions.
    #[error("supervisor {supervisor} keeps its partitions; have fewer of them with `resize`")]
    Partitioned {
        /// Where it stands.
        supervisor: SupervisorPath,
    },
    /// The supervisor ends or has ended.
    #[error(transparent)]
    ShuttingDown(#[from] SupervisorEnded),
}

impl DeleteChildError {
    pub(super) fn of(denied: Denied, child: &ChildId, supervisor: &SupervisorPath) -> Self {
        let child = child.clone();
        match denied {
            Denied::NotFound => Self::NotFound { child },
            Denied::Running => Self::Running { child },
            Denied::Restarting => Self::Restarting { child },
            // A deletion starts nobody and waits for nobody.
            Denied::Failed(_) | Denied::Crowded(_) | Denied::ShuttingDown => {
                SupervisorEnded::of(supervisor).into()
            }
        }
    }
}

/// The supervisor ends or has ended, or none is up at the reference, and can no longer be asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}; wait with `up` of its address or reference for the next one", self.what())]
#[non_exhaustive]
pub struct SupervisorEnded {
    /// Where it stood; `None` when none was up that could have been asked.
    pub supervisor: Option<SupervisorPath>,
}

impl SupervisorEnded {
    pub(crate) fn of(supervisor: &SupervisorPath) -> Self {
        Self {
            supervisor: Some(supervisor.clone()),
        }
    }

    /// Nobody is up at a reference.
    pub(crate) fn nobody() -> Self {
        Self { supervisor: None }
    }

    fn what(&self) -> String {
        match &self.supervisor {
            Some(path) => format!("the supervisor {path} ends or has ended"),
            None => "no supervisor is up at the reference".to_owned(),
        }
    }
}

/// Why nothing can be said about a child.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LookupError {
    /// There is no such child.
    #[error("there is no child {child}; see `which_children` for those there are")]
    NotFound {
        /// The id that was asked for.
        child: ChildId,
    },
    /// It takes other messages, or is a supervisor.
    #[error(
        "child {child} takes other messages, or none; name its `Actor::Msg`, or use a `SupervisorAddress`"
    )]
    MessageType {
        /// Its id.
        child: ChildId,
    },
    /// There is nobody to ask.
    #[error(transparent)]
    SupervisorEnded(#[from] SupervisorEnded),
}

impl LookupError {
    pub(crate) fn not_found(child: &ChildId) -> Self {
        Self::NotFound {
            child: child.clone(),
        }
    }
}
