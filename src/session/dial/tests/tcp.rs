//! Names, addresses, and their deadlines.

use std::error::Error;
use std::pin::Pin;

use tokio::net::TcpSocket;

use super::*;
use crate::error::Recovery;

/// An address where nobody listens.
async fn closed() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap()
}

/// An address that lets a connection attempt wait: its listener's queue is full.
///
/// The second value keeps it so.
async fn black_hole() -> (SocketAddr, impl Sized) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let mut waiting = Vec::new();
    while let Ok(stream) = timeout(Duration::from_millis(200), TcpStream::connect(address)).await {
        waiting.push(stream.unwrap());
        assert!(waiting.len() < 64, "the queue does not fill");
    }
    (address, (listener, waiting))
}

#[tokio::test(start_paused = true)]
async fn a_phase_that_takes_too_long_is_named_with_its_limit() {
    let limit = Duration::from_secs(3);
    let start = Instant::now();
    let error = within(Phase::Dns, limit, pending::<Result<(), _>>())
        .await
        .unwrap_err();
    assert_eq!(error.to_string(), "dns took longer than 3s");
    assert_eq!(error.recovery(), Recovery::Retry);
    assert_eq!(start.elapsed(), limit);
}

#[tokio::test]
async fn a_name_that_does_not_exist_is_a_dns_error() {
    // `.invalid` never resolves (RFC 6761, section 6.4).
    let error = dial(&config("ws://nowhere.invalid/")).await.unwrap_err();
    match error {
        ConnectError::Dns { host, .. } => assert_eq!(host, "nowhere.invalid"),
        // A resolver that has no server to ask may be slow to say so.
        ConnectError::Timeout { phase, .. } => assert_eq!(phase, Phase::Dns),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_refused_connection_names_the_address_and_the_cause() {
    let address = closed().await;
    let error = dial_to(address).await.unwrap_err();
    assert_eq!(error.to_string(), format!("no tcp connection to {address}"));
    let cause: &Arc<io::Error> = error.source().unwrap().downcast_ref().unwrap();
    assert_eq!(cause.kind(), io::ErrorKind::ConnectionRefused);
}

/// A machine without a route.
#[derive(Debug)]
struct Cut;

impl Connector for Cut {
    fn connect<'a>(
        &'a self,
        _host: &'a str,
        _port: u16,
    ) -> Pin<Box<dyn Future<Output = io::Result<Connected>> + Send + 'a>> {
        Box::pin(std::future::ready(Err(
            io::ErrorKind::NetworkUnreachable.into()
        )))
    }
}

#[tokio::test]
async fn a_network_that_cannot_be_reached_is_a_tcp_error_that_passes() {
    let config = Config::builder("ws://h:1/")
        .connector(Arc::new(Cut))
        .build()
        .unwrap();
    let error = dial(&config).await.unwrap_err();
    let ConnectError::Tcp { address, source } = &error else {
        panic!("{error:?}");
    };
    assert_eq!(address, "h:1");
    assert_eq!(source.kind(), io::ErrorKind::NetworkUnreachable);
    assert_eq!(error.recovery(), Recovery::Retry);
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_black_hole_ends_at_the_tcp_limit() {
    let (address, _full) = black_hole().await;
    let limits = PhaseLimits {
        tcp: Duration::from_millis(100),
        ..PhaseLimits::default()
    };
    let error = dial(&limited(&format!("ws://{address}/"), limits))
        .await
        .unwrap_err();
    assert_eq!(error.to_string(), "tcp took longer than 100ms");
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_black_hole_holds_the_next_address_back_for_a_quarter_second() {
    let (dead, _full) = black_hole().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let alive = listener.local_addr().unwrap();
    let start = Instant::now();
    let (_stream, peer) = super::super::tcp::connect([dead, alive].into())
        .await
        .unwrap();
    assert_eq!(peer, alive);
    assert!(start.elapsed() >= Duration::from_millis(250));
    assert!(
        start.elapsed() < Duration::from_secs(1),
        "sooner than the SYN is sent again"
    );
}

#[tokio::test(start_paused = true)]
async fn a_refusal_lets_the_next_address_go_at_once() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let alive = listener.local_addr().unwrap();
    let addresses = [closed().await, closed().await, alive].into();
    let (_stream, peer) = super::super::tcp::connect(addresses).await.unwrap();
    assert_eq!(peer, alive);
}
