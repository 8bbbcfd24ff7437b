//! What can be seen of a session, a pool and a program, and what it says to probes.

use std::time::Duration;

use mainstay::adapters::deribit::{self, Deribit, Interval};
use mainstay::config::{Overflow, Queue};
use mainstay::inspect::{Inspector, PoolNotReady, Probe, Unwell};
use mainstay::platform::JsonRpc;
use mainstay::pool::{Pool, PoolSpec, Registry};
use mainstay::supervisors::{Backoff, ShutdownPlan, Strategy, SupervisorSpec};
use mainstay::testing::deribit::{DeribitSimulator, Fault};
use mainstay::testing::{Script, ScriptedServer};
use mainstay::{Channel, Client, Config, Event, Frame, Session, SessionState, Status};
use serde_json::Value;

const ID: &str = "an-identity-7261";
const SECRET: &str = "a-secret-9183";
const HEADER: &str = "a-header-5519";
const BTC: &str = "BTC-PERPETUAL";

async fn venue() -> DeribitSimulator {
    DeribitSimulator::builder()
        .credentials(ID, SECRET)
        .tick_interval(Duration::from_millis(10))
        .start()
        .await
        .expect("a venue")
}

async fn session(venue: &DeribitSimulator) -> Session {
    let config = Config::builder(format!("{}?token={HEADER}", venue.url()))
        .header("x-key", HEADER)
        .backoff(Backoff::new(
            Duration::from_millis(5),
            Duration::from_millis(50),
        ))
        .build()
        .expect("valid");
    let deribit = Deribit::builder().credentials(ID, SECRET).build();
    Session::start(deribit.expect("valid"), config)
        .await
        .expect("a session")
}

async fn bare(server: &ScriptedServer) -> Session {
    Client::connect(server.url()).await.expect("a session")
}

#[tokio::test]
async fn a_session_that_was_interrupted_shows_it_in_every_part() {
    let venue = venue().await;
    let session = session(&venue).await;
    let mut ticker = session
        .subscribe(deribit::ticker(BTC, Interval::Ms100))
        .await
        .expect("a subscription");
    let mut resynced = false;
    while !resynced {
        match ticker.next().await.expect("goes on") {
            Event::Data(data) if data.epoch.as_u64() == 1 => {
                venue.inject(Fault::TcpReset);
            }
            Event::Resynced(_) => resynced = true,
            _ => {}
        }
    }

    let seen = session.inspect().await;
    assert_eq!(seen.status, Status::Live);
    assert!(seen.ready.ok && seen.alive.ok);
    assert_eq!(seen.epoch.as_u64(), 2);
    let connection = seen.connection.as_ref().expect("open");
    assert_eq!(
        connection.peer.as_deref(),
        Some(venue.address().to_string().as_str())
    );
    let last = seen.history.last().expect("a step");
    assert_eq!(
        (last.from, last.to),
        (Status::Establishing, Status::Live),
        "{seen}"
    );
    let [subscription] = &seen.subscriptions[..] else {
        panic!("one subscription, not\n{seen}");
    };
    assert_eq!((subscription.gaps, subscription.lost), (1, 0));
    assert_eq!(subscription.interrupted_for, None);
    assert!(subscription.stale_for.is_some());
    assert_eq!(seen.channels[0].channel, "ticker.BTC-PERPETUAL.100ms");
    assert_eq!(seen.channels[0].status.label(), "confirmed");
    assert!(seen.limiter.as_ref().is_some_and(|pools| pools.len() == 3));
    assert!(seen.recorder.is_none());

    let json: Value = serde_json::to_value(&seen).expect("JSON");
    assert_eq!(json["status"], "live");
    assert_eq!(json["history"][0]["to"], "connecting");
    assert_eq!(json["tree"]["kind"], "supervisor");
    assert_eq!(json["statistics"]["opened"], 2);
    assert!(json["statistics"]["requests"]["p50_us"].is_u64());
    assert_eq!(json["subscriptions"][0]["gaps"], 1);
    assert!(json["connection"]["open_for_ms"].is_u64());

    let text = seen.to_string();
    for part in ["live, epoch 2", "1 gaps, 0 lost", "heartbeat_manager"] {
        assert!(text.contains(part), "{part} is missing in\n{text}");
    }
    let name = "ticker.BTC-PERPETUAL.100ms";
    assert_eq!(text.matches(name).count(), 1, "once:\n{text}");
    assert!(
        text.contains("100ms: confirmed since epoch 2, last data "),
        "{text}"
    );
    let drawn = seen.to_mermaid();
    assert!(drawn.starts_with("flowchart TD\n    subgraph"), "{drawn}");
    assert!(
        drawn.contains("adapter"),
        "the tree is drawn, too:\n{drawn}"
    );
    session.shutdown().await;
}

#[tokio::test]
async fn no_credential_is_in_an_inspection() {
    let venue = venue().await;
    let session = session(&venue).await;
    venue.inject(Fault::Close {
        code: 4000,
        reason: format!("{SECRET} was refused"),
    });
    session
        .wait_for(Status::Down, Duration::from_secs(10))
        .await
        .expect("the close is heard");
    session.live().await.expect("live again");
    let inspector = Inspector::new().session("main", &session);
    let seen = inspector.inspect().await;
    let history = &seen.sessions[0].session.history;
    assert!(
        history.iter().any(|step| step.why.contains("4000")),
        "{seen}"
    );
    for form in [
        seen.to_string(),
        seen.to_json(),
        seen.to_mermaid(),
        format!("{seen:?}"),
    ] {
        for secret in [ID, SECRET, HEADER] {
            assert!(!form.contains(secret), "{secret} is in\n{form}");
        }
    }
    session.shutdown().await;
}

#[tokio::test]
async fn a_subscription_that_is_too_slow_shows_what_it_lost() {
    let server = ScriptedServer::builder()
        .script(
            Script::new()
                .await_message("go")
                .repeat(5, Script::new().send("tick")),
        )
        .start()
        .await
        .expect("a server");
    let session = bare(&server).await;
    let queue = Queue::new(2, Overflow::DropOldest);
    let _slow = session.messages_with(queue);
    session.send_text("go").await.expect("written");
    let mut other = session.messages();
    let _ = other.next().await;
    let mut lost = 0;
    while lost < 3 {
        let seen = session.inspect().await;
        lost = seen.subscriptions.iter().map(|one| one.lost).sum();
        tokio::task::yield_now().await;
    }
    session.shutdown().await;
}

#[tokio::test]
async fn a_name_that_speaks_to_the_terminal_is_shown_and_not_spoken() {
    let server = ScriptedServer::plain().await.expect("a server");
    let session = bare(&server).await;
    let name = "a\u{1b}]0;b\u{7}\nc\"]";
    let channel = Channel::<Frame>::new(name);
    let _held = session.subscribe(channel).await.expect("a subscription");
    let seen = session.inspect().await;
    let text = seen.to_string();
    assert!(
        !text.contains('\u{1b}') && !text.contains('\u{7}'),
        "{text:?}"
    );
    assert!(text.contains("a\\u{1b}]0;b\\u{7}\\nc"), "{text}");
    assert!(!seen.to_mermaid().contains('\u{1b}'));
    session.shutdown().await;
}

#[tokio::test]
async fn a_program_shows_its_sessions_its_pools_and_its_trees() {
    let server = ScriptedServer::plain().await.expect("a server");
    let registry = Registry::new();
    registry.insert("main", bare(&server).await).expect("free");
    let pool = Pool::start(PoolSpec::new().name("orders"))
        .await
        .expect("a pool");
    let config = Config::builder(server.url()).build().expect("valid");
    pool.add("a", JsonRpc, config).await.expect("live");
    let tree = SupervisorSpec::new(Strategy::OneForOne)
        .name("workers")
        .start()
        .await
        .expect("a tree");

    let inspector = Inspector::new().registry(&registry).pool(&pool).tree(&tree);
    assert!(inspector.ready().is_ok() && inspector.alive().is_ok());
    let seen = inspector.inspect().await;
    let json: Value = serde_json::from_str(&seen.to_json()).expect("JSON");
    assert_eq!(json["sessions"][0]["id"], "main");
    assert_eq!(json["sessions"][0]["status"], "live");
    assert_eq!(json["pools"][0]["name"], "orders");
    assert_eq!(json["pools"][0]["health"]["sessions"][0]["id"], "a");
    assert!(json["pools"][0]["health"]["sessions"][0]["score"].is_u64());
    assert_eq!(json["pools"][0]["sessions"][0]["status"], "live");
    assert_eq!(json["trees"][0]["id"], "workers");
    let (text, drawn) = (seen.to_string(), seen.to_mermaid());
    for name in ["main", "orders", "workers"] {
        assert!(text.contains(name) && drawn.contains(name), "{name}");
    }
    let boxes = drawn.matches("subgraph").count();
    assert_eq!(
        boxes,
        drawn.lines().filter(|line| line.trim() == "end").count()
    );
    assert!(inspector.find("main").is_some() && inspector.find("a").is_some());
    assert!(inspector.find("nobody").is_none());

    tree.shutdown(ShutdownPlan::default()).await;
    assert!(matches!(
        inspector.alive(),
        Err(Unwell::TreeEnded { path }) if path == "workers"
    ));
    pool.shutdown().await;
}

#[tokio::test]
async fn a_session_says_to_a_probe_why_it_is_not_ready() {
    let server = ScriptedServer::plain().await.expect("a server");
    let config = Config::builder(server.url())
        .backoff(Backoff::new(
            Duration::from_secs(60),
            Duration::from_secs(60),
        ))
        .build()
        .expect("valid");
    let session = Client::connect_with(config).await.expect("a session");
    assert_eq!(Probe::of(session.ready()).to_string(), "ok");
    server.stop().await;
    let mut state = session.watch();
    let refused = state.wait_for(|state| match state {
        SessionState::Down { reason } => reason.label() == "not_opened",
        _ => false,
    });
    let _ = refused.await.expect("a session");
    let ready = Probe::of(session.ready());
    assert_eq!(ready.http_status(), 503);
    assert!(ready.to_string().starts_with("not ok: down: "), "{ready}");
    let body: Value = serde_json::from_str(&ready.to_json()).expect("JSON");
    assert_eq!(body["ok"], false);
    assert!(session.alive().is_ok(), "it seeks its connection");
    session.shutdown().await;
    assert!(session.ready().is_err() && session.alive().is_err());
}

#[tokio::test]
async fn a_pool_says_to_a_probe_why_it_is_not_ready() {
    let pool = Pool::start(PoolSpec::new()).await.expect("a pool");
    assert!(pool.alive().is_ok(), "an empty pool is alive");
    assert_eq!(pool.ready(), Err(PoolNotReady::Empty));
    let server = ScriptedServer::plain().await.expect("a server");
    let config = Config::builder(server.url()).build().expect("valid");
    let session = pool.add("a", JsonRpc, config).await.expect("live");
    assert_eq!(pool.ready(), Ok(()));
    server.stop().await;
    session
        .wait_for(Status::Down, Duration::from_secs(10))
        .await
        .expect("the end is heard");
    assert_eq!(pool.ready(), Err(PoolNotReady::NoneLive { sessions: 1 }));
    pool.shutdown().await;
    assert!(matches!(pool.ready(), Err(PoolNotReady::NotAlive(_))));
}

#[tokio::test]
async fn a_break_that_the_consumer_finds_counts_as_its_subscriptions_gap() {
    let venue = venue().await;
    let session = session(&venue).await;
    let channel = deribit::book(BTC, Interval::Ms100);
    let mut book = session.subscribe(channel).await.expect("a subscription");
    venue.inject(Fault::SequenceBreak {
        channel: "book.BTC-PERPETUAL.100ms".to_owned(),
    });
    while !matches!(book.next().await, Some(Event::Gap(_))) {}
    let seen = session.inspect().await;
    assert_eq!(seen.subscriptions[0].gaps, 1, "{seen}");
    session.shutdown().await;
}
