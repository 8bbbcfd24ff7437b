//! How many of the user's calls wait for an answer, and when none does.
//!
//! Apart from what the connection has in flight because these also wait for their turn, because nobody waits any
//! more for what was given up, and because a pool waits for their end.
//!
//! Invariants: whoever has been counted is taken off again in whatever way the call ends, the caller's going away
//! included.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

/// The callers of one session.
#[derive(Debug, Default)]
pub(crate) struct Callers {
    count: AtomicUsize,
    none: Notify,
}

/// One that waits; counted until it is dropped.
#[derive(Debug)]
pub(crate) struct Caller<'a>(&'a Callers);

impl Callers {
    /// One more.
    pub(crate) fn begin(&self) -> Caller<'_> {
        self.count.fetch_add(1, Ordering::AcqRel);
        Caller(self)
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }

    /// Waits until there are none. Cancel safe.
    pub(crate) async fn none(&self) {
        loop {
            // Made before the count is read, so that no end is missed.
            let none = self.none.notified();
            if self.count() == 0 {
                return;
            }
            none.await;
        }
    }
}

impl Drop for Caller<'_> {
    fn drop(&mut self) {
        if self.0.count.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.none.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn whoever_waits_for_the_last_one_hears_of_it() {
        let callers = Callers::default();
        callers.none().await;
        let (one, other) = (callers.begin(), callers.begin());
        assert_eq!(callers.count(), 2);
        let none = callers.none();
        tokio::pin!(none);
        assert!(futures_util::poll!(&mut none).is_pending());
        drop(one);
        assert!(futures_util::poll!(&mut none).is_pending());
        drop(other);
        assert!(futures_util::poll!(&mut none).is_ready());
    }
}
