//! What is written, when, and what is left out.

use mainstay::adapters::deribit::{self, Deribit, Interval};
use mainstay::config::Record;
use mainstay::protocol::recording::{Direction, Entry, Mark, Metadata, Recorded};
use mainstay::testing::deribit::{DeribitSimulator, Fault};
use mainstay::testing::{ReceivedKind, Script};
use mainstay::{Event, Frame, Part, Session};
use serde_json::{Value, json};

use crate::{LONG, NEVER, builder, connect, entries, next, path, server, text};

/// Sends `count` messages once it has been asked to.
fn talkative(count: u32) -> Script {
    Script::new()
        .await_message("go")
        .repeat(count, Script::new().send("tick"))
        .send("last")
}

/// Asks for the messages of a talkative server and reads the last of them.
async fn hear_all(session: &Session) {
    let mut messages = session.messages();
    session.send(Frame::text("go")).await.expect("written");
    loop {
        if let Event::Data(frame) = next(&mut messages).await
            && frame.as_text() == Some("last")
        {
            return;
        }
    }
}

fn frames(path: &std::path::Path) -> Vec<(Direction, Frame)> {
    let entries = entries(path).into_iter();
    entries
        .filter_map(|entry| Some((entry.direction, entry.frame()?.clone())))
        .collect()
}

#[tokio::test]
async fn text_binary_control_and_close_frames_are_recorded_in_order() {
    let path = path("kinds");
    let script = Script::new()
        .await_message("go")
        .send("hello")
        .send_binary(vec![1_u8, 2, 3])
        .ping("are you there")
        .send("last");
    let server = server(script).await;
    let session = connect(server.url(), Record::to(&path)).await;
    hear_all(&session).await;
    session.shutdown().await;
    let bytes = |bytes: &'static [u8]| mainstay::bytes::Bytes::from_static(bytes);
    let close = Frame::Close(Some((1001, "shutting down".to_owned())));
    assert_eq!(
        frames(&path),
        [
            (Direction::Out, Frame::text("go")),
            (Direction::In, Frame::text("hello")),
            (Direction::In, Frame::Binary(bytes(&[1, 2, 3]))),
            (Direction::In, Frame::Ping(bytes(b"are you there"))),
            (Direction::In, Frame::text("last")),
            (Direction::Out, close.clone()),
            (Direction::In, close),
        ]
    );
    assert_eq!(entries(&path)[0].recorded, Recorded::Opened { epoch: 1 });
}

#[tokio::test]
async fn a_session_that_is_not_recorded_has_no_recording() {
    let server = server(Script::new()).await;
    let session = mainstay::Client::connect(server.url())
        .await
        .expect("a session");
    assert_eq!(session.recording(), None);
    assert_eq!(session.flush_recording().await, None);
}

#[tokio::test]
async fn a_hundred_entries_are_written_without_waiting_for_the_clock() {
    let path = path("hundred");
    let server = server(talkative(150)).await;
    let session = connect(server.url(), Record::to(&path).flush_every(NEVER)).await;
    hear_all(&session).await;
    let enough = async {
        while session.recording().expect("recorded").entries < 100 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LONG, enough).await.expect("in time");
    assert!(entries(&path).len() >= 100);
}

#[tokio::test]
async fn what_waits_is_written_when_its_interval_is_over() {
    let path = path("interval");
    let server = server(talkative(3)).await;
    let record = Record::to(&path)
        .flush_at(65_536)
        .flush_every(std::time::Duration::from_millis(20));
    let session = connect(server.url(), record).await;
    hear_all(&session).await;
    let written = tokio::time::timeout(LONG, async {
        // Nobody asks for a flush, and nothing ends.
        while !text(&path).contains("last") {
            tokio::task::yield_now().await;
        }
    });
    written.await.expect("written by the clock");
    assert!(session.state().is_live());
}

#[tokio::test]
async fn the_venues_heartbeats_and_our_answers_are_recorded_and_marked() {
    let path = path("heartbeats");
    let venue = DeribitSimulator::builder().heartbeat_scale(1_000);
    let venue = venue.start().await.expect("a venue");
    let config = builder(venue.url(), Record::to(&path)).build();
    let session = Session::start(Deribit::new(), config.expect("valid"))
        .await
        .expect("a session");
    venue
        .wait_for_method("public/test", 1, LONG)
        .await
        .expect("an answer");
    session.shutdown().await;
    let answers = marks(&path, Mark::Heartbeat);
    assert_eq!(answers[0]["method"], "public/test");
    let entries = entries(&path);
    let beat = entries
        .iter()
        .find(|entry| entry.mark == Some(Mark::Heartbeat) && entry.direction == Direction::In);
    let beat = beat.and_then(Entry::frame).and_then(Frame::as_text);
    assert!(beat.expect("a heartbeat").contains("test_request"));
}

#[tokio::test]
async fn a_flush_that_is_asked_for_writes_everything_and_says_how_much() {
    let path = path("flush");
    let server = server(talkative(3)).await;
    let session = connect(server.url(), Record::to(&path).flush_every(NEVER)).await;
    hear_all(&session).await;
    let statistics = session.flush_recording().await.expect("recorded");
    assert_eq!(statistics.entries, 6, "opened, go, three ticks, last");
    assert_eq!(statistics.bytes, text(&path).len() as u64);
    assert_eq!((statistics.dropped, statistics.errors), (0, 0));
    assert_eq!(Metadata::of(text(&path).lines()).count, 5);
}

#[tokio::test]
async fn a_recorder_that_panics_loses_nothing_and_interrupts_nobody() {
    let path = path("panic");
    let server = server(talkative(20)).await;
    let session = connect(server.url(), Record::to(&path).flush_every(NEVER)).await;
    let mut messages = session.messages();
    // More often than the session's restart intensity would bear.
    for round in 1..=8_u64 {
        session.crash(Part::Recorder);
        let restarted = async {
            while session.statistics().restarts.get("recorder") < Some(&round) {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(LONG, restarted)
            .await
            .expect("in time");
    }
    session.send(Frame::text("go")).await.expect("written");
    session.crash(Part::Recorder);
    let mut heard = 0;
    while heard < 21 {
        match next(&mut messages).await {
            Event::Data(_) => heard += 1,
            Event::Resynced(_) => {}
            other => panic!("{other:?}"),
        }
    }
    drop(messages);
    drop(session);
    assert_eq!(Metadata::of(text(&path).lines()).inbound, 21);
    assert_eq!(server.accepted(), 1);
}

#[tokio::test]
async fn dropping_the_session_writes_what_has_come() {
    let path = path("drop");
    let server = server(talkative(5)).await;
    let session = connect(server.url(), Record::to(&path).flush_every(NEVER)).await;
    hear_all(&session).await;
    drop(session);
    assert_eq!(Metadata::of(text(&path).lines()).inbound, 6);
}

#[test]
fn the_end_of_the_runtime_writes_what_has_come() {
    let path = path("runtime");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let session = runtime.block_on(async {
        let server = server(talkative(5)).await;
        let session = connect(server.url(), Record::to(&path).flush_every(NEVER)).await;
        hear_all(&session).await;
        session
    });
    // As when the program's main function panics: nobody shuts anything down.
    drop(runtime);
    drop(session);
    assert_eq!(Metadata::of(text(&path).lines()).inbound, 6);
}

#[tokio::test]
async fn a_file_that_cannot_be_opened_is_counted_and_the_session_goes_on() {
    let path = path("refused");
    let server = server(talkative(5)).await;
    // Its folder is there; that no system takes such a name is seen when it is opened.
    let record = Record::to(path.with_file_name("long".repeat(1000)));
    let session = connect(server.url(), record).await;
    hear_all(&session).await;
    let statistics = session.flush_recording().await.expect("recorded");
    assert!(statistics.errors > 0, "{statistics:?}");
    assert_eq!(statistics.entries, 0);
    assert!(session.state().is_live());
}

#[cfg(unix)]
#[tokio::test]
async fn a_queue_that_is_full_sheds_and_the_file_says_so() {
    let path = path("shed");
    let server = server(talkative(500)).await;
    // The file cannot be opened yet, so that nothing is written: it is a link into a folder that is missing.
    let folder = path.with_file_name("later");
    std::os::unix::fs::symlink(folder.join("session.jsonl"), &path).expect("a link");
    let record = Record::to(&path).bounds(100, 1 << 20);
    let session = connect(server.url(), record).await;
    hear_all(&session).await;
    std::fs::create_dir_all(&folder).expect("a folder");
    let statistics = session.flush_recording().await.expect("recorded");
    assert_eq!(statistics.dropped, 503 - 100, "opened, go, 501 messages");
    let metadata = Metadata::of(text(&path).lines());
    assert_eq!((metadata.count, metadata.dropped), (99, 403));
}

#[tokio::test]
async fn every_connection_of_a_session_goes_into_one_file() {
    let path = path("connections");
    let server = server(talkative(2)).await;
    let session = connect(server.url(), Record::to(&path)).await;
    let mut peer = server.next_connection().await.expect("a connection");
    hear_all(&session).await;
    peer.hang_up().await.expect("open");
    let _ = peer.expect_end(LONG).await;
    let opened = server.wait_for("a second connection", LONG, |entry| {
        entry.connection == 2 && matches!(entry.kind, ReceivedKind::Upgrade(_))
    });
    opened.await.expect("a second connection");
    session.live().await.expect("live");
    hear_all(&session).await;
    session.shutdown().await;
    let metadata = Metadata::of(text(&path).lines());
    assert_eq!(
        (metadata.connections, metadata.inbound),
        (2, 7),
        "the last is a close"
    );
}

fn marks(path: &std::path::Path, mark: Mark) -> Vec<Value> {
    let entries: Vec<Entry> = entries(path);
    entries
        .iter()
        .filter(|entry| entry.mark == Some(mark) && entry.direction == Direction::Out)
        .map(|entry| {
            let text = entry.frame().and_then(Frame::as_text).expect("a text");
            serde_json::from_str(text).expect("json")
        })
        .collect()
}

#[tokio::test]
async fn what_the_library_sends_by_itself_is_marked_and_credentials_are_not_there() {
    const SECRETS: [&str; 3] = ["an-identity-7261", "a-secret-9183", "own-5519"];
    let path = path("secrets");
    let venue = DeribitSimulator::builder()
        .credentials(SECRETS[0], SECRETS[1])
        .tick_interval(std::time::Duration::from_millis(10))
        .start()
        .await
        .expect("a venue");
    let deribit = Deribit::builder()
        .credentials(SECRETS[0], SECRETS[1])
        .build()
        .expect("valid");
    let record = Record::to(&path)
        .redact_text(SECRETS[2])
        .redact_member("label");
    let config = builder(venue.url(), record).build().expect("valid");
    let session = Session::start(deribit, config).await.expect("a session");
    let orders = deribit::user_orders("BTC-PERPETUAL", Interval::Raw);
    let mut orders = session.subscribe(orders).await.expect("a subscription");

    // By hand, as a request and as a frame: the platform knows the method either way.
    let login = json!({
        "grant_type": "client_credentials", "client_id": SECRETS[0], "client_secret": SECRETS[1],
    });
    let grant: Value = session
        .request("public/auth", &login)
        .await
        .expect("a grant");
    let request = json!({ "jsonrpc": "2.0", "id": 3, "method": "public/auth", "params": login });
    session
        .send(Frame::text(request.to_string()))
        .await
        .expect("written");
    let order = json!({
        "instrument_name": "BTC-PERPETUAL", "amount": 10.0, "price": 1.0, "label": "my-label-771",
        "note": SECRETS[2],
    });
    let _: Value = session
        .request("private/buy", &order)
        .await
        .expect("an order");

    venue.inject(Fault::TcpReset);
    while !matches!(next(&mut orders).await, Event::Resynced(_)) {}
    session.shutdown().await;

    let all = text(&path);
    let tokens =
        ["access_token", "refresh_token"].map(|name| grant[name].as_str().expect("a token"));
    for secret in SECRETS.into_iter().chain(tokens).chain(["my-label-771"]) {
        assert!(!all.contains(secret), "{secret} is in the recording");
    }
    assert!(all.contains("public/auth") && all.contains("expires_in"));
    let restored = marks(&path, Mark::Restore);
    assert_eq!(restored.len(), 1);
    assert_eq!(restored[0]["method"], "private/subscribe");
    assert_eq!(
        restored[0]["params"]["channels"][0],
        "user.orders.BTC-PERPETUAL.raw"
    );
    let logins = marks(&path, Mark::Authentication);
    assert_eq!(logins.len(), 2);
    assert_eq!(logins[0]["params"]["client_secret"], "[redacted]");
    let opening = marks(&path, Mark::Opening);
    let asked: Vec<_> = opening[..4].iter().map(|one| &one["method"]).collect();
    assert_eq!(
        asked,
        [
            "public/hello",
            "public/get_time",
            "public/status",
            "public/set_heartbeat"
        ]
    );
}

#[tokio::test]
async fn of_a_batch_with_credentials_their_values_are_left_out_and_ids_and_methods_are_not() {
    let path = path("batch");
    let answer = |text: &str| {
        let calls: Vec<Value> = serde_json::from_str(text).ok()?;
        let answers = calls
            .iter()
            .map(|call| json!({ "jsonrpc": "2.0", "id": call["id"], "result": "ticket 7" }));
        Some(Value::from(answers.collect::<Vec<_>>()).to_string())
    };
    let script = Script::responding(mainstay::testing::Responder::new(answer));
    let server = server(script).await;
    let record = Record::to(&path).redact_method("enter");
    let session = connect(server.url(), record).await;
    let call = |method, pin| mainstay::Call::new(method, &json!({ "pin": pin }));
    let calls = [call("enter", "hunter2"), call("look", "around")];
    let calls = calls.map(|call| call.expect("json"));
    for outcome in session.batch(calls, LONG).await {
        assert_eq!(outcome.expect("an answer").get(), r#""ticket 7""#);
    }
    session.shutdown().await;
    let texts = frames(&path).into_iter();
    let texts: Vec<String> = texts
        .filter_map(|(_, frame)| frame.as_text().map(str::to_owned))
        .collect();
    let [asked, answered] = &texts[..] else {
        panic!("{texts:?}");
    };
    for secret in ["hunter2", "ticket 7"] {
        assert!(
            !asked.contains(secret) && !answered.contains(secret),
            "{texts:?}"
        );
    }
    let asked: Value = serde_json::from_str(asked).expect("json");
    let answered: Value = serde_json::from_str(answered).expect("json");
    assert_eq!(
        (&asked[0]["method"], &asked[1]["method"]),
        (&json!("enter"), &json!("look"))
    );
    assert_eq!(answered[0]["id"], asked[0]["id"]);
}
