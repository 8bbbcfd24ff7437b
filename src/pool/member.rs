//! One session of a pool: how it is made at each of its starts, what its end means, and who is told of its life.
//!
//! Apart from the pool because this is about one session, and the pool about many.
//!
//! Invariants: a session that fails is made anew under the same id; one that another attempt cannot cure is
//! not; each time that it becomes live or ceases to be, its hooks are called once, in order, also after a
//! restart; a hook that panics or blocks harms nobody but the hooks of its own session.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mainstay_supervisors::backoff::Backoff;
use mainstay_supervisors::{ChildId, ChildSpec, Restart, StartError, Verdict};
use tokio::task::JoinHandle;

use super::registry::{ConnectionId, Seat};
use crate::config::Config;
use crate::platform::Platform;
use crate::protocol::status::{Status, Why};
use crate::session::Session;
use crate::session::plane::SessionState;
use crate::session::reporter::Reporter;
use crate::session::start::Extras;
use crate::session::transport::TransportEnd;
use crate::telemetry::TelemetryEvent;

/// The waits before a session that has failed is made anew.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(30));

/// What a session is made of, at each start.
pub(super) struct Recipe<P> {
    pub(super) platform: Arc<P>,
    pub(super) config: Arc<Config>,
    pub(super) extras: Extras,
    /// Without one it is a bare connection.
    pub(super) with_adapter: bool,
}

/// The child that is this session's whole tree.
pub(super) fn child<P: Platform>(
    id: ChildId,
    seat: Seat,
    follower: Follower,
    recipe: Recipe<P>,
) -> ChildSpec {
    let Recipe {
        platform,
        config,
        extras,
        with_adapter,
    } = recipe;
    let again = Arc::new(appending(&config));
    ChildSpec::supervisor_with(id, move |context| {
        let config = match context.previous {
            Some(_) => &again,
            None => &config,
        };
        let (session, tree) = Session::incarnation(&platform, config, extras.clone(), with_adapter);
        if !seat.fill(&session) {
            // It was removed while it waited for its restart.
            return Err(StartError::Ignore);
        }
        follower.follow(session);
        Ok(tree)
    })
    .restart(Restart::Permanent)
    .backoff(Backoff::new(BACKOFF.0, BACKOFF.1))
    .classify(|reason| match reason.downcast_ref::<TransportEnd>() {
        // What the session itself has given up is not begun again from here.
        Some(_) => Verdict::DontRestart,
        None => Verdict::Default,
    })
}

/// The configuration of a session that is made anew: what its predecessor has recorded stays.
fn appending(config: &Config) -> Config {
    let mut config = config.clone();
    if let Some(record) = &mut config.record {
        record.append = true;
    }
    config
}

type OnConnect = dyn Fn(&ConnectionId, &Session) + Send + Sync;
type OnDisconnect = dyn Fn(&ConnectionId, &Session, &Why) + Send + Sync;

/// What a user wants to have called.
#[derive(Clone, Default)]
pub(super) struct Hooks {
    pub(super) on_connect: Option<Arc<OnConnect>>,
    pub(super) on_disconnect: Option<Arc<OnDisconnect>>,
}

impl Hooks {
    fn are_none(&self) -> bool {
        self.on_connect.is_none() && self.on_disconnect.is_none()
    }
}

impl fmt::Debug for Hooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hooks")
            .field("on_connect", &self.on_connect.is_some())
            .field("on_disconnect", &self.on_disconnect.is_some())
            .finish()
    }
}

/// Calls the hooks over all incarnations of one session.
pub(super) struct Follower {
    id: ConnectionId,
    hooks: Hooks,
    reporter: Arc<Reporter>,
    /// Follows the latest incarnation; ends with it.
    task: Mutex<Option<JoinHandle<()>>>,
}

impl Follower {
    pub(super) fn new(id: ConnectionId, hooks: Hooks, reporter: Arc<Reporter>) -> Self {
        Self {
            id,
            hooks,
            reporter,
            task: Mutex::new(None),
        }
    }

    fn follow(&self, session: Session) {
        if self.hooks.are_none() {
            return;
        }
        let mut task = self.task.lock().unwrap_or_else(PoisonError::into_inner);
        let before = task.take();
        let told = Told {
            id: self.id.clone(),
            hooks: self.hooks.clone(),
            reporter: Arc::clone(&self.reporter),
            session,
        };
        *task = Some(tokio::spawn(async move {
            if let Some(before) = before {
                // What there is to tell of the predecessor comes first.
                let _ = before.await;
            }
            told.of_its_life().await;
        }));
    }
}

/// One incarnation, and who is told of it.
struct Told {
    id: ConnectionId,
    hooks: Hooks,
    reporter: Arc<Reporter>,
    session: Session,
}

impl Told {
    async fn of_its_life(&self) {
        let mut state = self.session.watch();
        let mut seen = 0;
        loop {
            let over = matches!(*state.borrow_and_update(), SessionState::Ended(_));
            let steps = self.session.history().into_iter();
            for step in steps.filter(|step| step.number > seen).collect::<Vec<_>>() {
                seen = step.number;
                if step.to == Status::Live {
                    self.connected().await;
                } else if step.from == Status::Live {
                    self.disconnected(step.why).await;
                }
            }
            if over || state.changed().await.is_err() {
                return;
            }
        }
    }

    async fn connected(&self) {
        if let Some(hook) = self.hooks.on_connect.clone() {
            let (id, session) = (self.id.clone(), self.session.clone());
            self.call("on_connect", move || hook(&id, &session)).await;
        }
    }

    async fn disconnected(&self, why: Why) {
        if let Some(hook) = self.hooks.on_disconnect.clone() {
            let (id, session) = (self.id.clone(), self.session.clone());
            self.call("on_disconnect", move || hook(&id, &session, &why))
                .await;
        }
    }

    /// On a thread for blocking work: a hook may take its time and holds up no connection.
    async fn call(&self, hook: &'static str, call: impl FnOnce() + Send + 'static) {
        let Err(error) = tokio::task::spawn_blocking(call).await else {
            return;
        };
        if error.is_panic() {
            self.reporter.report(&TelemetryEvent::PoolHookPanicked {
                connection: self.id.as_str(),
                hook,
            });
            // The payload is a stranger's, and so is its drop.
            std::mem::forget(error);
        }
    }
}
