//! Reports: each event goes to the observers and to `tracing`, in one shape.
//!
//! ```text
//! target supervisors   fields supervisor.path, child.id, child.generation, exit.kind, exit.reason,
//!                      restart.attempt, restart.delay_ms, restart.window_used, restart.window_limit, duration_ms
//! ```
//!
//! Invariants: levels mean `error` a person is needed, `warn` we recovered, `info` life cycle,
//! `debug` decisions; a panicking observer harms nobody; no span is opened for a child's life.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use crate::event::{SupervisorEvent, SupervisorEventKind as Kind};
use crate::spec::Observer;

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

macro_rules! report {
    ($level:ident, $event:ident $(, $($fields:tt)+)?) => {
        tracing::$level!(
            target: "supervisors",
            {
                supervisor.path = %$event.path,
                child.id = $event.child.as_ref().map(|id| id.as_str()),
                child.generation = $event.generation.0,
                $($($fields)+)?
            },
            "{}",
            $event.kind.name()
        )
    };
}

/// Tells everybody who listens.
pub(crate) fn announce(observers: &[Observer], event: &SupervisorEvent) {
    log(event);
    for observe in observers {
        if catch_unwind(AssertUnwindSafe(|| observe(event))).is_err() {
            tracing::error!(
                            target: "supervisors",
            { supervisor.path = %event.path },
            "an observer panicked at {}",
                            event.kind.name()
            );
        }
    }
}

fn log(event: &SupervisorEvent) {
    match &event.kind {
        Kind::ChildStarted { took } => report!(info, event, duration_ms = millis(*took)),
        Kind::ChildRestarted { took } => report!(info, event, duration_ms = millis(*took)),
        Kind::ChildStartFailed { reason } => {
            report!(warn, event, exit.kind = reason.kind(), exit.reason = %reason);
        }
        Kind::ChildIgnored => report!(info, event),
        Kind::ChildPostponed { delay } => {
            report!(debug, event, restart.delay_ms = millis(*delay));
        }
        Kind::ChildExited {
            reason,
            uptime,
            restarts,
        } => {
            if reason.is_normal() && !restarts {
                report!(debug, event, exit.kind = reason.kind(), exit.reason = %reason, duration_ms = millis(*uptime));
            } else {
                report!(warn, event, exit.kind = reason.kind(), exit.reason = %reason, duration_ms = millis(*uptime));
            }
        }
        Kind::RestartPlanned {
            delay,
            attempt,
            counted,
            group,
            window: (used, limit),
        } => {
            report!(
                debug,
                event,
                restart.attempt = attempt,
                restart.delay_ms = millis(*delay),
                restart.counted = counted,
                restart.group = group.len(),
                restart.window_used = used,
                restart.window_limit = limit
            );
        }
        Kind::IntensityLow { used, limit } => {
            report!(
                warn,
                event,
                restart.window_used = used,
                restart.window_limit = limit
            );
        }
        Kind::ChildParked { reason } => {
            report!(error, event, exit.kind = reason.kind(), exit.reason = %reason);
        }
        Kind::ChildStopped { reason } => {
            report!(info, event, exit.kind = reason.kind(), exit.reason = %reason);
        }
        Kind::ChildKilled => report!(warn, event),
        Kind::ChildAbandoned => report!(error, event),
        Kind::Exhausted { reason } => {
            report!(error, event, exit.kind = reason.kind(), exit.reason = %reason);
        }
        Kind::AutoShutdown { reason } => {
            report!(info, event, exit.kind = reason.kind(), exit.reason = %reason);
        }
        Kind::Escalated { reason } => {
            report!(error, event, exit.kind = reason.kind(), exit.reason = %reason);
        }
        Kind::Ready => report!(info, event),
        Kind::Shutdown { cause } => report!(info, event, exit.reason = %cause),
    }
}
