//! A page for Prometheus to scrape, by one call (feature `prometheus`).
//!
//! A way of its own beside feature `otel`, for a program that has a Prometheus and no collector. What is
//! on the page are the metrics of [`instruments`] and whatever the program measures with
//! OpenTelemetry's global meter, in the text format 0.0.4. A program that also exports by OTLP sets
//! `OTEL_METRICS_EXPORTER` to `otlp,prometheus` instead, and has one page with both features.
//!
//! ```no_run
//! use mainstay::prometheus::Prometheus;
//!
//! # fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let scraped = Prometheus::from_env().service_name("quoter").start()?;
//! println!("http://{}/metrics", scraped.address());
//! // … the program …
//! # Ok(())
//! # }
//! ```
//!
//! | environment variable | meaning |
//! |---|---|
//! | `OTEL_SDK_DISABLED` | not read here: do not start it then |
//! | `OTEL_EXPORTER_PROMETHEUS_HOST` | on which address to listen; `127.0.0.1` |
//! | `OTEL_EXPORTER_PROMETHEUS_PORT` | on which port; 9464 |
//! | `OTEL_SERVICE_NAME`, `OTEL_RESOURCE_ATTRIBUTES` | labels of `target_info`; read by the SDK |
//!
//! Invariants: the program's own runtime is never blocked and may be of any kind, since a thread of its own answers;
//! nobody but this machine is listened to unless the program or its environment says so; connections and their time
//! are bounded; there is no TLS and no password, so what is opened to others stands behind something that has both.

mod server;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs};

use opentelemetry::metrics::MeterProvider as _;
use opentelemetry::{KeyValue, global};
use opentelemetry_prometheus::PrometheusExporter;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::metrics::SdkMeterProvider;

use crate::error::{Category, Entry, Recovery, explained, told, told_with_causes};
use crate::instruments;
pub(crate) use server::Server;

const HOST: &str = "OTEL_EXPORTER_PROMETHEUS_HOST";
const PORT: &str = "OTEL_EXPORTER_PROMETHEUS_PORT";

/// What is to be set up. Values given here go before those of the environment.
#[derive(Debug, Clone)]
#[must_use = "call `start`"]
pub struct Prometheus {
    address: Option<SocketAddr>,
    service: Option<String>,
    attributes: Vec<(String, String)>,
}

impl Prometheus {
    /// What the environment says; it is read by [`start`](Self::start).
    pub fn from_env() -> Self {
        Self {
            address: None,
            service: None,
            attributes: Vec::new(),
        }
    }

    /// Where to listen; port 0 for any that is free. Default: the environment's, else 127.0.0.1:9464.
    pub fn address(mut self, address: SocketAddr) -> Self {
        self.address = Some(address);
        self
    }

    /// The label `service_name` of `target_info`. Default: `OTEL_SERVICE_NAME`, else `unknown_service:` and the program.
    pub fn service_name(mut self, name: impl Into<String>) -> Self {
        self.service = Some(name.into());
        self
    }

    /// Adds a label to `target_info`.
    pub fn attribute(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.attributes.push((name.into(), value.into()));
        self
    }

    /// Listens from now on, and makes its meters OpenTelemetry's global ones. Keep what it returns until the program
    /// ends.
    ///
    /// # Errors
    ///
    /// [`PrometheusError`]: a variable that cannot be followed, or an address that cannot be listened on.
    pub fn start(self) -> Result<PrometheusGuard, PrometheusError> {
        let mut resource = Resource::builder().with_attributes(
            self.attributes
                .into_iter()
                .map(|(name, value)| KeyValue::new(name, value)),
        );
        if let Some(service) = self.service {
            resource = resource.with_service_name(service);
        }
        let (reader, server) = listen(self.address)?;
        let provider = SdkMeterProvider::builder()
            .with_resource(resource.build())
            .with_reader(reader)
            .build();
        instruments::register(&provider.meter("mainstay"));
        global::set_meter_provider(provider.clone());
        Ok(PrometheusGuard {
            server,
            _provider: provider,
        })
    }
}

/// The page, as long as it lives.
#[derive(Debug)]
#[must_use = "nobody listens any more when this is dropped"]
pub struct PrometheusGuard {
    server: Server,
    /// Whose meters are on it.
    _provider: SdkMeterProvider,
}

impl PrometheusGuard {
    /// Where it listens; the path is `/metrics`.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }
}

/// There is no page.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PrometheusError {
    /// A variable of the environment cannot be followed.
    #[error("{variable} is {value:?}, which cannot be followed: {remedy}")]
    Variable {
        /// Its name.
        variable: &'static str,
        /// What it is.
        value: String,
        /// What to write instead.
        remedy: &'static str,
    },
    /// The address cannot be listened on.
    #[error(fmt = not_listening)]
    Address {
        /// Which.
        address: SocketAddr,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// The exporter was not made.
    #[error(fmt = no_exporter)]
    Exporter(#[source] opentelemetry_sdk::error::OTelSdkError),
    /// The system has no thread for the page.
    #[error(fmt = no_thread)]
    Thread(#[source] std::io::Error),
}

fn not_listening(
    address: &SocketAddr,
    source: &std::io::Error,
    f: &mut fmt::Formatter<'_>,
) -> fmt::Result {
    let remedy = "choose another by OTEL_EXPORTER_PROMETHEUS_HOST and _PORT, or end who has it";
    told(
        f,
        format_args!("nobody can listen on {address}; {remedy}"),
        source,
    )
}

fn no_exporter(
    source: &opentelemetry_sdk::error::OTelSdkError,
    f: &mut fmt::Formatter<'_>,
) -> fmt::Result {
    told(
        f,
        format_args!("the exporter for Prometheus cannot be made"),
        source,
    )
}

fn no_thread(source: &std::io::Error, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let text =
        format_args!("no thread for the page that is scraped; raise the limit of the process");
    told(f, text, source)
}

impl PrometheusError {
    /// What to do about it.
    #[must_use]
    pub fn recovery(&self) -> Recovery {
        Recovery::Stop
    }

    pub(crate) fn entry(&self) -> Entry {
        match self {
            Self::Variable { .. } => Entry::new(
                "otel-variable",
                Category::Configuration,
                "write what the message says into that variable, or leave it out",
            ),
            Self::Address { .. } => Entry::new(
                "prometheus-address",
                Category::Configuration,
                "choose another address, or end who has this one",
            ),
            Self::Exporter(_) => Entry::new(
                "otel-exporter",
                Category::Configuration,
                "read the cause; register no second exporter with the same registry",
            ),
            Self::Thread(_) => Entry::new(
                "no-thread",
                Category::Configuration,
                "raise the limit of threads of the process",
            ),
        }
    }
}

explained!(PrometheusError);
told_with_causes!(PrometheusError);

/// The reader of a meter provider, and who shows what it reads.
pub(crate) fn listen(
    address: Option<SocketAddr>,
) -> Result<(PrometheusExporter, Server), PrometheusError> {
    let address = match address {
        Some(address) => address,
        None => from_variables(&|name| {
            let value = std::env::var_os(name)?.to_string_lossy().trim().to_owned();
            (!value.is_empty()).then_some(value)
        })?,
    };
    let registry = prometheus::Registry::new();
    let reader = opentelemetry_prometheus::exporter()
        .with_registry(registry.clone())
        .build()
        .map_err(PrometheusError::Exporter)?;
    let server = Server::start(address, registry)?;
    Ok((reader, server))
}

/// What the environment says, or what is taken without it.
fn from_variables(
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<SocketAddr, PrometheusError> {
    let port = match variable(PORT) {
        None => 9464,
        Some(value) => value.parse().map_err(|_| PrometheusError::Variable {
            variable: PORT,
            value,
            remedy: "write a number from 0 to 65535",
        })?,
    };
    let Some(host) = variable(HOST) else {
        return Ok(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port));
    };
    let found = (host.as_str(), port).to_socket_addrs();
    let first = found.ok().and_then(|mut found| found.next());
    first.ok_or(PrometheusError::Variable {
        variable: HOST,
        value: host,
        remedy: "write an address of this machine, such as 127.0.0.1",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<SocketAddr, PrometheusError> {
        from_variables(&|name| {
            let found = variables.iter().find(|(other, _)| *other == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn without_any_variable_only_this_machine_is_listened_to() {
        let address = read(&[]).expect("right");
        assert_eq!(address.to_string(), "127.0.0.1:9464");
        let other = read(&[(HOST, "0.0.0.0"), (PORT, "80")]).expect("right");
        assert_eq!(other.to_string(), "0.0.0.0:80");
    }

    #[test]
    fn what_cannot_be_followed_is_refused_by_name_with_a_remedy() {
        for (variable, value, remedy) in [
            (PORT, "http", "65535"),
            (PORT, "70000", "65535"),
            (HOST, "not an address", "127.0.0.1"),
        ] {
            let text = read(&[(variable, value)]).expect_err("refused").to_string();
            for part in [variable, value, remedy] {
                assert!(text.contains(part), "{part} in {text}");
            }
        }
    }
}
