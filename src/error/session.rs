//! How starting a session, a subscription and a session's life can end.
//!
//! Apart because these speak of the session as a whole: its tree, its channels, its last cause.
//!
//! Invariants: the last cause is kept, never replaced by "too many attempts".

use std::fmt;
use std::time::Duration;

use super::{ConfigError, ConfigErrors, ConnectError, RecordError, Recovery, told};
use crate::close::CloseReason;

/// A session did not come live.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The configuration cannot be used.
    #[error(fmt = config)]
    Config(#[from] ConfigErrors),
    /// It cannot be recorded to the path that its configuration names. Nothing was dialed.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The first connection could not be opened. It is not tried again unless the configuration says so, and then
    /// no more often than it says.
    #[error(fmt = connect)]
    Connect(#[source] ConnectError),
    /// The connection opened and ended before the session was live.
    #[error("connection ended before the session was live: {0}")]
    Closed(CloseReason),
    /// The venue refused a step between open and live.
    #[error("step {step:?} was refused: {detail}")]
    Refused {
        /// The step's name.
        step: String,
        /// What the venue said.
        detail: String,
        /// What to do about it, as the venue's platform judges it.
        recovery: Recovery,
    },
    /// It took too long.
    #[error("session was not live within {0:?}, its start_timeout")]
    Timeout(Duration),
    /// The supervision tree did not start, or ended.
    #[error("supervision tree failed: {0}")]
    Tree(String),
}

fn config(errors: &ConfigErrors, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    told(f, format_args!("configuration cannot be used"), errors)
}

fn connect(error: &ConnectError, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let text = "first connection could not be opened; retry_first has it tried again, max_attempts how often";
    told(f, format_args!("{text}"), error)
}

/// What a platform's builder refuses, so that `?` takes it as well as what a configuration's refuses.
impl From<ConfigError> for StartError {
    fn from(error: ConfigError) -> Self {
        Self::Config(error.into())
    }
}

impl StartError {
    /// What to do about it.
    #[must_use]
    pub fn recovery(&self) -> Recovery {
        match self {
            Self::Config(error) => error.recovery(),
            Self::Record(error) => error.recovery(),
            Self::Connect(error) => error.recovery(),
            Self::Closed(_) | Self::Timeout(_) => Recovery::Retry,
            Self::Refused { recovery, .. } => *recovery,
            Self::Tree(_) => Recovery::Stop,
        }
    }
}

/// A subscription was not made.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum SubscribeError {
    /// The venue did not accept the channel, by an error or by leaving it out of its list.
    #[error("channel {channel:?} was rejected: {detail}")]
    Rejected {
        /// The channel.
        channel: String,
        /// What the venue said.
        detail: String,
    },
    /// The venue did not confirm it in time. The wish is withdrawn.
    #[error("channel {channel:?} was not confirmed within {limit:?}")]
    Timeout {
        /// The channel.
        channel: String,
        /// The deadline.
        limit: Duration,
    },
    /// The session ended, or its subscription manager was restarted meanwhile.
    #[error("session ended before channel {channel:?} was confirmed")]
    Ended {
        /// The channel.
        channel: String,
    },
}

impl SubscribeError {
    /// What to do about it.
    #[must_use]
    pub fn recovery(&self) -> Recovery {
        match self {
            Self::Rejected { .. } | Self::Ended { .. } => Recovery::Stop,
            Self::Timeout { .. } => Recovery::Retry,
        }
    }
}

/// The venue did not confirm that it sends a channel no more. The subscription itself is over in any case.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum UnsubscribeError {
    /// The venue refused, and may go on sending until the connection ends.
    #[error("unsubscribing from channel {channel:?} was refused: {detail}")]
    Rejected {
        /// The channel.
        channel: String,
        /// What the venue said.
        detail: String,
    },
    /// The venue did not confirm it in time. It goes on being told for as long as its answers are passing ones.
    #[error("the end of channel {channel:?} was not confirmed within {limit:?}")]
    Timeout {
        /// The channel.
        channel: String,
        /// The deadline.
        limit: Duration,
    },
    /// The connection ended first, and with it whatever was subscribed on it: nothing comes any more.
    #[error("connection ended before the end of channel {channel:?} was confirmed")]
    ConnectionLost {
        /// The channel.
        channel: String,
    },
}

impl UnsubscribeError {
    /// What to do about it; nothing has to be tried again, since the wish is withdrawn.
    #[must_use]
    pub fn recovery(&self) -> Recovery {
        match self {
            Self::Rejected { .. } | Self::ConnectionLost { .. } => Recovery::Stop,
            Self::Timeout { .. } => Recovery::Reconcile,
        }
    }
}

/// What was awaited of a session's life did not come.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum WaitError {
    /// Not in time. Nothing is given up by that: the session goes on as before.
    #[error("session was not {awaited} within {limit:?}: it is {found}")]
    Timeout {
        /// What was awaited: a status's label.
        awaited: &'static str,
        /// The deadline.
        limit: Duration,
        /// Where the session stood then.
        found: &'static str,
    },
    /// The session is over for good.
    #[error(fmt = ended)]
    Ended(#[source] EndReason),
}

fn ended(reason: &EndReason, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let text = format_args!("session is over for good; start another one to go on");
    told(f, text, reason)
}

impl WaitError {
    /// What to do about it.
    #[must_use]
    pub fn recovery(&self) -> Recovery {
        match self {
            Self::Timeout { .. } => Recovery::Retry,
            Self::Ended(reason) => reason.recovery(),
        }
    }
}

/// Why a session is over for good.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum EndReason {
    /// It was shut down on purpose.
    #[error("session was shut down on purpose")]
    Shutdown,
    /// A cause that another attempt cannot cure.
    #[error("ended: {0}")]
    Fatal(CloseReason),
    /// Actors failed more often than the tree allows, or the supervisor of all of them was killed.
    #[error("supervision gave up: {0}")]
    Exhausted(String),
    /// Only this subscription is over: its consumer was too slow, and its queue's rule says so.
    #[error(
        "consumer too slow for its queue; read faster, give it more capacity or another overflow rule"
    )]
    Lagged,
    /// Only this subscription is over: the venue refuses its channel.
    #[error("channel refused: {0}")]
    Refused(String),
    /// Only this subscription is over: its connection ended, and the configuration restores nothing.
    #[error("subscription not restored on the next connection, since restore_subscriptions is off")]
    NotRestored,
}

impl EndReason {
    /// What to do about it: start another session, or change something first.
    #[must_use]
    pub fn recovery(&self) -> Recovery {
        match self {
            Self::Fatal(reason) => reason.recovery(),
            Self::Lagged | Self::NotRestored => Recovery::Retry,
            Self::Shutdown | Self::Exhausted(_) | Self::Refused(_) => Recovery::Stop,
        }
    }
}
