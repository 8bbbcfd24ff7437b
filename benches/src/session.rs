//! Our own contender.

use std::time::Duration;

use mainstay::config::{ConfigBuilder, Overflow, Queue, ReconnectOwner, WireBackend};
use mainstay::{Client, Config, Session};

use crate::tls::{self, Authority};

/// Both wires, and the word that a row and a bar of each bears.
pub const WIRES: [(&str, WireBackend); 2] = [
    ("ours", WireBackend::Tungstenite),
    ("ours_fast", WireBackend::Fast),
];

/// A configuration for `port` as most users have it.
pub fn config(port: u16, wire: WireBackend) -> ConfigBuilder {
    Config::builder(crate::bare::url(port))
        .reconnect_owner(ReconnectOwner::Client)
        .wire(wire)
}

/// The same over TLS.
pub fn config_tls(port: u16, wire: WireBackend, authority: &Authority) -> ConfigBuilder {
    Config::builder(tls::url(port))
        .tls(authority.tls())
        .reconnect_owner(ReconnectOwner::Client)
        .wire(wire)
}

/// An open session.
pub async fn connect(config: ConfigBuilder) -> Session {
    Client::connect_with(config.build().expect("a configuration"))
        .await
        .expect("a session")
}

/// A queue that loses nothing, so that every message is counted.
#[must_use]
pub fn lossless() -> Queue {
    Queue::new(4096, Overflow::Block(Duration::from_secs(60)))
}
