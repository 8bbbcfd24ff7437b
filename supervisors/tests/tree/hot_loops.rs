//! Loops that cost neither intensity nor attempts: they take time, whatever they ask for.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use mainstay_supervisors::{
    Address, ChildSpec, ShutdownPlan, StartError, Strategy, TaskContext, Verdict,
};
use tokio::time::Instant;

use crate::kit::{Do, LineDead, Log, gated, generous, started};

/// Asked too often for what one second can hold.
const HOT: usize = 5_000;

/// A factory that is never ready, and asks for no time: the supervisor does not spin, at its boot and after a failure.
#[tokio::test(start_paused = true)]
async fn a_start_that_is_postponed_by_nothing_is_not_a_hot_loop() {
    let calls = Arc::new(AtomicUsize::new(0));
    let address = Address::new();
    let (asked, first) = (calls.clone(), Instant::now());
    let spec = generous(Strategy::OneForAll).child(
        gated("a", &Log::default(), move |context| {
            let calls = asked.fetch_add(1, Ordering::SeqCst);
            let seconds = if context.previous.is_some() { 2 } else { 1 };
            match first.elapsed().as_secs() < seconds && calls < seconds as usize * HOT {
                true => Err(StartError::Postpone(Duration::ZERO)),
                false => Ok(()),
            }
        })
        .address(&address),
    );
    let (tree, mut events) = started(spec).await;
    let booted = calls.swap(HOT, Ordering::SeqCst);
    assert!(booted <= 1001, "asked {booted} times in a second");
    address.cast(Do::Fail(1)).unwrap();
    events.restarted("a").await;
    let restarted = calls.load(Ordering::SeqCst) - HOT;
    assert!(restarted <= 1001, "asked {restarted} times in a second");
    tree.shutdown(ShutdownPlan::default()).await;
}

/// What ends as soon as it is up, and by nobody's fault, is not started without a pause.
#[tokio::test(start_paused = true)]
async fn a_loss_that_never_counts_is_not_a_hot_loop() {
    let starts = Arc::new(AtomicUsize::new(0));
    let (begun, first) = (starts.clone(), Instant::now());
    let stable = Verdict::Uncounted {
        stable: true,
        at_least: Duration::ZERO,
    };
    let task = move |_: TaskContext| {
        let starts = begun.fetch_add(1, Ordering::SeqCst);
        let over = first.elapsed().as_secs() >= 1 || starts > HOT;
        async move {
            match over {
                true => std::future::pending().await,
                false => Err(LineDead(1)),
            }
        }
    };
    let child = ChildSpec::task("a", task).classify(move |_| stable);
    let (tree, _events) = started(generous(Strategy::OneForOne).child(child)).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let starts = starts.load(Ordering::SeqCst);
    assert!(
        (500..=1002).contains(&starts),
        "started {starts} times in a second"
    );
    tree.shutdown(ShutdownPlan::default()).await;
}
