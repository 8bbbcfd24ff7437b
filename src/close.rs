//! Why a connection ended, and why a subscription missed something.
//!
//! Both are values, not errors: an end is ordinary in the life of a connection, and whoever hears of
//! it wants to know which one it was. They stand at the bottom of the house because errors, machines
//! and actors all speak of them.
//!
//! Invariants: neither type ever carries a credential or a payload; `Display` is one line.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::error::{ConnectError, Recovery};

/// Why one connection is over.
///
/// The close codes are those of RFC 6455, section 7.4.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum CloseReason {
    /// The peer sent a close frame. Without a status code the frame was empty (RFC 6455, 7.1.5).
    Peer {
        /// The status code, if the frame had one.
        code: Option<u16>,
        /// The reason text, possibly empty.
        reason: String,
    },
    /// We closed on purpose.
    Local {
        /// What was asked for.
        reason: String,
    },
    /// We closed on purpose, to open another connection: the user asked to reconnect.
    Reconnect,
    /// We closed on purpose, to go back to a preferred endpoint, which answers again.
    FailBack,
    /// A hook of the user's had it closed.
    Hook {
        /// What it gave as the reason.
        reason: String,
        /// Whether it had the session ended too.
        ends: bool,
    },
    /// The peer ended the byte stream without a close frame (code 1006 in the words of RFC 6455).
    Eof,
    /// The socket failed, for example by a TCP reset.
    Io {
        /// The kind of failure.
        kind: io::ErrorKind,
        /// What the system said.
        detail: String,
    },
    /// The peer broke the rules of RFC 6455.
    Protocol {
        /// Which rule.
        detail: String,
    },
    /// The peer sent text, or a close's reason, that is not UTF-8 (RFC 6455, section 8.1). It is told so by code
    /// 1007.
    NotUtf8,
    /// A message was larger than the configured limit.
    TooBig {
        /// What was too big.
        detail: String,
    },
    /// Nothing arrived for too long and a ping went unanswered: the half-open connection.
    Silent {
        /// How long nothing had arrived.
        quiet: Duration,
    },
    /// A channel's data stopped although the connection lived, and nothing milder helped: the end of the ladder
    /// ([`Ladder`](crate::config::Ladder)).
    Mute {
        /// Which channel.
        channel: String,
        /// How long none of its data had come.
        quiet: Duration,
    },
    /// The peer stopped reading: what we wrote did not leave within its deadline.
    WriteStalled {
        /// How long the bytes had been waiting.
        waited: Duration,
    },
    /// The connection never opened.
    NotOpened(Arc<ConnectError>),
    /// It opened, but the venue refused to let the session go live (authentication, a required step).
    NotEstablished {
        /// The step that failed, by its name.
        step: String,
        /// What the venue said.
        detail: String,
        /// What to do about it, as the venue's platform judges it.
        recovery: Recovery,
    },
    /// An actor of the session ended, and the connection with it.
    ActorEnded {
        /// Which one.
        actor: String,
        /// How it ended.
        reason: String,
    },
}

impl CloseReason {
    /// Every [`CloseReason::label`].
    #[cfg(any(feature = "otel", feature = "prometheus"))]
    pub(crate) const LABELS: [&str; 17] = [
        "peer_closed",
        "local",
        "reconnect",
        "fail_back",
        "hook",
        "eof",
        "reset",
        "io",
        "not_utf8",
        "protocol",
        "too_big",
        "silent",
        "mute",
        "write_stalled",
        "not_opened",
        "not_established",
        "actor_ended",
    ];

    /// A short, constant word for tables and metric labels.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Peer { .. } => "peer_closed",
            Self::Local { .. } => "local",
            Self::Reconnect => "reconnect",
            Self::FailBack => "fail_back",
            Self::Hook { .. } => "hook",
            Self::Eof => "eof",
            Self::Io {
                kind: io::ErrorKind::ConnectionReset,
                ..
            } => "reset",
            Self::Io { .. } => "io",
            Self::Protocol { .. } => "protocol",
            Self::NotUtf8 => "not_utf8",
            Self::TooBig { .. } => "too_big",
            Self::Silent { .. } => "silent",
            Self::Mute { .. } => "mute",
            Self::WriteStalled { .. } => "write_stalled",
            Self::NotOpened(_) => "not_opened",
            Self::NotEstablished { .. } => "not_established",
            Self::ActorEnded { .. } => "actor_ended",
        }
    }
}

impl CloseReason {
    /// Whether one of the two sides wished it: our own close, or close codes 1000 and 1001.
    pub(crate) fn is_on_purpose(&self) -> bool {
        matches!(
            self,
            Self::Local { .. }
                | Self::Reconnect
                | Self::FailBack
                | Self::Hook { .. }
                | Self::Peer {
                    code: Some(1000 | 1001),
                    ..
                }
        )
    }

    /// The reason for a log, in which a peer's own words have no place: they may repeat a credential.
    pub(crate) fn without_peers_words(&self) -> impl fmt::Display + '_ {
        WithoutPeersWords(self)
    }
}

struct WithoutPeersWords<'r>(&'r CloseReason);

impl fmt::Display for WithoutPeersWords<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            CloseReason::Peer {
                code: Some(code), ..
            } => write!(f, "peer closed with code {code}"),
            CloseReason::NotEstablished { step, .. } => write!(f, "step {step:?} failed"),
            // The cause may name what a peer's certificate says.
            CloseReason::NotOpened(error) => write!(f, "not opened: {error}"),
            other => other.fmt(f),
        }
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Peer {
                code: Some(code),
                reason,
            } if reason.is_empty() => {
                write!(f, "peer closed with code {code}")
            }
            Self::Peer {
                code: Some(code),
                reason,
            } => {
                write!(f, "peer closed with code {code}: {reason:?}")
            }
            Self::Peer { code: None, .. } => f.write_str("peer closed without a code"),
            Self::Local { reason } => write!(f, "closed here: {reason}"),
            Self::Reconnect => f.write_str("closed here to connect anew"),
            Self::FailBack => f.write_str("closed here to go back to a preferred endpoint"),
            Self::Hook { reason, .. } => write!(f, "closed by a hook: {reason}"),
            Self::Eof => f.write_str("peer ended the stream without a close frame"),
            Self::Io {
                kind: io::ErrorKind::ConnectionReset,
                ..
            } => f.write_str("connection reset by the peer, or on the way to it"),
            Self::Io { detail, .. } => write!(f, "socket failed: {detail}"),
            Self::Protocol { detail } => write!(f, "peer broke the protocol: {detail}"),
            Self::NotUtf8 => f.write_str("peer sent text that is not utf-8"),
            Self::TooBig { detail } => write!(f, "message too big: {detail}"),
            Self::Silent { quiet } => write!(f, "silent for {quiet:?}, ping unanswered"),
            Self::Mute { channel, quiet } => {
                write!(f, "no data of channel {channel:?} for {quiet:?}")
            }
            Self::WriteStalled { waited } => write!(f, "peer stopped reading for {waited:?}"),
            // No error, so that nobody could ask for the cause.
            Self::NotOpened(error) => write!(f, "not opened: {error:#}"),
            Self::NotEstablished { step, detail, .. } => {
                write!(f, "step {step:?} failed: {detail}")
            }
            Self::ActorEnded { actor, reason } => write!(f, "actor {actor} ended: {reason}"),
        }
    }
}

/// Why a subscription may have missed something.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum GapCause {
    /// The connection ended.
    ConnectionLost(CloseReason),
    /// An actor of the session failed and was restarted, and the connection with it.
    ActorRestarted {
        /// Which one, by its child id.
        actor: String,
        /// How it ended.
        reason: String,
    },
    /// The venue no longer accepted our authorization, so private data stopped.
    AuthorizationLost {
        /// What the venue said.
        detail: String,
    },
    /// The venue refused or ended this one subscription.
    SubscriptionLost {
        /// What the venue said.
        detail: String,
    },
    /// The consumer was too slow for its queue.
    Lagged,
    /// The channel's data was late, and it is being subscribed to afresh.
    Stale {
        /// How long none had come.
        quiet: Duration,
    },
    /// A message did not have the form that it should have.
    Undecodable {
        /// What was wrong with it.
        detail: String,
    },
    /// Changes came without the state that they change.
    StateMissing,
    /// The venue's own sequence numbers show a hole.
    SequenceBreak {
        /// The number that should have come.
        expected: u64,
        /// The number that came.
        found: u64,
    },
}

impl GapCause {
    /// Every [`GapCause::label`] that is not a [`CloseReason::label`].
    #[cfg(any(feature = "otel", feature = "prometheus"))]
    pub(crate) const LABELS: [&str; 8] = [
        "actor_restarted",
        "authorization_lost",
        "subscription_lost",
        "lagged",
        "stale",
        "undecodable",
        "state_missing",
        "sequence_break",
    ];

    /// A short, constant word for tables and metric labels.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::ConnectionLost(reason) => reason.label(),
            Self::ActorRestarted { .. } => "actor_restarted",
            Self::AuthorizationLost { .. } => "authorization_lost",
            Self::SubscriptionLost { .. } => "subscription_lost",
            Self::Lagged => "lagged",
            Self::Stale { .. } => "stale",
            Self::Undecodable { .. } => "undecodable",
            Self::StateMissing => "state_missing",
            Self::SequenceBreak { .. } => "sequence_break",
        }
    }
}

impl fmt::Display for GapCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ConnectionLost(reason) => reason.fmt(f),
            Self::ActorRestarted { actor, reason } => {
                write!(f, "actor {actor} restarted: {reason}")
            }
            Self::AuthorizationLost { detail } => write!(f, "authorization lost: {detail}"),
            Self::SubscriptionLost { detail } => write!(f, "subscription lost: {detail}"),
            Self::Lagged => f.write_str("consumer too slow for its queue"),
            Self::Stale { quiet } => write!(f, "no data for {quiet:?}"),
            Self::Undecodable { detail } => write!(f, "undecodable message: {detail}"),
            Self::StateMissing => f.write_str("changes came without the state that they change"),
            Self::SequenceBreak { expected, found } => {
                write!(f, "sequence broken: expected {expected}, found {found}")
            }
        }
    }
}

#[cfg(all(test, any(feature = "otel", feature = "prometheus")))]
mod tests {
    use super::*;

    #[test]
    fn the_lists_of_labels_have_every_label() {
        let labels = include_str!("close.rs").split("pub fn label").skip(1);
        let mut labels = labels.map(|text| {
            let body = text.split("\n    }\n").next().unwrap_or_default();
            let words = body.split("=> \"").skip(1);
            words
                .filter_map(|rest| rest.split('"').next())
                .collect::<std::collections::BTreeSet<_>>()
        });
        assert_eq!(labels.next(), Some(CloseReason::LABELS.into()));
        assert_eq!(labels.next(), Some(GapCause::LABELS.into()));
    }
}
