//! Options that vary together, each group a type of its own.
//!
//! Apart from [`Config`](super::Config) because actors take one group each, and platforms speak of them.
//!
//! Invariants: every default stands here, in a `Default` beside its type.

use std::time::Duration;

use mainstay_supervisors::backoff::Backoff;

use super::ConflationKey;

/// Which of the two layers retries when a connection is lost. Exactly one does.
///
/// Both restart policies derive from this one value, so that "both" and "none" cannot be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ReconnectOwner {
    /// Layer 1: the Transport is restarted beneath a Client that stays.
    Client,
    /// Layer 2: the loss ends the connection's subtree, which the Adapter's supervisor restarts.
    Adapter,
}

/// Who reads and writes the frames of RFC 6455. Both do the same with the same bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum WireBackend {
    /// The tungstenite crate: the default, and the reference.
    #[cfg_attr(not(feature = "__fast-wire-default"), default)]
    Tungstenite,
    /// Our own framing, with the feature `fast-wire`: payloads are cut out of the chunk that was read, without an
    /// allocation for each, and the chunk is no larger than the traffic asks for.
    #[cfg_attr(feature = "__fast-wire-default", default)]
    Fast,
}

/// A deadline for each phase between nothing and live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct PhaseLimits {
    /// Waiting at a [`Gate`](crate::Gate) before the attempt begins. Then it has failed, and the next one stands at
    /// the end of the queue. Default 1 h.
    pub gate: Duration,
    /// Resolving the host name. Default 5 s.
    pub dns: Duration,
    /// The TCP handshake, for all addresses together. Default 5 s.
    pub tcp: Duration,
    /// The TLS handshake. Default 5 s.
    pub tls: Duration,
    /// The opening handshake of RFC 6455. Default 5 s.
    pub upgrade: Duration,
    /// Each step of authentication and preparation. Default 10 s.
    pub auth: Duration,
    /// From the opening handshake to the first frame of any kind. Default: none, since a quiet
    /// service may rightly say nothing until it is asked.
    pub first_data: Option<Duration>,
}

impl Default for PhaseLimits {
    fn default() -> Self {
        Self {
            gate: Duration::from_secs(3600),
            dns: Duration::from_secs(5),
            tcp: Duration::from_secs(5),
            tls: Duration::from_secs(5),
            upgrade: Duration::from_secs(5),
            auth: Duration::from_secs(10),
            first_data: None,
        }
    }
}

/// How a lost connection is sought again.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Reconnect {
    /// Whether a lost connection is sought again at all. Default yes. Without it the first loss ends the
    /// session with its cause.
    pub automatic: bool,
    /// Which layer retries. Default [`ReconnectOwner::Adapter`]; `Client::connect` says
    /// [`ReconnectOwner::Client`].
    pub owner: ReconnectOwner,
    /// Delays between attempts. Default: the first at once, then full jitter from 250 ms to 30 s, for ever.
    /// Its `reset_after` plays no part: `stable_after` does, which looks at the session and not at an actor.
    pub backoff: Backoff,
    /// How long a connection must have been live before the attempt counter goes back to zero.
    /// Default 10 s. Shorter lets a server that accepts and closes be redialed faster.
    pub stable_after: Duration,
    /// Whether the very first connection is retried too, instead of failing `start`. Default no.
    pub retry_first: bool,
}

impl Default for Reconnect {
    fn default() -> Self {
        Self {
            automatic: true,
            owner: ReconnectOwner::Adapter,
            backoff: Backoff::new(Duration::from_millis(250), Duration::from_secs(30)),
            stable_after: Duration::from_secs(10),
            retry_first: false,
        }
    }
}

/// When a silent connection is given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Liveness {
    /// Whether silence is looked for at all. Default yes. Without it no ping is sent, and a connection whose peer
    /// has vanished is noticed when something is written to it, after
    /// [`write_timeout`](super::Config::write_timeout), or never if nothing is. Heartbeats that the venue asks for are
    /// answered all the same.
    pub enabled: bool,
    /// After this long without a single inbound frame a ping is sent. Default 15 s.
    pub quiet: Duration,
    /// How long the answer to that ping (or anything else) may take. Default 10 s.
    pub grace: Duration,
}

impl Liveness {
    /// A ping after `quiet` without a frame, and the end after `grace` more.
    #[must_use]
    pub fn new(quiet: Duration, grace: Duration) -> Self {
        Self {
            enabled: true,
            quiet,
            grace,
        }
    }

    /// No pings, and silence is no loss: for peers that are silent for hours and answer no ping, and for links that
    /// something else watches. See [`Liveness::enabled`] for what that costs.
    #[must_use]
    pub fn off() -> Self {
        Self {
            enabled: false,
            ..Self::default()
        }
    }
}

impl Default for Liveness {
    fn default() -> Self {
        Self {
            enabled: true,
            quiet: Duration::from_secs(15),
            grace: Duration::from_secs(10),
        }
    }
}

/// What may wait for a session that is not live: calls and frames that were handed over while it was connecting,
/// authenticating or restoring. What is more is not sent, and is told so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Offline {
    /// How many may wait. Default 1024. With 0 nothing waits: what is handed over to a session that is not live is
    /// not sent.
    pub capacity: usize,
    /// How many bytes all of them may have, counted as methods, parameters and payloads. Default 4 MiB.
    pub bytes: usize,
    /// The longest that one may wait. Default none: as long as its own deadline says. Shorter keeps old orders from
    /// being sent into a market that has moved on.
    pub max_age: Option<Duration>,
}

impl Offline {
    /// So many, with the usual bytes and age.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self {
            capacity,
            ..Self::default()
        }
    }

    /// How many bytes all of them may have.
    #[must_use]
    pub fn bytes(self, bytes: usize) -> Self {
        Self { bytes, ..self }
    }

    /// The longest that one may wait.
    #[must_use]
    pub fn max_age(self, age: Duration) -> Self {
        Self {
            max_age: Some(age),
            ..self
        }
    }
}

impl Default for Offline {
    fn default() -> Self {
        Self {
            capacity: 1024,
            bytes: 4 * 1024 * 1024,
            max_age: None,
        }
    }
}

/// What happens when a subscription's queue is full.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Overflow {
    /// The oldest message goes; the consumer is told of a gap. The default.
    DropOldest,
    /// The message that came last goes; the consumer is told of a gap.
    DropNewest,
    /// The connection waits for the consumer, at most this long for a batch of messages; then the
    /// oldest go. While it waits nothing else is read from this connection.
    Block(Duration),
    /// Of the messages with the same key only the newest stays, where its consumer finds it in the order of arrival and
    /// with the number of those that it stands for ([`Data::replaced`](crate::Data::replaced)). If all that wait have keys of
    /// their own, the oldest goes and is a gap: give it twice as much room as there are keys. For messages that say all
    /// about their key, such as quotes; a stream of changes would lose some.
    Conflate(ConflationKey),
    /// The subscription ends.
    Disconnect,
}

/// Bound and rule of a subscription's queue.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Queue {
    /// Messages that may wait. Default 4096.
    pub capacity: usize,
    /// Bytes of payload that may wait: while there are so many, there is no room. The message that reaches the bound
    /// may exceed it; under [`Overflow::Block`] the rest of what was read with it may, too. Default 64 MiB.
    pub bytes: usize,
    /// What happens beyond. Default [`Overflow::DropOldest`].
    pub overflow: Overflow,
}

impl Default for Queue {
    fn default() -> Self {
        Self {
            capacity: 4096,
            bytes: 64 << 20,
            overflow: Overflow::DropOldest,
        }
    }
}

impl Queue {
    /// A queue for `capacity` messages with the rule `overflow`, and with the usual bytes.
    #[must_use]
    pub fn new(capacity: usize, overflow: Overflow) -> Self {
        Self {
            capacity,
            overflow,
            ..Self::default()
        }
    }

    /// How many bytes of payload may wait.
    #[must_use]
    pub fn bytes(self, bytes: usize) -> Self {
        Self { bytes, ..self }
    }
}
