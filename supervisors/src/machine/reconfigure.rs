//! New rules and plans for a supervisor that is up.
//!
//! Apart from the other requests because it is about all children at once. The semantics are those of
//! OTP's `code_change`: nobody is started, stopped or restarted by it.
//!
//! Invariants: a child that goes on keeps its incarnation, its attempts and its generation; what counted
//! against the intensity goes on counting; while a group restarts nothing is changed, since the group
//! stands on the old order.

use super::child::Child;
use super::{Action, ChildPlan, Machine, Mode, Rules};

/// Why everything stays as it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unchanged {
    /// Children are being started or restarted in order.
    Busy,
    ShuttingDown,
}

impl Machine {
    /// Takes new rules and plans. Children in `plans` come first and in that order, known ones with their
    /// new plan, new ones without a process; those that are not in it stay as they are.
    pub(super) fn reconfigure(
        &mut self,
        rules: Rules,
        plans: Vec<ChildPlan>,
    ) -> Result<(), Unchanged> {
        if !matches!(self.mode, Mode::Up) {
            return Err(Unchanged::ShuttingDown);
        }
        if self.sequence.is_some() {
            return Err(Unchanged::Busy);
        }
        self.rules = rules;
        self.window.adjust(rules.intensity);
        self.warned = false;
        let mut order = Vec::new();
        for plan in plans {
            let at = match self.children.find(&plan.id) {
                Some(at) => {
                    self.children.replan(at, plan);
                    at
                }
                None => {
                    self.out.push(Action::Admit(plan.id.clone()));
                    self.children.add(Child::new(plan))
                }
            };
            order.push(at);
        }
        self.children.reorder(&order);
        Ok(())
    }
}
