//! What a pool is told once, before it starts.
//!
//! Apart from the pool because it is data, and read more often than the code that obeys it.
//!
//! Invariants: there is at least one attempt; a choice that is not made has the documented default.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use mainstay_supervisors::{Intensity, OnExhausted};

use super::member::Hooks;
use super::registry::{ConnectionId, Member, Registry};
use crate::protocol::health::Formula;
use crate::protocol::status::Why;
use crate::session::Session;
use crate::telemetry::Collector;

/// Yields the sessions that a pool chooses among, in place of its own registry.
///
/// Asked anew for each attempt, in the caller's own task: let it look something up and return. A function that
/// returns a list is one, and so is a [`Registry`].
pub trait Discovery: Send + Sync + 'static {
    /// The candidates. Those that are not live are passed over; should nobody be, they are waited for.
    fn candidates(&self) -> Vec<Member>;
}

impl<F: Fn() -> Vec<Member> + Send + Sync + 'static> Discovery for F {
    fn candidates(&self) -> Vec<Member> {
        self()
    }
}

impl Discovery for Registry {
    fn candidates(&self) -> Vec<Member> {
        self.list()
    }
}

/// How a [`Pool`](super::Pool) works.
#[derive(Clone)]
#[must_use = "give it to `Pool::start`"]
pub struct PoolSpec {
    pub(super) name: Arc<str>,
    pub(super) intensity: Intensity,
    pub(super) on_exhausted: OnExhausted,
    pub(super) max_attempts: u32,
    pub(super) request_timeout: Duration,
    pub(super) shutdown_timeout: Duration,
    pub(super) error_decay: Duration,
    pub(super) formula: Formula,
    pub(super) discovery: Option<Arc<dyn Discovery>>,
    pub(super) hooks: Hooks,
    pub(super) collectors: Vec<Arc<dyn Collector>>,
}

impl PoolSpec {
    /// A pool with the defaults that each method names.
    pub fn new() -> Self {
        Self {
            name: Arc::from("pool"),
            intensity: Intensity::new(10, Duration::from_secs(60)),
            on_exhausted: OnExhausted::Park,
            max_attempts: 3,
            request_timeout: Duration::from_secs(10),
            shutdown_timeout: Duration::from_secs(10),
            error_decay: Duration::from_secs(60),
            formula: Formula::default(),
            discovery: None,
            hooks: Hooks::default(),
            collectors: Vec::new(),
        }
    }

    /// Its name in events and in its tree. Default `pool`.
    pub fn name(mut self, name: impl Into<Arc<str>>) -> Self {
        self.name = name.into();
        self
    }

    /// How often sessions that have failed, all together, are made anew within a sliding window. Default 10 in
    /// 60 s. A lost connection is the session's own affair and never counts.
    pub fn intensity(mut self, intensity: Intensity) -> Self {
        self.intensity = intensity;
        self
    }

    /// What happens when that is not enough. Default [`OnExhausted::Park`]: the session that failed last
    /// leaves the pool and the others go on. By [`OnExhausted::Shutdown`] the whole pool ends, as in OTP.
    pub fn on_exhausted(mut self, choice: OnExhausted) -> Self {
        self.on_exhausted = choice;
        self
    }

    /// How many sessions are asked for one request at most. Default 3; 0 counts as 1.
    pub fn max_attempts(mut self, attempts: u32) -> Self {
        self.max_attempts = attempts.max(1);
        self
    }

    /// How long a request that has no deadline of its own may take, all attempts together. Default 10 s.
    pub fn request_timeout(mut self, limit: Duration) -> Self {
        self.request_timeout = limit;
        self
    }

    /// How long a shutdown may take in all, the requests that are still waited for included. Default 10 s.
    pub fn shutdown_timeout(mut self, limit: Duration) -> Self {
        self.shutdown_timeout = limit;
        self
    }

    /// How long after its latest error a session's errors are forgotten, all at once. Default 60 s.
    pub fn error_decay(mut self, decay: Duration) -> Self {
        self.error_decay = decay;
        self
    }

    /// What a score is made of. Default [`Formula::WithPressure`].
    pub fn formula(mut self, formula: Formula) -> Self {
        self.formula = formula;
        self
    }

    /// Whom to choose among, in place of the pool's own sessions.
    pub fn discovery(mut self, discovery: impl Discovery) -> Self {
        self.discovery = Some(Arc::new(discovery));
        self
    }

    /// Called each time that a session of the pool's own becomes live: at first, after every reconnect, and
    /// after every restart.
    ///
    /// Hooks of one session are called one after the other, each on a thread for blocking work. One that panics
    /// is reported and called again the next time.
    pub fn on_connect(
        mut self,
        hook: impl Fn(&ConnectionId, &Session) + Send + Sync + 'static,
    ) -> Self {
        self.hooks.on_connect = Some(Arc::new(hook));
        self
    }

    /// Called each time that a session of the pool's own ceases to be live, and told why; its end included.
    /// As for [`on_connect`](Self::on_connect).
    pub fn on_disconnect(
        mut self,
        hook: impl Fn(&ConnectionId, &Session, &Why) + Send + Sync + 'static,
    ) -> Self {
        self.hooks.on_disconnect = Some(Arc::new(hook));
        self
    }

    /// Hears the pool's own events. May be called several times. What happens in a session goes to the
    /// collectors of its own configuration.
    pub fn collector(mut self, collector: Arc<dyn Collector>) -> Self {
        self.collectors.push(collector);
        self
    }
}

impl Default for PoolSpec {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for PoolSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PoolSpec")
            .field("name", &self.name)
            .field("intensity", &self.intensity)
            .field("on_exhausted", &self.on_exhausted)
            .field("max_attempts", &self.max_attempts)
            .field("request_timeout", &self.request_timeout)
            .field("shutdown_timeout", &self.shutdown_timeout)
            .field("error_decay", &self.error_decay)
            .field("formula", &self.formula)
            .field("discovery", &self.discovery.is_some())
            .field("hooks", &self.hooks)
            .field("collectors", &self.collectors)
            .finish()
    }
}
