//! A live session that goes from actor to actor while frames come and go.

use std::time::Duration;

use mainstay::config::{ConfigBuilder, Overflow, Queue, ReconnectOwner};
use mainstay::error::RequestError;
use mainstay::testing::{ReceivedKind, Script, ScriptedServer};
use mainstay::{Client, Config, Event, Frame, HandOver, Session, Subscription};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

const LONG: Duration = Duration::from_secs(10);

fn config(server: &ScriptedServer) -> ConfigBuilder {
    Config::builder(server.url()).reconnect_owner(ReconnectOwner::Client)
}

/// What an owner keeps, and hands on with the session.
struct Kept {
    messages: Subscription<Frame>,
    seen: Vec<u64>,
    sent: u64,
}

/// Sends a number for each that it reads, until it hands the session on.
struct Owner(&'static str);

enum Order {
    /// The session is yours.
    Take(Box<HandOver<Kept>>),
    /// It is to be another's.
    PassOn(ActorRef<Order>),
    /// It is over when so many have come.
    Finish(usize, oneshot::Sender<Kept>),
}

#[cfg(feature = "cluster")]
impl ractor::Message for Order {}

struct Work {
    stop: oneshot::Sender<usize>,
    task: JoinHandle<(Session, Kept)>,
}

async fn work(
    session: Session,
    mut kept: Kept,
    mut stop: oneshot::Receiver<usize>,
) -> (Session, Kept) {
    let mut until = usize::MAX;
    while kept.seen.len() < until {
        let event = tokio::select! {
            told = &mut stop, if until == usize::MAX => {
                until = told.expect("the owner lives");
                continue;
            }
            event = kept.messages.next() => event,
        };
        let Some(Event::Data(data)) = event else {
            panic!("{event:?} instead of the next number")
        };
        let text = data.message.as_text().expect("a text").to_owned();
        kept.seen.push(text.parse().expect("a number"));
        let sent = session.send_text(kept.sent.to_string()).await;
        sent.expect("written");
        kept.sent += 1;
    }
    (session, kept)
}

#[cfg_attr(feature = "async-trait", ractor::async_trait)]
impl Actor for Owner {
    type Msg = Order;
    type State = Option<Work>;
    type Arguments = ();

    async fn pre_start(
        &self,
        _myself: ActorRef<Order>,
        (): (),
    ) -> Result<Self::State, ActorProcessingErr> {
        Ok(None)
    }

    async fn handle(
        &self,
        _myself: ActorRef<Order>,
        order: Order,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        match order {
            Order::Take(parcel) => {
                let (session, kept) = parcel.receive(self.0);
                let (stop, told) = oneshot::channel();
                let task = tokio::spawn(work(session, kept, told));
                *state = Some(Work { stop, task });
            }
            Order::PassOn(heir) => {
                let Work { stop, task } = state.take().expect("an owner");
                let _ = stop.send(0);
                let (session, kept) = task.await?;
                let parcel = Box::new(session.hand_over(kept, LONG));
                heir.cast(Order::Take(parcel))?;
            }
            Order::Finish(count, reply) => {
                let Work { stop, task } = state.take().expect("an owner");
                let _ = stop.send(count);
                let (_session, kept) = task.await?;
                let _ = reply.send(kept);
            }
        }
        Ok(())
    }
}

#[tokio::test]
async fn a_session_that_goes_from_actor_to_actor_during_traffic_loses_and_doubles_nothing() {
    const COUNT: u64 = 3_000;
    const OWNERS: u64 = 20;
    let server = ScriptedServer::builder().script(Script::new());
    let server = server.start().await.expect("a server");
    let config = config(&server).build().expect("valid");
    let session = Client::connect_with(config).await.expect("a session");
    let mut peer = server.next_connection().await.expect("a connection");

    // A request of the first owner's, whose answer comes when the session is another's.
    let caller = session.clone();
    let asked = tokio::spawn(async move { caller.request::<u64>("sum", &json!([])).await });
    let request = peer.recv_text().await.expect("a request");
    let request: Value = serde_json::from_str(&request).expect("json");
    let answer = json!({"jsonrpc": "2.0", "id": request["id"], "result": 7});

    let (first, _) = Actor::spawn(None, Owner("first"), ()).await.expect("one");
    let (second, _) = Actor::spawn(None, Owner("second"), ()).await.expect("two");
    let queue = Queue::new(64, Overflow::Block(LONG));
    let kept = Kept {
        messages: session.messages_with(queue),
        seen: Vec::new(),
        sent: 0,
    };
    let metrics = session.clone();
    let parcel = Box::new(session.hand_over(kept, LONG));
    first.cast(Order::Take(parcel)).expect("it lives");

    let mut owners = [&first, &second];
    for turn in 0..OWNERS {
        for number in turn * COUNT / OWNERS..(turn + 1) * COUNT / OWNERS {
            let sent = peer.send_text(number.to_string()).await;
            sent.expect("an open connection");
        }
        if turn == OWNERS / 2 {
            peer.send_json(answer.clone()).await.expect("open");
        }
        let [owner, heir] = owners;
        owner.cast(Order::PassOn(heir.clone())).expect("it lives");
        owners.swap(0, 1);
    }
    assert_eq!(asked.await.expect("no panic").expect("an answer"), 7);
    // The order to finish comes behind the session, which is on its way.
    while metrics.metrics().ownership_received < 1 + OWNERS {
        tokio::task::yield_now().await;
    }
    let (reply, finished) = oneshot::channel();
    let count = usize::try_from(COUNT).expect("few");
    owners[0].cast(Order::Finish(count, reply)).expect("lives");
    let kept = tokio::time::timeout(LONG, finished).await;
    let kept = kept.expect("in time").expect("an answer");

    assert!(
        kept.seen.iter().copied().eq(0..COUNT),
        "each once, in order"
    );
    assert_eq!(kept.messages.depth(), 0, "and no more");
    while server.received().len() < count {
        tokio::task::yield_now().await;
    }
    let received = server.received().into_iter();
    let numbers = received.filter_map(|entry| match entry.kind {
        ReceivedKind::Text(text) => text.parse::<u64>().ok(),
        _ => None,
    });
    assert!(numbers.eq(0..COUNT), "the peer has each once, in order");
    assert_eq!(metrics.statistics().opened, 1, "over one connection");
    assert_eq!(metrics.statistics().gaps.len(), 0);
}

/// A session over a memory line, with a queue of four whose rule is to drop.
async fn forgetful() -> (Session, Subscription<Frame>, ScriptedServer) {
    let server = ScriptedServer::builder().in_memory(true);
    let server = server.script(Script::new()).start().await;
    let server = server.expect("a server");
    let config = config(&server).connector(server.connector().expect("in memory"));
    let config = config.build().expect("valid");
    let session = Client::connect_with(config).await.expect("a session");
    let messages = session.messages_with(Queue::new(4, Overflow::DropOldest));
    (session, messages, server)
}

/// A number in a message of a hundred bytes.
fn padded(number: usize) -> String {
    format!("{number:0>100}")
}

#[tokio::test(start_paused = true)]
async fn on_its_way_a_session_drops_nothing_whatever_its_rule() {
    const COUNT: usize = 4_000;
    let (session, messages, server) = forgetful().await;
    let observer = session.clone();
    let parcel = session.hand_over(messages, LONG);
    let peer = server.next_connection().await.expect("a connection");
    let sender = tokio::spawn(async move {
        for number in 0..COUNT {
            let sent = peer.send_text(padded(number)).await;
            sent.expect("an open connection");
        }
        peer
    });
    // The queue is full, and the line is not read any more until somebody has room.
    while observer.state_metrics().queued_messages < 4 {
        tokio::task::yield_now().await;
    }
    for _ in 0..1_000 {
        tokio::task::yield_now().await;
    }
    assert!(!sender.is_finished(), "the peer waits");
    let waiting = observer.state_metrics().queued_messages;
    let (_session, mut messages) = parcel.receive("heir");
    for number in 0..waiting {
        match messages.next().await {
            Some(Event::Data(data)) => {
                assert_eq!(data.message.as_text(), Some(padded(number).as_str()));
            }
            other => panic!("{other:?} instead of {number}"),
        }
    }
    // From here on its own rule holds again, under which nobody waits.
    drop(sender.await.expect("the sender"));
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_longer_for_the_next_owner_than_was_said() {
    let (session, messages, server) = forgetful().await;
    let parcel = session.hand_over(messages, Duration::from_secs(1));
    let peer = server.next_connection().await.expect("a connection");
    for number in 0..5_000_u32 {
        let sent = peer.send_text(number.to_string()).await;
        sent.expect("an open connection");
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    let (session, mut messages) = parcel.receive("heir");
    match messages.next().await {
        Some(Event::Gap(gap)) => assert_eq!(gap.cause.label(), "lagged"),
        other => panic!("{other:?}"),
    }
    assert!(session.state().is_live(), "it has read on");
}

#[tokio::test(start_paused = true)]
async fn a_session_that_nobody_receives_ends() {
    let (session, messages, server) = forgetful().await;
    let mut peer = server.next_connection().await.expect("a connection");
    let parcel = session.hand_over(messages, LONG);
    let debug = format!("{parcel:?}");
    assert!(debug.contains("Session"), "{debug}");
    drop(parcel);
    let ended = tokio::time::timeout(LONG, async {
        while !matches!(peer.recv().await, Err(_) | Ok(ReceivedKind::Ended { .. })) {}
    });
    ended.await.expect("its socket is closed");
}

#[tokio::test(start_paused = true)]
async fn a_handle_that_another_has_outlives_a_hand_over_that_nobody_receives() {
    let (session, messages, _server) = forgetful().await;
    let other = session.clone();
    drop(session.hand_over(messages, LONG));
    let answer: Result<u64, RequestError> = other.request("sum", &json!([])).await;
    assert!(matches!(answer, Err(RequestError::Unknown { .. })), "sent");
}
