//! Conflation by example, and what it promises under random scripts.

use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::super::*;
use super::*;
use crate::protocol::continuity::Resynced;

const ONE: Epoch = Epoch::new(1);

/// A message: the letter of its key and a number. One with `-` has no key.
type Quote = (char, u64);

fn key_of(quote: &Quote) -> Option<Cow<'_, [u8]>> {
    (quote.0 != '-').then(|| Cow::from(quote.0.to_string().into_bytes()))
}

struct Rig {
    queue: ContinuityQueue<Quote>,
    now: Instant,
    epoch: Epoch,
}

impl Rig {
    fn new(capacity: usize) -> Self {
        Self {
            queue: ContinuityQueue::new(capacity, OverflowRule::Conflate, true)
                .conflating_by(key_of),
            now: Instant::now(),
            epoch: ONE,
        }
    }

    fn push(&mut self, quote: Quote) -> Pushed {
        self.now += Duration::from_secs(1);
        self.queue.push(quote, self.epoch, self.now)
    }

    /// Pushes such as `"a1 b1 a2"`; `|` is a cut, after which a new connection confirms nothing.
    fn feed(&mut self, quotes: &str) {
        for word in quotes.split(' ') {
            if word == "|" {
                self.cut();
                continue;
            }
            let (key, number) = word.split_at(1);
            let key = key.chars().next().expect("a key");
            assert_eq!(
                self.push((key, number.parse().expect("a number"))),
                Pushed::Queued
            );
        }
    }

    fn cut(&mut self) {
        self.now += Duration::from_secs(1);
        let cause = GapCause::ConnectionLost(CloseReason::Eof);
        self.queue.interrupt(cause, self.epoch, self.now);
        self.epoch = self.epoch.next();
    }

    fn drain(&mut self) -> Vec<String> {
        let mut items = Items::new();
        self.queue.pop_many(&mut items, usize::MAX);
        std::iter::from_fn(|| items.pop_front())
            .map(|item| word(&item))
            .collect()
    }
}

fn word(item: &Item<Quote>) -> String {
    match item {
        Item::Data {
            payload: (key, number),
            replaced: 0,
            ..
        } => format!("{key}{number}"),
        Item::Data {
            payload: (key, number),
            replaced,
            ..
        } => format!("{key}{number}+{replaced}"),
        Item::Gap(gap) => match gap.missed {
            Some(missed) => format!("gap {} missed {missed}", gap.cause.label()),
            None => format!("gap {}", gap.cause.label()),
        },
        Item::Resynced(Resynced { complete: true, .. }) => "whole".to_owned(),
        Item::Resynced(_) => "on".to_owned(),
        Item::Ended(_) => "end".to_owned(),
    }
}

#[test]
fn while_there_is_room_every_message_stays() {
    let mut rig = Rig::new(4);
    rig.feed("a1 a2 a3 a4");
    assert_eq!(rig.drain(), ["a1", "a2", "a3", "a4"]);
    assert_eq!(rig.queue.conflated(), 0);
}

#[test]
fn the_oldest_of_the_key_that_comes_goes_and_the_next_one_says_so() {
    let mut rig = Rig::new(3);
    rig.feed("a1 b1 a2 a3");
    assert_eq!(rig.drain(), ["b1", "a2+1", "a3"]);
    assert_eq!(rig.queue.conflated(), 1);
    assert_eq!(rig.queue.dropped(), 0);
}

#[test]
fn a_key_that_never_rests_takes_no_room_of_the_others() {
    let mut rig = Rig::new(3);
    rig.feed("b1 c1 a1 a2 a3 a4 a5 b2");
    assert_eq!(rig.drain(), ["c1", "a5+4", "b2+1"]);
}

#[test]
fn what_is_old_of_another_key_makes_room_for_a_new_one() {
    let mut rig = Rig::new(3);
    rig.feed("a1 a2 b1 c1");
    assert_eq!(rig.drain(), ["a2+1", "b1", "c1"]);
}

#[test]
fn with_more_keys_than_room_the_oldest_goes_and_is_a_gap() {
    let mut rig = Rig::new(3);
    rig.feed("a1 a2 b1 c1 d1");
    assert_eq!(
        rig.drain(),
        ["gap lagged missed 2", "on", "b1", "c1", "d1"],
        "a2, and a1 whose place it took"
    );
    assert_eq!((rig.queue.conflated(), rig.queue.dropped()), (0, 2));
}

#[test]
fn a_message_without_a_key_is_never_replaced() {
    let mut rig = Rig::new(2);
    rig.feed("-1 -2 -3");
    assert_eq!(rig.drain(), ["gap lagged missed 1", "on", "-2", "-3"]);
}

#[test]
fn a_queue_without_a_key_function_drops_the_oldest() {
    let mut queue = ContinuityQueue::new(1, OverflowRule::Conflate, false);
    let now = Instant::now();
    for number in 0..3_u64 {
        let _ = queue.push(number, ONE, now);
    }
    assert_eq!((queue.dropped(), queue.conflated()), (2, 0));
}

#[test]
fn a_newer_connections_value_replaces_one_from_before_the_gap() {
    let mut rig = Rig::new(3);
    rig.feed("a1 b1 c1 | a2 b2 c2");
    assert_eq!(rig.drain(), ["gap eof", "whole", "a2+1", "b2+1", "c2+1"]);
}

#[test]
fn gaps_between_which_nothing_is_left_are_one() {
    let mut rig = Rig::new(2);
    rig.feed("b0 a1 | a2 | a3 | a4");
    let since = rig.now - Duration::from_secs(5);
    let mut items = Items::new();
    rig.queue.pop_many(&mut items, usize::MAX);
    let story: Vec<Item<Quote>> = std::iter::from_fn(|| items.pop_front()).collect();
    let words: Vec<String> = story.iter().map(word).collect();
    assert_eq!(words, ["b0", "gap eof", "whole", "a4+3"]);
    match (&story[1], &story[2]) {
        (Item::Gap(gap), Item::Resynced(resynced)) => {
            assert_eq!(gap.since, since);
            assert_eq!(resynced.length, rig.now - since);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn once_it_is_empty_it_counts_no_more_keys() {
    let mut rig = Rig::new(2);
    rig.feed("a1 a2 a3");
    assert!(rig.queue.counts_keys());
    assert_eq!(rig.drain(), ["a2+1", "a3"]);
    assert!(!rig.queue.counts_keys());
    rig.feed("a4 a5");
    assert_eq!(rig.drain(), ["a4", "a5"]);
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Push(char, usize),
    Cut,
    Resync,
    Lose,
    Pop(usize),
    PopMany(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let key = || prop::sample::select(vec!['a', 'b', 'c', 'd', 'e']);
    prop_oneof![
        20 => (key(), 1_usize..4).prop_map(|(key, count)| Step::Push(key, count)),
        2 => Just(Step::Cut),
        2 => Just(Step::Resync),
        1 => Just(Step::Lose),
        4 => (1_usize..4).prop_map(Step::Pop),
        4 => (1_usize..6).prop_map(Step::PopMany),
    ]
}

/// What a consumer was given, held against what the queue had let in.
#[derive(Default)]
struct Consumer {
    accepted: Vec<Quote>,
    popped: Vec<Quote>,
    epoch: Epoch,
    in_gap: bool,
    replaced: u64,
    missed: u64,
}

impl Consumer {
    fn take(&mut self, item: Item<Quote>) -> Result<(), TestCaseError> {
        match item {
            Item::Data {
                payload,
                epoch,
                replaced,
                ..
            } => {
                prop_assert!(!self.in_gap, "data inside a gap");
                prop_assert!(self.epoch <= epoch, "an older epoch");
                self.epoch = epoch;
                prop_assert!(self.accepted.contains(&payload), "invented");
                let last = self.popped.last();
                prop_assert!(last.is_none_or(|last| last.1 < payload.1), "order");
                let before = self.popped.iter().rfind(|one| one.0 == payload.0);
                let before = before.map_or(0, |one| one.1);
                let hidden = self
                    .accepted
                    .iter()
                    .filter(|one| one.0 == payload.0 && before < one.1 && one.1 < payload.1);
                if self.missed == 0 {
                    prop_assert_eq!(hidden.count() as u64, replaced, "of {:?}", payload);
                }
                self.replaced += replaced;
                self.popped.push(payload);
            }
            Item::Gap(gap) => {
                prop_assert!(!self.in_gap, "a gap inside a gap");
                self.in_gap = true;
                self.missed += gap.missed.unwrap_or(0);
            }
            Item::Resynced(_) => {
                prop_assert!(self.in_gap, "no gap ended");
                self.in_gap = false;
            }
            Item::Ended(_) => {}
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    /// Nothing is invented, reordered or silently missing; where there is room for every key, and for the gaps between
    /// them, the last value of each arrives and nothing is lost at all.
    #[test]
    fn the_last_value_of_every_key_arrives_and_the_numbers_add_up(
        capacity in 1_usize..9,
        steps in prop::collection::vec(step(), 0..120),
    ) {
        let mut rig = Rig::new(capacity);
        let mut consumer = Consumer::default();
        let mut number = 0;
        let broken = |step: &&Step| matches!(step, Step::Cut | Step::Lose);
        let calm = steps.iter().filter(broken).count() <= 2;
        for step in steps {
            match step {
                Step::Push(key, count) => {
                    rig.now += Duration::from_secs(1);
                    let quotes = (0..count as u64).map(|more| (key, number + 1 + more));
                    let mut batch: VecDeque<Quote> = quotes.collect();
                    number += count as u64;
                    let before = rig.queue.last_received();
                    let quotes = batch.clone();
                    rig.queue.push_batch(&mut batch, 0, rig.epoch, rig.now);
                    if rig.queue.last_received() != before {
                        consumer.accepted.extend(quotes);
                    }
                }
                Step::Cut => rig.cut(),
                Step::Resync => {
                    rig.now += Duration::from_secs(1);
                    rig.queue.resync(rig.epoch, rig.now);
                }
                Step::Lose => {
                    let cause = GapCause::Undecodable { detail: String::new() };
                    rig.queue.interrupt(cause, rig.epoch, rig.now);
                }
                Step::Pop(count) => {
                    for item in std::iter::from_fn(|| rig.queue.pop()).take(count) {
                        consumer.take(item)?;
                    }
                }
                Step::PopMany(limit) => {
                    let mut items = Items::new();
                    rig.queue.pop_many(&mut items, limit);
                    for item in std::iter::from_fn(|| items.pop_front()) {
                        consumer.take(item)?;
                    }
                }
            }
            prop_assert!(rig.queue.data().len() <= capacity);
            prop_assert!(rig.queue.len() <= capacity + CONTROLS, "{} items", rig.queue.len());
        }
        while let Some(item) = rig.queue.pop() {
            consumer.take(item)?;
        }
        let total = consumer.popped.len() as u64 + consumer.replaced + consumer.missed;
        prop_assert_eq!(total, consumer.accepted.len() as u64, "conservation");
        prop_assert_eq!(consumer.replaced, rig.queue.conflated());
        prop_assert_eq!(consumer.missed, rig.queue.dropped());
        if capacity >= 5 && calm {
            for key in ['a', 'b', 'c', 'd', 'e'] {
                let last = |quotes: &[Quote]| quotes.iter().rfind(|one| one.0 == key).copied();
                prop_assert_eq!(last(&consumer.accepted), last(&consumer.popped));
            }
            prop_assert_eq!(consumer.missed, 0);
        }
    }
}
