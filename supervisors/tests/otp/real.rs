//! Runs scripts on OTP's supervisor, all of them in one Erlang node.
//!
//! Invariants: the node is killed when it takes too long; what it writes lies in cargo's directory.

use std::fs;
use std::path::PathBuf;
use std::process::{self, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::script::Script;

/// How long the node may take for one batch.
const LIMIT: Duration = Duration::from_secs(120);

/// A compiled driver for OTP's supervisor.
pub(crate) struct Otp {
    directory: PathBuf,
    batches: AtomicU32,
}

impl Otp {
    /// Compiles the driver.
    ///
    /// # Errors
    /// Says what is missing where there is no Erlang.
    pub(crate) fn find() -> Result<Self, String> {
        for program in ["erl", "erlc"] {
            let mut looked_for = Command::new(program);
            looked_for.arg("-version").stdin(Stdio::null());
            looked_for.stdout(Stdio::null()).stderr(Stdio::null());
            if let Err(error) = looked_for.status() {
                return Err(format!("{program} cannot be called ({error})"));
            }
        }
        let source = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/otp/oracle.erl");
        static FOUND: AtomicU32 = AtomicU32::new(0);
        let own = FOUND.fetch_add(1, Ordering::SeqCst);
        let directory =
            PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("otp-{}-{own}", process::id()));
        fs::create_dir_all(&directory).expect("cargo's directory can be written");
        let compiled = Command::new("erlc")
            .args(["-Werror", "-o"])
            .args([&directory, &source])
            .output()
            .expect("erlc can be called");
        let said = String::from_utf8_lossy(&compiled.stdout);
        assert!(
            compiled.status.success(),
            "the driver does not compile: {said}"
        );
        Ok(Self {
            directory,
            batches: AtomicU32::new(0),
        })
    }

    /// What happened in each, a line per step; nothing where it took too long to be compared.
    pub(crate) fn run(&self, scripts: &[&Script]) -> Vec<Option<Vec<String>>> {
        let batch = self.batches.fetch_add(1, Ordering::SeqCst);
        let file = |what: &str| self.directory.join(format!("{what}-{batch}"));
        let (input, output) = (file("scripts"), file("traces"));
        let mut terms = String::new();
        for (at, script) in scripts.iter().enumerate() {
            terms += &script.term(at);
        }
        fs::write(&input, terms).expect("the scripts can be written");
        let mut node = Command::new("erl")
            .args([
                "-noshell",
                "-noinput",
                "-kernel",
                "logger_level",
                "none",
                "-pa",
            ])
            .arg(&self.directory)
            .args(["-s", "oracle", "main"])
            .args([&input, &output])
            .env("ERL_CRASH_DUMP_SECONDS", "0")
            .stdin(Stdio::null())
            .spawn()
            .expect("erl can be called");
        let began = Instant::now();
        let status = loop {
            if let Some(status) = node.try_wait().expect("the node can be waited for") {
                break status;
            }
            if began.elapsed() > LIMIT {
                // It may have ended just now.
                let _ = node.kill();
                let _ = node.wait();
                panic!(
                    "the Erlang node did not end within {LIMIT:?}, see {}",
                    input.display()
                );
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        assert!(
            status.success(),
            "the Erlang node failed, see {}",
            input.display()
        );
        let traces = fs::read_to_string(&output).expect("the node has written its traces");
        let mut found = vec![None; scripts.len()];
        for trace in traces.split_terminator("end\n") {
            let mut lines = trace.lines().map(str::to_owned);
            let number = lines
                .next()
                .and_then(|head| head.strip_prefix("script ")?.parse().ok());
            let number: usize = number.expect("a trace begins with the number of its script");
            let lines: Vec<String> = lines.collect();
            if !lines.last().is_some_and(|last| last.ends_with("late")) {
                found[number] = Some(lines);
            }
        }
        found
    }
}

impl Drop for Otp {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // What cannot be removed goes with the target directory.
            let _ = fs::remove_dir_all(&self.directory);
        }
    }
}
