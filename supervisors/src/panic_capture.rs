//! Learns where a panic happened.
//!
//! A caught panic carries its payload only; the location is known to the process-global hook alone.
//! Installing a hook is the program's decision, so this is opt-in and never done silently.
//!
//! Invariants: the previous hook still runs; a location is handed out once, on the thread that
//! panicked.

use std::cell::RefCell;
use std::sync::Once;

thread_local! {
    static LAST: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Installs a panic hook that remembers locations for [`PanicInfo`](crate::PanicInfo) and then calls
/// the hook that was there before. Calls after the first do nothing.
pub fn install() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        let previous = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let location = info.location().map(ToString::to_string);
            // A thread that is being torn down has no slot any more, and nobody to read it.
            let _ = LAST.try_with(|last| {
                if let Ok(mut last) = last.try_borrow_mut() {
                    *last = location;
                }
            });
            previous(info);
        }));
    });
}

pub(crate) fn take_location() -> Option<String> {
    LAST.try_with(|last| last.try_borrow_mut().ok().and_then(|mut last| last.take()))
        .ok()
        .flatten()
}
