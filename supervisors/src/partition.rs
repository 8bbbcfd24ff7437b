//! Partitioned supervisors: N children of one kind, and a key that tells which of them.
//!
//! What Elixir calls `PartitionSupervisor`: one busy actor, or one busy dynamic supervisor, becomes several.
//! The supervisor behind it is an ordinary static one; this file holds the spec that makes its children
//! and the router.
//!
//! ```
//! use mainstay_supervisors::{PartitionSpec, ShutdownPlan};
//! # use ractor::{Actor, ActorProcessingErr, ActorRef};
//! # struct Book;
//! # #[cfg_attr(feature = "async-trait", ractor::async_trait)]
//! # impl Actor for Book {
//! #     type Msg = mainstay_supervisors::Down;
//! #     type State = ();
//! #     type Arguments = usize;
//! #     async fn pre_start(&self, _: ActorRef<Self::Msg>, _: usize) -> Result<(), ActorProcessingErr> { Ok(()) }
//! # }
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let (spec, books) = PartitionSpec::actors(|partition, _| Ok((Book, partition)))
//!     .partitions(4)
//!     .build()?;
//! let tree = spec.start().await?;
//!
//! assert!(books.route("BTC-PERPETUAL")?.status().is_up());
//! assert_eq!(books.resize(2).await?, 4, "the number before");
//! assert!(books.route(&3u64)?.status().is_up(), "3 of 2 is the second");
//! tree.shutdown(ShutdownPlan::default()).await;
//! # Ok(())
//! # }
//! ```
//!
//! Invariants: a key goes to the same partition in every process as long as the number of partitions is
//! the same; there are never more partitions than the spec says; a restart of the supervisor brings all
//! of them back, also while somebody resizes what was there before, and while none is up keys go where they
//! will go then; nothing waits to be routed.

mod key;

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ractor::{Actor, ActorId, Message};
use tokio::time::timeout;

use crate::address::Address;
use crate::admin::{ChildInfo, Counts, RestartChildError, SupervisorEnded, TerminateChildError};
use crate::dynamic::{DynamicRef, DynamicSpec};
use crate::event::SupervisorEvent;
use crate::handle::SupervisorRef;
use crate::id::ChildId;
use crate::policy::{Intensity, OnExhausted, Restart, Strategy};
use crate::runtime::record::lock;
use crate::seat::{Seat, SupervisorAddress};
use crate::spec::{ChildSpec, SpecError, StartContext, StartError, SupervisorSpec};

pub use key::PartitionKey;

/// How long a resize waits for its turn.
const TURN: Duration = Duration::from_secs(5);

type Make<T> = Arc<dyn Fn(usize) -> (ChildSpec, T) + Send + Sync>;

/// A supervisor with so many children of one kind. `T` is what a key is routed to.
#[derive(Clone)]
pub struct PartitionSpec<T> {
    spec: SupervisorSpec,
    partitions: usize,
    make: Make<T>,
}

impl<M: Message> PartitionSpec<Address<M>> {
    /// Partitions that are actors. `make` is told which partition, from zero on, and for the rest is
    /// that of [`ChildSpec::actor`].
    pub fn actors<A, F>(make: F) -> Self
    where
        A: Actor<Msg = M>,
        F: Fn(usize, StartContext) -> Result<(A, A::Arguments), StartError> + Send + Sync + 'static,
    {
        let make = Arc::new(make);
        Self::of(move |partition| {
            let (make, address) = (make.clone(), Address::new());
            let child = ChildSpec::actor(partition_id(partition), move |context| {
                make(partition, context)
            });
            (child.address(&address), address)
        })
    }
}

impl PartitionSpec<DynamicRef> {
    /// Partitions that are dynamic supervisors, all by the same spec.
    #[must_use]
    pub fn dynamic(spec: DynamicSpec) -> Self {
        Self::of(move |partition| {
            let reference = DynamicRef::new();
            let spec = spec.clone().reference(&reference);
            let child = ChildSpec::supervisor(partition_id(partition), spec);
            (child, reference)
        })
    }
}

impl<T: Clone + Send + Sync + 'static> PartitionSpec<T> {
    /// Partitions of any kind: `make` is told which partition, from zero on, and gives its spec and what
    /// keys are routed to. The id of the spec becomes the partition's number.
    ///
    /// Defaults: as many partitions as the machine has processors to offer this program, 3 restarts
    /// in 5 s over all of them.
    pub fn of(make: impl Fn(usize) -> (ChildSpec, T) + Send + Sync + 'static) -> Self {
        Self {
            spec: SupervisorSpec::new(Strategy::OneForOne),
            partitions: std::thread::available_parallelism().map_or(1, Into::into),
            make: Arc::new(make),
        }
    }

    /// How many partitions there are, and how many there may ever be.
    #[must_use]
    pub fn partitions(mut self, partitions: usize) -> Self {
        self.partitions = partitions;
        self
    }

    /// Changes each partition's spec: restart type, limits, backoff.
    #[must_use]
    pub fn each(mut self, change: impl Fn(ChildSpec) -> ChildSpec + Send + Sync + 'static) -> Self {
        let make = self.make;
        self.make = Arc::new(move |partition| {
            let (child, target) = make(partition);
            (change(child), target)
        });
        self
    }

    /// How many restarts, of all partitions together, are allowed within a sliding window. Default 3 in 5 s.
    #[must_use]
    pub fn intensity(mut self, intensity: Intensity) -> Self {
        self.spec = self.spec.intensity(intensity);
        self
    }

    /// What happens when there were too many restarts. Default [`OnExhausted::Shutdown`]; with
    /// [`OnExhausted::Park`] the partition that failed last is left without a process and the others go on. Keys
    /// are still routed to it: have it restarted by its number,
    /// `partitions.current()` and [`restart_child`](SupervisorRef::restart_child), or resize it away.
    #[must_use]
    pub fn on_exhausted(mut self, choice: OnExhausted) -> Self {
        self.spec = self.spec.on_exhausted(choice);
        self
    }

    /// The first part of the paths when this supervisor is a root. Default `root`.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.spec = self.spec.name(name);
        self
    }

    /// As [`SupervisorSpec::observe`].
    #[must_use]
    pub fn observe(mut self, observe: impl Fn(&SupervisorEvent) + Send + Sync + 'static) -> Self {
        self.spec = self.spec.observe(observe);
        self
    }

    /// The supervisor's spec, to be started or put into a tree, and the router, which is good for as long
    /// as the program runs.
    ///
    /// # Errors
    /// [`SpecError::NoPartitions`] for zero partitions, [`SpecError::TemporaryPartition`] for temporary
    /// ones, or what is wrong with a partition's spec.
    pub fn build(self) -> Result<(SupervisorSpec, Partitions<T>), SpecError> {
        if self.partitions == 0 {
            return Err(SpecError::NoPartitions);
        }
        let (children, targets): (Vec<ChildSpec>, Vec<T>) = (0..self.partitions)
            .map(|partition| {
                let (mut child, target) = (self.make)(partition);
                child.id = partition_id(partition);
                (child, target)
            })
            .unzip();
        // It would be forgotten with its first end, and keys would go on being routed to it.
        let temporary = |child: &ChildSpec| child.restart == Restart::Temporary;
        if let Some(partition) = children.iter().position(temporary) {
            return Err(SpecError::TemporaryPartition { partition });
        }
        let partitions = Partitions {
            shared: Arc::new(Routing {
                targets,
                active: AtomicUsize::new(self.partitions),
                incarnation: Mutex::new(None),
                address: SupervisorAddress::new(),
                resizing: tokio::sync::Mutex::new(()),
            }),
        };
        let mut spec = self.spec.children(children);
        spec.partitioned = true;
        // First, so that who finds a supervisor at the address may change how many there are.
        spec.seats.push(partitions.shared.clone());
        let spec = spec.address(&partitions.shared.address);
        spec.check()?;
        Ok((spec, partitions))
    }
}

impl<T> fmt::Debug for PartitionSpec<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PartitionSpec")
            .field("partitions", &self.partitions)
            .finish_non_exhaustive()
    }
}

fn partition_id(partition: usize) -> ChildId {
    ChildId::from(partition.to_string())
}

struct Routing<T> {
    targets: Vec<T>,
    /// How many of them keys are routed to. Written under the lock of the next.
    active: AtomicUsize,
    /// Whose number that is: of the supervisor that is up. Cleared when it begins to end.
    incarnation: Mutex<Option<ActorId>>,
    address: SupervisorAddress,
    resizing: tokio::sync::Mutex<()>,
}

impl<T> Routing<T> {
    /// Routes to so many, unless that supervisor is no longer the one.
    fn route_to(&self, active: usize, of: &SupervisorRef) -> Result<(), SupervisorEnded> {
        let incarnation = lock(&self.incarnation);
        if *incarnation != Some(of.cell().get_id()) {
            return Err(SupervisorEnded::of(of.path()));
        }
        self.active.store(active, Ordering::SeqCst);
        Ok(())
    }
}

impl<T: Send + Sync> Seat for Routing<T> {
    /// A new incarnation has started everybody.
    fn up(&self, supervisor: &SupervisorRef) {
        let mut incarnation = lock(&self.incarnation);
        *incarnation = Some(supervisor.cell().get_id());
        self.active.store(self.targets.len(), Ordering::SeqCst);
    }

    /// Keys go where the next incarnation will have them: a message that waits for it must not wait at a
    /// partition that is not its own any more.
    fn leaving(&self, supervisor: &SupervisorRef) {
        let mut incarnation = lock(&self.incarnation);
        if *incarnation == Some(supervisor.cell().get_id()) {
            *incarnation = None;
            self.active.store(self.targets.len(), Ordering::SeqCst);
        }
    }
}

/// There are no partitions at present: they were resized to none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("there are no partitions: they were resized to zero; resize them to one or more")]
pub struct NoPartitions;

/// Why the number of partitions is not what was asked for.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ResizeError {
    /// More than the spec says.
    #[error("{asked} partitions were asked for, but the spec allows {allowed}; build it with more")]
    TooMany {
        /// What was asked for.
        asked: usize,
        /// How many the spec says.
        allowed: usize,
    },
    /// This partition did not start; those before it are there.
    #[error("partition {partition} did not start; mend what the source names, then resize again")]
    Failed {
        /// Which.
        partition: usize,
        /// Why.
        source: RestartChildError,
    },
    /// Too many wait for the end of this partition; those beyond it have ended.
    #[error(
        "partition {partition} was told to end and cannot be waited for; resize again when it has ended"
    )]
    Crowded {
        /// Which.
        partition: usize,
        /// Why.
        source: TerminateChildError,
    },
    /// Another resize has not come to its end, and nothing was done.
    #[error(
        "a resize to {asked} waited {waited:?} for another one to end; ask again, or give partitions a limit to stop and to start"
    )]
    Busy {
        /// What was asked for.
        asked: usize,
        /// How long it waited for its turn.
        waited: Duration,
    },
    /// No supervisor is up, or it ended meanwhile.
    #[error(transparent)]
    SupervisorEnded(#[from] SupervisorEnded),
}

/// Routes keys to partitions, whether or not a supervisor is up. Clones route alike. Routing waits for nobody; calls
/// take as long as those of a [`SupervisorRef`], and a resize as long as all that it ends and starts, one after the
/// other.
pub struct Partitions<T> {
    shared: Arc<Routing<T>>,
}

impl<T> Clone for Partitions<T> {
    fn clone(&self) -> Self {
        Self {
            shared: self.shared.clone(),
        }
    }
}

impl<T> fmt::Debug for Partitions<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Partitions")
            .field("active", &self.shared.active.load(Ordering::SeqCst))
            .field("allowed", &self.shared.targets.len())
            .finish()
    }
}

impl<T: Clone> Partitions<T> {
    /// What the key belongs to. Takes no lock and waits for nobody; a partition that restarts is routed
    /// to all the same, and so are all of them while no supervisor is up, before its first start and after its
    /// end too: whoever is there says so by its address or reference.
    ///
    /// # Errors
    /// When they were resized to none.
    pub fn route<K: PartitionKey + ?Sized>(&self, key: &K) -> Result<T, NoPartitions> {
        let active = self.len();
        if active == 0 {
            return Err(NoPartitions);
        }
        // A key of the user's own may not know the bound.
        let partition = key.partition(active) % active;
        // A resize between the two lines changes nothing: targets stay.
        self.shared
            .targets
            .get(partition)
            .cloned()
            .ok_or(NoPartitions)
    }

    /// All partitions that keys are routed to, in order.
    #[must_use]
    pub fn all(&self) -> Vec<T> {
        self.shared
            .targets
            .iter()
            .take(self.len())
            .cloned()
            .collect()
    }

    /// How many partitions keys are routed to: while no supervisor is up, as many as the spec says. Who has to
    /// know whether one is asks [`current`](Self::current), or [`count_children`](Self::count_children), which fails
    /// then.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shared.active.load(Ordering::SeqCst)
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Has so many partitions from now on, and tells how many there were. Those beyond are no longer
    /// routed to and then ended, the last one first; those that are missing are started. Keys go to other
    /// partitions than before. Resizes take turns, for which one waits 5 s at most; what it does then takes as
    /// long as all that it ends and starts. When the supervisor is restarted meanwhile, all partitions are back.
    ///
    /// Dropped midway, partitions that were not ended yet go on without being routed to, until the next
    /// resize.
    ///
    /// # Errors
    /// See [`ResizeError`]; what was done until then stays done.
    pub async fn resize(&self, partitions: usize) -> Result<usize, ResizeError> {
        let allowed = self.shared.targets.len();
        if partitions > allowed {
            return Err(ResizeError::TooMany {
                asked: partitions,
                allowed,
            });
        }
        let Ok(_turn) = timeout(TURN, self.shared.resizing.lock()).await else {
            return Err(ResizeError::Busy {
                asked: partitions,
                waited: TURN,
            });
        };
        let supervisor = self.supervisor()?;
        let before = self.len();
        self.shared.route_to(partitions.min(before), &supervisor)?;
        for partition in (partitions..allowed).rev() {
            match supervisor.terminate_child(&partition_id(partition)).await {
                Ok(()) | Err(TerminateChildError::NotFound { .. }) => {}
                Err(TerminateChildError::ShuttingDown(ended)) => return Err(ended.into()),
                Err(source @ TerminateChildError::Crowded { .. }) => {
                    return Err(ResizeError::Crowded { partition, source });
                }
            }
        }
        for partition in before..partitions {
            match supervisor.restart_child(&partition_id(partition)).await {
                Ok(_)
                | Err(RestartChildError::Running { .. } | RestartChildError::Restarting { .. }) => {
                    self.shared.route_to(partition + 1, &supervisor)?;
                }
                Err(RestartChildError::ShuttingDown(ended)) => return Err(ended.into()),
                Err(source) => return Err(ResizeError::Failed { partition, source }),
            }
        }
        Ok(before)
    }

    /// The children by partition, those without a process included. Dropping the future changes nothing.
    ///
    /// # Errors
    /// When no supervisor is up.
    pub async fn which_children(&self) -> Result<Vec<(usize, ChildInfo)>, SupervisorEnded> {
        let mut children = self.supervisor()?.which_children().await?;
        let numbered = children
            .drain(..)
            .filter_map(|child| Some((child.id.as_str().parse().ok()?, child)));
        let mut numbered: Vec<(usize, ChildInfo)> = numbered.collect();
        numbered.sort_by_key(|(partition, _)| *partition);
        Ok(numbered)
    }

    /// How many children there are. Dropping the future changes nothing.
    ///
    /// # Errors
    /// When no supervisor is up.
    pub async fn count_children(&self) -> Result<Counts, SupervisorEnded> {
        self.supervisor()?.count_children().await
    }

    /// The supervisor that is up.
    #[must_use]
    pub fn current(&self) -> Option<SupervisorRef> {
        self.shared.address.current()
    }

    fn supervisor(&self) -> Result<SupervisorRef, SupervisorEnded> {
        self.current().ok_or_else(SupervisorEnded::nobody)
    }
}
