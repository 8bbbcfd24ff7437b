//! Dynamic supervisors: children that come and go by request, any number of the same kind.
//!
//! What OTP calls `simple_one_for_one` and Elixir `DynamicSupervisor`. The supervisor is the same machine
//! and the same actor as every other; this file holds what is different to the user: a spec without
//! children, and a reference that gives keys.
//!
//! ```
//! use mainstay_supervisors::{ChildSpec, DynamicRef, DynamicSpec, Restart, ShutdownPlan};
//! # use ractor::{Actor, ActorProcessingErr, ActorRef};
//! # struct Job;
//! # #[cfg_attr(feature = "async-trait", ractor::async_trait)]
//! # impl Actor for Job {
//! #     type Msg = mainstay_supervisors::Down;
//! #     type State = ();
//! #     type Arguments = u32;
//! #     async fn pre_start(&self, _: ActorRef<Self::Msg>, _: u32) -> Result<(), ActorProcessingErr> { Ok(()) }
//! # }
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let jobs = DynamicRef::new();
//! let tree = DynamicSpec::new().max_children(2).reference(&jobs).start().await?;
//!
//! let job = ChildSpec::actor("job", |_| Ok((Job, 7))).restart(Restart::Transient);
//! let (first, _) = jobs.start_child(job.clone()).await?;
//! let (second, _) = jobs.start_child(job.clone()).await?;
//! assert_ne!(first, second);
//! assert!(jobs.start_child(job).await.is_err(), "two are as many as there may be");
//!
//! jobs.terminate_child(&first).await?;
//! assert_eq!(jobs.count_children().await?.active, 1);
//! tree.shutdown(ShutdownPlan::default()).await;
//! # Ok(())
//! # }
//! ```
//!
//! Invariants: one_for_one, and no significant children; a child that restarts counts towards the limit;
//! a child that is not restarted is forgotten, whatever its restart type, so that there is nobody for
//! `restart_child` and `delete_child`, which a [`SupervisorRef`] refuses; a key is never given twice,
//! not even over restarts of the supervisor, and one of another supervisor's finds nobody;
//! at the end everybody is told at once and each has its own limit.

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use ractor::{Actor, ActorCell, Message};

use crate::address::Address;
use crate::admin::{
    ChildInfo, Counts, LookupError, SpecInfo, StartChildError, Started, SupervisorEnded,
    TerminateChildError,
};
use crate::event::SupervisorEvent;
use crate::handle::{Root, StartFailure, SupervisorRef};
use crate::id::{ChildId, Generation};
use crate::machine::Population;
use crate::policy::{Intensity, OnExhausted, Strategy};
use crate::seat::{SupervisorAddress, SupervisorNotUp};
use crate::spec::{ChildSpec, SharedValue, StartContext, StartError, SupervisorSpec};

/// A supervisor whose children are started by request.
#[derive(Debug, Clone)]
pub struct DynamicSpec {
    spec: SupervisorSpec,
}

impl DynamicSpec {
    /// A supervisor without children. Defaults: any number of them, 3 restarts in 5 s over all of them.
    #[must_use]
    pub fn new() -> Self {
        let mut spec = SupervisorSpec::new(Strategy::OneForOne);
        spec.population = Population::Dynamic { max_children: None };
        Self { spec }
    }

    /// How many children there may be, those that start or restart included. Zero allows none.
    #[must_use]
    pub fn max_children(mut self, limit: usize) -> Self {
        self.spec.population = Population::Dynamic {
            max_children: Some(limit),
        };
        self
    }

    /// How many restarts, of all children together, are allowed within a sliding window. Default 3 in 5 s.
    #[must_use]
    pub fn intensity(mut self, intensity: Intensity) -> Self {
        self.spec = self.spec.intensity(intensity);
        self
    }

    /// What happens when there were too many restarts. Default [`OnExhausted::Shutdown`]; with
    /// [`OnExhausted::Park`] the child that failed last is forgotten, after an event that says so, and
    /// the others go on.
    #[must_use]
    pub fn on_exhausted(mut self, choice: OnExhausted) -> Self {
        self.spec = self.spec.on_exhausted(choice);
        self
    }

    /// What every factory finds in its context, at restarts too: [`StartContext::shared`].
    #[must_use]
    pub fn shared<T: Any + Send + Sync>(mut self, value: T) -> Self {
        self.spec.shared = SharedValue(Some(Arc::new(value)));
        self
    }

    /// The first part of the paths when this supervisor is a root. Default `root`.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.spec = self.spec.name(name);
        self
    }

    /// As [`SupervisorSpec::observe`].
    #[must_use]
    pub fn observe(mut self, observe: impl Fn(&SupervisorEvent) + Send + Sync + 'static) -> Self {
        self.spec = self.spec.observe(observe);
        self
    }

    /// Has `reference` reach the supervisor, over its restarts.
    #[must_use]
    pub fn reference(mut self, reference: &DynamicRef) -> Self {
        self.spec = self.spec.address(&reference.address);
        self
    }

    /// Starts it as the top of a tree; as a child it is given to
    /// [`ChildSpec::supervisor`](crate::ChildSpec::supervisor).
    ///
    /// # Errors
    /// As [`SupervisorSpec::start`].
    pub async fn start(self) -> Result<Root, StartFailure> {
        self.spec.start().await
    }

    /// Starts it under an actor that is none of this crate's supervisors.
    ///
    /// # Errors
    /// As [`SupervisorSpec::start_under`].
    pub async fn start_under(self, cell: ActorCell) -> Result<SupervisorRef, StartFailure> {
        self.spec.start_under(cell).await
    }
}

impl Default for DynamicSpec {
    fn default() -> Self {
        Self::new()
    }
}

impl From<DynamicSpec> for SupervisorSpec {
    fn from(dynamic: DynamicSpec) -> Self {
        dynamic.spec
    }
}

/// Which child of a dynamic supervisor: the id of its spec and a number, as `job-17`. It equals no key
/// of another supervisor's, unless both are by clones of one spec, and these are numbered together.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChildKey {
    id: ChildId,
    /// Whose numbers these are.
    series: u64,
}

impl ChildKey {
    /// The key as the id that events, paths and snapshots show.
    #[must_use]
    pub fn id(&self) -> &ChildId {
        &self.id
    }

    /// The id, for the supervisor that gave the key.
    fn of(&self, supervisor: &SupervisorRef) -> Option<&ChildId> {
        (self.series == supervisor.keys().series()).then_some(&self.id)
    }
}

impl fmt::Display for ChildKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.id.fmt(f)
    }
}

impl fmt::Debug for ChildKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.id, f)
    }
}

/// Speaks to whichever incarnation of a dynamic supervisor is up. Clones speak to the same, and so do
/// several references of one spec.
///
/// Who has ids of his own, each for one child, starts them by [`current`](Self::current) and
/// [`SupervisorRef::start_child`]; their keys are found by [`which_children`](Self::which_children). An id that would be
/// the next one by number is then in use for the call that comes to it
/// ([`AlreadyStarted`](StartChildError::AlreadyStarted)); better not to end one's ids in a number.
///
/// Calls while none is up fail with the error's `ShuttingDown` or `SupervisorEnded`; wait with
/// [`up`](Self::up) where that matters. They take as long as those of a [`SupervisorRef`].
#[derive(Debug, Clone, Default)]
pub struct DynamicRef {
    address: SupervisorAddress,
}

impl DynamicRef {
    /// A reference to nobody yet; give it to [`DynamicSpec::reference`].
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The supervisor that is up.
    #[must_use]
    pub fn current(&self) -> Option<SupervisorRef> {
        self.address.current()
    }

    /// The supervisor that is up, waited for `within` at most. Dropping the future changes nothing.
    ///
    /// # Errors
    /// When none came up in time.
    pub async fn up(&self, within: Duration) -> Result<SupervisorRef, SupervisorNotUp> {
        self.address.up(within).await
    }

    /// Starts one more child and waits until it is ready. Specs may be used again and again: each child has
    /// a key and generations of its own. (An address given to a spec is filled by whichever of its children
    /// came last; [`start_actor`](Self::start_actor) gives each its own.)
    ///
    /// A child that ends and is not restarted is forgotten, and so is one that declines to start; its key
    /// is not found from then on. The children of a supervisor that is itself restarted do not come back.
    /// A call whose future is dropped is carried out all the same, if there was room for it.
    ///
    /// # Errors
    /// See [`StartChildError`]. Nothing of the child is kept then, and no intensity is used.
    pub async fn start_child(
        &self,
        spec: ChildSpec,
    ) -> Result<(ChildKey, Started), StartChildError> {
        let supervisor = self.supervisor()?;
        // As it was given: with a number it would no longer look empty.
        spec.check_id().map_err(|source| StartChildError::Spec {
            child: spec.id().clone(),
            source,
        })?;
        let keys = supervisor.keys();
        let number = keys.next();
        let mut spec = spec;
        let id = ChildId::from(format!("{}-{number}", spec.id()));
        spec.id = id.clone();
        spec.last_generation = Arc::new(AtomicU64::new(Generation::default().0));
        let series = keys.series();
        let started = supervisor.start_child(spec).await?;
        Ok((ChildKey { id, series }, started))
    }

    /// Starts one more actor with the defaults of [`ChildSpec::actor`], and gives its address. A call whose
    /// future is dropped is carried out all the same, if there was room for it.
    ///
    /// # Errors
    /// As [`start_child`](Self::start_child).
    pub async fn start_actor<A, F>(
        &self,
        id: impl Into<ChildId>,
        make: F,
    ) -> Result<(ChildKey, Address<A::Msg>), StartChildError>
    where
        A: Actor,
        F: Fn(StartContext) -> Result<(A, A::Arguments), StartError> + Send + Sync + 'static,
    {
        let address = Address::new();
        let spec = ChildSpec::actor(id, make).address(&address);
        let (key, _) = self.start_child(spec).await?;
        Ok((key, address))
    }

    /// Ends a child as its spec says, waits for its end, and forgets it. One that waits for its restart
    /// does not come back. A call whose future is dropped is carried out all the same, if there was room for it.
    ///
    /// # Errors
    /// As [`SupervisorRef::terminate_child`].
    pub async fn terminate_child(&self, key: &ChildKey) -> Result<(), TerminateChildError> {
        let supervisor = self.supervisor()?;
        let child = key.id().clone();
        let id = key
            .of(&supervisor)
            .ok_or(TerminateChildError::NotFound { child })?;
        supervisor.terminate_child(id).await
    }

    /// The children, newest first. Dropping the future changes nothing.
    ///
    /// # Errors
    /// When there is no supervisor.
    pub async fn which_children(&self) -> Result<Vec<(ChildKey, ChildInfo)>, SupervisorEnded> {
        let supervisor = self.supervisor()?;
        let series = supervisor.keys().series();
        let children = supervisor.which_children().await?;
        let keyed = children.into_iter().map(|child| {
            let id = child.id.clone();
            (ChildKey { id, series }, child)
        });
        Ok(keyed.collect())
    }

    /// One child. Dropping the future changes nothing.
    ///
    /// # Errors
    /// When there is no such child, or no supervisor.
    pub async fn which_child(&self, key: &ChildKey) -> Result<ChildInfo, LookupError> {
        let supervisor = self.supervisor()?;
        let id = key
            .of(&supervisor)
            .ok_or_else(|| LookupError::not_found(key.id()))?;
        supervisor.which_child(id).await
    }

    /// How many children there are. Dropping the future changes nothing.
    ///
    /// # Errors
    /// When there is no supervisor.
    pub async fn count_children(&self) -> Result<Counts, SupervisorEnded> {
        self.supervisor()?.count_children().await
    }

    /// What a child's spec says. Dropping the future changes nothing.
    ///
    /// # Errors
    /// When there is no such child, or no supervisor.
    pub async fn child_spec(&self, key: &ChildKey) -> Result<SpecInfo, LookupError> {
        let supervisor = self.supervisor()?;
        let id = key
            .of(&supervisor)
            .ok_or_else(|| LookupError::not_found(key.id()))?;
        supervisor.child_spec(id).await
    }

    /// An address that reaches whichever incarnation of the child is up, for as long as this incarnation of the
    /// supervisor has it. Dropping the future changes nothing.
    ///
    /// # Errors
    /// When there is no such child, it takes other messages, or there is no supervisor.
    pub async fn address<M: Message>(&self, key: &ChildKey) -> Result<Address<M>, LookupError> {
        let supervisor = self.supervisor()?;
        let id = key
            .of(&supervisor)
            .ok_or_else(|| LookupError::not_found(key.id()))?;
        supervisor.address(id).await
    }

    fn supervisor(&self) -> Result<SupervisorRef, SupervisorEnded> {
        self.current().ok_or_else(SupervisorEnded::nobody)
    }
}
