//! Stable addresses: one value that reaches whichever incarnation is up.
//!
//! An `ActorRef` goes stale with its actor. An address is filled by each incarnation when it is
//! ready and emptied at the first sign of its end.
//!
//! Invariants: nothing is re-sent by itself, since a message delivered twice is worse than an error;
//! a message that was not delivered is handed back; resolving takes no lock and no name.

mod errors;
mod place;
mod shortcut;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use ractor::{ActorRef, Message, RpcReplyPort};
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

pub use errors::{AddressError, CallError, NotUp};
pub(crate) use place::{Binding, MakeBinding};
use place::{Incumbent, Place};
use shortcut::Tried;

use crate::exit::ExitReason;
use crate::id::{Generation, SupervisorPath};
use crate::monitor::{MonitorRef, Watcher, monitor_nothing, monitor_record};
use crate::runtime::record::lock;
use crate::time::from_now;

/// What can be said about the child behind an [`Address`].
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum AddressStatus {
    /// No incarnation has been up yet.
    Unbound,
    /// This incarnation is up.
    Up(Generation),
    /// The incarnation is ending; what follows is not decided yet.
    Leaving(Generation),
    /// It ended and will be started again.
    Restarting {
        /// The how manyth consecutive attempt that is; zero when it is restarted along with another, or
        /// by request.
        attempt: u32,
        /// When it is made at the earliest, by the runtime's clock; in the past while it is under way.
        next_at: Instant,
    },
    /// It ended for this reason, and its supervisor does not start it again by itself. It may come back with its
    /// group, by request, or when that supervisor is itself restarted.
    Down(Arc<ExitReason>),
}

impl AddressStatus {
    /// Whether an incarnation is up.
    #[must_use]
    pub fn is_up(&self) -> bool {
        matches!(self, Self::Up(_))
    }
}

impl fmt::Display for AddressStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unbound => f.write_str("never started"),
            Self::Up(generation) => write!(f, "up, generation {generation}"),
            Self::Leaving(generation) => write!(f, "ending, generation {generation}"),
            Self::Restarting { attempt: 0, .. } => f.write_str("restarting"),
            Self::Restarting { attempt, .. } => write!(f, "restarting, attempt {attempt}"),
            Self::Down(reason) => write!(f, "down: {reason}"),
        }
    }
}

/// Reaches whichever incarnation of a child is up. Clones reach the same.
pub struct Address<M> {
    place: Arc<Place<M>>,
}

impl<M> Clone for Address<M> {
    fn clone(&self) -> Self {
        Self {
            place: self.place.clone(),
        }
    }
}

impl<M> fmt::Debug for Address<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Address")
            .field(&*self.place.status.borrow())
            .finish()
    }
}

impl<M: Message> Default for Address<M> {
    fn default() -> Self {
        Self::new()
    }
}

impl<M: Message> Address<M> {
    /// An address of nobody yet; give it to [`ChildSpec::address`](crate::ChildSpec::address). Name the actor's message
    /// type (`Address::<Msg>::new()`) where nothing that is sent to it does.
    #[must_use]
    pub fn new() -> Self {
        Self {
            place: Arc::new(Place::new()),
        }
    }

    /// The incarnation that is up. It may end at any moment; do not keep it.
    #[must_use]
    pub fn current(&self) -> Option<ActorRef<M>> {
        self.place
            .incumbent
            .load()
            .as_ref()
            .map(|incumbent| incumbent.actor.clone())
    }

    /// The incarnation that is up, or was the last one; zero before the first.
    #[must_use]
    pub fn generation(&self) -> Generation {
        lock(&self.place.latest)
            .as_ref()
            .map_or(Generation::default(), |record| record.generation)
    }

    /// What can be said of the child now.
    #[must_use]
    pub fn status(&self) -> AddressStatus {
        self.place.status.borrow().clone()
    }

    /// Sends without waiting, and tells to which incarnation. That it was put into the mailbox does
    /// not mean that it will be handled. One case of loss has no error: a message to a *remote* actor that
    /// cannot be serialized is told as sent, since ractor does not give it back.
    ///
    /// # Errors
    /// Hands the message back when nobody is up.
    #[inline]
    pub fn cast(&self, message: M) -> Result<Generation, AddressError<M>> {
        match shortcut::send(self.place.sign.shown(), message) {
            Tried::Sent(generation) => Ok(generation),
            Tried::Refused(message) => Err(self.refuse(message)),
            Tried::Unknown(message) => self.cast_to_incumbent(message),
        }
    }

    /// The way of those whose thread does not know the incarnation.
    fn cast_to_incumbent(&self, message: M) -> Result<Generation, AddressError<M>> {
        let incumbent = self.place.incumbent.load();
        let Some(incumbent) = incumbent.as_ref() else {
            return Err(self.refuse(message));
        };
        self.deliver(message, incumbent)?;
        let Incumbent {
            actor,
            generation,
            mark,
            sent,
            ..
        } = &**incumbent;
        shortcut::note(*mark, actor, *generation, sent);
        Ok(*generation)
    }

    /// Sends as soon as somebody is up, `within` at most. Dropping the future before drops the message.
    ///
    /// # Errors
    /// Hands the message back when nobody came up in time.
    pub async fn cast_when_up(
        &self,
        message: M,
        within: Duration,
    ) -> Result<Generation, AddressError<M>> {
        let deadline = from_now(within);
        let mut status = self.place.status.subscribe();
        let mut message = message;
        loop {
            status.borrow_and_update();
            match self.cast(message) {
                Ok(generation) => return Ok(generation),
                Err(error) => message = error.message,
            }
            if !matches!(
                tokio::time::timeout_at(deadline, status.changed()).await,
                Ok(Ok(()))
            ) {
                return Err(self.refuse(message));
            }
        }
    }

    /// Sends a message that holds a reply port and waits for the answer. Never asks twice.
    ///
    /// Dropped while it waits, the message has been sent and may be acted upon; the answer finds nobody.
    ///
    /// # Errors
    /// See [`CallError`]; only `NotUp` means for certain that nothing was done.
    pub async fn call<R: Send + 'static>(
        &self,
        message: impl FnOnce(RpcReplyPort<R>) -> M,
        timeout: Duration,
    ) -> Result<R, CallError> {
        let (port, answer) = oneshot::channel();
        let message = message((port, timeout).into());
        let not_up = |error: AddressError<M>| CallError::NotUp {
            child: error.child,
            status: error.status,
        };
        let Some(incumbent) = self.place.incumbent.load_full() else {
            return Err(not_up(self.refuse(message)));
        };
        self.deliver(message, &incumbent).map_err(not_up)?;
        // Not held while it waits, since it keeps an actor's cell.
        let (record, generation) = (incumbent.record.clone(), incumbent.generation);
        drop(incumbent);
        match tokio::time::timeout(timeout, answer).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_)) => Err(CallError::Died {
                child: record.path(),
                generation,
            }),
            Err(_) => Err(CallError::Timeout {
                child: record.path(),
                generation,
                within: timeout,
            }),
        }
    }

    /// The incarnation that is up, waited for `within` at most. Dropping the future changes nothing.
    ///
    /// # Errors
    /// When nobody came up in time.
    pub async fn up(&self, within: Duration) -> Result<ActorRef<M>, NotUp> {
        let mut status = self.place.status.subscribe();
        let waited = tokio::time::timeout(within, async {
            loop {
                status.borrow_and_update();
                if let Some(actor) = self.current() {
                    return Some(actor);
                }
                status.changed().await.ok()?;
            }
        });
        match waited.await {
            Ok(Some(actor)) => Ok(actor),
            Ok(None) | Err(_) => Err(NotUp {
                child: self.child(),
                status: self.status(),
                within,
            }),
        }
    }

    /// The changes of [`status`](Self::status) from now on.
    #[must_use]
    pub fn changes(&self) -> AddressChanges {
        AddressChanges {
            status: self.place.status.subscribe(),
        }
    }

    /// Watches the incarnation that is up, or was the last one: then the [`Down`](crate::Down)
    /// comes at once, with how it ended.
    pub fn monitor(&self, watcher: &impl Watcher) -> MonitorRef {
        let latest = lock(&self.place.latest).clone();
        match latest {
            Some(record) => monitor_record(watcher, &record),
            None => monitor_nothing(watcher),
        }
    }

    pub(crate) fn binding(&self) -> Arc<dyn Binding> {
        self.place.clone()
    }

    /// The address whose side a spec holds, when it is for these messages.
    pub(crate) fn of(binding: Arc<dyn Binding>) -> Option<Self> {
        let place = binding.as_any().downcast().ok()?;
        Some(Self { place })
    }

    fn deliver(&self, message: M, incumbent: &Incumbent<M>) -> Result<(), AddressError<M>> {
        match incumbent.actor.send_message(message) {
            Ok(()) => {
                incumbent.sent.count_one();
                Ok(())
            }
            Err(ractor::MessagingErr::SendErr(message)) => Err(self.refuse(message)),
            // A local actor of the right type yields no other error; a remote one that cannot
            // encode the message has consumed it.
            Err(_) => Ok(()),
        }
    }

    /// Who was up here last.
    fn child(&self) -> Option<SupervisorPath> {
        lock(&self.place.latest)
            .as_ref()
            .map(|record| record.path())
    }

    #[cold]
    fn refuse(&self, message: M) -> AddressError<M> {
        AddressError {
            message,
            child: self.child(),
            status: self.status(),
        }
    }
}

/// The changes of an address's status; quick ones may be merged, the last one is never missed.
#[derive(Debug, Clone)]
pub struct AddressChanges {
    status: watch::Receiver<AddressStatus>,
}

impl AddressChanges {
    /// Waits for the next change; `None` when the address is gone for good. Cancel safe: a change that came
    /// while nobody waited is yielded by the next call.
    pub async fn next(&mut self) -> Option<AddressStatus> {
        self.status.changed().await.ok()?;
        Some(self.status.borrow_and_update().clone())
    }
}
