//! The children of one supervisor, and what is asked of them as a whole.
//!
//! Apart from the rules because it is bookkeeping: whoever is looked for, by id, by place in the
//! start order, as the last one alive or the next one due, is found without going through the others, so
//! that ten thousand ends cost ten thousand times one end.
//!
//! Invariants: an id is in use once; a [`Rank`] is given once and grows with each child that is
//! added, so that a sequence can go on while children come and go; the phase changes here alone, and
//! with it who is alive, who waits and who counts as active.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Index, IndexMut};
use std::time::Instant;

use slab::Slab;

use super::child::{Child, Phase};
use crate::admin::Counts;
use crate::id::{ById, ChildId};
use crate::policy::ChildKind;

/// A place in the start order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank(u64);

impl Rank {
    pub(super) const FIRST: Self = Self(0);

    pub(super) fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

#[derive(Debug, Default)]
pub(super) struct Roster {
    children: Slab<Child>,
    by_id: ById<usize>,
    order: BTreeMap<Rank, usize>,
    live: BTreeSet<Rank>,
    waiting: BTreeSet<(Instant, Rank)>,
    counts: Counts,
    given: u64,
}

impl Roster {
    /// Adds a child after all others and tells where it is found.
    pub(super) fn add(&mut self, mut child: Child) -> usize {
        let rank = Rank(self.given);
        self.given += 1;
        child.rank = rank;
        let id = child.plan.id.clone();
        self.counts.specs += 1;
        *self.of_kind(child.plan.kind) += 1;
        let at = self.children.insert(child);
        self.by_id.insert(id, at);
        self.order.insert(rank, at);
        at
    }

    pub(super) fn remove(&mut self, at: usize) -> ChildId {
        self.set_phase(at, Phase::Idle);
        let child = self.children.remove(at);
        self.counts.specs -= 1;
        *self.of_kind(child.plan.kind) -= 1;
        self.by_id.remove(&child.plan.id);
        self.order.remove(&child.rank);
        child.plan.id
    }

    /// Puts these children, in this order, before all others.
    pub(super) fn reorder(&mut self, first: &[usize]) {
        let others: Vec<usize> = self.order.values().copied().collect();
        let others = others.into_iter().filter(|at| !first.contains(at));
        let wanted: Vec<usize> = first.iter().copied().chain(others).collect();
        let phases: Vec<Phase> = wanted.iter().map(|at| self.children[*at].phase()).collect();
        for at in &wanted {
            self.set_phase(*at, Phase::Idle);
        }
        self.order.clear();
        for (at, phase) in wanted.into_iter().zip(phases) {
            let rank = Rank(self.given);
            self.given += 1;
            self.children[at].rank = rank;
            self.order.insert(rank, at);
            self.set_phase(at, phase);
        }
    }

    /// Gives the child a plan with the same id.
    pub(super) fn replan(&mut self, at: usize, plan: super::ChildPlan) {
        *self.of_kind(self.children[at].plan.kind) -= 1;
        *self.of_kind(plan.kind) += 1;
        let child = &mut self.children[at];
        debug_assert_eq!(child.plan.id, plan.id);
        child.plan = plan;
    }

    pub(super) fn find(&self, id: &ChildId) -> Option<usize> {
        self.by_id.get(id).copied()
    }

    pub(super) fn len(&self) -> usize {
        self.children.len()
    }

    pub(super) fn counts(&self) -> Counts {
        self.counts
    }

    /// In start order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Child> {
        self.order.values().map(|at| &self.children[*at])
    }

    /// Where everybody from this place on is found, in start order.
    pub(super) fn from(&self, rank: Rank) -> Vec<usize> {
        self.order.range(rank..).map(|(_, at)| *at).collect()
    }

    pub(super) fn first_from(&self, rank: Rank) -> Option<usize> {
        self.order.range(rank..).next().map(|(_, at)| *at)
    }

    pub(super) fn last_live_from(&self, rank: Rank) -> Option<usize> {
        let last = self.live.range(rank..).next_back()?;
        self.order.get(last).copied()
    }

    /// In start order.
    pub(super) fn live(&self) -> Vec<usize> {
        self.live.iter().map(|rank| self.order[rank]).collect()
    }

    pub(super) fn live_count(&self) -> usize {
        self.live.len()
    }

    /// Who has waited long enough; the one longest due first.
    pub(super) fn due(&self, now: Instant) -> Option<usize> {
        let (until, rank) = self.waiting.first()?;
        (*until <= now).then(|| self.order[rank])
    }

    pub(super) fn next_due(&self) -> Option<Instant> {
        self.waiting.first().map(|(until, _)| *until)
    }

    pub(super) fn set_phase(&mut self, at: usize, phase: Phase) {
        let child = &mut self.children[at];
        let rank = child.rank;
        let before = child.set_phase(phase);
        if let Phase::Waiting { until } = before {
            self.waiting.remove(&(until, rank));
        }
        if let Phase::Waiting { until } = phase {
            self.waiting.insert((until, rank));
        }
        match (before.is_live(), phase.is_live()) {
            (false, true) => {
                self.live.insert(rank);
            }
            (true, false) => {
                self.live.remove(&rank);
            }
            (true, true) | (false, false) => {}
        }
        self.counts.active += usize::from(phase.is_active());
        self.counts.active -= usize::from(before.is_active());
    }

    fn of_kind(&mut self, kind: ChildKind) -> &mut usize {
        match kind {
            ChildKind::Worker => &mut self.counts.workers,
            ChildKind::Supervisor => &mut self.counts.supervisors,
        }
    }
}

impl Index<usize> for Roster {
    type Output = Child;

    fn index(&self, at: usize) -> &Child {
        &self.children[at]
    }
}

impl IndexMut<usize> for Roster {
    fn index_mut(&mut self, at: usize) -> &mut Child {
        &mut self.children[at]
    }
}
