//! Prometheus itself before the page, with the alerts that we publish.
//!
//! In a file of its own because it is a program that a machine may not have.
//!
//! Invariant: it never passes silently; what was left out is said loudly.

use std::io::Write;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use mainstay::MetricsCollector;
use mainstay::instruments::{Kind, TABLE};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{life, page};

/// Which program it is; `prometheus` by default.
const VARIABLE: &str = "MAINSTAY_PROMETHEUS";
const ALERTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/dashboards/alerts.yml");
/// Longer than this nothing takes.
const LIMIT: Duration = Duration::from_secs(60);

/// A program that ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The data of an answer, if there is one.
async fn get(from: SocketAddr, path: &str) -> Option<Value> {
    let mut stream = TcpStream::connect(from).await.ok()?;
    let request = format!("GET {path} HTTP/1.0\r\nhost: {from}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.ok()?;
    let (_, body) = answer.split_once("\r\n\r\n")?;
    let answer: Value = serde_json::from_str(body).ok()?;
    (answer["status"] == "success").then(|| answer["data"].clone())
}

/// The data of an answer once it is as wanted; nobody tells when that is.
async fn awaited(from: SocketAddr, path: &str, is_wanted: impl Fn(&Value) -> bool) -> Value {
    let mut last = None;
    let asking = async {
        let mut turns = tokio::time::interval(Duration::from_millis(100));
        loop {
            turns.tick().await;
            last = get(from, path).await.or(last.take());
            if last.as_ref().is_some_and(&is_wanted) {
                break;
            }
        }
    };
    let asked = tokio::time::timeout(LIMIT, asking).await;
    assert!(asked.is_ok(), "{path} stays {last:?}");
    last.expect("an answer")
}

#[tokio::test]
async fn prometheus_scrapes_every_metric_and_evaluates_the_alerts() {
    let program = std::env::var(VARIABLE).unwrap_or_else(|_| "prometheus".to_owned());
    if Command::new(&program).arg("--version").output().is_err() {
        // Not `eprintln`, which a test that passes keeps to itself.
        let _ = writeln!(
            std::io::stderr(),
            "SKIPPED: no prometheus; install it, or name it in {VARIABLE}"
        );
        return;
    }
    let scraped = page();
    let life = life::live(Arc::new(MetricsCollector::new())).await;
    let folder = std::env::temp_dir().join(format!("mainstay-prometheus-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let config = folder.join("prometheus.yml");
    let text = format!(
        "global: {{scrape_interval: 250ms, evaluation_interval: 250ms}}\n\
         scrape_configs: [{{job_name: mainstay, static_configs: [{{targets: ['{}']}}]}}]\n\
         rule_files: ['{ALERTS}']\n",
        scraped.address()
    );
    std::fs::write(&config, text).expect("written");
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = free.local_addr().expect("an address");
    drop(free);
    let prometheus = Command::new(&program)
        .arg(format!("--config.file={}", config.display()))
        .arg(format!(
            "--storage.tsdb.path={}",
            folder.join("data").display()
        ))
        .arg(format!("--web.listen-address={address}"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let prometheus = Running(prometheus.expect("a program"));

    for row in TABLE {
        let name = row.prometheus_name();
        let name = match row.kind() {
            Kind::Histogram => format!("{name}_count"),
            _ => name,
        };
        let path = format!("/api/v1/query?query=max({name})");
        awaited(address, &path, |data| {
            let value = data["result"][0]["value"][1].as_str();
            value.is_some_and(|value| value.parse::<f64>().is_ok_and(|value| value > 0.0))
        })
        .await;
    }

    let rules = awaited(address, "/api/v1/rules", |data| {
        let rules = data["groups"][0]["rules"].as_array();
        rules.is_some_and(|rules| rules.iter().all(|rule| rule["health"] != "unknown"))
    })
    .await;
    let rules = rules["groups"][0]["rules"].as_array().expect("rules");
    for rule in rules {
        assert_eq!(rule["health"], "ok", "{rule:#}");
    }
    // Of a life that leaves a breaker open.
    awaited(address, "/api/v1/alerts", |data| {
        let alerts = data["alerts"].as_array();
        alerts.is_some_and(|alerts| {
            let open = |alert: &Value| {
                alert["labels"]["alertname"] == "MainstayBreakerOpen"
                    && alert["labels"]["gate"] == "elsewhere"
            };
            alerts.iter().any(open)
        })
    })
    .await;
    drop(prometheus);
    // What is left of it harms nobody.
    let _ = std::fs::remove_dir_all(folder);
    life.end().await;
}
