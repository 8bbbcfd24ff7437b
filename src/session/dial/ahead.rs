//! Reads ahead of TLS, which asks for less than a record at a time, and for 4 KiB where one begins.
//!
//! A file of its own because TLS alone needs it: both wires read without it as much as there is.
//!
//! Invariants: bytes are given in the order in which they came, each once; what had come before the stream ended or failed
//! is given first; what is written reaches the stream inside unchanged.

use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::BufMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

use crate::protocol::chunk::{Chunk, LEAST};

/// What is read ahead at most, in bytes: the payloads of eight records (RFC 8446, section 5.1).
const MOST: usize = 128 * 1024;

/// A stream that is read ahead.
pub(crate) struct Ahead<S> {
    stream: S,
    buffer: Vec<u8>,
    /// Bytes at the front of the buffer that have been given.
    given: usize,
    chunk: Chunk,
}

impl<S> Ahead<S> {
    /// Reads as much as it is asked for until more comes at once, and then up to `max_chunk` bytes, but no more than [`MOST`].
    pub(crate) fn of(stream: S, max_chunk: usize) -> Self {
        Self {
            stream,
            buffer: Vec::new(),
            given: 0,
            chunk: Chunk::new(max_chunk.min(MOST)),
        }
    }

    /// Room for what the next read is to bring.
    fn make_room(&mut self) {
        let room = self.chunk.room();
        self.given = 0;
        self.buffer.clear();
        if self.buffer.capacity() / 4 > room {
            self.buffer = Vec::new();
        }
        self.buffer.reserve_exact(room);
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Ahead<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.given == this.buffer.len() {
            let (room, asked) = (this.chunk.room(), buf.remaining());
            if room <= asked {
                if room <= LEAST {
                    (this.buffer, this.given) = (Vec::new(), 0);
                }
                let before = buf.filled().len();
                ready!(Pin::new(&mut this.stream).poll_read(cx, buf))?;
                this.chunk.on_read(buf.filled().len() - before, asked);
                return Poll::Ready(Ok(()));
            }
            this.make_room();
            let mut limited = (&mut this.buffer).limit(room);
            // Holds nothing between two polls: it may be made anew each time.
            let count = ready!(pin!(this.stream.read_buf(&mut limited)).poll(cx))?;
            this.chunk.on_read(count, room);
        }
        let here = this.buffer.get(this.given..).unwrap_or_default();
        let count = here.len().min(buf.remaining());
        buf.put_slice(&here[..count]);
        this.given += count;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Ahead<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests;
