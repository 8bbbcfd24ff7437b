//! Ending a tree: order, limits, deadline, what is left behind.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use mainstay_supervisors::{
    Address, AddressStatus, Backoff, ChildSpec, ExitReason, Generation, Jitter, Shutdown,
    ShutdownCause, ShutdownPlan, ShutdownReport, Strategy, SupervisorAddress, SupervisorEventKind,
    SupervisorRef, SupervisorSpec, Verdict,
};

use crate::kit::{Do, Log, Script, generous, puppet, scripted, settle, started};
use crate::telemetry::Tape;

fn slow(id: &str, log: &Log, stop_takes: Duration) -> ChildSpec {
    scripted(
        id,
        Script {
            log: log.clone(),
            stop_takes,
            ..Script::default()
        },
    )
}

/// Trap 1: depth first, in reverse start order, each awaited.
#[tokio::test(start_paused = true)]
async fn a_tree_ends_depth_first_in_reverse_order() {
    let log = Log::default();
    let below = generous(Strategy::OneForOne)
        .child(puppet("b1", &log))
        .child(slow("b2", &log, Duration::from_secs(1)));
    let spec = generous(Strategy::OneForOne)
        .child(puppet("a", &log))
        .child(ChildSpec::supervisor("b", below))
        .child(slow("c", &log, Duration::from_secs(2)));
    let (tree, _events) = started(spec).await;
    log.take();
    let report = tree.shutdown(ShutdownPlan::default()).await;
    let stops: Vec<_> = log
        .take()
        .into_iter()
        .filter(|line| line.starts_with("stop"))
        .collect();
    assert_eq!(stops, ["stop c", "stop b2", "stop b1", "stop a"]);
    assert_eq!(report.graceful, 5);
    assert!(report.killed.is_empty() && report.abandoned.is_empty());
    assert_eq!(report.took.as_secs(), 3);
    assert!(matches!(
        &*tree.wait().await,
        ExitReason::Ended(ShutdownCause::Requested)
    ));
}

/// OTP-STOP-01, OTP-STOP-02, OTP-STOP-04, OTP-STOP-08; EXD-31, EXD-32, EXD-34, EXD-36, EXD-38.
#[tokio::test(start_paused = true)]
async fn each_child_is_ended_within_its_own_limit() {
    let log = Log::default();
    let minute = Duration::from_secs(60);
    let spec = generous(Strategy::OneForOne)
        .child(slow("patient", &log, Duration::from_secs(9)).shutdown(Shutdown::Infinite))
        .child(slow("hung", &log, minute).shutdown(Shutdown::Timeout(Duration::from_secs(1))))
        .child(puppet("brutal", &log).shutdown(Shutdown::Kill))
        .child(puppet("good", &log));
    let (tree, mut events) = started(spec).await;
    log.take();
    let report = tree.shutdown(ShutdownPlan::within(minute)).await;
    assert_eq!(
        log.take(),
        [
            "stop good",
            "drop good",
            "drop brutal",
            "drop hung",
            "stop patient",
            "drop patient"
        ]
    );
    let killed: Vec<_> = report.killed.iter().map(ToString::to_string).collect();
    assert_eq!(killed, ["root/brutal", "root/hung"]);
    assert_eq!(report.graceful, 2);
    assert_eq!(report.killed_by_spec, 1);
    assert!(!report.is_clean(), "one took too long");
    assert_eq!(report.took.as_secs(), 10);
    for (id, kind) in [
        ("good", "stopped"),
        ("brutal", "killed"),
        ("hung", "killed"),
        ("patient", "stopped"),
    ] {
        assert_eq!(events.stopped(id).await.kind(), kind, "{id}");
    }
    assert!(matches!(
        &*tree.wait().await,
        ExitReason::Ended(ShutdownCause::Requested)
    ));
}

/// OTP-STOP-01: no limit is one for workers and supervisors, and both end in good order.
#[tokio::test(start_paused = true)]
async fn workers_and_supervisors_can_both_take_as_long_as_they_need() {
    let log = Log::default();
    let hour = Duration::from_secs(3600);
    let endless = |id: &str| slow(id, &log, hour).shutdown(Shutdown::Infinite);
    let below = generous(Strategy::OneForOne).child(endless("deep"));
    let spec = generous(Strategy::OneForOne)
        .child(endless("worker"))
        .child(ChildSpec::supervisor("below", below).shutdown(Shutdown::Infinite));
    let (tree, mut events) = started(spec).await;
    log.take();
    let report = tree.shutdown(ShutdownPlan::within(3 * hour)).await;
    assert_eq!((report.took, report.graceful), (2 * hour, 3));
    assert!(report.is_clean());
    assert_eq!(
        log.take(),
        ["stop deep", "drop deep", "stop worker", "drop worker"]
    );
    let below = events.stopped("below").await;
    assert!(matches!(
        &*below,
        ExitReason::Ended(ShutdownCause::Requested)
    ));
    let worker = events.stopped("worker").await;
    assert!(
        matches!(&*worker, ExitReason::Stopped { reason: Some(text) } if text == "shutdown"),
        "{worker}"
    );
}

/// OTP kills a supervisor at its limit, and with it whoever has not ended by then; here the limit is shared out.
#[tokio::test(start_paused = true)]
async fn a_sub_supervisor_asks_everybody_within_its_own_limit() {
    let log = Log::default();
    let hour = Duration::from_secs(3600);
    let limit = Duration::from_secs(6);
    let below = generous(Strategy::OneForOne)
        .child(puppet("good", &log))
        .child(slow("b", &log, hour).shutdown(Shutdown::Infinite))
        .child(slow("c", &log, hour).shutdown(Shutdown::Timeout(Duration::from_secs(2))));
    let below = ChildSpec::supervisor("below", below).shutdown(Shutdown::Timeout(limit));
    let (tree, mut events) = started(generous(Strategy::OneForOne).child(below)).await;
    log.take();
    let began = tokio::time::Instant::now();
    tree.terminate_child(&"below".into()).await.unwrap();
    assert!(began.elapsed() <= limit);
    assert_eq!(log.take(), ["drop c", "drop b", "stop good", "drop good"]);
    let end = events
        .until(|event| {
            matches!(event.kind, SupervisorEventKind::ChildStopped { .. })
                && event
                    .child
                    .as_ref()
                    .is_some_and(|id| id.as_str() == "below")
        })
        .await;
    assert!(
        matches!(&end.kind, SupervisorEventKind::ChildStopped { reason } if reason.kind() == "ended"),
        "{end:?}"
    );
    tree.shutdown(ShutdownPlan::default()).await;
}

/// The total beats patience, and leaves enough for those who are still to be stopped.
#[tokio::test(start_paused = true)]
async fn the_total_is_divided_so_that_everybody_is_still_asked() {
    let log = Log::default();
    let hour = Duration::from_secs(3600);
    let spec = generous(Strategy::OneForOne)
        .child(puppet("a", &log))
        .child(slow("b", &log, hour).shutdown(Shutdown::Infinite))
        .child(puppet("c", &log));
    let (tree, _events) = started(spec).await;
    log.take();
    let report = tree
        .shutdown(ShutdownPlan::within(Duration::from_secs(10)))
        .await;
    assert!(report.took <= Duration::from_secs(10), "{report:?}");
    assert_eq!(report.killed.len(), 1);
    assert_eq!(report.graceful, 2);
    assert!(log.take().contains(&"stop a".to_owned()));
}

/// Trap 5: a second request joins the first, and can tighten it.
#[tokio::test(start_paused = true)]
async fn a_second_shutdown_joins_the_first_and_tightens_it() {
    let log = Log::default();
    let hour = Duration::from_secs(3600);
    let spec =
        generous(Strategy::OneForOne).child(slow("a", &log, hour).shutdown(Shutdown::Infinite));
    let (tree, _events) = started(spec).await;
    let (first, second) = tokio::join!(tree.shutdown(ShutdownPlan::within(hour)), async {
        tokio::time::sleep(Duration::from_secs(5)).await;
        tree.shutdown(ShutdownPlan::within(Duration::from_secs(2)))
            .await
    });
    assert_eq!(first, second);
    assert!(first.took <= Duration::from_secs(7), "{first:?}");
    assert_eq!(first.killed.len(), 1);
    // Long after the end it still answers.
    assert_eq!(tree.shutdown(ShutdownPlan::default()).await, first);
}

/// Not a longer plan either, that came in between.
#[tokio::test(start_paused = true)]
async fn a_kill_beats_every_other_request() {
    let log = Log::default();
    let hour = Duration::from_secs(3600);
    let endless = |id: &str| slow(id, &log, hour).shutdown(Shutdown::Infinite);
    let below = generous(Strategy::OneForOne).child(endless("b"));
    let spec = generous(Strategy::OneForOne)
        .child(endless("a"))
        .child(ChildSpec::supervisor("below", below))
        .child(puppet("brutal", &log).shutdown(Shutdown::Kill));
    let (tree, _events) = started(spec).await;
    let (first, longer, kill) = tokio::join!(
        tree.shutdown(ShutdownPlan::within(hour)),
        async {
            settle().await;
            tree.shutdown(ShutdownPlan::within(2 * hour)).await
        },
        async {
            tokio::time::sleep(Duration::from_secs(5)).await;
            tree.shutdown(ShutdownPlan::at_once()).await
        }
    );
    assert_eq!((&first, &longer), (&kill, &kill));
    assert!(kill.took < Duration::from_secs(6), "{kill:?}");
    let mut killed: Vec<_> = kill.killed.iter().map(ToString::to_string).collect();
    killed.sort();
    assert_eq!(
        killed,
        ["root/a", "root/below", "root/below/b", "root/brutal"]
    );
    assert_eq!((kill.graceful, kill.killed_by_spec), (0, 1));
    assert!(!kill.is_clean());
    assert!(matches!(&*tree.wait().await, ExitReason::Killed));
}

fn killed(report: &ShutdownReport) -> Vec<String> {
    let mut killed: Vec<_> = report.killed.iter().map(ToString::to_string).collect();
    killed.sort();
    killed
}

/// Whoever was told to stop before the shutdown came, by a group's restart or by request, and is killed within it,
/// is in its report.
#[tokio::test(start_paused = true)]
async fn a_stop_that_was_under_way_belongs_to_the_report() {
    let minute = Duration::from_secs(60);
    let second = Shutdown::Timeout(Duration::from_secs(1));
    for strategy in [Strategy::OneForOne, Strategy::OneForAll] {
        let log = Log::default();
        let address = Address::new();
        let spec = generous(strategy)
            .child(slow("stubborn", &log, minute).shutdown(second))
            .child(puppet("a", &log).address(&address));
        let (tree, _events) = started(spec).await;
        let stubborn = async {
            if strategy == Strategy::OneForOne {
                tree.terminate_child(&"stubborn".into()).await.unwrap();
            } else {
                address.cast(Do::PanicText).unwrap();
            }
        };
        let (report, ()) = tokio::join!(
            async {
                settle().await;
                tree.shutdown(ShutdownPlan::within(minute)).await
            },
            stubborn
        );
        assert_eq!(killed(&report), ["root/stubborn"], "{strategy:?}");
        assert!(!report.is_clean());
    }
}

/// A supervisor that is killed because its time is up takes all of its children into the report.
#[tokio::test(start_paused = true)]
async fn a_killed_supervisors_children_are_all_in_the_report() {
    let log = Log::default();
    let hour = Duration::from_secs(3600);
    let endless = |id: &str| slow(id, &log, hour).shutdown(Shutdown::Infinite);
    let ids: Vec<String> = (10..30).map(|number| number.to_string()).collect();
    let below = |ids: &[String]| {
        let children = ids.iter().map(|id| endless(id));
        children.fold(generous(Strategy::OneForOne), SupervisorSpec::child)
    };
    for plan in [
        ShutdownPlan::within(Duration::from_millis(700)),
        ShutdownPlan::at_once(),
    ] {
        let two = generous(Strategy::OneForOne).child(ChildSpec::supervisor("ss", below(&ids)));
        let spec = generous(Strategy::OneForOne).child(ChildSpec::supervisor("s", two));
        let (tree, _events) = started(spec).await;
        let report = tree.shutdown(plan).await;
        let named: Vec<String> = killed(&report);
        for id in &ids {
            let path = format!("root/s/ss/{id}");
            assert!(named.contains(&path), "{path} of {report:?}");
        }
        assert_eq!(report.killed.len() + report.graceful, ids.len() + 2);
    }
}

/// What was killed while the tree was well is no part of how it ended.
#[tokio::test(start_paused = true)]
async fn a_start_that_took_too_long_is_not_in_a_later_report() {
    let (tree, _events) = started(generous(Strategy::OneForOne)).await;
    let script = Script {
        start_takes: Duration::from_secs(3600),
        ..Script::default()
    };
    let late = scripted("late", script).start_timeout(Duration::from_secs(1));
    tree.start_child(late).await.unwrap_err();
    let report = tree.shutdown(ShutdownPlan::default()).await;
    assert!(
        killed(&report).is_empty() && report.is_clean(),
        "{report:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_second_request_cannot_lengthen_the_first() {
    let log = Log::default();
    let hour = Duration::from_secs(3600);
    let spec =
        generous(Strategy::OneForOne).child(slow("a", &log, hour).shutdown(Shutdown::Infinite));
    let (tree, _events) = started(spec).await;
    let (first, second) = tokio::join!(tree.shutdown(ShutdownPlan::within(hour / 60)), async {
        settle().await;
        tree.shutdown(ShutdownPlan::within(2 * hour)).await
    });
    assert_eq!(first, second);
    assert!(first.took <= hour / 60, "{first:?}");
}

/// A plan whose total is zero does not wait for the kill in vain: everybody is gone and told of.
#[tokio::test(start_paused = true)]
async fn a_shutdown_at_once_kills_everybody_and_says_so() {
    let log = Log::default();
    let below = generous(Strategy::OneForOne).child(puppet("b", &log));
    let spec = generous(Strategy::OneForOne)
        .child(puppet("a", &log))
        .child(ChildSpec::supervisor("below", below));
    let (tree, _events) = started(spec).await;
    log.take();
    let report = tree.shutdown(ShutdownPlan::at_once()).await;
    assert_eq!(report.killed.len(), 3, "{report:?}");
    assert!(report.abandoned.is_empty());
    let mut lines = log.take();
    lines.sort();
    assert_eq!(lines, ["drop a", "drop b"]);
}

/// RX-05, trap 6, on a real clock: a child that never yields is left behind and reported, at the
/// total, and its siblings are still stopped in order.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_child_that_never_yields_is_abandoned_at_the_total() {
    let log = Log::default();
    let address = Address::new();
    let below = generous(Strategy::OneForOne)
        .child(puppet("b1", &log))
        .child(puppet("stuck", &log).address(&address))
        .child(puppet("b3", &log));
    let spec = generous(Strategy::OneForOne)
        .child(puppet("a", &log))
        .child(ChildSpec::supervisor("b", below));
    let (tree, _events) = started(spec).await;
    log.take();
    let (release, until) = std::sync::mpsc::sync_channel(0);
    address.cast(Do::Block(until)).unwrap();
    // Taken by the handler that blocks.
    release.send(()).unwrap();
    let total = Duration::from_secs(2);
    let began = std::time::Instant::now();
    let report = tree.shutdown(ShutdownPlan::within(total)).await;
    // Without the total it would be five seconds and a kill for each level.
    assert!(began.elapsed() < 2 * total);
    let abandoned: Vec<_> = report.abandoned.iter().map(ToString::to_string).collect();
    assert_eq!(abandoned, ["root/b/stuck"]);
    let stops: Vec<_> = log
        .take()
        .into_iter()
        .filter(|line| line.starts_with("stop"))
        .collect();
    assert_eq!(stops, ["stop b3", "stop b1", "stop a"]);
    drop(release);
}

/// Whoever asks while a thousand others do waits for room, and is answered like them.
#[tokio::test(start_paused = true)]
async fn more_callers_than_there_is_room_for_are_all_answered() {
    let log = Log::default();
    let spec = generous(Strategy::OneForOne).child(puppet("a", &log));
    let (tree, _events) = started(spec).await;
    let asking = (0..5_000).map(|_| tree.count_children());
    let counts = futures_util::future::join_all(asking).await;
    assert!(counts.into_iter().all(|it| it.unwrap().active == 1));
    tree.shutdown(ShutdownPlan::default()).await;
}

/// A shutdown cancels a restart that waits.
#[tokio::test(start_paused = true)]
async fn a_child_in_backoff_does_not_come_back_after_a_shutdown() {
    let log = Log::default();
    let address = Address::new();
    let long = Duration::from_secs(30);
    let spec = generous(Strategy::OneForOne).child(
        puppet("a", &log)
            .backoff(
                Backoff::new(long, long)
                    .jitter(Jitter::None)
                    .first_immediate(false),
            )
            .address(&address),
    );
    let (tree, mut events) = started(spec).await;
    address.cast(Do::Fail(1)).unwrap();
    events.exited("a").await;
    let report = tree.shutdown(ShutdownPlan::default()).await;
    assert!(report.took < Duration::from_secs(1));
    log.take();
    tokio::time::sleep(2 * long).await;
    assert!(log.take().is_empty());
    assert!(matches!(address.status(), AddressStatus::Down(_)));
}

/// Trap 1: a stop by somebody else ends the children in order too.
#[tokio::test(start_paused = true)]
async fn a_foreign_stop_of_a_supervisor_is_orderly() {
    let log = Log::default();
    let spec = generous(Strategy::OneForOne)
        .child(puppet("a", &log))
        .child(slow("b", &log, Duration::from_secs(2)));
    let (tree, _events) = started(spec).await;
    log.take();
    tree.cell().stop(None);
    let reason = tree.wait().await;
    assert!(matches!(
        &*reason,
        ExitReason::Ended(ShutdownCause::Requested)
    ));
    assert_eq!(log.take(), ["stop b", "drop b", "stop a", "drop a"]);
}

/// RX-28, trap 2: a killed supervisor takes everybody along, at once, and is gone only after them; neither
/// an observer nor a judge of ends is called for it any more.
#[tokio::test(start_paused = true)]
async fn nobody_survives_a_killed_supervisor() {
    let log = Log::default();
    let judged = Arc::new(AtomicUsize::new(0));
    let judging = |child: ChildSpec| {
        let judged = judged.clone();
        child.classify(move |_| {
            judged.fetch_add(1, Ordering::SeqCst);
            Verdict::Default
        })
    };
    let below = generous(Strategy::OneForOne).child(judging(puppet("b", &log)));
    let spec = generous(Strategy::OneForOne)
        .child(judging(puppet("a", &log)))
        .child(judging(ChildSpec::supervisor("below", below)));
    let (tree, mut events) = started(spec).await;
    log.take();
    events.names();
    let killed = tokio::time::Instant::now();
    tree.cell().kill();
    assert!(matches!(&*tree.wait().await, ExitReason::Killed));
    let mut lines = log.take();
    lines.sort();
    assert_eq!(lines, ["drop a", "drop b"]);
    assert_eq!(killed.elapsed(), Duration::ZERO, "a kill needs no time");
    settle().await;
    assert_eq!(judged.load(Ordering::SeqCst), 0);
    assert_eq!(events.names(), Vec::<String>::new());
}

/// RX-28: a dropped root says so, and kills its tree; no observer is called for it any more.
#[tokio::test(start_paused = true)]
async fn a_dropped_root_kills_its_tree() {
    let log = Log::default();
    let tape = Tape::default();
    let _recording = tracing::subscriber::set_default(tape.clone());
    let spec = generous(Strategy::OneForOne).child(puppet("a", &log));
    let (tree, mut events) = started(spec).await;
    let known = SupervisorRef::clone(&tree);
    events.names();
    let before = tape.told().len();
    let dropped = tokio::time::Instant::now();
    drop(tree);
    assert!(matches!(&*known.wait().await, ExitReason::Killed));
    assert!(log.take().contains(&"drop a".to_owned()));
    assert_eq!(dropped.elapsed(), Duration::ZERO, "a kill needs no time");
    settle().await;
    assert_eq!(
        tape.told()[before..],
        ["error the root of a running tree was dropped: the tree is killed"]
    );
    assert_eq!(events.names(), Vec::<String>::new());
}

/// RX-23, on a real clock, since the runtime's own end takes none: the runtime goes without a shutdown: no hang, no panic, no restarts, names freed.
#[test]
fn a_runtime_that_goes_away_leaves_nothing() {
    let log = Log::default();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let spec = generous(Strategy::OneForAll)
        .child(puppet("a", &log).registered("gone-with-the-runtime"))
        .child(puppet("b", &log));
    let tree = runtime.block_on(spec.start()).unwrap();
    runtime.shutdown_timeout(Duration::from_secs(5));
    drop(tree);
    assert!(ractor::registry::where_is("gone-with-the-runtime").is_none());
    let starts = log
        .read()
        .iter()
        .filter(|line| line.starts_with("start"))
        .count();
    assert_eq!(starts, 2);
}

/// A tree under a foreign actor ends with it.
#[tokio::test(start_paused = true)]
async fn a_tree_under_a_foreign_actor_ends_with_it() {
    let log = Log::default();
    let (foreign, join) = ractor::Actor::spawn(None, crate::kit::Puppet, Script::default())
        .await
        .unwrap();
    let tree = generous(Strategy::OneForOne)
        .child(puppet("a", &log))
        .start_under(foreign.get_cell())
        .await
        .unwrap();
    foreign.stop(None);
    join.await.unwrap();
    tree.wait().await;
    settle().await;
    assert!(log.take().contains(&"drop a".to_owned()));
}

/// What a sub-supervisor's own shutdown had to kill is in its own report, and not in the tree's.
#[tokio::test(start_paused = true)]
async fn a_sub_supervisors_own_shutdown_leaves_the_trees_report_alone() {
    let log = Log::default();
    let address = SupervisorAddress::new();
    let below = generous(Strategy::OneForOne)
        .address(&address)
        .child(puppet("a", &log));
    let spec = generous(Strategy::OneForOne).child(ChildSpec::supervisor("s", below));
    let (tree, mut events) = started(spec).await;
    let first = address.up(Duration::ZERO).await.expect("it is up");
    let own = first.shutdown(ShutdownPlan::at_once()).await;
    assert!(!own.is_clean(), "{own:?}");
    events.exited("s").await;
    let second = address.up(Duration::from_secs(60)).await;
    assert_eq!(second.expect("restarted").generation(), Generation(2));
    let report = tree.shutdown(ShutdownPlan::default()).await;
    assert!(report.is_clean(), "{report:?}");
    assert_eq!(report.graceful, 2, "the second one and its child");
}
