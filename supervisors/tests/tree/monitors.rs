//! Monitors: exactly one Down each.

use std::sync::Arc;
use std::time::Duration;

use mainstay_supervisors::{
    Address, Down, ExitReason, Generation, ShutdownPlan, Strategy, monitor,
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
        assert_eq!(down.generation, Generation(1));
        assert_eq!(down.path.to_string(), "root/a");
        assert_eq!(down.reason.downcast_ref::<LineDead>(), Some(&LineDead(6)));
        references.push(down.reference);
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
    let never: Arc<ExitReason> = downs.recv().await.unwrap().reason;
    assert!(matches!(*never, ExitReason::NoProcess));

    let spec = generous(Strategy::OneForOne).child(puppet("a", &Log::default()).address(&address));
    let (tree, _events) = started(spec).await;
    let gone = address.current().unwrap();
    tree.shutdown(ShutdownPlan::default()).await;
    address.monitor(&watcher);
    let ended = downs.recv().await.unwrap();
    assert!(
        matches!(&*ended.reason, ExitReason::Stopped { reason: Some(text) } if text == "shutdown")
    );
    monitor(&watcher, gone);
    let ended = downs.recv().await.unwrap();
    assert!(matches!(*ended.reason, ExitReason::NoProcess));
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
    assert_eq!(down.reference, kept.reference());
    assert!(matches!(*down.reason, ExitReason::Unobserved));
    settle().await;
    assert!(downs.try_recv().is_err());
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
    let down = tokio::time::timeout(Duration::from_secs(1), downs.recv()).await;
    assert!(matches!(*down.unwrap().unwrap().reason, ExitReason::Killed));
}
