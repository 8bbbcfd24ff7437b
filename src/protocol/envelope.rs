//! What kind of JSON-RPC 2.0 message a frame is, and for whom, told from its first bytes.
//!
//! Apart from the decoding of messages because it runs once for every frame, on the reader's task:
//! parsing the whole envelope costs two thirds of the rate that the socket allows. A small scanner
//! answers for the layouts that servers really send; everything else goes to a real parser.
//!
//! The members of the outermost object decide, in the order in which they stand:
//!
//! - of several members of one name the first counts;
//! - the first of `method`, `result` and `error` decides: `method` makes it a call, the others make
//!   it a response, whatever follows;
//! - a response whose `id` is an unsigned integer is a [`Envelope::Response`], any other is foreign;
//! - a call with a string as `params.channel` is a notification of that channel, even if it has an id:
//!   nobody answers what a channel delivers;
//! - any other call with an `id` that is not null is a request, without one a notification;
//! - a `method` that is not a string, an object without the three, or no JSON object at all is
//!   [`Envelope::Other`].
//!
//! Invariants:
//! - scanner and parser agree on every well-formed JSON text (a property test holds them to it): the
//!   scanner answers only when, by the rules above, nothing that can follow changes the answer;
//! - no input makes it panic;
//! - absent on purpose: judging what stands behind the deciding members. If the rest is not JSON at
//!   all, the scanner does not see it; whoever decodes the payload does. `jsonrpc` is not checked
//!   either, since venues leave it out.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

/// The kind of a frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Envelope<'f> {
    /// The answer to the request with this id.
    Response {
        /// The id, in the form in which the session gives them out.
        id: u64,
    },
    /// An answer whose id is absent or none that the session gives out: a string, null, negative,
    /// with a fraction.
    ForeignResponse,
    /// A notification.
    Notification {
        /// The method; borrowed unless it was written with escapes.
        method: Cow<'f, str>,
        /// `params.channel`, if that is a string; borrowed unless it was written with escapes.
        channel: Option<Cow<'f, str>>,
    },
    /// A request from the server, which expects an answer.
    Request {
        /// The method; borrowed unless it was written with escapes.
        method: Cow<'f, str>,
    },
    /// Not a JSON-RPC object.
    Other,
}

/// Tells the kind of a frame. See the module's documentation for the rules.
///
/// ```
/// use mainstay::protocol::envelope::{Envelope, peek};
///
/// let frame = br#"{"jsonrpc":"2.0","id":7,"result":"ok"}"#;
/// assert_eq!(peek(frame), Envelope::Response { id: 7 });
/// ```
#[must_use]
pub fn peek(frame: &[u8]) -> Envelope<'_> {
    scan(frame).unwrap_or_else(|| parse(frame))
}

/// Where the channel's name begins in a notification whose kind is settled by the bytes before it.
///
/// Every frame that begins with the same bytes and goes on with a plain name (no escape, no control
/// character), its closing quote, and `,` or `}` is a notification of the channel of that name. `None` for
/// whatever else, and for notifications that need a real parser.
///
/// ```
/// use mainstay::protocol::envelope::channel_start;
///
/// let frame = br#"{"method":"subscription","params":{"channel":"trades","data":[]}}"#;
/// assert_eq!(channel_start(frame), Some(46));
/// ```
#[must_use]
pub fn channel_start(frame: &[u8]) -> Option<usize> {
    match scan(frame)? {
        Envelope::Notification {
            channel: Some(Cow::Borrowed(name)),
            ..
        } => Some(name.as_ptr().addr() - frame.as_ptr().addr()),
        Envelope::Notification { .. }
        | Envelope::Response { .. }
        | Envelope::ForeignResponse
        | Envelope::Request { .. }
        | Envelope::Other => None,
    }
}

/// Whether a frame is an array whose first element answers a request, or is a channel's notification: the
/// answers to a batch (section 6). Only that element is looked at.
#[must_use]
pub fn is_batch(frame: &[u8]) -> bool {
    let Some(rest) = frame.trim_ascii_start().strip_prefix(b"[") else {
        return false;
    };
    let mut elements = serde_json::Deserializer::from_slice(rest).into_iter::<&RawValue>();
    let Some(Ok(first)) = elements.next() else {
        return false;
    };
    match peek(first.get().as_bytes()) {
        Envelope::Response { .. } => true,
        Envelope::Notification { channel, .. } => channel.is_some(),
        Envelope::ForeignResponse | Envelope::Request { .. } | Envelope::Other => false,
    }
}

/// The elements of an array, as they stand there; `None` if the frame is not one whole array.
#[must_use]
pub fn elements(frame: &[u8]) -> Option<Vec<&RawValue>> {
    serde_json::from_slice(frame).ok()
}

/// The fast road: plain members without white space or escapes, the deciding ones first.
#[inline(always)]
fn scan(frame: &[u8]) -> Option<Envelope<'_>> {
    let mut rest = frame.strip_prefix(b"{")?;
    let mut id = None;
    loop {
        if let Some(after) = rest.strip_prefix(br#""jsonrpc":"2.0","#) {
            rest = after;
        } else if let Some(after) = rest.strip_prefix(br#""method":""#) {
            let (method, after) = scan_string(after)?;
            let after = after.strip_prefix(br#","params":{"channel":""#)?;
            let (channel, after) = scan_string(after)?;
            // Whatever follows a complete member: the next one, or the end of `params`.
            return matches!(after.first(), Some(b',' | b'}')).then_some(Envelope::Notification {
                method: Cow::Borrowed(method),
                channel: Some(Cow::Borrowed(channel)),
            });
        } else if let Some(after) = rest.strip_prefix(br#""id":"#) {
            let (number, after) = scan_number(after)?;
            id.get_or_insert(number);
            rest = after.strip_prefix(b",")?;
        } else if rest.starts_with(br#""result":"#) || rest.starts_with(br#""error":"#) {
            return id.map(|id| Envelope::Response { id });
        } else {
            return None;
        }
    }
}

/// A string without escapes, up to its closing quote, and what follows that.
fn scan_string(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let end = memchr::memchr2(b'"', b'\\', bytes)?;
    let (text, rest) = bytes.split_at(end);
    let rest = rest.strip_prefix(b"\"")?;
    if text.iter().any(|byte| *byte < 0x20) {
        return None;
    }
    Some((std::str::from_utf8(text).ok()?, rest))
}

/// An unsigned integer as JSON writes it (RFC 8259, section 6), and what follows.
pub(super) fn scan_number(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (mut number, mut length) = (0_u64, 0);
    for digit in bytes.iter().take_while(|byte| byte.is_ascii_digit()) {
        number = number
            .checked_mul(10)?
            .checked_add(u64::from(digit - b'0'))?;
        length += 1;
    }
    let padded = length > 1 && bytes.starts_with(b"0");
    let rest = bytes.get(length..)?;
    (length > 0 && !padded).then_some((number, rest))
}

/// The slow road: the whole frame by a real parser.
fn parse(frame: &[u8]) -> Envelope<'_> {
    let Ok(members) = serde_json::from_slice::<Members<'_>>(frame) else {
        return Envelope::Other;
    };
    match members.deciding {
        None => Envelope::Other,
        Some(Deciding::Outcome) => match members.id.map(|id| id.get().parse()) {
            Some(Ok(id)) => Envelope::Response { id },
            Some(Err(_)) | None => Envelope::ForeignResponse,
        },
        Some(Deciding::Method(raw)) => {
            let Some(method) = text(raw) else {
                return Envelope::Other;
            };
            let channel = members.params.and_then(channel);
            if channel.is_none() && members.id.is_some_and(|id| id.get() != "null") {
                return Envelope::Request { method };
            }
            Envelope::Notification { method, channel }
        }
    }
}

fn channel(params: &RawValue) -> Option<Cow<'_, str>> {
    serde_json::from_str::<Params<'_>>(params.get())
        .ok()?
        .channel
        .and_then(text)
}

fn text(raw: &RawValue) -> Option<Cow<'_, str>> {
    #[derive(Deserialize)]
    struct Text<'f>(#[serde(borrow)] Cow<'f, str>);

    serde_json::from_str::<Text<'_>>(raw.get())
        .ok()
        .map(|text| text.0)
}

/// The members of an envelope, the first of each name.
#[derive(Default)]
struct Members<'f> {
    id: Option<&'f RawValue>,
    params: Option<&'f RawValue>,
    /// The first of `method`, `result`, `error`.
    deciding: Option<Deciding<'f>>,
}

enum Deciding<'f> {
    Method(&'f RawValue),
    Outcome,
}

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "lowercase")]
enum Member {
    Id,
    Method,
    Params,
    Result,
    Error,
    #[serde(other)]
    Unknown,
}

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Self::default())
    }
}

impl<'de> Visitor<'de> for Members<'de> {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<Self, A::Error> {
        while let Some(member) = map.next_key::<Member>()? {
            match member {
                Member::Id => first(&mut self.id, &mut map)?,
                Member::Params => first(&mut self.params, &mut map)?,
                Member::Method if self.deciding.is_none() => {
                    self.deciding = Some(Deciding::Method(map.next_value()?));
                }
                Member::Result | Member::Error if self.deciding.is_none() => {
                    skip(&mut map)?;
                    self.deciding = Some(Deciding::Outcome);
                }
                Member::Method | Member::Result | Member::Error | Member::Unknown => {
                    skip(&mut map)?;
                }
            }
        }
        Ok(self)
    }
}

/// `params.channel`, the first of that name.
#[derive(Default)]
struct Params<'f> {
    channel: Option<&'f RawValue>,
}

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "lowercase")]
enum Parameter {
    Channel,
    #[serde(other)]
    Unknown,
}

impl<'de> Deserialize<'de> for Params<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Self::default())
    }
}

impl<'de> Visitor<'de> for Params<'de> {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<Self, A::Error> {
        while let Some(parameter) = map.next_key::<Parameter>()? {
            match parameter {
                Parameter::Channel => first(&mut self.channel, &mut map)?,
                Parameter::Unknown => skip(&mut map)?,
            }
        }
        Ok(self)
    }
}

/// Keeps a value unless there is one already.
fn first<'de, A: MapAccess<'de>>(
    place: &mut Option<&'de RawValue>,
    map: &mut A,
) -> Result<(), A::Error> {
    let value = map.next_value()?;
    place.get_or_insert(value);
    Ok(())
}

fn skip<'de, A: MapAccess<'de>>(map: &mut A) -> Result<(), A::Error> {
    map.next_value::<IgnoredAny>().map(|_| ())
}

#[cfg(test)]
mod tests;
