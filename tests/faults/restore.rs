//! Restoring converges: over a link that never lives for long, under a limit, with what the venue refuses.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use mainstay::config::RateLimits;
use mainstay::platform::Batch;
use mainstay::testing::faults::{FaultScript, FaultServer, FaultWire};
use mainstay::{Call, Channel, ChannelStatus, Frame, Platform, Session};
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::recurring::{most_restored, punished};

/// A venue that takes a hundred channels in one request.
#[derive(Debug)]
struct ByTheHundred;

impl Platform for ByTheHundred {
    fn name(&self) -> &str {
        "by the hundred"
    }

    fn subscribe(&self, channels: &[Arc<str>]) -> Vec<Batch> {
        let each = channels.chunks(100).map(|channels| {
            let names: Vec<&str> = channels.iter().map(|name| &**name).collect();
            let call = Call::new("subscribe", &json!({ "channels": names }));
            Batch::new(call.expect("json"), channels.to_vec())
        });
        each.collect()
    }
}

fn confirmed(session: &Session) -> usize {
    let states = session.channel_states().into_iter();
    states
        .filter(|state| state.status == ChannelStatus::Confirmed)
        .count()
}

#[tokio::test(start_paused = true)]
async fn five_thousand_subscriptions_converge_over_a_link_that_dies_every_19_seconds() {
    const CHANNELS: usize = 5000;
    let script = json!({
        "every": "1h",
        "limit": { "requests": 5, "per": "1s", "punish": { "close": 1008 }, "ban": "1m" },
        "connections": [{ "steps": [{ "serve": "19s" }, "reset"] }],
        "then": "repeat_last",
    });
    let script = FaultScript::from_json(&script.to_string()).expect("a script");
    let venue = FaultServer::start(script, FaultWire::Memory)
        .await
        .expect("a venue");
    let config = venue
        .config()
        .rate_limits(RateLimits::window(5, Duration::from_secs(1)))
        .request_timeout(Duration::from_secs(600))
        .build()
        .expect("valid");
    let session = Session::start(ByTheHundred, config)
        .await
        .expect("a session");
    let names: Vec<String> = (0..CHANNELS).map(|number| format!("c{number}")).collect();
    let subscribing = names
        .iter()
        .map(|name| session.subscribe(Channel::<Frame>::new(name.as_str())));
    let began = Instant::now();
    let subscriptions: Vec<_> = join_all(subscribing).await;
    assert!(subscriptions.iter().all(Result::is_ok));
    assert!(
        began.elapsed() < Duration::from_secs(60),
        "{:?}",
        began.elapsed()
    );

    // On the next connection it is seen to come on, and comes to its end.
    let mut state = session.watch();
    let lost = state.wait_for(|state| !state.is_live());
    lost.await.expect("a session");
    assert_eq!(confirmed(&session), 0, "every confirmation is void");
    let mut seen = vec![0];
    while seen.last() != Some(&CHANNELS) {
        sleep(Duration::from_millis(500)).await;
        seen.push(confirmed(&session));
        assert!(seen.len() < 36, "it does not come to its end: {seen:?}");
    }
    assert!(seen.is_sorted(), "{seen:?}");
    let steps: Vec<usize> = seen
        .iter()
        .copied()
        .filter(|one| (1..CHANNELS).contains(one))
        .collect();
    assert!(steps.len() > 10, "progress is seen: {seen:?}");
    assert_eq!(most_restored(&venue.log()), CHANNELS);
    assert_eq!(punished(&venue.log()), 0);
}
