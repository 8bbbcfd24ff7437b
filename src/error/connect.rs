//! What can be wrong with a description of a connection, and with opening it.
//!
//! Apart from the other errors because both are known before a single message has flowed.
//!
//! Invariants: a header's value or a URL's user info never appears in a text.

use std::borrow::Cow;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::{RecordError, Recovery, told};

/// A value in the configuration cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{option} cannot be {value:?}: {remedy}")]
#[non_exhaustive]
pub struct ConfigError {
    /// The option's name.
    pub option: Cow<'static, str>,
    /// The value that was given, as text; secrets are shown as `[redacted]`.
    pub value: String,
    /// What to write instead.
    pub remedy: String,
}

impl ConfigError {
    /// Names the option, the value and the remedy.
    pub(crate) fn new(
        option: impl Into<Cow<'static, str>>,
        value: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self {
            option: option.into(),
            value: value.into(),
            remedy: remedy.into(),
        }
    }

    /// A person has to change the configuration.
    #[must_use]
    pub fn recovery(&self) -> Recovery {
        Recovery::Stop
    }
}

/// Everything in a configuration that cannot be used; at least one [`ConfigError`].
///
/// `Display` is one line with all of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors {
    errors: Vec<ConfigError>,
}

impl ConfigErrors {
    /// An error unless there are none.
    pub(crate) fn none_of(errors: Vec<ConfigError>) -> Result<(), Self> {
        if errors.is_empty() {
            Ok(())
        } else {
            Err(Self { errors })
        }
    }

    /// Each of them, in the order of the options.
    pub fn iter(&self) -> std::slice::Iter<'_, ConfigError> {
        self.errors.iter()
    }

    /// The one for this option, if there is one.
    #[must_use]
    pub fn option(&self, name: &str) -> Option<&ConfigError> {
        self.errors.iter().find(|error| error.option == name)
    }

    /// A person has to change the configuration.
    #[must_use]
    pub fn recovery(&self) -> Recovery {
        Recovery::Stop
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.errors.iter().enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            write!(f, "{separator}{error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

impl From<ConfigError> for ConfigErrors {
    fn from(error: ConfigError) -> Self {
        Self {
            errors: vec![error],
        }
    }
}

impl IntoIterator for ConfigErrors {
    type Item = ConfigError;
    type IntoIter = std::vec::IntoIter<ConfigError>;

    fn into_iter(self) -> Self::IntoIter {
        self.errors.into_iter()
    }
}

impl<'e> IntoIterator for &'e ConfigErrors {
    type Item = &'e ConfigError;
    type IntoIter = std::slice::Iter<'e, ConfigError>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// The phases of opening a connection; each has a deadline of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Phase {
    /// Waiting for the connection before this one to let go of its socket, so that there are never two. Its limit is
    /// the configuration's [`shutdown_timeout`](crate::config::Config::shutdown_timeout).
    Socket,
    /// Waiting at a [`Gate`](crate::Gate).
    Gate,
    /// Resolving the host name.
    Dns,
    /// The TCP handshake.
    Tcp,
    /// The TLS handshake.
    Tls,
    /// The HTTP upgrade (RFC 6455, section 4: the opening handshake).
    Upgrade,
    /// Authentication and the platform's other opening steps. Each step has this deadline, and one that
    /// misses it is reported as `CloseReason::NotEstablished` with the step's name.
    Auth,
    /// From the opening handshake to the first frame of any kind.
    FirstData,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Socket => "the end of the last socket",
            Self::Gate => "waiting at the gate",
            Self::Dns => "dns",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::Upgrade => "upgrade",
            Self::Auth => "auth",
            Self::FirstData => "first data",
        })
    }
}

/// An HTTP answer other than `101 Switching Protocols`.
#[derive(Clone)]
#[non_exhaustive]
pub struct HttpResponse {
    /// The status code.
    pub status: http::StatusCode,
    /// The headers, as sent.
    pub headers: http::HeaderMap,
    /// The body, up to the limit of 64 KiB.
    pub body: bytes::Bytes,
}

impl HttpResponse {
    /// Puts the three parts together.
    pub(crate) fn new(
        status: http::StatusCode,
        headers: http::HeaderMap,
        body: bytes::Bytes,
    ) -> Self {
        Self {
            status,
            headers,
            body,
        }
    }

    /// How long the server asks us to wait (RFC 9110, section 10.2.3): in seconds, or as a date, which is held
    /// against the server's own `Date`, since its clock need not be ours. A date without one, or one that has
    /// passed, asks for nothing.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        let value = self.text(&http::header::RETRY_AFTER)?;
        if let Ok(seconds) = value.parse() {
            return Some(Duration::from_secs(seconds));
        }
        let date = |text| httpdate::parse_http_date(text).ok();
        let until = date(value)?;
        until
            .duration_since(date(self.text(&http::header::DATE)?)?)
            .ok()
    }

    fn text(&self, name: &http::HeaderName) -> Option<&str> {
        Some(self.headers.get(name)?.to_str().ok()?.trim())
    }
}

impl fmt::Debug for HttpResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Header values and the body may hold cookies and tokens.
        f.debug_struct("HttpResponse")
            .field("status", &self.status)
            .field(
                "headers",
                &self
                    .headers
                    .keys()
                    .map(http::HeaderName::as_str)
                    .collect::<Vec<_>>(),
            )
            .field("body_len", &self.body.len())
            .finish()
    }
}

/// A connection could not be opened.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The configuration does not allow a connection at all, for want of trust anchors for instance.
    #[error(fmt = unconfigured)]
    Config {
        /// What is wrong with it.
        #[source]
        source: ConfigErrors,
    },
    /// The session cannot be recorded to the path that its configuration names, and is over without an attempt.
    #[error(transparent)]
    Record {
        /// Why not.
        source: RecordError,
    },
    /// A phase took longer than its deadline.
    #[error("{phase} took longer than {limit:?}")]
    Timeout {
        /// Which phase.
        phase: Phase,
        /// Its deadline.
        limit: Duration,
    },
    /// The host name could not be resolved, or has no address.
    #[error(fmt = unresolved)]
    Dns {
        /// The name.
        host: String,
        /// What the resolver said.
        #[source]
        source: Arc<io::Error>,
    },
    /// No address accepted a TCP connection; the last failure is the source.
    #[error(fmt = unreached)]
    Tcp {
        /// The last address that was tried.
        address: String,
        /// What the system said.
        #[source]
        source: Arc<io::Error>,
    },
    /// The TLS handshake failed on the wire.
    #[error(fmt = no_tls)]
    Tls {
        /// The server's name.
        host: String,
        /// What went wrong.
        #[source]
        source: Arc<io::Error>,
    },
    /// The server's certificate was not accepted.
    #[error(fmt = not_accepted)]
    Certificate {
        /// The server's name.
        host: String,
        /// Why not.
        #[source]
        source: Arc<rustls::Error>,
    },
    /// The server answered the upgrade with something other than 101.
    #[error("server answered the upgrade with {}", response.status)]
    Refused {
        /// Its answer: status, headers and body.
        response: Box<HttpResponse>,
    },
    /// The server's answer to the upgrade was not a valid opening handshake (RFC 6455, section 4.1).
    #[error("invalid opening handshake: {detail}")]
    Handshake {
        /// Which rule it broke.
        detail: String,
    },
    /// The socket failed during the upgrade.
    #[error(fmt = failed)]
    Io {
        /// The phase.
        phase: Phase,
        /// What the system said.
        #[source]
        source: Arc<io::Error>,
    },
}

fn unconfigured(source: &ConfigErrors, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    told(f, format_args!("connection cannot be configured"), source)
}

fn unresolved(host: &str, source: &io::Error, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    told(
        f,
        format_args!("host {host:?} could not be resolved"),
        source,
    )
}

fn unreached(address: &str, source: &io::Error, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    told(f, format_args!("no tcp connection to {address}"), source)
}

fn no_tls(host: &str, source: &io::Error, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    told(
        f,
        format_args!("tls handshake with {host:?} failed"),
        source,
    )
}

fn not_accepted(host: &str, source: &rustls::Error, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let remedy = "an authority of your own is trusted by Tls::with_ca_pem";
    told(
        f,
        format_args!("certificate of {host:?} was not accepted; {remedy}"),
        source,
    )
}

fn failed(phase: &Phase, source: &io::Error, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    told(f, format_args!("socket failed during {phase}"), source)
}

impl ConnectError {
    /// Whether another attempt can help.
    ///
    /// A certificate that is not accepted and the HTTP answers 400, 401, 403, 404, 405, 410, 426 and
    /// redirections stay as they are until a person changes something; 429, 418 (how Binance says that it has
    /// banned an address for a while) and the 5xx pass, after `Retry-After` where the server sent one.
    #[must_use]
    pub fn recovery(&self) -> Recovery {
        match self {
            Self::Config { source } => source.recovery(),
            Self::Record { source } => source.recovery(),
            Self::Certificate { .. } => Recovery::Stop,
            Self::Refused { response } => match response.status.as_u16() {
                408 | 418 | 425 | 429 | 500..=599 => response
                    .retry_after()
                    .map_or(Recovery::Retry, Recovery::RetryAfter),
                _ => Recovery::Stop,
            },
            Self::Timeout { .. }
            | Self::Dns { .. }
            | Self::Tcp { .. }
            | Self::Tls { .. }
            | Self::Handshake { .. }
            | Self::Io { .. } => Recovery::Retry,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(status: u16, retry_after: Option<&'static str>) -> ConnectError {
        let mut headers = http::HeaderMap::new();
        if let Some(value) = retry_after {
            let value = http::HeaderValue::from_static(value);
            headers.insert(http::header::RETRY_AFTER, value);
        }
        let status = http::StatusCode::from_u16(status).unwrap();
        let response = HttpResponse::new(status, headers, bytes::Bytes::new());
        ConnectError::Refused {
            response: Box::new(response),
        }
    }

    #[test]
    fn a_date_to_retry_after_is_held_against_the_servers_own() {
        let said = |retry_after: &'static str, date: Option<&'static str>| {
            let mut headers = http::HeaderMap::new();
            let header = http::HeaderValue::from_static;
            headers.insert(http::header::RETRY_AFTER, header(retry_after));
            if let Some(date) = date {
                headers.insert(http::header::DATE, header(date));
            }
            let status = http::StatusCode::TOO_MANY_REQUESTS;
            HttpResponse::new(status, headers, bytes::Bytes::new()).retry_after()
        };
        let (now, later) = (
            "Wed, 21 Oct 2026 07:28:00 GMT",
            "Wed, 21 Oct 2026 07:29:30 GMT",
        );
        assert_eq!(said(later, Some(now)), Some(Duration::from_secs(90)));
        assert_eq!(said(now, Some(later)), None, "it has passed");
        assert_eq!(said(later, None), None, "by which clock?");
        assert_eq!(said(later, Some("now")), None);
        assert_eq!(said("soon", Some(now)), None);
        assert_eq!(said(" 7 ", None), Some(Duration::from_secs(7)));
    }

    #[test]
    fn every_failed_opening_has_its_recovery() {
        let source = || Arc::new(io::Error::from(io::ErrorKind::ConnectionRefused));
        let host = || "venue.example".to_owned();
        let wait = |seconds| Recovery::RetryAfter(Duration::from_secs(seconds));
        let table = [
            (
                ConnectError::Timeout {
                    phase: Phase::Tcp,
                    limit: Duration::from_secs(1),
                },
                Recovery::Retry,
            ),
            (
                ConnectError::Dns {
                    host: host(),
                    source: source(),
                },
                Recovery::Retry,
            ),
            (
                ConnectError::Tcp {
                    address: host(),
                    source: source(),
                },
                Recovery::Retry,
            ),
            (
                ConnectError::Tls {
                    host: host(),
                    source: source(),
                },
                Recovery::Retry,
            ),
            (
                ConnectError::Certificate {
                    host: host(),
                    source: Arc::new(rustls::CertificateError::Expired.into()),
                },
                Recovery::Stop,
            ),
            (
                ConnectError::Handshake {
                    detail: String::new(),
                },
                Recovery::Retry,
            ),
            (
                ConnectError::Io {
                    phase: Phase::Upgrade,
                    source: source(),
                },
                Recovery::Retry,
            ),
            (refused(200, None), Recovery::Stop),
            (refused(301, None), Recovery::Stop),
            (refused(400, None), Recovery::Stop),
            (refused(401, None), Recovery::Stop),
            (refused(403, Some("7")), Recovery::Stop),
            (refused(404, None), Recovery::Stop),
            (refused(405, None), Recovery::Stop),
            (refused(408, None), Recovery::Retry),
            (refused(410, None), Recovery::Stop),
            (refused(418, Some("60")), wait(60)),
            (refused(425, None), Recovery::Retry),
            (refused(426, None), Recovery::Stop),
            (refused(429, None), Recovery::Retry),
            (refused(429, Some(" 7 ")), wait(7)),
            (
                refused(429, Some("Wed, 21 Oct 2026 07:28:00 GMT")),
                Recovery::Retry,
            ),
            (refused(500, None), Recovery::Retry),
            (refused(503, Some("120")), wait(120)),
            (refused(599, None), Recovery::Retry),
        ];
        for (error, recovery) in table {
            assert_eq!(error.recovery(), recovery, "{error}");
        }
    }
}
