//! Casts until the last is handled: to a bare actor, to a supervised one of the same kind through the
//! same kind of reference (what supervision costs), and through an address (what finding it costs).

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
        let mut bares = Vec::new();
        let (mut supervised, mut addressed) = (Vec::new(), Vec::new());
        // The first rounds warm up.
        for round in 0..rounds + 2 {
            // Who goes first changes, so that nobody always finds the caches of the same other.
            let mut took = [Duration::ZERO; 3];
            for turn in 0..3 {
                let who = (round + turn) % 3;
                took[who] = runtime.block_on(async {
                    match who {
                        0 => bare(messages).await,
                        1 => ours(messages, By::Reference).await,
                        _ => ours(messages, By::Address).await,
                    }
                });
            }
            if round >= 2 {
                let each = |took: Duration| took.as_nanos() as f64 / messages as f64;
                bares.push(each(took[0]));
                supervised.push(each(took[1]));
                addressed.push(each(took[2]));
            }
        }
        println!("  {label:<15} bare        {}", spread(&mut bares));
        println!("  {label:<15} supervised  {}", spread(&mut supervised));
        println!("  {label:<15} by address  {}", spread(&mut addressed));
        for (name, mut times) in [("cast", supervised), ("cast by address", addressed)] {
            let ratio = median(&mut times) / median(&mut bares);
            bars.push(Bar::new(&format!("{name} {label}"), ratio, 1.05));
        }
    }
}

#[derive(Clone, Copy)]
enum By {
    Reference,
    Address,
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

async fn ours(messages: usize, by: By) -> Duration {
    let address = Address::new();
    let tree = SupervisorSpec::new(Strategy::OneForOne)
        .child(ChildSpec::actor("counter", |_| Ok((Counter, ()))).address(&address))
        .start()
        .await
        .expect("the tree starts");
    let actor = address.current().expect("it is up");
    let took = match by {
        By::Reference => {
            measure(messages, move |message| {
                actor.cast(message).expect("it is up");
            })
            .await
        }
        By::Address => {
            measure(messages, move |message| {
                address.cast(message).expect("it is up");
            })
            .await
        }
    };
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
