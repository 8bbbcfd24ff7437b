//! The venue asks whether we are alive, and cuts who does not answer.

use std::time::Duration;

use mainstay::adapters::deribit::{self, Interval};
use mainstay::config::{Overflow, Queue};
use mainstay::testing::deribit::{DeribitSimulator, Fault};
use mainstay::{Client, Session};
use serde_json::json;

use crate::{
    BTC, GREETING, LONG, OWNERS, config, gap, requests, simulator, start, with_credentials,
};

/// A venue that asks every 50 ms and waits a second for the answer.
async fn asking() -> DeribitSimulator {
    simulator()
        .heartbeat_scale(200)
        .test_request_grace(20.0)
        .start()
        .await
        .expect("a venue")
}

async fn answering(venue: &DeribitSimulator) -> Session {
    let deribit = with_credentials().heartbeat(Duration::from_secs(10));
    start(deribit, config(venue, OWNERS[1])).await
}

#[tokio::test]
async fn heartbeats_are_asked_for_before_logging_in_with_the_chosen_interval() {
    let venue = asking().await;
    let _session = answering(&venue).await;
    let (method, params) = requests(&venue, 1).swap_remove(GREETING.len() - 1);
    assert_eq!(method, "public/set_heartbeat");
    assert_eq!(params, json!({ "interval": 10 }));
}

#[tokio::test]
async fn test_requests_are_answered_and_the_connection_stays() {
    let venue = asking().await;
    let _session = answering(&venue).await;
    // Longer than the venue waits for one answer.
    venue
        .wait_for_method("public/test", 30, LONG)
        .await
        .expect("answers");
    assert_eq!(venue.open_connection_ids(), [1]);
}

#[tokio::test]
async fn who_does_not_answer_a_test_request_is_cut_by_the_venue() {
    let venue = asking().await;
    let config = config(&venue, OWNERS[0]).build().expect("valid");
    // The standalone door knows nothing of the venue's heartbeats.
    let session = Client::connect_with(config).await.expect("a session");
    let mut messages = session.messages();
    let _: String = session
        .request("public/set_heartbeat", &json!({ "interval": 10 }))
        .await
        .expect("an answer");
    assert_eq!(gap(&mut messages).await.cause.label(), "eof");
}

#[tokio::test]
async fn test_requests_are_answered_in_a_flood_that_nobody_consumes() {
    let venue = asking().await;
    let session = answering(&venue).await;
    let ticker = deribit::ticker(BTC, Interval::Ms100);
    let (oldest, newest) = (Overflow::DropOldest, Overflow::DropNewest);
    let mut stuck = Vec::new();
    for overflow in [oldest, newest, Overflow::Block(Duration::from_millis(1))] {
        let queue = Queue::new(4, overflow);
        let subscription = session.subscribe_with(ticker.clone(), queue).await;
        stuck.push(subscription.expect("a subscription"));
    }
    for answered in 1..=5 {
        venue.inject(Fault::Burst { count: 2000 });
        venue.inject(Fault::TestRequest);
        venue
            .wait_for_method("public/test", answered, LONG)
            .await
            .expect("an answer");
    }
    assert_eq!(venue.open_connection_ids(), [1]);
}
