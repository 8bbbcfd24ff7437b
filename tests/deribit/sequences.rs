//! The venue's own numbers: holes, repetitions, and what a consumer sees of them.

use mainstay::adapters::deribit::{self, Book, BookKind, Interval, OrderBook, Trades};
use mainstay::close::GapCause;
use mainstay::testing::deribit::{DeribitSimulator, Fault};
use mainstay::{Data, Event, Subscription};
use serde_json::json;

use crate::{BTC, channels, data, gap, logged_in, methods, next, resynced, venue};

const BOOK: &str = "book.BTC-PERPETUAL.100ms";
const TRADES: &str = "trades.BTC-PERPETUAL.100ms";

/// Applies what comes until `news` messages have been seen, all of them data that fits.
async fn follow(subscription: &mut Subscription<Book>, book: &mut OrderBook, news: usize) {
    for _ in 0..news {
        let change = data(subscription).await;
        book.apply(&change).expect("a change that fits");
        assert_eq!(book.change_id(), Some(change.change_id));
        check(book);
    }
}

fn check(book: &OrderBook) {
    let bid = book.best_bid().expect("a bid").price;
    let ask = book.best_ask().expect("an ask").price;
    assert!(bid < ask, "{bid} is bid and {ask} is asked");
}

async fn caught_up(
    subscription: &mut Subscription<Book>,
    book: &mut OrderBook,
    venue: &DeribitSimulator,
) {
    let target = venue.last_sequence(BOOK).expect("a book");
    while book.change_id() < Some(target) {
        follow(subscription, book, 1).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_break_in_a_book_resubscribes_that_channel_alone_and_begins_with_a_snapshot() {
    let venue = venue().await;
    let session = logged_in(&venue).await;
    let ticker = deribit::ticker(BTC, Interval::Ms100);
    let mut ticker = session.subscribe(ticker).await.expect("a subscription");
    let channel = deribit::book(BTC, Interval::Ms100);
    let mut subscription = session.subscribe(channel).await.expect("a subscription");
    let mut book = OrderBook::new();
    follow(&mut subscription, &mut book, 10).await;
    venue.inject(Fault::SequenceBreak {
        channel: BOOK.to_owned(),
    });
    let interruption = loop {
        match next(&mut subscription).await {
            Event::Data(change) => book.apply(&change).expect("a change that fits"),
            Event::Gap(gap) => break gap,
            other => panic!("{other:?}"),
        }
    };
    assert!(
        matches!(interruption.cause, GapCause::SequenceBreak { .. }),
        "{interruption:?}"
    );
    assert!(resynced(&mut subscription).await.complete);
    let snapshot = data(&mut subscription).await;
    assert_eq!(snapshot.kind, BookKind::Snapshot);
    book.apply(&snapshot).expect("a snapshot");
    follow(&mut subscription, &mut book, 10).await;
    caught_up(&mut subscription, &mut book, &venue).await;

    assert_eq!(channels(&venue, 1, "public/unsubscribe"), [json!([BOOK])]);
    assert_eq!(
        channels(&venue, 1, "public/subscribe")[1..],
        [json!([BOOK]), json!([BOOK])]
    );
    let now = data(&mut subscription).await.received;
    while data(&mut ticker).await.received < now {}
    assert_eq!(venue.accepted(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_listener_of_a_book_gets_a_snapshot_and_the_first_goes_on() {
    let venue = venue().await;
    let session = logged_in(&venue).await;
    let channel = deribit::book(BTC, Interval::Ms100);
    let first = session.subscribe(channel.clone()).await;
    let mut first = first.expect("a subscription");
    let (mut one, mut two) = (OrderBook::new(), OrderBook::new());
    follow(&mut first, &mut one, 3).await;
    let mut second = session.subscribe(channel).await.expect("a subscription");
    // It comes into the middle of the changes, so that it is told what it lacks.
    let interruption = gap(&mut second).await;
    assert_eq!(interruption.cause.label(), "state_missing");
    assert!(resynced(&mut second).await.complete);
    follow(&mut second, &mut two, 10).await;
    follow(&mut first, &mut one, 20).await;
    caught_up(&mut first, &mut one, &venue).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_listeners_of_a_broken_book_are_both_whole_again() {
    let venue = venue().await;
    let session = logged_in(&venue).await;
    let channel = deribit::book(BTC, Interval::Ms100);
    let (first, second) = tokio::join!(
        session.subscribe(channel.clone()),
        session.subscribe(channel)
    );
    let mut listeners = [
        first.expect("a subscription"),
        second.expect("a subscription"),
    ];
    for subscription in &mut listeners {
        follow(subscription, &mut OrderBook::new(), 3).await;
    }
    venue.inject(Fault::SequenceBreak {
        channel: BOOK.to_owned(),
    });
    for subscription in &mut listeners {
        let cause = gap(subscription).await.cause;
        assert_eq!(cause.label(), "sequence_break");
        assert!(resynced(subscription).await.complete);
        let mut book = OrderBook::new();
        follow(subscription, &mut book, 20).await;
        caught_up(subscription, &mut book, &venue).await;
    }
    assert_eq!(venue.accepted(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_comes_twice_is_shown_once() {
    let venue = venue().await;
    let session = logged_in(&venue).await;
    let channel = deribit::book(BTC, Interval::Ms100);
    let mut subscription = session.subscribe(channel).await.expect("a subscription");
    let channel = deribit::trades(BTC, Interval::Ms100);
    let mut trades = session.subscribe(channel).await.expect("a subscription");
    let mut book = OrderBook::new();
    let (mut change, mut trade) = (None, None);
    for _ in 0..5 {
        for channel in [BOOK, TRADES] {
            venue.inject(Fault::DuplicateMessage {
                channel: channel.to_owned(),
            });
        }
        for _ in 0..4 {
            follow(&mut subscription, &mut book, 1).await;
            assert!(book.change_id() > change, "shown twice");
            change = book.change_id();
            for one in &data(&mut trades).await.trades {
                assert!(Some(one.trade_seq) > trade, "shown twice");
                trade = Some(one.trade_seq);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_in_the_middle_is_taken_as_it_comes() {
    let venue = venue().await;
    let session = logged_in(&venue).await;
    let channel = deribit::book(BTC, Interval::Ms100);
    let mut subscription = session.subscribe(channel).await.expect("a subscription");
    let mut book = OrderBook::new();
    follow(&mut subscription, &mut book, 5).await;
    venue.inject(Fault::RepeatSnapshot {
        channel: BOOK.to_owned(),
    });
    loop {
        let change = data(&mut subscription).await;
        book.apply(&change).expect("a change that fits");
        check(&book);
        if change.kind == BookKind::Snapshot {
            break;
        }
    }
    follow(&mut subscription, &mut book, 5).await;
    assert!(!methods(&venue, 1).contains(&"public/unsubscribe".to_owned()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hole_in_the_trades_is_counted_and_the_stream_goes_on() {
    let venue = venue().await;
    let session = logged_in(&venue).await;
    let channel = deribit::trades(BTC, Interval::Ms100);
    let mut trades = session.subscribe(channel).await.expect("a subscription");
    let last = |data: &Data<Trades>| data.trades.last().expect("a trade").trade_seq;
    let mut seen = last(&data(&mut trades).await);
    venue.inject(Fault::SequenceBreak {
        channel: TRADES.to_owned(),
    });
    let interruption = loop {
        match next(&mut trades).await {
            Event::Data(data) => seen = last(&data),
            Event::Gap(gap) => break gap,
            other => panic!("{other:?}"),
        }
    };
    assert!(
        !resynced(&mut trades).await.complete,
        "what was missed stays missed"
    );
    let first = data(&mut trades).await.trades[0].trade_seq;
    assert_eq!(interruption.cause.label(), "sequence_break");
    assert_eq!(interruption.missed, Some(first - seen - 1));
    let _ = data(&mut trades).await;
    assert_eq!(channels(&venue, 1, "public/subscribe").len(), 1);
    assert_eq!(venue.accepted(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_book_is_whole_after_every_reconnect() {
    let venue = venue().await;
    let session = logged_in(&venue).await;
    let channel = deribit::book(BTC, Interval::Ms100);
    let mut subscription = session.subscribe(channel).await.expect("a subscription");
    let mut book = OrderBook::new();
    follow(&mut subscription, &mut book, 3).await;
    for fault in [Fault::TcpReset, Fault::HangUp, Fault::TcpReset] {
        venue.inject(fault);
        loop {
            match next(&mut subscription).await {
                Event::Data(change) => book.apply(&change).expect("a change that fits"),
                Event::Gap(_) => book.clear(),
                Event::Resynced(resynced) => {
                    assert!(resynced.complete);
                    break;
                }
                other => panic!("{other:?}"),
            }
        }
        follow(&mut subscription, &mut book, 3).await;
        caught_up(&mut subscription, &mut book, &venue).await;
    }
    assert_eq!(venue.most_open_connections(), 1);
}
