//! What the machine between an open connection and a live session wants done.
//!
//! Apart from the machine because both it and its shell read this list.
//!
//! Invariants: an action is said once; each that speaks of channels names the connection that it is about.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Tag;
use crate::error::Recovery;
use crate::protocol::call::Call;
use crate::protocol::continuity::Epoch;

/// What the shell has to do.
#[derive(Debug)]
#[must_use]
#[non_exhaustive]
pub enum Action {
    /// Send this call and bring back its answer under the tag.
    Call {
        /// The tag.
        tag: Tag,
        /// The call.
        call: Call,
    },
    /// Ask the platform for a fresh authentication, send it, bring back its answer.
    Authenticate {
        /// The tag.
        tag: Tag,
    },
    /// Every step has succeeded: say which channels are wanted (`on_wishes`).
    AskWishes {
        /// The connection's epoch.
        epoch: Epoch,
    },
    /// Authorization is back: say which private channels are wanted (`on_wishes`).
    AskPrivateWishes,
    /// Every wanted channel has been answered for.
    Live {
        /// The connection's epoch.
        epoch: Epoch,
    },
    /// These channels are subscribed.
    Confirm {
        /// The connection's epoch.
        epoch: Epoch,
        /// The channels.
        channels: Vec<Arc<str>>,
    },
    /// The venue refused a batch of several as a whole: ask for each of these channels by itself
    /// ([`Establish::on_wishes_apart`](super::Establish::on_wishes_apart)).
    SubscribeApart {
        /// The connection's epoch.
        epoch: Epoch,
        /// The channels.
        channels: Vec<Arc<str>>,
    },
    /// These channels were refused.
    Refuse {
        /// The connection's epoch.
        epoch: Epoch,
        /// The channels.
        channels: Vec<Arc<str>>,
        /// What the venue said.
        detail: String,
    },
    /// These channels were neither subscribed nor refused, for a reason that passes.
    Postpone {
        /// The connection's epoch.
        epoch: Epoch,
        /// The channels.
        channels: Vec<Arc<str>>,
        /// How long to wait at least before they are asked for again.
        at_least: Duration,
    },
    /// The venue confirmed that it sends these channels no more.
    ConfirmRelease {
        /// The connection's epoch.
        epoch: Epoch,
        /// The channels.
        channels: Vec<Arc<str>>,
    },
    /// The venue refused a batch of several as a whole: tell it of each of these channels by itself
    /// ([`Establish::on_released_apart`](super::Establish::on_released_apart)).
    ReleaseApart {
        /// The connection's epoch.
        epoch: Epoch,
        /// The channels.
        channels: Vec<Arc<str>>,
    },
    /// The venue refused to stop sending these channels.
    RefuseRelease {
        /// The connection's epoch.
        epoch: Epoch,
        /// The channels.
        channels: Vec<Arc<str>>,
        /// What the venue said.
        detail: String,
    },
    /// Neither, for a reason that passes.
    PostponeRelease {
        /// The connection's epoch.
        epoch: Epoch,
        /// The channels.
        channels: Vec<Arc<str>>,
        /// How long to wait at least before the venue is told again.
        at_least: Duration,
    },
    /// Private data can no longer be relied on.
    AuthorizationLost {
        /// The connection's epoch.
        epoch: Epoch,
        /// When it was last known to be good.
        since: Instant,
        /// What the venue said.
        detail: String,
    },
    /// Give this connection up.
    Abandon {
        /// The connection's epoch.
        epoch: Epoch,
        /// The step that failed.
        step: String,
        /// What the venue said.
        detail: String,
        /// Whether another connection can help.
        recovery: Recovery,
    },
}
