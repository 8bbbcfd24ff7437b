//! The venue when something goes wrong: each fault as it is seen on the wire.

use mainstay::testing::Handshake;
use mainstay::testing::deribit::{Fault, LogEvent};
use tokio_tungstenite::tungstenite::error::ProtocolError;

use super::*;

const BOOK: &str = "book.BTC-PERPETUAL.100ms";
const TICKER: &str = "ticker.BTC-PERPETUAL.100ms";

/// A venue, and a client that is logged in.
async fn open() -> (DeribitSimulator, Client) {
    let venue = DeribitSimulator::builder()
        .tick_interval(Duration::from_millis(5))
        .start()
        .await
        .unwrap();
    let client = Client::authenticated(&venue).await;
    (venue, client)
}

/// Faults for one connection are carried out in order; so this one's effect shows that those
/// injected before it have taken hold.
async fn settle(venue: &DeribitSimulator, client: &mut Client) {
    venue.inject(Fault::AnswerUnknownId);
    client
        .find(|message| message["id"] == 9_007_199_254_740_991_u64)
        .await;
}

#[tokio::test]
async fn a_tcp_reset_is_an_error_of_the_socket() {
    let (venue, mut client) = open().await;
    assert_eq!(venue.inject(Fault::TcpReset), 1);
    assert!(is_reset(&client.end().await));
}

#[tokio::test]
async fn hanging_up_leaves_no_close_frame() {
    let (venue, mut client) = open().await;
    venue.inject(Fault::HangUp);
    let end = client.end().await;
    let expected = ProtocolError::ResetWithoutClosingHandshake;
    assert!(
        matches!(&end, Error::Protocol(found) if *found == expected),
        "{end:?}"
    );
}

#[tokio::test]
async fn a_half_open_connection_says_nothing_and_new_ones_work() {
    let (venue, mut client) = open().await;
    client.subscribe(TICKER).await;
    venue.inject(Fault::HalfOpen);
    // What was on its way arrives; then nothing does.
    while let Ok(message) = timeout(Duration::from_millis(100), client.socket.next()).await {
        message.unwrap().unwrap();
    }
    client.socket.send(Message::Ping("?".into())).await.unwrap();
    client.request("public/test", json!({})).await;
    client.assert_silent(Duration::from_millis(200)).await;
    assert_eq!(venue.open_connections(), 1);
    let mut other = Client::authenticated(&venue).await;
    other.subscribe(TICKER).await;
    other.data(TICKER).await;
    drop(client);
    let ended = venue.wait_for(
        |entry| entry.connection == 1 && matches!(entry.event, LogEvent::Ended),
        SOON,
    );
    ended.await.unwrap();
}

#[tokio::test]
async fn a_close_frame_has_its_code_and_reason() {
    for code in [1001, 1008, 1012, 1013, 4000] {
        let (venue, mut client) = open().await;
        let reason = "because".to_owned();
        venue.inject(Fault::Close { code, reason });
        assert_eq!(client.close().await, (code, "because".to_owned()));
    }
}

#[tokio::test]
async fn a_fault_can_be_for_one_connection() {
    let (venue, mut first) = open().await;
    let mut second = Client::authenticated(&venue).await;
    assert!(venue.inject_on(1, Fault::TcpReset));
    first.end().await;
    second.ask("public/test", json!({})).await.unwrap();
    assert!(!venue.inject_on(99, Fault::TcpReset));
}

#[tokio::test]
async fn an_expired_token_is_noticed_only_by_private_calls() {
    let (venue, mut client) = open().await;
    venue.inject(Fault::ExpireToken);
    settle(&venue, &mut client).await;
    client.ask("public/test", json!({})).await.unwrap();
    assert_eq!(
        client.code("private/get_account_summary", json!({})).await,
        13009
    );
    client.log_in().await;
    let summary = client.ask("private/get_account_summary", json!({})).await;
    summary.unwrap();
}

#[tokio::test]
async fn a_refused_refresh_leaves_the_credentials() {
    let (venue, mut client) = open().await;
    let granted = client.log_in().await;
    venue.inject(Fault::RefuseRefresh(true));
    settle(&venue, &mut client).await;
    let refresh = json!({
        "grant_type": "refresh_token", "refresh_token": granted["refresh_token"],
    });
    assert_eq!(client.code("public/auth", refresh.clone()).await, 13009);
    venue.inject(Fault::Heal);
    settle(&venue, &mut client).await;
    client.ask("public/auth", refresh).await.unwrap();
}

#[tokio::test]
async fn a_delayed_authentication_does_not_hold_up_others() {
    let (venue, mut client) = open().await;
    venue.inject(Fault::DelayAuth(Duration::from_millis(100)));
    settle(&venue, &mut client).await;
    let auth = json!({
        "grant_type": "client_credentials", "client_id": "id", "client_secret": "secret",
    });
    let late = client.request("public/auth", auth).await;
    let test = client.request("public/test", json!({})).await;
    assert_eq!(client.next_json().await["id"], test);
    assert_eq!(client.next_json().await["id"], late);
}

#[tokio::test]
async fn an_omitted_channel_is_missing_without_an_error_also_later() {
    let (venue, mut client) = open().await;
    venue.inject(Fault::OmitChannel(BOOK.to_owned()));
    settle(&venue, &mut client).await;
    let channels = json!({ "channels": [BOOK, TICKER] });
    let got = client.ask("public/subscribe", channels).await;
    assert_eq!(got.unwrap(), json!([TICKER]));
    let mut later = Client::to(&venue).await;
    assert_eq!(later.subscribe(BOOK).await, json!([]));
}

#[tokio::test]
async fn a_silenced_channel_is_subscribed_and_says_nothing() {
    let (venue, mut client) = open().await;
    venue.inject(Fault::SilenceChannel(BOOK.to_owned()));
    settle(&venue, &mut client).await;
    assert_eq!(client.subscribe(BOOK).await, json!([BOOK]));
    client.assert_silent(Duration::from_millis(100)).await;
}

#[tokio::test]
async fn a_sequence_break_breaks_the_chain_once() {
    let (venue, mut client) = open().await;
    client.subscribe(BOOK).await;
    let mut last = client.data(BOOK).await["change_id"].clone();
    let channel = BOOK.to_owned();
    venue.inject(Fault::SequenceBreak { channel });
    let mut breaks = 0;
    for _ in 0..30 {
        let change = client.data(BOOK).await;
        breaks += u32::from(change["prev_change_id"] != last);
        last = change["change_id"].clone();
    }
    assert_eq!(breaks, 1);
}

#[tokio::test]
async fn a_duplicate_comes_twice() {
    let (venue, mut client) = open().await;
    client.subscribe(BOOK).await;
    let mut last = client.data(BOOK).await["change_id"].clone();
    let channel = BOOK.to_owned();
    venue.inject(Fault::DuplicateMessage { channel });
    let mut twice = 0;
    for _ in 0..30 {
        let id = client.data(BOOK).await["change_id"].clone();
        twice += u32::from(id == last);
        last = id;
    }
    assert_eq!(twice, 1);
}

#[tokio::test]
async fn a_snapshot_is_repeated() {
    let (venue, mut client) = open().await;
    client.subscribe(BOOK).await;
    client.data(BOOK).await;
    let channel = BOOK.to_owned();
    venue.inject(Fault::RepeatSnapshot { channel });
    while client.data(BOOK).await["type"] != "snapshot" {}
}

#[tokio::test]
async fn limits_and_maintenance_are_told_before_the_cut() {
    for (fault, code) in [(Fault::TooManyRequests, 10028), (Fault::Maintenance, 11051)] {
        let (venue, mut client) = open().await;
        venue.inject(fault);
        settle(&venue, &mut client).await;
        assert_eq!(client.code("public/test", json!({})).await, code);
        client.end().await;
    }
}

#[tokio::test]
async fn one_request_is_answered_with_an_error_of_choice() {
    let (venue, mut client) = open().await;
    let message = "retry".to_owned();
    venue.inject(Fault::AnswerError {
        code: 10040,
        message,
    });
    settle(&venue, &mut client).await;
    assert_eq!(client.code("public/test", json!({})).await, 10040);
    client.ask("public/test", json!({})).await.unwrap();
}

#[tokio::test]
async fn a_lost_answer_never_comes() {
    let (venue, mut client) = open().await;
    venue.inject(Fault::LoseAnswer);
    settle(&venue, &mut client).await;
    let lost = client.request("public/test", json!({})).await;
    client.ask("public/test", json!({})).await.unwrap();
    assert!(client.unused.iter().all(|message| message["id"] != lost));
}

#[tokio::test]
async fn answers_come_out_of_order() {
    let (venue, mut client) = open().await;
    venue.inject(Fault::AnswerOutOfOrder);
    settle(&venue, &mut client).await;
    let first = client.request("public/test", json!({})).await;
    let second = client.request("public/get_time", json!({})).await;
    assert_eq!(client.next_json().await["id"], second);
    assert_eq!(client.next_json().await["id"], first);
}

#[tokio::test]
async fn an_answer_comes_twice() {
    let (venue, mut client) = open().await;
    venue.inject(Fault::AnswerTwice);
    settle(&venue, &mut client).await;
    let id = client.request("public/test", json!({})).await;
    assert_eq!(client.next_json().await["id"], id);
    assert_eq!(client.next_json().await["id"], id);
}

#[tokio::test]
async fn answers_come_to_nobody() {
    let (venue, mut client) = open().await;
    venue.inject(Fault::AnswerUnknownId);
    assert!(client.next_json().await["result"].is_string());
    venue.inject(Fault::ErrorWithoutId);
    let error = client.next_json().await;
    assert!(error.get("id").is_none() && error["error"]["code"].is_i64());
}

#[tokio::test]
async fn a_notification_comes_before_its_subscription() {
    let (venue, mut client) = open().await;
    venue.inject(Fault::NotificationBeforeAnswer(true));
    settle(&venue, &mut client).await;
    let id = client
        .request("public/subscribe", json!({ "channels": [BOOK] }))
        .await;
    assert_eq!(client.next_json().await["params"]["channel"], BOOK);
    assert_eq!(client.next_json().await["id"], id);
}

#[tokio::test]
async fn broken_json_is_sent_as_text() {
    let (venue, mut client) = open().await;
    venue.inject(Fault::InvalidJson);
    let Message::Text(text) = client.next().await.unwrap() else {
        panic!("no text")
    };
    assert!(serde_json::from_str::<Value>(&text).is_err());
}

#[tokio::test]
async fn a_burst_has_as_many_messages_as_were_asked_for() {
    let venue = DeribitSimulator::builder().tick_interval(Duration::from_secs(60));
    let venue = venue.start().await.unwrap();
    let mut client = Client::to(&venue).await;
    client.subscribe(TICKER).await;
    client.data(TICKER).await;
    venue.inject(Fault::Burst { count: 10_000 });
    for _ in 0..10_000 {
        client.data(TICKER).await;
    }
    client.assert_silent(Duration::from_millis(50)).await;
}

#[tokio::test]
async fn a_mute_venue_answers_pings_and_requests() {
    let (venue, mut client) = open().await;
    client.subscribe(TICKER).await;
    venue.inject(Fault::Mute(true));
    settle(&venue, &mut client).await;
    client.assert_silent(Duration::from_millis(100)).await;
    client.socket.send(Message::Ping("?".into())).await.unwrap();
    assert_eq!(client.next().await.unwrap(), Message::Pong("?".into()));
    client.ask("public/test", json!({})).await.unwrap();
    client.unused.clear();
    venue.inject(Fault::Mute(false));
    client.data(TICKER).await;
}

#[tokio::test]
async fn an_unanswered_test_request_may_be_forgiven() {
    let venue = DeribitSimulator::builder().heartbeat_scale(200);
    let venue = venue.start().await.unwrap();
    venue.inject(Fault::SkipTestRequestCheck(true));
    let mut client = Client::to(&venue).await;
    let interval = json!({ "interval": 10 });
    client.ask("public/set_heartbeat", interval).await.unwrap();
    for _ in 0..3 {
        client.heartbeat("test_request").await;
    }
}

#[tokio::test]
async fn upgrades_are_refused_as_often_as_asked() {
    let (venue, _client) = open().await;
    venue.inject(Fault::RefuseUpgrade {
        status: 503,
        headers: vec![("Retry-After".to_owned(), "3".to_owned())],
        body: "down".to_owned(),
        times: 2,
    });
    for _ in 0..2 {
        match Client::try_open(&venue.url()).await.err().unwrap() {
            Error::Http(answer) => {
                assert_eq!(answer.status(), 503);
                assert_eq!(answer.headers()["retry-after"], "3");
                assert_eq!(answer.body().as_deref(), Some(&b"down"[..]));
            }
            other => panic!("{other:?}"),
        }
    }
    Client::to(&venue).await;
}

#[tokio::test]
async fn a_handshake_is_reset_once() {
    let (venue, _client) = open().await;
    let (handshake, times) = (Handshake::Reset, 1);
    venue.inject(Fault::Handshake { handshake, times });
    assert!(Client::try_open(&venue.url()).await.is_err());
    Client::to(&venue).await;
}

#[tokio::test]
async fn a_client_that_does_not_read_is_cut() {
    let venue = DeribitSimulator::builder()
        .tick_interval(Duration::from_millis(5))
        .write_limit(Duration::from_millis(100));
    let venue = venue.start().await.unwrap();
    let mut client = Client::to(&venue).await;
    client.subscribe(TICKER).await;
    venue.inject(Fault::Burst { count: 100_000 });
    let ended = venue.wait_for(|entry| matches!(entry.event, LogEvent::Ended), SOON);
    ended.await.unwrap();
    client.end().await;
}

#[tokio::test]
async fn over_tls_a_connection_is_reset_and_falls_silent_as_without() {
    let venue = DeribitSimulator::builder().tls(true);
    let venue = venue.start().await.unwrap();
    let authority = venue.ca_certificate_der().unwrap();
    let wire = secured(venue.address(), "localhost", authority)
        .await
        .unwrap();
    let mut client = Client::over(&venue.url(), wire).await.unwrap();
    client.ask("public/test", json!({})).await.unwrap();
    venue.inject(Fault::HalfOpen);
    client.assert_silent(Duration::from_millis(100)).await;
    client.request("public/test", json!({})).await;
    client.assert_silent(Duration::from_millis(100)).await;

    let wire = secured(venue.address(), "localhost", authority)
        .await
        .unwrap();
    let mut client = Client::over(&venue.url(), wire).await.unwrap();
    client.ask("public/test", json!({})).await.unwrap();
    venue.inject(Fault::TcpReset);
    assert!(is_reset(&client.end().await));
}

#[tokio::test]
async fn an_outage_lasts_until_healed() {
    let (venue, mut client) = open().await;
    let (handshake, times) = (Handshake::HangUp, u32::MAX);
    venue.inject(Fault::Handshake { handshake, times });
    venue.inject(Fault::TcpReset);
    client.end().await;
    for _ in 0..5 {
        assert!(Client::try_open(&venue.url()).await.is_err());
    }
    venue.inject(Fault::Heal);
    Client::to(&venue).await;
}
