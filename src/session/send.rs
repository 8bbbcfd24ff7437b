//! What a user sends beside requests: text, binary, JSON, notifications, and pings that wait for their pong.
//!
//! Apart from the handle because each is a frame with a name, and because a pong needs somebody who
//! remembers its ping.
//!
//! Invariants: nothing is written twice; a ping is answered by the pong with its payload, by a later ping's,
//! or by nothing, and then its deadline says so.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde::Serialize;
use tokio::sync::oneshot;
use tokio::time::timeout_at;

use super::clock::from_now;
use super::request::{self, Way};
use super::{Session, plane::Plane};
use crate::error::{RequestError, UnknownCause};
use crate::frame::{Frame, Utf8Bytes};
use crate::protocol::call::Call;
use crate::protocol::{json, json_rpc};

impl Session {
    /// Sends a text frame and waits until it has been written.
    ///
    /// # Errors
    ///
    /// As [`Session::send`], cancel safety included.
    pub async fn send_text(&self, text: impl Into<Utf8Bytes>) -> Result<(), RequestError> {
        self.send(Frame::text(text)).await
    }

    /// Sends a binary frame and waits until it has been written.
    ///
    /// # Errors
    ///
    /// As [`Session::send`], cancel safety included.
    pub async fn send_binary(&self, bytes: impl Into<Bytes>) -> Result<(), RequestError> {
        self.send(Frame::Binary(bytes.into())).await
    }

    /// Sends anything that serializes as JSON in a text frame, as it is: no id, no envelope.
    ///
    /// # Errors
    ///
    /// As [`Session::send`], cancel safety included; [`RequestError::Unencodable`] if it is no JSON.
    pub async fn send_json(&self, value: &impl Serialize) -> Result<(), RequestError> {
        let text = json::text(value).map_err(|detail| {
            self.failed_request(RequestError::Unencodable {
                method: "json".to_owned(),
                detail,
            })
        })?;
        self.send_text(text).await
    }

    /// Sends a JSON-RPC 2.0 notification (section 4.1), which nobody answers, and waits until it has been
    /// written.
    ///
    /// # Errors
    ///
    /// As [`Session::send`], cancel safety included; [`RequestError::Unencodable`] if `params` are no JSON.
    pub async fn notify(
        &self,
        method: impl Into<std::borrow::Cow<'static, str>>,
        params: &impl Serialize,
    ) -> Result<(), RequestError> {
        let call = Call::new(method, params).map_err(|error| self.failed_request(error))?;
        self.send_text(json_rpc::notification(call.method(), call.params()))
            .await
    }

    /// Sends a ping (RFC 6455, section 5.5.2) and waits for its pong, at most `limit`. Returns the round trip
    /// from the moment at which it was handed to the socket. The payload is at most 125 bytes.
    ///
    /// A peer may leave out the pongs of all but the latest ping (section 5.5.3); a later ping's pong
    /// therefore answers the earlier ones of this method, too.
    ///
    /// # Errors
    ///
    /// [`RequestError::Unknown`] if the pong did not come in time or the connection ended first;
    /// [`RequestError::NotSent`] and [`RequestError::Unencodable`] as for [`Session::send`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future withdraws a ping that has not been written and forgets one that has.
    pub async fn ping(
        &self,
        payload: impl Into<Bytes>,
        limit: Duration,
    ) -> Result<Duration, RequestError> {
        let answered = self.try_ping(payload.into(), limit).await;
        answered.map_err(|error| self.failed_request(error))
    }

    async fn try_ping(&self, payload: Bytes, limit: Duration) -> Result<Duration, RequestError> {
        let method = || "ping".to_owned();
        let frame = Frame::Ping(payload.clone());
        frame.check().map_err(|detail| RequestError::Unencodable {
            method: method(),
            detail,
        })?;
        let deadline = from_now(limit);
        let plane = &self.shared.plane;
        let line = self.line_when_live(payload.len(), deadline).await;
        let line = line.map_err(|kept| kept.of(method()))?;
        let (entry, pong) = Expected::register(plane, payload);
        request::send(plane, Way::Line(&line), frame, limit, deadline).await?;
        let answer = timeout_at(deadline, pong).await;
        drop(entry);
        let cause = match answer {
            Ok(Ok(time)) => return Ok(time),
            Ok(Err(_)) => UnknownCause::ConnectionLost(request::last_reason(plane)),
            Err(_) => UnknownCause::Deadline { limit, turn: None },
        };
        Err(RequestError::Unknown {
            method: method(),
            cause,
        })
    }
}

/// The pings of the user that wait for a pong, in the order in which they were asked for.
#[derive(Debug, Default)]
pub(crate) struct Pings {
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    serial: u64,
    pings: Vec<Ping>,
}

#[derive(Debug)]
struct Ping {
    serial: u64,
    payload: Bytes,
    /// Set when it is handed to the socket.
    written: Option<Instant>,
    sender: oneshot::Sender<Duration>,
}

impl Pings {
    /// A ping with this payload is handed to the socket.
    pub(crate) fn written(&self, payload: &[u8], now: Instant) {
        let mut waiting = self.lock();
        let mut pings = waiting.pings.iter_mut();
        if let Some(ping) = pings.find(|ping| ping.written.is_none() && ping.payload == payload) {
            ping.written = Some(now);
        }
    }

    /// A pong came: it answers its ping and every earlier one.
    pub(crate) fn pong(&self, payload: &[u8], now: Instant) {
        let mut waiting = self.lock();
        let matches = |ping: &Ping| ping.written.is_some() && ping.payload == payload;
        let Some(until) = waiting
            .pings
            .iter()
            .find(|ping| matches(ping))
            .and_then(|ping| ping.written)
        else {
            return;
        };
        let pings = std::mem::take(&mut waiting.pings);
        for ping in pings {
            match ping.written {
                Some(written) if written <= until => {
                    // A caller that has gone away does not want to know.
                    let _ = ping.sender.send(now.saturating_duration_since(written));
                }
                Some(_) | None => waiting.pings.push(ping),
            }
        }
    }

    /// The connection ended: what was written on it will not be answered.
    pub(crate) fn lose(&self) {
        self.lock().pings.retain(|ping| ping.written.is_none());
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A ping's place among those that wait; given back when dropped.
struct Expected<'p> {
    plane: &'p Plane,
    serial: u64,
}

impl<'p> Expected<'p> {
    fn register(plane: &'p Plane, payload: Bytes) -> (Self, oneshot::Receiver<Duration>) {
        let (sender, receiver) = oneshot::channel();
        let mut waiting = plane.pings.lock();
        waiting.serial += 1;
        let serial = waiting.serial;
        waiting.pings.push(Ping {
            serial,
            payload,
            written: None,
            sender,
        });
        (Self { plane, serial }, receiver)
    }
}

impl Drop for Expected<'_> {
    fn drop(&mut self) {
        let mut waiting = self.plane.pings.lock();
        waiting.pings.retain(|ping| ping.serial != self.serial);
    }
}
