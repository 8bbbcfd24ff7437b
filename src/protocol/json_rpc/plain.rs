//! One JSON value as machines write it: without white space between its parts, and without escapes.
//!
//! Apart from a parser because nothing is made of the value: what it must be is JSON, and its text is handed on as it is.
//!
//! Invariants: what is taken is a JSON value as RFC 8259 has it (a property test holds it to `serde_json`); whatever is not
//! plain is left to others; no input makes it panic, or recurse.

use serde::de::{DeserializeSeed, Deserializer, MapAccess, Visitor};
use serde::forward_to_deserialize_any;
use serde_json::value::RawValue;

use crate::protocol::json::odd::{first_odd, is_odd};

/// Arrays and objects within each other, at most, around one that may be empty.
const DEPTH: u32 = 64;

/// The value with which a text begins, and what is behind it. `None` says nothing.
pub(super) fn value(text: &str) -> Option<(&RawValue, &[u8])> {
    let behind = skip(text.as_bytes())?;
    let value = text.get(..text.len() - behind.len())?;
    let value = serde::Deserialize::deserialize(Verbatim(value)).ok()?;
    Some((value, behind))
}

/// What encloses a value.
#[derive(Default)]
struct Nesting {
    depth: u32,
    /// One bit for each, the innermost last: whether it is an object.
    objects: u64,
}

impl Nesting {
    fn enter(&mut self, object: bool) -> Option<()> {
        if self.depth == DEPTH {
            return None;
        }
        self.depth += 1;
        self.objects = self.objects << 1 | u64::from(object);
        Some(())
    }

    fn leave(&mut self) {
        self.depth -= 1;
        self.objects >>= 1;
    }

    fn in_object(&self) -> bool {
        self.objects & 1 == 1
    }
}

/// What is behind a value.
pub(super) fn skip(mut rest: &[u8]) -> Option<&[u8]> {
    let mut nesting = Nesting::default();
    loop {
        rest = match rest {
            [b'{', b'}', behind @ ..] | [b'[', b']', behind @ ..] => behind,
            [b'{', inside @ ..] => {
                nesting.enter(true)?;
                rest = name(inside)?;
                continue;
            }
            [b'[', inside @ ..] => {
                nesting.enter(false)?;
                rest = inside;
                continue;
            }
            [b'"', inside @ ..] => string(inside)?,
            [b't', b'r', b'u', b'e', behind @ ..]
            | [b'f', b'a', b'l', b's', b'e', behind @ ..]
            | [b'n', b'u', b'l', b'l', behind @ ..] => behind,
            _ => number(rest)?,
        };
        loop {
            if nesting.depth == 0 {
                return Some(rest);
            }
            match (rest, nesting.in_object()) {
                ([b',', next @ ..], true) => {
                    rest = name(next)?;
                    break;
                }
                ([b',', next @ ..], false) => {
                    rest = next;
                    break;
                }
                ([b'}', behind @ ..], true) | ([b']', behind @ ..], false) => {
                    nesting.leave();
                    rest = behind;
                }
                _ => return None,
            }
        }
    }
}

/// What is behind a member's name and its colon.
#[inline(always)]
fn name(bytes: &[u8]) -> Option<&[u8]> {
    string(bytes.strip_prefix(b"\"")?)?.strip_prefix(b":")
}

/// What is behind a string's closing quote.
#[inline(always)]
pub(super) fn string(mut bytes: &[u8]) -> Option<&[u8]> {
    while let Some((word, more)) = bytes.split_first_chunk() {
        match first_odd(*word) {
            Some(at) => {
                bytes = bytes.get(at..)?;
                return bytes.strip_prefix(b"\"");
            }
            None => bytes = more,
        }
    }
    let at = bytes.iter().position(|byte| is_odd(*byte))?;
    bytes.get(at..)?.strip_prefix(b"\"")
}

/// What is behind a number (RFC 8259, section 6).
fn number(bytes: &[u8]) -> Option<&[u8]> {
    let bytes = bytes.strip_prefix(b"-").unwrap_or(bytes);
    let mut rest = match bytes {
        [b'0', behind @ ..] => behind,
        _ => digits(bytes)?,
    };
    if let [b'.', fraction @ ..] = rest {
        rest = digits(fraction)?;
    }
    if let [b'e' | b'E', exponent @ ..] = rest {
        rest = match exponent {
            [b'+' | b'-', exponent @ ..] => digits(exponent)?,
            _ => digits(exponent)?,
        };
    }
    Some(rest)
}

/// What is behind one digit or more.
fn digits(bytes: &[u8]) -> Option<&[u8]> {
    let many = bytes
        .iter()
        .take_while(|byte| byte.is_ascii_digit())
        .count();
    if many == 0 {
        return None;
    }
    bytes.get(many..)
}

/// What a [`RawValue`] reads itself from: JSON, under the name that it asks for.
struct Verbatim<'de>(&'de str);

impl<'de> Deserializer<'de> for Verbatim<'de> {
    type Error = serde::de::value::Error;

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        visitor.visit_map(Named { name, json: self.0 })
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        visitor.visit_borrowed_str(self.0)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct seq
        tuple tuple_struct map struct enum identifier ignored_any
    }
}

/// The one member.
struct Named<'de> {
    name: &'static str,
    json: &'de str,
}

impl<'de> MapAccess<'de> for Named<'de> {
    type Error = serde::de::value::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Self::Error> {
        seed.deserialize(Verbatim(self.name)).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(
        &mut self,
        seed: V,
    ) -> Result<V::Value, Self::Error> {
        seed.deserialize(Verbatim(self.json))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What `serde_json` finds in the same text.
    fn found(text: &str) -> Option<(&str, &str)> {
        let mut values = serde_json::Deserializer::from_str(text).into_iter();
        let value: &RawValue = values.next()?.ok()?;
        Some((value.get(), text.get(values.byte_offset()..)?))
    }

    fn taken(text: &str) -> Option<(&str, &str)> {
        let (value, behind) = value(text)?;
        Some((value.get(), text.get(text.len() - behind.len()..)?))
    }

    #[test]
    fn what_machines_write_is_taken() {
        for (json, behind) in [
            (
                r#"{"order_id":"ETH-349249","state":"open","price":1870.25}"#,
                "}",
            ),
            (
                r#"[[],{},[{"a":[-0.5e+7,0,1E9]}],"",null,true,false]"#,
                ",1",
            ),
            (r#""eight by""#, ""),
            ("\"\u{e4}\u{1f600} \u{7f}\"", "\"\""),
            ("-12", " "),
        ] {
            let text = format!("{json}{behind}");
            assert_eq!(taken(&text), Some((json, behind)));
        }
    }

    #[test]
    fn what_is_not_plain_or_no_json_is_left_to_others() {
        let nested = "[".repeat(66) + &"]".repeat(66);
        for text in [
            "",
            " 1",
            "{",
            "[",
            "[1,]",
            "[,1]",
            "{,}",
            r#"{"a"}"#,
            r#"{"a":}"#,
            r#"{"a":1,}"#,
            "[1}",
            r#"{"a":1]"#,
            "\"",
            r#""a\"b""#,
            "\"a\tb\"",
            "\"\u{1f}",
            "-",
            "+1",
            ".5",
            "1.",
            "1.e5",
            "1e",
            "1e+",
            "nul",
            "tru",
            "NaN",
            &nested,
        ] {
            assert_eq!(taken(text), None, "{text}");
        }
        assert!(
            taken(&nested[1..nested.len() - 1]).is_some(),
            "64, around one that holds nothing"
        );
        assert_eq!(taken("01"), Some(("0", "1")), "what is behind is not ours");
    }

    /// JSON, or nearly.
    fn nearly() -> impl Strategy<Value = String> {
        let leaf = prop_oneof![
            "-?(0|[1-9][0-9]{0,3})(\\.[0-9]{0,2})?([eE][+-]?[0-9]{0,2})?",
            "\"[a-z\u{e4}\u{1f600} :,{}]{0,20}\"",
            "\"[\u{0}-\u{7f}]{0,12}\"",
            "true|false|null|nul|\\[\\]|\\{\\}|",
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            let member = (
                prop_oneof![9 => "\"[a-z_]{0,12}\"", 1 => "[\u{0}-\u{7f}]{0,3}"],
                inner.clone(),
            );
            let member = member.prop_map(|(name, value)| format!("{name}:{value}"));
            prop_oneof![
                prop::collection::vec(inner, 0..4)
                    .prop_map(|items| format!("[{}]", items.join(","))),
                prop::collection::vec(member, 0..4)
                    .prop_map(|members| format!("{{{}}}", members.join(","))),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_taken_is_what_a_parser_takes(json in nearly(), behind in "[,}\\]\" 0a]{0,3}") {
            let text = json + &behind;
            if let Some((value, rest)) = taken(&text) {
                // A parser that reads a stream wants to see that a number has ended.
                let parsed: &RawValue = serde_json::from_str(value).expect("json");
                prop_assert_eq!(parsed.get(), value);
                if let Some(found) = found(&text) {
                    prop_assert_eq!(found, (value, rest));
                }
            }
        }

        #[test]
        fn no_text_makes_it_panic(text: String) {
            let _ = value(&text);
        }

        #[test]
        fn a_string_ends_where_its_bytes_say(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let end = bytes.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..0x20));
            let expected = end.filter(|at| bytes[*at] == b'"').map(|at| &bytes[at + 1..]);
            prop_assert_eq!(string(&bytes), expected);
        }
    }
}
