//! Until when callers wait, kept by the connection for all of them: a timer for each request would be registered and
//! taken out again for every answer, between those of a thousand others.
//!
//! Apart from the requests in flight because what has not been written has a deadline, too.
//!
//! Invariants: the timer rings no later than the earliest deadline; it may ring for one that was answered meanwhile, and
//! is then set for the next.

use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};
use std::time::Instant;

use tokio::time::{Sleep, sleep_until};

use super::super::clock;
use super::super::wire::Wire;
use super::Connection;

/// The earliest of many deadlines.
#[derive(Debug, Default)]
pub(super) struct Deadlines {
    next: Option<Instant>,
    timer: Option<Timer>,
}

#[derive(Debug)]
struct Timer {
    sleep: Pin<Box<Sleep>>,
    /// What it is set for.
    set: Option<Instant>,
    /// Whom it wakes: to tell it so again costs more than to look.
    wakes: Waker,
}

impl Timer {
    fn new(at: Instant) -> Self {
        Self {
            sleep: Box::pin(sleep_until(at.into())),
            set: Some(at),
            wakes: Waker::noop().clone(),
        }
    }
}

impl Deadlines {
    /// One more.
    pub(super) fn keep(&mut self, deadline: Instant) {
        if self.next.is_none_or(|next| deadline < next) {
            self.next = Some(deadline);
        }
    }

    /// Ready when the earliest has come; then none is left.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(next) = self.next else {
            return Poll::Pending;
        };
        let timer = self.timer.get_or_insert_with(|| Timer::new(next));
        let is_set = timer.set == Some(next);
        if is_set && timer.wakes.will_wake(cx.waker()) && !timer.sleep.is_elapsed() {
            return Poll::Pending;
        }
        if !is_set {
            timer.sleep.as_mut().reset(next.into());
            timer.set = Some(next);
        }
        timer.wakes.clone_from(cx.waker());
        ready!(timer.sleep.as_mut().poll(cx));
        (self.next, timer.set) = (None, None);
        Poll::Ready(())
    }
}

impl<W: Wire> Connection<W> {
    /// Tells callers that have waited long enough.
    pub(super) fn poll_overdue(&mut self, cx: &mut Context<'_>) {
        while self.deadlines.poll(cx).is_ready() {
            let now = clock::now();
            if let Some(next) = self.pending.overdue(now) {
                self.deadlines.keep(next);
            }
            self.keep_queued(cx, now);
        }
    }

    /// Keeps the time of what cannot be written yet, and tells those for whom that takes too long.
    pub(super) fn keep_queued(&mut self, cx: &Context<'_>, now: Instant) {
        let deadlines = &mut self.deadlines;
        self.outbound.watch(cx, |outbound| {
            for port in outbound.ports() {
                match port.deadline() {
                    Some(deadline) if deadline <= now => port.overdue(),
                    Some(deadline) => deadlines.keep(deadline),
                    None => {}
                }
            }
        });
    }
}
