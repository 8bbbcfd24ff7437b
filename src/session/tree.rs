//! The tree of one session, and how the two reconnect layers follow from one value.
//!
//! Everything about *who restarts whom* stands here and nowhere else: child specs, strategies, the
//! judgement of an exit, and the wires between actors that must not know each other.
//!
//! ```text
//! session                      rest_for_one
//!  subscription_manager
//!  adapter                     only with a platform that establishes sessions
//!  connection                  rest_for_one; restarted under layer 2
//!     client
//!     transport                restarted under layer 1, or temporary and significant
//!     heartbeat_manager
//!  recorder                    only if the session is recorded; last, since nothing depends on it
//! ```
//!
//! Invariants: exactly one layer restarts after a lost connection; a lost connection books no restart
//! intensity, a panic does; what another attempt cannot cure ends the session with its true cause.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use mainstay_supervisors::backoff::Backoff;
use mainstay_supervisors::{
    Address, AutoShutdown, ChildSpec, ExitReason, Intensity, Restart, Shutdown, StartError,
    Strategy, SupervisorEvent, SupervisorEventKind, SupervisorSpec, Verdict,
};

use super::adapter::{Adapter, AdapterArguments, AdapterEvent, AdapterMessage};
use super::client::{Client, ClientArguments, ClientEvent, ClientMessage};
use super::connection::{Control, ControlSink};
use super::heartbeat_manager::{
    BACKLOG, HeartbeatArguments, HeartbeatEvent, HeartbeatManager, HeartbeatMessage,
};
use super::plane::Plane;
use super::recorder::{Recorder, RecorderArguments, RecorderMessage};
use super::spans::Traced;
use super::subscription_manager::{
    Doubt, SubscriptionArguments, SubscriptionManager, SubscriptionMessage,
};
use super::tape::Tape;
use super::transport::{
    Transport, TransportArguments, TransportEnd, TransportEvent, TransportMessage,
};
use super::{Sink, clock};
use crate::close::{CloseReason, GapCause};
use crate::config::{Config, Reconnect, ReconnectOwner};
use crate::error::Recovery;
use crate::hooks::Remedy;
use crate::platform::{MarketSignal, Platform};

/// Restarts after panics and faults of our own that a supervisor bears.
const RESTARTS: Intensity = Intensity {
    max_restarts: 5,
    within: Duration::from_secs(60),
};

/// The same for the connection's subtree. Intensities of nested supervisors multiply, so it is small.
const INNER_RESTARTS: Intensity = Intensity {
    max_restarts: 2,
    within: RESTARTS.within,
};

/// The longest wait for a Recorder that fails again and again.
const RECORDER_BACKOFF: Duration = Duration::from_secs(5);

/// The longest wait that a peer may ask of us.
const PATIENCE: Duration = Duration::from_secs(3600);

/// The addresses of a session's actors; they outlive every restart.
#[derive(Debug, Clone)]
pub(crate) struct Addresses {
    pub(crate) manager: Address<Traced<SubscriptionMessage>>,
    pub(crate) adapter: Option<Address<Traced<AdapterMessage>>>,
    pub(crate) client: Address<Traced<ClientMessage>>,
    pub(crate) transport: Address<Traced<TransportMessage>>,
    pub(crate) heartbeat: Address<Traced<HeartbeatMessage>>,
    pub(crate) recorder: Option<Address<RecorderMessage>>,
}

impl Addresses {
    /// Addresses of actors that have yet to start.
    pub(crate) fn new(with_adapter: bool, with_recorder: bool) -> Self {
        Self {
            manager: Address::new(),
            adapter: with_adapter.then(Address::new),
            client: Address::new(),
            transport: Address::new(),
            heartbeat: Address::new(),
            recorder: with_recorder.then(Address::new),
        }
    }
}

/// The tree of a session whose platform `P` establishes it, or which is live as soon as it is open.
pub(crate) fn session<P: Platform>(
    plane: &Arc<Plane>,
    platform: &Arc<P>,
    config: &Arc<Config>,
    addresses: &Addresses,
) -> SupervisorSpec {
    let mut tree = SupervisorSpec::new(Strategy::RestForOne)
        .name(platform.name())
        .intensity(RESTARTS)
        .observe(observer(plane, config))
        .child(subscription_manager(plane, config, addresses));
    if let Some(adapter) = &addresses.adapter {
        tree = tree.child(self::adapter(plane, platform, config, addresses, adapter));
    }
    let platform: Arc<dyn Platform> = Arc::clone(platform) as Arc<dyn Platform>;
    tree = tree.child(connection(plane, &platform, config, addresses));
    if let (Some(tape), Some(address)) = (&plane.tape, &addresses.recorder) {
        tree = tree.child(recorder(tape, address));
    }
    tree
}

/// A diagnostic: however often it fails, no intensity is booked, and nobody else is restarted.
fn recorder(tape: &Arc<Tape>, address: &Address<RecorderMessage>) -> ChildSpec {
    let woken = address.clone();
    tape.on_wake(move || woken.cast(RecorderMessage::Flush).is_ok());
    let tape = Arc::clone(tape);
    ChildSpec::actor("recorder", move |_| {
        let arguments = RecorderArguments {
            tape: Arc::clone(&tape),
        };
        Ok((Recorder, arguments))
    })
    .address(address)
    .shutdown(Shutdown::Timeout(Duration::from_secs(1)))
    .backoff(Backoff::new(Duration::from_millis(100), RECORDER_BACKOFF))
    .classify(|_| Verdict::Uncounted {
        stable: false,
        at_least: Duration::ZERO,
    })
}

fn subscription_manager(plane: &Arc<Plane>, config: &Config, addresses: &Addresses) -> ChildSpec {
    let restore = config.restore_subscriptions;
    let ladder = config.ladder.clone();
    let plane = Arc::clone(plane);
    let adapter = addresses.adapter.clone();
    let (client, heartbeat) = (addresses.client.clone(), addresses.heartbeat.clone());
    let doubts: Sink<Doubt> = Arc::new(move |doubt| {
        // Who is down has no connection that could be doubted.
        let _ = match doubt {
            Doubt::Probe(epoch) => heartbeat
                .cast(HeartbeatMessage::Probe(epoch).into())
                .is_ok(),
            Doubt::Abandon(epoch, reason) => client
                .cast(ClientMessage::Abandon(epoch, reason).into())
                .is_ok(),
        };
    });
    ChildSpec::actor("subscription_manager", move |_| {
        let arguments = SubscriptionArguments {
            plane: Arc::clone(&plane),
            adapter: adapter.clone(),
            restore,
            ladder: ladder.clone(),
            doubts: Arc::clone(&doubts),
        };
        Ok((SubscriptionManager, arguments))
    })
    .address(&addresses.manager)
}

fn adapter<P: Platform>(
    plane: &Arc<Plane>,
    platform: &Arc<P>,
    config: &Arc<Config>,
    addresses: &Addresses,
    address: &Address<Traced<AdapterMessage>>,
) -> ChildSpec {
    let (plane, platform, config) = (Arc::clone(plane), Arc::clone(platform), Arc::clone(config));
    let client = addresses.client.clone();
    let manager = addresses.manager.clone();
    let events: Sink<AdapterEvent> = Arc::new(move |event| {
        // A manager that is down takes this actor down with it.
        let _ = manager.cast(SubscriptionMessage::Adapter(event).into());
    });
    ChildSpec::actor("adapter", move |_| {
        let arguments = AdapterArguments {
            plane: Arc::clone(&plane),
            platform: Arc::clone(&platform),
            config: Arc::clone(&config),
            client: client.clone(),
            events: Arc::clone(&events),
        };
        Ok((Adapter::<P>::new(), arguments))
    })
    .address(address)
}

/// The connection's subtree. Its loss is layer 2's to repair, unless it is layer 1's.
fn connection(
    plane: &Arc<Plane>,
    platform: &Arc<dyn Platform>,
    config: &Arc<Config>,
    addresses: &Addresses,
) -> ChildSpec {
    let tree = SupervisorSpec::new(Strategy::RestForOne)
        .intensity(INNER_RESTARTS)
        .child(client(plane, addresses))
        .child(transport(plane, platform, config, addresses))
        .child(heartbeat_manager(plane, platform, config, addresses));
    let tree = match config.reconnect.owner {
        ReconnectOwner::Client => tree,
        ReconnectOwner::Adapter => tree.auto_shutdown(AutoShutdown::AnySignificant),
    };
    let (reconnect, judged) = (config.reconnect.clone(), Arc::clone(plane));
    ChildSpec::supervisor("connection", tree)
        .backoff(config.reconnect.backoff)
        .classify(move |reason| match reconnect.owner {
            ReconnectOwner::Adapter => judge(reason, &reconnect, &judged),
            // What layer 1 has given up is not begun again from here.
            ReconnectOwner::Client => match reason.downcast_ref::<TransportEnd>() {
                Some(_) => Verdict::Escalate,
                None => Verdict::Default,
            },
        })
}

fn client(plane: &Arc<Plane>, addresses: &Addresses) -> ChildSpec {
    let plane = Arc::clone(plane);
    let (transport, heartbeat) = (addresses.transport.clone(), addresses.heartbeat.clone());
    let established_above = addresses.adapter.is_some();
    let adapter = addresses.adapter.clone();
    let events: Sink<ClientEvent> = Arc::new(move |event| {
        if let Some(adapter) = &adapter {
            // An Adapter that is down takes this actor down with it.
            let _ = adapter.cast(AdapterMessage::Client(event).into());
        }
    });
    ChildSpec::actor("client", move |_| {
        let arguments = ClientArguments {
            plane: Arc::clone(&plane),
            transport: transport.clone(),
            heartbeat: heartbeat.clone(),
            established_above,
            events: Arc::clone(&events),
        };
        Ok((Client, arguments))
    })
    .address(&addresses.client)
}

/// Layer 1 restarts it; under layer 2 its end ends the connection's subtree.
fn transport(
    plane: &Arc<Plane>,
    platform: &Arc<dyn Platform>,
    config: &Arc<Config>,
    addresses: &Addresses,
) -> ChildSpec {
    let (plane, platform) = (Arc::clone(plane), Arc::clone(platform));
    let judged = Arc::clone(&plane);
    let client = addresses.client.clone();
    let events: Sink<TransportEvent> = Arc::new(move |event| {
        // A Client that is down takes this actor down with it.
        let _ = client.cast(ClientMessage::Transport(event).into());
    });
    let control = control_sink(addresses, &plane);
    let arguments = Arc::clone(config);
    let spec = ChildSpec::actor("transport", move |_| {
        if plane.is_over() {
            // A tree of the user's may start what has ended for good; it stays without a connection.
            return Err(StartError::Ignore);
        }
        let arguments = TransportArguments {
            plane: Arc::clone(&plane),
            platform: Arc::clone(&platform),
            config: Arc::clone(&arguments),
            control: Arc::clone(&control),
            events: Arc::clone(&events),
        };
        Ok((Transport, arguments))
    })
    .address(&addresses.transport)
    .shutdown(Shutdown::Timeout(Duration::from_secs(2)));
    let reconnect = config.reconnect.clone();
    match config.reconnect.owner {
        ReconnectOwner::Client => spec
            .restart(Restart::Permanent)
            .backoff(config.reconnect.backoff)
            .classify(move |reason| judge(reason, &reconnect, &judged)),
        // Its own end is not repaired here; but it comes back with a Client that was restarted, which
        // a temporary child would not.
        ReconnectOwner::Adapter => {
            spec.restart(Restart::Transient)
                .significant(true)
                .classify(|reason| match reason.downcast_ref::<TransportEnd>() {
                    Some(_) => Verdict::DontRestart,
                    None => Verdict::Default,
                })
        }
    }
}

fn heartbeat_manager(
    plane: &Arc<Plane>,
    platform: &Arc<dyn Platform>,
    config: &Arc<Config>,
    addresses: &Addresses,
) -> ChildSpec {
    let (plane, platform) = (Arc::clone(plane), Arc::clone(platform));
    let liveness = config.liveness;
    let client = addresses.client.clone();
    let events: Sink<HeartbeatEvent> = Arc::new(move |event| {
        // A Client that is down takes the connection down with it.
        let _ = client.cast(ClientMessage::Heartbeat(event).into());
    });
    let manager = addresses.manager.clone();
    let market: Sink<MarketSignal> = Arc::new(move |signal| {
        // A manager that is down takes this actor down with it.
        let _ = manager.cast(SubscriptionMessage::Market(signal).into());
    });
    ChildSpec::actor("heartbeat_manager", move |_| {
        let arguments = HeartbeatArguments {
            plane: Arc::clone(&plane),
            platform: Arc::clone(&platform),
            liveness,
            events: Arc::clone(&events),
            market: Arc::clone(&market),
        };
        Ok((HeartbeatManager, arguments))
    })
    .address(&addresses.heartbeat)
}

/// Bounds what the reader may put into the HeartbeatManager's mailbox, which has no bound of its own.
fn control_sink(addresses: &Addresses, plane: &Arc<Plane>) -> ControlSink {
    let heartbeat = addresses.heartbeat.clone();
    let plane = Arc::clone(plane);
    Arc::new(move |control: Control| {
        let backlog: &AtomicUsize = &plane.control_backlog;
        let taken = backlog.fetch_update(Ordering::AcqRel, Ordering::Acquire, |waiting| {
            (waiting < BACKLOG).then_some(waiting + 1)
        });
        if taken.is_err() {
            return false;
        }
        let handed = heartbeat
            .cast(HeartbeatMessage::Control(control).into())
            .is_ok();
        if !handed {
            let _ = backlog.fetch_update(Ordering::AcqRel, Ordering::Acquire, |waiting| {
                waiting.checked_sub(1)
            });
        }
        handed
    })
}

/// What an exit means for the layer that owns the connection.
fn judge(reason: &ExitReason, reconnect: &Reconnect, plane: &Plane) -> Verdict {
    let Some(end) = reason.downcast_ref::<TransportEnd>() else {
        return Verdict::Default;
    };
    if matches!(end.reason, CloseReason::Reconnect | CloseReason::FailBack) {
        // Asked for, so nothing is wrong and nothing is waited for beyond the first delay.
        return Verdict::Uncounted {
            stable: true,
            at_least: Duration::ZERO,
        };
    }
    let stable = reconnect.is_stable(end.live_for, end.data);
    // Data proves a connection before time does; then time still keeps the next attempt from coming at once.
    let at_least = match stable && !reconnect.was_long(end.live_for) {
        true => reconnect.backoff.min,
        false => Duration::ZERO,
    };
    let remedy = plane
        .hooks
        .as_ref()
        .map(|hooks| hooks.loss(&end.reason, stable));
    let never_live = end.live_for.is_none();
    if !reconnect.automatic
        || matches!(end.reason, CloseReason::Hook { ends: true, .. })
        || (never_live && plane.attempts_used_up(reconnect.backoff.max_attempts))
    {
        return Verdict::Escalate;
    }
    match remedy.unwrap_or_default() {
        Remedy::Usual => {}
        Remedy::Stop => return Verdict::Escalate,
        Remedy::RetryAfter(asked) => {
            return Verdict::Uncounted {
                stable,
                at_least: asked.min(PATIENCE),
            };
        }
    }
    match end.reason.recovery() {
        // Another endpoint may take us.
        Recovery::Stop if plane.places.remain_after(&end.reason) => {
            let at_least = plane.places.rest_left();
            Verdict::Uncounted { stable, at_least }
        }
        Recovery::Stop => Verdict::Escalate,
        Recovery::RetryAfter(asked) => {
            let at_least = match plane.places.several() {
                true => plane.places.rest_left(),
                false => asked.min(PATIENCE),
            };
            Verdict::Uncounted { stable, at_least }
        }
        Recovery::Retry | Recovery::Reauthenticate | Recovery::Reconcile => {
            Verdict::Uncounted { stable, at_least }
        }
    }
}

/// Hears of the whole tree: announces the gap before a failing actor's siblings are stopped, counts restarts, and
/// keeps what the supervisors say of their intensities.
fn observer(
    plane: &Arc<Plane>,
    config: &Arc<Config>,
) -> impl Fn(&SupervisorEvent) + Send + Sync + 'static {
    let plane = Arc::clone(plane);
    let owner = config.reconnect.owner;
    move |event| {
        let Some(child) = &event.child else {
            if let SupervisorEventKind::Ready = event.kind {
                plane.counters.supervised(event.path.as_str());
            }
            return;
        };
        match &event.kind {
            SupervisorEventKind::RestartPlanned {
                counted: true,
                window,
                ..
            } => {
                let (path, within) = (event.path.as_str(), RESTARTS.within);
                let now = clock::now();
                plane.counters.booked(path, *window, within, now);
            }
            SupervisorEventKind::ChildExited { reason, .. } => {
                let end = reason.downcast_ref::<TransportEnd>();
                let lost = end.is_some();
                // These are replaced without the connection being touched.
                let takes_the_connection =
                    !matches!(child.as_str(), "heartbeat_manager" | "recorder");
                if takes_the_connection && !lost && !reason.is_normal() {
                    plane.interrupt(&GapCause::ActorRestarted {
                        actor: child.to_string(),
                        reason: reason.to_string(),
                    });
                }
                let cause = end.map(|end| end.reason.label());
                match (owner, child.as_str(), cause) {
                    (ReconnectOwner::Client, "transport", Some(cause)) => {
                        plane.counters.reconnect_by_client(cause);
                    }
                    (ReconnectOwner::Adapter, "connection", Some(cause)) => {
                        plane.counters.reconnect_by_adapter(cause);
                    }
                    _ => {}
                }
            }
            SupervisorEventKind::ChildRestarted { .. } => plane.counters.restart(child.as_str()),
            _ => {}
        }
    }
}
