//! A whole program that ends well: a listener, workers with a backlog, a store that is flushed last.
//!
//! Runs by itself, offline, in about a second, since it sends SIGTERM to itself; it returns 0:
//! `cargo run -p mainstay-supervisors --example graceful_shutdown`.
//!
//! With `-- stubborn` one worker does not come to an end: it is killed at its limit, and the program
//! returns 143. Ctrl-c works as well, once or more often.
#![allow(clippy::print_stdout)]

use std::collections::VecDeque;
use std::time::Duration;

use mainstay_supervisors::signals::{Outcome, Signals};
use mainstay_supervisors::{
    Address, ChildSpec, Shutdown, ShutdownPlan, Strategy, SupervisorRef, SupervisorSpec,
};
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};

/// Limit of each call between the actors.
const CALL: Duration = Duration::from_secs(1);

/// Where results end up. Flushed when it is stopped: last, when nobody has any left.
struct Store;

/// A call, not a cast: a stop overtakes the messages that wait, so whoever must be sure that
/// something was taken waits for the answer.
struct Put(u32, RpcReplyPort<()>);
mainstay_supervisors::message!(Put);

#[cfg_attr(feature = "async-trait", ractor::async_trait)]
impl Actor for Store {
    type Msg = Put;
    type State = Vec<u32>;
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Put>, (): ()) -> Result<Vec<u32>, ActorProcessingErr> {
        Ok(Vec::new())
    }

    async fn handle(
        &self,
        _: ActorRef<Put>,
        Put(result, reply): Put,
        unsaved: &mut Vec<u32>,
    ) -> Result<(), ActorProcessingErr> {
        unsaved.push(result);
        reply.send(())?;
        Ok(())
    }

    async fn post_stop(
        &self,
        _: ActorRef<Put>,
        unsaved: &mut Vec<u32>,
    ) -> Result<(), ActorProcessingErr> {
        println!("  store: flushes {} results", unsaved.len());
        Ok(())
    }
}

/// Takes requests on at once, works on one every 30 ms, and finishes all it has taken on when it is
/// stopped.
struct Worker;

enum Work {
    Take(u32, RpcReplyPort<()>),
    Next,
}
mainstay_supervisors::message!(Work);

struct Bench {
    name: &'static str,
    stubborn: bool,
    store: Address<Put>,
    backlog: VecDeque<u32>,
}

impl Bench {
    async fn work(&mut self) -> Result<(), ActorProcessingErr> {
        if let Some(request) = self.backlog.pop_front() {
            self.store
                .call(|reply| Put(request, reply), CALL)
                .await
                .map_err(|error| error.to_string())?;
        }
        Ok(())
    }
}

#[cfg_attr(feature = "async-trait", ractor::async_trait)]
impl Actor for Worker {
    type Msg = Work;
    type State = Bench;
    type Arguments = (&'static str, bool, Address<Put>);

    async fn pre_start(
        &self,
        myself: ActorRef<Work>,
        (name, stubborn, store): Self::Arguments,
    ) -> Result<Bench, ActorProcessingErr> {
        myself.send_interval(Duration::from_millis(30), || Work::Next);
        Ok(Bench {
            name,
            stubborn,
            store,
            backlog: VecDeque::new(),
        })
    }

    async fn handle(
        &self,
        _: ActorRef<Work>,
        message: Work,
        bench: &mut Bench,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            Work::Take(request, reply) => {
                bench.backlog.push_back(request);
                reply.send(())?;
            }
            Work::Next => bench.work().await?,
        }
        Ok(())
    }

    async fn post_stop(
        &self,
        _: ActorRef<Work>,
        bench: &mut Bench,
    ) -> Result<(), ActorProcessingErr> {
        println!("  {}: {} left to do", bench.name, bench.backlog.len());
        while !bench.backlog.is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
            bench.work().await?;
        }
        if bench.stubborn {
            println!("  {}: does not come to an end", bench.name);
            std::future::pending::<()>().await;
        }
        println!("  {}: done", bench.name);
        Ok(())
    }
}

/// Brings requests in. Started last, so that it is stopped first: what comes in ends before what
/// works on it.
struct Listener;

struct Arrival;
mainstay_supervisors::message!(Arrival);

#[cfg_attr(feature = "async-trait", ractor::async_trait)]
impl Actor for Listener {
    type Msg = Arrival;
    type State = (u32, [Address<Work>; 2]);
    type Arguments = [Address<Work>; 2];

    async fn pre_start(
        &self,
        myself: ActorRef<Arrival>,
        workers: Self::Arguments,
    ) -> Result<Self::State, ActorProcessingErr> {
        myself.send_interval(Duration::from_millis(20), || Arrival);
        Ok((0, workers))
    }

    async fn handle(
        &self,
        _: ActorRef<Arrival>,
        _: Arrival,
        (arrived, workers): &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        for worker in workers {
            *arrived += 1;
            let request = *arrived;
            worker
                .call(|reply| Work::Take(request, reply), CALL)
                .await
                .map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    async fn post_stop(
        &self,
        _: ActorRef<Arrival>,
        (arrived, _): &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        println!("  listener: closed after {arrived} requests");
        Ok(())
    }
}

/// Has nothing that is worth keeping.
struct Cache;

struct Remember;
mainstay_supervisors::message!(Remember);

#[cfg_attr(feature = "async-trait", ractor::async_trait)]
impl Actor for Cache {
    type Msg = Remember;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Remember>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }
}

fn tree(stubborn: bool) -> SupervisorSpec {
    let store = Address::new();
    let bench = [Address::new(), Address::new()];
    let worker = |name: &'static str, stubborn, address| {
        let store = store.clone();
        ChildSpec::actor(name, move |_| Ok((Worker, (name, stubborn, store.clone()))))
            .address(address)
            .shutdown(Shutdown::Timeout(Duration::from_millis(800)))
    };
    let workers = SupervisorSpec::new(Strategy::OneForOne)
        .child(worker("worker-1", false, &bench[0]))
        .child(worker("worker-2", stubborn, &bench[1]));
    SupervisorSpec::new(Strategy::RestForOne)
        .name("shop")
        .child(ChildSpec::actor("store", |_| Ok((Store, ()))).address(&store))
        .child(ChildSpec::supervisor("workers", workers))
        .child(ChildSpec::actor("cache", |_| Ok((Cache, ()))).shutdown(Shutdown::Kill))
        .child(ChildSpec::actor("listener", move |_| {
            Ok((Listener, bench.clone()))
        }))
}

/// What an operator or Kubernetes does otherwise.
async fn ask_to_end(tree: SupervisorRef, plan: ShutdownPlan) {
    tokio::time::sleep(Duration::from_millis(300)).await;
    println!("SIGTERM");
    let kill = format!("kill -TERM {}", std::process::id());
    let sent = std::process::Command::new("sh")
        .args(["-c", &kill])
        .status();
    if !sent.is_ok_and(|status| status.success()) {
        // There is no such thing here; then the program decides by itself.
        tree.shutdown(plan).await;
    }
}

#[tokio::main]
async fn main() -> Result<Outcome, Box<dyn std::error::Error>> {
    // Before the tree: a signal that comes while it starts is remembered.
    let signals = Signals::install()?;
    let stubborn = std::env::args().any(|argument| argument == "stubborn");
    let root = tree(stubborn).start().await?;
    println!("{}\n", root.snapshot().await);

    // Kubernetes sends SIGKILL after 30 s; so it should all be over before.
    let plan = ShutdownPlan::within(Duration::from_secs(25));
    tokio::spawn(ask_to_end(SupervisorRef::clone(&root), plan.clone()));
    let outcome = signals.run(root, plan).await;

    let report = &outcome.report;
    println!(
        "\nended by {} within {:?}: {} graceful",
        outcome
            .signal
            .map_or("itself".to_owned(), |signal| signal.to_string()),
        report.took,
        report.graceful
    );
    for path in &report.killed {
        println!("  killed: {path}");
    }
    println!("  of these as its spec asks: {}", report.killed_by_spec);
    println!("exit code {}", outcome.code());
    Ok(outcome)
}
