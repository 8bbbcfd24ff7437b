//! What a consumer that is behind holds on to.

use bytes::Bytes;

use super::*;

const READ: usize = 256 * 1024;

/// Delivers what one large read brings: the last `own` bytes to this queue, the rest to others. What was read, as it is
/// without the others'.
fn deliver(subscriber: &Subscriber, own: usize, reads: &mut u64) -> Bytes {
    *reads += 1;
    let read = Bytes::from(vec![b'x'; READ]);
    let mut frames = VecDeque::from([Frame::Binary(read.slice(READ - own..))]);
    let total = *reads * READ as u64;
    subscriber.deliver(&mut frames, Epoch::new(1), Instant::now(), total);
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
        let held = all.iter().filter(|read| !read.is_unique()).count();
        assert!((4..=6).contains(&held), "{held}");
        let items = take(&subscriber);
        assert_eq!(items.len(), 100);
        let whole = |frame: &Frame| frame.payload() == [b'x'; 100];
        assert!(items.data().all(whole));
        // It has caught up.
        assert!(!deliver(&subscriber, 100, &mut reads).is_unique());
    }
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
