//! The default wire: tungstenite's own `WebSocket`, driven over a stream's readiness.
//!
//! tokio-tungstenite's `WebSocketStream` serves a reading and a writing task, each with a waker of its own that
//! is registered for every message. A connection of ours has one task, so one waker will do, and it is looked at
//! only when the stream has nothing to give: a third less work for a small message.
//!
//! Invariants: whoever polled last is woken, for reading and for writing; a blocked flush stays pending until the
//! peer has taken everything.

use std::io::{self, Read, Write};
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::tungstenite::error::{CapacityError, ProtocolError};
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message, WebSocket};

use super::Wire;
use crate::close::CloseReason;
use crate::frame::Frame;
use crate::protocol::arrivals::Arrivals;

/// A WebSocket over `S`, spoken by tungstenite.
#[derive(Debug)]
pub(crate) struct TungsteniteWire<S> {
    socket: WebSocket<Bridge<S>>,
    /// Messages that tungstenite has given.
    given: u64,
    /// Something that was handed over did not fit into the stream; nothing more is taken before it has left.
    blocked: bool,
}

impl<S> TungsteniteWire<S>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    /// Goes on where the opening handshake ended; `leftover` is what has come behind it.
    pub(crate) fn new(stream: S, mut leftover: Vec<u8>, limits: WebSocketConfig) -> Self {
        // New room is as large as the first, whenever it has to be made.
        leftover.reserve(limits.read_buffer_size.saturating_sub(leftover.len()));
        let mut bridge = Bridge::new(stream);
        bridge.arrivals.on_read(&leftover);
        let socket = WebSocket::from_partially_read(bridge, leftover, Role::Client, Some(limits));
        Self {
            socket,
            given: 0,
            blocked: false,
        }
    }

    fn flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), CloseReason>> {
        self.socket.get_mut().wake(cx);
        let flushed = ready!(not_yet(self.socket.flush()));
        self.blocked = false;
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
    /// tungstenite makes room before it asks whether there is anything, and neither the room nor what it has read is to
    /// be seen: so the bridge counts both.
    fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
        reads: bool,
    ) -> Poll<Result<Frame, CloseReason>> {
        self.socket.get_mut().wake(cx);
        loop {
            if !reads && !self.socket.get_ref().serves(self.given) {
                return Poll::Pending;
            }
            let read = self.socket.read();
            if read.is_ok() {
                self.given += 1;
                self.socket.get_mut().gave();
            }
            match read {
                Ok(Message::Text(text)) => return Poll::Ready(Ok(Frame::Text(text))),
                Ok(Message::Binary(bytes)) => return Poll::Ready(Ok(Frame::Binary(bytes))),
                Ok(message) => {
                    if let Some(frame) = frame(message) {
                        return Poll::Ready(Ok(frame));
                    }
                }
                Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Poll::Pending;
                }
                Err(error) => return Poll::Ready(Err(close_reason(error))),
            }
        }
    }

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), CloseReason>> {
        if self.blocked {
            return self.flush(cx);
        }
        Poll::Ready(Ok(()))
    }

    fn start_send(&mut self, frame: Frame) -> Result<(), CloseReason> {
        match self.socket.write(message(frame)) {
            Ok(()) => Ok(()),
            Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                // It is in tungstenite's buffer.
                self.blocked = true;
                Ok(())
            }
            Err(error) => Err(close_reason(error)),
        }
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), CloseReason>> {
        self.flush(cx)
    }

    fn bytes_read(&self) -> u64 {
        self.socket.get_ref().read
    }

    fn bytes_written(&self) -> u64 {
        self.socket.get_ref().written
    }
}

/// A stream as tungstenite wants it: it never waits, it says that it would. Counts what passes, since frames
/// alone do not tell a slow peer from a silent one.
#[derive(Debug)]
struct Bridge<S> {
    stream: S,
    waker: Waker,
    arrivals: Arrivals,
    /// What the last read has left of its room.
    room: u64,
    /// Messages before which tungstenite may need new room although they have come.
    tight: u8,
    read: u64,
    written: u64,
}

/// Room that is worth a read.
const ROOM: u64 = 4096;

impl<S> Bridge<S> {
    fn new(stream: S) -> Self {
        Self {
            stream,
            waker: Waker::noop().clone(),
            arrivals: Arrivals::default(),
            room: 0,
            tight: 0,
            read: 0,
            written: 0,
        }
    }

    /// Who is to be woken when the stream is ready again.
    fn wake(&mut self, cx: &Context<'_>) {
        self.waker.clone_from(cx.waker());
    }

    /// Whether more than the messages `given` can be had without new room. With a frame's head tungstenite makes room for
    /// its payload, whether or not that has come already.
    fn serves(&self, given: u64) -> bool {
        let more = given < self.arrivals.whole()
            || self.room >= self.arrivals.present().saturating_add(ROOM);
        more && self.tight == 0
    }

    /// tungstenite has given a message.
    fn gave(&mut self) {
        self.tight = self.tight.saturating_sub(1);
    }
}

impl<S: AsyncRead + Unpin> Read for Bridge<S> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let mut cx = Context::from_waker(&self.waker);
        let mut bytes = ReadBuf::new(bytes);
        match Pin::new(&mut self.stream).poll_read(&mut cx, &mut bytes) {
            Poll::Ready(Ok(())) => {
                self.room = bytes.remaining() as u64;
                let bytes = bytes.filled();
                self.arrivals.on_read(bytes);
                // The first may have had its room before, the next makes it anew.
                self.tight = match self.room < self.arrivals.longest() {
                    true => 2,
                    false => 0,
                };
                self.read += bytes.len() as u64;
                Ok(bytes.len())
            }
            Poll::Ready(Err(error)) => Err(error),
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}

impl<S: AsyncWrite + Unpin> Write for Bridge<S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut cx = Context::from_waker(&self.waker);
        match Pin::new(&mut self.stream).poll_write(&mut cx, bytes) {
            Poll::Ready(written) => {
                let count = written?;
                self.written += count as u64;
                Ok(count)
            }
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        let mut cx = Context::from_waker(&self.waker);
        match Pin::new(&mut self.stream).poll_flush(&mut cx) {
            Poll::Ready(flushed) => flushed,
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
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
        Message::Text(text) => Some(Frame::Text(text)),
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

fn message(frame: Frame) -> Message {
    match frame {
        Frame::Text(text) => Message::Text(text),
        Frame::Binary(bytes) => Message::Binary(bytes),
        Frame::Ping(bytes) => Message::Ping(bytes),
        Frame::Pong(bytes) => Message::Pong(bytes),
        Frame::Close(close) => Message::Close(close.map(|(code, reason)| CloseFrame {
            code: code.into(),
            reason: reason.into(),
        })),
    }
}

fn close_reason(error: Error) -> CloseReason {
    match error {
        Error::ConnectionClosed
        | Error::AlreadyClosed
        | Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => CloseReason::Eof,
        Error::Io(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => CloseReason::Eof,
        Error::Io(error) => CloseReason::Io {
            kind: error.kind(),
            detail: error.to_string(),
        },
        Error::Capacity(error @ CapacityError::MessageTooLong { .. }) => CloseReason::TooBig {
            detail: error.to_string(),
        },
        Error::Utf8(_) => CloseReason::NotUtf8,
        Error::Tls(error) => CloseReason::Io {
            kind: std::io::ErrorKind::Other,
            detail: error.to_string(),
        },
        other => CloseReason::Protocol {
            detail: other.to_string(),
        },
    }
}

#[cfg(test)]
mod tests {
    use futures_util::poll;
    use std::future::poll_fn;
    use tokio::io::AsyncWriteExt;

    use super::*;

    /// A frame of text, as a server writes it.
    fn text(length: u16) -> Vec<u8> {
        let mut frame = vec![0x81, 126];
        frame.extend(length.to_be_bytes());
        frame.resize(frame.len() + usize::from(length), b'x');
        frame
    }

    fn length(frame: &Frame) -> usize {
        frame.payload().len()
    }

    /// Whoever holds messages gets what has come, and is told when more would need new room.
    #[tokio::test]
    async fn with_full_hands_only_that_is_read_for_which_there_is_room() {
        let room = 32 * 1024;
        let (ours, mut theirs) = tokio::io::duplex(1 << 20);
        let limits = WebSocketConfig::default().read_buffer_size(room);
        let mut wire = TungsteniteWire::new(ours, Vec::new(), limits);
        let sent = 200;
        for _ in 0..sent {
            theirs.write_all(&text(1000)).await.unwrap();
        }
        let (mut got, mut stops, mut longest) = (0, 0, 0);
        let mut held = Vec::new();
        while got < sent {
            let reads = held.is_empty();
            match poll!(poll_fn(|cx| wire.poll_frame(cx, reads))) {
                Poll::Ready(frame) => {
                    let frame = frame.unwrap();
                    assert_eq!(length(&frame), 1000);
                    held.push(frame);
                    got += 1;
                }
                Poll::Pending => {
                    assert!(!reads, "everything has been sent");
                    stops += 1;
                    longest = longest.max(held.len());
                    held.clear();
                }
            }
        }
        assert!(stops > 0 && longest >= 16, "{stops} stops, {longest}");
    }

    #[tokio::test]
    async fn with_full_hands_nothing_is_read_where_a_large_message_would_not_fit() {
        let (ours, mut theirs) = tokio::io::duplex(1 << 20);
        let limits = WebSocketConfig::default().read_buffer_size(8192);
        let mut wire = TungsteniteWire::new(ours, Vec::new(), limits);
        theirs.write_all(&text(10)).await.unwrap();
        theirs.write_all(&text(20_000)).await.unwrap();
        let first = poll_fn(|cx| wire.poll_frame(cx, true)).await.unwrap();
        assert_eq!(length(&first), 10);
        assert!(poll!(poll_fn(|cx| wire.poll_frame(cx, false))).is_pending());
        drop(first);
        let second = poll_fn(|cx| wire.poll_frame(cx, true)).await.unwrap();
        assert_eq!(length(&second), 20_000);
    }
}
