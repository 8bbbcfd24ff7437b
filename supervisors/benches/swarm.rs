//! Thousands of dynamic children killed at once: how long until each end was dealt with, and how long a
//! call waits meanwhile.
//!
//! Once for children that are forgotten and once for children that are all restarted; for 1 000 and for
//! 10 000 of them, so that the ratio shows whether the time is linear in the number.
//!
//! `cargo bench -p mainstay-supervisors --bench swarm`; `ROUNDS`, `SIZE` (the larger of the two) and
//! `WORKERS` (at most so many) in the environment change what is measured.

#![allow(clippy::print_stdout, reason = "a program that shows something")]

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use mainstay_supervisors::{
    ChildSpec, DynamicRef, DynamicSpec, Intensity, Restart, ShutdownPlan, Started,
    SupervisorEventKind,
};
use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef};

#[path = "supervision/bars.rs"]
mod bars;
use bars::Bar;

/// What a call may wait while thousands of ends are dealt with.
const BAR: Duration = Duration::from_millis(50);

/// How many times as long ten times as many may take: linear is 10, and quadratic would be 100.
const TWICE_LINEAR: f64 = 20.0;

struct Idle;

struct Nothing;
mainstay_supervisors::message!(Nothing);

#[cfg_attr(feature = "async-trait", ractor::async_trait)]
impl Actor for Idle {
    type Msg = Nothing;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Nothing>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }
}

fn main() -> ExitCode {
    let mut bars = Vec::new();
    let rounds = number("ROUNDS", 5).max(1);
    let size = number("SIZE", 10_000).max(10);
    let mut slowest = Duration::ZERO;
    for workers in 1..=number("WORKERS", 2) {
        let runtime = runtime(workers);
        for restart in [Restart::Temporary, Restart::Permanent] {
            let mut medians = Vec::new();
            for size in [size / 10, size] {
                let (mut ends, mut waits, mut shutdowns) = (Vec::new(), Vec::new(), Vec::new());
                for _ in 0..rounds {
                    let round = runtime.block_on(round(size, restart));
                    ends.push(round.all_dealt_with);
                    waits.push(round.slowest_call);
                    shutdowns.push(round.shutdown);
                }
                let wait = waits.into_iter().max().unwrap_or_default();
                slowest = slowest.max(wait);
                let (end, shutdown) = (median(ends), median(shutdowns));
                println!(
                    "{workers} worker(s)  {restart:?}  {size:>6} killed: all dealt with in {end:>9.2?}, \
                     slowest call {wait:>8.2?}, shutdown of the rest {shutdown:>9.2?}"
                );
                medians.push(end.as_secs_f64());
            }
            let ratio = medians[1] / medians[0];
            let name = format!("swarm_{restart:?}_{size}_to_a_tenth_T{workers}");
            bars.push(Bar::new(&name, ratio, TWICE_LINEAR));
        }
    }
    bars.push(Bar::new(
        "swarm_slowest_call_ms",
        slowest.as_secs_f64() * 1000.0,
        BAR.as_secs_f64() * 1000.0,
    ));
    bars::tell(&bars)
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

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

struct Round {
    all_dealt_with: Duration,
    slowest_call: Duration,
    shutdown: Duration,
}

async fn round(size: usize, restart: Restart) -> Round {
    let dealt = Arc::new(AtomicUsize::new(0));
    let counter = dealt.clone();
    let (done, mut all_done) = tokio::sync::mpsc::unbounded_channel();
    let swarm = DynamicRef::new();
    let tree = DynamicSpec::new()
        .intensity(Intensity::new(u32::MAX, Duration::from_secs(3600)))
        .reference(&swarm)
        .observe(move |event| {
            let last = matches!(
                event.kind,
                SupervisorEventKind::ChildExited {
                    restarts: false,
                    ..
                } | SupervisorEventKind::ChildRestarted { .. }
            );
            if last && counter.fetch_add(1, Ordering::Relaxed) + 1 == size {
                let _ = done.send(Instant::now());
            }
        })
        .start()
        .await
        .expect("it starts");
    let spec = ChildSpec::actor("idle", |_| Ok((Idle, ()))).restart(restart);
    let starts = (0..size).map(|_| swarm.start_child(spec.clone()));
    let cells: Vec<ActorCell> = join_all(starts)
        .await
        .into_iter()
        .filter_map(|started| {
            started
                .ok()
                .and_then(|(_, started): (_, Started)| started.cell().cloned())
        })
        .collect();
    assert_eq!(cells.len(), size, "all start");

    let began = Instant::now();
    for cell in &cells {
        cell.kill();
    }
    let mut slowest_call = Duration::ZERO;
    let all_dealt_with = loop {
        let asked = Instant::now();
        let counts = swarm.count_children().await;
        slowest_call = slowest_call.max(asked.elapsed());
        assert!(counts.is_ok(), "the supervisor lives");
        if let Ok(at) = all_done.try_recv() {
            break at.duration_since(began);
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    };
    let counts = swarm.count_children().await.expect("it lives");
    let left = if restart == Restart::Permanent {
        size
    } else {
        0
    };
    assert_eq!(counts.specs, left);
    let ending = Instant::now();
    tree.shutdown(ShutdownPlan::default()).await;
    Round {
        all_dealt_with,
        slowest_call,
        shutdown: ending.elapsed(),
    }
}
