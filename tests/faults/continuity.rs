//! The continuity promise under scripts that nobody wrote: whatever happens to the connections, what the epochs
//! brought is what the venue sent, except inside the gaps.

use std::time::Duration;

use mainstay::config::{Overflow, Queue};
use mainstay::testing::faults::{FaultOutcome, FaultRun, FaultScript, FaultWire, Seen};
use proptest::prelude::*;
use serde_json::json;

use super::random::{check, run_of, scripts};
use super::script;

/// Runs it in memory under paused time.
fn run(script: &FaultScript, queue: Queue) -> mainstay::testing::faults::FaultReport {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .expect("a runtime");
    let run = run_of(script).configure(move |builder| builder.queue(queue));
    runtime.block_on(run.run()).expect("a run")
}

/// `PROPTEST_CASES` of them, or few, so that tests stay quick.
fn cases() -> u32 {
    let set = std::env::var("PROPTEST_CASES").ok();
    set.map_or(64, |cases| cases.parse().expect("a number of cases"))
}

proptest! {
    // A failure prints its script, shrunk, and the seed that makes it again.
    #![proptest_config(ProptestConfig { cases: cases(), max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn the_concatenation_of_epochs_is_what_the_venue_sent_except_inside_gaps(script in scripts()) {
        let report = run(&script, Queue::default());
        prop_assert_eq!(check(&script, &report), Ok(()), "{}", script.to_json());
    }

    #[test]
    fn a_queue_that_is_too_small_changes_nothing_about_that(
        script in scripts(),
        capacity in 1_usize..20,
        newest in any::<bool>(),
    ) {
        let overflow = if newest { Overflow::DropNewest } else { Overflow::DropOldest };
        let report = run(&script, Queue::new(capacity, overflow));
        prop_assert_eq!(check(&script, &report), Ok(()), "{}", script.to_json());
    }
}

#[tokio::test(start_paused = true)]
async fn a_gap_is_announced_although_nothing_ever_follows() {
    let mut script = script("reset");
    script.then = mainstay::testing::faults::Afterwards::Refuse;
    let run = FaultRun::new(script, FaultWire::Memory).within(Duration::from_secs(3));
    let report = run.run().await.expect("a run");
    assert_eq!(report.outcome, FaultOutcome::TimedOut);
    assert!(report.violations.is_empty(), "{report}");
    for (channel, seen) in &report.seen {
        assert!(
            matches!(seen.last(), Some(Seen::Gap { .. })),
            "{channel}: {seen:?}"
        );
    }
}

/// The first attempt is given up while the venue already sends: what it sent belongs to nobody.
#[test]
fn a_channel_that_is_subscribed_to_again_begins_with_what_comes_then() {
    let script: FaultScript = serde_json::from_value(json!({
        "name": "asked again",
        "connections": [
            { "steps": [{ "suspend": "1ms" }] },
            { "steps": [{ "clock_jump": "400ms" }, { "serve": "11ms" }, "reset"] },
        ],
    }))
    .expect("a script");
    let report = run(&script, Queue::default());
    assert!(report.violations.is_empty(), "{report}");
    assert_eq!(report.outcome, FaultOutcome::Recovered, "{report}");
}

/// What is asked for while the connection is down comes all at once when it is back: the run must not ask for more
/// than the venue takes, which would close the connection for that again and again.
#[test]
fn a_strict_limit_is_lived_with_by_whoever_does_not_know_it() {
    let script: FaultScript = serde_json::from_value(json!({
        "name": "strict",
        "every": "27ms",
        "limit": { "requests": 3, "per": "50ms", "punish": { "close": 1008 }, "ban": "21ms" },
        "connections": [
            { "steps": [{ "serve": "1ms" }, "reset"] },
            { "steps": [{ "mute": "1ms" }, { "await": "order" }, "reset"] },
        ],
    }))
    .expect("a script");
    let report = run(&script, Queue::default());
    assert_eq!(check(&script, &report), Ok(()));
}
