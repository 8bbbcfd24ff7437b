//! The queue for a session that is not live, and its way onto the line of the next connection.
//!
//! Apart from the machine (`protocol/outbox`) because it has a lock, a task and callers that wait; it decides nothing.
//! What waits is in the queue itself and not in its caller, so that a caller that is not polled holds up nobody.
//!
//! Invariants: nothing leaves before the session is live, which is after authentication and restoration; what leaves
//! does so in the order of its coming, under the limits; a caller that goes away takes back what has not left; one
//! task at most empties the queue, and ends with its line.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use super::Session;
use super::clock::{self, from_now};
use super::limiter::{Limiter, Queued};
use super::line::{Line, Outbound};
use super::plane::SessionState;
use super::reporter::Reporter;
use super::request::{self, Toll};
use crate::config::Offline;
use crate::config::limits::Weight;
use crate::error::{Kept, NotSentCause};
use crate::protocol::outbox::{self, OutboxStatus, Place, Refusal};

/// What waits for the session to be live.
#[derive(Debug)]
pub(crate) struct Outbox {
    limits: Offline,
    limiter: Option<Limiter>,
    /// Who is told when it fills up.
    reporter: Arc<Reporter>,
    state: Mutex<State>,
    /// How many wait or are being handed on; changed with the state, read by those who come while it is zero.
    present: AtomicUsize,
}

#[derive(Debug)]
struct State {
    machine: outbox::Outbox<Waiting>,
    /// Where the queue is emptied to. Set when the session is live, cleared when nothing is left or the line is over.
    line: Option<Arc<Line>>,
}

/// How it was put on a line: its place in the limiter's queue, if there is one; or why it was not.
type Turn = Result<Option<Queued>, Kept>;

#[derive(Debug)]
struct Waiting {
    /// What to write; `None` if its caller goes on by himself.
    delivery: Option<Delivery>,
    turn: oneshot::Sender<Turn>,
}

#[derive(Debug)]
struct Delivery {
    outbound: Outbound,
    weight: Option<Weight>,
    deadline: Instant,
}

impl Outbox {
    /// An empty one, out of which things go through `limiter`.
    pub(crate) fn new(
        limits: Offline,
        limiter: Option<Limiter>,
        reporter: &Arc<Reporter>,
    ) -> Arc<Self> {
        let state = State {
            machine: outbox::Outbox::new(limits),
            line: None,
        };
        Arc::new(Self {
            limits,
            limiter,
            reporter: Arc::clone(reporter),
            state: Mutex::new(state),
            present: AtomicUsize::new(0),
        })
    }

    /// How things stand.
    pub(crate) fn status(&self) -> OutboxStatus {
        self.lock(|state| state.machine.status())
    }

    /// How full it is, from 0 to 1.
    #[cfg(any(feature = "otel", feature = "prometheus"))]
    pub(crate) fn share(&self) -> f64 {
        self.lock(|state| state.machine.level().share())
    }

    /// Whether somebody who comes now passes nobody by.
    fn is_idle(&self) -> bool {
        self.present.load(Ordering::Acquire) == 0
    }

    /// The session is live on `line`.
    pub(crate) fn drain(self: &Arc<Self>, line: Arc<Line>) {
        let begins = self.lock(|state| {
            if state.machine.is_idle() {
                return false;
            }
            state.line = Some(line);
            state.machine.begin()
        });
        if begins {
            let outbox = Arc::clone(self);
            tokio::spawn(
                Drain {
                    outbox,
                    over: false,
                }
                .run(),
            );
        }
    }

    /// The session is over: whoever waits is told.
    pub(crate) fn clear(&self) {
        let waiting = self.lock(|state| {
            state.line = None;
            state.machine.clear()
        });
        // Dropped outside the lock: ports speak to their callers.
        drop(waiting);
    }

    fn push(&self, waiting: Waiting, bytes: usize) -> Result<Place, Refusal> {
        let (expired, pushed, filling) = self.lock(|state| {
            let now = clock::now();
            let expired = state.machine.expire(now);
            let pushed = state.machine.push(waiting, bytes, now);
            (expired, pushed, state.machine.filling(now))
        });
        if let Some(level) = filling {
            self.reporter.filling("offline", None, level);
        }
        if let Some(age) = self.limits.max_age {
            for waiting in expired {
                // A caller that has gone away does not want to know.
                let _ = waiting.turn.send(Err(Refusal::TooOld(age).into()));
            }
        }
        pushed.map_err(|(_, refusal)| refusal)
    }

    fn remove(&self, place: Place, late: bool) -> bool {
        let removed = self.lock(|state| state.machine.remove(place, late));
        removed.is_some()
    }

    fn lock<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        let mut state: MutexGuard<'_, State> =
            self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let result = act(&mut state);
        let present = match state.machine.is_idle() {
            true => 0,
            false => state.machine.status().waiting + 1,
        };
        self.present.store(present, Ordering::Release);
        result
    }
}

impl From<Refusal> for Kept {
    fn from(refusal: Refusal) -> Self {
        let cause = match refusal {
            Refusal::TooMany { .. } | Refusal::TooLarge { .. } => NotSentCause::Full,
            Refusal::NothingWaits | Refusal::TooOld(_) => NotSentCause::NotLive,
        };
        Self::new(cause, refusal.to_string())
    }
}

/// The task that empties the queue.
struct Drain {
    outbox: Arc<Outbox>,
    /// Whether it has given up its claim on being the only one.
    over: bool,
}

impl Drop for Drain {
    fn drop(&mut self) {
        // A runtime that ends takes the task with it.
        if !self.over {
            self.outbox.lock(|state| state.machine.stop());
        }
    }
}

impl Drain {
    async fn run(mut self) {
        let outbox = Arc::clone(&self.outbox);
        while let Some(line) = outbox.lock(|state| state.line.clone()) {
            // Room first, so that what is taken out has somewhere to go.
            let Ok(room) = line.sender.reserve().await else {
                self.over = outbox.lock(|state| {
                    // The next connection may be live already.
                    state.line = state.line.take().filter(|next| next.epoch > line.epoch);
                    if state.line.is_none() {
                        state.machine.stop();
                    }
                    state.line.is_none()
                });
                if self.over {
                    return;
                }
                continue;
            };
            let next = outbox.lock(|state| {
                let next = state.machine.pop();
                if next.is_none() {
                    state.line = None;
                }
                next
            });
            let Some(Waiting { delivery, turn }) = next else {
                self.over = true;
                return;
            };
            let told = match (delivery, &outbox.limiter) {
                (Some(delivery), Some(limiter)) if delivery.weight.is_some() => {
                    delivery.through(limiter, &line)
                }
                (Some(delivery), _) => {
                    room.send(delivery.outbound);
                    line.rose();
                    Ok(None)
                }
                (None, _) => Ok(None),
            };
            // A caller that has gone away does not want to know.
            let _ = turn.send(told);
        }
    }
}

impl Delivery {
    fn through(self, limiter: &Limiter, line: &Arc<Line>) -> Turn {
        let deadline = Some(self.deadline.into_std());
        let weight = self.weight.unwrap_or_default();
        let queued = limiter.deliver(line, self.outbound, weight, false, deadline);
        queued.map(Some).map_err(Kept::from)
    }
}

/// A place in the queue; given back when dropped.
struct Ticket<'a> {
    outbox: &'a Outbox,
    place: Place,
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        self.outbox.remove(self.place, false);
    }
}

impl Session {
    /// Puts `outbound` on the line of the live connection, or into the queue for the next one.
    ///
    /// The error says why it will not be written.
    pub(crate) async fn hand_to_line(
        &self,
        outbound: Outbound,
        toll: Toll<'_>,
        deadline: Instant,
    ) -> Result<Option<Queued>, Kept> {
        self.check_open()?;
        if let Some(line) = self.line_in_turn() {
            return request::enqueue(&line, outbound, toll, deadline).await;
        }
        let bytes = outbound.bytes();
        let delivery = Delivery {
            outbound,
            weight: toll.map(|(_, weight)| weight),
            deadline,
        };
        self.wait_outside(Some(delivery), bytes, deadline).await
    }

    /// The line of the live connection, if the session is live now, takes something new, and nobody waits for it.
    pub(crate) fn line_in_turn(&self) -> Option<Arc<Line>> {
        self.is_free_to_ask().then(|| self.line_at_once()).flatten()
    }

    /// Whether the session takes something new, and nobody waits for it.
    pub(crate) fn is_free_to_ask(&self) -> bool {
        let plane = &self.shared.plane;
        plane.outbox.is_idle() && !plane.callers.is_drained()
    }

    /// The line of the live connection, as soon as there is one; counted as `bytes` while it is waited for.
    pub(crate) async fn line_when_live(
        &self,
        bytes: usize,
        deadline: Instant,
    ) -> Result<Arc<Line>, Kept> {
        self.check_open()?;
        loop {
            if let Some(line) = self.line_in_turn() {
                return Ok(line);
            }
            self.wait_outside(None, bytes, deadline).await?;
            if let Some(line) = self.line_at_once() {
                return Ok(line);
            }
        }
    }

    /// What a session that is being drained says to whoever comes.
    fn check_open(&self) -> Result<(), Kept> {
        let plane = &self.shared.plane;
        if plane.callers.is_drained() && !plane.is_over() {
            let detail = "the session is being drained and takes nothing new";
            return Err(Kept::new(NotSentCause::Over, detail));
        }
        Ok(())
    }

    async fn wait_outside(
        &self,
        delivery: Option<Delivery>,
        bytes: usize,
        deadline: Instant,
    ) -> Turn {
        let outbox = &self.shared.plane.outbox;
        if self.shared.plane.is_over() {
            return Err(self.not_live());
        }
        let (turn, mut told) = oneshot::channel();
        let place = outbox
            .push(Waiting { delivery, turn }, bytes)
            .map_err(Kept::from)?;
        let ticket = Ticket { outbox, place };
        // It may have come live, or to its end, since that was looked at.
        match self.line_at_once() {
            Some(line) => outbox.drain(line),
            None if self.shared.plane.is_over() => outbox.clear(),
            None => {}
        }
        let age = outbox.limits.max_age;
        let aged = age.map_or(deadline, from_now);
        match timeout_at(deadline.min(aged), &mut told).await {
            Ok(Ok(turn)) => turn,
            Err(_) if outbox.remove(ticket.place, true) => Err(match age {
                Some(age) if aged < deadline => Refusal::TooOld(age).into(),
                Some(_) | None => {
                    let detail = format!("the session was not live in time: {}", self.state());
                    Kept::new(NotSentCause::NotLive, detail)
                }
            }),
            // It has just left.
            Err(_) => told.await.unwrap_or_else(|_| Err(self.not_live())),
            Ok(Err(_)) => Err(self.not_live()),
        }
    }

    /// What it says to whoever comes while it is not live.
    pub(crate) fn not_live(&self) -> Kept {
        match self.state() {
            SessionState::Ended(reason) => {
                Kept::new(NotSentCause::Over, format!("the session is over: {reason}"))
            }
            state => {
                let detail = format!("the session is not live: {state}");
                Kept::new(NotSentCause::NotLive, detail)
            }
        }
    }
}
