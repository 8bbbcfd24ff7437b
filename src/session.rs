//! One supervised session: its actors, its data plane, and the handle that a user holds.
//!
//! Start here: `Session::start` for a session with a venue's platform, `Client::connect` for a bare
//! connection (both in `start`). Behind the handle stands a supervision tree (`tree`), beside it the data plane
//! (`plane`), on which frames travel without crossing a mailbox.
//!
//! Invariants: the handle stays valid through every restart; the last handle's drop ends a session that
//! owns its tree; no data frame passes through an actor.

mod adapter;
mod attempt;
mod batch;
mod callers;
mod calling;
mod client;
pub(crate) mod clock;
mod connection;
mod dial;
pub(crate) mod endpoints;
mod fail_back;
pub(crate) mod gate;
pub(crate) mod hand_over;
pub(crate) mod handshake;
mod heartbeat_manager;
pub(crate) mod hooked;
pub(crate) mod inspect;
mod invoke;
mod lane;
mod life;
pub(crate) mod limiter;
mod line;
pub(crate) mod metrics;
pub(crate) mod observe;
mod outbox;
mod pending;
mod place;
pub(crate) mod plane;
mod port;
pub(crate) mod probe;
mod recorder;
pub(crate) mod reporter;
mod request;
#[cfg(any(feature = "otel", feature = "prometheus"))]
pub(crate) mod roster;
mod routes;
mod secrets;
mod send;
pub(crate) mod sharing;
mod spans;
pub(crate) mod spec;
pub(crate) mod start;
pub(crate) mod statistics;
mod subscribe;
mod subscriber;
pub(crate) mod subscription;
mod subscription_manager;
mod tap;
pub(crate) mod tape;
pub(crate) mod task;
pub(crate) mod transport;
mod tree;
pub(crate) mod vitals;
mod wire;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mainstay_supervisors::{Root, ShutdownPlan, ShutdownReport, SupervisorRef, TreeSnapshot};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use tokio::sync::watch;
use tracing::Span;

use crate::config::Config;
use crate::error::{DecodeError, EndReason, Kept, NotSentCause, Recovery, RequestError};
use crate::frame::Frame;
use crate::hooks::Admission;
use crate::platform::Platform;
use crate::protocol::call::Call;
use crate::protocol::latency::RecentLatency;
use crate::protocol::venue_time::VenueTime;
use adapter::AdapterMessage;
use calling::Calling;
use clock::from_now;
use gate::Gate;
use handshake::Handshake;
use hooked::HookStatistics;
use limiter::Limiter;
use metrics::Metrics;
use plane::{Plane, SessionState};
use request::{Term, Way};
use statistics::Statistics;
use tape::RecordingStatistics;
use task::OwnedTask;
use tree::Addresses;

/// Takes an actor's reports to whoever stands above, without either knowing the other.
pub(crate) type Sink<E> = Arc<dyn Fn(E) + Send + Sync>;

/// A supervised session. Cheap to clone; all clones are the same session.
///
/// It stays valid through every reconnect and restart. When the last clone is dropped the tree is
/// killed, unless it is the user's own ([`Session::supervised`]); call [`Session::shutdown`] first for a closing handshake.
#[derive(Clone)]
pub struct Session {
    shared: Arc<Shared>,
}

struct Shared {
    plane: Arc<Plane>,
    platform: Arc<dyn Platform>,
    config: Arc<Config>,
    addresses: Addresses,
    /// The tree, if this session owns it. Taken by nobody: its drop ends the tree.
    root: Mutex<Option<Root>>,
    /// Ends the plane when the tree has ended.
    _watcher: Mutex<Option<OwnedTask>>,
}

impl Drop for Shared {
    fn drop(&mut self) {
        // The tree is killed with its root; nobody else is left to tell the subscriptions. A tree of the
        // user's own goes on, and so do they.
        if lock(&self.root).is_some() {
            self.plane.end(&EndReason::Shutdown);
        }
    }
}

/// An actor of a session, for showing what happens when it fails.
#[cfg(feature = "testing")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Part {
    /// The Client.
    Client,
    /// The Adapter.
    Adapter,
    /// The SubscriptionManager.
    SubscriptionManager,
    /// The Transport.
    Transport,
    /// The HeartbeatManager.
    HeartbeatManager,
    /// The Recorder, if the session is recorded.
    Recorder,
}

impl Session {
    /// Sends a request and reads its result as `R`, within the configured request timeout.
    ///
    /// While the session is not live it waits for that, up to the same deadline and within the bounds of
    /// [`Config::offline`]; it is written at most once and never repeated. What waits is written in the order of its
    /// coming.
    ///
    /// # Errors
    ///
    /// [`RequestError`] says whether it was answered, not sent, or of unknown fate.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future withdraws a request that has not been written; one that has is forgotten.
    pub async fn request<R: DeserializeOwned>(
        &self,
        method: impl Into<std::borrow::Cow<'static, str>>,
        params: &impl Serialize,
    ) -> Result<R, RequestError> {
        let call = Call::new(method, params).map_err(|error| self.failed_request(error))?;
        let method = call.method().to_owned();
        let result = self.call(call, self.shared.config.request_timeout).await?;
        serde_json::from_str(result.get()).map_err(|error| {
            let json = result.get().as_bytes();
            let source = DecodeError::json_as::<R>("result", json, &error);
            // A member may bear any name.
            let source = self.shared.plane.secrets.clean_decoding(source);
            self.failed_request(RequestError::Undecodable { method, source })
        })
    }

    /// Sends a call and returns its result unparsed, within `limit`.
    ///
    /// # Errors
    ///
    /// As [`Session::request`].
    pub fn call(
        &self,
        call: Call,
        limit: Duration,
    ) -> impl Future<Output = Result<Box<RawValue>, RequestError>> + Send {
        Calling::new(self, call, limit, None)
    }

    /// Whether the user's hook lets it pass free of charge.
    fn is_free(&self, call: &Call) -> Result<bool, RequestError> {
        let hooks = self.shared.plane.hooks.as_ref();
        match hooks.map(|hooks| hooks.admit(call)).unwrap_or_default() {
            Admission::Usual => Ok(false),
            Admission::Free => Ok(true),
            Admission::Refuse(why) => {
                // One of a batch is the reason of all.
                let method = call.method();
                let detail = format!("{method} was refused by the rate limit hook: {why}");
                Err(Kept::new(NotSentCause::Hook, detail).of(method))
            }
        }
    }

    /// An error on its way to the caller.
    fn failed_request(&self, error: RequestError) -> RequestError {
        self.shared.plane.failed("request", error.explain().code);
        if let Some(hooks) = &self.shared.plane.hooks {
            hooks.request_failed(&error);
        }
        error
    }

    async fn ask(
        &self,
        way: Way<'_>,
        call: Call,
        free: bool,
        term: Term,
        span: &Span,
    ) -> Result<Box<RawValue>, RequestError> {
        let method = call.name();
        let plane = &self.shared.plane;
        let toll = request::toll(plane, &*self.shared.platform, &call).filter(|_| !free);
        let answer = request::perform(plane, way, toll, call, term, span).await?;
        self.read(&method, &answer)
    }

    /// The result in an answer to `method`; heeds what the venue says when there is none.
    fn read(&self, method: &str, answer: &Frame) -> Result<Box<RawValue>, RequestError> {
        let platform = &*self.shared.platform;
        match platform.decode(answer.payload()) {
            Ok(Ok(result)) => Ok(result),
            Ok(Err(error)) => {
                let error = self.shared.plane.secrets.clean_error(error);
                request::heed(&self.shared.plane, platform, &error);
                if platform.recovery(&error) == Recovery::Reauthenticate {
                    self.unauthorized(error.to_string());
                }
                let method = method.to_owned();
                Err(RequestError::Answered { method, error })
            }
            Err(source) => {
                let source = self.shared.plane.secrets.clean_decoding(source);
                let method = method.to_owned();
                Err(RequestError::Undecodable { method, source })
            }
        }
    }

    /// Sends a frame as it is and waits until it has been written.
    ///
    /// # Errors
    ///
    /// [`RequestError::NotSent`], [`RequestError::Unknown`], or [`RequestError::Unencodable`] for a
    /// control frame that RFC 6455 does not allow (sections 5.5 and 7.4).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future withdraws a frame that has not been written.
    pub async fn send(&self, frame: Frame) -> Result<(), RequestError> {
        let sent = self.try_send(frame).await;
        sent.map_err(|error| self.failed_request(error))
    }

    async fn try_send(&self, frame: Frame) -> Result<(), RequestError> {
        frame.check().map_err(|detail| RequestError::Unencodable {
            method: "frame".to_owned(),
            detail,
        })?;
        let limit = self.shared.config.request_timeout;
        let deadline = from_now(limit);
        let way = Way::WhenLive(self);
        request::send(&self.shared.plane, way, frame, limit, deadline).await
    }

    fn unauthorized(&self, detail: String) {
        if let Some(adapter) = &self.shared.addresses.adapter {
            // An Adapter that is down authenticates afresh when it is back.
            let _ = adapter.cast(AdapterMessage::Unauthorized(detail).into());
        }
    }

    /// Its configuration, the platform's defaults included. `explain` says who set what.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.shared.config
    }

    /// What the session is doing now.
    #[must_use]
    pub fn state(&self) -> SessionState {
        self.shared.plane.watch_state().borrow().clone()
    }

    /// Follows what the session is doing; only the latest state is kept.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<SessionState> {
        self.shared.plane.watch_state()
    }

    /// Waits until the session is live.
    ///
    /// # Errors
    ///
    /// The reason, if it is over for good. It waits as long as that takes; cancel safe.
    pub async fn live(&self) -> Result<(), EndReason> {
        let mut state = self.shared.plane.watch_state();
        let settled = state
            .wait_for(|state| matches!(state, SessionState::Live { .. } | SessionState::Ended(_)))
            .await;
        match settled.ok().as_deref() {
            Some(SessionState::Ended(reason)) => Err(reason.clone()),
            Some(_) => Ok(()),
            None => Err(EndReason::Shutdown),
        }
    }

    /// Waits until the session is over for good, and says why. Cancel safe.
    pub async fn ended(&self) -> EndReason {
        let mut state = self.shared.plane.watch_state();
        let ended = state
            .wait_for(|state| matches!(state, SessionState::Ended(_)))
            .await;
        match ended.ok().as_deref() {
            Some(SessionState::Ended(reason)) => reason.clone(),
            _ => EndReason::Shutdown,
        }
    }

    /// How the present connection was opened, or the last one; `None` before the first.
    #[must_use]
    pub fn handshake(&self) -> Option<Arc<Handshake>> {
        self.shared.plane.handshake()
    }

    /// How far the venue's clock is from ours, where the platform knows how to ask: measured on every new
    /// connection and every so often while the session is live. `None` before the first measurement.
    #[must_use]
    pub fn venue_time(&self) -> Option<VenueTime> {
        self.shared.plane.venue_time()
    }

    /// What the session has counted so far.
    #[must_use]
    pub fn statistics(&self) -> Statistics {
        Statistics {
            offline: self.shared.plane.outbox.status(),
            ..self.shared.plane.counters.snapshot()
        }
    }

    /// What the session's events have come to so far, by name. [`Config::builder`] takes further collectors.
    #[must_use]
    pub fn metrics(&self) -> Metrics {
        self.shared.plane.reporter.metrics.snapshot()
    }

    /// How long the latest requests took, as many as [`latency_window`](Config::latency_window) says; `None` before
    /// the first answer.
    #[must_use]
    pub fn latency(&self) -> Option<RecentLatency> {
        self.shared.plane.counters.recent_requests()
    }

    /// What has become of the user's hooks; `None` where there are none.
    #[must_use]
    pub fn hooks(&self) -> Option<HookStatistics> {
        let hooks = self.shared.plane.hooks.as_ref()?;
        Some(hooks.statistics())
    }

    /// The limiter that its requests pass through; `None` if nothing is limited. Its `status` tells tokens,
    /// queue, pressure and the suggested delay.
    #[must_use]
    pub fn limiter(&self) -> Option<&Limiter> {
        self.shared.plane.limiter.as_ref()
    }

    /// The gate that its attempts to connect pass; `None` if they need not. Its `status` tells the breaker's state
    /// and how many wait.
    #[must_use]
    pub fn gate(&self) -> Option<&Gate> {
        self.shared.plane.gate.as_ref()
    }

    /// What the session's recording has come to; `None` if it is not recorded.
    #[must_use]
    pub fn recording(&self) -> Option<RecordingStatistics> {
        self.shared
            .plane
            .tape
            .as_ref()
            .map(|tape| tape.statistics())
    }

    /// Writes now what of the recording has yet to be written, and says what it has come to; `None` if the
    /// session is not recorded. Dropping the future does not stop the write.
    pub async fn flush_recording(&self) -> Option<RecordingStatistics> {
        let tape = Arc::clone(self.shared.plane.tape.as_ref()?);
        let flushing = Arc::clone(&tape);
        // A write that panics has been counted by nobody; the Recorder will meet it again.
        let _ = tokio::task::spawn_blocking(move || flushing.flush()).await;
        Some(tape.statistics())
    }

    /// The supervision tree as it is now; `None` if the session's tree is the user's own. [`Session::inspect`] has it
    /// together with everything else.
    pub async fn tree(&self) -> Option<TreeSnapshot> {
        let supervisor = self.supervisor()?;
        Some(supervisor.snapshot().await)
    }

    /// Ends the session: closing handshake, then the actors in reverse order, within the configured
    /// shutdown timeout. Later calls wait for the first one's end.
    ///
    /// A session whose tree is the user's own ends with that tree; this then does nothing and returns
    /// `None`.
    pub async fn shutdown(&self) -> Option<ShutdownReport> {
        let supervisor = self.supervisor()?;
        let plan = ShutdownPlan::within(self.shared.config.shutdown_timeout);
        self.shared.plane.leave();
        let report = supervisor.shutdown(plan).await;
        self.shared.plane.end(&EndReason::Shutdown);
        self.flush_recording().await;
        Some(report)
    }

    /// The root of its tree; `None` if that is the user's own.
    pub(crate) fn supervisor(&self) -> Option<SupervisorRef> {
        lock(&self.shared.root)
            .as_ref()
            .map(|root| SupervisorRef::clone(root))
    }

    /// Makes one of the session's actors panic, to show what happens then.
    #[cfg(feature = "testing")]
    pub fn crash(&self, part: Part) {
        let addresses = &self.shared.addresses;
        // One that is down cannot be made to panic.
        let _ = match part {
            Part::Client => addresses
                .client
                .cast(client::ClientMessage::Crash.into())
                .is_ok(),
            Part::Adapter => addresses
                .adapter
                .as_ref()
                .is_some_and(|adapter| adapter.cast(AdapterMessage::Crash.into()).is_ok()),
            Part::SubscriptionManager => addresses
                .manager
                .cast(subscription_manager::SubscriptionMessage::Crash.into())
                .is_ok(),
            Part::Transport => addresses
                .transport
                .cast(transport::TransportMessage::Crash.into())
                .is_ok(),
            Part::HeartbeatManager => addresses
                .heartbeat
                .cast(heartbeat_manager::HeartbeatMessage::Crash.into())
                .is_ok(),
            Part::Recorder => addresses
                .recorder
                .as_ref()
                .is_some_and(|recorder| recorder.cast(recorder::RecorderMessage::Crash).is_ok()),
        };
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("platform", &self.shared.platform.name())
            .field("endpoint", &self.shared.plane.places.present().endpoint)
            .field("state", &self.state())
            .finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
