//! From a failure to its replacement: a supervisor of ours, and a hand-written one that respawns in
//! `handle_supervisor_evt`.
//!
//! The clock starts in the handler that fails and stops in the `post_start` of the next incarnation,
//! of the same actor in both.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use mainstay_supervisors::{Backoff, ChildSpec, Intensity, ShutdownPlan, Strategy, SupervisorSpec};
use ractor::{Actor, ActorProcessingErr, ActorRef, SupervisionEvent};
use tokio::sync::mpsc;

use crate::{Bar, median, number, runtimes, spread};

struct Fail;
mainstay_supervisors::message!(Fail);

/// What all incarnations share.
#[derive(Clone)]
struct Track {
    failed: Arc<Mutex<Option<Instant>>>,
    up: mpsc::UnboundedSender<(ActorRef<Fail>, Option<Duration>)>,
}

struct Frail;

#[cfg_attr(feature = "async-trait", ractor::async_trait)]
impl Actor for Frail {
    type Msg = Fail;
    type State = Track;
    type Arguments = Track;

    async fn pre_start(
        &self,
        _: ActorRef<Fail>,
        track: Track,
    ) -> Result<Track, ActorProcessingErr> {
        Ok(track)
    }

    async fn post_start(
        &self,
        myself: ActorRef<Fail>,
        track: &mut Track,
    ) -> Result<(), ActorProcessingErr> {
        let failed = track.failed.lock().expect("no holder panics").take();
        track.up.send((myself, failed.map(|at| at.elapsed())))?;
        Ok(())
    }

    async fn handle(
        &self,
        _: ActorRef<Fail>,
        _: Fail,
        track: &mut Track,
    ) -> Result<(), ActorProcessingErr> {
        *track.failed.lock().expect("no holder panics") = Some(Instant::now());
        Err("as told".into())
    }
}

/// A one_for_one as one writes it by hand.
struct Parent;

#[cfg_attr(feature = "async-trait", ractor::async_trait)]
impl Actor for Parent {
    type Msg = ();
    type State = Track;
    type Arguments = Track;

    async fn pre_start(
        &self,
        myself: ActorRef<()>,
        track: Track,
    ) -> Result<Track, ActorProcessingErr> {
        Actor::spawn_linked(None, Frail, track.clone(), myself.get_cell()).await?;
        Ok(track)
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<()>,
        event: SupervisionEvent,
        track: &mut Track,
    ) -> Result<(), ActorProcessingErr> {
        if let SupervisionEvent::ActorFailed(..) = event {
            Actor::spawn_linked(None, Frail, track.clone(), myself.get_cell()).await?;
        }
        Ok(())
    }
}

pub(crate) fn run(bars: &mut Vec<Bar>) {
    let failures = number("FAILURES", 2_000);
    let rounds = number("ROUNDS", 21);
    println!(
        "recovery: us from a failure to its replacement, median of {failures} in a row, {rounds} rounds"
    );
    for (label, runtime) in runtimes() {
        let (mut bares, mut oursies, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
        for round in 0..rounds + 2 {
            let bare = runtime.block_on(bare(failures));
            let ours = runtime.block_on(ours(failures));
            // The first rounds warm up.
            if round >= 2 {
                bares.push(bare);
                oursies.push(ours);
                ratios.push(ours / bare);
            }
        }
        println!("  {label:<15} bare  {}", spread(&mut bares));
        println!("  {label:<15} ours  {}", spread(&mut oursies));
        println!("  {label:<15} pairs {}", spread(&mut ratios));
        let ratio = median(&mut oursies) / median(&mut bares);
        bars.push(Bar::new(&format!("recovery {label}"), ratio, 2.0));
    }
}

async fn bare(failures: usize) -> f64 {
    let (up, mut ups) = mpsc::unbounded_channel();
    let track = Track {
        failed: Arc::default(),
        up,
    };
    let (parent, ended) = Actor::spawn(None, Parent, track)
        .await
        .expect("the parent starts");
    let middle = measure(failures, &mut ups).await;
    parent.stop(None);
    ended.await.expect("the parent ends");
    middle
}

async fn ours(failures: usize) -> f64 {
    let (up, mut ups) = mpsc::unbounded_channel();
    let track = Track {
        failed: Arc::default(),
        up,
    };
    // Each restart is a first one, hence immediate, and the window holds next to nothing.
    let backoff = Backoff::new(Duration::ZERO, Duration::ZERO).reset_after(Duration::ZERO);
    let child = ChildSpec::actor("frail", move |_| Ok((Frail, track.clone()))).backoff(backoff);
    let tree = SupervisorSpec::new(Strategy::OneForOne)
        .intensity(Intensity::new(u32::MAX, Duration::from_millis(1)))
        .child(child)
        .start()
        .await
        .expect("the tree starts");
    let middle = measure(failures, &mut ups).await;
    tree.shutdown(ShutdownPlan::default()).await;
    middle
}

/// Microseconds.
async fn measure(
    failures: usize,
    ups: &mut mpsc::UnboundedReceiver<(ActorRef<Fail>, Option<Duration>)>,
) -> f64 {
    let mut took = Vec::with_capacity(failures);
    for _ in 0..=failures {
        let (actor, since) = ups.recv().await.expect("a replacement");
        took.extend(since.map(|since| since.as_nanos() as f64 / 1000.0));
        actor.cast(Fail).expect("it is up");
    }
    median(&mut took)
}
