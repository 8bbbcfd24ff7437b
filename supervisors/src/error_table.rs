//! Every error of this crate, held against what its text has to say: the values it has, and what to do.
//!
//! Invariants: a new variant does not compile without a line here, and a new public error type fails a test.

use std::collections::BTreeSet;
use std::error::Error;
use std::fmt::Display;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::address::{AddressError, AddressStatus, CallError, NotUp};
use crate::admin::{
    DeleteChildError, LookupError, ReconfigureError, RestartChildError, StartChildError,
    SupervisorEnded, TerminateChildError,
};
use crate::backoff::BackoffError;
use crate::event::Missed;
use crate::exit::ExitReason;
use crate::handle::StartFailure;
use crate::id::{ChildId, Generation, SupervisorPath};
use crate::partition::{NoPartitions, ResizeError};
use crate::policy::AutoShutdown;
use crate::seat::SupervisorNotUp;
use crate::spec::SpecError;
use crate::tasks::{StartTaskError, StreamError, TaskError};

/// One error, and what has to stand in its text.
struct Line {
    kind: &'static str,
    variant: &'static str,
    text: String,
    cause: Option<String>,
    values: Vec<String>,
}

impl Line {
    fn new(
        kind: &'static str,
        variant: &'static str,
        error: &dyn Error,
        values: &[&dyn Display],
    ) -> Self {
        Self {
            kind,
            variant,
            text: error.to_string(),
            cause: error.source().map(ToString::to_string),
            values: values.iter().map(ToString::to_string).collect(),
        }
    }
}

macro_rules! lines {
    ($($kind:ty { $($variant:pat => $example:expr, [$($value:expr),*];)+ })+) => {{
        let mut lines = Vec::new();
        $({
            fn variant(error: &$kind) -> &'static str {
                match error {
                    $($variant => stringify!($variant),)+
                }
            }
            $({
                let example: $kind = $example;
                assert_eq!(variant(&example), stringify!($variant));
                let values: &[&dyn Display] = &[$(&$value),*];
                lines.push(Line::new(stringify!($kind), stringify!($variant), &example, values));
            })+
        })+
        lines
    }};
}

fn child() -> ChildId {
    "valve".into()
}

fn above() -> SupervisorPath {
    SupervisorPath::root("plant")
}

fn place() -> SupervisorPath {
    above().child(&child())
}

fn killed() -> Arc<ExitReason> {
    Arc::new(ExitReason::Killed)
}

fn ended() -> SupervisorEnded {
    SupervisorEnded::of(&above())
}

fn twice() -> SpecError {
    SpecError::DuplicateId { child: child() }
}

const SEVEN: Duration = Duration::from_secs(7);

fn of_running_supervisors() -> Vec<Line> {
    lines! {
        StartChildError {
            StartChildError::Spec { .. } => StartChildError::Spec { child: child(), source: twice() }, [child()];
            StartChildError::AlreadyStarted { .. } => StartChildError::AlreadyStarted {
                child: child(), generation: Generation(7), cell: None,
            }, [child(), 7];
            StartChildError::AlreadyPresent { .. } => StartChildError::AlreadyPresent { child: child() }, [child()];
            StartChildError::MaxChildren { .. } =>
                StartChildError::MaxChildren { supervisor: above(), limit: 7 }, [above(), 7];
            StartChildError::Partitioned { .. } =>
                StartChildError::Partitioned { supervisor: above() }, [above()];
            StartChildError::Failed { .. } =>
                StartChildError::Failed { child: child(), reason: killed() }, [child()];
            StartChildError::ShuttingDown(_) => ended().into(), [above()];
        }
        ReconfigureError {
            ReconfigureError::Spec { .. } =>
                ReconfigureError::Spec { supervisor: above(), source: twice() }, [above()];
            ReconfigureError::Kind { .. } => ReconfigureError::Kind { supervisor: above() }, [above()];
            ReconfigureError::Busy { .. } => ReconfigureError::Busy { supervisor: above() }, [above()];
            ReconfigureError::ShuttingDown(_) => ended().into(), [above()];
        }
        TerminateChildError {
            TerminateChildError::NotFound { .. } => TerminateChildError::NotFound { child: child() }, [child()];
            TerminateChildError::Crowded { .. } =>
                TerminateChildError::Crowded { child: child(), waiting: 7 }, [child(), 7];
            TerminateChildError::ShuttingDown(_) => ended().into(), [above()];
        }
        RestartChildError {
            RestartChildError::NotFound { .. } => RestartChildError::NotFound { child: child() }, [child()];
            RestartChildError::Running { .. } => RestartChildError::Running { child: child() }, [child()];
            RestartChildError::Restarting { .. } => RestartChildError::Restarting { child: child() }, [child()];
            RestartChildError::Dynamic { .. } => RestartChildError::Dynamic { supervisor: above() }, [above()];
            RestartChildError::Failed { .. } =>
                RestartChildError::Failed { child: child(), reason: killed() }, [child()];
            RestartChildError::ShuttingDown(_) => ended().into(), [above()];
        }
        DeleteChildError {
            DeleteChildError::NotFound { .. } => DeleteChildError::NotFound { child: child() }, [child()];
            DeleteChildError::Running { .. } => DeleteChildError::Running { child: child() }, [child()];
            DeleteChildError::Restarting { .. } => DeleteChildError::Restarting { child: child() }, [child()];
            DeleteChildError::Dynamic { .. } => DeleteChildError::Dynamic { supervisor: above() }, [above()];
            DeleteChildError::Partitioned { .. } =>
                DeleteChildError::Partitioned { supervisor: above() }, [above()];
            DeleteChildError::ShuttingDown(_) => ended().into(), [above()];
        }
        LookupError {
            LookupError::NotFound { .. } => LookupError::not_found(&child()), [child()];
            LookupError::MessageType { .. } => LookupError::MessageType { child: child() }, [child()];
            LookupError::SupervisorEnded(_) => ended().into(), [above()];
        }
        SupervisorEnded {
            SupervisorEnded { .. } => ended(), [above()];
        }
        Missed {
            Missed(_) => Missed(7), [7];
        }
        ResizeError {
            ResizeError::TooMany { .. } => ResizeError::TooMany { asked: 7, allowed: 5 }, [7, 5];
            ResizeError::Failed { .. } => ResizeError::Failed {
                partition: 7,
                source: RestartChildError::Running { child: child() },
            }, [7];
            ResizeError::Crowded { .. } => ResizeError::Crowded {
                partition: 7,
                source: TerminateChildError::Crowded { child: child(), waiting: 5 },
            }, [7];
            ResizeError::Busy { .. } => ResizeError::Busy { asked: 5, waited: SEVEN }, [5, "7s"];
            ResizeError::SupervisorEnded(_) => ended().into(), [above()];
        }
        NoPartitions {
            NoPartitions => NoPartitions, ["zero"];
        }
    }
}

fn of_specs_and_starts() -> Vec<Line> {
    lines! {
        SpecError {
            SpecError::DuplicateId { .. } => twice(), [child()];
            SpecError::SharedAddress { .. } =>
                SpecError::SharedAddress { child: child(), other: "other".into() }, [child(), "other"];
            SpecError::EmptyName => SpecError::EmptyName, ["\"\""];
            SpecError::SlashInName { .. } => SpecError::SlashInName { name: "a/b".to_owned() }, ["a/b"];
            SpecError::ControlInName { .. } => SpecError::ControlInName { name: "a\nb".to_owned() }, ["a\\nb"];
            SpecError::EmptyId => SpecError::EmptyId, ["\"\""];
            SpecError::SlashInId { .. } => SpecError::SlashInId { child: "a/b".into() }, ["a/b"];
            SpecError::ControlInId { .. } => SpecError::ControlInId { child: "a\u{1b}b".into() }, ["a\\u{1b}b"];
            SpecError::SignificantPermanent { .. } =>
                SpecError::SignificantPermanent { child: child() }, [child()];
            SpecError::SignificantNever { .. } => SpecError::SignificantNever { child: child() }, [child()];
            SpecError::ZeroStartTimeout { .. } =>
                SpecError::ZeroStartTimeout { child: child() }, [child(), "zero"];
            SpecError::ZeroWatchdog { .. } => SpecError::ZeroWatchdog { child: child() }, [child(), "zero"];
            SpecError::DynamicAutoShutdown { .. } =>
                SpecError::DynamicAutoShutdown { mode: AutoShutdown::AnySignificant }, ["AnySignificant"];
            SpecError::DynamicChild { .. } => SpecError::DynamicChild { child: child() }, [child()];
            SpecError::NoPartitions => SpecError::NoPartitions, ["zero"];
            SpecError::TemporaryPartition { .. } => SpecError::TemporaryPartition { partition: 7 }, [7];
            SpecError::ZeroWindow => SpecError::ZeroWindow, ["zero"];
            SpecError::AddressType { .. } => SpecError::AddressType { child: child() }, [child()];
            SpecError::Backoff { .. } =>
                SpecError::Backoff { child: child(), source: BackoffError::NoAttempts }, [child()];
            SpecError::Nested { .. } =>
                SpecError::Nested { child: child(), source: Box::new(twice()) }, [child()];
        }
        BackoffError {
            BackoffError::MinAboveMax { .. } =>
                BackoffError::MinAboveMax { min: SEVEN, max: Duration::from_millis(5) }, ["7s", "5ms"];
            BackoffError::Factor(_) => BackoffError::Factor(0.75), [0.75];
            BackoffError::NoAttempts => BackoffError::NoAttempts, [0];
            BackoffError::Jitter(_) => BackoffError::Jitter(107), [107];
        }
        StartFailure {
            StartFailure::Spec { .. } => StartFailure::Spec { supervisor: above(), source: twice() }, [above()];
            StartFailure::Child { .. } => StartFailure::Child {
                supervisor: above(), child: child(), reason: killed(),
            }, [above(), child()];
            StartFailure::Supervisor { .. } =>
                StartFailure::Supervisor { supervisor: above(), reason: killed() }, [above()];
        }
        StartTaskError {
            StartTaskError::MaxChildren { .. } =>
                StartTaskError::MaxChildren { supervisor: above(), limit: 7 }, [above(), 7];
            StartTaskError::Failed { .. } => StartTaskError::Failed { task: child(), reason: killed() }, [child()];
            StartTaskError::ShuttingDown(_) => ended().into(), [above()];
        }
        StreamError {
            StreamError::NotStarted(_) => StreamError::NotStarted(ended().into()), [above()];
            StreamError::Ended(_) =>
                StreamError::Ended(TaskError { task: child(), reason: killed() }), [child()];
            StreamError::TimedOut { .. } =>
                StreamError::TimedOut { task: child(), within: SEVEN }, [child(), "7s"];
        }
        TaskError {
            TaskError { .. } => TaskError { task: child(), reason: killed() }, [child()];
        }
    }
}

fn of_addresses() -> Vec<Line> {
    let down = || AddressStatus::Down(killed());
    lines! {
        AddressError<u8> {
            AddressError { .. } =>
                AddressError { message: 7, child: Some(place()), status: down() }, [place(), "killed"];
        }
        NotUp {
            NotUp { .. } =>
                NotUp { child: Some(place()), status: down(), within: SEVEN }, [place(), "killed", "7s"];
        }
        CallError {
            CallError::NotUp { .. } =>
                CallError::NotUp { child: Some(place()), status: down() }, [place(), "killed"];
            CallError::Died { .. } => CallError::Died { child: place(), generation: Generation(7) }, [place(), 7];
            CallError::Timeout { .. } => CallError::Timeout {
                child: place(), generation: Generation(5), within: SEVEN,
            }, [place(), 5, "7s"];
        }
        SupervisorNotUp {
            SupervisorNotUp { .. } => SupervisorNotUp { within: SEVEN }, ["7s"];
        }
    }
}

#[cfg(feature = "signals")]
fn of_signals() -> Vec<Line> {
    use crate::signals::InstallError;
    lines! {
        InstallError {
            InstallError::Installed => InstallError::Installed, ["ctrl-c", "SIGTERM"];
            InstallError::Refused(_) =>
                InstallError::Refused(std::io::ErrorKind::Other.into()), ["ctrl-c", "SIGTERM"];
        }
    }
}

fn table() -> Vec<Line> {
    let mut lines = of_running_supervisors();
    lines.extend(of_specs_and_starts());
    lines.extend(of_addresses());
    #[cfg(feature = "signals")]
    lines.extend(of_signals());
    lines
}

#[test]
fn every_error_names_its_values_and_the_remedy_and_leaves_the_cause_to_its_source() {
    for line in table() {
        let Line {
            variant,
            text,
            cause,
            values,
            ..
        } = line;
        for value in &values {
            assert!(
                text.contains(value),
                "{variant} does not name {value}: {text}"
            );
        }
        assert!(!values.is_empty(), "{variant} names nothing: {text}");
        let remedy = text.split_once("; ").map_or("", |(_, remedy)| remedy);
        assert!(remedy.contains(' '), "{variant} has no remedy: {text}");
        let said = cause.is_some_and(|cause| text.contains(&cause));
        assert!(!said, "{variant} says what its source says: {text}");
        assert!(!text.ends_with('.'), "{variant}: {text}");
    }
}

#[test]
fn what_to_do_about_an_address_depends_on_what_is_known_of_it() {
    let at = tokio::time::Instant::now();
    let cases = [
        (AddressStatus::Unbound, "give it to `address` of a spec"),
        (AddressStatus::Up(Generation(1)), "send again"),
        (
            AddressStatus::Leaving(Generation(1)),
            "long enough for a restart",
        ),
        (
            AddressStatus::Restarting {
                attempt: 3,
                next_at: at,
            },
            "(restarting, attempt 3); wait with `cast_when_up` or `up`",
        ),
        (
            AddressStatus::Down(killed()),
            "start it with `restart_child`",
        ),
    ];
    for (status, remedy) in cases {
        let child = None;
        let text = CallError::NotUp { child, status }.to_string();
        assert!(text.contains(remedy), "{text}");
        assert!(text.starts_with("nobody is up at the address ("), "{text}");
    }
}

/// A type that is not in the table is not held against it.
#[test]
fn every_public_error_type_is_in_the_table() {
    let known: BTreeSet<String> = table()
        .iter()
        .map(|line| line.kind.split('<').next().unwrap().trim().to_owned())
        .collect();
    let mut found = BTreeSet::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut directories = vec![root];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else {
                found.extend(errors_in(&std::fs::read_to_string(path).unwrap()));
            }
        }
    }
    #[cfg(not(feature = "signals"))]
    found.remove("InstallError");
    assert_eq!(found, known);
}

/// The public types of a file that derive an error.
fn errors_in(source: &str) -> Vec<String> {
    let derive = concat!("thiserror", "::Error)]");
    let mut found = Vec::new();
    for (at, _) in source.match_indices(derive) {
        let item = source[at..].lines().find(|line| {
            ["pub enum ", "pub struct ", "enum ", "struct "]
                .iter()
                .any(|item| line.trim_start().starts_with(item))
        });
        let public = item.and_then(|line| {
            line.strip_prefix("pub enum ")
                .or_else(|| line.strip_prefix("pub struct "))
        });
        if let Some(name) = public {
            let end = name
                .find(|c: char| !c.is_alphanumeric())
                .unwrap_or(name.len());
            found.push(name[..end].to_owned());
        }
    }
    found
}
