//! A frame as the session sees it: RFC 6455's data and control frames, without its fragments.
//!
//! Our own type, so that the WebSocket backend can change beneath it.
//!
//! Invariants: payloads are shared, never copied; `Debug` shows sizes, not payloads.

mod text;

use std::fmt;

use bytes::Bytes;
pub use text::Utf8Bytes;

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
    /// What stands in a slot before a frame does; there is nothing in it that would have to be dropped.
    pub(crate) const EMPTY: Self = Self::Binary(Bytes::new());

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

    /// Whether RFC 6455 allows it to be sent: control payloads of at most 125 bytes (section 5.5), close
    /// codes that may appear in a frame (section 7.4).
    pub(crate) fn check(&self) -> Result<(), String> {
        match self {
            Self::Text(_) | Self::Binary(_) | Self::Close(None) => Ok(()),
            Self::Ping(bytes) | Self::Pong(bytes) if bytes.len() <= 125 => Ok(()),
            Self::Ping(bytes) | Self::Pong(bytes) => Err(format!(
                "a control frame of {} bytes: use at most 125",
                bytes.len()
            )),
            Self::Close(Some((_, reason))) if reason.len() > 123 => Err(format!(
                "a close reason of {} bytes: use at most 123",
                reason.len()
            )),
            Self::Close(Some((1000..=1003 | 1007..=1014 | 3000..=4999, _))) => Ok(()),
            Self::Close(Some((code, _))) => Err(format!(
                "close code {code}: use 1000 to 1003, 1007 to 1014 or 3000 to 4999"
            )),
        }
    }

    /// Copies the payload, so that nothing else is held with it.
    ///
    /// A frame that was received is a part of what was read with it, up to `read_buffer` (512 KiB by default), which is
    /// free only when nobody holds any of it. Whoever keeps a small one for long does well to detach it first. A program that
    /// decodes its messages to types of its own holds nothing.
    pub fn detach(&mut self) {
        match self {
            Self::Text(text) => *text = text.detached(),
            Self::Binary(bytes) | Self::Ping(bytes) | Self::Pong(bytes) => {
                *bytes = Bytes::copy_from_slice(bytes);
            }
            Self::Close(_) => {}
        }
    }

    /// The text of a text frame. What [`Utf8Bytes`] says of its cost holds here, too; [`Frame::payload`] is free.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_control_frames_that_the_rfc_allows_may_be_sent() {
        assert!(Frame::Ping(Bytes::from(vec![0; 125])).check().is_ok());
        assert!(Frame::Ping(Bytes::from(vec![0; 126])).check().is_err());
        let registered = (1000..=1003).chain(1007..=1014);
        for code in registered.chain([3000, 4999]) {
            assert!(
                Frame::Close(Some((code, String::new()))).check().is_ok(),
                "{code}"
            );
        }
        for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000] {
            assert!(
                Frame::Close(Some((code, String::new()))).check().is_err(),
                "{code}"
            );
        }
        assert!(Frame::Close(Some((1000, "x".repeat(124)))).check().is_err());
    }

    #[test]
    fn a_detached_frame_is_the_same_and_holds_nothing_else() {
        let whole = Bytes::from(b"one two".to_vec());
        let part = || whole.slice(4..);
        let text = Frame::Text(Utf8Bytes::try_from(part()).expect("text"));
        let frames = [
            text,
            Frame::Binary(part()),
            Frame::Ping(part()),
            Frame::Pong(part()),
        ];
        let mut detached = frames.clone();
        detached.iter_mut().for_each(Frame::detach);
        assert_eq!(detached, frames);
        drop(frames);
        assert!(whole.is_unique());
    }

    #[test]
    fn a_frame_is_a_tag_and_its_bytes() {
        let words = |size: usize| size / size_of::<usize>();
        assert_eq!(words(size_of::<Frame>()), words(size_of::<Bytes>()) + 1);
        assert_eq!(size_of::<Option<Frame>>(), size_of::<Frame>());
    }

    #[test]
    fn a_debug_text_shows_no_payload() {
        assert_eq!(format!("{:?}", Frame::text("secret")), "Text(6 bytes)");
    }
}
