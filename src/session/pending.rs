//! The requests that wait for an answer on one connection.
//!
//! A slab, since the ids are ours: the low bits of an id are the place, the high bits a number that is
//! never used again, so that a late or doubled answer cannot reach a younger request.
//!
//! Invariants: each id is answered at most once; ids stay below 2^53, which every JSON peer can hold; a request whose
//! caller has gone keeps its place, by which its late answer is known, and is not counted among those that wait.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
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
    /// How many of them were given up by their callers.
    given_up: Arc<AtomicUsize>,
}

/// What an answer has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answered {
    /// Its caller has it, so long after the request.
    InTime(Duration),
    /// Its caller had gone, for want of an answer in time or otherwise.
    Late(Duration),
    /// Nobody had asked under this id, or it was answered before.
    Unknown,
}

impl Pending {
    /// None in flight; those that their callers give up are counted in `given_up`.
    pub(crate) fn new(given_up: &Arc<AtomicUsize>) -> Self {
        Self {
            slots: Slab::new(),
            serial: 0,
            given_up: Arc::clone(given_up),
        }
    }

    /// Whether one more fits. Frees the places of callers that have gone when none does.
    pub(crate) fn has_room(&mut self) -> bool {
        if self.slots.len() >= CAPACITY {
            self.slots.retain(|_, waiting| !waiting.port.is_abandoned());
        }
        self.slots.len() < CAPACITY
    }

    /// Whether this request may be written; `false` if its caller has withdrawn it.
    #[must_use]
    pub(crate) fn begin(&self, port: &ReplyPort) -> bool {
        port.begin_waiting(&self.given_up)
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

    /// How many are written and not answered, whether or not their callers still wait.
    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    /// How many callers wait.
    pub(crate) fn waiting(&self) -> usize {
        let given_up = self.given_up.load(Ordering::Acquire);
        self.slots.len().saturating_sub(given_up)
    }

    /// Hands the answer to its caller, if that still waits.
    pub(crate) fn answer(&mut self, id: u64, frame: Frame, now: Instant) -> Answered {
        let place = (id & (CAPACITY as u64 - 1)) as usize;
        let serial = id >> PLACE_BITS;
        match self.slots.get(place) {
            Some(waiting) if waiting.serial == serial => {
                let waiting = self.slots.remove(place);
                let round_trip = now.saturating_duration_since(waiting.since);
                match waiting.port.answer(frame, now) {
                    false => Answered::InTime(round_trip),
                    true => Answered::Late(round_trip),
                }
            }
            _ => Answered::Unknown,
        }
    }

    /// The connection ended: everybody is told. The ids of those that had still waited, in the order of asking.
    pub(crate) fn lose_all(&mut self, reason: &CloseReason) -> Vec<u64> {
        let mut lost = Vec::new();
        for (place, waiting) in std::mem::take(&mut self.slots) {
            if !waiting.port.is_abandoned() {
                lost.push((waiting.serial << PLACE_BITS) | place as u64);
            }
            waiting.port.lost(reason);
        }
        lost.sort_unstable();
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

    fn pending() -> Pending {
        Pending::new(&Arc::default())
    }

    fn answer() -> Frame {
        Frame::text("{}")
    }

    fn in_time(answered: Answered) -> bool {
        matches!(answered, Answered::InTime(_))
    }

    /// One that is written.
    fn ask(requests: &mut Pending) -> (u64, super::super::line::Reply) {
        let (port, reply) = ReplyPort::new();
        assert!(requests.begin(&port));
        (requests.insert(port, now()), reply)
    }

    #[test]
    fn an_answer_reaches_its_caller_once() {
        let mut requests = pending();
        let (port, mut reply) = ReplyPort::new();
        let id = requests.insert(port, now());
        assert!(in_time(requests.answer(id, answer(), now())));
        assert!(matches!(reply.give_up(), Ok(Fate::Answered(..))));
        assert_eq!(requests.answer(id, answer(), now()), Answered::Unknown);
    }

    #[test]
    fn a_late_answer_does_not_reach_the_next_request_in_the_same_place() {
        let mut requests = pending();
        let (port, _reply) = ReplyPort::new();
        let first = requests.insert(port, now());
        assert!(in_time(requests.answer(first, answer(), now())));
        let (port, _reply) = ReplyPort::new();
        let second = requests.insert(port, now());
        assert_ne!(first, second);
        assert_eq!(requests.answer(first, answer(), now()), Answered::Unknown);
        assert_eq!(requests.slots.len(), 1, "the younger request still waits");
        assert!(in_time(requests.answer(second, answer(), now())));
    }

    #[test]
    fn an_id_that_nobody_asked_under_is_not_an_answer() {
        let mut requests = pending();
        for id in [0, 1, u64::MAX, 1 << 53] {
            assert_eq!(requests.answer(id, answer(), now()), Answered::Unknown);
        }
    }

    #[test]
    fn ids_stay_below_two_to_the_fifty_three() {
        let mut requests = pending();
        requests.serial = SERIAL_LIMIT - 2;
        for _ in 0..4 {
            let (port, reply) = ReplyPort::new();
            drop(reply);
            assert!(requests.insert(port, now()) < 1 << 53);
        }
    }

    #[test]
    fn whoever_has_given_up_waits_no_more_and_its_answer_is_known_to_be_late() {
        let mut requests = pending();
        let (first, mut reply) = ask(&mut requests);
        let (second, _waits) = ask(&mut requests);
        assert_eq!(requests.waiting(), 2);
        assert!(matches!(reply.give_up(), Err(true)), "written");
        assert_eq!((requests.waiting(), requests.len()), (1, 2));
        let late = requests.answer(first, answer(), now());
        assert!(matches!(late, Answered::Late(_)), "{late:?}");
        assert_eq!((requests.waiting(), requests.len()), (1, 1));
        assert_eq!(requests.answer(first, answer(), now()), Answered::Unknown);
        assert!(in_time(requests.answer(second, answer(), now())));
        assert_eq!(requests.waiting(), 0);
    }

    #[test]
    fn the_end_of_the_connection_names_those_who_still_waited() {
        let mut requests = pending();
        let (_, gone) = ask(&mut requests);
        let (id, _waits) = ask(&mut requests);
        drop(gone);
        assert_eq!(requests.lose_all(&CloseReason::Eof), [id]);
        assert_eq!(requests.waiting(), 0);
    }

    #[test]
    fn the_end_of_the_connection_tells_everybody() {
        let mut requests = pending();
        let (port, mut reply) = ReplyPort::new();
        assert!(port.begin_writing());
        requests.insert(port, now());
        assert_eq!(requests.lose_all(&CloseReason::Eof).len(), 1);
        assert!(matches!(
            reply.give_up(),
            Ok(Fate::Lost {
                written: true,
                reason: Some(CloseReason::Eof)
            })
        ));
        assert!(requests.slots.is_empty());
    }
}
