//! The thread that hears signals and counts them.
//!
//! ```text
//!         signal            signal           signal
//! quiet ─────────► stopping ──────► killing ───────► the process exits at once
//!   │               │                │                          ▲
//!   └──── ended ────┴───── ended ────┴──► over ─────────────────┘
//!                                              signal
//! ```
//!
//! Apart from what acts upon them, which runs on the program's own runtime and may be stuck.
//!
//! Invariants: a stage is told before it is logged; the thread that listens runs nobody else's code and waits for
//! nothing but signals, and at the exit for the log, [`LAST_WORD`] at most. So what is logged is logged by
//! another thread, which a subscriber may hold up for ever.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use tokio::sync::watch;

use super::Signal;
use crate::exit::contained;

/// How long an exit may wait until it is logged.
const LAST_WORD: Duration = Duration::from_millis(250);
/// There are no more than three signals that change something.
const LINES: usize = 4;

/// How urgent the end has become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    Quiet,
    Stopping(Signal),
    Killing(Signal),
    /// Nothing is left that could be ended in good order.
    Over,
}

impl Stage {
    /// `None`: the process exits at once.
    pub(super) fn on_signal(self, signal: Signal) -> Option<Self> {
        match self {
            Self::Quiet => Some(Self::Stopping(signal)),
            Self::Stopping(_) => Some(Self::Killing(signal)),
            Self::Killing(_) | Self::Over => None,
        }
    }

    /// The last signal that counted.
    pub(super) fn signal(self) -> Option<Signal> {
        match self {
            Self::Stopping(signal) | Self::Killing(signal) => Some(signal),
            Self::Quiet | Self::Over => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Quiet => "quiet",
            Self::Stopping(_) => "shutdown",
            Self::Killing(_) => "kill",
            Self::Over => "over",
        }
    }
}

/// Listens on a thread of its own, which lives as long as the process, as tokio's handlers do.
pub(super) fn listen(stage: Arc<watch::Sender<Stage>>) -> io::Result<()> {
    let log = Log::open()?;
    let (ready, readiness) = std::sync::mpsc::channel();
    let listening = move || {
        let (runtime, mut arrivals) = match open() {
            Ok(opened) => opened,
            Err(error) => return drop(ready.send(Err(error))),
        };
        // Whoever installs waits for this.
        let _ = ready.send(Ok(()));
        runtime.block_on(async {
            loop {
                let signal = arrivals.next().await;
                heed(&stage, signal, &log);
            }
        });
    };
    thread::Builder::new()
        .name("signals".to_owned())
        .spawn(listening)?;
    readiness.recv().map_err(io::Error::other)?
}

/// The tree hears of it first, then the log.
fn heed(stage: &watch::Sender<Stage>, signal: Signal, log: &Log) {
    let mut next = None;
    stage.send_if_modified(|stage| {
        next = stage.on_signal(signal);
        *stage = next.unwrap_or(*stage);
        next.is_some()
    });
    let logged = log.say(next, signal);
    if next.is_none() {
        // Neither answer changes anything: it is time.
        let _ = logged.recv_timeout(LAST_WORD);
        std::process::exit(signal.code().into());
    }
}

/// What came of a signal, and who waits until that is logged.
struct Entry {
    /// `None`: the process exits.
    next: Option<Stage>,
    signal: Signal,
    logged: SyncSender<()>,
}

/// The way to the thread that logs.
struct Log(SyncSender<Entry>);

impl Log {
    fn open() -> io::Result<Self> {
        let (entries, taken) = sync_channel(LINES);
        let logging = move || write(&taken);
        thread::Builder::new()
            .name("signals-log".to_owned())
            .spawn(logging)?;
        Ok(Self(entries))
    }

    /// Waits for nobody. What is yielded hears when it is logged, or that it will not be.
    fn say(&self, next: Option<Stage>, signal: Signal) -> Receiver<()> {
        let (logged, done) = sync_channel(1);
        // Full only when something holds the log up, and then it would not be read either.
        let _ = self.0.try_send(Entry {
            next,
            signal,
            logged,
        });
        done
    }
}

fn write(entries: &Receiver<Entry>) {
    for Entry {
        next,
        signal,
        logged,
    } in entries
    {
        let step = next.map_or("exit at once", Stage::name);
        // A subscriber that panics must not end the log.
        contained(|| match next {
            Some(Stage::Quiet | Stage::Stopping(_)) => {
                tracing::info!(target: "supervisors", %signal, "signal: {step}");
            }
            Some(Stage::Killing(_) | Stage::Over) => {
                tracing::warn!(target: "supervisors", %signal, "signal: {step}");
            }
            None => tracing::error!(target: "supervisors", %signal, "signal: {step}"),
        });
        // Only an exit waits for it.
        let _ = logged.try_send(());
    }
}

fn open() -> io::Result<(tokio::runtime::Runtime, Arrivals)> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let arrivals = {
        let _context = runtime.enter();
        Arrivals::open()?
    };
    Ok((runtime, arrivals))
}

#[cfg(unix)]
struct Arrivals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Arrivals {
    fn open() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    async fn next(&mut self) -> Signal {
        tokio::select! {
            Some(()) = self.interrupt.recv() => Signal::Interrupt,
            Some(()) = self.terminate.recv() => Signal::Terminate,
            else => std::future::pending().await,
        }
    }
}

#[cfg(windows)]
struct Arrivals {
    interrupt: tokio::signal::windows::CtrlC,
}

#[cfg(windows)]
impl Arrivals {
    fn open() -> io::Result<Self> {
        Ok(Self {
            interrupt: tokio::signal::windows::ctrl_c()?,
        })
    }

    async fn next(&mut self) -> Signal {
        match self.interrupt.recv().await {
            Some(()) => Signal::Interrupt,
            None => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Signal::{Interrupt, Terminate};
    use super::*;

    #[test]
    fn the_third_signal_exits_whichever_they_are() {
        for signals in [
            [Interrupt, Interrupt, Interrupt],
            [Terminate, Interrupt, Terminate],
        ] {
            let [first, second, third] = signals;
            let stopping = Stage::Quiet.on_signal(first).unwrap();
            assert_eq!(stopping, Stage::Stopping(first));
            let killing = stopping.on_signal(second).unwrap();
            assert_eq!(killing, Stage::Killing(second));
            assert_eq!(killing.signal(), Some(second));
            assert_eq!(killing.on_signal(third), None);
        }
    }

    #[test]
    fn a_signal_after_the_end_exits() {
        assert_eq!(Stage::Over.on_signal(Terminate), None);
        assert_eq!(Stage::Over.signal(), None);
    }
}
