//! Calls a factory and spawns what it made.
//!
//! The type of the user's actor ends here: a launcher knows it, everything above sees a process, a
//! join handle.
//!
//! Invariants: a launch runs in its keeper's task, where another one takes over when it does not yield;
//! a start that was given up and completes nevertheless dies at once.

use std::any::TypeId;
use std::future::Future;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use ractor::{Actor, ActorCell, SpawnErr};
use tokio::task::JoinHandle;

use crate::address::{Address, MakeBinding};
use crate::exit::ExitReason;
use crate::handle::SupervisorRef;
use crate::runtime::foreign::{Sighted, Strangers};
use crate::runtime::household::Census;
use crate::runtime::record::Record;
use crate::runtime::task::Leash;
use crate::runtime::wrapper::Supervised;
use crate::spec::{StartContext, StartError};

/// Everything a launch needs beside the factory.
pub(crate) struct Order {
    pub(crate) context: StartContext,
    pub(crate) name: Option<String>,
    pub(crate) supervisor: Option<ActorCell>,
    pub(crate) record: Arc<Record>,
    /// Where the supervisor reports what it hears of actors that have no wrapper.
    pub(crate) strangers: Arc<Strangers>,
}

/// What a keeper minds.
pub(crate) enum Process {
    Actor(ActorCell),
    Task(Arc<Leash>),
}

impl Process {
    /// Asks it to end. A second request changes nothing.
    pub(crate) fn stop(&self, text: &str) {
        match self {
            Self::Actor(cell) => cell.stop(Some(text.to_owned())),
            Self::Task(leash) => leash.stop(text),
        }
    }

    /// Asks it to end when it has handled what is in its mailbox.
    pub(crate) fn drain(&self, text: &str) {
        match self {
            // One that has ended already has nothing to handle.
            Self::Actor(cell) => drop(cell.drain()),
            Self::Task(leash) => leash.stop(text),
        }
    }

    pub(crate) fn kill(&self) {
        match self {
            Self::Actor(cell) => cell.kill(),
            Self::Task(leash) => leash.kill(),
        }
    }

    pub(crate) fn cell(&self) -> Option<&ActorCell> {
        match self {
            Self::Actor(cell) => Some(cell),
            Self::Task(_) => None,
        }
    }
}

/// What may be left when the task of an incarnation has ended.
pub(crate) enum Remains {
    /// What ractor's events will say of a child that somebody else spawned.
    Foreign(Box<Sighted>),
    /// Nothing: it was in the task.
    Nothing,
    /// Its state, in a vault; the record tells when it is gone.
    Vault,
}

/// What runs after a launch; not necessarily ready yet.
pub(crate) struct Launched {
    pub(crate) process: Process,
    pub(crate) join: JoinHandle<()>,
    pub(crate) remains: Remains,
    /// Set when it is a supervisor, with what tells that its descendants are gone.
    pub(crate) supervisor: Option<(SupervisorRef, Census)>,
}

impl Launched {
    /// Has it end where it is. Unlike ractor's kill, an abort leaves the state in the actor's own task,
    /// however busy the supervisor is.
    pub(crate) fn kill(&self) {
        match self.remains {
            Remains::Vault => self.join.abort(),
            Remains::Foreign(_) | Remains::Nothing => self.process.kill(),
        }
    }
}

/// Why nothing runs.
#[derive(Debug, Clone)]
pub(crate) enum Refusal {
    Ignored,
    Postponed(Duration),
    Failed(Arc<ExitReason>),
}

/// Which messages a worker takes, as far as its spec can tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Takes {
    Messages(TypeId),
    /// It takes some, to be compared when it runs.
    Unknown,
    Nothing,
}

/// A launch under way.
pub(crate) type Launching = BoxFuture<'static, Result<Launched, Refusal>>;

pub(crate) trait Launcher: Send + Sync {
    fn takes(&self) -> Takes;
    /// Makes the near side of a new address for it, where its messages are known.
    fn make_binding(&self) -> Option<MakeBinding>;
    fn launch(&self, order: Order) -> Launching;
}

pub(crate) struct ActorLauncher<A, F> {
    make: Arc<F>,
    actor: PhantomData<fn() -> A>,
}

impl<A, F> ActorLauncher<A, F> {
    pub(crate) fn new(make: F) -> Self {
        Self {
            make: Arc::new(make),
            actor: PhantomData,
        }
    }
}

impl<A, F> Launcher for ActorLauncher<A, F>
where
    A: Actor,
    F: Fn(StartContext) -> Result<(A, A::Arguments), StartError> + Send + Sync + 'static,
{
    fn takes(&self) -> Takes {
        Takes::Messages(TypeId::of::<A::Msg>())
    }

    fn make_binding(&self) -> Option<MakeBinding> {
        Some(|| Address::<A::Msg>::new().binding())
    }

    fn launch(&self, order: Order) -> Launching {
        let make = self.make.clone();
        Box::pin(async move {
            let context = order.context;
            let (actor, arguments) = made(catch_unwind(AssertUnwindSafe(|| make(context))))?;
            let wrapped = Supervised::new(actor, order.record.clone(), true);
            let (cell, join) = spawn(
                wrapped,
                arguments,
                order.name,
                order.supervisor,
                order.record,
            )
            .await?;
            Ok(Launched {
                process: Process::Actor(cell),
                join,
                remains: Remains::Vault,
                supervisor: None,
            })
        })
    }
}

/// Spawns a wrapped actor, linked when there is a supervisor.
///
/// No `async fn`: that would hold everything twice, here and in ractor's own future.
pub(crate) fn spawn<A: Actor>(
    actor: Supervised<A>,
    arguments: A::Arguments,
    name: Option<String>,
    supervisor: Option<ActorCell>,
    record: Arc<Record>,
) -> impl Future<Output = Result<(ActorCell, JoinHandle<()>), Refusal>> + Send {
    let spawning = match supervisor {
        Some(supervisor) => Actor::spawn_linked(name, actor, arguments, supervisor).left_future(),
        None => Actor::spawn(name, actor, arguments).right_future(),
    };
    spawning.map(move |spawned| match spawned {
        Ok((actor, join)) => {
            if record.start_cancelled() {
                actor.kill();
            }
            Ok((actor.get_cell(), join))
        }
        Err(error) => Err(not_spawned(&record, error)),
    })
}

/// What a factory's answer means.
pub(crate) fn made<T>(answer: std::thread::Result<Result<T, StartError>>) -> Result<T, Refusal> {
    match answer {
        Ok(Ok(made)) => Ok(made),
        Ok(Err(StartError::Ignore)) => Err(Refusal::Ignored),
        Ok(Err(StartError::Postpone(delay))) => Err(Refusal::Postponed(delay)),
        Ok(Err(StartError::Failed(error))) => {
            Err(Refusal::Failed(Arc::new(ExitReason::Failed(error.into()))))
        }
        Err(payload) => Err(Refusal::Failed(Arc::new(ExitReason::of_panic(payload)))),
    }
}

/// Why ractor spawned nothing, as the record knows it.
pub(crate) fn not_spawned(record: &Record, error: SpawnErr) -> Refusal {
    Refusal::Failed(Arc::new(match record.failure() {
        Some(failure) => failure,
        None => match error {
            SpawnErr::StartupFailed(error) => ExitReason::Failed(error.into()),
            other => ExitReason::Failed(Arc::new(other)),
        },
    }))
}
