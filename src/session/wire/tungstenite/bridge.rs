//! A stream as tungstenite wants it: it never waits, it says that it would.
//!
//! Apart from the wire because it only carries: it fills the intake, gives what was passed on there to be copied, and
//! counts what passes, since frames alone do not tell a slow peer from a silent one. What is written waits here until it is
//! flushed.

use std::io::{self, Read, Write};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker, ready};

use bytes::BufMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};

use crate::protocol::intake::Intake;
use crate::protocol::outgoing::Outgoing;

#[derive(Debug)]
pub(super) struct Bridge<S> {
    stream: S,
    pub(super) intake: Intake,
    waker: Waker,
    /// What waits to be written.
    pub(super) outgoing: Outgoing,
    /// How the stream has ended for whoever reads.
    ended: Option<Ended>,
    /// How it has for whoever writes. To tungstenite, which writes while it reads, it never takes anything from then on: what
    /// has come can still be read.
    pub(super) broken: Option<io::Error>,
    /// Whether the last read filled its room.
    pub(super) filled: bool,
    pub(super) read: u64,
    pub(super) written: u64,
}

#[derive(Debug)]
enum Ended {
    Eof,
    Failed(io::Error),
}

impl<S> Bridge<S> {
    pub(super) fn new(stream: S, intake: Intake) -> Self {
        Self {
            stream,
            intake,
            waker: Waker::noop().clone(),
            outgoing: Outgoing::new(),
            ended: None,
            broken: None,
            filled: true,
            read: 0,
            written: 0,
        }
    }

    #[cfg(test)]
    pub(super) fn stream(&self) -> &S {
        &self.stream
    }

    /// Who is to be woken when the stream takes bytes again.
    pub(super) fn wake(&mut self, cx: &Context<'_>) {
        self.waker.clone_from(cx.waker());
    }

    /// Whether nothing follows what has come.
    pub(super) fn has_ended(&self) -> bool {
        self.ended.is_some()
    }
}

impl<S: AsyncRead + Unpin> Bridge<S> {
    /// Reads what there is, or how the stream ends. How many bytes that were.
    pub(super) fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<usize> {
        let (buffer, room) = self.intake.room();
        let mut limited = buffer.limit(room);
        // Holds nothing between two polls: it may be made anew each time.
        let read = pin!(self.stream.read_buf(&mut limited));
        let count = match ready!(read.poll(cx)) {
            Ok(count) => count,
            Err(error) => {
                self.ended = Some(Ended::Failed(error));
                return Poll::Ready(0);
            }
        };
        self.filled = count == room;
        if count == 0 {
            self.ended = Some(Ended::Eof);
        } else {
            self.read += count as u64;
            self.intake.on_read(count, room);
        }
        Poll::Ready(count)
    }
}

impl<S> Read for Bridge<S> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let count = self.intake.copy(bytes);
        if count > 0 {
            return Ok(count);
        }
        match self.ended.take() {
            None => Err(io::ErrorKind::WouldBlock.into()),
            Some(ended) => {
                self.ended = Some(Ended::Eof);
                match ended {
                    Ended::Eof => Ok(0),
                    Ended::Failed(error) => Err(error),
                }
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> Bridge<S> {
    fn would_block<T>() -> io::Result<T> {
        Err(io::ErrorKind::WouldBlock.into())
    }

    fn break_off<T>(&mut self, error: io::Error) -> io::Result<T> {
        self.broken = Some(error);
        Self::would_block()
    }

    /// Writes all that waits.
    pub(super) fn drain(&mut self) -> io::Result<()> {
        if self.broken.is_some() {
            return Self::would_block();
        }
        let mut cx = Context::from_waker(&self.waker);
        while !self.outgoing.pending().is_empty() {
            match Pin::new(&mut self.stream).poll_write(&mut cx, self.outgoing.pending()) {
                Poll::Ready(Ok(0)) => return self.break_off(io::ErrorKind::WriteZero.into()),
                Poll::Ready(Ok(count)) => {
                    self.written += count as u64;
                    self.outgoing.on_written(count);
                }
                Poll::Ready(Err(error)) => return self.break_off(error),
                Poll::Pending => return Self::would_block(),
            }
        }
        Ok(())
    }
}

impl<S: AsyncWrite + Unpin> Write for Bridge<S> {
    /// Control frames, which are few and short.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.outgoing.append(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.drain()?;
        let mut cx = Context::from_waker(&self.waker);
        match Pin::new(&mut self.stream).poll_flush(&mut cx) {
            Poll::Ready(Ok(())) => Ok(()),
            Poll::Ready(Err(error)) => self.break_off(error),
            Poll::Pending => Self::would_block(),
        }
    }
}
