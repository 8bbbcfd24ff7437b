//! Where the events of a session or of a limiter go: to `tracing`, to its own metrics, and to the collectors of its user.
//!
//! Apart from the plane because the recording reports too, and because a collector's panic ends here.
//!
//! Invariants: each event reaches everybody; a collector that panics harms nobody.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::metrics::MetricsCollector;
use crate::protocol::high_water::Level;
use crate::telemetry::{Collector, TelemetryEvent, spans};

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Reporter {
    /// The session's name in events, or the limiter's.
    session: Arc<str>,
    pub(crate) metrics: MetricsCollector,
    collectors: Vec<Arc<dyn Collector>>,
}

impl Reporter {
    /// A reporter of the session, or of the limiter, `name`.
    pub(crate) fn new(name: &str, collectors: Vec<Arc<dyn Collector>>) -> Arc<Self> {
        Arc::new(Self {
            session: Arc::from(name),
            metrics: MetricsCollector::new(),
            collectors,
        })
    }

    /// The name that its events bear.
    pub(crate) fn name(&self) -> &str {
        &self.session
    }

    /// The same, to be kept.
    #[cfg(any(feature = "otel", feature = "prometheus"))]
    pub(crate) fn shared_name(&self) -> &Arc<str> {
        &self.session
    }

    /// A queue is so full.
    pub(crate) fn filling(&self, queue: &'static str, channel: Option<&str>, level: Level) {
        // What nobody counts has no bound.
        let counted = level.max_bytes < usize::MAX;
        self.report(&TelemetryEvent::QueueFilling {
            queue,
            channel,
            waiting: level.waiting,
            capacity: level.capacity,
            bytes: counted.then_some(level.bytes),
            max_bytes: counted.then_some(level.max_bytes),
        });
    }

    /// Tells everybody.
    pub(crate) fn report(&self, event: &TelemetryEvent<'_>) {
        self.metrics.on_event(&self.session, event);
        self.tell(event);
    }

    /// Whether anybody may hear of each request, beside the session's own metrics, which can be told of many at once.
    pub(crate) fn hears_requests(&self) -> bool {
        !self.collectors.is_empty() || spans::hears_debug()
    }

    /// Tells everybody but the session's own metrics.
    pub(crate) fn tell(&self, event: &TelemetryEvent<'_>) {
        event.record(&self.session);
        for collector in &self.collectors {
            let told = catch_unwind(AssertUnwindSafe(|| {
                collector.on_event(&self.session, event);
            }));
            if let Err(panic) = told {
                let during = event.name();
                TelemetryEvent::CollectorPanicked { during }.record(&self.session);
                // The payload is a stranger's, and so is its drop.
                let _ = catch_unwind(AssertUnwindSafe(move || drop(panic)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[derive(Debug)]
    struct Panicking;

    impl Collector for Panicking {
        fn on_event(&self, _session: &str, _event: &TelemetryEvent<'_>) {
            panic!("a collector's own fault");
        }
    }

    #[derive(Debug, Default)]
    struct Counting(AtomicU64);

    impl Collector for Counting {
        fn on_event(&self, session: &str, _event: &TelemetryEvent<'_>) {
            assert_eq!(session, "venue");
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_collector_that_panics_harms_nobody() {
        let counting = Arc::new(Counting::default());
        let reporter = Reporter::new("venue", vec![Arc::new(Panicking), counting.clone()]);
        for epoch in 1..=2 {
            reporter.report(&TelemetryEvent::Opened {
                epoch,
                host: "localhost",
                port: 443,
                connect_time: std::time::Duration::ZERO,
            });
        }
        assert_eq!(counting.0.load(Ordering::Relaxed), 2);
        assert_eq!(reporter.metrics.snapshot().connections_opened, 2);
    }
}
