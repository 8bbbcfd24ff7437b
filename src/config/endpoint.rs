//! Where to connect: a `ws` or `wss` URL, taken apart once.
//!
//! A file of its own because three readers need three spellings of the same thing: the resolver a
//! bare host, the `Host` header one with brackets and port, a log one without secrets.
//!
//! Invariants: path and query go to the server byte for byte as they were given; a query's text and
//! user info never appear in `Debug`, `Display` or an error; a `wss` endpoint has a valid server
//! name. Deliberately absent: user info, since RFC 6455 gives it no meaning; use a header.

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
    /// use mainstay::config::Endpoint;
    ///
    /// let endpoint = Endpoint::parse("wss://example.com/ws?token=s3cret")?;
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
        if authority.is_empty() {
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

    /// What stands for an endpoint that was refused while the other options are checked.
    pub(super) fn nowhere() -> Self {
        Self {
            host: String::new(),
            port: 0,
            resource: String::new(),
            server_name: None,
        }
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

/// URLs in the order of preference, which have yet to be taken apart. `Debug` shows no query.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Urls(pub(super) Vec<String>);

impl<U: Into<String>> FromIterator<U> for Urls {
    fn from_iter<I: IntoIterator<Item = U>>(urls: I) -> Self {
        Self(urls.into_iter().map(Into::into).collect())
    }
}

impl fmt::Debug for Urls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.0.iter().map(|url| redacted(url));
        f.debug_list().entries(shown).finish()
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
pub(super) fn redacted(url: &str) -> String {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(url: &str) -> Endpoint {
        Endpoint::parse(url).unwrap()
    }

    fn refusal(url: &str) -> String {
        Endpoint::parse(url).unwrap_err().to_string()
    }

    #[test]
    fn ports_default_by_scheme() {
        for (url, port, tls) in [
            ("ws://example.com", 80, false),
            ("wss://example.com", 443, true),
            ("WSS://example.com", 443, true),
            ("ws://example.com:443", 443, false),
            ("wss://example.com:80", 80, true),
            ("wss://example.com:9443/ws", 9443, true),
        ] {
            let endpoint = parsed(url);
            assert_eq!((endpoint.port(), endpoint.is_tls()), (port, tls), "{url}");
        }
    }

    #[test]
    fn the_host_header_bears_a_port_only_when_it_is_not_the_default_one() {
        for (url, header) in [
            ("ws://example.com", "example.com"),
            ("ws://example.com:80", "example.com"),
            ("wss://example.com:443", "example.com"),
            ("ws://example.com:443", "example.com:443"),
            ("wss://example.com:8443", "example.com:8443"),
            ("ws://[::1]", "[::1]"),
            ("ws://[::1]:8080", "[::1]:8080"),
            ("ws://EXAMPLE.com", "example.com"),
        ] {
            assert_eq!(parsed(url).host_header(), header, "{url}");
        }
    }

    #[test]
    fn a_host_is_a_name_or_an_address() {
        for (url, host) in [
            ("ws://example.com.", "example.com."),
            ("ws://my_host:1", "my_host"),
            ("ws://127.0.0.1:1", "127.0.0.1"),
            ("ws://[2001:DB8::1]:1", "2001:db8::1"),
            ("wss://[::1]", "::1"),
            ("wss://10.0.0.1", "10.0.0.1"),
        ] {
            assert_eq!(parsed(url).host(), host, "{url}");
        }
    }

    #[test]
    fn path_and_query_stay_byte_for_byte() {
        for (url, resource) in [
            ("ws://h", "/"),
            ("ws://h/", "/"),
            ("ws://h?a=b", "/?a=b"),
            ("ws://h/a/../b//c/./", "/a/../b//c/./"),
            ("ws://h/%7e%7E~", "/%7e%7E~"),
            (
                "ws://h/?sig=a+b%2Bc%2f=='\"{}|\\^`",
                "/?sig=a+b%2Bc%2f=='\"{}|\\^`",
            ),
            ("ws://h/x?a=b?c=/d&e=ws://f", "/x?a=b?c=/d&e=ws://f"),
            ("ws://h/x?mail=a@b.c", "/x?mail=a@b.c"),
            ("ws://h/x?", "/x?"),
        ] {
            assert_eq!(parsed(url).resource(), resource, "{url}");
        }
    }

    #[test]
    fn what_is_not_a_websocket_url_is_refused_with_a_remedy() {
        for (url, remedy) in [
            ("http://h/", "write ws:// or wss://"),
            ("https://h/", "write ws:// or wss://"),
            ("example.com/ws", "write ws:// or wss://"),
            ("ws:example.com", "write ws:// or wss://"),
            ("", "write ws:// or wss://"),
            ("ws://", "give a host"),
            ("ws:///path", "give a host"),
            ("ws://:80/", "give a valid host and port (empty host)"),
            ("ws://?a", "give a host"),
            ("ws://h/#top", "leave out the fragment"),
            ("ws://h#", "leave out the fragment"),
            ("ws://h:0", "give a port from 1 to 65535"),
            ("ws://h:65536", "give a valid host and port"),
            ("ws://h:port", "give a valid host and port"),
            ("ws://[::1", "give a valid host and port"),
            ("ws://::1/", "give a valid host and port"),
            ("ws://h\\p", "separate the path with /"),
            ("ws://h/a b", "percent-encode"),
            ("ws://h/a\r\nX: y", "percent-encode"),
            (" ws://h/", "percent-encode"),
            ("ws://h/ü", "percent-encode"),
        ] {
            let text = refusal(url);
            assert!(text.contains(remedy), "{url:?}: {text}");
        }
    }

    #[test]
    fn user_info_is_refused_and_never_shown() {
        for url in [
            "wss://key:s3cret@example.com/",
            "wss://s3cret@example.com/",
            "wss://key:s3cret/x@example.com/",
            "wss://key:s3cret?x@example.com/",
            "wss://key:s3cret#x@example.com/",
            "key:s3cret@example.com",
            "https://key:s3cret@example.com",
            "s3cret@x://example.com",
        ] {
            let text = refusal(url);
            assert!(text.contains("[redacted]"), "{url}: {text}");
            assert!(!text.contains("s3c"), "{url}: {text}");
        }
        let text = refusal("wss://key:s3cret@example.com/");
        assert!(text.contains("leave out user info"), "{text}");
    }

    #[test]
    fn a_query_is_never_shown() {
        let endpoint = parsed("wss://example.com:9/ws?token=s3cret&x");
        assert_eq!(endpoint.to_string(), "wss://example.com:9/ws?…");
        assert_eq!(
            format!("{endpoint:?}"),
            "Endpoint(wss://example.com:9/ws?…)"
        );
        let text = refusal("wss://example.com/ws?token=s3cret#x");
        assert!(!text.contains("s3c"), "{text}");
        let text = refusal("wss://example.com/ws#s3cret");
        assert!(!text.contains("s3c"), "{text}");
    }
}
