//! A keeper's work from the order to end until nothing of its child is left.
//!
//! Its own file because it is all waiting, each time with another limit.
//!
//! Invariants: stop, kill, abandon, in this order and each once; an order only ever becomes tighter; what is left
//! when a task has ended is waited for as well, descendants without a limit, since their keepers have theirs.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinError;
use tokio::time::{Instant, timeout};

use super::{GRACE, Interrupt, Keeper};
use crate::exit::ExitReason;
use crate::runtime::launch::{Launched, Remains};
use crate::shutdown::{Parting, StopOrder};

impl Keeper {
    /// Ends it by the order: stop, kill, abandon. The order may have become a tighter one on the way.
    pub(super) async fn end(
        &mut self,
        mut launched: Launched,
        mut order: StopOrder,
        text: Arc<str>,
    ) -> (StopOrder, Parting, ExitReason) {
        let began = Instant::now();
        let mut killed = order.patience == Some(Duration::ZERO);
        if drains(&launched, order) {
            self.record.leave();
        }
        if !killed {
            request(&launched, order, &text);
        }
        while !killed {
            let limit = order
                .patience
                .map(|patience| (later(began, patience), patience));
            tokio::select! {
                biased;
                ended = &mut launched.join => {
                    let limit = order.left(began.elapsed()).min(GRACE);
                    self.record.note_told(told(&launched, order, &text));
                    let reason = self.reap(launched, was_aborted(ended), limit).await;
                    return (order, Parting::Graceful, reason);
                }
                interrupt = self.interrupt(limit) => match interrupt {
                    Interrupt::Command((tighter, _)) => {
                        order = order.tightened(tighter, began.elapsed());
                        killed = tighter.patience == Some(Duration::ZERO);
                        if !killed {
                            request(&launched, order, &text);
                        }
                    }
                    Interrupt::Dropping => {
                        let limit = order.left(began.elapsed()).min(GRACE);
                        self.record.note_told(told(&launched, order, &text));
                        let reason = self.let_drop(launched, limit).await;
                        return (order, Parting::Graceful, reason);
                    }
                    Interrupt::Doom | Interrupt::Overdue(_) => killed = true,
                }
            }
        }
        if let Some((supervisor, _)) = &launched.supervisor {
            // It may be unable to take its children along.
            supervisor.doom();
        }
        launched.kill();
        match timeout(order.grace, &mut launched.join).await {
            Ok(_) => {
                // That it was aborted is our doing.
                let limit = order.left(began.elapsed()).min(GRACE);
                let reason = match self.reap(launched, false, limit).await {
                    // Nobody else knows, but it was us.
                    ExitReason::Unobserved => ExitReason::Killed,
                    reason => reason,
                };
                (order, Parting::Killed, reason)
            }
            Err(_) => (order, Parting::Abandoned, ExitReason::Abandoned),
        }
    }

    /// Only the drop of its state is left in the task: a user's code, which may take long.
    pub(super) async fn let_drop(&self, mut launched: Launched, limit: Duration) -> ExitReason {
        let mut aborted = false;
        let dropping = async {
            aborted = was_aborted((&mut launched.join).await);
        };
        self.bury(dropping, limit).await;
        // It was waited for, with or without success.
        launched.remains = Remains::Nothing;
        self.reap(launched, aborted, limit).await
    }

    /// The task has ended: waits until the state and all descendants are gone as well.
    pub(super) async fn reap(
        &self,
        launched: Launched,
        aborted: bool,
        limit: Duration,
    ) -> ExitReason {
        self.record.leave();
        match launched.remains {
            Remains::Nothing => {}
            Remains::Foreign(sighted) => {
                if let Some(remainder) = sighted.remainder(limit).await {
                    let dropping = tokio::spawn(async move { drop(remainder) });
                    self.bury(dropping, limit).await;
                }
                self.record.note_unobserved();
            }
            Remains::Vault if self.record.is_full() => {
                self.bury(self.record.emptied(), limit).await;
            }
            Remains::Vault => {}
        }
        if let Some((supervisor, census)) = launched.supervisor {
            supervisor.doom();
            // Keepers abandon what does not die, so this ends. Nothing is ever sent: the token is dropped.
            let _ = census.await;
        }
        self.record.verdict(aborted)
    }

    /// Waits until a state is gone, which is dropped in another task: that is the user's code, and may
    /// panic or take long.
    async fn bury(&self, dropping: impl Future<Output = impl Sized>, limit: Duration) {
        if timeout(limit, dropping).await.is_err() {
            tracing::warn!(
                target: "supervisors",
                { child.path = %self.record.path() },
                "the state of an ended child is still being dropped"
            );
        }
    }
}

/// The order that a doomed supervisor's children get.
pub(super) fn at_once() -> StopOrder {
    StopOrder {
        last: true,
        drain: false,
        patience: Some(Duration::ZERO),
        grace: GRACE,
        deadline: None,
    }
}

pub(super) fn was_aborted(ended: Result<(), JoinError>) -> bool {
    ended.is_err_and(|error| error.is_cancelled())
}

fn later(began: Instant, patience: Duration) -> Instant {
    Instant::from_std(crate::time::later(began.into_std(), patience))
}

/// Whether it has a mailbox to be worked off, and is to.
fn drains(launched: &Launched, order: StopOrder) -> bool {
    order.drain && launched.supervisor.is_none() && launched.process.cell().is_some()
}

/// What ractor says of the end that was asked for.
fn told<'a>(launched: &Launched, order: StopOrder, text: &'a str) -> &'a str {
    if drains(launched, order) {
        "Drained"
    } else {
        text
    }
}

fn request(launched: &Launched, order: StopOrder, text: &Arc<str>) {
    match &launched.supervisor {
        Some((supervisor, _)) => supervisor.end_by(order.deadline, text.clone()),
        None if order.drain => launched.process.drain(text),
        // One-shot: a second request changes nothing, which is what it should do.
        None => launched.process.stop(text),
    }
}
