//! Where each channel stands, as a user is told.
//!
//! Apart from the ledger because these are plain values that leave the session: for a dashboard, a test or a
//! report.
//!
//! Invariants: nothing here decides anything.

use std::fmt;
use std::sync::Arc;

use serde::{Serialize, Serializer};

use crate::protocol::cadence::Rung;
use crate::protocol::continuity::Epoch;

/// Characters of a refusal that are kept: its words are the peer's.
const DETAIL: usize = 256;

/// Where a channel stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ChannelStatus {
    /// Wanted, and the venue is not being asked now: there is no live connection, or it is asked again in a moment.
    Pending,
    /// Wanted; the venue has been asked and has yet to answer.
    Subscribing,
    /// Wanted, and confirmed by the venue on the open connection.
    Confirmed,
    /// Wanted, and nobody is asked for it, as on a bare connection: asking the peer to send is the user's own request.
    Unasked,
    /// Wanted no more; the venue has yet to confirm that it sends no more.
    Unsubscribing,
    /// Refused for good: the wish was given up and its subscriptions were ended.
    Refused,
}

impl ChannelStatus {
    /// A short, constant word, as it is serialised.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Subscribing => "subscribing",
            Self::Confirmed => "confirmed",
            Self::Unasked => "unasked",
            Self::Unsubscribing => "unsubscribing",
            Self::Refused => "refused",
        }
    }
}

impl fmt::Display for ChannelStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.label())
    }
}

/// What the venue said when it refused a channel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Refusal {
    /// The connection's epoch.
    pub epoch: Epoch,
    /// The venue's words, cut off after 256 characters.
    pub detail: String,
}

impl Refusal {
    pub(super) fn new(epoch: Epoch, detail: &str) -> Self {
        let detail = detail.chars().take(DETAIL).collect();
        Self { epoch, detail }
    }
}

/// One channel: where it stands, since when, and what the venue had against it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ChannelState {
    /// The channel's name.
    #[serde(serialize_with = "name")]
    pub channel: Arc<str>,
    /// Where it stands.
    pub status: ChannelStatus,
    /// The connection on which it has come to stand there, or the last one before, if there was none just then;
    /// [`Epoch::NONE`] before the first.
    pub since: Epoch,
    /// How many subscriptions share it.
    pub subscriptions: usize,
    /// The last refusal since it was last confirmed.
    pub last_refusal: Option<Refusal>,
    /// How far it has climbed the ladder because its data is late; `None` while it is not, or has no cadence. Left out of
    /// what is serialised then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stale: Option<Rung>,
}

fn name<S: Serializer>(channel: &Arc<str>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(channel)
}
