//! The data plane of one session: what its actors, its reader and its user share.
//!
//! It is no actor and has no task. It stands beside the tree so that frames need not cross a mailbox,
//! and so that a subscription outlives whatever is restarted.
//!
//! Invariants: at most one line is open; epochs rise by one with each connection that opens; whoever
//! closes an epoch, and in whatever way, every subscription is told of the gap exactly once.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use arc_swap::{ArcSwapOption, Guard};
use tokio::sync::{Semaphore, watch};
use tracing::Span;

use super::callers::Callers;
use super::clock;
use super::endpoints::Places;
use super::gate::{Gate, Pass};
use super::handshake::Handshake;
use super::hooked::Hooked;
use super::limiter::Limiter;
use super::line::{Line, LineSender};
use super::observe::{Notice, Observers};
use super::outbox::Outbox;
use super::reporter::Reporter;
use super::routes::Routes;
use super::secrets::Known;
use super::send::Pings;
use super::spans::Spans;
use super::statistics::Counters;
use super::subscriber::{Delivered, Subscriber};
use super::tape::Tape;
use super::vitals::HeartbeatHealth;
use crate::close::{CloseReason, GapCause};
use crate::config::{Config, StableBy};
use crate::error::{EndReason, Recovery};
use crate::hooks::Hooks;
use crate::protocol::continuity::Epoch;
use crate::protocol::market::{Market, MarketHours, MarketSignal};
use crate::protocol::status::{Status, StatusHistory, Transition, Why};
use crate::protocol::subscriptions::Ledger;
use crate::protocol::venue_time::VenueTime;
use crate::telemetry::TelemetryEvent;

/// Steps of a session's life that are remembered.
const HISTORY: usize = 100;

/// What a session is doing.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum SessionState {
    /// Seeking a connection.
    Connecting,
    /// Open; authenticating, preparing, restoring.
    Establishing {
        /// The connection's epoch.
        epoch: Epoch,
    },
    /// Authenticated and restored.
    Live {
        /// The connection's epoch.
        epoch: Epoch,
    },
    /// Without a connection, waiting before the next attempt or about to make it.
    Down {
        /// Why the last one ended.
        reason: CloseReason,
    },
    /// Over for good.
    Ended(EndReason),
}

impl SessionState {
    /// Whether requests and subscriptions go through.
    #[must_use]
    pub fn is_live(&self) -> bool {
        matches!(self, Self::Live { .. })
    }
}

impl SessionState {
    /// The epoch of the open connection.
    pub(crate) fn epoch(&self) -> Option<Epoch> {
        match self {
            Self::Establishing { epoch } | Self::Live { epoch } => Some(*epoch),
            Self::Connecting | Self::Down { .. } | Self::Ended(_) => None,
        }
    }

    /// A short, constant word for logs.
    fn label(&self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Establishing { .. } => "establishing",
            Self::Live { .. } => "live",
            Self::Down { .. } => "down",
            Self::Ended(_) => "ended",
        }
    }
}

impl fmt::Display for SessionState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connecting => f.write_str("connecting"),
            Self::Establishing { epoch } => write!(f, "establishing epoch {epoch}"),
            Self::Live { epoch } => write!(f, "live in epoch {epoch}"),
            Self::Down { reason } => write!(f, "down: {reason}"),
            Self::Ended(reason) => write!(f, "ended: {reason}"),
        }
    }
}

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Plane {
    /// Where events go.
    pub(crate) reporter: Arc<Reporter>,
    /// What is open of spans about the connection.
    pub(crate) spans: Spans,
    pub(crate) routes: Routes,
    pub(crate) counters: Arc<Counters>,
    /// Those who wait for the answer to a call.
    pub(crate) callers: Callers,
    /// What nobody is told that a peer repeats.
    pub(crate) secrets: Arc<Known>,
    /// The recording, if the session is recorded.
    pub(crate) tape: Option<Arc<Tape>>,
    /// What requests pass through before they are written, if there are limits.
    pub(crate) limiter: Option<Limiter>,
    /// What waits for the session to be live.
    pub(crate) outbox: Arc<Outbox>,
    /// Where it may connect to, and where it is connected.
    pub(crate) places: Places,
    /// What attempts to connect pass, if there is anything.
    pub(crate) gate: Option<Gate>,
    /// What the present attempt, or its connection, has passed with. Set by it, taken by its end.
    pub(crate) pass: Mutex<Option<Pass>>,
    /// What the user has hung in.
    pub(crate) hooks: Option<Arc<Hooked>>,
    /// One permit: whoever dials or holds a connection has it, so that there are never two sockets that
    /// serve the session.
    pub(crate) socket: Arc<Semaphore>,
    /// Control frames on their way to the HeartbeatManager.
    pub(crate) control_backlog: AtomicUsize,
    /// Requests written and not answered; published by the connection, once for a batch of answers.
    pub(crate) in_flight: AtomicUsize,
    /// Those of them whose callers have gone, raised by these and lowered when their fate is known.
    pub(crate) given_up: Arc<AtomicUsize>,
    /// What the user wants and what of it is confirmed. The SubscriptionManager's, who alone changes it.
    ledger: Mutex<Ledger>,
    /// Attempts to connect since the session was last live.
    pub(crate) attempts: AtomicU32,
    /// Whether the market is open, as far as is known.
    market: Mutex<Market>,
    /// What the HeartbeatManager has seen of the present connection, or of the last one.
    pub(crate) health: Mutex<HeartbeatHealth>,
    line: ArcSwapOption<Line>,
    /// The epoch in which the session is live, or 0: what `state` says, without its lock.
    live_in: AtomicU64,
    /// How the present connection was opened, or the last one.
    handshake: ArcSwapOption<Handshake>,
    /// How far the venue's clock is from ours.
    venue_time: ArcSwapOption<VenueTime>,
    /// The epoch that opened last.
    opened: AtomicU64,
    /// The epoch that closed last.
    closed: AtomicU64,
    /// Frames of this epoch, and of older ones, are no longer delivered.
    barred: AtomicU64,
    /// When a frame last arrived, in microseconds since `began`.
    inbound: AtomicU64,
    /// Whether the reader waits for a consumer: then silence says nothing about the peer.
    paused: AtomicBool,
    began: Instant,
    state: watch::Sender<SessionState>,
    /// How the state came about. Locked within `state`'s lock, never the other way round.
    history: Mutex<StatusHistory>,
    /// The number of the latest step.
    steps: watch::Sender<u64>,
    /// Who is told of steps and gaps.
    pub(crate) observers: Observers,
    /// The user's pings that wait for a pong.
    pub(crate) pings: Pings,
    /// Whether the user has asked for the end. What is missed from then on nobody wants.
    leaving: AtomicBool,
    /// What the peer is told at the end, if the user has chosen it.
    pub(crate) farewell: Mutex<Option<(u16, String)>>,
    /// The first end of a connection or of an attempt; tells `start` that there will be no first one.
    first_end: watch::Sender<Option<CloseReason>>,
    /// Whether that end is the last one, too. Set by a start that tries once, cleared when the session is live.
    tries_once: AtomicBool,
    /// Whether valid data came on the present connection. Set by that, cleared by the next attempt.
    data: AtomicBool,
    /// What proves a connection.
    stable_by: StableBy,
    /// Since when the session is live, or gets what it wants confirmed, for judging stability.
    live_since: Mutex<Option<Instant>>,
    /// When the present connection opened. Set with it, cleared by its end.
    open_since: Mutex<Option<Instant>>,
    /// Since when the session is no longer live. Set by the first end after that, cleared when it is again.
    down_since: Mutex<Option<Instant>>,
}

impl Plane {
    /// A plane without a connection.
    pub(crate) fn new(
        reporter: Arc<Reporter>,
        config: &Config,
        limiter: Option<Limiter>,
        gate: Option<Gate>,
        hooks: Hooks,
    ) -> Arc<Self> {
        let observers = Observers::default();
        let counters = Arc::new(Counters::new(config.latency_window));
        let secrets = Arc::new(Known::of(config));
        Arc::new_cyclic(|plane| Self {
            spans: Spans::new(config, &counters),
            routes: Routes::default(),
            counters,
            callers: Callers::default(),
            tape: config
                .record
                .clone()
                .map(|record| Tape::new(Arc::clone(&reporter), record, Some(&secrets))),
            secrets,
            outbox: Outbox::new(config.offline, limiter.clone(), &reporter),
            limiter,
            places: Places::new(config),
            gate,
            pass: Mutex::new(None),
            hooks: Hooked::new(hooks, &reporter, &observers, plane),
            reporter,
            socket: Arc::new(Semaphore::new(1)),
            control_backlog: AtomicUsize::new(0),
            in_flight: AtomicUsize::new(0),
            given_up: Arc::default(),
            ledger: Mutex::default(),
            attempts: AtomicU32::new(0),
            market: Mutex::new(Market::new(config.ladder.closed.clone())),
            health: Mutex::default(),
            line: ArcSwapOption::empty(),
            live_in: AtomicU64::new(0),
            handshake: ArcSwapOption::empty(),
            venue_time: ArcSwapOption::empty(),
            closed: AtomicU64::new(0),
            opened: AtomicU64::new(0),
            barred: AtomicU64::new(0),
            inbound: AtomicU64::new(0),
            paused: AtomicBool::new(false),
            began: clock::now(),
            state: watch::Sender::new(SessionState::Connecting),
            history: Mutex::new(StatusHistory::new(HISTORY)),
            steps: watch::Sender::new(0),
            observers,
            pings: Pings::default(),
            leaving: AtomicBool::new(false),
            farewell: Mutex::new(None),
            first_end: watch::Sender::new(None),
            tries_once: AtomicBool::new(false),
            data: AtomicBool::new(false),
            stable_by: config.reconnect.stable_by,
            live_since: Mutex::new(None),
            open_since: Mutex::new(None),
            down_since: Mutex::new(None),
        })
    }

    /// Something has happened.
    pub(crate) fn report(&self, event: &TelemetryEvent<'_>) {
        self.reporter.report(event);
    }

    /// An error has occurred, whose heading in the guide is `reason`.
    pub(crate) fn failed(&self, context: &'static str, reason: &'static str) {
        self.report(&TelemetryEvent::ErrorOccurred { context, reason });
    }

    /// The wishes. Nothing of the user's is called, and nobody is waited for, while this is held.
    pub(crate) fn ledger(&self) -> MutexGuard<'_, Ledger> {
        lock(&self.ledger)
    }

    /// The line of the open connection.
    pub(crate) fn line(&self) -> Option<Arc<Line>> {
        self.line.load_full()
    }

    /// [`Self::line`] for a moment, without being counted as one who has it.
    pub(crate) fn borrow_line(&self) -> Guard<Option<Arc<Line>>> {
        self.line.load()
    }

    /// A connection is about to open.
    pub(crate) fn keep_handshake(&self, handshake: Handshake) {
        self.handshake.store(Some(Arc::new(handshake)));
    }

    /// How the present connection was opened, or the last one.
    pub(crate) fn handshake(&self) -> Option<Arc<Handshake>> {
        self.handshake.load_full()
    }

    /// The venue's clock was asked.
    pub(crate) fn keep_venue_time(&self, time: Option<VenueTime>) {
        self.venue_time.store(time.map(Arc::new));
    }

    /// How far the venue's clock is from ours.
    pub(crate) fn venue_time(&self) -> Option<VenueTime> {
        self.venue_time.load().as_deref().copied()
    }

    /// The epoch that opened last.
    pub(crate) fn epoch(&self) -> Epoch {
        Epoch::new(self.opened.load(Ordering::Acquire))
    }

    /// Follows the state.
    pub(crate) fn watch_state(&self) -> watch::Receiver<SessionState> {
        self.state.subscribe()
    }

    /// Where the session stands.
    pub(crate) fn status(&self) -> Status {
        self.lock_history().status()
    }

    /// The last steps.
    pub(crate) fn history(&self) -> Vec<Transition> {
        self.lock_history().steps()
    }

    /// Whether a step after number `since` led to `status`.
    pub(crate) fn passed(&self, status: Status, since: u64) -> bool {
        self.lock_history().passed(status, since)
    }

    /// Follows the number of the latest step.
    pub(crate) fn watch_steps(&self) -> watch::Receiver<u64> {
        self.steps.subscribe()
    }

    /// Callers that wait for the answer to what was written on the open connection.
    pub(crate) fn waiting(&self) -> usize {
        let given_up = self.given_up.load(Ordering::Acquire);
        self.in_flight
            .load(Ordering::Relaxed)
            .saturating_sub(given_up)
    }

    /// Follows the first end.
    pub(crate) fn watch_first_end(&self) -> watch::Receiver<Option<CloseReason>> {
        self.first_end.subscribe()
    }

    /// Whoever starts the session gives it up if its first connection does not come to be live.
    pub(crate) fn try_once(&self) {
        self.tries_once.store(true, Ordering::Release);
    }

    /// Whether the first connection has failed and there is to be no other, so that nobody knocks once more before the
    /// tree has been shut down.
    pub(crate) fn is_given_up(&self) -> bool {
        self.tries_once.load(Ordering::Acquire) && self.first_end.borrow().is_some()
    }

    /// An attempt begins.
    pub(crate) fn connecting(&self) {
        // What the last connection proved is the last one's.
        let _ = self.take_live_since();
        self.data.store(false, Ordering::Release);
        drop(lock(&self.pass).take());
        self.attempts.fetch_add(1, Ordering::Relaxed);
        if let Some(hooks) = &self.hooks {
            hooks.begin();
        }
        self.set_state(SessionState::Connecting);
    }

    /// Whether as many attempts have been made since the session was last live as one outage may take. The
    /// supervisor counts restarts, among which a session's first attempt is not.
    pub(crate) fn attempts_used_up(&self, most: Option<u32>) -> bool {
        most.is_some_and(|most| self.attempts.load(Ordering::Relaxed) >= most)
    }

    /// A connection opened. Returns its epoch.
    pub(crate) fn open(&self, sender: LineSender) -> Epoch {
        let epoch = Epoch::new(self.opened.fetch_add(1, Ordering::AcqRel) + 1);
        self.pause(false);
        let line = sender.into_line(epoch, &self.reporter, &self.given_up);
        self.line.store(Some(Arc::new(line)));
        self.counters.opened.fetch_add(1, Ordering::Relaxed);
        *lock(&self.open_since) = Some(clock::now());
        self.spans.opened(epoch);
        let endpoint = &self.places.present().endpoint;
        let handshake = self.handshake();
        self.report(&TelemetryEvent::Opened {
            epoch: epoch.as_u64(),
            host: endpoint.host(),
            port: endpoint.port(),
            connect_time: handshake.map_or(Duration::ZERO, |took| took.in_all()),
        });
        self.set_state(SessionState::Establishing { epoch });
        epoch
    }

    /// The session of this epoch is live. Those that listen to everything else are told so; channels
    /// have been, by their confirmations, unless there is nobody who `confirms` them.
    pub(crate) fn live(&self, epoch: Epoch, confirms: bool) {
        let now = clock::now();
        // The state is the judge: an end that comes at the same time is either seen here or comes after.
        let live = self.state.send_if_modified(|state| {
            let open =
                matches!(state, SessionState::Establishing { epoch: open } if *open == epoch);
            if !open || self.closed.load(Ordering::Acquire) >= epoch.as_u64() {
                return false;
            }
            lock(&self.live_since).get_or_insert(now);
            self.attempts.store(0, Ordering::Relaxed);
            *state = SessionState::Live { epoch };
            self.remember(state);
            true
        });
        if !live {
            return;
        }
        self.tries_once.store(false, Ordering::Release);
        self.places.live();
        if self.had_data() {
            self.prove();
        }
        if let Some(pass) = &*lock(&self.pass) {
            pass.live();
        }
        let down_since = lock(&self.down_since).take();
        let outage = self.spans.live(epoch);
        let _within = outage.enter();
        let number = epoch.as_u64();
        self.report_state("live", Some(epoch));
        if let Some(since) = down_since {
            let down = now.saturating_duration_since(since);
            self.counters.outage(down);
            self.report(&TelemetryEvent::Reconnected {
                epoch: number,
                down,
            });
        }
        let table = self.routes.snapshot();
        for subscriber in table.all().filter(|one| !confirms || one.channel.is_none()) {
            subscriber.resync(epoch, now);
        }
        if let Some(line) = self.line() {
            self.outbox.drain(line);
        }
    }

    /// Whether the session is live on the connection of `epoch`.
    pub(crate) fn is_live_in(&self, epoch: Epoch) -> bool {
        self.live_epoch() == Some(epoch)
    }

    /// The connection that is open.
    pub(crate) fn open_epoch(&self) -> Option<Epoch> {
        self.state.borrow().epoch()
    }

    /// The connection on which the session is live.
    pub(crate) fn live_epoch(&self) -> Option<Epoch> {
        match self.live_in.load(Ordering::Acquire) {
            0 => None,
            number => Some(Epoch::new(number)),
        }
    }

    /// Valid data came on the connection of `epoch`: from here on it has proved itself where that counts, once the
    /// session is live on it.
    pub(crate) fn data_came(&self, epoch: Epoch) {
        self.data.store(true, Ordering::Release);
        if self.is_live_in(epoch) {
            self.prove();
        }
    }

    /// Whether valid data came on the present connection, or on the last one.
    pub(crate) fn had_data(&self) -> bool {
        self.data.load(Ordering::Acquire)
    }

    /// The venue has confirmed a channel on the connection of `epoch`: from here on it counts as one that is live, also
    /// where restoring everything takes longer than it lasts.
    pub(crate) fn progress(&self, epoch: Epoch) {
        let now = clock::now();
        let mut live_since = lock(&self.live_since);
        if self.is_open(epoch) {
            live_since.get_or_insert(now);
        }
    }

    fn prove(&self) {
        match self.stable_by {
            StableBy::Data => self.places.proven(),
            StableBy::Time => {}
        }
    }

    /// Since when the present connection is open.
    pub(crate) fn open_since(&self) -> Option<Instant> {
        *lock(&self.open_since)
    }

    /// Whether the connection of `epoch` is open.
    pub(crate) fn is_open(&self, epoch: Epoch) -> bool {
        self.delivers(epoch)
            && self
                .line
                .load()
                .as_ref()
                .is_some_and(|line| line.epoch == epoch)
    }

    /// Whether the session is over for good.
    pub(crate) fn is_over(&self) -> bool {
        matches!(&*self.state.borrow(), SessionState::Ended(_))
    }

    /// Ends a subscriber that was let in when the session was over already.
    pub(crate) fn end_if_over(&self, subscriber: &Subscriber) {
        if let SessionState::Ended(reason) = &*self.state.borrow() {
            subscriber.end(reason.clone());
        }
    }

    /// Lets a subscriber in whom nobody confirms: from now on it can miss something if the session is
    /// live, and if the session is over so is its subscription.
    pub(crate) fn admit(&self, subscriber: &Arc<Subscriber>) {
        self.routes.add(subscriber);
        match &*self.state.borrow() {
            SessionState::Live { epoch } => {
                subscriber.resync(*epoch, clock::now());
            }
            SessionState::Ended(reason) => subscriber.end(reason.clone()),
            SessionState::Connecting
            | SessionState::Establishing { .. }
            | SessionState::Down { .. } => {}
        }
    }

    /// Since when the session has been live; taken away by the question.
    pub(crate) fn take_live_since(&self) -> Option<Instant> {
        self.live_since
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }

    /// The connection of `epoch` ended.
    ///
    /// Only the first call for an epoch counts: who comes first knows the true reason.
    pub(crate) fn closed(&self, epoch: Epoch, reason: &CloseReason) {
        if self.closed.fetch_max(epoch.as_u64(), Ordering::AcqRel) >= epoch.as_u64() {
            return;
        }
        let outage = self.outage(reason);
        let _within = outage.enter();
        if self
            .line
            .load()
            .as_ref()
            .is_some_and(|line| line.epoch == epoch)
        {
            self.line.store(None);
        }
        self.in_flight.store(0, Ordering::Relaxed);
        if let Some(limiter) = &self.limiter {
            limiter.sweep();
        }
        self.heed(reason);
        let open_since = lock(&self.open_since).take();
        let open = open_since.map(|since| clock::now().saturating_duration_since(since));
        let endpoint = &self.places.present().endpoint;
        self.report(&TelemetryEvent::Closed {
            epoch: epoch.as_u64(),
            host: endpoint.host(),
            port: endpoint.port(),
            cause: reason.label(),
            detail: &reason.without_peers_words().to_string(),
            open: open.unwrap_or_default(),
        });
        if !reason.is_on_purpose() {
            self.failed("connection", reason.explain().code);
        }
        self.bar(epoch);
        let tried = self.places.ended(reason);
        // The state first: who hears of the gap finds the session down.
        self.down(reason, tried);
        self.pings.lose();
        // What was read is queued, and what comes behind that is the end. A connection that was lost is a gap all the same.
        if matches!(reason, CloseReason::Local { .. }) && self.leaving.load(Ordering::Acquire) {
            return;
        }
        self.interrupt_where(
            |_| true,
            &GapCause::ConnectionLost(reason.clone()),
            epoch,
            self.last_inbound(),
        );
    }

    /// The user has asked for the end.
    pub(crate) fn leave(&self) {
        self.leaving.store(true, Ordering::Release);
    }

    /// An attempt did not lead to a connection.
    pub(crate) fn not_opened(&self, reason: &CloseReason) {
        let outage = self.spans.failed(reason.explain().code);
        let _within = outage.enter();
        self.report(&TelemetryEvent::NotOpened {
            cause: reason.label(),
            detail: &reason.without_peers_words().to_string(),
        });
        self.failed("connect", reason.explain().code);
        self.heed(reason);
        if let Some(gate) = &self.gate {
            gate.heed(reason);
        }
        let tried = self.places.ended(reason);
        self.down(reason, tried);
    }

    /// The span of the outage that a connection's end begins, or that it is part of.
    fn outage(&self, reason: &CloseReason) -> Span {
        let live = self.state.borrow().is_live();
        match reason {
            // A session that is shut down is not going to be live again.
            CloseReason::Local { .. } => self.spans.failed(reason.explain().code),
            _ if live => self.spans.lost(self.reporter.name(), reason.label()),
            _ => self.spans.failed(reason.explain().code),
        }
    }

    /// Tells the limiter if a connection ended because we were too fast.
    fn heed(&self, reason: &CloseReason) {
        let Some(limiter) = self.limiter.as_ref().filter(|_| reason.is_rate_limit()) else {
            return;
        };
        limiter.on_limited(asked_pause(reason));
    }

    /// Something other than the connection's end interrupts every subscription; the connection will
    /// follow. Said before that happens, so that the gap bears its true cause.
    pub(crate) fn interrupt(&self, cause: &GapCause) {
        let epoch = self.epoch();
        let live = self.state.borrow().is_live();
        let outage = match live {
            true => self.spans.lost(self.reporter.name(), cause.label()),
            false => self.spans.outage(),
        };
        let _within = outage.enter();
        self.bar(epoch);
        self.interrupt_where(|_| true, cause, epoch, self.last_inbound());
    }

    /// Interrupts some subscriptions. `since` is when all was last known to be well: with the last
    /// frame of the connection, or with what the subscription itself received after that.
    pub(crate) fn interrupt_where(
        &self,
        which: impl Fn(&Subscriber) -> bool,
        cause: &GapCause,
        epoch: Epoch,
        since: Instant,
    ) {
        let table = self.routes.snapshot();
        let told = table
            .all()
            .filter(|subscriber| which(subscriber))
            .filter(|subscriber| subscriber.interrupt(cause.clone(), epoch, since))
            .inspect(|subscriber| {
                self.spans
                    .gap(self.reporter.name(), subscriber, cause.label())
            })
            .count();
        if told > 0 {
            self.report(&TelemetryEvent::Gap {
                epoch: epoch.as_u64(),
                cause: cause.label(),
                subscriptions: told,
            });
        }
        self.counters.gap(cause.label(), told as u64);
        if told > 0 {
            self.observers.tell(&Notice::Gap {
                epoch,
                cause: cause.clone(),
                subscriptions: told as u64,
            });
        }
    }

    /// A batch was queued for a subscriber, and there is something to tell of that.
    pub(crate) fn delivered(&self, subscriber: &Subscriber, delivered: Delivered) {
        if let Some(level) = delivered.filling {
            let channel = subscriber.channel.as_deref();
            self.reporter.filling("messages", channel, level);
        }
        if delivered.loses {
            self.spans.loss(self.reporter.name(), subscriber);
        }
    }

    /// The session is over for good.
    pub(crate) fn end(&self, reason: &EndReason) {
        self.line.store(None);
        drop(lock(&self.pass).take());
        // The state first: who hears of the end from a subscription finds it in the state too.
        let ended = self.state.send_if_modified(|state| {
            if matches!(state, SessionState::Ended(_)) {
                return false;
            }
            *state = SessionState::Ended(reason.clone());
            self.remember(state);
            true
        });
        if ended {
            self.report_state("ended", None);
        }
        self.spans.end(reason.explain().code);
        self.outbox.clear();
        for subscriber in self.routes.snapshot().all() {
            subscriber.end(reason.clone());
        }
        if let Some(tape) = &self.tape {
            tape.finish();
        }
    }

    /// Whether frames of `epoch` are still delivered.
    pub(crate) fn delivers(&self, epoch: Epoch) -> bool {
        epoch.as_u64() > self.barred.load(Ordering::Acquire)
    }

    /// Something arrived.
    pub(crate) fn touch(&self, now: Instant) {
        let since = now.saturating_duration_since(self.began).as_micros();
        self.inbound
            .store(u64::try_from(since).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// The reader waits for a consumer, or reads again.
    pub(crate) fn pause(&self, paused: bool) {
        self.paused.store(paused, Ordering::Relaxed);
        self.touch(clock::now());
    }

    /// `who` says that the market has closed or opened: `venue` or `user`.
    pub(crate) fn market_said(&self, signal: MarketSignal, who: &'static str) {
        lock(&self.market).on_signal(signal, clock::wall_of_runtime());
        let market = match signal {
            MarketSignal::Closed { .. } => "closed",
            MarketSignal::Open => "open",
        };
        self.report(&TelemetryEvent::MarketSaid { market, who });
    }

    /// Whether the market is open, as far as is known.
    pub(crate) fn market_hours(&self, wall: SystemTime) -> MarketHours {
        lock(&self.market).hours(wall)
    }

    /// Whether the reader waits for a consumer, so that nobody knows what the peer sends.
    pub(crate) fn is_paused(&self) -> bool {
        self.paused.load(Ordering::Relaxed)
    }

    /// When something last arrived; now, while nobody reads.
    pub(crate) fn last_inbound(&self) -> Instant {
        if self.paused.load(Ordering::Relaxed) {
            return clock::now();
        }
        self.began + Duration::from_micros(self.inbound.load(Ordering::Relaxed))
    }

    fn bar(&self, epoch: Epoch) {
        self.barred.fetch_max(epoch.as_u64(), Ordering::AcqRel);
    }

    /// It has no connection. The first one is not there to come once each place has been `tried`.
    fn down(&self, reason: &CloseReason, tried: bool) {
        // Only who has been live can be so again.
        if self.state.borrow().is_live() {
            *lock(&self.down_since) = Some(clock::now());
        }
        self.first_end.send_if_modified(|first| {
            let unset = tried && first.is_none();
            if unset {
                *first = Some(reason.clone());
            }
            unset
        });
        self.set_state(SessionState::Down {
            reason: reason.clone(),
        });
    }

    /// What has ended stays ended.
    fn set_state(&self, next: SessionState) {
        let (label, epoch) = (next.label(), next.epoch());
        let changed = self.state.send_if_modified(|state| {
            if matches!(state, SessionState::Ended(_)) {
                return false;
            }
            *state = next;
            self.remember(state);
            true
        });
        if changed {
            self.report_state(label, epoch);
        }
    }

    fn report_state(&self, state: &'static str, epoch: Option<Epoch>) {
        let epoch = epoch.map(Epoch::as_u64);
        self.report(&TelemetryEvent::StateChanged { state, epoch });
    }

    /// Takes the step to `state` down. Called where the state is changed, so that the order is the same.
    fn remember(&self, state: &SessionState) {
        let live_in = match state {
            SessionState::Live { epoch } => epoch.as_u64(),
            _ => 0,
        };
        self.live_in.store(live_in, Ordering::Release);
        let now = clock::now();
        let mut history = self.lock_history();
        let steps = match state {
            SessionState::Connecting => history.on_attempt(now),
            SessionState::Establishing { epoch } => {
                history.on_status(Status::Establishing, &Why::Opened(*epoch), now)
            }
            SessionState::Live { epoch } => {
                history.on_status(Status::Live, &Why::Established(*epoch), now)
            }
            SessionState::Down { reason } => {
                history.on_status(Status::Down, &Why::Closed(reason.clone()), now)
            }
            SessionState::Ended(reason) => {
                history.on_status(Status::Ended, &Why::Ended(reason.clone()), now)
            }
        };
        let count = history.count();
        drop(history);
        for step in steps {
            self.observers.tell(&Notice::Status(step));
        }
        self.steps.send_replace(count);
    }

    fn lock_history(&self) -> std::sync::MutexGuard<'_, StatusHistory> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How long the venue wants to be left alone, if it says so.
pub(super) fn asked_pause(reason: &CloseReason) -> Option<Duration> {
    match reason.recovery() {
        Recovery::RetryAfter(pause) => Some(pause),
        Recovery::Retry | Recovery::Reauthenticate | Recovery::Reconcile | Recovery::Stop => None,
    }
}
