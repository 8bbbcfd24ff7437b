//! The other side of a benchmark: ready-made frames into a raw socket, so that it is never the bottleneck.
//!
//! Three ways to write them: lent to the system by a thread for each client; written by one for each, through TLS; written by one
//! thread to all clients in turn.

#[cfg(target_os = "linux")]
use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;

use futures_util::{SinkExt, StreamExt};
use rustls::StreamOwned;
use tokio::io::AsyncWriteExt;
use tokio_tungstenite::tungstenite::{self, Message, WebSocket};

use crate::crowd;
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
        let lent = Lent::of(&load);
        Self::serve(load, setting, move |stream, load| {
            stream.set_nodelay(true)?;
            serve(stream, load, |stream| lent.pour(stream, load))
        })
    }

    /// Listens from now on, for clients that speak TLS.
    #[must_use]
    pub fn start_tls(load: Load, setting: Setting, authority: &Authority) -> Self {
        let authority = authority.clone();
        Self::serve(load, setting, move |stream, load| {
            stream.set_nodelay(true)?;
            let stream = StreamOwned::new(authority.accept(), stream);
            serve(stream, load, |stream| write(stream, load))
        })
    }

    /// Listens from now on, for thousands of clients: as many threads would be what is measured.
    #[must_use]
    pub fn start_for_many(load: Load, setting: Setting) -> Self {
        let load = Arc::new(load);
        let port = crowd::listen(setting, std::future::pending::<()>(), move |stream| {
            let load = Arc::clone(&load);
            // Whoever was left early hears of it himself.
            async move { drop(serve_in_turn(stream, &load).await) }
        });
        Self { port }
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

fn serve<S: Read + Write>(
    stream: S,
    load: &Load,
    pour: impl FnOnce(&mut S) -> io::Result<()>,
) -> tungstenite::Result<()> {
    let Ok(mut socket) = tungstenite::accept(stream) else {
        return Ok(());
    };
    await_go(&mut socket, load)?;
    pour(socket.get_mut())?;
    // Until the other side is done; its close is answered, else each run would wait for that.
    while socket.read().is_ok() {}
    Ok(())
}

/// A load of which the system sends the pages: nothing is copied on this side, whose work would else be half of what a
/// large message takes, so that both sides wait for each other.
#[derive(Clone)]
#[cfg(target_os = "linux")]
struct Lent(Arc<File>);

#[cfg(target_os = "linux")]
impl Lent {
    fn of(load: &Load) -> Self {
        use rustix::fs::{MemfdFlags, memfd_create};

        let pages = memfd_create("frames", MemfdFlags::CLOEXEC).expect("a file in memory");
        let mut pages = File::from(pages);
        pages.write_all(&load.block).expect("memory");
        Self(Arc::new(pages))
    }

    fn pour(&self, stream: &TcpStream, load: &Load) -> io::Result<()> {
        for length in blocks(load) {
            let mut at = 0;
            while at < length as u64 {
                let left = length - at as usize;
                if rustix::fs::sendfile(stream, &*self.0, Some(&mut at), left)? == 0 {
                    return Err(io::ErrorKind::WriteZero.into());
                }
            }
        }
        Ok(())
    }
}

/// Where nothing can be lent it is written.
#[derive(Clone)]
#[cfg(not(target_os = "linux"))]
struct Lent;

#[cfg(not(target_os = "linux"))]
impl Lent {
    fn of(_: &Load) -> Self {
        Self
    }

    fn pour(&self, stream: &mut TcpStream, load: &Load) -> io::Result<()> {
        write(stream, load)
    }
}

fn write(stream: &mut impl Write, load: &Load) -> io::Result<()> {
    blocks(load).try_for_each(|length| stream.write_all(&load.block[..length]))
}

/// How much of the block is to be written, again and again: whole frames, as long as there are messages left.
fn blocks(load: &Load) -> impl Iterator<Item = usize> {
    let at_once = load.block.len() / load.frame;
    (0..load.messages)
        .step_by(at_once)
        .map(move |from| at_once.min(load.messages - from) * load.frame)
}

/// Answers what looks like a JSON-RPC request, which is as good as "go".
fn await_go<S: Read + Write>(socket: &mut WebSocket<S>, load: &Load) -> tungstenite::Result<()> {
    loop {
        let Message::Text(text) = socket.read()? else {
            continue;
        };
        match Word::of(&text, load) {
            Word::Go => return Ok(()),
            Word::Request { answer } => return socket.send(answer),
            Word::Other => {}
        }
    }
}

/// What a client says before it gets anything.
enum Word {
    Go,
    Request { answer: Message },
    Other,
}

impl Word {
    fn of(text: &str, load: &Load) -> Self {
        if text == "go" {
            return Self::Go;
        }
        let request: serde_json::Value = serde_json::from_str(text).unwrap_or_default();
        let Some(id) = request.get("id") else {
            return Self::Other;
        };
        let answer = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{}}}"#, load.answer);
        Self::Request {
            answer: Message::text(answer),
        }
    }
}

async fn serve_in_turn(stream: tokio::net::TcpStream, load: &Load) -> tungstenite::Result<()> {
    stream.set_nodelay(true)?;
    let mut socket = tokio_tungstenite::accept_async(stream).await?;
    while let Some(message) = socket.next().await {
        let Message::Text(text) = message? else {
            continue;
        };
        match Word::of(&text, load) {
            Word::Go => {}
            Word::Request { answer } => socket.send(answer).await?,
            Word::Other => continue,
        }
        for length in blocks(load) {
            socket.get_mut().write_all(&load.block[..length]).await?;
        }
    }
    Ok(())
}
