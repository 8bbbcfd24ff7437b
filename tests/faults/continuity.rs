//! The continuity promise under scripts that nobody wrote: whatever happens to the connections, what the epochs
//! brought is what the venue sent, except inside the gaps.

use std::time::Duration;

use mainstay::config::{Overflow, Queue};
use mainstay::testing::faults::{
    BadFrame, FaultOutcome, FaultRun, FaultScript, FaultStep, FaultWire, Seen,
};
use proptest::prelude::*;
use serde_json::json;

use super::script;

/// A step out of its JSON, as a script has it.
fn step(json: serde_json::Value) -> FaultStep {
    serde_json::from_value(json).expect("a step")
}

fn millis(number: u64) -> String {
    format!("{number}ms")
}

/// What leaves the connection open.
fn passing() -> impl Strategy<Value = FaultStep> {
    let time = || 1_u64..150;
    prop_oneof![
        4 => time().prop_map(|time| step(json!({ "serve": millis(time) }))),
        1 => time().prop_map(|time| step(json!({ "mute": millis(time) }))),
        1 => time().prop_map(|time| step(json!({ "acked_mute": millis(time) }))),
        1 => time().prop_map(|time| step(json!({ "silence": millis(time) }))),
        1 => time().prop_map(|time| step(json!({ "delay": millis(time) }))),
        1 => (1_u32..300, 0_usize..200)
            .prop_map(|(messages, pad)| step(json!({ "flood": { "messages": messages, "pad": pad } }))),
        1 => (1_usize..64, 1_u64..5, any::<bool>()).prop_map(|(bytes, every, back)| {
            let direction = if back { "from_client" } else { "to_client" };
            step(json!({ "slow": { "bytes": bytes, "every": millis(every), "direction": direction } }))
        }),
        1 => (0_u64..2000, any::<bool>(), 0..3_usize).prop_map(|(after, back, how)| {
            let direction = if back { "from_client" } else { "to_client" };
            let how = ["reset", "hang_up", "silence"][how];
            step(json!({ "cut": { "after": after, "direction": direction, "how": how } }))
        }),
        1 => (0..BadFrame::ALL.len()).prop_map(|index| FaultStep::BadFrame(BadFrame::ALL[index])),
        1 => Just(FaultStep::PingFlood(50)),
        1 => (1_u64..2000).prop_map(|time| step(json!({ "clock_jump": millis(time) }))),
    ]
}

/// What ends it.
fn last() -> impl Strategy<Value = FaultStep> {
    prop_oneof![
        Just(FaultStep::Reset),
        Just(FaultStep::HangUp),
        (1000_u16..1015).prop_map(|code| step(json!({ "close": { "code": code } }))),
        (1_u64..2000).prop_map(|time| step(json!({ "suspend": millis(time) }))),
    ]
}

/// What never comes to be open.
fn unopened() -> impl Strategy<Value = Vec<FaultStep>> {
    prop_oneof![
        (1_u64..300).prop_map(|time| vec![step(json!({ "refuse": millis(time) }))]),
        Just(vec![FaultStep::HangUpBeforeUpgrade]),
        Just(vec![FaultStep::ResetBeforeUpgrade]),
        Just(vec![FaultStep::WrongAccept]),
        prop::sample::select(vec![429_u16, 500, 503])
            .prop_map(|status| vec![step(json!({ "http": { "status": status } }))]),
        (0_u64..200).prop_map(|after| vec![step(json!({ "cut": { "after": after } }))]),
    ]
}

fn connection() -> impl Strategy<Value = Vec<FaultStep>> {
    let opened = (prop::collection::vec(passing(), 1..5), last()).prop_map(|(mut steps, last)| {
        steps.push(last);
        steps
    });
    prop_oneof![4 => opened, 1 => unopened()]
}

pub(super) fn scripts() -> impl Strategy<Value = FaultScript> {
    prop::collection::vec(connection(), 1..6)
        .prop_map(|connections| FaultScript::new("generated", connections).expect("playable"))
}

/// Runs it in memory under paused time.
fn run(script: FaultScript, queue: Queue) -> mainstay::testing::faults::FaultReport {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .expect("a runtime");
    let run =
        FaultRun::new(script, FaultWire::Memory).configure(move |builder| builder.queue(queue));
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
        let report = run(script.clone(), Queue::default());
        prop_assert!(report.violations.is_empty(), "{report}\n{}", script.to_json());
        prop_assert_eq!(&report.outcome, &FaultOutcome::Recovered, "{}\n{}", report, script.to_json());
    }

    #[test]
    fn a_queue_that_is_too_small_changes_nothing_about_that(
        script in scripts(),
        capacity in 1_usize..20,
        newest in any::<bool>(),
    ) {
        let overflow = if newest { Overflow::DropNewest } else { Overflow::DropOldest };
        let report = run(script.clone(), Queue::new(capacity, overflow));
        prop_assert!(report.violations.is_empty(), "{report}\n{}", script.to_json());
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
    let report = run(script, Queue::default());
    assert!(report.violations.is_empty(), "{report}");
    assert_eq!(report.outcome, FaultOutcome::Recovered, "{report}");
}
