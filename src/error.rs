//! Every error that the library returns, and the one place that says what to do about each.
//!
//! One enum per operation: [`ConfigErrors`] when a session is described, [`ConnectError`] when a
//! connection is opened, [`RequestError`] when a request ends without an answer that helps,
//! [`SubscribeError`] for a subscription, [`UnsubscribeError`] for its end, [`StartError`] when a session is started, [`RecordError`] when
//! its recording has no file, [`PoolError`] and [`AddError`] with a pool of them. What to do about an
//! error each says by its `recovery()`; nobody matches on a string. For a person every error has `explain()`: its
//! [`Category`], what to try, and a heading of the [`guide`].
//!
//! Printed by `{error}` an error says what failed, and leaves the cause to `source()`, which `anyhow` and its like print
//! too; `{error:#}` is one line with all causes.
//!
//! ```
//! # use mainstay::error::{ErrorObject, RequestError};
//! # let error = |code, message: &str| RequestError::Answered {
//! #     method: "private/buy".to_owned(),
//! #     error: ErrorObject::new(code, message),
//! # };
//! let error = error(10009, "not_enough_funds");
//! assert_eq!(error.to_string(), r#"request "private/buy" was refused with error 10009"#);
//! assert_eq!(
//!     format!("{error:#}"),
//!     r#"request "private/buy" was refused with error 10009: peer answered with error 10009: not_enough_funds"#,
//! );
//! ```
//!
//! Invariants: no error carries a credential; texts are lower case without a full stop; `{:#}` is the message of
//! `explain()`.

mod connect;
mod decode;
mod explain;
mod limit;
mod pool;
mod record;
mod request;
mod session;
#[cfg(test)]
mod table;

#[doc = include_str!("error/guide.md")]
pub mod guide {}

pub use connect::{ConfigError, ConfigErrors, ConnectError, HttpResponse, Phase};
pub use decode::DecodeError;
pub use explain::{Category, Explanation};
pub(crate) use explain::{Entry, explained, told_with_causes};
pub use limit::LimitError;
pub use pool::{AddError, DuplicateId, PoolError};
pub use record::RecordError;
pub use request::{ErrorObject, NotSentCause, RequestError, UnknownCause};
pub(crate) use request::{Kept, Turn};
pub use session::{EndReason, StartError, SubscribeError, UnsubscribeError, WaitError};

use std::fmt;
use std::time::Duration;

use crate::close::CloseReason;

/// What to do about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Recovery {
    /// Try again; the usual backoff applies.
    Retry,
    /// Try again, but not before this much time has passed (the peer said so).
    RetryAfter(Duration),
    /// Authenticate once more, then try again.
    Reauthenticate,
    /// It may have been executed: find out before trying again.
    Reconcile,
    /// Trying again cannot help: a person has to change something.
    Stop,
}

impl CloseReason {
    /// What to do about a connection that ended like this.
    ///
    /// Almost every end passes. What does not: an opening that cannot succeed
    /// ([`ConnectError::recovery`]), and a step that the venue refused for good.
    #[must_use]
    pub fn recovery(&self) -> Recovery {
        match self {
            Self::NotOpened(error) => error.recovery(),
            Self::NotEstablished { recovery, .. } => *recovery,
            Self::Hook { ends: true, .. } => Recovery::Stop,
            Self::Hook { ends: false, .. }
            | Self::Peer { .. }
            | Self::Local { .. }
            | Self::Reconnect
            | Self::FailBack
            | Self::Eof
            | Self::Io { .. }
            | Self::Protocol { .. }
            | Self::TooBig { .. }
            | Self::NotUtf8
            | Self::Silent { .. }
            | Self::Mute { .. }
            | Self::WriteStalled { .. }
            | Self::ActorEnded { .. } => Recovery::Retry,
        }
    }
}

impl CloseReason {
    /// Whether it says that we were too fast: HTTP 429 or 418, or close code 1008 (RFC 6455, section 7.4.1).
    pub(crate) fn is_rate_limit(&self) -> bool {
        match self {
            Self::NotOpened(error) => matches!(
                &**error,
                ConnectError::Refused { response } if matches!(response.status.as_u16(), 418 | 429)
            ),
            Self::Peer { code, .. } => *code == Some(1008),
            Self::NotEstablished { .. }
            | Self::Local { .. }
            | Self::Hook { .. }
            | Self::Eof
            | Self::Io { .. }
            | Self::Protocol { .. }
            | Self::TooBig { .. }
            | Self::NotUtf8
            | Self::Silent { .. }
            | Self::Mute { .. }
            | Self::WriteStalled { .. }
            | Self::Reconnect
            | Self::FailBack
            | Self::ActorEnded { .. } => false,
        }
    }
}

/// The text of an error that has a cause: with all causes where `{:#}` asks for them. Whoever prints causes himself, as
/// `anyhow` does, asks for the plain text of each.
pub(crate) fn told(
    f: &mut fmt::Formatter<'_>,
    text: fmt::Arguments<'_>,
    cause: &dyn std::error::Error,
) -> fmt::Result {
    f.write_fmt(text)?;
    match f.alternate() {
        true => write!(f, ": {}", chain(cause)),
        false => Ok(()),
    }
}

/// An error and its causes, in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        text.push_str(": ");
        text.push_str(&next.to_string());
        cause = next.source();
    }
    text
}
