//! When a queue that fills up is told of: once, while there is still room.
//!
//! Apart from the queues because all of them are judged alike, and because whoever is told wants to hear of it before
//! anything is lost, and not again with every message.
//!
//! ```text
//!          four fifths or more: told                    less than three fifths
//!  Below ------------------------------> Above ------------------------------------> Below
//! ```
//!
//! Invariants: between two tellings the queue was below [`CALM`], and at least [`APART`] has passed.

use std::time::{Duration, Instant};

/// The share, in fifths, from which on a queue is told of.
pub const FULL: usize = 4;
/// The share, in fifths, below which it may be told of again.
pub const CALM: usize = 3;
/// The least time between two tellings.
pub const APART: Duration = Duration::from_secs(1);

/// How much of a queue is taken: of the items, and of the bytes, that it may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Level {
    /// What waits.
    pub waiting: usize,
    /// What may.
    pub capacity: usize,
    /// The bytes of what waits; 0 where nobody counts them.
    pub bytes: usize,
    /// The bytes that may.
    pub max_bytes: usize,
}

impl Level {
    /// A queue whose bytes nobody counts.
    #[must_use]
    pub fn of(waiting: usize, capacity: usize) -> Self {
        Self {
            waiting,
            capacity,
            bytes: 0,
            max_bytes: usize::MAX,
        }
    }

    /// How much of it is taken, from 0 to 1, and above if it holds more than it may: the larger of the two shares.
    #[must_use]
    pub fn share(self) -> f64 {
        let share = |part: usize, whole: usize| part as f64 / whole.max(1) as f64;
        share(self.waiting, self.capacity).max(share(self.bytes, self.max_bytes))
    }

    /// Whether it is so full that it is told of.
    #[inline]
    #[must_use]
    pub fn is_full(self) -> bool {
        self.reaches(FULL)
    }

    /// Whether it is so empty that it may be told of again.
    #[must_use]
    pub fn is_calm(self) -> bool {
        !self.reaches(CALM)
    }

    #[inline]
    fn reaches(self, fifths: usize) -> bool {
        let reaches = |part: usize, whole: usize| {
            part.saturating_mul(5) >= whole.saturating_mul(fifths) && part > 0
        };
        reaches(self.waiting, self.capacity) || reaches(self.bytes, self.max_bytes)
    }
}

/// Remembers whether a queue has been told of.
#[derive(Debug, Default)]
pub struct HighWater {
    above: bool,
    told: Option<Instant>,
}

impl HighWater {
    /// More has come in. Whether it is to be told of now.
    #[inline]
    #[must_use]
    pub fn on_rise(&mut self, level: Level, now: Instant) -> bool {
        if !level.is_full() {
            self.on_fall(level);
            return false;
        }
        let again = self.told.is_none_or(|told| now >= told + APART);
        if self.above || !again {
            return false;
        }
        self.above = true;
        self.told = Some(now);
        true
    }

    /// Whether it has been told of and was not calm since, as far as is known.
    #[must_use]
    pub fn is_above(&self) -> bool {
        self.above
    }

    /// Something has been taken out.
    #[inline]
    pub fn on_fall(&mut self, level: Level) {
        self.above &= level.reaches(CALM);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn it_is_told_of_once_until_it_has_been_calm() {
        let (mut queue, now) = (HighWater::default(), Instant::now());
        let rise = |queue: &mut HighWater, waiting, after| {
            queue.on_rise(Level::of(waiting, 10), now + after)
        };
        assert!(!rise(&mut queue, 7, Duration::ZERO));
        assert!(rise(&mut queue, 8, Duration::ZERO));
        assert!(!rise(&mut queue, 10, 2 * APART));
        queue.on_fall(Level::of(6, 10));
        assert!(!rise(&mut queue, 9, 3 * APART), "it was never calm");
        queue.on_fall(Level::of(5, 10));
        assert!(rise(&mut queue, 9, 3 * APART));
    }

    #[test]
    fn what_swings_from_empty_to_full_is_told_of_once_a_second() {
        let (mut queue, now) = (HighWater::default(), Instant::now());
        let mut told = 0;
        for millis in 0..3000 {
            let now = now + Duration::from_millis(millis);
            told += usize::from(queue.on_rise(Level::of(1, 1), now));
            queue.on_fall(Level::of(0, 1));
        }
        assert_eq!(told, 3);
    }

    #[test]
    fn what_filled_up_too_soon_after_the_last_time_is_told_of_when_it_is_still_full_then() {
        let (mut queue, now) = (HighWater::default(), Instant::now());
        assert!(queue.on_rise(Level::of(9, 10), now));
        queue.on_fall(Level::of(0, 10));
        assert!(!queue.on_rise(Level::of(9, 10), now + APART / 2));
        assert!(queue.on_rise(Level::of(9, 10), now + APART));
    }

    #[test]
    fn bytes_count_as_items_do() {
        let level = |bytes| Level {
            bytes,
            max_bytes: 1000,
            ..Level::of(1, 100)
        };
        let (mut queue, now) = (HighWater::default(), Instant::now());
        assert!(!queue.on_rise(level(799), now));
        assert!(queue.on_rise(level(800), now));
        assert!((level(800).share() - 0.8).abs() < 1e-9);
    }

    proptest! {
        #[test]
        fn between_two_tellings_it_was_calm_and_time_has_passed(
            steps in prop::collection::vec((0_usize..12, any::<bool>(), 0_u64..700), 1..200),
        ) {
            let (mut queue, mut now) = (HighWater::default(), Instant::now());
            let (mut last, mut calm) = (None::<Instant>, true);
            for (waiting, rise, millis) in steps {
                now += Duration::from_millis(millis);
                let level = Level::of(waiting, 10);
                let told = rise && queue.on_rise(level, now);
                if !rise {
                    queue.on_fall(level);
                }
                calm |= waiting < 6;
                if told {
                    prop_assert!(waiting >= 8 && calm);
                    prop_assert!(last.is_none_or(|last| now >= last + APART));
                    (last, calm) = (Some(now), false);
                }
            }
        }
    }
}
