//! Sessions that may connect to several places: which one they go to when one is down, and how they come back.
//!
//! In memory and under paused time; what is counted is counted by the servers.
#![allow(
    clippy::expect_used,
    reason = "what is allowed in tests is not yet in their helpers"
)]

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mainstay::close::{CloseReason, GapCause};
use mainstay::config::{BreakerPolicy, ConfigBuilder, ReconnectOwner};
use mainstay::connector::{Connected, Connector};
use mainstay::error::{ConnectError, EndReason, RequestError, StartError};
use mainstay::platform::JsonRpc;
use mainstay::protocol::breaker::BreakerState;
use mainstay::supervisors::{Backoff, Jitter};
use mainstay::telemetry::{Collector, TelemetryEvent};
use mainstay::testing::{Disconnect, Matcher, ReceivedKind, Script, ScriptedServer};
use mainstay::{
    Call, Client, Config, Event, Frame, Gate, Session, SessionState, Subscription, Why,
};
use tokio::time::{Instant, sleep, timeout};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const LONG: Duration = Duration::from_secs(3600);

/// Brings a session to the server that bears the name of the URL's host; nobody is reached who is not there.
#[derive(Debug, Default)]
struct Hosts(Mutex<BTreeMap<String, Arc<dyn Connector>>>);

impl Hosts {
    fn up(&self, host: &str, server: &ScriptedServer) {
        let connector = server.connector().expect("in memory");
        let mut hosts = self.0.lock().expect("no panic");
        hosts.insert(host.to_owned(), connector);
    }

    fn down(&self, host: &str) {
        self.0.lock().expect("no panic").remove(host);
    }
}

impl Connector for Hosts {
    fn connect<'a>(
        &'a self,
        host: &'a str,
        port: u16,
    ) -> Pin<Box<dyn Future<Output = io::Result<Connected>> + Send + 'a>> {
        let found = self.0.lock().expect("no panic").get(host).cloned();
        Box::pin(async move {
            match found {
                Some(server) => server.connect(host, port).await,
                None => Err(io::ErrorKind::ConnectionRefused.into()),
            }
        })
    }
}

/// Two servers, both up.
async fn two(first: Script, second: Script) -> (Arc<Hosts>, ScriptedServer, ScriptedServer) {
    let hosts = Arc::<Hosts>::default();
    let start = async |script| {
        let builder = ScriptedServer::builder().in_memory(true).script(script);
        builder.start().await.expect("a server")
    };
    let (first, second) = (start(first).await, start(second).await);
    hosts.up("first", &first);
    hosts.up("second", &second);
    (hosts, first, second)
}

fn config(hosts: &Arc<Hosts>) -> ConfigBuilder {
    let delay = Duration::from_millis(100);
    Config::builder("ws://first/?token=s3cret")
        .fallbacks(["ws://second/?token=s3cret"])
        .connector(Arc::clone(hosts) as Arc<dyn Connector>)
        .reconnect_owner(ReconnectOwner::Client)
        .start_timeout(LONG)
        .backoff(Backoff::new(delay, delay).jitter(Jitter::None))
}

async fn connect(builder: ConfigBuilder) -> Session {
    let config = builder.build().expect("valid");
    Client::connect_with(config).await.expect("a session")
}

/// The URL of the place that the session is at.
fn place(session: &Session) -> String {
    let endpoints = session.endpoints().into_iter();
    let mut present = endpoints.filter(|one| one.present);
    let found = present.next().expect("one is");
    assert!(present.next().is_none(), "one only");
    found.endpoint
}

fn scores(session: &Session) -> Vec<u8> {
    let endpoints = session.endpoints().into_iter();
    endpoints.map(|one| one.score).collect()
}

async fn live_in(session: &Session, epoch: u64) {
    let mut steps = session.watch();
    let live = steps.wait_for(
        |state| matches!(state, SessionState::Live { epoch: live } if live.as_u64() >= epoch),
    );
    timeout(LONG, live)
        .await
        .expect("in time")
        .expect("a session");
}

async fn next_gap(messages: &mut Subscription<Frame>) -> GapCause {
    loop {
        let event = timeout(SECOND, messages.next()).await.expect("at once");
        if let Event::Gap(gap) = event.expect("it goes on") {
            return gap.cause;
        }
    }
}

fn accepted(server: &ScriptedServer) -> Vec<Instant> {
    let received = server.received().into_iter();
    let accepted = received.filter(|one| matches!(one.kind, ReceivedKind::Accepted));
    accepted.map(|one| one.at).collect()
}

#[tokio::test(start_paused = true)]
async fn a_start_tries_each_endpoint_before_it_fails() {
    let (hosts, first, second) = two(Script::echo(), Script::echo()).await;
    hosts.down("first");
    let session = connect(config(&hosts)).await;
    assert_eq!(place(&session), "ws://second/?…");
    assert_eq!((first.accepted(), second.accepted()), (0, 1));

    hosts.down("second");
    let error = Client::connect_with(config(&hosts).build().expect("valid")).await;
    assert!(
        matches!(&error, Err(StartError::Connect(ConnectError::Tcp { address, .. })) if address.starts_with("second")),
        "{error:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_session_whose_endpoint_is_down_goes_to_the_next_one_and_says_so() {
    #[derive(Debug, Default)]
    struct Moves(Mutex<Vec<(String, String, &'static str)>>);
    impl Collector for Moves {
        fn on_event(&self, _: &str, event: &TelemetryEvent<'_>) {
            if let TelemetryEvent::EndpointChanged {
                endpoint,
                previous,
                why,
                ..
            } = event
            {
                let moved = (previous.to_string(), endpoint.to_string(), *why);
                self.0.lock().expect("no panic").push(moved);
            }
        }
    }
    let (hosts, first, second) = two(Script::echo(), Script::echo()).await;
    let moves = Arc::<Moves>::default();
    let collector = Arc::clone(&moves) as Arc<dyn Collector>;
    let session = connect(config(&hosts).collector(collector)).await;
    assert_eq!(place(&session), "ws://first/?…");
    assert_eq!(scores(&session), [100, 100]);
    sleep(20 * SECOND).await;
    hosts.down("first");
    first.disconnect(Disconnect::Abrupt).await;
    live_in(&session, 2).await;
    assert_eq!(place(&session), "ws://second/?…");
    assert_eq!(scores(&session), [50, 100]);
    assert_eq!(second.accepted(), 1);
    let seen = session.inspect().await;
    assert_eq!(seen.endpoint, "ws://second/?…");
    assert_eq!(seen.endpoints, session.endpoints());
    let text = seen.to_string();
    assert!(
        text.contains("- endpoint ws://first/?…: score 50"),
        "{text}"
    );
    assert!(
        text.contains("* endpoint ws://second/?…: score 100"),
        "{text}"
    );
    let json = serde_json::to_string(&seen).expect("it can be written");
    assert!(!json.contains("s3cret") && !format!("{session:?}").contains("s3cret"));
    let moved = moves.0.lock().expect("no panic").clone();
    let urls = ("ws://first/?…".to_owned(), "ws://second/?…".to_owned());
    assert_eq!(moved, [(urls.0, urls.1, "failover")]);
    assert_eq!(session.metrics().endpoint_changes, 1);
}

#[tokio::test(start_paused = true)]
async fn a_session_goes_back_when_the_first_endpoint_answers_again() {
    let (hosts, first, second) = two(Script::echo(), Script::echo()).await;
    let session = connect(config(&hosts).fail_back_after(Some(MINUTE))).await;
    let mut messages = session.messages();
    hosts.down("first");
    first.disconnect(Disconnect::Abrupt).await;
    live_in(&session, 2).await;
    let cause = next_gap(&mut messages).await;
    assert_eq!(cause.label(), "reset");
    let since = Instant::now();
    // It looks twice in vain, each time after a minute and up to half of one more.
    sleep(200 * SECOND).await;
    assert_eq!(place(&session), "ws://second/?…");
    assert_eq!(second.connections(), 1);
    hosts.up("first", &first);
    live_in(&session, 3).await;
    assert!(since.elapsed() <= 200 * SECOND + MINUTE * 3 / 2);
    assert_eq!(place(&session), "ws://first/?…");
    assert_eq!(scores(&session), [100, 100]);
    assert_eq!((first.connections(), second.connections()), (1, 0));
    // The probe was an attempt of its own, and nothing was closed before it.
    assert_eq!(first.accepted(), 3);
    let cause = next_gap(&mut messages).await;
    assert!(
        matches!(cause, GapCause::ConnectionLost(CloseReason::FailBack)),
        "{cause:?}"
    );
    let history = session.history();
    let told = history
        .iter()
        .any(|step| matches!(step.why, Why::Closed(CloseReason::FailBack)));
    assert!(told, "{history:?}");
    let close = second
        .received()
        .into_iter()
        .rev()
        .find_map(|one| match one.kind {
            ReceivedKind::Close { code, .. } => Some(code),
            _ => None,
        });
    assert_eq!(close, Some(Some(1000)));
}

#[tokio::test(start_paused = true)]
async fn under_layer_2_a_session_goes_back_too() {
    let (hosts, first, second) = two(Script::echo(), Script::echo()).await;
    hosts.down("first");
    let config = config(&hosts).reconnect_owner(ReconnectOwner::Adapter);
    let session = Session::start(JsonRpc, config.build().expect("valid")).await;
    let session = session.expect("a session");
    assert_eq!(place(&session), "ws://second/?…");
    hosts.up("first", &first);
    live_in(&session, 2).await;
    assert_eq!(place(&session), "ws://first/?…");
    assert_eq!(second.connections(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_certificate_that_is_refused_passes_the_endpoint_over() {
    let builder = ScriptedServer::builder().tls(true).in_memory(true);
    let strange = builder.script(Script::echo()).start().await;
    let strange = strange.expect("a server");
    let (hosts, _first, second) = two(Script::echo(), Script::echo()).await;
    hosts.up("first", &strange);
    let config = Config::builder("wss://first/")
        .fallbacks(["ws://second/"])
        .connector(Arc::clone(&hosts) as Arc<dyn Connector>)
        .reconnect_owner(ReconnectOwner::Client);
    let session = connect(config).await;
    assert_eq!(place(&session), "ws://second/");
    let first = &session.endpoints()[0];
    assert!(first.refused && first.score < 10, "{first:?}");
    assert_eq!(second.connections(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_session_that_goes_back_waits_for_the_answers_that_are_under_way() {
    let answer = Script::new()
        .await_message(Matcher::Any)
        .wait(5 * SECOND)
        .reply(42);
    let (hosts, first, second) = two(Script::echo(), Script::new().repeat(50, answer)).await;
    hosts.down("first");
    let session = connect(config(&hosts).fail_back_after(Some(MINUTE))).await;
    hosts.up("first", &first);
    let mut answers = 0;
    while place(&session) == "ws://second/?…" {
        // One is under way nearly always, whenever the time has come.
        let order = Call::new("order", &()).expect("a call");
        let answer = session.call(order, MINUTE).await;
        assert!(answer.is_ok(), "{answer:?}");
        answers += 1;
        sleep(SECOND).await;
    }
    assert!(answers >= 10, "{answers}");
    live_in(&session, 2).await;
    assert_eq!(second.connections(), 0);
}

#[tokio::test(start_paused = true)]
async fn what_is_never_answered_does_not_hold_the_way_back_up_and_is_told_its_fate() {
    let mute = Script::new().await_close();
    let (hosts, first, _second) = two(Script::echo(), mute).await;
    hosts.down("first");
    let builder = config(&hosts)
        .fail_back_after(Some(MINUTE))
        .request_timeout(5 * SECOND);
    let session = connect(builder).await;
    hosts.up("first", &first);
    let call = Call::new("order", &()).expect("a call");
    let answer = session.call(call, LONG).await;
    assert!(
        matches!(answer, Err(RequestError::Unknown { .. })),
        "{answer:?}"
    );
    live_in(&session, 2).await;
    assert_eq!(place(&session), "ws://first/?…");
}

#[tokio::test(start_paused = true)]
async fn without_fail_back_a_session_stays_where_it_is() {
    let (hosts, first, _second) = two(Script::echo(), Script::echo()).await;
    hosts.down("first");
    let session = connect(config(&hosts).fail_back_after(None)).await;
    hosts.up("first", &first);
    sleep(LONG).await;
    assert_eq!(place(&session), "ws://second/?…");
    assert_eq!(first.accepted(), 0, "nobody has looked");
}

#[tokio::test(start_paused = true)]
async fn what_refuses_for_good_is_passed_over_until_all_do() {
    let (hosts, first, second) = two(Script::refuse(403, &[], "no"), Script::echo()).await;
    let session = connect(config(&hosts).fail_back_after(None)).await;
    assert_eq!(place(&session), "ws://second/?…");
    assert!(session.endpoints()[0].refused);
    for epoch in 2..5 {
        second.disconnect(Disconnect::Abrupt).await;
        live_in(&session, epoch).await;
    }
    assert_eq!(first.accepted(), 1, "once was enough");
    second.push_script(Script::refuse(404, &[], "no"));
    second.disconnect(Disconnect::Abrupt).await;
    let end = timeout(MINUTE, session.ended()).await.expect("at once");
    assert!(
        matches!(&end, EndReason::Fatal(CloseReason::NotOpened(error))
            if matches!(&**error, ConnectError::Refused { response } if response.status == 404)),
        "{end:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn one_that_refused_for_good_is_gone_back_to_when_it_answers_after_all() {
    let (hosts, first, _second) = two(Script::refuse(401, &[], "no"), Script::echo()).await;
    let session = connect(config(&hosts)).await;
    assert_eq!(place(&session), "ws://second/?…");
    first.push_script(Script::echo());
    live_in(&session, 2).await;
    assert_eq!(place(&session), "ws://first/?…");
    assert!(!session.endpoints()[0].refused);
}

#[tokio::test(start_paused = true)]
async fn retry_after_holds_for_the_endpoint_that_said_so_alone() {
    let busy = Script::refuse(503, &[("Retry-After", "600")], "busy");
    let (hosts, _first, second) = two(busy, Script::echo()).await;
    let began = Instant::now();
    let session = connect(config(&hosts)).await;
    assert!(began.elapsed() < SECOND, "{:?}", began.elapsed());
    assert_eq!(place(&session), "ws://second/?…");
    let rests = session.endpoints()[0].rests_for.expect("it rests");
    assert!(rests > 500 * SECOND);
    second.push_script(Script::refuse(503, &[("Retry-After", "30")], "busy"));
    second.push_script(Script::echo());
    second.disconnect(Disconnect::Abrupt).await;
    let lost = Instant::now();
    live_in(&session, 2).await;
    assert_eq!(lost.elapsed().as_secs(), 30, "the first that is ready");
    assert_eq!(place(&session), "ws://second/?…");
}

#[tokio::test(start_paused = true)]
async fn a_breaker_is_the_endpoints_own_and_turns_all_to_the_other_one() {
    let (hosts, first, second) = two(Script::refuse(503, &[], "down"), Script::echo()).await;
    let policy = BreakerPolicy::new(3, LONG).rest(LONG);
    let gate = Gate::new("venue").breaker(policy).expect("valid");
    let mut sessions = Vec::new();
    for _ in 0..10 {
        let config = config(&hosts).fail_back_after(None).build();
        let session = Client::connect_sharing(config.expect("valid"), &gate).await;
        sessions.push(session.expect("a session"));
    }
    assert_eq!(first.accepted(), 3, "the others were spared that");
    assert_eq!(second.connections(), 10);
    let status = gate.status();
    assert_eq!(status.breaker, Some(BreakerState::Open));
    let states: Vec<_> = status
        .breakers
        .iter()
        .map(|(of, is)| (&**of, *is))
        .collect();
    let expected = [
        ("first:80", BreakerState::Open),
        ("second:80", BreakerState::Closed),
    ];
    assert_eq!(states, expected);
    assert_eq!(sessions[9].metrics().attempts_postponed, 0);
}

#[tokio::test(start_paused = true)]
async fn a_return_that_does_not_last_makes_the_next_one_later() {
    let (hosts, first, second) = two(Script::new().hang_up(), Script::echo()).await;
    hosts.down("first");
    let session = connect(config(&hosts).fail_back_after(Some(MINUTE))).await;
    hosts.up("first", &first);
    sleep(LONG).await;
    // After 1, 2, 4, 8, 16, 16 … minutes and up to half of each; each time a probe and an attempt.
    let tried = accepted(&first).len();
    assert!((8..=12).contains(&tried), "{tried}");
    assert_eq!(place(&session), "ws://second/?…");
    assert_eq!(second.connections(), 1);
}
