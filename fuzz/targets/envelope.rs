//! Any bytes: what [`peek`] says of them is what serde_json and the rules say.

#![no_main]

#[path = "../../src/protocol/envelope/tests/reference.rs"]
mod reference;

use std::fmt;

use libfuzzer_sys::fuzz_target;
use mainstay::protocol::envelope::{Envelope, channel_start, elements, is_batch, peek};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

fuzz_target!(|frame: &[u8]| {
    let told = peek(frame);
    let whole = serde_json::from_slice::<Value>(frame);
    if let (Ok(_), Ok(Members(members))) = (&whole, serde_json::from_slice(frame)) {
        let members: Vec<(String, Value)> = members.into_iter().map(first_channel).collect();
        assert_eq!(told, reference::reference(&members));
    } else if whole.is_ok() {
        assert_eq!(told, Envelope::Other, "it is no object");
    }
    if let Some(start) = channel_start(frame) {
        let Envelope::Notification {
            channel: Some(name),
            ..
        } = told
        else {
            panic!("{told:?}");
        };
        assert!(frame[start..].starts_with(name.as_bytes()));
    }
    if is_batch(frame) && whole.is_ok() {
        assert!(elements(frame).is_some_and(|elements| !elements.is_empty()));
    }
});

/// What a member says to the reference: of `params` the first `channel`, where serde_json keeps the last.
fn first_channel((name, raw): (String, Box<RawValue>)) -> (String, Value) {
    let value = serde_json::from_str(raw.get()).expect("what was read once");
    if name != "params" {
        return (name, value);
    }
    let Ok(Members(members)) = serde_json::from_str(raw.get()) else {
        return (name, value);
    };
    let channel = members.into_iter().find(|(name, _)| name == "channel");
    let channel = channel.map(|(name, raw)| {
        (
            name,
            serde_json::from_str(raw.get()).expect("what was read once"),
        )
    });
    (name, Value::Object(channel.into_iter().collect()))
}

/// An object's members in their order, those that stand there twice included.
struct Members(Vec<(String, Box<RawValue>)>);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;

        impl<'de> Visitor<'de> for Reader {
            type Value = Members;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }

        deserializer.deserialize_map(Reader)
    }
}
