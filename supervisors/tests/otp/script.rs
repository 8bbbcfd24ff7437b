//! Scripts: what is done to a supervisor, made from a seed.
//!
//! Invariants: a script is the same for the same seed; ids of supervisors are `s` and `t`, all
//! others are workers; whatever is stubborn has a limit.

use std::collections::BTreeSet;

use fastrand::Rng;

/// Ids of workers.
const WORKERS: [&str; 6] = ["a", "b", "c", "d", "e", "f"];
/// Ids of supervisors.
const SUPERVISORS: [&str; 2] = ["s", "t"];
/// How long a stubborn child may take; its end costs this.
const SHORT: u64 = 20;
/// The strategy of dynamic supervisors.
pub(crate) const SIMPLE: &str = "simple_one_for_one";
/// How long others may take, so long that they never need it.
const LONG: u64 = 30_000;

pub(crate) type Path = Vec<&'static str>;

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Script {
    pub(crate) seed: u64,
    pub(crate) flags: Flags,
    pub(crate) children: Vec<Child>,
    pub(crate) steps: Vec<Step>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Flags {
    pub(crate) strategy: &'static str,
    pub(crate) intensity: u32,
    pub(crate) auto_shutdown: &'static str,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Child {
    pub(crate) id: &'static str,
    pub(crate) restart: &'static str,
    pub(crate) significant: bool,
    pub(crate) shutdown: Limit,
    pub(crate) kind: Kind,
    pub(crate) manner: Manner,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Limit {
    Kill,
    Millis(u64),
    Infinite,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Kind {
    Worker,
    Supervisor(Flags, Vec<Child>),
}

/// What a worker does when it is told to stop.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Manner {
    /// It stops.
    Polite,
    /// It takes no notice.
    Stubborn,
    /// It ends with an error.
    Failing,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Step {
    /// What comes of the next starts of a child; all later ones are well.
    Plan(Path, Vec<Outcome>),
    Boot,
    /// So much later that no restart counts any longer.
    Advance,
    /// A child ends by itself.
    Ends(Path, End),
    /// Workers end before the supervisor looks.
    Together(Vec<(&'static str, End)>),
    On(Path, Call),
    /// Whether children make sense under an `auto_shutdown`; asks nobody.
    Check(&'static str, Vec<Child>),
    Stop,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum End {
    Normal,
    Shutdown,
    /// OTP's `{shutdown, Term}`, a stop with a text.
    Done,
    Error,
    Crash,
    Killed,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Outcome {
    Ok,
    Fail,
    /// It fails, and before the next attempt somebody calls.
    FailThen(Call),
    /// It fails, and before the next attempt another worker ends by itself.
    FailWhile(&'static str, End),
    Ignore,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Call {
    Start(Child),
    Terminate(&'static str),
    Restart(&'static str),
    Delete(&'static str),
    Spec(&'static str),
}

impl Script {
    pub(crate) fn from_seed(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let rng = &mut rng;
        let flags = flags(rng);
        let mut ids = some_ids(rng, 5);
        if rng.u8(..8) == 0 && !ids.is_empty() {
            let at = rng.usize(..ids.len());
            ids[at] = one(rng, &SUPERVISORS);
        }
        let children: Vec<Child> = ids.iter().map(|id| child(rng, flags, id, true)).collect();
        let mut steps = Vec::new();
        if rng.u8(..6) == 0 {
            steps.push(plan(rng, flags, &children));
        }
        steps.push(Step::Boot);
        let mut advances = 0;
        for _ in 0..rng.usize(3..14) {
            let step = step(rng, flags, &children);
            if step == Step::Advance {
                advances += 1;
            }
            if step != Step::Advance || advances <= 2 {
                steps.push(step);
            }
        }
        steps.push(Step::Stop);
        Self {
            seed,
            flags,
            children,
            steps,
        }
    }

    /// Whether it is for a dynamic supervisor, whose one child is a template.
    pub(crate) fn is_simple(&self) -> bool {
        self.flags.strategy == SIMPLE
    }

    /// The term that the driver reads; `number` names it in the answer.
    pub(crate) fn term(&self, number: usize) -> String {
        let numbered = Self {
            seed: number as u64,
            ..self.clone()
        };
        format!("{numbered}.\n")
    }

    /// The same with one thing less, in every way there is.
    pub(crate) fn smaller(&self) -> Vec<Self> {
        let mut found = Vec::new();
        for at in 0..self.steps.len() {
            if self.steps[at] != Step::Boot {
                let mut less = self.clone();
                less.steps.remove(at);
                found.push(less);
            }
            if let Step::Plan(_, outcomes) = &self.steps[at] {
                for gone in 0..outcomes.len() {
                    let mut less = self.clone();
                    if let Step::Plan(_, outcomes) = &mut less.steps[at] {
                        outcomes.remove(gone);
                        found.push(less);
                    }
                }
            }
        }
        if self.is_simple() {
            return found;
        }
        for at in 0..self.children.len() {
            let mut less = self.clone();
            less.children.remove(at);
            found.push(less);
            let mut plain = self.clone();
            let child = &mut plain.children[at];
            child.significant = false;
            child.manner = Manner::Polite;
            if child.kind == Kind::Worker {
                child.shutdown = Limit::Infinite;
            }
            if plain != *self {
                found.push(plain);
            }
            let mut permanent = self.clone();
            permanent.children[at].restart = "permanent";
            permanent.children[at].significant = false;
            if permanent != *self {
                found.push(permanent);
            }
        }
        let mut flat = self.clone();
        flat.flags.strategy = "one_for_one";
        if flat != *self {
            found.push(flat);
        }
        found
    }
}

pub(crate) fn one<T: Copy>(rng: &mut Rng, from: &[T]) -> T {
    from[rng.usize(..from.len())]
}

fn some_ids(rng: &mut Rng, most: usize) -> Vec<&'static str> {
    let mut ids = WORKERS.to_vec();
    rng.shuffle(&mut ids);
    ids.truncate(rng.usize(..=most));
    ids.sort_unstable();
    ids
}

fn flags(rng: &mut Rng) -> Flags {
    Flags {
        strategy: one(rng, &["one_for_one", "one_for_all", "rest_for_one"]),
        intensity: rng.u32(..5),
        auto_shutdown: one(
            rng,
            &["never", "never", "any_significant", "all_significant"],
        ),
    }
}

pub(crate) fn child(rng: &mut Rng, within: Flags, id: &'static str, valid: bool) -> Child {
    let restart = one(
        rng,
        &[
            "permanent",
            "permanent",
            "transient",
            "transient",
            "temporary",
        ],
    );
    let allowed = restart != "permanent" && within.auto_shutdown != "never";
    let significant = if allowed {
        rng.u8(..2) == 0
    } else {
        !valid && rng.u8(..4) == 0
    };
    if SUPERVISORS.contains(&id) {
        let flags = flags(rng);
        let children = some_ids(rng, 2);
        let children: Vec<Child> = children
            .iter()
            .map(|id| child(rng, flags, id, true))
            .collect();
        return Child {
            id,
            restart,
            significant,
            shutdown: one(
                rng,
                &[
                    Limit::Infinite,
                    Limit::Infinite,
                    Limit::Millis(LONG),
                    Limit::Kill,
                ],
            ),
            kind: Kind::Supervisor(flags, children),
            manner: Manner::Polite,
        };
    }
    let manner = one(
        rng,
        &[
            Manner::Polite,
            Manner::Polite,
            Manner::Polite,
            Manner::Stubborn,
            Manner::Failing,
        ],
    );
    let limit = match manner {
        Manner::Stubborn => Limit::Millis(SHORT),
        Manner::Polite | Manner::Failing => one(rng, &[Limit::Millis(LONG), Limit::Infinite]),
    };
    let shutdown = if rng.u8(..5) == 0 { Limit::Kill } else { limit };
    Child {
        id,
        restart,
        significant,
        shutdown,
        kind: Kind::Worker,
        manner,
    }
}

/// Mostly an id that there is.
fn some_id(rng: &mut Rng, children: &[Child]) -> &'static str {
    if children.is_empty() || rng.u8(..6) == 0 {
        one(rng, &WORKERS)
    } else {
        children[rng.usize(..children.len())].id
    }
}

/// Mostly the path of a worker.
fn some_path(rng: &mut Rng, children: &[Child]) -> Path {
    let id = some_id(rng, children);
    let below = children.iter().find_map(|child| match &child.kind {
        Kind::Supervisor(_, below) if child.id == id => Some(below),
        Kind::Supervisor(..) | Kind::Worker => None,
    });
    match below {
        Some(below) if !below.is_empty() && rng.u8(..4) != 0 => {
            vec![id, below[rng.usize(..below.len())].id]
        }
        Some(_) | None => vec![id],
    }
}

pub(crate) fn end(rng: &mut Rng, path: &[&'static str]) -> End {
    match path.last() {
        Some(id) if SUPERVISORS.contains(id) => one(rng, &[End::Shutdown, End::Killed]),
        _ => one(
            rng,
            &[
                End::Normal,
                End::Shutdown,
                End::Done,
                End::Error,
                End::Error,
                End::Crash,
                End::Killed,
            ],
        ),
    }
}

fn plan(rng: &mut Rng, within: Flags, children: &[Child]) -> Step {
    let mut path = some_path(rng, children);
    if SUPERVISORS.contains(path.last().unwrap_or(&"")) {
        // What comes of a supervisor's start is its children's matter.
        path = vec![one(rng, &WORKERS)];
    }
    let outcomes = (0..rng.usize(1..4)).map(|_| match rng.u8(..8) {
        0 => Outcome::Ok,
        1 | 2 => Outcome::Ignore,
        3 if path.len() == 1 && within.strategy == "one_for_one" => {
            Outcome::FailThen(call(rng, within, children))
        }
        4 if path.len() == 1 && within.strategy == "one_for_one" => {
            let other = some_id(rng, children);
            let end = end(rng, &[other]);
            Outcome::FailWhile(other, end)
        }
        3 | 4 if path.len() == 1 => Outcome::FailThen(call_in_a_group(rng, within, path[0])),
        _ => Outcome::Fail,
    });
    let outcomes = outcomes.collect();
    Step::Plan(path, outcomes)
}

fn call(rng: &mut Rng, within: Flags, children: &[Child]) -> Call {
    let id = some_id(rng, children);
    match rng.u8(..9) {
        0..=2 => {
            let id = match rng.u8(..12) {
                0 => one(rng, &SUPERVISORS),
                1..=4 => id,
                _ => one(rng, &WORKERS),
            };
            Call::Start(child(rng, within, id, false))
        }
        3 | 4 => Call::Terminate(id),
        5 | 6 => Call::Restart(id),
        7 => Call::Delete(id),
        _ => Call::Spec(id),
    }
}

/// A list of children in which an id may stand twice, and a child be significant that cannot be.
pub(crate) fn check(rng: &mut Rng) -> Step {
    let flags = flags(rng);
    let children = (0..rng.usize(..5)).map(|_| {
        let id = match rng.u8(..8) {
            0 => one(rng, &SUPERVISORS),
            _ => one(rng, &WORKERS),
        };
        child(rng, flags, id, false)
    });
    let children = children.collect();
    Step::Check(flags.auto_shutdown, children)
}

/// While a group restarts we let everybody wait for their turn and OTP does not: only what is about
/// the failed child itself is the same.
fn call_in_a_group(rng: &mut Rng, within: Flags, failed: &'static str) -> Call {
    match rng.u8(..4) {
        0 => Call::Start(child(rng, within, failed, false)),
        1 => Call::Restart(failed),
        2 => Call::Delete(failed),
        _ => Call::Spec(failed),
    }
}

fn step(rng: &mut Rng, flags: Flags, children: &[Child]) -> Step {
    match rng.u8(..21) {
        0..=6 => {
            let path = some_path(rng, children);
            let end = end(rng, &path);
            Step::Ends(path, end)
        }
        7 => {
            let ids: BTreeSet<_> = (0..3).map(|_| some_id(rng, children)).collect();
            let mut ids: Vec<_> = ids.into_iter().collect();
            rng.shuffle(&mut ids);
            let ids = ids.into_iter().filter(|id| !SUPERVISORS.contains(id));
            // Of one kind: how soon an end is known depends on it.
            let end = end(rng, &[]);
            Step::Together(ids.map(|id| (id, end)).collect())
        }
        8..=10 => plan(rng, flags, children),
        11 => Step::Advance,
        20 => check(rng),
        _ => {
            let inner = children.iter().find_map(|child| match &child.kind {
                Kind::Supervisor(flags, below) => Some((child.id, *flags, below)),
                Kind::Worker => None,
            });
            match inner {
                Some((id, flags, below)) if rng.u8(..4) == 0 => {
                    Step::On(vec![id], call(rng, flags, below))
                }
                Some(_) | None => Step::On(Vec::new(), call(rng, flags, children)),
            }
        }
    }
}
