//! Our supervisor against the one of Erlang/OTP, by random scripts.
//!
//! A script is a supervisor's flags, its children, and what is done to them: ends of every kind,
//! starts that fail or are ignored, calls at rest and calls between two attempts to restart, ends
//! that come together, time that passes, lists of children that are checked and may make no sense. Those for
//! `simple_one_for_one` (`otp/simple.rs`) have one template in place of children, and are run on a dynamic
//! supervisor on our side (`otp/dynamic.rs`). Each script is run on OTP's `supervisor` (`otp/oracle.erl`)
//! and on ours (`otp/ours.rs`); after each step both write down which children were started and
//! ended, in which order and how, what was answered, what `which_children` and `count_children`
//! say, and whether the supervisor lives. The lines must be the same to the letter, except for what
//! follows.
//!
//! # OTP and us
//!
//! As found on OTP 25. *Left out* means that no script does it, *told apart* that the comparison
//! knows the difference by its cause and accepts nothing else for it.
//!
//! | When | OTP | We | In the comparison |
//! |---|---|---|---|
//! | a restart fails to start | is tried again at once; that attempt is booked when it is made | is booked when it fails and tried again after the backoff, a millisecond at least; when that was one too many we end at once | told apart: up to that failure everything is the same |
//! | such a child is terminated before the next attempt | the attempt was never booked | it stays booked | the clock is advanced |
//! | `start_child` with the id of a child that waits for its next attempt | `already_present` | `AlreadyStarted`: it is about to run, so there is nothing to restart or delete | told apart |
//! | a start takes its time while an end is on its way that ends the supervisor | the supervisor waits, then stops the child | the start is cancelled | told apart: how those end that were up |
//! | a start, or an end that was asked for, takes its time while other children are to be restarted | the supervisor waits and does nothing else | it goes on with the others | under one_for_one the order is compared for each child, in steps with several ends or with a call between two attempts |
//! | a call between two attempts to restart a group, about a child that waits for its turn | the child counts as down: it can be deleted, or started out of turn | it counts as restarting | left out |
//! | `start_child` then | starts it at once, to be stopped by the next attempt under one_for_all | it is started last, in its turn | left out |
//! | `terminate_child` then, of a child that waits for its turn | the group starts it all the same | it stays down | left out |
//! | `terminate_child` then, of the child that failed | those after it are not started at all | those after it are started | left out |
//! | a group has been started in part | those already up stay so until the next attempt | they are stopped at once | such calls about them are left out |
//! | under rest_for_one a later child ends, then an earlier one, before the supervisor looks | two restarts of what they have in common | one restart of everything from the earlier one on; both count | left out: the earlier one ends first |
//! | a supervisor is killed | what is beneath it dies by its links, unordered and unawaited; sub-supervisors may still see it | what is beneath it dies with it and is waited for; nobody is left to report it | told apart: the ends of children of its sub-supervisors |
//! | children end together in different ways | they are seen in the order in which they ended | an end is seen once nothing of the child is left, which takes longer after a kill | left out: they end alike |
//! | a restart was long ago | the window has a grain of a second | it is exact | time stands still or passes by more than window and grain |
//! | a supervisor's own start | its `init` may fail or ignore | the closure of `ChildSpec::supervisor_with` may, that of a root has none | left out; see `tree/made.rs` |
//! | a dynamic child that has ended is terminated, or its spec asked for | `ok` and the template, as of any dead process | `NotFound` | told apart |
//! | a dynamic child ignores its restart | it is kept as a process `undefined`, counted as active, that nobody can name | it is forgotten, as one that ignores its start | left out |
//! | children of a dynamic supervisor are counted | there is one spec; one that is terminated while it restarts is missing from the active ones for ever, which can be -1 | each child has its own spec; as many are active as run | theirs are counted by `which_children` |
//! | `which_children` of a dynamic supervisor | pids, in no order | keys, newest first | by name |
//! | `restart_child`, `delete_child` of a dynamic supervisor | `simple_one_for_one` | a `DynamicRef` has no such call, a `SupervisorRef` refuses: nobody is listed who does not run or restart | left out; see `tree/dynamic.rs` |
//! | a dynamic supervisor has an `auto_shutdown` | is taken | is refused, as in Elixir | left out |
//! | `which_child` | not in OTP 25 | as in later ones | left out |
//! | a child ends with `{shutdown, Term}` | as with `shutdown` | a stop with a text | same class, as are all errors and panics |
//!
//! Everything else is the same, among it what is easily got wrong: a group restart revives finished
//! transient and terminated children in its range and forgets temporary ones; exactly as many
//! restarts as the intensity are made; failed attempts count; what is left ends in reverse order; two
//! ends that are queued cost one restart of a group and two of single children; a killed transient
//! child is restarted; a significant child that is restarting is active, and one that is terminated
//! or ends as a bystander of a group does not end its supervisor.
//!
//! # To run it
//!
//! Needs `erl` and `erlc` (Debian's `erlang-base`); without them it says so and passes.
//! `OTP_SEED` (the first seed), `OTP_SCRIPTS` and `OTP_SIMPLE` (how many of either kind; each has the next seed), `OTP_SHOW` (how
//! many differences are printed) and `OTP_SHRINK` (for how many seconds each is made smaller) in the
//! environment override the defaults. A difference is printed with its seed.
//!
//! Invariants: nothing on our side waits for real; OTP's real waits overlap, as all scripts run at
//! once; a script whose steps took OTP so long that its window may have moved is not compared but
//! tried again.

// Clippy knows tests by their attribute, not the helpers between them.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

#[path = "otp/compare.rs"]
mod compare;
#[path = "otp/dynamic.rs"]
mod dynamic;
#[path = "otp/ours.rs"]
mod ours;
#[path = "otp/real.rs"]
mod real;
#[path = "otp/script.rs"]
mod script;
#[path = "otp/simple.rs"]
mod simple;
#[path = "otp/term.rs"]
mod term;
#[path = "otp/world.rs"]
mod world;

use std::env;
use std::io::{self, Write};
use std::time::{Duration, Instant};

use real::Otp;
use script::Script;

/// How often a script is tried that took too long to be compared.
const TRIES: usize = 10;

/// The conformance cases that it covers in many variations: OTP-START-03, OTP-START-05, OTP-START-09,
/// OTP-START-10, OTP-STOP-01, OTP-STOP-02, OTP-STOP-04, OTP-STOP-08, OTP-TYPE-01, OTP-TYPE-02, OTP-TYPE-03,
/// OTP-TYPE-04, OTP-TYPE-05, OTP-TYPE-06, OTP-TYPE-07, OTP-TYPE-08, OTP-TYPE-09, OTP-STRAT-02, OTP-STRAT-03,
/// OTP-STRAT-04, OTP-STRAT-05, OTP-STRAT-06, OTP-STRAT-07, OTP-STRAT-08, OTP-SIG-01, OTP-SIG-02, OTP-SIG-03,
/// OTP-SIG-04, OTP-ADM-07, OTP-COUNT-01, OTP-COUNT-02, OTP-TMP-02, and section 6.
#[test]
fn our_supervisor_does_what_otp_does() {
    run(number("OTP_SCRIPTS", 500), Script::from_seed);
}

/// OTP-START-06, OTP-START-12, OTP-STOP-03, OTP-STOP-05, OTP-STRAT-10, OTP-STRAT-15, OTP-ADM-08, OTP-COUNT-01, OTP-COUNT-02.
#[test]
fn our_dynamic_supervisor_does_what_simple_one_for_one_does() {
    run(number("OTP_SIMPLE", 250), Script::simple_from_seed);
}

fn run(count: u64, make: fn(u64) -> Script) {
    let otp = match Otp::find() {
        Ok(otp) => otp,
        Err(missing) => {
            say(&format!(
                "SKIPPED, nothing was compared with OTP: {missing}"
            ));
            return;
        }
    };
    world::expect_crashes();
    let seed = number("OTP_SEED", 20_250_101);
    let scripts: Vec<Script> = (seed..seed + count).map(make).collect();
    let (differences, compared) = compare(&otp, &scripts);
    let differ = differences.len();
    println!("{compared} of {count} scripts compared, {differ} differ");
    let show = usize::try_from(number("OTP_SHOW", 3)).unwrap_or(usize::MAX);
    let limit = Duration::from_secs(number("OTP_SHRINK", 30));
    for difference in differences.into_iter().take(show) {
        shrink(&otp, difference, Instant::now() + limit).print();
    }
    assert_eq!(differ, 0, "scripts from seed {seed} on differ");
    assert_eq!(
        compared,
        scripts.len(),
        "OTP was too slow for the others, {TRIES} times"
    );
}

/// Says it even when the test passes.
fn say(what: &str) {
    // Not by macro, since that is captured. Where nobody reads it nobody needs to.
    let _ = writeln!(io::stderr(), "{what}");
}

fn number(name: &str, default: u64) -> u64 {
    match env::var(name) {
        Ok(text) => text
            .parse()
            .unwrap_or_else(|_| panic!("{name} must be a number and is {text}")),
        Err(_) => default,
    }
}

/// A script whose traces are not the same.
struct Difference {
    script: Script,
    otp: Vec<String>,
    ours: Vec<String>,
    at: usize,
}

impl Difference {
    fn print(&self) {
        println!("made from seed {}, perhaps smaller:", self.script.seed);
        println!("{}", self.script);
        for at in 0..=self.at {
            let line = |lines: &[String]| lines.get(at).cloned().unwrap_or_default();
            let (otp, ours) = (line(&self.otp), line(&self.ours));
            if otp == ours {
                println!("  both {otp}");
            } else {
                println!("  OTP  {otp}\n  ours {ours}");
            }
        }
        println!();
    }
}

/// Those that differ, and how many could be compared.
fn compare(otp: &Otp, scripts: &[Script]) -> (Vec<Difference>, usize) {
    let mut differences = Vec::new();
    let mut left: Vec<&Script> = scripts.iter().collect();
    for _ in 0..TRIES {
        if left.is_empty() {
            break;
        }
        let traces = otp.run(&left);
        let mut late = Vec::new();
        for (script, trace) in left.into_iter().zip(traces) {
            let Some(otp) = trace else {
                late.push(script);
                continue;
            };
            let ours = ours::run(script);
            if let Some(at) = compare::differs(script, &otp, &ours) {
                differences.push(Difference {
                    script: script.clone(),
                    otp,
                    ours,
                    at,
                });
            }
        }
        left = late;
    }
    (differences, scripts.len() - left.len())
}

/// Takes away from a script what it does not need to differ.
fn shrink(otp: &Otp, mut difference: Difference, until: Instant) -> Difference {
    while Instant::now() < until {
        let (mut found, _) = compare(otp, &difference.script.smaller());
        if found.is_empty() {
            break;
        }
        difference = found.swap_remove(0);
    }
    difference
}
