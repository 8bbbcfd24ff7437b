//! How long something took, over many times: a histogram with a bounded error and bounded memory.
//!
//! Apart from the counters because an average hides what hurts; here the 99th percentile is kept.
//!
//! Invariants: three significant digits from 1 µs to 60 s; what is longer counts as 60 s, what is
//! shorter as 1 µs; memory is taken with the first record and grows with the longest time seen.
//! Absent on purpose: a clock, decay, windows.

use std::fmt;
use std::time::Duration;

use hdrhistogram::Histogram;

/// Times recorded so far.
#[derive(Debug, Clone, Default)]
pub struct LatencyHistogram {
    /// Set by the first record: most sessions keep several of these and fill few.
    microseconds: Option<Histogram<u64>>,
}

/// What a [`LatencyHistogram`] says. All zero if nothing was recorded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LatencySummary {
    /// How many times were recorded.
    pub count: u64,
    /// The shortest.
    pub min: Duration,
    /// Half of them were at most this long.
    pub p50: Duration,
    /// Nine of ten were at most this long.
    pub p90: Duration,
    /// Ninety-nine of a hundred were at most this long.
    pub p99: Duration,
    /// The longest.
    pub max: Duration,
}

impl LatencyHistogram {
    /// An empty histogram.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Counts one time.
    pub fn record(&mut self, time: Duration) {
        let microseconds = time.as_micros().clamp(SHORTEST, LONGEST) as u64;
        let histogram = self.allocated();
        // Only `record` grows the histogram; it refuses nothing below the limit that was applied.
        if histogram.record(microseconds).is_err() {
            histogram.saturating_record(microseconds);
        }
    }

    /// Adds all that `other` has counted.
    pub fn merge(&mut self, other: &Self) {
        if let Some(theirs) = &other.microseconds {
            self.allocated()
                .add(theirs)
                .expect("every histogram here resizes itself up to the same longest time");
        }
    }

    /// The counts at a glance.
    #[must_use]
    pub fn summary(&self) -> LatencySummary {
        let Some(histogram) = self
            .microseconds
            .as_ref()
            .filter(|histogram| !histogram.is_empty())
        else {
            return LatencySummary::default();
        };
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

    fn allocated(&mut self) -> &mut Histogram<u64> {
        self.microseconds
            .get_or_insert_with(|| Histogram::new(3).expect("three digits are within the limits"))
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

const SHORTEST: u128 = 1;
const LONGEST: u128 = 60_000_000;

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
    fn a_summary_is_one_line() {
        let text = recorded(&[Duration::from_millis(1)]).summary().to_string();
        assert_eq!(text, "1 times, min 1ms, p50 1ms, p90 1ms, p99 1ms, max 1ms");
    }

    proptest! {
        #[test]
        fn percentiles_are_ordered_and_exact_to_three_digits(
            micros in prop::collection::vec(1_u64..60_000_000, 1..200)
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
        fn merging_equals_recording_all(
            left in prop::collection::vec(0_u64..100_000_000, 0..50),
            right in prop::collection::vec(0_u64..100_000_000, 0..50),
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
