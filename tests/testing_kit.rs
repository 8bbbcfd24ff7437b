//! The test kit, driven by a bare WebSocket client that knows nothing of this crate.
//!
//! Here: the client. Beside it: the scripted server, all its connections at once, the venue, its faults.
#![allow(
    clippy::unwrap_used,
    reason = "what is allowed in tests is not yet in their helpers"
)]

#[path = "testing_kit/crowd.rs"]
mod crowd;
#[path = "testing_kit/faults.rs"]
mod faults;
#[path = "testing_kit/scripted.rs"]
mod scripted;
#[path = "testing_kit/venue.rs"]
mod venue;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use mainstay::testing::deribit::DeribitSimulator;
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

const SOON: Duration = Duration::from_secs(5);

trait Wire: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Wire for T {}

/// A WebSocket client, and what it has read but not used.
struct Client {
    socket: WebSocketStream<Box<dyn Wire>>,
    unused: VecDeque<Value>,
    id: u64,
}

impl Client {
    async fn open(url: &str) -> Self {
        Self::try_open(url).await.unwrap()
    }

    async fn try_open(url: &str) -> Result<Self, Error> {
        let rest = url.strip_prefix("ws://").unwrap();
        let authority = rest.split('/').next().unwrap();
        let wire = TcpStream::connect(authority).await?;
        Self::over(url, Box::new(wire)).await
    }

    async fn over(url: &str, wire: Box<dyn Wire>) -> Result<Self, Error> {
        let (socket, _) = timeout(SOON, client_async(url, wire))
            .await
            .expect("an answer to the handshake in time")?;
        Ok(Self {
            socket,
            unused: VecDeque::new(),
            id: 0,
        })
    }

    async fn to(venue: &DeribitSimulator) -> Self {
        Self::open(&venue.url()).await
    }

    /// A client that is logged in with the right credentials.
    async fn authenticated(venue: &DeribitSimulator) -> Self {
        let mut client = Self::to(venue).await;
        client.log_in().await;
        client
    }

    async fn log_in(&mut self) -> Value {
        let credentials = json!({
            "grant_type": "client_credentials", "client_id": "id", "client_secret": "secret",
        });
        self.ask("public/auth", credentials).await.unwrap()
    }

    async fn send(&mut self, text: impl Into<String>) {
        self.socket.send(Message::text(text.into())).await.unwrap();
    }

    async fn request(&mut self, method: &str, params: Value) -> u64 {
        self.id += 1;
        let request =
            json!({ "jsonrpc": "2.0", "id": self.id, "method": method, "params": params });
        self.send(request.to_string()).await;
        self.id
    }

    /// The result or the error object of a request.
    async fn ask(&mut self, method: &str, params: Value) -> Result<Value, Value> {
        let id = self.request(method, params).await;
        let answer = self.answer(id).await;
        match answer.get("error") {
            Some(error) => Err(error.clone()),
            None => Ok(answer["result"].clone()),
        }
    }

    async fn code(&mut self, method: &str, params: Value) -> i64 {
        let error = self.ask(method, params).await.unwrap_err();
        error["code"].as_i64().unwrap()
    }

    async fn answer(&mut self, id: u64) -> Value {
        self.find(|message| message["id"] == id).await
    }

    async fn subscribe(&mut self, channel: &str) -> Value {
        let method = match channel.starts_with("user.") {
            true => "private/subscribe",
            false => "public/subscribe",
        };
        self.ask(method, json!({ "channels": [channel] }))
            .await
            .unwrap()
    }

    /// The data of the next notification of `channel`.
    async fn data(&mut self, channel: &str) -> Value {
        let mut found = self
            .find(|message| message["params"]["channel"] == channel)
            .await;
        found["params"]["data"].take()
    }

    async fn heartbeat(&mut self, kind: &str) {
        self.find(|message| message["method"] == "heartbeat" && message["params"]["type"] == kind)
            .await;
    }

    /// The first message that is wanted; the others stay for later.
    async fn find(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        if let Some(index) = self.unused.iter().position(&wanted) {
            return self.unused.remove(index).unwrap();
        }
        loop {
            let message = self.next_json().await;
            if wanted(&message) {
                return message;
            }
            self.unused.push_back(message);
        }
    }

    /// The next message of the wire, skipping control frames.
    async fn next_json(&mut self) -> Value {
        loop {
            if let Message::Text(text) = self.next().await.unwrap() {
                return serde_json::from_str(&text).unwrap();
            }
        }
    }

    async fn next(&mut self) -> Result<Message, Error> {
        let next = timeout(SOON, self.socket.next()).await;
        next.expect("a message in time")
            .unwrap_or(Err(Error::ConnectionClosed))
    }

    /// Nothing arrives for this long.
    async fn assert_silent(&mut self, time: Duration) {
        let next = timeout(time, self.socket.next()).await;
        assert!(next.is_err(), "{next:?}");
    }

    /// The error that ends the connection; everything before it is skipped.
    async fn end(&mut self) -> Error {
        loop {
            if let Err(error) = self.next().await {
                return error;
            }
        }
    }

    /// The code and the reason of the close frame.
    async fn close(&mut self) -> (u16, String) {
        loop {
            if let Message::Close(Some(frame)) = self.next().await.unwrap() {
                return (frame.code.into(), frame.reason.to_string());
            }
        }
    }
}

/// TLS to `address` as `name`, trusting `authority` only.
async fn secured(
    address: std::net::SocketAddr,
    name: &str,
    authority: &[u8],
) -> std::io::Result<Box<dyn Wire>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(authority.to_vec())).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let tcp = TcpStream::connect(address).await?;
    let name = name.to_owned().try_into().unwrap();
    let connecting = TlsConnector::from(Arc::new(config)).connect(name, tcp);
    let stream = timeout(SOON, connecting).await.expect("TLS in time")?;
    Ok(Box::new(stream))
}

fn is_reset(error: &Error) -> bool {
    matches!(error, Error::Io(error) if error.kind() == std::io::ErrorKind::ConnectionReset)
}
