//! What makes two messages of a subscription the same thing, of which only the newest matters.
//!
//! Apart from the queue's other options because it reads messages: with a function of the user's, or at a place in
//! their JSON.
//!
//! Invariants: nothing of a message is copied to find its key; a message in which there is none has none, whatever is
//! wrong with it; a function that panics has found none.

use std::borrow::Cow;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::error::ConfigError;

/// How to find the key of a message, for [`Overflow::Conflate`](super::Overflow::Conflate): of messages with the same
/// key only the newest matters, such as the last quote of an instrument.
///
/// ```
/// use mainstay::config::ConflationKey;
///
/// let key = ConflationKey::json_pointer("/params/data/instrument_name")?;
/// let message = br#"{"params":{"data":{"instrument_name":"BTC","bid":7}}}"#;
/// assert_eq!(key.of(message).as_deref(), Some(&br#""BTC""#[..]));
/// assert_eq!(key.of(b"pong"), None);
///
/// // Or whatever your messages need: here the first eight bytes of each.
/// let key = ConflationKey::by(|message| Some(message.get(..8)?.into()));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct ConflationKey(Kind);

#[derive(Clone)]
enum Kind {
    Pointer { text: Arc<str>, path: Arc<[String]> },
    Function(Arc<Function>),
}

type Function = dyn for<'m> Fn(&'m [u8]) -> Option<Cow<'m, [u8]>> + Send + Sync;

impl ConflationKey {
    /// What `key_of` returns for a message's payload; `None` for a message that is never to be replaced. It is called
    /// where messages are read, so let it be quick; a panic counts as `None`.
    pub fn by(
        key_of: impl for<'m> Fn(&'m [u8]) -> Option<Cow<'m, [u8]>> + Send + Sync + 'static,
    ) -> Self {
        Self(Kind::Function(Arc::new(key_of)))
    }

    /// The JSON value at this place of a message, a JSON pointer (RFC 6901) such as `/params/data/symbol`. Values are the same if
    /// they are written the same. A message without that place is never replaced.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] if it is no JSON pointer, or the empty one.
    pub fn json_pointer(pointer: &str) -> Result<Self, ConfigError> {
        let path = parse(pointer).ok_or_else(|| {
            let remedy = "write a json pointer (RFC 6901), such as \"/params/data/symbol\"";
            ConfigError::new("queue.overflow", format!("conflate {pointer}"), remedy)
        })?;
        Ok(Self(Kind::Pointer {
            text: pointer.into(),
            path: path.into(),
        }))
    }

    /// The key of the message with this payload.
    #[must_use]
    pub fn of<'m>(&self, payload: &'m [u8]) -> Option<Cow<'m, [u8]>> {
        match &self.0 {
            Kind::Pointer { path, .. } => {
                let mut json = serde_json::Deserializer::from_slice(payload);
                let found = Seek(path).deserialize(&mut json).ok()??;
                Some(found.get().as_bytes().into())
            }
            Kind::Function(key_of) => {
                // Nothing of ours is left half done by it.
                catch_unwind(AssertUnwindSafe(|| key_of(payload))).ok()?
            }
        }
    }

    /// The pointer, if it is one.
    #[must_use]
    pub fn as_json_pointer(&self) -> Option<&str> {
        match &self.0 {
            Kind::Pointer { text, .. } => Some(text),
            Kind::Function(_) => None,
        }
    }
}

/// Two functions are the same if one is a clone of the other.
impl PartialEq for ConflationKey {
    fn eq(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Kind::Pointer { text, .. }, Kind::Pointer { text: other, .. }) => text == other,
            (Kind::Function(one), Kind::Function(other)) => Arc::ptr_eq(one, other),
            (Kind::Pointer { .. }, Kind::Function(_))
            | (Kind::Function(_), Kind::Pointer { .. }) => false,
        }
    }
}

impl Eq for ConflationKey {}

impl fmt::Debug for ConflationKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.as_json_pointer().unwrap_or("a function");
        f.debug_tuple("ConflationKey").field(&shown).finish()
    }
}

/// The names on the way (RFC 6901, sections 3 and 4).
fn parse(pointer: &str) -> Option<Vec<String>> {
    let names = pointer.strip_prefix('/')?.split('/');
    let unescaped = names.map(|name| {
        let rest = name.replace("~0", "").replace("~1", "");
        (!rest.contains('~')).then(|| name.replace("~1", "/").replace("~0", "~"))
    });
    unescaped.collect()
}

/// Looks for the value at the end of a path, and passes over everything else.
struct Seek<'p>(&'p [String]);

impl<'de> DeserializeSeed<'de> for Seek<'_> {
    type Value = Option<&'de RawValue>;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Self::Value, D::Error> {
        match self.0 {
            [] => serde::Deserialize::deserialize(json).map(Some),
            _ => json.deserialize_any(self),
        }
    }
}

impl<'de> Visitor<'de> for Seek<'_> {
    type Value = Option<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("json")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let Some((name, rest)) = self.0.split_first() else {
            return Ok(None);
        };
        let mut found = None;
        while let Some(here) = map.next_key_seed(Is(name))? {
            if here {
                found = map.next_value_seed(Seek(rest))?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Self::Value, A::Error> {
        let Some((name, rest)) = self.0.split_first() else {
            return Ok(None);
        };
        let place: Option<usize> = name.parse().ok();
        let mut found = None;
        for at in 0.. {
            let more = if Some(at) == place {
                let value = sequence.next_element_seed(Seek(rest))?;
                found = value.flatten();
                value.is_some()
            } else {
                sequence.next_element::<IgnoredAny>()?.is_some()
            };
            if !more {
                break;
            }
        }
        Ok(found)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }
}

/// Whether a member has this name.
struct Is<'p>(&'p str);

impl<'de> DeserializeSeed<'de> for Is<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, name: D) -> Result<bool, D::Error> {
        name.deserialize_str(self)
    }
}

impl Visitor<'_> for Is<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a member's name")
    }

    fn visit_str<E>(self, name: &str) -> Result<bool, E> {
        Ok(name == self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn finds(pointer: &str, message: &str, expected: Option<&str>) {
        let key = ConflationKey::json_pointer(pointer).expect("a pointer");
        let found = key.of(message.as_bytes());
        assert_eq!(found.as_deref(), expected.map(str::as_bytes), "{pointer}");
    }

    #[test]
    fn a_pointer_finds_what_stands_at_its_place() {
        let message = r#"{"a":[1,{"b":"x","c/d":7,"e~f":null}],"b":2,"":3}"#;
        finds("/b", message, Some("2"));
        finds("/a/0", message, Some("1"));
        finds("/a/1/b", message, Some("\"x\""));
        finds("/a/1/c~1d", message, Some("7"));
        finds("/a/1/e~0f", message, Some("null"));
        finds("/", message, Some("3"));
        finds("/a/2", message, None);
        finds("/a/x", message, None);
        finds("/b/c", message, None);
        finds("/none", message, None);
    }

    #[test]
    fn what_is_no_json_has_no_key() {
        for message in ["", "pong", "{\"a\":", "{\"b\":1,}", "[1"] {
            finds("/a", message, None);
        }
    }

    #[test]
    fn what_is_no_pointer_is_refused() {
        for pointer in ["", "a/b", "/a~2", "/~"] {
            let error = ConflationKey::json_pointer(pointer).expect_err("no pointer");
            assert!(error.to_string().contains("/params/data/symbol"), "{error}");
        }
    }

    #[test]
    fn a_function_that_panics_finds_no_key() {
        let key = ConflationKey::by(|_| panic!("on purpose"));
        assert_eq!(key.of(b"{}"), None);
        assert_eq!(key, key.clone());
        assert_ne!(key, ConflationKey::by(|_| None));
    }
}
