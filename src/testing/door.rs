//! Where connections come in: a listening socket of the loopback, or a door in memory; either can be shut.
//!
//! A file of its own because a refused connection is a fault like any other, and the accept loop knows only
//! that somebody came.
//!
//! Invariants: a door that is shut keeps its port, so that nobody else takes it and the system refuses; who has
//! come in before stays.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, sleep_until};

use super::memory::MemoryDoor;
use super::stream::{Carrier, Pipe};

/// Connections that may wait to be accepted.
const BACKLOG: u32 = 1024;

/// A door.
#[derive(Debug)]
pub(super) struct Door {
    kind: Kind,
    /// Set while it is shut.
    until: Option<Instant>,
}

#[derive(Debug)]
enum Kind {
    Tcp {
        listener: TcpListener,
        address: SocketAddr,
    },
    /// Bound and not listening: the system refuses.
    Shut {
        socket: Option<TcpSocket>,
        address: SocketAddr,
    },
    Memory(MemoryDoor),
}

impl Door {
    pub(super) fn tcp(listener: TcpListener, address: SocketAddr) -> Self {
        Self {
            kind: Kind::Tcp { listener, address },
            until: None,
        }
    }

    pub(super) fn memory(door: MemoryDoor) -> Self {
        Self {
            kind: Kind::Memory(door),
            until: None,
        }
    }

    /// Refuses for so long.
    pub(super) fn shut(&mut self, time: Duration) {
        let until = Instant::now() + time;
        self.until = Some(self.until.map_or(until, |before| before.max(until)));
        match &mut self.kind {
            Kind::Tcp { address, .. } => {
                let address = *address;
                // The old socket goes first, since only one may have the port.
                self.kind = Kind::Shut {
                    socket: None,
                    address,
                };
                self.kind = Kind::Shut {
                    socket: bound(address).ok(),
                    address,
                };
            }
            Kind::Shut { .. } => {}
            Kind::Memory(door) => door.shut(true),
        }
    }

    fn open(&mut self) -> io::Result<()> {
        match &mut self.kind {
            Kind::Tcp { .. } => {}
            Kind::Shut { socket, address } => {
                let address = *address;
                let socket = match socket.take() {
                    Some(socket) => socket,
                    None => bound(address)?,
                };
                let listener = socket.listen(BACKLOG)?;
                self.kind = Kind::Tcp { listener, address };
            }
            Kind::Memory(door) => door.shut(false),
        }
        self.until = None;
        Ok(())
    }

    /// The next connection. An accept can fail for want of file descriptors, and will again until somebody
    /// gives one back; it is tried again until then. Cancel safe.
    pub(super) async fn accept(&mut self) -> Pipe {
        const AGAIN: Duration = Duration::from_millis(10);
        loop {
            if let Some(until) = self.until {
                sleep_until(until).await;
                if self.open().is_err() {
                    sleep(AGAIN).await;
                }
                continue;
            }
            match &mut self.kind {
                Kind::Tcp { listener, .. } => match listener.accept().await {
                    Ok((stream, _)) => {
                        let _ = stream.set_nodelay(true);
                        return Pipe::new(Carrier::Tcp(stream));
                    }
                    Err(_) => sleep(AGAIN).await,
                },
                Kind::Memory(door) => return Pipe::new(Carrier::Memory(door.accept().await)),
                // Only with `until`, which has been looked at.
                Kind::Shut { .. } => self.until = Some(Instant::now()),
            }
        }
    }
}

/// A socket that has the port and does not listen.
fn bound(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    // Connections that came in before still have the port.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

/// Shuts a server's door from elsewhere.
#[derive(Debug, Clone)]
pub(super) struct Shutter(mpsc::Sender<Shut>);

/// For how long, and whom to tell that it is done.
pub(super) type Shut = (Duration, oneshot::Sender<()>);

impl Shutter {
    pub(super) fn new() -> (Self, mpsc::Receiver<Shut>) {
        let (shutter, orders) = mpsc::channel(16);
        (Self(shutter), orders)
    }

    /// Has the door refuse for so long, and returns when it does.
    pub(super) async fn shut(&self, time: Duration) {
        let (done, shut) = oneshot::channel();
        if self.0.send((time, done)).await.is_ok() {
            // A server that stops refuses anyway.
            let _ = shut.await;
        }
    }
}
