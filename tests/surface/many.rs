//! Many channels at once, and those of one session in another.

use std::sync::Arc;
use std::time::Duration;

use mainstay::error::{SubscribeError, UnsubscribeError};
use mainstay::platform::{Batch, Call, Platform};
use mainstay::testing::{ReceivedKind, ScriptedServer};
use mainstay::{Channel, Config, Event, Frame, Session, Subscription, Unsubscribed, Wishes};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::LONG;

/// A venue that takes three channels in one request.
#[derive(Debug)]
struct Newsagent;

fn batches(method: &'static str, channels: &[Arc<str>]) -> Vec<Batch> {
    let batch = |channels: &[Arc<str>]| {
        let names: Vec<&str> = channels.iter().map(|name| &**name).collect();
        let call = Call::new(method, &names).ok()?;
        Some(Batch::new(call, channels.to_vec()))
    };
    channels.chunks(3).filter_map(batch).collect()
}

impl Platform for Newsagent {
    fn name(&self) -> &str {
        "newsagent"
    }

    fn subscribe(&self, channels: &[Arc<str>]) -> Vec<Batch> {
        batches("order", channels)
    }

    fn unsubscribe(&self, channels: &[Arc<str>]) -> Vec<Batch> {
        batches("cancel", channels)
    }

    fn confirmed(&self, batch: &Batch, result: &RawValue) -> Vec<Arc<str>> {
        let listed: Vec<String> = serde_json::from_str(result.get()).unwrap_or_default();
        let is_listed = |channel: &&Arc<str>| listed.iter().any(|name| **name == ***channel);
        batch.channels.iter().filter(is_listed).cloned().collect()
    }

    fn released(&self, batch: &Batch, result: &RawValue) -> Vec<Arc<str>> {
        self.confirmed(batch, result)
    }
}

/// Has every paper but one; of another it leaves out that it was cancelled. It refuses each request to order, or to
/// cancel, in which a certain other one is.
async fn shop() -> ScriptedServer {
    let server = ScriptedServer::builder().respond(|text| {
        let request: Value = serde_json::from_str(text).ok()?;
        let named = request["params"].as_array()?;
        let cancels = request["method"] == "cancel";
        let mut answer = json!({ "jsonrpc": "2.0", "id": request["id"] });
        let refused = if cancels { "paid for a year" } else { "banned" };
        if named.contains(&json!(refused)) {
            answer["error"] = json!({ "code": -32602, "message": "not before December" });
            return Some(answer.to_string());
        }
        let left_out = if cancels { "mislaid" } else { "sold out" };
        let listed: Vec<&Value> = named.iter().filter(|name| **name != left_out).collect();
        answer["result"] = json!(listed);
        Some(answer.to_string())
    });
    server.start().await.expect("a server")
}

async fn session(server: &ScriptedServer) -> Session {
    let config = Config::builder(server.url()).build().expect("valid");
    Session::start(Newsagent, config).await.expect("a session")
}

/// What the server was asked for by this method, request by request.
fn asked(server: &ScriptedServer, method: &str) -> Vec<Vec<String>> {
    let received = server.received().into_iter();
    let requests = received.filter_map(|entry| match entry.kind {
        ReceivedKind::Text(text) => serde_json::from_str::<Value>(&text).ok(),
        _ => None,
    });
    let of_method = requests.filter(|request| request["method"] == method);
    of_method
        .map(|request| serde_json::from_value(request["params"].clone()).expect("names"))
        .collect()
}

fn papers(names: &[&'static str]) -> Vec<Channel<Frame>> {
    names.iter().copied().map(Channel::new).collect()
}

fn all(results: Vec<Result<Subscription<Frame>, SubscribeError>>) -> Vec<Subscription<Frame>> {
    let results = results.into_iter();
    results.map(|one| one.expect("a subscription")).collect()
}

async fn hears(server: &ScriptedServer, paper: &mut Subscription<Frame>) {
    let channel = paper.channel().expect("a channel");
    let news = json!({ "method": "news", "params": { "channel": channel, "data": 1 } });
    server.inject(Frame::text(news.to_string())).await;
    let event = tokio::time::timeout(LONG, paper.next()).await;
    assert!(matches!(event.expect("in time"), Some(Event::Data(_))));
}

#[tokio::test]
async fn channels_wanted_together_go_out_in_as_few_requests_as_the_venue_allows() {
    let server = shop().await;
    let session = session(&server).await;
    assert!(session.subscribe_all(papers(&[])).await.is_empty());
    let names = ["d", "a", "sold out", "b", "c"];
    let results = session.subscribe_all(papers(&names)).await;
    assert_eq!(
        asked(&server, "order"),
        [vec!["d", "a", "sold out"], vec!["b", "c"]]
    );
    let mut had = Vec::new();
    for (name, result) in names.into_iter().zip(results) {
        match result {
            Ok(mut paper) => {
                assert_eq!(paper.channel(), Some(name));
                hears(&server, &mut paper).await;
                had.push(paper);
            }
            Err(SubscribeError::Rejected { channel, .. }) => {
                assert_eq!((name, &*channel), ("sold out", "sold out"));
            }
            Err(other) => panic!("{name}: {other}"),
        }
    }
    assert_eq!(had.len(), 4);
    // What is had already is not asked for again.
    let again = all(session.subscribe_all(papers(&["a", "e", "a"])).await);
    assert_eq!(again.len(), 3);
    assert_eq!(asked(&server, "order").last(), Some(&vec!["e".to_owned()]));
}

#[tokio::test]
async fn what_one_session_wanted_another_wants_in_the_same_order() {
    let first = shop().await;
    let session_before = session(&first).await;
    let names = ["d", "a", "b", "a", "c"];
    let mut papers = all(session_before.subscribe_all(papers(&names)).await);
    papers.remove(2);
    let wishes = session_before.export_subscriptions();
    let expected: Wishes = ["d", "a", "c"].into_iter().collect();
    assert_eq!(wishes, expected);
    // Also when the session is over, for as long as somebody holds its subscriptions.
    session_before.shutdown().await;
    assert_eq!(session_before.export_subscriptions(), expected);
    drop(papers);
    assert_eq!(session_before.export_subscriptions(), Wishes::default());

    let kept = serde_json::to_string(&wishes).expect("names are text");
    let wishes: Wishes = serde_json::from_str(&kept).expect("the same names");
    let second = shop().await;
    let session = session(&second).await;
    let mut papers = all(session.import_subscriptions(&wishes).await);
    assert_eq!(asked(&second, "order"), [["d", "a", "c"]]);
    for paper in &mut papers {
        hears(&second, paper).await;
    }
    assert_eq!(session.export_subscriptions(), expected);
    // They are restored like any others.
    session.reconnect().await.expect("live again");
    assert_eq!(asked(&second, "order"), [["d", "a", "c"], ["d", "a", "c"]]);
}

#[tokio::test]
async fn letting_go_of_the_wait_for_many_withdraws_them_all() {
    let server = ScriptedServer::builder().respond(|_| None);
    let server = server.start().await.expect("a server");
    let session = session(&server).await;
    let many = session.subscribe_all(papers(&["a", "b"]));
    let order = server.expect_message(json!({ "method": "order" }), LONG);
    tokio::select! {
        _ = many => panic!("nobody answered"),
        order = order => drop(order.expect("asked for")),
    }
    let cancel = json!({ "method": "cancel", "params": ["a", "b"] });
    let cancelled = server.expect_message(cancel, LONG).await;
    cancelled.expect("withdrawn, both at once");
    assert!(session.channels().is_empty());
}

#[tokio::test]
async fn many_that_are_dropped_together_are_ended_in_as_few_requests_as_the_venue_allows() {
    let server = shop().await;
    let session = session(&server).await;
    let names = ["a", "b", "c", "d", "e", "f", "g"];
    let papers = all(session.subscribe_all(papers(&names)).await);
    drop(papers);
    let last = json!({ "method": "cancel", "params": ["g"] });
    server.expect_message(last, LONG).await.expect("cancelled");
    assert_eq!(
        asked(&server, "cancel"),
        [vec!["a", "b", "c"], vec!["d", "e", "f"], vec!["g"]]
    );
    assert!(session.channels().is_empty());
}

#[tokio::test]
async fn many_ends_are_confirmed_each_for_itself() {
    let server = shop().await;
    let session = session(&server).await;
    let names = ["a", "b", "c", "d", "mislaid"];
    let mut had = all(session.subscribe_all(papers(&names)).await);
    let shared = all(session.subscribe_all(papers(&["b"])).await);
    had.extend(all(session.subscribe_all(papers(&["a"])).await));
    let ended = session.unsubscribe_all(had, LONG).await;
    let told: Vec<_> = ended.iter().map(|one| one.as_ref().ok()).collect();
    // Both of the first paper are let go of; the venue is told when the second is.
    let (shared_by, confirmed) = (Unsubscribed::Shared, Unsubscribed::Confirmed);
    assert_eq!(
        told,
        [
            Some(&shared_by),
            Some(&shared_by),
            Some(&confirmed),
            Some(&confirmed),
            None,
            Some(&confirmed),
        ]
    );
    let refused = ended[4].as_ref().expect_err("it was left out");
    assert!(
        matches!(refused, UnsubscribeError::Rejected { channel, .. } if channel == "mislaid"),
        "{refused:?}"
    );
    assert_eq!(
        asked(&server, "cancel"),
        [vec!["c", "d", "mislaid"], vec!["a"]]
    );
    assert_eq!(*session.channels(), [Arc::from("b")]);
    let ended = session.unsubscribe_all(shared, LONG).await;
    assert_eq!(ended.len(), 1);
    let none: Vec<Subscription<Frame>> = Vec::new();
    assert!(session.unsubscribe_all(none, LONG).await.is_empty());
}

#[tokio::test]
async fn one_that_is_refused_with_its_whole_request_keeps_no_other_from_being_confirmed() {
    let server = shop().await;
    let session = session(&server).await;
    let names = ["a", "banned", "b", "c"];
    let results = session.subscribe_all(papers(&names)).await;
    for (name, result) in names.into_iter().zip(&results) {
        match result {
            Ok(paper) => assert_eq!(paper.channel(), Some(name)),
            Err(SubscribeError::Rejected { channel, .. }) => {
                assert_eq!((name, &**channel), ("banned", "banned"));
            }
            Err(other) => panic!("{name}: {other}"),
        }
    }
    assert_eq!(
        asked(&server, "order"),
        [
            vec!["a", "banned", "b"],
            vec!["c"],
            vec!["a"],
            vec!["banned"],
            vec!["b"],
        ]
    );
    // Restored without it.
    session.reconnect().await.expect("live again");
    assert_eq!(asked(&server, "order")[5..], [vec!["a", "b", "c"]]);
}

#[tokio::test]
async fn one_end_that_is_refused_keeps_no_other_from_being_confirmed() {
    let server = shop().await;
    let session = session(&server).await;
    let names = ["a", "paid for a year", "b", "c"];
    let had = all(session.subscribe_all(papers(&names)).await);
    let ended = session.unsubscribe_all(had, LONG).await;
    for (name, one) in names.into_iter().zip(ended) {
        match one {
            Ok(became) => assert_eq!(became, Unsubscribed::Confirmed, "{name}"),
            Err(UnsubscribeError::Rejected { channel, detail }) => {
                assert_eq!((name, &*channel), ("paid for a year", "paid for a year"));
                assert!(detail.contains("December"), "{detail}");
            }
            Err(other) => panic!("{name}: {other}"),
        }
    }
    assert_eq!(
        asked(&server, "cancel"),
        [
            vec!["a", "paid for a year", "b"],
            vec!["c"],
            vec!["a"],
            vec!["paid for a year"],
            vec!["b"],
        ]
    );
}

#[tokio::test]
async fn what_is_wanted_again_is_cancelled_before_it_is_ordered() {
    let server = shop().await;
    let session = session(&server).await;
    let had = all(session.subscribe_all(papers(&["a", "b", "c"])).await);
    drop(had);
    let again = all(session.subscribe_all(papers(&["c", "a"])).await);
    let methods: Vec<Value> = server
        .received()
        .into_iter()
        .filter_map(|entry| match entry.kind {
            ReceivedKind::Text(text) => serde_json::from_str::<Value>(&text).ok(),
            _ => None,
        })
        .map(|request| json!([request["method"], request["params"]]))
        .collect();
    assert_eq!(
        methods,
        [
            json!(["order", ["a", "b", "c"]]),
            json!(["cancel", ["a", "b", "c"]]),
            json!(["order", ["c", "a"]]),
        ]
    );
    for mut paper in again {
        hears(&server, &mut paper).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_that_are_dropped_while_the_manager_works_are_gathered_too() {
    let server = shop().await;
    let session = session(&server).await;
    let count = 600;
    let channels = (0..count).map(|number| Channel::new(number.to_string()));
    let mut had = all(session.subscribe_all(channels).await);
    let last = had.pop().expect("one of them");
    drop(had);
    // The venue answers in the order of the requests.
    last.unsubscribe(LONG).await.expect("the last of them");
    let requests = asked(&server, "cancel");
    assert_eq!(requests.iter().map(Vec::len).sum::<usize>(), count);
    // Three in each, but for the last of what was gathered together.
    assert!(requests.len() < count / 2, "{}", requests.len());
}

#[tokio::test]
async fn a_connection_that_ends_ends_the_wait_for_all_of_them() {
    let server = ScriptedServer::builder().respond(|text| {
        let request: Value = serde_json::from_str(text).ok()?;
        let ordered = request["method"] == "order";
        let answer = json!({ "jsonrpc": "2.0", "id": request["id"], "result": request["params"] });
        ordered.then(|| answer.to_string())
    });
    let server = server.start().await.expect("a server");
    let session = session(&server).await;
    let had = all(session.subscribe_all(papers(&["a", "b"])).await);
    let cut = async {
        let cancel = server.expect_message(json!({ "method": "cancel" }), LONG);
        cancel.await.expect("asked");
        session.shutdown().await
    };
    let (ended, _) = tokio::join!(session.unsubscribe_all(had, LONG), cut);
    for (name, one) in ["a", "b"].into_iter().zip(ended) {
        assert!(
            matches!(&one, Err(UnsubscribeError::ConnectionLost { channel }) if channel == name),
            "{one:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn many_that_are_not_confirmed_in_time_say_so_each_for_itself() {
    let server = ScriptedServer::builder().in_memory(true).respond(|_| None);
    let server = server.start().await.expect("a server");
    let config = Config::builder(server.url())
        .connector(server.connector().expect("in memory"))
        .request_timeout(Duration::from_secs(3));
    let config = config.build().expect("valid");
    let session = Session::start(Newsagent, config).await.expect("a session");
    let began = tokio::time::Instant::now();
    for (name, result) in ["a", "b"]
        .into_iter()
        .zip(session.subscribe_all(papers(&["a", "b"])).await)
    {
        assert!(
            matches!(&result, Err(SubscribeError::Timeout { channel, .. }) if channel == name),
            "{result:?}"
        );
    }
    // One deadline for all.
    assert!(began.elapsed() < Duration::from_secs(4));
}
