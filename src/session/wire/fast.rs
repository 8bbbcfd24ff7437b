//! The fast wire: our own framing over a stream, with one buffer each way.
//!
//! A shell around the pure [`Framing`]: it reads, writes and brings the masks.
//!
//! Invariants: whoever polled last is woken, for reading and for writing; a reply that is due goes out with the
//! next poll in either direction; a blocked flush stays pending until the peer has taken everything.

use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};

use super::{Came, Inbound, Wire, mask};
use crate::close::CloseReason;
use crate::frame::Frame;
use crate::protocol::framing::{Framing, FramingError};

/// A WebSocket over `S`, in our own words.
#[derive(Debug)]
pub(crate) struct FastWire<S> {
    stream: S,
    framing: Framing,
    /// Bytes were written and not yet flushed.
    unflushed: bool,
    /// How writing has failed. What has come can still be read.
    broken: Option<CloseReason>,
    read: u64,
    written: u64,
}

impl<S> FastWire<S>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    /// Goes on where the opening handshake ended; `leftover` is what has come behind it.
    pub(crate) fn new(stream: S, leftover: &[u8], max_chunk: usize, max_message: usize) -> Self {
        Self {
            stream,
            framing: Framing::new(leftover, max_chunk, max_message),
            unflushed: false,
            broken: None,
            read: 0,
            written: 0,
        }
    }

    /// Reads what there is; an error says that nothing will follow.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), CloseReason>> {
        let room = self.framing.room();
        let free = room.capacity() - room.len();
        // Holds nothing between two polls: it may be made anew each time.
        let read = pin!(self.stream.read_buf(room));
        match ready!(read.poll(cx)) {
            Ok(0) => Poll::Ready(Err(CloseReason::Eof)),
            Ok(count) => {
                self.read += count as u64;
                self.framing.on_read(count, free);
                Poll::Ready(Ok(()))
            }
            Err(error) => Poll::Ready(Err(self.lost(&error))),
        }
    }

    /// Writes what is pending, the reply that is due included.
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), CloseReason>> {
        if self.broken.is_none()
            && let Err(reason) = ready!(self.poll_drain_whole(cx))
        {
            self.broken = Some(reason);
        }
        Poll::Ready(self.broken.clone().map_or(Ok(()), Err))
    }

    fn poll_drain_whole(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), CloseReason>> {
        if self.framing.has_reply() {
            self.framing.write_reply(mask());
        }
        while !self.framing.pending().is_empty() {
            let pending = self.framing.pending();
            match ready!(Pin::new(&mut self.stream).poll_write(cx, pending)) {
                Ok(0) => {
                    let error = io::Error::from(io::ErrorKind::WriteZero);
                    return Poll::Ready(Err(self.lost(&error)));
                }
                Ok(count) => {
                    self.unflushed = true;
                    self.written += count as u64;
                    self.framing.on_written(count);
                }
                Err(error) => return Poll::Ready(Err(self.lost(&error))),
            }
        }
        if self.unflushed {
            if let Err(error) = ready!(Pin::new(&mut self.stream).poll_flush(cx)) {
                return Poll::Ready(Err(self.lost(&error)));
            }
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    fn lost(&self, error: &io::Error) -> CloseReason {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => CloseReason::Eof,
            // After both have closed, how the stream ends is all the same.
            io::ErrorKind::ConnectionReset if self.framing.is_closed() => CloseReason::Eof,
            kind => CloseReason::Io {
                kind,
                detail: error.to_string(),
            },
        }
    }
}

impl<S> Wire for FastWire<S>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    #[inline]
    fn poll_frame<T: Inbound>(
        &mut self,
        cx: &mut Context<'_>,
        reads: bool,
        inbound: &mut T,
    ) -> Poll<Result<Came<T::Place>, CloseReason>> {
        loop {
            if self.framing.has_reply() {
                // That it cannot be written is told to who writes.
                let _ = self.poll_drain(cx);
            }
            match self.framing.next_frame() {
                Ok(Some(frame)) => {
                    let admitted = match &frame {
                        Frame::Text(text) => inbound.admit(text.as_bytes()),
                        Frame::Binary(bytes) => inbound.admit(bytes),
                        Frame::Ping(_) | Frame::Pong(_) | Frame::Close(_) => {
                            return Poll::Ready(Ok(Came::Control(frame)));
                        }
                    };
                    return Poll::Ready(Ok(admitted.take(frame)));
                }
                Ok(None) if !reads && !self.framing.has_room() => return Poll::Pending,
                Ok(None) => ready!(self.poll_fill(cx))?,
                Err(error) => return Poll::Ready(Err(close_reason(&error))),
            }
        }
    }

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), CloseReason>> {
        if self.framing.is_full() {
            return self.poll_drain(cx);
        }
        Poll::Ready(Ok(()))
    }

    fn start_send(&mut self, frame: Frame) -> Result<(), CloseReason> {
        if self.framing.write(&frame, mask()) {
            return Ok(());
        }
        Err(CloseReason::Protocol {
            detail: "Sending after closing is not allowed".to_owned(),
        })
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), CloseReason>> {
        self.poll_drain(cx)
    }

    fn bytes_read(&self) -> u64 {
        self.read
    }

    fn bytes_written(&self) -> u64 {
        self.written
    }
}

fn close_reason(error: &FramingError) -> CloseReason {
    let detail = error.to_string();
    match error {
        FramingError::TooLong { .. } => CloseReason::TooBig { detail },
        FramingError::NotUtf8 => CloseReason::NotUtf8,
        _ => CloseReason::Protocol { detail },
    }
}
