//! A thread that answers JSON-RPC requests on a raw socket, faster than any client asks.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use rustls::StreamOwned;
use tokio_tungstenite::tungstenite;

use crate::load::push_length;
use crate::setting::Setting;
use crate::tls::Authority;

/// Answers whatever has an `"id":`, with that id and a small result. It lives as long as the process.
pub struct Responder {
    /// Where it listens, on the loopback interface.
    pub port: u16,
}

impl Responder {
    /// Listens from now on.
    #[must_use]
    pub fn start(setting: Setting) -> Self {
        Self::serve(setting, |stream| {
            stream.set_nodelay(true)?;
            serve(stream)
        })
    }

    /// Listens from now on, for clients that speak TLS.
    #[must_use]
    pub fn start_tls(setting: Setting, authority: &Authority) -> Self {
        let authority = authority.clone();
        Self::serve(setting, move |stream| {
            stream.set_nodelay(true)?;
            serve(StreamOwned::new(authority.accept(), stream))
        })
    }

    fn serve(
        setting: Setting,
        serve: impl Fn(TcpStream) -> std::io::Result<()> + Clone + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let serve = serve.clone();
                std::thread::spawn(move || {
                    setting.pin_other_side();
                    // Whoever was left early hears of it himself.
                    let _ = serve(stream);
                });
            }
        });
        Self { port }
    }
}

fn serve<S: Read + Write>(stream: S) -> std::io::Result<()> {
    let Ok(mut socket) = tungstenite::accept(stream) else {
        return Ok(());
    };
    let stream = socket.get_mut();
    let (mut inbound, mut outbound) = (Vec::new(), Vec::new());
    let mut chunk = vec![0; 64 * 1024];
    loop {
        let read = stream.read(&mut chunk)?;
        if read == 0 {
            return Ok(());
        }
        inbound.extend_from_slice(&chunk[..read]);
        let mut at = 0;
        while let Some((opcode, mut payload, next)) = next_frame(&inbound[at..]) {
            match opcode {
                0x1 => answer(&payload, &mut outbound),
                0x8 => return Ok(()),
                0x9 => {
                    outbound.extend_from_slice(&[0x8a, payload.len() as u8]);
                    outbound.append(&mut payload);
                }
                _ => {}
            }
            at += next;
        }
        inbound.drain(..at);
        stream.write_all(&outbound)?;
        outbound.clear();
    }
}

/// A client's frame (RFC 6455, section 5.2): opcode, unmasked payload, length of the whole.
fn next_frame(bytes: &[u8]) -> Option<(u8, Vec<u8>, usize)> {
    let (length, head) = match bytes.get(1)? & 0x7f {
        126 => (
            usize::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?)),
            4,
        ),
        127 => (
            u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?) as usize,
            10,
        ),
        short => (usize::from(short), 2),
    };
    let mask = bytes.get(head..head + 4)?;
    let masked = bytes.get(head + 4..head + 4 + length)?;
    let payload = masked
        .iter()
        .zip(mask.iter().cycle())
        .map(|(byte, mask)| byte ^ mask)
        .collect();
    Some((bytes[0] & 0x0f, payload, head + 4 + length))
}

fn answer(request: &[u8], outbound: &mut Vec<u8>) {
    let key = br#""id":"#;
    let Some(start) = request.windows(key.len()).position(|part| part == key) else {
        return;
    };
    let id = &request[start + key.len()..];
    let end = id
        .iter()
        .position(|byte| matches!(byte, b',' | b'}'))
        .unwrap_or(id.len());
    let head = br#"{"jsonrpc":"2.0","id":"#;
    let tail = br#","result":{"order_id":"ETH-349249","state":"open","price":1870.25}}"#;
    outbound.push(0x81);
    push_length(outbound, head.len() + end + tail.len());
    outbound.extend_from_slice(head);
    outbound.extend_from_slice(&id[..end]);
    outbound.extend_from_slice(tail);
}
