//! Signals, all on a real clock, since other processes share no paused one: the test binary runs itself as a program, sends it signals and looks at
//! what it prints and returns.
//!
//! The first test is that program; which one is told by an environment variable. Nothing is slept
//! for: the program prints each thing that happens, and the next signal follows upon a line.

use std::fmt::Debug;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use mainstay_supervisors::signals::{self, InstallError, Outcome, Signals};
use mainstay_supervisors::{
    Address, AutoShutdown, ChildSpec, Intensity, Restart, Shutdown, ShutdownPlan, Strategy,
    SupervisorSpec,
};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tracing::field::{Field, Visit};

const SCENARIO: &str = "SIGNALS_TEST_SCENARIO";
const HOUR: Duration = Duration::from_secs(3600);
/// Far longer than anything here takes.
const LIMIT: Duration = Duration::from_secs(60);

/// Past the capture of test output, and line by line.
fn say(line: impl std::fmt::Display) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").unwrap();
    out.flush().unwrap();
}

fn wait_for_input() {
    std::io::stdin()
        .lock()
        .read_line(&mut String::new())
        .unwrap();
}

/// An actor that prints its life.
struct Narrator;

enum Tell {
    Fail,
    Stop,
    /// Blocks its thread for good.
    Block,
}
mainstay_supervisors::message!(Tell);

#[derive(Clone)]
struct Part {
    name: &'static str,
    stop_takes: Duration,
}

impl Drop for Part {
    fn drop(&mut self) {
        say(format_args!("drop {}", self.name));
    }
}

#[cfg_attr(feature = "async-trait", ractor::async_trait)]
impl Actor for Narrator {
    type Msg = Tell;
    type State = Part;
    type Arguments = (&'static str, Duration);

    async fn pre_start(
        &self,
        _: ActorRef<Tell>,
        (name, stop_takes): Self::Arguments,
    ) -> Result<Part, ActorProcessingErr> {
        Ok(Part { name, stop_takes })
    }

    async fn post_stop(
        &self,
        _: ActorRef<Tell>,
        part: &mut Part,
    ) -> Result<(), ActorProcessingErr> {
        say(format_args!("stopping {}", part.name));
        tokio::time::sleep(part.stop_takes).await;
        say(format_args!("stopped {}", part.name));
        Ok(())
    }

    async fn handle(
        &self,
        myself: ActorRef<Tell>,
        message: Tell,
        _: &mut Part,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            Tell::Fail => return Err("told to fail".into()),
            Tell::Stop => myself.stop(None),
            Tell::Block => {
                say("blocking");
                loop {
                    std::thread::park();
                }
            }
        }
        Ok(())
    }
}

fn narrator(name: &'static str, stop_takes: Duration) -> ChildSpec {
    ChildSpec::actor(name, move |_| Ok((Narrator, (name, stop_takes)))).shutdown(Shutdown::Infinite)
}

fn pair(stop_takes: Duration) -> SupervisorSpec {
    SupervisorSpec::new(Strategy::OneForOne)
        .child(narrator("a", Duration::ZERO))
        .child(narrator("b", stop_takes))
}

/// Prints what the crate says of signals, so that the tests know when one was heard.
struct Printer;

impl tracing::Subscriber for Printer {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.target() == "supervisors"
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        event.record(&mut Print);
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}

/// Blocks whoever logs, for good, once it has said so.
struct Clogged;

impl tracing::Subscriber for Clogged {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        event.record(&mut Print);
        say("blocked");
        loop {
            std::thread::park();
        }
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}

struct Print;

impl Visit for Print {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let text = format!("{value:?}");
        if field.name() == "message" && text.starts_with("signal: ") {
            say(text);
        }
    }
}

fn tell(outcome: &Outcome) {
    let signal = outcome
        .signal
        .map_or("none".to_owned(), |signal| signal.to_string());
    let report = &outcome.report;
    say(format_args!(
        "ended: {signal}, {} graceful, {} killed, {} abandoned, {}",
        report.graceful,
        report.killed.len(),
        report.abandoned.len(),
        outcome.reason.kind()
    ));
}

/// The program of the other tests, on a real clock. Without its variable it does nothing.
#[test]
fn the_program() {
    let Ok(scenario) = std::env::var(SCENARIO) else {
        return;
    };
    match scenario.as_str() {
        "clogged" => tracing::subscriber::set_global_default(Clogged).unwrap(),
        _ => tracing::subscriber::set_global_default(Printer).unwrap(),
    }
    // One thread for everything, so that a handler that blocks blocks all.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let outcome = runtime.block_on(play(&scenario));
    tell(&outcome);
    outcome.exit();
}

async fn play(scenario: &str) -> Outcome {
    let plan = ShutdownPlan::within(HOUR);
    match scenario {
        "plain" => {
            let tree = pair(Duration::ZERO).start().await.unwrap();
            let signals = Signals::install().unwrap();
            assert!(matches!(Signals::install(), Err(InstallError::Installed)));
            say("up");
            signals.run(tree, plan).await
        }
        "short" => {
            let signals = Signals::install().unwrap();
            let tree = pair(HOUR).start().await.unwrap();
            say("up");
            signals
                .run(tree, ShutdownPlan::within(Duration::from_secs(1)))
                .await
        }
        "slow" => {
            let signals = Signals::install().unwrap();
            let tree = pair(HOUR).start().await.unwrap();
            say("up");
            signals.run(tree, plan).await
        }
        "deaf" => {
            let address = Address::new();
            let spec = SupervisorSpec::new(Strategy::OneForOne)
                .child(narrator("a", Duration::ZERO).address(&address));
            let signals = Signals::install().unwrap();
            let tree = spec.start().await.unwrap();
            address.cast(Tell::Block).unwrap();
            signals.run(tree, plan).await
        }
        "clogged" => {
            let signals = Signals::install().unwrap();
            say("up");
            // Blocked by its first event.
            let tree = pair(Duration::ZERO).start().await.unwrap();
            signals.run(tree, plan).await
        }
        "early" => {
            let signals = Signals::install().unwrap();
            say("up");
            wait_for_input();
            let tree = pair(Duration::ZERO).start().await.unwrap();
            signals.run(tree, plan).await
        }
        "late" => {
            let signals = Signals::install().unwrap();
            let tree = pair(Duration::ZERO).start().await.unwrap();
            say("up");
            tell(&signals.run(tree, plan).await);
            loop {
                std::thread::park();
            }
        }
        "exhausted" => {
            let address = Address::new();
            let tree = SupervisorSpec::new(Strategy::OneForOne)
                .intensity(Intensity::new(0, HOUR))
                .child(narrator("a", Duration::ZERO).address(&address))
                .start()
                .await
                .unwrap();
            address.cast(Tell::Fail).unwrap();
            signals::run(tree, plan).await.unwrap()
        }
        "done" => {
            let address = Address::new();
            let job = narrator("a", Duration::ZERO).address(&address);
            let tree = SupervisorSpec::new(Strategy::OneForOne)
                .auto_shutdown(AutoShutdown::AnySignificant)
                .child(job.restart(Restart::Temporary).significant(true))
                .start()
                .await
                .unwrap();
            address.cast(Tell::Stop).unwrap();
            signals::run(tree, plan).await.unwrap()
        }
        other => panic!("there is no scenario {other}"),
    }
}

/// A running program, seen from outside.
struct Program {
    child: Child,
    lines: Receiver<String>,
    seen: Vec<String>,
}

impl Program {
    fn start(scenario: &str) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "signals::the_program", "--nocapture"])
            .env(SCENARIO, scenario)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = channel();
        // Ends with the program, whose output it reads.
        std::thread::spawn(move || {
            for line in out.lines().map_while(Result::ok) {
                drop(sender.send(line));
            }
        });
        Self {
            child,
            lines,
            seen: Vec::new(),
        }
    }

    fn until(&mut self, wanted: &str) -> &mut Self {
        loop {
            let line = self.lines.recv_timeout(LIMIT);
            let line = line.unwrap_or_else(|_| panic!("no {wanted} after {:?}", self.seen));
            // The test runner's own line has no end, and the program's first is behind it.
            let found = line.ends_with(wanted);
            self.seen.push(line);
            if found {
                return self;
            }
        }
    }

    fn signal(&mut self, signal: &str) -> &mut Self {
        // A shell has `kill` built in; as a program of its own it may be missing.
        let command = format!("kill -{signal} {}", self.child.id());
        let status = Command::new("sh").args(["-c", &command]).status().unwrap();
        assert!(status.success());
        self
    }

    fn go_on(&mut self) -> &mut Self {
        self.child.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
        self
    }

    /// The exit code, and everything that was printed of the tree.
    fn end(&mut self) -> (Option<i32>, Vec<String>) {
        // The output ends with the program.
        while let Ok(line) = self.lines.recv_timeout(LIMIT) {
            self.seen.push(line);
        }
        let code = self.child.wait().unwrap().code();
        let known = ["stop", "drop", "ended", "signal", "blocking"];
        let told = std::mem::take(&mut self.seen);
        let told = told
            .into_iter()
            .filter(|line| known.iter().any(|word| line.starts_with(word)))
            .collect();
        (code, told)
    }
}

/// A test that failed leaves nothing running.
impl Drop for Program {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// On a real clock.
#[test]
fn the_first_signal_shuts_down_in_good_order_and_is_a_success() {
    for (signal, name) in [("TERM", "SIGTERM"), ("INT", "SIGINT")] {
        let mut program = Program::start("plain");
        let (code, told) = program.until("up").signal(signal).end();
        let ended = format!("ended: {name}, 2 graceful, 0 killed, 0 abandoned, ended");
        // The log may come a little later than what it tells of.
        let told = told.iter().filter(|line| !line.starts_with("signal"));
        assert_eq!(
            told.collect::<Vec<_>>(),
            [
                "stopping b",
                "stopped b",
                "drop b",
                "stopping a",
                "stopped a",
                "drop a",
                &ended
            ]
        );
        assert_eq!(code, Some(0));
    }
}

/// On a real clock.
#[test]
fn a_shutdown_that_had_to_kill_is_told_like_a_death_by_the_signal() {
    let mut program = Program::start("short");
    let (code, told) = program.until("up").signal("TERM").end();
    assert!(!told.contains(&"stopped b".to_owned()), "{told:?}");
    let ended = "ended: SIGTERM, 1 graceful, 1 killed, 0 abandoned, ended";
    assert!(told.contains(&ended.to_owned()), "{told:?}");
    assert_eq!(code, Some(143));
}

/// On a real clock.
#[test]
fn the_second_signal_kills_what_is_left() {
    let mut program = Program::start("slow");
    program.until("up").signal("TERM").until("stopping b");
    let (code, told) = program.signal("INT").end();
    for never in ["stopped b", "stopping a"] {
        assert!(!told.contains(&never.to_owned()), "{told:?}");
    }
    let ended = "ended: SIGINT, 0 graceful, 2 killed, 0 abandoned, killed";
    for told_of in ["drop a", "drop b", ended] {
        assert!(told.contains(&told_of.to_owned()), "{told:?}");
    }
    assert_eq!(code, Some(130));
}

/// On a real clock: even when the only thread of the runtime is blocked, where the first two achieve nothing.
#[test]
fn the_third_signal_ends_the_process_at_once() {
    for (signal, expected) in [("TERM", 143), ("INT", 130)] {
        let mut program = Program::start("deaf");
        program.until("blocking");
        program.signal("TERM").until("signal: shutdown");
        program.signal("TERM").until("signal: kill");
        let (code, told) = program.signal(signal).end();
        assert_eq!(
            told,
            [
                "blocking",
                "signal: shutdown",
                "signal: kill",
                "signal: exit at once"
            ]
        );
        assert_eq!(code, Some(expected));
    }
}

/// On a real clock: the tree is blocked where it starts, and the log at the first signal.
#[test]
fn a_log_that_blocks_for_ever_does_not_hold_the_exit_up() {
    let mut program = Program::start("clogged");
    program.until("up").until("blocked");
    program
        .signal("TERM")
        .until("signal: shutdown")
        .until("blocked");
    // The log is silent from here on, so nothing tells whether two signals were heard or one.
    let began = Instant::now();
    let moment = Duration::from_millis(50);
    while let Err(RecvTimeoutError::Timeout) = program.lines.recv_timeout(moment) {
        assert!(began.elapsed() < LIMIT, "it does not exit");
        program.signal("INT");
    }
    let (code, _) = program.end();
    assert_eq!(code, Some(130));
    // Two signals, each heard within moments, and 250 ms for the last word; the rest is for a busy machine.
    assert!(began.elapsed() < LIMIT / 12, "{:?}", began.elapsed());
}

/// On a real clock.
#[test]
fn a_signal_before_the_tree_stands_is_remembered() {
    let mut program = Program::start("early");
    program.until("up").signal("TERM").until("signal: shutdown");
    let (code, told) = program.go_on().end();
    let ended = "ended: SIGTERM, 2 graceful, 0 killed, 0 abandoned, ended";
    assert_eq!(told.last().map(String::as_str), Some(ended));
    assert_eq!(code, Some(0));
}

/// On a real clock. The default action is gone, so somebody else must see to it that ctrl-c works.
#[test]
fn a_signal_after_the_tree_has_ended_ends_the_process_at_once() {
    let mut program = Program::start("late");
    program.until("up").signal("TERM").until("abandoned, ended");
    let (code, told) = program.signal("INT").end();
    assert_eq!(
        told.last().map(String::as_str),
        Some("signal: exit at once")
    );
    assert_eq!(code, Some(130));
}

/// On a real clock.
#[test]
fn a_tree_that_gives_up_is_a_failure_and_one_that_is_done_a_success() {
    let (code, told) = Program::start("exhausted").end();
    let ended = "ended: none, 0 graceful, 0 killed, 0 abandoned, ended";
    assert_eq!(told.last().map(String::as_str), Some(ended));
    assert_eq!(code, Some(1));
    let (code, told) = Program::start("done").end();
    assert_eq!(told.last().map(String::as_str), Some(ended));
    assert_eq!(code, Some(0));
}
