//! Spans around bounded work: a start, a restart, a stop, a shutdown.
//!
//! Apart from the records because a span is open between two events. Both are events of the supervisor, so
//! nothing else has to know of spans.
//!
//! Invariants: no span is open for longer than the work it is about, least of all for a child's life; a span
//! lies within the one of the supervisor above that it is a part of; nothing is kept of spans that no
//! subscriber wants; none is opened or closed under the lock.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use pin_project_lite::pin_project;
use tracing::span::Id;
use tracing::{Span, debug_span, info_span};

use crate::event::{SupervisorEvent, SupervisorEventKind as Kind};
use crate::id::{ById, ChildId};
use crate::runtime::record::lock;

/// The spans of one supervisor.
#[derive(Default)]
pub(super) struct Spans {
    /// Those of the supervisor above, and what this one is called there.
    above: Option<(Arc<Spans>, ChildId)>,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    shutdown: Option<Span>,
    children: ById<OfChild>,
}

/// What is under way with one child.
#[derive(Default)]
struct OfChild {
    /// Shared by all who are restarted along.
    restart: Option<Span>,
    start: Option<Span>,
    stop: Option<Span>,
}

impl OfChild {
    fn is_empty(&self) -> bool {
        self.restart.is_none() && self.start.is_none() && self.stop.is_none()
    }
}

impl Spans {
    /// Those of a supervisor beneath.
    pub(super) fn below(self: &Arc<Self>, name: &ChildId) -> Arc<Self> {
        Arc::new(Self {
            above: Some((self.clone(), name.clone())),
            open: Mutex::default(),
        })
    }

    /// Opens and closes what begins and ends with the event; `cause` is what a failed callback ran in. Yields
    /// the span that the event belongs to.
    pub(super) fn follow(&self, event: &SupervisorEvent, cause: Option<&Span>) -> Option<Span> {
        match (&event.kind, &event.child) {
            (Kind::Shutdown { .. }, _) => self.open_shutdown(event),
            (_, None) => None,
            (Kind::ChildStarting { attempt }, Some(child)) => {
                let span = wanted(debug_span!(
                    target: "supervisors",
                    parent: self.around(Some(child)),
                    "child.start",
                    supervisor.path = %event.path,
                    child.id = child.as_str(),
                    child.generation = event.generation.0,
                    restart.attempt = *attempt,
                ))?;
                self.with(child, |of| of.start.replace(span.clone()));
                Some(span)
            }
            (Kind::ChildStopping { .. }, Some(child)) => {
                let span = wanted(debug_span!(
                    target: "supervisors",
                    parent: self.around(Some(child)),
                    "child.stop",
                    supervisor.path = %event.path,
                    child.id = child.as_str(),
                    child.generation = event.generation.0,
                ))?;
                self.with(child, |of| of.stop.replace(span.clone()));
                Some(span)
            }
            (Kind::RestartPlanned { group, .. }, Some(child)) => {
                self.open_restart(event, child, group, cause)
            }
            (
                Kind::ChildStarted { .. } | Kind::ChildRestarted { .. } | Kind::ChildIgnored,
                Some(child),
            ) => {
                let (start, restart) = self.with(child, |of| (of.start.take(), of.restart.take()));
                start.or(restart)
            }
            (
                Kind::ChildPostponed { .. }
                | Kind::ChildStartFailed { .. }
                | Kind::ChildStopped { .. }
                | Kind::ChildExited { .. },
                Some(child),
            ) => {
                let (start, stop) = self.with(child, |of| (of.start.take(), of.stop.take()));
                stop.or(start)
            }
            (Kind::ChildKilled | Kind::ChildAbandoned, Some(child)) => {
                self.with(child, |of| of.stop.clone().or_else(|| of.start.clone()))
            }
            (Kind::ChildParked { .. }, Some(child)) => self.with(child, |of| of.restart.take()),
            (
                Kind::Exhausted { .. }
                | Kind::AutoShutdown { .. }
                | Kind::Escalated { .. }
                | Kind::IntensityLow { .. }
                | Kind::Ready,
                Some(_),
            ) => None,
        }
    }

    fn open_shutdown(&self, event: &SupervisorEvent) -> Option<Span> {
        let Kind::Shutdown { cause } = &event.kind else {
            return None;
        };
        let span = wanted(info_span!(
            target: "supervisors",
            parent: self.around(None),
            "sup.shutdown",
            supervisor.path = %event.path,
            exit.kind = cause.kind(),
        ));
        let restarts: Vec<Option<Span>> = {
            let mut open = lock(&self.open);
            open.shutdown.clone_from(&span);
            let children = open.children.values_mut();
            children.map(|of| of.restart.take()).collect()
        };
        // Nobody is restarted any more.
        drop(restarts);
        span
    }

    fn open_restart(
        &self,
        event: &SupervisorEvent,
        child: &ChildId,
        group: &[ChildId],
        cause: Option<&Span>,
    ) -> Option<Span> {
        // Another attempt is part of the same restart.
        let known = self.with(child, |of| of.restart.clone());
        let span = known.or_else(|| {
            wanted(info_span!(
                target: "supervisors",
                parent: self.around(None),
                "child.restart",
                supervisor.path = %event.path,
                child.id = child.as_str(),
                child.generation = event.generation.0,
                children.count = event.children,
            ))
        })?;
        if let Some(cause) = cause {
            span.follows_from(cause);
        }
        for member in group {
            self.with(member, |of| of.restart.replace(span.clone()));
        }
        Some(span)
    }

    /// The child is not going to be restarted after all.
    pub(super) fn settle(&self, child: &ChildId) {
        if lock(&self.open).children.contains_key(child) {
            self.with(child, |of| of.restart.take());
        }
    }

    /// The start or the stop of a child that is under way.
    pub(super) fn of_child(&self, child: &ChildId) -> Option<Span> {
        let open = lock(&self.open);
        let of = open.children.get(child)?;
        of.stop.clone().or_else(|| of.start.clone())
    }

    /// The supervisor has ended.
    pub(super) fn close(&self) {
        let left = std::mem::take(&mut *lock(&self.open));
        drop(left);
    }

    /// What begins now, with a child or with the supervisor itself, is a part of this.
    fn around(&self, child: Option<&ChildId>) -> Option<Id> {
        let here = {
            let open = lock(&self.open);
            let restart = child.and_then(|child| open.children.get(child)?.restart.as_ref());
            restart.or(open.shutdown.as_ref()).and_then(Span::id)
        };
        here.or_else(|| {
            let (above, name) = self.above.as_ref()?;
            let under_way = above.of_child(name).and_then(|span| span.id());
            under_way.or_else(|| above.around(Some(name)))
        })
    }

    fn with<T>(&self, child: &ChildId, change: impl FnOnce(&mut OfChild) -> T) -> T {
        let mut open = lock(&self.open);
        let of = open.children.entry(child.clone()).or_default();
        let changed = change(of);
        if of.is_empty() {
            open.children.remove(child);
        }
        changed
    }
}

/// Nothing when no subscriber wants it.
fn wanted(span: Span) -> Option<Span> {
    (!span.is_disabled()).then_some(span)
}

pin_project! {
    /// Work that is done within a span, if there is one.
    pub(crate) struct Within<F> {
        span: Option<Box<Span>>,
        #[pin]
        work: F,
    }
}

impl<F> Within<F> {
    pub(crate) fn new(span: Option<Box<Span>>, work: F) -> Self {
        Self { span, work }
    }
}

impl<F: Future> Future for Within<F> {
    type Output = F::Output;

    #[inline]
    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let _entered = this.span.as_ref().map(|span| span.enter());
        this.work.poll(context)
    }
}
