//! Holds what a client says of its requests against what the venue did with them.
//!
//! Pure, like the judge of channels, and apart from it because nothing is common to both but the log.
//!
//! Invariant: a fate that the venue's log contradicts is found; one that is only vaguer than it could be is not.

use std::collections::{BTreeMap, BTreeSet};

use super::check::Violation;
use super::log::{FaultEntry, FaultEntryKind};

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
