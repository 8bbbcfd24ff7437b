//! How a request ends when it does not end well.
//!
//! Apart because of the one promise that the library makes about requests: each ends as *answered*,
//! *not sent* or *unknown*, and never as anything between; a fate that was unknown may have been found out.
//!
//! Invariants: `NotSent` is said only when not a single byte of the request was handed to the socket; `NotExecuted`
//! only when the user's own query said so.

use std::fmt;
use std::time::Duration;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{DecodeError, LimitError, Recovery, told};
use crate::close::CloseReason;

/// The error object of a JSON-RPC 2.0 response (section 5.1).
#[derive(Clone, Deserialize, thiserror::Error)]
#[error("peer answered with error {code}: {message}")]
#[non_exhaustive]
pub struct ErrorObject {
    /// The number that indicates the kind of error.
    pub code: i64,
    /// A short description.
    #[serde(default)]
    pub message: String,
    /// What the peer added, unparsed.
    #[serde(default)]
    pub data: Option<Box<RawValue>>,
}

impl ErrorObject {
    /// An error without data, for platforms that read a venue's errors in their own form.
    pub fn new(code: i64, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            data: None,
        }
    }

    /// What to do about it when nobody knows the venue; whoever does asks
    /// [`Platform::recovery`](crate::platform::Platform::recovery), which knows its codes.
    #[must_use]
    pub fn recovery(&self) -> Recovery {
        Recovery::Stop
    }
}

impl fmt::Debug for ErrorObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The data is payload.
        f.debug_struct("ErrorObject")
            .field("code", &self.code)
            .field("message", &self.message)
            .field("has_data", &self.data.is_some())
            .finish()
    }
}

/// Why the fate of a request is unknown.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum UnknownCause {
    /// The connection ended after the request had been written.
    #[error("connection ended: {0}")]
    ConnectionLost(CloseReason),
    /// No answer came within the deadline.
    #[error("no answer within {limit:?}{}", Turn(*.turn))]
    Deadline {
        /// How long it might take, as the caller had said.
        limit: Duration,
        /// How much of that went to waiting for its turn under the rate limit, in whole milliseconds; `None` if none did.
        turn: Option<Duration>,
    },
    /// The venue was asked what became of it, and could not be made to say.
    #[error("{first}; asking what became of it: {detail}")]
    Unreconciled {
        /// Why the fate was unknown in the first place.
        first: Box<UnknownCause>,
        /// Why it still is.
        detail: String,
    },
}

impl UnknownCause {
    /// Find out first whether it was executed.
    #[must_use]
    pub fn recovery(&self) -> Recovery {
        Recovery::Reconcile
    }
}

/// How much of a limit was not the peer's.
pub(crate) struct Turn(pub(crate) Option<Duration>);

impl fmt::Display for Turn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(time) => write!(
                f,
                ", of which {time:?} went to waiting for its turn under the rate limit"
            ),
            None => Ok(()),
        }
    }
}

/// What kept a request from being sent. [`RequestError::NotSent`] has it in words, too.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum NotSentCause {
    /// There was no connection that it could go out on, or that ended first.
    NotLive,
    /// The rate limiter did not let it pass.
    Limit(LimitError),
    /// As many as may were waiting, or under way.
    Full,
    /// Its time was over before it was written.
    TooLate,
    /// A hook of this program's refused it.
    Hook,
    /// The session is over, is being drained, or leaves its pool.
    Over,
}

/// What kept something from being sent, before it is said what that was.
#[derive(Debug)]
pub(crate) struct Kept {
    cause: NotSentCause,
    detail: String,
}

impl Kept {
    pub(crate) fn new(cause: NotSentCause, detail: impl Into<String>) -> Self {
        let detail = detail.into();
        Self { cause, detail }
    }

    /// The error of a request of this method.
    pub(crate) fn of(self, method: impl Into<String>) -> RequestError {
        RequestError::NotSent {
            method: method.into(),
            cause: self.cause,
            detail: self.detail,
        }
    }
}

impl From<LimitError> for Kept {
    fn from(error: LimitError) -> Self {
        let detail = error.to_string();
        Self::new(NotSentCause::Limit(error), detail)
    }
}

/// A request that was not answered with a result.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// Answered, with an error object: the peer has seen the request and refused it.
    #[error(fmt = refused)]
    Answered {
        /// The method.
        method: String,
        /// The peer's error object.
        #[source]
        error: ErrorObject,
    },
    /// Answered, but the result is not what it should be.
    #[error(fmt = undecodable)]
    Undecodable {
        /// The method.
        method: String,
        /// What was wrong.
        #[source]
        source: DecodeError,
    },
    /// Not a byte of it left this process: it can be sent again without harm.
    #[error("request {method:?} was not sent: {detail}")]
    NotSent {
        /// The method.
        method: String,
        /// What kept it.
        cause: NotSentCause,
        /// The same in words, with values.
        detail: String,
    },
    /// It was written and no answer is known: it may have been executed.
    #[error(fmt = unknown)]
    Unknown {
        /// The method.
        method: String,
        /// Why.
        #[source]
        cause: UnknownCause,
    },
    /// It was written and no answer is known, and the venue says that it was not executed
    /// ([`TypedCall::reconcile`](crate::TypedCall::reconcile)): it can be sent again as far as the venue knows.
    #[error(fmt = not_executed)]
    NotExecuted {
        /// The method.
        method: String,
        /// Why its fate was unknown.
        #[source]
        cause: UnknownCause,
    },
    /// The parameters could not be written as JSON; nothing was sent.
    #[error("parameters of {method:?} cannot be written as json: {detail}")]
    Unencodable {
        /// The method.
        method: String,
        /// What the encoder said.
        detail: String,
    },
}

fn refused(method: &str, error: &ErrorObject, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let code = error.code;
    told(
        f,
        format_args!("request {method:?} was refused with error {code}"),
        error,
    )
}

fn undecodable(method: &str, source: &DecodeError, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    told(
        f,
        format_args!("request {method:?} was answered with an unexpected result"),
        source,
    )
}

fn unknown(method: &str, cause: &UnknownCause, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    told(
        f,
        format_args!("fate of request {method:?} is unknown"),
        cause,
    )
}

fn not_executed(method: &str, cause: &UnknownCause, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    told(
        f,
        format_args!("request {method:?} was not executed, says the venue"),
        cause,
    )
}

impl RequestError {
    /// The same error, of a request of this method.
    pub(crate) fn of(mut self, name: &str) -> Self {
        match &mut self {
            Self::Answered { method, .. }
            | Self::Undecodable { method, .. }
            | Self::NotSent { method, .. }
            | Self::Unknown { method, .. }
            | Self::NotExecuted { method, .. }
            | Self::Unencodable { method, .. } => name.clone_into(method),
        }
        self
    }

    /// The same error, of a request that waited so long for its turn.
    pub(crate) fn after_turn(mut self, waited: Option<Duration>) -> Self {
        if let Self::Unknown {
            cause: UnknownCause::Deadline { turn, .. },
            ..
        } = &mut self
        {
            *turn = waited;
        }
        self
    }

    /// What to do about it. The venue's own error codes are judged by its `Platform`.
    #[must_use]
    pub fn recovery(&self) -> Recovery {
        match self {
            Self::NotSent { cause, .. } => match cause {
                NotSentCause::Limit(error) => error.recovery(),
                NotSentCause::Over => Recovery::Stop,
                NotSentCause::NotLive
                | NotSentCause::Full
                | NotSentCause::TooLate
                | NotSentCause::Hook => Recovery::Retry,
            },
            Self::NotExecuted { .. } => Recovery::Retry,
            Self::Unknown { .. } => Recovery::Reconcile,
            Self::Answered { .. } | Self::Undecodable { .. } | Self::Unencodable { .. } => {
                Recovery::Stop
            }
        }
    }
}
