//! The wire held against tungstenite as it comes, over the same bytes.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io::Read;
use std::pin::Pin;
use std::task::Waker;

use futures_util::poll;
use proptest::collection::vec;
use proptest::prelude::*;
use tokio::io::{AsyncWriteExt, ReadBuf};
use tokio_tungstenite::tungstenite::WebSocket;

use super::*;
use crate::session::wire::Admitted;

/// A frame of text, as a server writes it.
fn text(length: u16) -> Vec<u8> {
    frame_of(0x81, &vec![b'x'; usize::from(length)])
}

fn frame_of(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match payload.len() {
        short @ 0..126 => frame.push(short as u8),
        long => {
            frame.push(126);
            frame.extend((long as u16).to_be_bytes());
        }
    }
    frame.extend(payload);
    frame
}

/// A stream that has what it was given, and waits for more, or has ended.
#[derive(Debug, Default)]
struct Line {
    pieces: VecDeque<Vec<u8>>,
    ends: bool,
    written: usize,
    /// Takes that many bytes before it refuses once; none that it takes all.
    gulp: Option<usize>,
    /// What it still takes of that.
    thirst: usize,
}

impl Line {
    fn piece(&mut self, room: usize) -> Option<Vec<u8>> {
        let mut piece = self.pieces.pop_front()?;
        if piece.len() > room {
            self.pieces.push_front(piece.split_off(room));
        }
        Some(piece)
    }
}

impl AsyncRead for Line {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.piece(bytes.remaining()) {
            Some(piece) => bytes.put_slice(&piece),
            None if self.ends => {}
            None => return Poll::Pending,
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Line {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let Some(gulp) = self.gulp else {
            self.written += bytes.len();
            return Poll::Ready(Ok(bytes.len()));
        };
        if self.thirst == 0 {
            self.thirst = gulp;
            return Poll::Pending;
        }
        let count = bytes.len().min(self.thirst);
        self.thirst -= count;
        self.written += count;
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl Read for Line {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        match self.piece(bytes.len()) {
            Some(piece) => {
                bytes[..piece.len()].copy_from_slice(&piece);
                Ok(piece.len())
            }
            None if self.ends => Ok(0),
            None => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}

impl io::Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.written += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Takes every other message.
struct Other {
    slot: Frame,
    takes: bool,
}

impl Inbound for Other {
    type Place = ();

    fn admit(&mut self, _: &[u8]) -> Admitted<'_, ()> {
        self.takes = !self.takes;
        match self.takes {
            true => Admitted::Into(&mut self.slot),
            false => Admitted::On(()),
        }
    }
}

/// What came out: frames, then how it ended, if it did; and how many bytes were written.
type Told = (Vec<Frame>, Option<CloseReason>, usize);

/// Reads as a connection does, which holds up to `hands` frames, writes before every `writes`th of them, and flushes
/// later.
fn ours(line: Line, leftover: Vec<u8>, limit: usize, hands: usize, writes: usize) -> Told {
    let mut wire = TungsteniteWire::new(line, leftover, 1 << 16, limit);
    let mut cx = Context::from_waker(Waker::noop());
    let mut frames = Vec::new();
    let mut inbound = Other {
        slot: Frame::EMPTY,
        takes: false,
    };
    let mut held = 0;
    let mut closes = false;
    let mut end = None;
    let mut wrote = usize::MAX;
    loop {
        if !closes && frames.len() % writes == writes - 1 && wrote != frames.len() {
            wrote = frames.len();
            assert!(wire.start_send(Frame::text("hello")).is_ok());
        }
        match wire.poll_frame(&mut cx, held == 0, &mut inbound) {
            Poll::Ready(Ok(came)) => {
                let taken = || std::mem::replace(&mut inbound.slot, Frame::EMPTY);
                let frame = came.frame().unwrap_or_else(taken);
                closes |= matches!(frame, Frame::Close(_));
                frames.push(frame);
                held = (held + 1) % hands;
            }
            Poll::Ready(Err(reason)) => {
                end = Some(reason);
                break;
            }
            Poll::Pending if held > 0 => held = 0,
            Poll::Pending => break,
        }
        if held == 0 {
            let _ = wire.poll_flush(&mut cx);
        }
    }
    for _ in 0..1000 {
        if wire.poll_flush(&mut cx).is_ready() {
            break;
        }
    }
    (frames, end, wire.bridge.stream().written)
}

fn reference(line: Line, leftover: Vec<u8>, limit: usize, writes: usize) -> Told {
    let limits = WebSocketConfig::default()
        .max_message_size(Some(limit))
        .max_frame_size(Some(limit));
    let mut socket = WebSocket::from_partially_read(line, leftover, Role::Client, Some(limits));
    let mut frames = Vec::new();
    let mut closes = false;
    let mut end = None;
    loop {
        if !closes && frames.len() % writes == writes - 1 {
            socket.write(Message::text("hello")).unwrap();
        }
        match socket.read() {
            Ok(message) => {
                closes |= message.is_close();
                frames.push(frame(message).unwrap());
            }
            Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) => {
                end = Some(close_reason(error));
                break;
            }
        }
        let _ = socket.flush();
    }
    let _ = socket.flush();
    (frames, end, socket.get_ref().written)
}

fn some_frame() -> impl Strategy<Value = Vec<u8>> {
    let opcode = prop_oneof![
        12 => Just(0x81_u8),
        4 => Just(0x82_u8),
        2 => prop::sample::select(vec![0_u8, 1, 2, 0x80]),
        2 => prop::sample::select(vec![0x89_u8, 0x8a]),
        1 => prop::sample::select(vec![0x88_u8, 0x09, 0x83, 0xc1]),
    ];
    let payload = prop_oneof![
        8 => (100_usize..400).prop_map(|length| vec![b'x'; length]),
        2 => "\\PC{0,20}".prop_map(String::into_bytes),
        1 => vec(any::<u8>(), 0..6),
        2 => (4_000_usize..60_000).prop_map(|length| vec![b'y'; length]),
    ];
    let times = prop_oneof![3 => Just(1_usize), 1 => 2_usize..60];
    (opcode, payload, times).prop_map(|(opcode, payload, times)| {
        let control = opcode & 8 != 0;
        let length = payload.len().min(if control { 125 } else { usize::MAX });
        // Some end in the middle of a character.
        let frame = frame_of(opcode, &payload[..length]);
        frame.repeat(if length > 500 || control { 1 } else { times })
    })
}

/// A frame whose length is written in eight bytes, as long as it should be or not, with what has come of its payload.
fn told_at_length() -> impl Strategy<Value = Vec<u8>> {
    let told = prop_oneof![
        prop::sample::select(vec![
            0,
            1,
            125,
            126,
            65_535,
            65_536,
            1 << 20,
            1 << 63,
            u64::MAX
        ]),
        any::<u64>(),
    ];
    let first = prop::sample::select(vec![0x81_u8, 0x82, 0x02, 0x80, 0x89]);
    (first, told, any::<bool>(), 0_usize..70_000).prop_map(|(first, told, whole, came)| {
        let mut frame = vec![first, 127];
        frame.extend(told.to_be_bytes());
        let came = match usize::try_from(told) {
            Ok(told) if whole && told <= 70_000 => told,
            _ => came,
        };
        frame.resize(10 + came, b'z');
        frame
    })
}

fn some_frames() -> impl Strategy<Value = Vec<Vec<u8>>> {
    vec(
        prop_oneof![20 => some_frame(), 1 => told_at_length()],
        0..20,
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn the_same_bytes_give_the_same_frames_and_the_same_end(
        frames in some_frames(),
        cuts in vec(prop_oneof![1_usize..40, 100_usize..70_000], 1..12),
        leftover in 0_usize..500,
        ends in any::<bool>(),
        hands in prop_oneof![Just(1_usize), Just(512)],
        writes in prop_oneof![Just(usize::MAX), Just(7)],
        limit in prop_oneof![Just(50_000_usize), Just(1 << 20)],
        gulp in prop_oneof![2 => Just(None), 1 => (1_usize..30).prop_map(Some)],
    ) {
        let stream = frames.concat();
        let (leftover, mut rest) = stream.split_at(leftover.min(stream.len()));
        let mut pieces = VecDeque::new();
        for cut in cuts.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (piece, more) = rest.split_at(rest.len().min(*cut));
            pieces.push_back(piece.to_vec());
            rest = more;
        }
        let line = |gulp| Line { pieces: pieces.clone(), ends, gulp, ..Line::default() };
        let theirs = reference(line(None), leftover.to_vec(), limit, writes);
        let ours = ours(line(gulp), leftover.to_vec(), limit, hands, writes);
        prop_assert_eq!(&ours.0, &theirs.0);
        let told = |end: &Option<CloseReason>| end.as_ref().map(ToString::to_string);
        prop_assert_eq!(told(&ours.1), told(&theirs.1));
        // A ping that another has overtaken needs no pong (RFC 6455, section 5.5.3).
        let pings = ours.0.iter().any(|frame| matches!(frame, Frame::Ping(_)));
        prop_assert!(pings || ours.2 == theirs.2, "{} {}", ours.2, theirs.2);
    }
}

#[test]
fn a_close_and_a_ping_are_answered_by_whoever_only_reads() {
    for first in [0x88, 0x89] {
        let mut line = Line::default();
        line.pieces.push_back(frame_of(first, &[]));
        let mut wire = TungsteniteWire::new(line, Vec::new(), 1 << 16, 1 << 20);
        let mut cx = Context::from_waker(Waker::noop());
        assert!(wire.poll_frame(&mut cx, true, &mut ()).is_ready());
        assert!(wire.poll_frame(&mut cx, true, &mut ()).is_pending());
        assert_eq!(wire.bridge.stream().written, 6, "{first:#x}");
    }
}

/// Whoever holds messages gets what has come, and is told when there is no more.
#[tokio::test]
async fn with_full_hands_nothing_is_read() {
    let (ours, mut theirs) = tokio::io::duplex(1 << 20);
    let mut wire = TungsteniteWire::new(ours, Vec::new(), 1 << 16, 1 << 20);
    let sent = 1000;
    for _ in 0..sent {
        theirs.write_all(&text(1000)).await.unwrap();
    }
    let (mut got, mut stops, mut longest) = (0, 0, 0);
    let mut held = Vec::new();
    while got < sent {
        let reads = held.is_empty();
        let read = wire.bytes_read();
        match poll!(poll_fn(|cx| wire.poll_frame(cx, reads, &mut ()))) {
            Poll::Ready(came) => {
                let frame = came.unwrap().frame().unwrap();
                assert_eq!(frame.payload().len(), 1000);
                assert!(reads || wire.bytes_read() == read);
                held.push(frame);
                got += 1;
            }
            Poll::Pending => {
                assert!(!reads, "everything has been sent");
                stops += 1;
                longest = longest.max(held.len());
                held.clear();
            }
        }
    }
    // Reads have grown with the traffic.
    assert!(stops > 0 && longest >= 60, "{stops} stops, {longest}");
}

#[test]
fn a_part_of_a_text_is_sent_as_text_too() {
    let whole = bytes::Bytes::from_static(b"[\"tick\"]");
    let part = Utf8Bytes::part(&whole, std::str::from_utf8(&whole[1..7]).unwrap());
    for frame in [Frame::text("\"tick\""), Frame::Text(part)] {
        let mut line = io::Cursor::new(Vec::new());
        let mut client = WebSocketContext::new(Role::Client, None);
        client.write(&mut line, message(frame)).unwrap();
        client.flush(&mut line).unwrap();
        line.set_position(0);
        let read = WebSocketContext::new(Role::Server, None).read(&mut line);
        assert_eq!(read.unwrap(), Message::text("\"tick\""));
    }
}

/// What was read stays in the hands of whoever holds a message of it, and in no other.
#[test]
fn what_was_handed_over_is_let_go_of_before_the_next_read() {
    let much = text(200).repeat(1000);
    let mut wire = TungsteniteWire::new(Line::default(), much, 1 << 18, 1 << 20);
    let mut cx = Context::from_waker(Waker::noop());
    let mut held = None;
    while let Poll::Ready(came) = wire.poll_frame(&mut cx, true, &mut ()) {
        held = came.unwrap().frame();
    }
    let Some(Frame::Text(held)) = held else {
        panic!("no text came");
    };
    let held: bytes::Bytes = held.into_typed().unwrap().into();
    assert!(held.is_unique());
}
