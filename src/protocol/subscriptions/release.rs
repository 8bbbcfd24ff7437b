//! Channels that nobody wants any more, until the venue has confirmed that it sends them no more.
//!
//! Apart from the wishes because a channel can be in both: let go of and wanted again before the venue has
//! answered.
//!
//! Invariants: a release is over with the last answer that is awaited, or with the connection; one that came to
//! nothing for a reason that passes is told again, unless the channel is wanted again.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::continuity::Epoch;

/// What the venue's answer to a release means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum ReleaseAction {
    /// It is over: tell whoever waits for it.
    Settle,
    /// Tell the venue once more later.
    Later,
    /// Another answer is awaited, or this one is of an earlier connection.
    Ignore,
}

/// What was released on the connection that is ready.
#[derive(Debug, Default)]
pub(super) struct Releases {
    of: BTreeMap<Arc<str>, Release>,
}

#[derive(Debug)]
struct Release {
    since: Epoch,
    /// Answers that are awaited; with none the venue has to be told once more.
    awaited: u32,
}

impl Releases {
    /// The venue is told on the connection of `epoch`.
    pub(super) fn begin(&mut self, channel: &Arc<str>, epoch: Epoch) {
        let since = Release {
            since: epoch,
            awaited: 0,
        };
        self.of.entry(Arc::clone(channel)).or_insert(since).awaited += 1;
    }

    /// The venue answered, whatever it said, and will not be told again.
    pub(super) fn on_answer(&mut self, channel: &str) -> ReleaseAction {
        let Some(release) = self.of.get_mut(channel) else {
            return ReleaseAction::Ignore;
        };
        release.awaited = release.awaited.saturating_sub(1);
        if release.awaited > 0 {
            return ReleaseAction::Ignore;
        }
        self.of.remove(channel);
        ReleaseAction::Settle
    }

    /// No answer came, or one that does not stand.
    pub(super) fn on_postponed(&mut self, channel: &str) -> ReleaseAction {
        let Some(release) = self.of.get_mut(channel) else {
            return ReleaseAction::Ignore;
        };
        release.awaited = release.awaited.saturating_sub(1);
        match release.awaited {
            0 => ReleaseAction::Later,
            _ => ReleaseAction::Ignore,
        }
    }

    /// The channel is wanted again: what would be told once more is not.
    pub(super) fn withdraw(&mut self, channel: &str) {
        if self.of.get(channel).is_some_and(|one| one.awaited == 0) {
            self.of.remove(channel);
        }
    }

    /// What the venue has to be told once more, now as good as told.
    pub(super) fn retry(&mut self) -> Vec<Arc<str>> {
        let due = self.of.iter_mut().filter(|(_, one)| one.awaited == 0);
        let told = due.map(|(channel, release)| {
            release.awaited = 1;
            Arc::clone(channel)
        });
        told.collect()
    }

    pub(super) fn contains(&self, channel: &str) -> bool {
        self.of.contains_key(channel)
    }

    /// Each with the epoch on which it was first told.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&Arc<str>, Epoch)> {
        self.of.iter().map(|(channel, one)| (channel, one.since))
    }

    pub(super) fn clear(&mut self) {
        self.of.clear();
    }
}
