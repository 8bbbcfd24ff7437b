//! What a session takes: allocations for each received message, and memory while it is idle.
//!
//! `cargo bench --bench memory`; `MESSAGES`, `SESSIONS` (a list, by default `1000,10000`, the larger where
//! `ulimit -n` is above it), `ROUNDS` and `PARTS` (`allocations,idle`) in the environment change what is run.

#![allow(clippy::print_stdout, reason = "a program that shows something")]

#[path = "memory/allocations.rs"]
mod allocations;
#[path = "memory/idle.rs"]
mod idle;

use std::alloc::System;

use mainstay_benches::Parts;
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

fn main() {
    // The idle part runs this program again, once for each contender and round.
    let arguments: Vec<String> = std::env::args().collect();
    if let Some(at) = arguments.iter().position(|it| it == idle::FLAG) {
        idle::contend(&arguments[at + 1..]);
        return;
    }
    let parts = Parts::asked(&["allocations", "idle"]);
    if parts.has("allocations") {
        allocations::run();
    }
    if parts.has("idle") {
        idle::run();
    }
}
