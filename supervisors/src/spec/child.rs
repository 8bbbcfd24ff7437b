//! How one child is made, restarted and stopped.
//!
//! Apart from the supervisor's own spec because there are as many ways to make a child as kinds of children.
//!
//! Invariants: every kind has OTP's defaults; an address that does not fit the child is found by the check.

use std::fmt;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::future::BoxFuture;
use ractor::thread_local::{ThreadLocalActor, ThreadLocalActorSpawner};
use ractor::{Actor, ActorCell};

use super::{Classify, Launch, Spawned, SpecError, StartContext, StartError, SupervisorSpec};
use crate::address::{Address, Binding};
use crate::admin::SpecInfo;
use crate::backoff::Backoff;
use crate::exit::{BoxError, ExitReason};
use crate::id::{ChildId, Unfit, part_of_path};
use crate::policy::{AutoShutdown, ChildKind, Restart, Shutdown, Verdict};
use crate::runtime::blueprint::Blueprint;
use crate::runtime::foreign::ForeignLauncher;
use crate::runtime::launch::{ActorLauncher, Takes};
use crate::runtime::local::LocalLauncher;
use crate::runtime::record::Record;
use crate::runtime::task::{Leash, OnceLauncher, TaskLauncher};
use crate::task::TaskContext;

/// Default limit of a worker's start.
const START_TIMEOUT: Duration = Duration::from_secs(30);
/// Default limit of a worker's shutdown, as in OTP.
const SHUTDOWN: Duration = Duration::from_secs(5);

/// How one child is made, restarted and stopped.
///
/// A clone describes the same child: generations go on counting over all clones, and an
/// [`Address`] given to one is filled by all.
#[derive(Clone)]
pub struct ChildSpec {
    pub(crate) id: ChildId,
    pub(crate) launch: Launch,
    pub(crate) restart: Restart,
    pub(crate) significant: bool,
    pub(crate) shutdown: Shutdown,
    pub(crate) backoff: Backoff,
    pub(crate) start_timeout: Option<Duration>,
    pub(crate) watchdog: Option<Duration>,
    pub(crate) classify: Option<Classify>,
    pub(crate) registered: Option<String>,
    pub(crate) bindings: Vec<Arc<dyn Binding>>,
    /// The last of them is the supervisor's own, made when somebody asked for it.
    pub(crate) own_binding: bool,
    /// The last generation given out; survives restarts of the enclosing supervisor.
    pub(crate) last_generation: Arc<AtomicU64>,
    /// Set by a supervisor that was asked to start it.
    pub(crate) added: bool,
}

impl ChildSpec {
    /// A child that is an actor. `make` is called for each incarnation, in a task of its own; it
    /// should be cheap and must not block. A panic in it is a failed start.
    ///
    /// Defaults: permanent, 5 s to stop, 30 s to start.
    pub fn actor<A, F>(id: impl Into<ChildId>, make: F) -> Self
    where
        A: Actor,
        F: Fn(StartContext) -> Result<(A, A::Arguments), StartError> + Send + Sync + 'static,
    {
        Self::new(
            id.into(),
            Launch::Worker(Arc::new(ActorLauncher::new(make))),
            Shutdown::Timeout(SHUTDOWN),
            Some(START_TIMEOUT),
        )
    }

    /// A child that is an actor of ractor's thread-local kind, whose state cannot leave its thread.
    /// It runs on the thread of `spawner` and is dropped there; several children may share one.
    ///
    /// ractor makes the actor itself, by `Default`; `make` yields its arguments and is otherwise as
    /// for [`actor`](Self::actor), as are the defaults. A start that was given up is dropped by the
    /// spawner's thread whenever it comes to it. The spawner's thread has a runtime and a clock of
    /// its own.
    pub fn thread_local<A, F>(
        id: impl Into<ChildId>,
        spawner: ThreadLocalActorSpawner,
        make: F,
    ) -> Self
    where
        A: ThreadLocalActor,
        F: Fn(StartContext) -> Result<A::Arguments, StartError> + Send + Sync + 'static,
    {
        Self::new(
            id.into(),
            Launch::Worker(Arc::new(LocalLauncher::<A, F>::new(spawner, make))),
            Shutdown::Timeout(SHUTDOWN),
            Some(START_TIMEOUT),
        )
    }

    /// A child that `spawn` brings up itself, in whatever way: an actor built elsewhere, a factory with
    /// its own spawner, the shim of a remote actor. It is called for each incarnation, with the
    /// supervisor's cell to link to (what is not linked when it is handed over is linked then), and
    /// bounded by the start timeout; what it spawned but did not hand over is its own affair.
    ///
    /// There is no wrapper around such a child, so its ends are what ractor's events say: a panic is
    /// a failure with a text, a stop whose reason is `killed` looks like a kill, and one that is not
    /// linked at its end is [`Unobserved`](ExitReason::Unobserved). It is ready when its
    /// `post_start` is done. [`registered`](Self::registered) has no effect.
    ///
    /// The messages of an [`address`](Self::address) are taken on trust by the spec, and compared
    /// when an incarnation comes up: a start that does not fit fails.
    ///
    /// Defaults: permanent, 5 s to stop, 30 s to start.
    pub fn spawn_with<F, R>(id: impl Into<ChildId>, spawn: F) -> Self
    where
        F: Fn(StartContext, ActorCell) -> R + Send + Sync + 'static,
        R: Future<Output = Result<Spawned, StartError>> + Send + 'static,
    {
        Self::new(
            id.into(),
            Launch::Worker(Arc::new(ForeignLauncher::new(spawn))),
            Shutdown::Timeout(SHUTDOWN),
            Some(START_TIMEOUT),
        )
    }

    /// A child that is a plain async function: no actor, no mailbox, a bare task. `make` is called
    /// for each incarnation, inside the task; it is up as soon as it is spawned.
    ///
    /// Returning `Ok` is a graceful stop, an error a failure of that type. Told to stop, its future is
    /// dropped at once, which is graceful too; a task that wants to end by itself takes
    /// [`TaskContext::stopping`]. No address and no name can be given to it.
    ///
    /// ```
    /// use mainstay_supervisors::{ChildSpec, TaskContext};
    ///
    /// let ticker = ChildSpec::task("ticker", |context: TaskContext| async move {
    ///     let mut stopping = context.stopping();
    ///     loop {
    ///         tokio::select! {
    ///             () = &mut stopping => return Ok::<(), std::io::Error>(()),
    ///             () = tokio::time::sleep(std::time::Duration::from_secs(1)) => {}
    ///         }
    ///     }
    /// });
    /// ```
    ///
    /// Defaults: permanent, 5 s to stop.
    pub fn task<F, R, E>(id: impl Into<ChildId>, make: F) -> Self
    where
        F: Fn(TaskContext) -> R + Send + Sync + 'static,
        R: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        Self::new(
            id.into(),
            Launch::Worker(Arc::new(TaskLauncher::new(make))),
            Shutdown::Timeout(SHUTDOWN),
            Some(START_TIMEOUT),
        )
    }

    /// A future that runs once.
    pub(crate) fn once(
        id: impl Into<ChildId>,
        body: BoxFuture<'static, Result<(), BoxError>>,
        leash: Arc<Leash>,
        record: Arc<OnceLock<Arc<Record>>>,
    ) -> Self {
        let launcher = OnceLauncher::new(body, leash, record);
        Self::new(
            id.into(),
            Launch::Worker(Arc::new(launcher)),
            Shutdown::Timeout(SHUTDOWN),
            Some(START_TIMEOUT),
        )
        .restart(Restart::Temporary)
    }

    /// A child that is a supervisor, static or [dynamic](crate::DynamicSpec). Defaults: permanent, no
    /// limit to stop or start beyond those of its own children.
    pub fn supervisor(id: impl Into<ChildId>, spec: impl Into<SupervisorSpec>) -> Self {
        Self::new(
            id.into(),
            Launch::Supervisor(Arc::new(spec.into())),
            Shutdown::Infinite,
            None,
        )
    }

    /// A child that is a supervisor whose spec is made anew at each start, as by the `init` of an OTP
    /// supervisor: from what is true then, or not at all. For `make` and what it may answer, see
    /// [`actor`](Self::actor); a spec that makes no sense is a failed start. Children that were in the
    /// spec before go on being numbered.
    ///
    /// Defaults as of [`supervisor`](Self::supervisor).
    pub fn supervisor_with<S, F>(id: impl Into<ChildId>, make: F) -> Self
    where
        S: Into<SupervisorSpec>,
        F: Fn(StartContext) -> Result<S, StartError> + Send + Sync + 'static,
    {
        let make = move |context| make(context).map(Into::into);
        Self::new(
            id.into(),
            Launch::Made(Arc::new(Blueprint::new(Box::new(make)))),
            Shutdown::Infinite,
            None,
        )
    }

    fn new(id: ChildId, launch: Launch, shutdown: Shutdown, start: Option<Duration>) -> Self {
        Self {
            id,
            launch,
            restart: Restart::default(),
            significant: false,
            shutdown,
            backoff: Backoff::default(),
            start_timeout: start,
            watchdog: None,
            classify: None,
            registered: None,
            bindings: Vec::new(),
            own_binding: false,
            last_generation: Arc::new(AtomicU64::new(0)),
            added: false,
        }
    }

    /// When the child is started again. Default [`Restart::Permanent`].
    #[must_use]
    pub fn restart(mut self, restart: Restart) -> Self {
        self.restart = restart;
        self
    }

    /// Whether the child's own end can end the supervisor, see [`AutoShutdown`]. Default no.
    #[must_use]
    pub fn significant(mut self, yes: bool) -> Self {
        self.significant = yes;
        self
    }

    /// How the child is asked to end. Default 5 s for workers, tasks among them, and
    /// [`Shutdown::Infinite`] for supervisors.
    #[must_use]
    pub fn shutdown(mut self, shutdown: Shutdown) -> Self {
        self.shutdown = shutdown;
        self
    }

    /// How long restarts wait. Default [`Backoff::default`].
    #[must_use]
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }

    /// How long a start may take, from the factory's call to the end of `post_start`. Default 30 s for
    /// workers, no limit for supervisors.
    #[must_use]
    pub fn start_timeout(mut self, limit: Duration) -> Self {
        self.start_timeout = Some(limit);
        self
    }

    /// How long one call of `handle` or `handle_supervisor_evt` may take, waiting included. An actor
    /// that exceeds it is killed and has ended as [`ExitReason::Hung`], which counts as any failure;
    /// one that does not even die of that is left behind. Default: no limit.
    ///
    /// A callback that waits is noticed when the limit is reached, one that blocks its thread after
    /// half as much again at the latest. Starts and stops have limits of their own, and children that
    /// are no actors of this crate's making are not watched.
    #[must_use]
    pub fn watchdog(mut self, limit: Duration) -> Self {
        self.watchdog = Some(limit);
        self
    }

    /// Judges each end the child comes to by itself, failed restarts included. A panic in it is
    /// taken as [`Verdict::Default`].
    #[must_use]
    pub fn classify(
        mut self,
        judge: impl Fn(&ExitReason) -> Verdict + Send + Sync + 'static,
    ) -> Self {
        self.classify = Some(Arc::new(judge));
        self
    }

    /// Registers each incarnation under a name of ractor's, for humans. Nothing here resolves by it.
    #[must_use]
    pub fn registered(mut self, name: impl Into<String>) -> Self {
        self.registered = Some(name.into());
        self
    }

    /// Fills `address` with each incarnation, over restarts of the child and of its supervisors.
    #[must_use]
    pub fn address<M: ractor::Message>(mut self, address: &Address<M>) -> Self {
        self.bindings.push(address.binding());
        self
    }

    /// The child's id.
    #[must_use]
    pub fn id(&self) -> &ChildId {
        &self.id
    }

    /// Whether there is a wrapper that counts what the child handles.
    pub(crate) fn counts_messages(&self) -> bool {
        match &self.launch {
            Launch::Worker(launcher) => matches!(launcher.takes(), Takes::Messages(_)),
            Launch::Spent(_, make_binding) => make_binding.is_some(),
            Launch::Supervisor(_) | Launch::Made(_) => false,
        }
    }

    pub(crate) fn kind(&self) -> ChildKind {
        match self.launch {
            Launch::Worker(_) => ChildKind::Worker,
            Launch::Supervisor(_) | Launch::Made(_) => ChildKind::Supervisor,
            Launch::Spent(kind, _) => kind,
        }
    }

    pub(crate) fn describe(&self) -> SpecInfo {
        SpecInfo {
            id: self.id.clone(),
            kind: self.kind(),
            restart: self.restart,
            significant: self.significant,
            shutdown: self.shutdown,
            backoff: self.backoff,
            start_timeout: self.start_timeout,
            watchdog: self.watchdog,
            registered: self.registered.clone(),
        }
    }

    pub(crate) fn check_id(&self) -> Result<(), SpecError> {
        part_of_path(self.id.as_str()).map_err(|unfit| match unfit {
            Unfit::Empty => SpecError::EmptyId,
            Unfit::Divided => SpecError::SlashInId {
                child: self.id.clone(),
            },
            Unfit::Unprintable => SpecError::ControlInId {
                child: self.id.clone(),
            },
        })
    }

    pub(crate) fn check(&self, auto_shutdown: AutoShutdown) -> Result<(), SpecError> {
        let id = || self.id.clone();
        self.check_id()?;
        if self.significant && self.restart == Restart::Permanent {
            return Err(SpecError::SignificantPermanent { child: id() });
        }
        if self.significant && auto_shutdown == AutoShutdown::Never {
            return Err(SpecError::SignificantNever { child: id() });
        }
        if self.start_timeout == Some(Duration::ZERO) {
            return Err(SpecError::ZeroStartTimeout { child: id() });
        }
        if self.watchdog == Some(Duration::ZERO) {
            return Err(SpecError::ZeroWatchdog { child: id() });
        }
        self.backoff.check().map_err(|source| SpecError::Backoff {
            child: id(),
            source,
        })?;
        let takes = match &self.launch {
            Launch::Worker(launcher) => Some(launcher.takes()),
            Launch::Supervisor(_) | Launch::Made(_) | Launch::Spent(..) => None,
        };
        let fits = |binding: &Arc<dyn Binding>| match takes {
            Some(Takes::Messages(messages)) => messages == binding.message_type(),
            Some(Takes::Unknown) => true,
            Some(Takes::Nothing) | None => false,
        };
        if !self.bindings.iter().all(fits) {
            return Err(SpecError::AddressType { child: id() });
        }
        if let Launch::Supervisor(spec) = &self.launch {
            spec.check().map_err(|source| SpecError::Nested {
                child: id(),
                source: Box::new(source),
            })?;
        }
        Ok(())
    }
}

impl fmt::Debug for ChildSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChildSpec")
            .field("id", &self.id)
            .field("kind", &self.kind())
            .field("restart", &self.restart)
            .field("significant", &self.significant)
            .field("shutdown", &self.shutdown)
            .finish_non_exhaustive()
    }
}
