//! The actor around the user's actor.
//!
//! Every callback is forwarded; what ends it (error, panic, stop, kill) is noted in the record,
//! because ractor reports ends as strings only.
//!
//! Invariants: the state is never dropped in the supervisor's task, and the record tells when it is
//! gone; a panic leaves as an error of the type [`Recorded`]; a message costs no lock.

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use futures_util::FutureExt;
use pin_project_lite::pin_project;
use ractor::{Actor, ActorProcessingErr, ActorRef, SupervisionEvent};
use tokio::runtime::Handle;
use tokio::task::{Id, try_id};

use crate::exit::{ExitReason, PanicInfo};
use crate::runtime::record::{Record, lock};
use crate::runtime::telemetry::Within;
use crate::runtime::timesheet::{Callback, Timing};

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

/// Holds an incarnation's state, and sees to it that it is dropped in the actor's own task or in one
/// made for it.
///
/// ractor sends what a killed actor leaves to the supervisor, inside an event.
pub(crate) struct Vault<S: Send + 'static> {
    /// Set until the vault is dropped, or moved at the end of `post_stop`.
    state: Option<S>,
    record: Arc<Record>,
    /// The task that runs the actor; before `post_start` the one that launches it.
    home: Option<Id>,
    /// Set by `post_start`: from then on a keeper waits for the end.
    launched: bool,
}

impl<S: Send + 'static> Vault<S> {
    fn new(state: S, record: Arc<Record>) -> Self {
        record.note_full();
        Self {
            state: Some(state),
            record,
            home: try_id(),
            launched: false,
        }
    }

    #[inline]
    fn open(&mut self) -> &mut S {
        let state = self.state.as_mut();
        state.expect("ractor calls nothing after `post_stop`, which alone takes the state")
    }
}

impl<S: Send + 'static> Drop for Vault<S> {
    fn drop(&mut self) {
        let Some(state) = self.state.take() else {
            return;
        };
        let emptied = Emptied(self.record.clone());
        if self.home == try_id() {
            if self.launched && std::mem::needs_drop::<S>() {
                self.record.note_dropping();
            }
            drop(state);
            return;
        }
        match Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn(async move {
                let _emptied = emptied;
                drop(state);
            })),
            Err(_) => drop(state),
        }
    }
}

/// Tells the keeper that the state is gone, also when dropping it panicked.
struct Emptied(Arc<Record>);

impl Drop for Emptied {
    fn drop(&mut self) {
        self.0.note_emptied();
    }
}

pub(crate) struct Supervised<A: Actor> {
    inner: A,
    record: Arc<Record>,
    /// What `post_stop` left, so that it is dropped at the end of the task like that of a failed
    /// actor, and not sent to the supervisor.
    remains: Mutex<Option<Box<Vault<A::State>>>>,
    /// It is ready after `post_start`; a supervisor when its children are up.
    by_itself: bool,
}

impl<A: Actor> Supervised<A> {
    pub(crate) fn new(inner: A, record: Arc<Record>, by_itself: bool) -> Self {
        Self {
            inner,
            record,
            remains: Mutex::new(None),
            by_itself,
        }
    }

    /// Notes how a callback ended.
    fn settle<T>(
        &self,
        outcome: std::thread::Result<Result<T, ActorProcessingErr>>,
    ) -> Result<T, ActorProcessingErr> {
        let reason = match outcome {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(error)) => ExitReason::Failed(Arc::from(error)),
            Err(payload) => ExitReason::of_panic(payload),
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
        Ok(Vault::new(state, self.record.clone()))
    }

    async fn post_start(
        &self,
        myself: ActorRef<Self::Msg>,
        vault: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        vault.home = try_id();
        vault.launched = true;
        let starting = self.inner.post_start(myself.clone(), vault.open());
        let outcome = AssertUnwindSafe(Within::new(self.record.take_work(), starting))
            .catch_unwind()
            .await;
        self.settle(outcome)?;
        self.record.arrive(&myself.get_cell());
        if self.by_itself {
            self.record.note_ready();
        }
        Ok(())
    }

    async fn post_stop(
        &self,
        myself: ActorRef<Self::Msg>,
        vault: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        self.record.leave();
        let stopping = self.inner.post_stop(myself, vault.open());
        let outcome = AssertUnwindSafe(Within::new(self.record.take_work(), stopping))
            .catch_unwind()
            .await;
        self.settle(outcome)?;
        self.record.note_stopped();
        *lock(&self.remains) = Some(Box::new(Vault {
            state: vault.state.take(),
            record: self.record.clone(),
            home: vault.home,
            launched: true,
        }));
        Ok(())
    }

    #[cfg(not(feature = "async-trait"))]
    #[inline]
    fn handle(
        &self,
        myself: ActorRef<Self::Msg>,
        message: Self::Msg,
        vault: &mut Self::State,
    ) -> impl Future<Output = Result<(), ActorProcessingErr>> + Send {
        let make = |state| self.inner.handle(myself, message, state);
        Observed::new(self, Callback::Message, vault, make)
    }

    #[cfg(feature = "async-trait")]
    async fn handle(
        &self,
        myself: ActorRef<Self::Msg>,
        message: Self::Msg,
        vault: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        let make = |state| self.inner.handle(myself, message, state);
        Observed::new(self, Callback::Message, vault, make).await
    }

    /// Without this, remote messages to a supervised actor would vanish.
    #[cfg(feature = "cluster")]
    async fn handle_serialized(
        &self,
        myself: ActorRef<Self::Msg>,
        message: ractor::message::SerializedMessage,
        vault: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        let make = |state| Box::pin(self.inner.handle_serialized(myself, message, state));
        Observed::new(self, Callback::Message, vault, make).await
    }

    /// Boxed: few actors have much to do with events, and ractor keeps room in each actor's task for
    /// the largest of the futures made here.
    #[cfg(not(feature = "async-trait"))]
    fn handle_supervisor_evt(
        &self,
        myself: ActorRef<Self::Msg>,
        event: SupervisionEvent,
        vault: &mut Self::State,
    ) -> impl Future<Output = Result<(), ActorProcessingErr>> + Send {
        let make = |state| self.inner.handle_supervisor_evt(myself, event, state);
        Box::pin(Observed::new(self, Callback::Event, vault, make))
    }

    #[cfg(feature = "async-trait")]
    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<Self::Msg>,
        event: SupervisionEvent,
        vault: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        let make = |state| self.inner.handle_supervisor_evt(myself, event, state);
        Observed::new(self, Callback::Event, vault, make).await
    }
}

pin_project! {
    /// A callback under observation: timed, and its panics caught.
    ///
    /// Written out, because ractor moves the future of each message about and an `async` block would
    /// hold the callback and what it is made of side by side.
    struct Observed<'a, A: Actor, F> {
        wrapper: &'a Supervised<A>,
        kind: Callback,
        timing: Option<Timing>,
        // Others had a turn before the first message.
        yielded: bool,
        #[pin]
        callback: F,
    }
}

impl<'a, A: Actor, F> Observed<'a, A, F> {
    #[inline]
    fn new<'v>(
        wrapper: &'a Supervised<A>,
        kind: Callback,
        vault: &'v mut Vault<A::State>,
        make: impl FnOnce(&'v mut A::State) -> F,
    ) -> Self {
        let making = Making(&wrapper.record);
        let callback = make(vault.open());
        std::mem::forget(making);
        Self {
            wrapper,
            kind,
            timing: None,
            yielded: false,
            callback,
        }
    }
}

impl<A: Actor, F: Future<Output = Result<(), ActorProcessingErr>>> Future for Observed<'_, A, F> {
    type Output = Result<(), ActorProcessingErr>;

    #[inline]
    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let sheet = &this.wrapper.record.sheet;
        if this.timing.is_none() && sheet.is_blank() && !std::mem::replace(this.yielded, true) {
            // The start woke the keeper and the supervisor, who may be next on this worker, where nobody
            // else can take them from; the first message may block it.
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let timing = *this.timing.get_or_insert_with(|| sheet.begin());
        match sheet.poll(timing, this.callback, context) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(outcome) => {
                sheet.end(timing, *this.kind);
                match outcome {
                    Ok(Ok(())) => Poll::Ready(Ok(())),
                    outcome => Poll::Ready(this.wrapper.settle(outcome)),
                }
            }
        }
    }
}

/// Notes a panic of a callback whose future is not even made: that is where a callback that is no
/// `async fn` runs. Forgotten when the future is there.
struct Making<'a>(&'a Record);

impl Drop for Making<'_> {
    fn drop(&mut self) {
        let message = "while the future of a callback was made".to_owned();
        let panic = PanicInfo::unseen(message);
        self.0.note_failure(ExitReason::Panicked(panic));
    }
}
