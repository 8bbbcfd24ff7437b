//! Thousands of dynamic children killed at once: how long until each end was dealt with, and how long a
//! call waits meanwhile.
//!
//! Once for children that are forgotten and once for children that are all restarted. Each round has a tenth of
//! the children and then all of them, so that what disturbs the machine disturbs both; the median over the rounds
//! of the time for one child, by the time for one of a tenth as many, is what linearity means: 1, and 10 where each
//! end walks over all children.
//!
//! `cargo bench -p mainstay-supervisors --bench swarm`; `ROUNDS`, `SIZE` (the larger of the two) and
//! `WORKERS` (at most so many) in the environment change what is measured. Nothing is waited for longer than
//! [`LIMIT`]: the program fails then.

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

/// How many times as long one child may take among ten times as many: one is linear and ten quadratic. What is
/// measured lies between 0.8 and 1.2, on a busy machine up to 1.8.
const LINEAR: f64 = 2.0;

/// Far longer than any part of a round takes.
const LIMIT: Duration = Duration::from_secs(60);

/// A tenth of the children is over so soon that one reading of it says little.
const SMALL_READINGS: usize = 3;

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
            let mut figures = [Figures::default(), Figures::default()];
            let mut ratios = Vec::new();
            for _ in 0..rounds {
                let [small, large] =
                    [(size / 10, SMALL_READINGS), (size, 1)].map(|(size, readings)| {
                        let readings =
                            (0..readings).map(|_| runtime.block_on(round(size, restart)));
                        readings.collect::<Vec<Round>>()
                    });
                let each = |rounds: &[Round], size: usize| {
                    let ends = rounds.iter().map(|round| round.all_dealt_with);
                    median(ends.collect()).as_secs_f64() / size as f64
                };
                ratios.push(each(&large, size) / each(&small, size / 10));
                figures[0].take(small);
                figures[1].take(large);
            }
            for (figures, size) in figures.into_iter().zip([size / 10, size]) {
                slowest = slowest.max(figures.slowest_call);
                figures.print(&format!(
                    "{workers} worker(s)  {restart:?}  {size:>6} killed"
                ));
            }
            ratios.sort_by(f64::total_cmp);
            let name = format!("swarm_{restart:?}_{size}_each_to_a_tenth_T{workers}");
            bars.push(Bar::new(&name, ratios[ratios.len() / 2], LINEAR));
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

/// What rounds of one size came to.
#[derive(Default)]
struct Figures {
    ends: Vec<Duration>,
    shutdowns: Vec<Duration>,
    slowest_call: Duration,
}

impl Figures {
    fn take(&mut self, rounds: Vec<Round>) {
        for round in rounds {
            self.ends.push(round.all_dealt_with);
            self.shutdowns.push(round.shutdown);
            self.slowest_call = self.slowest_call.max(round.slowest_call);
        }
    }

    fn print(self, what: &str) {
        let (ends, wait) = (median(self.ends), self.slowest_call);
        let shutdown = median(self.shutdowns);
        println!(
            "{what}: all dealt with in {ends:>9.2?}, slowest call {wait:>8.2?}, \
             shutdown of the rest {shutdown:>9.2?}"
        );
    }
}

async fn in_time<T>(what: &str, wait: impl Future<Output = T>) -> T {
    match tokio::time::timeout(LIMIT, wait).await {
        Ok(done) => done,
        Err(_) => panic!("{what} took longer than {LIMIT:?}"),
    }
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
        .start();
    let tree = in_time("the start", tree).await.expect("it starts");
    let spec = ChildSpec::actor("idle", |_| Ok((Idle, ()))).restart(restart);
    let starts = (0..size).map(|_| swarm.start_child(spec.clone()));
    let cells: Vec<ActorCell> = in_time("the start of all", join_all(starts))
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
        let counts = in_time("a call", swarm.count_children()).await;
        slowest_call = slowest_call.max(asked.elapsed());
        assert!(counts.is_ok(), "the supervisor lives");
        if let Ok(at) = all_done.try_recv() {
            break at.duration_since(began);
        }
        assert!(began.elapsed() < LIMIT, "ends were not dealt with");
        tokio::time::sleep(Duration::from_millis(1)).await;
    };
    let counts = in_time("a call", swarm.count_children()).await;
    let counts = counts.expect("it lives");
    let left = if restart == Restart::Permanent {
        size
    } else {
        0
    };
    assert_eq!(counts.specs, left);
    let ending = Instant::now();
    in_time("the shutdown", tree.shutdown(ShutdownPlan::within(LIMIT))).await;
    Round {
        all_dealt_with,
        slowest_call,
        shutdown: ending.elapsed(),
    }
}
