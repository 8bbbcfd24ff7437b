//! Each way in which a server can break RFC 6455, as the bytes that do it.
//!
//! A file of its own because it is a table: the rule, its section, the bytes.
//!
//! Invariants: pure; each stands on its own, whatever was sent before, as long as that was whole messages.

use serde::{Deserialize, Serialize};

/// A frame, or a row of frames, that a server must not send.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum BadFrame {
    /// The first reserved bit, without an extension (section 5.2).
    ReservedBit1,
    /// The second one.
    ReservedBit2,
    /// The third one.
    ReservedBit3,
    /// A reserved bit of a control frame.
    ReservedBitOfControl,
    /// An opcode reserved for data, 0x3 (section 5.2).
    ReservedOpcode,
    /// An opcode reserved for control, 0xB.
    ReservedControlOpcode,
    /// A masked frame, which only a client may send (section 5.1).
    Masked,
    /// A ping in fragments (section 5.5).
    FragmentedPing,
    /// A close frame in fragments.
    FragmentedClose,
    /// A ping of 126 bytes (section 5.5).
    LongPing,
    /// A close frame of 126 bytes.
    LongClose,
    /// A continuation of nothing (section 5.4).
    ContinuationOfNothing,
    /// A new message within a fragmented one (section 5.4).
    MessageWithinFragments,
    /// A text that is not UTF-8 (section 8.1).
    BadUtf8,
    /// A text of two fragments of which the second is not UTF-8.
    BadUtf8InFragment,
    /// A text that ends within a character.
    CutUtf8,
    /// A close frame whose reason is not UTF-8.
    BadUtf8InReason,
    /// A close frame of one byte (section 5.5.1).
    CloseOfOneByte,
    /// A close frame with this code; 1005, 1006, 999 and 5000 may not be sent (section 7.4).
    CloseCode(u16),
    /// A length with its highest bit set (section 5.2).
    LengthHighBit,
    /// A length that no client has room for.
    HugeLength,
    /// A length in two bytes that one would have held (section 5.2).
    LongLength16,
    /// A length in eight bytes that one would have held.
    LongLength64,
}

impl BadFrame {
    /// Every kind of them.
    pub const ALL: [Self; 26] = [
        Self::ReservedBit1,
        Self::ReservedBit2,
        Self::ReservedBit3,
        Self::ReservedBitOfControl,
        Self::ReservedOpcode,
        Self::ReservedControlOpcode,
        Self::Masked,
        Self::FragmentedPing,
        Self::FragmentedClose,
        Self::LongPing,
        Self::LongClose,
        Self::ContinuationOfNothing,
        Self::MessageWithinFragments,
        Self::BadUtf8,
        Self::BadUtf8InFragment,
        Self::CutUtf8,
        Self::BadUtf8InReason,
        Self::CloseOfOneByte,
        Self::CloseCode(999),
        Self::CloseCode(1005),
        Self::CloseCode(1006),
        Self::CloseCode(5000),
        Self::LengthHighBit,
        Self::HugeLength,
        Self::LongLength16,
        Self::LongLength64,
    ];

    /// The bytes.
    #[must_use]
    pub fn bytes(self) -> Vec<u8> {
        match self {
            Self::ReservedBit1 => frame(0xC1, b"odd"),
            Self::ReservedBit2 => frame(0xA1, b"odd"),
            Self::ReservedBit3 => frame(0x91, b"odd"),
            Self::ReservedBitOfControl => frame(0xC9, b"odd"),
            Self::ReservedOpcode => frame(0x83, b"odd"),
            Self::ReservedControlOpcode => frame(0x8B, b"odd"),
            Self::Masked => {
                let mask = [1, 2, 3, 4];
                let masked = b"odd".iter().zip(mask).map(|(byte, mask)| byte ^ mask);
                [0x81, 0x83].into_iter().chain(mask).chain(masked).collect()
            }
            Self::FragmentedPing => [frame(0x09, b"o"), frame(0x80, b"dd")].concat(),
            Self::FragmentedClose => frame(0x08, &1000_u16.to_be_bytes()),
            Self::LongPing => long(0x89, &[b'p'; 126]),
            Self::LongClose => {
                let mut payload = 1000_u16.to_be_bytes().to_vec();
                payload.resize(126, b'r');
                long(0x88, &payload)
            }
            Self::ContinuationOfNothing => frame(0x80, b"odd"),
            Self::MessageWithinFragments => [frame(0x01, b"o"), frame(0x81, b"dd")].concat(),
            Self::BadUtf8 => frame(0x81, &[b'o', 0xFF, 0xFE]),
            Self::BadUtf8InFragment => [frame(0x01, b"o"), frame(0x80, &[0xC0, 0x80])].concat(),
            Self::CutUtf8 => frame(0x81, &[b'o', 0xE2, 0x82]),
            Self::BadUtf8InReason => frame(0x88, &[0x03, 0xE8, 0xFF, 0xFE]),
            Self::CloseOfOneByte => frame(0x88, &[0x03]),
            Self::CloseCode(code) => frame(0x88, &code.to_be_bytes()),
            Self::LengthHighBit => with_length(0x82, 1 << 63),
            Self::HugeLength => with_length(0x82, 1 << 62),
            Self::LongLength16 => long(0x82, b"odd"),
            Self::LongLength64 => {
                let mut bytes = with_length(0x82, 3);
                bytes.extend_from_slice(b"odd");
                bytes
            }
        }
    }

    /// Whether a client may read it all the same: a length in more bytes than needed harms nobody.
    #[must_use]
    pub fn is_tolerable(self) -> bool {
        matches!(self, Self::LongLength16 | Self::LongLength64)
    }
}

/// A frame of less than 126 bytes.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let length = u8::try_from(payload.len()).unwrap_or(125);
    [&[first, length], payload].concat()
}

/// A frame whose length stands in two bytes.
fn long(first: u8, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len()).unwrap_or(u16::MAX);
    [&[first, 126], &length.to_be_bytes()[..], payload].concat()
}

/// The head of a frame whose length stands in eight bytes.
fn with_length(first: u8, length: u64) -> Vec<u8> {
    [&[first, 127], &length.to_be_bytes()[..]].concat()
}
