//! A thousand requests in flight from as many concurrent callers: ours against the same callers over a
//! `Mutex<HashMap>` on bare tungstenite, and over jsonrpsee.
//!
//! `cargo bench --bench pipeline`; `CALLERS`, `REQUESTS` (in all, a tenth of them where jsonrpsee takes part), `ROUNDS` and `SETTING` in the environment
//! change what is run.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use jsonrpsee_core::client::ClientT;
use jsonrpsee_core::traits::ToRpcParams;
use jsonrpsee_ws_client::WsClientBuilder;
use mainstay::Call;
use mainstay::config::WireBackend;
use mainstay_benches::race::Race;
use mainstay_benches::responder::Responder;
use mainstay_benches::session::{WIRES, config, connect};
use mainstay_benches::setting::Setting;
use mainstay_benches::{bare, number, rounds};
use serde::Deserialize;
use serde_json::value::{RawValue, to_raw_value};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::Message;

const METHOD: &str = "private/buy";
const LIMIT: Duration = Duration::from_secs(30);

/// How many callers there are, and how often each asks.
#[derive(Clone, Copy)]
struct Load {
    callers: usize,
    each: usize,
}

impl Load {
    fn tenth(self) -> Self {
        Self {
            each: (self.each / 10).max(1),
            ..self
        }
    }
}

fn main() {
    let callers = number("CALLERS", 1000);
    let each = (number("REQUESTS", 200_000) / callers).max(1);
    let load = Load { callers, each };
    let rounds = rounds(15);
    for setting in Setting::asked() {
        let port = Responder::start(setting).port;
        race("mutex", mutexed, 1.25, (setting, port, load, rounds));
        // Who takes twenty times as long.
        let load = load.tenth();
        race("jsonrpsee", jsonrpsee, 2.0, (setting, port, load, rounds));
    }
}

/// Ours against `theirs`, of which it is to have `bound` times the rate.
fn race<F>(
    name: &str,
    theirs: fn(u16, Load) -> F,
    bound: f64,
    (setting, port, load, rounds): (Setting, u16, Load, usize),
) where
    F: Future<Output = Vec<f64>> + Send + 'static,
{
    let Load { callers, each } = load;
    let title = format!("{callers} requests in flight, {setting}, {each} of each caller");
    let mut race = Race::new(title, &["req/s"]).with(name, move || theirs(port, load));
    for (ours_so, wire) in WIRES {
        race = race.with(ours_so, move || ours(port, wire, load));
    }
    let outcome = setting.run(move |runtime| race.run(runtime, rounds));
    for (ours_so, bar) in [("ours", ""), ("ours_fast", "_fast")] {
        let bar = format!("pipeline_over_{name}_{setting}{bar}");
        outcome.at_least(&bar, ours_so, name, 0, bound);
    }
}

/// What an order looks like.
fn params() -> Box<RawValue> {
    let order =
        serde_json::json!({"instrument_name": "ETH-PERPETUAL", "amount": 40, "type": "market"});
    to_raw_value(&order).expect("JSON")
}

/// Runs all callers to their end.
async fn all<F>(load: Load, caller: impl Fn() -> F) -> Vec<f64>
where
    F: Future<Output = ()> + Send + 'static,
{
    let mut callers = JoinSet::new();
    let began = Instant::now();
    for _ in 0..load.callers {
        callers.spawn(caller());
    }
    while let Some(caller) = callers.join_next().await {
        caller.expect("all answers");
    }
    vec![(load.callers * load.each) as f64 / began.elapsed().as_secs_f64()]
}

async fn ours(port: u16, wire: WireBackend, load: Load) -> Vec<f64> {
    let session = connect(config(port, wire)).await;
    let params = params();
    let figures = all(load, || {
        let (session, params) = (session.clone(), params.clone());
        async move {
            for _ in 0..load.each {
                let call = Call::raw(METHOD, params.clone());
                session.call(call, LIMIT).await.expect("an answer");
            }
        }
    })
    .await;
    session.shutdown().await;
    figures
}

/// The same callers over jsonrpsee's client, with room for all of them.
async fn jsonrpsee(port: u16, load: Load) -> Vec<f64> {
    let client = WsClientBuilder::default()
        .max_concurrent_requests(load.callers * 2)
        .request_timeout(LIMIT)
        .build(bare::url(port))
        .await
        .expect("a client");
    let client = Arc::new(client);
    let params = params();
    all(load, || {
        let (client, params) = (Arc::clone(&client), params.clone());
        async move {
            for _ in 0..load.each {
                let answer: Result<Box<RawValue>, _> =
                    client.request(METHOD, Params(params.clone())).await;
                answer.expect("an answer");
            }
        }
    })
    .await
}

/// Parameters that are JSON already.
struct Params(Box<RawValue>);

impl ToRpcParams for Params {
    fn to_rpc_params(self) -> Result<Option<Box<RawValue>>, serde_json::Error> {
        Ok(Some(self.0))
    }
}

/// As it comes from the responder.
#[derive(Deserialize)]
struct Answer {
    id: u64,
    result: Box<RawValue>,
}

type Pending = Arc<Mutex<HashMap<u64, oneshot::Sender<Box<RawValue>>>>>;

/// As it is written by hand: a writer task that flushes once for all that waits, a reader task, a map of
/// one-shots between them and the callers, and a limit for every answer.
async fn mutexed(port: u16, load: Load) -> Vec<f64> {
    let (mut sink, mut stream) = bare::socket(port).await.split();
    let (outbound, mut waiting) = mpsc::channel::<String>(1024);
    let pending = Pending::default();
    let writer = tokio::spawn(async move {
        let mut batch = Vec::new();
        while waiting.recv_many(&mut batch, 1024).await > 0 {
            for request in batch.drain(..) {
                sink.feed(Message::text(request)).await.expect("fed");
            }
            sink.flush().await.expect("flushed");
        }
    });
    let resolving = Arc::clone(&pending);
    let reader = tokio::spawn(async move {
        while let Some(Ok(message)) = stream.next().await {
            let Message::Text(text) = message else {
                continue;
            };
            let answer: Answer = serde_json::from_str(&text).expect("an answer");
            let caller = resolving.lock().expect("the map").remove(&answer.id);
            if let Some(caller) = caller {
                let _ = caller.send(answer.result);
            }
        }
    });
    let ids = Arc::new(AtomicU64::new(1));
    let params = params();
    let figures = all(load, || {
        let (pending, ids) = (Arc::clone(&pending), Arc::clone(&ids));
        let (outbound, params) = (outbound.clone(), params.clone());
        async move {
            for _ in 0..load.each {
                let id = ids.fetch_add(1, Ordering::Relaxed);
                let (resolve, answer) = oneshot::channel();
                pending.lock().expect("the map").insert(id, resolve);
                let request = format!(
                    r#"{{"jsonrpc":"2.0","id":{id},"method":"{METHOD}","params":{params}}}"#
                );
                outbound.send(request).await.expect("the writer");
                let answer = tokio::time::timeout(LIMIT, answer).await;
                answer.expect("in time").expect("an answer");
            }
        }
    })
    .await;
    drop(outbound);
    writer.await.expect("written");
    reader.abort();
    figures
}
