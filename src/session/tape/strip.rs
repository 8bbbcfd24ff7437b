//! A strip of the tape: what one turn of a connection has brought, or a few small ones.
//!
//! Apart from the queue because who brings frames fills it without a lock, and who writes reads it without one.
//!
//! Invariants: entries keep their order; a short payload is copied behind the one before it, so that it keeps nothing
//! alive of what it was read into, nor is shared between two cores; a long one, and what is rare, is held as it is;
//! what has been read is not read again, also by whoever comes after a panic.

use std::collections::VecDeque;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;

use super::queue::Lost;
use crate::frame::Frame;
use crate::protocol::recording::{Confidence, Direction, Entry, Mark, Recorded};

/// See the module's documentation.
#[derive(Debug, Default)]
pub(crate) struct Strip {
    notes: Vec<Note>,
    /// The payloads of those that were copied.
    bytes: Vec<u8>,
    /// Those that were not.
    held: VecDeque<Entry>,
    /// What the latter weigh.
    held_weight: usize,
    /// From which note on which moment holds.
    moments: Vec<(usize, SystemTime)>,
    /// What has been read: notes, bytes, moments.
    read: (usize, usize, usize),
}

/// What is known of an entry beside its payload.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Note {
    length: u32,
    pub(super) kind: Kind,
    pub(super) direction: Direction,
    pub(super) mark: Option<Mark>,
    pub(super) confidence: Confidence,
}

/// What was noted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Binary,
    Ping,
    Pong,
    /// Not copied.
    Held,
}

/// An entry as it is read.
pub(super) struct Noted<'s> {
    pub(super) at: SystemTime,
    pub(super) note: Note,
    pub(super) content: Content<'s>,
}

/// What an entry holds.
pub(super) enum Content<'s> {
    Copied(&'s [u8]),
    Held(Entry),
}

/// The longest payload that is copied.
const COPIED: usize = 2048;
/// What an entry that is held weighs beside its payload.
const HELD: usize = 128;
/// What one that is copied weighs beside its payload.
const NOTE: usize = std::mem::size_of::<Note>();
/// A strip that holds less is put behind the one before it.
const SMALL: usize = 4096;
/// A strip takes small ones until it holds so much.
const FULL: usize = 64 * 1024;

impl Strip {
    /// What is noted from here on came at this moment.
    pub(crate) fn at(&mut self, now: SystemTime) {
        self.moments.push((self.notes.len(), now));
    }

    /// Notes a frame.
    #[inline]
    pub(crate) fn push(
        &mut self,
        direction: Direction,
        frame: &Frame,
        mark: Option<Mark>,
        confidence: Confidence,
    ) {
        let (kind, payload): (_, &[u8]) = match frame {
            Frame::Text(text) => (Kind::Text, text.as_bytes()),
            Frame::Binary(bytes) => (Kind::Binary, bytes),
            Frame::Ping(bytes) => (Kind::Ping, bytes),
            Frame::Pong(bytes) => (Kind::Pong, bytes),
            Frame::Close(_) => (Kind::Held, &[]),
        };
        match u32::try_from(payload.len()) {
            Ok(length) if kind != Kind::Held && payload.len() <= COPIED => {
                self.bytes.extend_from_slice(payload);
                self.notes.push(Note {
                    length,
                    kind,
                    direction,
                    mark,
                    confidence,
                });
            }
            Ok(_) | Err(_) => {
                let at = self.moments.last().map_or(UNIX_EPOCH, |(_, at)| *at);
                let entry = Entry::new(at, direction, frame.clone()).marked(mark);
                self.hold(entry, confidence);
            }
        }
    }

    /// Notes an entry as it is.
    pub(crate) fn hold(&mut self, entry: Entry, confidence: Confidence) {
        self.held_weight += weight(&entry);
        self.notes.push(Note {
            length: 0,
            kind: Kind::Held,
            direction: entry.direction,
            mark: entry.mark,
            confidence,
        });
        self.held.push_back(entry);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.notes.is_empty()
    }

    /// How many entries.
    pub(super) fn len(&self) -> usize {
        self.notes.len()
    }

    /// What they weigh, in bytes.
    pub(super) fn weight(&self) -> usize {
        self.bytes.len() + (self.notes.len() - self.held.len()) * NOTE + self.held_weight
    }

    /// The payloads that were copied, one behind the other.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Bytes that it has room for without asking for more memory.
    pub(super) fn room(&self) -> usize {
        self.bytes.capacity() + self.notes.capacity() * NOTE
    }

    /// Forgets everything, but keeps its room.
    pub(super) fn clear(&mut self) {
        self.notes.clear();
        self.bytes.clear();
        self.held.clear();
        self.held_weight = 0;
        self.moments.clear();
        self.read = (0, 0, 0);
    }

    /// Leaves out what is more than so many entries or weighs more than so much; what that was. One that is `alone`
    /// keeps its first entry, whatever it weighs.
    pub(super) fn cut(&mut self, entries: usize, bytes: usize, alone: bool) -> Option<Lost> {
        let (mut weighed, mut copied, mut held) = (0, 0, 0);
        let mut kept = 0;
        for note in &self.notes {
            let one = match note.kind {
                Kind::Held => self.held.get(held).map_or(0, weight),
                Kind::Text | Kind::Binary | Kind::Ping | Kind::Pong => NOTE + note.length as usize,
            };
            let heavy = weighed + one > bytes && !(alone && kept == 0);
            if heavy || kept >= entries {
                break;
            }
            weighed += one;
            kept += 1;
            match note.kind {
                Kind::Held => held += 1,
                Kind::Text | Kind::Binary | Kind::Ping | Kind::Pong => {
                    copied += note.length as usize;
                }
            }
        }
        let moment = self.moments.partition_point(|(from, _)| *from <= kept);
        let moment = moment.checked_sub(1).and_then(|at| self.moments.get(at));
        let since = match self.notes.get(kept)?.kind {
            Kind::Held => self.held.get(held).map(|entry| entry.at),
            Kind::Text | Kind::Binary | Kind::Ping | Kind::Pong => moment.map(|(_, at)| *at),
        };
        let mut lost = Lost::since(since.unwrap_or(UNIX_EPOCH));
        for note in self.notes.drain(kept..) {
            lost.add(note.direction);
        }
        self.bytes.truncate(copied);
        for entry in self.held.drain(held..) {
            self.held_weight -= weight(&entry);
        }
        self.moments.retain(|(from, _)| *from < kept);
        Some(lost)
    }

    /// Whether that one is small and may be put behind this one.
    pub(super) fn takes(&self, other: &Self) -> bool {
        other.weight() <= SMALL && self.weight() <= FULL
    }

    /// Puts that one behind this one.
    pub(super) fn absorb(&mut self, other: &mut Self) {
        let from = self.notes.len();
        let moments = other.moments.drain(..);
        self.moments
            .extend(moments.map(|(index, at)| (from + index, at)));
        self.notes.append(&mut other.notes);
        self.bytes.append(&mut other.bytes);
        self.held.append(&mut other.held);
        self.held_weight += other.held_weight;
        other.clear();
    }

    /// Whether everything has been read.
    pub(super) fn is_read(&self) -> bool {
        self.read.0 >= self.notes.len()
    }

    /// The next entry.
    #[inline]
    pub(super) fn next(&mut self) -> Option<Noted<'_>> {
        let (notes, bytes, moments) = &mut self.read;
        let note = *self.notes.get(*notes)?;
        while self
            .moments
            .get(*moments + 1)
            .is_some_and(|(from, _)| from <= notes)
        {
            *moments += 1;
        }
        let at = self.moments.get(*moments).map_or(UNIX_EPOCH, |(_, at)| *at);
        *notes += 1;
        let content = match note.kind {
            Kind::Held => Content::Held(self.held.pop_front()?),
            Kind::Text | Kind::Binary | Kind::Ping | Kind::Pong => {
                let from = *bytes;
                *bytes += note.length as usize;
                Content::Copied(self.bytes.get(from..*bytes)?)
            }
        };
        Some(Noted { at, note, content })
    }
}

impl<'s> Noted<'s> {
    /// A short text of which nothing is known to be secret.
    #[inline]
    pub(super) fn open_text(&self) -> Option<&'s [u8]> {
        match self.content {
            Content::Copied(text)
                if self.note.kind == Kind::Text && self.note.confidence == Confidence::Open =>
            {
                Some(text)
            }
            Content::Copied(_) | Content::Held(_) => None,
        }
    }

    /// The entry, as everything that is written has been once.
    pub(super) fn into_entry(self) -> Entry {
        let payload = match self.content {
            Content::Held(entry) => return entry,
            Content::Copied(payload) => Bytes::copy_from_slice(payload),
        };
        let frame = match self.note.kind {
            // It was a text when it came.
            Kind::Text => Frame::text(String::from_utf8_lossy(&payload).into_owned()),
            Kind::Binary | Kind::Held => Frame::Binary(payload),
            Kind::Ping => Frame::Ping(payload),
            Kind::Pong => Frame::Pong(payload),
        };
        Entry::new(self.at, self.note.direction, frame).marked(self.note.mark)
    }
}

fn weight(entry: &Entry) -> usize {
    match &entry.recorded {
        // It was not weighed when it came.
        Recorded::Dropped { .. } => 0,
        Recorded::Opened { .. } => HELD,
        Recorded::Frame(Frame::Close(Some((_, reason)))) => HELD + reason.len(),
        Recorded::Frame(frame) => HELD + frame.payload().len(),
    }
}

#[cfg(test)]
mod tests;
