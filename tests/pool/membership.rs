//! Coming in, leaving, being made anew, and the end of all.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use mainstay::config::{RateLimits, Record, Settings};
use mainstay::error::{AddError, EndReason, PoolError, StartError};
use mainstay::platform::{JsonRpc, Platform};
use mainstay::pool::{Pool, PoolSpec};
use mainstay::supervisors::{Intensity, ShutdownPlan, Strategy, SupervisorSpec};
use mainstay::telemetry::{Collector, TelemetryEvent};
use mainstay::testing::{Handshake, ReceivedKind, Script};
use mainstay::{Limiter, Session, SessionSpec, SessionState};

use crate::kit::{
    LONG, answer, builder, config, exhaust, in_time, mute, named, order, pool_of, read, scripted,
};

async fn empty() -> Pool {
    Pool::start(PoolSpec::new()).await.expect("a pool")
}

#[tokio::test]
async fn a_session_that_cannot_connect_is_refused_with_its_cause_and_its_endpoint() {
    let server = scripted([Script::refuse(401, &[], "no entry"), Script::new()]).await;
    let pool = empty().await;
    let error = pool.add("a", JsonRpc, config(&server)).await;
    let error = error.expect_err("refused");
    assert!(
        matches!(
            &error,
            AddError::NotLive {
                source: StartError::Connect(_),
                ..
            }
        ),
        "{error:?}"
    );
    let text = error.to_string();
    assert!(text.contains(&server.url()), "{text}");
    assert!(pool.ids().is_empty());
    // The id is free again.
    pool.add("a", JsonRpc, config(&server)).await.expect("live");
}

#[tokio::test]
async fn a_session_that_is_not_live_in_time_is_given_up_and_leaves_nothing() {
    let silent = Script::new().handshake(Handshake::Silent);
    let server = scripted([silent]).await;
    let limit = Duration::from_millis(200);
    let config = builder(&server)
        .start_timeout(limit)
        .build()
        .expect("valid");
    let pool = empty().await;
    let added = in_time(pool.add("a", JsonRpc, config)).await;
    let error = added.expect_err("silence");
    assert!(
        matches!(
            &error,
            AddError::NotLive {
                source: StartError::Timeout(_),
                ..
            }
        ),
        "{error:?}"
    );
    assert!(pool.registry().is_empty());
    let tree = pool.tree().await.expect("a tree");
    assert_eq!(tree.children.len(), 0);
}

#[tokio::test]
async fn an_add_whose_future_is_dropped_leaves_nothing() {
    let silent = Script::new().handshake(Handshake::Silent);
    let server = scripted([silent, Script::new()]).await;
    let pool = empty().await;
    tokio::select! {
        _ = pool.add("a", JsonRpc, config(&server)) => panic!("nobody answers"),
        _ = in_time(server.wait_for("a connection", LONG, |entry| {
            matches!(entry.kind, ReceivedKind::Accepted)
        })) => {}
    }
    assert!(pool.registry().is_empty());
    let ended =
        |entry: &mainstay::testing::Received| matches!(entry.kind, ReceivedKind::Ended { .. });
    server
        .wait_for("its end", LONG, ended)
        .await
        .expect("ended");
    pool.add("a", JsonRpc, config(&server)).await.expect("live");
}

#[tokio::test]
async fn an_id_has_one_session_at_a_time() {
    let server = named("a").await;
    let pool = empty().await;
    pool.add("a", JsonRpc, config(&server)).await.expect("live");
    let error = pool.add("a", JsonRpc, config(&server)).await;
    let error = error.expect_err("in use");
    assert!(matches!(error, AddError::Duplicate(_)), "{error:?}");
    assert_eq!(server.connections(), 1, "the second has not even tried");
    assert!(pool.remove("a").await);
    assert!(!pool.remove("a").await);
    pool.connect("a", config(&server)).await.expect("live");
    assert_eq!(pool.invoke(read()).await.expect("an answer"), "a");
}

#[tokio::test]
async fn a_session_whose_tree_gives_up_is_made_anew_under_its_id() {
    let a = named("a").await;
    let pool = pool_of(PoolSpec::new(), &[&a]).await;
    let first = pool.session("a").expect("it was added");
    exhaust(&first).await;
    assert!(matches!(first.ended().await, EndReason::Exhausted(_)));
    // Between the two nobody is live, and the request waits.
    assert_eq!(in_time(pool.invoke(read())).await.expect("an answer"), "a");
    let second = pool.session("a").expect("the same id");
    assert!(second.state().is_live());
    assert_eq!(pool.ids().len(), 1);
}

#[tokio::test]
async fn a_session_whose_supervisor_is_killed_says_so_and_is_made_anew() {
    let a = named("a").await;
    let (pool, child) = Pool::supervised("pool", PoolSpec::new());
    let root = SupervisorSpec::new(Strategy::OneForOne).child(child);
    let root = root.start().await.expect("a tree");
    let first = pool.add("a", JsonRpc, config(&a)).await.expect("live");
    let pools = root.cell().get_children();
    let sessions = pools[0].get_children();
    assert_eq!((pools.len(), sessions.len()), (1, 1));
    sessions[0].kill();
    let end = in_time(first.ended()).await;
    assert!(
        matches!(&end, EndReason::Exhausted(why) if why == "killed"),
        "{end:?}"
    );
    assert_eq!(in_time(pool.invoke(read())).await.expect("an answer"), "a");
    let second = pool.session("a").expect("the same id");
    pool.shutdown().await;
    root.shutdown(ShutdownPlan::within(LONG)).await;
    let end = in_time(second.ended()).await;
    assert!(matches!(end, EndReason::Shutdown), "{end:?}");
}

/// The names of the sessions whose connections have opened.
#[derive(Debug, Default)]
struct Opened(Mutex<Vec<String>>);

impl Collector for Opened {
    fn on_event(&self, session: &str, event: &TelemetryEvent<'_>) {
        if let TelemetryEvent::Opened { .. } = event {
            let mut all = self.0.lock().expect("nobody panics");
            all.push(session.to_owned());
        }
    }
}

#[tokio::test]
async fn the_events_of_a_pools_sessions_bear_their_connection_ids() {
    let a = named("a").await;
    let opened = Arc::new(Opened::default());
    let config = || {
        let config = builder(&a).collector(opened.clone());
        config.build().expect("valid")
    };
    let pool = empty().await;
    pool.add("one", JsonRpc, config()).await.expect("live");
    pool.connect("two", config()).await.expect("live");
    let alone = Session::start(JsonRpc, config()).await;
    alone.expect("a session").shutdown().await;
    let names = opened.0.lock().expect("nobody panics").clone();
    assert_eq!(names, ["json_rpc/one", "json_rpc/two", "json_rpc"]);
}

#[tokio::test]
async fn a_session_whose_end_nothing_can_cure_leaves_the_pool() {
    let cut = Script::new().await_message("cut").hang_up();
    let a = scripted([cut, Script::refuse(401, &[], "")]).await;
    let b = named("b").await;
    let pool = pool_of(PoolSpec::new(), &[&a, &b]).await;
    let session = pool.session("a").expect("it was added");
    session.send_text("cut").await.expect("written");
    let end = in_time(session.ended()).await;
    assert!(matches!(end, EndReason::Fatal(_)), "{end:?}");
    in_time(pool.registry().gone("a")).await;
    assert!(pool.session("a").is_none());
    assert_eq!(pool.invoke(read()).await.expect("an answer"), "b");
}

#[tokio::test]
async fn more_failures_than_the_intensity_allows_cost_the_session_that_failed_and_no_other() {
    let (a, b) = (named("a").await, named("b").await);
    let spec = PoolSpec::new().intensity(Intensity::new(0, Duration::from_secs(60)));
    let pool = pool_of(spec, &[&a, &b]).await;
    exhaust(&pool.session("a").expect("it was added")).await;
    in_time(pool.registry().gone("a")).await;
    assert_eq!(pool.invoke(read()).await.expect("an answer"), "b");
}

#[tokio::test]
async fn removing_a_session_lets_those_finish_that_wait_for_it() {
    let a = mute().await;
    let pool = pool_of(PoolSpec::new(), &[&a]).await;
    let mut peer = a.next_connection().await.expect("a connection");
    let asking = pool.clone();
    let waiting = tokio::spawn(async move { asking.invoke(order()).await });
    let first = a.expect_message(mainstay::testing::Matcher::method("order"), LONG);
    first.await.expect("an order");
    let leaving = pool.clone();
    let removal = tokio::spawn(async move { leaving.remove("a").await });
    in_time(pool.registry().gone("a")).await;
    let error = pool.invoke(order()).await.expect_err("nobody there");
    assert!(matches!(error, PoolError::NoSessions), "{error:?}");
    answer(&mut peer, "done").await;
    assert_eq!(waiting.await.expect("a task").expect("an answer"), "done");
    assert!(in_time(removal).await.expect("a task"));
    let farewell = peer.expect_close(LONG).await.expect("a closing handshake");
    assert_eq!(farewell.0, Some(1001));
}

#[tokio::test]
async fn removal_during_traffic_fails_no_request() {
    let (a, b) = (named("a").await, named("b").await);
    let pool = pool_of(PoolSpec::new(), &[&a, &b]).await;
    let traffic = (0..4).map(|_| {
        let pool = pool.clone();
        tokio::spawn(async move {
            for _ in 0..50 {
                pool.invoke(order()).await?;
            }
            Ok::<(), PoolError>(())
        })
    });
    let traffic: Vec<_> = traffic.collect();
    let busy = mainstay::testing::Matcher::method("order");
    a.expect_message(busy, LONG).await.expect("traffic");
    assert!(pool.remove("a").await);
    for task in traffic {
        task.await.expect("a task").expect("no request fails");
    }
    let seen = crate::kit::saw(&a, "order") + crate::kit::saw(&b, "order");
    assert_eq!(seen, 200, "each exactly once");
}

#[tokio::test]
async fn a_shutdown_ends_every_session_with_a_closing_handshake_within_its_total() {
    let (a, b) = (mute().await, mute().await);
    let spec = PoolSpec::new().shutdown_timeout(Duration::from_secs(8));
    let pool = pool_of(spec, &[&a, &b]).await;
    let sessions: Vec<Session> = ["a", "b"]
        .iter()
        .filter_map(|id| pool.session(id))
        .collect();
    let report = in_time(pool.shutdown()).await.expect("its own tree");
    assert!(report.is_clean(), "{report:?}");
    assert!(report.took < Duration::from_secs(8), "{report:?}");
    for server in [&a, &b] {
        let close = |entry: &mainstay::testing::Received| {
            matches!(
                entry.kind,
                ReceivedKind::Close {
                    code: Some(1001),
                    ..
                }
            )
        };
        let closed = server.wait_for("a close frame", LONG, close).await;
        closed.expect("a closing handshake");
    }
    for session in sessions {
        assert!(matches!(session.state(), SessionState::Ended(_)));
    }
    assert!(pool.registry().is_empty(), "{pool:?}");
    let error = pool.invoke(read()).await.expect_err("over");
    assert!(matches!(error, PoolError::NoSessions), "{error:?}");
    let error = pool.add("c", JsonRpc, config(&a)).await;
    assert!(matches!(error, Err(AddError::Ended)), "{error:?}");
}

#[tokio::test]
async fn a_pool_whose_last_handle_is_dropped_ends_its_sessions() {
    let a = mute().await;
    let pool = pool_of(PoolSpec::new(), &[&a]).await;
    let session = pool.session("a").expect("it was added");
    let registry = pool.registry().clone();
    drop(pool);
    in_time(session.ended()).await;
    in_time(registry.gone("a")).await;
    assert!(registry.is_empty());
}

/// Tells by its drop that nothing is left of a session.
#[derive(Debug)]
struct Traced {
    _trace: Arc<()>,
}

impl Platform for Traced {
    fn name(&self) -> &str {
        "traced"
    }
}

#[tokio::test]
async fn nothing_is_left_of_a_session_that_has_left_however_it_did() {
    let cut = Script::new().await_message("cut").hang_up();
    let refusing = scripted([cut, Script::refuse(401, &[], "")]).await;
    let server = named("a").await;
    let trace = Arc::new(());
    let traced = || Traced {
        _trace: Arc::clone(&trace),
    };
    let spec = PoolSpec::new()
        .on_connect(|_, _| {})
        .on_disconnect(|_, _, _| {});
    let pool = Pool::start(spec).await.expect("a pool");
    let add = async |id: &str, server| pool.add(id, traced(), config(server)).await;
    add("removed", &server).await.expect("live");
    pool.remove("removed").await;
    let cut_off = add("cured by nothing", &refusing).await.expect("live");
    cut_off.send_text("cut").await.expect("written");
    in_time(pool.registry().gone("cured by nothing")).await;
    drop(cut_off);
    exhaust(&add("made anew", &server).await.expect("live")).await;
    pool.remove("made anew").await;
    add("refused", &refusing).await.expect_err("refused");
    in_time(async {
        while Arc::strong_count(&trace) > 1 {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_session_out_of_a_mould_has_its_hooks_and_its_limiter() {
    let server = named("a").await;
    let limits = RateLimits::bucket(2, 1, LONG);
    let limiter = Limiter::new("account", limits).expect("valid");
    let mould = SessionSpec::new(|| JsonRpc).limiter(&limiter);
    let settings = Settings {
        url: Some(server.url()),
        ..Settings::default()
    };
    let pool = empty().await;
    for id in ["a", "b"] {
        let config = mould.config(settings.clone()).expect("valid");
        pool.add_from(id, &mould, config).await.expect("live");
        assert_eq!(pool.invoke(read()).await.expect("an answer"), "a");
    }
    assert_eq!(limiter.status().tokens(), 0, "both have paid into one");
}

#[tokio::test]
async fn a_pool_in_a_users_tree_ends_with_that_tree() {
    let server = named("a").await;
    let (pool, child) = Pool::supervised("sessions", PoolSpec::new());
    let early = pool.add("a", JsonRpc, config(&server)).await;
    assert!(matches!(early, Err(AddError::Ended)), "{early:?}");
    let tree = SupervisorSpec::new(Strategy::OneForOne).child(child);
    let tree = tree.start().await.expect("a tree");
    let session = pool.add("a", JsonRpc, config(&server)).await;
    assert_eq!(pool.invoke(read()).await.expect("an answer"), "a");
    let snapshot = pool.tree().await.expect("a tree");
    assert!(snapshot.path.to_string().contains("sessions"), "{snapshot}");
    tree.shutdown(ShutdownPlan::default()).await;
    in_time(session.expect("live").ended()).await;
    in_time(pool.registry().gone("a")).await;
    let late = pool.add("a", JsonRpc, config(&server)).await;
    assert!(matches!(late, Err(AddError::Ended)), "{late:?}");
}

#[tokio::test]
async fn a_session_that_is_made_anew_keeps_what_its_predecessor_has_recorded() {
    let server = named("a").await;
    let name = format!("mainstay-pool-{}.jsonl", std::process::id());
    let path = std::env::temp_dir().join(name);
    let config = builder(&server).record(Record::to(&path)).build();
    let pool = empty().await;
    let first = pool.add("a", JsonRpc, config.expect("valid")).await;
    let first = first.expect("live");
    first.send_text("of the first").await.expect("written");
    exhaust(&first).await;
    assert_eq!(in_time(pool.invoke(read())).await.expect("an answer"), "a");
    let second = pool.session("a").expect("the same id");
    second.flush_recording().await.expect("it is recorded");
    let text = std::fs::read_to_string(&path).expect("a recording");
    std::fs::remove_file(&path).expect("it was there");
    assert!(text.contains("of the first"), "{text}");
    assert!(text.contains("read"), "{text}");
}
