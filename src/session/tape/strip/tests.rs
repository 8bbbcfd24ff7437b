//! What is noted is read as it was, and what is cut off is counted.

use std::time::Duration;

use proptest::prelude::*;

use super::*;

fn at(turn: usize) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(turn as u64)
}

fn frames() -> impl Strategy<Value = Frame> {
    let bytes = || prop::collection::vec(any::<u8>(), 0..64).prop_map(Bytes::from);
    prop_oneof![
        any::<String>().prop_map(Frame::text),
        Just(Frame::text("x".repeat(COPIED + 1))),
        bytes().prop_map(Frame::Binary),
        bytes().prop_map(Frame::Ping),
        bytes().prop_map(Frame::Pong),
        Just(Frame::Close(Some((1000, "bye".to_owned())))),
    ]
}

/// A turn: what it brought, and which way.
fn turns() -> impl Strategy<Value = Vec<Vec<(Frame, bool)>>> {
    let turn = prop::collection::vec((frames(), any::<bool>()), 0..8);
    prop::collection::vec(turn, 0..5)
}

fn direction(out: bool) -> Direction {
    if out { Direction::Out } else { Direction::In }
}

/// Each turn as a strip of its own, and all of them as entries.
fn strips(turns: Vec<Vec<(Frame, bool)>>) -> (Vec<Strip>, Vec<Entry>) {
    let mut entries = Vec::new();
    let mut strips = Vec::new();
    for (index, turn) in turns.into_iter().enumerate() {
        let mut strip = Strip::default();
        strip.at(at(index));
        for (frame, out) in turn {
            let mark = out.then_some(Mark::Restore);
            strip.push(direction(out), &frame, mark, Confidence::Open);
            entries.push(Entry::new(at(index), direction(out), frame).marked(mark));
        }
        strips.push(strip);
    }
    (strips, entries)
}

fn read(strip: &mut Strip) -> Vec<Entry> {
    let mut entries = Vec::new();
    while let Some(noted) = strip.next() {
        entries.push(noted.into_entry());
    }
    assert!(strip.is_read());
    entries
}

proptest! {
    #[test]
    fn whatever_is_noted_is_read_as_it_was(turns in turns()) {
        let (strips, entries) = strips(turns);
        let mut all = Strip::default();
        for mut strip in strips {
            all.absorb(&mut strip);
            prop_assert!(strip.is_empty());
            prop_assert_eq!(strip.weight(), 0);
        }
        prop_assert_eq!(all.len(), entries.len());
        prop_assert_eq!(read(&mut all), entries);
    }

    #[test]
    fn what_is_cut_off_is_counted_and_the_rest_is_within_the_bounds(
        turns in turns(),
        entries in 0_usize..20,
        bytes in 0_usize..6000,
        alone: bool,
    ) {
        let (strips, all) = strips(turns);
        let mut strip = Strip::default();
        for mut one in strips {
            strip.absorb(&mut one);
        }
        let lost = strip.cut(entries, bytes, alone);
        let kept = strip.len();
        prop_assert!(kept <= entries);
        prop_assert!(strip.weight() <= bytes || (alone && kept == 1), "{}", strip.weight());
        let (inbound, outbound) = lost.map_or((0, 0), |lost| (lost.inbound, lost.outbound));
        let behind = |direction| all[kept..].iter().filter(|one| one.direction == direction).count();
        prop_assert_eq!(inbound, behind(Direction::In) as u64);
        prop_assert_eq!(outbound, behind(Direction::Out) as u64);
        prop_assert_eq!(lost.map(|lost| lost.since), all.get(kept).map(|first| first.at));
        prop_assert_eq!(read(&mut strip), &all[..kept]);
    }
}

#[test]
fn a_note_is_small() {
    assert_eq!(NOTE, 8);
}
