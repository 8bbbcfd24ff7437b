//! The mock server, and what can be done to all of its connections at once.

use mainstay::Frame;
use mainstay::testing::{Disconnect, Matcher, ScriptedServer};

use super::*;

async fn mock() -> ScriptedServer {
    ScriptedServer::mock().await.unwrap()
}

/// Clients whose connections the server counts as open.
async fn clients(server: &ScriptedServer, count: usize) -> Vec<Client> {
    let mut clients = Vec::new();
    for _ in 0..count {
        clients.push(Client::open(&server.url()).await);
        server.next_connection().await.unwrap();
    }
    clients
}

#[tokio::test]
async fn a_mock_server_answers_ping_and_echoes_the_rest() {
    let server = mock().await;
    assert!(
        server.url().starts_with("ws://127.0.0.1:"),
        "{}",
        server.url()
    );
    assert!(server.url().ends_with("/ws"), "{}", server.url());
    let mut client = Client::open(&server.url()).await;
    client.send("ping").await;
    assert_eq!(client.next().await.unwrap(), Message::text("pong"));
    client.send("hello").await;
    assert_eq!(client.next().await.unwrap(), Message::text("echo: hello"));
}

#[tokio::test]
async fn a_mock_server_speaks_tls() {
    let server = ScriptedServer::mock_tls().await.unwrap();
    let authority = server.ca_certificate_der().unwrap();
    let wire = secured(server.address(), "localhost", authority).await;
    let mut client = Client::over(&server.url(), wire.unwrap()).await.unwrap();
    client.send("ping").await;
    assert_eq!(client.next().await.unwrap(), Message::text("pong"));
}

#[tokio::test]
async fn another_path_is_not_found() {
    let server = mock().await;
    let elsewhere = server.url().replace("/ws", "/elsewhere");
    match Client::try_open(&elsewhere).await.err().unwrap() {
        Error::Http(answer) => assert_eq!(answer.status(), 404),
        other => panic!("{other:?}"),
    }
    let with_query = format!("{}?token=1", server.url());
    Client::open(&with_query).await;
}

#[tokio::test]
async fn a_handler_of_the_tests_own_answers_or_keeps_silent() {
    let server = ScriptedServer::builder()
        .respond(|text| text.strip_prefix("say ").map(str::to_owned))
        .start()
        .await
        .unwrap();
    let mut client = Client::open(&server.url()).await;
    client.send("keep quiet").await;
    client.send("say cheese").await;
    assert_eq!(client.next().await.unwrap(), Message::text("cheese"));
}

#[tokio::test]
async fn what_is_injected_reaches_every_client() {
    let server = mock().await;
    let mut clients = clients(&server, 3).await;
    assert_eq!(server.open_connections(), [1, 2, 3]);
    for frame in [
        Frame::text("news"),
        Frame::Binary(vec![1, 2].into()),
        Frame::Ping("you?".into()),
    ] {
        assert_eq!(server.inject(frame).await, 3);
    }
    for client in &mut clients {
        assert_eq!(client.next().await.unwrap(), Message::text("news"));
        assert_eq!(client.next().await.unwrap(), Message::binary(vec![1, 2]));
        assert_eq!(client.next().await.unwrap(), Message::Ping("you?".into()));
    }
}

#[tokio::test]
async fn what_is_injected_into_one_reaches_no_other() {
    let server = mock().await;
    let mut clients = clients(&server, 2).await;
    server.inject_into(2, Frame::text("you")).await.unwrap();
    server.inject(Frame::text("all")).await;
    assert_eq!(clients[0].next().await.unwrap(), Message::text("all"));
    assert_eq!(clients[1].next().await.unwrap(), Message::text("you"));
    assert!(server.inject_into(3, Frame::text("nobody")).await.is_err());
}

#[tokio::test]
async fn a_disconnect_has_the_code_and_the_reason_that_were_asked_for() {
    for (how, code) in [
        (Disconnect::Normal, 1000),
        (Disconnect::GoingAway, 1001),
        (Disconnect::code(4321, "because"), 4321),
    ] {
        let server = mock().await;
        let mut client = clients(&server, 1).await.remove(0);
        // Dropped then, so that the server need not wait for its answer.
        let closed = async move { client.close().await };
        let (ended, closed) = tokio::join!(server.disconnect(how), closed);
        assert_eq!((ended, closed.0), (1, code));
        if code == 4321 {
            assert_eq!(closed.1, "because");
        }
    }
}

#[tokio::test]
async fn an_injected_close_frame_closes() {
    let server = mock().await;
    let mut client = clients(&server, 1).await.remove(0);
    let close = Frame::Close(Some((1013, "later".to_owned())));
    let closed = async move { client.close().await };
    let (sent, closed) = tokio::join!(server.inject(close), closed);
    assert_eq!((sent, closed), (1, (1013, "later".to_owned())));
}

#[tokio::test]
async fn an_abrupt_disconnect_is_a_reset_and_spares_the_others() {
    let server = mock().await;
    let mut clients = clients(&server, 2).await;
    server.disconnect_one(1, Disconnect::Abrupt).await.unwrap();
    assert!(is_reset(&clients[0].end().await));
    clients[1].send("ping").await;
    assert_eq!(clients[1].next().await.unwrap(), Message::text("pong"));
    let ended = |entry: &mainstay::testing::Received| {
        matches!(entry.kind, mainstay::testing::ReceivedKind::Ended { .. })
    };
    server.wait_for("the end of 1", SOON, ended).await.unwrap();
    assert_eq!(server.open_connections(), [2]);
}

#[tokio::test]
async fn orders_to_a_silent_connection_are_refused() {
    let server = ScriptedServer::plain().await.unwrap();
    let _client = Client::open(&server.url()).await;
    let connection = server.next_connection().await.unwrap();
    connection.go_silent().await.unwrap();
    let told = timeout(SOON, connection.send_text("anybody?")).await;
    assert!(told.expect("an answer").is_err());
}

#[tokio::test]
async fn a_message_is_expected_by_text_pattern_part_or_function() {
    let server = mock().await;
    let mut client = Client::open(&server.url()).await;
    // Awaited before it comes.
    let exact = server.expect_message(r#"{"op":"buy","size":3,"deep":{"a":1,"b":2}}"#, SOON);
    let send = client.send(r#"{"op":"buy","size":3,"deep":{"a":1,"b":2}}"#);
    let (exact, ()) = tokio::join!(exact, send);
    assert_eq!(exact.unwrap().connection, 1);
    for matcher in [
        Matcher::regex(r#""size":\d+"#).unwrap(),
        json!({ "op": "buy", "deep": { "b": 2 } }).into(),
        Matcher::predicate(|text| text.contains("deep")),
        Matcher::Contains("buy".into()),
    ] {
        server.expect_message(matcher, SOON).await.unwrap();
    }
    for matcher in [
        Matcher::regex("^buy").unwrap(),
        json!({ "op": "sell" }).into(),
        Matcher::predicate(|_| false),
        "buy".into(),
    ] {
        let missed = server.expect_message(matcher, Duration::from_millis(5));
        let told = missed.await.unwrap_err().to_string();
        assert!(told.contains("size"), "it shows what came: {told}");
    }
}

#[test]
fn a_pattern_that_cannot_be_read_says_so() {
    let error = Matcher::regex("(").unwrap_err();
    assert!(error.to_string().contains("\"(\""), "{error}");
}
