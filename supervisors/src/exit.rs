//! Why an actor ended, as it truly was.
//!
//! ractor tells its ends apart by strings: a kill looks like a stop whose reason is "killed", and a
//! panic like a string error. These types say what happened, and keep the error's own type.
//!
//! Invariants: an [`ExitReason`] is cheap to clone; `is_normal` alone decides what a transient child
//! survives; the first error of a chain of ended supervisors stays reachable by `downcast_ref`.

use std::any::Any;
use std::error::Error;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use crate::id::ChildId;
use crate::panic_capture::Seen;

/// An error as ractor's callbacks return it.
pub(crate) type BoxError = Box<dyn Error + Send + Sync + 'static>;

/// Drops what a panic left. That may panic again, and what is left then too: it is not dropped at all.
pub(crate) fn discard(payload: Box<dyn Any + Send>) {
    if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        std::mem::forget(again);
    }
}

/// What `call` yields; nothing when it panics, whatever the payload.
pub(crate) fn contained<T>(call: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(call)).map_err(discard).ok()
}

/// How an incarnation ended.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum ExitReason {
    /// Stopped gracefully: `post_stop` ran to its end.
    Stopped {
        /// The text given to `stop`, where one was given and could be learnt.
        reason: Option<String>,
    },
    /// Drained: it handled what was queued and stopped gracefully.
    Drained,
    /// Killed; `post_stop` did not run, or not to its end.
    Killed,
    /// Its task was aborted, or the runtime went away beneath it.
    Cancelled,
    /// A callback returned this error.
    Failed(Arc<dyn Error + Send + Sync + 'static>),
    /// A callback panicked.
    Panicked(PanicInfo),
    /// It never became ready, for this reason.
    StartFailed(Arc<ExitReason>),
    /// It did not become ready within its start timeout.
    StartTimeout(Duration),
    /// One callback took longer than its watchdog allows, and it was killed.
    Hung {
        /// How long the callback had been running.
        in_handler: Duration,
    },
    /// It was a supervisor and ended in good order, by this cause.
    Ended(ShutdownCause),
    /// It did not even die of a kill and was left behind; its task may still run.
    Abandoned,
    /// There was no such process to begin with.
    NoProcess,
    /// It was not supervised by this crate; only that it ended is known.
    Unobserved,
}

/// How a supervisor came to end.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum ShutdownCause {
    /// Somebody asked for it.
    Requested,
    /// A child failed more often than the intensity or its own backoff allows.
    Exhausted {
        /// The child that failed last.
        child: ChildId,
        /// How it ended.
        reason: Arc<ExitReason>,
    },
    /// Its significant children have ended by themselves.
    AutoShutdown {
        /// The significant child that ended last.
        child: ChildId,
        /// How it ended.
        reason: Arc<ExitReason>,
    },
    /// A child's `classify` said [`Verdict::Escalate`](crate::Verdict::Escalate).
    Escalated {
        /// That child.
        child: ChildId,
        /// How it ended.
        reason: Arc<ExitReason>,
    },
    /// A child could not be started at the supervisor's own start.
    StartFailed {
        /// That child.
        child: ChildId,
        /// Why it did not start.
        reason: Arc<ExitReason>,
    },
}

/// What is known of a panic.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PanicInfo {
    /// The payload, where it was text.
    pub message: String,
    /// File, line and column; known when [`panic_capture::install`](crate::panic_capture::install)
    /// was called.
    pub location: Option<String>,
    /// The stack, many lines; known when the hook was installed and the environment asks for backtraces.
    pub backtrace: Option<String>,
}

impl PanicInfo {
    pub(crate) fn from_payload(payload: &(dyn Any + Send)) -> Self {
        let message = match (
            payload.downcast_ref::<String>(),
            payload.downcast_ref::<&str>(),
        ) {
            (Some(text), _) => text.clone(),
            (None, Some(text)) => (*text).to_owned(),
            (None, None) => "a payload that is not text".to_owned(),
        };
        Self::unseen(message)
    }

    /// Of a panic whose payload somebody else has.
    pub(crate) fn unseen(message: String) -> Self {
        let Seen {
            location,
            backtrace,
        } = crate::panic_capture::take();
        Self {
            message,
            location,
            backtrace,
        }
    }
}

impl fmt::Display for PanicInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.location {
            Some(location) => write!(f, "{} at {location}", self.message),
            None => f.write_str(&self.message),
        }
    }
}

impl ExitReason {
    /// The end by a panic, whose payload is dropped here and may panic again.
    pub(crate) fn of_panic(payload: Box<dyn Any + Send>) -> Self {
        let reason = Self::Panicked(PanicInfo::from_payload(&*payload));
        discard(payload);
        reason
    }

    /// Whether a transient child that ended so is left alone.
    ///
    /// True of a graceful stop, a drain, and a supervisor that ended in good order, whatever the
    /// cause (as in OTP, where such a supervisor exits with `shutdown`).
    #[must_use]
    pub fn is_normal(&self) -> bool {
        match self {
            Self::Stopped { .. } | Self::Drained | Self::Ended(_) => true,
            Self::Killed
            | Self::Cancelled
            | Self::Failed(_)
            | Self::Panicked(_)
            | Self::StartFailed(_)
            | Self::StartTimeout(_)
            | Self::Hung { .. }
            | Self::Abandoned
            | Self::NoProcess
            | Self::Unobserved => false,
        }
    }

    /// The typed error at the root of this end, if there is one of type `E`.
    ///
    /// Looks through failed starts, through supervisors that ended because of a child, and through
    /// the `source` chain of the error itself.
    #[must_use]
    pub fn downcast_ref<E: Error + 'static>(&self) -> Option<&E> {
        match self {
            Self::Failed(error) => {
                let mut next: Option<&(dyn Error + 'static)> = Some(&**error);
                while let Some(error) = next {
                    if let Some(found) = error.downcast_ref::<E>() {
                        return Some(found);
                    }
                    next = error.source();
                }
                None
            }
            Self::StartFailed(reason) => reason.downcast_ref(),
            Self::Ended(cause) => cause.reason()?.downcast_ref(),
            Self::Stopped { .. }
            | Self::Drained
            | Self::Killed
            | Self::Cancelled
            | Self::Panicked(_)
            | Self::StartTimeout(_)
            | Self::Hung { .. }
            | Self::Abandoned
            | Self::NoProcess
            | Self::Unobserved => None,
        }
    }

    /// One word for the kind of end, as logs and metrics use it.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Stopped { .. } => "stopped",
            Self::Drained => "drained",
            Self::Killed => "killed",
            Self::Cancelled => "cancelled",
            Self::Failed(_) => "failed",
            Self::Panicked(_) => "panicked",
            Self::StartFailed(_) => "start_failed",
            Self::StartTimeout(_) => "start_timeout",
            Self::Hung { .. } => "hung",
            Self::Ended(_) => "ended",
            Self::Abandoned => "abandoned",
            Self::NoProcess => "no_process",
            Self::Unobserved => "unobserved",
        }
    }
}

impl fmt::Display for ExitReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stopped { reason: None } => f.write_str("stopped"),
            Self::Stopped {
                reason: Some(reason),
            } => write!(f, "stopped: {reason}"),
            Self::Drained => f.write_str("drained"),
            Self::Killed => f.write_str("killed"),
            Self::Cancelled => f.write_str("task cancelled"),
            Self::Failed(error) => write!(f, "failed: {error}"),
            Self::Panicked(panic) => write!(f, "panicked: {panic}"),
            Self::StartFailed(reason) => write!(f, "did not start: {reason}"),
            Self::StartTimeout(limit) => write!(f, "did not start within {limit:?}"),
            Self::Hung { in_handler } => write!(f, "hung: one callback took {in_handler:?}"),
            Self::Ended(cause) => write!(f, "ended: {cause}"),
            Self::Abandoned => f.write_str("did not die of a kill, abandoned"),
            Self::NoProcess => f.write_str("no such process"),
            Self::Unobserved => f.write_str("ended, not supervised here"),
        }
    }
}

/// The source skips one level, since the text holds the error's own words already.
impl Error for ExitReason {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Failed(error) => error.source(),
            Self::StartFailed(reason) => reason.source(),
            Self::Ended(cause) => cause.reason()?.source(),
            Self::Stopped { .. }
            | Self::Drained
            | Self::Killed
            | Self::Cancelled
            | Self::Panicked(_)
            | Self::StartTimeout(_)
            | Self::Hung { .. }
            | Self::Abandoned
            | Self::NoProcess
            | Self::Unobserved => None,
        }
    }
}

impl ShutdownCause {
    /// One word for the kind of cause, as logs and metrics use it.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Requested => "requested",
            Self::Exhausted { .. } => "exhausted",
            Self::AutoShutdown { .. } => "auto_shutdown",
            Self::Escalated { .. } => "escalated",
            Self::StartFailed { .. } => "start_failed",
        }
    }

    /// The child whose end is the cause, if one is.
    #[must_use]
    pub fn child(&self) -> Option<&ChildId> {
        match self {
            Self::Requested => None,
            Self::Exhausted { child, .. }
            | Self::AutoShutdown { child, .. }
            | Self::Escalated { child, .. }
            | Self::StartFailed { child, .. } => Some(child),
        }
    }

    /// How that child ended.
    #[must_use]
    pub fn reason(&self) -> Option<&Arc<ExitReason>> {
        match self {
            Self::Requested => None,
            Self::Exhausted { reason, .. }
            | Self::AutoShutdown { reason, .. }
            | Self::Escalated { reason, .. }
            | Self::StartFailed { reason, .. } => Some(reason),
        }
    }
}

impl fmt::Display for ShutdownCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Requested => f.write_str("requested"),
            Self::Exhausted { child, reason } => {
                write!(f, "restarts exhausted by {child} ({reason})")
            }
            Self::AutoShutdown { child, reason } => {
                write!(f, "significant child {child} ended ({reason})")
            }
            Self::Escalated { child, reason } => write!(f, "escalated by {child} ({reason})"),
            Self::StartFailed { child, reason } => write!(f, "child {child} {reason}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error, PartialEq)]
    #[error("link is down")]
    struct LinkDown;

    #[test]
    fn a_typed_error_is_found_through_two_ended_supervisors() {
        let failed = Arc::new(ExitReason::Failed(Arc::new(LinkDown)));
        let inner = Arc::new(ExitReason::Ended(ShutdownCause::Exhausted {
            child: "a".into(),
            reason: failed,
        }));
        let outer = ExitReason::Ended(ShutdownCause::Escalated {
            child: "b".into(),
            reason: Arc::new(ExitReason::StartFailed(inner)),
        });
        assert_eq!(outer.downcast_ref::<LinkDown>(), Some(&LinkDown));
        assert!(outer.downcast_ref::<std::io::Error>().is_none());
    }

    #[test]
    fn a_typed_error_is_found_behind_an_io_error() {
        let io = std::io::Error::other(Wrapper(LinkDown));
        let reason = ExitReason::Failed(Arc::new(Wrapper2(io)));
        assert!(reason.downcast_ref::<std::io::Error>().is_some());
    }

    #[derive(Debug, thiserror::Error)]
    #[error("wrapped")]
    struct Wrapper(#[source] LinkDown);

    #[derive(Debug, thiserror::Error)]
    #[error("wrapped again")]
    struct Wrapper2(#[source] std::io::Error);

    /// The text of an end holds its error's own words; the chain goes on with what caused that error.
    #[test]
    fn the_causes_of_a_nested_start_failure_can_be_walked() {
        let failed = ExitReason::Failed(Arc::new(Wrapper(LinkDown)));
        let inner = ExitReason::Ended(ShutdownCause::StartFailed {
            child: "a".into(),
            reason: Arc::new(ExitReason::StartFailed(Arc::new(failed))),
        });
        let outer = ExitReason::Ended(ShutdownCause::StartFailed {
            child: "b".into(),
            reason: Arc::new(ExitReason::StartFailed(Arc::new(inner))),
        });
        assert!(outer.to_string().ends_with("failed: wrapped"), "{outer}");
        let cause = outer.source().unwrap();
        assert_eq!(cause.downcast_ref::<LinkDown>(), Some(&LinkDown));
        assert!(cause.source().is_none());
        assert!(
            ExitReason::Ended(ShutdownCause::Requested)
                .source()
                .is_none()
        );
    }

    #[test]
    fn only_orderly_ends_are_normal() {
        assert!(ExitReason::Stopped { reason: None }.is_normal());
        assert!(ExitReason::Drained.is_normal());
        assert!(ExitReason::Ended(ShutdownCause::Requested).is_normal());
        assert!(!ExitReason::Killed.is_normal());
        assert!(!ExitReason::Cancelled.is_normal());
        assert!(!ExitReason::Failed(Arc::new(LinkDown)).is_normal());
        assert!(!ExitReason::Abandoned.is_normal());
    }
}
