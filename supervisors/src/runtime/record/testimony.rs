//! How an incarnation came to end: who saw what, and what is made of it.
//!
//! Apart because the truth of exit reasons is decided here.
//!
//! Invariants: the first failure and the first cause count; a failure says more than a stop.

use tracing::Span;

use super::{Record, lock};
use crate::exit::{ExitReason, ShutdownCause, contained};
use crate::runtime::inbox::Wake;
use crate::runtime::telemetry::is_traced;

/// How it came to end, as far as it is known.
#[derive(Default)]
pub(super) struct Testimony {
    /// Set by the wrapper when a callback fails.
    failure: Option<ExitReason>,
    /// Set by a supervisor about to end in good order.
    cause: Option<ShutdownCause>,
    /// ractor's text for a stop, noted by the supervisor when it hears the event.
    text: Option<String>,
    /// What the callback that failed ran in, while somebody traces that.
    trace: Option<Span>,
}

impl Record {
    /// Notes that nobody told how it ended.
    pub(crate) fn note_unobserved(&self) {
        let mut notes = lock(&self.notes);
        if !notes.stopped {
            let failure = &mut notes.testimony().failure;
            failure.get_or_insert(ExitReason::Unobserved);
        }
    }

    /// Called by the wrapper. From here on ractor need not tell the supervisor anything: the keeper will,
    /// and a second task that is woken costs more than the rest of a restart.
    pub(crate) fn note_failure(&self, reason: ExitReason) {
        self.leave();
        let trace = is_traced().then(|| contained(Span::current)).flatten();
        {
            let mut notes = lock(&self.notes);
            let testimony = notes.testimony();
            testimony.failure.get_or_insert(reason);
            testimony.trace = trace.filter(|span| !span.is_disabled());
        }
        self.unlink();
    }

    /// ractor need not tell the supervisor anything.
    fn unlink(&self) {
        let cell = lock(&self.notes).cell.clone();
        if let Some(cell) = cell
            && let Some(above) = cell.try_get_supervisor()
            && above.is_message_type_of::<Wake>() == Some(true)
        {
            cell.unlink(above);
        }
    }

    /// What the callback that failed ran in.
    pub(crate) fn take_trace(&self) -> Option<Span> {
        lock(&self.notes).testimony.as_mut()?.trace.take()
    }

    /// What is done with it from now on, unless it has ended already.
    pub(crate) fn note_work(&self, work: Option<Box<Span>>) {
        let spent = {
            let mut notes = lock(&self.notes);
            // Looked up under the lock that `close` takes.
            if self.exit().is_some() {
                work
            } else {
                std::mem::replace(&mut notes.work, work)
            }
        };
        let _ = contained(|| drop(spent));
    }

    /// What is done with it at present. Nobody else will ask.
    pub(crate) fn take_work(&self) -> Option<Box<Span>> {
        if is_traced() {
            lock(&self.notes).work.take()
        } else {
            None
        }
    }

    /// Those who hold the record of an end do not hold spans open.
    pub(super) fn let_go_of_spans(&self) {
        let (work, trace) = {
            let mut notes = lock(&self.notes);
            let trace = notes.testimony.as_mut().and_then(|it| it.trace.take());
            (notes.work.take(), trace)
        };
        let _ = contained(|| drop((work, trace)));
    }

    /// Called by the wrapper. What has a cause needs no text of ractor's.
    pub(crate) fn note_stopped(&self) {
        let has_cause = {
            let mut notes = lock(&self.notes);
            notes.stopped = true;
            let testimony = notes.testimony.as_ref();
            testimony.is_some_and(|testimony| testimony.cause.is_some())
        };
        if has_cause {
            self.unlink();
        }
    }

    pub(crate) fn note_cause(&self, cause: ShutdownCause) {
        let mut notes = lock(&self.notes);
        notes.testimony().cause.get_or_insert(cause);
    }

    /// What its keeper told it, unless something else was heard.
    pub(crate) fn note_told(&self, text: &str) {
        let mut notes = lock(&self.notes);
        notes
            .testimony()
            .text
            .get_or_insert_with(|| text.to_owned());
    }

    pub(crate) fn note_text(&self, text: Option<String>) {
        if text.is_some() {
            lock(&self.notes).testimony().text = text;
        }
    }

    /// What the notes make of an end that the join handle reported.
    pub(crate) fn verdict(&self, cancelled: bool) -> ExitReason {
        let mut notes = lock(&self.notes);
        let stopped = notes.stopped;
        if let Some(Testimony {
            failure: Some(failure),
            ..
        }) = notes.testimony.as_deref()
        {
            return failure.clone();
        }
        if !stopped {
            return if cancelled {
                ExitReason::Cancelled
            } else {
                ExitReason::Killed
            };
        }
        let Some(testimony) = &mut notes.testimony else {
            return ExitReason::Stopped { reason: None };
        };
        if let Some(cause) = &testimony.cause {
            return ExitReason::Ended(cause.clone());
        }
        match testimony.text.take() {
            Some(text) if text == "Drained" => ExitReason::Drained,
            reason => ExitReason::Stopped { reason },
        }
    }

    pub(crate) fn failure(&self) -> Option<ExitReason> {
        let notes = lock(&self.notes);
        notes.testimony.as_ref()?.failure.clone()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tracing::Span;

    use super::super::{Record, lock};
    use crate::exit::ExitReason;
    use crate::id::{ChildId, Generation};

    /// A supervisor may tell it to end before it hears that there is nothing left to end.
    #[test]
    fn a_record_that_is_closed_keeps_no_span_open() {
        let record = Record::new(ChildId::from("a"), None, Generation(1), Vec::new());
        let work = || Some(Box::new(Span::none()));
        record.note_work(work());
        assert!(lock(&record.notes).work.is_some());
        record.close(&Arc::new(ExitReason::Killed));
        assert!(lock(&record.notes).work.is_none());
        record.note_work(work());
        assert!(lock(&record.notes).work.is_none());
    }
}
