//! Reads a notification's payload out of the whole frame, in one pass.
//!
//! Apart because every message needs it.
//!
//! Invariants: one pass over the bytes, no generic tree between; errors say where and how, never
//! what; nothing panics, whatever the bytes are.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Deserializer, MapAccess, SeqAccess, Visitor};

use crate::error::DecodeError;
use crate::frame::Frame;

/// The part of a notification that belongs to its channel.
#[derive(Deserialize)]
pub(super) struct Params<'f, T> {
    #[serde(borrow)]
    pub(super) channel: Cow<'f, str>,
    pub(super) data: T,
}

#[derive(Deserialize)]
#[serde(bound(deserialize = "T: Deserialize<'de>"))]
struct Notification<'f, T> {
    #[serde(borrow)]
    params: Params<'f, T>,
}

/// Channel and payload.
pub(super) fn params<'f, T: Deserialize<'f>>(
    frame: &'f Frame,
    expected: &'static str,
) -> Result<Params<'f, T>, DecodeError> {
    // A text frame is known to be UTF-8 and need not be checked again.
    let notification: Result<Notification<'f, T>, _> = match frame.as_text() {
        Some(text) => serde_json::from_str(text),
        None => serde_json::from_slice(frame.payload()),
    };
    notification
        .map(|notification| notification.params)
        .map_err(|error| {
            DecodeError::json_as::<Notification<'f, T>>(expected, frame.payload(), &error)
        })
}

/// The payload alone.
pub(super) fn data<T: de::DeserializeOwned>(
    frame: &Frame,
    expected: &'static str,
) -> Result<T, DecodeError> {
    params(frame, expected).map(|params| params.data)
}

/// One value or a list of them: the raw channels of orders send one, the others a list.
pub(super) fn one_or_many<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    struct OneOrMany<T>(PhantomData<T>);

    impl<'de, T: Deserialize<'de>> Visitor<'de> for OneOrMany<T> {
        type Value = Vec<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object or a list of objects")
        }

        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Vec<T>, A::Error> {
            T::deserialize(MapAccessDeserializer::new(map)).map(|one| vec![one])
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<T>, A::Error> {
            let mut many = Vec::new();
            while let Some(one) = list.next_element()? {
                many.push(one);
            }
            Ok(many)
        }
    }

    deserializer.deserialize_any(OneOrMany(PhantomData))
}

/// A price, or none: orders without one say `"market_price"` instead.
pub(super) fn price<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
    struct Price;

    impl Visitor<'_> for Price {
        type Value = Option<f64>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a number, a word or null")
        }

        fn visit_f64<E>(self, price: f64) -> Result<Option<f64>, E> {
            Ok(Some(price))
        }

        fn visit_u64<E>(self, price: u64) -> Result<Option<f64>, E> {
            Ok(Some(price as f64))
        }

        fn visit_i64<E>(self, price: i64) -> Result<Option<f64>, E> {
            Ok(Some(price as f64))
        }

        fn visit_str<E>(self, _: &str) -> Result<Option<f64>, E> {
            Ok(None)
        }

        fn visit_unit<E>(self) -> Result<Option<f64>, E> {
            Ok(None)
        }
    }

    deserializer.deserialize_any(Price)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    struct Word {
        #[serde(rename = "word")]
        _word: u64,
    }

    fn failure(text: &str) -> String {
        data::<Word>(&Frame::text(text.to_owned()), "word")
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn errors_say_where_and_how_but_never_what() {
        for (frame, expected) in [
            ("s3cret", "not a valid word: not json, at line 1, column 1"),
            (
                r#"{"params":{"channel":"c","data":{"word":"s3cret"}}}"#,
                "not a valid word: params.data.word: invalid type: string, expected u64, at line 1, column 48",
            ),
            (
                r#"{"params":{"channel":"s3c"#,
                "not a valid word: json that ends too early, at line 1, column 25",
            ),
        ] {
            assert_eq!(failure(frame), expected);
        }
        let missing = failure(r#"{"params":{"channel":"c","data":{"s3cret":1}}}"#);
        assert!(
            missing.starts_with("not a valid word: params.data: missing field `word`"),
            "{missing}"
        );
    }

    #[test]
    fn a_channel_name_with_escapes_is_read() {
        let frame = Frame::text(r#"{"params":{"data":{"word":1},"channel":"a\u002eb"}}"#);
        assert_eq!(params::<Word>(&frame, "word").unwrap().channel, "a.b");
    }

    #[test]
    fn a_binary_frame_is_read_too() {
        let bytes = br#"{"params":{"channel":"c","data":{"word":1}}}"#;
        assert!(data::<Word>(&Frame::Binary(bytes.as_slice().into()), "word").is_ok());
        assert!(data::<Word>(&Frame::Binary(b"\xff\xfe".as_slice().into()), "word").is_err());
    }
}
