//! How the present connection was opened: who answered, with what, and how long each phase took.
//!
//! Kept for the user and for telemetry; nothing in the session decides by it.
//!
//! Invariants: header values may hold cookies, so `Debug` shows their names only.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use http::{HeaderMap, HeaderName};

/// The opening of one connection.
#[derive(Clone)]
#[non_exhaustive]
pub struct Handshake {
    /// The address that answered.
    pub peer: SocketAddr,
    /// The headers of the server's `101 Switching Protocols`.
    pub headers: HeaderMap,
    /// How long resolving the host name took.
    pub dns: Duration,
    /// How long the TCP handshake took.
    pub tcp: Duration,
    /// How long the TLS handshake took; zero on `ws`.
    pub tls: Duration,
    /// How long the opening handshake of RFC 6455 took.
    pub upgrade: Duration,
}

impl Handshake {
    /// How long it took in all, from the first question to the name server.
    #[must_use]
    pub fn in_all(&self) -> Duration {
        self.dns + self.tcp + self.tls + self.upgrade
    }
}

impl fmt::Debug for Handshake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handshake")
            .field("peer", &self.peer)
            .field(
                "headers",
                &self
                    .headers
                    .keys()
                    .map(HeaderName::as_str)
                    .collect::<Vec<_>>(),
            )
            .field("dns", &self.dns)
            .field("tcp", &self.tcp)
            .field("tls", &self.tls)
            .field("upgrade", &self.upgrade)
            .finish()
    }
}
