//! Scripts that nobody wrote: every step that there is, in every order that makes sense, and what has to become of a
//! session that is led through them.
//!
//! Apart from the tests that run them because two do, with other sessions.

use std::time::Duration;

use mainstay::testing::faults::{
    Afterwards, BadFrame, FaultOutcome, FaultReport, FaultRun, FaultScript, FaultStep, FaultWire,
};
use proptest::prelude::*;
use serde_json::{Value, json};

/// A step out of its JSON, as a script has it.
fn step(json: Value) -> FaultStep {
    serde_json::from_value(json).expect("a step")
}

fn millis(number: u64) -> String {
    format!("{number}ms")
}

/// Short times, and now and then one that tries a session's patience.
fn time() -> impl Strategy<Value = u64> {
    prop_oneof![6 => 1_u64..150, 1 => 150_u64..4000]
}

/// Bytes at a time; seldom few, since each of them is then an event.
fn pace() -> impl Strategy<Value = usize> {
    prop_oneof![1 => Just(0_usize), 1 => 1_usize..16, 8 => 16_usize..256]
}

/// What a session has to bear in silence, or to end the connection for.
const SENT: [&str; 12] = [
    "hello",
    "[1,2",
    "null",
    "{}",
    "[]",
    r#"{"method":"market","params":{"open":false}}"#,
    r#"{"method":"market","params":{"open":true}}"#,
    r#"{"id":999999999,"result":"nobody asked"}"#,
    r#"{"id":null,"error":{"code":-32700,"message":"parse error"}}"#,
    r#"{"method":"subscription","params":{"channel":"a","data":{"n":7}}}"#,
    r#"{"method":"subscription","params":{"channel":"b","data":{}}}"#,
    r#"{"method":"subscription","params":{"channel":"c","data":{"n":8}}}"#,
];

/// Whole frames, parts of frames, and what is none.
const RAW: [&str; 14] = [
    "81 02 68 69",
    "82 00",
    "8a 00",
    "8a 03 61 62 63",
    "89 00",
    "01 02 68 69 80 00",
    "01 02 68 69 89 00 80 00",
    "01 01 6f",
    "82 03 61",
    "82 7e 10 00",
    "81",
    "88 00",
    "88 02 0f a0",
    "00 ff ff",
];

/// What leaves the connection open, as far as the venue is concerned.
fn passing() -> impl Strategy<Value = FaultStep> {
    let single = || single().boxed();
    let repeat = (1_u32..4, prop::collection::vec(single(), 1..3))
        .prop_map(|(times, steps)| step(json!({ "repeat": { "times": times, "steps": steps } })));
    prop_oneof![15 => single(), 1 => repeat]
}

fn single() -> impl Strategy<Value = FaultStep> {
    let waits = prop_oneof![
        4 => time().prop_map(|time| step(json!({ "serve": millis(time) }))),
        1 => prop::sample::select(vec!["order", "{"])
            .prop_map(|text| step(json!({ "await": text }))),
        1 => time().prop_map(|time| step(json!({ "mute": millis(time) }))),
        1 => time().prop_map(|time| step(json!({ "acked_mute": millis(time) }))),
        1 => time().prop_map(|time| step(json!({ "silence": millis(time) }))),
        1 => time().prop_map(|time| step(json!({ "delay": millis(time) }))),
        1 => (1_u64..2000).prop_map(|time| step(json!({ "clock_jump": millis(time) }))),
    ];
    let says = prop_oneof![
        (1_u32..300, 0_usize..200).prop_map(|(messages, pad)| step(
            json!({ "flood": { "messages": messages, "pad": pad } })
        )),
        prop::sample::select(SENT.to_vec()).prop_map(|text| FaultStep::Send(text.to_owned())),
        prop::sample::select(RAW.to_vec()).prop_map(|bytes| step(json!({ "raw": bytes }))),
        "[a-z]{0,125}".prop_map(FaultStep::Ping),
        (1_u32..500).prop_map(FaultStep::PingFlood),
        (0..BadFrame::ALL.len()).prop_map(|index| FaultStep::BadFrame(BadFrame::ALL[index])),
    ];
    let changes = prop_oneof![
        (pace(), 1_u64..5, any::<bool>()).prop_map(|(bytes, every, back)| {
            let direction = if back { "from_client" } else { "to_client" };
            step(json!({ "slow": { "bytes": bytes, "every": millis(every), "direction": direction } }))
        }),
        (0_u64..2000, any::<bool>(), 0..3_usize).prop_map(|(after, back, how)| {
            let direction = if back { "from_client" } else { "to_client" };
            let how = ["reset", "hang_up", "silence"][how];
            step(json!({ "cut": { "after": after, "direction": direction, "how": how } }))
        }),
        (prop::sample::select(vec!["", "order", "subscribe", "find"]), any::<bool>()).prop_map(
            |(about, fast)| {
                let code = if fast { 10028 } else { -32000 };
                step(json!({ "deny": { "code": code, "message": "no", "about": about } }))
            }
        ),
        Just(FaultStep::Allow),
    ];
    prop_oneof![2 => waits, 1 => says, 1 => changes]
}

/// What ends it.
fn last() -> impl Strategy<Value = FaultStep> {
    prop_oneof![
        Just(FaultStep::Reset),
        Just(FaultStep::HangUp),
        (990_u16..1020).prop_map(|code| step(json!({ "close": { "code": code } }))),
        (3000_u16..5010)
            .prop_map(|code| step(json!({ "close": { "code": code, "reason": "because" } }))),
        Just(step(json!({ "close": {} }))),
        (1_u64..2000).prop_map(|time| step(json!({ "suspend": millis(time) }))),
        Just(step(json!({ "suspend": "8h" }))),
    ]
}

/// HTTP that another attempt may cure, and HTTP that it cannot.
fn http(statuses: &'static [u16]) -> impl Strategy<Value = FaultStep> {
    let headers = prop::sample::select(vec![
        json!({}),
        json!({ "retry-after": "1" }),
        json!({ "Retry-After": "soon" }),
        json!({ "location": "wss://elsewhere.example.com/" }),
    ]);
    (prop::sample::select(statuses), headers).prop_map(|(status, headers)| {
        step(json!({ "http": { "status": status, "headers": headers, "body": "because" } }))
    })
}

const TRANSIENT: [u16; 6] = [408, 425, 429, 500, 503, 599];
/// With a redirect, which is not followed.
const FINAL: [u16; 7] = [200, 301, 302, 400, 401, 403, 404];

/// What never comes to be open.
fn unopened() -> impl Strategy<Value = Vec<FaultStep>> {
    let refused = (1_u64..300).prop_map(|time| vec![step(json!({ "refuse": millis(time) }))]);
    let cut = (0_u64..200).prop_map(|after| vec![step(json!({ "cut": { "after": after } }))]);
    let answered = prop_oneof![
        Just(FaultStep::HangUpBeforeUpgrade),
        Just(FaultStep::ResetBeforeUpgrade),
        Just(FaultStep::WrongAccept),
        Just(FaultStep::Garbage(
            "220 smtp.example.com ESMTP\r\n".to_owned()
        )),
        http(&TRANSIENT),
        http(&TRANSIENT),
        http(&FINAL),
    ];
    let answered = (prop::option::weighted(0.3, time()), answered).prop_map(|(stall, answer)| {
        let stall = stall.map(|time| step(json!({ "stall_upgrade": millis(time) })));
        stall.into_iter().chain([answer]).collect()
    });
    prop_oneof![1 => refused, 1 => cut, 4 => answered]
}

fn opened() -> impl Strategy<Value = Vec<FaultStep>> {
    let stall = prop::option::weighted(0.1, time());
    (stall, prop::collection::vec(passing(), 1..5), last()).prop_map(|(stall, steps, last)| {
        let stall = stall.map(|time| step(json!({ "stall_upgrade": millis(time) })));
        stall.into_iter().chain(steps).chain([last]).collect()
    })
}

fn limit() -> impl Strategy<Value = Value> {
    let punish = prop_oneof![
        Just(json!({ "close": 1008 })),
        Just(json!({ "error": 10028 })),
        Just(json!({ "error": 429 })),
    ];
    (3_u32..50, 50_u64..1000, punish, 0_u64..3000).prop_map(|(requests, per, punish, ban)| {
        json!({ "requests": requests, "per": millis(per), "punish": punish, "ban": millis(ban) })
    })
}

pub(super) fn scripts() -> impl Strategy<Value = FaultScript> {
    let connection = prop_oneof![4 => opened(), 1 => unopened()];
    let connections = prop::collection::vec(connection, 1..6);
    let limit = prop::option::weighted(0.2, limit());
    let then = prop::sample::select(vec![
        "serve",
        "serve",
        "serve",
        "serve",
        "serve",
        "serve",
        "repeat_last",
        "refuse",
    ]);
    (connections, limit, 1_u64..40, then).prop_map(|(connections, limit, every, then)| {
        let connections: Vec<Value> = connections
            .into_iter()
            .map(|steps| json!({ "steps": steps }))
            .collect();
        let mut script = json!({
            "name": "random",
            "every": millis(every),
            "connections": connections,
            "then": then,
        });
        if let Some(limit) = limit {
            script["limit"] = limit;
        }
        FaultScript::from_json(&script.to_string()).expect("playable")
    })
}

/// The status that has to end the session, if there is one.
fn end_of(script: &FaultScript) -> Option<u16> {
    let steps = script.connections.iter().flat_map(|one| &one.steps);
    let mut ends = steps.filter_map(|step| match step {
        FaultStep::Http(answer) if FINAL.contains(&answer.status) => Some(answer.status),
        _ => None,
    });
    ends.next()
}

/// A run in memory; a short one where the script need not come to a good end.
pub(super) fn run_of(script: &FaultScript) -> FaultRun {
    let run = FaultRun::new(script.clone(), FaultWire::Memory);
    match script.then {
        Afterwards::Serve => run,
        _ => run.within(Duration::from_secs(20)),
    }
}

/// Whether the promises were kept, and it came out as it had to.
pub(super) fn check(script: &FaultScript, report: &FaultReport) -> Result<(), String> {
    let right = match (&report.outcome, end_of(script)) {
        (FaultOutcome::Ended(why), Some(status)) => why.contains(&status.to_string()),
        (FaultOutcome::Recovered, None) => script.then != Afterwards::Refuse,
        // Whether a connection that fares as the last one did brings data is the script's secret.
        (FaultOutcome::TimedOut, _) => script.then != Afterwards::Serve,
        _ => false,
    };
    match report.violations.is_empty() && right {
        true => Ok(()),
        false => Err(report.to_string()),
    }
}
