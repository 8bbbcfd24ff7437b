//! What a session promises, against a scripted server on the loopback.
//!
//! Each test awaits events; none sleeps. Deadlines are only there so that a broken promise ends the test.

use std::time::Duration;

use mainstay::close::{CloseReason, GapCause};
use mainstay::config::{Liveness, Overflow, Queue, ReconnectOwner};
use mainstay::error::{ConnectError, EndReason, Recovery, RequestError, StartError, UnknownCause};
use mainstay::platform::JsonRpc;
use mainstay::supervisors::Backoff;
use mainstay::testing::{ReceivedKind, Script, ScriptedServer};
use mainstay::{Channel, Client, Config, Event, Frame, Part, Session, Subscription};
use serde_json::json;

const LONG: Duration = Duration::from_secs(10);

/// A configuration that reconnects fast.
fn config(server: &ScriptedServer, owner: ReconnectOwner) -> Config {
    builder(server, owner)
        .build()
        .expect("a valid configuration")
}

fn builder(server: &ScriptedServer, owner: ReconnectOwner) -> mainstay::config::ConfigBuilder {
    Config::builder(server.url())
        .reconnect_owner(owner)
        .backoff(Backoff::new(
            Duration::from_millis(5),
            Duration::from_millis(50),
        ))
        .shutdown_timeout(Duration::from_secs(3))
}

async fn connect(server: &ScriptedServer) -> Session {
    Client::connect_with(config(server, ReconnectOwner::Client))
        .await
        .expect("a session")
}

async fn server(scripts: impl IntoIterator<Item = Script>) -> ScriptedServer {
    ScriptedServer::builder()
        .scripts(scripts)
        .start()
        .await
        .expect("a server")
}

async fn next<M: mainstay::Message>(subscription: &mut Subscription<M>) -> Event<M> {
    let event = tokio::time::timeout(LONG, subscription.next())
        .await
        .expect("an event in time");
    event.expect("a subscription that goes on")
}

#[track_caller]
fn data(event: Event<Frame>) -> String {
    match event {
        Event::Data(data) => data.as_text().expect("text").to_owned(),
        other => panic!("expected data, found {other:?}"),
    }
}

#[track_caller]
fn gap(event: Event<Frame>) -> mainstay::Gap {
    match event {
        Event::Gap(gap) => gap,
        other => panic!("expected a gap, found {other:?}"),
    }
}

#[track_caller]
fn resynced(event: Event<Frame>) -> mainstay::Resynced {
    match event {
        Event::Resynced(resynced) => resynced,
        other => panic!("expected a resync, found {other:?}"),
    }
}

fn answering() -> Script {
    Script::new().expect_method("sum").reply(json!(3))
}

#[tokio::test]
async fn a_request_is_answered_through_the_standalone_door() {
    let server = server([answering()]).await;
    let session = Client::connect(server.url()).await.expect("a session");
    assert_eq!(session.latency(), None);
    let sum: u32 = session
        .request("sum", &json!({"a": 1, "b": 2}))
        .await
        .expect("an answer");
    assert_eq!(sum, 3);
    let latency = session.latency().expect("one request was answered");
    assert_eq!(latency.count, 1);
    assert_eq!((latency.p50, latency.p99), (latency.last, latency.last));
    assert_eq!(session.statistics().requests.count, 1);
}

#[tokio::test]
async fn of_as_many_requests_as_chosen_the_times_are_told() {
    let script = (0..3).fold(Script::new(), |script, _| {
        script.expect_method("sum").reply(json!(3))
    });
    let server = server([script]).await;
    let config = builder(&server, ReconnectOwner::Client)
        .latency_window(2)
        .build();
    let session = Client::connect_with(config.expect("valid"))
        .await
        .expect("a session");
    for _ in 0..3 {
        let _: u32 = session.request("sum", &json!([])).await.expect("an answer");
    }
    assert_eq!(session.latency().expect("answers").count, 2);
    assert_eq!(session.statistics().requests.count, 3);
}

#[tokio::test]
async fn answers_find_their_callers_whatever_their_order() {
    let server = server([Script::new()]).await;
    let session = connect(&server).await;
    let mut peer = server.next_connection().await.expect("a connection");
    let (one, two) = (session.clone(), session.clone());
    let one = tokio::spawn(async move { one.request::<u32>("one", &json!({})).await });
    let first = peer.recv_text().await.expect("the first request");
    let two = tokio::spawn(async move { two.request::<u32>("two", &json!({})).await });
    let second = peer.recv_text().await.expect("the second request");
    for (text, result) in [(second, 2), (first, 1)] {
        let request: serde_json::Value = serde_json::from_str(&text).expect("json");
        let answer = json!({"jsonrpc": "2.0", "id": request["id"], "result": result});
        peer.send_json(answer).await.expect("an open connection");
    }
    assert_eq!(one.await.expect("a task").expect("an answer"), 1);
    assert_eq!(two.await.expect("a task").expect("an answer"), 2);
}

#[tokio::test]
async fn an_error_object_is_an_answer_and_keeps_its_code() {
    let server = server([Script::new()
        .expect_method("x")
        .reply_error(-32601, "no such method")])
    .await;
    let session = connect(&server).await;
    let error = session
        .request::<()>("x", &json!({}))
        .await
        .expect_err("refused");
    assert!(matches!(error, RequestError::Answered { error, .. } if error.code == -32601));
}

#[tokio::test]
async fn an_error_object_keeps_its_data() {
    let server = server([Script::new()]).await;
    let session = connect(&server).await;
    let mut peer = server.next_connection().await.expect("a connection");
    let asking = session.clone();
    let asked = tokio::spawn(async move { asking.request::<()>("x", &json!({})).await });
    let request: serde_json::Value =
        serde_json::from_str(&peer.recv_text().await.expect("a request")).expect("json");
    let error = json!({"code": 7, "message": "no", "data": {"field": "price"}});
    peer.send_json(json!({"jsonrpc": "2.0", "id": request["id"], "error": error}))
        .await
        .expect("open");
    let error = asked.await.expect("a task").expect_err("refused");
    let RequestError::Answered { error, .. } = error else {
        panic!("{error:?}");
    };
    let data = error.data.expect("data");
    assert_eq!(data.get(), r#"{"field":"price"}"#);
}

#[tokio::test]
async fn text_and_binary_messages_are_told_apart() {
    let script = Script::new().expect("now").send("seven");
    let server = server([script.send_binary(&b"\x07"[..])]).await;
    let session = connect(&server).await;
    let mut messages = session.messages();
    session.send(Frame::text("now")).await.expect("written");
    for expected in [Frame::text("seven"), Frame::Binary((&b"\x07"[..]).into())] {
        match next(&mut messages).await {
            Event::Data(frame) => assert_eq!(frame.message, expected),
            other => panic!("expected data, found {other:?}"),
        }
    }
}

#[tokio::test]
async fn a_ping_of_the_server_is_answered_with_its_payload() {
    let server = server([Script::new().ping("there?")]).await;
    let _session = connect(&server).await;
    server
        .wait_for(
            "a pong",
            LONG,
            |entry| matches!(&entry.kind, ReceivedKind::Pong(payload) if &payload[..] == b"there?"),
        )
        .await
        .expect("a pong");
}

#[tokio::test]
async fn a_connection_that_was_not_stable_does_not_reset_the_attempts() {
    for owner in [ReconnectOwner::Client, ReconnectOwner::Adapter] {
        let rounds = || (0..9).map(|_| Script::new().expect("go").hang_up());
        // Each connection is live, and none for long.
        let flapping = server(rounds()).await;
        let config = builder(&flapping, owner).max_attempts(Some(3));
        let config = config.stable_after(LONG).build().expect("valid");
        let session = Session::start(JsonRpc, config).await.expect("a session");
        while session.send(Frame::text("go")).await.is_ok() {}
        let end = tokio::time::timeout(LONG, session.ended()).await;
        assert!(matches!(end, Ok(EndReason::Fatal(_))), "{owner:?} {end:?}");
        assert_eq!(flapping.accepted(), 4, "one connection and three attempts");

        // The same, where any time at all counts as stable.
        let steady = server(rounds()).await;
        let config = builder(&steady, owner).max_attempts(Some(3));
        let config = config.stable_after(Duration::from_nanos(1));
        let config = config.build().expect("valid");
        let session = Session::start(JsonRpc, config).await.expect("a session");
        while steady.accepted() < 8 {
            let sent = session.send(Frame::text("go")).await;
            assert!(session.status() != mainstay::Status::Ended, "{sent:?}");
        }
    }
}

#[tokio::test]
async fn a_first_connection_that_is_refused_fails_the_start_at_once_with_its_cause() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    drop(listener);
    let started = Client::connect(format!("ws://127.0.0.1:{port}/"));
    let error = tokio::time::timeout(LONG, started)
        .await
        .expect("in time")
        .expect_err("refused");
    assert!(
        matches!(error, StartError::Connect(ConnectError::Tcp { .. })),
        "{error:?}"
    );
}

#[tokio::test]
async fn an_http_answer_other_than_101_comes_back_with_status_headers_and_body() {
    let server = server([Script::refuse(403, &[("x-reason", "key")], "no entry")]).await;
    let error = Client::connect(server.url()).await.expect_err("refused");
    let StartError::Connect(ConnectError::Refused { response }) = error else {
        panic!("{error:?}");
    };
    assert_eq!(response.status, 403);
    assert_eq!(response.headers["x-reason"], "key");
    assert_eq!(&response.body[..], b"no entry");
}

#[tokio::test]
async fn a_gap_is_announced_although_no_data_follows() {
    let server = server([
        Script::new().send("one").expect("now").reset(),
        Script::new(),
    ])
    .await;
    let session = connect(&server).await;
    let mut messages = session.messages();
    session.send(Frame::text("now")).await.expect("written");
    loop {
        match next(&mut messages).await {
            Event::Data(_) => {}
            event => {
                assert_eq!(gap(event).cause.label(), "reset");
                break;
            }
        }
    }
    let again = resynced(next(&mut messages).await);
    assert_eq!(again.epoch.as_u64(), 2);
    assert!(!again.complete, "events that were missed stay missed");
}

#[tokio::test]
async fn nothing_of_an_older_epoch_comes_after_a_newer_one() {
    let flapping = (0..20).map(|_| Script::new().send("tick").send("tock").hang_up());
    let begin = [Script::new().expect("go").hang_up()];
    let server = server(
        begin
            .into_iter()
            .chain(flapping)
            .chain([Script::new().send("end")]),
    )
    .await;
    let session = connect(&server).await;
    let mut messages = session.messages();
    session.send(Frame::text("go")).await.expect("written");
    let mut epoch = 0;
    let mut open_gap = false;
    loop {
        match next(&mut messages).await {
            Event::Data(data) => {
                assert!(!open_gap, "data within a gap");
                assert!(
                    data.epoch.as_u64() >= epoch,
                    "an older epoch after a newer one"
                );
                epoch = data.epoch.as_u64();
                if data.as_text() == Some("end") {
                    break;
                }
            }
            Event::Gap(_) => open_gap = true,
            Event::Resynced(_) => open_gap = false,
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn under_layer_1_the_transport_is_restarted_and_the_client_stays() {
    let server = server([Script::new().expect("x").hang_up(), answering()]).await;
    let session = connect(&server).await;
    let mut messages = session.messages();
    session.send(Frame::text("x")).await.expect("written");
    let _ = gap(next(&mut messages).await);
    let sum: u32 = session.request("sum", &json!({})).await.expect("an answer");
    assert_eq!(sum, 3);
    let statistics = session.statistics();
    assert_eq!(statistics.reconnects_by_client, 1);
    assert_eq!(statistics.reconnects_by_adapter, 0);
    assert!(
        !statistics.restarts.contains_key("client"),
        "{statistics:?}"
    );
}

#[tokio::test]
async fn under_layer_2_the_connections_subtree_is_restarted_as_a_whole() {
    let server = server([Script::new().expect("x").hang_up(), answering()]).await;
    let config = config(&server, ReconnectOwner::Adapter);
    let session = Session::start(JsonRpc, config).await.expect("a session");
    let mut messages = session.messages();
    session.send(Frame::text("x")).await.expect("written");
    let _ = gap(next(&mut messages).await);
    let sum: u32 = session.request("sum", &json!({})).await.expect("an answer");
    assert_eq!(sum, 3);
    let statistics = session.statistics();
    assert_eq!(statistics.reconnects_by_client, 0);
    assert_eq!(statistics.reconnects_by_adapter, 1);
}

#[tokio::test]
async fn a_lost_connection_costs_no_restart_intensity() {
    // Far more losses than a supervisor would bear as failures.
    let losses = (0..30).map(|_| Script::new().hang_up());
    let server = server(losses.chain([answering()])).await;
    for owner in [ReconnectOwner::Client, ReconnectOwner::Adapter] {
        let config = builder(&server, owner)
            .retry_first(true)
            .build()
            .expect("valid");
        let session = Session::start(JsonRpc, config).await.expect("a session");
        let _ = session.request::<u32>("sum", &json!({})).await;
        assert!(
            !matches!(session.state(), mainstay::SessionState::Ended(_)),
            "{owner:?}"
        );
    }
}

#[tokio::test]
async fn a_request_in_flight_when_the_socket_dies_is_of_unknown_fate_and_not_repeated() {
    let server = server([Script::new().expect_method("order").reset(), Script::new()]).await;
    let session = connect(&server).await;
    let error = session
        .request::<()>("order", &json!({}))
        .await
        .expect_err("no answer");
    assert!(
        matches!(
            error,
            RequestError::Unknown {
                cause: UnknownCause::ConnectionLost(_),
                ..
            }
        ),
        "{error:?}"
    );
    assert_eq!(error.recovery(), Recovery::Reconcile);
    session.live().await.expect("live again");
    session.send(Frame::text("marker")).await.expect("written");
    server
        .expect_message("marker", LONG)
        .await
        .expect("the marker");
    let orders = server
        .received()
        .iter()
        .filter(|entry| matches!(&entry.kind, ReceivedKind::Text(text) if text.contains("order")))
        .count();
    assert_eq!(orders, 1, "written at most once");
}

#[tokio::test]
async fn a_request_without_an_answer_ends_at_its_deadline() {
    let server = server([Script::new()]).await;
    let config = builder(&server, ReconnectOwner::Client)
        .request_timeout(Duration::from_millis(50))
        .build()
        .expect("valid");
    let session = Client::connect_with(config).await.expect("a session");
    let error = session
        .request::<()>("x", &json!({}))
        .await
        .expect_err("no answer");
    assert!(matches!(
        error,
        RequestError::Unknown {
            cause: UnknownCause::Deadline { .. },
            ..
        }
    ));
}

#[tokio::test]
async fn a_request_while_the_venue_is_away_is_not_sent() {
    let gone = Script::refuse(503, &[], "");
    let server = server([Script::new().expect("x").hang_up(), gone]).await;
    let config = builder(&server, ReconnectOwner::Client)
        .request_timeout(Duration::from_millis(200))
        .build()
        .expect("valid");
    let session = Client::connect_with(config).await.expect("a session");
    let mut messages = session.messages();
    session.send(Frame::text("x")).await.expect("written");
    let _ = gap(next(&mut messages).await);
    let error = session
        .request::<()>("y", &json!({}))
        .await
        .expect_err("no connection");
    assert!(matches!(error, RequestError::NotSent { .. }), "{error:?}");
    assert_eq!(error.recovery(), Recovery::Retry);
}

#[tokio::test]
async fn a_late_or_doubled_answer_reaches_nobody_else() {
    let server = server([Script::new()]).await;
    let session = connect(&server).await;
    let mut peer = server.next_connection().await.expect("a connection");
    let caller = session.clone();
    let first = tokio::spawn(async move { caller.request::<u32>("one", &json!({})).await });
    let request: serde_json::Value =
        serde_json::from_str(&peer.recv_text().await.expect("a request")).expect("json");
    let old = json!({"jsonrpc": "2.0", "id": request["id"], "result": 1});
    peer.send_json(old.clone()).await.expect("open");
    assert_eq!(first.await.expect("a task").expect("an answer"), 1);

    let caller = session.clone();
    let second = tokio::spawn(async move { caller.request::<u32>("two", &json!({})).await });
    let request: serde_json::Value =
        serde_json::from_str(&peer.recv_text().await.expect("a request")).expect("json");
    peer.send_json(old).await.expect("open");
    peer.send_json(json!({"jsonrpc": "2.0", "id": request["id"], "result": 2}))
        .await
        .expect("open");
    assert_eq!(second.await.expect("a task").expect("an answer"), 2);
    assert_eq!(session.statistics().unwanted, 1);
}

#[tokio::test]
async fn a_half_open_connection_is_noticed_and_replaced() {
    let server = server([Script::new().go_silent(), answering()]).await;
    let config = builder(&server, ReconnectOwner::Client)
        .liveness(Liveness::new(
            Duration::from_millis(100),
            Duration::from_millis(100),
        ))
        .build()
        .expect("valid");
    let session = Client::connect_with(config).await.expect("a session");
    let mut messages = session.messages();
    assert_eq!(gap(next(&mut messages).await).cause.label(), "silent");
    let _ = resynced(next(&mut messages).await);
}

#[tokio::test]
async fn a_quiet_peer_that_answers_pings_is_kept_and_its_round_trip_measured() {
    let server = server([Script::new()]).await;
    let config = builder(&server, ReconnectOwner::Client)
        .liveness(Liveness::new(
            Duration::from_millis(20),
            Duration::from_secs(5),
        ))
        .build()
        .expect("valid");
    let session = Client::connect_with(config).await.expect("a session");
    let mut pings = 0;
    server
        .wait_for("five pings", LONG, |entry| {
            pings += usize::from(matches!(entry.kind, ReceivedKind::Ping(_)));
            pings >= 5
        })
        .await
        .expect("pings");
    assert_eq!(server.accepted(), 1, "still the first connection");
    assert!(session.statistics().round_trip.count >= 4);
}

#[tokio::test]
async fn a_shutdown_says_goodbye_with_a_close_frame_and_does_not_reconnect() {
    let server = server([Script::new()]).await;
    let session = connect(&server).await;
    let mut messages = session.messages();
    let report = session.shutdown().await.expect("an own tree");
    assert!(
        report.killed.is_empty() && report.abandoned.is_empty(),
        "{report:?}"
    );
    server
        .wait_for("a close frame", LONG, |entry| {
            matches!(
                entry.kind,
                ReceivedKind::Close {
                    code: Some(1001),
                    ..
                }
            )
        })
        .await
        .expect("a close frame");
    loop {
        if let Event::Ended(reason) = next(&mut messages).await {
            assert!(matches!(reason, EndReason::Shutdown));
            break;
        }
    }
    assert!(messages.next().await.is_none(), "nothing follows the end");
    assert_eq!(server.accepted(), 1);
}

#[tokio::test]
async fn a_session_that_is_dropped_closes_its_socket_and_ends_its_subscriptions() {
    let server = server([Script::new()]).await;
    let session = connect(&server).await;
    let mut messages = session.messages();
    drop(session);
    server
        .wait_for("the end of the connection", LONG, |entry| {
            matches!(entry.kind, ReceivedKind::Ended { .. })
        })
        .await
        .expect("the end");
    loop {
        if matches!(next(&mut messages).await, Event::Ended(_)) {
            break;
        }
    }
}

#[tokio::test]
async fn a_refusal_that_another_attempt_cannot_cure_ends_the_session_with_its_true_cause() {
    let fatal = Script::refuse(401, &[], "who are you");
    let server = server([Script::new().expect("x").hang_up(), fatal]).await;
    for owner in [ReconnectOwner::Client, ReconnectOwner::Adapter] {
        let _ = owner;
    }
    let session = connect(&server).await;
    session.send(Frame::text("x")).await.expect("written");
    let reason = tokio::time::timeout(LONG, session.ended())
        .await
        .expect("an end");
    let EndReason::Fatal(CloseReason::NotOpened(error)) = reason else {
        panic!("{reason:?}")
    };
    assert!(matches!(&*error, ConnectError::Refused { response } if response.status == 401));
}

#[tokio::test]
async fn a_panic_in_the_client_is_a_gap_with_its_cause_and_the_session_comes_back() {
    let server = server([Script::new()]).await;
    let session = connect(&server).await;
    let mut messages = session.messages();
    session.crash(Part::Client);
    let interruption = gap(next(&mut messages).await);
    assert!(
        matches!(&interruption.cause, GapCause::ActorRestarted { actor, .. } if actor == "client"),
        "{interruption:?}"
    );
    let _ = resynced(next(&mut messages).await);
    assert_eq!(session.statistics().restarts.get("client"), Some(&1));
}

#[tokio::test]
async fn a_panic_in_the_adapter_takes_the_connection_with_it_and_the_wishes_stay() {
    let server = server([Script::new()]).await;
    let config = config(&server, ReconnectOwner::Adapter);
    let session = Session::start(JsonRpc, config).await.expect("a session");
    let mut messages = session.messages();
    session.crash(Part::Adapter);
    let interruption = gap(next(&mut messages).await);
    assert!(
        matches!(&interruption.cause, GapCause::ActorRestarted { actor, .. } if actor == "adapter"),
        "{interruption:?}"
    );
    let _ = resynced(next(&mut messages).await);
    assert_eq!(server.accepted(), 2);
}

#[tokio::test]
async fn there_are_never_two_sockets() {
    let server = server([Script::new()]).await;
    let session = connect(&server).await;
    let mut messages = session.messages();
    for _ in 0..3 {
        session.crash(Part::Client);
        let _ = gap(next(&mut messages).await);
        let _ = resynced(next(&mut messages).await);
    }
    let mut open = 0i32;
    for entry in server.received() {
        match entry.kind {
            ReceivedKind::Accepted => open += 1,
            ReceivedKind::Ended { .. } => open -= 1,
            _ => {}
        }
        assert!(open <= 1, "a second socket while the first was open");
    }
}

#[tokio::test]
async fn panics_beyond_the_intensity_end_the_session_visibly() {
    let server = server([Script::new()]).await;
    let session = connect(&server).await;
    let mut messages = session.messages();
    for _ in 0..100 {
        session.crash(Part::Client);
        match tokio::time::timeout(LONG, messages.next())
            .await
            .expect("an event")
        {
            Some(Event::Ended(reason)) => {
                assert!(matches!(reason, EndReason::Exhausted(_)), "{reason:?}");
                return;
            }
            Some(_) => {}
            None => panic!("ended without a word"),
        }
    }
    panic!("a hundred panics were borne");
}

#[tokio::test]
async fn a_consumer_that_is_too_slow_is_told_how_much_it_missed() {
    let flood = Script::new()
        .expect("go")
        .repeat(100, Script::new().send("tick"))
        .send("end");
    let server = server([flood]).await;
    let session = connect(&server).await;
    let mut slow = session.messages_with(Queue::new(8, Overflow::DropOldest));
    let mut quick = session.messages_with(Queue::new(1000, Overflow::DropOldest));
    session.send(Frame::text("go")).await.expect("written");
    let mut ticks = 0;
    while data(next(&mut quick).await) != "end" {
        ticks += 1;
    }
    assert_eq!(ticks, 100, "the other subscription missed nothing");
    let lag = gap(next(&mut slow).await);
    assert!(matches!(lag.cause, GapCause::Lagged));
    let missed = lag.missed.expect("a count");
    assert!(!resynced(next(&mut slow).await).complete);
    let mut seen = 1;
    while data(next(&mut slow).await) != "end" {
        seen += 1;
    }
    assert_eq!(missed + seen, 101, "what was not seen was counted");
}

#[tokio::test]
async fn a_stuck_consumer_holds_up_no_reply() {
    let flood = Script::new()
        .repeat(2000, Script::new().send("tick"))
        .expect_method("sum")
        .reply(json!(3));
    let server = server([flood]).await;
    let session = connect(&server).await;
    let _stuck = session.messages_with(Queue::new(4, Overflow::DropOldest));
    let sum: u32 = session.request("sum", &json!({})).await.expect("an answer");
    assert_eq!(sum, 3);
}

#[tokio::test]
async fn a_message_in_fragments_arrives_whole() {
    // With a ping between the two, as RFC 6455, section 5.4, allows.
    let fragments = b"\x01\x03hel\x89\x00\x80\x02lo".to_vec();
    let server = server([Script::new().expect("now").raw(fragments)]).await;
    let session = connect(&server).await;
    let mut messages = session.messages();
    session.send(Frame::text("now")).await.expect("written");
    let whole = data(next(&mut messages).await);
    assert_eq!(whole, "hello");
}

#[tokio::test]
async fn bytes_that_break_the_protocol_end_the_connection_and_not_the_program() {
    // A reserved opcode, a reserved bit, a ping of 128 bytes.
    let mut ping = vec![0x89, 0x7E, 0x00, 0x80];
    ping.resize(4 + 128, 0);
    let broken = [vec![0x83, 0x00], vec![0xC1, 0x00], ping];
    let scripts: Vec<Script> = broken
        .iter()
        .map(|bytes| Script::new().expect("now").raw(bytes.clone()))
        .collect();
    let server = server(scripts.into_iter().chain([answering()])).await;
    let session = connect(&server).await;
    let mut messages = session.messages();
    for _ in broken {
        session.send(Frame::text("now")).await.expect("written");
        let cause = gap(next(&mut messages).await).cause;
        assert!(
            matches!(
                &cause,
                GapCause::ConnectionLost(CloseReason::Protocol { .. })
            ),
            "{cause:?}"
        );
        let _ = resynced(next(&mut messages).await);
    }
    let sum: u32 = session.request("sum", &json!({})).await.expect("an answer");
    assert_eq!(sum, 3);
}

#[tokio::test]
async fn what_follows_a_broken_frame_is_not_read_and_what_came_before_is_delivered() {
    // A text, one with a reserved bit, a ping: in one packet.
    let bytes = b"\x81\x02hi\xc1\x02no\x89\x01p".to_vec();
    let server = server([Script::new().expect("now").raw(bytes), answering()]).await;
    let session = connect(&server).await;
    let mut messages = session.messages();
    session.send(Frame::text("now")).await.expect("written");
    assert_eq!(data(next(&mut messages).await), "hi");
    assert_eq!(gap(next(&mut messages).await).cause.label(), "protocol");
    let _ = resynced(next(&mut messages).await);
    let received = server.received();
    let first: Vec<_> = received
        .iter()
        .filter(|entry| entry.connection == 1)
        .map(|entry| &entry.kind)
        .collect();
    assert!(
        !first
            .iter()
            .any(|kind| matches!(kind, ReceivedKind::Pong(_))),
        "{first:?}"
    );
}

#[tokio::test]
async fn a_message_beyond_the_limit_ends_the_connection_with_1009() {
    let server = server([Script::new().expect("now").send("x".repeat(2000))]).await;
    let config = builder(&server, ReconnectOwner::Client)
        .max_message(1000)
        .build()
        .expect("valid");
    let session = Client::connect_with(config).await.expect("a session");
    let mut messages = session.messages();
    session.send(Frame::text("now")).await.expect("written");
    assert_eq!(gap(next(&mut messages).await).cause.label(), "too_big");
    server
        .wait_for("a close with 1009", LONG, |entry| {
            matches!(
                entry.kind,
                ReceivedKind::Close {
                    code: Some(1009),
                    ..
                }
            )
        })
        .await
        .expect("1009");
}

#[tokio::test]
async fn text_that_is_not_utf8_ends_the_connection_with_1007() {
    let not_text: &[u8] = b"\x81\x02\xc3\x28";
    let in_two_fragments: &[u8] = b"\x01\x01\xc3\x80\x01\x28";
    let in_a_reason: &[u8] = b"\x88\x04\x03\xe8\xc3\x28";
    for bytes in [not_text, in_two_fragments, in_a_reason] {
        let server = server([Script::new().expect("now").raw(bytes.to_vec()), answering()]).await;
        let session = connect(&server).await;
        let mut messages = session.messages();
        session.send(Frame::text("now")).await.expect("written");
        assert_eq!(gap(next(&mut messages).await).cause.label(), "not_utf8");
        server
            .wait_for("a close with 1007", LONG, |entry| {
                matches!(
                    entry.kind,
                    ReceivedKind::Close {
                        code: Some(1007),
                        ..
                    }
                )
            })
            .await
            .expect("1007");
    }
}

#[tokio::test]
async fn a_close_code_reaches_the_gap() {
    let server = server([
        Script::new().expect("now").close(4321, "so there"),
        Script::new(),
    ])
    .await;
    let session = connect(&server).await;
    let mut messages = session.messages();
    session.send(Frame::text("now")).await.expect("written");
    let cause = gap(next(&mut messages).await).cause;
    let GapCause::ConnectionLost(CloseReason::Peer {
        code: Some(4321),
        reason,
    }) = cause
    else {
        panic!("{cause:?}");
    };
    assert_eq!(reason, "so there");
}

#[tokio::test]
async fn notifications_go_to_their_channel_and_the_rest_to_everybody_else() {
    let tick =
        json!({"jsonrpc": "2.0", "method": "subscription", "params": {"channel": "a", "data": 1}});
    let server = server([Script::new().expect("now").send_json(tick).send("hello")]).await;
    let session = connect(&server).await;
    let mut channel = session
        .subscribe(Channel::<Frame>::new("a"))
        .await
        .expect("a subscription");
    let mut rest = session.messages();
    session.send(Frame::text("now")).await.expect("written");
    assert!(data(next(&mut channel).await).contains("\"data\":1"));
    assert_eq!(data(next(&mut rest).await), "hello");
}

#[tokio::test]
async fn a_session_runs_in_a_tree_of_the_users_own() {
    use mainstay::supervisors::{ShutdownPlan, Strategy, SupervisorSpec};
    let server = server([answering()]).await;
    let config = config(&server, ReconnectOwner::Adapter);
    let (session, child) = Session::supervised("feed", JsonRpc, config);
    let root = SupervisorSpec::new(Strategy::OneForOne)
        .name("mine")
        .child(child)
        .start()
        .await;
    let root = root.expect("a tree");
    session.live().await.expect("live");
    let sum: u32 = session.request("sum", &json!({})).await.expect("an answer");
    assert_eq!(sum, 3);
    let report = root
        .shutdown(ShutdownPlan::within(Duration::from_secs(3)))
        .await;
    assert!(report.abandoned.is_empty(), "{report:?}");
}

#[tokio::test]
async fn a_session_in_a_users_tree_ends_its_subscriptions_with_that_tree() {
    use mainstay::supervisors::{ShutdownPlan, Strategy, SupervisorSpec};
    let server = server([Script::new()]).await;
    let (session, child) =
        Session::supervised("feed", JsonRpc, config(&server, ReconnectOwner::Adapter));
    let root = SupervisorSpec::new(Strategy::OneForOne)
        .child(child)
        .start()
        .await
        .expect("a tree");
    session.live().await.expect("live");
    let mut messages = session.messages();
    root.shutdown(ShutdownPlan::within(Duration::from_secs(3)))
        .await;
    drop(root);
    while !matches!(next(&mut messages).await, Event::Ended(EndReason::Shutdown)) {}
}

#[tokio::test]
async fn a_fatal_cause_ends_a_session_in_a_users_tree_and_nothing_else_of_it() {
    use mainstay::supervisors::{Strategy, SupervisorSpec};
    let fatal = Script::refuse(401, &[], "who are you");
    let server = server([Script::new().expect("x").hang_up(), fatal]).await;
    let (session, child) =
        Session::supervised("feed", JsonRpc, config(&server, ReconnectOwner::Adapter));
    let root = SupervisorSpec::new(Strategy::OneForOne)
        .child(child)
        .start()
        .await
        .expect("a tree");
    session.live().await.expect("live");
    session.send(Frame::text("x")).await.expect("written");
    let reason = tokio::time::timeout(LONG, session.ended())
        .await
        .expect("an end");
    assert!(matches!(reason, EndReason::Fatal(_)), "{reason:?}");
    assert_eq!(server.accepted(), 2, "no storm");
    let tree = root.snapshot().await;
    assert_eq!(tree.children.len(), 1, "the user's tree goes on:\n{tree}");
}

#[tokio::test]
async fn a_panic_in_the_heartbeat_manager_interrupts_nothing() {
    let server = server([answering()]).await;
    let session = connect(&server).await;
    session.crash(Part::HeartbeatManager);
    let sum: u32 = session.request("sum", &json!({})).await.expect("an answer");
    assert_eq!(sum, 3);
    assert_eq!(server.accepted(), 1);
    assert!(
        session.statistics().gaps.is_empty(),
        "{:?}",
        session.statistics()
    );
}

#[tokio::test]
async fn after_a_panic_of_any_other_actor_the_wishes_are_intact_and_data_flows_again() {
    let tick =
        json!({"jsonrpc": "2.0", "method": "subscription", "params": {"channel": "a", "data": 1}});
    for owner in [ReconnectOwner::Client, ReconnectOwner::Adapter] {
        for part in [
            Part::SubscriptionManager,
            Part::Adapter,
            Part::Client,
            Part::Transport,
        ] {
            let server = server([Script::new().expect("now").send_json(tick.clone())]).await;
            let session = Session::start(Feed, config(&server, owner))
                .await
                .expect("a session");
            let mut ticks = session
                .subscribe(Channel::<Frame>::new("a"))
                .await
                .expect("a subscription");
            session.crash(part);
            let _ = gap(next(&mut ticks).await);
            let again = resynced(next(&mut ticks).await);
            assert_eq!(again.epoch.as_u64(), 2, "{owner:?} {part:?}");
            session.send(Frame::text("now")).await.expect("written");
            assert!(
                data(next(&mut ticks).await).contains("\"data\":1"),
                "{owner:?} {part:?}"
            );
        }
    }
}

/// A venue without login whose subscriptions need no answer.
#[derive(Debug)]
struct Feed;

impl mainstay::Platform for Feed {
    fn name(&self) -> &str {
        "feed"
    }

    fn channel(&self, _name: &str) -> mainstay::platform::ChannelKind {
        mainstay::platform::ChannelKind::state()
    }
}

#[tokio::test]
async fn the_tree_can_be_seen() {
    let server = server([Script::new()]).await;
    let config = config(&server, ReconnectOwner::Adapter);
    let session = Session::start(JsonRpc, config).await.expect("a session");
    let tree = session.tree().await.expect("an own tree").to_string();
    for actor in [
        "subscription_manager",
        "adapter",
        "connection",
        "client",
        "transport",
        "heartbeat_manager",
    ] {
        assert!(tree.contains(actor), "{actor} is missing in\n{tree}");
    }
}

#[tokio::test]
async fn nothing_secret_is_in_a_debug_text() {
    let config = Config::builder("ws://127.0.0.1:1/?token=hunter2")
        .header("authorization", "Bearer hunter2")
        .build()
        .expect("valid");
    assert!(!format!("{config:?}").contains("hunter2"));
    let error = Client::connect_with(config).await.expect_err("refused");
    assert!(!format!("{error:?} {error}").contains("hunter2"));
}
