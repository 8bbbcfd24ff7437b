//! What a session has counted: frames, gaps, restarts, reconnects, times.
//!
//! Counters of the data path are plain atomics that the reader raises once per batch; the rest is
//! rare and stands behind a lock.
//!
//! Invariants: counters only rise; labels are constant words, so that their number is bounded.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;

use crate::protocol::latency::{LatencyHistogram, LatencyStats, LatencySummary, RecentLatency};

/// A snapshot of what a session has counted since it began.
#[derive(Debug, Clone, Default, Serialize)]
#[non_exhaustive]
pub struct Statistics {
    /// Frames read from sockets.
    pub frames_in: u64,
    /// Payload bytes read from sockets.
    pub bytes_in: u64,
    /// Frames written to sockets.
    pub frames_out: u64,
    /// Frames handed to subscriptions.
    pub delivered: u64,
    /// Frames for which nobody had asked: answers under unknown ids, channels without a subscriber.
    pub unwanted: u64,
    /// Control frames and heartbeats shed because the actors could not keep up.
    pub control_shed: u64,
    /// Gaps announced, by the cause's label; one for each subscription that was told.
    pub gaps: BTreeMap<&'static str, u64>,
    /// Connections that opened.
    pub opened: u64,
    /// Restarts by actor, by child id.
    pub restarts: BTreeMap<String, u64>,
    /// Connections sought again by layer 1, the Client's.
    pub reconnects_by_client: u64,
    /// Connections sought again by layer 2, the Adapter's.
    pub reconnects_by_adapter: u64,
    /// Round trips of matched pings.
    pub round_trip: LatencySummary,
    /// From handing a request over to its answer.
    pub requests: LatencySummary,
    /// The latest of them, as many as [`latency_window`](crate::config::Config::latency_window) says; `None` before
    /// the first answer.
    pub recent_requests: Option<RecentLatency>,
    /// From the socket read to the consumer; one sample for each batch that a consumer takes.
    pub delivery: LatencySummary,
}

/// The counters behind [`Statistics`].
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) frames_in: AtomicU64,
    pub(crate) bytes_in: AtomicU64,
    pub(crate) frames_out: AtomicU64,
    pub(crate) delivered: AtomicU64,
    pub(crate) unwanted: AtomicU64,
    pub(crate) control_shed: AtomicU64,
    pub(crate) opened: AtomicU64,
    rare: Mutex<Rare>,
}

#[derive(Debug, Default)]
struct Rare {
    gaps: BTreeMap<&'static str, u64>,
    restarts: BTreeMap<String, u64>,
    reconnects_by_client: u64,
    reconnects_by_adapter: u64,
    round_trip: LatencyHistogram,
    requests: LatencyStats,
    delivery: LatencyHistogram,
}

impl Counters {
    /// Nothing counted yet; of so many requests the times will be kept one by one.
    pub(crate) fn new(latency_window: usize) -> Self {
        let rare = Rare {
            requests: LatencyStats::new(latency_window),
            ..Rare::default()
        };
        Self {
            rare: Mutex::new(rare),
            ..Self::default()
        }
    }

    /// Subscriptions were told of a gap.
    pub(crate) fn gap(&self, label: &'static str, subscriptions: u64) {
        if subscriptions > 0 {
            *self.rare().gaps.entry(label).or_default() += subscriptions;
        }
    }

    /// An actor was restarted.
    pub(crate) fn restart(&self, actor: &str) {
        *self.rare().restarts.entry(actor.to_owned()).or_default() += 1;
    }

    /// Layer 1 sought the connection again.
    pub(crate) fn reconnect_by_client(&self) {
        self.rare().reconnects_by_client += 1;
    }

    /// Layer 2 sought the connection again.
    pub(crate) fn reconnect_by_adapter(&self) {
        self.rare().reconnects_by_adapter += 1;
    }

    /// A ping was answered.
    pub(crate) fn round_trip(&self, time: Duration) {
        self.rare().round_trip.record(time);
    }

    /// A request was answered.
    pub(crate) fn request(&self, time: Duration) {
        self.rare().requests.add(time);
    }

    /// How long the latest requests took.
    pub(crate) fn recent_requests(&self) -> Option<RecentLatency> {
        self.rare().requests.summary()
    }

    /// A consumer took a batch.
    pub(crate) fn delivery(&self, time: Duration) {
        self.rare().delivery.record(time);
    }

    /// Everything as it is now.
    pub(crate) fn snapshot(&self) -> Statistics {
        let rare = self.rare();
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Statistics {
            frames_in: read(&self.frames_in),
            bytes_in: read(&self.bytes_in),
            frames_out: read(&self.frames_out),
            delivered: read(&self.delivered),
            unwanted: read(&self.unwanted),
            control_shed: read(&self.control_shed),
            gaps: rare.gaps.clone(),
            opened: read(&self.opened),
            restarts: rare.restarts.clone(),
            reconnects_by_client: rare.reconnects_by_client,
            reconnects_by_adapter: rare.reconnects_by_adapter,
            round_trip: rare.round_trip.summary(),
            requests: rare.requests.all(),
            recent_requests: rare.requests.summary(),
            delivery: rare.delivery.summary(),
        }
    }

    fn rare(&self) -> MutexGuard<'_, Rare> {
        self.rare.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
