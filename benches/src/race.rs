//! Contenders that do the same job in turn, and bars for what they come to.

use std::pin::Pin;

use tokio::runtime::Runtime;

/// The figures of one run, as many as the race has columns.
type Figures = Vec<f64>;
type Job = Box<dyn Fn() -> Pin<Box<dyn Future<Output = Figures> + Send>> + Send>;

/// Contenders for one job. The first is the baseline of the printed ratios.
pub struct Race {
    title: String,
    columns: &'static [&'static str],
    contenders: Vec<(String, Job)>,
}

impl Race {
    /// A race whose contenders tell one figure for each of `columns`.
    #[must_use]
    pub fn new(title: impl Into<String>, columns: &'static [&'static str]) -> Self {
        Self {
            title: title.into(),
            columns,
            contenders: Vec::new(),
        }
    }

    /// One more contender; `job` is called once a round.
    #[must_use]
    pub fn with<F>(mut self, name: impl Into<String>, job: impl Fn() -> F + Send + 'static) -> Self
    where
        F: Future<Output = Figures> + Send + 'static,
    {
        self.contenders
            .push((name.into(), Box::new(move || Box::pin(job()))));
        self
    }

    /// One round to warm up, which is not counted, and `rounds` rounds, each of which begins with another
    /// contender. A job runs as a program's own task, not on the thread that started the runtime: that one
    /// would be a third on two cores.
    #[must_use]
    pub fn run(self, runtime: &Runtime, rounds: usize) -> Outcome {
        let Self {
            title,
            columns,
            contenders,
        } = self;
        let count = contenders.len();
        let once = |index: usize| -> Figures {
            let job = (contenders[index].1)();
            runtime
                .block_on(async { tokio::spawn(job).await })
                .unwrap_or_else(|error| panic!("{}: {error}", contenders[index].0))
        };
        for index in 0..count {
            once(index);
        }
        let mut figures = vec![vec![Vec::new(); columns.len()]; count];
        for round in 0..rounds {
            for step in 0..count {
                let index = (round + step) % count;
                let run = once(index);
                for (column, figure) in run.into_iter().enumerate() {
                    figures[index][column].push(figure);
                }
            }
        }
        let names = contenders.into_iter().map(|(name, _)| name).collect();
        let outcome = Outcome {
            columns,
            names,
            figures,
        };
        outcome.show(&title, rounds);
        outcome
    }
}

/// What the rounds of a race came to.
pub struct Outcome {
    columns: &'static [&'static str],
    names: Vec<String>,
    /// By contender, column and round.
    figures: Vec<Vec<Vec<f64>>>,
}

impl Outcome {
    /// The ratios of `name` to `baseline`, round by round, sorted.
    fn ratios(&self, name: &str, baseline: &str, column: usize) -> Option<Vec<f64>> {
        let (name, baseline) = (self.index(name)?, self.index(baseline)?);
        let pairs = self.figures[name][column]
            .iter()
            .zip(&self.figures[baseline][column]);
        Some(sorted(pairs.map(|(ours, theirs)| ours / theirs)))
    }

    /// The median of the ratios of `name` to `baseline`, round by round.
    #[must_use]
    pub fn ratio(&self, name: &str, baseline: &str, column: usize) -> Option<f64> {
        self.ratios(name, baseline, column)
            .map(|ratios| median(&ratios))
    }

    fn index(&self, name: &str) -> Option<usize> {
        self.names.iter().position(|known| known == name)
    }

    fn show(&self, title: &str, rounds: usize) {
        println!("\n{title}; {rounds} rounds, medians (lowest to highest)");
        for (contender, name) in self.names.iter().enumerate() {
            print!("  {name:<34}");
            for (column, label) in self.columns.iter().enumerate() {
                let figures = sorted(self.figures[contender][column].iter().copied());
                print!("  {:>12} {label}", pretty(median(&figures)));
                let ratios = self.ratios(name, &self.names[0], column);
                // There is none over nothing.
                let ratios = ratios.filter(|all| all.iter().all(|one| one.is_finite()));
                if let Some(ratios) = ratios {
                    let (low, high) = (ratios[0], ratios[ratios.len() - 1]);
                    print!("  {:>6.3} ({low:.3} to {high:.3})", median(&ratios));
                }
            }
            println!();
        }
    }

    /// The median of how much more `name` has than `baseline`, round by round.
    #[must_use]
    pub fn more(&self, name: &str, baseline: &str, column: usize) -> Option<f64> {
        let (name, baseline) = (self.index(name)?, self.index(baseline)?);
        let pairs = self.figures[name][column]
            .iter()
            .zip(&self.figures[baseline][column]);
        Some(median(&sorted(pairs.map(|(ours, theirs)| ours - theirs))))
    }

    /// Holds the ratio of `name` to `baseline` against a lower bound; silent if one of them did not run.
    pub fn at_least(&self, bar: &str, name: &str, baseline: &str, column: usize, bound: f64) {
        if let Some(ratios) = self.ratios(name, baseline, column) {
            spread(name, baseline, &ratios);
            at_least(bar, median(&ratios), bound);
        }
    }

    /// Holds the ratio of `name` to `baseline` against an upper bound; silent if one of them did not run.
    pub fn at_most(&self, bar: &str, name: &str, baseline: &str, column: usize, bound: f64) {
        if let Some(ratios) = self.ratios(name, baseline, column) {
            spread(name, baseline, &ratios);
            at_most(bar, median(&ratios), bound);
        }
    }
}

/// What the median of a bar stands between.
fn spread(name: &str, baseline: &str, sorted: &[f64]) {
    if let [low, .., high] = sorted {
        println!("{name} to {baseline}: {low:.3} to {high:.3}");
    }
}

/// One machine-readable line: `value` must not be below `bound`.
pub fn at_least(bar: &str, value: f64, bound: f64) {
    tell(bar, value, bound, value >= bound);
}

/// One machine-readable line: `value` must not be above `bound`. Whether it is so.
pub fn at_most(bar: &str, value: f64, bound: f64) -> bool {
    tell(bar, value, bound, value <= bound);
    value <= bound
}

fn tell(bar: &str, value: f64, bound: f64, holds: bool) {
    let verdict = if holds { "ok" } else { "short" };
    println!("ratio {bar} {value:.3} bar {bound} {verdict}");
}

/// The middle one of sorted values.
#[must_use]
pub fn median(sorted: &[f64]) -> f64 {
    sorted[sorted.len() / 2]
}

/// Sorted, smallest first.
#[must_use]
pub fn sorted(values: impl IntoIterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    values
}

fn pretty(value: f64) -> String {
    if value < 1000.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.0}")
    }
}

/// The values below which such shares of `values` lie.
#[must_use]
pub fn quantiles(values: Vec<f64>, shares: &[f64]) -> Vec<f64> {
    let values = sorted(values);
    let last = values.len().saturating_sub(1);
    let at = |share: &f64| values[((last as f64) * share).round() as usize];
    shares.iter().map(at).collect()
}
