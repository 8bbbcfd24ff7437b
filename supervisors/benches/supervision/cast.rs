//! Casts until the last is handled: through an address to a supervised actor, and through a
//! reference to a bare one of the same kind.

use std::time::{Duration, Instant};

use mainstay_supervisors::{Address, ChildSpec, ShutdownPlan, Strategy, SupervisorSpec};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::sync::oneshot;

use crate::{Bar, median, number, runtimes, spread};

struct Counter;

enum Count {
    One(u64),
    Last(oneshot::Sender<u64>),
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
        sum: &mut u64,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            Count::One(value) => *sum = sum.wrapping_add(value),
            Count::Last(reply) => {
                // Whoever measures waits for it.
                let _ = reply.send(*sum);
            }
        }
        Ok(())
    }
}

pub(crate) fn run(bars: &mut Vec<Bar>) {
    let messages = number("MESSAGES", 300_000);
    let rounds = number("ROUNDS", 21);
    println!("cast: ns a message of {messages} until the last is handled, {rounds} rounds");
    for (label, runtime) in runtimes() {
        let (mut bares, mut oursies, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
        // The first rounds warm up.
        for round in 0..rounds + 2 {
            // Who goes first changes, so that neither always finds the caches of the other.
            let (bare, ours) = if round % 2 == 0 {
                let bare = runtime.block_on(bare(messages));
                (bare, runtime.block_on(ours(messages)))
            } else {
                let ours = runtime.block_on(ours(messages));
                (runtime.block_on(bare(messages)), ours)
            };
            if round >= 2 {
                let each = |took: Duration| took.as_nanos() as f64 / messages as f64;
                bares.push(each(bare));
                oursies.push(each(ours));
                ratios.push(each(ours) / each(bare));
            }
        }
        println!("  {label:<15} bare  {}", spread(&mut bares));
        println!("  {label:<15} ours  {}", spread(&mut oursies));
        println!("  {label:<15} pairs {}", spread(&mut ratios));
        bars.push(Bar {
            name: format!("cast, {label}"),
            figure: median(&mut oursies) / median(&mut bares),
            limit: 1.05,
            unit: "x",
        });
    }
}

async fn bare(messages: usize) -> Duration {
    let (actor, ended) = Actor::spawn(None, Counter, ())
        .await
        .expect("the actor starts");
    let sender = actor.clone();
    let took = measure(messages, move |message| {
        sender.cast(message).expect("it is up");
    })
    .await;
    actor.stop(None);
    ended.await.expect("the actor ends");
    took
}

async fn ours(messages: usize) -> Duration {
    let address = Address::new();
    let tree = SupervisorSpec::new(Strategy::OneForOne)
        .child(ChildSpec::actor("counter", |_| Ok((Counter, ()))).address(&address))
        .start()
        .await
        .expect("the tree starts");
    let took = measure(messages, move |message| {
        address.cast(message).expect("it is up");
    })
    .await;
    tree.shutdown(ShutdownPlan::default()).await;
    took
}

/// From a task, as casts are made; with one thread the queue fills first and is emptied then.
async fn measure(messages: usize, cast: impl Fn(Count) + Send + 'static) -> Duration {
    let sending = tokio::spawn(async move {
        let began = Instant::now();
        for value in 0..messages {
            cast(Count::One(value as u64));
        }
        let (reply, done) = oneshot::channel();
        cast(Count::Last(reply));
        let sum = done.await.expect("an answer");
        let took = began.elapsed();
        assert_eq!(sum, (messages as u64) * (messages as u64 - 1) / 2);
        took
    });
    sending.await.expect("the sender ends")
}
