//! What an end is told to be.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::time::Duration;

use mainstay_supervisors::{Address, ExitReason, Restart, ShutdownPlan, Strategy, panic_capture};

use crate::kit::{Do, LineDead, Log, Script, generous, puppet, scripted, started};

async fn reason_of(script: Script, act: impl FnOnce(ractor::ActorRef<Do>)) -> ExitReason {
    let address = Address::new();
    let spec = generous(Strategy::OneForOne).child(
        scripted("a", script)
            .restart(Restart::Temporary)
            .address(&address),
    );
    let (tree, mut events) = started(spec).await;
    act(address.current().unwrap());
    let reason = events.exited("a").await;
    tree.shutdown(ShutdownPlan::default()).await;
    (*reason).clone()
}

fn send(message: Do) -> impl FnOnce(ractor::ActorRef<Do>) {
    move |actor| actor.send_message(message).unwrap()
}

/// RX-20: a panic with a String, a &str, anything else; an error with its type. Trap 8.
#[tokio::test(start_paused = true)]
async fn panics_and_errors_are_told_apart() {
    let script = Script::default;
    let text = reason_of(script(), send(Do::PanicText)).await;
    assert!(matches!(text, ExitReason::Panicked(info) if info.message == "plain text"));
    let string = reason_of(script(), send(Do::PanicString)).await;
    assert!(matches!(string, ExitReason::Panicked(info) if info.message == "formatted 7"));
    let other = reason_of(script(), send(Do::PanicOther)).await;
    assert!(matches!(other, ExitReason::Panicked(info) if info.message.contains("not text")));
    let error = reason_of(script(), send(Do::Fail(3))).await;
    assert!(matches!(error, ExitReason::Failed(_)));
    assert_eq!(error.downcast_ref::<LineDead>(), Some(&LineDead(3)));
}

/// RX-20: the location is known once the hook is installed.
#[tokio::test(start_paused = true)]
async fn an_installed_hook_tells_where_a_panic_happened() {
    panic_capture::install();
    let reason = reason_of(Script::default(), send(Do::PanicText)).await;
    let ExitReason::Panicked(info) = reason else {
        panic!("a panic was to be seen, not {reason}");
    };
    assert!(info.location.unwrap().contains("kit.rs"));
    let wanted = Backtrace::capture().status() == BacktraceStatus::Captured;
    assert_eq!(info.backtrace.is_some(), wanted);
    assert!(info.backtrace.is_none_or(|stack| stack.contains("Puppet")));
}

/// Trap 8: ractor says "killed" of both.
#[tokio::test(start_paused = true)]
async fn a_kill_is_not_a_stop_whose_reason_is_killed() {
    let killed = reason_of(Script::default(), |actor| actor.kill()).await;
    assert!(matches!(killed, ExitReason::Killed));
    let stopped = reason_of(Script::default(), send(Do::Stop(Some("killed")))).await;
    assert!(matches!(stopped, ExitReason::Stopped { reason: Some(text) } if text == "killed"));
}

#[tokio::test(start_paused = true)]
async fn a_stop_without_a_reason_and_a_drain_are_told_apart() {
    let stopped = reason_of(Script::default(), |actor| actor.stop(None)).await;
    assert!(matches!(stopped, ExitReason::Stopped { reason: None }));
    let drained = reason_of(Script::default(), |actor| actor.drain().unwrap()).await;
    assert!(matches!(drained, ExitReason::Drained));
}

#[tokio::test(start_paused = true)]
async fn a_kill_in_the_middle_of_a_handler_is_a_kill() {
    let reason = reason_of(Script::default(), |actor| {
        actor
            .send_message(Do::Sleep(Duration::from_secs(600)))
            .unwrap();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs(1)).await;
            actor.kill();
        });
    })
    .await;
    assert!(matches!(reason, ExitReason::Killed));
}

#[tokio::test(start_paused = true)]
async fn a_kill_during_post_stop_is_a_kill() {
    let script = Script {
        stop_takes: Duration::from_secs(600),
        ..Script::default()
    };
    let reason = reason_of(script, |actor| {
        actor.stop(None);
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs(1)).await;
            actor.kill();
        });
    })
    .await;
    assert!(matches!(reason, ExitReason::Killed));
}

#[tokio::test(start_paused = true)]
async fn an_error_in_post_stop_is_a_failure() {
    let script = Script {
        fail_post_stop: true,
        ..Script::default()
    };
    let reason = reason_of(script, |actor| actor.stop(None)).await;
    assert_eq!(reason.downcast_ref::<LineDead>(), Some(&LineDead(2)));
}

#[tokio::test(start_paused = true)]
async fn an_exit_is_announced_before_siblings_are_stopped() {
    let address = Address::new();
    let log = Log::default();
    let seen = log.clone();
    let spec = generous(Strategy::OneForAll)
        .observe(move |event| seen.say(event.kind.name()))
        .child(puppet("a", &log).address(&address))
        .child(puppet("b", &log));
    let (tree, mut events) = started(spec).await;
    log.take();
    address.cast(Do::Fail(1)).unwrap();
    events.restarted("b").await;
    let lines = log.take();
    let at = |what: &str| lines.iter().position(|line| line == what).unwrap();
    assert!(at("child.exit") < at("stop b"), "{lines:?}");
    tree.shutdown(ShutdownPlan::default()).await;
}

#[cfg(not(feature = "async-trait"))]
struct Eager;

#[cfg(not(feature = "async-trait"))]
impl ractor::Actor for Eager {
    type Msg = Do;
    type State = ();
    type Arguments = ();

    async fn pre_start(
        &self,
        _: ractor::ActorRef<Do>,
        (): (),
    ) -> Result<(), ractor::ActorProcessingErr> {
        Ok(())
    }

    #[allow(clippy::manual_async_fn, reason = "the panic comes before the future")]
    fn handle(
        &self,
        _: ractor::ActorRef<Do>,
        message: Do,
        (): &mut (),
    ) -> impl Future<Output = Result<(), ractor::ActorProcessingErr>> + Send {
        assert!(!matches!(message, Do::PanicText), "before the future");
        async { Ok(()) }
    }
}

/// A callback need not be an `async fn`.
#[cfg(not(feature = "async-trait"))]
#[tokio::test(start_paused = true)]
async fn a_callback_that_panics_before_its_future_is_made_has_panicked() {
    let address = Address::new();
    let child = mainstay_supervisors::ChildSpec::actor("a", |_| Ok((Eager, ()))).address(&address);
    let (tree, mut events) = started(generous(Strategy::OneForOne).child(child)).await;
    address.cast(Do::PanicText).unwrap();
    let reason = events.exited("a").await;
    assert!(matches!(*reason, ExitReason::Panicked(_)), "{reason}");
    tree.shutdown(ShutdownPlan::default()).await;
}
