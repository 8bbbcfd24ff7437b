//! Holds what a client says against what the venue did: continuity, and the fate of requests.
//!
//! Pure, and apart from the run because a judge must not depend on who ran the case; it is tested with stories that
//! are false.
//!
//! Invariants: a story that leaves out, repeats, reorders or invents a message without a gap is found; so is a
//! fate that the venue's log contradicts.

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
    /// It is over.
    Ended,
}

/// What a request said of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SeenFate {
    /// It was answered with a result.
    Answered,
    /// It was answered with an error.
    Refused,
    /// Not a byte of it was written.
    NotSent,
    /// It was written, and no answer is known.
    Unknown,
    /// Its fate was unknown, and the user's query found that it was executed.
    Found,
    /// Its fate was unknown, and the user's query found that it was not executed.
    NotExecuted,
}

/// One request with its fate.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SeenRequest {
    /// The number in it.
    pub order: u64,
    /// Whether it may be written more than once.
    pub repeatable: bool,
    /// What it said.
    pub fate: SeenFate,
}

impl SeenRequest {
    /// A request with its fate.
    #[must_use]
    pub fn new(order: u64, repeatable: bool, fate: SeenFate) -> Self {
        Self {
            order,
            repeatable,
            fate,
        }
    }
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
/// never too small it is heard `whole`: then each epoch begins with what its connection sent first.
pub(super) fn check_heard(
    log: &[FaultEntry],
    channel: &str,
    seen: &[Seen],
    asked_at: u64,
    whole: bool,
) -> Vec<Violation> {
    judged(log, channel, seen, asked_at, whole)
}

/// Judges the story of one channel: the concatenation of epochs is what the venue has sent, except inside gaps;
/// nothing of an older epoch after a newer one; an epoch is one connection; a connection that ended is a gap, also when
/// nothing follows.
///
/// `seen` is all that was said from the subscription to the end of the run.
#[must_use]
pub fn check_continuity(log: &[FaultEntry], channel: &str, seen: &[Seen]) -> Vec<Violation> {
    judged(log, channel, seen, 0, false)
}

fn judged(
    log: &[FaultEntry],
    channel: &str,
    seen: &[Seen],
    asked_at: u64,
    from_the_beginning: bool,
) -> Vec<Violation> {
    let mut judge = Judge {
        channel,
        asked_at,
        from_the_beginning,
        sent: sent(log, channel),
        ended: log
            .iter()
            .filter(|entry| entry.kind == FaultEntryKind::Ended)
            .map(|entry| entry.connection)
            .collect(),
        connection: 0,
        position: None,
        epoch: 0,
        carriers: BTreeMap::new(),
        stand: Stand::Whole,
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

/// Where in its story a channel stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stand {
    /// The next message has to be the next one.
    Whole,
    /// A gap is open.
    Open,
    /// A gap has ended; the next message may be any later one.
    Again,
    Over,
}

struct Judge<'a> {
    channel: &'a str,
    /// The first message may leave out what was sent up to this number.
    asked_at: u64,
    /// Whether each epoch has to begin with what its connection sent first.
    from_the_beginning: bool,
    sent: BTreeMap<u64, Vec<u64>>,
    ended: BTreeSet<u64>,
    /// Of the message that was heard last.
    connection: u64,
    /// Its place in what that connection has sent.
    position: Option<usize>,
    epoch: u64,
    /// Which connection each epoch has been heard to be.
    carriers: BTreeMap<u64, u64>,
    stand: Stand,
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
        if self.stand == Stand::Over {
            self.wrong(format!("{seen:?} after the end"));
        }
        match *seen {
            Seen::Data { epoch, number } => self.hear_data(epoch, number),
            Seen::Gap { epoch, .. } => {
                if epoch < self.epoch {
                    self.wrong(format!("a gap of epoch {epoch} after epoch {}", self.epoch));
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
            Seen::Ended => self.stand = Stand::Over,
        }
    }

    fn hear_data(&mut self, epoch: u64, number: u64) {
        let found = self.sent.iter().find_map(|(connection, numbers)| {
            let place = numbers.binary_search(&number).ok()?;
            Some((*connection, place))
        });
        let Some((connection, place)) = found else {
            self.wrong(format!("message {number}, which was never sent whole"));
            return;
        };
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
        let follows = match before {
            (last, Some(position)) if last == connection => place == position + 1,
            _ => self.connection == 0 && self.is_first(connection, place),
        };
        if self.stand == Stand::Whole && !follows {
            self.wrong(format!("message {number} without a gap before it"));
        }
        let fresh = self.stand == Stand::Again && connection != self.connection;
        if self.from_the_beginning && fresh && place > 0 {
            self.wrong(format!(
                "the messages before {number} of its epoch are missing"
            ));
        }
        (self.connection, self.position) = (connection, Some(place));
        self.epoch = self.epoch.max(epoch);
        self.stand = Stand::Whole;
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

/// Judges the fates of requests: what was answered was received, what was not sent was not, and what may not be
/// repeated was carried out once at most.
#[must_use]
pub fn check_fates(log: &[FaultEntry], requests: &[SeenRequest]) -> Vec<Violation> {
    let mut executed = BTreeMap::<u64, usize>::new();
    let mut answered = BTreeSet::new();
    for entry in log {
        match entry.kind {
            FaultEntryKind::Executed { order } => *executed.entry(order).or_default() += 1,
            FaultEntryKind::Answered { order, whole: true } => {
                answered.insert(order);
            }
            _ => {}
        }
    }
    let known = known_when_asked(log);
    let mut violations = Vec::new();
    for request in requests {
        let times = executed.get(&request.order).copied().unwrap_or(0);
        let mut wrong = |what: String| {
            violations.push(Violation {
                of: format!("order {}", request.order),
                what,
            });
        };
        match request.fate {
            SeenFate::Answered | SeenFate::Found if times == 0 => {
                wrong(format!("{:?}, and never carried out", request.fate));
            }
            SeenFate::Answered if !answered.contains(&request.order) && !request.repeatable => {
                wrong("answered, and no answer was ever sent whole".to_owned());
            }
            SeenFate::NotSent if times > 0 => {
                wrong("not sent, and carried out".to_owned());
            }
            // What still was on its way inside the venue, no query could find.
            SeenFate::NotExecuted if known.get(&request.order).copied().unwrap_or(times > 0) => {
                wrong("not executed, and carried out before that was asked".to_owned());
            }
            SeenFate::Answered
            | SeenFate::Refused
            | SeenFate::NotSent
            | SeenFate::Unknown
            | SeenFate::Found
            | SeenFate::NotExecuted => {}
        }
        if times > 1 && !request.repeatable {
            wrong(format!("carried out {times} times"));
        }
    }
    violations
}

/// Whether each order that was asked about had been carried out when it was asked about last.
fn known_when_asked(log: &[FaultEntry]) -> BTreeMap<u64, bool> {
    let mut executed = BTreeSet::new();
    let mut known = BTreeMap::new();
    for entry in log {
        match &entry.kind {
            FaultEntryKind::Executed { order } => {
                executed.insert(*order);
            }
            FaultEntryKind::Received { text } if text.contains("\"find\"") => {
                let asked: Option<serde_json::Value> = serde_json::from_str(text).ok();
                if let Some(order) = asked.and_then(|asked| asked["params"]["order"].as_u64()) {
                    known.insert(order, executed.contains(&order));
                }
            }
            _ => {}
        }
    }
    known
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
            check_heard(&log(), "a", &late, 0, true).len(),
            1,
            "late in its epoch"
        );
        let asked_again = [data(1, 3), gap(1)];
        assert_eq!(check_heard(&log(), "a", &asked_again, 2, true).len(), 0);
        assert_eq!(
            check_heard(&log(), "a", &asked_again, 1, true).len(),
            1,
            "sent after it was subscribed to"
        );
        assert!(
            judged(&[data(1, 1)]).contains("no gap says so"),
            "unannounced"
        );
    }

    #[test]
    fn a_false_fate_is_found() {
        let log = [
            entry(1, FaultEntryKind::Executed { order: 1 }),
            entry(1, FaultEntryKind::Executed { order: 2 }),
            entry(2, FaultEntryKind::Executed { order: 2 }),
            entry(
                1,
                FaultEntryKind::Answered {
                    order: 1,
                    whole: true,
                },
            ),
        ];
        let check = |order, repeatable, fate| {
            check_fates(&log, &[SeenRequest::new(order, repeatable, fate)]).len()
        };
        assert_eq!(check(1, false, SeenFate::Answered), 0);
        assert_eq!(check(1, false, SeenFate::Unknown), 0);
        assert_eq!(check(1, false, SeenFate::NotSent), 1);
        assert_eq!(check(1, false, SeenFate::NotExecuted), 1);
        assert_eq!(check(2, true, SeenFate::Unknown), 0);
        assert_eq!(check(2, false, SeenFate::Unknown), 1, "twice");
        assert_eq!(check(3, false, SeenFate::NotSent), 0);
        assert_eq!(check(3, false, SeenFate::Answered), 1, "never received");
    }
}
