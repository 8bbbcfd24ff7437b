//! What waits for a session that is not live: bounded, in order, behind the login, and told the truth if it waits in
//! vain.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use mainstay::config::Offline;
use mainstay::error::RequestError;
use mainstay::platform::{Batch, Step};
use mainstay::protocol::rpc::{Class, Params};
use mainstay::supervisors::backoff::Backoff;
use mainstay::testing::faults::{
    FaultEntry, FaultEntryKind, FaultPlatform, FaultScript, FaultServer, FaultWire,
};
use mainstay::{Call, Frame, Platform, Session, TypedCall};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout};

/// The venue of the scripts, behind a login.
#[derive(Debug)]
struct Guarded;

impl Platform for Guarded {
    fn name(&self) -> &str {
        "guarded"
    }

    fn opening(&self) -> Vec<Step> {
        vec![Step::Call(Call::bare("login"))]
    }

    fn subscribe(&self, channels: &[Arc<str>]) -> Vec<Batch> {
        FaultPlatform.subscribe(channels)
    }
}

/// A session whose connection has just been lost. The port is closed for two seconds, and the login takes one more.
async fn down(offline: Offline) -> (FaultServer, Session) {
    let script = json!({ "connections": [
        { "steps": [{ "await": "goodbye" }, "reset"] },
        { "steps": [{ "refuse": "2s" }] },
        { "steps": [{ "delay": "1s" }] },
    ] });
    let script = FaultScript::from_json(&script.to_string()).expect("a script");
    let venue = FaultServer::start(script, FaultWire::Memory)
        .await
        .expect("a venue");
    let config = venue
        .config()
        .backoff(Backoff::new(
            Duration::from_millis(5),
            Duration::from_millis(50),
        ))
        .offline(offline)
        .build()
        .expect("valid");
    let session = Session::start(Guarded, config).await.expect("a session");
    session.send_text("goodbye").await.expect("written");
    let mut state = session.watch();
    let lost = state.wait_for(|state| !state.is_live());
    lost.await.expect("a session");
    (venue, session)
}

fn order(number: u64) -> TypedCall<Value> {
    let params = Params::new().with("order", &number);
    TypedCall::new("order", params, Class::AtMostOnce)
}

/// Places these at once, in this order.
async fn place(
    session: &Session,
    orders: impl IntoIterator<Item = u64>,
) -> Vec<Result<Value, RequestError>> {
    let placing = orders
        .into_iter()
        .map(|number| session.invoke(order(number)));
    join_all(placing).await
}

/// The orders that were carried out, in the order of that.
fn executed(log: &[FaultEntry]) -> Vec<u64> {
    let orders = log.iter().filter_map(|entry| match entry.kind {
        FaultEntryKind::Executed { order } => Some(order),
        _ => None,
    });
    orders.collect()
}

/// What it says of a request that was not sent.
fn told(outcome: &Result<Value, RequestError>) -> String {
    match outcome {
        Err(error @ RequestError::NotSent { .. }) => error.to_string(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn what_waits_is_written_once_and_in_its_order() {
    let (venue, session) = down(Offline::default()).await;
    let outcomes = place(&session, 1..=20).await;
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    assert_eq!(executed(&venue.log()), (1..=20).collect::<Vec<_>>());
    let status = session.statistics().offline;
    assert_eq!((status.waiting, status.bytes, status.refused), (0, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn frames_and_requests_keep_their_order() {
    let (venue, session) = down(Offline::default()).await;
    let frame = |number: u64| {
        let text = json!({ "jsonrpc": "2.0", "method": "order", "params": { "order": number } });
        session.send(Frame::text(text.to_string()))
    };
    let (first, second, third) = tokio::join!(frame(1), session.invoke(order(2)), frame(3));
    first.expect("written");
    second.expect("answered");
    third.expect("written");
    let _: Value = session.request("time", &json!({})).await.expect("answered");
    assert_eq!(executed(&venue.log()), [1, 2, 3]);
}

#[tokio::test(start_paused = true)]
async fn nothing_of_it_is_written_before_the_login_is_through() {
    let (venue, session) = down(Offline::default()).await;
    let outcomes = place(&session, 1..=3).await;
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    let log = venue.log();
    let place_of = |wanted: &dyn Fn(&FaultEntryKind) -> bool| {
        let found = |entry: &FaultEntry| entry.connection == 2 && wanted(&entry.kind);
        log.iter().position(found).expect("it happened")
    };
    let login = place_of(
        &|kind| matches!(kind, FaultEntryKind::Received { text } if text.contains("login")),
    );
    // The steps are over when the login has been answered.
    let through = place_of(&|kind| *kind == FaultEntryKind::Played);
    let first = place_of(&|kind| matches!(kind, FaultEntryKind::Executed { .. }));
    assert!(login < through && through < first, "{log:?}");
}

#[tokio::test(start_paused = true)]
async fn no_more_wait_than_may() {
    let (venue, session) = down(Offline::new(3)).await;
    let outcomes = place(&session, 1..=5).await;
    for outcome in &outcomes[3..] {
        let told = told(outcome);
        assert!(
            told.contains("3 requests wait") && told.contains("offline.capacity"),
            "{told}"
        );
    }
    assert!(outcomes[..3].iter().all(Result::is_ok), "{outcomes:?}");
    assert_eq!(executed(&venue.log()), [1, 2, 3]);
    assert_eq!(session.statistics().offline.refused, 2);
}

#[tokio::test(start_paused = true)]
async fn no_more_bytes_wait_than_may() {
    // Each is a method of five bytes and parameters of eleven.
    let (venue, session) = down(Offline::new(100).bytes(40)).await;
    let outcomes = place(&session, 1..=4).await;
    for outcome in &outcomes[2..] {
        let told = told(outcome);
        assert!(
            told.contains("32 bytes wait") && told.contains("offline.bytes"),
            "{told}"
        );
    }
    assert_eq!(executed(&venue.log()), [1, 2]);
    assert_eq!(session.statistics().offline.refused, 2);
}

#[tokio::test(start_paused = true)]
async fn nothing_waits_longer_than_it_may_and_what_is_old_is_never_sent() {
    let age = Duration::from_millis(500);
    let (venue, session) = down(Offline::default().max_age(age)).await;
    let began = Instant::now();
    let outcomes = place(&session, 1..=2).await;
    assert_eq!(began.elapsed().as_millis(), age.as_millis());
    for outcome in &outcomes {
        let told = told(outcome);
        assert!(
            told.contains("500ms") && told.contains("offline.max_age"),
            "{told}"
        );
    }
    session.live().await.expect("live again");
    place(&session, [3]).await.remove(0).expect("answered");
    assert_eq!(executed(&venue.log()), [3]);
    let status = session.statistics().offline;
    assert_eq!((status.expired, status.waiting), (2, 0));
}

#[tokio::test(start_paused = true)]
async fn with_a_capacity_of_nothing_what_cannot_be_sent_now_is_not_sent() {
    let (venue, session) = down(Offline::new(0)).await;
    let began = Instant::now();
    let outcomes = place(&session, [1]).await;
    assert!(
        told(&outcomes[0]).contains("offline.capacity"),
        "{outcomes:?}"
    );
    assert!(began.elapsed().is_zero());
    session.live().await.expect("live again");
    place(&session, [2]).await.remove(0).expect("answered");
    assert_eq!(executed(&venue.log()), [2]);
}

#[tokio::test(start_paused = true)]
async fn what_waits_when_the_session_is_shut_down_is_told_so() {
    let (venue, session) = down(Offline::default()).await;
    let placing = place(&session, 1..=3);
    let ending = async {
        sleep(Duration::from_millis(100)).await;
        session.shutdown().await;
    };
    let (outcomes, ()) = tokio::join!(placing, ending);
    for outcome in &outcomes {
        assert!(told(outcome).contains("the session is over"), "{outcome:?}");
    }
    assert_eq!(executed(&venue.log()), [0_u64; 0]);
    let late = place(&session, [4]).await;
    assert!(told(&late[0]).contains("the session is over"), "{late:?}");
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_goes_away_takes_back_what_waits_and_holds_up_nobody() {
    let (venue, session) = down(Offline::new(2)).await;
    let soon = Duration::from_millis(10);
    assert!(timeout(soon, session.invoke(order(1))).await.is_err());
    // One that is not polled any more keeps its place, and nobody waits for it.
    let mut parked = Box::pin(session.invoke(order(2)));
    assert!(futures_util::poll!(&mut parked).is_pending());
    place(&session, [3]).await.remove(0).expect("answered");
    parked.await.expect("answered");
    assert_eq!(executed(&venue.log()), [2, 3]);
}
