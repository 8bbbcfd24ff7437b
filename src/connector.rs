//! Where a session's byte stream comes from, if not from TCP.
//!
//! On the lowest floor because the configuration holds one, the dial calls it and a test kit makes one; it
//! knows none of them. TLS, the opening handshake and the frames stand on whatever it returns.
//!
//! Invariants: one call is one attempt; the dial sets the deadline, and drops the future when it has passed.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;

use tokio::io::{AsyncRead, AsyncWrite};

/// A stream of bytes in both directions; implemented for all that can be one.
pub trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin + 'static> ByteStream for S {}

/// An open byte stream.
pub struct Connected {
    /// The stream. Dropping it closes it.
    pub stream: Box<dyn ByteStream>,
    /// Who answered, for [`Handshake`](crate::Handshake); any address where there is none.
    pub peer: SocketAddr,
}

impl Connected {
    /// The stream to `peer`.
    pub fn new(stream: impl ByteStream, peer: SocketAddr) -> Self {
        Self {
            stream: Box::new(stream),
            peer,
        }
    }
}

impl fmt::Debug for Connected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connected")
            .field("peer", &self.peer)
            .finish_non_exhaustive()
    }
}

/// Opens byte streams in place of name resolution and TCP: an in-memory pair, a proxy, a simulated network.
///
/// Give it to [`ConfigBuilder::connector`](crate::config::ConfigBuilder::connector). It is called once for
/// each attempt, within [`PhaseLimits::tcp`](crate::config::PhaseLimits::tcp).
///
/// ```
/// use std::{future::Future, io, net::Ipv4Addr, pin::Pin};
/// use mainstay::connector::{Connected, Connector};
/// use tokio::net::TcpStream;
///
/// /// Everything goes to one address, whatever the url says.
/// #[derive(Debug)]
/// struct Staging;
///
/// impl Connector for Staging {
///     fn connect<'a>(
///         &'a self,
///         _host: &'a str,
///         port: u16,
///     ) -> Pin<Box<dyn Future<Output = io::Result<Connected>> + Send + 'a>> {
///         Box::pin(async move {
///             let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
///             let peer = stream.peer_addr()?;
///             Ok(Connected::new(stream, peer))
///         })
///     }
/// }
/// ```
pub trait Connector: fmt::Debug + Send + Sync {
    /// Opens a stream to `host`, a name or an address without brackets.
    ///
    /// # Errors
    ///
    /// Whatever kept it; the attempt ends as [`ConnectError::Tcp`](crate::error::ConnectError::Tcp) with it.
    fn connect<'a>(
        &'a self,
        host: &'a str,
        port: u16,
    ) -> Pin<Box<dyn Future<Output = io::Result<Connected>> + Send + 'a>>;
}
