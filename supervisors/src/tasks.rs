//! Task supervisors: futures that run once under supervision, with a handle on their results.
//!
//! What Elixir calls `Task.Supervisor`: a [dynamic supervisor](crate::dynamic) whose children are
//! futures. Apart from it because of what a future adds, a result, and of the ways in which somebody
//! can stand by it.
//!
//! ```
//! use std::convert::Infallible;
//! use mainstay_supervisors::{ShutdownPlan, TaskRef, TaskSpec};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let tasks = TaskRef::new();
//! let tree = TaskSpec::new().max_children(100).reference(&tasks).start().await?;
//!
//! let sum = tasks.run(async { Ok::<_, Infallible>(1 + 2) }).await?;
//! assert_eq!(sum.await?, 3);
//!
//! let parsed = tasks.run(async { "three".parse::<u32>() }).await?;
//! let error = parsed.await.unwrap_err();
//! assert!(error.downcast_ref::<std::num::ParseIntError>().is_some());
//! tree.shutdown(ShutdownPlan::default()).await;
//! # Ok(())
//! # }
//! ```
//!
//! Invariants: a future is polled by its own task only, and dropped there; a handle yields either the
//! result or how the task truly ended; a failed task harms nobody but those linked to it.

mod error;
mod stream;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::BoxFuture;
use ractor::ActorCell;
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::admin::{ChildInfo, Counts, SupervisorEnded, TerminateChildError};
use crate::dynamic::{ChildKey, DynamicRef, DynamicSpec};
use crate::event::SupervisorEvent;
use crate::exit::{ExitReason, contained};
use crate::handle::{Root, StartFailure, SupervisorRef};
use crate::monitor::{MonitorRef, Watcher, monitor_record};
use crate::policy::{Intensity, OnExhausted, Restart, Shutdown};
use crate::runtime::record::{Record, lock};
use crate::runtime::task::Leash;
use crate::seat::SupervisorNotUp;
use crate::spec::{ChildSpec, SupervisorSpec};
use crate::task::TaskContext;

pub use error::{StartTaskError, StreamError, TaskError};
pub use stream::{StreamSpec, TaskStream};

/// How long a task that was killed may take to go.
const GRACE: Duration = Duration::from_secs(1);

/// A supervisor of tasks.
#[derive(Debug, Clone)]
pub struct TaskSpec {
    dynamic: DynamicSpec,
    shutdown: Shutdown,
    references: Vec<TaskRef>,
}

impl TaskSpec {
    /// A supervisor without tasks. Defaults: any number of them, 5 s to stop, 3 restarts in 5 s over
    /// all of those that restart.
    #[must_use]
    pub fn new() -> Self {
        Self {
            dynamic: DynamicSpec::new(),
            shutdown: Shutdown::Timeout(Duration::from_secs(5)),
            references: Vec::new(),
        }
    }

    /// How many tasks there may be at a time, those that start or restart included. Default: any number. Zero
    /// allows none: each run fails with [`StartTaskError::MaxChildren`].
    #[must_use]
    pub fn max_children(mut self, limit: usize) -> Self {
        self.dynamic = self.dynamic.max_children(limit);
        self
    }

    /// How each task is asked to end. Default [`Shutdown::Timeout`] of 5 s.
    #[must_use]
    pub fn shutdown(mut self, shutdown: Shutdown) -> Self {
        self.shutdown = shutdown;
        self
    }

    /// How many restarts, of all tasks together, are allowed within a sliding window. Default 3 in 5 s.
    #[must_use]
    pub fn intensity(mut self, intensity: Intensity) -> Self {
        self.dynamic = self.dynamic.intensity(intensity);
        self
    }

    /// What happens when there were too many restarts. Default [`OnExhausted::Shutdown`]; with
    /// [`OnExhausted::Park`] the task that failed last is forgotten, after an event that says so, and the
    /// others go on. Tasks that are not [detached](TaskRef::run_detached) never restart.
    #[must_use]
    pub fn on_exhausted(mut self, choice: OnExhausted) -> Self {
        self.dynamic = self.dynamic.on_exhausted(choice);
        self
    }

    /// The first part of the paths when this supervisor is a root. Default `root`.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.dynamic = self.dynamic.name(name);
        self
    }

    /// As [`SupervisorSpec::observe`].
    #[must_use]
    pub fn observe(mut self, observe: impl Fn(&SupervisorEvent) + Send + Sync + 'static) -> Self {
        self.dynamic = self.dynamic.observe(observe);
        self
    }

    /// Has `reference` reach the supervisor, over its restarts.
    #[must_use]
    pub fn reference(mut self, reference: &TaskRef) -> Self {
        self.dynamic = self.dynamic.reference(&reference.children);
        self.references.push(reference.clone());
        self
    }

    /// Starts it as the top of a tree; as a child it is given to
    /// [`ChildSpec::supervisor`](crate::ChildSpec::supervisor).
    ///
    /// # Errors
    /// As [`SupervisorSpec::start`].
    pub async fn start(self) -> Result<Root, StartFailure> {
        SupervisorSpec::from(self).start().await
    }

    /// Starts it under an actor that is none of this crate's supervisors.
    ///
    /// # Errors
    /// As [`SupervisorSpec::start_under`].
    pub async fn start_under(self, cell: ActorCell) -> Result<SupervisorRef, StartFailure> {
        SupervisorSpec::from(self).start_under(cell).await
    }
}

impl Default for TaskSpec {
    fn default() -> Self {
        Self::new()
    }
}

impl From<TaskSpec> for SupervisorSpec {
    fn from(tasks: TaskSpec) -> Self {
        for reference in &tasks.references {
            *lock(&reference.shutdown) = tasks.shutdown;
        }
        tasks.dynamic.into()
    }
}

/// Speaks to whichever incarnation of a task supervisor is up. Clones speak to the same.
///
/// Each call that starts a task waits until the supervisor has it, not for its end. The others take as long as
/// those of a [`SupervisorRef`].
#[derive(Debug, Clone)]
pub struct TaskRef {
    children: DynamicRef,
    /// What the spec says.
    shutdown: Arc<Mutex<Shutdown>>,
    /// What this reference says instead.
    own: Option<Shutdown>,
}

impl TaskRef {
    /// A reference to nobody yet; give it to [`TaskSpec::reference`].
    #[must_use]
    pub fn new() -> Self {
        Self {
            children: DynamicRef::new(),
            shutdown: Arc::new(Mutex::new(TaskSpec::new().shutdown)),
            own: None,
        }
    }

    /// The same supervisor, for tasks that are asked to end so and not as [its spec](TaskSpec::shutdown) says.
    ///
    /// ```
    /// # use mainstay_supervisors::{Restart, Shutdown, TaskContext, TaskRef, TaskSpec, ShutdownPlan};
    /// # use std::time::Duration;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let tasks = TaskRef::new();
    /// # let tree = TaskSpec::new().reference(&tasks).start().await?;
    /// let patient = tasks.with_shutdown(Shutdown::Timeout(Duration::from_secs(60)));
    /// patient
    ///     .run_detached(Restart::Transient, |context: TaskContext| async move {
    ///         context.stopping().await;
    ///         // Up to a minute to tidy up.
    ///         Ok::<_, std::io::Error>(())
    ///     })
    ///     .await?;
    /// # tree.shutdown(ShutdownPlan::default()).await;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn with_shutdown(&self, shutdown: Shutdown) -> Self {
        Self {
            own: Some(shutdown),
            ..self.clone()
        }
    }

    /// The supervisor that is up.
    #[must_use]
    pub fn current(&self) -> Option<SupervisorRef> {
        self.children.current()
    }

    /// The supervisor that is up, waited for `within` at most. Dropping the future changes nothing.
    ///
    /// # Errors
    /// When none came up in time.
    pub async fn up(&self, within: Duration) -> Result<SupervisorRef, SupervisorNotUp> {
        self.children.up(within).await
    }

    /// Runs `future`, tied to the handle: dropping the handle, or the future of this call, ends it.
    ///
    /// # Errors
    /// See [`StartTaskError`]; the future is dropped then.
    pub async fn run<T, E>(
        &self,
        future: impl Future<Output = Result<T, E>> + Send + 'static,
    ) -> Result<TaskHandle<T>, StartTaskError>
    where
        T: Send + 'static,
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        self.begin(future, true).await
    }

    /// Runs `future`, tied to nobody: it goes on when the handle is dropped, and also when the future of
    /// this call is, once it was polled and there was room for it; its result is then lost.
    ///
    /// # Errors
    /// See [`StartTaskError`]; the future is dropped then.
    pub async fn run_nolink<T, E>(
        &self,
        future: impl Future<Output = Result<T, E>> + Send + 'static,
    ) -> Result<TaskHandle<T>, StartTaskError>
    where
        T: Send + 'static,
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        self.begin(future, false).await
    }

    /// Runs `future`, tied to an actor: it is killed when the actor ends, however that ends, and the actor
    /// is stopped, with a text that says why, when it ends abnormally. A link of Erlang's differs in that a
    /// normal exit harms nobody, and that an abnormal one is a signal and no orderly stop.
    ///
    /// It goes on when the handle is dropped. Dropping the future of this call before it is done ends it.
    ///
    /// # Errors
    /// See [`StartTaskError`]; the future is dropped then.
    pub async fn run_linked<T, E>(
        &self,
        owner: &ActorCell,
        future: impl Future<Output = Result<T, E>> + Send + 'static,
    ) -> Result<TaskHandle<T>, StartTaskError>
    where
        T: Send + 'static,
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let mut handle = self.begin(future, true).await?;
        handle.release();
        let owner = owner.clone();
        let (leash, record) = (handle.link.leash.clone(), handle.record.clone());
        // Ends with the first of the two.
        tokio::spawn(async move {
            tokio::select! {
                // Never fails without a limit; returns at once for one that has stopped.
                _ = owner.wait(None) => leash.kill(),
                reason = record.ended() => {
                    if !reason.is_normal() {
                        // An error's own text may panic.
                        let text = contained(|| format!("linked task {} {reason}", record.id));
                        owner.stop(text.or_else(|| Some(format!("linked task {}", record.id))));
                    }
                }
            }
        });
        Ok(handle)
    }

    /// Runs what `make` makes, for nobody in particular, again and again as `restart` says. A call whose
    /// future is dropped is carried out all the same, if there was room for it.
    ///
    /// # Errors
    /// See [`StartTaskError`].
    pub async fn run_detached<F, R, E>(
        &self,
        restart: Restart,
        make: F,
    ) -> Result<ChildKey, StartTaskError>
    where
        F: Fn(TaskContext) -> R + Send + Sync + 'static,
        R: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let spec = ChildSpec::task("task", make)
            .restart(restart)
            .shutdown(self.shutdown());
        let (key, _) = self.children.start_child(spec).await?;
        Ok(key)
    }

    /// Runs what `make` makes of each input, so many at a time, and yields the results as they are asked for. What
    /// Elixir calls `async_stream_nolink`: a task that fails is an item like any other.
    ///
    /// Nothing happens until the stream is polled: inputs are taken as there is room for their tasks, so that
    /// they may be without end. `make` is called in the task; a panic in it is a failed task. Dropping the stream
    /// ends what runs, without waiting for it.
    ///
    /// ```
    /// # use mainstay_supervisors::{StreamError, StreamSpec, ShutdownPlan, TaskRef, TaskSpec};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let tasks = TaskRef::new();
    /// # let tree = TaskSpec::new().reference(&tasks).start().await?;
    /// let two = StreamSpec::new().max_concurrency(2);
    /// let mut parsed = tasks.stream(two, ["1", "two", "3"], |text| async move { text.parse::<u32>() });
    /// let mut sum = 0;
    /// while let Some(number) = parsed.next().await {
    ///     match number {
    ///         Ok(number) => sum += number,
    ///         Err(StreamError::Ended(error)) => assert!(error.to_string().contains("task-2")),
    ///         Err(other) => return Err(other.into()),
    ///     }
    /// }
    /// assert_eq!(sum, 4);
    /// # tree.shutdown(ShutdownPlan::default()).await;
    /// # Ok(())
    /// # }
    /// ```
    pub fn stream<I, F, R, T, E>(&self, spec: StreamSpec, inputs: I, make: F) -> TaskStream<T>
    where
        I: IntoIterator<IntoIter: Send + 'static, Item: Send + 'static>,
        F: Fn(I::Item) -> R + Send + Sync + 'static,
        R: Future<Output = Result<T, E>> + Send + 'static,
        T: Send + 'static,
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        TaskStream::new(self.clone(), spec, inputs.into_iter(), make)
    }

    /// Ends a task as the spec says and waits for its end. A call whose future is dropped is carried out all
    /// the same, if there was room for it.
    ///
    /// # Errors
    /// As [`SupervisorRef::terminate_child`].
    pub async fn terminate_child(&self, key: &ChildKey) -> Result<(), TerminateChildError> {
        self.children.terminate_child(key).await
    }

    /// The tasks that run, newest first. Dropping the future changes nothing.
    ///
    /// # Errors
    /// When there is no supervisor.
    pub async fn children(&self) -> Result<Vec<(ChildKey, ChildInfo)>, SupervisorEnded> {
        self.children.which_children().await
    }

    /// How many tasks there are. Dropping the future changes nothing.
    ///
    /// # Errors
    /// When there is no supervisor.
    pub async fn count(&self) -> Result<Counts, SupervisorEnded> {
        self.children.count_children().await
    }

    fn shutdown(&self) -> Shutdown {
        self.own.unwrap_or_else(|| *lock(&self.shutdown))
    }

    async fn begin<T, E>(
        &self,
        future: impl Future<Output = Result<T, E>> + Send + 'static,
        linked: bool,
    ) -> Result<TaskHandle<T>, StartTaskError>
    where
        T: Send + 'static,
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let (sender, result) = oneshot::channel();
        let body = async move {
            let result = future.await.map_err(Into::into)?;
            // Nobody may wait for it.
            let _ = sender.send(result);
            Ok(())
        };
        let leash = Leash::new();
        let link = Link {
            leash: leash.clone(),
            linked,
        };
        let known = Arc::new(OnceLock::new());
        let spec =
            ChildSpec::once("task", Box::pin(body), leash, known.clone()).shutdown(self.shutdown());
        let (key, _) = self.children.start_child(spec).await?;
        let Some(record) = known.get().cloned() else {
            return Err(SupervisorEnded::nobody().into());
        };
        let ended = record.clone();
        Ok(TaskHandle {
            key,
            record,
            link,
            taken: false,
            result: Box::pin(async move {
                match result.await {
                    Ok(result) => Ok(result),
                    Err(_) => Err(TaskError::of(&ended, ended.ended().await)),
                }
            }),
        })
    }
}

impl Default for TaskRef {
    fn default() -> Self {
        Self::new()
    }
}

/// Ends the task when it is dropped, if it is still linked.
struct Link {
    leash: Arc<Leash>,
    linked: bool,
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
    key: ChildKey,
    record: Arc<Record>,
    link: Link,
    result: BoxFuture<'static, Result<T, TaskError>>,
    /// Whether that has yielded.
    taken: bool,
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

    fn release(&mut self) {
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
