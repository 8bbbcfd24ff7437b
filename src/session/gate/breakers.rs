//! One circuit breaker for each endpoint behind a gate.
//!
//! Apart from the gate because it is about places, and a gate is about those who wait.
//!
//! Invariants: an endpoint's breaker is made when somebody first wants to connect there; nobody is told anything while
//! the lock is held.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use super::super::{clock, lock};
use crate::config::BreakerPolicy;
use crate::protocol::breaker::{Breaker, BreakerState};

/// The breakers, by host and port.
pub(super) struct Breakers {
    policy: BreakerPolicy,
    watched: Mutex<BTreeMap<Arc<str>, Watched>>,
}

/// A breaker, and the state that was last told of.
struct Watched {
    machine: Breaker,
    told: BreakerState,
}

/// What telling a breaker something has come to.
pub(super) struct Told<R> {
    pub(super) answer: R,
    /// Its state now, and when somebody last looked.
    pub(super) state: BreakerState,
    pub(super) previous: BreakerState,
}

impl Breakers {
    /// None yet. `policy` has been checked.
    pub(super) fn new(policy: BreakerPolicy) -> Self {
        Self {
            policy,
            watched: Mutex::default(),
        }
    }

    /// The endpoints that have one.
    pub(super) fn endpoints(&self) -> Vec<Arc<str>> {
        lock(&self.watched).keys().cloned().collect()
    }

    /// Tells an endpoint's breaker something.
    pub(super) fn tell<R>(&self, endpoint: &str, act: impl FnOnce(&mut Breaker) -> R) -> Told<R> {
        let mut all = lock(&self.watched);
        let watched = all.entry(Arc::from(endpoint)).or_insert_with(|| Watched {
            machine: Breaker::new(self.policy),
            told: BreakerState::Closed,
        });
        let answer = act(&mut watched.machine);
        let state = watched.machine.state(clock::now());
        let previous = std::mem::replace(&mut watched.told, state);
        Told {
            answer,
            state,
            previous,
        }
    }
}

/// The state of the worst off: open, then half open, then closed.
pub(super) fn worst(states: &BTreeMap<Arc<str>, BreakerState>) -> BreakerState {
    let has = |state: &BreakerState| states.values().any(|found| found == state);
    let worst = [BreakerState::Open, BreakerState::HalfOpen];
    worst.into_iter().find(has).unwrap_or(BreakerState::Closed)
}
