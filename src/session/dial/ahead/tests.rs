//! Whatever comes in whatever pieces is given as it came. That what is written is written unchanged is seen by the tests of TLS.

use std::collections::VecDeque;
use std::task::Waker;

use proptest::prelude::*;

use super::*;

/// What one look at a stream brings.
#[derive(Debug, Clone)]
enum Look {
    Brings(usize),
    Waits,
    Fails,
}

/// A stream that brings 0, 1, 2 and so on in these pieces, and then ends.
struct Scripted {
    looks: VecDeque<Look>,
    next: u8,
    /// The most that was asked for at once.
    asked: usize,
}

impl Scripted {
    fn of(looks: impl IntoIterator<Item = Look>) -> Self {
        Self {
            looks: looks.into_iter().collect(),
            next: 0,
            asked: 0,
        }
    }
}

impl AsyncRead for Scripted {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.asked = this.asked.max(buf.remaining());
        match this.looks.pop_front() {
            None => Poll::Ready(Ok(())),
            Some(Look::Waits) => Poll::Pending,
            Some(Look::Fails) => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
            Some(Look::Brings(bytes)) => {
                let now = bytes.min(buf.remaining());
                for _ in 0..now {
                    buf.put_slice(&[this.next]);
                    this.next = this.next.wrapping_add(1);
                }
                if bytes > now {
                    this.looks.push_front(Look::Brings(bytes - now));
                }
                Poll::Ready(Ok(()))
            }
        }
    }
}

fn look() -> impl Strategy<Value = Look> {
    prop_oneof![
        6 => (1..9000_usize).prop_map(Look::Brings),
        3 => (1..100_usize).prop_map(Look::Brings),
        2 => Just(Look::Waits),
    ]
}

/// One read of at most so many bytes: what it brought, or how it failed.
fn read(ahead: &mut Ahead<Scripted>, most: usize) -> Poll<io::Result<Vec<u8>>> {
    let mut room = vec![0; most];
    let mut buf = ReadBuf::new(&mut room);
    let mut cx = Context::from_waker(Waker::noop());
    ready!(Pin::new(ahead).poll_read(&mut cx, &mut buf))?;
    Poll::Ready(Ok(buf.filled().to_vec()))
}

proptest! {
    #[test]
    fn what_comes_is_given_in_its_order_and_before_the_end(
        looks in prop::collection::vec(look(), 0..12),
        asks in prop::collection::vec(1..6000_usize, 1..8),
        fails: bool,
        most in 1..20_000_usize,
    ) {
        let all: usize = looks.iter().map(|look| match look {
            Look::Brings(bytes) => *bytes,
            Look::Waits | Look::Fails => 0,
        }).sum();
        let last = fails.then_some(Look::Fails);
        let mut ahead = Ahead::of(Scripted::of(looks.into_iter().chain(last)), most);
        let mut came = Vec::new();
        for ask in asks.iter().cycle() {
            match read(&mut ahead, *ask) {
                Poll::Pending => {}
                Poll::Ready(Ok(bytes)) if bytes.is_empty() => {
                    prop_assert!(!fails);
                    break;
                }
                Poll::Ready(Ok(bytes)) => {
                    prop_assert!(bytes.len() <= *ask);
                    came.extend(bytes);
                }
                Poll::Ready(Err(error)) => {
                    prop_assert!(fails);
                    prop_assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
                    break;
                }
            }
        }
        prop_assert_eq!(came.len(), all);
        prop_assert!(came.iter().enumerate().all(|(at, byte)| *byte == at as u8));
    }
}

#[test]
fn it_reads_no_further_ahead_than_it_may_and_gives_its_room_back() {
    let much = 16 * MOST;
    let mut ahead = Ahead::of(Scripted::of([Look::Brings(much)]), usize::MAX);
    let mut came = 0;
    while came < much {
        let Poll::Ready(Ok(bytes)) = read(&mut ahead, LEAST) else {
            panic!("there is more");
        };
        came += bytes.len();
    }
    assert_eq!(ahead.stream.asked, MOST);
    assert!(ahead.buffer.capacity() >= MOST);

    ahead.stream.looks = vec![Look::Brings(1); 1000].into();
    for _ in 0..1000 {
        assert!(matches!(read(&mut ahead, LEAST), Poll::Ready(Ok(bytes)) if bytes.len() == 1));
    }
    assert_eq!(ahead.buffer.capacity(), 0);
}

#[test]
fn a_quiet_stream_is_read_as_it_is_asked_for() {
    let mut ahead = Ahead::of(Scripted::of([Look::Brings(100)]), usize::MAX);
    assert!(matches!(read(&mut ahead, LEAST), Poll::Ready(Ok(bytes)) if bytes.len() == 100));
    assert_eq!(ahead.stream.asked, LEAST);
    assert_eq!(ahead.buffer.capacity(), 0);
}
