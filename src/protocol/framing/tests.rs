//! The framing held against tungstenite, the reference, and its own rules by example.

use std::collections::VecDeque;
use std::io::{self, Read, Write};

use proptest::collection::vec;
use proptest::prelude::*;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message, WebSocket};

use super::*;

const LIMIT: usize = 300;
const MASK: [u8; 4] = [1, 2, 3, 4];

/// What came out, in words that both can say.
#[derive(Debug, PartialEq)]
enum Told {
    Frame(Frame),
    Refused(String),
    Written(Vec<u8>),
}

/// What a server sends, in the pieces in which it arrives, and when we close from our side.
#[derive(Debug, Clone)]
struct Script {
    pieces: Vec<Vec<u8>>,
    close_after: Option<usize>,
}

fn refused(text: String) -> Told {
    // What exactly is wrong with a text is told in other words.
    match text.starts_with("UTF-8") {
        true => Told::Refused("UTF-8".to_owned()),
        false => Told::Refused(text),
    }
}

fn ours(script: &Script) -> Vec<Told> {
    let mut framing = Framing::new(&[], 64, LIMIT);
    let mut told = Vec::new();
    for (at, piece) in script.pieces.iter().enumerate() {
        if script.close_after == Some(at) {
            framing.write(&Frame::Close(None), MASK);
        }
        framing.room().extend_from_slice(piece);
        framing.on_read(piece.len());
        loop {
            framing.write_reply(MASK);
            match framing.next_frame() {
                Ok(Some(frame)) => told.push(Told::Frame(frame)),
                Ok(None) => break,
                Err(error) => {
                    told.push(refused(error.to_string()));
                    return told;
                }
            }
        }
        take_written(&mut framing, &mut told);
    }
    told
}

fn take_written(framing: &mut Framing, told: &mut Vec<Told>) {
    let bytes = framing.pending().to_vec();
    framing.on_written(bytes.len());
    if !bytes.is_empty() {
        told.push(Told::Written(unmasked(&bytes)));
    }
}

/// Masks are chosen at random: without them both write the same.
fn unmasked(mut bytes: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    while let [first, second, rest @ ..] = bytes {
        let (length, rest) = match second & 0x7f {
            126 => (
                usize::from(u16::from_be_bytes([rest[0], rest[1]])),
                &rest[2..],
            ),
            short => (usize::from(short), rest),
        };
        let (mask, rest) = rest.split_at(4);
        let (payload, rest) = rest.split_at(length);
        plain.extend([*first, *second]);
        plain.extend(
            payload
                .iter()
                .zip(mask.iter().cycle())
                .map(|(byte, mask)| byte ^ mask),
        );
        bytes = rest;
    }
    plain
}

/// A stream that has what it was given, and would block for more.
#[derive(Debug, Default)]
struct Line {
    inbound: VecDeque<u8>,
    written: Vec<u8>,
}

impl Read for Line {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        match self.inbound.read(bytes)? {
            0 => Err(io::ErrorKind::WouldBlock.into()),
            count => Ok(count),
        }
    }
}

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.written.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn reference(script: &Script) -> Vec<Told> {
    let limits = WebSocketConfig::default()
        .max_message_size(Some(LIMIT))
        .max_frame_size(Some(LIMIT));
    let mut socket = WebSocket::from_raw_socket(Line::default(), Role::Client, Some(limits));
    let mut told = Vec::new();
    for (at, piece) in script.pieces.iter().enumerate() {
        if script.close_after == Some(at) {
            let _ = socket.close(None);
        }
        socket.get_mut().inbound.extend(piece);
        loop {
            match socket.read() {
                Ok(message) => told.push(Told::Frame(frame_of(message))),
                Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(Error::Capacity(error)) => {
                    told.push(refused(error.to_string()));
                    return told;
                }
                Err(Error::Protocol(error)) => {
                    told.push(refused(error.to_string()));
                    return told;
                }
                Err(error) => {
                    told.push(refused(error.to_string()));
                    return told;
                }
            }
        }
        let written = std::mem::take(&mut socket.get_mut().written);
        if !written.is_empty() {
            told.push(Told::Written(unmasked(&written)));
        }
    }
    told
}

fn frame_of(message: Message) -> Frame {
    match message {
        Message::Text(text) => Frame::Text(text),
        Message::Binary(bytes) => Frame::Binary(bytes),
        Message::Ping(bytes) => Frame::Ping(bytes),
        Message::Pong(bytes) => Frame::Pong(bytes),
        Message::Close(close) => {
            Frame::Close(close.map(|close| (close.code.into(), close.reason.as_str().to_owned())))
        }
        Message::Frame(_) => unreachable!("never read"),
    }
}

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
    assert_eq!(framing.room().capacity(), MIN_ROOM);
    for _ in 0..10 {
        framing.on_read(64 * 1024);
    }
    assert!(framing.room().capacity() >= MIN_ROOM);
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
fn after_an_error_nothing_is_read() {
    let mut framing = Framing::new(b"\x83\x00\x81\x00", 64, LIMIT);
    assert_eq!(framing.next_frame(), Err(FramingError::InvalidOpcode(3)));
    assert_eq!(framing.next_frame(), Ok(None));
}
