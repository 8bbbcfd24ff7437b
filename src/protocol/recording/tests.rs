//! The format against lines that other programs have written, the rules of redaction, and what holds for
//! every entry.

use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

/// 2026-01-20T15:30:45.123456Z.
fn at() -> SystemTime {
    UNIX_EPOCH + Duration::from_micros(1_768_923_045_123_456)
}

fn parsed(line: &str) -> Entry {
    Entry::parse(line).unwrap()
}

fn close(code: u16, reason: &str) -> Frame {
    Frame::Close(Some((code, reason.to_owned())))
}

/// Lines as the Elixir library writes them, with what they mean.
fn golden() -> Vec<(&'static str, Entry)> {
    let binary = Frame::Binary(Bytes::from_static(&[1, 2, 3]));
    vec![
        (
            r#"{"ts":"2026-01-20T15:30:45.123456Z","dir":"out","type":"text","data":"hello"}"#,
            Entry::new(at(), Direction::Out, Frame::text("hello")),
        ),
        (
            r#"{"ts":"2026-01-20T15:30:45.123456Z","dir":"in","type":"text","data":"{\"id\":1,\"ö\":\"\\n\"}"}"#,
            Entry::new(at(), Direction::In, Frame::text(r#"{"id":1,"ö":"\n"}"#)),
        ),
        (
            r#"{"ts":"2026-01-20T15:30:45.123456Z","dir":"in","type":"binary","data":"AQID","binary":true}"#,
            Entry::new(at(), Direction::In, binary),
        ),
        (
            r#"{"ts":"2026-01-20T15:30:45.123456Z","dir":"in","type":"close","data":"{\"code\":1000,\"reason\":\"normal\"}"}"#,
            Entry::new(at(), Direction::In, close(1000, "normal")),
        ),
    ]
}

#[test]
fn lines_of_the_plain_format_are_read_and_written_alike() {
    for (line, entry) in golden() {
        assert_eq!(parsed(line), entry, "{line}");
        assert_eq!(entry.format(), line);
        assert!(entry.is_plain());
    }
}

#[test]
fn the_order_of_members_does_not_matter_nor_do_unknown_ones() {
    for (line, entry) in golden() {
        let members: Value = serde_json::from_str(line).unwrap();
        let mut other = members.as_object().unwrap().clone();
        other.insert("zone".to_owned(), json!([1]));
        let backwards: serde_json::Map<_, _> = other.into_iter().rev().collect();
        assert_eq!(parsed(&format!(" {} \r\n", Value::from(backwards))), entry);
    }
}

#[test]
fn a_line_that_is_no_entry_says_which_member_is_wrong() {
    let ts = r#""ts":"2026-01-20T15:30:45Z""#;
    for (line, expected) in [
        ("", "line is not a JSON object"),
        ("not json", "line is not a JSON object"),
        ("[1]", "line is not a JSON object"),
        ("{}", "invalid timestamp (none)"),
        (r#"{"ts":"yesterday"}"#, r#"invalid timestamp "yesterday""#),
        (r#"{"ts":1}"#, "invalid timestamp 1"),
        (&format!("{{{ts}}}"), "invalid direction (none)"),
        (
            &format!(r#"{{{ts},"dir":"sideways"}}"#),
            r#"invalid direction "sideways""#,
        ),
        (&format!(r#"{{{ts},"dir":"in"}}"#), "invalid type (none)"),
        (
            &format!(r#"{{{ts},"dir":"in","type":"video","data":""}}"#),
            r#"invalid type "video""#,
        ),
        (
            &format!(r#"{{{ts},"dir":"in","type":"text"}}"#),
            r#"invalid data of a line of type "text""#,
        ),
        (
            &format!(r#"{{{ts},"dir":"in","type":"text","data":7}}"#),
            "invalid data",
        ),
        (
            &format!(r#"{{{ts},"dir":"in","type":"opened","data":"x"}}"#),
            "invalid data",
        ),
    ] {
        let error = Entry::parse(line).unwrap_err().to_string();
        assert!(error.starts_with(expected), "{line}: {error}");
    }
}

#[test]
fn base64_that_cannot_be_read_is_data_as_it_stands() {
    let line =
        r#"{"ts":"2026-01-20T15:30:45Z","dir":"in","type":"binary","data":"%%%","binary":true}"#;
    assert_eq!(parsed(line).frame().unwrap().payload(), b"%%%");
    let unflagged = r#"{"ts":"2026-01-20T15:30:45Z","dir":"in","type":"binary","data":"AQID"}"#;
    assert_eq!(parsed(unflagged).frame().unwrap().payload(), b"AQID");
}

#[test]
fn a_close_that_is_not_the_usual_json_is_kept_as_a_reason() {
    let line = |data: &str| {
        let data = serde_json::to_string(data).unwrap();
        parsed(&format!(
            r#"{{"ts":"2026-01-20T15:30:45Z","dir":"in","type":"close","data":{data}}}"#
        ))
        .recorded
    };
    assert_eq!(line("gone"), Recorded::Frame(close(1005, "gone")));
    assert_eq!(line(r#"{"code":1001}"#), Recorded::Frame(close(1001, "")));
    assert_eq!(line(""), Recorded::Frame(Frame::Close(None)));
}

#[test]
fn what_the_plain_format_does_not_know_has_a_type_that_its_readers_pass_over() {
    let payload = Bytes::from_static(b"\x00ping");
    for entry in [
        Entry::new(at(), Direction::Out, Frame::Ping(payload.clone())),
        Entry::new(at(), Direction::In, Frame::Pong(payload)),
        Entry::opened(at(), 3),
        Entry::dropped(at(), 7, 1),
    ] {
        let line: Value = serde_json::from_str(&entry.format()).unwrap();
        let kind = line["type"].as_str().unwrap();
        assert!(!["text", "binary", "close"].contains(&kind), "{kind}");
        assert_eq!(parsed(&entry.format()), entry);
    }
}

#[test]
fn a_mark_is_a_member_beside_a_plain_line() {
    let plain = Entry::new(at(), Direction::Out, Frame::text("{}"));
    let marked = plain.clone().marked(Some(Mark::Restore));
    let line: Value = serde_json::from_str(&marked.format()).unwrap();
    let mut members = line.as_object().unwrap().clone();
    assert_eq!(members.remove("mark"), Some(json!("restore")));
    assert_eq!(Value::from(members).to_string(), {
        let line: Value = serde_json::from_str(&plain.format()).unwrap();
        line.to_string()
    });
    assert_eq!(parsed(&marked.format()), marked);
    let unknown = marked.format().replace("restore", "something new");
    assert_eq!(parsed(&unknown), plain);
}

#[test]
fn metadata_counts_what_every_reader_finds_and_the_rest_beside_it() {
    let later = at() + Duration::from_millis(2500);
    let lines = [
        Entry::opened(at() - Duration::from_secs(1), 1).format(),
        Entry::new(at(), Direction::Out, Frame::text("a")).format(),
        Entry::new(at(), Direction::Out, Frame::Ping(Bytes::new())).format(),
        String::new(),
        "garbage".to_owned(),
        Entry::dropped(at(), 2, 3).format(),
        Entry::new(at(), Direction::In, Frame::Binary(Bytes::new())).format(),
        Entry::new(later, Direction::In, close(1000, "")).format(),
        Entry::new(later, Direction::In, Frame::Pong(Bytes::new())).format(),
    ];
    let metadata = Metadata::of(&lines);
    assert_eq!(
        (metadata.count, metadata.inbound, metadata.outbound),
        (3, 2, 1)
    );
    assert_eq!((metadata.first, metadata.last), (Some(at()), Some(later)));
    assert_eq!(metadata.duration(), Duration::from_millis(2500));
    assert_eq!(metadata.control, 2);
    assert_eq!(metadata.connections, 1);
    assert_eq!(metadata.dropped, 5);
    assert_eq!(metadata.malformed, 1);
    let empty = Metadata::of(Vec::<String>::new());
    assert_eq!(empty, Metadata::default());
    assert_eq!(empty.duration(), Duration::ZERO);
}

fn rules() -> Redaction {
    Redaction::new(DEFAULT_MEMBERS, ["hunter\"2", "key-17"])
}

fn redacted(text: &str, confidence: Confidence) -> String {
    let frame = rules().apply(Frame::text(text), confidence);
    frame.as_text().unwrap().to_owned()
}

#[test]
fn a_request_with_credentials_keeps_its_shape_its_id_and_its_method() {
    let request = r#"{"jsonrpc":"2.0","id":7,"method":"public/auth","params":{"grant_type":"client_credentials","client_id":"me","nonce":12,"list":[true,null,"x"]}}"#;
    assert_eq!(
        redacted(request, Confidence::Request),
        r#"{"jsonrpc":"2.0","id":7,"method":"public/auth","params":{"grant_type":"[redacted]","client_id":"[redacted]","nonce":"[redacted]","list":["[redacted]",null,"[redacted]"]}}"#
    );
    assert_eq!(redacted("login me s3cret", Confidence::Request), REDACTED);
}

#[test]
fn its_answer_keeps_its_numbers() {
    let answer = r#"{"jsonrpc":"2.0","id":7,"result":{"access_token":"a","expires_in":900,"refresh_token":"b","scope":"x"},"usIn":12}"#;
    assert_eq!(
        redacted(answer, Confidence::Answer),
        r#"{"jsonrpc":"2.0","id":7,"result":{"access_token":"[redacted]","expires_in":900,"refresh_token":"[redacted]","scope":"[redacted]"},"usIn":12}"#
    );
}

#[test]
fn members_with_telling_names_lose_their_values_wherever_they_stand() {
    for (text, expected) in [
        (
            r#"{"a":[{"clientSecret":{"b":1}}]}"#,
            r#"{"a":[{"clientSecret":"[redacted]"}]}"#,
        ),
        (
            r#"{"API-KEY" : 1.10, "n":1.10}"#,
            r#"{"API-KEY":"[redacted]","n":1.10}"#,
        ),
        (r#"{"passw\u006frd":"x"}"#, r#"{"password":"[redacted]"}"#),
        (r#"{"password":null}"#, r#"{"password":null}"#),
        (r#"{"password":"x" and so on"#, REDACTED),
        (
            r#"{"note":"password","passwords":1}"#,
            r#"{"note":"password","passwords":1}"#,
        ),
        ("no json: password", "no json: password"),
    ] {
        assert_eq!(redacted(text, Confidence::Open), expected, "{text}");
    }
}

#[test]
fn texts_that_the_user_names_are_taken_out_of_every_frame() {
    assert_eq!(redacted("id key-17!", Confidence::Open), "id [redacted]!");
    assert_eq!(
        redacted(r#"{"a":"hunter\"2"}"#, Confidence::Open),
        r#"{"a":"[redacted]"}"#
    );
    let rules = rules();
    let binary = |bytes: &'static [u8]| Frame::Binary(Bytes::from_static(bytes));
    assert_eq!(
        rules
            .apply(binary(b"\xffkey-17"), Confidence::Open)
            .payload(),
        b"[redacted]"
    );
    assert_eq!(
        rules
            .apply(binary(b"\xffkey-18"), Confidence::Open)
            .payload(),
        b"\xffkey-18"
    );
    assert_eq!(
        rules
            .apply(Frame::Ping(Bytes::from_static(b"key-17")), Confidence::Open)
            .payload(),
        b"[redacted]"
    );
    assert_eq!(
        rules.apply(close(1000, "key-17"), Confidence::Open),
        close(1000, "[redacted]")
    );
    assert!(!format!("{rules:?}").contains("key-17"));
}

#[test]
fn a_frame_on_which_no_rule_falls_is_not_copied() {
    let text = Frame::text(r#"{"method":"subscription","params":{"channel":"a"}}"#);
    let before = text.payload().as_ptr();
    let after = rules().apply(text, Confidence::Open);
    assert_eq!(after.payload().as_ptr(), before);
}

fn frames() -> impl Strategy<Value = Frame> {
    let bytes = || prop::collection::vec(any::<u8>(), 0..64).prop_map(Bytes::from);
    prop_oneof![
        any::<String>().prop_map(Frame::text),
        bytes().prop_map(Frame::Binary),
        bytes().prop_map(Frame::Ping),
        bytes().prop_map(Frame::Pong),
        // 1005 stands for no code at all; no frame has it.
        (1000_u16..1005, any::<String>()).prop_map(|(code, reason)| close(code, &reason)),
        Just(Frame::Close(None)),
    ]
}

fn recorded() -> impl Strategy<Value = Recorded> {
    prop_oneof![
        8 => frames().prop_map(Recorded::Frame),
        1 => any::<u64>().prop_map(|epoch| Recorded::Opened { epoch }),
        1 => any::<(u64, u64)>().prop_map(|(inbound, outbound)| Recorded::Dropped { inbound, outbound }),
    ]
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "[a-z\"\\\\é]{0,6}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec(("(secret|a|b|\"\\\\)", inner), 0..4).prop_map(|members| members
                .into_iter()
                .collect::<serde_json::Map<_, _>>()
                .into()),
        ]
    })
}

/// What redaction by names means, said of values instead of texts.
fn without_secrets(value: Value) -> Value {
    match value {
        Value::Array(items) => items.into_iter().map(without_secrets).collect(),
        Value::Object(members) => members
            .into_iter()
            .map(|(name, value)| {
                let hide = name == "secret" && !value.is_null();
                let value = if hide {
                    json!(REDACTED)
                } else {
                    without_secrets(value)
                };
                (name, value)
            })
            .collect::<serde_json::Map<_, _>>()
            .into(),
        other => other,
    }
}

proptest! {
    #[test]
    fn whatever_is_formatted_can_be_parsed_and_is_the_same(
        micros in 0_u64..253_402_300_800_000_000,
        out: bool,
        recorded in recorded(),
        marked in prop::option::of(prop::sample::select(vec![Mark::Opening, Mark::Authentication, Mark::Restore, Mark::Heartbeat])),
    ) {
        let entry = Entry {
            at: UNIX_EPOCH + Duration::from_micros(micros),
            direction: if out { Direction::Out } else { Direction::In },
            recorded,
            mark: marked,
        };
        let line = entry.format();
        prop_assert!(!line.contains('\n'), "one line");
        prop_assert_eq!(Entry::parse(&line), Ok(entry));
    }

    #[test]
    fn no_line_makes_the_parser_panic(line: String) {
        let _ = Entry::parse(&line);
        let _ = Metadata::of([line]);
    }

    #[test]
    fn redaction_by_name_takes_out_those_members_and_nothing_else(value in any_json()) {
        let text = value.to_string();
        let after = Redaction::new(["secret"], [""; 0]).apply(Frame::text(text), Confidence::Open);
        let after: Value = serde_json::from_str(after.as_text().unwrap()).unwrap();
        prop_assert_eq!(after, without_secrets(value));
    }

    #[test]
    fn no_frame_makes_redaction_panic(text: String, tail in "[\"\\\\:a{},]{0,16}") {
        for confidence in [Confidence::Open, Confidence::Request, Confidence::Answer] {
            let _ = rules().apply(Frame::text(format!("{text}{tail}")), confidence);
        }
    }
}
