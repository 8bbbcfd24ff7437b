//! What a bad line does to bytes, in one direction: lets through so many at a time, or none after the Nth.
//!
//! A file of its own because it stands below TLS and frames and knows neither; the servers' streams carry one
//! for each direction.
//!
//! Invariants: no byte is changed or reordered; after a cut not one more passes.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

/// One direction of a line.
#[derive(Debug, Default)]
pub(super) struct Shape {
    pace: Option<Pace>,
    /// Bytes that may still pass, if the line is to be cut.
    left: Option<u64>,
}

#[derive(Debug)]
struct Pace {
    bytes: usize,
    every: Duration,
    /// What may still pass in the present period.
    budget: usize,
    /// Runs to the end of the present period.
    next: Pin<Box<Sleep>>,
}

impl Shape {
    /// Lets `bytes` pass every so often; zero bytes for no pace.
    pub(super) fn pace(&mut self, bytes: usize, every: Duration) {
        self.pace = (bytes > 0).then(|| Pace {
            bytes,
            every,
            budget: bytes,
            next: Box::pin(sleep_until(Instant::now() + every)),
        });
    }

    /// Cuts the line after so many bytes more.
    pub(super) fn cut_after(&mut self, bytes: u64) {
        self.left = Some(bytes);
    }

    /// Whether the cut has come.
    pub(super) fn is_cut(&self) -> bool {
        self.left == Some(0)
    }

    /// How many of `wanted` bytes may pass now.
    pub(super) fn poll_room(
        &mut self,
        wanted: usize,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        if self.is_cut() {
            return Poll::Ready(Err(io::Error::other("the line is cut")));
        }
        let uncut = self.left.map_or(wanted, |left| {
            wanted.min(usize::try_from(left).unwrap_or(usize::MAX))
        });
        let Some(pace) = &mut self.pace else {
            return Poll::Ready(Ok(uncut));
        };
        if pace.budget == 0 {
            if pace.next.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            pace.budget = pace.bytes;
            pace.next.as_mut().reset(Instant::now() + pace.every);
        }
        Poll::Ready(Ok(uncut.min(pace.budget)))
    }

    /// So many have passed.
    pub(super) fn passed(&mut self, bytes: usize) {
        if let Some(left) = &mut self.left {
            *left = left.saturating_sub(bytes as u64);
        }
        if let Some(pace) = &mut self.pace {
            pace.budget = pace.budget.saturating_sub(bytes);
        }
    }
}
