//! Requests that nobody waits for any more: what they count as, and what becomes of their answers.
//!
//! In memory and under paused time, so that a deadline passes when the peer has the request and not before.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use mainstay::config::{ConfigBuilder, ReconnectOwner};
use mainstay::error::RequestError;
use mainstay::platform::Call;
use mainstay::telemetry::{Collector, TelemetryEvent};
use mainstay::testing::{Script, ScriptedServer, ServerConnection};
use mainstay::{Client, Config, Session};
use serde_json::json;

const LONG: Duration = Duration::from_secs(10);
const SHORT: Duration = Duration::from_millis(20);

async fn session(
    options: impl FnOnce(ConfigBuilder) -> ConfigBuilder,
) -> (Session, ServerConnection, ScriptedServer) {
    let server = ScriptedServer::builder().in_memory(true);
    let server = server.script(Script::new()).start().await;
    let server = server.expect("a server");
    let config = Config::builder(server.url())
        .connector(server.connector().expect("in memory"))
        .reconnect_owner(ReconnectOwner::Client);
    let config = options(config).build().expect("valid");
    let session = Client::connect_with(config).await.expect("a session");
    let peer = server.next_connection().await.expect("a connection");
    (session, peer, server)
}

/// The request that the peer has received, and an answer to it.
async fn asked(peer: &mut ServerConnection) -> serde_json::Value {
    let request = peer.recv_text().await.expect("a request");
    let request: serde_json::Value = serde_json::from_str(&request).expect("json");
    json!({"jsonrpc": "2.0", "id": request["id"], "result": 1})
}

#[tokio::test(start_paused = true)]
async fn what_was_given_up_is_not_pending_and_its_late_answer_is_known_as_such() {
    let (session, mut peer, _server) = session(|config| config).await;
    let mut late = Vec::new();
    for _ in 0..4 {
        let call = session.call(Call::bare("slow"), SHORT);
        let (error, answer) = tokio::join!(call, asked(&mut peer));
        let error = error.expect_err("no answer in time");
        assert!(matches!(error, RequestError::Unknown { .. }), "{error}");
        late.push(answer);
    }
    // A caller that goes before its deadline waits no more either.
    let gone = session.clone();
    let gone = tokio::spawn(async move { gone.request::<u64>("gone", &json!([])).await });
    late.push(asked(&mut peer).await);
    assert_eq!(session.state_metrics().pending_requests, 1);
    gone.abort();
    gone.await.expect_err("aborted");
    assert_eq!(session.state_metrics().pending_requests, 0);

    for answer in &late {
        peer.send_json(answer.clone()).await.expect("open");
    }
    // The second of the same is nobody's.
    peer.send_json(late[0].clone()).await.expect("open");
    session.ping("", LONG).await.expect("a pong");
    session.ping("", LONG).await.expect("a pong");
    let counted = session.statistics();
    assert_eq!((counted.late, counted.unwanted), (5, 1));
    let metrics = session.metrics();
    assert_eq!((metrics.requests_timed_out, metrics.requests_lost), (4, 0));
    assert_eq!(metrics.requests_answered_late, 5);
    assert_eq!(metrics.requests_resolved, 0);
    assert_eq!(session.state_metrics().pending_requests, 0);
}

/// Keeps what becomes of requests.
#[derive(Debug, Default)]
struct Ends(Mutex<Vec<(&'static str, usize, Vec<u64>)>>);

impl Collector for Ends {
    fn on_event(&self, _session: &str, event: &TelemetryEvent<'_>) {
        let end = match *event {
            TelemetryEvent::RequestTimedOut { id, in_flight, .. } => (in_flight, vec![id]),
            TelemetryEvent::RequestsLost { ids, .. } => (ids.len(), ids.to_vec()),
            _ => return,
        };
        let mut ends = self.0.lock().expect("no collector panics");
        ends.push((event.name(), end.0, end.1));
    }
}

#[tokio::test(start_paused = true)]
async fn the_events_of_timed_out_and_lost_requests_tell_their_ids_and_how_many_still_wait() {
    let ends = Arc::new(Ends::default());
    let (session, mut peer, _server) = session(|config| config.collector(ends.clone())).await;
    let mut ids = Vec::new();
    let mut waiting = Vec::new();
    for _ in 0..2 {
        let caller = session.clone();
        let call = async move { caller.request::<u64>("kept", &json!([])).await };
        waiting.push(tokio::spawn(call));
        ids.push(asked(&mut peer).await["id"].as_u64().expect("an id"));
    }
    let call = session.call(Call::bare("slow"), SHORT);
    let (error, answer) = tokio::join!(call, asked(&mut peer));
    error.expect_err("no answer in time");
    session.reconnect().await.expect("live again");
    for caller in waiting {
        let lost = caller.await.expect("no panic").expect_err("lost");
        assert!(matches!(lost, RequestError::Unknown { .. }), "{lost}");
    }
    let ends = ends.0.lock().expect("no collector panics").clone();
    let slow = answer["id"].as_u64().expect("an id");
    assert_eq!(
        ends,
        [("timed out", 2, vec![slow]), ("lost", 2, ids)],
        "the one that timed out is not lost once more"
    );
}
