//! Several requests in one frame, against a server that answers as the test says.

use mainstay::config::{Costs, Pool, RateLimits, Rule, Weight};
use mainstay::platform::{Call, Platform};
use serde_json::Value;
use tokio::time::Instant;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

type Outcomes = Vec<Result<Box<serde_json::value::RawValue>, RequestError>>;

fn calls(methods: &[&'static str]) -> Vec<Call> {
    methods.iter().map(|method| Call::bare(*method)).collect()
}

/// A batch that is on its way.
fn ask(
    session: &Session,
    methods: &[&'static str],
    limit: Duration,
) -> tokio::task::JoinHandle<Outcomes> {
    let (session, calls) = (session.clone(), calls(methods));
    tokio::spawn(async move { session.batch(calls, limit).await })
}

async fn json_frame(peer: &mut ServerConnection) -> Value {
    let text = peer.recv_text().await.expect("a frame");
    serde_json::from_str(&text).expect("json")
}

fn result(request: &Value, result: &str) -> Value {
    json!({ "jsonrpc": "2.0", "id": request["id"], "result": result })
}

fn refusal(request: &Value) -> Value {
    let error = json!({ "code": -32601, "message": "no such method" });
    json!({ "jsonrpc": "2.0", "id": request["id"], "error": error })
}

/// What became of each, in a word.
fn words(outcomes: &Outcomes) -> Vec<String> {
    let word = |outcome: &Result<Box<serde_json::value::RawValue>, RequestError>| match outcome {
        Ok(result) => result.get().trim_matches('"').to_owned(),
        Err(RequestError::Answered { method, .. }) => format!("{method} refused"),
        Err(RequestError::NotSent { method, .. }) => format!("{method} not sent"),
        Err(RequestError::Unknown {
            method,
            cause: UnknownCause::Deadline { .. },
        }) => format!("{method} unanswered"),
        Err(RequestError::Unknown { method, .. }) => format!("{method} lost"),
        Err(other) => panic!("{other:?}"),
    };
    outcomes.iter().map(word).collect()
}

#[tokio::test]
async fn one_frame_asks_all_and_one_array_answers_in_any_order() {
    let server = server().await;
    let (session, mut peer) = session(&server).await;
    let asked = ask(&session, &["a", "b", "c"], LONG);
    let frame = json_frame(&mut peer).await;
    let [a, b, c] = &frame.as_array().expect("an array")[..] else {
        panic!("{frame}");
    };
    assert_eq!(
        (&a["method"], &b["method"], &c["method"]),
        (&json!("a"), &json!("b"), &json!("c"))
    );
    let answers = json!([result(c, "third"), refusal(b), result(a, "first")]);
    peer.send_json(answers).await.expect("an open connection");
    let outcomes = asked.await.expect("no panic");
    assert_eq!(words(&outcomes), ["first", "b refused", "third"]);
    assert_eq!(session.statistics().unwanted, 0);
    assert_eq!(session.metrics().requests_resolved, 3);
}

#[tokio::test]
async fn single_answers_do_as_well_and_others_may_come_between() {
    let server = server().await;
    let (session, mut peer) = session(&server).await;
    let asked = ask(&session, &["a", "b"], LONG);
    let frame = json_frame(&mut peer).await;
    peer.send_json(result(&frame[1], "second"))
        .await
        .expect("open");
    peer.send_text("hello").await.expect("open");
    peer.send_json(json!([result(&frame[0], "first")]))
        .await
        .expect("open");
    let outcomes = asked.await.expect("no panic");
    assert_eq!(words(&outcomes), ["first", "second"]);
}

#[tokio::test]
async fn an_answer_that_is_missing_costs_the_others_nothing() {
    let server = server().await;
    let (session, mut peer) = session(&server).await;
    let asked = ask(&session, &["a", "b", "c"], Duration::from_millis(500));
    let frame = json_frame(&mut peer).await;
    // Twice the same answer, and one that nobody asked for.
    let stranger = json!({ "id": 1, "result": "?" });
    let answers = json!([
        result(&frame[0], "first"),
        result(&frame[0], "again"),
        stranger
    ]);
    peer.send_json(answers).await.expect("an open connection");
    peer.send_json(result(&frame[2], "third"))
        .await
        .expect("open");
    let outcomes = asked.await.expect("no panic");
    assert_eq!(words(&outcomes), ["first", "b unanswered", "third"]);
    assert_eq!(session.statistics().unwanted, 2);
}

#[tokio::test]
async fn what_is_unanswered_when_the_connection_ends_is_of_unknown_fate_and_not_repeated() {
    let server = server().await;
    let (session, mut peer) = session(&server).await;
    let asked = ask(&session, &["a", "b"], LONG);
    let frame = json_frame(&mut peer).await;
    peer.send_json(json!([result(&frame[1], "second")]))
        .await
        .expect("open");
    peer.reset().await.expect("an open connection");
    let outcomes = asked.await.expect("no panic");
    assert_eq!(words(&outcomes), ["a lost", "second"]);
    session
        .wait_for(Status::Live, LONG)
        .await
        .expect("live again");
    session.ping("", LONG).await.expect("a pong");
    let texts = server.received().into_iter();
    let texts = texts.filter(|one| matches!(one.kind, ReceivedKind::Text(_)));
    assert_eq!(texts.count(), 1);
}

#[tokio::test]
async fn an_error_without_an_id_is_nobodys_answer() {
    let server = server().await;
    let (session, mut peer) = session(&server).await;
    let mut messages = session.messages();
    let asked = ask(&session, &["a", "b"], Duration::from_millis(500));
    json_frame(&mut peer).await;
    let error = json!({ "code": -32600, "message": "Invalid Request" });
    let error = json!({ "jsonrpc": "2.0", "id": null, "error": error });
    peer.send_json(error.clone())
        .await
        .expect("an open connection");
    let outcomes = asked.await.expect("no panic");
    assert_eq!(words(&outcomes), ["a unanswered", "b unanswered"]);
    assert_eq!(data(&mut messages).await, Frame::text(error.to_string()));
}

#[tokio::test]
async fn an_array_that_answers_nothing_reaches_the_user_whole() {
    let server = server().await;
    let (session, peer) = session(&server).await;
    let mut messages = session.messages();
    for text in [
        r#"[0,"te",[1,2]]"#,
        r#"[{"e":"tick"}]"#,
        r#"[{"id":1,"result":2},"#,
    ] {
        peer.send_text(text).await.expect("an open connection");
        assert_eq!(data(&mut messages).await, Frame::text(text));
    }
}

#[tokio::test]
async fn no_calls_are_no_frame_and_one_call_is_a_plain_request() {
    let server = server().await;
    let (session, mut peer) = session(&server).await;
    assert!(session.batch([], LONG).await.is_empty());
    let asked = ask(&session, &["a"], LONG);
    let request = json_frame(&mut peer).await;
    assert_eq!(request["method"], "a");
    peer.send_json(result(&request, "first"))
        .await
        .expect("open");
    assert_eq!(words(&asked.await.expect("no panic")), ["first"]);
}

/// A venue that speaks JSON-RPC without batches.
#[derive(Debug)]
struct OneByOne;

impl Platform for OneByOne {
    fn name(&self) -> &str {
        "one by one"
    }
}

#[tokio::test]
async fn where_batches_are_not_spoken_the_calls_are_written_one_after_the_other() {
    let server = server().await;
    let config = builder(&server).build().expect("valid");
    let session = Session::start(OneByOne, config).await.expect("a session");
    let mut peer = server.next_connection().await.expect("a connection");
    let asked = ask(&session, &["a", "b"], LONG);
    let (first, second) = (json_frame(&mut peer).await, json_frame(&mut peer).await);
    assert_eq!(
        (&first["method"], &second["method"]),
        (&json!("a"), &json!("b"))
    );
    peer.send_json(refusal(&second)).await.expect("open");
    peer.send_json(result(&first, "first")).await.expect("open");
    let outcomes = asked.await.expect("no panic");
    assert_eq!(words(&outcomes), ["first", "b refused"]);
}

#[tokio::test]
async fn a_batch_that_is_let_go_of_before_it_is_written_is_not_written() {
    let server = server().await;
    let (session, mut peer) = limited(&server, RateLimits::bucket(2, 2, LONG).reserve(0)).await;
    assert!(session.limiter().expect("a limiter").try_acquire(1));
    let waiting = ask(&session, &["a", "b"], LONG);
    until(&session, |session| {
        session.limiter().expect("one").status().queued() == 1
    })
    .await;
    waiting.abort();
    assert!(waiting.await.expect_err("aborted").is_cancelled());
    let asked = session.clone();
    let asked = tokio::spawn(async move { asked.request::<Value>("c", &json!([])).await });
    let request = json_frame(&mut peer).await;
    assert_eq!(request["method"], "c");
    peer.send_json(result(&request, "third"))
        .await
        .expect("open");
    asked.await.expect("no panic").expect("an answer");
}

async fn limited(server: &ScriptedServer, limits: RateLimits) -> (Session, ServerConnection) {
    let config = builder(server)
        .reconnect_owner(ReconnectOwner::Client)
        .rate_limits(limits)
        .build()
        .expect("a valid configuration");
    let session = Client::connect_with(config).await.expect("a session");
    let peer = server.next_connection().await.expect("a connection");
    (session, peer)
}

/// Lets the other tasks go on until it is so.
async fn until(session: &Session, is_so: impl Fn(&Session) -> bool) {
    for _ in 0..100 {
        if is_so(session) {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("it did not come to that");
}

#[tokio::test(start_paused = true)]
async fn every_call_is_paid_for_before_the_frame_is_written() {
    let server = server().await;
    let (session, mut peer) = limited(&server, RateLimits::window(5, SECOND).reserve(0)).await;
    let began = Instant::now();
    let first = ask(&session, &["a", "b", "c"], LONG);
    let frame = json_frame(&mut peer).await;
    assert_eq!(session.limiter().expect("a limiter").status().tokens(), 2);
    let answers: Vec<Value> = (0..3).map(|index| result(&frame[index], "ok")).collect();
    peer.send_json(Value::from(answers)).await.expect("open");
    assert_eq!(words(&first.await.expect("no panic")), ["ok", "ok", "ok"]);

    let second = ask(&session, &["a", "b", "c"], LONG);
    let frame = json_frame(&mut peer).await;
    assert_eq!(began.elapsed().as_secs(), 1, "it waited for the window");
    let answers: Vec<Value> = (0..3).map(|index| result(&frame[index], "ok")).collect();
    peer.send_json(Value::from(answers)).await.expect("open");
    assert_eq!(words(&second.await.expect("no panic")), ["ok", "ok", "ok"]);
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_can_never_be_paid_or_not_in_time_is_not_sent() {
    let server = server().await;
    let (session, _peer) = limited(&server, RateLimits::bucket(2, 2, LONG * 2).reserve(0)).await;
    let outcomes = session.batch(calls(&["a", "b", "c"]), LONG).await;
    assert_eq!(words(&outcomes), ["a not sent", "b not sent", "c not sent"]);

    let limiter = session.limiter().expect("a limiter").clone();
    assert!(limiter.try_acquire(1));
    let outcomes = session.batch(calls(&["a", "b"]), SECOND).await;
    assert_eq!(words(&outcomes), ["a not sent", "b not sent"]);
    let text = outcomes[0].as_ref().expect_err("not sent").to_string();
    assert!(text.contains("rate limit"), "{text}");
    assert_eq!(
        (limiter.status().tokens(), limiter.status().queued()),
        (1, 0)
    );
}

#[tokio::test(start_paused = true)]
async fn what_one_pool_was_paid_is_given_back_if_another_does_not_let_the_batch_pass() {
    let server = server().await;
    let rule = Rule::Window {
        limit: 2,
        within: LONG * 2,
    };
    let pools = [
        Pool::new("reads", rule).reserve(0),
        Pool::new("orders", rule).reserve(0),
    ];
    let costs = Costs::new(1).exact("order", Weight::new(1).of_pool(1));
    let (session, mut peer) = limited(&server, RateLimits::pools(pools).costs(costs)).await;
    let limiter = session.limiter().expect("a limiter").clone();
    let tokens = || {
        let pools = limiter.status().pools;
        (pools[0].tokens, pools[1].tokens)
    };
    assert!(limiter.try_acquire(Weight::new(2).of_pool(1)));
    let outcomes = session.batch(calls(&["read", "order"]), SECOND).await;
    assert_eq!(words(&outcomes), ["read not sent", "order not sent"]);
    assert_eq!(tokens(), (2, 0));

    tokio::time::advance(LONG * 2 + SECOND).await;
    let asked = ask(&session, &["read", "order"], SECOND);
    let frame = json_frame(&mut peer).await;
    assert_eq!(tokens(), (1, 1));
    let answers = json!([result(&frame[0], "read"), result(&frame[1], "order")]);
    peer.send_json(answers).await.expect("open");
    assert_eq!(words(&asked.await.expect("no panic")), ["read", "order"]);
}
