//! Runs a script on our supervisor, on a paused clock, and writes down what happened.
//!
//! Invariants: only public doors are used; nothing waits for real.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use mainstay_supervisors::{
    ChildKind, DeleteChildError, LookupError, NodeStatus, Restart, RestartChildError, Shutdown,
    ShutdownPlan, SpecError, SpecInfo, StartChildError, StartFailure, Started, SupervisorRef,
    SupervisorSpec, TerminateChildError,
};
use ractor::{ActorCell, ActorRef};
use tokio::time::sleep;

use crate::dynamic;
use crate::script::{Call, Child, End, Flags, Limit, Script, Step};
use crate::world::{Finish, PERIOD, World, class, join, observer, plain, spec, supervisor};

/// Longer than a failed restart waits.
const TICK: Duration = Duration::from_millis(5);

/// What happened, a line per step.
pub(crate) fn run(script: &Script) -> Vec<String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without drivers");
    runtime.block_on(lines(script))
}

async fn lines(script: &Script) -> Vec<String> {
    let world = Arc::new(World::default());
    let mut lines = Vec::new();
    // Kept to the end: a dropped root kills.
    let mut roots = Vec::new();
    for (at, step) in script.steps.iter().enumerate() {
        let mut ended = None;
        let answer = match step {
            Step::Plan(path, outcomes) => {
                let outcomes = outcomes.iter().cloned().collect();
                world.plans.lock().unwrap().insert(path.join("/"), outcomes);
                "ok".to_owned()
            }
            Step::Boot => match root(&world, script)
                .name("root")
                .observe(observer(&world))
                .start()
                .await
            {
                Ok(root) => {
                    *world.root.lock().unwrap() = Some((*root).clone());
                    roots.push(root);
                    "ok".to_owned()
                }
                Err(StartFailure::Child { child, .. }) => {
                    ended = Some("shutdown");
                    format!("failed {child}")
                }
                Err(other) => format!("{other:?}"),
            },
            Step::Advance => {
                sleep(3 * PERIOD).await;
                "ok".to_owned()
            }
            Step::Ends(path, end) => finish(vec![find(&world, path).await], &[*end]).await,
            Step::Together(pair) => {
                let mut found = Vec::new();
                let pair = in_start_order(&world, script, pair).await;
                for (id, _) in &pair {
                    found.push(find(&world, &[id]).await);
                }
                let ends: Vec<End> = pair.iter().map(|(_, end)| *end).collect();
                finish(found, &ends).await
            }
            Step::On(path, call) => answer(&world, path, call).await,
            Step::Check(auto_shutdown, children) => check(&world, auto_shutdown, children),
            Step::Stop => {
                if let Some(root) = world.root() {
                    root.shutdown(ShutdownPlan::within(PERIOD)).await;
                }
                "ok".to_owned()
            }
        };
        let root = world.root();
        if let Some(root) = &root {
            while !settled(root).await {}
        }
        let mut line = format!("{at} {answer} |");
        let answers = std::mem::take(&mut *world.answers.lock().unwrap());
        let mut found = String::new();
        for (path, answer) in answers {
            found += &format!(" ?{path}={}", answer.await.unwrap());
        }
        let mut events = std::mem::take(&mut *world.events.lock().unwrap());
        // Supervisors do not wait for each other; within one the order counts.
        events.sort_by(|(one, _), (other, _)| one.cmp(other));
        for (_, event) in events {
            line += &format!(" {event}");
        }
        line += &found;
        line += " |";
        if let Some(root) = &root {
            if root.which_children().await.is_err() {
                ended = Some(class(&*root.wait().await));
            } else {
                children(root, "", script.is_simple(), &mut line).await;
            }
        } else if ended.is_none() {
            line += " -";
        }
        if let Some(reason) = ended {
            line += &format!(" ended {reason}");
            lines.push(line);
            break;
        }
        lines.push(line);
        if world.relieved.swap(false, Ordering::SeqCst) {
            sleep(3 * PERIOD).await;
        }
    }
    if let Some(root) = world.root() {
        root.shutdown(ShutdownPlan::within(PERIOD)).await;
    }
    lines
}

fn root(world: &Arc<World>, script: &Script) -> SupervisorSpec {
    if script.is_simple() {
        dynamic::supervisor(world, script.flags)
    } else {
        supervisor(world, script.flags, &script.children, "")
    }
}

/// What is wrong with such children.
fn check(world: &Arc<World>, auto_shutdown: &'static str, children: &[Child]) -> String {
    let flags = Flags {
        strategy: "one_for_one",
        intensity: 1,
        auto_shutdown,
    };
    match supervisor(world, flags, children, "").check() {
        Ok(()) => "ok".to_owned(),
        Err(SpecError::DuplicateId { child }) => format!("duplicate {child}"),
        Err(SpecError::SignificantPermanent { .. } | SpecError::SignificantNever { .. }) => {
            "significant".to_owned()
        }
        Err(other) => other.to_string(),
    }
}

/// Under rest_for_one the earlier child ends first.
async fn in_start_order(
    world: &World,
    script: &Script,
    pair: &[(&'static str, End)],
) -> Vec<(&'static str, End)> {
    let mut pair = pair.to_vec();
    if script.flags.strategy == "rest_for_one"
        && let Some(root) = world.root()
        && let Ok(children) = root.which_children().await
    {
        let place = |id: &str| {
            children
                .iter()
                .rev()
                .position(|child| child.id.as_str() == id)
        };
        pair.sort_by_key(|(id, _)| place(id).unwrap_or(usize::MAX));
    }
    pair
}

/// The actor of a child, and the handle on it when it is a supervisor.
type Process = (ActorCell, Option<SupervisorRef>);

/// A child that has a process.
pub(crate) async fn find(world: &World, path: &[&str]) -> Option<Process> {
    let (id, within) = path.split_last()?;
    let supervisor = world.supervisor(within).await?;
    let id = world.id(within, id)?;
    let child = supervisor.which_child(&id).await.ok()?;
    Some((child.cell?, child.supervisor))
}

/// Has all of them end before anybody else runs.
pub(crate) async fn finish(found: Vec<Option<Process>>, ends: &[End]) -> String {
    let mut answers = Vec::new();
    for (found, end) in found.into_iter().zip(ends) {
        answers.push(if found.is_some() { "ok" } else { "none" });
        match found {
            None => {}
            Some((cell, _)) if *end == End::Killed => cell.kill(),
            Some((_, Some(below))) => {
                below.shutdown(ShutdownPlan::within(PERIOD)).await;
            }
            // It may have been told to stop meanwhile.
            Some((cell, None)) => drop(ActorRef::from(cell).cast(Finish(*end))),
        }
    }
    answers.join(" ")
}

/// Makes the call, at the supervisor at the path.
pub(crate) async fn answer(world: &Arc<World>, within: &[&str], call: &Call) -> String {
    let Some(supervisor) = world.supervisor(within).await else {
        return "none".to_owned();
    };
    if within.is_empty()
        && let Some(jobs) = world.jobs()
    {
        return dynamic::answer(world, &jobs, call).await;
    }
    let text = match call {
        Call::Start(child) => {
            let spec = spec(world, child, &within.join("/"));
            match supervisor.start_child(spec).await {
                Ok(up) => started(&up),
                Err(StartChildError::AlreadyStarted { .. }) => "already_started",
                Err(StartChildError::AlreadyPresent { .. }) => "already_present",
                Err(StartChildError::Failed { .. }) => "failed",
                Err(StartChildError::Spec { .. }) => "invalid",
                Err(StartChildError::ShuttingDown(_)) => "gone",
                Err(_) => "strange",
            }
        }
        Call::Terminate(id) => match supervisor.terminate_child(&(*id).into()).await {
            Ok(()) => "ok",
            Err(TerminateChildError::NotFound { .. }) => "not_found",
            Err(TerminateChildError::ShuttingDown(_)) => "gone",
            Err(_) => "strange",
        },
        Call::Restart(id) => match supervisor.restart_child(&(*id).into()).await {
            Ok(up) => started(&up),
            Err(RestartChildError::NotFound { .. }) => "not_found",
            Err(RestartChildError::Running { .. }) => "running",
            Err(RestartChildError::Restarting { .. }) => "restarting",
            Err(RestartChildError::Failed { .. }) => "failed",
            Err(RestartChildError::ShuttingDown(_)) => "gone",
            Err(_) => "strange",
        },
        Call::Delete(id) => match supervisor.delete_child(&(*id).into()).await {
            Ok(()) => "ok",
            Err(DeleteChildError::NotFound { .. }) => "not_found",
            Err(DeleteChildError::Running { .. }) => "running",
            Err(DeleteChildError::Restarting { .. }) => "restarting",
            Err(DeleteChildError::ShuttingDown(_)) => "gone",
            Err(_) => "strange",
        },
        Call::Spec(id) => match supervisor.child_spec(&(*id).into()).await {
            Ok(spec) => return described(&spec),
            Err(LookupError::NotFound { .. }) => "not_found",
            Err(_) => "gone",
        },
    };
    text.to_owned()
}

pub(crate) fn started(started: &Started) -> &'static str {
    match started {
        Started::Up { .. } => "ok",
        Started::Ignored => "ignored",
        _ => "strange",
    }
}

/// As OTP's driver writes a spec.
pub(crate) fn described(spec: &SpecInfo) -> String {
    let restart = match spec.restart {
        Restart::Permanent => "permanent",
        Restart::Transient => "transient",
        Restart::Temporary => "temporary",
    };
    let shutdown = match spec.shutdown {
        Shutdown::Kill => Limit::Kill,
        Shutdown::Infinite => Limit::Infinite,
        Shutdown::Timeout(limit) => Limit::Millis(u64::try_from(limit.as_millis()).unwrap()),
        other => panic!("no script says {other:?}"),
    };
    let kind = match spec.kind {
        ChildKind::Worker => "worker",
        ChildKind::Supervisor => "supervisor",
    };
    format!("{restart} {} {shutdown} {kind}", spec.significant)
}

/// Whether nothing is under way.
async fn settled(supervisor: &SupervisorRef) -> bool {
    sleep(TICK).await;
    let Ok(children) = supervisor.which_children().await else {
        return true;
    };
    for child in children {
        match child.status {
            NodeStatus::Running | NodeStatus::Idle => {}
            _ => return false,
        }
        if let Some(below) = child.supervisor
            && !Box::pin(settled(&below)).await
        {
            return false;
        }
    }
    true
}

async fn children(supervisor: &SupervisorRef, path: &str, is_dynamic: bool, line: &mut String) {
    let counts = supervisor.count_children().await.unwrap();
    let mut children = supervisor.which_children().await.unwrap();
    if is_dynamic {
        // OTP has no order for them, nor numbers.
        children.sort_by(|one, other| plain(&one.id).cmp(plain(&other.id)));
    }
    *line += &format!(
        " {path}[{} {} {} {}]",
        counts.specs, counts.active, counts.supervisors, counts.workers
    );
    for child in &children {
        let status = match child.status {
            NodeStatus::Running => "running",
            NodeStatus::Idle => "undefined",
            _ => "restarting",
        };
        *line += &format!(" {}={status}", join(path, plain(&child.id)));
    }
    for child in &children {
        if let Some(below) = &child.supervisor {
            Box::pin(self::children(
                below,
                &join(path, plain(&child.id)),
                false,
                line,
            ))
            .await;
        }
    }
}
