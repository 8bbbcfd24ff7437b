//! {permanent, transient, temporary} × {normal, shutdown, abnormal, panic, killed}.

use std::time::Duration;

use mainstay_supervisors::{
    Address, Backoff, ExitReason, Intensity, Jitter, Restart, ShutdownCause, ShutdownPlan,
    StartError, Strategy, SupervisorEventKind, SupervisorSpec, Verdict,
};

use crate::admin::counts;
use crate::kit::{Do, Events, LineDead, Log, gated, generous, ping, puppet, settle, started};

#[derive(Clone, Copy, Debug)]
enum End {
    Normal,
    Shutdown,
    Drain,
    Abnormal,
    Panic,
    Killed,
}

/// Whether it is back, and what is counted.
async fn end_of(restart: Restart, end: End) -> (bool, [usize; 4]) {
    let address = Address::new();
    let log = Log::default();
    let spec =
        generous(Strategy::OneForOne).child(puppet("a", &log).restart(restart).address(&address));
    let (tree, mut events) = started(spec).await;
    let actor = address.current().unwrap();
    match end {
        End::Normal => actor.stop(None),
        End::Shutdown => actor.stop(Some("shutdown".into())),
        End::Drain => actor.drain().unwrap(),
        End::Abnormal => actor.send_message(Do::Fail(1)).unwrap(),
        End::Panic => actor.send_message(Do::PanicText).unwrap(),
        End::Killed => actor.kill(),
    }
    events.exited("a").await;
    settle().await;
    let counted = counts(&tree).await;
    let kept = tree.snapshot().await.find(["a"]).is_some();
    assert_eq!(kept, counted[0] == 1);
    let back = address.current().is_some();
    if back {
        assert_eq!(ping(&address).await, 2);
    }
    tree.shutdown(ShutdownPlan::default()).await;
    (back, counted)
}

/// OTP-TYPE-01, OTP-TYPE-04, OTP-TYPE-07; EXD-21.
#[tokio::test(start_paused = true)]
async fn a_permanent_child_is_restarted_whatever_the_reason() {
    for end in [
        End::Normal,
        End::Shutdown,
        End::Drain,
        End::Abnormal,
        End::Panic,
        End::Killed,
    ] {
        assert_eq!(
            end_of(Restart::Permanent, end).await,
            (true, [1, 1, 0, 1]),
            "{end:?}"
        );
    }
}

/// OTP-TYPE-02, OTP-TYPE-05; EXD-20.
#[tokio::test(start_paused = true)]
async fn a_transient_child_that_ended_well_is_left_alone_and_keeps_its_spec() {
    for end in [End::Normal, End::Shutdown, End::Drain] {
        assert_eq!(
            end_of(Restart::Transient, end).await,
            (false, [1, 0, 0, 1]),
            "{end:?}"
        );
    }
}

/// OTP-TYPE-08; EXD-20; a kill is abnormal.
#[tokio::test(start_paused = true)]
async fn a_transient_child_that_failed_or_was_killed_is_restarted() {
    for end in [End::Abnormal, End::Panic, End::Killed] {
        assert_eq!(
            end_of(Restart::Transient, end).await,
            (true, [1, 1, 0, 1]),
            "{end:?}"
        );
    }
}

/// OTP-TYPE-03, OTP-TYPE-06, OTP-TYPE-09; EXD-19; OTP-TMP-02.
#[tokio::test(start_paused = true)]
async fn a_temporary_child_is_never_restarted_and_forgotten() {
    for end in [
        End::Normal,
        End::Shutdown,
        End::Drain,
        End::Abnormal,
        End::Panic,
        End::Killed,
    ] {
        assert_eq!(
            end_of(Restart::Temporary, end).await,
            (false, [0, 0, 0, 0]),
            "{end:?}"
        );
    }
}

/// OTP-STRAT-02: the I+1st restart within the window ends the supervisor.
#[tokio::test(start_paused = true)]
async fn the_restart_beyond_the_intensity_ends_the_supervisor() {
    let address = Address::new();
    let log = Log::default();
    let spec = SupervisorSpec::new(Strategy::OneForOne)
        .intensity(Intensity::new(2, Duration::from_secs(5)))
        .child(puppet("good", &log))
        .child(
            puppet("bad", &log)
                .backoff(Backoff::new(Duration::ZERO, Duration::ZERO))
                .address(&address),
        );
    let (tree, mut events) = started(spec).await;
    for generation in 1..=2 {
        assert_eq!(ping(&address).await, generation);
        address.cast(Do::Fail(7)).unwrap();
        events.restarted("bad").await;
    }
    address.cast(Do::Fail(7)).unwrap();
    let reason = tree.wait().await;
    assert!(matches!(
        &*reason,
        ExitReason::Ended(ShutdownCause::Exhausted { child, .. }) if child.as_str() == "bad"
    ));
    assert!(reason.is_normal());
    assert_eq!(reason.downcast_ref::<LineDead>(), Some(&LineDead(7)));
    assert_eq!(
        log.read()
            .iter()
            .filter(|line| *line == "stop good")
            .count(),
        1
    );
}

/// Section 6 of the cases: an intensity of zero ends the supervisor at the first crash.
#[tokio::test(start_paused = true)]
async fn an_intensity_of_zero_allows_no_restart() {
    let address = Address::new();
    let spec = SupervisorSpec::new(Strategy::OneForOne)
        .intensity(Intensity::new(0, Duration::from_secs(5)))
        .child(puppet("a", &Log::default()).address(&address));
    let (tree, _events) = started(spec).await;
    address.cast(Do::Fail(7)).unwrap();
    assert!(matches!(
        &*tree.wait().await,
        ExitReason::Ended(ShutdownCause::Exhausted { .. })
    ));
}

/// OTP-STRAT-01, RX-25.
#[tokio::test(start_paused = true)]
async fn crashes_wider_apart_than_the_window_never_exhaust_it() {
    let address = Address::new();
    let spec = SupervisorSpec::new(Strategy::OneForOne)
        .intensity(Intensity::new(1, Duration::from_secs(1)))
        .child(puppet("a", &Log::default()).address(&address));
    let (tree, mut events) = started(spec).await;
    for _ in 0..10 {
        address.cast(Do::Fail(7)).unwrap();
        events.restarted("a").await;
        tokio::time::sleep(Duration::from_millis(1001)).await;
    }
    assert_eq!(ping(&address).await, 11);
    tree.shutdown(ShutdownPlan::default()).await;
}

/// Section 6 of the cases, OTP-STRAT-03, EXD-27, EXD-28: failed attempts count, I = 5 gives 5 of them.
#[tokio::test(start_paused = true)]
async fn failed_restart_attempts_count_against_the_intensity() {
    let address = Address::new();
    let log = Log::default();
    let attempts = log.clone();
    let spec = SupervisorSpec::new(Strategy::OneForOne)
        .intensity(Intensity::new(5, Duration::from_secs(60)))
        .child(
            gated("a", &log, move |context| match context.generation.0 {
                1 => Ok(()),
                _ => {
                    attempts.say(format!("attempt {}", context.attempt));
                    Err(StartError::failed(LineDead(9)))
                }
            })
            .address(&address),
        );
    let (tree, _events) = started(spec).await;
    address.cast(Do::Fail(7)).unwrap();
    let reason = tree.wait().await;
    assert_eq!(reason.downcast_ref::<LineDead>(), Some(&LineDead(9)));
    let attempts: Vec<_> = log
        .take()
        .into_iter()
        .filter(|line| line.starts_with("attempt"))
        .collect();
    assert_eq!(
        attempts,
        [
            "attempt 1",
            "attempt 2",
            "attempt 3",
            "attempt 4",
            "attempt 5"
        ]
    );
}

/// EXD-26.
#[tokio::test(start_paused = true)]
async fn one_failed_attempt_is_followed_by_a_good_one() {
    let address = Address::new();
    let spec = SupervisorSpec::new(Strategy::OneForOne).child(
        gated("a", &Log::default(), |context| match context.generation.0 {
            2 => Err(StartError::failed(LineDead(9))),
            _ => Ok(()),
        })
        .address(&address),
    );
    let (tree, mut events) = started(spec).await;
    address.cast(Do::Fail(7)).unwrap();
    events.restarted("a").await;
    assert_eq!(ping(&address).await, 3);
    tree.shutdown(ShutdownPlan::default()).await;
}

async fn delays_of(
    backoff: Backoff,
    verdict: Option<Verdict>,
    uptime: Duration,
    crashes: usize,
) -> Vec<(u128, u32, bool)> {
    let address = Address::new();
    let mut child = puppet("a", &Log::default())
        .backoff(backoff)
        .address(&address);
    if let Some(verdict) = verdict {
        child = child.classify(move |_| verdict);
    }
    let (tree, mut events) = started(generous(Strategy::OneForOne).child(child)).await;
    let mut delays = Vec::new();
    for _ in 0..crashes {
        address.up(Duration::from_secs(600)).await.unwrap();
        tokio::time::sleep(uptime).await;
        address.cast(Do::Fail(1)).unwrap();
        let planned = events
            .until(|event| matches!(event.kind, SupervisorEventKind::RestartPlanned { .. }))
            .await;
        if let SupervisorEventKind::RestartPlanned {
            delay,
            attempt,
            counted,
            ..
        } = planned.kind
        {
            delays.push((delay.as_millis(), attempt, counted));
        }
    }
    tree.shutdown(ShutdownPlan::default()).await;
    delays
}

fn steady() -> Backoff {
    Backoff::new(Duration::from_millis(100), Duration::from_millis(400))
        .jitter(Jitter::None)
        .reset_after(Duration::from_secs(10))
}

#[tokio::test(start_paused = true)]
async fn delays_grow_to_the_cap_while_runs_are_short() {
    let delays = delays_of(steady(), None, Duration::from_secs(1), 5).await;
    let delays: Vec<_> = delays.into_iter().map(|(delay, ..)| delay).collect();
    assert_eq!(delays, [0, 100, 200, 400, 400]);
}

#[tokio::test(start_paused = true)]
async fn a_stable_run_resets_the_delays() {
    let delays = delays_of(steady(), None, Duration::from_secs(10), 3).await;
    assert_eq!(delays, [(0, 1, true), (0, 1, true), (0, 1, true)]);
}

#[tokio::test(start_paused = true)]
async fn full_jitter_stays_below_the_cap() {
    let backoff = steady().jitter(Jitter::Full).first_immediate(false);
    for (delay, ..) in delays_of(backoff, None, Duration::ZERO, 30).await {
        assert!(delay <= 400);
    }
}

#[tokio::test(start_paused = true)]
async fn an_uncounted_unstable_loss_grows_the_delay_however_long_the_run() {
    let verdict = Verdict::Uncounted {
        stable: false,
        at_least: Duration::ZERO,
    };
    let delays = delays_of(steady(), Some(verdict), Duration::from_secs(60), 3).await;
    assert_eq!(delays, [(0, 1, false), (100, 2, false), (200, 3, false)]);
}

#[tokio::test(start_paused = true)]
async fn an_uncounted_stable_loss_resets_the_delay_but_waits_at_least_as_told() {
    let verdict = Verdict::Uncounted {
        stable: true,
        at_least: Duration::from_millis(1500),
    };
    let delays = delays_of(steady(), Some(verdict), Duration::ZERO, 3).await;
    assert_eq!(delays, [(1500, 1, false); 3]);
}

#[tokio::test(start_paused = true)]
async fn uncounted_losses_never_exhaust_the_intensity() {
    let address = Address::new();
    let spec = SupervisorSpec::new(Strategy::OneForOne)
        .intensity(Intensity::new(0, Duration::from_secs(3600)))
        .child(
            puppet("a", &Log::default())
                .address(&address)
                .classify(|reason| match reason.downcast_ref::<LineDead>() {
                    Some(_) => Verdict::Uncounted {
                        stable: true,
                        at_least: Duration::ZERO,
                    },
                    None => Verdict::Default,
                }),
        );
    let (tree, mut events) = started(spec).await;
    for _ in 0..20 {
        address.cast(Do::Fail(1)).unwrap();
        events.restarted("a").await;
    }
    address.cast(Do::PanicText).unwrap();
    assert!(matches!(
        &*tree.wait().await,
        ExitReason::Ended(ShutdownCause::Exhausted { .. })
    ));
}

#[tokio::test(start_paused = true)]
async fn the_supervisor_gives_up_after_the_backoffs_own_limit() {
    let address = Address::new();
    let spec = generous(Strategy::OneForOne).child(
        puppet("a", &Log::default())
            .backoff(steady().max_attempts(2))
            .address(&address),
    );
    let (tree, mut events) = started(spec).await;
    for _ in 0..2 {
        address.cast(Do::Fail(1)).unwrap();
        events.restarted("a").await;
    }
    address.cast(Do::Fail(1)).unwrap();
    assert!(matches!(
        &*tree.wait().await,
        ExitReason::Ended(ShutdownCause::Exhausted { .. })
    ));
}

#[tokio::test(start_paused = true)]
async fn a_postponed_start_costs_neither_intensity_nor_attempts() {
    let address = Address::new();
    let log = Log::default();
    let seen = log.clone();
    let spec = SupervisorSpec::new(Strategy::OneForOne)
        .intensity(Intensity::new(1, Duration::from_secs(3600)))
        .child(
            gated("a", &log, move |context| {
                seen.say(format!("{} {}", context.generation, context.attempt));
                match context.generation.0 {
                    2..=9 => Err(StartError::Postpone(Duration::from_secs(30))),
                    _ => Ok(()),
                }
            })
            .address(&address),
        );
    let (tree, mut events) = started(spec).await;
    let began = tokio::time::Instant::now();
    address.cast(Do::Fail(1)).unwrap();
    events.restarted("a").await;
    assert_eq!(began.elapsed().as_secs(), 8 * 30);
    assert!(log.read().contains(&"10 1".to_owned()));
    assert_eq!(
        tree.snapshot().await.window,
        Some((0, 1)).map(|(_, max)| (1, max))
    );
    tree.shutdown(ShutdownPlan::default()).await;
}

#[tokio::test(start_paused = true)]
async fn a_child_in_backoff_is_shown_as_restarting() {
    let address = Address::new();
    let spec = generous(Strategy::OneForOne).child(
        puppet("a", &Log::default())
            .backoff(steady().first_immediate(false))
            .address(&address),
    );
    let (tree, mut events) = started(spec).await;
    address.cast(Do::Fail(1)).unwrap();
    events.exited("a").await;
    let snapshot = tree.snapshot().await;
    let child = snapshot.find(["a"]).unwrap();
    assert_eq!(child.status, mainstay_supervisors::NodeStatus::Restarting);
    assert_eq!(child.next_restart, Some(Duration::from_millis(100)));
    assert!(snapshot.to_string().contains("restarting"), "{snapshot}");
    assert!(matches!(
        address.status(),
        mainstay_supervisors::AddressStatus::Restarting { attempt: 1, next_at }
            if next_at == tokio::time::Instant::now() + Duration::from_millis(100)
    ));
    tree.shutdown(ShutdownPlan::default()).await;
}

#[tokio::test(start_paused = true)]
async fn dont_restart_leaves_a_permanent_child_down() {
    let address = Address::new();
    let spec = generous(Strategy::OneForOne).child(
        puppet("a", &Log::default())
            .classify(|_| Verdict::DontRestart)
            .address(&address),
    );
    let (tree, mut events) = started(spec).await;
    address.cast(Do::Fail(1)).unwrap();
    events.exited("a").await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(matches!(
        address.status(),
        mainstay_supervisors::AddressStatus::Down(_)
    ));
    tree.shutdown(ShutdownPlan::default()).await;
}

#[tokio::test(start_paused = true)]
async fn escalate_ends_the_supervisor_with_the_typed_cause() {
    let address = Address::new();
    let log = Log::default();
    let spec = generous(Strategy::OneForOne)
        .child(puppet("good", &log))
        .child(
            puppet("a", &log)
                .classify(|_| Verdict::Escalate)
                .address(&address),
        );
    let (tree, _events) = started(spec).await;
    address.cast(Do::Fail(3)).unwrap();
    let reason = tree.wait().await;
    assert!(matches!(
        &*reason,
        ExitReason::Ended(ShutdownCause::Escalated { .. })
    ));
    assert_eq!(reason.downcast_ref::<LineDead>(), Some(&LineDead(3)));
    assert!(log.read().contains(&"stop good".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn a_panicking_classify_counts_as_default() {
    let address = Address::new();
    let spec = generous(Strategy::OneForOne).child(
        puppet("a", &Log::default())
            .classify(|_| panic!("classify"))
            .address(&address),
    );
    let (tree, mut events) = started(spec).await;
    address.cast(Do::Fail(3)).unwrap();
    events.restarted("a").await;
    tree.shutdown(ShutdownPlan::default()).await;
}

#[tokio::test(start_paused = true)]
async fn a_panicking_observer_does_not_hurt_the_supervisor() {
    let address = Address::new();
    let spec = generous(Strategy::OneForOne)
        .observe(|_| panic!("observer"))
        .child(puppet("a", &Log::default()).address(&address));
    let (spec, mut events) = Events::of(spec);
    let tree = spec.start().await.unwrap();
    address.cast(Do::Fail(3)).unwrap();
    events.restarted("a").await;
    tree.shutdown(ShutdownPlan::default()).await;
}
