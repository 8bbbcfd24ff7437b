//! Where to connect: a `ws` or `wss` URL, taken apart once.
//!
//! A file of its own because three readers need three spellings of the same thing: the resolver a bare
//! host, the `Host` header one with brackets and port, a log one without secrets.
//!
//! Invariants: path and query go to the server byte for byte as they were given; a query's text and user
//! info never appear in `Debug`, `Display` or an error; a `wss` endpoint has a valid server name.
//! Deliberately absent: user info, since RFC 6455 gives it no meaning; use a header.

use std::fmt;

use rustls::pki_types::ServerName;
use url::{Host, Url};

use crate::error::ConfigError;

/// A WebSocket URL (RFC 6455, section 3), taken apart.
///
/// `Display` and `Debug` show `?…` in place of the query, which may hold a token.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// Without brackets; only an IPv6 address contains a colon.
    host: String,
    port: u16,
    resource: String,
    /// Some exactly for `wss`.
    server_name: Option<ServerName<'static>>,
}

impl Endpoint {
    /// Takes a URL apart.
    ///
    /// ```
    /// let endpoint = mainstay::config::endpoint::Endpoint::parse("wss://example.com/ws?token=s3cret")?;
    /// assert_eq!(endpoint.resource(), "/ws?token=s3cret");
    /// assert_eq!(endpoint.to_string(), "wss://example.com/ws?…");
    /// # Ok::<(), mainstay::error::ConfigError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// A [`ConfigError`] for `url` that names what is wrong and what to write instead.
    pub fn parse(url: &str) -> Result<Self, ConfigError> {
        let refuse = |remedy: &str| ConfigError::new("url", redacted(url), remedy);
        if !url.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(refuse(
                "percent-encode blanks, control characters and all that is not ASCII",
            ));
        }
        let (scheme, rest) = url
            .split_once("://")
            .ok_or_else(|| refuse("write ws:// or wss:// in front of the host"))?;
        let tls = if scheme.eq_ignore_ascii_case("wss") {
            true
        } else if scheme.eq_ignore_ascii_case("ws") {
            false
        } else {
            return Err(refuse("write ws:// or wss://"));
        };
        if rest.contains('#') {
            return Err(refuse(
                "leave out the fragment (RFC 6455, section 3), or write %23 for a literal #",
            ));
        }
        let end = rest.find(['/', '?', '\\']).unwrap_or(rest.len());
        let (authority, resource) = rest.split_at(end);
        if authority.contains('@') {
            return Err(refuse(
                "leave out user info; send credentials in a header instead",
            ));
        }
        if authority.is_empty() || authority.starts_with(':') {
            return Err(refuse("give a host"));
        }
        if resource.starts_with('\\') {
            return Err(refuse("separate the path with / instead of \\"));
        }
        // Only the authority goes through the parser: it would rewrite path and query.
        let parsed = Url::parse(&format!("{scheme}://{authority}/"))
            .map_err(|error| refuse(&format!("give a valid host and port ({error})")))?;
        let host = match parsed.host() {
            Some(Host::Domain(name)) => name.to_owned(),
            Some(Host::Ipv4(address)) => address.to_string(),
            Some(Host::Ipv6(address)) => address.to_string(),
            None => return Err(refuse("give a host")),
        };
        let port = match parsed.port_or_known_default() {
            None | Some(0) => return Err(refuse("give a port from 1 to 65535")),
            Some(port) => port,
        };
        let server_name = if tls {
            let name = ServerName::try_from(host.clone())
                .map_err(|_| refuse("give a host name that a certificate can bear"))?;
            Some(name)
        } else {
            None
        };
        let slash = if resource.starts_with('/') { "" } else { "/" };
        Ok(Self {
            host,
            port,
            resource: format!("{slash}{resource}"),
            server_name,
        })
    }

    /// The host: a name or an address, an IPv6 address without its brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port; 80 for `ws` and 443 for `wss` where the URL names none.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Whether the scheme is `wss`.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        self.server_name.is_some()
    }

    /// Path and query, as given; `/` where there is neither. May hold a secret.
    #[must_use]
    pub fn resource(&self) -> &str {
        &self.resource
    }

    /// The value of the `Host` header: brackets around IPv6, the port unless it is the default one.
    #[must_use]
    pub fn host_header(&self) -> String {
        let default_port = if self.is_tls() { 443 } else { 80 };
        let (open, close) = if self.host.contains(':') {
            ("[", "]")
        } else {
            ("", "")
        };
        if self.port == default_port {
            format!("{open}{}{close}", self.host)
        } else {
            format!("{open}{}{close}:{}", self.host, self.port)
        }
    }

    /// The name that the server's certificate must bear; some exactly for `wss`.
    pub(crate) fn server_name(&self) -> Option<&ServerName<'static>> {
        self.server_name.as_ref()
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_tls() { "wss" } else { "ws" };
        let (path, query) = match self.resource.split_once('?') {
            Some((path, _)) => (path, "?…"),
            None => (self.resource.as_str(), ""),
        };
        write!(f, "{scheme}://{}{path}{query}", self.host_header())
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Endpoint({self})")
    }
}

/// What an error may show of a URL that could not be read.
///
/// With an `@` anywhere nothing tells where a password ends, so nothing is shown but the scheme.
fn redacted(url: &str) -> String {
    let scheme = match url.split_once("://") {
        Some((scheme, _)) if scheme.bytes().all(|byte| byte.is_ascii_alphanumeric()) => scheme,
        _ => "",
    };
    if url.contains('@') {
        let separator = if scheme.is_empty() { "" } else { "://" };
        return format!("{scheme}{separator}[redacted]");
    }
    match url.find(['?', '#']) {
        Some(end) => format!("{}{}…", &url[..end], &url[end..=end]),
        None => url.to_owned(),
    }
}
