//! What a pool promises, through its public door, against scripted servers on the loopback.
//!
//! Each test awaits events; none sleeps. Deadlines are only there so that a broken promise ends the test, or where
//! the promise is about one.
#![allow(
    clippy::expect_used,
    reason = "what is allowed in tests is not yet in their helpers"
)]

#[path = "pool/discovery.rs"]
mod discovery;
#[path = "pool/failover.rs"]
mod failover;
#[path = "pool/hooks.rs"]
mod hooks;
#[path = "pool/kit.rs"]
mod kit;
#[path = "pool/membership.rs"]
mod membership;
#[path = "pool/registry.rs"]
mod registry;
#[path = "pool/routing.rs"]
mod routing;
