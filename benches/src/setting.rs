//! The two runtimes everything is measured on.

use std::fmt;

use core_affinity::CoreId;
use tokio::runtime::{Builder, Runtime};

/// Where the reader runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Setting {
    /// A current-thread runtime pinned to one core, the other side of the socket pinned to another. Threads for blocking
    /// work, such as the one that writes a recording to the disk, are kept off the reader's core: no program that pins
    /// its reader leaves them there. On two cores they share one with the other side.
    One,
    /// A runtime with two workers; nothing is pinned.
    Two,
}

impl fmt::Display for Setting {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::One => "T1",
            Self::Two => "T2",
        })
    }
}

impl Setting {
    /// Both, or the one that `SETTING` in the environment names.
    ///
    /// # Panics
    ///
    /// If it names none: a benchmark that measures nothing must not look like one that went well.
    #[must_use]
    pub fn asked() -> Vec<Self> {
        let asked = std::env::var("SETTING").unwrap_or_default();
        let mut settings = vec![Self::One, Self::Two];
        settings.retain(|setting| asked.is_empty() || asked == setting.to_string());
        assert!(
            !settings.is_empty(),
            "SETTING={asked} names no setting: use T1 or T2, or leave it out"
        );
        settings
    }

    /// Runs `job` with this runtime, on a thread of its own: whatever a pinned thread starts is pinned too, unless it
    /// pins itself elsewhere, as threads for blocking work do.
    pub fn run<R: Send>(self, job: impl FnOnce(&Runtime) -> R + Send) -> R {
        std::thread::scope(|scope| {
            let thread = scope.spawn(move || {
                let mut builder = match self {
                    Self::One => Builder::new_current_thread(),
                    Self::Two => Builder::new_multi_thread(),
                };
                match self {
                    Self::One => {
                        // Who is pinned to one core sees no other.
                        let cores = cores();
                        pin_to(&cores, 0);
                        let blocking = if cores.len() > 2 { 2 } else { 1 };
                        // Of a current-thread runtime these are the threads for blocking work.
                        builder.on_thread_start(move || pin_to(&cores, blocking));
                    }
                    Self::Two => {
                        builder.worker_threads(2);
                    }
                }
                job(&builder.enable_all().build().expect("a runtime"))
            });
            thread.join().expect("a whole run")
        })
    }

    /// Called on the thread that is the other side of the socket.
    pub fn pin_other_side(self) {
        if self == Self::One {
            pin_to(&cores(), 1);
        }
    }
}

fn cores() -> Vec<CoreId> {
    core_affinity::get_core_ids().unwrap_or_default()
}

/// Pins this thread to the `index`th core; does nothing where there is none.
fn pin_to(cores: &[CoreId], index: usize) {
    if cores.len() > 1 && index < cores.len() {
        core_affinity::set_for_current(cores[index]);
    }
}
