//! The tables of the guide `what_happens_when`, held against the machine; the second is in `endings`.

mod endings;

use std::collections::{BTreeSet, VecDeque};
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

/// Three children, of which the middle one is the table's.
const THREE: [&str; 3] = ["before", "failed", "after"];

/// Lets everybody start and stop as they are told, and time pass, until nothing more happens. The second start of the
/// middle one comes to `refusal`, where there is one.
fn settle(drive: &mut Drive, first: Vec<String>, mut refusal: Option<StartRefusal>) {
    let mut wanted: VecDeque<String> = first.into();
    loop {
        let Some(action) = wanted.pop_front() else {
            let Some(due) = drive.machine.next_timeout() else {
                return;
            };
            drive.now = due;
            wanted.extend(drive.step(Input::Tick));
            continue;
        };
        let (verb, child) = action.split_once(' ').unwrap_or((&action, ""));
        let (id, generation) = child.split_once('#').unwrap_or((child, "0"));
        let generation = generation.parse().unwrap_or_default();
        wanted.extend(match verb {
            "start" => match refusal.take_if(|_| child == "failed#2") {
                Some(refusal) => drive.refused(id, generation, refusal),
                None => drive.started(id, generation),
            },
            "stop" => drive.stopped(id, generation),
            _ => Vec::new(),
        });
    }
}

/// What comes of the middle child's end, in the table's words.
fn outcome(how: How, restart: Restart, strategy: Strategy) -> &'static str {
    let plans = THREE.map(|id| {
        let restart = if id == "failed" {
            restart
        } else {
            Restart::Permanent
        };
        plan(id, restart, Shutdown::Infinite)
    });
    let mut drive = Drive::new(strategy, plans);
    let mut starts = 1;
    match how {
        How::Ends(reason) => {
            drive.up(&THREE);
            let first = exit(&mut drive, "failed", 1, reason);
            settle(&mut drive, first, None);
        }
        How::FailsToStart(reason) => {
            drive.up(&THREE);
            let first = exit(&mut drive, "failed", 1, ExitReason::Killed);
            // A temporary one is never started again, so it cannot fail to.
            starts = 2;
            let refusal = StartRefusal::Failed {
                reason: Arc::new(reason),
                judged: judged(),
            };
            settle(&mut drive, first, Some(refusal));
        }
        How::Terminated => {
            drive.up(&THREE);
            let first = drive.request(1, Request::Terminate("failed".into()));
            settle(&mut drive, first, None);
        }
        How::Declines => {
            drive.step(Input::Boot);
            drive.started("before", 1);
            let first = drive.refused("failed", 1, StartRefusal::Ignored);
            settle(&mut drive, first, None);
        }
    }
    drive.now += Duration::from_secs(3600);
    let late = drive.step(Input::Tick);
    assert!(late.is_empty(), "{late:?}");
    let now = |id: &str| {
        let mut views = drive.machine.view(drive.now);
        views
            .find(|view| view.plan.id.as_str() == id)
            .map(|view| view.generation.0)
    };
    let others = ["before", "after"].map(|id| now(id).expect("it is permanent") > 1);
    match (now("failed"), others) {
        (None, [false, false]) => "forgotten",
        (Some(generation), [false, false]) if generation <= starts => "kept",
        (Some(generation), others) if generation > starts => match others {
            [false, false] => "it",
            [false, true] => "it and those after it",
            [true, true] => "everybody",
            [true, false] => panic!("only those before it"),
        },
        odd => panic!("{odd:?}"),
    }
}

#[test]
fn every_end_has_the_consequence_that_the_guide_says() {
    let rows = table("# Who is restarted?");
    let mut told = BTreeSet::new();
    for row in &rows {
        for word in row[1].split(", ") {
            let restart = match word {
                "permanent" => Restart::Permanent,
                "transient" => Restart::Transient,
                "temporary" => Restart::Temporary,
                other => panic!("no restart type is called {other:?}"),
            };
            assert!(told.insert((row[0], word)), "{} twice", row[0]);
            let strategies = [
                Strategy::OneForOne,
                Strategy::RestForOne,
                Strategy::OneForAll,
            ];
            for (cell, strategy) in row[2..].iter().zip(strategies) {
                let found = outcome(how(row[0]), restart, strategy);
                assert_eq!(*cell, found, "{}, {word}, {strategy:?}", row[0]);
            }
        }
    }
    assert_eq!(told.len(), 13 * 3, "every end by every restart type");
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
