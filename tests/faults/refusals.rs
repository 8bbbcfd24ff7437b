//! HTTP in place of an upgrade: each answer is a typed error with its status, and what follows is what its class says.

use std::time::Duration;

use mainstay::close::CloseReason;
use mainstay::error::{ConnectError, EndReason, Recovery, StartError};
use mainstay::supervisors::Backoff;
use mainstay::testing::faults::{FaultPlatform, FaultScript, FaultServer, FaultWire};
use mainstay::{Session, SessionState};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

/// A status, the headers beside it, and what it is to be met with.
struct Case {
    status: u16,
    headers: Value,
    recovery: Recovery,
}

fn cases() -> Vec<Case> {
    let case = |status, headers, recovery| Case {
        status,
        headers,
        recovery,
    };
    let wait = |seconds| Recovery::RetryAfter(Duration::from_secs(seconds));
    vec![
        case(
            301,
            json!({ "location": "wss://elsewhere.example.com/" }),
            Recovery::Stop,
        ),
        case(401, json!({ "www-authenticate": "Bearer" }), Recovery::Stop),
        case(403, json!({}), Recovery::Stop),
        case(404, json!({}), Recovery::Stop),
        case(429, json!({ "retry-after": "7" }), wait(7)),
        case(429, json!({}), Recovery::Retry),
        case(503, json!({ "retry-after": "3" }), wait(3)),
        case(502, json!({}), Recovery::Retry),
    ]
}

fn answer(case: &Case) -> Value {
    let (status, headers) = (case.status, &case.headers);
    json!({ "http": { "status": status, "headers": headers, "body": "because" } })
}

async fn venue(connections: Value, wire: FaultWire) -> FaultServer {
    let script = json!({ "connections": connections }).to_string();
    let script = FaultScript::from_json(&script).expect("playable");
    FaultServer::start(script, wire).await.expect("a venue")
}

fn assert_told(case: &Case, error: &ConnectError) {
    let ConnectError::Refused { response } = error else {
        panic!("{}: {error:?}", case.status);
    };
    assert_eq!(response.status.as_u16(), case.status);
    assert_eq!(response.body, "because");
    for (name, value) in case.headers.as_object().expect("headers") {
        let found = response.headers.get(name).expect("a header");
        assert_eq!(found.to_str().ok(), value.as_str());
    }
    assert_eq!(error.recovery(), case.recovery, "{}", case.status);
}

#[tokio::test]
async fn each_answer_to_the_first_attempt_is_a_typed_error_with_its_status() {
    for wire in [FaultWire::Memory, FaultWire::Sockets] {
        for case in cases() {
            let venue = venue(json!([{ "steps": [answer(&case)] }]), wire).await;
            let config = venue.config().build().expect("valid");
            let error = Session::start(FaultPlatform, config).await;
            let StartError::Connect(error) = error.expect_err("no upgrade") else {
                panic!("{}", case.status);
            };
            assert_told(&case, &error);
            assert_eq!(venue.accepted(), 1);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_to_a_later_attempt_ends_the_session_or_is_waited_out_as_its_class_says() {
    for case in cases() {
        let served = json!({ "steps": [{ "await": "over" }, "hang_up"] });
        let connections = json!([served, { "steps": [answer(&case)] }]);
        let venue = venue(connections, FaultWire::Memory).await;
        let delay = Duration::from_millis(5);
        let config = venue.config().backoff(Backoff::new(delay, delay));
        let session = Session::start(FaultPlatform, config.build().expect("valid")).await;
        let session = session.expect("a session");
        let mut states = session.watch();
        session.send_text("over").await.expect("written");
        let refused = states.wait_for(|state| {
            matches!(
                state,
                SessionState::Down {
                    reason: CloseReason::NotOpened(_)
                } | SessionState::Ended(EndReason::Fatal(CloseReason::NotOpened(_)))
            )
        });
        let (refused, at) = (refused.await.expect("a session").clone(), Instant::now());
        let (SessionState::Down { reason } | SessionState::Ended(EndReason::Fatal(reason))) =
            &refused
        else {
            panic!("{refused:?}");
        };
        let CloseReason::NotOpened(error) = reason else {
            panic!("{reason:?}");
        };
        assert_told(&case, error);
        let wait = match case.recovery {
            Recovery::Stop => {
                session.ended().await;
                sleep(Duration::from_secs(3600)).await;
                assert_eq!(venue.accepted(), 2, "{}: nobody comes back", case.status);
                continue;
            }
            Recovery::RetryAfter(wait) => wait,
            _ => Duration::ZERO,
        };
        session.live().await.expect("live again");
        let took = at.elapsed();
        assert!(took >= wait, "{}: {took:?}", case.status);
        assert!(
            took < wait + Duration::from_secs(1),
            "{}: {took:?}",
            case.status
        );
        assert_eq!(venue.accepted(), 3);
    }
}
