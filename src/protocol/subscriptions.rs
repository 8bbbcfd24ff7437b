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
//! Invariants: restoring follows the order of the wishes; a channel is asked for at most once at a
//! time; a confirmation of an older epoch changes nothing.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Instant;

use super::continuity::Epoch;

/// How often a venue may refuse a channel before the wish is given up.
pub const REFUSALS: u32 = 3;

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
    /// Set by the first confirmation; a wish that was once confirmed deserves more patience.
    once_confirmed: bool,
    status: Status,
    /// When the venue was last asked because what came was unusable.
    broken_at: Option<Instant>,
    /// Whether what came after that was unusable again, before the venue's answer was known.
    broken_again: bool,
}

impl Status {
    fn is_confirmed(self) -> bool {
        match self {
            Self::Confirmed(_) => true,
            Self::Wanted | Self::Asked => false,
        }
    }
}

impl Wish {
    /// Stands at `next` from now on; `confirmed` is how many of the ledger's wishes are.
    fn turn(&mut self, next: Status, confirmed: &mut usize) {
        *confirmed -= usize::from(self.status.is_confirmed());
        *confirmed += usize::from(next.is_confirmed());
        self.status = next;
    }
}

/// The ledger. See the module's documentation.
#[derive(Debug, Default)]
pub struct Ledger {
    wishes: HashMap<Arc<str>, Wish>,
    order: BTreeMap<u64, Arc<str>>,
    next_order: u64,
    /// How many are confirmed.
    confirmed: usize,
    /// The epoch whose connection may be asked; `None` while there is none.
    ready: Option<Epoch>,
}

impl Ledger {
    /// An empty ledger.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The user wants one more listener on `channel`.
    pub fn wish(&mut self, channel: &Arc<str>) -> WishAction {
        let ready = self.ready.is_some();
        if let Some(wish) = self.wishes.get_mut(channel) {
            wish.listeners += 1;
            return match wish.status {
                Status::Confirmed(epoch) => WishAction::Confirmed(epoch),
                Status::Asked => WishAction::Wait,
                Status::Wanted if ready => {
                    wish.turn(Status::Asked, &mut self.confirmed);
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
            once_confirmed: false,
            status,
            broken_at: None,
            broken_again: false,
        };
        self.wishes.insert(Arc::clone(channel), wish);
        if ready {
            WishAction::Ask
        } else {
            WishAction::Wait
        }
    }

    /// One listener on `channel` is gone.
    pub fn unwish(&mut self, channel: &str) -> WishAction {
        let Some(wish) = self.wishes.get_mut(channel) else {
            return WishAction::Keep;
        };
        wish.listeners -= 1;
        if wish.listeners > 0 {
            return WishAction::Keep;
        }
        self.remove(channel);
        // Also while it is only wanted: an answer that was lost may have been a yes.
        if self.ready.is_some() {
            WishAction::Release
        } else {
            WishAction::Keep
        }
    }

    /// The connection of `epoch` may be asked. Returns what to ask for, in the order of the wishes.
    #[must_use]
    pub fn on_ready(&mut self, epoch: Epoch) -> Vec<Arc<str>> {
        if self.ready != Some(epoch) {
            // The end of the one before may never have been said: who should have said it has failed.
            self.on_closed();
        }
        self.ready = Some(epoch);
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
                wish.turn(Status::Asked, &mut self.confirmed);
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
                wish.turn(Status::Asked, &mut self.confirmed);
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
        wish.turn(Status::Confirmed(epoch), &mut self.confirmed);
        wish.once_confirmed = true;
        wish.refusals = 0;
        true
    }

    /// The venue refused `channel` on the connection of `epoch`. A wish that was never confirmed is
    /// given up at once; one that was gets [`REFUSALS`] chances.
    pub fn on_refused(&mut self, channel: &str, epoch: Epoch) -> RefusalAction {
        if self.ready != Some(epoch) {
            return RefusalAction::Ignore;
        }
        let Some(wish) = self.wishes.get_mut(channel) else {
            return RefusalAction::Ignore;
        };
        wish.refusals += 1;
        wish.turn(Status::Wanted, &mut self.confirmed);
        if !wish.once_confirmed || wish.refusals >= REFUSALS {
            self.remove(channel);
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
                wish.turn(Status::Wanted, &mut self.confirmed);
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

    /// The connection ended: every confirmation is void, every wish stays.
    pub fn on_closed(&mut self) {
        self.ready = None;
        for wish in self.wishes.values_mut() {
            wish.turn(Status::Wanted, &mut self.confirmed);
            wish.broken_at = None;
            wish.broken_again = false;
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
        (self.wishes.len(), self.confirmed)
    }

    fn ask_where(&mut self, which: impl Fn(&Wish) -> bool) -> Vec<Arc<str>> {
        let mut asked = Vec::new();
        for channel in self.order.values() {
            if let Some(wish) = self.wishes.get_mut(channel).filter(|wish| which(wish)) {
                wish.turn(Status::Asked, &mut self.confirmed);
                asked.push(Arc::clone(channel));
            }
        }
        asked
    }

    fn remove(&mut self, channel: &str) {
        if let Some(wish) = self.wishes.remove(channel) {
            self.order.remove(&wish.order);
            self.confirmed -= usize::from(wish.status.is_confirmed());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn name(text: &str) -> Arc<str> {
        Arc::from(text)
    }

    fn first() -> Epoch {
        Epoch::NONE.next()
    }

    #[test]
    fn a_wish_made_while_down_is_asked_for_when_ready() {
        let mut ledger = Ledger::new();
        assert_eq!(ledger.wish(&name("a")), WishAction::Wait);
        assert_eq!(ledger.on_ready(first()), [name("a")]);
    }

    #[test]
    fn wishes_are_restored_in_their_order() {
        let mut ledger = Ledger::new();
        for channel in ["c", "a", "b"] {
            let _ = ledger.wish(&name(channel));
        }
        assert_eq!(ledger.on_ready(first()), [name("c"), name("a"), name("b")]);
    }

    #[test]
    fn what_is_not_restored_is_dropped_and_a_wish_never_confirmed_stays() {
        let mut ledger = Ledger::new();
        for channel in ["a", "b", "c"] {
            let _ = ledger.wish(&name(channel));
        }
        let _ = ledger.on_ready(first());
        assert!(ledger.on_confirmed("c", first()) && ledger.on_confirmed("a", first()));
        ledger.on_closed();
        assert_eq!(ledger.drop_confirmed(), [name("a"), name("c")]);
        assert_eq!(ledger.on_ready(first().next()), [name("b")]);
    }

    #[test]
    fn a_second_listener_does_not_ask_again() {
        let mut ledger = Ledger::new();
        let _ = ledger.on_ready(first());
        assert_eq!(ledger.wish(&name("a")), WishAction::Ask);
        assert_eq!(ledger.wish(&name("a")), WishAction::Wait);
        assert!(ledger.on_confirmed("a", first()));
        assert_eq!(ledger.wish(&name("a")), WishAction::Confirmed(first()));
        assert_eq!(ledger.unwish("a"), WishAction::Keep);
        assert_eq!(ledger.unwish("a"), WishAction::Keep);
        assert_eq!(ledger.unwish("a"), WishAction::Release);
    }

    #[test]
    fn a_close_voids_confirmations_and_keeps_wishes() {
        let mut ledger = Ledger::new();
        let _ = ledger.on_ready(first());
        let _ = ledger.wish(&name("a"));
        assert!(ledger.on_confirmed("a", first()));
        ledger.on_closed();
        assert_eq!(ledger.counts(), (1, 0));
        assert_eq!(ledger.on_ready(first().next()), [name("a")]);
    }

    #[test]
    fn a_new_connection_voids_the_confirmations_of_one_whose_end_was_never_told() {
        let mut ledger = Ledger::new();
        let _ = ledger.on_ready(first());
        let _ = ledger.wish(&name("a"));
        assert!(ledger.on_confirmed("a", first()));
        assert_eq!(ledger.on_ready(first().next()), [name("a")]);
    }

    #[test]
    fn a_confirmation_of_an_older_epoch_changes_nothing() {
        let mut ledger = Ledger::new();
        let _ = ledger.on_ready(first());
        let _ = ledger.wish(&name("a"));
        ledger.on_closed();
        let _ = ledger.on_ready(first().next());
        assert!(!ledger.on_confirmed("a", first()));
        assert_eq!(ledger.counts(), (1, 0));
    }

    #[test]
    fn a_wish_never_confirmed_is_given_up_at_the_first_refusal() {
        let mut ledger = Ledger::new();
        let _ = ledger.on_ready(first());
        let _ = ledger.wish(&name("a"));
        assert_eq!(ledger.on_refused("a", first()), RefusalAction::GiveUp);
        assert!(!ledger.is_wanted("a"));
    }

    #[test]
    fn a_wish_once_confirmed_survives_two_refusals() {
        let mut ledger = Ledger::new();
        let _ = ledger.on_ready(first());
        let _ = ledger.wish(&name("a"));
        assert!(ledger.on_confirmed("a", first()));
        ledger.on_closed();
        let second = first().next();
        let _ = ledger.on_ready(second);
        assert_eq!(ledger.on_refused("a", second), RefusalAction::Later);
        assert_eq!(ledger.retry(), [name("a")]);
        assert_eq!(ledger.on_refused("a", second), RefusalAction::Later);
        assert_eq!(ledger.retry(), [name("a")]);
        assert_eq!(ledger.on_refused("a", second), RefusalAction::GiveUp);
    }

    #[test]
    fn a_broken_channel_is_asked_for_once_however_often_it_is_reported() {
        let now = Instant::now();
        let at = |millis| now + std::time::Duration::from_millis(millis);
        let mut ledger = Ledger::new();
        let _ = ledger.on_ready(first());
        let _ = ledger.wish(&name("a"));
        assert!(ledger.on_confirmed("a", first()));
        assert!(ledger.on_broken("a", at(1), at(2)));
        assert!(
            !ledger.on_broken("a", at(1), at(3)),
            "a second listener's report of the same"
        );
        assert!(ledger.on_confirmed("a", first()));
        assert!(!ledger.is_broken_again("a"));
        assert!(
            !ledger.on_broken("a", at(1), at(5)),
            "a slow listener's report of the same"
        );
        assert!(ledger.on_broken("a", at(6), at(7)), "a new break");
    }

    #[test]
    fn a_break_that_is_found_before_the_answer_is_known_is_not_forgotten() {
        let now = Instant::now();
        let at = |millis| now + std::time::Duration::from_millis(millis);
        let mut ledger = Ledger::new();
        let _ = ledger.on_ready(first());
        let _ = ledger.wish(&name("a"));
        assert!(
            !ledger.on_broken("a", at(1), at(2)),
            "the venue has been asked"
        );
        assert!(ledger.on_confirmed("a", first()));
        assert!(ledger.is_broken_again("a"));
        assert!(ledger.on_confirmed("a", first()));
        assert!(!ledger.is_broken_again("a"));
    }

    #[test]
    fn a_postponed_wish_stays_however_often() {
        let mut ledger = Ledger::new();
        let _ = ledger.on_ready(first());
        let _ = ledger.wish(&name("a"));
        for _ in 0..10 {
            assert!(ledger.on_postponed("a", first()));
            assert_eq!(ledger.retry(), [name("a")]);
        }
        assert!(!ledger.on_postponed("a", first().next()));
    }

    #[test]
    fn a_postponed_wish_that_is_dropped_is_released() {
        let mut ledger = Ledger::new();
        let _ = ledger.on_ready(first());
        let _ = ledger.wish(&name("a"));
        assert!(ledger.on_postponed("a", first()));
        assert_eq!(ledger.unwish("a"), WishAction::Release);
    }

    #[test]
    fn lost_authorization_asks_for_the_private_channels_alone() {
        let mut ledger = Ledger::new();
        let _ = ledger.on_ready(first());
        for channel in ["public", "user.a", "user.b"] {
            let _ = ledger.wish(&name(channel));
            assert!(ledger.on_confirmed(channel, first()));
        }
        let again = ledger.on_lost(|channel| channel.starts_with("user."));
        assert_eq!(again, [name("user.a"), name("user.b")]);
        assert_eq!(ledger.counts(), (3, 1));
    }

    proptest! {
        /// Whatever happens, only the user's wishes decide what is wanted.
        #[test]
        fn only_the_user_changes_the_wishes(script in proptest::collection::vec((0u8..7, 0usize..4), 0..200)) {
            let channels = [name("a"), name("b"), name("c"), name("d")];
            let mut ledger = Ledger::new();
            let mut wanted = [0usize; 4];
            let mut epoch = Epoch::NONE;
            for (event, index) in script {
                let channel = &channels[index];
                match event {
                    0 => { let _ = ledger.wish(channel); wanted[index] += 1; }
                    1 if wanted[index] > 0 => { let _ = ledger.unwish(channel); wanted[index] -= 1; }
                    2 => { epoch = epoch.next(); let _ = ledger.on_ready(epoch); }
                    3 => ledger.on_closed(),
                    4 => { let _ = ledger.on_confirmed(channel, epoch); }
                    5 => { let _ = ledger.on_postponed(channel, epoch); }
                    _ => { let _ = ledger.on_lost(|lost| lost == &**channel); }
                }
                let confirmed = ledger.wishes.values().filter(|wish| wish.status.is_confirmed());
                prop_assert_eq!(ledger.counts(), (ledger.wanted(), confirmed.count()));
                for (index, count) in wanted.iter().enumerate() {
                    prop_assert_eq!(ledger.is_wanted(&channels[index]), *count > 0);
                }
            }
        }
    }
}
