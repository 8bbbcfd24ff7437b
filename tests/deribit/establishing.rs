//! From nothing to live: refusals on the way, TLS, and a cut between any two steps.

use std::time::Duration;

use mainstay::adapters::deribit::rpc::Locked;
use mainstay::adapters::deribit::{self, Deribit, DeribitBuilder, Interval, Scope, WhenLocked};
use mainstay::config::{PhaseLimits, Tls};
use mainstay::error::{ConnectError, Recovery, StartError};
use mainstay::testing::deribit::{DeribitSimulator, Fault, LogEvent};
use mainstay::{Config, Session};
use tokio::time::Instant;

use crate::{
    BTC, LONG, OWNERS, config, data, gap, logged_in, methods, restored, simulator, start, venue,
    with_credentials,
};

/// Every request that leads to a live session with a private subscription.
const STEPS: [&str; 7] = [
    "public/hello",
    "public/get_time",
    "public/status",
    "public/set_heartbeat",
    "public/auth",
    "private/enable_cancel_on_disconnect",
    "private/subscribe",
];

/// Takes all of [`STEPS`].
fn thorough() -> DeribitBuilder {
    with_credentials()
        .client("tests", "1")
        .cancel_on_disconnect(Scope::Connection)
}

fn refusal(status: u16, retry_after: Option<&str>, times: u32) -> Fault {
    let headers = retry_after.map(|seconds| ("Retry-After".to_owned(), seconds.to_owned()));
    Fault::RefuseUpgrade {
        status,
        headers: headers.into_iter().collect(),
        body: String::new(),
        times,
    }
}

#[tokio::test]
async fn every_step_is_taken_in_its_order() {
    let venue = venue().await;
    let session = start(thorough(), config(&venue, OWNERS[1])).await;
    let channel = deribit::user_orders(BTC, Interval::Raw);
    let mut orders = session.subscribe(channel).await.expect("a subscription");
    let _ = data(&mut orders).await;
    assert_eq!(methods(&venue, 1), STEPS);
}

#[tokio::test]
async fn a_cut_at_any_step_leads_to_another_attempt_that_comes_live() {
    for owner in OWNERS {
        let venue = venue().await;
        let session = start(thorough(), config(&venue, owner)).await;
        let channel = deribit::user_orders(BTC, Interval::Raw);
        let mut orders = session.subscribe(channel).await.expect("a subscription");
        for step in STEPS {
            let asked = venue.log().len();
            // The answer to the step never comes, so that the cut is between it and the next one.
            venue.inject(Fault::IgnoreMethod(step.to_owned()));
            venue.inject(Fault::HangUp);
            let _ = gap(&mut orders).await;
            let mut seen = 0;
            let cut = venue.wait_for(
                |entry| {
                    seen += 1;
                    seen > asked && entry.method() == Some(step)
                },
                LONG,
            );
            let cut = cut.await.expect("the step").connection;
            venue.inject(Fault::Heal);
            venue.inject_on(cut, Fault::TcpReset);
            let _ = again(&mut orders).await;
        }
        assert_eq!(venue.most_open_connections(), 1);
    }
}

/// Awaits data behind the end of a gap that has been seen.
async fn again<M: mainstay::Message + std::fmt::Debug>(
    subscription: &mut mainstay::Subscription<M>,
) -> mainstay::Data<M> {
    let _ = crate::resynced(subscription).await;
    data(subscription).await
}

#[tokio::test]
async fn an_answer_that_does_not_come_at_any_step_leads_to_another_attempt_that_comes_live() {
    for step in &STEPS[..6] {
        let venue = venue().await;
        venue.inject(Fault::IgnoreMethod((*step).to_owned()));
        let mut limits = PhaseLimits::default();
        limits.auth = Duration::from_secs(1);
        let config = config(&venue, OWNERS[1]).limits(limits).retry_first(true);
        let (session, ()) = tokio::join!(start(thorough(), config), async {
            venue
                .wait_for_method(step, 2, LONG)
                .await
                .expect("another attempt");
            venue.inject(Fault::Heal);
        });
        assert!(session.state().is_live(), "{step}");
        assert_eq!(venue.most_open_connections(), 1);
    }
}

#[tokio::test]
async fn a_passing_error_at_any_step_leads_to_another_attempt_that_comes_live() {
    /// temporarily_unavailable
    const PASSING: i64 = 13028;
    for step in &STEPS[..6] {
        let venue = venue().await;
        venue.inject(Fault::FailMethod {
            method: (*step).to_owned(),
            code: PASSING,
        });
        let config = config(&venue, OWNERS[1]).retry_first(true);
        let (session, ()) = tokio::join!(start(thorough(), config), async {
            venue
                .wait_for_method(step, 3, LONG)
                .await
                .expect("another attempt");
            venue.inject(Fault::Heal);
        });
        assert!(session.state().is_live(), "{step}");
        assert_eq!(venue.most_open_connections(), 1);
    }
}

#[tokio::test]
async fn a_start_that_the_venue_refuses_for_now_says_that_it_may_be_tried_later() {
    // too_many_requests, system_maintenance, temporarily_unavailable
    for (code, recovery) in [
        (10028, Recovery::RetryAfter(Duration::from_secs(5))),
        (11051, Recovery::RetryAfter(Duration::from_secs(30))),
        (13028, Recovery::Retry),
    ] {
        let venue = venue().await;
        venue.inject(Fault::FailMethod {
            method: "public/auth".to_owned(),
            code,
        });
        let deribit = with_credentials().build().expect("valid");
        let config = config(&venue, OWNERS[1]).build().expect("valid");
        let error = Session::start(deribit, config).await.expect_err("refused");
        assert!(matches!(error, StartError::Refused { .. }), "{error:?}");
        assert_eq!(error.recovery(), recovery, "{code}");
    }
}

#[tokio::test]
async fn too_many_requests_while_logging_in_is_waited_out() {
    let venue = venue().await;
    let session = logged_in(&venue).await;
    venue.inject(Fault::FailMethod {
        method: "public/auth".to_owned(),
        code: 10028,
    });
    venue.inject(Fault::HangUp);
    let refused = venue.wait_for(
        |entry| {
            matches!(
                entry.event,
                LogEvent::Request {
                    error: Some(10028),
                    ..
                }
            )
        },
        LONG,
    );
    let refused = refused.await.expect("a refusal");
    venue.inject(Fault::Heal);
    let opened = venue.wait_for(
        |entry| entry.connection > refused.connection && matches!(entry.event, LogEvent::Opened),
        LONG,
    );
    let opened = opened.await.expect("another attempt");
    // The venue's credits need five seconds.
    assert!(opened.at - refused.at >= Duration::from_millis(4900));
    session.live().await.expect("live");
    assert_eq!(venue.accepted(), 3, "no attempt in between");
    assert_eq!(venue.most_open_connections(), 1);
}

#[tokio::test]
async fn retry_after_is_a_floor_under_the_next_attempt() {
    for owner in OWNERS {
        let venue = venue().await;
        let session = start(with_credentials(), config(&venue, owner)).await;
        let channel = deribit::ticker(BTC, Interval::Ms100);
        let mut ticker = session.subscribe(channel).await.expect("a subscription");
        venue.inject(refusal(429, Some("1"), 1));
        let cut = Instant::now();
        venue.inject(Fault::HangUp);
        let _ = restored(&mut ticker).await;
        let opened = venue.wait_for(|entry| entry.connection == 3, LONG).await;
        let waited = opened.expect("a third connection").at - cut;
        assert!(waited >= Duration::from_secs(1), "{waited:?}");
        assert_eq!(venue.accepted(), 3, "one attempt was refused");
        assert_eq!(venue.most_open_connections(), 1);
    }
}

#[tokio::test]
async fn a_gateway_that_is_away_is_tried_again() {
    for owner in OWNERS {
        let venue = venue().await;
        let session = start(with_credentials(), config(&venue, owner)).await;
        let channel = deribit::ticker(BTC, Interval::Ms100);
        let mut ticker = session.subscribe(channel).await.expect("a subscription");
        for status in [502, 503, 504] {
            venue.inject(refusal(status, None, 2));
        }
        venue.inject(Fault::HangUp);
        let _ = restored(&mut ticker).await;
        assert_eq!(venue.accepted(), 8);
        assert_eq!(venue.most_open_connections(), 1);
    }
}

async fn behind_tls() -> DeribitSimulator {
    simulator().tls(true).start().await.expect("a venue")
}

#[tokio::test]
async fn a_venue_behind_tls_is_reached_with_its_authority() {
    let venue = behind_tls().await;
    let authority = venue.ca_certificate_pem().expect("an authority").to_owned();
    let config = config(&venue, OWNERS[1]).tls(Tls::only(authority));
    let session = start(with_credentials(), config).await;
    let channel = deribit::book(BTC, Interval::Ms100);
    let mut book = session.subscribe(channel).await.expect("a subscription");
    venue.inject(Fault::TcpReset);
    let _ = restored(&mut book).await;
}

#[tokio::test]
async fn a_venue_whose_authority_is_not_trusted_is_refused_at_once() {
    let venue = behind_tls().await;
    let other = behind_tls().await;
    let stranger = other.ca_certificate_pem().expect("an authority").to_owned();
    let config = Config::builder(venue.url())
        .tls(Tls::only(stranger))
        .build();
    let error = Session::start(Deribit::new(), config.expect("valid"))
        .await
        .expect_err("a stranger");
    assert!(
        matches!(error, StartError::Connect(ConnectError::Certificate { .. })),
        "{error:?}"
    );
    assert_eq!(error.recovery(), Recovery::Stop);
    assert_eq!(venue.accepted(), 1);
}

#[tokio::test]
async fn the_step_that_fails_gives_its_name_to_the_error() {
    for step in &STEPS[..6] {
        let venue = venue().await;
        venue.inject(Fault::FailMethod {
            method: (*step).to_owned(),
            code: 11050,
        });
        let deribit = thorough().build().expect("valid");
        let config = config(&venue, OWNERS[1]).build().expect("valid");
        let error = Session::start(deribit, config).await.expect_err("refused");
        let StartError::Refused { step: named, .. } = &error else {
            panic!("{error:?}");
        };
        let expected = match *step {
            "public/auth" => "authenticate",
            step => step,
        };
        assert_eq!(named, expected);
        let asked = methods(&venue, 1);
        assert_eq!(
            asked.last().map(String::as_str),
            Some(*step),
            "nothing after it"
        );
    }
}

#[tokio::test]
async fn a_platform_that_is_locked_fails_the_start_and_names_the_step() {
    let venue = venue().await;
    venue.inject(Fault::LockPlatform { partly: false });
    let deribit = with_credentials().build().expect("valid");
    let config = config(&venue, OWNERS[1]).build().expect("valid");
    let error = Session::start(deribit, config).await.expect_err("locked");
    assert!(
        matches!(&error, StartError::Refused { step, detail, .. }
            if step == "public/status" && detail.contains("locked")),
        "{error:?}"
    );
    let pause = Duration::from_secs(30);
    assert_eq!(error.recovery(), Recovery::RetryAfter(pause));
}

#[tokio::test]
async fn a_platform_that_is_locked_in_part_or_for_listeners_only_stops_nobody() {
    for (partly, deribit) in [
        (true, with_credentials()),
        (false, Deribit::builder()),
        (false, with_credentials().when_locked(WhenLocked::Proceed)),
    ] {
        let venue = venue().await;
        venue.inject(Fault::LockPlatform { partly });
        let session = start(deribit, config(&venue, OWNERS[1])).await;
        let status = session.invoke(deribit::rpc::status()).await;
        let expected = match partly {
            true => Locked::Partly,
            false => Locked::Wholly,
        };
        assert_eq!(status.expect("a status").locked, expected);
    }
}
