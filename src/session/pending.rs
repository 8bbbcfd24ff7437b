//! The requests that wait for an answer on one connection.
//!
//! A slab, since the ids are ours: the low bits of an id are the place, the high bits a number that is
//! never used again, so that a late or doubled answer cannot reach a younger request.
//!
//! Invariants: each id is answered at most once; ids stay below 2^53, which every JSON peer can hold.

use std::time::{Duration, Instant};

use slab::Slab;

use super::line::ReplyPort;
use crate::close::CloseReason;
use crate::frame::Frame;

const PLACE_BITS: u32 = 16;
/// Requests in flight on one connection; the place must fit into its bits.
pub(crate) const CAPACITY: usize = 1 << PLACE_BITS;
const SERIAL_LIMIT: u64 = 1 << (53 - PLACE_BITS);

#[derive(Debug)]
struct Waiting {
    serial: u64,
    port: ReplyPort,
    since: Instant,
}

/// The requests in flight.
#[derive(Debug)]
pub(crate) struct Pending {
    slots: Slab<Waiting>,
    serial: u64,
}

impl Pending {
    /// None in flight.
    pub(crate) fn new() -> Self {
        Self {
            slots: Slab::new(),
            serial: 0,
        }
    }

    /// Whether one more fits. Frees the places of callers that have gone when none does.
    pub(crate) fn has_room(&mut self) -> bool {
        if self.slots.len() >= CAPACITY {
            self.slots.retain(|_, waiting| !waiting.port.is_abandoned());
        }
        self.slots.len() < CAPACITY
    }

    /// Takes a port in and returns the id of its request.
    pub(crate) fn insert(&mut self, port: ReplyPort, now: Instant) -> u64 {
        self.serial = (self.serial + 1) % SERIAL_LIMIT;
        let entry = self.slots.vacant_entry();
        let id = (self.serial << PLACE_BITS) | entry.key() as u64;
        port.identify(id);
        entry.insert(Waiting {
            serial: self.serial,
            port,
            since: now,
        });
        id
    }

    /// How many wait.
    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    /// Hands the answer to its caller, and says how long that took. `None` if nobody had asked.
    pub(crate) fn answer(&mut self, id: u64, frame: Frame, now: Instant) -> Option<Duration> {
        let place = (id & (CAPACITY as u64 - 1)) as usize;
        let serial = id >> PLACE_BITS;
        match self.slots.get(place) {
            Some(waiting) if waiting.serial == serial => {
                let waiting = self.slots.remove(place);
                waiting.port.answer(frame);
                Some(now.saturating_duration_since(waiting.since))
            }
            _ => None,
        }
    }

    /// The connection ended: everybody is told. How many had still waited.
    pub(crate) fn lose_all(&mut self, reason: &CloseReason) -> usize {
        let mut lost = 0;
        for waiting in self.slots.drain() {
            lost += usize::from(!waiting.port.is_abandoned());
            waiting.port.lost(reason);
        }
        lost
    }
}

#[cfg(test)]
mod tests {
    use super::super::line::Fate;
    use super::*;

    fn now() -> Instant {
        Instant::now()
    }

    fn answer() -> Frame {
        Frame::text("{}")
    }

    #[test]
    fn an_answer_reaches_its_caller_once() {
        let mut pending = Pending::new();
        let (port, mut reply) = ReplyPort::new();
        let id = pending.insert(port, now());
        assert!(pending.answer(id, answer(), now()).is_some());
        assert!(matches!(reply.give_up(), Ok(Fate::Answered(_))));
        assert!(pending.answer(id, answer(), now()).is_none());
    }

    #[test]
    fn a_late_answer_does_not_reach_the_next_request_in_the_same_place() {
        let mut pending = Pending::new();
        let (port, _reply) = ReplyPort::new();
        let first = pending.insert(port, now());
        assert!(pending.answer(first, answer(), now()).is_some());
        let (port, _reply) = ReplyPort::new();
        let second = pending.insert(port, now());
        assert_ne!(first, second);
        assert!(pending.answer(first, answer(), now()).is_none());
        assert_eq!(pending.slots.len(), 1, "the younger request still waits");
        assert!(pending.answer(second, answer(), now()).is_some());
    }

    #[test]
    fn an_id_that_nobody_asked_under_is_not_an_answer() {
        let mut pending = Pending::new();
        for id in [0, 1, u64::MAX, 1 << 53] {
            assert!(pending.answer(id, answer(), now()).is_none());
        }
    }

    #[test]
    fn ids_stay_below_two_to_the_fifty_three() {
        let mut pending = Pending {
            slots: Slab::new(),
            serial: SERIAL_LIMIT - 2,
        };
        for _ in 0..4 {
            let (port, reply) = ReplyPort::new();
            drop(reply);
            assert!(pending.insert(port, now()) < 1 << 53);
        }
    }

    #[test]
    fn the_end_of_the_connection_tells_everybody() {
        let mut pending = Pending::new();
        let (port, mut reply) = ReplyPort::new();
        assert!(port.begin_writing());
        pending.insert(port, now());
        assert_eq!(pending.lose_all(&CloseReason::Eof), 1);
        assert!(matches!(
            reply.give_up(),
            Ok(Fate::Lost {
                written: true,
                reason: Some(CloseReason::Eof)
            })
        ));
        assert!(pending.slots.is_empty());
    }
}
