//! Servers that say who they are, and pools of sessions with them.

use std::time::Duration;

use mainstay::config::ConfigBuilder;
use mainstay::platform::JsonRpc;
use mainstay::pool::{Pool, PoolSpec};
use mainstay::protocol::rpc::{Class, Params, TypedCall};
use mainstay::supervisors::Backoff;
use mainstay::testing::{ReceivedKind, Script, ScriptedServer, ServerConnection};
use mainstay::{Config, Session, SessionState};
use serde_json::{Value, json};

pub(crate) const LONG: Duration = Duration::from_secs(20);

/// The result of a request, as text.
fn result(request: &str, result: &Value) -> Option<String> {
    let request: Value = serde_json::from_str(request).ok()?;
    Some(json!({ "jsonrpc": "2.0", "id": request["id"], "result": result }).to_string())
}

/// Answers every request with its name.
pub(crate) async fn named(name: &'static str) -> ScriptedServer {
    let server = ScriptedServer::builder().respond(move |text| result(text, &json!(name)));
    server.start().await.expect("a server")
}

/// Plays these scripts.
pub(crate) async fn scripted(scripts: impl IntoIterator<Item = Script>) -> ScriptedServer {
    let server = ScriptedServer::builder().scripts(scripts).patience(LONG);
    server.start().await.expect("a server")
}

/// Accepts, and leaves everything else to the test.
pub(crate) async fn mute() -> ScriptedServer {
    scripted([Script::new()]).await
}

pub(crate) fn builder(server: &ScriptedServer) -> ConfigBuilder {
    Config::builder(server.url())
        .backoff(Backoff::new(
            Duration::from_millis(5),
            Duration::from_millis(50),
        ))
        .shutdown_timeout(Duration::from_secs(5))
}

pub(crate) fn config(server: &ScriptedServer) -> Config {
    builder(server).build().expect("a valid configuration")
}

/// A pool of sessions with these servers, as `a`, `b`, `c` and so on.
pub(crate) async fn pool_of(spec: PoolSpec, servers: &[&ScriptedServer]) -> Pool {
    let pool = Pool::start(spec).await.expect("a pool");
    for (id, server) in ["a", "b", "c", "d"].into_iter().zip(servers) {
        pool.add(id, JsonRpc, config(server))
            .await
            .expect("a live session");
    }
    pool
}

/// A request that may be repeated.
pub(crate) fn read() -> TypedCall<String> {
    TypedCall::new("read", Params::new(), Class::Idempotent)
}

/// A request that may not.
pub(crate) fn order() -> TypedCall<String> {
    TypedCall::new("order", Params::new(), Class::AtMostOnce)
}

/// How often this server has received a request of this method.
pub(crate) fn saw(server: &ScriptedServer, method: &str) -> usize {
    let received = server.received().into_iter();
    let texts = received.filter_map(|entry| match entry.kind {
        ReceivedKind::Text(text) => serde_json::from_str::<Value>(&text).ok(),
        _ => None,
    });
    texts.filter(|request| request["method"] == method).count()
}

/// Waits for a request and answers it.
pub(crate) async fn answer(peer: &mut ServerConnection, name: &str) {
    let request = peer.recv_text().await.expect("a request");
    let answer = result(&request, &json!(name)).expect("a request");
    peer.send_text(answer).await.expect("an open connection");
}

pub(crate) async fn in_time<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(LONG, future).await.expect("in time")
}

/// Has the session's actors panic until its tree gives up.
pub(crate) async fn exhaust(session: &Session) {
    in_time(async {
        while !matches!(session.state(), SessionState::Ended(_)) {
            session.crash(mainstay::Part::SubscriptionManager);
            tokio::task::yield_now().await;
        }
    })
    .await;
}
