//! Trees of real actors, on a paused clock unless a test says why not.
//!
//! The IDs in the doc comments are those of the conformance cases; `README.md` maps them to tests.

// Clippy knows tests by their attribute, not the helpers between them.
#![allow(clippy::unwrap_used)]

#[path = "tree/addresses.rs"]
mod addresses;
#[path = "tree/admin.rs"]
mod admin;
#[path = "tree/cases.rs"]
mod cases;
#[path = "tree/chaos.rs"]
mod chaos;
#[path = "tree/crowds.rs"]
mod crowds;
#[path = "tree/drains.rs"]
mod drains;
#[path = "tree/dynamic.rs"]
mod dynamic;
#[path = "tree/dynamic_ends.rs"]
mod dynamic_ends;
#[path = "tree/dynamic_specs.rs"]
mod dynamic_specs;
#[path = "tree/exits.rs"]
mod exits;
#[path = "tree/hot_loops.rs"]
mod hot_loops;
#[path = "tree/killed.rs"]
mod killed;
#[path = "tree/kinds.rs"]
mod kinds;
#[path = "tree/kit.rs"]
mod kit;
#[path = "tree/loops.rs"]
mod loops;
#[path = "tree/made.rs"]
mod made;
#[path = "tree/monitors.rs"]
mod monitors;
#[path = "tree/names.rs"]
mod names;
#[path = "tree/naughty.rs"]
mod naughty;
#[path = "tree/parking.rs"]
mod parking;
#[path = "tree/partitions.rs"]
mod partitions;
#[path = "tree/questions.rs"]
mod questions;
#[path = "tree/reconfigure.rs"]
mod reconfigure;
#[path = "tree/resizes.rs"]
mod resizes;
#[path = "tree/restarts.rs"]
mod restarts;
#[path = "tree/shutdown.rs"]
mod shutdown;
#[cfg(all(unix, feature = "signals"))]
#[path = "tree/signals.rs"]
mod signals;
#[path = "tree/significance.rs"]
mod significance;
#[path = "tree/significant.rs"]
mod significant;
#[path = "tree/snapshots.rs"]
mod snapshots;
#[path = "tree/starts.rs"]
mod starts;
#[path = "tree/strategies.rs"]
mod strategies;
#[path = "tree/streams.rs"]
mod streams;
#[path = "tree/suites.rs"]
mod suites;
#[path = "tree/task_streams.rs"]
mod task_streams;
#[path = "tree/task_suites.rs"]
mod task_suites;
#[path = "tree/task_supervisors.rs"]
mod task_supervisors;
#[path = "tree/tasks.rs"]
mod tasks;
#[path = "tree/telemetry.rs"]
mod telemetry;
#[path = "tree/traps.rs"]
mod traps;
#[path = "tree/watchdog.rs"]
mod watchdog;
