//! A sub-supervisor whose spec is made anew at each start.
//!
//! Apart from the specs because it remembers something: which generations were given out.
//!
//! Invariants: a child that stands in the spec before under the same ids goes on being numbered; what
//! is remembered is no larger than one spec.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};

use crate::exit::ExitReason;
use crate::runtime::launch::{Refusal, made};
use crate::runtime::record::lock;
use crate::spec::{Launch, StartContext, StartError, SupervisorSpec};

type Make = Box<dyn Fn(StartContext) -> Result<SupervisorSpec, StartError> + Send + Sync>;
/// The last generation given out, by the ids that lead to the child.
type Generations = HashMap<String, Arc<AtomicU64>>;

pub(crate) struct Blueprint {
    make: Make,
    generations: Mutex<Generations>,
}

impl Blueprint {
    pub(crate) fn new(make: Make) -> Self {
        Self {
            make,
            generations: Mutex::default(),
        }
    }

    /// The spec of one more incarnation.
    pub(crate) fn spec(&self, context: StartContext) -> Result<Arc<SupervisorSpec>, Refusal> {
        let mut spec = made(catch_unwind(AssertUnwindSafe(|| (self.make)(context))))?;
        if let Err(error) = spec.check() {
            return Err(Refusal::Failed(Arc::new(ExitReason::Failed(Arc::new(
                error,
            )))));
        }
        let mut known = lock(&self.generations);
        let mut present = Generations::new();
        go_on(&mut spec, "", &known, &mut present);
        *known = present;
        Ok(Arc::new(spec))
    }
}

fn go_on(spec: &mut SupervisorSpec, at: &str, known: &Generations, present: &mut Generations) {
    for child in &mut spec.children {
        let child = Arc::make_mut(child);
        let path = format!("{at}/{}", child.id);
        if let Some(last) = known.get(&path) {
            child.last_generation = last.clone();
        }
        present.insert(path.clone(), child.last_generation.clone());
        if let Launch::Supervisor(below) = &mut child.launch {
            go_on(Arc::make_mut(below), &path, known, present);
        }
    }
}
