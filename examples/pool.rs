//! Three sessions behind one door, one of whose servers dies in the middle of a request.
//!
//! Problem that it shows solved: one connection is not enough, and two are only better if a request finds its way
//! around the one that fails, without an order ever being sent twice. The servers are this program's own.

#![allow(clippy::print_stdout, reason = "a program that shows something")]

use std::time::Duration;

use mainstay::Config;
use mainstay::error::PoolError;
use mainstay::platform::JsonRpc;
use mainstay::pool::{Pool, PoolSpec};
use mainstay::protocol::rpc::{Class, Params, TypedCall};
use mainstay::supervisors::Backoff;
use mainstay::testing::{Script, ScriptedServer};
use serde_json::{Value, json};

/// Answers each request with its name, but dies of what is called `method`.
async fn server(
    name: &'static str,
    dies_of: &'static str,
) -> Result<ScriptedServer, Box<dyn std::error::Error>> {
    let respond = move |text: &str| {
        let request: Value = serde_json::from_str(text).ok()?;
        let answer = json!({"jsonrpc": "2.0", "id": request["id"], "result": name});
        // A responder that panics ends its connection, as a process that crashes would.
        assert_ne!(request["method"], dies_of, "this is how it dies");
        Some(answer.to_string())
    };
    let live = Script::responding(mainstay::testing::Responder::new(respond));
    let dead = Script::refuse(503, &[], "dead");
    let server = ScriptedServer::builder().scripts([live, dead]);
    Ok(server.start().await?)
}

fn read() -> TypedCall<String> {
    TypedCall::new("read", Params::new(), Class::Idempotent)
}

fn order() -> TypedCall<String> {
    TypedCall::new("order", Params::new(), Class::AtMostOnce)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // The deaths below are played, and need no backtrace.
    std::panic::set_hook(Box::new(|_| {}));
    let servers = [
        ("amsterdam", server("amsterdam", "read").await?),
        ("berlin", server("berlin", "order").await?),
        ("cairo", server("cairo", "nothing").await?),
    ];
    let spec = PoolSpec::new()
        .on_connect(|id, _| println!("{id} is live"))
        .on_disconnect(|id, _, why| println!("{id} is lost: {why}"));
    let pool = Pool::start(spec).await?;
    for (id, server) in &servers {
        let config = Config::builder(server.url())
            .backoff(Backoff::new(
                Duration::from_millis(100),
                Duration::from_secs(1),
            ))
            .build()?;
        pool.add(*id, JsonRpc, config).await?;
    }
    println!("{}", pool.health());

    // The first is Amsterdam's turn. It dies of it, and the read goes to another one.
    println!("a read is answered by {}", pool.invoke(read()).await?);

    // An order that Berlin dies of may have been executed: it is returned, and nobody else is asked.
    for _ in 0..2 {
        match pool.invoke(order()).await {
            Ok(name) => println!("an order is answered by {name}"),
            Err(error @ PoolError::Request { .. }) => {
                let cause = error.request().map(ToString::to_string).unwrap_or_default();
                println!("an order is not repeated: {error}: {cause}");
            }
            Err(error) => return Err(error.into()),
        }
    }
    println!("{}", pool.health());

    let metrics = pool.metrics();
    println!(
        "{} attempts, {} failovers",
        metrics.pool_routed, metrics.pool_failovers
    );
    pool.shutdown().await;
    Ok(())
}
