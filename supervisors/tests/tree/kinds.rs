//! Children that are no ordinary actors: foreign cells, thread-local actors, ractor's factories.

use std::rc::Rc;
use std::time::Duration;

use mainstay_supervisors::{
    Address, ChildSpec, ExitReason, Restart, Shutdown, ShutdownPlan, Spawned, SpecError,
    StartContext, StartError, StartFailure, Strategy, SupervisorSpec,
};
use ractor::factory::{
    Factory, FactoryArguments, FactoryMessage, Job, Worker, WorkerId, queues, routing,
    worker_builder,
};
use ractor::thread_local::{ThreadLocalActor, ThreadLocalActorSpawner};
use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, RpcReplyPort};

use crate::kit::{
    Do, Events, LineDead, Log, Puppet, Script, generous, ping, puppet, settle, started,
};

/// A puppet spawned by the test, with this crate knowing the cell only.
pub(crate) fn foreign(id: &'static str, script: Script) -> ChildSpec {
    ChildSpec::spawn_with(id, move |context: StartContext, supervisor| {
        let mut script = script.clone();
        script.name = context.id.to_string();
        script.generation = context.generation.0;
        async move {
            let spawned = Actor::spawn_linked(None, Puppet, script, supervisor).await;
            let (actor, join) = spawned.map_err(StartError::failed)?;
            Ok(Spawned::new(actor, join))
        }
    })
}

fn logged(log: &Log) -> Script {
    Script {
        log: log.clone(),
        ..Script::default()
    }
}

/// Ends the child in every way; each time its state is gone before the next one starts.
async fn every_end(spec: SupervisorSpec, address: &Address<Do>, log: &Log) -> Vec<ExitReason> {
    let (tree, mut events) = started(spec).await;
    let mut reasons = Vec::new();
    let ends: [fn(&Address<Do>); 6] = [
        |address| drop(address.cast(Do::Fail(4))),
        |address| drop(address.cast(Do::PanicText)),
        |address| address.current().unwrap().kill(),
        |address| drop(address.cast(Do::Stop(Some("enough")))),
        |address| drop(address.cast(Do::Stop(None))),
        |address| drop(address.current().unwrap().drain()),
    ];
    for (at, end) in (1..).zip(ends) {
        assert_eq!(ping(address).await, at);
        log.take();
        end(address);
        reasons.push((*events.exited("a").await).clone());
        events.restarted("a").await;
        let lines = log.take();
        assert_eq!(lines.last().map(String::as_str), Some("start a"));
        assert_eq!(lines[lines.len() - 2], "drop a", "{lines:?}");
    }
    assert_eq!(ping(address).await, 7);
    let report = tree.shutdown(ShutdownPlan::default()).await;
    assert_eq!(report.graceful, 1);
    reasons
}

#[tokio::test(start_paused = true)]
async fn a_foreign_child_is_replaced_after_every_end_and_it_is_told_truly() {
    let (log, address) = (Log::default(), Address::new());
    let spec = generous(Strategy::OneForOne).child(foreign("a", logged(&log)).address(&address));
    let reasons = every_end(spec, &address, &log).await;
    assert_eq!(reasons[0].downcast_ref::<LineDead>(), Some(&LineDead(4)));
    assert!(
        matches!(&reasons[1], ExitReason::Failed(error) if error.to_string().contains("plain text"))
    );
    assert!(matches!(reasons[2], ExitReason::Killed));
    assert!(matches!(&reasons[3], ExitReason::Stopped { reason: Some(text) } if text == "enough"));
    assert!(matches!(reasons[4], ExitReason::Stopped { reason: None }));
    assert!(matches!(reasons[5], ExitReason::Drained));
}

/// Traps 3 and 4, on a real clock, for a child without a wrapper.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_state_of_a_foreign_child_is_gone_before_its_replacement_starts() {
    for end in [Do::Fail(1), Do::Stop(None)] {
        let (log, address) = (Log::default(), Address::new());
        let script = Script {
            drop_takes: Duration::from_millis(100),
            ..logged(&log)
        };
        let spec = generous(Strategy::OneForOne).child(foreign("a", script).address(&address));
        let (tree, mut events) = started(spec).await;
        address.cast(end).unwrap();
        events.restarted("a").await;
        let mut lines = log.take();
        lines.retain(|line| line != "stop a");
        assert_eq!(lines, ["start a", "drop a", "start a"]);
        tree.shutdown(ShutdownPlan::default()).await;
    }
}

/// On a real clock, since a drop blocks its thread: a state that is still being dropped does not hold a
/// shutdown up beyond its total.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_slow_drop_does_not_overrun_the_total() {
    let slow = || Script {
        drop_takes: Duration::from_millis(2_500),
        ..Script::default()
    };
    let spec = generous(Strategy::OneForOne)
        .child(foreign("a", slow()))
        .child(foreign("b", slow()));
    let (tree, _events) = started(spec).await;
    let began = std::time::Instant::now();
    tree.shutdown(ShutdownPlan::within(Duration::from_millis(400)))
        .await;
    // A second for each, as after an ordinary end, makes two.
    assert!(began.elapsed() < Duration::from_millis(1_800));
}

#[tokio::test(start_paused = true)]
async fn a_foreign_child_is_stopped_in_its_turn_and_killed_at_its_limit() {
    let log = Log::default();
    let slow = Script {
        stop_takes: Duration::from_secs(60),
        ..logged(&log)
    };
    let (tree, _events) = started(
        generous(Strategy::OneForOne)
            .child(puppet("a", &log))
            .child(foreign("slow", slow).shutdown(Shutdown::Timeout(Duration::from_secs(1))))
            .child(foreign("quick", logged(&log))),
    )
    .await;
    log.take();
    let report = tree.shutdown(ShutdownPlan::default()).await;
    assert_eq!(report.graceful, 2);
    assert_eq!(report.killed[0].to_string(), "root/slow");
    assert_eq!(
        log.take(),
        ["stop quick", "drop quick", "drop slow", "stop a", "drop a"]
    );
}

/// A foreign stop of the supervisor: it reads no more events, and does not wait for them.
#[tokio::test(start_paused = true)]
async fn foreign_children_end_in_order_when_their_supervisor_is_stopped_by_others() {
    let log = Log::default();
    let (tree, _events) = started(
        generous(Strategy::OneForOne)
            .child(foreign("a", logged(&log)))
            .child(foreign("b", logged(&log))),
    )
    .await;
    settle().await;
    log.take();
    let began = tokio::time::Instant::now();
    tree.cell().stop(None);
    tree.wait().await;
    assert!(began.elapsed() < Duration::from_secs(1));
    let mut lines = log.take();
    lines.retain(|line| line.starts_with("stop"));
    assert_eq!(lines, ["stop b", "stop a"]);
}

/// The event of the end comes before anybody knows whose it is.
#[tokio::test(start_paused = true)]
async fn a_foreign_child_that_ends_before_it_is_handed_over_is_told_truly() {
    let spec = ChildSpec::spawn_with(
        "a",
        |context: StartContext, supervisor: ActorCell| async move {
            let spawned = Actor::spawn_linked(None, Puppet, Script::default(), supervisor).await;
            let (actor, join) = spawned.map_err(StartError::failed)?;
            if context.generation.0 == 1 {
                settle().await;
                actor.send_message(Do::Fail(9)).unwrap();
                settle().await;
                assert!(join.is_finished());
            }
            Ok(Spawned::new(actor, join))
        },
    );
    let (tree, mut events) = started(generous(Strategy::OneForOne).child(spec)).await;
    let reason = events.exited("a").await;
    assert_eq!(reason.downcast_ref::<LineDead>(), Some(&LineDead(9)));
    events.restarted("a").await;
    tree.shutdown(ShutdownPlan::default()).await;
}

/// What it has handled nobody counts, and so nobody knows what it has not.
#[tokio::test(start_paused = true)]
async fn the_queue_of_a_foreign_child_is_unknown() {
    let address = Address::new();
    let child = foreign("a", Script::default()).address(&address);
    let (tree, _events) = started(generous(Strategy::OneForOne).child(child)).await;
    ping(&address).await;
    let snapshot = tree.snapshot().await;
    assert_eq!(snapshot.find(["a"]).unwrap().queue_depth, None);
    tree.shutdown(ShutdownPlan::default()).await;
}

#[tokio::test(start_paused = true)]
async fn a_foreign_child_that_is_not_linked_is_linked_to_its_supervisor() {
    let address = Address::new();
    let spec = ChildSpec::spawn_with("a", |context: StartContext, _: ActorCell| async move {
        let script = Script {
            generation: context.generation.0,
            ..Script::default()
        };
        let spawned = Actor::spawn(None, Puppet, script).await;
        let (actor, join) = spawned.map_err(StartError::failed)?;
        settle().await;
        Ok(Spawned::new(actor, join))
    });
    let (tree, mut events) =
        started(generous(Strategy::OneForOne).child(spec.address(&address))).await;
    let actor = address.current().unwrap();
    let above = actor.try_get_supervisor().unwrap();
    assert_eq!(above.get_id(), tree.cell().get_id());
    address.cast(Do::Fail(2)).unwrap();
    let reason = events.exited("a").await;
    assert_eq!(reason.downcast_ref::<LineDead>(), Some(&LineDead(2)));
    assert_eq!(ping(&address).await, 2);
    tree.shutdown(ShutdownPlan::default()).await;
}

#[tokio::test(start_paused = true)]
async fn a_foreign_child_that_does_not_fit_its_address_does_not_start() {
    let log = Log::default();
    let address = Address::<String>::new();
    let spec = generous(Strategy::OneForOne).child(foreign("a", logged(&log)).address(&address));
    let failure = spec.start().await.unwrap_err();
    let StartFailure::Child { reason, .. } = failure else {
        panic!("{failure}");
    };
    assert!(matches!(
        reason.downcast_ref::<SpecError>(),
        Some(SpecError::AddressType { .. })
    ));
    settle().await;
    assert_eq!(log.take(), ["start a", "drop a"]);
}

#[tokio::test(start_paused = true)]
async fn a_foreign_start_can_fail_panic_or_be_declined() {
    let spec = ChildSpec::spawn_with("a", |_, _| async { Err(StartError::failed(LineDead(5))) });
    let failure = generous(Strategy::OneForOne).child(spec).start().await;
    let StartFailure::Child { reason, .. } = failure.unwrap_err() else {
        panic!("no child");
    };
    assert_eq!(reason.downcast_ref::<LineDead>(), Some(&LineDead(5)));

    let spec = ChildSpec::spawn_with("a", |_, _| async { panic!("no way") });
    let failure = generous(Strategy::OneForOne).child(spec).start().await;
    let StartFailure::Child { reason, .. } = failure.unwrap_err() else {
        panic!("no child");
    };
    assert!(reason.to_string().contains("no way"), "{reason}");

    let script = Script {
        fail_post_start: true,
        ..Script::default()
    };
    let failure = generous(Strategy::OneForOne)
        .child(foreign("a", script))
        .start()
        .await;
    let StartFailure::Child { reason, .. } = failure.unwrap_err() else {
        panic!("no child");
    };
    assert_eq!(reason.downcast_ref::<LineDead>(), Some(&LineDead(1)));

    let spec = ChildSpec::spawn_with("a", |_, _| async { Err(StartError::Ignore) });
    let (tree, _events) = started(generous(Strategy::OneForOne).child(spec)).await;
    assert_eq!(tree.count_children().await.unwrap().active, 0);
    tree.shutdown(ShutdownPlan::default()).await;
}

/// A state that panics in its drop, of an actor that is only linked to the supervisor.
#[tokio::test(start_paused = true)]
async fn the_state_of_a_linked_stranger_harms_nobody_when_it_panics() {
    let address = Address::new();
    let spec = generous(Strategy::OneForOne).child(puppet("a", &Log::default()).address(&address));
    let (tree, _events) = started(spec).await;
    let script = Script {
        drop_panics: true,
        ..Script::default()
    };
    let (stranger, join) = Actor::spawn_linked(None, Puppet, script, tree.cell().clone())
        .await
        .unwrap();
    stranger.stop(None);
    join.await.unwrap();
    settle().await;
    assert_eq!(ping(&address).await, 1);
    tree.shutdown(ShutdownPlan::default()).await;
}

/// As a puppet, with a state that cannot leave its thread.
#[derive(Default)]
struct LocalPuppet;

struct Bound {
    script: Rc<Script>,
    thread: std::thread::ThreadId,
}

impl Drop for Bound {
    fn drop(&mut self) {
        assert_eq!(self.thread, std::thread::current().id());
        std::thread::sleep(self.script.drop_takes);
        self.script.log.say(format!("drop {}", self.script.name));
    }
}

impl ThreadLocalActor for LocalPuppet {
    type Msg = Do;
    type State = Bound;
    type Arguments = Script;

    async fn pre_start(
        &self,
        _: ActorRef<Do>,
        script: Script,
    ) -> Result<Bound, ActorProcessingErr> {
        if script.fail_pre_start {
            return Err(Box::new(LineDead(0)));
        }
        script.log.say(format!("start {}", script.name));
        Ok(Bound {
            script: Rc::new(script),
            thread: std::thread::current().id(),
        })
    }

    async fn post_start(
        &self,
        _: ActorRef<Do>,
        state: &mut Bound,
    ) -> Result<(), ActorProcessingErr> {
        if state.script.fail_post_start {
            return Err(Box::new(LineDead(1)));
        }
        Ok(())
    }

    async fn post_stop(
        &self,
        _: ActorRef<Do>,
        state: &mut Bound,
    ) -> Result<(), ActorProcessingErr> {
        tokio::time::sleep(state.script.stop_takes).await;
        state.script.log.say(format!("stop {}", state.script.name));
        Ok(())
    }

    async fn handle(
        &self,
        myself: ActorRef<Do>,
        message: Do,
        state: &mut Bound,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            Do::Stop(reason) => myself.stop(reason.map(str::to_owned)),
            Do::Fail(code) => return Err(Box::new(LineDead(code))),
            Do::Ping(reply) => reply.send(state.script.generation)?,
            Do::PanicText => panic!("plain text"),
            _ => {}
        }
        Ok(())
    }
}

pub(crate) fn local(
    id: &'static str,
    spawner: &ThreadLocalActorSpawner,
    script: Script,
) -> ChildSpec {
    ChildSpec::thread_local::<LocalPuppet, _>(id, spawner.clone(), move |context| {
        let mut script = script.clone();
        script.name = context.id.to_string();
        script.generation = context.generation.0;
        Ok(script)
    })
}

/// On a real clock: a spawner's thread has one of its own.
#[tokio::test]
async fn a_thread_local_child_is_replaced_after_every_end_and_it_is_told_truly() {
    let (log, address) = (Log::default(), Address::new());
    let script = Script {
        drop_takes: Duration::from_millis(20),
        ..logged(&log)
    };
    let spawner = ThreadLocalActorSpawner::new();
    let spec = generous(Strategy::OneForOne).child(local("a", &spawner, script).address(&address));
    let reasons = every_end(spec, &address, &log).await;
    assert_eq!(reasons[0].downcast_ref::<LineDead>(), Some(&LineDead(4)));
    assert!(matches!(&reasons[1], ExitReason::Panicked(panic) if panic.message == "plain text"));
    assert!(matches!(reasons[2], ExitReason::Killed));
    assert!(matches!(&reasons[3], ExitReason::Stopped { reason: Some(text) } if text == "enough"));
    assert!(matches!(reasons[4], ExitReason::Stopped { reason: None }));
    assert!(matches!(reasons[5], ExitReason::Drained));
}

/// On a real clock.
#[tokio::test]
async fn thread_local_children_end_in_order_within_their_limits() {
    let log = Log::default();
    let spawner = ThreadLocalActorSpawner::new();
    let slow = Script {
        stop_takes: Duration::from_secs(3600),
        ..logged(&log)
    };
    let limit = Shutdown::Timeout(Duration::from_millis(50));
    let (tree, _events) = started(
        generous(Strategy::OneForOne)
            .child(local("a", &spawner, logged(&log)))
            .child(local("slow", &spawner, slow).shutdown(limit))
            .child(puppet("b", &log))
            .child(local("c", &spawner, logged(&log))),
    )
    .await;
    log.take();
    let report = tree.shutdown(ShutdownPlan::default()).await;
    assert_eq!(report.graceful, 3);
    assert_eq!(report.killed[0].to_string(), "root/slow");
    assert_eq!(
        log.take(),
        [
            "stop c",
            "drop c",
            "stop b",
            "drop b",
            "drop slow",
            "stop a",
            "drop a"
        ]
    );
}

/// On a real clock.
#[tokio::test]
async fn a_thread_local_child_that_does_not_start_says_why() {
    let spawner = ThreadLocalActorSpawner::new();
    let scripts = [
        Script {
            fail_pre_start: true,
            ..Script::default()
        },
        Script {
            fail_post_start: true,
            ..Script::default()
        },
    ];
    for (code, script) in (0..).zip(scripts) {
        let spec = generous(Strategy::OneForOne).child(local("a", &spawner, script));
        let StartFailure::Child { reason, .. } = spec.start().await.unwrap_err() else {
            panic!("no child");
        };
        assert_eq!(reason.downcast_ref::<LineDead>(), Some(&LineDead(code)));
    }
}

/// A worker of a factory.
struct Drudge;

enum Chore {
    Who(RpcReplyPort<String>),
}
mainstay_supervisors::message!(Chore);

/// A worker's state: says when it goes.
struct Bench(Log, WorkerId);

impl Drop for Bench {
    fn drop(&mut self) {
        self.0.say(format!("drop worker {}", self.1));
    }
}

struct Place(Log);
mainstay_supervisors::message!(Place);

#[cfg_attr(feature = "async-trait", ractor::async_trait)]
impl Worker for Drudge {
    type Key = ();
    type Message = Chore;
    type State = Bench;
    type Arguments = Place;

    async fn pre_start(
        &self,
        id: WorkerId,
        _: &ActorRef<FactoryMessage<(), Chore>>,
        Place(log): Place,
    ) -> Result<Bench, ActorProcessingErr> {
        log.say(format!("start worker {id}"));
        Ok(Bench(log, id))
    }

    async fn handle(
        &self,
        _: WorkerId,
        _: &ActorRef<FactoryMessage<(), Chore>>,
        job: Job<(), Chore>,
        state: &mut Bench,
    ) -> Result<(), ActorProcessingErr> {
        let Chore::Who(reply) = job.msg;
        reply.send(format!("worker {}", state.1))?;
        Ok(())
    }
}

type Drudges = Factory<
    (),
    Chore,
    Place,
    Drudge,
    routing::QueuerRouting<(), Chore>,
    queues::DefaultQueue<(), Chore>,
>;

fn drudges(id: &str, log: &Log) -> ChildSpec {
    let log = log.clone();
    ChildSpec::actor(id, move |_| {
        let log = log.clone();
        let arguments = FactoryArguments::builder()
            .worker_builder(Box::new(worker_builder(move |_| {
                (Drudge, Place(log.clone()))
            })))
            .queue(queues::DefaultQueue::default())
            .router(routing::QueuerRouting::default())
            .num_initial_workers(2)
            .build();
        Ok((Drudges::default(), arguments))
    })
}

async fn ask(address: &Address<FactoryMessage<(), Chore>>) -> String {
    let minute = Duration::from_secs(60);
    address.up(minute).await.unwrap();
    let job = |reply| FactoryMessage::Dispatch(Job::new((), Chore::Who(reply)));
    address.call(job, minute).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_factory_is_a_child_like_any_other() {
    let (log, address) = (Log::default(), Address::new());
    let spec = generous(Strategy::OneForOne).child(
        drudges("f", &log)
            .address(&address)
            .restart(Restart::Transient),
    );
    let (spec, mut events) = Events::of(spec);
    let tree = spec.start().await.unwrap();
    assert!(ask(&address).await.starts_with("worker "));
    assert_eq!(log.take(), ["start worker 0", "start worker 1"]);
    let workers = address.current().unwrap().get_children();
    assert_eq!(workers.len(), 2);

    address.current().unwrap().kill();
    assert!(matches!(*events.exited("f").await, ExitReason::Killed));
    events.restarted("f").await;
    for worker in workers {
        worker.wait(Some(Duration::from_secs(1))).await.unwrap();
    }
    settle().await;
    let mut lines = log.take();
    lines.sort_unstable();
    assert_eq!(
        lines,
        [
            "drop worker 0",
            "drop worker 1",
            "start worker 0",
            "start worker 1"
        ]
    );
    assert!(ask(&address).await.starts_with("worker "));

    let report = tree.shutdown(ShutdownPlan::default()).await;
    assert_eq!(report.graceful, 1);
    settle().await;
    let mut lines = log.take();
    lines.sort_unstable();
    assert_eq!(lines, ["drop worker 0", "drop worker 1"]);
}
