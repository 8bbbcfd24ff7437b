//! The receive job as others do it. None of them routes, counts or survives the connection unless it says so.
//!
//! fastwebsockets is given a socket that has shaken hands, since its own handshake needs hyper.

use std::time::Instant;

use alloy_json_rpc::{Id, Request};
use alloy_pubsub::PubSubConnect;
use alloy_transport_ws::WsConnect;
use fastwebsockets::{OpCode, Payload, Role, WebSocket};
use futures_util::{SinkExt, StreamExt};
use jsonrpsee_core::client::{Subscription, SubscriptionClientT};
use jsonrpsee_core::rpc_params;
use jsonrpsee_ws_client::WsClientBuilder;
use mainstay_benches::bare;
use serde_json::value::RawValue;
use tokio::sync::oneshot;

fn rate(messages: usize, began: Instant) -> Vec<f64> {
    vec![messages as f64 / began.elapsed().as_secs_f64()]
}

/// A framing crate: text checked, nothing routed.
pub(crate) async fn tokio_websockets(port: u16, messages: usize) -> Vec<f64> {
    let stream = bare::socket(port).await.into_inner();
    let mut socket = tokio_websockets::ClientBuilder::new().take_over(stream);
    let go = tokio_websockets::Message::text("go");
    socket.send(go).await.expect("go");
    let began = Instant::now();
    for _ in 0..messages {
        let message = socket.next().await.expect("a message").expect("a message");
        assert!(message.is_text());
    }
    rate(messages, began)
}

/// A framing crate: text checked by us, since it leaves that to its user.
pub(crate) async fn fastwebsockets(port: u16, messages: usize) -> Vec<f64> {
    let stream = bare::socket(port).await.into_inner();
    let mut socket = WebSocket::after_handshake(stream, Role::Client);
    let go = fastwebsockets::Frame::text(Payload::Borrowed(b"go"));
    socket.write_frame(go).await.expect("go");
    let began = Instant::now();
    for _ in 0..messages {
        let frame = socket.read_frame().await.expect("a frame");
        assert!(frame.opcode == OpCode::Text && frame.is_utf8());
    }
    rate(messages, began)
}

/// A JSON-RPC client's subscription, the payload raw, with room for all so that none is dropped.
pub(crate) async fn jsonrpsee(port: u16, messages: usize) -> Vec<f64> {
    let client = WsClientBuilder::default()
        .max_buffer_capacity_per_subscription(messages)
        .build(bare::url(port))
        .await
        .expect("a client");
    // The sender begins as soon as it has answered.
    let began = Instant::now();
    let mut ticks: Subscription<Box<RawValue>> = client
        .subscribe("subscribe", rpc_params!["ticker"], "unsubscribe")
        .await
        .expect("a subscription");
    for _ in 0..messages {
        ticks.next().await.expect("a tick").expect("a tick");
    }
    rate(messages, began)
}

/// Ethereum's client: a subscription, the payload raw, with room for all so that none is dropped.
pub(crate) async fn alloy(port: u16, messages: usize) -> Vec<f64> {
    let frontend = WsConnect::new(bare::url(port))
        .into_service()
        .await
        .expect("a client");
    frontend.set_channel_size(messages);
    let mut request = Request::new("eth_subscribe", Id::Number(1), ["ticker"]);
    request.set_is_subscription();
    let began = Instant::now();
    let response = frontend
        .send(request.serialize().expect("JSON"))
        .await
        .expect("an answer");
    let id = response.payload().as_success().expect("a subscription");
    let id = serde_json::from_str(id.get()).expect("an id");
    let mut ticks = frontend.get_subscription(id).await.expect("its stream");
    for _ in 0..messages {
        ticks.recv().await.expect("a tick");
    }
    rate(messages, began)
}

/// A client that reconnects, and calls its user for every message: text checked, nothing routed.
pub(crate) async fn ezsockets(port: u16, messages: usize) -> Vec<f64> {
    let config = ezsockets::ClientConfig::new(bare::url(port).as_str());
    let (done, all) = oneshot::channel();
    let (client, ended) = ezsockets::connect(
        move |client| Counter {
            client,
            began: None,
            left: messages,
            done: Some(done),
        },
        config,
    )
    .await;
    let ended = tokio::spawn(ended);
    let began = all.await.expect("all of them");
    let rate = rate(messages, began);
    client.close(None).expect("it is up");
    // How it says farewell is its affair.
    let _ = ended.await;
    rate
}

struct Counter {
    client: ezsockets::Client<Self>,
    began: Option<Instant>,
    left: usize,
    done: Option<oneshot::Sender<Instant>>,
}

#[async_trait::async_trait]
impl ezsockets::ClientExt for Counter {
    type Call = ();

    /// What is said before is discarded.
    async fn on_connect(&mut self) -> Result<(), ezsockets::Error> {
        self.client.text("go")?;
        self.began = Some(Instant::now());
        Ok(())
    }

    async fn on_text(&mut self, _: ezsockets::Utf8Bytes) -> Result<(), ezsockets::Error> {
        self.left -= 1;
        if self.left == 0
            && let (Some(began), Some(done)) = (self.began, self.done.take())
        {
            // Whoever measures waits for it.
            let _ = done.send(began);
        }
        Ok(())
    }

    async fn on_binary(&mut self, _: ezsockets::Bytes) -> Result<(), ezsockets::Error> {
        Ok(())
    }

    async fn on_call(&mut self, (): ()) -> Result<(), ezsockets::Error> {
        Ok(())
    }
}
