//! Supervised sessions on realtime WebSocket APIs that tell the truth about every interruption.

pub mod close;
pub mod config;
pub mod error;
pub mod protocol;
pub mod session;
