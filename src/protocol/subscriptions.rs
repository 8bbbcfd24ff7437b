//! The ledger of one session's subscriptions: what the user wants, and what the venue has confirmed.
//!
//! Apart from the actor that owns it because the two must never be confused: a wish is changed by the
//! user alone and outlives every connection; a confirmation is void at every close.
//!
//! ```text
//!            wish                ask sent             confirmed(epoch)
//!  (absent) ------> Wanted ----------------> Asked ------------------> Confirmed
//!      ^              ^                        |  rejected                  |
//!      |              |  closed, postponed     +-----> Wanted, a miss more  |
//!      +-- unwish ----+-----------------------------------------------------+
//! ```
//!
//! What is let go of while a connection is ready stands among the releases (`release`) until the venue has
//! confirmed that, too; it can be wanted again meanwhile.
//!
//! Invariants: restoring follows the order of the wishes, but begins with those that a pass before it did not come
//! to, the longest without a confirmation first, so that passes that are cut come round; a channel is asked for at most once at a
//! time; a confirmation of an older epoch changes nothing.

mod release;
mod state;
mod wishes;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

pub use release::ReleaseAction;
use release::Releases;
pub use state::{ChannelState, ChannelStatus, Refusal};
pub use wishes::Wishes;

use super::cadence::Rung;
use super::continuity::Epoch;

/// How often a venue may refuse a channel before the wish is given up.
pub const REFUSALS: u32 = 3;
/// How many channels that were given up are remembered.
pub const GIVEN_UP: usize = 64;

/// What to do after the user has changed a wish.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum WishAction {
    /// Ask the venue for this channel.
    Ask,
    /// The venue has been asked already: wait for its answer.
    Wait,
    /// The channel is confirmed in this epoch.
    Confirmed(Epoch),
    /// Nobody wants the channel any more: tell the venue.
    Release,
    /// Others still want it, or it was never wanted.
    Keep,
}

/// What a refusal means for a wish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum RefusalAction {
    /// Ask once more later.
    Later,
    /// The wish is given up; it has been removed.
    GiveUp,
    /// Nobody wants the channel any more.
    Ignore,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Status {
    Wanted,
    Asked,
    Confirmed(Epoch),
}

#[derive(Debug)]
struct Wish {
    order: u64,
    listeners: usize,
    refusals: u32,
    /// The last refusal; cleared by a confirmation.
    refusal: Option<Refusal>,
    /// Set by the first confirmation; a wish that was once confirmed deserves more patience.
    once_confirmed: bool,
    status: Status,
    /// The epoch on which it came to that.
    since: Epoch,
    /// The epoch that confirmed it last.
    confirmed_in: Epoch,
    /// Whether the last connection ended before it was confirmed. Cleared by a confirmation.
    missed: bool,
    /// When the venue was last asked because what came was unusable.
    broken_at: Option<Instant>,
    /// Whether what came after that was unusable again, before the venue's answer was known.
    broken_again: bool,
    /// How far it has climbed for want of data. Cleared by data and by the end of the connection.
    rung: Option<Rung>,
}

impl Status {
    fn is_confirmed(self) -> bool {
        match self {
            Self::Confirmed(_) => true,
            Self::Wanted | Self::Asked => false,
        }
    }

    fn told(self) -> ChannelStatus {
        match self {
            Self::Wanted => ChannelStatus::Pending,
            Self::Asked => ChannelStatus::Subscribing,
            Self::Confirmed(_) => ChannelStatus::Confirmed,
        }
    }
}

/// How many wishes are confirmed, and on which connection that changes.
#[derive(Debug, Default)]
struct Tally {
    confirmed: usize,
    /// The epoch that was ready last.
    epoch: Epoch,
}

impl Wish {
    /// Stands at `next` from now on.
    fn turn(&mut self, next: Status, tally: &mut Tally) {
        tally.confirmed -= usize::from(self.status.is_confirmed());
        tally.confirmed += usize::from(next.is_confirmed());
        if self.status != next {
            self.since = tally.epoch;
        }
        self.status = next;
    }
}

/// The ledger. See the module's documentation.
#[derive(Debug, Default)]
pub struct Ledger {
    wishes: HashMap<Arc<str>, Wish>,
    order: BTreeMap<u64, Arc<str>>,
    next_order: u64,
    tally: Tally,
    /// The epoch whose connection may be asked; `None` while there is none.
    ready: Option<Epoch>,
    /// What the venue has yet to confirm that nobody wants any more.
    releases: Releases,
    /// The last channels that were refused for good, oldest first.
    given_up: VecDeque<(Arc<str>, Refusal)>,
}

impl Ledger {
    /// An empty ledger.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty ledger of a session whose last connection was that of `epoch`.
    #[must_use]
    pub fn after(epoch: Epoch) -> Self {
        let mut ledger = Self::default();
        ledger.tally.epoch = epoch;
        ledger
    }

    /// The user wants one more listener on `channel`.
    pub fn wish(&mut self, channel: &Arc<str>) -> WishAction {
        let ready = self.ready.is_some();
        self.releases.withdraw(channel);
        self.given_up.retain(|(name, _)| name != channel);
        if let Some(wish) = self.wishes.get_mut(channel) {
            wish.listeners += 1;
            return match wish.status {
                Status::Confirmed(epoch) => WishAction::Confirmed(epoch),
                Status::Asked => WishAction::Wait,
                Status::Wanted if ready => {
                    wish.turn(Status::Asked, &mut self.tally);
                    WishAction::Ask
                }
                Status::Wanted => WishAction::Wait,
            };
        }
        let status = if ready { Status::Asked } else { Status::Wanted };
        let order = self.next_order;
        self.next_order += 1;
        self.order.insert(order, Arc::clone(channel));
        let wish = Wish {
            order,
            listeners: 1,
            refusals: 0,
            refusal: None,
            once_confirmed: false,
            status,
            since: self.tally.epoch,
            confirmed_in: Epoch::NONE,
            missed: false,
            broken_at: None,
            broken_again: false,
            rung: None,
        };
        self.wishes.insert(Arc::clone(channel), wish);
        if ready {
            WishAction::Ask
        } else {
            WishAction::Wait
        }
    }

    /// One listener on `channel` is gone. Where that is a reason to tell the venue, its answer is awaited
    /// ([`Ledger::on_released`] and what stands beside it).
    pub fn unwish(&mut self, channel: &str) -> WishAction {
        let Some(wish) = self.wishes.get_mut(channel) else {
            return WishAction::Keep;
        };
        wish.listeners -= 1;
        if wish.listeners > 0 {
            return WishAction::Keep;
        }
        let Some(channel) = self.remove(channel) else {
            return WishAction::Keep;
        };
        // Also while it is only wanted: an answer that was lost may have been a yes.
        match self.ready {
            Some(epoch) => {
                self.releases.begin(&channel, epoch);
                WishAction::Release
            }
            None => WishAction::Keep,
        }
    }

    /// The venue confirmed a channel on the connection of `epoch` that may have been let go of while it was
    /// asked. Whether it has to be told so.
    pub fn release_unwanted(&mut self, channel: &Arc<str>, epoch: Epoch) -> bool {
        let unwanted = self.ready == Some(epoch)
            && !self.is_wanted(channel)
            && !self.releases.contains(channel);
        if unwanted {
            self.releases.begin(channel, epoch);
        }
        unwanted
    }

    /// The venue confirmed on the connection of `epoch` that it sends `channel` no more, or refused to stop.
    pub fn on_released(&mut self, channel: &str, epoch: Epoch) -> ReleaseAction {
        match self.ready == Some(epoch) {
            true => self.releases.on_answer(channel),
            false => ReleaseAction::Ignore,
        }
    }

    /// The venue said neither yes nor no to the release of `channel` on the connection of `epoch`.
    pub fn on_release_postponed(&mut self, channel: &str, epoch: Epoch) -> ReleaseAction {
        if self.ready != Some(epoch) {
            return ReleaseAction::Ignore;
        }
        if self.is_wanted(channel) {
            return self.releases.on_answer(channel);
        }
        self.releases.on_postponed(channel)
    }

    /// Whether the venue has yet to confirm that it sends `channel` no more.
    #[must_use]
    pub fn is_releasing(&self, channel: &str) -> bool {
        self.releases.contains(channel)
    }

    /// Tells the venue once more of what it has yet to hear. Returns it by name.
    #[must_use]
    pub fn retry_releases(&mut self) -> Vec<Arc<str>> {
        self.releases.retry()
    }

    /// The connection of `epoch` may be asked. Returns what to ask for: first what the last connection did not come
    /// to, then the others, in the order of the wishes.
    #[must_use]
    pub fn on_ready(&mut self, epoch: Epoch) -> Vec<Arc<str>> {
        if self.ready != Some(epoch) {
            // The end of the one before may never have been said: who should have said it has failed.
            self.on_closed();
        }
        self.ready = Some(epoch);
        self.tally.epoch = epoch;
        self.ask_where(|wish| wish.status == Status::Wanted)
    }

    /// These channels lost their confirmation although the connection stays, for example with the
    /// authorization. Returns those that are wanted, in order, now marked as asked.
    #[must_use]
    pub fn on_lost(&mut self, lost: impl Fn(&str) -> bool) -> Vec<Arc<str>> {
        let channels: Vec<Arc<str>> = self
            .order
            .values()
            .filter(|name| lost(name))
            .cloned()
            .collect();
        for channel in &channels {
            if let Some(wish) = self.wishes.get_mut(channel) {
                wish.turn(Status::Asked, &mut self.tally);
            }
        }
        channels
    }

    /// A listener found what it `received` from `channel` unusable. Whether to ask for it afresh now:
    /// not for what had been received before the venue was last asked for that reason, and not while
    /// it has yet to answer, after which [`Ledger::is_broken_again`] says it.
    pub fn on_broken(&mut self, channel: &str, received: Instant, now: Instant) -> bool {
        let ready = self.ready.is_some();
        let Some(wish) = self.wishes.get_mut(channel).filter(|_| ready) else {
            return false;
        };
        if wish.broken_at.is_some_and(|asked| received <= asked) {
            return false;
        }
        match wish.status {
            Status::Confirmed(_) => {
                wish.turn(Status::Asked, &mut self.tally);
                wish.broken_at = Some(now);
                true
            }
            Status::Asked => {
                wish.broken_again = true;
                false
            }
            Status::Wanted => false,
        }
    }

    /// Whether a break was reported before the venue's answer was known; forgets it.
    pub fn is_broken_again(&mut self, channel: &str) -> bool {
        self.wishes
            .get_mut(channel)
            .is_some_and(|wish| std::mem::take(&mut wish.broken_again))
    }

    /// The venue confirmed `channel` on the connection of `epoch`. Whether that changes anything.
    pub fn on_confirmed(&mut self, channel: &str, epoch: Epoch) -> bool {
        if self.ready != Some(epoch) {
            return false;
        }
        let Some(wish) = self.wishes.get_mut(channel) else {
            return false;
        };
        wish.turn(Status::Confirmed(epoch), &mut self.tally);
        wish.once_confirmed = true;
        wish.confirmed_in = epoch;
        wish.missed = false;
        wish.refusals = 0;
        wish.refusal = None;
        true
    }

    /// The venue refused `channel` on the connection of `epoch`. A wish that was never confirmed is
    /// given up at once; one that was gets [`REFUSALS`] chances.
    pub fn on_refused(&mut self, channel: &str, epoch: Epoch, detail: &str) -> RefusalAction {
        if self.ready != Some(epoch) {
            return RefusalAction::Ignore;
        }
        let Some(wish) = self.wishes.get_mut(channel) else {
            return RefusalAction::Ignore;
        };
        wish.refusals += 1;
        let refusal = Refusal::new(epoch, detail);
        wish.refusal = Some(refusal.clone());
        wish.turn(Status::Wanted, &mut self.tally);
        if !wish.once_confirmed || wish.refusals >= REFUSALS {
            if let Some(channel) = self.remove(channel) {
                self.given_up.push_back((channel, refusal));
                let beyond = self.given_up.len().saturating_sub(GIVEN_UP);
                self.given_up.drain(..beyond);
            }
            return RefusalAction::GiveUp;
        }
        RefusalAction::Later
    }

    /// The venue said neither yes nor no to `channel` on the connection of `epoch`: it is asked for
    /// again later. Whether that changes anything.
    pub fn on_postponed(&mut self, channel: &str, epoch: Epoch) -> bool {
        if self.ready != Some(epoch) {
            return false;
        }
        match self.wishes.get_mut(channel) {
            Some(wish) => {
                wish.turn(Status::Wanted, &mut self.tally);
                true
            }
            None => false,
        }
    }

    /// Asks once more for what is wanted and not asked for. Returns it in order.
    #[must_use]
    pub fn retry(&mut self) -> Vec<Arc<str>> {
        if self.ready.is_none() {
            return Vec::new();
        }
        self.ask_where(|wish| wish.status == Status::Wanted)
    }

    /// The connection ended: every confirmation is void, every wish stays; what was yet to be released is.
    pub fn on_closed(&mut self) {
        let was_ready = self.ready.take().is_some();
        self.releases.clear();
        for wish in self.wishes.values_mut() {
            wish.missed |= was_ready && !wish.status.is_confirmed();
            wish.turn(Status::Wanted, &mut self.tally);
            wish.broken_at = None;
            wish.broken_again = false;
            wish.rung = None;
        }
    }

    /// Data of `channel` is so late, or comes again.
    pub fn on_rung(&mut self, channel: &str, rung: Option<Rung>) {
        if let Some(wish) = self.wishes.get_mut(channel) {
            wish.rung = rung;
        }
    }

    /// The connection ended and nothing is to be restored: the wishes that were ever confirmed are dropped,
    /// and returned in order. Those that never were stay, and are asked for on the next connection.
    #[must_use]
    pub fn drop_confirmed(&mut self) -> Vec<Arc<str>> {
        let confirmed = |name: &&Arc<str>| {
            self.wishes
                .get(*name)
                .is_some_and(|wish| wish.once_confirmed)
        };
        let channels: Vec<Arc<str>> = self.order.values().filter(confirmed).cloned().collect();
        for channel in &channels {
            self.remove(channel);
        }
        channels
    }

    /// Whether `channel` is wanted.
    #[must_use]
    pub fn is_wanted(&self, channel: &str) -> bool {
        self.wishes.contains_key(channel)
    }

    /// How many channels are wanted.
    #[must_use]
    pub fn wanted(&self) -> usize {
        self.wishes.len()
    }

    /// How many channels are wanted, and how many of them are confirmed.
    #[must_use]
    pub fn counts(&self) -> (usize, usize) {
        (self.wishes.len(), self.tally.confirmed)
    }

    /// Where every channel stands: those that are wanted, in the order of the wishes, then those that the venue
    /// has yet to release, then the last [`GIVEN_UP`] that it refused for good.
    #[must_use]
    pub fn states(&self) -> Vec<ChannelState> {
        let wanted = self.order.values();
        let wanted = wanted.filter_map(|name| Some(state_of(name, self.wishes.get(name)?)));
        wanted.chain(self.unwanted()).collect()
    }

    /// Where `channel` stands; `None` if it is none of those.
    #[must_use]
    pub fn state(&self, channel: &str) -> Option<ChannelState> {
        match self.wishes.get_key_value(channel) {
            Some((name, wish)) => Some(state_of(name, wish)),
            None => self.unwanted().find(|state| *state.channel == *channel),
        }
    }

    fn unwanted(&self) -> impl Iterator<Item = ChannelState> {
        let state = |channel: &Arc<str>, status, since, last_refusal| ChannelState {
            channel: Arc::clone(channel),
            status,
            since,
            subscriptions: 0,
            last_refusal,
            stale: None,
        };
        let releases = self.releases.iter();
        let releases = releases
            .filter(|(channel, _)| !self.is_wanted(channel))
            .map(move |(channel, since)| state(channel, ChannelStatus::Unsubscribing, since, None));
        let refused = self.given_up.iter().map(move |(channel, refusal)| {
            let (since, refusal) = (refusal.epoch, Some(refusal.clone()));
            state(channel, ChannelStatus::Refused, since, refusal)
        });
        releases.chain(refused)
    }

    fn ask_where(&mut self, which: impl Fn(&Wish) -> bool) -> Vec<Arc<str>> {
        let mut asked = Vec::new();
        for channel in self.order.values() {
            if let Some(wish) = self.wishes.get_mut(channel).filter(|wish| which(wish)) {
                wish.turn(Status::Asked, &mut self.tally);
                let last = if wish.missed {
                    wish.confirmed_in
                } else {
                    Epoch::NONE
                };
                asked.push((!wish.missed, last, Arc::clone(channel)));
            }
        }
        asked.sort_by_key(|(reached, last, _)| (*reached, *last));
        asked.into_iter().map(|(_, _, channel)| channel).collect()
    }

    /// Forgets a wish. Returns the channel's name if there was one.
    fn remove(&mut self, channel: &str) -> Option<Arc<str>> {
        let wish = self.wishes.remove(channel)?;
        self.tally.confirmed -= usize::from(wish.status.is_confirmed());
        self.order.remove(&wish.order)
    }
}

fn state_of(channel: &Arc<str>, wish: &Wish) -> ChannelState {
    ChannelState {
        channel: Arc::clone(channel),
        status: wish.status.told(),
        since: wish.since,
        subscriptions: wish.listeners,
        last_refusal: wish.refusal.clone(),
        stale: wish.rung,
    }
}

#[cfg(test)]
mod tests;
