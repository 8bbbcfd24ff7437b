//! The simulated world: starts, ends, refuses and asks as it is told, and watches every action.
//!
//! Apart from the properties, which only tell stories.
//!
//! Invariants: it answers exactly what the machine asked for, in any order it likes.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::backoff::Backoff;
use crate::event::SupervisorEventKind;
use crate::exit::ExitReason;
use crate::id::{ChildId, Generation};
use crate::machine::{
    Action, Answer, ChildPlan, Denied, Input, Judged, Machine, Outcome, Population, Request, Rules,
    StartDenied, StartRefusal, Ticket,
};
use crate::policy::{ChildKind, OnExhausted, Restart, Shutdown, Strategy, Verdict};
use crate::shutdown::Parting;

#[derive(Debug, Clone)]
pub(super) enum Turn {
    /// To what the world is asked at present; the choice tells how.
    Pending(u8),
    /// A running child ends by itself.
    Crash(usize, u8),
    Pass(u16),
    /// An answer of an incarnation long gone.
    Stale(usize),
    /// Somebody wants something of the child with this id.
    Call(Call, usize),
    Shutdown,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Call {
    /// The number chooses the restart type.
    Start(u8),
    Terminate,
    Restart,
    Delete,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Life {
    Starting,
    Running,
    Stopping { was_up: bool },
}

pub(super) struct World {
    pub(super) machine: Machine,
    now: Instant,
    rules: Rules,
    /// Position → (generation, life). Positions are given out in the order of admission.
    pub(super) live: BTreeMap<usize, (Generation, Life)>,
    generations: BTreeMap<usize, Generation>,
    /// The id at each position.
    ids: Vec<ChildId>,
    /// The present position of each id that is known.
    places: HashMap<ChildId, usize>,
    tickets: u64,
    pub(super) callers: BTreeMap<Ticket, (Call, ChildId)>,
    /// Terminated by request; must not come back by itself.
    down: BTreeSet<usize>,
    /// Started by request, or postponed: not part of a sequence.
    loose: BTreeSet<usize>,
    /// Temporary ones that were up: they cannot be made again.
    spent: BTreeSet<usize>,
    ending: bool,
    counted: Vec<Instant>,
    pub(super) exits: usize,
    pub(super) ready: usize,
}

impl World {
    pub(super) fn new(rules: Rules, plans: &[(Restart, bool)]) -> Self {
        let children = plans
            .iter()
            .enumerate()
            .map(|(at, (restart, significant))| ChildPlan {
                significant: *significant && *restart != Restart::Permanent,
                ..plan(at.to_string().into(), *restart)
            });
        let mut world = Self {
            machine: Machine::new(rules, children),
            now: Instant::now(),
            rules,
            live: BTreeMap::new(),
            generations: BTreeMap::new(),
            ids: (0..plans.len()).map(|at| at.to_string().into()).collect(),
            places: (0..plans.len())
                .map(|at| (at.to_string().into(), at))
                .collect(),
            tickets: 0,
            callers: BTreeMap::new(),
            down: BTreeSet::new(),
            loose: BTreeSet::new(),
            spent: BTreeSet::new(),
            ending: false,
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
            let reply = matches!(action, Action::Reply(..));
            assert!(self.exits == 0 || reply, "nothing comes after the exit");
            match action {
                Action::Start {
                    child, generation, ..
                } => {
                    let at = self.places[&child];
                    assert!(!self.down.contains(&at), "{child} was terminated");
                    assert!(!self.spent.contains(&at), "{child} was up once");
                    assert!(
                        !self.live.contains_key(&at),
                        "a predecessor of {at} is alive"
                    );
                    let loose = self.loose.contains(&at);
                    if self.rules.strategy != Strategy::OneForOne && !loose {
                        let starting = self
                            .live
                            .iter()
                            .filter(|(at, (_, life))| {
                                *life == Life::Starting && !self.loose.contains(at)
                            })
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
                    let at = self.places[&child];
                    let wanted = self
                        .callers
                        .values()
                        .any(|(call, id)| *call == Call::Terminate && *id == child);
                    let last = self.live.last_key_value().map(|(at, _)| *at);
                    assert!(
                        last == Some(at) || wanted || self.limit().is_some(),
                        "stops go in reverse start order"
                    );
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
                Action::Notice {
                    child: Some(child),
                    kind: SupervisorEventKind::ChildParked { .. },
                    ..
                } => {
                    assert_eq!(self.rules.on_exhausted, OnExhausted::Park);
                    let at = self.places[&child];
                    match self.rules.strategy {
                        Strategy::OneForOne => {
                            self.down.insert(at);
                        }
                        Strategy::OneForAll => self.down.extend(0..self.ids.len()),
                        Strategy::RestForOne => self.down.extend(at..self.ids.len()),
                    }
                }
                Action::Notice {
                    child: Some(child),
                    kind:
                        SupervisorEventKind::ChildStarted { .. }
                        | SupervisorEventKind::ChildRestarted { .. },
                    ..
                } => {
                    let view = self.machine.view_of(self.now, &child);
                    if view.is_some_and(|view| view.plan.restart == Restart::Temporary) {
                        self.spent.insert(self.places[&child]);
                    }
                }
                Action::Notice { kind, .. } => {
                    if let SupervisorEventKind::RestartPlanned { group, .. } = &kind {
                        for id in group {
                            self.down.remove(&self.places[id]);
                        }
                    }
                    if let SupervisorEventKind::RestartPlanned { counted: true, .. } = kind {
                        self.counted.push(self.now);
                        let recent = self
                            .counted
                            .iter()
                            .filter(|at| self.now - **at <= self.rules.intensity.within)
                            .count();
                        assert!(recent <= self.rules.intensity.max_restarts as usize);
                    }
                }
                Action::Settle { .. } => {}
                Action::Admit(child) => {
                    let at = self.ids.len();
                    self.ids.push(child.clone());
                    self.loose.insert(at);
                    assert_eq!(self.places.insert(child, at), None, "an id is in use once");
                }
                Action::Forget(child) => {
                    let at = self.places.remove(&child).expect("it was known");
                    assert!(!self.live.contains_key(&at), "{child} is forgotten alive");
                }
                Action::Reply(ticket, answer) => self.reply(ticket, answer),
            }
        }
        assert!(self.ready <= 1);
        let counts = self.machine.counts();
        assert_eq!(counts.specs, self.places.len());
        assert_eq!(counts.specs, counts.workers);
        let active = self
            .live
            .values()
            .filter(|(_, life)| !matches!(life, Life::Starting))
            .count();
        // A start that was told to stop counts as active, as it may be.
        assert_eq!(counts.active, active);
        assert!(self.limit().is_none_or(|limit| counts.specs <= limit));
    }

    /// How many children there may be; of no limit for listed ones.
    fn limit(&self) -> Option<usize> {
        match self.rules.population {
            Population::Fixed => None,
            Population::Dynamic { max_children } => Some(max_children.unwrap_or(usize::MAX)),
        }
    }

    fn reply(&mut self, ticket: Ticket, answer: Answer) {
        let (call, id) = self.callers.remove(&ticket).expect("one answer each");
        let at = self.places.get(&id).copied();
        let life = at.and_then(|at| self.live.get(&at)).map(|(_, life)| *life);
        match (call, answer) {
            (Call::Start(_), Answer::Start(Ok((_, outcome))))
            | (Call::Restart, Answer::Restart(Ok((_, outcome)))) => match outcome {
                Outcome::Up(generation) => {
                    assert_eq!(life, Some(Life::Running));
                    assert_eq!(at.map(|at| self.live[&at].0), Some(generation));
                }
                Outcome::Ignored | Outcome::Postponed(_) => assert_eq!(life, None),
            },
            (Call::Start(_), Answer::Start(Err(StartDenied::Failed(_))))
            | (Call::Restart, Answer::Restart(Err(Denied::Failed(_)))) => {
                assert_eq!(life, None);
            }
            (Call::Terminate, Answer::Terminate(Ok(()))) => {
                assert_eq!(life, None, "{id} was terminated");
                if let Some(at) = at {
                    self.down.insert(at);
                }
            }
            (Call::Delete, Answer::Delete(Ok(()))) => assert_eq!(life, None),
            (Call::Terminate, Answer::Terminate(Err(Denied::NotFound)))
            | (Call::Restart, Answer::Restart(Err(Denied::NotFound)))
            | (Call::Delete, Answer::Delete(Err(Denied::NotFound))) => {
                assert_eq!(at, None);
            }
            (Call::Restart, Answer::Restart(Err(_)))
            | (Call::Start(_), Answer::Start(Err(_)))
            | (Call::Terminate, Answer::Terminate(Err(_)))
            | (Call::Delete, Answer::Delete(Err(_))) => {}
            (call, answer) => panic!("{call:?} was answered by {answer:?}"),
        }
    }

    fn call(&mut self, call: Call, id: ChildId) {
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        self.callers.insert(ticket, (call, id.clone()));
        let request = match call {
            Call::Start(how) => {
                let restart = match how {
                    0 => Restart::Permanent,
                    1 => Restart::Transient,
                    _ => Restart::Temporary,
                };
                Request::Start(plan(id, restart))
            }
            Call::Terminate => Request::Terminate(id),
            Call::Restart => {
                if let Some(at) = self.places.get(&id) {
                    self.down.remove(at);
                    // Denied when it runs.
                    if !self.live.contains_key(at) {
                        self.loose.insert(*at);
                    }
                }
                Request::Restart(id)
            }
            Call::Delete => Request::Delete(id),
        };
        let ending = self.ending;
        self.step(Input::Request(ticket, request));
        let started = matches!(call, Call::Start(_) | Call::Restart);
        assert!(!(ending && started && self.callers.contains_key(&ticket)));
    }

    pub(super) fn exit(&mut self, at: usize, how: u8) {
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
            child: self.ids[at].clone(),
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
                child: self.ids[at].clone(),
                generation,
                refusal,
            });
        }
    }

    pub(super) fn pending(&mut self, how: u8) {
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
                2 => {
                    self.loose.insert(at);
                    self.refuse(at, StartRefusal::Postponed(Duration::from_millis(70)));
                }
                _ => {
                    self.loose.remove(&at);
                    self.live.insert(at, (generation, Life::Running));
                    self.step(Input::Started {
                        child: self.ids[at].clone(),
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

    pub(super) fn take(&mut self, turn: Turn) {
        match turn {
            Turn::Pending(how) => self.pending(how),
            Turn::Crash(at, how) => {
                if matches!(self.live.get(&at), Some((_, Life::Running))) {
                    self.exit(at, how);
                }
            }
            Turn::Pass(millis) => {
                self.now += Duration::from_millis(millis.into());
                self.step(Input::Tick);
            }
            Turn::Stale(at) => self.stale(at),
            Turn::Call(call, id) => self.call(call, id.to_string().into()),
            Turn::Shutdown => {
                self.ending = true;
                self.step(Input::Shutdown { deadline: None });
            }
        }
    }

    fn stale(&mut self, at: usize) {
        let Some(generation) = self.generations.get(&at).filter(|last| last.0 > 1) else {
            return;
        };
        if self.places.get(&self.ids[at]) != Some(&at) {
            return;
        }
        let before = format!("{:?}", self.machine);
        let actions = self.machine.step(
            self.now,
            Input::Exited {
                child: self.ids[at].clone(),
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

fn plan(id: ChildId, restart: Restart) -> ChildPlan {
    ChildPlan {
        id,
        kind: ChildKind::Worker,
        restart,
        significant: false,
        shutdown: Shutdown::Infinite,
        backoff: Backoff::new(Duration::from_millis(10), Duration::from_millis(200)),
        last_generation: Generation(0),
    }
}
