//! Reading a recording back, as fast as possible or as slowly as it happened.
//!
//! Apart from the session because a recording outlives the session that made it, and may be another
//! program's.
//!
//! Invariants: memory does not grow with the file; lines that are no entries are passed over and counted;
//! the runtime's clock paces a replay, so that a paused runtime replays a day at once.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::error::{self, Category, Recovery, explained, told_with_causes};
use crate::protocol::recording::{Entry, Metadata};

/// A recording could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReplayError {
    /// There is no such file.
    #[error("no recording at {}: name a file that a session has recorded into", path.display())]
    NotFound {
        /// Where it was sought.
        path: PathBuf,
    },
    /// It is there and cannot be read, or not to its end.
    #[error("recording {} cannot be read", path.display())]
    Io {
        /// Where it is.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl ReplayError {
    /// What to do about it.
    #[must_use]
    pub fn recovery(&self) -> Recovery {
        Recovery::Stop
    }

    fn entry(&self) -> error::Entry {
        match self {
            Self::NotFound { .. } => error::Entry::new(
                "recording-missing",
                Category::Configuration,
                "name a file that a session has recorded into",
            ),
            Self::Io { .. } => error::Entry::new(
                "recording-io",
                Category::Configuration,
                "read the cause; look at the file's owner and at the disk",
            ),
        }
    }
}

explained!(ReplayError);
told_with_causes!(ReplayError);

/// A recording that is being read, entry by entry.
///
/// It yields everything that stands in the file, markers and control frames too; ask
/// [`Entry::is_plain`] for what other programs know.
///
/// ```no_run
/// use mainstay::replay::Replay;
///
/// # async fn run() -> Result<(), mainstay::replay::ReplayError> {
/// let mut replay = Replay::open("/tmp/session.jsonl").await?.in_real_time();
/// while let Some(entry) = replay.next().await? {
///     println!("{:?} {:?}", entry.direction, entry.recorded);
/// }
/// println!("{} lines were no entries", replay.skipped().malformed);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Replay {
    path: PathBuf,
    pace: Pace,
    source: Source,
    /// Read and not yet handed out, the next one last.
    ready: Vec<Entry>,
    skipped: Skipped,
    /// Where real time stands: the entry handed out last, and when it was due.
    clock: Option<(SystemTime, Instant)>,
}

/// Lines that were passed over.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Skipped {
    /// Empty ones.
    pub blank: u64,
    /// Those that are no entries, such as one that a crash has cut short.
    pub malformed: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pace {
    Fast,
    RealTime,
}

#[derive(Debug)]
enum Source {
    Idle(BufReader<File>),
    /// A piece is being read on a thread for blocking work; kept here so that dropping `next` loses nothing.
    Reading(JoinHandle<io::Result<Piece>>),
    Over,
}

#[derive(Debug)]
struct Piece {
    file: BufReader<File>,
    entries: Vec<Entry>,
    skipped: Skipped,
    is_last: bool,
}

/// Lines read at once.
const PIECE: usize = 256;

impl Replay {
    /// Opens the recording at `path`, to be replayed as fast as possible.
    ///
    /// # Errors
    ///
    /// [`ReplayError`].
    pub async fn open(path: impl AsRef<Path>) -> Result<Self, ReplayError> {
        let path = path.as_ref().to_owned();
        let opening = path.clone();
        let opened = blocking(move || File::open(opening)).await;
        let file = opened.map_err(|error| failed(&path, error))?;
        Ok(Self {
            path,
            pace: Pace::Fast,
            source: Source::Idle(BufReader::new(file)),
            ready: Vec::new(),
            skipped: Skipped::default(),
            clock: None,
        })
    }

    /// The same with the pauses between entries that there were when it was recorded. A clock that was set
    /// back meanwhile makes no pause.
    #[must_use]
    pub fn in_real_time(mut self) -> Self {
        self.pace = Pace::RealTime;
        self
    }

    /// The next entry; `None` at the end.
    ///
    /// # Errors
    ///
    /// [`ReplayError::Io`] if the file cannot be read further; after it comes the end.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses no entry.
    pub async fn next(&mut self) -> Result<Option<Entry>, ReplayError> {
        while self.ready.is_empty() {
            if !self.read().await? {
                return Ok(None);
            }
        }
        if let (Pace::RealTime, Some(entry)) = (self.pace, self.ready.last()) {
            let due = match self.clock {
                None => Instant::now(),
                Some((before, due)) => due + entry.at.duration_since(before).unwrap_or_default(),
            };
            tokio::time::sleep_until(due).await;
            self.clock = Some((entry.at, due));
        }
        Ok(self.ready.pop())
    }

    /// How many lines were passed over so far.
    #[must_use]
    pub fn skipped(&self) -> Skipped {
        self.skipped
    }

    /// What the recording at `path` holds.
    ///
    /// # Errors
    ///
    /// [`ReplayError`].
    pub async fn metadata(path: impl AsRef<Path>) -> Result<Metadata, ReplayError> {
        let mut replay = Self::open(path).await?;
        let mut metadata = Metadata::default();
        while let Some(entry) = replay.next().await? {
            metadata.add(&entry);
        }
        metadata.malformed = replay.skipped.malformed;
        Ok(metadata)
    }

    /// Reads a piece. `false` if there is no more.
    async fn read(&mut self) -> Result<bool, ReplayError> {
        self.source = match std::mem::replace(&mut self.source, Source::Over) {
            Source::Idle(file) => Source::Reading(tokio::task::spawn_blocking(move || piece(file))),
            other => other,
        };
        let Source::Reading(reading) = &mut self.source else {
            return Ok(false);
        };
        let piece = reading
            .await
            .unwrap_or_else(|error| Err(io::Error::other(error)));
        self.source = Source::Over;
        let mut piece = piece.map_err(|error| failed(&self.path, error))?;
        piece.entries.reverse();
        self.ready = piece.entries;
        self.skipped.blank += piece.skipped.blank;
        self.skipped.malformed += piece.skipped.malformed;
        if !piece.is_last {
            self.source = Source::Idle(piece.file);
        }
        Ok(true)
    }
}

fn piece(mut file: BufReader<File>) -> io::Result<Piece> {
    let (mut entries, mut skipped) = (Vec::new(), Skipped::default());
    let mut line = Vec::new();
    for _ in 0..PIECE {
        line.clear();
        if file.read_until(b'\n', &mut line)? == 0 {
            return Ok(Piece {
                file,
                entries,
                skipped,
                is_last: true,
            });
        }
        match std::str::from_utf8(&line).map(str::trim) {
            Ok("") => skipped.blank += 1,
            Ok(text) => match Entry::parse(text) {
                Ok(entry) => entries.push(entry),
                Err(_) => skipped.malformed += 1,
            },
            Err(_) => skipped.malformed += 1,
        }
    }
    Ok(Piece {
        file,
        entries,
        skipped,
        is_last: false,
    })
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(io::Error::other(error)))
}

fn failed(path: &Path, source: io::Error) -> ReplayError {
    let path = path.to_owned();
    match source.kind() {
        io::ErrorKind::NotFound => ReplayError::NotFound { path },
        _ => ReplayError::Io { path, source },
    }
}
