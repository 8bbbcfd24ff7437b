//! The Transport actor: one connection, from the first DNS question to the last byte.
//!
//! Its own actor because its life *is* the connection's: it starts with an attempt and ends with the
//! connection, and who starts the next one is a supervisor's affair. The socket lives in a task that
//! the actor owns; frames never pass through the actor's mailbox.
//!
//! Invariants: it alone touches a socket, serves one connection and never reconnects; its exit bears a
//! [`TransportEnd`] with the true reason; `pre_start` does not wait for the network.

use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef};
use tokio::sync::OwnedSemaphorePermit;
use tracing::{Instrument, Span};

use super::connection::{Connection, ControlSink, Limits};
#[cfg(feature = "fast-wire")]
use super::dial::fast;
use super::dial::{dial, web_socket, within};
use super::fail_back::fail_back;
use super::handshake::Handshake;
use super::line::Outbound;
use super::plane::Plane;
use super::spans::{Traced, of_the_start};
use super::task::OwnedTask;
use super::{Sink, clock, lock};
use crate::close::CloseReason;
use crate::config::{Config, WireBackend};
use crate::error::{ConnectError, Phase};
use crate::platform::Platform;
use crate::protocol::breaker::Outcome;
use crate::protocol::continuity::Epoch;
use crate::telemetry::TelemetryEvent;

/// How long a graceful stop waits for the peer's close frame.
const FAREWELL: Duration = Duration::from_millis(1500);

/// Serves one connection.
#[derive(Debug)]
pub(crate) struct Transport;

/// What a Transport is told to do, and what its task reports to it.
#[derive(Debug)]
pub(crate) enum TransportMessage {
    /// Seek the connection.
    Begin,
    /// From the task: it is open.
    Opened(Epoch),
    /// From the task: it is over.
    Ended(CloseReason),
    /// From the task: it panicked.
    Crashed(String),
    /// Give the connection up at once, for this reason.
    Abort(CloseReason),
    /// Panic, to show what happens then.
    #[cfg(feature = "testing")]
    Crash,
}

mainstay_supervisors::message!(Traced<TransportMessage>);

/// What a Transport reports upward.
#[derive(Debug, Clone)]
pub(crate) enum TransportEvent {
    /// It has begun to seek a connection; who wants to know of its end monitors this cell.
    Started(ActorCell),
    /// The connection is open.
    Opened(Epoch),
    /// The connection is over, or was never opened.
    Closed(CloseReason),
}

/// How a Transport ends: the error with which the actor exits.
///
/// Supervisors judge a loss by it, so it holds what that takes.
#[derive(Clone, thiserror::Error)]
#[error("connection ended: {}", reason.without_peers_words())]
#[non_exhaustive]
pub struct TransportEnd {
    /// Why the connection ended.
    pub reason: CloseReason,
    /// How long the session had been live on it; `None` if it never was.
    pub live_for: Option<Duration>,
    /// Whether a message for a subscription came, or an answer while it was live.
    pub data: bool,
}

/// Without a peer's own words, as in its text: a tree shows it to whoever looks.
impl fmt::Debug for TransportEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TransportEnd")
            .field(
                "reason",
                &format_args!("{}", self.reason.without_peers_words()),
            )
            .field("live_for", &self.live_for)
            .field("data", &self.data)
            .finish()
    }
}

/// The connection's task panicked: a bug of ours.
#[derive(Debug, thiserror::Error)]
#[error("connection task panicked: {0}")]
struct Crashed(String);

/// What a Transport is made of.
pub(crate) struct TransportArguments {
    pub(crate) plane: Arc<Plane>,
    pub(crate) platform: Arc<dyn Platform>,
    pub(crate) config: Arc<Config>,
    pub(crate) control: ControlSink,
    pub(crate) events: Sink<TransportEvent>,
}

/// What it remembers.
pub(crate) struct TransportState {
    arguments: TransportArguments,
    /// Set by `Begin`.
    task: Option<OwnedTask>,
    /// Set when the connection opens.
    epoch: Option<Epoch>,
    /// The supervisor's span around the start. Set before `Begin` comes, and cleared by it.
    start: Span,
}

#[cfg_attr(feature = "async-trait", ractor::async_trait)]
impl Actor for Transport {
    type Msg = Traced<TransportMessage>;
    type State = TransportState;
    type Arguments = TransportArguments;

    async fn pre_start(
        &self,
        myself: ActorRef<Self::Msg>,
        arguments: Self::Arguments,
    ) -> Result<Self::State, ActorProcessingErr> {
        myself.cast(TransportMessage::Begin.into())?;
        Ok(TransportState {
            arguments,
            task: None,
            epoch: None,
            start: Span::none(),
        })
    }

    async fn post_start(
        &self,
        _myself: ActorRef<Self::Msg>,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        state.start = of_the_start();
        Ok(())
    }

    async fn handle(
        &self,
        myself: ActorRef<Self::Msg>,
        message: Self::Msg,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        let (message, span) = message.open(&state.arguments.plane, "transport", &myself);
        let _within = span.enter();
        match message {
            TransportMessage::Begin if state.arguments.plane.is_given_up() => Ok(()),
            TransportMessage::Begin => {
                (state.arguments.events)(TransportEvent::Started(myself.get_cell()));
                let plane = &state.arguments.plane;
                let start = std::mem::replace(&mut state.start, Span::none());
                let place = match &plane.gate {
                    Some(gate) => gate.choose(&plane.places),
                    None => plane.places.choose(|_| None),
                };
                let session = plane.reporter.name();
                plane.spans.attempt(session, &place.endpoint, &start);
                plane.connecting();
                state.task = Some(OwnedTask::spawn(state.serve(myself)));
                Ok(())
            }
            TransportMessage::Opened(epoch) => {
                state.epoch = Some(epoch);
                (state.arguments.events)(TransportEvent::Opened(epoch));
                Ok(())
            }
            TransportMessage::Ended(reason) => Err(state.end(reason)),
            TransportMessage::Abort(reason) => {
                if let Some(epoch) = state.epoch {
                    state.arguments.plane.closed(epoch, &reason);
                }
                state.task = None;
                Err(state.end(reason))
            }
            #[cfg(feature = "testing")]
            TransportMessage::Crash => panic!("the transport was told to panic"),
            TransportMessage::Crashed(panic) => Err(Box::new(Crashed(panic))),
        }
    }

    async fn post_stop(
        &self,
        _myself: ActorRef<Self::Msg>,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        let line = state.arguments.plane.line();
        if let (Some(line), Some(task)) = (line, &mut state.task) {
            let chosen = lock(&state.arguments.plane.farewell).clone();
            // 1001, "going away" (RFC 6455, section 7.4.1): this endpoint stops.
            let (code, reason) = chosen.unwrap_or_else(|| (1001, "shutting down".to_owned()));
            let close = Outbound::Close {
                code,
                reason: reason.clone(),
                cause: CloseReason::Local { reason },
            };
            if line.urgent.try_send(close).is_ok() {
                // A peer that does not answer does not hold us up.
                let _ = tokio::time::timeout(FAREWELL, task.finished()).await;
            }
        }
        Ok(())
    }
}

impl TransportState {
    /// The task that dials and then serves the connection.
    fn serve(
        &self,
        myself: ActorRef<Traced<TransportMessage>>,
    ) -> impl Future<Output = ()> + Send + 'static {
        let plane = Arc::clone(&self.arguments.plane);
        let platform = Arc::clone(&self.arguments.platform);
        let config = Arc::clone(&self.arguments.config);
        let control = Arc::clone(&self.arguments.control);
        let actor = myself.clone();
        let serve = async move {
            let admitted = admit(&plane, &config).await;
            let endpoint = &plane.places.present().endpoint;
            let opened = match &admitted {
                Err(error) => Err(error.clone()),
                Ok(_permit) => {
                    let dialing = plane.spans.dialing();
                    // Boxed, as the connection is below: each is there only while it runs, and what holds them is
                    // moved about as it is spawned.
                    Box::pin(dial(&config, endpoint).instrument(dialing)).await
                }
            };
            let reason = match opened {
                Err(error) => {
                    let error = plane.secrets.clean_refusal(error);
                    let reason = CloseReason::NotOpened(Arc::new(error));
                    plane.not_opened(&reason);
                    reason
                }
                Ok(dialed) => {
                    let limits = Limits {
                        write: config.write_timeout,
                        first_data: config.limits.first_data,
                        batch_spans: config.batch_spans,
                    };
                    let capacity = config.outbound_capacity;
                    plane.keep_handshake(Handshake {
                        peer: dialed.peer,
                        headers: dialed.response_headers.clone(),
                        dns: dialed.timings.dns,
                        tcp: dialed.timings.tcp,
                        tls: dialed.timings.tls,
                        upgrade: dialed.timings.upgrade,
                    });
                    plane.report(&TelemetryEvent::Upgraded {
                        host: endpoint.host(),
                        port: endpoint.port(),
                        dns: dialed.timings.dns,
                        tcp: dialed.timings.tcp,
                        tls: dialed.timings.tls,
                        upgrade: dialed.timings.upgrade,
                    });
                    let (here, told) = (Arc::clone(&plane), Arc::clone(&config));
                    let returning = move |epoch| {
                        let after = told.reconnect.fail_back_after?;
                        let wanted = told.reconnect.automatic && here.places.is_lesser();
                        wanted.then(|| OwnedTask::spawn(fail_back(here, told, epoch, after)))
                    };
                    let opened = |epoch| {
                        // If the actor is gone, so will this task be at its next await.
                        let _ = actor.cast(TransportMessage::Opened(epoch).into());
                    };
                    match config.wire {
                        #[cfg(feature = "fast-wire")]
                        WireBackend::Fast => {
                            let wire = fast(dialed, &config);
                            let plane = Arc::clone(&plane);
                            let connection =
                                Connection::open(wire, plane, platform, control, limits, capacity);
                            opened(connection.epoch());
                            let _returning = returning(connection.epoch());
                            Box::pin(connection.run()).await
                        }
                        #[cfg(not(feature = "fast-wire"))]
                        WireBackend::Fast => unbuilt(),
                        WireBackend::Tungstenite => {
                            let wire = web_socket(dialed, &config);
                            let plane = Arc::clone(&plane);
                            let connection =
                                Connection::open(wire, plane, platform, control, limits, capacity);
                            opened(connection.epoch());
                            let _returning = returning(connection.epoch());
                            Box::pin(connection.run()).await
                        }
                    }
                }
            };
            let _ = actor.cast(TransportMessage::Ended(reason).into());
        };
        async move {
            if let Err(panic) = AssertUnwindSafe(serve).catch_unwind().await {
                let _ = myself.cast(TransportMessage::Crashed(panic_text(&*panic)).into());
            }
        }
    }

    fn end(&mut self, reason: CloseReason) -> ActorProcessingErr {
        let live_since = self.arguments.plane.take_live_since();
        let live_for = live_since.map(|since| clock::now().saturating_duration_since(since));
        let data = self.arguments.plane.had_data();
        if let Some(pass) = lock(&self.arguments.plane.pass).take() {
            pass.end(self.outcome(&reason, live_for, data));
        }
        (self.arguments.events)(TransportEvent::Closed(reason.clone()));
        Box::new(TransportEnd {
            reason,
            live_for,
            data,
        })
    }
}

/// Waits until this connection may be the only one, and until the gate lets it pass.
async fn admit(plane: &Arc<Plane>, config: &Config) -> Result<OwnedSemaphorePermit, ConnectError> {
    // The predecessor's socket is closed when its permit comes free.
    let limit = config.shutdown_timeout;
    let permit = async {
        let permit = Arc::clone(&plane.socket).acquire_owned().await;
        // Nobody closes the semaphore.
        permit.map_err(|_| ConnectError::Timeout {
            phase: Phase::Socket,
            limit,
        })
    };
    let permit = within(Phase::Socket, limit, permit).await?;
    if let Some(gate) = &plane.gate {
        let before = plane.places.present();
        let pass = async { Ok(gate.enter(&plane.reporter, &plane.places).await) };
        let pass = within(Phase::Gate, config.limits.gate, pass).await?;
        *lock(&plane.pass) = Some(pass);
        let place = plane.places.present();
        if !std::ptr::eq(before, place) {
            plane.spans.redirect(&place.endpoint);
        }
    }
    if let Some(moved) = plane.places.begin() {
        plane.report(&TelemetryEvent::EndpointChanged {
            endpoint: &moved.to,
            previous: &moved.from,
            score: moved.score,
            why: moved.why,
        });
    }
    Ok(permit)
}

/// A configuration says so before anything is started.
#[cfg(not(feature = "fast-wire"))]
fn unbuilt() -> CloseReason {
    CloseReason::Local {
        reason: "wire \"fast\" needs the feature fast-wire".to_owned(),
    }
}

impl TransportState {
    /// What the end says about the peer.
    fn outcome(&self, reason: &CloseReason, live_for: Option<Duration>, data: bool) -> Outcome {
        let stable = self.arguments.config.reconnect.is_stable(live_for, data);
        match reason {
            CloseReason::Local { .. }
            | CloseReason::Reconnect
            | CloseReason::FailBack
            | CloseReason::Hook { .. } => Outcome::GivenUp,
            _ if stable => Outcome::Stable,
            CloseReason::Peer { .. }
            | CloseReason::Eof
            | CloseReason::Io { .. }
            | CloseReason::Protocol { .. }
            | CloseReason::TooBig { .. }
            | CloseReason::NotUtf8
            | CloseReason::Silent { .. }
            | CloseReason::Mute { .. }
            | CloseReason::WriteStalled { .. }
            | CloseReason::NotOpened(_)
            | CloseReason::NotEstablished { .. } => Outcome::Failed,
            // A fault of our own.
            CloseReason::ActorEnded { .. } => Outcome::GivenUp,
        }
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    if let Some(text) = panic.downcast_ref::<&str>() {
        (*text).to_owned()
    } else if let Some(text) = panic.downcast_ref::<String>() {
        text.clone()
    } else {
        "a panic without a text".to_owned()
    }
}
