//! Resizes of partitions that meet something else: a restart of the supervisor, another resize.

use std::pin::pin;
use std::time::Duration;

use futures_util::FutureExt;
use mainstay_supervisors::{
    Address, Backoff, ChildSpec, Intensity, NodeStatus, PartitionSpec, Partitions, ResizeError,
    Root, Shutdown, ShutdownPlan, Strategy, SupervisorSpec,
};
use tokio::time::Instant;

use crate::kit::{Do, Events, Log, Script, generous, ping, puppet, scripted, settle, started};

const HOUR: Duration = Duration::from_secs(3600);

fn four(make: impl Fn(usize) -> ChildSpec + Send + Sync + 'static) -> PartitionSpec<Address<Do>> {
    let make = move |partition| {
        let address = Address::new();
        (make(partition).address(&address), address)
    };
    PartitionSpec::of(make).partitions(4)
}

fn plain(_: usize) -> ChildSpec {
    puppet("p", &Log::default())
}

/// Under a root that restarts them.
async fn below(spec: SupervisorSpec) -> (Root, Events) {
    let intensity = Intensity::new(u32::MAX, HOUR);
    let above = generous(Strategy::OneForOne).intensity(intensity);
    let moment = Duration::from_millis(1);
    let books = ChildSpec::supervisor("books", spec).backoff(Backoff::new(moment, moment));
    started(above.child(books)).await
}

async fn running(partitions: &Partitions<Address<Do>>) -> usize {
    let children = partitions.which_children().await.unwrap();
    let up = |status| status == NodeStatus::Running;
    children
        .iter()
        .filter(|(_, child)| up(child.status))
        .count()
}

/// A resize learns that a partition of the incarnation before is up, once the next one has brought all back.
#[tokio::test(start_paused = true)]
async fn what_a_resize_did_to_one_incarnation_is_not_taken_for_the_next() {
    let (spec, partitions) = four(plain).build().unwrap();
    let (tree, mut events) = below(spec).await;
    partitions.resize(1).await.unwrap();
    {
        let mut growing = pin!(partitions.resize(4));
        assert!(growing.as_mut().now_or_never().is_none());
        settle().await;
        assert_eq!(
            running(&partitions).await,
            2,
            "the second is up and nobody was told"
        );
        partitions.current().unwrap().cell().kill();
        events.restarted("books").await;
        let ended = growing.await.unwrap_err();
        assert!(matches!(ended, ResizeError::SupervisorEnded(_)), "{ended}");
    }
    assert_eq!((partitions.len(), running(&partitions).await), (4, 4));
    assert_eq!(partitions.resize(2).await.unwrap(), 4);
    tree.shutdown(ShutdownPlan::default()).await;
}

/// One partition takes its time to end, without a limit: whoever resizes meanwhile is refused and not held.
#[tokio::test(start_paused = true)]
async fn who_waits_too_long_for_a_turn_is_refused_and_changes_nothing() {
    let slow = |partition| {
        let script = Script {
            stop_takes: if partition == 3 { HOUR } else { Duration::ZERO },
            ..Script::default()
        };
        scripted("p", script).shutdown(Shutdown::Infinite)
    };
    let (spec, partitions) = four(slow).build().unwrap();
    let (tree, _events) = started(spec).await;
    let began = Instant::now();
    let first = {
        let partitions = partitions.clone();
        tokio::spawn(async move { partitions.resize(2).await })
    };
    settle().await;
    for asked in [4, 1] {
        let asking = Instant::now();
        let refused = partitions.resize(asked).await.unwrap_err();
        let ResizeError::Busy {
            asked: told,
            waited,
        } = refused
        else {
            panic!("{refused}");
        };
        assert_eq!((told, waited), (asked, Duration::from_secs(5)));
        assert_eq!(asking.elapsed().as_secs(), 5);
        assert!(
            refused
                .to_string()
                .contains(&format!("a resize to {asked} waited 5s"))
        );
    }
    assert_eq!(partitions.len(), 2, "what the first one asked for");
    assert_eq!(ping(&partitions.route(&1).unwrap()).await, 1);
    assert_eq!(first.await.unwrap().unwrap(), 4);
    assert_eq!(began.elapsed().as_secs(), 3600);
    assert_eq!(partitions.resize(3).await.unwrap(), 2, "it is free again");
    tree.shutdown(ShutdownPlan::at_once()).await;
}

/// On a real clock and several threads: whatever the order of a kill and a resize, keys go to those that run.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_go_to_those_that_run_whatever_a_resize_meets() {
    let rounds = async {
        let (spec, partitions) = four(plain).build().unwrap();
        let (tree, mut events) = below(spec).await;
        for round in 0..300 {
            let asked = round % 5;
            let resizing = {
                let partitions = partitions.clone();
                tokio::spawn(async move { partitions.resize(asked).await.is_ok() })
            };
            for _ in 0..round % 7 {
                tokio::task::yield_now().await;
            }
            partitions.current().unwrap().cell().kill();
            events.restarted("books").await;
            resizing.await.unwrap();
            let (routed, running) = (partitions.len(), running(&partitions).await);
            assert_eq!(routed, running, "round {round}, resized to {asked}");
            partitions.resize(4).await.unwrap();
        }
        tree.shutdown(ShutdownPlan::default()).await;
    };
    let rounds = tokio::time::timeout(Duration::from_secs(60), rounds).await;
    rounds.expect("every wait ends");
}
