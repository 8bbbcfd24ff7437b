//! What can be made to go wrong at the simulated venue.
//!
//! A file of its own because a fault is data: a test, a demonstration or a table of cases names it,
//! the connection's task carries it out.
//!
//! Invariants: a fault acts at once, on the next thing of its kind, or until it is taken back, and
//! its documentation says which; [`Knobs`] hold only the last sort.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use crate::testing::Handshake;

/// Something that goes wrong.
///
/// *At once*: happens when it is injected. *Next*: waits for the next request, answer or
/// notification of its kind. *Until healed*: stays, also for connections to come if it was injected
/// for all; taken back by its opposite or by [`Fault::Heal`].
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Fault {
    /// At once: TCP is reset.
    TcpReset,
    /// At once: TCP is closed without a close frame.
    HangUp,
    /// At once: nothing is read or written any more and the socket stays open.
    HalfOpen,
    /// At once: a close frame, its answer, the end.
    Close {
        /// The status code.
        code: u16,
        /// The reason text.
        reason: String,
    },
    /// At once: the access token is expired. Private data stops, private calls answer 13009; the
    /// refresh token stays good.
    ExpireToken,
    /// Until healed: refresh tokens are answered with 13009.
    RefuseRefresh(bool),
    /// Until healed: `public/auth` is answered after this long; zero takes it back.
    DelayAuth(Duration),
    /// Until healed: `subscribe` answers without this channel and without an error.
    OmitChannel(String),
    /// Until healed: this channel is subscribed and says nothing.
    SilenceChannel(String),
    /// Next: one notification of this channel is lost.
    SequenceBreak {
        /// The channel.
        channel: String,
    },
    /// Next: one notification of this channel is sent twice.
    DuplicateMessage {
        /// The channel.
        channel: String,
    },
    /// At once: a book channel sends its snapshot again.
    RepeatSnapshot {
        /// The channel.
        channel: String,
    },
    /// Next: a request is answered with 10028, then the connection is closed.
    TooManyRequests,
    /// Next: a request is answered with 11051, then the connection is closed.
    Maintenance,
    /// Next: a request is answered with this error.
    AnswerError {
        /// The code.
        code: i64,
        /// The message.
        message: String,
    },
    /// Until healed: requests of this method are answered with this error.
    FailMethod {
        /// The method.
        method: String,
        /// The code.
        code: i64,
    },
    /// Until healed: requests of this method are neither carried out nor answered.
    IgnoreMethod(String),
    /// Next: a request is carried out and its answer is lost.
    LoseAnswer,
    /// Next: an answer is held back until the one after it has been sent.
    AnswerOutOfOrder,
    /// Next: an answer is sent twice.
    AnswerTwice,
    /// At once: an answer to a request nobody made.
    AnswerUnknownId,
    /// At once: an error object without an id.
    ErrorWithoutId,
    /// Until healed: the first notifications of a channel are sent before the answer to `subscribe`.
    NotificationBeforeAnswer(bool),
    /// At once: a text message that is not JSON.
    InvalidJson,
    /// At once: this many ticker notifications of the connection's ticker channels.
    Burst {
        /// How many in total.
        count: usize,
    },
    /// Until healed: no data; pings, requests and heartbeats are answered as ever.
    Mute(bool),
    /// At once: the server sends `test_request`, as if the connection had been quiet.
    TestRequest,
    /// Until healed: an unanswered `test_request` has no consequence.
    SkipTestRequestCheck(bool),
    /// Until healed: no heartbeats and no test requests are sent.
    NoHeartbeats(bool),
    /// Until healed: `public/status` says that the platform is locked, in part or wholly.
    LockPlatform {
        /// Whether only in part.
        partly: bool,
    },
    /// Until healed: `public/get_time` is wrong by this many milliseconds; zero takes it back.
    SkewClock(i64),
    /// For the next `times` connections, and only server-wide: the upgrade is refused.
    RefuseUpgrade {
        /// The HTTP status.
        status: u16,
        /// Further headers.
        headers: Vec<(String, String)>,
        /// The body.
        body: String,
        /// How often.
        times: u32,
    },
    /// For the next `times` connections, and only server-wide: another handshake.
    Handshake {
        /// What happens instead.
        handshake: Handshake,
        /// How often.
        times: u32,
    },
    /// At once: everything that lasts until healed, and every refusal still to come, is over.
    Heal,
}

/// What lasts until healed.
#[derive(Debug, Clone, Default)]
pub(super) struct Knobs {
    pub(super) refuse_refresh: bool,
    pub(super) delay_auth: Duration,
    pub(super) omitted: HashSet<String>,
    pub(super) silenced: HashSet<String>,
    /// Methods that fail, and with which code.
    pub(super) failing: HashMap<String, i64>,
    pub(super) ignored: HashSet<String>,
    pub(super) notification_first: bool,
    pub(super) muted: bool,
    pub(super) skip_test_request_check: bool,
    pub(super) no_heartbeats: bool,
    /// Whether the platform is locked, and if so whether only in part.
    pub(super) locked: Option<bool>,
    pub(super) clock_skew: i64,
}

impl Knobs {
    /// Turns the knob `fault` is about, if it is about one.
    pub(super) fn turn(&mut self, fault: &Fault) {
        match fault {
            Fault::RefuseRefresh(on) => self.refuse_refresh = *on,
            Fault::DelayAuth(delay) => self.delay_auth = *delay,
            Fault::OmitChannel(channel) => {
                self.omitted.insert(channel.clone());
            }
            Fault::SilenceChannel(channel) => {
                self.silenced.insert(channel.clone());
            }
            Fault::FailMethod { method, code } => {
                self.failing.insert(method.clone(), *code);
            }
            Fault::IgnoreMethod(method) => {
                self.ignored.insert(method.clone());
            }
            Fault::NotificationBeforeAnswer(on) => self.notification_first = *on,
            Fault::Mute(on) => self.muted = *on,
            Fault::SkipTestRequestCheck(on) => self.skip_test_request_check = *on,
            Fault::NoHeartbeats(on) => self.no_heartbeats = *on,
            Fault::LockPlatform { partly } => self.locked = Some(*partly),
            Fault::SkewClock(milliseconds) => self.clock_skew = *milliseconds,
            Fault::Heal => *self = Self::default(),
            Fault::TcpReset
            | Fault::HangUp
            | Fault::HalfOpen
            | Fault::Close { .. }
            | Fault::ExpireToken
            | Fault::SequenceBreak { .. }
            | Fault::DuplicateMessage { .. }
            | Fault::RepeatSnapshot { .. }
            | Fault::TooManyRequests
            | Fault::Maintenance
            | Fault::AnswerError { .. }
            | Fault::LoseAnswer
            | Fault::AnswerOutOfOrder
            | Fault::AnswerTwice
            | Fault::AnswerUnknownId
            | Fault::ErrorWithoutId
            | Fault::InvalidJson
            | Fault::Burst { .. }
            | Fault::TestRequest
            | Fault::RefuseUpgrade { .. }
            | Fault::Handshake { .. } => {}
        }
    }
}
