//! A supervisor's own part of a snapshot.
//!
//! Apart from the actor because it only reads.
//!
//! Invariants: nobody is asked from here; whoever asked goes on to the sub-supervisors.

use super::{State, now};
use crate::runtime::inbox::Description;
use crate::snapshot::{NodeStatus, TreeSnapshot};
use crate::spec::Launch;

impl State {
    pub(super) fn describe(&self) -> Description {
        let now = now();
        let mut below = Vec::new();
        let mut children = Vec::new();
        for view in self.machine.view(now) {
            let charge = self.charges.get(&view.plan.id);
            let spec = self.specs.get(&view.plan.id);
            if view.status == NodeStatus::Running
                && let Some(supervisor) = charge
                    .and_then(|charge| charge.supervisor.as_ref())
                    .and_then(|reference| reference.get())
            {
                below.push((children.len(), supervisor.clone()));
            }
            let meter = charge.map(|charge| charge.record.meter());
            let meter = meter.unwrap_or_default();
            let up = charge.is_some_and(|charge| charge.up);
            let counted = spec.is_some_and(|spec| spec.counts_messages());
            let strategy = match spec.map(|spec| &spec.launch) {
                Some(Launch::Supervisor(spec)) => Some(spec.strategy),
                Some(Launch::Worker(_) | Launch::Made(_) | Launch::Spent(..)) | None => None,
            };
            children.push(TreeSnapshot {
                path: self.path.child(&view.plan.id),
                id: view.plan.id.clone(),
                kind: view.plan.kind,
                strategy,
                restart: Some(view.plan.restart),
                status: view.status,
                generation: view.generation,
                actor: charge
                    .and_then(|charge| charge.cell.as_ref())
                    .map(|cell| cell.get_id()),
                started_at: charge.and_then(|charge| charge.started_at),
                uptime: view.uptime,
                restarts: view.restarts,
                window: None,
                attempts: view.attempts,
                next_restart: view.next_restart,
                last_exit: view.last_exit,
                handled: meter.handled,
                busy: meter.busy,
                handler_age: meter.handler_age.filter(|_| up),
                queue_depth: meter
                    .sent
                    .filter(|_| up && counted)
                    .map(|sent| sent.saturating_sub(meter.handled)),
                children: Vec::new(),
            });
        }
        Description {
            status: self.machine.status(),
            ready: self
                .ready_since
                .map(|(at, since)| (at, now.saturating_duration_since(since))),
            strategy: self.spec.strategy,
            window: self.machine.window(now),
            children,
            below,
        }
    }
}
