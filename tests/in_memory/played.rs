//! A byte stream whose peer is played from the end of the opening handshake on.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use mainstay::connector::{ByteStream, Connected, Connector};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What another connector opens, with this peer behind the handshake.
#[derive(Debug)]
pub(crate) struct Played(pub(crate) Arc<dyn Connector>, pub(crate) Peer);

/// Whoever is at the other end.
#[derive(Debug, Clone)]
pub(crate) enum Peer {
    /// Has these bytes to say again at once, whenever somebody has taken them.
    Chatty(Vec<u8>),
    /// Takes nothing; who tries to write finds that it had said this before it went.
    Gone(Vec<u8>),
}

struct Stage {
    stream: Box<dyn ByteStream>,
    peer: Peer,
    upgraded: bool,
    /// Whether somebody has tried to write since.
    tried: bool,
    /// What is said at the moment.
    words: io::Cursor<Vec<u8>>,
}

impl Connector for Played {
    fn connect<'a>(
        &'a self,
        host: &'a str,
        port: u16,
    ) -> Pin<Box<dyn Future<Output = io::Result<Connected>> + Send + 'a>> {
        Box::pin(async move {
            let Connected { stream, peer, .. } = self.0.connect(host, port).await?;
            let words = match &self.1 {
                Peer::Chatty(_) => Vec::new(),
                Peer::Gone(words) => words.clone(),
            };
            let stage = Stage {
                stream,
                peer: self.1.clone(),
                upgraded: false,
                tried: false,
                words: io::Cursor::new(words),
            };
            Ok(Connected::new(stage, peer))
        })
    }
}

impl AsyncRead for Stage {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let stage = &mut *self;
        match &stage.peer {
            Peer::Chatty(message) if stage.upgraded => {
                if stage.words.position() == stage.words.get_ref().len() as u64 {
                    stage.words = io::Cursor::new(message.clone());
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Pin::new(&mut stage.words).poll_read(cx, buffer)
            }
            Peer::Gone(_) if stage.tried => Pin::new(&mut stage.words).poll_read(cx, buffer),
            Peer::Chatty(_) | Peer::Gone(_) => {
                let read = Pin::new(&mut stage.stream).poll_read(cx, buffer);
                stage.upgraded |= buffer.filled().ends_with(b"\r\n\r\n");
                read
            }
        }
    }
}

impl AsyncWrite for Stage {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.upgraded && matches!(self.peer, Peer::Gone(_)) {
            self.tried = true;
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
