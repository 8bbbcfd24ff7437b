//! The requests that wait for an answer on one connection.
//!
//! A slab, since the ids are ours: the low bits of an id are the place, the high bits a number that is
//! never used again, so that a late or doubled answer cannot reach a younger request.
//!
//! Invariants: each id is answered at most once; ids stay below 2^53, which every JSON peer can hold.

use slab::Slab;

use super::line::ReplyPort;
use crate::close::CloseReason;
use crate::frame::Frame;

const PLACE_BITS: u32 = 16;
/// Requests in flight on one connection; the place must fit into its bits.
pub(crate) const CAPACITY: usize = 1 << PLACE_BITS;
const SERIAL_LIMIT: u64 = 1 << (53 - PLACE_BITS);

/// The requests in flight.
#[derive(Debug)]
pub(crate) struct Pending {
    slots: Slab<(u64, ReplyPort)>,
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
            self.slots.retain(|_, (_, port)| !port.is_abandoned());
        }
        self.slots.len() < CAPACITY
    }

    /// Takes a port in and returns the id of its request.
    pub(crate) fn insert(&mut self, port: ReplyPort) -> u64 {
        self.serial = (self.serial + 1) % SERIAL_LIMIT;
        let place = self.slots.insert((self.serial, port));
        (self.serial << PLACE_BITS) | place as u64
    }

    /// Hands the answer to its caller. Whether anybody had asked.
    pub(crate) fn answer(&mut self, id: u64, frame: Frame) -> bool {
        let place = (id & (CAPACITY as u64 - 1)) as usize;
        let serial = id >> PLACE_BITS;
        match self.slots.get(place) {
            Some((expected, _)) if *expected == serial => {
                let (_, port) = self.slots.remove(place);
                port.answer(frame);
                true
            }
            _ => false,
        }
    }

    /// The connection ended: everybody is told.
    pub(crate) fn lose_all(&mut self, reason: &CloseReason) {
        for (_, port) in self.slots.drain() {
            port.lost(reason);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::line::Fate;
    use super::*;

    fn answer() -> Frame {
        Frame::text("{}")
    }

    #[test]
    fn an_answer_reaches_its_caller_once() {
        let mut pending = Pending::new();
        let (port, mut reply) = ReplyPort::new();
        let id = pending.insert(port);
        assert!(pending.answer(id, answer()));
        assert!(matches!(reply.give_up(), Ok(Fate::Answered(_))));
        assert!(!pending.answer(id, answer()));
    }

    #[test]
    fn a_late_answer_does_not_reach_the_next_request_in_the_same_place() {
        let mut pending = Pending::new();
        let (port, _reply) = ReplyPort::new();
        let first = pending.insert(port);
        assert!(pending.answer(first, answer()));
        let (port, _reply) = ReplyPort::new();
        let second = pending.insert(port);
        assert_ne!(first, second);
        assert!(!pending.answer(first, answer()));
        assert_eq!(pending.slots.len(), 1, "the younger request still waits");
        assert!(pending.answer(second, answer()));
    }

    #[test]
    fn an_id_that_nobody_asked_under_is_not_an_answer() {
        let mut pending = Pending::new();
        for id in [0, 1, u64::MAX, 1 << 53] {
            assert!(!pending.answer(id, answer()));
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
            assert!(pending.insert(port) < 1 << 53);
        }
    }

    #[test]
    fn the_end_of_the_connection_tells_everybody() {
        let mut pending = Pending::new();
        let (port, mut reply) = ReplyPort::new();
        assert!(port.begin_writing());
        pending.insert(port);
        pending.lose_all(&CloseReason::Eof);
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
