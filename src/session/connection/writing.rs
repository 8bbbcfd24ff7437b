//! The writing half of a connection's loop: takes what callers hand over, and lets the peer take it.
//!
//! Apart from the reading half because neither waits for the other.
//!
//! Invariants: nothing is written after a close; a caller is told that a frame has left when it has; a peer that
//! takes nothing is timed.

use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use super::super::clock::{self, from_now};
use super::super::line::Outbound;
use super::super::port::{Bound, ReplyPort};
use super::super::wire::Wire;
use super::{CLOSING, Connection};
use crate::close::CloseReason;
use crate::frame::Frame;
use crate::protocol::call::Call;
use crate::protocol::recording::Mark;
use crate::telemetry::TelemetryEvent;

/// Commands taken from the queue in one turn, so that reading is not starved.
const COMMANDS: usize = 1024;

impl<W: Wire> Connection<W> {
    /// Takes commands while the wire has room, then flushes.
    pub(super) fn poll_write(&mut self, cx: &mut Context<'_>) -> Result<(), CloseReason> {
        let mut taken = 0;
        while self.closing.is_none() {
            match self.wire.poll_ready(cx) {
                Poll::Ready(ready) => ready?,
                Poll::Pending => {
                    self.flushing = true;
                    self.keep_queued(cx, clock::now());
                    break;
                }
            }
            if taken == COMMANDS {
                // The rest has its turn after the next batch.
                cx.waker().wake_by_ref();
                break;
            }
            match self.outbound.poll_recv(cx) {
                Poll::Ready(outbound) => self.write(outbound)?,
                Poll::Pending => break,
            }
            taken += 1;
        }
        self.outbound.settle();
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
    pub(super) fn watch_stall(&mut self) {
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

    #[inline(always)]
    pub(super) fn write(&mut self, outbound: Outbound) -> Result<(), CloseReason> {
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
    #[inline(always)]
    pub(super) fn track(&mut self, call: &Call, port: ReplyPort) -> Option<u64> {
        if !self.pending.has_room() {
            port.crowded(Bound::InFlight);
            return None;
        }
        // Dropping the port says "not sent".
        if !port.begin_waiting() {
            return None;
        }
        if let Some(deadline) = port.deadline() {
            self.deadlines.keep(deadline);
        }
        let limit = port.limit();
        let now = *self.moments.0.get_or_insert_with(clock::now);
        let id = self.pending.insert(port, now);
        self.asked += 1;
        if self.heard {
            self.plane.reporter.tell(&TelemetryEvent::RequestTracked {
                epoch: self.guard.epoch.as_u64(),
                id,
                method: call.method(),
                in_flight: self.pending.waiting(),
                limit,
            });
        }
        Some(id)
    }

    #[inline(always)]
    pub(super) fn send_request(
        &mut self,
        id: u64,
        call: &Call,
        mark: Option<Mark>,
    ) -> Result<(), CloseReason> {
        let frame = Frame::text(self.platform.encode(id, call));
        if mark == Some(Mark::Authentication) || self.platform.confidential(call.method()) {
            self.plane.secrets.learn_request(call);
        } else if let Some(hooks) = &self.hooks {
            hooks.went(&frame);
        }
        if let Some(tap) = &mut self.tap {
            tap.request(&*self.platform, &frame, id, call, mark);
        }
        self.send(frame)
    }

    pub(super) fn send_batch(&mut self, tracked: &[(u64, Call)]) -> Result<(), CloseReason> {
        let requests: Vec<(u64, &Call)> = tracked.iter().map(|(id, call)| (*id, call)).collect();
        let several = requests.len() > 1;
        let batch = several.then(|| self.platform.encode_batch(&requests));
        if let Some(text) = batch.flatten() {
            let frame = Frame::text(text);
            let calls = requests.iter().map(|(_, call)| *call);
            let mut confidential = calls.filter(|call| self.platform.confidential(call.method()));
            if let Some(first) = confidential.next() {
                let secrets = &self.plane.secrets;
                secrets.learn_request(first);
                confidential.for_each(|call| secrets.learn_request(call));
            } else if let Some(hooks) = &self.hooks {
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

    pub(super) fn record_sent(&mut self, frame: &Frame) {
        if let Some(tap) = &mut self.tap {
            tap.sent(&*self.platform, frame);
        }
    }

    #[inline(always)]
    pub(super) fn send(&mut self, frame: Frame) -> Result<(), CloseReason> {
        self.flushing = true;
        self.sent.0 += 1;
        self.sent.1 += frame.payload().len() as u64;
        self.wire.start_send(frame)
    }

    pub(super) fn publish_in_flight(&self) {
        let in_flight = self.pending.len();
        self.plane.in_flight.store(in_flight, Ordering::Relaxed);
    }

    pub(super) fn publish_sent(&mut self) {
        let asked = std::mem::take(&mut self.asked);
        if asked > 0 {
            self.publish_in_flight();
            self.plane.reporter.metrics.asked(asked);
        }
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
    pub(super) fn begin_closing(&mut self, reason: CloseReason) {
        self.refuse_outbound(&reason);
        self.closing
            .get_or_insert_with(|| (Box::pin(tokio::time::sleep(CLOSING)), reason));
    }

    pub(super) fn refuse_outbound(&mut self, reason: &CloseReason) {
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
}
