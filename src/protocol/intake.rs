//! What has come from the peer and tungstenite has not been given yet.
//!
//! tungstenite zeroes its room before each read, and takes new room while messages that were cut out of the old one are
//! still in somebody's hands. So the reading is done here: many whole frames at once are handed over as they lie, in the
//! buffer that they were read into, and only what is little, or comes in parts, is copied.
//!
//! Invariants: what a peer sends is measured, never judged: a head that is none of RFC 6455's, or tells of more than may
//! come, is passed on at once, and so is all behind it; bytes are passed on in their order, each once; a buffer is handed
//! over only where a frame, and a message, begins, and it ends with a frame.

use super::chunk::{self, Chunk};

/// What is copied rather than handed over: what the least room holds.
pub(crate) const LITTLE: usize = chunk::LEAST;
/// A longer frame is passed on as it comes: it would be moved when it has come whole.
const LONG: u64 = 32 * 1024;
/// Bytes from which on frames are long enough, on the average, for half the room: what is read at once wakes their consumers
/// rarely as it is, and should stay in the cache.
const LARGE: u64 = 4096;

/// The bytes of one connection. See the module's documentation.
#[derive(Debug)]
pub(crate) struct Intake {
    /// Begins where a frame does, or inside one of which the beginning was passed on.
    buffer: Vec<u8>,
    /// Bytes at its front that were passed on to be copied, and those of them that have been.
    passed: usize,
    copied: usize,
    /// Frames last looked at, and how long they are, with what of them has not come.
    looked: (u64, u64),
    /// Messages that were passed on whole; a control frame is one, too.
    messages: u64,
    /// Bytes that are passed on as they come, since the frame is long.
    rest: u64,
    /// Whether that frame ends a message.
    ends: bool,
    /// Whether what was passed on ends within a message.
    fragmented: bool,
    /// Whether all is passed on as it comes.
    raw: bool,
    /// Whether something was passed on last that ends no message.
    parts: bool,
    /// Bytes that the frame at the end still needs, as far as that is known.
    missing: usize,
    /// The longest payload that may come.
    max_payload: u64,
    /// The longest payload of those last looked at.
    longest: u64,
    /// Whether the frames last looked at were [`LARGE`] on the average.
    large: bool,
    /// Bytes that a read is given room for; half as many at most where frames are large.
    chunk: Chunk,
}

impl Intake {
    /// An intake at the end of the opening handshake; `received` came behind it. Makes room for `max_chunk` bytes when
    /// there is much to read; no payload longer than `max_payload` is waited for.
    pub(crate) fn new(received: Vec<u8>, max_chunk: usize, max_payload: usize) -> Self {
        Self {
            buffer: received,
            passed: 0,
            copied: 0,
            looked: (0, 0),
            messages: 0,
            rest: 0,
            ends: false,
            fragmented: false,
            raw: false,
            parts: false,
            missing: 0,
            max_payload: max_payload as u64,
            longest: 0,
            large: false,
            chunk: Chunk::new(max_chunk),
        }
    }

    /// The buffer to read into, and how much may be read: so much that what is handed over keeps room for its longest
    /// payload, which tungstenite wants whether or not that has come.
    pub(crate) fn room(&mut self) -> (&mut Vec<u8>, usize) {
        let slack = usize::try_from(self.longest.min(LONG)).unwrap_or(LITTLE);
        let most = if self.large {
            (self.chunk.most() / 2).max(1)
        } else {
            self.chunk.most()
        };
        let room = self.chunk.room().min(most).max(self.missing);
        if self.buffer.is_empty() && self.buffer.capacity() / 4 > room + slack {
            self.buffer = Vec::new();
        }
        let free = self.buffer.capacity() - self.buffer.len();
        if free < slack + room.div_ceil(2).max(self.missing) {
            self.buffer.reserve_exact(room + slack);
        }
        let free = self.buffer.capacity() - self.buffer.len();
        (&mut self.buffer, (free - slack).min(room))
    }

    /// A read has brought so many bytes of those for which there was `room`.
    pub(crate) fn on_read(&mut self, bytes: usize, room: usize) {
        self.chunk.on_read(bytes, room);
    }

    /// Passes on what can be used. What is returned is to be handed over, which is done only if it `may` be; else it is
    /// there to be [copied](Self::copy).
    pub(crate) fn pass(&mut self, may: bool) -> Option<Vec<u8>> {
        let may = may && self.is_between();
        self.longest = 0;
        self.missing = 0;
        self.parts = false;
        self.looked = (0, 0);
        let end = self.survey();
        if let Some(mean) = self.looked.1.checked_div(self.looked.0) {
            self.large = mean >= LARGE;
        }
        self.parts |= self.raw || self.rest > 0;
        if !may || self.rest > 0 || self.raw || end < LITTLE {
            self.passed = end;
            return None;
        }
        let slack = usize::try_from(self.longest).unwrap_or(LITTLE);
        // Room for more is made when it is read: by then what is handed over may be free again.
        let next = self.buffer.get(end..).unwrap_or_default().to_vec();
        let mut whole = std::mem::replace(&mut self.buffer, next);
        whole.truncate(end);
        whole.reserve_exact(slack);
        Some(whole)
    }

    /// Where what can be used ends.
    fn survey(&mut self) -> usize {
        let mut end = 0;
        loop {
            let bytes = self.buffer.get(end..).unwrap_or_default();
            if self.raw {
                return self.buffer.len();
            }
            if self.rest > 0 {
                let rest = usize::try_from(self.rest).unwrap_or(usize::MAX);
                let came = rest.min(bytes.len());
                self.rest -= came as u64;
                end += came;
                if self.rest > 0 {
                    return end;
                }
                self.messages += u64::from(self.ends);
                self.parts |= !self.ends;
                continue;
            }
            let Some((head, payload)) = extent(bytes) else {
                return end;
            };
            let first = bytes[0];
            if payload > self.max_payload || matches!(first & 0x0f, 3..=7 | 0xb..) {
                self.raw = true;
                continue;
            }
            let ends = first & 0x80 != 0;
            let whole = head as u64 + payload;
            if (bytes.len() as u64) < whole {
                if payload <= LONG {
                    self.missing = usize::try_from(whole).unwrap_or_default() - bytes.len();
                    return end;
                }
                self.note(first, ends, whole);
                (self.rest, self.ends) = (whole, ends);
                continue;
            }
            self.note(first, ends, whole);
            self.messages += u64::from(ends);
            self.longest = self.longest.max(payload);
            end += usize::try_from(whole).unwrap_or_default();
        }
    }

    /// A data frame begins a message, or ends it (RFC 6455, section 5.4); a control frame may stand between.
    fn note(&mut self, first: u8, ends: bool, whole: u64) {
        self.looked.0 += 1;
        self.looked.1 += whole;
        self.parts |= !ends;
        if first & 0x08 == 0 {
            self.fragmented = !ends;
        }
    }

    /// Copies what was passed on to be copied; how much that was.
    pub(crate) fn copy(&mut self, into: &mut [u8]) -> usize {
        let from = self.buffer.get(self.copied..self.passed);
        let from = from.unwrap_or_default();
        let count = from.len().min(into.len());
        into[..count].copy_from_slice(&from[..count]);
        self.copied += count;
        if self.copied == self.passed {
            self.buffer.drain(..self.passed);
            (self.passed, self.copied) = (0, 0);
        }
        count
    }

    /// Messages that were passed on whole, so far.
    pub(crate) fn messages(&self) -> u64 {
        self.messages
    }

    /// Whether what was passed on ends where a message does, so that who got it holds no part of one.
    pub(crate) fn is_between(&self) -> bool {
        !self.fragmented && self.rest == 0 && !self.raw
    }

    /// Whether something was passed on last that ends no message.
    pub(crate) fn has_parts(&self) -> bool {
        self.parts
    }

    /// Whether there is something to be copied.
    #[cfg(test)]
    fn has_passed(&self) -> bool {
        self.passed > 0
    }
}

/// The bytes of a frame's head and of its payload, if the head is there whole (RFC 6455, section 5.2).
#[inline]
pub(crate) fn extent(bytes: &[u8]) -> Option<(usize, u64)> {
    let [_, second, rest @ ..] = bytes else {
        return None;
    };
    let (payload, head) = match (second & 0x7f, rest) {
        (126, [a, b, ..]) => (u64::from(u16::from_be_bytes([*a, *b])), 4),
        (127, [a, b, c, d, e, f, g, h, ..]) => {
            (u64::from_be_bytes([*a, *b, *c, *d, *e, *f, *g, *h]), 10)
        }
        (126 | 127, _) => return None,
        (short, _) => (u64::from(short), 2),
    };
    let masked = second & 0x80 != 0;
    let head = if masked { head + 4 } else { head };
    (bytes.len() >= head).then_some((head, payload))
}

#[cfg(test)]
mod tests;
