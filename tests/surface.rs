//! What a handle offers beside requests and subscriptions: frames of every kind, the session's life,
//! forced reconnects, observers, a close with a code, streams that change hands, and batches.
//!
//! Each test awaits events; none sleeps. Deadlines are only there so that a broken promise ends the test.

#[path = "surface/batch.rs"]
mod batch;
#[path = "surface/filling.rs"]
mod filling;
#[path = "surface/given_up.rs"]
mod given_up;
#[path = "surface/hand_over.rs"]
mod hand_over;
#[path = "surface/many.rs"]
mod many;
#[path = "surface/stalled.rs"]
mod stalled;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use mainstay::close::{CloseReason, GapCause};
use mainstay::config::{Liveness, Overflow, Queue, ReconnectOwner};
use mainstay::error::{EndReason, RequestError, UnknownCause, WaitError};
use mainstay::platform::JsonRpc;
use mainstay::supervisors::Backoff;
use mainstay::testing::{ReceivedKind, Script, ScriptedServer, ServerConnection};
use mainstay::{
    Channel, ChannelStatus, Client, Config, Event, Frame, Notice, Session, Status, Subscription,
    Why,
};
use serde_json::json;
use tokio::sync::{mpsc, oneshot};

const LONG: Duration = Duration::from_secs(10);

async fn server() -> ScriptedServer {
    let server = ScriptedServer::builder().script(Script::new());
    server.start().await.expect("a server")
}

fn builder(server: &ScriptedServer) -> mainstay::config::ConfigBuilder {
    Config::builder(server.url())
        .backoff(Backoff::new(
            Duration::from_millis(5),
            Duration::from_millis(50),
        ))
        .shutdown_timeout(Duration::from_secs(3))
}

async fn session(server: &ScriptedServer) -> (Session, ServerConnection) {
    let config = builder(server)
        .reconnect_owner(ReconnectOwner::Client)
        .build()
        .expect("a valid configuration");
    let session = Client::connect_with(config).await.expect("a session");
    let peer = server.next_connection().await.expect("a connection");
    (session, peer)
}

/// The next thing that the peer received.
async fn received(peer: &mut ServerConnection) -> ReceivedKind {
    peer.recv().await.expect("something in time")
}

#[tokio::test]
async fn frames_of_every_kind_reach_the_peer_as_they_are() {
    let server = server().await;
    let (session, mut peer) = session(&server).await;
    session.send_text("plain").await.expect("written");
    assert_eq!(
        received(&mut peer).await,
        ReceivedKind::Text("plain".into())
    );
    session
        .send_binary(&b"\x00\x01"[..])
        .await
        .expect("written");
    let binary = received(&mut peer).await;
    assert_eq!(binary, ReceivedKind::Binary((&b"\x00\x01"[..]).into()));
    session
        .send_json(&json!({"op": "on"}))
        .await
        .expect("written");
    let text = received(&mut peer).await;
    assert_eq!(text, ReceivedKind::Text(r#"{"op":"on"}"#.into()));
    let pong = Frame::Pong((&b"unasked"[..]).into());
    session.send(pong).await.expect("written");
    let pong = received(&mut peer).await;
    assert_eq!(pong, ReceivedKind::Pong((&b"unasked"[..]).into()));
    session.notify("hello", &json!([1])).await.expect("written");
    let text = received(&mut peer).await;
    let notification = r#"{"jsonrpc":"2.0","method":"hello","params":[1]}"#;
    assert_eq!(text, ReceivedKind::Text(notification.into()));
}

#[tokio::test]
async fn a_ping_ends_with_its_pong_and_many_at_once_each_have_their_own() {
    let server = server().await;
    let (session, mut peer) = session(&server).await;
    session.ping("here", LONG).await.expect("a pong");
    assert_eq!(received(&mut peer).await, ReceivedKind::Ping("here".into()));
    let same = (0..8).map(|_| session.ping("same", LONG));
    for pong in futures_util::future::join_all(same).await {
        pong.expect("a pong for each");
    }
}

#[tokio::test]
async fn a_ping_without_a_pong_ends_at_its_deadline_or_with_its_connection() {
    let server = server().await;
    let (session, peer) = session(&server).await;
    let long = session.ping(vec![0; 126], LONG).await;
    assert!(matches!(long, Err(RequestError::Unencodable { .. })));
    peer.go_silent().await.expect("an open connection");
    let limit = Duration::from_millis(20);
    let error = session.ping("late", limit).await.expect_err("no pong");
    assert!(matches!(
        error,
        RequestError::Unknown { cause: UnknownCause::Deadline { limit: found, .. }, .. } if found == limit
    ));
    let (waiting, turn) = tokio::join!(session.ping("lost", LONG), session.reconnect());
    turn.expect("live again");
    assert!(
        matches!(
            waiting,
            Err(RequestError::Unknown {
                cause: UnknownCause::ConnectionLost(CloseReason::Reconnect),
                ..
            } | RequestError::NotSent { .. })
        ),
        "{waiting:?}"
    );
}

#[tokio::test]
async fn the_history_tells_each_step_with_its_reason_and_every_step_is_legal() {
    let server = server().await;
    let (session, peer) = session(&server).await;
    assert_eq!(session.status(), Status::Live);
    let (down, live, _) = tokio::join!(
        session.wait_for(Status::Down, LONG),
        session.wait_for(Status::Reconnecting, LONG),
        peer.hang_up(),
    );
    down.expect("passed");
    live.expect("passed");
    session.wait_for(Status::Live, LONG).await.expect("live");
    session.shutdown().await;
    let history = session.history();
    let places: Vec<_> = history.iter().map(|step| step.to).collect();
    assert_eq!(
        places,
        [
            Status::Connecting,
            Status::Establishing,
            Status::Live,
            Status::Down,
            Status::Reconnecting,
            Status::Establishing,
            Status::Live,
            Status::Down,
            Status::Ended,
        ]
    );
    assert!(matches!(&history[3].why, Why::Closed(CloseReason::Eof)));
    assert!(matches!(&history[8].why, Why::Ended(EndReason::Shutdown)));
    for (step, number) in history.iter().zip(1..) {
        assert_eq!(step.number, number);
        assert!(step.from.can_become(step.to), "{step}");
    }
    for pair in history.windows(2) {
        assert_eq!(pair[0].to, pair[1].from);
        assert!(pair[0].at <= pair[1].at);
    }
}

#[tokio::test]
async fn a_wait_ends_at_its_deadline_and_with_the_session() {
    let server = server().await;
    let (session, _peer) = session(&server).await;
    let limit = Duration::from_millis(5);
    let error = session
        .wait_for(Status::Down, limit)
        .await
        .expect_err("live");
    assert!(matches!(
        error,
        WaitError::Timeout {
            awaited: "down",
            found: "live",
            ..
        }
    ));
    session.shutdown().await;
    let error = session
        .wait_for(Status::Live, LONG)
        .await
        .expect_err("over");
    assert!(matches!(error, WaitError::Ended(EndReason::Shutdown)));
    session.wait_for(Status::Ended, LONG).await.expect("ended");
    let error = session.reconnect().await.expect_err("over");
    assert!(matches!(error, WaitError::Ended(EndReason::Shutdown)));
}

async fn reconnects(owner: ReconnectOwner, automatic: bool) {
    let server = server().await;
    let config = builder(&server)
        .reconnect_owner(owner)
        .automatic_reconnect(automatic)
        .build()
        .expect("a valid configuration");
    let session = Session::start(JsonRpc, config).await.expect("a session");
    let mut peer = server.next_connection().await.expect("a connection");
    let mut messages = session.messages();
    let (one, two) = tokio::join!(session.reconnect(), session.reconnect());
    let epoch = one.expect("live again");
    assert_eq!(two.expect("live again"), epoch, "two calls share one turn");
    assert_eq!(epoch.as_u64(), 2);
    let (code, reason) = peer.expect_close(LONG).await.expect("a close frame");
    assert_eq!((code, reason.as_str()), (Some(1000), "reconnecting"));
    let second = server.next_connection().await.expect("another connection");
    second.send_text("again").await.expect("an open connection");
    let gap = messages.next().await.expect("a gap");
    assert!(
        matches!(&gap, Event::Gap(gap)
            if matches!(&gap.cause, GapCause::ConnectionLost(CloseReason::Reconnect))),
        "{gap:?}"
    );
    assert!(matches!(messages.next().await, Some(Event::Resynced(_))));
    assert!(matches!(messages.next().await, Some(Event::Data(_))));
    session.shutdown().await;
}

#[tokio::test]
async fn a_forced_reconnect_says_goodbye_and_keeps_the_subscriptions_under_layer_1() {
    reconnects(ReconnectOwner::Client, true).await;
}

#[tokio::test]
async fn a_forced_reconnect_says_goodbye_and_keeps_the_subscriptions_under_layer_2() {
    reconnects(ReconnectOwner::Adapter, true).await;
}

#[tokio::test]
async fn a_forced_reconnect_works_where_nothing_else_reconnects() {
    reconnects(ReconnectOwner::Client, false).await;
    reconnects(ReconnectOwner::Adapter, false).await;
}

#[tokio::test]
async fn a_close_tells_the_peer_its_code_and_reason_once() {
    let server = server().await;
    let (session, mut peer) = session(&server).await;
    for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000] {
        let refused = session.close(code, "").await;
        assert!(
            matches!(refused, Err(RequestError::Unencodable { .. })),
            "{code}"
        );
    }
    let refused = session.close(1000, "x".repeat(124)).await;
    assert!(matches!(refused, Err(RequestError::Unencodable { .. })));
    assert_eq!(
        session.status(),
        Status::Live,
        "a refused close closes nothing"
    );
    let (one, two) = tokio::join!(session.close(4001, "done"), session.close(1000, "late"));
    one.expect("closed");
    two.expect("closed already");
    session.close(1000, "again").await.expect("closed already");
    let (code, reason) = peer.expect_close(LONG).await.expect("a close frame");
    assert_eq!((code, reason.as_str()), (Some(4001), "done"));
    assert_eq!(session.status(), Status::Ended);
}

#[tokio::test]
async fn observers_are_told_in_order_and_a_slow_or_panicking_one_harms_nobody() {
    let server = server().await;
    let (session, _peer) = session(&server).await;
    let _messages = session.messages();
    let mut slow = session.observe(1);
    let mut quick = session.observe(64);
    let calls = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&calls);
    let silent = Arc::clone(&calls);
    let panicking = session.register(64, |_| panic!("a callback that panics"));
    let counting = session.register(64, move |_| {
        counted.fetch_add(1, Ordering::SeqCst);
    });
    session
        .register(64, move |_| {
            silent.fetch_add(1000, Ordering::SeqCst);
        })
        .unregister();
    session.reconnect().await.expect("live again");
    let mut told = Vec::new();
    while told.last() != Some(&"live") {
        match quick.next().await.expect("a notice") {
            Notice::Status(step) => told.push(step.to.label()),
            Notice::Gap { subscriptions, .. } => {
                assert_eq!(subscriptions, 1);
                told.push("gap");
            }
            other => panic!("an unknown notice: {other:?}"),
        }
    }
    assert_eq!(
        told,
        ["down", "gap", "reconnecting", "establishing", "live"]
    );
    assert_eq!((quick.lost(), slow.lost()), (0, 4));
    assert!(matches!(slow.next().await, Some(Notice::Status(step)) if step.to == Status::Down));
    while calls.load(Ordering::SeqCst) < 5 || panicking.panics() < 5 {
        tokio::task::yield_now().await;
    }
    assert_eq!((calls.load(Ordering::SeqCst), panicking.panics()), (5, 5));
    assert_eq!((counting.lost(), panicking.lost()), (0, 0));
}

/// Takes messages until it is told to hand the stream on; returns what it saw.
async fn reader(
    mut messages: Subscription<Frame>,
    mut hand_over: oneshot::Receiver<()>,
    seen: mpsc::UnboundedSender<u64>,
) -> Subscription<Frame> {
    loop {
        tokio::select! {
            biased;
            _ = &mut hand_over => return messages,
            event = messages.next() => match event.expect("a stream that goes on") {
                Event::Data(data) => {
                    let number = data.as_text().expect("text").parse().expect("a number");
                    let _ = seen.send(number);
                }
                other => panic!("nothing was lost, and yet: {other:?}"),
            },
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_changes_hands_during_traffic_loses_and_doubles_nothing() {
    const COUNT: u64 = 5_000;
    let server = server().await;
    let (session, peer) = session(&server).await;
    let queue = Queue::new(64, Overflow::Block(LONG));
    let mut messages = session.messages_with(queue);
    let sender = tokio::spawn(async move {
        for number in 0..COUNT {
            let sent = peer.send_text(number.to_string()).await;
            sent.expect("an open connection");
        }
        peer
    });
    let (seen, mut numbers) = mpsc::unbounded_channel();
    let mut expected = 0;
    let mut owners = 0;
    while expected < COUNT {
        let (hand_over, told) = oneshot::channel();
        let task = tokio::spawn(reader(messages, told, seen.clone()));
        owners += 1;
        // Each owner takes at least some messages before it hands the stream on.
        let until = (expected + 97).min(COUNT);
        while expected < until {
            let number = tokio::time::timeout(LONG, numbers.recv()).await;
            assert_eq!(number.expect("in time"), Some(expected));
            expected += 1;
        }
        let _ = hand_over.send(());
        messages = task.await.expect("an owner that goes");
    }
    assert!(owners > 5, "{owners} owners");
    assert_eq!(session.statistics().gaps.len(), 0);
    assert_eq!(messages.depth(), 0);
    assert!(numbers.try_recv().is_err(), "nothing came twice");
    drop(sender.await.expect("the sender"));
}

#[tokio::test]
async fn the_state_shows_what_is_pending_and_what_waits_for_its_consumer() {
    let server = server().await;
    let (session, mut peer) = session(&server).await;
    let idle = session.state_metrics();
    assert_eq!((idle.pending_requests, idle.subscriptions), (0, 0));
    assert_eq!((idle.queued_requests, idle.connect_attempts), (0, 0));

    let asked = session.clone();
    let asked = tokio::spawn(async move { asked.request::<u64>("sum", &json!([1])).await });
    let request = peer.recv_text().await.expect("a request");
    assert_eq!(session.state_metrics().pending_requests, 1);
    let request: serde_json::Value = serde_json::from_str(&request).expect("json");
    let answer = json!({"jsonrpc": "2.0", "id": request["id"], "result": 1});

    let (idler, mut reader) = (session.messages(), session.messages());
    for text in ["one", "two", "three"] {
        peer.send_text(text).await.expect("an open connection");
        data(&mut reader).await;
    }
    let held = session.state_metrics();
    assert_eq!((held.queued_messages, held.queued_bytes), (3, 11));
    assert_eq!(held.subscriptions, 2);
    drop((idler, reader));
    assert_eq!(session.state_metrics().subscriptions, 0);

    peer.send_json(answer).await.expect("an open connection");
    assert_eq!(asked.await.expect("no panic").expect("a sum"), 1);
    // The next answer's batch ends after that of the first.
    session.ping("", LONG).await.expect("a pong");
    session.ping("", LONG).await.expect("a pong");
    assert_eq!(session.state_metrics().pending_requests, 0);
}

#[tokio::test]
async fn the_channels_that_are_wanted_are_listed_once_by_name() {
    let server = server().await;
    let (session, peer) = session(&server).await;
    let subscribe = async |name: &str| {
        let channel = Channel::<Frame>::new(name);
        session.subscribe(channel).await.expect("a subscription")
    };
    let (_trades, ticker) = (subscribe("trades").await, subscribe("ticker").await);
    let again = subscribe("ticker").await;
    let _everything_else = session.messages();
    let names = || {
        let channels = session.channels();
        channels.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(names(), ["ticker", "trades"]);
    let states = session.channel_states();
    let states = states
        .iter()
        .map(|state| (&*state.channel, state.status, state.subscriptions));
    let unasked = ChannelStatus::Unasked;
    assert_eq!(
        states.collect::<Vec<_>>(),
        [("trades", unasked, 1), ("ticker", unasked, 2)],
        "in the order of the wishes"
    );
    peer.hang_up().await.expect("an open connection");
    session.wait_for(Status::Down, LONG).await.expect("down");
    assert_eq!(
        names(),
        ["ticker", "trades"],
        "a wish outlives its connection"
    );
    drop(ticker);
    assert_eq!(names(), ["ticker", "trades"]);
    drop(again);
    assert_eq!(names(), ["trades"]);
}

async fn data(messages: &mut Subscription<Frame>) -> Frame {
    let event = tokio::time::timeout(LONG, messages.next()).await;
    match event.expect("in time") {
        Some(Event::Data(frame)) => frame.message,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn the_state_shows_the_attempts_of_an_outage_and_forgets_them() {
    let refused = Script::refuse(503, &[], "later");
    let scripts = [Script::new(), refused.clone(), refused.clone(), refused];
    let server = ScriptedServer::builder().scripts(scripts).start().await;
    let server = server.expect("a server");
    let (session, peer) = session(&server).await;
    peer.reset().await.expect("an open connection");
    let refusals = |count| {
        let mut upgrades = 0;
        move |one: &mainstay::testing::Received| {
            upgrades += u32::from(matches!(one.kind, ReceivedKind::Upgrade(_)));
            upgrades > count
        }
    };
    let third = server.wait_for("three refusals", LONG, refusals(3)).await;
    third.expect("three attempts");
    let down = session.state_metrics();
    assert!(down.connect_attempts >= 3, "{down:?}");
    server.push_script(Script::new());
    session
        .wait_for(Status::Live, LONG)
        .await
        .expect("live again");
    assert_eq!(session.state_metrics().connect_attempts, 0);
}

#[tokio::test]
async fn the_heart_shows_its_beats_and_its_failures() {
    let server = server().await;
    let config = builder(&server)
        .liveness(Liveness::new(Duration::from_millis(20), LONG))
        .build()
        .expect("a valid configuration");
    let session = Client::connect_with(config).await.expect("a session");
    let mut peer = server.next_connection().await.expect("a connection");
    let health = loop {
        peer.recv().await.expect("a ping");
        let health = session.heartbeat_health();
        if health.pongs > 0 {
            break health;
        }
    };
    assert!(health.active);
    assert_eq!(health.interval, Duration::from_millis(20));
    assert_eq!(health.epoch, mainstay::Epoch::NONE.next());
    assert!(health.round_trip.is_some());
    assert!(health.last_ping.is_some());
    assert_eq!(health.last_beat(), health.last_pong);
    assert!(health.last_inbound.is_some());
    assert!(health.unanswered <= 1);
    assert_eq!(health.venue_heartbeats, 0);

    session.shutdown().await;
    let over = session.heartbeat_health();
    assert!(!over.active);
    assert!(over.pings >= health.pings);
}
