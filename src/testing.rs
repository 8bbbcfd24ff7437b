//! A test kit for whoever talks to a WebSocket API: servers whose every answer and every failure is
//! chosen by the test.
//!
//! It is public and stands behind the feature `testing`, so that programs on top of this crate can
//! test their own reconnecting with the very faults this crate is tested with. Three servers:
//! [`ScriptedServer`] plays scripts or obeys the test frame by frame; [`deribit::DeribitSimulator`]
//! behaves like a venue, until a [`deribit::Fault`] is injected; [`ReplayServer`] plays what a session
//! has recorded.
//!
//! # Testing your own adapter
//!
//! Switch the feature on for your tests alone; nothing of it is in your program then:
//!
//! ```toml
//! [dev-dependencies]
//! mainstay = { version = "0.1", features = ["testing"] }
//! ```
//!
//! **The venue is a function.** Most tests need one that answers: [`ScriptedServerBuilder::respond`] takes what the
//! client says and returns what the venue answers, in the venue's own words. Start your session on
//! [`ScriptedServer::url`], and let the venue speak first with [`ScriptedServer::inject`].
//!
//! ```
//! use std::sync::Arc;
//! use std::time::Duration;
//!
//! use mainstay::platform::{Batch, Call, Platform};
//! use mainstay::testing::{Disconnect, ScriptedServer};
//! use mainstay::{Channel, Config, Event, Frame, Session};
//! use serde_json::{Value, json};
//!
//! /// Your adapter: here JSON-RPC with one request for all channels.
//! #[derive(Debug)]
//! struct Teahouse;
//!
//! impl Platform for Teahouse {
//!     fn name(&self) -> &str {
//!         "teahouse"
//!     }
//!
//!     fn subscribe(&self, channels: &[Arc<str>]) -> Vec<Batch> {
//!         let names: Vec<&str> = channels.iter().map(|name| &**name).collect();
//!         let call = Call::new("pour", &json!({ "channels": names })).ok();
//!         call.map(|call| Batch::new(call, channels.to_vec())).into_iter().collect()
//!     }
//! }
//!
//! # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
//! // The venue: it confirms whatever it is asked.
//! let venue = ScriptedServer::builder().respond(|text| {
//!     let request: Value = serde_json::from_str(text).ok()?;
//!     Some(json!({ "jsonrpc": "2.0", "id": request["id"], "result": "ok" }).to_string())
//! });
//! let venue = venue.start().await?;
//! let config = Config::builder(venue.url()).build()?;
//! let session = Session::start(Teahouse, config).await?;
//! let mut oolong = session.subscribe(Channel::<Frame>::new("oolong")).await?;
//!
//! // What did the adapter say? As much of the message as the test cares about.
//! let within = Duration::from_secs(5);
//! let request = json!({ "method": "pour", "params": { "channels": ["oolong"] } });
//! venue.expect_message(request, within).await?;
//!
//! // The venue speaks first.
//! let cup = json!({ "method": "cup", "params": { "channel": "oolong", "price": 5 } });
//! venue.inject(Frame::text(cup.to_string())).await;
//! assert!(matches!(oolong.next().await, Some(Event::Data(_))));
//!
//! // The venue shuts down and comes back: the subscription says so and goes on.
//! venue.disconnect(Disconnect::GoingAway).await;
//! assert!(matches!(oolong.next().await, Some(Event::Gap(_))));
//! assert!(matches!(oolong.next().await, Some(Event::Resynced(_))));
//! assert_eq!(venue.accepted(), 2);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! What else a test may want:
//!
//! | to | use |
//! |---|---|
//! | assert what was sent: the exact text, JSON in part, a pattern, a predicate | [`ScriptedServer::expect_message`] with a [`Matcher`]; it awaits the message, and says what came instead |
//! | play a fault at a given point, another on each connection | a [`Script`] for each; `answer` speaks the venue's words, `reply` JSON-RPC; [`ScriptedServer::failures`] says where one was left |
//! | end connections: 1000, 1001, any code, without a close frame, by a reset | [`ScriptedServer::disconnect`] with a [`Disconnect`] |
//! | a half-open connection | [`ServerConnection::go_silent`], with a short [`Liveness`](crate::config::Liveness) |
//! | refuse the upgrade: 401, 429 with `Retry-After`, 503 | [`Script::refuse`] |
//! | TLS, also with an expired certificate or another name | [`ScriptedServerBuilder::tls`], [`ScriptedServer::ca_certificate_pem`] into [`Tls::only`](crate::config::Tls::only) |
//! | make an actor of the session panic | [`Session::crash`](crate::Session::crash) |
//! | play what a real session has recorded | [`ReplayServer`] |
//!
//! The crate's own `tests/fictitious_venue.rs` is such a suite for a venue with words of its own, to copy from.
//!
//! Invariants: servers listen on the loopback only; every task ends with its server; every queue and
//! every log has a bound; every wait has a deadline; nothing a client sends makes a server panic.
//! Deliberately absent: anything process-wide (no crypto provider is installed, no port is fixed).

mod certificate;
mod connection;
mod crowd;
pub mod deribit;
mod door;
mod driver;
pub mod faults;
mod handshake;
mod journal;
mod listener;
mod matcher;
mod memory;
mod replay_server;
mod script;
mod server;
mod shape;
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
