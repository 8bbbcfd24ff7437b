//! Calls on a running supervisor.
//!
//! Apart from the actor because it only translates: a call becomes a request with a ticket, an
//! answer finds the caller by it. Questions are answered at once from what stands.
//!
//! Invariants: a caller that has gone changes nothing; a caller whose supervisor goes finds its
//! channel closed; at most [`WAITING`] callers wait for the end of one child, and those that have gone do
//! not count. (A start has one caller, and everything else is answered at once.)

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::oneshot;

use super::{Charge, State, now};
use crate::address::Binding;
use crate::admin::{
    ChildInfo, Counts, ReconfigureError, Refused, SpecInfo, Started, SupervisorEnded,
};
use crate::exit::ExitReason;
use crate::id::{ById, ChildId, Generation};
use crate::machine::{
    Answer, ChildPlan, ChildView, Denied, Input, Outcome, Request, Rules, StartDenied, Ticket,
    Unchanged,
};
use crate::runtime::record::Record;
use crate::snapshot::NodeStatus;
use crate::spec::{ChildSpec, Launch, SupervisorSpec};
use crate::time::later;

/// How many callers may wait for the end of one child.
const WAITING: usize = 1024;

type Reply<T, E> = oneshot::Sender<Result<T, E>>;

/// What a handle asks of its supervisor.
pub(crate) enum Call {
    Start(Box<ChildSpec>, Reply<Started, Refused>),
    Terminate(ChildId, Reply<(), Denied>),
    Restart(ChildId, Reply<Started, Denied>),
    Delete(ChildId, Reply<(), Denied>),
    Reconfigure(Box<SupervisorSpec>, Reply<(), ReconfigureError>),
    List(oneshot::Sender<Vec<ChildInfo>>),
    Which(ChildId, oneshot::Sender<Option<ChildInfo>>),
    Count(oneshot::Sender<Counts>),
    Inspect(ChildId, oneshot::Sender<Option<Inspection>>),
    Address(ChildId, oneshot::Sender<Option<Option<Arc<dyn Binding>>>>),
}

/// What stands in a child's spec.
pub(crate) struct Inspection {
    pub(crate) spec: SpecInfo,
    /// Of its present or last incarnation.
    pub(crate) record: Option<Arc<Record>>,
}

/// Who waits for what, by ticket.
#[derive(Default)]
pub(super) struct Callers {
    last: u64,
    starts: HashMap<Ticket, Reply<Started, Refused>>,
    /// Those who wait for the end of the same child share a ticket.
    terminations: HashMap<Ticket, Crowd>,
    /// Whose end is waited for by which of them.
    terminating: ById<Ticket>,
    restarts: HashMap<Ticket, Reply<Started, Denied>>,
    deletions: HashMap<Ticket, Reply<(), Denied>>,
    changes: HashMap<Ticket, Reply<(), ReconfigureError>>,
}

impl Callers {
    fn ticket(&mut self) -> Ticket {
        self.last += 1;
        Ticket(self.last)
    }

    /// Whether nobody waits for this child's end yet, so that the machine has to know.
    fn terminates(&mut self, ticket: Ticket, child: &ChildId, reply: Reply<(), Denied>) -> bool {
        let known = self.terminating.get(child);
        if let Some(crowd) = known.and_then(|ticket| self.terminations.get_mut(ticket)) {
            crowd.join(reply);
            return false;
        }
        self.terminating.insert(child.clone(), ticket);
        let crowd = Crowd {
            child: child.clone(),
            callers: vec![reply],
        };
        self.terminations.insert(ticket, crowd);
        true
    }

    fn terminated(&mut self, ticket: Ticket, result: &Result<(), Denied>) {
        let Some(crowd) = self.terminations.remove(&ticket) else {
            return;
        };
        self.terminating.remove(&crowd.child);
        for caller in crowd.callers {
            answer(Some(caller), result.clone());
        }
    }
}

/// Those who wait for the end of one child.
struct Crowd {
    child: ChildId,
    callers: Vec<Reply<(), Denied>>,
}

impl Crowd {
    /// Looks for those that have gone when there is no room without, so that it seldom does.
    fn join(&mut self, caller: Reply<(), Denied>) {
        if self.callers.len() == self.callers.capacity() {
            self.callers.retain(|caller| !caller.is_closed());
        }
        if self.callers.len() < WAITING {
            self.callers.push(caller);
        } else {
            answer(Some(caller), Err(Denied::Crowded(WAITING)));
        }
    }
}

impl State {
    /// What the machine has to know of a call; nothing when it is answered already.
    pub(super) fn take_call(&mut self, call: Call) -> Option<Input> {
        let ticket = self.callers.ticket();
        let request = match call {
            Call::Start(spec, reply) => {
                if let Err(error) = spec.check(self.spec.auto_shutdown) {
                    answer(Some(reply), Err(Refused::Spec(error)));
                    return None;
                }
                let plan = spec.plan();
                self.candidates = vec![Arc::new(ChildSpec {
                    added: true,
                    ..*spec
                })];
                self.callers.starts.insert(ticket, reply);
                Request::Start(plan)
            }
            Call::Terminate(child, reply) => {
                if !self.callers.terminates(ticket, &child, reply) {
                    return None;
                }
                Request::Terminate(child)
            }
            Call::Restart(child, reply) => {
                self.callers.restarts.insert(ticket, reply);
                Request::Restart(child)
            }
            Call::Delete(child, reply) => {
                self.callers.deletions.insert(ticket, reply);
                Request::Delete(child)
            }
            Call::Reconfigure(spec, reply) => {
                let (rules, plans) = match self.reconfiguration(*spec) {
                    Ok(change) => change,
                    Err(error) => {
                        answer(Some(reply), Err(error));
                        return None;
                    }
                };
                self.callers.changes.insert(ticket, reply);
                Request::Reconfigure(rules, plans)
            }
            Call::List(reply) => {
                // Whoever asked may have gone.
                let _ = reply.send(self.list());
                return None;
            }
            Call::Which(child, reply) => {
                let found = self.machine.view_of(now(), &child);
                let _ = reply.send(found.map(|view| self.info(view)));
                return None;
            }
            Call::Count(reply) => {
                let _ = reply.send(self.machine.counts());
                return None;
            }
            Call::Address(child, reply) => {
                let _ = reply.send(self.binding(&child));
                return None;
            }
            Call::Inspect(child, reply) => {
                let _ = reply.send(self.specs.get(&child).map(|spec| Inspection {
                    spec: spec.describe(),
                    record: self.charges.get(&child).map(|charge| charge.record.clone()),
                }));
                return None;
            }
        };
        Some(Input::Request(ticket, request))
    }

    pub(super) fn reply(&mut self, ticket: Ticket, result: Answer) {
        match result {
            Answer::Start(result) => {
                let result = match result {
                    Ok((child, outcome)) => self.started(&child, outcome).map_err(Refused::Failed),
                    Err(StartDenied::Started(child, generation)) => Err(Refused::Started {
                        generation,
                        cell: self
                            .charge(&child, generation)
                            .and_then(|charge| charge.cell.clone()),
                    }),
                    Err(StartDenied::Present) => Err(Refused::Present),
                    Err(StartDenied::TooMany(limit)) => Err(Refused::TooMany(limit)),
                    Err(StartDenied::Failed(reason)) => Err(Refused::Failed(reason)),
                    Err(StartDenied::ShuttingDown) => Err(Refused::ShuttingDown),
                };
                answer(self.callers.starts.remove(&ticket), result);
            }
            Answer::Restart(result) => {
                let result = result.and_then(|(child, outcome)| {
                    self.started(&child, outcome).map_err(Denied::Failed)
                });
                answer(self.callers.restarts.remove(&ticket), result);
            }
            Answer::Terminate(result) => self.callers.terminated(ticket, &result),
            Answer::Delete(result) => answer(self.callers.deletions.remove(&ticket), result),
            Answer::Reconfigure(result) => {
                let result = match result {
                    Ok(()) => {
                        self.change_specs();
                        Ok(())
                    }
                    Err(Unchanged::Busy) => Err(ReconfigureError::Busy {
                        supervisor: self.path.clone(),
                    }),
                    Err(Unchanged::ShuttingDown) => Err(SupervisorEnded::of(&self.path).into()),
                };
                answer(self.callers.changes.remove(&ticket), result);
            }
        }
    }

    /// What a new spec asks of the machine, with what it holds set aside until the machine agrees.
    fn reconfiguration(
        &mut self,
        spec: SupervisorSpec,
    ) -> Result<(Rules, Vec<ChildPlan>), ReconfigureError> {
        let supervisor = || self.path.clone();
        spec.check().map_err(|source| ReconfigureError::Spec {
            supervisor: supervisor(),
            source,
        })?;
        if spec.membership() != self.spec.membership() {
            return Err(ReconfigureError::Kind {
                supervisor: supervisor(),
            });
        }
        let plans = spec.children.iter().map(|child| child.plan()).collect();
        self.candidates.clone_from(&spec.children);
        let rules = spec.rules();
        self.change = Some(spec);
        Ok((rules, plans))
    }

    /// The machine goes by the new spec: so does the shell.
    fn change_specs(&mut self) {
        for mut spec in std::mem::take(&mut self.candidates) {
            if let Some(known) = self.specs.remove(&spec.id) {
                Arc::make_mut(&mut spec).succeed(Arc::unwrap_or_clone(known));
            }
            self.specs.insert(spec.id.clone(), spec);
        }
        if let Some(mut spec) = self.change.take() {
            // Addresses were given out by the old one.
            spec.seats.clone_from(&self.spec.seats);
            self.spec = Arc::new(spec);
        }
    }

    /// An address of this child alone, made at the first question, since most children are never asked for.
    /// Nothing inside when it takes no messages that could be known, and its spec has no address either.
    fn binding(&mut self, child: &ChildId) -> Option<Option<Arc<dyn Binding>>> {
        let spec = self.specs.get_mut(child)?;
        if spec.own_binding {
            return Some(spec.bindings.last().cloned());
        }
        let make = match &spec.launch {
            Launch::Worker(launcher) => launcher.make_binding(),
            Launch::Spent(_, make) => *make,
            Launch::Supervisor(_) | Launch::Made(_) => None,
        };
        let Some(make) = make else {
            return Some(spec.bindings.last().cloned());
        };
        let binding = make();
        let owner = Arc::make_mut(spec);
        owner.bindings.push(binding.clone());
        owner.own_binding = true;
        if let Some(charge) = self.charges.get(child) {
            charge.record.bind(binding.clone());
            let now = now();
            let view = self.machine.view_of(now, child).filter(|_| !charge.up);
            if let Some(view) = view {
                match (view.status, view.last_exit) {
                    (NodeStatus::Restarting, _) => {
                        let next_at = later(now, view.next_restart.unwrap_or_default());
                        binding.restarting(view.generation, view.attempt, next_at.into());
                    }
                    (_, Some(reason)) => binding.down(view.generation, &reason),
                    (_, None) => {}
                }
            }
        }
        Some(Some(binding))
    }

    fn started(&self, child: &ChildId, outcome: Outcome) -> Result<Started, Arc<ExitReason>> {
        match outcome {
            Outcome::Up(generation) => match self.charge(child, generation) {
                Some(charge) if charge.up => Ok(Started::Up {
                    generation,
                    cell: charge.cell.clone(),
                }),
                _ => Err(Arc::new(ExitReason::NoProcess)),
            },
            Outcome::Ignored => Ok(Started::Ignored),
            Outcome::Postponed(delay) => Ok(Started::Postponed(delay)),
        }
    }

    /// An incarnation that has not been forgotten.
    fn charge(&self, child: &ChildId, generation: Generation) -> Option<&Charge> {
        self.charges
            .get(child)
            .filter(|charge| charge.generation == generation)
    }

    /// Newest first, as in OTP.
    fn list(&self) -> Vec<ChildInfo> {
        let views = self.machine.view(now());
        let mut children: Vec<ChildInfo> = views.map(|view| self.info(view)).collect();
        children.reverse();
        children
    }

    fn info(&self, view: ChildView<'_>) -> ChildInfo {
        let up = matches!(view.status, NodeStatus::Running | NodeStatus::Stopping);
        let charge = self.charges.get(&view.plan.id).filter(|_| up);
        ChildInfo {
            id: view.plan.id.clone(),
            kind: view.plan.kind,
            restart: view.plan.restart,
            status: view.status,
            generation: view.generation,
            cell: charge.and_then(|charge| charge.cell.clone()),
            supervisor: charge
                .and_then(|charge| charge.supervisor.as_ref())
                .and_then(|reference| reference.get().cloned()),
        }
    }
}

/// Whoever asked may have gone; then nobody needs to know.
fn answer<T>(caller: Option<oneshot::Sender<T>>, result: T) {
    if let Some(caller) = caller {
        let _ = caller.send(result);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn callers_that_have_gone_take_no_room() {
        let mut callers = Callers::default();
        let ticket = callers.ticket();
        let (reply, mut first) = oneshot::channel();
        assert!(callers.terminates(ticket, &"a".into(), reply));
        for _ in 0..10_000 {
            let (reply, _) = oneshot::channel();
            let again = callers.ticket();
            assert!(!callers.terminates(again, &"a".into(), reply));
        }
        assert_eq!(callers.terminations.len(), 1);
        assert!(callers.terminations[&ticket].callers.len() < 10);
        callers.terminated(ticket, &Ok(()));
        assert!(matches!(first.try_recv(), Ok(Ok(()))));
        assert!(callers.terminations.is_empty() && callers.terminating.is_empty());
    }
}
