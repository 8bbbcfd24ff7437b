//! Answers other than 101: status, headers and body come back, soon.

use http::StatusCode;
use tokio::io::{DuplexStream, duplex};

use super::*;
use crate::error::{HttpResponse, Recovery};

/// What a server does with its connection once it has answered.
#[derive(Clone, Copy)]
enum Then {
    Hold,
    Close,
}

/// The refusal that comes of `answer`, and its recovery.
async fn refusal(answer: &[u8], then: Then) -> (HttpResponse, Recovery) {
    let answer = answer.to_vec();
    let address = server(async move |mut stream: TcpStream| {
        read_request(&mut stream).await;
        stream.write_all(&answer).await.unwrap();
        match then {
            Then::Hold => pending().await,
            Then::Close => {}
        }
    });
    refused(dial_to(address.await).await.unwrap_err())
}

fn refused(error: ConnectError) -> (HttpResponse, Recovery) {
    let recovery = error.recovery();
    match error {
        ConnectError::Refused { response } => (*response, recovery),
        other => panic!("{other:?}"),
    }
}

/// The body of a refusal on a pipe, and the time it took, with a clock that only waiting moves.
async fn body_and_wait(pieces: Vec<Vec<u8>>, then: Then) -> (HttpResponse, Duration) {
    let (mut ours, mut theirs) = duplex(1024 * 1024);
    tokio::spawn(async move {
        read_request(&mut theirs).await;
        for piece in pieces {
            theirs.write_all(&piece).await.unwrap();
            tokio::task::yield_now().await;
        }
        match then {
            Then::Hold => pending().await,
            Then::Close => {}
        }
    });
    let start = Instant::now();
    let error = upgrade_on(&mut ours).await.unwrap_err();
    (refused(error).0, start.elapsed())
}

const LIMIT: Duration = Duration::from_secs(5);

async fn upgrade_on(stream: &mut DuplexStream) -> Result<(), ConnectError> {
    let endpoint = Endpoint::parse("ws://h/").unwrap();
    let upgraded = upgrade::upgrade(stream, &endpoint, &HeaderMap::new(), LIMIT).await;
    upgraded.map(|_| ())
}

#[tokio::test]
async fn each_status_comes_back_with_its_body_and_its_recovery() {
    let again = Recovery::Retry;
    for (line, recovery) in [
        ("200 OK", Recovery::Stop),
        (
            "301 Moved Permanently\r\nLocation: wss://elsewhere/",
            Recovery::Stop,
        ),
        ("400 Bad Request", Recovery::Stop),
        ("401 Unauthorized", Recovery::Stop),
        ("403 Forbidden", Recovery::Stop),
        ("404 Not Found", Recovery::Stop),
        ("429 Too Many Requests", again),
        (
            "429 Slow\r\nRetry-After: 7",
            Recovery::RetryAfter(Duration::from_secs(7)),
        ),
        ("503 Service Unavailable", again),
        (
            "503 Later\r\nRetry-After: 30",
            Recovery::RetryAfter(Duration::from_secs(30)),
        ),
    ] {
        let answer = format!("HTTP/1.1 {line}\r\nContent-Length: 9\r\n\r\nbecause..behind");
        let (response, found) = refusal(answer.as_bytes(), Then::Hold).await;
        assert_eq!(response.status.as_str(), &line[..3]);
        assert_eq!(response.body, "because..", "{line}");
        assert_eq!(found, recovery, "{line}");
    }
}

#[tokio::test]
async fn the_headers_of_a_refusal_come_back() {
    let answer = b"HTTP/1.1 301 Moved\r\nLocation: wss://x/\r\nContent-Length: 0\r\n\r\n";
    let (response, _) = refusal(answer, Then::Hold).await;
    assert_eq!(response.headers["location"], "wss://x/");
}

#[tokio::test]
async fn a_chunked_body_is_put_together() {
    let answer = b"HTTP/1.1 403 No\r\nTransfer-Encoding: chunked\r\n\r\n\
        5;ext=1\r\nIP is\r\nC\r\n banned for \r\n1\r\n7\r\n0\r\nTrailer: x\r\n\r\n";
    let (response, _) = refusal(answer, Then::Hold).await;
    assert_eq!(response.body, "IP is banned for 7");
}

#[tokio::test]
async fn a_body_may_end_with_the_connection() {
    let answer = b"HTTP/1.1 503 Down\r\nConnection: close\r\n\r\nmaintenance";
    let (response, _) = refusal(answer, Then::Close).await;
    assert_eq!(response.body, "maintenance");
    let (response, _) = refusal(b"HTTP/1.0 503 Down\r\n\r\nmaintenance", Then::Close).await;
    assert_eq!(response.body, "maintenance");
}

#[tokio::test(start_paused = true)]
async fn a_complete_body_is_not_waited_for() {
    for answer in [
        &b"HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\nno"[..],
        b"HTTP/1.1 403 No\r\nContent-Length: 2, 2\r\nContent-Length: 2\r\n\r\nno",
        b"HTTP/1.1 403 No\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nno\r\n0\r\n\r\n",
    ] {
        // Whole, and byte by byte.
        let bytes = answer.iter().map(|byte| vec![*byte]).collect();
        for pieces in [vec![answer.to_vec()], bytes] {
            let (response, waited) = body_and_wait(pieces, Then::Hold).await;
            assert_eq!(response.body, "no");
            assert_eq!(waited, Duration::ZERO);
        }
    }
    let none = b"HTTP/1.1 204 No Content\r\n\r\n".to_vec();
    assert_eq!(
        body_and_wait(vec![none], Then::Hold).await.1,
        Duration::ZERO
    );
}

#[tokio::test(start_paused = true)]
async fn an_unannounced_body_costs_a_short_grace() {
    for answer in [
        "HTTP/1.1 401 No\r\n\r\n",
        "HTTP/1.0 401 No\r\nConnection: keep-alive\r\n\r\n",
        "HTTP/1.1 401 No\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        "HTTP/1.1 401 No\r\nContent-Length: -1\r\n\r\n",
    ] {
        let (response, waited) = body_and_wait(vec![answer.into()], Then::Hold).await;
        assert_eq!(response.status, StatusCode::UNAUTHORIZED);
        assert_eq!(response.body, "");
        assert_eq!(waited, Duration::from_millis(250), "{answer}");
        let (_, waited) = body_and_wait(vec![answer.into()], Then::Close).await;
        assert_eq!(waited, Duration::ZERO);
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_does_not_come_leaves_the_status() {
    for answer in [
        "HTTP/1.1 429 Slow\r\nRetry-After: 1\r\nContent-Length: 100\r\n\r\npart",
        "HTTP/1.1 429 Slow\r\nRetry-After: 1\r\nTransfer-Encoding: chunked\r\n\r\n64\r\npart",
        "HTTP/1.1 429 Slow\r\nRetry-After: 1\r\nConnection: close\r\n\r\npart",
    ] {
        let (response, waited) = body_and_wait(vec![answer.into()], Then::Hold).await;
        assert_eq!(response.status, StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(response.retry_after(), Some(Duration::from_secs(1)));
        assert_eq!(response.body, "part");
        assert_eq!(waited, LIMIT);
        let (response, waited) = body_and_wait(vec![answer.into()], Then::Close).await;
        assert_eq!(response.body, "part");
        assert_eq!(waited, Duration::ZERO);
    }
}

#[tokio::test(start_paused = true)]
async fn a_malformed_chunk_leaves_what_came_before() {
    for fault in ["zz\r\n", "-1\r\n", "5 5\r\n", "fffffffffffffffff\r\n"] {
        let answer =
            format!("HTTP/1.1 403 No\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nno\r\n{fault}");
        let (response, waited) = body_and_wait(vec![answer.into()], Then::Hold).await;
        assert_eq!(response.body, "no", "{fault}");
        assert_eq!(waited, Duration::ZERO, "{fault}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_is_cut_at_64_kib() {
    let long = vec![b'x'; 100 * 1024];
    for head in [
        "Content-Length: 102400\r\n\r\n",
        "Connection: close\r\n\r\n",
        "\r\n",
        "Transfer-Encoding: chunked\r\n\r\n19000\r\n",
        "Content-Length: 18446744073709551615\r\n\r\n",
    ] {
        let mut answer = format!("HTTP/1.1 403 No\r\n{head}").into_bytes();
        answer.extend_from_slice(&long);
        let (response, waited) = body_and_wait(vec![answer], Then::Hold).await;
        assert_eq!(response.body.len(), 64 * 1024, "{head}");
        assert_eq!(waited, Duration::ZERO, "{head}");
    }
}

#[tokio::test]
async fn a_fault_behind_a_legible_status_does_not_hide_it() {
    let many = format!("HTTP/1.1 403 No\r\n{}\r\n", "X-Many: 1\r\n".repeat(100));
    let long = format!("HTTP/1.1 403 No\r\nX-Long: {}\r\n\r\n", "a".repeat(20_000));
    for answer in [
        &many,
        &long,
        "HTTP/1.1 403 No\r\nbad header\r\n\r\n",
        "HTTP/1.1 403 No\r\nX",
    ] {
        let (response, recovery) = refusal(answer.as_bytes(), Then::Close).await;
        assert_eq!(response.status, StatusCode::FORBIDDEN);
        assert_eq!(recovery, Recovery::Stop);
    }
}
