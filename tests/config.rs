//! What a configuration means to a session: its layers, and the options that end something.

use std::time::Duration;

use mainstay::adapters::deribit::{self, Deribit, Interval};
use mainstay::close::CloseReason;
use mainstay::config::{
    BackoffSettings, Config, ConfigBuilder, Layer, LivenessSettings, ReconnectOwner, Settings,
};
use mainstay::error::{EndReason, StartError};
use mainstay::supervisors::Backoff;
use mainstay::testing::deribit::{DeribitSimulator, Fault};
use mainstay::testing::{Script, ScriptedServer};
use mainstay::{Client, Event, Frame, Platform, Session};

const LONG: Duration = Duration::from_secs(10);

/// A venue with wishes of its own.
#[derive(Debug)]
struct Opinionated(Settings);

impl Platform for Opinionated {
    fn name(&self) -> &str {
        "opinionated"
    }

    fn defaults(&self) -> Settings {
        self.0.clone()
    }
}

fn builder(url: impl Into<String>) -> ConfigBuilder {
    Config::builder(url).backoff(Backoff::new(
        Duration::from_millis(1),
        Duration::from_millis(2),
    ))
}

async fn server(scripts: impl IntoIterator<Item = Script>) -> ScriptedServer {
    ScriptedServer::builder()
        .scripts(scripts)
        .start()
        .await
        .expect("a server")
}

async fn ended(session: &Session) -> EndReason {
    tokio::time::timeout(LONG, session.ended())
        .await
        .expect("an end")
}

/// A connection that ends when it is told "go".
fn until_told() -> Script {
    Script::new().expect("go").hang_up()
}

#[tokio::test]
async fn a_platforms_defaults_lie_beneath_what_the_user_says() {
    let venue = Opinionated(Settings {
        liveness: LivenessSettings {
            quiet: Some(Duration::from_secs(40)),
            grace: Some(Duration::from_secs(41)),
            ..LivenessSettings::default()
        },
        ..Settings::default()
    });
    let server = server([Script::new()]).await;
    let users: Settings = serde_json::from_str(r#"{ "liveness": { "quiet": "20s" } }"#).unwrap();
    let config = builder(server.url()).settings(users).build().unwrap();
    let session = Session::start(venue, config).await.expect("a session");
    let explanation = session.config().explain();
    for (option, value, layer) in [
        ("liveness.quiet", "20s", Layer::User),
        ("liveness.grace", "41s", Layer::Platform),
        ("request_timeout", "10s", Layer::Default),
    ] {
        let row = explanation.option(option).expect("an option");
        assert_eq!((row.value.as_str(), row.layer), (value, layer), "{option}");
    }
}

#[tokio::test]
async fn defaults_that_do_not_fit_the_users_options_are_refused_when_the_session_starts() {
    let venue = || {
        Opinionated(Settings {
            backoff: BackoffSettings {
                min: Some(Duration::from_secs(60)),
                ..BackoffSettings::default()
            },
            ..Settings::default()
        })
    };
    let config: Settings = serde_json::from_str(r#"{ "backoff": { "max": "1s" } }"#).unwrap();
    let config = Config::builder("ws://localhost:1").settings(config);
    let config = config.build().unwrap();
    let error = Session::start(venue(), config.clone()).await;
    match error.expect_err("refused") {
        StartError::Config(errors) => assert!(errors.option("backoff.min").is_some(), "{errors}"),
        other => panic!("expected a configuration error, found {other:?}"),
    }
    let (session, _spec) = Session::supervised("feed", venue(), config);
    let reason = ended(&session).await;
    assert!(reason.to_string().contains("configured"), "{reason}");
}

#[tokio::test]
async fn after_the_last_attempt_the_session_ends_with_that_attempts_cause() {
    for owner in [ReconnectOwner::Client, ReconnectOwner::Adapter] {
        let refuse = || Script::refuse(503, &[], "later");
        let server = server([until_told(), refuse(), refuse(), Script::new()]).await;
        let config = builder(server.url()).reconnect_owner(owner);
        let config = config.max_attempts(Some(2)).build().unwrap();
        let session = Session::start(Opinionated(Settings::default()), config)
            .await
            .expect("a session");
        session.send(Frame::text("go")).await.expect("written");
        let reason = ended(&session).await;
        assert!(
            matches!(&reason, EndReason::Fatal(CloseReason::NotOpened(error)) if error.to_string().contains("503")),
            "{reason:?}"
        );
        assert_eq!(server.accepted(), 3, "one connection and two attempts");
    }
}

#[tokio::test]
async fn a_beginning_that_is_tried_again_takes_no_more_attempts_than_an_outage() {
    for owner in [ReconnectOwner::Client, ReconnectOwner::Adapter] {
        for attempts in [1, 3] {
            let refuse = || Script::refuse(503, &[], "later");
            let server = server((0..5).map(|_| refuse()).chain([Script::new()])).await;
            let config = builder(server.url()).reconnect_owner(owner);
            let config = config.retry_first(true).max_attempts(Some(attempts));
            let config = config.build().expect("valid");
            let started = Session::start(Opinionated(Settings::default()), config).await;
            let error = started.expect_err("refused");
            assert!(
                matches!(&error, StartError::Connect(cause) if cause.to_string().contains("503")),
                "{error:?}"
            );
            assert_eq!(server.accepted(), u64::from(attempts));
        }
    }
}

#[tokio::test]
async fn without_automatic_reconnection_the_first_loss_ends_the_session() {
    for owner in [ReconnectOwner::Client, ReconnectOwner::Adapter] {
        let server = server([until_told(), Script::new()]).await;
        let config = builder(server.url()).reconnect_owner(owner);
        let config = config.automatic_reconnect(false).build().unwrap();
        let session = Client::connect_with(config).await.expect("a session");
        session.send(Frame::text("go")).await.expect("written");
        let reason = ended(&session).await;
        assert!(matches!(reason, EndReason::Fatal(_)), "{reason:?}");
        assert_eq!(server.accepted(), 1);
    }
}

#[tokio::test]
async fn without_restoring_a_subscription_ends_with_its_connection_and_the_session_goes_on() {
    let venue = DeribitSimulator::builder()
        .tick_interval(Duration::from_millis(10))
        .start()
        .await
        .expect("a venue");
    let config = builder(venue.url()).restore_subscriptions(false);
    let session = Session::start(Deribit::new(), config.build().unwrap())
        .await
        .expect("a session");
    let channel = || deribit::ticker("BTC-PERPETUAL", Interval::Ms100);
    let mut ticker = session.subscribe(channel()).await.expect("subscribed");
    venue.inject(Fault::TcpReset);
    let mut gaps = 0;
    let end = loop {
        let event = tokio::time::timeout(LONG, ticker.next()).await;
        match event.expect("an event in time").expect("an event") {
            Event::Ended(reason) => break reason,
            Event::Gap(_) => gaps += 1,
            _ => {}
        }
    };
    assert!(matches!(end, EndReason::NotRestored), "{end:?}");
    assert_eq!(gaps, 1);
    let mut again = session.subscribe(channel()).await.expect("subscribed");
    let event = tokio::time::timeout(LONG, again.next()).await;
    assert!(matches!(event, Ok(Some(Event::Data(_)))), "{event:?}");
}

#[tokio::test]
async fn a_subprotocol_is_offered_and_the_servers_choice_can_be_read() {
    let script = Script::new().accept_with(&[("Sec-WebSocket-Protocol", "wamp")]);
    let server = server([script]).await;
    let config = builder(server.url()).subprotocols(["mqtt", "wamp"]);
    let session = Client::connect_with(config.build().unwrap())
        .await
        .expect("a session");
    let handshake = session.handshake().expect("a handshake");
    let chosen = handshake.headers.get("sec-websocket-protocol");
    assert_eq!(chosen.expect("a choice"), "wamp");
}

#[tokio::test]
async fn a_header_is_sent_with_every_connection() {
    for owner in [ReconnectOwner::Client, ReconnectOwner::Adapter] {
        let server = server([Script::new(), Script::new()]).await;
        let config = builder(server.url()).reconnect_owner(owner);
        let config = config.header("X-Key", "value").build().unwrap();
        let _session = Client::connect_with(config).await.expect("a session");
        for _ in 0..2 {
            let peer = server.next_connection().await.expect("a connection");
            assert_eq!(peer.request().header("x-key"), Some("value"));
            peer.hang_up().await.expect("an open connection");
        }
    }
}
