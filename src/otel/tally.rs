//! What was handed over for export, and what of it the collector has taken.
//!
//! Apart because OpenTelemetry's own processors do not say it: a batch that is refused, and what found the queue
//! full, is told to nobody but their log, and the end of the one for records is a success whatever became of them.
//!
//! Invariants: a span or a record is counted once when it is handed over and once when it is taken; of metrics,
//! which are sums, only the last export counts.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use opentelemetry::logs::Severity;
use opentelemetry::{Context, InstrumentationScope};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use opentelemetry_sdk::logs::{LogBatch, LogExporter, LogProcessor, SdkLogRecord};
use opentelemetry_sdk::metrics::Temporality;
use opentelemetry_sdk::metrics::data::ResourceMetrics;
use opentelemetry_sdk::metrics::exporter::PushMetricExporter;
use opentelemetry_sdk::trace::{Span, SpanData, SpanExporter, SpanProcessor};

/// The count of one signal.
#[derive(Debug, Default)]
pub(super) struct Tally {
    handed: AtomicU64,
    taken: AtomicU64,
    /// Nothing more is wanted.
    over: AtomicBool,
    /// What the collector, or the way to it, said when it last took nothing.
    refusal: Mutex<Option<String>>,
}

impl Tally {
    /// What the end of the processor comes to, with what happened before it.
    pub(super) fn judge(&self, end: OTelSdkResult) -> Result<(), String> {
        let handed = self.handed.load(Ordering::Acquire);
        let lost = handed.saturating_sub(self.taken.load(Ordering::Acquire));
        let refusal = self.refusal().clone();
        match (end, lost) {
            (Ok(()), 0) => Ok(()),
            (Ok(()), lost) => {
                let why = refusal.unwrap_or_else(|| "the queue was full".to_owned());
                Err(format!("{lost} of {handed} lost, the last because {why}"))
            }
            // The processor's own words may be no more than that it failed.
            (Err(error), _) => Err(refusal.unwrap_or_else(|| error.to_string())),
        }
    }

    fn handed(&self) {
        if !self.over.load(Ordering::Relaxed) {
            self.handed.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn exported(&self, count: usize, result: OTelSdkResult) -> OTelSdkResult {
        match &result {
            Ok(()) => {
                self.taken.fetch_add(count as u64, Ordering::AcqRel);
            }
            Err(OTelSdkError::InternalFailure(why)) => *self.refusal() = Some(why.clone()),
            Err(error) => *self.refusal() = Some(error.to_string()),
        }
        result
    }

    fn refusal(&self) -> MutexGuard<'_, Option<String>> {
        self.refusal.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A processor or an exporter whose work is counted.
#[derive(Debug)]
pub(super) struct Counted<T> {
    inner: T,
    tally: Arc<Tally>,
}

impl<T> Counted<T> {
    pub(super) fn new(inner: T, tally: &Arc<Tally>) -> Self {
        let tally = Arc::clone(tally);
        Self { inner, tally }
    }
}

impl<P: SpanProcessor> SpanProcessor for Counted<P> {
    fn on_start(&self, span: &mut Span, context: &Context) {
        self.inner.on_start(span, context);
    }

    fn on_end(&self, span: SpanData) {
        if span.span_context.is_sampled() {
            self.tally.handed();
        }
        self.inner.on_end(span);
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.tally.over.store(true, Ordering::Relaxed);
        self.inner.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}

impl<P: LogProcessor> LogProcessor for Counted<P> {
    fn emit(&self, record: &mut SdkLogRecord, scope: &InstrumentationScope) {
        self.tally.handed();
        self.inner.emit(record, scope);
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.tally.over.store(true, Ordering::Relaxed);
        self.inner.shutdown_with_timeout(timeout)
    }

    fn event_enabled(&self, level: Severity, target: &str, name: Option<&str>) -> bool {
        self.inner.event_enabled(level, target, name)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}

impl<E: SpanExporter> SpanExporter for Counted<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let count = batch.len();
        self.tally.exported(count, self.inner.export(batch).await)
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}

impl<E: LogExporter> LogExporter for Counted<E> {
    async fn export(&self, batch: LogBatch<'_>) -> OTelSdkResult {
        let count = batch.iter().count();
        self.tally.exported(count, self.inner.export(batch).await)
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn event_enabled(&self, level: Severity, target: &str, name: Option<&str>) -> bool {
        self.inner.event_enabled(level, target, name)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}

impl<E: PushMetricExporter> PushMetricExporter for Counted<E> {
    async fn export(&self, metrics: &ResourceMetrics) -> OTelSdkResult {
        self.tally.exported(0, self.inner.export(metrics).await)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn temporality(&self) -> Temporality {
        self.inner.temporality()
    }
}
