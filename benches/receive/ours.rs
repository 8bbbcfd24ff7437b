//! Our rows: sessions and their subscriptions.

use std::time::{Duration, Instant};

use mainstay::config::{Overflow, Queue, Record, WireBackend};
use mainstay::error::DecodeError;
use mainstay::otel::{Otel, Protocol};
use mainstay::{Channel, Event, Frame, Message, Session};
use mainstay_benches::load::CHANNEL;
use mainstay_benches::session::{config, config_tls, connect, lossless};
use mainstay_benches::tls::Authority;
use tokio::task::JoinSet;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::theirs::Envelope;

/// A supervised session with one subscription: envelope routed, payload raw, statistics on.
pub(crate) async fn raw(port: u16, wire: WireBackend, messages: usize, size: usize) -> Vec<f64> {
    let session = connect(config(port, wire)).await;
    consume(session, messages, size).await
}

/// The same over TLS.
pub(crate) async fn raw_tls(
    port: u16,
    authority: Authority,
    wire: WireBackend,
    messages: usize,
    size: usize,
) -> Vec<f64> {
    let session = connect(config_tls(port, wire, &authority)).await;
    consume(session, messages, size).await
}

/// The columns of [`plain`] and [`recorded`].
pub(crate) const RECORDING: &[&str] = &["msg/s", "msg/s in the file", "left out"];

/// [`raw`], with as many figures as [`recorded`].
pub(crate) async fn plain(port: u16, wire: WireBackend, messages: usize, size: usize) -> Vec<f64> {
    let session = connect(config(port, wire)).await;
    let rate = receive(&session, messages, size).await.rate(messages);
    session.shutdown().await;
    vec![rate, rate, 0.0]
}

/// The same, with every frame written to a file, by the recording's own bounds or by bounds within which all of the load
/// may wait. How fast the consumer has it, how fast the file has what was not left out, and how much was.
pub(crate) async fn recorded(
    port: u16,
    wire: WireBackend,
    messages: usize,
    size: usize,
    roomy: bool,
) -> Vec<f64> {
    let path = std::env::temp_dir().join(format!("mainstay-bench-{}.tape", std::process::id()));
    let mut record = Record::to(&path);
    if roomy {
        // With room for what is not a tick, and for what is known of each.
        record = record.bounds(2 * messages, 2 * messages * (size + 256));
    }
    let session = connect(config(port, wire).record(record)).await;
    let began = Instant::now();
    let took = receive(&session, messages, size).await;
    let written = session.flush_recording().await.expect("a recording");
    let until_written = Took(began.elapsed());
    session.shutdown().await;
    assert!(written.errors == 0 && written.entries + written.dropped > messages as u64);
    assert!(!roomy || written.dropped == 0, "{written:?}");
    // The next round writes it anew; a file that cannot be removed is the system's to remove.
    let _ = std::fs::remove_file(&path);
    let kept = messages.saturating_sub(written.dropped as usize);
    vec![
        took.rate(messages),
        until_written.rate(kept),
        written.dropped as f64,
    ]
}

/// The same, with all that it tells sent to a collector on this machine. On one thread, whose subscriber this sets.
pub(crate) async fn watched(
    port: u16,
    collector: u16,
    wire: WireBackend,
    messages: usize,
    size: usize,
) -> Vec<f64> {
    let otel = Otel::from_env()
        .endpoint(format!("http://127.0.0.1:{collector}"))
        .protocol(Protocol::Http)
        .build()
        .expect("an export");
    let listening = tracing_subscriber::registry()
        .with(otel.layer())
        .set_default();
    let session = connect(config(port, wire)).await;
    let figures = consume(session, messages, size).await;
    drop(listening);
    let sent = otel.shutdown(Duration::from_secs(10)).await;
    sent.expect("a collector that takes all");
    figures
}

async fn consume(session: Session, messages: usize, size: usize) -> Vec<f64> {
    let took = receive(&session, messages, size).await;
    session.shutdown().await;
    vec![took.rate(messages)]
}

/// How long something took.
struct Took(Duration);

impl Took {
    fn rate(&self, messages: usize) -> f64 {
        messages as f64 / self.0.as_secs_f64()
    }
}

async fn receive(session: &Session, messages: usize, size: usize) -> Took {
    let channel = Channel::<Frame>::new(CHANNEL);
    let mut ticks = session
        .subscribe_with(channel, lossless())
        .await
        .expect("a subscription");
    session.send(Frame::text("go")).await.expect("go");
    let began = Instant::now();
    let (mut count, mut bytes) = (0, 0);
    while count < messages {
        match ticks.next().await {
            Some(Event::Data(tick)) => {
                count += 1;
                bytes += tick.payload().len();
            }
            other => panic!("{other:?} after {count}"),
        }
    }
    let took = began.elapsed();
    assert_eq!(bytes, messages * size);
    Took(took)
}

impl Message for Envelope {
    fn decode(frame: &Frame) -> Result<Self, DecodeError> {
        serde_json::from_slice(frame.payload()).map_err(|error| DecodeError::json("tick", &error))
    }
}

/// One subscription whose messages the consumer's task decodes.
pub(crate) async fn typed(port: u16, wire: WireBackend, messages: usize) -> Vec<f64> {
    let session = connect(config(port, wire)).await;
    let mut ticks = session
        .subscribe_with(Channel::<Envelope>::new(CHANNEL), lossless())
        .await
        .expect("a subscription");
    session.send(Frame::text("go")).await.expect("go");
    let began = Instant::now();
    let mut sum = 0.0;
    for _ in 0..messages {
        match ticks.next().await {
            Some(Event::Data(tick)) => sum += tick.spread(),
            other => panic!("{other:?}"),
        }
    }
    let took = began.elapsed();
    assert!(sum > 0.0);
    drop(ticks);
    session.shutdown().await;
    vec![messages as f64 / took.as_secs_f64()]
}

/// A subscription and a task for each of `names`. The first `slow` of them rest between messages and lose
/// what does not fit; the others must get all of theirs.
pub(crate) async fn many(
    port: u16,
    wire: WireBackend,
    names: Vec<String>,
    slow: usize,
    each: usize,
) -> Vec<f64> {
    let session = connect(config(port, wire)).await;
    let all = names.len();
    let (mut quick, mut slowly) = (JoinSet::new(), JoinSet::new());
    for (index, name) in names.into_iter().enumerate() {
        let queue = if index < slow {
            Queue::new(256, Overflow::DropOldest)
        } else {
            lossless()
        };
        let mut ticks = session
            .subscribe_with(Channel::<Frame>::new(name), queue)
            .await
            .expect("a subscription");
        if index < slow {
            slowly.spawn(async move {
                while ticks.next().await.is_some() {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            });
        } else {
            quick.spawn(async move {
                for _ in 0..each {
                    match ticks.next().await {
                        Some(Event::Data(_)) => {}
                        other => panic!("{other:?}"),
                    }
                }
            });
        }
    }
    session.send(Frame::text("go")).await.expect("go");
    let began = Instant::now();
    while let Some(done) = quick.join_next().await {
        done.expect("all of its messages");
    }
    let took = began.elapsed();
    slowly.shutdown().await;
    session.shutdown().await;
    vec![(all * each) as f64 / took.as_secs_f64()]
}
