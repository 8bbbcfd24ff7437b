//! A session written down: one JSON object a line, in the format of Elixir's `zen_websocket`.
//!
//! Apart from whoever writes and reads files because the format is a promise between programs: what
//! they have recorded can be read here, and what is recorded here can be read there.
//!
//! ```text
//! {"ts":"2026-01-20T15:30:45.123456Z","dir":"out","type":"text","data":"hello"}
//! {"ts":"2026-01-20T15:30:45.234567Z","dir":"in","type":"binary","data":"AQID","binary":true}
//! {"ts":"2026-01-20T15:30:46.000000Z","dir":"in","type":"close","data":"{\"code\":1000,\"reason\":\"bye\"}"}
//! ```
//!
//! What we add is written so that a reader of the plain format passes over it or takes no notice:
//!
//! | line | to that reader |
//! |---|---|
//! | `"type":"ping"`, `"pong"`, payload as in a binary line | an unknown type: passed over |
//! | `"type":"opened"`, `data` is the connection's epoch | the same |
//! | `"type":"dropped"`, `data` says how many entries of each direction were shed here | the same |
//! | `"mark"` beside a text line: `opening`, `authentication`, `restore`, `heartbeat` | a member that it does not look at |
//!
//! Invariants: what is formatted can be parsed and is the same again, to the microsecond; nothing that a
//! file holds makes the parser panic; an error quotes no payload. The wall clock comes in as an argument.

mod line;
mod lines;
mod metadata;
mod redaction;
mod scribe;
mod timestamp;

use std::time::SystemTime;

use crate::error::{self, Category, Recovery, explained, told_with_causes};
use crate::frame::Frame;
pub(crate) use lines::Lines;
pub use metadata::Metadata;
pub use redaction::{Confidence, DEFAULT_MEMBERS, REDACTED, Redaction};
pub(crate) use scribe::Scribe;

/// Which way a frame went, seen from the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// It was received.
    In,
    /// It was sent.
    Out,
}

/// Why the library itself sent, or was sent, a frame. A user's own frames have no mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Mark {
    /// A step between an open connection and a live session.
    Opening,
    /// Authentication or its renewal; credentials and tokens have been taken out.
    Authentication,
    /// A subscription that was asked for again on a new connection.
    Restore,
    /// A heartbeat of the venue, or our answer to one.
    Heartbeat,
}

/// What one line of a recording says.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Recorded {
    /// A frame. [`Frame::Close`] without a code is written with code 1005, which means just that
    /// (RFC 6455, section 7.1.5).
    Frame(Frame),
    /// A connection opened; what follows belongs to it.
    Opened {
        /// Its epoch.
        epoch: u64,
    },
    /// Frames that the recorder shed at this point because it could not keep up.
    Dropped {
        /// How many that were received.
        inbound: u64,
        /// How many that were sent.
        outbound: u64,
    },
}

/// One line of a recording.
///
/// ```
/// use mainstay::Frame;
/// use mainstay::protocol::recording::{Direction, Entry};
///
/// # fn main() -> Result<(), mainstay::protocol::recording::EntryError> {
/// let line = r#"{"ts":"2026-01-20T15:30:45.123456Z","dir":"out","type":"text","data":"hello"}"#;
/// let entry = Entry::parse(line)?;
/// assert_eq!(entry.direction, Direction::Out);
/// assert_eq!(entry.frame(), Some(&Frame::text("hello")));
/// assert_eq!(entry.format(), line);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Entry {
    /// When, by the wall clock. Written to the microsecond.
    pub at: SystemTime,
    /// Which way.
    pub direction: Direction,
    /// What.
    pub recorded: Recorded,
    /// On whose behalf.
    pub mark: Option<Mark>,
}

impl Entry {
    /// `frame`, which went this way at this time.
    #[must_use]
    pub fn new(at: SystemTime, direction: Direction, frame: Frame) -> Self {
        Self {
            at,
            direction,
            recorded: Recorded::Frame(frame),
            mark: None,
        }
    }

    /// The opening of the connection of `epoch`.
    #[must_use]
    pub fn opened(at: SystemTime, epoch: u64) -> Self {
        Self {
            at,
            direction: Direction::Out,
            recorded: Recorded::Opened { epoch },
            mark: None,
        }
    }

    /// The loss of this many entries.
    #[must_use]
    pub fn dropped(at: SystemTime, inbound: u64, outbound: u64) -> Self {
        Self {
            at,
            direction: Direction::In,
            recorded: Recorded::Dropped { inbound, outbound },
            mark: None,
        }
    }

    /// The same with a mark.
    #[must_use]
    pub fn marked(self, mark: Option<Mark>) -> Self {
        Self { mark, ..self }
    }

    /// The frame, if it is one.
    #[must_use]
    pub fn frame(&self) -> Option<&Frame> {
        match &self.recorded {
            Recorded::Frame(frame) => Some(frame),
            Recorded::Opened { .. } | Recorded::Dropped { .. } => None,
        }
    }

    /// Whether the plain format knows it: text, binary and close frames.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        matches!(
            self.frame(),
            Some(Frame::Text(_) | Frame::Binary(_) | Frame::Close(_))
        )
    }

    /// Its line, without the line's end.
    #[must_use]
    pub fn format(&self) -> String {
        let mut line = Vec::new();
        self.write_to(&mut line);
        String::from_utf8_lossy(&line).into_owned()
    }

    /// Appends its line, without the line's end.
    pub fn write_to(&self, out: &mut Vec<u8>) {
        line::write(self, out);
    }

    /// Reads a line. White space around it and members that are not known do not matter.
    ///
    /// # Errors
    ///
    /// [`EntryError`]. Base64 that cannot be read is no error: the data is then taken as it stands.
    pub fn parse(line: &str) -> Result<Self, EntryError> {
        line::parse(line)
    }
}

/// A line that is no entry of a recording.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EntryError {
    /// It is not a JSON object.
    #[error("line is not a JSON object, at column {column}: write one object to a line")]
    Json {
        /// Where, counted from 1.
        column: usize,
    },
    /// `ts` is no time.
    #[error(
        "invalid timestamp {found}: write ISO-8601 with an offset, as 2026-01-20T15:30:45.123456Z"
    )]
    Timestamp {
        /// What stands there, cut short.
        found: String,
    },
    /// `dir` is no direction.
    #[error("invalid direction {found}: write \"in\" or \"out\"")]
    Direction {
        /// What stands there, cut short.
        found: String,
    },
    /// `type` is none that is known.
    #[error("invalid type {found}: write \"text\", \"binary\" or \"close\"")]
    Type {
        /// What stands there, cut short.
        found: String,
    },
    /// `data` is missing, is no text, or cannot be what its type says.
    #[error("invalid data of a line of type {kind:?}: write a text")]
    Data {
        /// The type.
        kind: &'static str,
    },
}

impl EntryError {
    /// What to do about it.
    #[must_use]
    pub fn recovery(&self) -> Recovery {
        Recovery::Stop
    }

    fn entry(&self) -> error::Entry {
        match self {
            Self::Json { .. }
            | Self::Timestamp { .. }
            | Self::Direction { .. }
            | Self::Type { .. }
            | Self::Data { .. } => error::Entry::new(
                "recording-line",
                Category::Protocol,
                "pass over it, as a replay does; only the last line of a recording may be cut short, by a crash",
            ),
        }
    }
}

explained!(EntryError);
told_with_causes!(EntryError);

#[cfg(test)]
mod tests;
