//! What a recording holds, without holding it.
//!
//! Apart because it is fed one entry at a time and so fits recordings of any length.
//!
//! Invariants: `count`, `inbound`, `outbound`, `first` and `last` are about what the plain format knows, so
//! that every reader of a file finds the same; what we add is counted beside it.

use std::time::{Duration, SystemTime};

use super::{Direction, Entry, Recorded};

/// What a recording holds.
///
/// ```
/// use mainstay::protocol::recording::Metadata;
///
/// let metadata = Metadata::of([
///     r#"{"ts":"2026-01-20T15:30:45.000000Z","dir":"out","type":"text","data":"a"}"#,
///     "",
///     r#"{"ts":"2026-01-20T15:30:46.500000Z","dir":"in","type":"text","data":"b"}"#,
/// ]);
/// assert_eq!((metadata.count, metadata.inbound, metadata.outbound), (2, 1, 1));
/// assert_eq!(metadata.duration().as_millis(), 1500);
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Metadata {
    /// Text, binary and close frames.
    pub count: u64,
    /// Those that were received.
    pub inbound: u64,
    /// Those that were sent.
    pub outbound: u64,
    /// When the first of them went.
    pub first: Option<SystemTime>,
    /// When the last of them went.
    pub last: Option<SystemTime>,
    /// Pings and pongs.
    pub control: u64,
    /// Connections whose opening was recorded.
    pub connections: u64,
    /// Frames that the recorder shed.
    pub dropped: u64,
    /// Lines that are neither blank nor an entry.
    pub malformed: u64,
}

impl Metadata {
    /// What these lines hold.
    #[must_use]
    pub fn of<L: AsRef<str>>(lines: impl IntoIterator<Item = L>) -> Self {
        let mut metadata = Self::default();
        for line in lines {
            let line = line.as_ref().trim();
            match Entry::parse(line) {
                Ok(entry) => metadata.add(&entry),
                Err(_) if line.is_empty() => {}
                Err(_) => metadata.malformed += 1,
            }
        }
        metadata
    }

    /// Counts one entry.
    pub fn add(&mut self, entry: &Entry) {
        match entry.recorded {
            Recorded::Opened { .. } => self.connections += 1,
            Recorded::Dropped { inbound, outbound } => {
                self.dropped = self
                    .dropped
                    .saturating_add(inbound)
                    .saturating_add(outbound);
            }
            Recorded::Frame(_) if !entry.is_plain() => self.control += 1,
            Recorded::Frame(_) => {
                self.count += 1;
                match entry.direction {
                    Direction::In => self.inbound += 1,
                    Direction::Out => self.outbound += 1,
                }
                self.first.get_or_insert(entry.at);
                self.last = Some(entry.at);
            }
        }
    }

    /// From the first to the last; zero if the clock was set back meanwhile.
    #[must_use]
    pub fn duration(&self) -> Duration {
        match (self.first, self.last) {
            (Some(first), Some(last)) => last.duration_since(first).unwrap_or_default(),
            _ => Duration::ZERO,
        }
    }
}
