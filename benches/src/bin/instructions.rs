//! Instructions that a received message costs, ours against a bare tokio-tungstenite loop: a guard that holds on a
//! busy machine, where time says nothing.
//!
//! `cargo run --release -p mainstay-benches --bin instructions` runs itself under `valgrind --tool=callgrind` and
//! fails if a bar is broken. Each contender receives two loads, one larger than the other; the difference is what
//! the further messages cost, without whatever comes before and behind them. Without valgrind it says so and
//! leaves with success.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program that shows something"
)]

use std::process::{Command, ExitCode};

use futures_util::{SinkExt, StreamExt};
use mainstay::config::WireBackend;
use mainstay::{Channel, Event, Frame};
use mainstay_benches::load::{CHANNEL, Load};
use mainstay_benches::sender::Sender;
use mainstay_benches::session::{WIRES, config, connect, lossless};
use mainstay_benches::setting::Setting;
use mainstay_benches::{bare, race};
use tokio_tungstenite::tungstenite::Message;

/// Bytes in a message.
const SIZE: usize = 200;
const FEW: u64 = 10_000;
const MANY: u64 = 40_000;
/// Of an odd number there is a middle one.
const ROUNDS: usize = 3;
/// What ours may cost in instructions of the bare loop, some percent above what it was when this was written: over
/// tungstenite, and over the fast wire.
const BARS: [(&str, f64); 2] = [("ours", 1.25), ("ours_fast", 0.80)];

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    if let (Some(contender), Some(messages)) = (arguments.next(), arguments.next()) {
        receive(&contender, messages.parse().expect("a number of messages"));
        return ExitCode::SUCCESS;
    }
    if Command::new("valgrind").arg("--version").output().is_err() {
        eprintln!("NO VALGRIND: the instructions of a message are not counted");
        return ExitCode::SUCCESS;
    }
    let bare = cost("bare");
    println!("receive {SIZE} B, instructions a message\n  bare       {bare:>6.0}");
    let mut broken = false;
    for (name, bar) in BARS {
        let ours = cost(name);
        println!("  {name:<10} {ours:>6.0}");
        broken |= !race::at_most(&format!("instructions_{name}"), ours / bare, bar);
    }
    ExitCode::from(u8::from(broken))
}

/// The instructions that one message more costs.
fn cost(contender: &str) -> f64 {
    let rounds = (0..ROUNDS).map(|_| {
        let (few, many) = (count(contender, FEW), count(contender, MANY));
        (many as f64 - few as f64) / (MANY - FEW) as f64
    });
    race::median(&race::sorted(rounds))
}

/// The instructions of a whole run, this program's other threads included.
fn count(contender: &str, messages: u64) -> u64 {
    let this = std::env::current_exe().expect("a path to this program");
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(this)
        .args([contender, &messages.to_string()])
        .output()
        .expect("valgrind");
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{contender}: {told}");
    let counted = told
        .lines()
        .find_map(|line| line.split_once("Collected : "));
    let (_, counted) = counted.unwrap_or_else(|| panic!("no count in: {told}"));
    counted.trim().parse().expect("a count")
}

fn receive(contender: &str, messages: usize) {
    let port = Sender::start(Load::ticks(SIZE, messages), Setting::Two).port;
    Setting::One.run(|runtime| {
        runtime.block_on(async {
            match WIRES.iter().find(|(name, _)| *name == contender) {
                Some((_, wire)) => ours(port, *wire, messages).await,
                None => theirs(port, messages).await,
            }
        });
    });
}

async fn theirs(port: u16, messages: usize) {
    let mut socket = bare::socket(port).await;
    socket.send(Message::text("go")).await.expect("go");
    for _ in 0..messages {
        let message = socket.next().await.expect("a message").expect("a message");
        assert!(message.is_text());
    }
}

async fn ours(port: u16, wire: WireBackend, messages: usize) {
    let session = connect(config(port, wire)).await;
    let channel = Channel::<Frame>::new(CHANNEL);
    let mut ticks = session
        .subscribe_with(channel, lossless())
        .await
        .expect("a subscription");
    session.send(Frame::text("go")).await.expect("go");
    for _ in 0..messages {
        let tick = ticks.next().await;
        assert!(matches!(tick, Some(Event::Data(_))), "{tick:?}");
    }
    drop(ticks);
    session.shutdown().await;
}
