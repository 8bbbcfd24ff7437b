//! What a consumer that is behind holds on to, and when one is woken.

use std::sync::atomic::AtomicUsize;
use std::task::Wake;
use std::time::Duration;

use bytes::Bytes;

use super::*;

const READ: usize = 512 * 1024;

/// Delivers what one large read brings: the last `own` bytes to this queue, the rest to others. What was read, as it is
/// without the others'.
fn deliver(subscriber: &Subscriber, own: usize, reads: &mut u64) -> Bytes {
    *reads += 1;
    let read = Bytes::from(vec![b'x'; READ]);
    let mut frames = VecDeque::from([Frame::Binary(read.slice(READ - own..))]);
    let total = *reads * READ as u64;
    subscriber.deliver(&mut frames, own, Epoch::new(1), Instant::now(), total);
    read
}

fn subscriber(overflow: Overflow) -> Arc<Subscriber> {
    let rule = Queue::new(1000, overflow);
    Subscriber::new(None, ChannelKind::default(), rule)
}

fn take(subscriber: &Subscriber) -> Items<Frame> {
    let mut items = Items::new();
    let mut cx = Context::from_waker(Waker::noop());
    assert!(subscriber.poll_items(&mut items, BATCH, &mut cx).is_ready());
    items
}

#[test]
fn a_consumer_that_stays_behind_does_not_hold_on_to_what_others_got() {
    for overflow in [Overflow::DropOldest, Overflow::DropNewest] {
        let (subscriber, mut reads) = (subscriber(overflow), 0);
        let all: Vec<Bytes> = (0..100)
            .map(|_| deliver(&subscriber, 100, &mut reads))
            .collect();
        let held = all.iter().filter(|read| !read.is_unique()).count() * READ;
        assert!((1 << 20..=3 << 19).contains(&held), "{held}");
        let items = take(&subscriber);
        assert_eq!(items.len(), 100);
        let whole = |frame: &Frame| frame.payload() == [b'x'; 100];
        assert!(items.data().all(whole));
        // It has caught up.
        assert!(!deliver(&subscriber, 100, &mut reads).is_unique());
    }
}

#[test]
fn one_message_that_nobody_reads_does_not_hold_on_to_what_it_was_read_with() {
    let (subscriber, mut reads) = (subscriber(Overflow::DropOldest), 0);
    let read = deliver(&subscriber, 100, &mut reads);
    let total = |reads| reads * READ as u64;
    subscriber.let_go(total(2));
    assert!(!read.is_unique(), "not much has been read since");
    subscriber.let_go(total(20));
    assert!(read.is_unique());
    // What comes behind it is copied at once.
    reads = 20;
    assert!(deliver(&subscriber, 100, &mut reads).is_unique());
    let items = take(&subscriber);
    assert_eq!(items.len(), 2);
    assert!(items.data().all(|frame| frame.payload() == [b'x'; 100]));
    // Who gets most of what is read holds no more than his own.
    assert!(!deliver(&subscriber, READ / 2, &mut reads).is_unique());
    for _ in 0..10 {
        deliver(&subscriber, READ / 2, &mut reads);
    }
    let last = deliver(&subscriber, READ / 2, &mut reads);
    subscriber.let_go(total(reads));
    assert!(!last.is_unique());
}

#[test]
fn nothing_is_copied_for_who_gets_most_of_what_is_read_or_takes_each_batch() {
    let (most, mut reads) = (subscriber(Overflow::DropOldest), 0);
    for _ in 0..50 {
        assert!(!deliver(&most, READ / 2, &mut reads).is_unique());
    }
    let (quick, mut reads) = (subscriber(Overflow::DropOldest), 0);
    for _ in 0..50 {
        assert!(!deliver(&quick, 100, &mut reads).is_unique());
        assert_eq!(take(&quick).len(), 1);
    }
}

#[test]
fn nothing_is_copied_that_is_not_taken() {
    let rule = Queue::new(10, Overflow::DropNewest);
    let subscriber = Subscriber::new(None, ChannelKind::default(), rule);
    let mut reads = 0;
    for _ in 0..50 {
        deliver(&subscriber, 100, &mut reads);
    }
    assert_eq!(subscriber.look().lost, 40);
    assert_eq!(take(&subscriber).data().count(), 10);
}

/// Counts how often it was woken.
#[derive(Default)]
struct Bell(AtomicUsize);

impl Bell {
    fn rings(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

fn deliver_messages(subscriber: &Subscriber, count: usize) {
    let mut frames: VecDeque<Frame> = std::iter::repeat_n(Frame::text("tick"), count).collect();
    let (bytes, now) = (4 * count, Instant::now());
    subscriber.deliver(&mut frames, bytes, Epoch::new(1), now, 0);
}

/// How many items a poll with this waker has brought; `None` if it is to be woken.
fn polled(subscriber: &Subscriber, bell: &Arc<Bell>) -> Option<usize> {
    let waker = Waker::from(Arc::clone(bell));
    let mut items = Items::new();
    let polled = subscriber.poll_items(&mut items, BATCH, &mut Context::from_waker(&waker));
    polled.is_ready().then(|| items.len())
}

#[test]
fn who_is_given_all_there_is_is_woken_by_what_comes_next() {
    let (subscriber, bell) = (subscriber(Overflow::DropOldest), Arc::new(Bell::default()));
    for round in 0..3 {
        deliver_messages(&subscriber, 5);
        assert!(!subscriber.is_awaited());
        assert_eq!(polled(&subscriber, &bell), Some(5));
        assert!(subscriber.is_awaited());
        assert_eq!(bell.rings(), round);
        deliver_messages(&subscriber, 2);
        deliver_messages(&subscriber, 1);
        assert!(!subscriber.is_awaited());
        assert_eq!(bell.rings(), round + 1, "once for both");
        assert_eq!(polled(&subscriber, &bell), Some(3));
        assert_eq!(polled(&subscriber, &bell), None);
        assert!(subscriber.is_awaited());
        // A waker of another task takes the place of the first one.
        assert_eq!(polled(&subscriber, &Arc::default()), None);
        assert_eq!(Arc::strong_count(&bell), 1);
    }
}

#[test]
fn who_is_given_much_is_not_woken_before_he_asks_again() {
    let (subscriber, bell) = (subscriber(Overflow::DropOldest), Arc::new(Bell::default()));
    deliver_messages(&subscriber, LITTLE + 1);
    assert_eq!(polled(&subscriber, &bell), Some(LITTLE + 1));
    assert!(!subscriber.is_awaited());
    deliver_messages(&subscriber, 1);
    assert_eq!(bell.rings(), 0);
    assert_eq!(polled(&subscriber, &bell), Some(1));
}

#[test]
fn an_end_wakes_who_was_given_all_there_is() {
    let (subscriber, bell) = (subscriber(Overflow::DropOldest), Arc::new(Bell::default()));
    deliver_messages(&subscriber, 1);
    assert_eq!(polled(&subscriber, &bell), Some(1));
    subscriber.end(EndReason::Shutdown);
    assert!(!subscriber.is_awaited());
    assert_eq!(bell.rings(), 1);
    assert_eq!(polled(&subscriber, &bell), Some(1));
    assert_eq!(polled(&subscriber, &bell), Some(0));
}

/// Has the reader wait for room.
fn waits(subscriber: &Subscriber, bell: &Arc<Bell>) -> bool {
    let waker = Waker::from(Arc::clone(bell));
    let polled = subscriber.poll_room(&mut Context::from_waker(&waker));
    polled.is_pending()
}

fn blocking() -> Arc<Subscriber> {
    let rule = Queue::new(10, Overflow::Block(Duration::from_secs(60)));
    Subscriber::new(None, ChannelKind::default(), rule)
}

#[test]
fn a_reader_that_waits_for_room_is_woken_by_an_end() {
    let (subscriber, bell) = (blocking(), Arc::new(Bell::default()));
    deliver_messages(&subscriber, 10);
    assert!(waits(&subscriber, &bell));
    subscriber.end(EndReason::Shutdown);
    assert_eq!(bell.rings(), 1);
    assert!(!waits(&subscriber, &bell));
}

#[test]
fn however_many_messages_one_frame_brings_none_is_lost_where_the_reader_waits() {
    let held = subscriber(Overflow::DropOldest);
    held.hold(Instant::now() + Duration::from_secs(60));
    for subscriber in [blocking(), held] {
        deliver_messages(&subscriber, 5);
        deliver_messages(&subscriber, 20_000);
        assert!(waits(&subscriber, &Arc::default()));
        assert_eq!(subscriber.look().lost, 0);
        subscriber.release();
        while subscriber.depth() > 0 {
            take(&subscriber);
        }
        // The rule holds again.
        deliver_messages(&subscriber, 1000);
        deliver_messages(&subscriber, 2 * BATCH);
        assert!(subscriber.depth() <= 1000 + BATCH);
        assert!(subscriber.look().lost > 0);
    }
}

#[test]
fn one_frame_of_many_messages_leaves_the_rules_room_to_those_that_follow() {
    let rule = Queue::new(5000, Overflow::Block(Duration::from_secs(60)));
    let blocking = Subscriber::new(None, ChannelKind::default(), rule);
    let held = subscriber(Overflow::DropOldest);
    held.hold(Instant::now() + Duration::from_secs(60));
    for (subscriber, following) in [(blocking, 3800), (held, 800)] {
        deliver_messages(&subscriber, BATCH + 76);
        deliver_messages(&subscriber, following);
        assert_eq!(subscriber.look().lost, 0);
        assert_eq!(subscriber.depth(), BATCH + 76 + following);
    }
}

#[test]
fn what_waits_for_a_consumer_that_goes_is_let_go_of() {
    let (subscriber, mut reads) = (subscriber(Overflow::DropOldest), 0);
    let read = deliver(&subscriber, 100, &mut reads);
    assert!(!read.is_unique());
    subscriber.leave();
    assert!(read.is_unique());
    assert!(deliver(&subscriber, 100, &mut reads).is_unique());
}

#[test]
fn who_has_gone_is_held_on_to_no_longer() {
    let (subscriber, bell) = (subscriber(Overflow::DropOldest), Arc::new(Bell::default()));
    assert_eq!(polled(&subscriber, &bell), None);
    subscriber.leave();
    assert_eq!((bell.rings(), Arc::strong_count(&bell)), (0, 1));
}
