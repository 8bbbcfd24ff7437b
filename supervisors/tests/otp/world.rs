//! The actors, specs and observer of a script on our side, and what they share.
//!
//! Invariants: what comes of a start is decided in the factory; what happened is what the observer
//! was told.

use std::collections::{HashMap, VecDeque};
use std::panic;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mainstay_supervisors::{
    AutoShutdown, Backoff, ChildId, ChildKey, ChildSpec, DynamicRef, ExitReason, Intensity, Jitter,
    Restart, Shutdown, StartError, Strategy, SupervisorEvent, SupervisorEventKind, SupervisorRef,
    SupervisorSpec,
};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::ours::{answer, find, finish};
use crate::script::{Call, Child, End, Flags, Kind, Limit, Manner, Outcome};

/// Longer than anything in a script takes.
pub(crate) const PERIOD: Duration = Duration::from_secs(1_000_000);
/// What a worker's panic says.
const CRASH: &str = "crash";

/// Keeps the workers' own panics from the output.
pub(crate) fn expect_crashes() {
    let report = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        if panic.payload().downcast_ref::<&str>() != Some(&CRASH) {
            report(panic);
        }
    }));
}

/// What the script and its actors share.
#[derive(Default)]
pub(crate) struct World {
    /// What comes of the next starts, by path.
    pub(crate) plans: Mutex<HashMap<String, VecDeque<Outcome>>>,
    /// What happens once a start is known to have failed, by path.
    pub(crate) meanwhile: Mutex<HashMap<String, Outcome>>,
    /// What happened since the last step, with the path of the supervisor it happened in.
    pub(crate) events: Mutex<Vec<(Vec<String>, String)>>,
    pub(crate) answers: Mutex<Vec<(String, JoinHandle<String>)>>,
    /// A child was terminated before it could be tried again; how many restarts count afterwards
    /// differs on purpose, so none shall.
    pub(crate) relieved: AtomicBool,
    pub(crate) root: Mutex<Option<SupervisorRef>>,
    /// The root, when it is a dynamic supervisor.
    pub(crate) jobs: Mutex<Option<DynamicRef>>,
    /// Its children, by the names they were started with.
    pub(crate) keys: Mutex<HashMap<&'static str, ChildKey>>,
}

impl World {
    pub(crate) fn root(&self) -> Option<SupervisorRef> {
        self.root.lock().unwrap().clone()
    }

    pub(crate) fn jobs(&self) -> Option<DynamicRef> {
        self.jobs.lock().unwrap().clone()
    }

    pub(crate) fn key(&self, name: &str) -> Option<ChildKey> {
        self.keys.lock().unwrap().get(name).cloned()
    }

    /// The id by which a supervisor knows a child; none for a dynamic one that never was.
    pub(crate) fn id(&self, within: &[&str], name: &str) -> Option<ChildId> {
        if within.is_empty() && self.jobs().is_some() {
            return Some(self.key(name)?.id().clone());
        }
        Some(name.into())
    }

    /// The supervisor at a path.
    pub(crate) async fn supervisor(&self, path: &[&str]) -> Option<SupervisorRef> {
        let mut found = self.root()?;
        for (depth, name) in path.iter().enumerate() {
            let id = self.id(&path[..depth], name)?;
            found = found.which_child(&id).await.ok()?.supervisor?;
        }
        Some(found)
    }

    fn outcome(&self, path: &str) -> Outcome {
        let mut plans = self.plans.lock().unwrap();
        let planned = plans.get_mut(path).and_then(VecDeque::pop_front);
        planned.unwrap_or(Outcome::Ok)
    }
}

pub(crate) fn supervisor(
    world: &Arc<World>,
    flags: Flags,
    children: &[Child],
    path: &str,
) -> SupervisorSpec {
    let strategy = match flags.strategy {
        "one_for_all" => Strategy::OneForAll,
        "rest_for_one" => Strategy::RestForOne,
        _ => Strategy::OneForOne,
    };
    let auto_shutdown = match flags.auto_shutdown {
        "any_significant" => AutoShutdown::AnySignificant,
        "all_significant" => AutoShutdown::AllSignificant,
        _ => AutoShutdown::Never,
    };
    SupervisorSpec::new(strategy)
        .intensity(Intensity::new(flags.intensity, PERIOD))
        .auto_shutdown(auto_shutdown)
        .children(children.iter().map(|child| spec(world, child, path)))
}

/// OTP restarts at once, and tries a failed restart again at once.
fn at_once() -> Backoff {
    let least = Duration::from_millis(1);
    Backoff::new(least, least).jitter(Jitter::None)
}

pub(crate) fn spec(world: &Arc<World>, child: &Child, within: &str) -> ChildSpec {
    let path = join(within, child.id);
    let spec = match &child.kind {
        Kind::Supervisor(flags, children) => {
            ChildSpec::supervisor(child.id, supervisor(world, *flags, children, &path))
        }
        Kind::Worker => {
            let world = world.clone();
            let manner = child.manner;
            ChildSpec::actor(child.id, move |_| match world.outcome(&path) {
                Outcome::Ok => Ok((Worker, manner)),
                Outcome::Ignore => Err(StartError::Ignore),
                Outcome::Fail => Err(StartError::failed("refused")),
                then @ (Outcome::FailThen(_) | Outcome::FailWhile(..)) => {
                    world.meanwhile.lock().unwrap().insert(path.clone(), then);
                    Err(StartError::failed("refused"))
                }
            })
        }
    };
    let restart = match child.restart {
        "transient" => Restart::Transient,
        "temporary" => Restart::Temporary,
        _ => Restart::Permanent,
    };
    let shutdown = match child.shutdown {
        Limit::Kill => Shutdown::Kill,
        Limit::Millis(millis) => Shutdown::Timeout(Duration::from_millis(millis)),
        Limit::Infinite => Shutdown::Infinite,
    };
    spec.restart(restart)
        .significant(child.significant)
        .shutdown(shutdown)
        .backoff(at_once())
}

pub(crate) fn join(within: &str, id: &str) -> String {
    if within.is_empty() {
        id.to_owned()
    } else {
        format!("{within}/{id}")
    }
}

/// An id without the number that a dynamic supervisor gives.
pub(crate) fn plain(id: &ChildId) -> &str {
    let id = id.as_str();
    id.split_once('-').map_or(id, |(name, _)| name)
}

pub(crate) fn observer(world: &Arc<World>) -> impl Fn(&SupervisorEvent) + Send + Sync + 'static {
    // The world knows the supervisor, but does not keep its spec alive: this is no circle.
    let world = world.clone();
    move |event| {
        let Some(child) = &event.child else {
            return;
        };
        let within: Vec<String> = event
            .path
            .as_str()
            .split('/')
            .skip(1)
            .map(|id| plain(&id.into()).to_owned())
            .collect();
        let path = join(&within.join("/"), plain(child));
        let said = match &event.kind {
            SupervisorEventKind::ChildStarted { .. }
            | SupervisorEventKind::ChildRestarted { .. } => format!("+{path}"),
            SupervisorEventKind::ChildStartFailed { .. } => format!("!{path}"),
            SupervisorEventKind::ChildIgnored => format!("~{path}"),
            SupervisorEventKind::ChildExited { reason, .. }
            | SupervisorEventKind::ChildStopped { reason } => format!("-{path}:{}", class(reason)),
            _ => return,
        };
        world.events.lock().unwrap().push((within.clone(), said));
        if let SupervisorEventKind::ChildStartFailed { .. } = event.kind
            && let Some(then) = world.meanwhile.lock().unwrap().remove(&path)
            && world.root().is_some()
        {
            if matches!(then, Outcome::FailThen(Call::Terminate(id)) if id == plain(child)) {
                world.relieved.store(true, Ordering::SeqCst);
            }
            let asked = world.clone();
            let asking = tokio::spawn(async move {
                let within: Vec<&str> = within.iter().map(String::as_str).collect();
                match then {
                    Outcome::FailThen(call) => answer(&asked, &within, &call).await,
                    Outcome::FailWhile(id, end) => {
                        let path = [&within[..], &[id]].concat();
                        finish(vec![find(&asked, &path).await], &[end]).await
                    }
                    Outcome::Ok | Outcome::Fail | Outcome::Ignore => String::new(),
                }
            });
            world.answers.lock().unwrap().push((path, asking));
        }
    }
}

/// What OTP would call it.
pub(crate) fn class(reason: &ExitReason) -> &'static str {
    match reason {
        ExitReason::Stopped { reason: None } => "normal",
        ExitReason::Stopped { reason: Some(_) } | ExitReason::Ended(_) => "shutdown",
        ExitReason::Killed => "killed",
        ExitReason::Failed(_) | ExitReason::Panicked(_) => "error",
        ExitReason::Cancelled => "cancelled",
        ExitReason::StartFailed(reason) => class(reason),
        _ => "strange",
    }
}

struct Worker;

pub(crate) struct Finish(pub(crate) End);
mainstay_supervisors::message!(Finish);

struct Doing {
    manner: Manner,
    /// It stops because it wants to.
    willing: bool,
}

#[cfg_attr(feature = "async-trait", ractor::async_trait)]
impl Actor for Worker {
    type Msg = Finish;
    type State = Doing;
    type Arguments = Manner;

    async fn pre_start(
        &self,
        _: ActorRef<Finish>,
        manner: Manner,
    ) -> Result<Doing, ActorProcessingErr> {
        Ok(Doing {
            manner,
            willing: false,
        })
    }

    async fn handle(
        &self,
        myself: ActorRef<Finish>,
        Finish(end): Finish,
        state: &mut Doing,
    ) -> Result<(), ActorProcessingErr> {
        state.willing = true;
        match end {
            End::Normal => myself.stop(None),
            End::Shutdown => myself.stop(Some("shutdown".to_owned())),
            End::Done => myself.stop(Some("done".to_owned())),
            End::Error => return Err("error".into()),
            End::Crash => panic::panic_any(CRASH),
            End::Killed => myself.kill(),
        }
        Ok(())
    }

    async fn post_stop(
        &self,
        _: ActorRef<Finish>,
        state: &mut Doing,
    ) -> Result<(), ActorProcessingErr> {
        match state.manner {
            _ if state.willing => {}
            Manner::Polite => {}
            Manner::Stubborn => sleep(10 * PERIOD).await,
            Manner::Failing => return Err("error".into()),
        }
        Ok(())
    }
}
