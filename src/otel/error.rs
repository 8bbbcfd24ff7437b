//! Why an export cannot be set up, and what could not be sent at its end.
//!
//! Apart from the library's other errors, since no session has to do with these.
//!
//! Invariants: each names the variable, the value and the remedy; a value that may hold a credential is not shown.

use std::fmt;

use super::Signal;
use crate::error::{Category, ConfigError, Entry, Recovery, explained, told, told_with_causes};

/// The export cannot be set up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OtelError {
    /// A variable of the environment, or what was given in its place, cannot be followed.
    #[error("{variable} is {value:?}, which cannot be followed: {remedy}")]
    Variable {
        /// Its name; that of the method if it was given by one.
        variable: String,
        /// What it is; `[redacted]` where it may hold a credential.
        value: String,
        /// What to write instead.
        remedy: String,
    },
    /// Nobody to trust, or nothing to do cryptography with: see [`Otel::tls`](super::Otel::tls).
    #[error(fmt = no_tls)]
    Tls {
        /// Whose endpoint.
        signal: Signal,
        /// What is wrong.
        #[source]
        source: ConfigError,
    },
    /// The exporter of one signal was not made.
    #[error(fmt = no_exporter)]
    Exporter {
        /// Which.
        signal: Signal,
        /// What it says.
        #[source]
        source: opentelemetry_otlp::ExporterBuildError,
    },
    /// `OTEL_METRICS_EXPORTER` asks for a page to be scraped, which there cannot be.
    #[cfg(feature = "prometheus")]
    #[error(fmt = no_page)]
    Prometheus(#[source] crate::prometheus::PrometheusError),
    /// The system has no thread for the export.
    #[error(fmt = no_thread)]
    Thread(#[source] std::io::Error),
    /// The program has a subscriber of `tracing` already.
    #[error(
        "a subscriber of tracing is set already; call `Otel::build` and put its `layer()` into that subscriber"
    )]
    SubscriberSet,
}

fn no_tls(signal: &Signal, source: &ConfigError, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let text = format_args!("the endpoint of {signal} wants TLS, which cannot be set up");
    told(f, text, source)
}

fn no_exporter(
    signal: &Signal,
    source: &opentelemetry_otlp::ExporterBuildError,
    f: &mut fmt::Formatter<'_>,
) -> fmt::Result {
    let remedy = "look at OTEL_EXPORTER_OTLP_* in the environment";
    let text = format_args!("the exporter of {signal} cannot be made; {remedy}");
    told(f, text, source)
}

#[cfg(feature = "prometheus")]
fn no_page(source: &crate::prometheus::PrometheusError, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let text = "there is no page for Prometheus, which OTEL_METRICS_EXPORTER asks for";
    told(f, format_args!("{text}"), source)
}

fn no_thread(source: &std::io::Error, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let text = format_args!("no thread for the export; raise the limit of the process");
    told(f, text, source)
}

/// The export ended, and not everything is known to have arrived.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "not all was sent: {}; see that the collector runs and takes these, or allow more time",
    .failed.iter().map(|(signal, why)| format!("{signal}: {why}")).collect::<Vec<_>>().join(", ")
)]
#[non_exhaustive]
pub struct FlushError {
    /// The signals of which something may be lost, and for each how many spans or records, or what the collector or the
    /// SDK said last.
    pub failed: Vec<(Signal, String)>,
}

impl OtelError {
    /// What to do about it.
    #[must_use]
    pub fn recovery(&self) -> Recovery {
        match self {
            Self::Tls { source, .. } => source.recovery(),
            #[cfg(feature = "prometheus")]
            Self::Prometheus(source) => source.recovery(),
            Self::Variable { .. }
            | Self::Exporter { .. }
            | Self::Thread(_)
            | Self::SubscriberSet => Recovery::Stop,
        }
    }

    fn entry(&self) -> Entry {
        match self {
            Self::Variable { .. } => Entry::new(
                "otel-variable",
                Category::Configuration,
                "write what the message says into that variable, or leave it out",
            ),
            Self::Tls { source, .. } => source.entry(),
            Self::Exporter { .. } => Entry::new(
                "otel-exporter",
                Category::Configuration,
                "look at OTEL_EXPORTER_OTLP_* in the environment",
            ),
            #[cfg(feature = "prometheus")]
            Self::Prometheus(source) => source.entry(),
            Self::Thread(_) => Entry::new(
                "no-thread",
                Category::Configuration,
                "raise the limit of threads of the process",
            ),
            Self::SubscriberSet => Entry::new(
                "otel-subscriber",
                Category::Configuration,
                "build the export without a subscriber and put its layer into yours",
            ),
        }
    }
}

explained!(OtelError, FlushError);
told_with_causes!(OtelError, FlushError);

impl FlushError {
    /// What to do about it.
    #[must_use]
    pub fn recovery(&self) -> Recovery {
        Recovery::Retry
    }

    fn entry(&self) -> Entry {
        Entry::new(
            "otel-flush",
            Category::Network,
            "see that the collector runs and takes these, or allow more time",
        )
    }

    pub(super) fn of(failed: Vec<(Signal, String)>) -> Result<(), Self> {
        if failed.is_empty() {
            Ok(())
        } else {
            Err(Self { failed })
        }
    }

    pub(super) fn all(why: &str) -> Self {
        let failed = Signal::ALL.map(|signal| (signal, why.to_owned()));
        Self {
            failed: failed.to_vec(),
        }
    }
}
