//! What a pool does about a request of unknown fate that has a query: it asks whoever can be asked.
//!
//! Apart from the routing because nothing is chosen here, and because the query is a request like any other.
//!
//! Invariant: only a fate that was unknown is found out; whatever goes wrong with the query leaves it unknown.

use tokio::time::{Instant, sleep_until};

use super::Pool;
use super::route::Payload;
use crate::error::{PoolError, RequestError, chain};
use crate::protocol::reconcile::{Finding, Reconcile};
use crate::protocol::rpc::Class;

impl Pool {
    /// Asks the user's query what became of a call, if that is not known.
    pub(super) async fn settle<R>(
        &self,
        how: &Reconcile<R>,
        connection: String,
        source: RequestError,
    ) -> Result<R, PoolError> {
        let RequestError::Unknown { method, cause } = source else {
            return Err(PoolError::Request { connection, source });
        };
        let began = Instant::now();
        let limit = how.limit().unwrap_or(self.shared.spec.request_timeout);
        let pause = how.pause().min(limit);
        sleep_until(began + pause).await;
        let finding = match how.query() {
            Ok(query) => {
                let query = Payload::Call(query);
                match self.route(query, Class::Idempotent, limit - pause).await {
                    Ok((_, result)) => how.judge(Ok(&result)),
                    Err(PoolError::Request {
                        source: RequestError::Answered { error, .. },
                        ..
                    }) => how.judge(Err(error)),
                    Err(error) => Finding::CannotTell(chain(&error)),
                }
            }
            Err(error) => Finding::CannotTell(chain(&error)),
        };
        finding
            .settle(method, cause)
            .map_err(|source| PoolError::Request { connection, source })
    }
}
