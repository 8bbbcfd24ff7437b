//! What a venue may do to a session that is live, and must not harm it.

use mainstay::adapters::deribit::{self, Interval};
use mainstay::close::{CloseReason, GapCause};
use mainstay::error::RequestError;
use mainstay::testing::deribit::Fault;
use mainstay::{Part, Session};
use serde_json::{Value, json};

use crate::{
    BTC, OWNERS, config, data, gap, logged_in, restored, resynced, start, venue, with_credentials,
};

async fn currency(session: &Session, asked: &str) -> String {
    let params = json!({ "currency": asked });
    let summary: Value = session
        .request("private/get_account_summary", &params)
        .await
        .expect("an answer");
    summary["currency"].as_str().expect("a currency").to_owned()
}

#[tokio::test]
async fn messages_that_make_no_sense_do_no_harm() {
    let venue = venue().await;
    let session = logged_in(&venue).await;
    let channel = deribit::book(BTC, Interval::Ms100);
    let mut book = session.subscribe(channel).await.expect("a subscription");
    for fault in [
        Fault::InvalidJson,
        Fault::AnswerUnknownId,
        Fault::ErrorWithoutId,
        Fault::AnswerTwice,
    ] {
        venue.inject(fault);
        assert_eq!(currency(&session, "BTC").await, "BTC");
        assert_eq!(currency(&session, "ETH").await, "ETH");
        for _ in 0..5 {
            let _ = data(&mut book).await;
        }
    }
    assert_eq!(venue.accepted(), 1);
}

#[tokio::test]
async fn answers_out_of_order_find_their_callers() {
    let venue = venue().await;
    let session = logged_in(&venue).await;
    venue.inject(Fault::AnswerOutOfOrder);
    let (one, two) = tokio::join!(currency(&session, "BTC"), currency(&session, "ETH"));
    assert_eq!((one.as_str(), two.as_str()), ("BTC", "ETH"));
    assert_eq!(venue.accepted(), 1);
}

#[tokio::test]
async fn a_venue_that_cuts_with_an_error_is_met_again_without_a_storm() {
    for owner in OWNERS {
        for (fault, code) in [(Fault::TooManyRequests, 10028), (Fault::Maintenance, 11051)] {
            let venue = venue().await;
            let session = start(with_credentials(), config(&venue, owner)).await;
            let channel = deribit::book(BTC, Interval::Ms100);
            let mut book = session.subscribe(channel).await.expect("a subscription");
            venue.inject(fault);
            let error = session
                .request::<Value>("public/get_time", &json!({}))
                .await
                .expect_err("too many");
            assert!(
                matches!(&error, RequestError::Answered { error, .. } if error.code == code),
                "{error:?}"
            );
            let _ = restored(&mut book).await;
            assert_eq!(venue.accepted(), 2);
            assert_eq!(venue.most_open_connections(), 1);
        }
    }
}

#[tokio::test]
async fn every_way_of_ending_a_connection_is_named_and_lived_through() {
    for owner in OWNERS {
        let venue = venue().await;
        let session = start(with_credentials(), config(&venue, owner)).await;
        let channel = deribit::book(BTC, Interval::Ms100);
        let mut book = session.subscribe(channel).await.expect("a subscription");
        for code in [1000, 1001, 1008, 1011, 1012, 1013] {
            venue.inject(Fault::Close {
                code,
                reason: "so there".to_owned(),
            });
            let cause = restored(&mut book).await.cause;
            let GapCause::ConnectionLost(CloseReason::Peer {
                code: found,
                reason,
            }) = cause
            else {
                panic!("{cause:?}");
            };
            assert_eq!((found, reason.as_str()), (Some(code), "so there"));
        }
        venue.inject(Fault::HangUp);
        assert_eq!(restored(&mut book).await.cause.label(), "eof");
        venue.inject(Fault::TcpReset);
        assert_eq!(restored(&mut book).await.cause.label(), "reset");
        assert_eq!(venue.accepted(), 9);
        assert_eq!(venue.most_open_connections(), 1);
    }
}

#[tokio::test]
async fn a_panic_of_ours_is_lived_through_with_the_venue_too() {
    for owner in OWNERS {
        let venue = venue().await;
        let session = start(with_credentials(), config(&venue, owner)).await;
        let channel = deribit::user_orders(BTC, Interval::Raw);
        let mut orders = session.subscribe(channel).await.expect("a subscription");
        for part in [Part::Client, Part::Adapter] {
            session.crash(part);
            let cause = gap(&mut orders).await.cause;
            assert!(
                matches!(cause, GapCause::ActorRestarted { .. }),
                "{cause:?}"
            );
            let _ = resynced(&mut orders).await;
            let _ = data(&mut orders).await;
        }
        assert_eq!(venue.most_open_connections(), 1);
    }
}
