//! Cases that OTP's `supervisor_SUITE` and Elixir's suites have by name and the list of cases has not.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use mainstay_supervisors::{
    Address, AutoShutdown, Backoff, ChildSpec, DynamicRef, ExitReason, Intensity, Jitter,
    NodeStatus, PartitionSpec, Restart, Shutdown, ShutdownCause, ShutdownPlan, StartChildError,
    StartError, Strategy, SupervisorRef, SupervisorSpec,
};
use ractor::registry::where_is;

use crate::admin::id;
use crate::dynamic::{HOUR, add, dynamic, lasting};
use crate::kit::{
    Do, LineDead, Log, Puppet, Script, gated, generous, ping, puppet, scripted, settle, started,
};

const SECOND: Duration = Duration::from_secs(1);
const TYPES: [Restart; 3] = [Restart::Permanent, Restart::Transient, Restart::Temporary];

/// Ends a child in some way.
type End = fn(&Address<Do>);

async fn counts(supervisor: &SupervisorRef) -> [usize; 4] {
    let counts = supervisor.count_children().await.unwrap();
    [
        counts.specs,
        counts.active,
        counts.supervisors,
        counts.workers,
    ]
}

/// Who is listed, and which incarnation; newest first.
async fn listed(supervisor: &SupervisorRef) -> Vec<String> {
    let children = supervisor.which_children().await.unwrap();
    let told = children
        .iter()
        .map(|child| format!("{} {}", child.id, child.generation));
    told.collect()
}

async fn below(supervisor: &SupervisorRef, name: &str) -> SupervisorRef {
    let child = supervisor.which_child(&id(name)).await.unwrap();
    child.supervisor.expect("it is a supervisor that is up")
}

/// Fails its starts for as long as it is told to.
fn deadlock(name: &str, log: &Log, fails: &Arc<AtomicBool>) -> ChildSpec {
    let fails = fails.clone();
    let child = gated(name, log, move |_| match fails.load(Ordering::SeqCst) {
        true => Err(StartError::failed(LineDead(9))),
        false => Ok(()),
    });
    child.backoff(Backoff::new(SECOND, SECOND).jitter(Jitter::None))
}

/// OTP's `sup_stop_race`: children that end by themselves, in whatever way, while the supervisor waits for the last one,
/// neither come back nor hold it up; those that failed are not taken for others.
#[tokio::test(start_paused = true)]
async fn children_that_end_by_themselves_during_a_shutdown_do_not_disturb_it() {
    let log = Log::default();
    let slow = Script {
        log: log.clone(),
        stop_takes: SECOND,
        ..Script::default()
    };
    let ends: [(&str, End); 4] = [
        ("stopped", |address| drop(address.cast(Do::Stop(None)))),
        ("told", |address| {
            drop(address.cast(Do::Stop(Some("a text"))))
        }),
        ("failed", |address| drop(address.cast(Do::Fail(3)))),
        ("killed", |address| {
            address.current().into_iter().for_each(|actor| actor.kill());
        }),
    ];
    let mut spec = generous(Strategy::OneForOne).child(puppet("first", &log));
    let mut children = Vec::new();
    for restart in TYPES {
        for (how, end) in ends {
            let address = Address::new();
            let name = format!("{how} {restart:?}");
            spec = spec.child(puppet(&name, &log).restart(restart).address(&address));
            children.push((name, address, end));
        }
    }
    let (tree, mut events) = started(spec.child(scripted("last", slow))).await;
    log.take();
    let race = async {
        tokio::time::sleep(SECOND / 5).await;
        for (_, address, end) in &children {
            end(address);
        }
    };
    let (report, ()) = tokio::join!(tree.shutdown(ShutdownPlan::default()), race);
    assert_eq!(report.took.as_secs(), 1);
    assert!(report.abandoned.is_empty(), "{report:?}");
    assert!(matches!(
        &*tree.wait().await,
        ExitReason::Ended(ShutdownCause::Requested)
    ));
    assert!(!log.read().iter().any(|line| line.starts_with("start")));
    let exits = events.exits();
    for (name, ..) in &children {
        let expected = match name.split(' ').next().unwrap() {
            "told" => "stopped",
            how => how,
        };
        assert_eq!(exits[name].kind(), expected, "{name}");
    }
    assert_eq!(
        exits.len(),
        children.len(),
        "the first and the last were told"
    );
}

/// OTP's `sup_stop_non_shutdown_exit_dynamic`: of whatever type, dynamic children that answer the request to end with
/// another reason keep it, and the supervisor ends in good order.
#[tokio::test(start_paused = true)]
async fn dynamic_children_keep_the_reasons_they_end_with() {
    for restart in TYPES {
        let log = Log::default();
        let (tree, jobs, mut events) = dynamic(lasting()).await;
        let spiteful = Script {
            log: log.clone(),
            fail_post_stop: true,
            ..Script::default()
        };
        add(&jobs, puppet("good", &log).restart(restart)).await;
        let (bad, _) = add(&jobs, scripted("bad", spiteful).restart(restart)).await;
        let report = tree.shutdown(ShutdownPlan::default()).await;
        assert!(report.killed.is_empty() && report.abandoned.is_empty());
        assert!(tree.wait().await.is_normal());
        let reason = events.stopped(bad.id().as_str()).await;
        assert_eq!(reason.downcast_ref(), Some(&LineDead(2)), "{restart:?}");
    }
}

/// OTP's `simple_one_for_one_restart_ignore`, and Elixir's "child is restarted with different values": what a
/// restart comes to decides what is listed.
#[tokio::test(start_paused = true)]
async fn a_dynamic_child_is_what_its_restart_comes_to() {
    for restart in [Restart::Permanent, Restart::Transient] {
        let log = Log::default();
        let (tree, jobs, mut events) = dynamic(lasting()).await;
        let by_attempt = |second: fn() -> Result<(), StartError>| {
            gated("a", &log, move |context| match context.generation.0 {
                1 => Ok(()),
                _ => second(),
            })
            .restart(restart)
            .backoff(Backoff::new(HOUR, HOUR).jitter(Jitter::None))
        };
        let (again, first) = add(&jobs, by_attempt(|| Ok(()))).await;
        first.current().unwrap().kill();
        events.restarted(again.id().as_str()).await;
        assert_eq!(counts(&tree).await, [1, 1, 0, 1]);

        let (ignores, second) = add(&jobs, by_attempt(|| Err(StartError::Ignore))).await;
        second.current().unwrap().kill();
        events.exited(ignores.id().as_str()).await;
        settle().await;
        assert_eq!(counts(&tree).await, [1, 1, 0, 1], "{restart:?}");
        assert!(jobs.which_child(&ignores).await.is_err());

        let fails = by_attempt(|| Err(StartError::failed(LineDead(1))));
        let panics = by_attempt(|| panic!("no junk in Rust, but this"));
        for (nth, spec) in (1..).zip([fails, panics]) {
            let (key, address) = add(&jobs, spec).await;
            address.current().unwrap().kill();
            events.exited(key.id().as_str()).await;
            settle().await;
            let child = jobs.which_child(&key).await.unwrap();
            assert_eq!(child.status, NodeStatus::Restarting);
            assert_eq!(counts(&tree).await, [1 + nth, 1, 0, 1 + nth]);
        }
        tree.shutdown(ShutdownPlan::default()).await;
    }
}

/// OTP's `count_restarting_children`, and Elixir's "restarting on init children counted in max_children" and
/// "terminates restarting child".
#[tokio::test(start_paused = true)]
async fn dynamic_children_that_restart_are_counted_hold_their_places_and_can_be_ended() {
    let log = Log::default();
    let fails = Arc::new(AtomicBool::new(false));
    let (tree, jobs, mut events) = dynamic(lasting().max_children(3)).await;
    let mut children = Vec::new();
    for nth in 1..=3 {
        children.push(add(&jobs, deadlock("a", &log, &fails)).await);
        assert_eq!(counts(&tree).await, [nth, nth, 0, nth]);
    }
    for (key, address) in &children {
        address.cast(Do::Fail(1)).unwrap();
        events.restarted(key.id().as_str()).await;
    }
    assert_eq!(counts(&tree).await, [3, 3, 0, 3]);
    fails.store(true, Ordering::SeqCst);
    for (_, address) in &children[..2] {
        address.cast(Do::Fail(1)).unwrap();
    }
    tokio::time::sleep(4 * SECOND).await;
    assert_eq!(counts(&tree).await, [3, 1, 0, 3]);
    let full = jobs.start_child(puppet("b", &log)).await;
    assert!(matches!(full, Err(StartChildError::MaxChildren { .. })));
    jobs.terminate_child(&children[0].0).await.unwrap();
    assert_eq!(counts(&tree).await, [2, 1, 0, 2]);
    let again = jobs.terminate_child(&children[0].0).await;
    assert!(again.unwrap_err().to_string().contains("there is no child"));
    fails.store(false, Ordering::SeqCst);
    tokio::time::sleep(4 * SECOND).await;
    assert_eq!(counts(&tree).await, [2, 2, 0, 2]);
    jobs.terminate_child(&children[2].0).await.unwrap();
    assert_eq!(counts(&tree).await, [1, 1, 0, 1]);
    jobs.terminate_child(&children[1].0).await.unwrap();
    assert_eq!(counts(&tree).await, [0; 4]);
    tree.shutdown(ShutdownPlan::default()).await;
}

/// OTP's `significant_bystander`.
#[tokio::test(start_paused = true)]
async fn a_significant_child_that_ends_with_its_group_does_not_end_the_supervisor() {
    for (strategy, restarted) in [
        (Strategy::OneForOne, ["c 1", "b 2", "a 1"]),
        (Strategy::OneForAll, ["c 2", "b 2", "a 2"]),
        (Strategy::RestForOne, ["c 2", "b 2", "a 1"]),
    ] {
        for mode in [AutoShutdown::AnySignificant, AutoShutdown::AllSignificant] {
            let (log, address) = (Log::default(), Address::<Do>::new());
            let member = |name: &str| puppet(name, &log).restart(Restart::Transient);
            let spec = generous(strategy)
                .auto_shutdown(mode)
                .child(member("a").significant(true))
                .child(member("b").address(&address))
                .child(member("c").significant(true));
            let (tree, _events) = started(spec).await;
            address.current().unwrap().kill();
            tokio::time::sleep(HOUR).await;
            assert_eq!(listed(&tree).await, restarted, "{strategy:?} {mode:?}");
            tree.shutdown(ShutdownPlan::default()).await;
        }
    }
}

/// OTP's `significant_escalation`: an end by auto-shutdown is the end of a significant child above, if it is one there.
#[tokio::test(start_paused = true)]
async fn an_auto_shutdown_goes_on_upwards_as_far_as_it_is_significant() {
    for significant in [true, false] {
        let (log, address) = (Log::default(), Address::new());
        let worker = puppet("worker", &log)
            .restart(Restart::Transient)
            .significant(true)
            .address(&address);
        let below = SupervisorSpec::new(Strategy::OneForOne)
            .auto_shutdown(AutoShutdown::AnySignificant)
            .child(worker);
        let below = ChildSpec::supervisor("below", below)
            .restart(Restart::Transient)
            .significant(significant);
        let spec = generous(Strategy::OneForOne)
            .auto_shutdown(AutoShutdown::AnySignificant)
            .child(below);
        let (tree, mut events) = started(spec).await;
        address.cast(Do::Stop(None)).unwrap();
        let reason = events.exited("below").await;
        assert!(
            matches!(&*reason, ExitReason::Ended(ShutdownCause::AutoShutdown { child, .. })
                if child.as_str() == "worker"),
            "{reason}"
        );
        if significant {
            let reason = tree.wait().await;
            assert!(
                matches!(&*reason, ExitReason::Ended(ShutdownCause::AutoShutdown { child, .. })
                    if child.as_str() == "below"),
                "{reason}"
            );
        } else {
            tokio::time::sleep(HOUR).await;
            assert_eq!(counts(&tree).await, [1, 0, 1, 0]);
        }
        tree.shutdown(ShutdownPlan::default()).await;
    }
}

/// OTP's `tree`: supervisors of supervisors; those that were added by request come back with their group, what was
/// added beneath them does not.
#[tokio::test(start_paused = true)]
async fn a_tree_is_restarted_by_its_specs_and_not_by_what_was_added_beneath_them() {
    let log = Log::default();
    let few = || SupervisorSpec::new(Strategy::OneForOne).intensity(Intensity::new(4, HOUR));
    let (tree, mut events) = started(generous(Strategy::OneForAll)).await;
    let first = few().child(puppet("1", &log)).child(puppet("2", &log));
    for child in [
        ChildSpec::supervisor("first", first),
        ChildSpec::supervisor("second", few()),
        ChildSpec::supervisor("third", few()).restart(Restart::Transient),
    ] {
        tree.start_child(child).await.unwrap();
    }
    tree.terminate_child(&id("third")).await.unwrap();
    assert_eq!(counts(&tree).await, [3, 2, 3, 0]);
    let (first, second) = (below(&tree, "first").await, below(&tree, "second").await);
    assert_eq!(counts(&first).await, [2, 2, 0, 2]);
    assert_eq!(counts(&second).await, [0; 4]);

    let once = gated("3", &log, |context| match context.generation.0 {
        1 => Ok(()),
        _ => Err(StartError::failed(LineDead(3))),
    });
    second.start_child(once).await.unwrap();
    second.start_child(puppet("4", &log)).await.unwrap();
    let fourth: Address<Do> = second.address(&id("4")).await.unwrap();
    fourth.cast(Do::Fail(1)).unwrap();
    events.restarted("4").await;
    assert_eq!(listed(&second).await, ["4 2", "3 1"]);
    assert_eq!(listed(&first).await, ["2 1", "1 1"]);

    let third: Address<Do> = second.address(&id("3")).await.unwrap();
    third.cast(Do::Fail(1)).unwrap();
    events.restarted("third").await;
    assert_eq!(counts(&tree).await, [3, 3, 3, 0]);
    assert_eq!(
        counts(&below(&tree, "first").await).await,
        [2, 2, 0, 2],
        "by its spec"
    );
    for name in ["second", "third"] {
        assert_eq!(counts(&below(&tree, name).await).await, [0; 4]);
    }
    tree.shutdown(ShutdownPlan::default()).await;
}

/// OTP's `order_of_children`: started as listed, whatever their ids; ended the other way round, a part of them and all.
#[tokio::test(start_paused = true)]
async fn children_start_as_they_are_listed_and_end_the_other_way_round() {
    let log = Log::default();
    let third = Address::new();
    let names = ["ch7", "ch3", "ch10", "ch2", "ch5"];
    let children = names.map(|name| match name {
        "ch10" => puppet(name, &log).address(&third),
        _ => puppet(name, &log),
    });
    let (tree, mut events) = started(generous(Strategy::RestForOne).children(children)).await;
    let order = |verb: &str| {
        let mut lines = log.take();
        lines.retain_mut(|line| match line.strip_prefix(verb) {
            Some(name) => {
                *line = name.trim().to_owned();
                true
            }
            None => false,
        });
        lines
    };
    assert_eq!(order("start"), names);
    third.cast(Do::Fail(1)).unwrap();
    events.restarted("ch5").await;
    let lines = log.read();
    assert_eq!(order("stop"), ["ch5", "ch2"]);
    let starts: Vec<&str> = lines
        .iter()
        .filter_map(|line| line.strip_prefix("start "))
        .collect();
    assert_eq!(starts, ["ch10", "ch2", "ch5"]);
    tree.shutdown(ShutdownPlan::default()).await;
    assert_eq!(order("stop"), ["ch5", "ch2", "ch10", "ch3", "ch7"]);
}

/// OTP's `scale_start_stop_many_children`, on a real clock, of a static supervisor: a hundred times the time for
/// ten times the children is what OTP's suite allows, in proportion, and a walk over all children at each call
/// would take.
#[tokio::test]
async fn starting_and_ending_children_one_by_one_does_not_depend_on_how_many_there_are() {
    let log = Log::default();
    let (tree, _events) = started(SupervisorSpec::new(Strategy::OneForOne)).await;
    let mut took = Vec::new();
    for size in [1_000, 10_000] {
        let began = Instant::now();
        for nth in 0..size {
            tree.start_child(puppet(&nth.to_string(), &log))
                .await
                .unwrap();
        }
        let up = began.elapsed();
        assert_eq!(counts(&tree).await, [size, size, 0, size]);
        for nth in 0..size {
            tree.terminate_child(&id(&nth.to_string())).await.unwrap();
        }
        let ended = began.elapsed() - up;
        for nth in 0..size {
            tree.delete_child(&id(&nth.to_string())).await.unwrap();
        }
        assert_eq!(counts(&tree).await, [0; 4]);
        took.push([up, ended].map(|time| time.max(Duration::from_millis(1))));
        log.take();
    }
    for (few, many) in took[0].iter().zip(took[1]) {
        assert!(many < *few * 100, "{took:?}");
    }
    tree.shutdown(ShutdownPlan::default()).await;
}

/// OTP's `simple_global_supervisor`: a name is found again after its holder's supervisor was killed, after the holder was
/// killed or ended well, after a restart by request; and by nobody once all is over.
#[tokio::test(start_paused = true)]
async fn a_name_follows_its_child_through_every_restart() {
    let name = "suites: server".to_owned();
    let (log, address) = (Log::default(), Address::new());
    let server = puppet("server", &log).registered(&name).address(&address);
    let middle = generous(Strategy::OneForAll).child(server);
    let spec = generous(Strategy::OneForAll).child(ChildSpec::supervisor("middle", middle));
    let (tree, mut events) = started(spec).await;
    let mut last = where_is(name.clone()).unwrap();
    for way in 0..4 {
        let middle = below(&tree, "middle").await;
        match way {
            0 => {
                middle.cell().kill();
                events.restarted("middle").await;
            }
            1 => {
                last.kill();
                events.restarted("server").await;
            }
            2 => {
                address.cast(Do::Stop(None)).unwrap();
                events.restarted("server").await;
            }
            _ => {
                middle.terminate_child(&id("server")).await.unwrap();
                assert!(where_is(name.clone()).is_none());
                middle.restart_child(&id("server")).await.unwrap();
            }
        }
        ping(&address).await;
        let found = where_is(name.clone()).expect("it is back");
        assert_ne!(found.get_id(), last.get_id(), "{way}");
        last = found;
    }
    drop(tree);
    last.wait(None).await.unwrap();
    settle().await;
    assert!(where_is(name).is_none());
}

/// Elixir's `PartitionSupervisor`: resizes the number of children, through all sizes in any order.
#[tokio::test(start_paused = true)]
async fn a_partitioned_supervisor_can_be_resized_in_any_order() {
    let numbered = PartitionSpec::actors(|_, _| Ok((Puppet, Script::default())));
    let (spec, partitions) = numbered.partitions(8).build().unwrap();
    let tree = spec.start().await.unwrap();
    let down = (0..=8).rev();
    let shuffled = [3, 8, 0, 5, 1, 7, 2, 6, 4];
    for size in down.chain(0..=8).chain(shuffled) {
        partitions.resize(size).await.unwrap();
        assert_eq!(partitions.len(), size);
        assert_eq!(counts(&tree).await, [8, size, 0, 8]);
        let mut reached: Vec<_> = (0..8u64)
            .filter_map(|key| partitions.route(&key).ok())
            .map(|address| address.current().expect("it is up").get_id())
            .collect();
        reached.sort_by_key(ToString::to_string);
        reached.dedup();
        assert_eq!(reached.len(), size);
    }
    tree.shutdown(ShutdownPlan::default()).await;
}

/// Elixir's `PartitionSupervisor` "with_arguments": each partition is told its number, dynamic ones through what their
/// supervisor shares too.
#[tokio::test(start_paused = true)]
async fn each_partition_can_be_made_by_its_number() {
    let by_number = PartitionSpec::of(|partition| {
        let jobs = DynamicRef::new();
        let spec = lasting().shared(partition * 10).reference(&jobs);
        (ChildSpec::supervisor("any", spec), jobs)
    });
    let (spec, partitions) = by_number.partitions(3).build().unwrap();
    let tree = spec.start().await.unwrap();
    for (partition, jobs) in partitions.all().iter().enumerate() {
        let (tell, told) = std::sync::mpsc::channel();
        let (tell, log) = (std::sync::Mutex::new(tell), Log::default());
        let asks = gated("a", &log, move |context| {
            let shared = context.shared::<usize>().copied();
            tell.lock().unwrap().send(shared).unwrap();
            Ok(())
        });
        jobs.start_child(asks.shutdown(Shutdown::Kill))
            .await
            .unwrap();
        assert_eq!(told.recv().unwrap(), Some(partition * 10));
    }
    tree.shutdown(ShutdownPlan::default()).await;
}
