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
use tracing::Span;

use super::Session;
use super::clock;
use super::limiter::{Limiter, Queued};
use super::line::{Line, Outbound};
use super::pending::CAPACITY;
use super::plane::{Plane, SessionState};
use super::port::{Bound, Fate, Reply, ReplyPort, Wait};
use crate::close::CloseReason;
use crate::config::limits::{Lane, Weight};
use crate::error::{
    ErrorObject, Kept, LimitError, NotSentCause, Recovery, RequestError, Turn, UnknownCause,
};
use crate::frame::Frame;
use crate::platform::Platform;
use crate::protocol::call::Call;
use crate::protocol::recording::Mark;
use crate::telemetry::TelemetryEvent;

/// The limiter to pass, and the price there; `None` where nothing is limited.
pub(crate) type Toll<'a> = Option<(&'a Limiter, Weight)>;

/// How a request comes to a line.
#[derive(Clone, Copy)]
pub(crate) enum Way<'a> {
    /// To this one, or not at all.
    Line(&'a Arc<Line>),
    /// To the line of the connection with which this session is live, now or as soon as it is.
    WhenLive(&'a Session),
}

impl Way<'_> {
    /// Hands it over when there is room, or a connection.
    async fn hand_over_later(
        self,
        outbound: Outbound,
        toll: Toll<'_>,
        deadline: Instant,
    ) -> Result<Option<Queued>, Kept> {
        match self {
            Self::Line(line) => enqueue(line, outbound, toll, deadline).await,
            Self::WhenLive(session) => session.hand_to_line(outbound, toll, deadline).await,
        }
    }

    async fn hand_over(
        self,
        outbound: Outbound,
        toll: Toll<'_>,
        deadline: Instant,
    ) -> Result<Option<Queued>, Kept> {
        match self.at_once(outbound, toll, deadline) {
            Ok(queued) => Ok(queued),
            Err(NotYet::Never(why)) => Err(why),
            Err(NotYet::Waits(outbound)) => {
                Box::pin(self.hand_over_later(outbound, toll, deadline)).await
            }
        }
    }

    fn at_once(
        self,
        outbound: Outbound,
        toll: Toll<'_>,
        deadline: Instant,
    ) -> Result<Option<Queued>, NotYet> {
        match self {
            Self::Line(line) => enqueue_at_once(line, outbound, toll, deadline),
            Self::WhenLive(session) => match session.line_in_turn() {
                Some(line) => enqueue_at_once(&line, outbound, toll, deadline),
                None => Err(NotYet::Waits(outbound)),
            },
        }
    }
}

/// How long an answer is waited for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Term {
    limit: Duration,
    asked: std::time::Instant,
    deadline: Instant,
}

impl Term {
    /// From when to when.
    pub(crate) fn span(self) -> (std::time::Instant, std::time::Instant) {
        (self.asked, self.deadline.into_std())
    }

    /// So long from now on; until `deadline` if that has been running.
    pub(crate) fn of(limit: Duration, deadline: Option<Instant>) -> Self {
        let asked = clock::now();
        Self {
            limit,
            asked,
            deadline: deadline.unwrap_or_else(|| clock::after(asked, limit)),
        }
    }
}

/// What `call` has to pay.
pub(crate) fn toll<'a>(plane: &'a Plane, platform: &dyn Platform, call: &Call) -> Toll<'a> {
    let limiter = plane.limiter.as_ref()?;
    Some((limiter, platform.weigh(limiter.limits(), call)))
}

/// Sends `call` and waits for the raw answer; `span` is told the request's id.
pub(crate) async fn perform(
    plane: &Plane,
    way: Way<'_>,
    toll: Toll<'_>,
    call: Call,
    term: Term,
    span: &Span,
) -> Result<Frame, RequestError> {
    let Term {
        limit,
        asked,
        deadline,
    } = term;
    let method = call.name();
    let wait_for = Wait { limit, kept: None };
    let (port, mut fate) = ReplyPort::new(&plane.given_up, Some(wait_for));
    fate.tell_id(span);
    let mark = None;
    let outbound = Outbound::Request { call, port, mark };
    let handed = match way.at_once(outbound, toll, deadline) {
        Ok(queued) => Ok((queued, asked)),
        Err(NotYet::Never(why)) => Err(why),
        Err(NotYet::Waits(outbound)) => {
            // Rare and large: in the caller's own future it would weigh on every request.
            let handed = Box::pin(way.hand_over_later(outbound, toll, deadline)).await;
            handed.map(|queued| match way {
                Way::Line(_) => (queued, asked),
                // Whom it has waited for is not the venue's time to answer.
                Way::WhenLive(_) => (queued, clock::now()),
            })
        }
    };
    let (queued, began) = match handed {
        Ok(handed) => handed,
        Err(kept) => return Err(kept.of(method)),
    };
    // Before that it was no request in flight.
    let _waiting = matches!(way, Way::WhenLive(_)).then(|| plane.callers.begin());
    match wait(plane, &method, fate, queued, limit, deadline).await? {
        Some((answer, at)) => {
            let took = at.saturating_duration_since(began);
            plane.counters.request(took);
            Ok(answer)
        }
        None => Err(unanswered(&method, limit, None)),
    }
}

/// A request's port is only ever answered or lost; a frame's is only ever written or lost.
pub(crate) fn unanswered(method: &str, limit: Duration, turn: Option<Duration>) -> RequestError {
    RequestError::Unknown {
        method: method.to_owned(),
        cause: UnknownCause::Deadline { limit, turn },
    }
}

/// Tells the limiter if this answer says that we were too fast.
pub(crate) fn heed(plane: &Plane, platform: &dyn Platform, error: &ErrorObject) {
    let Some(limiter) = plane.limiter.as_ref().filter(|_| platform.limited(error)) else {
        return;
    };
    limiter.on_limited(match platform.recovery(error) {
        Recovery::RetryAfter(pause) => Some(pause),
        Recovery::Retry | Recovery::Reauthenticate | Recovery::Reconcile | Recovery::Stop => None,
    });
}

/// A request that stands in its line's queue.
pub(crate) struct Submitted {
    method: String,
    reply: Reply,
    /// Its place in the limiter's queue, if there is one.
    queued: Option<Queued>,
    /// When it was put there.
    at: std::time::Instant,
}

/// Puts `call` into the limiter's queue or `line`'s at once, so that calls of one lane are written in the
/// order of submission; `span` is told the request's id.
pub(crate) fn submit(
    line: &Arc<Line>,
    toll: Toll<'_>,
    call: Call,
    mark: Option<Mark>,
    span: &Span,
) -> Result<Submitted, RequestError> {
    let method = call.method().to_owned();
    let (port, mut reply) = ReplyPort::new(&line.given_up, None);
    reply.tell_id(span);
    let outbound = Outbound::Request { call, port, mark };
    if let Some((limiter, weight)) = toll {
        // How long it may wait for its turn is not the venue's time to answer.
        return match limiter.deliver(line, outbound, weight, false, None) {
            Ok(queued) => Ok(Submitted {
                method,
                reply,
                queued: Some(queued),
                at: clock::now(),
            }),
            Err(error) => Err(Kept::from(error).of(method)),
        };
    }
    match line.sender.try_send(outbound) {
        Ok(()) => {
            line.rose();
            Ok(Submitted {
                method,
                reply,
                queued: None,
                at: clock::now(),
            })
        }
        Err(TrySendError::Closed(_)) => Err(just_ended().of(method)),
        Err(TrySendError::Full(_)) => Err(Kept::new(NotSentCause::Full, full(line)).of(method)),
    }
}

/// Waits for the raw answer to what was submitted.
pub(crate) async fn settle(
    plane: &Plane,
    submitted: Submitted,
    limit: Duration,
) -> Result<Frame, RequestError> {
    let Submitted {
        method,
        reply,
        mut queued,
        mut at,
    } = submitted;
    if let Some(queued) = &mut queued {
        // What never has its turn is told so by its port.
        let _ = queued.turn().await;
        at = clock::now();
    }
    let deadline = clock::from_now(limit);
    match wait(plane, &method, reply, queued, limit, deadline).await? {
        Some((answer, came)) => {
            plane.counters.request(came.saturating_duration_since(at));
            Ok(answer)
        }
        None => Err(unanswered(&method, limit, None)),
    }
}

/// Sends a frame and waits until it has been written to the socket.
pub(crate) async fn send(
    plane: &Plane,
    way: Way<'_>,
    frame: Frame,
    limit: Duration,
    deadline: Instant,
) -> Result<(), RequestError> {
    let method = "frame";
    let toll = plane.limiter.as_ref().and_then(|limiter| {
        let weight = weigh_frame(limiter, &frame)?;
        Some((limiter, weight))
    });
    let (port, fate) = ReplyPort::new(&plane.given_up, None);
    let queued = way
        .hand_over(Outbound::Frame { frame, port }, toll, deadline)
        .await
        .map_err(|kept| kept.of(method))?;
    wait(plane, method, fate, queued, limit, deadline)
        .await
        .map(|_| ())
}

/// What a frame costs that is sent as it is; `None` if nothing.
pub(crate) fn weigh_frame(limiter: &Limiter, frame: &Frame) -> Option<Weight> {
    let limits = limiter.limits();
    match frame {
        Frame::Text(_) | Frame::Binary(_) => Some(limits.weigh("")),
        Frame::Ping(_) | Frame::Pong(_) => {
            (limits.control_cost > 0).then(|| Weight::new(limits.control_cost).lane(Lane::Reserved))
        }
        Frame::Close(_) => None,
    }
}

pub(crate) async fn enqueue(
    line: &Arc<Line>,
    outbound: Outbound,
    toll: Toll<'_>,
    deadline: Instant,
) -> Result<Option<Queued>, Kept> {
    let outbound = match enqueue_at_once(line, outbound, toll, deadline) {
        Ok(queued) => return Ok(queued),
        Err(NotYet::Never(why)) => return Err(why),
        Err(NotYet::Waits(outbound)) => outbound,
    };
    line.rose();
    match timeout_at(deadline, line.sender.send(outbound)).await {
        Ok(Ok(())) => Ok(None),
        Ok(Err(_)) => Err(just_ended()),
        Err(_) => {
            let detail = format!("{} until the deadline", full(line));
            Err(Kept::new(NotSentCause::Full, detail))
        }
    }
}

/// What could not be handed over at once.
enum NotYet {
    /// It will be when there is room, or a connection.
    Waits(Outbound),
    /// It will not be, for this reason.
    Never(Kept),
}

fn enqueue_at_once(
    line: &Arc<Line>,
    outbound: Outbound,
    toll: Toll<'_>,
    deadline: Instant,
) -> Result<Option<Queued>, NotYet> {
    if let Some((limiter, weight)) = toll {
        let queued = limiter.deliver(line, outbound, weight, false, Some(deadline.into_std()));
        return queued
            .map(Some)
            .map_err(|error| NotYet::Never(error.into()));
    }
    match line.sender.try_send(outbound) {
        Ok(()) => {
            line.rose();
            Ok(None)
        }
        Err(TrySendError::Closed(_)) => Err(NotYet::Never(just_ended())),
        Err(TrySendError::Full(outbound)) => Err(NotYet::Waits(outbound)),
    }
}

/// It is asked of the next connection by those who wait for that.
pub(crate) fn just_ended() -> Kept {
    let detail = "the connection has just ended; send it again when the session is live";
    Kept::new(NotSentCause::NotLive, detail)
}

fn full(line: &Line) -> String {
    of_capacity(line.sender.max_capacity())
}

fn of_capacity(capacity: usize) -> String {
    format!("the outbound queue of {capacity}, which outbound_capacity sets, was full")
}

/// The raw answer, and when it came; `None` for a frame, which is written and not answered.
pub(crate) async fn wait(
    plane: &Plane,
    method: &str,
    mut reply: Reply,
    queued: Option<Queued>,
    limit: Duration,
    deadline: Instant,
) -> Result<Option<(Frame, std::time::Instant)>, RequestError> {
    let fate = match timeout_at(deadline, reply.fate()).await {
        Ok(fate) => fate,
        Err(_) => match reply.give_up() {
            Ok(fate) => Some(fate),
            Err(false) if queued.as_ref().is_some_and(Queued::expire) => Some(Fate::Expired),
            Err(written) => {
                let fate = Some(Fate::Overdue { written });
                let turn = queued.and_then(Queued::waited);
                return outcome(plane, method, fate, reply.id(), limit, turn);
            }
        },
    };
    outcome(plane, method, fate, reply.id(), limit, None)
}

/// What this fate is to a caller: [`wait`] without the waiting. Of `limit` its `turn` took so much.
pub(crate) fn outcome(
    plane: &Plane,
    method: &str,
    fate: Option<Fate>,
    id: u64,
    limit: Duration,
    turn: Option<Duration>,
) -> Result<Option<(Frame, std::time::Instant)>, RequestError> {
    let not_sent = |cause, detail| Err(Kept::new(cause, detail).of(method));
    match fate {
        Some(Fate::Overdue { written: true }) => {
            // A frame is no request, and has no id.
            if id > 0 {
                plane.report(&TelemetryEvent::RequestTimedOut {
                    id,
                    method,
                    limit,
                    in_flight: plane.waiting(),
                });
            }
            Err(unanswered(method, limit, turn))
        }
        Some(Fate::Overdue { written: false }) => {
            let turn = Turn(turn);
            let detail = format!("it still waited for the peer to read after {limit:?}{turn}");
            not_sent(NotSentCause::TooLate, detail)
        }
        Some(Fate::Answered(frame, at)) => Ok(Some((frame, at))),
        Some(Fate::Written) => Ok(None),
        Some(Fate::Expired) => Err(Kept::from(LimitError::Expired { waited: limit }).of(method)),
        Some(Fate::Crowded(bound)) => {
            let detail = match bound {
                Bound::InFlight => format!("{CAPACITY} requests were under way already"),
                Bound::Outbound(capacity) => of_capacity(capacity),
            };
            not_sent(NotSentCause::Full, detail)
        }
        Some(Fate::Lost {
            written: false,
            reason,
        }) => {
            let cause = match &reason {
                Some(CloseReason::Local { .. }) => NotSentCause::Over,
                _ if plane.is_over() => NotSentCause::Over,
                _ => NotSentCause::NotLive,
            };
            let detail = match reason {
                Some(reason) => format!("the connection ended first: {reason}"),
                None => "the connection ended first".to_owned(),
            };
            not_sent(cause, detail)
        }
        Some(Fate::Lost {
            written: true,
            reason,
        }) => {
            let reason = reason.unwrap_or_else(|| last_reason(plane));
            Err(RequestError::Unknown {
                method: method.to_owned(),
                cause: UnknownCause::ConnectionLost(reason),
            })
        }
        // A port always tells before it is dropped.
        None => {
            let cause = UnknownCause::ConnectionLost(last_reason(plane));
            let method = method.to_owned();
            Err(RequestError::Unknown { method, cause })
        }
    }
}

pub(crate) fn last_reason(plane: &Plane) -> CloseReason {
    match &*plane.watch_state().borrow() {
        SessionState::Down { reason } => reason.clone(),
        _ => CloseReason::ActorEnded {
            actor: "transport".to_owned(),
            reason: "ended before its connection".to_owned(),
        },
    }
}
