//! Test actors and what tests say about them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mainstay_supervisors::{
    Address, ChildSpec, ExitReason, Intensity, Root, StartContext, StartError, Strategy,
    SupervisorEvent, SupervisorEventKind, SupervisorSpec,
};
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use tokio::sync::mpsc;

/// What happened, in order: `start a`, `stop a`, `drop a`.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    pub(crate) fn say(&self, what: impl Into<String>) {
        self.0.lock().unwrap().push(what.into());
    }

    pub(crate) fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }

    pub(crate) fn read(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

#[derive(Debug, thiserror::Error, PartialEq)]
#[error("the line is dead ({0})")]
pub(crate) struct LineDead(pub(crate) u32);

/// An actor that does as it is told.
pub(crate) struct Puppet;

pub(crate) enum Do {
    Stop(Option<&'static str>),
    Fail(u32),
    PanicText,
    PanicString,
    PanicOther,
    Ping(RpcReplyPort<u64>),
    /// Busy with awaits, in the handler.
    Sleep(Duration),
    /// Never answers, but keeps the port.
    Keep(RpcReplyPort<u64>),
    /// Blocks its thread until the sender is dropped: neither stop nor kill get through. What is sent to a
    /// channel without room is taken once it blocks.
    Block(std::sync::mpsc::Receiver<()>),
}
mainstay_supervisors::message!(Do);

#[derive(Clone, Default)]
pub(crate) struct Script {
    pub(crate) name: String,
    pub(crate) log: Log,
    pub(crate) start_takes: Duration,
    pub(crate) stop_takes: Duration,
    pub(crate) drop_takes: Duration,
    pub(crate) drop_panics: bool,
    pub(crate) fail_pre_start: bool,
    pub(crate) fail_post_start: bool,
    pub(crate) fail_post_stop: bool,
    pub(crate) generation: u64,
}

pub(crate) struct Strings {
    script: Script,
    kept: Vec<RpcReplyPort<u64>>,
}

impl Drop for Strings {
    fn drop(&mut self) {
        if !self.script.drop_takes.is_zero() {
            std::thread::sleep(self.script.drop_takes);
        }
        self.script.log.say(format!("drop {}", self.script.name));
        if self.script.drop_panics && !std::thread::panicking() {
            panic!("drop of {} panics", self.script.name);
        }
    }
}

#[cfg_attr(feature = "async-trait", ractor::async_trait)]
impl Actor for Puppet {
    type Msg = Do;
    type State = Strings;
    type Arguments = Script;

    async fn pre_start(
        &self,
        _: ActorRef<Do>,
        script: Script,
    ) -> Result<Strings, ActorProcessingErr> {
        if !script.start_takes.is_zero() {
            tokio::time::sleep(script.start_takes).await;
        }
        if script.fail_pre_start {
            return Err(Box::new(LineDead(0)));
        }
        script.log.say(format!("start {}", script.name));
        Ok(Strings {
            script,
            kept: Vec::new(),
        })
    }

    async fn post_start(
        &self,
        _: ActorRef<Do>,
        state: &mut Strings,
    ) -> Result<(), ActorProcessingErr> {
        if state.script.fail_post_start {
            return Err(Box::new(LineDead(1)));
        }
        Ok(())
    }

    async fn post_stop(
        &self,
        _: ActorRef<Do>,
        state: &mut Strings,
    ) -> Result<(), ActorProcessingErr> {
        if !state.script.stop_takes.is_zero() {
            tokio::time::sleep(state.script.stop_takes).await;
        }
        state.script.log.say(format!("stop {}", state.script.name));
        if state.script.fail_post_stop {
            return Err(Box::new(LineDead(2)));
        }
        Ok(())
    }

    async fn handle(
        &self,
        myself: ActorRef<Do>,
        message: Do,
        state: &mut Strings,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            Do::Stop(reason) => myself.stop(reason.map(str::to_owned)),
            Do::Fail(code) => return Err(Box::new(LineDead(code))),
            Do::PanicText => panic!("plain text"),
            Do::PanicString => panic!("formatted {}", 7),
            Do::PanicOther => std::panic::panic_any(42u8),
            Do::Ping(reply) => reply.send(state.script.generation)?,
            Do::Sleep(long) => tokio::time::sleep(long).await,
            Do::Keep(reply) => state.kept.push(reply),
            Do::Block(until) => while until.recv().is_ok() {},
        }
        Ok(())
    }
}

/// A child with a script; generations are told by `Ping`.
pub(crate) fn scripted(id: &str, script: Script) -> ChildSpec {
    let name = id.to_owned();
    ChildSpec::actor(id, move |context: StartContext| {
        let mut script = script.clone();
        script.name = name.clone();
        script.generation = context.generation.0;
        Ok((Puppet, script))
    })
}

/// A well-behaved child.
pub(crate) fn puppet(id: &str, log: &Log) -> ChildSpec {
    scripted(
        id,
        Script {
            log: log.clone(),
            ..Script::default()
        },
    )
}

/// A child whose factory answers by `answer`, called with the attempt's context.
pub(crate) fn gated(
    id: &str,
    log: &Log,
    answer: impl Fn(&StartContext) -> Result<(), StartError> + Send + Sync + 'static,
) -> ChildSpec {
    let name = id.to_owned();
    let log = log.clone();
    ChildSpec::actor(id, move |context: StartContext| {
        answer(&context)?;
        Ok((
            Puppet,
            Script {
                name: name.clone(),
                log: log.clone(),
                generation: context.generation.0,
                ..Script::default()
            },
        ))
    })
}

/// The events of a tree, awaited instead of slept for.
pub(crate) struct Events(mpsc::UnboundedReceiver<SupervisorEvent>);

impl Events {
    pub(crate) fn of(spec: SupervisorSpec) -> (SupervisorSpec, Self) {
        let (sender, events) = mpsc::unbounded_channel();
        let spec = spec.observe(move |event| drop(sender.send(event.clone())));
        (spec, Self(events))
    }

    /// The next event that `wanted` accepts.
    pub(crate) async fn until(
        &mut self,
        wanted: impl Fn(&SupervisorEvent) -> bool,
    ) -> SupervisorEvent {
        let found = tokio::time::timeout(Duration::from_secs(3600), async {
            loop {
                let event = self.0.recv().await.expect("the tree ended without it");
                if wanted(&event) {
                    return event;
                }
            }
        });
        found.await.expect("the event did not come")
    }

    pub(crate) async fn restarted(&mut self, id: &str) -> SupervisorEvent {
        self.until(|event| {
            event
                .child
                .as_ref()
                .is_some_and(|child| child.as_str() == id)
                && matches!(event.kind, SupervisorEventKind::ChildRestarted { .. })
        })
        .await
    }

    pub(crate) async fn exited(&mut self, id: &str) -> Arc<ExitReason> {
        let event = self
            .until(|event| {
                event
                    .child
                    .as_ref()
                    .is_some_and(|child| child.as_str() == id)
                    && matches!(event.kind, SupervisorEventKind::ChildExited { .. })
            })
            .await;
        match event.kind {
            SupervisorEventKind::ChildExited { reason, .. } => reason,
            _ => unreachable!(),
        }
    }

    /// How the child ended as told.
    pub(crate) async fn stopped(&mut self, id: &str) -> Arc<ExitReason> {
        let event = self
            .until(|event| {
                event
                    .child
                    .as_ref()
                    .is_some_and(|child| child.as_str() == id)
                    && matches!(event.kind, SupervisorEventKind::ChildStopped { .. })
            })
            .await;
        match event.kind {
            SupervisorEventKind::ChildStopped { reason } => reason,
            _ => unreachable!(),
        }
    }

    /// How the children ended that ended by themselves so far, by their ids.
    pub(crate) fn exits(&mut self) -> HashMap<String, Arc<ExitReason>> {
        let mut exits = HashMap::new();
        while let Ok(event) = self.0.try_recv() {
            if let (Some(id), SupervisorEventKind::ChildExited { reason, .. }) =
                (event.child, event.kind)
            {
                exits.insert(id.to_string(), reason);
            }
        }
        exits
    }

    /// Everything that has come so far, by name.
    pub(crate) fn names(&mut self) -> Vec<String> {
        let mut names = Vec::new();
        while let Ok(event) = self.0.try_recv() {
            let child = event.child.map(|id| id.to_string()).unwrap_or_default();
            names.push(format!("{} {child}", event.kind.name()).trim().to_owned());
        }
        names
    }
}

pub(crate) fn generous(strategy: Strategy) -> SupervisorSpec {
    SupervisorSpec::new(strategy).intensity(Intensity::new(100, Duration::from_secs(5)))
}

pub(crate) async fn started(spec: SupervisorSpec) -> (Root, Events) {
    let (spec, events) = Events::of(spec);
    (spec.start().await.expect("the tree starts"), events)
}

/// Which incarnation answers.
pub(crate) async fn ping(address: &Address<Do>) -> u64 {
    address
        .up(Duration::from_secs(60))
        .await
        .expect("somebody comes up");
    address
        .call(Do::Ping, Duration::from_secs(60))
        .await
        .expect("it answers")
}

/// Lets everything that can happen without time passing happen.
pub(crate) async fn settle() {
    tokio::time::sleep(Duration::from_millis(20)).await;
}
