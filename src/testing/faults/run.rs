//! Runs a session of ours through a fault script and judges what it said.
//!
//! Apart from the venue because here a client is chosen: subscriptions that are read all the time and orders that
//! are placed all the time, so that whatever goes wrong meets both.
//!
//! Invariants: every wait has a deadline; the session and the venue are gone when it returns; the same script
//! under paused time is run in the same order.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mainstay_supervisors::backoff::Backoff;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::check::{Seen, Violation, check_heard, check_served};
use super::clock::HOLD;
use super::fates::{SeenFate, SeenRequest, check_fates};
use super::log::{CAPACITY, FaultEntry, FaultEntryKind};
use super::script::{Afterwards, FaultScript};
use super::server::{FaultServer, FaultWire};
use crate::config::{ConfigBuilder, Liveness, ReconnectOwner};
use crate::error::{self, ConfigErrors, EndReason, RequestError, SubscribeError, chain};
use crate::frame::Frame;
use crate::platform::{Batch, Channel, JsonRpc, MarketSignal, Platform, Route};
use crate::protocol::cadence::Rung;
use crate::protocol::call::Call;
use crate::protocol::reconcile::{Finding, Reconcile};
use crate::protocol::rpc::{Class, Params, TypedCall};
use crate::session::Session;
use crate::session::observe::Notice;
use crate::session::subscription::{Event, SubscribeOptions, Subscription};
use crate::testing::certificate::StartError;

/// The channels that a run subscribes to.
const CHANNELS: [&str; 2] = ["a", "b"];

/// The venue of the fault scripts, as a session speaks to it. Its channels come as
/// `{"method":"subscription","params":{"channel":"a","data":{"n":7}}}`, its word about the market as
/// `{"method":"market","params":{"open":false}}`.
#[derive(Debug, Clone, Copy, Default)]
pub struct FaultPlatform;

impl Platform for FaultPlatform {
    fn name(&self) -> &str {
        "faults"
    }

    fn route<'f>(&self, frame: &'f [u8]) -> Route<'f> {
        if frame.starts_with(MARKET) {
            return Route::Heartbeat;
        }
        JsonRpc.route(frame)
    }

    fn market(&self, frame: &[u8]) -> Option<MarketSignal> {
        let said: Value = serde_json::from_slice(frame).ok()?;
        Some(match said["params"]["open"].as_bool()? {
            true => MarketSignal::Open,
            false => MarketSignal::Closed { until: None },
        })
    }

    fn subscribe(&self, channels: &[Arc<str>]) -> Vec<Batch> {
        batch("subscribe", channels)
    }

    fn unsubscribe(&self, channels: &[Arc<str>]) -> Vec<Batch> {
        batch("unsubscribe", channels)
    }
}

/// How the venue's word about the market begins.
const MARKET: &[u8] = br#"{"method":"market""#;

fn batch(method: &'static str, channels: &[Arc<str>]) -> Vec<Batch> {
    let names: Vec<&str> = channels.iter().map(|name| &**name).collect();
    let call = Call::new(method, &json!({ "channels": names })).ok();
    let batch = call.map(|call| Batch::new(call, channels.to_vec()));
    batch.into_iter().collect()
}

/// A run could not begin.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FaultRunError {
    /// The venue cannot start.
    #[error("fault server cannot start")]
    Server(#[from] StartError),
    /// The configuration that was asked for cannot work.
    #[error("configuration of the run cannot work")]
    Config(#[from] ConfigErrors),
}

/// How a run came out.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum FaultOutcome {
    /// Every connection of the script was played and the session is live behind it, with data on every channel.
    Recovered,
    /// The session ended for good, or never started, and this is why.
    Ended(String),
    /// Neither came about in the given time.
    TimedOut,
}

/// What a run showed.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct FaultReport {
    /// How it came out.
    pub outcome: FaultOutcome,
    /// What each channel said.
    pub seen: BTreeMap<&'static str, Vec<Seen>>,
    /// What each order said.
    pub requests: Vec<SeenRequest>,
    /// The rungs that channels have climbed for want of data, in order; none without [`FaultRun::cadence`].
    pub climbs: Vec<(String, Rung)>,
    /// What the venue did.
    pub log: Vec<FaultEntry>,
    /// How many connections came in.
    pub accepted: u64,
    /// How long it took, by the runtime's clock.
    pub took: Duration,
    /// The promises that were not kept; empty if all were.
    pub violations: Vec<Violation>,
}

impl FaultReport {
    /// How many gaps the channels announced.
    #[must_use]
    pub fn gaps(&self) -> usize {
        let seen = self.seen.values().flatten();
        seen.filter(|seen| matches!(seen, Seen::Gap { .. })).count()
    }

    /// How many orders had this fate.
    #[must_use]
    pub fn fates(&self, fate: SeenFate) -> usize {
        let requests = self.requests.iter();
        requests.filter(|request| request.fate == fate).count()
    }
}

impl fmt::Display for FaultReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:?} after {:?} and {} connections; {} gaps; orders: {} answered, {} refused, {} not sent, \
             {} unknown, {} found executed, {} not executed",
            self.outcome,
            self.took,
            self.accepted,
            self.gaps(),
            self.fates(SeenFate::Answered),
            self.fates(SeenFate::Refused),
            self.fates(SeenFate::NotSent),
            self.fates(SeenFate::Unknown),
            self.fates(SeenFate::Found),
            self.fates(SeenFate::NotExecuted),
        )?;
        for violation in &self.violations {
            writeln!(f, "broken promise: {violation}")?;
        }
        Ok(())
    }
}

/// Runs a session through `script` with the options of a [`FaultRun`].
///
/// # Errors
///
/// [`FaultRunError`] if it cannot begin; whatever happens later stands in the report.
pub async fn run(script: &FaultScript, wire: FaultWire) -> Result<FaultReport, FaultRunError> {
    FaultRun::new(script.clone(), wire).run().await
}

/// A run of a session of ours through a fault script.
///
/// ```
/// use mainstay::testing::faults::{FaultOutcome, FaultRun, FaultScript, FaultWire};
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build()?.block_on(async {
/// let script = FaultScript::from_json(
///     r#"{ "connections": [
///         { "steps": [{ "serve": "200ms" }, { "cut": { "after": 137 } }, { "serve": "1m" }] },
///         { "steps": [{ "http": { "status": 429, "headers": { "retry-after": "2" } } }] }
///     ] }"#,
/// )?;
/// let report = FaultRun::new(script, FaultWire::Memory).run().await?;
/// assert_eq!(report.outcome, FaultOutcome::Recovered);
/// assert!(report.violations.is_empty(), "{report}");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "call `run`"]
pub struct FaultRun {
    script: FaultScript,
    wire: FaultWire,
    limit: Duration,
    cadence: Option<Duration>,
    configure: Box<dyn FnOnce(ConfigBuilder) -> ConfigBuilder + Send>,
}

impl fmt::Debug for FaultRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultRun")
            .field("script", &self.script.name)
            .field("wire", &self.wire)
            .field("limit", &self.limit)
            .finish_non_exhaustive()
    }
}

impl FaultRun {
    /// A run through `script` over `wire`.
    pub fn new(script: FaultScript, wire: FaultWire) -> Self {
        // What the script itself takes is nobody's delay.
        let (patience, hold) = match wire {
            FaultWire::Memory => (Duration::from_secs(600), Duration::MAX),
            FaultWire::Sockets => (Duration::from_secs(30), HOLD),
        };
        let limit = script.span(hold).saturating_add(patience);
        Self {
            script,
            wire,
            limit,
            cadence: None,
            configure: Box::new(|builder| builder),
        }
    }

    /// How long it may take. Default: as long as the script's own steps, and ten minutes more in memory, 30 seconds more
    /// over sockets.
    pub fn within(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// How often the channels are to bring data at the least. Default: as seldom as they like.
    pub fn cadence(mut self, cadence: Duration) -> Self {
        self.cadence = Some(cadence);
        self
    }

    /// Changes the session's configuration, which is impatient: it reconnects within 5 to 50 ms, also the first
    /// time, and gives up a connection after 600 ms of silence and a request after a second.
    pub fn configure(
        mut self,
        configure: impl FnOnce(ConfigBuilder) -> ConfigBuilder + Send + 'static,
    ) -> Self {
        self.configure = Box::new(configure);
        self
    }

    /// Runs it.
    ///
    /// # Errors
    ///
    /// [`FaultRunError`] if it cannot begin; whatever happens later stands in the report.
    pub async fn run(self) -> Result<FaultReport, FaultRunError> {
        let began = Instant::now();
        // Under a limit, a quarter of it is left to the orders.
        let limit = self.script.limit.as_ref();
        let pace = limit.map_or(Duration::ZERO, |limit| {
            let requests = u32::try_from(limit.requests.max(1)).unwrap_or(u32::MAX);
            limit.per * 4 / requests
        });
        let pace = pace.max(Duration::from_millis(20));
        // The session is not told of the limit. Whoever asks for more than it, and all at once when the connection is
        // back, is closed for that and has more to ask for by then, for ever.
        let most = limit.map_or(ORDERS, |limit| {
            (limit.requests / 2).saturating_sub(1).clamp(1, ORDERS)
        });
        // In real time a machine that is busy with other things may have been the fault.
        let every = self.script.every;
        let served_then = self.script.then == Afterwards::Serve;
        let served = self.wire == FaultWire::Memory
            && served_then
            && self.cadence.is_none_or(|cadence| cadence > every);
        let server = FaultServer::start(self.script, self.wire).await?;
        let builder = server
            .config()
            .reconnect_owner(ReconnectOwner::Adapter)
            .backoff(Backoff::new(
                Duration::from_millis(5),
                Duration::from_millis(50),
            ))
            .retry_first(true)
            .liveness(Liveness::new(
                Duration::from_millis(300),
                Duration::from_millis(300),
            ))
            .request_timeout(Duration::from_secs(1))
            .start_timeout(self.limit);
        let config = (self.configure)(builder).build()?;
        let small = config.queue.capacity < SMALL;
        let liveness = config.liveness;
        let mut story = Story {
            pace,
            most,
            notice: NOTICE + liveness.quiet + liveness.grace,
            options: match self.cadence {
                Some(cadence) => SubscribeOptions::new().cadence(cadence),
                None => SubscribeOptions::new(),
            },
            ..Story::default()
        };
        let outcome = match Session::start(FaultPlatform, config).await {
            Ok(session) => {
                let outcome = story.live(&session, &server, self.limit).await;
                session.shutdown().await;
                outcome
            }
            Err(error::StartError::Timeout(_)) => FaultOutcome::TimedOut,
            Err(error) => FaultOutcome::Ended(chain(&error)),
        };
        let Story {
            seen,
            asked_at,
            requests,
            climbs,
            ended,
            gone,
            ..
        } = story;
        let log = server.log();
        let accepted = server.accepted();
        let planned = server.planned();
        server.stop().await;
        let mut violations = check_fates(&log, &requests);
        if served {
            violations.extend(check_served(&log, planned, &ended));
        }
        // The session's own end is no loss.
        let before = log.iter().filter(|entry| {
            entry.kind != FaultEntryKind::Ended || ended.contains(&entry.connection)
        });
        let before: Vec<FaultEntry> = before.cloned().collect();
        for (channel, seen) in &seen {
            let lagged = seen.iter().any(|seen| {
                matches!(
                    seen,
                    Seen::Gap {
                        cause: "lagged",
                        ..
                    }
                )
            });
            let asked_at = asked_at.get(channel).copied().unwrap_or(0);
            let whole = !(small || lagged);
            let gone = (outcome == FaultOutcome::Recovered && served_then).then_some(&gone[..]);
            violations.extend(check_heard(&before, channel, seen, asked_at, whole, gone));
        }
        if log.len() >= CAPACITY {
            violations.push(Violation {
                of: "log".to_owned(),
                what: format!("more than {CAPACITY} entries; nothing can be judged"),
            });
        }
        Ok(FaultReport {
            outcome,
            seen,
            requests,
            climbs,
            log,
            accepted,
            took: began.elapsed(),
            violations,
        })
    }
}

/// What the session says while it is run.
#[derive(Default)]
struct Story {
    seen: BTreeMap<&'static str, Vec<Seen>>,
    asked_at: BTreeMap<&'static str, u64>,
    requests: Vec<SeenRequest>,
    climbs: Vec<(String, Rung)>,
    /// How the channels are subscribed to.
    options: SubscribeOptions,
    /// Between two orders, and between two attempts to subscribe.
    pace: Duration,
    /// How many orders wait for an answer, or for a connection, at a time.
    most: usize,
    /// How long the session may take to notice an end.
    notice: Duration,
    /// The connections that had ended when the session was asked last what it knows.
    ended: Vec<u64>,
    /// Those that had when it had told everything.
    gone: Vec<u64>,
}

impl Story {
    async fn live(
        &mut self,
        session: &Session,
        server: &FaultServer,
        limit: Duration,
    ) -> FaultOutcome {
        let deadline = Instant::now() + limit;
        let heard = Arc::new(Heard::new());
        let climbs: Arc<Mutex<Vec<(String, Rung)>>> = Arc::default();
        let told = Arc::clone(&climbs);
        let watching = session.register(CAPACITY, move |notice| {
            if let Notice::Stale { channel, rung, .. } = notice {
                let mut climbs = told.lock().unwrap_or_else(PoisonError::into_inner);
                climbs.push((channel.to_string(), rung));
            }
        });
        let mut readers = JoinSet::new();
        for place in 0..CHANNELS.len() {
            let (session, heard) = (session.clone(), Arc::clone(&heard));
            let (options, pace) = (self.options.clone(), self.pace);
            readers.spawn(listen(
                session,
                place,
                options,
                pace,
                heard,
                server.number(),
            ));
        }
        let asked: Arc<Mutex<Vec<SeenRequest>>> = Arc::default();
        let mut orders = JoinSet::new();
        orders.spawn(order_on(
            session.clone(),
            self.pace,
            self.most,
            Arc::clone(&asked),
        ));

        let left = || deadline.saturating_duration_since(Instant::now());
        let came_back = async {
            if !server.played(left()).await {
                return FaultOutcome::TimedOut;
            }
            match timeout(left(), heard.beyond(server.number()())).await {
                Ok(()) => FaultOutcome::Recovered,
                Err(_) => FaultOutcome::TimedOut,
            }
        };
        let outcome = tokio::select! {
            biased;
            outcome = came_back => outcome,
            reason = session.ended() => FaultOutcome::Ended(reason.to_string()),
        };
        orders.shutdown().await;
        self.ended = ended(&server.log());
        if outcome != FaultOutcome::Recovered || self.ended.contains(&server.accepted()) {
            // Long enough for every end so far to be noticed and told.
            sleep(self.notice).await;
        }
        readers.shutdown().await;
        // Whatever was heard has been written down by its sender when it has had a turn.
        sleep(Duration::from_millis(1)).await;
        self.gone = ended(&server.log());
        (self.seen, self.asked_at) = heard.take();
        drop(watching);
        let mut climbs = climbs.lock().unwrap_or_else(PoisonError::into_inner);
        self.climbs = std::mem::take(&mut climbs);
        let mut requests = asked.lock().unwrap_or_else(PoisonError::into_inner);
        self.requests = std::mem::take(&mut requests);
        outcome
    }
}

/// Orders that wait at a time where nothing limits them.
const ORDERS: usize = 64;

/// A queue below this may lag behind a reader that never pauses.
const SMALL: usize = 256;

/// How long a session may take to tell of an end, beside its patience with silence.
const NOTICE: Duration = Duration::from_millis(1400);

fn ended(log: &[FaultEntry]) -> Vec<u64> {
    let ends = log
        .iter()
        .filter(|entry| entry.kind == FaultEntryKind::Ended);
    ends.map(|entry| entry.connection).collect()
}

/// What the channels have said so far.
struct Heard {
    seen: Mutex<BTreeMap<&'static str, Vec<Seen>>>,
    /// The number that the venue had come to when each was subscribed to: what was sent before, under an attempt
    /// that was given up, belongs to nobody.
    asked_at: Mutex<BTreeMap<&'static str, u64>>,
    /// The number that each channel brought last.
    numbers: watch::Sender<[u64; CHANNELS.len()]>,
}

impl Heard {
    fn new() -> Self {
        Self {
            seen: Mutex::default(),
            asked_at: Mutex::default(),
            numbers: watch::Sender::new([0; CHANNELS.len()]),
        }
    }

    fn hear(&self, place: usize, seen: Seen) {
        let said = match seen {
            Seen::Data { number, .. } => Some(number),
            Seen::Gap { .. }
            | Seen::Resynced { .. }
            | Seen::Replaced { .. }
            | Seen::Ended
            | Seen::SubscribedAgain => None,
        };
        let mut all = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        all.entry(CHANNELS[place]).or_default().push(seen);
        drop(all);
        if let Some(number) = said {
            self.numbers.send_modify(|numbers| numbers[place] = number);
        }
    }

    /// Waits until every channel has brought a message that was sent behind `number`.
    async fn beyond(&self, number: u64) {
        let mut numbers = self.numbers.subscribe();
        let all = |numbers: &[u64; CHANNELS.len()]| numbers.iter().all(|last| *last > number);
        // The sender lives in `self`, so this cannot fail.
        let _ = numbers.wait_for(all).await;
    }

    fn ask(&self, place: usize, number: u64) {
        let mut all = self.asked_at.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(CHANNELS[place], number);
    }

    fn take(
        &self,
    ) -> (
        BTreeMap<&'static str, Vec<Seen>>,
        BTreeMap<&'static str, u64>,
    ) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let mut asked_at = self.asked_at.lock().unwrap_or_else(PoisonError::into_inner);
        (std::mem::take(&mut *seen), std::mem::take(&mut *asked_at))
    }
}

/// Subscribes until it succeeds, and once more when the subscription alone has ended, and writes down what is said.
async fn listen(
    session: Session,
    place: usize,
    options: SubscribeOptions,
    pace: Duration,
    heard: Arc<Heard>,
    sent: impl Fn() -> u64,
) {
    let mut again = false;
    loop {
        if !again {
            heard.ask(place, sent());
        }
        let channel = Channel::<Frame>::new(CHANNELS[place]);
        match session.subscribe_with(channel, options.clone()).await {
            Ok(subscription) => {
                if again {
                    heard.hear(place, Seen::SubscribedAgain);
                }
                again = true;
                if follow(subscription, place, &heard).await.is_break() {
                    return;
                }
            }
            Err(SubscribeError::Ended { .. }) => return,
            Err(_) => {}
        }
        sleep(pace).await;
    }
}

/// Writes down what a subscription says; breaks if the session is over with it.
async fn follow(
    mut subscription: Subscription<Frame>,
    place: usize,
    heard: &Heard,
) -> ControlFlow<()> {
    while let Some(event) = subscription.next().await {
        let seen = match event {
            Event::Data(data) => {
                if data.replaced > 0 {
                    let messages = data.replaced;
                    heard.hear(place, Seen::Replaced { messages });
                }
                Seen::Data {
                    epoch: data.epoch.as_u64(),
                    number: number(&data),
                }
            }
            Event::Gap(gap) => Seen::Gap {
                epoch: gap.epoch.as_u64(),
                cause: gap.cause.label(),
            },
            Event::Resynced(resynced) => Seen::Resynced {
                epoch: resynced.epoch.as_u64(),
            },
            Event::Ended(reason) => {
                heard.hear(place, Seen::Ended);
                return match reason {
                    EndReason::Lagged | EndReason::Refused(_) | EndReason::NotRestored => {
                        ControlFlow::Continue(())
                    }
                    EndReason::Shutdown | EndReason::Fatal(_) | EndReason::Exhausted(_) => {
                        ControlFlow::Break(())
                    }
                };
            }
        };
        heard.hear(place, seen);
    }
    ControlFlow::Break(())
}

/// The number in a message; zero, which the venue never sends, if there is none.
fn number(frame: &Frame) -> u64 {
    let message: Option<Value> = serde_json::from_slice(frame.payload()).ok();
    let number = message.and_then(|message| message["params"]["data"]["n"].as_u64());
    number.unwrap_or(0)
}

/// Places an order every so often, one class after the other, and writes down what became of each.
async fn order_on(
    session: Session,
    pace: Duration,
    most: usize,
    told: Arc<Mutex<Vec<SeenRequest>>>,
) {
    let mut orders = JoinSet::new();
    for order in 1.. {
        if orders.len() >= most {
            orders.join_next().await;
        }
        let (session, told) = (session.clone(), Arc::clone(&told));
        orders.spawn(async move {
            let params = Params::new().with("order", &order);
            let call = |class| TypedCall::<Value>::new("order", params.clone(), class);
            let (call, repeatable) = match order % 3 {
                0 => (call(Class::AtMostOnce), false),
                1 => (call(Class::Idempotent), true),
                _ => {
                    let call = call(Class::AtMostOnce);
                    (call.reconcile(find(params.clone())), false)
                }
            };
            let fate = fate(session.invoke(call).await);
            let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
            told.push(SeenRequest::new(order, repeatable, fate));
        });
        sleep(pace).await;
    }
}

/// What only the query about an order says.
const FOUND: &str = "found";

/// Asks the venue whether it has carried out an order.
fn find(params: Params) -> Reconcile<Value> {
    let find = TypedCall::<Value>::new("find", params, Class::Idempotent);
    Reconcile::new(find, |found| match found {
        Ok(Value::Null) => Finding::NotExecuted,
        Ok(_) => Finding::Executed(FOUND.into()),
        Err(error) => Finding::CannotTell(error.to_string()),
    })
}

fn fate(result: Result<Value, RequestError>) -> SeenFate {
    match result {
        Ok(found) if found == FOUND => SeenFate::Found,
        Ok(_) | Err(RequestError::Undecodable { .. }) => SeenFate::Answered,
        Err(RequestError::Answered { .. }) => SeenFate::Refused,
        Err(RequestError::NotSent { .. } | RequestError::Unencodable { .. }) => SeenFate::NotSent,
        Err(RequestError::Unknown { .. }) => SeenFate::Unknown,
        Err(RequestError::NotExecuted { .. }) => SeenFate::NotExecuted,
    }
}
