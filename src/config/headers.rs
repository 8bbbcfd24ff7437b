//! Headers of the upgrade request, as a layer names them.
//!
//! Apart from the other options because they have names of their own, and values that nobody may see.
//!
//! Invariants: names are compared without their case; within a layer a name may stand several times, and a
//! layer that names it replaces all of those below; values never appear in `Debug` or an error.

use std::fmt;

use http::{HeaderMap, HeaderName, HeaderValue, header::SEC_WEBSOCKET_PROTOCOL};
use serde_json::Value;

use super::read::Reader;
use super::settings::Part;
use crate::error::ConfigError;

/// Extra headers of one layer: added, or left out.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Headers(Vec<(String, Option<String>)>);

impl Headers {
    /// No header.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a header, beside others of that name in this layer.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.0.push((name.into(), Some(value.into())));
        self
    }

    /// Leaves out whatever lower layers say about this header.
    #[must_use]
    pub fn without(mut self, name: impl Into<String>) -> Self {
        self.0.push((name.into(), None));
        self
    }

    /// The headers to be sent, or all that is wrong with them.
    pub(super) fn build(
        &self,
        subprotocols: &[String],
        errors: &mut Vec<ConfigError>,
    ) -> HeaderMap {
        let mut headers = HeaderMap::with_capacity(self.0.len() + 1);
        for (name, value) in &self.0 {
            let Some(value) = value else { continue };
            match header(name, value) {
                Ok((name, value)) => {
                    headers.append(name, value);
                }
                Err(error) => errors.push(error),
            }
        }
        if subprotocols.is_empty() {
            return headers;
        }
        if headers.contains_key(SEC_WEBSOCKET_PROTOCOL) {
            let remedy = "name subprotocols here or in the header, not in both";
            errors.push(ConfigError::new(
                "subprotocols",
                subprotocols.join(", "),
                remedy,
            ));
            return headers;
        }
        for (index, subprotocol) in subprotocols.iter().enumerate() {
            // A name is a header's name by its grammar (RFC 6455, section 4.1: a token).
            if HeaderName::from_bytes(subprotocol.as_bytes()).is_err() {
                let remedy = "use a token of visible ASCII without separators (RFC 6455, 4.1)";
                errors.push(ConfigError::new("subprotocols", subprotocol, remedy));
            }
            if subprotocols[..index].contains(subprotocol) {
                let remedy = "name each subprotocol once (RFC 6455, 4.1)";
                errors.push(ConfigError::new("subprotocols", subprotocol, remedy));
            }
        }
        if let Ok(value) = HeaderValue::from_str(&subprotocols.join(", ")) {
            headers.insert(SEC_WEBSOCKET_PROTOCOL, value);
        }
        headers
    }

    fn names(&self, wanted: &str) -> bool {
        self.0
            .iter()
            .any(|(name, _)| name.eq_ignore_ascii_case(wanted))
    }
}

impl Part for Headers {
    fn or(mut self, lower: Self) -> Self {
        let below = lower.0.into_iter().filter(|(name, _)| !self.names(name));
        let below: Vec<_> = below.collect();
        self.0.extend(below);
        self
    }

    fn visit(&self, prefix: &str, see: &mut dyn FnMut(String, Option<String>)) {
        for (index, (name, value)) in self.0.iter().enumerate() {
            if self.0[..index]
                .iter()
                .any(|(seen, _)| seen.eq_ignore_ascii_case(name))
            {
                continue;
            }
            let shown = if value.is_some() {
                "[redacted]"
            } else {
                "none"
            };
            see(
                format!("{prefix}{}", legible(name).to_ascii_lowercase()),
                Some(shown.to_owned()),
            );
        }
    }

    fn read(reader: &mut Reader<'_>) -> Self {
        let mut headers = Self::new();
        for (name, value) in reader.entries() {
            headers = match value {
                Value::Null => headers.without(name),
                Value::String(value) => headers.with(name, value),
                Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
                    let remedy = "write a text, or null to leave the header out";
                    let option = format!("headers.{}", legible(&name));
                    reader.refuse(ConfigError::new(option, "[redacted]", remedy));
                    continue;
                }
            };
        }
        headers
    }
}

impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.0.iter().map(|(name, _)| legible(name));
        f.debug_set().entries(names).finish()
    }
}

fn header(name: &str, value: &str) -> Result<(HeaderName, HeaderValue), ConfigError> {
    let parsed = HeaderName::from_bytes(name.as_bytes()).map_err(|_| {
        let remedy = "use a valid HTTP header name (RFC 9110, 5.1)";
        ConfigError::new("header", legible(name), remedy)
    })?;
    if RESERVED.contains(&parsed.as_str()) {
        let remedy = "leave out the headers that the opening handshake itself writes";
        return Err(ConfigError::new("header", name, remedy));
    }
    let mut value = HeaderValue::from_str(value).map_err(|_| {
        let remedy = format!("use visible ASCII in the value of {name:?}");
        ConfigError::new("header", "[redacted]", remedy)
    })?;
    value.set_sensitive(true);
    Ok((parsed, value))
}

/// What may be shown of a name: what follows a colon may be a value that was put into the wrong place.
fn legible(name: &str) -> &str {
    name.split(':').next().unwrap_or_default()
}

/// Written by the opening handshake itself (RFC 6455, section 4.1).
const RESERVED: [&str; 9] = [
    "host",
    "connection",
    "upgrade",
    "sec-websocket-key",
    "sec-websocket-accept",
    "sec-websocket-version",
    "sec-websocket-extensions",
    "content-length",
    "transfer-encoding",
];
