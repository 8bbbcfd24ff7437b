//! One request in flight: ours against a bare loop that writes and waits for the next frame.
//!
//! `cargo bench --bench roundtrip`; `REQUESTS`, `ROUNDS` and `SETTING` in the environment change what is run. Rounds
//! are short and many, as those of `latency` are.

use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use mainstay::Call;
use mainstay::config::ConfigBuilder;
use mainstay_benches::race::{Outcome, Race, quantiles};
use mainstay_benches::responder::Responder;
use mainstay_benches::session::{WIRES, config, config_tls, connect};
use mainstay_benches::setting::Setting;
use mainstay_benches::tls::Authority;
use mainstay_benches::{bare, number, rounds};
use serde_json::value::{RawValue, to_raw_value};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

const COLUMNS: &[&str] = &["p50 us", "p99 us"];
const METHOD: &str = "private/buy";
const LIMIT: Duration = Duration::from_secs(10);

fn main() {
    let requests = number("REQUESTS", 2_000);
    let rounds = rounds(61);
    for setting in Setting::asked() {
        plain(setting, requests, rounds);
        tls(setting, requests, rounds);
    }
}

fn plain(setting: Setting, requests: usize, rounds: usize) {
    let port = Responder::start(setting).port;
    let title = format!("round trip, {setting}, {requests} requests a round");
    let mut race = Race::new(title, COLUMNS).with("bare", move || async move {
        bare_loop(bare::socket(port).await, requests).await
    });
    for (name, wire) in WIRES {
        race = race.with(name, move || ours(config(port, wire), requests));
    }
    let outcome = setting.run(move |runtime| race.run(runtime, rounds));
    hold(&outcome, &setting.to_string());
}

fn tls(setting: Setting, requests: usize, rounds: usize) {
    let authority = Authority::new();
    let port = Responder::start_tls(setting, &authority).port;
    let title = format!("round trip, TLS, {setting}, {requests} requests a round");
    let trusting = authority.clone();
    let mut race = Race::new(title, COLUMNS).with("bare", move || {
        let trusting = trusting.clone();
        async move { bare_loop(trusting.socket(port).await, requests).await }
    });
    for (name, wire) in WIRES {
        let trusting = authority.clone();
        race = race.with(name, move || {
            ours(config_tls(port, wire, &trusting), requests)
        });
    }
    let outcome = setting.run(move |runtime| race.run(runtime, rounds));
    hold(&outcome, &format!("tls_{setting}"));
}

fn hold(outcome: &Outcome, label: &str) {
    for (name, bar) in [("ours", ""), ("ours_fast", "_fast")] {
        for (column, quantile, bound) in [(0, "p50", 1.08), (1, "p99", 1.20)] {
            let bar = format!("roundtrip_{quantile}_{label}{bar}");
            outcome.at_most(&bar, name, "bare", column, bound);
        }
    }
}

/// What an order looks like.
fn params() -> Box<RawValue> {
    let order =
        serde_json::json!({"instrument_name": "ETH-PERPETUAL", "amount": 40, "type": "market"});
    to_raw_value(&order).expect("JSON")
}

async fn bare_loop<S>(mut socket: WebSocketStream<S>, requests: usize) -> Vec<f64>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let params = params();
    let mut took = Vec::with_capacity(requests);
    for id in 0..requests {
        let began = Instant::now();
        let request =
            format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{METHOD}","params":{params}}}"#);
        socket.send(Message::text(request)).await.expect("sent");
        match socket.next().await {
            Some(Ok(Message::Text(_))) => took.push(micros(began)),
            other => panic!("{other:?}"),
        }
    }
    quantiles(took, &[0.5, 0.99])
}

async fn ours(config: ConfigBuilder, requests: usize) -> Vec<f64> {
    let session = connect(config).await;
    let params = params();
    let mut took = Vec::with_capacity(requests);
    for _ in 0..requests {
        let began = Instant::now();
        let call = Call::raw(METHOD, params.clone());
        session.call(call, LIMIT).await.expect("an answer");
        took.push(micros(began));
    }
    session.shutdown().await;
    quantiles(took, &[0.5, 0.99])
}

fn micros(since: Instant) -> f64 {
    since.elapsed().as_nanos() as f64 / 1000.0
}
