//! Futures that run once under supervision, and who stands by them.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use mainstay_supervisors::{
    Address, ChildKey, ChildSpec, ExitReason, Restart, Root, Shutdown, ShutdownPlan,
    StartTaskError, Strategy, TaskContext, TaskRef, TaskSpec, TerminateChildError,
};
use ractor::Actor;

use crate::dynamic::HOUR;
use crate::kit::{Do, LineDead, Log, Puppet, Script, generous, puppet, settle, started};
use crate::monitors::watcher;

async fn tasks(spec: TaskSpec) -> (Root, TaskRef) {
    let tasks = TaskRef::new();
    let root = spec.reference(&tasks).start().await.unwrap();
    (root, tasks)
}

/// Says when it is dropped.
struct Held(Log);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.say("drop");
    }
}

/// Never ends by itself.
async fn forever(held: Held) -> Result<(), Infallible> {
    std::future::pending::<()>().await;
    drop(held);
    Ok(())
}

async fn nobody_left(tasks: &TaskRef) {
    settle().await;
    assert_eq!(tasks.count().await.unwrap().specs, 0);
    assert!(tasks.children().await.unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_handle_that_has_yielded_its_result_can_still_be_shut_down() {
    let (root, tasks) = tasks(TaskSpec::new()).await;
    let task = tasks.run(async { Ok::<_, Infallible>(7) });
    let mut task = task.await.expect("it starts");
    assert_eq!((&mut task).await.expect("a result"), 7);
    let error = task.shutdown(Duration::from_secs(1)).await;
    let reason = error.expect_err("the result was taken").reason;
    assert!(matches!(&*reason, ExitReason::Stopped { .. }), "{reason}");
    root.shutdown(ShutdownPlan::default()).await;
}

/// EXT-01: the caller gets the result, and a Down that is normal.
#[tokio::test(start_paused = true)]
async fn a_task_yields_its_result_and_an_ordinary_end() {
    let (root, tasks) = tasks(TaskSpec::new()).await;
    let (watcher, mut downs) = watcher().await;
    let task = tasks.run(async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        Ok::<_, LineDead>(7)
    });
    let task = task.await.unwrap();
    assert_eq!(task.key().to_string(), "task-1");
    let monitor = task.monitor(&watcher);
    assert_eq!(tasks.count().await.unwrap().active, 1);
    assert_eq!(task.await.unwrap(), 7);
    let down = downs.recv().await.unwrap();
    assert_eq!(down.reference(), monitor.reference());
    let ended = down.claim().unwrap();
    assert!(matches!(
        *ended.reason,
        ExitReason::Stopped { reason: None }
    ));
    nobody_left(&tasks).await;
    root.shutdown(ShutdownPlan::default()).await;
}

/// EXT-01: whoever drops the handle, or no longer waits for it, ends the task.
#[tokio::test(start_paused = true)]
async fn a_task_ends_with_its_handle() {
    let (root, tasks) = tasks(TaskSpec::new()).await;
    let log = Log::default();
    let task = tasks.run(forever(Held(log.clone()))).await.unwrap();
    settle().await;
    assert!(log.read().is_empty());
    drop(task);
    nobody_left(&tasks).await;
    assert_eq!(log.take(), ["drop"]);

    let kept = tasks.run(forever(Held(log.clone()))).await.unwrap();
    let key = kept.key().clone();
    kept.detach();
    settle().await;
    assert!(log.read().is_empty());
    tasks.terminate_child(&key).await.unwrap();
    assert_eq!(log.take(), ["drop"]);

    let starting = tasks.run(forever(Held(log.clone())));
    // Polled once, then given up.
    assert!(
        tokio::time::timeout(Duration::ZERO, starting)
            .await
            .is_err()
    );
    nobody_left(&tasks).await;
    assert_eq!(log.take(), ["drop"]);
    root.shutdown(ShutdownPlan::default()).await;
}

/// EXT-02: not linked; how it ended is told by the handle and the Down, and harms nobody.
#[tokio::test(start_paused = true)]
async fn a_task_that_is_not_linked_outlives_its_handle_and_fails_alone() {
    let (root, tasks) = tasks(TaskSpec::new()).await;
    let (watcher, mut downs) = watcher().await;
    let log = Log::default();
    let said = log.clone();
    let task = tasks.run_nolink(async move {
        tokio::time::sleep(Duration::from_secs(1)).await;
        said.say("done");
        Ok::<_, LineDead>(())
    });
    drop(task.await.unwrap());

    let task = tasks.run_nolink(async { Err::<(), _>(LineDead(3)) }).await;
    let task = task.unwrap();
    task.monitor(&watcher);
    let down = downs.recv().await.unwrap();
    let ended = down.claim().unwrap();
    assert_eq!(ended.reason.downcast_ref::<LineDead>(), Some(&LineDead(3)));
    let error = task.await.unwrap_err();
    assert_eq!(error.downcast_ref::<LineDead>(), Some(&LineDead(3)));

    let task = tasks.run_nolink(async {
        if true {
            panic!("plain text");
        }
        Ok::<_, LineDead>(())
    });
    let error = task.await.unwrap().await.unwrap_err();
    assert!(matches!(&*error.reason, ExitReason::Panicked(panic) if panic.message == "plain text"));
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(log.take(), ["done"]);
    nobody_left(&tasks).await;
    root.shutdown(ShutdownPlan::default()).await;
}

/// EXT-03: beyond the limit nothing starts, and what runs is unharmed.
#[tokio::test(start_paused = true)]
async fn a_task_beyond_the_limit_does_not_start() {
    let (root, tasks) = tasks(TaskSpec::new().max_children(1)).await;
    let log = Log::default();
    let first = tasks.run(async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        Ok::<_, LineDead>("first")
    });
    let first = first.await.unwrap();
    let refused = tasks.run(forever(Held(log.clone()))).await.unwrap_err();
    assert!(matches!(
        refused,
        StartTaskError::MaxChildren { limit: 1, .. }
    ));
    let refused = tasks.run_detached(Restart::Temporary, |_| async { Ok::<_, LineDead>(()) });
    assert!(matches!(
        refused.await.unwrap_err(),
        StartTaskError::MaxChildren { limit: 1, .. }
    ));
    settle().await;
    assert_eq!(log.take(), ["drop"]);
    assert_eq!(first.await.unwrap(), "first");
    settle().await;
    assert!(tasks.run(async { Ok::<_, LineDead>(()) }).await.is_ok());
    root.shutdown(ShutdownPlan::default()).await;
    let refused = tasks.run(async { Ok::<_, LineDead>(()) }).await;
    assert!(matches!(
        refused.unwrap_err(),
        StartTaskError::ShuttingDown(_)
    ));

    let (root, tasks) = self::tasks(TaskSpec::new().max_children(0)).await;
    let none = tasks.run(async { Ok::<_, LineDead>(()) }).await;
    assert!(matches!(
        none,
        Err(StartTaskError::MaxChildren { limit: 0, .. })
    ));
    root.shutdown(ShutdownPlan::default()).await;
}

/// EXT-04: with `Shutdown::Kill` tasks are killed with the supervisor, else they are told.
#[tokio::test(start_paused = true)]
async fn tasks_end_with_the_supervisor_as_its_spec_says() {
    let (root, tasks_) = tasks(TaskSpec::new().shutdown(Shutdown::Kill)).await;
    let task = tasks_.run(forever(Held(Log::default()))).await.unwrap();
    let report = root.shutdown(ShutdownPlan::default()).await;
    assert_eq!(report.killed.len(), 1);
    assert!(matches!(
        *task.await.unwrap_err().reason,
        ExitReason::Killed
    ));

    let (root, tasks) = tasks(TaskSpec::new()).await;
    let task = tasks.run(forever(Held(Log::default()))).await.unwrap();
    let report = root.shutdown(ShutdownPlan::default()).await;
    assert_eq!(report.graceful, 1);
    let error = task.await.unwrap_err();
    assert!(
        matches!(&*error.reason, ExitReason::Stopped { reason: Some(text) } if text == "shutdown")
    );
}

/// EXT-04: each task can have a limit of its own, however it is started; others of the same supervisor keep
/// that of the spec.
#[tokio::test(start_paused = true)]
async fn a_task_can_end_otherwise_than_its_supervisors_spec_says() {
    let (root, tasks) = tasks(TaskSpec::new().shutdown(Shutdown::Timeout(HOUR))).await;
    let brutal = tasks.with_shutdown(Shutdown::Kill);
    let patient = tasks.with_shutdown(Shutdown::Timeout(Duration::from_secs(9)));
    let killed = [
        brutal.run(forever(Held(Log::default()))).await.unwrap(),
        brutal
            .run_nolink(forever(Held(Log::default())))
            .await
            .unwrap(),
    ];
    let told = tasks.run(forever(Held(Log::default()))).await.unwrap();
    // Heeds the request, and takes longer than its own limit.
    let heeding = |context: TaskContext| async move {
        context.stopping().await;
        tokio::time::sleep(HOUR).await;
        Ok::<_, LineDead>(())
    };
    let key = patient.run_detached(Restart::Transient, heeding).await;
    let key = key.unwrap();
    let shutdown = |key: &ChildKey| {
        let (tasks, id) = (tasks.clone(), key.id().clone());
        async move {
            let supervisor = tasks.current().unwrap();
            supervisor.child_spec(&id).await.unwrap().shutdown
        }
    };
    assert_eq!(shutdown(killed[0].key()).await, Shutdown::Kill);
    assert_eq!(shutdown(told.key()).await, Shutdown::Timeout(HOUR));
    settle().await;
    let report = root
        .shutdown(ShutdownPlan::within(Duration::from_secs(60)))
        .await;
    assert_eq!(report.took.as_secs(), 9, "{report:?}");
    assert_eq!((report.graceful, report.killed.len()), (1, 3));
    let last = report.killed.iter().map(ToString::to_string);
    assert!(
        last.into_iter()
            .any(|path| path.ends_with(key.id().as_str()))
    );
    for task in killed {
        let reason = task.await.unwrap_err().reason;
        assert!(matches!(*reason, ExitReason::Killed), "{reason}");
    }
    assert!(told.await.unwrap_err().reason.is_normal());
}

/// EXT-05: a permanent task is run again, also after it returned in good order.
#[tokio::test(start_paused = true)]
async fn a_detached_task_is_run_again_as_its_restart_type_says() {
    for (restart, expected) in [
        (Restart::Permanent, 3),
        (Restart::Transient, 2),
        (Restart::Temporary, 1),
    ] {
        let (root, tasks) = tasks(TaskSpec::new()).await;
        let runs = Arc::new(AtomicU64::new(0));
        let counted = runs.clone();
        let key = tasks.run_detached(restart, move |context: TaskContext| {
            counted.fetch_add(1, Ordering::SeqCst);
            async move {
                match context.generation.0 {
                    1 => Err(LineDead(1)),
                    2 => Ok(()),
                    _ => std::future::pending().await,
                }
            }
        });
        let key = key.await.unwrap();
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(runs.load(Ordering::SeqCst), expected);
        let left = tasks.children().await.unwrap();
        assert_eq!(left.len(), usize::from(restart == Restart::Permanent));
        assert!(left.iter().all(|(child, _)| *child == key));
        root.shutdown(ShutdownPlan::default()).await;
    }
}

/// EXT-06: terminated once, not found twice.
#[tokio::test(start_paused = true)]
async fn a_task_can_be_terminated_once() {
    let (root, tasks) = tasks(TaskSpec::new()).await;
    let task = tasks.run(forever(Held(Log::default()))).await.unwrap();
    let key = task.key().clone();
    tasks.terminate_child(&key).await.unwrap();
    assert_eq!(
        tasks.terminate_child(&key).await,
        Err(TerminateChildError::NotFound {
            child: key.id().clone()
        })
    );
    assert!(task.await.unwrap_err().reason.is_normal());
    nobody_left(&tasks).await;
    root.shutdown(ShutdownPlan::default()).await;
}

#[tokio::test(start_paused = true)]
async fn a_handle_can_shut_its_task_down_or_kill_it() {
    let (root, tasks) = tasks(TaskSpec::new()).await;
    let minute = Duration::from_secs(60);
    let task = tasks.run(forever(Held(Log::default()))).await.unwrap();
    let error = task.shutdown(minute).await.unwrap_err();
    assert!(error.reason.is_normal());

    let task = tasks.run(async { Ok::<_, LineDead>(5) }).await.unwrap();
    settle().await;
    assert_eq!(task.shutdown(minute).await.unwrap(), 5);

    let task = tasks.run(forever(Held(Log::default()))).await.unwrap();
    task.kill();
    assert!(matches!(
        *task.await.unwrap_err().reason,
        ExitReason::Killed
    ));
    nobody_left(&tasks).await;
    root.shutdown(ShutdownPlan::default()).await;
}

/// What Elixir's `Task` has beside `await`: `yield` and `yield_many` (a while, and then go on), `await_many` (all, or the
/// first that fails), `ignore` (let it run), each with a handle and what every future can be done with.
#[tokio::test(start_paused = true)]
async fn handles_are_awaited_for_a_while_together_or_not_at_all() {
    let (root, tasks) = tasks(TaskSpec::new()).await;
    let second = Duration::from_secs(1);
    let lasts = move |seconds: u32| async move {
        tokio::time::sleep(second * seconds).await;
        Ok::<_, LineDead>(seconds)
    };
    let mut task = tasks.run(lasts(3)).await.unwrap();
    for _ in 0..2 {
        let not_yet = tokio::time::timeout(second, &mut task).await;
        assert!(not_yet.is_err(), "and it goes on");
    }
    let later = tokio::time::timeout(2 * second, &mut task).await;
    assert_eq!(later.unwrap().unwrap(), 3);

    let mut many = Vec::new();
    for seconds in [3, 1, 2] {
        many.push(tasks.run(lasts(seconds)).await.unwrap());
    }
    let all = futures_util::future::try_join_all(many).await.unwrap();
    assert_eq!(all, [3, 1, 2], "in their order");

    let log = Log::default();
    let bad = tasks.run(async move {
        lasts(1).await?;
        Err(LineDead(8))
    });
    let stays = async move {
        forever(Held(log)).await.unwrap();
        Ok::<u32, LineDead>(0)
    };
    let both = [tasks.run(stays).await.unwrap(), bad.await.unwrap()];
    let began = tokio::time::Instant::now();
    let first = futures_util::future::try_join_all(both).await.unwrap_err();
    assert_eq!(first.downcast_ref(), Some(&LineDead(8)));
    assert_eq!(began.elapsed().as_secs(), 1);
    nobody_left(&tasks).await;

    let log = Log::default();
    let told = log.clone();
    let ignored = tasks.run(async move {
        lasts(1).await?;
        told.say("done");
        Ok::<_, LineDead>(())
    });
    ignored.await.unwrap().detach();
    tokio::time::sleep(2 * second).await;
    assert_eq!(log.take(), ["done"]);
    root.shutdown(ShutdownPlan::default()).await;
}

/// On a real clock: a task that blocks its thread is left behind, by the handle and by the tree.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_that_never_yields_is_abandoned() {
    let (root, tasks) = tasks(TaskSpec::new()).await;
    let (unblock, blocked) = std::sync::mpsc::channel::<()>();
    let (block, blocks) = tokio::sync::oneshot::channel();
    let task = tasks.run(async move {
        block.send(()).unwrap();
        let _ = blocked.recv();
        Ok::<_, LineDead>(())
    });
    let task = task.await.unwrap();
    // One that has not begun can be dropped.
    blocks.await.unwrap();
    let short = Duration::from_millis(20);
    let error = task.shutdown(short).await.unwrap_err();
    assert!(matches!(*error.reason, ExitReason::Abandoned));
    let report = root
        .shutdown(ShutdownPlan::within(Duration::from_millis(100)))
        .await;
    assert_eq!(report.abandoned.len(), 1);
    drop(unblock);
}

#[tokio::test(start_paused = true)]
async fn a_linked_task_dies_with_its_owner() {
    let (root, tasks) = tasks(TaskSpec::new()).await;
    let (owner, _) = Actor::spawn(None, Puppet, Script::default()).await.unwrap();
    let owner = owner.get_cell();
    let log = Log::default();
    let task = tasks.run_linked(&owner, forever(Held(log.clone())));
    let task = task.await.unwrap();
    settle().await;
    owner.stop(None);
    assert!(matches!(
        *task.await.unwrap_err().reason,
        ExitReason::Killed
    ));
    assert_eq!(log.take(), ["drop"]);

    // One that has ended already.
    let task = tasks.run_linked(&owner, forever(Held(log.clone())));
    assert!(task.await.unwrap().await.is_err());
    nobody_left(&tasks).await;
    root.shutdown(ShutdownPlan::default()).await;
}

#[tokio::test(start_paused = true)]
async fn a_linked_task_takes_its_owner_along_when_it_fails() {
    let (root, tasks) = tasks(TaskSpec::new()).await;
    let address = Address::new();
    let spec = generous(Strategy::OneForOne).child(puppet("a", &Log::default()).address(&address));
    let (tree, mut events) = started(spec).await;
    let owner = address.current().unwrap().get_cell();
    let good = tasks
        .run_linked(&owner, async { Ok::<_, LineDead>(1) })
        .await;
    assert_eq!(good.unwrap().await.unwrap(), 1);
    settle().await;
    assert!(address.cast(Do::Sleep(Duration::ZERO)).is_ok());

    let bad = tasks.run_linked(&owner, async { Err::<(), _>(LineDead(6)) });
    drop(bad.await.unwrap());
    let reason = events.exited("a").await;
    let text = reason.to_string();
    assert!(
        text.contains("linked task task-2 failed: the line is dead"),
        "{text}"
    );
    tree.shutdown(ShutdownPlan::default()).await;
    root.shutdown(ShutdownPlan::default()).await;
}

#[tokio::test(start_paused = true)]
async fn a_task_supervisor_is_a_child_like_any_other() {
    let tasks = TaskRef::new();
    let log = Log::default();
    let spec = TaskSpec::new().shutdown(Shutdown::Kill).reference(&tasks);
    let (tree, mut events) = started(
        generous(Strategy::OneForOne)
            .child(ChildSpec::supervisor("tasks", spec))
            .child(puppet("b", &log)),
    )
    .await;
    let task = tasks.run(forever(Held(log.clone()))).await.unwrap();
    tasks.current().unwrap().cell().kill();
    assert!(matches!(
        *task.await.unwrap_err().reason,
        ExitReason::Killed
    ));
    events.restarted("tasks").await;
    let task = tasks.run(async { Ok::<_, LineDead>(2) }).await.unwrap();
    assert_eq!(task.await.unwrap(), 2);
    tree.shutdown(ShutdownPlan::default()).await;
}
