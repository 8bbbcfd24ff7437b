//! A dynamic supervisor on our side, and its children by the names that a script gives them.
//!
//! Invariants: only the doors of a `DynamicRef` are used; a name is known as soon as there is a key for it.

use std::sync::Arc;

use mainstay_supervisors::{
    DynamicRef, DynamicSpec, Intensity, LookupError, StartChildError, Started, SupervisorSpec,
    TerminateChildError,
};

use crate::ours::{described, started};
use crate::script::{Call, Flags};
use crate::world::{PERIOD, World, spec};

pub(crate) fn supervisor(world: &World, flags: Flags) -> SupervisorSpec {
    let jobs = DynamicRef::new();
    *world.jobs.lock().unwrap() = Some(jobs.clone());
    DynamicSpec::new()
        .intensity(Intensity::new(flags.intensity, PERIOD))
        .reference(&jobs)
        .into()
}

pub(crate) async fn answer(world: &Arc<World>, jobs: &DynamicRef, call: &Call) -> String {
    let text = match call {
        Call::Start(child) => match jobs.start_child(spec(world, child, "")).await {
            Ok((_, Started::Ignored)) => "ignored",
            Ok((key, up)) => {
                world.keys.lock().unwrap().insert(child.id, key);
                started(&up)
            }
            Err(StartChildError::Failed { .. }) => "failed",
            Err(StartChildError::ShuttingDown(_)) => "gone",
            Err(_) => "strange",
        },
        Call::Terminate(id) => {
            let Some(key) = world.key(id) else {
                return "none".to_owned();
            };
            match jobs.terminate_child(&key).await {
                Ok(()) => "ok",
                Err(TerminateChildError::NotFound { .. }) => "not_found",
                Err(TerminateChildError::ShuttingDown(_)) => "gone",
                Err(_) => "strange",
            }
        }
        Call::Spec(id) => {
            let Some(key) = world.key(id) else {
                return "none".to_owned();
            };
            match jobs.child_spec(&key).await {
                Ok(spec) => return described(&spec),
                Err(LookupError::NotFound { .. }) => "not_found",
                Err(_) => "gone",
            }
        }
        Call::Restart(_) | Call::Delete(_) => panic!("no script says so"),
    };
    text.to_owned()
}
