//! What never reaches a recording.
//!
//! Apart from the format because it decides what is written, not how. Three rules: frames that are known
//! to hold credentials keep their shape and lose their values; members with telling names lose theirs
//! wherever they stand; texts that the user names are taken out of everything.
//!
//! Invariants: a frame on which no rule falls is handed on as it is, not copied; what looks as if a rule
//! fell on it and cannot be read is taken out whole; null stays null, so that "no token" can be told.

use std::fmt;

use bytes::Bytes;
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::frame::Frame;

/// What stands where something was taken out.
pub const REDACTED: &str = "[redacted]";

/// Names of members whose values are never recorded. Case, `_` and `-` do not matter.
pub const DEFAULT_MEMBERS: [&str; 17] = [
    "access_token",
    "refresh_token",
    "id_token",
    "auth_token",
    "client_secret",
    "api_secret",
    "api_key",
    "secret",
    "secret_key",
    "private_key",
    "password",
    "passphrase",
    "signature",
    "sign",
    "authorization",
    "listen_key",
    "jwt",
];

/// How much of a frame is known to be secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Confidence {
    /// Nothing; the rules about names and texts apply.
    Open,
    /// A request that bears credentials: every value but the request's id and method is taken out.
    Request,
    /// The answer to one: every text is taken out, so that numbers, such as how long a grant lasts, stay.
    Answer,
}

/// The rules of one recording.
#[derive(Clone)]
pub struct Redaction {
    /// Without case, `_` and `-`.
    members: Vec<Vec<u8>>,
    /// Whether a member begins with this byte: most names of a frame are told by their first.
    begins: [bool; 256],
    /// As they are, and as JSON writes them.
    texts: Vec<String>,
}

impl Redaction {
    /// Takes out the values of members with these names, and these texts wherever they appear.
    ///
    /// ```
    /// use mainstay::Frame;
    /// use mainstay::protocol::recording::{Confidence, Redaction};
    ///
    /// let rules = Redaction::new(["pin"], ["hunter2"]);
    /// let frame = Frame::text(r#"{"pin":1234,"note":"for hunter2"}"#);
    /// let frame = rules.apply(frame, Confidence::Open);
    /// assert_eq!(frame.as_text(), Some(r#"{"pin":"[redacted]","note":"for [redacted]"}"#));
    /// ```
    #[must_use]
    pub fn new<M: AsRef<str>, T: AsRef<str>>(
        members: impl IntoIterator<Item = M>,
        texts: impl IntoIterator<Item = T>,
    ) -> Self {
        let mut all = Vec::new();
        for text in texts {
            let text = text.as_ref();
            let json = serde_json::to_string(text).unwrap_or_default();
            let escaped = json.trim_matches('"');
            for form in [text, escaped] {
                if !form.is_empty() && !all.iter().any(|known| known == form) {
                    all.push(form.to_owned());
                }
            }
        }
        // The longest first: one text may be a part of another.
        all.sort_by_key(|text| std::cmp::Reverse(text.len()));
        let members: Vec<Vec<u8>> = members
            .into_iter()
            .map(|name| folded(name.as_ref()))
            .collect();
        let mut begins = [false; 256];
        for member in &members {
            match member.first() {
                Some(first) => begins[usize::from(*first)] = true,
                // A name without any letter: every such name is one of ours.
                None => begins = [true; 256],
            }
        }
        Self {
            members,
            begins,
            texts: all,
        }
    }

    /// The frame as it may be recorded.
    #[must_use]
    pub fn apply(&self, frame: Frame, confidence: Confidence) -> Frame {
        match frame {
            Frame::Text(text) => match self.text(&text, confidence) {
                Some(redacted) => Frame::text(redacted),
                None => Frame::Text(text),
            },
            Frame::Binary(bytes) => Frame::Binary(self.bytes(bytes, confidence)),
            Frame::Ping(bytes) => Frame::Ping(self.bytes(bytes, Confidence::Open)),
            Frame::Pong(bytes) => Frame::Pong(self.bytes(bytes, Confidence::Open)),
            Frame::Close(Some((code, reason))) => {
                let reason = self.text(&reason, Confidence::Open).unwrap_or(reason);
                Frame::Close(Some((code, reason)))
            }
            Frame::Close(None) => Frame::Close(None),
        }
    }

    fn bytes(&self, bytes: Bytes, confidence: Confidence) -> Bytes {
        if let Ok(text) = std::str::from_utf8(&bytes) {
            return self.text(text, confidence).map_or(bytes, Bytes::from);
        }
        if confidence != Confidence::Open || self.has_text_in(&bytes) {
            return Bytes::from_static(REDACTED.as_bytes());
        }
        bytes
    }

    /// `None` if nothing is to be taken out.
    fn text(&self, text: &str, confidence: Confidence) -> Option<String> {
        let mut redacted = match confidence {
            Confidence::Open if !self.names_a_secret(text) => None,
            Confidence::Open => Some(self.rewrite(text, Hide::Members)),
            Confidence::Request => Some(self.rewrite(text, Hide::Scalars)),
            Confidence::Answer => Some(self.rewrite(text, Hide::Texts)),
        };
        for secret in &self.texts {
            let present = redacted.as_deref().unwrap_or(text);
            if present.contains(secret.as_str()) {
                redacted = Some(present.replace(secret.as_str(), REDACTED));
            }
        }
        redacted
    }

    /// Whether some text before a colon is a name of ours, or is written so that only a parser can tell.
    fn names_a_secret(&self, text: &str) -> bool {
        let mut rest = text.as_bytes();
        while let Some(start) = memchr::memchr(b'"', rest) {
            let from = start + 1;
            let (mut at, mut escaped) = (from, false);
            loop {
                match memchr::memchr2(b'"', b'\\', rest.get(at..).unwrap_or_default()) {
                    None => return false,
                    Some(found) if rest[at + found] == b'"' => {
                        at += found;
                        break;
                    }
                    Some(found) => {
                        escaped = true;
                        at += found + 2;
                    }
                }
            }
            let name = &rest[from..at];
            rest = &rest[at + 1..];
            let is_name = rest.trim_ascii_start().first() == Some(&b':');
            if is_name && (escaped || self.is_secret(name)) {
                return true;
            }
        }
        false
    }

    /// Whether a text that is taken out wherever it appears is in these bytes, which may be many payloads.
    pub(crate) fn has_text_in(&self, bytes: &[u8]) -> bool {
        let is_in = |text: &String| memchr::memmem::find(bytes, text.as_bytes()).is_some();
        self.texts.iter().any(is_in)
    }

    /// Whether a member of this name loses its value.
    #[inline]
    pub(super) fn is_secret(&self, name: &[u8]) -> bool {
        let begins = |byte: &u8| self.begins[usize::from(byte.to_ascii_lowercase())];
        // One that begins with what does not matter is looked at whole.
        let told = !matches!(name.first(), None | Some(b'_' | b'-'));
        if told && !name.first().is_some_and(begins) {
            return false;
        }
        let first = name.first().map(u8::to_ascii_lowercase);
        self.members.iter().any(|member| {
            if told && member.first().copied() != first {
                return false;
            }
            let mut ours = member.iter();
            name.len() >= member.len()
                && folding(name).all(|byte| ours.next() == Some(&byte))
                && ours.next().is_none()
        })
    }

    fn rewrite(&self, text: &str, hide: Hide) -> String {
        let mut out = String::with_capacity(text.len());
        match serde_json::from_str::<&RawValue>(text) {
            Ok(raw) if self.value(raw, hide, true, &mut out).is_ok() => out,
            Ok(_) | Err(_) => REDACTED.to_owned(),
        }
    }

    fn value(
        &self,
        raw: &RawValue,
        hide: Hide,
        outermost: bool,
        out: &mut String,
    ) -> Result<(), serde_json::Error> {
        let json = raw.get();
        match json.as_bytes().first() {
            Some(b'{') => {
                let members: Members<'_> = serde_json::from_str(json)?;
                out.push('{');
                for (index, (name, value)) in members.0.iter().enumerate() {
                    if index > 0 {
                        out.push(',');
                    }
                    out.push_str(&serde_json::to_string(name)?);
                    out.push(':');
                    let kept = outermost && KEPT.contains(&name.as_str());
                    if self.is_secret(name.as_bytes()) && value.get() != "null" {
                        push_redacted(out);
                    } else if kept && !value.get().starts_with(['{', '[']) {
                        out.push_str(value.get());
                    } else {
                        self.value(value, hide, false, out)?;
                    }
                }
                out.push('}');
            }
            Some(b'[') => {
                let items: Vec<&RawValue> = serde_json::from_str(json)?;
                out.push('[');
                for (index, item) in items.iter().enumerate() {
                    if index > 0 {
                        out.push(',');
                    }
                    // Messages in one frame are each as outermost as one alone.
                    self.value(item, hide, outermost, out)?;
                }
                out.push(']');
            }
            Some(b'n') | None => out.push_str(json),
            Some(b'"') if hide != Hide::Members => push_redacted(out),
            Some(_) if hide == Hide::Scalars => push_redacted(out),
            Some(_) => out.push_str(json),
        }
        Ok(())
    }
}

impl fmt::Debug for Redaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redaction")
            .field("members", &self.members.len())
            .field("texts", &self.texts.len())
            .finish()
    }
}

/// What is taken out of JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hide {
    /// The values of members with telling names.
    Members,
    /// Those, and every text.
    Texts,
    /// Those, and every text, number and flag.
    Scalars,
}

/// Members of the outermost object that say what a message is, and not what is secret in it.
const KEPT: [&str; 6] = ["jsonrpc", "id", "method", "op", "event", "type"];

fn push_redacted(out: &mut String) {
    out.push('"');
    out.push_str(REDACTED);
    out.push('"');
}

fn folding(name: &[u8]) -> impl Iterator<Item = u8> {
    name.iter()
        .filter(|byte| !matches!(byte, b'_' | b'-'))
        .map(u8::to_ascii_lowercase)
}

fn folded(name: &str) -> Vec<u8> {
    folding(name.as_bytes()).collect()
}

/// An object's members in their order, also those that come twice.
struct Members<'j>(Vec<(String, &'j RawValue)>);

impl<'de: 'j, 'j> Deserialize<'de> for Members<'j> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;

        impl<'de> Visitor<'de> for InOrder {
            type Value = Vec<(String, &'de RawValue)>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(members)
            }
        }

        deserializer.deserialize_map(InOrder).map(Self)
    }
}
