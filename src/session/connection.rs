//! One open connection: the loop that owns the socket.
//!
//! A single task reads batches of frames, sorts them into their subscribers' queues and answers
//! waiting callers; between batches it writes what is to be written. No lock is shared with a caller,
//! and no frame crosses a mailbox.
//!
//! Invariants: writing never waits for reading; reading waits only for consumers whose rule says so and
//! for a peer that leaves its pongs untaken, both with a deadline; a peer that does not read is
//! given up after a deadline; a caller hears of its deadline, unless the same turn has brought its answer; when the
//! loop ends, in whatever way, every caller and every subscription has been told; what had come before writing failed is
//! read first.

mod deadlines;
mod reading;
mod writing;

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::time::Sleep;
use tracing::Span;

use super::clock;
use super::hooked::Hooked;
use super::lane::LaneReader;
use super::line::{Line, Outbound};
use super::pending::Pending;
use super::plane::Plane;
use super::port::ReplyPort;
use super::routes::Sorter;
use super::subscriber::{BATCH, Subscriber};
use super::tap::Tap;
use super::wire::{Came, Wire};
use crate::close::CloseReason;
use crate::error::{ConnectError, Phase};
use crate::frame::Frame;
use crate::platform::Platform;
use crate::protocol::continuity::Epoch;
use crate::telemetry::TelemetryEvent;
use deadlines::Deadlines;
use reading::Answer;

/// How long the closing handshake (RFC 6455, section 7.1.2) may take.
const CLOSING: Duration = Duration::from_secs(1);

/// Frames that one turn may bring, however few are for each subscriber: as many small ones as one large read does.
const TURN: usize = 4 * BATCH;

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
    /// One in so many batches has a span; none if 0.
    pub(crate) batch_spans: usize,
}

/// One open connection. See the module's documentation.
pub(crate) struct Connection<W> {
    wire: W,
    plane: Arc<Plane>,
    platform: Arc<dyn Platform>,
    control: ControlSink,
    limits: Limits,
    outbound: LaneReader<Outbound>,
    pending: Pending,
    /// Until when callers wait.
    deadlines: Deadlines,
    /// What this batch has answered; its callers are told when it is handed on.
    answers: Vec<Answer>,
    sorter: Sorter,
    /// Whether valid data has come.
    data_came: bool,
    /// What the present batch has brought so far.
    tally: Tally,
    /// Frames, and their bytes, handed to the wire and not yet told of.
    sent: (u64, u64),
    /// Requests among them.
    asked: u64,
    /// Whether anybody hears of each request.
    heard: bool,
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
    /// How writing has failed, and until when what the peer had said before is read all the same.
    mute: Option<(Pin<Box<Sleep>>, CloseReason)>,
    /// How the wire failed behind the batch that is being handed on. Nothing behind a failure is read: what follows
    /// a broken frame means nothing (RFC 6455, section 7.1.7).
    failed: Option<CloseReason>,
    /// Whether nothing has arrived yet.
    quiet: bool,
    /// When this turn began to write, and when it began to read; set by the first who asks, cleared by the next turn.
    moments: (Option<Instant>, Option<Instant>),
    /// Batches since the last that had a span.
    unsampled: usize,
    /// Runs, as its span does, until the first frame has arrived.
    first_data: Option<(Pin<Box<Sleep>>, Span)>,
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
            pending: Pending::new(&plane.given_up),
            deadlines: Deadlines::default(),
            answers: Vec::new(),
            sorter: Sorter::new(&plane.routes),
            data_came: false,
            tally: Tally::default(),
            sent: (0, 0),
            asked: 0,
            heard: false,
            unflushed: Vec::new(),
            flushing: false,
            stall: None,
            pongs: 0,
            bytes_read: 0,
            closing: None,
            mute: None,
            failed: None,
            quiet: true,
            moments: (None, None),
            unsampled: 0,
            first_data: limits.first_data.map(|limit| {
                (
                    Box::pin(tokio::time::sleep(limit)),
                    plane.spans.first_data(),
                )
            }),
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
        self.moments = (None, None);
        self.heard = self.plane.reporter.hears_requests();
        // Told after the batch, unless a close frame in it says it better.
        if let Some(reason) = self.failed.take() {
            return Poll::Ready(Turn::Over(self.true_reason(reason)));
        }
        if self.mute.is_none()
            && let Err(reason) = self.poll_write(cx)
        {
            self.go_mute(reason);
        }
        if let Some(reason) = self.poll_deadlines(cx) {
            return Poll::Ready(Turn::Over(reason));
        }
        let turn = self.poll_read(cx);
        // Behind the reading: when the program stood still past a deadline, an answer that is here is in time.
        self.poll_overdue(cx);
        turn
    }

    /// Nothing can be written any more. What the peer has said before is here, and may say why.
    #[cold]
    fn go_mute(&mut self, reason: CloseReason) {
        self.refuse_outbound(&reason);
        self.mute = Some((Box::pin(tokio::time::sleep(self.limits.write)), reason));
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Turn> {
        if self.poll_waiting(cx).is_pending() {
            return Poll::Pending;
        }
        if self.flushing && self.pongs >= BATCH && self.mute.is_none() {
            // A peer that asks and does not listen is not asked for more until it has taken its answers.
            return Poll::Pending;
        }
        while self.tally.frames < TURN && !self.sorter.is_full() {
            // Read again only with empty hands.
            let reads = self.tally.frames == 0;
            let (wire, mut inbox) = self.wire_and_inbox();
            match wire.poll_frame(cx, reads, &mut inbox) {
                Poll::Ready(Ok(Came::Taken)) => {}
                Poll::Ready(Ok(Came::Message(frame, place))) => self.accept_data(frame, place),
                Poll::Ready(Ok(Came::Control(frame))) => self.accept_control(frame),
                Poll::Ready(Err(reason)) => {
                    if self.tally.frames == 0 {
                        return Poll::Ready(Turn::Over(self.true_reason(reason)));
                    }
                    self.failed = Some(reason);
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
        if let Some((_, reason)) = self.mute.take() {
            return Poll::Ready(Turn::Over(self.true_reason(reason)));
        }
        Poll::Pending
    }

    fn poll_deadlines(&mut self, cx: &mut Context<'_>) -> Option<CloseReason> {
        if let Some((deadline, reason)) = &mut self.closing
            && deadline.as_mut().poll(cx).is_ready()
        {
            return Some(reason.clone());
        }
        if let Some((deadline, reason)) = &mut self.mute
            && deadline.as_mut().poll(cx).is_ready()
        {
            let reason = reason.clone();
            return Some(self.true_reason(reason));
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

    /// "Fail the WebSocket Connection" (RFC 6455, section 7.1.7): says why, if that still can be said.
    async fn fail_wire(&mut self, reason: &CloseReason) {
        let (code, text) = match reason {
            CloseReason::Protocol { .. } => (1002, "protocol error"),
            CloseReason::NotUtf8 => (1007, "text is not utf-8"),
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
        if !lost.is_empty() {
            self.plane.report(&TelemetryEvent::RequestsLost {
                epoch: self.guard.epoch.as_u64(),
                ids: &lost,
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

fn is_over(timer: &mut Option<(Pin<Box<Sleep>>, Span)>, cx: &mut Context<'_>) -> bool {
    timer
        .as_mut()
        .is_some_and(|(timer, _)| timer.as_mut().poll(cx).is_ready())
}
