//! Casts until the last is handled: to a bare actor, to a supervised one of the same kind through the
//! same kind of reference (what supervision costs), and through an address (what finding it costs).
//!
//! In several processes, one after the other, because where a process has its memory makes a difference of its
//! own; and by rounds that are short, because what slows a round down slows all of it down.

use std::time::{Duration, Instant};

use mainstay_supervisors::{Address, ChildSpec, ShutdownPlan, Strategy, SupervisorSpec};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::sync::oneshot;

use crate::{Bar, ask, median, number, runtimes, spread};

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

/// Who casts to whom.
#[derive(Clone, Copy)]
enum Contender {
    Bare,
    /// The same once more: what it is off from one by is the noise.
    Control,
    ByReference,
    ByAddress,
}

const CONTENDERS: [(Contender, &str); 4] = [
    (Contender::Bare, "bare"),
    (Contender::Control, "bare again"),
    (Contender::ByReference, "supervised"),
    (Contender::ByAddress, "by address"),
];

/// How many processes measure.
const PROCESSES: usize = 7;
/// The first rounds of a process warm it up.
const WARM: usize = 5;

pub(crate) fn run(bars: &mut Vec<Bar>) {
    let (messages, rounds) = (messages(), rounds());
    println!(
        "cast: ns a message of {messages} until the last is handled, {PROCESSES} times {rounds} rounds"
    );
    let mut times: [[Vec<f64>; 4]; 2] = Default::default();
    for _ in 0..PROCESSES {
        for line in ask("cast", "all").lines() {
            let mut words = line.split_whitespace();
            let mut next = || words.next().expect("five words a line");
            let runtime: usize = next().parse().expect("which runtime");
            for times in &mut times[runtime] {
                times.push(next().parse().expect("a number"));
            }
        }
    }
    for ((label, _), times) in runtimes().iter().zip(&times) {
        for ((contender, name), taken) in CONTENDERS.iter().zip(times) {
            let rounds = taken.iter().zip(&times[0]);
            let of_bare = median(&mut rounds.map(|(it, bare)| it / bare).collect::<Vec<_>>());
            let taken = spread(&mut taken.clone());
            println!("  {label:<15} {name:<11} {taken}, {of_bare:.3} of bare");
            let name = match contender {
                Contender::Bare | Contender::Control => continue,
                Contender::ByReference => "cast",
                Contender::ByAddress => "cast by address",
            };
            bars.push(Bar::new(&format!("{name} {label}"), of_bare, 1.05));
        }
    }
}

/// In the fresh process: a line for each round, of which runtime and what each contender took.
pub(crate) fn contend() {
    let messages = messages();
    for (number, (_, runtime)) in runtimes().into_iter().enumerate() {
        for round in 0..WARM + rounds() {
            let mut order = [0, 1, 2, 3];
            // Nobody always finds the caches of the same other.
            fastrand::shuffle(&mut order);
            let mut took = [0.0; 4];
            for who in order {
                let all = runtime.block_on(measured(CONTENDERS[who].0, messages));
                took[who] = all.as_nanos() as f64 / messages as f64;
            }
            if round >= WARM {
                let [bare, again, supervised, by_address] = took;
                println!("{number} {bare} {again} {supervised} {by_address}");
            }
        }
    }
}

fn messages() -> usize {
    number("MESSAGES", 20_000)
}

fn rounds() -> usize {
    number("ROUNDS", 45)
}

async fn measured(contender: Contender, messages: usize) -> Duration {
    match contender {
        Contender::Bare | Contender::Control => bare(messages).await,
        Contender::ByReference => ours(messages, By::Reference).await,
        Contender::ByAddress => ours(messages, By::Address).await,
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
        // The first message has other things to wait for, and what comes after it costs more where a second
        // worker has taken the actor over meanwhile: a matter of the start.
        let (reply, done) = oneshot::channel();
        cast(Count::Last(reply));
        done.await.expect("an answer");
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
