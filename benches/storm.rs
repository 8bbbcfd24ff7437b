//! Many sessions lost at once: until all are live and restored again, against bare loops that reconnect.
//!
//! `cargo bench --bench storm`; `SESSIONS`, `ROUNDS` and `SETTING` in the environment change what is run.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use mainstay::config::WireBackend;
use mainstay::platform::{Batch, ChannelKind, Platform};
use mainstay::supervisors::{Backoff, Jitter};
use mainstay::{Call, Channel, Config, Frame, Session, SessionState};
use mainstay_benches::crowd::Crowd;
use mainstay_benches::race::Race;
use mainstay_benches::session::WIRES;
use mainstay_benches::setting::Setting;
use mainstay_benches::{bare, number, rounds};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

fn main() {
    let sessions = number("SESSIONS", 1000);
    let rounds = rounds(5);
    for setting in Setting::asked() {
        let title = format!("{sessions} sessions lost at once, {setting}");
        let mut race = Race::new(title, &["ms"])
            .with("bare", move || loops(Crowd::start(setting), sessions, None))
            .with("bare, our read buffer", move || {
                loops(Crowd::start(setting), sessions, Some(READ_BUFFER))
            });
        for (name, wire) in WIRES {
            race = race.with(name, move || ours(Crowd::start(setting), wire, sessions));
        }
        let outcome = setting.run(move |runtime| race.run(runtime, rounds));
        for (name, bar) in [("ours", ""), ("ours_fast", "_fast")] {
            let bar = format!("storm_{setting}{bar}");
            outcome.at_most(&bar, name, "bare, our read buffer", 0, 1.3);
        }
    }
}

/// The same for both sides; ours grows up to it with the traffic.
const READ_BUFFER: usize = 64 * 1024;
/// Before the second attempt and all after it; the first is made at once, on both sides.
const PAUSE: Duration = Duration::from_millis(250);
const PROOF: Duration = Duration::from_millis(5);
const SUBSCRIBE: &str =
    r#"{"jsonrpc":"2.0","id":1,"method":"subscribe","params":{"channels":["ticker"]}}"#;

/// One task for each connection: connects, subscribes, waits for the answer, reads until it is lost, again.
async fn loops(crowd: Crowd, count: usize, read_buffer: Option<usize>) -> Vec<f64> {
    let (up, mut ups) = mpsc::unbounded_channel();
    let port = crowd.port;
    let mut tasks = JoinSet::new();
    for _ in 0..count {
        let up = up.clone();
        tasks.spawn(async move {
            loop {
                // Lost in between is lost, and tried again.
                if connection(port, read_buffer, &up).await.is_none() {
                    tokio::time::sleep(PAUSE).await;
                }
            }
        });
    }
    all_up(&mut ups, count).await;
    let began = Instant::now();
    crowd.cut();
    all_up(&mut ups, count).await;
    let took = began.elapsed();
    tasks.shutdown().await;
    vec![millis(took)]
}

/// `None` if it never came to be.
async fn connection(
    port: u16,
    read_buffer: Option<usize>,
    up: &mpsc::UnboundedSender<()>,
) -> Option<()> {
    let mut config = WebSocketConfig::default();
    if let Some(bytes) = read_buffer {
        config = config.read_buffer_size(bytes);
    }
    let mut socket = bare::configured(port, config).await.ok()?;
    socket.send(Message::text(SUBSCRIBE)).await.ok()?;
    socket.next().await?.ok()?;
    up.send(()).ok()?;
    while let Some(Ok(_)) = socket.next().await {}
    Some(())
}

async fn all_up(ups: &mut mpsc::UnboundedReceiver<()>, count: usize) {
    for _ in 0..count {
        ups.recv().await.expect("a connection");
    }
}

/// A venue whose subscriptions must be confirmed.
#[derive(Debug)]
struct Venue;

impl Platform for Venue {
    fn name(&self) -> &str {
        "storm"
    }

    fn subscribe(&self, channels: &[Arc<str>]) -> Vec<Batch> {
        batch("subscribe", channels)
    }

    fn unsubscribe(&self, channels: &[Arc<str>]) -> Vec<Batch> {
        batch("unsubscribe", channels)
    }

    fn channel(&self, _name: &str) -> ChannelKind {
        ChannelKind::state()
    }
}

fn batch(method: &'static str, channels: &[Arc<str>]) -> Vec<Batch> {
    let names: Vec<&str> = channels.iter().map(|channel| &**channel).collect();
    let call = Call::new(method, &serde_json::json!({ "channels": names }));
    vec![Batch::new(call.expect("JSON"), channels.to_vec())]
}

/// Sessions as `Session::start` makes them, each with one subscription that is restored.
async fn ours(crowd: Crowd, wire: WireBackend, count: usize) -> Vec<f64> {
    let backoff = Backoff::new(PAUSE, PAUSE).jitter(Jitter::None);
    let config = Config::builder(bare::url(crowd.port))
        .read_buffer(READ_BUFFER)
        .wire(wire)
        .backoff(backoff)
        // They have proved themselves by the time they are lost, as those of a running program have.
        .stable_after(PROOF)
        .build()
        .expect("a configuration");
    let mut starting = JoinSet::new();
    for _ in 0..count {
        let config = config.clone();
        starting.spawn(async move {
            let session = Session::start(Venue, config).await.expect("a session");
            let channel = Channel::<Frame>::new("ticker");
            let ticks = session.subscribe(channel).await.expect("a subscription");
            (session, ticks)
        });
    }
    let sessions = starting.join_all().await;
    let mut again = JoinSet::new();
    for (session, _) in &sessions {
        let mut states = session.watch();
        let first = epoch(&states.borrow()).expect("a live session");
        again.spawn(async move {
            let back = |state: &SessionState| epoch(state).is_some_and(|epoch| epoch > first);
            states.wait_for(back).await.map(drop).expect("live again");
        });
    }
    tokio::time::sleep(PROOF * 10).await;
    let began = Instant::now();
    crowd.cut();
    again.join_all().await;
    let took = began.elapsed();
    let mut ending = JoinSet::new();
    for (session, ticks) in sessions {
        drop(ticks);
        ending.spawn(async move { session.shutdown().await.map(drop) });
    }
    ending.join_all().await;
    vec![millis(took)]
}

fn epoch(state: &SessionState) -> Option<mainstay::Epoch> {
    match state {
        SessionState::Live { epoch } => Some(*epoch),
        _ => None,
    }
}

fn millis(took: Duration) -> f64 {
    took.as_secs_f64() * 1000.0
}
