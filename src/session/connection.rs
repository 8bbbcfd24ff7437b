//! One open connection: the loop that owns the socket.
//!
//! A single task reads batches of frames, sorts them into their subscribers' queues and answers
//! waiting callers; between batches it writes what is to be written. No lock is shared with a caller,
//! and no frame crosses a mailbox.
//!
//! Invariants: writing never waits for reading; reading waits only for consumers whose rule says so and
//! for a peer that leaves its pongs untaken, both with a deadline; a peer that does not read is
//! given up after a deadline; when the loop ends, in whatever way, every caller and every
//! subscription has been told.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

use super::clock::{self, from_now};
use super::hooked::Hooked;
use super::line::{Line, LineReceiver, Outbound, ReplyPort};
use super::pending::Pending;
use super::place::{self, Place, place};
use super::plane::Plane;
use super::routes::Sorter;
use super::subscriber::{BATCH, Subscriber};
use super::tap::Tap;
use super::wire::Wire;
use crate::close::CloseReason;
use crate::error::{ConnectError, Phase};
use crate::frame::Frame;
use crate::platform::Platform;
use crate::protocol::call::Call;
use crate::protocol::continuity::Epoch;
use crate::protocol::recording::Mark;
use crate::telemetry::TelemetryEvent;

/// How long the closing handshake (RFC 6455, section 7.1.2) may take.
const CLOSING: Duration = Duration::from_secs(1);
/// Commands taken from the queue in one turn, so that reading is not starved.
const COMMANDS: usize = 64;

/// What the reader hands to the actors: rare frames, never data.
#[derive(Debug)]
pub(crate) enum Control {
    /// A frame that the platform calls a heartbeat.
    Heartbeat(Frame),
    /// A pong.
    Pong(Frame),
}

/// Takes a control frame. `false` if it had to be shed.
pub(crate) type ControlSink = Arc<dyn Fn(Control) -> bool + Send + Sync>;

/// The limits of a connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// How long written bytes may wait for the peer.
    pub(crate) write: Duration,
    /// How long the first frame may take.
    pub(crate) first_data: Option<Duration>,
}

/// One open connection. See the module's documentation.
pub(crate) struct Connection<W> {
    wire: W,
    plane: Arc<Plane>,
    platform: Arc<dyn Platform>,
    control: ControlSink,
    limits: Limits,
    outbound: LineReceiver,
    pending: Pending,
    sorter: Sorter,
    /// What the present batch has brought so far.
    tally: Tally,
    /// Frames, and their bytes, handed to the wire and not yet told of.
    sent: (u64, u64),
    /// Frames handed to the wire and not yet flushed.
    unflushed: Vec<ReplyPort>,
    flushing: bool,
    /// Runs while bytes wait for the peer; with what it had taken when the timer began.
    stall: Option<(Pin<Box<Sleep>>, u64)>,
    /// Pongs handed to the wire by itself since it was last flushed.
    pongs: usize,
    /// Bytes read when that was last looked at.
    bytes_read: u64,
    /// Runs from the moment at which one side has begun to close.
    closing: Option<(Pin<Box<Sleep>>, CloseReason)>,
    /// Runs until the first frame has arrived.
    first_data: Option<Pin<Box<Sleep>>>,
    /// The subscribers for which reading waits, each until it has room or its patience is over.
    waiting: Vec<(Arc<Subscriber>, Pin<Box<Sleep>>)>,
    /// Takes frames down, if the session is recorded.
    tap: Option<Tap>,
    /// The user's hooks, if one is about frames.
    hooks: Option<Arc<Hooked>>,
    /// Tells everybody, also when the task is dropped.
    guard: Guard,
}

struct Guard {
    plane: Arc<Plane>,
    epoch: Epoch,
    reason: Option<CloseReason>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        let reason = self
            .reason
            .take()
            .unwrap_or_else(|| CloseReason::ActorEnded {
                actor: "transport".to_owned(),
                reason: "ended before its connection".to_owned(),
            });
        self.plane.closed(self.epoch, &reason);
    }
}

/// What one batch has brought; published when it is handed on.
#[derive(Debug, Default)]
struct Tally {
    frames: usize,
    bytes: usize,
    delivered: u64,
    unwanted: u64,
    shed: u64,
}

/// What woke the loop.
enum Turn {
    /// A batch has been read.
    Batch,
    /// The connection is over.
    Over(CloseReason),
}

impl<W: Wire> Connection<W> {
    /// Opens the plane's line on `wire`.
    pub(crate) fn open(
        wire: W,
        plane: Arc<Plane>,
        platform: Arc<dyn Platform>,
        control: ControlSink,
        limits: Limits,
        capacity: usize,
    ) -> Self {
        let (sender, outbound) = Line::channel(capacity);
        let epoch = plane.open(sender);
        Self {
            wire,
            platform,
            control,
            limits,
            outbound,
            pending: Pending::new(),
            sorter: Sorter::new(&plane.routes),
            tally: Tally::default(),
            sent: (0, 0),
            unflushed: Vec::new(),
            flushing: false,
            stall: None,
            pongs: 0,
            bytes_read: 0,
            closing: None,
            first_data: limits
                .first_data
                .map(|limit| Box::pin(tokio::time::sleep(limit))),
            waiting: Vec::new(),
            hooks: plane.hooks.clone().filter(|hooks| hooks.wants_frames()),
            tap: plane.tape.as_ref().map(|tape| Tap::open(tape, epoch)),
            guard: Guard {
                plane: Arc::clone(&plane),
                epoch,
                reason: None,
            },
            plane,
        }
    }

    /// Its epoch.
    pub(crate) fn epoch(&self) -> Epoch {
        self.guard.epoch
    }

    /// Reads and writes until the connection is over, and says why it is.
    pub(crate) async fn run(mut self) -> CloseReason {
        let reason = loop {
            match std::future::poll_fn(|cx| self.poll_recorded(cx)).await {
                Turn::Batch => {
                    self.deliver();
                    // The consumers' turn, while the batch is still in the cache.
                    tokio::task::yield_now().await;
                }
                Turn::Over(reason) => break reason,
            }
        };
        self.finish(&reason);
        self.fail_wire(&reason).await;
        reason
    }

    /// One turn; what it brought is handed to the recording in one go.
    fn poll_recorded(&mut self, cx: &mut Context<'_>) -> Poll<Turn> {
        let turn = self.poll_turn(cx);
        if let Some(tap) = &mut self.tap {
            tap.hand_over();
        }
        turn
    }

    fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<Turn> {
        if let Err(reason) = self.poll_write(cx) {
            return Poll::Ready(Turn::Over(self.true_reason(reason)));
        }
        if let Some(reason) = self.poll_deadlines(cx) {
            return Poll::Ready(Turn::Over(reason));
        }
        if self.poll_waiting(cx).is_pending() {
            return Poll::Pending;
        }
        if self.flushing && self.pongs >= BATCH {
            // A peer that asks and does not listen is not asked for more until it has taken its answers.
            return Poll::Pending;
        }
        while self.tally.frames < BATCH {
            match self.wire.poll_frame(cx) {
                Poll::Ready(Ok(frame)) => self.accept(frame),
                Poll::Ready(Err(reason)) => {
                    if self.tally.frames == 0 {
                        return Poll::Ready(Turn::Over(self.true_reason(reason)));
                    }
                    // Told after the batch, unless a close frame in it says it better.
                    self.closing
                        .get_or_insert_with(|| (Box::pin(sleep_until(Instant::now())), reason));
                    break;
                }
                Poll::Pending => break,
            }
        }
        if self.tally.frames > 0 {
            return Poll::Ready(Turn::Batch);
        }
        let bytes_read = self.wire.bytes_read();
        if bytes_read != self.bytes_read {
            // A part of a frame is life, too.
            self.bytes_read = bytes_read;
            self.plane.touch(clock::now());
        }
        Poll::Pending
    }

    /// Takes commands while the wire has room, then flushes.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Result<(), CloseReason> {
        let mut taken = 0;
        while self.closing.is_none() {
            match self.wire.poll_ready(cx) {
                Poll::Ready(ready) => ready?,
                Poll::Pending => {
                    self.flushing = true;
                    break;
                }
            }
            if taken == COMMANDS {
                // The rest has its turn after the next batch.
                cx.waker().wake_by_ref();
                break;
            }
            match self.outbound.poll_recv(cx) {
                Poll::Ready(Some(outbound)) => self.write(outbound)?,
                Poll::Ready(None) | Poll::Pending => break,
            }
            taken += 1;
        }
        self.publish_sent();
        if self.flushing {
            match self.wire.poll_flush(cx) {
                Poll::Ready(flushed) => {
                    flushed?;
                    self.flushing = false;
                    self.pongs = 0;
                    self.stall = None;
                    for port in self.unflushed.drain(..) {
                        port.flushed();
                    }
                }
                Poll::Pending => self.watch_stall(),
            }
        }
        Ok(())
    }

    /// Times a peer that does not take what we write. Any byte that it takes begins the time anew.
    fn watch_stall(&mut self) {
        let taken = self.wire.bytes_written();
        let limit = self.limits.write;
        match &mut self.stall {
            Some((timer, before)) if *before != taken => {
                *before = taken;
                timer.as_mut().reset(from_now(limit));
            }
            Some(_) => {}
            none => *none = Some((Box::pin(tokio::time::sleep(limit)), taken)),
        }
    }

    fn write(&mut self, outbound: Outbound) -> Result<(), CloseReason> {
        match outbound {
            Outbound::Request { call, port, mark } => {
                let Some(id) = self.track(&call, port) else {
                    return Ok(());
                };
                self.send_request(id, &call, mark)
            }
            Outbound::Batch { requests } => {
                let tracked: Vec<(u64, Call)> = requests
                    .into_iter()
                    .filter_map(|(call, port)| Some((self.track(&call, port)?, call)))
                    .collect();
                self.send_batch(&tracked)
            }
            Outbound::Frame { frame, port } => {
                if !port.begin_writing() {
                    return Ok(());
                }
                self.unflushed.push(port);
                if let Frame::Ping(payload) = &frame {
                    self.plane.pings.written(payload, clock::now());
                }
                if let (Some(hooks), Frame::Text(_) | Frame::Binary(_)) = (&self.hooks, &frame) {
                    hooks.went(&frame);
                }
                self.record_sent(&frame);
                self.send(frame)
            }
            Outbound::Close {
                code,
                reason,
                cause,
            } => {
                let frame = Frame::Close(Some((code, reason)));
                self.record_sent(&frame);
                let sent = self.send(frame);
                self.begin_closing(cause);
                sent
            }
        }
    }

    /// Takes in a request that is about to be written, and gives it its id; `None` if it is not to be.
    fn track(&mut self, call: &Call, port: ReplyPort) -> Option<u64> {
        // Dropping the port says "not sent".
        if !self.pending.has_room() || !port.begin_writing() {
            return None;
        }
        let limit = port.limit();
        let id = self.pending.insert(port, clock::now());
        self.publish_in_flight();
        self.plane.report(&TelemetryEvent::RequestTracked {
            epoch: self.guard.epoch.as_u64(),
            id,
            method: call.method(),
            in_flight: self.pending.len(),
            limit,
        });
        Some(id)
    }

    fn send_request(
        &mut self,
        id: u64,
        call: &Call,
        mark: Option<Mark>,
    ) -> Result<(), CloseReason> {
        let frame = Frame::text(self.platform.encode(id, call));
        if let Some(hooks) = &self.hooks
            && mark != Some(Mark::Authentication)
            && !self.platform.confidential(call.method())
        {
            hooks.went(&frame);
        }
        if let Some(tap) = &mut self.tap {
            tap.request(&*self.platform, &frame, id, call, mark);
        }
        self.send(frame)
    }

    fn send_batch(&mut self, tracked: &[(u64, Call)]) -> Result<(), CloseReason> {
        let requests: Vec<(u64, &Call)> = tracked.iter().map(|(id, call)| (*id, call)).collect();
        let several = requests.len() > 1;
        let batch = several.then(|| self.platform.encode_batch(&requests));
        if let Some(text) = batch.flatten() {
            let frame = Frame::text(text);
            let confidential = |(_, call): &(u64, &Call)| self.platform.confidential(call.method());
            if let Some(hooks) = &self.hooks
                && !requests.iter().any(confidential)
            {
                hooks.went(&frame);
            }
            if let Some(tap) = &mut self.tap {
                tap.batch(&*self.platform, &frame, &requests);
            }
            return self.send(frame);
        }
        for (id, call) in requests {
            self.send_request(id, call, None)?;
        }
        Ok(())
    }

    fn record_sent(&mut self, frame: &Frame) {
        if let Some(tap) = &mut self.tap {
            tap.sent(&*self.platform, frame);
        }
    }

    fn send(&mut self, frame: Frame) -> Result<(), CloseReason> {
        self.flushing = true;
        self.sent.0 += 1;
        self.sent.1 += frame.payload().len() as u64;
        self.wire.start_send(frame)
    }

    fn publish_in_flight(&self) {
        let in_flight = self.pending.len();
        self.plane.in_flight.store(in_flight, Ordering::Relaxed);
    }

    fn publish_sent(&mut self) {
        let (frames, bytes) = std::mem::take(&mut self.sent);
        if frames == 0 {
            return;
        }
        let counters = &self.plane.counters;
        counters.frames_out.fetch_add(frames, Ordering::Relaxed);
        self.plane.report(&TelemetryEvent::Sent {
            epoch: self.guard.epoch.as_u64(),
            frames,
            bytes,
        });
    }

    /// Nothing more is written from here on; whoever still waits to be is told at once.
    fn begin_closing(&mut self, reason: CloseReason) {
        self.refuse_outbound(&reason);
        self.closing
            .get_or_insert_with(|| (Box::pin(tokio::time::sleep(CLOSING)), reason));
    }

    fn refuse_outbound(&mut self, reason: &CloseReason) {
        for outbound in self.outbound.close() {
            match outbound {
                Outbound::Request { port, .. } | Outbound::Frame { port, .. } => port.lost(reason),
                Outbound::Batch { requests } => {
                    requests.into_iter().for_each(|(_, port)| port.lost(reason));
                }
                Outbound::Close { .. } => {}
            }
        }
    }

    fn poll_deadlines(&mut self, cx: &mut Context<'_>) -> Option<CloseReason> {
        if let Some((deadline, reason)) = &mut self.closing
            && deadline.as_mut().poll(cx).is_ready()
        {
            return Some(reason.clone());
        }
        if let Some((timer, _)) = &mut self.stall
            && timer.as_mut().poll(cx).is_ready()
        {
            return Some(CloseReason::WriteStalled {
                waited: self.limits.write,
            });
        }
        if is_over(&mut self.first_data, cx) {
            let limit = self.limits.first_data.unwrap_or_default();
            let error = ConnectError::Timeout {
                phase: Phase::FirstData,
                limit,
            };
            return Some(CloseReason::NotOpened(Arc::new(error)));
        }
        None
    }

    /// Waits for room in the blocking subscribers' queues, but for none longer than its rule says.
    fn poll_waiting(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.waiting.is_empty() {
            return Poll::Ready(());
        }
        self.waiting.retain_mut(|(subscriber, patience)| {
            subscriber.poll_room(cx).is_pending() && patience.as_mut().poll(cx).is_pending()
        });
        if self.waiting.is_empty() {
            self.plane.pause(false);
            return Poll::Ready(());
        }
        Poll::Pending
    }

    /// Once a close has begun, how it began is the reason, whatever comes after.
    fn true_reason(&mut self, reason: CloseReason) -> CloseReason {
        self.closing.take().map_or(reason, |(_, began)| began)
    }

    /// Puts one frame where it belongs: its channel's bin, its caller, or the HeartbeatManager.
    fn accept(&mut self, frame: Frame) {
        if self.tally.frames == 0 {
            self.sorter.renew(&self.plane.routes);
        }
        self.tally.frames += 1;
        self.tally.bytes += frame.payload().len();
        let place = match &frame {
            Frame::Text(text) => place(&*self.platform, &mut self.sorter, text.as_bytes()),
            Frame::Binary(bytes) => place(&*self.platform, &mut self.sorter, bytes),
            Frame::Ping(_) => {
                self.record_received(&frame, None);
                // Its pong is on its way; this watches whether the peer takes it.
                self.pongs += 1;
                self.flushing = true;
                if let Some(limiter) = &self.plane.limiter {
                    limiter.spend_control();
                }
                return;
            }
            Frame::Pong(payload) => {
                self.plane.pings.pong(payload, clock::now());
                self.record_received(&frame, None);
                self.tally.shed += u64::from(!(self.control)(Control::Pong(frame)));
                return;
            }
            Frame::Close(close) => {
                let (code, reason) = match close {
                    Some((code, reason)) => (Some(*code), reason.clone()),
                    None => (None, String::new()),
                };
                self.record_received(&frame, None);
                if !matches!(
                    self.closing,
                    Some((
                        _,
                        CloseReason::Local { .. }
                            | CloseReason::Reconnect
                            | CloseReason::Hook { .. }
                    ))
                ) {
                    self.closing = None;
                }
                self.begin_closing(CloseReason::Peer { code, reason });
                return;
            }
        };
        let passes = self.hooks.is_none() || self.passes_hooks(&frame, &place);
        if matches!(place, Place::Batch) && passes {
            self.accept_batch(frame);
            return;
        }
        if self.tap.is_some() {
            self.record_placed(&frame, &place);
        }
        if !passes {
            return;
        }
        self.put(place, frame);
    }

    /// Puts each message of an array where it belongs.
    fn accept_batch(&mut self, frame: Frame) {
        let messages = place::messages(&*self.platform, &mut self.sorter, &frame);
        if messages.is_empty() {
            // No array after all.
            self.record_received(&frame, None);
            let everything_else = self.sorter.place(None);
            self.put(Place::Bin(everything_else), frame);
            return;
        }
        if let Some(tap) = &mut self.tap {
            let ids = messages.iter().filter_map(|(place, _)| match place {
                Place::Reply(id) => Some(*id),
                Place::Bin(_) | Place::Heartbeat | Place::Batch => None,
            });
            tap.answered_together(&frame, ids);
        }
        for (place, message) in messages {
            self.put(place, message);
        }
    }

    fn put(&mut self, place: Place, frame: Frame) {
        let wanted = match place {
            Place::Reply(id) => self.answer(id, frame),
            Place::Bin(bin) => {
                let wanted = self.sorter.put(bin, frame);
                self.tally.delivered += u64::from(wanted);
                wanted
            }
            Place::Heartbeat => {
                self.tally.shed += u64::from(!(self.control)(Control::Heartbeat(frame)));
                true
            }
            // Its messages have been put where they belong.
            Place::Batch => true,
        };
        self.tally.unwanted += u64::from(!wanted);
    }

    fn answer(&mut self, id: u64, frame: Frame) -> bool {
        let Some(round_trip) = self.pending.answer(id, frame, clock::now()) else {
            return false;
        };
        self.plane.report(&TelemetryEvent::RequestResolved {
            epoch: self.guard.epoch.as_u64(),
            id,
            in_flight: self.pending.len(),
            round_trip,
        });
        true
    }

    fn record_placed(&mut self, frame: &Frame, place: &Place) {
        let Some(tap) = &mut self.tap else { return };
        match place {
            Place::Reply(id) => tap.answered(frame, *id),
            Place::Heartbeat => tap.received(frame, Some(Mark::Heartbeat)),
            Place::Bin(_) | Place::Batch => tap.received(frame, None),
        }
    }

    /// Whether the user's hooks let a data frame pass.
    fn passes_hooks(&self, frame: &Frame, place: &Place) -> bool {
        let Some(hooks) = &self.hooks else {
            return true;
        };
        // An answer may hold a token, which has no place in a log.
        if matches!(place, Place::Bin(_) | Place::Heartbeat) {
            hooks.log_came(frame);
        }
        hooks.came(&self.plane, frame)
    }

    fn record_received(&mut self, frame: &Frame, mark: Option<Mark>) {
        if let Some(tap) = &mut self.tap {
            tap.received(frame, mark);
        }
    }

    /// Hands the batch on to the subscribers and publishes what was counted.
    fn deliver(&mut self) {
        let now = clock::now();
        self.first_data = None;
        self.plane.touch(now);
        if self.plane.delivers(self.guard.epoch) {
            let waiting = &mut self.waiting;
            self.sorter.deliver(self.guard.epoch, now, |subscriber| {
                if let Some(limit) = subscriber.blocks() {
                    let patience = Box::pin(tokio::time::sleep(limit));
                    waiting.push((Arc::clone(subscriber), patience));
                }
            });
            if !self.waiting.is_empty() {
                self.plane.pause(true);
            }
        } else {
            self.sorter.discard();
        }
        let tally = std::mem::take(&mut self.tally);
        self.publish_in_flight();
        let counters = &self.plane.counters;
        counters
            .frames_in
            .fetch_add(tally.frames as u64, Ordering::Relaxed);
        counters
            .bytes_in
            .fetch_add(tally.bytes as u64, Ordering::Relaxed);
        counters
            .delivered
            .fetch_add(tally.delivered, Ordering::Relaxed);
        self.plane.report(&TelemetryEvent::Received {
            epoch: self.guard.epoch.as_u64(),
            frames: tally.frames as u64,
            bytes: tally.bytes as u64,
        });
        if tally.unwanted > 0 {
            counters
                .unwanted
                .fetch_add(tally.unwanted, Ordering::Relaxed);
        }
        if tally.shed > 0 {
            counters
                .control_shed
                .fetch_add(tally.shed, Ordering::Relaxed);
        }
    }

    /// "Fail the WebSocket Connection" (RFC 6455, section 7.1.7): says why, if that still can be said.
    async fn fail_wire(&mut self, reason: &CloseReason) {
        let (code, text) = match reason {
            CloseReason::Protocol { .. } => (1002, "protocol error"),
            CloseReason::TooBig { .. } => (1009, "message too big"),
            _ => return,
        };
        let close = Frame::Close(Some((code, text.to_owned())));
        self.record_sent(&close);
        if self.wire.start_send(close).is_ok() {
            let flush = std::future::poll_fn(|cx| self.wire.poll_flush(cx));
            // Best effort: the peer has broken the rules already.
            let _ = tokio::time::timeout(CLOSING, flush).await;
        }
    }

    /// Tells everybody, with the reason.
    fn finish(&mut self, reason: &CloseReason) {
        self.guard.reason = Some(reason.clone());
        self.publish_sent();
        let lost = self.pending.lose_all(reason);
        if lost > 0 {
            self.plane.report(&TelemetryEvent::RequestsLost {
                epoch: self.guard.epoch.as_u64(),
                count: lost,
                cause: reason.label(),
            });
        }
        for port in self.unflushed.drain(..) {
            port.lost(reason);
        }
        self.refuse_outbound(reason);
        self.plane.closed(self.guard.epoch, reason);
    }
}

fn is_over(timer: &mut Option<Pin<Box<Sleep>>>, cx: &mut Context<'_>) -> bool {
    timer
        .as_mut()
        .is_some_and(|timer| timer.as_mut().poll(cx).is_ready())
}
