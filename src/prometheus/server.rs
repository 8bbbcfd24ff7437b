//! Who answers a scrape: a thread with a small runtime, and as much of HTTP/1.1 as one page needs.
//!
//! Apart because it knows sockets and nothing of metrics. Each connection has one request and one answer.
//!
//! Invariants: nothing here runs on the program's runtime; at most [`CONNECTIONS`] are open, the next ones wait in
//! the system's queue; a connection ends within [`LIMIT`], however slow its peer is; of a request at most [`HEAD`]
//! bytes are read, and nothing of it is shown.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use opentelemetry::Context;
use prometheus::{Registry, TextEncoder};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{Semaphore, oneshot};
use tokio::time::{sleep, timeout};

use super::PrometheusError;

/// Open at the same time.
const CONNECTIONS: usize = 16;
/// From the first byte asked to the last one answered.
const LIMIT: Duration = Duration::from_secs(10);
/// The longest request.
const HEAD: usize = 8 * 1024;
/// After a failure to accept, such as too many open files.
const PAUSE: Duration = Duration::from_millis(100);

/// The thread; it ends when this is dropped.
pub(crate) struct Server {
    address: SocketAddr,
    _running: oneshot::Sender<()>,
}

impl Server {
    /// Listens from now on.
    pub(crate) fn start(address: SocketAddr, registry: Registry) -> Result<Self, PrometheusError> {
        let refused = |source| PrometheusError::Address { address, source };
        let listener = std::net::TcpListener::bind(address).map_err(refused)?;
        listener.set_nonblocking(true).map_err(refused)?;
        let address = listener.local_addr().map_err(refused)?;
        let runtime = Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .build()
            .map_err(PrometheusError::Thread)?;
        let listener = registered(&runtime, listener).map_err(refused)?;
        let (running, stopped) = oneshot::channel();
        thread::Builder::new()
            .name("mainstay-prometheus".to_owned())
            .spawn(move || {
                let _silent = Context::enter_telemetry_suppressed_scope();
                runtime.block_on(async {
                    tokio::select! {
                        // Either way nobody needs it any more.
                        _ = stopped => {}
                        () = serve(listener, registry) => {}
                    }
                });
            })
            .map_err(PrometheusError::Thread)?;
        Ok(Self {
            address,
            _running: running,
        })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

fn registered(
    runtime: &Runtime,
    listener: std::net::TcpListener,
) -> Result<TcpListener, std::io::Error> {
    let _entered = runtime.enter();
    TcpListener::from_std(listener)
}

async fn serve(listener: TcpListener, registry: Registry) {
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    while let Ok(seat) = Arc::clone(&room).acquire_owned().await {
        let Ok((stream, _)) = listener.accept().await else {
            sleep(PAUSE).await;
            continue;
        };
        let registry = registry.clone();
        tokio::spawn(async move {
            let _seat = seat;
            // Who is too slow, or gone, is let go of.
            let _ = timeout(LIMIT, answer(stream, &registry)).await;
        });
    }
}

async fn answer(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    registry: &Registry,
) -> Result<(), std::io::Error> {
    let response = match asked(&mut stream).await? {
        Asked::Page { whole } => match TextEncoder::new().encode_to_string(&registry.gather()) {
            Ok(page) => response("200 OK", prometheus::TEXT_FORMAT, &page, whole),
            Err(error) => text("500 Internal Server Error", &error.to_string()),
        },
        Asked::Other => text("404 Not Found", "the page is /metrics"),
        Asked::Method => text(
            "405 Method Not Allowed",
            "the page can be read: GET /metrics",
        ),
        Asked::TooLong => text("431 Request Header Fields Too Large", "too long a request"),
        Asked::Nonsense => text("400 Bad Request", "no request of HTTP/1.1"),
    };
    stream.write_all(response.as_bytes()).await?;
    stream.shutdown().await
}

/// What somebody wants.
enum Asked {
    /// The page; only its head unless `whole`.
    Page {
        whole: bool,
    },
    Other,
    Method,
    TooLong,
    Nonsense,
}

async fn asked(stream: &mut (impl AsyncRead + Unpin)) -> Result<Asked, std::io::Error> {
    let mut head = Vec::with_capacity(1024);
    while head.len() < HEAD {
        if stream.read_buf(&mut head).await? == 0 {
            return Ok(Asked::Nonsense);
        }
        let mut headers = [httparse::EMPTY_HEADER; 64];
        let mut request = httparse::Request::new(&mut headers);
        match request.parse(&head) {
            Ok(httparse::Status::Partial) => {}
            Ok(httparse::Status::Complete(_)) => {
                let path = request.path.unwrap_or_default();
                let path = path.split('?').next().unwrap_or_default();
                return Ok(match (path, request.method) {
                    ("/metrics", Some("GET")) => Asked::Page { whole: true },
                    ("/metrics", Some("HEAD")) => Asked::Page { whole: false },
                    ("/metrics", _) => Asked::Method,
                    _ => Asked::Other,
                });
            }
            Err(httparse::Error::TooManyHeaders) => return Ok(Asked::TooLong),
            Err(_) => return Ok(Asked::Nonsense),
        }
    }
    Ok(Asked::TooLong)
}

fn text(status: &str, line: &str) -> String {
    let body = format!("{line}\n");
    response(status, "text/plain; charset=utf-8", &body, true)
}

fn response(status: &str, kind: &str, body: &str, whole: bool) -> String {
    let length = body.len();
    let body = if whole { body } else { "" };
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
    )
}

#[cfg(test)]
mod tests {
    use tokio::io::duplex;

    use super::*;

    async fn ask(request: &str) -> String {
        let registry = Registry::new();
        let orders = prometheus::IntCounter::new("orders_total", "Orders.").expect("a name");
        orders.inc();
        registry.register(Box::new(orders)).expect("new");
        let (mut us, them) = duplex(64 * 1024);
        let asking = async {
            us.write_all(request.as_bytes()).await.expect("sent");
            let mut answer = String::new();
            us.read_to_string(&mut answer).await.expect("read");
            answer
        };
        let (answer, answered) = tokio::join!(asking, answer(them, &registry));
        answered.expect("answered");
        answer
    }

    #[tokio::test]
    async fn the_page_is_there_for_whoever_reads_it() {
        let page = ask("GET /metrics?name=all HTTP/1.1\r\nhost: here\r\n\r\n").await;
        assert!(page.starts_with("HTTP/1.1 200 OK\r\n"), "{page}");
        assert!(page.contains("text/plain; version=0.0.4"), "{page}");
        assert!(page.contains("\norders_total 1\n"), "{page}");
        let head = ask("HEAD /metrics HTTP/1.1\r\n\r\n").await;
        assert!(
            head.contains("content-length") && head.ends_with("\r\n\r\n"),
            "{head}"
        );
    }

    #[tokio::test]
    async fn everything_else_is_refused() {
        let long = format!("GET /metrics HTTP/1.1\r\nx: {}\r\n\r\n", "x".repeat(HEAD));
        for (request, status) in [
            ("GET / HTTP/1.1\r\n\r\n", "404"),
            ("POST /metrics HTTP/1.1\r\n\r\n", "405"),
            ("\u{1}\u{2}\r\n\r\n", "400"),
            (long.as_str(), "431"),
        ] {
            let answer = ask(request).await;
            assert!(
                answer.starts_with(&format!("HTTP/1.1 {status}")),
                "{answer}"
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_asks_for_nothing_is_let_go_of() {
        let (us, them) = duplex(64);
        let registry = Registry::new();
        let ended = timeout(LIMIT, answer(them, &registry)).await;
        ended.expect_err("no answer without a question");
        drop(us);
    }
}
