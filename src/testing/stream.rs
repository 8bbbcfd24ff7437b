//! One accepted byte stream, over TCP or in memory, plain or TLS.
//!
//! A file of its own because all servers and every fault stand on it: a reset, a silence, a cut and a slow
//! line act below TLS and below the frames.
//!
//! Invariant: whatever stands above, the [`Pipe`] can be reached.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use super::memory::MemoryStream;
use super::shape::Shape;

/// What carries the bytes.
#[derive(Debug)]
pub(super) enum Carrier {
    Tcp(TcpStream),
    Memory(MemoryStream),
}

/// A connection below TLS, with what its line does to it.
#[derive(Debug)]
pub(super) struct Pipe {
    carrier: Carrier,
    /// What the client sends.
    pub(super) inbound: Shape,
    /// What the server sends.
    pub(super) outbound: Shape,
}

impl Pipe {
    pub(super) fn new(carrier: Carrier) -> Self {
        Self {
            carrier,
            inbound: Shape::default(),
            outbound: Shape::default(),
        }
    }

    /// Whether either direction has come to its cut.
    pub(super) fn is_cut(&self) -> bool {
        self.inbound.is_cut() || self.outbound.is_cut()
    }

    /// Ends the connection with a reset.
    pub(super) fn reset(self) {
        match &self.carrier {
            // With a linger time of zero the kernel answers the drop with RST. If the option cannot be
            // set, the connection is already gone.
            Carrier::Tcp(tcp) => drop(tcp.set_zero_linger()),
            Carrier::Memory(stream) => stream.reset(),
        }
    }

    /// Reads nothing, writes nothing, and returns when the peer has given the connection up.
    ///
    /// The end is seen in the readiness of the socket, not by reading: bytes the peer sent before stay
    /// where they are, as on a half-open connection.
    pub(super) async fn silence(&self) {
        const LOOK: Duration = Duration::from_millis(20);
        let tcp = match &self.carrier {
            Carrier::Tcp(tcp) => tcp,
            Carrier::Memory(stream) => return stream.peer_gone().await,
        };
        loop {
            match tcp.ready(Interest::READABLE).await {
                Ok(ready) if ready.is_read_closed() => return,
                // Unread bytes keep the socket ready, so the next look must wait.
                Ok(_) => tokio::time::sleep(LOOK).await,
                Err(_) => return,
            }
        }
    }
}

impl AsyncRead for Pipe {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let room = ready!(this.inbound.poll_room(buf.remaining(), cx))?;
        let mut part = ReadBuf::new(buf.initialize_unfilled_to(room));
        ready!(match &mut this.carrier {
            Carrier::Tcp(tcp) => Pin::new(tcp).poll_read(cx, &mut part),
            Carrier::Memory(stream) => Pin::new(stream).poll_read(cx, &mut part),
        })?;
        let read = part.filled().len();
        buf.advance(read);
        this.inbound.passed(read);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let room = ready!(this.outbound.poll_room(buf.len(), cx))?;
        let part = &buf[..room];
        let written = ready!(match &mut this.carrier {
            Carrier::Tcp(tcp) => Pin::new(tcp).poll_write(cx, part),
            Carrier::Memory(stream) => Pin::new(stream).poll_write(cx, part),
        })?;
        this.outbound.passed(written);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().carrier {
            Carrier::Tcp(tcp) => Pin::new(tcp).poll_flush(cx),
            Carrier::Memory(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().carrier {
            Carrier::Tcp(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Carrier::Memory(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

/// A connection as the server holds it.
#[derive(Debug)]
pub(super) enum ServerStream {
    Plain(Pipe),
    Tls(Box<TlsStream<Pipe>>),
}

impl ServerStream {
    pub(super) fn pipe(&self) -> &Pipe {
        match self {
            Self::Plain(pipe) => pipe,
            Self::Tls(tls) => tls.get_ref().0,
        }
    }

    pub(super) fn pipe_mut(&mut self) -> &mut Pipe {
        match self {
            Self::Plain(pipe) => pipe,
            Self::Tls(tls) => tls.get_mut().0,
        }
    }

    /// Ends the connection with a reset.
    pub(super) fn reset(self) {
        match self {
            Self::Plain(pipe) => pipe.reset(),
            Self::Tls(tls) => tls.into_inner().0.reset(),
        }
    }
}

impl AsyncRead for ServerStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(pipe) => Pin::new(pipe).poll_read(cx, buf),
            Self::Tls(tls) => Pin::new(tls).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for ServerStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(pipe) => Pin::new(pipe).poll_write(cx, buf),
            Self::Tls(tls) => Pin::new(tls).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(pipe) => Pin::new(pipe).poll_flush(cx),
            Self::Tls(tls) => Pin::new(tls).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(pipe) => Pin::new(pipe).poll_shutdown(cx),
            Self::Tls(tls) => Pin::new(tls).poll_shutdown(cx),
        }
    }
}
