//! Whether two lines of traces say the same, given what differs on purpose.
//!
//! Invariants: each leniency stands in the table "OTP and us" and is one rule here or one thing that
//! the scripts leave out; without a cause for a rule, lines are the same to the letter.

use std::collections::HashSet;

use crate::script::{Call, Script, Step};

/// The first line that differs.
pub(crate) fn differs(script: &Script, otp: &[String], ours: &[String]) -> Option<usize> {
    let lines = otp;
    for at in 0..otp.len().max(ours.len()) {
        let (Some(otp), Some(ours)) = (otp.get(at), ours.get(at)) else {
            return Some(at);
        };
        if otp == ours {
            continue;
        }
        let (Some(mut otp), Some(mut ours)) = (Line::parse(otp), Line::parse(ours)) else {
            return Some(at);
        };
        if ours.gave_up_at_a_failed_start() {
            return (!ours.began_like(&otp)).then_some(at);
        }
        if ours.cancelled_a_start() {
            otp.keep_first_ends();
            ours.keep_first_ends();
        }
        otp.bury_orphans();
        otp.call_restarting_started(&ours);
        let step = script.steps.get(at);
        let before = at.checked_sub(1).and_then(|at| lines.get(at));
        if script.is_simple() && asks_about_the_dead(step, before) {
            otp.find_only_the_living(&ours);
        }
        let single = script.flags.strategy == "one_for_one";
        let several = matches!(step, Some(Step::Together(_)));
        if script.is_simple() || single && (several || !ours.answers.is_empty()) {
            otp.order_by_child();
            ours.order_by_child();
        }
        if otp != ours {
            return Some(at);
        }
    }
    None
}

/// Whether a call is about a dynamic child that had ended before.
fn asks_about_the_dead(step: Option<&Step>, before: Option<&String>) -> bool {
    let Some(Step::On(path, Call::Terminate(id) | Call::Spec(id))) = step else {
        return false;
    };
    let standing = before.and_then(|line| line.rsplit('|').next());
    let there = |standing: &str| {
        let named = standing.split_whitespace();
        named
            .filter_map(|word| word.split_once('='))
            .any(|(name, _)| name == *id)
    };
    path.is_empty() && !standing.is_some_and(there)
}

#[derive(PartialEq)]
struct Line<'a> {
    head: &'a str,
    events: Vec<&'a str>,
    answers: Vec<&'a str>,
    standing: &'a str,
}

impl<'a> Line<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let mut parts = line.split('|');
        let (head, middle, standing) = (parts.next()?, parts.next()?, parts.next()?);
        let (answers, events) = middle
            .split_whitespace()
            .partition(|word| word.starts_with('?'));
        Some(Self {
            head,
            events,
            answers,
            standing,
        })
    }

    /// A call came when the failed start may have exhausted us already.
    fn gave_up_at_a_failed_start(&self) -> bool {
        self.standing.starts_with(" ended") && !self.answers.is_empty()
    }

    /// Whether for each child everything up to that failed start is the same.
    fn began_like(&self, otp: &Self) -> bool {
        let last = self.events.iter().rposition(|event| event.starts_with('!'));
        let Some(last) = last else { return false };
        let of = |events: &[&'a str], who: &str| -> Vec<&'a str> {
            let own = events.iter().copied();
            own.filter(|event| child(event) == who).collect()
        };
        self.events[..=last].iter().all(|event| {
            let ours = of(&self.events[..=last], child(event));
            of(&otp.events, child(event)).starts_with(&ours)
        })
    }

    /// A child that was still starting when the supervisor began to end: it ends without having
    /// been up, where OTP had waited for its start.
    fn cancelled_a_start(&self) -> bool {
        let mut ended = HashSet::new();
        self.standing.starts_with(" ended")
            && self.events.iter().any(|event| {
                if event.starts_with('-') {
                    !ended.insert(child(event))
                } else {
                    ended.remove(child(event));
                    false
                }
            })
    }

    /// How those ended that were up before.
    fn keep_first_ends(&mut self) {
        let mut ended = HashSet::new();
        self.events
            .retain(|event| event.starts_with('-') && ended.insert(child(event)));
        self.answers.clear();
    }

    /// Beneath a killed supervisor its sub-supervisors may have seen their children die.
    fn bury_orphans(&mut self) {
        let killed = |event: &&'a str| event.starts_with('-') && event.ends_with(":killed");
        let killed: Vec<&str> = self
            .events
            .iter()
            .copied()
            .filter(killed)
            .map(child)
            .collect();
        self.events.retain(|event| {
            let within = |killed: &&str| {
                let below = child(event).strip_prefix(*killed);
                below.is_some_and(|below| below.matches('/').count() > 1)
            };
            !event.starts_with('-') || !killed.iter().any(within)
        });
    }

    /// To add a child whose id is being restarted.
    fn call_restarting_started(&mut self, ours: &Self) {
        for (otp, ours) in self.answers.iter_mut().zip(&ours.answers) {
            if otp.ends_with("=already_present") && ours.ends_with("=already_started") {
                *otp = ours;
            }
        }
    }

    /// Any process that is dead counts as a child that has ended.
    fn find_only_the_living(&mut self, ours: &Self) {
        if ours.head.ends_with(" not_found ") {
            self.head = ours.head;
        }
    }

    /// Leaves only the order within each child, as children are restarted independently.
    fn order_by_child(&mut self) {
        self.events.sort_by_key(|event| child(event));
    }
}

/// The child an event is about.
fn child(event: &str) -> &str {
    event[1..].split(':').next().unwrap_or_default()
}
