//! How a server answers a client's wish to open a WebSocket: rightly, with a refusal, wrongly, or not
//! at all.
//!
//! A file of its own because both servers open connections this way, and because every fault before
//! the first frame lives here.
//!
//! Invariants: the request is read at most to [`MOST_REQUEST_BYTES`]; bytes behind it belong to the
//! first frames and are not lost; a client that leaves ends every wait.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use rustls::ServerConfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Duration, sleep};
use tokio_rustls::TlsAcceptor;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;

use super::stream::{Pipe, ServerStream};

/// The request a client opened its connection with (RFC 6455, section 4.1).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct UpgradeRequest {
    /// Path and query as they were sent.
    pub target: String,
    /// Headers in their order; names as they were sent.
    pub headers: Vec<(String, String)>,
}

impl UpgradeRequest {
    /// The first header of this name, in any case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(found, _)| found.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// The target up to the question mark.
    #[must_use]
    pub fn path(&self) -> &str {
        self.target
            .split_once('?')
            .map_or(self.target.as_str(), |(path, _)| path)
    }

    /// The target behind the question mark.
    #[must_use]
    pub fn query(&self) -> Option<&str> {
        self.target.split_once('?').map(|(_, query)| query)
    }
}

/// What the server does with a connection before the first frame.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub enum Handshake {
    /// Switches protocols.
    #[default]
    Accept,
    /// Switches protocols, with these headers in the answer (`Sec-WebSocket-Protocol`, cookies).
    AcceptWith {
        /// Further headers.
        headers: Vec<(String, String)>,
    },
    /// Answers with another status than 101 and closes.
    Refuse {
        /// The HTTP status.
        status: u16,
        /// Further headers, for example `Retry-After` or `Location`.
        headers: Vec<(String, String)>,
        /// The body; `Content-Length` is added.
        body: String,
    },
    /// Waits, then goes on with the other one.
    Delay {
        /// How long to wait before anything is read.
        delay: Duration,
        /// What then.
        then: Box<Handshake>,
    },
    /// Accepts TCP and never writes a byte: neither TLS nor HTTP is answered.
    Silent,
    /// Finishes TLS if there is any, reads the request and never answers it.
    SilentAfterRequest,
    /// Answers the request with these bytes and closes.
    Garbage(Bytes),
    /// Switches protocols with a wrong `Sec-WebSocket-Accept`, then keeps the connection open.
    WrongAccept,
    /// Closes TCP as soon as it is accepted.
    HangUp,
    /// Resets TCP as soon as it is accepted.
    Reset,
    /// Reads the request, then closes TCP without an answer.
    HangUpAfterRequest,
}

impl Handshake {
    /// A refusal with `status`.
    #[must_use]
    pub fn refuse(status: u16, headers: &[(&str, &str)], body: impl Into<String>) -> Self {
        Self::Refuse {
            status,
            headers: owned(headers),
            body: body.into(),
        }
    }
}

pub(super) fn owned(headers: &[(&str, &str)]) -> Vec<(String, String)> {
    headers
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

/// The most that is read of a request.
const MOST_REQUEST_BYTES: usize = 64 * 1024;

/// Plays `handshake`; an open WebSocket is the outcome only where it accepts.
///
/// `seen` is told of the request as soon as it is read. A request for another path than `path` is
/// answered by 404, whatever the handshake would be.
pub(super) async fn shake(
    pipe: Pipe,
    tls: Option<Arc<ServerConfig>>,
    mut handshake: Handshake,
    path: Option<&str>,
    seen: impl FnOnce(&UpgradeRequest),
) -> io::Result<Option<(WebSocketStream<ServerStream>, UpgradeRequest)>> {
    while let Handshake::Delay { delay, then } = handshake {
        tokio::select! {
            biased;
            () = pipe.silence() => return Ok(None),
            () = sleep(delay) => {}
        }
        handshake = *then;
    }
    match handshake {
        Handshake::HangUp => return Ok(None),
        Handshake::Reset => {
            pipe.reset();
            return Ok(None);
        }
        Handshake::Silent => {
            drain(ServerStream::Plain(pipe)).await;
            return Ok(None);
        }
        _ => {}
    }
    let mut stream = match tls {
        Some(config) => ServerStream::Tls(Box::new(TlsAcceptor::from(config).accept(pipe).await?)),
        None => ServerStream::Plain(pipe),
    };
    let (request, rest) = read_request(&mut stream).await?;
    seen(&request);
    if path.is_some_and(|path| path != request.path()) {
        handshake = Handshake::refuse(404, &[], "there is nothing at this path");
    }
    match handshake {
        Handshake::Accept => {}
        Handshake::AcceptWith { headers } => {
            return open(stream, request, rest, &headers).await.map(Some);
        }
        Handshake::Refuse {
            status,
            headers,
            body,
        } => {
            stream.write_all(&refusal(status, &headers, &body)).await?;
            finish(stream).await;
            return Ok(None);
        }
        Handshake::SilentAfterRequest => {
            drain(stream).await;
            return Ok(None);
        }
        Handshake::Garbage(bytes) => {
            stream.write_all(&bytes).await?;
            finish(stream).await;
            return Ok(None);
        }
        Handshake::WrongAccept => {
            let accept = derive_accept_key(b"not the key of the request");
            stream.write_all(&switching(&accept, &[])).await?;
            stream.flush().await?;
            drain(stream).await;
            return Ok(None);
        }
        Handshake::HangUpAfterRequest
        | Handshake::HangUp
        | Handshake::Reset
        | Handshake::Silent
        | Handshake::Delay { .. } => return Ok(None),
    }
    open(stream, request, rest, &[]).await.map(Some)
}

async fn open(
    mut stream: ServerStream,
    request: UpgradeRequest,
    rest: Vec<u8>,
    headers: &[(String, String)],
) -> io::Result<(WebSocketStream<ServerStream>, UpgradeRequest)> {
    let key = request.header("sec-websocket-key").unwrap_or_default();
    if key.is_empty() {
        stream
            .write_all(&refusal(400, &[], "not a WebSocket handshake"))
            .await?;
        finish(stream).await;
        return Err(io::ErrorKind::InvalidData.into());
    }
    let accept = derive_accept_key(key.as_bytes());
    stream.write_all(&switching(&accept, headers)).await?;
    stream.flush().await?;
    let socket = WebSocketStream::from_partially_read(stream, rest, Role::Server, None).await;
    Ok((socket, request))
}

/// The request, and what was read behind it.
async fn read_request(stream: &mut ServerStream) -> io::Result<(UpgradeRequest, Vec<u8>)> {
    let mut bytes = Vec::with_capacity(1024);
    loop {
        if let Some(end) = memchr::memmem::find(&bytes, b"\r\n\r\n") {
            let rest = bytes.split_off(end + 4);
            return Ok((parse_request(&bytes)?, rest));
        }
        if bytes.len() > MOST_REQUEST_BYTES {
            return Err(io::ErrorKind::InvalidData.into());
        }
        if stream.read_buf(&mut bytes).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

fn parse_request(bytes: &[u8]) -> io::Result<UpgradeRequest> {
    let mut headers = [httparse::EMPTY_HEADER; 128];
    let mut request = httparse::Request::new(&mut headers);
    request
        .parse(bytes)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
    let headers = request.headers.iter().map(|header| {
        let value = String::from_utf8_lossy(header.value).into_owned();
        (header.name.to_owned(), value)
    });
    Ok(UpgradeRequest {
        target: request.path.unwrap_or_default().to_owned(),
        headers: headers.collect(),
    })
}

fn switching(accept: &str, headers: &[(String, String)]) -> Vec<u8> {
    let more = lines(headers);
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\n{more}\r\n"
    )
    .into_bytes()
}

fn refusal(status: u16, headers: &[(String, String)], body: &str) -> Vec<u8> {
    let reason = http::StatusCode::from_u16(status)
        .ok()
        .and_then(|status| status.canonical_reason())
        .unwrap_or("Refused");
    let (more, length) = (lines(headers), body.len());
    format!(
        "HTTP/1.1 {status} {reason}\r\n{more}Content-Length: {length}\r\nConnection: close\r\n\
         \r\n{body}"
    )
    .into_bytes()
}

fn lines(headers: &[(String, String)]) -> String {
    headers
        .iter()
        .map(|(name, value)| format!("{name}: {value}\r\n"))
        .collect()
}

/// Ends our half and reads on until the client ends its own, so that what was written arrives and is
/// not overtaken by a reset.
pub(super) async fn finish(mut stream: ServerStream) {
    let _ = stream.shutdown().await;
    let _ = tokio::time::timeout(Duration::from_secs(2), drain(stream)).await;
}

/// Reads and forgets until the client has gone.
async fn drain(mut stream: ServerStream) {
    let mut sink = [0; 4096];
    while let Ok(1..) = stream.read(&mut sink).await {}
}
