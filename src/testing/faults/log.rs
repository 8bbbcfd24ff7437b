//! What a venue with faults has done and seen: the truth that a client's story is held against.
//!
//! A file of its own because the checks read it and the connections write it.
//!
//! Invariants: in the order of happening; a message counts as sent whole only if its last byte has passed the
//! line; the log is bounded, and says so when its bound is reached.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Entries that are kept; with more, a run cannot be judged.
pub(super) const CAPACITY: usize = 1 << 20;

/// One thing that happened at the venue.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct FaultEntry {
    /// The number of the connection, counted from 1 in the order of acceptance.
    pub connection: u64,
    /// What.
    pub kind: FaultEntryKind,
}

/// What can happen at a venue with faults.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum FaultEntryKind {
    /// TCP was accepted.
    Accepted,
    /// The WebSocket connection was opened.
    Opened,
    /// A channel was subscribed to.
    Subscribed {
        /// Its name.
        channel: String,
    },
    /// A message of a channel was sent.
    Sent {
        /// The channel.
        channel: String,
        /// The number in it.
        number: u64,
        /// Whether all of its bytes passed the line.
        whole: bool,
    },
    /// A message of a channel that the script itself put between the venue's own: nobody answers for it.
    Forged {
        /// The channel.
        channel: String,
        /// The number in it; 0 if there is none.
        number: u64,
    },
    /// A whole text message was received.
    Received {
        /// The message.
        text: String,
    },
    /// An order was carried out.
    Executed {
        /// The number in it.
        order: u64,
    },
    /// The answer to an order was sent.
    Answered {
        /// The number in the order.
        order: u64,
        /// Whether all of its bytes passed the line.
        whole: bool,
    },
    /// A request was one too many for the limit.
    Punished,
    /// The steps for this connection have been played; it may go on being served.
    Played,
    /// The connection ended, or nothing passes on it any more.
    Ended,
}

/// The log, shared by the venue's connections.
#[derive(Debug, Default)]
pub(super) struct Log(Mutex<Vec<FaultEntry>>);

impl Log {
    pub(super) fn write(&self, connection: u64, kind: FaultEntryKind) {
        let mut entries = self.lock();
        if entries.len() < CAPACITY {
            entries.push(FaultEntry { connection, kind });
        }
    }

    pub(super) fn entries(&self) -> Vec<FaultEntry> {
        self.lock().clone()
    }

    pub(super) fn has_executed(&self, number: u64) -> bool {
        let executed = |entry: &FaultEntry| matches!(entry.kind, FaultEntryKind::Executed { order } if order == number);
        self.lock().iter().any(executed)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<FaultEntry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
