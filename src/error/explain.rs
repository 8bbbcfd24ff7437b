//! Every error in words that help: what it is about, what to do, where to read more.
//!
//! Apart from the errors because this is for a person and `recovery()` is for a program; the two never
//! decide the same thing.
//!
//! Invariants: every variant of every error has an entry, since all matches are exhaustive; every code is a
//! heading of the [guide](super::guide); no text carries a credential.

mod pool;

use std::fmt;
use std::io;

use super::{
    AddError, ConfigError, ConfigErrors, ConnectError, DecodeError, DuplicateId, EndReason,
    ErrorObject, LimitError, NotSentCause, Phase, PoolError, RecordError, Recovery, RequestError,
    StartError, SubscribeError, UnknownCause, UnsubscribeError, WaitError, chain,
};
use crate::close::CloseReason;

/// What an error is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Category {
    /// What was configured or called cannot work.
    Configuration,
    /// Name resolution, TCP, a socket, or silence.
    Network,
    /// TLS and certificates.
    Tls,
    /// WebSocket or message rules were broken.
    Protocol,
    /// Credentials or permissions.
    Authentication,
    /// Too much was asked for in too little time.
    RateLimit,
    /// The service said no for a reason of its own, or is in trouble.
    Service,
    /// Something took too long.
    Timeout,
    /// This program's own supervision.
    Supervision,
    /// An end on purpose.
    Lifecycle,
}

impl fmt::Display for Category {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Configuration => "configuration",
            Self::Network => "network",
            Self::Tls => "tls",
            Self::Protocol => "protocol",
            Self::Authentication => "authentication",
            Self::RateLimit => "rate limit",
            Self::Service => "service",
            Self::Timeout => "timeout",
            Self::Supervision => "supervision",
            Self::Lifecycle => "lifecycle",
        })
    }
}

/// An error in words; `Display` is three lines.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Explanation {
    /// A constant name of the case, such as `connect-dns`: the guide's heading.
    pub code: &'static str,
    /// What it is about.
    pub category: Category,
    /// What happened, causes included, in one line.
    pub message: String,
    /// What to do.
    pub suggestion: String,
    /// Where to read more.
    pub docs: String,
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            category,
            message,
            suggestion,
            docs,
            ..
        } = self;
        write!(
            f,
            "{category}: {message}\n  try: {suggestion}\n  see: {docs}"
        )
    }
}

/// The page whose headings are the codes.
const GUIDE: &str = "https://docs.rs/mainstay/latest/mainstay/error/guide/index.html";

/// What is known of a case beforehand.
pub(crate) struct Entry {
    code: &'static str,
    category: Category,
    suggestion: String,
}

impl Entry {
    pub(crate) fn new(
        code: &'static str,
        category: Category,
        suggestion: impl Into<String>,
    ) -> Self {
        Self {
            code,
            category,
            suggestion: suggestion.into(),
        }
    }

    pub(crate) fn category(&self) -> Category {
        self.category
    }

    pub(crate) fn explain(self, message: String) -> Explanation {
        Explanation {
            code: self.code,
            category: self.category,
            message,
            suggestion: self.suggestion,
            docs: format!("{GUIDE}#{}", self.code),
        }
    }
}

/// Gives a type its two methods, also one of a higher floor, and sees that it has the third.
macro_rules! explained {
    ($($type:ty),* $(,)?) => {
        $(const _: fn(&$type) -> $crate::error::Recovery = <$type>::recovery;

        impl $type {
            /// What it is about.
            #[must_use]
            pub fn category(&self) -> $crate::error::Category {
                self.entry().category()
            }

            /// What happened, what to do, and where to read more. For a person; programs ask `recovery`.
            #[must_use]
            pub fn explain(&self) -> $crate::error::Explanation {
                self.entry().explain(self.story())
            }
        })*
    };
}

explained!(
    LimitError,
    PoolError,
    AddError,
    DuplicateId,
    ConfigError,
    ConfigErrors,
    ConnectError,
    RecordError,
    StartError,
    SubscribeError,
    UnsubscribeError,
    WaitError,
    RequestError,
    UnknownCause,
    DecodeError,
    ErrorObject,
    EndReason,
    CloseReason,
);

/// The message of those that are errors: with all causes.
macro_rules! told_with_causes {
    ($($type:ty),* $(,)?) => {
        $(impl $type {
            fn story(&self) -> String {
                $crate::error::chain(self)
            }
        })*
    };
}

pub(crate) use {explained, told_with_causes};

told_with_causes!(
    LimitError,
    PoolError,
    AddError,
    DuplicateId,
    ConfigError,
    ConfigErrors,
    ConnectError,
    RecordError,
    StartError,
    SubscribeError,
    UnsubscribeError,
    WaitError,
    RequestError,
    UnknownCause,
    DecodeError,
    ErrorObject,
    EndReason,
);

impl ConfigError {
    pub(crate) fn entry(&self) -> Entry {
        Entry::new("config", Category::Configuration, self.remedy.clone())
    }
}

impl ConfigErrors {
    pub(crate) fn entry(&self) -> Entry {
        let remedies: Vec<String> = self
            .iter()
            .map(|error| format!("{}: {}", error.option, error.remedy))
            .collect();
        Entry::new("config", Category::Configuration, remedies.join("; "))
    }
}

impl ConnectError {
    pub(crate) fn entry(&self) -> Entry {
        use Category::{Network, Protocol, Timeout, Tls};
        match self {
            Self::Config { source } => source.entry(),
            Self::Record { source } => source.entry(),
            Self::Timeout { phase, .. } => Entry::new(
                "connect-timeout",
                Timeout,
                match phase {
                    Phase::Socket => {
                        "look for a hook that blocks: the connection before has not let go of its socket"
                            .to_owned()
                    }
                    Phase::Gate => {
                        "look at the gate's status; allow more attempts there, or raise limits.gate"
                            .to_owned()
                    }
                    Phase::Dns
                    | Phase::Tcp
                    | Phase::Tls
                    | Phase::Upgrade
                    | Phase::Auth
                    | Phase::FirstData => format!(
                        "check that the peer can be reached; a slow path needs a longer {}",
                        option(*phase)
                    ),
                },
            ),
            Self::Dns { .. } => Entry::new(
                "connect-dns",
                Network,
                "check the host in the url, and this machine's resolver and network",
            ),
            Self::Tcp { source, .. } => match source.kind() {
                io::ErrorKind::ConnectionRefused => Entry::new(
                    "connect-refused",
                    Network,
                    "nobody listens there: check host and port, and whether the service is up",
                ),
                _ => Entry::new(
                    "connect-tcp",
                    Network,
                    "check routes, firewalls and vpn between this machine and the address",
                ),
            },
            Self::Tls { .. } => Entry::new(
                "connect-tls",
                Tls,
                "check that the port speaks tls 1.2 or 1.3, and that nothing between intercepts it",
            ),
            Self::Certificate { .. } => Entry::new(
                "connect-certificate",
                Tls,
                "check the host's spelling, this machine's clock and the certificate's dates; trust an authority of your own by Tls::with_ca_pem",
            ),
            Self::Refused { response } => refused(response.status.as_u16()),
            Self::Handshake { .. } => Entry::new(
                "connect-handshake",
                Protocol,
                "check that the path is a websocket endpoint and that no proxy rewrites the upgrade",
            ),
            Self::Io { .. } => Entry::new(
                "connect-io",
                Network,
                "wait for the next attempt; if it recurs, look for what cuts connections on the way",
            ),
        }
    }
}

impl RecordError {
    pub(crate) fn entry(&self) -> Entry {
        let (code, suggestion) = match self {
            Self::Taken { .. } => (
                "record-taken",
                "give each session a path of its own, by its name for instance; a path is free again when its session is over",
            ),
            Self::NoFolder { .. } => (
                "record-path",
                "create the folder before the session is started, or name a file in one that is there",
            ),
            Self::NotInFolder { .. } => (
                "record-path",
                "name a file in a folder; one part of the path is a file itself",
            ),
            Self::IsFolder { .. } => (
                "record-path",
                "name a file in that folder, one for each session",
            ),
        };
        Entry::new(code, Category::Configuration, suggestion)
    }
}

/// The option that limits a phase.
fn option(phase: Phase) -> &'static str {
    match phase {
        Phase::Socket => "shutdown_timeout",
        Phase::Gate => "limits.gate",
        Phase::Dns => "limits.dns",
        Phase::Tcp => "limits.tcp",
        Phase::Tls => "limits.tls",
        Phase::Upgrade => "limits.upgrade",
        Phase::Auth => "limits.auth",
        Phase::FirstData => "limits.first_data",
    }
}

/// By the HTTP status of a refused upgrade.
fn refused(status: u16) -> Entry {
    match status {
        401 | 403 | 407 => Entry::new(
            "upgrade-unauthorized",
            Category::Authentication,
            "check the credentials in headers or query, and what they are allowed to do",
        ),
        418 | 429 => Entry::new(
            "upgrade-rate-limited",
            Category::RateLimit,
            "connect less often: fewer sessions, a longer backoff.min, or a later start",
        ),
        300..=399 => Entry::new(
            "upgrade-redirected",
            Category::Configuration,
            "configure the url of the Location header; redirections are not followed",
        ),
        408 | 425 | 500..=599 => Entry::new(
            "upgrade-unavailable",
            Category::Service,
            "wait: the service is in trouble or under maintenance",
        ),
        _ => Entry::new(
            "upgrade-refused",
            Category::Configuration,
            "check url, path and headers; the body of the answer often says what is missing",
        ),
    }
}

impl StartError {
    pub(crate) fn entry(&self) -> Entry {
        match self {
            Self::Config(errors) => errors.entry(),
            Self::Record(error) => error.entry(),
            Self::Connect(error) => error.entry(),
            Self::Closed(reason) => reason.entry(),
            Self::Refused { recovery, .. } => step_refused(*recovery),
            Self::Timeout(_) => Entry::new(
                "start-timeout",
                Category::Timeout,
                "give start_timeout more time than the phases of opening and the venue's steps take together",
            ),
            Self::Tree(_) => Entry::new(
                "start-tree",
                Category::Supervision,
                "read the cause: an actor failed or its name is taken; report it if it is ours",
            ),
        }
    }
}

fn step_refused(recovery: Recovery) -> Entry {
    match recovery {
        Recovery::Reauthenticate | Recovery::Stop => Entry::new(
            "step-refused",
            Category::Authentication,
            "check credentials, scope and network (test or live), and what the account may do",
        ),
        Recovery::Retry | Recovery::RetryAfter(_) | Recovery::Reconcile => Entry::new(
            "step-refused",
            Category::Service,
            "wait for the next attempt; the venue refused the step for the moment only",
        ),
    }
}

impl SubscribeError {
    pub(crate) fn entry(&self) -> Entry {
        match self {
            Self::Rejected { .. } => Entry::new(
                "subscribe-rejected",
                Category::Service,
                "check the channel's spelling, that its instrument exists, and that private channels have credentials",
            ),
            Self::Timeout { .. } => Entry::new(
                "subscribe-timeout",
                Category::Timeout,
                "subscribe again; the wish has been withdrawn",
            ),
            Self::Ended { .. } => Entry::new(
                "subscribe-ended",
                Category::Lifecycle,
                "ask the session's state for the cause, and start another one if it is over",
            ),
        }
    }
}

impl UnsubscribeError {
    pub(crate) fn entry(&self) -> Entry {
        match self {
            Self::Rejected { .. } => Entry::new(
                "unsubscribe-rejected",
                Category::Service,
                "reconnect if what still comes is too much: a new connection has only what is wanted",
            ),
            Self::Timeout { .. } => Entry::new(
                "unsubscribe-timeout",
                Category::Timeout,
                "wait longer; the subscription is over, and the session's channel states tell what the venue says",
            ),
            Self::ConnectionLost { .. } => Entry::new(
                "unsubscribe-lost",
                Category::Network,
                "nothing: the channel ended with its connection and is not restored on the next",
            ),
        }
    }
}

impl WaitError {
    pub(crate) fn entry(&self) -> Entry {
        match self {
            Self::Timeout { .. } => Entry::new(
                "wait-timeout",
                Category::Timeout,
                "ask the session's history what it has been doing; wait longer if it is on its way",
            ),
            Self::Ended(reason) => reason.entry(),
        }
    }
}

impl RequestError {
    pub(crate) fn entry(&self) -> Entry {
        match self {
            Self::Answered { error, .. } => error.entry(),
            Self::Undecodable { source, .. } => source.entry(),
            Self::NotSent { cause, .. } => cause.entry(),
            Self::Unknown { cause, .. } => cause.entry(),
            Self::NotExecuted { .. } => Entry::new(
                "request-not-executed",
                Category::Network,
                "send it again; the venue knows of no such request",
            ),
            Self::Unencodable { .. } => Entry::new(
                "request-unencodable",
                Category::Configuration,
                "give parameters that are json: maps with text keys, finite numbers",
            ),
        }
    }
}

impl NotSentCause {
    fn entry(&self) -> Entry {
        match self {
            Self::NotLive => Entry::new(
                "request-not-sent",
                Category::Network,
                "send it again when the session is live; nothing of it has left",
            ),
            Self::Limit(error) => error.entry(),
            Self::Full => Entry::new(
                "request-crowded",
                Category::RateLimit,
                "send less at once, or raise the bound that the message names; nothing of it has left",
            ),
            Self::TooLate => Entry::new(
                "request-too-late",
                Category::Timeout,
                "give it a longer limit, or send less at once; nothing of it has left",
            ),
            Self::Hook => Entry::new(
                "request-refused-here",
                Category::RateLimit,
                "look at this program's own rate limit hook, which refused it; nothing of it has left",
            ),
            Self::Over => Entry::new(
                "request-session-over",
                Category::Lifecycle,
                "start another session: this one takes nothing any more; nothing of it has left",
            ),
        }
    }
}

impl LimitError {
    pub(crate) fn entry(&self) -> Entry {
        match self {
            Self::QueueFull { .. } => Entry::new(
                "limit-queue-full",
                Category::RateLimit,
                "send less, wait as long as the limiter's status suggests, or raise `rate_limits.queue`",
            ),
            Self::TooDear { .. } => Entry::new(
                "limit-too-dear",
                Category::Configuration,
                "lower the cost in `rate_limits.costs`, or raise the pool's capacity",
            ),
            Self::Expired { .. } => Entry::new(
                "limit-expired",
                Category::RateLimit,
                "give it a longer limit, send less, or use an earlier lane",
            ),
        }
    }
}

impl UnknownCause {
    pub(crate) fn entry(&self) -> Entry {
        match self {
            Self::ConnectionLost(_) => Entry::new(
                "request-unknown",
                Category::Network,
                "ask the venue whether it was executed before sending it again",
            ),
            Self::Deadline { .. } => Entry::new(
                "request-deadline",
                Category::Timeout,
                "ask the venue whether it was executed; give slow methods a longer limit, and send less if it waited for its turn",
            ),
            Self::Unreconciled { .. } => Entry::new(
                "request-unreconciled",
                Category::Network,
                "look at the venue by hand; give the query a longer limit, or judge its answers more closely",
            ),
        }
    }
}

impl DecodeError {
    pub(crate) fn entry(&self) -> Entry {
        Entry::new(
            "undecodable",
            Category::Protocol,
            "compare the type with what the venue documents; it may have changed its messages",
        )
    }
}

impl ErrorObject {
    /// The codes of JSON-RPC 2.0 (section 5.1); a venue's own are explained by its documentation.
    pub(crate) fn entry(&self) -> Entry {
        match self.code {
            -32700 | -32600 => Entry::new(
                "rpc-invalid-request",
                Category::Protocol,
                "check that the peer speaks json-rpc 2.0",
            ),
            -32601 => Entry::new(
                "rpc-method-not-found",
                Category::Configuration,
                "check the method's spelling and whether this endpoint has it",
            ),
            -32602 => Entry::new(
                "rpc-invalid-params",
                Category::Configuration,
                "check names, types and presence of the parameters",
            ),
            -32603 => Entry::new(
                "rpc-internal-error",
                Category::Service,
                "the peer failed: try later, and find out first whether it was executed",
            ),
            _ => Entry::new(
                "rpc-refused",
                Category::Service,
                "look the code up in the venue's documentation; its message and data say more",
            ),
        }
    }
}

impl EndReason {
    pub(crate) fn entry(&self) -> Entry {
        match self {
            Self::Shutdown => {
                Entry::new("shutdown", Category::Lifecycle, "nothing: it was asked for")
            }
            Self::Fatal(reason) => reason.entry(),
            Self::Exhausted(_) => Entry::new(
                "exhausted",
                Category::Supervision,
                "read the cause: actors failed again and again; start another session, and report it if it is ours",
            ),
            Self::Lagged => Entry::new(
                "lagged",
                Category::Configuration,
                "read faster, give the queue more capacity, or choose another overflow rule",
            ),
            Self::Refused(_) => Entry::new(
                "subscribe-rejected",
                Category::Service,
                "check the channel's spelling, that its instrument exists, and that private channels have credentials",
            ),
            Self::NotRestored => Entry::new(
                "not-restored",
                Category::Configuration,
                "subscribe again, or leave restore_subscriptions on",
            ),
        }
    }
}

impl CloseReason {
    fn story(&self) -> String {
        match self {
            Self::NotOpened(error) => chain(error),
            Self::Peer { .. }
            | Self::Local { .. }
            | Self::Hook { .. }
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
            | Self::NotEstablished { .. }
            | Self::ActorEnded { .. } => self.to_string(),
        }
    }

    pub(crate) fn entry(&self) -> Entry {
        match self {
            Self::Peer { code, .. } => closed_with(*code),
            Self::Local { .. } | Self::Reconnect | Self::FailBack => Entry::new(
                "closed-here",
                Category::Lifecycle,
                "nothing: this side closed on purpose",
            ),
            Self::Hook { .. } => Entry::new(
                "closed-by-hook",
                Category::Lifecycle,
                "nothing: a hook of this program asked for it; look there if it should not have",
            ),
            Self::Eof => Entry::new(
                "closed-eof",
                Category::Network,
                "wait for the next attempt; a peer that does this often may be dropping idle connections",
            ),
            Self::Io { .. } => Entry::new(
                "closed-io",
                Category::Network,
                "wait for the next attempt; if it recurs, look for what cuts connections on the way",
            ),
            Self::Protocol { .. } => Entry::new(
                "closed-protocol",
                Category::Protocol,
                "report it to the peer, which broke rfc 6455; check proxies on the way",
            ),
            Self::NotUtf8 => Entry::new(
                "closed-not-utf8",
                Category::Protocol,
                "report it to the peer: what is not text has to come as binary (rfc 6455, section 8.1)",
            ),
            Self::TooBig { .. } => Entry::new(
                "closed-too-big",
                Category::Configuration,
                "raise max_message if messages of that size are to be expected",
            ),
            Self::Silent { .. } => Entry::new(
                "closed-silent",
                Category::Network,
                "wait for the next attempt; a peer that never answers pings needs a longer liveness.quiet",
            ),
            Self::Mute { .. } => Entry::new(
                "closed-mute",
                Category::Service,
                "wait for the next attempt; if the channel may rest, give it a longer cadence or say when its market is closed",
            ),
            Self::WriteStalled { .. } => Entry::new(
                "closed-write-stalled",
                Category::Network,
                "send less at once, or give write_timeout more time on a slow path",
            ),
            Self::NotOpened(error) => error.entry(),
            Self::NotEstablished { recovery, .. } => step_refused(*recovery),
            Self::ActorEnded { .. } => Entry::new(
                "actor-ended",
                Category::Supervision,
                "nothing at first: it is restarted; report it if it recurs",
            ),
        }
    }
}

/// By the close code of RFC 6455, section 7.4.1, and IANA's registry.
fn closed_with(code: Option<u16>) -> Entry {
    match code {
        Some(1000) => Entry::new(
            "close-1000",
            Category::Lifecycle,
            "nothing: the peer was done; find out what it takes for the end",
        ),
        Some(1001) => Entry::new(
            "close-1001",
            Category::Lifecycle,
            "nothing: the peer is being restarted and the session goes on elsewhere",
        ),
        Some(1002 | 1003 | 1007 | 1010) => Entry::new(
            "close-protocol",
            Category::Protocol,
            "look at what was sent last: the peer could not accept its form",
        ),
        Some(1008) => Entry::new(
            "close-1008",
            Category::Authentication,
            "check credentials and the peer's rules for clients",
        ),
        Some(1009) => Entry::new(
            "close-1009",
            Category::Configuration,
            "send smaller messages: the peer's limit is lower",
        ),
        Some(1011..=1014) => Entry::new(
            "close-service",
            Category::Service,
            "wait: the peer is in trouble or asks to come back later",
        ),
        Some(3000) => Entry::new(
            "close-1008",
            Category::Authentication,
            "check credentials and the peer's rules for clients",
        ),
        Some(4000..=4999) => Entry::new(
            "close-private",
            Category::Service,
            "look the code up in the venue's documentation",
        ),
        Some(_) => Entry::new(
            "close-other",
            Category::Protocol,
            "look the code up in iana's registry of websocket close codes",
        ),
        None => Entry::new(
            "close-empty",
            Category::Lifecycle,
            "wait for the next attempt; the peer gave no reason",
        ),
    }
}

#[cfg(test)]
mod tests;
