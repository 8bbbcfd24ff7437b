//! Runs a plain async function as a child.
//!
//! Its own file because no actor is involved: the process is a tokio task on a leash, through which
//! the keeper stops and kills it and learns how it truly ended.
//!
//! ```text
//! loose ──stop──► dropped        a task that does not listen loses its future at once
//!   └─listens─► heeding ──stop──► told ──kill──► killed
//! ```
//!
//! Invariants: the future is dropped in its own task, before the join handle is done; a kill wins
//! over whatever the task was told before; a leash moves to the right only.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, OnceLock};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::watch;
use tokio::task::AbortHandle;

use crate::address::MakeBinding;
use crate::exit::{BoxError, ExitReason};
use crate::runtime::launch::{Launched, Launcher, Order, Process, Refusal, Remains, Takes};
use crate::runtime::record::{Record, lock};
use crate::task::TaskContext;

#[derive(Debug, Clone, PartialEq, Eq)]
enum Position {
    Loose,
    Heeding,
    Told(Arc<str>),
    Dropped(Arc<str>),
    Killed,
}

/// What a task is held by.
#[derive(Debug)]
pub(crate) struct Leash {
    position: watch::Sender<Position>,
    /// Set once it runs.
    task: OnceLock<AbortHandle>,
}

impl Leash {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            position: watch::Sender::new(Position::Loose),
            task: OnceLock::new(),
        })
    }

    /// Asks it to end, or drops its future when it does not listen.
    pub(crate) fn stop(&self, text: &str) {
        let mut drop_it = false;
        self.position.send_if_modified(|position| {
            let next = match position {
                Position::Loose => {
                    drop_it = true;
                    Position::Dropped(text.into())
                }
                Position::Heeding => Position::Told(text.into()),
                Position::Told(_) | Position::Dropped(_) | Position::Killed => return false,
            };
            *position = next;
            true
        });
        if drop_it {
            self.abort();
        }
    }

    pub(crate) fn kill(&self) {
        self.position.send_replace(Position::Killed);
        self.abort();
    }

    fn abort(&self) {
        if let Some(task) = self.task.get() {
            task.abort();
        }
    }

    /// From now on the task ends by itself when it is told to.
    pub(crate) fn heed(&self) {
        self.position.send_if_modified(|position| {
            let loose = *position == Position::Loose;
            if loose {
                *position = Position::Heeding;
            }
            loose
        });
    }

    /// Waits until it is told to end.
    pub(crate) async fn told(self: Arc<Self>) {
        let mut position = self.position.subscribe();
        // The sender is in our own hands.
        let _ = position
            .wait_for(|position| !matches!(position, Position::Loose | Position::Heeding))
            .await;
    }

    pub(crate) fn was_told(&self) -> bool {
        !matches!(*self.position.borrow(), Position::Loose | Position::Heeding)
    }
}

/// Writes into the record how the task ended, whatever ended it.
struct Ending {
    leash: Arc<Leash>,
    record: Arc<Record>,
    /// Set when the function came to its own end, which has been noted then.
    returned: bool,
}

impl Ending {
    fn settle(&mut self, outcome: std::thread::Result<Result<(), BoxError>>) {
        self.returned = true;
        match outcome {
            Ok(Ok(())) => {
                if let Position::Told(text) = &*self.leash.position.borrow() {
                    self.record.note_text(Some(text.to_string()));
                }
                self.record.note_stopped();
            }
            Ok(Err(error)) => self.record.note_failure(ExitReason::Failed(error.into())),
            Err(payload) => self.record.note_failure(ExitReason::of_panic(payload)),
        }
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        if self.returned {
            return;
        }
        match &*self.leash.position.borrow() {
            Position::Dropped(text) => {
                self.record.note_text(Some(text.to_string()));
                self.record.note_stopped();
            }
            Position::Killed => self.record.note_failure(ExitReason::Killed),
            // Then it was the runtime that went away.
            Position::Loose | Position::Heeding | Position::Told(_) => {}
        }
    }
}

/// Spawns `body` on the leash.
pub(crate) fn spawn(
    leash: Arc<Leash>,
    record: Arc<Record>,
    body: impl Future<Output = Result<(), BoxError>> + Send + 'static,
) -> Launched {
    let mut ending = Ending {
        leash: leash.clone(),
        record: record.clone(),
        returned: false,
    };
    let join = tokio::spawn(async move {
        let outcome = AssertUnwindSafe(body).catch_unwind().await;
        ending.settle(outcome);
    });
    // Set once: a leash holds one task.
    let _ = leash.task.set(join.abort_handle());
    if leash.was_told() && !matches!(*leash.position.borrow(), Position::Told(_)) {
        leash.abort();
    }
    if record.start_cancelled() {
        leash.kill();
    }
    record.note_ready();
    Launched {
        process: Process::Task(leash),
        join,
        remains: Remains::Nothing,
        supervisor: None,
    }
}

pub(crate) struct TaskLauncher<F> {
    make: Arc<F>,
}

impl<F> TaskLauncher<F> {
    pub(crate) fn new(make: F) -> Self {
        Self {
            make: Arc::new(make),
        }
    }
}

impl<F, R, E> Launcher for TaskLauncher<F>
where
    F: Fn(TaskContext) -> R + Send + Sync + 'static,
    R: Future<Output = Result<(), E>> + Send + 'static,
    E: Into<BoxError>,
{
    fn takes(&self) -> Takes {
        Takes::Nothing
    }

    fn make_binding(&self) -> Option<MakeBinding> {
        None
    }

    fn launch(&self, order: Order) -> BoxFuture<'static, Result<Launched, Refusal>> {
        let make = self.make.clone();
        Box::pin(async move {
            let leash = Leash::new();
            let context = TaskContext::new(order.context, leash.clone());
            let body = async move { make(context).await.map_err(Into::into) };
            Ok(spawn(leash, order.record, body))
        })
    }
}

/// Runs one future, once.
pub(crate) struct OnceLauncher {
    /// Taken at the only start.
    body: Mutex<Option<BoxFuture<'static, Result<(), BoxError>>>>,
    leash: Arc<Leash>,
    /// Where whoever asked finds the record.
    record: Arc<OnceLock<Arc<Record>>>,
}

impl OnceLauncher {
    pub(crate) fn new(
        body: BoxFuture<'static, Result<(), BoxError>>,
        leash: Arc<Leash>,
        record: Arc<OnceLock<Arc<Record>>>,
    ) -> Self {
        Self {
            body: Mutex::new(Some(body)),
            leash,
            record,
        }
    }
}

impl Launcher for OnceLauncher {
    fn takes(&self) -> Takes {
        Takes::Nothing
    }

    fn make_binding(&self) -> Option<MakeBinding> {
        None
    }

    fn launch(&self, order: Order) -> BoxFuture<'static, Result<Launched, Refusal>> {
        let body = lock(&self.body).take();
        let leash = self.leash.clone();
        let known = self.record.clone();
        Box::pin(async move {
            let Some(body) = body else {
                return Err(Refusal::Failed(Arc::new(ExitReason::NoProcess)));
            };
            // There is one start.
            let _ = known.set(order.record.clone());
            Ok(spawn(leash, order.record, body))
        })
    }
}
