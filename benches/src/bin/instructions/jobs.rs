//! What is counted: messages of one subscription and of many, a request alone and many at once.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use mainstay::config::WireBackend;
use mainstay::{Call, Channel, Event, Frame, Session};
use mainstay_benches::bare;
use mainstay_benches::load::{CHANNEL, Load, channel};
use mainstay_benches::responder::Responder;
use mainstay_benches::sender::Sender;
use mainstay_benches::session::{WIRES, config, connect, lossless};
use mainstay_benches::setting::Setting;
use serde_json::value::{RawValue, to_raw_value};
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::Message;

/// Bytes in a message.
const SIZE: usize = 200;
const CHANNELS: usize = 200;
const CALLERS: usize = 500;
const METHOD: &str = "private/buy";
const LIMIT: Duration = Duration::from_secs(60);

/// What is done, for the same contender.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Job {
    /// Messages of one subscription.
    Ticks,
    /// Messages of many subscriptions in turn, each with a task of its own.
    Channels,
    /// Requests, one behind the other.
    Request,
    /// Requests of many callers at once.
    Requests,
}

impl Job {
    const ALL: [Self; 4] = [Self::Ticks, Self::Channels, Self::Request, Self::Requests];

    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|job| job.name() == name)
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ticks => "ticks",
            Self::Channels => "channels",
            Self::Request => "request",
            Self::Requests => "requests",
        }
    }

    pub(crate) fn title(self) -> String {
        match self {
            Self::Ticks => format!("a message of {SIZE} B"),
            Self::Channels => format!("the same, in turn for {CHANNELS} subscriptions"),
            Self::Request => "a request alone".to_owned(),
            Self::Requests => format!("a request, {CALLERS} in flight"),
        }
    }

    /// Whether there is a bare loop that does it; if not, it is held against the last that does.
    pub(crate) fn has_bare(self) -> bool {
        matches!(self, Self::Ticks | Self::Request)
    }

    /// How much is done in two runs whose difference counts.
    pub(crate) fn counts(self) -> (usize, usize) {
        match self {
            Self::Ticks => (10_000, 40_000),
            Self::Channels => (20_000, 60_000),
            Self::Request => (500, 2_000),
            Self::Requests => (5_000, 20_000),
        }
    }

    /// Does it so many times.
    pub(crate) fn run(self, contender: &str, count: usize) {
        let wire = WIRES.iter().find(|(name, _)| *name == contender);
        let wire = wire.map(|(_, wire)| *wire);
        let port = match self {
            Self::Ticks => Sender::start(Load::ticks(SIZE, count), Setting::Two).port,
            Self::Channels => {
                Sender::start(Load::channels(CHANNELS, SIZE, count), Setting::Two).port
            }
            Self::Request | Self::Requests => Responder::start(Setting::Two).port,
        };
        Setting::One.run(|runtime| {
            runtime.block_on(async {
                match (self, wire) {
                    (Self::Ticks | Self::Channels, None) => receive_bare(port, count).await,
                    (Self::Request | Self::Requests, None) => ask_bare(port, count).await,
                    (job, Some(wire)) => job.ours(port, wire, count).await,
                }
            });
        });
    }

    async fn ours(self, port: u16, wire: WireBackend, count: usize) {
        let session = connect(config(port, wire)).await;
        match self {
            Self::Ticks => receive(&session, vec![CHANNEL.to_owned()], count).await,
            Self::Channels => receive(&session, (0..CHANNELS).map(channel).collect(), count).await,
            Self::Request => ask(&session, 1, count).await,
            Self::Requests => ask(&session, CALLERS, count).await,
        }
        session.shutdown().await;
    }
}

async fn receive_bare(port: u16, count: usize) {
    let mut socket = bare::socket(port).await;
    socket.send(Message::text("go")).await.expect("go");
    for _ in 0..count {
        let message = socket.next().await.expect("a message").expect("a message");
        assert!(message.is_text());
    }
}

/// What an order looks like.
fn params() -> Box<RawValue> {
    let order =
        serde_json::json!({"instrument_name": "ETH-PERPETUAL", "amount": 40, "type": "market"});
    to_raw_value(&order).expect("JSON")
}

async fn ask_bare(port: u16, count: usize) {
    let mut socket = bare::socket(port).await;
    let params = params();
    for id in 0..count {
        let request =
            format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{METHOD}","params":{params}}}"#);
        socket.send(Message::text(request)).await.expect("sent");
        let answer = socket.next().await.expect("an answer").expect("an answer");
        assert!(answer.is_text());
    }
}

/// The messages of these channels, as many of each.
async fn receive(session: &Session, names: Vec<String>, count: usize) {
    let each = count / names.len();
    let mut consumers = JoinSet::new();
    for name in names {
        let mut ticks = session
            .subscribe_with(Channel::<Frame>::new(name), lossless())
            .await
            .expect("a subscription");
        consumers.spawn(async move {
            for _ in 0..each {
                let tick = ticks.next().await;
                assert!(matches!(tick, Some(Event::Data(_))), "{tick:?}");
            }
        });
    }
    session.send(Frame::text("go")).await.expect("go");
    consumers.join_all().await;
}

async fn ask(session: &Session, callers: usize, count: usize) {
    let params = params();
    let mut asking = JoinSet::new();
    for _ in 0..callers {
        let (session, params) = (session.clone(), params.clone());
        asking.spawn(async move {
            for _ in 0..count / callers {
                let call = Call::raw(METHOD, params.clone());
                session.call(call, LIMIT).await.expect("an answer");
            }
        });
    }
    asking.join_all().await;
}
