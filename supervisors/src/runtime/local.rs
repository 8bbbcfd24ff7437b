//! The actor around a user's thread-local actor.
//!
//! Apart from the wrapper of ordinary actors because nothing of it may leave its thread: there is no
//! vault, the state stays in the actor's own task and is dropped there. ractor makes such actors by
//! `Default`, so the record comes with the arguments.
//!
//! Invariants: as for the wrapper, what ends the actor is noted in the record; when the join handle
//! is done, the state is dropped.

use std::any::TypeId;
use std::cell::OnceCell;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use ractor::thread_local::{ThreadLocalActor, ThreadLocalActorSpawner};
use ractor::{ActorProcessingErr, ActorRef, SupervisionEvent};
use tracing::Span;

use crate::address::{Address, MakeBinding};
use crate::exit::ExitReason;
use crate::runtime::launch::{
    Launched, Launcher, Order, Process, Refusal, Remains, Takes, made, not_spawned,
};
use crate::runtime::record::Record;
use crate::runtime::telemetry::Within;
use crate::runtime::timesheet::Callback;
use crate::runtime::wrapper::Recorded;
use crate::spec::{StartContext, StartError};

/// What the wrapper needs beside the user's arguments.
pub(crate) struct Arguments<A> {
    inner: A,
    record: Arc<Record>,
}

pub(crate) struct SupervisedLocal<A> {
    inner: A,
    /// Set at the start of `pre_start`.
    record: OnceCell<Arc<Record>>,
}

impl<A: Default> Default for SupervisedLocal<A> {
    fn default() -> Self {
        Self {
            inner: A::default(),
            record: OnceCell::new(),
        }
    }
}

impl<A> SupervisedLocal<A> {
    async fn run<T>(
        &self,
        kind: Callback,
        callback: impl Future<Output = T>,
    ) -> std::thread::Result<T> {
        match self.record.get() {
            Some(record) => {
                let timing = record.sheet.begin();
                let outcome = record.sheet.drive(timing, callback).await;
                record.sheet.end(timing, kind);
                outcome
            }
            None => AssertUnwindSafe(callback).catch_unwind().await,
        }
    }

    /// What is being done with it, where somebody traces that.
    fn work(&self) -> Option<Box<Span>> {
        self.record.get()?.take_work()
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
        if let Some(record) = self.record.get() {
            record.note_failure(reason.clone());
        }
        Err(Box::new(Recorded(reason)))
    }
}

impl<A> Drop for SupervisedLocal<A> {
    fn drop(&mut self) {
        if let Some(record) = self.record.get() {
            record.leave();
        }
    }
}

impl<A: ThreadLocalActor> ThreadLocalActor for SupervisedLocal<A> {
    type Msg = A::Msg;
    type State = A::State;
    type Arguments = Arguments<A::Arguments>;

    async fn pre_start(
        &self,
        myself: ActorRef<Self::Msg>,
        arguments: Self::Arguments,
    ) -> Result<Self::State, ActorProcessingErr> {
        let record = self.record.get_or_init(|| arguments.record);
        record.enlist(myself.get_id());
        let outcome = AssertUnwindSafe(self.inner.pre_start(myself, arguments.inner))
            .catch_unwind()
            .await;
        let state = self.settle(outcome)?;
        if record.start_cancelled() {
            return Err("the start was given up".into());
        }
        Ok(state)
    }

    async fn post_start(
        &self,
        myself: ActorRef<Self::Msg>,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        let starting = self.inner.post_start(myself.clone(), state);
        let outcome = AssertUnwindSafe(Within::new(self.work(), starting))
            .catch_unwind()
            .await;
        self.settle(outcome)?;
        if let Some(record) = self.record.get() {
            record.arrive(&myself.get_cell());
            record.note_ready();
        }
        Ok(())
    }

    async fn post_stop(
        &self,
        myself: ActorRef<Self::Msg>,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        if let Some(record) = self.record.get() {
            record.leave();
        }
        let stopping = self.inner.post_stop(myself, state);
        let outcome = AssertUnwindSafe(Within::new(self.work(), stopping))
            .catch_unwind()
            .await;
        self.settle(outcome)?;
        if let Some(record) = self.record.get() {
            record.note_stopped();
        }
        Ok(())
    }

    async fn handle(
        &self,
        myself: ActorRef<Self::Msg>,
        message: Self::Msg,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        let callback = self.inner.handle(myself, message, state);
        let outcome = self.run(Callback::Message, callback).await;
        self.settle(outcome)
    }

    /// Without this, remote messages to a supervised actor would vanish.
    #[cfg(feature = "cluster")]
    async fn handle_serialized(
        &self,
        myself: ActorRef<Self::Msg>,
        message: ractor::message::SerializedMessage,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        let callback = self.inner.handle_serialized(myself, message, state);
        let outcome = self.run(Callback::Message, callback).await;
        self.settle(outcome)
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<Self::Msg>,
        event: SupervisionEvent,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        let callback = self.inner.handle_supervisor_evt(myself, event, state);
        let outcome = self.run(Callback::Event, callback).await;
        self.settle(outcome)
    }
}

pub(crate) struct LocalLauncher<A, F> {
    spawner: ThreadLocalActorSpawner,
    make: Arc<F>,
    actor: PhantomData<fn() -> A>,
}

impl<A, F> LocalLauncher<A, F> {
    pub(crate) fn new(spawner: ThreadLocalActorSpawner, make: F) -> Self {
        Self {
            spawner,
            make: Arc::new(make),
            actor: PhantomData,
        }
    }
}

impl<A, F> Launcher for LocalLauncher<A, F>
where
    A: ThreadLocalActor,
    F: Fn(StartContext) -> Result<A::Arguments, StartError> + Send + Sync + 'static,
{
    fn takes(&self) -> Takes {
        Takes::Messages(TypeId::of::<A::Msg>())
    }

    fn make_binding(&self) -> Option<MakeBinding> {
        Some(|| Address::<A::Msg>::new().binding())
    }

    fn launch(&self, order: Order) -> BoxFuture<'static, Result<Launched, Refusal>> {
        let make = self.make.clone();
        let spawner = self.spawner.clone();
        Box::pin(async move {
            let record = order.record;
            let context = order.context;
            let inner = made(catch_unwind(AssertUnwindSafe(|| make(context))))?;
            let arguments = Arguments {
                inner,
                record: record.clone(),
            };
            let spawned = match order.supervisor {
                Some(supervisor) => {
                    SupervisedLocal::<A>::spawn_linked(order.name, arguments, supervisor, spawner)
                        .await
                }
                None => SupervisedLocal::<A>::spawn(order.name, arguments, spawner).await,
            };
            let (actor, join) = spawned.map_err(|error| not_spawned(&record, error))?;
            if record.start_cancelled() {
                actor.kill();
            }
            Ok(Launched {
                process: Process::Actor(actor.get_cell()),
                join,
                remains: Remains::Nothing,
                supervisor: None,
            })
        })
    }
}
