//! The requests that wait for an answer on one connection.
//!
//! A slab, since the ids are ours: the low bits of an id are the place, the high bits a number that is
//! never used again, so that a late or doubled answer cannot reach a younger request.
//!
//! Invariants: each id is answered at most once; ids stay below 2^53, which every JSON peer can hold; a request whose
//! caller has gone keeps its place, by which its late answer is known, and is not counted among those that wait.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use slab::Slab;

use super::port::ReplyPort;
use crate::close::CloseReason;

const PLACE_BITS: u32 = 16;
/// Requests in flight on one connection; the place must fit into its bits.
pub(crate) const CAPACITY: usize = 1 << PLACE_BITS;
const SERIAL_LIMIT: u64 = 1 << (53 - PLACE_BITS);

/// A request that has been written.
#[derive(Debug)]
pub(crate) struct Waiting {
    serial: u64,
    /// Who asked.
    pub(crate) port: ReplyPort,
    /// When it was written.
    pub(crate) since: Instant,
}

/// The requests in flight.
#[derive(Debug)]
pub(crate) struct Pending {
    slots: Slab<Waiting>,
    serial: u64,
    /// How many of them were given up by their callers.
    given_up: Arc<AtomicUsize>,
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

    /// Takes a port in and returns the id of its request.
    #[inline(always)]
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

    /// Who had asked under this id; `None` if nobody had, or it was answered before.
    #[inline(always)]
    pub(crate) fn take(&mut self, id: u64) -> Option<Waiting> {
        let place = (id & (CAPACITY as u64 - 1)) as usize;
        let serial = id >> PLACE_BITS;
        let waiting = self.slots.get(place)?;
        (waiting.serial == serial).then(|| self.slots.remove(place))
    }

    /// Tells those who have waited long enough. The next deadline of those who have not.
    pub(crate) fn overdue(&self, now: Instant) -> Option<Instant> {
        let mut next: Option<Instant> = None;
        for (_, Waiting { port, .. }) in &self.slots {
            match port.deadline() {
                Some(deadline) if deadline <= now => port.overdue(),
                Some(deadline) => next = Some(next.map_or(deadline, |next| next.min(deadline))),
                None => {}
            }
        }
        next
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
    use std::time::Duration;

    use super::super::port::{Fate, Reply, Wait};
    use super::*;
    use crate::frame::Frame;

    fn now() -> Instant {
        Instant::now()
    }

    fn pending() -> Pending {
        Pending::new(&Arc::default())
    }

    /// One that is written.
    fn ask(requests: &mut Pending) -> (u64, Reply) {
        ask_within(requests, None)
    }

    fn ask_within(requests: &mut Pending, wait: Option<Wait>) -> (u64, Reply) {
        let (port, reply) = ReplyPort::new(&requests.given_up, wait);
        assert!(port.begin_waiting());
        (requests.insert(port, now()), reply)
    }

    /// Whether the answer is in time; `None` if it is nobody's.
    fn answer(requests: &mut Pending, id: u64) -> Option<bool> {
        let waiting = requests.take(id)?;
        let late = waiting.port.resolve();
        waiting.port.answer(Frame::text("{}"), now());
        Some(!late)
    }

    #[test]
    fn an_answer_reaches_its_caller_once() {
        let mut requests = pending();
        let (id, mut reply) = ask(&mut requests);
        assert_eq!(answer(&mut requests, id), Some(true));
        assert!(matches!(reply.give_up(), Ok(Fate::Answered(..))));
        assert_eq!(answer(&mut requests, id), None);
    }

    #[test]
    fn a_late_answer_does_not_reach_the_next_request_in_the_same_place() {
        let mut requests = pending();
        let (first, _reply) = ask(&mut requests);
        assert_eq!(answer(&mut requests, first), Some(true));
        let (second, _reply) = ask(&mut requests);
        assert_ne!(first, second);
        assert_eq!(answer(&mut requests, first), None);
        assert_eq!(requests.slots.len(), 1, "the younger request still waits");
        assert_eq!(answer(&mut requests, second), Some(true));
    }

    #[test]
    fn an_id_that_nobody_asked_under_is_not_an_answer() {
        let mut requests = pending();
        for id in [0, 1, u64::MAX, 1 << 53] {
            assert_eq!(answer(&mut requests, id), None);
        }
    }

    #[test]
    fn ids_stay_below_two_to_the_fifty_three() {
        let mut requests = pending();
        requests.serial = SERIAL_LIMIT - 2;
        for _ in 0..4 {
            let (id, _) = ask(&mut requests);
            assert!(id < 1 << 53);
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
        assert_eq!(answer(&mut requests, first), Some(false), "late");
        assert_eq!((requests.waiting(), requests.len()), (1, 1));
        assert_eq!(answer(&mut requests, first), None);
        assert_eq!(answer(&mut requests, second), Some(true));
        assert_eq!(requests.waiting(), 0);
    }

    #[test]
    fn whoever_has_waited_long_enough_is_told_once_and_keeps_its_place() {
        let mut requests = pending();
        let (began, limit) = (now(), Duration::from_secs(1));
        let wait = |many: u32| {
            let kept = Some((began, began + limit * many));
            Some(Wait { limit, kept })
        };
        let (first, mut reply) = ask_within(&mut requests, wait(1));
        let (_, _waits) = ask_within(&mut requests, wait(3));
        let (_, _has_its_own_clock) = ask(&mut requests);
        assert_eq!(requests.overdue(began), Some(began + limit));
        assert_eq!(requests.overdue(began + limit), Some(began + limit * 3));
        assert_eq!((requests.waiting(), requests.len()), (2, 3));
        let told = reply.give_up();
        assert!(
            matches!(told, Ok(Fate::Overdue { written: true })),
            "{told:?}"
        );
        assert_eq!(answer(&mut requests, first), Some(false), "late");
        assert_eq!(requests.overdue(began + limit * 3), None);
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
        let (_, mut reply) = ask(&mut requests);
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
