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

use std::collections::HashSet;
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
const BARS: [(&str, f64); 2] = [("ours", 1.40), ("ours_fast", 0.65)];

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

/// The instructions of a whole run, this program's other threads included, without those that fill or move memory: they
/// are counted by the byte, and how many bytes a read has room for and brings is the machine's mood.
fn count(contender: &str, messages: u64) -> u64 {
    let this = std::env::current_exe().expect("a path to this program");
    let counted = this.with_extension(format!("callgrind.{contender}.{messages}"));
    let output = Command::new("valgrind")
        .arg("--tool=callgrind")
        .arg(format!("--callgrind-out-file={}", counted.display()))
        .arg(this)
        .args([contender, &messages.to_string()])
        .output()
        .expect("valgrind");
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{contender}: {told}");
    let profile = std::fs::read_to_string(&counted).expect("a profile");
    // What stays behind lies beside the program, and is written over by the next run.
    let _ = std::fs::remove_file(counted);
    own(&profile)
}

/// The sum of all functions' own instructions in a profile ("Callgrind Format Specification" in valgrind's manual), but
/// for memset's and memmove's.
fn own(profile: &str) -> u64 {
    let mut by_the_byte = HashSet::new();
    let (mut counts, mut callee, mut sum) = (true, false, 0);
    for line in profile.lines() {
        if let Some((key, name)) = line.split_once("fn=") {
            // A function has its name where it is mentioned first.
            let (id, name) = name.split_once(' ').unwrap_or((name, ""));
            if name.contains("memset") || name.contains("memcpy") || name.contains("memmove") {
                by_the_byte.insert(id);
            }
            if key.is_empty() {
                counts = !by_the_byte.contains(id);
            }
        } else if line.starts_with("calls=") {
            // The next line tells what was called took, which is told with that function itself.
            callee = true;
        } else if line.starts_with(|first: char| matches!(first, '+' | '-' | '*' | '0'..='9')) {
            let cost = line
                .rsplit(' ')
                .next()
                .and_then(|cost| cost.parse::<u64>().ok());
            if counts && !std::mem::take(&mut callee) {
                sum += cost.unwrap_or_default();
            }
            callee = false;
        }
    }
    assert!(sum > 0, "no count in the profile");
    sum
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
