//! What a person reads when a request, a message or a session has ended: the limit that was given, where the time went,
//! where it failed, and what it is about.
//!
//! Time is paused: how long something waited is what the limits say, to the millisecond.
#![allow(
    clippy::expect_used,
    reason = "what is allowed in tests is not yet in their helpers"
)]

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mainstay::config::{ConfigBuilder, Offline, RateLimits, ReconnectOwner, Settings};
use mainstay::error::{Category, RequestError};
use mainstay::hooks::{Admission, Hooks, RateLimitHook};
use mainstay::platform::JsonRpc;
use mainstay::pool::{Pool, PoolSpec};
use mainstay::protocol::rpc::{Class, Params};
use mainstay::supervisors::Backoff;
use mainstay::testing::{Disconnect, Script, ScriptedServer, ServerConnection};
use mainstay::{Call, Client, Config, Event, Session, SessionSpec, Status, TypedCall};
use serde_json::{Value, json};

const LONG: Duration = Duration::from_secs(600);

fn millis(number: u64) -> Duration {
    Duration::from_millis(number)
}

async fn server() -> ScriptedServer {
    let server = ScriptedServer::builder()
        .scripts([Script::new(), Script::new()])
        .patience(LONG);
    server.start().await.expect("a server")
}

fn config(server: &ScriptedServer) -> ConfigBuilder {
    Config::builder(server.url())
        .reconnect_owner(ReconnectOwner::Client)
        .backoff(Backoff::new(millis(5), millis(50)))
        .request_timeout(LONG)
}

async fn connect(
    server: &ScriptedServer,
    change: impl FnOnce(ConfigBuilder) -> ConfigBuilder,
) -> (Session, ServerConnection) {
    let config = change(config(server)).build().expect("valid");
    let session = Client::connect_with(config).await.expect("a session");
    let peer = server.next_connection().await.expect("a connection");
    (session, peer)
}

/// One at once, and another every 90 ms.
fn slow() -> RateLimits {
    RateLimits::bucket(1, 1, millis(90))
}

/// A typed call that nobody answers, to be answered within `limit`.
fn read(limit: Duration) -> TypedCall<Value> {
    TypedCall::new("read", Params::new(), Class::Idempotent).within(limit)
}

#[tokio::test(start_paused = true)]
async fn a_request_that_waited_for_its_turn_says_how_much_of_its_time_that_took() {
    let server = server().await;
    let (session, mut peer) = connect(&server, |config| config.rate_limits(slow())).await;
    assert!(session.limiter().expect("one").try_acquire(1));

    let error = session.call(Call::bare("late"), millis(100)).await;
    let error = error.expect_err("no answer");
    assert!(matches!(error, RequestError::Unknown { .. }), "{error:?}");
    assert!(peer.recv_text().await.is_ok(), "it was written");
    assert_eq!(
        error.explain().message,
        "fate of request \"late\" is unknown: no answer within 100ms, of which 90ms went to waiting for its turn under \
         the rate limit"
    );
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_waited_for_its_turn_says_so_of_each_of_its_calls() {
    let server = server().await;
    let limits = RateLimits::bucket(2, 2, millis(90));
    let (session, _peer) = connect(&server, |config| config.rate_limits(limits)).await;
    assert!(session.limiter().expect("one").try_acquire(2));

    let calls = [Call::bare("one"), Call::bare("two")];
    for outcome in session.batch(calls, millis(100)).await {
        let message = outcome.expect_err("no answer").explain().message;
        assert!(
            message.contains("no answer within 100ms, of which 90ms"),
            "{message}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_without_a_turn_is_not_sent_and_the_server_never_sees_it() {
    let server = server().await;
    let (session, mut peer) = connect(&server, |config| config.rate_limits(slow())).await;
    assert!(session.limiter().expect("one").try_acquire(1));

    let error = session.invoke(read(millis(80))).await.expect_err("no turn");
    assert!(matches!(error, RequestError::NotSent { .. }), "{error:?}");
    assert_eq!(error.explain().category, Category::RateLimit);
    let message = error.explain().message;
    assert!(message.ends_with("did not come within 80ms"), "{message}");
    tokio::time::sleep(LONG).await;
    let next = tokio::spawn(async move { session.call(Call::bare("next"), LONG).await });
    let seen = peer.recv_text().await.expect("a request");
    assert!(seen.contains("next"), "{seen}");
    next.abort();
}

/// Time runs, for it is what passes between two looks at the clock that must not be told.
#[tokio::test]
async fn a_deadline_is_told_as_the_user_gave_it() {
    let server = server().await;
    let (session, _peer) = connect(&server, |config| config).await;
    let error = session.invoke(read(millis(100))).await.expect_err("late");
    let message = error.explain().message;
    assert!(message.ends_with(": no answer within 100ms"), "{message}");

    let pool = Pool::start(PoolSpec::new().max_attempts(1)).await;
    let pool = pool.expect("a pool");
    let config = config(&server).build().expect("valid");
    pool.connect("a", config).await.expect("a session");
    let error = pool.invoke(read(millis(100))).await.expect_err("late");
    let message = error.explain().message;
    assert!(message.ends_with(": no answer within 100ms"), "{message}");
}

/// What an error of a request that was not sent is about, and its code.
fn about<T: std::fmt::Debug>(outcome: Result<T, RequestError>) -> (Category, &'static str) {
    let error = outcome.expect_err("not sent");
    assert!(matches!(error, RequestError::NotSent { .. }), "{error:?}");
    let explanation = error.explain();
    (explanation.category, explanation.code)
}

#[tokio::test(start_paused = true)]
async fn what_the_rate_limit_kept_is_about_the_rate_limit() {
    let server = server().await;
    let limits = RateLimits::bucket(1, 1, LONG).queue(1);
    let (session, _peer) = connect(&server, |config| config.rate_limits(limits)).await;

    let calls = [Call::bare("a"), Call::bare("b")];
    for dear in session.batch(calls, LONG).await {
        assert_eq!(about(dear), (Category::Configuration, "limit-too-dear"));
    }
    assert!(session.limiter().expect("one").try_acquire(1));
    let late = session.call(Call::bare("late"), millis(10)).await;
    assert_eq!(about(late), (Category::RateLimit, "limit-expired"));
    let waiting = session.clone();
    let waiting = tokio::spawn(async move { waiting.call(Call::bare("waits"), LONG).await });
    tokio::task::yield_now().await;
    let full = session.call(Call::bare("more"), LONG).await;
    assert_eq!(about(full), (Category::RateLimit, "limit-queue-full"));
    waiting.abort();
}

struct No;

impl RateLimitHook for No {
    fn admit(&self, _: &Call) -> Admission {
        Admission::Refuse("not today".to_owned())
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_hook_refused_is_about_the_hook() {
    let server = server().await;
    let settings = json!({ "url": server.url() });
    let settings: Settings = serde_json::from_value(settings).expect("settings");
    let spec = SessionSpec::new(|| JsonRpc).hooks(Hooks::new().rate_limit(No));
    let session = spec.start(settings).await;
    let session = session.expect("a session");
    let refused = session.call(Call::bare("work"), LONG).await;
    assert_eq!(
        about(refused),
        (Category::RateLimit, "request-refused-here")
    );
}

#[tokio::test(start_paused = true)]
async fn what_a_session_kept_that_is_not_live_is_about_the_network_or_about_its_bounds() {
    let server = server().await;
    let offline = Offline::new(1);
    let (session, _peer) = connect(&server, |config| config.offline(offline)).await;
    server.refuse_for(LONG).await;
    server.disconnect(Disconnect::Abrupt).await;
    session.wait_for(Status::Down, LONG).await.expect("down");

    let away = session.call(Call::bare("work"), millis(10)).await;
    assert_eq!(about(away), (Category::Network, "request-not-sent"));
    let waiting = session.clone();
    let waiting = tokio::spawn(async move { waiting.call(Call::bare("waits"), LONG).await });
    tokio::task::yield_now().await;
    let full = session.call(Call::bare("more"), LONG).await;
    assert_eq!(about(full), (Category::RateLimit, "request-crowded"));

    session.shutdown().await.expect("an own tree");
    let waited = waiting.await.expect("a task");
    assert_eq!(about(waited), (Category::Lifecycle, "request-session-over"));
    let over = session.call(Call::bare("work"), LONG).await;
    assert_eq!(about(over), (Category::Lifecycle, "request-session-over"));
}

/// What is logged as a warning, or worse.
#[derive(Clone, Default)]
struct Alarms(Arc<Mutex<Vec<u8>>>);

impl Alarms {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().expect("nobody panics").clone()).expect("text")
    }
}

impl io::Write for Alarms {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("nobody panics").write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn an_end_that_the_user_asks_for_is_no_gap_and_no_alarm() {
    let alarms = Alarms::default();
    let writer = alarms.clone();
    let log = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::WARN)
        .with_writer(move || writer.clone())
        .finish();
    let _log = tracing::subscriber::set_default(log);
    let server = ScriptedServer::builder()
        .script(
            Script::new()
                .await_message("off")
                .send("news")
                .send("more news"),
        )
        .patience(LONG);
    let server = server.start().await.expect("a server");
    let (session, _peer) = connect(&server, |config| config).await;
    let mut messages = session.messages();
    session.send_text("off").await.expect("written");
    while messages.depth() < 2 {
        session.ping("", LONG).await.expect("a pong");
    }

    session.shutdown().await.expect("an own tree");
    let mut seen = Vec::new();
    while let Some(event) = messages.next().await {
        seen.push(match event {
            Event::Data(data) => data.message.as_text().unwrap_or_default().to_owned(),
            Event::Ended(reason) => reason.to_string(),
            other => format!("{other:?}"),
        });
    }
    let expected = ["news", "more news", "session was shut down on purpose"];
    assert_eq!(seen, expected, "what was queued, and nothing else");
    let counted = session.statistics();
    assert!(counted.gaps.values().all(|gaps| *gaps == 0), "{counted:?}");
    assert_eq!(alarms.text(), "");
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_is_lost_at_the_end_is_a_gap_all_the_same() {
    let script = Script::new().send("news").await_message("off").reset();
    let server = ScriptedServer::builder().script(script).patience(LONG);
    let server = server.start().await.expect("a server");
    let (session, _peer) = connect(&server, |config| config).await;
    let mut messages = session.messages();
    session.send_text("off").await.expect("written");
    session.wait_for(Status::Down, LONG).await.expect("lost");
    session.shutdown().await.expect("an own tree");
    let mut seen = Vec::new();
    while let Some(event) = messages.next().await {
        seen.push(match event {
            Event::Data(_) => "data",
            Event::Gap(_) => "gap",
            Event::Resynced(_) => "resynced",
            _ => "ended",
        });
    }
    assert_eq!(seen, ["gap", "ended"]);
}

#[derive(Debug, serde::Deserialize)]
#[allow(dead_code, reason = "only read from json")]
struct Order {
    legs: Vec<Leg>,
}

#[derive(Debug, serde::Deserialize)]
#[allow(dead_code, reason = "only read from json")]
struct Leg {
    price: f64,
}

#[tokio::test(start_paused = true)]
async fn a_result_of_another_form_is_told_by_its_member_and_never_by_its_value() {
    let answer = |text: &str| {
        let request: Value = serde_json::from_str(text).ok()?;
        let legs = match request["method"].as_str()? {
            "type" => json!([{ "price": 1.5 }, { "price": "s3cret" }]),
            _ => json!([{ "s3cret": 1.5 }]),
        };
        let result = json!({ "legs": legs });
        Some(json!({ "jsonrpc": "2.0", "id": request["id"], "result": result }).to_string())
    };
    let server = ScriptedServer::builder().respond(answer).patience(LONG);
    let server = server.start().await.expect("a server");
    let (session, _peer) = connect(&server, |config| config).await;
    for (method, expected) in [
        (
            "type",
            "legs[1].price: invalid type: string, expected f64, at line 1, column 40",
        ),
        (
            "name",
            "legs[0]: missing field `price`, at line 1, column 23",
        ),
    ] {
        let message = session.request::<Order>(method, &json!({})).await;
        let message = message.expect_err("another form").explain().message;
        assert!(message.ends_with(expected), "{message}");
        let call = TypedCall::<Order>::new(method, Params::new(), Class::Idempotent);
        let typed = session.invoke(call).await.expect_err("another form");
        assert_eq!(typed.explain().message, message);
    }
}
