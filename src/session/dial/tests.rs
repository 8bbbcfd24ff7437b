//! The dial against raw servers on the loopback.
//!
//! Here: the servers, and what goes over plain TCP when all is well; beside it one file per phase
//! that can fail.

mod handshake;
mod refusals;
mod tcp;
mod tls;

use std::future::{Future, pending};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::*;
use crate::close::CloseReason;
use crate::config::PhaseLimits;

/// Dials the first endpoint.
async fn dial(config: &Config) -> Result<Dialed, ConnectError> {
    super::dial(config, &config.endpoint).await
}

/// Serves the first connection with `script`.
async fn server<F, S>(script: F) -> SocketAddr
where
    F: FnOnce(TcpStream) -> S + Send + 'static,
    S: Future<Output = ()> + Send,
{
    server_at("127.0.0.1:0", script).await
}

async fn server_at<F, S>(address: &str, script: F) -> SocketAddr
where
    F: FnOnce(TcpStream) -> S + Send + 'static,
    S: Future<Output = ()> + Send,
{
    let listener = TcpListener::bind(address).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { script(listener.accept().await.unwrap().0).await });
    address
}

/// Answers the request with what `answer` makes of it, then keeps the connection open.
async fn answering<A>(answer: A) -> SocketAddr
where
    A: FnOnce(&str) -> Vec<u8> + Send + 'static,
{
    server(async move |mut stream| {
        let request = read_request(&mut stream).await;
        stream.write_all(&answer(&request)).await.unwrap();
        pending().await
    })
    .await
}

/// The head of the request.
async fn read_request<S: AsyncRead + Unpin>(stream: &mut S) -> String {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        request.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(request).unwrap()
}

fn header<'a>(request: &'a str, name: &str) -> Option<&'a str> {
    request
        .lines()
        .filter_map(|line| line.split_once(": "))
        .find(|(found, _)| *found == name)
        .map(|(_, value)| value)
}

/// The correct answer to `request`, and `more` headers.
fn switching(request: &str, more: &str) -> Vec<u8> {
    let key = header(request, "Sec-WebSocket-Key").unwrap();
    let accept = derive_accept_key(key.as_bytes());
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\n{more}\r\n"
    )
    .into_bytes()
}

fn config(url: &str) -> Config {
    Config::builder(url).build().unwrap()
}

fn limited(url: &str, limits: PhaseLimits) -> Config {
    Config::builder(url).limits(limits).build().unwrap()
}

async fn dial_to(address: SocketAddr) -> Result<Dialed, ConnectError> {
    dial(&config(&format!("ws://{address}/"))).await
}

/// The next message, which is there or on its way.
async fn next(socket: &mut impl Wire) -> Frame {
    frame(socket).await.unwrap()
}

/// The next message or the end, which is there or on its way.
async fn frame(socket: &mut impl Wire) -> Result<Frame, CloseReason> {
    let frame = std::future::poll_fn(|cx| socket.poll_frame(cx, true, &mut ()));
    let frame = timeout(Duration::from_secs(5), frame).await;
    let came = frame.expect("a message in time")?;
    Ok(came.frame().expect("no slot"))
}

/// The request that a dial of `config` writes, as the server at `address` gets it.
async fn request_of(config: Config, address: &str) -> String {
    let (tell, told) = oneshot::channel();
    let address = server_at(address, async move |mut stream: TcpStream| {
        tell.send(read_request(&mut stream).await).unwrap();
    })
    .await;
    let mut config = config;
    config.endpoint =
        Endpoint::parse(&format!("ws://{address}{}", config.endpoint.resource())).unwrap();
    // The server hangs up without an answer.
    dial(&config).await.unwrap_err();
    told.await.unwrap()
}

#[tokio::test]
async fn path_and_query_arrive_unchanged() {
    let resource = "/ws/../v2?token=a+b%2Fc==&x='{}\"";
    let request = request_of(config(&format!("ws://h{resource}")), "127.0.0.1:0").await;
    assert_eq!(
        request.lines().next().unwrap(),
        format!("GET {resource} HTTP/1.1")
    );
}

#[tokio::test]
async fn the_request_obeys_rfc_6455_section_4_1() {
    let config = Config::builder("ws://h/")
        .header("Authorization", "Bearer s3cret")
        .header("Sec-WebSocket-Protocol", "a, b")
        .header("X-Two", "1")
        .header("X-Two", "2")
        .build()
        .unwrap();
    let request = request_of(config, "127.0.0.1:0").await;
    assert_eq!(header(&request, "Upgrade"), Some("websocket"));
    assert_eq!(header(&request, "Connection"), Some("Upgrade"));
    assert_eq!(header(&request, "Sec-WebSocket-Version"), Some("13"));
    assert_eq!(header(&request, "Sec-WebSocket-Key").unwrap().len(), 24);
    assert!(header(&request, "Host").unwrap().starts_with("127.0.0.1:"));
    assert_eq!(header(&request, "authorization"), Some("Bearer s3cret"));
    assert_eq!(header(&request, "Sec-WebSocket-Protocol"), Some("a, b"));
    assert!(request.contains("x-two: 1\r\nx-two: 2\r\n"), "{request}");
}

#[tokio::test]
async fn an_ipv6_literal_is_dialed() {
    let (tell, told) = oneshot::channel();
    let address = server_at("[::1]:0", async move |mut stream: TcpStream| {
        let request = read_request(&mut stream).await;
        stream.write_all(&switching(&request, "")).await.unwrap();
        tell.send(request).unwrap();
        pending().await
    })
    .await;
    let url = format!("ws://[::1]:{}/path?query", address.port());
    let dialed = dial(&config(&url)).await.unwrap();
    assert_eq!(dialed.peer, address);
    let request = told.await.unwrap();
    assert!(request.starts_with("GET /path?query HTTP/1.1\r\n"));
    let host = format!("[::1]:{}", address.port());
    assert_eq!(header(&request, "Host"), Some(host.as_str()));
}

#[tokio::test]
async fn a_dialed_connection_tells_what_the_server_answered() {
    let address = answering(|request| switching(request, "X-Node: 7\r\n")).await;
    let dialed = dial_to(address).await.unwrap();
    assert_eq!(dialed.response_headers["x-node"], "7");
    assert_eq!(dialed.peer, address);
    assert_eq!(dialed.leftover, b"");
    assert_eq!(dialed.timings.tls, Duration::ZERO);
    assert!(dialed.timings.upgrade > Duration::ZERO);
    let TlsOrPlain::Plain(stream) = &dialed.stream else {
        panic!("ws is not encrypted");
    };
    assert!(stream.nodelay().unwrap());
}

#[tokio::test]
async fn frames_right_behind_the_101_are_not_lost() {
    let (go, gone) = oneshot::channel();
    let address = server(async move |mut stream: TcpStream| {
        let request = read_request(&mut stream).await;
        let mut answer = switching(&request, "");
        // One whole frame and the beginning of another.
        answer.extend_from_slice(b"\x81\x05hello\x81\x05wo");
        stream.write_all(&answer).await.unwrap();
        gone.await.unwrap();
        stream.write_all(b"rld").await.unwrap();
        pending().await
    })
    .await;
    let config = config(&format!("ws://{address}/"));
    let dialed = dial(&config).await.unwrap();
    let mut socket = web_socket(dialed, &config);
    assert_eq!(next(&mut socket).await, Frame::text("hello"));
    go.send(()).unwrap();
    assert_eq!(next(&mut socket).await, Frame::text("world"));
}

#[tokio::test]
async fn the_websocket_writes_masked_frames_and_bounds_messages() {
    let address = server(async move |mut stream: TcpStream| {
        let request = read_request(&mut stream).await;
        stream.write_all(&switching(&request, "")).await.unwrap();
        let mut frame = [0; 8];
        stream.read_exact(&mut frame).await.unwrap();
        // FIN and text, masked and two bytes long (RFC 6455, section 5.2).
        assert_eq!(frame[..2], [0x81, 0x82]);
        stream.write_all(b"\x81\x09too large").await.unwrap();
        pending().await
    })
    .await;
    let config = Config::builder(format!("ws://{address}/"))
        .max_message(8)
        .build()
        .unwrap();
    let mut socket = web_socket(dial(&config).await.unwrap(), &config);
    socket.start_send(Frame::text("hi")).unwrap();
    std::future::poll_fn(|cx| socket.poll_flush(cx))
        .await
        .unwrap();
    let end = frame(&mut socket).await.unwrap_err();
    assert!(matches!(end, CloseReason::TooBig { .. }), "{end}");
}

#[tokio::test]
async fn a_dropped_dial_closes_its_socket() {
    let (reached, has_reached) = oneshot::channel();
    let (tell, told) = oneshot::channel();
    let address = server(async move |mut stream: TcpStream| {
        read_request(&mut stream).await;
        reached.send(()).unwrap();
        tell.send(stream.read(&mut [0; 1]).await.unwrap()).unwrap();
    })
    .await;
    let config = config(&format!("ws://{address}/"));
    let mut dialing = Box::pin(dial(&config));
    tokio::select! {
        _ = &mut dialing => panic!("the server does not answer"),
        _ = has_reached => {}
    }
    drop(dialing);
    assert_eq!(told.await.unwrap(), 0, "end of file");
}
