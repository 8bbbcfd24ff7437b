//! The shared limiter under many takers, with a paused clock where time matters.

use std::pin::pin;

use futures_util::future::{FutureExt, join_all};

use super::*;

const SECOND: Duration = Duration::from_secs(1);
const LONG: Duration = Duration::from_secs(1000);

fn limiter(limits: RateLimits) -> Limiter {
    Limiter::new("test", limits).expect("limits that can work")
}

/// Thirty-seven at once, by either rule, and no more for a long time.
fn rules() -> [RateLimits; 2] {
    [
        RateLimits::window(37, LONG).reserve(0),
        RateLimits::bucket(37, 1, LONG).reserve(0),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_a_hundred_takers_at_once_exactly_as_many_pass_as_may() {
    for rule in rules().iter().cycle().take(40) {
        let limiter = limiter(rule.clone());
        let takers = (0..100).map(|_| {
            let limiter = limiter.clone();
            tokio::spawn(async move { limiter.try_acquire(1) })
        });
        let passed = join_all(takers).await;
        let passed = passed.into_iter().filter(|one| matches!(one, Ok(true)));
        assert_eq!(passed.count(), 37);
        assert_eq!(limiter.status().tokens(), 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_a_hundred_that_wait_exactly_as_many_pass_as_may() {
    for rule in rules() {
        let limiter = limiter(rule);
        let takers = (0..100).map(|_| {
            let limiter = limiter.clone();
            tokio::spawn(async move { limiter.acquire(1, Duration::from_millis(200)).await })
        });
        let passed = join_all(takers).await;
        let passed = passed.into_iter().filter(|one| matches!(one, Ok(Ok(()))));
        assert_eq!(passed.count(), 37);
        assert_eq!(limiter.status().queued(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn those_that_wait_are_served_by_lane_and_then_by_arrival() {
    let limiter = limiter(RateLimits::bucket(1, 1, SECOND));
    assert!(limiter.try_acquire(1));
    let (sender, mut served) = tokio::sync::mpsc::channel(8);
    let lanes = [
        Lane::Low,
        Lane::Normal,
        Lane::Reserved,
        Lane::Normal,
        Lane::High,
    ];
    for (number, lane) in lanes.into_iter().enumerate() {
        let (limiter, sender) = (limiter.clone(), sender.clone());
        tokio::spawn(async move {
            let turn = limiter.acquire(Weight::new(1).lane(lane), LONG).await;
            turn.expect("a turn");
            sender.send(number).await.expect("a test that listens");
        });
        tokio::task::yield_now().await;
    }
    drop(sender);
    let began = Instant::now();
    let mut order = Vec::new();
    while let Some(number) = served.recv().await {
        order.push(number);
    }
    assert_eq!(order, [2, 4, 1, 3, 0]);
    assert_eq!(began.elapsed().as_secs(), 5);
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_is_dropped_gives_its_place_back() {
    let limiter = limiter(RateLimits::bucket(1, 1, SECOND).queue(1));
    assert!(limiter.try_acquire(1));
    {
        let mut dropped = pin!(limiter.acquire(1, LONG));
        assert!(dropped.as_mut().now_or_never().is_none(), "it waits");
        assert_eq!(limiter.status().queued(), 1);
        let full = limiter.acquire(1, LONG).await;
        assert_eq!(full, Err(LimitError::QueueFull { capacity: 1 }));
    }
    assert_eq!(limiter.status().queued(), 0);
    tokio::time::advance(SECOND).await;
    assert!(limiter.try_acquire(1), "nothing was paid for it");
}

#[tokio::test(start_paused = true)]
async fn what_was_granted_to_a_caller_that_is_gone_is_given_back() {
    let limiter = limiter(RateLimits::bucket(1, 1, SECOND));
    assert!(limiter.try_acquire(1));
    {
        let mut dropped = pin!(limiter.acquire(1, LONG));
        assert!(dropped.as_mut().now_or_never().is_none(), "it waits");
        while limiter.status().queued() > 0 {
            tokio::time::advance(Duration::from_millis(100)).await;
            tokio::task::yield_now().await;
        }
    }
    assert!(limiter.try_acquire(1));
}

#[tokio::test(start_paused = true)]
async fn a_turn_that_does_not_come_in_time_is_told_so() {
    let limiter = limiter(RateLimits::bucket(1, 1, LONG));
    assert!(limiter.try_acquire(1));
    let began = Instant::now();
    let expired = limiter.acquire(1, SECOND).await;
    assert_eq!(expired, Err(LimitError::Expired { waited: SECOND }));
    assert_eq!(began.elapsed().as_secs(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_complaint_of_the_venues_lets_all_but_the_reserved_lane_rest() {
    let limiter = limiter(RateLimits::bucket(10, 10, SECOND).reserve(1));
    limiter.on_limited(Some(Duration::from_secs(30)));
    assert!(limiter.try_acquire(Weight::new(1).lane(Lane::Reserved)));
    let began = Instant::now();
    limiter.acquire(1, LONG).await.expect("a turn");
    assert_eq!(began.elapsed().as_secs(), 30);
}

#[tokio::test(start_paused = true)]
async fn pressure_and_the_suggested_delay_follow_the_queue() {
    let limiter = limiter(RateLimits::bucket(1, 1, SECOND).queue(4));
    assert!(limiter.try_acquire(1));
    let mut seen = Vec::new();
    let mut waiting = Vec::new();
    for _ in 0..4 {
        let mut one = Box::pin(limiter.acquire(1, LONG));
        assert!(one.as_mut().now_or_never().is_none(), "it waits");
        waiting.push(one);
        let status = limiter.status();
        seen.push((status.pressure(), status.suggested_delay().as_secs()));
    }
    let (low, medium, high) = (Pressure::Low, Pressure::Medium, Pressure::High);
    assert_eq!(seen, [(low, 1), (medium, 2), (high, 4), (high, 4)]);
    drop(waiting);
    assert_eq!(limiter.status().pressure(), Pressure::None);
}

#[tokio::test(start_paused = true)]
async fn the_status_tells_the_price_and_the_rest_after_a_complaint() {
    let second = Duration::from_secs(1);
    let limiter = limiter(RateLimits::window(10, second).adaptive(true));
    let status = limiter.status();
    assert_eq!((status.price_percent, status.rest), (100, None));
    limiter.on_limited(Some(7 * second));
    let status = limiter.status();
    assert_eq!((status.price_percent, status.rest), (150, Some(7 * second)));
    tokio::time::sleep(7 * second).await;
    let status = limiter.status();
    assert_eq!((status.price_percent, status.rest), (142, None));
}
