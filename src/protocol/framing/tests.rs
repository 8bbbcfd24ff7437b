//! The framing held against tungstenite, the reference, and its own rules by example.

mod pair;

use proptest::collection::vec;
use proptest::prelude::*;
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_tungstenite::tungstenite::{Message, WebSocket};

use super::*;
use pair::{LIMIT, Line, MASK, Script, ours, reference};

/// A frame as a server might write it, often wrong in one thing.
fn frame() -> impl Strategy<Value = Vec<u8>> {
    let opcode = prop_oneof![
        6 => prop::sample::select(vec![0_u8, 1, 2]),
        4 => prop::sample::select(vec![8_u8, 9, 10]),
        1 => 0_u8..16,
    ];
    let payload = prop_oneof![
        4 => "\\PC{0,12}".prop_map(String::into_bytes),
        2 => vec(any::<u8>(), 0..6),
        2 => (900_u16..1020, "[a-z]{0,3}").prop_map(|(code, reason)| close_body(code, &reason)),
        1 => (any::<u16>(), "[a-z]{0,3}").prop_map(|(code, reason)| close_body(code, &reason)),
        1 => (120_usize..LIMIT + 4).prop_map(|length| vec![b'x'; length]),
    ];
    let fin = prop_oneof![3 => Just(true), 1 => Just(false)];
    let odd = prop_oneof![20 => Just(0_u8), 1 => Just(0x10), 1 => Just(0x40)];
    let masked = prop_oneof![20 => Just(false), 1 => Just(true)];
    (opcode, payload, fin, odd, masked).prop_map(|(opcode, payload, fin, odd, masked)| {
        let mut bytes = vec![opcode | odd | if fin { 0x80 } else { 0 }];
        let mask = if masked { 0x80 } else { 0 };
        match payload.len() {
            length @ 0..126 => bytes.push(mask | length as u8),
            length => {
                bytes.push(mask | 126);
                bytes.extend((length as u16).to_be_bytes());
            }
        }
        if masked {
            bytes.extend(MASK);
        }
        bytes.extend(payload);
        bytes
    })
}

fn close_body(code: u16, reason: &str) -> Vec<u8> {
    let mut body = code.to_be_bytes().to_vec();
    body.extend(reason.as_bytes());
    body
}

fn script() -> impl Strategy<Value = Script> {
    let bytes = prop_oneof![
        9 => vec(frame(), 0..8).prop_map(|frames| frames.concat()),
        1 => vec(any::<u8>(), 0..40),
    ];
    let close = prop_oneof![3 => Just(None), 1 => (0_usize..4).prop_map(Some)];
    (bytes, vec(1_usize..40, 1..12), close).prop_map(|(bytes, cuts, close_after)| {
        let mut rest = &bytes[..];
        let mut pieces = Vec::new();
        for cut in cuts.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (piece, more) = rest.split_at(rest.len().min(*cut));
            pieces.push(piece.to_vec());
            rest = more;
        }
        Script {
            pieces,
            close_after,
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn the_same_bytes_give_the_same_frames_answers_and_errors(script in script()) {
        prop_assert_eq!(ours(&script), reference(&script));
    }

    /// As the reference reads it, on the other side.
    #[test]
    fn what_is_written_is_read_by_the_reference(
        length in prop_oneof![0_usize..300, 65_500_usize..65_600],
        first in any::<u8>(),
        mask in any::<[u8; 4]>(),
    ) {
        let payload: Vec<u8> = (0..length).map(|at| first.wrapping_add(at as u8)).collect();
        let mut framing = Framing::new(&[], 64, LIMIT);
        let frame = Frame::Binary(payload.clone().into());
        prop_assert!(framing.write(&frame, mask));
        let mut line = Line::default();
        line.inbound.extend(framing.pending());
        let mut server = WebSocket::from_raw_socket(line, Role::Server, None);
        prop_assert_eq!(server.read().unwrap(), Message::binary(payload));
    }
}

#[test]
fn a_payload_is_cut_out_of_the_chunk_and_not_copied() {
    let mut framing = Framing::new(b"\x81\x02hi\x82\x01x", 64, LIMIT);
    let chunk = framing.inbound.as_ptr().addr();
    let Some(Frame::Text(text)) = framing.next_frame().unwrap() else {
        panic!("a text");
    };
    assert_eq!(text.as_str().as_ptr().addr(), chunk + 2);
}

#[test]
fn room_grows_with_what_reads_bring_and_suffices_for_a_large_frame() {
    let mut framing = Framing::new(&[], 64 * 1024, 1 << 20);
    assert_eq!(framing.room().capacity(), LEAST);
    for _ in 0..10 {
        framing.on_read(64 * 1024, 64 * 1024);
    }
    assert!(framing.room().capacity() >= LEAST);
    framing
        .room()
        .extend_from_slice(&[0x82, 127, 0, 0, 0, 0, 0, 8, 0, 0]);
    assert_eq!(framing.next_frame().unwrap(), None);
    let room = framing.room();
    assert!(
        room.capacity() - room.len() >= 8 * 65_536,
        "{}",
        room.capacity()
    );
}

#[test]
fn room_is_let_go_of_when_little_has_come_for_long() {
    let mut framing = Framing::new(&[], 64 * 1024, LIMIT);
    for _ in 0..10 {
        framing.on_read(64 * 1024, 64 * 1024);
    }
    framing.inbound.reserve(64 * 1024);
    for _ in 0..320 {
        let room = framing.room();
        let free = room.capacity() - room.len();
        room.extend_from_slice(b"\x81\x02hi");
        framing.on_read(4, free);
        assert!(framing.next_frame().unwrap().is_some());
    }
    assert!(framing.room().capacity() <= 4 * LEAST);
}

#[test]
fn after_an_error_nothing_is_read() {
    let mut framing = Framing::new(b"\x83\x00\x81\x00", 64, LIMIT);
    assert_eq!(framing.next_frame(), Err(FramingError::InvalidOpcode(3)));
    assert_eq!(framing.next_frame(), Ok(None));
}

#[test]
fn a_text_is_refused_wherever_it_is_wrong_and_nothing_is_read_behind_it() {
    for length in [1_usize, 7, 8, 9, 125, 126, LIMIT] {
        for wrong in 0..length {
            let mut text = vec![b'x'; length];
            text[wrong] = 0xff;
            let head = match u8::try_from(length) {
                Ok(short @ 0..126) => vec![0x81, short],
                _ => [&[0x81, 126], &(length as u16).to_be_bytes()[..]].concat(),
            };
            let bytes = [&head, &text[..], b"\x81\x02hi"].concat();
            let mut framing = Framing::new(&bytes, 64, LIMIT);
            assert_eq!(framing.next_frame(), Err(FramingError::NotUtf8));
            assert_eq!(framing.next_frame(), Ok(None));
        }
    }
}

#[test]
fn a_whole_text_is_refused_within_a_message_behind_a_close_and_beyond_the_limit() {
    let mut framing = Framing::new(b"\x01\x01a\x81\x01b", 64, LIMIT);
    let within = FramingError::ExpectedContinuation("TEXT");
    assert_eq!(framing.next_frame(), Err(within));
    let mut framing = Framing::new(b"\x88\x00\x81\x01b", 64, LIMIT);
    assert_eq!(framing.next_frame(), Ok(Some(Frame::Close(None))));
    assert_eq!(framing.next_frame(), Err(FramingError::AfterClose));
    let too_long = [b"\x81\x7e\x01\x2d", &[b'x'; LIMIT + 1][..]].concat();
    let mut framing = Framing::new(&too_long, 64, LIMIT);
    let limit = FramingError::TooLong {
        size: LIMIT as u64 + 1,
        limit: LIMIT,
    };
    assert_eq!(framing.next_frame(), Err(limit));
}
