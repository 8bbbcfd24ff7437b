//! Every typed method, against the simulator; and which of them are ever asked twice.

use std::time::Duration;

use mainstay::adapters::deribit::rpc::{self, Edit, NewOrder, OrderType};
use mainstay::adapters::deribit::{Category, Deribit, ErrorCode, OrderState};
use mainstay::error::{RequestError, UnknownCause};
use mainstay::testing::deribit::{DeribitSimulator, Fault};

use crate::{BTC, ETH, LONG, OWNERS, config, logged_in, start, venue};

/// How often a method was asked so far, on all connections.
fn asked(venue: &DeribitSimulator, method: &str) -> usize {
    let log = venue.log();
    log.iter()
        .filter(|entry| entry.method() == Some(method))
        .count()
}

#[tokio::test]
async fn market_data_is_read_without_credentials() {
    let venue = venue().await;
    let session = start(Deribit::builder(), config(&venue, OWNERS[1])).await;
    assert!(session.invoke(rpc::time()).await.expect("a time") > 1_700_000_000_000);
    let hello = session
        .invoke(rpc::hello("tests", "1"))
        .await
        .expect("a version");
    assert_eq!(
        hello,
        session.invoke(rpc::test(None)).await.expect("a version")
    );
    let error = session.invoke(rpc::test(Some("exception"))).await;
    assert!(matches!(error, Err(RequestError::Answered { error, .. }) if error.code == 11094));

    let instruments = session
        .invoke(rpc::instruments("any", Some("future"), None))
        .await;
    let instruments = instruments.expect("instruments");
    assert_eq!(instruments.len(), 2);
    assert_eq!(instruments[0].tick_size, Some(0.5));
    let book = session
        .invoke(rpc::order_book(BTC, Some(3)))
        .await
        .expect("a book");
    assert_eq!((book.bids.len(), book.asks.len()), (3, 3));
    assert!(book.bids[0].0 > book.bids[1].0 && book.bids[0].0 < book.asks[0].0);
    assert!(book.change_id.is_some());
    let ticker = session.invoke(rpc::ticker(ETH)).await.expect("a ticker");
    assert_eq!(ticker.instrument_name, ETH);
    let summaries = session
        .invoke(rpc::book_summary_by_currency("BTC", None))
        .await;
    let summary = session.invoke(rpc::book_summary_by_instrument(BTC)).await;
    for summaries in [summaries, summary] {
        let summaries = summaries.expect("a summary");
        assert_eq!(summaries.len(), 1);
        assert_eq!(summaries[0].instrument_name, BTC);
        assert!(summaries[0].mark_price.is_some());
    }
    let index = session
        .invoke(rpc::index_price("btc_usd"))
        .await
        .expect("a price");
    assert!(index.index_price > 0.0);

    assert_eq!(
        session.invoke(rpc::set_heartbeat(10)).await.expect("ok"),
        "ok"
    );
    assert_eq!(
        session.invoke(rpc::disable_heartbeat()).await.expect("ok"),
        "ok"
    );
    let channels = ["quote.BTC-PERPETUAL", "no.such.channel"];
    let subscribed = session.invoke(rpc::subscribe(&channels)).await;
    assert_eq!(subscribed.expect("channels"), ["quote.BTC-PERPETUAL"]);
    let gone = session.invoke(rpc::unsubscribe(&channels)).await;
    assert_eq!(gone.expect("channels"), ["quote.BTC-PERPETUAL"]);
    assert_eq!(
        session.invoke(rpc::unsubscribe_all()).await.expect("ok"),
        "ok"
    );
    let private = session
        .invoke(rpc::subscribe_private(&["user.portfolio.btc"]))
        .await;
    assert!(
        private.expect("a list").is_empty(),
        "an empty list and no error"
    );
}

#[tokio::test]
async fn the_account_is_read_with_credentials() {
    let venue = venue().await;
    let session = logged_in(&venue).await;
    let summary = session
        .invoke(rpc::account_summary("BTC", None))
        .await
        .expect("a summary");
    assert_eq!((summary.currency.as_str(), summary.id), ("BTC", None));
    let limits = summary.limits.expect("limits");
    assert_eq!(limits.non_matching_engine.map(|rate| rate.rate), Some(20.0));
    let positions = session
        .invoke(rpc::positions("any", None))
        .await
        .expect("positions");
    assert_eq!(positions.len(), 2);
    let position = session
        .invoke(rpc::position(BTC))
        .await
        .expect("a position");
    assert_eq!(
        (position.instrument_name.as_str(), position.size),
        (BTC, 0.0)
    );
    let private = session
        .invoke(rpc::subscribe_private(&["user.portfolio.btc"]))
        .await;
    assert_eq!(private.expect("channels"), ["user.portfolio.btc"]);
    let gone = session
        .invoke(rpc::unsubscribe_private(&["user.portfolio.btc"]))
        .await;
    assert_eq!(gone.expect("channels"), ["user.portfolio.btc"]);
    assert_eq!(
        session
            .invoke(rpc::unsubscribe_all_private())
            .await
            .expect("ok"),
        "ok"
    );
    let on = session.invoke(rpc::enable_cancel_on_disconnect(None)).await;
    assert_eq!(on.expect("ok"), "ok");
    assert!(venue.cancels_on_disconnect(1));
    let off = session
        .invoke(rpc::disable_cancel_on_disconnect(None))
        .await;
    assert_eq!(off.expect("ok"), "ok");
    assert!(!venue.cancels_on_disconnect(1));
}

#[tokio::test]
async fn orders_are_placed_changed_found_and_cancelled() {
    let venue = venue().await;
    let session = logged_in(&venue).await;
    let order = NewOrder::limit(BTC, 10.0, 1.0)
        .label("mine")
        .post_only(true);
    let placed = session
        .invoke(rpc::buy(&order))
        .await
        .expect("an order")
        .order;
    assert_eq!(
        (placed.label.as_deref(), placed.price),
        (Some("mine"), Some(1.0))
    );
    let id = placed.order_id;
    let edit = Edit::order(&id).price(2.0).amount(20.0);
    let edited = session
        .invoke(rpc::edit(&edit))
        .await
        .expect("an order")
        .order;
    assert_eq!((edited.price, edited.amount), (Some(2.0), Some(20.0)));
    let sold = session
        .invoke(rpc::sell(&NewOrder::market(ETH, 1.0)))
        .await
        .expect("an order");
    let open = session
        .invoke(rpc::open_orders(None))
        .await
        .expect("orders");
    assert_eq!(open.len(), 2);
    let of_btc = session
        .invoke(rpc::open_orders_by_currency("BTC", None))
        .await;
    let of_instrument = session.invoke(rpc::open_orders_by_instrument(BTC)).await;
    for orders in [of_btc, of_instrument] {
        let orders = orders.expect("orders");
        assert_eq!(
            orders
                .iter()
                .map(|order| &order.order_id)
                .collect::<Vec<_>>(),
            [&id]
        );
    }
    let state = session
        .invoke(rpc::order_state(&id))
        .await
        .expect("a state");
    assert_eq!(state.order_state, OrderState::Open);
    let gone = session
        .invoke(rpc::cancel(&id))
        .await
        .expect("a cancelled order");
    assert_eq!(gone.order_state, OrderState::Cancelled);
    let error = session
        .invoke(rpc::cancel(&id))
        .await
        .expect_err("it is gone");
    let RequestError::Answered { error, .. } = error else {
        panic!("{error:?}");
    };
    let code = ErrorCode::explain(&error).expect("a known number");
    assert_eq!(
        (code.name, code.category),
        ("order_not_found", Category::Order)
    );

    let by_instrument = rpc::cancel_all_by_instrument(&sold.order.instrument_name);
    assert_eq!(session.invoke(by_instrument).await.expect("a count"), 1);
    for call in [
        rpc::cancel_by_label("mine", None),
        rpc::cancel_all_by_currency("BTC", None),
        rpc::cancel_all(),
    ] {
        session.invoke(rpc::buy(&order)).await.expect("an order");
        assert_eq!(session.invoke(call).await.expect("a count"), 1);
    }
    let none = session
        .invoke(rpc::close_position(BTC, OrderType::Market, None))
        .await;
    assert!(matches!(none, Err(RequestError::Answered { error, .. }) if error.code == 10010));
    assert_eq!(venue.open_orders(), 0);
}

#[tokio::test]
async fn an_order_whose_answer_is_lost_with_the_connection_is_not_sent_again() {
    for owner in OWNERS {
        let venue = venue().await;
        let session = start(crate::with_credentials(), config(&venue, owner)).await;
        venue.inject(Fault::LoseAnswer);
        let order = NewOrder::limit(BTC, 10.0, 1.0);
        let (placed, ()) = tokio::join!(session.invoke(rpc::buy(&order)), async {
            venue
                .wait_for_method("private/buy", 1, LONG)
                .await
                .expect("the order");
            venue.inject(Fault::HangUp);
        });
        let lost = matches!(
            placed,
            Err(RequestError::Unknown {
                cause: UnknownCause::ConnectionLost(_),
                ..
            })
        );
        assert!(lost, "{placed:?}");
        session.live().await.expect("live again");
        // Its fate is found out instead.
        let open = session
            .invoke(rpc::open_orders(None))
            .await
            .expect("orders");
        assert_eq!((open.len(), asked(&venue, "private/buy")), (1, 1));
    }
}

#[tokio::test]
async fn a_read_whose_answer_is_lost_with_the_connection_is_asked_again() {
    for owner in OWNERS {
        let venue = venue().await;
        let session = start(crate::with_credentials(), config(&venue, owner)).await;
        venue.inject(Fault::LoseAnswer);
        let (orders, ()) = tokio::join!(session.invoke(rpc::open_orders(None)), async {
            let method = "private/get_open_orders";
            venue
                .wait_for_method(method, 1, LONG)
                .await
                .expect("the question");
            venue.inject(Fault::HangUp);
        });
        assert!(orders.expect("orders").is_empty());
        assert_eq!(asked(&venue, "private/get_open_orders"), 2);
    }
}

#[tokio::test]
async fn a_read_that_is_not_answered_in_time_is_not_asked_again() {
    let venue = venue().await;
    let session = logged_in(&venue).await;
    venue.inject(Fault::IgnoreMethod("private/get_open_orders".to_owned()));
    let limit = Duration::from_millis(50);
    let error = session.invoke(rpc::open_orders(None).within(limit)).await;
    let late = matches!(
        error,
        Err(RequestError::Unknown {
            cause: UnknownCause::Deadline { .. },
            ..
        })
    );
    assert!(late, "{error:?}");
    assert_eq!(asked(&venue, "private/get_open_orders"), 1);
}

#[tokio::test]
async fn calls_of_a_session_that_is_over_end_at_once() {
    let venue = venue().await;
    let session = logged_in(&venue).await;
    session.shutdown().await;
    let error = session.invoke(rpc::time()).await.expect_err("over");
    assert!(matches!(error, RequestError::NotSent { .. }), "{error:?}");
}
