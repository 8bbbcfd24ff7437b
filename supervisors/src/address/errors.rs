//! Why a message or a question has found nobody.
//!
//! Its own file because these are only told: nothing here is done.
//!
//! Invariants: a message that was not delivered is inside its error; each error says who was meant, what is
//! known of it and what to do.

use std::fmt;
use std::time::Duration;

use super::AddressStatus;
use crate::id::{Generation, SupervisorPath};

/// A message that was not delivered.
#[derive(thiserror::Error)]
#[error("{}", nobody(.child, .status))]
pub struct AddressError<M> {
    /// The message.
    pub message: M,
    /// Whose address it is; `None` when nobody has been up at it yet.
    pub child: Option<SupervisorPath>,
    /// What was known of the child.
    pub status: AddressStatus,
}

impl<M> fmt::Debug for AddressError<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AddressError")
            .field("child", &self.child)
            .field("status", &self.status)
            .finish_non_exhaustive()
    }
}

/// Nobody came up in time.
#[derive(Debug, Clone, thiserror::Error)]
#[error("waited {within:?} in vain: {}", nobody(.child, .status))]
pub struct NotUp {
    /// Whose address it is; `None` when nobody has been up at it yet.
    pub child: Option<SupervisorPath>,
    /// What was known of the child at the end.
    pub status: AddressStatus,
    /// How long it was waited for.
    pub within: Duration,
}

/// Why a call has no answer.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// The message was not delivered.
    #[error("{}", nobody(.child, .status))]
    NotUp {
        /// Whose address it is; `None` when nobody has been up at it yet.
        child: Option<SupervisorPath>,
        /// What was known of the child.
        status: AddressStatus,
    },
    /// The incarnation ended, or dropped the reply port, before it answered. It may have acted.
    #[error(
        "incarnation {generation} of {child} ended before it answered, and may have acted; ask the next one where twice does no harm"
    )]
    Died {
        /// Whom.
        child: SupervisorPath,
        /// Which was asked.
        generation: Generation,
    },
    /// No answer within the limit. It may still act.
    #[error(
        "incarnation {generation} of {child} did not answer within {within:?}, and may still act; allow it longer, or ask again where twice does no harm"
    )]
    Timeout {
        /// Whom.
        child: SupervisorPath,
        /// Which was asked.
        generation: Generation,
        /// How long it was waited for.
        within: Duration,
    },
}

/// What an error says of an address where nobody is.
fn nobody(child: &Option<SupervisorPath>, status: &AddressStatus) -> String {
    let remedy = match status {
        AddressStatus::Unbound => "give it to `address` of a spec and start that",
        AddressStatus::Up(_) => "send again",
        AddressStatus::Leaving(_) | AddressStatus::Restarting { .. } => {
            "wait with `cast_when_up` or `up`, long enough for a restart"
        }
        AddressStatus::Down(_) => {
            "start it with `restart_child`, or wait with `up` for a restart of its supervisor"
        }
    };
    match child {
        Some(child) => format!("{child} is not up at its address ({status}); {remedy}"),
        None => format!("nobody is up at the address ({status}); {remedy}"),
    }
}
