//! What waits in a limiter: a caller, or something that is to be written.
//!
//! Apart so that the limiter need not know what a grant does.
//!
//! Invariant: each is told exactly once, also by being dropped.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::oneshot;

use crate::config::limits::Weight;
use crate::session::line::{Line, Outbound};
use crate::session::port::Bound;

#[derive(Debug)]
pub(super) enum Waiting {
    /// Somebody waits to be told.
    Caller {
        weight: Weight,
        sender: oneshot::Sender<Instant>,
    },
    /// Something is to be put into a line's queue.
    Delivery {
        weight: Weight,
        line: Arc<Line>,
        outbound: Outbound,
        /// Whether into the urgent one.
        urgent: bool,
        /// Tells whoever submitted it that it is there.
        turn: oneshot::Sender<Instant>,
    },
}

impl Waiting {
    /// Tells or delivers; `Err` with what was paid if nobody was there. Never blocks.
    pub(super) fn grant(self, now: Instant) -> Result<(), Weight> {
        match self {
            Self::Caller { weight, sender } => sender.send(now).map_err(|_| weight),
            Self::Delivery {
                weight,
                line,
                outbound,
                urgent,
                turn,
            } => {
                if outbound.is_abandoned() {
                    return Err(weight);
                }
                let queue = if urgent { &line.urgent } else { &line.sender };
                // A port that is dropped here tells its caller that nothing was sent.
                queue.try_send(outbound).map_err(|refused| {
                    if let TrySendError::Full(outbound) = refused {
                        outbound.crowd_out(Bound::Outbound(queue.max_capacity()));
                    }
                    weight
                })?;
                // Whoever submitted it may not care.
                let _ = turn.send(now);
                Ok(())
            }
        }
    }

    /// Its deadline has passed.
    pub(super) fn expire(self) {
        match self {
            // Being dropped says it.
            Self::Caller { .. } => {}
            Self::Delivery { outbound, .. } => outbound.expire(),
        }
    }

    /// Whether a grant could reach nobody any more.
    pub(super) fn is_dead(&self) -> bool {
        match self {
            Self::Caller { sender, .. } => sender.is_closed(),
            Self::Delivery { line, .. } => line.sender.is_closed(),
        }
    }
}
