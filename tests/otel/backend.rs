//! The example before a collector and a backend that nobody here has written, told of them by one variable.
//!
//! In a file of its own because they are programs that a machine may not have. `rotel` is a collector that takes all
//! three signals and passes them on, here to the receiver of the other tests; `phoenix` keeps traces and answers
//! questions about them.
//!
//! Invariant: it never passes silently; what was left out is said loudly.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::receiver::Receiver;
use super::{measured, outage, said};

/// Which program is the collector.
const ROTEL: &str = "MAINSTAY_ROTEL";
/// Which is the backend.
const PHOENIX: &str = "MAINSTAY_PHOENIX";
/// Longer than this neither takes to start.
const LIMIT: Duration = Duration::from_secs(180);

fn leave_out(what: &str) {
    // Not `eprintln`, which a test that passes keeps to itself.
    let _ = writeln!(std::io::stderr(), "SKIPPED: {what}");
}

/// The program that the variable names, and the example, which `cargo test` builds beside its tests.
fn programs(variable: &str) -> Option<(String, PathBuf)> {
    let Ok(program) = std::env::var(variable) else {
        leave_out(&format!("no backend is named in {variable}"));
        return None;
    };
    let test = std::env::current_exe().expect("this program");
    let built = test.ancestors().nth(2).expect("its folder");
    let example = built.join("examples").join("deribit_session");
    if !example.exists() {
        leave_out("no example; `cargo build --example deribit_session` first");
        return None;
    }
    Some((program, example))
}

/// A program that ends with the test.
struct Running(Child);

impl Running {
    fn start(command: &mut Command) -> Self {
        let quiet = command.stdout(Stdio::null()).stderr(Stdio::null());
        Self(quiet.spawn().expect("a program"))
    }

    /// Has it end by itself, after it has passed on what it holds.
    fn end(mut self) {
        let id = self.0.id().to_string();
        let asked = Command::new("kill").args(["-TERM", &id]).status();
        assert!(asked.expect("a program").success());
        self.0.wait().expect("its end");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Addresses at which nobody listens.
fn free<const N: usize>() -> [SocketAddr; N] {
    let listeners = [(); N].map(|()| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port"));
    listeners.map(|one| one.local_addr().expect("an address"))
}

/// What `look` finds once there is something: programs of others do not tell when.
fn awaited<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(began.elapsed() < LIMIT, "not within {LIMIT:?}: {what}");
        thread::sleep(Duration::from_millis(100));
    }
}

fn run(example: &PathBuf, endpoint: &str) -> Output {
    let mut command = Command::new(example);
    for (name, _) in std::env::vars() {
        if name.starts_with("OTEL_") || name.starts_with("DERIBIT_") {
            command.env_remove(name);
        }
    }
    let variable = ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint);
    let output = command.env(variable.0, variable.1).output();
    let output = output.expect("the example");
    assert!(output.status.success(), "{}", said(&output));
    output
}

#[tokio::test]
async fn a_collector_passes_on_all_that_the_example_tells_it() {
    let Some((rotel, example)) = programs(ROTEL) else {
        return;
    };
    let receiver = Receiver::grpc().await;
    let [grpc, http] = free();
    let folder = std::env::temp_dir().join(format!("mainstay-rotel-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let mut command = Command::new(rotel);
    command
        .args(["start", "--exporter", "otlp"])
        .args(["--otlp-grpc-endpoint", &grpc.to_string()])
        .args(["--otlp-http-endpoint", &http.to_string()])
        .args(["--otlp-exporter-endpoint", &receiver.url()])
        .arg("--pid-file")
        .arg(folder.join("pid"));
    let collector = Running::start(&mut command);
    awaited("the collector listens", || TcpStream::connect(http).ok());
    let output = run(&example, &format!("http://{http}"));
    assert!(
        said(&output).contains("all was sent to the collector"),
        "{}",
        said(&output)
    );
    // Sent last, and passed on in batches; what is under way at its end it may forget.
    awaited("the metrics come", || {
        (!receiver.received().metrics.is_empty()).then_some(())
    });
    collector.end();
    // Whatever became of it, it is of no use any more.
    let _ = std::fs::remove_dir_all(folder);

    let received = receiver.received();
    measured::assert_every_metric_has_arrived(&received);
    outage::assert_an_outage_has_attempts(&received, 3);
}

/// The answer to a question, if there is one.
fn get(from: SocketAddr, path: &str) -> Option<Value> {
    let mut stream = TcpStream::connect(from).ok()?;
    stream.set_read_timeout(Some(LIMIT)).ok()?;
    let request =
        format!("GET {path} HTTP/1.1\r\nhost: {from}\r\nconnection: close\r\naccept: */*\r\n\r\n");
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    if !head.starts_with("HTTP/1.1 200") {
        return None;
    }
    serde_json::from_str(body).ok()
}

#[test]
fn a_backend_shows_an_outage_of_the_example_as_one_trace() {
    let Some((phoenix, example)) = programs(PHOENIX) else {
        return;
    };
    let [page, grpc] = free();
    let folder = std::env::temp_dir().join(format!("mainstay-phoenix-{}", std::process::id()));
    let mut command = Command::new(phoenix);
    command
        .arg("serve")
        .env("PHOENIX_WORKING_DIR", &folder)
        .env("PHOENIX_HOST", "127.0.0.1")
        .env("PHOENIX_PORT", page.port().to_string())
        .env("PHOENIX_GRPC_PORT", grpc.port().to_string())
        .env("PHOENIX_TELEMETRY_ENABLED", "false");
    let backend = Running::start(&mut command);
    awaited("the backend answers", || get(page, "/v1/projects"));
    let output = run(&example, &format!("http://{page}"));
    // It takes spans alone, which is not kept from the user.
    let said = said(&output);
    assert!(said.contains("not all was sent: logs: "), "{said}");
    assert!(!said.contains("traces: "), "{said}");

    let list = "/v1/projects/default/spans?limit=1000";
    let spans = awaited("all spans are kept", || {
        let answer = get(page, list)?;
        let spans = answer["data"].as_array()?.clone();
        // They are kept one by one, in no certain order: what comes last, and one for each connection and attempt.
        let is_last = |span: &Value| span["name"] == "sup.shutdown" && span["parent_id"].is_null();
        let count = |name: &str| spans.iter().filter(|span| span["name"] == name).count();
        let all = spans.iter().any(is_last) && count("outage") >= 6 && count("connect") >= 9;
        all.then_some(spans)
    });
    drop(backend);
    let _ = std::fs::remove_dir_all(folder);

    let attempts = |span: &Value| span["attributes"]["attempts"].as_str().map(str::to_owned);
    let outages = spans.iter().filter(|span| span["name"] == "outage");
    let outages: Vec<&Value> = outages.collect();
    let long = outages
        .iter()
        .find(|span| attempts(span).as_deref() == Some("3"));
    let outage = long.unwrap_or_else(|| panic!("none with three attempts: {outages:#?}"));
    assert_eq!(outage["attributes"]["ended_by"], "live");
    let children = |of: &Value| -> Vec<&Value> {
        let within = spans.iter().filter(|span| {
            span["parent_id"] == of["context"]["span_id"]
                && span["context"]["trace_id"] == of["context"]["trace_id"]
        });
        let mut within: Vec<&Value> = within.collect();
        within.sort_by_key(|span| span["start_time"].as_str().map(str::to_owned));
        within
    };
    let names = |spans: &[&Value]| -> Vec<String> {
        let names = spans.iter().filter_map(|span| span["name"].as_str());
        names.map(str::to_owned).collect()
    };
    let attempts = children(outage);
    assert_eq!(names(&attempts), ["connect"; 3]);
    let statuses: Vec<&Value> = attempts.iter().map(|one| &one["status_code"]).collect();
    assert_eq!(statuses, ["ERROR", "ERROR", "UNSET"]);
    let parts = names(&children(attempts[2]));
    for part in [
        "dns",
        "tcp",
        "tls",
        "upgrade",
        "auth",
        "first_data",
        "restore",
    ] {
        assert!(
            parts.contains(&format!("connect.{part}")),
            "{part} in {parts:?}"
        );
    }
}
