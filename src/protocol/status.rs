//! Where a session stands in its life, which steps between these places are legal, and the last steps taken.
//!
//! Apart from the session's state because that says what is true now, and this says how it came about: a
//! person who looks at three in the morning wants the way, with times and reasons.
//!
//! ```text
//!   Initialized --> Connecting ----> Establishing --> Live
//!                       |   ^             ^  |          |
//!                       |   +--+          |  |          |
//!                       v      |          |  v          |
//!                      Down <--|----------|--+<---------+
//!                       |      |          |
//!                       +--> Reconnecting +          anything --> Ended
//! ```
//!
//! Invariants: nothing follows `Ended`; a step to where the session is already is no step; the history is
//! bounded and its numbers rise by one, so that a reader sees what it has missed.

use std::collections::VecDeque;
use std::fmt;
use std::time::Instant;

use serde::Serialize;

use super::continuity::Epoch;
use crate::close::CloseReason;
use crate::error::EndReason;

/// Where a session stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Status {
    /// Made, and nothing tried yet.
    Initialized,
    /// The first connection is being sought.
    Connecting,
    /// A connection is open; authenticating, preparing, restoring.
    Establishing,
    /// Authenticated and restored: requests and subscriptions go through.
    Live,
    /// Without a connection, before the next attempt.
    Down,
    /// A connection is being sought again.
    Reconnecting,
    /// Over for good.
    Ended,
}

impl Status {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Initialized,
        Self::Connecting,
        Self::Establishing,
        Self::Live,
        Self::Down,
        Self::Reconnecting,
        Self::Ended,
    ];

    /// Whether a session that stands here may stand there next.
    ///
    /// ```
    /// use mainstay::Status;
    ///
    /// assert!(Status::Live.can_become(Status::Down));
    /// assert!(!Status::Down.can_become(Status::Live), "a connection has to be opened first");
    /// ```
    #[must_use]
    pub fn can_become(self, next: Self) -> bool {
        match self {
            Self::Initialized => matches!(next, Self::Connecting | Self::Ended),
            Self::Connecting | Self::Reconnecting => {
                matches!(next, Self::Establishing | Self::Down | Self::Ended)
            }
            Self::Establishing => matches!(next, Self::Live | Self::Down | Self::Ended),
            Self::Live => matches!(next, Self::Down | Self::Ended),
            Self::Down => matches!(next, Self::Reconnecting | Self::Ended),
            Self::Ended => false,
        }
    }

    /// A short, constant word for logs and tables.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Initialized => "initialized",
            Self::Connecting => "connecting",
            Self::Establishing => "establishing",
            Self::Live => "live",
            Self::Down => "down",
            Self::Reconnecting => "reconnecting",
            Self::Ended => "ended",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.label())
    }
}

/// Why a session went from one status to another.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Why {
    /// An attempt began.
    Attempt,
    /// The connection of this epoch opened.
    Opened(Epoch),
    /// The session was established on the connection of this epoch.
    Established(Epoch),
    /// The connection, or the attempt, ended.
    Closed(CloseReason),
    /// The session ended.
    Ended(EndReason),
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Attempt => f.write_str("an attempt began"),
            Self::Opened(epoch) => write!(f, "connection {epoch} opened"),
            Self::Established(epoch) => write!(f, "established on connection {epoch}"),
            Self::Closed(reason) => reason.fmt(f),
            Self::Ended(reason) => reason.fmt(f),
        }
    }
}

/// One step of a session's life.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Transition {
    /// Which step it was, counted from 1.
    pub number: u64,
    /// When.
    pub at: Instant,
    /// From where.
    pub from: Status,
    /// To where.
    pub to: Status,
    /// Why.
    pub why: Why,
}

impl fmt::Display for Transition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            number,
            from,
            to,
            why,
            ..
        } = self;
        write!(f, "{number}: {from} -> {to}: {why}")
    }
}

/// The present status and the last steps.
#[derive(Debug)]
pub struct StatusHistory {
    status: Status,
    steps: VecDeque<Transition>,
    /// Steps ever taken.
    count: u64,
    capacity: usize,
}

impl StatusHistory {
    /// Initialized, with room for the last `capacity` steps.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self {
            status: Status::Initialized,
            steps: VecDeque::new(),
            count: 0,
            capacity,
        }
    }

    /// The session stands at `next`. The steps that led there: none if it stood there already or cannot get
    /// there, two if the news of the place between came too late or not at all.
    pub fn on_status(&mut self, next: Status, why: &Why, now: Instant) -> Vec<Transition> {
        let status = self.status;
        if status == next {
            return Vec::new();
        }
        if status.can_become(next) {
            return vec![self.step(next, why.clone(), now)];
        }
        let between = |place: &Status| status.can_become(*place) && place.can_become(next);
        match Status::ALL.into_iter().find(between) {
            Some(place) => vec![
                self.step(place, why.clone(), now),
                self.step(next, why.clone(), now),
            ],
            None => Vec::new(),
        }
    }

    fn step(&mut self, next: Status, why: Why, now: Instant) -> Transition {
        self.count += 1;
        let step = Transition {
            number: self.count,
            at: now,
            from: self.status,
            to: next,
            why,
        };
        self.status = next;
        if self.steps.len() == self.capacity {
            self.steps.pop_front();
        }
        if self.capacity > 0 {
            self.steps.push_back(step.clone());
        }
        step
    }

    /// An attempt began: the first one, or one more.
    pub fn on_attempt(&mut self, now: Instant) -> Vec<Transition> {
        let next = match self.status {
            Status::Initialized | Status::Connecting => Status::Connecting,
            Status::Establishing
            | Status::Live
            | Status::Down
            | Status::Reconnecting
            | Status::Ended => Status::Reconnecting,
        };
        self.on_status(next, &Why::Attempt, now)
    }

    /// Where the session stands.
    #[must_use]
    pub fn status(&self) -> Status {
        self.status
    }

    /// Steps ever taken.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The last steps, the oldest first.
    #[must_use]
    pub fn steps(&self) -> Vec<Transition> {
        self.steps.iter().cloned().collect()
    }

    /// Whether a step after number `since` led to `status`, as far as the history reaches.
    #[must_use]
    pub fn passed(&self, status: Status, since: u64) -> bool {
        let later = self.steps.iter().rev();
        later
            .take_while(|step| step.number > since)
            .any(|step| step.to == status)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_table_of_legal_steps_is_this_one() {
        use Status::{Connecting, Down, Ended, Establishing, Initialized, Live, Reconnecting};
        let legal = [
            (Initialized, vec![Connecting, Ended]),
            (Connecting, vec![Establishing, Down, Ended]),
            (Establishing, vec![Live, Down, Ended]),
            (Live, vec![Down, Ended]),
            (Down, vec![Reconnecting, Ended]),
            (Reconnecting, vec![Establishing, Down, Ended]),
            (Ended, vec![]),
        ];
        for (from, next) in legal {
            for to in Status::ALL {
                assert_eq!(from.can_become(to), next.contains(&to), "{from} -> {to}");
            }
        }
    }

    #[test]
    fn an_attempt_after_the_first_is_a_reconnect() {
        let now = Instant::now();
        let mut history = StatusHistory::new(4);
        let first = history.on_attempt(now);
        assert_eq!((first[0].number, first[0].to), (1, Status::Connecting));
        assert!(
            history.on_attempt(now).is_empty(),
            "it is connecting already"
        );
        let reason = Why::Closed(CloseReason::Eof);
        assert_eq!(history.on_status(Status::Down, &reason, now).len(), 1);
        assert_eq!(history.on_attempt(now)[0].to, Status::Reconnecting);
    }

    #[test]
    fn news_that_comes_late_leaves_no_illegal_step() {
        let now = Instant::now();
        let mut history = StatusHistory::new(9);
        let _ = history.on_attempt(now);
        let _ = history.on_status(Status::Establishing, &Why::Attempt, now);
        let _ = history.on_status(Status::Live, &Why::Attempt, now);
        let steps = history.on_attempt(now);
        let places: Vec<_> = steps.iter().map(|step| step.to).collect();
        assert_eq!(places, [Status::Down, Status::Reconnecting]);
    }

    #[test]
    fn nothing_follows_the_end() {
        let now = Instant::now();
        let mut history = StatusHistory::new(9);
        let _ = history.on_status(Status::Ended, &Why::Ended(EndReason::Shutdown), now);
        for status in Status::ALL {
            assert!(history.on_status(status, &Why::Attempt, now).is_empty());
        }
    }

    proptest! {
        #[test]
        fn a_history_is_bounded_linked_and_legal(
            wanted in prop::collection::vec(0..7_usize, 0..200),
            capacity in 0..10_usize,
        ) {
            let now = Instant::now();
            let mut history = StatusHistory::new(capacity);
            let mut taken = 0;
            for index in wanted {
                let mut place = history.status();
                for step in history.on_status(Status::ALL[index], &Why::Attempt, now) {
                    taken += 1;
                    prop_assert!(place.can_become(step.to) && step.from == place);
                    place = step.to;
                }
                prop_assert_eq!(history.status(), place);
            }
            prop_assert_eq!(history.count(), taken);
            let steps = history.steps();
            prop_assert!(steps.len() <= capacity);
            for pair in steps.windows(2) {
                prop_assert_eq!(pair[0].to, pair[1].from);
                prop_assert_eq!(pair[0].number + 1, pair[1].number);
            }
        }
    }
}
