//! A frame as the session sees it: RFC 6455's data and control frames, without its fragments.
//!
//! Our own type, so that the WebSocket backend can change beneath it.
//!
//! Invariants: payloads are shared, never copied; `Debug` shows sizes, not payloads.

use std::fmt;

use bytes::Bytes;
pub use tokio_tungstenite::tungstenite::Utf8Bytes;

/// A whole message, or a control frame (RFC 6455, sections 5.5 and 5.6).
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Frame {
    /// Text, checked to be UTF-8.
    Text(Utf8Bytes),
    /// Binary data.
    Binary(Bytes),
    /// A ping; the pong goes out by itself.
    Ping(Bytes),
    /// A pong.
    Pong(Bytes),
    /// A close frame, with its status code and reason if it has them.
    Close(Option<(u16, String)>),
}

impl Frame {
    /// A text frame.
    pub fn text(text: impl Into<Utf8Bytes>) -> Self {
        Self::Text(text.into())
    }

    /// The payload of a text, binary, ping or pong frame; empty for a close frame.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        match self {
            Self::Text(text) => text.as_bytes(),
            Self::Binary(bytes) | Self::Ping(bytes) | Self::Pong(bytes) => bytes,
            Self::Close(_) => &[],
        }
    }

    /// The text of a text frame.
    #[must_use]
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text.as_str()),
            _ => None,
        }
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => write!(f, "Text({} bytes)", text.len()),
            Self::Binary(bytes) => write!(f, "Binary({} bytes)", bytes.len()),
            Self::Ping(bytes) => write!(f, "Ping({} bytes)", bytes.len()),
            Self::Pong(bytes) => write!(f, "Pong({} bytes)", bytes.len()),
            Self::Close(Some((code, _))) => write!(f, "Close({code})"),
            Self::Close(None) => f.write_str("Close"),
        }
    }
}
