//! An OTLP collector over HTTP that takes everything and keeps nothing.

use std::io::{BufRead, BufReader, Read, Result, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;

/// The collector; it lives as long as the process.
#[derive(Debug)]
pub struct Collector {
    /// Where it listens on the loopback.
    pub port: u16,
}

impl Collector {
    /// Listens from now on, with a thread for each connection.
    ///
    /// # Panics
    ///
    /// Without a free port.
    #[must_use]
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // Who goes away has sent what there was.
                thread::spawn(move || serve(&stream));
            }
        });
        Self { port }
    }
}

/// One request after the other, until the peer has gone.
fn serve(stream: &TcpStream) -> Result<()> {
    let mut reader = BufReader::new(stream);
    loop {
        let mut length = 0;
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            let line = line.trim().to_ascii_lowercase();
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse().unwrap_or_default();
            }
            if line.is_empty() {
                break;
            }
        }
        std::io::copy(&mut reader.by_ref().take(length), &mut std::io::sink())?;
        let mut stream = stream;
        stream.write_all(
            b"HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n\r\n",
        )?;
    }
}
