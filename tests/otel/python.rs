//! The same program before a receiver in Python.
//!
//! In a file of its own because it needs what a machine may not have: `grpcio` and `opentelemetry-proto`.
//!
//! Invariant: it never passes silently; what was left out is said loudly.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Command, Stdio};

use mainstay::instruments::TABLE;
use serde_json::Value;

use super::{SERVICE, program, run, said};

/// A Python that has what it takes: the one this names, else the one that is found.
const VARIABLE: &str = "MAINSTAY_OTEL_PYTHON";

fn interpreter() -> Option<String> {
    let named = std::env::var(VARIABLE).ok();
    let python = named.unwrap_or_else(|| "python3".to_owned());
    let imports = "import grpc, opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc";
    let checked = Command::new(&python).args(["-c", imports]).output();
    checked
        .is_ok_and(|output| output.status.success())
        .then_some(python)
}

#[tokio::test]
async fn a_receiver_in_python_receives_the_same() {
    let Some(python) = interpreter() else {
        // Not `eprintln`, which a test that passes keeps to itself.
        let _ = writeln!(
            std::io::stderr(),
            "SKIPPED: no python3 with grpcio and opentelemetry-proto; \
             pip install them, or name one that has them in {VARIABLE}"
        );
        return;
    };
    let mut receiver = Command::new(python)
        .arg(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/otel/receiver.py"
        ))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("a receiver");
    let mut output = BufReader::new(receiver.stdout.take().expect("its output"));
    let mut port = String::new();
    output.read_line(&mut port).expect("its port");
    let endpoint = format!("http://127.0.0.1:{}", port.trim());
    let ended = run(&[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
    ])
    .await;
    assert!(ended.status.success(), "{}", said(&ended));

    drop(receiver.stdin.take());
    let mut came = String::new();
    output.read_to_string(&mut came).expect("what came");
    receiver.wait().expect("its end");
    let came: Value = serde_json::from_str(&came).expect("JSON");
    let list = |name: &str| came[name].as_array().expect("a list").clone();
    // What stands beside a name: a trace id, or how many points it has.
    let trace = |list: &[Value], name: &str| {
        let found = list.iter().find(|pair| pair[0] == name);
        found.unwrap_or_else(|| panic!("no {name} in {came}"))[1].clone()
    };
    assert!(
        list("services").iter().all(|service| service == SERVICE),
        "{came}"
    );
    let of_span = trace(&list("spans"), program::SPAN);
    assert_eq!(trace(&list("records"), program::RECORD), of_span);
    let points = |name: &str| trace(&list("metrics"), name).as_u64();
    assert!(points(program::GAPS) > Some(0), "{came}");
    for row in TABLE {
        assert!(points(row.name()) > Some(0), "{} in {came}", row.name());
    }
}
