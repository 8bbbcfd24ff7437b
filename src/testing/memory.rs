//! Connections without sockets: pairs of byte streams, and the door through which a session gets one.
//!
//! A file of its own because everything above it, TLS and frames included, is the same as over TCP. With
//! it a test runs under paused time, where the kernel's sockets would stand still.
//!
//! Invariants: a pair is bounded; a reset is told behind what had been written before it, as Linux does; each end
//! knows when the other one is gone without reading.

use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::sync::{mpsc, watch};

use crate::connector::{Connected, Connector};

/// Bytes that one end may write ahead of the other's reading.
const BUFFER: usize = 64 * 1024;

/// The address of every server in memory; nobody ever dials it.
pub(super) const ADDRESS: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), u16::MAX);

/// One end of a connection in memory.
#[derive(Debug)]
pub(super) struct MemoryStream {
    io: DuplexStream,
    reset: Arc<AtomicBool>,
    /// Gone with this end.
    _here: watch::Sender<()>,
    /// Fails when the other end is gone.
    there: watch::Receiver<()>,
}

impl MemoryStream {
    /// Both ends.
    pub(super) fn pair() -> (Self, Self) {
        let (left, right) = tokio::io::duplex(BUFFER);
        let (left_here, right_there) = watch::channel(());
        let (right_here, left_there) = watch::channel(());
        let reset = Arc::new(AtomicBool::new(false));
        let left = Self {
            io: left,
            reset: Arc::clone(&reset),
            _here: left_here,
            there: left_there,
        };
        let right = Self {
            io: right,
            reset,
            _here: right_here,
            there: right_there,
        };
        (left, right)
    }

    /// The other end reads an error once it has read what was written.
    pub(super) fn reset(&self) {
        self.reset.store(true, Ordering::SeqCst);
    }

    /// Returns when the other end is gone.
    pub(super) async fn peer_gone(&self) {
        let mut there = self.there.clone();
        while there.changed().await.is_ok() {}
    }

    fn is_reset(&self) -> bool {
        self.reset.load(Ordering::SeqCst)
    }
}

impl AsyncRead for MemoryStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let read = Pin::new(&mut this.io).poll_read(cx, buf);
        let ended = buf.remaining() > 0 && buf.filled().len() == before;
        if matches!(read, Poll::Ready(Ok(()))) && ended && this.is_reset() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        read
    }
}

impl AsyncWrite for MemoryStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.is_reset() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        Pin::new(&mut this.io).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }
}

/// Brings sessions to a server in memory, whatever host their url names.
#[derive(Debug, Clone)]
pub(super) struct MemoryConnector {
    door: mpsc::Sender<MemoryStream>,
    /// Set while the server refuses.
    shut: Arc<AtomicBool>,
}

/// The server's side of the door.
#[derive(Debug)]
pub(super) struct MemoryDoor {
    arrivals: mpsc::Receiver<MemoryStream>,
    shut: Arc<AtomicBool>,
}

/// The door's two sides.
pub(super) fn door() -> (MemoryConnector, MemoryDoor) {
    const BACKLOG: usize = 1024;
    let (door, arrivals) = mpsc::channel(BACKLOG);
    let shut = Arc::new(AtomicBool::new(false));
    let connector = MemoryConnector {
        door,
        shut: Arc::clone(&shut),
    };
    (connector, MemoryDoor { arrivals, shut })
}

impl MemoryDoor {
    /// The next connection. Pending for ever when no connector is left.
    pub(super) async fn accept(&mut self) -> MemoryStream {
        match self.arrivals.recv().await {
            Some(stream) => stream,
            None => std::future::pending().await,
        }
    }

    /// Refuses from here on, or no longer. Who stands in the line is sent away.
    pub(super) fn shut(&mut self, shut: bool) {
        self.shut.store(shut, Ordering::SeqCst);
        if shut {
            while let Ok(stream) = self.arrivals.try_recv() {
                stream.reset();
            }
        }
    }
}

impl Connector for MemoryConnector {
    fn connect<'a>(
        &'a self,
        _host: &'a str,
        _port: u16,
    ) -> Pin<Box<dyn Future<Output = io::Result<Connected>> + Send + 'a>> {
        Box::pin(async move {
            let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
            if self.shut.load(Ordering::SeqCst) {
                return Err(refused());
            }
            let (here, there) = MemoryStream::pair();
            self.door.send(there).await.map_err(|_| refused())?;
            Ok(Connected::new(here, ADDRESS))
        })
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn a_reset_is_told_behind_what_was_written_before_it() {
        let (mut here, mut there) = MemoryStream::pair();
        there.write_all(b"last words").await.expect("written");
        there.reset();
        drop(there);
        let mut read = Vec::new();
        let error = here.read_to_end(&mut read).await.expect_err("reset");
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        assert_eq!(read, b"last words");
    }

    #[tokio::test]
    async fn an_end_without_a_reset_is_an_end() {
        let (mut here, there) = MemoryStream::pair();
        drop(there);
        assert_eq!(here.read(&mut [0; 8]).await.expect("the end"), 0);
        here.peer_gone().await;
    }

    #[tokio::test]
    async fn a_door_that_is_shut_refuses_and_opens_again() {
        let (connector, mut door) = door();
        door.shut(true);
        let refused = connector.connect("x", 1).await.expect_err("shut");
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        door.shut(false);
        connector.connect("x", 1).await.expect("open");
        door.accept().await;
    }
}
