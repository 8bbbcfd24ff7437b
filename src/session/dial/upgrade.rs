//! The opening handshake of RFC 6455, section 4.1, from the client's side.
//!
//! A file of its own because it is the only HTTP that the library speaks. It is written here rather
//! than left to tungstenite because that one loses the body of a refusal and logs the request,
//! credentials and all.
//!
//! Invariants: the head of an answer is bounded in bytes and in headers; a legible status other
//! than 101 is never lost to a fault behind it; not a byte behind the head of a 101 is lost;
//! nothing that was sent or received appears in an error's text. Deliberately absent: extensions,
//! of which none is offered.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use http::header::{
    CONNECTION, HeaderMap, HeaderName, HeaderValue, ORIGIN, SEC_WEBSOCKET_ACCEPT,
    SEC_WEBSOCKET_EXTENSIONS, SEC_WEBSOCKET_PROTOCOL, UPGRADE,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::{refusal, tls_error, within};
use crate::config::endpoint::Endpoint;
use crate::error::{ConnectError, HttpResponse, Phase};

/// Bytes of all heads of an answer together.
const MAX_HEAD: usize = 16 * 1024;
const MAX_HEADERS: usize = 64;

/// The head of an HTTP answer.
pub(super) struct Head {
    pub(super) status: StatusCode,
    /// The minor version: 1 of HTTP/1.1.
    pub(super) version: u8,
    pub(super) headers: HeaderMap,
}

/// A 101 that obeys the RFC.
pub(super) struct Accepted {
    pub(super) headers: HeaderMap,
    /// The bytes that came with the head, but behind it.
    pub(super) leftover: Vec<u8>,
}

/// Asks for the upgrade and judges the answer, all within `limit`.
pub(super) async fn upgrade<S>(
    stream: &mut S,
    endpoint: &Endpoint,
    headers: &HeaderMap,
    limit: Duration,
) -> Result<Accepted, ConnectError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let start = Instant::now();
    let key = generate_key();
    let request = request(endpoint, headers, &key);
    let (head, leftover) = within(Phase::Upgrade, limit, async {
        let sent = async {
            stream.write_all(&request).await?;
            stream.flush().await
        };
        sent.await.map_err(|error| failed(endpoint, error))?;
        read_head(stream, endpoint).await
    })
    .await?;
    if head.status != StatusCode::SWITCHING_PROTOCOLS {
        let remaining = limit.saturating_sub(start.elapsed());
        let body = refusal::read_body(stream, &head, leftover, remaining).await;
        let response = HttpResponse::new(head.status, head.headers, body);
        return Err(ConnectError::Refused {
            response: Box::new(response),
        });
    }
    verify(&head, headers, &key).map_err(|rule| ConnectError::Handshake {
        detail: rule.to_owned(),
    })?;
    Ok(Accepted {
        headers: head.headers,
        leftover,
    })
}

fn request(endpoint: &Endpoint, headers: &HeaderMap, key: &str) -> Vec<u8> {
    let mut request = format!(
        "GET {} HTTP/1.1\r\n\
         Host: {}\r\n\
         Connection: Upgrade\r\n\
         Upgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: {key}\r\n",
        endpoint.resource(),
        endpoint.host_header(),
    )
    .into_bytes();
    for (name, value) in headers {
        // Names are case-insensitive (RFC 9110, 5.1), but some servers know these two by one
        // spelling only.
        let name = if name == SEC_WEBSOCKET_PROTOCOL {
            "Sec-WebSocket-Protocol"
        } else if name == ORIGIN {
            "Origin"
        } else {
            name.as_str()
        };
        for part in [name.as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
            request.extend_from_slice(part);
        }
    }
    request.extend_from_slice(b"\r\n");
    request
}

/// Reads up to the first head that is final, and what came with it.
async fn read_head<S>(stream: &mut S, endpoint: &Endpoint) -> Result<(Head, Vec<u8>), ConnectError>
where
    S: AsyncRead + Unpin,
{
    let mut buffer = Vec::new();
    let mut room = MAX_HEAD;
    loop {
        let legible_status = match parse(&buffer)? {
            Parsed::Complete { head, length } => {
                buffer.drain(..length);
                // 100 to 199 announce another answer (RFC 9110, 15.2), except for the one asked
                // for.
                if head.status.is_informational() && head.status != StatusCode::SWITCHING_PROTOCOLS
                {
                    room -= length;
                    continue;
                }
                return Ok((head, buffer));
            }
            Parsed::Partial { status } => status,
        };
        if buffer.len() >= room {
            let detail = format!("head of the answer is longer than {MAX_HEAD} bytes");
            return Err(broken(legible_status, detail));
        }
        buffer.reserve(4096);
        let mut bounded = (&mut *stream).take((room - buffer.len()) as u64);
        match bounded.read_buf(&mut buffer).await {
            Ok(0) => {
                let error = io::Error::from(io::ErrorKind::UnexpectedEof);
                return Err(refused(legible_status).unwrap_or_else(|| failed(endpoint, error)));
            }
            Ok(_) => {}
            Err(error) => {
                return Err(refused(legible_status).unwrap_or_else(|| failed(endpoint, error)));
            }
        }
    }
}

enum Parsed {
    /// More has to be read; the status may be legible already.
    Partial {
        status: Option<u16>,
    },
    Complete {
        head: Head,
        length: usize,
    },
}

fn parse(buffer: &[u8]) -> Result<Parsed, ConnectError> {
    let mut fields = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut response = httparse::Response::new(&mut fields);
    let length = match response.parse(buffer) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => {
            return Ok(Parsed::Partial {
                status: response.code,
            });
        }
        Err(httparse::Error::TooManyHeaders) => {
            let detail = format!("answer has more than {MAX_HEADERS} headers");
            return Err(broken(response.code, detail));
        }
        Err(error) => {
            return Err(broken(
                response.code,
                format!("answer is not http/1.1 ({error})"),
            ));
        }
    };
    let status = response
        .code
        .and_then(|code| StatusCode::from_u16(code).ok())
        .ok_or_else(|| broken(None, "status code below 100".to_owned()))?;
    let mut headers = HeaderMap::with_capacity(response.headers.len());
    for field in response.headers.iter() {
        let name = HeaderName::from_bytes(field.name.as_bytes());
        let value = HeaderValue::from_bytes(field.value);
        let (Ok(name), Ok(value)) = (name, value) else {
            return Err(broken(
                response.code,
                "answer has an illegible header".to_owned(),
            ));
        };
        headers.append(name, value);
    }
    Ok(Parsed::Complete {
        head: Head {
            status,
            version: response.version.unwrap_or(0),
            headers,
        },
        length,
    })
}

/// RFC 6455, section 4.1, what a client must check in an answer 101.
fn verify(head: &Head, offered: &HeaderMap, key: &str) -> Result<(), &'static str> {
    let headers = &head.headers;
    if head.version < 1 {
        return Err("answer 101 is not http/1.1");
    }
    let only = |name: HeaderName| {
        let mut values = headers.get_all(name).iter();
        values.next().filter(|_| values.next().is_none())
    };
    if only(UPGRADE).is_none_or(|value| !value.as_bytes().eq_ignore_ascii_case(b"websocket")) {
        return Err("header Upgrade is not websocket");
    }
    if !has_token(headers, CONNECTION, "upgrade") {
        return Err("header Connection does not name upgrade");
    }
    let expected = derive_accept_key(key.as_bytes());
    if only(SEC_WEBSOCKET_ACCEPT).is_none_or(|value| value.as_bytes() != expected.as_bytes()) {
        return Err("header Sec-WebSocket-Accept does not answer our key");
    }
    if tokens(headers, SEC_WEBSOCKET_EXTENSIONS).next().is_some() {
        return Err("header Sec-WebSocket-Extensions names an extension, but none was offered");
    }
    if headers.contains_key(SEC_WEBSOCKET_PROTOCOL) {
        let chosen = only(SEC_WEBSOCKET_PROTOCOL).and_then(|value| value.to_str().ok());
        let known = |chosen| tokens(offered, SEC_WEBSOCKET_PROTOCOL).any(|token| token == chosen);
        if !chosen.is_some_and(known) {
            return Err("header Sec-WebSocket-Protocol names a subprotocol that was not offered");
        }
    }
    Ok(())
}

/// Whether a header that is a list contains `token`, whatever its case.
pub(super) fn has_token(headers: &HeaderMap, name: HeaderName, token: &str) -> bool {
    tokens(headers, name).any(|found| found.eq_ignore_ascii_case(token))
}

/// The elements of a header that is a list (RFC 9110, 5.6.1), over all its lines.
pub(super) fn tokens(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &str> {
    headers
        .get_all(name)
        .into_iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|token| !token.is_empty())
}

/// A head that cannot be read to its end: a refusal if at least its status could be read.
fn broken(status: Option<u16>, detail: String) -> ConnectError {
    refused(status).unwrap_or(ConnectError::Handshake { detail })
}

fn refused(status: Option<u16>) -> Option<ConnectError> {
    let status = StatusCode::from_u16(status?).ok()?;
    (!status.is_informational()).then(|| ConnectError::Refused {
        response: Box::new(HttpResponse::new(status, HeaderMap::new(), Bytes::new())),
    })
}

/// With TLS 1.3 a server may turn us away only after its handshake has ended for us.
fn failed(endpoint: &Endpoint, error: io::Error) -> ConnectError {
    if error
        .get_ref()
        .is_some_and(|inner| inner.is::<rustls::Error>())
    {
        return tls_error(endpoint, error);
    }
    ConnectError::Io {
        phase: Phase::Upgrade,
        source: Arc::new(error),
    }
}
