//! The same script for the framing and for tungstenite, the reference, and what each makes of it.
//!
//! Apart because the fuzz target `framing` includes it, too.

use std::collections::VecDeque;
use std::io::{self, Read, Write};

use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message, WebSocket};

use super::{Frame, Framing};

/// Bytes in a message, at most.
pub(super) const LIMIT: usize = 300;
pub(super) const MASK: [u8; 4] = [1, 2, 3, 4];

/// What came out, in words that both can say.
#[derive(Debug, PartialEq)]
pub(super) enum Told {
    Frame(Frame),
    Refused(String),
    Written(Vec<u8>),
}

/// What a server sends, in the pieces in which it arrives, and when we close from our side.
#[derive(Debug, Clone)]
pub(super) struct Script {
    pub(super) pieces: Vec<Vec<u8>>,
    pub(super) close_after: Option<usize>,
}

fn refused(text: String) -> Told {
    // What exactly is wrong with a text is told in other words.
    match text.starts_with("UTF-8") {
        true => Told::Refused("UTF-8".to_owned()),
        false => Told::Refused(text),
    }
}

pub(super) fn ours(script: &Script) -> Vec<Told> {
    let mut framing = Framing::new(&[], 64, LIMIT);
    let mut told = Vec::new();
    for (at, piece) in script.pieces.iter().enumerate() {
        if script.close_after == Some(at) {
            framing.write(&Frame::Close(None), MASK);
        }
        let room = framing.room();
        let free = room.capacity() - room.len();
        room.extend_from_slice(piece);
        framing.on_read(piece.len(), free);
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
pub(super) struct Line {
    pub(super) inbound: VecDeque<u8>,
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

pub(super) fn reference(script: &Script) -> Vec<Told> {
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
        Message::Text(text) => Frame::text(text.as_str()),
        Message::Binary(bytes) => Frame::Binary(bytes),
        Message::Ping(bytes) => Frame::Ping(bytes),
        Message::Pong(bytes) => Frame::Pong(bytes),
        Message::Close(close) => {
            Frame::Close(close.map(|close| (close.code.into(), close.reason.as_str().to_owned())))
        }
        Message::Frame(_) => unreachable!("never read"),
    }
}
