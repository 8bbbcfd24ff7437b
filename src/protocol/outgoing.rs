//! What is to be written to a peer: a client's frames (RFC 6455, section 5.2), behind each other.
//!
//! Apart from those who write because both wires do. tungstenite's own buffer goes with each context that is replaced, and
//! would grow anew for every burst of requests.
//!
//! Invariants: a frame that is written is final, masked, and as short as its length allows; bytes leave in their order; what
//! has left takes no more room than what is [full](Outgoing::is_full), or than what has not left; room that bursts no longer
//! need is given back when everything has left.

use super::chunk::Chunk;
use crate::frame::Frame;

/// Bytes at which no more is taken before some have left.
const FULL: usize = 128 * 1024;

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Outgoing {
    bytes: Vec<u8>,
    /// How many of them have left.
    left: usize,
    /// How much room is kept when everything has.
    usual: Chunk,
}

impl Outgoing {
    /// Nothing yet.
    pub(crate) fn new() -> Self {
        Self {
            bytes: Vec::new(),
            left: 0,
            usual: Chunk::new(2 * FULL),
        }
    }

    /// Appends a frame; `mask` must not be known to the peer before (section 10.3).
    #[inline(always)]
    pub(crate) fn write(&mut self, frame: &Frame, mask: [u8; 4]) {
        match frame {
            Frame::Text(text) => self.put(0x1, text.as_bytes(), mask),
            Frame::Binary(bytes) => self.put(0x2, bytes, mask),
            Frame::Ping(bytes) => self.put(0x9, bytes, mask),
            Frame::Pong(bytes) => self.put(0xa, bytes, mask),
            Frame::Close(None) => self.put(0x8, &[], mask),
            Frame::Close(Some((code, reason))) => {
                let mut payload = code.to_be_bytes().to_vec();
                payload.extend_from_slice(reason.as_bytes());
                self.put(0x8, &payload, mask);
            }
        }
    }

    /// Appends bytes that are frames already.
    pub(crate) fn append(&mut self, frames: &[u8]) {
        self.bytes.extend_from_slice(frames);
    }

    /// What has not left.
    pub(crate) fn pending(&self) -> &[u8] {
        self.bytes.get(self.left..).unwrap_or_default()
    }

    /// Whether so much is to be written that no more should be taken.
    pub(crate) fn is_full(&self) -> bool {
        self.bytes.len() - self.left > FULL
    }

    /// So many bytes of [`Self::pending`] have left.
    pub(crate) fn on_written(&mut self, bytes: usize) {
        self.left += bytes;
        if self.left < self.bytes.len() {
            // A peer that is always a little behind never has everything.
            if self.left >= FULL.max(self.bytes.len() / 2) {
                self.bytes.drain(..self.left);
                self.left = 0;
            }
            return;
        }
        self.bytes.clear();
        let all = std::mem::take(&mut self.left);
        self.usual.on_read(all, self.usual.room());
        if self.bytes.capacity() / 2 > self.usual.room() {
            self.bytes.shrink_to(self.usual.room());
        }
    }

    #[inline(always)]
    fn put(&mut self, opcode: u8, payload: &[u8], mask: [u8; 4]) {
        let [a, b, c, d] = mask;
        let first = 0x80 | opcode;
        self.bytes.reserve(14 + payload.len());
        match payload.len() {
            length @ 0..=125 => {
                self.bytes.extend([first, 0x80 | length as u8, a, b, c, d]);
            }
            length @ 126..=0xffff => {
                let [high, low] = (length as u16).to_be_bytes();
                self.bytes
                    .extend([first, 0x80 | 126, high, low, a, b, c, d]);
            }
            length => {
                self.bytes.extend([first, 0x80 | 127]);
                self.bytes.extend((length as u64).to_be_bytes());
                self.bytes.extend(mask);
            }
        }
        let begin = self.bytes.len();
        self.bytes.extend_from_slice(payload);
        apply(mask, self.bytes.get_mut(begin..).unwrap_or_default());
    }
}

/// Masks `payload` (section 5.3), eight bytes at a time.
fn apply(mask: [u8; 4], payload: &mut [u8]) {
    let [a, b, c, d] = mask;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (words, rest) = payload.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    for (byte, mask) in rest.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketContext};

    use super::*;
    use crate::protocol::chunk::LEAST;

    #[test]
    fn a_frame_of_any_length_is_what_a_server_reads() {
        for length in [0, 1, 7, 8, 125, 126, 127, 65_535, 65_536, 200_000] {
            let text = "x".repeat(length);
            let frames = [
                Frame::text(text.as_str()),
                Frame::Binary(text.into_bytes().into()),
            ];
            let mut outgoing = Outgoing::new();
            for frame in &frames {
                outgoing.write(frame, [1, 2, 0xfe, 0xff]);
            }
            let mut server = WebSocketContext::new(Role::Server, None);
            let mut line = Cursor::new(outgoing.pending().to_vec());
            for frame in &frames {
                let read = server.read(&mut line).unwrap();
                assert_eq!(read.is_text(), matches!(frame, Frame::Text(_)));
                assert_eq!(&read.into_data()[..], frame.payload());
            }
        }
    }

    #[test]
    fn bytes_leave_in_their_order() {
        let mut outgoing = Outgoing::new();
        outgoing.append(b"abc");
        outgoing.on_written(2);
        outgoing.append(b"de");
        assert_eq!(outgoing.pending(), b"cde");
        outgoing.on_written(3);
        assert_eq!(outgoing.pending(), b"");
        outgoing.append(&vec![b'x'; FULL]);
        assert!(!outgoing.is_full());
        outgoing.append(b"x");
        assert!(outgoing.is_full());
        outgoing.on_written(1);
        assert!(!outgoing.is_full());
    }

    #[test]
    fn a_peer_that_is_always_a_little_behind_makes_nothing_grow() {
        let mut outgoing = Outgoing::new();
        outgoing.append(b"0");
        for at in 1..=100_000_u32 {
            outgoing.append(&[b'0' + (at % 10) as u8; 100]);
            outgoing.on_written(100);
            assert_eq!(outgoing.pending(), [b'0' + (at % 10) as u8]);
        }
        assert!(outgoing.bytes.capacity() <= 4 * FULL);
    }

    #[test]
    fn room_is_kept_for_bursts_as_long_as_they_come() {
        let mut outgoing = Outgoing::new();
        let mut burst = |bytes: usize| {
            outgoing.append(&vec![b'x'; bytes]);
            outgoing.on_written(bytes);
            outgoing.bytes.capacity()
        };
        for _ in 0..6 {
            burst(100_000);
        }
        assert!(burst(100) >= 100_000);
        for _ in 0..1000 {
            burst(100);
        }
        assert!(burst(100) <= 2 * LEAST);
    }
}
