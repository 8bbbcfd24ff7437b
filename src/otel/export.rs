//! The three exporters, each with its provider; and the instruments of the last.
//!
//! Apart because they differ in nothing but their types, which OpenTelemetry gives no common trait.
//!
//! Invariant: each has a connection of its own, so that one that is stuck holds up no other.

use std::sync::Arc;

use opentelemetry::metrics::MeterProvider as _;
use opentelemetry_otlp::{
    LogExporter, MetricExporter, SpanExporter, WithExportConfig, WithHttpConfig, WithTonicConfig,
};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::logs::{BatchLogProcessor, SdkLoggerProvider};
use opentelemetry_sdk::metrics::{MeterProviderBuilder, SdkMeterProvider};
use opentelemetry_sdk::trace::{BatchSpanProcessor, SdkTracerProvider};

use super::line::{Dial, Engine};
use super::settings::{Destination, Protocol, Settings};
use super::tally::{Counted, Tally};
use super::{OtelError, Signal};
use crate::config::Tls;
use crate::instruments;

/// An exporter of this type to this destination.
macro_rules! exporter {
    ($exporter:ty, $signal:expr, $destination:expr, $tls:expr, $engine:expr) => {{
        let to: &Destination = $destination;
        let dial = dial($signal, to, $tls)?;
        let built = match to.protocol {
            Protocol::Grpc => <$exporter>::builder()
                .with_tonic()
                .with_channel($engine.channel(dial, to.timeout))
                .with_timeout(to.timeout)
                .build(),
            Protocol::Http => <$exporter>::builder()
                .with_http()
                .with_protocol(opentelemetry_otlp::Protocol::HttpBinary)
                .with_http_client($engine.client(dial, to.timeout))
                .with_endpoint(to.url.as_str())
                .with_timeout(to.timeout)
                .build(),
        };
        built.map_err(|source| OtelError::Exporter {
            signal: $signal,
            source,
        })?
    }};
}

pub(super) fn traces(
    settings: &Settings,
    tls: &Tls,
    engine: &Engine,
    resource: Resource,
    tally: &Arc<Tally>,
) -> Result<Option<SdkTracerProvider>, OtelError> {
    let Some(to) = &settings.traces else {
        return Ok(None);
    };
    let exporter = exporter!(SpanExporter, Signal::Traces, to, tls, engine);
    let batches = BatchSpanProcessor::builder(Counted::new(exporter, tally)).build();
    Ok(Some(
        SdkTracerProvider::builder()
            .with_resource(resource)
            .with_span_processor(Counted::new(batches, tally))
            .build(),
    ))
}

pub(super) fn logs(
    settings: &Settings,
    tls: &Tls,
    engine: &Engine,
    resource: Resource,
    tally: &Arc<Tally>,
) -> Result<Option<SdkLoggerProvider>, OtelError> {
    let Some(to) = &settings.logs else {
        return Ok(None);
    };
    let exporter = exporter!(LogExporter, Signal::Logs, to, tls, engine);
    let batches = BatchLogProcessor::builder(Counted::new(exporter, tally)).build();
    Ok(Some(
        SdkLoggerProvider::builder()
            .with_resource(resource)
            .with_log_processor(Counted::new(batches, tally))
            .build(),
    ))
}

pub(super) fn metrics(
    settings: &Settings,
    tls: &Tls,
    engine: &Engine,
    readers: MeterProviderBuilder,
    tally: &Arc<Tally>,
) -> Result<SdkMeterProvider, OtelError> {
    let provider = match &settings.metrics {
        None => readers.build(),
        Some(to) => {
            let exporter = exporter!(MetricExporter, Signal::Metrics, to, tls, engine);
            readers
                .with_periodic_exporter(Counted::new(exporter, tally))
                .build()
        }
    };
    instruments::register(&provider.meter("mainstay"));
    Ok(provider)
}

/// How to reach it; over TLS if its url says so.
fn dial(signal: Signal, to: &Destination, tls: &Tls) -> Result<Dial, OtelError> {
    let tls = match to.url.scheme() {
        "https" => Some(
            tls.client_config()
                .map_err(|source| OtelError::Tls { signal, source })?,
        ),
        _ => None,
    };
    Dial::new(&to.url, tls, to.protocol == Protocol::Grpc).ok_or_else(|| OtelError::Variable {
        variable: format!("the endpoint of {signal}"),
        value: to.url.host_str().unwrap_or_default().to_owned(),
        remedy: "name a host that can be dialed".to_owned(),
    })
}
