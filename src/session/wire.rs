//! The wire as a small trait: frames in, frames out. tungstenite is the default behind it.
//!
//! Everything above speaks of frames and close reasons only, so that an in-memory pair, a simulated
//! network or another framing crate can stand here.
//!
//! Invariants: an end is reported once, as a [`CloseReason`]; a ping's pong is the backend's business
//! and goes out even when nobody above is writing.

#[cfg(feature = "fast-wire")]
mod fast;
mod tungstenite;

#[cfg(feature = "fast-wire")]
pub(crate) use fast::FastWire;
pub(crate) use tungstenite::TungsteniteWire;

use std::task::{Context, Poll};

use crate::close::CloseReason;
use crate::frame::Frame;

/// One WebSocket connection, driven by polling.
pub(crate) trait Wire: Send + Unpin {
    /// The next frame, or why there will be none. Unless it `reads`, no more is read than one large read brings, and who
    /// finds none may not be woken: whoever holds frames passes them on first, so that what they were read into is free
    /// again.
    fn poll_frame(&mut self, cx: &mut Context<'_>, reads: bool)
    -> Poll<Result<Frame, CloseReason>>;

    /// Whether [`Wire::start_send`] may be called.
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), CloseReason>>;

    /// Hands a frame over. From here on its fate is unknown until it is answered.
    fn start_send(&mut self, frame: Frame) -> Result<(), CloseReason>;

    /// Writes what was handed over to the socket.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), CloseReason>>;

    /// Bytes that have come from the peer so far, whole frames or not.
    fn bytes_read(&self) -> u64;

    /// Bytes that the peer has taken so far.
    fn bytes_written(&self) -> u64;
}
