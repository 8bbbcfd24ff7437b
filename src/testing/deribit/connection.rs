//! The task of one connection to the simulated venue: the socket below a `session`.
//!
//! A file of its own because it does all input and output and decides nothing.
//!
//! Invariants: what the session asks for is done in its order; a client that does not read is cut
//! after the write limit, one that falls too many ticks behind as too slow; a silent connection reads
//! and writes nothing until its client or the simulator ends.

use std::collections::VecDeque;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use rustls::ServerConfig;
use tokio::io::AsyncWriteExt;
use tokio::sync::broadcast;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

use super::session::{Action, End, Session};
use super::shared::Shared;
use crate::testing::driver::close_frame;
use crate::testing::handshake::{finish, shake};
use crate::testing::stream::{Pipe, ServerStream};

/// Serves connection `id` from the accepted socket to its end.
pub(super) async fn serve(
    shared: Arc<Shared>,
    id: u64,
    pipe: Pipe,
    tls: Option<Arc<ServerConfig>>,
) {
    let handshake = shared.next_handshake();
    let Ok(Some((socket, _))) = shake(pipe, tls, handshake, None, |_| ()).await else {
        return;
    };
    let mut faults = shared.enter(id);
    let mut ticks = shared.ticks();
    // From here on the session's end is the connection's: it leaves the list when dropped.
    let mut session = Session::new(id, Arc::clone(&shared), Instant::now());
    let mut wire = Wire {
        socket,
        later: VecDeque::new(),
        limit: shared.settings.write_limit,
    };
    let end = loop {
        let wake = session
            .next_timeout()
            .min(wire.next_timeout(session.next_timeout()));
        let actions = tokio::select! {
            message = wire.socket.next() => match message {
                Some(Ok(Message::Text(text))) => {
                    // What was injected before a request came is in force when it is judged.
                    let mut actions = Vec::new();
                    while let Ok(fault) = faults.try_recv() {
                        actions.extend(session.on_fault(fault, Instant::now()));
                    }
                    actions.extend(session.on_text(&text, Instant::now()));
                    actions
                }
                Some(Ok(Message::Close(_))) => {
                    // The answer is queued already.
                    let _ = timeout(wire.limit, wire.socket.flush()).await;
                    Vec::new()
                }
                Some(Ok(_)) => {
                    session.on_received(Instant::now());
                    Vec::new()
                }
                Some(Err(_)) | None => break End::HangUp,
            },
            tick = ticks.recv() => match tick {
                Ok(tick) => session.on_tick(&tick, Instant::now()),
                Err(broadcast::error::RecvError::Lagged(_)) => {
                    let reason = "connection_too_slow".to_owned();
                    vec![Action::End(End::Close { code: 1008, reason })]
                }
                Err(broadcast::error::RecvError::Closed) => break End::HangUp,
            },
            // The list holds the sender as long as the session lives.
            Some(fault) = faults.recv() => session.on_fault(fault, Instant::now()),
            () = sleep_until(wake) => session.on_timeout(Instant::now()),
        };
        match wire.carry_out(actions).await {
            Ok(()) => {}
            Err(end) => break end,
        }
    };
    if let End::Silent = end {
        return wire.socket.get_ref().pipe().silence().await;
    }
    // For the venue it is over now, however long the client takes to notice.
    drop(session);
    match end {
        End::HangUp => finish(wire.socket.into_inner()).await,
        End::Reset => wire.socket.into_inner().reset(),
        End::Close { code, reason } => wire.close(code, &reason).await,
        End::Silent => {}
    }
}

struct Wire {
    socket: WebSocketStream<ServerStream>,
    /// Messages that are sent later, the first to be sent first.
    later: VecDeque<(Instant, String)>,
    limit: Duration,
}

impl Wire {
    fn next_timeout(&self, otherwise: Instant) -> Instant {
        self.later.front().map_or(otherwise, |(at, _)| *at)
    }

    async fn carry_out(&mut self, actions: Vec<Action>) -> Result<(), End> {
        let mut written = false;
        let mut end = None;
        for action in actions {
            match action {
                Action::Send(text) => {
                    self.feed(text).await?;
                    written = true;
                }
                Action::SendAfter(delay, text) => {
                    let at = Instant::now() + delay;
                    let index = self.later.partition_point(|(other, _)| *other <= at);
                    self.later.insert(index, (at, text));
                }
                Action::End(how) => {
                    end = Some(how);
                    break;
                }
            }
        }
        while self
            .later
            .front()
            .is_some_and(|(at, _)| *at <= Instant::now())
        {
            if let Some((_, text)) = self.later.pop_front() {
                self.feed(text).await?;
                written = true;
            }
        }
        if written {
            within(self.limit, self.socket.flush()).await?;
        }
        end.map_or(Ok(()), Err)
    }

    async fn feed(&mut self, text: String) -> Result<(), End> {
        within(self.limit, self.socket.feed(Message::text(text))).await
    }

    /// The closing handshake from our side.
    async fn close(mut self, code: u16, reason: &str) {
        const ANSWER_LIMIT: Duration = Duration::from_secs(2);
        close_frame(&mut self.socket, code, reason).await;
        let answered = async {
            while let Some(Ok(message)) = self.socket.next().await {
                if message.is_close() {
                    break;
                }
            }
            let _ = self.socket.get_mut().shutdown().await;
        };
        let _ = timeout(ANSWER_LIMIT, answered).await;
    }
}

/// A client that does not read is cut as a network would do it.
async fn within<E>(limit: Duration, write: impl Future<Output = Result<(), E>>) -> Result<(), End> {
    match timeout(limit, write).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) => Err(End::HangUp),
        Err(_) => Err(End::Reset),
    }
}
