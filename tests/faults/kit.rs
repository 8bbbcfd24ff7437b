//! The kit itself: steps that stand together do what each of them says, and the judge blames nobody for what the script has
//! done.

use std::time::Duration;

use mainstay::config::PhaseLimits;
use mainstay::error::{ConnectError, StartError};
use mainstay::testing::faults::{
    FaultEntryKind, FaultOutcome, FaultPlatform, FaultReport, FaultRun, FaultScript, FaultServer,
    FaultWire, Seen,
};
use mainstay::{Channel, Frame, Session};
use serde_json::{Value, json};
use tokio::time::{Instant, timeout};

fn script(connections: Value) -> FaultScript {
    let script = json!({ "name": "kit", "connections": connections });
    FaultScript::from_json(&script.to_string()).expect("playable")
}

async fn recovers(script: FaultScript, wire: FaultWire) -> FaultReport {
    let report = super::run(script, wire).await;
    assert_eq!(report.outcome, FaultOutcome::Recovered, "{report}");
    report
}

#[tokio::test(start_paused = true)]
async fn a_stall_holds_before_the_answer_that_stands_behind_it() {
    let refusal = json!({ "http": { "status": 401 } });
    let connections = json!([{ "steps": [{ "stall_upgrade": "3s" }, refusal] }]);
    let venue = FaultServer::start(script(connections), FaultWire::Memory).await;
    let venue = venue.expect("a venue");
    let began = Instant::now();
    let config = venue.config().build().expect("valid");
    let error = Session::start(FaultPlatform, config).await;
    assert!(
        matches!(
            error,
            Err(StartError::Connect(ConnectError::Refused { .. }))
        ),
        "{error:?}"
    );
    assert_eq!(began.elapsed().as_secs(), 3);
}

#[tokio::test]
async fn a_stall_ends_with_the_client_that_has_given_it_up() {
    for wire in [FaultWire::Memory, FaultWire::Sockets] {
        let run = FaultRun::new(
            script(json!([{ "steps": [{ "stall_upgrade": "1h" }] }])),
            wire,
        );
        let run = run.configure(|builder| {
            let mut limits = PhaseLimits::default();
            limits.upgrade = Duration::from_millis(100);
            builder.limits(limits)
        });
        let report = timeout(Duration::from_secs(20), run.run()).await;
        let report = report.expect("not an hour").expect("a run");
        assert_eq!(report.outcome, FaultOutcome::Recovered, "{report}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_ban_is_not_lifted_by_a_stall() {
    let script = json!({
        "limit": { "requests": 1, "per": "1h", "punish": { "close": 1008 }, "ban": "1h" },
        "connections": [{ "steps": [] }, { "steps": [{ "stall_upgrade": "1s" }] }],
        "then": "repeat_last",
    });
    let script = FaultScript::from_json(&script.to_string()).expect("playable");
    let venue = FaultServer::start(script, FaultWire::Memory).await;
    let venue = venue.expect("a venue");
    let start = || async {
        let config = venue.config().build().expect("valid");
        Session::start(FaultPlatform, config).await
    };
    let session = start().await.expect("a session");
    for _ in 0..2 {
        // The second one is one too many.
        let _ = session.request::<Value>("time", &json!({})).await;
    }
    session.shutdown().await;
    let refused = start().await.expect_err("banned");
    let StartError::Connect(ConnectError::Refused { response }) = refused else {
        panic!("{refused:?}");
    };
    assert_eq!(response.status.as_u16(), 429);
}

#[tokio::test(start_paused = true)]
async fn a_denial_can_be_about_some_requests_alone() {
    let denial = json!({ "deny": { "code": 13, "message": "not that one", "about": "\"c\"" } });
    let connections = json!([{ "steps": [denial, { "serve": "1h" }] }]);
    let venue = FaultServer::start(script(connections), FaultWire::Memory).await;
    let venue = venue.expect("a venue");
    let config = venue.config().build().expect("valid");
    let session = Session::start(FaultPlatform, config).await;
    let session = session.expect("a session");
    let subscribe = |name| session.subscribe(Channel::<Frame>::new(name));
    let refused = subscribe("c").await.expect_err("denied");
    assert!(refused.to_string().contains("not that one"), "{refused}");
    assert!(subscribe("a").await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_channel_that_is_denied_until_it_ends_is_subscribed_to_again() {
    let connections = json!([
        { "steps": [{ "serve": "50ms" }, "reset"] },
        { "steps": [
            { "deny": { "code": 13, "message": "no", "about": "subscribe" } },
            { "serve": "10s" }, "allow", { "serve": "1s" }, "reset",
        ] },
    ]);
    let report = recovers(script(connections), FaultWire::Memory).await;
    for (channel, seen) in &report.seen {
        let ends = seen.iter().filter(|one| **one == Seen::Ended).count();
        let again = seen.iter().filter(|one| **one == Seen::SubscribedAgain);
        assert_eq!((ends, again.count()), (1, 1), "{channel}: {seen:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn nobody_is_blamed_for_what_a_script_says_in_a_channels_name() {
    let says = |data: &str| {
        let text =
            format!(r#"{{"method":"subscription","params":{{"channel":"a","data":{data}}}}}"#);
        json!({ "send": text })
    };
    let connections = json!([{ "steps": [
        { "serve": "50ms" }, says(r#"{"n":7}"#), { "serve": "50ms" }, says("{}"), { "serve": "50ms" }, "reset",
    ] }]);
    let report = recovers(script(connections), FaultWire::Memory).await;
    let forged = |entry: &&mainstay::testing::faults::FaultEntry| matches!(&entry.kind, FaultEntryKind::Forged { channel, .. } if channel == "a");
    assert_eq!(report.log.iter().filter(forged).count(), 2);
    assert_eq!(report.gaps(), 2, "one for each channel: {report}");
}

#[test]
fn a_close_frame_that_cannot_be_written_is_refused() {
    let refused = |close: Value| {
        let connections = json!([{ "steps": [{ "close": close }] }]);
        let script = json!({ "connections": connections }).to_string();
        FaultScript::from_json(&script)
            .expect_err("unplayable")
            .to_string()
    };
    let long = refused(json!({ "code": 1000, "reason": "x".repeat(124) }));
    assert!(
        long.contains("connections[0].steps[0]") && long.contains("123"),
        "{long}"
    );
    let bare = refused(json!({ "reason": "because" }));
    assert!(bare.contains("code"), "{bare}");
}
