//! A program that stood still for longer than its callers' deadlines, while their answers lay in the socket.
//!
//! In memory and under paused time: while the program stands still nothing wakes it but its timers.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use mainstay::config::ReconnectOwner;
use mainstay::connector::{ByteStream, Connected, Connector};
use mainstay::error::RequestError;
use mainstay::platform::Call;
use mainstay::testing::{Script, ScriptedServer};
use mainstay::{Client, Config};
use serde_json::json;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

const LIMIT: Duration = Duration::from_secs(1);

/// Streams whose bytes come, but wake nobody, while the program stands still.
#[derive(Debug)]
struct Stalling {
    inner: Arc<dyn Connector>,
    stands: Arc<AtomicBool>,
}

struct Stalled {
    inner: Box<dyn ByteStream>,
    stands: Arc<AtomicBool>,
}

impl Connector for Stalling {
    fn connect<'a>(
        &'a self,
        host: &'a str,
        port: u16,
    ) -> Pin<Box<dyn Future<Output = io::Result<Connected>> + Send + 'a>> {
        Box::pin(async move {
            let Connected { stream, peer } = self.inner.connect(host, port).await?;
            let stands = Arc::clone(&self.stands);
            let inner = stream;
            Ok(Connected::new(Stalled { inner, stands }, peer))
        })
    }
}

impl AsyncRead for Stalled {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut nobody = Context::from_waker(Waker::noop());
        let cx = match self.stands.load(Ordering::SeqCst) {
            true => &mut nobody,
            false => cx,
        };
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl AsyncWrite for Stalled {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_lies_in_the_socket_when_its_deadline_passes_is_in_time() {
    let server = ScriptedServer::builder().in_memory(true);
    let server = server.script(Script::new()).start().await;
    let server = server.expect("a server");
    let stands = Arc::new(AtomicBool::new(false));
    let connector = Stalling {
        inner: server.connector().expect("in memory"),
        stands: Arc::clone(&stands),
    };
    let config = Config::builder(server.url())
        .connector(Arc::new(connector))
        .reconnect_owner(ReconnectOwner::Client);
    let config = config.build().expect("valid");
    let session = Client::connect_with(config).await.expect("a session");
    let mut peer = server.next_connection().await.expect("a connection");

    stands.store(true, Ordering::SeqCst);
    let answered = session.call(Call::bare("answered"), LIMIT);
    let unanswered = session.call(Call::bare("unanswered"), LIMIT);
    let answers = async {
        let first = peer.recv_text().await.expect("a request");
        let first: serde_json::Value = serde_json::from_str(&first).expect("json");
        assert_eq!(first["method"], "answered");
        let answer = json!({"jsonrpc": "2.0", "id": first["id"], "result": 1});
        peer.send_json(answer).await.expect("open");
        peer.recv_text().await.expect("a request")
    };
    let (answered, unanswered, _) = tokio::join!(answered, unanswered, answers);
    assert_eq!(answered.expect("in time").get(), "1");
    let unanswered = unanswered.expect_err("no answer");
    assert!(
        matches!(unanswered, RequestError::Unknown { .. }),
        "{unanswered}"
    );
    assert_eq!(session.statistics().late, 0);
}
