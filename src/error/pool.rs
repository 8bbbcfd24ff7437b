//! How a request to a pool ends that no session answered, and why a pool takes a session not in.
//!
//! Apart because these speak of several sessions; what each of them said stands in the source.
//!
//! Invariants: each names the connection, by its id, or how many there were; whether something may have been
//! executed is never left open.

use std::fmt;
use std::time::Duration;

use super::{Recovery, RequestError, StartError, told};

/// A request to a pool was not answered with a result.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum PoolError {
    /// There is nobody to ask. Nothing was sent.
    #[error("the pool has no sessions; add one first")]
    NoSessions,
    /// None of them came live in time. Nothing was sent.
    #[error("none of {sessions} sessions was live within {limit:?}")]
    NoneLive {
        /// How many there were at last.
        sessions: usize,
        /// The deadline.
        limit: Duration,
    },
    /// The parameters cannot be written as JSON, or the frame is none that RFC 6455 allows. Nothing was sent.
    #[error(fmt = unencodable)]
    Unencodable(#[source] RequestError),
    /// It ended on this session and must not go to another one: the venue has answered, with an error or
    /// with something unexpected; or its fate is unknown and it is not idempotent.
    #[error(fmt = request)]
    Request {
        /// The session's connection id.
        connection: String,
        /// How.
        #[source]
        source: RequestError,
    },
    /// As many attempts as may be, or as many as there are sessions for. A request that is not idempotent
    /// was not sent by any of them.
    #[error(fmt = exhausted)]
    Exhausted {
        /// How many there were.
        attempts: u32,
        /// How the last of them ended.
        #[source]
        source: RequestError,
    },
}

fn unencodable(source: &RequestError, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    told(
        f,
        format_args!("the request cannot be sent by any session"),
        source,
    )
}

fn request(connection: &str, source: &RequestError, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    told(
        f,
        format_args!("the request ended on connection {connection:?}"),
        source,
    )
}

fn exhausted(attempts: &u32, source: &RequestError, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    told(
        f,
        format_args!("the request was not answered in {attempts} attempts"),
        source,
    )
}

impl PoolError {
    /// What to do about it.
    #[must_use]
    pub fn recovery(&self) -> Recovery {
        match self {
            Self::NoneLive { .. } => Recovery::Retry,
            // Either nothing was sent, or it may be sent as often as one likes.
            Self::Exhausted { .. } => Recovery::Retry,
            Self::Request { source, .. } => source.recovery(),
            Self::NoSessions | Self::Unencodable(_) => Recovery::Stop,
        }
    }

    /// How the last attempt ended, if there was one.
    #[must_use]
    pub fn request(&self) -> Option<&RequestError> {
        match self {
            Self::NoSessions | Self::NoneLive { .. } => None,
            Self::Unencodable(source)
            | Self::Request { source, .. }
            | Self::Exhausted { source, .. } => Some(source),
        }
    }
}

/// A connection id is in use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("connection id {connection:?} is in use; choose another one, or remove its session first")]
#[non_exhaustive]
pub struct DuplicateId {
    /// That id.
    pub connection: String,
}

impl DuplicateId {
    pub(crate) fn new(connection: impl Into<String>) -> Self {
        Self {
            connection: connection.into(),
        }
    }

    /// Another id, or another time.
    #[must_use]
    pub fn recovery(&self) -> Recovery {
        Recovery::Stop
    }
}

/// A pool did not take a session in. Nothing of it is left running.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum AddError {
    /// The connection id is in use.
    #[error(transparent)]
    Duplicate(#[from] DuplicateId),
    /// It did not come live.
    #[error(fmt = not_live)]
    NotLive {
        /// Its connection id.
        connection: String,
        /// Where it should have led, without what a query may hold.
        endpoint: String,
        /// Why.
        #[source]
        source: StartError,
    },
    /// The pool is shut down, or its supervisor is not up.
    #[error("the pool is shut down; start another one")]
    Ended,
}

fn not_live(
    connection: &str,
    endpoint: &str,
    source: &StartError,
    f: &mut fmt::Formatter<'_>,
) -> fmt::Result {
    told(
        f,
        format_args!("connection {connection:?} to {endpoint} did not come live"),
        source,
    )
}

impl AddError {
    /// What to do about it.
    #[must_use]
    pub fn recovery(&self) -> Recovery {
        match self {
            Self::Duplicate(error) => error.recovery(),
            Self::NotLive { source, .. } => source.recovery(),
            Self::Ended => Recovery::Stop,
        }
    }
}
