//! An adapter for a venue of your own, and its test against a scripted server.
//!
//! Problem that it shows solved: your venue is not among ours. It wants a login, has subscriptions that
//! must be confirmed, and sends heartbeats that must be answered. All that it takes is one `Platform`:
//! pure functions, no socket and no task. Supervision, reconnecting, renewal of the login, restoring and
//! gaps come with the session.

#![allow(clippy::print_stdout, reason = "a program that shows something")]

use std::sync::Arc;
use std::time::Duration;

use mainstay::error::DecodeError;
use mainstay::platform::{Batch, Call, ChannelKind, Grant, JsonRpc, Moment, Platform, Route, Step};
use mainstay::testing::{Script, ScriptedServer};
use mainstay::{Channel, Config, Event, Frame, Message, Session};
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;

/// The venue's words.
#[derive(Debug)]
struct Acme;

#[derive(Deserialize)]
struct Login {
    lives_for: u64,
}

impl Platform for Acme {
    fn name(&self) -> &str {
        "acme"
    }

    fn route<'f>(&self, frame: &'f [u8]) -> Route<'f> {
        if frame.starts_with(br#"{"method":"alive?"#) {
            Route::Heartbeat
        } else {
            JsonRpc.route(frame)
        }
    }

    fn opening(&self) -> Vec<Step> {
        vec![Step::Authenticate]
    }

    fn authenticate(&self, _moment: &Moment) -> Option<Call> {
        Call::new("login", &json!({"key": "k"})).ok()
    }

    fn granted(&self, result: &RawValue) -> Result<Grant, DecodeError> {
        let login: Login = serde_json::from_str(result.get())
            .map_err(|error| DecodeError::json("login", &error))?;
        Ok(Grant::new(Some(Duration::from_secs(login.lives_for)), None))
    }

    fn subscribe(&self, channels: &[Arc<str>]) -> Vec<Batch> {
        batch("subscribe", channels)
    }

    fn unsubscribe(&self, channels: &[Arc<str>]) -> Vec<Batch> {
        batch("unsubscribe", channels)
    }

    fn channel(&self, _name: &str) -> ChannelKind {
        ChannelKind::state()
    }

    fn heartbeat(&self, _frame: &[u8]) -> Option<Call> {
        Some(Call::bare("alive"))
    }
}

fn batch(method: &'static str, channels: &[Arc<str>]) -> Vec<Batch> {
    let names: Vec<&str> = channels.iter().map(|channel| &**channel).collect();
    let call = Call::new(method, &json!({ "channels": names }));
    call.map(|call| Batch::new(call, channels.to_vec()))
        .into_iter()
        .collect()
}

/// A message of its price channels, read once, by the consumer.
#[derive(Debug)]
struct Price(f64);

impl Message for Price {
    fn decode(frame: &Frame) -> Result<Self, DecodeError> {
        #[derive(Deserialize)]
        struct Envelope {
            params: Params,
        }
        #[derive(Deserialize)]
        struct Params {
            data: f64,
        }
        let json = frame.payload();
        let envelope: Envelope = serde_json::from_slice(json)
            .map_err(|error| DecodeError::json_as::<Envelope>("price", json, &error))?;
        Ok(Self(envelope.params.data))
    }
}

fn price(value: f64) -> serde_json::Value {
    json!({"method": "price", "params": {"channel": "price.gold", "data": value}})
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // The venue's part of two connections; the first is cut, the second is not.
    let login = Script::new()
        .expect_method("login")
        .reply(json!({"lives_for": 3600}));
    let first = login
        .clone()
        .expect_method("subscribe")
        .reply(json!("ok"))
        .send_json(price(1900.5));
    let first = first
        .send(r#"{"method":"alive?"}"#)
        .expect_method("alive")
        .reply(json!("ok"))
        .reset();
    let second = login
        .expect_method("subscribe")
        .reply(json!("ok"))
        .send_json(price(1901.0));
    let server = ScriptedServer::builder()
        .scripts([first, second])
        .start()
        .await?;

    let config = Config::builder(server.url()).build()?;
    let session = Session::start(Acme, config).await?;
    let mut prices = session
        .subscribe(Channel::<Price>::new("price.gold"))
        .await?;
    let mut seen = 0;
    while seen < 2 {
        match prices.next().await {
            Some(Event::Data(price)) => {
                seen += 1;
                println!("epoch {}: {}", price.epoch, price.0);
            }
            Some(Event::Gap(gap)) => println!("interrupted: {}", gap.cause),
            Some(Event::Resynced(resynced)) => println!("again, complete: {}", resynced.complete),
            Some(other) => println!("{other:?}"),
            None => return Err("ended too early".into()),
        }
    }
    session.shutdown().await;
    match server.failures().first() {
        None => Ok(()),
        Some(failure) => {
            Err(format!("the venue was not spoken to as it expects: {failure:?}").into())
        }
    }
}
