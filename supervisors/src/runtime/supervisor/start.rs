//! How a supervisor is launched, and launches its children.
//!
//! Apart from the actor because nothing is decided here: a spec becomes an order, a keeper and a
//! charge.
//!
//! Invariants: each start has a record and a keeper of its own; what the machine needs of a spec is
//! taken from it in one place.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::{Arguments, Charge, State, Supervisor, now};
use crate::event::Audience;
use crate::exit::ExitReason;
use crate::handle::SupervisorRef;
use crate::id::{ChildId, Generation};
use crate::machine::{ChildPlan, Rules};
use crate::runtime::household::{Census, Token};
use crate::runtime::keeper::{Keeper, Limits, Reports};
use crate::runtime::launch::{Launched, Launching, Order, Process, Refusal, Remains, spawn};
use crate::runtime::record::Record;
use crate::runtime::telemetry::{Listeners, Within};
use crate::runtime::wrapper::Supervised;
use crate::spec::{ChildSpec, Launch, StartContext, SupervisorSpec};
use crate::time::later;

/// Starts a supervisor.
pub(crate) fn launch(spec: Arc<SupervisorSpec>, above: &Listeners, order: Order) -> Launching {
    let audience = Arc::new(Audience::default());
    let listeners = above.below(&order.context.id, &spec.observers, audience.clone());
    Box::pin(async move {
        let (token, census): (Token, Census) = oneshot::channel();
        let reference = Arc::new(OnceLock::new());
        let arguments = Arguments {
            spec,
            record: order.record.clone(),
            listeners,
            audience,
            token,
            reference: reference.clone(),
        };
        let wrapped = Supervised::new(Supervisor, order.record.clone(), false);
        let (cell, join) = spawn(
            wrapped,
            arguments,
            order.name,
            order.supervisor,
            order.record,
        )
        .await?;
        let Some(reference) = reference.get().cloned() else {
            cell.kill();
            return Err(Refusal::Failed(Arc::new(ExitReason::Cancelled)));
        };
        Ok(Launched {
            process: Process::Actor(cell),
            join,
            remains: Remains::Vault,
            supervisor: Some((reference, census)),
        })
    })
}

/// Has the reference of a supervisor that is being launched known to the one above.
fn known(launching: Launching) -> (Launching, Arc<OnceLock<SupervisorRef>>) {
    let reference = Arc::new(OnceLock::new());
    let known = reference.clone();
    let launching = Box::pin(async move {
        let launched = launching.await;
        if let Ok(Launched {
            supervisor: Some((supervisor, _)),
            ..
        }) = &launched
        {
            // Nobody else sets it.
            let _ = known.set(supervisor.clone());
        }
        launched
    });
    (launching, reference)
}

impl State {
    pub(super) fn start(
        &mut self,
        child: &ChildId,
        generation: Generation,
        attempt: u32,
        previous: Option<Arc<ExitReason>>,
    ) {
        let Some(spec) = self.specs.get(child) else {
            return;
        };
        spec.last_generation
            .fetch_max(generation.0, Ordering::SeqCst);
        let charge = self.charges.get_mut(child);
        let path = match &charge {
            Some(charge) => charge.path.clone(),
            None => self.path.child(child),
        };
        let record = Record::new(
            child.clone(),
            Some(self.path.clone()),
            generation,
            spec.bindings.clone(),
        );
        let order = Order {
            context: StartContext {
                id: child.clone(),
                path: path.clone(),
                generation,
                attempt,
                previous,
                shared: self.spec.shared.clone(),
            },
            name: spec.registered.clone(),
            supervisor: Some(self.reference.cell().clone()),
            record: record.clone(),
            strangers: self.strangers.clone(),
        };
        let (launch, supervisor): (Launching, _) = match &spec.launch {
            Launch::Worker(launcher) => (launcher.launch(order), None),
            Launch::Supervisor(below) => {
                let launching = launch(below.clone(), &self.listeners, order);
                let (launching, reference) = known(launching);
                (launching, Some(reference))
            }
            Launch::Made(blueprint) => {
                let (blueprint, listeners) = (blueprint.clone(), self.listeners.clone());
                let (launching, reference) = known(Box::pin(async move {
                    let below = blueprint.spec(order.context.clone())?;
                    launch(below, &listeners, order).await
                }));
                (launching, Some(reference))
            }
            // The machine never starts it again.
            Launch::Spent(..) => return,
        };
        let launch = match self.listeners.work_on(child) {
            Some(span) => {
                record.note_work(Some(span.clone()));
                Box::pin(Within::new(Some(span), launch))
            }
            None => launch,
        };
        let keeper = Keeper {
            record: record.clone(),
            doom: self.household.doom.enrol(&record),
            reports: Reports::Supervisor(self.household.clone()),
        };
        let limits = Limits {
            start: spec.start_timeout,
            watchdog: spec.watchdog,
        };
        let present = Charge {
            generation,
            record,
            path,
            up: false,
            told: false,
            started_at: None,
            cell: None,
            supervisor,
        };
        match charge {
            Some(charge) => *charge = present,
            None => drop(self.charges.insert(child.clone(), present)),
        }
        if let Some(limit) = limits.start {
            self.deadlines.add(now(), limit, child.clone(), generation);
        }
        self.births.push(keeper.mind(launch, limits));
    }

    /// Has starts that take too long given up.
    pub(super) fn expire_starts(&mut self) {
        let now = now();
        while let Some(deadline) = self.deadlines.pop(now) {
            if let Some(charge) = self.charges.get(&deadline.child)
                && deadline.concerns(charge)
            {
                charge.record.expire(deadline.limit);
            }
        }
    }

    /// Those of starts that succeeded are not taken out one by one.
    pub(super) fn sweep_deadlines(&mut self) {
        if self.deadlines.len() > SWEEP_AT.max(2 * self.charges.len()) {
            let charges = &self.charges;
            self.deadlines.retain(|deadline| {
                charges
                    .get(&deadline.child)
                    .is_some_and(|charge| deadline.concerns(charge))
            });
        }
    }
}

/// How many deadlines are kept without looking whether they still matter.
const SWEEP_AT: usize = 64;

/// When a start has taken too long. The first to come is the first in order.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Deadline {
    at: Instant,
    limit: Duration,
    child: ChildId,
    generation: Generation,
}

impl Deadline {
    /// Whether the start it was set for is still under way.
    fn concerns(&self, charge: &Charge) -> bool {
        charge.generation == self.generation && !charge.up
    }
}

/// When which starts have taken too long.
#[derive(Default)]
pub(super) struct Deadlines(BinaryHeap<Reverse<Deadline>>);

impl Deadlines {
    fn add(&mut self, now: Instant, limit: Duration, child: ChildId, generation: Generation) {
        self.0.push(Reverse(Deadline {
            at: later(now, limit),
            limit,
            child,
            generation,
        }));
    }

    pub(super) fn next(&self) -> Option<Instant> {
        self.0.peek().map(|Reverse(deadline)| deadline.at)
    }

    fn pop(&mut self, now: Instant) -> Option<Deadline> {
        let Reverse(first) = self.0.peek()?;
        if first.at > now {
            return None;
        }
        self.0.pop().map(|Reverse(deadline)| deadline)
    }

    fn len(&self) -> usize {
        self.0.len()
    }

    fn retain(&mut self, matters: impl Fn(&Deadline) -> bool) {
        self.0.retain(|Reverse(deadline)| matters(deadline));
    }
}

impl SupervisorSpec {
    pub(super) fn rules(&self) -> Rules {
        Rules {
            strategy: self.strategy,
            intensity: self.intensity,
            auto_shutdown: self.auto_shutdown,
            on_exhausted: self.on_exhausted,
            population: self.population,
        }
    }
}

impl ChildSpec {
    /// What the machine has to know of it.
    pub(super) fn plan(&self) -> ChildPlan {
        ChildPlan {
            id: self.id.clone(),
            kind: self.kind(),
            restart: self.restart,
            significant: self.significant,
            shutdown: self.shutdown,
            backoff: self.backoff,
            last_generation: Generation(self.last_generation.load(Ordering::SeqCst)),
        }
    }

    /// Takes the place of the spec that was known of the same child. Addresses that were given out go on
    /// being filled.
    pub(super) fn succeed(&mut self, known: Self) {
        self.last_generation = known.last_generation;
        self.own_binding = known.own_binding;
        let new = std::mem::replace(&mut self.bindings, known.bindings);
        for binding in new.into_iter().rev() {
            if !self.bindings.iter().any(|old| Arc::ptr_eq(old, &binding)) {
                self.bindings.insert(0, binding);
            }
        }
    }
}
