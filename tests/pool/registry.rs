//! The registry by itself: it cleans itself, however a session ends.

use mainstay::error::EndReason;
use mainstay::platform::JsonRpc;
use mainstay::pool::Registry;
use mainstay::supervisors::{ShutdownPlan, Strategy, SupervisorSpec};
use mainstay::testing::Script;
use mainstay::{Client, Session};

use crate::kit::{config, exhaust, in_time, mute, scripted};

async fn session() -> Session {
    let server = Box::leak(Box::new(mute().await));
    let started = Session::start(JsonRpc, config(server)).await;
    started.expect("a session")
}

#[tokio::test]
async fn an_id_finds_its_session_until_that_is_shut_down() {
    let (registry, session) = (Registry::new(), session().await);
    registry.insert("a", session.clone()).expect("a free id");
    assert!(registry.lookup("a").is_some());
    assert!(registry.lookup("b").is_none());
    session.shutdown().await;
    in_time(registry.gone("a")).await;
    assert!(registry.lookup("a").is_none());
    assert_eq!(registry.len(), 0);
}

#[tokio::test]
async fn a_session_that_panics_too_often_leaves() {
    let (registry, session) = (Registry::new(), session().await);
    registry.insert("a", session.clone()).expect("a free id");
    exhaust(&session).await;
    in_time(registry.gone("a")).await;
}

#[tokio::test]
async fn a_session_whose_end_nothing_can_cure_leaves() {
    let cut = Script::new().await_message("cut").hang_up();
    let server = scripted([cut, Script::refuse(403, &[], "")]).await;
    let session = Client::connect_with(config(&server)).await;
    let session = session.expect("a session");
    let registry = Registry::new();
    registry.insert("a", session.clone()).expect("a free id");
    session.send_text("cut").await.expect("written");
    in_time(registry.gone("a")).await;
    assert!(matches!(session.ended().await, EndReason::Fatal(_)));
}

#[tokio::test]
async fn a_session_whose_tree_is_killed_leaves() {
    let server = mute().await;
    let (session, spec) = Session::supervised("mine", JsonRpc, config(&server));
    let tree = SupervisorSpec::new(Strategy::OneForOne).child(spec);
    let tree = tree.start().await.expect("a tree");
    let registry = Registry::new();
    registry.insert("a", session.clone()).expect("a free id");
    in_time(session.live()).await.expect("live");
    tree.shutdown(ShutdownPlan::at_once()).await;
    drop(tree);
    in_time(registry.gone("a")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_had_ended_before_leaves_at_once() {
    let (registry, session) = (Registry::new(), session().await);
    session.shutdown().await;
    for _ in 0..100 {
        let inserted = registry.insert("a", session.clone());
        inserted.expect("a free id");
        in_time(registry.gone("a")).await;
    }
}

#[tokio::test]
async fn a_duplicate_is_refused_by_its_name_and_the_first_stays() {
    let (registry, first, second) = (Registry::new(), session().await, session().await);
    registry.insert("a", first.clone()).expect("a free id");
    let error = registry.insert("a", second.clone()).expect_err("in use");
    assert_eq!(error.connection, "a");
    // The end of the one that was refused changes nothing.
    second.shutdown().await;
    registry.insert("b", first.clone()).expect("another id");
    let ids: Vec<String> = registry
        .list()
        .iter()
        .map(|one| one.id.to_string())
        .collect();
    assert_eq!(ids, ["a", "b"]);
}

#[tokio::test]
async fn what_is_removed_lives_on_and_its_end_does_not_meet_its_successor() {
    let (registry, first, second) = (Registry::new(), session().await, session().await);
    registry.insert("a", first.clone()).expect("a free id");
    assert!(registry.remove("a").is_some());
    assert!(first.state().is_live());
    registry.insert("a", second.clone()).expect("free again");
    first.shutdown().await;
    tokio::task::yield_now().await;
    assert!(
        registry
            .lookup("a")
            .is_some_and(|found| found.state().is_live())
    );
}

#[tokio::test]
async fn a_registry_that_is_dropped_holds_no_session() {
    let server = mute().await;
    let started = Session::start(JsonRpc, config(&server)).await;
    let registry = Registry::new();
    registry
        .insert("a", started.expect("a session"))
        .expect("a free id");
    let mut peer = server.next_connection().await.expect("a connection");
    drop(registry);
    peer.expect_end(crate::kit::LONG).await.expect("ended");
}
