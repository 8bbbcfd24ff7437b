//! The rules by example, and the scanner held against the parser and against a reference.

mod reference;

use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::Value;

use super::*;
use reference::reference;

fn notification<'f>(method: &'f str, channel: Option<&'f str>) -> Envelope<'f> {
    Envelope::Notification {
        method: method.into(),
        channel: channel.map(Into::into),
    }
}

#[test]
fn the_rules_hold_by_example() {
    let request = Envelope::Request { method: "m".into() };
    let cases: Vec<(&str, Envelope<'_>)> = vec![
        (
            r#"{"jsonrpc":"2.0","id":5,"result":null}"#,
            Envelope::Response { id: 5 },
        ),
        (
            r#"{"jsonrpc":"2.0","id":5,"error":{}}"#,
            Envelope::Response { id: 5 },
        ),
        (
            r#"{"result":1,"id":18446744073709551615}"#,
            Envelope::Response { id: u64::MAX },
        ),
        (
            r#"{"id":18446744073709551616,"result":1}"#,
            Envelope::ForeignResponse,
        ),
        (r#"{"id":"5","result":1}"#, Envelope::ForeignResponse),
        (r#"{"id":null,"error":{}}"#, Envelope::ForeignResponse),
        (r#"{"id":-1,"result":1}"#, Envelope::ForeignResponse),
        (r#"{"id":5.0,"result":1}"#, Envelope::ForeignResponse),
        (r#"{"id":5e0,"result":1}"#, Envelope::ForeignResponse),
        (r#"{"result":1}"#, Envelope::ForeignResponse),
        // Whichever comes first decides.
        (
            r#"{"id":5,"result":1,"method":"m"}"#,
            Envelope::Response { id: 5 },
        ),
        (r#"{"id":5,"method":"m","result":1}"#, request.clone()),
        // The first of one name counts.
        (
            r#"{"id":5,"result":1,"id":6}"#,
            Envelope::Response { id: 5 },
        ),
        (
            r#"{"id":5,"id":6,"result":1}"#,
            Envelope::Response { id: 5 },
        ),
        (
            r#"{"method":"m","params":{"channel":"c"},"id":5}"#,
            notification("m", Some("c")),
        ),
        (
            r#"{"method":"m","params":{"channel":"c","data":[]}}"#,
            notification("m", Some("c")),
        ),
        (
            r#"{"method":"m","params":{"data":"channel","channel":"c"}}"#,
            notification("m", Some("c")),
        ),
        (
            r#"{"method":"m","params":{"channel":7}}"#,
            notification("m", None),
        ),
        (
            r#"{"method":"m","params":{"data":{"channel":"c"}}}"#,
            notification("m", None),
        ),
        (
            r#"{"method":"m","params":["channel","c"]}"#,
            notification("m", None),
        ),
        (r#"{"method":"m","id":null}"#, notification("m", None)),
        (r#"{"method":"m","id":"x"}"#, request.clone()),
        (
            r#"{"method":"m","params":{"channel":"a\/b"}}"#,
            notification("m", Some("a/b")),
        ),
        (r#"{"\u006dethod":"m"}"#, notification("m", None)),
        (r#" { "method" : "m" } "#, notification("m", None)),
        (r#"{"method":5}"#, Envelope::Other),
        (r#"{"id":5}"#, Envelope::Other),
        (r#"{"a":{"method":"m"}}"#, Envelope::Other),
        (r#"{"a":"\"method\":\"m\""}"#, Envelope::Other),
        ("[]", Envelope::Other),
        ("", Envelope::Other),
        ("ping", Envelope::Other),
        (r#"{"method":"m""#, Envelope::Other),
        (r#"{"id":05,"result":1}"#, Envelope::Other),
    ];
    for (frame, expected) in cases {
        assert_eq!(peek(frame.as_bytes()), expected, "{frame}");
    }
}

#[test]
fn the_layouts_of_real_servers_need_no_parser() {
    let subscription = r#"{"jsonrpc":"2.0","method":"subscription","params":{"channel":"book.BTC-PERPETUAL.100ms","data":{"type":"change"}}}"#;
    let expected = notification("subscription", Some("book.BTC-PERPETUAL.100ms"));
    assert_eq!(scan(subscription.as_bytes()), Some(expected));
    let start = channel_start(subscription.as_bytes());
    assert_eq!(start, subscription.find("book"));
    let answer =
        r#"{"jsonrpc":"2.0","id":42,"result":"ok","usIn":1,"usOut":2,"usDiff":1,"testnet":true}"#;
    assert_eq!(scan(answer.as_bytes()), Some(Envelope::Response { id: 42 }));
    assert_eq!(channel_start(answer.as_bytes()), None);
    let refusal = r#"{"jsonrpc":"2.0","id":42,"error":{"code":13009,"message":"unauthorized"}}"#;
    assert_eq!(
        scan(refusal.as_bytes()),
        Some(Envelope::Response { id: 42 })
    );
}

#[test]
fn a_broken_tail_is_left_to_whoever_decodes_the_payload() {
    let frame = br#"{"jsonrpc":"2.0","id":7,"result":{"#;
    assert_eq!(peek(frame), Envelope::Response { id: 7 });
    assert!(crate::protocol::json_rpc::response(frame).is_err());
}

#[test]
fn bytes_that_are_not_utf_8_are_not_borrowed() {
    let frame = b"{\"method\":\"m\xff\",\"params\":{\"channel\":\"c\",\"data\":1}}";
    assert_eq!(peek(frame), Envelope::Other);
}

/// One member: its name, its value, and how its name and value are written.
type Written = (String, String, Value);

fn word() -> impl Strategy<Value = String> {
    prop_oneof![
        5 => prop::sample::select(vec!["subscription", "id", "method", "channel", "a/b", "\"id\":1,", "ü", ""])
            .prop_map(str::to_owned),
        1 => "\\PC{0,6}",
        1 => prop::collection::vec(any::<char>(), 0..4).prop_map(String::from_iter),
    ]
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        word().prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::hash_map(name(), inner, 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        8 => prop::sample::select(vec!["jsonrpc", "id", "method", "params", "result", "error", "channel", "data"])
            .prop_map(str::to_owned),
        1 => word(),
    ]
}

/// A member as it may stand in a message, often as it usually does.
fn member() -> impl Strategy<Value = (String, Value)> {
    let params = word().prop_map(|channel| serde_json::json!({"channel": channel, "data": [1]}));
    prop_oneof![
        Just(("jsonrpc".to_owned(), Value::from("2.0"))),
        (0_u64..10).prop_map(|id| ("id".to_owned(), Value::from(id))),
        word().prop_map(|method| ("method".to_owned(), Value::from(method))),
        params.prop_map(|params| ("params".to_owned(), params)),
        value().prop_map(|result| ("result".to_owned(), result)),
        (name(), value()),
    ]
}

/// Writes a string with every character escaped.
fn escaped(text: &str) -> String {
    let units: String = text
        .encode_utf16()
        .map(|unit| format!("\\u{unit:04x}"))
        .collect();
    format!("\"{units}\"")
}

/// A message of some members, in some order, with or without white space and escapes, together with
/// its members.
fn message() -> impl Strategy<Value = (String, Vec<Written>)> {
    let space = || prop_oneof![9 => Just(""), 1 => Just(" \t\r\n")];
    let one =
        (member(), space(), space(), 0_u8..8).prop_map(|((key, value), before, after, style)| {
            let mut written = value.to_string();
            if let (0, Some(text)) = (style, value.as_str()) {
                written = escaped(text);
            }
            let name = if style == 1 {
                escaped(&key)
            } else {
                Value::from(key.clone()).to_string()
            };
            (
                key,
                format!("{before}{name}{after}:{before}{written}{after}"),
                value,
            )
        });
    (vec(one, 0..7), space()).prop_map(|(members, space)| {
        let text: Vec<&str> = members.iter().map(|(_, text, _)| text.as_str()).collect();
        (format!("{space}{{{}}}{space}", text.join(",")), members)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Duplicate members included.
    #[test]
    fn peek_agrees_with_the_reference((frame, members) in message()) {
        let members: Vec<(String, Value)> =
            members.into_iter().map(|(name, _, value)| (name, value)).collect();
        let expected = reference(&members);
        prop_assert_eq!(parse(frame.as_bytes()), expected.clone(), "parser, {}", &frame);
        prop_assert_eq!(peek(frame.as_bytes()), expected, "peek, {}", &frame);
    }

    /// What a reader does that has learnt a head: it looks at the name alone.
    #[test]
    fn what_stands_before_the_name_settles_a_notification(
        (frame, _) in message(),
        name in "[a-zA-Z0-9._ \u{e4}-]{0,12}",
    ) {
        if let Some(start) = channel_start(frame.as_bytes()) {
            let (head, rest) = frame.split_at(start);
            let (_, rest) = rest.split_once('"').unwrap();
            let other = format!("{head}{name}\"{rest}");
            let Envelope::Notification { channel, .. } = parse(other.as_bytes()) else {
                panic!("{other}");
            };
            prop_assert_eq!(channel.as_deref(), Some(name.as_str()), "{}", &other);
        }
    }

    #[test]
    fn whatever_arrives_nothing_panics(frame in vec(any::<u8>(), 0..64)) {
        let _ = peek(&frame);
    }

    /// Cut and spoilt messages reach deeper than random bytes.
    #[test]
    fn a_spoilt_message_does_not_panic(
        (frame, _) in message(),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let mut bytes = frame.into_bytes();
        let at = at.index(bytes.len());
        let _ = peek(&bytes[..at]);
        bytes[at] = byte;
        let spoilt = peek(&bytes);
        // A text that is still well-formed is still told alike by both.
        if serde_json::from_slice::<&RawValue>(&bytes).is_ok() {
            prop_assert_eq!(spoilt, parse(&bytes));
        }
    }
}

#[test]
fn an_array_is_a_batch_if_its_first_element_is_a_message_of_ours() {
    for batch in [
        r#"[{"id":1,"result":2}]"#,
        r#" [ {"error":{"code":1},"id":7}, 3"#,
        r#"[{"method":"m","params":{"channel":"c"}}]"#,
    ] {
        assert!(is_batch(batch.as_bytes()), "{batch}");
    }
    for other in [
        r#"[0,"te",[1,2]]"#,
        r#"[{"e":"tick"}]"#,
        r#"[{"method":"m","id":1}]"#,
        r#"[{"id":null,"error":{}}]"#,
        r#"[{"id":1,"result":"#,
        r#"[[{"id":1,"result":2}]]"#,
        r#"{"id":1,"result":2}"#,
        "[]",
        "[",
        "",
    ] {
        assert!(!is_batch(other.as_bytes()), "{other}");
    }
}
