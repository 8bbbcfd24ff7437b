//! Where a connection's frames are taken down for the recording.
//!
//! Apart from the connection because only a recorded session has one, and because it alone knows which
//! answers belong to requests that bear credentials.
//!
//! Invariants: one lock and one look at the clock for a turn of the connection's loop, none for a frame; a frame that is
//! taken down keeps nothing alive of what it was read into, unless it is long; an answer to a confidential request is
//! confidential, whatever else has been shed meanwhile.

use std::collections::HashMap;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::clock;
use super::tape::{Strip, Tape};
use crate::frame::Frame;
use crate::platform::Platform;
use crate::protocol::call::Call;
use crate::protocol::continuity::Epoch;
use crate::protocol::envelope::{self, Envelope};
use crate::protocol::recording::{Confidence, Direction, Entry, Mark};

/// Takes down one connection.
pub(crate) struct Tap {
    tape: Arc<Tape>,
    /// What this turn has brought so far.
    strip: Strip,
    /// Whether the strip knows when this turn began.
    timed: bool,
    /// Requests whose answers are more than a user's data, by id.
    answers: HashMap<u64, (Option<Mark>, Confidence)>,
}

impl Tap {
    /// A tap of the connection that has just opened.
    pub(crate) fn open(tape: &Arc<Tape>, epoch: Epoch) -> Self {
        let mut tap = Self {
            tape: Arc::clone(tape),
            strip: Strip::default(),
            timed: false,
            answers: HashMap::new(),
        };
        let opened = Entry::opened(clock::wall(), epoch.as_u64());
        tap.strip.hold(opened, Confidence::Open);
        tap
    }

    /// A request is written under this id.
    pub(crate) fn request(
        &mut self,
        platform: &dyn Platform,
        frame: &Frame,
        id: u64,
        call: &Call,
        mark: Option<Mark>,
    ) {
        let secret = self.asks(platform, id, call, mark);
        self.take(Direction::Out, frame, mark, request_confidence(secret));
    }

    /// Requests are written under these ids, in one frame.
    pub(crate) fn batch(
        &mut self,
        platform: &dyn Platform,
        frame: &Frame,
        requests: &[(u64, &Call)],
    ) {
        let mut secret = false;
        for (id, call) in requests {
            secret |= self.asks(platform, *id, call, None);
        }
        self.take(Direction::Out, frame, None, request_confidence(secret));
    }

    /// Remembers a request whose answer is more than a user's data. Whether it bears credentials.
    fn asks(&mut self, platform: &dyn Platform, id: u64, call: &Call, mark: Option<Mark>) -> bool {
        let secret = mark == Some(Mark::Authentication) || self.is_secret(platform, call.method());
        if secret {
            self.answers.insert(id, (mark, Confidence::Answer));
        } else if mark.is_some() && mark != Some(Mark::Heartbeat) {
            self.answers.insert(id, (mark, Confidence::Open));
        }
        secret
    }

    /// A frame is written as its caller made it.
    pub(crate) fn sent(&mut self, platform: &dyn Platform, frame: &Frame) {
        let confidence = match envelope::peek(frame.payload()) {
            Envelope::Request { method } | Envelope::Notification { method, .. }
                if self.is_secret(platform, &method) =>
            {
                if let Some(id) = id(frame.payload()) {
                    self.answers.insert(id, (None, Confidence::Answer));
                }
                Confidence::Request
            }
            Envelope::Request { .. }
            | Envelope::Notification { .. }
            | Envelope::Response { .. }
            | Envelope::ForeignResponse
            | Envelope::Other => Confidence::Open,
        };
        self.take(Direction::Out, frame, None, confidence);
    }

    /// The answer under this id was read.
    pub(crate) fn answered(&mut self, frame: &Frame, id: u64) {
        let (mark, confidence) = self.answers.remove(&id).unwrap_or((None, Confidence::Open));
        self.take(Direction::In, frame, mark, confidence);
    }

    /// Messages were read in one frame, the answers under these ids among them.
    pub(crate) fn answered_together(&mut self, frame: &Frame, ids: impl Iterator<Item = u64>) {
        let mut together = Confidence::Open;
        for id in ids {
            if let Some((_, Confidence::Answer)) = self.answers.remove(&id) {
                together = Confidence::Answer;
            }
        }
        self.take(Direction::In, frame, None, together);
    }

    /// Any other frame was read.
    pub(crate) fn received(&mut self, frame: &Frame, mark: Option<Mark>) {
        self.take(Direction::In, frame, mark, Confidence::Open);
    }

    /// The turn is over.
    pub(crate) fn hand_over(&mut self) {
        self.timed = false;
        if !self.strip.is_empty() {
            self.tape.push(&mut self.strip);
        }
    }

    fn take(
        &mut self,
        direction: Direction,
        frame: &Frame,
        mark: Option<Mark>,
        confidence: Confidence,
    ) {
        if !std::mem::replace(&mut self.timed, true) {
            self.strip.at(clock::wall());
        }
        self.strip.push(direction, frame, mark, confidence);
    }

    fn is_secret(&self, platform: &dyn Platform, method: &str) -> bool {
        let named = self.tape.record().methods();
        platform.confidential(method) || named.iter().any(|name| name == method)
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.hand_over();
    }
}

fn request_confidence(secret: bool) -> Confidence {
    if secret {
        Confidence::Request
    } else {
        Confidence::Open
    }
}

/// The id of a request that is not ours, if it is one that could come back as an answer's.
fn id(frame: &[u8]) -> Option<u64> {
    #[derive(Deserialize)]
    struct Request<'f> {
        #[serde(borrow)]
        id: &'f RawValue,
    }
    let request: Request<'_> = serde_json::from_slice(frame).ok()?;
    request.id.get().parse().ok()
}
