//! The venue when all is well.

use std::collections::BTreeMap;

use mainstay::testing::deribit::{DeribitSimulatorBuilder, LogEvent};

use super::*;

const BOOK: &str = "book.BTC-PERPETUAL.100ms";
const TICKER: &str = "ticker.BTC-PERPETUAL.100ms";
const TRADES: &str = "trades.BTC-PERPETUAL.100ms";
const ORDERS: &str = "user.orders.BTC-PERPETUAL.raw";

fn fast() -> DeribitSimulatorBuilder {
    DeribitSimulator::builder().tick_interval(Duration::from_millis(5))
}

async fn open() -> (DeribitSimulator, Client) {
    let venue = fast().start().await.unwrap();
    let client = Client::to(&venue).await;
    (venue, client)
}

#[tokio::test]
async fn an_answer_has_its_members_in_the_order_of_the_recording() {
    let (_venue, mut client) = open().await;
    client
        .send(r#"{"jsonrpc":"2.0","id":"auth_7","method":"public/test","params":{}}"#)
        .await;
    let Message::Text(text) = client.next().await.unwrap() else {
        panic!("no text")
    };
    let members = [
        "jsonrpc", "id", "result", "usIn", "usOut", "usDiff", "testnet",
    ];
    let places = members.map(|member| text.find(&format!("\"{member}\":")).unwrap());
    assert!(places.is_sorted(), "{text}");
    assert!(text.contains(r#""id":"auth_7""#), "{text}");
}

#[tokio::test]
async fn any_scalar_id_comes_back_unchanged() {
    let (_venue, mut client) = open().await;
    for id in ["1.50", "9007199254740993", "\"a\\u0062\"", "true"] {
        client
            .send(format!(
                r#"{{"jsonrpc":"2.0","id":{id},"method":"public/get_time"}}"#
            ))
            .await;
        let Message::Text(text) = client.next().await.unwrap() else {
            panic!("no text")
        };
        assert!(text.contains(&format!("\"id\":{id},")), "{text}");
    }
}

#[tokio::test]
async fn what_is_no_request_is_refused() {
    let (_venue, mut client) = open().await;
    let cases = [
        ("not JSON", -32700),
        (r#"{"jsonrpc":"2.0","method":"public/test"}"#, -32600),
        (
            r#"{"jsonrpc":"2.0","id":null,"method":"public/test"}"#,
            -32600,
        ),
        (
            r#"[{"jsonrpc":"2.0","id":1,"method":"public/test"}]"#,
            -32600,
        ),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"public/test","params":[1]}"#,
            -32602,
        ),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"public/nothing"}"#,
            -32601,
        ),
        (r#"{"id":{},"method":7}"#, -32600),
    ];
    for (text, code) in cases {
        client.send(text).await;
        assert_eq!(client.next_json().await["error"]["code"], code, "{text}");
    }
}

#[tokio::test]
async fn the_courtesies_are_answered() {
    let (_venue, mut client) = open().await;
    let hello = client
        .ask("public/hello", json!({ "client_name": "x" }))
        .await;
    assert!(hello.unwrap()["version"].is_string());
    assert!(
        client
            .ask("public/get_time", json!({}))
            .await
            .unwrap()
            .is_u64()
    );
    let status = client.ask("public/status", json!({})).await.unwrap();
    assert_eq!(status["locked"], "false");
    let failing = json!({ "expected_result": "exception" });
    assert_eq!(client.code("public/test", failing).await, 11094);
}

#[tokio::test]
async fn right_credentials_open_private_calls() {
    let (_venue, mut client) = open().await;
    assert_eq!(
        client.code("private/get_account_summary", json!({})).await,
        10000
    );
    let granted = client.log_in().await;
    assert_eq!(granted["token_type"], "bearer");
    assert_eq!(granted["expires_in"], 900);
    let summary = client.ask("private/get_account_summary", json!({ "currency": "ETH" }));
    assert_eq!(summary.await.unwrap()["currency"], "ETH");
}

#[tokio::test]
async fn wrong_credentials_are_13004() {
    let (_venue, mut client) = open().await;
    let wrong = json!({
        "grant_type": "client_credentials", "client_id": "id", "client_secret": "guess",
    });
    assert_eq!(client.code("public/auth", wrong).await, 13004);
}

#[tokio::test]
async fn a_signature_is_as_good_as_the_secret() {
    let venue = fast().credentials("AMANDA", "AMANDASECRECT");
    let venue = venue.start().await.unwrap();
    let mut client = Client::to(&venue).await;
    let mut signed = json!({
        "grant_type": "client_signature", "client_id": "AMANDA",
        "timestamp": 1576074319000u64, "nonce": "1iqt2wls", "data": "",
        "signature": "56590594f97921b09b18f166befe0d1319b198bbcdad7ca73382de2f88fe9aa1",
        "state": "echo",
    });
    let granted = client.ask("public/auth", signed.clone()).await.unwrap();
    assert_eq!(granted["state"], "echo");
    signed["nonce"] = json!("other");
    assert_eq!(client.code("public/auth", signed).await, 13009);
}

#[tokio::test]
async fn a_refresh_token_is_good_once_and_on_its_connection_only() {
    let (venue, mut client) = open().await;
    let granted = client.log_in().await;
    let refresh = json!({
        "grant_type": "refresh_token", "refresh_token": granted["refresh_token"],
    });
    let mut other = Client::to(&venue).await;
    assert_eq!(other.code("public/auth", refresh.clone()).await, 13009);
    let renewed = client.ask("public/auth", refresh.clone()).await.unwrap();
    assert_ne!(renewed["access_token"], granted["access_token"]);
    assert_eq!(client.code("public/auth", refresh).await, 13009);
}

#[tokio::test]
async fn an_expired_token_stops_private_calls_and_data_until_it_is_refreshed() {
    let venue = fast().token_life(Duration::from_millis(300)).start().await;
    let venue = venue.unwrap();
    let mut client = Client::to(&venue).await;
    let granted = client.log_in().await;
    assert_eq!(granted["expires_in"], 1);
    client.subscribe(ORDERS).await;
    client.data(ORDERS).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(
        client.code("private/get_account_summary", json!({})).await,
        13009
    );
    // What was sent before the end is forgotten.
    client.unused.clear();
    client.assert_silent(Duration::from_millis(150)).await;
    let refresh = json!({
        "grant_type": "refresh_token", "refresh_token": granted["refresh_token"],
    });
    client.ask("public/auth", refresh).await.unwrap();
    client.data(ORDERS).await;
}

#[tokio::test]
async fn subscribing_answers_with_the_channels_that_exist_in_another_order() {
    let (_venue, mut client) = open().await;
    let channels =
        json!({ "channels": [BOOK, "book.NOTHING.100ms", TICKER, "user.portfolio.btc"] });
    let got = client.ask("public/subscribe", channels).await.unwrap();
    assert_eq!(got, json!([TICKER, BOOK]));
    client.data(TICKER).await;
    let channels = json!({ "channels": [BOOK, TRADES] });
    let gone = client.ask("public/unsubscribe", channels).await.unwrap();
    assert_eq!(gone, json!([BOOK]));
    let all = client.ask("public/unsubscribe_all", json!({})).await;
    assert_eq!(all.unwrap(), "ok");
    client.assert_silent(Duration::from_millis(50)).await;
}

#[tokio::test]
async fn private_subscriptions_without_authentication_are_an_empty_list() {
    let (_venue, mut client) = open().await;
    let channels = json!({ "channels": ["user.portfolio.btc"] });
    let got = client.ask("private/subscribe", channels.clone()).await;
    assert_eq!(got.unwrap(), json!([]));
    client.log_in().await;
    let got = client.ask("private/subscribe", channels).await;
    assert_eq!(got.unwrap(), json!(["user.portfolio.btc"]));
    assert_eq!(client.data("user.portfolio.btc").await["currency"], "BTC");
}

#[tokio::test]
async fn a_label_comes_with_every_private_notification() {
    let venue = fast().start().await.unwrap();
    let mut client = Client::authenticated(&venue).await;
    let labelled = json!({ "channels": ["user.portfolio.btc"], "label": "mine" });
    client.ask("private/subscribe", labelled).await.unwrap();
    let notified = client
        .find(|message| message["method"] == "subscription")
        .await;
    assert_eq!(notified["params"]["label"], "mine");
}

#[tokio::test]
async fn raw_channels_want_authentication() {
    let (_venue, mut client) = open().await;
    let raw = json!({ "channels": ["ticker.BTC-PERPETUAL.raw"] });
    assert_eq!(client.code("public/subscribe", raw.clone()).await, 13778);
    client.log_in().await;
    client.ask("public/subscribe", raw).await.unwrap();
    client.data("ticker.BTC-PERPETUAL.raw").await;
}

type Side = BTreeMap<u64, f64>;

fn apply(side: &mut Side, rows: &Value) {
    for row in rows.as_array().unwrap() {
        let (price, amount) = (row[1].as_f64().unwrap(), row[2].as_f64().unwrap());
        let known = match row[0].as_str().unwrap() {
            "delete" => side.remove(&price.to_bits()).is_some(),
            "change" => side.insert(price.to_bits(), amount).is_some(),
            "new" => side.insert(price.to_bits(), amount).is_none(),
            other => panic!("{other}"),
        };
        assert!(known, "{row}");
    }
}

#[tokio::test]
async fn a_book_is_an_unbroken_chain_and_leads_to_the_next_snapshot() {
    let (_venue, mut client) = open().await;
    client.subscribe(BOOK).await;
    let snapshot = client.data(BOOK).await;
    assert_eq!(snapshot["type"], "snapshot");
    assert!(snapshot.get("prev_change_id").is_none());
    let (mut bids, mut asks) = (Side::new(), Side::new());
    apply(&mut bids, &snapshot["bids"]);
    apply(&mut asks, &snapshot["asks"]);
    let mut last = snapshot["change_id"].clone();
    for _ in 0..50 {
        let change = client.data(BOOK).await;
        assert_eq!(change["type"], "change");
        assert_eq!(change["prev_change_id"], last);
        apply(&mut bids, &change["bids"]);
        apply(&mut asks, &change["asks"]);
        last = change["change_id"].clone();
    }
    // Subscribed again, the book begins anew with what the changes had led to.
    client.subscribe(BOOK).await;
    loop {
        let data = client.data(BOOK).await;
        if data["type"] == "snapshot" {
            let (mut all_bids, mut all_asks) = (Side::new(), Side::new());
            apply(&mut all_bids, &data["bids"]);
            apply(&mut all_asks, &data["asks"]);
            assert_eq!((bids, asks), (all_bids, all_asks));
            return;
        }
        apply(&mut bids, &data["bids"]);
        apply(&mut asks, &data["asks"]);
    }
}

#[tokio::test]
async fn trades_are_numbered_without_a_hole_while_connected_and_go_on_during_an_outage() {
    let (venue, mut client) = open().await;
    client.subscribe(TRADES).await;
    let mut last = None;
    for _ in 0..20 {
        for trade in client.data(TRADES).await.as_array().unwrap() {
            let seq = trade["trade_seq"].as_u64().unwrap();
            assert!(last.is_none_or(|last| seq == last + 1));
            last = Some(seq);
        }
    }
    drop(client);
    let before = venue.last_sequence(TRADES).unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    let mut client = Client::to(&venue).await;
    client.subscribe(TRADES).await;
    let missed = client.data(TRADES).await[0]["trade_seq"].as_u64().unwrap();
    assert!(missed > before + 1, "{missed} {before}");
    assert!(venue.last_sequence(BOOK).unwrap() > 10_000_000_000);
}

#[tokio::test]
async fn heartbeats_below_ten_seconds_are_refused() {
    let (_venue, mut client) = open().await;
    let refused = client
        .ask("public/set_heartbeat", json!({ "interval": 9 }))
        .await;
    let error = refused.unwrap_err();
    assert_eq!(error["code"], -32602);
    assert_eq!(error["data"]["param"], "interval");
}

#[tokio::test]
async fn an_answered_test_request_keeps_the_connection() {
    // 10 s become 100 ms, and a busy machine gets 3 s to answer.
    let venue = fast().heartbeat_scale(100).test_request_grace(30.0);
    let venue = venue.start().await.unwrap();
    let mut client = Client::to(&venue).await;
    let ok = client
        .ask("public/set_heartbeat", json!({ "interval": 10 }))
        .await;
    assert_eq!(ok.unwrap(), "ok");
    for _ in 0..3 {
        client.heartbeat("test_request").await;
        client.ask("public/test", json!({})).await.unwrap();
        client.heartbeat("heartbeat").await;
    }
    assert_eq!(venue.open_connections(), 1);
}

#[tokio::test]
async fn an_unanswered_test_request_ends_the_connection_and_cancels_its_orders() {
    let venue = fast().heartbeat_scale(100).start().await.unwrap();
    let mut client = Client::authenticated(&venue).await;
    let enable = "private/enable_cancel_on_disconnect";
    assert_eq!(client.ask(enable, json!({})).await.unwrap(), "ok");
    let enabled = client
        .ask("private/get_cancel_on_disconnect", json!({}))
        .await;
    assert_eq!(enabled.unwrap()["enabled"], true);
    let order = json!({ "instrument_name": "BTC-PERPETUAL", "amount": 10, "price": 1000.0 });
    client.ask("private/buy", order).await.unwrap();
    assert!(venue.cancels_on_disconnect(1));
    assert_eq!(venue.open_orders(), 1);
    let ok = client
        .ask("public/set_heartbeat", json!({ "interval": 10 }))
        .await;
    ok.unwrap();
    client.heartbeat("test_request").await;
    client.end().await;
    let ended = venue.wait_for(|entry| matches!(entry.event, LogEvent::Ended), SOON);
    ended.await.unwrap();
    assert_eq!((venue.orders_cancelled(), venue.open_orders()), (1, 0));
}

#[tokio::test]
async fn orders_survive_a_logout_which_is_not_answered() {
    let venue = fast().start().await.unwrap();
    let mut client = Client::authenticated(&venue).await;
    let enable = "private/enable_cancel_on_disconnect";
    client.ask(enable, json!({})).await.unwrap();
    let order = json!({ "instrument_name": "ETH-PERPETUAL", "amount": 1 });
    client.ask("private/sell", order).await.unwrap();
    client.request("private/logout", json!({})).await;
    assert_eq!(client.close().await.0, 1000);
    let ended = venue.wait_for(|entry| matches!(entry.event, LogEvent::Ended), SOON);
    ended.await.unwrap();
    assert_eq!((venue.orders_cancelled(), venue.open_orders()), (0, 1));
}

#[tokio::test]
async fn a_placed_order_is_told_at_once() {
    // Periodic private data would come every 100 s.
    let builder = DeribitSimulator::builder().tick_interval(Duration::from_secs(10));
    let venue = builder.start().await.unwrap();
    let mut client = Client::authenticated(&venue).await;
    client.subscribe(ORDERS).await;
    client.subscribe("user.changes.BTC-PERPETUAL.raw").await;
    let order = json!({ "instrument_name": "BTC-PERPETUAL", "amount": 10, "price": 1000.0 });
    let placed = client.ask("private/buy", order).await.unwrap();
    let id = &placed["order"]["order_id"];
    assert_eq!(client.data(ORDERS).await["order_id"], *id);
    client.data("user.changes.BTC-PERPETUAL.raw").await;
    let cancel = json!({ "order_id": id });
    client.ask("private/cancel", cancel.clone()).await.unwrap();
    assert_eq!(client.data(ORDERS).await["order_state"], "cancelled");
    assert_eq!(client.code("private/cancel", cancel).await, 10004);
}

#[tokio::test]
async fn the_log_has_every_request_and_no_secret() {
    let venue = fast().start().await.unwrap();
    let mut client = Client::authenticated(&venue).await;
    client.code("public/nothing", json!({})).await;
    let entry = venue.wait_for_method("public/nothing", 1, SOON).await;
    assert!(matches!(
        entry.unwrap().event,
        LogEvent::Request {
            error: Some(-32601),
            ..
        }
    ));
    let log = format!("{:?}", venue.log());
    assert!(
        log.contains("public/auth") && !log.contains("secret\")"),
        "{log}"
    );
    assert!(log.contains("[redacted]"), "{log}");
}

#[tokio::test]
async fn a_quiet_connection_without_heartbeats_is_closed() {
    let venue = fast().idle_limit(Duration::from_millis(50));
    let venue = venue.start().await.unwrap();
    let mut client = Client::to(&venue).await;
    client.end().await;
}

#[tokio::test]
async fn beyond_its_credits_a_client_gets_10028_and_is_cut() {
    let venue = fast().rate_limits(true).start().await.unwrap();
    let mut client = Client::to(&venue).await;
    for _ in 0..10 {
        client.subscribe(TICKER).await;
    }
    let channels = json!({ "channels": [TICKER] });
    assert_eq!(client.code("public/subscribe", channels).await, 10028);
    client.end().await;
}

#[tokio::test]
async fn one_connection_too_many_is_refused_with_429() {
    let venue = fast().connection_limit(1).start().await.unwrap();
    let _first = Client::to(&venue).await;
    let opened = venue.wait_for(|entry| matches!(entry.event, LogEvent::Opened), SOON);
    opened.await.unwrap();
    match Client::try_open(&venue.url()).await.err().unwrap() {
        Error::Http(answer) => assert_eq!(answer.status(), 429),
        other => panic!("{other:?}"),
    }
    assert_eq!(venue.most_open_connections(), 1);
}

#[tokio::test]
async fn the_venue_speaks_tls() {
    let venue = fast().tls(true).start().await.unwrap();
    assert!(venue.url().starts_with("wss://localhost:"));
    assert!(venue.url().ends_with("/ws/api/v2"));
    let authority = venue.ca_certificate_der().unwrap();
    let wire = secured(venue.address(), "localhost", authority)
        .await
        .unwrap();
    let mut client = Client::over(&venue.url(), wire).await.unwrap();
    client.log_in().await;
    venue.stop().await;
    client.end().await;
}
