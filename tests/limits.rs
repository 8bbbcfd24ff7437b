//! A session keeps to its venue's limits, against a scripted server and the simulator.
//!
//! Time is paused: what a test measures is the limiter's own pace. Deadlines are only there so that a
//! broken promise ends the test.
#![allow(
    clippy::expect_used,
    reason = "what is allowed in tests is not yet in their helpers"
)]

use std::sync::Arc;
use std::time::Duration;

use mainstay::config::{
    Costs, Lane, Liveness, Overflow, Queue, RateLimits, ReconnectOwner, Weight,
};
use mainstay::error::{Recovery, RequestError};
use mainstay::platform::{Batch, Platform, Route};
use mainstay::supervisors::Backoff;
use mainstay::telemetry::{Collector, TelemetryEvent};
use mainstay::testing::{ReceivedKind, Script, ScriptedServer, ServerConnection};
use mainstay::{Call, Client, Config, Limiter, Session};
use serde_json::{Value, json};
use tokio::time::Instant;

const SECOND: Duration = Duration::from_secs(1);
const LONG: Duration = Duration::from_secs(600);

async fn server() -> ScriptedServer {
    let server = ScriptedServer::builder()
        .scripts([Script::new(), Script::new()])
        .patience(LONG);
    server.start().await.expect("a server")
}

fn config(server: &ScriptedServer, limits: RateLimits) -> Config {
    Config::builder(server.url())
        .reconnect_owner(ReconnectOwner::Client)
        .backoff(Backoff::new(
            Duration::from_millis(5),
            Duration::from_millis(50),
        ))
        .request_timeout(LONG)
        .rate_limits(limits)
        .build()
        .expect("a valid configuration")
}

async fn connect(server: &ScriptedServer, limits: RateLimits) -> (Session, ServerConnection) {
    let session = Client::connect_with(config(server, limits))
        .await
        .expect("a session");
    let peer = server.next_connection().await.expect("a connection");
    (session, peer)
}

/// Asks `method` in a task of its own; in its queue when this returns.
async fn ask(session: &Session, method: &'static str) -> Asked {
    let session = session.clone();
    let asked = tokio::spawn(async move { session.request::<Value>(method, &json!({})).await });
    tokio::task::yield_now().await;
    asked
}

type Asked = tokio::task::JoinHandle<Result<Value, RequestError>>;

/// The next request's method, answered.
async fn answer(peer: &mut ServerConnection) -> String {
    let text = peer.recv_text().await.expect("a request");
    let request: Value = serde_json::from_str(&text).expect("json");
    let answer = json!({"jsonrpc": "2.0", "id": request["id"], "result": 1});
    peer.send_json(answer).await.expect("an open connection");
    request["method"].as_str().expect("a method").to_owned()
}

#[tokio::test(start_paused = true)]
async fn the_server_sees_requests_no_faster_than_the_limit() {
    let server = server().await;
    let (session, mut peer) = connect(&server, RateLimits::window(3, SECOND)).await;
    let began = Instant::now();
    for _ in 0..10 {
        ask(&session, "work").await;
    }
    let mut arrivals = Vec::new();
    for _ in 0..10 {
        answer(&mut peer).await;
        arrivals.push(began.elapsed().as_secs());
    }
    assert_eq!(arrivals, [0, 0, 0, 1, 1, 1, 2, 2, 2, 3]);
}

#[tokio::test(start_paused = true)]
async fn cancels_go_before_a_crowd_and_find_a_reserve() {
    let server = server().await;
    let cancels = Costs::new(1).exact("cancel", Weight::new(1).lane(Lane::Reserved));
    let limits = RateLimits::bucket(3, 1, LONG).reserve(1).costs(cancels);
    let (session, mut peer) = connect(&server, limits).await;
    for _ in 0..5 {
        ask(&session, "work").await;
    }
    let cancel = ask(&session, "cancel").await;
    let methods = [
        answer(&mut peer).await,
        answer(&mut peer).await,
        answer(&mut peer).await,
    ];
    assert_eq!(methods, ["work", "work", "cancel"]);
    assert!(cancel.await.expect("a task").is_ok());
    let status = session.limiter().expect("a limiter").status();
    assert_eq!((status.tokens(), status.queued()), (0, 3));
}

#[tokio::test(start_paused = true)]
async fn a_request_whose_turn_does_not_come_in_time_was_not_sent() {
    let server = server().await;
    let (session, mut peer) = connect(&server, RateLimits::bucket(1, 1, LONG)).await;
    let first = ask(&session, "first").await;
    answer(&mut peer).await;
    assert!(first.await.expect("a task").is_ok());
    let late = session.call(Call::bare("late"), SECOND).await;
    let error = late.expect_err("no turn");
    assert!(
        matches!(&error, RequestError::NotSent { detail, .. } if detail.contains("rate limit")),
        "{error}"
    );
    assert_eq!(session.limiter().expect("a limiter").status().queued(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_is_told_with_its_capacity_and_the_remedy() {
    let server = server().await;
    let (session, _peer) = connect(&server, RateLimits::bucket(1, 1, LONG).queue(2)).await;
    for _ in 0..3 {
        ask(&session, "work").await;
    }
    let refused = session.request::<Value>("one more", &json!({})).await;
    let text = refused.expect_err("no room").to_string();
    assert!(
        text.contains("queue of 2 is full") && text.contains("rate_limits.queue"),
        "{text}"
    );
}

#[tokio::test(start_paused = true)]
async fn what_waits_for_its_turn_when_the_connection_ends_is_told_at_once() {
    let server = server().await;
    let (session, peer) = connect(&server, RateLimits::bucket(1, 1, LONG)).await;
    let written = ask(&session, "written").await;
    let waiting = ask(&session, "waiting").await;
    let began = Instant::now();
    peer.hang_up().await.expect("an open connection");
    let error = waiting.await.expect("a task").expect_err("a fate");
    assert!(matches!(error, RequestError::NotSent { .. }), "{error}");
    let error = written.await.expect("a task").expect_err("a fate");
    assert!(matches!(error, RequestError::Unknown { .. }), "{error}");
    assert!(began.elapsed() < SECOND);
}

#[tokio::test(start_paused = true)]
async fn sessions_that_share_a_limiter_share_its_limit() {
    let server = server().await;
    let limiter = Limiter::new("account", RateLimits::window(2, SECOND)).expect("valid");
    let config = config(&server, RateLimits::unlimited());
    let (mut sessions, mut peers) = (Vec::new(), Vec::new());
    for _ in 0..2 {
        let session = Client::connect_sharing(config.clone(), &limiter).await;
        sessions.push(session.expect("a session"));
        peers.push(server.next_connection().await.expect("a connection"));
    }
    let began = Instant::now();
    let mut asked = Vec::new();
    for _ in 0..3 {
        for session in &sessions {
            asked.push(ask(session, "work").await);
        }
    }
    for peer in &mut peers {
        for _ in 0..3 {
            answer(peer).await;
        }
    }
    for one in asked {
        assert!(one.await.expect("a task").is_ok());
    }
    assert_eq!(began.elapsed().as_secs(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_we_are_too_fast_makes_the_others_rest() {
    let server = server().await;
    let limits = RateLimits::bucket(100, 100, SECOND).pause(Duration::from_secs(7));
    let (session, mut peer) = connect(&server, limits).await;
    let complained = ask(&session, "first").await;
    let text = peer.recv_text().await.expect("a request");
    let request: Value = serde_json::from_str(&text).expect("json");
    let error = json!({"code": 429, "message": "slow down"});
    let answer_429 = json!({"jsonrpc": "2.0", "id": request["id"], "error": error});
    peer.send_json(answer_429)
        .await
        .expect("an open connection");
    let refused = complained.await.expect("a task");
    assert!(matches!(refused, Err(RequestError::Answered { .. })));
    let began = Instant::now();
    let second = ask(&session, "second").await;
    assert_eq!(answer(&mut peer).await, "second");
    assert!(second.await.expect("a task").is_ok());
    assert_eq!(began.elapsed().as_secs(), 7);
}

#[tokio::test(start_paused = true)]
async fn a_close_for_breach_of_policy_makes_everybody_rest() {
    let server = server().await;
    let limits = RateLimits::bucket(100, 100, SECOND).pause(Duration::from_secs(9));
    let (session, peer) = connect(&server, limits).await;
    let began = Instant::now();
    peer.close(1008, "too many requests").await.expect("open");
    let mut peer = server.next_connection().await.expect("a connection");
    let asked = ask(&session, "again").await;
    answer(&mut peer).await;
    assert!(asked.await.expect("a task").is_ok());
    assert!(began.elapsed().as_secs() >= 8, "{:?}", began.elapsed());
}

/// A venue that asks for heartbeats, and has one request for each channel.
#[derive(Debug)]
struct Venue;

impl Platform for Venue {
    fn name(&self) -> &str {
        "venue"
    }

    fn route<'f>(&self, frame: &'f [u8]) -> Route<'f> {
        if frame == b"\"alive?\"" {
            return Route::Heartbeat;
        }
        mainstay::platform::JsonRpc.route(frame)
    }

    fn heartbeat(&self, _: &[u8]) -> Option<Call> {
        Some(Call::bare("alive"))
    }

    fn subscribe(&self, channels: &[Arc<str>]) -> Vec<Batch> {
        let each = channels.iter().map(|channel| {
            let call = Call::new("subscribe", &[&**channel]).expect("json");
            Batch::new(call, vec![Arc::clone(channel)])
        });
        each.collect()
    }

    fn recovery(&self, _: &mainstay::error::ErrorObject) -> Recovery {
        Recovery::Stop
    }
}

#[tokio::test(start_paused = true)]
async fn heartbeats_are_answered_while_the_limit_is_exhausted_and_a_crowd_waits() {
    let server = server().await;
    let limits = RateLimits::bucket(20, 1, LONG);
    let session = Session::start(Venue, config(&server, limits)).await;
    let session = session.expect("a session");
    let mut peer = server.next_connection().await.expect("a connection");
    for _ in 0..50 {
        ask(&session, "work").await;
    }
    for _ in 0..18 {
        assert_eq!(answer(&mut peer).await, "work");
    }
    for _ in 0..2 {
        let began = Instant::now();
        peer.send_text("\"alive?\"").await.expect("open");
        assert_eq!(answer(&mut peer).await, "alive");
        assert!(began.elapsed() < SECOND);
    }
}

#[tokio::test(start_paused = true)]
async fn heartbeats_are_answered_while_every_consumer_is_stuck_and_the_limit_is_exhausted() {
    const MESSAGES: u64 = 5000;
    let server = server().await;
    let limits = RateLimits::bucket(20, 1, LONG);
    let session = Session::start(Venue, config(&server, limits)).await;
    let session = session.expect("a session");
    let mut peer = server.next_connection().await.expect("a connection");
    let stuck = [
        Overflow::DropOldest,
        Overflow::DropNewest,
        Overflow::Disconnect,
    ]
    .map(|overflow| session.messages_with(Queue::new(4, overflow)));
    for _ in 0..50 {
        ask(&session, "work").await;
    }
    for _ in 0..18 {
        assert_eq!(answer(&mut peer).await, "work");
    }
    for _ in 0..2 {
        for _ in 0..MESSAGES {
            peer.send_text("\"tick\"").await.expect("open");
        }
        let began = Instant::now();
        peer.send_text("\"alive?\"").await.expect("open");
        assert_eq!(answer(&mut peer).await, "alive");
        assert!(began.elapsed() < SECOND);
    }
    assert!(session.statistics().frames_in > 2 * MESSAGES);
    drop(stuck);
}

/// What waiting for a consumer costs the others of its connection, as `Overflow::Block` says: its limit for each batch.
#[tokio::test(start_paused = true)]
async fn a_consumer_that_is_waited_for_delays_a_heartbeat_by_its_limit_for_each_batch_and_no_more()
{
    const MESSAGES: u32 = 1024;
    let wait = Duration::from_millis(200);
    let server = ScriptedServer::builder().in_memory(true).patience(LONG);
    let server = server.script(Script::new()).start().await;
    let server = server.expect("a server");
    let config = Config::builder(server.url())
        .connector(server.connector().expect("in memory"))
        .build()
        .expect("valid");
    let session = Session::start(Venue, config).await.expect("a session");
    let mut peer = server.next_connection().await.expect("a connection");
    let stuck = session.messages_with(Queue::new(4, Overflow::Block(wait)));
    for _ in 0..MESSAGES {
        peer.send_text("\"tick\"").await.expect("open");
    }
    peer.send_text("\"alive?\"").await.expect("open");
    let began = Instant::now();
    assert_eq!(answer(&mut peer).await, "alive");
    let took = began.elapsed();
    let batches = MESSAGES.div_ceil(256) + 1;
    assert!(took >= wait, "it is waited for: {took:?}");
    assert!(took <= wait * batches, "{took:?}");
    drop(stuck);
}

#[tokio::test(start_paused = true)]
async fn restoring_subscriptions_keeps_to_the_limit_and_converges() {
    let server = server().await;
    let config = config(&server, RateLimits::window(5, SECOND).reserve(0));
    let session = Session::start(Venue, config).await.expect("a session");
    let mut peer = server.next_connection().await.expect("a connection");
    let mut wishes = Vec::new();
    for number in 0..100 {
        let session = session.clone();
        let channel = mainstay::Channel::<mainstay::Frame>::new(format!("channel {number}"));
        wishes.push(tokio::spawn(
            async move { session.subscribe(channel).await },
        ));
    }
    let began = Instant::now();
    for _ in 0..100 {
        answer(&mut peer).await;
    }
    let mut subscriptions = Vec::new();
    for wish in wishes {
        subscriptions.push(wish.await.expect("a task").expect("a subscription"));
    }
    assert_eq!(began.elapsed().as_secs(), 19);
    peer.hang_up().await.expect("an open connection");
    let mut peer = server.next_connection().await.expect("a connection");
    let began = Instant::now();
    for _ in 0..100 {
        assert_eq!(answer(&mut peer).await, "subscribe");
    }
    session.live().await.expect("a session");
    let took = began.elapsed().as_secs();
    assert!((19..=21).contains(&took), "{took}");
    let received = server.received().into_iter();
    let texts = received.filter(|one| matches!(one.kind, ReceivedKind::Text(_)));
    assert_eq!(texts.count(), 200, "each channel was asked for once");
}

/// Writes down what it hears.
#[derive(Debug, Default)]
struct Notes(std::sync::Mutex<Vec<(String, &'static str)>>);

impl Collector for Notes {
    fn on_event(&self, source: &str, event: &TelemetryEvent<'_>) {
        let note = (source.to_owned(), event.name());
        self.0.lock().expect("no test panics here").push(note);
    }
}

#[tokio::test(start_paused = true)]
async fn the_collectors_of_a_shared_limiter_hear_of_it_under_its_own_name() {
    let notes = Arc::new(Notes::default());
    let limits = RateLimits::bucket(1, 1, SECOND).queue(1);
    let collectors: [Arc<dyn Collector>; 1] = [notes.clone()];
    let limiter = Limiter::observed("account", limits, collectors).expect("valid");
    assert!(limiter.try_acquire(1));
    assert!(!limiter.try_acquire(1));
    limiter.acquire(1, LONG).await.expect("a turn");
    let heard = std::mem::take(&mut *notes.0.lock().expect("no test panics here"));
    let names = [
        "consumed",
        "queued",
        "pressure changed",
        "refilled",
        "consumed",
        "pressure changed",
    ];
    let expected = names.map(|name| ("account".to_owned(), name));
    assert_eq!(heard, expected);
}

/// The most that any stretch of a second, both ends included, holds of what a server received.
fn fullest(server: &ScriptedServer) -> usize {
    let sent = |kind: &ReceivedKind| {
        let ReceivedKind::Text(_) = kind else {
            return matches!(kind, ReceivedKind::Ping(_) | ReceivedKind::Pong(_));
        };
        true
    };
    let received = server.received().into_iter();
    let times: Vec<Instant> = received
        .filter(|one| sent(&one.kind))
        .map(|one| one.at)
        .collect();
    let held = |end: &Instant| {
        let inside = |at: &&Instant| *at <= end && end.duration_since(**at) <= SECOND;
        times.iter().filter(inside).count()
    };
    times.iter().map(held).max().unwrap_or_default()
}

#[tokio::test(start_paused = true)]
async fn no_window_on_the_wire_holds_more_than_the_limit_pings_and_pongs_included() {
    for seed in 0..20_u64 {
        let mut runner = fastrand::Rng::with_seed(seed);
        let server = ScriptedServer::builder().in_memory(true).patience(LONG);
        let server = server.script(Script::new()).start().await;
        let server = server.expect("a server");
        let limits = RateLimits::window(10, SECOND).reserve(4).control_cost(1);
        let config = Config::builder(server.url())
            .connector(server.connector().expect("in memory"))
            .reconnect_owner(ReconnectOwner::Client)
            .request_timeout(LONG)
            .rate_limits(limits)
            .build()
            .expect("valid");
        let session = Client::connect_with(config).await.expect("a session");
        let peer = server.next_connection().await.expect("a connection");
        for _ in 0..runner.usize(30..60) {
            ask(&session, "work").await;
        }
        // Never more than the reserve within a second: three, a third of a second apart at least.
        for _ in 0..12 {
            peer.ping("alive?").await.expect("an open connection");
            let pause = Duration::from_millis(runner.u64(334..900));
            tokio::time::sleep(pause).await;
            if runner.bool() {
                ask(&session, "more").await;
            }
        }
        tokio::time::sleep(10 * SECOND).await;
        let pongs = server.received().into_iter();
        let pongs = pongs.filter(|one| matches!(one.kind, ReceivedKind::Pong(_)));
        assert_eq!(pongs.count(), 12, "seed {seed}");
        assert!(fullest(&server) <= 10, "seed {seed}: {}", fullest(&server));
    }
}

#[tokio::test(start_paused = true)]
async fn requests_wait_while_pongs_use_the_limit_up() {
    let server = server().await;
    let limits = RateLimits::window(10, SECOND).reserve(4).control_cost(1);
    let (session, peer) = connect(&server, limits).await;
    for number in 0..40 {
        if number == 16 {
            for _ in 0..30 {
                ask(&session, "work").await;
            }
        }
        peer.ping("alive?").await.expect("an open connection");
        tokio::time::sleep(Duration::from_millis(125)).await;
    }
    let texts = || {
        let received = server.received().into_iter();
        let texts = received.filter(|one| matches!(one.kind, ReceivedKind::Text(_)));
        texts.count()
    };
    assert_eq!(
        texts(),
        0,
        "nine pongs in each second leave only the reserve"
    );
    tokio::time::sleep(10 * SECOND).await;
    assert_eq!(texts(), 30);
    assert!(fullest(&server) <= 10, "{}", fullest(&server));
}

/// Silence is probed three times a second, while a crowd of requests would use the whole limit up.
#[tokio::test(start_paused = true)]
async fn our_own_pings_are_counted_in_every_window_and_are_not_crowded_out() {
    let server = ScriptedServer::builder().in_memory(true).patience(LONG);
    let server = server.script(Script::new()).start().await;
    let server = server.expect("a server");
    let limits = RateLimits::window(10, SECOND).reserve(4).control_cost(1);
    let config = Config::builder(server.url())
        .connector(server.connector().expect("in memory"))
        .liveness(Liveness::new(Duration::from_millis(300), SECOND))
        .request_timeout(LONG)
        .rate_limits(limits)
        .build()
        .expect("valid");
    let session = Client::connect_with(config).await.expect("a session");
    for _ in 0..60 {
        ask(&session, "work").await;
    }
    tokio::time::sleep(20 * SECOND).await;
    let count = |wanted: fn(&ReceivedKind) -> bool| {
        let received = server.received().into_iter();
        received.filter(|one| wanted(&one.kind)).count()
    };
    let pings = count(|kind| matches!(kind, ReceivedKind::Ping(_)));
    // One every 300 ms, or when its turn comes.
    assert!((40..=67).contains(&pings), "{pings}");
    assert_eq!(count(|kind| matches!(kind, ReceivedKind::Text(_))), 60);
    assert!(fullest(&server) <= 10, "{}", fullest(&server));
    assert_eq!(server.accepted(), 1, "no ping came too late");
}
