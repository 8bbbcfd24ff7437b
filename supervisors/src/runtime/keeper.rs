//! The keeper: one task that minds one incarnation from its start until nothing of it is left.
//!
//! ```text
//! launching → readying → up → ending → reaping      each may be cut short by a command, the start
//!     └──────────┴──────── refused ──────┘          timeout, or the doom of the supervisor
//! ```
//!
//! It exists so that the supervisor never waits: everything that takes time is awaited here.
//!
//! Invariants: it reports `Started` at most once, and exactly one of `Refused` and `Exited`, when the
//! task has ended, the state is dropped and no descendant is left, or when the grace for that has passed:
//! a child that does not die is abandoned, a start that does not yield and a drop that takes too long are
//! logged; it runs the user's code only while it launches, and is lent to the record meanwhile, so that
//! another task can go on as it; each of its waits has a limit, except those the spec asks for.

mod ending;
mod start;

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::oneshot;
use tokio::time::Instant;

use ending::{at_once, was_aborted};
use start::Beginning;

use crate::exit::ExitReason;
use crate::handle::SupervisorRef;
use crate::runtime::household::{Enrolment, Household, Ledger};
use crate::runtime::inbox::Letter;
use crate::runtime::launch::{Launched, Launching, Refusal, Remains};
use crate::runtime::record::{Command, Obituary, Record};
use crate::shutdown::{Parting, StopOrder};

/// How long something that was killed or given up may take to go.
pub(crate) const GRACE: Duration = Duration::from_secs(1);

/// Who hears of the incarnation.
pub(crate) enum Reports {
    /// The supervisor whose child it is.
    Supervisor(Arc<Household>),
    /// Whoever starts the top of a tree.
    Starter(Option<oneshot::Sender<Result<SupervisorRef, Refusal>>>),
}

/// How long an incarnation may take for what.
#[derive(Clone, Copy, Default)]
pub(crate) struct Limits {
    pub(crate) start: Option<Duration>,
    pub(crate) watchdog: Option<Duration>,
}

pub(crate) struct Keeper {
    pub(crate) record: Arc<Record>,
    /// Comes when the supervisor is gone and nothing may outlive it.
    pub(crate) doom: Enrolment,
    pub(crate) reports: Reports,
}

/// What interrupts a keeper.
enum Interrupt {
    Command(Command),
    Doom,
    Overdue(Duration),
    /// The actor's task is at its end, but for the drop of the state.
    Dropping,
}

/// How the time of an incarnation that was up came to its end.
enum Turn {
    /// The task has ended by itself; whether it was aborted.
    Ended(bool),
    Interrupted(Interrupt),
    /// A callback has been running for so long, too long.
    Hung(Duration),
}

impl Turn {
    /// Whether it is an order to kill that the spec asks for.
    fn is_brutal(&self) -> bool {
        matches!(self, Self::Interrupted(Interrupt::Command((order, _))) if order.is_brutal())
    }
}

/// A keeper at work.
///
/// Written out, because tens of thousands may be at rest at once: one that is takes no more than a task
/// takes anyway, and one box.
pub(crate) struct Minding(Stage);

enum Stage {
    /// Before the child is up, and from its end on.
    Busy(BoxFuture<'static, Stage>),
    Resting(Box<Rest>),
    Done,
}

impl Stage {
    /// What a keeper goes on as that is done with its incarnation: the next one needs a keeper too.
    fn after(next: Option<Minding>) -> Self {
        next.map_or(Self::Done, |Minding(stage)| stage)
    }
}

/// The child is up.
struct Rest {
    keeper: Keeper,
    launched: Launched,
    /// Few are watched.
    watching: Option<BoxFuture<'static, Duration>>,
}

impl Rest {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Turn> {
        if let Poll::Ready(ended) = Pin::new(&mut self.launched.join).poll(context) {
            return Poll::Ready(Turn::Ended(was_aborted(ended)));
        }
        if let Some(watching) = &mut self.watching
            && let Poll::Ready(age) = watching.as_mut().poll(context)
        {
            return Poll::Ready(Turn::Hung(age));
        }
        self.keeper.look(context, None).map(Turn::Interrupted)
    }

    /// Whether nothing is left of a child whose task has ended, as is the rule.
    fn is_over(&self) -> bool {
        let gone = match self.launched.remains {
            Remains::Nothing => true,
            Remains::Vault => !self.keeper.record.is_full(),
            Remains::Foreign(_) => false,
        };
        gone && self.launched.supervisor.is_none()
    }

    fn bow_out(&mut self, aborted: bool) -> Stage {
        let keeper = &mut self.keeper;
        keeper.record.leave();
        let reason = keeper.record.verdict(aborted);
        keeper.note_own_end(&reason, None);
        Stage::after(keeper.exited(Parting::Graceful, reason))
    }

    async fn end(self: Box<Self>, turn: Turn) -> Stage {
        let Self {
            keeper, launched, ..
        } = *self;
        Stage::after(keeper.finish(launched, turn).await)
    }
}

impl Future for Minding {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        // What is left of an incarnation is cleared away when the next one has been launched.
        let mut over = None;
        loop {
            match &mut self.0 {
                Stage::Busy(work) => self.0 = ready!(work.as_mut().poll(context)),
                Stage::Resting(rest) => {
                    let turn = ready!(rest.poll(context));
                    if let Stage::Resting(rest) = std::mem::replace(&mut self.0, Stage::Done) {
                        self.0 = match turn {
                            Turn::Ended(aborted) if rest.is_over() => {
                                over.insert(rest).bow_out(aborted)
                            }
                            turn => Stage::Busy(Box::pin(rest.end(turn))),
                        };
                    }
                }
                Stage::Done => return Poll::Ready(()),
            }
        }
    }
}

impl Keeper {
    pub(crate) fn mind(self, launch: Launching, limits: Limits) -> Minding {
        Minding(Stage::Busy(Box::pin(async move {
            match self.start(launch, limits.start).await {
                Beginning::Up(mut keeper, launched) => {
                    keeper.started(&launched);
                    let record = &keeper.record;
                    let watching = limits.watchdog.map(|limit| watch(record.clone(), limit));
                    Stage::Resting(Box::new(Rest {
                        keeper,
                        launched,
                        watching,
                    }))
                }
                Beginning::Refused(keeper, refusal) => Stage::after(keeper.refuse(refusal)),
                Beginning::Relieved => Stage::Done,
            }
        })))
    }

    /// What is left to do for one that was up.
    async fn finish(mut self, launched: Launched, turn: Turn) -> Option<Minding> {
        let brutal = turn.is_brutal();
        let below = launched
            .supervisor
            .as_ref()
            .map(|(supervisor, _)| supervisor.ledger());
        let (order, text) = match turn {
            Turn::Ended(aborted) => {
                let reason = self.reap(launched, aborted, GRACE).await;
                self.note_own_end(&reason, below.as_deref());
                return self.exited(Parting::Graceful, reason);
            }
            Turn::Interrupted(Interrupt::Dropping) => {
                let reason = self.let_drop(launched, GRACE).await;
                self.note_own_end(&reason, below.as_deref());
                return self.exited(Parting::Graceful, reason);
            }
            Turn::Hung(in_handler) => {
                let (_, parting, _) = self.end(launched, at_once(), "".into()).await;
                if let Some(order) = self.late_order() {
                    self.note(order, parting, false, below.as_deref());
                }
                return self.exited(parting, ExitReason::Hung { in_handler });
            }
            Turn::Interrupted(Interrupt::Command(command)) => command,
            Turn::Interrupted(Interrupt::Doom | Interrupt::Overdue(_)) => (at_once(), "".into()),
        };
        let (mut order, parting, reason) = self.end(launched, order, text).await;
        order.last |= self.late_order().is_some_and(|late| late.last);
        self.note(order, parting, brutal, below.as_deref());
        self.exited(parting, reason)
    }

    /// An order that came when there was nothing left to be ordered; or the one that everybody has when the
    /// supervisor is lost. It says whether the end belongs to the supervisor's own.
    fn late_order(&self) -> Option<StopOrder> {
        let commanded = self.record.take_command().map(|(order, _)| order);
        commanded.or_else(|| self.doom.has_come().then(at_once))
    }

    /// Notes an end that came by itself, if it falls into the supervisor's own.
    fn note_own_end(&self, reason: &ExitReason, below: Option<&Ledger>) {
        if let Some(order) = self.late_order() {
            let killed = self.doom.has_come() && matches!(reason, ExitReason::Killed);
            let parting = match killed {
                true => Parting::Killed,
                false => Parting::Graceful,
            };
            self.note(order, parting, false, below);
        }
    }

    /// Waits for whatever cuts the present stage short.
    async fn interrupt(&self, deadline: Option<(Instant, Duration)>) -> Interrupt {
        let mut alarm = deadline.map(|(at, limit)| (Box::pin(tokio::time::sleep_until(at)), limit));
        poll_fn(|context| {
            if let Poll::Ready(interrupt) = self.look(context, None) {
                return Poll::Ready(interrupt);
            }
            match &mut alarm {
                Some((alarm, limit)) => {
                    let overdue = Interrupt::Overdue(*limit);
                    alarm.as_mut().poll(context).map(|()| overdue)
                }
                None => Poll::Pending,
            }
        })
        .await
    }

    /// Looks at what is new on the desk, which may be that the start takes longer than this.
    fn look(&self, context: &mut Context<'_>, start: Option<Option<Duration>>) -> Poll<Interrupt> {
        self.record.wake_at_news(context.waker());
        if let Some(command) = self.record.take_command() {
            Poll::Ready(Interrupt::Command(command))
        } else if self.record.is_dropping() {
            Poll::Ready(Interrupt::Dropping)
        } else if self.doom.has_come() {
            Poll::Ready(Interrupt::Doom)
        } else if let Some(Some(limit)) = start
            && self.record.is_overdue()
        {
            Poll::Ready(Interrupt::Overdue(limit))
        } else {
            Poll::Pending
        }
    }

    fn started(&mut self, launched: &Launched) {
        match &mut self.reports {
            Reports::Supervisor(household) => {
                let next = household.report(Letter::Started {
                    child: self.record.id.clone(),
                    generation: self.record.generation,
                    cell: launched.process.cell().cloned(),
                });
                if let Some(next) = next {
                    tokio::spawn(next);
                }
            }
            Reports::Starter(starter) => {
                if let (Some(starter), Some((supervisor, _))) =
                    (starter.take(), &launched.supervisor)
                    && starter.send(Ok(supervisor.clone())).is_err()
                {
                    // Whoever started it no longer waits, and nobody else can end it.
                    supervisor.doom();
                    launched.kill();
                }
            }
        }
    }

    fn refuse(self, refusal: Refusal) -> Option<Minding> {
        let closing = match &refusal {
            Refusal::Ignored | Refusal::Postponed(_) => Arc::new(ExitReason::NoProcess),
            Refusal::Failed(reason) => reason.clone(),
        };
        let refusal = match refusal {
            Refusal::Failed(reason) => Refusal::Failed(match *reason {
                ExitReason::StartTimeout(_) => reason,
                _ => Arc::new(ExitReason::StartFailed(reason)),
            }),
            other => other,
        };
        self.record.close(&closing);
        match self.reports {
            Reports::Supervisor(household) => household.report(Letter::Refused {
                child: self.record.id.clone(),
                generation: self.record.generation,
                refusal,
            }),
            Reports::Starter(starter) => {
                if let Some(starter) = starter {
                    // Nobody waits: then nobody needs to know.
                    let _ = starter.send(Err(refusal));
                }
                None
            }
        }
    }

    fn exited(&mut self, parting: Parting, reason: ExitReason) -> Option<Minding> {
        self.doom.note_reported();
        let obituary = Obituary {
            record: self.record.clone(),
            reason: Arc::new(reason),
        };
        match &self.reports {
            Reports::Supervisor(household) => household.report(Letter::Exited {
                child: self.record.id.clone(),
                generation: self.record.generation,
                parting,
                obituary,
            }),
            Reports::Starter(_) => {
                drop(obituary);
                None
            }
        }
    }

    fn note(&self, order: StopOrder, parting: Parting, brutal: bool, below: Option<&Ledger>) {
        if let (true, Reports::Supervisor(household)) = (order.last, &self.reports) {
            if let Some(below) = below {
                household.ledger.absorb(below);
            }
            household.ledger.note(&self.record, parting, brutal);
        }
    }
}

/// Waits until one callback has taken too long. Looks at what the actor notes anyway, twice per limit
/// while it is idle and when the present callback would be too old.
fn watch(record: Arc<Record>, limit: Duration) -> BoxFuture<'static, Duration> {
    Box::pin(async move {
        loop {
            let next = match record.meter().handler_age {
                Some(age) if age >= limit => return age,
                Some(age) => (limit - age).min(limit / 2),
                None => limit / 2,
            };
            tokio::time::sleep(next.max(Duration::from_millis(1))).await;
        }
    })
}
