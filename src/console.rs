//! A running program shows itself: its sessions, pools and trees, to `mainstay-console` over a local socket.
//!
//! Nothing listens until the program asks for it by [`serve`], and whoever looks may only look, unless the
//! program's [`Permissions`] say more. On Unix the socket is a file that only its user may open; elsewhere, or
//! where wished, it is a port of the loopback, which every user of the machine can reach.
//!
//! ```no_run
//! use mainstay::console::{self, Permissions};
//! use mainstay::inspect::Inspector;
//! # async fn run(session: mainstay::Session) -> Result<(), Box<dyn std::error::Error>> {
//! let what = Inspector::new().session("main", &session);
//! let path = std::path::Path::new("/run/user/1000/feed.sock");
//! let console = console::serve(path, what, Permissions::look().reconnect()).await?;
//! // … until `console` is dropped; meanwhile: mainstay-console --attach /run/user/1000/feed.sock
//! # Ok(())
//! # }
//! ```
//!
//! # The protocol, version 1
//!
//! JSON in lines (RFC 8259 in UTF-8, a line feed after each), for other programs to speak, too. The server begins:
//!
//! ```json
//! {"type":"hello","protocol":"mainstay-console","version":1,"program":"feed","process":4711,"reconnect":true,"kill":false}
//! ```
//!
//! Then each line of the client's is answered by one of the server's, in order; `id` is the client's choice.
//!
//! | request | answer |
//! |---|---|
//! | `{"type":"inspect","id":1}` | `{"type":"inspection","id":1,"inspection":{…}}`, as [`Inspection::to_json`](crate::Inspection::to_json) |
//! | `{"type":"reconnect","id":2,"session":"main"}` | `{"type":"done","id":2,"detail":"…"}` or `refused` |
//! | `{"type":"kill","id":3,"actor":"0.17"}` | the same; the actor is one of a tree in the inspection |
//! | anything else | `{"type":"refused","id":null,"reason":"…"}` |
//!
//! Unknown fields are ignored on both sides; a change that breaks a reader raises the version.
//!
//! # Invariants
//!
//! A client's line has at most [`LINE`] bytes, or the connection ends; at most [`CLIENTS`] are served at once; one
//! that reads too slowly, or says nothing for a minute, is let go of; no session waits for a client. Dropping
//! the [`Console`] ends all of it and removes the socket's file.

mod client;
mod control;
mod place;
mod wire;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::error::{Category, Entry, Recovery, explained, told_with_causes};
use crate::inspect::Inspector;
use crate::session::task::OwnedTask;
pub use place::Place;
use place::{Bound, Stream};

/// The longest line that a client may send, in bytes.
pub const LINE: usize = 4096;
/// How many clients are served at once.
pub const CLIENTS: usize = 8;
/// The version of the protocol.
pub const VERSION: u32 = 1;
/// How long a client may take to read an answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long a client may say nothing.
const IDLE: Duration = Duration::from_secs(60);
/// The pause after an accept that failed, as it does while there are no file descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// What whoever attaches may do beside looking.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Permissions {
    /// Have a session reconnect.
    pub reconnect: bool,
    /// Kill an actor, which its supervisor then sees to.
    pub kill: bool,
}

impl Permissions {
    /// Nothing beside looking.
    #[must_use]
    pub fn look() -> Self {
        Self::default()
    }

    /// Also to have a session reconnect.
    #[must_use]
    pub fn reconnect(self) -> Self {
        Self {
            reconnect: true,
            ..self
        }
    }

    /// Also to kill actors.
    #[must_use]
    pub fn kill(self) -> Self {
        Self { kill: true, ..self }
    }
}

/// Why a program could not be shown.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// Somebody serves there already.
    #[error("{place} is served by a running program; choose another path, or end that program")]
    InUse {
        /// Where.
        place: String,
    },
    /// Something else than a socket stands there.
    #[error("{} is there and is no socket; remove it or choose another path", path.display())]
    Occupied {
        /// Where.
        path: PathBuf,
    },
    /// The address can be reached from other machines.
    #[error("{address} is not on the loopback; use 127.0.0.1 or ::1")]
    NotLoopback {
        /// Which.
        address: SocketAddr,
    },
    /// There are no such sockets here.
    #[error("this system has no sockets in files; give a loopback address in place of {}", path.display())]
    NoFiles {
        /// Which.
        path: PathBuf,
    },
    /// The system refused.
    #[error("could not listen at {place}")]
    Io {
        /// Where.
        place: String,
        /// What it said.
        source: io::Error,
    },
}

impl ServeError {
    /// What to do about it.
    #[must_use]
    pub fn recovery(&self) -> Recovery {
        Recovery::Stop
    }

    fn entry(&self) -> Entry {
        match self {
            Self::InUse { .. }
            | Self::Occupied { .. }
            | Self::NotLoopback { .. }
            | Self::NoFiles { .. } => Entry::new(
                "console-place",
                Category::Configuration,
                "choose a file of your own that is not there yet, or a loopback address",
            ),
            Self::Io { .. } => Entry::new(
                "console-io",
                Category::Configuration,
                "read the cause; look at the folder's owner, or choose another place",
            ),
        }
    }
}

explained!(ServeError);
told_with_causes!(ServeError);

/// A program that shows itself. Dropping it stops that and removes the socket's file.
pub struct Console {
    // Before the file: nobody is accepted when that has gone.
    _task: OwnedTask,
    bound: Bound,
}

impl Console {
    /// Where it can be reached; with the port, if the system chose one.
    #[must_use]
    pub fn place(&self) -> &Place {
        self.bound.place()
    }
}

impl fmt::Debug for Console {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Console")
            .field("place", self.place())
            .finish_non_exhaustive()
    }
}

/// Shows `what` to whoever attaches at `place`, until the [`Console`] is dropped. A socket's file that a dead program
/// left behind is replaced.
///
/// # Errors
///
/// [`ServeError`] says what to do about it.
///
/// # Panics
///
/// Outside a tokio runtime with IO.
pub async fn serve(
    place: impl Into<Place>,
    what: Inspector,
    permissions: Permissions,
) -> Result<Console, ServeError> {
    let (bound, listener) = place::bind(place.into()).await?;
    let server = Arc::new(client::Server { what, permissions });
    let task = OwnedTask::spawn(async move {
        let seats = Arc::new(Semaphore::new(CLIENTS));
        // Its drop ends every client with the server.
        let mut clients = JoinSet::new();
        loop {
            tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok(stream) => attend(stream, &seats, &server, &mut clients),
                    Err(_) => tokio::time::sleep(PAUSE).await,
                },
                Some(_) = clients.join_next() => {}
            }
        }
    });
    Ok(Console { _task: task, bound })
}

fn attend(
    stream: Stream,
    seats: &Arc<Semaphore>,
    server: &Arc<client::Server>,
    clients: &mut JoinSet<()>,
) {
    let Ok(seat) = Arc::clone(seats).try_acquire_owned() else {
        // Dropped unanswered: a crowd may not make us wait for it.
        return;
    };
    let server = Arc::clone(server);
    clients.spawn(async move {
        let _seat = seat;
        match stream {
            #[cfg(unix)]
            Stream::File(stream) => server.attend(stream).await,
            Stream::Loopback(stream) => server.attend(stream).await,
        }
    });
}
