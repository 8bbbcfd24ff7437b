//! The numbers in the keys of dynamic children.
//!
//! Apart from the references that use them, because all incarnations by one spec, and all who speak to
//! them, have to count together.
//!
//! Invariants: a number is never given twice; two specs that were not cloned from each other differ.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Shared by the clones of a spec.
#[derive(Clone)]
pub(crate) struct Keys {
    last: Arc<AtomicU64>,
    /// Whose they are, for comparing.
    series: u64,
}

impl Keys {
    pub(crate) fn new() -> Self {
        static LAST_SERIES: AtomicU64 = AtomicU64::new(0);
        Self {
            last: Arc::default(),
            series: LAST_SERIES.fetch_add(1, Ordering::Relaxed),
        }
    }

    pub(crate) fn next(&self) -> u64 {
        self.last.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub(crate) fn series(&self) -> u64 {
        self.series
    }
}
