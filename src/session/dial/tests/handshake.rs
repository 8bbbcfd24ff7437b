//! Answers to the upgrade that are not what RFC 6455, section 4.1, asks for.

use super::*;
use crate::error::Recovery;

/// The text of the error for an answer.
async fn error_for(answer: impl FnOnce(&str) -> Vec<u8> + Send + 'static) -> String {
    let error = dial_to(answering(answer).await).await.unwrap_err();
    assert!(matches!(error, ConnectError::Handshake { .. }), "{error:?}");
    assert_eq!(error.recovery(), Recovery::Retry);
    error.to_string()
}

/// The correct answer with `from` replaced by `to`.
async fn error_with(from: &'static str, to: &'static str) -> String {
    error_for(move |request| {
        let answer = String::from_utf8(switching(request, "")).unwrap();
        assert!(answer.contains(from));
        answer.replace(from, to).into_bytes()
    })
    .await
}

#[tokio::test]
async fn each_header_of_a_101_is_checked() {
    for (from, to, named) in [
        ("Upgrade: websocket\r\n", "", "Upgrade"),
        ("Upgrade: websocket", "Upgrade: h2c", "Upgrade"),
        ("Connection: Upgrade\r\n", "", "Connection"),
        (
            "Connection: Upgrade",
            "Connection: keep-alive",
            "Connection",
        ),
        ("Sec-WebSocket-Accept", "X-Accept", "Sec-WebSocket-Accept"),
        ("Accept: ", "Accept: x", "Sec-WebSocket-Accept"),
        (
            "Accept: ",
            "Accept: x\r\nSec-WebSocket-Accept: ",
            "Sec-WebSocket-Accept",
        ),
        ("HTTP/1.1", "HTTP/1.0", "http/1.1"),
        (
            "\r\n\r\n",
            "\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n",
            "extension",
        ),
        (
            "\r\n\r\n",
            "\r\nSec-WebSocket-Protocol: s3cret\r\n\r\n",
            "subprotocol",
        ),
    ] {
        let text = error_with(from, to).await;
        assert!(text.contains(named), "{to:?}: {text}");
        assert!(!text.contains("s3cret"), "{text}");
    }
}

#[tokio::test]
async fn spellings_that_the_rfc_allows_are_accepted() {
    for (from, to) in [
        ("Upgrade: websocket", "upgrade: WebSocket"),
        ("Connection: Upgrade", "connection: keep-alive, UPGRADE"),
        (
            "Connection: Upgrade",
            "Connection: keep-alive\r\nConnection: upgrade",
        ),
        ("Accept: ", "Accept:   "),
        ("Switching Protocols", ""),
    ] {
        let address = answering(move |request| {
            let answer = String::from_utf8(switching(request, "")).unwrap();
            answer.replace(from, to).into_bytes()
        });
        dial_to(address.await).await.unwrap();
    }
}

async fn dial_offering(protocols: &str, chosen: &'static str) -> Result<Dialed, ConnectError> {
    let address = answering(move |request| switching(request, chosen)).await;
    let config = Config::builder(format!("ws://{address}/"))
        .header("Sec-WebSocket-Protocol", protocols)
        .build()
        .unwrap();
    dial(&config).await
}

#[tokio::test]
async fn a_subprotocol_must_be_one_of_those_offered() {
    dial_offering("a, b", "Sec-WebSocket-Protocol: b\r\n")
        .await
        .unwrap();
    dial_offering("a, b", "").await.unwrap();
    dial_offering("a, b", "Sec-WebSocket-Protocol: B\r\n")
        .await
        .unwrap_err();
    dial_offering("a, b", "Sec-WebSocket-Protocol: a, b\r\n")
        .await
        .unwrap_err();
    let twice = "Sec-WebSocket-Protocol: a\r\nSec-WebSocket-Protocol: b\r\n";
    dial_offering("a, b", twice).await.unwrap_err();
}

#[tokio::test]
async fn what_is_not_http_is_refused_at_once() {
    for garbage in [
        &b"SSH-2.0-OpenSSH_9.9\r\n"[..],
        b"\x15\x03\x01\x00\x02\x02\x50",
        b"\x81\x05hello",
        b"HTTP/2 200\r\n",
        b"HTTP/1.1 99\r\n\r\n",
        b"HTTP/1.1 099 Low\r\n\r\n",
    ] {
        error_for(|_| garbage.to_vec()).await;
    }
}

#[tokio::test]
async fn a_head_without_end_is_given_up() {
    let text = error_for(|request| {
        let mut answer = switching(request, "X-Long: ");
        answer.truncate(answer.len() - 2);
        answer.resize(1024 * 1024, b'a');
        answer
    });
    assert!(text.await.contains("longer than 16384 bytes"));
    let text = error_for(|request| switching(request, &"X-Many: 1\r\n".repeat(1000)));
    assert!(text.await.contains("more than 64 headers"));
    let text = error_for(|_| b"HTTP/1.1 100 Continue\r\n\r\n".repeat(10_000));
    assert!(text.await.contains("longer than 16384 bytes"));
}

#[tokio::test]
async fn answers_that_announce_another_one_are_skipped() {
    let address = answering(|request| {
        let mut answer = b"HTTP/1.1 100 Continue\r\n\r\n\
            HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
            .to_vec();
        answer.extend(switching(request, ""));
        answer
    });
    dial_to(address.await).await.unwrap();
}

#[tokio::test]
async fn a_101_in_small_pieces_is_put_together() {
    let address = server(async move |mut stream: TcpStream| {
        stream.set_nodelay(true).unwrap();
        let request = read_request(&mut stream).await;
        for byte in switching(&request, "") {
            stream.write_u8(byte).await.unwrap();
            tokio::task::yield_now().await;
        }
        pending().await
    });
    dial_to(address.await).await.unwrap();
}

#[tokio::test]
async fn a_server_that_hangs_up_is_an_io_error_of_the_upgrade() {
    let address = server(async move |mut stream: TcpStream| {
        read_request(&mut stream).await;
    });
    match dial_to(address.await).await.unwrap_err() {
        ConnectError::Io { phase, source } => {
            assert_eq!(phase, Phase::Upgrade);
            assert_eq!(source.kind(), io::ErrorKind::UnexpectedEof);
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_silent_server_ends_at_the_upgrade_limit() {
    let address = server(async |_stream| pending().await).await;
    let limits = PhaseLimits {
        upgrade: Duration::from_secs(7),
        ..PhaseLimits::default()
    };
    let error = dial(&limited(&format!("ws://{address}/"), limits))
        .await
        .unwrap_err();
    assert_eq!(error.to_string(), "upgrade took longer than 7s");
}

#[tokio::test]
async fn limits_without_end_are_possible() {
    let address = answering(|request| switching(request, "")).await;
    let forever = PhaseLimits {
        dns: Duration::MAX,
        tcp: Duration::MAX,
        tls: Duration::MAX,
        upgrade: Duration::MAX,
        ..PhaseLimits::default()
    };
    dial(&limited(&format!("ws://{address}/"), forever))
        .await
        .unwrap();
}
