//! A pool's errors in words that help.
//!
//! Apart because a pool has errors of its own, and passes on those of its sessions.

use super::super::{AddError, DuplicateId, PoolError};
use super::{Category, Entry};

impl PoolError {
    pub(super) fn entry(&self) -> Entry {
        match self {
            Self::NoSessions => Entry::new(
                "pool-empty",
                Category::Configuration,
                "add a session, or look at what the discovery yields; those whose end nothing can cure leave",
            ),
            Self::NoneLive { .. } => Entry::new(
                "pool-none-live",
                Category::Network,
                "ask the pool's health and each session's history why; send it again when one is live",
            ),
            Self::Unencodable(source) | Self::Request { source, .. } => source.entry(),
            Self::Exhausted { .. } => Entry::new(
                "pool-exhausted",
                Category::Network,
                "read the cause and each session's history; add sessions, or raise `max_attempts`",
            ),
        }
    }
}

impl DuplicateId {
    pub(super) fn entry(&self) -> Entry {
        Entry::new(
            "duplicate-id",
            Category::Configuration,
            "choose another id, or remove the session that has it first",
        )
    }
}

impl AddError {
    pub(super) fn entry(&self) -> Entry {
        match self {
            Self::Duplicate(error) => error.entry(),
            Self::NotLive { source, .. } => source.entry(),
            Self::Ended => Entry::new(
                "pool-ended",
                Category::Lifecycle,
                "start another pool; this one was shut down, or its supervisor has given up",
            ),
        }
    }
}
