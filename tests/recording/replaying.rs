//! A recording read back, and played to a live session.

use std::time::{Duration, UNIX_EPOCH};

use mainstay::adapters::deribit::{self, Deribit, Interval};
use mainstay::config::Record;
use mainstay::error::RequestError;
use mainstay::protocol::recording::{Direction, Entry};
use mainstay::replay::{Replay, ReplayError};
use mainstay::testing::deribit::DeribitSimulator;
use mainstay::testing::{ReplayServer, ReplayServerError, Script};
use mainstay::{Client, Event, Frame, Session};
use serde_json::{Value, json};

use crate::{File, LONG, builder, connect, next, path, server};

/// As the Elixir library writes it, with what a crash and an editor may leave.
const FOREIGN: &str = r#"{"dir":"out","ts":"2026-01-20T15:30:45.000000Z","data":"{\"id\":1,\"method\":\"sum\"}","type":"text"}
{"dir":"in","ts":"2026-01-20T15:30:46.500000Z","data":"{\"id\":1,\"result\":3}","type":"text"}

not json
{"dir":"in","ts":"2026-01-20T15:30:47.000000Z","data":"AQID","type":"binary","binary":true}
{"dir":"in","ts":"2026-01-20T16:30:47.000000Z","data":"{\"code\":1000,\"reason\":\"bye\"}","type":"close"}
{"dir":"in","ts":"2026-01-20T16:30:4"#;

fn foreign(test: &str) -> File {
    let path = path(test);
    std::fs::write(&path, FOREIGN).expect("written");
    path
}

async fn all(replay: &mut Replay) -> Vec<Entry> {
    let mut entries = Vec::new();
    while let Some(entry) = replay.next().await.expect("readable") {
        entries.push(entry);
    }
    entries
}

#[tokio::test]
async fn a_foreign_recording_is_read_and_lines_that_are_no_entries_are_passed_over() {
    let path = foreign("foreign");
    let mut replay = Replay::open(&path).await.expect("a recording");
    let entries = all(&mut replay).await;
    assert_eq!(entries.len(), 4);
    assert_eq!(entries[0].direction, Direction::Out);
    assert_eq!(entries[2].frame().expect("a frame").payload(), [1, 2, 3]);
    let close = Frame::Close(Some((1000, "bye".to_owned())));
    assert_eq!(entries[3].frame(), Some(&close));
    assert_eq!((replay.skipped().blank, replay.skipped().malformed), (1, 2));
    let metadata = Replay::metadata(&path).await.expect("a recording");
    assert_eq!(
        (metadata.count, metadata.inbound, metadata.outbound),
        (4, 3, 1)
    );
    assert_eq!(metadata.duration(), Duration::from_secs(3602));
    assert_eq!(metadata.malformed, 2);
}

#[tokio::test]
async fn a_missing_recording_is_an_error_that_names_it() {
    let missing = path("missing").with_file_name("other.jsonl");
    let error = Replay::open(&missing).await.expect_err("missing");
    assert!(matches!(&error, ReplayError::NotFound { path } if *path == missing));
    assert!(error.to_string().contains("other.jsonl"));
    let error = ReplayServer::start(&missing).await.expect_err("missing");
    assert!(matches!(
        error,
        ReplayServerError::Recording(ReplayError::NotFound { .. })
    ));
}

#[tokio::test(start_paused = true)]
async fn real_time_makes_the_recorded_pauses_and_a_clock_set_back_makes_none() {
    let path = path("real_time");
    let line = |micros: u64| {
        let at = UNIX_EPOCH + Duration::from_micros(micros);
        Entry::new(at, Direction::In, Frame::text("x")).format()
    };
    let day = 24 * 3_600_000_000;
    let lines = [line(day), line(day + 1_500_000), line(5), line(day)].join("\n");
    std::fs::write(&path, lines).expect("written");
    let mut replay = Replay::open(&path)
        .await
        .expect("a recording")
        .in_real_time();
    let mut pauses = Vec::new();
    let mut before = tokio::time::Instant::now();
    while replay.next().await.expect("readable").is_some() {
        pauses.push(before.elapsed().as_secs_f64());
        before = tokio::time::Instant::now();
    }
    let expected = [0.0, 1.5, 0.0, 86_400.0];
    assert_eq!(pauses.len(), expected.len());
    for (pause, expected) in pauses.iter().zip(expected) {
        // The runtime's timers tick in milliseconds.
        assert!((pause - expected).abs() < 0.01, "{pauses:?}");
    }
}

#[tokio::test]
async fn dropping_the_wait_for_an_entry_loses_none() {
    let path = foreign("cancel");
    let mut replay = Replay::open(&path).await.expect("a recording");
    let mut entries = Vec::new();
    while entries.len() < 4 {
        let impatient = tokio::time::timeout(Duration::ZERO, replay.next()).await;
        if let Ok(entry) = impatient {
            entries.extend(entry.expect("readable"));
        }
        tokio::task::yield_now().await;
    }
    assert_eq!(replay.next().await.expect("readable"), None);
}

#[tokio::test]
async fn a_foreign_recording_drives_a_live_session() {
    let path = foreign("drives");
    let venue = ReplayServer::start(&path).await.expect("a server");
    let session = Client::connect(venue.url()).await.expect("a session");
    let mut messages = session.messages();
    // The recording has no params, and neither has this.
    let sum = session
        .call(mainstay::Call::bare("sum"), LONG)
        .await
        .expect("an answer");
    assert_eq!(sum.get(), "3");
    loop {
        match next(&mut messages).await {
            Event::Data(frame) => assert_eq!(frame.payload(), [1, 2, 3]),
            Event::Gap(gap) => {
                assert!(gap.cause.to_string().contains("bye"), "{}", gap.cause);
                break;
            }
            Event::Resynced(_) => {}
            other => panic!("{other:?}"),
        }
    }
    let report = venue.report();
    assert_eq!((report.matched, report.missed), (1, 0));
}

#[tokio::test]
async fn a_request_that_the_recording_does_not_hold_is_answered_with_an_error() {
    let path = path("unknown");
    let server = server(Script::new().expect_method("sum").reply(json!(3))).await;
    let session = connect(server.url(), Record::to(&path)).await;
    let _: Value = session.request("sum", &json!({})).await.expect("an answer");
    drop(session);
    let venue = ReplayServer::start(&path).await.expect("a server");
    let session = Client::connect(venue.url()).await.expect("a session");
    let error = session.request::<Value>("product", &json!({})).await;
    assert!(matches!(
        error.expect_err("refused"),
        RequestError::Answered { error, .. } if error.code == -32601
    ));
    let sum: Value = session.request("sum", &json!({})).await.expect("an answer");
    assert_eq!(sum, 3);
    venue.played().await;
    assert_eq!(venue.report().unexpected, 1);
}

fn deribit() -> Deribit {
    let builder = Deribit::builder().credentials("id", "secret");
    builder.build().expect("valid")
}

/// A logged-in session's first messages of a ticker and of a private channel.
async fn hear(session: &Session, count: usize) -> (Vec<String>, Vec<String>) {
    let ticker = deribit::ticker("BTC-PERPETUAL", Interval::Ms100);
    let mut ticker = session.subscribe(ticker).await.expect("a subscription");
    let orders = deribit::user_orders("BTC-PERPETUAL", Interval::Raw);
    let mut orders = session.subscribe(orders).await.expect("a subscription");
    let (mut ticks, mut changes) = (Vec::new(), Vec::new());
    while changes.len() < count {
        if let Event::Data(data) = next(&mut orders).await {
            changes.push(format!("{:?}", *data));
        }
    }
    while ticks.len() < count {
        if let Event::Data(data) = next(&mut ticker).await {
            ticks.push(format!("{:?}", *data));
        }
    }
    (ticks, changes)
}

#[tokio::test]
async fn a_recorded_venue_session_played_to_a_new_session_gives_the_same_data() {
    let path = path("venue");
    let venue = DeribitSimulator::builder()
        .credentials("id", "secret")
        .tick_interval(Duration::from_millis(10))
        .start()
        .await
        .expect("a venue");
    let config = builder(venue.url(), Record::to(&path))
        .build()
        .expect("valid");
    let session = Session::start(deribit(), config).await.expect("a session");
    let recorded = hear(&session, 5).await;
    session.shutdown().await;
    drop(venue);

    let again = path.with_file_name("again.jsonl");
    let venue = ReplayServer::start(&path).await.expect("a server");
    let config = builder(venue.url(), Record::to(&again))
        .build()
        .expect("valid");
    let session = Session::start(deribit(), config).await.expect("a session");
    let replayed = hear(&session, 5).await;
    assert_eq!(replayed, recorded);
    let report = venue.report();
    assert_eq!((report.missed, report.unexpected), (0, 0), "{report:?}");
    session.shutdown().await;

    // A recording of the replay holds what the recording holds, up to where the session ended.
    let data = async |path: &std::path::Path| {
        let mut replay = Replay::open(path).await.expect("a recording");
        let entries = all(&mut replay).await.into_iter();
        let texts = entries.filter_map(|entry| Some(entry.frame()?.as_text()?.to_owned()));
        texts
            .filter(|text| text.contains(r#""method":"subscription""#))
            .collect::<Vec<_>>()
    };
    let (first, second) = (data(&path).await, data(&again).await);
    assert!(second.len() >= 10);
    assert_eq!(first[..second.len()], second[..]);
}
