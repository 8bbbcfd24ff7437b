//! What the benchmarks share: runtimes, contenders that take turns, bars, and the other side of the socket.
//!
//! Every figure is a ratio against a named baseline that was measured in the same process, in turn with it.
//! Absolute figures move with the machine; ratios move less, and their spread over the rounds is printed beside
//! them. `docs/performance.md` says how to run and read them.

#![allow(clippy::print_stdout, reason = "programs that show something")]

pub mod bare;
pub mod collector;
pub mod crowd;
pub mod load;
pub mod pacer;
pub mod race;
pub mod responder;
pub mod sender;
pub mod session;
pub mod setting;
pub mod tls;

/// A size from the environment, or the default.
#[must_use]
pub fn number(name: &str, default: usize) -> usize {
    std::env::var(name)
        .ok()
        .and_then(|text| text.replace('_', "").parse().ok())
        .unwrap_or(default)
}

/// How many rounds, `ROUNDS` in the environment; an odd number has a middle.
#[must_use]
pub fn rounds(default: usize) -> usize {
    number("ROUNDS", default).max(1)
}

/// Whether a part of a benchmark is asked for: `PARTS` in the environment is a list of them, default all.
#[must_use]
pub fn asked(part: &str) -> bool {
    std::env::var("PARTS").map_or(true, |parts| {
        parts.split(',').any(|asked| asked.trim() == part)
    })
}
