//! The file of a recording, and what is on its way there.
//!
//! Apart from the tape because it is what the lock guards that is held for as long as a disk takes.
//!
//! Invariants: lines are whole and in their order; what was made into lines and not written is known by number until
//! the disk has taken it; a file that was opened once is never emptied again.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::time::SystemTime;

use super::queue::Lost;
use super::strip::Strip;
use crate::config::Record;
use crate::protocol::recording::{Direction, Entry, Lines, Recorded, Scribe};

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Disk {
    /// `None` before the first write and after one that failed.
    pub(super) file: Option<File>,
    /// Whether the file has been opened before: then it is never emptied again.
    opened: bool,
    /// Whether the last write broke off, perhaps in the middle of a line; also one of an earlier process.
    broken: bool,
    /// Whether the last use of the file was refused, and that has been said.
    pub(super) complained: bool,
    /// Whether the file is another's by now: then it is not opened again.
    pub(super) left: bool,
    /// What is being made into lines.
    pub(super) strip: Strip,
    /// Lines, and what is in them.
    pub(super) lines: Lines,
    pub(super) scribe: Scribe,
    pub(super) inside: Inside,
    /// One line that is being made.
    pub(super) line: Vec<u8>,
    /// The entry of which it is to be the line: whoever finds one here comes after a panic.
    pub(super) begun: Option<(SystemTime, Direction)>,
    /// What was refused, or cost a panic, and has not been said in the file.
    pub(super) lost: Option<Lost>,
    /// How often in a row there was nothing to write.
    idle: u8,
}

/// What is in lines that have not been written.
#[derive(Debug, Default)]
pub(super) struct Inside {
    pub(super) entries: u64,
    pub(super) frames: u64,
    /// What is lost with them.
    pub(super) lost: Option<Lost>,
}

/// How often there is nothing to write before the room for it is let go of.
const IDLE: u8 = 4;
/// Bytes that are written at once, as far as there is so much.
pub(super) const LARGE: usize = 256 * 1024;

impl Inside {
    /// One more line.
    #[inline]
    pub(super) fn add(&mut self, at: SystemTime, direction: Direction) {
        self.entries += 1;
        self.frames += 1;
        self.lost
            .get_or_insert_with(|| Lost::since(at))
            .add(direction);
    }

    /// One more line, which may tell of others.
    pub(super) fn add_entry(&mut self, at: SystemTime, recorded: &Recorded, direction: Direction) {
        self.entries += 1;
        self.frames += u64::from(matches!(recorded, Recorded::Frame(_)));
        self.lost
            .get_or_insert_with(|| Lost::since(at))
            .add_entry(recorded, direction);
    }
}

impl Disk {
    pub(super) fn open(&mut self, record: &Record) -> io::Result<()> {
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

    /// Makes an entry a line.
    pub(super) fn append(&mut self, entry: &Entry) {
        self.line.clear();
        entry.write_to(&mut self.line);
        self.line.push(b'\n');
        self.lines.append(&self.line);
        self.inside
            .add_entry(entry.at, &entry.recorded, entry.direction);
    }

    /// Gives up the entry at which somebody has panicked. Whether there was one.
    pub(super) fn give_up_begun(&mut self) -> bool {
        let Some((at, direction)) = self.begun.take() else {
            return false;
        };
        self.lost
            .get_or_insert_with(|| Lost::since(at))
            .add(direction);
        true
    }

    /// Whether it has been idle for so long that room is to be let go of; its own is.
    pub(super) fn rests(&mut self, idle: bool) -> bool {
        if !idle {
            self.idle = 0;
            return false;
        }
        self.idle = self.idle.saturating_add(1);
        if self.idle == IDLE {
            (self.lines, self.line, self.strip) = (Lines::default(), Vec::new(), Strip::default());
        }
        self.idle == IDLE
    }

    /// Says in a line what was refused before.
    pub(super) fn say_lost(&mut self) {
        let Some(lost) = self.lost.take() else { return };
        let marker = lost.marker();
        self.append(&marker);
    }

    /// Writes the lines and forgets them.
    pub(super) fn write(&mut self) -> io::Result<u64> {
        // What a disk refuses is not written again, but counted.
        let mut lines = std::mem::take(&mut self.lines);
        let Some(file) = &mut self.file else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        if self.broken {
            // Ends the line in which the last write broke off; a blank line means nothing.
            file.write_all(b"\n")?;
        }
        self.broken = true;
        file.write_all(lines.as_bytes())?;
        self.broken = false;
        let written = lines.len() as u64;
        // One large message does not keep its memory.
        lines.clear(2 * LARGE);
        self.lines = lines;
        self.line.clear();
        self.line.shrink_to(LARGE);
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
