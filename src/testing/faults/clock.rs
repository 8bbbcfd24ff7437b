//! The client's clock, as far as a script can move it.
//!
//! A file of its own because it means two things: under paused time the runtime's clock is moved, else the
//! thread sleeps, and with it a client that shares it.
//!
//! Invariant: no task of the runtime runs within a jump.

use std::time::Duration;

use tokio::time::Instant;

/// The longest that a real thread is held.
pub(super) const HOLD: Duration = Duration::from_secs(2);

/// Moves the clock forward, or holds the thread.
pub(super) async fn jump(time: Duration) {
    if is_paused() {
        tokio::time::advance(time).await;
    } else {
        std::thread::sleep(time.min(HOLD));
    }
}

/// Whether the runtime's clock stands while the system's goes on.
fn is_paused() -> bool {
    let before = Instant::now();
    std::thread::sleep(Duration::from_millis(1));
    Instant::now() == before
}
