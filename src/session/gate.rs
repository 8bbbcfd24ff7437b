//! The gate that attempts to connect pass: how many there may be, and whether there may be any now.
//!
//! Apart from the limiter of requests because a venue counts connections in an account of their own, and because
//! it belongs to a place and not to a session: all that connect there share it. What it decides is decided by
//! `protocol/limiter` and `protocol/breaker`.
//!
//! Invariants: an attempt that may not begin waits, for as long as its session's `limits.gate` says, and is never lost; it waits within its Transport, so that no
//! restart is booked for it; who waits has been told of it in an event; whatever passed is told to the breaker
//! when it ends, in whatever way.

mod breakers;

use std::collections::BTreeMap;
use std::fmt;
use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until};

use super::clock;
use super::endpoints::{Place, Places};
use super::limiter::{Limiter, LimiterStatus};
use super::plane::asked_pause;
use super::reporter::Reporter;
use crate::close::CloseReason;
use crate::config::BreakerPolicy;
use crate::config::limits::{RateLimits, Weight};
use crate::error::{ConfigError, LimitError};
use crate::protocol::breaker::{Answer, Attempt, Breaker, BreakerState, Outcome};
use crate::telemetry::{Collector, TelemetryEvent};
use breakers::{Breakers, Told, worst};

/// What attempts to connect to one place have to pass. Cheap to clone; all clones are the same gate.
///
/// It holds a limit of attempts ("300 connections in 5 minutes for an address"), a circuit breaker for each endpoint,
/// or both. Give
/// one gate to every session that connects to the place
/// ([`Client::connect_sharing`](crate::Client::connect_sharing),
/// [`Session::start_sharing`](crate::Session::start_sharing), [`SessionSpec::gate`](crate::SessionSpec::gate)):
/// together they then stay within the limit, also when all of them lose one server at once. A session alone can be
/// limited by its configuration ([`ConfigBuilder::connect_limits`](crate::config::ConfigBuilder::connect_limits)).
///
/// An attempt that may not begin is postponed. The session stays `Connecting`, an `attempt postponed` event says
/// why, and [`Gate::status`] counts who waits; the time counts towards
/// [`start_timeout`](crate::config::Config::start_timeout) and has a limit of its own,
/// [`PhaseLimits::gate`](crate::config::PhaseLimits::gate), after which the attempt has failed.
///
/// ```
/// use std::time::Duration;
/// use mainstay::Gate;
/// use mainstay::config::{BreakerPolicy, RateLimits};
///
/// let gate = Gate::new("venue")
///     .limit(RateLimits::window(300, Duration::from_secs(300)))?
///     .breaker(BreakerPolicy::new(20, Duration::from_secs(60)))?;
/// assert_eq!(gate.status().waiting, 0);
/// # Ok::<(), mainstay::error::ConfigError>(())
/// ```
#[derive(Clone)]
pub struct Gate {
    shared: Arc<Shared>,
}

#[derive(Clone)]
struct Shared {
    name: Arc<str>,
    collectors: Vec<Arc<dyn Collector>>,
    reporter: Arc<Reporter>,
    limiter: Option<Limiter>,
    breakers: Option<Arc<Breakers>>,
    /// The breaker was told something.
    changed: Arc<Notify>,
    waiting: Arc<AtomicUsize>,
}

/// How a gate stands.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct GateStatus {
    /// The breaker's state; `None` without one. Where several endpoints have one each, that of the worst off: open,
    /// then half open, then closed.
    pub breaker: Option<BreakerState>,
    /// The state of each endpoint's breaker, by host and port: of those that somebody has wanted to connect to.
    pub breakers: BTreeMap<Arc<str>, BreakerState>,
    /// The limit's account; `None` without one.
    pub limit: Option<LimiterStatus>,
    /// Attempts that wait, for whichever of the two.
    pub waiting: usize,
}

impl Gate {
    /// A gate that lets everybody pass. `name` appears in events.
    #[must_use]
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        Self::observed(name, [])
    }

    /// [`Gate::new`] with collectors that hear of what happens in it, beside `tracing`.
    #[must_use]
    pub fn observed(
        name: impl Into<Arc<str>>,
        collectors: impl IntoIterator<Item = Arc<dyn Collector>>,
    ) -> Self {
        let (name, collectors): (Arc<str>, Vec<_>) =
            (name.into(), collectors.into_iter().collect());
        let reporter = Reporter::new(&name, collectors.clone());
        Self {
            shared: Arc::new(Shared {
                name,
                collectors,
                reporter,
                limiter: None,
                breakers: None,
                changed: Arc::default(),
                waiting: Arc::default(),
            }),
        }
    }

    /// The same gate with this limit of attempts; only the first pool counts, each attempt costs 1, and nothing is
    /// kept in reserve. HTTP 429 in answer to an attempt makes all of them rest, for as long as its `Retry-After`
    /// says.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] if the limits cannot work.
    pub fn limit(self, limits: RateLimits) -> Result<Self, ConfigError> {
        limits.check()?;
        let limiter = self.limiter(limits);
        Ok(self.with(|shared| shared.limiter = Some(limiter)))
    }

    /// The same gate with such a circuit breaker for each endpoint: each host and port that the gate's sessions
    /// connect to. While that of one is open, sessions with [`fallbacks`](crate::Config::fallbacks) go to another.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] if the policy cannot work.
    pub fn breaker(self, policy: BreakerPolicy) -> Result<Self, ConfigError> {
        policy.check()?;
        let breakers = Breakers::new(policy);
        Ok(self.with(|shared| shared.breakers = Some(Arc::new(breakers))))
    }

    /// The gate of a session whose configuration has been checked.
    pub(crate) fn checked(
        name: &str,
        collectors: Vec<Arc<dyn Collector>>,
        limits: RateLimits,
    ) -> Self {
        let gate = Self::observed(name, collectors);
        let limiter = gate.limiter(limits);
        gate.with(|shared| shared.limiter = Some(limiter))
    }

    /// The name that its events bear.
    #[cfg(any(feature = "otel", feature = "prometheus"))]
    pub(crate) fn name(&self) -> &Arc<str> {
        &self.shared.name
    }

    /// How it stands.
    #[must_use]
    pub fn status(&self) -> GateStatus {
        let breakers = self.shared.breaker_states();
        let breaker = self.shared.breakers.as_ref().map(|_| worst(&breakers));
        GateStatus {
            breaker,
            breakers,
            limit: self.shared.limiter.as_ref().map(Limiter::status),
            waiting: self.shared.waiting.load(Ordering::Relaxed),
        }
    }

    /// The venue says that there are too many connections: all attempts rest for `pause`, or for
    /// [`RateLimits::pause`]. Nothing without a limit. Sessions do this by themselves.
    pub fn on_limited(&self, pause: Option<Duration>) {
        if let Some(limiter) = &self.shared.limiter {
            limiter.on_limited(pause);
        }
    }

    /// Rests if an attempt failed because there are too many.
    pub(crate) fn heed(&self, reason: &CloseReason) {
        if reason.is_rate_limit() {
            self.on_limited(asked_pause(reason));
        }
    }

    /// Waits until an attempt may begin at one of `places`, and chooses at which; `reporter`, the session's, tells of
    /// it. Without a deadline of its own: the caller has one, `limits.gate`. Cancel safe: dropping it gives everything
    /// back.
    pub(crate) async fn enter(&self, reporter: &Reporter, places: &Places) -> Pass {
        let shared = &self.shared;
        let mut waiting = Waiting {
            count: &shared.waiting,
            reporter,
            told: None,
        };
        loop {
            let changed = shared.changed.notified();
            tokio::pin!(changed);
            // From here on no change is missed.
            changed.as_mut().enable();
            let endpoint = &self.choose(places).key;
            if let Some(until) = shared.closed_until(endpoint) {
                let now = clock::now();
                let wait = until.map(|until| until.saturating_duration_since(now));
                waiting.tell("breaker", wait);
                let rested = async {
                    match until {
                        Some(until) => sleep_until(Instant::from_std(until)).await,
                        None => pending().await,
                    }
                };
                tokio::select! {
                    () = rested => {}
                    () = changed => {}
                }
                continue;
            }
            let held = match &shared.limiter {
                None => None,
                Some(limiter) => match limiter.try_hold(ATTEMPT) {
                    Some(held) => Some(held),
                    None => {
                        waiting.tell("limit", None);
                        match limiter.hold(ATTEMPT, clock::from_now(LONG)).await {
                            Ok(held) => Some(held),
                            Err(LimitError::Expired { .. }) => continue,
                            // More wait than may; it comes again when the first of them have gone.
                            Err(LimitError::QueueFull { .. } | LimitError::TooDear { .. }) => {
                                sleep(crowded(limiter.limits())).await;
                                continue;
                            }
                        }
                    }
                },
            };
            // If the breaker has opened in the meantime, what was paid is given back with `held`.
            if let Ok(attempt) = shared.ask(endpoint) {
                if let Some(held) = held {
                    held.spend();
                }
                return Pass {
                    gate: self.clone(),
                    endpoint: Arc::clone(endpoint),
                    attempt,
                };
            }
        }
    }

    /// Where a session's next attempt goes, as its places and the breakers stand.
    pub(crate) fn choose<'p>(&self, places: &'p Places) -> &'p Place {
        places.choose(|endpoint| self.shared.closed_until(endpoint))
    }

    /// Lets an attempt at this endpoint begin if it may do so now.
    pub(crate) fn try_enter(&self, endpoint: &Arc<str>) -> Option<Pass> {
        let shared = &self.shared;
        if shared.closed_until(endpoint).is_some() {
            return None;
        }
        let held = match &shared.limiter {
            None => None,
            Some(limiter) => Some(limiter.try_hold(ATTEMPT)?),
        };
        let attempt = shared.ask(endpoint).ok()?;
        if let Some(held) = held {
            held.spend();
        }
        Some(Pass {
            gate: self.clone(),
            endpoint: Arc::clone(endpoint),
            attempt,
        })
    }

    fn limiter(&self, mut limits: RateLimits) -> Limiter {
        for pool in &mut limits.pools {
            pool.reserve = 0;
        }
        let name = format!("{}/attempts", self.shared.name);
        Limiter::checked(Reporter::new(&name, self.shared.collectors.clone()), limits)
    }

    fn with(self, change: impl FnOnce(&mut Shared)) -> Self {
        let mut shared = Arc::unwrap_or_clone(self.shared);
        change(&mut shared);
        Self {
            shared: Arc::new(shared),
        }
    }
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gate")
            .field("name", &self.shared.name)
            .field("status", &self.status())
            .finish()
    }
}

impl Shared {
    fn closed_until(&self, endpoint: &str) -> Option<Option<std::time::Instant>> {
        self.tell(endpoint, |breaker| breaker.closed_until(clock::now()))?
    }

    /// Without a breaker nothing has to be told of the attempt.
    fn ask(&self, endpoint: &str) -> Result<Option<Attempt>, ()> {
        match self.tell(endpoint, |breaker| breaker.ask(clock::now())) {
            None => Ok(None),
            Some(Answer::Pass(attempt)) => Ok(Some(attempt)),
            Some(Answer::Wait(_)) => Err(()),
        }
    }

    fn breaker_states(&self) -> BTreeMap<Arc<str>, BreakerState> {
        let Some(breakers) = &self.breakers else {
            return BTreeMap::new();
        };
        let state = |endpoint: Arc<str>| {
            let state = self.tell(&endpoint, |breaker| breaker.state(clock::now()))?;
            Some((endpoint, state))
        };
        breakers.endpoints().into_iter().filter_map(state).collect()
    }

    /// Tells an endpoint's breaker something, and everybody what that has changed; nothing without one.
    fn tell<R>(&self, endpoint: &str, act: impl FnOnce(&mut Breaker) -> R) -> Option<R> {
        let Told {
            answer,
            state,
            previous,
        } = self.breakers.as_ref()?.tell(endpoint, act);
        if state != previous {
            self.reporter.report(&TelemetryEvent::BreakerChanged {
                endpoint,
                state: state.label(),
                previous: previous.label(),
            });
            self.changed.notify_waiters();
        }
        Some(answer)
    }
}

/// An attempt that has passed a gate, until its connection has ended. Dropping it says that it was given up.
pub(crate) struct Pass {
    gate: Gate,
    /// Where it goes, as its breaker knows it.
    endpoint: Arc<str>,
    /// Taken by the end; `None` without a breaker.
    attempt: Option<Attempt>,
}

impl Pass {
    /// It led to a session that is live.
    pub(crate) fn live(&self) {
        if let Some(attempt) = self.attempt {
            self.tell(|breaker| breaker.on_live(attempt, clock::now()));
        }
    }

    /// It has ended.
    pub(crate) fn end(mut self, outcome: Outcome) {
        self.finish(outcome);
    }

    fn finish(&mut self, outcome: Outcome) {
        if let Some(attempt) = self.attempt.take() {
            self.tell(|breaker| breaker.on_end(attempt, outcome, clock::now()));
        }
    }

    fn tell(&self, act: impl FnOnce(&mut Breaker)) {
        let shared = &self.gate.shared;
        if shared.tell(&self.endpoint, act).is_some() {
            // Also where the state is the same: until when to wait may be another.
            shared.changed.notify_waiters();
        }
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        self.finish(Outcome::GivenUp);
    }
}

impl fmt::Debug for Pass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Pass").field(&self.attempt).finish()
    }
}

/// One that waits; counted until it is dropped.
struct Waiting<'a> {
    count: &'a AtomicUsize,
    reporter: &'a Reporter,
    /// What was told of last; set by the first wait.
    told: Option<&'static str>,
}

impl Waiting<'_> {
    /// It waits, for this reason. The same reason is told of once, however often one has to ask again.
    fn tell(&mut self, why: &'static str, wait: Option<Duration>) {
        let before = self.told.replace(why);
        if before.is_none() {
            self.count.fetch_add(1, Ordering::Relaxed);
        }
        if before != Some(why) {
            let event = TelemetryEvent::AttemptPostponed { why, wait };
            self.reporter.report(&event);
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if self.told.is_some() {
            self.count.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// How long to stay away from a queue that is full.
fn crowded(limits: &RateLimits) -> Duration {
    let interval = limits.pools.first().map(|pool| pool.rule.interval());
    interval.unwrap_or(SHORT).max(SHORT)
}

/// What an attempt costs.
const ATTEMPT: Weight = Weight::new(1);
/// Longer than any limit makes one wait; who still waits then asks again.
const LONG: Duration = Duration::from_secs(24 * 3600);
const SHORT: Duration = Duration::from_millis(10);
