//! How a program tests the adapter of its own venue: a venue that does not exist, in its own words, which
//! are not JSON-RPC, and the faults it may have. Nothing here but what the published crate offers with its
//! feature `testing`; copy it and change the words.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use mainstay::config::{Liveness, Tls};
use mainstay::error::{
    DecodeError, ErrorObject, Recovery, RequestError, StartError, SubscribeError,
};
use mainstay::platform::{Batch, Call, ChannelKind, Grant, Moment, Platform, Route, Step};
use mainstay::supervisors::Backoff;
use mainstay::testing::{Disconnect, Matcher, ReceivedKind, Script, ScriptedServer};
use mainstay::{Channel, Client, Config, Event, Frame, Message, Session, Subscription};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(10);

// The adapter.

/// A house of teas. It asks `{"op", "req", "with"}`, answers `{"req", "ok"}` or `{"req", "no"}`, pours
/// `{"on", "price"}`, and now and then asks `{"op": "awake?"}`.
#[derive(Debug)]
struct Teahouse {
    key: &'static str,
}

#[derive(Deserialize)]
struct Head<'f> {
    op: Option<Cow<'f, str>>,
    req: Option<u64>,
    #[serde(borrow)]
    on: Option<Cow<'f, str>>,
}

#[derive(Serialize)]
struct Request<'c> {
    op: &'c str,
    req: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    with: Option<&'c RawValue>,
}

#[derive(Deserialize)]
struct Answer {
    ok: Option<Box<RawValue>>,
    no: Option<Refusal>,
}

#[derive(Deserialize)]
struct Refusal {
    code: i64,
    text: String,
}

impl Platform for Teahouse {
    fn name(&self) -> &str {
        "teahouse"
    }

    fn route<'f>(&self, frame: &'f [u8]) -> Route<'f> {
        match serde_json::from_slice(frame) {
            Ok(Head { req: Some(id), .. }) => Route::Reply(id),
            Ok(Head { on: Some(tea), .. }) => Route::Notification(tea),
            Ok(Head { op: Some(op), .. }) if op == "awake?" => Route::Heartbeat,
            Ok(_) | Err(_) => Route::Unrouted,
        }
    }

    fn encode(&self, id: u64, call: &Call) -> String {
        let request = Request {
            op: call.method(),
            req: id,
            with: call.params(),
        };
        serde_json::to_string(&request).unwrap_or_default()
    }

    fn decode(&self, frame: &[u8]) -> Result<Result<Box<RawValue>, ErrorObject>, DecodeError> {
        match serde_json::from_slice(frame) {
            Ok(Answer { ok: Some(ok), .. }) => Ok(Ok(ok)),
            Ok(Answer { no: Some(no), .. }) => Ok(Err(ErrorObject::new(no.code, no.text))),
            Ok(_) => Err(DecodeError::new("answer", "neither ok nor no")),
            Err(error) => Err(DecodeError::json("answer", &error)),
        }
    }

    fn opening(&self) -> Vec<Step> {
        vec![Step::Authenticate]
    }

    fn authenticate(&self, _moment: &Moment) -> Option<Call> {
        Call::new("enter", &json!({ "key": self.key })).ok()
    }

    fn granted(&self, _result: &RawValue) -> Result<Grant, DecodeError> {
        Ok(Grant::default())
    }

    fn subscribe(&self, channels: &[Arc<str>]) -> Vec<Batch> {
        one_call("pour", channels)
    }

    fn unsubscribe(&self, channels: &[Arc<str>]) -> Vec<Batch> {
        one_call("enough", channels)
    }

    fn confirmed(&self, batch: &Batch, result: &RawValue) -> Vec<Arc<str>> {
        let poured: Vec<Cow<'_, str>> = serde_json::from_str(result.get()).unwrap_or_default();
        let is_poured = |tea: &&Arc<str>| poured.iter().any(|one| **one == ***tea);
        batch.channels.iter().filter(is_poured).cloned().collect()
    }

    fn channel(&self, _name: &str) -> ChannelKind {
        ChannelKind::state()
    }

    fn heartbeat(&self, _frame: &[u8]) -> Option<Call> {
        Some(Call::bare("awake"))
    }

    fn recovery(&self, error: &ErrorObject) -> Recovery {
        match error.code {
            NOT_INSIDE => Recovery::Reauthenticate,
            CLEANING => Recovery::RetryAfter(Duration::from_millis(20)),
            _ => Recovery::Stop,
        }
    }
}

const WRONG_KEY: i64 = 1;
const NOT_INSIDE: i64 = 2;
const CLEANING: i64 = 3;

fn one_call(op: &'static str, channels: &[Arc<str>]) -> Vec<Batch> {
    let teas: Vec<&str> = channels.iter().map(|tea| &**tea).collect();
    let call = Call::new(op, &teas).ok();
    call.map(|call| Batch::new(call, channels.to_vec()))
        .into_iter()
        .collect()
}

/// What a cup costs.
#[derive(Debug, PartialEq, Deserialize)]
struct Cup {
    price: f64,
}

impl Message for Cup {
    fn decode(frame: &Frame) -> Result<Self, DecodeError> {
        let json = frame.payload();
        serde_json::from_slice(json)
            .map_err(|error| DecodeError::json_as::<Self>("cup", json, &error))
    }
}

// The venue, as a function of what it is told.

fn ok(request: &str, result: Value) -> Option<String> {
    let request: Value = serde_json::from_str(request).ok()?;
    Some(json!({ "req": request["req"], "ok": result }).to_string())
}

fn no(request: &str, code: i64, text: &str) -> Option<String> {
    let request: Value = serde_json::from_str(request).ok()?;
    let refusal = json!({ "code": code, "text": text });
    Some(json!({ "req": request["req"], "no": refusal }).to_string())
}

/// Lets in who has the key, pours every tea but coffee, and repeats what else it is told.
fn house(text: &str) -> Option<String> {
    let request: Value = serde_json::from_str(text).ok()?;
    match request["op"].as_str()? {
        "enter" if request["with"]["key"] == "jasmine" => ok(text, json!("welcome")),
        "enter" => no(text, WRONG_KEY, "who are you?"),
        "pour" | "enough" => {
            let mut teas = request["with"].as_array()?.clone();
            teas.retain(|tea| tea != "coffee");
            ok(text, teas.into())
        }
        "steal" => no(text, 99, "certainly not"),
        _ => ok(text, request["with"].clone()),
    }
}

fn poured(tea: &str, price: f64) -> Frame {
    Frame::text(json!({ "on": tea, "price": price }).to_string())
}

// What the tests have in common.

async fn teahouse() -> ScriptedServer {
    let server = ScriptedServer::builder().respond(house).start().await;
    server.expect("a server")
}

async fn scripted(scripts: impl IntoIterator<Item = Script>) -> ScriptedServer {
    let server = ScriptedServer::builder().scripts(scripts).start().await;
    server.expect("a server")
}

async fn visit(server: &ScriptedServer) -> Session {
    let config = Config::builder(server.url()).backoff(quick()).build();
    let config = config.expect("a valid configuration");
    let session = Session::start(Teahouse { key: "jasmine" }, config).await;
    session.expect("a session")
}

fn quick() -> Backoff {
    Backoff::new(Duration::from_millis(5), Duration::from_millis(50))
}

async fn drink(session: &Session, tea: &str) -> Subscription<Cup> {
    let subscription = session.subscribe(Channel::new(tea)).await;
    subscription.expect("a subscription")
}

async fn next(cups: &mut Subscription<Cup>) -> Event<Cup> {
    let event = tokio::time::timeout(SOON, cups.next()).await;
    event.expect("in time").expect("not over")
}

async fn price(cups: &mut Subscription<Cup>) -> f64 {
    match next(cups).await {
        Event::Data(cup) => cup.price,
        other => panic!("{other:?}"),
    }
}

/// The label of the gap's cause, once the stream goes on.
async fn interruption(cups: &mut Subscription<Cup>) -> &'static str {
    let cause = match next(cups).await {
        Event::Gap(gap) => gap.cause,
        other => panic!("{other:?}"),
    };
    match next(cups).await {
        Event::Resynced(resynced) => assert!(resynced.complete, "every cup is the whole state"),
        other => panic!("{other:?}"),
    }
    cause.label()
}

// The adapter's own promises.

#[tokio::test]
async fn the_key_is_shown_before_anything_else() {
    let server = teahouse().await;
    let _session = visit(&server).await;
    let mut visitor = server.next_connection().await.expect("a connection");
    let first = visitor.recv_text().await.expect("a message");
    let entry = Matcher::from(json!({ "op": "enter", "with": { "key": "jasmine" } }));
    assert!(entry.matches(&first), "{first}");
}

#[tokio::test]
async fn who_has_the_wrong_key_is_told_what_the_house_said() {
    let server = teahouse().await;
    let config = Config::builder(server.url()).build().expect("valid");
    let refused = Session::start(Teahouse { key: "mint" }, config).await;
    match refused.expect_err("no entry") {
        StartError::Refused {
            detail, recovery, ..
        } => {
            assert!(detail.contains("who are you?"), "{detail}");
            assert_eq!(recovery, Recovery::Stop);
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(server.accepted(), 1, "another attempt cannot help");
}

#[tokio::test]
async fn a_subscription_is_confirmed_reads_its_messages_and_is_ended() {
    let server = teahouse().await;
    let session = visit(&server).await;
    let mut oolong = drink(&session, "oolong").await;
    server.inject(poured("sencha", 4.0)).await;
    server.inject(poured("oolong", 5.5)).await;
    assert_eq!(price(&mut oolong).await, 5.5, "and not the other's");
    let state = session.state_metrics();
    assert_eq!((state.channels, state.confirmed_channels), (1, 1));
    drop(oolong);
    let last = server.expect_message(json!({ "op": "enough", "with": ["oolong"] }), SOON);
    last.await.expect("an unsubscription");
}

#[tokio::test]
async fn a_message_that_cannot_be_read_is_a_gap_and_the_stream_goes_on() {
    let server = teahouse().await;
    let session = visit(&server).await;
    let mut oolong = drink(&session, "oolong").await;
    let spoilt = json!({ "on": "oolong", "price": "a smile" });
    server.inject(Frame::text(spoilt.to_string())).await;
    server.inject(poured("oolong", 5.5)).await;
    match next(&mut oolong).await {
        Event::Gap(gap) => {
            assert_eq!((gap.cause.label(), gap.missed), ("undecodable", Some(1)));
            assert!(!gap.cause.to_string().contains("smile"), "no payload");
        }
        other => panic!("{other:?}"),
    }
    assert!(matches!(next(&mut oolong).await, Event::Resynced(_)));
    assert_eq!(price(&mut oolong).await, 5.5);
    assert_eq!(server.accepted(), 1, "nothing is wrong with the connection");
}

#[tokio::test]
async fn a_channel_that_the_house_leaves_out_is_rejected() {
    let server = teahouse().await;
    let session = visit(&server).await;
    let rejected = session.subscribe(Channel::<Cup>::new("coffee")).await;
    assert!(matches!(rejected, Err(SubscribeError::Rejected { .. })));
}

#[tokio::test]
async fn a_heartbeat_is_answered() {
    let server = teahouse().await;
    let session = visit(&server).await;
    server.inject(Frame::text(r#"{"op":"awake?"}"#)).await;
    let answer = server.expect_message(json!({ "op": "awake" }), SOON).await;
    answer.expect("an answer");
    let health = session.heartbeat_health();
    assert_eq!((health.venue_heartbeats, health.active), (1, true));
    assert_eq!(health.last_beat(), health.last_venue_heartbeat);
}

#[tokio::test]
async fn a_request_is_answered_or_refused_in_the_houses_own_words() {
    let server = teahouse().await;
    let session = visit(&server).await;
    let bill: Value = session
        .request("bill", &json!({ "cups": 3 }))
        .await
        .expect("a bill");
    assert_eq!(bill, json!({ "cups": 3 }));
    let refused = session.request::<Value>("steal", &json!("a cup")).await;
    match refused.expect_err("no theft") {
        RequestError::Answered { error, .. } => {
            assert_eq!((error.code, &*error.message), (99, "certainly not"));
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn who_is_taken_for_a_stranger_shows_the_key_again() {
    let enter = |script: Script| {
        script
            .expect(json!({ "op": "enter" }))
            .answer(|text| ok(text, json!("welcome")))
    };
    let forgetful = enter(Script::new())
        .expect(json!({ "op": "bill" }))
        .answer(|text| no(text, NOT_INSIDE, "do I know you?"));
    let server = scripted([enter(forgetful)]).await;
    let session = visit(&server).await;
    let refused = session.request::<Value>("bill", &json!(null)).await;
    assert!(matches!(refused, Err(RequestError::Answered { .. })));
    let mut entries = 0;
    let again = server.wait_for("a second entry", SOON, |one| {
        let entry = matches!(&one.kind, ReceivedKind::Text(text) if text.contains("enter"));
        entries += usize::from(entry);
        entries == 2
    });
    again.await.expect("a second entry");
    assert!(server.failures().is_empty(), "{:?}", server.failures());
}

// What can happen to it.

#[tokio::test]
async fn however_the_house_ends_a_connection_the_cup_is_filled_again() {
    let server = teahouse().await;
    let session = visit(&server).await;
    let mut oolong = drink(&session, "oolong").await;
    let ends = [
        (Disconnect::Normal, "peer_closed"),
        (Disconnect::GoingAway, "peer_closed"),
        (Disconnect::code(4100, "we close"), "peer_closed"),
        (Disconnect::HangUp, "eof"),
        (Disconnect::Abrupt, "reset"),
    ];
    for (round, (end, label)) in (1..).zip(ends) {
        assert_eq!(server.disconnect(end.clone()).await, 1, "{end:?}");
        assert_eq!(interruption(&mut oolong).await, label, "{end:?}");
        server.inject(poured("oolong", f64::from(round))).await;
        assert_eq!(price(&mut oolong).await, f64::from(round));
    }
    assert_eq!(server.accepted(), 6);
}

#[tokio::test]
async fn a_house_that_has_gone_silent_is_left() {
    let server = teahouse().await;
    let config = Config::builder(server.url())
        .backoff(quick())
        .liveness(Liveness::new(
            Duration::from_millis(50),
            Duration::from_millis(50),
        ));
    let config = config.build().expect("valid");
    let session = Session::start(Teahouse { key: "jasmine" }, config).await;
    let session = session.expect("a session");
    let mut oolong = drink(&session, "oolong").await;
    let first = server.next_connection().await.expect("a connection");
    first.go_silent().await.expect("an open connection");
    assert_eq!(interruption(&mut oolong).await, "silent");
}

#[tokio::test]
async fn each_connection_has_a_script_of_its_own() {
    let first = Script::new()
        .expect(json!({ "op": "enter" }))
        .answer(|text| ok(text, json!("welcome")))
        .expect(json!({ "op": "pour", "with": ["oolong"] }))
        .answer(|text| ok(text, json!(["oolong"])))
        .send_json(json!({ "on": "oolong", "price": 5 }))
        .reset();
    let second = Script::refuse(503, &[("retry-after", "0")], "full");
    let third = Script::new()
        .expect(json!({ "op": "enter" }))
        .answer(|text| no(text, CLEANING, "wait outside"));
    let fourth = Script::new()
        .expect(json!({ "op": "enter" }))
        .answer(|text| ok(text, json!("welcome")))
        .expect(json!({ "op": "pour", "with": ["oolong"] }))
        .answer(|text| ok(text, json!(["oolong"])))
        .send_json(json!({ "on": "oolong", "price": 6 }));
    let server = scripted([first, second, third, fourth]).await;
    let session = visit(&server).await;
    let mut oolong = drink(&session, "oolong").await;
    assert_eq!(price(&mut oolong).await, 5.0);
    assert_eq!(interruption(&mut oolong).await, "reset");
    assert_eq!(price(&mut oolong).await, 6.0);
    assert_eq!(server.accepted(), 4);
    assert!(server.failures().is_empty(), "{:?}", server.failures());
}

// What the kit lets one ask.

#[tokio::test]
async fn a_message_is_awaited_exactly_in_part_by_pattern_or_by_predicate() {
    let server = teahouse().await;
    let session = visit(&server).await;
    let order = json!({ "tea": "oolong", "cups": 2 });
    // Nobody polls: whoever awaits a message wakes when it is there.
    let (awaited, sent) = tokio::join!(
        server.expect_message("a cup, please", SOON),
        session.send_text("a cup, please"),
    );
    awaited.expect("exactly this text");
    sent.expect("an open connection");
    session
        .request::<Value>("order", &order)
        .await
        .expect("an answer");
    let matchers = [
        Matcher::from(json!({ "op": "order", "with": { "cups": 2 } })),
        Matcher::regex(r#""cups":\d+,"tea":"o+long""#).expect("a pattern"),
        Matcher::predicate(|text| text.contains("oolong")),
    ];
    for matcher in matchers {
        let found = server.expect_message(matcher.clone(), SOON).await;
        found.unwrap_or_else(|error| panic!("{matcher:?}: {error}"));
    }
    let short = Duration::from_millis(20);
    let missed = server.expect_message(json!({ "op": "pay" }), short).await;
    let missed = missed.expect_err("nobody paid");
    assert!(
        missed.instead.iter().any(|one| one.contains("oolong")),
        "{missed}"
    );
}

#[tokio::test]
async fn an_adapter_is_tested_over_tls_too() {
    let server = ScriptedServer::builder()
        .respond(house)
        .tls(true)
        .start()
        .await;
    let server = server.expect("a server");
    let authority = server.ca_certificate_pem().expect("an authority");
    let trusting = Config::builder(server.url())
        .tls(Tls::only(authority))
        .build();
    let session = Session::start(Teahouse { key: "jasmine" }, trusting.expect("valid")).await;
    assert!(session.expect("a session").state().is_live());

    let wary = Config::builder(server.url()).build().expect("valid");
    let refused = Session::start(Teahouse { key: "jasmine" }, wary).await;
    assert!(matches!(refused, Err(StartError::Connect(_))));
}

#[tokio::test]
async fn a_mock_needs_no_venue_at_all() {
    let server = ScriptedServer::mock().await.expect("a server");
    let session = Client::connect(server.url()).await.expect("a session");
    let mut messages = session.messages();
    session.send_text("ping").await.expect("an open connection");
    let answer = tokio::time::timeout(SOON, messages.next()).await;
    match answer.expect("in time") {
        Some(Event::Data(frame)) => assert_eq!(frame.payload(), b"pong"),
        other => panic!("{other:?}"),
    }
}
