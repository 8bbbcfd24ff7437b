//! The tables of the guide `what_happens_when`, held against the machine; the third is in `endings`.

mod endings;

use std::sync::Arc;
use std::time::Duration;

use super::scenarios::{Drive, SECOND, judged, plan};
use super::{ChildPlan, Input, Population, Request, Rules, StartRefusal};
use crate::backoff::{Backoff, Jitter};
use crate::exit::{ExitReason, PanicInfo, ShutdownCause};
use crate::id::Generation;
use crate::policy::{AutoShutdown, Intensity, OnExhausted, Restart, Shutdown, Strategy, Verdict};
use crate::shutdown::Parting;

const GUIDE: &str = include_str!("../guide/what_happens_when.md");

/// The rows of the table under this heading, cell by cell, without its head.
fn table(heading: &str) -> Vec<Vec<&'static str>> {
    let (_, after) = GUIDE.split_once(heading).expect("the heading is there");
    let lines = after.lines().skip_while(|line| !line.starts_with('|'));
    let rows = lines.take_while(|line| line.starts_with('|')).skip(2);
    rows.map(|row| row.trim_matches('|').split('|').map(str::trim).collect())
        .collect()
}

enum How {
    Ends(ExitReason),
    /// It fails, and its next start comes to this.
    FailsToStart(ExitReason),
    Terminated,
    Declines,
}

fn how(row: &str) -> How {
    let error = || Arc::new(std::io::Error::other("broken"));
    match row {
        "stopped itself, or was stopped by somebody else" => {
            How::Ends(ExitReason::Stopped { reason: None })
        }
        "drained" => How::Ends(ExitReason::Drained),
        "was a supervisor and ended in good order" => {
            How::Ends(ExitReason::Ended(ShutdownCause::Requested))
        }
        "returned an error" => How::Ends(ExitReason::Failed(error())),
        "panicked" => How::Ends(ExitReason::Panicked(PanicInfo::from_payload(&"text"))),
        "was killed" => How::Ends(ExitReason::Killed),
        "had its task cancelled" => How::Ends(ExitReason::Cancelled),
        "ended unobserved: a foreign one that was no longer linked" => {
            How::Ends(ExitReason::Unobserved)
        }
        "hung in a handler" => How::Ends(ExitReason::Hung { in_handler: SECOND }),
        "failed to start again" => {
            let inner = Arc::new(ExitReason::Failed(error()));
            How::FailsToStart(ExitReason::StartFailed(inner))
        }
        "did not start again in time" => How::FailsToStart(ExitReason::StartTimeout(SECOND)),
        "was terminated by `terminate_child`" => How::Terminated,
        "declined to start" => How::Declines,
        other => panic!("nobody knows how to do {other:?}"),
    }
}

fn exit(drive: &mut Drive, id: &str, generation: u64, reason: ExitReason) -> Vec<String> {
    drive.step(Input::Exited {
        child: id.into(),
        generation: Generation(generation),
        reason: Arc::new(reason),
        parting: Parting::Graceful,
        judged: judged(),
    })
}

/// What becomes of a single child, in the table's words.
fn outcome(how: How, restart: Restart) -> &'static str {
    let mut drive = Drive::new(
        Strategy::OneForOne,
        [plan("a", restart, Shutdown::Infinite)],
    );
    let mut generation = 1;
    match how {
        How::Ends(reason) => {
            drive.up(&["a"]);
            exit(&mut drive, "a", 1, reason);
        }
        How::FailsToStart(reason) => {
            drive.up(&["a"]);
            if exit(&mut drive, "a", 1, ExitReason::Killed) != ["start a#2"] {
                // Never started again, so it cannot fail to.
                return "forgotten";
            }
            generation = 2;
            let refusal = StartRefusal::Failed {
                reason: Arc::new(reason),
                judged: judged(),
            };
            drive.refused("a", 2, refusal);
        }
        How::Terminated => {
            drive.up(&["a"]);
            drive.request(1, Request::Terminate("a".into()));
            exit(&mut drive, "a", 1, ExitReason::Stopped { reason: None });
        }
        How::Declines => {
            drive.step(Input::Boot);
            drive.refused("a", 1, StartRefusal::Ignored);
        }
    }
    drive.now += Duration::from_secs(3600);
    drive.step(Input::Tick);
    let present = drive.machine.view(drive.now).next();
    match present.map(|view| view.generation.0) {
        None => "forgotten",
        Some(now) if now > generation => "restarted",
        Some(_) => "kept",
    }
}

#[test]
fn every_end_has_the_consequence_that_the_guide_says() {
    let rows = table("# Is it restarted?");
    assert_eq!(rows.len(), 13);
    let types = [Restart::Permanent, Restart::Transient, Restart::Temporary];
    for row in rows {
        for (cell, restart) in row[1..].iter().zip(types) {
            let found = outcome(how(row[0]), restart);
            assert_eq!(*cell, found, "{}, {restart:?}", row[0]);
        }
    }
}

#[test]
fn every_strategy_restarts_whom_the_guide_says() {
    let rows = table("# Who else is restarted?");
    assert_eq!(rows.len(), 3);
    for row in rows {
        let strategy = match row[0] {
            "one_for_one" => Strategy::OneForOne,
            "rest_for_one" => Strategy::RestForOne,
            "one_for_all" => Strategy::OneForAll,
            other => panic!("no strategy is called {other:?}"),
        };
        let ids = ["before", "failed", "after"];
        let permanent = |id| plan(id, Restart::Permanent, Shutdown::Infinite);
        let mut drive = Drive::new(strategy, ids.map(permanent));
        drive.up(&ids);
        let mut next = exit(&mut drive, "failed", 1, ExitReason::Killed);
        while let Some(action) = next.first().cloned() {
            let (verb, child) = action.split_once(' ').expect("verb and child");
            let (id, generation) = child.split_once('#').expect("child and generation");
            let generation = generation.parse().expect("a number");
            next = match verb {
                "stop" => drive.exited(id, generation),
                "start" => drive.started(id, generation),
                other => panic!("{other} is not expected"),
            };
        }
        let found: Vec<&str> = drive
            .machine
            .view(drive.now)
            .map(|view| match view.generation.0 {
                1 => "untouched",
                _ => "restarted",
            })
            .collect();
        assert_eq!(row[1..], found, "{}", row[0]);
    }
}

/// The text of the guide `tuning`: whether a child that fails at once is restarted for ever is what
/// `Backoff::is_unlimited` says, when the jitter falls on the least.
#[test]
fn a_child_that_fails_at_once_is_restarted_for_ever_only_when_its_waits_exceed_the_window() {
    let backoff = Backoff::new(SECOND, 30 * SECOND);
    let steady = backoff.jitter(Jitter::None).first_immediate(false);
    let even = Backoff::new(SECOND, SECOND)
        .jitter(Jitter::None)
        .first_immediate(false);
    let cases = [
        ("as in the guide", steady, 3, true),
        (
            "at once and then 1 s and 2 s",
            backoff.jitter(Jitter::None),
            3,
            false,
        ),
        ("as by default", backoff, 3, false),
        (
            "half of 1 s, 2 s and 4 s",
            steady.jitter(Jitter::Equal),
            3,
            false,
        ),
        (
            "half of 1 s, 2 s, 4 s and 8 s",
            steady.jitter(Jitter::Equal),
            4,
            true,
        ),
        ("five waits of 1 s are not more than 5 s", even, 5, false),
        ("six are", even, 6, true),
        ("a limit of its own", steady.max_attempts(20), 3, false),
        ("no restart at all", steady, 0, false),
    ];
    for (what, backoff, max_restarts, unlimited) in cases {
        let intensity = Intensity::new(max_restarts, 5 * SECOND);
        assert_eq!(backoff.is_unlimited(intensity), unlimited, "{what}");
        let rules = Rules {
            strategy: Strategy::OneForOne,
            intensity,
            auto_shutdown: AutoShutdown::Never,
            on_exhausted: OnExhausted::Shutdown,
            population: Population::Fixed,
        };
        let only = ChildPlan {
            backoff,
            ..plan("a", Restart::Permanent, Shutdown::Infinite)
        };
        let mut drive = Drive::by(rules, [only]);
        drive.up(&["a"]);
        let lives = (1..=100).take_while(|generation| {
            let failed = drive.step(Input::Exited {
                child: "a".into(),
                generation: Generation(*generation),
                reason: Arc::new(ExitReason::Killed),
                parting: Parting::Graceful,
                judged: super::Judged {
                    random: 0.0,
                    ..judged()
                },
            });
            if failed == ["exit"] {
                return false;
            }
            if let Some(due) = drive.machine.next_timeout() {
                drive.now = due;
                drive.step(Input::Tick);
            }
            drive.started("a", generation + 1);
            true
        });
        assert_eq!(lives.count() == 100, unlimited, "{what}");
    }
}

/// The text under the first table.
#[test]
fn verdicts_come_before_the_restart_type() {
    let with = |verdict| {
        let only = plan("a", Restart::Permanent, Shutdown::Infinite);
        let mut drive = Drive::new(Strategy::OneForOne, [only]);
        drive.up(&["a"]);
        drive.step(Input::Exited {
            child: "a".into(),
            generation: Generation(1),
            reason: Arc::new(ExitReason::Killed),
            parting: Parting::Graceful,
            judged: super::Judged {
                verdict,
                ..judged()
            },
        })
    };
    assert_eq!(with(Verdict::Default), ["start a#2"]);
    assert_eq!(with(Verdict::DontRestart), Vec::<String>::new());
    assert_eq!(with(Verdict::Escalate), ["exit"]);
}
