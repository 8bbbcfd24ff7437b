//! Guides: how to choose, how to tune, what happens when, and where one comes from.
//!
//! Pages, not code. The programs in them are compiled and run, and both tables of [`what_happens_when`] are held
//! against the machine by tests.
//!
//! - [`choosing_a_strategy`]: which supervisor, which strategy, which restart type
//! - [`tuning`]: intensity, backoff, limits, and how they work together
//! - [`what_happens_when`]: every end of a child, and what follows
//! - [`from_erlang`]: the words of OTP and Elixir here, and where we differ
//! - [`from_ractor_supervisor`]: moving from the crate `ractor-supervisor`

#[doc = include_str!("guide/choosing_a_strategy.md")]
pub mod choosing_a_strategy {}

#[doc = include_str!("guide/tuning.md")]
pub mod tuning {}

#[doc = include_str!("guide/what_happens_when.md")]
pub mod what_happens_when {}

#[doc = include_str!("guide/from_erlang.md")]
pub mod from_erlang {}

#[doc = include_str!("guide/from_ractor_supervisor.md")]
pub mod from_ractor_supervisor {}
