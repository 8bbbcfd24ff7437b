//! What a scripted server does with one connection, as data.
//!
//! A file of its own because a script can be built, cloned, stored and compared in print without any
//! server.
//!
//! Invariants: a script is plain data, save for a [`Responder`]; it begins with a [`Handshake`]; its steps are played in order;
//! after the last one the connection stays open, is read and answers pings until somebody ends it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;

use super::handshake::{Handshake, owned};
use super::matcher::Matcher;

/// One thing the server does on an open connection.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Step {
    /// The next text message must be this one; anything else fails the script.
    Expect(Matcher),
    /// Waits for such a text message and ignores others.
    Await(Matcher),
    /// Waits for the client's close frame.
    AwaitClose,
    /// Sends a text message.
    Send(String),
    /// Sends a binary message.
    SendBinary(Bytes),
    /// Sends a ping.
    Ping(Bytes),
    /// Sends a pong nobody asked for.
    Pong(Bytes),
    /// Answers the message matched last with a JSON-RPC result.
    Reply(Value),
    /// Answers the message matched last with a JSON-RPC error object.
    ReplyError {
        /// The code.
        code: i64,
        /// The message.
        message: String,
    },
    /// Answers the message matched last as the function says, in the venue's own words.
    Answer(Responder),
    /// Writes bytes below the frames: broken frames, half frames, fragments.
    Raw(Bytes),
    /// From here on lets only so many bytes through at a time, in both directions; zero bytes end that.
    Slow {
        /// How many.
        bytes: usize,
        /// How often.
        every: Duration,
    },
    /// Resets TCP when the client has been sent so many bytes more. Bytes below the frames, so that a frame may
    /// be cut anywhere.
    ResetAfter(u64),
    /// Sends every text message back, until the connection ends.
    Echo,
    /// Answers every text message as the function says, until the connection ends.
    Respond(Responder),
    /// Does nothing for this long; the connection is read and pings are answered.
    Wait(Duration),
    /// Plays these steps this many times.
    Repeat(u32, Vec<Step>),
    /// Sends a close frame, waits up to two seconds for the answer and closes TCP.
    Close {
        /// The status code; any number, also one that RFC 6455 forbids.
        code: u16,
        /// The reason text.
        reason: String,
    },
    /// Closes TCP without a close frame.
    HangUp,
    /// Resets TCP.
    Reset,
    /// Neither reads nor writes from here on, and keeps the socket open: a half-open connection.
    GoSilent,
}

/// Makes the answer to a text message, or none.
///
/// Should it panic, the connection ends and the server goes on.
#[derive(Clone)]
pub struct Responder(Arc<Respond>);

type Respond = dyn Fn(&str) -> Option<String> + Send + Sync;

impl Responder {
    /// A responder that asks `respond`.
    pub fn new(respond: impl Fn(&str) -> Option<String> + Send + Sync + 'static) -> Self {
        Self(Arc::new(respond))
    }

    /// What it answers to `text`.
    #[must_use]
    pub fn answer(&self, text: &str) -> Option<String> {
        (self.0)(text)
    }
}

impl Default for Responder {
    /// `ping` is answered by `pong`, any other text by `echo: ` and that text.
    fn default() -> Self {
        Self::new(|text| match text {
            "ping" => Some("pong".to_owned()),
            other => Some(format!("echo: {other}")),
        })
    }
}

impl fmt::Debug for Responder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Responder")
    }
}

/// What the server does with one connection.
///
/// ```
/// use mainstay::testing::Script;
/// use std::time::Duration;
///
/// let script = Script::new()
///     .expect_method("public/auth")
///     .reply(serde_json::json!({ "access_token": "t" }))
///     .wait(Duration::from_millis(10))
///     .close(1008, "policy");
/// assert_eq!(script.steps().len(), 4);
/// ```
#[derive(Debug, Clone, Default)]
#[must_use = "give it to a server"]
pub struct Script {
    pub(super) handshake: Handshake,
    pub(super) steps: Vec<Step>,
}

impl Script {
    /// Accepts the connection and keeps it open.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sends every text message back.
    pub fn echo() -> Self {
        Self::new().step(Step::Echo)
    }

    /// Answers every text message as `responder` says; [`Responder::default`] knows `ping`.
    pub fn responding(responder: Responder) -> Self {
        Self::new().step(Step::Respond(responder))
    }

    /// Refuses the upgrade.
    pub fn refuse(status: u16, headers: &[(&str, &str)], body: impl Into<String>) -> Self {
        Self::new().handshake(Handshake::refuse(status, headers, body))
    }

    /// Begins with `handshake` instead of a plain acceptance.
    pub fn handshake(mut self, handshake: Handshake) -> Self {
        self.handshake = handshake;
        self
    }

    /// Accepts with further headers in the answer.
    pub fn accept_with(self, headers: &[(&str, &str)]) -> Self {
        let headers = owned(headers);
        self.handshake(Handshake::AcceptWith { headers })
    }

    /// Adds a step.
    pub fn step(mut self, step: Step) -> Self {
        self.steps.push(step);
        self
    }

    /// The next message must be this text, this JSON (at least), or what the matcher says.
    pub fn expect(self, message: impl Into<Matcher>) -> Self {
        self.step(Step::Expect(message.into()))
    }

    /// The next message must be exactly this text.
    pub fn expect_text(self, text: impl Into<String>) -> Self {
        self.expect(Matcher::Exact(text.into()))
    }

    /// The next message must be a JSON-RPC request of this method.
    pub fn expect_method(self, method: impl Into<String>) -> Self {
        self.expect(Matcher::Method(method.into()))
    }

    /// Waits for such a message and ignores others.
    pub fn await_message(self, message: impl Into<Matcher>) -> Self {
        self.step(Step::Await(message.into()))
    }

    /// Waits for the client's close frame.
    pub fn await_close(self) -> Self {
        self.step(Step::AwaitClose)
    }

    /// Answers the message matched last with a JSON-RPC result.
    pub fn reply(self, result: impl Into<Value>) -> Self {
        self.step(Step::Reply(result.into()))
    }

    /// Answers the message matched last with a JSON-RPC error object.
    pub fn reply_error(self, code: i64, message: impl Into<String>) -> Self {
        let message = message.into();
        self.step(Step::ReplyError { code, message })
    }

    /// Answers the message matched last as `answer` says: for venues that do not speak JSON-RPC.
    pub fn answer(self, answer: impl Fn(&str) -> Option<String> + Send + Sync + 'static) -> Self {
        self.step(Step::Answer(Responder::new(answer)))
    }

    /// Sends a text message.
    pub fn send(self, text: impl Into<String>) -> Self {
        self.step(Step::Send(text.into()))
    }

    /// Sends JSON as a text message.
    pub fn send_json(self, value: impl Into<Value>) -> Self {
        self.send(value.into().to_string())
    }

    /// Sends a binary message.
    pub fn send_binary(self, bytes: impl Into<Bytes>) -> Self {
        self.step(Step::SendBinary(bytes.into()))
    }

    /// Sends a ping.
    pub fn ping(self, payload: impl Into<Bytes>) -> Self {
        self.step(Step::Ping(payload.into()))
    }

    /// Writes bytes below the frames.
    pub fn raw(self, bytes: impl Into<Bytes>) -> Self {
        self.step(Step::Raw(bytes.into()))
    }

    /// Does nothing for this long but reads and answers pings.
    pub fn wait(self, time: Duration) -> Self {
        self.step(Step::Wait(time))
    }

    /// Plays the steps of `other` this many times; its handshake is ignored.
    pub fn repeat(self, times: u32, other: Self) -> Self {
        self.step(Step::Repeat(times, other.steps))
    }

    /// From here on lets only so many bytes through at a time.
    pub fn slow(self, bytes: usize, every: Duration) -> Self {
        self.step(Step::Slow { bytes, every })
    }

    /// Resets TCP when the client has been sent so many bytes more.
    pub fn reset_after(self, bytes: u64) -> Self {
        self.step(Step::ResetAfter(bytes))
    }

    /// Sends a close frame, waits for the answer and closes TCP.
    pub fn close(self, code: u16, reason: impl Into<String>) -> Self {
        let reason = reason.into();
        self.step(Step::Close { code, reason })
    }

    /// Closes TCP without a close frame.
    pub fn hang_up(self) -> Self {
        self.step(Step::HangUp)
    }

    /// Resets TCP.
    pub fn reset(self) -> Self {
        self.step(Step::Reset)
    }

    /// Neither reads nor writes from here on, and keeps the socket open.
    pub fn go_silent(self) -> Self {
        self.step(Step::GoSilent)
    }

    /// The steps, in order.
    #[must_use]
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }
}

/// A script met another message than the expected one; the connection was closed with code 1011.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ScriptFailure {
    /// The number of the connection.
    pub connection: u64,
    /// What was expected.
    pub expected: String,
    /// What came.
    pub found: String,
}
