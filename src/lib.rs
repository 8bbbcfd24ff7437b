//! Supervised sessions on realtime WebSocket APIs that tell the truth about every interruption.
