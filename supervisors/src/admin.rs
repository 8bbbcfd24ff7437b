//! The calls that change and question a running supervisor, and their values.
//!
//! Apart from the handle, because they are OTP's interface to a supervisor's children while the
//! handle is about the supervisor itself.
//!
//! Invariants: one error type per call; an error of `start_child` means that nothing of it is kept;
//! a call whose future is dropped after its first poll is carried out all the same, unless it still waited
//! for room (1024 calls may wait to be read), and dropping a question changes nothing; none has a limit of
//! its own, beyond the start and stop limits of the child it is about.

mod error;
mod membership;

use std::time::Duration;

use ractor::{ActorCell, Message};
use tokio::sync::oneshot;

use crate::address::Address;
use crate::backoff::Backoff;
use crate::handle::SupervisorRef;
use crate::id::{ChildId, Generation};
use crate::monitor::{MonitorRef, Watcher, monitor_nothing, monitor_record};
use crate::policy::{ChildKind, Restart, Shutdown};
use crate::runtime::supervisor::{Call, Inspection};
use crate::snapshot::NodeStatus;
use crate::spec::{ChildSpec, SupervisorSpec};

pub(crate) use error::Refused;
pub use error::{
    DeleteChildError, LookupError, ReconfigureError, RestartChildError, StartChildError,
    SupervisorEnded, TerminateChildError,
};
pub(crate) use membership::Membership;

impl SupervisorRef {
    /// Adds a child after those already there, and waits until it is ready.
    ///
    /// While a group restarts, its delay included, the new child waits to be the last that is
    /// started; otherwise it is started at once, whatever its siblings are doing. It is supervised
    /// like any other, but a supervisor that is itself restarted begins with the children of its
    /// spec alone. A clone of a spec goes on numbering incarnations, a new one of the same id begins
    /// anew.
    ///
    /// Dropped midway, the call is carried out all the same, if there was room for it.
    ///
    /// # Errors
    /// See [`StartChildError`]. Nothing of the child is kept then, and no intensity is used. A partitioned supervisor
    /// refuses. One that is [dynamic](crate::dynamic) takes it by the id of its spec, without a number.
    pub async fn start_child(&self, spec: ChildSpec) -> Result<Started, StartChildError> {
        self.membership().starts(self.path())?;
        let child = spec.id().clone();
        self.ask(|reply| Call::Start(Box::new(spec), reply))
            .await?
            .map_err(|refused| refused.of(child, self.path()))
    }

    /// Ends a child as its spec says and waits for its end. A child that waits for its restart does
    /// not come back. The spec stays, unless the child is temporary: [`restart_child`] or a later
    /// restart of its group brings the child back. Whoever waits for its start gets an error.
    ///
    /// That a child has no process is fine. It never counts as the end of a significant child.
    ///
    /// Dropped midway, the call is carried out all the same, if there was room for it.
    ///
    /// [`restart_child`]: Self::restart_child
    ///
    /// # Errors
    /// When there is no such child, or no supervisor, and when 1024 callers wait for the end of this child already.
    pub async fn terminate_child(&self, id: &ChildId) -> Result<(), TerminateChildError> {
        self.ask(|reply| Call::Terminate(id.clone(), reply))
            .await?
            .map_err(|denied| TerminateChildError::of(denied, id, self.path()))
    }

    /// Starts a child that has a spec and no process, and waits until it is ready.
    ///
    /// Dropped midway, the call is carried out all the same, if there was room for it.
    ///
    /// # Errors
    /// See [`RestartChildError`]. The spec stays, and no intensity is used. Dynamic supervisors refuse.
    pub async fn restart_child(&self, id: &ChildId) -> Result<Started, RestartChildError> {
        self.membership().restarts(self.path())?;
        self.ask(|reply| Call::Restart(id.clone(), reply))
            .await?
            .map_err(|denied| RestartChildError::of(denied, id, self.path()))
    }

    /// Forgets a child that has no process.
    ///
    /// Dropped midway, the call is carried out all the same, if there was room for it.
    ///
    /// # Errors
    /// See [`DeleteChildError`]. The child stays as it is. Dynamic and partitioned supervisors refuse.
    pub async fn delete_child(&self, id: &ChildId) -> Result<(), DeleteChildError> {
        self.membership().deletes(self.path())?;
        self.ask(|reply| Call::Delete(id.clone(), reply))
            .await?
            .map_err(|denied| DeleteChildError::of(denied, id, self.path()))
    }

    /// Has the supervisor go by another spec from now on, as OTP's `code_change`: strategy, intensity,
    /// auto-shutdown and what to do when exhausted take effect at once; children that are in both specs
    /// get their new one, which their next start and their next end go by; those that are only in the
    /// new one are listed without a process, for [`restart_child`](Self::restart_child); those that are
    /// only in the old one stay as they are. Nobody is started, stopped or restarted. The order of
    /// children becomes that of the new spec, with those it does not list at the end.
    ///
    /// It lasts as long as this incarnation: a supervisor that is itself restarted begins with the spec
    /// that stands above it. Observers of the new spec are not taken over.
    ///
    /// While children are started or restarted in order it is refused as [`ReconfigureError::Busy`].
    ///
    /// Dropped midway, the call is carried out all the same, if there was room for it.
    ///
    /// # Errors
    /// See [`ReconfigureError`]. Everything stays as it was.
    pub async fn reconfigure(
        &self,
        spec: impl Into<SupervisorSpec>,
    ) -> Result<(), ReconfigureError> {
        let spec = Box::new(spec.into());
        self.ask(|reply| Call::Reconfigure(spec, reply)).await?
    }

    /// The children, newest first. Dropping the future changes nothing.
    ///
    /// # Errors
    /// When the supervisor has ended.
    pub async fn which_children(&self) -> Result<Vec<ChildInfo>, SupervisorEnded> {
        self.ask(Call::List).await
    }

    /// One child. Dropping the future changes nothing.
    ///
    /// # Errors
    /// When there is no such child, or no supervisor.
    pub async fn which_child(&self, id: &ChildId) -> Result<ChildInfo, LookupError> {
        let found = self.ask(|reply| Call::Which(id.clone(), reply)).await?;
        found.ok_or_else(|| LookupError::not_found(id))
    }

    /// How many children there are. Dropping the future changes nothing.
    ///
    /// # Errors
    /// When the supervisor has ended.
    pub async fn count_children(&self) -> Result<Counts, SupervisorEnded> {
        self.ask(Call::Count).await
    }

    /// What a child's spec says. Dropping the future changes nothing.
    ///
    /// # Errors
    /// When there is no such child, or no supervisor.
    pub async fn child_spec(&self, id: &ChildId) -> Result<SpecInfo, LookupError> {
        Ok(self.inspect(id).await?.spec)
    }

    /// An address that reaches whichever incarnation of the child is up, as long as this supervisor
    /// has it. One that shall survive the supervisor belongs into the spec, see
    /// [`ChildSpec::address`]. Dropping the future changes nothing.
    ///
    /// # Errors
    /// When there is no such child, it takes other messages, or there is no supervisor.
    pub async fn address<M: Message>(&self, id: &ChildId) -> Result<Address<M>, LookupError> {
        let found = self.ask(|reply| Call::Address(id.clone(), reply)).await?;
        let binding = found.ok_or_else(|| LookupError::not_found(id))?;
        binding
            .and_then(Address::of)
            .ok_or_else(|| LookupError::MessageType { child: id.clone() })
    }

    /// Watches the present incarnation of a child, or its last one: the way to a task, which has no
    /// actor to monitor. One that was never started yields its [`Down`](crate::Down) at once. Dropped before it
    /// is done, there is no monitor.
    ///
    /// # Errors
    /// When there is no such child, or no supervisor.
    pub async fn monitor_child(
        &self,
        watcher: &impl Watcher,
        id: &ChildId,
    ) -> Result<MonitorRef, LookupError> {
        Ok(match self.inspect(id).await?.record {
            Some(record) => monitor_record(watcher, &record),
            None => monitor_nothing(watcher),
        })
    }

    async fn inspect(&self, id: &ChildId) -> Result<Inspection, LookupError> {
        let found = self.ask(|reply| Call::Inspect(id.clone(), reply)).await?;
        found.ok_or_else(|| LookupError::not_found(id))
    }

    async fn ask<T>(
        &self,
        call: impl FnOnce(oneshot::Sender<T>) -> Call,
    ) -> Result<T, SupervisorEnded> {
        let (reply, mut answer) = oneshot::channel();
        let call = call(reply);
        let asked = async {
            self.put_call(call).await;
            (&mut answer).await
        };
        tokio::select! {
            biased;
            answer = asked => answer.map_err(|_| SupervisorEnded::of(self.path())),
            // One that was left behind never drops what it was sent.
            _ = self.wait() => answer.try_recv().map_err(|_| SupervisorEnded::of(self.path())),
        }
    }
}

/// What a start by request came to.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Started {
    /// The child is up.
    Up {
        /// Its incarnation.
        generation: Generation,
        /// Its actor, unless it is a task. It may end at any moment; prefer
        /// [`SupervisorRef::address`].
        cell: Option<ActorCell>,
    },
    /// The factory declined. The spec stays, without a process; that of a temporary child does not.
    Ignored,
    /// The factory asked for a later start. The spec stays and the supervisor goes on as after a
    /// restart: it asks again after this long, and a failure then counts against the intensity.
    Postponed(Duration),
}

impl Started {
    /// The actor, when one is up.
    #[must_use]
    pub fn cell(&self) -> Option<&ActorCell> {
        match self {
            Self::Up { cell, .. } => cell.as_ref(),
            Self::Ignored | Self::Postponed(_) => None,
        }
    }
}

/// A child as it stands.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ChildInfo {
    /// Its id.
    pub id: ChildId,
    /// Worker or supervisor.
    pub kind: ChildKind,
    /// When it is restarted.
    pub restart: Restart,
    /// What it is doing.
    pub status: NodeStatus,
    /// Its incarnation, or its last one; zero before the first.
    pub generation: Generation,
    /// Its actor, when it is up or stopping; none for a task.
    pub cell: Option<ActorCell>,
    /// The handle on it, when it is a supervisor that is up or stopping.
    pub supervisor: Option<SupervisorRef>,
}

/// How many children a supervisor has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Counts {
    /// All of them, with or without a process.
    pub specs: usize,
    /// Those that are up or stopping.
    pub active: usize,
    /// Those that are supervisors, with or without a process.
    pub supervisors: usize,
    /// Those that are not, with or without a process.
    pub workers: usize,
}

/// What a child's spec says, as far as it is data.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct SpecInfo {
    /// Its id.
    pub id: ChildId,
    /// Worker or supervisor.
    pub kind: ChildKind,
    /// When it is restarted.
    pub restart: Restart,
    /// Whether its own end can end the supervisor.
    pub significant: bool,
    /// How it is asked to end.
    pub shutdown: Shutdown,
    /// How long restarts wait.
    pub backoff: Backoff,
    /// How long a start may take.
    pub start_timeout: Option<Duration>,
    /// How long one callback may take.
    pub watchdog: Option<Duration>,
    /// The name of ractor's it is registered under.
    pub registered: Option<String>,
}
