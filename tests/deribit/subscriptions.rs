//! What the user wants, what the venue confirms, and what is restored.

use std::time::Duration;

use mainstay::adapters::deribit::{self, BookKind, Deribit, Interval};
use mainstay::config::PhaseLimits;
use mainstay::error::{EndReason, SubscribeError};
use mainstay::testing::deribit::Fault;
use mainstay::{Event, SessionState};
use serde_json::json;

use crate::{
    BTC, ETH, LONG, OWNERS, behind_greeting, channels, config, data, gap, logged_in, next,
    restored, resynced, start, venue, with_credentials,
};

const TICKER: &str = "ticker.BTC-PERPETUAL.100ms";

#[tokio::test]
async fn public_and_private_channels_are_confirmed_and_speak() {
    let venue = venue().await;
    let session = logged_in(&venue).await;
    let ticker = deribit::ticker(BTC, Interval::Ms100);
    let mut ticker = session.subscribe(ticker).await.expect("a subscription");
    let book = deribit::book(BTC, Interval::Raw);
    let mut book = session.subscribe(book).await.expect("a subscription");
    let trades = deribit::trades(BTC, Interval::Ms100);
    let mut trades = session.subscribe(trades).await.expect("a subscription");
    let quote = session.subscribe(deribit::quote(BTC)).await;
    let mut quote = quote.expect("a subscription");
    let orders = deribit::user_orders(BTC, Interval::Ms100);
    let mut orders = session.subscribe(orders).await.expect("a subscription");
    let changes = deribit::user_changes(BTC, Interval::Raw);
    let mut changes = session.subscribe(changes).await.expect("a subscription");
    let portfolio = session.subscribe(deribit::portfolio("BTC")).await;
    let mut portfolio = portfolio.expect("a subscription");

    assert_eq!(data(&mut ticker).await.instrument_name, BTC);
    assert_eq!(data(&mut book).await.kind, BookKind::Snapshot);
    assert!(!data(&mut trades).await.trades.is_empty());
    assert_eq!(data(&mut quote).await.instrument_name, BTC);
    assert!(!data(&mut orders).await.orders.is_empty());
    assert!(!data(&mut changes).await.orders.is_empty());
    assert_eq!(data(&mut portfolio).await.currency, "BTC");
}

#[tokio::test]
async fn what_becomes_of_the_sessions_own_requests_is_counted_whether_or_not_anybody_listens() {
    let venue = venue().await;
    let session = logged_in(&venue).await;
    let ticker = deribit::ticker(BTC, Interval::Ms100);
    let mut ticker = session.subscribe(ticker).await.expect("a subscription");
    data(&mut ticker).await;
    let fates = session.statistics().fates;
    assert!(fates["answered"] > 2, "{fates:?}");
    assert_eq!(fates["given_up"], 0, "{fates:?}");
}

#[tokio::test]
async fn a_channel_that_the_venue_leaves_out_is_rejected_and_the_others_live() {
    let venue = venue().await;
    venue.inject(Fault::OmitChannel(TICKER.to_owned()));
    let session = logged_in(&venue).await;
    let (ticker, book) = tokio::join!(
        session.subscribe(deribit::ticker(BTC, Interval::Ms100)),
        session.subscribe(deribit::book(BTC, Interval::Ms100)),
    );
    let error = ticker.expect_err("left out");
    assert!(
        matches!(&error, SubscribeError::Rejected { channel, .. } if channel == TICKER),
        "{error:?}"
    );
    let mut book = book.expect("a subscription");
    let _ = data(&mut book).await;
}

#[tokio::test]
async fn a_channel_that_the_venue_does_not_know_is_rejected() {
    let venue = venue().await;
    let session = logged_in(&venue).await;
    let error = session
        .subscribe(deribit::ticker("NO-SUCH", Interval::Ms100))
        .await
        .expect_err("unknown");
    assert!(
        matches!(error, SubscribeError::Rejected { .. }),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_private_channel_without_a_login_is_rejected() {
    let venue = venue().await;
    let session = start(Deribit::builder(), config(&venue, OWNERS[1])).await;
    let error = session
        .subscribe(deribit::user_orders(BTC, Interval::Raw))
        .await
        .expect_err("an empty list");
    assert!(
        matches!(error, SubscribeError::Rejected { .. }),
        "{error:?}"
    );
    let ticker = deribit::ticker(BTC, Interval::Ms100);
    let mut ticker = session.subscribe(ticker).await.expect("a subscription");
    let _ = data(&mut ticker).await;
    assert_eq!(venue.accepted(), 1);
}

#[tokio::test]
async fn a_raw_channel_without_a_login_is_rejected_alone() {
    let venue = venue().await;
    let session = start(Deribit::builder(), config(&venue, OWNERS[1])).await;
    let (raw, book) = tokio::join!(
        session.subscribe(deribit::ticker(BTC, Interval::Raw)),
        session.subscribe(deribit::book(BTC, Interval::Ms100)),
    );
    let error = raw.expect_err("refused");
    assert!(
        matches!(error, SubscribeError::Rejected { .. }),
        "{error:?}"
    );
    let _ = data(&mut book.expect("a subscription")).await;
}

#[tokio::test]
async fn after_a_reconnect_all_is_restored_in_the_order_of_the_wishes() {
    for owner in OWNERS {
        let venue = venue().await;
        let session = start(with_credentials(), config(&venue, owner)).await;
        let book = deribit::book(ETH, Interval::Ms100);
        let mut book = session.subscribe(book).await.expect("a subscription");
        let orders = deribit::user_orders(BTC, Interval::Raw);
        let mut orders = session.subscribe(orders).await.expect("a subscription");
        let ticker = deribit::ticker(BTC, Interval::Ms100);
        let mut ticker = session.subscribe(ticker).await.expect("a subscription");
        let portfolio = session.subscribe(deribit::portfolio("BTC")).await;
        let mut portfolio = portfolio.expect("a subscription");

        venue.inject(Fault::TcpReset);
        let _ = restored(&mut book).await;
        let _ = restored(&mut orders).await;
        let _ = restored(&mut ticker).await;
        let _ = restored(&mut portfolio).await;

        assert_eq!(
            behind_greeting(&venue, 2),
            ["public/auth", "public/subscribe", "private/subscribe"]
        );
        assert_eq!(
            channels(&venue, 2, "public/subscribe"),
            [json!(["book.ETH-PERPETUAL.100ms", TICKER])]
        );
        assert_eq!(
            channels(&venue, 2, "private/subscribe"),
            [json!([
                "user.orders.BTC-PERPETUAL.raw",
                "user.portfolio.btc"
            ])]
        );
        assert_eq!(venue.most_open_connections(), 1);
    }
}

#[tokio::test]
async fn what_is_wished_and_dropped_while_down_is_what_is_restored() {
    let venue = venue().await;
    let session = logged_in(&venue).await;
    let ticker = deribit::ticker(BTC, Interval::Ms100);
    let mut ticker = session.subscribe(ticker).await.expect("a subscription");
    venue.inject(Fault::RefuseUpgrade {
        status: 503,
        headers: Vec::new(),
        body: String::new(),
        times: u32::MAX,
    });
    venue.inject(Fault::HangUp);
    let _ = gap(&mut ticker).await;
    drop(ticker);
    // The wish is made by the first poll; the venue is back after that.
    let (book, ()) = tokio::join!(
        session.subscribe(deribit::book(BTC, Interval::Ms100)),
        async {
            assert!(!session.state().is_live());
            venue.inject(Fault::Heal);
        },
    );
    let mut book = book.expect("a subscription");
    assert_eq!(data(&mut book).await.kind, BookKind::Snapshot);
    let connection = venue.open_connection_ids()[0];
    assert_eq!(
        channels(&venue, connection, "public/subscribe"),
        [json!(["book.BTC-PERPETUAL.100ms"])]
    );
    assert_eq!(venue.most_open_connections(), 1);
}

#[tokio::test]
async fn a_subscription_that_is_dropped_is_told_to_the_venue() {
    let venue = venue().await;
    let session = logged_in(&venue).await;
    let ticker = deribit::ticker(BTC, Interval::Ms100);
    let orders = deribit::user_orders(BTC, Interval::Raw);
    drop(session.subscribe(ticker).await.expect("a subscription"));
    drop(session.subscribe(orders).await.expect("a subscription"));
    for method in ["public/unsubscribe", "private/unsubscribe"] {
        venue
            .wait_for_method(method, 1, LONG)
            .await
            .expect("a release");
    }
    assert_eq!(channels(&venue, 1, "public/unsubscribe"), [json!([TICKER])]);
}

#[tokio::test]
async fn two_subscriptions_of_a_channel_share_one_at_the_venue() {
    let venue = venue().await;
    let session = logged_in(&venue).await;
    let channel = deribit::ticker(BTC, Interval::Ms100);
    let one = session.subscribe(channel.clone()).await;
    let mut one = one.expect("a subscription");
    let mut two = session.subscribe(channel).await.expect("a subscription");
    assert_eq!([one.channel(), two.channel()], [Some(TICKER); 2]);
    assert_eq!(session.messages().channel(), None);
    let _ = data(&mut one).await;
    let _ = data(&mut two).await;
    drop(one);
    for _ in 0..10 {
        let _ = data(&mut two).await;
    }
    drop(two);
    venue
        .wait_for_method("public/unsubscribe", 1, LONG)
        .await
        .expect("a release");
    assert_eq!(channels(&venue, 1, "public/subscribe"), [json!([TICKER])]);
    assert_eq!(channels(&venue, 1, "public/unsubscribe"), [json!([TICKER])]);
}

#[tokio::test]
async fn what_comes_before_the_confirmation_is_not_lost() {
    let venue = venue().await;
    venue.inject(Fault::NotificationBeforeAnswer(true));
    let session = logged_in(&venue).await;
    let channel = deribit::book(BTC, Interval::Ms100);
    let mut book = session.subscribe(channel).await.expect("a subscription");
    assert_eq!(data(&mut book).await.kind, BookKind::Snapshot);
    for _ in 0..5 {
        venue.inject(Fault::HangUp);
        let _ = gap(&mut book).await;
        assert!(resynced(&mut book).await.complete);
        assert_eq!(data(&mut book).await.kind, BookKind::Snapshot);
    }
    assert_eq!(venue.most_open_connections(), 1);
}

#[tokio::test]
async fn a_channel_that_is_refused_for_good_after_a_reconnect_ends_alone() {
    let venue = venue().await;
    let session = logged_in(&venue).await;
    let ticker = deribit::ticker(BTC, Interval::Ms100);
    let mut ticker = session.subscribe(ticker).await.expect("a subscription");
    let book = deribit::book(BTC, Interval::Ms100);
    let mut book = session.subscribe(book).await.expect("a subscription");
    venue.inject(Fault::OmitChannel(TICKER.to_owned()));
    venue.inject(Fault::HangUp);
    let _ = gap(&mut ticker).await;
    match next(&mut ticker).await {
        Event::Ended(EndReason::Refused(_)) => {}
        other => panic!("{other:?}"),
    }
    let _ = restored(&mut book).await;
    let refused = channels(&venue, 2, "public/subscribe").len();
    assert_eq!(
        refused, 3,
        "a channel that was good once gets three chances"
    );
}

#[tokio::test]
async fn a_channel_whose_confirmation_is_lost_is_asked_for_again() {
    let venue = venue().await;
    let mut limits = PhaseLimits::default();
    limits.auth = Duration::from_secs(1);
    let config = config(&venue, OWNERS[1]).limits(limits);
    let session = start(with_credentials(), config).await;
    venue.inject(Fault::LoseAnswer);
    let channel = deribit::book(BTC, Interval::Ms100);
    let mut book = session.subscribe(channel).await.expect("a subscription");
    let _ = data(&mut book).await;
    assert_eq!(channels(&venue, 1, "public/subscribe").len(), 2);
    assert_eq!(venue.accepted(), 1);
}

#[tokio::test]
async fn a_subscription_that_is_not_confirmed_in_time_says_so() {
    let venue = venue().await;
    let patience = Duration::from_millis(200);
    let config = config(&venue, OWNERS[1]).request_timeout(patience);
    let session = start(with_credentials(), config).await;
    venue.inject(Fault::IgnoreMethod("public/subscribe".to_owned()));
    let ticker = session.subscribe(deribit::ticker(BTC, Interval::Ms100));
    let error = ticker.await.expect_err("no answer");
    assert!(
        matches!(&error, SubscribeError::Timeout { limit, .. } if *limit == patience),
        "{error:?}"
    );
}

#[tokio::test]
async fn cuts_and_lost_answers_while_a_channel_is_asked_for_are_not_refusals() {
    let venue = venue().await;
    let session = logged_in(&venue).await;
    let ticker = deribit::ticker(BTC, Interval::Ms100);
    let mut ticker = session.subscribe(ticker).await.expect("a subscription");
    venue.inject(Fault::IgnoreMethod("public/subscribe".to_owned()));
    let (book, ()) = tokio::join!(
        session.subscribe(deribit::book(BTC, Interval::Ms100)),
        async {
            for asked in 2..=8 {
                venue
                    .wait_for_method("public/subscribe", asked, LONG)
                    .await
                    .expect("a request");
                if asked == 8 {
                    venue.inject(Fault::Heal);
                }
                venue.inject(Fault::TcpReset);
            }
        },
    );
    let mut book = book.expect("a subscription");
    let _ = data(&mut book).await;
    let _ = restored(&mut ticker).await;
    assert!(matches!(session.state(), SessionState::Live { .. }));
    assert_eq!(venue.most_open_connections(), 1);
}
