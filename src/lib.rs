//! Supervised sessions on realtime WebSocket APIs that tell the truth about every interruption.

pub mod adapters;
pub mod close;
pub mod config;
pub mod error;
pub mod frame;
pub mod platform;
pub mod protocol;
pub mod session;
#[cfg(feature = "testing")]
pub mod testing;
