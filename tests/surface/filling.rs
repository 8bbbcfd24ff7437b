//! Queues that fill up: each is told of once, while there is still room, and again only when it was calm meanwhile.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt;
use mainstay::config::{ConfigBuilder, Offline, Overflow, Queue};
use mainstay::telemetry::{Collector, TelemetryEvent};
use mainstay::testing::{Disconnect, Matcher, Script, ScriptedServer};
use mainstay::{Call, Client, Config, Event, Session, Subscription};
use serde_json::json;

use crate::LONG;

/// Which queue, how many wait in it, and how many may; with the bytes, if they are counted.
type Told = (&'static str, usize, usize, Option<usize>);

#[derive(Debug, Default)]
struct Ear(Mutex<Vec<Told>>);

impl Ear {
    fn take(&self) -> Vec<Told> {
        std::mem::take(&mut *self.0.lock().expect("no collector panics"))
    }
}

impl Collector for Ear {
    fn on_event(&self, _session: &str, event: &TelemetryEvent<'_>) {
        if let TelemetryEvent::QueueFilling {
            queue,
            waiting,
            capacity,
            bytes,
            ..
        } = *event
        {
            let told = (queue, waiting, capacity, bytes);
            self.0.lock().expect("no collector panics").push(told);
        }
    }
}

/// Sends so many messages whenever it is asked to.
async fn newsroom(count: u32) -> ScriptedServer {
    let edition = Script::new()
        .await_message(Matcher::method("print"))
        .repeat(count, Script::new().send("news"))
        .reply("printed");
    let server = ScriptedServer::builder()
        .in_memory(true)
        .script(Script::new().repeat(9, edition));
    server.start().await.expect("a server")
}

fn heard(server: &ScriptedServer) -> (ConfigBuilder, Arc<Ear>) {
    let ear = Arc::new(Ear::default());
    let config = Config::builder(server.url())
        .connector(server.connector().expect("in memory"))
        .collector(ear.clone());
    (config, ear)
}

async fn print(session: &Session) {
    let printed: String = session
        .request("print", &json!({}))
        .await
        .expect("an edition");
    assert_eq!(printed, "printed");
}

async fn read<const N: usize>(news: &mut Subscription<mainstay::Frame>) {
    for _ in 0..N {
        let event = tokio::time::timeout(LONG, news.next()).await;
        assert!(matches!(event.expect("in time"), Some(Event::Data(_))));
    }
}

#[tokio::test(start_paused = true)]
async fn a_subscription_that_is_not_read_is_told_of_at_four_fifths_and_once() {
    let server = newsroom(4).await;
    let (config, ear) = heard(&server);
    let config = config.build().expect("valid");
    let session = Client::connect_with(config).await.expect("a session");
    let queue = Queue::new(10, Overflow::DropOldest).bytes(1000);
    let mut news = session.messages_with(queue);
    print(&session).await;
    assert_eq!(ear.take(), []);
    print(&session).await;
    assert_eq!(ear.take(), [("messages", 8, 10, Some(32))]);
    print(&session).await;
    assert_eq!(ear.take(), [], "it has been said");
    assert_eq!(session.metrics().counter("queues_filling"), Some(1));

    // Read empty and full again within the second: told when that is over.
    let _ = tokio::time::timeout(LONG, news.next()).await;
    print(&session).await;
    print(&session).await;
    assert_eq!(ear.take(), []);
    tokio::time::advance(Duration::from_secs(1)).await;
    print(&session).await;
    let told = ear.take();
    assert_eq!(told.len(), 1, "{told:?}");
    session.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_subscription_whose_bytes_fill_up_is_told_of_too() {
    let server = newsroom(4).await;
    let (config, ear) = heard(&server);
    let config = config.build().expect("valid");
    let session = Client::connect_with(config).await.expect("a session");
    let mut news = session.messages_with(Queue::new(1000, Overflow::DropOldest).bytes(40));
    print(&session).await;
    assert_eq!(ear.take(), []);
    print(&session).await;
    assert_eq!(ear.take(), [("messages", 8, 1000, Some(32))]);
    read::<8>(&mut news).await;
    session.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn what_waits_for_a_live_session_is_told_of_at_four_fifths() {
    let server = newsroom(0).await;
    let (config, ear) = heard(&server);
    let config = config.offline(Offline::new(5).bytes(1000));
    let config = config.build().expect("valid");
    let session = Client::connect_with(config).await.expect("a session");
    server.refuse_for(Duration::from_secs(60)).await;
    server.disconnect(Disconnect::Abrupt).await;
    let mut state = session.watch();
    let down = state.wait_for(|state| !state.is_live());
    drop(down.await.expect("a session"));
    let mut waiting = Vec::new();
    for count in 1..=5 {
        let call = Call::new("put", &json!({})).expect("JSON");
        let mut call = Box::pin(session.call(call, LONG));
        // Asked for once, so that it stands in the queue.
        assert!(call.as_mut().now_or_never().is_none());
        waiting.push(call);
        let told = ear.take();
        assert_eq!(told.len(), usize::from(count == 4), "{count}: {told:?}");
        if let [told] = told[..] {
            assert_eq!((told.0, told.1, told.2), ("offline", 4, 5));
            assert!(told.3.is_some());
        }
    }
    drop(waiting);
    session.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn requests_that_wait_to_be_written_are_told_of_at_four_fifths() {
    let server = newsroom(0).await;
    let (config, ear) = heard(&server);
    let config = config.outbound_capacity(5).build().expect("valid");
    let session = Client::connect_with(config).await.expect("a session");
    // All of them before the connection has its turn.
    let nothing = json!({});
    let print = || session.request::<String>("print", &nothing);
    let (one, two, three, four) = tokio::join!(print(), print(), print(), print());
    for answer in [one, two, three, four] {
        assert_eq!(answer.expect("an edition"), "printed");
    }
    assert_eq!(ear.take(), [("requests", 4, 5, None)]);
    session.shutdown().await;
}
