//! Letters: what they say to the machine.
//!
//! Apart from what is done about its answers, so that both can be read in one go.
//!
//! Invariants: what a letter holds is dropped here and a panic in that fails the supervisor; an end is judged
//! by the child's own spec before the machine hears of it; nothing here waits.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::SystemTime;

use ractor::ActorId;

use super::{State, now};
use crate::exit::{ExitReason, contained};
use crate::id::ChildId;
use crate::machine::{Input, Judged, StartRefusal};
use crate::policy::{Restart, Verdict};
use crate::runtime::household::{Attended, Fault};
use crate::runtime::inbox::{Letter, Reader};
use crate::runtime::keeper::Minding;
use crate::runtime::launch::Refusal;
use crate::runtime::record::Record;
use crate::runtime::telemetry::is_traced;
use crate::spec::Launch;

impl State {
    pub(super) fn note_text(&self, who: ActorId, text: Option<String>) {
        if let Some(record) = Record::of(who)
            && self
                .charges
                .get(&record.id)
                .is_some_and(|charge| Arc::ptr_eq(&charge.record, &record))
        {
            record.note_text(text);
        }
    }

    /// Takes a report that did not come by the inbox; gives it back when others are before it.
    pub(crate) fn take(&mut self, letter: Letter) -> Option<Letter> {
        if self.fault.is_some() || self.letters.defers(&letter) {
            return Some(letter);
        }
        self.contain(letter);
        None
    }

    /// Reads so many letters at most.
    pub(crate) fn attend(&mut self, reader: Reader, limit: u32) -> Attended {
        let mut read = 0;
        while self.fault.is_none() && read < limit {
            let Some(letter) = self.letters.take(reader) else {
                break;
            };
            self.contain(letter);
            read += 1;
        }
        Attended {
            more: read == limit || self.fault.is_some() || self.letters.is_deferred(),
            ended: self.ended,
        }
    }

    /// What a letter holds is dropped here, and some of it is the user's.
    fn contain(&mut self, letter: Letter) {
        self.fault = catch_unwind(AssertUnwindSafe(|| self.read(letter))).err();
    }

    pub(crate) fn births(&mut self) -> impl Iterator<Item = Minding> {
        self.births.drain(..)
    }

    pub(crate) fn fault(&mut self) -> Option<Fault> {
        self.fault.take()
    }

    fn read(&mut self, letter: Letter) {
        let mut obituary = None;
        let input = match letter {
            Letter::Boot => Input::Boot,
            Letter::Started {
                child,
                generation,
                cell,
            } => {
                if let Some(charge) = self.charges.get_mut(&child)
                    && charge.generation == generation
                {
                    charge.up = true;
                    charge.started_at = Some(SystemTime::now());
                    charge.cell = cell;
                    if is_traced() {
                        // Where there is no wrapper nobody has taken it.
                        charge.record.note_work(None);
                    }
                }
                Input::Started { child, generation }
            }
            Letter::Refused {
                child,
                generation,
                refusal,
            } => Input::Refused {
                refusal: match refusal {
                    Refusal::Ignored => StartRefusal::Ignored,
                    Refusal::Postponed(delay) => StartRefusal::Postponed(delay),
                    Refusal::Failed(reason) => StartRefusal::Failed {
                        judged: self.judge(&child, &reason),
                        reason,
                    },
                },
                child,
                generation,
            },
            Letter::Exited {
                child,
                generation,
                parting,
                obituary: mut notice,
            } => {
                notice.complete();
                if let Some(charge) = self.charges.get_mut(&child) {
                    charge.up = false;
                    charge.started_at = None;
                    charge.cell = None;
                }
                let reason = notice.reason.clone();
                obituary = Some(notice);
                Input::Exited {
                    judged: self.judge(&child, &reason),
                    child,
                    generation,
                    reason,
                    parting,
                }
            }
            Letter::Tick => {
                self.timer = None;
                self.expire_starts();
                Input::Tick
            }
            Letter::Shutdown { deadline, text } => {
                self.text = text;
                Input::Shutdown { deadline }
            }
            Letter::Describe(reply) => {
                // Whoever asked may have gone.
                let _ = reply.send(self.describe());
                return;
            }
            Letter::Call(call) => match self.take_call(call) {
                Some(input) => input,
                None => return,
            },
        };
        self.judged = match &input {
            Input::Exited { child, judged, .. }
            | Input::Refused {
                child,
                refusal: StartRefusal::Failed { judged, .. },
                ..
            } => Some((child.clone(), judged.verdict)),
            _ => None,
        };
        let mut actions = self.machine.step(now(), input);
        for action in actions.drain(..) {
            self.carry_out(action, &mut obituary);
        }
        self.machine.recycle(actions);
        drop(obituary);
        self.candidates.clear();
        self.change = None;
        self.arm_timer();
    }

    /// A temporary child that is up, and not told to end meanwhile, is never made again: what its factory holds
    /// is let go.
    pub(super) fn spend(&mut self, child: &ChildId) {
        if let Some(spec) = self.specs.get_mut(child)
            && spec.restart == Restart::Temporary
        {
            let make_binding = match &spec.launch {
                Launch::Worker(launcher) => launcher.make_binding(),
                Launch::Made(_) => None,
                Launch::Supervisor(_) | Launch::Spent(..) => return,
            };
            let spec = Arc::make_mut(spec);
            spec.launch = Launch::Spent(spec.kind(), make_binding);
        }
    }

    /// The child's own judgement of its end.
    fn judge(&self, child: &ChildId, reason: &ExitReason) -> Judged {
        let classify = self.specs.get(child).and_then(|spec| spec.classify.clone());
        let verdict = match classify {
            None => Verdict::Default,
            Some(classify) => contained(|| classify(reason)).unwrap_or_else(|| {
                tracing::error!(
                    target: "supervisors",
                    { supervisor.path = %self.path, child.id = child.as_str() },
                    "classify panicked"
                );
                Verdict::Default
            }),
        };
        Judged {
            verdict,
            random: fastrand::f64(),
        }
    }
}
