//! Scripts for `simple_one_for_one`: what is done to a dynamic supervisor, made from a seed.
//!
//! Apart from the others because its children come by request alone, all by one template, and have no ids; here
//! each is told apart by the name that it is started with.
//!
//! Invariants: no name is given twice; what OTP has no answer to, or we have no call for, is left out: see the
//! table "OTP and us".

use fastrand::Rng;

use crate::script::{
    Call, Child, Flags, Kind, Outcome, Path, SIMPLE, Script, Step, check, child, end, one,
};

const NAMES: [&str; 14] = [
    "a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n",
];

impl Script {
    /// One for a dynamic supervisor.
    pub(crate) fn simple_from_seed(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let rng = &mut rng;
        let flags = Flags {
            strategy: SIMPLE,
            intensity: rng.u32(..5),
            auto_shutdown: "never",
        };
        let kind = if rng.u8(..6) == 0 { "s" } else { "x" };
        let template = child(rng, flags, kind, true);
        let mut steps = vec![Step::Boot];
        let mut crowd = Crowd {
            template: &template,
            names: &NAMES,
            known: Vec::new(),
        };
        let mut advances = 0;
        for _ in 0..rng.usize(6..20) {
            let step = crowd.step(rng, &mut steps);
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
            children: vec![template],
            steps,
        }
    }
}

struct Crowd<'a> {
    template: &'a Child,
    /// Not given yet.
    names: &'static [&'static str],
    known: Vec<&'static str>,
}

impl Crowd<'_> {
    fn step(&mut self, rng: &mut Rng, steps: &mut Vec<Step>) -> Step {
        let choice = rng.u8(..21);
        let (Some(id), 6..) = (self.somebody(rng), choice) else {
            return self.start(rng, steps);
        };
        match choice {
            6..=10 => {
                let path = self.somewhere(rng, id);
                // How a supervisor can end is told by its id, which is the template's.
                let end = match path.as_slice() {
                    [_] => end(rng, &[self.template.id]),
                    _ => end(rng, &path),
                };
                Step::Ends(path, end)
            }
            11 if self.has_workers() => {
                let mut ids: Vec<_> = (0..3).filter_map(|_| self.somebody(rng)).collect();
                ids.sort_unstable();
                ids.dedup();
                rng.shuffle(&mut ids);
                // Of one kind: how soon an end is known depends on it.
                let end = end(rng, &[]);
                Step::Together(ids.into_iter().map(|id| (id, end)).collect())
            }
            12..=14 if self.has_workers() => {
                let outcomes = (0..rng.usize(1..4))
                    .map(|_| self.restart(rng, id))
                    .collect();
                Step::Plan(vec![id], outcomes)
            }
            15 | 16 => Step::On(Vec::new(), Call::Terminate(id)),
            17 => Step::On(Vec::new(), Call::Spec(id)),
            18 => Step::Advance,
            19 => check(rng),
            _ => self.start(rng, steps),
        }
    }

    /// A start by request, and perhaps before it what comes of that and of the restarts that follow.
    fn start(&mut self, rng: &mut Rng, steps: &mut Vec<Step>) -> Step {
        let Some(child) = self.next() else {
            return check(rng);
        };
        let id = child.id;
        if self.has_workers() && rng.u8(..4) == 0 {
            let first = one(rng, &[0, 0, 1, 2]);
            let mut outcomes = vec![match first {
                0 => Outcome::Ok,
                1 => Outcome::Fail,
                _ => Outcome::Ignore,
            }];
            outcomes.extend((0..rng.usize(..3)).map(|_| self.restart(rng, id)));
            steps.push(Step::Plan(vec![id], outcomes));
        }
        self.known.push(id);
        Step::On(Vec::new(), Call::Start(child))
    }

    fn next(&mut self) -> Option<Child> {
        let (id, left) = self.names.split_first()?;
        self.names = left;
        Some(Child {
            id,
            ..self.template.clone()
        })
    }

    /// What comes of a restart. None is ignored: OTP keeps such a child as a process that is none.
    fn restart(&mut self, rng: &mut Rng, id: &'static str) -> Outcome {
        match rng.u8(..8) {
            0 | 1 => Outcome::Ok,
            2 => match (rng.u8(..3), self.next()) {
                (0, Some(child)) => {
                    self.known.push(child.id);
                    Outcome::FailThen(Call::Start(child))
                }
                (1, _) => Outcome::FailThen(Call::Spec(id)),
                _ => Outcome::FailThen(Call::Terminate(id)),
            },
            3 => {
                let other = self.somebody(rng).unwrap_or(id);
                let end = end(rng, &[other]);
                Outcome::FailWhile(other, end)
            }
            _ => Outcome::Fail,
        }
    }

    fn has_workers(&self) -> bool {
        self.template.kind == Kind::Worker
    }

    fn somebody(&self, rng: &mut Rng) -> Option<&'static str> {
        (!self.known.is_empty()).then(|| one(rng, &self.known))
    }

    fn somewhere(&self, rng: &mut Rng, id: &'static str) -> Path {
        match &self.template.kind {
            Kind::Supervisor(_, below) if !below.is_empty() && rng.u8(..4) != 0 => {
                vec![id, below[rng.usize(..below.len())].id]
            }
            Kind::Supervisor(..) | Kind::Worker => vec![id],
        }
    }
}
