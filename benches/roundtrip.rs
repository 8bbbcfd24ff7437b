//! One request in flight: ours against a bare loop that writes and waits for the next frame.
//!
//! `cargo bench --bench roundtrip`; `REQUESTS`, `ROUNDS` and `SETTING` in the environment change what is run.

use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use mainstay::Call;
use mainstay::config::WireBackend;
use mainstay_benches::race::{Race, quantiles};
use mainstay_benches::responder::Responder;
use mainstay_benches::session::{WIRES, config, connect};
use mainstay_benches::setting::Setting;
use mainstay_benches::{bare, number, rounds};
use serde_json::value::{RawValue, to_raw_value};
use tokio_tungstenite::tungstenite::Message;

const METHOD: &str = "private/buy";
const LIMIT: Duration = Duration::from_secs(10);

fn main() {
    let requests = number("REQUESTS", 20_000);
    let rounds = rounds(7);
    for setting in Setting::asked() {
        let port = Responder::start(setting).port;
        let title = format!("round trip, {setting}, {requests} requests a round");
        let mut race =
            Race::new(title, &["p50 us", "p99 us"]).with("bare", move || bare_loop(port, requests));
        for (name, wire) in WIRES {
            race = race.with(name, move || ours(port, wire, requests));
        }
        let outcome = setting.run(move |runtime| race.run(runtime, rounds));
        for (name, bar) in [("ours", ""), ("ours_fast", "_fast")] {
            outcome.at_most(
                &format!("roundtrip_p50_{setting}{bar}"),
                name,
                "bare",
                0,
                1.08,
            );
            outcome.at_most(
                &format!("roundtrip_p99_{setting}{bar}"),
                name,
                "bare",
                1,
                1.20,
            );
        }
    }
}

/// What an order looks like.
fn params() -> Box<RawValue> {
    let order =
        serde_json::json!({"instrument_name": "ETH-PERPETUAL", "amount": 40, "type": "market"});
    to_raw_value(&order).expect("JSON")
}

async fn bare_loop(port: u16, requests: usize) -> Vec<f64> {
    let mut socket = bare::socket(port).await;
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

async fn ours(port: u16, wire: WireBackend, requests: usize) -> Vec<f64> {
    let session = connect(config(port, wire)).await;
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
