//! Several places that offer the same: which one the next attempt goes to, and when to go back to the first.
//!
//! Apart from the backoff, which says *when* the next attempt comes, and from the breaker, which says whether anybody
//! may come at all: this says *where to*.
//!
//! ```text
//!           an end that counts against it            time, a proof, a probe that it answers
//!   100 ---------------------------------> 0..99 ------------------------------------------> 100
//!    |  an end that says never
//!    +-------------------------> refused ------- a probe that it answers ------------------> 100
//! ```
//!
//! Invariants: a score stays between 0 and 100; nothing that rests is chosen while another is ready, and nothing that
//! is refused while another is not; of equal scores the one that was named first is chosen. Absent on purpose: a clock,
//! a random number, and URLs: a place is its number in the order of preference.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::close::CloseReason;
use crate::error::{ConnectError, Phase, Recovery};

/// How an attempt, or the connection that it led to, ended: as far as it tells something about the place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Ending {
    /// Nobody answered: no name, no TCP connection, no TLS. Costs 50 points.
    Unreached,
    /// The opening handshake was refused, or not answered in time. Costs 40 points.
    Refused,
    /// The connection was lost. Costs 30 points if that was before it had proved stable, and nothing else.
    Lost,
    /// It was silent, its feed was, or it did not read. Costs 30 points.
    Silent,
    /// It was refused in a way that another attempt does not cure: HTTP 401, 403 or 404, a certificate that is not
    /// accepted. The place is passed over while there is another.
    Never,
    /// Nothing that could be held against the place, such as a close of our own.
    Other,
}

impl Ending {
    /// What this reason says about the place that was connected to.
    #[must_use]
    pub fn of(reason: &CloseReason) -> Self {
        match reason {
            CloseReason::NotOpened(error) => Self::of_error(error),
            CloseReason::Silent { .. }
            | CloseReason::Mute { .. }
            | CloseReason::WriteStalled { .. } => Self::Silent,
            CloseReason::Peer { .. }
            | CloseReason::Eof
            | CloseReason::Io { .. }
            | CloseReason::Protocol { .. }
            | CloseReason::NotUtf8
            | CloseReason::TooBig { .. } => Self::Lost,
            CloseReason::NotEstablished { recovery, .. } => match recovery {
                // Credentials that are refused here are refused everywhere.
                Recovery::Stop => Self::Other,
                Recovery::Retry
                | Recovery::RetryAfter(_)
                | Recovery::Reauthenticate
                | Recovery::Reconcile => Self::Lost,
            },
            CloseReason::Local { .. }
            | CloseReason::Reconnect
            | CloseReason::FailBack
            | CloseReason::Hook { .. }
            | CloseReason::ActorEnded { .. } => Self::Other,
        }
    }

    /// What a failed opening says about the place.
    #[must_use]
    pub fn of_error(error: &Arc<ConnectError>) -> Self {
        match &**error {
            ConnectError::Refused { .. } => match error.recovery() {
                Recovery::Stop => Self::Never,
                Recovery::Retry
                | Recovery::RetryAfter(_)
                | Recovery::Reauthenticate
                | Recovery::Reconcile => Self::Refused,
            },
            ConnectError::Certificate { .. } => Self::Never,
            ConnectError::Handshake { .. } => Self::Refused,
            ConnectError::Timeout { phase, .. } => match phase {
                Phase::Dns | Phase::Tcp | Phase::Tls => Self::Unreached,
                Phase::Upgrade | Phase::Auth => Self::Refused,
                Phase::FirstData => Self::Silent,
                // These are ours.
                Phase::Gate | Phase::Socket => Self::Other,
            },
            ConnectError::Dns { .. }
            | ConnectError::Tcp { .. }
            | ConnectError::Tls { .. }
            | ConnectError::Io { .. } => Self::Unreached,
            ConnectError::Config { .. } | ConnectError::Record { .. } => Self::Other,
        }
    }

    /// Thousandths of a point.
    fn cost(self) -> u32 {
        match self {
            Self::Unreached => 50_000,
            Self::Refused => 40_000,
            Self::Lost | Self::Silent => 30_000,
            Self::Never => FULL,
            Self::Other => 0,
        }
    }
}

/// How one place stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Standing {
    /// From 0 to 100; the highest is connected to next.
    pub score: u8,
    /// Whether it is passed over while another one remains.
    pub refused: bool,
    /// Until when it has asked to be left alone, an hour at most.
    pub rests_until: Option<Instant>,
}

#[derive(Debug, Clone)]
struct Place {
    /// Thousandths of a point at `since`; time adds to it.
    score: u32,
    since: Instant,
    refused: bool,
    rests_until: Option<Instant>,
    /// How often a session has gone back to it since it last proved stable.
    returns: u32,
}

/// The machine. See the module's documentation.
#[derive(Debug, Clone)]
pub struct Endpoints {
    places: Vec<Place>,
    stable_after: Duration,
    present: usize,
    /// Where the next attempt goes whatever the scores say. Set by a probe, cleared by the next end.
    planned: Option<usize>,
    /// Since when the session is live at the present place. Cleared by its end, and by the proof.
    live_since: Option<Instant>,
    /// Whether the present connection has proved stable. Cleared by its end.
    proven: bool,
    /// Attempts and connections that have ended.
    ends: usize,
}

impl Endpoints {
    /// `count` places, at least one, of which nothing bad is known. A session that has been live for `stable_after`
    /// proves that its place is well.
    #[must_use]
    pub fn new(count: usize, stable_after: Duration, now: Instant) -> Self {
        let place = Place {
            score: FULL,
            since: now,
            refused: false,
            rests_until: None,
            returns: 0,
        };
        Self {
            places: vec![place; count.max(1)],
            stable_after,
            present: 0,
            planned: None,
            live_since: None,
            proven: false,
            ends: 0,
        }
    }

    /// Where the present attempt, or its connection, goes; before the first the one that was named first.
    #[must_use]
    pub fn present(&self) -> usize {
        self.present
    }

    /// Chooses where the next attempt goes. `closed` says of a place whether, and until when, its breaker lets nobody
    /// pass. The best that is ready; if none is, the one that is ready first.
    pub fn choose(
        &mut self,
        closed: impl Fn(usize) -> Option<Option<Instant>>,
        now: Instant,
    ) -> usize {
        let everybody = self.all_refused();
        let mut ready: Option<(usize, u32)> = None;
        let mut waiting: Option<(usize, Option<Instant>)> = None;
        for (index, place) in self.places.iter().enumerate() {
            if place.refused && !everybody {
                continue;
            }
            match self.closed_until(index, closed(index), now) {
                None => {
                    let score = match self.planned == Some(index) {
                        true => FULL + 1,
                        false => place.score_at(now),
                    };
                    if ready.is_none_or(|(_, best)| score > best) {
                        ready = Some((index, score));
                    }
                }
                Some(until) => {
                    if waiting.is_none_or(|(_, first)| is_before(until, first)) {
                        waiting = Some((index, until));
                    }
                }
            }
        }
        let ready = ready.map(|(index, _)| index);
        let first = waiting.map(|(index, _)| index);
        self.present = ready.or(first).unwrap_or_default();
        self.present
    }

    /// The session is live at the present place.
    pub fn on_live(&mut self, now: Instant) {
        self.live_since = Some(now);
    }

    /// The present connection has proved that its place is well, by whatever counts as that.
    pub fn on_proven(&mut self, now: Instant) {
        self.proven = true;
        self.live_since = None;
        self.places[self.present].mend(now);
        self.places[self.present].returns = 0;
    }

    /// The attempt at the present place, or its connection, has ended; `rest` is how long the place asks to be left
    /// alone.
    pub fn on_end(&mut self, ending: Ending, rest: Option<Duration>, now: Instant) {
        self.settle(now);
        let proven = std::mem::take(&mut self.proven);
        self.live_since = None;
        self.planned = self.planned.filter(|planned| *planned != self.present);
        self.ends = self.ends.saturating_add(1);
        if !(proven && ending == Ending::Lost) {
            self.places[self.present].fall(ending, now);
        }
        self.rest(self.present, rest, now);
    }

    /// Another place than the present one was tried with a connection that serves no session. If it answered, the
    /// next attempt goes there.
    pub fn on_probe(
        &mut self,
        index: usize,
        outcome: Result<(), Ending>,
        rest: Option<Duration>,
        now: Instant,
    ) {
        let Some(place) = self.places.get_mut(index) else {
            return;
        };
        match outcome {
            Ok(()) => {
                place.mend(now);
                place.returns = place.returns.saturating_add(1);
                self.planned = Some(index);
            }
            Err(ending) => {
                place.fall(ending, now);
                self.rest(index, rest, now);
            }
        }
    }

    /// The places that are preferred to the present one and do not rest, the first one first. One that was refused is
    /// among them: only a probe can tell that it no longer is.
    #[must_use]
    pub fn preferred(&self, now: Instant) -> Vec<usize> {
        let before = 0..self.present;
        let rests = |index: &usize| self.places[*index].rests(now).is_some();
        before.filter(|index| !rests(index)).collect()
    }

    /// How long to stay before a preferred place is tried, where `after` is configured: up to half as long again, so
    /// that many sessions do not come at once, and twice as long for each return that did not last, sixteen times at
    /// most.
    #[must_use]
    pub fn fail_back_in(&self, after: Duration, random: u64) -> Duration {
        // Whoever is not there any more, and has proved nothing, has gone back in vain.
        let returns = self.places[..self.present].iter().map(|one| one.returns);
        let in_vain = returns.max().unwrap_or_default().min(DOUBLINGS);
        let base = after.saturating_mul(1 << in_vain);
        let share = u32::try_from(random >> 32).unwrap_or(u32::MAX);
        let extra = base.as_secs_f64() / 2.0 * f64::from(share) / f64::from(u32::MAX);
        base.saturating_add(Duration::try_from_secs_f64(extra).unwrap_or_default())
    }

    /// Whether no place is left that another attempt might find willing.
    #[must_use]
    pub fn all_refused(&self) -> bool {
        self.places.iter().all(|place| place.refused)
    }

    /// Whether as many attempts have ended as there are places.
    #[must_use]
    pub fn all_tried(&self) -> bool {
        self.ends >= self.places.len()
    }

    /// How long it takes until a place is ready that is not refused; zero if one is.
    #[must_use]
    pub fn rest_left(&self, now: Instant) -> Duration {
        let everybody = self.all_refused();
        let open = self.places.iter().filter(|one| everybody || !one.refused);
        let left = open.map(|place| {
            let until = place.rests(now);
            until.map_or(Duration::ZERO, |until| until.saturating_duration_since(now))
        });
        left.min().unwrap_or_default()
    }

    /// How each place stands, in the order of preference.
    #[must_use]
    pub fn standings(&mut self, now: Instant) -> Vec<Standing> {
        self.settle(now);
        let places = self.places.iter();
        let standing = |place: &Place| Standing {
            score: u8::try_from(place.score_at(now) / 1000).unwrap_or(100),
            refused: place.refused,
            rests_until: place.rests(now),
        };
        places.map(standing).collect()
    }

    fn settle(&mut self, now: Instant) {
        if let Some(since) = self.live_since
            && now.saturating_duration_since(since) >= self.stable_after
        {
            self.on_proven(now);
        }
    }

    /// As a breaker says it: `None` where it is ready.
    fn closed_until(
        &self,
        index: usize,
        closed: Option<Option<Instant>>,
        now: Instant,
    ) -> Option<Option<Instant>> {
        match (closed, self.places[index].rests(now)) {
            (None, None) => None,
            (None, Some(rest)) => Some(Some(rest)),
            (Some(until), None) => Some(until),
            (Some(until), Some(rest)) => Some(until.map(|until| until.max(rest))),
        }
    }

    fn rest(&mut self, index: usize, rest: Option<Duration>, now: Instant) {
        if let Some(rest) = rest {
            let place = &mut self.places[index];
            let until = now + rest.min(LONGEST_REST);
            place.rests_until = place.rests_until.max(Some(until));
        }
    }
}

impl Place {
    fn score_at(&self, now: Instant) -> u32 {
        let passed = now.saturating_duration_since(self.since).as_millis();
        let back = passed * u128::from(FULL) / RECOVERY.as_millis();
        let back = u32::try_from(back).unwrap_or(FULL).min(FULL);
        (self.score + back).min(FULL)
    }

    fn fall(&mut self, ending: Ending, now: Instant) {
        self.score = self.score_at(now).saturating_sub(ending.cost());
        self.since = now;
        self.refused |= ending == Ending::Never;
    }

    fn mend(&mut self, now: Instant) {
        self.score = FULL;
        self.since = now;
        self.refused = false;
        self.rests_until = None;
    }

    fn rests(&self, now: Instant) -> Option<Instant> {
        self.rests_until.filter(|until| *until > now)
    }
}

/// Whether the one comes before the other; `None` is a time that nobody knows.
fn is_before(one: Option<Instant>, other: Option<Instant>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => one < other,
        (Some(_), None) => true,
        (None, _) => false,
    }
}

/// A hundred points.
const FULL: u32 = 100_000;
/// How long it takes from nothing to a hundred points.
const RECOVERY: Duration = Duration::from_secs(300);
/// So many times the wait before a return is doubled at most.
const DOUBLINGS: u32 = 4;
/// The longest rest that a place may ask for.
const LONGEST_REST: Duration = Duration::from_secs(3600);

#[cfg(test)]
mod tests;
