//! The start of a tree: a keeper for its top, and what is said when it does not stand.
//!
//! Its own file because everything here is over when the first handle is there.
//!
//! Invariants: a start that is given up or fails leaves nothing running; what a spec asks for and cannot have,
//! or may not mean, is said at the start.

use std::sync::{Arc, Once};
use std::time::Duration;

use ractor::ActorCell;
use tokio::sync::oneshot;

use super::{Root, SupervisorRef};
use crate::exit::{ExitReason, ShutdownCause};
use crate::id::{ChildId, Generation, SupervisorPath};
use crate::policy::Restart;
use crate::runtime::household::Doom;
use crate::runtime::keeper::{Keeper, Limits, Reports};
use crate::runtime::launch::{Order, Refusal};
use crate::runtime::record::Record;
use crate::runtime::supervisor::launch;
use crate::runtime::telemetry::Listeners;
use crate::spec::{Launch, SharedValue, SpecError, StartContext, SupervisorSpec};

/// Why a tree does not stand.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum StartFailure {
    /// The spec makes no sense.
    #[error("the spec of supervisor {supervisor:?} makes no sense; change what the source names")]
    Spec {
        /// Its name.
        supervisor: SupervisorPath,
        /// What is wrong with the spec.
        source: SpecError,
    },
    /// A child did not start; those before it were ended again.
    #[error(
        "child {child} of supervisor {supervisor} did not start; mend what the source names, then start the tree again"
    )]
    Child {
        /// Where the supervisor would stand.
        supervisor: SupervisorPath,
        /// That child.
        child: ChildId,
        /// Why it did not start.
        #[source]
        reason: Arc<ExitReason>,
    },
    /// The supervisor itself did not start, or was ended before its children were up.
    #[error(
        "supervisor {supervisor} did not start; mend what the source names, then start it again"
    )]
    Supervisor {
        /// Where it would stand.
        supervisor: SupervisorPath,
        /// Why it did not start.
        #[source]
        reason: Arc<ExitReason>,
    },
}

impl SupervisorSpec {
    /// Starts the tree and waits until every child is ready.
    ///
    /// Dropping the future before that kills what has been started.
    ///
    /// A child that postpones its first start is waited for as long as it does so; give the start a limit of your
    /// own (`tokio::time::timeout`) where that may be for ever.
    ///
    /// # Errors
    /// When the spec is wrong or a child does not start; then nothing is left running.
    ///
    /// # Panics
    /// Outside a tokio runtime, and in one without a timer (`enable_time`).
    pub async fn start(self) -> Result<Root, StartFailure> {
        let supervisor = self.start_top(None).await?;
        Ok(Root { supervisor })
    }

    /// Starts the tree as a child of an actor that is not one of this crate's supervisors. That
    /// actor gets ractor's events, and takes the tree down with it: by a kill, as ractor does with all
    /// children, and not in order, however the actor ends. For an end in order call
    /// [`shutdown`](SupervisorRef::shutdown) first.
    ///
    /// Dropping the future before the tree stands kills what has been started; the reference can be dropped
    /// at any time.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub async fn start_under(self, cell: ActorCell) -> Result<SupervisorRef, StartFailure> {
        self.start_top(Some(cell)).await
    }

    async fn start_top(self, above: Option<ActorCell>) -> Result<SupervisorRef, StartFailure> {
        // Here, where the user can see it, and not in a task of ours later.
        drop(tokio::time::sleep(Duration::ZERO));
        let name = self.name.as_deref().unwrap_or("root");
        let (id, path) = (ChildId::from(name), SupervisorPath::root(name));
        self.check().map_err(|source| StartFailure::Spec {
            supervisor: path.clone(),
            source,
        })?;
        mention_abort();
        mention_unlimited(&self, &path);
        let generation = Generation(1);
        let record = Record::new(id.clone(), None, generation, Vec::new());
        // Nobody stands above a root's keeper, so only a start that is given up dooms it.
        let doom = Arc::new(Doom::default());
        let (starter, started) = oneshot::channel();
        let order = Order {
            context: StartContext {
                id,
                path: path.clone(),
                generation,
                attempt: 0,
                previous: None,
                shared: SharedValue::default(),
            },
            name: None,
            supervisor: above,
            record: record.clone(),
            strangers: Arc::default(),
        };
        let launching = launch(Arc::new(self), &Listeners::default(), order);
        let keeper = Keeper {
            doom: doom.enrol(&record),
            record,
            reports: Reports::Starter(Some(starter)),
        };
        let mut starting = Starting(Some(doom));
        tokio::spawn(keeper.mind(launching, Limits::default()));
        let started = started.await;
        starting.0 = None;
        match started {
            Ok(Ok(supervisor)) => Ok(supervisor),
            Ok(Err(Refusal::Failed(reason))) => Err(start_failure(path, reason)),
            Ok(Err(Refusal::Ignored | Refusal::Postponed(_))) | Err(_) => {
                Err(start_failure(path, Arc::new(ExitReason::Cancelled)))
            }
        }
    }
}

/// Says once that this program cannot survive a panic.
fn mention_abort() {
    static MENTIONED: Once = Once::new();
    if cfg!(panic = "abort") {
        MENTIONED.call_once(|| {
            tracing::warn!(
                target: "supervisors",
                "built with panic = \"abort\": a panic ends the program, only errors and kills are supervised"
            );
        });
    }
}

/// Says of which children nothing limits the restarts, once for each supervisor.
fn mention_unlimited(spec: &SupervisorSpec, path: &SupervisorPath) {
    let unlimited: Vec<&ChildId> = spec
        .children
        .iter()
        .filter(|child| child.restart != Restart::Temporary)
        .filter(|child| child.backoff.is_unlimited(spec.intensity))
        .map(|child| &child.id)
        .collect();
    if let Some(first) = unlimited.first() {
        tracing::warn!(
            target: "supervisors",
            { supervisor.path = %path, child.id = first.as_str(), children.count = unlimited.len() },
            "unlimited restarts: the delays of the backoff keep a failing child from ever using up the \
             intensity; set its `max_attempts`, or widen the window"
        );
    }
    for child in &spec.children {
        if let Launch::Supervisor(below) = &child.launch {
            mention_unlimited(below, &path.child(&child.id));
        }
    }
}

/// Dooms a tree whose start is dropped before it has come to an end.
struct Starting(Option<Arc<Doom>>);

impl Drop for Starting {
    fn drop(&mut self) {
        if let Some(doom) = self.0.take() {
            doom.come();
        }
    }
}

fn start_failure(supervisor: SupervisorPath, reason: Arc<ExitReason>) -> StartFailure {
    if let ExitReason::StartFailed(inner) = &*reason
        && let ExitReason::Ended(ShutdownCause::StartFailed { child, reason }) = &**inner
    {
        return StartFailure::Child {
            supervisor,
            child: child.clone(),
            reason: reason.clone(),
        };
    }
    StartFailure::Supervisor { supervisor, reason }
}
