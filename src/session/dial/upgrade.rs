//! The opening handshake of RFC 6455, section 4.1, from the client's side.

use std::time::Duration;

use http::HeaderMap;

use super::stream::TlsOrPlain;
use crate::config::endpoint::Endpoint;
use crate::error::ConnectError;

pub(super) struct Accepted {
    pub(super) headers: HeaderMap,
    pub(super) leftover: Vec<u8>,
}

pub(super) async fn upgrade(
    _stream: &mut TlsOrPlain,
    _endpoint: &Endpoint,
    _headers: &HeaderMap,
    limit: Duration,
) -> Result<Accepted, ConnectError> {
    Err(ConnectError::Timeout {
        phase: crate::error::Phase::Upgrade,
        limit,
    })
}
