//! The machines of a session: everything that can be decided without a clock, a socket or a mailbox.
//!
//! Apart from the actors because a decision that needs none of these can be tested in microseconds and
//! for every order of events. An actor calls a machine, carries out its answer, and is otherwise dull.
//!
//! Invariants: time comes in as `now`, chance as a number; the answer is a value that must be used; a
//! file of this floor imports only from `error`, `close`, `config`, `frame`, and its own floor.

pub mod breaker;
pub mod cadence;
pub mod call;
pub(crate) mod chunk;
pub mod connection;
pub mod continuity;
pub mod endpoints;
pub mod envelope;
pub mod establish;
#[cfg(feature = "fast-wire")]
pub mod framing;
pub mod health;
pub mod high_water;
pub(crate) mod intake;
pub(crate) mod json;
pub mod json_rpc;
pub mod latency;
pub mod limiter;
pub mod liveness;
pub mod losses;
pub mod market;
pub mod outbox;
pub(crate) mod outgoing;
pub mod reconcile;
pub mod recording;
pub mod rpc;
pub mod secrets;
pub mod sequence;
pub(crate) mod serial;
pub mod status;
pub mod subscriptions;
pub mod venue_time;
