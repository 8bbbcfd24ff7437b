//! What is asked when the fate of a request is unknown: a query of the user's, and what its answer means.
//!
//! Apart from the typed calls because only the user knows where a venue keeps what it has carried out, and because a
//! pool asks as a session does.
//!
//! Invariants: a call with a query is written at most once; the query alone may be repeated; what could not be found
//! out is said to be unknown, with the first reason and with this one.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::call::Call;
use super::rpc::TypedCall;
use crate::error::{ErrorObject, RequestError, UnknownCause, chain};

/// What the answer to a query says about the request in question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding<R> {
    /// It was carried out, with this result: the request counts as answered.
    Executed(R),
    /// It was not, and will not be: [`RequestError::NotExecuted`].
    NotExecuted,
    /// The answer does not say, for this reason: the request's fate stays unknown.
    CannotTell(String),
}

impl<R> Finding<R> {
    /// How the request of `method` ends, whose fate was unknown because of `first`.
    pub(crate) fn settle(self, method: String, first: UnknownCause) -> Result<R, RequestError> {
        match self {
            Self::Executed(result) => Ok(result),
            Self::NotExecuted => Err(RequestError::NotExecuted {
                method,
                cause: first,
            }),
            Self::CannotTell(detail) => Err(RequestError::Unknown {
                method,
                cause: UnknownCause::Unreconciled {
                    first: Box::new(first),
                    detail,
                },
            }),
        }
    }
}

/// A query that finds out what became of a request, and what its answers mean.
///
/// Give it to [`TypedCall::reconcile`]. The query has to name the request by something that is in both, such as an
/// order's client id; it may be asked more than once, and is within its own deadline or else the session's request
/// timeout, counted from the moment at which the fate became unknown.
///
/// A venue may still be at work on what a lost connection has brought it when the query comes by the next one; where
/// that can be, leave it [some time](Self::after).
///
/// ```
/// use std::time::Duration;
/// use mainstay::protocol::reconcile::{Finding, Reconcile};
/// use mainstay::protocol::rpc::{Class, Params};
/// use mainstay::TypedCall;
///
/// #[derive(serde::Deserialize)]
/// pub struct Receipt { number: u64 }
///
/// /// Buys, and finds out whether it did if the connection is lost over it.
/// fn buy(label: &str) -> TypedCall<Receipt> {
///     let order = Params::new().with("label", &label);
///     let find = TypedCall::<Option<Receipt>>::new("trade/find", order.clone(), Class::Idempotent);
///     let reconcile = Reconcile::new(find.within(Duration::from_secs(20)), |found| match found {
///         Ok(Some(receipt)) => Finding::Executed(receipt),
///         Ok(None) => Finding::NotExecuted,
///         Err(error) => Finding::CannotTell(error.to_string()),
///     });
///     TypedCall::new("trade/buy", order, Class::AtMostOnce).reconcile(reconcile)
/// }
///
/// # async fn run(session: mainstay::Session) {
/// use mainstay::error::RequestError;
/// match session.invoke(buy("tulips-17")).await {
///     Ok(receipt) => println!("bought: {}", receipt.number),
///     Err(RequestError::NotSent { .. } | RequestError::NotExecuted { .. }) => println!("try again"),
///     Err(error) => println!("somebody has to look: {error}"),
/// }
/// # }
/// # let _ = buy("a");
/// ```
#[must_use = "a query does nothing until it is given to a call"]
pub struct Reconcile<R> {
    query: Result<Call, RequestError>,
    judge: Arc<Judge<R>>,
    limit: Option<Duration>,
    after: Duration,
}

type Judge<R> = dyn Fn(Result<&RawValue, ErrorObject>) -> Finding<R> + Send + Sync;

impl<R: 'static> Reconcile<R> {
    /// Asks `query`, and has `judge` say what the answer means. A result that is no `Q` means that nothing can be
    /// told; an error is the venue's, and may well mean that it knows of no such order.
    pub fn new<Q: DeserializeOwned + 'static>(
        query: TypedCall<Q>,
        judge: impl Fn(Result<Q, ErrorObject>) -> Finding<R> + Send + Sync + 'static,
    ) -> Self {
        Self {
            query: query.call(),
            limit: query.deadline(),
            after: Duration::ZERO,
            judge: Arc::new(move |answer| match answer {
                Ok(result) => match query.read(result) {
                    Ok(result) => judge(Ok(result)),
                    Err(error) => Finding::CannotTell(chain(&error)),
                },
                Err(error) => judge(Err(error)),
            }),
        }
    }
}

impl<R> Reconcile<R> {
    /// The same query, asked so long after the fate became unknown. Default: at once, which is when the session is
    /// live again.
    pub fn after(self, after: Duration) -> Self {
        Self { after, ..self }
    }

    /// The query.
    pub(crate) fn query(&self) -> Result<Call, RequestError> {
        self.query.clone()
    }

    /// What this answer to it means.
    pub(crate) fn judge(&self, answer: Result<&RawValue, ErrorObject>) -> Finding<R> {
        (self.judge)(answer)
    }

    /// How long all of it may take; `None` leaves that to whoever asks.
    pub(crate) fn limit(&self) -> Option<Duration> {
        self.limit
    }

    /// How long the venue is left alone first.
    pub(crate) fn pause(&self) -> Duration {
        self.after
    }
}

impl<R> Clone for Reconcile<R> {
    fn clone(&self) -> Self {
        Self {
            query: self.query.clone(),
            judge: Arc::clone(&self.judge),
            limit: self.limit,
            after: self.after,
        }
    }
}

impl<R> fmt::Debug for Reconcile<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reconcile")
            .field("query", &self.query.as_ref().ok().map(Call::method))
            .field("limit", &self.limit)
            .field("after", &self.after)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::super::rpc::{Class, Params};
    use super::*;

    fn find() -> Reconcile<u64> {
        let query = TypedCall::<Option<u64>>::new("find", Params::new(), Class::Idempotent);
        Reconcile::new(query, |found| match found {
            Ok(Some(number)) => Finding::Executed(number),
            Ok(None) => Finding::NotExecuted,
            Err(error) if error.code == 404 => Finding::NotExecuted,
            Err(error) => Finding::CannotTell(error.to_string()),
        })
    }

    fn judged(json: &str) -> Finding<u64> {
        let raw = RawValue::from_string(json.to_owned()).unwrap();
        find().judge(Ok(&raw))
    }

    #[test]
    fn the_users_word_decides() {
        assert_eq!(judged("7"), Finding::Executed(7));
        assert_eq!(judged("null"), Finding::NotExecuted);
        let unknown = ErrorObject::new(404, "no such order");
        assert_eq!(find().judge(Err(unknown)), Finding::NotExecuted);
    }

    #[test]
    fn an_answer_that_cannot_be_read_tells_nothing_and_is_not_shown() {
        let finding = judged("\"s3cret\"");
        let Finding::CannotTell(why) = finding else {
            panic!("{finding:?}");
        };
        assert!(!why.contains("s3cret"), "{why}");
    }

    #[test]
    fn what_cannot_be_told_keeps_its_first_reason() {
        let first = || UnknownCause::Deadline {
            limit: Duration::from_secs(1),
            turn: None,
        };
        let settle = |finding: Finding<u64>| finding.settle("buy".to_owned(), first());
        assert_eq!(settle(Finding::Executed(7)).unwrap(), 7);
        let error = settle(Finding::NotExecuted).unwrap_err();
        assert!(
            matches!(error, RequestError::NotExecuted { .. }),
            "{error:?}"
        );
        let error = settle(Finding::CannotTell("the venue is closed".to_owned())).unwrap_err();
        let told = chain(&error);
        assert!(told.contains("no answer within 1s"), "{told}");
        assert!(told.contains("the venue is closed"), "{told}");
    }
}
