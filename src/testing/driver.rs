//! The task of one scripted connection: plays the steps, obeys the test, reads all the time.
//!
//! A file of its own because it alone owns the socket of a [`super::ScriptedServer`]'s connection.
//!
//! Invariants: whatever the driver waits for, it reads meanwhile and obeys orders; a silent
//! connection does neither; the end is written to the journal exactly once, also when the task is
//! ended from outside.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use rustls::ServerConfig;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::{Error, Message};

use super::connection::{Order, ServerConnection, Told};
use super::handshake::{UpgradeRequest, finish, shake};
use super::matcher::Matcher;
use super::script::{Script, ScriptFailure, Step};
use super::server::{ReceivedKind, Shared};
use super::stream::{Pipe, ServerStream};

/// Serves connection `id` from the accepted socket to its end.
pub(super) async fn serve(
    shared: Arc<Shared>,
    id: u64,
    pipe: Pipe,
    tls: Option<Arc<ServerConfig>>,
    script: Script,
) {
    let mut ended = Ended {
        shared: Arc::clone(&shared),
        id,
        open: false,
        error: None,
    };
    let seen = |request: &UpgradeRequest| shared.write(id, ReceivedKind::Upgrade(request.clone()));
    let path = shared.path.as_deref();
    let (socket, request) = match shake(pipe, tls, script.handshake, path, seen).await {
        Ok(Some(open)) => open,
        Ok(None) => return,
        Err(error) => {
            ended.error = Some(error.to_string());
            return;
        }
    };
    shared.open.fetch_add(1, Ordering::SeqCst);
    ended.open = true;
    let (orders, told) = mpsc::channel(64);
    shared.register(id, orders.clone());
    // If nobody takes connections, the script alone serves this one.
    let _ = shared.arrivals.try_send(ServerConnection {
        id,
        request,
        orders,
        journal: Arc::clone(&shared.journal),
        cursor: 0,
        patience: shared.patience,
    });
    let mut driver = Driver {
        shared,
        id,
        socket,
        told,
        obeying: true,
        unmatched: VecDeque::new(),
        matched: String::new(),
        closed: false,
    };
    let end = match driver.play(&script.steps).await {
        Ok(()) => driver.pump(None, |_| false).await.err(),
        Err(end) => Some(end),
    };
    match end.unwrap_or(End::HangUp) {
        End::HangUp => finish(driver.into_stream()).await,
        End::Gone(error) => ended.error = error,
        End::Reset => driver.into_stream().reset(),
        End::Silent => {
            // What still waits here is dropped, and so refused.
            let Driver { socket, told, .. } = driver;
            drop(told);
            socket.get_ref().pipe().silence().await;
        }
    }
}

/// Writes the end to the journal when it is dropped, in whatever way that comes about.
struct Ended {
    shared: Arc<Shared>,
    id: u64,
    /// Whether the connection had been opened and counted.
    open: bool,
    error: Option<String>,
}

impl Drop for Ended {
    fn drop(&mut self) {
        if self.open {
            self.shared.unregister(self.id);
            self.shared.open.fetch_sub(1, Ordering::SeqCst);
        }
        let error = self.error.take();
        self.shared.write(self.id, ReceivedKind::Ended { error });
    }
}

/// How the driver's work is over.
enum End {
    /// TCP is closed.
    HangUp,
    /// The client ended the connection, perhaps by an error.
    Gone(Option<String>),
    /// TCP is reset.
    Reset,
    /// Nothing is read or written any more.
    Silent,
}

struct Driver {
    shared: Arc<Shared>,
    id: u64,
    socket: WebSocketStream<ServerStream>,
    told: mpsc::Receiver<Told>,
    /// Whether the test still holds a handle.
    obeying: bool,
    /// Text messages no step has looked at; the oldest go first.
    unmatched: VecDeque<String>,
    /// What `Reply` answers.
    matched: String,
    /// Whether a close frame was received.
    closed: bool,
}

/// How many text messages wait for a step to look at them.
const MOST_UNMATCHED: usize = 65_536;

/// How long a client may take to read what is written to it.
const WRITE_LIMIT: Duration = Duration::from_secs(10);

impl Driver {
    async fn play(&mut self, steps: &[Step]) -> Result<(), End> {
        for step in steps {
            self.play_one(step).await?;
        }
        Ok(())
    }

    async fn play_one(&mut self, step: &Step) -> Result<(), End> {
        match step {
            Step::Expect(matcher) => {
                let found = self.next_text().await?;
                if !matcher.matches(&found) {
                    return Err(self.fail(matcher, found).await);
                }
                self.matched = found;
            }
            Step::Await(matcher) => loop {
                let found = self.next_text().await?;
                if matcher.matches(&found) {
                    self.matched = found;
                    return Ok(());
                }
            },
            Step::AwaitClose => {
                if !self.closed {
                    self.pump(None, |driver| driver.closed).await?;
                }
            }
            Step::Send(text) => self.send(Message::text(text.clone())).await?,
            Step::SendBinary(bytes) => self.send(Message::Binary(bytes.clone())).await?,
            Step::Ping(payload) => self.send(Message::Ping(payload.clone())).await?,
            Step::Pong(payload) => self.send(Message::Pong(payload.clone())).await?,
            Step::Reply(result) => self.reply("result", result.clone()).await?,
            Step::ReplyError { code, message } => {
                let error = json!({ "code": code, "message": message });
                self.reply("error", error).await?;
            }
            Step::Answer(responder) => {
                if let Some(answer) = responder.answer(&self.matched) {
                    self.send(Message::text(answer)).await?;
                }
            }
            Step::Raw(bytes) => self.raw(bytes).await?,
            Step::Slow { bytes, every } => {
                let pipe = self.socket.get_mut().pipe_mut();
                pipe.inbound.pace(*bytes, *every);
                pipe.outbound.pace(*bytes, *every);
            }
            Step::ResetAfter(bytes) => {
                let pipe = self.socket.get_mut().pipe_mut();
                pipe.outbound.cut_after(*bytes);
                self.uncut()?;
            }
            Step::Echo => loop {
                let text = self.next_text().await?;
                self.send(Message::text(text)).await?;
            },
            Step::Respond(responder) => loop {
                let text = self.next_text().await?;
                if let Some(answer) = responder.answer(&text) {
                    self.send(Message::text(answer)).await?;
                }
            },
            Step::Wait(time) => {
                let until = Instant::now() + *time;
                self.pump(Some(until), |_| false).await?;
            }
            Step::Repeat(times, steps) => {
                for _ in 0..*times {
                    Box::pin(self.play(steps)).await?;
                }
            }
            Step::Close { code, reason } => return Err(self.close(*code, reason.clone()).await),
            Step::HangUp => return Err(End::HangUp),
            Step::Reset => return Err(End::Reset),
            Step::GoSilent => return Err(End::Silent),
        }
        Ok(())
    }

    async fn next_text(&mut self) -> Result<String, End> {
        loop {
            if let Some(text) = self.unmatched.pop_front() {
                return Ok(text);
            }
            self.pump(None, |driver| !driver.unmatched.is_empty())
                .await?;
        }
    }

    /// Reads and obeys until `until`, or until `enough` says so after something was read.
    async fn pump(
        &mut self,
        until: Option<Instant>,
        enough: impl Fn(&Self) -> bool,
    ) -> Result<(), End> {
        // Without a deadline the timer is set and never looked at.
        let deadline = until.unwrap_or_else(Instant::now);
        loop {
            tokio::select! {
                told = self.told.recv(), if self.obeying => match told {
                    Some((order, done)) => {
                        let obeyed = self.obey(order).await;
                        let _ = done.send(());
                        obeyed?;
                    }
                    None => self.obeying = false,
                },
                message = self.socket.next() => {
                    self.receive(message).await?;
                    if enough(self) {
                        return Ok(());
                    }
                }
                () = sleep_until(deadline), if until.is_some() => return Ok(()),
            }
        }
    }

    async fn obey(&mut self, order: Order) -> Result<(), End> {
        match order {
            Order::Send(message) => self.send(message).await,
            Order::Raw(bytes) => self.raw(&bytes).await,
            Order::Close { code, reason } => Err(self.close(code, reason).await),
            Order::HangUp => Err(End::HangUp),
            Order::Reset => Err(End::Reset),
            Order::GoSilent => Err(End::Silent),
        }
    }

    async fn receive(&mut self, message: Option<Result<Message, Error>>) -> Result<(), End> {
        let message = match message {
            Some(Ok(message)) => message,
            None | Some(Err(Error::ConnectionClosed)) => return Err(End::Gone(None)),
            Some(Err(error)) => return Err(self.gone(&error)),
        };
        let kind = match message {
            Message::Text(text) => {
                if self.unmatched.len() == MOST_UNMATCHED {
                    self.unmatched.pop_front();
                }
                self.unmatched.push_back(text.as_str().to_owned());
                ReceivedKind::Text(text.as_str().to_owned())
            }
            Message::Binary(bytes) => ReceivedKind::Binary(bytes),
            Message::Ping(payload) => ReceivedKind::Ping(payload),
            Message::Pong(payload) => ReceivedKind::Pong(payload),
            Message::Close(frame) => {
                self.closed = true;
                ReceivedKind::Close {
                    code: frame.as_ref().map(|frame| frame.code.into()),
                    reason: frame.map_or_else(String::new, |frame| frame.reason.as_str().into()),
                }
            }
            // Only a write of raw frames makes one.
            Message::Frame(_) => return Ok(()),
        };
        self.shared.write(self.id, kind);
        Ok(())
    }

    async fn send(&mut self, message: Message) -> Result<(), End> {
        match timeout(WRITE_LIMIT, self.socket.send(message)).await {
            Ok(Ok(())) => self.uncut(),
            Ok(Err(error)) => Err(self.gone(&error)),
            Err(_) => Err(End::Gone(Some("the client does not read".to_owned()))),
        }
    }

    /// An error of the connection, unless our own cut was its cause.
    fn gone(&self, error: &dyn std::error::Error) -> End {
        let gone = |()| End::Gone(Some(error.to_string()));
        self.uncut().map_or_else(|end| end, gone)
    }

    fn uncut(&self) -> Result<(), End> {
        match self.socket.get_ref().pipe().is_cut() {
            true => Err(End::Reset),
            false => Ok(()),
        }
    }

    async fn raw(&mut self, bytes: &[u8]) -> Result<(), End> {
        let stream = self.socket.get_mut();
        let write = async {
            stream.write_all(bytes).await?;
            stream.flush().await
        };
        match timeout(WRITE_LIMIT, write).await {
            Ok(Ok(())) => self.uncut(),
            Ok(Err(error)) => Err(self.gone(&error)),
            Err(_) => Err(End::Gone(Some("the client does not read".to_owned()))),
        }
    }

    async fn reply(&mut self, member: &str, value: Value) -> Result<(), End> {
        let id = serde_json::from_str::<Value>(&self.matched)
            .ok()
            .and_then(|request| request.get("id").cloned());
        let answer = json!({ "jsonrpc": "2.0", "id": id, member: value });
        self.send(Message::text(answer.to_string())).await
    }

    async fn fail(&mut self, matcher: &Matcher, found: String) -> End {
        let failure = ScriptFailure {
            connection: self.id,
            expected: format!("{matcher:?}"),
            found,
        };
        let failures = &self.shared.failures;
        failures
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(failure);
        self.close(1011, "another message was expected".to_owned())
            .await
    }

    /// The closing handshake from our side (RFC 6455, section 7.1.2).
    async fn close(&mut self, code: u16, reason: String) -> End {
        const ANSWER_LIMIT: Duration = Duration::from_secs(2);
        close_frame(&mut self.socket, code, &reason).await;
        let shaken = async {
            while !self.closed {
                let message = self.socket.next().await;
                if self.receive(message).await.is_err() {
                    break;
                }
            }
            let _ = self.socket.get_mut().shutdown().await;
        };
        let _ = timeout(ANSWER_LIMIT, shaken).await;
        End::HangUp
    }

    fn into_stream(self) -> ServerStream {
        self.socket.into_inner()
    }
}

/// Sends a close frame. A code that RFC 6455 forbids on the wire is sent all the same.
pub(super) async fn close_frame(
    socket: &mut WebSocketStream<ServerStream>,
    code: u16,
    reason: &str,
) {
    let frame = CloseFrame {
        code: code.into(),
        reason: reason.to_owned().into(),
    };
    let allowed = frame.code.is_allowed();
    let send = async {
        if allowed {
            let _ = socket.close(Some(frame)).await;
        } else {
            let reason = &reason.as_bytes()[..reason.len().min(123)];
            let length = u8::try_from(reason.len() + 2).unwrap_or(125);
            let mut bytes = vec![0x88, length];
            bytes.extend_from_slice(&code.to_be_bytes());
            bytes.extend_from_slice(reason);
            let stream = socket.get_mut();
            let _ = stream.write_all(&bytes).await;
            let _ = stream.flush().await;
        }
    };
    let _ = timeout(WRITE_LIMIT, send).await;
}
