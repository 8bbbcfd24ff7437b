//! How long something took, over many times: a histogram with a bounded error and bounded memory.
//!
//! Apart from the counters because an average hides what hurts; here the 99th percentile is kept. A
//! [`LatencyHistogram`] knows all times, [`LatencyStats`] also the latest ones exactly.
//!
//! Invariants: three significant digits from 1 µs to 60 s, or to what [`LatencyHistogram::up_to`] was given; what is
//! longer counts as that, what is shorter as 1 µs; memory grows with how many times were recorded, until a histogram
//! takes less, and then with the longest.
//! Absent on purpose: a clock, decay.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use super::serial;

/// Times recorded so far.
#[derive(Debug, Clone)]
pub struct LatencyHistogram {
    microseconds: Recorded,
    /// In microseconds.
    longest: u64,
}

/// Most sessions keep several of these and fill few, and an empty histogram of three digits takes 16 kB.
#[derive(Debug, Clone)]
enum Recorded {
    /// As they came, [`FEW`] at most.
    Few(Vec<u64>),
    Many(Box<Histogram<u64>>),
}

/// Times that are kept as they came.
const FEW: usize = 128;

impl Recorded {
    fn record(&mut self, microseconds: u64) {
        match self {
            Self::Few(times) if times.len() < FEW => times.push(microseconds),
            Self::Few(_) => {
                let mut many = self.take();
                count(&mut many, microseconds);
                *self = Self::Many(many);
            }
            Self::Many(histogram) => count(histogram, microseconds),
        }
    }

    /// All of them, as three digits tell them.
    fn histogram(&self) -> Cow<'_, Histogram<u64>> {
        match self {
            Self::Few(times) => {
                let mut histogram = Histogram::new(3).expect("three digits are within the limits");
                for time in times {
                    count(&mut histogram, *time);
                }
                Cow::Owned(histogram)
            }
            Self::Many(histogram) => Cow::Borrowed(histogram),
        }
    }

    /// All of them, which are here no more.
    fn take(&mut self) -> Box<Histogram<u64>> {
        match std::mem::replace(self, Self::Few(Vec::new())) {
            Self::Many(histogram) => histogram,
            few @ Self::Few(_) => Box::new(few.histogram().into_owned()),
        }
    }

    fn is_empty(&self) -> bool {
        matches!(self, Self::Few(times) if times.is_empty())
    }
}

/// Only this grows a histogram; it refuses nothing below the limit that was applied.
fn count(histogram: &mut Histogram<u64>, microseconds: u64) {
    if histogram.record(microseconds).is_err() {
        histogram.saturating_record(microseconds);
    }
}

/// What a [`LatencyHistogram`] says. All zero if nothing was recorded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct LatencySummary {
    /// How many times were recorded.
    pub count: u64,
    /// The shortest.
    #[serde(rename = "min_us", serialize_with = "serial::micros")]
    pub min: Duration,
    /// Half of them were at most this long.
    #[serde(rename = "p50_us", serialize_with = "serial::micros")]
    pub p50: Duration,
    /// Nine of ten were at most this long.
    #[serde(rename = "p90_us", serialize_with = "serial::micros")]
    pub p90: Duration,
    /// Ninety-nine of a hundred were at most this long.
    #[serde(rename = "p99_us", serialize_with = "serial::micros")]
    pub p99: Duration,
    /// The longest.
    #[serde(rename = "max_us", serialize_with = "serial::micros")]
    pub max: Duration,
}

impl LatencyHistogram {
    /// An empty histogram.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty histogram for times up to `longest`, which is a day at most.
    #[must_use]
    pub fn up_to(longest: Duration) -> Self {
        let longest = longest.clamp(SHORTEST, DAY);
        Self {
            longest: longest.as_micros() as u64,
            ..Self::default()
        }
    }

    /// Counts one time.
    pub fn record(&mut self, time: Duration) {
        let shortest = SHORTEST.as_micros();
        let microseconds = time.as_micros().clamp(shortest, self.longest.into()) as u64;
        self.microseconds.record(microseconds);
    }

    /// Adds all that `other` has counted, and its longest time.
    pub fn merge(&mut self, other: &Self) {
        self.longest = self.longest.max(other.longest);
        match &other.microseconds {
            Recorded::Few(times) => times
                .iter()
                .for_each(|time| self.microseconds.record(*time)),
            Recorded::Many(theirs) => {
                let mut all = self.microseconds.take();
                all.add(&**theirs)
                    .expect("every histogram here resizes itself up to a day");
                self.microseconds = Recorded::Many(all);
            }
        }
    }

    /// What was recorded since `earlier`, a clone of this one or what was merged into it: each time with its number.
    pub fn since(&self, earlier: &Self) -> impl Iterator<Item = (Duration, u64)> {
        let recorded = self.microseconds.histogram();
        let before = earlier.microseconds.histogram();
        let since: Vec<_> = recorded
            .iter_recorded()
            .filter_map(|step| {
                let value = step.value_iterated_to();
                // Asked for a value beyond its range, a histogram tells its last one's count.
                let known = !before.is_empty() && value <= before.max();
                let before = if known { before.count_at(value) } else { 0 };
                let count = step.count_at_value().saturating_sub(before);
                (count > 0).then(|| (Duration::from_micros(value), count))
            })
            .collect();
        since.into_iter()
    }

    /// The counts at a glance.
    #[must_use]
    pub fn summary(&self) -> LatencySummary {
        if self.microseconds.is_empty() {
            return LatencySummary::default();
        }
        let histogram = self.microseconds.histogram();
        let at = |quantile| Duration::from_micros(histogram.value_at_quantile(quantile));
        LatencySummary {
            count: histogram.len(),
            min: Duration::from_micros(histogram.min()),
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            max: Duration::from_micros(histogram.max()),
        }
    }
}

impl Default for LatencyHistogram {
    /// For times up to a minute.
    fn default() -> Self {
        Self {
            microseconds: Recorded::Few(Vec::new()),
            longest: LONGEST.as_micros() as u64,
        }
    }
}

impl fmt::Display for LatencySummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            count,
            min,
            p50,
            p90,
            p99,
            max,
        } = self;
        write!(
            f,
            "{count} times, min {min:?}, p50 {p50:?}, p90 {p90:?}, p99 {p99:?}, max {max:?}"
        )
    }
}

/// The latest times exactly, in a ring, and all of them in a histogram.
///
/// ```
/// use std::time::Duration;
/// use mainstay::protocol::latency::LatencyStats;
///
/// let mut stats = LatencyStats::new(100);
/// assert_eq!(stats.summary(), None);
/// for millis in 1..=101 {
///     stats.add(Duration::from_millis(millis));
/// }
/// let recent = stats.summary().expect("not empty");
/// assert_eq!((recent.count, recent.last), (100, Duration::from_millis(101)));
/// assert_eq!(recent.p50, Duration::from_millis(52), "of 2 to 101");
/// assert_eq!(stats.all().count, 101);
/// ```
#[derive(Debug, Clone)]
pub struct LatencyStats {
    recent: VecDeque<Duration>,
    max_size: usize,
    all: LatencyHistogram,
}

/// What the latest times say, to the microsecond.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct RecentLatency {
    /// Half of them were at most about this long.
    #[serde(rename = "p50_us", serialize_with = "serial::micros")]
    pub p50: Duration,
    /// Ninety-nine of a hundred were at most about this long.
    #[serde(rename = "p99_us", serialize_with = "serial::micros")]
    pub p99: Duration,
    /// The last one.
    #[serde(rename = "last_us", serialize_with = "serial::micros")]
    pub last: Duration,
    /// How many are kept, at most the ring's size.
    pub count: usize,
}

impl LatencyStats {
    /// Nothing recorded yet; the latest `max_size` times will be kept, at least one.
    #[must_use]
    pub fn new(max_size: usize) -> Self {
        Self {
            recent: VecDeque::new(),
            max_size: max_size.max(1),
            all: LatencyHistogram::new(),
        }
    }

    /// Counts one time; the oldest of the ring goes if it is full.
    pub fn add(&mut self, time: Duration) {
        self.all.record(time);
        if self.recent.len() == self.max_size {
            self.recent.pop_front();
        }
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.recent.push_back(Duration::from_micros(micros));
    }

    /// The time at a percentile from 0 (the shortest) to 100 (the longest) of the ring: the one at index
    /// `round(percentile / 100 * (count - 1))` when they are sorted. `None` if there is none, or no such
    /// percentile.
    #[must_use]
    pub fn percentile(&self, percentile: f64) -> Option<Duration> {
        self.at(&self.sorted(), percentile)
    }

    /// The latest times at a glance; `None` if there is none.
    #[must_use]
    pub fn summary(&self) -> Option<RecentLatency> {
        let sorted = self.sorted();
        Some(RecentLatency {
            p50: self.at(&sorted, 50.0)?,
            p99: self.at(&sorted, 99.0)?,
            last: *self.recent.back()?,
            count: sorted.len(),
        })
    }

    /// All times, not only the latest.
    #[must_use]
    pub fn all(&self) -> LatencySummary {
        self.all.summary()
    }

    /// The histogram of all times.
    #[must_use]
    pub fn histogram(&self) -> &LatencyHistogram {
        &self.all
    }

    fn sorted(&self) -> Vec<Duration> {
        let mut sorted: Vec<_> = self.recent.iter().copied().collect();
        sorted.sort_unstable();
        sorted
    }

    fn at(&self, sorted: &[Duration], percentile: f64) -> Option<Duration> {
        if !(0.0..=100.0).contains(&percentile) {
            return None;
        }
        let last = sorted.len().checked_sub(1)?;
        let index = (percentile / 100.0 * last as f64).round() as usize;
        sorted.get(index).copied()
    }
}

impl Default for LatencyStats {
    /// Keeps the latest 100.
    fn default() -> Self {
        Self::new(100)
    }
}

const SHORTEST: Duration = Duration::from_micros(1);
const LONGEST: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 3600);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn recorded(times: &[Duration]) -> LatencyHistogram {
        let mut histogram = LatencyHistogram::new();
        for time in times {
            histogram.record(*time);
        }
        histogram
    }

    #[test]
    fn nothing_recorded_is_all_zero() {
        assert_eq!(LatencyHistogram::new().summary(), LatencySummary::default());
        let mut empty = LatencyHistogram::new();
        empty.merge(&LatencyHistogram::new());
        assert_eq!(empty.summary().count, 0);
    }

    #[test]
    fn times_beyond_the_limits_count_at_the_limits() {
        let summary = recorded(&[Duration::ZERO, Duration::MAX]).summary();
        assert_eq!(summary.count, 2);
        assert_eq!(summary.min, Duration::from_micros(1));
        let limit = Duration::from_secs(60);
        assert!(
            summary.max >= limit && summary.max < limit + limit / 1000,
            "{summary}"
        );
    }

    #[test]
    fn a_histogram_for_longer_times_knows_an_hour() {
        let (hour, day) = (Duration::from_secs(3600), Duration::from_secs(24 * 3600));
        let mut histogram = LatencyHistogram::up_to(day);
        histogram.record(hour);
        let max = histogram.summary().max;
        assert!(max >= hour && max - hour <= hour / 1000, "{max:?}");
        histogram.record(Duration::MAX);
        let max = histogram.summary().max;
        assert!(max >= day && max - day <= day / 1000, "{max:?}");
        let mut short = recorded(&[Duration::from_millis(1)]);
        short.merge(&histogram);
        assert_eq!(short.summary().max, max, "merged, it reaches as far");
    }

    fn stats(max_size: usize, micros: &[u64]) -> LatencyStats {
        let mut stats = LatencyStats::new(max_size);
        for micros in micros {
            stats.add(Duration::from_micros(*micros));
        }
        stats
    }

    #[test]
    fn the_default_ring_keeps_a_hundred() {
        let mut stats = LatencyStats::default();
        for millis in 1..=101 {
            stats.add(Duration::from_millis(millis));
        }
        assert_eq!(stats.summary().map(|recent| recent.count), Some(100));
    }

    #[test]
    fn an_empty_ring_says_nothing() {
        let empty = LatencyStats::default();
        assert_eq!(empty.summary(), None);
        assert_eq!(empty.percentile(50.0), None);
    }

    #[test]
    fn a_full_ring_forgets_its_oldest() {
        let stats = stats(3, &[10, 20, 30, 40]);
        assert_eq!(stats.percentile(0.0), Some(Duration::from_micros(20)));
        assert_eq!(stats.percentile(100.0), Some(Duration::from_micros(40)));
        let summary = stats.summary().unwrap();
        assert_eq!(
            (summary.count, summary.last),
            (3, Duration::from_micros(40))
        );
        assert_eq!(stats.all().count, 4);
    }

    #[test]
    fn the_index_of_a_percentile_is_rounded() {
        let hundred: Vec<u64> = (1..=100).collect();
        let stats = stats(100, &hundred);
        for (percentile, expected) in [(0.0, 1), (50.0, 51), (99.0, 99), (100.0, 100)] {
            let expected = Some(Duration::from_micros(expected));
            assert_eq!(stats.percentile(percentile), expected, "{percentile}");
        }
        for none in [-1.0, 100.1, f64::NAN] {
            assert_eq!(stats.percentile(none), None, "{none}");
        }
    }

    #[test]
    fn a_summary_is_one_line() {
        let text = recorded(&[Duration::from_millis(1)]).summary().to_string();
        assert_eq!(text, "1 times, min 1ms, p50 1ms, p90 1ms, p99 1ms, max 1ms");
    }

    proptest! {
        #[test]
        fn percentiles_are_ordered_and_exact_to_three_digits(
            micros in prop::collection::vec(1_u64..60_000_000, 1..2 * FEW)
        ) {
            let times: Vec<_> = micros.iter().copied().map(Duration::from_micros).collect();
            let summary = recorded(&times).summary();
            let LatencySummary { count, min, p50, p90, p99, max } = summary;
            prop_assert_eq!(count, times.len() as u64);
            prop_assert!(min <= p50 && p50 <= p90 && p90 <= p99 && p99 <= max);
            let longest = times.iter().max().copied().unwrap_or_default();
            prop_assert!(max >= longest && max - longest <= longest / 1000);
        }

        #[test]
        fn what_came_since_and_what_was_before_are_all(
            before in prop::collection::vec(1_u64..100_000_000, 0..2 * FEW),
            after in prop::collection::vec(1_u64..100_000_000, 0..2 * FEW),
        ) {
            let times = |micros: &[u64]| -> Vec<Duration> {
                micros.iter().copied().map(Duration::from_micros).collect()
            };
            let earlier = recorded(&times(&before));
            let mut later = earlier.clone();
            for time in times(&after) {
                later.record(time);
            }
            let mut again = earlier.clone();
            for (time, count) in later.since(&earlier) {
                for _ in 0..count {
                    again.record(time);
                }
            }
            prop_assert_eq!(again.summary(), later.summary());
            prop_assert_eq!(later.since(&later.clone()).count(), 0);
        }

        #[test]
        fn merging_equals_recording_all(
            left in prop::collection::vec(0_u64..100_000_000, 0..2 * FEW),
            right in prop::collection::vec(0_u64..100_000_000, 0..2 * FEW),
        ) {
            let times = |micros: &[u64]| -> Vec<Duration> {
                micros.iter().copied().map(Duration::from_micros).collect()
            };
            let mut merged = recorded(&times(&left));
            merged.merge(&recorded(&times(&right)));
            let all = recorded(&times(&[left, right].concat()));
            prop_assert_eq!(merged.summary(), all.summary());
        }
    }
}
