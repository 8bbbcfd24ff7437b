//! A thread that writes ready-made frames into a raw socket, so that it is never the bottleneck.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;

use rustls::StreamOwned;
use tokio_tungstenite::tungstenite::{self, Message, WebSocket};

use crate::load::Load;
use crate::setting::Setting;
use crate::tls::Authority;

/// Writes its load into every socket that says "go" or asks for a subscription. It lives as long as the process.
pub struct Sender {
    /// Where it listens, on the loopback interface.
    pub port: u16,
}

impl Sender {
    /// Listens from now on.
    #[must_use]
    pub fn start(load: Load, setting: Setting) -> Self {
        Self::serve(load, setting, |stream, load| {
            stream.set_nodelay(true)?;
            serve(stream, load)
        })
    }

    /// Listens from now on, for clients that speak TLS.
    #[must_use]
    pub fn start_tls(load: Load, setting: Setting, authority: &Authority) -> Self {
        let authority = authority.clone();
        Self::serve(load, setting, move |stream, load| {
            stream.set_nodelay(true)?;
            serve(StreamOwned::new(authority.accept(), stream), load)
        })
    }

    fn serve(
        load: Load,
        setting: Setting,
        serve: impl Fn(TcpStream, &Load) -> tungstenite::Result<()> + Clone + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let load = Arc::new(load);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (load, serve) = (Arc::clone(&load), serve.clone());
                std::thread::spawn(move || {
                    setting.pin_other_side();
                    // Whoever was left early hears of it himself.
                    let _ = serve(stream, &load);
                });
            }
        });
        Self { port }
    }
}

fn serve<S: Read + Write>(stream: S, load: &Load) -> tungstenite::Result<()> {
    let Ok(mut socket) = tungstenite::accept(stream) else {
        return Ok(());
    };
    await_go(&mut socket, load)?;
    let stream = socket.get_mut();
    let mut left = load.messages;
    while left > 0 {
        let now = left.min(load.block.len() / load.frame);
        stream.write_all(&load.block[..now * load.frame])?;
        left -= now;
    }
    // Until the other side is done.
    let mut sink = [0; 1024];
    while stream.read(&mut sink)? > 0 {}
    Ok(())
}

/// Answers what looks like a JSON-RPC request, which is as good as "go".
fn await_go<S: Read + Write>(socket: &mut WebSocket<S>, load: &Load) -> tungstenite::Result<()> {
    loop {
        let Message::Text(text) = socket.read()? else {
            continue;
        };
        if text.as_str() == "go" {
            return Ok(());
        }
        let request: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
        if let Some(id) = request.get("id") {
            let answer = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{}}}"#, load.answer);
            socket.send(Message::text(answer))?;
            return Ok(());
        }
    }
}
