//! Other accounts, other sessions, logging out; and whose clock is right.

use std::time::{Duration, Instant, SystemTime};

use mainstay::adapters::deribit::rpc::{self, Login, NewOrder};
use mainstay::adapters::deribit::{self, Deribit, Interval, Scope};
use mainstay::error::StartError;
use mainstay::testing::deribit::{Fault, LogEntry, LogEvent};
use mainstay::{Session, SessionState};

use crate::{
    BTC, LONG, OWNERS, behind_greeting, config, logged_in, requests, restored, simulator, start,
    venue, with_credentials,
};

#[tokio::test]
async fn a_session_for_a_subaccount_becomes_it_on_every_connection() {
    for owner in OWNERS {
        let venue = venue().await;
        let session = start(with_credentials().subaccount(7), config(&venue, owner)).await;
        let channel = deribit::user_orders(BTC, Interval::Raw);
        let mut orders = session.subscribe(channel).await.expect("a subscription");
        venue.inject(Fault::TcpReset);
        let _ = restored(&mut orders).await;
        for connection in [1, 2] {
            assert_eq!(
                behind_greeting(&venue, connection)[..3],
                ["public/auth", "public/exchange_token", "private/subscribe"]
            );
        }
        let summary = session
            .invoke(rpc::account_summary("BTC", Some(true)))
            .await;
        let summary = summary.expect("a summary");
        assert_eq!(
            (summary.id, summary.kind.as_deref()),
            (Some(7), Some("subaccount"))
        );
    }
}

#[tokio::test]
async fn a_subaccount_stays_itself_when_its_token_is_renewed() {
    let life = Duration::from_secs(1);
    let venue = simulator().token_life(life).start().await.expect("a venue");
    let session = start(with_credentials().subaccount(7), config(&venue, OWNERS[1])).await;
    venue
        .wait_for_method("public/auth", 3, LONG)
        .await
        .expect("a second renewal");
    let granted = requests(&venue, 1);
    let renewals = granted
        .iter()
        .filter(|(_, params)| params["grant_type"] == "refresh_token");
    assert_eq!(renewals.count(), 2);
    let summary = session
        .invoke(rpc::account_summary("BTC", Some(true)))
        .await;
    assert_eq!(summary.expect("a summary").id, Some(7));
}

#[tokio::test]
async fn a_fork_that_is_refused_fails_the_start_under_its_name() {
    let venue = venue().await;
    venue.inject(Fault::FailMethod {
        method: "public/fork_token".to_owned(),
        code: 13021,
    });
    let deribit = with_credentials().fork("maker").build().expect("valid");
    let config = config(&venue, OWNERS[1]).build().expect("valid");
    let error = Session::start(deribit, config).await.expect_err("refused");
    assert!(
        matches!(&error, StartError::Refused { step, .. } if step == "public/fork_token"),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_forked_session_is_live_and_private() {
    let venue = venue().await;
    let session = start(with_credentials().fork("maker"), config(&venue, OWNERS[1])).await;
    let asked = requests(&venue, 1);
    let (method, params) = asked.last().expect("a request");
    assert_eq!(
        (method.as_str(), &params["session_name"]),
        ("public/fork_token", &"maker".into())
    );
    assert_eq!(params["refresh_token"], "[redacted]");
    session
        .invoke(rpc::positions("BTC", None))
        .await
        .expect("positions");
}

#[tokio::test]
async fn tokens_can_be_had_exchanged_and_forked_by_hand_and_are_never_shown() {
    let venue = venue().await;
    let session = logged_in(&venue).await;
    let login = Login::credentials("id", "secret");
    let main = session
        .invoke(rpc::authenticate(&login))
        .await
        .expect("tokens");
    let sub = session
        .invoke(rpc::exchange_token(&main.refresh_token, 9))
        .await;
    let sub = sub.expect("the subaccount's");
    let summary = session
        .invoke(rpc::account_summary("BTC", Some(true)))
        .await;
    assert_eq!(summary.expect("a summary").id, Some(9));
    let fork = session
        .invoke(rpc::fork_token(&sub.refresh_token, "side"))
        .await;
    let fork = fork.expect("the fork's");
    assert_eq!(
        (fork.sid.as_deref(), fork.scope.as_str()),
        (Some("side"), "session:side")
    );
    let renewed = Login::refresh(&fork.refresh_token);
    let renewed = session
        .invoke(rpc::authenticate(&renewed))
        .await
        .expect("renewed");
    let shown = format!("{main:?} {sub:?} {fork:?} {renewed:?}");
    for tokens in [&main, &sub, &fork, &renewed] {
        assert!(!shown.contains(tokens.access_token.reveal()));
        assert!(!shown.contains(tokens.refresh_token.reveal()));
    }
}

#[tokio::test]
async fn a_logout_ends_the_session_leaves_the_orders_and_does_not_come_back() {
    for owner in OWNERS {
        let venue = venue().await;
        let deribit = with_credentials().cancel_on_disconnect(Scope::Connection);
        let session = start(deribit, config(&venue, owner)).await;
        let order = NewOrder::limit(BTC, 10.0, 1.0);
        session.invoke(rpc::buy(&order)).await.expect("an order");
        session
            .shutdown_after(rpc::logout(None))
            .await
            .expect("written");
        assert!(matches!(session.state(), SessionState::Ended(_)));
        let ended = |entry: &LogEntry| matches!(entry.event, LogEvent::Ended);
        venue.wait_for(ended, LONG).await.expect("the end");
        assert_eq!((venue.open_orders(), venue.orders_cancelled()), (1, 0));
        assert_eq!(venue.accepted(), 1);
        let asked = requests(&venue, 1);
        assert_eq!(
            asked.last().map(|(method, _)| method.as_str()),
            Some("private/logout")
        );
    }
}

#[tokio::test]
async fn cancel_on_disconnect_of_the_account_is_on_again_after_each_reconnect() {
    let venue = venue().await;
    let deribit = with_credentials().cancel_on_disconnect(Scope::Account);
    let session = start(deribit, config(&venue, OWNERS[1])).await;
    let channel = deribit::ticker(BTC, Interval::Ms100);
    let mut ticker = session.subscribe(channel).await.expect("a subscription");
    for _ in 0..2 {
        let state = session
            .invoke(rpc::cancel_on_disconnect(Some(Scope::Account)))
            .await;
        assert!(state.expect("a state").enabled);
        let other = session.invoke(rpc::cancel_on_disconnect(None)).await;
        assert!(
            !other.expect("a state").enabled,
            "of the connection alone it is not"
        );
        venue.inject(Fault::HangUp);
        let _ = restored(&mut ticker).await;
    }
}

#[tokio::test]
async fn the_venues_clock_is_known_with_its_uncertainty_once_the_session_is_live() {
    let venue = venue().await;
    let an_hour = 3_600_000;
    venue.inject(Fault::SkewClock(-an_hour));
    let session = start(Deribit::builder(), config(&venue, OWNERS[1])).await;
    let time = session.venue_time().expect("a measurement");
    let wrong = (time.offset_micros + an_hour * 1000).unsigned_abs();
    assert!(Duration::from_micros(wrong) <= time.uncertainty, "{time:?}");
    assert!(time.uncertainty <= time.round_trip / 2 + Duration::from_millis(1));
    assert!(time.uncertainty_at(Instant::now() + Duration::from_secs(60)) > time.uncertainty);
    let (ours, theirs) = (SystemTime::now(), Duration::from_secs(3600));
    let apart = ours.duration_since(time.at(ours)).expect("behind");
    assert!(apart.abs_diff(theirs) <= time.uncertainty);
}

#[tokio::test]
async fn the_venues_clock_is_asked_again_while_the_session_is_live() {
    let venue = venue().await;
    let deribit = Deribit::builder().time_sync(Duration::from_secs(1));
    let session = start(deribit, config(&venue, OWNERS[1])).await;
    let first = session.venue_time().expect("a measurement");
    venue.inject(Fault::SkewClock(60_000));
    let time = "public/get_time";
    venue
        .wait_for_method(time, 3, LONG)
        .await
        .expect("a third question");
    let second = session.venue_time().expect("a measurement");
    assert!(second.measured > first.measured);
    assert!(second.offset_micros > 59_000_000, "{second:?}");
}
