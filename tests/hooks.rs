//! What a user hangs into a session: who is told what, whose answer counts, and what a panic comes to.
//!
//! Each test awaits events; none sleeps. Deadlines are only there so that a broken promise ends the test.
#![allow(
    clippy::expect_used,
    reason = "what is allowed in tests is not yet in their helpers"
)]

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use mainstay::adapters::deribit::{self, Deribit, Interval};
use mainstay::close::{CloseReason, GapCause};
use mainstay::config::{Profile, RateLimits, Settings};
use mainstay::error::{EndReason, RequestError, StartError};
use mainstay::hooks::{
    Admission, AuthHook, ConnectionHook, ErrorHook, Hooks, LogHook, MessageHook, RateLimitHook,
    Reaction, Remedy, SubscriptionHook,
};
use mainstay::platform::JsonRpc;
use mainstay::protocol::recording::Direction;
use mainstay::supervisors::{ShutdownPlan, Strategy, SupervisorSpec};
use mainstay::testing::deribit::{DeribitSimulator, Fault};
use mainstay::testing::{ReceivedKind, Responder, Script, ScriptedServer, ServerConnection};
use mainstay::{Call, Epoch, Event, Frame, Session, SessionSpec, Status, Transition};
use serde_json::{Value, json};
use tokio::sync::mpsc;

const LONG: Duration = Duration::from_secs(20);

/// Notes what it is told; answers by rule.
#[derive(Clone)]
struct Notes(mpsc::UnboundedSender<String>);

struct Told(mpsc::UnboundedReceiver<String>);

fn notes() -> (Notes, Told) {
    let (sender, receiver) = mpsc::unbounded_channel();
    (Notes(sender), Told(receiver))
}

impl Notes {
    fn take(&self, text: impl Into<String>) {
        // A test that is over takes no notes.
        let _ = self.0.send(text.into());
    }
}

impl Told {
    async fn next(&mut self) -> String {
        let next = tokio::time::timeout(LONG, self.0.recv()).await;
        next.expect("told in time").expect("somebody who tells")
    }

    /// Passes over what comes before it.
    async fn until(&mut self, awaited: &str) -> Vec<String> {
        let mut before = Vec::new();
        let deadline = tokio::time::Instant::now() + LONG;
        loop {
            let next = self.next().await;
            if next == awaited {
                return before;
            }
            before.push(next);
            let late = tokio::time::Instant::now() > deadline;
            assert!(!late, "{awaited:?} was not told, but {before:?}");
        }
    }

    fn rest(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.0.try_recv().ok()).collect()
    }
}

impl ConnectionHook for Notes {
    fn on_step(&self, step: &Transition) {
        self.take(format!("step {}", step.to));
    }

    fn on_live(&self, epoch: Epoch) -> Reaction {
        self.take(format!("live {epoch}"));
        Reaction::Reply(vec![Frame::text(format!("hello {epoch}"))])
    }

    fn on_lost(&self, reason: &CloseReason) {
        self.take(format!("lost {}", reason.label()));
    }

    fn on_end(&self, reason: &EndReason) {
        self.take(format!("end {reason}"));
    }
}

impl MessageHook for Notes {
    fn on_frame(&self, frame: &Frame) -> Reaction {
        match frame.payload() {
            b"secret" => Reaction::Discard,
            b"ping" => Reaction::Reply(vec![Frame::text("pong 1"), Frame::text("pong 2")]),
            b"close" => Reaction::Close(4000, "as told".into()),
            b"close wrongly" => Reaction::Close(1005, "no".into()),
            b"end" => Reaction::End(4001, "as told".into()),
            _ => Reaction::Pass,
        }
    }

    fn on_sent(&self, frame: &Frame) {
        self.take(format!("sent {}", text(frame)));
    }
}

impl SubscriptionHook for Notes {
    fn on_confirmed(&self, epoch: Epoch, channel: &str) {
        self.take(format!("confirmed {epoch} {channel}"));
    }

    fn on_refused(&self, epoch: Epoch, channel: &str, _: &str) {
        self.take(format!("refused {epoch} {channel}"));
    }

    fn on_gap(&self, epoch: Epoch, cause: &GapCause, subscriptions: u64) {
        self.take(format!("gap {epoch} {} {subscriptions}", cause.label()));
    }
}

impl AuthHook for Notes {
    fn on_granted(&self, epoch: Epoch, lasts: Option<Duration>) {
        self.take(format!("granted {epoch} {lasts:?}"));
    }

    fn on_refused(&self, epoch: Epoch, detail: &str) {
        self.take(format!("unauthorized {epoch} {}", detail.contains("13004")));
    }

    fn renew_after(&self, lasts: Duration) -> Option<Duration> {
        Some(lasts / 10)
    }
}

impl LogHook for Notes {
    fn on_step(&self, step: &Transition) {
        self.take(format!("log step {}", step.to));
    }

    fn on_message(&self, direction: Direction, frame: &Frame) {
        self.take(format!("log {direction:?} {}", text(frame)));
    }

    fn on_error(&self, error: &(dyn Error + 'static)) {
        self.take(format!("log error {error}"));
    }
}

fn text(frame: &Frame) -> String {
    String::from_utf8_lossy(frame.payload()).into_owned()
}

/// A server that accepts any number of connections and does as its handles say.
async fn server() -> ScriptedServer {
    let server = ScriptedServer::builder().script(Script::new());
    server.start().await.expect("a server")
}

/// A server that answers every request with 1, on two connections.
async fn answering() -> ScriptedServer {
    let answering = || {
        Script::responding(Responder::new(|text| {
            let request: Value = serde_json::from_str(text).ok()?;
            let answer = json!({"jsonrpc": "2.0", "id": request["id"], "result": 1});
            Some(answer.to_string())
        }))
    };
    let server = ScriptedServer::builder().scripts([answering(), answering()]);
    server.start().await.expect("a server")
}

fn quick(url: String) -> Settings {
    let text = format!(
        r#"{{"url": "{url}", "backoff": {{"min": "5ms", "max": "50ms"}}, "shutdown_timeout": "3s"}}"#
    );
    serde_json::from_str(&text).expect("settings")
}

async fn session(server: &ScriptedServer, hooks: Hooks) -> (Session, ServerConnection) {
    let spec = SessionSpec::new(|| JsonRpc).hooks(hooks);
    let session = spec.start(quick(server.url())).await.expect("a session");
    let peer = server.next_connection().await.expect("a connection");
    (session, peer)
}

fn faults(session: &Session) -> u64 {
    session.hooks().expect("hooks").faults
}

#[tokio::test]
async fn the_life_of_connections_is_told_in_order_and_the_end_comes_last() {
    let server = server().await;
    let (hook, mut told) = notes();
    let (session, mut peer) = session(&server, Hooks::new().connection(hook)).await;
    assert_eq!(peer.recv_text().await.expect("a greeting"), "hello 1");
    peer.hang_up().await.expect("an open connection");
    let mut peer = server.next_connection().await.expect("another");
    assert_eq!(peer.recv_text().await.expect("a greeting"), "hello 2");
    session.shutdown().await;
    let steps = told.until("end session was shut down on purpose").await;
    assert_eq!(
        steps,
        [
            "step connecting",
            "step establishing",
            "step live",
            "live 1",
            "step down",
            "lost eof",
            "step reconnecting",
            "step establishing",
            "step live",
            "live 2",
            "step down",
            "lost local",
            "step ended",
        ]
    );
    assert_eq!(told.rest(), [""; 0]);
    assert_eq!(faults(&session), 0);
}

#[tokio::test]
async fn a_frame_is_passed_answered_or_discarded_as_the_hook_says() {
    let server = server().await;
    let (hook, mut told) = notes();
    let (session, mut peer) = session(&server, Hooks::new().message(hook)).await;
    let mut messages = session.messages();
    for text in ["secret", "ping", "plain"] {
        peer.send_text(text).await.expect("an open connection");
    }
    for expected in ["ping", "plain"] {
        let event = messages.next().await.expect("an event");
        let Event::Data(data) = event else {
            panic!("expected data, found {event:?}");
        };
        assert_eq!(text(&data), expected);
    }
    for expected in ["pong 1", "pong 2"] {
        assert_eq!(peer.recv_text().await.expect("a reply"), expected);
        assert_eq!(told.next().await, format!("sent {expected}"));
    }
    let statistics = session.hooks().expect("hooks");
    assert_eq!((statistics.discarded, statistics.faults), (1, 0));
}

#[tokio::test]
async fn a_hook_closes_the_connection_or_ends_the_session() {
    let server = server().await;
    let (hook, _told) = notes();
    let (session, mut peer) = session(&server, Hooks::new().message(hook)).await;
    peer.send_text("close wrongly").await.expect("open");
    peer.send_text("close").await.expect("open");
    let closed = peer.expect_close(LONG).await.expect("a close frame");
    assert_eq!(closed, (Some(4000), "as told".into()));
    let mut peer = server.next_connection().await.expect("another");
    session.wait_for(Status::Live, LONG).await.expect("live");
    let history = session.history();
    assert!(
        history
            .iter()
            .any(|step| step.to_string().contains("closed by a hook: as told")),
        "{history:?}"
    );
    assert_eq!(faults(&session), 1, "a code that RFC 6455 forbids");
    peer.send_text("end").await.expect("open");
    let closed = peer.expect_close(LONG).await.expect("a close frame");
    assert_eq!(closed, (Some(4001), "as told".into()));
    let end = session.ended().await;
    assert!(
        matches!(&end, EndReason::Fatal(CloseReason::Hook { reason, ends: true }) if reason == "as told"),
        "{end:?}"
    );
}

/// More than the backoff of these tests asks for.
const PAUSE: Duration = Duration::from_millis(100);

/// Stops at the loss of this number; retries before, whatever the cause.
struct Patience(u32, Notes);

impl ErrorHook for Patience {
    fn on_loss(&self, reason: &CloseReason, losses: u32) -> Remedy {
        self.1.take(format!("{losses} {}", reason.label()));
        match losses {
            last if last == self.0 => Remedy::Stop,
            _ => Remedy::RetryAfter(PAUSE),
        }
    }

    fn on_request_error(&self, error: &RequestError) {
        self.1.take(error.explain().code);
    }
}

#[tokio::test]
async fn a_hook_retries_what_would_have_ended_and_ends_what_would_have_gone_on() {
    let refuse = || Script::refuse(401, &[], "no");
    let server = ScriptedServer::builder()
        .scripts([Script::new(), refuse(), refuse(), refuse()])
        .start()
        .await
        .expect("a server");
    let (hook, mut told) = notes();
    let hooks = Hooks::new().error(Patience(3, hook));
    let (session, peer) = session(&server, hooks).await;
    let began = tokio::time::Instant::now();
    peer.hang_up().await.expect("open");
    let end = session.ended().await;
    assert!(began.elapsed() >= 2 * PAUSE, "the hook's delays count");
    assert!(
        matches!(&end, EndReason::Fatal(CloseReason::NotOpened(_))),
        "{end:?}"
    );
    assert_eq!(told.rest(), ["1 eof", "2 not_opened", "3 not_opened"]);
    assert_eq!(server.accepted(), 3);
    let error = session
        .request::<Value>("late", &json!({}))
        .await
        .expect_err("over");
    assert_eq!(told.next().await, error.explain().code);
}

/// Refuses one method, lets another pass free.
struct Gate;

impl RateLimitHook for Gate {
    fn admit(&self, call: &Call) -> Admission {
        match call.method() {
            "forbidden" => Admission::Refuse("not by this program".into()),
            "cancel" => Admission::Free,
            _ => Admission::Usual,
        }
    }
}

#[tokio::test]
async fn a_hook_refuses_a_request_or_lets_it_pass_free() {
    let server = answering().await;
    let limits = RateLimits::bucket(1, 1, Duration::from_secs(3600));
    let settings = Settings {
        rate_limits: Some(Some(limits)),
        ..quick(server.url())
    };
    let spec = SessionSpec::new(|| JsonRpc).hooks(Hooks::new().rate_limit(Gate));
    let session = spec.start(settings).await.expect("a session");
    let ask = async |method: &'static str| session.request::<Value>(method, &json!({})).await;
    let error = ask("forbidden").await.expect_err("refused");
    assert!(matches!(error, RequestError::NotSent { .. }), "{error:?}");
    assert!(error.to_string().contains("not by this program"), "{error}");
    let batch = [Call::bare("work"), Call::bare("forbidden")];
    for outcome in session.batch(batch, LONG).await {
        let error = outcome.expect_err("refused as a whole");
        assert!(error.to_string().contains("forbidden"), "{error}");
    }
    let received = format!("{:?}", server.received());
    assert!(!received.contains("method"), "{received}");
    ask("work").await.expect("the only token");
    ask("cancel").await.expect("free");
    let work = session.call(Call::bare("work"), Duration::from_millis(50));
    let error = work.await.expect_err("no token for an hour");
    assert!(matches!(error, RequestError::NotSent { .. }), "{error:?}");
}

#[tokio::test]
async fn grants_confirmations_refusals_and_gaps_are_told() {
    let life = Duration::from_secs(4);
    let venue = DeribitSimulator::builder()
        .token_life(life)
        .tick_interval(Duration::from_millis(10));
    let venue = venue.start().await.expect("a venue");
    let (hook, mut told) = notes();
    let hooks = Hooks::new().auth(hook.clone()).subscription(hook);
    let spec = SessionSpec::new(|| {
        let deribit = Deribit::builder().credentials("id", "secret");
        deribit.build().expect("a valid adapter")
    });
    let spec = spec.hooks(hooks);
    let session = spec.start(quick(venue.url())).await.expect("a session");
    assert_eq!(told.next().await, format!("granted 1 {:?}", Some(life)));
    let channel = deribit::ticker("BTC-PERPETUAL", Interval::Ms100);
    let name = channel.name().to_string();
    let _ticker = session.subscribe(channel).await.expect("a subscription");
    // Renewed after a tenth of its life, where the library would wait for four fifths.
    let before = told.until(&format!("granted 1 {:?}", Some(life))).await;
    assert!(
        before.contains(&format!("confirmed 1 {name}")),
        "{before:?}"
    );
    let unknown = deribit::ticker("NO-SUCH", Interval::Ms100);
    let refused = format!("refused 1 {}", unknown.name());
    session.subscribe(unknown).await.expect_err("refused");
    told.until(&refused).await;
    assert_eq!(venue.inject(Fault::HangUp), 1);
    told.until("gap 1 eof 1").await;
    told.until(&format!("confirmed 2 {name}")).await;
    session.shutdown().await;
}

#[tokio::test]
async fn a_refusal_of_credentials_is_told() {
    let venue = DeribitSimulator::builder().start().await.expect("a venue");
    let (hook, mut told) = notes();
    let spec = SessionSpec::new(|| {
        let deribit = Deribit::builder().credentials("id", "wrong");
        deribit.build().expect("a valid adapter")
    });
    let spec = spec.hooks(Hooks::new().auth(hook));
    let error = spec.start(quick(venue.url())).await.expect_err("refused");
    assert!(matches!(error, StartError::Refused { .. }), "{error:?}");
    assert_eq!(told.next().await, "unauthorized 1 true");
}

#[tokio::test]
async fn a_log_of_ones_own_sees_steps_messages_and_errors_and_no_credential() {
    let venue = DeribitSimulator::builder().start().await.expect("a venue");
    let (hook, mut told) = notes();
    let spec = SessionSpec::new(|| {
        let deribit = Deribit::builder().credentials("id", "secret");
        deribit.build().expect("a valid adapter")
    });
    let spec = spec.hooks(Hooks::new().log(hook));
    let session = spec.start(quick(venue.url())).await.expect("a session");
    let wrong = session.request::<Value>("public/no_such", &json!({})).await;
    let error = wrong.expect_err("no such method");
    session.shutdown().await;
    let mut log = told.until("log step ended").await;
    log.extend(told.rest());
    assert!(log.contains(&"log step live".to_owned()), "{log:?}");
    assert!(log.contains(&format!("log error {error}")), "{log:?}");
    let sent = |method: &str| {
        let mut out = log.iter().filter(|line| line.starts_with("log Out"));
        out.any(|line| line.contains(method))
    };
    assert!(sent("public/hello"));
    assert!(sent("public/no_such"));
    assert!(!sent("public/auth"));
    for line in &log {
        assert!(
            !line.contains("secret") && !line.contains("token"),
            "{line}"
        );
    }
}

/// Panics wherever it is called.
#[derive(Clone)]
struct Bomb(Arc<AtomicU32>);

impl Bomb {
    fn go_off(&self) -> ! {
        self.0.fetch_add(1, Ordering::Relaxed);
        panic!("a hook's own fault")
    }
}

impl ConnectionHook for Bomb {
    fn on_step(&self, _: &Transition) {
        self.go_off()
    }

    fn on_live(&self, _: Epoch) -> Reaction {
        self.go_off()
    }

    fn on_lost(&self, _: &CloseReason) {
        self.go_off()
    }

    fn on_end(&self, _: &EndReason) {
        self.go_off()
    }
}

impl MessageHook for Bomb {
    fn on_frame(&self, _: &Frame) -> Reaction {
        self.go_off()
    }

    fn on_sent(&self, _: &Frame) {
        self.go_off()
    }
}

impl SubscriptionHook for Bomb {
    fn on_confirmed(&self, _: Epoch, _: &str) {
        self.go_off()
    }

    fn on_refused(&self, _: Epoch, _: &str, _: &str) {
        self.go_off()
    }

    fn on_gap(&self, _: Epoch, _: &GapCause, _: u64) {
        self.go_off()
    }
}

impl AuthHook for Bomb {
    fn on_granted(&self, _: Epoch, _: Option<Duration>) {
        self.go_off()
    }

    fn on_refused(&self, _: Epoch, _: &str) {
        self.go_off()
    }

    fn renew_after(&self, _: Duration) -> Option<Duration> {
        self.go_off()
    }
}

impl ErrorHook for Bomb {
    fn on_loss(&self, _: &CloseReason, _: u32) -> Remedy {
        self.go_off()
    }

    fn on_request_error(&self, _: &RequestError) {
        self.go_off()
    }
}

impl RateLimitHook for Bomb {
    fn admit(&self, _: &Call) -> Admission {
        self.go_off()
    }
}

impl LogHook for Bomb {
    fn on_step(&self, _: &Transition) {
        self.go_off()
    }

    fn on_message(&self, _: Direction, _: &Frame) {
        self.go_off()
    }

    fn on_error(&self, _: &(dyn Error + 'static)) {
        self.go_off()
    }
}

#[tokio::test]
async fn hooks_that_panic_at_every_call_change_nothing_and_are_counted() {
    let venue = DeribitSimulator::builder().tick_interval(Duration::from_millis(10));
    let venue = venue.start().await.expect("a venue");
    let bomb = Bomb(Arc::default());
    let hooks = Hooks::new()
        .connection(bomb.clone())
        .message(bomb.clone())
        .subscription(bomb.clone())
        .auth(bomb.clone())
        .error(bomb.clone())
        .rate_limit(bomb.clone())
        .log(bomb.clone());
    let spec = SessionSpec::new(|| {
        let deribit = Deribit::builder().credentials("id", "secret");
        deribit.build().expect("a valid adapter")
    });
    let spec = spec.hooks(hooks);
    let session = spec.start(quick(venue.url())).await.expect("a session");
    let channel = deribit::ticker("BTC-PERPETUAL", Interval::Ms100);
    let mut ticker = session.subscribe(channel).await.expect("a subscription");
    let time: Value = session
        .request("public/get_time", &json!({}))
        .await
        .expect("an answer");
    assert!(time.is_number());
    session
        .request::<Value>("public/no_such", &json!({}))
        .await
        .expect_err("no such method");
    venue.inject(Fault::HangUp);
    let mut seen = Vec::new();
    while seen != ["data", "gap", "resynced", "data"] {
        let label = match ticker.next().await.expect("an event") {
            Event::Data(_) => "data",
            Event::Gap(_) => "gap",
            Event::Resynced(_) => "resynced",
            other => panic!("unexpected {other:?}"),
        };
        if seen.last() != Some(&label) {
            seen.push(label);
        }
    }
    session.shutdown().await;
    let statistics = session.hooks().expect("hooks");
    assert!(statistics.faults > 20, "{statistics:?}");
    assert_eq!(statistics.lost, 0);
    assert!(u64::from(bomb.0.load(Ordering::Relaxed)) >= statistics.faults);
    let panics = session.statistics().restarts;
    assert!(
        panics.is_empty() || !format!("{panics:?}").contains("client"),
        "{panics:?}"
    );
}

#[tokio::test]
async fn replies_beyond_what_may_wait_are_faults_and_not_memory() {
    struct Flood;
    impl MessageHook for Flood {
        fn on_frame(&self, _: &Frame) -> Reaction {
            Reaction::Reply(vec![Frame::text("x"); 1_000])
        }
    }
    let server = server().await;
    let (session, mut peer) = session(&server, Hooks::new().message(Flood)).await;
    peer.send_text("go").await.expect("open");
    assert_eq!(
        peer.recv().await.expect("a reply"),
        ReceivedKind::Text("x".into())
    );
    let faults = faults(&session);
    assert!((700..1_000).contains(&faults), "{faults}");
}

#[tokio::test]
async fn sessions_of_one_spec_share_preset_and_hooks_and_each_may_say_otherwise() {
    let server = answering().await;
    let (hook, mut told) = notes();
    let spec = SessionSpec::new(|| JsonRpc)
        .profile(Profile::Financial)
        .preset(Settings {
            request_timeout: Some(Duration::from_secs(3)),
            ..Settings::default()
        })
        .hooks(Hooks::new().connection(hook));
    let one = spec.start(quick(server.url())).await.expect("a session");
    assert_eq!(one.config().request_timeout, Duration::from_secs(3));
    told.until("live 1").await;
    let own = Settings {
        request_timeout: Some(LONG),
        ..quick(server.url())
    };
    let (two, child) = spec.supervised("two", own).expect("valid");
    let tree = SupervisorSpec::new(Strategy::OneForOne).child(child);
    let tree = tree.start().await.expect("a tree");
    two.live().await.expect("live");
    told.until("live 1").await;
    assert_eq!(two.config().request_timeout, LONG);
    let explained = two.config().explain().to_string();
    let row = |option: &str| {
        let mut lines = explained.lines();
        lines
            .find(|line| line.contains(option))
            .expect("a row")
            .to_owned()
    };
    assert!(row("request_timeout").contains("user"), "{explained}");
    assert!(explained.contains("preset"), "{explained}");
    let wrong = spec.config(Settings::default()).expect_err("no url");
    assert!(wrong.to_string().contains("url"), "{wrong}");
    let everything = SessionSpec::new(|| JsonRpc).preset(quick(server.url()));
    let three = everything.start(Settings::default()).await;
    three
        .expect("the url stands in the preset")
        .shutdown()
        .await;
    tree.shutdown(ShutdownPlan::default()).await;
    one.shutdown().await;
}
