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
//! task has ended, the state is dropped and no descendant is left, or when it was abandoned; it runs
//! no code of the user's itself; each of its waits has a limit, except those the spec asks for.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use crate::exit::ExitReason;
use crate::handle::SupervisorRef;
use crate::runtime::inbox::{Inbox, Letter};
use crate::runtime::launch::{Launched, Refusal, Remains};
use crate::runtime::record::{Obituary, Record, lock};
use crate::shutdown::{Parting, ShutdownReport, StopOrder};
use crate::time::from_now;

/// How long something that was killed or given up may take to go.
const GRACE: Duration = Duration::from_secs(1);

/// What a keeper can be told.
#[derive(Debug, Clone)]
pub(crate) enum Command {
    /// End it so; the text is for the actor.
    Stop(StopOrder, Arc<str>),
}

/// Ends when every token was dropped: when all keepers of a supervisor are done.
pub(crate) type Census = mpsc::Receiver<()>;
/// Held by each keeper of a supervisor.
pub(crate) type Token = mpsc::Sender<()>;

/// What becomes of a supervisor's descendants at its end.
#[derive(Debug, Default)]
pub(crate) struct Ledger(Mutex<ShutdownReport>);

impl Ledger {
    fn note(&self, record: &Record, parting: Parting) {
        let mut report = lock(&self.0);
        match parting {
            Parting::Graceful => report.graceful += 1,
            Parting::Killed => report.killed.push(record.path.clone()),
            Parting::Abandoned => report.abandoned.push(record.path.clone()),
        }
    }

    fn absorb(&self, below: &Self) {
        let below = below.report();
        let mut report = lock(&self.0);
        report.graceful += below.graceful;
        report.killed.extend(below.killed);
        report.abandoned.extend(below.abandoned);
    }

    pub(crate) fn report(&self) -> ShutdownReport {
        lock(&self.0).clone()
    }
}

/// Who hears of the incarnation.
pub(crate) enum Reports {
    /// The supervisor whose child it is.
    Supervisor {
        inbox: Inbox,
        ledger: Arc<Ledger>,
        _token: Token,
    },
    /// Whoever starts the top of a tree.
    Starter(Option<oneshot::Sender<Result<SupervisorRef, Refusal>>>),
}

pub(crate) struct Keeper {
    pub(crate) record: Arc<Record>,
    pub(crate) start_timeout: Option<Duration>,
    pub(crate) commands: mpsc::UnboundedReceiver<Command>,
    /// Set when the supervisor is gone and nothing may outlive it.
    pub(crate) doom: watch::Receiver<bool>,
    pub(crate) reports: Reports,
}

/// What interrupts a keeper.
enum Interrupt {
    Command(Command),
    Doom,
    Overdue(Duration),
}

impl Keeper {
    pub(crate) async fn mind(
        mut self,
        launch: BoxFuture<'static, Result<Launched, Refusal>>,
        mut ready: oneshot::Receiver<()>,
    ) {
        let deadline = self.start_timeout.map(|limit| (from_now(limit), limit));
        let mut task = tokio::spawn(launch);
        let launched = tokio::select! {
            biased;
            done = &mut task => done,
            interrupt = self.interrupt(deadline) => return self.give_up(task, interrupt).await,
        };
        let mut launched = match launched {
            Ok(Ok(launched)) => launched,
            Ok(Err(refusal)) => return self.refuse(refusal),
            Err(error) => {
                let reason = if error.is_cancelled() {
                    ExitReason::Cancelled
                } else {
                    ExitReason::Failed(Arc::new(error))
                };
                return self.refuse(Refusal::Failed(Arc::new(reason)));
            }
        };

        tokio::select! {
            biased;
            Ok(()) = &mut ready => {}
            ended = &mut launched.join => {
                let reason = self.reap(launched, ended.is_err_and(|error| error.is_cancelled())).await;
                return self.refuse(Refusal::Failed(Arc::new(reason)));
            }
            interrupt = self.interrupt(deadline) => {
                let (order, text, reason) = match interrupt {
                    Interrupt::Command(Command::Stop(order, text)) => {
                        (order, text, ExitReason::Cancelled)
                    }
                    Interrupt::Doom => (at_once(), "".into(), ExitReason::Cancelled),
                    Interrupt::Overdue(limit) => {
                        (at_once(), "".into(), ExitReason::StartTimeout(limit))
                    }
                };
                let (parting, _) = self.end(launched, order, text).await;
                self.note(order, parting);
                return self.refuse(Refusal::Failed(Arc::new(reason)));
            }
        }
        self.started(&launched);

        let (order, text) = tokio::select! {
            biased;
            ended = &mut launched.join => {
                let reason = self.reap(launched, ended.is_err_and(|error| error.is_cancelled())).await;
                return self.exited(Parting::Graceful, reason);
            }
            interrupt = self.interrupt(None) => match interrupt {
                Interrupt::Command(Command::Stop(order, text)) => (order, text),
                Interrupt::Doom | Interrupt::Overdue(_) => (at_once(), "".into()),
            }
        };
        let below = launched
            .supervisor
            .as_ref()
            .map(|(supervisor, _)| supervisor.ledger());
        let (parting, reason) = self.end(launched, order, text).await;
        if order.last
            && let (Some(below), Reports::Supervisor { ledger, .. }) = (below, &self.reports)
        {
            ledger.absorb(&below);
        }
        self.note(order, parting);
        self.exited(parting, reason);
    }

    /// Waits for whatever cuts the present stage short.
    async fn interrupt(&mut self, deadline: Option<(Instant, Duration)>) -> Interrupt {
        let overdue = async {
            match deadline {
                Some((at, limit)) => {
                    tokio::time::sleep_until(at).await;
                    limit
                }
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            command = self.commands.recv() => match command {
                Some(command) => Interrupt::Command(command),
                None => Interrupt::Doom,
            },
            // A sender that is gone without a word means the same.
            _ = self.doom.wait_for(|doomed| *doomed) => Interrupt::Doom,
            limit = overdue => Interrupt::Overdue(limit),
        }
    }

    /// The factory or `pre_start` takes too long, or is no longer wanted.
    async fn give_up(
        mut self,
        mut task: JoinHandle<Result<Launched, Refusal>>,
        interrupt: Interrupt,
    ) {
        self.record.cancel_start();
        task.abort();
        let (reason, order) = match interrupt {
            Interrupt::Command(Command::Stop(order, _)) => (ExitReason::Cancelled, Some(order)),
            Interrupt::Doom => (ExitReason::Cancelled, None),
            Interrupt::Overdue(limit) => (ExitReason::StartTimeout(limit), None),
        };
        let grace = order.map_or(GRACE, |order| order.grace);
        let reason = match timeout(grace, &mut task).await {
            // It made it in the last moment.
            Ok(Ok(Ok(launched))) => {
                let (parting, _) = self.end(launched, at_once(), "".into()).await;
                if let Some(order) = order {
                    self.note(order, parting);
                }
                reason
            }
            Ok(Ok(Err(_)) | Err(_)) => reason,
            Err(_) => {
                if let Some(order) = order {
                    self.note(order, Parting::Abandoned);
                }
                tracing::error!(
                                    target: "supervisors",
                { child.path = %self.record.path },
                "a start that was given up does not yield"
                );
                reason
            }
        };
        self.refuse(Refusal::Failed(Arc::new(reason)));
    }

    /// Ends it by the order: stop, kill, abandon.
    async fn end(
        &mut self,
        mut launched: Launched,
        order: StopOrder,
        text: Arc<str>,
    ) -> (Parting, ExitReason) {
        let began = Instant::now();
        let mut order = order;
        let mut killed = order.patience == Some(Duration::ZERO);
        if !killed {
            request(&launched, order, &text);
        }
        while !killed {
            let limit = order.patience.map(|patience| (began + patience, patience));
            tokio::select! {
                biased;
                ended = &mut launched.join => {
                    let cancelled = ended.is_err_and(|error| error.is_cancelled());
                    return (Parting::Graceful, self.reap(launched, cancelled).await);
                }
                interrupt = self.interrupt(limit) => match interrupt {
                    Interrupt::Command(Command::Stop(tighter, _)) => {
                        let since = began.elapsed();
                        order = StopOrder {
                            patience: tighter.patience.map(|patience| since + patience),
                            ..tighter
                        };
                        request(&launched, order, &text);
                    }
                    Interrupt::Doom | Interrupt::Overdue(_) => killed = true,
                }
            }
        }
        if let Some((supervisor, _)) = &launched.supervisor {
            // It may be unable to take its children along.
            supervisor.doom();
        }
        launched.process.kill();
        match timeout(order.grace, &mut launched.join).await {
            Ok(ended) => {
                let cancelled = ended.is_err_and(|error| error.is_cancelled());
                let reason = match self.reap(launched, cancelled).await {
                    // Nobody else knows, but it was us.
                    ExitReason::Unobserved => ExitReason::Killed,
                    reason => reason,
                };
                (Parting::Killed, reason)
            }
            Err(_) => (Parting::Abandoned, ExitReason::Abandoned),
        }
    }

    /// The task has ended: waits until the state and all descendants are gone as well.
    async fn reap(&self, launched: Launched, cancelled: bool) -> ExitReason {
        self.record.leave();
        match launched.remains {
            Remains::Nothing => {}
            Remains::Foreign(sighted) => {
                if let Some(remainder) = sighted.remainder().await {
                    self.bury(async move { drop(remainder) }).await;
                }
                self.record.note_unobserved();
            }
            Remains::Vault(contents) => self.bury(async move { contents.empty() }).await,
        }
        if let Some((supervisor, mut census)) = launched.supervisor {
            supervisor.doom();
            // Keepers abandon what does not die, so this ends.
            while census.recv().await.is_some() {}
        }
        self.record.verdict(cancelled)
    }

    /// Has the state dropped, in a task of its own: that is the user's code, and may panic or take
    /// long.
    async fn bury(&self, dropping: impl Future<Output = ()> + Send + 'static) {
        if timeout(GRACE, tokio::spawn(dropping)).await.is_err() {
            tracing::warn!(
                target: "supervisors",
                { child.path = %self.record.path },
                "the state of an ended child is still being dropped"
            );
        }
    }

    fn started(&mut self, launched: &Launched) {
        match &mut self.reports {
            Reports::Supervisor { inbox, .. } => inbox.put(Letter::Started {
                child: self.record.id.clone(),
                generation: self.record.generation,
                cell: launched.process.cell().cloned(),
            }),
            Reports::Starter(starter) => {
                if let (Some(starter), Some((supervisor, _))) =
                    (starter.take(), &launched.supervisor)
                    && starter.send(Ok(supervisor.clone())).is_err()
                {
                    // Whoever started it no longer waits, and nobody else can end it.
                    supervisor.doom();
                    launched.process.kill();
                }
            }
        }
    }

    fn refuse(self, refusal: Refusal) {
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
            Reports::Supervisor { inbox, .. } => inbox.put(Letter::Refused {
                child: self.record.id.clone(),
                generation: self.record.generation,
                refusal,
            }),
            Reports::Starter(starter) => {
                if let Some(starter) = starter {
                    // Nobody waits: then nobody needs to know.
                    let _ = starter.send(Err(refusal));
                }
            }
        }
    }

    fn exited(self, parting: Parting, reason: ExitReason) {
        let obituary = Obituary {
            record: self.record.clone(),
            reason: Arc::new(reason),
        };
        match self.reports {
            Reports::Supervisor { inbox, .. } => inbox.put(Letter::Exited {
                child: self.record.id.clone(),
                generation: self.record.generation,
                parting,
                obituary,
            }),
            Reports::Starter(_) => drop(obituary),
        }
    }

    fn note(&self, order: StopOrder, parting: Parting) {
        if let (true, Reports::Supervisor { ledger, .. }) = (order.last, &self.reports) {
            ledger.note(&self.record, parting);
        }
    }
}

/// The order that a doomed supervisor's children get.
fn at_once() -> StopOrder {
    StopOrder {
        last: true,
        patience: Some(Duration::ZERO),
        grace: GRACE,
        deadline: None,
    }
}

fn request(launched: &Launched, order: StopOrder, text: &Arc<str>) {
    match &launched.supervisor {
        Some((supervisor, _)) => supervisor.end_by(order.deadline, text.clone()),
        // One-shot: a second request changes nothing, which is what it should do.
        None => launched.process.stop(text),
    }
}
