//! Who is asked.
//!
//! Time is paused, so that no answer takes long enough to cost a point.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use mainstay::MetricsCollector;
use mainstay::pool::{Pool, PoolSpec};
use mainstay::protocol::health::Formula;

use crate::kit::{answer, in_time, mute, named, pool_of, read, saw};

fn score(pool: &Pool, id: &str) -> Option<u8> {
    let health = pool.health();
    let session = health.sessions.iter().find(|one| one.id.as_str() == id);
    let score = session.expect("a session of that id").score;
    score.map(|score| score.as_u8())
}

#[tokio::test(start_paused = true)]
async fn the_healthiest_session_is_asked() {
    let (a, b) = (named("a").await, named("b").await);
    let pool = pool_of(PoolSpec::new(), &[&a, &b]).await;
    pool.record_error("a");
    for _ in 0..4 {
        assert_eq!(pool.invoke(read()).await.expect("an answer"), "b");
    }
    pool.record_error("b");
    pool.record_error("b");
    assert_eq!(pool.invoke(read()).await.expect("an answer"), "a");
    pool.clear_errors("b");
    assert_eq!(pool.invoke(read()).await.expect("an answer"), "b");
}

#[tokio::test(start_paused = true)]
async fn a_session_with_requests_in_flight_is_spared() {
    let (a, b) = (mute().await, named("b").await);
    let pool = pool_of(PoolSpec::new(), &[&a, &b]).await;
    let mut peer = a.next_connection().await.expect("a connection");
    let waiting = tokio::spawn({
        let pool = pool.clone();
        async move { pool.invoke(read()).await }
    });
    in_time(a.expect_message(mainstay::testing::Matcher::method("read"), crate::kit::LONG))
        .await
        .expect("the first in turn is asked");
    assert_eq!(score(&pool, "a"), Some(90));
    for _ in 0..3 {
        assert_eq!(pool.invoke(read()).await.expect("an answer"), "b");
    }
    answer(&mut peer, "a").await;
    assert_eq!(waiting.await.expect("a task").expect("an answer"), "a");
    assert_eq!(score(&pool, "a"), Some(100));
}

#[tokio::test(start_paused = true)]
async fn requests_that_were_given_up_cost_a_session_nothing() {
    let a = mute().await;
    let pool = pool_of(PoolSpec::new(), &[&a]).await;
    let session = pool.session("a").expect("it was added");
    let limit = Duration::from_millis(20);
    let slow = || session.call(mainstay::platform::Call::bare("slow"), limit);
    let four = futures_util::future::join4(slow(), slow(), slow(), slow());
    let during = async {
        in_time(async {
            while session.state_metrics().pending_requests < 4 {
                tokio::task::yield_now().await;
            }
        })
        .await;
        score(&pool, "a")
    };
    let (ends, during) = tokio::join!(four, during);
    assert_eq!(during, Some(60), "four wait");
    assert!(ends.0.and(ends.1).and(ends.2).and(ends.3).is_err());
    assert_eq!(session.state_metrics().pending_requests, 0);
    assert_eq!(score(&pool, "a"), Some(100));
}

#[tokio::test(start_paused = true)]
async fn among_equals_each_has_its_turn() {
    let servers = [named("a").await, named("b").await, named("c").await];
    let [a, b, c] = &servers;
    let pool = pool_of(PoolSpec::new(), &[a, b, c]).await;
    let mut asked = BTreeMap::<String, u32>::new();
    for _ in 0..12 {
        let name = pool.invoke(read()).await.expect("an answer");
        *asked.entry(name).or_default() += 1;
    }
    assert!(asked.values().all(|times| *times == 4), "{asked:?}");
    assert_eq!(servers.each_ref().map(|server| saw(server, "read")), [4; 3]);
}

#[tokio::test(start_paused = true)]
async fn errors_are_forgotten_a_minute_after_the_latest() {
    let (a, b) = (named("a").await, named("b").await);
    let pool = pool_of(PoolSpec::new(), &[&a, &b]).await;
    pool.record_error("a");
    tokio::time::advance(Duration::from_secs(30)).await;
    pool.record_error("a");
    assert_eq!(score(&pool, "a"), Some(80));
    tokio::time::advance(Duration::from_secs(59)).await;
    assert_eq!(score(&pool, "a"), Some(80), "the second keeps the first");
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(score(&pool, "a"), Some(100));
}

#[tokio::test(start_paused = true)]
async fn the_time_to_forget_is_the_users_choice() {
    let a = named("a").await;
    let spec = PoolSpec::new().error_decay(Duration::from_secs(5));
    let pool = pool_of(spec, &[&a]).await;
    pool.record_error("a");
    assert_eq!(score(&pool, "a"), Some(85));
    tokio::time::advance(Duration::from_secs(5)).await;
    assert_eq!(score(&pool, "a"), Some(100));
}

#[tokio::test(start_paused = true)]
async fn a_session_that_is_not_live_has_no_score_and_counts_nothing_in_the_mean() {
    let (a, b) = (named("a").await, named("b").await);
    let metrics = Arc::new(MetricsCollector::new());
    let spec = PoolSpec::new()
        .collector(metrics.clone())
        .formula(Formula::Plain);
    let pool = pool_of(spec, &[&a, &b]).await;
    let session = pool.session("a").expect("it was added");
    a.stop().await;
    let down = session.wait_for(mainstay::Status::Down, crate::kit::LONG);
    down.await.expect("lost with its server");
    let health = pool.health();
    assert_eq!((health.live, health.sessions.len()), (1, 2));
    assert!((health.average - 50.0).abs() < f64::EPSILON, "{health}");
    assert_eq!(score(&pool, "a"), None);
    for _ in 0..3 {
        assert_eq!(pool.invoke(read()).await.expect("an answer"), "b");
    }
    assert_eq!(metrics.snapshot().pool_routed, 3);
    assert_eq!(metrics.snapshot().pool_failovers, 0, "nobody asked it");
    let json = serde_json::to_value(&health).expect("json");
    assert_eq!(json["sessions"][0]["score"], serde_json::Value::Null);
    assert_eq!(json["sessions"][1]["id"], "b");
    let text = health.to_string();
    assert!(text.starts_with("1 of 2 live, average 50"), "{text}");
}
