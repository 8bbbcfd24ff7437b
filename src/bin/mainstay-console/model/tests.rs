//! The model, key by key and line by line, and the program that it looks at in these tests.

use super::*;

pub(crate) const PROGRAM: &str =
    r#"{"type":"hello","version":1,"program":"feed","process":42,"reconnect":true,"kill":true}"#;

/// What a program with one session says, in an epoch, after so many frames and gaps.
pub(crate) fn inspection(epoch: u64, frames: u64, gaps: u64) -> String {
    let step = epoch * 4;
    serde_json::json!({"type": "inspection", "id": 1, "inspection": {
        "sessions": [{
            "id": "main", "status": "live", "endpoint": "wss://example.com/ws", "epoch": epoch,
            "ready": {"ok": true}, "requests": {"in_flight": 1, "queued": 2},
            "connection": {"open_for_ms": 61_000, "round_trip_us": 1500},
            "history": [{"number": step, "ago_ms": 0, "from": "establishing", "to": "live", "why": format!("established on connection {epoch}")}],
            "channels": [{"channel": "ticker.BTC", "status": "confirmed"}],
            "subscriptions": [{"channel": "ticker.BTC", "stale_for_ms": 12, "queued": 3, "gaps": gaps, "lost": 4}],
            "statistics": {"frames_in": frames, "gaps": {"connection_lost": gaps}, "restarts": {"transport": epoch - 1}},
            "tree": {"path": "feed", "id": "feed", "kind": "supervisor", "status": "running", "actor": "0.1", "uptime_ms": 61_000,
                "children": [
                    {"path": "feed/adapter", "id": "adapter", "kind": "worker", "status": "running", "actor": "0.2", "uptime_ms": 61_000},
                    {"path": "feed/transport", "id": "transport", "kind": "worker", "status": "restarting", "restarts": 7}
                ]}
        }],
        "trees": [{"path": "workers", "id": "workers", "status": "running", "actor": "0.9"}]
    }}).to_string()
}

pub(crate) fn said(model: &mut Model, line: &str, at: u64) {
    let message = Message::read(line.as_bytes());
    let command = model.on_input(Input::Said(message), Duration::from_millis(at));
    assert_eq!(command, None);
}

/// A view that is attached and has seen the program twice, a second apart.
pub(crate) fn model() -> Model {
    let mut model = Model::default();
    let _ = model.on_input(Input::Attached, Duration::ZERO);
    said(&mut model, PROGRAM, 0);
    said(&mut model, &inspection(1, 100, 0), 1000);
    said(&mut model, &inspection(2, 350, 2), 2000);
    model
}

fn key(model: &mut Model, key: Key) -> Option<Command> {
    model.on_input(Input::Key(key), Duration::from_secs(3))
}

#[test]
fn what_changes_between_two_inspections_is_told() {
    let model = model();
    let trend = &model.trends["main"];
    assert_eq!(trend.rates, [250]);
    assert_eq!(trend.gaps, [2]);
    assert_eq!(trend.round_trips, [1500, 1500]);
    let events: Vec<&str> = model
        .events
        .iter()
        .map(|event| event.text.as_str())
        .collect();
    assert_eq!(
        events,
        [
            "main: transport restarted (1 in all)",
            "main: 2 gaps",
            "main: establishing -> live: established on connection 2",
            "main: establishing -> live: established on connection 1",
        ]
    );
}

#[test]
fn a_selection_stays_on_its_row_while_the_tree_changes() {
    let mut model = model();
    for _ in 0..99 {
        let _ = key(&mut model, Key::Down);
    }
    assert_eq!(model.row().expect("a row").label, "workers");
    let with_more =
        inspection(2, 400, 2).replace("\"trees\":[", "\"trees\":[{\"path\":\"a\",\"id\":\"a\"},");
    said(&mut model, &with_more, 3000);
    assert_eq!(model.row().expect("a row").label, "workers");
    said(&mut model, r#"{"type":"inspection","inspection":{}}"#, 4000);
    assert!(model.row().is_none());
    assert_eq!(key(&mut model, Key::Enter), None);
    assert!(!model.drilled);
}

#[test]
fn a_paused_view_shows_what_it_showed_and_goes_on_counting() {
    let mut model = model();
    let _ = key(&mut model, Key::Pause);
    said(&mut model, &inspection(3, 400, 2), 3000);
    assert_eq!(model.shown.sessions[0].epoch, 2);
    assert_eq!(model.trends["main"].rates, [250, 50]);
    let _ = key(&mut model, Key::Pause);
    said(&mut model, &inspection(3, 400, 2), 4000);
    assert_eq!(model.shown.sessions[0].epoch, 3);
}

#[test]
fn a_session_reconnects_from_its_own_row_and_from_those_of_its_actors() {
    let mut model = model();
    let main = Some(Command::Reconnect {
        session: "main".to_owned(),
    });
    assert_eq!(key(&mut model, Key::Reconnect), main);
    let _ = key(&mut model, Key::Down);
    assert_eq!(key(&mut model, Key::Reconnect), main);
    model.selected = model.rows.len() - 1;
    assert_eq!(key(&mut model, Key::Reconnect), None);
    assert_eq!(model.notice, "select a session first");
}

#[test]
fn nothing_is_killed_without_a_second_key_nor_without_permission() {
    let mut model = model();
    let _ = key(&mut model, Key::Kill);
    assert!(model.doomed.is_none(), "a session is no actor");
    model.selected = 2;
    assert_eq!(key(&mut model, Key::Kill), None);
    assert_eq!(key(&mut model, Key::Down), None);
    assert!(model.doomed.is_none() && model.selected == 2);
    assert_eq!(key(&mut model, Key::Kill), None);
    let actor = "0.2".to_owned();
    assert_eq!(key(&mut model, Key::Yes), Some(Command::Kill { actor }));
    model.hello.kill = false;
    let _ = key(&mut model, Key::Kill);
    assert!(model.doomed.is_none());
    assert_eq!(model.notice, "the program does not allow to kill");
}

#[test]
fn quitting_works_from_everywhere() {
    let mut model = model();
    for before in [Key::Other, Key::Help, Key::Kill, Key::Enter] {
        let _ = key(&mut model, before);
        assert_eq!(key(&mut model, Key::Quit), Some(Command::Quit));
    }
}

#[test]
fn what_is_kept_is_bounded() {
    let mut model = model();
    for number in 0..1000 {
        said(
            &mut model,
            &inspection(number + 2, number * 10, number),
            3000 + number,
        );
    }
    assert_eq!(model.events.len(), EVENTS);
    assert_eq!(model.trends["main"].rates.len(), SAMPLES);
    said(&mut model, r#"{"type":"inspection","inspection":{}}"#, 9000);
    assert!(model.trends.is_empty());
}

#[test]
fn a_loss_is_told_and_attaching_again_clears_it() {
    let mut model = model();
    let _ = model.on_input(Input::Lost("gone".to_owned()), Duration::from_secs(5));
    assert!(!model.attached && model.notice.contains("gone"));
    let _ = model.on_input(Input::Attached, Duration::from_secs(6));
    assert!(model.attached && model.notice.is_empty());
}

#[test]
fn a_notice_makes_room_for_the_keys_again() {
    let mut model = model();
    said(
        &mut model,
        r#"{"type":"done","id":1,"detail":"killed"}"#,
        3000,
    );
    said(&mut model, &inspection(2, 400, 2), 4000);
    assert_eq!(model.notice, "done: killed");
    said(&mut model, &inspection(2, 450, 2), 8500);
    assert_eq!(model.notice, "");
    said(
        &mut model,
        r#"{"type":"refused","id":1,"reason":"no"}"#,
        9000,
    );
    let _ = key(&mut model, Key::Down);
    assert_eq!(model.notice, "");
}
