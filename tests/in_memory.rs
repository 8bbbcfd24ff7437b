//! Sessions without sockets, under paused time: hours pass in no time, and nothing depends on the machine. One has others' sockets
//! beside it, to see that they have their turn.

#[path = "in_memory/played.rs"]
mod played;

use std::net::Ipv4Addr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::poll;
use mainstay::close::{CloseReason, GapCause};
use mainstay::config::{ConfigBuilder, Liveness, ReconnectOwner, Tls};
use mainstay::error::ConnectError;
use mainstay::supervisors::Backoff;
use mainstay::testing::{Disconnect, ReceivedKind, Script, ScriptedServer, ScriptedServerBuilder};
use mainstay::{Client, Config, Event, Frame, Session, SessionState};
use played::{Peer, Played};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

async fn start(builder: ScriptedServerBuilder) -> ScriptedServer {
    builder.in_memory(true).start().await.expect("a server")
}

fn config(server: &ScriptedServer) -> ConfigBuilder {
    Config::builder(server.url())
        .connector(server.connector().expect("in memory"))
        .reconnect_owner(ReconnectOwner::Client)
        .backoff(Backoff::new(
            Duration::from_secs(1),
            Duration::from_secs(60),
        ))
}

async fn connect(builder: ConfigBuilder) -> Session {
    let config = builder.build().expect("valid");
    Client::connect_with(config).await.expect("a session")
}

#[tokio::test(start_paused = true)]
async fn a_refused_hour_passes_in_no_time_and_the_session_comes_back() {
    let server = start(ScriptedServer::builder().script(Script::echo())).await;
    let session = connect(config(&server)).await;
    let mut messages = session.messages();
    session.send(Frame::text("one")).await.expect("written");
    assert!(matches!(messages.next().await, Some(Event::Data(_))));

    let began = Instant::now();
    server.refuse_for(Duration::from_secs(3600)).await;
    server.disconnect(Disconnect::Abrupt).await;
    match messages.next().await {
        Some(Event::Gap(gap)) => assert_eq!(gap.cause.label(), "reset"),
        other => panic!("{other:?}"),
    }
    let mut state = session.watch();
    let refused = state.wait_for(|state| {
        let SessionState::Down {
            reason: CloseReason::NotOpened(error),
        } = state
        else {
            return false;
        };
        matches!(&**error, ConnectError::Tcp { source, .. }
            if source.kind() == std::io::ErrorKind::ConnectionRefused)
    });
    refused.await.expect("a session");
    assert!(matches!(messages.next().await, Some(Event::Resynced(_))));
    assert!(began.elapsed() >= Duration::from_secs(3600));
    assert_eq!(server.accepted(), 2, "who was refused has not come in");
}

#[tokio::test]
async fn a_port_that_is_shut_refuses_and_opens_again() {
    let server = ScriptedServer::builder()
        .script(Script::echo())
        .start()
        .await;
    let server = server.expect("a server");
    let builder = Config::builder(server.url())
        .reconnect_owner(ReconnectOwner::Client)
        .backoff(Backoff::new(
            Duration::from_millis(5),
            Duration::from_millis(20),
        ));
    let session = connect(builder).await;
    let mut messages = session.messages();
    server.refuse_for(Duration::from_millis(150)).await;
    server.disconnect(Disconnect::HangUp).await;
    assert!(matches!(messages.next().await, Some(Event::Gap(_))));
    let mut state = session.watch();
    let refused = state.wait_for(|state| match state {
        SessionState::Down {
            reason: CloseReason::NotOpened(error),
        } => matches!(&**error, ConnectError::Tcp { .. }),
        _ => false,
    });
    refused.await.expect("refused by the system");
    assert!(matches!(messages.next().await, Some(Event::Resynced(_))));
    assert_eq!(server.accepted(), 2);
}

#[tokio::test(start_paused = true)]
async fn tls_is_spoken_over_whatever_a_connector_opens() {
    let server = start(ScriptedServer::builder().tls(true).script(Script::echo())).await;
    let authority = server.ca_certificate_pem().expect("with tls").to_owned();
    let tls = Tls::only(authority);
    let session = connect(config(&server).tls(tls)).await;
    let mut messages = session.messages();
    session.send(Frame::text("one")).await.expect("written");
    assert!(matches!(messages.next().await, Some(Event::Data(_))));
}

#[tokio::test(start_paused = true)]
async fn a_half_open_connection_in_memory_is_noticed_after_the_configured_time() {
    let server = start(ScriptedServer::builder()).await;
    let session = connect(config(&server)).await;
    let mut messages = session.messages();
    let connection = server.next_connection().await.expect("open");
    connection.go_silent().await.expect("silent");
    let began = Instant::now();
    match messages.next().await {
        Some(Event::Gap(gap)) => assert!(
            matches!(
                gap.cause,
                GapCause::ConnectionLost(CloseReason::Silent { .. })
            ),
            "{gap:?}"
        ),
        other => panic!("{other:?}"),
    }
    let liveness = session.config().liveness;
    let patience = liveness.quiet + liveness.grace;
    assert!(began.elapsed() <= patience + Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn without_heartbeats_no_ping_is_written_and_silence_is_no_loss() {
    let server = start(ScriptedServer::builder().script(Script::new())).await;
    let config = config(&server).liveness(Liveness::off());
    let session = connect(config).await;
    let mut messages = session.messages();
    let peer = server.next_connection().await.expect("open");
    let day = Duration::from_secs(24 * 3600);
    let silent = tokio::time::timeout(day, messages.next()).await;
    silent.expect_err("nothing happens in a day");
    assert!(session.state().is_live());
    assert_eq!(session.statistics().opened, 1);
    let health = session.heartbeat_health();
    assert_eq!((health.active, health.pings), (false, 0));
    assert_eq!(health.interval, Duration::ZERO);
    peer.send_text("still here").await.expect("open");
    assert!(matches!(messages.next().await, Some(Event::Data(_))));

    // A ping of the user's own is still a ping.
    session
        .ping("", Duration::from_secs(1))
        .await
        .expect("a pong");
    let received = server.received().into_iter();
    let pings = received.filter(|entry| matches!(entry.kind, ReceivedKind::Ping(_)));
    assert_eq!(pings.count(), 1, "the user's");

    server.disconnect(Disconnect::GoingAway).await;
    match messages.next().await {
        Some(Event::Gap(gap)) => assert_eq!(gap.cause.label(), "peer_closed"),
        other => panic!("{other:?}"),
    }
    assert!(matches!(messages.next().await, Some(Event::Resynced(_))));
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_does_not_answer_a_close_holds_no_shutdown_up() {
    let server = start(ScriptedServer::builder().script(Script::new())).await;
    let limit = Duration::from_secs(7);
    let session = connect(config(&server).shutdown_timeout(limit)).await;
    let peer = server.next_connection().await.expect("open");
    peer.go_silent().await.expect("silent");
    let began = Instant::now();
    let report = session.shutdown().await.expect("an own tree");
    assert!(began.elapsed() <= limit, "{:?}", began.elapsed());
    assert!(report.abandoned.is_empty(), "{report:?}");
}

#[tokio::test(start_paused = true)]
async fn a_message_is_cut_at_any_byte_and_never_half_delivered() {
    // A text frame of seven bytes: two of its head (RFC 6455, section 5.2), five of its text.
    for cut in 0..=8_u64 {
        let script = Script::new().expect("go");
        let script = script.reset_after(cut).send("hello").send("again");
        let server = start(ScriptedServer::builder().scripts([script, Script::new()])).await;
        let session = connect(config(&server)).await;
        let mut messages = session.messages();
        session.send(Frame::text("go")).await.expect("written");
        let mut seen = Vec::new();
        loop {
            match messages.next().await.expect("an event") {
                Event::Data(frame) => seen.push(frame.as_text().expect("text").to_owned()),
                Event::Gap(_) => break,
                other => panic!("{other:?}"),
            }
        }
        let whole = if cut < 7 { vec![] } else { vec!["hello"] };
        assert_eq!(seen, whole, "cut after {cut} bytes");
    }
}

#[tokio::test(start_paused = true)]
async fn slow_bytes_are_bytes_all_the_same() {
    let script = Script::new().slow(1, Duration::from_secs(1)).send("hello");
    let server = start(ScriptedServer::builder().script(script)).await;
    let session = connect(config(&server)).await;
    let mut messages = session.messages();
    let began = Instant::now();
    match messages.next().await {
        Some(Event::Data(frame)) => assert_eq!(frame.as_text(), Some("hello")),
        other => panic!("{other:?}"),
    }
    assert!(
        began.elapsed() >= Duration::from_secs(5),
        "{:?}",
        began.elapsed()
    );
}

/// RFC 6455, section 5.2.
fn message(payload: usize) -> Vec<u8> {
    let mut bytes = match u8::try_from(payload) {
        Ok(short @ 0..126) => vec![0x82, short],
        _ => [&[0x82, 127], (payload as u64).to_be_bytes().as_slice()].concat(),
    };
    bytes.resize(bytes.len() + payload, b'x');
    bytes
}

#[tokio::test]
async fn a_peer_that_always_has_one_message_more_leaves_consumers_sockets_and_timers_their_turn() {
    for payload in [1, 64 * 1024] {
        let server = start(ScriptedServer::builder()).await;
        let connector = Played(
            server.connector().expect("in memory"),
            Peer::Chatty(message(payload)),
        );
        let session = connect(config(&server).connector(Arc::new(connector))).await;
        let mut messages = session.messages();
        let consumer = tokio::spawn(async move {
            let (mut came, mut lost) = (0_u64, Vec::<u64>::new());
            while let Some(event) = messages.next().await {
                match event {
                    Event::Data(frame) => came += u64::from(frame.payload().len() == payload),
                    Event::Gap(gap) => lost.extend(gap.missed),
                    _ => {}
                }
            }
            (came, lost)
        });

        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
        let listener = listener.expect("a port");
        let mut near = TcpStream::connect(listener.local_addr().expect("an address"))
            .await
            .expect("a socket");
        let (mut far, _) = listener.accept().await.expect("a socket");
        for byte in 0..50 {
            far.write_all(&[byte]).await.expect("written");
            assert_eq!(near.read_u8().await.expect("a byte"), byte);
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        session.shutdown().await;
        let (came, lost) = consumer.await.expect("no panic");
        assert!(came > 50, "{came} messages of {payload} bytes");
        assert!(
            lost.is_empty(),
            "what was consumed at once is lost: {lost:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_consumer_whose_tasks_budget_is_used_up_is_woken_all_the_same() {
    let server = start(ScriptedServer::builder()).await;
    let session = connect(config(&server)).await;
    let mut messages = session.messages();
    let peer = server.next_connection().await.expect("open");
    // The queue has another task's waker.
    let asked = tokio::spawn(async move {
        assert!(poll!(pin!(messages.next())).is_pending());
        messages
    });
    let mut messages = asked.await.expect("no panic");
    let (sender, mut receiver) = mpsc::unbounded_channel();
    // What tokio lets one poll of a task do.
    (0..128).for_each(|number| sender.send(number).expect("open"));
    let consumer = tokio::spawn(async move {
        for _ in 0..128 {
            receiver.recv().await.expect("a number");
        }
        messages.next().await
    });
    tokio::time::sleep(Duration::from_secs(1)).await;
    peer.send_text("one").await.expect("open");
    let event = timeout(Duration::from_secs(5), consumer).await;
    let event = event.expect("woken").expect("no panic");
    assert!(matches!(event, Some(Event::Data(_))), "{event:?}");
}

#[tokio::test(start_paused = true)]
async fn what_a_peer_had_said_before_writing_failed_is_read_and_its_code_is_the_reason() {
    const COUNT: usize = 10_000;
    let close = [0x88, 2, 0x03, 0xf0];
    for (end, reason) in [(&close[..], "1008"), (&[], "eof")] {
        let mut words = Vec::new();
        for number in 0..COUNT {
            words.extend(message(1));
            if number % 10 == 0 {
                // A ping, which cannot be answered.
                words.extend([0x89, 1, b'p']);
            }
        }
        words.extend(end);
        let server = start(ScriptedServer::builder()).await;
        let connector = Played(server.connector().expect("in memory"), Peer::Gone(words));
        let session = connect(config(&server).connector(Arc::new(connector))).await;
        let mut messages = session.messages();
        let sender = session.clone();
        let sent = tokio::spawn(async move { sender.send(Frame::text("one")).await });
        let mut came = 0;
        let cause = loop {
            match messages.next().await {
                Some(Event::Data(_)) => came += 1,
                Some(Event::Gap(gap)) => break gap.cause,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(came, COUNT, "{cause}");
        let told = match &cause {
            GapCause::ConnectionLost(CloseReason::Peer { code, .. }) => {
                code.unwrap_or_default().to_string()
            }
            cause => cause.label().to_owned(),
        };
        assert_eq!(told, reason);
        sent.await.expect("no panic").expect_err("nobody took it");
    }
}
