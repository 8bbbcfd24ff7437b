//! Resident memory of an idle session over that of a bare connection with the same read buffer.
//!
//! Each figure comes from a process of its own, since what was freed before would be used again. The server
//! is in this one.

use std::process::Command;
use std::time::Duration;

use futures_util::StreamExt;
use mainstay::config::WireBackend;
use mainstay_benches::crowd::Crowd;
use mainstay_benches::race::{at_most, median, sorted};
use mainstay_benches::session::{WIRES, config, connect};
use mainstay_benches::setting::Setting;
use mainstay_benches::{bare, rounds};

/// In the arguments of a process that measures, before contender, count and port.
pub(crate) const FLAG: &str = "--contender";

/// The same for both sides; ours grows up to it with the traffic.
const READ_BUFFER: usize = 64 * 1024;

pub(crate) fn run() {
    let counts = std::env::var("SESSIONS").unwrap_or_else(|_| by_default());
    for count in counts.split(',').map(str::trim) {
        compare(count, rounds(5));
    }
}

/// As many as the files allow that this process may open.
fn by_default() -> String {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let files = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))
        .and_then(|rest| rest.split_whitespace().next())
        .and_then(|soft| soft.parse::<u64>().ok());
    if files.is_some_and(|files| files > 10_100) {
        return "1000,10000".to_owned();
    }
    println!("LEFT OUT: 10000 sessions, for which `ulimit -n` is too low");
    "1000".to_owned()
}

fn compare(count: &str, rounds: usize) {
    let names = ["bare", WIRES[0].0, WIRES[1].0];
    println!("\nidle memory, kB for each of {count}; {rounds} rounds, medians (lowest to highest)");
    let mut figures = vec![Vec::new(); names.len()];
    for round in 0..rounds {
        for step in 0..names.len() {
            let index = (round + step) % names.len();
            figures[index].push(ask(names[index], count));
        }
    }
    let bare = median(&sorted(figures[0].iter().copied()));
    for (name, figures) in names.iter().zip(&figures) {
        let figures = sorted(figures.iter().copied());
        let (low, high) = (figures[0], figures[figures.len() - 1]);
        println!(
            "  {name:<34}  {:>8.1} ({low:.1} to {high:.1})",
            median(&figures)
        );
    }
    for (name, figures) in names.iter().zip(&figures).skip(1) {
        let more = median(&sorted(figures.iter().copied())) - bare;
        let bar = name.trim_start_matches("ours");
        at_most(&format!("memory_kB_over_bare_{count}{bar}"), more, 48.0);
    }
}

/// Has a fresh process measure, against a fresh server.
fn ask(name: &str, count: &str) -> f64 {
    let crowd = Crowd::start(Setting::Two);
    let program = std::env::current_exe().expect("this program has a path");
    let output = Command::new(program)
        .args([FLAG, name, count, &crowd.port.to_string()])
        .output()
        .expect("this program runs again");
    let said = String::from_utf8_lossy(&output.stdout);
    said.trim().parse().unwrap_or_else(|_| {
        let complaint = String::from_utf8_lossy(&output.stderr);
        panic!("{name} measured nothing: {said} {complaint}")
    })
}

/// In the fresh process: tells the kilobytes of one connection.
pub(crate) fn contend(arguments: &[String]) {
    let [name, count, port] = arguments else {
        panic!("contender, count and port, not {arguments:?}");
    };
    let count: usize = count.parse().expect("a count");
    let port: u16 = port.parse().expect("a port");
    let wire = WIRES.iter().find(|(known, _)| known == name);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let taken = runtime.block_on(async {
        match wire {
            Some((_, wire)) => ours(port, *wire, count).await,
            None => bare_loops(port, count).await,
        }
    });
    println!("{}", taken as f64 / count as f64);
}

async fn bare_loops(port: u16, count: usize) -> usize {
    let before = resident();
    for _ in 0..count {
        let mut socket = bare::with_read_buffer(port, READ_BUFFER).await;
        tokio::spawn(async move { while let Some(Ok(_)) = socket.next().await {} });
    }
    settle().await;
    resident() - before
}

async fn ours(port: u16, wire: WireBackend, count: usize) -> usize {
    let before = resident();
    let mut sessions = Vec::with_capacity(count);
    for _ in 0..count {
        sessions.push(connect(config(port, wire).read_buffer(READ_BUFFER)).await);
    }
    settle().await;
    resident() - before
}

/// Whoever has just started gets to where he waits.
async fn settle() {
    tokio::time::sleep(Duration::from_millis(500)).await;
}

/// Resident kilobytes of this process, as Linux tells them.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    line.and_then(|line| line.split_whitespace().nth(1))
        .and_then(|kilobytes| kilobytes.parse().ok())
        .expect("a resident size")
}
