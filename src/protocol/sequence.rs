//! Whether a channel's messages follow each other without a hole, by the venue's own numbers.
//!
//! Apart from any venue because there are few ways to number messages, and every book and trade stream
//! uses one of them. Whoever reads a message states its [`Step`]; the check says what that means.
//!
//! ```text
//!              Snapshot                 Linked or Range with a hole: Broken
//!   Waiting --------------> Following --------------------------------------> Waiting
//!      |      first Next    ^  |  ^ |
//!      +--------------------+  |  | | Next with a hole: Broken, and go on from there
//!      ^        reset          |  +-+
//!      +-----------------------+
//! ```
//!
//! Invariants: a hole is reported once; a message that was seen before never breaks anything; after a
//! hole in the deltas of a state everything is ignored until a snapshot, since it cannot be applied.

/// A message's place, in the venue's terms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The whole state, up to and including `current`.
    Snapshot {
        /// Its number.
        current: u64,
    },
    /// A delta of the state that names its predecessor; numbers need not be consecutive (Deribit's
    /// book: `prev_change_id`, `change_id`).
    Linked {
        /// The number of the message before.
        previous: u64,
        /// Its own.
        current: u64,
    },
    /// A message that stands alone, numbered without holes (Deribit's `trade_seq`). The first one that
    /// is seen begins the count.
    Next {
        /// Its number.
        current: u64,
    },
    /// A message that stands alone and holds several items, numbered without holes each (several trades
    /// of Deribit at once). The first one that is seen begins the count.
    Run {
        /// The first number.
        first: u64,
        /// The last number.
        last: u64,
    },
    /// A delta of the state that covers several consecutive numbers (Binance's book: `U`, `u`).
    Range {
        /// The first number.
        first: u64,
        /// The last number.
        last: u64,
    },
}

/// What a [`Step`] means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Verdict {
    /// It follows what came before: use it.
    Contiguous,
    /// It was seen before: drop it.
    Duplicate,
    /// Something is missing before it. A [`Step::Next`] or [`Step::Run`] can be used all the same; a
    /// delta cannot, and the channel has to be subscribed to afresh.
    Broken {
        /// The number that should have come.
        expected: u64,
        /// The number that came.
        found: u64,
    },
    /// A snapshot: forget what came before and use it.
    Resynced,
    /// A delta without a state to apply it to: drop it, a snapshot is to come.
    Ignored,
}

/// The check of one channel.
#[derive(Debug, Clone, Copy, Default)]
pub struct SequenceCheck {
    state: State,
}

#[derive(Debug, Clone, Copy, Default)]
enum State {
    #[default]
    Waiting,
    Following {
        last: u64,
    },
}

impl SequenceCheck {
    /// A check that has seen nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Judges the next message.
    pub fn on_step(&mut self, step: Step) -> Verdict {
        let State::Following { last: seen } = self.state else {
            return self.begin(step);
        };
        match step {
            Step::Snapshot { .. } => self.begin(step),
            Step::Linked { previous, current } if previous == seen => self.follow(current),
            Step::Linked { current, .. } if current <= seen => Verdict::Duplicate,
            Step::Linked { previous, .. } => self.lose(seen, previous),
            Step::Next { current } => self.stand_alone(seen, current, current),
            Step::Run { first, last } => self.stand_alone(seen, first, last),
            Step::Range { last, .. } if last <= seen => Verdict::Duplicate,
            Step::Range { first, last } => {
                let expected = seen.saturating_add(1);
                if first <= expected {
                    self.follow(last)
                } else {
                    self.lose(expected, first)
                }
            }
        }
    }

    /// A new connection: what comes next has no predecessor.
    pub fn reset(&mut self) {
        self.state = State::Waiting;
    }

    fn begin(&mut self, step: Step) -> Verdict {
        match step {
            Step::Snapshot { current } => {
                self.state = State::Following { last: current };
                Verdict::Resynced
            }
            Step::Next { current } => self.follow(current),
            Step::Run { last, .. } => self.follow(last),
            Step::Linked { .. } | Step::Range { .. } => Verdict::Ignored,
        }
    }

    fn stand_alone(&mut self, seen: u64, first: u64, last: u64) -> Verdict {
        if last <= seen {
            return Verdict::Duplicate;
        }
        let expected = seen.saturating_add(1);
        self.state = State::Following { last };
        if first <= expected {
            Verdict::Contiguous
        } else {
            Verdict::Broken {
                expected,
                found: first,
            }
        }
    }

    fn follow(&mut self, last: u64) -> Verdict {
        self.state = State::Following { last };
        Verdict::Contiguous
    }

    fn lose(&mut self, expected: u64, found: u64) -> Verdict {
        self.state = State::Waiting;
        Verdict::Broken { expected, found }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn snapshot(current: u64) -> Step {
        Step::Snapshot { current }
    }

    fn linked(previous: u64, current: u64) -> Step {
        Step::Linked { previous, current }
    }

    fn next(current: u64) -> Step {
        Step::Next { current }
    }

    fn run(first: u64, last: u64) -> Step {
        Step::Run { first, last }
    }

    fn range(first: u64, last: u64) -> Step {
        Step::Range { first, last }
    }

    fn broken(expected: u64, found: u64) -> Verdict {
        Verdict::Broken { expected, found }
    }

    #[test]
    fn the_rules_hold_by_example() {
        use Verdict::{Contiguous, Duplicate, Ignored, Resynced};
        let tables: [&[(Step, Verdict)]; 9] = [
            &[
                (snapshot(10), Resynced),
                (linked(10, 17), Contiguous),
                (linked(17, 18), Contiguous),
            ],
            &[
                (linked(1, 2), Ignored),
                (snapshot(10), Resynced),
                (linked(10, 11), Contiguous),
            ],
            &[
                (snapshot(10), Resynced),
                (linked(12, 15), broken(10, 12)),
                (linked(15, 16), Ignored),
                (snapshot(20), Resynced),
                (linked(20, 21), Contiguous),
            ],
            &[
                (snapshot(10), Resynced),
                (linked(5, 9), Duplicate),
                (linked(5, 10), Duplicate),
            ],
            // A venue may set its numbers back, as long as it names the predecessor.
            &[
                (snapshot(10), Resynced),
                (linked(10, 3), Contiguous),
                (linked(3, 4), Contiguous),
            ],
            &[
                (next(7), Contiguous),
                (next(8), Contiguous),
                (next(8), Duplicate),
                (next(11), broken(9, 11)),
                (next(10), Duplicate),
                (next(12), Contiguous),
            ],
            &[
                (run(7, 9), Contiguous),
                (next(10), Contiguous),
                (run(9, 10), Duplicate),
                (run(10, 12), Contiguous),
                (run(14, 15), broken(13, 14)),
                (run(16, 16), Contiguous),
            ],
            &[
                (range(1, 3), Ignored),
                (snapshot(10), Resynced),
                (range(8, 10), Duplicate),
                (range(9, 12), Contiguous),
                (range(13, 13), Contiguous),
                (range(15, 16), broken(14, 15)),
                (range(17, 18), Ignored),
            ],
            &[
                (next(u64::MAX), Contiguous),
                (next(0), Duplicate),
                (next(u64::MAX), Duplicate),
            ],
        ];
        for table in tables {
            let mut check = SequenceCheck::new();
            for (step, verdict) in table {
                assert_eq!(check.on_step(*step), *verdict, "{step:?} in {table:?}");
            }
        }
    }

    #[test]
    fn a_reset_forgets_the_predecessor() {
        let mut check = SequenceCheck::new();
        assert_eq!(check.on_step(next(7)), Verdict::Contiguous);
        check.reset();
        assert_eq!(check.on_step(next(99)), Verdict::Contiguous);
        check.reset();
        assert_eq!(check.on_step(linked(99, 100)), Verdict::Ignored);
    }

    /// A snapshot and changes whose numbers rise by `steps`.
    fn log(steps: &[u64]) -> Vec<Step> {
        let mut current = 100;
        let mut log = vec![snapshot(current)];
        for step in steps {
            log.push(linked(current, current + step));
            current += step;
        }
        log
    }

    fn verdicts(log: &[Step]) -> Vec<Verdict> {
        let mut check = SequenceCheck::new();
        log.iter().map(|step| check.on_step(*step)).collect()
    }

    fn breaks(log: &[Step]) -> usize {
        verdicts(log)
            .iter()
            .filter(|verdict| matches!(verdict, Verdict::Broken { .. }))
            .count()
    }

    proptest! {
        #[test]
        fn one_missing_change_is_reported_exactly_once(
            steps in prop::collection::vec(1_u64..50, 2..40),
            at in any::<prop::sample::Index>(),
        ) {
            let mut log = log(&steps);
            prop_assert_eq!(breaks(&log), 0);
            // Neither the snapshot, nor the last change, whose loss nothing can show.
            log.remove(1 + at.index(steps.len() - 1));
            prop_assert_eq!(breaks(&log), 1);
        }

        #[test]
        fn a_duplicate_never_breaks(
            steps in prop::collection::vec(1_u64..50, 1..40),
            which in any::<prop::sample::Index>(),
            later in any::<prop::sample::Index>(),
        ) {
            let mut log = log(&steps);
            let which = 1 + which.index(steps.len());
            let later = which + 1 + later.index(log.len() - which);
            log.insert(later, log[which]);
            let verdicts = verdicts(&log);
            prop_assert_eq!(verdicts[later], Verdict::Duplicate);
            prop_assert_eq!(breaks(&log), 0);
        }

        #[test]
        fn one_missing_event_is_reported_exactly_once(count in 3_u64..60, at in any::<prop::sample::Index>()) {
            let missing = 1 + at.index(count as usize - 2) as u64;
            let log: Vec<_> = (0..count).filter(|n| *n != missing).map(next).collect();
            prop_assert_eq!(breaks(&log), 1);
        }
    }
}
