//! From the sender's write to the consumer, at steady rates: a subscription of ours against a bare loop.
//!
//! `cargo bench --bench latency`; `MILLIS` (how long a run lasts), `ROUNDS` and `SETTING` in the environment
//! change what is run. Rounds are short and many: what a busy machine takes away, a millisecond and more at a time, then
//! falls into few of them and not into the 99th percentile of each. By default it is `T1` alone: the sender
//! spins, and on two cores it would take one of the two workers' away.

use futures_util::{SinkExt, StreamExt};
use mainstay::config::WireBackend;
use mainstay::{Channel, Event, Frame};
use mainstay_benches::load::CHANNEL;
use mainstay_benches::pacer::{Pacer, age};
use mainstay_benches::race::{Race, quantiles};
use mainstay_benches::session::{WIRES, config, connect, lossless};
use mainstay_benches::setting::Setting;
use mainstay_benches::{bare, number, rounds};
use tokio_tungstenite::tungstenite::Message;

fn main() {
    let millis = number("MILLIS", 100);
    let rounds = rounds(81);
    let settings = match std::env::var("SETTING") {
        Ok(_) => Setting::asked(),
        Err(_) => vec![Setting::One],
    };
    for setting in settings {
        for (label, rate) in [("10k", 10_000), ("100k", 100_000)] {
            let messages = rate * millis / 1000;
            let port = Pacer::start(rate, messages, setting).port;
            let title = format!("one-way latency at {rate} msg/s, {setting}");
            let mut race = Race::new(title, &["p50 us", "p99 us"])
                .with("bare", move || bare_loop(port, messages));
            for (name, wire) in WIRES {
                race = race.with(name, move || ours(port, wire, messages));
            }
            let outcome = setting.run(move |runtime| race.run(runtime, rounds));
            for (name, bar) in [("ours", ""), ("ours_fast", "_fast")] {
                for (column, quantile, bound) in [(0, "p50", 1.05), (1, "p99", 1.10)] {
                    let bar = format!("latency_{label}_{quantile}_{setting}{bar}");
                    outcome.at_most(&bar, name, "bare", column, bound);
                }
            }
        }
    }
}

/// Without the first tenth, in which buffers grow.
fn settled(mut ages: Vec<f64>) -> Vec<f64> {
    ages.drain(..ages.len() / 10);
    quantiles(ages, &[0.5, 0.99])
}

async fn bare_loop(port: u16, messages: usize) -> Vec<f64> {
    let mut socket = bare::socket(port).await;
    let mut ages = Vec::with_capacity(messages);
    socket.send(Message::text("go")).await.expect("go");
    while ages.len() < messages {
        match socket.next().await {
            Some(Ok(Message::Text(text))) => ages.push(age(text.as_bytes())),
            other => panic!("{other:?}"),
        }
    }
    settled(ages)
}

async fn ours(port: u16, wire: WireBackend, messages: usize) -> Vec<f64> {
    let session = connect(config(port, wire)).await;
    let mut ticks = session
        .subscribe_with(Channel::<Frame>::new(CHANNEL), lossless())
        .await
        .expect("a subscription");
    let mut ages = Vec::with_capacity(messages);
    session.send(Frame::text("go")).await.expect("go");
    while ages.len() < messages {
        match ticks.next().await {
            Some(Event::Data(tick)) => ages.push(age(tick.payload())),
            other => panic!("{other:?}"),
        }
    }
    drop(ticks);
    session.shutdown().await;
    settled(ages)
}
