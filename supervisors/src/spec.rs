//! What a supervisor is told about itself and its children.
//!
//! Specs are values: cloned, stored and re-used at each restart of the supervisor they describe.
//!
//! Invariants: a spec holds nothing of a running incarnation; everything that can be wrong with it
//! is found by [`SupervisorSpec::check`] and named by a [`SpecError`].

mod child;
mod error;

use std::any::Any;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use ractor::ActorCell;
use tokio::task::JoinHandle;

use crate::address::MakeBinding;
use crate::admin::Membership;
use crate::event::SupervisorEvent;
use crate::exit::{BoxError, ExitReason};
use crate::id::{ChildId, Generation, SupervisorPath, Unfit, part_of_path};
use crate::machine::Population;
use crate::policy::{AutoShutdown, ChildKind, Intensity, OnExhausted, Strategy, Verdict};
use crate::runtime::blueprint::Blueprint;
use crate::runtime::keys::Keys;
use crate::runtime::launch::Launcher;
use crate::seat::{Seat, SupervisorAddress};

pub use child::ChildSpec;
pub use error::SpecError;

/// What a factory is told about the incarnation it makes.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct StartContext {
    /// The child.
    pub id: ChildId,
    /// The child's place in the tree.
    pub path: SupervisorPath,
    /// The incarnation being made.
    pub generation: Generation,
    /// The how manyth consecutive restart attempt this is; zero for the first start, which `generation` and
    /// `previous` tell apart from a restart that comes along with another's.
    pub attempt: u32,
    /// How the previous incarnation ended.
    pub previous: Option<Arc<ExitReason>>,
    pub(crate) shared: SharedValue,
}

impl StartContext {
    /// What the supervisor shares with all its children, see
    /// [`DynamicSpec::shared`](crate::DynamicSpec::shared); nothing when it is of another type.
    #[must_use]
    pub fn shared<T: Any + Send + Sync>(&self) -> Option<&T> {
        self.shared.0.as_deref()?.downcast_ref()
    }
}

/// What a supervisor shares with its children.
#[derive(Clone, Default)]
pub(crate) struct SharedValue(pub(crate) Option<Arc<dyn Any + Send + Sync>>);

impl fmt::Debug for SharedValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Some(_) => "something",
            None => "nothing",
        })
    }
}

/// Why a factory makes no actor.
#[derive(Debug)]
#[non_exhaustive]
pub enum StartError {
    /// The child is not wanted now. Its spec stays, without a process, unless it is temporary or its
    /// supervisor dynamic: then it is forgotten.
    Ignore,
    /// Ask again after this long, a millisecond at least. Costs neither intensity nor an attempt.
    Postpone(Duration),
    /// The start failed.
    Failed(BoxError),
}

impl StartError {
    /// A failed start with a typed error.
    pub fn failed(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Failed(error.into())
    }
}

/// An actor that somebody spawned, see [`ChildSpec::spawn_with`].
#[derive(Debug)]
pub struct Spawned {
    pub(crate) cell: ActorCell,
    pub(crate) join: JoinHandle<()>,
}

impl Spawned {
    /// The actor, and the handle that is done when nothing of it is left.
    #[must_use]
    pub fn new(actor: impl Into<ActorCell>, join: JoinHandle<()>) -> Self {
        Self {
            cell: actor.into(),
            join,
        }
    }
}

pub(crate) type Classify = Arc<dyn Fn(&ExitReason) -> Verdict + Send + Sync>;
pub(crate) type Observer = Arc<dyn Fn(&SupervisorEvent) + Send + Sync>;

/// What stands behind a child.
#[derive(Clone)]
pub(crate) enum Launch {
    Worker(Arc<dyn Launcher>),
    Supervisor(Arc<SupervisorSpec>),
    /// A supervisor whose spec is made at each start.
    Made(Arc<Blueprint>),
    /// It is up and will not be made again.
    Spent(ChildKind, Option<MakeBinding>),
}

/// A supervisor and its children, in start order.
#[derive(Clone)]
pub struct SupervisorSpec {
    pub(crate) name: Option<String>,
    pub(crate) strategy: Strategy,
    pub(crate) intensity: Intensity,
    pub(crate) auto_shutdown: AutoShutdown,
    pub(crate) on_exhausted: OnExhausted,
    pub(crate) population: Population,
    pub(crate) children: Vec<Arc<ChildSpec>>,
    pub(crate) observers: Vec<Observer>,
    pub(crate) seats: Vec<Arc<dyn Seat>>,
    pub(crate) shared: SharedValue,
    /// For the children of a dynamic supervisor.
    pub(crate) keys: Keys,
    /// Whether its children are the partitions of a router.
    pub(crate) partitioned: bool,
}

impl SupervisorSpec {
    /// A supervisor without children. Defaults: 3 restarts in 5 s, no auto-shutdown.
    #[must_use]
    pub fn new(strategy: Strategy) -> Self {
        Self {
            name: None,
            strategy,
            intensity: Intensity::default(),
            auto_shutdown: AutoShutdown::Never,
            on_exhausted: OnExhausted::default(),
            population: Population::Fixed,
            children: Vec::new(),
            observers: Vec::new(),
            seats: Vec::new(),
            shared: SharedValue::default(),
            keys: Keys::new(),
            partitioned: false,
        }
    }

    /// How many restarts, of all children together, are allowed within a sliding window. Default 3 in 5 s.
    #[must_use]
    pub fn intensity(mut self, intensity: Intensity) -> Self {
        self.intensity = intensity;
        self
    }

    /// Whether the end of significant children ends the supervisor. Default [`AutoShutdown::Never`].
    #[must_use]
    pub fn auto_shutdown(mut self, mode: AutoShutdown) -> Self {
        self.auto_shutdown = mode;
        self
    }

    /// What happens when a child fails too often. Default [`OnExhausted::Shutdown`].
    #[must_use]
    pub fn on_exhausted(mut self, choice: OnExhausted) -> Self {
        self.on_exhausted = choice;
        self
    }

    /// Adds a child after those already there.
    #[must_use]
    pub fn child(mut self, child: ChildSpec) -> Self {
        self.children.push(Arc::new(child));
        self
    }

    /// Adds children after those already there.
    #[must_use]
    pub fn children(mut self, children: impl IntoIterator<Item = ChildSpec>) -> Self {
        self.children.extend(children.into_iter().map(Arc::new));
        self
    }

    /// The first part of the paths when this supervisor is a root. Default `root`. Not empty and without
    /// a `/`, as a [`ChildId`].
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Fills `address` with each incarnation of this supervisor, once its children are up.
    #[must_use]
    pub fn address(mut self, address: &SupervisorAddress) -> Self {
        self.seats.push(address.seat());
        self
    }

    /// Calls `observe` with each event of this supervisor and of all supervisors beneath it.
    ///
    /// It is called inside the supervisor, before an end is acted upon: it should be quick and must
    /// not block. A panic in it is reported and otherwise without effect.
    #[must_use]
    pub fn observe(mut self, observe: impl Fn(&SupervisorEvent) + Send + Sync + 'static) -> Self {
        self.observers.push(Arc::new(observe));
        self
    }

    pub(crate) fn membership(&self) -> Membership {
        match self.population {
            Population::Dynamic { .. } => Membership::Passing,
            Population::Fixed if self.partitioned => Membership::Routed,
            Population::Fixed => Membership::Kept,
        }
    }

    /// Whether the spec makes sense.
    ///
    /// # Errors
    /// Names the first thing that does not, sub-supervisors included.
    pub fn check(&self) -> Result<(), SpecError> {
        if let Some(name) = &self.name {
            part_of_path(name).map_err(|unfit| match unfit {
                Unfit::Empty => SpecError::EmptyName,
                Unfit::Divided => SpecError::SlashInName { name: name.clone() },
                Unfit::Unprintable => SpecError::ControlInName { name: name.clone() },
            })?;
        }
        if self.intensity.within.is_zero() {
            return Err(SpecError::ZeroWindow);
        }
        if matches!(self.population, Population::Dynamic { .. }) {
            if self.auto_shutdown != AutoShutdown::Never {
                return Err(SpecError::DynamicAutoShutdown {
                    mode: self.auto_shutdown,
                });
            }
            if let Some(child) = self.children.first() {
                return Err(SpecError::DynamicChild {
                    child: child.id.clone(),
                });
            }
        }
        let mut seen = HashSet::new();
        let mut reached = HashMap::new();
        for child in &self.children {
            child.check(self.auto_shutdown)?;
            if !seen.insert(&child.id) {
                return Err(SpecError::DuplicateId {
                    child: child.id.clone(),
                });
            }
            for binding in &child.bindings {
                let address = Arc::as_ptr(binding).cast::<()>();
                if let Some(other) = reached.insert(address, &child.id)
                    && *other != child.id
                {
                    return Err(SpecError::SharedAddress {
                        child: child.id.clone(),
                        other: other.clone(),
                    });
                }
            }
        }
        Ok(())
    }
}

impl fmt::Debug for SupervisorSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SupervisorSpec")
            .field("strategy", &self.strategy)
            .field("intensity", &self.intensity)
            .field("auto_shutdown", &self.auto_shutdown)
            .field("children", &self.children)
            .finish_non_exhaustive()
    }
}
