//! The way to the program: where it is, what it says, what it is asked.
//!
//! Apart from the model because this waits, and fails.
//!
//! Invariants: a line of the program's is bounded while it is read; nobody waits for long to write; one thread reads
//! for each connection and ends with it.

use std::fmt;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use serde_json::json;

use crate::model::{Command, Input};
use crate::seen::Message;

/// The longest line that a program may send.
const LINE: u64 = 16 * 1024 * 1024;
/// How long a program may take to read what it is asked.
const PATIENCE: Duration = Duration::from_secs(2);

/// Where a program can be looked at.
#[derive(Debug, Clone)]
pub(crate) enum Target {
    Path(PathBuf),
    Loopback(SocketAddr),
}

impl Target {
    /// An address if it is one, else a path.
    pub(crate) fn parse(text: &str) -> Self {
        match text.parse() {
            Ok(address) => Self::Loopback(address),
            Err(_) => Self::Path(text.into()),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => path.display().fmt(f),
            Self::Loopback(address) => address.fmt(f),
        }
    }
}

/// What comes from a connection, and the number of that connection.
pub(crate) type Heard = (u64, Input);

/// A stream that can be ended while another thread reads from it.
trait Socket: Write {
    fn end(&self);
}

#[cfg(unix)]
impl Socket for std::os::unix::net::UnixStream {
    fn end(&self) {
        // It may have ended by itself.
        let _ = self.shutdown(Shutdown::Both);
    }
}

impl Socket for TcpStream {
    fn end(&self) {
        // It may have ended by itself.
        let _ = self.shutdown(Shutdown::Both);
    }
}

/// An open connection to a program. Dropping it ends it, and the thread that reads from it.
pub(crate) struct Link {
    socket: Box<dyn Socket>,
    /// Tells it from those before.
    number: u64,
    last: u64,
}

impl Drop for Link {
    fn drop(&mut self) {
        self.socket.end();
    }
}

impl Link {
    /// Attaches; what the program says comes by `heard` with this `number`, its end too.
    pub(crate) fn attach(
        target: &Target,
        number: u64,
        heard: &SyncSender<Heard>,
    ) -> io::Result<Self> {
        let socket: Box<dyn Socket> = match target {
            #[cfg(unix)]
            Target::Path(path) => {
                let stream = std::os::unix::net::UnixStream::connect(path)?;
                stream.set_write_timeout(Some(PATIENCE))?;
                listen(stream.try_clone()?, number, heard);
                Box::new(stream)
            }
            #[cfg(not(unix))]
            Target::Path(_) => return Err(io::ErrorKind::Unsupported.into()),
            Target::Loopback(address) => {
                let stream = TcpStream::connect_timeout(address, PATIENCE)?;
                stream.set_write_timeout(Some(PATIENCE))?;
                listen(stream.try_clone()?, number, heard);
                Box::new(stream)
            }
        };
        Ok(Self {
            socket,
            number,
            last: 0,
        })
    }

    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// Asks for an inspection.
    pub(crate) fn inspect(&mut self) -> io::Result<()> {
        self.last += 1;
        let id = self.last;
        self.write(&json!({"type": "inspect", "id": id}))
    }

    /// Asks for what the user wants done.
    pub(crate) fn command(&mut self, command: &Command) -> io::Result<()> {
        self.last += 1;
        let id = self.last;
        match command {
            Command::Reconnect { session } => {
                self.write(&json!({"type": "reconnect", "id": id, "session": session}))
            }
            Command::Kill { actor } => {
                self.write(&json!({"type": "kill", "id": id, "actor": actor}))
            }
            Command::Quit => Ok(()),
        }
    }

    fn write(&mut self, request: &serde_json::Value) -> io::Result<()> {
        self.socket.write_all(format!("{request}\n").as_bytes())?;
        self.socket.flush()
    }
}

fn listen(stream: impl Read + Send + 'static, number: u64, heard: &SyncSender<Heard>) {
    let heard = heard.clone();
    std::thread::spawn(move || {
        let mut reader = BufReader::new(stream);
        let why = loop {
            match line(&mut reader) {
                Ok(Some(line)) => {
                    let said = Input::Said(Message::read(&line));
                    if heard.send((number, said)).is_err() {
                        return;
                    }
                }
                Ok(None) => break "the program has closed the connection".to_owned(),
                Err(error) => break error.to_string(),
            }
        };
        // Whoever has gone does not need to hear it.
        let _ = heard.send((number, Input::Lost(why)));
    });
}

/// The next line; `None` at the end.
fn line(reader: &mut impl BufRead) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    let read = reader.take(LINE + 1).read_until(b'\n', &mut line)?;
    if read == 0 {
        return Ok(None);
    }
    if line.len() as u64 > LINE {
        return Err(io::Error::other("the program sent a line that is too long"));
    }
    Ok(Some(line))
}

#[cfg(test)]
mod tests {
    use std::io::{BufReader, Read};

    use super::{LINE, Target, line};

    #[test]
    fn a_line_that_does_not_end_is_not_read_to_its_end() {
        let mut endless = BufReader::new(std::io::repeat(b'a').take(LINE * 4));
        assert!(line(&mut endless).is_err());
        let mut short = &b"a\nb"[..];
        assert_eq!(
            line(&mut short).expect("read").as_deref(),
            Some(&b"a\n"[..])
        );
        assert_eq!(line(&mut short).expect("read").as_deref(), Some(&b"b"[..]));
        assert_eq!(line(&mut short).expect("read"), None);
    }

    #[test]
    fn a_target_is_an_address_or_a_path() {
        assert!(matches!(Target::parse("127.0.0.1:1"), Target::Loopback(_)));
        assert!(matches!(Target::parse("/run/a.sock"), Target::Path(_)));
    }
}
