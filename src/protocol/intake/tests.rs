//! The intake by examples, and against any bytes in any pieces.

use proptest::prelude::*;

use super::*;

const LIMIT: usize = 100_000;

/// A frame as a peer may write it, masked against the rules or not.
fn frame(opcode: u8, ends: bool, masked: bool, length: usize) -> Vec<u8> {
    let mut frame = vec![opcode | if ends { 0x80 } else { 0 }];
    let mask = if masked { 0x80 } else { 0 };
    match length {
        0..=125 => frame.push(mask | length as u8),
        126..=0xffff => {
            frame.push(mask | 126);
            frame.extend((length as u16).to_be_bytes());
        }
        _ => {
            frame.push(mask | 127);
            frame.extend((length as u64).to_be_bytes());
        }
    }
    let at = frame.len();
    frame.resize(at + if masked { 4 } else { 0 } + length, 0xff);
    frame
}

fn text(length: usize) -> Vec<u8> {
    frame(1, true, false, length)
}

/// What became of a stream.
#[derive(Debug, Default)]
struct Seen {
    bytes: Vec<u8>,
    handed: Vec<(usize, usize)>,
    messages: u64,
}

impl Seen {
    fn pass(&mut self, intake: &mut Intake, may: bool) {
        if let Some(part) = intake.pass(may) {
            assert!(!intake.has_passed());
            let longest = usize::try_from(intake.longest).unwrap();
            assert!(part.capacity() - part.len() >= longest);
            self.handed
                .push((self.bytes.len(), self.bytes.len() + part.len()));
            self.bytes.extend(part);
        }
        let mut room = [0; 1000];
        while intake.has_passed() {
            let count = intake.copy(&mut room);
            assert!(count > 0);
            self.bytes.extend(&room[..count]);
        }
        assert_eq!(intake.copy(&mut room), 0);
        self.messages = intake.messages();
    }
}

/// Reads the stream in pieces of these sizes, where there is room for as much.
fn read(intake: &mut Intake, stream: &[u8], cuts: &[(usize, bool)]) -> Seen {
    let mut seen = Seen::default();
    let mut rest = stream;
    for (cut, may) in cuts.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (buffer, room) = intake.room();
        assert!(room > 0 && buffer.capacity() - buffer.len() >= room);
        let (piece, more) = rest.split_at(rest.len().min(room).min(*cut));
        buffer.extend_from_slice(piece);
        intake.on_read(piece.len(), room);
        rest = more;
        seen.pass(intake, *may);
    }
    seen
}

proptest! {
    /// However the bytes are cut, all that can be used is passed on, in order, and nothing else.
    #[test]
    fn what_is_whole_is_passed_on_as_it_came(
        frames in prop::collection::vec(
            (
                prop::sample::select(vec![0_u8, 1, 2, 9, 10]),
                any::<bool>(),
                any::<bool>(),
                prop_oneof![4 => 0_usize..300, 1 => 3_000_usize..5_000, 1 => 32_700_usize..66_000],
            ),
            1..40,
        ),
        cuts in prop::collection::vec((1_usize..70_000, any::<bool>()), 1..40),
        chunk in prop_oneof![Just(1_usize), Just(64), Just(4096), Just(1 << 17)],
        left in 0_usize..20,
    ) {
        let mut stream = Vec::new();
        let mut ends_at = vec![(0, 0, true)];
        let (mut messages, mut open) = (0, false);
        for (opcode, ends, masked, length) in frames {
            stream.extend(frame(opcode, ends, masked, length));
            messages += u64::from(ends);
            if opcode & 8 == 0 {
                open = !ends;
            }
            ends_at.push((stream.len(), messages, !open));
        }
        let (known, new) = stream.split_at(left.min(stream.len()));
        let mut intake = Intake::new(known.to_vec(), chunk, LIMIT);
        let mut seen = Seen::default();
        seen.pass(&mut intake, true);
        let later = read(&mut intake, new, &cuts);
        seen.bytes.extend(&later.bytes);
        let offset = seen.bytes.len() - later.bytes.len();
        let handed = later.handed.iter().map(|(from, to)| (from + offset, to + offset));
        prop_assert_eq!(&seen.bytes, &stream);
        prop_assert_eq!(intake.messages(), messages);
        for (from, to) in handed {
            prop_assert!(ends_at.iter().any(|(at, _, whole)| *at == from && *whole), "{from}");
            prop_assert!(ends_at.iter().any(|(at, _, _)| *at == to), "{to}");
        }
    }

    /// A peer's bytes are measured and never judged, and none is lost or told twice.
    #[test]
    fn any_bytes_are_passed_on_in_order(
        stream in prop::collection::vec(any::<u8>(), 0..400),
        cuts in prop::collection::vec((1_usize..50, any::<bool>()), 1..9),
    ) {
        let mut intake = Intake::new(Vec::new(), 64, LIMIT);
        let seen = read(&mut intake, &stream, &cuts);
        prop_assert!(stream.starts_with(&seen.bytes));
        // A frame that has not come whole, of at most so many bytes, is held back.
        let held = stream.len() - seen.bytes.len();
        prop_assert!(held as u64 <= LONG + 14, "{held}");
    }
}

#[test]
fn many_frames_are_handed_over_where_they_lie() {
    let mut intake = Intake::new(Vec::new(), 1 << 16, LIMIT);
    let stream = text(200).repeat(1000);
    let seen = read(&mut intake, &stream, &[(usize::MAX, true)]);
    assert_eq!(seen.bytes, stream);
    let handed: usize = seen.handed.iter().map(|(from, to)| to - from).sum();
    assert!(handed > stream.len() * 9 / 10, "{handed}");
    assert!(seen.handed.len() < 10, "{}", seen.handed.len());
}

#[test]
fn little_is_copied() {
    let mut intake = Intake::new(Vec::new(), 1 << 16, LIMIT);
    let seen = read(&mut intake, &text(200).repeat(100), &[(612, true)]);
    assert_eq!(seen.handed, []);
}

#[test]
fn a_head_that_is_none_is_passed_on_with_all_behind_it() {
    for head in [
        vec![0x83, 0],
        vec![0x82, 127, 0, 0, 0, 0, 0, 2, 0, 0],
        vec![0x82, 127, 0xff, 0, 0, 0, 0, 0, 0, 0],
    ] {
        let mut intake = Intake::new(Vec::new(), 64, LIMIT);
        let mut stream = text(5);
        stream.extend(&head);
        stream.extend(b"x");
        let seen = read(&mut intake, &stream, &[(3, true)]);
        assert_eq!(seen.bytes, stream);
        assert_eq!(seen.messages, 1);
    }
}

#[test]
fn a_long_frame_is_passed_on_as_it_comes_and_a_short_one_whole() {
    let mut intake = Intake::new(Vec::new(), 1 << 16, LIMIT);
    let long = text(40_000);
    let seen = read(&mut intake, &long[..20_000], &[(4096, true)]);
    assert_eq!((seen.bytes.len(), seen.messages), (20_000, 0));
    let mut intake = Intake::new(Vec::new(), 1 << 16, LIMIT);
    let short = text(30_000);
    let seen = read(&mut intake, &short[..20_000], &[(4096, true)]);
    assert_eq!((seen.bytes.len(), seen.messages), (0, 0));
    // There is room for the rest at once.
    assert!(intake.room().1 >= short.len() - 20_000);
}

/// A user may ask for as little as one byte at once; a read without room would look like the end of the stream.
#[test]
fn there_is_always_room_for_a_byte() {
    for chunk in 1..10 {
        let mut intake = Intake::new(Vec::new(), chunk, LIMIT);
        assert!(intake.room().1 > 0, "{chunk}");
    }
}

#[test]
fn large_messages_are_given_half_the_room_and_one_among_small_ones_changes_nothing() {
    let most = 1 << 16;
    let mut intake = Intake::new(Vec::new(), most, LIMIT);
    read(&mut intake, &text(200).repeat(4000), &[(usize::MAX, true)]);
    assert_eq!(intake.room().1, most);
    let one_large = [text(200).repeat(100), text(5000), text(200).repeat(100)].concat();
    read(&mut intake, &one_large.repeat(10), &[(usize::MAX, true)]);
    assert_eq!(intake.room().1, most);
    read(&mut intake, &text(5000).repeat(100), &[(usize::MAX, true)]);
    assert_eq!(intake.room().1, most / 2);
    // So long that they come in parts.
    read(&mut intake, &text(200).repeat(4000), &[(usize::MAX, true)]);
    assert_eq!(intake.room().1, most);
    read(&mut intake, &text(90_000).repeat(9), &[(usize::MAX, true)]);
    assert_eq!(intake.room().1, most / 2);
}

#[test]
fn room_follows_the_traffic() {
    let most = 1 << 16;
    let mut intake = Intake::new(Vec::new(), most, LIMIT);
    assert_eq!(intake.room().1, LITTLE);
    let stream = text(200).repeat(4000);
    read(&mut intake, &stream, &[(usize::MAX, true)]);
    assert!(intake.room().1 > most / 2, "{}", intake.room().1);
    // Little comes for long.
    let little = text(200);
    let before = intake.chunk.room();
    for _ in 0..320 {
        let (buffer, room) = intake.room();
        buffer.extend_from_slice(&little);
        intake.on_read(little.len(), room);
        Seen::default().pass(&mut intake, true);
    }
    assert!(intake.chunk.room() < before);
    assert!(intake.room().0.capacity() <= 4 * LITTLE);
}
