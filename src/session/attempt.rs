//! A session as one of several: asked at once or not at all, and what it is like now.
//!
//! Apart from the handle's own requests because these wait for a session that is down, and who has others to
//! ask does not want to.
//!
//! Invariants: what is refused here has not been written.

use std::sync::Arc;
use std::time::Duration;

use serde_json::value::RawValue;
use tokio::time::Instant;
use tracing::Instrument;

use super::Session;
use super::callers::Caller;
use super::line::Line;
use super::request::{self, Term, Way};
use crate::error::{ErrorObject, Kept, NotSentCause, RequestError};
use crate::frame::Frame;
use crate::protocol::call::Call;
use crate::protocol::continuity::Epoch;
use crate::telemetry::spans::Parent;

impl Session {
    /// How many calls of the user's wait for an answer, or for their turn under a limit. Those that were given
    /// up are not among them.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.shared.plane.callers.count()
    }

    /// Whether both are handles of the same session.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }

    /// It leaves its pool: takes no more of the calls below, and waits until none of the user's waits for an answer.
    /// Cancel safe.
    pub(crate) async fn retire(&self) {
        self.shared.plane.leave();
        self.shared.plane.callers.close();
        self.shared.plane.callers.none().await;
    }

    /// The epoch in which requests go through now; `None` if they do not.
    pub(crate) fn live_epoch(&self) -> Option<Epoch> {
        self.line_at_once().map(|line| line.epoch)
    }

    /// Whether this answer says that we were too fast.
    pub(crate) fn is_limited(&self, error: &ErrorObject) -> bool {
        self.shared.platform.limited(error)
    }

    /// [`Session::call`] until `deadline`, which is when `limit` is over; not sent if the session is not live now.
    pub(crate) async fn call_at_once(
        &self,
        call: Call,
        limit: Duration,
        deadline: Instant,
    ) -> Result<Box<RawValue>, RequestError> {
        let spans = &self.shared.plane.spans;
        let traced = spans.request(Parent::Caller, call.method());
        let answered = async {
            let free = self.is_free(&call)?;
            let (_waiting, line) = self.enter(call.method())?;
            let (term, span) = (Term::of(limit, Some(deadline)), traced.span());
            self.ask(Way::Line(&line), call, free, term, span).await
        };
        let answered = async { answered.await.map_err(|error| self.failed_request(error)) };
        let answered = answered.instrument(traced.span().clone()).await;
        traced.end(&answered);
        answered
    }

    /// [`Session::send`] until `deadline`, which is when `limit` is over; not sent if the session is not live now.
    pub(crate) async fn send_at_once(
        &self,
        frame: Frame,
        limit: Duration,
        deadline: Instant,
    ) -> Result<(), RequestError> {
        let sent = async {
            let (_waiting, line) = self.enter("frame")?;
            let plane = &self.shared.plane;
            request::send(plane, Way::Line(&line), frame, limit, deadline).await
        };
        sent.await.map_err(|error| self.failed_request(error))
    }

    fn enter(&self, method: &str) -> Result<(Caller<'_>, Arc<Line>), RequestError> {
        let caller = self.shared.plane.callers.admit();
        let caller = caller.ok_or_else(|| {
            let detail = "the session leaves its pool; ask the pool";
            Kept::new(NotSentCause::Over, detail).of(method)
        })?;
        let line = self.line_at_once();
        let line = line.ok_or_else(|| self.not_live().of(method))?;
        Ok((caller, line))
    }

    /// The line of the live connection, if the session is live now.
    pub(crate) fn line_at_once(&self) -> Option<Arc<Line>> {
        let line = self.shared.plane.borrow_line();
        self.if_live(line.as_ref()).cloned()
    }

    /// `line`, if the session is live on it now.
    pub(crate) fn if_live<'l>(&self, line: Option<&'l Arc<Line>>) -> Option<&'l Arc<Line>> {
        let epoch = self.shared.plane.live_epoch()?;
        // A line that has closed may have to wait until the state says so.
        line.filter(|line| line.epoch == epoch && !line.sender.is_closed())
    }
}
