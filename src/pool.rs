//! Many sessions behind one door: requests go to the healthiest, and to the next one if it fails.
//!
//! A pool is a dynamic supervisor whose children are whole sessions. Each has a connection id, which stays the
//! same over its reconnects and over its restarts; who needs the session itself finds it by [`Pool::session`].
//!
//! ```
//! use mainstay::platform::JsonRpc;
//! use mainstay::pool::{Pool, PoolSpec};
//! use mainstay::protocol::rpc::{Class, Params, TypedCall};
//! use mainstay::Config;
//! # use mainstay::testing::ScriptedServer;
//!
//! # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
//! # let respond = |text: &str| {
//! #     let request: serde_json::Value = serde_json::from_str(text).ok()?;
//! #     Some(serde_json::json!({"jsonrpc": "2.0", "id": request["id"], "result": 7}).to_string())
//! # };
//! # let server = ScriptedServer::builder().respond(respond).start().await?;
//! # let url = server.url();
//! let pool = Pool::start(PoolSpec::new().on_disconnect(|id, _, why| eprintln!("{id}: {why}"))).await?;
//! for id in ["a", "b", "c"] {
//!     let config = Config::builder(url.as_str()).build()?;
//!     pool.add(id, JsonRpc, config).await?; // live when this returns
//! }
//!
//! // A read may be asked of another session if the first one fails; an order never is once it has been written.
//! let read = TypedCall::<u32>::new("time", Params::new(), Class::Idempotent);
//! assert_eq!(pool.invoke(read).await?, 7);
//!
//! println!("{}", pool.health());
//! pool.remove("b").await;
//! assert_eq!(pool.ids().len(), 2);
//! pool.shutdown().await;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Who is asked
//!
//! The live session with the highest score ([`protocol::health`](crate::protocol::health) has the formula), and
//! among equals each in its turn. A session that is not live is no candidate. What happens when an attempt
//! fails is the table of [`Pool::invoke`].
//!
//! # Who restarts what
//!
//! A lost connection is the session's own affair, as ever. A session whose actors fail more often than its
//! tree allows is made anew by the pool, under the same id: a new [`Session`], whose subscriptions are made
//! anew by whoever wants them ([`PoolSpec::on_connect`] tells when). One that another attempt cannot cure leaves
//! the pool. More failures than [`PoolSpec::intensity`] allows cost the pool the session that failed last.
//!
//! # Invariants
//!
//! A request that is not idempotent is written at most once, by whichever session; an id has one session at a time,
//! and is free when that has ended for good; the pool's clones are the same pool, and the last one's drop
//! kills its sessions.

mod health;
pub(crate) mod inspect;
mod member;
mod reconcile;
mod registry;
mod route;
mod spec;

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dashmap::DashMap;
use futures_util::future::join_all;
use mainstay_supervisors::{
    ChildId, ChildSpec, DynamicRef, DynamicSpec, Root, ShutdownPlan, ShutdownReport,
    StartChildError, SupervisorRef, TreeSnapshot,
};
use tokio::time::timeout;

use crate::config::Config;
use crate::error::{AddError, StartError};
use crate::platform::{JsonRpc, Platform};
use crate::protocol::health::{RecentErrors, Router};
use crate::session::Session;
use crate::session::metrics::Metrics;
use crate::session::reporter::Reporter;
use crate::session::spec::SessionSpec;
use crate::session::start::Extras;
use crate::telemetry::TelemetryEvent;
pub use health::{PoolHealth, SessionHealth};
use member::{Follower, Recipe};
pub use registry::{ConnectionId, Member, Registry};
pub use spec::{Discovery, PoolSpec};

/// Many sessions behind one door; see the [module](self). Cheap to clone; all clones are the same pool.
///
/// When the last clone is dropped its sessions are killed, unless the tree is the user's own; call [`Pool::shutdown`] first for closing handshakes.
#[derive(Clone)]
pub struct Pool {
    shared: Arc<Shared>,
    /// Whom to choose among, in place of the registry.
    discovery: Option<Arc<dyn Discovery>>,
}

struct Shared {
    spec: PoolSpec,
    registry: Registry,
    supervisor: DynamicRef,
    /// The tree, if it is the pool's own. Taken by nobody: its drop ends the tree.
    root: Option<Root>,
    router: Mutex<Router>,
    errors: DashMap<ConnectionId, RecentErrors>,
    reporter: Arc<Reporter>,
    /// Set by the shutdown; from then on nobody is asked.
    closed: AtomicBool,
}

impl Pool {
    /// Starts a pool without sessions.
    ///
    /// # Errors
    ///
    /// [`StartError::Tree`] if its supervisor does not start.
    pub async fn start(spec: PoolSpec) -> Result<Self, StartError> {
        let supervisor = DynamicRef::new();
        let root = tree(&spec, &supervisor)
            .start()
            .await
            .map_err(|error| StartError::Tree(crate::error::chain(&error)))?;
        Ok(Self::assemble(spec, supervisor, Some(root)))
    }

    /// A pool and the child spec of its supervisor, to be started within a tree of the user's own.
    ///
    /// Sessions are added once that tree runs. Should it restart the pool's supervisor, the pool is empty
    /// again, as every dynamic supervisor is, and its ids are free. Dropping the last handle ends nothing.
    #[must_use]
    pub fn supervised(id: &str, spec: PoolSpec) -> (Self, ChildSpec) {
        let supervisor = DynamicRef::new();
        let child = ChildSpec::supervisor(id, tree(&spec, &supervisor));
        (Self::assemble(spec, supervisor, None), child)
    }

    fn assemble(spec: PoolSpec, supervisor: DynamicRef, root: Option<Root>) -> Self {
        let shared = Shared {
            registry: Registry::new(),
            supervisor,
            root,
            router: Mutex::new(Router::new()),
            errors: DashMap::new(),
            reporter: Reporter::new(&spec.name, spec.collectors.clone()),
            closed: AtomicBool::new(false),
            spec,
        };
        Self {
            discovery: shared.spec.discovery.clone(),
            shared: Arc::new(shared),
        }
    }

    /// The same pool, which chooses among what `discovery` yields: for one call, or for one part of a program.
    #[must_use]
    pub fn with_discovery(&self, discovery: impl Discovery) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            discovery: Some(Arc::new(discovery)),
        }
    }

    /// Starts a session under a connection id and waits until it is live: connected, authenticated, restored;
    /// within its configuration's start timeout.
    ///
    /// What is returned is its present incarnation; [`Pool::session`] finds the one after a restart, too.
    ///
    /// # Errors
    ///
    /// [`AddError`]: the id is in use, or it did not come live, as [`Session::start`] says. Nothing is left
    /// running then, and the id is free again.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends what has been started.
    pub async fn add<P: Platform>(
        &self,
        id: impl Into<ConnectionId>,
        platform: P,
        config: Config,
    ) -> Result<Session, AddError> {
        self.admit(id.into(), platform, config, Extras::default(), true)
            .await
    }

    /// [`Pool::add`] for a session out of this mould, with its hooks and its limiter. The configuration is
    /// usually [`SessionSpec::config`]'s; the mould's preset has no other part in it.
    ///
    /// # Errors
    ///
    /// As [`Pool::add`], cancel safety included.
    pub async fn add_from<P: Platform>(
        &self,
        id: impl Into<ConnectionId>,
        mould: &SessionSpec<P>,
        config: Config,
    ) -> Result<Session, AddError> {
        let (platform, extras) = (mould.platform(), mould.extras());
        self.admit(id.into(), platform, config, extras, true).await
    }

    /// [`Pool::add`] for a bare connection, as [`Client::connect_with`](crate::Client::connect_with) opens one.
    ///
    /// # Errors
    ///
    /// As [`Pool::add`], cancel safety included.
    pub async fn connect(
        &self,
        id: impl Into<ConnectionId>,
        config: Config,
    ) -> Result<Session, AddError> {
        self.admit(id.into(), JsonRpc, config, Extras::default(), false)
            .await
    }

    async fn admit<P: Platform>(
        &self,
        id: ConnectionId,
        platform: P,
        config: Config,
        mut extras: Extras,
        with_adapter: bool,
    ) -> Result<Session, AddError> {
        let endpoint = config.endpoint.to_string();
        let not_live = |source: StartError| AddError::NotLive {
            connection: id.to_string(),
            endpoint: endpoint.clone(),
            source,
        };
        if self.is_closed() {
            return Err(AddError::Ended);
        }
        let supervisor = self.shared.supervisor.current().ok_or(AddError::Ended)?;
        let config = match with_adapter {
            true => config
                .with_platform(platform.defaults())
                .map_err(|errors| not_live(errors.into()))?,
            false => config,
        };
        let seat = self.shared.registry.reserve(id.clone())?;
        extras
            .claim(&config)
            .map_err(|error| not_live(error.into()))?;
        let number = seat.number();
        let child = child_id(&id, number);
        let hooks = self.shared.spec.hooks.clone();
        let follower = Follower::new(id.clone(), hooks, Arc::clone(&self.shared.reporter));
        let recipe = Recipe {
            platform: Arc::new(platform),
            config: Arc::new(config),
            extras: extras.of_connection(id.as_str()),
            with_adapter,
        };
        let spec = member::child(child.clone(), seat, follower, recipe);
        let unfinished = Unfinished {
            registry: self.shared.registry.clone(),
            supervisor: supervisor.clone(),
            id: id.clone(),
            number,
            finished: false,
        };
        supervisor
            .start_child(spec)
            .await
            .map_err(|error| match error {
                StartChildError::ShuttingDown(_) => AddError::Ended,
                other => not_live(StartError::Tree(crate::error::chain(&other))),
            })?;
        let Some(session) = self.shared.registry.held(&id, number) else {
            let removed = StartError::Tree("it was removed before it was live".to_owned());
            unfinished.end().await;
            return Err(not_live(removed));
        };
        match session.until_live().await {
            Ok(()) => {
                unfinished.disarm();
                Ok(session)
            }
            Err(error) => {
                unfinished.end().await;
                Err(not_live(error))
            }
        }
    }

    /// Takes a session out of the pool and ends it, with a closing handshake. No more requests go to it from
    /// the call on; those that wait for an answer have up to its configuration's shutdown timeout for that.
    /// Returns whether there was one. One that was inserted into the [registry](Pool::registry) by hand is taken
    /// out and goes on.
    ///
    /// # Cancel safety
    ///
    /// A call whose future is dropped after its first poll is carried out all the same.
    pub async fn remove(&self, id: &str) -> bool {
        let Some((number, session)) = self.shared.registry.take_out(id) else {
            return false;
        };
        self.clear_errors(id);
        // One that was inserted into the registry by hand is no child.
        let Some(number) = number else { return true };
        let child = child_id(&ConnectionId::from(id), number);
        let supervisor = self.shared.supervisor.current();
        let ending = tokio::spawn(async move {
            if let Some(session) = session {
                // Those that are not answered by then hear so.
                let _ = timeout(session.config().shutdown_timeout, session.retire()).await;
            }
            if let Some(supervisor) = supervisor {
                // It may have ended by itself.
                let _ = supervisor.terminate_child(&child).await;
            }
        });
        // Only a runtime that ends cancels it.
        let _ = ending.await;
        true
    }

    /// Its name, as [`PoolSpec::name`] gave it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.shared.spec.name
    }

    /// The connection ids in the pool, in the order in which they were added.
    #[must_use]
    pub fn ids(&self) -> Vec<ConnectionId> {
        let members = self.shared.registry.list().into_iter();
        members.map(|member| member.id).collect()
    }

    /// The present incarnation of a session.
    #[must_use]
    pub fn session(&self, id: &str) -> Option<Session> {
        self.shared.registry.lookup(id)
    }

    /// The pool's sessions by connection id. A session that is inserted there from elsewhere becomes a
    /// candidate; its life remains its owner's affair.
    #[must_use]
    pub fn registry(&self) -> &Registry {
        &self.shared.registry
    }

    /// What the pool's own events have come to so far.
    #[must_use]
    pub fn metrics(&self) -> Metrics {
        self.shared.reporter.metrics.snapshot()
    }

    /// The supervision tree of all its sessions as it is now; `None` while its supervisor is not up.
    /// [`Pool::inspect`] has it together with everything else.
    pub async fn tree(&self) -> Option<TreeSnapshot> {
        let supervisor = self.shared.supervisor.current()?;
        Some(supervisor.snapshot().await)
    }

    /// Ends the pool: asks nobody from the call on, lets requests that wait for an answer have half of the
    /// shutdown timeout, then ends every session with a closing handshake. Later calls wait for the first
    /// one's end.
    ///
    /// The sessions of a pool in a tree of the user's own end with that tree; this then does the rest and returns
    /// `None`.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future stops the wait for answers; what has been begun of the rest goes on.
    pub async fn shutdown(&self) -> Option<ShutdownReport> {
        self.shared.closed.store(true, Ordering::Release);
        let total = self.shared.spec.shutdown_timeout;
        let began = tokio::time::Instant::now();
        let sessions = self.shared.registry.pooled();
        let retired = join_all(sessions.iter().map(Session::retire));
        // Those that are not answered by then hear so.
        let _ = timeout(total / 2, retired).await;
        let left = total.saturating_sub(began.elapsed());
        let root = self.shared.root.as_ref()?;
        Some(root.shutdown(ShutdownPlan::within(left)).await)
    }

    /// Its supervisor, while that is up.
    #[cfg(feature = "console-server")]
    pub(crate) fn supervisor(&self) -> Option<SupervisorRef> {
        self.shared.supervisor.current()
    }

    fn is_closed(&self) -> bool {
        self.shared.closed.load(Ordering::Acquire)
    }

    /// Whom to choose among.
    fn members(&self) -> Vec<Member> {
        match &self.discovery {
            _ if self.is_closed() => Vec::new(),
            Some(discovery) => discovery.candidates(),
            None => self.shared.registry.list(),
        }
    }

    fn report(&self, event: &TelemetryEvent<'_>) {
        self.shared.reporter.report(event);
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("name", &self.shared.spec.name)
            .field("sessions", &self.shared.registry)
            .finish_non_exhaustive()
    }
}

fn tree(spec: &PoolSpec, supervisor: &DynamicRef) -> DynamicSpec {
    DynamicSpec::new()
        .name(&*spec.name)
        .intensity(spec.intensity)
        .on_exhausted(spec.on_exhausted)
        .reference(supervisor)
}

/// A child id that no other session of the pool has had.
fn child_id(id: &ConnectionId, number: u64) -> ChildId {
    ChildId::from(format!("{id}-{number}"))
}

/// A session that has been started and is not live yet. Dropping it ends the session.
struct Unfinished {
    registry: Registry,
    supervisor: SupervisorRef,
    id: ConnectionId,
    number: u64,
    finished: bool,
}

impl Unfinished {
    fn disarm(mut self) {
        self.finished = true;
    }

    async fn end(mut self) {
        self.finished = true;
        self.registry.vacate(&self.id, self.number);
        let child = child_id(&self.id, self.number);
        // It may have ended by itself.
        let _ = self.supervisor.terminate_child(&child).await;
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if self.finished {
            return;
        }
        self.registry.vacate(&self.id, self.number);
        // Without a runtime there is no tree either.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let (supervisor, child) = (self.supervisor.clone(), child_id(&self.id, self.number));
            runtime.spawn(async move {
                let _ = supervisor.terminate_child(&child).await;
            });
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
