//! What a subscription loses while its stream goes on, in stretches that a trace can show.
//!
//! Apart from the queue, which counts every message that a slow consumer loses, because a flood loses thousands in a
//! second and a span for each would be a flood of its own.
//!
//! ```text
//!            a loss, and a second since the last began                  caught up, a second
//!  Whole ----------------------------------------------> Losing ----------------------------> Whole
//! ```
//!
//! Invariants: at most one stretch begins in a [`SECOND`]; each loss is counted in one stretch: in that which is open,
//! or else in the next.

use std::time::{Duration, Instant};

/// The least time between the beginnings of two stretches, and the longest that one lasts while more is lost.
pub const SECOND: Duration = Duration::from_secs(1);

/// What to do about the span of a stretch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum LossAction {
    /// Nothing.
    Nothing,
    /// A stretch begins.
    Begin,
    /// The stretch is over; so many messages were lost in it, and since the one before.
    End(u64),
}

/// The stretches of one subscription. What is lost comes as the number of messages so far.
#[derive(Debug, Default)]
pub struct Losses {
    /// Losses that a stretch has told of.
    told: u64,
    /// When the last stretch began.
    began: Option<Instant>,
    open: bool,
}

impl Losses {
    /// Whether a stretch is open.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.open
    }

    /// Messages have come in; `lost` were dropped for want of room so far.
    #[inline]
    pub fn on_delivered(&mut self, lost: u64, now: Instant) -> LossAction {
        if lost == self.told && !self.open {
            return LossAction::Nothing;
        }
        let passed = self.began.is_none_or(|began| now >= began + SECOND);
        match (self.open, passed) {
            (true, true) => self.end(lost),
            (false, true) => {
                self.began = Some(now);
                self.open = true;
                LossAction::Begin
            }
            (true | false, false) => LossAction::Nothing,
        }
    }

    /// The consumer has caught up, or there is no consumer any more.
    pub fn on_caught_up(&mut self, lost: u64) -> LossAction {
        match self.open {
            true => self.end(lost),
            false => LossAction::Nothing,
        }
    }

    /// Nobody listens: what was lost so far is no part of any stretch.
    pub fn forget(&mut self, lost: u64) {
        self.told = lost;
        self.open = false;
    }

    fn end(&mut self, lost: u64) -> LossAction {
        self.open = false;
        let since = lost.saturating_sub(self.told);
        self.told = lost;
        LossAction::End(since)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_flood_of_losses_is_one_stretch_in_a_second() {
        let (mut losses, now) = (Losses::default(), Instant::now());
        let (mut begun, mut told) = (0, 0);
        for step in 0..=3000_u64 {
            match losses.on_delivered(10 * (step + 1), now + Duration::from_millis(step)) {
                LossAction::Begin => begun += 1,
                LossAction::End(lost) => told += lost,
                LossAction::Nothing => {}
            }
        }
        assert!((2..=4).contains(&begun), "{begun}");
        let LossAction::End(rest) = losses.on_caught_up(30_010) else {
            panic!("a stretch is open");
        };
        assert_eq!(told + rest, 30_010);
    }

    #[test]
    fn a_consumer_that_loses_nothing_has_no_stretch() {
        let (mut losses, now) = (Losses::default(), Instant::now());
        assert_eq!(losses.on_delivered(0, now), LossAction::Nothing);
        assert_eq!(losses.on_caught_up(0), LossAction::Nothing);
    }

    #[test]
    fn what_is_lost_too_soon_after_a_stretch_is_told_with_the_next() {
        let (mut losses, now) = (Losses::default(), Instant::now());
        assert_eq!(losses.on_delivered(3, now), LossAction::Begin);
        assert_eq!(losses.on_caught_up(3), LossAction::End(3));
        assert_eq!(
            losses.on_delivered(5, now + SECOND / 2),
            LossAction::Nothing
        );
        assert_eq!(losses.on_delivered(5, now + SECOND), LossAction::Begin);
        assert_eq!(losses.on_caught_up(5), LossAction::End(2));
    }

    proptest! {
        #[test]
        fn every_loss_is_told_once_and_no_two_stretches_begin_within_a_second(
            steps in prop::collection::vec((0_u64..3, any::<bool>(), 0_u64..900), 1..200),
        ) {
            let (mut losses, mut now) = (Losses::default(), Instant::now());
            let (mut lost, mut told) = (0, 0);
            let mut began = None::<Instant>;
            for (more, caught_up, millis) in steps {
                now += Duration::from_millis(millis);
                lost += more;
                let action = match caught_up {
                    true => losses.on_caught_up(lost),
                    false => losses.on_delivered(lost, now),
                };
                match action {
                    LossAction::Begin => {
                        prop_assert!(began.is_none_or(|began| now >= began + SECOND));
                        began = Some(now);
                    }
                    LossAction::End(count) => told += count,
                    LossAction::Nothing => {}
                }
                prop_assert!(told <= lost);
            }
            now += SECOND;
            // What is open ends, and what is left is told in one more.
            for _ in 0..2 {
                for action in [losses.on_delivered(lost, now), losses.on_caught_up(lost)] {
                    if let LossAction::End(count) = action {
                        told += count;
                    }
                }
            }
            prop_assert_eq!(told, lost);
        }
    }
}
