//! What a server saw, in order, and a way to await the next of it.
//!
//! A file of its own because both servers keep one, and because a test that awaits an entry needs
//! neither to poll nor to sleep.
//!
//! Invariants: entries never change and keep their number; the journal holds the newest
//! [`CAPACITY`] of them; a waiter sees every entry that is still held, also those written before it
//! came.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

/// An awaited event did not come in time.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{awaited} did not come within {within:?}; instead: {instead:?}")]
#[non_exhaustive]
pub struct ExpectError {
    /// What was awaited.
    pub awaited: String,
    /// For how long.
    pub within: Duration,
    /// What came instead, the newest last; at most 20 entries.
    pub instead: Vec<String>,
}

/// How many entries are kept; the oldest go first.
pub(super) const CAPACITY: usize = 65_536;

#[derive(Debug)]
pub(super) struct Journal<T> {
    entries: Mutex<Entries<T>>,
    /// How many entries were ever written; waiters watch it.
    written: watch::Sender<u64>,
}

#[derive(Debug)]
struct Entries<T> {
    /// The number of the oldest entry held.
    first: u64,
    held: VecDeque<T>,
}

impl<T: Clone + fmt::Debug> Journal<T> {
    pub(super) fn new() -> Self {
        Self {
            entries: Mutex::new(Entries {
                first: 0,
                held: VecDeque::new(),
            }),
            written: watch::Sender::new(0),
        }
    }

    pub(super) fn write(&self, entry: T) {
        let written = {
            let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
            if entries.held.len() == CAPACITY {
                entries.held.pop_front();
                entries.first += 1;
            }
            entries.held.push_back(entry);
            entries.first + entries.held.len() as u64
        };
        // Two writers may arrive here in the other order; the number never goes back.
        self.written
            .send_modify(|before| *before = written.max(*before));
    }

    pub(super) fn entries(&self) -> Vec<T> {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.held.iter().cloned().collect()
    }

    /// The first entry from number `cursor` on that `pick` accepts; moves `cursor` behind it. `pick` is the
    /// test's and may look at the journal itself, so it is not asked under the lock.
    fn look<R>(&self, cursor: &mut u64, pick: &mut impl FnMut(&T) -> Option<R>) -> Option<R> {
        for entry in self.from(cursor) {
            *cursor += 1;
            if let Some(found) = pick(&entry) {
                return Some(found);
            }
        }
        None
    }

    /// What is held from number `cursor` on, which is moved to the first of it.
    fn from(&self, cursor: &mut u64) -> Vec<T> {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        *cursor = (*cursor).max(entries.first);
        let skip = usize::try_from(*cursor - entries.first).unwrap_or(usize::MAX);
        entries.held.iter().skip(skip).cloned().collect()
    }

    /// Awaits the first entry from number `cursor` on that `pick` accepts.
    pub(super) async fn next<R>(
        &self,
        cursor: &mut u64,
        within: Duration,
        awaited: &str,
        mut pick: impl FnMut(&T) -> Option<R>,
    ) -> Result<R, ExpectError> {
        let start = *cursor;
        let mut written = self.written.subscribe();
        let search = async {
            loop {
                written.mark_unchanged();
                if let Some(found) = self.look(cursor, &mut pick) {
                    return Some(found);
                }
                // The sender lives in `self`, so this cannot fail.
                written.changed().await.ok()?;
            }
        };
        match timeout(within, search).await {
            Ok(Some(found)) => Ok(found),
            Ok(None) | Err(_) => Err(self.missed(start, within, awaited)),
        }
    }

    fn missed(&self, start: u64, within: Duration, awaited: &str) -> ExpectError {
        const SHOWN: usize = 20;
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = usize::try_from(start.saturating_sub(entries.first)).unwrap_or(usize::MAX);
        let skip = seen.max(entries.held.len().saturating_sub(SHOWN));
        let instead = entries.held.iter().skip(skip);
        ExpectError {
            awaited: awaited.to_owned(),
            within,
            instead: instead.map(|entry| format!("{entry:?}")).collect(),
        }
    }
}
