//! The spans that are open about one session: an attempt to connect with its parts, an outage, and requests.
//!
//! Apart from the plane because a span is open between two of its steps. Names and fields stand in
//! `telemetry::spans`.
//!
//! Invariants: an outage and an attempt outside of one are roots, a request lies in its caller's span; no
//! span outlives the work it is about, nor the session; none is opened or closed under the lock; nothing is
//! kept of spans that no subscriber wants.

use std::fmt::{self, Write};
use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use ractor::ActorRef;
use tracing::Span;

use super::plane::Plane;
use super::statistics::{Counters, Fate};
use super::subscriber::Subscriber;
use crate::close::GapCause;
use crate::config::{Config, Endpoint};
use crate::error::RequestError;
use crate::protocol::continuity::Epoch;
use crate::telemetry::spans::{self, Parent, Stage};

/// The spans about one session's connection.
#[derive(Debug)]
pub(crate) struct Spans {
    /// Where the session is connected to, or tries to be. Set by each attempt.
    server: ArcSwap<Server>,
    counters: Arc<Counters>,
    open: Mutex<Open>,
}

#[derive(Debug)]
struct Server {
    host: String,
    port: u16,
}

impl Server {
    fn of(endpoint: &Endpoint) -> Self {
        Self {
            host: endpoint.host().to_owned(),
            port: endpoint.port(),
        }
    }
}

#[derive(Debug, Default)]
struct Open {
    outage: Option<Outage>,
    attempt: Option<Attempt>,
    /// The session is over; nothing is opened any more.
    over: bool,
}

#[derive(Debug)]
struct Outage {
    span: Span,
    attempts: u64,
}

#[derive(Debug)]
struct Attempt {
    span: Span,
    /// The part that is under way since the connection is open.
    stage: Option<Span>,
    /// Open while an opening has asked and nothing has arrived.
    first_data: Option<Span>,
    /// Something has arrived.
    heard: bool,
}

impl Spans {
    /// None yet. What becomes of requests is counted too.
    pub(crate) fn new(config: &Config, counters: &Arc<Counters>) -> Self {
        Self {
            server: ArcSwap::from_pointee(Server::of(&config.endpoint)),
            counters: Arc::clone(counters),
            open: Mutex::default(),
        }
    }

    /// A request of the user's, or of the session's own with what it is part of.
    pub(crate) fn request(&self, parent: Parent, method: &str) -> Request {
        Request {
            span: self.request_span(parent, method),
            counters: Arc::clone(&self.counters),
            told: false,
        }
    }

    /// The same, for as long as this is borrowed.
    #[inline(always)]
    pub(crate) fn request_within(&self, parent: Parent, method: &str) -> Request<&Counters> {
        Request {
            span: self.request_span(parent, method),
            counters: &self.counters,
            told: false,
        }
    }

    #[inline(always)]
    fn request_span(&self, parent: Parent, method: &str) -> Span {
        match spans::hears_info() {
            true => self.heard_request_span(parent, method),
            false => Span::none(),
        }
    }

    #[cold]
    fn heard_request_span(&self, parent: Parent, method: &str) -> Span {
        let server = self.server.load();
        spans::request(parent, method, &server.host, server.port)
    }

    /// A live session has lost its connection, or is about to. Yields the outage's span, also when it
    /// is known already.
    pub(crate) fn lost(&self, session: &str, cause: &str) -> Span {
        if let Some(known) = &self.open().outage {
            return known.span.clone();
        }
        let span = spans::outage(session, cause);
        if span.is_disabled() {
            return span;
        }
        let mut open = self.open();
        if !open.over {
            let span = span.clone();
            open.outage.get_or_insert(Outage { span, attempts: 0 });
        }
        drop(open);
        span
    }

    /// The present outage; a disabled span if there is none.
    pub(crate) fn outage(&self) -> Span {
        let open = self.open();
        open.outage
            .as_ref()
            .map_or_else(Span::none, |outage| outage.span.clone())
    }

    /// A subscription was told of a gap, which is part of the present outage if there is one: linked to it and no child
    /// of it, since it may last longer.
    pub(crate) fn gap(&self, session: &str, subscriber: &Subscriber, cause: &str) {
        if !spans::hears_debug() {
            return;
        }
        let gap = spans::gap(session, subscriber.channel.as_deref(), cause);
        if gap.is_disabled() {
            return;
        }
        gap.follows_from(self.outage());
        subscriber.keep_gap(gap);
    }

    /// A subscription begins to lose messages, because its consumer is slow.
    pub(crate) fn loss(&self, session: &str, subscriber: &Subscriber) {
        let cause = GapCause::Lagged.label();
        subscriber.keep_loss(spans::loss(session, subscriber.channel.as_deref(), cause));
    }

    /// An attempt begins at `endpoint`, in the supervisor's span `start` if there is one, to which it and the outage are
    /// linked.
    pub(crate) fn attempt(&self, session: &str, endpoint: &Endpoint, start: &Span) {
        self.server.store(Arc::new(Server::of(endpoint)));
        let (outage, first) = {
            let mut open = self.open();
            match &mut open.outage {
                Some(outage) => {
                    outage.attempts += 1;
                    (outage.span.clone(), outage.attempts == 1)
                }
                None => (Span::none(), false),
            }
        };
        let span = spans::connect(outage.id(), session, endpoint.host(), endpoint.port());
        span.follows_from(start);
        if first {
            outage.follows_from(start);
        }
        // Who looks at the restart finds the outage, too.
        start.follows_from(&outage);
        let attempt = (!span.is_disabled()).then_some(Attempt {
            span,
            stage: None,
            first_data: None,
            heard: false,
        });
        let mut open = self.open();
        let replaced = match open.over {
            true => attempt,
            false => std::mem::replace(&mut open.attempt, attempt),
        };
        drop(open);
        drop(replaced);
    }

    /// The present attempt; a disabled span if there is none.
    pub(crate) fn dialing(&self) -> Span {
        let open = self.open();
        open.attempt
            .as_ref()
            .map_or_else(Span::none, |attempt| attempt.span.clone())
    }

    /// The present attempt goes to `endpoint` after all.
    pub(crate) fn redirect(&self, endpoint: &Endpoint) {
        self.server.store(Arc::new(Server::of(endpoint)));
        let attempt = self.dialing();
        attempt.record("server.address", endpoint.host());
        attempt.record("server.port", endpoint.port());
    }

    /// The connection of the present attempt is open.
    pub(crate) fn opened(&self, epoch: Epoch) {
        self.dialing().record("epoch", epoch.as_u64());
    }

    /// The next part of the present attempt begins, and the one before is over.
    pub(crate) fn stage(&self, stage: Stage) {
        let attempt = self.dialing();
        if attempt.is_disabled() {
            return;
        }
        let next = spans::stage(attempt.id(), stage);
        // Whoever opens a session by asking is answered before it is live; without that a quiet service may be so for ever.
        let first_data =
            (stage == Stage::Auth).then(|| spans::stage(attempt.id(), Stage::FirstData));
        let mut open = self.open();
        let (before, unheard) = match &mut open.attempt {
            Some(attempt) => {
                let before = attempt.stage.replace(next);
                match attempt.heard {
                    true => (before, first_data),
                    false => {
                        attempt.first_data = first_data.or(attempt.first_data.take());
                        (before, None)
                    }
                }
            }
            None => (Some(next), first_data),
        };
        drop(open);
        drop((before, unheard));
    }

    /// The first frame of the present attempt's connection has arrived.
    pub(crate) fn first_frame(&self) {
        let mut open = self.open();
        let awaited = open.attempt.as_mut().and_then(|attempt| {
            attempt.heard = true;
            attempt.first_data.take()
        });
        drop(open);
        drop(awaited);
    }

    /// A span of its own for the time until the first frame, where that has a limit.
    pub(crate) fn first_data(&self) -> Span {
        let attempt = self.dialing();
        match attempt.is_disabled() {
            true => attempt,
            false => spans::stage(attempt.id(), Stage::FirstData),
        }
    }

    /// What a request of the session's own is part of; none but its own once the session is live.
    pub(crate) fn own(&self) -> Parent {
        let open = self.open();
        let attempt = open.attempt.as_ref();
        let span = attempt.map(|attempt| attempt.stage.as_ref().unwrap_or(&attempt.span));
        Parent::Is(span.and_then(Span::id))
    }

    /// The session is live: attempt and outage are over. Yields the outage's span.
    pub(crate) fn live(&self, epoch: Epoch) -> Span {
        let (outage, attempt) = self.take();
        drop(attempt);
        let Some(Outage { span, attempts }) = outage else {
            return Span::none();
        };
        span.record("attempts", attempts);
        span.record("epoch", epoch.as_u64());
        span.record("ended_by", "live");
        span
    }

    /// The present attempt has failed, for `cause`. Yields the outage's span.
    pub(crate) fn failed(&self, cause: &str) -> Span {
        let attempt = self.open().attempt.take();
        if let Some(attempt) = attempt {
            for part in attempt.stage.iter().chain(&attempt.first_data) {
                spans::failed(part, cause);
            }
            spans::failed(&attempt.span, cause);
        }
        self.outage()
    }

    /// The session is over, which `cause` says.
    pub(crate) fn end(&self, cause: &str) {
        self.open().over = true;
        let (outage, attempt) = self.take();
        if let Some(Attempt { span, .. }) = &attempt {
            spans::failed(span, cause);
        }
        drop(attempt);
        if let Some(Outage { span, attempts }) = outage {
            span.record("attempts", attempts);
            span.record("ended_by", cause);
            span.record("otel.status_code", "ERROR");
        }
    }

    fn take(&self) -> (Option<Outage>, Option<Attempt>) {
        let mut open = self.open();
        (open.outage.take(), open.attempt.take())
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The span of one request. Dropped before its end, it says that the caller has gone.
#[derive(Debug)]
pub(crate) struct Request<C: Deref<Target = Counters> = Arc<Counters>> {
    span: Span,
    counters: C,
    told: bool,
}

impl<C: Deref<Target = Counters>> Request<C> {
    /// The span, to work in.
    pub(crate) fn span(&self) -> &Span {
        &self.span
    }

    /// The request has ended so.
    pub(crate) fn end<T>(mut self, outcome: &Result<T, RequestError>) {
        self.told = true;
        let fate = match outcome {
            Ok(_) => Fate::Answered,
            Err(error) => fate(error),
        };
        self.counters.fate(fate);
        if self.span.is_disabled() {
            return;
        }
        if let Err(error) = outcome {
            self.fail(error);
        }
        self.span.record("fate", fate.label());
    }

    fn fail(&self, error: &RequestError) {
        match error {
            RequestError::Answered { error, .. } => {
                let code = error.code.to_string();
                self.span.record("rpc.response.status_code", &*code);
                spans::failed(&self.span, &code);
            }
            RequestError::Undecodable { .. }
            | RequestError::NotSent { .. }
            | RequestError::Unencodable { .. }
            | RequestError::NotExecuted { .. }
            | RequestError::Unknown { .. } => spans::failed(&self.span, error.explain().code),
        }
    }
}

fn fate(error: &RequestError) -> Fate {
    match error {
        RequestError::Answered { .. } | RequestError::Undecodable { .. } => Fate::Answered,
        RequestError::NotSent { .. } | RequestError::Unencodable { .. } => Fate::NotSent,
        // What a query finds out is said of a request whose span is over.
        RequestError::Unknown { .. } | RequestError::NotExecuted { .. } => Fate::Unknown,
    }
}

impl<C: Deref<Target = Counters>> Drop for Request<C> {
    fn drop(&mut self) {
        if !self.told {
            self.counters.fate(Fate::GivenUp);
            self.span.record("fate", Fate::GivenUp.label());
        }
    }
}

/// A control message, with the span that it was sent in.
#[derive(Debug)]
pub(crate) struct Traced<M> {
    message: M,
    /// Disabled if nobody listens.
    sender: Span,
}

impl<M> From<M> for Traced<M> {
    fn from(message: M) -> Self {
        let sender = match spans::hears_debug() {
            true => Span::current(),
            false => Span::none(),
        };
        Self { message, sender }
    }
}

impl<M: fmt::Debug> Traced<M> {
    /// The message, and the span to work on it in: no part of the sender's, but linked to it.
    pub(crate) fn open(
        self,
        plane: &Plane,
        actor: &'static str,
        myself: &ActorRef<Self>,
    ) -> (M, Span) {
        let Self { message, sender } = self;
        if !spans::hears_debug() {
            return (message, Span::none());
        }
        let kind = Kind(&message);
        let span = spans::message(plane.reporter.name(), (actor, &myself.get_id()), &kind);
        span.follows_from(&sender);
        (message, span)
    }
}

/// The first word of a debug text: a variant's name, and nothing that is in it.
struct Kind<'m, M>(&'m M);

impl<M: fmt::Debug> fmt::Display for Kind<'_, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Ends with an error behind the first word.
        let _ = write!(FirstWord(f), "{:?}", self.0);
        Ok(())
    }
}

struct FirstWord<'w, 'f>(&'w mut fmt::Formatter<'f>);

impl fmt::Write for FirstWord<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for letter in text.chars() {
            if !letter.is_alphanumeric() {
                return Err(fmt::Error);
            }
            self.0.write_char(letter)?;
        }
        Ok(())
    }
}

/// The supervisor's span around the start of the actor that calls this; a disabled span if there is none.
pub(crate) fn of_the_start() -> Span {
    let span = Span::current();
    match span.metadata() {
        Some(metadata) if metadata.target() == "supervisors" => span,
        _ => Span::none(),
    }
}
