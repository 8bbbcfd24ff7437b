//! How full a queue is, in four words, and when the word changes.
//!
//! Apart because producers and alerts want a level, and a level that is told of once.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

/// How full a queue is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Pressure {
    /// Less than a quarter.
    #[default]
    None,
    /// A quarter or more.
    Low,
    /// Half or more.
    Medium,
    /// Three quarters or more.
    High,
}

impl Pressure {
    /// The level of `size` in a queue for `capacity`.
    #[must_use]
    pub fn of(size: usize, capacity: usize) -> Self {
        let quarters = size.saturating_mul(4) / capacity.max(1);
        match quarters {
            0 => Self::None,
            1 => Self::Low,
            2 => Self::Medium,
            _ => Self::High,
        }
    }

    /// How long to hold back: nothing, one, two or four times the `interval`.
    #[must_use]
    pub fn delay(self, interval: Duration) -> Duration {
        match self {
            Self::None => Duration::ZERO,
            Self::Low => interval,
            Self::Medium => interval.saturating_mul(2),
            Self::High => interval.saturating_mul(4),
        }
    }

    /// A short, constant word for logs.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
        }
    }
}

impl fmt::Display for Pressure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

/// A queue's level became another one.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PressureChange {
    /// The pool's name.
    pub pool: String,
    /// What it is now.
    pub level: Pressure,
    /// What it was.
    pub previous: Pressure,
    /// How many wait.
    pub queued: usize,
    /// How many may.
    pub capacity: usize,
}

/// Remembers the level that was told of last.
#[derive(Debug)]
pub(super) struct Gauge {
    pool: String,
    level: Pressure,
}

impl Gauge {
    pub(super) fn new(pool: String) -> Self {
        Self {
            pool,
            level: Pressure::None,
        }
    }

    /// The change, if the level is another one.
    pub(super) fn on_fill(&mut self, queued: usize, capacity: usize) -> Option<PressureChange> {
        let level = Pressure::of(queued, capacity);
        let previous = std::mem::replace(&mut self.level, level);
        (level != previous).then(|| PressureChange {
            pool: self.pool.clone(),
            level,
            previous,
            queued,
            capacity,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_levels_begin_at_a_quarter_half_and_three_quarters() {
        let level = |size| Pressure::of(size, 100);
        assert_eq!((level(0), level(24)), (Pressure::None, Pressure::None));
        assert_eq!((level(25), level(49)), (Pressure::Low, Pressure::Low));
        assert_eq!((level(50), level(74)), (Pressure::Medium, Pressure::Medium));
        assert_eq!((level(75), level(100)), (Pressure::High, Pressure::High));
    }

    #[test]
    fn the_suggested_delay_is_nothing_one_two_or_four_intervals() {
        let second = Duration::from_secs(1);
        let all = [
            Pressure::None,
            Pressure::Low,
            Pressure::Medium,
            Pressure::High,
        ];
        let delays = all.map(|level| level.delay(second).as_secs());
        assert_eq!(delays, [0, 1, 2, 4]);
    }

    #[test]
    fn a_level_is_told_of_once_with_the_one_before() {
        let mut gauge = Gauge::new("requests".to_owned());
        assert_eq!(gauge.on_fill(24, 100), None);
        let change = gauge.on_fill(60, 100).expect("a change");
        assert_eq!(
            (change.level, change.previous),
            (Pressure::Medium, Pressure::None)
        );
        assert_eq!(gauge.on_fill(61, 100), None);
        let change = gauge.on_fill(0, 100).expect("a change");
        assert_eq!(
            (change.level, change.previous),
            (Pressure::None, Pressure::Medium)
        );
    }
}
