//! Deribit's words as a whole: what goes out, where what comes in goes, and what is never shown.

use std::time::UNIX_EPOCH;

use proptest::prelude::*;
use serde_json::value::RawValue;

use super::*;
use crate::frame::Frame;
use crate::platform::Message;

fn authorized() -> Deribit {
    Deribit::builder()
        .credentials("id7", "s3cret")
        .build()
        .unwrap()
}

fn raw(json: &str) -> Box<RawValue> {
    RawValue::from_string(json.to_owned()).unwrap()
}

fn names(channels: &[&str]) -> Vec<Arc<str>> {
    channels.iter().map(|name| Arc::from(*name)).collect()
}

fn written(call: &Call) -> String {
    format!(
        "{} {}",
        call.method(),
        call.params().map_or("", RawValue::get)
    )
}

fn steps(platform: &Deribit) -> Vec<String> {
    let step = |step: &Step| match step {
        Step::Call(call) => written(call),
        Step::Authenticate => "authenticate".to_owned(),
    };
    platform.opening().iter().map(step).collect()
}

fn refused(code: i64) -> ErrorObject {
    serde_json::from_str(&format!(
        r#"{{"code":{code},"message":"words","data":null}}"#
    ))
    .unwrap()
}

#[test]
fn a_public_session_greets_and_asks_for_time_status_and_heartbeats() {
    let platform = Deribit::default();
    assert_eq!(
        steps(&platform),
        [
            &format!(
                r#"public/hello {{"client_name":"mainstay","client_version":"{}"}}"#,
                env!("CARGO_PKG_VERSION")
            ),
            "public/get_time {}",
            "public/status {}",
            r#"public/set_heartbeat {"interval":30}"#,
        ]
    );
    assert!(platform.authenticate(&Moment::new(UNIX_EPOCH, 1)).is_none());
    assert_eq!(platform.name(), "deribit");
}

#[test]
fn the_opening_greets_sets_the_heartbeat_authenticates_and_guards_the_orders() {
    let platform = Deribit::builder()
        .cancel_on_disconnect(Scope::Connection)
        .credentials("id7", "s3cret")
        .client("maker", "2.1")
        .heartbeat(Duration::from_secs(10))
        .build()
        .unwrap();
    assert_eq!(
        steps(&platform),
        [
            r#"public/hello {"client_name":"maker","client_version":"2.1"}"#,
            "public/get_time {}",
            "public/status {}",
            r#"public/set_heartbeat {"interval":10}"#,
            "authenticate",
            r#"private/enable_cancel_on_disconnect {"scope":"connection"}"#,
        ]
    );
    let call = platform.authenticate(&Moment::new(UNIX_EPOCH, 1)).unwrap();
    assert_eq!(call.method(), "public/auth");
}

#[test]
fn frames_go_where_they_belong() {
    let platform = Deribit::new();
    for (frame, expected) in [
        (
            r#"{"jsonrpc":"2.0","id":7,"result":[],"usIn":1,"usOut":2,"usDiff":1,"testnet":true}"#,
            Route::Reply(7),
        ),
        (
            r#"{"jsonrpc":"2.0","id":8,"error":{"code":10028,"message":"x"}}"#,
            Route::Reply(8),
        ),
        (
            r#"{"jsonrpc":"2.0","method":"heartbeat","params":{"type":"test_request"}}"#,
            Route::Heartbeat,
        ),
        (
            r#"{"jsonrpc":"2.0","method":"subscription","params":{"channel":"quote.X","data":{}}}"#,
            Route::Notification("quote.X".into()),
        ),
        (
            r#"{"jsonrpc":"2.0","method":"other","params":{"channel":"quote.X"}}"#,
            Route::Unrouted,
        ),
        (
            r#"{"jsonrpc":"2.0","method":"subscription","params":{}}"#,
            Route::Unrouted,
        ),
        (
            r#"{"jsonrpc":"2.0","error":{"code":-32700,"message":"parse error"}}"#,
            Route::Unrouted,
        ),
        ("hello", Route::Unrouted),
        ("", Route::Unrouted),
    ] {
        assert_eq!(platform.route(frame.as_bytes()), expected, "{frame}");
    }
}

#[test]
fn only_a_test_request_asks_for_an_answer() {
    let platform = Deribit::new();
    let answer = |frame: &str| {
        platform
            .heartbeat(frame.as_bytes())
            .map(|call| written(&call))
    };
    let asks = r#"{"jsonrpc":"2.0","method":"heartbeat","params":{"type":"test_request"}}"#;
    assert_eq!(answer(asks).as_deref(), Some("public/test {}"));
    assert_eq!(
        answer(r#"{"params":{"type":"test\u005frequest"},"method":"heartbeat"}"#).as_deref(),
        Some("public/test {}")
    );
    for silent in [
        r#"{"jsonrpc":"2.0","method":"heartbeat","params":{"type":"heartbeat"}}"#,
        r#"{"jsonrpc":"2.0","method":"subscription","params":{"type":"test_request"}}"#,
        r#"{"method":"heartbeat","params":{"note":"\"type\":\"test_request\"","type":"x"}}"#,
        r#"{"method":"heartbeat"}"#,
        "test_request",
        "",
    ] {
        assert_eq!(answer(silent), None, "{silent}");
    }
}

#[test]
fn public_and_private_channels_are_asked_for_apart_and_in_order() {
    let wishes = names(&[
        "user.orders.any.any.raw",
        "ticker.B.raw",
        "user.portfolio.btc",
        "book.A.raw",
    ]);
    let batches = authorized().subscribe(&wishes);
    let calls: Vec<_> = batches.iter().map(|batch| written(&batch.call)).collect();
    assert_eq!(
        calls,
        [
            r#"public/subscribe {"channels":["ticker.B.raw","book.A.raw"]}"#,
            r#"private/subscribe {"channels":["user.orders.any.any.raw","user.portfolio.btc"]}"#,
        ]
    );
    assert_eq!(batches[0].channels, names(&["ticker.B.raw", "book.A.raw"]));
    let calls: Vec<_> = authorized()
        .unsubscribe(&wishes)
        .iter()
        .map(|batch| batch.call.method().to_owned())
        .collect();
    assert_eq!(calls, ["public/unsubscribe", "private/unsubscribe"]);
}

#[test]
fn without_credentials_raw_channels_cannot_take_others_down() {
    let wishes = names(&["ticker.A.raw", "ticker.A.100ms"]);
    let batches: Vec<_> = Deribit::new()
        .subscribe(&wishes)
        .into_iter()
        .map(|batch| batch.channels)
        .collect();
    assert_eq!(
        batches,
        [names(&["ticker.A.100ms"]), names(&["ticker.A.raw"])]
    );
}

#[test]
fn nothing_wished_is_nothing_asked() {
    assert!(authorized().subscribe(&[]).is_empty());
    assert!(authorized().unsubscribe(&[]).is_empty());
}

#[test]
fn only_listed_channels_are_confirmed_in_any_order() {
    let platform = Deribit::new();
    let wishes = names(&["ticker.A.100ms", "ticker.B.100ms", "ticker.C.100ms"]);
    let batch = platform.subscribe(&wishes).remove(0);
    let confirmed = |result: &str| platform.confirmed(&batch, &raw(result));
    assert_eq!(
        confirmed(r#"["ticker.C.100ms","ticker.A.100ms","ticker.X.100ms"]"#),
        names(&["ticker.A.100ms", "ticker.C.100ms"])
    );
    for nothing in [
        "[]",
        "null",
        "\"ok\"",
        "{}",
        "[1]",
        r#"{"ticker.A.100ms":1}"#,
    ] {
        assert!(confirmed(nothing).is_empty(), "{nothing}");
    }
}

#[test]
fn recovery_is_judged_by_number_and_by_what_we_have() {
    assert_eq!(
        authorized().recovery(&refused(13009)),
        Recovery::Reauthenticate
    );
    assert_eq!(Deribit::new().recovery(&refused(13009)), Recovery::Stop);
    assert_eq!(Deribit::new().recovery(&refused(10000)), Recovery::Stop);
    assert_eq!(authorized().recovery(&refused(13004)), Recovery::Stop);
    assert_eq!(
        Deribit::new().recovery(&refused(10028)),
        Recovery::RetryAfter(Duration::from_secs(5))
    );
}

#[test]
fn secrets_are_never_shown() {
    let builder = Deribit::builder()
        .credentials("id7", "s3cret")
        .authorization_scope("session:x");
    let platform = builder.clone().build().unwrap();
    let call = platform.authenticate(&Moment::new(UNIX_EPOCH, 1)).unwrap();
    let grant = platform
        .granted(&raw(
            r#"{"access_token":"t0ken","expires_in":9,"refresh_token":"t0ken"}"#,
        ))
        .unwrap();
    let error = platform
        .granted(&raw(r#"{"access_token":"t0ken"}"#))
        .unwrap_err();
    let shown = format!(
        "{builder:?} {platform:?} {platform:#?} {call:?} {grant:?} {:?} {error:?} {error} {:?}",
        grant.renewal,
        platform.opening()
    );
    for secret in ["s3cret", "t0ken", "id7"] {
        assert!(!shown.contains(secret), "{shown}");
    }
    assert!(shown.contains("[redacted]"));
}

#[test]
fn a_locked_platform_is_waited_for_or_not_as_chosen() {
    let waits = |builder: DeribitBuilder, status: &str| {
        let platform = builder.build().unwrap();
        platform.accepts("public/status", &raw(status)).is_err()
    };
    let locked = r#"{"locked":"true","locked_indices":["btc_usd"]}"#;
    let credentials = || Deribit::builder().credentials("i", "s");
    assert!(waits(credentials(), locked));
    assert!(!waits(
        credentials().when_locked(WhenLocked::Proceed),
        locked
    ));
    assert!(!waits(Deribit::builder(), locked));
    assert!(waits(
        Deribit::builder().when_locked(WhenLocked::Wait),
        locked
    ));
    for open in [
        r#"{"locked":"false"}"#,
        r#"{"locked":"partial"}"#,
        "{}",
        "7",
    ] {
        assert!(!waits(credentials(), open), "{open}");
    }
}

#[test]
fn what_is_to_be_switched_on_has_to_be_on() {
    let platform = Deribit::new();
    for step in [
        "public/set_heartbeat",
        "private/enable_cancel_on_disconnect",
    ] {
        assert!(platform.accepts(step, &raw("\"ok\"")).is_ok());
        let failure = platform.accepts(step, &raw("\"no\"")).unwrap_err();
        assert_eq!(failure.recovery, Recovery::Retry);
    }
    assert!(platform.accepts("public/hello", &raw("7")).is_ok());
}

fn decode_all(frame: &Frame) {
    let _ = Ticker::decode(frame);
    let _ = Quote::decode(frame);
    let _ = Book::decode(frame).map(|book| {
        let _ = OrderBook::new().apply(&book);
        book.sequence()
    });
    let _ = GroupedBook::decode(frame);
    let _ = Trades::decode(frame).map(|trades| trades.sequence());
    let _ = UserTrades::decode(frame);
    let _ = UserOrders::decode(frame);
    let _ = UserChanges::decode(frame);
    let _ = Portfolio::decode(frame);
    let _ = Deribit::new().route(frame.payload());
    let _ = Deribit::new().heartbeat(frame.payload());
}

/// What damaged messages are made from.
const MESSAGES: [&str; 4] = [
    r#"{"params":{"channel":"trades.X.raw","data":[{"trade_id":"1","trade_seq":18446744073709551615,"timestamp":1,"instrument_name":"X","price":1,"amount":1,"direction":"buy"}]}}"#,
    r#"{"params":{"channel":"book.X.raw","data":{"type":"change","timestamp":1,"prev_change_id":1,"instrument_name":"X","change_id":2,"bids":[["new",1.5,2]],"asks":[["delete",-0.0,0]]}}}"#,
    r#"{"params":{"channel":"user.orders.X.raw","data":{"order_id":"1","order_state":"open","instrument_name":"X","direction":"buy","price":"market_price"}}}"#,
    r#"{"jsonrpc":"2.0","method":"heartbeat","params":{"type":"test_request"}}"#,
];

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        decode_all(&Frame::Binary(bytes.into()));
    }

    #[test]
    fn damaged_messages_never_panic(
        which in 0..MESSAGES.len(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = MESSAGES[which].as_bytes().to_vec();
        for (place, byte) in damage {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        decode_all(&Frame::Binary(bytes.clone().into()));
        bytes.truncate(cut.index(bytes.len()));
        decode_all(&Frame::Binary(bytes.into()));
    }

    #[test]
    fn arbitrary_results_never_panic(text in "[\\[\\]{}\",:0-9a-z._-]{0,60}") {
        if let Ok(result) = RawValue::from_string(text) {
            let platform = authorized();
            let batch = platform.subscribe(&names(&["user.access_log"])).remove(0);
            let _ = platform.confirmed(&batch, &result);
            let _ = platform.granted(&result);
        }
    }

    #[test]
    fn each_wish_is_asked_for_once_in_order_and_in_bounded_batches(
        wishes in prop::collection::vec("(user|ticker|book)\\.[A-C]\\.(raw|100ms)", 0..350),
        with_credentials in any::<bool>(),
    ) {
        let wishes: Vec<Arc<str>> = wishes.into_iter().map(Arc::from).collect();
        let platform = if with_credentials { authorized() } else { Deribit::new() };
        let batches = platform.subscribe(&wishes);
        prop_assert!(batches.iter().all(|batch| (1..=100).contains(&batch.channels.len())));
        for private in [false, true] {
            let kind = |name: &&Arc<str>| name.starts_with("user.") == private;
            let asked: Vec<_> = batches
                .iter()
                .filter(|batch| batch.call.method().starts_with("private/") == private)
                .flat_map(|batch| &batch.channels)
                .collect();
            let mut wished: Vec<_> = wishes.iter().filter(kind).collect();
            if !private && !with_credentials {
                wished.sort_by_key(|name| name.ends_with(".raw"));
            }
            prop_assert_eq!(&asked, &wished);
        }
    }
}

#[test]
fn both_hosts_are_reached_over_tls() {
    for (url, host) in [
        (TEST_URL, "test.deribit.com"),
        (PRODUCTION_URL, "www.deribit.com"),
    ] {
        let endpoint = crate::config::Endpoint::parse(url).expect("a valid url");
        assert!(endpoint.is_tls());
        assert_eq!((endpoint.host(), endpoint.port()), (host, 443));
        assert!(url.ends_with("/ws/api/v2"));
    }
}
