//! How a session begins: assembled, started, awaited until it is live, or given up with its true cause.
//!
//! Apart from the handle because a beginning happens once and the handle is used for weeks. Both doors
//! are here: [`Session::start`] with a venue's platform, [`Client::connect`] without one.
//!
//! Invariants: a start that fails, or is dropped, leaves nothing running; its error is the first cause.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use mainstay_supervisors::{
    ChildSpec, ExitReason, Restart, ShutdownCause, SupervisorEvent, SupervisorEventKind,
    SupervisorRef, SupervisorSpec,
};
use tokio::time::timeout_at;

use super::clock::from_now;
use super::gate::Gate;
use super::limiter::Limiter;
use super::plane::{Plane, SessionState};
use super::reporter::Reporter;
use super::sharing::Sharing;
use super::tape::claim::Claim;
use super::task::OwnedTask;
use super::transport::TransportEnd;
use super::tree::{self, Addresses};
use super::{Session, Shared, lock};
use crate::close::CloseReason;
use crate::config::{Config, ReconnectOwner};
use crate::error::{ConnectError, EndReason, RecordError, StartError};
use crate::hooks::Hooks;
use crate::platform::{JsonRpc, Platform};

/// What a session may be given beside platform and configuration.
#[derive(Clone, Default)]
pub(crate) struct Extras {
    /// In place of one of its own.
    pub(super) limiter: Option<Limiter>,
    /// In place of one of its own.
    pub(super) gate: Option<Gate>,
    pub(super) hooks: Hooks,
    /// That to the file of its recording.
    pub(super) claim: Option<Arc<Claim>>,
    /// Its connection id, if it is one of a pool's.
    pub(super) connection: Option<Arc<str>>,
}

impl Extras {
    fn sharing(sharing: impl Into<Sharing>) -> Self {
        let Sharing { limiter, gate } = sharing.into();
        Self {
            limiter,
            gate,
            ..Self::default()
        }
    }

    /// Claims the file of the session's recording, if it has one; from here on it is this session's.
    pub(crate) fn claim(&mut self, config: &Config) -> Result<(), RecordError> {
        self.claim = config.record.as_ref().map(Claim::on).transpose()?;
        Ok(())
    }

    /// The same, for the session of this connection id.
    pub(crate) fn of_connection(mut self, id: &str) -> Self {
        self.connection = Some(Arc::from(id));
        self
    }
}

impl Session {
    /// Starts a supervised session and waits until it is live: connected, authenticated, restored.
    ///
    /// What the configuration leaves open the platform's [`defaults`](Platform::defaults) decide.
    ///
    /// # Errors
    ///
    /// The first failure, at once, unless the configuration asks to retry the first connection too;
    /// a failure that another attempt cannot cure in any case. Nothing is left running then. Before anything is dialed,
    /// [`StartError::Record`] if a recording has no place or its file another session.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future kills what has been started.
    pub async fn start<P: Platform>(platform: P, config: Config) -> Result<Self, StartError> {
        Self::start_with(platform, config, Extras::default()).await
    }

    /// [`Session::start`] of a session that shares a limiter, a gate or both with others, in place of its own.
    ///
    /// # Errors
    ///
    /// As [`Session::start`].
    pub async fn start_sharing<P: Platform>(
        platform: P,
        config: Config,
        sharing: impl Into<Sharing>,
    ) -> Result<Self, StartError> {
        Self::start_with(platform, config, Extras::sharing(sharing)).await
    }

    pub(super) async fn start_with<P: Platform>(
        platform: P,
        config: Config,
        mut extras: Extras,
    ) -> Result<Self, StartError> {
        let config = config.with_platform(platform.defaults())?;
        extras.claim(&config)?;
        let (session, tree) = Self::assemble(Arc::new(platform), Arc::new(config), extras, true);
        session.start_tree(tree).await?;
        session.until_live().await?;
        Ok(session)
    }

    /// A session and the child spec of its tree, to be started within a tree of the user's own.
    ///
    /// The handle works as soon as that tree runs it; await [`Session::live`] to know. The session ends
    /// when a cause that another attempt cannot cure ends its subtree, which is transient and so is not
    /// restarted, and when the user's tree lets go of the spec. Leave the spec's restart type as it is.
    /// Dropping the last handle ends nothing: the tree is the user's. Should the platform's
    /// [`defaults`](Platform::defaults) not fit the configuration, or its recording have no file
    /// ([`RecordError`]), the session has ended with that cause. A recording's file is the session's from this call on.
    pub fn supervised<P: Platform>(id: &str, platform: P, config: Config) -> (Self, ChildSpec) {
        Self::supervised_with(id, platform, config, Extras::default())
    }

    /// [`Session::supervised`] for a session that shares a limiter, a gate or both with others, in place of its own.
    pub fn supervised_sharing<P: Platform>(
        id: &str,
        platform: P,
        config: Config,
        sharing: impl Into<Sharing>,
    ) -> (Self, ChildSpec) {
        Self::supervised_with(id, platform, config, Extras::sharing(sharing))
    }

    pub(super) fn supervised_with<P: Platform>(
        id: &str,
        platform: P,
        config: Config,
        mut extras: Extras,
    ) -> (Self, ChildSpec) {
        let (mut config, mut misfit) = match config.with_platform(platform.defaults()) {
            Ok(config) => (config, None),
            Err(source) => (config, Some(ConnectError::Config { source })),
        };
        if let Err(source) = extras.claim(&config) {
            // The file is not this session's to write.
            config.record = None;
            misfit = misfit.or(Some(ConnectError::Record { source }));
        }
        let (session, tree) =
            Self::incarnation(&Arc::new(platform), &Arc::new(config), extras, true);
        if let Some(error) = misfit {
            let cause = CloseReason::NotOpened(Arc::new(error));
            session.shared.plane.end(&EndReason::Fatal(cause));
        }
        let spec = ChildSpec::supervisor(id, tree).restart(Restart::Transient);
        (session, spec)
    }

    /// A session that ends with its tree, for whoever makes one anew at each start.
    pub(crate) fn incarnation<P: Platform>(
        platform: &Arc<P>,
        config: &Arc<Config>,
        extras: Extras,
        with_adapter: bool,
    ) -> (Self, SupervisorSpec) {
        let (platform, config) = (Arc::clone(platform), Arc::clone(config));
        let (session, tree) = Self::assemble(platform, config, extras, with_adapter);
        let keeper = EndWithTree {
            plane: Arc::clone(&session.shared.plane),
            path: OnceLock::new(),
            up: AtomicBool::new(false),
        };
        let tree = tree.observe(move |event| keeper.hear(event));
        (session, tree)
    }

    fn assemble<P: Platform>(
        platform: Arc<P>,
        config: Arc<Config>,
        extras: Extras,
        with_adapter: bool,
    ) -> (Self, SupervisorSpec) {
        let Extras {
            limiter,
            gate,
            hooks,
            claim,
            connection,
        } = extras;
        let name = match connection {
            Some(id) => format!("{}/{id}", platform.name()),
            None => platform.name().to_owned(),
        };
        let reporter = Reporter::new(&name, config.collectors.clone());
        let limiter = limiter
            .or_else(|| {
                let limits = config.rate_limits.clone()?;
                Some(Limiter::checked(Arc::clone(&reporter), limits))
            })
            .filter(|limiter| !limiter.limits().is_unlimited());
        let gate = gate.or_else(|| {
            let limits = config.connect_limits.clone()?;
            Some(Gate::checked(&name, config.collectors.clone(), limits))
        });
        let plane = Plane::new(reporter, &config, limiter, gate, hooks);
        if let (Some(tape), Some(claim)) = (&plane.tape, claim) {
            tape.claimed(claim);
        }
        #[cfg(any(feature = "otel", feature = "prometheus"))]
        super::roster::enter(&plane, config.reconnect.owner);
        let addresses = Addresses::new(with_adapter, config.record.is_some());
        let tree = tree::session(&plane, &platform, &config, &addresses);
        let shared = Shared {
            plane,
            platform,
            config,
            addresses,
            root: Mutex::new(None),
            _watcher: Mutex::new(None),
        };
        (
            Self {
                shared: Arc::new(shared),
            },
            tree,
        )
    }

    async fn start_tree(&self, tree: SupervisorSpec) -> Result<(), StartError> {
        let mut beginning = Beginning {
            plane: &self.shared.plane,
            stands: false,
        };
        // A first connection can fail before its tree stands; then that is the cause.
        let first_end = self.shared.plane.watch_first_end();
        if !self.shared.config.reconnect.retry_first {
            self.shared.plane.try_once();
        }
        let root = tree
            .start()
            .await
            .map_err(|error| match first_end.borrow().clone() {
                Some(reason) => start_error(reason),
                None => StartError::Tree(error.to_string()),
            })?;
        let supervisor = SupervisorRef::clone(&root);
        let plane = Arc::clone(&self.shared.plane);
        let watcher = OwnedTask::spawn(async move {
            let reason = supervisor.wait().await;
            plane.end(&end_reason(&reason));
        });
        *lock(&self.shared._watcher) = Some(watcher);
        *lock(&self.shared.root) = Some(root);
        beginning.stands = true;
        Ok(())
    }

    /// Waits until it is live, as [`Session::start`] does; what owns its tree is shut down if it is not.
    pub(crate) async fn until_live(&self) -> Result<(), StartError> {
        let limit = self.shared.config.start_timeout;
        let deadline = from_now(limit);
        let retry = self.shared.config.reconnect.retry_first;
        let mut state = self.shared.plane.watch_state();
        let mut first_end = self.shared.plane.watch_first_end();
        let outcome = timeout_at(deadline, async {
            tokio::select! {
                biased;
                reason = first_end.wait_for(Option::is_some), if !retry => {
                    Err(reason.ok().and_then(|reason| reason.clone()).map_or(
                        StartError::Timeout(limit),
                        start_error,
                    ))
                }
                state = state.wait_for(|state| matches!(state, SessionState::Live { .. } | SessionState::Ended(_))) => {
                    match state.ok().as_deref() {
                        Some(SessionState::Ended(EndReason::Fatal(reason))) => Err(start_error(reason.clone())),
                        Some(SessionState::Ended(reason)) => Err(StartError::Tree(reason.to_string())),
                        _ => Ok(()),
                    }
                }
            }
        })
        .await
        .unwrap_or(Err(StartError::Timeout(limit)));
        if outcome.is_err() {
            self.shutdown().await;
        }
        outcome
    }
}

/// The standalone door: one supervised connection without a venue's platform.
#[derive(Debug)]
pub enum Client {}

impl Client {
    /// Opens a bare connection to `url`, supervised, with layer 1 seeking it again when it is lost.
    ///
    /// Requests are JSON-RPC 2.0; everything that is not an answer comes from [`Session::messages`].
    ///
    /// # Errors
    ///
    /// As [`Session::start`].
    pub async fn connect(url: impl Into<String>) -> Result<Session, StartError> {
        let config = Config::builder(url)
            .reconnect_owner(ReconnectOwner::Client)
            .build()?;
        Self::connect_with(config).await
    }

    /// [`Client::connect`] with a configuration.
    ///
    /// # Errors
    ///
    /// As [`Session::start`].
    pub async fn connect_with(config: Config) -> Result<Session, StartError> {
        Self::connect_extra(config, Extras::default()).await
    }

    /// [`Client::connect_with`] for a session that shares a limiter, a gate or both with others, in place of its own.
    ///
    /// # Errors
    ///
    /// As [`Session::start`].
    pub async fn connect_sharing(
        config: Config,
        sharing: impl Into<Sharing>,
    ) -> Result<Session, StartError> {
        Self::connect_extra(config, Extras::sharing(sharing)).await
    }

    async fn connect_extra(config: Config, mut extras: Extras) -> Result<Session, StartError> {
        extras.claim(&config)?;
        let (session, tree) = Session::assemble(Arc::new(JsonRpc), Arc::new(config), extras, false);
        session.start_tree(tree).await?;
        session.until_live().await?;
        Ok(session)
    }
}

/// Gives back the recording's file if a tree does not come to stand: then nobody is left who ends the plane.
struct Beginning<'p> {
    plane: &'p Plane,
    stands: bool,
}

impl Drop for Beginning<'_> {
    fn drop(&mut self) {
        if let (false, Some(tape)) = (self.stands, &self.plane.tape) {
            tape.finish();
        }
    }
}

/// Ends the plane of a session whose tree is the user's own: when the session's subtree gives up, and at
/// the latest when the last copy of its spec is gone.
struct EndWithTree {
    plane: Arc<Plane>,
    /// The session's own supervisor; set by its first child's start.
    path: OnceLock<String>,
    /// Whether that supervisor is up and has not begun to end.
    up: AtomicBool,
}

impl EndWithTree {
    fn hear(&self, event: &SupervisorEvent) {
        match &event.kind {
            SupervisorEventKind::ChildStarted { .. } => {
                // The first child starts before anything beneath.
                let _ = self.path.set(event.path.as_str().to_owned());
            }
            SupervisorEventKind::Ready if self.is_own(event) => {
                self.up.store(true, Ordering::Relaxed);
            }
            SupervisorEventKind::Shutdown { .. } if self.is_own(event) => {
                self.up.store(false, Ordering::Relaxed);
            }
            // The inner supervisor's end is the outer one's to judge.
            SupervisorEventKind::Escalated { reason }
            | SupervisorEventKind::Exhausted { reason }
                if self.is_own(event) =>
            {
                self.plane.end(&end_reason(reason));
            }
            _ => {}
        }
    }

    fn is_own(&self, event: &SupervisorEvent) -> bool {
        let path = self.path.get();
        path.is_some_and(|path| path == event.path.as_str())
    }
}

impl Drop for EndWithTree {
    fn drop(&mut self) {
        // A supervisor that is killed has no time to say that it ends.
        self.plane.end(&match self.up.load(Ordering::Relaxed) {
            true => end_reason(&ExitReason::Killed),
            false => EndReason::Shutdown,
        });
    }
}

fn start_error(reason: CloseReason) -> StartError {
    match reason {
        CloseReason::NotOpened(error) => match (*error).clone() {
            ConnectError::Record { source } => StartError::Record(source),
            error => StartError::Connect(error),
        },
        CloseReason::NotEstablished {
            step,
            detail,
            recovery,
        } => StartError::Refused {
            step,
            detail,
            recovery,
        },
        other => StartError::Closed(other),
    }
}

fn end_reason(reason: &ExitReason) -> EndReason {
    if let Some(end) = reason.downcast_ref::<TransportEnd>() {
        return EndReason::Fatal(end.reason.clone());
    }
    match reason {
        ExitReason::Ended(ShutdownCause::Requested) => EndReason::Shutdown,
        other => EndReason::Exhausted(other.to_string()),
    }
}
