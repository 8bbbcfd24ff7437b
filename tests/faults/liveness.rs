//! Silence that is a fault, and silence that is none: what the scripts that mislead watchdogs do to channels that have a
//! cadence.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use mainstay::config::{Calendar, Ladder, Liveness, Overflow, Queue, RateLimits};
use mainstay::testing::faults::{
    FaultOutcome, FaultPlatform, FaultReport, FaultRun, FaultScript, FaultServer, FaultStep,
    FaultWire, Seen,
};
use mainstay::{
    Channel, Client, Event, Frame, MarketSignal, Notice, Rung, Session, SubscribeOptions,
};
use serde_json::json;
use tokio::time::Instant;

use super::script;

fn millis(number: u64) -> Duration {
    Duration::from_millis(number)
}

/// Runs it with channels that bring data every 100 ms at the least, on a ladder of 50 ms.
async fn watched(script: FaultScript) -> FaultReport {
    let name = script.name.clone();
    let ladder = Ladder::default().pause(millis(50));
    let run = FaultRun::new(script, FaultWire::Memory).cadence(millis(100));
    let report = run.configure(|builder| builder.ladder(ladder)).run().await;
    let report = report.expect("a run");
    assert!(report.violations.is_empty(), "{name}: {report}");
    assert_eq!(report.outcome, FaultOutcome::Recovered, "{name}: {report}");
    report
}

fn rungs(report: &FaultReport, channel: &str) -> Vec<Rung> {
    let climbs = report.climbs.iter();
    climbs
        .filter(|(name, _)| name == channel)
        .map(|(_, rung)| *rung)
        .collect()
}

const ALL: [Rung; 4] = [Rung::Stale, Rung::Resubscribe, Rung::Probe, Rung::Reconnect];

#[tokio::test(start_paused = true)]
async fn a_channel_that_is_acked_but_mute_climbs_every_rung_and_is_well_on_another_connection() {
    let report = watched(script("acked_but_mute")).await;
    assert_eq!(rungs(&report, "a"), ALL, "{:?}", report.climbs);
    assert_eq!(rungs(&report, "b"), ALL[..3], "one reconnect is for all");
    assert_eq!(report.accepted, 2);
    for seen in report.seen.values() {
        let gaps = seen.iter().filter_map(|one| match one {
            Seen::Gap { cause, .. } => Some(*cause),
            _ => None,
        });
        assert_eq!(gaps.collect::<Vec<_>>(), ["stale", "mute"], "{seen:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_is_mute_but_ponging_climbs_every_rung() {
    let report = watched(script("mute_but_ponging")).await;
    assert_eq!(rungs(&report, "a"), ALL, "{:?}", report.climbs);
    assert_eq!(report.accepted, 2);
}

#[tokio::test(start_paused = true)]
async fn channels_without_a_cadence_may_be_mute_for_as_long_as_pings_are_answered() {
    for name in ["acked_but_mute", "mute_but_ponging", "market_closed"] {
        let report = super::run(script(name), FaultWire::Memory).await;
        assert_eq!(report.climbs, [], "{name}");
        // The one that the script ends, and the one behind it.
        assert_eq!(report.accepted, 2, "{name}: {report}");
        assert_eq!(report.gaps(), 2, "{name}: one for each channel");
    }
}

#[tokio::test(start_paused = true)]
async fn a_market_that_the_venue_closes_raises_no_alarm_and_nor_does_its_opening() {
    let report = watched(script("market_closed")).await;
    assert_eq!(report.climbs, []);
    assert_eq!(report.accepted, 2, "{report}");
    assert_eq!(report.gaps(), 2, "one for each channel");
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_jumps_raises_no_alarm() {
    let report = watched(script("clock_jump")).await;
    assert_eq!(report.climbs, []);
    assert_eq!(report.accepted, 2, "{report}");
    assert_eq!(report.gaps(), 2, "one for each channel");
}

#[tokio::test(start_paused = true)]
async fn a_laptop_that_slept_raises_no_alarm_before_it_had_time_to_hear() {
    let report = watched(script("suspend")).await;
    // The venue has forgotten it, so the silence is a fault in the end; and is one, rung by rung.
    for channel in ["a", "b"] {
        let climbed = rungs(&report, channel);
        assert_eq!(climbed[..], ALL[..climbed.len()], "{channel}");
    }
    assert_eq!(report.accepted, 2, "{report}");
}

/// When the last message before the night came, and when the first rung after it.
async fn a_night(steps: serde_json::Value) -> (Instant, Instant) {
    let steps: Vec<FaultStep> = serde_json::from_value(steps).expect("steps");
    let script = FaultScript::new("a night", [steps]).expect("playable");
    let server = FaultServer::start(script, FaultWire::Memory).await;
    let server = server.expect("a server");
    // Silence of the line is not what is looked at here.
    let liveness = Liveness::new(Duration::from_secs(15), Duration::from_secs(10));
    let config = server.config().liveness(liveness).build();
    let session = Session::start(FaultPlatform, config.expect("valid")).await;
    let session = session.expect("a session");
    let mut observer = session.observe(64);
    let options = SubscribeOptions::new().cadence(millis(1000));
    let subscription = session.subscribe_with(Channel::<Frame>::new("a"), options);
    let mut subscription = subscription.await.expect("a subscription");
    let mut last = Instant::now();
    loop {
        tokio::select! {
            event = subscription.next() => match event {
                Some(Event::Data(_)) => last = Instant::now(),
                event => panic!("{event:?}"),
            },
            notice = observer.next() => if let Some(Notice::Stale { rung, .. }) = notice {
                assert_eq!(rung, Rung::Stale);
                return (last, Instant::now());
            },
        }
    }
}

#[tokio::test(start_paused = true)]
async fn after_a_night_no_rung_is_climbed_before_a_whole_cadence_of_being_awake() {
    let night = Duration::from_secs(8 * 3600);
    let slept = json!([{ "serve": "1s" }, { "suspend": "8h" }]);
    let jumped = json!([{ "serve": "1s" }, { "clock_jump": "8h" }, { "acked_mute": "1h" }]);
    for steps in [slept, jumped] {
        let (last, first_rung) = a_night(steps.clone()).await;
        let waited = first_rung.duration_since(last).saturating_sub(night);
        assert!(waited >= millis(1000), "{waited:?} of being awake: {steps}");
        assert!(waited < millis(1500), "and then it is told: {waited:?}");
    }
}

/// A venue that does these steps on its first connection, and a session with a channel that is to bring data every
/// second.
async fn venue(
    steps: serde_json::Value,
    ladder: Ladder,
) -> (FaultServer, Session, mainstay::Subscription<Frame>) {
    let steps: Vec<FaultStep> = serde_json::from_value(steps).expect("steps");
    let script = FaultScript::new("a market", [steps]).expect("playable");
    let server = FaultServer::start(script, FaultWire::Memory).await;
    let server = server.expect("a server");
    let config = server
        .config()
        .ladder(ladder)
        .liveness(Liveness::new(millis(900), millis(900)))
        .build()
        .expect("valid");
    let session = Session::start(FaultPlatform, config)
        .await
        .expect("a session");
    let options = SubscribeOptions::new().cadence(millis(1000));
    let channel = Channel::<Frame>::new("a");
    let subscription = session.subscribe_with(channel, options).await;
    (server, session, subscription.expect("a subscription"))
}

fn stale(session: &Session) -> Option<Rung> {
    session.channel_state("a").expect("a channel").stale
}

/// Reads on, and counts messages, until the session has been told of something else.
async fn messages_until_notice(
    subscription: &mut mainstay::Subscription<Frame>,
    observer: &mut mainstay::Observer,
) -> (usize, Notice) {
    let mut messages = 0;
    loop {
        tokio::select! {
            event = subscription.next() => match event {
                Some(Event::Data(_)) => messages += 1,
                event => panic!("{event:?}"),
            },
            notice = observer.next() => return (messages, notice.expect("a notice")),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_market_that_its_calendar_closes_raises_no_alarm_while_the_line_goes_on_being_probed() {
    let minute = |at: SystemTime| at.duration_since(UNIX_EPOCH).expect("now").as_secs() / 60;
    let shown = |minute: u64| format!("{:02}:{:02}", minute / 60 % 24, minute % 60);
    let now = SystemTime::now();
    let (from, to) = (minute(now), minute(now) + 2);
    let closed = format!("daily {} - {}", shown(from), shown(to));
    let closed: Calendar = closed.parse().expect("a calendar");
    let opens = closed.closed_until(now).expect("closed now");
    let opens = opens.duration_since(now).expect("later");
    let mute = u64::try_from(opens.as_millis()).expect("short") + 500;
    let steps = json!([
        { "acked_mute": format!("{mute}ms") },
        { "serve": "10s" },
        { "acked_mute": "1500ms" },
        { "serve": "1h" },
    ]);
    let (server, session, mut subscription) = venue(steps, Ladder::default().closed(closed)).await;
    let mut observer = session.observe(16);
    let (messages, notice) = messages_until_notice(&mut subscription, &mut observer).await;
    assert!(messages > 900, "ten seconds of data, and no alarm before");
    assert!(
        matches!(
            &notice,
            Notice::Stale {
                rung: Rung::Stale,
                ..
            }
        ),
        "{notice:?}"
    );
    assert_eq!(stale(&session), Some(Rung::Stale));
    let (messages, notice) = messages_until_notice(&mut subscription, &mut observer).await;
    assert!(messages > 0, "data came again");
    assert!(matches!(notice, Notice::Fresh { .. }), "{notice:?}");
    assert_eq!(stale(&session), None);
    assert_eq!(server.accepted(), 1);
    let pinged = session.heartbeat_health().round_trip;
    assert!(pinged.is_some(), "silence was probed meanwhile");
}

#[tokio::test(start_paused = true)]
async fn a_market_that_the_program_closes_raises_no_alarm_until_it_is_open_again() {
    let steps = json!([{ "serve": "100ms" }, { "acked_mute": "1h" }]);
    let (server, session, _subscription) = venue(steps, Ladder::default()).await;
    let mut observer = session.observe(16);
    session.market(MarketSignal::Closed { until: None });
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(server.accepted(), 1);
    assert_eq!(stale(&session), None);
    let opened = Instant::now();
    session.market(MarketSignal::Open);
    let notice = observer.next().await.expect("a notice");
    assert!(
        matches!(
            &notice,
            Notice::Stale {
                rung: Rung::Stale,
                ..
            }
        ),
        "{notice:?}"
    );
    assert!(opened.elapsed() >= millis(1000), "not with its opening");
}

/// Nobody is asked for channels there, and nobody confirms them.
#[tokio::test(start_paused = true)]
async fn on_a_bare_connection_a_mute_channel_is_probed_and_each_connection_begins_at_the_foot() {
    let steps = || {
        let steps = json!([{ "acked_mute": "1h" }]);
        serde_json::from_value::<Vec<FaultStep>>(steps).expect("steps")
    };
    let script = FaultScript::new("mute", [steps(), steps()]).expect("playable");
    let server = FaultServer::start(script, FaultWire::Memory).await;
    let server = server.expect("a server");
    let config = server.config().build().expect("valid");
    let session = Client::connect_with(config).await.expect("a session");
    let mut observer = session.observe(64);
    let options = SubscribeOptions::new().cadence(millis(1000));
    let channel = Channel::<Frame>::new("a");
    let _subscription = session.subscribe_with(channel, options).await;
    let mut climbed = Vec::new();
    while climbed.len() < 6 {
        if let Some(Notice::Stale { epoch, rung, .. }) = observer.next().await {
            climbed.push((epoch.as_u64(), rung));
        }
    }
    let foot_to_top = [Rung::Stale, Rung::Probe, Rung::Reconnect];
    let expected = [1, 2].map(|epoch| foot_to_top.map(|rung| (epoch, rung)));
    assert_eq!(climbed, expected.concat());
}

/// What is queued for it stands in a queue that lets nothing in any more.
#[tokio::test(start_paused = true)]
async fn a_subscription_that_has_ended_is_not_taken_for_a_mute_channel() {
    let script: FaultScript = serde_json::from_value(json!({
        "connections": [{ "steps": [{ "serve": "1h" }] }],
    }))
    .expect("a script");
    let server = FaultServer::start(script, FaultWire::Memory).await;
    let server = server.expect("a server");
    let config = server.config().build().expect("valid");
    let session = Session::start(FaultPlatform, config)
        .await
        .expect("a session");
    let mut observer = session.observe(64);
    let queue = Queue::new(1, Overflow::Disconnect);
    let options = SubscribeOptions::from(queue).cadence(millis(1000));
    let channel = Channel::<Frame>::new("a");
    let ended = session.subscribe_with(channel, options).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(server.accepted(), 1);
    drop((ended, session));
    while let Some(notice) = observer.next().await {
        assert!(!matches!(notice, Notice::Stale { .. }), "{notice:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_ladder_can_end_before_the_connection_is_given_up() {
    let steps = json!([{ "serve": "100ms" }, { "acked_mute": "1h" }]);
    let ladder = Ladder::default().resubscribe(false).reconnect(false);
    let (server, session, _subscription) = venue(steps, ladder).await;
    let mut observer = session.observe(64);
    for expected in [Rung::Stale, Rung::Probe] {
        let notice = observer.next().await.expect("a notice");
        assert!(
            matches!(&notice, Notice::Stale { rung, .. } if *rung == expected),
            "{notice:?}"
        );
    }
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(stale(&session), Some(Rung::Probe));
    assert_eq!(server.accepted(), 1);
}

/// The venue has made us rest, and our pings cost: none is written before the rest is over. The peer has not been asked, so
/// that it does not answer is no silence of its.
#[tokio::test(start_paused = true)]
async fn a_ping_that_our_own_limit_holds_up_is_not_held_against_the_peer() {
    let script = json!({
        "every": "19ms",
        "connections": [{ "steps": [{ "http": { "status": 429 } }] }],
        "then": "serve",
    });
    let script = FaultScript::from_json(&script.to_string()).expect("a script");
    let limits = RateLimits::window(29, millis(925))
        .control_cost(1)
        .adaptive(true);
    let run = FaultRun::new(script, FaultWire::Memory);
    let report = run.configure(|builder| builder.rate_limits(limits)).run();
    let report = report.await.expect("a run");
    assert!(report.violations.is_empty(), "{report}");
    assert_eq!(report.accepted, 2, "{report}");
}
