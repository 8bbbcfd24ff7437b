//! The wire as a small trait: frames in, frames out. tungstenite is the default behind it.
//!
//! Everything above speaks of frames and close reasons only, so that an in-memory pair, a simulated
//! network or another framing crate can stand here.
//!
//! Invariants: an end is reported once, as a [`CloseReason`]; a ping's pong is the backend's business
//! and goes out even when nobody above is writing; that writing has failed is told to who writes, and what has come can still
//! be read.

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
    /// The next frame, or why there will be none. A message is [admitted](Inbound::admit) first, and may have been put into
    /// its slot already when this returns. Unless it `reads`, no more is read than one large read brings, and who
    /// finds none may not be woken: whoever holds frames passes them on first, so that what they were read into is free
    /// again.
    fn poll_frame<S: Inbound>(
        &mut self,
        cx: &mut Context<'_>,
        reads: bool,
        inbound: &mut S,
    ) -> Poll<Result<Came<S::Place>, CloseReason>>;

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

/// Where messages go. It is asked before a message is moved, which then is moved once: what has just been written is moved by
/// wider words than it was written by, and that waits until it has gone to the cache.
pub(crate) trait Inbound {
    /// What it says of a message for which it has no slot.
    type Place;

    /// Where a message with this payload goes. Called once for each message, which counts it; if the answer is a slot the
    /// message must be put there, before anything else is done.
    fn admit(&mut self, payload: &[u8]) -> Admitted<'_, Self::Place>;
}

/// Where a message goes.
#[derive(Debug)]
pub(crate) enum Admitted<'s, P> {
    /// Into this [empty](Frame::EMPTY) slot.
    Into(&'s mut Frame),
    /// To whoever asked for it.
    On(P),
}

impl<P> Admitted<'_, P> {
    /// Has the frame go there.
    #[inline(always)]
    fn take(self, frame: Frame) -> Came<P> {
        match self {
            Self::Into(slot) => {
                // To drop what stood there would be a look at it, for each message.
                debug_assert!(matches!(slot, Frame::Binary(bytes) if bytes.is_empty()));
                std::mem::forget(std::mem::replace(slot, frame));
                Came::Taken
            }
            Self::On(place) => Came::Message(frame, place),
        }
    }
}

/// What has come.
#[derive(Debug)]
pub(crate) enum Came<P> {
    /// A message that went into its slot.
    Taken,
    /// A message that did not.
    Message(Frame, P),
    /// A control frame.
    Control(Frame),
}

#[cfg(test)]
impl<P> Came<P> {
    /// What has come and went into no slot.
    pub(crate) fn frame(self) -> Option<Frame> {
        match self {
            Self::Taken => None,
            Self::Message(frame, _) | Self::Control(frame) => Some(frame),
        }
    }
}

/// Everything goes to whoever asks.
impl Inbound for () {
    type Place = ();

    fn admit(&mut self, _: &[u8]) -> Admitted<'_, ()> {
        Admitted::On(())
    }
}

/// A mask that nobody can guess (RFC 6455, section 10.3).
fn mask() -> [u8; 4] {
    rand::random()
}
