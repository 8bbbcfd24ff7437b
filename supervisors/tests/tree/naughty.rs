//! Children that cut ractor's link to their supervisor: what OTP's suite calls naughty.
//!
//! Nothing here hangs on that link but the text of a stop, and of a child without a wrapper how it ended.

use std::time::Duration;

use mainstay_supervisors::{
    Address, ChildSpec, DynamicSpec, ExitReason, Shutdown, ShutdownPlan, Strategy, SupervisorSpec,
};
use ractor::ActorCell;

use crate::admin::{counts, id};
use crate::dynamic::{HOUR, add, dynamic};
use crate::kinds::foreign;
use crate::kit::{Do, Log, Script, generous, ping, puppet, scripted, settle, started};

const SECOND: Duration = Duration::from_secs(1);

/// Ends a child in some way.
type End = fn(&Address<Do>);

/// As the child would do it itself.
fn unlink(cell: &ActorCell) {
    let supervisor = cell.try_get_supervisor().expect("it was linked");
    cell.unlink(supervisor);
    assert!(cell.try_get_supervisor().is_none());
}

fn unlinked(address: &Address<Do>) -> ActorCell {
    let cell = address.current().unwrap().get_cell();
    unlink(&cell);
    cell
}

fn logged(log: &Log) -> Script {
    Script {
        log: log.clone(),
        ..Script::default()
    }
}

/// Both kinds of children: with a wrapper of this crate's, and without.
fn both(log: &Log, script: &Script) -> [ChildSpec; 2] {
    let script = Script {
        log: log.clone(),
        ..script.clone()
    };
    [scripted("a", script.clone()), foreign("a", script)]
}

/// Whatever it comes to is noticed, and it is restarted as ever.
#[tokio::test(start_paused = true)]
async fn every_end_of_a_child_that_unlinked_itself_is_noticed() {
    let ends: [(&str, End); 5] = [
        ("failed", |address| drop(address.cast(Do::Fail(4)))),
        ("panicked", |address| drop(address.cast(Do::PanicText))),
        ("killed", |address| address.current().unwrap().kill()),
        ("stopped", |address| drop(address.cast(Do::Stop(None)))),
        ("drained", |address| {
            drop(address.current().unwrap().drain());
        }),
    ];
    let log = Log::default();
    for (wrapped, child) in [true, false]
        .into_iter()
        .zip(both(&log, &Script::default()))
    {
        let address = Address::new();
        let spec = generous(Strategy::OneForOne).child(child.address(&address));
        let (tree, mut events) = started(spec).await;
        for (at, (how, end)) in (1..).zip(ends) {
            assert_eq!(ping(&address).await, at);
            unlinked(&address);
            let began = tokio::time::Instant::now();
            end(&address);
            let reason = events.exited("a").await;
            assert!(began.elapsed() < SECOND / 10, "{how}");
            let told = match reason.kind() {
                // The text is ractor's, and goes by the link.
                "stopped" if how == "drained" => "drained",
                kind => kind,
            };
            let expected = if wrapped { how } else { "unobserved" };
            assert_eq!(told, expected, "{how}: {reason}");
            events.restarted("a").await;
        }
        assert_eq!(ping(&address).await, 6);
        tree.shutdown(ShutdownPlan::default()).await;
    }
}

/// OTP's `child_unlink`: `terminate_child` of one that neither listens nor is linked comes to an end, at the child's
/// own limit, and the supervisor answers meanwhile.
#[tokio::test(start_paused = true)]
async fn a_child_that_unlinked_itself_can_be_terminated() {
    let log = Log::default();
    for (wrapped, child) in [true, false]
        .into_iter()
        .zip(both(&log, &Script::default()))
    {
        let address = Address::new();
        let child = child.shutdown(Shutdown::Timeout(SECOND)).address(&address);
        let (tree, mut events) = started(generous(Strategy::OneForOne).child(child)).await;
        unlinked(&address);
        address.cast(Do::Sleep(HOUR)).unwrap();
        settle().await;
        let began = tokio::time::Instant::now();
        let a = id("a");
        let (terminated, meanwhile) = tokio::join!(tree.terminate_child(&a), async {
            tokio::time::sleep(SECOND / 2).await;
            counts(&tree).await
        });
        terminated.unwrap();
        assert_eq!(meanwhile, [1, 1, 0, 1]);
        assert_eq!(began.elapsed().as_secs(), 1);
        assert!(matches!(*events.stopped("a").await, ExitReason::Killed));
        tree.restart_child(&a).await.unwrap();
        unlinked(&address);
        tree.terminate_child(&a).await.unwrap();
        let reason = events.stopped("a").await;
        let expected = if wrapped { "stopped" } else { "unobserved" };
        assert_eq!(reason.kind(), expected, "nobody else can tell");
        tree.shutdown(ShutdownPlan::default()).await;
    }
}

/// In its turn, within its limit, and by name when it took a kill.
#[tokio::test(start_paused = true)]
async fn a_shutdown_ends_and_reports_children_that_unlinked_themselves() {
    for make in [
        |id: &'static str, log: &Log| puppet(id, log),
        |id: &'static str, log: &Log| foreign(id, logged(log)),
    ] {
        let (log, polite, busy) = (Log::default(), Address::new(), Address::new());
        let spec = generous(Strategy::OneForOne)
            .child(make("first", &log))
            .child(make("polite", &log).address(&polite))
            .child(
                make("busy", &log)
                    .shutdown(Shutdown::Timeout(SECOND))
                    .address(&busy),
            );
        let (tree, _events) = started(spec).await;
        unlinked(&polite);
        unlinked(&busy);
        busy.cast(Do::Sleep(HOUR)).unwrap();
        settle().await;
        log.take();
        let report = tree.shutdown(ShutdownPlan::default()).await;
        assert_eq!((report.took.as_secs(), report.graceful), (1, 2));
        let killed: Vec<String> = report.killed.iter().map(ToString::to_string).collect();
        assert_eq!(killed, ["root/busy"]);
        let mut lines = log.take();
        lines.retain(|line| line.starts_with("stop"));
        assert_eq!(lines, ["stop polite", "stop first"]);
    }
}

/// Nobody tells how they ended, however long one waits: a total is kept all the same.
#[tokio::test(start_paused = true)]
async fn children_that_unlinked_themselves_do_not_overrun_a_total() {
    let log = Log::default();
    let addresses: [Address<Do>; 5] = Default::default();
    let children = ["a", "b", "c", "d", "e"]
        .into_iter()
        .zip(&addresses)
        .map(|(name, address)| foreign(name, logged(&log)).address(address));
    let (tree, _events) = started(generous(Strategy::OneForOne).children(children)).await;
    addresses.iter().for_each(|address| drop(unlinked(address)));
    let report = tree.shutdown(ShutdownPlan::within(SECOND / 2)).await;
    assert!(report.took <= SECOND / 2, "{report:?}");
    assert_eq!(report.graceful, 5, "{report:?}");
}

/// Real clock: one that blocks its thread as well is left behind and reported, and nobody waits for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_child_that_unlinked_itself_and_never_yields_is_abandoned() {
    let log = Log::default();
    for child in both(&log, &Script::default()) {
        let address = Address::new();
        let (tree, _events) =
            started(generous(Strategy::OneForOne).child(child.address(&address))).await;
        unlinked(&address);
        let (unblock, blocked) = std::sync::mpsc::sync_channel(0);
        address.cast(Do::Block(blocked)).unwrap();
        unblock.send(()).unwrap();
        let report = tree
            .shutdown(ShutdownPlan::within(Duration::from_millis(200)))
            .await;
        let left: Vec<String> = report.abandoned.iter().map(ToString::to_string).collect();
        assert_eq!(left, ["root/a"]);
        drop(unblock);
    }
}

/// Nobody survives a supervisor that is killed, linked or not; and a supervisor that cut its own link is missed
/// like any other.
#[tokio::test(start_paused = true)]
async fn children_that_unlinked_themselves_die_with_a_killed_supervisor() {
    for make in [
        |log: &Log| puppet("a", log),
        |log: &Log| foreign("a", logged(log)),
    ] {
        let (log, address) = (Log::default(), Address::new());
        let below = SupervisorSpec::new(Strategy::OneForOne).child(make(&log).address(&address));
        let spec = generous(Strategy::OneForOne).child(ChildSpec::supervisor("below", below));
        let (tree, mut events) = started(spec).await;
        let child = unlinked(&address);
        let below = tree.which_child(&id("below")).await.unwrap().cell.unwrap();
        unlink(&below);
        log.take();
        below.kill();
        assert!(matches!(*events.exited("below").await, ExitReason::Killed));
        events.restarted("below").await;
        child.wait(None).await.unwrap();
        assert_eq!(log.take(), ["drop a", "start a"]);
        assert_eq!(ping(&address).await, 2);
        tree.shutdown(ShutdownPlan::default()).await;
    }
}

/// Under a dynamic supervisor too.
#[tokio::test(start_paused = true)]
async fn a_dynamic_child_that_unlinked_itself_is_replaced_and_ended() {
    let log = Log::default();
    let (tree, jobs, mut events) = dynamic(DynamicSpec::new()).await;
    let (key, address) = add(&jobs, puppet("job", &log)).await;
    unlinked(&address);
    address.cast(Do::Fail(1)).unwrap();
    events.restarted(key.id().as_str()).await;
    unlinked(&address);
    jobs.terminate_child(&key).await.unwrap();
    assert_eq!(counts(&tree).await, [0; 4]);
    tree.shutdown(ShutdownPlan::default()).await;
}
