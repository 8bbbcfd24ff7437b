//! A small service under supervision: a store, a feed that loses its line, a reporter that crashes.
//!
//! Runs by itself, offline, in about a second: `cargo run -p mainstay-supervisors --example custom_tree`.
#![allow(clippy::print_stdout)]

use std::time::Duration;

use mainstay_supervisors::{
    Address, Backoff, ChildSpec, Intensity, ShutdownPlan, Strategy, SupervisorSpec, Verdict,
};
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};

/// Counts what it is given.
struct Store;

enum Entry {
    Put,
    Count(RpcReplyPort<u64>),
}
mainstay_supervisors::message!(Entry);

#[cfg_attr(feature = "async-trait", ractor::async_trait)]
impl Actor for Store {
    type Msg = Entry;
    type State = u64;
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Entry>, (): ()) -> Result<u64, ActorProcessingErr> {
        Ok(0)
    }

    async fn handle(
        &self,
        _: ActorRef<Entry>,
        entry: Entry,
        count: &mut u64,
    ) -> Result<(), ActorProcessingErr> {
        match entry {
            Entry::Put => *count += 1,
            Entry::Count(reply) => reply.send(*count)?,
        }
        Ok(())
    }
}

/// What a feed fails with when its line is lost: nobody's fault.
#[derive(Debug, thiserror::Error)]
#[error("line lost")]
struct LineLost;

/// Puts something into the store with every tick, and loses its line with the fifth.
struct Feed;

struct Tick;
mainstay_supervisors::message!(Tick);

#[cfg_attr(feature = "async-trait", ractor::async_trait)]
impl Actor for Feed {
    type Msg = Tick;
    type State = (Address<Entry>, u32);
    type Arguments = Address<Entry>;

    async fn pre_start(
        &self,
        myself: ActorRef<Tick>,
        store: Address<Entry>,
    ) -> Result<Self::State, ActorProcessingErr> {
        myself.send_interval(Duration::from_millis(20), || Tick);
        Ok((store, 0))
    }

    async fn handle(
        &self,
        _: ActorRef<Tick>,
        _: Tick,
        (store, ticks): &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        *ticks += 1;
        if *ticks == 5 {
            return Err(Box::new(LineLost));
        }
        store.cast(Entry::Put).map_err(|error| error.to_string())?;
        Ok(())
    }
}

/// Panics when it is asked to.
struct Reporter;

struct Crash;
mainstay_supervisors::message!(Crash);

#[cfg_attr(feature = "async-trait", ractor::async_trait)]
impl Actor for Reporter {
    type Msg = Crash;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Crash>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle(
        &self,
        _: ActorRef<Crash>,
        _: Crash,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        panic!("the reporter has a bug")
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (store, reporter) = (Address::new(), Address::new());

    let into = store.clone();
    let feed = ChildSpec::actor("feed", move |_| Ok((Feed, into.clone())))
        .backoff(Backoff::new(
            Duration::from_millis(10),
            Duration::from_millis(100),
        ))
        // A lost line may happen any number of times; anything else counts.
        .classify(|reason| match reason.downcast_ref::<LineLost>() {
            Some(LineLost) => Verdict::Uncounted {
                stable: false,
                at_least: Duration::ZERO,
            },
            None => Verdict::Default,
        });
    let io = SupervisorSpec::new(Strategy::RestForOne).child(feed);

    let tree = SupervisorSpec::new(Strategy::OneForOne)
        .name("service")
        .intensity(Intensity::new(3, Duration::from_secs(5)))
        .observe(|event| {
            let child = event.child.as_ref().map_or("", |id| id.as_str());
            println!(
                "  {:<22} {} {child} #{}",
                event.kind.name(),
                event.path,
                event.generation
            );
        })
        .child(ChildSpec::actor("store", |_| Ok((Store, ()))).address(&store))
        .child(ChildSpec::supervisor("io", io))
        .child(ChildSpec::actor("reporter", |_| Ok((Reporter, ()))).address(&reporter))
        .start()
        .await?;
    println!("{}\n", tree.snapshot().await);

    tokio::time::sleep(Duration::from_millis(300)).await;
    let mut changes = reporter.changes();
    reporter.cast(Crash)?;
    while !changes.next().await.is_some_and(|status| status.is_up()) {}
    tokio::time::sleep(Duration::from_millis(300)).await;

    let count = store.call(Entry::Count, Duration::from_secs(1)).await?;
    println!("\nthe store, never restarted, counted {count}");
    println!("{}\n", tree.snapshot().await);

    let report = tree
        .shutdown(ShutdownPlan::within(Duration::from_secs(2)))
        .await;
    println!("\n{report:?}");
    Ok(())
}
