//! One call of the user's, from its first poll to its answer.
//!
//! A future by hand, and apart from `request` because nearly every call goes this way: the session is live, nothing limits
//! it, and there is room in the line. It is small, for a thousand of them that take turns are found out of the caches, and
//! has no timer, since the connection keeps the time of what it was given. Whatever else has to be waited for is a larger
//! future in a box.
//!
//! Invariants: nothing happens before the first poll; dropping it withdraws what has not been written; the request's span
//! learns its end, and is the current one while anything is done for it.

use std::borrow::Cow;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use serde_json::value::RawValue;
use tokio::sync::mpsc::error::TrySendError;
use tokio::time::Instant;
use tracing::Span;

use super::Session;
use super::callers::Caller;
use super::line::Outbound;
use super::port::{Reply, ReplyPort, Wait};
use super::request::{Term, Way, just_ended, outcome, unanswered};
use super::spans::Request;
use super::statistics::Counters;
use crate::error::RequestError;
use crate::protocol::call::Call;
use crate::telemetry::spans::Parent;

type Outcome = Result<Box<RawValue>, RequestError>;

/// See the module's documentation. Not to be polled again when it is over.
pub(crate) struct Calling<'a> {
    session: &'a Session,
    limit: Duration,
    /// When the limit is over, if it began before this call.
    until: Option<Instant>,
    traced: Option<Request<&'a Counters>>,
    step: Step<'a>,
}

enum Step<'a> {
    Asks(Call),
    Waits(Asked<'a>),
    /// For a connection, for room, or for its turn, and then for the answer.
    Later(Pin<Box<dyn Future<Output = Outcome> + Send + 'a>>),
    Over,
}

/// What a line has taken.
struct Asked<'a> {
    method: Cow<'static, str>,
    reply: Reply,
    _waiting: Caller<'a>,
}

impl<'a> Calling<'a> {
    /// Has not begun yet.
    pub(crate) fn new(
        session: &'a Session,
        call: Call,
        limit: Duration,
        until: Option<Instant>,
    ) -> Self {
        Self {
            session,
            limit,
            until,
            traced: None,
            step: Step::Asks(call),
        }
    }
}

impl<'a> Step<'a> {
    /// Asks, or takes the longer way. Whether it waits for an answer, and will be woken by it. What waits is made where it
    /// stays.
    #[inline(always)]
    fn begin(
        &mut self,
        session: &'a Session,
        call: Call,
        (limit, until): (Duration, Option<Instant>),
        span: &Span,
        cx: &Context<'_>,
    ) -> Result<bool, RequestError> {
        let term = Term::of(limit, until);
        let free = session.is_free(&call)?;
        let plane = &session.shared.plane;
        if plane.limiter.is_some() || !session.is_free_to_ask() {
            return Ok(self.put_off(session, call, free, term, span));
        }
        let line = plane.borrow_line();
        let Some(line) = session.if_live(line.as_ref()) else {
            return Ok(self.put_off(session, call, free, term, span));
        };
        let ended = |method: Cow<'static, str>| just_ended().of(method);
        let room = match line.sender.try_reserve() {
            Ok(room) => room,
            // Nobody keeps the time of what stands before a queue.
            Err(TrySendError::Full(())) => {
                return Ok(self.put_off(session, call, free, term, span));
            }
            Err(TrySendError::Closed(())) => return Err(ended(call.name())),
        };
        let wait = Wait {
            limit,
            kept: Some(term.span()),
        };
        let (port, mut reply) = ReplyPort::awaited(&plane.given_up, wait, cx.waker());
        reply.tell_id(span);
        let method = call.name();
        let mark = None;
        if room.fill(Outbound::Request { call, port, mark }).is_err() {
            return Err(ended(method));
        }
        line.rose();
        *self = Self::Waits(Asked {
            method,
            reply,
            _waiting: plane.callers.begin(),
        });
        Ok(true)
    }

    #[cold]
    fn put_off(
        &mut self,
        session: &'a Session,
        call: Call,
        free: bool,
        term: Term,
        span: &Span,
    ) -> bool {
        let span = span.clone();
        let way = Way::WhenLive(session);
        let asked = async move { session.ask(way, call, free, term, &span).await };
        *self = Self::Later(Box::pin(asked));
        false
    }
}

impl Asked<'_> {
    fn poll(&mut self, session: &Session, limit: Duration, cx: &mut Context<'_>) -> Poll<Outcome> {
        let fate = match ready!(self.reply.poll_answer(cx)) {
            Ok(answer) => return Poll::Ready(session.read(&self.method, &answer)),
            Err(fate) => fate,
        };
        let (plane, id) = (&session.shared.plane, self.reply.id());
        Poll::Ready(match outcome(plane, &self.method, fate, id, limit, None) {
            Ok(Some((answer, _))) => session.read(&self.method, &answer),
            Ok(None) => Err(unanswered(&self.method, limit, None)),
            Err(error) => Err(error),
        })
    }
}

impl Future for Calling<'_> {
    type Output = Outcome;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let (session, limit) = (this.session, this.limit);
        if let Step::Asks(call) = &this.step {
            let spans = &session.shared.plane.spans;
            this.traced = Some(spans.request_within(Parent::Caller, call.method()));
        }
        let span = this.traced.as_ref().map(Request::span);
        let within = span.map(Span::enter);
        let outcome = loop {
            match &mut this.step {
                Step::Asks(call) => {
                    let call = std::mem::replace(call, Call::bare(""));
                    let none = Span::none();
                    let span = span.unwrap_or(&none);
                    match this
                        .step
                        .begin(session, call, (limit, this.until), span, cx)
                    {
                        // Its waker is where the answer will be; if it is there already, so is the wake-up.
                        Ok(true) => return Poll::Pending,
                        Ok(false) => {}
                        Err(error) => break Err(error),
                    }
                }
                Step::Waits(asked) => break ready!(asked.poll(session, limit, cx)),
                Step::Later(asked) => break ready!(asked.as_mut().poll(cx)),
                Step::Over => return Poll::Pending,
            }
        };
        let outcome = outcome.map_err(|error| session.failed_request(error));
        this.step = Step::Over;
        drop(within);
        if let Some(traced) = this.traced.take() {
            traced.end(&outcome);
        }
        Poll::Ready(outcome)
    }
}
