//! Opens a connection: name to addresses, TCP, TLS, and the opening handshake of RFC 6455.
//!
//! Apart from the Transport, which owns the result, because everything here happens once, in order,
//! and without frames: four phases, each under its own deadline, each with its own error.
//!
//! Invariants: exactly one phase fails and the error names it; an answer other than 101 is returned
//! with its status, headers and body as soon as it is there; bytes behind the 101 are kept; a
//! dropped dial closes its sockets at once. Deliberately absent: retrying, redirections, and
//! logging.

mod ahead;
mod refusal;
mod stream;
mod tcp;
mod upgrade;

pub(crate) use stream::TlsOrPlain;

use ahead::Ahead;

use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;
use tracing::{Instrument, Span};

#[cfg(feature = "fast-wire")]
use super::wire::FastWire;
use super::wire::{TungsteniteWire, Wire};
use crate::config::Config;
use crate::config::endpoint::Endpoint;
use crate::connector::{Connected, Connector};
use crate::error::{ConnectError, Phase};
use crate::frame::Frame;
use crate::telemetry::spans::{self, Stage};

/// A connection on which the opening handshake has succeeded.
pub(crate) struct Dialed {
    /// The socket, from here on a WebSocket's.
    pub(crate) stream: TlsOrPlain,
    /// What the server sent right behind its 101: the beginning of its first frames.
    pub(crate) leftover: Vec<u8>,
    /// The headers of the 101.
    pub(crate) response_headers: HeaderMap,
    /// How long each phase took.
    pub(crate) timings: PhaseTimings,
    /// The address that answered.
    pub(crate) peer: SocketAddr,
}

impl fmt::Debug for Dialed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The headers may hold cookies.
        f.debug_struct("Dialed")
            .field("peer", &self.peer)
            .field("timings", &self.timings)
            .finish_non_exhaustive()
    }
}

/// How long each phase of opening took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct PhaseTimings {
    /// Resolving the host name.
    pub(crate) dns: Duration,
    /// From the first address to the first established connection.
    pub(crate) tcp: Duration,
    /// The TLS handshake; zero for `ws`.
    pub(crate) tls: Duration,
    /// The opening handshake.
    pub(crate) upgrade: Duration,
}

/// Opens a connection to `endpoint`, one of the configuration's, within `config.limits`.
///
/// # Errors
///
/// [`ConnectError`] of the phase that failed.
pub(crate) async fn dial(config: &Config, endpoint: &Endpoint) -> Result<Dialed, ConnectError> {
    let limits = &config.limits;
    let mut timings = PhaseTimings::default();

    let (stream, peer) = match &config.connector {
        Some(connector) => {
            let start = Instant::now();
            let opened = other(&**connector, endpoint);
            let opened = within(Phase::Tcp, limits.tcp, opened);
            let Connected { stream, peer } = traced(Stage::Tcp, opened).await?;
            timings.tcp = start.elapsed();
            (TlsOrPlain::Other(stream), peer)
        }
        None => {
            let start = Instant::now();
            let resolved = within(Phase::Dns, limits.dns, tcp::resolve(endpoint));
            let addresses = traced(Stage::Dns, resolved).await?;
            timings.dns = start.elapsed();

            let start = Instant::now();
            let connected = within(Phase::Tcp, limits.tcp, tcp::connect(addresses));
            let (tcp, peer) = traced(Stage::Tcp, connected).await?;
            timings.tcp = start.elapsed();
            (TlsOrPlain::Plain(tcp), peer)
        }
    };

    let start = Instant::now();
    let mut stream = if endpoint.is_tls() {
        let secured = within(Phase::Tls, limits.tls, secure(stream, config, endpoint));
        let stream = traced(Stage::Tls, secured).await?;
        timings.tls = start.elapsed();
        stream
    } else {
        stream
    };

    let start = Instant::now();
    let upgraded = upgrade::upgrade(&mut stream, endpoint, &config.headers, limits.upgrade);
    let accepted = traced(Stage::Upgrade, upgraded).await?;
    timings.upgrade = start.elapsed();

    Ok(Dialed {
        stream,
        leftover: accepted.leftover,
        response_headers: accepted.headers,
        timings,
        peer,
    })
}

/// Hands the connection over to tungstenite, with the sizes that `config` gives.
pub(crate) fn web_socket(dialed: Dialed, config: &Config) -> TungsteniteWire<TlsOrPlain> {
    let Dialed {
        stream, leftover, ..
    } = dialed;
    TungsteniteWire::new(stream, leftover, config.read_buffer, config.max_message)
}

/// The same on our own framing.
#[cfg(feature = "fast-wire")]
pub(crate) fn fast(dialed: Dialed, config: &Config) -> FastWire<TlsOrPlain> {
    let Dialed {
        stream, leftover, ..
    } = dialed;
    FastWire::new(stream, &leftover, config.read_buffer, config.max_message)
}

/// Closes a connection that was opened only to see whether that goes: with a closing handshake (RFC 6455, section
/// 7.1.2), if the peer takes part in it within a second.
pub(crate) async fn let_go(dialed: Dialed, config: &Config) {
    let mut wire = web_socket(dialed, config);
    if wire
        .start_send(Frame::Close(Some((1000, String::new()))))
        .is_err()
    {
        return;
    }
    let closed = async {
        let flushed = poll_fn(|cx| wire.poll_flush(cx)).await;
        while flushed.is_ok()
            && poll_fn(|cx| wire.poll_frame(cx, true, &mut ()))
                .await
                .is_ok()
        {}
    };
    // A peer that does not answer is not waited for.
    let _ = timeout(GOODBYE, closed).await;
}

/// How long the closing handshake of a connection that nobody uses may take.
const GOODBYE: Duration = Duration::from_secs(1);

/// Does `work`, which is a phase of opening, within its limit.
pub(super) async fn within<T>(
    phase: Phase,
    limit: Duration,
    work: impl Future<Output = Result<T, ConnectError>>,
) -> Result<T, ConnectError> {
    match timeout(limit, work).await {
        Ok(result) => result,
        Err(_) => Err(ConnectError::Timeout { phase, limit }),
    }
}

/// Does `work` in a span of its own, within the attempt's.
async fn traced<T>(
    stage: Stage,
    work: impl Future<Output = Result<T, ConnectError>>,
) -> Result<T, ConnectError> {
    let span = spans::stage(Span::current().id(), stage);
    let result = work.instrument(span.clone()).await;
    if let Err(error) = &result {
        spans::failed(&span, error.explain().code);
    }
    result
}

/// A stream of the user's own making.
async fn other(connector: &dyn Connector, endpoint: &Endpoint) -> Result<Connected, ConnectError> {
    let (host, port) = (endpoint.host(), endpoint.port());
    connector
        .connect(host, port)
        .await
        .map_err(|error| ConnectError::Tcp {
            address: format!("{host}:{port}"),
            source: Arc::new(error),
        })
}

async fn secure(
    stream: TlsOrPlain,
    config: &Config,
    endpoint: &Endpoint,
) -> Result<TlsOrPlain, ConnectError> {
    let tls = config
        .tls
        .client_config()
        .map_err(|error| ConnectError::Config {
            source: error.into(),
        })?;
    let Some(name) = endpoint.server_name() else {
        return Ok(stream);
    };
    let (tls, name) = (TlsConnector::from(tls), name.clone());
    let secured = match stream {
        TlsOrPlain::Plain(tcp) => {
            let stream = tls.connect(name, Ahead::of(tcp, config.read_buffer)).await;
            stream.map(|stream| TlsOrPlain::Tls(Box::new(stream)))
        }
        TlsOrPlain::Other(other) => {
            let stream = tls
                .connect(name, Ahead::of(other, config.read_buffer))
                .await;
            stream.map(|stream| TlsOrPlain::TlsOther(Box::new(stream)))
        }
        // Once is enough.
        secured @ (TlsOrPlain::Tls(_) | TlsOrPlain::TlsOther(_)) => Ok(secured),
    };
    secured.map_err(|error| tls_error(endpoint, error))
}

/// Tells a certificate, which only a person can mend, from everything else.
fn tls_error(endpoint: &Endpoint, error: io::Error) -> ConnectError {
    let host = endpoint.host().to_owned();
    let cause = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match cause {
        Some(cause @ rustls::Error::InvalidCertificate(_)) => ConnectError::Certificate {
            host,
            source: Arc::new(cause.clone()),
        },
        _ => ConnectError::Tls {
            host,
            source: Arc::new(error),
        },
    }
}

#[cfg(test)]
mod tests;
