//! The machine as a whole: order, exactly one end for each, and what the reserved lane is worth.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;
use crate::config::limits::Rule;

const SECOND: Duration = Duration::from_secs(1);

fn waiting(limits: RateLimits, now: Instant) -> Limiter<u32> {
    limits.check().expect("limits that can work");
    Limiter::new(&limits, now)
}

fn submit(limiter: &mut Limiter<u32>, item: u32, lane: Lane, now: Instant) -> Vec<u32> {
    limiter
        .submit(item, Weight::new(1).lane(lane), None)
        .expect("room");
    limiter.turn(now).granted
}

#[test]
fn those_that_wait_are_served_by_lane_and_then_by_arrival() {
    let now = Instant::now();
    let mut limiter = waiting(RateLimits::bucket(1, 10, SECOND), now);
    assert_eq!(submit(&mut limiter, 0, Lane::Normal, now), [0]);
    let lanes = [
        Lane::Low,
        Lane::Normal,
        Lane::Reserved,
        Lane::Normal,
        Lane::High,
    ];
    for (item, lane) in (1..).zip(lanes) {
        assert!(submit(&mut limiter, item, lane, now).is_empty());
    }
    let mut order = Vec::new();
    let mut at = now;
    while let Some(next) = limiter.next_timeout(at) {
        at = next;
        order.extend(limiter.turn(at).granted);
    }
    assert_eq!(order, [3, 5, 2, 4, 1]);
}

#[test]
fn nobody_overtakes_those_that_wait() {
    let now = Instant::now();
    let mut limiter = waiting(RateLimits::bucket(2, 1, SECOND).reserve(0), now);
    let dear = Weight::new(2);
    limiter.submit(1, dear, None).expect("room");
    limiter.submit(2, dear, None).expect("room");
    assert_eq!(limiter.turn(now).granted, [1]);
    let at = now + SECOND;
    assert!(
        !limiter.try_acquire(Weight::new(1), at),
        "one waits for two"
    );
    assert!(limiter.try_acquire(Weight::new(1).lane(Lane::High), at));
}

#[test]
fn the_reserve_is_the_reserved_lanes_alone() {
    let now = Instant::now();
    let mut limiter = waiting(RateLimits::window(10, SECOND).reserve(3), now);
    let usual = (0..20).filter(|_| limiter.try_acquire(Weight::new(1), now));
    assert_eq!(usual.count(), 7);
    let heartbeat = Weight::new(1).lane(Lane::Reserved);
    let reserved = (0..20).filter(|_| limiter.try_acquire(heartbeat, now));
    assert_eq!(reserved.count(), 3);
}

#[test]
fn a_full_queue_still_takes_heartbeats_and_cancels() {
    let now = Instant::now();
    let mut limiter = waiting(RateLimits::window(1, SECOND).queue(2), now);
    let usual = Weight::new(1);
    for item in 0..3 {
        limiter.submit(item, usual, None).expect("room");
        let _ = limiter.turn(now);
    }
    let refused = limiter.submit(9, usual, None);
    assert_eq!(refused, Err((9, Refusal::Full { capacity: 2 })));
    let reserved = limiter.submit(10, usual.lane(Lane::Reserved), None);
    assert!(reserved.is_ok());
    assert_eq!(limiter.turn(now + SECOND + SECOND).granted, [10]);
}

#[test]
fn one_pools_lack_holds_up_no_other() {
    let now = Instant::now();
    let pool = |name| {
        let (limit, within) = (1, SECOND);
        Pool::new(name, Rule::Window { limit, within })
    };
    let mut limiter = waiting(RateLimits::pools([pool("a"), pool("b")]), now);
    for item in 0..2 {
        limiter.submit(item, Weight::new(1), None).expect("room");
    }
    let other = Weight::new(1).of_pool(1);
    limiter.submit(2, other, None).expect("room");
    assert_eq!(limiter.turn(now).granted, [0, 2]);
}

#[test]
fn what_can_never_be_paid_is_refused_at_once() {
    let now = Instant::now();
    let mut limiter = waiting(RateLimits::window(10, SECOND).reserve(3), now);
    let refused = limiter.submit(0, Weight::new(8), None);
    assert_eq!(refused, Err((0, Refusal::TooDear { cost: 8, most: 7 })));
    assert!(!limiter.try_acquire(Weight::new(8), now));
}

#[test]
fn a_complaint_empties_the_pools_and_rests_all_but_the_reserved_lane() {
    let now = Instant::now();
    let mut limiter = waiting(RateLimits::bucket(10, 10, SECOND).reserve(2), now);
    let until = limiter.on_limited(Some(5 * SECOND), now);
    assert_eq!(limiter.status(now)[0].tokens, 2);
    limiter.submit(1, Weight::new(1), None).expect("room");
    assert!(
        limiter
            .turn(until - Duration::from_nanos(1))
            .granted
            .is_empty()
    );
    assert_eq!(limiter.next_timeout(now), Some(until));
    assert!(limiter.try_acquire(Weight::new(1).lane(Lane::Reserved), now));
    assert_eq!(limiter.turn(until).granted, [1]);
}

proptest! {
    /// Each is granted or expires or is withdrawn or is swept, once; lanes keep their order of arrival; the
    /// strict window holds; and asking when the machine says so is enough.
    #[test]
    fn each_that_is_queued_has_one_end(
        limit in 1_u64..6, capacity in 1_usize..12, strict in any::<bool>(),
        steps in prop::collection::vec((0_u64..40, 0_usize..4, 0_u64..120, 0_u8..12), 1..150),
    ) {
        let began = Instant::now();
        let within = Duration::from_millis(20);
        let limits = match strict {
            true => RateLimits::window(limit, within),
            false => RateLimits::bucket(limit, limit, within),
        };
        let mut limiter = waiting(limits.queue(capacity).reserve(0), began);
        let mut now = began;
        let mut ends: BTreeMap<u32, u32> = BTreeMap::new();
        let mut granted: Vec<(Instant, u32)> = Vec::new();
        let mut lanes: BTreeMap<u32, Lane> = BTreeMap::new();
        let mut places = Vec::new();
        for (item, (pause, lane, patience, kind)) in (0..).zip(steps) {
            let target = now + Duration::from_millis(pause);
            while let Some(next) = limiter.next_timeout(now).filter(|next| *next <= target) {
                now = next.max(now);
                let turn = limiter.turn(now);
                prop_assert!(!turn.granted.is_empty() || !turn.expired.is_empty(), "woken for nothing");
                for one in turn.expired { *ends.entry(one).or_default() += 1; }
                for one in turn.granted { *ends.entry(one).or_default() += 1; granted.push((now, one)); }
            }
            now = target;
            match kind {
                0 => if let Some(one) = places.pop().and_then(|place| limiter.withdraw(place)) {
                    *ends.entry(one).or_default() += 1;
                },
                1 => for one in limiter.sweep(|one| one % 3 == 0) { *ends.entry(one).or_default() += 1; },
                _ => {
                    let weight = Weight::new(1).lane(Lane::ALL[lane]);
                    let deadline = Some(now + Duration::from_millis(patience));
                    lanes.insert(item, weight.lane);
                    match limiter.submit(item, weight, deadline) {
                        Ok(place) => places.push(place),
                        Err((one, _)) => *ends.entry(one).or_default() += 1,
                    }
                }
            }
            let turn = limiter.turn(now);
            for one in turn.expired { *ends.entry(one).or_default() += 1; }
            for one in turn.granted { *ends.entry(one).or_default() += 1; granted.push((now, one)); }
            let status = &limiter.status(now)[0];
            prop_assert!(status.tokens <= limit && status.queued <= 2 * capacity);
        }
        let rest = limiter.sweep(|_| true);
        for one in rest { *ends.entry(one).or_default() += 1; }
        prop_assert_eq!(ends.len(), lanes.len());
        prop_assert!(ends.values().all(|count| *count == 1), "{:?}", ends);
        for lane in Lane::ALL {
            let order: Vec<u32> = granted.iter().map(|(_, one)| *one).filter(|one| lanes[one] == lane).collect();
            prop_assert!(order.is_sorted(), "{:?}", order);
        }
        if strict {
            for (end, _) in &granted {
                let sum = granted.iter().filter(|(at, _)| at <= end && *end - *at <= within).count();
                prop_assert!(sum as u64 <= limit);
            }
        }
    }
}

#[test]
fn what_happens_in_a_pool_is_told_once() {
    let now = Instant::now();
    let mut limiter = waiting(RateLimits::bucket(2, 2, SECOND).queue(4), now);
    submit(&mut limiter, 1, Lane::Normal, now);
    submit(&mut limiter, 2, Lane::Normal, now);
    let (pool, capacity) = (0, 4);
    let consumed = |count, left| Movement::Consumed {
        pool,
        count,
        cost: count,
        left,
    };
    assert_eq!(limiter.movements(), [consumed(2, 0)]);
    assert_eq!(limiter.movements(), []);

    let place = limiter.submit(3, Weight::new(1), None).expect("room");
    limiter
        .submit(4, Weight::new(1), Some(now + SECOND / 2))
        .expect("room");
    assert!(limiter.turn(now).granted.is_empty());
    let queued = 2;
    let grown = Movement::Queued {
        pool,
        queued,
        capacity,
    };
    assert_eq!(limiter.movements(), [grown]);

    assert_eq!(limiter.expire(place), Some(3));
    assert_eq!(limiter.turn(now + SECOND).expired, [4]);
    assert_eq!(limiter.movements(), [Movement::Expired { pool, count: 2 }]);

    assert!(limiter.try_acquire(Weight::new(1), now + SECOND));
    let refilled = Movement::Refilled {
        pool,
        before: 0,
        after: 2,
    };
    assert_eq!(limiter.movements(), [refilled, consumed(1, 1)]);
}

#[test]
fn what_is_paid_between_two_refills_is_part_of_neither() {
    let now = Instant::now();
    let mut limiter = waiting(RateLimits::bucket(10, 1, SECOND).reserve(0), now);
    assert!(limiter.try_acquire(Weight::new(4), now));
    let _ = limiter.movements();
    assert!(limiter.try_acquire(Weight::new(6), now + SECOND));
    assert!(limiter.try_acquire(Weight::new(1), now + 2 * SECOND));
    let pool = 0;
    let refilled = Movement::Refilled {
        pool,
        before: 6,
        after: 8,
    };
    let consumed = Movement::Consumed {
        pool,
        count: 2,
        cost: 7,
        left: 1,
    };
    assert_eq!(limiter.movements(), [refilled, consumed]);
}

#[test]
fn what_is_given_back_was_neither_consumed_nor_refilled() {
    let now = Instant::now();
    let mut limiter = waiting(RateLimits::window(5, SECOND).reserve(0), now);
    assert!(limiter.try_acquire(Weight::new(3), now));
    limiter.refund(Weight::new(3), now);
    assert_eq!(limiter.movements(), []);
    assert!(limiter.try_acquire(Weight::new(5), now));
    let [
        Movement::Consumed {
            cost: 5, left: 0, ..
        },
    ] = limiter.movements()[..]
    else {
        panic!("one movement");
    };
}
