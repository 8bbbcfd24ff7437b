//! The default wire: tungstenite's own `WebSocketContext`, driven over a stream's readiness.
//!
//! tokio-tungstenite's `WebSocketStream` serves a reading and a writing task, each with a waker of its own that
//! is registered for every message. A connection of ours has one task, so one waker will do, and it is looked at
//! only when the stream has nothing to give: a third less work for a small message. What is read stands in an
//! [`Intake`]; many messages at once are handed over in the buffer that they came in, by a new context that goes on
//! where the last one stood. Data frames are written by [`Outgoing`](crate::protocol::outgoing::Outgoing); tungstenite, which
//! knows whether anything may still be sent, writes control frames.
//!
//! Invariants: whoever polled last is woken, for reading and for writing; a blocked flush stays pending until the
//! peer has taken everything; a context is replaced only when it holds nothing: no part of a frame or of a message,
//! nothing unwritten, no close.

mod bridge;

use std::io;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::tungstenite::error::{CapacityError, ProtocolError};
use tokio_tungstenite::tungstenite::protocol::frame::Frame as ReadyMade;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
use tokio_tungstenite::tungstenite::protocol::{
    CloseFrame, Role, WebSocketConfig, WebSocketContext,
};
use tokio_tungstenite::tungstenite::{Error, Message};

use super::{Came, Inbound, Wire, mask};
use crate::close::CloseReason;
use crate::frame::{Frame, Utf8Bytes};
use crate::protocol::intake::Intake;
use bridge::Bridge;

/// Bytes that tungstenite, which zeroes its room before, takes at once of what is copied: most answers have fewer.
const COPIED: usize = 1024;
/// Bytes after which no more is read for hands that are full.
const AT_ONCE: usize = 128 * 1024;

/// A WebSocket over `S`, spoken by tungstenite.
#[derive(Debug)]
pub(crate) struct TungsteniteWire<S> {
    bridge: Bridge<S>,
    context: WebSocketContext,
    limits: WebSocketConfig,
    /// Bytes that the context was handed over and still holds. Set with each such context, cleared by [`Self::let_go`].
    handed: usize,
    /// Messages that tungstenite has given.
    given: u64,
    /// Bytes read since whoever reads had empty hands.
    turn: usize,
    /// Something was passed on that makes no whole message, and has not been looked at.
    parts: bool,
    /// Something was handed over, or is due by itself, and has not been flushed since.
    unflushed: bool,
    /// A reply is due by itself; it goes out with the next poll in either direction.
    due: bool,
    /// Something that was handed over did not fit into the stream; nothing more is taken before it has left.
    blocked: bool,
}

impl<S> TungsteniteWire<S>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    /// Goes on where the opening handshake ended; `leftover` is what has come behind it. Reads `max_chunk` bytes at once
    /// when there is much to read, and refuses messages of more than `max_message`.
    pub(crate) fn new(stream: S, leftover: Vec<u8>, max_chunk: usize, max_message: usize) -> Self {
        let limits = WebSocketConfig::default()
            .read_buffer_size(COPIED)
            // The bridge gathers what is written.
            .write_buffer_size(0)
            .max_message_size(Some(max_message))
            .max_frame_size(Some(max_message));
        let intake = Intake::new(leftover, max_chunk, max_message);
        let mut wire = Self {
            bridge: Bridge::new(stream, intake),
            context: WebSocketContext::new(Role::Client, Some(limits)),
            limits,
            handed: 0,
            given: 0,
            turn: 0,
            parts: false,
            unflushed: false,
            due: false,
            blocked: false,
        };
        wire.pass_on();
        wire
    }

    /// Whether tungstenite may have something to give before more is read.
    fn may_give(&self) -> bool {
        self.given < self.bridge.intake.messages() || self.parts || self.bridge.has_ended()
    }

    /// Passes on what has come.
    fn pass_on(&mut self) {
        let may = !self.unflushed && self.context.can_write();
        let part = self.bridge.intake.pass(may);
        self.parts = self.bridge.intake.has_parts();
        if let Some(part) = part {
            self.handed = part.len();
            self.context =
                WebSocketContext::from_partially_read(part, Role::Client, Some(self.limits));
        }
    }

    /// Lets go of what was handed over and has been read, if it is much, so that the next read finds room where the last one
    /// did: in the cache, unless somebody holds messages of it.
    fn let_go(&mut self) {
        let empty = self.bridge.intake.is_between() && !self.may_give();
        if self.handed >= AT_ONCE && empty && !self.unflushed && self.context.can_write() {
            self.handed = 0;
            self.context = WebSocketContext::new(Role::Client, Some(self.limits));
        }
    }

    fn flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), CloseReason>> {
        self.bridge.wake(cx);
        let flushed = not_yet(self.context.flush(&mut self.bridge));
        if let Some(error) = &self.bridge.broken {
            return Poll::Ready(Err(lost(error)));
        }
        let flushed = ready!(flushed);
        (self.blocked, self.unflushed, self.due) = (false, false, false);
        Poll::Ready(match flushed {
            // Everything has left, and nothing else is to come.
            Ok(()) | Err(Error::ConnectionClosed) => Ok(()),
            Err(error) => Err(close_reason(error)),
        })
    }
}

impl<S> Wire for TungsteniteWire<S>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    #[inline(always)]
    fn poll_frame<T: Inbound>(
        &mut self,
        cx: &mut Context<'_>,
        reads: bool,
        inbound: &mut T,
    ) -> Poll<Result<Came<T::Place>, CloseReason>> {
        if reads {
            // For a reply that goes out by itself.
            self.bridge.wake(cx);
            self.turn = 0;
        }
        loop {
            if self.may_give() {
                match self.context.read(&mut self.bridge) {
                    Ok(Message::Text(text)) => {
                        self.given += 1;
                        let admitted = inbound.admit(text.as_bytes());
                        return Poll::Ready(Ok(admitted.take(Frame::Text(Utf8Bytes::typed(text)))));
                    }
                    Ok(Message::Binary(bytes)) => {
                        self.given += 1;
                        let admitted = inbound.admit(&bytes);
                        return Poll::Ready(Ok(admitted.take(Frame::Binary(bytes))));
                    }
                    Ok(message) => {
                        self.given += 1;
                        // An answer is due, but to a pong.
                        self.due |= !matches!(message, Message::Pong(_));
                        self.unflushed |= self.due;
                        if let Some(frame) = frame(message) {
                            return Poll::Ready(Ok(Came::Control(frame)));
                        }
                    }
                    Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                        self.parts = false;
                    }
                    Err(error) => return Poll::Ready(Err(close_reason(error))),
                }
            }
            // That it cannot be written is told to who writes.
            if self.due
                && self.bridge.broken.is_none()
                && let Poll::Ready(Err(reason)) = self.flush(cx)
                && self.bridge.broken.is_none()
            {
                return Poll::Ready(Err(reason));
            }
            // A stream that gives less than it has room for may have more to give, as one of a user's own may; a socket
            // says at once that it has not, and so does TLS.
            if !reads && (self.bridge.filled || self.turn >= AT_ONCE) {
                return Poll::Pending;
            }
            self.let_go();
            self.turn += ready!(self.bridge.poll_fill(cx));
            self.pass_on();
        }
    }

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), CloseReason>> {
        if self.blocked {
            return self.flush(cx);
        }
        Poll::Ready(Ok(()))
    }

    #[inline(always)]
    fn start_send(&mut self, frame: Frame) -> Result<(), CloseReason> {
        self.unflushed = true;
        if matches!(frame, Frame::Text(_) | Frame::Binary(_)) && self.context.can_write() {
            self.bridge.outgoing.write(&frame, mask());
            // How writing fails is told to who flushes.
            self.blocked = self.bridge.outgoing.is_full() && self.bridge.drain().is_err();
            return Ok(());
        }
        match self.context.write(&mut self.bridge, message(frame)) {
            Ok(()) => Ok(()),
            // Behind a close it has nothing to write but that, which is flushed as it is.
            Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(close_reason(error)),
        }
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), CloseReason>> {
        self.flush(cx)
    }

    fn bytes_read(&self) -> u64 {
        self.bridge.read
    }

    fn bytes_written(&self) -> u64 {
        self.bridge.written
    }
}

/// What would have to wait is pending.
fn not_yet<T>(result: Result<T, Error>) -> Poll<Result<T, Error>> {
    match result {
        Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
        result => Poll::Ready(result),
    }
}

fn frame(message: Message) -> Option<Frame> {
    match message {
        Message::Text(text) => Some(Frame::Text(Utf8Bytes::typed(text))),
        Message::Binary(bytes) => Some(Frame::Binary(bytes)),
        Message::Ping(bytes) => Some(Frame::Ping(bytes)),
        Message::Pong(bytes) => Some(Frame::Pong(bytes)),
        Message::Close(close) => {
            Some(Frame::Close(close.map(|close| {
                (close.code.into(), close.reason.as_str().to_owned())
            })))
        }
        // Never read, only written.
        Message::Frame(_) => None,
    }
}

#[inline(always)]
fn message(frame: Frame) -> Message {
    match frame {
        Frame::Text(text) => match text.into_typed() {
            Ok(text) => Message::Text(text),
            // tungstenite looks at what is to be text, and at no frame that is ready made.
            Err(bytes) => Message::Frame(ReadyMade::message(bytes, OpCode::Data(Data::Text), true)),
        },
        Frame::Binary(bytes) => Message::Binary(bytes),
        Frame::Ping(bytes) => Message::Ping(bytes),
        Frame::Pong(bytes) => Message::Pong(bytes),
        Frame::Close(close) => Message::Close(close.map(|(code, reason)| CloseFrame {
            code: code.into(),
            reason: reason.into(),
        })),
    }
}

fn lost(error: &io::Error) -> CloseReason {
    CloseReason::Io {
        kind: error.kind(),
        detail: error.to_string(),
    }
}

fn close_reason(error: Error) -> CloseReason {
    match error {
        Error::ConnectionClosed
        | Error::AlreadyClosed
        | Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => CloseReason::Eof,
        Error::Io(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => CloseReason::Eof,
        Error::Io(error) => lost(&error),
        Error::Capacity(error @ CapacityError::MessageTooLong { .. }) => CloseReason::TooBig {
            detail: error.to_string(),
        },
        Error::Utf8(_) => CloseReason::NotUtf8,
        Error::Tls(error) => CloseReason::Io {
            kind: std::io::ErrorKind::Other,
            detail: error.to_string(),
        },
        Error::Protocol(error) => CloseReason::Protocol {
            detail: error.to_string(),
        },
        other => CloseReason::Protocol {
            detail: other.to_string(),
        },
    }
}

#[cfg(test)]
mod tests;
