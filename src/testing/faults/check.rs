//! Holds what a client's channels say against what the venue did.
//!
//! Pure, and apart from the run because a judge must not depend on who ran the case; it is tested with stories that
//! are false.
//!
//! Invariants: a story that leaves out, repeats, reorders or invents a message without a gap is found; so is a gap
//! that nothing stands behind, and a connection that was given up without need.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::log::{FaultEntry, FaultEntryKind};

/// What a subscription said.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Seen {
    /// A message with this number.
    Data {
        /// The epoch it came by.
        epoch: u64,
        /// Its number.
        number: u64,
    },
    /// Something may be missing.
    Gap {
        /// The epoch that was interrupted.
        epoch: u64,
        /// Why, in a word ([`GapCause::label`](crate::close::GapCause::label)).
        cause: &'static str,
    },
    /// It goes on.
    Resynced {
        /// In this epoch.
        epoch: u64,
    },
    /// The message that follows stands for older ones of its key, which were left out.
    Replaced {
        /// How many.
        messages: u64,
    },
    /// It is over.
    Ended,
    /// It was over and is subscribed to again: what follows is a subscription of its own.
    SubscribedAgain,
}

/// A promise that was not kept.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Violation {
    /// Of what: a channel, or a request.
    pub of: String,
    /// What is wrong.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.of, self.what)
    }
}

/// [`check_continuity`] of a channel that was subscribed to when the venue had sent `asked_at`. If its queue was
/// never too small it is heard `whole`: then each epoch begins with what its connection sent first. No connection but those
/// that have `gone` can have been interrupted, if that is known.
pub(super) fn check_heard(
    log: &[FaultEntry],
    channel: &str,
    seen: &[Seen],
    asked_at: u64,
    whole: bool,
    gone: Option<&[u64]>,
) -> Vec<Violation> {
    judged(log, channel, seen, asked_at, whole, gone)
}

/// Judges the story of one channel: the concatenation of epochs is what the venue has sent, except inside gaps;
/// nothing of an older epoch after a newer one; an epoch is one connection; a connection that ended is a gap, also when
/// nothing follows; and a gap is either an interruption or a loss.
///
/// What the script itself has said in the channel's name ([`FaultEntryKind::Forged`]) is not judged.
///
/// `seen` is all that was said from the subscription to the end of the run.
#[must_use]
pub fn check_continuity(log: &[FaultEntry], channel: &str, seen: &[Seen]) -> Vec<Violation> {
    let ends = log
        .iter()
        .filter(|entry| entry.kind == FaultEntryKind::Ended);
    let gone: Vec<u64> = ends.map(|entry| entry.connection).collect();
    judged(log, channel, seen, 0, false, Some(&gone))
}

fn judged(
    log: &[FaultEntry],
    channel: &str,
    seen: &[Seen],
    asked_at: u64,
    from_the_beginning: bool,
    gone: Option<&[u64]>,
) -> Vec<Violation> {
    let mut judge = Judge {
        channel,
        asked_at,
        from_the_beginning,
        sent: sent(log, channel),
        forged: forged(log, channel),
        ended: log
            .iter()
            .filter(|entry| entry.kind == FaultEntryKind::Ended)
            .map(|entry| entry.connection)
            .collect(),
        gone: gone.map(|gone| gone.iter().copied().collect()),
        connection: 0,
        position: None,
        epoch: 0,
        carriers: BTreeMap::new(),
        stand: Stand::Whole,
        replaced: 0,
        lagged: false,
        violations: Vec::new(),
    };
    for seen in seen {
        judge.hear(seen);
    }
    judge.end();
    judge.violations
}

/// The numbers that each connection has sent whole, in their order.
fn sent(log: &[FaultEntry], of: &str) -> BTreeMap<u64, Vec<u64>> {
    let mut sent = BTreeMap::<u64, Vec<u64>>::new();
    for entry in log {
        if let FaultEntryKind::Sent {
            channel,
            number,
            whole: true,
        } = &entry.kind
            && channel == of
        {
            sent.entry(entry.connection).or_default().push(*number);
        }
    }
    sent
}

/// The numbers that the script itself has said in the channel's name.
fn forged(log: &[FaultEntry], of: &str) -> BTreeSet<u64> {
    let forged = log.iter().filter_map(|entry| match &entry.kind {
        FaultEntryKind::Forged { channel, number } if channel == of => Some(*number),
        _ => None,
    });
    forged.collect()
}

/// The cause of a gap that no interruption stands behind.
const LAGGED: &str = "lagged";

/// Causes that are an interruption although the connection lives on.
const INTERRUPTIONS: [&str; 7] = [
    "stale",
    "subscription_lost",
    "authorization_lost",
    "actor_restarted",
    "undecodable",
    "state_missing",
    "sequence_break",
];

/// Where in its story a channel stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stand {
    /// The next message has to be the next one.
    Whole,
    /// A gap is open.
    Open,
    /// A gap has ended; the next message may be any later one.
    Again,
    /// A subscription has begun anew, perhaps amid what the venue sends; the next message may be any one.
    Anew,
    Over,
}

struct Judge<'a> {
    channel: &'a str,
    /// The first message may leave out what was sent up to this number.
    asked_at: u64,
    /// Whether each epoch has to begin with what its connection sent first.
    from_the_beginning: bool,
    sent: BTreeMap<u64, Vec<u64>>,
    forged: BTreeSet<u64>,
    ended: BTreeSet<u64>,
    gone: Option<BTreeSet<u64>>,
    /// Of the message that was heard last.
    connection: u64,
    /// Its place in what that connection has sent.
    position: Option<usize>,
    epoch: u64,
    /// Which connection each epoch has been heard to be.
    carriers: BTreeMap<u64, u64>,
    stand: Stand,
    /// How many messages the next one stands for.
    replaced: u64,
    /// Whether nothing but a lag has been told since the last message.
    lagged: bool,
    violations: Vec<Violation>,
}

impl Judge<'_> {
    fn wrong(&mut self, what: String) {
        self.violations.push(Violation {
            of: format!("channel {:?}", self.channel),
            what,
        });
    }

    fn hear(&mut self, seen: &Seen) {
        let over = self.stand == Stand::Over;
        if over != (*seen == Seen::SubscribedAgain) {
            let place = if over { "after" } else { "before" };
            self.wrong(format!("{seen:?} {place} the end"));
        }
        match *seen {
            Seen::Data { epoch, number } => self.hear_data(epoch, number),
            Seen::Gap { epoch, cause } => {
                if epoch < self.epoch {
                    self.wrong(format!("a gap of epoch {epoch} after epoch {}", self.epoch));
                }
                let within = matches!(self.stand, Stand::Open | Stand::Again);
                self.lagged = cause == LAGGED && (self.lagged || !within);
                if !self.is_due(epoch, cause) {
                    self.wrong(format!(
                        "a gap of epoch {epoch} ({cause}), and nothing was interrupted"
                    ));
                }
                self.epoch = self.epoch.max(epoch);
                self.stand = Stand::Open;
            }
            Seen::Resynced { epoch } => {
                if self.stand != Stand::Open {
                    self.wrong(format!("a resync in epoch {epoch} without a gap"));
                }
                if epoch < self.epoch {
                    self.wrong(format!(
                        "a resync in epoch {epoch} after epoch {}",
                        self.epoch
                    ));
                }
                self.epoch = self.epoch.max(epoch);
                self.stand = Stand::Again;
            }
            Seen::Replaced { messages } => self.replaced += messages,
            Seen::Ended => self.stand = Stand::Over,
            Seen::SubscribedAgain => {
                (self.connection, self.position) = (0, None);
                (self.replaced, self.lagged) = (0, false);
                self.stand = Stand::Anew;
            }
        }
    }

    /// Whether something was interrupted; of a lag the next message tells whether something was lost.
    fn is_due(&self, epoch: u64, cause: &str) -> bool {
        if cause == LAGGED || INTERRUPTIONS.contains(&cause) {
            return true;
        }
        let Some(gone) = &self.gone else {
            return true;
        };
        match self.carriers.get(&epoch) {
            Some(connection) => gone.contains(connection),
            // Nothing of that epoch was heard, so that its connection is not known.
            None => gone.iter().any(|gone| *gone >= self.connection),
        }
    }

    fn hear_data(&mut self, epoch: u64, number: u64) {
        let found = self.sent.iter().find_map(|(connection, numbers)| {
            let place = numbers.binary_search(&number).ok()?;
            Some((*connection, place))
        });
        let Some((connection, place)) = found else {
            if !self.forged.contains(&number) {
                self.wrong(format!("message {number}, which was never sent whole"));
            }
            return;
        };
        let replaced = usize::try_from(std::mem::take(&mut self.replaced)).unwrap_or(usize::MAX);
        if epoch < self.epoch {
            let newer = self.epoch;
            self.wrong(format!(
                "message {number} of epoch {epoch} after epoch {newer}"
            ));
        }
        let known = self.carriers.iter();
        let other = known
            .filter(|(of, carrier)| (**of == epoch) != (**carrier == connection))
            .map(|(of, carrier)| (*of, *carrier))
            .next();
        if let Some((of, carrier)) = other {
            self.wrong(format!(
                "message {number} of connection {connection} in epoch {epoch}, where connection {carrier} is epoch {of}"
            ));
        }
        self.carriers.insert(epoch, connection);
        if self.stand == Stand::Open {
            self.wrong(format!("message {number} within a gap"));
        }
        let before = (self.connection, self.position);
        let next = match before {
            (last, Some(position)) if last == connection => place > position,
            (last, _) => connection > last,
        };
        if !next {
            self.wrong(format!("message {number} again, or out of order"));
        }
        // The first of those that it stands for.
        let from = place.checked_sub(replaced);
        let follows = from.is_some_and(|place| match before {
            (last, Some(position)) if last == connection => place == position + 1,
            _ => self.connection == 0 && self.is_first(connection, place),
        });
        // How much room the script's own words took is not known.
        let unclear = replaced > 0 && !self.forged.is_empty();
        if self.stand == Stand::Whole && !follows && !unclear {
            self.wrong(format!("message {number} without a gap before it"));
        }
        let in_a_row = follows && before.1.is_some() && self.forged.is_empty();
        if self.stand == Stand::Again && self.lagged && in_a_row {
            self.wrong(format!(
                "a gap before message {number}, and nothing was lost"
            ));
        }
        let fresh = self.stand == Stand::Again && connection != self.connection;
        if self.from_the_beginning && fresh && place > 0 {
            self.wrong(format!(
                "the messages before {number} of its epoch are missing"
            ));
        }
        (self.connection, self.position) = (connection, Some(place));
        self.epoch = self.epoch.max(epoch);
        (self.stand, self.lagged) = (Stand::Whole, false);
    }

    /// Whether nothing that belongs to the channel came before this message of its connection.
    fn is_first(&self, connection: u64, place: usize) -> bool {
        let numbers = self.sent.get(&connection);
        let before = numbers.and_then(|numbers| numbers.get(place.checked_sub(1)?));
        before.is_none_or(|number| *number <= self.asked_at)
    }

    /// A connection that has ended is a gap, whatever followed.
    fn end(&mut self) {
        if self.stand == Stand::Whole && self.ended.contains(&self.connection) {
            let connection = self.connection;
            self.wrong(format!("connection {connection} ended and no gap says so"));
        }
    }
}

/// Judges what became of the connections behind the `planned` ones, which were served as they should be: none of them is
/// given up. `ended` are those that had come to their end while the client was at work.
pub(super) fn check_served(log: &[FaultEntry], planned: u64, ended: &[u64]) -> Vec<Violation> {
    let has = |connection: u64, kind: &FaultEntryKind| {
        let mut log = log.iter();
        log.any(|entry| entry.connection == connection && entry.kind == *kind)
    };
    let given_up = ended.iter().filter(|connection| {
        **connection > planned
            && has(**connection, &FaultEntryKind::Opened)
            && !has(**connection, &FaultEntryKind::Punished)
    });
    let given_up = given_up.map(|connection| Violation {
        of: format!("connection {connection}"),
        what: "served as it should be, and given up".to_owned(),
    });
    given_up.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(connection: u64, kind: FaultEntryKind) -> FaultEntry {
        FaultEntry { connection, kind }
    }

    fn sent(connection: u64, number: u64) -> FaultEntry {
        entry(
            connection,
            FaultEntryKind::Sent {
                channel: "a".to_owned(),
                number,
                whole: true,
            },
        )
    }

    fn ended(connection: u64) -> FaultEntry {
        entry(connection, FaultEntryKind::Ended)
    }

    fn data(epoch: u64, number: u64) -> Seen {
        Seen::Data { epoch, number }
    }

    fn gap(epoch: u64) -> Seen {
        Seen::Gap {
            epoch,
            cause: "eof",
        }
    }

    fn resynced(epoch: u64) -> Seen {
        Seen::Resynced { epoch }
    }

    /// Connection 1 sends 1 to 3 and ends, connection 2 sends 11 and 12.
    fn log() -> Vec<FaultEntry> {
        let first = (1..=3).map(|number| sent(1, number));
        let second = [ended(1), sent(2, 11), sent(2, 12)];
        first.chain(second).collect()
    }

    fn judged(seen: &[Seen]) -> String {
        let violations = check_continuity(&log(), "a", seen);
        violations
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join("; ")
    }

    #[test]
    fn a_true_story_is_believed() {
        let whole = [
            data(1, 1),
            data(1, 2),
            data(1, 3),
            gap(1),
            resynced(2),
            data(2, 11),
            data(2, 12),
        ];
        assert_eq!(judged(&whole), "");
        let lost = [data(1, 1), gap(1), resynced(2), data(2, 11)];
        assert_eq!(judged(&lost), "");
        let lagged = [data(1, 1), gap(1), resynced(1), data(1, 3), gap(1)];
        assert_eq!(judged(&lagged), "");
    }

    #[test]
    fn a_false_story_is_not() {
        let silent = [data(1, 1), data(1, 3), gap(1)];
        assert!(judged(&silent).contains("without a gap"), "left out");
        assert!(
            judged(&[data(1, 2), gap(1)]).contains("without a gap"),
            "the first"
        );
        let spliced = [data(1, 1), data(2, 11)];
        assert!(judged(&spliced).contains("without a gap"), "spliced");
        let ghost = [data(1, 1), gap(1), resynced(2), data(2, 2), gap(2)];
        assert!(
            judged(&ghost).contains("is epoch 1"),
            "of a dead connection"
        );
        let two = [data(1, 1), gap(1), resynced(1), data(1, 11), gap(1)];
        assert!(
            judged(&two).contains("connection 1 is epoch 1"),
            "two in one"
        );
        let within = [data(1, 1), gap(1), data(2, 11)];
        assert!(judged(&within).contains("within a gap"), "no resync");
        let old = [data(1, 1), gap(1), resynced(2), data(2, 11), data(1, 2)];
        assert!(judged(&old).contains("after epoch 2"), "an older epoch");
        let twice = [data(1, 1), data(1, 1), gap(1)];
        assert!(judged(&twice).contains("out of order"), "twice");
        let invented = [data(1, 1), data(1, 4), gap(1)];
        assert!(judged(&invented).contains("never sent"), "invented");
        let late = [data(1, 1), gap(1), resynced(2), data(2, 12)];
        assert_eq!(judged(&late), "");
        assert_eq!(
            check_heard(&log(), "a", &late, 0, true, None).len(),
            1,
            "late in its epoch"
        );
        let asked_again = [data(1, 3), gap(1)];
        assert_eq!(
            check_heard(&log(), "a", &asked_again, 2, true, None).len(),
            0
        );
        assert_eq!(
            check_heard(&log(), "a", &asked_again, 1, true, None).len(),
            1,
            "sent after it was subscribed to"
        );
        assert!(
            judged(&[data(1, 1)]).contains("no gap says so"),
            "unannounced"
        );
    }

    #[test]
    fn a_gap_with_nothing_behind_it_is_found() {
        let log: Vec<FaultEntry> = (1..=4).map(|number| sent(1, number)).collect();
        let judged = |seen: &[Seen]| {
            let violations = check_continuity(&log, "a", seen);
            violations
                .first()
                .map(ToString::to_string)
                .unwrap_or_default()
        };
        let lag = || Seen::Gap {
            epoch: 1,
            cause: "lagged",
        };
        let lost = [data(1, 1), gap(1), resynced(1), data(1, 2)];
        assert!(
            judged(&lost).contains("nothing was interrupted"),
            "lives on"
        );
        let needless = [data(1, 1), lag(), resynced(1), data(1, 2)];
        assert!(judged(&needless).contains("nothing was lost"), "no lag");
        let late = [data(1, 1), lag(), resynced(1), data(1, 3)];
        assert_eq!(judged(&late), "");
        let again = [
            data(1, 1),
            lag(),
            Seen::Ended,
            Seen::SubscribedAgain,
            data(1, 4),
        ];
        assert_eq!(judged(&again), "");
        let alive = [data(1, 1), Seen::SubscribedAgain];
        assert!(judged(&alive).contains("before the end"), "not over");
    }

    #[test]
    fn what_a_message_stands_for_is_counted() {
        let log: Vec<FaultEntry> = (1..=6).map(|number| sent(1, number)).collect();
        let judged = |messages| {
            let seen = [data(1, 2), Seen::Replaced { messages }, data(1, 6)];
            let seen = [&[Seen::Replaced { messages: 1 }], &seen[..]].concat();
            check_continuity(&log, "a", &seen).len()
        };
        assert_eq!([2, 3, 4].map(judged), [1, 0, 1]);
    }

    #[test]
    fn what_the_script_says_in_a_channels_name_is_not_judged() {
        let forged = |number| {
            let channel = "a".to_owned();
            entry(1, FaultEntryKind::Forged { channel, number })
        };
        let log = [sent(1, 1), forged(7), forged(0), sent(1, 2)];
        let seen = [data(1, 1), data(1, 7), data(1, 0), data(1, 2)];
        assert_eq!(check_continuity(&log, "a", &seen), []);
        let invented = [data(1, 1), data(1, 8), data(1, 2)];
        assert_eq!(check_continuity(&log, "a", &invented).len(), 1);
    }

    #[test]
    fn a_connection_that_is_served_well_is_not_given_up() {
        let opened = |connection| entry(connection, FaultEntryKind::Opened);
        let log = [
            opened(1),
            opened(2),
            opened(3),
            entry(3, FaultEntryKind::Punished),
        ];
        let judged = |ended: &[u64]| check_served(&log, 1, ended).len();
        assert_eq!(judged(&[1]), 0, "the script's own");
        assert_eq!(judged(&[1, 2]), 1);
        assert_eq!(judged(&[3, 4]), 0, "punished, and never opened");
    }
}
