//! How healthy a session is, as one number, and which of several is asked next.
//!
//! Apart from the pool because both are arithmetic: what is looked up, and when, is the pool's affair.
//!
//! ```text
//! score = 100 - min(10 * pending, 40) - min(p99 in ms div 25, 30) - min(15 * recent errors, 20)
//!             - (high 10, medium 6, low 3, none 0)        the pressure; only Formula::WithPressure
//! ```
//!
//! This is the score of Elixir's `zen_websocket`, both generations of it, save in one point: there a session
//! that cannot be asked scores 100, and so draws every request. Here one that is not live has no score at all,
//! and is not a candidate.
//!
//! Invariants: a score is within 0 and 100, and never rises when anything gets worse; errors are forgotten all
//! at once; among equals everybody has a turn before anybody has two. Deliberately absent: a clock.

use std::fmt;
use std::time::{Duration, Instant};

use serde::{Serialize, Serializer};

use super::limiter::Pressure;

/// How much a session is worth asking: 100 is the best, 0 the worst.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Score(u8);

impl Score {
    /// As a number from 0 to 100.
    #[must_use]
    pub fn as_u8(self) -> u8 {
        self.0
    }
}

impl fmt::Display for Score {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// What a score is made of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Formula {
    /// Requests in flight, latency, recent errors, and how full the limiter's queue is. The default.
    #[default]
    WithPressure,
    /// The same without the limiter, as since `zen_websocket` 0.7.
    Plain,
}

/// What is known of a session.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Vitals {
    /// Whether requests go through.
    pub live: bool,
    /// Requests that wait for an answer.
    pub pending: usize,
    /// How long all but one of a hundred of the latest requests took; `None` before the first answer.
    #[serde(rename = "p99_us", serialize_with = "micros")]
    pub p99: Option<Duration>,
    /// Errors that are not forgotten yet; see [`RecentErrors`].
    pub recent_errors: u32,
    /// How full the limiter's queue is.
    pub pressure: Pressure,
}

impl Vitals {
    /// Of a session that is live and has done nothing yet.
    #[must_use]
    pub fn live() -> Self {
        Self {
            live: true,
            ..Self::default()
        }
    }

    /// The score; `None` if it is not live.
    ///
    /// ```
    /// use std::time::Duration;
    /// use mainstay::protocol::health::{Formula, Vitals};
    ///
    /// let mut vitals = Vitals::live();
    /// vitals.pending = 2;
    /// vitals.p99 = Some(Duration::from_millis(110));
    /// vitals.recent_errors = 1;
    /// assert_eq!(vitals.score(Formula::Plain).unwrap().as_u8(), 100 - 20 - 4 - 15);
    ///
    /// vitals.live = false;
    /// assert_eq!(vitals.score(Formula::Plain), None);
    /// ```
    #[must_use]
    pub fn score(&self, formula: Formula) -> Option<Score> {
        if !self.live {
            return None;
        }
        let pending = capped(self.pending.saturating_mul(10) as u128, 40);
        let latency = capped(self.p99.unwrap_or_default().as_millis() / 25, 30);
        let errors = capped(u128::from(self.recent_errors) * 15, 20);
        let pressure = match formula {
            Formula::WithPressure => penalty(self.pressure),
            Formula::Plain => 0,
        };
        let penalties = pending + latency + errors + pressure;
        Some(Score(100_u8.saturating_sub(penalties)))
    }
}

fn capped(penalty: u128, most: u8) -> u8 {
    u8::try_from(penalty).unwrap_or(most).min(most)
}

fn penalty(pressure: Pressure) -> u8 {
    match pressure {
        Pressure::High => 10,
        Pressure::Medium => 6,
        Pressure::Low => 3,
        Pressure::None => 0,
    }
}

fn micros<S: Serializer>(time: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    time.map(|time| u64::try_from(time.as_micros()).unwrap_or(u64::MAX))
        .serialize(serializer)
}

/// The errors of one session, which are forgotten all at once when none has come for a while.
#[derive(Debug, Clone, Copy)]
pub struct RecentErrors {
    count: u32,
    /// Set by each error.
    latest: Option<Instant>,
    decay: Duration,
}

impl RecentErrors {
    /// None yet; they are forgotten `decay` after the latest.
    #[must_use]
    pub fn new(decay: Duration) -> Self {
        Self {
            count: 0,
            latest: None,
            decay,
        }
    }

    /// One more.
    pub fn on_error(&mut self, now: Instant) {
        self.count = self.count(now).saturating_add(1);
        self.latest = Some(now);
    }

    /// How many are not forgotten.
    #[must_use]
    pub fn count(&self, now: Instant) -> u32 {
        let fresh = |latest| now.saturating_duration_since(latest) < self.decay;
        match self.latest {
            Some(latest) if fresh(latest) => self.count,
            Some(_) | None => 0,
        }
    }
}

/// Chooses among candidates: the highest score, and among equals each in its turn.
#[derive(Debug, Clone, Default)]
pub struct Router {
    turn: usize,
}

impl Router {
    /// A router that begins with the first.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The index of the candidate to ask; `None` if nobody has a score and is not `excluded`.
    ///
    /// ```
    /// use mainstay::protocol::health::{Formula, Router, Vitals};
    ///
    /// let best = Vitals::live().score(Formula::default());
    /// let candidates = [("a", best), ("b", None), ("c", best)];
    /// let mut router = Router::new();
    /// let mut next = || router.choose(&candidates, &[]).unwrap();
    /// assert_eq!([next(), next(), next()], [0, 2, 0]);
    /// assert_eq!(router.choose(&candidates, &["a", "c"]), None);
    /// ```
    pub fn choose<K: PartialEq>(
        &mut self,
        candidates: &[(K, Option<Score>)],
        excluded: &[K],
    ) -> Option<usize> {
        let scores = || {
            let open = candidates.iter().enumerate();
            let open = open.filter(|(_, (key, _))| !excluded.contains(key));
            open.filter_map(|(index, (_, score))| Some((index, (*score)?)))
        };
        let best = scores().map(|(_, score)| score).max()?;
        let equals: Vec<usize> = scores()
            .filter(|(_, score)| *score == best)
            .map(|(index, _)| index)
            .collect();
        let chosen = equals.get(self.turn % equals.len()).copied();
        self.turn = self.turn.wrapping_add(1);
        chosen
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DECAY: Duration = Duration::from_secs(60);

    fn score(vitals: Vitals, formula: Formula) -> u8 {
        vitals.score(formula).expect("live").as_u8()
    }

    fn vitals(pending: usize, p99: u64, recent_errors: u32, pressure: Pressure) -> Vitals {
        Vitals {
            live: true,
            pending,
            p99: Some(Duration::from_millis(p99)),
            recent_errors,
            pressure,
        }
    }

    #[test]
    fn nothing_wrong_is_a_hundred() {
        assert_eq!(score(Vitals::live(), Formula::Plain), 100);
        assert_eq!(score(Vitals::live(), Formula::WithPressure), 100);
    }

    #[test]
    fn each_penalty_has_its_rate_and_its_cap() {
        let plain = |pending, p99, errors| {
            let vitals = vitals(pending, p99, errors, Pressure::High);
            score(vitals, Formula::Plain)
        };
        let pending = [0, 1, 3, 4, 5, usize::MAX].map(|pending| plain(pending, 0, 0));
        assert_eq!(pending, [100, 90, 70, 60, 60, 60]);
        let latency = [24, 25, 49, 749, 750, u64::MAX].map(|p99| plain(0, p99, 0));
        assert_eq!(latency, [100, 99, 99, 71, 70, 70]);
        let errors = [0, 1, 2, u32::MAX].map(|errors| plain(0, 0, errors));
        assert_eq!(errors, [100, 85, 80, 80]);
        assert_eq!(plain(4, 750, 2), 10, "all three at their worst");
    }

    #[test]
    fn the_older_generation_counts_the_pressure() {
        let levels = [
            Pressure::None,
            Pressure::Low,
            Pressure::Medium,
            Pressure::High,
        ];
        let older = levels.map(|level| score(vitals(0, 0, 0, level), Formula::WithPressure));
        assert_eq!(older, [100, 97, 94, 90]);
        let newer = levels.map(|level| score(vitals(0, 0, 0, level), Formula::Plain));
        assert_eq!(newer, [100; 4]);
        let worst = vitals(9, 9_999, 9, Pressure::High);
        assert_eq!(score(worst, Formula::WithPressure), 0);
    }

    #[test]
    fn a_session_that_is_not_live_has_no_score_and_is_never_chosen() {
        let down = Vitals::default();
        assert_eq!(down.score(Formula::Plain), None);
        assert_eq!(down.score(Formula::WithPressure), None);
        let candidates = [("down", None), ("down too", None)];
        assert_eq!(Router::new().choose(&candidates, &[]), None);
    }

    #[test]
    fn errors_are_forgotten_all_at_once_after_the_latest() {
        let start = Instant::now();
        let at = |secs| start + Duration::from_secs(secs);
        let mut errors = RecentErrors::new(DECAY);
        assert_eq!(errors.count(start), 0);
        errors.on_error(at(0));
        errors.on_error(at(50));
        assert_eq!(errors.count(at(60)), 2, "the first is kept by the second");
        assert_eq!(errors.count(at(109)), 2);
        assert_eq!(errors.count(at(110)), 0);
        errors.on_error(at(200));
        assert_eq!(errors.count(at(200)), 1, "what is forgotten stays so");
    }

    #[test]
    fn the_best_is_chosen_and_the_excluded_is_not() {
        let scored = |number| Some(Score(number));
        let candidates = [("a", scored(60)), ("b", scored(90)), ("c", scored(80))];
        let mut router = Router::new();
        for _ in 0..3 {
            assert_eq!(router.choose(&candidates, &[]), Some(1));
        }
        assert_eq!(router.choose(&candidates, &["b"]), Some(2));
        assert_eq!(router.choose(&candidates, &["b", "c"]), Some(0));
        assert_eq!(router.choose(&candidates, &["a", "b", "c"]), None);
    }

    #[test]
    fn vitals_are_readable_as_json() {
        let text = serde_json::to_value(vitals(1, 2, 3, Pressure::Low)).unwrap();
        let expected = serde_json::json!({
            "live": true, "pending": 1, "p99_us": 2000, "recent_errors": 3, "pressure": "low",
        });
        assert_eq!(text, expected);
    }

    fn any_pressure() -> impl Strategy<Value = Pressure> {
        prop_oneof![
            Just(Pressure::None),
            Just(Pressure::Low),
            Just(Pressure::Medium),
            Just(Pressure::High),
        ]
    }

    fn any_formula() -> impl Strategy<Value = Formula> {
        prop_oneof![Just(Formula::Plain), Just(Formula::WithPressure)]
    }

    proptest! {
        #[test]
        fn a_score_is_the_formula_and_within_its_bounds(
            pending in 0_usize..100, p99 in 0_u64..5_000, errors in 0_u32..10,
            pressure in any_pressure(), formula in any_formula(),
        ) {
            let found = i64::from(score(vitals(pending, p99, errors, pressure), formula));
            let mut expected = 100 - (10 * pending as i64).min(40) - (p99 as i64 / 25).min(30)
                - (15 * i64::from(errors)).min(20);
            if formula == Formula::WithPressure {
                expected -= i64::from(penalty(pressure));
            }
            prop_assert_eq!(found, expected.max(0));
        }

        #[test]
        fn what_gets_worse_never_scores_higher(
            pending in 0_usize..10, p99 in 0_u64..2_000, errors in 0_u32..5,
            more in 0_usize..10, longer in 0_u64..2_000, further in 0_u32..5,
            one in any_pressure(), other in any_pressure(), formula in any_formula(),
        ) {
            let better = vitals(pending, p99, errors, one.min(other));
            let worse = vitals(pending + more, p99 + longer, errors + further, one.max(other));
            prop_assert!(score(worse, formula) <= score(better, formula));
        }

        #[test]
        fn the_chosen_is_open_and_nobody_open_is_better(
            scores in prop::collection::vec(prop::option::of(0_u8..=100), 0..8),
            excluded in prop::collection::vec(0_usize..8, 0..4), turn in any::<usize>(),
        ) {
            let candidates: Vec<_> = scores.iter().map(|score| score.map(Score)).enumerate().collect();
            let open = |index: &usize| scores[*index].is_some() && !excluded.contains(index);
            let best = (0..scores.len()).filter(open).filter_map(|index| scores[index]).max();
            let mut router = Router { turn };
            match router.choose(&candidates, &excluded) {
                Some(index) => {
                    prop_assert!(open(&index));
                    prop_assert_eq!(scores[index], best);
                }
                None => prop_assert_eq!(best, None),
            }
        }

        #[test]
        fn among_equals_everybody_has_a_turn_before_anybody_has_two(
            equals in 1_usize..8, worse in 0_usize..4, rounds in 1_usize..5,
        ) {
            let scores = std::iter::repeat_n(Score(70), equals).chain(std::iter::repeat_n(Score(69), worse));
            let candidates: Vec<_> = scores.map(Some).enumerate().collect();
            let mut router = Router::new();
            for _ in 0..rounds {
                let round: std::collections::BTreeSet<_> =
                    (0..equals).filter_map(|_| router.choose(&candidates, &[])).collect();
                prop_assert!(round.into_iter().eq(0..equals));
            }
        }
    }
}
