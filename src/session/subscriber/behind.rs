//! When a consumer that is behind gets copies.
//!
//! A message keeps what it was read with, which on a connection with many channels is mostly others' messages. What a
//! few of them hold on to is memory that nobody counts, and that the next reads would have found in the cache.
//!
//! What came when the queue was empty is copied when much has been read behind it: the reader looks from time to time.
//!
//! Invariants: who empties his queue between two batches gets no copies, nor does who gets most of what is read.

/// What has come since a queue was found empty.
#[derive(Debug, Default)]
pub(super) struct Behind {
    /// What had been read by then.
    since: u64,
    /// What of that which was read since came to this queue.
    own: u64,
    /// Whether what had come by the last look is copied.
    copied: bool,
}

impl Behind {
    /// Bytes that may be held on to, however few are a queue's own.
    const LITTLE: u64 = 1024 * 1024;
    /// Bytes that may be held on to for each of a queue's own.
    const SHARE: u64 = 4;

    /// A queue that is empty, when so much has been read.
    pub(super) fn new(read: u64) -> Self {
        Self {
            since: read,
            own: 0,
            copied: false,
        }
    }

    /// So many bytes came to the queue.
    pub(super) fn came(&mut self, bytes: usize) {
        self.own = self.own.saturating_add(bytes as u64);
    }

    /// Whether what waits should be copied now, when so much has been read. Says so once.
    pub(super) fn is_stale(&mut self, read: u64) -> bool {
        !self.copied && self.holds_much(read) && !std::mem::replace(&mut self.copied, true)
    }

    /// Whether what comes next should be copied, when so much has been read.
    pub(super) fn holds_much(&self, read: u64) -> bool {
        let held = read.saturating_sub(self.since);
        held > Self::LITTLE && held / Self::SHARE > self.own
    }
}
