//! Auto-shutdown and significance that change while the supervisor runs.

use mainstay_supervisors::{
    Address, AutoShutdown, ChildSpec, ExitReason, ReconfigureError, Restart, Root, ShutdownCause,
    ShutdownPlan, SpecError, StartChildError, Strategy, SupervisorSpec,
};

use crate::admin::counts;
use crate::kit::{Do, Events, Log, generous, puppet, settle, started};

const NEVER: AutoShutdown = AutoShutdown::Never;
const ANY: AutoShutdown = AutoShutdown::AnySignificant;
const ALL: AutoShutdown = AutoShutdown::AllSignificant;

fn flags(mode: AutoShutdown) -> SupervisorSpec {
    generous(Strategy::OneForOne).auto_shutdown(mode)
}

fn significant(id: &str, log: &Log) -> ChildSpec {
    puppet(id, log)
        .restart(Restart::Transient)
        .significant(true)
}

/// A supervisor that was `before` and is now `after`, with two significant children where that was
/// possible, else added afterwards.
async fn changed(before: AutoShutdown, after: AutoShutdown) -> (Root, Events, [Address<Do>; 2]) {
    let log = Log::default();
    let addresses = [Address::new(), Address::new()];
    let children = || {
        let [one, two] = ["one", "two"].map(|id| significant(id, &log));
        [one.address(&addresses[0]), two.address(&addresses[1])]
    };
    let (tree, events) = started(flags(before).child(puppet("plain", &log))).await;
    for child in children() {
        let added = tree.start_child(child).await;
        let refused = matches!(
            added,
            Err(StartChildError::Spec {
                source: SpecError::SignificantNever { .. },
                ..
            })
        );
        assert_eq!(refused, before == NEVER);
    }
    tree.reconfigure(flags(after)).await.unwrap();
    if before == NEVER {
        for child in children() {
            tree.start_child(child).await.unwrap();
        }
    }
    assert_eq!(counts(&tree).await, [3, 3, 0, 3]);
    let more = tree.start_child(significant("more", &log)).await;
    match more {
        Ok(_) => {
            assert_ne!(after, NEVER);
            tree.terminate_child(&"more".into()).await.unwrap();
            tree.delete_child(&"more".into()).await.unwrap();
        }
        Err(error) => {
            assert_eq!(after, NEVER);
            assert!(matches!(
                error,
                StartChildError::Spec {
                    source: SpecError::SignificantNever { .. },
                    ..
                }
            ));
        }
    }
    (tree, events, addresses)
}

async fn ended_by(tree: &Root, id: &str) -> bool {
    matches!(&*tree.wait().await, ExitReason::Ended(ShutdownCause::AutoShutdown { child, .. })
        if child.as_str() == id)
}

/// OTP-SIG-08, OTP-SIG-13 (never to any, all to any): the first one ends it.
#[tokio::test(start_paused = true)]
async fn a_supervisor_that_becomes_any_ends_with_the_first() {
    for before in [NEVER, ALL] {
        let (tree, _events, [_, two]) = changed(before, ANY).await;
        two.cast(Do::Stop(None)).unwrap();
        assert!(ended_by(&tree, "two").await);
    }
}

/// OTP-SIG-10, OTP-SIG-12 (never to all, any to all): the last one ends it.
#[tokio::test(start_paused = true)]
async fn a_supervisor_that_becomes_all_ends_with_the_last() {
    for before in [NEVER, ANY] {
        let (tree, mut events, [one, two]) = changed(before, ALL).await;
        two.cast(Do::Stop(None)).unwrap();
        events.exited("two").await;
        settle().await;
        assert_eq!(counts(&tree).await[1], 2);
        one.cast(Do::Stop(None)).unwrap();
        assert!(ended_by(&tree, "one").await);
    }
}

/// OTP-SIG-09, OTP-SIG-11 (any to never, all to never): nobody ends it, not those who were significant.
#[tokio::test(start_paused = true)]
async fn a_supervisor_that_becomes_never_ends_with_nobody() {
    for before in [ANY, ALL] {
        let (tree, mut events, addresses) = changed(before, NEVER).await;
        for (address, id) in addresses.iter().zip(["one", "two"]) {
            address.cast(Do::Stop(None)).unwrap();
            events.exited(id).await;
        }
        settle().await;
        assert_eq!(counts(&tree).await, [3, 1, 0, 3]);
        tree.shutdown(ShutdownPlan::default()).await;
    }
}

/// OTP-SIG-14: significance takes effect for the incarnation that runs, and can be taken back.
#[tokio::test(start_paused = true)]
async fn a_childs_significance_can_change() {
    for mode in [ANY, ALL] {
        for now in [true, false] {
            let log = Log::default();
            let address = Address::new();
            let child = |yes| {
                puppet("a", &log)
                    .restart(Restart::Transient)
                    .significant(yes)
                    .address(&address)
            };
            let spec = |yes| flags(mode).child(puppet("plain", &log)).child(child(yes));
            let (tree, mut events) = started(spec(!now)).await;
            tree.reconfigure(spec(now)).await.unwrap();
            let known = tree.child_spec(&"a".into()).await.unwrap();
            assert_eq!(known.significant, now);
            address.cast(Do::Stop(None)).unwrap();
            events.exited("a").await;
            if now {
                assert!(ended_by(&tree, "a").await);
            } else {
                settle().await;
                assert_eq!(counts(&tree).await, [2, 1, 0, 2]);
                tree.shutdown(ShutdownPlan::default()).await;
            }
        }
    }
}

/// OTP-SIG-14: refused under never, and for one that always comes back.
#[tokio::test(start_paused = true)]
async fn significance_that_makes_no_sense_is_refused() {
    let log = Log::default();
    let (tree, mut events) = started(flags(ANY).child(significant("a", &log))).await;
    let address: Address<Do> = tree.address(&"a".into()).await.unwrap();
    let never = tree
        .reconfigure(flags(NEVER).child(significant("a", &log)))
        .await;
    assert!(matches!(
        never,
        Err(ReconfigureError::Spec {
            source: SpecError::SignificantNever { .. },
            ..
        })
    ));
    let permanent = significant("a", &log).restart(Restart::Permanent);
    let permanent = tree.reconfigure(flags(ANY).child(permanent)).await;
    assert!(matches!(
        permanent,
        Err(ReconfigureError::Spec {
            source: SpecError::SignificantPermanent { .. },
            ..
        })
    ));
    // Everything is as it was.
    address.cast(Do::Fail(1)).unwrap();
    events.restarted("a").await;
    address.cast(Do::Stop(None)).unwrap();
    assert!(ended_by(&tree, "a").await);
}
