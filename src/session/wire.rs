//! The wire as a small trait: frames in, frames out. tokio-tungstenite is the default behind it.
//!
//! Everything above speaks of frames and close reasons only, so that an in-memory pair, a simulated
//! network or another framing crate can stand here.
//!
//! Invariants: an end is reported once, as a [`CloseReason`]; a ping's pong is the backend's business
//! and goes out even when nobody above is writing.

use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::{Sink, Stream};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::{CapacityError, ProtocolError};
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::{Error, Message};

use super::dial::Metered;
use crate::close::CloseReason;
use crate::frame::Frame;

/// One WebSocket connection, driven by polling.
pub(crate) trait Wire: Send + Unpin {
    /// The next frame, or why there will be none.
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Result<Frame, CloseReason>>;

    /// Whether [`Wire::start_send`] may be called.
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), CloseReason>>;

    /// Hands a frame over. From here on its fate is unknown until it is answered.
    fn start_send(&mut self, frame: Frame) -> Result<(), CloseReason>;

    /// Writes what was handed over to the socket.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), CloseReason>>;

    /// Bytes that have come from the peer so far, whole frames or not.
    fn bytes_read(&self) -> u64;

    /// Bytes that the peer has taken so far.
    fn bytes_written(&self) -> u64;
}

impl<S> Wire for WebSocketStream<Metered<S>>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Result<Frame, CloseReason>> {
        loop {
            return match Pin::new(&mut *self).poll_next(cx) {
                Poll::Pending => Poll::Pending,
                Poll::Ready(None) => Poll::Ready(Err(CloseReason::Eof)),
                Poll::Ready(Some(Err(error))) => Poll::Ready(Err(close_reason(error))),
                Poll::Ready(Some(Ok(message))) => match frame(message) {
                    Some(frame) => Poll::Ready(Ok(frame)),
                    None => continue,
                },
            };
        }
    }

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), CloseReason>> {
        Sink::poll_ready(Pin::new(self), cx).map_err(close_reason)
    }

    fn start_send(&mut self, frame: Frame) -> Result<(), CloseReason> {
        Sink::start_send(Pin::new(self), message(frame)).map_err(close_reason)
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), CloseReason>> {
        Sink::poll_flush(Pin::new(self), cx).map_err(close_reason)
    }

    fn bytes_read(&self) -> u64 {
        self.get_ref().bytes_read()
    }

    fn bytes_written(&self) -> u64 {
        self.get_ref().bytes_written()
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
        Error::Tls(error) => CloseReason::Io {
            kind: std::io::ErrorKind::Other,
            detail: error.to_string(),
        },
        other => CloseReason::Protocol {
            detail: other.to_string(),
        },
    }
}
