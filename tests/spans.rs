//! The spans of a session as a subscriber of `tracing` sees them: which there are, what lies in what, when
//! they end, and what they never say.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use mainstay::adapters::deribit::{self, Deribit, Interval};
use mainstay::config::{Overflow, Queue, Tls};
use mainstay::error::DecodeError;
use mainstay::supervisors::Backoff;
use mainstay::testing::deribit::{DeribitSimulator, Fault};
use mainstay::testing::{Matcher, Script, ScriptedServer, ScriptedServerBuilder};
use mainstay::{Call, Channel, Client, Config, Event, Frame, Message, Session};
use serde_json::json;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Instrument, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;

const LONG: Duration = Duration::from_secs(20);

/// One span, with what has become of it.
#[derive(Debug, Clone, Default)]
struct Seen {
    name: &'static str,
    target: String,
    /// Places in the list of all.
    parent: Option<usize>,
    follows: Vec<usize>,
    fields: BTreeMap<&'static str, String>,
    events: Vec<String>,
    closed: bool,
}

impl Seen {
    #[track_caller]
    fn field(&self, name: &str) -> &str {
        self.fields
            .get(name)
            .unwrap_or_else(|| panic!("no {name} in {self:#?}"))
    }

    fn is_ours(&self) -> bool {
        self.target.starts_with("mainstay")
    }
}

impl Visit for Seen {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.fields.insert(field.name(), format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.fields.insert(field.name(), value.to_owned());
    }
}

#[derive(Debug, Default)]
struct All {
    spans: Vec<Seen>,
    /// Ids are used again, so only for those that are open.
    places: HashMap<u64, usize>,
    /// Texts of all events.
    events: Vec<String>,
}

/// Takes every span down.
#[derive(Debug, Clone, Default)]
struct Spans(Arc<Mutex<All>>);

impl Spans {
    /// Listens on this thread until the guard is dropped.
    fn listen(&self) -> tracing::subscriber::DefaultGuard {
        tracing::subscriber::set_default(tracing_subscriber::registry().with(self.clone()))
    }

    fn all(&self) -> MutexGuard<'_, All> {
        self.0.lock().expect("no record panics")
    }

    /// Those of this name, with their places.
    fn named(&self, name: &str) -> Vec<(usize, Seen)> {
        let all = self.all();
        let spans = all.spans.iter().cloned().enumerate();
        spans.filter(|(_, span)| span.name == name).collect()
    }

    #[track_caller]
    fn one(&self, name: &str) -> (usize, Seen) {
        let mut named = self.named(name);
        assert_eq!(named.len(), 1, "{name}: {named:#?}");
        named.remove(0)
    }

    /// Names of the children, in the order of their opening.
    fn children(&self, parent: usize) -> Vec<&'static str> {
        let all = self.all();
        let children = all.spans.iter().filter(|span| span.parent == Some(parent));
        children.map(|span| span.name).collect()
    }

    /// Names of a span and of those around it, from the inside.
    fn around(&self, place: usize) -> Vec<&'static str> {
        let all = self.all();
        let outward = std::iter::successors(Some(place), |place| all.spans[*place].parent);
        outward.map(|place| all.spans[place].name).collect()
    }

    fn ours(&self) -> usize {
        self.all()
            .spans
            .iter()
            .filter(|span| span.is_ours())
            .count()
    }

    #[track_caller]
    fn none_is_open(&self) {
        let all = self.all();
        let open = all.spans.iter();
        let open: Vec<_> = open.filter(|span| span.is_ours() && !span.closed).collect();
        assert!(open.is_empty(), "{open:#?}");
    }
}

impl<S: Subscriber + for<'s> LookupSpan<'s>> Layer<S> for Spans {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let span = context.span(id).expect("the span is new");
        let mut all = self.all();
        let parent = span.parent().map(|parent| parent.id().into_u64());
        let mut seen = Seen {
            name: attributes.metadata().name(),
            target: attributes.metadata().target().to_owned(),
            parent: parent.and_then(|parent| all.places.get(&parent).copied()),
            ..Seen::default()
        };
        attributes.record(&mut seen);
        let place = all.spans.len();
        all.spans.push(seen);
        all.places.insert(id.into_u64(), place);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, _: Context<'_, S>) {
        let mut all = self.all();
        let place = all.places[&id.into_u64()];
        values.record(&mut all.spans[place]);
    }

    fn on_follows_from(&self, id: &Id, follows: &Id, _: Context<'_, S>) {
        let mut all = self.all();
        let place = all.places[&id.into_u64()];
        let follows = all.places[&follows.into_u64()];
        all.spans[place].follows.push(follows);
    }

    fn on_event(&self, event: &tracing::Event<'_>, context: Context<'_, S>) {
        let mut text = Seen::default();
        event.record(&mut text);
        let message = text.fields.get("message").cloned().unwrap_or_default();
        let mut all = self.all();
        all.events.push(format!("{:?}", text.fields));
        if let Some(span) = context.event_span(event)
            && let Some(place) = all.places.get(&span.id().into_u64()).copied()
        {
            all.spans[place].events.push(message);
        }
    }

    fn on_close(&self, id: Id, _: Context<'_, S>) {
        let mut all = self.all();
        if let Some(place) = all.places.remove(&id.into_u64()) {
            all.spans[place].closed = true;
        }
    }
}

fn answering() -> ScriptedServerBuilder {
    ScriptedServer::builder().respond(|text| {
        let request: serde_json::Value = serde_json::from_str(text).ok()?;
        let mut answer = json!({ "jsonrpc": "2.0", "id": request["id"] });
        match request["method"].as_str()? {
            "refuse" => answer["error"] = json!({ "code": -32602, "message": "no such params" }),
            "silence" => return None,
            _ => answer["result"] = json!(4),
        }
        Some(answer.to_string())
    })
}

#[tokio::test]
async fn a_request_is_a_client_span_in_its_callers_span() {
    let spans = Spans::default();
    let _listening = spans.listen();
    let server = answering().start().await.expect("a server");
    let session = Client::connect(server.url()).await.expect("a session");
    let params = json!({ "password": "not-to-be-told" });
    let work = async {
        let sum: u32 = session.request("sum", &params).await.expect("a sum");
        assert_eq!(sum, 4);
        let refused = session.request::<u32>("refuse", &params).await;
        refused.expect_err("refused");
        let call = Call::new("silence", &params).expect("a call");
        let unknown = session.call(call, Duration::from_millis(50)).await;
        unknown.expect_err("no answer");
    };
    work.instrument(tracing::info_span!("caller")).await;
    session.shutdown().await;

    let (caller, _) = spans.one("caller");
    let requests = spans.named("rpc");
    assert_eq!(requests.len(), 3, "{requests:#?}");
    for (_, request) in &requests {
        assert_eq!(request.parent, Some(caller), "{request:#?}");
        assert_eq!(request.field("otel.kind"), "client");
        assert_eq!(request.field("rpc.system.name"), "jsonrpc");
        assert_eq!(request.field("jsonrpc.protocol.version"), "2.0");
        assert_eq!(request.field("server.address"), "127.0.0.1");
        assert_eq!(
            request.field("server.port"),
            server.address().port().to_string()
        );
        request
            .field("jsonrpc.request.id")
            .parse::<u64>()
            .expect("a number");
        assert!(request.closed);
        assert!(!format!("{request:?}").contains("not-to-be-told"));
    }
    let [(_, sum), (_, refused), (_, unknown)] = &requests[..] else {
        unreachable!()
    };
    assert_eq!(sum.field("otel.name"), "sum");
    assert_eq!(sum.field("rpc.method"), "sum");
    assert_eq!(sum.field("fate"), "answered");
    assert!(!sum.fields.contains_key("error.type"), "{sum:#?}");
    assert_eq!(refused.field("fate"), "answered");
    assert_eq!(refused.field("error.type"), "-32602");
    assert_eq!(refused.field("rpc.response.status_code"), "-32602");
    assert_eq!(refused.field("otel.status_code"), "ERROR");
    assert_eq!(unknown.field("fate"), "unknown");
    assert_eq!(unknown.field("otel.status_code"), "ERROR");
    assert!(
        unknown.events.contains(&"timed out".to_owned()),
        "{unknown:#?}"
    );
    spans.none_is_open();
}

#[tokio::test]
async fn a_request_whose_caller_has_gone_says_so_and_a_batch_has_a_span_for_each_call() {
    let spans = Spans::default();
    let _listening = spans.listen();
    let server = answering().start().await.expect("a server");
    let session = Client::connect(server.url()).await.expect("a session");
    let silent = session.call(Call::bare("silence"), LONG);
    tokio::time::timeout(Duration::from_millis(50), silent)
        .await
        .expect_err("no answer");
    let late = session.batch(
        [Call::bare("one"), Call::bare("two")],
        Duration::from_millis(50),
    );
    let late = late.await;
    assert!(
        late.iter().all(Result::is_err),
        "this server reads no arrays"
    );
    session.shutdown().await;

    let requests = spans.named("rpc");
    let told: Vec<_> = requests
        .iter()
        .map(|(_, request)| (request.field("rpc.method"), request.field("fate")))
        .collect();
    assert_eq!(
        told,
        [
            ("silence", "given_up"),
            ("one", "unknown"),
            ("two", "unknown")
        ]
    );
    spans.none_is_open();
}

#[tokio::test]
async fn a_connection_over_tls_is_a_span_with_its_parts() {
    let spans = Spans::default();
    let _listening = spans.listen();
    let server = ScriptedServer::tls().await.expect("a server");
    let authority = server.ca_certificate_pem().expect("an authority");
    let config = Config::builder(server.url())
        .tls(Tls::only(authority))
        .build()
        .expect("valid");
    let session = Client::connect_with(config).await.expect("a session");

    let (place, connect) = spans.one("connect");
    assert_eq!(connect.parent, None);
    assert!(connect.closed, "it is over when the session is live");
    assert_eq!(connect.field("server.address"), "localhost");
    assert_eq!(connect.field("epoch"), "1");
    assert_eq!(
        spans.children(place),
        [
            "connect.dns",
            "connect.tcp",
            "connect.tls",
            "connect.upgrade"
        ]
    );
    let start = connect.follows.first().expect("the supervisor's start");
    assert_eq!(spans.around(*start).first(), Some(&"child.start"));
    session.shutdown().await;
    assert!(spans.named("outage").is_empty(), "a shutdown is no outage");
    spans.none_is_open();
}

#[tokio::test]
async fn a_session_of_a_venue_shows_authentication_restoring_and_its_own_requests() {
    let spans = Spans::default();
    let _listening = spans.listen();
    let simulator = DeribitSimulator::builder()
        .credentials("an-identity-3391", "a-secret-7712")
        .start()
        .await
        .expect("a simulator");
    let deribit = Deribit::builder()
        .credentials("an-identity-3391", "a-secret-7712")
        .build()
        .expect("valid");
    let config = Config::builder(format!("{}?token=a-token-5518", simulator.url()))
        .header("x-key", "a-header-8834")
        .build()
        .expect("valid");
    let session = Session::start(deribit, config).await.expect("a session");
    let orders = deribit::user_orders("BTC-PERPETUAL", Interval::Raw);
    let mut orders = session.subscribe(orders).await.expect("a subscription");
    simulator.inject(Fault::TcpReset);
    let mut interrupted = false;
    loop {
        let event = tokio::time::timeout(LONG, orders.next()).await;
        match event.expect("in time").expect("the stream goes on") {
            Event::Gap(_) => interrupted = true,
            Event::Resynced(_) if interrupted => break,
            _ => {}
        }
    }
    session.live().await.expect("live again");
    session.shutdown().await;

    let connects = spans.named("connect");
    let (again, _) = connects.last().expect("a second connection");
    let parts = spans.children(*again);
    assert_eq!(
        parts,
        [
            "connect.dns",
            "connect.tcp",
            "connect.upgrade",
            "connect.auth",
            "connect.first_data",
            "connect.restore"
        ]
    );
    let (_, gap) = spans.named("gap").remove(0);
    assert_eq!(gap.field("channel"), "user.orders.BTC-PERPETUAL.raw");
    let outage = spans.one("outage").0;
    assert_eq!((gap.parent, &gap.follows), (None, &vec![outage]));
    let methods_of = |part: &str| -> Vec<String> {
        let parts = spans.named(part);
        let (place, _) = parts.last().expect("the part");
        let requests = spans.named("rpc").into_iter();
        let own = requests.filter(|(_, request)| request.parent == Some(*place));
        own.map(|(_, request)| request.field("rpc.method").to_owned())
            .collect()
    };
    assert!(methods_of("connect.auth").contains(&"public/auth".to_owned()));
    assert_eq!(methods_of("connect.restore"), ["private/subscribe"]);

    let all = format!("{:?}", spans.all());
    for secret in [
        "an-identity-3391",
        "a-secret-7712",
        "a-token-5518",
        "a-header-8834",
    ] {
        assert!(!all.contains(secret), "{secret} was told");
    }
    for word in ["access_token", "refresh_token", "client_secret"] {
        assert!(!all.contains(word), "{word} was told");
    }
    spans.none_is_open();
}

#[tokio::test]
async fn an_outage_with_two_failed_attempts_is_one_trace() {
    let spans = Spans::default();
    let _listening = spans.listen();
    let server = ScriptedServer::builder()
        .scripts([
            Script::new().await_message(Matcher::method("cut")).reset(),
            Script::refuse(503, &[], "busy"),
            Script::refuse(503, &[], "busy"),
            Script::echo(),
        ])
        .start()
        .await
        .expect("a server");
    let config = Config::builder(server.url())
        .backoff(Backoff::new(
            Duration::from_millis(5),
            Duration::from_millis(10),
        ))
        .build()
        .expect("valid");
    let session = Client::connect_with(config).await.expect("a session");
    let _messages = session.messages();
    let cut = session.call(Call::bare("cut"), LONG).await;
    cut.expect_err("the connection is cut");
    tokio::time::timeout(LONG, session.live())
        .await
        .expect("in time")
        .expect("live again");

    let (place, outage) = spans.one("outage");
    assert_eq!(outage.parent, None, "a trace of its own");
    assert!(outage.closed, "over when the session is live");
    assert_eq!(outage.field("cause"), "reset");
    assert_eq!(outage.field("attempts"), "3");
    assert_eq!(outage.field("ended_by"), "live");
    assert_eq!(outage.field("epoch"), "2");
    for event in ["closed", "not opened", "gap", "reconnected"] {
        let told = outage.events.iter().any(|told| told == event);
        assert!(told, "{event} is not among {:?}", outage.events);
    }
    assert_eq!(spans.children(place), ["connect"; 3]);
    let attempts = spans.named("connect");
    let attempts: Vec<_> = attempts
        .iter()
        .filter(|(_, one)| one.parent == Some(place))
        .map(|(_, one)| one.fields.get("error.type").map(String::as_str))
        .collect();
    assert!(
        attempts[0].is_some() && attempts[1].is_some(),
        "{attempts:?}"
    );
    assert_eq!(attempts[2], None);
    let start = outage.follows.first().expect("the supervisor's start");
    assert_eq!(
        spans.around(*start).last(),
        Some(&"child.restart"),
        "{:?}",
        spans.around(*start)
    );
    // From the restart, and from what each subscription missed, one gets to it.
    let starts = spans.named("child.start").into_iter();
    let linked = starts.filter(|(_, one)| one.follows == [place]).count();
    assert!(linked >= 1, "{:#?}", spans.named("child.start"));
    let (_, gap) = spans.one("gap");
    assert_eq!((gap.parent, &gap.follows), (None, &vec![place]));
    assert_eq!((gap.field("cause"), gap.field("epoch")), ("reset", "2"));
    session.shutdown().await;
    spans.none_is_open();
}

#[tokio::test]
async fn an_outage_that_nothing_ends_ends_with_the_session() {
    let spans = Spans::default();
    let _listening = spans.listen();
    let server = ScriptedServer::builder()
        .scripts([
            Script::new().await_message(Matcher::method("cut")).reset(),
            Script::refuse(503, &[], "busy"),
        ])
        .start()
        .await
        .expect("a server");
    let config = Config::builder(server.url())
        .backoff(Backoff::new(LONG, LONG))
        .build()
        .expect("valid");
    let session = Client::connect_with(config).await.expect("a session");
    let cut = session.call(Call::bare("cut"), LONG).await;
    cut.expect_err("the connection is cut");
    session.shutdown().await;

    let (_, outage) = spans.one("outage");
    assert!(outage.closed);
    assert_eq!(outage.field("cause"), "reset");
    outage.field("attempts").parse::<u64>().expect("a number");
    assert_eq!(outage.field("otel.status_code"), "ERROR");
    assert_eq!(outage.field("ended_by"), "shutdown");
    spans.none_is_open();
}

#[tokio::test]
async fn a_control_message_is_linked_to_its_senders_span_and_lies_in_none() {
    let spans = Spans::default();
    let _listening = spans.listen();
    let simulator = DeribitSimulator::builder().start().await;
    let simulator = simulator.expect("a simulator");
    let deribit = Deribit::builder().build().expect("valid");
    let config = Config::builder(simulator.url()).build().expect("valid");
    let session = Session::start(deribit, config).await.expect("a session");
    let ticker = deribit::ticker("BTC-PERPETUAL", Interval::Ms100);
    let subscribed = session.subscribe(ticker);
    let subscribed = subscribed.instrument(tracing::info_span!("caller")).await;
    drop(subscribed.expect("a subscription"));
    session.shutdown().await;

    let (caller, _) = spans.one("caller");
    let messages = spans.named("message");
    for (_, message) in &messages {
        assert_eq!(message.parent, None, "{message:#?}");
        assert!(message.follows.len() <= 1, "{message:#?}");
        let kind = message.field("message");
        assert!(kind.chars().all(char::is_alphanumeric), "{kind}");
        let name = format!("{} {kind}", message.field("actor.name"));
        assert_eq!(message.field("otel.name"), name);
        assert!(!message.field("actor.id").is_empty());
    }
    let of = |actor: &str, kind: &str| -> (usize, Seen) {
        let found = messages
            .iter()
            .find(|(_, one)| one.field("actor.name") == actor && one.field("message") == kind);
        found.unwrap_or_else(|| panic!("{actor} {kind}")).clone()
    };
    let (place, wish) = of("subscription_manager", "Subscribe");
    assert_eq!(wish.follows, [caller]);
    assert_eq!(wish.field("session"), "deribit");
    let passed_on = messages.iter().filter(|(_, one)| one.follows == [place]);
    let passed_on: Vec<_> = passed_on.map(|(_, one)| one.field("actor.name")).collect();
    assert_eq!(passed_on, ["adapter"]);
    assert!(of("transport", "Begin").1.follows.len() <= 1);
    spans.none_is_open();
}

#[tokio::test]
async fn whoever_asks_has_a_span_of_one_batch_in_so_many() {
    let spans = Spans::default();
    let _listening = spans.listen();
    let server = answering().start().await.expect("a server");
    let config = Config::builder(server.url()).batch_spans(3);
    let session = Client::connect_with(config.build().expect("valid")).await;
    let session = session.expect("a session");
    // Each answer comes by itself, since it was waited for.
    for _ in 0..10 {
        let sum: u32 = session.request("sum", &json!({})).await.expect("a sum");
        assert_eq!(sum, 4);
    }
    session.shutdown().await;

    let batches = spans.named("batch");
    assert_eq!(batches.len(), 3, "{batches:#?}");
    for (_, batch) in &batches {
        assert_eq!((batch.parent, batch.field("frames")), (None, "1"));
        assert_eq!(batch.field("epoch"), "1");
    }
    spans.none_is_open();
}

#[tokio::test]
async fn ten_thousand_messages_open_no_span() {
    let spans = Spans::default();
    let _listening = spans.listen();
    let storm = Script::new()
        .await_message(Matcher::method("storm"))
        .repeat(10_000, Script::new().send("a message"));
    let server = ScriptedServer::builder().script(storm).start().await;
    let server = server.expect("a server");
    let session = Client::connect(server.url()).await.expect("a session");
    let mut messages = session.messages();
    let frame = mainstay::Frame::text(r#"{"jsonrpc":"2.0","id":1,"method":"storm"}"#.to_owned());
    session.send(frame).await.expect("written");
    let mut received = 0;
    let mut before = None;
    while received < 10_000 {
        let event = tokio::time::timeout(LONG, messages.next()).await;
        match event.expect("in time").expect("the stream goes on") {
            Event::Data(_) => received += 1,
            other => panic!("{other:?}"),
        }
        // What the connection's own opening made is no matter here.
        before.get_or_insert_with(|| spans.ours());
    }
    assert_eq!(Some(spans.ours()), before);
    session.shutdown().await;
    spans.none_is_open();
}

#[tokio::test(start_paused = true)]
async fn a_flood_that_a_consumer_does_not_keep_up_with_is_one_span_a_second() {
    const EACH: u32 = 1000;
    let spans = Spans::default();
    let _listening = spans.listen();
    let flood = Script::new()
        .await_message(Matcher::method("flood"))
        .repeat(EACH, Script::new().send("a message"))
        .reply("over");
    let server = ScriptedServer::builder()
        .in_memory(true)
        .script(Script::new().repeat(4, flood))
        .start()
        .await
        .expect("a server");
    let config = Config::builder(server.url())
        .connector(server.connector().expect("in memory"))
        .build()
        .expect("valid");
    let session = Client::connect_with(config).await.expect("a session");
    let queue = Queue::new(10, Overflow::DropOldest);
    let mut slow = session.messages_with(queue);
    let flood = async || {
        let over: String = session.request("flood", &json!({})).await.expect("a flood");
        assert_eq!(over, "over");
    };
    let losses = |spans: &Spans| {
        let losses = spans.named("loss").into_iter();
        let lost = losses.map(|(_, span)| span.fields.get("lost").cloned());
        lost.collect::<Vec<_>>()
    };
    flood().await;
    flood().await;
    // However many are lost and however many gaps that makes: one span, which is still open.
    assert_eq!(losses(&spans), [None]);
    let (_, loss) = spans.one("loss");
    assert_eq!((loss.parent, loss.follows.len()), (None, 0));
    assert_eq!(loss.field("cause"), "lagged");

    // The second is over with the next batch, and what is lost after that is another span's.
    tokio::time::advance(Duration::from_secs(1)).await;
    flood().await;
    let told = losses(&spans);
    assert_eq!(told.len(), 2, "{told:?}");
    let first: u64 = told[0].as_ref().expect("closed").parse().expect("a number");
    assert!(first > u64::from(2 * EACH - 20), "{first}");
    // The consumer catches up.
    let mut lost = 0;
    let mut had = 0;
    while had < 10 {
        match slow.next().await.expect("the stream goes on") {
            Event::Data(_) => had += 1,
            Event::Gap(gap) => lost += gap.missed.expect("counted"),
            _ => {}
        }
    }
    assert_eq!(lost, u64::from(3 * EACH - 10));
    let sum = |spans: &Spans| {
        let told = losses(spans).into_iter();
        let told = told.map(|lost| lost.expect("closed").parse::<u64>().expect("a number"));
        told.sum::<u64>()
    };
    assert_eq!(sum(&spans), lost);
    // Too soon after the last one began: its losses are told with those of the next.
    flood().await;
    assert_eq!(losses(&spans).len(), 2);
    drop(slow);
    session.shutdown().await;
    spans.none_is_open();
}

#[tokio::test]
async fn a_consumer_that_is_ended_for_its_slowness_has_a_span_of_that() {
    let spans = Spans::default();
    let _listening = spans.listen();
    let flood = Script::new()
        .await_message(Matcher::method("flood"))
        .repeat(20, Script::new().send("a message"))
        .reply("over");
    let server = ScriptedServer::builder().script(flood).start().await;
    let server = server.expect("a server");
    let session = Client::connect(server.url()).await.expect("a session");
    let slow = session.messages_with(Queue::new(10, Overflow::Disconnect));
    let over: String = session.request("flood", &json!({})).await.expect("a flood");
    assert_eq!(over, "over");
    let (_, loss) = spans.one("loss");
    assert!(loss.closed);
    assert_eq!(loss.field("lost"), "1");
    drop(slow);
    session.shutdown().await;
}

/// A message that is a number, and one only.
#[derive(Debug)]
struct Number;

impl Message for Number {
    fn decode(frame: &Frame) -> Result<Self, DecodeError> {
        serde_json::from_slice::<serde_json::Value>(frame.payload())
            .ok()
            .and_then(|message| message["params"]["data"].as_u64())
            .map(|_| Self)
            .ok_or_else(|| DecodeError::new("number", "it is none"))
    }
}

#[tokio::test]
async fn messages_that_cannot_be_read_are_one_span_however_many_they_are() {
    let spans = Spans::default();
    let _listening = spans.listen();
    let notification = |data: serde_json::Value| {
        let params = json!({ "channel": "numbers", "data": data });
        json!({ "jsonrpc": "2.0", "method": "subscription", "params": params }).to_string()
    };
    let nonsense = Script::new().send(notification(json!("not to be told")));
    let script = Script::new()
        .await_message(Matcher::method("begin"))
        .repeat(50, nonsense)
        .send(notification(json!(1)));
    let server = ScriptedServer::builder().script(script).start().await;
    let server = server.expect("a server");
    let session = Client::connect(server.url()).await.expect("a session");
    let numbers = session.subscribe(Channel::<Number>::new("numbers")).await;
    let mut numbers = numbers.expect("a subscription");
    session.notify("begin", &json!({})).await.expect("written");
    let mut gaps = 0;
    loop {
        let event = tokio::time::timeout(LONG, numbers.next()).await;
        match event.expect("in time").expect("the stream goes on") {
            Event::Data(_) => break,
            Event::Gap(_) => gaps += 1,
            _ => {}
        }
    }
    assert_eq!(gaps, 50);
    drop(numbers);
    let losses = spans.named("loss");
    assert!((1..=2).contains(&losses.len()), "{losses:#?}");
    for (_, loss) in losses {
        assert!(loss.closed && loss.parent.is_none(), "{loss:#?}");
        assert_eq!(
            (loss.field("cause"), loss.field("channel")),
            ("undecodable", "numbers")
        );
    }
    assert!(!format!("{:?}", spans.all()).contains("not to be told"));
    session.shutdown().await;
}

#[tokio::test]
async fn a_break_in_a_venues_numbers_is_a_gap_until_the_snapshot_has_come() {
    let spans = Spans::default();
    let _listening = spans.listen();
    let simulator = DeribitSimulator::builder().start().await;
    let simulator = simulator.expect("a simulator");
    let config = Config::builder(simulator.url()).build().expect("valid");
    let deribit = Deribit::builder().build().expect("valid");
    let session = Session::start(deribit, config).await.expect("a session");
    let book = deribit::book("BTC-PERPETUAL", Interval::Ms100);
    let mut book = session.subscribe(book).await.expect("a subscription");
    let mut next = async || {
        let event = tokio::time::timeout(LONG, book.next()).await;
        event.expect("in time").expect("the stream goes on")
    };
    assert!(matches!(next().await, Event::Data(_)));
    simulator.inject(Fault::SequenceBreak {
        channel: "book.BTC-PERPETUAL.100ms".to_owned(),
    });
    while !matches!(next().await, Event::Gap(_)) {}
    let (_, gap) = spans.one("gap");
    assert!(!gap.closed && gap.follows.is_empty(), "{gap:#?}");
    while !matches!(next().await, Event::Resynced(_)) {}
    let (_, gap) = spans.one("gap");
    assert!(gap.closed && gap.parent.is_none(), "{gap:#?}");
    assert_eq!(gap.field("cause"), "sequence_break");
    assert_eq!(gap.field("channel"), "book.BTC-PERPETUAL.100ms");
    assert_eq!(gap.field("epoch"), "1");
    session.shutdown().await;
    spans.none_is_open();
}
