//! Children that failed too often and are left alone, and the warning that comes before.

use std::time::Duration;

use mainstay_supervisors::{
    Address, AddressStatus, Backoff, ChildSpec, DynamicSpec, ExitReason, Intensity, NodeStatus,
    OnExhausted, PartitionSpec, Restart, Root, ShutdownCause, ShutdownPlan, StartChildError,
    Started, Strategy, SupervisorEventKind, SupervisorSpec, TaskRef, TaskSpec, TerminateChildError,
};

use crate::admin::{counts, id};
use crate::dynamic::{HOUR, add, dynamic};
use crate::kit::{Do, Events, LineDead, Log, ping, puppet, settle, started};

fn parking(strategy: Strategy, max_restarts: u32) -> SupervisorSpec {
    SupervisorSpec::new(strategy)
        .on_exhausted(OnExhausted::Park)
        .intensity(Intensity::new(max_restarts, HOUR))
}

/// How the child that is parked next had ended.
async fn parked(events: &mut Events, id: &str) -> LineDead {
    let event = events
        .until(|event| matches!(event.kind, SupervisorEventKind::ChildParked { .. }))
        .await;
    assert_eq!(event.child.unwrap().as_str(), id);
    match event.kind {
        SupervisorEventKind::ChildParked { reason } => {
            LineDead(reason.downcast_ref::<LineDead>().unwrap().0)
        }
        _ => unreachable!(),
    }
}

async fn statuses(tree: &Root) -> Vec<NodeStatus> {
    let snapshot = tree.snapshot().await;
    snapshot.children.iter().map(|child| child.status).collect()
}

/// Seen in events, the listing, the snapshot and the address; the siblings go on.
#[tokio::test(start_paused = true)]
async fn a_parked_child_is_shown_as_such_and_comes_back_by_request() {
    let log = Log::default();
    let (a, b) = (Address::new(), Address::new());
    let spec = parking(Strategy::OneForOne, 1)
        .child(puppet("a", &log).address(&a))
        .child(puppet("b", &log).address(&b));
    let (tree, mut events) = started(spec).await;
    a.cast(Do::Fail(1)).unwrap();
    events.restarted("a").await;
    a.cast(Do::Fail(2)).unwrap();
    assert_eq!(parked(&mut events, "a").await, LineDead(2));
    settle().await;
    assert_eq!(
        statuses(&tree).await,
        [NodeStatus::Parked, NodeStatus::Running]
    );
    assert!(tree.snapshot().await.to_string().contains("a parked #2"));
    let listed = tree.which_child(&id("a")).await.unwrap();
    assert_eq!(listed.status, NodeStatus::Parked);
    assert!(listed.cell.is_none());
    assert_eq!(counts(&tree).await, [2, 1, 0, 2]);
    assert!(matches!(a.status(), AddressStatus::Down(reason)
        if reason.downcast_ref() == Some(&LineDead(2))));
    assert_eq!(ping(&b).await, 1);
    tokio::time::sleep(2 * HOUR).await;
    assert!(a.current().is_none(), "time alone does not bring it back");

    let present = tree.start_child(puppet("a", &log)).await;
    assert!(matches!(
        present,
        Err(StartChildError::AlreadyPresent { .. })
    ));
    tree.terminate_child(&id("a")).await.unwrap();
    let back = tree.restart_child(&id("a")).await.unwrap();
    assert!(matches!(back, Started::Up { generation, .. } if generation.0 == 3));
    assert_eq!(ping(&a).await, 3);
    assert_eq!(statuses(&tree).await, [NodeStatus::Running; 2]);
    events.names();
    a.cast(Do::Fail(3)).unwrap();
    events.restarted("a").await;
    a.cast(Do::Fail(4)).unwrap();
    assert_eq!(parked(&mut events, "a").await, LineDead(4));
    settle().await;
    tree.delete_child(&id("a")).await.unwrap();
    assert_eq!(counts(&tree).await, [1, 1, 0, 1]);
    let report = tree.shutdown(ShutdownPlan::default()).await;
    assert_eq!(report.graceful, 1);
}

/// Those who would have been restarted along are stopped in reverse order and parked as well.
#[tokio::test(start_paused = true)]
async fn a_group_is_parked_together() {
    for (strategy, stopped, first) in [
        (
            Strategy::OneForAll,
            ["stop c", "stop a"].as_slice(),
            NodeStatus::Parked,
        ),
        (
            Strategy::RestForOne,
            ["stop c"].as_slice(),
            NodeStatus::Running,
        ),
    ] {
        let log = Log::default();
        let b = Address::new();
        let spec = parking(strategy, 0)
            .child(puppet("a", &log))
            .child(puppet("b", &log).address(&b))
            .child(puppet("c", &log));
        let (tree, mut events) = started(spec).await;
        b.cast(Do::Fail(1)).unwrap();
        assert_eq!(parked(&mut events, "b").await, LineDead(1));
        settle().await;
        assert_eq!(
            statuses(&tree).await,
            [first, NodeStatus::Parked, NodeStatus::Parked]
        );
        let mut lines = log.take();
        lines.retain(|line| line.starts_with("stop"));
        assert_eq!(lines, stopped);
        tokio::time::sleep(2 * HOUR).await;
        assert_eq!(statuses(&tree).await[1], NodeStatus::Parked);
        for id in ["a", "b", "c"] {
            let _ = tree.restart_child(&id.into()).await;
        }
        assert_eq!(statuses(&tree).await, [NodeStatus::Running; 3]);
        tree.shutdown(ShutdownPlan::default()).await;
    }
}

/// A child's own limit of attempts parks it as well.
#[tokio::test(start_paused = true)]
async fn a_child_whose_attempts_are_used_up_is_parked() {
    let log = Log::default();
    let a = Address::new();
    let second = Duration::from_secs(1);
    let backoff = Backoff::new(second, second)
        .reset_after(HOUR)
        .max_attempts(1);
    let spec = parking(Strategy::OneForOne, 100).child(
        puppet("a", &log)
            .backoff(backoff)
            .address(&a)
            .restart(Restart::Transient),
    );
    let (tree, mut events) = started(spec).await;
    a.cast(Do::Fail(1)).unwrap();
    events.restarted("a").await;
    a.cast(Do::Fail(2)).unwrap();
    assert_eq!(parked(&mut events, "a").await, LineDead(2));
    tree.shutdown(ShutdownPlan::default()).await;
}

/// A sub-supervisor that gives up too often is parked, with everything beneath it.
#[tokio::test(start_paused = true)]
async fn a_sub_supervisor_can_be_parked() {
    let log = Log::default();
    let deep = Address::new();
    let below = SupervisorSpec::new(Strategy::OneForOne)
        .intensity(Intensity::new(0, HOUR))
        .child(puppet("deep", &log).address(&deep));
    let spec = parking(Strategy::OneForOne, 1)
        .child(puppet("a", &log))
        .child(ChildSpec::supervisor("s", below));
    let (tree, mut events) = started(spec).await;
    deep.cast(Do::Fail(1)).unwrap();
    events.restarted("s").await;
    deep.cast(Do::Fail(2)).unwrap();
    assert_eq!(parked(&mut events, "s").await, LineDead(2));
    settle().await;
    assert_eq!(
        statuses(&tree).await,
        [NodeStatus::Running, NodeStatus::Parked]
    );
    tree.restart_child(&id("s")).await.unwrap();
    assert_eq!(ping(&deep).await, 3);
    tree.shutdown(ShutdownPlan::default()).await;
}

/// A dynamic supervisor keeps nobody without a process, so the parked one is forgotten.
#[tokio::test(start_paused = true)]
async fn a_dynamic_supervisor_forgets_whoever_it_parks() {
    let log = Log::default();
    let spec = DynamicSpec::new()
        .on_exhausted(OnExhausted::Park)
        .intensity(Intensity::new(0, HOUR));
    let (tree, jobs, mut events) = dynamic(spec).await;
    let (bad, address) = add(&jobs, puppet("bad", &log)).await;
    let (_, good) = add(&jobs, puppet("good", &log)).await;
    address.cast(Do::Fail(1)).unwrap();
    assert_eq!(parked(&mut events, bad.id().as_str()).await, LineDead(1));
    settle().await;
    let gone = jobs.terminate_child(&bad).await;
    assert!(matches!(gone, Err(TerminateChildError::NotFound { .. })));
    assert_eq!(counts(&tree).await, [1, 1, 0, 1]);
    assert_eq!(ping(&good).await, 1);
    tree.shutdown(ShutdownPlan::default()).await;
}

/// A detached task that fails too often is forgotten; the others go on.
#[tokio::test(start_paused = true)]
async fn a_task_supervisor_forgets_whichever_task_it_parks() {
    let tasks = TaskRef::new();
    let spec = TaskSpec::new()
        .on_exhausted(OnExhausted::Park)
        .intensity(Intensity::new(0, HOUR))
        .reference(&tasks);
    let (tree, mut events) = started(spec.into()).await;
    let good = tasks
        .run(std::future::pending::<Result<(), LineDead>>())
        .await
        .unwrap();
    let failing = |_| async { Err(LineDead(7)) };
    let bad = tasks.run_detached(Restart::Permanent, failing).await;
    let bad = bad.unwrap();
    assert_eq!(parked(&mut events, bad.id().as_str()).await, LineDead(7));
    settle().await;
    let left = tasks.children().await.unwrap();
    assert_eq!(left.len(), 1);
    assert_eq!(&left[0].0, good.key());
    tree.shutdown(ShutdownPlan::default()).await;
}

/// Keys go on being routed to a partition that is parked, until it is restarted.
#[tokio::test(start_paused = true)]
async fn a_parked_partition_is_routed_to_and_can_be_restarted() {
    let log = Log::default();
    let (spec, partitions) = PartitionSpec::of(move |partition| {
        let address = Address::new();
        let child = puppet(&partition.to_string(), &log).address(&address);
        (child, address)
    })
    .partitions(2)
    .on_exhausted(OnExhausted::Park)
    .intensity(Intensity::new(0, HOUR))
    .build()
    .unwrap();
    let (tree, mut events) = started(spec).await;
    let bad = partitions.route(&1u8).unwrap();
    bad.cast(Do::Fail(1)).unwrap();
    assert_eq!(parked(&mut events, "1").await, LineDead(1));
    settle().await;
    assert_eq!(
        statuses(&tree).await,
        [NodeStatus::Running, NodeStatus::Parked]
    );
    assert!(partitions.route(&1u8).unwrap().cast(Do::Fail(1)).is_err());
    let supervisor = partitions.current().unwrap();
    supervisor.restart_child(&id("1")).await.unwrap();
    assert_eq!(ping(&bad).await, 2);
    tree.shutdown(ShutdownPlan::default()).await;
}

/// Told once, about the supervisor, before the end comes.
#[tokio::test(start_paused = true)]
async fn a_supervisor_warns_before_it_gives_up() {
    let log = Log::default();
    let a = Address::new();
    let short = Duration::from_millis(1);
    let spec = SupervisorSpec::new(Strategy::OneForOne)
        .intensity(Intensity::new(10, HOUR))
        .child(
            puppet("a", &log)
                .backoff(Backoff::new(short, short))
                .address(&a),
        );
    let (tree, mut events) = started(spec).await;
    let mut warned = Vec::new();
    for nth in 1..=10 {
        a.cast(Do::Fail(nth)).unwrap();
        let mut known = false;
        events
            .until(|event| match event.kind {
                SupervisorEventKind::ChildRestarted { .. } => true,
                SupervisorEventKind::IntensityLow { used, limit } => {
                    assert!(event.child.is_none());
                    assert_eq!((used, limit), (9, 10));
                    true
                }
                _ => false,
            })
            .await
            .child
            .is_none()
            .then(|| known = true);
        if known {
            warned.push(nth);
            events.restarted("a").await;
        }
    }
    assert_eq!(warned, [9]);
    a.cast(Do::Fail(11)).unwrap();
    let reason = tree.wait().await;
    assert!(matches!(
        &*reason,
        ExitReason::Ended(ShutdownCause::Exhausted { .. })
    ));
}

/// Where nothing is allowed there is nothing to warn of.
#[tokio::test(start_paused = true)]
async fn there_is_no_warning_where_nothing_is_allowed() {
    let log = Log::default();
    let a = Address::new();
    let spec = parking(Strategy::OneForOne, 0).child(puppet("a", &log).address(&a));
    let (tree, mut events) = started(spec).await;
    a.cast(Do::Fail(1)).unwrap();
    a.changes().next().await;
    settle().await;
    let names = events.names();
    assert!(names.contains(&"child.parked a".to_owned()), "{names:?}");
    assert!(!names.contains(&"sup.intensity_low".to_owned()));
    tree.shutdown(ShutdownPlan::default()).await;
}
