//! What the environment says of the export.
//!
//! Apart because it is a pure function of names and values, so that it can be tested without an environment.
//!
//! Invariants: what cannot be followed is refused, never ignored; of two variables the signal's own goes first,
//! and what the program says goes before both.

use std::fmt;
use std::time::Duration;

use http::{HeaderName, HeaderValue};
use url::Url;

use super::OtelError;

const OTLP: &str = "OTEL_EXPORTER_OTLP_";
const SAMPLERS: &str = "always_on, always_off, traceidratio, parentbased_always_on, \
    parentbased_always_off or parentbased_traceidratio";

/// What is exported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Signal {
    /// Spans.
    Traces,
    /// Records.
    Logs,
    /// Measurements.
    Metrics,
}

impl Signal {
    pub(super) const ALL: [Self; 3] = [Self::Traces, Self::Logs, Self::Metrics];

    fn word(self) -> &'static str {
        match self {
            Self::Traces => "traces",
            Self::Logs => "logs",
            Self::Metrics => "metrics",
        }
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// How to speak to a collector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Protocol {
    /// `http/protobuf`; port 4318 by custom.
    Http,
    /// `grpc`; port 4317 by custom.
    Grpc,
}

/// Where one signal goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Destination {
    pub(super) protocol: Protocol,
    pub(super) url: Url,
    /// For one batch, with all attempts.
    pub(super) timeout: Duration,
}

/// All that is needed here; the rest is checked, and read by the SDK. A signal that is not exported has no destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Settings {
    pub(super) traces: Option<Destination>,
    pub(super) logs: Option<Destination>,
    pub(super) metrics: Option<Destination>,
    /// Whether metrics wait to be scraped, too.
    pub(super) scrape: bool,
}

impl Settings {
    /// Reads and checks; nothing if the SDK is disabled. `variable` finds one that is not empty.
    pub(super) fn read(
        endpoint: Option<&str>,
        protocol: Option<Protocol>,
        variable: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Option<Self>, OtelError> {
        let reading = Reading {
            endpoint,
            protocol,
            variable,
        };
        // Anything but `true` means no: OpenTelemetry's specification of boolean variables.
        if variable("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
            return Ok(None);
        }
        reading.check_sampler()?;
        if let Some(value) = variable("OTEL_RESOURCE_ATTRIBUTES") {
            check_pairs("OTEL_RESOURCE_ATTRIBUTES".to_owned(), &value, |name, _| {
                !name.is_empty()
            })?;
        }
        reading.check_interval()?;
        let (traces, _) = reading.exporters(Signal::Traces)?;
        let (logs, _) = reading.exporters(Signal::Logs)?;
        let (metrics, scrape) = reading.exporters(Signal::Metrics)?;
        let to = |signal: Signal, wanted: bool| {
            let destination = wanted.then(|| reading.destination(signal));
            destination.transpose()
        };
        Ok(Some(Self {
            traces: to(Signal::Traces, traces)?,
            logs: to(Signal::Logs, logs)?,
            metrics: to(Signal::Metrics, metrics)?,
            scrape,
        }))
    }
}

struct Reading<'r> {
    endpoint: Option<&'r str>,
    protocol: Option<Protocol>,
    variable: &'r dyn Fn(&str) -> Option<String>,
}

impl Reading<'_> {
    /// Whether the signal leaves by OTLP, and whether it can be scraped.
    fn exporters(&self, signal: Signal) -> Result<(bool, bool), OtelError> {
        let variable = format!("OTEL_{}_EXPORTER", signal.word().to_uppercase());
        let Some(value) = (self.variable)(&variable) else {
            return Ok((true, false));
        };
        let (mut otlp, mut scrape, mut none) = (false, false, false);
        for word in value.split(',').map(str::trim) {
            match word {
                "otlp" => otlp = true,
                "none" => none = true,
                "prometheus" if signal == Signal::Metrics => scrape = true,
                _ => {
                    let may = match signal {
                        Signal::Metrics => {
                            "write otlp, prometheus, both with a comma between, or none"
                        }
                        Signal::Traces | Signal::Logs => "write otlp or none",
                    };
                    return Err(whole(variable, value).refused(may));
                }
            }
        }
        if none && (otlp || scrape) {
            return Err(whole(variable, value).refused("write none alone"));
        }
        if scrape && cfg!(not(feature = "prometheus")) {
            let remedy = "switch on the feature `prometheus` of mainstay";
            return Err(whole(variable, value).refused(remedy));
        }
        Ok((otlp, scrape))
    }

    fn check_interval(&self) -> Result<(), OtelError> {
        let variable = "OTEL_METRIC_EXPORT_INTERVAL";
        match (self.variable)(variable) {
            Some(value) if !value.parse().is_ok_and(|millis: u64| millis > 0) => {
                let remedy = "write a whole number of milliseconds, at least 1";
                Err(whole(variable.to_owned(), value).refused(remedy))
            }
            Some(_) | None => Ok(()),
        }
    }

    fn destination(&self, signal: Signal) -> Result<Destination, OtelError> {
        let protocol = self.protocol(signal)?;
        let timeout = match self.find(signal, "TIMEOUT") {
            None => Duration::from_secs(10),
            Some(found) => match found.value.parse() {
                Ok(milliseconds) if milliseconds > 0 => Duration::from_millis(milliseconds),
                Ok(_) | Err(_) => {
                    return Err(found.refused("write a whole number of milliseconds, at least 1"));
                }
            },
        };
        if let Some(found) = self.find(signal, "HEADERS") {
            check_pairs(found.variable, &found.value, |name, value| {
                // What is percent-encoded decodes to more than a header may hold only by mistake; the exporter
                // leaves such a one out.
                HeaderName::try_from(name).is_ok() && HeaderValue::try_from(value).is_ok()
            })
            .map_err(|error| match error {
                OtelError::Variable {
                    variable, remedy, ..
                } => OtelError::Variable {
                    variable,
                    value: "[redacted]".to_owned(),
                    remedy,
                },
                other => other,
            })?;
        }
        Ok(Destination {
            protocol,
            url: self.url(signal, protocol)?,
            timeout,
        })
    }

    fn protocol(&self, signal: Signal) -> Result<Protocol, OtelError> {
        if let Some(protocol) = self.protocol {
            return Ok(protocol);
        }
        match self.find(signal, "PROTOCOL") {
            None => Ok(Protocol::Http),
            Some(found) => match found.value.as_str() {
                "grpc" => Ok(Protocol::Grpc),
                "http/protobuf" => Ok(Protocol::Http),
                _ => Err(found.refused("write grpc or http/protobuf")),
            },
        }
    }

    fn url(&self, signal: Signal, protocol: Protocol) -> Result<Url, OtelError> {
        let found = match self.endpoint {
            Some(value) => Found {
                variable: "Otel::endpoint".to_owned(),
                value: value.to_owned(),
                whole: false,
            },
            None => self.find(signal, "ENDPOINT").unwrap_or_else(|| Found {
                variable: format!("{OTLP}ENDPOINT"),
                value: match protocol {
                    Protocol::Http => "http://localhost:4318",
                    Protocol::Grpc => "http://localhost:4317",
                }
                .to_owned(),
                whole: false,
            }),
        };
        let insecure = || {
            let found = self.find(signal, "INSECURE");
            found.is_some_and(|found| found.value.eq_ignore_ascii_case("true"))
        };
        let text = match protocol {
            Protocol::Grpc if !found.value.contains("://") => {
                let scheme = if insecure() { "http" } else { "https" };
                format!("{scheme}://{}", found.value)
            }
            Protocol::Grpc | Protocol::Http => found.value.clone(),
        };
        let url = Url::parse(&text).ok().filter(|url| {
            ["http", "https"].contains(&url.scheme())
                && url.host_str().is_some_and(|host| !host.is_empty())
        });
        let Some(mut url) = url else {
            return Err(found.refused("write a url such as http://localhost:4318"));
        };
        if !url.username().is_empty() || url.password().is_some() {
            return Err(found.refused("put credentials into OTEL_EXPORTER_OTLP_HEADERS"));
        }
        if protocol == Protocol::Http && !found.whole {
            let path = format!("{}/v1/{signal}", url.path().trim_end_matches('/'));
            url.set_path(&path);
        }
        Ok(url)
    }

    fn check_sampler(&self) -> Result<(), OtelError> {
        let find = |variable: &str| {
            (self.variable)(variable).map(|value| whole(variable.to_owned(), value))
        };
        let Some(sampler) = find("OTEL_TRACES_SAMPLER") else {
            return Ok(());
        };
        match sampler.value.as_str() {
            "always_on" | "always_off" | "parentbased_always_on" | "parentbased_always_off" => {
                Ok(())
            }
            "traceidratio" | "parentbased_traceidratio" => match find("OTEL_TRACES_SAMPLER_ARG") {
                Some(ratio)
                    if !ratio
                        .value
                        .parse()
                        .is_ok_and(|r: f64| (0.0..=1.0).contains(&r)) =>
                {
                    Err(ratio.refused("write a number from 0 to 1"))
                }
                Some(_) => Ok(()),
                None => Err(sampler.refused("set OTEL_TRACES_SAMPLER_ARG to a number from 0 to 1")),
            },
            _ => Err(sampler.refused(&format!("write {SAMPLERS}"))),
        }
    }

    /// The signal's own variable, else the one for all three.
    fn find(&self, signal: Signal, name: &str) -> Option<Found> {
        let own = format!("{OTLP}{}_{name}", signal.word().to_uppercase());
        let common = format!("{OTLP}{name}");
        [(own, true), (common, false)]
            .into_iter()
            .find_map(|(variable, whole)| {
                let value = (self.variable)(&variable)?;
                Some(Found {
                    variable,
                    value,
                    whole,
                })
            })
    }
}

/// A variable that is not one of [`OTLP`].
fn whole(variable: String, value: String) -> Found {
    Found {
        variable,
        value,
        whole: true,
    }
}

/// A variable that is set.
struct Found {
    variable: String,
    value: String,
    /// It is for one signal alone.
    whole: bool,
}

impl Found {
    fn refused(self, remedy: &str) -> OtelError {
        // User and password, or a token in the query of a url.
        let value = if self.value.contains(['@', '?']) {
            "[redacted]".to_owned()
        } else {
            self.value
        };
        OtelError::Variable {
            variable: self.variable,
            value,
            remedy: remedy.to_owned(),
        }
    }
}

/// Whether all of a list `name=value,…` is right; the error says which one is not, by its place.
fn check_pairs(
    variable: String,
    value: &str,
    right: impl Fn(&str, &str) -> bool,
) -> Result<(), OtelError> {
    for (place, pair) in value.split_terminator(',').enumerate() {
        let pair = pair
            .split_once('=')
            .map(|(name, value)| (name.trim(), value.trim()));
        if !pair.is_some_and(|(name, value)| right(name, value)) {
            return Err(OtelError::Variable {
                variable,
                value: value.to_owned(),
                remedy: format!(
                    "write name=value, with commas between; number {} is not so",
                    place + 1
                ),
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Option<Settings>, OtelError> {
        Settings::read(None, None, &|name| {
            let found = variables.iter().find(|(other, _)| *other == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    fn settings(variables: &[(&str, &str)]) -> Settings {
        read(variables).expect("right").expect("enabled")
    }

    #[test]
    fn without_any_variable_the_collector_is_on_this_machine() {
        let settings = settings(&[]);
        let url = |to: &Option<Destination>| to.as_ref().map(|to| to.url.to_string());
        let traces = url(&settings.traces).expect("exported");
        assert_eq!(traces, "http://localhost:4318/v1/traces");
        let logs = settings.logs.expect("exported");
        assert_eq!(logs.protocol, Protocol::Http);
        assert!(!settings.scrape);
        let grpc = super::Settings::read(None, Some(Protocol::Grpc), &|_| None)
            .expect("right")
            .expect("enabled");
        let metrics = url(&grpc.metrics).expect("exported");
        assert_eq!(metrics, "http://localhost:4317/");
    }

    #[test]
    fn a_signal_may_go_elsewhere_and_its_url_is_taken_as_it_is() {
        let settings = settings(&[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://c.example/otlp/"),
            ("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", "http://l.example:9/in"),
            ("OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", "grpc"),
            ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "m.example:4317"),
            ("OTEL_EXPORTER_OTLP_METRICS_INSECURE", "true"),
        ]);
        for (to, url) in [
            (settings.traces, "https://c.example/otlp/v1/traces"),
            (settings.logs, "http://l.example:9/in"),
            (settings.metrics, "http://m.example:4317/"),
        ] {
            assert_eq!(to.expect("exported").url.as_str(), url);
        }
    }

    #[test]
    fn each_signal_goes_where_its_exporter_says() {
        let of = |traces, metrics| {
            let found = settings(&[
                ("OTEL_TRACES_EXPORTER", traces),
                ("OTEL_METRICS_EXPORTER", metrics),
            ]);
            let (traces, metrics) = (found.traces.is_some(), found.metrics.is_some());
            (traces, metrics, found.scrape)
        };
        assert_eq!(of("none", "otlp"), (false, true, false));
        assert_eq!(of("otlp", "none"), (true, false, false));
        #[cfg(feature = "prometheus")]
        {
            assert_eq!(of("otlp", "prometheus"), (true, false, true));
            assert_eq!(of("otlp", "otlp, prometheus"), (true, true, true));
        }
    }

    #[test]
    fn nothing_is_set_up_when_the_sdk_is_disabled() {
        assert!(matches!(read(&[("OTEL_SDK_DISABLED", "TRUE")]), Ok(None)));
        assert!(matches!(read(&[("OTEL_SDK_DISABLED", "1")]), Ok(Some(_))));
    }

    #[test]
    fn what_cannot_be_followed_is_refused_by_name_with_a_remedy() {
        for (variable, value, remedy) in [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "ftp://here", "http://"),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "localhost:4318", "http://"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json", "http/protobuf"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "soon", "milliseconds"),
            ("OTEL_EXPORTER_OTLP_LOGS_TIMEOUT", "0", "milliseconds"),
            ("OTEL_METRIC_EXPORT_INTERVAL", "often", "milliseconds"),
            ("OTEL_METRICS_EXPORTER", "console", "prometheus"),
            ("OTEL_METRICS_EXPORTER", "none,otlp", "none alone"),
            ("OTEL_TRACES_EXPORTER", "prometheus", "otlp"),
            ("OTEL_RESOURCE_ATTRIBUTES", "a=1,b", "number 2"),
            ("OTEL_TRACES_SAMPLER", "xray", "always_on"),
            (
                "OTEL_TRACES_SAMPLER",
                "traceidratio",
                "OTEL_TRACES_SAMPLER_ARG",
            ),
        ] {
            let text = read(&[(variable, value)]).expect_err("refused").to_string();
            for part in [variable, value, remedy] {
                assert!(text.contains(part), "{part} in {text}");
            }
        }
        let ratio = [
            ("OTEL_TRACES_SAMPLER", "traceidratio"),
            ("OTEL_TRACES_SAMPLER_ARG", "2"),
        ];
        let text = read(&ratio).expect_err("refused").to_string();
        assert!(text.contains("OTEL_TRACES_SAMPLER_ARG"), "{text}");
    }

    #[test]
    fn no_credential_is_in_an_error() {
        for (variable, value) in [
            ("OTEL_EXPORTER_OTLP_HEADERS", "a=s3cret,b"),
            ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "a b=s3cret"),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://me:s3cret@here"),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "ws://here?key=s3cret"),
        ] {
            let error = read(&[(variable, value)]).expect_err("refused");
            let all = format!("{error} {error:?}");
            assert!(all.contains(variable) && !all.contains("s3cret"), "{all}");
        }
    }
}
