//! The handle on one task: its result, its end, and the link between the two.
//!
//! Its own file because it speaks to the task alone: the supervisor may be gone meanwhile.
//!
//! Invariants: dropped while it is linked it ends the task; it yields once, the result or how the task truly
//! ended.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::time::timeout;

use super::{GRACE, TaskError};
use crate::dynamic::ChildKey;
use crate::exit::ExitReason;
use crate::monitor::{MonitorRef, Watcher, monitor_record};
use crate::runtime::record::Record;
use crate::runtime::task::Leash;

/// Ends the task when it is dropped, if it is still linked.
pub(super) struct Link {
    pub(super) leash: Arc<Leash>,
    pub(super) linked: bool,
}

impl Drop for Link {
    fn drop(&mut self) {
        if self.linked {
            self.leash.stop("its handle was dropped");
        }
    }
}

/// A task that was started. Await it for its result.
#[must_use = "dropping the handle of a linked task ends the task"]
pub struct TaskHandle<T> {
    pub(super) key: ChildKey,
    pub(super) record: Arc<Record>,
    pub(super) link: Link,
    pub(super) result: BoxFuture<'static, Result<T, TaskError>>,
    /// Whether that has yielded.
    pub(super) taken: bool,
}

impl<T> TaskHandle<T> {
    /// Which child of the supervisor it is.
    #[must_use]
    pub fn key(&self) -> &ChildKey {
        &self.key
    }

    /// Lets it run on without a handle.
    pub fn detach(mut self) {
        self.release();
    }

    /// Ends the task, waits `within` for its end and kills it then. Yields the result when it was
    /// there already. A kill is waited for 1 s.
    ///
    /// Dropped midway, the task has been told to end but is not killed: one that takes no notice runs on.
    ///
    /// # Errors
    /// How it ended instead, also when the handle has yielded the result already; [`ExitReason::Abandoned`] when
    /// it does not yield.
    pub async fn shutdown(mut self, within: Duration) -> Result<T, TaskError> {
        if self.taken {
            let ended = timeout(GRACE, self.record.ended()).await;
            let reason = ended.unwrap_or_else(|_| Arc::new(ExitReason::Abandoned));
            return Err(TaskError::of(&self.record, reason));
        }
        self.link.leash.stop("shutdown");
        if let Ok(result) = timeout(within, &mut self.result).await {
            return result;
        }
        self.link.leash.kill();
        match timeout(GRACE, &mut self.result).await {
            Ok(result) => result,
            Err(_) => Err(TaskError::of(&self.record, Arc::new(ExitReason::Abandoned))),
        }
    }

    /// Kills the task. Await the handle to know when it is gone.
    pub fn kill(&self) {
        self.link.leash.kill();
    }

    /// Watches the task; see [`monitor`](crate::monitor()). An end that was a result is
    /// [`Stopped`](ExitReason::Stopped).
    pub fn monitor(&self, watcher: &impl Watcher) -> MonitorRef {
        monitor_record(watcher, &self.record)
    }

    pub(super) fn release(&mut self) {
        self.link.linked = false;
    }
}

/// Not to be polled again after it has yielded.
impl<T> Future for TaskHandle<T> {
    type Output = Result<T, TaskError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let polled = self.result.as_mut().poll(context);
        self.taken = polled.is_ready();
        polled
    }
}

impl<T> fmt::Debug for TaskHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskHandle")
            .field("key", &self.key)
            .field("linked", &self.link.linked)
            .finish_non_exhaustive()
    }
}
