//! The error or panic at the root of an end.
//!
//! Apart from the reports because it only looks for one, through failed starts and ended supervisors.
//!
//! Invariants: a `source` chain that does not end is cut; a type that is not known is not guessed.

use std::error::Error;

use crate::exit::{ExitReason, PanicInfo};

/// How many causes of an error are told.
const CAUSES: usize = 32;

pub(super) enum Fault<'a> {
    Error(&'a (dyn Error + 'static)),
    Panic(&'a PanicInfo),
}

impl<'a> Fault<'a> {
    pub(super) fn of(reason: &'a ExitReason) -> Option<Self> {
        let mut reason = reason;
        loop {
            reason = match reason {
                ExitReason::Failed(error) => return Some(Self::Error(&**error)),
                ExitReason::Panicked(panic) => return Some(Self::Panic(panic)),
                ExitReason::StartFailed(inner) => inner,
                ExitReason::Ended(cause) => cause.reason()?,
                ExitReason::Stopped { .. }
                | ExitReason::Drained
                | ExitReason::Killed
                | ExitReason::Cancelled
                | ExitReason::StartTimeout(_)
                | ExitReason::Hung { .. }
                | ExitReason::Abandoned
                | ExitReason::NoProcess
                | ExitReason::Unobserved => return None,
            };
        }
    }

    /// An error's own type is not known behind `dyn Error`.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Error(_) => "error",
            Self::Panic(_) => "panic",
        }
    }

    pub(super) fn message(&self) -> String {
        match self {
            Self::Error(error) => error.to_string(),
            Self::Panic(panic) => panic.message.clone(),
        }
    }

    /// Where the panic was, with the stack where that is known, or the error's causes, one a line.
    pub(super) fn trace(&self) -> Option<String> {
        match self {
            Self::Error(error) => {
                let mut next = error.source();
                let mut lines = Vec::new();
                while let Some(cause) = next.filter(|_| lines.len() < CAUSES) {
                    lines.push(format!("caused by: {cause}"));
                    next = cause.source();
                }
                (!lines.is_empty()).then(|| lines.join("\n"))
            }
            Self::Panic(panic) => {
                let location = panic.location.as_ref();
                let place = location.map(|location| format!("at {location}"));
                let lines: Vec<String> = place.into_iter().chain(panic.backtrace.clone()).collect();
                (!lines.is_empty()).then(|| lines.join("\n"))
            }
        }
    }
}
