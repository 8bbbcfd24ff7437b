//! Options that vary together, each group a type of its own.
//!
//! Apart from [`Config`](super::Config) because actors take one group each, and platforms speak of them.
//!
//! Invariants: every default stands here, in a `Default` beside its type.

use std::time::Duration;

use mainstay_supervisors::backoff::Backoff;

use super::{Calendar, ConflationKey};

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
    /// How long a connection must have been live before the attempt counter goes back to zero; one on which subscriptions
    /// are being restored is as good from the first that is confirmed. Default 10 s. Shorter lets a server that accepts and closes be redialed faster.
    pub stable_after: Duration,
    /// What has the attempt counter go back to zero. Default [`StableBy::Time`].
    pub stable_by: StableBy,
    /// How long the session stays with a lesser endpoint before it looks whether a preferred one answers again, and goes
    /// back to it if it does; `None` for never. Default 1 min. Up to half of it is added by chance, so that many
    /// sessions do not go back at once, and it doubles with each return that does not last, up to sixteen times. Shorter
    /// spends less time away from the preferred endpoint, and costs a connection that is opened and closed each time.
    /// Without [`fallbacks`](super::Config::fallbacks) it plays no part.
    pub fail_back_after: Option<Duration>,
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
            stable_by: StableBy::Time,
            fail_back_after: Some(Duration::from_secs(60)),
            retry_first: false,
        }
    }
}

impl Reconnect {
    /// Whether a connection on which the session was live for `live_for`, and on which something came or nothing, was
    /// a stable one.
    pub(crate) fn is_stable(&self, live_for: Option<Duration>, data: bool) -> bool {
        let by_data = self.stable_by == StableBy::Data && data && live_for.is_some();
        by_data || self.was_long(live_for)
    }

    /// Whether it was stable by time.
    pub(crate) fn was_long(&self, live_for: Option<Duration>) -> bool {
        live_for.is_some_and(|live_for| live_for >= self.stable_after)
    }
}

/// What proves that a connection is stable, so that the next loss is the first one again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StableBy {
    /// The session was live for [`stable_after`](Reconnect::stable_after). The default.
    #[default]
    Time,
    /// That, or the first valid data of a session that is live: a message for a subscription, or an answer. Pings,
    /// pongs, heartbeats, answers to the login and what nobody subscribed to are none, and opening is none. For feeds
    /// whose connections are short by nature; a server that sends one message and closes is then redialed after the
    /// first delay, `backoff.min`, each time.
    Data,
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

/// What is done, rung by rung, when the data of a channel that has a cadence
/// ([`SubscribeOptions::cadence`](crate::SubscribeOptions::cadence)) is late. The first rung is always to tell that it is
/// stale; each further one follows if there is still no data a pause later, and data ends it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Ladder {
    /// Whether the channel is subscribed to afresh; that is a gap. Default yes; never where channels are the user's own
    /// requests.
    pub resubscribe: bool,
    /// Whether the connection is then probed by a ping, and given up after [`Liveness::grace`] if nothing arrives.
    /// Default yes; never with [`Liveness::off`].
    pub probe: bool,
    /// Whether the connection is given up in the end. Default yes. Without it a channel stays stale.
    pub reconnect: bool,
    /// How long each rung is given. Default none: as long as the channel's cadence.
    pub pause: Option<Duration>,
    /// When the market is closed and no data is expected. Default never. The venue or the program may know better
    /// ([`Platform::market`](crate::Platform::market), [`Session::market`](crate::Session::market)).
    pub closed: Calendar,
}

impl Ladder {
    /// Whether the channel is subscribed to afresh.
    #[must_use]
    pub fn resubscribe(self, resubscribe: bool) -> Self {
        Self {
            resubscribe,
            ..self
        }
    }

    /// Whether the connection is probed.
    #[must_use]
    pub fn probe(self, probe: bool) -> Self {
        Self { probe, ..self }
    }

    /// Whether the connection is given up in the end.
    #[must_use]
    pub fn reconnect(self, reconnect: bool) -> Self {
        Self { reconnect, ..self }
    }

    /// How long each rung is given.
    #[must_use]
    pub fn pause(self, pause: Duration) -> Self {
        Self {
            pause: Some(pause),
            ..self
        }
    }

    /// When no data is expected.
    #[must_use]
    pub fn closed(self, closed: Calendar) -> Self {
        Self { closed, ..self }
    }
}

impl Default for Ladder {
    fn default() -> Self {
        Self {
            resubscribe: true,
            probe: true,
            reconnect: true,
            pause: None,
            closed: Calendar::always_open(),
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
