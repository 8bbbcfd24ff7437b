//! Which of OTP's calls by id a supervisor takes.
//!
//! Apart from the calls because it is decided before anybody is asked: no supervisor becomes one of another
//! kind.
//!
//! Invariants: who has ended is forgotten by a dynamic supervisor, so that there is nobody to revive or to delete; a
//! partition is there for as long as its supervisor, and nobody beside the partitions, so that they can be resized away
//! and back.

use super::error::{DeleteChildError, RestartChildError, StartChildError};
use crate::id::SupervisorPath;

/// Whose children they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Membership {
    /// The spec's, and whoever is added; kept without a process.
    Kept,
    /// Whoever is started; forgotten with their process.
    Passing,
    /// A router's, by number.
    Routed,
}

impl Membership {
    pub(super) fn starts(self, at: &SupervisorPath) -> Result<(), StartChildError> {
        let supervisor = at.clone();
        match self {
            Self::Kept | Self::Passing => Ok(()),
            Self::Routed => Err(StartChildError::Partitioned { supervisor }),
        }
    }

    /// A partition may be revived: one that was parked is there without a process.
    pub(super) fn restarts(self, at: &SupervisorPath) -> Result<(), RestartChildError> {
        let supervisor = at.clone();
        match self {
            Self::Kept | Self::Routed => Ok(()),
            Self::Passing => Err(RestartChildError::Dynamic { supervisor }),
        }
    }

    pub(super) fn deletes(self, at: &SupervisorPath) -> Result<(), DeleteChildError> {
        let supervisor = at.clone();
        match self {
            Self::Kept => Ok(()),
            Self::Passing => Err(DeleteChildError::Dynamic { supervisor }),
            Self::Routed => Err(DeleteChildError::Partitioned { supervisor }),
        }
    }
}
