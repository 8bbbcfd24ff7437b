//! Partitions: who is routed where, how many there are, what is left of them.

use std::collections::HashMap;
use std::time::Duration;

use mainstay_supervisors::{
    Address, AddressStatus, Backoff, ChildId, ChildSpec, DeleteChildError, DynamicRef, DynamicSpec,
    Intensity, Jitter, NoPartitions, NodeStatus, PartitionSpec, Partitions, ReconfigureError,
    ResizeError, Restart, Root, ShutdownPlan, SpecError, StartChildError, StartError, Strategy,
    SupervisorEnded, SupervisorSpec,
};

use crate::dynamic::{HOUR, add, lasting};
use crate::kit::{
    Do, Events, LineDead, Log, Puppet, Script, generous, ping, puppet, settle, started,
};

fn scripts(log: &Log) -> PartitionSpec<Address<Do>> {
    let log = log.clone();
    PartitionSpec::actors(move |partition, context| {
        let script = Script {
            name: partition.to_string(),
            log: log.clone(),
            generation: context.generation.0,
            ..Script::default()
        };
        Ok((Puppet, script))
    })
    .intensity(Intensity::new(100, Duration::from_secs(5)))
}

async fn four(log: &Log) -> (Root, Partitions<Address<Do>>, Events) {
    let (spec, partitions) = scripts(log).partitions(4).build().unwrap();
    let (tree, events) = started(spec).await;
    (tree, partitions, events)
}

/// Partition, status and incarnation of each.
async fn standing(partitions: &Partitions<Address<Do>>) -> Vec<(usize, NodeStatus, u64)> {
    let children = partitions.which_children().await.unwrap();
    children
        .iter()
        .map(|(partition, child)| (*partition, child.status, child.generation.0))
        .collect()
}

/// EXP-03: as many partitions as there are processors; a hundred keys, each with a child, and each child
/// is found exactly once.
#[tokio::test(start_paused = true)]
async fn a_hundred_keys_are_spread_over_dynamic_supervisors() {
    let log = Log::default();
    let (spec, partitions) = PartitionSpec::dynamic(DynamicSpec::new()).build().unwrap();
    let processors = std::thread::available_parallelism().unwrap().get();
    assert_eq!(partitions.len(), processors);
    let (tree, _events) = started(spec).await;
    let mut children = HashMap::new();
    for key in 0..100u32 {
        let jobs = partitions.route(&key).unwrap();
        children.insert(key, add(&jobs, puppet("job", &log)).await.0);
    }
    let mut found = 0;
    for (partition, jobs) in partitions.all().into_iter().enumerate() {
        let listed = jobs.which_children().await.unwrap();
        found += listed.len();
        for (key, child) in &children {
            let here = listed.iter().filter(|(listed, _)| listed == child).count();
            let expected = usize::from(*key as usize % processors == partition);
            assert_eq!(here, expected, "{key} in {partition}");
        }
    }
    assert_eq!(found, 100);
    for jobs in partitions.all() {
        let mut here = 0;
        for key in children.values() {
            here += usize::from(jobs.which_child(key).await.is_ok());
        }
        assert_eq!(here, jobs.count_children().await.unwrap().specs);
    }
    let counts = partitions.count_children().await.unwrap();
    assert_eq!((counts.specs, counts.supervisors), (processors, processors));
    let report = tree.shutdown(ShutdownPlan::default()).await;
    assert_eq!(report.graceful, processors + 100);
}

/// EXP-04: the router is a value and goes into whatever registry there is.
#[tokio::test(start_paused = true)]
async fn a_router_works_behind_any_registry() {
    let log = Log::default();
    let (tree, partitions, _events) = four(&log).await;
    let mut registry = HashMap::new();
    registry.insert("books", partitions);
    let first = registry["books"].route(&0).unwrap();
    assert_eq!(ping(&first).await, 1);
    let listed = registry["books"].which_children().await.unwrap();
    let cell = listed[0].1.cell.as_ref().unwrap();
    assert_eq!(first.current().unwrap().get_id(), cell.get_id());
    tree.shutdown(ShutdownPlan::default()).await;
}

/// EXP-06, EXP-07, EXP-08, EXP-09, EXP-10. A router needs no name and no arguments beyond its number; what can be written down and
/// makes no sense is refused when it is built.
#[tokio::test(start_paused = true)]
async fn a_partition_spec_that_makes_no_sense_is_refused() {
    let log = Log::default();
    let none = scripts(&log).partitions(0).build().unwrap_err();
    assert_eq!(none, SpecError::NoPartitions);
    let window = scripts(&log).intensity(Intensity::new(1, Duration::ZERO));
    assert_eq!(window.build().unwrap_err(), SpecError::ZeroWindow);
    let significant = scripts(&log)
        .partitions(1)
        .each(|child| child.restart(Restart::Transient).significant(true));
    assert!(matches!(
        significant.build().unwrap_err(),
        SpecError::SignificantNever { .. }
    ));
    let below = || {
        let twice = SupervisorSpec::new(Strategy::OneForOne)
            .child(puppet("a", &Log::default()))
            .child(puppet("a", &Log::default()));
        ChildSpec::supervisor("below", twice)
    };
    let nested = PartitionSpec::of(move |partition| (below(), partition)).partitions(1);
    assert!(matches!(
        nested.build().unwrap_err(),
        SpecError::Nested { .. }
    ));

    // A partition that fails to start fails the start, by its number.
    let failing = PartitionSpec::<Address<Do>>::actors(|partition, _| match partition {
        2 => Err(StartError::failed(LineDead(2))),
        _ => Ok((Puppet, Script::default())),
    });
    let (spec, _) = failing.partitions(4).build().unwrap();
    let failure = spec.start().await.unwrap_err();
    assert!(
        failure
            .to_string()
            .starts_with("child 2 of supervisor root did not start; "),
        "{failure}"
    );
}

/// EXP-11, EXP-12, EXP-13, EXP-14, EXP-21: a stop has ended everybody when it answers, and before and
/// after there is nobody to ask.
#[tokio::test(start_paused = true)]
async fn a_partitioned_supervisor_that_does_not_run_has_no_answers() {
    let log = Log::default();
    let name = |partition: usize| format!("partition of the stop test {partition}");
    let named = PartitionSpec::of(move |partition| {
        let address = Address::<Do>::new();
        let child = puppet("p", &Log::default()).registered(name(partition));
        (child.address(&address), address)
    });
    let (spec, partitions) = named.partitions(2).build().unwrap();
    for round in 0..2 {
        let SupervisorEnded { .. } = partitions.which_children().await.unwrap_err();
        let SupervisorEnded { .. } = partitions.count_children().await.unwrap_err();
        assert!(matches!(
            partitions.resize(1).await,
            Err(ResizeError::SupervisorEnded(_))
        ));
        assert!(partitions.current().is_none());
        assert!(!partitions.route(&0).unwrap().status().is_up());
        // The same spec again: the name is free.
        let tree = spec.clone().start().await.unwrap();
        assert_eq!(ping(&partitions.route(&1).unwrap()).await, round + 1);
        assert!(ractor::registry::where_is(name(1)).is_some());
        tree.shutdown(ShutdownPlan::default()).await;
        assert!(ractor::registry::where_is(name(1)).is_none());
        assert!(partitions.route(&1).unwrap().current().is_none());
    }
    assert!(log.take().is_empty());
}

/// EXP-13, EXP-14: a router is a value and no name, so that it routes while nobody is up, and as the next
/// supervisor will: over all partitions, also after they were resized. Whoever has to know asks the supervisor.
#[tokio::test(start_paused = true)]
async fn while_no_supervisor_is_up_keys_are_routed_as_the_next_one_will() {
    let log = Log::default();
    let numbered = scripts(&log).partitions(4);
    let (spec, partitions) = numbered.build().unwrap();
    let fourth = partitions.route(&3).unwrap();
    assert_eq!((partitions.len(), partitions.all().len()), (4, 4));
    assert!(matches!(fourth.status(), AddressStatus::Unbound));
    let not_yet = partitions.count_children().await.unwrap_err();
    assert!(not_yet.to_string().contains("no supervisor is up"));

    let hours = Backoff::new(HOUR, HOUR)
        .first_immediate(false)
        .jitter(Jitter::None);
    let below = ChildSpec::supervisor("books", spec).backoff(hours);
    let (tree, mut events) = started(generous(Strategy::OneForOne).child(below)).await;
    partitions.resize(0).await.unwrap();
    assert!(partitions.route(&3).is_err());
    partitions.current().unwrap().cell().kill();
    events.exited("books").await;
    settle().await;
    assert!(partitions.current().is_none());
    assert_eq!(partitions.len(), 4);
    let waits = partitions.route(&3).unwrap();
    let sent = waits.cast_when_up(Do::Sleep(Duration::ZERO), 2 * HOUR);
    let generation = sent.await.expect("it comes back");
    assert_eq!(generation.0, 2);
    assert_eq!(ping(&fourth).await, 2, "it was its own partition");

    partitions.resize(1).await.unwrap();
    tree.shutdown(ShutdownPlan::default()).await;
    assert_eq!(partitions.len(), 4);
    assert!(matches!(
        partitions.route(&3).unwrap().status(),
        AddressStatus::Down(_)
    ));
    assert!(partitions.count_children().await.is_err());
}

/// OTP's partitions have no such calls, and neither has Elixir's supervisor of them: what is added to it, or deleted
/// from it, would be unknown to its router. Parked ones can be restarted.
#[tokio::test(start_paused = true)]
async fn nobody_joins_or_leaves_partitions_behind_their_routers_back() {
    let log = Log::default();
    let (tree, partitions, _events) = four(&log).await;
    let at = partitions.current().unwrap();
    log.take();
    let added = at.start_child(puppet("fifth", &log)).await.unwrap_err();
    assert!(matches!(&added, StartChildError::Partitioned { .. }));
    assert!(added.to_string().contains("`resize`"), "{added}");
    let third = ChildId::from("3");
    partitions.resize(3).await.unwrap();
    let deleted = at.delete_child(&third).await.unwrap_err();
    assert!(matches!(&deleted, DeleteChildError::Partitioned { .. }));
    assert!(deleted.to_string().contains("`resize`"), "{deleted}");
    let plain = generous(Strategy::OneForOne).child(puppet("fifth", &log));
    let other = at.reconfigure(plain).await.unwrap_err();
    assert!(matches!(other, ReconfigureError::Kind { .. }), "{other}");
    let (same, _) = scripts(&log).partitions(4).build().unwrap();
    at.reconfigure(same.intensity(Intensity::new(9, HOUR)))
        .await
        .unwrap();
    assert_eq!(at.snapshot().await.window, Some((0, 9)));
    assert_eq!(partitions.count_children().await.unwrap().specs, 4);
    assert_eq!(partitions.resize(4).await.unwrap(), 3);
    at.terminate_child(&third).await.unwrap();
    at.restart_child(&third).await.unwrap();
    assert_eq!(ping(&partitions.route(&3).unwrap()).await, 3);
    tree.shutdown(ShutdownPlan::default()).await;
}

/// EXP-16, EXP-17.
#[tokio::test(start_paused = true)]
async fn partitions_can_be_taken_away_and_brought_back() {
    let log = Log::default();
    let (tree, partitions, _events) = four(&log).await;
    let fourth = partitions.route(&3).unwrap();
    log.take();
    assert_eq!(partitions.resize(2).await.unwrap(), 4);
    assert_eq!(log.take(), ["stop 3", "drop 3", "stop 2", "drop 2"]);
    assert!(fourth.current().is_none());
    assert_eq!((partitions.len(), partitions.all().len()), (2, 2));
    let third = partitions.route(&3).unwrap();
    assert_eq!(ping(&third).await, 1, "3 of 2 is the second");
    let counts = partitions.count_children().await.unwrap();
    assert_eq!((counts.specs, counts.active), (4, 2));

    assert_eq!(partitions.resize(0).await.unwrap(), 2);
    assert!(partitions.is_empty() && partitions.all().is_empty());
    let none = partitions.route("any").unwrap_err();
    assert_eq!(none, NoPartitions);
    assert!(none.to_string().contains("resized to zero"));
    assert_eq!(partitions.resize(0).await.unwrap(), 0);

    let refused = partitions.resize(5).await.unwrap_err();
    assert!(matches!(
        refused,
        ResizeError::TooMany {
            asked: 5,
            allowed: 4
        }
    ));
    assert_eq!(partitions.len(), 0, "nothing changed");
    assert_eq!(partitions.resize(4).await.unwrap(), 0);
    assert_eq!(ping(&fourth).await, 2, "the same address as before");
    log.take();
    assert_eq!(partitions.resize(4).await.unwrap(), 4);
    assert!(log.take().is_empty(), "nobody was touched");
    tree.shutdown(ShutdownPlan::default()).await;
}

/// EXP-18, EXP-19, EXP-22.
#[tokio::test(start_paused = true)]
async fn partitions_are_listed_by_their_number_and_counted() {
    let log = Log::default();
    let (tree, partitions, _events) = four(&log).await;
    let up = NodeStatus::Running;
    let all = [(0, up, 1), (1, up, 1), (2, up, 1), (3, up, 1)];
    assert_eq!(standing(&partitions).await, all);
    let by_router = partitions.clone().count_children().await.unwrap();
    let (specs, active) = (by_router.specs, by_router.active);
    assert_eq!((specs, active, by_router.workers), (4, 4, 4));
    assert_eq!(tree.count_children().await.unwrap(), by_router);
    partitions.resize(3).await.unwrap();
    let idle = standing(&partitions).await[3];
    assert_eq!(idle, (3, NodeStatus::Idle, 1));
    tree.shutdown(ShutdownPlan::default()).await;
}

/// EXP-20.
#[tokio::test(start_paused = true)]
async fn partitions_that_are_supervisors_are_counted_as_such() {
    let (spec, partitions) = PartitionSpec::dynamic(lasting())
        .partitions(3)
        .build()
        .unwrap();
    let (tree, _events) = started(spec).await;
    let counts = partitions.count_children().await.unwrap();
    assert_eq!(
        [
            counts.specs,
            counts.active,
            counts.supervisors,
            counts.workers
        ],
        [3, 3, 3, 0]
    );
    tree.shutdown(ShutdownPlan::default()).await;
}

fn patiently(child: ChildSpec) -> ChildSpec {
    let backoff = Backoff::new(HOUR, HOUR)
        .first_immediate(false)
        .jitter(Jitter::None);
    child.backoff(backoff)
}

/// One that waits for its restart is routed to, and is taken away like any other.
#[tokio::test(start_paused = true)]
async fn a_partition_that_restarts_can_be_taken_away() {
    let log = Log::default();
    let (spec, partitions) = scripts(&log).partitions(2).each(patiently).build().unwrap();
    let (tree, mut events) = started(spec).await;
    let second = partitions.route(&1).unwrap();
    second.cast(Do::Fail(1)).unwrap();
    events.exited("1").await;
    settle().await;
    assert_eq!(standing(&partitions).await[1].1, NodeStatus::Restarting);
    assert!(!partitions.route(&1).unwrap().status().is_up());
    // Nothing to change, and nobody started out of turn.
    assert_eq!(partitions.resize(2).await.unwrap(), 2);
    assert_eq!(standing(&partitions).await[1].1, NodeStatus::Restarting);

    assert_eq!(partitions.resize(1).await.unwrap(), 2);
    tokio::time::sleep(2 * HOUR).await;
    assert_eq!(standing(&partitions).await[1], (1, NodeStatus::Idle, 1));
    assert_eq!(partitions.resize(2).await.unwrap(), 1);
    assert_eq!(ping(&second).await, 2);
    tree.shutdown(ShutdownPlan::default()).await;
}

/// Resizes at once take turns, and the last one stands.
#[tokio::test(start_paused = true)]
async fn resizes_take_turns() {
    let log = Log::default();
    let (tree, partitions, _events) = four(&log).await;
    let (first, second, third) = tokio::join!(
        partitions.resize(1),
        partitions.resize(3),
        partitions.resize(2)
    );
    assert_eq!([first.unwrap(), second.unwrap(), third.unwrap()], [4, 1, 3]);
    let active = standing(&partitions).await;
    let up = active
        .iter()
        .filter(|(_, status, _)| *status == NodeStatus::Running);
    assert_eq!((up.count(), partitions.len()), (2, 2));
    tree.shutdown(ShutdownPlan::default()).await;
}

/// A partition that does not start is not routed to; those before it are.
#[tokio::test(start_paused = true)]
async fn a_partition_that_does_not_come_back_is_named() {
    let failing = PartitionSpec::<Address<Do>>::actors(|partition, context| {
        match (partition, context.generation.0) {
            (2, 2) => Err(StartError::failed(LineDead(2))),
            _ => Ok((Puppet, Script::default())),
        }
    });
    let (spec, partitions) = failing.partitions(4).build().unwrap();
    let tree = spec.start().await.unwrap();
    partitions.resize(1).await.unwrap();
    let error = partitions.resize(4).await.unwrap_err();
    assert!(
        matches!(error, ResizeError::Failed { partition: 2, .. }),
        "{error}"
    );
    assert_eq!(partitions.len(), 2);
    assert_eq!(partitions.resize(4).await.unwrap(), 2, "the next try");
    assert_eq!(partitions.all().len(), 4);
    tree.shutdown(ShutdownPlan::default()).await;
}

/// A restart of the supervisor brings all of them back, and the router goes by that.
#[tokio::test(start_paused = true)]
async fn a_restart_of_the_supervisor_brings_all_partitions_back() {
    let log = Log::default();
    let (spec, partitions) = scripts(&log).partitions(4).build().unwrap();
    let below = ChildSpec::supervisor("books", spec);
    let (tree, mut events) = started(generous(Strategy::OneForOne).child(below)).await;
    partitions.resize(0).await.unwrap();
    partitions.current().unwrap().cell().kill();
    events.restarted("books").await;
    assert_eq!(partitions.len(), 4);
    let generations: Vec<u64> = standing(&partitions).await.iter().map(|at| at.2).collect();
    assert_eq!(generations, [2; 4]);
    assert_eq!(ping(&partitions.route(&3).unwrap()).await, 2);
    assert_eq!(partitions.resize(1).await.unwrap(), 4);
    tree.shutdown(ShutdownPlan::default()).await;
}

/// A partition's own dynamic supervisor comes back empty, and its reference is still the key's.
#[tokio::test(start_paused = true)]
async fn a_dynamic_partition_comes_back_under_the_same_key() {
    let log = Log::default();
    let (spec, partitions) = PartitionSpec::dynamic(lasting())
        .partitions(2)
        .intensity(Intensity::new(9, HOUR))
        .build()
        .unwrap();
    let (tree, mut events) = started(spec).await;
    let jobs: Vec<DynamicRef> = partitions.all();
    for jobs in &jobs {
        add(jobs, puppet("job", &log)).await;
    }
    jobs[1].current().unwrap().cell().kill();
    events.restarted("1").await;
    let counts = [&jobs[0], &partitions.route(&1).unwrap()];
    let mut left = Vec::new();
    for jobs in counts {
        left.push(jobs.count_children().await.unwrap().specs);
    }
    assert_eq!(left, [1, 0]);
    add(&jobs[1], puppet("job", &log)).await;
    tree.shutdown(ShutdownPlan::default()).await;
}

/// It would be forgotten with its first end, and neither routing nor resizing could do without it.
#[test]
fn temporary_partitions_are_refused() {
    let log = Log::default();
    let built = PartitionSpec::of(move |_| (puppet("p", &log).restart(Restart::Temporary), ()))
        .partitions(2)
        .build();
    assert_eq!(
        built.unwrap_err(),
        SpecError::TemporaryPartition { partition: 0 }
    );
}

/// A key of the user's own that does not know the bound is routed all the same, and always alike.
#[tokio::test(start_paused = true)]
async fn a_key_beyond_the_partitions_is_taken_by_its_remainder() {
    struct Careless;

    impl mainstay_supervisors::PartitionKey for Careless {
        fn partition(&self, partitions: usize) -> usize {
            partitions + 1
        }
    }

    let numbered = PartitionSpec::of(|partition| (puppet("p", &Log::default()), partition));
    let (_spec, partitions) = numbered.partitions(4).build().unwrap();
    assert_eq!(partitions.route(&Careless), Ok(1));
}
