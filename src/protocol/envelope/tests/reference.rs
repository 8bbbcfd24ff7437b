//! The rules once more, over parsed members in their order.
//!
//! Apart because the fuzz target `envelope` includes it, too.

use std::borrow::Cow;

use serde_json::Value;

use super::Envelope;

pub(super) fn reference(members: &[(String, Value)]) -> Envelope<'static> {
    let find = |name: &str| {
        members
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value)
    };
    let deciding = members
        .iter()
        .find(|(key, _)| matches!(key.as_str(), "method" | "result" | "error"));
    match deciding {
        None => Envelope::Other,
        Some((key, value)) if key == "method" => {
            let Some(method) = value.as_str().map(|method| Cow::Owned(method.to_owned())) else {
                return Envelope::Other;
            };
            let channel = find("params").and_then(|params| params.get("channel")?.as_str());
            let channel = channel.map(|channel| Cow::Owned(channel.to_owned()));
            match find("id") {
                Some(id) if channel.is_none() && !id.is_null() => Envelope::Request { method },
                _ => Envelope::Notification { method, channel },
            }
        }
        Some(_) => match find("id").and_then(Value::as_u64) {
            Some(id) => Envelope::Response { id },
            None => Envelope::ForeignResponse,
        },
    }
}
