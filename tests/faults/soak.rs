//! A soak: one script after the other, each made by its seed alone, run in memory under paused time.
//!
//! The seed decides over the faults and over the session: its delays, its queue and that one's rule, whether its channels
//! have a cadence, who reconnects it, its wire, its limits; so a seed that has failed fails again. `.ci/slow` runs a
//! thousand of them.

use std::time::Duration;

use mainstay::config::{
    ConfigBuilder, ConflationKey, Ladder, Overflow, Queue, RateLimits, ReconnectOwner, WireBackend,
};
use mainstay::testing::faults::{FaultReport, FaultScript};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use super::random::{check, run_of, scripts};

/// How many seeds there are unless the environment says otherwise: few, so that tests stay quick.
const SEEDS: u64 = 24;

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

/// What the session of a seed is like.
#[derive(Debug)]
struct Temper {
    queue: Queue,
    cadence: Option<Duration>,
    owner: ReconnectOwner,
    wire: WireBackend,
    /// Limits of its own, within the venue's if that has some.
    limits: Option<RateLimits>,
}

impl Temper {
    fn of(seed: u64, script: &FaultScript) -> Self {
        // Of another stream than the script.
        let mut random = fastrand::Rng::with_seed(!seed);
        let place = |pointer| ConflationKey::json_pointer(pointer).expect("a pointer");
        let rules = [
            Overflow::DropOldest,
            Overflow::DropNewest,
            Overflow::Block(Duration::from_millis(50)),
            // All messages of a channel have one key; or each has its own, and none can stand for another.
            Overflow::Conflate(place("/params/channel")),
            Overflow::Conflate(place("/params/data/n")),
            Overflow::Disconnect,
        ];
        let queue = match random.bool() {
            true => Queue::default(),
            false => Queue::new(
                random.usize(1..20),
                rules[random.usize(..rules.len())].clone(),
            ),
        };
        // Above the pace at which data comes on a line that is well.
        let cadence = 60.max(3 * script.every.as_millis() as u64);
        let cadence = random.bool().then(|| Duration::from_millis(cadence));
        let limits = match &script.limit {
            Some(limit) => RateLimits::window(limit.requests as u64, limit.per),
            None => RateLimits::window(random.u64(10..200), Duration::from_millis(500)),
        };
        let limits = limits
            .control_cost(random.u64(0..2))
            .adaptive(random.bool());
        Self {
            queue,
            cadence,
            owner: match random.bool() {
                true => ReconnectOwner::Adapter,
                false => ReconnectOwner::Client,
            },
            wire: match random.bool() {
                true => WireBackend::Tungstenite,
                false => WireBackend::Fast,
            },
            limits: random.bool().then_some(limits),
        }
    }

    fn configure(self, builder: ConfigBuilder) -> ConfigBuilder {
        let ladder = Ladder::default().pause(Duration::from_millis(25));
        let builder = builder
            .queue(self.queue)
            .ladder(ladder)
            .reconnect_owner(self.owner)
            .wire(self.wire);
        match self.limits {
            Some(limits) => builder.rate_limits(limits),
            None => builder,
        }
    }
}

/// Runs a seed.
fn play(seed: u64) -> FaultReport {
    fastrand::seed(seed);
    let script = script_of(seed);
    let temper = Temper::of(seed, &script);
    let run = run_of(&script);
    let run = match temper.cadence {
        Some(cadence) => run.cadence(cadence),
        None => run,
    };
    let run = run.configure(move |builder| temper.configure(builder));
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
            let script = script_of(*seed);
            eprintln!(
                "seed {seed} has failed; this one alone again:\n\
                 MAINSTAY_SOAK_FIRST={seed} MAINSTAY_SOAK_SEEDS=1 cargo test --test faults soak -- --nocapture\n\
                 its session: {:?}\nits script:\n{}",
                Temper::of(*seed, &script),
                script.to_json()
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
        if let Err(report) = check(&script_of(seed.0), &report) {
            panic!("{report}");
        }
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
