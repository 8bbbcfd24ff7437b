//! What waits to be written, between who brings frames and who writes them.
//!
//! Apart from the tape because it is what its lock guards, and all that is done under that lock: a strip changes hands
//! whole, and one that was written is handed back for its room.
//!
//! Invariants: it has a bound in entries and in bytes, in which what is being written counts; what finds no room is
//! counted, and stands behind what was let in before it.

use std::collections::VecDeque;
use std::time::SystemTime;

use super::strip::Strip;
use crate::config::Record;
use crate::protocol::recording::{Confidence, Direction, Entry, Recorded};

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Queue {
    strips: VecDeque<Strip>,
    /// Entries that wait, and what they weigh.
    entries: usize,
    bytes: usize,
    /// Those of the strip that is being written.
    writing: (usize, usize),
    /// What was left out since the last entry that was let in.
    lost: Option<Lost>,
    /// Strips that were written, for their room.
    spare: Vec<Strip>,
}

/// Frames that were left out.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lost {
    pub(super) since: SystemTime,
    pub(super) inbound: u64,
    pub(super) outbound: u64,
}

/// Strips that are kept for their room, and how much room each may have: one that holds what a turn brings, which is a read by
/// default, may have grown to nearly twice as much.
const SPARES: usize = 8;
const SPARE: usize = 1280 * 1024;
/// The room of a strip that stays with who fills it when what it held has been put elsewhere.
const SMALL: usize = 32 * 1024;

impl Queue {
    /// Lets a strip in, as far as there is room, and gives back one that is empty. How many entries were left out.
    pub(super) fn push(&mut self, strip: &mut Strip, bounds: &Record) -> u64 {
        let (writing, weighing) = self.writing;
        let entries = bounds.capacity.saturating_sub(self.entries + writing);
        let bytes = bounds.max_bytes.saturating_sub(self.bytes + weighing);
        let mut lost = None;
        if strip.len() > entries || strip.weight() > bytes {
            // One that is larger than the bound is let in alone.
            lost = strip.cut(entries, bytes, self.bytes == 0);
        }
        if !strip.is_empty() {
            self.say_lost();
            self.entries += strip.len();
            self.bytes += strip.weight();
            match self.strips.back_mut() {
                Some(last) if last.takes(strip) => {
                    last.absorb(strip);
                    if strip.room() > SMALL {
                        *strip = Strip::default();
                    }
                }
                Some(_) | None => {
                    let empty = self.spare.pop().unwrap_or_default();
                    self.strips.push_back(std::mem::replace(strip, empty));
                }
            }
        }
        strip.clear();
        let Some(lost) = lost else { return 0 };
        self.lost.get_or_insert(Lost::since(lost.since)).join(&lost);
        lost.count()
    }

    /// Takes the next strip in exchange for one that was written and emptied. Whether there was one.
    pub(super) fn take(&mut self, strip: &mut Strip) -> bool {
        self.writing = (0, 0);
        if self.strips.is_empty() {
            self.say_lost();
        }
        let Some(next) = self.strips.pop_front() else {
            return false;
        };
        self.writing = (next.len(), next.weight());
        self.entries -= next.len();
        self.bytes -= next.weight();
        let written = std::mem::replace(strip, next);
        if self.spare.len() < SPARES && (1..=SPARE).contains(&written.room()) {
            self.spare.push(written);
        }
        true
    }

    /// Forgets the room of what was written: there has been nothing to write.
    pub(super) fn rest(&mut self) {
        self.spare = Vec::new();
    }

    /// Entries that wait for somebody who writes them.
    pub(super) fn entries(&self) -> usize {
        self.entries
    }

    pub(super) fn is_empty(&self) -> bool {
        self.strips.is_empty() && self.lost.is_none()
    }

    fn say_lost(&mut self) {
        let Some(lost) = self.lost.take() else { return };
        let marker = lost.marker();
        self.entries += 1;
        match self.strips.back_mut() {
            Some(last) => last.hold(marker, Confidence::Open),
            None => {
                let mut strip = self.spare.pop().unwrap_or_default();
                strip.hold(marker, Confidence::Open);
                self.strips.push_back(strip);
            }
        }
    }
}

impl Lost {
    /// None yet.
    pub(super) fn since(since: SystemTime) -> Self {
        Self {
            since,
            inbound: 0,
            outbound: 0,
        }
    }

    /// One more.
    pub(super) fn add(&mut self, direction: Direction) {
        match direction {
            Direction::In => self.inbound += 1,
            Direction::Out => self.outbound += 1,
        }
    }

    /// What this entry is, or tells of, is left out, too.
    pub(super) fn add_entry(&mut self, recorded: &Recorded, direction: Direction) {
        match recorded {
            Recorded::Dropped { inbound, outbound } => {
                self.inbound += inbound;
                self.outbound += outbound;
            }
            Recorded::Frame(_) => self.add(direction),
            Recorded::Opened { .. } => {}
        }
    }

    /// Those, too.
    pub(super) fn join(&mut self, other: &Self) {
        self.inbound += other.inbound;
        self.outbound += other.outbound;
    }

    /// How many.
    pub(super) fn count(&self) -> u64 {
        self.inbound + self.outbound
    }

    /// What stands in the file for them.
    pub(super) fn marker(&self) -> Entry {
        Entry::dropped(self.since, self.inbound, self.outbound)
    }
}
