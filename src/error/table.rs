//! The table of `docs/reconnecting.md`, held against what errors say of themselves.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::{ConnectError, HttpResponse, Phase, Recovery};
use crate::close::CloseReason;

/// What follows, by the end's name in the table.
fn published(end: &str) -> &'static str {
    let rows = include_str!("../../docs/reconnecting.md").lines();
    let row = rows
        .filter_map(|row| {
            row.strip_prefix("| ")?
                .strip_suffix(" |")?
                .split_once(" | ")
        })
        .find(|(ends, _)| ends.starts_with(end));
    row.unwrap_or_else(|| panic!("{end} is not in the table")).1
}

fn word(recovery: Recovery) -> &'static str {
    match recovery {
        Recovery::Retry => "retry",
        Recovery::RetryAfter(_) => "retry, not before `Retry-After`",
        Recovery::Stop => "stop",
        Recovery::Reauthenticate | Recovery::Reconcile => "neither",
    }
}

fn refused(status: u16) -> Recovery {
    let mut headers = http::HeaderMap::new();
    let seven = http::HeaderValue::from_static("7");
    headers.insert(http::header::RETRY_AFTER, seven);
    let status = http::StatusCode::from_u16(status).unwrap();
    let response = Box::new(HttpResponse::new(status, headers, bytes::Bytes::new()));
    ConnectError::Refused { response }.recovery()
}

#[test]
fn every_http_status_is_treated_as_the_table_says() {
    let passing = "HTTP 408, 418, 425, 429, 500-599";
    for status in (100..=599).filter(|status| *status != 101) {
        let row = match status {
            408 | 418 | 425 | 429 | 500..=599 => passing,
            _ => "HTTP, any other",
        };
        assert_eq!(word(refused(status)), published(row), "{status}");
    }
}

#[test]
fn every_close_code_is_treated_as_the_table_says() {
    let row = published("close code, any or none");
    for code in (1000..=4999).map(Some).chain([None]) {
        let reason = String::new();
        let end = CloseReason::Peer { code, reason };
        assert_eq!(word(end.recovery()), row, "{code:?}");
    }
}

#[test]
fn every_other_end_is_treated_as_the_table_says() {
    let detail = String::new;
    let source = || Arc::new(io::Error::from(io::ErrorKind::ConnectionReset));
    let host = || "venue.example".to_owned();
    let not_opened = |error| CloseReason::NotOpened(Arc::new(error));
    let time = Duration::from_secs(1);
    let lost = "end of stream";
    let unreached = "name not resolved";
    let table = [
        (CloseReason::Eof, lost),
        (
            CloseReason::Io {
                kind: io::ErrorKind::ConnectionReset,
                detail: detail(),
            },
            lost,
        ),
        (CloseReason::Silent { quiet: time }, lost),
        (
            CloseReason::Mute {
                channel: detail(),
                quiet: time,
            },
            lost,
        ),
        (CloseReason::WriteStalled { waited: time }, lost),
        (CloseReason::Protocol { detail: detail() }, lost),
        (CloseReason::NotUtf8, lost),
        (CloseReason::TooBig { detail: detail() }, lost),
        (
            not_opened(ConnectError::Dns {
                host: host(),
                source: source(),
            }),
            unreached,
        ),
        (
            not_opened(ConnectError::Tcp {
                address: host(),
                source: source(),
            }),
            unreached,
        ),
        (
            not_opened(ConnectError::Timeout {
                phase: Phase::Upgrade,
                limit: time,
            }),
            unreached,
        ),
        (
            not_opened(ConnectError::Tls {
                host: host(),
                source: source(),
            }),
            "TLS handshake failed",
        ),
        (
            not_opened(ConnectError::Certificate {
                host: host(),
                source: Arc::new(rustls::CertificateError::Expired.into()),
            }),
            "certificate not accepted",
        ),
        (
            not_opened(ConnectError::Handshake { detail: detail() }),
            "invalid opening handshake",
        ),
    ];
    for (end, row) in table {
        assert_eq!(word(end.recovery()), published(row), "{end}");
    }
}
