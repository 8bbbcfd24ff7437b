//! The end of a subscription that is awaited, and where each channel stands meanwhile.

use std::time::Duration;

use mainstay::adapters::deribit::{self, Deribit, Interval};
use mainstay::config::PhaseLimits;
use mainstay::error::UnsubscribeError;
use mainstay::testing::deribit::Fault;
use mainstay::{ChannelStatus, Epoch, Session, Status, Unsubscribed};
use serde_json::json;

use crate::{
    BTC, LONG, OWNERS, channels, config, data, gap, logged_in, next, restored, start, venue,
    with_credentials,
};

const TICKER: &str = "ticker.BTC-PERPETUAL.100ms";
const ORDERS: &str = "user.orders.BTC-PERPETUAL.raw";
const OFF: &str = "public/unsubscribe";

/// Where a channel stands, and since when.
fn place(session: &Session, channel: &str) -> Option<(ChannelStatus, u64)> {
    let state = session.channel_state(channel)?;
    Some((state.status, state.since.as_u64()))
}

#[tokio::test]
async fn the_end_of_a_subscription_is_confirmed_by_the_venue() {
    let venue = venue().await;
    let session = logged_in(&venue).await;
    let ticker = deribit::ticker(BTC, Interval::Ms100);
    let ticker = session.subscribe(ticker).await.expect("a subscription");
    let orders = deribit::user_orders(BTC, Interval::Raw);
    let orders = session.subscribe(orders).await.expect("a subscription");

    let became = ticker.unsubscribe(LONG).await.expect("a confirmation");
    assert_eq!(became, Unsubscribed::Confirmed);
    assert_eq!(channels(&venue, 1, OFF), [json!([TICKER])]);
    assert_eq!(place(&session, TICKER), None);
    let became = orders.unsubscribe(LONG).await.expect("a confirmation");
    assert_eq!(became, Unsubscribed::Confirmed);
    assert_eq!(
        channels(&venue, 1, "private/unsubscribe"),
        [json!([ORDERS])]
    );
    assert!(session.channel_states().is_empty());
}

#[tokio::test]
async fn while_others_share_the_channel_the_venue_is_told_nothing() {
    let venue = venue().await;
    let session = logged_in(&venue).await;
    let channel = deribit::ticker(BTC, Interval::Ms100);
    let one = session.subscribe(channel.clone()).await;
    let one = one.expect("a subscription");
    let mut two = session.subscribe(channel).await.expect("a subscription");
    let shared = session.channel_state(TICKER).expect("a state");
    assert_eq!(shared.subscriptions, 2);

    let became = one.unsubscribe(LONG).await.expect("an answer");
    assert_eq!(became, Unsubscribed::Shared);
    let _ = data(&mut two).await;
    assert!(channels(&venue, 1, OFF).is_empty());
    let became = two.unsubscribe(LONG).await.expect("a confirmation");
    assert_eq!(became, Unsubscribed::Confirmed);
    assert_eq!(channels(&venue, 1, OFF), [json!([TICKER])]);
}

#[tokio::test]
async fn a_venue_that_refuses_to_stop_is_an_error() {
    let venue = venue().await;
    let session = logged_in(&venue).await;
    let ticker = deribit::ticker(BTC, Interval::Ms100);
    let ticker = session.subscribe(ticker).await.expect("a subscription");
    venue.inject(Fault::FailMethod {
        method: OFF.to_owned(),
        code: -32602,
    });
    let error = ticker.unsubscribe(LONG).await.expect_err("refused");
    assert!(
        matches!(&error, UnsubscribeError::Rejected { channel, detail }
            if channel == TICKER && detail.contains("-32602")),
        "{error:?}"
    );
    assert_eq!(place(&session, TICKER), None);
    assert_eq!(session.metrics().errors["unsubscribe-rejected"], 1);
}

#[tokio::test]
async fn a_venue_that_is_too_busy_is_told_again() {
    let venue = venue().await;
    let session = logged_in(&venue).await;
    let ticker = deribit::ticker(BTC, Interval::Ms100);
    let ticker = session.subscribe(ticker).await.expect("a subscription");
    venue.inject(Fault::AnswerError {
        code: 10028,
        message: "too_many_requests".to_owned(),
    });
    let became = ticker.unsubscribe(LONG).await.expect("a confirmation");
    assert_eq!(became, Unsubscribed::Confirmed);
    assert_eq!(channels(&venue, 1, OFF), [json!([TICKER]), json!([TICKER])]);
    assert_eq!(venue.accepted(), 1);
}

#[tokio::test]
async fn an_end_that_is_not_confirmed_in_time_says_so_and_the_channel_shows_it() {
    let venue = venue().await;
    let session = logged_in(&venue).await;
    let ticker = deribit::ticker(BTC, Interval::Ms100);
    let ticker = session.subscribe(ticker).await.expect("a subscription");
    venue.inject(Fault::IgnoreMethod(OFF.to_owned()));
    let patience = Duration::from_millis(200);
    let error = ticker.unsubscribe(patience).await.expect_err("no answer");
    assert!(
        matches!(&error, UnsubscribeError::Timeout { limit, .. } if *limit == patience),
        "{error:?}"
    );
    assert!(session.channels().is_empty(), "the wish is withdrawn");
    assert_eq!(
        place(&session, TICKER),
        Some((ChannelStatus::Unsubscribing, 1))
    );
}

#[tokio::test]
async fn a_connection_that_ends_ends_what_was_to_be_confirmed() {
    for owner in OWNERS {
        let venue = venue().await;
        let session = start(with_credentials(), config(&venue, owner)).await;
        let ticker = deribit::ticker(BTC, Interval::Ms100);
        let ticker = session.subscribe(ticker).await.expect("a subscription");
        venue.inject(Fault::IgnoreMethod(OFF.to_owned()));
        let cut = async {
            let asked = venue.wait_for_method(OFF, 1, LONG).await;
            asked.expect("a request");
            venue.inject(Fault::TcpReset);
        };
        let (became, ()) = tokio::join!(ticker.unsubscribe(LONG), cut);
        let error = became.expect_err("lost");
        assert!(
            matches!(&error, UnsubscribeError::ConnectionLost { channel } if channel == TICKER),
            "{error:?}"
        );
        let passed = session.wait_for(Status::Live, LONG).await;
        passed.expect("live again");
        assert!(channels(&venue, 2, "public/subscribe").is_empty());
        assert_eq!(place(&session, TICKER), None);
    }
}

#[tokio::test]
async fn a_session_that_ends_ends_what_was_to_be_confirmed() {
    let venue = venue().await;
    let session = logged_in(&venue).await;
    let ticker = deribit::ticker(BTC, Interval::Ms100);
    let ticker = session.subscribe(ticker).await.expect("a subscription");
    venue.inject(Fault::IgnoreMethod(OFF.to_owned()));
    let shutdown = async {
        let asked = venue.wait_for_method(OFF, 1, LONG).await;
        asked.expect("a request");
        session.shutdown().await
    };
    let (became, _) = tokio::join!(ticker.unsubscribe(LONG), shutdown);
    let error = became.expect_err("lost");
    assert!(
        matches!(error, UnsubscribeError::ConnectionLost { .. }),
        "{error:?}"
    );
    let over = session.messages().unsubscribe(LONG).await;
    assert_eq!(over.expect("nothing to tell"), Unsubscribed::Untold);
}

#[tokio::test]
async fn without_a_connection_there_is_nobody_to_be_told() {
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
    let became = ticker.unsubscribe(LONG).await.expect("nothing to tell");
    assert_eq!(became, Unsubscribed::Untold);
    assert!(session.channel_states().is_empty());
}

#[tokio::test]
async fn a_channel_wanted_again_while_the_venue_is_told_is_subscribed() {
    let venue = venue().await;
    let session = logged_in(&venue).await;
    let channel = deribit::ticker(BTC, Interval::Ms100);
    let one = session.subscribe(channel.clone()).await;
    let one = one.expect("a subscription");
    let (became, two) = tokio::join!(one.unsubscribe(LONG), session.subscribe(channel));
    assert_eq!(became.expect("a confirmation"), Unsubscribed::Confirmed);
    let mut two = two.expect("a subscription");
    let _ = data(&mut two).await;
    assert_eq!(place(&session, TICKER), Some((ChannelStatus::Confirmed, 1)));
}

#[tokio::test]
async fn a_channel_tells_where_it_stands_from_wish_to_refusal() {
    let venue = venue().await;
    let session = start(Deribit::builder(), config(&venue, OWNERS[1])).await;
    assert!(session.channel_states().is_empty());
    venue.inject(Fault::IgnoreMethod("public/subscribe".to_owned()));
    let ticker = session.subscribe(deribit::ticker(BTC, Interval::Ms100));
    let seen = async {
        let asked = venue.wait_for_method("public/subscribe", 1, LONG).await;
        asked.expect("a request");
        assert_eq!(
            place(&session, TICKER),
            Some((ChannelStatus::Subscribing, 1))
        );
        let pending = session.state_metrics();
        assert_eq!((pending.channels, pending.confirmed_channels), (1, 0));
        venue.inject(Fault::Heal);
        venue.inject(Fault::HangUp);
    };
    let (ticker, ()) = tokio::join!(ticker, seen);
    let mut ticker = ticker.expect("a subscription");
    assert_eq!(place(&session, TICKER), Some((ChannelStatus::Confirmed, 2)));
    let confirmed = session.state_metrics();
    assert_eq!((confirmed.channels, confirmed.confirmed_channels), (1, 1));

    venue.inject(Fault::RefuseUpgrade {
        status: 503,
        headers: Vec::new(),
        body: String::new(),
        times: u32::MAX,
    });
    venue.inject(Fault::HangUp);
    let _ = gap(&mut ticker).await;
    let pending = session.state_metrics();
    assert_eq!((pending.channels, pending.confirmed_channels), (1, 0));
    venue.inject(Fault::Heal);
    let _ = next(&mut ticker).await;

    venue.inject(Fault::OmitChannel(TICKER.to_owned()));
    venue.inject(Fault::HangUp);
    while ticker.next().await.is_some() {}
    let refused = session.channel_state(TICKER).expect("a state");
    assert_eq!(refused.status, ChannelStatus::Refused);
    let refusal = refused.last_refusal.expect("a refusal");
    assert!(refusal.epoch > Epoch::new(2) && refusal.epoch == refused.since);
    assert!(refusal.detail.contains("left it out"), "{}", refusal.detail);
    assert!(session.channels().is_empty());
    let shown = serde_json::to_value(session.channel_states()).expect("json");
    assert_eq!(shown[0]["channel"], TICKER);
    assert_eq!(shown[0]["status"], "refused");
}

#[tokio::test]
async fn a_wish_that_was_not_confirmed_in_time_is_gone() {
    let venue = venue().await;
    let patience = Duration::from_millis(200);
    let mut limits = PhaseLimits::default();
    limits.auth = Duration::from_secs(1);
    let config = config(&venue, OWNERS[1])
        .limits(limits)
        .request_timeout(patience);
    let session = start(with_credentials(), config).await;
    let book = deribit::book(BTC, Interval::Ms100);
    let mut book = session.subscribe(book).await.expect("a subscription");
    venue.inject(Fault::IgnoreMethod("public/subscribe".to_owned()));
    let ticker = session.subscribe(deribit::ticker(BTC, Interval::Ms100));
    let _ = ticker.await.expect_err("no answer");
    // The venue may have subscribed it all the same, and is told that nobody wants it.
    let told = venue.wait_for_method(OFF, 1, LONG).await;
    told.expect("a release");
    assert_eq!(channels(&venue, 1, OFF), [json!([TICKER])]);
    assert_eq!(session.state_metrics().channels, 1);
    venue.inject(Fault::Heal);
    venue.inject(Fault::HangUp);
    let _ = restored(&mut book).await;
    assert_eq!(
        channels(&venue, 2, "public/subscribe"),
        [json!(["book.BTC-PERPETUAL.100ms"])]
    );
}
