//! One connection in the hands of a test that plays the server.
//!
//! A file of its own because it is a handle: the socket belongs to the driver's task, which reads
//! all the time, answers pings and keeps the journal, whether or not the test looks.
//!
//! Invariants: an order to the driver returns when it has been carried out; every wait has a
//! deadline; dropping the handle leaves the connection open.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;
use tokio::sync::{mpsc, oneshot};
use tokio_tungstenite::tungstenite::Message;

use super::crowd;
use super::handshake::UpgradeRequest;
use super::journal::{ExpectError, Journal};
use super::matcher::Matcher;
use super::server::{Received, ReceivedKind};

/// The connection has ended; nothing can be sent on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the connection has ended")]
pub struct ConnectionEnded;

/// What the driver is told to do.
#[derive(Debug)]
pub(super) enum Order {
    Send(Message),
    Raw(Bytes),
    Close { code: u16, reason: String },
    HangUp,
    Reset,
    GoSilent,
}

/// An order, and who waits for it to be carried out.
pub(super) type Told = (Order, oneshot::Sender<()>);

/// Where a driver is told.
pub(super) type Driver = mpsc::Sender<Told>;

/// One open connection, seen from the server.
#[derive(Debug)]
pub struct ServerConnection {
    pub(super) id: u64,
    pub(super) request: UpgradeRequest,
    pub(super) orders: Driver,
    pub(super) journal: Arc<Journal<Received>>,
    /// Up to where in the journal this handle has looked.
    pub(super) cursor: u64,
    pub(super) patience: Duration,
}

impl ServerConnection {
    /// Its number at this server, counted from 1 in the order of acceptance.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The request it was opened with.
    #[must_use]
    pub fn request(&self) -> &UpgradeRequest {
        &self.request
    }

    /// The next thing the client did: a message, a control frame, a close frame, the end.
    ///
    /// # Errors
    ///
    /// [`ExpectError`] if nothing came within the server's patience.
    pub async fn recv(&mut self) -> Result<ReceivedKind, ExpectError> {
        self.pick("anything", self.patience, |kind| Some(kind.clone()))
            .await
    }

    /// The next text message; whatever else comes before it is skipped.
    ///
    /// # Errors
    ///
    /// [`ExpectError`] if none came within the server's patience.
    pub async fn recv_text(&mut self) -> Result<String, ExpectError> {
        self.expect_message(Matcher::Any, self.patience).await
    }

    /// The next text message that matches; what comes before it is skipped.
    ///
    /// # Errors
    ///
    /// [`ExpectError`] with what came instead.
    pub async fn expect_message(
        &mut self,
        message: impl Into<Matcher>,
        within: Duration,
    ) -> Result<String, ExpectError> {
        let matcher = message.into();
        self.pick(&format!("{matcher:?}"), within, |kind| match kind {
            ReceivedKind::Text(text) if matcher.matches(text) => Some(text.clone()),
            _ => None,
        })
        .await
    }

    /// The client's close frame: its code, if it had one, and its reason.
    ///
    /// # Errors
    ///
    /// [`ExpectError`] if none came in time.
    pub async fn expect_close(
        &mut self,
        within: Duration,
    ) -> Result<(Option<u16>, String), ExpectError> {
        self.pick("a close frame", within, |kind| match kind {
            ReceivedKind::Close { code, reason } => Some((*code, reason.clone())),
            _ => None,
        })
        .await
    }

    /// The end of the connection, in whatever way.
    ///
    /// # Errors
    ///
    /// [`ExpectError`] if it was still open after `within`.
    pub async fn expect_end(&mut self, within: Duration) -> Result<(), ExpectError> {
        self.pick("the end of the connection", within, |kind| match kind {
            ReceivedKind::Ended { .. } => Some(()),
            _ => None,
        })
        .await
    }

    /// Sends a text message.
    ///
    /// # Errors
    ///
    /// [`ConnectionEnded`], as for every order below.
    pub async fn send_text(&self, text: impl Into<String>) -> Result<(), ConnectionEnded> {
        self.tell(Order::Send(Message::text(text.into()))).await
    }

    /// Sends JSON as a text message.
    ///
    /// # Errors
    ///
    /// [`ConnectionEnded`].
    pub async fn send_json(&self, value: impl Into<Value>) -> Result<(), ConnectionEnded> {
        self.send_text(value.into().to_string()).await
    }

    /// Sends a binary message.
    ///
    /// # Errors
    ///
    /// [`ConnectionEnded`].
    pub async fn send_binary(&self, bytes: impl Into<Bytes>) -> Result<(), ConnectionEnded> {
        self.tell(Order::Send(Message::Binary(bytes.into()))).await
    }

    /// Sends a ping; the client's pong appears in [`ServerConnection::recv`].
    ///
    /// # Errors
    ///
    /// [`ConnectionEnded`].
    pub async fn ping(&self, payload: impl Into<Bytes>) -> Result<(), ConnectionEnded> {
        self.tell(Order::Send(Message::Ping(payload.into()))).await
    }

    /// Sends a pong nobody asked for.
    ///
    /// # Errors
    ///
    /// [`ConnectionEnded`].
    pub async fn pong(&self, payload: impl Into<Bytes>) -> Result<(), ConnectionEnded> {
        self.tell(Order::Send(Message::Pong(payload.into()))).await
    }

    /// Writes bytes below the frames.
    ///
    /// # Errors
    ///
    /// [`ConnectionEnded`].
    pub async fn send_raw(&self, bytes: impl Into<Bytes>) -> Result<(), ConnectionEnded> {
        self.tell(Order::Raw(bytes.into())).await
    }

    /// Sends a close frame, waits up to two seconds for the client's and closes TCP.
    ///
    /// # Errors
    ///
    /// [`ConnectionEnded`].
    pub async fn close(&self, code: u16, reason: impl Into<String>) -> Result<(), ConnectionEnded> {
        let reason = reason.into();
        self.tell(Order::Close { code, reason }).await
    }

    /// Closes TCP without a close frame.
    ///
    /// # Errors
    ///
    /// [`ConnectionEnded`].
    pub async fn hang_up(&self) -> Result<(), ConnectionEnded> {
        self.tell(Order::HangUp).await
    }

    /// Resets TCP.
    ///
    /// # Errors
    ///
    /// [`ConnectionEnded`].
    pub async fn reset(&self) -> Result<(), ConnectionEnded> {
        self.tell(Order::Reset).await
    }

    /// Neither reads nor writes from here on, and keeps the socket open: a half-open connection.
    /// Later orders are refused; the connection ends with the client's end or the server's.
    ///
    /// # Errors
    ///
    /// [`ConnectionEnded`].
    pub async fn go_silent(&self) -> Result<(), ConnectionEnded> {
        self.tell(Order::GoSilent).await
    }

    async fn tell(&self, order: Order) -> Result<(), ConnectionEnded> {
        crowd::tell(&self.orders, order).await
    }

    async fn pick<R>(
        &mut self,
        awaited: &str,
        within: Duration,
        mut pick: impl FnMut(&ReceivedKind) -> Option<R>,
    ) -> Result<R, ExpectError> {
        let id = self.id;
        let picked = self
            .journal
            .next(&mut self.cursor, within, awaited, |entry| {
                match &entry.kind {
                    // The request is known already.
                    ReceivedKind::Accepted | ReceivedKind::Upgrade(_) => None,
                    kind if entry.connection == id => pick(kind),
                    _ => None,
                }
            });
        picked.await
    }
}
