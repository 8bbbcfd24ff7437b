//! What follows the end of a child: restart, leave, escalate, give up.
//!
//! Apart from the order in which things are then done, which is `sequence`'s.
//!
//! Invariants: an end is reported first, then booked, then acted upon; while the supervisor ends, no
//! end has a consequence; in a group that is being stopped, only an escalation has.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::child::{Child, Phase};
use super::roster::Rank;
use super::sequence::Stage;
use super::{Judged, Machine, Mode, Outcome, Population, Standing, StartRefusal};
use crate::event::SupervisorEventKind;
use crate::exit::{ExitReason, ShutdownCause};
use crate::id::{ChildId, Generation};
use crate::policy::{AutoShutdown, OnExhausted, Restart, Strategy, Verdict};
use crate::shutdown::Parting;
use crate::time::later;

/// A restart that failed to start never happens again at once, and neither does what costs nothing and leads to
/// nothing: it would never end.
const PAUSE: Duration = Duration::from_millis(1);

impl Machine {
    pub(super) fn on_refused(
        &mut self,
        now: Instant,
        id: &ChildId,
        generation: Generation,
        refusal: StartRefusal,
    ) {
        let Some(at) = self.present(id, generation) else {
            return;
        };
        match self.children[at].phase() {
            Phase::Starting { .. } | Phase::Stopping if self.children[at].was_told() => {
                let reason = match refusal {
                    StartRefusal::Failed { reason, .. } => reason,
                    StartRefusal::Ignored | StartRefusal::Postponed(_) => {
                        Arc::new(ExitReason::Cancelled)
                    }
                };
                self.stopped(now, at, reason);
                return;
            }
            Phase::Starting { .. } => {}
            Phase::Idle | Phase::Running { .. } | Phase::Stopping | Phase::Waiting { .. } => return,
        }
        match refusal {
            StartRefusal::Ignored => {
                self.notice(at, SupervisorEventKind::ChildIgnored);
                self.answer_asked(at, Outcome::Ignored);
                self.retire(at);
                self.settle_down(at);
                let rank = self.children[at].rank;
                if let Some(sequence) = &mut self.sequence {
                    sequence.pass(rank);
                }
            }
            // Its group was parked meanwhile, and its turn to be stopped had not come yet.
            StartRefusal::Postponed(delay) if self.children[at].held => {
                self.notice(at, SupervisorEventKind::ChildPostponed { delay });
                self.refuse_asked(at, &Arc::new(ExitReason::Cancelled));
                self.retire(at);
                self.settle_down(at);
            }
            StartRefusal::Postponed(delay) => {
                let delay = delay.max(PAUSE);
                self.notice(at, SupervisorEventKind::ChildPostponed { delay });
                let until = later(now, delay);
                let phase = match &mut self.sequence {
                    // Its group is being restarted and comes to it again.
                    Some(sequence) if self.children[at].planned => {
                        sequence.wait_until(until);
                        Phase::Idle
                    }
                    Some(_) | None => Phase::Waiting { until },
                };
                self.children.set_phase(at, phase);
                self.settle_restarting(at, until);
                self.answer_asked(at, Outcome::Postponed(delay));
            }
            StartRefusal::Failed { reason, judged } => {
                self.notice(
                    at,
                    SupervisorEventKind::ChildStartFailed {
                        reason: reason.clone(),
                    },
                );
                self.children.set_phase(at, Phase::Idle);
                let child = &mut self.children[at];
                child.last_exit = Some(reason.clone());
                child.ended_at = Some(now);
                let rank = child.rank;
                let first = self.booting
                    && self
                        .sequence
                        .as_ref()
                        .is_some_and(|sequence| sequence.starts(rank));
                if self.refuse_asked(at, &reason) {
                    // Whoever asked decides what follows.
                    self.retire(at);
                    self.settle(at, Standing::Down(reason));
                    if let Some(sequence) = &mut self.sequence {
                        sequence.pass(rank);
                    }
                } else if first {
                    self.settle(at, Standing::Down(reason.clone()));
                    let child = id.clone();
                    self.end(ShutdownCause::StartFailed { child, reason }, None);
                } else {
                    self.judge(now, at, None, reason, judged);
                }
            }
        }
    }

    pub(super) fn on_exited(
        &mut self,
        now: Instant,
        id: &ChildId,
        generation: Generation,
        reason: Arc<ExitReason>,
        parting: Parting,
        judged: Judged,
    ) {
        let Some(at) = self.present(id, generation) else {
            return;
        };
        match self.children[at].phase() {
            Phase::Running { .. } | Phase::Stopping if self.children[at].was_told() => {
                match parting {
                    Parting::Graceful => {}
                    Parting::Killed => self.notice(at, SupervisorEventKind::ChildKilled),
                    Parting::Abandoned => self.notice(at, SupervisorEventKind::ChildAbandoned),
                }
                self.stopped(now, at, reason);
            }
            Phase::Running { since } => {
                // Killed by its watchdog, to no effect.
                if parting == Parting::Abandoned {
                    self.notice(at, SupervisorEventKind::ChildAbandoned);
                }
                self.children.set_phase(at, Phase::Idle);
                let child = &mut self.children[at];
                child.last_exit = Some(reason.clone());
                child.ended_at = Some(now);
                let uptime = now.saturating_duration_since(since);
                self.judge(now, at, Some(uptime), reason, judged);
            }
            Phase::Idle | Phase::Starting { .. } | Phase::Stopping | Phase::Waiting { .. } => {}
        }
    }

    /// A child ended because it was told to.
    fn stopped(&mut self, now: Instant, at: usize, reason: Arc<ExitReason>) {
        let child = &mut self.children[at];
        child.last_exit = Some(reason.clone());
        child.ended_at = Some(now);
        self.children.set_phase(at, Phase::Idle);
        self.notice(
            at,
            SupervisorEventKind::ChildStopped {
                reason: reason.clone(),
            },
        );
        if !self.children[at].planned {
            self.refuse_asked(at, &reason);
            self.retire(at);
            self.settle(at, Standing::Down(reason));
        }
        self.answer_terminators(at);
    }

    /// A child ended by itself, after `uptime`; without, it failed to start again.
    fn judge(
        &mut self,
        now: Instant,
        at: usize,
        uptime: Option<Duration>,
        reason: Arc<ExitReason>,
        judged: Judged,
    ) {
        let up = matches!(self.mode, Mode::Up);
        let bystander = up
            && self.sequence.as_ref().is_some_and(|sequence| {
                sequence.from <= self.children[at].rank && matches!(sequence.stage, Stage::Stopping)
            });
        let child = &mut self.children[at];
        let proved = uptime.is_some_and(|uptime| uptime >= child.plan.backoff.reset_after);
        let stable = match judged.verdict {
            Verdict::Uncounted { stable, .. } => stable,
            Verdict::Default | Verdict::DontRestart | Verdict::Escalate => proved,
        };
        if stable {
            child.attempts = 0;
        }
        let wanted = match (judged.verdict, child.plan.restart) {
            (Verdict::DontRestart | Verdict::Escalate, _) | (_, Restart::Temporary) => false,
            (_, Restart::Permanent) => true,
            (_, Restart::Transient) => !reason.is_normal(),
        };
        let escalates = up && judged.verdict == Verdict::Escalate;
        if bystander && !escalates {
            let restarts = child.planned;
            self.report_exit(at, uptime, &reason, restarts);
            if !restarts {
                self.retire(at);
                self.settle(at, Standing::Down(reason));
            }
        } else if up && wanted {
            self.plan_restart(now, at, uptime, &reason, judged);
        } else {
            self.report_exit(at, uptime, &reason, false);
            self.retire(at);
            self.settle(at, Standing::Down(reason.clone()));
            let child = self.children[at].plan.id.clone();
            if escalates {
                self.notice(
                    at,
                    SupervisorEventKind::Escalated {
                        reason: reason.clone(),
                    },
                );
                self.end(ShutdownCause::Escalated { child, reason }, None);
            } else if up && self.children[at].plan.significant {
                self.overdue = Some((child, reason));
            }
        }
    }

    fn plan_restart(
        &mut self,
        now: Instant,
        at: usize,
        uptime: Option<Duration>,
        reason: &Arc<ExitReason>,
        judged: Judged,
    ) {
        let child = &mut self.children[at];
        let backoff = child.plan.backoff;
        let (counted, at_least) = match judged.verdict {
            Verdict::Uncounted { at_least, .. } => (false, at_least),
            Verdict::Default | Verdict::DontRestart | Verdict::Escalate => (true, Duration::ZERO),
        };
        child.failed = true;
        child.attempts = child.attempts.saturating_add(1);
        let attempt = child.attempts;

        let spent = backoff.max_attempts.is_some_and(|max| attempt > max);
        if spent || (counted && !self.window.book(now)) {
            self.exhaust(at, uptime, reason);
            return;
        }

        let mut delay = backoff.delay(attempt, judged.random).max(at_least);
        if uptime.is_none_or(|uptime| !counted && uptime < PAUSE) {
            delay = delay.max(PAUSE);
        }
        self.report_exit(at, uptime, reason, true);
        self.warn_of_exhaustion(now);
        let due = later(now, delay);
        let group = match self.rules.strategy {
            Strategy::OneForOne => {
                self.children.set_phase(at, Phase::Waiting { until: due });
                self.settle_restarting(at, due);
                vec![self.children[at].plan.id.clone()]
            }
            Strategy::OneForAll => self.plan_group(Rank::FIRST, due),
            Strategy::RestForOne => self.plan_group(self.children[at].rank, due),
        };
        self.notice(
            at,
            SupervisorEventKind::RestartPlanned {
                delay,
                attempt,
                counted,
                group,
                window: self.window(now),
            },
        );
    }

    /// The child has failed too often.
    fn exhaust(&mut self, at: usize, uptime: Option<Duration>, reason: &Arc<ExitReason>) {
        self.report_exit(at, uptime, reason, false);
        self.retire(at);
        self.settle(at, Standing::Down(reason.clone()));
        let reason = reason.clone();
        let child = self.children[at].plan.id.clone();
        match self.rules.on_exhausted {
            OnExhausted::Shutdown => {
                let told = reason.clone();
                self.notice(at, SupervisorEventKind::Exhausted { reason: told });
                self.end(ShutdownCause::Exhausted { child, reason }, None);
            }
            OnExhausted::Park => {
                let told = reason.clone();
                self.notice(at, SupervisorEventKind::ChildParked { reason: told });
                match self.rules.strategy {
                    Strategy::OneForOne => self.park(at),
                    Strategy::OneForAll => self.park_group(Rank::FIRST),
                    Strategy::RestForOne => self.park_group(self.children[at].rank),
                }
                if self.children[at].plan.significant {
                    self.overdue = Some((child, reason));
                }
            }
        }
    }

    /// Says once that the intensity is nearly used up, and again only after it was clear of that.
    fn warn_of_exhaustion(&mut self, now: Instant) {
        let (used, limit) = self.window(now);
        let near = limit > 0 && u64::from(used) * 10 >= u64::from(limit) * 9;
        if near && !self.warned {
            self.notice_self(SupervisorEventKind::IntensityLow { used, limit });
        }
        self.warned = near;
    }

    /// A failed start was reported already.
    fn report_exit(
        &mut self,
        at: usize,
        uptime: Option<Duration>,
        reason: &Arc<ExitReason>,
        restarts: bool,
    ) {
        if let Some(uptime) = uptime {
            self.notice(
                at,
                SupervisorEventKind::ChildExited {
                    reason: reason.clone(),
                    uptime,
                    restarts,
                },
            );
        }
    }

    /// The child is not started again for now; a temporary one is forgotten, and so is any child of a
    /// dynamic supervisor.
    pub(super) fn retire(&mut self, at: usize) {
        self.children.set_phase(at, Phase::Idle);
        let forgotten = match self.rules.population {
            Population::Fixed => self.children[at].is_temporary(),
            Population::Dynamic { .. } => true,
        };
        let child = &mut self.children[at];
        child.planned = false;
        child.failed = false;
        if forgotten {
            self.dismiss(at);
        }
    }

    /// The child is to be forgotten.
    pub(super) fn dismiss(&mut self, at: usize) {
        if !std::mem::replace(&mut self.children[at].gone, true) {
            self.leavers.push(at);
        }
    }

    /// Ends the supervisor with the significant child that ended last, if it is to and can be: neither while it
    /// boots, which it does to the end first, nor while somebody waits for the start of another significant one,
    /// which decides. Returns whether it did.
    pub(super) fn settle_overdue(&mut self) -> bool {
        if self.booting || !matches!(self.mode, Mode::Up) {
            return false;
        }
        let Some((child, reason)) = self.overdue.take() else {
            return false;
        };
        let ends = match self.rules.auto_shutdown {
            AutoShutdown::Never => false,
            AutoShutdown::AnySignificant => true,
            AutoShutdown::AllSignificant => {
                // One that is being ended by request is as good as ended.
                let alive = |child: &&Child| {
                    child.plan.significant && child.is_active() && child.terminators.is_empty()
                };
                let mut alive = self.children.iter().filter(alive).peekable();
                let none = alive.peek().is_none();
                if !none && alive.all(|child| child.asked.is_some()) {
                    self.overdue = Some((child, reason));
                    return false;
                }
                none
            }
        };
        if !ends {
            return false;
        }
        let kind = SupervisorEventKind::AutoShutdown {
            reason: reason.clone(),
        };
        match self.children.find(&child) {
            Some(at) => self.notice(at, kind),
            None => self.notice_self(kind),
        }
        self.end(ShutdownCause::AutoShutdown { child, reason }, None);
        true
    }
}
