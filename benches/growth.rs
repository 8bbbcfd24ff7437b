//! How the cost of a message grows: with the subscriptions of one connection, and with the sessions of a program.
//!
//! `cargo bench --bench growth`; `MESSAGES`, `ROUNDS`, `SUBSCRIPTIONS` and `SESSIONS` (lists with commas) in the
//! environment change what is run. `PLOTS` names a folder into which the two figures are drawn as SVG.

#[path = "receive/ours.rs"]
#[allow(dead_code, reason = "rows of another benchmark")]
mod ours;
#[path = "growth/plot.rs"]
mod plot;
#[path = "receive/theirs.rs"]
#[allow(dead_code, reason = "rows of another benchmark")]
mod theirs;

use std::path::Path;
use std::time::Instant;

use futures_util::{SinkExt, StreamExt};
use mainstay::config::WireBackend;
use mainstay::{Channel, Event, Frame, Session, Subscription};
use mainstay_benches::load::{CHANNEL, Load, channel};
use mainstay_benches::race::{Outcome, Race};
use mainstay_benches::sender::Sender;
use mainstay_benches::session::{WIRES, config, connect, lossless};
use mainstay_benches::setting::Setting;
use mainstay_benches::{bare, number, rounds};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

use plot::{Line, plot};

const SIZE: usize = 200;
const COLUMNS: &[&str] = &["msg/s"];
const SETTING: Setting = Setting::One;

fn main() {
    let messages = number("MESSAGES", 400_000);
    let rounds = rounds(5);
    let of_subscriptions = asked("SUBSCRIPTIONS", &[1, 10, 100, 1000])
        .map(|count| (count, subscriptions(count, messages, rounds)))
        .collect();
    draw(
        "growth-subscriptions.svg",
        "subscriptions of one connection",
        of_subscriptions,
    );
    let of_sessions = asked("SESSIONS", &[1, 10, 100, 1000])
        .map(|count| (count, sessions(count, messages, rounds)))
        .collect();
    draw(
        "growth-sessions.svg",
        "sessions of one program",
        of_sessions,
    );
}

fn asked(name: &str, default: &[usize]) -> impl Iterator<Item = usize> + use<> {
    let counts = match std::env::var(name) {
        Ok(list) => list
            .split(',')
            .map(|count| count.trim().replace('_', "").parse().expect("a number"))
            .collect(),
        Err(_) => default.to_vec(),
    };
    counts.into_iter()
}

/// One connection with so many subscriptions, each read by a task of its own.
fn subscriptions(count: usize, messages: usize, rounds: usize) -> Outcome {
    let each = (messages / count).max(1);
    let load = Load::channels(count, SIZE, each * count);
    let port = Sender::start(load, SETTING).port;
    let names: Vec<String> = (0..count).map(channel).collect();
    let title = format!("receive {SIZE} B, {count} subscriptions, {SETTING}");
    let mut race =
        Race::new(title, COLUMNS).with("bare", move || theirs::bare(port, each * count, SIZE));
    for (name, wire) in WIRES {
        let names = names.clone();
        race = race.with(name, move || ours::many(port, wire, names.clone(), 0, each));
    }
    SETTING.run(move |runtime| race.run(runtime, rounds))
}

/// So many connections, each with one subscription, or with a bare loop in a task of its own.
fn sessions(count: usize, messages: usize, rounds: usize) -> Outcome {
    // So many that not only their beginnings are measured.
    let each = (messages / count).max(400);
    let port = Sender::start_for_many(Load::ticks(SIZE, each), SETTING).port;
    let title = format!("receive {SIZE} B, {count} sessions, {SETTING}");
    let mut race = Race::new(title, COLUMNS).with("bare", move || {
        crowd(count, each, move || bare::socket(port), read_bare)
    });
    for (name, wire) in WIRES {
        race = race.with(name, move || {
            crowd(count, each, move || subscribed(port, wire), read)
        });
    }
    SETTING.run(move |runtime| race.run(runtime, rounds))
}

async fn read_bare(mut socket: WebSocketStream<TcpStream>, messages: usize) {
    socket.send(Message::text("go")).await.expect("go");
    for _ in 0..messages {
        let message = socket.next().await.expect("a message").expect("a message");
        assert!(message.is_text());
    }
}

async fn subscribed(port: u16, wire: WireBackend) -> (Session, Subscription<Frame>) {
    let session = connect(config(port, wire)).await;
    let channel = Channel::<Frame>::new(CHANNEL);
    let ticks = session.subscribe_with(channel, lossless()).await;
    (session, ticks.expect("a subscription"))
}

async fn read((session, mut ticks): (Session, Subscription<Frame>), messages: usize) {
    session.send(Frame::text("go")).await.expect("go");
    for _ in 0..messages {
        let tick = ticks.next().await;
        assert!(matches!(tick, Some(Event::Data(_))), "{tick:?}");
    }
}

/// Opens them all, then has them all run, and says how many messages a second all of them received together.
async fn crowd<T, Open, Run>(
    count: usize,
    each: usize,
    open: impl Fn() -> Open,
    run: impl Fn(T, usize) -> Run,
) -> Vec<f64>
where
    T: Send + 'static,
    Open: Future<Output = T> + Send + 'static,
    Run: Future<Output = ()> + Send + 'static,
{
    let mut ready = Vec::with_capacity(count);
    for _ in 0..count {
        ready.push(open().await);
    }
    let began = Instant::now();
    let mut running = JoinSet::new();
    for one in ready {
        running.spawn(run(one, each));
    }
    running.join_all().await;
    vec![(count * each) as f64 / began.elapsed().as_secs_f64()]
}

fn draw(file: &str, label: &str, outcomes: Vec<(usize, Outcome)>) {
    let Ok(folder) = std::env::var("PLOTS") else {
        return;
    };
    let lines = WIRES.map(|(name, _)| Line {
        name,
        points: outcomes
            .iter()
            .filter_map(|(count, outcome)| Some((*count as f64, outcome.ratio(name, "bare", 0)?)))
            .collect(),
    });
    plot(&Path::new(&folder).join(file), label, &lines);
}
