//! Ctrl-c and SIGTERM: how a program that is a tree is told to end, and what it returns then.
//!
//! Apart from the core, since signals belong to the process and not to a tree: the program takes them
//! over once, at its root, if it wants to (feature `signals`).
//!
//! ```
//! use std::time::Duration;
//! use mainstay_supervisors::signals::{Outcome, Signals};
//! use mainstay_supervisors::{
//!     AutoShutdown, ChildSpec, Restart, ShutdownPlan, Strategy, SupervisorSpec,
//! };
//! # use ractor::{Actor, ActorProcessingErr, ActorRef};
//! # struct Job;
//! # struct Work;
//! # mainstay_supervisors::message!(Work);
//! # #[cfg_attr(feature = "async-trait", ractor::async_trait)]
//! # impl Actor for Job {
//! #     type Msg = Work;
//! #     type State = ();
//! #     type Arguments = ();
//! #     async fn pre_start(&self, myself: ActorRef<Work>, (): ()) -> Result<(), ActorProcessingErr> {
//! #         Ok(myself.stop(None))
//! #     }
//! # }
//!
//! #[tokio::main]
//! async fn main() -> Result<Outcome, Box<dyn std::error::Error>> {
//!     let signals = Signals::install()?;
//!     let tree = SupervisorSpec::new(Strategy::OneForOne)
//!         .auto_shutdown(AutoShutdown::AnySignificant)
//!         .child(
//!             ChildSpec::actor("job", |_| Ok((Job, ())))
//!                 .restart(Restart::Temporary)
//!                 .significant(true),
//!         )
//!         .start()
//!         .await?;
//!     // Until the job is done, or a signal comes.
//!     let outcome = signals.run(tree, ShutdownPlan::within(Duration::from_secs(20))).await;
//!     assert_eq!(outcome.code(), 0);
//!     Ok(outcome)
//! }
//! ```
//!
//! # What to know
//! - tokio replaces the default action of a signal for the rest of the process: from
//!   [`Signals::install`] on, only what is listed here ends the program. So its thread goes on
//!   listening after the tree has ended, and a signal then exits at once.
//! - Choose a total shorter than the grace of whoever sends SIGTERM, which sends SIGKILL next:
//!   Kubernetes and `docker stop` wait 30 s and 10 s by default, systemd 90 s.
//! - A runtime that is dropped waits for threads that never yield. With something
//!   [abandoned](ShutdownReport::abandoned), `main` would not return: call [`Outcome::exit`].
//! - Signals that come faster than they are heard are one, as always on unix.
//!
//! Invariants: signals are counted on a thread of their own, so that neither a start that hangs, nor handlers that
//! block every worker, nor a log that blocks whoever writes to it can keep the third from ending the process: it
//! exits 250 ms after the signal was heard at the latest (what C's `atexit` handlers do is their own affair); nothing
//! but a signal exits the process. Deliberately absent: SIGHUP and SIGQUIT, which keep their default action.

mod listener;

use std::fmt;
use std::io;
use std::process::{ExitCode, Termination};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::future::BoxFuture;
use tokio::sync::watch;

use crate::exit::{ExitReason, ShutdownCause};
use crate::handle::Root;
use crate::shutdown::{ShutdownPlan, ShutdownReport};
use listener::{Stage, listen};

/// Waits until the tree has ended by itself or a signal has ended it, and tells how.
///
/// As [`Signals::install`] and [`Signals::run`]; programs whose trees take time to start install
/// first, so that a signal that comes meanwhile is heard as well.
///
/// Dropping the future drops the root, which kills the tree; the signals stay taken over, and the next one
/// exits the process.
///
/// # Errors
/// When signals cannot be heard. The tree is shut down then.
pub async fn run(root: Root, plan: ShutdownPlan) -> Result<Outcome, InstallError> {
    match Signals::install() {
        Ok(signals) => Ok(signals.run(root, plan).await),
        Err(error) => {
            root.shutdown(plan).await;
            Err(error)
        }
    }
}

/// The process's signals, taken over. Give them a tree with [`run`](Self::run).
#[derive(Debug)]
#[must_use = "without a tree to run, a signal exits the process at once"]
pub struct Signals {
    /// Moved on by the thread that listens, and by the drop of this.
    stage: Arc<watch::Sender<Stage>>,
}

impl Signals {
    /// Takes over ctrl-c and, on unix, SIGTERM. Signals are heard from now on and remembered for
    /// [`run`](Self::run); the third ends the process even before.
    ///
    /// # Errors
    /// When they were taken over before, or the operating system refuses.
    pub fn install() -> Result<Self, InstallError> {
        static INSTALLED: AtomicBool = AtomicBool::new(false);
        if INSTALLED.swap(true, Ordering::SeqCst) {
            return Err(InstallError::Installed);
        }
        let stage = Arc::new(watch::Sender::new(Stage::Quiet));
        listen(stage.clone()).map_err(|source| {
            INSTALLED.store(false, Ordering::SeqCst);
            InstallError::Refused(source)
        })?;
        Ok(Self { stage })
    }

    /// Waits until the tree has ended by itself or by a signal.
    ///
    /// The first signal shuts it down by `plan`, the second kills it, the third exits the process at
    /// once, with 130 for ctrl-c and 143 for SIGTERM.
    ///
    /// Dropping the future drops the root, which kills the tree; the signals stay taken over, and the next one
    /// exits the process.
    pub async fn run(self, root: Root, plan: ShutdownPlan) -> Outcome {
        let mut stages = self.stage.subscribe();
        let mut seen = Stage::Quiet;
        let mut ending: BoxFuture<'_, ShutdownReport> = Box::pin(async {
            root.wait().await;
            // Joins what is over: the report is all it does.
            root.shutdown(plan.clone()).await
        });
        let report = loop {
            let next = async {
                match stages.wait_for(|stage| *stage != seen).await {
                    Ok(stage) => *stage,
                    Err(_) => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                report = &mut ending => break report,
                stage = next => seen = stage,
            }
            let plan = match seen {
                Stage::Quiet | Stage::Over => continue,
                Stage::Stopping(_) => plan.clone(),
                Stage::Killing(_) => ShutdownPlan::at_once().reason(plan.reason.clone()),
            };
            // The one before goes on where it was; nobody needs to wait for it twice.
            ending = Box::pin(root.shutdown(plan));
        };
        Outcome {
            report,
            reason: root.wait().await,
            signal: self.stage.borrow().signal(),
        }
    }
}

/// Nobody is left who would act upon a signal.
impl Drop for Signals {
    fn drop(&mut self) {
        self.stage.send_replace(Stage::Over);
    }
}

/// How a tree under [`Signals::run`] ended. Return it from `main`, or call [`exit`](Self::exit).
#[derive(Debug, Clone)]
#[non_exhaustive]
#[must_use = "return it from `main`, so that whoever started the program learns how it ended"]
pub struct Outcome {
    /// What the shutdown came to.
    pub report: ShutdownReport,
    /// How the root ended.
    pub reason: Arc<ExitReason>,
    /// The last signal that came before the end; `None` when the tree ended by itself.
    pub signal: Option<Signal>,
}

impl Outcome {
    /// What the program should return.
    ///
    /// - 0: the tree ended in good order, by itself or by a signal. systemd and Kubernetes take that
    ///   as success.
    /// - 128 + the signal's number, as shells tell a death by a signal: because of one, and some
    ///   descendants had to be killed or were abandoned, beyond those whose spec asks for a kill.
    /// - 1: the tree failed by itself, also when a signal came on top: exhausted restarts, an
    ///   escalation, a significant child that failed; or it was killed without a signal.
    #[must_use]
    pub fn code(&self) -> u8 {
        match (Manner::of(&self.reason), self.signal) {
            (Manner::Failed, _) => 1,
            (Manner::Orderly, _) if self.report.is_clean() => 0,
            (Manner::Orderly | Manner::Torn, Some(signal)) => signal.code(),
            (Manner::Orderly | Manner::Torn, None) => 1,
        }
    }

    /// [`code`](Self::code), as `main` returns it.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.code())
    }

    /// Ends the process now, without waiting for anything that was abandoned. Nothing else is
    /// dropped either.
    pub fn exit(&self) -> ! {
        std::process::exit(self.code().into())
    }
}

impl Termination for Outcome {
    fn report(self) -> ExitCode {
        self.exit_code()
    }
}

/// What an end of the root is to those outside.
enum Manner {
    Orderly,
    /// It gave up by itself.
    Failed,
    /// Somebody else ended it, and not gently.
    Torn,
}

impl Manner {
    fn of(reason: &ExitReason) -> Self {
        match reason {
            ExitReason::Ended(cause) => match cause {
                ShutdownCause::Requested => Self::Orderly,
                ShutdownCause::AutoShutdown { reason, .. } if reason.is_normal() => Self::Orderly,
                ShutdownCause::AutoShutdown { .. }
                | ShutdownCause::Exhausted { .. }
                | ShutdownCause::Escalated { .. }
                | ShutdownCause::StartFailed { .. } => Self::Failed,
            },
            ExitReason::Stopped { .. } | ExitReason::Drained => Self::Orderly,
            ExitReason::Failed(_)
            | ExitReason::Panicked(_)
            | ExitReason::StartFailed(_)
            | ExitReason::StartTimeout(_)
            | ExitReason::Hung { .. } => Self::Failed,
            ExitReason::Killed
            | ExitReason::Cancelled
            | ExitReason::Abandoned
            | ExitReason::NoProcess
            | ExitReason::Unobserved => Self::Torn,
        }
    }
}

/// A signal that asks a program to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Signal {
    /// SIGINT, which is what ctrl-c sends.
    Interrupt,
    /// SIGTERM, which is what `kill`, systemd and Kubernetes send.
    Terminate,
}

impl Signal {
    /// 128 + its number, as shells tell a death by a signal.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Interrupt => 130,
            Self::Terminate => 143,
        }
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Interrupt => "SIGINT",
            Self::Terminate => "SIGTERM",
        })
    }
}

/// Why signals are not heard.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InstallError {
    /// Some other part of the program has them.
    #[error(
        "ctrl-c and SIGTERM were taken over before; take them over once, at the root of the program"
    )]
    Installed,
    /// The operating system does not let us.
    #[error(
        "cannot listen for ctrl-c and SIGTERM; mend what the source names, or do without `signals`"
    )]
    Refused(#[source] io::Error),
}

#[cfg(test)]
mod tests {
    use super::Signal::{Interrupt, Terminate};
    use super::*;
    use crate::id::SupervisorPath;

    fn outcome(reason: ExitReason, killed: usize, signal: Option<Signal>) -> u8 {
        let report = ShutdownReport {
            killed: vec![SupervisorPath::root("a"); killed],
            ..ShutdownReport::default()
        };
        let reason = Arc::new(reason);
        Outcome {
            report,
            reason,
            signal,
        }
        .code()
    }

    fn exhausted() -> ExitReason {
        ExitReason::Ended(ShutdownCause::Exhausted {
            child: "a".into(),
            reason: Arc::new(ExitReason::Killed),
        })
    }

    fn done(reason: ExitReason) -> ExitReason {
        ExitReason::Ended(ShutdownCause::AutoShutdown {
            child: "a".into(),
            reason: Arc::new(reason),
        })
    }

    #[test]
    fn an_end_in_good_order_is_a_success_with_and_without_a_signal() {
        let requested = || ExitReason::Ended(ShutdownCause::Requested);
        assert_eq!(outcome(requested(), 0, None), 0);
        assert_eq!(outcome(requested(), 0, Some(Terminate)), 0);
        assert_eq!(
            outcome(done(ExitReason::Stopped { reason: None }), 0, None),
            0
        );
    }

    #[test]
    fn an_end_by_a_signal_that_cost_somebody_is_told_as_shells_do() {
        let requested = || ExitReason::Ended(ShutdownCause::Requested);
        assert_eq!(outcome(requested(), 1, Some(Terminate)), 143);
        assert_eq!(outcome(ExitReason::Killed, 0, Some(Interrupt)), 130);
        assert_eq!(outcome(ExitReason::Abandoned, 0, Some(Interrupt)), 130);
    }

    #[test]
    fn a_tree_that_failed_is_a_failure_whether_or_not_a_signal_came() {
        assert_eq!(outcome(exhausted(), 0, None), 1);
        assert_eq!(outcome(exhausted(), 0, Some(Terminate)), 1);
        assert_eq!(outcome(done(ExitReason::Killed), 0, None), 1);
        assert_eq!(outcome(ExitReason::Killed, 1, None), 1);
    }

    #[test]
    fn children_whose_spec_asks_for_a_kill_do_not_count() {
        let report = ShutdownReport {
            killed: vec![SupervisorPath::root("a")],
            killed_by_spec: 1,
            ..ShutdownReport::default()
        };
        let outcome = Outcome {
            report,
            reason: Arc::new(ExitReason::Ended(ShutdownCause::Requested)),
            signal: Some(Terminate),
        };
        assert_eq!(outcome.code(), 0);
    }
}
