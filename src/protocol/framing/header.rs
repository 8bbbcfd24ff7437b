//! A frame's head (RFC 6455, section 5.2), read.
//!
//! Invariants: no input panics; a head is read whole or not at all.

use super::FramingError;
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
