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

/// OTP-SIG-01, 02.
#[tokio::test(start_paused = true)]
async fn children_that_are_not_significant_never_end_the_supervisor() {
    for mode in [
        AutoShutdown::Never,
        AutoShutdown::AnySignificant,
        AutoShutdown::AllSignificant,
    ] {
        for restart in [Restart::Temporary, Restart::Transient] {
            let mut family = family(mode, restart, false).await;
            family.first.cast(Do::Stop(None)).unwrap();
            family.events.exited("first").await;
            family.second.current().unwrap().kill();
            family.events.exited("second").await;
            settle().await;
            assert!(family.plain.current().is_some());
            family.tree.shutdown(ShutdownPlan::default()).await;
        }
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

/// OTP-SIG-03, 04: with `all`, only the last one.
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
