//! Candidates from elsewhere.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use mainstay::Session;
use mainstay::error::PoolError;
use mainstay::platform::JsonRpc;
use mainstay::pool::{Member, Pool, PoolSpec, Registry};

use crate::kit::{config, named, pool_of, read};

#[tokio::test]
async fn a_discovery_stands_in_for_the_pools_own_sessions() {
    let (a, elsewhere) = (named("a").await, named("elsewhere").await);
    let session = Session::start(JsonRpc, config(&elsewhere)).await;
    let session = session.expect("a session");
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&asked);
    let spec = PoolSpec::new().discovery(move || {
        counted.fetch_add(1, Ordering::Relaxed);
        vec![Member::new("x", session.clone())]
    });
    let pool = pool_of(spec, &[&a]).await;
    for _ in 0..3 {
        assert_eq!(pool.invoke(read()).await.expect("an answer"), "elsewhere");
    }
    assert_eq!(asked.load(Ordering::Relaxed), 3, "anew for each request");
    let health = pool.health();
    assert_eq!(health.sessions.len(), 1);
    assert_eq!(health.sessions[0].id.as_str(), "x");
    assert_eq!(pool.ids().len(), 1, "its own session is still there");
}

#[tokio::test]
async fn one_pool_may_be_asked_with_several_discoveries() {
    let (a, b) = (named("a").await, named("b").await);
    let pool = pool_of(PoolSpec::new(), &[&a, &b]).await;
    let own = pool.registry().clone();
    let only_b = pool.with_discovery(move || {
        let members = own.list().into_iter();
        members.filter(|one| one.id.as_str() == "b").collect()
    });
    for _ in 0..3 {
        assert_eq!(only_b.invoke(read()).await.expect("an answer"), "b");
    }
    let nobody = pool.with_discovery(Vec::new);
    let error = nobody.invoke(read()).await.expect_err("nobody there");
    assert!(matches!(error, PoolError::NoSessions), "{error:?}");
}

#[tokio::test]
async fn a_registry_is_a_discovery_and_what_it_lists_may_change() {
    let (a, b) = (named("a").await, named("b").await);
    let sessions = Mutex::new(Vec::new());
    let registry = Registry::new();
    for (id, server) in [("a", &a), ("b", &b)] {
        let session = Session::start(JsonRpc, config(server)).await;
        let session = session.expect("a session");
        registry.insert(id, session.clone()).expect("a free id");
        sessions.lock().expect("nobody panics").push(session);
    }
    let spec = PoolSpec::new().discovery(registry.clone());
    let pool = Pool::start(spec).await.expect("a pool");
    assert_eq!(pool.invoke(read()).await.expect("an answer"), "a");
    registry.remove("a");
    assert_eq!(pool.invoke(read()).await.expect("an answer"), "b");
    assert_eq!(pool.invoke(read()).await.expect("an answer"), "b");
}

#[tokio::test]
async fn a_session_from_elsewhere_that_is_registered_is_a_candidate() {
    let (a, guest) = (named("a").await, named("guest").await);
    let pool = pool_of(PoolSpec::new(), &[&a]).await;
    let session = Session::start(JsonRpc, config(&guest)).await;
    let session = session.expect("a session");
    pool.registry()
        .insert("guest", session.clone())
        .expect("a free id");
    pool.record_error("a");
    assert_eq!(pool.invoke(read()).await.expect("an answer"), "guest");
    session.shutdown().await;
    pool.registry().gone("guest").await;
    assert_eq!(pool.invoke(read()).await.expect("an answer"), "a");
}
