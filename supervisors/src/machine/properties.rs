//! Properties of the machine against a simulated world that answers its actions in random ways.
//!
//! Invariants under test: one incarnation per child at a time, generations that grow, stops in
//! reverse order, starts in order, the intensity never exceeded, an end that leaves nobody behind.

use std::collections::BTreeMap;

use proptest::prelude::{
    Just, ProptestConfig, any, prop_assert, prop_assert_eq, prop_oneof, proptest,
};
use proptest::strategy::Strategy as Generator;

use super::{Action, ChildPlan, Input, Judged, Machine, Rules, StartRefusal};
use crate::backoff::Backoff;
use crate::event::SupervisorEventKind;
use crate::exit::ExitReason;
use crate::id::Generation;
use crate::policy::{AutoShutdown, Intensity, Strategy, Verdict};
use crate::policy::{ChildKind, Restart, Shutdown};
use crate::shutdown::Parting;
use std::sync::Arc;
use std::time::{Duration, Instant};

#[derive(Debug, Clone)]
enum Answer {
    /// To what the world is asked at present; the choice tells how.
    Pending(u8),
    /// A running child ends by itself.
    Crash(usize, u8),
    Pass(u16),
    /// An answer of an incarnation long gone.
    Stale(usize),
    Shutdown,
}

fn answers() -> impl Generator<Value = Answer> {
    prop_oneof![
        6 => any::<u8>().prop_map(Answer::Pending),
        3 => (0usize..5, any::<u8>()).prop_map(|(at, how)| Answer::Crash(at, how)),
        3 => (0u16..400).prop_map(Answer::Pass),
        1 => (0usize..5).prop_map(Answer::Stale),
    ]
}

fn plans() -> impl Generator<Value = Vec<(Restart, bool)>> {
    proptest::collection::vec(
        (
            prop_oneof![
                Just(Restart::Permanent),
                Just(Restart::Transient),
                Just(Restart::Temporary)
            ],
            any::<bool>(),
        ),
        0..5,
    )
}

fn strategies() -> impl Generator<Value = Strategy> {
    prop_oneof![
        Just(Strategy::OneForOne),
        Just(Strategy::OneForAll),
        Just(Strategy::RestForOne)
    ]
}

fn modes() -> impl Generator<Value = AutoShutdown> {
    prop_oneof![
        Just(AutoShutdown::Never),
        Just(AutoShutdown::AnySignificant),
        Just(AutoShutdown::AllSignificant)
    ]
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Life {
    Starting,
    Running,
    Stopping { was_up: bool },
}

struct World {
    machine: Machine,
    now: Instant,
    strategy: Strategy,
    intensity: Intensity,
    /// Position → (generation, life).
    live: BTreeMap<usize, (Generation, Life)>,
    generations: BTreeMap<usize, Generation>,
    counted: Vec<Instant>,
    exits: usize,
    ready: usize,
}

impl World {
    fn new(
        strategy: Strategy,
        intensity: Intensity,
        auto_shutdown: AutoShutdown,
        plans: &[(Restart, bool)],
    ) -> Self {
        let children = plans
            .iter()
            .enumerate()
            .map(|(at, (restart, significant))| ChildPlan {
                id: at.to_string().into(),
                kind: ChildKind::Worker,
                restart: *restart,
                significant: *significant && *restart != Restart::Permanent,
                shutdown: Shutdown::Infinite,
                backoff: Backoff::new(Duration::from_millis(10), Duration::from_millis(200)),
                last_generation: Generation(0),
            });
        let rules = Rules {
            strategy,
            intensity,
            auto_shutdown,
        };
        let mut world = Self {
            machine: Machine::new(rules, children),
            now: Instant::now(),
            strategy,
            intensity,
            live: BTreeMap::new(),
            generations: BTreeMap::new(),
            counted: Vec::new(),
            exits: 0,
            ready: 0,
        };
        world.step(Input::Boot);
        world
    }

    fn step(&mut self, input: Input) {
        let actions = self.machine.step(self.now, input);
        for action in actions {
            assert_eq!(self.exits, 0, "nothing comes after the exit");
            match action {
                Action::Start {
                    child, generation, ..
                } => {
                    let at: usize = child.as_str().parse().unwrap();
                    assert!(
                        !self.live.contains_key(&at),
                        "a predecessor of {at} is alive"
                    );
                    if self.strategy != Strategy::OneForOne {
                        let starting = self
                            .live
                            .values()
                            .filter(|(_, life)| *life == Life::Starting)
                            .count();
                        assert_eq!(starting, 0, "groups start one after the other");
                        assert!(
                            self.live.range(at..).next().is_none(),
                            "groups start in order"
                        );
                    }
                    let last = self.generations.insert(at, generation);
                    assert!(last.is_none_or(|last| last < generation));
                    self.live.insert(at, (generation, Life::Starting));
                }
                Action::Stop {
                    child, generation, ..
                } => {
                    let at: usize = child.as_str().parse().unwrap();
                    let last = self.live.last_key_value().map(|(at, _)| *at);
                    assert_eq!(last, Some(at), "stops go in reverse start order");
                    let (of, life) = self.live[&at];
                    assert_eq!(of, generation);
                    let was_up = !matches!(life, Life::Starting);
                    self.live.insert(at, (of, Life::Stopping { was_up }));
                }
                Action::Exit(_) => {
                    assert!(self.live.is_empty(), "nobody outlives the supervisor");
                    self.exits += 1;
                }
                Action::Ready => self.ready += 1,
                Action::Notice { kind, .. } => {
                    if let SupervisorEventKind::RestartPlanned { counted: true, .. } = kind {
                        self.counted.push(self.now);
                        let recent = self
                            .counted
                            .iter()
                            .filter(|at| self.now - **at <= self.intensity.within)
                            .count();
                        assert!(recent <= self.intensity.max_restarts as usize);
                    }
                }
                Action::Settle { .. } => {}
            }
        }
        assert!(self.ready <= 1);
    }

    fn exit(&mut self, at: usize, how: u8) {
        let Some((generation, _)) = self.live.remove(&at) else {
            return;
        };
        let reason = match how % 3 {
            0 => ExitReason::Stopped { reason: None },
            1 => ExitReason::Killed,
            _ => ExitReason::Cancelled,
        };
        let verdict = match how / 3 % 16 {
            0 => Verdict::DontRestart,
            1 => Verdict::Escalate,
            2 | 3 => Verdict::Uncounted {
                stable: how > 128,
                at_least: Duration::from_millis(30),
            },
            _ => Verdict::Default,
        };
        self.step(Input::Exited {
            child: at.to_string().into(),
            generation,
            reason: Arc::new(reason),
            parting: Parting::Graceful,
            judged: Judged {
                verdict,
                random: f64::from(how) / 255.0,
            },
        });
    }

    fn refuse(&mut self, at: usize, refusal: StartRefusal) {
        if let Some((generation, _)) = self.live.remove(&at) {
            self.step(Input::Refused {
                child: at.to_string().into(),
                generation,
                refusal,
            });
        }
    }

    fn pending(&mut self, how: u8) {
        let asked = self
            .live
            .iter()
            .find(|(_, (_, life))| *life != Life::Running)
            .map(|(at, (generation, life))| (*at, *generation, *life));
        let failed = StartRefusal::Failed {
            reason: Arc::new(ExitReason::Killed),
            judged: Judged {
                verdict: Verdict::Default,
                random: 0.5,
            },
        };
        match asked {
            None => self.tick(),
            Some((at, generation, Life::Starting)) => match how % 12 {
                0 => self.refuse(at, failed),
                1 => self.refuse(at, StartRefusal::Ignored),
                2 => self.refuse(at, StartRefusal::Postponed(Duration::from_millis(70))),
                _ => {
                    self.live.insert(at, (generation, Life::Running));
                    self.step(Input::Started {
                        child: at.to_string().into(),
                        generation,
                    });
                }
            },
            Some((at, _, Life::Stopping { was_up: true })) => self.exit(at, how),
            Some((at, _, Life::Stopping { was_up: false })) => self.refuse(at, failed),
            Some((_, _, Life::Running)) => {}
        }
    }

    /// Lets time pass to the machine's next deadline.
    fn tick(&mut self) {
        if let Some(due) = self.machine.next_timeout() {
            self.now = self.now.max(due);
            self.step(Input::Tick);
        }
    }

    fn answer(&mut self, answer: Answer) {
        match answer {
            Answer::Pending(how) => self.pending(how),
            Answer::Crash(at, how) => {
                if matches!(self.live.get(&at), Some((_, Life::Running))) {
                    self.exit(at, how);
                }
            }
            Answer::Pass(millis) => {
                self.now += Duration::from_millis(millis.into());
                self.step(Input::Tick);
            }
            Answer::Stale(at) => self.stale(at),
            Answer::Shutdown => self.step(Input::Shutdown { deadline: None }),
        }
    }

    fn stale(&mut self, at: usize) {
        let Some(generation) = self.generations.get(&at).filter(|last| last.0 > 1) else {
            return;
        };
        let before = format!("{:?}", self.machine);
        let actions = self.machine.step(
            self.now,
            Input::Exited {
                child: at.to_string().into(),
                generation: Generation(generation.0 - 1),
                reason: Arc::new(ExitReason::Killed),
                parting: Parting::Graceful,
                judged: Judged {
                    verdict: Verdict::Escalate,
                    random: 0.0,
                },
            },
        );
        if self.machine.next_timeout().is_none_or(|due| due > self.now) && actions.is_empty() {
            assert_eq!(before, format!("{:?}", self.machine));
        }
        for action in actions {
            assert!(
                !matches!(action, Action::Exit(_)),
                "a ghost ended the supervisor"
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn whatever_happens_the_tree_stays_in_order_and_can_be_ended(
        strategy in strategies(),
        mode in modes(),
        max in 0u32..5,
        plans in plans(),
        story in proptest::collection::vec(answers(), 0..120),
    ) {
        let intensity = Intensity::new(max, Duration::from_millis(300));
        let mut world = World::new(strategy, intensity, mode, &plans);
        for answer in story {
            world.answer(answer);
        }
        world.answer(Answer::Shutdown);
        for _ in 0..20 {
            world.pending(255);
        }
        prop_assert!(world.machine.has_ended());
        prop_assert_eq!(world.exits, 1);
        prop_assert!(world.live.is_empty());
        prop_assert_eq!(world.machine.next_timeout(), None);
    }

    /// Without faults everybody comes up, and a group that lost one is whole again.
    #[test]
    fn a_permanent_group_is_whole_again_after_a_crash(
        strategy in strategies(),
        size in 1usize..5,
        crashed in 0usize..5,
    ) {
        let plans = vec![(Restart::Permanent, false); size];
        let intensity = Intensity::new(3, Duration::from_secs(1));
        let mut world = World::new(strategy, intensity, AutoShutdown::Never, &plans);
        for _ in 0..size {
            world.pending(255);
        }
        prop_assert_eq!(world.ready, 1);
        let crashed = crashed % size;
        world.exit(crashed, 13);
        for _ in 0..3 * size {
            world.pending(255);
        }
        let from = match strategy {
            Strategy::OneForOne | Strategy::RestForOne => crashed,
            Strategy::OneForAll => 0,
        };
        for (at, (generation, life)) in &world.live {
            prop_assert_eq!(*life, Life::Running);
            let renewed = match strategy {
                Strategy::OneForOne => *at == crashed,
                Strategy::OneForAll | Strategy::RestForOne => *at >= from,
            };
            prop_assert_eq!(generation.0, if renewed { 2 } else { 1 });
        }
        prop_assert_eq!(world.live.len(), size);
    }
}
