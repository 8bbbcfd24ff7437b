//! Names: ractor's are taken, free again, and found after a restart; those that make paths fit into one.

use mainstay_supervisors::{
    Address, DynamicSpec, PartitionSpec, ReconfigureError, Restart, ShutdownPlan, SpecError,
    StartChildError, StartFailure, Started, Strategy, SupervisorSpec, TaskSpec,
};
use ractor::SpawnErr;
use ractor::registry::where_is;

use crate::admin::id;
use crate::dynamic::{add, dynamic, lasting};
use crate::kit::{Do, Log, generous, ping, puppet, started};

/// EXS-02: a permanent child that stopped itself is found under the same name.
#[tokio::test(start_paused = true)]
async fn a_registered_child_is_found_again_under_its_name() {
    let name = "names: found again".to_owned();
    let log = Log::default();
    let address = Address::new();
    let child = puppet("a", &log).registered(&name).address(&address);
    let (tree, mut events) = started(generous(Strategy::OneForOne).child(child)).await;
    let mut seen = Vec::new();
    for _ in 0..3 {
        let found = where_is(name.clone()).unwrap();
        assert_eq!(found.get_id(), address.current().unwrap().get_id());
        assert!(!seen.contains(&found.get_id()));
        seen.push(found.get_id());
        found.stop(None);
        events.restarted("a").await;
    }
    assert_eq!(ping(&address).await, 4);
    tree.shutdown(ShutdownPlan::default()).await;
    assert!(where_is(name).is_none());
}

/// EXD-06: a name that is taken is a typed error, and free as soon as its holder has been ended.
#[tokio::test(start_paused = true)]
async fn a_name_that_is_taken_is_a_failed_start_and_free_again_after_a_stop() {
    let name = "names: taken".to_owned();
    let log = Log::default();
    let (tree, jobs, mut events) = dynamic(lasting()).await;
    let named = |restart| puppet("a", &log).registered(&name).restart(restart);
    let taken = |reason: &mainstay_supervisors::ExitReason| {
        matches!(
            reason.downcast_ref::<SpawnErr>(),
            Some(SpawnErr::ActorAlreadyRegistered(taken)) if *taken == name
        )
    };
    for restart in [Restart::Permanent, Restart::Temporary] {
        let (key, address) = add(&jobs, named(restart)).await;
        let Err(StartChildError::Failed { reason, .. }) = jobs.start_child(named(restart)).await
        else {
            panic!("two have one name");
        };
        assert!(taken(&reason), "{reason}");
        assert_eq!(jobs.count_children().await.unwrap().specs, 1);
        if restart == Restart::Permanent {
            address.cast(Do::Fail(1)).unwrap();
            events.restarted(key.id().as_str()).await;
            let holder = where_is(name.clone()).unwrap();
            assert_eq!(holder.get_id(), address.current().unwrap().get_id());
        }
        jobs.terminate_child(&key).await.unwrap();
        assert!(where_is(name.clone()).is_none(), "free at once");
    }
    let (_, address) = add(&jobs, named(Restart::Temporary)).await;

    // A whole tree whose child has that name does not stand.
    let spec = generous(Strategy::OneForOne).child(named(Restart::Permanent));
    let failure = spec.clone().start().await.unwrap_err();
    let StartFailure::Child { child, reason, .. } = failure else {
        panic!("{failure}");
    };
    assert_eq!(child, id("a"));
    assert!(taken(&reason), "{reason}");
    assert!(address.status().is_up(), "the holder is unharmed");
    tree.shutdown(ShutdownPlan::default()).await;
    let tree = spec.start().await.unwrap();
    tree.shutdown(ShutdownPlan::default()).await;
}

/// EXD-06: an id that is taken answers with who has it.
#[tokio::test(start_paused = true)]
async fn a_second_start_of_an_id_tells_who_is_there() {
    let log = Log::default();
    let (tree, _events) = started(generous(Strategy::OneForOne)).await;
    let below = || {
        let jobs = mainstay_supervisors::DynamicSpec::new();
        mainstay_supervisors::ChildSpec::supervisor("jobs", jobs)
    };
    let Started::Up { cell, .. } = tree.start_child(below()).await.unwrap() else {
        panic!("it declined");
    };
    let taken = tree.start_child(below()).await;
    let Err(StartChildError::AlreadyStarted { cell: there, .. }) = taken else {
        panic!("{taken:?}");
    };
    assert_eq!(there.unwrap().get_id(), cell.unwrap().get_id());
    assert!(log.take().is_empty());
    tree.shutdown(ShutdownPlan::default()).await;
}

/// Every kind of supervisor, and every way to start or change one, refuses a name that cannot be a part of
/// a path.
#[tokio::test(start_paused = true)]
async fn a_name_that_cannot_be_a_part_of_a_path_is_refused_everywhere() {
    let refused = |error: &SpecError, name: &str| match error {
        SpecError::EmptyName => name.is_empty(),
        SpecError::SlashInName { name: told } => told == name && name.contains('/'),
        SpecError::ControlInName { name: told } => {
            told == name && !error.to_string().contains(name)
        }
        _ => false,
    };
    let log = Log::default();
    for name in ["", "/", "a/", "/a", "a/b", "a\nb", "\u{1b}[2J"] {
        let partitions = PartitionSpec::of(|_| (puppet("p", &Log::default()), ())).partitions(1);
        let error = partitions.name(name).build().unwrap_err();
        assert!(refused(&error, name), "{error}");

        let dynamic = DynamicSpec::new().name(name);
        let error = SupervisorSpec::from(dynamic.clone()).check().unwrap_err();
        assert!(refused(&error, name), "{error}");
        let tasks = TaskSpec::new().name(name);
        for failure in [
            dynamic.start().await.unwrap_err(),
            tasks.start().await.unwrap_err(),
        ] {
            let StartFailure::Spec {
                supervisor,
                source: error,
            } = &failure
            else {
                panic!("{failure}");
            };
            assert!(refused(error, name), "{error}");
            assert_eq!(supervisor.as_str(), name);
        }

        let (tree, _events) = started(generous(Strategy::OneForOne)).await;
        let named = generous(Strategy::OneForOne).name(name);
        let Err(ReconfigureError::Spec { source: error, .. }) = tree.reconfigure(named).await
        else {
            panic!("{name:?} was taken");
        };
        assert!(refused(&error, name), "{error}");
        let child = tree.start_child(puppet(name, &log)).await.unwrap_err();
        assert!(matches!(child, StartChildError::Spec { .. }), "{child}");
        tree.shutdown(ShutdownPlan::default()).await;
    }
    assert!(log.take().is_empty(), "nobody was started");
}
