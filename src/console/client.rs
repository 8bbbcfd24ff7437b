//! One who looks: reads requests, answers them one by one.
//!
//! Apart from the listener because it is the same over a file's socket and over the loopback.
//!
//! Invariants: a line is bounded while it is read; an answer that is not read in time ends the connection; nothing
//! that is sent here panics.

use std::io;
use std::time::Duration;

use serde::Serialize;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::time::timeout;

use super::control;
use super::wire::{Answer, Request};
use super::{IDLE, LINE, PATIENCE, Permissions, VERSION};
use crate::inspect::Inspector;

/// How long a reconnect is waited for before it is said to have begun.
const SOON: Duration = Duration::from_secs(1);

/// What is shown to everybody who attaches.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) what: Inspector,
    pub(super) permissions: Permissions,
}

impl Server {
    /// Serves one client to its end, whichever it is.
    pub(super) async fn attend(&self, stream: impl AsyncRead + AsyncWrite) {
        let (reader, mut writer) = tokio::io::split(stream);
        let mut reader = BufReader::new(reader);
        // Whoever leaves, or reads too slowly, leaves nothing to be done.
        let _ = self.converse(&mut reader, &mut writer).await;
    }

    async fn converse(
        &self,
        reader: &mut BufReader<impl AsyncRead + Unpin>,
        writer: &mut (impl AsyncWrite + Unpin),
    ) -> io::Result<()> {
        write(writer, &self.hello()).await?;
        let mut line = Vec::new();
        loop {
            line.clear();
            let mut bounded = (&mut *reader).take(LINE as u64 + 1);
            let read = timeout(IDLE, bounded.read_until(b'\n', &mut line)).await;
            let read = read.map_err(|_| io::ErrorKind::TimedOut)??;
            if read == 0 {
                return Ok(());
            }
            if line.len() > LINE {
                let reason = format!("a line has at most {LINE} bytes");
                return write(writer, &Answer::Refused { id: None, reason }).await;
            }
            self.answer(&line, writer).await?;
        }
    }

    async fn answer(&self, line: &[u8], writer: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
        let request = match serde_json::from_slice(line) {
            Ok(request) => request,
            Err(error) => {
                let reason = format!("not a request: {error}");
                return write(writer, &Answer::Refused { id: None, reason }).await;
            }
        };
        let (id, outcome) = match request {
            Request::Inspect { id } => {
                let inspection = self.what.inspect().await;
                let inspection = &inspection;
                return write(writer, &Answer::Inspection { id, inspection }).await;
            }
            Request::Reconnect { id, session } => (id, self.reconnect(&session).await),
            Request::Kill { id, actor } => (id, self.kill(&actor).await),
        };
        let answer = match outcome {
            Ok(detail) => Answer::Done { id, detail },
            Err(reason) => Answer::Refused {
                id: Some(id),
                reason,
            },
        };
        write(writer, &answer).await
    }

    fn hello(&self) -> Answer<'static> {
        let program = std::env::current_exe().ok();
        let program = program.as_deref().and_then(|path| path.file_stem());
        Answer::Hello {
            protocol: "mainstay-console",
            version: VERSION,
            program: program.map_or_else(String::new, |name| name.to_string_lossy().into_owned()),
            process: std::process::id(),
            reconnect: self.permissions.reconnect,
            kill: self.permissions.kill,
        }
    }

    async fn reconnect(&self, id: &str) -> Result<String, String> {
        if !self.permissions.reconnect {
            return Err("the program does not allow to reconnect".to_owned());
        }
        let session = self
            .what
            .find(id)
            .ok_or_else(|| format!("no session {id:?}"))?;
        match timeout(SOON, session.reconnect()).await {
            Ok(Ok(epoch)) => Ok(format!("live in epoch {epoch}")),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Ok("begun".to_owned()),
        }
    }

    async fn kill(&self, actor: &str) -> Result<String, String> {
        if !self.permissions.kill {
            return Err("the program does not allow to kill".to_owned());
        }
        for tree in self.what.supervisors() {
            if let Some(cell) = control::find(&tree, actor).await {
                cell.kill();
                return Ok("killed".to_owned());
            }
        }
        Err(format!("no actor {actor:?}; it may have been replaced"))
    }
}

async fn write(writer: &mut (impl AsyncWrite + Unpin), answer: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(answer)?;
    line.push(b'\n');
    let written = timeout(PATIENCE, async {
        writer.write_all(&line).await?;
        writer.flush().await
    });
    written.await.map_err(|_| io::ErrorKind::TimedOut)?
}
