//! The catalogue against a life: each event of the table happens in one session's story, and nothing
//! happens that is not in the table.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mainstay::config::{BreakerPolicy, Ladder, Liveness, Overflow, Queue, RateLimits, Record};
use mainstay::hooks::{Admission, Hooks, RateLimitHook};
use mainstay::platform::{Batch, Call, JsonRpc, Platform, Route};
use mainstay::pool::{Pool, PoolSpec};
use mainstay::protocol::rpc::Class;
use mainstay::supervisors::Backoff;
use mainstay::telemetry::{Collector, TelemetryEvent};
use mainstay::testing::{Matcher, Script, ScriptedServer};
use mainstay::{
    Channel, Config, Event, Frame, Gate, MarketSignal, MetricsCollector, Session, SessionSpec,
    SubscribeOptions, Subscription,
};
use serde_json::json;
use tokio::sync::watch;
use tracing::field::{Field, Visit};
use tracing::{Metadata, Subscriber, span};

const LONG: Duration = Duration::from_secs(20);

/// Target and name.
type Name = (String, String);

/// Everything that is recorded under a target of ours.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<BTreeSet<Name>>>);

struct Message(String);

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        if field.name() == "message" {
            self.0 = format!("{value:?}");
        }
    }
}

impl Subscriber for Log {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("mainstay::")
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        let mut message = Message(String::new());
        event.record(&mut message);
        let name = (event.metadata().target().to_owned(), message.0);
        self.0.lock().expect("no record panics").insert(name);
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

/// Hears what has happened so far, and can be awaited.
#[derive(Debug)]
struct Ear(watch::Sender<BTreeSet<Name>>);

impl Ear {
    async fn hears(&self, target: &str, name: &str) {
        let wanted = (target.to_owned(), name.to_owned());
        let mut heard = self.0.subscribe();
        let heard = heard.wait_for(|heard| heard.contains(&wanted));
        let heard = tokio::time::timeout(LONG, heard).await;
        heard
            .unwrap_or_else(|_| panic!("{name} in time"))
            .expect("the sender lives");
    }
}

impl Collector for Ear {
    fn on_event(&self, session: &str, event: &TelemetryEvent<'_>) {
        assert_eq!(session, "bazaar");
        let name = (event.target().to_owned(), event.name().to_owned());
        self.0.send_modify(|heard| {
            heard.insert(name);
        });
    }
}

/// Panics at everything.
#[derive(Debug)]
struct Broken;

impl Collector for Broken {
    fn on_event(&self, _session: &str, _event: &TelemetryEvent<'_>) {
        // Without the hook, which would fill the test's output.
        std::panic::resume_unwind(Box::new("broken"));
    }
}

impl RateLimitHook for Broken {
    fn admit(&self, _call: &Call) -> Admission {
        std::panic::resume_unwind(Box::new("broken"));
    }
}

/// A venue with heartbeats, and one request for each channel.
#[derive(Debug)]
struct Bazaar;

impl Platform for Bazaar {
    fn name(&self) -> &str {
        "bazaar"
    }

    fn route<'f>(&self, frame: &'f [u8]) -> Route<'f> {
        match frame.starts_with(br#"{"method":"alive?"#) {
            true => Route::Heartbeat,
            false => JsonRpc.route(frame),
        }
    }

    fn heartbeat(&self, _frame: &[u8]) -> Option<Call> {
        Some(Call::bare("alive"))
    }

    fn subscribe(&self, channels: &[Arc<str>]) -> Vec<Batch> {
        let batch = |channel: &Arc<str>| {
            let call = Call::new("subscribe", &json!({ "channel": &**channel })).ok()?;
            Some(Batch::new(call, vec![Arc::clone(channel)]))
        };
        channels.iter().filter_map(batch).collect()
    }
}

fn published() -> BTreeSet<Name> {
    let rows = include_str!("../src/telemetry.rs").lines();
    let rows = rows.filter(|line| line.starts_with("//! | `mainstay::"));
    rows.map(|row| {
        let mut words = row.split('`').skip(1).step_by(2).map(str::to_owned);
        let (target, name) = (words.next(), words.next());
        (target.expect("a target"), name.expect("a name"))
    })
    .collect()
}

fn subscribe_to(channel: &str) -> Matcher {
    json!({ "method": "subscribe", "params": { "channel": channel } }).into()
}

async fn until_resynced(subscription: &mut Subscription<Frame>) {
    loop {
        let event = tokio::time::timeout(LONG, subscription.next()).await;
        match event.expect("an event in time") {
            Some(Event::Resynced(_)) => return,
            Some(_) => {}
            None => panic!("the subscription ended"),
        }
    }
}

/// A session whose peer answers when nobody waits any more, and which comes to another owner.
async fn late_answers_tell(ear: &Arc<Ear>) {
    let server = ScriptedServer::builder().script(Script::new());
    let server = server.start().await.expect("a server");
    let config = Config::builder(server.url())
        .collector(ear.clone())
        .build()
        .expect("valid");
    let session = Session::start(Bazaar, config).await.expect("a session");
    let mut peer = server.next_connection().await.expect("a connection");
    let call = session.call(Call::bare("slow"), Duration::from_millis(250));
    call.await.expect_err("no answer in time");
    let request = peer.recv_text().await.expect("a request");
    let request: serde_json::Value = serde_json::from_str(&request).expect("json");
    let answer = json!({ "jsonrpc": "2.0", "id": request["id"], "result": "ok" });
    peer.send_json(answer).await.expect("an open connection");
    ear.hears("mainstay::request", "answered late").await;
    let (session, ()) = session.hand_over((), LONG).receive("heir");
    ear.hears("mainstay::session", "ownership received").await;
    session.shutdown().await;
}

/// A session with a channel whose data is late, and a market of which something is said.
async fn silence_tells(ear: &Arc<Ear>) {
    let data = r#"{"jsonrpc":"2.0","method":"subscription","params":{"channel":"kept","data":1}}"#;
    let script = Script::new()
        .expect(subscribe_to("kept"))
        .reply("ok")
        .await_message(Matcher::method("wake"))
        .send(data);
    let server = ScriptedServer::builder().script(script);
    let server = server.start().await.expect("a server");
    let ladder = Ladder::default()
        .resubscribe(false)
        .probe(false)
        .reconnect(false);
    let config = Config::builder(server.url())
        .ladder(ladder)
        .collector(ear.clone())
        .build()
        .expect("valid");
    let session = Session::start(Bazaar, config).await.expect("a session");
    let options = SubscribeOptions::new().cadence(Duration::from_millis(50));
    let kept = session.subscribe_with(Channel::<Frame>::new("kept"), options);
    let kept = kept.await.expect("a subscription");
    ear.hears("mainstay::subscription", "stale").await;
    session.notify("wake", &json!({})).await.expect("written");
    ear.hears("mainstay::subscription", "fresh").await;
    session.market(MarketSignal::Closed { until: None });
    ear.hears("mainstay::session", "market said").await;
    drop(kept);
    session.shutdown().await;
}

/// A session with a limit of one request in 250 milliseconds, at which one may wait.
async fn limits_tell(ear: &Arc<Ear>) {
    let answer = |text: &str| {
        let request: serde_json::Value = serde_json::from_str(text).ok()?;
        let mut answer = json!({ "jsonrpc": "2.0", "id": request["id"] });
        match request["method"].as_str()? {
            "too fast" => answer["error"] = json!({ "code": 429, "message": "slow down" }),
            _ => answer["result"] = json!("ok"),
        }
        Some(answer.to_string())
    };
    let server = ScriptedServer::builder().respond(answer);
    let server = server.start().await.expect("a server");
    let limits = RateLimits::bucket(1, 1, Duration::from_millis(250))
        .queue(1)
        .pause(Duration::from_secs(5));
    let config = Config::builder(server.url())
        .rate_limits(limits)
        .collector(ear.clone())
        .build()
        .expect("valid");
    let session = Session::start(Bazaar, config).await.expect("a session");
    let (first, second, third) = tokio::join!(
        session.call(Call::bare("work"), LONG),
        session.call(Call::bare("work"), LONG),
        session.call(Call::bare("work"), LONG),
    );
    first.and(second).expect("a turn");
    third.expect_err("no room");
    session
        .call(Call::bare("too fast"), LONG)
        .await
        .expect_err("refused");
    let short = Duration::from_millis(20);
    session
        .call(Call::bare("late"), short)
        .await
        .expect_err("no turn while the limiter rests");
    let names = [
        "consumed",
        "refilled",
        "queued",
        "queue full",
        "expired",
        "pressure changed",
        "limited by the venue",
    ];
    for name in names {
        ear.hears("mainstay::limit", name).await;
    }
    let metrics = session.metrics();
    let counted = [
        ("tokens_consumed", 3),
        ("tokens_refilled", 2),
        ("requests_refused", 1),
        ("requests_expired", 1),
        ("limited_by_venue", 1),
        ("requests_sent", 3),
    ];
    for (name, count) in counted {
        assert_eq!(metrics.counter(name), Some(count), "{name}: {metrics:#?}");
    }
    // The second surely waited; the fourth did if the bucket had not been refilled yet.
    assert!((2..=3).contains(&metrics.requests_queued), "{metrics:#?}");
    session.shutdown().await;
}

/// A session that finds its gate's only place taken and its server away, and a gate whose breaker opens for that.
async fn gates_tell(ear: &Arc<Ear>) {
    let gate = Gate::observed("bazaar", [ear.clone() as Arc<dyn Collector>])
        .limit(RateLimits::window(1, Duration::from_millis(50)))
        .and_then(|gate| gate.breaker(BreakerPolicy::new(1, LONG).rest(Duration::from_millis(50))))
        .expect("valid");
    let server =
        ScriptedServer::builder().scripts([Script::refuse(503, &[], "later"), Script::new()]);
    let server = server.start().await.expect("a server");
    let config = Config::builder(server.url())
        .retry_first(true)
        .collector(ear.clone())
        .build()
        .expect("valid");
    let session = Session::start_sharing(Bazaar, config, &gate).await;
    let session = session.expect("a session");
    ear.hears("mainstay::gate", "breaker changed").await;
    ear.hears("mainstay::connection", "attempt postponed").await;
    let postponed = session.metrics().counter("attempts_postponed");
    assert!(postponed.is_some_and(|count| count >= 1));
    session.shutdown().await;
}

/// A session whose first endpoint refuses it, so that it goes to the second.
async fn endpoints_tell(ear: &Arc<Ear>) {
    let refusing = ScriptedServer::builder().script(Script::refuse(503, &[], "later"));
    let refusing = refusing.start().await.expect("a server");
    let willing = ScriptedServer::builder().script(Script::new());
    let willing = willing.start().await.expect("a server");
    let config = Config::builder(refusing.url())
        .fallbacks([willing.url()])
        .collector(ear.clone())
        .build()
        .expect("valid");
    let session = Session::start(Bazaar, config).await.expect("a session");
    ear.hears("mainstay::connection", "endpoint changed").await;
    let changes = session.metrics().counter("endpoint_changes");
    assert_eq!(changes, Some(1));
    session.shutdown().await;
}

/// A session whose consumer does not read, so that its queue fills up.
async fn queues_tell(ear: &Arc<Ear>) {
    let script = Script::new()
        .await_message(Matcher::method("wake"))
        .repeat(4, Script::new().send("news"));
    let server = ScriptedServer::builder().script(script);
    let server = server.start().await.expect("a server");
    let config = Config::builder(server.url())
        .collector(ear.clone())
        .build()
        .expect("valid");
    let session = Session::start(Bazaar, config).await.expect("a session");
    let unread = session.messages_with(Queue::new(5, Overflow::DropOldest));
    session.notify("wake", &json!({})).await.expect("written");
    ear.hears("mainstay::queue", "filling").await;
    assert_eq!(session.metrics().counter("queues_filling"), Some(1));
    drop(unread);
    session.shutdown().await;
}

/// A pool of two, of which the first loses a request with its connection.
async fn pools_tell(ear: &Arc<Ear>) {
    let cut = Script::new().await_message(Matcher::method("read")).reset();
    let answer = Script::new()
        .await_message(Matcher::method("read"))
        .reply("ok");
    let spec = PoolSpec::new()
        .name("bazaar")
        .collector(ear.clone())
        .on_connect(|_, _| std::panic::resume_unwind(Box::new("a hook's own fault")));
    let pool = Pool::start(spec).await.expect("a pool");
    let mut servers = Vec::new();
    for (id, scripts) in [("a", vec![cut, Script::new()]), ("b", vec![answer])] {
        let server = ScriptedServer::builder().scripts(scripts).start().await;
        let server = server.expect("a server");
        let config = Config::builder(server.url()).build().expect("valid");
        pool.add(id, JsonRpc, config).await.expect("a live session");
        servers.push(server);
    }
    pool.call(Call::bare("read"), Class::Idempotent, LONG)
        .await
        .expect("the other one answers");
    assert_eq!(pool.health().sessions.len(), 2);
    for name in ["routed", "failover", "health", "hook panicked"] {
        ear.hears("mainstay::pool", name).await;
    }
    let metrics = pool.metrics();
    for (name, count) in [("pool_routed", 2), ("pool_failovers", 1)] {
        assert_eq!(metrics.counter(name), Some(count), "{name}");
    }
    assert!(metrics.pool_hooks_panicked >= 1);
    pool.shutdown().await;
}

#[tokio::test]
async fn every_event_of_the_table_happens_and_every_event_that_happens_is_in_the_table() {
    let log = Log::default();
    tracing::subscriber::set_global_default(log.clone()).expect("the only one");
    let first = Script::new()
        .expect(subscribe_to("kept"))
        .reply("ok")
        .expect(subscribe_to("lost"))
        .reply("ok")
        .expect_method("never answered")
        .send(r#"{"method":"alive?"}"#)
        .await_message(Matcher::method("alive"))
        .reply("ok")
        .await_message(Matcher::method("cut off"))
        .reset();
    // Restored in part; then it answers pings for a while, and then nothing.
    let refuse = Script::new()
        .await_message(subscribe_to("lost"))
        .reply_error(-1, "no such channel");
    let second = Script::new()
        .expect(subscribe_to("kept"))
        .reply("ok")
        .repeat(3, refuse)
        .go_silent();
    let third = Script::refuse(503, &[], "later");
    let last = Script::new().expect(subscribe_to("kept")).reply("ok");
    let server = ScriptedServer::builder()
        .scripts([first, second, third, last])
        .start()
        .await
        .expect("a server");

    let ear = Arc::new(Ear(watch::Sender::default()));
    let shared = Arc::new(MetricsCollector::new());
    let config = Config::builder(server.url())
        .backoff(Backoff::new(
            Duration::from_millis(5),
            Duration::from_millis(50),
        ))
        .liveness(Liveness::new(
            Duration::from_millis(300),
            Duration::from_millis(300),
        ))
        .record(Record::to("/dev/full").flush_at(1))
        .collector(Arc::new(Broken))
        .collector(ear.clone())
        .collector(shared.clone())
        .build()
        .expect("valid");
    let spec = SessionSpec::new(|| Bazaar).hooks(Hooks::new().rate_limit(Broken));
    let session = spec.start_with(config).await.expect("a session");
    let mut kept = session
        .subscribe(Channel::<Frame>::new("kept"))
        .await
        .expect("a subscription");
    let lost = session
        .subscribe(Channel::<Frame>::new("lost"))
        .await
        .expect("a subscription");

    let short = Duration::from_millis(50);
    session
        .call(Call::bare("never answered"), short)
        .await
        .expect_err("no answer");
    ear.hears("mainstay::request", "timed out").await;
    ear.hears("mainstay::heartbeat", "answered").await;
    session
        .call(Call::bare("cut off"), LONG)
        .await
        .expect_err("no answer");
    until_resynced(&mut kept).await;
    ear.hears("mainstay::subscription", "restoration failed")
        .await;
    ear.hears("mainstay::heartbeat", "pong").await;
    until_resynced(&mut kept).await;
    drop(lost);
    drop(kept);
    ear.hears("mainstay::subscription", "removed").await;
    ear.hears("mainstay::recording", "recording interrupted")
        .await;
    session.shutdown().await;
    assert!(server.failures().is_empty(), "{:?}", server.failures());
    late_answers_tell(&ear).await;
    silence_tells(&ear).await;
    queues_tell(&ear).await;
    limits_tell(&ear).await;
    pools_tell(&ear).await;
    gates_tell(&ear).await;
    endpoints_tell(&ear).await;

    let happened = log.0.lock().expect("no record panics").clone();
    let published = published();
    let silent: Vec<_> = published.difference(&happened).collect();
    assert!(
        silent.is_empty(),
        "in the table, but did not happen: {silent:?}"
    );
    let unknown: Vec<_> = happened.difference(&published).collect();
    assert!(unknown.is_empty(), "not in the table: {unknown:?}");

    let metrics = session.metrics();
    for (name, least) in [
        ("connections_opened", 3),
        ("connections_closed", 3),
        ("connections_not_opened", 1),
        ("websocket_upgrades", 3),
        ("reconnects", 2),
        ("messages_sent", 10),
        ("messages_received", 8),
        ("bytes_sent", 100),
        ("bytes_received", 100),
        ("requests_resolved", 7),
        ("requests_timed_out", 1),
        ("requests_lost", 1),
        ("subscriptions_restored", 2),
        ("restorations_failed", 1),
        ("heartbeats_missed", 1),
        ("gaps", 3),
        ("errors_total", 4),
    ] {
        let count = metrics.counter(name);
        assert!(count >= Some(least), "{name}: {count:?}, {metrics:#?}");
        assert_eq!(shared.snapshot().counter(name), count, "{name}");
    }
    assert_eq!(metrics.counter("no such counter"), None);
    assert_eq!(metrics.errors.values().sum::<u64>(), metrics.errors_total);
    assert_eq!(metrics.latency.count, metrics.requests_resolved);
    assert_eq!(metrics.connect_time.count, 3);
    assert!(metrics.heartbeat.count >= 1);
    assert!(metrics.connected > Duration::ZERO);
}

/// Where connections were, and how long they took and lasted.
#[derive(Debug, Default)]
struct Places(Mutex<Vec<(String, u16, Duration)>>);

impl Collector for Places {
    fn on_event(&self, _session: &str, event: &TelemetryEvent<'_>) {
        let (host, port, time) = match *event {
            TelemetryEvent::Opened {
                host,
                port,
                connect_time,
                ..
            } => (host, port, connect_time),
            TelemetryEvent::Closed {
                host, port, open, ..
            } => (host, port, open),
            _ => return,
        };
        let place = (host.to_owned(), port, time);
        self.0.lock().expect("no event panics").push(place);
    }
}

#[tokio::test]
async fn the_opening_and_the_end_of_a_connection_say_where_and_how_long() {
    let server = ScriptedServer::builder().script(Script::new());
    let server = server.start().await.expect("a server");
    let places = Arc::new(Places::default());
    let config = Config::builder(server.url()).collector(places.clone());
    let config = config.build().expect("valid");
    let session = Session::start(JsonRpc, config).await.expect("a session");
    let handshake = session.handshake().expect("it is open");
    session.shutdown().await;
    let told = places.0.lock().expect("no event panics").clone();
    assert_eq!(told.len(), 2, "{told:?}");
    for (host, port, time) in &told {
        assert_eq!((&**host, *port), ("127.0.0.1", server.address().port()));
        assert!(*time > Duration::ZERO);
    }
    assert_eq!(told[0].2, handshake.in_all());
}
