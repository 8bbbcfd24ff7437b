//! Every session of the process, for whoever measures all of them: what they have counted and what they hold.
//!
//! Apart from the inspector, which is told what to look at, because an exporter is set up once, before the sessions
//! that it tells of and without knowing them. It is there only with one of the exporting features.
//!
//! Invariants: a session is never kept alive from here; what one has counted is not forgotten with it, so that no
//! counter falls; as many names of ended sessions are kept as [`NAMES`] says; nothing of the data path is touched
//! until somebody looks.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::gate::GateStatus;
use super::limiter::LimiterStatus;
use super::plane::Plane;
use super::reporter::Reporter;
use super::statistics::{Counters, Times};
use crate::close::{CloseReason, GapCause};
use crate::config::ReconnectOwner;
use crate::protocol::status::Status;

/// Names of ended sessions whose counts are kept; of those that end after that nothing is.
const NAMES: usize = 1000;

static ROSTER: Mutex<Roster> = Mutex::new(Roster {
    present: Vec::new(),
    past: BTreeMap::new(),
});

struct Roster {
    present: Vec<Entry>,
    past: BTreeMap<Arc<str>, Counted>,
}

/// A session that is alive, or was when somebody last looked.
struct Entry {
    plane: Weak<Plane>,
    counters: Arc<Counters>,
    reporter: Arc<Reporter>,
    owner: ReconnectOwner,
}

/// What sessions of one name have counted together.
#[derive(Debug, Clone, Default)]
pub(crate) struct Counted {
    pub(crate) frames_in: u64,
    pub(crate) frames_out: u64,
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
    pub(crate) opened: u64,
    pub(crate) not_opened: u64,
    /// By layer and cause.
    pub(crate) reconnects: BTreeMap<(&'static str, &'static str), u64>,
    pub(crate) gaps: BTreeMap<&'static str, u64>,
    pub(crate) lost: BTreeMap<&'static str, u64>,
    pub(crate) fates: BTreeMap<&'static str, u64>,
    pub(crate) restarts: BTreeMap<String, u64>,
    pub(crate) times: Times,
}

/// What sessions of one name hold together now.
#[derive(Debug, Clone, Default)]
pub(crate) struct Held {
    /// How many stand where, by [`Status::label`].
    pub(crate) sessions: BTreeMap<&'static str, i64>,
    pub(crate) in_flight: usize,
    /// Waiting for the connection to write them.
    pub(crate) requests: usize,
    /// Waiting for the session to be live.
    pub(crate) offline: usize,
    /// Waiting for consumers.
    pub(crate) messages: usize,
    /// Heartbeats and pongs that nobody has looked at.
    pub(crate) control: usize,
    /// Channels that are wanted, and those of them that the venue has confirmed.
    pub(crate) channels: (usize, usize),
    /// How full the fullest of each kind of queue is, by the queue's name.
    pub(crate) fullest: BTreeMap<&'static str, f64>,
    /// The scores of the places that it may connect to, in the order of preference; of several sessions the lowest.
    pub(crate) scores: Vec<u8>,
    /// The share of its intensity that each supervisor has used, by path.
    pub(crate) intensities: BTreeMap<String, f64>,
}

/// All sessions of one name.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tally {
    pub(crate) counted: Counted,
    pub(crate) held: Held,
}

/// Everything at one moment.
#[derive(Debug, Clone, Default)]
pub(crate) struct Look {
    pub(crate) sessions: BTreeMap<Arc<str>, Tally>,
    pub(crate) limiters: BTreeMap<Arc<str>, LimiterStatus>,
    pub(crate) gates: BTreeMap<Arc<str>, GateStatus>,
}

/// A session is made.
pub(crate) fn enter(plane: &Arc<Plane>, owner: ReconnectOwner) {
    let mut roster = lock();
    roster.forget();
    roster.present.push(Entry {
        plane: Arc::downgrade(plane),
        counters: Arc::clone(&plane.counters),
        reporter: Arc::clone(&plane.reporter),
        owner,
    });
}

/// Everything as it is now.
pub(crate) fn look() -> Look {
    let mut look = Look::default();
    let planes: Vec<Arc<Plane>> = {
        let mut roster = lock();
        roster.forget();
        for (name, counted) in &roster.past {
            look.tally(name).counted.add(counted);
        }
        for entry in &roster.present {
            let name = entry.reporter.shared_name();
            look.tally(name).counted.add(&entry.counted());
        }
        let present = roster.present.iter();
        present.filter_map(|entry| entry.plane.upgrade()).collect()
    };
    for plane in planes {
        look.hold(&plane);
    }
    look
}

impl Roster {
    /// Lets go of sessions that have gone, and keeps what they have counted.
    fn forget(&mut self) {
        let gone = |entry: &mut Entry| entry.plane.strong_count() == 0;
        for entry in self.present.extract_if(.., gone) {
            let name = entry.reporter.shared_name();
            if self.past.len() < NAMES || self.past.contains_key(name) {
                let past = self.past.entry(Arc::clone(name)).or_default();
                past.add(&entry.counted());
            }
        }
    }
}

impl Entry {
    fn counted(&self) -> Counted {
        let statistics = self.counters.snapshot();
        let metrics = self.reporter.metrics.snapshot();
        let layer = match self.owner {
            ReconnectOwner::Client => "client",
            ReconnectOwner::Adapter => "adapter",
        };
        let mut reconnects = zeros(CloseReason::LABELS.map(|cause| (layer, cause)));
        for (cause, count) in statistics.reconnects_by_cause {
            reconnects.insert((layer, cause), count);
        }
        let mut gaps = zeros(CloseReason::LABELS.into_iter().chain(GapCause::LABELS));
        gaps.extend(statistics.gaps);
        let mut lost = zeros(["lagged", "sequence_break", "undecodable"]);
        lost.extend(statistics.lost);
        Counted {
            frames_in: statistics.frames_in,
            frames_out: statistics.frames_out,
            bytes_in: statistics.bytes_in,
            bytes_out: metrics.bytes_sent,
            opened: statistics.opened,
            not_opened: metrics.connections_not_opened,
            reconnects,
            gaps,
            lost,
            fates: statistics.fates,
            restarts: statistics.restarts,
            times: self.counters.times(),
        }
    }
}

impl Counted {
    fn add(&mut self, other: &Self) {
        self.frames_in += other.frames_in;
        self.frames_out += other.frames_out;
        self.bytes_in += other.bytes_in;
        self.bytes_out += other.bytes_out;
        self.opened += other.opened;
        self.not_opened += other.not_opened;
        sum(&mut self.reconnects, &other.reconnects);
        sum(&mut self.gaps, &other.gaps);
        sum(&mut self.lost, &other.lost);
        sum(&mut self.fates, &other.fates);
        sum(&mut self.restarts, &other.restarts);
        self.times.merge(&other.times);
    }
}

/// Nothing yet of any of these: who compares two moments has to see the first.
fn zeros<K: Ord>(keys: impl IntoIterator<Item = K>) -> BTreeMap<K, u64> {
    keys.into_iter().map(|key| (key, 0)).collect()
}

fn sum<K: Ord + Clone>(to: &mut BTreeMap<K, u64>, from: &BTreeMap<K, u64>) {
    for (key, count) in from {
        *to.entry(key.clone()).or_default() += count;
    }
}

impl Look {
    fn tally(&mut self, name: &Arc<str>) -> &mut Tally {
        let tally = self.sessions.entry(Arc::clone(name)).or_default();
        // A state in which nobody is shall be seen to be empty.
        for status in Status::ALL {
            tally.held.sessions.entry(status.label()).or_default();
        }
        tally
    }

    fn hold(&mut self, plane: &Arc<Plane>) {
        let metrics = plane.state_metrics();
        let held = &mut self.tally(plane.reporter.shared_name()).held;
        *held.sessions.entry(plane.status().label()).or_default() += 1;
        held.in_flight += metrics.pending_requests;
        held.requests += metrics.queued_requests;
        held.offline += plane.outbox.status().waiting;
        held.messages += metrics.queued_messages;
        held.control += metrics.control_backlog;
        held.channels.0 += metrics.channels;
        held.channels.1 += metrics.confirmed_channels;
        let table = plane.routes.snapshot();
        let shares = table.all().filter(|subscriber| !subscriber.is_gone());
        let messages = shares.map(|subscriber| subscriber.share());
        let requests = plane.line().map_or(0.0, |line| line.level().share());
        for (queue, share) in [
            ("messages", messages.fold(0.0, f64::max)),
            ("offline", plane.outbox.share()),
            ("requests", requests),
        ] {
            let known = held.fullest.entry(queue).or_default();
            *known = known.max(share);
        }
        for (index, place) in plane.places.status().iter().enumerate() {
            match held.scores.get_mut(index) {
                Some(lowest) => *lowest = place.score.min(*lowest),
                None => held.scores.push(place.score),
            }
        }
        for (path, used) in plane.counters.snapshot().intensities {
            let known = held.intensities.entry(path).or_default();
            *known = known.max(used);
        }
        if let Some(limiter) = &plane.limiter {
            let name = Arc::clone(limiter.name());
            self.limiters
                .entry(name)
                .or_insert_with(|| limiter.status());
        }
        if let Some(gate) = &plane.gate {
            let status = gate.status();
            if let Some(limit) = &status.limit {
                let name = Arc::from(format!("{}/attempts", gate.name()));
                self.limiters.entry(name).or_insert_with(|| limit.clone());
            }
            self.gates.entry(Arc::clone(gate.name())).or_insert(status);
        }
    }
}

fn lock() -> MutexGuard<'static, Roster> {
    ROSTER.lock().unwrap_or_else(PoisonError::into_inner)
}
