//! Spans, logs and metrics for whatever OpenTelemetry collector you have, by one call (feature `otel`).
//!
//! A module of its own, above the configuration and apart from [`telemetry`](crate::telemetry), because nothing
//! in the library needs it: sessions and supervisors make spans and records of `tracing`, with or without it.
//! Here they are carried out of the process, over OTLP.
//!
//! ```no_run
//! use std::time::Duration;
//! use mainstay::otel::Otel;
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let otel = Otel::from_env().start()?;
//! // … the program …
//! otel.shutdown(Duration::from_secs(5)).await?;
//! # Ok(())
//! # }
//! ```
//!
//! | environment variable | meaning | who reads it |
//! |---|---|---|
//! | `OTEL_SDK_DISABLED` | `true`: nothing is set up, all of this does nothing | here |
//! | `OTEL_TRACES_EXPORTER`, `OTEL_LOGS_EXPORTER` | `otlp` (default) or `none` | here |
//! | `OTEL_METRICS_EXPORTER` | `otlp` (default), `prometheus` (feature of that name), both with a comma between, or `none` | here |
//! | `OTEL_EXPORTER_PROMETHEUS_HOST`, `_PORT` | where metrics wait to be scraped; `127.0.0.1`, 9464 | here |
//! | `OTEL_EXPORTER_OTLP_ENDPOINT` | where the collector is; `http://localhost:4318`, or `:4317` for gRPC | here |
//! | `OTEL_EXPORTER_OTLP_PROTOCOL` | `http/protobuf` (default) or `grpc` | here |
//! | `OTEL_EXPORTER_OTLP_TIMEOUT` | milliseconds for one batch; 10000 | here |
//! | `OTEL_EXPORTER_OTLP_INSECURE` | `true`: an endpoint for gRPC that names no scheme is without TLS | here |
//! | `OTEL_EXPORTER_OTLP_HEADERS` | `name=value,…`, sent with each batch | checked here, read by the exporter |
//! | `OTEL_SERVICE_NAME` | `service.name` of all that is sent | the SDK |
//! | `OTEL_RESOURCE_ATTRIBUTES` | `name=value,…` of all that is sent | checked here, read by the SDK |
//! | `OTEL_TRACES_SAMPLER`, `OTEL_TRACES_SAMPLER_ARG` | which traces are kept; all | checked here, read by the SDK |
//! | `OTEL_METRIC_EXPORT_INTERVAL` | milliseconds between two exports of metrics; 60000 | checked here, read by the SDK |
//! | `OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE` | `cumulative` (default), `delta` or `lowmemory` | the exporter |
//! | `OTEL_BSP_*`, `OTEL_BLRP_*` | sizes and delays of batches | the SDK |
//!
//! `ENDPOINT`, `PROTOCOL`, `TIMEOUT`, `INSECURE` and `HEADERS` may also be set for one signal, as in
//! `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT`, which is then taken as it is, without `/v1/traces` behind it. Nothing
//! is compressed, whatever `OTEL_EXPORTER_OTLP_COMPRESSION` says. An empty variable counts as none.
//!
//! Invariants: the program's own runtime is never blocked and may be of any kind, since batches leave from
//! threads of their own; there is one TLS, rustls, with the provider that [`Tls`] has; no header's value is in
//! any error, `Debug` or record; what the exporters say of themselves is never exported.

mod error;
mod export;
mod line;
mod settings;
mod tally;

use std::fmt;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use opentelemetry::trace::TracerProvider as _;
use opentelemetry::{KeyValue, global};
use opentelemetry_appender_tracing::layer::OpenTelemetryTracingBridge;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::logs::SdkLoggerProvider;
use opentelemetry_sdk::metrics::SdkMeterProvider;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tokio::sync::oneshot;
use tracing::level_filters::LevelFilter;
use tracing::{Metadata, Subscriber};
use tracing_subscriber::filter::FilterFn;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;

pub use error::{FlushError, OtelError};
pub use settings::{Protocol, Signal};

use crate::config::Tls;
use line::Engine;
use settings::Settings;
use tally::Tally;

/// How long a guard that is dropped waits for what is left.
const DROP_LIMIT: Duration = Duration::from_secs(3);

/// What is to be set up. Values given here go before those of the environment.
#[derive(Debug, Clone)]
#[must_use = "call `start` or `build`"]
pub struct Otel {
    service: Option<String>,
    attributes: Vec<(String, String)>,
    endpoint: Option<String>,
    protocol: Option<Protocol>,
    tls: Tls,
    spans: LevelFilter,
    logs: LevelFilter,
}

impl Otel {
    /// What the environment says; it is read by [`start`](Self::start) or [`build`](Self::build).
    pub fn from_env() -> Self {
        Self {
            service: None,
            attributes: Vec::new(),
            endpoint: None,
            protocol: None,
            tls: Tls::default(),
            spans: LevelFilter::DEBUG,
            logs: LevelFilter::INFO,
        }
    }

    /// The attribute `service.name`. Default: `OTEL_SERVICE_NAME`, else `unknown_service:` and the program.
    pub fn service_name(mut self, name: impl Into<String>) -> Self {
        self.service = Some(name.into());
        self
    }

    /// Adds an attribute to all that is sent, such as `deployment.environment.name`.
    pub fn attribute(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.attributes.push((name.into(), value.into()));
        self
    }

    /// Where the collector is, as in `http://localhost:4318`; for HTTP, the signal's path is put behind it.
    pub fn endpoint(mut self, url: impl Into<String>) -> Self {
        self.endpoint = Some(url.into());
        self
    }

    /// How to speak to it.
    pub fn protocol(mut self, protocol: Protocol) -> Self {
        self.protocol = Some(protocol);
        self
    }

    /// Whom to trust if the endpoint is `https`. Default: as for a session.
    pub fn tls(mut self, tls: Tls) -> Self {
        self.tls = tls;
        self
    }

    /// The finest level of spans that are sent. Default: debug.
    pub fn spans(mut self, level: LevelFilter) -> Self {
        self.spans = level;
        self
    }

    /// The finest level of records that are sent. Default: info. At trace, each batch of frames is one.
    pub fn logs(mut self, level: LevelFilter) -> Self {
        self.logs = level;
        self
    }

    /// Sets all up, and makes it the program's subscriber of `tracing`. Keep the guard until the program ends.
    ///
    /// To have other layers beside it, such as one that writes to the terminal, call [`build`](Self::build).
    ///
    /// # Errors
    ///
    /// Those of [`build`](Self::build), and [`OtelError::SubscriberSet`] if there is a subscriber already.
    pub fn start(self) -> Result<OtelGuard, OtelError> {
        let guard = self.build()?;
        if guard.is_enabled() {
            tracing_subscriber::registry()
                .with(guard.layer())
                .try_init()
                .map_err(|_| OtelError::SubscriberSet)?;
        }
        Ok(guard)
    }

    /// Sets up a provider for each signal that is exported, with the metrics of [`instruments`](crate::instruments), and makes them OpenTelemetry's global ones, where it has such; the layer is
    /// yours to put into a subscriber. No connection is waited for: a collector may come later.
    ///
    /// # Errors
    ///
    /// [`OtelError`]: a variable that cannot be followed, or no way to export at all.
    pub fn build(self) -> Result<OtelGuard, OtelError> {
        let variable = |name: &str| {
            let value = std::env::var_os(name)?.to_string_lossy().trim().to_owned();
            (!value.is_empty()).then_some(value)
        };
        let settings = Settings::read(self.endpoint.as_deref(), self.protocol, &variable)?;
        let Some(settings) = settings else {
            return Ok(OtelGuard {
                providers: None,
                spans: self.spans,
                logs: self.logs,
            });
        };
        let mut resource = Resource::builder().with_attributes(
            self.attributes
                .into_iter()
                .map(|(name, value)| KeyValue::new(name, value)),
        );
        if let Some(service) = self.service {
            resource = resource.with_service_name(service);
        }
        let providers = Providers::start(&settings, &self.tls, resource.build())?;
        if let Some(traces) = &providers.traces {
            global::set_tracer_provider(traces.clone());
        }
        global::set_meter_provider(providers.metrics.clone());
        Ok(OtelGuard {
            providers: Some(providers),
            spans: self.spans,
            logs: self.logs,
        })
    }
}

/// The export, as long as it lives.
///
/// End it with [`shutdown`](Self::shutdown), which says what could not be sent. Dropping it also sends what is
/// left, but blocks its thread for up to 3 s, and tells of a failure only by a record at warn.
#[must_use = "what is still in memory when this is dropped may be lost"]
pub struct OtelGuard {
    /// Nothing if `OTEL_SDK_DISABLED`, or after the end.
    providers: Option<Providers>,
    spans: LevelFilter,
    logs: LevelFilter,
}

impl OtelGuard {
    /// Whether anything is exported: not with `OTEL_SDK_DISABLED=true`.
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        self.providers.is_some()
    }

    /// Where the metrics wait to be scraped, at `/metrics`; nowhere unless `OTEL_METRICS_EXPORTER` says `prometheus`.
    #[cfg(feature = "prometheus")]
    #[must_use]
    pub fn scrape_address(&self) -> Option<std::net::SocketAddr> {
        let server = self.providers.as_ref()?.scraped.as_ref()?;
        Some(server.address())
    }

    /// Spans and records of `tracing`, for a subscriber of your own. A record made within a span bears its trace id.
    ///
    /// ```no_run
    /// use mainstay::otel::Otel;
    /// use tracing_subscriber::prelude::*;
    ///
    /// # fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// let otel = Otel::from_env().service_name("quoter").build()?;
    /// tracing_subscriber::registry()
    ///     .with(otel.layer())
    ///     .with(tracing_subscriber::fmt::layer())
    ///     .init();
    /// # Ok(())
    /// # }
    /// ```
    pub fn layer<S>(&self) -> impl Layer<S> + Send + Sync + 'static + use<S>
    where
        S: Subscriber + for<'a> LookupSpan<'a> + Send + Sync,
    {
        let providers = self.providers.as_ref();
        let traces = providers.and_then(|one| one.traces.as_ref());
        let records = providers.and_then(|one| one.logs.as_ref());
        let spans = traces.map_or(LevelFilter::OFF, |_| self.spans);
        let logs = records.map_or(LevelFilter::OFF, |_| self.logs);
        // Upon a registry two layers together hint what the outer one does, so each says what both want.
        let finest = spans.max(logs);
        let wanted = move |metadata: &Metadata<'_>| {
            let finest = if metadata.is_span() { spans } else { logs };
            *metadata.level() <= finest
                && !is_internal(metadata.target())
                && !(metadata.is_span() && is_lifelong(metadata.target()))
        };
        let of_spans = traces
            .map(|traces| tracing_opentelemetry::layer().with_tracer(traces.tracer("mainstay")))
            .with_filter(FilterFn::new(wanted).with_max_level_hint(finest));
        let wanted = move |metadata: &Metadata<'_>| {
            metadata.is_event() && *metadata.level() <= logs && !is_internal(metadata.target())
        };
        let of_logs = records
            .map(OpenTelemetryTracingBridge::new)
            .with_filter(FilterFn::new(wanted).with_max_level_hint(finest));
        Layer::and_then(of_spans, of_logs)
    }

    /// Sends what is left of all three signals, and ends the export. Later spans, records and measurements go
    /// nowhere. End your sessions first.
    ///
    /// Should the future be dropped, the export ends all the same, unheard.
    ///
    /// # Errors
    ///
    /// [`FlushError`] with the signals of which something was or may be lost, now or at any time before, after `within`
    /// at the latest.
    pub async fn shutdown(mut self, within: Duration) -> Result<(), FlushError> {
        let Some(providers) = self.providers.take() else {
            return Ok(());
        };
        let (tell, told) = oneshot::channel();
        // Waiting blocks, and without tokio's clock, which a test may have stopped.
        let waiting = thread::Builder::new()
            .name("mainstay-otel-end".to_owned())
            .spawn(move || {
                // Nobody may be listening any more.
                let _ = tell.send(providers.shutdown(within));
            });
        match waiting {
            Ok(_) => told
                .await
                .unwrap_or_else(|_| Err(FlushError::all("the thread ended"))),
            Err(error) => Err(FlushError::all(&error.to_string())),
        }
    }
}

impl Drop for OtelGuard {
    fn drop(&mut self) {
        if let Some(providers) = self.providers.take()
            && let Err(error) = providers.shutdown(DROP_LIMIT)
        {
            tracing::warn!(target: "mainstay::telemetry", %error, "export ended with losses");
        }
    }
}

impl fmt::Debug for OtelGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OtelGuard")
            .field("enabled", &self.is_enabled())
            .finish_non_exhaustive()
    }
}

/// What has become of each signal.
#[derive(Default)]
struct Tallies {
    traces: Arc<Tally>,
    logs: Arc<Tally>,
    metrics: Arc<Tally>,
}

/// The three, and the thread behind them.
struct Providers {
    traces: Option<SdkTracerProvider>,
    logs: Option<SdkLoggerProvider>,
    metrics: SdkMeterProvider,
    #[cfg(feature = "prometheus")]
    scraped: Option<crate::prometheus::Server>,
    tallies: Tallies,
    /// Ends when the last of them has: the batches in flight need it.
    engine: Arc<Engine>,
}

impl Providers {
    fn start(settings: &Settings, tls: &Tls, resource: Resource) -> Result<Self, OtelError> {
        let engine = Engine::start().map_err(OtelError::Thread)?;
        let tallies = Tallies::default();
        let readers = SdkMeterProvider::builder().with_resource(resource.clone());
        #[cfg(feature = "prometheus")]
        let (readers, scraped) = match settings.scrape {
            false => (readers, None),
            true => {
                let (reader, server) =
                    crate::prometheus::listen(None).map_err(OtelError::Prometheus)?;
                (readers.with_reader(reader), Some(server))
            }
        };
        Ok(Self {
            traces: export::traces(settings, tls, &engine, resource.clone(), &tallies.traces)?,
            logs: export::logs(settings, tls, &engine, resource, &tallies.logs)?,
            metrics: export::metrics(settings, tls, &engine, readers, &tallies.metrics)?,
            #[cfg(feature = "prometheus")]
            scraped,
            tallies,
            engine: Arc::new(engine),
        })
    }

    /// Blocks until all three have ended, or for `within`.
    fn shutdown(self, within: Duration) -> Result<(), FlushError> {
        let deadline = Instant::now() + within;
        let (tell, told) = std::sync::mpsc::channel();
        let Self {
            traces,
            logs,
            metrics,
            tallies,
            engine,
            ..
        } = self;
        type End = Box<dyn FnOnce() -> Result<(), String> + Send>;
        let ends: [(Signal, End); 3] = [
            (
                Signal::Traces,
                Box::new(move || {
                    let end = traces.map_or(Ok(()), |one| one.shutdown_with_timeout(within));
                    tallies.traces.judge(end)
                }),
            ),
            (
                Signal::Logs,
                Box::new(move || {
                    let end = logs.map_or(Ok(()), |one| one.shutdown_with_timeout(within));
                    tallies.logs.judge(end)
                }),
            ),
            (
                Signal::Metrics,
                Box::new(move || {
                    let end = metrics.shutdown_with_timeout(within);
                    tallies.metrics.judge(end)
                }),
            ),
        ];
        // Together, so that each has the whole time.
        for (signal, end) in ends {
            let (tell, engine) = (tell.clone(), Arc::clone(&engine));
            thread::spawn(move || {
                // Nobody may be listening any more.
                let _ = tell.send((signal, end()));
                drop(engine);
            });
        }
        drop(tell);
        let mut left = vec![Signal::Traces, Signal::Logs, Signal::Metrics];
        let mut failed = Vec::new();
        while !left.is_empty() {
            let remaining = deadline.saturating_duration_since(Instant::now());
            let Ok((signal, result)) = told.recv_timeout(remaining) else {
                break;
            };
            left.retain(|other| *other != signal);
            if let Err(why) = result {
                failed.push((signal, why));
            }
        }
        failed.extend(
            left.into_iter()
                .map(|signal| (signal, format!("not done within {within:?}"))),
        );
        FlushError::of(failed)
    }
}

/// Whether a span of this target lasts as long as an actor. It would be sent at the actor's end, weeks after all that
/// is within it, and until then be a parent that nobody has seen.
fn is_lifelong(target: &str) -> bool {
    target.starts_with("ractor::")
}

/// Whether this is OpenTelemetry speaking of itself: to send that would make more of it. What the carriers below it
/// say, such as hyper, is suppressed on their threads, so that a program's own use of them is not.
fn is_internal(target: &str) -> bool {
    target.starts_with("opentelemetry")
}
