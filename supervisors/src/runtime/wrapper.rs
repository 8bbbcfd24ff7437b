//! The actor around the user's actor.
//!
//! Every callback is forwarded; what ends it (error, panic, stop, kill) is noted in the record,
//! because ractor reports ends as strings only.
//!
//! Invariants: the state is never dropped in the supervisor's task, and the record tells when it is
//! gone; a panic leaves as an error of the type [`Recorded`]; a message costs no lock.

use std::any::Any;
use std::error::Error;
use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
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
use crate::runtime::timesheet::{self, Callback, Timing};

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
    #[inline]
    fn settle<T>(
        &self,
        outcome: std::thread::Result<Result<T, ActorProcessingErr>>,
    ) -> Result<T, ActorProcessingErr> {
        match outcome {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => Err(self.failed(error)),
            Err(payload) => Err(self.panicked(payload)),
        }
    }

    #[cold]
    fn failed(&self, error: ActorProcessingErr) -> ActorProcessingErr {
        self.fallen(ExitReason::Failed(Arc::from(error)))
    }

    #[cold]
    fn panicked(&self, payload: Box<dyn Any + Send>) -> ActorProcessingErr {
        self.fallen(ExitReason::of_panic(payload))
    }

    fn fallen(&self, reason: ExitReason) -> ActorProcessingErr {
        self.record.note_failure(reason.clone());
        Box::new(Recorded(reason))
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
        let (making, state) = (Making(self), vault.open());
        let callback = self.inner.handle(myself, message, state);
        Observed::<_, _, Message>::new(making, callback)
    }

    #[cfg(feature = "async-trait")]
    async fn handle(
        &self,
        myself: ActorRef<Self::Msg>,
        message: Self::Msg,
        vault: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        let (making, state) = (Making(self), vault.open());
        let callback = self.inner.handle(myself, message, state);
        Observed::<_, _, Message>::new(making, callback).await
    }

    /// Without this, remote messages to a supervised actor would vanish.
    #[cfg(feature = "cluster")]
    async fn handle_serialized(
        &self,
        myself: ActorRef<Self::Msg>,
        message: ractor::message::SerializedMessage,
        vault: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        let (making, state) = (Making(self), vault.open());
        let callback = Box::pin(self.inner.handle_serialized(myself, message, state));
        Observed::<_, _, Message>::new(making, callback).await
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
        let (making, state) = (Making(self), vault.open());
        let callback = self.inner.handle_supervisor_evt(myself, event, state);
        Box::pin(Observed::<_, _, Event>::new(making, callback))
    }

    #[cfg(feature = "async-trait")]
    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<Self::Msg>,
        event: SupervisionEvent,
        vault: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        let (making, state) = (Making(self), vault.open());
        let callback = self.inner.handle_supervisor_evt(myself, event, state);
        Observed::<_, _, Event>::new(making, callback).await
    }
}

/// What a callback is about, as a type: it is known where one is made, and a field less is moved about.
trait About {
    const KIND: Callback;
}

enum Message {}
enum Event {}

impl About for Message {
    const KIND: Callback = Callback::Message;
}

impl About for Event {
    const KIND: Callback = Callback::Event;
}

pin_project! {
    /// A callback under observation: timed, and its panics caught.
    ///
    /// Written out, because ractor moves the future of each message about and an `async` block would
    /// hold the callback and what it is made of side by side.
    struct Observed<'a, A: Actor, F, K> {
        wrapper: &'a Supervised<A>,
        // Set when it has waited, as hardly any does.
        timing: Timing,
        about: PhantomData<K>,
        #[pin]
        callback: F,
    }
}

impl<'a, A: Actor, F, K> Observed<'a, A, F, K> {
    #[inline]
    fn new(making: Making<'a, A>, callback: F) -> Self {
        let wrapper = making.0;
        std::mem::forget(making);
        Self {
            wrapper,
            timing: Timing::NONE,
            about: PhantomData,
            callback,
        }
    }
}

impl<A: Actor, F: Future<Output = Result<(), ActorProcessingErr>>, K: About> Future
    for Observed<'_, A, F, K>
{
    type Output = Result<(), ActorProcessingErr>;

    #[inline]
    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let sheet = &this.wrapper.record.sheet;
        let mut timing = *this.timing;
        if timing == Timing::NONE {
            let Some(begun) = sheet.begin_in_turn() else {
                // The start woke the keeper and the supervisor, who may be next on this worker, where
                // nobody else can take them from; the first message may block it.
                context.waker().wake_by_ref();
                return Poll::Pending;
            };
            timing = begun;
        }
        // The good end apart from the others: there is nothing to be kept meanwhile.
        match timesheet::poll(this.callback, context) {
            Ok(Poll::Ready(Ok(()))) => {
                sheet.end(timing, K::KIND);
                Poll::Ready(Ok(()))
            }
            Ok(Poll::Pending) => {
                sheet.wait(timing);
                *this.timing = timing;
                Poll::Pending
            }
            Ok(Poll::Ready(Err(error))) => {
                sheet.end(timing, K::KIND);
                Poll::Ready(Err(this.wrapper.failed(error)))
            }
            Err(payload) => {
                sheet.end(timing, K::KIND);
                Poll::Ready(Err(this.wrapper.panicked(payload)))
            }
        }
    }
}

/// Notes a panic of a callback whose future is not even made: that is where a callback that is no
/// `async fn` runs. Forgotten when the future is there.
struct Making<'a, A: Actor>(&'a Supervised<A>);

impl<A: Actor> Drop for Making<'_, A> {
    fn drop(&mut self) {
        let message = "while the future of a callback was made".to_owned();
        let panic = PanicInfo::unseen(message);
        self.0.record.note_failure(ExitReason::Panicked(panic));
    }
}
