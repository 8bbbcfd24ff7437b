//! The queue by example, and the continuity promise under random scripts.

use std::time::Duration;

use proptest::prelude::*;

use super::*;

const ONE: Epoch = Epoch::new(1);
const TWO: Epoch = Epoch::new(2);
const THREE: Epoch = Epoch::new(3);

/// A queue of numbers with a clock that goes on by a second with each step.
struct Rig {
    queue: ContinuityQueue<u64>,
    now: Instant,
}

impl Rig {
    fn new(capacity: usize, overflow: OverflowRule) -> Self {
        let queue = ContinuityQueue::new(capacity, overflow, true);
        Self {
            queue,
            now: Instant::now(),
        }
    }

    fn tick(&mut self) -> Instant {
        self.now += Duration::from_secs(1);
        self.now
    }

    fn push(&mut self, payload: u64, epoch: Epoch) -> Pushed {
        let now = self.tick();
        self.queue.push(payload, epoch, now)
    }

    fn fill(&mut self, payloads: std::ops::Range<u64>, epoch: Epoch) {
        for payload in payloads {
            let _ = self.push(payload, epoch);
        }
    }

    fn cut(&mut self, epoch: Epoch) -> bool {
        let now = self.tick();
        self.queue
            .interrupt(GapCause::ConnectionLost(CloseReason::Eof), epoch, now)
    }

    fn break_sequence(&mut self, epoch: Epoch) -> bool {
        let now = self.tick();
        self.queue.interrupt(
            GapCause::SequenceBreak {
                expected: 1,
                found: 2,
            },
            epoch,
            now,
        )
    }

    fn resync(&mut self, epoch: Epoch) -> bool {
        let now = self.tick();
        self.queue.resync(epoch, now)
    }

    /// Everything that is queued, in short words.
    fn drain(&mut self) -> Vec<String> {
        let mut items = Items::new();
        self.queue.pop_many(&mut items, usize::MAX);
        std::iter::from_fn(|| items.pop_front())
            .map(|item| word(&item))
            .collect()
    }
}

fn word(item: &Item<u64>) -> String {
    match item {
        Item::Data { payload, epoch, .. } => format!("{payload}@{epoch}"),
        Item::Gap(gap) => match gap.missed {
            Some(missed) => format!("gap {}@{} missed {missed}", gap.cause.label(), gap.epoch),
            None => format!("gap {}@{}", gap.cause.label(), gap.epoch),
        },
        Item::Resynced(Resynced {
            epoch,
            complete: true,
            ..
        }) => format!("whole@{epoch}"),
        Item::Resynced(Resynced { epoch, .. }) => format!("on@{epoch}"),
        Item::Ended(reason) => format!("end: {reason}"),
    }
}

#[test]
fn a_fresh_subscription_announces_no_gap() {
    let mut rig = Rig::new(4, OverflowRule::DropOldest);
    assert!(!rig.cut(ONE));
    assert_eq!(rig.push(0, ONE), Pushed::OldEpoch);
    assert!(!rig.resync(TWO));
    let _ = rig.push(1, TWO);
    assert_eq!(rig.drain(), ["1@2"]);
}

#[test]
fn a_gap_is_announced_without_data_and_once() {
    let mut rig = Rig::new(4, OverflowRule::DropOldest);
    assert!(!rig.resync(ONE));
    assert!(rig.cut(ONE));
    assert!(!rig.cut(ONE));
    assert_eq!(rig.drain(), ["gap eof@1"]);
    assert!(
        !rig.resync(ONE),
        "the confirmation of a connection that is over"
    );
    assert!(rig.resync(TWO));
    assert!(!rig.resync(TWO));
    assert_eq!(rig.drain(), ["whole@2"]);
}

#[test]
fn data_that_overtakes_the_confirmation_ends_the_gap() {
    let mut rig = Rig::new(4, OverflowRule::DropOldest);
    rig.fill(0..1, ONE);
    rig.cut(ONE);
    assert_eq!(rig.push(1, ONE), Pushed::OldEpoch);
    assert_eq!(rig.push(2, TWO), Pushed::Queued);
    assert_eq!(rig.push(3, ONE), Pushed::OldEpoch);
    assert!(!rig.resync(TWO));
    assert_eq!(rig.drain(), ["0@1", "gap eof@1", "whole@2", "2@2"]);
}

#[test]
fn a_newer_connection_tells_of_the_gap_that_nobody_announced() {
    let mut rig = Rig::new(8, OverflowRule::DropOldest);
    rig.fill(0..1, ONE);
    rig.fill(1..2, TWO);
    rig.resync(THREE);
    assert!(!rig.cut(TWO), "late news of a connection long replaced");
    assert_eq!(
        rig.drain(),
        [
            "0@1",
            "gap local@1",
            "whole@2",
            "1@2",
            "gap local@2",
            "whole@3"
        ]
    );
}

#[test]
fn after_a_broken_sequence_only_a_confirmation_goes_on() {
    let mut rig = Rig::new(8, OverflowRule::DropOldest);
    rig.fill(0..1, ONE);
    assert!(rig.break_sequence(ONE));
    assert_eq!(rig.push(1, ONE), Pushed::OldEpoch);
    assert!(rig.resync(ONE));
    let _ = rig.push(2, ONE);
    assert_eq!(
        rig.drain(),
        ["0@1", "gap sequence_break@1", "whole@1", "2@1"]
    );
}

#[test]
fn an_undecodable_message_heals_with_the_next() {
    let mut rig = Rig::new(8, OverflowRule::DropOldest);
    rig.fill(0..1, ONE);
    let cause = GapCause::Undecodable {
        detail: String::new(),
    };
    let now = rig.tick();
    assert!(rig.queue.interrupt(cause, ONE, now));
    let _ = rig.push(1, ONE);
    assert_eq!(rig.drain(), ["0@1", "gap undecodable@1", "on@1", "1@1"]);
}

#[test]
fn dropping_the_oldest_is_one_gap_at_the_head() {
    let mut rig = Rig::new(3, OverflowRule::DropOldest);
    rig.fill(0..10, ONE);
    assert_eq!(rig.queue.dropped(), 7);
    let since = rig.now - Duration::from_secs(9);
    match (rig.queue.pop(), rig.queue.pop()) {
        (Some(Item::Gap(gap)), Some(Item::Resynced(resynced))) => {
            assert_eq!((gap.since, gap.missed), (since, Some(7)));
            assert_eq!(
                (resynced.complete, resynced.length),
                (false, Duration::from_secs(7))
            );
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(rig.drain(), ["7@1", "8@1", "9@1"]);
}

#[test]
fn dropping_up_to_a_gap_joins_it() {
    let mut rig = Rig::new(2, OverflowRule::DropOldest);
    rig.fill(0..2, ONE);
    rig.cut(ONE);
    rig.fill(2..4, TWO);
    assert_eq!(
        rig.drain(),
        ["gap lagged@1 missed 2", "whole@2", "2@2", "3@2"]
    );
    // What follows the confirmation is dropped too: it is no longer whole.
    rig.cut(TWO);
    rig.fill(4..7, THREE);
    assert_eq!(rig.drain(), ["gap lagged@2 missed 1", "on@3", "5@3", "6@3"]);
}

#[test]
fn a_consumer_that_knows_of_a_gap_hears_of_its_end_before_the_next() {
    let mut rig = Rig::new(1, OverflowRule::DropOldest);
    rig.fill(0..1, ONE);
    rig.cut(ONE);
    assert_eq!(rig.drain(), ["0@1", "gap eof@1"]);
    rig.fill(1..4, TWO);
    assert_eq!(
        rig.drain(),
        ["whole@2", "gap lagged@2 missed 2", "on@2", "3@2"]
    );
}

#[test]
fn dropping_the_newest_is_one_gap_at_the_tail() {
    let mut rig = Rig::new(2, OverflowRule::DropNewest);
    rig.fill(0..5, ONE);
    assert!(
        !rig.resync(ONE),
        "a late confirmation does not heal what was dropped"
    );
    assert_eq!(rig.drain(), ["0@1", "1@1", "gap lagged@1 missed 3"]);
    rig.fill(5..6, ONE);
    assert_eq!(rig.drain(), ["on@1", "5@1"]);
}

#[test]
fn a_dropped_snapshot_leaves_the_state_incomplete() {
    let mut rig = Rig::new(2, OverflowRule::DropNewest);
    rig.fill(0..2, ONE);
    rig.cut(ONE);
    rig.resync(TWO);
    assert_eq!(rig.push(2, TWO), Pushed::Dropped);
    assert_eq!(rig.drain(), ["0@1", "1@1", "gap eof@1 missed 1"]);
    rig.fill(3..4, TWO);
    assert_eq!(rig.drain(), ["on@2", "3@2"]);
}

#[test]
fn disconnecting_ends_with_the_loss() {
    let mut rig = Rig::new(2, OverflowRule::Disconnect);
    rig.fill(0..3, ONE);
    assert_eq!(rig.push(3, ONE), Pushed::Closed);
    assert!(rig.queue.is_ended());
    let words = rig.drain();
    assert_eq!(
        words,
        [
            "0@1",
            "1@1",
            "gap lagged@1 missed 1",
            "end: consumer too slow for its queue; read faster, give it more capacity or another overflow rule"
        ]
    );
    assert!(rig.queue.pop().is_none());
}

#[test]
fn a_flapping_link_takes_no_room() {
    let mut rig = Rig::new(4, OverflowRule::DropOldest);
    rig.fill(0..1, ONE);
    let first = rig.now + Duration::from_secs(1);
    let mut epoch = ONE;
    for _ in 0..1000 {
        assert!(rig.cut(epoch));
        epoch = epoch.next();
        assert!(rig.resync(epoch));
    }
    assert_eq!(rig.queue.len(), 3);
    let end = rig.now;
    assert!(matches!(rig.queue.pop(), Some(Item::Data { .. })));
    assert!(matches!(rig.queue.pop(), Some(Item::Gap(gap)) if gap.since == first));
    match rig.queue.pop() {
        Some(Item::Resynced(resynced)) => assert_eq!(resynced.length, end - first),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_first_end_counts_and_is_told_once() {
    let mut rig = Rig::new(4, OverflowRule::DropOldest);
    rig.fill(0..1, ONE);
    rig.queue.end(EndReason::Shutdown);
    rig.queue.end(EndReason::Lagged);
    assert_eq!(
        rig.drain(),
        ["0@1", "end: session was shut down on purpose"]
    );
    assert_eq!(rig.drain(), [""; 0]);
    assert!(!rig.cut(ONE));
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Push,
    PushStale,
    Open,
    Cut,
    BreakSequence,
    Undecodable,
    Resync,
    Pop(usize),
    End,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        30 => Just(Step::Push),
        2 => Just(Step::PushStale),
        4 => Just(Step::Open),
        4 => Just(Step::Cut),
        2 => Just(Step::BreakSequence),
        1 => Just(Step::Undecodable),
        5 => Just(Step::Resync),
        12 => (1_usize..5).prop_map(Step::Pop),
        1 => Just(Step::End),
    ]
}

fn overflow() -> impl Strategy<Value = OverflowRule> {
    prop_oneof![
        3 => Just(OverflowRule::DropOldest),
        3 => Just(OverflowRule::DropNewest),
        1 => Just(OverflowRule::Conflate),
        1 => Just(OverflowRule::Disconnect),
    ]
}

/// What a consumer has been told, checked item by item.
#[derive(Default)]
struct Consumer {
    gap: Option<Gap>,
    /// The last message, and whether a gap was told since.
    last: Option<(u64, Epoch)>,
    told: bool,
    popped: u64,
    missed: u64,
    ended: bool,
}

impl Consumer {
    /// `offered` are the messages that came in, taken or not.
    fn take(&mut self, item: Item<u64>, offered: &[u64]) -> Result<(), TestCaseError> {
        prop_assert!(!self.ended, "after the end");
        match item {
            Item::Data { payload, epoch, .. } => {
                prop_assert!(self.gap.is_none(), "data inside a gap");
                if let Some((last, last_epoch)) = self.last {
                    prop_assert!(last < payload && last_epoch <= epoch, "order");
                    let hole = offered.iter().any(|one| last < *one && *one < payload);
                    prop_assert!(!hole || self.told, "silent loss before {}", payload);
                    prop_assert!(last_epoch == epoch || self.told, "silent change of epoch");
                }
                self.last = Some((payload, epoch));
                self.told = false;
                self.popped += 1;
            }
            Item::Gap(gap) => {
                prop_assert!(self.gap.is_none(), "a gap inside a gap");
                self.missed += gap.missed.unwrap_or(0);
                self.told = true;
                self.gap = Some(gap);
            }
            Item::Resynced(resynced) => {
                let gap = self.gap.take();
                prop_assert!(
                    gap.is_some_and(|gap| gap.epoch <= resynced.epoch),
                    "no gap ended"
                );
            }
            Item::Ended(_) => self.ended = true,
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn the_continuity_promise_holds(
        capacity in 1_usize..8,
        overflow in overflow(),
        steps in prop::collection::vec(step(), 0..150),
    ) {
        let mut rig = Rig::new(capacity, overflow);
        let mut consumer = Consumer::default();
        let (mut epoch, mut next, mut accepted, mut interrupted) = (ONE, 0, 0, false);
        let mut offered = Vec::new();
        for step in steps {
            match step {
                Step::Push => {
                    next += 1;
                    offered.push(next);
                    match rig.push(next, epoch) {
                        Pushed::Queued => (accepted, interrupted) = (accepted + 1, false),
                        Pushed::Dropped => (accepted, interrupted) = (accepted + 1, true),
                        Pushed::OldEpoch => {}
                        Pushed::Closed => prop_assert!(rig.queue.is_ended()),
                    }
                }
                Step::PushStale => {
                    let newest = rig.queue.epoch;
                    if newest > ONE {
                        let pushed = rig.push(u64::MAX, Epoch::new(newest.as_u64() - 1));
                        prop_assert!(matches!(pushed, Pushed::OldEpoch | Pushed::Closed));
                    }
                }
                Step::Open => epoch = epoch.next(),
                Step::Cut => interrupted |= rig.cut(epoch),
                Step::BreakSequence => interrupted |= rig.break_sequence(epoch),
                Step::Undecodable => {
                    let cause = GapCause::Undecodable { detail: String::new() };
                    let now = rig.tick();
                    interrupted |= rig.queue.interrupt(cause, epoch, now);
                }
                Step::Resync => interrupted &= !rig.resync(epoch),
                Step::Pop(count) => {
                    for item in std::iter::from_fn(|| rig.queue.pop()).take(count) {
                        consumer.take(item, &offered)?;
                    }
                }
                Step::End => rig.queue.end(EndReason::Shutdown),
            }
            prop_assert!(rig.queue.len() <= capacity + CONTROLS, "{} items", rig.queue.len());
        }
        let ended = rig.queue.is_ended();
        while let Some(item) = rig.queue.pop() {
            consumer.take(item, &offered)?;
        }
        prop_assert_eq!(consumer.ended, ended);
        prop_assert_eq!(consumer.popped + consumer.missed, accepted, "conservation");
        prop_assert_eq!(consumer.missed, rig.queue.dropped());
        prop_assert_eq!(consumer.gap.is_some(), interrupted, "what it knows at last");
        prop_assert!(rig.queue.is_empty());
    }
}

proptest! {
    /// Whatever comes and goes: its bytes are those of its data, and at most one message more than its bound.
    #[test]
    fn bytes_are_bounded_and_counted(
        max_bytes in 1_usize..200,
        overflow in overflow(),
        script in prop::collection::vec((0_u8..6, 0_u64..60, 1_usize..10), 0..80),
    ) {
        let now = Instant::now();
        let weigh = |size: &u64| usize::try_from(*size).expect("small");
        let mut queue = ContinuityQueue::new(1000, overflow, true).within_bytes(max_bytes, weigh);
        let mut taken = Items::new();
        let mut epoch = ONE;
        let (mut pushed, mut popped) = (0, 0);
        for (event, size, count) in script {
            match event {
                0 | 1 => {
                    let mut batch: VecDeque<u64> = std::iter::repeat_n(size, count).collect();
                    pushed += if queue.is_ended() { 0 } else { count };
                    queue.push_batch(&mut batch, weigh(&size) * count, epoch, now);
                    if overflow == OverflowRule::Disconnect && queue.is_ended() {
                        break;
                    }
                }
                2 => {
                    queue.interrupt(GapCause::ConnectionLost(CloseReason::Eof), epoch, now);
                    epoch = epoch.next();
                }
                3 => popped += usize::from(matches!(queue.pop(), Some(Item::Data { .. }))),
                _ => {
                    let before = taken.data().len();
                    queue.pop_many(&mut taken, count);
                    popped += taken.data().len() - before;
                }
            }
            let bytes: usize = queue.data().map(weigh).sum();
            prop_assert_eq!(queue.bytes(), bytes);
            prop_assert!(bytes < max_bytes + 60, "{} of {}", bytes, max_bytes);
            if overflow != OverflowRule::Disconnect {
                let lost = usize::try_from(queue.dropped()).expect("few");
                prop_assert_eq!(popped + lost + queue.data().len(), pushed, "conservation");
            }
        }
    }
}

proptest! {
    /// A batch is nothing but its messages one after the other, whatever came before; and so are many that are taken at once.
    #[test]
    fn a_batch_is_its_messages_one_by_one(
        capacity in 1_usize..12,
        max_bytes in prop_oneof![1_usize..60, Just(usize::MAX)],
        overflow in overflow(),
        script in prop::collection::vec((0_u8..5, 0_usize..10), 0..60),
    ) {
        let weigh = |number: &u64| usize::try_from(1 + number % 8).expect("small");
        let new = || ContinuityQueue::new(capacity, overflow, true).within_bytes(max_bytes, weigh);
        let (mut batched, mut single) = (new(), new());
        let mut now = Instant::now();
        let mut epoch = ONE;
        let mut number = 0_u64;
        for (event, count) in script {
            match event {
                0 | 1 => {
                    // Read at one instant with the one before it, or later.
                    now += Duration::from_secs(u64::from(event));
                    let batch: Vec<u64> = (number..number + count as u64).collect();
                    number += count as u64;
                    for payload in &batch {
                        let _ = single.push(*payload, epoch, now);
                    }
                    let bytes = batch.iter().map(weigh).sum();
                    batched.push_batch(&mut batch.into_iter().collect(), bytes, epoch, now);
                }
                2 => {
                    let lost = || GapCause::ConnectionLost(CloseReason::Eof);
                    prop_assert_eq!(
                        batched.interrupt(lost(), epoch, now),
                        single.interrupt(lost(), epoch, now)
                    );
                    epoch = epoch.next();
                }
                3 => prop_assert_eq!(batched.resync(epoch, now), single.resync(epoch, now)),
                _ => {
                    let mut taken = Items::new();
                    batched.pop_many(&mut taken, count);
                    for _ in 0..count {
                        let (one, other) = (taken.pop_front(), single.pop());
                        prop_assert_eq!(format!("{one:?}"), format!("{other:?}"));
                    }
                }
            }
            prop_assert_eq!(batched.len(), single.len());
            prop_assert_eq!(batched.dropped(), single.dropped());
            prop_assert_eq!(batched.bytes(), single.bytes());
        }
        while !single.is_empty() {
            let (one, other) = (batched.pop(), single.pop());
            prop_assert_eq!(format!("{one:?}"), format!("{other:?}"));
        }
        prop_assert!(batched.is_empty());
    }
}
