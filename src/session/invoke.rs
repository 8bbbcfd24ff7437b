//! Typed requests: deadline, class and type of the result come with the call.
//!
//! Apart from the plain requests because only here something may be written twice.
//!
//! Invariants: a call that is `AtMostOnce` is written at most once; an idempotent one is written again
//! only when the connection that it was written on has ended, and never after its deadline; "not sent" is said
//! only of a call of which no attempt was; what a query found out is said only of a call whose fate was unknown.

use std::time::Duration;

use serde::de::DeserializeOwned;
use tokio::time::{Instant, sleep_until};

use super::Session;
use super::calling::Calling;
use super::clock::from_now;
use super::plane::SessionState;
use crate::error::{ErrorObject, Recovery, RequestError, UnknownCause, chain};
use crate::frame::Frame;
use crate::protocol::reconcile::{Finding, Reconcile};
use crate::protocol::rpc::{Class, TypedCall};

/// The id of a call whose answer nobody awaits: the largest that a venue's numbers hold exactly.
const LAST_ID: u64 = (1 << 53) - 1;

/// The pause before an idempotent call is written again.
const AGAIN: Duration = Duration::from_millis(10);

/// The pause before a query is asked again to which the venue has said "not now".
const NOT_NOW: Duration = Duration::from_millis(250);

impl Session {
    /// Sends a typed call and reads its result, within the call's own deadline or else the configured
    /// request timeout.
    ///
    /// While the session is not live it waits for that, up to the same deadline. A call that is
    /// [`Class::Idempotent`] is asked again on the next connection if the one it was written on ended
    /// without an answer; one that is [`Class::AtMostOnce`] is not, and its error says whether it may have
    /// been executed. If it was given a query ([`TypedCall::reconcile`]) the venue is asked, as soon as the session
    /// is live again and for as long as the query may take, so that all of it may take both limits.
    ///
    /// # Errors
    ///
    /// [`RequestError`] says whether it was answered, not sent, or of unknown fate; or not executed, if a query says so.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future withdraws a request that has not been written; one that has is forgotten, and nobody is
    /// asked about it.
    pub async fn invoke<R: DeserializeOwned>(&self, call: TypedCall<R>) -> Result<R, RequestError> {
        match (self.ask_for(&call).await, call.reconciliation()) {
            (Err(RequestError::Unknown { method, cause }), Some(how)) => {
                let found = self.find_out(how).await.settle(method, cause);
                found.map_err(|error| self.failed_request(error))
            }
            (outcome, _) => outcome,
        }
    }

    async fn ask_for<R: DeserializeOwned>(&self, call: &TypedCall<R>) -> Result<R, RequestError> {
        let limit = call
            .deadline()
            .unwrap_or(self.shared.config.request_timeout);
        let deadline = from_now(limit);
        // What was written once may have been executed, whatever becomes of the repetition.
        let mut unknown = None;
        loop {
            // The deadline is that of all attempts, and each names the limit that the user gave.
            let asked = Calling::new(self, call.call()?, limit, Some(deadline));
            let error = match asked.await {
                Ok(result) => return call.read(&result).map_err(|error| self.clean(error)),
                Err(error) => error,
            };
            let error = match error {
                RequestError::NotSent { .. } => unknown.clone().unwrap_or(error),
                error => error,
            };
            let over = matches!(self.state(), SessionState::Ended(_));
            if over || !may_repeat(call.class(), &error) || Instant::now() + AGAIN >= deadline {
                return Err(error);
            }
            if matches!(error, RequestError::Unknown { .. }) {
                unknown = Some(error);
            }
            sleep_until(Instant::now() + AGAIN).await;
        }
    }

    /// Of a result that could not be read: its members may bear any name.
    pub(crate) fn clean(&self, error: RequestError) -> RequestError {
        match error {
            RequestError::Undecodable { method, source } => RequestError::Undecodable {
                method,
                source: self.shared.plane.secrets.clean_decoding(source),
            },
            error => error,
        }
    }

    /// Asks the user's query what became of a call, again where the query itself was lost or put off.
    async fn find_out<R>(&self, how: &Reconcile<R>) -> Finding<R> {
        let limit = how.limit().unwrap_or(self.shared.config.request_timeout);
        let deadline = from_now(limit);
        sleep_until(from_now(how.pause()).min(deadline)).await;
        loop {
            let answer = match how.query() {
                Ok(query) => Calling::new(self, query, limit, Some(deadline)).await,
                Err(error) => Err(error),
            };
            let (error, pause) = match answer {
                Ok(result) => return how.judge(Ok(&result)),
                Err(RequestError::Answered { error, method }) => match self.put_off(&error) {
                    None => return how.judge(Err(error)),
                    Some(pause) => (RequestError::Answered { error, method }, pause),
                },
                Err(error) if !may_repeat(Class::Idempotent, &error) => {
                    return Finding::CannotTell(chain(&error));
                }
                Err(error) => (error, AGAIN),
            };
            let over = matches!(self.state(), SessionState::Ended(_));
            if over || Instant::now() + pause >= deadline {
                return Finding::CannotTell(chain(&error));
            }
            sleep_until(Instant::now() + pause).await;
        }
    }

    /// After how long to ask again, if this answer is about our asking and not about what was asked.
    fn put_off(&self, error: &ErrorObject) -> Option<Duration> {
        let platform = &*self.shared.platform;
        match platform.recovery(error) {
            Recovery::RetryAfter(pause) => Some(pause),
            Recovery::Retry | Recovery::Reauthenticate => Some(NOT_NOW),
            Recovery::Reconcile | Recovery::Stop => platform.limited(error).then_some(NOT_NOW),
        }
    }
}

impl Session {
    /// Has a last call written and shuts the session down without waiting for an answer: for calls that the
    /// venue answers by ending the connection, such as a logout. It does not reconnect.
    ///
    /// # Errors
    ///
    /// [`RequestError`] if the call was not written within the request timeout; the session is shut down
    /// all the same.
    pub async fn shutdown_after<R>(&self, call: TypedCall<R>) -> Result<(), RequestError> {
        let written = match call.call() {
            Ok(call) => {
                let text = self.shared.platform.encode(LAST_ID, &call);
                self.send(Frame::text(text)).await
            }
            Err(error) => Err(error),
        };
        self.shutdown().await;
        written.map_err(|error| error.of(call.method()))
    }
}

fn may_repeat(class: Class, error: &RequestError) -> bool {
    let lost = match error {
        RequestError::NotSent { .. } => true,
        RequestError::Unknown { cause, .. } => match cause {
            UnknownCause::ConnectionLost(_) => true,
            UnknownCause::Deadline { .. } | UnknownCause::Unreconciled { .. } => false,
        },
        RequestError::Answered { .. }
        | RequestError::Undecodable { .. }
        | RequestError::Unencodable { .. }
        | RequestError::NotExecuted { .. } => false,
    };
    lost && class == Class::Idempotent
}
