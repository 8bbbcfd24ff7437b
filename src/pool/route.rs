//! A request's way through a pool: who is asked, and who is asked next.
//!
//! Apart from the pool because this is the one place where a request may be written twice.
//!
//! Invariants: a request that is `AtMostOnce` goes to another session only if the one before has not written
//! it; an answer is an answer; no session is asked twice on one connection; nothing is begun after the deadline.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::select_all;
use futures_util::stream::FuturesUnordered;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use tokio::time::{Instant, sleep_until};

use super::registry::{ConnectionId, Member};
use super::{Pool, lock};
use crate::error::{PoolError, RequestError};
use crate::frame::Frame;
use crate::protocol::call::Call;
use crate::protocol::continuity::Epoch;
use crate::protocol::health::Score;
use crate::protocol::rpc::{Class, TypedCall};
use crate::session::Session;
use crate::session::clock::from_now;
use crate::session::plane::SessionState;
use crate::telemetry::TelemetryEvent;

impl Pool {
    /// Sends a typed call by the healthiest session and reads its result, within the call's own deadline or
    /// else the pool's request timeout, all attempts together.
    ///
    /// If that session fails it, another one is asked, up to
    /// [`max_attempts`](super::PoolSpec::max_attempts):
    ///
    /// | how the attempt ended | [`Class::Idempotent`] | [`Class::AtMostOnce`] |
    /// |---|---|---|
    /// | not sent: lost before it was written, no turn under the session's limit | next session | next session |
    /// | of unknown fate: written, and the connection ended | next session | returned |
    /// | not answered within its share of the time | another one is asked as well; the first answer counts | waited for |
    /// | the venue says that we are too fast ([`Platform::limited`](crate::Platform::limited)) | next session | returned |
    /// | any other answer, an error too | returned | returned |
    ///
    /// A call with a query ([`TypedCall::reconcile`](crate::TypedCall::reconcile)) is as the latter; if its fate is
    /// unknown, the query is asked of whichever session is healthiest, within its own limit.
    ///
    /// An order is returned with the venue's "too fast" because no rule says that such an answer means that
    /// nothing was done. While no session is live, the first that is gets the request, up to the deadline.
    ///
    /// # Errors
    ///
    /// [`PoolError`]; what the last session said is its source.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future withdraws a request that has not been written; one that has is forgotten.
    pub async fn invoke<R: DeserializeOwned>(&self, call: TypedCall<R>) -> Result<R, PoolError> {
        let untyped = call.call().map_err(PoolError::Unencodable)?;
        let limit = call.deadline().unwrap_or(self.shared.spec.request_timeout);
        let routed = self.route(Payload::Call(untyped), call.class(), limit);
        let (id, result) = match (routed.await, call.reconciliation()) {
            (Err(PoolError::Request { connection, source }), Some(how)) => {
                return self.settle(how, connection, source).await;
            }
            (routed, _) => routed?,
        };
        call.read(&result).map_err(|source| PoolError::Request {
            connection: id.to_string(),
            source: match self.session(id.as_str()) {
                Some(session) => session.clean(source),
                None => source,
            },
        })
    }

    /// Sends a call of this class and returns its result unparsed, within `limit`, as [`Pool::invoke`] does.
    ///
    /// # Errors
    ///
    /// As [`Pool::invoke`], cancel safety included.
    pub async fn call(
        &self,
        call: Call,
        class: Class,
        limit: Duration,
    ) -> Result<Box<RawValue>, PoolError> {
        let answer = self.route(Payload::Call(call), class, limit).await;
        answer.map(|(_, result)| result)
    }

    /// Sends a frame by the healthiest session and waits until it has been written, within the pool's request
    /// timeout. It goes to another session only if the one before has not written it. Returns whose
    /// connection it went out on.
    ///
    /// # Errors
    ///
    /// As [`Pool::invoke`], cancel safety included; [`PoolError::Unencodable`] for a control frame that RFC
    /// 6455 does not allow.
    #[doc(alias = "send_balanced")]
    pub async fn send(&self, frame: Frame) -> Result<ConnectionId, PoolError> {
        frame.check().map_err(|detail| {
            let method = "frame".to_owned();
            PoolError::Unencodable(RequestError::Unencodable { method, detail })
        })?;
        let limit = self.shared.spec.request_timeout;
        let sent = self
            .route(Payload::Frame(frame), Class::AtMostOnce, limit)
            .await;
        sent.map(|(id, _)| id)
    }

    pub(super) async fn route(
        &self,
        payload: Payload,
        class: Class,
        limit: Duration,
    ) -> Result<(ConnectionId, Box<RawValue>), PoolError> {
        let routing = Routing {
            pool: self,
            payload,
            class,
            limit,
            deadline: from_now(limit),
            tried: Vec::new(),
            patience: None,
            last: None,
        };
        routing.run().await
    }

    fn choose(&self, tried: &[Connection]) -> Option<(Chosen, Connection)> {
        let formula = self.shared.spec.formula;
        let members = self.members();
        let pool_size = members.len();
        let candidates: Vec<(Connection, Option<Score>)> = members
            .iter()
            .map(|member| {
                let connection = Connection::of(&member.session);
                let live = connection.epoch.is_some();
                let score = live.then(|| self.vitals(member).score(formula)).flatten();
                (connection, score)
            })
            .collect();
        let index = lock(&self.shared.router).choose(&candidates, tried)?;
        let (connection, score) = candidates.into_iter().nth(index)?;
        let member = members.into_iter().nth(index)?;
        let score = score?;
        let chosen = Chosen {
            member,
            score,
            pool_size,
        };
        Some((chosen, connection))
    }
}

/// What is to be sent.
#[derive(Clone)]
pub(super) enum Payload {
    Call(Call),
    Frame(Frame),
}

/// Whom to ask next.
struct Chosen {
    member: Member,
    score: Score,
    pool_size: usize,
}

/// One connection of one session: when it has another one, it may be asked again.
#[derive(Clone)]
struct Connection {
    session: Session,
    /// `None` while nothing goes through.
    epoch: Option<Epoch>,
}

impl Connection {
    fn of(session: &Session) -> Self {
        Self {
            session: session.clone(),
            epoch: session.live_epoch(),
        }
    }
}

impl PartialEq for Connection {
    fn eq(&self, other: &Self) -> bool {
        self.epoch == other.epoch && self.session.is_same(&other.session)
    }
}

/// An attempt that runs.
type Attempt = Pin<Box<dyn Future<Output = Outcome> + Send>>;

/// How an attempt ended.
struct Outcome {
    number: u32,
    member: Member,
    result: Result<Box<RawValue>, RequestError>,
}

struct Routing<'p> {
    pool: &'p Pool,
    payload: Payload,
    class: Class,
    limit: Duration,
    deadline: Instant,
    /// One for each attempt.
    tried: Vec<Connection>,
    /// When another session is asked as well, though the latest still has time, and who that is. Set by each
    /// attempt of an idempotent request but the last.
    patience: Option<(Instant, ConnectionId)>,
    /// How the latest attempt ended that did.
    last: Option<RequestError>,
}

impl Routing<'_> {
    async fn run(mut self) -> Result<(ConnectionId, Box<RawValue>), PoolError> {
        let mut running = FuturesUnordered::new();
        loop {
            if let Some(attempt) = self.next() {
                running.push(attempt);
            } else if running.is_empty() {
                self.until_there_is_somebody().await?;
                continue;
            }
            loop {
                let patience = self.patience.as_ref().map(|(until, _)| *until);
                tokio::select! {
                    biased;
                    Some(outcome) = running.next() => match self.judge(outcome)? {
                        Some(answer) => return Ok(answer),
                        None => break,
                    },
                    () = sleep_until(patience.unwrap_or(self.deadline)), if patience.is_some() => {
                        if let Some(attempt) = self.another() {
                            running.push(attempt);
                        }
                    }
                }
            }
        }
    }

    fn attempts(&self) -> u32 {
        u32::try_from(self.tried.len()).unwrap_or(u32::MAX)
    }

    fn may_go_on(&self) -> bool {
        self.attempts() < self.pool.shared.spec.max_attempts && Instant::now() < self.deadline
    }

    /// The next attempt, if there may be one and there is somebody to ask.
    fn next(&mut self) -> Option<Attempt> {
        if !self.may_go_on() {
            return None;
        }
        let (chosen, connection) = self.pool.choose(&self.tried)?;
        self.tried.push(connection);
        let Chosen {
            member,
            score,
            pool_size,
        } = chosen;
        self.pool.report(&TelemetryEvent::PoolRouted {
            pool_size,
            health: score.as_u8(),
            selected: member.id.as_str(),
        });
        let number = self.attempts();
        let left = self.pool.shared.spec.max_attempts.saturating_sub(number);
        let now = Instant::now();
        let time = self.deadline.saturating_duration_since(now);
        self.patience = (self.class == Class::Idempotent && left > 0)
            .then(|| (now + time / (left + 1), member.id.clone()));
        let (payload, limit, deadline) = (self.payload.clone(), self.limit, self.deadline);
        Some(Box::pin(async move {
            let session = &member.session;
            let result = match payload {
                Payload::Call(call) => session.call_at_once(call, limit, deadline).await,
                Payload::Frame(frame) => session
                    .send_at_once(frame, limit, deadline)
                    .await
                    .map(|()| RawValue::NULL.to_owned()),
            };
            Outcome {
                number,
                member,
                result,
            }
        }))
    }

    /// The latest attempt has had its share of the time: another one beside it, if there is somebody to ask.
    fn another(&mut self) -> Option<Attempt> {
        let number = self.attempts();
        let (_, slow) = self.patience.take()?;
        let attempt = self.next()?;
        self.pool.record_error(&slow);
        self.pool.report(&TelemetryEvent::PoolFailover {
            attempt: number,
            failed: slow.as_str(),
            reason: "slow",
        });
        Some(attempt)
    }

    /// The answer, or nothing if another session may be asked.
    fn judge(
        &mut self,
        outcome: Outcome,
    ) -> Result<Option<(ConnectionId, Box<RawValue>)>, PoolError> {
        let Outcome {
            number,
            member,
            result,
        } = outcome;
        let error = match result {
            Ok(result) => return Ok(Some((member.id, result))),
            Err(error) => error,
        };
        let idempotent = self.class == Class::Idempotent;
        let (failed, goes_on) = match &error {
            RequestError::NotSent { .. } => (true, true),
            RequestError::Unknown { .. } => (true, idempotent),
            RequestError::Answered { error, .. } => {
                let limited = member.session.is_limited(error);
                (limited, limited && idempotent)
            }
            // What a query has found out is said of a call that is over.
            RequestError::Undecodable { .. }
            | RequestError::Unencodable { .. }
            | RequestError::NotExecuted { .. } => (false, false),
        };
        if failed {
            self.pool.record_error(&member.id);
        }
        if self
            .patience
            .as_ref()
            .is_some_and(|(_, id)| *id == member.id)
        {
            self.patience = None;
        }
        if !goes_on {
            return Err(PoolError::Request {
                connection: member.id.to_string(),
                source: error,
            });
        }
        self.pool.report(&TelemetryEvent::PoolFailover {
            attempt: number,
            failed: member.id.as_str(),
            reason: error.explain().code,
        });
        self.last = Some(error);
        Ok(None)
    }

    /// Waits until somebody can be asked who has not been yet.
    ///
    /// Those that are live have been asked; whoever is not may be soon, on a connection that is a new one.
    async fn until_there_is_somebody(&mut self) -> Result<(), PoolError> {
        // Followed before it is looked at, so that nothing is missed between.
        let mut changes = self.pool.shared.registry.changes();
        let members = self.pool.members();
        if !self.may_go_on() {
            return Err(self.give_up(members.len()));
        }
        let mut states = Vec::new();
        let mut hope = false;
        for member in &members {
            let mut state = member.session.watch();
            let connection = Connection::of(&member.session);
            if connection.epoch.is_some() {
                if !self.tried.contains(&connection) {
                    return Ok(());
                }
                continue;
            }
            hope = true;
            // One that has ended changes no more; a pool's own is replaced, or taken out.
            let over = matches!(*state.borrow(), SessionState::Ended(_));
            if !over {
                states.push(Box::pin(async move { state.changed().await.is_ok() }));
            }
        }
        if !hope {
            return Err(self.give_up(members.len()));
        }
        let somebody = async {
            match states.is_empty() {
                true => std::future::pending().await,
                false => select_all(states).await.0,
            }
        };
        tokio::select! {
            _ = somebody => Ok(()),
            _ = changes.changed() => Ok(()),
            () = sleep_until(self.deadline) => Err(self.give_up(members.len())),
        }
    }

    fn give_up(&mut self, sessions: usize) -> PoolError {
        match self.last.take() {
            Some(source) => PoolError::Exhausted {
                attempts: self.attempts(),
                source,
            },
            None if sessions == 0 => PoolError::NoSessions,
            None => PoolError::NoneLive {
                sessions,
                limit: self.limit,
            },
        }
    }
}
