//! From an open connection to a live session, and staying there: the adapter's decisions.
//!
//! Steps, authentication, renewal ahead of expiry, confirmed subscriptions: one machine,
//! because their order is the promise (connect, authenticate, prepare, restore, live) and a cut can
//! come between any two of them.
//!
//! ```text
//!            opened              last step answered           last batch answered
//!  Offline ----------> Opening --------------------> Restoring ------------------> Live
//!     ^                   | a step failed                |                          |
//!     |                   v                              |                          |
//!     +-- closed ---- Abandoned <------------------------+--- authentication failed +
//! ```
//!
//! Invariants: an answer to a call of an earlier connection changes nothing (tags are never used
//! again); nothing is subscribed before the last step has succeeded; the machine knows no venue.
//! Absent on purpose: what a request looks like, who sends it, and what its answer means.

mod action;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use action::Action;

use super::call::{Batch, Call, Grant, Step};
use super::continuity::Epoch;
use super::recording::Mark;
use crate::error::Recovery;

/// Names one call; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tag(u64);

/// Why a call was not answered with a result.
#[derive(Debug, Clone)]
pub struct Failure {
    /// In words.
    pub detail: String,
    /// What to do about it.
    pub recovery: Recovery,
}

#[derive(Debug)]
enum Purpose {
    Step(String),
    Authenticate,
    /// Authentication on a connection that is already in use.
    Regrant,
    /// What completes one of the two.
    Complete {
        step: String,
        regrant: bool,
    },
    Renew,
    /// `apart` if they have been asked for together in vain.
    Subscribe {
        batch: Batch,
        apart: bool,
    },
    /// Nobody wants these any more. `apart` if they have been told of together in vain.
    Release {
        batch: Batch,
        apart: bool,
    },
    /// Half of a renewal: what is subscribed afresh is unsubscribed first.
    Unsubscribe,
}

#[derive(Debug)]
enum State {
    Offline,
    Opening { epoch: Epoch, steps: VecDeque<Step> },
    Restoring { epoch: Epoch, asked: bool },
    Live { epoch: Epoch },
    Abandoned,
}

#[derive(Debug)]
struct Held {
    /// When it was granted or renewed.
    since: Instant,
    renewal: Option<Call>,
    /// When to renew; moved while a renewal is under way or failed.
    renew_at: Option<Instant>,
    expires_at: Option<Instant>,
}

/// The machine. See the module's documentation.
#[derive(Debug)]
pub struct Establish {
    state: State,
    in_flight: HashMap<Tag, Purpose>,
    next_tag: u64,
    /// Set by a granted authentication, cleared by a close.
    held: Option<Held>,
    /// Whether these credentials were ever accepted; decides if a refusal may be a passing one.
    ever_granted: bool,
    /// Authentications on the present connection beyond the first, since a subscription last succeeded.
    regrants: u32,
    /// Batches that are about to be asked for apart. Raised by their refusal, cleared by a close.
    dividing: u32,
}

/// How often a subscription may ask for another authentication before it counts as refused.
const REGRANTS: u32 = 2;
/// The part of a grant's life after which it is renewed.
const RENEW_AFTER: f64 = 0.8;
/// A venue that grants next to nothing is not asked more often than this.
const RENEW_AT_MOST_EVERY: Duration = Duration::from_millis(200);
/// A grant of a century needs no renewal.
const FOR_EVER: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
/// The pause before a renewal that failed for a passing reason is tried again.
const RENEW_AGAIN: Duration = Duration::from_secs(1);

impl Default for Establish {
    fn default() -> Self {
        Self::new()
    }
}

impl Establish {
    /// Offline.
    #[must_use]
    pub fn new() -> Self {
        Self {
            state: State::Offline,
            in_flight: HashMap::new(),
            next_tag: 0,
            held: None,
            ever_granted: false,
            regrants: 0,
            dividing: 0,
        }
    }

    /// A connection opened; `steps` lead to a live session.
    pub fn on_opened(&mut self, epoch: Epoch, steps: Vec<Step>) -> Vec<Action> {
        self.in_flight.clear();
        self.held = None;
        self.regrants = 0;
        self.dividing = 0;
        self.state = State::Opening {
            epoch,
            steps: steps.into(),
        };
        self.next_step()
    }

    /// The connection ended.
    pub fn on_closed(&mut self) {
        self.in_flight.clear();
        self.held = None;
        self.state = State::Offline;
    }

    /// A call was answered with a result. `grant` is what the platform read out of it, for the
    /// answer to an authentication or renewal ([`Establish::grants`]); `confirmed` are the channels
    /// that it confirms, for the answer to a subscription ([`Establish::batch`]) or to its end
    /// ([`Establish::release`]).
    pub fn on_result(
        &mut self,
        tag: Tag,
        grant: Option<Grant>,
        confirmed: &[Arc<str>],
        now: Instant,
    ) -> Vec<Action> {
        match self.in_flight.remove(&tag) {
            None | Some(Purpose::Unsubscribe) => Vec::new(),
            Some(Purpose::Step(_)) => self.next_step(),
            Some(Purpose::Authenticate) => self.granted(grant, false, now),
            Some(Purpose::Regrant) => self.granted(grant, true, now),
            Some(Purpose::Complete { regrant, .. }) => {
                let grant = grant.map(|grant| Grant {
                    then: None,
                    ..grant
                });
                self.granted(grant, regrant, now)
            }
            Some(Purpose::Renew) => {
                let late = self.expired(now);
                let since = self.held.as_ref().map_or(now, |held| held.since);
                self.hold(grant, now);
                match self.epoch() {
                    Some(epoch) if late => {
                        let detail = "the renewal came after the end of the grant".to_owned();
                        let lost = Action::AuthorizationLost {
                            epoch,
                            since,
                            detail,
                        };
                        vec![lost, Action::AskPrivateWishes]
                    }
                    _ => Vec::new(),
                }
            }
            Some(Purpose::Subscribe { batch, .. }) => self.subscribed(batch, confirmed),
            Some(Purpose::Release { batch, .. }) => self.released(batch, confirmed),
        }
    }

    /// A call was not answered with a result.
    pub fn on_failure(&mut self, tag: Tag, failure: Failure, now: Instant) -> Vec<Action> {
        let Some(purpose) = self.in_flight.remove(&tag) else {
            return Vec::new();
        };
        let Some(epoch) = self.epoch() else {
            return Vec::new();
        };
        match purpose {
            Purpose::Unsubscribe => Vec::new(),
            Purpose::Step(step) | Purpose::Complete { step, .. } => {
                self.abandon(epoch, step, failure)
            }
            Purpose::Authenticate | Purpose::Regrant => {
                self.abandon(epoch, Step::Authenticate.name().to_owned(), failure)
            }
            Purpose::Renew => self.renewal_failed(failure, now),
            Purpose::Subscribe { batch, apart } => {
                let mut actions = self.not_subscribed(epoch, batch.channels, apart, failure, now);
                actions.extend(self.live_if_restored());
                actions
            }
            Purpose::Release { batch, apart } => {
                self.not_released(epoch, batch.channels, apart, failure, now)
            }
        }
    }

    fn not_subscribed(
        &mut self,
        epoch: Epoch,
        channels: Vec<Arc<str>>,
        apart: bool,
        failure: Failure,
        now: Instant,
    ) -> Vec<Action> {
        if !apart && divides(&channels, &failure) {
            self.dividing += 1;
            return vec![Action::SubscribeApart { epoch, channels }];
        }
        match self.again(failure, now) {
            Err(detail) => vec![Action::Refuse {
                epoch,
                channels,
                detail,
            }],
            Ok((mut actions, at_least)) => {
                actions.push(Action::Postpone {
                    epoch,
                    channels,
                    at_least,
                });
                actions
            }
        }
    }

    fn not_released(
        &mut self,
        epoch: Epoch,
        channels: Vec<Arc<str>>,
        apart: bool,
        failure: Failure,
        now: Instant,
    ) -> Vec<Action> {
        if !apart && divides(&channels, &failure) {
            return vec![Action::ReleaseApart { epoch, channels }];
        }
        match self.again(failure, now) {
            Err(detail) => vec![Action::RefuseRelease {
                epoch,
                channels,
                detail,
            }],
            Ok((mut actions, at_least)) => {
                actions.push(Action::PostponeRelease {
                    epoch,
                    channels,
                    at_least,
                });
                actions
            }
        }
    }

    /// What is done first, and after how long at least the venue may be told again; its words, if it has refused.
    fn again(&mut self, failure: Failure, now: Instant) -> Result<(Vec<Action>, Duration), String> {
        let Failure { detail, recovery } = failure;
        match recovery {
            // The channels stay wanted: the private ones are asked for when authorization is
            // back, the others a little later.
            Recovery::Reauthenticate if self.regrants < REGRANTS => {
                Ok((self.reauthorize(detail, now), Duration::ZERO))
            }
            // A connection that ended, or an answer that was lost, refuses nothing.
            Recovery::Retry | Recovery::Reconcile => Ok((Vec::new(), Duration::ZERO)),
            Recovery::RetryAfter(at_least) => Ok((Vec::new(), at_least)),
            Recovery::Reauthenticate | Recovery::Stop => Err(detail),
        }
    }

    /// The channels that are wanted, as the platform's requests. Sent at once if the session may.
    pub fn on_wishes(&mut self, epoch: Epoch, batches: Vec<Batch>) -> Vec<Action> {
        self.ask(epoch, batches, false)
    }

    /// Channels that were asked for together and refused together, each by itself.
    pub fn on_wishes_apart(&mut self, epoch: Epoch, batches: Vec<Batch>) -> Vec<Action> {
        self.dividing = self.dividing.saturating_sub(1);
        self.ask(epoch, batches, true)
    }

    fn ask(&mut self, epoch: Epoch, batches: Vec<Batch>, apart: bool) -> Vec<Action> {
        if self.epoch() != Some(epoch) {
            return Vec::new();
        }
        match &mut self.state {
            State::Restoring { asked, .. } => *asked = true,
            State::Live { .. } => {}
            State::Offline | State::Opening { .. } | State::Abandoned => return Vec::new(),
        }
        let mut actions: Vec<Action> = batches
            .into_iter()
            .map(|batch| self.call(batch.call.clone(), Purpose::Subscribe { batch, apart }))
            .collect();
        actions.extend(self.live_if_restored());
        actions
    }

    /// Channels that are wanted no more on the connection of `epoch`; what the venue says to that is told.
    pub fn on_released(&mut self, epoch: Epoch, batches: Vec<Batch>) -> Vec<Action> {
        let release = |batch| Purpose::Release {
            batch,
            apart: false,
        };
        self.unsubscribe(epoch, batches, release)
    }

    /// The same channels, each by itself.
    pub fn on_released_apart(&mut self, epoch: Epoch, batches: Vec<Batch>) -> Vec<Action> {
        let release = |batch| Purpose::Release { batch, apart: true };
        self.unsubscribe(epoch, batches, release)
    }

    /// Channels that are subscribed afresh on the connection of `epoch`, being still wanted: `first` unsubscribes
    /// them, `then` subscribes them.
    pub fn on_broken(&mut self, epoch: Epoch, first: Vec<Batch>, then: Vec<Batch>) -> Vec<Action> {
        let mut actions = self.unsubscribe(epoch, first, |_| Purpose::Unsubscribe);
        actions.extend(self.on_wishes(epoch, then));
        actions
    }

    fn unsubscribe(
        &mut self,
        epoch: Epoch,
        batches: Vec<Batch>,
        purpose: impl Fn(Batch) -> Purpose,
    ) -> Vec<Action> {
        match self.state {
            State::Restoring { epoch: open, .. } | State::Live { epoch: open } if open == epoch => {
                let calls = batches.into_iter();
                calls
                    .map(|batch| self.call(batch.call.clone(), purpose(batch)))
                    .collect()
            }
            State::Offline
            | State::Opening { .. }
            | State::Restoring { .. }
            | State::Live { .. }
            | State::Abandoned => Vec::new(),
        }
    }

    /// Somebody was told by the venue that we are not authorized.
    pub fn on_unauthorized(&mut self, detail: String, now: Instant) -> Vec<Action> {
        match self.state {
            State::Restoring { .. } | State::Live { .. } => self.reauthorize(detail, now),
            State::Offline | State::Opening { .. } | State::Abandoned => Vec::new(),
        }
    }

    /// Time has passed; call it at [`Establish::next_timeout`].
    pub fn on_tick(&mut self, now: Instant) -> Vec<Action> {
        let Some(held) = &mut self.held else {
            return Vec::new();
        };
        let Some(renew_at) = held.renew_at else {
            return Vec::new();
        };
        if now < renew_at {
            return Vec::new();
        }
        held.renew_at = None;
        match held.renewal.clone() {
            Some(call) => vec![self.call(call, Purpose::Renew)],
            None => vec![self.authenticate(Purpose::Renew)],
        }
    }

    /// When `on_tick` wants to be called.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Instant> {
        self.held.as_ref().and_then(|held| held.renew_at)
    }

    /// Whether the answer under this tag grants something.
    #[must_use]
    pub fn grants(&self, tag: Tag) -> bool {
        matches!(
            self.in_flight.get(&tag),
            Some(
                Purpose::Authenticate
                    | Purpose::Regrant
                    | Purpose::Complete { .. }
                    | Purpose::Renew
            )
        )
    }

    /// The opening step whose answer comes under this tag, by its name.
    #[must_use]
    pub fn step(&self, tag: Tag) -> Option<&str> {
        match self.in_flight.get(&tag) {
            Some(Purpose::Step(step)) => Some(step),
            _ => None,
        }
    }

    /// The batch whose answer comes under this tag.
    #[must_use]
    pub fn batch(&self, tag: Tag) -> Option<&Batch> {
        match self.in_flight.get(&tag) {
            Some(Purpose::Subscribe { batch, .. }) => Some(batch),
            _ => None,
        }
    }

    /// The batch whose end is answered under this tag.
    #[must_use]
    pub fn release(&self, tag: Tag) -> Option<&Batch> {
        match self.in_flight.get(&tag) {
            Some(Purpose::Release { batch, .. }) => Some(batch),
            _ => None,
        }
    }

    /// Why the call under this tag is made, for a recording; `None` if a user's wish is the reason.
    #[must_use]
    pub fn mark(&self, tag: Tag) -> Option<Mark> {
        match self.in_flight.get(&tag)? {
            Purpose::Step(_) => Some(Mark::Opening),
            Purpose::Authenticate
            | Purpose::Regrant
            | Purpose::Complete { .. }
            | Purpose::Renew => Some(Mark::Authentication),
            Purpose::Subscribe { .. } if !self.is_live() => Some(Mark::Restore),
            Purpose::Subscribe { .. } | Purpose::Release { .. } | Purpose::Unsubscribe => None,
        }
    }

    /// Whether the session is live.
    #[must_use]
    pub fn is_live(&self) -> bool {
        matches!(self.state, State::Live { .. })
    }

    fn epoch(&self) -> Option<Epoch> {
        match self.state {
            State::Opening { epoch, .. }
            | State::Restoring { epoch, .. }
            | State::Live { epoch } => Some(epoch),
            State::Offline | State::Abandoned => None,
        }
    }

    fn next_step(&mut self) -> Vec<Action> {
        let State::Opening { epoch, steps } = &mut self.state else {
            return Vec::new();
        };
        let epoch = *epoch;
        match steps.pop_front() {
            Some(Step::Call(call)) => {
                let name = call.method().to_owned();
                vec![self.call(call, Purpose::Step(name))]
            }
            Some(Step::Authenticate) => vec![self.authenticate(Purpose::Authenticate)],
            None => {
                self.state = State::Restoring {
                    epoch,
                    asked: false,
                };
                vec![Action::AskWishes { epoch }]
            }
        }
    }

    fn subscribed(&mut self, batch: Batch, confirmed: &[Arc<str>]) -> Vec<Action> {
        let Some(epoch) = self.epoch() else {
            return Vec::new();
        };
        let (channels, missing): (Vec<_>, Vec<_>) = batch
            .channels
            .into_iter()
            .partition(|channel| confirmed.contains(channel));
        let mut actions = Vec::new();
        if !channels.is_empty() {
            self.regrants = 0;
            actions.push(Action::Confirm { epoch, channels });
        }
        if !missing.is_empty() {
            let detail = "the venue left it out of its list of subscribed channels".to_owned();
            actions.push(Action::Refuse {
                epoch,
                channels: missing,
                detail,
            });
        }
        actions.extend(self.live_if_restored());
        actions
    }

    fn released(&self, batch: Batch, confirmed: &[Arc<str>]) -> Vec<Action> {
        let Some(epoch) = self.epoch() else {
            return Vec::new();
        };
        let (channels, missing): (Vec<_>, Vec<_>) = batch
            .channels
            .into_iter()
            .partition(|channel| confirmed.contains(channel));
        let mut actions = Vec::new();
        if !channels.is_empty() {
            actions.push(Action::ConfirmRelease { epoch, channels });
        }
        if !missing.is_empty() {
            let detail = "the venue left it out of its list of unsubscribed channels".to_owned();
            actions.push(Action::RefuseRelease {
                epoch,
                channels: missing,
                detail,
            });
        }
        actions
    }

    fn live_if_restored(&mut self) -> Option<Action> {
        let State::Restoring { epoch, asked: true } = self.state else {
            return None;
        };
        let waiting = self
            .in_flight
            .values()
            .any(|purpose| matches!(purpose, Purpose::Subscribe { .. }));
        if waiting || self.dividing > 0 {
            return None;
        }
        self.state = State::Live { epoch };
        Some(Action::Live { epoch })
    }

    /// Credentials were accepted, on a fresh connection or on one in use.
    fn granted(&mut self, grant: Option<Grant>, regrant: bool, now: Instant) -> Vec<Action> {
        let mut grant = grant.unwrap_or_default();
        if let Some(call) = grant.then.take() {
            let step = call.method().to_owned();
            return vec![self.call(call, Purpose::Complete { step, regrant })];
        }
        self.hold(Some(grant), now);
        match regrant {
            true => vec![Action::AskPrivateWishes],
            false => self.next_step(),
        }
    }

    fn hold(&mut self, grant: Option<Grant>, now: Instant) {
        let grant = grant.unwrap_or_default();
        self.ever_granted = true;
        // What lasts longer than the clock can hold lasts for ever.
        let at = |after: Duration| now.checked_add(after);
        let renew_after = |lasts: Duration| {
            let after = grant.renew_after.unwrap_or(lasts.mul_f64(RENEW_AFTER));
            after.min(lasts).max(RENEW_AT_MOST_EVERY)
        };
        let lasts = grant.lasts.filter(|lasts| *lasts < FOR_EVER);
        self.held = Some(Held {
            since: now,
            renewal: grant.renewal,
            renew_at: lasts.and_then(|lasts| at(renew_after(lasts))),
            expires_at: lasts.and_then(at),
        });
    }

    fn renewal_failed(&mut self, failure: Failure, now: Instant) -> Vec<Action> {
        let expired = self.expired(now);
        match failure.recovery {
            Recovery::Retry | Recovery::RetryAfter(_) | Recovery::Reconcile if !expired => {
                if let Some(held) = &mut self.held {
                    let again = now + RENEW_AGAIN;
                    held.renew_at = Some(held.expires_at.map_or(again, |end| again.min(end)));
                }
                Vec::new()
            }
            _ => self.reauthorize(failure.detail, now),
        }
    }

    /// The connection on which authorization was granted or renewed at this moment.
    #[must_use]
    pub fn authorized_at(&self, now: Instant) -> Option<Epoch> {
        let held = self.held.as_ref().filter(|held| held.since == now);
        held.and_then(|_| self.epoch())
    }

    fn expired(&self, now: Instant) -> bool {
        let end = self.held.as_ref().and_then(|held| held.expires_at);
        end.is_some_and(|end| now >= end)
    }

    /// Gives the grant up and authenticates afresh, once.
    fn reauthorize(&mut self, detail: String, now: Instant) -> Vec<Action> {
        let Some(epoch) = self.epoch() else {
            return Vec::new();
        };
        if self
            .in_flight
            .values()
            .any(|purpose| matches!(purpose, Purpose::Regrant | Purpose::Complete { .. }))
        {
            return Vec::new();
        }
        let since = self.held.take().map_or(now, |held| held.since);
        self.regrants += 1;
        self.in_flight
            .retain(|_, purpose| !matches!(purpose, Purpose::Renew));
        let authenticate = self.authenticate(Purpose::Regrant);
        vec![
            Action::AuthorizationLost {
                epoch,
                since,
                detail,
            },
            authenticate,
        ]
    }

    fn abandon(&mut self, epoch: Epoch, step: String, failure: Failure) -> Vec<Action> {
        self.in_flight.clear();
        self.held = None;
        self.state = State::Abandoned;
        // Credentials that were never accepted will not be accepted next time either.
        let recovery = match failure.recovery {
            Recovery::Reauthenticate if self.ever_granted => Recovery::Retry,
            Recovery::Reauthenticate => Recovery::Stop,
            other => other,
        };
        vec![Action::Abandon {
            epoch,
            step,
            detail: failure.detail,
            recovery,
        }]
    }

    fn call(&mut self, call: Call, purpose: Purpose) -> Action {
        let tag = self.tag(purpose);
        Action::Call { tag, call }
    }

    fn authenticate(&mut self, purpose: Purpose) -> Action {
        let tag = self.tag(purpose);
        Action::Authenticate { tag }
    }

    fn tag(&mut self, purpose: Purpose) -> Tag {
        let tag = Tag(self.next_tag);
        self.next_tag += 1;
        self.in_flight.insert(tag, purpose);
        tag
    }
}

/// Whether a batch that the venue has refused for good as a whole may hold channels that it does not refuse.
fn divides(channels: &[Arc<str>], failure: &Failure) -> bool {
    channels.len() > 1 && matches!(failure.recovery, Recovery::Stop)
}

#[cfg(test)]
mod tests;
