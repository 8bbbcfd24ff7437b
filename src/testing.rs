//! A test kit for whoever talks to a WebSocket API: servers whose every answer and every failure is
//! chosen by the test.
//!
//! It is public and stands behind the feature `testing`, so that programs on top of this crate can
//! test their own reconnecting with the very faults this crate is tested with. Three servers:
//! [`ScriptedServer`] plays scripts or obeys the test frame by frame; [`deribit::DeribitSimulator`]
//! behaves like a venue, until a [`deribit::Fault`] is injected; [`ReplayServer`] plays what a session
//! has recorded.
//!
//! Invariants: servers listen on the loopback only; every task ends with its server; every queue and
//! every log has a bound; every wait has a deadline; nothing a client sends makes a server panic.
//! Deliberately absent: anything process-wide (no crypto provider is installed, no port is fixed).

mod certificate;
mod connection;
mod crowd;
pub mod deribit;
mod driver;
mod handshake;
mod journal;
mod listener;
mod matcher;
mod replay_server;
mod script;
mod server;
mod stream;

pub use certificate::StartError;
pub use connection::{ConnectionEnded, ServerConnection};
pub use crowd::Disconnect;
pub use handshake::{Handshake, UpgradeRequest};
pub use journal::ExpectError;
pub use matcher::{Matcher, Pattern, PatternError};
pub use replay_server::{ReplayReport, ReplayServer, ReplayServerBuilder, ReplayServerError};
pub use script::{Responder, Script, ScriptFailure, Step};
pub use server::{Received, ReceivedKind, ScriptedServer, ScriptedServerBuilder};
