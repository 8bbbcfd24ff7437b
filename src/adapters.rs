//! The venues that mainstay speaks to out of the box, one module each.
//!
//! Apart from [`Platform`](crate::platform::Platform) because a venue's words change with the venue
//! and the trait does not; whoever needs another venue writes a sibling of these, here or at home.
//!
//! Invariants: everything below is pure, without a clock, a task, a socket or a log; no adapter
//! knows another, and nothing in the session knows an adapter.

pub mod costs;
pub mod deribit;
