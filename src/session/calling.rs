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
use tracing::Span;

use super::Session;
use super::callers::Caller;
use super::line::Outbound;
use super::port::{Reply, ReplyPort, Wait};
use super::request::{JUST_ENDED, Term, Way, outcome, unanswered};
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
    pub(crate) fn new(session: &'a Session, call: Call, limit: Duration) -> Self {
        Self {
            session,
            limit,
            traced: None,
            step: Step::Asks(call),
        }
    }
}

impl<'a> Step<'a> {
    fn begin(
        session: &'a Session,
        call: Call,
        limit: Duration,
        span: &Span,
        cx: &Context<'_>,
    ) -> Result<Self, RequestError> {
        let term = Term::of(limit);
        let free = session.is_free(&call)?;
        let later = |call| {
            let span = span.clone();
            let way = Way::WhenLive(session);
            let asked = async move { session.ask(way, call, free, term, &span).await };
            Ok(Self::Later(Box::pin(asked)))
        };
        let plane = &session.shared.plane;
        if plane.limiter.is_some() || !session.is_free_to_ask() {
            return later(call);
        }
        let line = plane.borrow_line();
        let Some(line) = session.if_live(line.as_ref()) else {
            return later(call);
        };
        let method = call.name();
        let wait = Wait {
            limit,
            kept: Some(term.span()),
        };
        let (port, mut reply) = ReplyPort::awaited(&plane.given_up, wait, cx.waker());
        reply.tell_id(span);
        let mark = None;
        match line.sender.try_send(Outbound::Request { call, port, mark }) {
            Ok(()) => line.rose(),
            // Nobody keeps the time of what stands before a queue.
            Err(TrySendError::Full(Outbound::Request { call, .. })) => return later(call),
            Err(TrySendError::Full(_) | TrySendError::Closed(_)) => {
                return Err(RequestError::NotSent {
                    method: method.into_owned(),
                    detail: JUST_ENDED.to_owned(),
                });
            }
        }
        Ok(Self::Waits(Asked {
            method,
            reply,
            _waiting: plane.callers.begin(),
        }))
    }
}

impl Asked<'_> {
    fn poll(&mut self, session: &Session, limit: Duration, cx: &mut Context<'_>) -> Poll<Outcome> {
        let fate = match ready!(self.reply.poll_answer(cx)) {
            Ok(answer) => return Poll::Ready(session.read(&self.method, &answer)),
            Err(fate) => fate,
        };
        let (plane, id) = (&session.shared.plane, self.reply.id());
        Poll::Ready(match outcome(plane, &self.method, fate, id, limit) {
            Ok(Some((answer, _))) => session.read(&self.method, &answer),
            Ok(None) => Err(unanswered(&self.method, limit)),
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
                Step::Asks(_) => {
                    let Step::Asks(call) = std::mem::replace(&mut this.step, Step::Over) else {
                        continue;
                    };
                    let none = Span::none();
                    match Step::begin(session, call, limit, span.unwrap_or(&none), cx) {
                        Ok(waits @ Step::Waits(_)) => {
                            // Its waker is where the answer will be; if it is there already, so is the wake-up.
                            this.step = waits;
                            return Poll::Pending;
                        }
                        Ok(step) => this.step = step,
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
