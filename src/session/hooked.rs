//! A session's hooks at work: who is asked where, who is told in which task, and what a panic comes to.
//!
//! Apart from the traits because those are a user's and know no session.
//!
//! Invariants: no panic of a hook leaves this file; what is told is told in one task, in order; the end is the
//! last thing told.

use std::any::Any;
use std::error::Error;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::mpsc;

use super::clock::from_now;
use super::line::Outbound;
use super::observe::{Notice, Observer, Observers};
use super::plane::Plane;
use super::reporter::Reporter;
use super::request::{self, Way};
use super::secrets::Known;
use crate::close::CloseReason;
use crate::error::{EndReason, RequestError};
use crate::frame::Frame;
use crate::hooks::{Admission, Hooks, Reaction, Remedy};
use crate::protocol::call::{Call, Grant};
use crate::protocol::continuity::Epoch;
use crate::protocol::recording::Direction;
use crate::protocol::status::{Status, Why};
use crate::telemetry::TelemetryEvent;

/// Notices that may wait for the hooks that are told.
const BACKLOG: usize = 1024;
/// Frames of theirs that may wait to be sent.
const REPLIES: usize = 256;
/// How long each may wait for that.
const REPLY_LIMIT: Duration = Duration::from_secs(10);

/// What has become of a session's hooks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct HookStatistics {
    /// Calls that panicked, and reactions that could not be carried out.
    pub faults: u64,
    /// Notices that found no room in the queue and were told nobody.
    pub lost: u64,
    /// Frames that a hook discarded.
    pub discarded: u64,
}

/// The hooks of one session.
pub(crate) struct Hooked {
    hooks: Hooks,
    reporter: Arc<Reporter>,
    faults: AtomicU64,
    lost: Arc<AtomicU64>,
    discarded: AtomicU64,
    /// Connections lost since one proved stable.
    losses: AtomicU32,
    /// Frames to be sent on the connection of an epoch, in order.
    replies: mpsc::Sender<(Epoch, Frame)>,
    /// What the two tasks are made of; taken when they begin.
    tasks: Mutex<Option<Tasks>>,
}

struct Tasks {
    plane: Weak<Plane>,
    observer: Observer,
    replies: mpsc::Receiver<(Epoch, Frame)>,
}

impl fmt::Debug for Hooked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hooked")
            .field("hooks", &self.hooks)
            .field("statistics", &self.statistics())
            .finish_non_exhaustive()
    }
}

impl Hooked {
    /// The hooks of the session whose plane this will be, listening from now on; `None` where there are none.
    pub(crate) fn new(
        hooks: Hooks,
        reporter: &Arc<Reporter>,
        observers: &Observers,
        plane: &Weak<Plane>,
    ) -> Option<Arc<Self>> {
        if hooks.is_empty() {
            return None;
        }
        let (replies, to_send) = mpsc::channel(REPLIES);
        let lost = Arc::default();
        let tasks = Tasks {
            plane: Weak::clone(plane),
            observer: observers.admit_counting(BACKLOG, &lost),
            replies: to_send,
        };
        Some(Arc::new(Self {
            hooks,
            reporter: Arc::clone(reporter),
            faults: AtomicU64::new(0),
            lost,
            discarded: AtomicU64::new(0),
            losses: AtomicU32::new(0),
            replies,
            tasks: Mutex::new(Some(tasks)),
        }))
    }

    /// Begins to tell and to send, in tasks that end with the session. Called within a runtime; later calls do
    /// nothing.
    pub(crate) fn begin(self: &Arc<Self>) {
        let tasks = self
            .tasks
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let Some(Tasks {
            plane,
            mut observer,
            mut replies,
        }) = tasks
        else {
            return;
        };
        let (telling, told) = (Arc::clone(self), Weak::clone(&plane));
        // It ends with the notice of the end, or when the plane is gone and with it the queue.
        drop(tokio::spawn(async move {
            while let Some(notice) = observer.next().await {
                telling.tell(&told, &notice);
                if matches!(&notice, Notice::Status(step) if step.to == Status::Ended) {
                    break;
                }
            }
        }));
        let sending = Arc::downgrade(self);
        // It ends when the plane is gone and with it the queue's other end.
        drop(tokio::spawn(async move {
            while let Some((epoch, frame)) = replies.recv().await {
                let Some(plane) = plane.upgrade() else { break };
                let sent = send(&plane, epoch, frame).await;
                if let (Err(detail), Some(hooked)) = (sent, sending.upgrade()) {
                    hooked.fault("reaction.reply", &detail);
                }
            }
        }));
    }

    pub(crate) fn statistics(&self) -> HookStatistics {
        HookStatistics {
            faults: self.faults.load(Ordering::Relaxed),
            lost: self.lost.load(Ordering::Relaxed),
            discarded: self.discarded.load(Ordering::Relaxed),
        }
    }

    fn tell(&self, plane: &Weak<Plane>, notice: &Notice) {
        match notice {
            Notice::Status(step) => {
                if let Some(log) = &self.hooks.log {
                    self.contain("log.on_step", || log.on_step(step));
                    if let Some(error) = fault(&step.why) {
                        self.contain("log.on_error", || log.on_error(&*error));
                    }
                }
                let Some(hook) = &self.hooks.connection else {
                    return;
                };
                self.contain("connection.on_step", || hook.on_step(step));
                match &step.why {
                    Why::Established(epoch) if step.to == Status::Live => {
                        let reaction = self.contain("connection.on_live", || hook.on_live(*epoch));
                        let plane = plane.upgrade().filter(|plane| plane.epoch() == *epoch);
                        if let (Some(reaction), Some(plane)) = (reaction, plane) {
                            self.react(&plane, reaction);
                        }
                    }
                    Why::Closed(reason) => {
                        self.contain("connection.on_lost", || hook.on_lost(reason));
                    }
                    Why::Ended(reason) => {
                        self.contain("connection.on_end", || hook.on_end(reason));
                    }
                    Why::Attempt | Why::Opened(_) | Why::Established(_) => {}
                }
            }
            Notice::Gap {
                epoch,
                cause,
                subscriptions,
            } => {
                if let Some(hook) = &self.hooks.subscription {
                    self.contain("subscription.on_gap", || {
                        hook.on_gap(*epoch, cause, *subscriptions);
                    });
                }
            }
            Notice::Confirmed { epoch, channel } => {
                if let Some(hook) = &self.hooks.subscription {
                    self.contain("subscription.on_confirmed", || {
                        hook.on_confirmed(*epoch, channel);
                    });
                }
            }
            Notice::Refused {
                epoch,
                channel,
                detail,
            } => {
                if let Some(hook) = &self.hooks.subscription {
                    self.contain("subscription.on_refused", || {
                        hook.on_refused(*epoch, channel, detail);
                    });
                }
            }
            // Observers and collectors hear of it; no hook does.
            Notice::Stale { .. } | Notice::Fresh { .. } => {}
            Notice::Authorized { epoch, lasts } => {
                if let Some(hook) = &self.hooks.auth {
                    self.contain("auth.on_granted", || hook.on_granted(*epoch, *lasts));
                }
            }
            Notice::Unauthorized { epoch, detail } => {
                if let Some(hook) = &self.hooks.auth {
                    self.contain("auth.on_refused", || hook.on_refused(*epoch, detail));
                }
            }
        }
    }

    /// Whether frames are of interest to anybody.
    pub(crate) fn wants_frames(&self) -> bool {
        self.hooks.message.is_some() || self.hooks.log.is_some()
    }

    /// A data frame came. Returns whether it goes on.
    pub(crate) fn came(&self, plane: &Plane, frame: &Frame) -> bool {
        let Some(hook) = &self.hooks.message else {
            return true;
        };
        match self.contain("message.on_frame", || hook.on_frame(frame)) {
            None | Some(Reaction::Pass) => true,
            Some(Reaction::Discard) => {
                self.discarded.fetch_add(1, Ordering::Relaxed);
                false
            }
            Some(reaction) => {
                self.react(plane, reaction);
                true
            }
        }
    }

    /// A data frame came that is no answer.
    pub(crate) fn log_came(&self, secrets: &Known, frame: &Frame) {
        if let Some(log) = &self.hooks.log {
            let frame = secrets.clean_frame(frame.clone());
            self.contain("log.on_message", || log.on_message(Direction::In, &frame));
        }
    }

    /// A data frame without credentials was handed to the socket.
    pub(crate) fn went(&self, frame: &Frame) {
        if let Some(hook) = &self.hooks.message {
            self.contain("message.on_sent", || hook.on_sent(frame));
        }
        if let Some(log) = &self.hooks.log {
            self.contain("log.on_message", || log.on_message(Direction::Out, frame));
        }
    }

    /// A connection ended by itself; whether the one before it had proved stable.
    pub(crate) fn loss(&self, reason: &CloseReason, stable: bool) -> Remedy {
        let losses = match stable {
            true => {
                self.losses.store(1, Ordering::Relaxed);
                1
            }
            false => self
                .losses
                .fetch_add(1, Ordering::Relaxed)
                .saturating_add(1),
        };
        let Some(hook) = &self.hooks.error else {
            return Remedy::Usual;
        };
        self.contain("error.on_loss", || hook.on_loss(reason, losses))
            .unwrap_or_default()
    }

    /// A request of the user's failed.
    pub(crate) fn request_failed(&self, error: &RequestError) {
        if let Some(hook) = &self.hooks.error {
            self.contain("error.on_request_error", || hook.on_request_error(error));
        }
        if let Some(log) = &self.hooks.log {
            self.contain("log.on_error", || log.on_error(error));
        }
    }

    pub(crate) fn admit(&self, call: &Call) -> Admission {
        let Some(hook) = &self.hooks.rate_limit else {
            return Admission::Usual;
        };
        self.contain("rate_limit.admit", || hook.admit(call))
            .unwrap_or_default()
    }

    /// The grant, renewed when the hook says.
    pub(crate) fn renewal(&self, grant: Grant) -> Grant {
        let (Some(hook), Some(lasts)) = (&self.hooks.auth, grant.lasts) else {
            return grant;
        };
        let after: Option<Duration> = self
            .contain("auth.renew_after", || hook.renew_after(lasts))
            .flatten();
        match after {
            Some(after) => grant.renew_after(after),
            None => grant,
        }
    }

    fn react(&self, plane: &Plane, reaction: Reaction) {
        match reaction {
            Reaction::Pass | Reaction::Discard => {}
            Reaction::Reply(frames) => {
                let epoch = plane.epoch();
                for frame in frames {
                    if let Err(detail) = frame.check() {
                        self.fault("reaction.reply", &detail);
                    } else if self.replies.try_send((epoch, frame)).is_err() {
                        self.fault("reaction.reply", "too many frames wait to be sent");
                    }
                }
            }
            Reaction::Close(code, text) => self.close(plane, code, text, false),
            Reaction::End(code, text) => self.close(plane, code, text, true),
        }
    }

    fn close(&self, plane: &Plane, code: u16, text: String, ends: bool) {
        if let Err(detail) = Frame::Close(Some((code, text.clone()))).check() {
            self.fault("reaction.close", &detail);
            return;
        }
        // A connection that has ended needs no closing.
        let Some(line) = plane.line() else { return };
        let close = Outbound::Close {
            code,
            reason: text.clone(),
            cause: CloseReason::Hook { reason: text, ends },
        };
        // A full queue of urgent frames holds a close already, or a heartbeat that will be followed.
        if line.urgent.try_send(close).is_err() {
            self.fault("reaction.close", "the line takes nothing more");
        }
    }

    fn contain<R>(&self, hook: &'static str, call: impl FnOnce() -> R) -> Option<R> {
        match catch_unwind(AssertUnwindSafe(call)) {
            Ok(answer) => Some(answer),
            Err(payload) => {
                self.fault(hook, &format!("it panicked: {}", words(&*payload)));
                // A payload may panic once more in its drop.
                std::mem::forget(payload);
                None
            }
        }
    }

    fn fault(&self, hook: &'static str, detail: &str) {
        self.faults.fetch_add(1, Ordering::Relaxed);
        self.reporter
            .report(&TelemetryEvent::HookFailed { hook, detail });
    }
}

/// Sends on the connection of `epoch`; says why not.
async fn send(plane: &Plane, epoch: Epoch, frame: Frame) -> Result<(), String> {
    let line = plane.line().filter(|line| line.epoch == epoch);
    let line = line.ok_or("its connection has ended")?;
    let deadline = from_now(REPLY_LIMIT);
    request::send(plane, Way::Line(&line), frame, REPLY_LIMIT, deadline)
        .await
        .map_err(|error| error.to_string())
}

/// The error in a step, if it is one.
fn fault(why: &Why) -> Option<Box<dyn Error>> {
    match why {
        Why::Closed(reason) => Some(reason.to_string().into()),
        Why::Ended(reason @ EndReason::Fatal(_)) => Some(reason.to_string().into()),
        Why::Ended(_) | Why::Attempt | Why::Opened(_) | Why::Established(_) => None,
    }
}

fn words(payload: &(dyn Any + Send)) -> &str {
    payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("with a value that is no text")
}
