//! The limiter that sessions and programs share: who may be sent now, and who waits.
//!
//! Apart from the machine (`protocol/limiter`) because it has a lock, a timer and tasks that wait; it
//! decides nothing. It belongs to no session: several sessions of one account keep to one limit by one
//! `Limiter`.
//!
//! Invariants: what is granted is delivered in the order of the grants, under the lock; one task at most
//! waits for the time to pass, and only while somebody waits; a place is given back when its owner is
//! dropped; nothing is logged under the lock.

mod claim;
mod tell;
mod waiting;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, sleep_until};

use super::clock;
use super::line::{Line, Outbound};
use super::reporter::Reporter;
use crate::config::limits::{Lane, RateLimits, Weight};
use crate::error::{ConfigError, LimitError};
use crate::protocol::limiter::{self, PoolStatus, Pressure, Refusal};
use crate::telemetry::{Collector, TelemetryEvent};
pub(crate) use claim::{Held, Queued, whole_millis};
use tell::pressure;
use waiting::Waiting;

/// Keeps to a venue's limits for whoever shares it. Cheap to clone; all clones are the same limiter.
///
/// A session makes one of its own from its configuration or its platform's defaults. To keep several
/// sessions of one account within one limit, make one here and give it to each
/// ([`Session::start_sharing`](crate::Session::start_sharing)); a program's own HTTP requests can use it too.
///
/// ```
/// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
/// use std::time::Duration;
/// use mainstay::Limiter;
/// use mainstay::config::RateLimits;
///
/// let limiter = Limiter::new("account", RateLimits::bucket(20, 5, Duration::from_secs(1)))?;
/// assert!(limiter.try_acquire(1));
/// limiter.acquire(1, Duration::from_secs(2)).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Limiter {
    shared: Arc<Shared>,
}

struct Shared {
    /// Where events go; its name is the limiter's.
    reporter: Arc<Reporter>,
    limits: RateLimits,
    state: Mutex<State>,
    /// Tells the task that it may have to wake earlier.
    earlier: Arc<Notify>,
}

struct State {
    machine: limiter::Limiter<Waiting>,
    /// The task that waits for the time to pass, by number; set when somebody begins to wait, cleared by
    /// the task's end, in whatever way.
    pump: Option<u64>,
    pumps: u64,
}

/// How a limiter stands.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LimiterStatus {
    /// Each pool, in the order of [`RateLimits::pools`].
    pub pools: Vec<PoolStatus>,
    /// What requests cost by now, in hundredths of their usual price: above 100 for a while after a complaint
    /// of the venue's, if the limits are [adaptive](RateLimits::adaptive).
    pub price_percent: u64,
    /// For how long a complaint of the venue's still keeps all but the reserved lane waiting.
    pub rest: Option<Duration>,
}

impl LimiterStatus {
    /// What could be taken out of the first pool now.
    #[must_use]
    pub fn tokens(&self) -> u64 {
        self.pools.first().map_or(0, |pool| pool.tokens)
    }

    /// How many wait, for any pool.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.pools.iter().map(|pool| pool.queued).sum()
    }

    /// The highest pressure of any pool.
    #[must_use]
    pub fn pressure(&self) -> Pressure {
        let levels = self.pools.iter().map(|pool| pool.pressure);
        levels.max().unwrap_or_default()
    }

    /// The longest delay that any pool suggests.
    #[must_use]
    pub fn suggested_delay(&self) -> Duration {
        let delays = self.pools.iter().map(|pool| pool.suggested_delay);
        delays.max().unwrap_or_default()
    }
}

impl Limiter {
    /// A limiter with every pool full. `name` appears in events.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] if the limits cannot work.
    pub fn new(name: impl Into<Arc<str>>, limits: RateLimits) -> Result<Self, ConfigError> {
        Self::observed(name, limits, [])
    }

    /// [`Limiter::new`] with collectors that hear of what happens in it, beside `tracing`. A session's own
    /// limiter tells the collectors of the session's configuration.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] if the limits cannot work.
    pub fn observed(
        name: impl Into<Arc<str>>,
        limits: RateLimits,
        collectors: impl IntoIterator<Item = Arc<dyn Collector>>,
    ) -> Result<Self, ConfigError> {
        limits.check()?;
        let collectors = collectors.into_iter().collect();
        let reporter = Reporter::new(&name.into(), collectors);
        Ok(Self::checked(reporter, limits))
    }

    /// The limiter of a session whose configuration has been checked.
    pub(crate) fn checked(reporter: Arc<Reporter>, limits: RateLimits) -> Self {
        let machine = limiter::Limiter::new(&limits, clock::now());
        let state = State {
            machine,
            pump: None,
            pumps: 0,
        };
        Self {
            shared: Arc::new(Shared {
                reporter,
                limits,
                state: Mutex::new(state),
                earlier: Arc::new(Notify::new()),
            }),
        }
    }

    /// The name that its events bear.
    #[cfg(any(feature = "otel", feature = "prometheus"))]
    pub(crate) fn name(&self) -> &Arc<str> {
        self.shared.reporter.shared_name()
    }

    /// The limits that it keeps to.
    #[must_use]
    pub fn limits(&self) -> &RateLimits {
        &self.shared.limits
    }

    /// Pays now, or not at all: `false` if the pool lacks it or others wait for it. Takes a number, for the
    /// cost in the first pool, or a [`Weight`].
    #[must_use]
    pub fn try_acquire(&self, weight: impl Into<Weight>) -> bool {
        let mut state = self.lock();
        let paid = state.machine.try_acquire(weight.into(), clock::now());
        let movements = state.machine.movements();
        drop(state);
        self.shared.tell(&movements);
        paid
    }

    /// Waits for its turn and pays, within `limit`.
    ///
    /// # Errors
    ///
    /// [`LimitError`]: the queue is full, the cost can never be paid, or its turn did not come in time.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives its place back, and what it may have paid.
    pub async fn acquire(
        &self,
        weight: impl Into<Weight>,
        limit: Duration,
    ) -> Result<(), LimitError> {
        let weight = weight.into();
        if self.shared.limits.is_unlimited() {
            return Ok(());
        }
        let (sender, receiver) = oneshot::channel();
        let deadline = clock::from_now(limit).into_std();
        let waiting = Waiting::Caller { weight, sender };
        let mut queued = self.submit(waiting, weight, Some(deadline), receiver)?;
        queued.refund = Some(weight);
        if queued.turn().await {
            queued.refund = None;
            return Ok(());
        }
        Err(LimitError::Expired { waited: limit })
    }

    /// Waits for its turn and pays for something that may yet not be sent.
    pub(crate) async fn hold(&self, weight: Weight, deadline: Instant) -> Result<Held, LimitError> {
        let limit = deadline.saturating_duration_since(Instant::now());
        self.acquire(weight, limit).await?;
        Ok(Held {
            limiter: self.clone(),
            weight: Some(weight),
        })
    }

    /// Pays now, or not at all, for something that may yet not be done.
    pub(crate) fn try_hold(&self, weight: Weight) -> Option<Held> {
        self.try_acquire(weight).then(|| Held {
            limiter: self.clone(),
            weight: Some(weight),
        })
    }

    /// How it stands.
    #[must_use]
    pub fn status(&self) -> LimiterStatus {
        let now = clock::now();
        let machine = &mut self.lock().machine;
        LimiterStatus {
            pools: machine.status(now),
            price_percent: machine.price_percent(now),
            rest: machine.rest(now),
        }
    }

    /// The venue says that we are too fast: all but the reserved lane rests for `pause`, or for
    /// [`RateLimits::pause`] if the venue does not say how long. Sessions do this by themselves.
    pub fn on_limited(&self, pause: Option<Duration>) {
        if self.shared.limits.is_unlimited() {
            return;
        }
        let now = clock::now();
        let until = self.lock().machine.on_limited(pause, now);
        let rest = until.saturating_duration_since(now);
        self.shared.report(&TelemetryEvent::LimitedByVenue { rest });
        self.shared.earlier.notify_one();
    }

    /// Queues what is to be written on `line`; it is put there when it is granted.
    pub(crate) fn deliver(
        &self,
        line: &Arc<Line>,
        outbound: Outbound,
        weight: Weight,
        urgent: bool,
        deadline: Option<std::time::Instant>,
    ) -> Result<Queued, LimitError> {
        let (turn, receiver) = oneshot::channel();
        let waiting = Waiting::Delivery {
            weight,
            line: Arc::clone(line),
            outbound,
            urgent,
            turn,
        };
        self.submit(waiting, weight, deadline, receiver)
    }

    /// Gives up what waits for a connection that is over.
    pub(crate) fn sweep(&self) {
        let swept = self.lock().machine.sweep(Waiting::is_dead);
        if !swept.is_empty() {
            drop(swept);
            self.shared.turn();
        }
    }

    /// Books a control frame that was written without asking.
    pub(crate) fn spend_control(&self) {
        let mut state = self.lock();
        let cost = state.machine.control_cost();
        if cost > 0 {
            let weight = Weight::new(cost).lane(Lane::Reserved);
            state.machine.spend(weight, clock::now());
            let movements = state.machine.movements();
            drop(state);
            self.shared.tell(&movements);
        }
    }

    fn submit(
        &self,
        waiting: Waiting,
        weight: Weight,
        deadline: Option<std::time::Instant>,
        receiver: oneshot::Receiver<std::time::Instant>,
    ) -> Result<Queued, LimitError> {
        let since = clock::now();
        let submitted = self.lock().machine.submit(waiting, weight, deadline);
        // A port among what was refused tells its caller when it is dropped, not under the lock.
        let place = submitted.map_err(|(_, refusal)| match refusal {
            Refusal::Full { capacity } => {
                let pool = self.shared.pool(weight.pool);
                self.shared
                    .report(&TelemetryEvent::LimitQueueFull { pool, capacity });
                LimitError::QueueFull { capacity }
            }
            Refusal::TooDear { cost, most } => LimitError::TooDear { cost, most },
        })?;
        self.shared.turn();
        self.pump();
        Ok(Queued {
            limiter: self.clone(),
            place,
            receiver,
            since,
            refund: None,
        })
    }

    /// Sees to it that a task waits for the time to pass, if anybody waits at all.
    fn pump(&self) {
        let number = {
            let mut state = self.lock();
            if state.machine.next_timeout(clock::now()).is_none() {
                return;
            }
            if state.pump.is_some() {
                drop(state);
                self.shared.earlier.notify_one();
                return;
            }
            state.pumps += 1;
            state.pump = Some(state.pumps);
            state.pumps
        };
        let shared = Arc::downgrade(&self.shared);
        let earlier = Arc::clone(&self.shared.earlier);
        tokio::spawn(pump(Pump { shared, number }, earlier));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.shared.lock()
    }
}

impl fmt::Debug for Limiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Limiter")
            .field("name", &self.shared.reporter.name())
            .field("status", &self.status())
            .finish()
    }
}

impl Shared {
    /// Delivers what can be, and says when the next may be. Tells afterwards.
    fn turn(&self) {
        let mut changes = Vec::new();
        let movements = {
            let mut state = self.lock();
            let now = clock::now();
            loop {
                let turn = state.machine.turn(now);
                changes.extend(turn.changes);
                turn.expired.into_iter().for_each(Waiting::expire);
                let unused: Vec<Weight> = turn
                    .granted
                    .into_iter()
                    .filter_map(|waiting| waiting.grant(now).err())
                    .collect();
                if unused.is_empty() {
                    break;
                }
                for weight in unused {
                    state.machine.refund(weight, now);
                }
            }
            state.machine.movements()
        };
        self.tell(&movements);
        for change in &changes {
            self.report(&pressure(change));
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The running task's claim on being the only one.
struct Pump {
    shared: Weak<Shared>,
    number: u64,
}

impl Drop for Pump {
    fn drop(&mut self) {
        // A runtime that ends takes the task with it; another one's callers start their own.
        if let Some(shared) = self.shared.upgrade() {
            let mut state = shared.lock();
            if state.pump == Some(self.number) {
                state.pump = None;
            }
        }
    }
}

async fn pump(pump: Pump, earlier: Arc<Notify>) {
    loop {
        let next = {
            let Some(shared) = pump.shared.upgrade() else {
                return;
            };
            shared.turn();
            let mut state = shared.lock();
            let next = state.machine.next_timeout(clock::now());
            if next.is_none() {
                state.pump = None;
            }
            next
        };
        let Some(next) = next else { return };
        tokio::select! {
            () = sleep_until(Instant::from_std(next)) => {}
            () = earlier.notified() => {}
        }
    }
}

#[cfg(test)]
mod tests;
