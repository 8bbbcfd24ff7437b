//! What is measured, held against its bar: one line for each, for people and for programs.
//!
//! `ratio <name> <figure> bar <limit> ok|short`. A figure that is above its bar is short of it, which may be
//! the machine's fault and ends nothing; one that is no measurement at all is `BROKEN`, and ends the program as
//! a failure.

use std::process::ExitCode;

/// A figure that must not be above its bar.
pub(crate) struct Bar {
    /// One word.
    pub(crate) name: String,
    pub(crate) figure: f64,
    pub(crate) limit: f64,
}

impl Bar {
    /// By a name of which one word is made.
    pub(crate) fn new(name: &str, figure: f64, limit: f64) -> Self {
        Self {
            name: name.replace(' ', "_"),
            figure,
            limit,
        }
    }

    fn is_broken(&self) -> bool {
        // Below zero is a difference that is in our favour.
        !self.figure.is_finite() || self.figure == 0.0
    }
}

/// Prints them all. Nothing measured is broken too.
pub(crate) fn tell(bars: &[Bar]) -> ExitCode {
    for bar in bars {
        let verdict = if bar.is_broken() {
            "BROKEN"
        } else if bar.figure <= bar.limit {
            "ok"
        } else {
            "short"
        };
        let Bar {
            name,
            figure,
            limit,
        } = bar;
        println!("ratio {name} {figure:.3} bar {limit} {verdict}");
    }
    if bars.is_empty() || bars.iter().any(Bar::is_broken) {
        println!("BROKEN: something was not measured");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
