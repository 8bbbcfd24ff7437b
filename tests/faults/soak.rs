//! A soak: one script after the other, each made by its seed alone, run in memory under paused time.
//!
//! The seed decides over the faults, the session's delays, its queue, and whether its channels have a cadence; so a seed
//! that has failed fails again. `.ci/slow` runs a thousand of them.

use std::time::Duration;

use mainstay::config::{Ladder, Overflow, Queue};
use mainstay::testing::faults::{FaultOutcome, FaultReport, FaultRun, FaultScript, FaultWire};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use super::continuity::scripts;

/// How many seeds there are unless the environment says otherwise: few, so that tests stay quick.
const SEEDS: u64 = 16;

/// A number out of the environment.
fn set(name: &str) -> Option<u64> {
    let number = std::env::var(name).ok()?;
    let parsed = number.parse();
    Some(parsed.unwrap_or_else(|_| panic!("{name} is no number: {number:?}")))
}

/// The script of a seed.
fn script_of(seed: u64) -> FaultScript {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let random = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(Config::default(), random);
    scripts().new_tree(&mut runner).expect("a script").current()
}

/// Runs a seed. Every fourth has a queue that is too small, every other one channels with a cadence.
fn play(seed: u64) -> FaultReport {
    fastrand::seed(seed);
    let queue = match seed % 8 {
        3 => Queue::new(5, Overflow::DropOldest),
        7 => Queue::new(5, Overflow::DropNewest),
        _ => Queue::default(),
    };
    let run = FaultRun::new(script_of(seed), FaultWire::Memory);
    let run = match seed % 2 {
        0 => run,
        _ => run.cadence(Duration::from_millis(60)),
    };
    let run = run.configure(move |builder| {
        let ladder = Ladder::default().pause(Duration::from_millis(25));
        builder.queue(queue).ladder(ladder)
    });
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build();
    runtime
        .expect("a runtime")
        .block_on(run.run())
        .expect("a run")
}

/// Says which seed it was, in whatever way it failed.
struct Seed(u64);

impl Drop for Seed {
    #[allow(clippy::print_stderr, reason = "for whoever runs it again")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            let Self(seed) = self;
            eprintln!(
                "seed {seed} has failed; this one alone again:\n\
                 MAINSTAY_SOAK_FIRST={seed} MAINSTAY_SOAK_SEEDS=1 cargo test --test faults soak -- --nocapture\n\
                 its script:\n{}",
                script_of(*seed).to_json()
            );
        }
    }
}

/// `MAINSTAY_SOAK_SEEDS` says how many seeds, `MAINSTAY_SOAK_FIRST` with which to begin.
#[test]
fn a_soak_of_random_scripts_keeps_its_promises_whatever_the_seed() {
    let first = set("MAINSTAY_SOAK_FIRST").unwrap_or(0);
    let seeds = set("MAINSTAY_SOAK_SEEDS").unwrap_or(SEEDS);
    for seed in first..first + seeds {
        let seed = Seed(seed);
        let report = play(seed.0);
        assert!(report.violations.is_empty(), "{report}");
        assert_eq!(report.outcome, FaultOutcome::Recovered, "{report}");
    }
}

/// Everything that the session and the venue have said and done, with the time that it took.
fn trace(report: &FaultReport) -> String {
    format!("{report:#?}")
}

#[test]
fn the_same_seed_tells_the_same_story_twice() {
    for seed in 0..8 {
        let _named = Seed(seed);
        let (once, twice) = (trace(&play(seed)), trace(&play(seed)));
        let differs = once.lines().zip(twice.lines()).position(|(a, b)| a != b);
        assert_eq!(differs, None, "of {} lines", once.lines().count());
        assert_eq!(once.len(), twice.len());
    }
}
