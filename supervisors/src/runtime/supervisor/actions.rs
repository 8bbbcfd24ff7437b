//! Actions: what is done about the machine's answers.
//!
//! Apart from the letters that led to them, so that both can be read in one go.
//!
//! Invariants: observers and addresses know of an end before monitors, and both before it is acted upon; one
//! timer is armed at most; nothing here waits.

use std::time::SystemTime;

use super::{State, now};
use crate::event::{SupervisorEvent, SupervisorEventKind};
use crate::id::{ChildId, Generation};
use crate::machine::{Action, Standing};
use crate::runtime::inbox::Letter;
use crate::runtime::record::Obituary;
use crate::shutdown::StopOrder;

impl State {
    pub(super) fn carry_out(&mut self, action: Action, obituary: &mut Option<Obituary>) {
        // Observers and addresses know first, then monitors, and only then is the end acted upon.
        if !matches!(action, Action::Notice { .. } | Action::Settle { .. }) {
            drop(obituary.take());
        }
        match action {
            Action::Notice {
                child,
                generation,
                kind,
            } => {
                match (&kind, &child) {
                    (SupervisorEventKind::Shutdown { .. }, _) => self.vacate(),
                    // The machine takes it for up from here on.
                    (
                        SupervisorEventKind::ChildStarted { .. }
                        | SupervisorEventKind::ChildRestarted { .. },
                        Some(child),
                    ) => self.spend(child),
                    _ => {}
                }
                self.announce(child, generation, kind);
            }
            Action::Settle {
                child,
                generation,
                standing,
            } => {
                if matches!(standing, Standing::Down(_)) {
                    self.listeners.settle(&child);
                }
                if let Some(spec) = self.specs.get(&child) {
                    for binding in &spec.bindings {
                        match &standing {
                            Standing::Restarting { attempt, next_at } => {
                                binding.restarting(generation, *attempt, (*next_at).into());
                            }
                            Standing::Down(reason) => binding.down(generation, reason),
                        }
                    }
                }
            }
            Action::Start {
                child,
                generation,
                attempt,
                previous,
            } => {
                if self.listeners.is_anybody() {
                    let kind = SupervisorEventKind::ChildStarting { attempt };
                    self.announce(Some(child.clone()), generation, kind);
                }
                self.start(&child, generation, attempt, previous);
            }
            Action::Stop {
                child,
                generation,
                order,
            } => {
                self.stop(child, generation, order);
            }
            Action::Admit(child) => {
                let found = self.candidates.iter().position(|spec| spec.id == child);
                if let Some(spec) = found.map(|at| self.candidates.swap_remove(at)) {
                    self.specs.insert(child, spec);
                }
            }
            Action::Forget(child) => {
                self.specs.remove(&child);
                self.charges.remove(&child);
            }
            Action::Reply(ticket, answer) => self.reply(ticket, answer),
            Action::Ready => {
                for seat in &self.spec.seats {
                    seat.up(&self.reference);
                }
                self.ready_since = Some((SystemTime::now(), now()));
                self.record.note_ready();
            }
            Action::Exit(cause) => {
                self.record.note_cause(cause);
                self.ended = true;
            }
        }
    }

    fn stop(&mut self, child: ChildId, generation: Generation, order: StopOrder) {
        let charge = self.charges.get_mut(&child);
        let Some(charge) = charge.filter(|charge| charge.generation == generation) else {
            return;
        };
        let again = std::mem::replace(&mut charge.told, true);
        let record = charge.record.clone();
        if !again && self.listeners.is_anybody() {
            let limit = order.patience;
            let kind = SupervisorEventKind::ChildStopping { limit };
            self.announce(Some(child.clone()), generation, kind);
            record.note_work(self.listeners.work_on(&child));
        }
        record.command(order, self.text.clone());
    }

    /// Addresses of this supervisor no longer reach it.
    pub(super) fn vacate(&self) {
        for seat in &self.spec.seats {
            seat.leaving(&self.reference);
        }
    }

    fn announce(&self, child: Option<ChildId>, generation: Generation, kind: SupervisorEventKind) {
        if !self.listeners.is_anybody() {
            return;
        }
        let spec = child.as_ref().and_then(|child| self.specs.get(child));
        let charge = child
            .as_ref()
            .and_then(|child| self.charges.get(child))
            .filter(|charge| charge.generation == generation);
        let judged = self
            .judged
            .as_ref()
            .filter(|(judged, _)| Some(judged) == child.as_ref());
        let event = SupervisorEvent {
            path: self.path.clone(),
            strategy: self.spec.strategy,
            generation,
            child_kind: spec.map(|spec| spec.kind()),
            restart: spec.map(|spec| spec.restart),
            added: spec.is_some_and(|spec| spec.added),
            actor: charge.and_then(|charge| charge.record.actor()),
            verdict: judged.map(|(_, verdict)| *verdict).unwrap_or_default(),
            children: match &kind {
                SupervisorEventKind::RestartPlanned { group, .. } => group.len(),
                SupervisorEventKind::Ready | SupervisorEventKind::Shutdown { .. } => {
                    self.charges.values().filter(|charge| charge.up).count()
                }
                _ => usize::from(child.is_some()),
            },
            child,
            kind,
        };
        let cause = match &event.kind {
            SupervisorEventKind::RestartPlanned { .. } => {
                charge.and_then(|charge| charge.record.take_trace())
            }
            _ => None,
        };
        self.listeners.announce(&event, cause);
    }

    /// One timer, for whatever is due next: the machine's next deadline, or the next start that takes too
    /// long. One that rings too early is no harm, and costs less than a new one for each start.
    pub(super) fn arm_timer(&mut self) {
        self.sweep_deadlines();
        let wanted = [self.machine.next_timeout(), self.deadlines.next()];
        let Some(due) = wanted.into_iter().flatten().min() else {
            return;
        };
        if let Some((armed, timer)) = &self.timer {
            if *armed <= due {
                return;
            }
            timer.abort();
        }
        let inbox = self.household.inbox.clone();
        let timer = tokio::spawn(async move {
            tokio::time::sleep_until(due.into()).await;
            inbox.put(Letter::Tick);
        });
        self.timer = Some((due, timer.abort_handle()));
    }
}
