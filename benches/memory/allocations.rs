//! How often the allocator is asked on the way of a message.

use futures_util::{SinkExt, StreamExt};
use mainstay::config::WireBackend;
use mainstay::{Channel, Event, Frame};
use mainstay_benches::load::{CHANNEL, Load};
use mainstay_benches::race::{Race, at_most};
use mainstay_benches::sender::Sender;
use mainstay_benches::session::{WIRES, config, connect, lossless};
use mainstay_benches::setting::Setting;
use mainstay_benches::{bare, number, rounds};
use stats_alloc::Region;
use tokio_tungstenite::tungstenite::Message;

use crate::ALLOCATOR;

pub(crate) fn run() {
    let messages = number("MESSAGES", 200_000);
    let rounds = rounds(5);
    let setting = Setting::One;
    let port = Sender::start(Load::ticks(200, messages), setting).port;
    let title = format!("allocations for each message received, {setting}");
    let mut race = Race::new(title, &["a message"]).with("bare", move || bare_loop(port, messages));
    for (name, wire) in WIRES {
        race = race.with(name, move || ours(port, wire, messages));
    }
    let outcome = setting.run(move |runtime| race.run(runtime, rounds));
    for (name, bar) in [("ours", ""), ("ours_fast", "_fast")] {
        if let Some(more) = outcome.more(name, "bare", 0) {
            at_most(&format!("allocations_over_bare{bar}"), more, 0.1);
        }
    }
}

/// Of the whole process: the sender allocates nothing once it has begun.
fn each(region: &Region<'_, std::alloc::System>, messages: usize) -> Vec<f64> {
    let change = region.change();
    vec![(change.allocations + change.reallocations) as f64 / messages as f64]
}

async fn bare_loop(port: u16, messages: usize) -> Vec<f64> {
    let mut socket = bare::socket(port).await;
    socket.send(Message::text("go")).await.expect("go");
    let region = Region::new(ALLOCATOR);
    for _ in 0..messages {
        match socket.next().await {
            Some(Ok(Message::Text(_))) => {}
            other => panic!("{other:?}"),
        }
    }
    each(&region, messages)
}

async fn ours(port: u16, wire: WireBackend, messages: usize) -> Vec<f64> {
    let session = connect(config(port, wire)).await;
    let mut ticks = session
        .subscribe_with(Channel::<Frame>::new(CHANNEL), lossless())
        .await
        .expect("a subscription");
    session.send(Frame::text("go")).await.expect("go");
    let region = Region::new(ALLOCATOR);
    for _ in 0..messages {
        match ticks.next().await {
            Some(Event::Data(_)) => {}
            other => panic!("{other:?}"),
        }
    }
    let figures = each(&region, messages);
    drop(ticks);
    session.shutdown().await;
    figures
}
