//! What a supervised async function is given.
//!
//! Apart from the specs because it belongs to the running function: its context, and the request to
//! end.
//!
//! Invariants: a task that asked for [`TaskContext::stopping`] is waited for within its
//! [`Shutdown`](crate::Shutdown); one that did not loses its future at the first request, which is a
//! graceful end, as of an Erlang process that does not trap exits.

use std::fmt;
use std::future::Future;
use std::ops::Deref;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::future::BoxFuture;

use crate::runtime::task::Leash;
use crate::spec::StartContext;

/// What a task child is told about the incarnation it is, see
/// [`ChildSpec::task`](crate::ChildSpec::task).
#[derive(Debug, Clone)]
pub struct TaskContext {
    start: StartContext,
    leash: Arc<Leash>,
}

impl TaskContext {
    pub(crate) fn new(start: StartContext, leash: Arc<Leash>) -> Self {
        Self { start, leash }
    }

    /// Resolves when the task is to end. Whoever takes it promises to return soon afterwards: the
    /// task is then waited for within the limit of its spec, and killed after it.
    pub fn stopping(&self) -> Stopping {
        self.leash.heed();
        Stopping {
            told: Some(Box::pin(self.leash.clone().told())),
            leash: self.leash.clone(),
        }
    }
}

impl Deref for TaskContext {
    type Target = StartContext;

    fn deref(&self) -> &StartContext {
        &self.start
    }
}

/// Resolves when the task is to end; stays resolved. Can be awaited by reference, over and over.
#[must_use = "a task that takes it is expected to end by it"]
pub struct Stopping {
    /// Cleared when it has resolved.
    told: Option<BoxFuture<'static, ()>>,
    leash: Arc<Leash>,
}

impl Stopping {
    /// Whether the task has been told to end.
    #[must_use]
    pub fn is_asked(&self) -> bool {
        self.leash.was_told()
    }
}

impl Future for Stopping {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if let Some(told) = &mut self.told {
            std::task::ready!(told.as_mut().poll(context));
            self.told = None;
        }
        Poll::Ready(())
    }
}

impl fmt::Debug for Stopping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Stopping").field(&self.is_asked()).finish()
    }
}
