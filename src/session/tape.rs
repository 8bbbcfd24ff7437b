//! The recording of one session, between the connection that brings frames and the disk.
//!
//! It belongs to the data plane and not to the Recorder, as the queues of subscriptions do: frames that
//! wait to be written outlive the actor that writes them, and what a closing connection still says after
//! the Recorder was stopped is written all the same.
//!
//! Invariants: the queue has a bound in entries and in bytes; who brings frames never waits for the disk;
//! what is left out stands in the file as a line that says how much; whoever drains takes a few entries
//! at a time, so that a panic costs no more than those; the last owner's drop writes the rest.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, SystemTime};

use serde::Serialize;

use super::reporter::Reporter;
use super::secrets::Known;
use crate::config::Record;
use crate::frame::Frame;
use crate::protocol::recording::{
    Confidence, DEFAULT_MEMBERS, Direction, Entry, Recorded, Redaction,
};
use crate::telemetry::TelemetryEvent;

/// What a session's recording has come to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct RecordingStatistics {
    /// Lines written.
    pub entries: u64,
    /// Bytes written.
    pub bytes: u64,
    /// Frames left out: the queue was full, or the disk refused them.
    pub dropped: u64,
    /// Times that the disk refused.
    pub errors: u64,
}

/// An entry as it was taken, before redaction.
pub(crate) type Taken = (Entry, Confidence);

/// See the module's documentation.
pub(crate) struct Tape {
    reporter: Arc<Reporter>,
    record: Record,
    redaction: Redaction,
    /// What the session knows to be secret; `None` without a session.
    secrets: Option<Arc<Known>>,
    queue: Mutex<Queue>,
    disk: Mutex<Disk>,
    /// Wakes the Recorder; whether it could be told. Set when the tree is described.
    wake: OnceLock<Box<dyn Fn() -> bool + Send + Sync>>,
    /// Whether the Recorder has been woken and has not begun yet.
    asked: AtomicBool,
    /// Whether nobody may come after who drains now.
    ending: AtomicBool,
    entries: AtomicU64,
    bytes: AtomicU64,
    dropped: AtomicU64,
    errors: AtomicU64,
}

#[derive(Debug, Default)]
struct Queue {
    entries: VecDeque<Taken>,
    bytes: usize,
    lost: Option<Lost>,
}

/// What was left out since the last entry that was let in.
#[derive(Debug)]
struct Lost {
    since: SystemTime,
    inbound: u64,
    outbound: u64,
}

impl Lost {
    /// All of these, those included that they tell of.
    fn of(taken: &[Taken]) -> Option<Self> {
        let (first, _) = taken.first()?;
        let mut lost = Self {
            since: first.at,
            inbound: 0,
            outbound: 0,
        };
        for (entry, _) in taken {
            match (&entry.recorded, entry.direction) {
                (Recorded::Dropped { inbound, outbound }, _) => {
                    lost.inbound += inbound;
                    lost.outbound += outbound;
                }
                (Recorded::Frame(_), Direction::In) => lost.inbound += 1,
                (Recorded::Frame(_), Direction::Out) => lost.outbound += 1,
                (Recorded::Opened { .. }, _) => {}
            }
        }
        (lost.inbound + lost.outbound > 0).then_some(lost)
    }
}

#[derive(Debug, Default)]
struct Disk {
    /// `None` before the first write and after one that failed.
    file: Option<File>,
    /// Whether the file has been opened before: then it is never emptied again.
    opened: bool,
    /// Whether the last write broke off, perhaps in the middle of a line; also one of an earlier process.
    broken: bool,
    /// Whether the last use of the file was refused, and that has been said.
    complained: bool,
    lines: Vec<u8>,
}

/// What an entry weighs beside its payload.
const OVERHEAD: usize = 128;
/// Entries taken from the queue at a time.
const AT_A_TIME: usize = 100;
/// How long a session that ends waits for a write that is under way.
const LAST_WAIT: Duration = Duration::from_millis(100);

impl Tape {
    /// An empty tape of the session that `reporter` tells of. The file is opened by the first flush.
    pub(crate) fn new(
        reporter: Arc<Reporter>,
        record: Record,
        secrets: Option<&Arc<Known>>,
    ) -> Arc<Self> {
        let members = DEFAULT_MEMBERS
            .into_iter()
            .chain(record.members().iter().map(String::as_str));
        Arc::new(Self {
            reporter,
            redaction: Redaction::new(members, record.texts()),
            record,
            secrets: secrets.cloned(),
            queue: Mutex::default(),
            disk: Mutex::default(),
            wake: OnceLock::new(),
            asked: AtomicBool::new(false),
            ending: AtomicBool::new(false),
            entries: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            errors: AtomicU64::new(0),
        })
    }

    /// Who is woken when entries are to be written.
    pub(crate) fn on_wake(&self, wake: impl Fn() -> bool + Send + Sync + 'static) {
        // A second description of the same tree leads to the same Recorder.
        let _ = self.wake.set(Box::new(wake));
    }

    /// How it is to be recorded.
    pub(crate) fn record(&self) -> &Record {
        &self.record
    }

    /// Queues entries, leaves out those for which there is no room, and wakes the Recorder when there are
    /// enough to be written.
    pub(crate) fn push(&self, taken: &mut Vec<Taken>) {
        let mut dropped = 0;
        let enough = {
            let mut queue = lock(&self.queue);
            for (entry, confidence) in taken.drain(..) {
                dropped += u64::from(!queue.push(entry, confidence, &self.record));
            }
            queue.entries.len() >= self.record.flush_at
        };
        if dropped > 0 {
            self.dropped.fetch_add(dropped, Ordering::Relaxed);
        }
        if enough {
            self.ask();
        }
    }

    /// Wakes the Recorder, unless it has been woken already.
    pub(crate) fn ask(&self) {
        if !self.asked.swap(true, Ordering::AcqRel) && !self.wake.get().is_some_and(|wake| wake()) {
            self.asked.store(false, Ordering::Release);
        }
    }

    /// A new Recorder has an empty mailbox.
    pub(crate) fn forget_asking(&self) {
        self.asked.store(false, Ordering::Release);
    }

    /// Writes what waits. Blocks for as long as the disk takes.
    pub(crate) fn flush(&self) {
        loop {
            let written = self.drain(&mut lock(&self.disk));
            // Who found the disk taken when the session ended left the rest to us.
            if !written || !self.ending.load(Ordering::Acquire) || lock(&self.queue).is_empty() {
                return;
            }
        }
    }

    /// The session is over: writes what waits, without waiting long for a disk that does not answer.
    pub(crate) fn finish(&self) {
        self.ending.store(true, Ordering::Release);
        let step = Duration::from_millis(1);
        let mut waited = Duration::ZERO;
        loop {
            match self.disk.try_lock() {
                Ok(mut disk) => {
                    self.drain(&mut disk);
                    return;
                }
                Err(std::sync::TryLockError::Poisoned(disk)) => {
                    self.drain(&mut disk.into_inner());
                    return;
                }
                Err(std::sync::TryLockError::WouldBlock) if waited >= LAST_WAIT => return,
                Err(std::sync::TryLockError::WouldBlock) => {
                    std::thread::sleep(step);
                    waited += step;
                }
            }
        }
    }

    /// What it has come to.
    pub(crate) fn statistics(&self) -> RecordingStatistics {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        RecordingStatistics {
            entries: read(&self.entries),
            bytes: read(&self.bytes),
            dropped: read(&self.dropped),
            errors: read(&self.errors),
        }
    }

    /// Writes what waits. Whether the disk took it.
    fn drain(&self, disk: &mut Disk) -> bool {
        self.asked.store(false, Ordering::Release);
        if let Err(error) = disk.open(&self.record) {
            // What waits goes on waiting, up to its bound, for a disk that comes back.
            self.refused(disk, "open", &error);
            return false;
        }
        let mut wrote = false;
        loop {
            let taken = lock(&self.queue).take();
            if taken.is_empty() {
                break;
            }
            let count = taken.len() as u64;
            let frames = taken.iter().filter(|(entry, _)| entry.frame().is_some());
            let frames = frames.count() as u64;
            let lost = Lost::of(&taken);
            for (mut entry, confidence) in taken {
                if let Recorded::Frame(frame) = entry.recorded {
                    let frame = self.redaction.apply(frame, confidence);
                    entry.recorded = Recorded::Frame(match &self.secrets {
                        Some(secrets) => secrets.clean_frame(frame),
                        None => frame,
                    });
                }
                entry.write_to(&mut disk.lines);
                disk.lines.push(b'\n');
            }
            match disk.write() {
                Ok(bytes) => {
                    wrote = true;
                    self.entries.fetch_add(count, Ordering::Relaxed);
                    self.bytes.fetch_add(bytes, Ordering::Relaxed);
                }
                Err(error) => {
                    self.dropped.fetch_add(frames, Ordering::Relaxed);
                    lock(&self.queue).put_lost(lost);
                    self.refused(disk, "write", &error);
                    return false;
                }
            }
        }
        if wrote
            && self.record.durable
            && let Some(file) = &disk.file
            && let Err(error) = file.sync_data()
        {
            self.refused(disk, "sync", &error);
            return false;
        }
        disk.complained = false;
        true
    }

    /// Said once for each series of refusals.
    fn refused(&self, disk: &mut Disk, what: &'static str, error: &io::Error) {
        self.errors.fetch_add(1, Ordering::Relaxed);
        disk.file = None;
        if !std::mem::replace(&mut disk.complained, true) {
            self.reporter.report(&TelemetryEvent::RecordingInterrupted {
                path: &self.record.path.display().to_string(),
                operation: what,
                error: &error.to_string(),
            });
        }
    }
}

impl Drop for Tape {
    fn drop(&mut self) {
        self.finish();
    }
}

impl std::fmt::Debug for Tape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tape")
            .field("record", &self.record)
            .field("statistics", &self.statistics())
            .finish_non_exhaustive()
    }
}

impl Queue {
    /// Whether there was room.
    fn push(&mut self, entry: Entry, confidence: Confidence, bounds: &Record) -> bool {
        let weight = weight(&entry);
        // One that is larger than the bound is let in alone.
        let heavy = self.bytes.saturating_add(weight) > bounds.max_bytes && self.bytes > 0;
        if heavy || self.entries.len() >= bounds.capacity {
            let lost = self.lost.get_or_insert(Lost {
                since: entry.at,
                inbound: 0,
                outbound: 0,
            });
            match entry.direction {
                Direction::In => lost.inbound += 1,
                Direction::Out => lost.outbound += 1,
            }
            return false;
        }
        self.say_lost();
        self.bytes += weight;
        self.entries.push_back((entry, confidence));
        true
    }

    fn say_lost(&mut self) {
        if let Some(lost) = self.lost.take() {
            let marker = Entry::dropped(lost.since, lost.inbound, lost.outbound);
            self.entries.push_back((marker, Confidence::Open));
        }
    }

    /// The disk has refused what stood before everything that waits.
    fn put_lost(&mut self, lost: Option<Lost>) {
        let Some(mut lost) = lost else { return };
        if let Some((front, _)) = self.entries.front()
            && let Recorded::Dropped { inbound, outbound } = front.recorded
        {
            lost.inbound += inbound;
            lost.outbound += outbound;
            self.entries.pop_front();
        }
        let marker = Entry::dropped(lost.since, lost.inbound, lost.outbound);
        self.entries.push_front((marker, Confidence::Open));
    }

    fn take(&mut self) -> Vec<Taken> {
        if self.entries.len() < AT_A_TIME {
            self.say_lost();
        }
        let count = self.entries.len().min(AT_A_TIME);
        let taken: Vec<Taken> = self.entries.drain(..count).collect();
        let weight: usize = taken.iter().map(|(entry, _)| weight(entry)).sum();
        self.bytes = self.bytes.saturating_sub(weight);
        taken
    }

    fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.lost.is_none()
    }
}

fn weight(entry: &Entry) -> usize {
    match &entry.recorded {
        // It was not weighed when it came.
        Recorded::Dropped { .. } => 0,
        Recorded::Opened { .. } => OVERHEAD,
        Recorded::Frame(Frame::Close(Some((_, reason)))) => OVERHEAD + reason.len(),
        Recorded::Frame(frame) => OVERHEAD + frame.payload().len(),
    }
}

impl Disk {
    fn open(&mut self, record: &Record) -> io::Result<()> {
        if self.file.is_some() {
            return Ok(());
        }
        let mut options = OpenOptions::new();
        options.create(true);
        match record.append || self.opened {
            true => options.append(true),
            false => options.write(true).truncate(true),
        };
        let file = options.open(&record.path)?;
        if !self.opened && record.append {
            self.broken = breaks_off(&record.path, &file);
        }
        self.file = Some(file);
        self.opened = true;
        Ok(())
    }

    /// Writes the lines and forgets them.
    fn write(&mut self) -> io::Result<u64> {
        let lines = std::mem::take(&mut self.lines);
        let Some(file) = &mut self.file else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        if self.broken {
            // Ends the line in which the last write broke off; a blank line means nothing.
            file.write_all(b"\n")?;
        }
        self.broken = true;
        file.write_all(&lines)?;
        self.broken = false;
        let written = lines.len() as u64;
        self.lines = lines;
        self.lines.clear();
        // One large message does not keep its memory.
        self.lines.shrink_to(1 << 20);
        Ok(written)
    }
}

/// Whether a recording ends in the middle of a line: whoever wrote it was killed. One that cannot be read may.
fn breaks_off(path: &Path, file: &File) -> bool {
    let Ok(metadata) = file.metadata() else {
        return true;
    };
    if !metadata.is_file() || metadata.len() == 0 {
        return false;
    }
    let last = File::open(path).and_then(|mut file| {
        let mut last = [0];
        file.seek(SeekFrom::End(-1))?;
        file.read_exact(&mut last)?;
        Ok(last)
    });
    last.map_or(true, |last| last != *b"\n")
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
