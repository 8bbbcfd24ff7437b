//! The recording of one session, between the connection that brings frames and the disk.
//!
//! It belongs to the data plane and not to the Recorder, as the queues of subscriptions do: frames that
//! wait to be written outlive the actor that writes them, and what a closing connection still says after
//! the Recorder was stopped is written all the same.
//!
//! Invariants: the queue has a bound in entries and in bytes; who brings frames never waits for the disk, and hands
//! over what a turn brought as one; what is left out stands in the file as a line that says how much; whoever drains
//! goes on behind the entry at which another has panicked, and that one is counted; the last owner's drop writes the
//! rest, unless the file is another session's by then.

pub(crate) mod claim;
mod disk;
mod queue;
mod strip;

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, TryLockError};
use std::time::Duration;

use serde::Serialize;

use super::reporter::Reporter;
use super::secrets::Known;
use crate::config::Record;
use crate::protocol::recording::{DEFAULT_MEMBERS, Recorded, Redaction};
use crate::telemetry::TelemetryEvent;
use claim::Claim;
use disk::{Disk, LARGE};
use queue::Queue;
pub(crate) use strip::Strip;

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

/// See the module's documentation.
pub(crate) struct Tape {
    reporter: Arc<Reporter>,
    record: Record,
    redaction: Redaction,
    /// What the session knows to be secret; `None` without a session.
    secrets: Option<Arc<Known>>,
    queue: Mutex<Queue>,
    disk: Arc<Mutex<Disk>>,
    /// That to the file. Set when the session is assembled, given back by its end.
    claim: Mutex<Option<Arc<Claim>>>,
    /// Wakes the Recorder; whether it could be told. Set when the tree is described.
    wake: OnceLock<Box<dyn Fn() -> bool + Send + Sync>>,
    /// Whether the Recorder has been woken and has not begun yet.
    asked: AtomicBool,
    /// Whether it has been told that frames are left out; told again when the recording has been idle since.
    told_full: AtomicBool,
    /// Whether nobody may come after who drains now.
    ending: AtomicBool,
    entries: AtomicU64,
    bytes: AtomicU64,
    dropped: AtomicU64,
    errors: AtomicU64,
}

/// How long a session that ends waits for a write that is under way.
const LAST_WAIT: Duration = Duration::from_millis(100);
/// How long a Recorder that has much to do waits for more before it lets itself be woken again, and how often it does:
/// what asks it to stop waits meanwhile.
const PAUSE: Duration = Duration::from_millis(1);
const PAUSES: u32 = 50;

/// What is said when frames find no room.
const FULL: &str = "frames come faster than they are written and are left out";
const MORE_ROOM: &str = "raise Record::bounds, or record less";

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
            disk: Arc::default(),
            claim: Mutex::default(),
            wake: OnceLock::new(),
            asked: AtomicBool::new(false),
            told_full: AtomicBool::new(false),
            ending: AtomicBool::new(false),
            entries: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            errors: AtomicU64::new(0),
        })
    }

    /// The file is this tape's until the session is over.
    pub(crate) fn claimed(self: &Arc<Self>, claim: Arc<Claim>) {
        claim.is_of(self);
        *lock(&self.claim) = Some(claim);
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

    /// Takes a strip in exchange for an empty one, leaves out what there is no room for, and wakes the Recorder when
    /// there is enough to be written.
    pub(crate) fn push(&self, strip: &mut Strip) {
        let (dropped, waiting) = {
            let mut queue = lock(&self.queue);
            (queue.push(strip, &self.record), queue.entries())
        };
        if dropped > 0 {
            self.dropped.fetch_add(dropped, Ordering::Relaxed);
            if !self.told_full.swap(true, Ordering::Relaxed) {
                self.reporter.report(&TelemetryEvent::RecordingInterrupted {
                    path: &self.record.path.display().to_string(),
                    operation: "queue",
                    error: FULL,
                    remedy: MORE_ROOM,
                });
            }
        }
        if waiting >= self.record.flush_at {
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
        self.asked.store(false, Ordering::Release);
        while self.drain(&mut lock(&self.disk)).is_some() && self.is_left_with_the_rest() {}
    }

    /// Writes what waits, and for a while what comes if it is much: waking the Recorder costs whoever brings frames more
    /// than handing them over.
    pub(crate) fn keep_up(&self) {
        let mut pauses = 0;
        self.asked.store(true, Ordering::Release);
        loop {
            let Some(lines) = self.drain(&mut lock(&self.disk)) else {
                self.asked.store(false, Ordering::Release);
                return;
            };
            if self.is_left_with_the_rest() {
                continue;
            }
            let much = lines >= self.record.flush_at as u64;
            if !much || self.ending.load(Ordering::Acquire) || pauses == PAUSES {
                break;
            }
            std::thread::sleep(PAUSE);
            pauses += 1;
        }
        self.asked.store(false, Ordering::Release);
        // Who brought them meanwhile woke nobody.
        if lock(&self.queue).entries() >= self.record.flush_at {
            self.ask();
        }
    }

    /// Whether who ended the session found the disk taken, and left the rest to whoever had it.
    fn is_left_with_the_rest(&self) -> bool {
        self.ending.load(Ordering::Acquire) && !lock(&self.queue).is_empty()
    }

    /// The session is over: writes what waits, without waiting long for a disk that does not answer, and gives the file
    /// back.
    pub(crate) fn finish(&self) {
        self.ending.store(true, Ordering::Release);
        within_patience(&self.disk, |disk| self.drain(disk));
        let claim = lock(&self.claim).take();
        drop(claim);
    }

    /// The file is about to be another's: writes what waits, and from then on nothing. Whether the disk let it.
    fn leave(&self) -> bool {
        leave(&self.disk, |disk| {
            self.drain(disk);
        })
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

    /// Writes what waits. How many lines that were; `None` if the disk refused them.
    fn drain(&self, disk: &mut Disk) -> Option<u64> {
        if disk.left {
            self.shed(disk);
            return None;
        }
        if let Err(error) = disk.open(&self.record) {
            // What waits goes on waiting, up to its bound, for a disk that comes back.
            self.refused(disk, "open", &error);
            return None;
        }
        if disk.give_up_begun() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        disk.say_lost();
        let mut lines = 0;
        loop {
            if disk.strip.is_read() {
                disk.strip.clear();
                if !lock(&self.queue).take(&mut disk.strip) {
                    break;
                }
            }
            self.lay_down(disk);
            if disk.lines.len() >= LARGE {
                lines += self.write(disk)?;
            }
        }
        if !disk.lines.is_empty() {
            lines += self.write(disk)?;
        }
        if lines > 0
            && self.record.durable
            && let Some(file) = &disk.file
            && let Err(error) = file.sync_data()
        {
            self.refused(disk, "sync", &error);
            return None;
        }
        if disk.rests(lines == 0) {
            lock(&self.queue).rest();
            self.told_full.store(false, Ordering::Relaxed);
        }
        disk.complained = false;
        Some(lines)
    }

    /// Counts what waits for a file that is another's.
    fn shed(&self, disk: &mut Disk) {
        loop {
            while let Some(noted) = disk.strip.next() {
                let is_frame = matches!(noted.into_entry().recorded, Recorded::Frame(_));
                self.dropped
                    .fetch_add(u64::from(is_frame), Ordering::Relaxed);
            }
            disk.strip.clear();
            if !lock(&self.queue).take(&mut disk.strip) {
                return;
            }
        }
    }

    /// Makes entries into lines, until there are enough of them to be written.
    fn lay_down(&self, disk: &mut Disk) {
        let plain = self.is_plain(disk.strip.bytes());
        while disk.lines.len() < LARGE {
            let Disk { strip, lines, .. } = disk;
            let Some(noted) = strip.next() else {
                return;
            };
            let (at, note) = (noted.at, noted.note);
            if plain
                && let Some(text) = noted.open_text()
                && disk.scribe.text(
                    &self.redaction,
                    (at, note.direction),
                    note.mark,
                    text,
                    lines,
                )
            {
                disk.inside.add(at, note.direction);
                continue;
            }
            disk.begun = Some((at, note.direction));
            let mut entry = noted.into_entry();
            if let Recorded::Frame(frame) = entry.recorded {
                let frame = self.redaction.apply(frame, note.confidence);
                entry.recorded = Recorded::Frame(match &self.secrets {
                    Some(secrets) => secrets.clean_frame(frame),
                    None => frame,
                });
            }
            disk.append(&entry);
            disk.begun = None;
        }
    }

    /// Whether nothing that is taken out wherever it appears is in these payloads.
    fn is_plain(&self, payloads: &[u8]) -> bool {
        let secrets = self.secrets.as_ref();
        !self.redaction.has_text_in(payloads)
            && !secrets.is_some_and(|secrets| secrets.may_be_in(payloads))
    }

    /// Writes the lines that there are. How many; `None` if the disk refused them.
    fn write(&self, disk: &mut Disk) -> Option<u64> {
        let inside = std::mem::take(&mut disk.inside);
        match disk.write() {
            Ok(bytes) => {
                self.entries.fetch_add(inside.entries, Ordering::Relaxed);
                self.bytes.fetch_add(bytes, Ordering::Relaxed);
                Some(inside.entries)
            }
            Err(error) => {
                self.dropped.fetch_add(inside.frames, Ordering::Relaxed);
                disk.lost = inside.lost.filter(|lost| lost.count() > 0);
                self.refused(disk, "write", &error);
                None
            }
        }
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
                remedy: remedy(error.kind()),
            });
        }
    }
}

impl Drop for Tape {
    fn drop(&mut self) {
        self.finish();
        claim::forget_the_gone();
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

/// What a person can do about a disk that refuses. Whatever it is, the recording goes on by itself when the disk takes
/// it again.
fn remedy(kind: io::ErrorKind) -> &'static str {
    use io::ErrorKind as Kind;
    match kind {
        Kind::NotFound => "create the folder; the recording goes on when it is there",
        Kind::IsADirectory => "the path is a folder: name a file in it",
        Kind::NotADirectory => "one part of the path is a file: name a file in a folder",
        Kind::PermissionDenied => "let this program write there, or give another path",
        Kind::ReadOnlyFilesystem => "give another path: nothing can be written on that one",
        Kind::StorageFull | Kind::QuotaExceeded | Kind::FileTooLarge => {
            "make room; the recording goes on when there is some"
        }
        Kind::InvalidFilename => "give the file another name, or a shorter one",
        _ => "look at the disk; the recording goes on when it takes it again",
    }
}

/// Lets whoever has this disk do one last thing with it, and nothing more after that. Whether it was free.
fn leave(disk: &Mutex<Disk>, last: impl FnOnce(&mut Disk)) -> bool {
    let left = within_patience(disk, |disk| {
        last(disk);
        disk.file = None;
        disk.left = true;
    });
    left.is_some()
}

/// Uses a disk, unless it does not answer who has it for longer than the end of a session may take.
fn within_patience<T>(disk: &Mutex<Disk>, what: impl FnOnce(&mut Disk) -> T) -> Option<T> {
    let step = Duration::from_millis(1);
    let mut waited = Duration::ZERO;
    loop {
        match disk.try_lock() {
            Ok(mut disk) => return Some(what(&mut disk)),
            Err(TryLockError::Poisoned(disk)) => return Some(what(&mut disk.into_inner())),
            Err(TryLockError::WouldBlock) if waited >= LAST_WAIT => return None,
            Err(TryLockError::WouldBlock) => {
                std::thread::sleep(step);
                waited += step;
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
