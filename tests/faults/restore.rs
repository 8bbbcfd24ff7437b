//! Restoring converges: over a link that never lives for long, under a limit, with what the venue refuses.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use mainstay::config::RateLimits;
use mainstay::platform::Batch;
use mainstay::testing::faults::{FaultEntryKind, FaultScript, FaultServer, FaultWire};
use mainstay::{Call, Channel, ChannelStatus, Frame, Platform, Session};
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::recurring::{most_restored, punished};

/// A venue that takes so many channels in one request, and those that it does not have one by one.
#[derive(Debug)]
struct Portions(usize);

/// How the names of channels begin that the venue does not have.
const NEVER: &str = "never";

impl Platform for Portions {
    fn name(&self) -> &str {
        "portions"
    }

    fn subscribe(&self, channels: &[Arc<str>]) -> Vec<Batch> {
        let (never, others): (Vec<Arc<str>>, Vec<Arc<str>>) = channels
            .iter()
            .cloned()
            .partition(|name| name.starts_with(NEVER));
        let each = never
            .chunks(1)
            .chain(others.chunks(self.0))
            .map(|channels| {
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
    let session = Session::start(Portions(100), config)
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

/// The channels that each connection was asked for and has confirmed.
fn asked_for(venue: &FaultServer) -> BTreeMap<u64, BTreeSet<String>> {
    let mut each = BTreeMap::<u64, BTreeSet<String>>::new();
    for entry in venue.log() {
        if let FaultEntryKind::Subscribed { channel } = entry.kind {
            each.entry(entry.connection).or_default().insert(channel);
        }
    }
    each
}

/// A pass takes 25 seconds and a connection lives for 19, so that no connection ever has all channels: what is cut goes on
/// where it was cut, and every channel has its turn.
#[tokio::test(start_paused = true)]
async fn passes_that_are_longer_than_any_connection_lives_leave_no_channel_out() {
    const CHANNELS: usize = 5000;
    let script = json!({
        "every": "1h",
        "limit": { "requests": 5, "per": "1s", "punish": { "close": 1008 }, "ban": "1m" },
        "connections": [{ "steps": [
            { "deny": { "code": 11050, "message": "no such channel", "about": NEVER } },
            { "serve": "19s" },
            "reset",
        ] }],
        "then": "repeat_last",
    });
    let script = FaultScript::from_json(&script.to_string()).expect("a script");
    let venue = FaultServer::start(script, FaultWire::Memory).await;
    let venue = venue.expect("a venue");
    let config = venue
        .config()
        .rate_limits(RateLimits::window(5, Duration::from_secs(1)))
        .request_timeout(Duration::from_secs(600))
        .build()
        .expect("valid");
    let session = Session::start(Portions(40), config).await;
    let session = session.expect("a session");
    let never = (0..3).map(|number| format!("{NEVER}{number}"));
    let names = (0..CHANNELS).map(|number| format!("c{number}"));
    let names: Vec<String> = names.chain(never).collect();
    let began = Instant::now();
    let channels = names
        .iter()
        .map(|name| Channel::<Frame>::new(name.as_str()));
    let subscribed = session.subscribe_all(channels).await;
    let mut subscriptions = Vec::new();
    for (name, subscribed) in names.iter().zip(subscribed) {
        match subscribed {
            Ok(subscription) => subscriptions.push(subscription),
            Err(error) => {
                assert!(name.starts_with(NEVER), "{name}: {error}");
                assert!(error.to_string().contains("no such channel"), "{error}");
            }
        }
    }
    assert_eq!(subscriptions.len(), CHANNELS, "a refusal is one channel's");
    let took = began.elapsed();
    assert!(took < Duration::from_secs(45), "{took:?}");

    sleep(Duration::from_secs(10 * 19)).await;
    assert_eq!(punished(&venue.log()), 0);
    let each = asked_for(&venue);
    let lives: Vec<&BTreeSet<String>> = each.values().collect();
    // The last one may live still.
    let whole = &lives[..lives.len() - 1];
    assert!(whole.len() > 8, "{}", whole.len());
    for two in whole.windows(2) {
        let (one, next) = (two[0], two[1]);
        assert!(one.len() < CHANNELS, "no pass comes to its end");
        assert!(one.len() > CHANNELS / 2, "no life is wasted: {}", one.len());
        let both = one.union(next).count();
        assert_eq!(both, CHANNELS, "of two connections one has each channel");
    }
    let denied = venue
        .log()
        .into_iter()
        .filter_map(|entry| match entry.kind {
            FaultEntryKind::Received { text } if text.contains(NEVER) => Some(text),
            _ => None,
        });
    assert_eq!(
        denied.count(),
        3,
        "what is refused for good is not asked for again"
    );
}
