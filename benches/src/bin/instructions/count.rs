//! Counting: this program, run under callgrind.
//!
//! Apart from the jobs because those know nothing of being counted.
//!
//! Invariants: only the runtime's thread counts, not those of the other side; instructions that fill or move memory do not,
//! since they are counted by the byte, and how many bytes a read has room for and brings is the machine's mood.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use mainstay_benches::race;

use crate::jobs::Job;

/// Of an odd number there is a middle one.
const ROUNDS: usize = 3;

/// The instructions that one message, or one request, more costs.
pub(crate) fn cost(job: Job, contender: &str) -> f64 {
    let (few, many) = job.counts();
    let rounds = (0..ROUNDS).map(|_| {
        let (less, more) = (count(job, contender, few), count(job, contender, many));
        (more as f64 - less as f64) / (many - few) as f64
    });
    race::median(&race::sorted(rounds))
}

/// The instructions of the runtime's thread in a whole run.
fn count(job: Job, contender: &str, much: usize) -> u64 {
    let this = std::env::current_exe().expect("a path to this program");
    let profile = this.with_extension(format!("callgrind.{}.{contender}.{much}", job.name()));
    // What an earlier run has left would be counted, too.
    for old in profiles(&profile) {
        let _ = std::fs::remove_file(old);
    }
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--separate-threads=yes"])
        .arg(format!("--callgrind-out-file={}", profile.display()))
        .arg(this)
        .args([job.name(), contender, &much.to_string()])
        .output()
        .expect("valgrind");
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{contender}: {told}");
    let mut counted = 0;
    for thread in profiles(&profile) {
        let text = std::fs::read_to_string(&thread).expect("a profile");
        if text.contains("tokio::runtime::") {
            counted = counted.max(own(&text));
        }
        let _ = std::fs::remove_file(thread);
    }
    assert!(counted > 0, "no profile of a runtime");
    counted
}

/// The profile's file, and those that begin with its name: one for each thread.
fn profiles(profile: &Path) -> Vec<PathBuf> {
    let name = profile.file_name().and_then(|name| name.to_str());
    let folder = profile.parent().and_then(|folder| folder.read_dir().ok());
    let (Some(name), Some(folder)) = (name, folder) else {
        return Vec::new();
    };
    folder
        .flatten()
        .filter(|file| file.file_name().to_string_lossy().starts_with(name))
        .map(|file| file.path())
        .collect()
}

/// The sum of all functions' own instructions in a profile ("Callgrind Format Specification" in valgrind's manual), but
/// for memset's and memmove's.
fn own(profile: &str) -> u64 {
    let mut by_the_byte = HashSet::new();
    let (mut counts, mut callee, mut sum) = (true, false, 0);
    for line in profile.lines() {
        if let Some((key, name)) = line.split_once("fn=") {
            // A function has its name where it is mentioned first.
            let (id, name) = name.split_once(' ').unwrap_or((name, ""));
            if name.contains("memset") || name.contains("memcpy") || name.contains("memmove") {
                by_the_byte.insert(id);
            }
            if key.is_empty() {
                counts = !by_the_byte.contains(id);
            }
        } else if line.starts_with("calls=") {
            // The next line tells what was called took, which is told with that function itself.
            callee = true;
        } else if line.starts_with(|first: char| matches!(first, '+' | '-' | '*' | '0'..='9')) {
            let cost = line
                .rsplit(' ')
                .next()
                .and_then(|cost| cost.parse::<u64>().ok());
            if counts && !std::mem::take(&mut callee) {
                sum += cost.unwrap_or_default();
            }
            callee = false;
        }
    }
    sum
}
