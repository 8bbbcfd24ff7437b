//! Many inputs, a task for each, so many at a time.
//!
//! Apart from the single tasks because it adds what is about all of them: how many run, in which order their results
//! come, and what the end of the stream is for those that run.
//!
//! Invariants: never more than `max_concurrency` inputs have been taken whose result was not yielded, so that
//! neither tasks nor results pile up; inputs are taken and tasks started only while somebody polls; no task of a
//! stream that was dropped, or is over, goes on.

use std::fmt;
use std::future::{Future, pending};
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream, Stream};
use tokio::time::timeout;

use super::error::{StartTaskError, StreamError};
use super::{GRACE, TaskRef};

/// How the tasks of a [`TaskStream`] are run.
#[derive(Debug, Clone)]
pub struct StreamSpec {
    max_concurrency: usize,
    ordered: bool,
    timeout: Duration,
}

impl StreamSpec {
    /// Defaults, as Elixir's: as many at a time as the machine has processors to offer this program, results in the
    /// order of the inputs, 5 s for each task.
    #[must_use]
    pub fn new() -> Self {
        Self {
            max_concurrency: std::thread::available_parallelism().map_or(1, Into::into),
            ordered: true,
            timeout: Duration::from_secs(5),
        }
    }

    /// How many inputs may be under way, those whose result waits for its turn included. One at least.
    #[must_use]
    pub fn max_concurrency(mut self, limit: usize) -> Self {
        self.max_concurrency = limit.max(1);
        self
    }

    /// Has results come as they are there, and not in the order of the inputs: a slow one holds up nobody.
    #[must_use]
    pub fn unordered(mut self) -> Self {
        self.ordered = false;
        self
    }

    /// How long each task may take, from its start on. One that has no result by then is killed by whoever polls the
    /// stream; with [`Duration::MAX`] none is. Default 5 s.
    #[must_use]
    pub fn timeout(mut self, within: Duration) -> Self {
        self.timeout = within;
        self
    }
}

impl Default for StreamSpec {
    fn default() -> Self {
        Self::new()
    }
}

/// The results of [`TaskRef::stream`]. Dropping it ends what runs, without waiting for it.
///
/// It is also a [`Stream`].
#[must_use = "nothing runs unless it is polled"]
pub struct TaskStream<T> {
    /// Cleared when it is over, and with it whatever still runs.
    running: Option<BoxStream<'static, Result<T, StreamError>>>,
    /// Set by the first start that fails.
    refused: Arc<OnceLock<StartTaskError>>,
}

impl<T: Send + 'static> TaskStream<T> {
    pub(super) fn new<I, F, R, E>(tasks: TaskRef, spec: StreamSpec, inputs: I, make: F) -> Self
    where
        I: Iterator<Item: Send + 'static> + Send + 'static,
        F: Fn(I::Item) -> R + Send + Sync + 'static,
        R: Future<Output = Result<T, E>> + Send + 'static,
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let refused = Arc::new(OnceLock::new());
        let (make, over) = (Arc::new(make), refused.clone());
        let within = spec.timeout;
        let inputs = inputs.take_while({
            let refused = refused.clone();
            move |_| refused.get().is_none()
        });
        let results = stream::iter(inputs).map(move |input| {
            let (tasks, make, refused) = (tasks.clone(), make.clone(), refused.clone());
            async move {
                match tasks.run(async move { make(input).await }).await {
                    Ok(task) => finish(task, within).await,
                    Err(error) => {
                        // The first one ends the stream; nobody asks for this result.
                        let _ = refused.set(error);
                        pending().await
                    }
                }
            }
        });
        let limit = spec.max_concurrency;
        Self {
            running: Some(match spec.ordered {
                true => results.buffered(limit).boxed(),
                false => results.buffer_unordered(limit).boxed(),
            }),
            refused: over,
        }
    }
}

impl<T> TaskStream<T> {
    /// The next result; `None`, for good, when there is none for any further input, and after
    /// [`StreamError::NotStarted`]. Nothing is lost by dropping the future.
    pub async fn next(&mut self) -> Option<Result<T, StreamError>> {
        std::future::poll_fn(|context| Pin::new(&mut *self).poll_next(context)).await
    }
}

impl<T> Stream for TaskStream<T> {
    type Item = Result<T, StreamError>;

    fn poll_next(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<T, StreamError>>> {
        let Some(running) = &mut self.running else {
            return Poll::Ready(None);
        };
        let polled = running.poll_next_unpin(context);
        if let Poll::Ready(Some(result)) = polled {
            return Poll::Ready(Some(result));
        }
        if let Some(error) = self.refused.get().cloned() {
            self.running = None;
            return Poll::Ready(Some(Err(StreamError::NotStarted(error))));
        }
        if polled.is_ready() {
            self.running = None;
        }
        polled
    }
}

impl<T> fmt::Debug for TaskStream<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskStream")
            .field("over", &self.running.is_none())
            .finish_non_exhaustive()
    }
}

/// The task's result, or its end.
async fn finish<T>(mut task: super::TaskHandle<T>, within: Duration) -> Result<T, StreamError> {
    if let Ok(result) = timeout(within, &mut task).await {
        return result.map_err(StreamError::Ended);
    }
    let late = task.key().id().clone();
    task.kill();
    // Its place is not given away before it is gone, or left behind.
    let _ = timeout(GRACE, &mut task).await;
    Err(StreamError::TimedOut { task: late, within })
}
