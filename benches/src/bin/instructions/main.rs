//! Instructions that a message and a request cost, ours against bare tokio-tungstenite loops: a guard that holds on a
//! busy machine, where time says nothing.
//!
//! `cargo run --release -p mainstay-benches --bin instructions` runs itself under `valgrind --tool=callgrind` and
//! fails if a bar is broken. Each contender does each job twice, once with more to do; the difference is what the
//! further messages cost, without whatever comes before and behind them. Without valgrind it says so and
//! leaves with success. `instructions <job> <contender> <count>` does that alone, to be looked at with other tools.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program that shows something"
)]

mod count;
mod jobs;

use std::process::{Command, ExitCode};

use count::cost;
use jobs::Job;
use mainstay_benches::race;

const BARE: &str = "bare";

/// What each job may cost over tungstenite and over the fast wire, in instructions of the bare loop that receives or that
/// asks: some percent above what it was when this was written.
const BARS: [(Job, [f64; 2]); 4] = [
    (Job::Ticks, [1.40, 0.65]),
    (Job::Channels, [1.85, 1.20]),
    (Job::Request, [2.70, 2.50]),
    (Job::Requests, [1.12, 1.02]),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [job, contender, count] = &arguments[..] {
        let job = Job::named(job).expect("the name of a job");
        job.run(contender, count.parse().expect("a number"));
        return ExitCode::SUCCESS;
    }
    if Command::new("valgrind").arg("--version").output().is_err() {
        eprintln!("NO VALGRIND: the instructions of messages and requests are not counted");
        return ExitCode::SUCCESS;
    }
    let (mut broken, mut bare) = (false, 0.0);
    for (job, bars) in BARS {
        println!("{}", job.title());
        if job.has_bare() {
            bare = cost(job, BARE);
            println!("  {BARE:<10} {bare:>6.0}");
        }
        for (name, bar) in ["ours", "ours_fast"].into_iter().zip(bars) {
            let ours = cost(job, name);
            println!("  {name:<10} {ours:>6.0}");
            broken |= !race::at_most(
                &format!("instructions_{}_{name}", job.name()),
                ours / bare,
                bar,
            );
        }
    }
    ExitCode::from(u8::from(broken))
}
