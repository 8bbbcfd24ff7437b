//! The HeartbeatManager actor: keeps one connection honest about being alive.
//!
//! Its own actor because it must act while everything else is busy: it answers the venue's heartbeats,
//! pings when nothing arrives, unless the configuration switched that off, and reports a loss. It decides nothing about the connection; the Client
//! does.
//!
//! Invariants: one instance per connection; a heartbeat goes out by the urgent queue, past any crowd of
//! requests; what the reader hands over is bounded and shed beyond that.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use ractor::{Actor, ActorProcessingErr, ActorRef};

use super::connection::Control;
use super::limiter::Queued;
use super::line::{Line, Outbound};
use super::plane::Plane;
use super::port::{Reply, ReplyPort};
use super::spans::Traced;
use super::task::OwnedTask;
use super::vitals::HeartbeatHealth;
use super::{Sink, clock, lock, request};
use crate::config;
use crate::config::limits::Lane;
use crate::frame::Frame;
use crate::platform::{MarketSignal, Platform};
use crate::protocol::continuity::Epoch;
use crate::protocol::liveness::{Liveness, LivenessAction};
use crate::protocol::recording::Mark;
use crate::telemetry::TelemetryEvent;

/// Control frames that may wait for the actor.
pub(crate) const BACKLOG: usize = 256;
/// Answers to the venue's heartbeats whose own answers may be outstanding.
const ANSWERS: usize = 16;

/// Watches one connection.
#[derive(Debug)]
pub(crate) struct HeartbeatManager;

/// What a HeartbeatManager is told.
#[derive(Debug)]
pub(crate) enum HeartbeatMessage {
    /// From itself: look whether a connection is open already.
    Begin,
    /// The connection of this epoch is open: watch it.
    Watch(Epoch),
    /// From the reader.
    Control(Control),
    /// Somebody doubts that the connection of this epoch lives: probe it.
    Probe(Epoch),
    /// From its own timer.
    Tick,
    /// Panic, to show what happens then.
    #[cfg(feature = "testing")]
    Crash,
}

mainstay_supervisors::message!(Traced<HeartbeatMessage>);

/// What a HeartbeatManager reports.
#[derive(Debug, Clone, Copy)]
pub(crate) enum HeartbeatEvent {
    /// Nothing has arrived for this long, and a ping went unanswered.
    Silent {
        /// The connection's epoch.
        epoch: Epoch,
        /// How long.
        quiet: Duration,
    },
}

/// What a HeartbeatManager is made of.
pub(crate) struct HeartbeatArguments {
    pub(crate) plane: Arc<Plane>,
    pub(crate) platform: Arc<dyn Platform>,
    pub(crate) liveness: config::Liveness,
    pub(crate) events: Sink<HeartbeatEvent>,
    /// Where the venue's word about its market goes.
    pub(crate) market: Sink<MarketSignal>,
}

/// What it remembers.
pub(crate) struct HeartbeatState {
    arguments: HeartbeatArguments,
    /// Set when a connection is watched.
    watched: Option<Watched>,
    /// The only timer, and when it rings; replaced when the machine asks for an earlier time.
    timer: Option<(Instant, OwnedTask)>,
    /// Kept so that the answers' requests are not taken for abandoned.
    answers: VecDeque<(Reply, Option<Queued>)>,
    /// The last ping; one that has not been written is withdrawn by the next.
    ping: Option<(Reply, Option<Queued>)>,
}

struct Watched {
    epoch: Epoch,
    /// `None` if silence is not looked for.
    liveness: Option<Liveness>,
}

#[cfg_attr(feature = "async-trait", ractor::async_trait)]
impl Actor for HeartbeatManager {
    type Msg = Traced<HeartbeatMessage>;
    type State = HeartbeatState;
    type Arguments = HeartbeatArguments;

    async fn pre_start(
        &self,
        myself: ActorRef<Self::Msg>,
        arguments: Self::Arguments,
    ) -> Result<Self::State, ActorProcessingErr> {
        // Whatever was handed to a predecessor died with its mailbox.
        arguments.plane.control_backlog.store(0, Ordering::Release);
        // The Client tells of a connection that opens, and reaches nobody before this actor has started.
        myself.cast(HeartbeatMessage::Begin.into())?;
        Ok(HeartbeatState {
            arguments,
            watched: None,
            timer: None,
            answers: VecDeque::new(),
            ping: None,
        })
    }

    async fn handle(
        &self,
        myself: ActorRef<Self::Msg>,
        message: Self::Msg,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        let (message, span) = message.open(&state.arguments.plane, "heartbeat_manager", &myself);
        let _within = span.enter();
        match message {
            HeartbeatMessage::Begin => {
                if let Some(epoch) = state.arguments.plane.open_epoch() {
                    state.watch(epoch);
                }
            }
            HeartbeatMessage::Watch(epoch) => state.watch(epoch),
            HeartbeatMessage::Control(control) => {
                let backlog = &state.arguments.plane.control_backlog;
                let _ = backlog.fetch_update(Ordering::AcqRel, Ordering::Acquire, |count| {
                    count.checked_sub(1)
                });
                match control {
                    Control::Heartbeat(frame) => state.answer(&frame),
                    Control::Pong(frame) => state.pong(&frame),
                }
            }
            HeartbeatMessage::Probe(epoch) => state.probe(epoch),
            HeartbeatMessage::Tick => {
                state.timer = None;
                state.tick();
            }
            #[cfg(feature = "testing")]
            HeartbeatMessage::Crash => panic!("the heartbeat manager was told to panic"),
        }
        state.arm(&myself);
        Ok(())
    }
}

impl HeartbeatState {
    fn watch(&mut self, epoch: Epoch) {
        if self
            .watched
            .as_ref()
            .is_some_and(|watched| watched.epoch == epoch)
        {
            return;
        }
        let config::Liveness {
            enabled,
            quiet,
            grace,
        } = self.arguments.liveness;
        let liveness = enabled.then(|| Liveness::new(quiet, grace, clock::now()));
        let interval = if enabled { quiet } else { Duration::ZERO };
        self.note(|health| *health = HeartbeatHealth::of(epoch, interval));
        self.watched = Some(Watched { epoch, liveness });
    }

    fn tick(&mut self) {
        if self.is_ping_held()
            && let Some(liveness) = self.watched.as_mut().and_then(|one| one.liveness.as_mut())
        {
            liveness.on_held(clock::now());
        }
        self.step(|liveness| liveness.on_tick(clock::now(), fastrand::u64(..)));
    }

    /// Whether the last ping waits for its turn under a limit: then the peer has not been asked.
    fn is_ping_held(&self) -> bool {
        let ping = self.ping.as_ref();
        ping.is_some_and(|(reply, queued)| queued.is_some() && !reply.is_written())
    }

    fn probe(&mut self, epoch: Epoch) {
        if self
            .watched
            .as_ref()
            .is_some_and(|watched| watched.epoch == epoch)
        {
            self.step(|liveness| liveness.on_doubt(clock::now(), fastrand::u64(..)));
        }
    }

    fn step(&mut self, step: impl FnOnce(&mut Liveness) -> LivenessAction) {
        let Some(watched) = &mut self.watched else {
            return;
        };
        let Some(liveness) = &mut watched.liveness else {
            return;
        };
        liveness.on_inbound(self.arguments.plane.last_inbound());
        match step(liveness) {
            LivenessAction::None => {}
            LivenessAction::Ping { payload } => {
                let frame = Frame::Ping(bytes::Bytes::copy_from_slice(&payload));
                self.note(|health| health.pinged(clock::now()));
                self.ping = self.send(|port| Outbound::Frame { frame, port });
            }
            LivenessAction::Lost { quiet } => {
                let epoch = watched.epoch;
                self.watched = None;
                self.arguments
                    .plane
                    .report(&TelemetryEvent::HeartbeatMissed {
                        epoch: epoch.as_u64(),
                        quiet,
                    });
                (self.arguments.events)(HeartbeatEvent::Silent { epoch, quiet });
            }
        }
    }

    fn pong(&mut self, frame: &Frame) {
        let Some(watched) = &mut self.watched else {
            return;
        };
        let liveness = watched.liveness.as_mut();
        let time = liveness.and_then(|liveness| liveness.on_pong(frame.payload(), clock::now()));
        if let Some(time) = time {
            let plane = &self.arguments.plane;
            plane.counters.round_trip(time);
            lock(&plane.health).ponged(time, clock::now());
            plane.report(&TelemetryEvent::Pong {
                epoch: watched.epoch.as_u64(),
                rtt: time,
            });
        }
    }

    fn answer(&mut self, frame: &Frame) {
        self.note(|health| health.heard_the_venue(clock::now()));
        if let Some(signal) = self.arguments.platform.market(frame.payload()) {
            self.arguments.plane.market_said(signal, "venue");
            (self.arguments.market)(signal);
        }
        if let Some(call) = self.arguments.platform.heartbeat(frame.payload()) {
            let mark = Some(Mark::Heartbeat);
            if let Some(answer) = self.send(|port| Outbound::Request { call, port, mark }) {
                if self.answers.len() == ANSWERS {
                    self.answers.pop_front();
                }
                self.answers.push_back(answer);
            }
            if let Some(watched) = &self.watched {
                let epoch = watched.epoch.as_u64();
                let plane = &self.arguments.plane;
                plane.report(&TelemetryEvent::HeartbeatAnswered { epoch });
            }
        }
    }

    fn note(&self, what: impl FnOnce(&mut HeartbeatHealth)) {
        what(&mut lock(&self.arguments.plane.health));
    }

    /// `None` if it was not taken.
    fn send(
        &self,
        outbound: impl FnOnce(ReplyPort) -> Outbound,
    ) -> Option<(Reply, Option<Queued>)> {
        let line = self.line()?;
        let (port, reply) = ReplyPort::new(&self.arguments.plane.given_up, None);
        let outbound = outbound(port);
        let (sent, queued) = match self.toll(&outbound) {
            Some((limiter, weight)) => {
                let queued = limiter.deliver(&line, outbound, weight, true, None);
                (queued.is_ok(), queued.ok())
            }
            None => (line.urgent.try_send(outbound).is_ok(), None),
        };
        if !sent {
            // The peer reads nothing; the write deadline or silence will end this connection.
            self.arguments
                .plane
                .counters
                .control_shed
                .fetch_add(1, Ordering::Relaxed);
            return None;
        }
        Some((reply, queued))
    }

    /// Heartbeats wait for nobody but other heartbeats, and cancels.
    fn toll(&self, outbound: &Outbound) -> request::Toll<'_> {
        let limiter = self.arguments.plane.limiter.as_ref()?;
        let weight = match outbound {
            Outbound::Request { call, .. } => self.arguments.platform.weigh(limiter.limits(), call),
            Outbound::Frame { frame, .. } => request::weigh_frame(limiter, frame)?,
            Outbound::Batch { .. } | Outbound::Close { .. } => return None,
        };
        Some((limiter, weight.lane(Lane::Reserved)))
    }

    fn line(&self) -> Option<Arc<Line>> {
        let line = self.arguments.plane.line()?;
        let epoch = self.watched.as_ref().map(|watched| watched.epoch);
        (epoch == Some(line.epoch)).then_some(line)
    }

    /// What has arrived puts the time off: that is seen when the timer rings, so that nothing has to be armed anew
    /// for each message.
    fn arm(&mut self, myself: &ActorRef<Traced<HeartbeatMessage>>) {
        let watched = self.watched.as_ref();
        let Some(liveness) = watched.and_then(|watched| watched.liveness.as_ref()) else {
            self.timer = None;
            return;
        };
        let due = liveness.next_timeout();
        if self.timer.as_ref().is_some_and(|(rings, _)| *rings <= due) {
            return;
        }
        let myself = myself.clone();
        let timer = OwnedTask::spawn(async move {
            tokio::time::sleep_until(due.into()).await;
            // An actor that is gone needs no timer.
            let _ = myself.cast(HeartbeatMessage::Tick.into());
        });
        self.timer = Some((due, timer));
    }
}
