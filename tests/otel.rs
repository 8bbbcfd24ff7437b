//! What a collector receives of a program that lives through losses, over both protocols.
//!
//! The receiver here is OpenTelemetry's: services and messages as they are generated from its definitions; of
//! HTTP only the reading is ours. The program is `program` below, in a process of its own, since it is told
//! everything by its environment and sets what a process has but once. Beside it stand a receiver in Python,
//! whose libraries have not a line in common with ours, and a collector and a backend of others.
#![allow(
    clippy::expect_used,
    reason = "what is allowed in tests is not yet in their helpers"
)]

#[path = "otel/backend.rs"]
mod backend;
#[path = "otel/life.rs"]
mod life;
#[path = "otel/measured.rs"]
mod measured;
#[path = "otel/outage.rs"]
mod outage;
#[path = "otel/program.rs"]
mod program;
#[path = "otel/python.rs"]
mod python;
#[path = "otel/receiver.rs"]
mod receiver;

use std::process::{Command, Output};
use std::time::Duration;

use mainstay::config::Tls;
use mainstay::otel::{Otel, OtelGuard, Protocol, Signal};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;

use receiver::{Certificate, Received, Receiver};

const SERVICE: &str = "quoter";
const KEY: &str = "a key that only the collector knows";

/// Runs `program` with these variables, and returns when it has ended.
async fn run(variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command
        .args(["--exact", "program::program", "--ignored", "--nocapture"])
        .env(program::SWITCH, "yes")
        .env("OTEL_SERVICE_NAME", SERVICE)
        .env(
            "OTEL_RESOURCE_ATTRIBUTES",
            "deployment.environment.name=test",
        )
        .env(
            "OTEL_EXPORTER_OTLP_HEADERS",
            format!("x-key={}", KEY.replace(' ', "%20")),
        );
    for (name, value) in variables {
        command.env(name, value);
    }
    let ended = tokio::task::spawn_blocking(move || command.output());
    tokio::time::timeout(Duration::from_secs(60), ended)
        .await
        .expect("an end in time")
        .expect("a thread")
        .expect("a process")
}

fn said(output: &Output) -> String {
    let (out, err) = (&output.stdout, &output.stderr);
    format!(
        "{}{}",
        String::from_utf8_lossy(out),
        String::from_utf8_lossy(err)
    )
}

fn text<'a>(attributes: &'a [KeyValue], name: &str) -> Option<&'a str> {
    let found = attributes.iter().find(|attribute| attribute.key == name)?;
    match &found.value {
        Some(AnyValue {
            value: Some(Value::StringValue(text)),
        }) => Some(text),
        _ => None,
    }
}

fn assert_ours(resource: Option<&Resource>) {
    let attributes = &resource.expect("a resource").attributes;
    assert_eq!(text(attributes, "service.name"), Some(SERVICE));
    assert_eq!(
        text(attributes, "deployment.environment.name"),
        Some("test")
    );
}

/// What a person would look for: the program's own span, what the tree did, the loss, its record and its count.
fn assert_the_loss_is_told(received: &Received) {
    let (mut spans, mut logs, mut counted) = (Vec::new(), Vec::new(), 0);
    for of_resource in received.traces.iter().flat_map(|sent| &sent.resource_spans) {
        assert_ours(of_resource.resource.as_ref());
        spans.extend(
            of_resource
                .scope_spans
                .iter()
                .flat_map(|scope| &scope.spans),
        );
    }
    for of_resource in received.logs.iter().flat_map(|sent| &sent.resource_logs) {
        assert_ours(of_resource.resource.as_ref());
        logs.extend(
            of_resource
                .scope_logs
                .iter()
                .flat_map(|scope| &scope.log_records),
        );
    }
    for of_resource in received
        .metrics
        .iter()
        .flat_map(|sent| &sent.resource_metrics)
    {
        assert_ours(of_resource.resource.as_ref());
        let metrics = of_resource
            .scope_metrics
            .iter()
            .flat_map(|scope| &scope.metrics);
        counted += metrics
            .filter(|metric| metric.name == program::GAPS)
            .count();
    }

    let root = spans.iter().find(|span| span.name == program::SPAN);
    let root = root.unwrap_or_else(|| panic!("no span of the program: {spans:?}"));
    assert!(
        spans.iter().any(|span| span.name != program::SPAN),
        "spans of the supervisors"
    );
    assert!(
        spans.iter().all(|span| span.name != "Actor"),
        "no span lasts as long as an actor"
    );
    let body = |name: &str| {
        let found = logs.iter().find(|record| {
            matches!(
                record.body.as_ref().and_then(|body| body.value.as_ref()),
                Some(Value::StringValue(body)) if body == name
            )
        });
        *found.unwrap_or_else(|| panic!("no record {name}: {logs:?}"))
    };
    let gap = body("gap");
    assert_eq!(gap.severity_text, "WARN");
    assert_eq!(text(&gap.attributes, "session"), Some("deribit"));
    let within = body(program::RECORD);
    assert_eq!(within.trace_id, root.trace_id, "told within the span");
    assert_eq!(within.span_id, root.span_id, "told within the span");
    assert!(counted > 0, "the collector's count of gaps");
    measured::assert_every_metric_has_a_value(received);
    outage::assert_the_outage_is_one_trace(received);
    assert!(
        received.keys.len() >= 3 && received.keys.iter().all(|key| key == KEY),
        "the header came with every batch: {:?}",
        received.keys
    );
}

#[tokio::test]
async fn a_collector_receives_spans_logs_and_metrics_over_grpc() {
    let receiver = Receiver::grpc().await;
    let output = run(&[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &receiver.url()),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
    ])
    .await;
    assert!(output.status.success(), "{}", said(&output));
    assert_the_loss_is_told(&receiver.received());
}

#[tokio::test]
async fn a_collector_receives_spans_logs_and_metrics_over_http() {
    let receiver = Receiver::http().await;
    let output = run(&[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &receiver.url()),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"),
    ])
    .await;
    assert!(output.status.success(), "{}", said(&output));
    assert_the_loss_is_told(&receiver.received());
}

#[tokio::test]
async fn an_https_endpoint_is_reached_with_the_certificates_that_are_given() {
    for (grpc, protocol) in [(true, Protocol::Grpc), (false, Protocol::Http)] {
        let certificate = Certificate::new();
        let receiver = Receiver::metrics_over_tls(grpc, &certificate).await;
        let to_it = Otel::from_env()
            .service_name(SERVICE)
            .endpoint(receiver.tls_url())
            .protocol(protocol);
        let count = |otel: OtelGuard, within| async move {
            let meter = opentelemetry::global::meter("quoter");
            meter.u64_counter("orders").build().add(1, &[]);
            otel.shutdown(within).await
        };
        let trusted = to_it.clone().tls(Tls::only(certificate.pem())).build();
        let sent = count(trusted.expect("set up"), Duration::from_secs(10)).await;
        sent.expect("all sent");
        assert_eq!(receiver.received().metrics.len(), 1, "{protocol:?}");

        let other = Tls::only(Certificate::new().pem());
        let distrusted = to_it.tls(other).build();
        let error = count(distrusted.expect("set up"), Duration::from_secs(1)).await;
        assert_eq!(error.expect_err("not sent").failed[0].0, Signal::Metrics);
        assert_eq!(receiver.received().metrics.len(), 1, "{protocol:?}");
    }
}

#[tokio::test]
async fn a_trace_that_the_sampler_drops_is_not_sent_and_its_logs_are() {
    let receiver = Receiver::http().await;
    let output = run(&[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &receiver.url()),
        ("OTEL_TRACES_SAMPLER", "always_off"),
    ])
    .await;
    assert!(output.status.success(), "{}", said(&output));
    let received = receiver.received();
    assert!(received.traces.is_empty(), "{:?}", received.traces);
    assert!(!received.logs.is_empty());
}

#[tokio::test]
async fn a_disabled_sdk_sends_nothing_and_the_program_runs_on() {
    let receiver = Receiver::http().await;
    let output = run(&[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &receiver.url()),
        ("OTEL_SDK_DISABLED", "true"),
    ])
    .await;
    assert!(output.status.success(), "{}", said(&output));
    assert!(receiver.received().keys.is_empty());
}

#[tokio::test]
async fn a_collector_that_is_not_there_is_told_at_the_end_and_no_header_is_shown() {
    // Nobody listens where somebody just has.
    let gone = Receiver::http().await.url();
    for protocol in ["grpc", "http/protobuf"] {
        let output = run(&[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", &gone),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", protocol),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "500"),
        ])
        .await;
        let said = said(&output);
        assert!(!output.status.success(), "{protocol}: {said}");
        assert!(said.contains("not all was sent"), "{protocol}: {said}");
        assert!(!said.contains(KEY), "{protocol}: {said}");
    }
}

#[tokio::test]
async fn a_collector_that_takes_spans_alone_is_told_of_with_what_was_lost() {
    let receiver = Receiver::http().await;
    let elsewhere = format!("{}{}", receiver.url(), receiver::NOWHERE);
    let output = run(&[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &receiver.url()),
        ("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", &elsewhere),
        // Before the end as well as at it.
        ("OTEL_BLRP_SCHEDULE_DELAY", "20"),
        ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", &elsewhere),
    ])
    .await;
    let said = said(&output);
    assert!(!output.status.success(), "{said}");
    assert!(!receiver.received().traces.is_empty());
    let told = said.split("not all was sent: ").nth(1);
    let told = told.unwrap_or_else(|| panic!("{said}"));
    let mut signals = ["logs: ", "metrics: "].map(|one| told.find(one));
    signals.sort_unstable();
    assert!(signals[0].is_some(), "{said}");
    assert!(
        told.contains(" lost, the last because HTTP export failed with status code: 404"),
        "{said}"
    );
    assert!(!told.contains("traces: "), "{said}");
}

#[tokio::test]
async fn a_variable_that_cannot_be_followed_ends_the_program_with_its_name() {
    let output = run(&[("OTEL_EXPORTER_OTLP_PROTOCOL", "carrier pigeon")]).await;
    let said = said(&output);
    assert!(!output.status.success(), "{said}");
    for part in [
        "OTEL_EXPORTER_OTLP_PROTOCOL",
        "carrier pigeon",
        "http/protobuf",
    ] {
        assert!(said.contains(part), "{part} in {said}");
    }
}
