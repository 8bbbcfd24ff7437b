//! A server for many connections, all of which it can drop at once.

use futures_util::{SinkExt, StreamExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::{oneshot, watch};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

use crate::setting::Setting;

/// Accepts, answers requests, and is silent otherwise. It ends when this is dropped.
pub struct Crowd {
    /// Where it listens, on the loopback interface.
    pub port: u16,
    cuts: watch::Sender<u64>,
    _until_dropped: oneshot::Sender<()>,
}

impl Crowd {
    /// Listens from now on, on a thread of its own.
    #[must_use]
    pub fn start(setting: Setting) -> Self {
        let (cuts, cut) = watch::channel(0);
        let (until_dropped, dropped) = oneshot::channel::<()>();
        let port = listen(setting, dropped, move |stream| serve(stream, cut.clone()));
        Self {
            port,
            cuts,
            _until_dropped: until_dropped,
        }
    }

    /// Drops every open connection, without a word.
    pub fn cut(&self) {
        self.cuts.send_modify(|count| *count += 1);
    }
}

/// Listens from now on, until `end`; one thread serves all who come. Where it listens.
pub(crate) fn listen<F>(
    setting: Setting,
    end: impl Future + Send + 'static,
    serve: impl Fn(TcpStream) -> F + Send + 'static,
) -> u16
where
    F: Future<Output = ()> + Send + 'static,
{
    let (tell, port) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        setting.pin_other_side();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        runtime.block_on(async move {
            let socket = TcpSocket::new_v4().expect("a socket");
            socket
                .bind(([127, 0, 0, 1], 0).into())
                .expect("a free port");
            let listener = socket.listen(4096).expect("a listener");
            let address = listener.local_addr().expect("an address");
            tell.send(address.port()).expect("somebody who asked");
            let accept = async {
                loop {
                    if let Ok((stream, _)) = listener.accept().await {
                        tokio::spawn(serve(stream));
                    }
                }
            };
            tokio::select! {
                () = accept => {}
                _ = end => {}
            }
        });
    });
    port.recv().expect("a port")
}

async fn serve(stream: TcpStream, mut cut: watch::Receiver<u64>) {
    // Those that come after a cut are not meant by it.
    cut.mark_unchanged();
    let config = WebSocketConfig::default().read_buffer_size(4096);
    let conversation = async {
        stream.set_nodelay(true)?;
        let mut socket = tokio_tungstenite::accept_async_with_config(stream, Some(config)).await?;
        while let Some(message) = socket.next().await {
            let Message::Text(text) = message? else {
                continue;
            };
            let request: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
            if let Some(id) = request.get("id") {
                let answer = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":"ok"}}"#);
                socket.send(Message::text(answer)).await?;
            }
        }
        Ok::<(), tokio_tungstenite::tungstenite::Error>(())
    };
    tokio::select! {
        // The other side hears how it ended, and that is the side which counts.
        _ = conversation => {}
        _ = cut.changed() => {}
    }
}
