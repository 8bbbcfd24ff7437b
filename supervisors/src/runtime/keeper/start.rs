//! A keeper's work until its child is up: the launch, the wait for readiness, and giving both up.
//!
//! Apart from the rest of the keeper because the user's code runs here, in the keeper's own task, and may
//! hold it up.
//!
//! Invariants: while a launch is polled the record has the keeper, so that another task can go on as it; a
//! start that was given up ends as refused.

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::time::timeout;

use super::{GRACE, Interrupt, Keeper, Minding, Turn, at_once, was_aborted};
use crate::exit::ExitReason;
use crate::runtime::launch::{Launched, Launching, Refusal};
use crate::shutdown::{Parting, StopOrder};

/// How a start went.
pub(super) enum Beginning {
    Up(Keeper, Launched),
    Refused(Keeper, Refusal),
    /// Another task goes on as the keeper.
    Relieved,
}

/// How a launch went.
enum Launch {
    Done(Keeper, Result<Launched, Refusal>),
    Interrupted(Keeper, Left, Interrupt),
    Relieved,
}

/// What there is of a launch that was given up.
enum Left {
    Launching(Launching),
    Launched(Result<Launched, Refusal>),
}
impl Keeper {
    /// Until it is ready.
    pub(super) async fn start(self, launch: Launching, limit: Option<Duration>) -> Beginning {
        let (mut keeper, mut launched) = match self.launch(launch, limit).await {
            Launch::Done(keeper, Ok(launched)) => (keeper, launched),
            Launch::Done(keeper, Err(refusal)) => return Beginning::Refused(keeper, refusal),
            Launch::Interrupted(mut keeper, left, interrupt) => {
                let refusal = Box::pin(keeper.give_up(left, interrupt)).await;
                return Beginning::Refused(keeper, refusal);
            }
            Launch::Relieved => return Beginning::Relieved,
        };
        let turn = poll_fn(|context| {
            keeper.record.wake_at_news(context.waker());
            // A command is left for when it is up.
            if keeper.record.is_ready() {
                return Poll::Ready(None);
            }
            if let Poll::Ready(ended) = Pin::new(&mut launched.join).poll(context) {
                return Poll::Ready(Some(Turn::Ended(was_aborted(ended))));
            }
            let news = keeper.look(context, Some(limit));
            news.map(|interrupt| Some(Turn::Interrupted(interrupt)))
        });
        let Some(turn) = turn.await else {
            return Beginning::Up(keeper, launched);
        };
        // Rare, and larger than all before.
        let refusal = Box::pin(keeper.break_off(launched, turn)).await;
        Beginning::Refused(keeper, refusal)
    }

    /// Until something runs. That is the user's code, which may block this task: meanwhile the record has
    /// the keeper, so that another task can go on as it.
    async fn launch(self, launch: Launching, limit: Option<Duration>) -> Launch {
        let mut hand = Some((self, launch));
        poll_fn(move |context| {
            let Some((mut keeper, mut launch)) = hand.take() else {
                return Poll::Pending;
            };
            let record = keeper.record.clone();
            loop {
                if let Poll::Ready(interrupt) = keeper.look(context, Some(limit)) {
                    let left = Left::Launching(launch);
                    return Poll::Ready(Launch::Interrupted(keeper, left, interrupt));
                }
                match record.lend(keeper) {
                    Ok(()) => break,
                    // It came just now.
                    Err(back) => keeper = back,
                }
            }
            let polled = catch_unwind(AssertUnwindSafe(|| launch.as_mut().poll(context)));
            let polled = polled.unwrap_or_else(|payload| {
                let reason = Arc::new(ExitReason::of_panic(payload));
                Poll::Ready(Err(Refusal::Failed(reason)))
            });
            let Some(keeper) = record.take_back() else {
                if let Poll::Ready(Ok(launched)) = polled {
                    launched.kill();
                }
                return Poll::Ready(Launch::Relieved);
            };
            match polled {
                Poll::Pending => {
                    hand = Some((keeper, launch));
                    Poll::Pending
                }
                Poll::Ready(done) if record.start_cancelled() => {
                    match keeper.look(context, Some(limit)) {
                        Poll::Ready(interrupt) => {
                            let left = Left::Launched(done);
                            Poll::Ready(Launch::Interrupted(keeper, left, interrupt))
                        }
                        Poll::Pending => Poll::Ready(Launch::Done(keeper, done)),
                    }
                }
                Poll::Ready(done) => Poll::Ready(Launch::Done(keeper, done)),
            }
        })
        .await
    }

    /// It does not become ready any more.
    async fn break_off(&mut self, launched: Launched, turn: Turn) -> Refusal {
        let brutal = turn.is_brutal();
        let below = launched
            .supervisor
            .as_ref()
            .map(|(supervisor, _)| supervisor.ledger());
        let (order, text, reason) = match turn {
            Turn::Ended(aborted) => {
                let reason = self.reap(launched, aborted, GRACE).await;
                return Refusal::Failed(Arc::new(reason));
            }
            Turn::Interrupted(Interrupt::Dropping) => {
                let reason = self.let_drop(launched, GRACE).await;
                return Refusal::Failed(Arc::new(reason));
            }
            // Only one that is up is watched.
            Turn::Hung(in_handler) => (at_once(), "".into(), ExitReason::Hung { in_handler }),
            Turn::Interrupted(Interrupt::Command((order, text))) => {
                (order, text, ExitReason::Cancelled)
            }
            Turn::Interrupted(Interrupt::Doom) => (at_once(), "".into(), ExitReason::Cancelled),
            Turn::Interrupted(Interrupt::Overdue(limit)) => {
                // No part of the supervisor's own end, unless that has come meanwhile.
                let order = StopOrder {
                    last: false,
                    ..at_once()
                };
                (order, "".into(), ExitReason::StartTimeout(limit))
            }
        };
        let (mut order, parting, _) = self.end(launched, order, text).await;
        order.last |= self.late_order().is_some_and(|late| late.last);
        self.note(order, parting, brutal, below.as_deref());
        Refusal::Failed(Arc::new(reason))
    }

    /// The factory or `pre_start` takes too long, or is no longer wanted.
    async fn give_up(&mut self, left: Left, interrupt: Interrupt) -> Refusal {
        self.record.cancel_start();
        let (reason, order) = match interrupt {
            Interrupt::Command((order, _)) => (ExitReason::Cancelled, Some(order)),
            Interrupt::Doom | Interrupt::Dropping => (ExitReason::Cancelled, None),
            Interrupt::Overdue(limit) => (ExitReason::StartTimeout(limit), None),
        };
        match left {
            Left::Launching(launch) => {
                // What it holds is the user's, and its drop may take long.
                let dropped = tokio::spawn(async move { drop(launch) });
                let grace = order.map_or(GRACE, |order| order.grace);
                if timeout(grace, dropped).await.is_err() {
                    self.leave_start(order);
                }
            }
            Left::Launched(Ok(launched)) => {
                let (_, parting, _) = self.end(launched, at_once(), "".into()).await;
                if let Some(order) = order {
                    self.note(order, parting, false, None);
                }
            }
            Left::Launched(Err(_)) => {}
        }
        Refusal::Failed(Arc::new(reason))
    }

    /// Goes on as the keeper whose task is held up by a launch that does not yield.
    pub(crate) fn relieve(self, overdue: Option<Duration>) -> Option<Minding> {
        let order = self.record.take_command().map(|(order, _)| order);
        self.leave_start(order);
        let reason = match (order, overdue) {
            (None, Some(limit)) => ExitReason::StartTimeout(limit),
            (Some(_), _) | (None, None) => ExitReason::Cancelled,
        };
        self.refuse(Refusal::Failed(Arc::new(reason)))
    }

    fn leave_start(&self, order: Option<StopOrder>) {
        if let Some(order) = order {
            self.note(order, Parting::Abandoned, false, None);
        }
        tracing::error!(
            target: "supervisors",
            { child.path = %self.record.path() },
            "a start that was given up does not yield"
        );
    }
}
