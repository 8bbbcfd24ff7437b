//! A venue that plays a fault script, over loopback sockets or in memory.
//!
//! The door to the fault kit for whoever brings a client of his own; `run` brings one of ours.
//!
//! Invariants: the same script does the same over either wire; every task ends with the server.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::time::timeout;

use super::drive;
use super::log::FaultEntry;
use super::script::FaultScript;
use super::venue::Venue;
use crate::config::{Config, ConfigBuilder};
use crate::connector::Connector;
use crate::testing::certificate::StartError;
use crate::testing::listener::{Bound, ListenOptions, Listener};

/// What connections are made of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum FaultWire {
    /// In memory, for tests under paused time.
    #[default]
    Memory,
    /// Sockets of the loopback.
    Sockets,
}

/// A venue that plays a [`FaultScript`].
///
/// ```
/// use mainstay::testing::faults::{FaultScript, FaultServer, FaultWire};
/// use mainstay::{Client, Event};
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build()?.block_on(async {
/// let script = FaultScript::from_json(
///     r#"{ "connections": [{ "steps": [{ "await": "hello" }, { "send": "news" }, "reset"] }] }"#,
/// )?;
/// let venue = FaultServer::start(script, FaultWire::Memory).await?;
/// let session = Client::connect_with(venue.config().build()?).await?;
/// let mut messages = session.messages();
/// session.send_text("hello").await?;
/// assert!(matches!(messages.next().await, Some(Event::Data(_))));
/// assert!(matches!(messages.next().await, Some(Event::Gap(_))));
/// assert!(matches!(messages.next().await, Some(Event::Resynced(_))));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct FaultServer {
    listener: Listener,
    venue: Arc<Venue>,
}

impl FaultServer {
    /// A venue that plays `script`.
    ///
    /// # Errors
    ///
    /// [`StartError`] if the loopback cannot be bound.
    pub async fn start(script: FaultScript, wire: FaultWire) -> Result<Self, StartError> {
        let options = ListenOptions {
            in_memory: wire == FaultWire::Memory,
            ..ListenOptions::default()
        };
        let bound = Bound::bind(&options).await?;
        let venue = Arc::new(Venue::new(script));
        let serving = Arc::clone(&venue);
        let listener =
            bound.serve(move |number, pipe| drive::serve(Arc::clone(&serving), number, pipe));
        *venue.shutter.lock().unwrap_or_else(PoisonError::into_inner) = Some(listener.shutter());
        venue.shut_behind(&venue.plan(0)).await;
        Ok(Self { listener, venue })
    }

    /// Where a client should connect.
    #[must_use]
    pub fn url(&self) -> String {
        format!("{}/", self.listener.origin())
    }

    /// What brings a client here without a socket; only of a server in memory.
    #[must_use]
    pub fn connector(&self) -> Option<Arc<dyn Connector>> {
        self.listener.connector()
    }

    /// The beginning of a configuration for this server: its url, and its connector if it is in memory.
    pub fn config(&self) -> ConfigBuilder {
        let builder = Config::builder(self.url());
        match self.connector() {
            Some(connector) => builder.connector(connector),
            None => builder,
        }
    }

    /// How many connections came in. One that was refused has not.
    #[must_use]
    pub fn accepted(&self) -> u64 {
        self.listener.accepted()
    }

    /// What happened so far.
    #[must_use]
    pub fn log(&self) -> Vec<FaultEntry> {
        self.venue.log.entries()
    }

    /// How many connections the script has steps for.
    pub(super) fn planned(&self) -> u64 {
        self.venue.planned() as u64
    }

    /// Tells the number of the message sent last.
    pub(super) fn number(&self) -> impl Fn() -> u64 + Send + 'static + use<> {
        let venue = Arc::clone(&self.venue);
        move || venue.number()
    }

    /// Waits until every connection of the script has been played; `false` if it was not within `limit`. One whose
    /// last step does not end it counts when that step is over.
    pub async fn played(&self, limit: Duration) -> bool {
        let mut played = self.venue.played.subscribe();
        let planned = self.venue.planned();
        let all = played.wait_for(|played| *played >= planned);
        matches!(timeout(limit, all).await, Ok(Ok(_)))
    }

    /// Ends every connection without a word and returns when no task is left. Dropping the server does the same
    /// without waiting.
    pub async fn stop(mut self) {
        self.listener.stop().await;
    }
}
