//! Lines behind each other, on their way to a file.
//!
//! Apart because of how room is made: a line is written into bytes that are there already, and counts only when it is
//! whole.
//!
//! Invariants: what was not [filled](Lines::fill) is not in it, also after a panic.

/// See the module's documentation.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    /// Room, as far as it was ever asked for.
    bytes: Vec<u8>,
    /// Where the last line ends.
    end: usize,
}

/// The least room that is made.
const LEAST: usize = 4096;

impl Lines {
    /// How many bytes.
    pub(crate) fn len(&self) -> usize {
        self.end
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.end == 0
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.end).unwrap_or_default()
    }

    /// Forgets all lines, and room beyond so much.
    pub(crate) fn clear(&mut self, room: usize) {
        self.end = 0;
        self.bytes.truncate(room);
        self.bytes.shrink_to(room);
    }

    /// Appends what is a whole line, or a few.
    pub(crate) fn append(&mut self, line: &[u8]) {
        self.room(line.len())[..line.len()].copy_from_slice(line);
        self.fill(line.len());
    }

    /// Room for at least so many bytes.
    #[inline]
    pub(super) fn room(&mut self, count: usize) -> &mut [u8] {
        let needed = self.end + count;
        if self.bytes.len() < needed {
            let room = needed.max(2 * self.bytes.len()).max(LEAST);
            self.bytes.resize(room, 0);
        }
        &mut self.bytes[self.end..]
    }

    /// So many bytes of the room are a whole line.
    #[inline]
    pub(super) fn fill(&mut self, count: usize) {
        self.end = (self.end + count).min(self.bytes.len());
    }
}
