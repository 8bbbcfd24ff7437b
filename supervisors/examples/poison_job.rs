//! A job that crashes whoever works on it: found, put aside, and the rest goes on.
//!
//! Runs by itself, offline, in about a second: `cargo run -p mainstay-supervisors --example poison_job`.
//!
//! The queue stands *before* the worker, so it outlives the worker's crashes, and it writes down who
//! got which job before the worker sees it. A worker that starts after a crash says so; then the
//! job that was handed out last, and never reported done, is the suspect.
#![allow(clippy::print_stdout)]

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use mainstay_supervisors::{
    Address, Backoff, ChildSpec, ExitReason, Root, ShutdownPlan, StartContext, StartFailure,
    Strategy, SupervisorEventKind, SupervisorSpec, Verdict,
};
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};

/// Limit of each call between the actors.
const CALL: Duration = Duration::from_secs(1);

/// Hands out jobs, and remembers which one is being worked on.
struct Queue;

enum Ask {
    /// A worker is new; this is how the one before it ended.
    Arrived(Option<Arc<ExitReason>>),
    Take(RpcReplyPort<Option<u32>>),
    Done(u32),
    /// Answered when nothing is left to do.
    Finished(RpcReplyPort<Summary>),
}
mainstay_supervisors::message!(Ask);

#[derive(Debug, Clone, Default)]
struct Summary {
    done: Vec<u32>,
    quarantined: Vec<u32>,
}

struct Jobs {
    waiting: VecDeque<u32>,
    in_hand: Option<u32>,
    /// How often a worker crashed with this job in hand.
    crashes: HashMap<u32, u32>,
    /// So many crashes put a job aside.
    patience: u32,
    summary: Summary,
    asking: Option<RpcReplyPort<Summary>>,
}

impl Jobs {
    /// A worker has crashed: the job in hand is tried again, or put aside.
    fn suspect(&mut self, reason: &ExitReason) {
        let Some(job) = self.in_hand.take() else {
            return;
        };
        let crashes = self.crashes.entry(job).or_default();
        *crashes += 1;
        if *crashes >= self.patience {
            println!("  queue: job {job} is put aside after {crashes} crashes ({reason})");
            self.summary.quarantined.push(job);
        } else {
            println!("  queue: job {job} goes back ({reason})");
            self.waiting.push_front(job);
        }
    }

    fn answer(&mut self) -> Result<(), ActorProcessingErr> {
        if self.waiting.is_empty()
            && self.in_hand.is_none()
            && let Some(asking) = self.asking.take()
        {
            asking.send(self.summary.clone())?;
        }
        Ok(())
    }
}

#[cfg_attr(feature = "async-trait", ractor::async_trait)]
impl Actor for Queue {
    type Msg = Ask;
    type State = Jobs;
    /// How many crashes put a job aside.
    type Arguments = u32;

    async fn pre_start(&self, _: ActorRef<Ask>, patience: u32) -> Result<Jobs, ActorProcessingErr> {
        Ok(Jobs {
            waiting: (1..=8).collect(),
            in_hand: None,
            crashes: HashMap::new(),
            patience,
            summary: Summary::default(),
            asking: None,
        })
    }

    async fn handle(
        &self,
        _: ActorRef<Ask>,
        message: Ask,
        jobs: &mut Jobs,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            Ask::Arrived(previous) => {
                if let Some(reason) = previous {
                    jobs.suspect(&reason);
                }
            }
            Ask::Take(reply) => {
                // Written down first: from here on the job may crash its worker.
                jobs.in_hand = jobs.waiting.pop_front();
                reply.send(jobs.in_hand)?;
            }
            Ask::Done(job) => {
                jobs.in_hand = None;
                jobs.summary.done.push(job);
            }
            Ask::Finished(reply) => jobs.asking = Some(reply),
        }
        jobs.answer()
    }
}

/// Works on one job after the other, and cannot stand job 4.
struct Worker;

struct Next;
mainstay_supervisors::message!(Next);

#[cfg_attr(feature = "async-trait", ractor::async_trait)]
impl Actor for Worker {
    type Msg = Next;
    type State = Address<Ask>;
    type Arguments = (Address<Ask>, StartContext);

    async fn pre_start(
        &self,
        myself: ActorRef<Next>,
        (queue, context): Self::Arguments,
    ) -> Result<Address<Ask>, ActorProcessingErr> {
        println!(
            "  worker: incarnation {}, attempt {}",
            context.generation, context.attempt
        );
        // Before anything is taken: both go the same way, so they arrive in this order.
        queue
            .cast(Ask::Arrived(context.previous))
            .map_err(|error| error.to_string())?;
        myself.cast(Next)?;
        Ok(queue)
    }

    async fn handle(
        &self,
        myself: ActorRef<Next>,
        _: Next,
        queue: &mut Address<Ask>,
    ) -> Result<(), ActorProcessingErr> {
        let job = queue
            .call(Ask::Take, CALL)
            .await
            .map_err(|error| error.to_string())?;
        let Some(job) = job else {
            return Ok(());
        };
        if job == 4 {
            panic!("nobody thought of {job}");
        }
        queue
            .cast(Ask::Done(job))
            .map_err(|error| error.to_string())?;
        myself.cast(Next)?;
        Ok(())
    }
}

async fn start(
    patience: u32,
    judge: impl Fn(&ExitReason) -> Verdict + Send + Sync + 'static,
) -> Result<(Root, Address<Ask>), StartFailure> {
    let queue = Address::new();
    let from = queue.clone();
    let worker = ChildSpec::actor("worker", move |context| {
        Ok((Worker, (from.clone(), context)))
    })
    .backoff(Backoff::new(
        Duration::from_millis(10),
        Duration::from_millis(100),
    ))
    .classify(judge);
    let tree = SupervisorSpec::new(Strategy::RestForOne)
        .name("jobs")
        .observe(|event| {
            if let SupervisorEventKind::RestartPlanned {
                window: (used, of), ..
            } = &event.kind
            {
                println!("  supervisor: restart, {used} of {of} count");
            }
        })
        .child(ChildSpec::actor("queue", move |_| Ok((Queue, patience))).address(&queue))
        .child(worker)
        .start()
        .await?;
    Ok((tree, queue))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // The panics are told by the reasons; their usual noise would only hide the story.
    std::panic::set_hook(Box::new(|_| {}));

    println!("without a quarantine:");
    let (tree, _queue) = start(u32::MAX, |_| Verdict::Default).await?;
    let reason = tree.wait().await;
    println!("  the tree {reason}; jobs 5 to 8 were never seen\n");

    println!("with a quarantine:");
    let (tree, queue) = start(2, |reason| match reason {
        // The job's fault. It does not count, since no job can do it more than twice; anything else
        // that befalls the worker still does.
        ExitReason::Panicked(_) => Verdict::Uncounted {
            stable: false,
            at_least: Duration::ZERO,
        },
        _ => Verdict::Default,
    })
    .await?;
    let summary = queue.call(Ask::Finished, Duration::from_secs(5)).await?;
    println!(
        "  done {:?}, put aside {:?}",
        summary.done, summary.quarantined
    );
    tree.shutdown(ShutdownPlan::within(Duration::from_secs(2)))
        .await;
    Ok(())
}
