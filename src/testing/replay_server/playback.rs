//! One recorded connection, played from the server's side: what to say next, and whose turn it is.
//!
//! A file of its own because it decides and does nothing: the socket and the clock are its caller's.
//!
//! Invariants: what was received is said in its order, but an answer never before its request; an answer
//! bears the id under which it was asked for this time; a recorded request is matched once; what was
//! redacted matches anything.

use std::collections::HashMap;
use std::time::SystemTime;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::frame::Frame;
use crate::protocol::recording::{Direction, Entry, Mark, REDACTED, Recorded};

/// What a server does next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Says this.
    Send {
        /// When it was said.
        at: SystemTime,
        /// What.
        frame: Frame,
    },
    /// Waits for a message of the client.
    Await,
    /// Waits for the client to close.
    AwaitClose,
    /// Nothing is left.
    Over,
}

/// What became of a connection that was played.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReplayReport {
    /// Frames that the server has sent.
    pub sent: u64,
    /// Recorded messages of the client that came again.
    pub matched: u64,
    /// Recorded messages of the client that did not come in time.
    pub missed: u64,
    /// Messages of the client that the recording does not hold.
    pub unexpected: u64,
}

#[derive(Debug)]
pub(super) struct Playback {
    entries: Vec<Entry>,
    cursor: usize,
    /// What the client said, by the place of its entry.
    said: HashMap<usize, Said>,
    /// Recorded ids of the client's requests.
    asked: HashMap<String, Asked>,
    pub(super) report: ReplayReport,
}

#[derive(Debug)]
struct Said {
    what: What,
    id: Option<String>,
    state: State,
}

#[derive(Debug, PartialEq)]
enum What {
    Json(Value),
    Bytes(Vec<u8>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Awaited,
    /// It did not come in time, but may still.
    Missed,
    Came,
}

#[derive(Debug)]
enum Asked {
    NotYet {
        /// The answer, once its place has been passed.
        held: Option<String>,
    },
    /// Under this id.
    As(String),
}

impl Playback {
    pub(super) fn new(entries: Vec<Entry>) -> Self {
        let (mut said, mut asked) = (HashMap::new(), HashMap::new());
        for (place, entry) in entries.iter().enumerate() {
            let (Direction::Out, Some(frame)) = (entry.direction, entry.frame()) else {
                continue;
            };
            let Some(what) = what(frame) else { continue };
            let id = request_id(&what);
            if let Some(id) = &id {
                asked.insert(id.clone(), Asked::NotYet { held: None });
            }
            let state = State::Awaited;
            said.insert(place, Said { what, id, state });
        }
        Self {
            entries,
            cursor: 0,
            said,
            asked,
            report: ReplayReport::default(),
        }
    }

    /// What comes next. Calling it again after [`Next::Send`] goes on; after the others, only something
    /// received, or [`Playback::give_up`], does.
    pub(super) fn next(&mut self) -> Next {
        while let Some(entry) = self.entries.get(self.cursor) {
            let at = entry.at;
            let frame = match &entry.recorded {
                Recorded::Frame(frame) => frame.clone(),
                Recorded::Opened { .. } | Recorded::Dropped { .. } => {
                    self.cursor += 1;
                    continue;
                }
            };
            match (entry.direction, &frame) {
                (Direction::Out, Frame::Close(_)) => return Next::AwaitClose,
                (Direction::Out, Frame::Text(_) | Frame::Binary(_)) => {
                    // A heartbeat's answer comes when it comes.
                    let awaited = entry.mark != Some(Mark::Heartbeat)
                        && self
                            .said
                            .get(&self.cursor)
                            .is_some_and(|said| said.state == State::Awaited);
                    if awaited {
                        return Next::Await;
                    }
                }
                (Direction::In, Frame::Text(text)) => {
                    if let Some(text) = self.in_time(text) {
                        self.cursor += 1;
                        self.report.sent += 1;
                        let frame = Frame::text(text);
                        return Next::Send { at, frame };
                    }
                }
                (Direction::In, Frame::Binary(_) | Frame::Ping(_) | Frame::Close(_)) => {
                    self.cursor += 1;
                    self.report.sent += 1;
                    return Next::Send { at, frame };
                }
                // Pongs are the socket's own affair, on either side.
                (Direction::Out, Frame::Ping(_) | Frame::Pong(_))
                | (Direction::In, Frame::Pong(_)) => {}
            }
            self.cursor += 1;
        }
        Next::Over
    }

    /// The client said something. Answers that have waited for it.
    pub(super) fn on_received(&mut self, frame: &Frame) -> Received {
        let Some(live) = what(frame) else {
            return Received::Known(None);
        };
        let first = self
            .said
            .iter()
            .filter(|(_, said)| said.state != State::Came && resembles(&said.what, &live, true))
            .map(|(place, _)| *place)
            .min();
        let Some(said) = first.and_then(|place| self.said.get_mut(&place)) else {
            self.report.unexpected += 1;
            return Received::Unexpected(request_id(&live));
        };
        if said.state == State::Missed {
            self.report.missed -= 1;
        }
        said.state = State::Came;
        self.report.matched += 1;
        let (Some(recorded), Some(id)) = (&said.id, request_id(&live)) else {
            return Received::Known(None);
        };
        let before = self.asked.insert(recorded.clone(), Asked::As(id.clone()));
        let held = match before {
            Some(Asked::NotYet { held }) => held.map(|text| with_id(&text, &id)),
            Some(Asked::As(_)) | None => None,
        };
        self.report.sent += u64::from(held.is_some());
        Received::Known(held.map(Frame::text))
    }

    /// The message that is awaited does not come.
    pub(super) fn give_up(&mut self) {
        if let Some(said) = self.said.get_mut(&self.cursor) {
            said.state = State::Missed;
            self.report.missed += 1;
        }
    }

    /// The text as it is said now, unless it is an answer to what has not been asked; that is kept.
    fn in_time(&mut self, text: &str) -> Option<String> {
        let Some(id) = answer_id(text) else {
            return Some(text.to_owned());
        };
        match self.asked.get_mut(&id) {
            Some(Asked::As(live)) => Some(with_id(text, live)),
            Some(Asked::NotYet { held }) => {
                *held = Some(text.to_owned());
                None
            }
            None => Some(text.to_owned()),
        }
    }
}

/// What a message of the client led to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Received {
    /// The recording holds it; this answer had waited for it.
    Known(Option<Frame>),
    /// The recording does not hold it; with its id, if it is a request.
    Unexpected(Option<String>),
}

fn what(frame: &Frame) -> Option<What> {
    match frame {
        Frame::Text(text) => Some(match serde_json::from_str(text) {
            Ok(value) => What::Json(value),
            Err(_) => What::Bytes(text.as_bytes().to_vec()),
        }),
        Frame::Binary(bytes) => Some(What::Bytes(bytes.to_vec())),
        Frame::Ping(_) | Frame::Pong(_) | Frame::Close(_) => None,
    }
}

/// The id of a request, as JSON.
fn request_id(what: &What) -> Option<String> {
    let What::Json(value) = what else { return None };
    value.get("method")?;
    let id = value.get("id").filter(|id| !id.is_null())?;
    Some(id.to_string())
}

/// The id of an answer, as JSON.
fn answer_id(text: &str) -> Option<String> {
    let value: Value = serde_json::from_str(text).ok()?;
    let is_answer = value.get("result").is_some() || value.get("error").is_some();
    let id = value.get("id").filter(|id| is_answer && !id.is_null())?;
    Some(id.to_string())
}

fn resembles(recorded: &What, live: &What, outermost: bool) -> bool {
    match (recorded, live) {
        (What::Json(recorded), What::Json(live)) => same(recorded, live, outermost),
        (What::Bytes(recorded), live) if recorded == REDACTED.as_bytes() => {
            matches!(live, What::Bytes(_))
        }
        (recorded, live) => recorded == live,
    }
}

fn same(recorded: &Value, live: &Value, outermost: bool) -> bool {
    match (recorded, live) {
        (Value::String(text), live) if text.contains(REDACTED) => !live.is_null(),
        (Value::Object(recorded), Value::Object(live)) => {
            // Which id it is, and whether the protocol's version was named, does not matter.
            let tells = |name: &&String| !(outermost && matches!(name.as_str(), "id" | "jsonrpc"));
            recorded.keys().filter(tells).count() == live.keys().filter(tells).count()
                && recorded.keys().filter(tells).all(|name| {
                    let (one, other) = (recorded.get(name), live.get(name));
                    one.zip(other)
                        .is_some_and(|(one, other)| same(one, other, false))
                })
        }
        (Value::Array(recorded), Value::Array(live)) => {
            let pairs = recorded.iter().zip(live);
            recorded.len() == live.len()
                && pairs
                    .into_iter()
                    .all(|(one, other)| same(one, other, false))
        }
        (recorded, live) => recorded == live,
    }
}

/// The text with another id; every other byte stays.
fn with_id(text: &str, id: &str) -> String {
    #[derive(Deserialize)]
    struct Answer<'t> {
        #[serde(borrow)]
        id: &'t RawValue,
    }
    let Ok(answer) = serde_json::from_str::<Answer<'_>>(text) else {
        return text.to_owned();
    };
    let old = answer.id.get();
    // It was borrowed from the text, so its place there is a matter of addresses.
    let start = old.as_ptr() as usize - text.as_ptr() as usize;
    format!("{}{id}{}", &text[..start], &text[start + old.len()..])
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    fn out(text: &str) -> Entry {
        Entry::new(UNIX_EPOCH, Direction::Out, Frame::text(text))
    }

    fn inward(text: &str) -> Entry {
        Entry::new(UNIX_EPOCH, Direction::In, Frame::text(text))
    }

    fn says(playback: &mut Playback) -> String {
        match playback.next() {
            Next::Send { frame, .. } => frame.as_text().unwrap().to_owned(),
            other => panic!("{other:?}"),
        }
    }

    fn hear(playback: &mut Playback, text: &str) -> Received {
        playback.on_received(&Frame::text(text))
    }

    #[test]
    fn an_answer_bears_the_id_under_which_it_was_asked_for_now() {
        let mut playback = Playback::new(vec![
            inward("welcome"),
            out(r#"{"id":65537,"method":"m","params":{"a":1}}"#),
            inward(r#"{ "usIn":1.50,"id":65537,"result":{"id":65537}}"#),
        ]);
        assert_eq!(says(&mut playback), "welcome");
        assert_eq!(playback.next(), Next::Await);
        let heard = hear(&mut playback, r#"{"params":{"a":1},"method":"m","id":"x"}"#);
        assert_eq!(heard, Received::Known(None));
        assert_eq!(
            says(&mut playback),
            r#"{ "usIn":1.50,"id":"x","result":{"id":65537}}"#
        );
        assert_eq!(playback.next(), Next::Over);
        assert_eq!((playback.report.sent, playback.report.matched), (2, 1));
    }

    #[test]
    fn an_answer_waits_for_its_request_and_nothing_else_does() {
        let mut playback = Playback::new(vec![
            out(r#"{"id":1,"method":"a"}"#),
            inward(r#"{"id":1,"result":"A"}"#),
            inward("tick"),
            out(r#"{"id":2,"method":"b"}"#),
            inward(r#"{"id":2,"result":"B"}"#),
        ]);
        assert_eq!(
            hear(&mut playback, r#"{"id":7,"method":"b"}"#),
            Received::Known(None)
        );
        assert_eq!(playback.next(), Next::Await);
        playback.give_up();
        assert_eq!(says(&mut playback), "tick");
        assert_eq!(says(&mut playback), r#"{"id":7,"result":"B"}"#);
        assert_eq!(playback.report.missed, 1);
        let late = hear(&mut playback, r#"{"id":8,"method":"a"}"#);
        assert_eq!(
            late,
            Received::Known(Some(Frame::text(r#"{"id":8,"result":"A"}"#)))
        );
        assert_eq!((playback.report.missed, playback.report.matched), (0, 2));
    }

    #[test]
    fn what_was_redacted_matches_anything_and_a_request_is_matched_once() {
        let login = r#"{"id":1,"method":"login","params":{"key":"[redacted]"}}"#;
        let mut playback = Playback::new(vec![out(login)]);
        let live = r#"{"id":9,"method":"login","params":{"key":"s3cret"}}"#;
        assert_eq!(hear(&mut playback, live), Received::Known(None));
        assert_eq!(
            hear(&mut playback, live),
            Received::Unexpected(Some("9".to_owned()))
        );
        assert_eq!(hear(&mut playback, "chatter"), Received::Unexpected(None));
        assert_eq!(playback.report.unexpected, 2);
    }

    #[test]
    fn the_clients_own_close_and_heartbeats_are_not_awaited_as_messages() {
        let beat = out(r#"{"id":1,"method":"test"}"#).marked(Some(Mark::Heartbeat));
        let close = Entry::new(UNIX_EPOCH, Direction::Out, Frame::Close(None));
        let mut playback = Playback::new(vec![Entry::opened(UNIX_EPOCH, 1), beat, close]);
        assert_eq!(playback.next(), Next::AwaitClose);
    }
}
