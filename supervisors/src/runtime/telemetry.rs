//! Reports: each event goes to `tracing` and to the observers, in one shape.
//!
//! Its own file because it alone knows levels and field names. The catalogue of both is the doc of
//! `event`, which users read; the tests hold this file to it.
//!
//! Invariants: one record per event, within the span it belongs to; a subscriber, an observer or an error's
//! `Display` that panics harms nobody; what is not recorded is not formatted.

mod fault;
mod spans;

#[cfg(test)]
mod catalogue;

use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use tracing::level_filters::LevelFilter;
use tracing::{Level, Span};

use crate::event::{Audience, SupervisorEvent, SupervisorEventKind as Kind};
use crate::exit::{ExitReason, contained};
use crate::id::ChildId;
use crate::policy::{Restart, Verdict};
use crate::spec::Observer;

use fault::Fault;
use spans::Spans;
pub(crate) use spans::Within;

/// Who hears the events of a supervisor: its own listeners, and those of all above it.
#[derive(Clone, Default)]
pub(crate) struct Listeners {
    observers: Vec<Observer>,
    /// Readers of streams, who come and go.
    audiences: Vec<Arc<Audience>>,
    spans: Arc<Spans>,
}

impl Listeners {
    /// The listeners of a supervisor beneath, with its own first.
    pub(crate) fn below(
        &self,
        name: &ChildId,
        observers: &[Observer],
        audience: Arc<Audience>,
    ) -> Self {
        Self {
            observers: observers.iter().chain(&self.observers).cloned().collect(),
            audiences: std::iter::once(audience)
                .chain(self.audiences.iter().cloned())
                .collect(),
            spans: self.spans.below(name),
        }
    }

    /// Whether an event told now would be heard by anybody.
    pub(crate) fn is_anybody(&self) -> bool {
        is_traced()
            || !self.observers.is_empty()
            || self.audiences.iter().any(|audience| audience.is_anybody())
    }

    /// Tells everybody who listens; `cause` is what a failed callback ran in.
    pub(crate) fn announce(&self, event: &SupervisorEvent, cause: Option<Span>) {
        if is_traced() {
            let recorded = contained(|| {
                let span = self.spans.follow(event, cause.as_ref());
                Report::of(event).record(event, span.as_ref());
            });
            if recorded.is_none() {
                complain(event, "a subscriber or an error's text");
            }
        }
        for observe in &self.observers {
            if contained(|| observe(event)).is_none() {
                complain(event, "an observer");
            }
        }
        for audience in &self.audiences {
            audience.tell(event);
        }
    }
}

impl Listeners {
    /// The child is down, and stays so.
    pub(crate) fn settle(&self, child: &ChildId) {
        if is_traced() {
            let _ = contained(|| self.spans.settle(child));
        }
    }

    /// What is being done with a child, for its own code to run in.
    pub(crate) fn work_on(&self, child: &ChildId) -> Option<Box<Span>> {
        if !is_traced() {
            return None;
        }
        contained(|| self.spans.of_child(child))
            .flatten()
            .map(Box::new)
    }

    /// The supervisor has ended.
    pub(crate) fn close(&self) {
        let _ = contained(|| self.spans.close());
    }
}

/// Whether anybody has installed a subscriber that wants anything.
pub(crate) fn is_traced() -> bool {
    LevelFilter::current() != LevelFilter::OFF
}

fn complain(event: &SupervisorEvent, who: &str) {
    let name = event.kind.name();
    // A subscriber that panics at everything has had its chance.
    let _ = contained(|| {
        tracing::error!(
            target: "supervisors",
            { supervisor.path = %event.path },
            "{who} panicked at {name}"
        );
    });
}

/// What a record holds beyond who and where.
#[derive(Default)]
struct Report<'a> {
    exit: Option<(&'static str, &'a dyn Display)>,
    fault: Option<Fault<'a>>,
    attempt: Option<u32>,
    delay: Option<Duration>,
    counted: Option<bool>,
    window: Option<(u32, u32)>,
    children: Option<usize>,
    duration: Option<Duration>,
    limit: Option<Duration>,
}

impl<'a> Report<'a> {
    fn of(event: &'a SupervisorEvent) -> Self {
        match &event.kind {
            Kind::ChildStarting { attempt } => Self {
                attempt: Some(*attempt),
                ..Self::default()
            },
            Kind::ChildStopping { limit } => Self {
                limit: *limit,
                ..Self::default()
            },
            Kind::ChildStarted { took } | Kind::ChildRestarted { took } => Self {
                duration: Some(*took),
                ..Self::default()
            },
            Kind::ChildPostponed { delay } => Self {
                delay: Some(*delay),
                ..Self::default()
            },
            Kind::ChildExited { reason, uptime, .. } => Self {
                duration: Some(*uptime),
                ..Self::of_exit(reason)
            },
            Kind::ChildStartFailed { reason }
            | Kind::ChildStopped { reason }
            | Kind::ChildParked { reason }
            | Kind::Exhausted { reason }
            | Kind::AutoShutdown { reason }
            | Kind::Escalated { reason } => Self::of_exit(reason),
            Kind::RestartPlanned {
                delay,
                attempt,
                counted,
                group: _,
                window,
            } => Self {
                attempt: Some(*attempt),
                delay: Some(*delay),
                counted: Some(*counted),
                window: Some(*window),
                children: Some(event.children),
                ..Self::default()
            },
            Kind::IntensityLow { used, limit } => Self {
                window: Some((*used, *limit)),
                ..Self::default()
            },
            Kind::Ready => Self {
                children: Some(event.children),
                ..Self::default()
            },
            Kind::Shutdown { cause } => Self {
                exit: Some((cause.kind(), cause)),
                children: Some(event.children),
                ..Self::default()
            },
            Kind::ChildIgnored | Kind::ChildKilled | Kind::ChildAbandoned => Self::default(),
        }
    }

    fn of_exit(reason: &'a ExitReason) -> Self {
        Self {
            exit: Some((reason.kind(), reason)),
            fault: Fault::of(reason),
            ..Self::default()
        }
    }

    fn record(&self, event: &SupervisorEvent, span: Option<&Span>) {
        // A level is part of a call site, so there is one for each.
        macro_rules! record {
            ($level:ident) => {
                tracing::$level!(
                    target: "supervisors",
                    parent: span.map_or_else(|| Span::current().id(), Span::id),
                    {
                        supervisor.path = %event.path,
                        supervisor.strategy = event.strategy.name(),
                        child.id = event.child.as_ref().map(|id| id.as_str()),
                        child.kind = event.child_kind.map(|kind| kind.name()),
                        child.generation = event.child.as_ref().map(|_| event.generation.0),
                        child.actor_id = event.actor.map(tracing::field::display),
                        exit.kind = self.exit.map(|(kind, _)| kind),
                        exit.reason = self.exit.map(|(_, reason)| tracing::field::display(reason)),
                        exception.type = self.fault.as_ref().map(Fault::kind),
                        exception.message = self.fault.as_ref().map(Fault::message),
                        exception.stacktrace = self.fault.as_ref().and_then(Fault::trace),
                        restart.attempt = self.attempt,
                        restart.delay_ms = self.delay.map(millis),
                        restart.counted = self.counted,
                        restart.window_used = self.window.map(|(used, _)| used),
                        restart.window_limit = self.window.map(|(_, limit)| limit),
                        children.count = self.children,
                        shutdown.limit_ms = self.limit.map(millis),
                        duration_ms = self.duration.map(millis),
                    },
                    "{}",
                    event.kind.name()
                )
            };
        }
        match level(event) {
            Level::ERROR => record!(error),
            Level::WARN => record!(warn),
            Level::INFO => record!(info),
            Level::DEBUG => record!(debug),
            Level::TRACE => record!(trace),
        }
    }
}

/// `error`: a person is needed; `warn`: we recovered; `info`: life cycle; `debug`: decisions, and what is
/// as it should be.
fn level(event: &SupervisorEvent) -> Level {
    match &event.kind {
        // Whoever added it has the answer.
        Kind::ChildStarted { .. } | Kind::ChildIgnored if event.added => Level::DEBUG,
        Kind::ChildStarted { .. } | Kind::ChildIgnored | Kind::ChildRestarted { .. } => Level::INFO,
        Kind::ChildStarting { .. } | Kind::ChildPostponed { .. } | Kind::ChildStopping { .. } => {
            Level::DEBUG
        }
        Kind::ChildStartFailed { .. } | Kind::ChildKilled | Kind::IntensityLow { .. } => {
            Level::WARN
        }
        Kind::ChildExited {
            reason, restarts, ..
        } => {
            let permanent = event.restart == Some(Restart::Permanent);
            let foreseen = matches!(
                event.verdict,
                Verdict::Uncounted { .. } | Verdict::DontRestart
            );
            if permanent && !foreseen {
                Level::ERROR
            } else if reason.is_normal() && !restarts {
                Level::DEBUG
            } else {
                Level::WARN
            }
        }
        // Alone it adds numbers to an exit that was just told; for a group it stands for the others too.
        Kind::RestartPlanned { group, .. } if group.len() > 1 => Level::INFO,
        Kind::RestartPlanned { .. } => Level::DEBUG,
        Kind::ChildStopped { reason } if Fault::of(reason).is_some() => Level::WARN,
        Kind::ChildStopped { .. } => Level::DEBUG,
        Kind::ChildAbandoned
        | Kind::ChildParked { .. }
        | Kind::Exhausted { .. }
        | Kind::Escalated { .. } => Level::ERROR,
        Kind::AutoShutdown { .. } | Kind::Ready | Kind::Shutdown { .. } => Level::INFO,
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
