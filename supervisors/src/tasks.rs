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
mod handle;
mod stream;

use std::future::Future;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use ractor::ActorCell;
use tokio::sync::oneshot;

use crate::admin::{ChildInfo, Counts, SupervisorEnded, TerminateChildError};
use crate::dynamic::{ChildKey, DynamicRef, DynamicSpec};
use crate::event::SupervisorEvent;
use crate::exit::contained;
use crate::handle::{Root, StartFailure, SupervisorRef};
use crate::policy::{Intensity, OnExhausted, Restart, Shutdown};
use crate::runtime::record::lock;
use crate::runtime::task::Leash;
use crate::seat::SupervisorNotUp;
use crate::spec::{ChildSpec, SupervisorSpec};
use crate::task::TaskContext;

pub use error::{StartTaskError, StreamError, TaskError};
use handle::Link;
pub use handle::TaskHandle;
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
