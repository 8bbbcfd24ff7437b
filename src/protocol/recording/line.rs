//! One entry as a line, and back.
//!
//! Apart from what an entry is because the rules here are another program's: which members there are,
//! in which order they are judged, and what is forgiven.
//!
//! Invariants: members are judged in the order JSON, time, direction, type, data; base64 that cannot be
//! read is data as it stands.

use bytes::Bytes;
use data_encoding::BASE64;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{Direction, Entry, EntryError, Mark, Recorded, timestamp};
use crate::frame::Frame;

#[derive(Serialize)]
struct Line<'a> {
    ts: &'a str,
    dir: &'static str,
    #[serde(rename = "type")]
    kind: &'static str,
    data: &'a str,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    binary: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    mark: Option<&'static str>,
}

/// What stands in `data` of a close line.
#[derive(Serialize, Deserialize)]
struct Close<'a> {
    code: u16,
    #[serde(borrow, default)]
    reason: std::borrow::Cow<'a, str>,
}

/// What stands in `data` of a line about shed entries.
#[derive(Serialize, Deserialize)]
struct Dropped {
    #[serde(default, rename = "in")]
    inbound: u64,
    #[serde(default, rename = "out")]
    outbound: u64,
}

/// "No status received" (RFC 6455, section 7.1.5): never in a frame, so it can stand for its absence.
const NO_STATUS: u16 = 1005;

pub(super) fn write(entry: &Entry, out: &mut Vec<u8>) {
    let data = match &entry.recorded {
        Recorded::Frame(Frame::Text(text)) => std::borrow::Cow::Borrowed(text.as_str()),
        Recorded::Frame(Frame::Binary(bytes) | Frame::Ping(bytes) | Frame::Pong(bytes)) => {
            BASE64.encode(bytes).into()
        }
        Recorded::Frame(Frame::Close(close)) => {
            let (code, reason) = match close {
                Some((code, reason)) => (*code, reason.as_str()),
                None => (NO_STATUS, ""),
            };
            json(&Close {
                code,
                reason: reason.into(),
            })
            .into()
        }
        Recorded::Opened { epoch } => epoch.to_string().into(),
        Recorded::Dropped { inbound, outbound } => json(&Dropped {
            inbound: *inbound,
            outbound: *outbound,
        })
        .into(),
    };
    let kind = kind(&entry.recorded);
    let line = Line {
        ts: &timestamp::format(entry.at),
        dir: direction(entry.direction),
        kind,
        data: &data,
        binary: matches!(kind, "binary" | "ping" | "pong"),
        mark: entry.mark.map(mark),
    };
    serde_json::to_writer(out, &line).expect("texts and a flag can be written as JSON");
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("numbers and texts can be written as JSON")
}

#[derive(Deserialize)]
struct Members<'l> {
    #[serde(borrow)]
    ts: Option<&'l RawValue>,
    #[serde(borrow)]
    dir: Option<&'l RawValue>,
    #[serde(borrow, rename = "type")]
    kind: Option<&'l RawValue>,
    #[serde(borrow)]
    data: Option<&'l RawValue>,
    #[serde(borrow)]
    binary: Option<&'l RawValue>,
    #[serde(borrow)]
    mark: Option<&'l RawValue>,
}

pub(super) fn parse(line: &str) -> Result<Entry, EntryError> {
    let members: Members<'_> =
        serde_json::from_str(line.trim()).map_err(|error| EntryError::Json {
            column: error.column(),
        })?;
    let ts = text(members.ts);
    let at = ts
        .as_deref()
        .and_then(timestamp::parse)
        .ok_or_else(|| EntryError::Timestamp {
            found: cut(members.ts),
        })?;
    let direction = match text(members.dir).as_deref() {
        Some("in") => Direction::In,
        Some("out") => Direction::Out,
        Some(_) | None => {
            let found = cut(members.dir);
            return Err(EntryError::Direction { found });
        }
    };
    let kind = text(members.kind).unwrap_or_default();
    let binary = members.binary.is_some_and(|flag| flag.get() == "true");
    let recorded = match kind.as_str() {
        "text" => Recorded::Frame(text_frame(data(&members, "text")?, binary)),
        "binary" => {
            let data = data(&members, "binary")?;
            Recorded::Frame(Frame::Binary(payload(data, binary)))
        }
        "ping" => Recorded::Frame(Frame::Ping(payload(data(&members, "ping")?, binary))),
        "pong" => Recorded::Frame(Frame::Pong(payload(data(&members, "pong")?, binary))),
        "close" => Recorded::Frame(Frame::Close(close(data(&members, "close")?))),
        "opened" => {
            let epoch = data(&members, "opened")?.parse();
            let epoch = epoch.map_err(|_| EntryError::Data { kind: "opened" })?;
            Recorded::Opened { epoch }
        }
        "dropped" => {
            let dropped: Dropped = serde_json::from_str(&data(&members, "dropped")?)
                .map_err(|_| EntryError::Data { kind: "dropped" })?;
            Recorded::Dropped {
                inbound: dropped.inbound,
                outbound: dropped.outbound,
            }
        }
        _ => {
            let found = cut(members.kind);
            return Err(EntryError::Type { found });
        }
    };
    let mark = text(members.mark).and_then(|name| MARKS.into_iter().find(|one| mark(*one) == name));
    Ok(Entry {
        at,
        direction,
        recorded,
        mark,
    })
}

fn text(raw: Option<&RawValue>) -> Option<String> {
    serde_json::from_str(raw?.get()).ok()
}

fn data(members: &Members<'_>, kind: &'static str) -> Result<String, EntryError> {
    text(members.data).ok_or(EntryError::Data { kind })
}

fn payload(data: String, binary: bool) -> Bytes {
    if binary && let Ok(bytes) = BASE64.decode(data.as_bytes()) {
        return bytes.into();
    }
    data.into()
}

/// Nobody writes a text as base64, but the plain format allows it.
fn text_frame(data: String, binary: bool) -> Frame {
    if binary
        && let Ok(bytes) = BASE64.decode(data.as_bytes())
        && let Ok(text) = String::from_utf8(bytes)
    {
        return Frame::text(text);
    }
    Frame::text(data)
}

/// What is not the JSON of a close is kept as its reason.
fn close(data: String) -> Option<(u16, String)> {
    match serde_json::from_str::<Close<'_>>(&data) {
        Ok(close) if close.code == NO_STATUS && close.reason.is_empty() => None,
        Ok(close) => Some((close.code, close.reason.into_owned())),
        Err(_) if data.is_empty() => None,
        Err(_) => Some((NO_STATUS, data)),
    }
}

/// What stands there, for an error: enough to find it, too little to be a payload.
fn cut(raw: Option<&RawValue>) -> String {
    const SHOWN: usize = 40;
    let Some(raw) = raw else {
        return "(none)".to_owned();
    };
    let mut found: String = raw.get().chars().take(SHOWN).collect();
    if found.len() < raw.get().len() {
        found.push('…');
    }
    found
}

pub(super) fn direction(direction: Direction) -> &'static str {
    match direction {
        Direction::In => "in",
        Direction::Out => "out",
    }
}

fn kind(recorded: &Recorded) -> &'static str {
    match recorded {
        Recorded::Frame(Frame::Text(_)) => "text",
        Recorded::Frame(Frame::Binary(_)) => "binary",
        Recorded::Frame(Frame::Close(_)) => "close",
        Recorded::Frame(Frame::Ping(_)) => "ping",
        Recorded::Frame(Frame::Pong(_)) => "pong",
        Recorded::Opened { .. } => "opened",
        Recorded::Dropped { .. } => "dropped",
    }
}

const MARKS: [Mark; 4] = [
    Mark::Opening,
    Mark::Authentication,
    Mark::Restore,
    Mark::Heartbeat,
];

fn mark(mark: Mark) -> &'static str {
    match mark {
        Mark::Opening => "opening",
        Mark::Authentication => "authentication",
        Mark::Restore => "restore",
        Mark::Heartbeat => "heartbeat",
    }
}
