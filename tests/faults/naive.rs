//! A client as it is written again and again: one loop around tokio-tungstenite, without a word of ours.
//!
//! Every habit in it looks sensible and is the cause of one of the bugs that recur in all languages. It is here so
//! that the scripts of `recurring/` are seen to break somebody.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::stream::SplitSink;
use futures_util::{SinkExt, StreamExt};
use mainstay::Connector;
use mainstay::connector::ByteStream;
use mainstay::testing::faults::{FaultServer, Seen};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{WebSocketStream, client_async};

const FIRST_DELAY: Duration = Duration::from_millis(10);
const LONGEST_DELAY: Duration = Duration::from_secs(30);
/// After so long without a message it gives a connection up, in a test that takes its time.
pub(super) const PATIENCE: Duration = Duration::from_millis(600);
/// Messages that may wait for a consumer.
const QUEUE: usize = 64;

type Socket = WebSocketStream<Box<dyn ByteStream>>;

/// What a socket's reader tells the loop.
enum Event {
    Message(Value),
    Closed,
}

#[derive(Default)]
struct Shared {
    /// Of the channel "a".
    story: Mutex<Vec<Seen>>,
    pending: Mutex<BTreeMap<u64, oneshot::Sender<Value>>>,
    confirmed: Mutex<BTreeSet<u64>>,
}

/// The client; ends when dropped.
pub(super) struct Naive {
    shared: Arc<Shared>,
    requests: mpsc::UnboundedSender<Value>,
    ids: u64,
    _tasks: JoinSet<()>,
}

/// What it is to do.
pub(super) struct Habits {
    pub(super) channels: Vec<String>,
    /// Between two subscriptions of a restore; doubled by every restore that is cut, reset by one that is not.
    pub(super) pause: Duration,
    /// A channel that nobody reads.
    pub(super) unread: Option<&'static str>,
    /// How long it bears silence.
    pub(super) patience: Duration,
}

impl Naive {
    pub(super) fn start(venue: &FaultServer, habits: Habits) -> Self {
        let shared = Arc::new(Shared::default());
        let (requests, asked) = mpsc::unbounded_channel();
        let mut tasks = JoinSet::new();
        let mut feeds = BTreeMap::new();
        for channel in &habits.channels {
            let (feed, mut read) = mpsc::channel::<Value>(QUEUE);
            feeds.insert(channel.clone(), feed);
            let is_read = habits.unread != Some(channel);
            tasks.spawn(async move {
                match is_read {
                    true => while read.recv().await.is_some() {},
                    false => {
                        std::future::pending::<()>().await;
                        drop(read);
                    }
                }
            });
        }
        let client = Loop {
            way: Way::to(venue),
            shared: Arc::clone(&shared),
            habits,
            feeds,
            epoch: 0,
            readers: JoinSet::new(),
        };
        tasks.spawn(client.run(asked));
        Self {
            shared,
            requests,
            ids: 1_000_000,
            _tasks: tasks,
        }
    }

    /// Asks and waits for the answer.
    pub(super) async fn request(&mut self, method: &str, params: Value) -> Value {
        self.ids += 1;
        let (answer, answered) = oneshot::channel();
        {
            // Here it stays until its answer comes.
            let mut pending = self.shared.pending.lock().expect("nobody panics");
            pending.insert(self.ids, answer);
        }
        let request =
            json!({ "jsonrpc": "2.0", "id": self.ids, "method": method, "params": params });
        self.requests.send(request).expect("the loop runs");
        answered.await.expect("the loop runs")
    }

    /// What the channel "a" said.
    pub(super) fn story(&self) -> Vec<Seen> {
        self.shared.story.lock().expect("nobody panics").clone()
    }
}

/// How it comes to the venue.
enum Way {
    Memory(Arc<dyn Connector>),
    Socket(String),
}

impl Way {
    fn to(venue: &FaultServer) -> Self {
        match venue.connector() {
            Some(connector) => Self::Memory(connector),
            None => {
                let url = venue.url();
                let address = url.trim_start_matches("ws://").trim_end_matches('/');
                Self::Socket(address.to_owned())
            }
        }
    }
}

struct Loop {
    way: Way,
    shared: Arc<Shared>,
    habits: Habits,
    feeds: BTreeMap<String, mpsc::Sender<Value>>,
    epoch: u64,
    readers: JoinSet<()>,
}

impl Loop {
    async fn run(mut self, mut asked: mpsc::UnboundedReceiver<Value>) {
        let (events, mut told) = mpsc::channel(QUEUE);
        let (mut delay, mut pause) = (FIRST_DELAY, self.habits.pause);
        loop {
            if let Some(socket) = self.connect().await {
                // It is open, so all is well again.
                delay = FIRST_DELAY;
                self.epoch += 1;
                let (mut sink, mut stream) = socket.split();
                let events = events.clone();
                // An old socket's reader lives for as long as that socket does.
                self.readers.spawn(async move {
                    while let Some(Ok(message)) = stream.next().await {
                        let text = message.into_text().unwrap_or_default();
                        if let Ok(message) = serde_json::from_str(&text) {
                            let _ = events.send(Event::Message(message)).await;
                        }
                    }
                    let _ = events.send(Event::Closed).await;
                });
                pause = match self.restore(&mut sink, &mut told, pause).await {
                    true => self.habits.pause,
                    false => pause * 2,
                };
                self.serve(&mut sink, &mut told, &mut asked).await;
                self.tell(Seen::Gap {
                    epoch: self.epoch,
                    cause: "closed",
                });
            }
            sleep(delay).await;
            delay = (delay * 2).min(LONGEST_DELAY);
        }
    }

    async fn connect(&self) -> Option<Socket> {
        let wire: Box<dyn ByteStream> = match &self.way {
            Way::Memory(connector) => connector.connect("naive", 80).await.ok()?.stream,
            Way::Socket(address) => Box::new(TcpStream::connect(address).await.ok()?),
        };
        let (socket, _) = client_async("ws://naive/", wire).await.ok()?;
        Some(socket)
    }

    /// Subscribes to everything; whether that came to its end.
    async fn restore(
        &mut self,
        sink: &mut SplitSink<Socket, Message>,
        told: &mut mpsc::Receiver<Event>,
        pause: Duration,
    ) -> bool {
        self.shared.confirmed.lock().expect("nobody panics").clear();
        for (id, channel) in self.habits.channels.clone().into_iter().enumerate() {
            let params = json!({ "channels": [channel] });
            let request =
                json!({ "jsonrpc": "2.0", "id": id, "method": "subscribe", "params": params });
            if sink.send(Message::text(request.to_string())).await.is_err() {
                return false;
            }
            let until = Instant::now() + pause;
            while let Ok(event) = timeout_at(until, told.recv()).await {
                match event {
                    Some(Event::Message(message)) => self.handle(message).await,
                    Some(Event::Closed) | None => return false,
                }
            }
        }
        true
    }

    /// Until a reader says that its socket has ended, or nothing comes for a while.
    async fn serve(
        &mut self,
        sink: &mut SplitSink<Socket, Message>,
        told: &mut mpsc::Receiver<Event>,
        asked: &mut mpsc::UnboundedReceiver<Value>,
    ) {
        let mut patience = Instant::now() + self.habits.patience;
        loop {
            tokio::select! {
                event = timeout_at(patience, told.recv()) => match event {
                    Ok(Some(Event::Message(message))) => {
                        patience = Instant::now() + self.habits.patience.max(2 * self.habits.pause);
                        self.handle(message).await;
                    }
                    Ok(Some(Event::Closed) | None) | Err(_) => return,
                },
                Some(request) = asked.recv() => {
                    if sink.send(Message::text(request.to_string())).await.is_err() {
                        return;
                    }
                }
            }
        }
    }

    async fn handle(&mut self, message: Value) {
        if let Some(id) = message["id"].as_u64() {
            self.answered(id, message);
            return;
        }
        let params = &message["params"];
        let channel = params["channel"].as_str().unwrap_or_default();
        if let ("a", Some(number)) = (channel, params["data"]["n"].as_u64()) {
            self.tell(Seen::Data {
                epoch: self.epoch,
                number,
            });
        }
        if let Some(feed) = self.feeds.get(channel) {
            // Nothing may be lost, so it waits for its consumer.
            let _ = feed.send(params["data"].clone()).await;
        }
    }

    fn answered(&self, id: u64, message: Value) {
        let waiting = self
            .shared
            .pending
            .lock()
            .expect("nobody panics")
            .remove(&id);
        if let Some(answer) = waiting {
            let _ = answer.send(message);
            return;
        }
        let news = self
            .shared
            .confirmed
            .lock()
            .expect("nobody panics")
            .insert(id);
        if news && id == 0 && self.epoch > 1 {
            self.tell(Seen::Resynced { epoch: self.epoch });
        }
    }

    fn tell(&self, seen: Seen) {
        self.shared.story.lock().expect("nobody panics").push(seen);
    }
}
