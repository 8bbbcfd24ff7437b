//! One request on one line, with a deadline, from the caller's side.
//!
//! Apart because callers of three kinds use it: the user's handle, the adapter, and tests.
//!
//! Invariants: it ends as answered, not sent or unknown, at the latest at its deadline; dropping the
//! future withdraws a request that has not been written and forgets one that has.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::error::TrySendError;
use tokio::time::{Instant, timeout_at};

use super::clock;
use super::line::{Fate, Line, Outbound, Reply, ReplyPort};
use super::plane::{Plane, SessionState};
use crate::close::CloseReason;
use crate::error::{RequestError, UnknownCause};
use crate::frame::Frame;
use crate::protocol::call::Call;
use crate::protocol::recording::Mark;

/// Sends `call` on `line` and waits for the raw answer.
pub(crate) async fn perform(
    plane: &Plane,
    line: &Arc<Line>,
    call: Call,
    limit: Duration,
    deadline: Instant,
) -> Result<Frame, RequestError> {
    let method = call.method().to_owned();
    let began = clock::now();
    let (port, fate) = ReplyPort::new();
    let mark = None;
    enqueue(line, Outbound::Request { call, port, mark }, deadline)
        .await
        .map_err(|detail| RequestError::NotSent {
            method: method.clone(),
            detail,
        })?;
    let lost = method.clone();
    match wait(plane, method, fate, limit, deadline).await? {
        Some(answer) => {
            plane
                .counters
                .request(clock::now().saturating_duration_since(began));
            Ok(answer)
        }
        // A request's port is only ever answered or lost; a frame's is only ever written or lost.
        None => Err(RequestError::Unknown {
            method: lost,
            cause: UnknownCause::Deadline(limit),
        }),
    }
}

/// A request that stands in its line's queue.
pub(crate) struct Submitted {
    method: String,
    reply: Reply,
    /// When it was put there.
    at: std::time::Instant,
}

/// Puts `call` into `line`'s queue at once, so that calls are written in the order of submission.
pub(crate) fn submit(
    line: &Line,
    call: Call,
    mark: Option<Mark>,
) -> Result<Submitted, RequestError> {
    let method = call.method().to_owned();
    let (port, reply) = ReplyPort::new();
    match line.sender.try_send(Outbound::Request { call, port, mark }) {
        Ok(()) => Ok(Submitted {
            method,
            reply,
            at: clock::now(),
        }),
        Err(TrySendError::Closed(_)) => Err(RequestError::NotSent {
            method,
            detail: "the connection has just ended".to_owned(),
        }),
        Err(TrySendError::Full(_)) => Err(RequestError::NotSent {
            method,
            detail: "the outbound queue is full".to_owned(),
        }),
    }
}

/// Waits for the raw answer to what was submitted.
pub(crate) async fn settle(
    plane: &Plane,
    submitted: Submitted,
    limit: Duration,
) -> Result<Frame, RequestError> {
    let Submitted { method, reply, at } = submitted;
    let lost = method.clone();
    let answer = wait(plane, method, reply, limit, clock::from_now(limit)).await?;
    plane
        .counters
        .request(clock::now().saturating_duration_since(at));
    // A request's port is only ever answered or lost; a frame's is only ever written or lost.
    answer.ok_or(RequestError::Unknown {
        method: lost,
        cause: UnknownCause::Deadline(limit),
    })
}

/// Sends a frame on `line` and waits until it has been written to the socket.
pub(crate) async fn send(
    plane: &Plane,
    line: &Arc<Line>,
    frame: Frame,
    limit: Duration,
    deadline: Instant,
) -> Result<(), RequestError> {
    let method = "frame".to_owned();
    let (port, fate) = ReplyPort::new();
    enqueue(line, Outbound::Frame { frame, port }, deadline)
        .await
        .map_err(|detail| RequestError::NotSent {
            method: method.clone(),
            detail,
        })?;
    wait(plane, method, fate, limit, deadline).await.map(|_| ())
}

async fn enqueue(line: &Line, outbound: Outbound, deadline: Instant) -> Result<(), String> {
    let outbound = match line.sender.try_send(outbound) {
        Ok(()) => return Ok(()),
        Err(TrySendError::Closed(_)) => return Err("the connection has just ended".to_owned()),
        Err(TrySendError::Full(outbound)) => outbound,
    };
    match timeout_at(deadline, line.sender.send(outbound)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) => Err("the connection ended".to_owned()),
        Err(_) => Err("the outbound queue stayed full until the deadline".to_owned()),
    }
}

/// `None` for a frame, which is written and not answered.
async fn wait(
    plane: &Plane,
    method: String,
    mut reply: Reply,
    limit: Duration,
    deadline: Instant,
) -> Result<Option<Frame>, RequestError> {
    let fate = match timeout_at(deadline, reply.fate()).await {
        Ok(fate) => fate,
        Err(_) => match reply.give_up() {
            Ok(fate) => Some(fate),
            Err(true) => {
                let cause = UnknownCause::Deadline(limit);
                return Err(RequestError::Unknown { method, cause });
            }
            Err(false) => {
                let detail = format!("it still waited for the peer to read after {limit:?}");
                return Err(RequestError::NotSent { method, detail });
            }
        },
    };
    match fate {
        Some(Fate::Answered(frame)) => Ok(Some(frame)),
        Some(Fate::Written) => Ok(None),
        Some(Fate::Lost {
            written: false,
            reason,
        }) => {
            let detail = match reason {
                Some(reason) => format!("the connection ended first: {reason}"),
                None => "the connection ended first, or held too many requests".to_owned(),
            };
            Err(RequestError::NotSent { method, detail })
        }
        Some(Fate::Lost {
            written: true,
            reason,
        }) => {
            let reason = reason.unwrap_or_else(|| last_reason(plane));
            Err(RequestError::Unknown {
                method,
                cause: UnknownCause::ConnectionLost(reason),
            })
        }
        // A port always tells before it is dropped.
        None => {
            let cause = UnknownCause::ConnectionLost(last_reason(plane));
            Err(RequestError::Unknown { method, cause })
        }
    }
}

fn last_reason(plane: &Plane) -> CloseReason {
    match &*plane.watch_state().borrow() {
        SessionState::Down { reason } => reason.clone(),
        _ => CloseReason::ActorEnded {
            actor: "transport".to_owned(),
            reason: "ended before its connection".to_owned(),
        },
    }
}
