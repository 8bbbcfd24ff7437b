//! What the benchmarks share: runtimes, contenders that take turns, bars, and the other side of the socket.
//!
//! Every figure is a ratio against a named baseline that was measured in the same process, in turn with it.
//! Absolute figures move with the machine; ratios move less, and their spread over the rounds is printed beside
//! them. `docs/performance.md` says how to run and read them.

#![allow(clippy::print_stdout, reason = "programs that show something")]

pub mod bare;
pub mod collector;
pub mod crowd;
pub mod load;
pub mod pacer;
pub mod race;
pub mod responder;
pub mod sender;
pub mod session;
pub mod setting;
pub mod tls;

/// A size from the environment, or the default.
///
/// # Panics
///
/// If it is no number: what was not asked for must not look like what was.
#[must_use]
pub fn number(name: &str, default: usize) -> usize {
    let Ok(text) = std::env::var(name) else {
        return default;
    };
    let number = text.replace('_', "").parse();
    number.unwrap_or_else(|_| panic!("{name}={text} is no number: give one such as {default}"))
}

/// How many rounds, `ROUNDS` in the environment; an odd number has a middle.
#[must_use]
pub fn rounds(default: usize) -> usize {
    let rounds = number("ROUNDS", default).max(1);
    if rounds < 5 {
        println!("of {rounds} rounds the median says little: take five and more");
    }
    rounds
}

/// The parts of a benchmark that are asked for: `PARTS` in the environment is a list of them, default all.
#[derive(Debug)]
pub struct Parts(Vec<String>);

impl Parts {
    /// Those of `known` that are asked for.
    ///
    /// # Panics
    ///
    /// If another is asked for: a benchmark that measures nothing must not look like one that went well.
    #[must_use]
    pub fn asked(known: &[&str]) -> Self {
        let all = || known.join(",");
        let asked = std::env::var("PARTS").unwrap_or_else(|_| all());
        let asked: Vec<String> = asked
            .split(',')
            .map(|part| part.trim().to_owned())
            .collect();
        for part in &asked {
            assert!(
                known.contains(&part.as_str()),
                "PARTS has {part:?}, which is no part: give some of {}",
                all()
            );
        }
        Self(asked)
    }

    /// Whether this one is.
    #[must_use]
    pub fn has(&self, part: &str) -> bool {
        self.0.iter().any(|asked| asked == part)
    }
}
