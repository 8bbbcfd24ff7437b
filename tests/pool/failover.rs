//! What happens when the session that was asked fails.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use mainstay::config::{RateLimits, Weight};
use mainstay::error::{PoolError, RequestError, UnknownCause};
use mainstay::platform::{JsonRpc, Platform};
use mainstay::pool::{Pool, PoolSpec};
use mainstay::protocol::reconcile::{Finding, Reconcile};
use mainstay::protocol::rpc::{Class, Params};
use mainstay::telemetry::{Collector, TelemetryEvent};
use mainstay::testing::{Matcher, Script, ScriptedServer};
use mainstay::{Call, Frame, TypedCall};

use crate::kit::{
    LONG, answer, builder, in_time, mute, named, order, pool_of, read, saw, scripted,
};

/// A venue of which nothing can be afforded, so that its sessions send no request.
#[derive(Debug)]
struct Dear;

impl Platform for Dear {
    fn name(&self) -> &str {
        "dear"
    }

    fn weigh(&self, _limits: &RateLimits, _call: &Call) -> Weight {
        Weight::new(5)
    }
}

async fn add_unable(pool: &Pool, id: &str, server: &ScriptedServer) {
    let limits = RateLimits::bucket(1, 1, LONG);
    let config = builder(server).rate_limits(limits).build().expect("valid");
    pool.add(id, Dear, config).await.expect("a live session");
}

/// Failovers as they are reported: attempt, who failed, why.
#[derive(Debug, Default)]
struct Failovers(Mutex<Vec<(u32, String, &'static str)>>);

impl Collector for Failovers {
    fn on_event(&self, pool: &str, event: &TelemetryEvent<'_>) {
        assert_eq!(pool, "pool");
        if let TelemetryEvent::PoolFailover {
            attempt,
            failed,
            reason,
        } = event
        {
            let mut all = self.0.lock().expect("nobody panics");
            all.push((*attempt, (*failed).to_owned(), reason));
        }
    }
}

impl Failovers {
    fn all(&self) -> Vec<(u32, String, &'static str)> {
        self.0.lock().expect("nobody panics").clone()
    }
}

#[tokio::test]
async fn what_was_not_sent_goes_to_the_next_session_even_an_order() {
    let (a, b) = (named("a").await, named("b").await);
    let failovers = Arc::new(Failovers::default());
    let spec = PoolSpec::new().collector(failovers.clone());
    let pool = Pool::start(spec).await.expect("a pool");
    add_unable(&pool, "a", &a).await;
    pool.add("b", JsonRpc, crate::kit::config(&b))
        .await
        .expect("a live session");
    assert_eq!(pool.invoke(order()).await.expect("an answer"), "b");
    assert_eq!((saw(&a, "order"), saw(&b, "order")), (0, 1));
    let expected = [(1, "a".to_owned(), "limit-too-dear")];
    assert_eq!(failovers.all(), expected);
    // The error is remembered: the next one does not try `a` first.
    assert_eq!(pool.invoke(order()).await.expect("an answer"), "b");
    assert_eq!(failovers.all().len(), 1);
}

#[tokio::test]
async fn an_order_of_unknown_fate_is_asked_about_of_whoever_can_be_asked() {
    let cut = Script::new()
        .await_message(Matcher::method("order"))
        .reset();
    let a = scripted([cut, Script::new()]).await;
    let b = named("b").await;
    let pool = pool_of(PoolSpec::new(), &[&a, &b]).await;
    let find = TypedCall::<String>::new("find", Params::new(), Class::Idempotent);
    let reconcile = Reconcile::new(find, |found| match found {
        Ok(who) => Finding::Executed(format!("found by {who}")),
        Err(error) => Finding::CannotTell(error.to_string()),
    });
    let answer = pool.invoke(order().reconcile(reconcile)).await;
    assert_eq!(answer.expect("found"), "found by b");
    assert_eq!((saw(&a, "order"), saw(&b, "order")), (1, 0));
}

#[tokio::test]
async fn an_order_of_unknown_fate_is_seen_exactly_once_by_all_servers_together() {
    let cut = Script::new()
        .await_message(Matcher::method("order"))
        .reset();
    let a = scripted([cut, Script::new()]).await;
    let (b, c) = (named("b").await, named("c").await);
    let pool = pool_of(PoolSpec::new(), &[&a, &b, &c]).await;
    let error = pool.invoke(order()).await.expect_err("no answer");
    let PoolError::Request { connection, source } = &error else {
        panic!("{error:?}");
    };
    assert_eq!(connection, "a");
    assert!(
        matches!(
            source,
            RequestError::Unknown {
                cause: UnknownCause::ConnectionLost(_),
                ..
            }
        ),
        "{source:?}"
    );
    // Whatever might have been sent after it has arrived when these have.
    let session = pool.session("a").expect("it stays in the pool");
    in_time(session.live()).await.expect("live again");
    for id in ["a", "b", "c"] {
        let session = pool.session(id).expect("it stays in the pool");
        session.send_text("marker").await.expect("written");
    }
    for server in [&a, &b, &c] {
        server.expect_message("marker", LONG).await.expect("it");
    }
    let seen: usize = [&a, &b, &c].map(|server| saw(server, "order")).iter().sum();
    assert_eq!(seen, 1);
}

#[tokio::test]
async fn an_idempotent_request_of_unknown_fate_is_asked_of_another_session() {
    let cut = Script::new().await_message(Matcher::method("read")).reset();
    let a = scripted([cut, Script::new()]).await;
    let b = named("b").await;
    let failovers = Arc::new(Failovers::default());
    let spec = PoolSpec::new().collector(failovers.clone());
    let pool = pool_of(spec, &[&a, &b]).await;
    assert_eq!(pool.invoke(read()).await.expect("an answer"), "b");
    assert_eq!((saw(&a, "read"), saw(&b, "read")), (1, 1));
    let expected = [(1, "a".to_owned(), "request-unknown")];
    assert_eq!(failovers.all(), expected);
}

#[tokio::test]
async fn a_read_that_is_not_answered_in_its_share_of_the_time_is_asked_of_another_session_as_well()
{
    let (a, b) = (mute().await, named("b").await);
    let failovers = Arc::new(Failovers::default());
    let spec = PoolSpec::new().collector(failovers.clone());
    let pool = pool_of(spec, &[&a, &b]).await;
    let call = read().within(Duration::from_secs(3));
    assert_eq!(in_time(pool.invoke(call)).await.expect("an answer"), "b");
    assert_eq!((saw(&a, "read"), saw(&b, "read")), (1, 1));
    assert_eq!(failovers.all(), [(1, "a".to_owned(), "slow")]);
}

#[tokio::test]
async fn the_first_answer_counts_also_that_of_a_session_which_was_given_up_as_slow() {
    let (a, b) = (mute().await, mute().await);
    let pool = pool_of(PoolSpec::new(), &[&a, &b]).await;
    let mut peer = a.next_connection().await.expect("a connection");
    let call = read().within(Duration::from_secs(6));
    let asked = tokio::spawn({
        let pool = pool.clone();
        async move { pool.invoke(call).await }
    });
    let second = b.expect_message(Matcher::method("read"), LONG).await;
    second.expect("asked as well");
    answer(&mut peer, "late").await;
    let result = in_time(asked).await.expect("a task");
    assert_eq!(result.expect("an answer"), "late");
}

#[tokio::test]
async fn an_order_without_an_answer_is_waited_for_and_never_asked_of_another_session() {
    let (a, b) = (mute().await, named("b").await);
    let pool = pool_of(PoolSpec::new(), &[&a, &b]).await;
    let call = order().within(Duration::from_millis(300));
    let error = in_time(pool.invoke(call)).await.expect_err("no answer");
    let Some(RequestError::Unknown { cause, .. }) = error.request() else {
        panic!("{error:?}");
    };
    assert!(matches!(cause, UnknownCause::Deadline { .. }), "{cause:?}");
    assert_eq!((saw(&a, "order"), saw(&b, "order")), (1, 0));
}

#[tokio::test]
async fn the_venues_error_is_an_answer() {
    let refusing = Script::new()
        .expect_method("read")
        .reply_error(-32_000, "no such thing");
    let (a, b) = (scripted([refusing]).await, named("b").await);
    let pool = pool_of(PoolSpec::new(), &[&a, &b]).await;
    let error = pool.invoke(read()).await.expect_err("refused");
    assert!(
        matches!(error.request(), Some(RequestError::Answered { error, .. }) if error.code == -32_000),
        "{error:?}"
    );
    assert_eq!(saw(&b, "read"), 0);
    let scores = pool.health().sessions.into_iter().map(|one| one.vitals);
    assert!(scores.into_iter().all(|vitals| vitals.recent_errors == 0));
}

#[tokio::test]
async fn too_fast_sends_a_read_elsewhere_and_is_an_orders_answer() {
    let refusing = |method: &str| Script::new().expect_method(method).reply_error(429, "slow");
    let (a, b) = (scripted([refusing("read")]).await, named("b").await);
    let pool = pool_of(PoolSpec::new(), &[&a, &b]).await;
    assert_eq!(pool.invoke(read()).await.expect("an answer"), "b");

    let (a, b) = (scripted([refusing("order")]).await, named("b").await);
    let pool = pool_of(PoolSpec::new(), &[&a, &b]).await;
    let error = pool.invoke(order()).await.expect_err("refused");
    assert!(matches!(error, PoolError::Request { .. }), "{error:?}");
    assert_eq!(saw(&b, "order"), 0);
}

#[tokio::test]
async fn when_the_attempts_are_used_up_the_last_error_is_the_source() {
    let server = named("a").await;
    let pool = Pool::start(PoolSpec::new().max_attempts(2)).await;
    let pool = pool.expect("a pool");
    for id in ["a", "b", "c"] {
        add_unable(&pool, id, &server).await;
    }
    let error = pool.invoke(order()).await.expect_err("nobody can");
    assert!(
        matches!(
            error,
            PoolError::Exhausted {
                attempts: 2,
                source: RequestError::NotSent { .. }
            }
        ),
        "{error:?}"
    );
    assert_eq!(saw(&server, "order"), 0);
}

#[tokio::test]
async fn with_fewer_sessions_than_attempts_each_is_asked_once() {
    let server = named("a").await;
    let pool = Pool::start(PoolSpec::new()).await.expect("a pool");
    add_unable(&pool, "a", &server).await;
    let error = in_time(pool.invoke(order())).await.expect_err("nobody can");
    assert!(
        matches!(error, PoolError::Exhausted { attempts: 1, .. }),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_pool_without_sessions_says_so_at_once() {
    let pool = Pool::start(PoolSpec::new()).await.expect("a pool");
    let error = pool.invoke(read()).await.expect_err("nobody there");
    assert!(matches!(error, PoolError::NoSessions), "{error:?}");
}

#[tokio::test]
async fn when_nobody_is_live_the_first_that_is_again_is_asked() {
    let cut = Script::new().await_message("cut").hang_up();
    let back = Script::new()
        .await_message(Matcher::method("read"))
        .reply("back");
    let a = scripted([cut, back]).await;
    let pool = pool_of(PoolSpec::new(), &[&a]).await;
    let session = pool.session("a").expect("it was added");
    session.send_text("cut").await.expect("written");
    let down = session.wait_for(mainstay::Status::Down, LONG).await;
    down.expect("lost");
    assert_eq!(
        in_time(pool.invoke(read())).await.expect("an answer"),
        "back"
    );
}

#[tokio::test]
async fn when_nobody_is_live_in_time_nothing_was_sent() {
    let a = named("a").await;
    let pool = pool_of(PoolSpec::new(), &[&a]).await;
    let session = pool.session("a").expect("it was added");
    a.stop().await;
    let down = session.wait_for(mainstay::Status::Down, LONG).await;
    down.expect("lost");
    let call = order().within(Duration::from_millis(100));
    let error = in_time(pool.invoke(call)).await.expect_err("nobody live");
    assert!(
        matches!(error, PoolError::NoneLive { sessions: 1, .. }),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_single_session_that_loses_its_connection_is_asked_again_on_the_next_one() {
    let cut = Script::new().await_message(Matcher::method("read")).reset();
    let back = Script::new()
        .await_message(Matcher::method("read"))
        .reply("back");
    let a = scripted([cut, back]).await;
    let pool = pool_of(PoolSpec::new(), &[&a]).await;
    assert_eq!(
        in_time(pool.invoke(read())).await.expect("an answer"),
        "back"
    );
    assert_eq!(saw(&a, "read"), 2);
}

#[tokio::test]
async fn untyped_calls_and_frames_go_the_same_way() {
    let (a, b) = (named("a").await, named("b").await);
    let pool = pool_of(PoolSpec::new(), &[&a, &b]).await;
    let raw = pool.call(Call::bare("read"), Class::Idempotent, LONG).await;
    assert_eq!(raw.expect("an answer").get(), "\"a\"");
    let id = pool.send(Frame::text("hello")).await.expect("written");
    assert_eq!(id.as_str(), "b");
    b.expect_message("hello", LONG).await.expect("it");
    let long = Frame::Ping(vec![0; 126].into());
    let error = pool.send(long).await.expect_err("too long");
    assert!(matches!(error, PoolError::Unencodable(_)), "{error:?}");
}
