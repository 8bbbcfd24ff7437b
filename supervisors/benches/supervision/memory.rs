//! What an idle child takes: as a bare actor linked to its parent, and as a supervised one.
//!
//! The resident size before and after, in a process of its own for each figure, since what was freed
//! before would be used again.

use std::time::Duration;

use mainstay_supervisors::{ChildSpec, Strategy, SupervisorSpec};
use ractor::{Actor, ActorProcessingErr, ActorRef, SupervisionEvent};

use crate::{Bar, ask, median, number, spread};

const PAGE: usize = 4096;

struct Idle;

#[cfg_attr(feature = "async-trait", ractor::async_trait)]
impl Actor for Idle {
    type Msg = ();
    type State = u64;
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<()>, (): ()) -> Result<u64, ActorProcessingErr> {
        Ok(0)
    }

    async fn handle(
        &self,
        _: ActorRef<()>,
        (): (),
        state: &mut u64,
    ) -> Result<(), ActorProcessingErr> {
        *state += 1;
        Ok(())
    }
}

/// Keeps its children linked, and nothing else.
struct Parent;

#[cfg_attr(feature = "async-trait", ractor::async_trait)]
impl Actor for Parent {
    type Msg = ();
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<()>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        _: ActorRef<()>,
        _: SupervisionEvent,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        Ok(())
    }
}

pub(crate) fn run(bars: &mut Vec<Bar>) {
    let children = number("CHILDREN", 50_000);
    let rounds = number("ROUNDS", 21).min(5);
    println!("memory: bytes a child of {children} idle ones, {rounds} rounds");
    let contenders = ["bare", "in the spec", "added"];
    let mut figures = contenders.map(|_| Vec::new());
    for _ in 0..rounds {
        for (contender, figures) in contenders.iter().zip(&mut figures) {
            let answer = ask("memory", contender);
            figures.push(answer.trim().parse().expect("a number"));
        }
    }
    for (contender, figures) in contenders.iter().zip(&mut figures) {
        println!("  {contender:<15} {}", spread(figures));
    }
    let bare = median(&mut figures[0]);
    for (contender, figures) in contenders.iter().zip(&mut figures).skip(1) {
        let more = median(figures) - bare;
        bars.push(Bar::new(&format!("memory {contender} bytes"), more, 1500.0));
    }
}

/// In the fresh process.
pub(crate) fn contend(contender: &str) {
    let children = number("CHILDREN", 50_000);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let grown = match contender {
            "bare" => bare(children).await,
            "in the spec" => in_the_spec(children).await,
            _ => added(children).await,
        };
        println!("{}", grown as f64 / children as f64);
        // Nothing is left to be measured, and to end them all would take its time.
        std::process::exit(0);
    });
}

async fn bare(children: usize) -> usize {
    let (parent, _ended) = Actor::spawn(None, Parent, ()).await.expect("it starts");
    // So that what the first one needs for all is there.
    Actor::spawn_linked(None, Idle, (), parent.get_cell())
        .await
        .expect("it starts");
    settle().await;
    let before = resident();
    for _ in 0..children {
        Actor::spawn_linked(None, Idle, (), parent.get_cell())
            .await
            .expect("it starts");
    }
    settle().await;
    resident() - before
}

async fn in_the_spec(children: usize) -> usize {
    let first = SupervisorSpec::new(Strategy::OneForOne)
        .child(child(0))
        .start()
        .await
        .expect("the tree starts");
    settle().await;
    let before = resident();
    let tree = SupervisorSpec::new(Strategy::OneForOne)
        .children((0..children).map(child))
        .start()
        .await
        .expect("the tree starts");
    settle().await;
    let grown = resident() - before;
    std::mem::forget((first, tree));
    grown
}

async fn added(children: usize) -> usize {
    let tree = SupervisorSpec::new(Strategy::OneForOne)
        .child(child(0))
        .start()
        .await
        .expect("the tree starts");
    settle().await;
    let before = resident();
    for number in 1..=children {
        tree.start_child(child(number)).await.expect("it starts");
    }
    settle().await;
    let grown = resident() - before;
    std::mem::forget(tree);
    grown
}

fn child(number: usize) -> ChildSpec {
    ChildSpec::actor(number.to_string(), |_| Ok((Idle, ())))
}

/// Until the actors have come to rest.
async fn settle() {
    tokio::time::sleep(Duration::from_millis(200)).await;
}

/// Bytes of this process in memory.
fn resident() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").expect("Linux");
    let pages = text.split_whitespace().nth(1).expect("a second number");
    pages.parse::<usize>().expect("a number") * PAGE
}
