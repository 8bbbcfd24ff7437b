//! What a user hangs into a session beside a platform: traits with defaults, of which one overrides only what
//! differs.
//!
//! A [`Platform`](crate::Platform) says how a venue speaks and is the venue's; a hook says what *this program*
//! does about what happens, and is the user's. There is one trait for each concern, all methods have defaults,
//! and a type may implement several. [`Hooks`] collects them for a [`SessionSpec`](crate::SessionSpec).
//!
//! | trait | is asked | is told |
//! |---|---|---|
//! | [`ConnectionHook`] | what to send when the session is live | every step, every loss, the end |
//! | [`MessageHook`] | whether to let a frame pass, to answer it, to close | what is written |
//! | [`SubscriptionHook`] | | confirmations, refusals, gaps |
//! | [`AuthHook`] | when to renew a grant | grants and refusals |
//! | [`ErrorHook`] | what to do about a lost connection | requests that failed |
//! | [`RateLimitHook`] | whether a request pays, passes free, or is refused | |
//! | [`LogHook`] | | steps, messages, errors |
//!
//! Metrics are counted by the session itself; see [`telemetry`](crate::telemetry).
//!
//! # What a hook may do
//!
//! What is *told* is told in a task of its own, in order, through a queue of 1024 that loses rather than waits;
//! what is *asked* is asked where the answer is needed. [`MessageHook`] is asked by the reader, for every frame:
//! it must be quick and must not block.
//!
//! A panic in a hook is contained: it is counted ([`HookStatistics::faults`](crate::HookStatistics)), reported
//! through `tracing` with the hook's name, and the default answer holds. Nothing else fails by it.
//!
//! ```
//! use mainstay::close::CloseReason;
//! use mainstay::hooks::{ErrorHook, Hooks, MessageHook, Reaction, Remedy};
//! use mainstay::Frame;
//! use std::time::Duration;
//!
//! struct House;
//!
//! impl ErrorHook for House {
//!     fn on_loss(&self, reason: &CloseReason, losses: u32) -> Remedy {
//!         match reason {
//!             CloseReason::Peer { code: Some(4001), .. } => Remedy::Stop,
//!             _ if losses > 10 => Remedy::RetryAfter(Duration::from_secs(60)),
//!             _ => Remedy::Usual,
//!         }
//!     }
//! }
//!
//! impl MessageHook for House {
//!     fn on_frame(&self, frame: &Frame) -> Reaction {
//!         match frame.payload() {
//!             b"are you there?" => Reaction::Reply(vec![Frame::text("yes")]),
//!             _ => Reaction::Pass,
//!         }
//!     }
//! }
//!
//! let hooks = Hooks::new().error(House).message(House);
//! # let _ = hooks;
//! ```
//!
//! Invariants: a session without hooks pays nothing for them; no hook is shown a request that holds
//! credentials, nor the answer to any request.

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::close::{CloseReason, GapCause};
use crate::error::{EndReason, RequestError};
use crate::frame::Frame;
use crate::protocol::call::Call;
use crate::protocol::continuity::Epoch;
use crate::protocol::recording::Direction;
use crate::protocol::status::Transition;

/// What a hook wants done about a frame, or about a session that has become live.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reaction {
    /// Nothing: a frame goes where it belongs.
    #[default]
    Pass,
    /// The frame goes nowhere. It is counted, and nobody is told of a gap: that is the hook's affair.
    Discard,
    /// These are sent, as if by [`Session::send`](crate::Session::send) but without anybody waiting for them; a
    /// frame goes where it belongs. What the limiter or a full line refuses counts as a fault.
    Reply(Vec<Frame>),
    /// The connection is closed with this code and reason (RFC 6455, section 7.4), and sought again with the
    /// usual delays.
    Close(u16, String),
    /// The connection is closed with this code and reason, and the session ends.
    End(u16, String),
}

/// What a hook wants done about a lost connection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Remedy {
    /// What the configuration and the cause say.
    #[default]
    Usual,
    /// Another attempt after this long at least, also where the cause would end the session. The configured
    /// backoff may ask for more.
    RetryAfter(Duration),
    /// The session ends with this loss as its cause.
    Stop,
}

/// What a hook wants done about a request under a limit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Admission {
    /// It pays its price and waits for its turn, where there is a limit.
    #[default]
    Usual,
    /// It passes at once and pays nothing.
    Free,
    /// It is not sent, for this reason: [`RequestError::NotSent`].
    Refuse(String),
}

/// The life of connections.
pub trait ConnectionHook: Send + Sync + 'static {
    /// The session went from one status to another.
    fn on_step(&self, step: &Transition) {
        let _ = step;
    }

    /// The session is live on the connection of this epoch. A reaction comes too late if that connection has
    /// ended meanwhile, and is then left out.
    fn on_live(&self, epoch: Epoch) -> Reaction {
        let _ = epoch;
        Reaction::Pass
    }

    /// A connection, or an attempt at one, ended.
    fn on_lost(&self, reason: &CloseReason) {
        let _ = reason;
    }

    /// The session is over for good. The last call.
    fn on_end(&self, reason: &EndReason) {
        let _ = reason;
    }
}

/// Frames on their way.
pub trait MessageHook: Send + Sync + 'static {
    /// A text or binary frame came. Asked by the reader before the frame is routed, answers to requests
    /// included: be quick, and keep nothing of what may hold a token.
    fn on_frame(&self, frame: &Frame) -> Reaction {
        let _ = frame;
        Reaction::Pass
    }

    /// A frame was handed to the socket. Requests that hold credentials are not shown.
    fn on_sent(&self, frame: &Frame) {
        let _ = frame;
    }
}

/// The fate of subscriptions.
pub trait SubscriptionHook: Send + Sync + 'static {
    /// The venue confirmed this channel, for the first time or again.
    fn on_confirmed(&self, epoch: Epoch, channel: &str) {
        let _ = (epoch, channel);
    }

    /// The venue refused this channel for good.
    fn on_refused(&self, epoch: Epoch, channel: &str, detail: &str) {
        let _ = (epoch, channel, detail);
    }

    /// So many subscriptions were interrupted.
    fn on_gap(&self, epoch: Epoch, cause: &GapCause, subscriptions: u64) {
        let _ = (epoch, cause, subscriptions);
    }
}

/// Authentication.
pub trait AuthHook: Send + Sync + 'static {
    /// The venue granted authorization, or renewed it; without an end it lasts for ever.
    fn on_granted(&self, epoch: Epoch, lasts: Option<Duration>) {
        let _ = (epoch, lasts);
    }

    /// The venue refused our credentials, or took authorization back.
    fn on_refused(&self, epoch: Epoch, detail: &str) {
        let _ = (epoch, detail);
    }

    /// After how much of its life a grant is renewed. Default: what the platform says, or four fifths.
    fn renew_after(&self, lasts: Duration) -> Option<Duration> {
        let _ = lasts;
        None
    }
}

/// What goes wrong.
pub trait ErrorHook: Send + Sync + 'static {
    /// A connection, or an attempt, ended by itself; `losses` counts those since a connection last proved
    /// stable, this one included. Not asked about [`Session::reconnect`](crate::Session::reconnect).
    fn on_loss(&self, reason: &CloseReason, losses: u32) -> Remedy {
        let _ = (reason, losses);
        Remedy::Usual
    }

    /// A request of the user's ended without a result. Called in the task that asked.
    fn on_request_error(&self, error: &RequestError) {
        let _ = error;
    }
}

/// Requests before they meet the limiter.
pub trait RateLimitHook: Send + Sync + 'static {
    /// Whether a request of the user's pays, passes free, or is refused. Asked in the task that asks, without a
    /// limiter too. A batch is refused with any of its calls, and none of them is free.
    fn admit(&self, call: &Call) -> Admission {
        let _ = call;
        Admission::Usual
    }
}

/// A log of one's own, beside what the library tells `tracing`.
pub trait LogHook: Send + Sync + 'static {
    /// The session went from one status to another.
    fn on_step(&self, step: &Transition) {
        let _ = step;
    }

    /// A text or binary frame came or went. Called where that happens: be quick. Answers to requests are not
    /// shown, nor are requests that hold credentials.
    fn on_message(&self, direction: Direction, frame: &Frame) {
        let _ = (direction, frame);
    }

    /// A connection was lost, a request failed, or the session ended by a fault.
    fn on_error(&self, error: &(dyn Error + 'static)) {
        let _ = error;
    }
}

/// The hooks of a session, one for each concern; a later one replaces an earlier one of its kind. Cheap to clone.
#[derive(Clone, Default)]
pub struct Hooks {
    pub(crate) connection: Option<Arc<dyn ConnectionHook>>,
    pub(crate) message: Option<Arc<dyn MessageHook>>,
    pub(crate) subscription: Option<Arc<dyn SubscriptionHook>>,
    pub(crate) auth: Option<Arc<dyn AuthHook>>,
    pub(crate) error: Option<Arc<dyn ErrorHook>>,
    pub(crate) rate_limit: Option<Arc<dyn RateLimitHook>>,
    pub(crate) log: Option<Arc<dyn LogHook>>,
}

impl Hooks {
    /// None yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The life of connections.
    #[must_use]
    pub fn connection(mut self, hook: impl ConnectionHook) -> Self {
        self.connection = Some(Arc::new(hook));
        self
    }

    /// Frames on their way.
    #[must_use]
    pub fn message(mut self, hook: impl MessageHook) -> Self {
        self.message = Some(Arc::new(hook));
        self
    }

    /// The fate of subscriptions.
    #[must_use]
    pub fn subscription(mut self, hook: impl SubscriptionHook) -> Self {
        self.subscription = Some(Arc::new(hook));
        self
    }

    /// Authentication.
    #[must_use]
    pub fn auth(mut self, hook: impl AuthHook) -> Self {
        self.auth = Some(Arc::new(hook));
        self
    }

    /// What goes wrong.
    #[must_use]
    pub fn error(mut self, hook: impl ErrorHook) -> Self {
        self.error = Some(Arc::new(hook));
        self
    }

    /// Requests before they meet the limiter.
    #[must_use]
    pub fn rate_limit(mut self, hook: impl RateLimitHook) -> Self {
        self.rate_limit = Some(Arc::new(hook));
        self
    }

    /// A log of one's own.
    #[must_use]
    pub fn log(mut self, hook: impl LogHook) -> Self {
        self.log = Some(Arc::new(hook));
        self
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let Self {
            connection,
            message,
            subscription,
            auth,
            error,
            rate_limit,
            log,
        } = self;
        connection.is_none()
            && message.is_none()
            && subscription.is_none()
            && auth.is_none()
            && error.is_none()
            && rate_limit.is_none()
            && log.is_none()
    }
}

impl fmt::Debug for Hooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hooks")
            .field("connection", &self.connection.is_some())
            .field("message", &self.message.is_some())
            .field("subscription", &self.subscription.is_some())
            .field("auth", &self.auth.is_some())
            .field("error", &self.error.is_some())
            .field("rate_limit", &self.rate_limit.is_some())
            .field("log", &self.log.is_some())
            .finish()
    }
}
