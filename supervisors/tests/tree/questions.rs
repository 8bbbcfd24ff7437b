//! What a running supervisor tells of its children.

use std::time::Duration;

use mainstay_supervisors::{
    ChildKind, ChildSpec, LookupError, NodeStatus, Restart, Shutdown, ShutdownPlan, Strategy,
    SupervisorSpec,
};

use crate::admin::{counts, id, ids};
use crate::kit::{Do, Log, generous, ping, puppet, started};

/// OTP-ADM-07, OTP-COUNT-02 in small.
#[tokio::test(start_paused = true)]
async fn children_are_listed_newest_first_and_counted_by_kind() {
    let log = Log::default();
    let (tree, _events) = started(generous(Strategy::OneForOne).child(puppet("a", &log))).await;
    tree.start_child(puppet("b", &log)).await.unwrap();
    let below = generous(Strategy::OneForOne).child(puppet("deep", &log));
    tree.start_child(ChildSpec::supervisor("s", below))
        .await
        .unwrap();
    assert_eq!(ids(&tree).await, ["s", "b", "a"]);
    assert_eq!(counts(&tree).await, [3, 3, 1, 2]);

    tree.terminate_child(&id("b")).await.unwrap();
    assert_eq!(counts(&tree).await, [3, 2, 1, 2]);
    let b = tree.which_child(&id("b")).await.unwrap();
    assert_eq!(b.status, NodeStatus::Idle);
    assert!(b.cell.is_none());
    tree.delete_child(&id("b")).await.unwrap();
    assert_eq!(ids(&tree).await, ["s", "a"]);
    let gone = tree.which_child(&id("b")).await.unwrap_err();
    assert!(matches!(gone, LookupError::NotFound { .. }));

    let s = tree.which_child(&id("s")).await.unwrap();
    assert_eq!(s.kind, ChildKind::Supervisor);
    let below = s.supervisor.unwrap();
    below.terminate_child(&id("deep")).await.unwrap();
    assert_eq!(below.count_children().await.unwrap().active, 0);
    tree.shutdown(ShutdownPlan::default()).await;
}

/// OTP-START-13.
#[tokio::test(start_paused = true)]
async fn a_spec_can_be_read_back() {
    let log = Log::default();
    let below = SupervisorSpec::new(Strategy::OneForOne);
    let spec = generous(Strategy::OneForOne)
        .child(puppet("a", &log).registered("somebody"))
        .child(ChildSpec::supervisor("s", below));
    let (tree, _events) = started(spec).await;
    let a = tree.child_spec(&id("a")).await.unwrap();
    assert_eq!((a.kind, a.restart), (ChildKind::Worker, Restart::Permanent));
    assert_eq!(a.shutdown, Shutdown::Timeout(Duration::from_secs(5)));
    assert_eq!(a.start_timeout, Some(Duration::from_secs(30)));
    assert_eq!(a.watchdog, None);
    assert_eq!(a.registered.as_deref(), Some("somebody"));
    assert!(!a.significant);
    let s = tree.child_spec(&id("s")).await.unwrap();
    assert_eq!(
        (s.kind, s.restart),
        (ChildKind::Supervisor, Restart::Permanent)
    );
    assert_eq!(s.shutdown, Shutdown::Infinite);
    let unknown = tree.child_spec(&id("x")).await;
    assert!(matches!(unknown, Err(LookupError::NotFound { .. })));
    tree.shutdown(ShutdownPlan::default()).await;
}

struct Other;
mainstay_supervisors::message!(Other);

#[tokio::test(start_paused = true)]
async fn an_address_is_given_for_the_childs_messages_only() {
    let log = Log::default();
    let below = SupervisorSpec::new(Strategy::OneForOne);
    let spec = generous(Strategy::OneForOne)
        .child(puppet("a", &log))
        .child(ChildSpec::supervisor("s", below));
    let (tree, mut events) = started(spec).await;
    let wrong = tree.address::<Other>(&id("a")).await.unwrap_err();
    assert_eq!(wrong, LookupError::MessageType { child: id("a") });
    let wrong = tree.address::<Do>(&id("s")).await.unwrap_err();
    assert_eq!(wrong, LookupError::MessageType { child: id("s") });
    let address = tree.address::<Do>(&id("a")).await.unwrap();
    address.cast(Do::Fail(1)).unwrap();
    events.restarted("a").await;
    assert_eq!(ping(&address).await, 2);
    tree.shutdown(ShutdownPlan::default()).await;
}
