//! The records that are made, held against the catalogue that is published.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tracing::field::{Field, Visit};
use tracing::span;
use tracing::{Event, Level, Metadata, Subscriber};

use super::Listeners;
use crate::event::{SupervisorEvent, SupervisorEventKind as Kind};
use crate::exit::{BoxError, ExitReason, PanicInfo, ShutdownCause};
use crate::policy::{Restart, Verdict};

const COMMON: [&str; 2] = ["supervisor.path", "supervisor.strategy"];
const OF_CHILD: [&str; 4] = [
    "child.id",
    "child.kind",
    "child.generation",
    "child.actor_id",
];

type Fields = BTreeMap<String, String>;

type Records = Arc<Mutex<Vec<(Level, String, Fields)>>>;

/// Keeps every record, and every span that is opened.
#[derive(Clone, Default)]
struct Capture {
    events: Records,
    spans: Records,
}

struct Reading(Fields);

impl Visit for Reading {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.0.insert(field.name().to_owned(), format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name().to_owned(), value.to_owned());
    }
}

impl Subscriber for Capture {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, attributes: &span::Attributes<'_>) -> span::Id {
        let metadata = attributes.metadata();
        assert_eq!(metadata.target(), "supervisors");
        let mut reading = Reading(Fields::new());
        attributes.record(&mut reading);
        let mut spans = self.spans.lock().unwrap();
        spans.push((*metadata.level(), metadata.name().to_owned(), reading.0));
        span::Id::from_u64(spans.len() as u64)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        assert_eq!(event.metadata().target(), "supervisors");
        let mut reading = Reading(Fields::new());
        event.record(&mut reading);
        let message = reading.0.remove("message").unwrap();
        let record = (*event.metadata().level(), message, reading.0);
        self.events.lock().unwrap().push(record);
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

fn recorded(event: &SupervisorEvent) -> Vec<(Level, String, Fields)> {
    let capture = Capture::default();
    tracing::subscriber::with_default(capture.clone(), || {
        Listeners::default().announce(event, None);
    });
    std::mem::take(&mut *capture.events.lock().unwrap())
}

fn only(event: &SupervisorEvent) -> (Level, Fields) {
    let [(level, name, fields)] = recorded(event).try_into().expect("one record");
    assert_eq!(name, event.kind.name());
    (level, fields)
}

fn killed() -> Arc<ExitReason> {
    Arc::new(ExitReason::Killed)
}

fn failed() -> Arc<ExitReason> {
    Arc::new(ExitReason::Failed(BoxError::from("no ink").into()))
}

fn stopped() -> Arc<ExitReason> {
    Arc::new(ExitReason::Stopped { reason: None })
}

fn exited(reason: Arc<ExitReason>, restarts: bool) -> Kind {
    Kind::ChildExited {
        reason,
        uptime: Duration::from_millis(1500),
        restarts,
    }
}

fn planned(group: &[&str]) -> Kind {
    Kind::RestartPlanned {
        delay: Duration::from_millis(250),
        attempt: 2,
        counted: true,
        group: group.iter().map(|id| (*id).into()).collect(),
        window: (2, 3),
    }
}

/// One kind after the other: a new one is not forgotten here, since this would not compile.
fn after(kind: &Kind) -> Option<Kind> {
    let took = Duration::from_millis(7);
    let reason = killed();
    Some(match kind {
        Kind::ChildStarting { .. } => Kind::ChildStarted { took },
        Kind::ChildStarted { .. } => Kind::ChildRestarted { took },
        Kind::ChildRestarted { .. } => Kind::ChildStartFailed { reason },
        Kind::ChildStartFailed { .. } => Kind::ChildIgnored,
        Kind::ChildIgnored => Kind::ChildPostponed { delay: took },
        Kind::ChildPostponed { .. } => exited(reason, true),
        Kind::ChildExited { .. } => planned(&["worker"]),
        Kind::RestartPlanned { .. } => Kind::IntensityLow { used: 9, limit: 10 },
        Kind::IntensityLow { .. } => Kind::ChildStopping { limit: Some(took) },
        Kind::ChildStopping { .. } => Kind::ChildStopped { reason: stopped() },
        Kind::ChildStopped { .. } => Kind::ChildKilled,
        Kind::ChildKilled => Kind::ChildAbandoned,
        Kind::ChildAbandoned => Kind::Exhausted { reason },
        Kind::Exhausted { .. } => Kind::ChildParked { reason },
        Kind::ChildParked { .. } => Kind::AutoShutdown { reason },
        Kind::AutoShutdown { .. } => Kind::Escalated { reason },
        Kind::Escalated { .. } => Kind::Ready,
        Kind::Ready => Kind::Shutdown {
            cause: ShutdownCause::Requested,
        },
        Kind::Shutdown { .. } => return None,
    })
}

fn is_about_the_supervisor(kind: &Kind) -> bool {
    matches!(
        kind,
        Kind::IntensityLow { .. } | Kind::Ready | Kind::Shutdown { .. }
    )
}

fn sample(kind: Kind) -> SupervisorEvent {
    let event = SupervisorEvent::sample(kind);
    if is_about_the_supervisor(&event.kind) {
        SupervisorEvent {
            child: None,
            child_kind: None,
            restart: None,
            actor: None,
            ..event
        }
    } else {
        event
    }
}

/// Every kind of event, and its variants whose level is another.
fn samples() -> Vec<SupervisorEvent> {
    let took = Duration::from_millis(7);
    let first = Kind::ChildStarting { attempt: 1 };
    let kinds = std::iter::successors(Some(first), after);
    let mut samples: Vec<_> = kinds.map(sample).collect();
    for kind in [Kind::ChildStarted { took }, Kind::ChildIgnored] {
        samples.push(SupervisorEvent {
            added: true,
            ..sample(kind)
        });
    }
    for (reason, restarts) in [(stopped(), false), (killed(), true)] {
        samples.push(SupervisorEvent {
            restart: Some(Restart::Transient),
            ..sample(exited(reason, restarts))
        });
    }
    samples.push(sample(planned(&["worker", "other"])));
    samples.push(sample(Kind::ChildStopped { reason: failed() }));
    samples
}

/// The rows of a table in the doc of `event`.
fn rows_between(heading: &str, next: &str) -> impl Iterator<Item = &'static str> {
    let doc = include_str!("../../event.rs");
    let heading = doc.find(&format!("//! {heading}\n")).unwrap();
    let section = &doc[heading..doc.find(&format!("//! {next}\n")).unwrap()];
    section.lines().filter(|line| line.starts_with("//! | `"))
}

fn quoted(text: &str) -> Vec<String> {
    let parts = text.split('`').skip(1).step_by(2);
    parts.map(str::to_owned).collect()
}

/// The table of events: name → levels, further fields.
fn published() -> BTreeMap<String, (BTreeSet<String>, BTreeSet<String>)> {
    let levels = ["error", "warn", "info", "debug"];
    let rows = rows_between("# Catalogue", "# Spans");
    rows.map(|row| {
        let cells: Vec<&str> = row.split(" | ").collect();
        let mut found = quoted(cells[2]);
        found.retain(|word| levels.contains(&word.as_str()));
        (
            quoted(cells[1]).remove(0),
            (
                found.into_iter().collect(),
                quoted(cells[3]).into_iter().collect(),
            ),
        )
    })
    .collect()
}

/// OTP-LOG-02, RX-26: one record per event, with the published fields and levels and no others.
#[test]
fn every_event_is_one_record_as_published() {
    let published = published();
    let mut levels: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for event in samples() {
        let name = event.kind.name();
        let (level, fields) = only(&event);
        levels
            .entry(name.to_owned())
            .or_default()
            .insert(level.as_str().to_lowercase());

        let (_, further) = published.get(name).expect("it is in the catalogue");
        let mut expected: BTreeSet<&str> = further.iter().map(String::as_str).collect();
        expected.extend(COMMON);
        if !is_about_the_supervisor(&event.kind) {
            expected.extend(OF_CHILD);
        }
        if matches!(&event.kind, Kind::ChildStopped { reason } if reason.kind() == "failed") {
            expected.extend(["exception.type", "exception.message"]);
        }
        let found: BTreeSet<&str> = fields.keys().map(String::as_str).collect();
        assert_eq!(found, expected, "{name}");
    }
    let promised: BTreeMap<_, _> = published
        .into_iter()
        .map(|(name, (levels, _))| (name, levels))
        .collect();
    assert_eq!(levels, promised);
}

/// Section 5.6 of the design: spans around what is bounded, with the published fields and levels and no others.
#[test]
fn every_span_is_as_published() {
    let capture = Capture::default();
    tracing::subscriber::with_default(capture.clone(), || {
        for event in samples() {
            Listeners::default().announce(&event, None);
        }
    });
    let opened: BTreeSet<_> = std::mem::take(&mut *capture.spans.lock().unwrap())
        .into_iter()
        .map(|(level, name, fields)| {
            let fields: BTreeSet<String> = fields.into_keys().collect();
            (name, level.as_str().to_lowercase(), fields)
        })
        .collect();
    let published: BTreeSet<_> = rows_between("# Spans", "# Secrets")
        .map(|row| {
            let cells: Vec<&str> = row.split(" | ").collect();
            let name = quoted(cells[1]).remove(0);
            let fields: BTreeSet<String> = quoted(cells[5]).into_iter().collect();
            (name, quoted(cells[2]).remove(0), fields)
        })
        .collect();
    assert_eq!(opened, published);
}

#[test]
fn the_values_are_those_of_the_event() {
    let (_, fields) = only(&sample(exited(failed(), true)));
    for (name, value) in [
        ("supervisor.path", "top"),
        ("supervisor.strategy", "one_for_one"),
        ("child.id", "worker"),
        ("child.kind", "worker"),
        ("child.generation", "3"),
        ("child.actor_id", "0.7"),
        ("exit.kind", "failed"),
        ("exit.reason", "failed: no ink"),
        ("exception.type", "error"),
        ("exception.message", "no ink"),
        ("duration_ms", "1500"),
    ] {
        assert_eq!(fields[name], value, "{name}");
    }
    let (_, fields) = only(&SupervisorEvent {
        children: 2,
        ..sample(planned(&["worker", "other"]))
    });
    for (name, value) in [
        ("restart.attempt", "2"),
        ("restart.delay_ms", "250"),
        ("restart.counted", "true"),
        ("restart.window_used", "2"),
        ("restart.window_limit", "3"),
        ("children.count", "2"),
    ] {
        assert_eq!(fields[name], value, "{name}");
    }
}

/// The levels that section 5.6 of the design asks for, over the whole matrix.
#[test]
fn only_an_unforeseen_end_of_a_permanent_child_is_an_error() {
    let uncounted = Verdict::Uncounted {
        stable: true,
        at_least: Duration::ZERO,
    };
    let cases = [
        (Restart::Permanent, Verdict::Default, killed(), Level::ERROR),
        (
            Restart::Permanent,
            Verdict::Default,
            stopped(),
            Level::ERROR,
        ),
        (
            Restart::Permanent,
            Verdict::Escalate,
            failed(),
            Level::ERROR,
        ),
        (Restart::Permanent, uncounted, failed(), Level::WARN),
        (
            Restart::Permanent,
            Verdict::DontRestart,
            failed(),
            Level::WARN,
        ),
        (
            Restart::Permanent,
            Verdict::DontRestart,
            stopped(),
            Level::DEBUG,
        ),
        (Restart::Transient, Verdict::Default, failed(), Level::WARN),
        (
            Restart::Transient,
            Verdict::Default,
            stopped(),
            Level::DEBUG,
        ),
        (Restart::Temporary, Verdict::Default, killed(), Level::WARN),
        (
            Restart::Temporary,
            Verdict::Default,
            stopped(),
            Level::DEBUG,
        ),
    ];
    for (restart, verdict, reason, expected) in cases {
        let said = format!("{restart:?} {verdict:?} {reason}");
        let event = SupervisorEvent {
            restart: Some(restart),
            verdict,
            ..sample(exited(reason, false))
        };
        assert_eq!(only(&event).0, expected, "{said}");
    }
}

#[derive(Debug, thiserror::Error)]
#[error("printing failed")]
struct Printing(#[source] std::io::Error);

#[test]
fn an_exception_is_found_through_supervisors_and_told_with_its_causes() {
    let io = std::io::Error::other("out of paper");
    let error = Arc::new(ExitReason::Failed(Arc::new(Printing(io))));
    let reason = ExitReason::Ended(ShutdownCause::Exhausted {
        child: "printer".into(),
        reason: Arc::new(ExitReason::StartFailed(error)),
    });
    let (_, fields) = only(&sample(exited(Arc::new(reason), true)));
    assert_eq!(fields["exit.kind"], "ended");
    assert_eq!(fields["exception.type"], "error");
    assert_eq!(fields["exception.message"], "printing failed");
    assert_eq!(fields["exception.stacktrace"], "caused by: out of paper");

    let panic = PanicInfo {
        message: "jammed".into(),
        location: Some("src/printer.rs:7:9".into()),
        backtrace: Some("0: printer::jam".into()),
    };
    let (_, fields) = only(&sample(exited(Arc::new(ExitReason::Panicked(panic)), true)));
    assert_eq!(fields["exception.type"], "panic");
    assert_eq!(fields["exception.message"], "jammed");
    assert_eq!(
        fields["exception.stacktrace"],
        "at src/printer.rs:7:9\n0: printer::jam"
    );
}

#[derive(Debug)]
struct Endless;

impl std::fmt::Display for Endless {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("again")
    }
}

impl std::error::Error for Endless {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(self)
    }
}

#[test]
fn causes_without_end_are_cut() {
    let reason = Arc::new(ExitReason::Failed(Arc::new(Endless)));
    let (_, fields) = only(&sample(exited(reason, true)));
    assert_eq!(fields["exception.stacktrace"].lines().count(), 32);
}

#[derive(Debug)]
struct Explosive;

impl std::fmt::Display for Explosive {
    fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        panic!("not even its text")
    }
}

impl std::error::Error for Explosive {}

#[test]
fn an_error_whose_text_panics_harms_nobody() {
    let reason = Arc::new(ExitReason::Failed(Arc::new(Explosive)));
    let records = recorded(&sample(exited(reason, true)));
    assert_eq!(records.len(), 1);
    assert!(records[0].1.contains("panicked at child.exit"));
}
