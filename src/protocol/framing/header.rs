//! A frame's head (RFC 6455, section 5.2), read and written.
//!
//! Invariants: no input panics; a head is read whole or not at all; what is written is final, masked, and as
//! short as its length allows.

use bytes::{BufMut, BytesMut};

use super::FramingError;
use crate::frame::Frame;
use crate::protocol::intake::extent;

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Opcode {
    Continuation,
    Text,
    Binary,
    Close,
    Ping,
    Pong,
}

impl Opcode {
    fn of(bits: u8) -> Result<Self, FramingError> {
        match bits {
            0 => Ok(Self::Continuation),
            1 => Ok(Self::Text),
            2 => Ok(Self::Binary),
            8 => Ok(Self::Close),
            9 => Ok(Self::Ping),
            10 => Ok(Self::Pong),
            reserved => Err(FramingError::InvalidOpcode(reserved)),
        }
    }

    fn is_control(self) -> bool {
        matches!(self, Self::Close | Self::Ping | Self::Pong)
    }

    /// Its name in an error.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Continuation => "CONTINUE",
            Self::Text => "TEXT",
            Self::Binary => "BINARY",
            Self::Close => "CLOSE",
            Self::Ping => "PING",
            Self::Pong => "PONG",
        }
    }
}

/// A frame's head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) fin: bool,
    pub(super) opcode: Opcode,
    /// Bytes of the payload.
    pub(super) length: u64,
    reserved: bool,
    masked: bool,
}

impl Header {
    /// Reads a head and says how many bytes it has; `None` if it is not there yet.
    #[inline]
    pub(super) fn parse(bytes: &[u8]) -> Result<Option<(Self, usize)>, FramingError> {
        let (Some((head, length)), [first, second, ..]) = (extent(bytes), bytes) else {
            return Ok(None);
        };
        let header = Self {
            fin: first & 0x80 != 0,
            opcode: Opcode::of(first & 0x0f)?,
            length,
            reserved: first & 0x70 != 0,
            masked: second & 0x80 != 0,
        };
        Ok(Some((header, head)))
    }

    /// Whether a server may send a frame with this head.
    #[inline]
    pub(super) fn check(self) -> Result<(), FramingError> {
        if self.reserved {
            return Err(FramingError::ReservedBits);
        }
        if self.masked {
            return Err(FramingError::Masked);
        }
        if self.opcode.is_control() {
            if !self.fin {
                return Err(FramingError::FragmentedControl);
            }
            if self.length > 125 {
                return Err(FramingError::ControlTooBig);
            }
        }
        Ok(())
    }
}

/// Appends a client's frame to `out`.
pub(super) fn write(out: &mut BytesMut, frame: &Frame, mask: [u8; 4]) {
    let (opcode, payload) = match frame {
        Frame::Text(text) => (0x1, text.as_bytes()),
        Frame::Binary(bytes) => (0x2, &bytes[..]),
        Frame::Ping(bytes) => (0x9, &bytes[..]),
        Frame::Pong(bytes) => (0xa, &bytes[..]),
        Frame::Close(None) => (0x8, &[][..]),
        Frame::Close(Some((code, reason))) => {
            let mut payload = code.to_be_bytes().to_vec();
            payload.extend_from_slice(reason.as_bytes());
            return put(out, 0x8, &payload, mask);
        }
    };
    put(out, opcode, payload, mask);
}

fn put(out: &mut BytesMut, opcode: u8, payload: &[u8], mask: [u8; 4]) {
    out.reserve(14 + payload.len());
    out.put_u8(0x80 | opcode);
    match payload.len() {
        length @ 0..=125 => out.put_u8(0x80 | length as u8),
        length @ 126..=0xffff => {
            out.put_u8(0x80 | 126);
            out.put_u16(length as u16);
        }
        length => {
            out.put_u8(0x80 | 127);
            out.put_u64(length as u64);
        }
    }
    out.put_slice(&mask);
    let begin = out.len();
    out.put_slice(payload);
    apply(mask, &mut out[begin..]);
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
