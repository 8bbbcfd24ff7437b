//! Receiving 200-byte ticks: a subscription of ours against a bare tokio-tungstenite loop.
//!
//! Both read the same bytes from the same kind of sender, a thread that writes ready-made frames into
//! a raw socket, in the same process and in turn. Absolute figures move with the machine; the ratio of
//! the medians, on the last line, is what counts.
//!
//! `cargo bench --bench receive`; `MESSAGES` and `ROUNDS` in the environment change the size.

#![allow(clippy::print_stdout, reason = "a program that shows something")]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use mainstay::config::{Overflow, Queue, ReconnectOwner, WireBackend};
use mainstay::{Channel, Client, Config, Event, Frame};
use tokio_tungstenite::tungstenite::Message;

const SIZE: usize = 200;

fn main() {
    let messages = number("MESSAGES", 1_000_000);
    let rounds = number("ROUNDS", 7);
    println!("receive {SIZE} B, {messages} messages, {rounds} rounds, bare and ours in turn");
    let one = compare("one worker ", &runtime(1), messages, rounds);
    let two = compare("two workers", &runtime(2), messages, rounds);
    println!("ratio receive_200B_T2 {two:.3}");
    println!("ratio receive_200B_T1 {one:.3}");
}

fn number(name: &str, default: usize) -> usize {
    std::env::var(name)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(default)
}

fn runtime(workers: usize) -> tokio::runtime::Runtime {
    let mut builder = match workers {
        1 => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    if workers > 1 {
        builder.worker_threads(workers);
    }
    builder.enable_all().build().expect("a runtime")
}

fn compare(label: &str, runtime: &tokio::runtime::Runtime, messages: usize, rounds: usize) -> f64 {
    let blaster = Blaster::start(messages);
    // A round to warm up, not counted.
    on_a_worker(runtime, bare(blaster.port, messages));
    on_a_worker(runtime, ours(blaster.port, messages));
    let (mut bares, mut oursies) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        bares.push(rate(
            messages,
            on_a_worker(runtime, bare(blaster.port, messages)),
        ));
        oursies.push(rate(
            messages,
            on_a_worker(runtime, ours(blaster.port, messages)),
        ));
    }
    let (bare, ours) = (median(&mut bares), median(&mut oursies));
    println!("{label}  bare {bare:>12.0} msg/s  {}", spread(&bares));
    println!("{label}  ours {ours:>12.0} msg/s  {}", spread(&oursies));
    ours / bare
}

/// As a program's own task, not on the thread that started the runtime: that one would be a third on two cores.
fn on_a_worker(
    runtime: &tokio::runtime::Runtime,
    job: impl Future<Output = Duration> + Send + 'static,
) -> Duration {
    runtime
        .block_on(async { tokio::spawn(job).await })
        .expect("a whole run")
}

fn rate(messages: usize, took: Duration) -> f64 {
    messages as f64 / took.as_secs_f64()
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn spread(sorted: &[f64]) -> String {
    format!("(from {:.0} to {:.0})", sorted[0], sorted[sorted.len() - 1])
}

/// The loop that looks at nothing.
async fn bare(port: u16, messages: usize) -> Duration {
    let stream = tokio::net::TcpStream::connect(("127.0.0.1", port))
        .await
        .expect("a connection");
    stream.set_nodelay(true).expect("nodelay");
    let url = format!("ws://127.0.0.1:{port}/");
    let (mut socket, _) = tokio_tungstenite::client_async(url, stream)
        .await
        .expect("an upgrade");
    socket.send(Message::text("go")).await.expect("go");
    let began = Instant::now();
    let (mut count, mut bytes) = (0, 0);
    while count < messages {
        match socket.next().await {
            Some(Ok(Message::Text(text))) => {
                count += 1;
                bytes += text.len();
            }
            other => panic!("{other:?}"),
        }
    }
    let took = began.elapsed();
    assert_eq!(bytes, messages * SIZE);
    took
}

/// A supervised session with one subscription: envelope routed, payload raw, statistics on.
async fn ours(port: u16, messages: usize) -> Duration {
    let wire = match std::env::var("WIRE").as_deref() {
        Ok("fast") => WireBackend::Fast,
        _ => WireBackend::Tungstenite,
    };
    let config = Config::builder(format!("ws://127.0.0.1:{port}/"))
        .reconnect_owner(ReconnectOwner::Client)
        .wire(wire)
        .build()
        .expect("a configuration");
    let session = Client::connect_with(config).await.expect("a session");
    // Lossless, so that every message is counted.
    let queue = Queue::new(4096, Overflow::Block(Duration::from_secs(60)));
    let channel = Channel::<Frame>::new("ticker.BTC-PERPETUAL.100ms");
    let mut ticks = session
        .subscribe_with(channel, queue)
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
    assert_eq!(bytes, messages * SIZE);
    drop(ticks);
    session.shutdown().await;
    took
}

/// Writes ready-made frames into every socket that says "go".
struct Blaster {
    port: u16,
}

impl Blaster {
    fn start(messages: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // One at a time, as the rounds are.
                serve(stream, messages);
            }
        });
        Self { port }
    }
}

fn serve(stream: TcpStream, messages: usize) {
    stream.set_nodelay(true).expect("nodelay");
    let mut socket = tokio_tungstenite::tungstenite::accept(stream).expect("an upgrade");
    match socket.read() {
        Ok(Message::Text(text)) if text == "go" => {}
        _ => return,
    }
    let stream = socket.get_mut();
    let frame = frame();
    let block: Vec<u8> = frame
        .iter()
        .copied()
        .cycle()
        .take(frame.len() * 512)
        .collect();
    let mut left = messages;
    while left > 0 {
        let now = left.min(512);
        if stream.write_all(&block[..now * frame.len()]).is_err() {
            return;
        }
        left -= now;
    }
    // Until the other side is done.
    let _ = stream.read_to_end(&mut Vec::new());
}

/// One unmasked text frame (RFC 6455, section 5.2) with a tick of exactly `SIZE` bytes.
fn frame() -> Vec<u8> {
    let head = r#"{"jsonrpc":"2.0","method":"subscription","params":{"channel":"ticker.BTC-PERPETUAL.100ms","data":{"mark_price":50123.5,"best_bid_price":50123.0,"pad":""#;
    let tail = r#""}}}"#;
    let pad = "x".repeat(SIZE - head.len() - tail.len());
    let text = format!("{head}{pad}{tail}");
    let mut frame = vec![0x81, 126];
    frame.extend_from_slice(&(SIZE as u16).to_be_bytes());
    frame.extend_from_slice(text.as_bytes());
    frame
}
