//! RFC 6455 framing for a client: bytes in, frames out, and back.
//!
//! The machine of the `fast-wire` backend: it owns its buffers and cuts each payload out of the chunk that was
//! read, by reference count, so that a message costs no allocation and no copy. It reads no socket: whoever owns
//! one puts bytes into [`Framing::room`] and takes [`Framing::pending`] away.
//!
//! It answers as tungstenite, the reference, does: the same bytes give the same frames and the same error, at the
//! same place (a property test holds it to that). A ping is answered with the next bytes that go out, the last
//! ping if several came before; a close is answered once.
//!
//! Invariants: nothing that a peer sends panics; no more is buffered than a message's limit and one chunk; after
//! an error nothing is read; after a close nothing but its answer is written.

mod header;
mod message;

use bytes::{Buf, BytesMut};

use super::chunk::{Chunk, LEAST};
use super::outgoing::Outgoing;
use crate::frame::{Frame, Utf8Bytes};
use header::{Header, Opcode};
use message::Incomplete;

/// How a peer broke the protocol (RFC 6455), or our limits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FramingError {
    /// A message longer than the limit: `max_message` raises it.
    #[error("Message too long: {size} > {limit}")]
    TooLong {
        /// Its bytes, as far as they are known.
        size: u64,
        /// The limit in bytes.
        limit: usize,
    },
    /// An opcode that section 5.2 reserves.
    #[error("Encountered invalid opcode: {0}")]
    InvalidOpcode(u8),
    /// A reserved bit although no extension was agreed on (section 5.2).
    #[error("Reserved bits are non-zero")]
    ReservedBits,
    /// A server masks nothing (section 5.1).
    #[error("Received a masked frame from server")]
    Masked,
    /// A control frame in parts (section 5.4).
    #[error("Fragmented control frame")]
    FragmentedControl,
    /// A control frame of more than 125 bytes (section 5.5).
    #[error("Control frame too big (payload must be 125 bytes or less)")]
    ControlTooBig,
    /// A close of one byte: a code has two (section 5.5.1).
    #[error("Invalid close sequence")]
    InvalidClose,
    /// A part of no message (section 5.4).
    #[error("Continue frame but nothing to continue")]
    UnexpectedContinuation,
    /// A new message before the last one was whole (section 5.4).
    #[error("While waiting for more fragments received: {0}")]
    ExpectedContinuation(&'static str),
    /// Text, or a close's reason, that is not UTF-8 (section 8.1).
    #[error("UTF-8 encoding error")]
    NotUtf8,
    /// Something behind the peer's close (section 5.5.1).
    #[error("Remote sent after having closed")]
    AfterClose,
}

/// Where the closing handshake stands (section 7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    ClosedByUs,
    ClosedByPeer,
    Closed,
}

/// The framing of one connection. See the module's documentation.
#[derive(Debug)]
pub struct Framing {
    inbound: BytesMut,
    /// Bytes that the frame at the front still needs, as far as that is known.
    missing: usize,
    /// Bytes that a read is given room for.
    chunk: Chunk,
    max_message: usize,
    incomplete: Option<Incomplete>,
    state: State,
    failed: bool,
    outgoing: Outgoing,
    /// A pong or a close that is to go out by itself.
    reply: Option<Frame>,
}

impl Framing {
    /// A client's framing, at the end of the opening handshake; `received` came behind it. Reads chunks of
    /// `max_chunk` bytes when there is much to read, and refuses messages of more than `max_message`.
    #[must_use]
    pub fn new(received: &[u8], max_chunk: usize, max_message: usize) -> Self {
        Self {
            inbound: BytesMut::from(received),
            missing: 0,
            chunk: Chunk::new(max_chunk),
            max_message,
            incomplete: None,
            state: State::Open,
            failed: false,
            outgoing: Outgoing::new(),
            reply: None,
        }
    }

    /// The buffer to read into, with room for a chunk, or for what the frame at its front still needs.
    pub fn room(&mut self) -> &mut BytesMut {
        if !self.has_room() {
            self.inbound.reserve(self.chunk.room().max(self.missing));
        } else if self.inbound.is_empty() && self.inbound.capacity() / 4 > self.chunk.room() {
            // There was much to read, and is not any more.
            self.inbound = BytesMut::with_capacity(self.chunk.room());
        }
        &mut self.inbound
    }

    /// Whether the buffer has room that is worth a read as it is.
    #[must_use]
    pub fn has_room(&self) -> bool {
        let least = self.chunk.room().min(LEAST).max(self.missing);
        self.inbound.capacity() - self.inbound.len() >= least
    }

    /// A read has brought so many bytes of those for which there was `room`. One that filled a chunk makes the next one
    /// larger, many that brought little make it smaller.
    pub fn on_read(&mut self, bytes: usize, room: usize) {
        let chunk = self.chunk.room();
        // One that has filled the rest of a chunk tells nothing.
        if bytes < room || bytes >= chunk {
            self.chunk.on_read(bytes, chunk);
        }
    }

    /// The next whole frame; `None` if more bytes are needed.
    ///
    /// # Errors
    ///
    /// [`FramingError`], once; nothing comes after it.
    #[inline]
    pub fn next_frame(&mut self) -> Result<Option<Frame>, FramingError> {
        match self.usual() {
            Some((head, whole)) => match Utf8Bytes::behind(head, self.inbound.split_to(whole)) {
                Some(text) => Ok(Some(Frame::Text(text))),
                None => {
                    self.failed = true;
                    Err(FramingError::NotUtf8)
                }
            },
            None => self.any_frame(),
        }
    }

    /// How long the head of the next frame is, and all of it, if it is what nearly all are: text that is whole, and
    /// stands where it may.
    #[inline]
    fn usual(&self) -> Option<(usize, usize)> {
        let (head, length) = match *self.inbound {
            [0x81, length @ 0..126, ..] => (2, usize::from(length)),
            [0x81, 126, high, low, ..] => (4, usize::from(u16::from_be_bytes([high, low]))),
            _ => return None,
        };
        let whole = head + length;
        let usual = whole <= self.inbound.len()
            && length <= self.max_message
            && self.incomplete.is_none()
            && !self.is_closed()
            && !self.failed;
        usual.then_some((head, whole))
    }

    /// Whatever comes next.
    fn any_frame(&mut self) -> Result<Option<Frame>, FramingError> {
        if self.failed {
            return Ok(None);
        }
        let frame = self.read();
        self.failed = frame.is_err();
        frame
    }

    /// Whether both sides have closed, so that only the end of the stream is to come.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        matches!(self.state, State::ClosedByPeer | State::Closed)
    }

    /// Puts a frame behind what is to be written; `mask` must not be known to the peer before (section 10.3).
    /// After a close nothing is taken. Whether it was.
    pub fn write(&mut self, frame: &Frame, mask: [u8; 4]) -> bool {
        if self.state != State::Open {
            return false;
        }
        if matches!(frame, Frame::Close(_)) {
            self.state = State::ClosedByUs;
        }
        self.outgoing.write(frame, mask);
        true
    }

    /// Whether a pong or a close's answer waits to be written by [`Framing::write_reply`].
    #[must_use]
    pub fn has_reply(&self) -> bool {
        self.reply.is_some()
    }

    /// Puts the reply that is due, if one is, behind what is to be written.
    pub fn write_reply(&mut self, mask: [u8; 4]) {
        if let Some(reply) = self.reply.take() {
            self.outgoing.write(&reply, mask);
        }
    }

    /// What is to be written.
    #[must_use]
    pub fn pending(&self) -> &[u8] {
        self.outgoing.pending()
    }

    /// So many bytes of [`Framing::pending`] have been written.
    pub fn on_written(&mut self, bytes: usize) {
        self.outgoing.on_written(bytes);
    }

    /// Whether so much is to be written that no more should be taken.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.outgoing.is_full()
    }

    fn read(&mut self) -> Result<Option<Frame>, FramingError> {
        loop {
            let Some((header, head)) = Header::parse(&self.inbound)? else {
                self.missing = 0;
                return Ok(None);
            };
            if header.length > self.max_message as u64 {
                return Err(FramingError::TooLong {
                    size: header.length,
                    limit: self.max_message,
                });
            }
            // It fits: the limit does.
            let length = header.length as usize;
            let whole = head + length;
            if self.inbound.len() < whole {
                self.missing = whole - self.inbound.len();
                return Ok(None);
            }
            let bytes = self.inbound.split_to(whole);
            if self.is_closed() {
                return Err(FramingError::AfterClose);
            }
            header.check()?;
            if header.opcode == Opcode::Text && header.fin && self.incomplete.is_none() {
                let text = Utf8Bytes::behind(head, bytes).ok_or(FramingError::NotUtf8)?;
                return Ok(Some(Frame::Text(text)));
            }
            let mut payload = bytes.freeze();
            payload.advance(head);
            let frame = match header.opcode {
                Opcode::Binary if header.fin && self.incomplete.is_none() => {
                    Some(Frame::Binary(payload))
                }
                Opcode::Text | Opcode::Binary | Opcode::Continuation => {
                    self.fragment(header, &payload)?
                }
                Opcode::Ping => {
                    if self.state == State::Open {
                        self.reply_with(Frame::Pong(payload.clone()));
                    }
                    Some(Frame::Ping(payload))
                }
                Opcode::Pong => Some(Frame::Pong(payload)),
                Opcode::Close => self.close(&payload)?,
            };
            if frame.is_some() {
                return Ok(frame);
            }
        }
    }

    /// A part of a message; the message, if it was the last.
    fn fragment(&mut self, header: Header, payload: &[u8]) -> Result<Option<Frame>, FramingError> {
        let incomplete = match (header.opcode, self.incomplete.take()) {
            (Opcode::Continuation, None) => return Err(FramingError::UnexpectedContinuation),
            (Opcode::Continuation, Some(incomplete)) => incomplete,
            (opcode, None) => Incomplete::new(opcode == Opcode::Text),
            (opcode, Some(_)) => {
                return Err(FramingError::ExpectedContinuation(opcode.name()));
            }
        };
        let incomplete = incomplete.extend(payload, self.max_message)?;
        if header.fin {
            return incomplete.complete().map(Some);
        }
        self.incomplete = Some(incomplete);
        Ok(None)
    }

    /// The peer closes, or answers our close.
    fn close(&mut self, payload: &[u8]) -> Result<Option<Frame>, FramingError> {
        let close = match payload {
            [] => None,
            [_] => return Err(FramingError::InvalidClose),
            [high, low, reason @ ..] => {
                let code = u16::from_be_bytes([*high, *low]);
                let reason = std::str::from_utf8(reason).map_err(|_| FramingError::NotUtf8)?;
                Some((code, reason.to_owned()))
            }
        };
        match self.state {
            State::Open => {
                self.state = State::ClosedByPeer;
                // A code that may not stand in a frame is answered as the fault that it is (section 7.4.1).
                let close = close.map(|(code, reason)| match may_be_sent(code) {
                    true => (code, reason),
                    false => (1002, "Protocol violation".to_owned()),
                });
                self.reply_with(Frame::Close(close.clone()));
                Ok(Some(Frame::Close(close)))
            }
            State::ClosedByUs => {
                self.state = State::Closed;
                Ok(Some(Frame::Close(close)))
            }
            State::ClosedByPeer | State::Closed => Ok(None),
        }
    }

    /// A close is not displaced by a pong; a pong is by the next.
    fn reply_with(&mut self, frame: Frame) {
        if !matches!(self.reply, Some(Frame::Close(_))) {
            self.reply = Some(frame);
        }
    }
}

/// Whether a close frame may bear this code (section 7.4). As the reference has it, 1014 may not.
fn may_be_sent(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1013 | 3000..=4999)
}

#[cfg(test)]
mod tests;
