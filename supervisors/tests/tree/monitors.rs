//! Monitors: exactly one Down each.

use std::sync::Arc;
use std::time::Duration;

use mainstay_supervisors::{
    Address, Down, ExitReason, Generation, MonitorRef, Restart, ShutdownPlan, Strategy, monitor,
};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::sync::mpsc;

use crate::kit::{Do, LineDead, Log, Puppet, Script, generous, puppet, settle, started};

pub(crate) struct Watcher;

pub(crate) enum Watched {
    Down(Down),
}
mainstay_supervisors::message!(Watched);

impl From<Down> for Watched {
    fn from(down: Down) -> Self {
        Self::Down(down)
    }
}

impl TryFrom<Watched> for Down {
    type Error = ();

    fn try_from(Watched::Down(down): Watched) -> Result<Self, ()> {
        Ok(down)
    }
}

#[cfg_attr(feature = "async-trait", ractor::async_trait)]
impl Actor for Watcher {
    type Msg = Watched;
    type State = mpsc::UnboundedSender<Down>;
    type Arguments = mpsc::UnboundedSender<Down>;

    async fn pre_start(
        &self,
        _: ActorRef<Watched>,
        downs: Self::Arguments,
    ) -> Result<Self::State, ActorProcessingErr> {
        Ok(downs)
    }

    async fn handle(
        &self,
        _: ActorRef<Watched>,
        Watched::Down(down): Watched,
        downs: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        downs.send(down)?;
        Ok(())
    }
}

pub(crate) async fn watcher() -> (ActorRef<Watched>, mpsc::UnboundedReceiver<Down>) {
    let (sender, downs) = mpsc::unbounded_channel();
    let (watcher, _) = Actor::spawn(None, Watcher, sender).await.unwrap();
    (watcher, downs)
}

/// How the next one ended.
async fn next(downs: &mut mpsc::UnboundedReceiver<Down>) -> Arc<ExitReason> {
    let down = tokio::time::timeout(Duration::from_secs(10), downs.recv()).await;
    let down = down.expect("a Down comes").expect("the watcher lives");
    down.claim().expect("nobody flushed it").reason
}

/// RX-17: independent references, one Down each, with the typed error.
#[tokio::test(start_paused = true)]
async fn two_monitors_of_one_watcher_are_independent() {
    let address = Address::new();
    let spec = generous(Strategy::OneForOne).child(puppet("a", &Log::default()).address(&address));
    let (tree, mut events) = started(spec).await;
    let (watcher, mut downs) = watcher().await;
    let first = address.monitor(&watcher);
    let second = address.monitor(&watcher);
    let third = monitor(&watcher, address.current().unwrap());
    let derived = address.monitor(&watcher.get_derived::<Down>());
    assert!(second.demonitor());
    address.cast(Do::Fail(6)).unwrap();
    events.restarted("a").await;
    settle().await;
    let mut references = Vec::new();
    while let Ok(down) = downs.try_recv() {
        references.push(down.reference());
        let ended = down.claim().unwrap();
        assert_eq!(ended.generation, Generation(1));
        assert_eq!(ended.path.to_string(), "root/a");
        assert_eq!(ended.reason.downcast_ref::<LineDead>(), Some(&LineDead(6)));
    }
    references.sort_unstable();
    assert_eq!(
        references,
        [first.reference(), third.reference(), derived.reference()]
    );
    assert!(!first.demonitor());
    tree.shutdown(ShutdownPlan::default()).await;
}

/// Trap 11: ractor keeps silent about the dead.
#[tokio::test(start_paused = true)]
async fn a_monitor_on_the_dead_answers_at_once_with_how_it_ended() {
    let address = Address::<Do>::new();
    let (watcher, mut downs) = watcher().await;
    address.monitor(&watcher);
    assert!(matches!(*next(&mut downs).await, ExitReason::NoProcess));

    let spec = generous(Strategy::OneForOne).child(puppet("a", &Log::default()).address(&address));
    let (tree, _events) = started(spec).await;
    let gone = address.current().unwrap();
    tree.shutdown(ShutdownPlan::default()).await;
    address.monitor(&watcher);
    let ended = next(&mut downs).await;
    assert!(matches!(&*ended, ExitReason::Stopped { reason: Some(text) } if text == "shutdown"));
    monitor(&watcher, gone);
    assert!(matches!(*next(&mut downs).await, ExitReason::NoProcess));
    settle().await;
    assert!(downs.try_recv().is_err(), "exactly one each");
}

#[tokio::test(start_paused = true)]
async fn an_actor_that_nobody_supervises_can_be_monitored() {
    let (watcher, mut downs) = watcher().await;
    let (actor, _) = Actor::spawn(None, Puppet, Script::default()).await.unwrap();
    let kept = monitor(&watcher, actor.clone());
    let taken_back = monitor(&watcher, actor.clone());
    settle().await;
    assert!(taken_back.demonitor());
    actor.stop(None);
    let down = downs.recv().await.unwrap();
    assert_eq!(down.reference(), kept.reference());
    let ended = down.claim().unwrap();
    assert!(matches!(*ended.reason, ExitReason::Unobserved));
    settle().await;
    assert!(downs.try_recv().is_err(), "exactly one");
    assert!(!kept.demonitor());
}

/// A Down comes also when the supervisor is killed and can tell nobody.
#[tokio::test(start_paused = true)]
async fn a_monitor_fires_when_the_supervisor_is_killed() {
    let address = Address::<Do>::new();
    let spec = generous(Strategy::OneForOne).child(puppet("a", &Log::default()).address(&address));
    let (tree, _events) = started(spec).await;
    let (watcher, mut downs) = watcher().await;
    address.monitor(&watcher);
    tree.cell().kill();
    tree.wait().await;
    assert!(matches!(*next(&mut downs).await, ExitReason::Killed));
}

/// Erlang's `demonitor` with `flush`, before the end: as without.
#[tokio::test(start_paused = true)]
async fn a_monitor_that_is_flushed_before_the_end_hears_nothing() {
    let address = Address::new();
    let spec = generous(Strategy::OneForOne).child(puppet("a", &Log::default()).address(&address));
    let (tree, mut events) = started(spec).await;
    let (watcher, mut downs) = watcher().await;
    let flushed = address.monitor(&watcher);
    let kept = address.monitor(&watcher);
    assert!(flushed.demonitor_flush());
    address.cast(Do::Fail(1)).unwrap();
    events.restarted("a").await;
    settle().await;
    assert_eq!(downs.recv().await.unwrap().reference(), kept.reference());
    assert!(downs.try_recv().is_err(), "only the one that was kept");
    tree.shutdown(ShutdownPlan::default()).await;
}

/// Erlang's `demonitor` with `flush`, after delivery: the message is there, and says nothing. The
/// other monitor of the same watcher is not touched.
#[tokio::test(start_paused = true)]
async fn a_down_that_waits_in_the_mailbox_is_flushed() {
    let address = Address::<Do>::new();
    let spec = generous(Strategy::OneForOne).child(puppet("a", &Log::default()).address(&address));
    let (tree, _events) = started(spec).await;
    let (watcher, mut downs) = watcher().await;
    let flushed = address.monitor(&watcher);
    let kept = address.monitor(&watcher);
    let (reference, other) = (flushed.reference(), kept.reference());
    address.current().unwrap().kill();
    let mut delivered = [downs.recv().await.unwrap(), downs.recv().await.unwrap()];
    delivered.sort_unstable_by_key(Down::reference);
    assert_eq!(
        [delivered[0].reference(), delivered[1].reference()],
        [reference, other]
    );
    assert!(flushed.demonitor_flush(), "nobody had claimed it");
    let [stale, valid] = delivered;
    assert!(stale.claim().is_none());
    assert!(matches!(*valid.claim().unwrap().reason, ExitReason::Killed));
    assert!(!kept.demonitor_flush(), "it was claimed before");
    tree.shutdown(ShutdownPlan::default()).await;
}

/// The answer of the dead comes at once, and can be flushed like any other.
#[tokio::test(start_paused = true)]
async fn the_answer_of_the_dead_can_be_flushed() {
    let (watcher, mut downs) = watcher().await;
    assert!(Address::<Do>::new().monitor(&watcher).demonitor_flush());
    let (actor, join) = Actor::spawn(None, Puppet, Script::default()).await.unwrap();
    actor.stop(None);
    join.await.unwrap();
    let foreign = monitor(&watcher, actor);
    settle().await;
    assert!(foreign.demonitor_flush());
    for _ in 0..2 {
        assert!(downs.recv().await.unwrap().claim().is_none());
    }
}

/// ractor announces the end of a task that was aborted as well.
#[tokio::test(start_paused = true)]
async fn an_unsupervised_actor_whose_task_is_aborted_is_heard_of() {
    let (watcher, mut downs) = watcher().await;
    let (actor, join) = Actor::spawn(None, Puppet, Script::default()).await.unwrap();
    monitor(&watcher, actor);
    settle().await;
    join.abort();
    assert!(matches!(*next(&mut downs).await, ExitReason::Unobserved));
}

const CROWD: usize = 200;

/// The references that are heard of, in order: so many, and whatever else comes.
async fn heard(downs: &mut mpsc::UnboundedReceiver<Down>, number: usize) -> Vec<u64> {
    let mut references = Vec::new();
    while references.len() < number {
        let down = tokio::time::timeout(Duration::from_secs(10), downs.recv()).await;
        references.push(down.expect("a Down each").unwrap().reference());
    }
    settle().await;
    while let Ok(more) = downs.try_recv() {
        references.push(more.reference());
    }
    references.sort_unstable();
    references
}

/// On a real clock and several threads: actors die while they are being monitored.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_actor_that_dies_while_it_is_monitored_is_heard_of_once() {
    let (watcher, mut downs) = watcher().await;
    let names: Vec<_> = (0..CROWD).map(|at| format!("a{at}")).collect();
    let addresses: Vec<_> = names.iter().map(|_| Address::<Do>::new()).collect();
    let children = names.iter().zip(&addresses).map(|(name, address)| {
        puppet(name, &Log::default())
            .restart(Restart::Temporary)
            .address(address)
    });
    let (tree, _events) = started(generous(Strategy::OneForOne).children(children)).await;
    let cells: Vec<_> = addresses
        .iter()
        .map(|address| address.current().unwrap().get_cell())
        .collect();
    let doomed = cells.clone();
    let killing = tokio::spawn(async move {
        for (at, cell) in doomed.iter().enumerate() {
            cell.kill();
            if at % 8 == 0 {
                tokio::task::yield_now().await;
            }
        }
    });
    let mut monitors = Vec::new();
    for (address, cell) in addresses.iter().zip(cells) {
        monitors.push(address.monitor(&watcher));
        monitors.push(monitor(&watcher, cell));
        tokio::task::yield_now().await;
    }
    killing.await.unwrap();
    let wanted: Vec<_> = monitors.iter().map(MonitorRef::reference).collect();
    assert_eq!(heard(&mut downs, wanted.len()).await, wanted);
    tree.shutdown(ShutdownPlan::default()).await;
}

/// On a real clock: the same of actors that nobody supervises, with half of the monitors taken back in the midst: the
/// bool tells the truth about the message.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_monitor_taken_back_while_the_actor_dies_tells_whether_a_down_was_sent() {
    let (watcher, mut downs) = watcher().await;
    let mut cells = Vec::new();
    for _ in 0..CROWD {
        let (actor, _) = Actor::spawn(None, Puppet, Script::default()).await.unwrap();
        cells.push(actor.get_cell());
    }
    let doomed = cells.clone();
    let killing = tokio::spawn(async move {
        for cell in doomed {
            cell.kill();
            tokio::task::yield_now().await;
        }
    });
    let mut expected = Vec::new();
    for cell in cells {
        let kept = monitor(&watcher, cell.clone());
        let wavering = monitor(&watcher, cell);
        tokio::task::yield_now().await;
        expected.push(kept.reference());
        let reference = wavering.reference();
        if !wavering.demonitor() {
            expected.push(reference);
        }
    }
    killing.await.unwrap();
    assert_eq!(heard(&mut downs, expected.len()).await, expected);
}

/// On a real clock: of a claim and a flush that race exactly one succeeds.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_claim_and_a_flush_do_not_both_succeed() {
    let (watcher, mut downs) = watcher().await;
    for _ in 0..CROWD {
        let set = Address::<Do>::new().monitor(&watcher);
        let down = downs.recv().await.unwrap();
        let claiming = tokio::spawn(async move { down.claim().is_some() });
        let flushed = set.demonitor_flush();
        assert_ne!(claiming.await.unwrap(), flushed);
    }
}

#[tokio::test(start_paused = true)]
async fn monitors_of_a_watcher_that_has_ended_leave_nothing_behind_although_their_target_lives() {
    let (target, _ended) = Actor::spawn(None, Puppet, Script::default()).await.unwrap();
    settle().await;
    let tasks = tokio::runtime::Handle::current().metrics();
    let before = tasks.num_alive_tasks();
    for _ in 0..100 {
        let (watcher, _downs) = watcher().await;
        monitor(&watcher, target.clone());
        watcher.stop(None);
    }
    settle().await;
    assert_eq!(tasks.num_alive_tasks(), before);
    target.stop(None);
}
