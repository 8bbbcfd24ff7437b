//! The end that the user asks for: what is under way is waited for or has a fate, the peer is told, nobody waits for a
//! peer that does not answer, and nobody comes back.

use std::time::Duration;

use mainstay::error::{EndReason, RequestError};
use mainstay::protocol::rpc::{Class, Params};
use mainstay::testing::faults::{
    FaultEntry, FaultEntryKind, FaultPlatform, FaultScript, FaultServer, FaultStep, FaultWire,
};
use mainstay::{Channel, Event, Frame, Session, SessionState, TypedCall};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

fn seconds(number: u64) -> Duration {
    Duration::from_secs(number)
}

async fn meet(steps: Value) -> (FaultServer, Session) {
    let steps: Vec<FaultStep> = serde_json::from_value(steps).expect("steps");
    let script = FaultScript::new("an end", [steps]).expect("playable");
    let venue = FaultServer::start(script, FaultWire::Memory).await;
    let venue = venue.expect("a venue");
    let config = venue
        .config()
        .request_timeout(seconds(600))
        .shutdown_timeout(seconds(3));
    let session = Session::start(FaultPlatform, config.build().expect("valid")).await;
    (venue, session.expect("a session"))
}

type Placed = JoinHandle<Result<Value, RequestError>>;

/// Places an order in a task of its own; it is on its way when this returns.
async fn place(session: &Session, order: u64) -> Placed {
    let session = session.clone();
    let params = Params::new().with("order", &order);
    let call = TypedCall::<Value>::new("order", params, Class::AtMostOnce);
    let placed = tokio::spawn(async move { session.invoke(call).await });
    sleep(Duration::from_millis(1)).await;
    placed
}

fn executed(log: &[FaultEntry]) -> Vec<u64> {
    let executed = log.iter().filter_map(|entry| match entry.kind {
        FaultEntryKind::Executed { order } => Some(order),
        _ => None,
    });
    executed.collect()
}

/// The session is over, and stays so for as long as one likes.
async fn assert_over(venue: &FaultServer, session: &Session) {
    let state = session.state();
    assert!(
        matches!(state, SessionState::Ended(EndReason::Shutdown)),
        "{state:?}"
    );
    sleep(seconds(24 * 3600)).await;
    assert_eq!(venue.accepted(), 1, "nobody comes back");
    let late = place(session, 99).await.await.expect("a task");
    let late = late.expect_err("over");
    assert!(
        matches!(&late, RequestError::NotSent { detail, .. } if detail.contains("over")),
        "{late:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_session_that_is_drained_waits_for_what_is_under_way_and_takes_nothing_new() {
    let (venue, session) = meet(json!([{ "delay": "2s" }, { "serve": "1h" }])).await;
    let placed = place(&session, 1).await;
    let draining = session.clone();
    let began = Instant::now();
    let draining = tokio::spawn(async move { draining.drain(seconds(60)).await });
    sleep(Duration::from_millis(10)).await;

    let refused = place(&session, 2).await.await.expect("a task");
    let refused = refused.expect_err("nothing new");
    assert!(
        matches!(&refused, RequestError::NotSent { detail, .. } if detail.contains("drained")),
        "{refused:?}"
    );
    assert!(began.elapsed() < seconds(1), "told at once");
    assert!(session.state().is_live(), "what is under way is waited for");

    let report = draining.await.expect("a task").expect("an own tree");
    assert!(report.abandoned.is_empty(), "{report:?}");
    let took = began.elapsed();
    assert!((seconds(1)..seconds(3)).contains(&took), "{took:?}");
    let answer = placed.await.expect("a task").expect("answered");
    assert_eq!(answer, json!({ "order": 1 }));
    assert_eq!(executed(&venue.log()), [1]);
    assert_over(&venue, &session).await;
}

#[tokio::test(start_paused = true)]
async fn data_comes_for_as_long_as_a_session_is_drained() {
    let (venue, session) = meet(json!([{ "serve": "100ms" }, { "mute": "1h" }])).await;
    let subscription = session.subscribe(Channel::<Frame>::new("a")).await;
    let mut subscription = subscription.expect("a subscription");
    let reading = tokio::spawn(async move {
        let mut messages = 0;
        while let Some(event) = subscription.next().await {
            match event {
                Event::Data(_) => messages += 1,
                Event::Ended(reason) => return (messages, reason),
                _ => {}
            }
        }
        panic!("no end");
    });
    sleep(Duration::from_millis(105)).await;
    let unanswered = place(&session, 1).await;
    session.drain(seconds(5)).await.expect("an own tree");
    let (messages, reason) = reading.await.expect("a task");
    assert!(messages > 5, "{messages}");
    assert!(matches!(reason, EndReason::Shutdown), "{reason:?}");
    let fate = unanswered.await.expect("a task").expect_err("no answer");
    assert!(matches!(fate, RequestError::Unknown { .. }), "{fate:?}");
    assert_over(&venue, &session).await;
}

#[tokio::test(start_paused = true)]
async fn what_has_no_answer_when_a_drain_is_over_is_of_unknown_fate() {
    let (venue, session) = meet(json!([{ "mute": "1h" }])).await;
    let placed = place(&session, 1).await;
    let began = Instant::now();
    session.drain(seconds(7)).await.expect("an own tree");
    let took = began.elapsed();
    assert!((seconds(7)..seconds(11)).contains(&took), "{took:?}");
    let fate = placed.await.expect("a task").expect_err("no answer");
    assert!(matches!(fate, RequestError::Unknown { .. }), "{fate:?}");
    assert_eq!(executed(&venue.log()), [1], "and that was right");
    assert_over(&venue, &session).await;
}

/// Nothing is read and nothing written there, so that no close frame is ever answered.
#[tokio::test(start_paused = true)]
async fn a_peer_that_answers_no_close_frame_is_left_at_the_deadline() {
    let (venue, session) = meet(json!([{ "silence": "1h" }])).await;
    let placed = place(&session, 1).await;
    let began = Instant::now();
    let ending = timeout(seconds(60), session.shutdown()).await;
    let report = ending.expect("in time").expect("an own tree");
    let took = began.elapsed();
    assert!(took <= seconds(3), "the shutdown timeout: {took:?}");
    assert!(report.abandoned.is_empty(), "{report:?}");
    let fate = placed.await.expect("a task").expect_err("no answer");
    assert!(matches!(fate, RequestError::Unknown { .. }), "{fate:?}");
    assert_over(&venue, &session).await;
}

#[tokio::test(start_paused = true)]
async fn a_drain_that_is_given_up_leaves_a_session_that_can_be_shut_down() {
    let (venue, session) = meet(json!([{ "delay": "10s" }, { "serve": "1h" }])).await;
    let placed = place(&session, 1).await;
    let given_up = timeout(seconds(1), session.drain(seconds(60))).await;
    assert!(given_up.is_err());
    assert!(session.state().is_live());
    let refused = place(&session, 2).await.await.expect("a task");
    assert!(
        matches!(refused, Err(RequestError::NotSent { .. })),
        "{refused:?}"
    );
    session.shutdown().await.expect("an own tree");
    let fate = placed.await.expect("a task").expect_err("no answer");
    assert!(matches!(fate, RequestError::Unknown { .. }), "{fate:?}");
    assert_over(&venue, &session).await;
}
