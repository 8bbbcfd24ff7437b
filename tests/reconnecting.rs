//! Sessions that come back: how often a server is knocked at, by one session and by a thousand, and who waits at
//! a gate for whom.
//!
//! In memory and under paused time; what is counted is counted by the server, at its door.
#![allow(
    clippy::expect_used,
    reason = "what is allowed in tests is not yet in their helpers"
)]

use std::future::pending;
use std::time::Duration;

use mainstay::config::{
    BreakerPolicy, ConfigBuilder, PhaseLimits, RateLimits, ReconnectOwner, StableBy,
};
use mainstay::error::{ConnectError, Phase, RequestError, StartError};
use mainstay::protocol::breaker::BreakerState;
use mainstay::supervisors::{Backoff, Jitter};
use mainstay::testing::{
    Disconnect, Handshake, Matcher, ReceivedKind, Script, ScriptedServer, ScriptedServerBuilder,
};
use mainstay::{Client, Config, Gate, Session, SessionState};
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

const SECOND: Duration = Duration::from_secs(1);
const LONG: Duration = Duration::from_secs(3600);

async fn start(builder: ScriptedServerBuilder) -> ScriptedServer {
    builder.in_memory(true).start().await.expect("a server")
}

/// Tries again every 100 milliseconds, as impatient as nobody should be.
fn impatient() -> Backoff {
    let delay = Duration::from_millis(100);
    Backoff::new(delay, delay).jitter(Jitter::None)
}

fn config(server: &ScriptedServer) -> ConfigBuilder {
    Config::builder(server.url())
        .connector(server.connector().expect("in memory"))
        .reconnect_owner(ReconnectOwner::Client)
        .retry_first(true)
        .start_timeout(LONG)
        .backoff(impatient())
}

async fn connect(builder: ConfigBuilder, gate: &Gate) -> Session {
    let config = builder.build().expect("valid");
    let session = Client::connect_sharing(config, gate).await;
    session.expect("a session")
}

/// Begins a session that is not live yet.
fn begin(builder: ConfigBuilder, gate: &Gate) -> tokio::task::JoinHandle<Session> {
    let gate = gate.clone();
    tokio::spawn(async move { connect(builder, &gate).await })
}

/// When somebody came in.
fn arrivals(server: &ScriptedServer) -> Vec<Instant> {
    let received = server.received().into_iter();
    let accepted = received.filter(|one| matches!(one.kind, ReceivedKind::Accepted));
    accepted.map(|one| one.at).collect()
}

/// The most that any window of this length, both ends included, holds.
fn fullest(times: &[Instant], within: Duration) -> usize {
    let held = |end: &Instant| {
        let inside = |at: &&Instant| *at <= end && end.duration_since(**at) <= within;
        times.iter().filter(inside).count()
    };
    times.iter().map(held).max().unwrap_or_default()
}

#[tokio::test(start_paused = true)]
async fn a_server_that_accepts_and_closes_sees_a_handful_of_connections_in_five_seconds() {
    let scripts = [Script::echo(), Script::new().hang_up()];
    let server = start(ScriptedServer::builder().scripts(scripts)).await;
    let config = Config::builder(server.url())
        .connector(server.connector().expect("in memory"))
        .reconnect_owner(ReconnectOwner::Client)
        .build()
        .expect("valid");
    let _session = Client::connect_with(config).await.expect("a session");
    server.disconnect(Disconnect::HangUp).await;
    sleep(5 * SECOND).await;
    let seen = arrivals(&server).len();
    // More than twelve would take five waits of seconds to be next to nothing: once in a hundred thousand runs.
    assert!((2..=12).contains(&seen), "{seen}");
}

#[tokio::test(start_paused = true)]
async fn the_attempts_of_many_sessions_are_spread_over_the_whole_delay() {
    let server = start(ScriptedServer::builder().script(Script::echo())).await;
    let delay = Duration::from_millis(1000);
    let mut starting = JoinSet::new();
    for _ in 0..200 {
        // The jitter is the library's default.
        let config = config(&server).backoff(Backoff::new(delay, delay));
        let config = config.build().expect("valid");
        starting.spawn(async move { Client::connect_with(config).await });
    }
    let _sessions = starting.join_all().await;
    server.push_script(Script::refuse(503, &[], "down"));
    let lost = Instant::now();
    server.disconnect(Disconnect::Abrupt).await;
    sleep(delay + SECOND / 10).await;
    // Each comes at once and is refused, and then comes within a second.
    let times = arrivals(&server).into_iter().skip(400);
    let after: Vec<_> = times
        .map(|at| at.duration_since(lost).as_millis())
        .collect();
    assert!(after.len() >= 200, "{}", after.len());
    for quarter in 0..4 {
        let within = quarter * 250..(quarter + 1) * 250;
        let count = after.iter().filter(|at| within.contains(*at)).count();
        // Fifty are expected; twenty would be five standard deviations away.
        assert!(count >= 20, "{quarter}: {count} of {after:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_thousand_sessions_that_lose_one_server_come_back_no_faster_than_their_gate_allows() {
    let server = start(ScriptedServer::builder().script(Script::echo())).await;
    let limits = RateLimits::window(50, SECOND);
    let gate = Gate::new("venue").limit(limits).expect("valid");
    let mut starting = JoinSet::new();
    for _ in 0..1000 {
        let (config, gate) = (config(&server), gate.clone());
        starting.spawn(async move { connect(config, &gate).await });
    }
    let sessions = starting.join_all().await;
    assert_eq!(server.connections(), 1000);

    let began = Instant::now();
    server.disconnect(Disconnect::Abrupt).await;
    for session in &sessions {
        let mut steps = session.watch();
        let live_again = steps
            .wait_for(|state| matches!(state, SessionState::Live { epoch } if epoch.as_u64() == 2));
        timeout(LONG, live_again)
            .await
            .expect("in time")
            .expect("a session");
    }
    let took = began.elapsed();
    let times = arrivals(&server);
    assert_eq!(times.len(), 2000, "each came once");
    assert!(fullest(&times, SECOND) <= 50, "{}", fullest(&times, SECOND));
    assert!((19..=22).contains(&took.as_secs()), "{took:?}");
    assert_eq!(gate.status().waiting, 0);
}

fn waits_at_gates(limit: Duration) -> PhaseLimits {
    let mut limits = PhaseLimits::default();
    limits.gate = limit;
    limits
}

#[tokio::test(start_paused = true)]
async fn who_waits_too_long_at_a_gate_is_told_what_to_do() {
    let server = start(ScriptedServer::builder().script(Script::echo())).await;
    let limits = RateLimits::window(1, 24 * LONG);
    let gate = Gate::new("venue").limit(limits).expect("valid");
    let _first = connect(config(&server), &gate).await;
    let limit = 60 * SECOND;
    let second = config(&server).retry_first(false);
    let second = second.limits(waits_at_gates(limit)).build().expect("valid");
    let began = Instant::now();
    let error = Client::connect_sharing(second, &gate).await;
    let error = error.expect_err("not today");
    assert!(
        matches!(
            error,
            StartError::Connect(ConnectError::Timeout { phase: Phase::Gate, limit: found })
                if found == limit
        ),
        "{error:?}"
    );
    assert_eq!(began.elapsed().as_secs(), 60);
    let explained = error.explain();
    assert!(explained.suggestion.contains("limits.gate"), "{explained}");
    assert_eq!(gate.status().waiting, 0);
}

#[tokio::test(start_paused = true)]
async fn who_has_waited_too_long_at_a_gate_stands_there_again() {
    let server = start(ScriptedServer::builder().script(Script::echo())).await;
    let limits = RateLimits::window(1, 600 * SECOND);
    let gate = Gate::new("venue").limit(limits).expect("valid");
    let _first = connect(config(&server), &gate).await;
    let began = Instant::now();
    let second = config(&server).limits(waits_at_gates(60 * SECOND));
    let second = connect(second, &gate).await;
    let took = began.elapsed().as_secs();
    assert!((595..=605).contains(&took), "{took}");
    assert!(second.metrics().connections_not_opened >= 9);
    assert_eq!(arrivals(&server).len(), 2, "nobody knocked in between");
}

#[tokio::test(start_paused = true)]
async fn an_open_breaker_postpones_attempts_and_books_no_restart() {
    let refusal = || Script::refuse(503, &[], "down");
    let scripts = (0..40).map(|_| refusal()).chain([Script::echo()]);
    let server = start(ScriptedServer::builder().scripts(scripts)).await;
    let policy = BreakerPolicy::new(3, 60 * SECOND).rest(30 * SECOND);
    let gate = Gate::new("venue").breaker(policy).expect("valid");
    let began = Instant::now();
    let starting = begin(config(&server), &gate);
    sleep(20 * SECOND).await;
    assert_eq!(arrivals(&server).len(), 3);
    let status = gate.status();
    assert_eq!(status.breaker, Some(BreakerState::Open));
    assert_eq!(status.waiting, 1);
    let session = starting.await.expect("no intensity is exhausted");
    // Three attempts, and then one after each rest until the forty-first is answered.
    assert_eq!(arrivals(&server).len(), 41);
    let rests = began.elapsed().as_secs() / 30;
    assert_eq!(rests, 38, "{:?}", began.elapsed());
    assert!(session.state().is_live());
    assert_eq!(gate.status().breaker, Some(BreakerState::HalfOpen));
    sleep(2 * SECOND).await;
    assert_eq!(gate.status().breaker, Some(BreakerState::Closed));
    assert_eq!(session.metrics().attempts_postponed, 38);
}

#[tokio::test(start_paused = true)]
async fn sessions_that_share_a_breaker_send_one_probe_between_them() {
    let server = start(ScriptedServer::builder().script(Script::refuse(503, &[], "down"))).await;
    let policy = BreakerPolicy::new(10, 60 * SECOND).rest(30 * SECOND);
    let gate = Gate::new("venue").breaker(policy).expect("valid");
    let crowd: Vec<_> = (0..20).map(|_| begin(config(&server), &gate)).collect();
    sleep(25 * SECOND).await;
    let before = arrivals(&server).len();
    assert!((10..=20).contains(&before), "{before}");
    sleep(5 * 30 * SECOND).await;
    assert_eq!(arrivals(&server).len() - before, 5, "one for each rest");
    server.push_script(Script::echo());
    for session in crowd {
        let session = session.await.expect("a session");
        assert!(session.state().is_live());
    }
    assert_eq!(gate.status().breaker, Some(BreakerState::Closed));
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_is_accepted_and_closed_keeps_the_breaker_open() {
    let server = start(ScriptedServer::builder().script(Script::new().hang_up())).await;
    let policy = BreakerPolicy::new(3, 60 * SECOND).rest(30 * SECOND);
    let gate = Gate::new("venue").breaker(policy).expect("valid");
    let _crowd: Vec<_> = (0..3).map(|_| begin(config(&server), &gate)).collect();
    sleep(20 * SECOND).await;
    let before = arrivals(&server).len();
    sleep(5 * 30 * SECOND).await;
    assert_eq!(arrivals(&server).len() - before, 5);
}

#[tokio::test(start_paused = true)]
async fn a_probe_whose_session_is_given_up_lets_the_next_one_try() {
    let silent = Script::new().handshake(Handshake::Silent);
    let refusal = Script::refuse(503, &[], "down");
    let scripts = [refusal, silent, Script::echo()];
    let server = start(ScriptedServer::builder().scripts(scripts)).await;
    let policy = BreakerPolicy::new(1, 60 * SECOND).rest(30 * SECOND);
    let gate = Gate::new("venue").breaker(policy).expect("valid");
    let probing = begin(config(&server), &gate);
    sleep(31 * SECOND).await;
    assert_eq!(gate.status().breaker, Some(BreakerState::HalfOpen));
    let other = begin(config(&server), &gate);
    sleep(SECOND).await;
    probing.abort();
    let session = timeout(SECOND, other).await.expect("at once");
    assert!(session.expect("a session").state().is_live());
}

#[tokio::test(start_paused = true)]
async fn attempts_above_the_limit_are_postponed_and_none_is_lost() {
    let scripts = [Script::echo(), Script::new().hang_up()];
    let server = start(ScriptedServer::builder().scripts(scripts)).await;
    let limited = config(&server).connect_limits(RateLimits::window(2, 60 * SECOND));
    let session = Client::connect_with(limited.build().expect("valid")).await;
    let session = session.expect("a session");
    server.disconnect(Disconnect::HangUp).await;
    sleep(600 * SECOND).await;
    let times = arrivals(&server);
    assert_eq!(fullest(&times, 60 * SECOND), 2);
    assert_eq!(times.len(), 20, "two each minute, for ten minutes");
    assert!(matches!(session.state(), SessionState::Connecting));
    let status = session.gate().expect("a gate of its own").status();
    assert_eq!(
        (status.waiting, status.limit.expect("a limit").queued()),
        (1, 1)
    );
    assert!(session.metrics().attempts_postponed >= 9);
    server.push_script(Script::echo());
    session.live().await.expect("a session");
}

#[tokio::test(start_paused = true)]
async fn a_session_that_is_shut_down_while_it_waits_gives_its_place_back() {
    let server = start(ScriptedServer::builder().script(Script::echo())).await;
    let limits = RateLimits::window(1, 60 * SECOND);
    let gate = Gate::new("venue").limit(limits).expect("valid");
    let _first = connect(config(&server), &gate).await;
    let second = begin(config(&server), &gate);
    sleep(SECOND).await;
    let third = begin(config(&server), &gate);
    sleep(SECOND).await;
    assert_eq!(gate.status().waiting, 2);
    second.abort();
    sleep(SECOND).await;
    assert_eq!(gate.status().waiting, 1);
    let third = timeout(60 * SECOND, third).await.expect("the next window");
    assert!(third.expect("a session").state().is_live());
}

#[tokio::test(start_paused = true)]
async fn http_429_makes_every_attempt_behind_the_gate_rest_as_long_as_it_says() {
    let refusal = Script::refuse(429, &[("Retry-After", "7")], "too many connections");
    let server = start(ScriptedServer::builder().scripts([refusal, Script::echo()])).await;
    let limits = RateLimits::window(100, SECOND);
    let gate = Gate::new("address").limit(limits).expect("valid");
    let began = Instant::now();
    let first = begin(config(&server), &gate);
    sleep(SECOND).await;
    let limit = gate.status().limit.expect("a limit");
    assert!(limit.pools[0].paused_until.is_some());
    let second = connect(config(&server), &gate).await;
    assert!(second.state().is_live());
    assert!(began.elapsed() >= 7 * SECOND, "{:?}", began.elapsed());
    assert!(first.await.expect("a session").state().is_live());
    assert_eq!(arrivals(&server).len(), 3, "nobody came in between");
}

#[tokio::test(start_paused = true)]
async fn http_429_makes_requests_rest_as_long_as_it_says() {
    let refusal = Script::refuse(429, &[("Retry-After", "7")], "too fast");
    let server = start(ScriptedServer::builder().scripts([refusal, Script::echo()])).await;
    let limits = RateLimits::window(100, SECOND);
    let limiter = mainstay::Limiter::new("account", limits).expect("valid");
    let builder = config(&server).build().expect("valid");
    let began = Instant::now();
    let shared = limiter.clone();
    let starting = tokio::spawn(async move { Client::connect_sharing(builder, &shared).await });
    sleep(SECOND).await;
    limiter.acquire(1, LONG).await.expect("a turn");
    assert_eq!(began.elapsed().as_secs(), 7);
    assert!(starting.await.expect("a task").is_ok());
}

/// A server that says something on each connection, or nothing, and closes it after a second.
fn short(greeting: Option<&str>) -> Script {
    let script = match greeting {
        Some(text) => Script::new().send(text),
        None => Script::new(),
    };
    script.wait(SECOND).hang_up()
}

/// How many connections this server sees in five minutes of a backoff that doubles from 100 milliseconds, while the
/// session is used so.
async fn seen_in_five_minutes(
    script: Script,
    stable_by: StableBy,
    user: impl AsyncFnOnce(&Session),
) -> usize {
    let server = start(ScriptedServer::builder().script(script)).await;
    let backoff = Backoff::new(Duration::from_millis(100), 60 * SECOND).jitter(Jitter::None);
    let config = config(&server).backoff(backoff).stable_by(stable_by);
    let session = Client::connect_with(config.build().expect("valid")).await;
    let session = session.expect("a session");
    let _ = timeout(300 * SECOND, user(&session)).await;
    arrivals(&server).len()
}

async fn listen(session: &Session) {
    let _messages = session.messages();
    pending().await
}

#[tokio::test(start_paused = true)]
async fn the_first_valid_data_resets_the_attempts_where_that_is_asked_for() {
    // A second of connection and the first delay, each time: never without a pause.
    let often = 250..=275;
    let by_data = seen_in_five_minutes(short(Some("tick")), StableBy::Data, listen).await;
    assert!(often.contains(&by_data), "{by_data}");
    let answering = Script::new().await_message(Matcher::Any).reply(42);
    let by_answer = seen_in_five_minutes(answering.wait(SECOND).hang_up(), StableBy::Data, {
        async |session: &Session| loop {
            let _ = session.request::<u64>("ask", &()).await;
        }
    });
    let by_answer = by_answer.await;
    assert!(often.contains(&by_answer), "{by_answer}");
    let by_time = seen_in_five_minutes(short(Some("tick")), StableBy::Time, listen).await;
    assert!(by_time < 20, "{by_time}");
}

#[tokio::test(start_paused = true)]
async fn opening_and_closing_without_data_does_not_reset_the_attempts() {
    let silent = seen_in_five_minutes(short(None), StableBy::Data, listen).await;
    assert!(silent < 20, "{silent}");
    let pinging = Script::new().ping("are you there").wait(SECOND).hang_up();
    let pinging = seen_in_five_minutes(pinging, StableBy::Data, listen).await;
    assert!(pinging < 20, "a ping is no data: {pinging}");
    let unheard = short(Some("tick"));
    let unheard =
        seen_in_five_minutes(unheard, StableBy::Data, async |_: &Session| pending().await);
    let unheard = unheard.await;
    assert!(unheard < 20, "nobody has subscribed: {unheard}");
}

#[tokio::test(start_paused = true)]
async fn what_is_under_way_at_a_shutdown_has_a_fate_and_nobody_comes_back() {
    let silent = Script::new().expect_method("work");
    let server = start(ScriptedServer::builder().script(silent)).await;
    let session = Client::connect_with(config(&server).build().expect("valid")).await;
    let session = session.expect("a session");
    let asking = session.clone();
    let asked = tokio::spawn(async move { asking.request::<()>("work", &json!({})).await });
    server
        .wait_for(
            "the request",
            SECOND,
            |entry| matches!(&entry.kind, ReceivedKind::Text(text) if text.contains("work")),
        )
        .await
        .expect("the request");
    session.shutdown().await.expect("an own tree");
    let fate = asked.await.expect("a task").expect_err("no answer");
    assert!(matches!(fate, RequestError::Unknown { .. }), "{fate}");
    let late = session.request::<()>("work", &json!({})).await;
    let late = late.expect_err("the session is over");
    assert!(matches!(late, RequestError::NotSent { .. }), "{late}");
    sleep(LONG).await;
    assert_eq!(server.accepted(), 1);
}
