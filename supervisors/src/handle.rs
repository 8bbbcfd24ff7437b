//! Handles on a running supervisor.
//!
//! A [`Root`] owns its tree, a [`SupervisorRef`] only knows one; both speak to keepers and inboxes,
//! never to a supervisor's mailbox.
//!
//! Invariants: a shutdown can be asked for any number of times and every caller gets the report; no
//! wait here is longer than its plan, apart from `wait` itself.

mod start;

use std::fmt;
use std::ops::Deref;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::future::{BoxFuture, join_all};
use ractor::ActorCell;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::admin::Membership;
use crate::event::{Audience, EventStream};
use crate::exit::ExitReason;
use crate::id::{Generation, SupervisorPath};
use crate::policy::ChildKind;
use crate::runtime::household::{Doom, Ledger};
use crate::runtime::inbox::{Inbox, Letter};
use crate::runtime::keys::Keys;
use crate::runtime::record::Record;
use crate::runtime::supervisor::Call;
use crate::shutdown::{ShutdownPlan, ShutdownReport, StopOrder};
use crate::snapshot::{NodeStatus, TreeSnapshot};
use crate::spec::SupervisorSpec;
use crate::time::from_now;

pub use start::StartFailure;

/// How long a supervisor may take to describe itself.
const DESCRIBE: Duration = Duration::from_secs(1);
/// What is set aside of a plan for killing the supervisor itself.
const RESERVE: Duration = Duration::from_millis(250);

struct Shared {
    cell: ActorCell,
    record: Arc<Record>,
    path: SupervisorPath,
    inbox: Inbox,
    doom: Arc<Doom>,
    ledger: Arc<Ledger>,
    audience: Arc<Audience>,
    keys: Keys,
    membership: Membership,
    /// When a shutdown was first asked for.
    asked: OnceLock<Instant>,
    /// From then to the end.
    took: OnceLock<Duration>,
}

/// A reference to a running supervisor. Does not keep it alive.
///
/// # How long calls take
/// None has a limit of its own; what they wait for has:
///
/// | Call | Waits for | Limited by |
/// |---|---|---|
/// | `which_children`, `which_child`, `count_children`, `child_spec`, `address`, `monitor_child`, `delete_child`, `reconfigure` | the supervisor to read it | its code alone: a supervisor waits for nobody. Yours runs inside it too, as an observer, a `classify`, or the drop of what it holds |
/// | `start_child`, `restart_child` | a group that is being restarted, then the child to be ready | the delays and start limits of the group, and the child's own [`start_timeout`](crate::ChildSpec::start_timeout) |
/// | `terminate_child` | the child's end | its [`Shutdown`](crate::Shutdown), a second for the kill, and one for the drop of its state |
/// | [`shutdown`](Self::shutdown) | everybody's end | the plan's total |
/// | [`snapshot`](Self::snapshot) | the answers of all beneath | a second |
///
/// Without a limit are therefore the start of a supervisor that was given none, and the end of a child under
/// [`Shutdown::Infinite`](crate::Shutdown::Infinite). A limit for the caller alone is
/// [`tokio::time::timeout`]: what was asked goes on all the same. A callback that asks for its own actor's end
/// waits for itself, and so does a start that asks for a sibling's while the supervisor boots or the group
/// restarts; have a task ask.
#[derive(Clone)]
pub struct SupervisorRef {
    shared: Arc<Shared>,
}

impl fmt::Debug for SupervisorRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SupervisorRef").field(self.path()).finish()
    }
}

impl SupervisorRef {
    pub(crate) fn new(
        cell: ActorCell,
        record: Arc<Record>,
        inbox: Inbox,
        doom: Arc<Doom>,
        ledger: Arc<Ledger>,
        audience: Arc<Audience>,
        spec: &SupervisorSpec,
    ) -> Self {
        Self {
            shared: Arc::new(Shared {
                cell,
                path: record.path(),
                record,
                inbox,
                doom,
                ledger,
                audience,
                keys: spec.keys.clone(),
                membership: spec.membership(),
                asked: OnceLock::new(),
                took: OnceLock::new(),
            }),
        }
    }

    /// The supervisor's actor.
    #[must_use]
    pub fn cell(&self) -> &ActorCell {
        &self.shared.cell
    }

    /// Where the supervisor stands.
    #[must_use]
    pub fn path(&self) -> &SupervisorPath {
        &self.shared.path
    }

    /// The supervisor's incarnation.
    #[must_use]
    pub fn generation(&self) -> Generation {
        self.shared.record.generation
    }

    /// Ends the supervisor and everything beneath it, depth first in reverse start order, and waits
    /// for it. A second call joins the first and can only shorten its time.
    ///
    /// A child whose spec says so is restarted by its own supervisor afterwards, whose intensity that counts against.
    ///
    /// Dropped midway, the shutdown goes on without anybody waiting for it; call again to join it. The plan's total is
    /// kept by the tree: an observer or a drop that blocks a worker, which neither may, holds this up with it.
    pub async fn shutdown(&self, plan: ShutdownPlan) -> ShutdownReport {
        let shared = &self.shared;
        let asked = *shared.asked.get_or_init(Instant::now);
        let reserve = if plan.total.is_zero() {
            RESERVE
        } else {
            RESERVE.min(plan.total / 8)
        };
        let patience = plan.total.saturating_sub(reserve);
        let order = StopOrder {
            // Not of the supervisor above, which may go on and has a report of its own.
            last: false,
            drain: false,
            patience: Some(patience),
            grace: reserve,
            deadline: Some(from_now(patience).into_std()),
        };
        // To the supervisor's own keeper. One that is done has closed the record, or is about to.
        shared.record.command(order, plan.reason.into());
        self.wait().await;
        let mut report = shared.ledger.report();
        report.took = *shared.took.get_or_init(|| asked.elapsed());
        report
    }

    /// Waits until the supervisor has ended, and tells how. Dropping the future changes nothing; also those
    /// who ask afterwards are told.
    pub async fn wait(&self) -> Arc<ExitReason> {
        self.shared.record.ended().await
    }

    /// The events of this supervisor and of all beneath it, from now on; also of those beneath that are
    /// restarted or added later. The stream ends with this incarnation: subscribe at the root to hear
    /// across restarts.
    ///
    /// At most `capacity` events wait to be read, one at least; what is beyond pushes out the oldest,
    /// and the reader is told how many. Nobody waits for the reader.
    ///
    /// ```
    /// # use mainstay_supervisors::{Missed, ShutdownPlan, Strategy, SupervisorSpec};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let tree = SupervisorSpec::new(Strategy::OneForOne).start().await?;
    /// let mut events = tree.subscribe(256);
    /// tree.shutdown(ShutdownPlan::default()).await;
    /// while let Some(event) = events.next().await {
    ///     match event {
    ///         Ok(event) => assert_eq!(event.kind.name(), "sup.shutdown"),
    ///         Err(Missed(count)) => panic!("read quicker, or with more room: {count} are lost"),
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    #[must_use = "dropping the stream unsubscribes"]
    pub fn subscribe(&self, capacity: usize) -> EventStream {
        let shared = &self.shared;
        EventStream::new(&shared.audience, shared.record.clone(), capacity)
    }

    /// A picture of the tree from here down. The whole takes 1 s at most: supervisors that have not answered
    /// by then are marked [`Unreachable`](NodeStatus::Unreachable). Dropping the future changes nothing.
    pub async fn snapshot(&self) -> TreeSnapshot {
        self.describe(Instant::now() + DESCRIBE, usize::MAX).await
    }

    /// A picture of so many levels beneath: with none it shows this supervisor alone, with one its own children
    /// too. A supervisor at the last level is shown as the one above knows it, and is not asked. Otherwise as
    /// [`snapshot`](Self::snapshot).
    pub async fn snapshot_to(&self, levels: usize) -> TreeSnapshot {
        self.describe(Instant::now() + DESCRIBE, levels).await
    }

    fn describe(&self, deadline: Instant, levels: usize) -> BoxFuture<'_, TreeSnapshot> {
        Box::pin(async move {
            let record = &self.shared.record;
            let meter = record.meter();
            let mut node = TreeSnapshot {
                path: self.shared.path.clone(),
                id: record.id.clone(),
                kind: ChildKind::Supervisor,
                strategy: None,
                restart: None,
                status: NodeStatus::Unreachable,
                generation: record.generation,
                actor: None,
                started_at: None,
                uptime: None,
                restarts: 0,
                window: None,
                attempts: 0,
                next_restart: None,
                last_exit: record.exit(),
                handled: meter.handled,
                busy: meter.busy,
                handler_age: meter.handler_age,
                queue_depth: None,
                children: Vec::new(),
            };
            if node.last_exit.is_some() {
                node.status = NodeStatus::Idle;
                node.handler_age = None;
                return node;
            }
            let (reply, answer) = oneshot::channel();
            let asked = async {
                self.shared.inbox.ask(Letter::Describe(reply)).await;
                answer.await
            };
            let Ok(Ok(description)) = tokio::time::timeout_at(deadline, asked).await else {
                return node;
            };
            node.status = description.status;
            node.actor = Some(self.shared.cell.get_id());
            (node.started_at, node.uptime) = description.ready.unzip();
            node.strategy = Some(description.strategy);
            node.window = Some(description.window);
            let Some(levels) = levels.checked_sub(1) else {
                return node;
            };
            node.children = description.children;
            if levels == 0 {
                return node;
            }
            let below = description.below;
            let deeper = below
                .iter()
                .map(|(_, child)| child.describe(deadline, levels));
            let deeper = join_all(deeper).await;
            for ((at, _), found) in below.iter().zip(deeper) {
                if let Some(child) = node.children.get_mut(*at) {
                    child.status = found.status;
                    child.strategy = found.strategy.or(child.strategy);
                    child.window = found.window;
                    child.children = found.children;
                }
            }
            node
        })
    }

    /// Has nobody beneath survive.
    pub(crate) fn doom(&self) {
        self.shared.doom.come();
    }

    pub(crate) fn end_by(&self, deadline: Option<std::time::Instant>, text: Arc<str>) {
        self.shared.inbox.order_end(deadline, text);
    }

    pub(crate) fn keys(&self) -> &Keys {
        &self.shared.keys
    }

    pub(crate) fn membership(&self) -> Membership {
        self.shared.membership
    }

    pub(crate) async fn put_call(&self, call: Call) {
        self.shared.inbox.ask(Letter::Call(call)).await;
    }

    pub(crate) fn ledger(&self) -> Arc<Ledger> {
        self.shared.ledger.clone()
    }
}

/// The owner of a tree. Shut it down and wait: dropped before, it can only kill.
#[derive(Debug)]
#[must_use = "dropping the root kills the tree"]
pub struct Root {
    supervisor: SupervisorRef,
}

impl Deref for Root {
    type Target = SupervisorRef;

    fn deref(&self) -> &SupervisorRef {
        &self.supervisor
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        if self.supervisor.shared.record.exit().is_none() {
            tracing::error!(
                target: "supervisors",
                { supervisor.path = %self.supervisor.path() },
                "the root of a running tree was dropped: the tree is killed"
            );
            self.supervisor.doom();
            self.supervisor.cell().kill();
        }
    }
}
