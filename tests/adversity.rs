//! What a peer's numbers, pings and pace must not do to a session. Each of these once did.

use std::future::Future;
use std::time::Duration;

use mainstay::close::CloseReason;
use mainstay::config::{
    ConfigBuilder, ConflationKey, Liveness, Overflow, Queue, ReconnectOwner, Settings,
};
use mainstay::error::{ConnectError, DecodeError, Phase, RequestError};
use mainstay::hooks::{Hooks, MessageHook, Reaction};
use mainstay::platform::JsonRpc;
use mainstay::protocol::sequence::Step;
use mainstay::supervisors::Backoff;
use mainstay::testing::{Script, ScriptedServer};
use mainstay::{
    Call, Channel, Client, Config, Event, Frame, Message, Notice, Part, Session, SessionSpec,
    SessionState, Subscription, Why,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{interval, timeout};

const LONG: Duration = Duration::from_secs(20);

fn millis(number: u64) -> Duration {
    Duration::from_millis(number)
}

fn builder(url: impl Into<String>) -> ConfigBuilder {
    Config::builder(url)
        .reconnect_owner(ReconnectOwner::Client)
        .backoff(Backoff::new(millis(5), millis(50)))
}

async fn connect(builder: ConfigBuilder) -> Session {
    Client::connect_with(builder.build().expect("valid"))
        .await
        .expect("a session")
}

async fn next<M: Message>(subscription: &mut Subscription<M>) -> Event<M> {
    let event = timeout(LONG, subscription.next())
        .await
        .expect("an event in time");
    event.expect("a subscription that goes on")
}

/// A server that upgrades by the book and then does as `then` says with the bare socket.
async fn raw_server<F>(then: impl Fn(TcpStream) -> F + Send + 'static) -> String
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let upgraded = tokio_tungstenite::accept_async(stream)
                .await
                .expect("an upgrade");
            tokio::spawn(then(upgraded.into_inner()));
        }
    });
    format!("ws://127.0.0.1:{port}/")
}

/// An unmasked frame (RFC 6455, section 5.2).
fn frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x80 | opcode];
    match payload.len() {
        short @ 0..=125 => frame.push(short as u8),
        medium @ 126..=0xFFFF => {
            frame.push(126);
            frame.extend_from_slice(&(medium as u16).to_be_bytes());
        }
        long => {
            frame.push(127);
            frame.extend_from_slice(&(long as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(payload);
    frame
}

#[tokio::test]
async fn a_retry_after_beyond_any_clock_is_a_long_wait_and_no_panic() {
    for owner in [ReconnectOwner::Client, ReconnectOwner::Adapter] {
        let refusal = Script::refuse(503, &[("retry-after", "18446744073709551615")], "");
        let server = ScriptedServer::builder()
            .scripts([Script::new().expect("x").hang_up(), refusal])
            .start()
            .await
            .expect("a server");
        let config = builder(server.url())
            .reconnect_owner(owner)
            .build()
            .expect("valid");
        let session = Session::start(JsonRpc, config).await.expect("a session");
        let mut state = session.watch();
        session.send(Frame::text("x")).await.expect("written");
        let refused = state.wait_for(|state| match state {
            SessionState::Down { reason } => reason.label() == "not_opened",
            SessionState::Ended(reason) => panic!("{reason}"),
            _ => false,
        });
        timeout(LONG, refused)
            .await
            .expect("in time")
            .expect("a session");
        let tree = session.tree().await.expect("an own tree").to_string();
        assert!(
            tree.contains("restarting"),
            "{owner:?}: waiting, not ended\n{tree}"
        );
        assert!(!tree.contains("panicked"), "{tree}");
        session.shutdown().await;
    }
}

#[tokio::test]
async fn a_peer_that_pings_and_never_reads_is_given_up() {
    let url = raw_server(|mut stream| async move {
        let pings = frame(0x9, &[b'p'; 125]).repeat(1000);
        while stream.write_all(&pings).await.is_ok() {}
    })
    .await;
    let session = connect(builder(url).write_timeout(millis(300))).await;
    let mut messages = session.messages();
    match next(&mut messages).await {
        Event::Gap(gap) => assert_eq!(gap.cause.label(), "write_stalled"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_reader_that_is_slow_is_not_one_that_has_stopped() {
    let url = raw_server(|mut stream| async move {
        let mut buffer = vec![0; 1_000_000];
        let mut pace = interval(millis(30));
        while stream.read(&mut buffer).await.is_ok_and(|read| read > 0) {
            pace.tick().await;
        }
    })
    .await;
    let session = connect(
        builder(url)
            .write_timeout(millis(400))
            .request_timeout(LONG),
    )
    .await;
    let sent = session.send(Frame::text("x".repeat(40_000_000))).await;
    assert!(sent.is_ok(), "{sent:?}");
}

/// Its time is kept by the connection, which has nothing to read and cannot write.
#[tokio::test]
async fn whoever_comes_while_the_peer_does_not_read_is_told_at_its_own_deadline() {
    let url = raw_server(|stream| async move {
        let _open = stream;
        std::future::pending::<()>().await;
    })
    .await;
    let session = connect(builder(url).write_timeout(LONG).request_timeout(LONG)).await;
    let flooding = session.clone();
    let flood = tokio::spawn(async move {
        let _ = flooding.send(Frame::text("x".repeat(40_000_000))).await;
    });
    while session.statistics().frames_out == 0 {
        tokio::task::yield_now().await;
    }
    for limit in [millis(300), millis(20), millis(50)] {
        let began = std::time::Instant::now();
        match timeout(LONG, session.call(Call::bare("order"), limit)).await {
            Ok(Err(RequestError::NotSent { detail, .. })) => {
                assert!(detail.contains("still waited for the peer"), "{detail}");
            }
            other => panic!("{other:?}"),
        }
        assert!(began.elapsed() >= limit);
    }
    flood.abort();
}

#[tokio::test]
async fn a_request_that_never_left_its_queue_was_not_sent() {
    let url = raw_server(|stream| async move {
        let _open = stream;
        std::future::pending::<()>().await;
    })
    .await;
    let session = connect(builder(url).request_timeout(LONG)).await;
    let large = session.clone();
    // Far more than the socket's buffers take; it is on its way when the request is made.
    let large = tokio::spawn(async move { large.send(Frame::text("x".repeat(40_000_000))).await });
    while session.statistics().frames_out == 0 {
        tokio::task::yield_now().await;
    }
    let error = session
        .call(Call::bare("order"), millis(200))
        .await
        .expect_err("no answer");
    assert!(matches!(error, RequestError::NotSent { .. }), "{error:?}");
    large.abort();
}

#[tokio::test]
async fn a_large_message_that_comes_slowly_is_not_silence() {
    let url = raw_server(|mut stream| async move {
        let message = frame(0x2, &vec![7; 40_000]);
        let mut pace = interval(millis(50));
        for part in message.chunks(4_000) {
            pace.tick().await;
            if stream.write_all(part).await.is_err() {
                return;
            }
        }
        std::future::pending::<()>().await;
    })
    .await;
    let liveness = Liveness::new(millis(100), millis(100));
    let session = connect(builder(url).liveness(liveness)).await;
    let mut messages = session.messages();
    match next(&mut messages).await {
        Event::Data(message) => assert_eq!(message.payload().len(), 40_000),
        other => panic!("{other:?}"),
    }
}

/// Sends 2000 numbered messages to each of two channels, as soon as it hears anything.
async fn two_channels() -> String {
    raw_server(|mut stream| async move {
        let _ = stream.read(&mut [0; 64]).await;
        for number in 0..2000 {
            for channel in ["a", "b"] {
                let text =
                    format!(r#"{{"method":"s","params":{{"channel":"{channel}","n":{number}}}}}"#);
                if stream
                    .write_all(&frame(0x1, text.as_bytes()))
                    .await
                    .is_err()
                {
                    return;
                }
            }
        }
        // Answers no ping from here on, but has not gone.
        std::future::pending::<()>().await;
    })
    .await
}

#[tokio::test]
async fn reading_waits_for_each_of_the_consumers_that_ask_for_it() {
    let session = connect(builder(two_channels().await)).await;
    let queue = Queue::new(16, Overflow::Block(LONG));
    let mut consumers = Vec::new();
    for (channel, every) in [("a", 500), ("b", 100)] {
        let channel = Channel::<Frame>::new(channel);
        let mut messages = session
            .subscribe_with(channel, queue.clone())
            .await
            .expect("a subscription");
        consumers.push(tokio::spawn(async move {
            let mut pace = interval(millis(5));
            for number in 0..2000 {
                if number % every == 0 {
                    pace.tick().await;
                }
                let event = next(&mut messages).await;
                assert!(matches!(event, Event::Data(_)), "{event:?} at {number}");
            }
        }));
    }
    session.send(Frame::text("go")).await.expect("written");
    for consumer in consumers {
        consumer.await.expect("no gap");
    }
}

#[tokio::test]
async fn large_messages_fill_a_queue_long_before_it_has_many() {
    let large = (0..10).fold(Script::new().expect("now"), |script, number| {
        script.send(format!("{number}{}", "x".repeat(999)))
    });
    let server = ScriptedServer::builder().script(large);
    let server = server.start().await.expect("a server");
    let session = connect(builder(server.url())).await;
    let mut all = session.messages();
    let mut few = session.messages_with(Queue::default().bytes(3000));
    session.send(Frame::text("now")).await.expect("written");
    for _ in 0..10 {
        let event = next(&mut all).await;
        assert!(matches!(event, Event::Data(_)), "{event:?}");
    }
    let Event::Gap(gap) = next(&mut few).await else {
        panic!("a gap");
    };
    assert_eq!((gap.cause.label(), gap.missed), ("lagged", Some(7)));
    let event = next(&mut few).await;
    assert!(matches!(event, Event::Resynced(_)), "{event:?}");
    for number in ["7", "8", "9"] {
        let Event::Data(data) = next(&mut few).await else {
            panic!("data");
        };
        assert!(
            data.as_text().expect("text").starts_with(number),
            "{number}"
        );
    }
}

/// Twenty quotes of two instruments and one trade.
fn quotes() -> Script {
    let quotes = Script::new().expect("now").send(r#"{"trade":1}"#);
    (0..20).fold(quotes, |script, number| {
        let symbol = ["BTC", "ETH"][number % 2];
        script.send(format!(r#"{{"symbol":"{symbol}","bid":{number}}}"#))
    })
}

#[tokio::test]
async fn a_consumer_that_is_too_slow_gets_the_last_quote_of_each_instrument_and_is_told_what_it_stands_for()
 {
    let server = ScriptedServer::builder().script(quotes());
    let server = server.start().await.expect("a server");
    let settings: Settings =
        serde_json::from_str(r#"{ "queue": { "capacity": 3, "overflow": "conflate /symbol" } }"#)
            .expect("settings");
    let session = connect(builder(server.url()).settings(settings)).await;
    let by_symbol = ConflationKey::by(|quote| Some(quote.get(11..14)?.into()));
    let mut all = session.messages_with(Queue::default());
    let mut slow = session.messages();
    let mut own = session.messages_with(Queue::new(2, Overflow::Conflate(by_symbol)));
    session.send(Frame::text("now")).await.expect("written");
    for _ in 0..21 {
        let event = next(&mut all).await;
        assert!(matches!(event, Event::Data(_)), "{event:?}");
    }
    for (text, replaced) in [
        (r#"{"trade":1}"#, 0),
        (r#"{"symbol":"BTC","bid":18}"#, 9),
        (r#"{"symbol":"ETH","bid":19}"#, 9),
    ] {
        let Event::Data(data) = next(&mut slow).await else {
            panic!("no data");
        };
        assert_eq!((data.as_text(), data.replaced), (Some(text), replaced));
    }
    let seen = session.inspect().await.subscriptions;
    assert_eq!(seen.iter().map(|one| one.conflated).max(), Some(18));
    // With less room than there are keys, of which the trade's is none, something is lost and said to be.
    let Event::Gap(gap) = next(&mut own).await else {
        panic!("no gap");
    };
    assert_eq!((gap.cause.label(), gap.missed), ("lagged", Some(1)));
}

#[tokio::test]
async fn a_connection_that_waits_for_its_consumer_is_not_taken_for_silent() {
    let liveness = Liveness::new(millis(100), millis(100));
    let session = connect(builder(two_channels().await).liveness(liveness)).await;
    let queue = Queue::new(16, Overflow::Block(LONG));
    let channel = Channel::<Frame>::new("a");
    let mut messages = session
        .subscribe_with(channel, queue)
        .await
        .expect("a subscription");
    session.send(Frame::text("go")).await.expect("written");
    let mut pause = interval(millis(600));
    pause.tick().await;
    // The consumer pauses far beyond the patience with a silent peer.
    pause.tick().await;
    let event = next(&mut messages).await;
    assert!(matches!(event, Event::Data(_)), "{event:?}");
    assert!(
        session.statistics().gaps.is_empty(),
        "{:?}",
        session.statistics()
    );
}

/// `S9` is a snapshot, `L8-9` a change after 8, all else cannot be read.
#[derive(Debug, PartialEq, Eq)]
struct Numbered(Step);

impl Message for Numbered {
    fn decode(frame: &Frame) -> Result<Self, DecodeError> {
        let odd = || DecodeError::new("number", "neither snapshot nor change");
        let text = frame
            .as_text()
            .and_then(|text| text.split('#').nth(1))
            .ok_or_else(odd)?;
        let number = |text: &str| text.parse().map_err(|_| odd());
        if let Some(current) = text.strip_prefix('S') {
            return Ok(Self(Step::Snapshot {
                current: number(current)?,
            }));
        }
        let (previous, current) = text
            .strip_prefix('L')
            .and_then(|text| text.split_once('-'))
            .ok_or_else(odd)?;
        Ok(Self(Step::Linked {
            previous: number(previous)?,
            current: number(current)?,
        }))
    }

    fn sequence(&self) -> Option<Step> {
        Some(self.0)
    }
}

#[tokio::test]
async fn a_loss_within_a_gap_belongs_to_that_gap() {
    let numbers = ["S1", "L1-2", "L3-4", "X", "L4-5", "S9", "L9-10"];
    let mut script = Script::new().expect("go");
    for number in numbers {
        script = script.send(format!(
            r##"{{"method":"s","params":{{"channel":"a","x":"#{number}#"}}}}"##
        ));
    }
    let server = ScriptedServer::builder()
        .script(script)
        .start()
        .await
        .expect("a server");
    let session = connect(builder(server.url())).await;
    let mut numbered = session
        .subscribe(Channel::<Numbered>::new("a"))
        .await
        .expect("a subscription");
    session.send(Frame::text("go")).await.expect("written");
    let mut seen = Vec::new();
    while seen.len() < 6 {
        seen.push(match next(&mut numbered).await {
            Event::Data(data) => format!("{:?}", data.message.0),
            Event::Gap(gap) => gap.cause.label().to_owned(),
            Event::Resynced(resynced) => format!("resynced {}", resynced.complete),
            other => panic!("{other:?}"),
        });
    }
    let linked = |previous: u64, current: u64| format!("{:?}", Step::Linked { previous, current });
    let snapshot = |current: u64| format!("{:?}", Step::Snapshot { current });
    let expected = [
        snapshot(1),
        linked(1, 2),
        "sequence_break".to_owned(),
        "resynced true".to_owned(),
        snapshot(9),
        linked(9, 10),
    ];
    assert_eq!(seen, expected);
}

/// Does not return from the frame "stop" until it is told to.
struct Stuck {
    entered: tokio::sync::mpsc::UnboundedSender<()>,
    leave: std::sync::Mutex<std::sync::mpsc::Receiver<()>>,
}

impl MessageHook for Stuck {
    fn on_frame(&self, frame: &Frame) -> Reaction {
        if frame.as_text() == Some("stop") {
            self.entered.send(()).expect("the test waits");
            let leave = self.leave.lock().expect("nobody panics");
            // A test that has failed lets go, too.
            let _ = leave.recv();
        }
        Reaction::Pass
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_connection_that_does_not_let_go_of_its_socket_is_named_and_never_doubled() {
    let server = ScriptedServer::builder().script(Script::new());
    let server = server.start().await.expect("a server");
    let (entered, mut inside) = tokio::sync::mpsc::unbounded_channel();
    let (let_go, leave) = std::sync::mpsc::channel();
    let leave = std::sync::Mutex::new(leave);
    let hooks = Hooks::new().message(Stuck { entered, leave });
    let config = builder(server.url()).shutdown_timeout(millis(50));
    let config = config.build().expect("valid");
    let spec = SessionSpec::new(|| JsonRpc).hooks(hooks);
    let session = spec.start_with(config).await.expect("a session");
    let mut observer = session.observe(1024);
    let peer = server.next_connection().await.expect("a connection");
    peer.send_text("stop").await.expect("open");
    timeout(LONG, inside.recv()).await.expect("it blocks");

    session.crash(Part::Transport);
    let named = async {
        loop {
            let Some(Notice::Status(step)) = observer.next().await else {
                continue;
            };
            if let Why::Closed(CloseReason::NotOpened(error)) = &step.why {
                return error.clone();
            }
        }
    };
    let error = timeout(LONG, named).await.expect("a failed attempt");
    let limit = millis(50);
    assert!(
        matches!(*error, ConnectError::Timeout { phase: Phase::Socket, limit: found } if found == limit),
        "{error:?}"
    );
    assert!(error.explain().suggestion.contains("hook"), "{error}");
    assert_eq!(server.accepted(), 1, "never two sockets");

    let_go.send(()).expect("it waits");
    let mut state = session.watch();
    let again = state.wait_for(SessionState::is_live);
    timeout(LONG, again)
        .await
        .expect("live again")
        .expect("a session");
    assert_eq!(server.accepted(), 2);
}
