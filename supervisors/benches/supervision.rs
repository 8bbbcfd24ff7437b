//! What supervision costs over plain ractor: a cast through an address, the way from a failure to
//! its replacement, and the memory of a child.
//!
//! Both contenders of a part do the same work in the same process and in turn (memory: in fresh
//! processes, in turn). Absolute figures move with the machine; ratios count, for casts the median of those of
//! each round and else those of the medians, and the last lines hold them against their bars
//! (`supervision/bars.rs` says how).
//!
//! `cargo bench -p mainstay-supervisors`; `PARTS` in the environment is a list of parts to run
//! (`cast,recovery,memory`), `MESSAGES`, `FAILURES`, `CHILDREN` and `ROUNDS` change the size.

#![allow(clippy::print_stdout, reason = "a program that shows something")]

use std::process::{Command, ExitCode};

use bars::Bar;

#[path = "supervision/bars.rs"]
mod bars;
#[path = "supervision/cast.rs"]
mod cast;
#[path = "supervision/memory.rs"]
mod memory;
#[path = "supervision/recovery.rs"]
mod recovery;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip_while(|it| it != FLAG).skip(1);
    if let (Some(part), Some(contender)) = (arguments.next(), arguments.next()) {
        match part.as_str() {
            "cast" => cast::contend(),
            _ => memory::contend(&contender),
        }
        return ExitCode::SUCCESS;
    }
    let parts = std::env::var("PARTS").unwrap_or_else(|_| "cast,recovery,memory".to_owned());
    let mut bars = Vec::new();
    for part in parts.split(',') {
        match part.trim() {
            "cast" => cast::run(&mut bars),
            "recovery" => recovery::run(&mut bars),
            "memory" => memory::run(&mut bars),
            other => {
                println!("BROKEN: there is no part {other}");
                return ExitCode::FAILURE;
            }
        }
        println!();
    }
    bars::tell(&bars)
}

/// In the arguments of a process that measures for another, before the part and the contender.
const FLAG: &str = "--contender";

/// Has a fresh process measure, and returns what it printed.
fn ask(part: &str, contender: &str) -> String {
    let program = std::env::current_exe().expect("this program has a path");
    let output = Command::new(program)
        .args([FLAG, part, contender])
        .output()
        .expect("it runs again");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).expect("figures")
}

fn number(name: &str, default: usize) -> usize {
    std::env::var(name)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(default)
}

/// The runtimes everything in one process is measured on.
fn runtimes() -> [(&'static str, tokio::runtime::Runtime); 2] {
    let one = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let two = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    [
        ("current_thread", one.expect("a runtime")),
        ("two workers", two.expect("a runtime")),
    ]
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// The median and the noise around it.
fn spread(values: &mut [f64]) -> String {
    let middle = median(values);
    format!(
        "{middle:>12.3} (from {:.3} to {:.3})",
        values[0],
        values[values.len() - 1]
    )
}
