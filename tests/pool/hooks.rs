//! Who is told of a session's coming and going.

use std::sync::{Arc, Mutex, mpsc};

use mainstay::Why;
use mainstay::platform::JsonRpc;
use mainstay::pool::{Pool, PoolSpec};
use mainstay::testing::Script;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use crate::kit::{config, exhaust, in_time, mute, named, pool_of, read, scripted};

/// A pool that tells of its hooks' calls: `+a` and `-a`.
fn told() -> (PoolSpec, UnboundedReceiver<String>) {
    let (sender, calls) = unbounded_channel();
    let connected = sender.clone();
    let spec = PoolSpec::new()
        .on_connect(move |id, _| {
            let _ = connected.send(format!("+{id}"));
        })
        .on_disconnect(move |id, _, why| {
            let how = match why {
                Why::Ended(_) => " ended",
                _ => "",
            };
            let _ = sender.send(format!("-{id}{how}"));
        });
    (spec, calls)
}

async fn next(calls: &mut UnboundedReceiver<String>) -> String {
    in_time(calls.recv()).await.expect("a call")
}

#[tokio::test]
async fn hooks_are_called_at_each_connect_and_disconnect_in_order() {
    let cut = Script::new().await_message("cut").hang_up();
    let a = scripted([cut.clone(), cut, Script::new()]).await;
    let (spec, mut calls) = told();
    let pool = pool_of(spec, &[&a]).await;
    let session = pool.session("a").expect("it was added");
    assert_eq!(next(&mut calls).await, "+a");
    for _ in 0..2 {
        session.send_text("cut").await.expect("written");
        assert_eq!(next(&mut calls).await, "-a");
        assert_eq!(next(&mut calls).await, "+a");
    }
    pool.remove("a").await;
    assert!(next(&mut calls).await.starts_with("-a"));
    assert!(calls.try_recv().is_err(), "there is nothing more to tell");
}

#[tokio::test]
async fn hooks_are_called_after_the_supervisors_restart_too() {
    let (a, b) = (named("a").await, named("b").await);
    let (spec, mut calls) = told();
    let pool = pool_of(spec, &[&a, &b]).await;
    assert_eq!(next(&mut calls).await, "+a");
    assert_eq!(next(&mut calls).await, "+b");
    let first = pool.session("a").expect("it was added");
    exhaust(&first).await;
    let mut seen = vec![next(&mut calls).await];
    while !(seen.last().is_some_and(|call| call == "+a") && pool.session("a").is_some()) {
        seen.push(next(&mut calls).await);
    }
    // Between the panics it may have been live now and then.
    for pair in seen.chunks(2) {
        assert!(pair[0].starts_with("-a") && pair[1] == "+a", "{seen:?}");
    }
    assert_eq!(pool.ids().len(), 2, "the same id");
}

#[tokio::test]
async fn a_hook_that_panics_is_reported_and_called_again() {
    let cut = Script::new().await_message("cut").hang_up();
    let a = scripted([cut, Script::new()]).await;
    let (sender, mut calls) = unbounded_channel();
    let spec = PoolSpec::new().on_connect(move |id, _| {
        let _ = sender.send(id.to_string());
        // Without the hook of panics, which would fill the test's output.
        std::panic::resume_unwind(Box::new("a hook's own fault"));
    });
    let pool = pool_of(spec, &[&a]).await;
    assert_eq!(next(&mut calls).await, "a");
    let session = pool.session("a").expect("it was added");
    session.send_text("cut").await.expect("written");
    assert_eq!(next(&mut calls).await, "a");
    in_time(async {
        while pool.metrics().pool_hooks_panicked < 2 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    in_time(session.live()).await.expect("it goes on");
}

#[tokio::test]
async fn a_hook_that_blocks_holds_up_no_request() {
    let a = named("a").await;
    let (release, blocked) = mpsc::channel::<()>();
    let blocked = Arc::new(Mutex::new(blocked));
    let (sender, mut calls) = unbounded_channel();
    let spec = PoolSpec::new().on_connect(move |id, _| {
        let _ = sender.send(id.to_string());
        // Until the test lets it go.
        let _ = blocked.lock().map(|blocked| blocked.recv());
    });
    let pool = pool_of(spec, &[&a]).await;
    assert_eq!(next(&mut calls).await, "a");
    for _ in 0..3 {
        assert_eq!(pool.invoke(read()).await.expect("an answer"), "a");
    }
    drop(release);
}

#[tokio::test]
async fn a_session_that_never_came_live_is_not_told_of() {
    let refusing = scripted([Script::refuse(401, &[], "")]).await;
    let silent = mute().await;
    let (spec, mut calls) = told();
    let pool = Pool::start(spec).await.expect("a pool");
    let refused = pool.add("a", JsonRpc, config(&refusing)).await;
    refused.expect_err("refused");
    pool.add("b", JsonRpc, config(&silent)).await.expect("live");
    assert_eq!(next(&mut calls).await, "+b");
}
