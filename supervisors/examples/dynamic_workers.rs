//! A crawler's skeleton: sites come and go, each has a worker of its own, and one worker keeps crashing.
//!
//! Shows a dynamic supervisor (limit, keys, addresses), a partitioned one (who counts for which site) and
//! that neither loses its callers when it is restarted. Runs by itself, offline, in about a second:
//! `cargo run -p mainstay-supervisors --example dynamic_workers`.
#![allow(clippy::print_stdout)]

use std::time::Duration;

use mainstay_supervisors::{
    Address, AddressStatus, ChildSpec, DynamicRef, DynamicSpec, Intensity, OnExhausted,
    PartitionSpec, Partitions, Restart, ShutdownPlan, StartChildError, Strategy,
    SupervisorEventKind, SupervisorSpec,
};
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};

/// Counts pages for some of the sites.
struct Counter;

enum Count {
    Page,
    Total(RpcReplyPort<u64>),
}
mainstay_supervisors::message!(Count);

#[cfg_attr(feature = "async-trait", ractor::async_trait)]
impl Actor for Counter {
    type Msg = Count;
    type State = u64;
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Count>, (): ()) -> Result<u64, ActorProcessingErr> {
        Ok(0)
    }

    async fn handle(
        &self,
        _: ActorRef<Count>,
        message: Count,
        pages: &mut u64,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            Count::Page => *pages += 1,
            Count::Total(reply) => reply.send(*pages)?,
        }
        Ok(())
    }
}

/// Reads the pages of one site.
struct Worker;

struct ReadPage;
mainstay_supervisors::message!(ReadPage);

struct Site {
    name: String,
    counters: Partitions<Address<Count>>,
}

#[cfg_attr(feature = "async-trait", ractor::async_trait)]
impl Actor for Worker {
    type Msg = ReadPage;
    type State = Site;
    type Arguments = Site;

    async fn pre_start(
        &self,
        _: ActorRef<ReadPage>,
        site: Site,
    ) -> Result<Site, ActorProcessingErr> {
        Ok(site)
    }

    async fn handle(
        &self,
        _: ActorRef<ReadPage>,
        _: ReadPage,
        site: &mut Site,
    ) -> Result<(), ActorProcessingErr> {
        if site.name == "broken.example" {
            return Err("the page makes no sense".into());
        }
        // The same site is counted by the same partition, in this process and in the next.
        let counter = site.counters.route(&site.name)?;
        counter
            .cast(Count::Page)
            .map_err(|error| error.to_string())?;
        Ok(())
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (counting, counters) = PartitionSpec::actors(|_, _| Ok((Counter, ())))
        .partitions(2)
        .build()?;
    let workers = DynamicRef::new();
    // One broken site must not end the others: it is let go when it has failed too often.
    let crawling = DynamicSpec::new()
        .max_children(4)
        .intensity(Intensity::new(3, Duration::from_secs(60)))
        .on_exhausted(OnExhausted::Park)
        .shared(counters.clone())
        .reference(&workers);
    let tree = SupervisorSpec::new(Strategy::RestForOne)
        .name("crawler")
        .child(ChildSpec::supervisor("counters", counting))
        .child(ChildSpec::supervisor("workers", crawling))
        .observe(|event| {
            let (child, name) = (event.child.as_ref(), event.kind.name());
            match &event.kind {
                SupervisorEventKind::ChildExited { reason, .. }
                | SupervisorEventKind::ChildParked { reason } => {
                    println!("  {name} {}: {reason}", child.map_or("", |id| id.as_str()));
                }
                SupervisorEventKind::IntensityLow { used, limit } => {
                    println!("  {name}: {used} of {limit} restarts used");
                }
                _ => {}
            }
        })
        .start()
        .await?;

    let mut sites = Vec::new();
    for name in ["a.example", "b.example", "broken.example", "c.example"] {
        let (key, address) = workers
            .start_actor(name, move |context| {
                let counters = context.shared::<Partitions<Address<Count>>>();
                let counters = counters.expect("the supervisor shares it").clone();
                let name = name.to_owned();
                Ok((Worker, Site { name, counters }))
            })
            .await?;
        println!("started {key}");
        sites.push((key, address));
    }
    let one_more =
        ChildSpec::actor("late.example", |_| Ok((Counter, ()))).restart(Restart::Temporary);
    match workers.start_child(one_more).await {
        Err(error @ StartChildError::MaxChildren { .. }) => println!("late.example: {error}"),
        other => println!("late.example: {other:?}"),
    }

    println!("\nten pages each");
    for _ in 0..10 {
        for (key, address) in &sites {
            if !key.id().as_str().starts_with("broken") {
                address.cast(ReadPage)?;
            }
        }
    }

    println!("\nthe broken site, until it is let go");
    let broken = &sites[2].1;
    let mut changes = broken.changes();
    while !matches!(broken.status(), AddressStatus::Down(_)) {
        if broken
            .cast_when_up(ReadPage, Duration::from_secs(1))
            .await
            .is_ok()
        {
            changes.next().await;
        }
    }

    // A dynamic supervisor that is killed comes back empty, and the reference reaches it.
    println!("\nthe workers' supervisor is killed");
    if let Some(supervisor) = workers.current() {
        supervisor.cell().kill();
        supervisor.wait().await;
    }
    workers.up(Duration::from_secs(5)).await?;
    println!("children now: {}", workers.count_children().await?.specs);

    let mut total = 0;
    for counter in counters.all() {
        total += counter.call(Count::Total, Duration::from_secs(1)).await?;
    }
    println!("pages counted: {total}\n\n{}", tree.snapshot().await);
    let report = tree
        .shutdown(ShutdownPlan::within(Duration::from_secs(2)))
        .await;
    println!(
        "\nended: {} in good order, {} killed",
        report.graceful,
        report.killed.len()
    );
    Ok(())
}
