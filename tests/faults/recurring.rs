//! The six bugs that recur in all languages, each as a script: a loop written by hand falls for it, and ours does not.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use mainstay::config::{Config, RateLimits};
use mainstay::error::{RequestError, UnknownCause};
use mainstay::platform::Batch;
use mainstay::protocol::rpc::{Class, Params};
use mainstay::testing::faults::{
    FaultEntry, FaultEntryKind, FaultPlatform, FaultScript, FaultServer, FaultStep, FaultWire,
    check_continuity, run,
};
use mainstay::{Call, Channel, Event, Frame, Platform, Session, Subscription, TypedCall};
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use super::naive::{Habits, Naive, PATIENCE};

fn recurring(name: &str) -> FaultScript {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let path = root.join(format!("tests/faults/recurring/{name}.json"));
    FaultScript::read(path).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// What a venue's connections are made of, and by how much it and the tests of it go faster than written.
#[derive(Clone, Copy)]
struct Setting {
    wire: FaultWire,
    by: u32,
}

const IN_MEMORY: Setting = Setting {
    wire: FaultWire::Memory,
    by: 1,
};

/// In real time, of which there is less.
fn over_sockets(by: u32) -> Setting {
    let wire = FaultWire::Sockets;
    Setting { wire, by }
}

impl Setting {
    fn seconds(self, number: u64) -> Duration {
        seconds(number) / self.by
    }

    /// For how long something is watched: in memory, where it costs nothing, and over sockets.
    fn watch(self, memory: u64, sockets: u64) -> Duration {
        match self.wire {
            FaultWire::Memory => seconds(memory),
            FaultWire::Sockets => seconds(sockets),
        }
    }

    fn script(self, name: &str) -> FaultScript {
        let mut script = recurring(name);
        script.every /= self.by;
        if let Some(limit) = &mut script.limit {
            limit.per /= self.by;
            limit.ban /= self.by;
        }
        for step in script.connections.iter_mut().flat_map(|one| &mut one.steps) {
            if let FaultStep::Serve(time) | FaultStep::Silence(time) | FaultStep::Mute(time) = step
            {
                *time /= self.by;
            }
        }
        script
    }

    async fn venue(self, name: &str) -> FaultServer {
        let server = FaultServer::start(self.script(name), self.wire).await;
        server.expect("a venue")
    }

    fn habits(self, channels: Vec<String>) -> Habits {
        Habits {
            channels,
            pause: Duration::ZERO,
            unread: None,
            patience: PATIENCE / self.by,
        }
    }

    /// The venue's limit of five requests in a second. What is sent in time comes in time only in memory.
    fn limit(self) -> RateLimits {
        let margin = match self.wire {
            FaultWire::Memory => 10,
            FaultWire::Sockets => 13,
        };
        RateLimits::window(5, self.seconds(1) * margin / 10)
    }
}

fn seconds(number: u64) -> Duration {
    Duration::from_secs(number)
}

fn names(count: usize) -> Vec<String> {
    let names = (0..count).map(|number| format!("c{number}"));
    names.collect()
}

/// A venue that wants to be asked for one channel at a time.
#[derive(Debug)]
struct OneByOne;

impl Platform for OneByOne {
    fn name(&self) -> &str {
        "one by one"
    }

    fn subscribe(&self, channels: &[Arc<str>]) -> Vec<Batch> {
        let each = channels.iter().map(|channel| {
            let call = Call::new("subscribe", &json!({ "channels": [**channel] }));
            Batch::new(call.expect("json"), vec![Arc::clone(channel)])
        });
        each.collect()
    }
}

/// Subscribes to all of them, and reads them for ever.
async fn subscribe_to_all(session: &Session, names: &[String]) {
    let subscribing = names
        .iter()
        .map(|name| session.subscribe(Channel::<Frame>::new(name.as_str())));
    for subscription in join_all(subscribing).await {
        let mut subscription: Subscription<Frame> = subscription.expect("a subscription");
        tokio::spawn(async move { while subscription.next().await.is_some() {} });
    }
}

pub(super) fn punished(log: &[FaultEntry]) -> usize {
    let punished = log
        .iter()
        .filter(|entry| entry.kind == FaultEntryKind::Punished);
    punished.count()
}

/// The most channels that were subscribed to on one connection.
pub(super) fn most_restored(log: &[FaultEntry]) -> usize {
    let mut each = BTreeMap::<u64, usize>::new();
    for entry in log {
        if let FaultEntryKind::Subscribed { .. } = entry.kind {
            *each.entry(entry.connection).or_default() += 1;
        }
    }
    each.into_values().max().unwrap_or(0)
}

async fn a_backoff_that_opening_resets_knocks_hundreds_of_times_and_ours_a_handful(
    setting: Setting,
) {
    let server = setting.venue("backoff_reset_by_open").await;
    let naive = Naive::start(&server, setting.habits(names(1)));
    sleep(setting.seconds(5)).await;
    drop(naive);
    let hundreds = match setting.wire {
        FaultWire::Memory => 200,
        // Each takes its time there.
        FaultWire::Sockets => 40,
    };
    assert!(server.accepted() > hundreds, "{}", server.accepted());

    let server = setting.venue("backoff_reset_by_open").await;
    let config = server.config().retry_first(true).build().expect("valid");
    let living = async {
        let session = Session::start(FaultPlatform, config)
            .await
            .expect("it goes on");
        session.ended().await
    };
    assert!(
        timeout(setting.seconds(5), living).await.is_err(),
        "it goes on"
    );
    let accepted = server.accepted();
    assert!((2..20).contains(&accepted), "{accepted}");
}

async fn late_events_of_an_old_socket_reach_a_loop_and_not_a_session(setting: Setting) {
    let server = setting.venue("late_events_of_an_old_socket").await;
    let naive = Naive::start(&server, setting.habits(vec!["a".to_owned()]));
    sleep(setting.seconds(4)).await;
    let violations = check_continuity(&server.log(), "a", &naive.story());
    assert!(
        !violations.is_empty(),
        "it took the old socket's words for the new one's"
    );
    assert!(
        server.accepted() > 2,
        "it took the old socket's end for the new one's"
    );

    let script = setting.script("late_events_of_an_old_socket");
    let report = run(&script, setting.wire).await.expect("a run");
    assert!(report.violations.is_empty(), "{report}");
    assert_eq!(report.accepted, 2, "{report}");
}

async fn a_restore_burst_is_banned_for_ever_and_ours_never(setting: Setting) {
    const CHANNELS: usize = 20;
    let server = setting.venue("restore_burst_against_the_limit").await;
    let naive = Naive::start(&server, setting.habits(names(CHANNELS)));
    sleep(setting.watch(60, 8)).await;
    drop(naive);
    let log = server.log();
    assert!(punished(&log) > 2, "{}", punished(&log));
    assert!(most_restored(&log) < CHANNELS);

    let server = setting.venue("restore_burst_against_the_limit").await;
    let config = server
        .config()
        .rate_limits(setting.limit())
        .request_timeout(seconds(30));
    let session = start(config).await;
    subscribe_to_all(&session, &names(CHANNELS)).await;
    sleep(setting.watch(60, 8)).await;
    let log = server.log();
    assert_eq!(punished(&log), 0);
    let restored = log.iter().filter(|entry| {
        entry.connection == 2 && matches!(entry.kind, FaultEntryKind::Subscribed { .. })
    });
    assert_eq!((server.accepted(), restored.count()), (2, CHANNELS));
}

async fn a_restore_whose_pause_doubles_never_converges_and_ours_does(setting: Setting) {
    const CHANNELS: usize = 60;
    let server = setting.venue("restore_that_never_converges").await;
    let pause = Duration::from_millis(250) / setting.by;
    let naive = Naive::start(
        &server,
        Habits {
            pause,
            ..setting.habits(names(CHANNELS))
        },
    );
    sleep(setting.watch(300, 12)).await;
    drop(naive);
    let restored = most_restored(&server.log());
    assert!(restored < CHANNELS, "{restored}");

    let server = setting.venue("restore_that_never_converges").await;
    let config = server
        .config()
        .rate_limits(setting.limit())
        .request_timeout(seconds(60));
    let session = start(config).await;
    subscribe_to_all(&session, &names(CHANNELS)).await;
    // Each has been confirmed once by now, and soon all of them are on one connection.
    sleep(setting.watch(30, 8)).await;
    assert_eq!(most_restored(&server.log()), CHANNELS);
    assert!(server.accepted() <= 5, "{}", server.accepted());
    assert_eq!(punished(&server.log()), 0);
}

async fn start(config: mainstay::config::ConfigBuilder) -> Session {
    let config: Config = config.build().expect("valid");
    Session::start(OneByOne, config).await.expect("a session")
}

async fn a_request_without_an_answer_never_settles_in_a_loop_and_is_told_its_fate_by_ours(
    setting: Setting,
) {
    let order = json!({ "order": 1 });
    let server = setting.venue("requests_that_never_settle").await;
    let mut naive = Naive::start(&server, setting.habits(names(1)));
    let settled = timeout(setting.watch(60, 3), naive.request("order", order.clone())).await;
    assert!(settled.is_err(), "{settled:?}");

    let server = setting.venue("requests_that_never_settle").await;
    let config = server.config().build().expect("valid");
    let session = Session::start(FaultPlatform, config)
        .await
        .expect("a session");
    let params = Params::whole(&order);
    let call: TypedCall<Value> = TypedCall::new("order", params, Class::AtMostOnce);
    let settled = timeout(seconds(2), session.invoke(call)).await;
    let error = settled.expect("it is told at once").expect_err("no answer");
    assert!(
        matches!(
            error,
            RequestError::Unknown {
                cause: UnknownCause::ConnectionLost(_),
                ..
            }
        ),
        "{error:?}"
    );
}

async fn a_consumer_that_does_not_read_stalls_a_loop_and_of_ours_only_itself(setting: Setting) {
    let channels = ["a", "b"].map(str::to_owned).to_vec();
    let server = setting.venue("one_slow_consumer_stalls_all").await;
    let mut naive = Naive::start(
        &server,
        Habits {
            unread: Some("a"),
            ..setting.habits(channels)
        },
    );
    timeout(seconds(5), naive.request("flood", json!({})))
        .await
        .expect("answered before the flood");
    let answered = timeout(setting.watch(60, 3), naive.request("time", json!({}))).await;
    assert!(answered.is_err(), "{answered:?}");

    let server = setting.venue("one_slow_consumer_stalls_all").await;
    let config = server.config().build().expect("valid");
    let session = Session::start(FaultPlatform, config)
        .await
        .expect("a session");
    let _unread = session
        .subscribe(Channel::<Frame>::new("a"))
        .await
        .expect("a");
    let other = session.subscribe(Channel::<Frame>::new("b"));
    let mut other = other.await.expect("b");
    let reading = tokio::spawn(async move {
        for _ in 0..6000 {
            let event = other.next().await;
            assert!(matches!(event, Some(Event::Data(_))), "{event:?}");
        }
    });
    for method in ["flood", "time"] {
        let _: Value = session.request(method, &json!({})).await.expect("answered");
    }
    timeout(seconds(5), reading)
        .await
        .expect("in time")
        .expect("whole");
    assert!(session.state().is_live());
    assert_eq!(server.accepted(), 1);
}

/// Each of them in memory, and over sockets faster by that much.
macro_rules! either_way {
    ($($name:ident $by:literal,)*) => {
        mod in_memory {
            $(#[tokio::test(start_paused = true)]
            async fn $name() {
                super::$name(super::IN_MEMORY).await;
            })*
        }

        mod over_sockets {
            $(#[tokio::test]
            async fn $name() {
                super::$name(super::over_sockets($by)).await;
            })*
        }
    };
}

either_way! {
    a_backoff_that_opening_resets_knocks_hundreds_of_times_and_ours_a_handful 1,
    late_events_of_an_old_socket_reach_a_loop_and_not_a_session 1,
    a_restore_burst_is_banned_for_ever_and_ours_never 5,
    a_restore_whose_pause_doubles_never_converges_and_ours_does 5,
    a_request_without_an_answer_never_settles_in_a_loop_and_is_told_its_fate_by_ours 1,
    a_consumer_that_does_not_read_stalls_a_loop_and_of_ours_only_itself 1,
}
