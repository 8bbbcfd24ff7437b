//! How far the venue's clock is from ours, and how sure that is.
//!
//! Apart because it is arithmetic over readings: who asks, and when an answer came, belongs to the
//! session.
//!
//! A reading is taken to be of the middle of its round trip, as NTP does (RFC 5905, section 8), so that
//! half the round trip is what it may be wrong by. A reading that is worse than what is known is kept out
//! until what is known has aged enough, or is proven wrong.
//!
//! Invariants: the truth lies within `uncertainty` of `offset` if both clocks run right; the machine reads
//! no clock. Absent on purpose: steering our own clock.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::call::Call;

/// What to ask a venue for its time, and how often.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct TimeQuestion {
    /// The request.
    pub call: Call,
    /// How often it is asked while the session is live.
    pub every: Duration,
}

impl TimeQuestion {
    /// The question `call`, asked this often.
    #[must_use]
    pub fn new(call: Call, every: Duration) -> Self {
        Self { call, every }
    }
}

/// What a venue said about its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reading {
    /// Since the Unix epoch, rounded down.
    pub since_epoch: Duration,
    /// To what it was rounded.
    pub resolution: Duration,
}

impl Reading {
    /// A time in whole milliseconds, as most venues tell it.
    #[must_use]
    pub fn milliseconds(since_epoch: u64) -> Self {
        Self {
            since_epoch: Duration::from_millis(since_epoch),
            resolution: Duration::from_millis(1),
        }
    }
}

/// How far the venue's clock is from ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct VenueTime {
    /// What has to be added to our wall clock, in microseconds; negative if the venue's is behind.
    pub offset_micros: i64,
    /// By how much that may have been wrong when it was measured.
    pub uncertainty: Duration,
    /// The round trip that it was measured with.
    pub round_trip: Duration,
    /// When it was measured.
    pub measured: Instant,
}

impl VenueTime {
    /// The venue's time when our wall clock shows `ours`.
    #[must_use]
    pub fn at(&self, ours: SystemTime) -> SystemTime {
        let offset = Duration::from_micros(self.offset_micros.unsigned_abs());
        let theirs = match self.offset_micros >= 0 {
            true => ours.checked_add(offset),
            false => ours.checked_sub(offset),
        };
        theirs.unwrap_or(ours)
    }

    /// By how much it may be wrong at `now`: clocks drift apart by up to 50 parts in a million.
    #[must_use]
    pub fn uncertainty_at(&self, now: Instant) -> Duration {
        let age = now.saturating_duration_since(self.measured);
        self.uncertainty + age.mul_f64(DRIFT)
    }
}

/// The machine: when to ask, and what to believe.
#[derive(Debug)]
pub struct VenueClock {
    every: Duration,
    held: Option<VenueTime>,
    /// When to ask next; set while live, cleared while a question is under way and by a close.
    due: Option<Instant>,
}

/// How fast two ordinary clocks drift apart.
const DRIFT: f64 = 50e-6;
/// The pause after a question that was not answered.
const AGAIN: Duration = Duration::from_secs(5);

impl VenueClock {
    /// Nothing is known; asks this often.
    #[must_use]
    pub fn new(every: Duration) -> Self {
        Self {
            every,
            held: None,
            due: None,
        }
    }

    /// The session is live: questions may be asked.
    pub fn on_live(&mut self, now: Instant) {
        let fresh = self
            .held
            .and_then(|held| held.measured.checked_add(self.every));
        self.due = Some(fresh.map_or(now, |due| due.max(now)));
    }

    /// The connection ended. What is known stays known, and ages.
    pub fn on_closed(&mut self) {
        self.due = None;
    }

    /// A reading came: asked when our wall clock showed `sent`, answered after `round_trip`.
    pub fn on_reading(
        &mut self,
        sent: SystemTime,
        round_trip: Duration,
        reading: Reading,
        now: Instant,
    ) {
        self.due = now.checked_add(self.every);
        let Some(new) = measure(sent, round_trip, reading, now) else {
            return;
        };
        let believed = self.held.is_none_or(|held| {
            let known = held.uncertainty_at(now);
            let apart = Duration::from_micros(new.offset_micros.abs_diff(held.offset_micros));
            // One of our clocks was set, if the two cannot both be true.
            new.uncertainty <= known || apart > known + new.uncertainty
        });
        if believed {
            self.held = Some(new);
        }
    }

    /// A question was not answered with a time.
    pub fn on_failure(&mut self, now: Instant) {
        self.due = now.checked_add(AGAIN.min(self.every));
    }

    /// Time has passed; whether to ask now.
    #[must_use]
    pub fn on_tick(&mut self, now: Instant) -> bool {
        let ask = self.due.is_some_and(|due| now >= due);
        if ask {
            self.due = None;
        }
        ask
    }

    /// When `on_tick` wants to be called.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Instant> {
        self.due
    }

    /// What is known.
    #[must_use]
    pub fn known(&self) -> Option<VenueTime> {
        self.held
    }
}

fn measure(
    sent: SystemTime,
    round_trip: Duration,
    reading: Reading,
    now: Instant,
) -> Option<VenueTime> {
    let half = round_trip / 2;
    let ours = sent.duration_since(UNIX_EPOCH).ok()?.checked_add(half)?;
    let theirs = reading.since_epoch.checked_add(reading.resolution / 2)?;
    let offset_micros = match theirs >= ours {
        true => i64::try_from((theirs - ours).as_micros()).ok()?,
        false => -i64::try_from((ours - theirs).as_micros()).ok()?,
    };
    Some(VenueTime {
        offset_micros,
        uncertainty: half + reading.resolution / 2 + Duration::from_micros(1),
        round_trip,
        measured: now,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const EVERY: Duration = Duration::from_secs(300);
    const EPOCH_SECONDS: u64 = 1_700_000_000;

    fn wall(milliseconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(EPOCH_SECONDS * 1000 + milliseconds)
    }

    fn reading(milliseconds: u64) -> Reading {
        Reading::milliseconds(EPOCH_SECONDS * 1000 + milliseconds)
    }

    fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    #[test]
    fn half_the_round_trip_is_taken_off() {
        let mut clock = VenueClock::new(EVERY);
        let now = Instant::now();
        clock.on_reading(wall(0), ms(40), reading(1020), now);
        let known = clock.known().unwrap();
        assert_eq!(known.offset_micros, 1_000_500);
        assert_eq!(known.uncertainty, Duration::from_micros(20_501));
        assert_eq!(
            known.at(wall(0)),
            wall(0) + Duration::from_micros(1_000_500)
        );
    }

    #[test]
    fn a_venue_that_is_behind_has_a_negative_offset() {
        let mut clock = VenueClock::new(EVERY);
        clock.on_reading(wall(5_000), ms(10), reading(2_005), Instant::now());
        let known = clock.known().unwrap();
        assert_eq!(known.offset_micros, -2_999_500);
        assert_eq!(known.at(wall(3_000)), wall(0) + Duration::from_micros(500));
    }

    #[test]
    fn it_asks_when_live_and_again_after_the_interval_and_not_while_it_is_down() {
        let mut clock = VenueClock::new(EVERY);
        let now = Instant::now();
        assert_eq!(clock.next_timeout(), None);
        clock.on_live(now);
        assert!(clock.on_tick(now));
        assert!(!clock.on_tick(now), "one question at a time");
        clock.on_reading(wall(0), ms(1), reading(0), now);
        assert_eq!(clock.next_timeout(), Some(now + EVERY));
        clock.on_closed();
        assert_eq!(clock.next_timeout(), None);
        assert!(clock.known().is_some());
        clock.on_live(now + ms(1));
        assert_eq!(
            clock.next_timeout(),
            Some(now + EVERY),
            "it is known already"
        );
    }

    #[test]
    fn a_failed_question_is_asked_again_soon() {
        let mut clock = VenueClock::new(EVERY);
        let now = Instant::now();
        clock.on_failure(now);
        assert_eq!(clock.next_timeout(), Some(now + Duration::from_secs(5)));
    }

    #[test]
    fn a_slow_answer_does_not_replace_a_fast_one_until_that_has_aged() {
        let mut clock = VenueClock::new(EVERY);
        let now = Instant::now();
        clock.on_reading(wall(0), ms(10), reading(5), now);
        let first = clock.known();
        clock.on_reading(wall(0), ms(100), reading(20), now);
        assert_eq!(clock.known(), first);
        // An hour makes 180 ms of drift.
        let later = now + Duration::from_secs(3600);
        clock.on_reading(wall(0), ms(100), reading(20), later);
        assert_ne!(clock.known(), first);
    }

    #[test]
    fn a_clock_that_was_set_is_noticed_even_by_a_slow_answer() {
        let mut clock = VenueClock::new(EVERY);
        let now = Instant::now();
        clock.on_reading(wall(0), ms(2), reading(1), now);
        clock.on_reading(wall(60_000), ms(400), reading(200), now);
        assert_eq!(clock.known().unwrap().offset_micros, -59_999_500);
    }

    proptest! {
        /// Whatever the way there and the way back took, the truth is within the uncertainty.
        #[test]
        fn the_truth_lies_within_the_uncertainty(
            there in 0_u64..2_000_000,
            back in 0_u64..2_000_000,
            truth in -3_600_000_000_i64..3_600_000_000,
            start in 0_u64..1_000_000_000,
        ) {
            let sent = UNIX_EPOCH + Duration::from_secs(EPOCH_SECONDS) + Duration::from_micros(start);
            let read = sent + Duration::from_micros(there);
            let theirs = match truth >= 0 {
                true => read + Duration::from_micros(truth.unsigned_abs()),
                false => read - Duration::from_micros(truth.unsigned_abs()),
            };
            let said = theirs.duration_since(UNIX_EPOCH).unwrap().as_millis() as u64;
            let mut clock = VenueClock::new(EVERY);
            let trip = Duration::from_micros(there + back);
            clock.on_reading(sent, trip, Reading::milliseconds(said), Instant::now());
            let known = clock.known().unwrap();
            let wrong = Duration::from_micros(known.offset_micros.abs_diff(truth));
            prop_assert!(wrong <= known.uncertainty, "{wrong:?} of {:?}", known.uncertainty);
        }
    }
}
