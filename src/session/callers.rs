//! How many of the user's calls wait for an answer, and when none does.
//!
//! Apart from what the connection has in flight because these also wait for their turn, because nobody waits any
//! more for what was given up, and because a pool waits for their end.
//!
//! Invariants: whoever has been counted is taken off again in whatever way the call ends, the caller's going away
//! included; whoever was admitted before the door closed is waited for.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::sync::Notify;

/// The callers of one session.
#[derive(Debug, Default)]
pub(crate) struct Callers {
    count: AtomicUsize,
    none: Notify,
    /// Set when the session leaves its pool.
    closed: AtomicBool,
    /// Set when the session is drained.
    drained: AtomicBool,
}

/// One that waits; counted until it is dropped.
#[derive(Debug)]
pub(crate) struct Caller<'a>(&'a Callers);

impl Callers {
    /// One more.
    pub(crate) fn begin(&self) -> Caller<'_> {
        self.count.fetch_add(1, Ordering::SeqCst);
        Caller(self)
    }

    /// One more, unless no more come in by a pool's door.
    pub(crate) fn admit(&self) -> Option<Caller<'_>> {
        // Counted before the door is looked at: whoever closes it does these in the other order.
        let caller = self.begin();
        (!self.closed.load(Ordering::SeqCst)).then_some(caller)
    }

    /// Admits nobody from now on.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
    }

    /// Takes nobody from now on, by whatever door.
    pub(crate) fn drain(&self) {
        self.close();
        self.drained.store(true, Ordering::SeqCst);
    }

    /// Whether nobody is taken any more.
    pub(crate) fn is_drained(&self) -> bool {
        self.drained.load(Ordering::SeqCst)
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.count.load(Ordering::SeqCst)
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
        if self.0.count.fetch_sub(1, Ordering::SeqCst) == 1 {
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
        callers.close();
        assert!(callers.admit().is_none());
        assert_eq!(callers.count(), 0);
        assert!(!callers.is_drained());
        callers.drain();
        assert!(callers.is_drained());
    }
}
