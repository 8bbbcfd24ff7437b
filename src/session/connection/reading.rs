//! The reading half of a connection's loop: puts each frame where it belongs, and hands on what a batch has brought.
//!
//! Invariants: no lock is shared with a caller; what nobody wants is counted; a frame of a connection that is barred
//! reaches nobody.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tracing::span::EnteredSpan;

use super::super::clock;
use super::super::place::{self, Place, place};
use super::super::plane::Plane;
use super::super::port::ReplyPort;
use super::super::routes::Sorter;
use super::super::wire::{Admitted, Inbound, Wire};
use super::{Connection, Control, Tally};
use crate::close::CloseReason;
use crate::frame::Frame;
use crate::platform::Platform;
use crate::protocol::recording::Mark;
use crate::telemetry::{TelemetryEvent, spans};

/// An answer whose caller is to be told.
pub(super) struct Answer {
    port: ReplyPort,
    frame: Frame,
    at: Instant,
    /// Since the request was written.
    round_trip: Duration,
}

/// Answers for which room is kept when they have been told, and were no more.
const SPARE: usize = 64;

/// What nearly all messages go into, without anybody else's looking at them: their channels' bins.
pub(super) struct Inbox<'c> {
    plane: &'c Plane,
    platform: &'c dyn Platform,
    sorter: &'c mut Sorter,
    tally: &'c mut Tally,
    /// Whether nobody else looks.
    direct: bool,
}

impl Tally {
    /// A frame has come. The first of a batch has the table renewed: who subscribed before it came gets what follows.
    #[inline(always)]
    fn count(&mut self, bytes: usize, sorter: &mut Sorter, plane: &Plane) {
        if self.frames == 0 {
            sorter.renew(&plane.routes);
        }
        self.frames += 1;
        self.bytes += bytes;
    }
}

impl Inbound for Inbox<'_> {
    type Place = Place;

    #[inline(always)]
    fn admit(&mut self, payload: &[u8]) -> Admitted<'_, Place> {
        self.tally.count(payload.len(), self.sorter, self.plane);
        let place = place(self.platform, self.sorter, payload);
        if let Place::Bin(bin) = place
            && self.direct
            && let Some(slot) = self.sorter.open(bin, payload.len())
        {
            self.tally.delivered += 1;
            return Admitted::Into(slot);
        }
        Admitted::On(place)
    }
}

impl<W: Wire> Connection<W> {
    /// The wire, and where its messages go.
    #[inline(always)]
    pub(super) fn wire_and_inbox(&mut self) -> (&mut W, Inbox<'_>) {
        let inbox = Inbox {
            plane: &self.plane,
            platform: &*self.platform,
            sorter: &mut self.sorter,
            tally: &mut self.tally,
            direct: self.hooks.is_none() && self.tap.is_none(),
        };
        (&mut self.wire, inbox)
    }

    pub(super) fn accept_control(&mut self, frame: Frame) {
        self.tally
            .count(frame.payload().len(), &mut self.sorter, &self.plane);
        match &frame {
            // Is admitted, and no control frame.
            Frame::Text(_) | Frame::Binary(_) => {}
            Frame::Ping(_) => {
                self.record_received(&frame, None);
                // Its pong is on its way; this watches whether the peer takes it.
                self.pongs += 1;
                self.flushing = true;
                if let Some(limiter) = &self.plane.limiter {
                    limiter.spend_control();
                }
            }
            Frame::Pong(payload) => {
                self.plane.pings.pong(payload, clock::now());
                self.record_received(&frame, None);
                self.tally.shed += u64::from(!(self.control)(Control::Pong(frame)));
            }
            Frame::Close(close) => {
                let (code, reason) = match close {
                    Some((code, reason)) => (Some(*code), self.plane.secrets.clean(reason.clone())),
                    None => (None, String::new()),
                };
                self.record_received(&frame, None);
                if !matches!(
                    self.closing,
                    Some((
                        _,
                        CloseReason::Local { .. }
                            | CloseReason::Reconnect
                            | CloseReason::FailBack
                            | CloseReason::Hook { .. }
                    ))
                ) {
                    self.closing = None;
                }
                self.begin_closing(CloseReason::Peer { code, reason });
            }
        }
    }

    /// Puts a message where it belongs: its channel's bin, its caller, or the HeartbeatManager.
    pub(super) fn accept_data(&mut self, frame: Frame, place: Place) {
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
    pub(super) fn accept_batch(&mut self, frame: Frame) {
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

    #[inline(always)]
    fn put_into(&mut self, bin: usize, frame: Frame) {
        let wanted = self.sorter.put(bin, frame);
        self.tally.delivered += u64::from(wanted);
        self.tally.unwanted += u64::from(!wanted);
    }

    pub(super) fn put(&mut self, place: Place, frame: Frame) {
        let wanted = match place {
            Place::Reply(id) => self.answer(id, frame),
            Place::Bin(bin) => {
                self.put_into(bin, frame);
                true
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

    /// Finds whoever asked; `false` if nobody did. It is told with all whom this batch answers, when they have been counted.
    #[inline(always)]
    pub(super) fn answer(&mut self, id: u64, frame: Frame) -> bool {
        let Some(waiting) = self.pending.take(id) else {
            return false;
        };
        let at = *self.moments.1.get_or_insert_with(clock::now);
        let round_trip = at.saturating_duration_since(waiting.since);
        let epoch = self.guard.epoch.as_u64();
        if waiting.port.resolve() {
            self.plane.counters.late.fetch_add(1, Ordering::Relaxed);
            self.plane.report(&TelemetryEvent::RequestAnsweredLate {
                epoch,
                id,
                in_flight: self.pending.waiting(),
                round_trip,
            });
            return true;
        }
        if self.heard {
            self.plane.reporter.tell(&TelemetryEvent::RequestResolved {
                epoch,
                id,
                in_flight: self.pending.waiting(),
                round_trip,
            });
        }
        self.answers.push(Answer {
            port: waiting.port,
            frame,
            at,
            round_trip,
        });
        true
    }

    /// Tells the callers whom this batch answers.
    fn tell_answers(&mut self) {
        if self.answers.is_empty() {
            return;
        }
        let many = self.answers.len();
        self.publish_in_flight();
        let round_trips = self.answers.iter().map(|answer| answer.round_trip);
        self.plane.reporter.metrics.resolved(round_trips);
        let times = self.answers.iter().filter_map(|answer| {
            let asked = answer.port.asked()?;
            Some(answer.at.saturating_duration_since(asked))
        });
        self.plane.counters.requests(times);
        for Answer {
            port, frame, at, ..
        } in self.answers.drain(..)
        {
            port.answer(frame, at);
        }
        if many <= SPARE {
            self.answers.shrink_to(SPARE);
        }
    }

    pub(super) fn record_placed(&mut self, frame: &Frame, place: &Place) {
        let Some(tap) = &mut self.tap else { return };
        match place {
            Place::Reply(id) => tap.answered(frame, *id),
            Place::Heartbeat => tap.received(frame, Some(Mark::Heartbeat)),
            Place::Bin(_) | Place::Batch => tap.received(frame, None),
        }
    }

    /// Whether the user's hooks let a data frame pass.
    pub(super) fn passes_hooks(&self, frame: &Frame, place: &Place) -> bool {
        let Some(hooks) = &self.hooks else {
            return true;
        };
        // An answer may hold a token, which has no place in a log.
        if matches!(place, Place::Bin(_) | Place::Heartbeat) {
            hooks.log_came(&self.plane.secrets, frame);
        }
        hooks.came(&self.plane, frame)
    }

    pub(super) fn record_received(&mut self, frame: &Frame, mark: Option<Mark>) {
        if let Some(tap) = &mut self.tap {
            tap.received(frame, mark);
        }
    }

    /// The span of this batch, if it is one of those that have one.
    fn sampled(&mut self) -> Option<EnteredSpan> {
        if self.limits.batch_spans == 0 {
            return None;
        }
        self.unsampled += 1;
        if self.unsampled < self.limits.batch_spans {
            return None;
        }
        self.unsampled = 0;
        let (session, epoch) = (self.plane.reporter.name(), self.guard.epoch.as_u64());
        Some(spans::batch(session, epoch, self.tally.frames, self.tally.bytes).entered())
    }

    /// Hands the batch on to the subscribers and publishes what was counted.
    pub(super) fn deliver(&mut self) {
        // When this turn found its first answer, if it found one: the clock is read once for both.
        let now = *self.moments.1.get_or_insert_with(clock::now);
        self.bytes_read = self.wire.bytes_read();
        let _within = self.sampled();
        let answers = self.answers.len();
        self.tell_answers();
        if std::mem::take(&mut self.quiet) {
            self.first_data = None;
            self.plane.spans.first_frame();
        }
        self.plane.touch(now);
        if self.plane.delivers(self.guard.epoch) {
            let (waiting, plane) = (&mut self.waiting, &self.plane);
            let before = plane.counters.bytes_in.load(Ordering::Relaxed);
            self.sorter.deliver(
                self.guard.epoch,
                now,
                before + self.tally.bytes as u64,
                |subscriber, delivered| plane.delivered(subscriber, delivered),
                |subscriber| {
                    if let Some(limit) = subscriber.blocks() {
                        let patience = Box::pin(tokio::time::sleep(limit));
                        waiting.push((Arc::clone(subscriber), patience));
                    }
                },
            );
            if !self.waiting.is_empty() {
                self.plane.pause(true);
            }
        } else {
            self.sorter.discard();
            self.tally.delivered = 0;
        }
        let tally = std::mem::take(&mut self.tally);
        let epoch = self.guard.epoch;
        // Answers before that are those of the login.
        let answered = || answers > 0 && self.plane.is_live_in(epoch);
        if !self.data_came && (tally.delivered > 0 || answered()) {
            self.data_came = true;
            self.plane.data_came(epoch);
        }
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
}
