//! Counters that follow from a session's events: the collector that every session has.
//!
//! Apart from [`Statistics`](super::statistics::Statistics), which tells of the data plane and the tree,
//! because this is made of events alone: a user may share one collector among many sessions.
//!
//! Invariants: counters only rise; batches and what requests pay cost a few atomic additions and no lock; reasons are constant
//! words, so that their number is bounded.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::protocol::latency::{LatencyHistogram, LatencySummary};
use crate::telemetry::{Collector, TelemetryEvent};

/// What a [`MetricsCollector`] has counted.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Metrics {
    /// Connections that opened.
    pub connections_opened: u64,
    /// Connections that ended.
    pub connections_closed: u64,
    /// Attempts that led to no connection.
    pub connections_not_opened: u64,
    /// Opening handshakes that succeeded.
    pub websocket_upgrades: u64,
    /// Times that a session was live again after having been down.
    pub reconnects: u64,
    /// Times that a session has come to another owner.
    pub ownership_received: u64,
    /// For how long the connections that have ended were open, together.
    pub connected: Duration,
    /// Frames handed to sockets.
    pub messages_sent: u64,
    /// Frames read from sockets.
    pub messages_received: u64,
    /// Payload bytes handed to sockets.
    pub bytes_sent: u64,
    /// Payload bytes read from sockets.
    pub bytes_received: u64,
    /// Requests written.
    pub requests_sent: u64,
    /// Requests answered.
    pub requests_resolved: u64,
    /// Requests answered when their callers had gone.
    pub requests_answered_late: u64,
    /// Requests written and not answered in time.
    pub requests_timed_out: u64,
    /// Requests written whose connection ended before the answer.
    pub requests_lost: u64,
    /// Channels wished for.
    pub subscriptions_added: u64,
    /// Channels let go of.
    pub subscriptions_removed: u64,
    /// Channels confirmed again on another connection.
    pub subscriptions_restored: u64,
    /// Channels refused on another connection.
    pub restorations_failed: u64,
    /// Connections given up for silence.
    pub heartbeats_missed: u64,
    /// Gaps that subscriptions were told of.
    pub gaps: u64,
    /// Times that a queue was told of because four fifths of it were taken.
    pub queues_filling: u64,
    /// What was paid to the session's own limiter, or to those that have this collector.
    pub tokens_consumed: u64,
    /// What time gave back to it.
    pub tokens_refilled: u64,
    /// Requests that had to wait for their turn.
    pub requests_queued: u64,
    /// Requests refused because the queue for their turn was full.
    pub requests_refused: u64,
    /// Requests not sent because their turn did not come in time.
    pub requests_expired: u64,
    /// Times that the venue said that we are too fast.
    pub limited_by_venue: u64,
    /// Attempts to connect that had to wait at a gate.
    pub attempts_postponed: u64,
    /// Attempts that went to another endpoint than the one before.
    pub endpoint_changes: u64,
    /// Requests that a pool has sent on their way, attempts after the first included.
    pub pool_routed: u64,
    /// Attempts of a pool's after which a request may go to another session.
    pub pool_failovers: u64,
    /// Hooks of a pool's user that panicked.
    pub pool_hooks_panicked: u64,
    /// Errors, all together.
    pub errors_total: u64,
    /// Errors by reason: a heading of [`error::guide`](crate::error::guide).
    pub errors: BTreeMap<&'static str, u64>,
    /// From the first question to the name server to the open connection.
    pub connect_time: LatencySummary,
    /// Round trips of our own pings.
    pub heartbeat: LatencySummary,
    /// From a request's writing to its answer.
    pub latency: LatencySummary,
}

impl Metrics {
    /// Every counter that is a plain number, with its name: that of the field.
    pub fn counters(&self) -> impl Iterator<Item = (&'static str, u64)> + use<> {
        [
            ("connections_opened", self.connections_opened),
            ("connections_closed", self.connections_closed),
            ("connections_not_opened", self.connections_not_opened),
            ("websocket_upgrades", self.websocket_upgrades),
            ("reconnects", self.reconnects),
            ("ownership_received", self.ownership_received),
            ("messages_sent", self.messages_sent),
            ("messages_received", self.messages_received),
            ("bytes_sent", self.bytes_sent),
            ("bytes_received", self.bytes_received),
            ("requests_sent", self.requests_sent),
            ("requests_resolved", self.requests_resolved),
            ("requests_answered_late", self.requests_answered_late),
            ("requests_timed_out", self.requests_timed_out),
            ("requests_lost", self.requests_lost),
            ("subscriptions_added", self.subscriptions_added),
            ("subscriptions_removed", self.subscriptions_removed),
            ("subscriptions_restored", self.subscriptions_restored),
            ("restorations_failed", self.restorations_failed),
            ("heartbeats_missed", self.heartbeats_missed),
            ("gaps", self.gaps),
            ("queues_filling", self.queues_filling),
            ("tokens_consumed", self.tokens_consumed),
            ("tokens_refilled", self.tokens_refilled),
            ("requests_queued", self.requests_queued),
            ("requests_refused", self.requests_refused),
            ("requests_expired", self.requests_expired),
            ("limited_by_venue", self.limited_by_venue),
            ("attempts_postponed", self.attempts_postponed),
            ("endpoint_changes", self.endpoint_changes),
            ("pool_routed", self.pool_routed),
            ("pool_failovers", self.pool_failovers),
            ("pool_hooks_panicked", self.pool_hooks_panicked),
            ("errors_total", self.errors_total),
        ]
        .into_iter()
    }

    /// The counter of this name; `None` if there is none.
    #[must_use]
    pub fn counter(&self, name: &str) -> Option<u64> {
        self.counters()
            .find(|(known, _)| *known == name)
            .map(|(_, count)| count)
    }
}

/// Counts what happens, in one session or in all that have it as a collector.
///
/// Every session has one of its own, which [`Session::metrics`](crate::Session::metrics) asks.
#[derive(Debug, Default)]
pub struct MetricsCollector {
    messages_sent: AtomicU64,
    messages_received: AtomicU64,
    bytes_sent: AtomicU64,
    bytes_received: AtomicU64,
    requests_sent: AtomicU64,
    tokens_consumed: AtomicU64,
    tokens_refilled: AtomicU64,
    rare: Mutex<Rare>,
}

#[derive(Debug, Default)]
struct Rare {
    /// Without what the atomics and the histograms hold.
    counted: Metrics,
    connect_time: LatencyHistogram,
    heartbeat: LatencyHistogram,
    latency: LatencyHistogram,
}

impl MetricsCollector {
    /// A collector that has counted nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Everything as it is now.
    #[must_use]
    pub fn snapshot(&self) -> Metrics {
        let rare = self.rare();
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Metrics {
            messages_sent: read(&self.messages_sent),
            messages_received: read(&self.messages_received),
            bytes_sent: read(&self.bytes_sent),
            bytes_received: read(&self.bytes_received),
            requests_sent: read(&self.requests_sent),
            tokens_consumed: read(&self.tokens_consumed),
            tokens_refilled: read(&self.tokens_refilled),
            connect_time: rare.connect_time.summary(),
            heartbeat: rare.heartbeat.summary(),
            latency: rare.latency.summary(),
            ..rare.counted.clone()
        }
    }

    fn rare(&self) -> MutexGuard<'_, Rare> {
        self.rare.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// So many [`TelemetryEvent::RequestTracked`] at once.
    pub(crate) fn asked(&self, requests: u64) {
        self.requests_sent.fetch_add(requests, Ordering::Relaxed);
    }

    /// A [`TelemetryEvent::RequestResolved`] for each of these.
    pub(crate) fn resolved(&self, round_trips: impl Iterator<Item = Duration>) {
        let mut rare = self.rare();
        for round_trip in round_trips {
            rare.resolved(round_trip);
        }
    }
}

impl Collector for MetricsCollector {
    fn on_event(&self, _session: &str, event: &TelemetryEvent<'_>) {
        let add = |counter: &AtomicU64, more: u64| counter.fetch_add(more, Ordering::Relaxed);
        match *event {
            TelemetryEvent::Received { frames, bytes, .. } => {
                add(&self.messages_received, frames);
                add(&self.bytes_received, bytes);
            }
            TelemetryEvent::Sent { frames, bytes, .. } => {
                add(&self.messages_sent, frames);
                add(&self.bytes_sent, bytes);
            }
            TelemetryEvent::RequestTracked { .. } => {
                self.asked(1);
            }
            TelemetryEvent::LimitConsumed { cost, .. } => {
                add(&self.tokens_consumed, cost);
            }
            TelemetryEvent::LimitRefilled { before, after, .. } => {
                add(&self.tokens_refilled, after.saturating_sub(before));
            }
            ref rare => self.rare().count(rare),
        }
    }
}

impl Rare {
    fn resolved(&mut self, round_trip: Duration) {
        self.counted.requests_resolved += 1;
        self.latency.record(round_trip);
    }

    fn count(&mut self, event: &TelemetryEvent<'_>) {
        let counted = &mut self.counted;
        match *event {
            TelemetryEvent::Upgraded {
                dns,
                tcp,
                tls,
                upgrade,
                ..
            } => {
                counted.websocket_upgrades += 1;
                self.connect_time.record(dns + tcp + tls + upgrade);
            }
            TelemetryEvent::Opened { .. } => counted.connections_opened += 1,
            TelemetryEvent::Closed { open, .. } => {
                counted.connections_closed += 1;
                counted.connected += open;
            }
            TelemetryEvent::NotOpened { .. } => counted.connections_not_opened += 1,
            TelemetryEvent::Reconnected { .. } => counted.reconnects += 1,
            TelemetryEvent::OwnershipReceived { .. } => counted.ownership_received += 1,
            TelemetryEvent::Pong { rtt, .. } => self.heartbeat.record(rtt),
            TelemetryEvent::HeartbeatMissed { .. } => counted.heartbeats_missed += 1,
            TelemetryEvent::RequestResolved { round_trip, .. } => self.resolved(round_trip),
            TelemetryEvent::RequestAnsweredLate { .. } => counted.requests_answered_late += 1,
            TelemetryEvent::RequestTimedOut { .. } => counted.requests_timed_out += 1,
            TelemetryEvent::RequestsLost { ids, .. } => counted.requests_lost += ids.len() as u64,
            TelemetryEvent::SubscriptionAdded { .. } => counted.subscriptions_added += 1,
            TelemetryEvent::SubscriptionRemoved { .. } => counted.subscriptions_removed += 1,
            TelemetryEvent::SubscriptionsRestored { channels, .. } => {
                counted.subscriptions_restored += channels.len() as u64;
            }
            TelemetryEvent::RestorationFailed { .. } => counted.restorations_failed += 1,
            TelemetryEvent::Gap { subscriptions, .. } => counted.gaps += subscriptions as u64,
            TelemetryEvent::QueueFilling { .. } => counted.queues_filling += 1,
            TelemetryEvent::LimitQueued { .. } => counted.requests_queued += 1,
            TelemetryEvent::LimitQueueFull { .. } => counted.requests_refused += 1,
            TelemetryEvent::LimitExpired { count, .. } => counted.requests_expired += count,
            TelemetryEvent::LimitedByVenue { .. } => counted.limited_by_venue += 1,
            TelemetryEvent::AttemptPostponed { .. } => counted.attempts_postponed += 1,
            TelemetryEvent::EndpointChanged { .. } => counted.endpoint_changes += 1,
            TelemetryEvent::PoolRouted { .. } => counted.pool_routed += 1,
            TelemetryEvent::PoolFailover { .. } => counted.pool_failovers += 1,
            TelemetryEvent::PoolHookPanicked { .. } => counted.pool_hooks_panicked += 1,
            TelemetryEvent::ErrorOccurred { reason, .. } => {
                counted.errors_total += 1;
                *counted.errors.entry(reason).or_default() += 1;
            }
            TelemetryEvent::StateChanged { .. }
            | TelemetryEvent::ChannelStale { .. }
            | TelemetryEvent::ChannelFresh { .. }
            | TelemetryEvent::MarketSaid { .. }
            | TelemetryEvent::HeartbeatAnswered { .. }
            | TelemetryEvent::BreakerChanged { .. }
            | TelemetryEvent::LimitPressure { .. }
            | TelemetryEvent::RequestTracked { .. }
            | TelemetryEvent::LimitConsumed { .. }
            | TelemetryEvent::LimitRefilled { .. }
            | TelemetryEvent::PoolHealth { .. }
            | TelemetryEvent::RecordingInterrupted { .. }
            | TelemetryEvent::HookFailed { .. }
            | TelemetryEvent::CollectorPanicked { .. }
            | TelemetryEvent::Received { .. }
            | TelemetryEvent::Sent { .. } => {}
        }
    }
}
