//! What we are measured against.

use std::time::Instant;

use futures_util::{SinkExt, StreamExt};
use mainstay_benches::bare;
use mainstay_benches::tls::Authority;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::sync::oneshot;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

fn rate(messages: usize, began: Instant) -> Vec<f64> {
    vec![messages as f64 / began.elapsed().as_secs_f64()]
}

/// The loop that looks at nothing.
pub(crate) async fn bare(port: u16, messages: usize, size: usize) -> Vec<f64> {
    all_of(bare::socket(port).await, messages, size).await
}

/// The same over TLS.
pub(crate) async fn bare_tls(
    port: u16,
    authority: Authority,
    messages: usize,
    size: usize,
) -> Vec<f64> {
    all_of(authority.socket(port).await, messages, size).await
}

async fn all_of<S>(mut socket: WebSocketStream<S>, messages: usize, size: usize) -> Vec<f64>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    socket.send(Message::text("go")).await.expect("go");
    let began = Instant::now();
    let (mut count, mut bytes) = (0, 0);
    while count < messages {
        match socket.next().await {
            Some(Ok(Message::Text(text))) => {
                count += 1;
                bytes += text.len();
            }
            other => panic!("{other:?}"),
        }
    }
    let rate = rate(messages, began);
    assert_eq!(bytes, messages * size);
    rate
}

/// A tick as a user reads it.
#[derive(Debug, Deserialize)]
pub(crate) struct Envelope {
    params: Params,
}

#[derive(Debug, Deserialize)]
struct Params {
    data: Tick,
}

#[derive(Debug, Deserialize)]
struct Tick {
    mark_price: f64,
    best_bid_price: f64,
}

impl Envelope {
    pub(crate) fn spread(&self) -> f64 {
        self.params.data.mark_price - self.params.data.best_bid_price
    }
}

/// The bare loop, and `serde_json::from_slice` to the struct that ours decodes to.
pub(crate) async fn decoding(port: u16, messages: usize) -> Vec<f64> {
    let mut socket = bare::socket(port).await;
    socket.send(Message::text("go")).await.expect("go");
    let began = Instant::now();
    let mut sum = 0.0;
    for _ in 0..messages {
        match socket.next().await {
            Some(Ok(Message::Text(text))) => {
                let tick: Envelope = serde_json::from_slice(text.as_bytes()).expect("a tick");
                sum += tick.spread();
            }
            other => panic!("{other:?}"),
        }
    }
    let rate = rate(messages, began);
    assert!(sum > 0.0);
    rate
}

/// The limit: as many bytes as the frames have, read and forgotten.
pub(crate) async fn raw(port: u16, messages: usize, size: usize) -> Vec<f64> {
    let mut socket = bare::socket(port).await;
    socket.send(Message::text("go")).await.expect("go");
    // A head of two bytes and two more for the length (RFC 6455, section 5.2).
    let mut left = messages * (size + 4);
    let mut chunk = vec![0; 128 * 1024];
    let stream = socket.get_mut();
    let began = Instant::now();
    while left > 0 {
        let read = stream.read(&mut chunk).await.expect("bytes");
        assert_ne!(read, 0, "{left} bytes too early");
        left -= read;
    }
    rate(messages, began)
}

/// What we refused: a mailbox for every frame, three of them.
pub(crate) async fn mailboxes(port: u16, messages: usize) -> Vec<f64> {
    let (done, all) = oneshot::channel();
    let last = Counter {
        messages,
        done: std::sync::Mutex::new(Some(done)),
    };
    let (third, _) = Actor::spawn(None, last, ()).await.expect("an actor");
    let (second, _) = Actor::spawn(None, Relay, third.clone())
        .await
        .expect("an actor");
    let (first, _) = Actor::spawn(None, Relay, second.clone())
        .await
        .expect("an actor");
    let mut socket = bare::socket(port).await;
    socket.send(Message::text("go")).await.expect("go");
    let began = Instant::now();
    for _ in 0..messages {
        match socket.next().await {
            Some(Ok(Message::Text(text))) => first.cast(Tell(text)).expect("a mailbox"),
            other => panic!("{other:?}"),
        }
    }
    all.await.expect("all of them");
    let rate = rate(messages, began);
    first.stop(None);
    second.stop(None);
    third.stop(None);
    rate
}

struct Tell(Utf8Bytes);

mainstay::supervisors::message!(Tell);

struct Relay;

impl Actor for Relay {
    type Msg = Tell;
    type State = ActorRef<Tell>;
    type Arguments = ActorRef<Tell>;

    async fn pre_start(
        &self,
        _myself: ActorRef<Tell>,
        next: ActorRef<Tell>,
    ) -> Result<Self::State, ActorProcessingErr> {
        Ok(next)
    }

    async fn handle(
        &self,
        _myself: ActorRef<Tell>,
        message: Tell,
        next: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        Ok(next.cast(message)?)
    }
}

struct Counter {
    messages: usize,
    done: std::sync::Mutex<Option<oneshot::Sender<()>>>,
}

impl Actor for Counter {
    type Msg = Tell;
    type State = usize;
    type Arguments = ();

    async fn pre_start(
        &self,
        _myself: ActorRef<Tell>,
        _arguments: (),
    ) -> Result<usize, ActorProcessingErr> {
        Ok(0)
    }

    async fn handle(
        &self,
        _myself: ActorRef<Tell>,
        Tell(text): Tell,
        count: &mut usize,
    ) -> Result<(), ActorProcessingErr> {
        *count += usize::from(!text.is_empty());
        if *count == self.messages
            && let Some(done) = self.done.lock().ok().and_then(|mut done| done.take())
        {
            let _ = done.send(());
        }
        Ok(())
    }
}
