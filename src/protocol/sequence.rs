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
