//! What can be seen of the machine.
//!
//! For snapshots; nothing is decided here.
//!
//! Invariants: a child that waits for a restart, alone or in a group, is shown as restarting.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::child::{Child, Phase};
use super::sequence::Sequence;
use super::{ChildPlan, Machine, Mode};
use crate::exit::ExitReason;
use crate::id::{ChildId, Generation};
use crate::snapshot::NodeStatus;

/// One child as seen from outside.
pub(crate) struct ChildView<'a> {
    pub(crate) plan: &'a ChildPlan,
    pub(crate) status: NodeStatus,
    pub(crate) generation: Generation,
    pub(crate) uptime: Option<Duration>,
    pub(crate) restarts: u64,
    /// Consecutive ones; zero once it has proved stable.
    pub(crate) attempts: u32,
    /// The how manyth of them its next start is; zero when it comes along with a sibling's.
    pub(crate) attempt: u32,
    pub(crate) next_restart: Option<Duration>,
    pub(crate) last_exit: Option<Arc<ExitReason>>,
}

impl Machine {
    /// The children in start order.
    pub(crate) fn view(&self, now: Instant) -> impl Iterator<Item = ChildView<'_>> {
        let group = self.sequence.as_ref().and_then(Sequence::due);
        self.children
            .iter()
            .map(move |child| ChildView::of(child, now, group))
    }

    /// One of them.
    pub(crate) fn view_of(&self, now: Instant, id: &ChildId) -> Option<ChildView<'_>> {
        let group = self.sequence.as_ref().and_then(Sequence::due);
        let at = self.children.find(id)?;
        Some(ChildView::of(&self.children[at], now, group))
    }

    /// What the supervisor itself is doing.
    pub(crate) fn status(&self) -> NodeStatus {
        match self.mode {
            Mode::Up if self.booting => NodeStatus::Starting,
            Mode::Up => NodeStatus::Running,
            Mode::Ending { .. } | Mode::Ended => NodeStatus::Stopping,
        }
    }

    /// Restarts in the window, and how many are allowed.
    pub(crate) fn window(&self, now: Instant) -> (u32, u32) {
        (self.window.used(now), self.rules.intensity.max_restarts)
    }
}

impl<'a> ChildView<'a> {
    fn of(child: &'a Child, now: Instant, group: Option<Instant>) -> Self {
        let (status, uptime, due) = match child.phase() {
            Phase::Idle if child.parked => (NodeStatus::Parked, None, None),
            Phase::Idle if child.planned => (NodeStatus::Restarting, None, group),
            Phase::Idle => (NodeStatus::Idle, None, None),
            Phase::Starting { .. } if child.restarts > 0 => (NodeStatus::Restarting, None, None),
            Phase::Starting { .. } => (NodeStatus::Starting, None, None),
            Phase::Running { since } => (
                NodeStatus::Running,
                Some(now.saturating_duration_since(since)),
                None,
            ),
            Phase::Stopping => (NodeStatus::Stopping, None, None),
            Phase::Waiting { until } => (NodeStatus::Restarting, None, Some(until)),
        };
        Self {
            plan: &child.plan,
            status,
            generation: child.generation,
            uptime,
            restarts: child.restarts,
            attempts: if child.has_proved(now) {
                0
            } else {
                child.attempts
            },
            attempt: child.attempt(),
            next_restart: due.map(|due| due.saturating_duration_since(now)),
            last_exit: child.last_exit.clone(),
        }
    }
}
