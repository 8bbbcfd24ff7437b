//! Several requests in one frame (JSON-RPC 2.0, section 6), each with its own fate.
//!
//! Apart from single requests because one frame is written for all of them, and because all of them are paid
//! for before any of it is.
//!
//! Invariants: each call ends as answered, not sent or unknown, whatever becomes of the others; nothing is
//! written twice; what was paid for a frame that was not written is given back.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::value::RawValue;
use tokio::time::{Instant, timeout_at};

use super::clock::{self, from_now};
use super::limiter::{Held, Limiter, whole_millis};
use super::line::Outbound;
use super::port::{Reply, ReplyPort, Wait};
use super::spans::Request;
use super::{Session, request};
use crate::config::limits::{RateLimits, Weight};
use crate::error::{Kept, LimitError, RequestError};
use crate::protocol::call::Call;
use crate::telemetry::spans::Parent;

impl Session {
    /// Sends several calls in one frame and returns what became of each, in the order of the calls, within
    /// `limit`. The peer may answer in any order, by one array or by single answers.
    ///
    /// Not every service speaks batches: [`Platform::encode_batch`](crate::Platform::encode_batch) says
    /// whether this one does, as [`Client`](crate::Client) and [`JsonRpc`](crate::platform::JsonRpc) do. Where
    /// it does not, the calls are written one after the other, and everything else here holds as well.
    ///
    /// A limiter is paid for every call before the frame is written; a batch that costs more than a pool can
    /// hold is not sent. A peer that cannot read the frame answers with one error without an id
    /// (section 5.1), which is nobody's answer: the calls end as of unknown fate at the deadline then.
    ///
    /// ```
    /// # use mainstay::testing::{Matcher, Script, ScriptedServer};
    /// # use mainstay::{Call, Client};
    /// # use serde_json::json;
    /// # use std::time::Duration;
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
    /// # let answer = |text: &str| {
    /// #     let calls: Vec<serde_json::Value> = serde_json::from_str(text).ok()?;
    /// #     let answers = calls.iter().map(|call| json!({
    /// #         "jsonrpc": "2.0", "id": call["id"], "result": call["params"][0],
    /// #     }));
    /// #     Some(serde_json::Value::from(answers.collect::<Vec<_>>()).to_string())
    /// # };
    /// # let server = ScriptedServer::builder().respond(answer).start().await?;
    /// # let session = Client::connect(server.url()).await?;
    /// let calls = [Call::new("echo", &[1])?, Call::new("echo", &[2])?];
    /// for result in session.batch(calls, Duration::from_secs(5)).await {
    ///     println!("{}", result?);
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`Session::call`], for each call by itself.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future withdraws a batch that has not been written; one that has is forgotten.
    pub async fn batch(
        &self,
        calls: impl IntoIterator<Item = Call>,
        limit: Duration,
    ) -> Vec<Result<Box<RawValue>, RequestError>> {
        let calls: Vec<Call> = calls.into_iter().collect();
        if calls.is_empty() {
            return Vec::new();
        }
        let methods: Vec<String> = calls.iter().map(|call| call.method().to_owned()).collect();
        let callers = &self.shared.plane.callers;
        let _waiting: Vec<_> = calls.iter().map(|_| callers.begin()).collect();
        let spans = &self.shared.plane.spans;
        let traced: Vec<Request> = methods
            .iter()
            .map(|method| spans.request(Parent::Caller, method))
            .collect();
        let outcomes = match self.submit(calls, &traced, limit).await {
            Ok(submitted) => self.settle(submitted, &methods, limit).await,
            Err(error) => methods
                .iter()
                .map(|method| Err(error.clone().of(method)))
                .collect(),
        };
        outcomes
            .into_iter()
            .zip(traced)
            .map(|(outcome, traced)| {
                let outcome = outcome.map_err(|error| self.failed_request(error));
                traced.end(&outcome);
                outcome
            })
            .collect()
    }

    /// Pays for all, and has them written. The error is that of each.
    async fn submit(
        &self,
        calls: Vec<Call>,
        traced: &[Request],
        limit: Duration,
    ) -> Result<Submitted, RequestError> {
        let not_sent = |kept: Kept| kept.of("batch");
        let expired = || not_sent(LimitError::Expired { waited: limit }.into());
        for call in &calls {
            // What is free by itself is not so in a frame that others share.
            let _ = self.is_free(call)?;
        }
        let (began, deadline) = (clock::now(), from_now(limit));
        let bytes = calls.iter().map(Call::bytes).sum();
        let line = self.line_when_live(bytes, deadline).await;
        let line = line.map_err(not_sent)?;
        let queued_at = clock::now();
        let mut price = self.price(&calls);
        let last = price.pop();
        let held = match self.hold(price, deadline).await {
            Ok(held) => held,
            Err(LimitError::Expired { .. }) => return Err(expired()),
            Err(error) => return Err(not_sent(error.into())),
        };
        let (mut requests, mut replies) = (Vec::new(), Vec::new());
        for (call, traced) in calls.into_iter().zip(traced) {
            let wait = Wait { limit, kept: None };
            let (port, mut reply) = ReplyPort::new(&self.shared.plane.given_up, Some(wait));
            reply.tell_id(traced.span());
            requests.push((call, port));
            replies.push(reply);
        }
        let toll = self.shared.plane.limiter.as_ref().zip(last);
        let queued = request::enqueue(&line, Outbound::Batch { requests }, toll, deadline);
        let delivered = match queued.await.map_err(not_sent)? {
            None => true,
            Some(mut queued) => match timeout_at(deadline, queued.turn()).await {
                // A turn that never comes, because the connection has ended, is told by the ports.
                Ok(turn) => turn,
                Err(_) if queued.expire() => return Err(expired()),
                Err(_) => true,
            },
        };
        if delivered {
            held.into_iter().for_each(Held::spend);
        }
        let turn = clock::now().saturating_duration_since(queued_at);
        Ok(Submitted {
            replies,
            turn: toll.and_then(|_| whole_millis(turn)),
            began,
            deadline,
        })
    }

    async fn settle(
        &self,
        submitted: Submitted,
        methods: &[String],
        limit: Duration,
    ) -> Vec<Result<Box<RawValue>, RequestError>> {
        let Submitted {
            replies,
            turn,
            began,
            deadline,
        } = submitted;
        let plane = &self.shared.plane;
        let each = methods.iter().zip(replies).map(async |(method, reply)| {
            match request::wait(plane, method, reply, None, limit, deadline).await {
                Ok(Some((answer, at))) => {
                    plane.counters.request(at.saturating_duration_since(began));
                    self.read(method, &answer)
                }
                Ok(None) => Err(request::unanswered(method, limit, turn)),
                Err(error) => Err(error.after_turn(turn)),
            }
        });
        join_all(each).await
    }

    /// What the calls cost, one sum for each pool, in the order of the pools.
    fn price(&self, calls: &[Call]) -> Vec<Weight> {
        let Some(limiter) = &self.shared.plane.limiter else {
            return Vec::new();
        };
        let limits = limiter.limits();
        let weights = calls
            .iter()
            .map(|call| self.shared.platform.weigh(limits, call));
        sums(limits, weights)
    }

    /// Pays for what the other pools want; given back unless it is spent.
    async fn hold(&self, price: Vec<Weight>, deadline: Instant) -> Result<Vec<Held>, LimitError> {
        let mut held = Vec::new();
        for weight in price {
            let Some(limiter) = &self.shared.plane.limiter else {
                break;
            };
            held.push(Limiter::hold(limiter, weight, deadline).await?);
        }
        Ok(held)
    }
}

/// A batch that is on its way.
struct Submitted {
    replies: Vec<Reply>,
    /// How long it waited for its turn under the limits.
    turn: Option<Duration>,
    began: std::time::Instant,
    deadline: Instant,
}

/// One weight for each pool. The least urgent of the calls decides how the batch waits.
fn sums(limits: &RateLimits, weights: impl Iterator<Item = Weight>) -> Vec<Weight> {
    let mut sums: BTreeMap<usize, Weight> = BTreeMap::new();
    for weight in weights {
        // What names no pool means the first.
        let pool = if weight.pool < limits.pools.len() {
            weight.pool
        } else {
            0
        };
        let nothing = Weight::new(0).of_pool(pool).lane(weight.lane);
        let sum = sums.entry(pool).or_insert(nothing);
        sum.cost = sum.cost.saturating_add(weight.cost);
        sum.lane = sum.lane.max(weight.lane);
    }
    sums.into_values().collect()
}
