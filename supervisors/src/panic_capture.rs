//! Learns where a panic happened.
//!
//! A caught panic carries its payload only; the location is known to the process-global hook alone.
//! Installing a hook is the program's decision, so this is opt-in and never done silently.
//!
//! Invariants: the previous hook still runs; what it saw is handed out once, on the thread that
//! panicked; a backtrace is taken only where the environment asks for one.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::cell::RefCell;
use std::sync::Once;

/// What the hook saw.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) location: Option<String>,
    pub(crate) backtrace: Option<String>,
}

thread_local! {
    static LAST: RefCell<Option<Seen>> = const { RefCell::new(None) };
}

/// Installs a panic hook that remembers locations for [`PanicInfo`](crate::PanicInfo) and then calls
/// the hook that was there before. Calls after the first do nothing. Where `RUST_BACKTRACE` or
/// `RUST_LIB_BACKTRACE` asks for backtraces they are remembered too, of caught panics as well; that takes
/// milliseconds for each.
pub fn install() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        let previous = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let backtrace = Backtrace::capture();
            let captured = backtrace.status() == BacktraceStatus::Captured;
            let seen = Seen {
                location: info.location().map(ToString::to_string),
                backtrace: captured.then(|| backtrace.to_string()),
            };
            // A thread that is being torn down has no slot any more, and nobody to read it.
            let _ = LAST.try_with(|last| {
                if let Ok(mut last) = last.try_borrow_mut() {
                    *last = Some(seen);
                }
            });
            previous(info);
        }));
    });
}

/// What it saw last on this thread.
pub(crate) fn take() -> Seen {
    LAST.try_with(|last| last.try_borrow_mut().ok().and_then(|mut last| last.take()))
        .ok()
        .flatten()
        .unwrap_or_default()
}
