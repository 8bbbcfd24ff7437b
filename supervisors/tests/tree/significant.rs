//! Significant children and auto-shutdown.

use mainstay_supervisors::{
    Address, AutoShutdown, ExitReason, Restart, ShutdownCause, ShutdownPlan, Strategy,
    SupervisorSpec,
};

use crate::kit::{Do, Events, Log, generous, puppet, settle, started};

struct Family {
    tree: mainstay_supervisors::Root,
    events: Events,
    log: Log,
    first: Address<Do>,
    second: Address<Do>,
    plain: Address<Do>,
}

async fn family(mode: AutoShutdown, restart: Restart, significant: bool) -> Family {
    let log = Log::default();
    let (first, second, plain) = (Address::new(), Address::new(), Address::new());
    let member = |id: &str, address: &Address<Do>| {
        puppet(id, &log)
            .restart(restart)
            .significant(significant)
            .address(address)
    };
    let spec: SupervisorSpec = generous(Strategy::OneForOne)
        .auto_shutdown(mode)
        .child(puppet("plain", &log).address(&plain))
        .child(member("first", &first))
        .child(member("second", &second));
    let (tree, events) = started(spec).await;
    Family {
        tree,
        events,
        log,
        first,
        second,
        plain,
    }
}

fn by_auto_shutdown(reason: &ExitReason, of: &str) -> bool {
    matches!(
        reason,
        ExitReason::Ended(ShutdownCause::AutoShutdown { child, .. }) if child.as_str() == of
    )
}

/// How a child comes to its end: by request, by a kill, a crash, or well.
async fn end(family: &mut Family, way: usize, id: &str) {
    let address = match id {
        "first" => family.first.clone(),
        _ => family.second.clone(),
    };
    match way {
        0 => {
            family.tree.terminate_child(&id.into()).await.unwrap();
            return;
        }
        1 => address.current().unwrap().kill(),
        2 => drop(address.cast(Do::Fail(1)).unwrap()),
        _ => drop(address.cast(Do::Stop(None)).unwrap()),
    }
    family.events.exited(id).await;
}

/// OTP-SIG-01, OTP-SIG-02: neither by request, nor killed, crashed or ended well, in any mode.
#[tokio::test(start_paused = true)]
async fn children_that_are_not_significant_never_end_the_supervisor() {
    for mode in [
        AutoShutdown::Never,
        AutoShutdown::AnySignificant,
        AutoShutdown::AllSignificant,
    ] {
        for restart in [Restart::Temporary, Restart::Transient] {
            for way in 0..4 {
                let mut family = family(mode, restart, false).await;
                for id in ["first", "second"] {
                    end(&mut family, way, id).await;
                }
                settle().await;
                assert!(family.plain.current().is_some());
                let back = restart == Restart::Transient && matches!(way, 1 | 2);
                assert_eq!(family.first.current().is_some(), back);
                assert_eq!(family.second.current().is_some(), back);
                family.tree.shutdown(ShutdownPlan::default()).await;
            }
        }
    }
}

/// OTP-SIG-03, OTP-SIG-04: with `all`, one that was ended by request is neither the last nor waited for.
#[tokio::test(start_paused = true)]
async fn one_ended_by_request_is_not_the_last_of_all_significant_children() {
    for restart in [Restart::Temporary, Restart::Transient] {
        let mut one = family(AutoShutdown::AllSignificant, restart, true).await;
        end(&mut one, 0, "first").await;
        end(&mut one, 3, "second").await;
        assert!(by_auto_shutdown(&*one.tree.wait().await, "second"));

        let mut other = family(AutoShutdown::AllSignificant, restart, true).await;
        end(&mut other, 3, "second").await;
        end(&mut other, 0, "first").await;
        settle().await;
        assert!(other.plain.current().is_some());
        other.tree.shutdown(ShutdownPlan::default()).await;
    }
}

/// OTP-SIG-03: with `all`, the last temporary one ends the supervisor however it ends.
#[tokio::test(start_paused = true)]
async fn the_last_temporary_one_ends_the_supervisor_however_it_ends() {
    for way in 1..4 {
        let mut family = family(AutoShutdown::AllSignificant, Restart::Temporary, true).await;
        end(&mut family, way, "first").await;
        settle().await;
        assert!(family.plain.current().is_some());
        end(&mut family, way, "second").await;
        assert!(by_auto_shutdown(&*family.tree.wait().await, "second"));
        assert!(family.log.take().contains(&"stop plain".to_owned()));
    }
}

/// OTP-SIG-03: any end of a temporary one; the others are taken along.
#[tokio::test(start_paused = true)]
async fn any_significant_temporary_child_ends_the_supervisor_however_it_ends() {
    for way in 0..3 {
        let family = family(AutoShutdown::AnySignificant, Restart::Temporary, true).await;
        match way {
            0 => family.first.cast(Do::Stop(None)).map(drop).unwrap(),
            1 => family.first.cast(Do::Fail(1)).map(drop).unwrap(),
            _ => family.first.current().unwrap().kill(),
        }
        let reason = family.tree.wait().await;
        assert!(by_auto_shutdown(&reason, "first"), "{reason}");
        let log = family.log.take();
        assert!(log.contains(&"stop plain".to_owned()) && log.contains(&"stop second".to_owned()));
    }
}

/// OTP-SIG-03, OTP-SIG-04: with `all`, only the last one.
#[tokio::test(start_paused = true)]
async fn only_the_last_of_all_significant_children_ends_the_supervisor() {
    for restart in [Restart::Temporary, Restart::Transient] {
        let mut family = family(AutoShutdown::AllSignificant, restart, true).await;
        family.second.cast(Do::Stop(None)).unwrap();
        family.events.exited("second").await;
        settle().await;
        assert!(family.plain.current().is_some());
        family.first.cast(Do::Stop(None)).unwrap();
        assert!(by_auto_shutdown(&*family.tree.wait().await, "first"));
    }
}

/// OTP-SIG-04: a transient one that is restarted ends nobody, and counts as alive.
#[tokio::test(start_paused = true)]
async fn a_significant_transient_child_that_restarts_does_not_end_the_supervisor() {
    for mode in [AutoShutdown::AnySignificant, AutoShutdown::AllSignificant] {
        let mut family = family(mode, Restart::Transient, true).await;
        family.first.cast(Do::Fail(1)).unwrap();
        family.events.restarted("first").await;
        family.second.current().unwrap().kill();
        family.events.restarted("second").await;
        assert!(family.plain.current().is_some());
        family.tree.shutdown(ShutdownPlan::default()).await;
    }
    let mut family = family(AutoShutdown::AnySignificant, Restart::Transient, true).await;
    family.first.cast(Do::Fail(1)).unwrap();
    family.events.restarted("first").await;
    family.first.cast(Do::Stop(None)).unwrap();
    assert!(by_auto_shutdown(&*family.tree.wait().await, "first"));
}
