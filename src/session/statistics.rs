//! What a session has counted: frames, gaps, restarts, reconnects, times.
//!
//! Counters of the data path are plain atomics that the reader raises once per batch; the rest is
//! rare and stands behind a lock.
//!
//! Invariants: counters only rise; labels are constant words, so that their number is bounded.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;

use super::clock;
use crate::protocol::latency::{LatencyHistogram, LatencyStats, LatencySummary, RecentLatency};
use crate::protocol::outbox::OutboxStatus;

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
    /// Answers to requests that had been given up by then, at their deadlines or because their futures were dropped.
    pub late: u64,
    /// Control frames and heartbeats shed because the actors could not keep up.
    pub control_shed: u64,
    /// Gaps announced, by the cause's label; one for each subscription that was told.
    pub gaps: BTreeMap<&'static str, u64>,
    /// Messages known to be missing, by the label of the gap that consumers were told of. Of what a lost connection
    /// would have brought nobody knows the number.
    pub lost: BTreeMap<&'static str, u64>,
    /// Connections that opened.
    pub opened: u64,
    /// Restarts by actor, by child id.
    pub restarts: BTreeMap<String, u64>,
    /// The share of its restart intensity that each of the session's supervisors has used, by path; above 1 it gives up.
    pub intensities: BTreeMap<String, f64>,
    /// Connections sought again by layer 1, the Client's.
    pub reconnects_by_client: u64,
    /// Connections sought again by layer 2, the Adapter's.
    pub reconnects_by_adapter: u64,
    /// Both, by the label of what ended the connection, or the attempt, before.
    pub reconnects_by_cause: BTreeMap<&'static str, u64>,
    /// From the loss of a live session until it was live again; longer than a day counts as a day.
    pub outages: LatencySummary,
    /// Requests by what became of them, the session's own included: `answered`, `not_sent`, `unknown`, and
    /// `given_up` where the caller dropped its future.
    pub fates: BTreeMap<&'static str, u64>,
    /// What waits for the session to be live, and what did in vain.
    pub offline: OutboxStatus,
    /// Round trips of matched pings.
    pub round_trip: LatencySummary,
    /// From handing a request over to its answer.
    pub requests: LatencySummary,
    /// The latest of them, as many as [`latency_window`](crate::config::Config::latency_window) says; `None` before
    /// the first answer.
    pub recent_requests: Option<RecentLatency>,
    /// From the socket read to the consumer; one sample for each batch that a consumer takes, of those that come within
    /// a millisecond one in 16.
    pub delivery: LatencySummary,
}

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Answered,
    NotSent,
    Unknown,
    GivenUp,
}

impl Fate {
    const ALL: [Self; 4] = [Self::Answered, Self::NotSent, Self::Unknown, Self::GivenUp];

    /// A constant word.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::NotSent => "not_sent",
            Self::Unknown => "unknown",
            Self::GivenUp => "given_up",
        }
    }
}

/// The counters behind [`Statistics`].
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) frames_in: AtomicU64,
    pub(crate) bytes_in: AtomicU64,
    pub(crate) frames_out: AtomicU64,
    pub(crate) delivered: AtomicU64,
    pub(crate) unwanted: AtomicU64,
    pub(crate) late: AtomicU64,
    pub(crate) control_shed: AtomicU64,
    pub(crate) opened: AtomicU64,
    /// In the order of [`Fate::ALL`].
    fates: [AtomicU64; 4],
    rare: Mutex<Rare>,
}

#[derive(Debug)]
struct Rare {
    gaps: BTreeMap<&'static str, u64>,
    lost: BTreeMap<&'static str, u64>,
    restarts: BTreeMap<String, u64>,
    reconnects_by_client: u64,
    reconnects_by_adapter: u64,
    reconnects_by_cause: BTreeMap<&'static str, u64>,
    /// Of each supervisor, by path.
    windows: BTreeMap<String, Window>,
    outages: LatencyHistogram,
    round_trip: LatencyHistogram,
    requests: LatencyStats,
    delivery: LatencyHistogram,
}

impl Default for Rare {
    fn default() -> Self {
        Self {
            gaps: BTreeMap::new(),
            lost: BTreeMap::new(),
            restarts: BTreeMap::new(),
            reconnects_by_client: 0,
            reconnects_by_adapter: 0,
            reconnects_by_cause: BTreeMap::new(),
            windows: BTreeMap::new(),
            outages: LatencyHistogram::up_to(DAY),
            round_trip: LatencyHistogram::new(),
            requests: LatencyStats::default(),
            delivery: LatencyHistogram::new(),
        }
    }
}

/// The restarts that count against a supervisor's intensity, as its events tell of them.
#[derive(Debug, Default)]
struct Window {
    limit: u32,
    within: Duration,
    booked: VecDeque<Instant>,
}

impl Window {
    /// The share of the intensity that is used.
    fn used(&self, now: Instant) -> f64 {
        let counts = |at: &&Instant| now.saturating_duration_since(**at) < self.within;
        let used = self.booked.iter().filter(counts).count();
        used as f64 / f64::from(self.limit.max(1))
    }
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

    /// A consumer was told that so many messages are missing.
    pub(crate) fn lost(&self, label: &'static str, messages: u64) {
        if messages > 0 {
            *self.rare().lost.entry(label).or_default() += messages;
        }
    }

    /// A request has ended so.
    pub(crate) fn fate(&self, fate: Fate) {
        self.fates[fate as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// The session is live again, after so long.
    pub(crate) fn outage(&self, down: Duration) {
        self.rare().outages.record(down);
    }

    /// A supervisor of the session's is up, or up again: none of its restarts count so far.
    pub(crate) fn supervised(&self, path: &str) {
        let mut rare = self.rare();
        rare.windows.insert(path.to_owned(), Window::default());
    }

    /// A supervisor has booked a restart, which makes it so many of as many as it bears within this time.
    pub(crate) fn booked(&self, path: &str, window: (u32, u32), within: Duration, now: Instant) {
        let mut rare = self.rare();
        let known = rare.windows.entry(path.to_owned()).or_default();
        (known.limit, known.within) = (window.1, within);
        known.booked.push_back(now);
        while known.booked.len() > window.0 as usize {
            known.booked.pop_front();
        }
    }

    /// An actor was restarted.
    pub(crate) fn restart(&self, actor: &str) {
        *self.rare().restarts.entry(actor.to_owned()).or_default() += 1;
    }

    /// Layer 1 seeks the connection again, which this has ended.
    pub(crate) fn reconnect_by_client(&self, cause: &'static str) {
        let mut rare = self.rare();
        rare.reconnects_by_client += 1;
        *rare.reconnects_by_cause.entry(cause).or_default() += 1;
    }

    /// Layer 2 seeks the connection again, which this has ended.
    pub(crate) fn reconnect_by_adapter(&self, cause: &'static str) {
        let mut rare = self.rare();
        rare.reconnects_by_adapter += 1;
        *rare.reconnects_by_cause.entry(cause).or_default() += 1;
    }

    /// A ping was answered.
    pub(crate) fn round_trip(&self, time: Duration) {
        self.rare().round_trip.record(time);
    }

    /// A request was answered.
    pub(crate) fn request(&self, time: Duration) {
        self.rare().requests.add(time);
    }

    /// Requests were answered.
    pub(crate) fn requests(&self, times: impl Iterator<Item = Duration>) {
        let mut rare = self.rare();
        times.for_each(|time| rare.requests.add(time));
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
        let (windows, now) = (rare.windows.iter(), clock::now());
        Statistics {
            frames_in: read(&self.frames_in),
            bytes_in: read(&self.bytes_in),
            frames_out: read(&self.frames_out),
            delivered: read(&self.delivered),
            unwanted: read(&self.unwanted),
            late: read(&self.late),
            control_shed: read(&self.control_shed),
            gaps: rare.gaps.clone(),
            lost: rare.lost.clone(),
            opened: read(&self.opened),
            // The queue's own.
            offline: OutboxStatus::default(),
            restarts: rare.restarts.clone(),
            intensities: windows
                .map(|(path, window)| (path.clone(), window.used(now)))
                .collect(),
            reconnects_by_client: rare.reconnects_by_client,
            reconnects_by_adapter: rare.reconnects_by_adapter,
            reconnects_by_cause: rare.reconnects_by_cause.clone(),
            outages: rare.outages.summary(),
            fates: Fate::ALL
                .map(|fate| (fate.label(), read(&self.fates[fate as usize])))
                .into(),
            round_trip: rare.round_trip.summary(),
            requests: rare.requests.all(),
            recent_requests: rare.requests.summary(),
            delivery: rare.delivery.summary(),
        }
    }

    /// All times, to be added to those of other sessions.
    #[cfg(any(feature = "otel", feature = "prometheus"))]
    pub(crate) fn times(&self) -> Times {
        let rare = self.rare();
        Times {
            outages: rare.outages.clone(),
            round_trip: rare.round_trip.clone(),
            requests: rare.requests.histogram().clone(),
            delivery: rare.delivery.clone(),
        }
    }

    fn rare(&self) -> MutexGuard<'_, Rare> {
        self.rare.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The times behind the summaries.
#[cfg(any(feature = "otel", feature = "prometheus"))]
#[derive(Debug, Clone, Default)]
pub(crate) struct Times {
    pub(crate) outages: LatencyHistogram,
    pub(crate) round_trip: LatencyHistogram,
    pub(crate) requests: LatencyHistogram,
    pub(crate) delivery: LatencyHistogram,
}

#[cfg(any(feature = "otel", feature = "prometheus"))]
impl Times {
    pub(crate) fn merge(&mut self, other: &Self) {
        self.outages.merge(&other.outages);
        self.round_trip.merge(&other.round_trip);
        self.requests.merge(&other.requests);
        self.delivery.merge(&other.delivery);
    }
}

/// The longest outage that is told from a longer one.
const DAY: Duration = Duration::from_secs(24 * 3600);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn restarts_count_against_the_intensity_until_their_time_is_over() {
        let (counters, minute) = (Counters::new(1), Duration::from_secs(60));
        let now = Instant::now();
        let used = |at: Instant| {
            let rare = counters.rare();
            rare.windows["venue"].used(at)
        };
        counters.supervised("venue");
        assert!(used(now) < f64::EPSILON);
        counters.booked("venue", (1, 4), minute, now);
        counters.booked("venue", (2, 4), minute, now + minute / 2);
        assert!((used(now + minute / 2) - 0.5).abs() < f64::EPSILON);
        assert!((used(now + minute) - 0.25).abs() < f64::EPSILON);
        assert!(used(now + minute * 2) < f64::EPSILON);
        // What the supervisor has forgotten is forgotten here.
        counters.booked("venue", (1, 4), minute, now + minute * 2);
        assert!((used(now + minute * 2) - 0.25).abs() < f64::EPSILON);
    }
}
