//! Callers, outsiders and children that fail, all at once and on several workers, on a real clock.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mainstay_supervisors::{
    Backoff, ChildSpec, Intensity, Restart, Shutdown, ShutdownPlan, Strategy, SupervisorRef,
    SupervisorSpec,
};
use ractor::{Actor, ActorProcessingErr, ActorRef};

use crate::admin::id;

const CALLERS: usize = 6;
const CALLS: usize = 2_000;
const IDS: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

#[derive(Clone, Default)]
struct Register(Arc<Mutex<Book>>);

#[derive(Clone, Default)]
struct Book {
    living: HashMap<String, usize>,
    /// What should not have been.
    wrong: Vec<String>,
}

/// A state that is entered in the register as long as it is there.
struct Entry(Register, String);

impl Entry {
    fn new(register: &Register, name: String) -> Self {
        let mut book = register.0.lock().unwrap();
        let living = book.living.entry(name.clone()).or_default();
        *living += 1;
        if *living > 1 {
            book.wrong.push(format!("there are two of {name}"));
        }
        drop(book);
        Self(register.clone(), name)
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let mut book = self.0.0.lock().unwrap();
        if let Some(living) = book.living.get_mut(&self.1) {
            *living -= 1;
        }
    }
}

/// An actor that starts and stops well, most of the time.
struct Moody;

enum Poke {
    Fail,
    Stop,
    Sleep,
}
mainstay_supervisors::message!(Poke);

#[cfg_attr(feature = "async-trait", ractor::async_trait)]
impl Actor for Moody {
    type Msg = Poke;
    type State = Entry;
    type Arguments = (Register, String);

    async fn pre_start(
        &self,
        _: ActorRef<Poke>,
        (register, name): (Register, String),
    ) -> Result<Entry, ActorProcessingErr> {
        match fastrand::u8(..16) {
            0 => return Err("it does not start".into()),
            1 => tokio::time::sleep(Duration::from_millis(2)).await,
            _ => {}
        }
        Ok(Entry::new(&register, name))
    }

    async fn handle(
        &self,
        myself: ActorRef<Poke>,
        poke: Poke,
        _: &mut Entry,
    ) -> Result<(), ActorProcessingErr> {
        match poke {
            Poke::Fail => return Err("it was told to fail".into()),
            Poke::Stop => myself.stop(None),
            Poke::Sleep => tokio::time::sleep(Duration::from_millis(3)).await,
        }
        Ok(())
    }

    async fn post_stop(&self, _: ActorRef<Poke>, _: &mut Entry) -> Result<(), ActorProcessingErr> {
        match fastrand::u8(..32) {
            0 => Err("it does not stop well".into()),
            _ => Ok(()),
        }
    }
}

fn moody(register: &Register, name: &str) -> ChildSpec {
    let (register, named) = (register.clone(), name.to_owned());
    let millis = Duration::from_millis;
    let limits = [
        Shutdown::Kill,
        Shutdown::Timeout(millis(20)),
        Shutdown::Infinite,
        Shutdown::Drain(millis(20)),
    ];
    let restarts = [Restart::Permanent, Restart::Transient, Restart::Temporary];
    ChildSpec::actor(name, move |_| {
        Ok((Moody, (register.clone(), named.clone())))
    })
    .backoff(Backoff::new(millis(1), millis(3)))
    .shutdown(limits[fastrand::usize(..limits.len())])
    .restart(restarts[fastrand::usize(..restarts.len())])
}

/// One thing that somebody may do. What it comes to depends on what the others do.
async fn meddle(tree: &SupervisorRef, register: &Register) {
    let name = IDS[fastrand::usize(..IDS.len())];
    let child = id(name);
    match fastrand::u8(..10) {
        0 => drop(tree.start_child(moody(register, name)).await),
        1 => drop(tree.terminate_child(&child).await),
        2 => drop(tree.restart_child(&child).await),
        3 => drop(tree.delete_child(&child).await),
        4 => drop(tree.which_children().await),
        doing => {
            let address = tree.address::<Poke>(&child).await.ok();
            if let Some(actor) = address.and_then(|address| address.current()) {
                match doing {
                    5 => drop(actor.cast(Poke::Fail)),
                    6 => drop(actor.cast(Poke::Stop)),
                    7 => drop(actor.cast(Poke::Sleep)),
                    8 => actor.kill(),
                    _ => drop(actor.drain()),
                }
            }
        }
    }
}

/// On a real clock: everybody is answered, nobody is there twice, and nobody is left.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn whatever_everybody_does_at_once_everybody_is_answered() {
    let many = Intensity::new(u32::MAX, Duration::from_secs(1));
    for strategy in [
        Strategy::OneForOne,
        Strategy::OneForAll,
        Strategy::RestForOne,
    ] {
        let register = Register::default();
        let spec = SupervisorSpec::new(strategy).intensity(many);
        let tree = spec.start().await.unwrap();
        let callers: Vec<_> = (0..CALLERS)
            .map(|_| {
                let (tree, register) = ((*tree).clone(), register.clone());
                tokio::spawn(async move {
                    for _ in 0..CALLS {
                        meddle(&tree, &register).await;
                    }
                })
            })
            .collect();
        for caller in callers {
            let answered = tokio::time::timeout(Duration::from_secs(60), caller).await;
            answered.expect("everybody is answered").unwrap();
        }
        let counts = tree.count_children().await.unwrap();
        assert_eq!(counts.specs, counts.workers);
        let report = tree.shutdown(ShutdownPlan::default()).await;
        assert!(report.abandoned.is_empty(), "{report:?}");
        let book = register.0.lock().unwrap().clone();
        assert_eq!(book.wrong, Vec::<String>::new());
        assert!(
            book.living.values().all(|living| *living == 0),
            "{:?}",
            book.living
        );
    }
}
