//! What the connections of one simulator have in common: the market, the log, the faults to come.
//!
//! A file of its own because the door, the clock and every connection hold it.
//!
//! Invariants: locks are held for moments and never across an await; where two are needed, the
//! market's comes first; a lock whose holder panicked is taken all the same.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{broadcast, mpsc};
use tokio::time::Instant;

use super::fault::{Fault, Knobs};
use super::limits::Credits;
use super::venue::{Tick, Venue};
use super::{LogEntry, LogEvent, Settings};
use crate::testing::Handshake;
use crate::testing::journal::Journal;

/// How many ticks a connection may lag behind before it is cut as too slow.
const TICKS: usize = 1024;

/// How many injected faults may wait for one connection.
const FAULTS: usize = 256;

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) settings: Settings,
    pub(super) journal: Journal<LogEntry>,
    venue: Mutex<Venue>,
    ticks: broadcast::Sender<Arc<Tick>>,
    connections: Mutex<Connections>,
    knobs: Mutex<Knobs>,
    /// Handshakes to come that differ from the ordinary one, and how often each is played.
    handshakes: Mutex<VecDeque<(Handshake, u32)>>,
    credits: Mutex<Credits>,
}

#[derive(Debug, Default)]
struct Connections {
    open: BTreeMap<u64, Connected>,
    most: usize,
}

#[derive(Debug)]
struct Connected {
    faults: mpsc::Sender<Fault>,
    cancels_on_disconnect: bool,
}

impl Shared {
    pub(super) fn new(settings: Settings, instruments: &[String], seed: u64) -> Self {
        Self {
            settings,
            journal: Journal::new(),
            venue: Mutex::new(Venue::new(instruments, seed)),
            ticks: broadcast::Sender::new(TICKS),
            connections: Mutex::default(),
            knobs: Mutex::default(),
            handshakes: Mutex::default(),
            credits: Mutex::new(Credits::new(Instant::now())),
        }
    }

    pub(super) fn venue(&self) -> MutexGuard<'_, Venue> {
        lock(&self.venue)
    }

    /// One period of the market goes by.
    pub(super) fn tick(&self) {
        let mut venue = self.venue();
        let tick = venue.tick();
        // Under the lock, so that a snapshot and the number of its tick belong together. Nobody
        // may be listening.
        let _ = self.ticks.send(Arc::new(tick));
    }

    /// Tells every connection of something that happened between two ticks.
    pub(super) fn publish(&self, tick: Tick) {
        let _ = self.ticks.send(Arc::new(tick));
    }

    pub(super) fn ticks(&self) -> broadcast::Receiver<Arc<Tick>> {
        self.ticks.subscribe()
    }

    pub(super) fn write(&self, connection: u64, event: LogEvent) {
        self.journal.write(LogEntry {
            connection,
            at: Instant::now(),
            event,
        });
    }

    pub(super) fn knobs(&self) -> Knobs {
        lock(&self.knobs).clone()
    }

    /// What happens to the next connection before its first frame.
    pub(super) fn next_handshake(&self) -> Handshake {
        let mut handshakes = lock(&self.handshakes);
        if let Some((handshake, times)) = handshakes.front_mut() {
            let handshake = handshake.clone();
            *times -= 1;
            if *times == 0 {
                handshakes.pop_front();
            }
            return handshake;
        }
        if lock(&self.connections).open.len() >= self.settings.connection_limit {
            return Handshake::refuse(429, &[("Retry-After", "1")], "too many connections");
        }
        Handshake::Accept
    }

    /// Pays for a request; `false` if there is not enough credit.
    pub(super) fn pay(&self, method: &str, now: Instant) -> bool {
        !self.settings.rate_limits || lock(&self.credits).pay(method, now)
    }

    /// Enters a connection into the list of the open ones; its faults come out of the channel.
    pub(super) fn enter(&self, connection: u64) -> mpsc::Receiver<Fault> {
        let (faults, injected) = mpsc::channel(FAULTS);
        let mut connections = lock(&self.connections);
        connections.open.insert(
            connection,
            Connected {
                faults,
                cancels_on_disconnect: false,
            },
        );
        connections.most = connections.most.max(connections.open.len());
        drop(connections);
        self.write(connection, LogEvent::Opened);
        injected
    }

    pub(super) fn leave(&self, connection: u64) {
        lock(&self.connections).open.remove(&connection);
        self.write(connection, LogEvent::Ended);
    }

    pub(super) fn set_cancels_on_disconnect(&self, connection: u64, on: bool) {
        if let Some(connected) = lock(&self.connections).open.get_mut(&connection) {
            connected.cancels_on_disconnect = on;
        }
    }

    pub(super) fn cancels_on_disconnect(&self, connection: u64) -> bool {
        let connections = lock(&self.connections);
        connections
            .open
            .get(&connection)
            .is_some_and(|connected| connected.cancels_on_disconnect)
    }

    pub(super) fn open(&self) -> Vec<u64> {
        lock(&self.connections).open.keys().copied().collect()
    }

    pub(super) fn most_open(&self) -> usize {
        lock(&self.connections).most
    }

    pub(super) fn inject(&self, fault: Fault) -> usize {
        lock(&self.knobs).turn(&fault);
        match fault.clone() {
            Fault::RefuseUpgrade {
                status,
                headers,
                body,
                times,
            } => {
                let handshake = Handshake::Refuse {
                    status,
                    headers,
                    body,
                };
                self.prepare(handshake, times);
            }
            Fault::Handshake { handshake, times } => self.prepare(handshake, times),
            Fault::Heal => lock(&self.handshakes).clear(),
            _ => {}
        }
        let connections = lock(&self.connections);
        let told = connections
            .open
            .values()
            .filter(|connected| connected.faults.try_send(fault.clone()).is_ok());
        told.count()
    }

    pub(super) fn inject_on(&self, connection: u64, fault: Fault) -> bool {
        let connections = lock(&self.connections);
        connections
            .open
            .get(&connection)
            .is_some_and(|connected| connected.faults.try_send(fault).is_ok())
    }

    fn prepare(&self, handshake: Handshake, times: u32) {
        if times > 0 {
            lock(&self.handshakes).push_back((handshake, times));
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
