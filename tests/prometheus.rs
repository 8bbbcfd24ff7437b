//! The page that Prometheus scrapes, of a program in which everything has happened that is measured.
//!
//! It is read as a scraper does, over a socket, and parsed by Prometheus's own client for Python, which has not a line
//! in common with what wrote it; and Prometheus itself scrapes it.
#![allow(
    clippy::expect_used,
    reason = "what is allowed in tests is not yet in their helpers"
)]

#[path = "prometheus/itself.rs"]
mod itself;
#[path = "otel/life.rs"]
mod life;

use std::collections::BTreeMap;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use mainstay::MetricsCollector;
use mainstay::instruments::{Kind, TABLE};
use mainstay::prometheus::{Prometheus, PrometheusError, PrometheusGuard};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const LONG: Duration = Duration::from_secs(20);
/// A Python that has what it takes: the one this names, else the one that is found.
const VARIABLE: &str = "MAINSTAY_OTEL_PYTHON";

fn page() -> PrometheusGuard {
    Prometheus::from_env()
        .address(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
        .service_name("quoter")
        .start()
        .expect("a page")
}

/// What is answered to a scrape, without its head.
async fn scrape(address: SocketAddr) -> String {
    let scraped = async {
        let mut stream = TcpStream::connect(address).await.expect("it listens");
        let request = format!("GET /metrics HTTP/1.1\r\nhost: {address}\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("asked");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("answered");
        answer
    };
    let answer = tokio::time::timeout(LONG, scraped).await.expect("in time");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    assert!(head.starts_with("HTTP/1.1 200 OK"), "{head}");
    assert!(
        head.contains("content-type: text/plain; version=0.0.4"),
        "{head}"
    );
    assert!(
        head.contains(&format!("content-length: {}", body.len())),
        "{head}"
    );
    body.to_owned()
}

/// Each series of the page with its largest value.
fn largest(page: &str) -> BTreeMap<&str, f64> {
    let mut found = BTreeMap::new();
    for line in page.lines().filter(|line| !line.starts_with('#')) {
        let (series, value) = line.rsplit_once(' ').expect("a value");
        let name = series.split('{').next().unwrap_or_default();
        let value: f64 = value.parse().expect("a number");
        let known = found.entry(name).or_insert(value);
        *known = known.max(value);
    }
    found
}

fn is_there(python: &str) -> bool {
    let checked = Command::new(python)
        .args(["-c", "import prometheus_client.parser"])
        .output();
    checked.is_ok_and(|output| output.status.success())
}

/// The families of the page as Prometheus's own parser has them, by name: type, help, number of samples.
fn parsed_by_python(page: &str) -> Option<Value> {
    let python = std::env::var(VARIABLE).unwrap_or_else(|_| "python3".to_owned());
    if !is_there(&python) {
        // Not `eprintln`, which a test that passes keeps to itself.
        let _ = writeln!(
            std::io::stderr(),
            "SKIPPED: no python3 with prometheus_client; pip install it, or name one that has it in {VARIABLE}"
        );
        return None;
    }
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/prometheus/parse.py");
    let mut parser = Command::new(python)
        .arg(script)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("a parser");
    let mut input = parser.stdin.take().expect("its input");
    input.write_all(page.as_bytes()).expect("given");
    drop(input);
    let output = parser.wait_with_output().expect("its end");
    assert!(
        output.status.success(),
        "the page cannot be parsed:\n{page}"
    );
    Some(serde_json::from_slice(&output.stdout).expect("JSON"))
}

#[tokio::test]
async fn a_scrape_has_every_metric_of_the_table_in_prometheus_spelling() {
    let scraped = page();
    let life = life::live(Arc::new(MetricsCollector::new())).await;
    let page = scrape(scraped.address()).await;
    let again = scrape(scraped.address()).await;
    life.end().await;

    let series = largest(&page);
    for row in TABLE {
        let name = row.prometheus_name();
        let name = match row.kind() {
            Kind::Histogram => format!("{name}_count"),
            _ => name,
        };
        let value = series.get(name.as_str());
        let value = value.unwrap_or_else(|| panic!("no {name} in\n{page}"));
        assert!(*value > 0.0, "{name} has no value in\n{page}");
    }
    assert!(page.contains("target_info{") && page.contains("service_name=\"quoter\""));
    let later = largest(&again);
    for row in TABLE.iter().filter(|row| row.kind() == Kind::Counter) {
        let name = row.prometheus_name();
        let (before, after) = (series[name.as_str()], later[name.as_str()]);
        assert!(before <= after, "{name} fell from {before} to {after}");
    }

    let Some(parsed) = parsed_by_python(&page) else {
        return;
    };
    for row in TABLE {
        let (name, kind) = match row.kind() {
            // The parser leaves the suffix of a counter to its samples.
            Kind::Counter => {
                let name = row.prometheus_name();
                (name.trim_end_matches("_total").to_owned(), "counter")
            }
            Kind::Histogram => (row.prometheus_name(), "histogram"),
            _ => (row.prometheus_name(), "gauge"),
        };
        let family = &parsed[&name];
        assert_eq!(family["type"], kind, "{name} in {parsed}");
        assert_eq!(family["help"], row.description(), "{name}");
        assert!(family["samples"].as_u64() > Some(0), "{name}");
    }
}

/// A platform of this name, so that its series are told from those of the other tests.
#[derive(Debug)]
struct Named(&'static str);

impl mainstay::Platform for Named {
    fn name(&self) -> &str {
        self.0
    }
}

/// The value of the series of this name that has all of these labels.
fn value_of(page: &str, name: &str, labels: &[&str]) -> Option<f64> {
    let start = format!("{name}{{");
    let mut lines = page.lines().filter(|line| line.starts_with(&start));
    let line = lines.find(|line| labels.iter().all(|label| line.contains(label)))?;
    line.rsplit_once(' ')?.1.parse().ok()
}

#[tokio::test]
async fn an_endpoint_that_fails_has_fewer_points_than_the_one_that_serves() {
    use mainstay::testing::{Script, ScriptedServer};
    use mainstay::{Config, Session};

    let scraped = page();
    let refusing = ScriptedServer::builder().script(Script::refuse(503, &[], "later"));
    let refusing = refusing.start().await.expect("a server");
    let willing = ScriptedServer::plain().await.expect("a server");
    let config = Config::builder(refusing.url())
        .fallbacks([willing.url()])
        .build()
        .expect("valid");
    let session = Session::start(Named("two_places"), config).await;
    let session = session.expect("a session");
    let page = scrape(scraped.address()).await;
    let score = |place: &str| {
        let place = format!("endpoint=\"{place}\"");
        let labels = ["session=\"two_places\"", &*place];
        value_of(&page, "mainstay_endpoint_score", &labels)
    };
    let first = score("0").expect("a score");
    assert!(first < 100.0, "{first}");
    assert_eq!((score("1"), score("2")), (Some(100.0), None));
    let scores = page.lines().filter(|line| line.contains("_score{"));
    for line in scores {
        assert!(!line.contains("127.0.0.1"), "{line}");
    }
    session.shutdown().await;
}

#[tokio::test]
async fn how_full_the_fullest_queue_is_is_on_the_page() {
    use mainstay::config::{Overflow, Queue};
    use mainstay::testing::{Matcher, Script, ScriptedServer};
    use mainstay::{Config, Session};

    let scraped = page();
    let script = Script::new()
        .await_message(Matcher::method("print"))
        .repeat(5, Script::new().send("news"))
        .reply("printed");
    let server = ScriptedServer::builder().script(script).start().await;
    let server = server.expect("a server");
    let config = Config::builder(server.url()).build().expect("valid");
    let session = Session::start(Named("half_full"), config).await;
    let session = session.expect("a session");
    let unread = session.messages_with(Queue::new(10, Overflow::DropOldest));
    let nearly_empty = session.messages();
    let printed: String = session
        .request("print", &serde_json::json!({}))
        .await
        .expect("an edition");
    assert_eq!(printed, "printed");
    let page = scrape(scraped.address()).await;
    let share = |queue: &str| {
        let queue = format!("queue=\"{queue}\"");
        let labels = ["session=\"half_full\"", &*queue];
        value_of(&page, "mainstay_queue_pressure_ratio", &labels)
    };
    assert_eq!(share("messages"), Some(0.5));
    assert_eq!(
        (share("requests"), share("offline")),
        (Some(0.0), Some(0.0))
    );
    drop((unread, nearly_empty));
    session.shutdown().await;
}

#[tokio::test]
async fn what_ended_sessions_counted_stays_counted() {
    use mainstay::Client;
    use mainstay::testing::ScriptedServer;

    let scraped = page();
    let server = ScriptedServer::plain().await.expect("a server");
    let opened = async || {
        let page = scrape(scraped.address()).await;
        let line = page.lines().find(|line| {
            line.starts_with("mainstay_session_opened_total{") && line.contains("\"json_rpc\"")
        });
        let value = line.and_then(|line| line.rsplit_once(' '));
        value.map_or(0, |(_, value)| value.parse().expect("a number"))
    };
    let before: u64 = opened().await;
    for more in 1..=2 {
        let session = Client::connect(server.url()).await.expect("a session");
        session.shutdown().await;
        drop(session);
        assert_eq!(opened().await, before + more);
    }
}

#[tokio::test]
async fn who_asks_for_nothing_keeps_no_other_from_the_page() {
    let scraped = page();
    let mut silent = Vec::new();
    for _ in 0..15 {
        silent.push(
            TcpStream::connect(scraped.address())
                .await
                .expect("it listens"),
        );
    }
    assert!(scrape(scraped.address()).await.contains("target_info"));
    drop(silent);
}

#[tokio::test]
async fn an_address_that_is_taken_is_named_with_a_remedy() {
    let scraped = page();
    let taken = Prometheus::from_env().address(scraped.address()).start();
    let error = taken.expect_err("taken");
    assert!(
        matches!(error, PrometheusError::Address { .. }),
        "{error:?}"
    );
    let text = error.to_string();
    let address = scraped.address().to_string();
    assert!(
        text.contains(&address) && text.contains("OTEL_EXPORTER_PROMETHEUS_HOST"),
        "{text}"
    );
    drop(scraped);
}
