//! A supervisor that was killed does nothing more: what it would have done is the next one's.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mainstay_supervisors::{
    Backoff, ChildSpec, Intensity, Root, Shutdown, ShutdownPlan, Strategy, SupervisorSpec,
    TaskContext,
};

use crate::admin::id;
use crate::kit::{Events, Log, generous, puppet, started};

const MOMENT: Duration = Duration::from_millis(1);

/// What a sub-supervisor said of its children, and how often its task was begun.
#[derive(Clone, Default)]
struct Witness {
    said: Arc<Mutex<Vec<String>>>,
    begun: Arc<AtomicUsize>,
}

impl Witness {
    fn below(&self, strategy: Strategy) -> SupervisorSpec {
        let begun = self.begun.clone();
        let task = move |_: TaskContext| {
            begun.fetch_add(1, Ordering::SeqCst);
            std::future::pending::<Result<(), std::io::Error>>()
        };
        SupervisorSpec::new(strategy)
            .intensity(Intensity::new(u32::MAX, Duration::from_secs(60)))
            .child(puppet("a", &Log::default()))
            .child(ChildSpec::task("b", task))
            .child(puppet("c", &Log::default()))
    }

    async fn tree(&self, strategy: Strategy) -> (Root, Events) {
        let said = self.said.clone();
        let spec = generous(Strategy::OneForOne)
            .intensity(Intensity::new(u32::MAX, Duration::from_secs(60)))
            .observe(move |event| {
                let starts = matches!(
                    event.kind.name(),
                    "child.start" | "child.started" | "sup.ready"
                );
                if event.path.as_str() == "root/s" && !starts {
                    let child = event.child.as_ref().map(ToString::to_string);
                    let what = format!("{} {}", event.kind.name(), child.unwrap_or_default());
                    said.lock().unwrap().push(what);
                }
            })
            .child(
                ChildSpec::supervisor("s", self.below(strategy))
                    .shutdown(Shutdown::Kill)
                    .backoff(Backoff::new(MOMENT, MOMENT)),
            );
        started(spec).await
    }

    /// Kills it so many times, by itself and by request in turn.
    async fn rounds(&self, strategy: Strategy, rounds: usize) {
        let (tree, mut events) = self.tree(strategy).await;
        for round in 0..rounds {
            if round % 2 == 0 {
                let child = tree.which_child(&id("s")).await.unwrap();
                child.cell.unwrap().kill();
                events.restarted("s").await;
            } else {
                tree.terminate_child(&id("s")).await.unwrap();
                tree.restart_child(&id("s")).await.unwrap();
            }
            let said = std::mem::take(&mut *self.said.lock().unwrap());
            assert!(said.is_empty(), "{strategy:?}, round {round}: {said:?}");
        }
        // One that is killed at once may not have begun.
        let begun = self.begun.load(Ordering::SeqCst);
        assert!(begun <= rounds + 1, "{begun} in {rounds} rounds");
        tree.shutdown(ShutdownPlan::default()).await;
    }
}

const STRATEGIES: [Strategy; 3] = [
    Strategy::OneForOne,
    Strategy::OneForAll,
    Strategy::RestForOne,
];

/// RX-28: it neither tells of the ends of its children nor starts them again.
#[tokio::test(start_paused = true)]
async fn a_killed_supervisor_tells_nothing_and_starts_nobody() {
    for strategy in STRATEGIES {
        Witness::default().rounds(strategy, 50).await;
    }
}

/// RX-28, on a real clock and several threads.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_supervisor_starts_nobody_whoever_is_quicker() {
    let rounds = async {
        for strategy in STRATEGIES {
            Witness::default().rounds(strategy, 200).await;
        }
    };
    let rounds = tokio::time::timeout(Duration::from_secs(60), rounds).await;
    rounds.expect("every wait ends");
}
