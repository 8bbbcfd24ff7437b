//! Logging in, staying logged in, and being thrown out.

use std::time::Duration;

use mainstay::Event;
use mainstay::adapters::deribit::{self, Interval, Scope};
use mainstay::error::{Recovery, RequestError, StartError};
use mainstay::testing::deribit::{Fault, LogEntry, LogEvent};
use serde_json::{Value, json};

use crate::{
    BTC, GREETING, LONG, OWNERS, behind_greeting, channels, config, data, gap, logged_in, methods,
    next, requests, restored, resynced, simulator, start, venue, with_credentials,
};

fn is_grant(entry: &LogEntry, kind: &str) -> bool {
    match &entry.event {
        LogEvent::Request { method, params, .. } => {
            method == "public/auth" && params["grant_type"] == kind
        }
        _ => false,
    }
}

#[tokio::test]
async fn a_session_logs_in_before_it_subscribes_to_anything_private() {
    let venue = venue().await;
    let session = logged_in(&venue).await;
    let mut orders = session
        .subscribe(deribit::user_orders(BTC, Interval::Raw))
        .await
        .expect("a subscription");
    let _ = data(&mut orders).await;
    assert_eq!(
        behind_greeting(&venue, 1),
        ["public/auth", "private/subscribe"]
    );
    let (_, auth) = requests(&venue, 1).swap_remove(GREETING.len());
    assert_eq!(auth["grant_type"], "client_credentials");
    assert_eq!(auth["client_id"], "id");
}

#[tokio::test]
async fn a_session_that_signs_logs_in_without_sending_its_secret() {
    let venue = venue().await;
    let config = config(&venue, OWNERS[1]);
    let session = start(with_credentials().signed(true), config).await;
    let mut orders = session
        .subscribe(deribit::user_orders(BTC, Interval::Raw))
        .await
        .expect("a subscription");
    let _ = data(&mut orders).await;
    let (_, auth) = requests(&venue, 1).swap_remove(GREETING.len());
    assert_eq!(auth["grant_type"], "client_signature");
    assert!(auth.get("client_secret").is_none());
}

#[tokio::test]
async fn a_session_without_credentials_does_not_log_in() {
    let venue = venue().await;
    let config = config(&venue, OWNERS[1]);
    let session = start(deribit::Deribit::builder(), config).await;
    assert!(session.state().is_live());
    assert_eq!(methods(&venue, 1), GREETING);
}

#[tokio::test]
async fn wrong_credentials_fail_the_start_at_once_and_are_not_tried_again() {
    for owner in OWNERS {
        for retry in [false, true] {
            let venue = venue().await;
            let config = config(&venue, owner).retry_first(retry).build();
            let deribit = deribit::Deribit::builder().credentials("id", "wrong");
            let error =
                mainstay::Session::start(deribit.build().expect("valid"), config.expect("valid"))
                    .await
                    .expect_err("refused");
            assert!(
                matches!(&error, StartError::Refused { step, .. } if step == "authenticate"),
                "{error:?}"
            );
            assert_eq!(error.recovery(), Recovery::Stop);
            assert!(!format!("{error:?} {error}").contains("wrong"));
            assert_eq!(venue.accepted(), 1, "{owner:?}, retry {retry}");
        }
    }
}

#[tokio::test]
async fn a_token_is_renewed_ahead_of_its_end_and_data_does_not_stop() {
    let life = Duration::from_secs(2);
    let venue = simulator().token_life(life).start().await.expect("a venue");
    let session = logged_in(&venue).await;
    let mut orders = session
        .subscribe(deribit::user_orders(BTC, Interval::Raw))
        .await
        .expect("a subscription");
    let login = venue.wait_for(|entry| is_grant(entry, "client_credentials"), LONG);
    let login = login.await.expect("a login");
    let renewal = venue.wait_for(|entry| is_grant(entry, "refresh_token"), LONG);
    let renewal = renewal.await.expect("a renewal");
    assert!(renewal.at < login.at + life, "the token had ended");
    // Into the life of the second renewal, when neither of the first two tokens is good any more.
    let end = (renewal.at + life).into_std();
    loop {
        match next(&mut orders).await {
            Event::Data(data) if data.received > end => break,
            Event::Data(_) => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(venue.accepted(), 1);
}

#[tokio::test]
async fn a_refused_renewal_interrupts_private_data_alone_and_leads_to_a_fresh_login() {
    let life = Duration::from_secs(1);
    let venue = simulator().token_life(life).start().await.expect("a venue");
    venue.inject(Fault::RefuseRefresh(true));
    let session = logged_in(&venue).await;
    let mut ticker = session
        .subscribe(deribit::ticker(BTC, Interval::Ms100))
        .await
        .expect("a subscription");
    let channel = deribit::user_orders(BTC, Interval::Raw);
    let mut orders = session.subscribe(channel).await.expect("a subscription");

    let interruption = gap(&mut orders).await;
    assert_eq!(interruption.cause.label(), "authorization_lost");
    let _ = resynced(&mut orders).await;
    let again = data(&mut orders).await.received;
    while data(&mut ticker).await.received < again {}

    assert_eq!(
        behind_greeting(&venue, 1)[..6],
        [
            "public/auth",
            "public/subscribe",
            "private/subscribe",
            "public/auth",
            "public/auth",
            "private/subscribe",
        ]
    );
    let requests = requests(&venue, 1);
    assert_eq!(requests[7].1["grant_type"], "refresh_token");
    assert_eq!(requests[8].1["grant_type"], "client_credentials");
    assert_eq!(venue.accepted(), 1);
}

#[tokio::test]
async fn a_private_request_that_finds_the_token_expired_leads_to_a_fresh_login() {
    let venue = venue().await;
    let session = logged_in(&venue).await;
    let channel = deribit::user_orders(BTC, Interval::Raw);
    let mut orders = session.subscribe(channel).await.expect("a subscription");
    venue.inject(Fault::ExpireToken);
    let summary = json!({ "currency": "BTC" });
    let error = session
        .request::<Value>("private/get_account_summary", &summary)
        .await
        .expect_err("an expired token");
    assert!(
        matches!(&error, RequestError::Answered { error, .. } if error.code == 13009),
        "{error:?}"
    );
    let interruption = restored(&mut orders).await;
    assert_eq!(interruption.cause.label(), "authorization_lost");
    let _: Value = session
        .request("private/get_account_summary", &summary)
        .await
        .expect("an answer");
    let channels = channels(&venue, 1, "private/subscribe");
    assert_eq!(channels.len(), 2);
    assert_eq!(channels[1], json!(["user.orders.BTC-PERPETUAL.raw"]));
    assert_eq!(venue.accepted(), 1);
}

#[tokio::test]
async fn credentials_that_are_withdrawn_end_the_session_with_that_cause() {
    let venue = venue().await;
    let session = logged_in(&venue).await;
    venue.inject(Fault::FailMethod {
        method: "public/auth".to_owned(),
        code: 13004,
    });
    venue.inject(Fault::HangUp);
    let reason = tokio::time::timeout(LONG, session.ended()).await;
    let reason = reason.expect("an end").to_string();
    assert!(reason.contains("authenticate"), "{reason}");
    assert!(reason.contains("13004"), "{reason}");
    assert_eq!(venue.accepted(), 2);
}

#[tokio::test]
async fn cancel_on_disconnect_is_switched_on_for_every_connection_when_asked_for() {
    let venue = venue().await;
    let deribit = with_credentials().cancel_on_disconnect(Scope::Connection);
    let session = start(deribit, config(&venue, OWNERS[1])).await;
    let channel = deribit::ticker(BTC, Interval::Ms100);
    let mut ticker = session.subscribe(channel).await.expect("a subscription");
    assert!(venue.cancels_on_disconnect(1));
    let order = json!({ "instrument_name": BTC, "amount": 10.0, "price": 1.0 });
    let _: Value = session
        .request("private/buy", &order)
        .await
        .expect("an order");
    assert_eq!(venue.open_orders(), 1);
    venue.inject(Fault::HangUp);
    let _ = restored(&mut ticker).await;
    assert_eq!(venue.orders_cancelled(), 1);
    assert!(venue.cancels_on_disconnect(2));
}

#[tokio::test]
async fn orders_stay_when_cancel_on_disconnect_is_not_asked_for() {
    let venue = venue().await;
    let session = logged_in(&venue).await;
    assert!(!venue.cancels_on_disconnect(1));
    let order = json!({ "instrument_name": BTC, "amount": 10.0, "price": 1.0 });
    let _: Value = session
        .request("private/buy", &order)
        .await
        .expect("an order");
    session.shutdown().await;
    venue
        .wait_for(|entry| matches!(entry.event, LogEvent::Ended), LONG)
        .await
        .expect("the end");
    assert_eq!(venue.open_orders(), 1);
}
