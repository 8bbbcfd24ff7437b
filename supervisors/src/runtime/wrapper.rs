//! The actor around the user's actor.
//!
//! Every callback is forwarded; what ends it (error, panic, stop, kill) is noted in the record,
//! because ractor reports ends as strings only.
//!
//! Invariants: the state lives in a vault shared with the keeper, which drops it in its own task,
//! never in the supervisor's (a kill sends ractor's copy of the state there: the empty vault);
//! a panic leaves as an error of the type [`Recorded`].

use std::error::Error;
use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex};

use futures_util::FutureExt;
use ractor::{Actor, ActorProcessingErr, ActorRef, SupervisionEvent};
use tokio::sync::oneshot;

use crate::exit::{ExitReason, PanicInfo};
use crate::runtime::record::{Record, lock};

/// The error that the wrapper hands to ractor: what the record says already.
#[derive(Debug)]
pub(crate) struct Recorded(pub(crate) ExitReason);

impl fmt::Display for Recorded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Error for Recorded {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &self.0 {
            ExitReason::Failed(error) => Some(&**error),
            _ => None,
        }
    }
}

/// Where an incarnation's state is between callbacks.
pub(crate) struct Vault<S> {
    state: Arc<Mutex<Option<Box<S>>>>,
}

/// The keeper's key to a vault whose type it does not know.
pub(crate) trait Contents: Send + Sync {
    /// Drops the state, here and now.
    fn empty(&self);
}

impl<S: Send> Contents for Mutex<Option<Box<S>>> {
    fn empty(&self) {
        let state = lock(self).take();
        drop(state);
    }
}

impl<S> Vault<S> {
    fn take(&self) -> Result<Box<S>, ActorProcessingErr> {
        lock(&self.state)
            .take()
            .ok_or_else(|| ActorProcessingErr::from("the actor's state was already dropped"))
    }

    fn put(&self, state: Box<S>) {
        *lock(&self.state) = Some(state);
    }
}

pub(crate) struct Supervised<A: Actor> {
    inner: A,
    record: Arc<Record>,
    vault: Arc<Mutex<Option<Box<A::State>>>>,
    /// Fired after `post_start`; a supervisor has it fired when its children are up.
    ready: Mutex<Option<oneshot::Sender<()>>>,
}

impl<A: Actor> Supervised<A> {
    pub(crate) fn new(inner: A, record: Arc<Record>, ready: Option<oneshot::Sender<()>>) -> Self {
        Self {
            inner,
            record,
            vault: Arc::new(Mutex::new(None)),
            ready: Mutex::new(ready),
        }
    }

    pub(crate) fn contents(&self) -> Arc<dyn Contents> {
        self.vault.clone()
    }

    /// Notes how a callback ended.
    fn settle<T>(
        &self,
        outcome: std::thread::Result<Result<T, ActorProcessingErr>>,
    ) -> Result<T, ActorProcessingErr> {
        let reason = match outcome {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(error)) => ExitReason::Failed(Arc::from(error)),
            Err(payload) => {
                let reason = ExitReason::Panicked(PanicInfo::from_payload(&*payload));
                // A payload may panic when it is dropped.
                let _ = std::panic::catch_unwind(AssertUnwindSafe(|| drop(payload)));
                reason
            }
        };
        self.record.note_failure(reason.clone());
        Err(Box::new(Recorded(reason)))
    }
}

impl<A: Actor> Drop for Supervised<A> {
    /// The last thing of an incarnation's task, whatever ended it.
    fn drop(&mut self) {
        self.record.leave();
    }
}

#[cfg_attr(feature = "async-trait", ractor::async_trait)]
impl<A: Actor> Actor for Supervised<A> {
    type Msg = A::Msg;
    type State = Vault<A::State>;
    type Arguments = A::Arguments;

    async fn pre_start(
        &self,
        myself: ActorRef<Self::Msg>,
        arguments: Self::Arguments,
    ) -> Result<Self::State, ActorProcessingErr> {
        self.record.enlist(myself.get_id());
        let outcome = AssertUnwindSafe(self.inner.pre_start(myself, arguments))
            .catch_unwind()
            .await;
        let state = self.settle(outcome)?;
        if self.record.start_cancelled() {
            return Err("the start was given up".into());
        }
        let vault = Vault {
            state: self.vault.clone(),
        };
        vault.put(Box::new(state));
        Ok(vault)
    }

    async fn post_start(
        &self,
        myself: ActorRef<Self::Msg>,
        vault: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        let mut state = vault.take()?;
        let outcome = AssertUnwindSafe(self.inner.post_start(myself.clone(), &mut state))
            .catch_unwind()
            .await;
        vault.put(state);
        self.settle(outcome)?;
        self.record.arrive(&myself.get_cell());
        if let Some(ready) = lock(&self.ready).take() {
            // The keeper that gave the start up kills what it no longer hears.
            let _ = ready.send(());
        }
        Ok(())
    }

    async fn post_stop(
        &self,
        myself: ActorRef<Self::Msg>,
        vault: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        self.record.leave();
        let mut state = vault.take()?;
        let outcome = AssertUnwindSafe(self.inner.post_stop(myself, &mut state))
            .catch_unwind()
            .await;
        vault.put(state);
        self.settle(outcome)?;
        self.record.note_stopped();
        Ok(())
    }

    async fn handle(
        &self,
        myself: ActorRef<Self::Msg>,
        message: Self::Msg,
        vault: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        let mut state = vault.take()?;
        let outcome = AssertUnwindSafe(self.inner.handle(myself, message, &mut state))
            .catch_unwind()
            .await;
        vault.put(state);
        self.settle(outcome)
    }

    /// Without this, remote messages to a supervised actor would vanish.
    #[cfg(feature = "cluster")]
    async fn handle_serialized(
        &self,
        myself: ActorRef<Self::Msg>,
        message: ractor::message::SerializedMessage,
        vault: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        let mut state = vault.take()?;
        let outcome = AssertUnwindSafe(self.inner.handle_serialized(myself, message, &mut state))
            .catch_unwind()
            .await;
        vault.put(state);
        self.settle(outcome)
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<Self::Msg>,
        event: SupervisionEvent,
        vault: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        let mut state = vault.take()?;
        let outcome = AssertUnwindSafe(self.inner.handle_supervisor_evt(myself, event, &mut state))
            .catch_unwind()
            .await;
        vault.put(state);
        self.settle(outcome)
    }
}
