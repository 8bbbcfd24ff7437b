//! The scripted server.

use mainstay::testing::{Handshake, Matcher, ReceivedKind, Script, ScriptedServer};
use tokio::io::AsyncReadExt;
use tokio_tungstenite::tungstenite::error::ProtocolError;

use super::*;

async fn serving(script: Script) -> (ScriptedServer, Client) {
    let server = ScriptedServer::builder()
        .script(script)
        .start()
        .await
        .unwrap();
    let client = Client::open(&server.url()).await;
    (server, client)
}

async fn refused(handshake: Handshake) -> Error {
    let script = Script::new().handshake(handshake);
    let server = ScriptedServer::builder().script(script).start().await;
    let server = server.unwrap();
    Client::try_open(&server.url()).await.err().unwrap()
}

#[tokio::test]
async fn the_test_plays_the_server() {
    let server = ScriptedServer::plain().await.unwrap();
    let mut client = Client::open(&format!("{}ws?a=1&b=2", server.url())).await;
    let mut connection = server.next_connection().await.unwrap();
    assert_eq!(connection.request().target, "/ws?a=1&b=2");
    assert_eq!(connection.request().path(), "/ws");
    assert_eq!(connection.request().query(), Some("a=1&b=2"));
    assert_eq!(connection.request().header("UPGRADE"), Some("websocket"));
    client.send("hello").await;
    assert_eq!(connection.recv_text().await.unwrap(), "hello");
    connection.send_text("world").await.unwrap();
    assert_eq!(client.next().await.unwrap(), Message::text("world"));
    connection.send_binary(vec![1, 2]).await.unwrap();
    assert_eq!(client.next().await.unwrap(), Message::binary(vec![1, 2]));
}

#[tokio::test]
async fn a_script_expects_and_replies_with_the_id_of_the_request() {
    let script = Script::new()
        .expect_text("hi")
        .send("ho")
        .expect(json!({ "method": "sum", "params": { "b": 2 } }))
        .reply(3)
        .await_message(Matcher::Contains("later".into()))
        .reply_error(-1, "no")
        .close(1008, "policy");
    let (server, mut client) = serving(script).await;
    client.send("hi").await;
    assert_eq!(client.next().await.unwrap(), Message::text("ho"));
    client
        .send(r#"{"id":"x","method":"sum","params":{"a":1,"b":2}}"#)
        .await;
    let answer = client.next_json().await;
    assert_eq!(answer, json!({ "jsonrpc": "2.0", "id": "x", "result": 3 }));
    client.send("ignored").await;
    client.send(r#"{"id":7,"method":"later"}"#).await;
    assert_eq!(client.next_json().await["error"]["code"], -1);
    assert_eq!(client.close().await, (1008, "policy".to_owned()));
    assert!(server.failures().is_empty());
}

#[tokio::test]
async fn an_unexpected_message_fails_the_script_and_closes_with_1011() {
    let (server, mut client) = serving(Script::new().expect_text("a")).await;
    client.send("b").await;
    assert_eq!(client.close().await.0, 1011);
    assert_eq!(server.failures()[0].found, "b");
}

#[tokio::test]
async fn each_connection_plays_its_own_script_and_the_last_repeats() {
    let server = ScriptedServer::builder()
        .scripts([
            Script::new().close(4001, "first"),
            Script::new().close(4002, "second"),
        ])
        .start()
        .await
        .unwrap();
    let mut codes = Vec::new();
    for _ in 0..3 {
        codes.push(Client::open(&server.url()).await.close().await.0);
    }
    assert_eq!(codes, [4001, 4002, 4002]);
    assert_eq!(server.accepted(), 3);
}

#[tokio::test]
async fn the_log_has_control_frames_close_codes_and_the_end() {
    let (server, mut client) = serving(Script::new().ping("you?")).await;
    let mut connection = server.next_connection().await.unwrap();
    client
        .socket
        .send(Message::Ping("me".into()))
        .await
        .unwrap();
    // Our ping and the pong, in any order; reading them answers the ping.
    client.next().await.unwrap();
    client.next().await.unwrap();
    client.socket.flush().await.unwrap();
    let frame = tokio_tungstenite::tungstenite::protocol::CloseFrame {
        code: 4321.into(),
        reason: "bye".into(),
    };
    client.socket.close(Some(frame)).await.unwrap();
    let close = connection.expect_close(SOON).await.unwrap();
    assert_eq!(close, (Some(4321), "bye".to_owned()));
    connection.expect_end(SOON).await.unwrap();
    let kinds: Vec<_> = server
        .received()
        .into_iter()
        .map(|entry| entry.kind)
        .collect();
    assert!(
        kinds.contains(&ReceivedKind::Ping("me".into())),
        "{kinds:?}"
    );
    assert!(
        kinds.contains(&ReceivedKind::Pong("you?".into())),
        "{kinds:?}"
    );
    assert!(matches!(kinds[0], ReceivedKind::Accepted));
    assert!(matches!(kinds[1], ReceivedKind::Upgrade(_)));
    assert_eq!(server.connections(), 0);
}

#[tokio::test]
async fn a_missed_expectation_tells_what_came_instead() {
    let (server, mut client) = serving(Script::new()).await;
    client.send("something else").await;
    server.expect_message(Matcher::Any, SOON).await.unwrap();
    let missed = server
        .expect_message("this", Duration::from_millis(20))
        .await;
    let told = missed.unwrap_err().to_string();
    assert!(
        told.contains("this") && told.contains("something else"),
        "{told}"
    );
}

#[tokio::test]
async fn a_reset_is_an_error_of_the_socket() {
    let (server, mut client) = serving(Script::new()).await;
    let connection = server.next_connection().await.unwrap();
    connection.reset().await.unwrap();
    assert!(is_reset(&client.end().await));
}

#[tokio::test]
async fn hanging_up_ends_the_stream_without_a_close_frame() {
    let (_server, mut client) = serving(Script::new().hang_up()).await;
    let end = client.end().await;
    let expected = ProtocolError::ResetWithoutClosingHandshake;
    assert!(
        matches!(&end, Error::Protocol(found) if *found == expected),
        "{end:?}"
    );
}

#[tokio::test]
async fn a_silent_connection_stays_open_and_answers_no_ping() {
    let (server, mut client) = serving(Script::new()).await;
    let mut connection = server.next_connection().await.unwrap();
    connection.go_silent().await.unwrap();
    client.socket.send(Message::Ping("?".into())).await.unwrap();
    client.assert_silent(Duration::from_millis(200)).await;
    assert_eq!(server.connections(), 1);
    // Another connection works.
    Client::open(&server.url()).await.send("x").await;
    server.expect_message("x", SOON).await.unwrap();
    // Its client gives the silent one up.
    drop(client);
    connection.expect_end(SOON).await.unwrap();
}

#[tokio::test]
async fn raw_bytes_are_written_below_the_frames() {
    // A fragmented text message with a ping between its halves.
    let bytes = b"\x01\x02he\x89\x01p\x80\x03llo";
    let (_server, mut client) = serving(Script::new().raw(&bytes[..])).await;
    assert_eq!(client.next().await.unwrap(), Message::Ping("p".into()));
    assert_eq!(client.next().await.unwrap(), Message::text("hello"));
}

#[tokio::test]
async fn a_refusal_has_status_headers_and_body() {
    let wait = [("Retry-After", "7")];
    match refused(Handshake::refuse(429, &wait, "slow down")).await {
        Error::Http(answer) => {
            assert_eq!(answer.status(), 429);
            assert_eq!(answer.headers()["retry-after"], "7");
            assert_eq!(answer.body().as_deref(), Some(&b"slow down"[..]));
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_handshake_goes_wrong_in_every_way() {
    let wrong = refused(Handshake::WrongAccept).await;
    let expected = ProtocolError::SecWebSocketAcceptKeyMismatch;
    assert!(
        matches!(&wrong, Error::Protocol(found) if *found == expected),
        "{wrong:?}"
    );
    let garbage = refused(Handshake::Garbage("SSH-2.0-x\r\n\r\n".into())).await;
    assert!(matches!(
        garbage,
        Error::HttpFormat(_) | Error::Protocol(_) | Error::Io(_)
    ));
    for silent in [Handshake::HangUp, Handshake::HangUpAfterRequest] {
        let error = refused(silent).await;
        assert!(!matches!(error, Error::Http(_)), "{error:?}");
    }
    assert!(is_reset(&refused(Handshake::Reset).await));
}

#[tokio::test]
async fn a_silent_handshake_never_answers() {
    for handshake in [Handshake::Silent, Handshake::SilentAfterRequest] {
        let script = Script::new().handshake(handshake);
        let server = ScriptedServer::builder().script(script).start().await;
        let server = server.unwrap();
        let mut wire = TcpStream::connect(server.address()).await.unwrap();
        let request = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";
        tokio::io::AsyncWriteExt::write_all(&mut wire, request)
            .await
            .unwrap();
        let read = timeout(Duration::from_millis(100), wire.read_u8()).await;
        assert!(read.is_err(), "{read:?}");
        assert_eq!(server.connections(), 0);
    }
}

#[tokio::test]
async fn the_authority_of_a_server_is_enough_to_trust_it() {
    let server = ScriptedServer::builder()
        .tls(true)
        .script(Script::echo())
        .start()
        .await
        .unwrap();
    assert!(server.url().starts_with("wss://localhost:"));
    assert!(
        server
            .ca_certificate_pem()
            .unwrap()
            .starts_with("-----BEGIN")
    );
    let authority = server.ca_certificate_der().unwrap();
    for name in ["localhost", "127.0.0.1", "::1"] {
        let wire = secured(server.address(), name, authority).await.unwrap();
        let mut client = Client::over(&server.url(), wire).await.unwrap();
        client.send("over TLS").await;
        assert_eq!(client.next().await.unwrap(), Message::text("over TLS"));
    }
    let other = ScriptedServer::tls().await.unwrap();
    let stranger = other.ca_certificate_der().unwrap();
    assert!(
        secured(server.address(), "localhost", stranger)
            .await
            .is_err()
    );
}

#[tokio::test]
async fn a_certificate_can_be_wrong() {
    let builder = ScriptedServer::builder().tls(true);
    let named = builder.clone().certificate_names(["elsewhere.example"]);
    let expired = builder.certificate_expired(true);
    for builder in [named, expired] {
        let server = builder.start().await.unwrap();
        let authority = server.ca_certificate_der().unwrap();
        assert!(
            secured(server.address(), "localhost", authority)
                .await
                .is_err()
        );
    }
}

#[tokio::test]
async fn a_server_listens_on_ipv6() {
    let server = ScriptedServer::builder().ipv6(true).start().await.unwrap();
    assert!(server.url().starts_with("ws://[::1]:"), "{}", server.url());
    Client::open(&server.url()).await;
}

#[tokio::test]
async fn a_stopped_server_leaves_its_port_to_the_next() {
    let server = ScriptedServer::plain().await.unwrap();
    let port = server.address().port();
    let mut client = Client::open(&server.url()).await;
    server.stop().await;
    client.end().await;
    let server = ScriptedServer::builder().port(port).start().await.unwrap();
    Client::open(&server.url()).await;
}

#[tokio::test]
async fn dropping_a_server_ends_its_connections() {
    let (server, mut client) = serving(Script::new()).await;
    drop(server);
    client.end().await;
}

#[tokio::test]
async fn bad_bytes_of_a_client_end_its_connection_only() {
    let (server, client) = serving(Script::echo()).await;
    let mut wire = client.socket.into_inner();
    tokio::io::AsyncWriteExt::write_all(&mut wire, &[0xff; 64])
        .await
        .unwrap();
    let mut connection = server.next_connection().await.unwrap();
    connection.expect_end(SOON).await.unwrap();
    let mut client = Client::open(&server.url()).await;
    client.send("still here").await;
    assert_eq!(client.next().await.unwrap(), Message::text("still here"));
}

#[tokio::test]
async fn a_forbidden_close_code_is_sent_all_the_same() {
    let script = Script::new().expect_text("go").close(1005, "no");
    let (_server, mut client) = serving(script).await;
    client.send("go").await;
    // Past the client's own protocol, which would not tell.
    let mut wire = client.socket.into_inner();
    let mut bytes = [0; 6];
    wire.read_exact(&mut bytes).await.unwrap();
    assert_eq!(bytes, [0x88, 4, 0x03, 0xed, b'n', b'o']);
}

#[tokio::test]
async fn a_predicate_may_look_at_the_server_itself() {
    let server = ScriptedServer::plain().await.unwrap();
    let mut client = Client::open(&server.url()).await;
    client.send("hello").await;
    let seen = server.wait_for("three entries", SOON, |_| server.received().len() >= 3);
    seen.await.unwrap();
}
