//! All open connections of a server at once: something is injected into them, or they are cut.
//!
//! A file of its own because here a test speaks to the server and not to one connection; who wants one
//! takes it with [`ScriptedServer::next_connection`] or names it by its number.
//!
//! Invariants: connections are served at the same time, so that one that does not read holds up no other;
//! what is counted has been taken up by its connection.

use futures_util::future::join_all;
use tokio::sync::oneshot;
use tokio_tungstenite::tungstenite::Message;

use super::connection::{ConnectionEnded, Driver, Order};
use super::server::ScriptedServer;
use crate::frame::Frame;

/// How a server ends a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Disconnect {
    /// Close code 1000.
    Normal,
    /// Close code 1001, as a server does that shuts down.
    GoingAway,
    /// Any close code, also one that RFC 6455 forbids on the wire, and a reason.
    Code(u16, String),
    /// The end of TCP without a close frame.
    HangUp,
    /// A TCP reset.
    Abrupt,
}

impl Disconnect {
    /// Close code `code` with `reason`.
    pub fn code(code: u16, reason: impl Into<String>) -> Self {
        Self::Code(code, reason.into())
    }

    fn order(self) -> Order {
        let close = |code, reason: &str| Order::Close {
            code,
            reason: reason.to_owned(),
        };
        match self {
            Self::Normal => close(1000, "normal closure"),
            Self::GoingAway => close(1001, "going away"),
            Self::Code(code, reason) => Order::Close { code, reason },
            Self::HangUp => Order::HangUp,
            Self::Abrupt => Order::Reset,
        }
    }
}

impl ScriptedServer {
    /// The numbers of the open connections, the oldest first.
    #[must_use]
    pub fn open_connections(&self) -> Vec<u64> {
        self.shared
            .drivers()
            .into_iter()
            .map(|(id, _)| id)
            .collect()
    }

    /// Sends this frame on every open connection, beside what their scripts do, and returns how many got it.
    /// A close frame begins the closing handshake and ends the connection.
    ///
    /// ```
    /// # use mainstay::{Client, Frame, testing::ScriptedServer};
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
    /// let server = ScriptedServer::mock().await?;
    /// let session = Client::connect(server.url()).await?;
    /// let mut messages = session.messages();
    /// assert_eq!(server.inject(Frame::text("news")).await, 1);
    /// # let event = messages.next().await;
    /// # assert!(event.is_some());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub async fn inject(&self, frame: Frame) -> usize {
        self.everywhere(|| order(frame.clone())).await
    }

    /// Sends this frame on connection `id`.
    ///
    /// # Errors
    ///
    /// [`ConnectionEnded`] if it is not open.
    pub async fn inject_into(&self, id: u64, frame: Frame) -> Result<(), ConnectionEnded> {
        self.one(id, order(frame)).await
    }

    /// Ends every open connection, and returns how many that were. Their scripts end with them; the next
    /// connection is accepted.
    pub async fn disconnect(&self, how: Disconnect) -> usize {
        self.everywhere(|| how.clone().order()).await
    }

    /// Ends connection `id`.
    ///
    /// # Errors
    ///
    /// [`ConnectionEnded`] if it is not open.
    pub async fn disconnect_one(&self, id: u64, how: Disconnect) -> Result<(), ConnectionEnded> {
        self.one(id, how.order()).await
    }

    async fn everywhere(&self, order: impl Fn() -> Order) -> usize {
        let drivers = self.shared.drivers();
        let told = drivers.iter().map(|(_, driver)| tell(driver, order()));
        let told = join_all(told).await;
        told.into_iter().filter(Result::is_ok).count()
    }

    async fn one(&self, id: u64, order: Order) -> Result<(), ConnectionEnded> {
        let drivers = self.shared.drivers();
        match drivers.iter().find(|(number, _)| *number == id) {
            Some((_, driver)) => tell(driver, order).await,
            None => Err(ConnectionEnded),
        }
    }
}

/// Tells a connection's driver what to do and waits until it has done it.
pub(super) async fn tell(driver: &Driver, order: Order) -> Result<(), ConnectionEnded> {
    let (done, carried_out) = oneshot::channel();
    let told = driver.send((order, done)).await;
    told.map_err(|_| ConnectionEnded)?;
    carried_out.await.map_err(|_| ConnectionEnded)
}

fn order(frame: Frame) -> Order {
    Order::Send(match frame {
        Frame::Text(text) => Message::text(text.as_str()),
        Frame::Binary(bytes) => Message::Binary(bytes),
        Frame::Ping(bytes) => Message::Ping(bytes),
        Frame::Pong(bytes) => Message::Pong(bytes),
        Frame::Close(None) => Message::Close(None),
        Frame::Close(Some((code, reason))) => return Order::Close { code, reason },
    })
}
