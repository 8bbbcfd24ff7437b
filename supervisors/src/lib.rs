//! Erlang/OTP-style supervision trees for plain [`ractor`] actors.
//!
//! ractor gives good primitives (linked spawns, exit events, kill) and leaves the tree to its user: a
//! parent that ends kills its children, in no order and without waiting. This crate brings what OTP's
//! `supervisor` does: children started in order and ended in reverse order within limits, three
//! restart types, three strategies, an exact restart intensity, significant children; and what a
//! service that reconnects needs on top: backoff with jitter, postponed starts, losses that do not
//! count, addresses that survive restarts, monitors that always answer.
//!
//! ```
//! use std::time::Duration;
//! use mainstay_supervisors::{Address, ChildSpec, ShutdownPlan, Strategy, SupervisorSpec};
//! use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
//!
//! struct Counter;
//!
//! enum Count {
//!     Up,
//!     Get(RpcReplyPort<u32>),
//!     Crash,
//! }
//! mainstay_supervisors::message!(Count);
//!
//! # #[cfg_attr(feature = "async-trait", ractor::async_trait)]
//! impl Actor for Counter {
//!     type Msg = Count;
//!     type State = u32;
//!     type Arguments = u32;
//!
//!     async fn pre_start(&self, _: ActorRef<Count>, start: u32) -> Result<u32, ActorProcessingErr> {
//!         Ok(start)
//!     }
//!
//!     async fn handle(&self, _: ActorRef<Count>, message: Count, count: &mut u32) -> Result<(), ActorProcessingErr> {
//!         match message {
//!             Count::Up => *count += 1,
//!             Count::Get(reply) => reply.send(*count)?,
//!             Count::Crash => return Err("crash".into()),
//!         }
//!         Ok(())
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let counter = Address::new();
//! let tree = SupervisorSpec::new(Strategy::OneForOne)
//!     .child(ChildSpec::actor("counter", |_| Ok((Counter, 10))).address(&counter))
//!     .start()
//!     .await?;
//!
//! counter.cast(Count::Up)?;
//! assert_eq!(counter.call(Count::Get, Duration::from_secs(1)).await?, 11);
//!
//! let mut changes = counter.changes();
//! counter.cast(Count::Crash)?;
//! while !changes.next().await.is_some_and(|status| status.is_up()) {}
//! assert_eq!(counter.call(Count::Get, Duration::from_secs(1)).await?, 10);
//!
//! let report = tree.shutdown(ShutdownPlan::default()).await;
//! assert_eq!(report.graceful, 1);
//! # Ok(())
//! # }
//! ```
//!
//! # The tour
//!
//! **A tree is a value.** A [`SupervisorSpec`] lists children in start order, a [`ChildSpec`] says how one is
//! made, restarted and ended. [`check`](SupervisorSpec::check) finds what makes no sense, and
//! [`start`](SupervisorSpec::start) brings everybody up, one after the other, or fails by the name of the child
//! that did not start. What it gives is the [`Root`]: whoever holds it owns the tree.
//!
//! **Children are plain actors**, unchanged. A factory makes one for each incarnation and is told which
//! it is and how the one before ended ([`StartContext`]). An async function can be a child too
//! ([`ChildSpec::task`]), and so can an actor whose state cannot leave its thread
//! ([`thread_local`](ChildSpec::thread_local)) and whatever else yields a cell and a join handle
//! ([`spawn_with`](ChildSpec::spawn_with)). ractor's factories are actors, so they are children as they are.
//!
//! **Work that ends by itself has a result.** A task supervisor ([`TaskSpec`], [`TaskRef`]) runs futures once, each
//! with a [`TaskHandle`] that yields its result or how it truly ended; [`TaskRef::stream`] runs one for each of many
//! inputs, so many at a time.
//!
//! **Nobody keeps an `ActorRef`.** An [`Address`] reaches whichever incarnation is up, hands back what it could
//! not deliver, and never sends twice. [`monitor`](monitor()) tells once, and truly, how an actor ended.
//!
//! **A failure has consequences by rule**: restart type, [`Strategy`], [`Backoff`], [`Intensity`], and for what is
//! nobody's fault a [`Verdict`]. [`guide::what_happens_when`] has the tables.
//!
//! **Children come and go**: with [`start_child`](SupervisorRef::start_child) and OTP's other calls on any supervisor;
//! by the thousand under a [`DynamicSpec`]; divided by key under a [`PartitionSpec`].
//!
//! **Everything can be seen**: a [`TreeSnapshot`] as text, Mermaid or JSON, a bounded stream of
//! [`SupervisorEvent`]s, the same through `tracing` (target `supervisors`; [`event`] is the catalogue).
//!
//! **The end is orderly**: reverse start order, depth first, each child within its limit and all within one
//! total ([`ShutdownPlan`]), then kill, then leave behind and say so ([`ShutdownReport`]).
//!
//! # Where to read on
//! - [`guide`]: choosing a strategy, tuning, what happens when, from Erlang, from `ractor-supervisor`
//! - the examples `custom_tree`, `dynamic_workers`, `poison_job`, `graceful_shutdown`
//!
//! # How it is built
//! A pure machine decides, an actor around it carries out, and a task per incarnation does the
//! waiting. The machine is compared with OTP's own supervisor. `README.md` beside the tests tells
//! which case is tested where.
//!
//! # What cannot be had
//! - A task that never yields cannot be ended from outside. It is abandoned after its limits, reported, and
//!   replaced all the same.
//! - With `panic = "abort"` a panic ends the program; errors and kills are supervised as ever.
//! - Delays and limits need a tokio runtime with its timer enabled.
//!
//! # Signals
//! The feature `signals` adds a module of that name: ctrl-c and SIGTERM shut the tree down in good
//! order, and `main` returns how it ended.
//!
//! # ractor's features
//! `async-trait` and `cluster` change ractor's traits for the whole build. Switch this crate's
//! features of the same names on when anything in the build switches ractor's on; use
//! [`message!`](crate::message) for local message types. `monitors` mirrors ractor's feature of that name,
//! which nothing here needs. `ractor-default` adds ractor's own default features, message span
//! propagation among them; without it only what runs on tokio is built.
#![forbid(unsafe_code)]

pub mod address;
pub mod admin;
pub mod backoff;
pub mod dynamic;
#[cfg(test)]
mod error_table;
pub mod event;
pub mod exit;
pub mod guide;
pub mod handle;
pub mod id;
mod machine;
mod macros;
pub mod monitor;
pub mod panic_capture;
pub mod partition;
pub mod policy;
mod runtime;
pub mod seat;
pub mod shutdown;
#[cfg(feature = "signals")]
pub mod signals;
pub mod snapshot;
pub mod spec;
pub mod task;
pub mod tasks;
mod time;

#[doc(hidden)]
pub use ractor;

pub use address::{Address, AddressChanges, AddressError, AddressStatus, CallError, NotUp};
pub use admin::{
    ChildInfo, Counts, DeleteChildError, LookupError, ReconfigureError, RestartChildError,
    SpecInfo, StartChildError, Started, SupervisorEnded, TerminateChildError,
};
pub use backoff::{Backoff, BackoffError, Growth, Jitter};
pub use dynamic::{ChildKey, DynamicRef, DynamicSpec};
pub use event::{EventStream, Missed, SupervisorEvent, SupervisorEventKind};
pub use exit::{ExitReason, PanicInfo, ShutdownCause};
pub use handle::{Root, StartFailure, SupervisorRef};
pub use id::{ChildId, Generation, SupervisorPath};
pub use monitor::{Down, Ended, MonitorRef, Watcher, monitor};
pub use partition::{NoPartitions, PartitionKey, PartitionSpec, Partitions, ResizeError};
pub use policy::{
    AutoShutdown, ChildKind, Intensity, OnExhausted, Restart, Shutdown, Strategy, Verdict,
};
pub use seat::{SupervisorAddress, SupervisorNotUp};
pub use shutdown::{ShutdownPlan, ShutdownReport};
pub use snapshot::{NodeStatus, TreeSnapshot};
pub use spec::{ChildSpec, Spawned, SpecError, StartContext, StartError, SupervisorSpec};
pub use task::{Stopping, TaskContext};
pub use tasks::{
    StartTaskError, StreamError, StreamSpec, TaskError, TaskHandle, TaskRef, TaskSpec, TaskStream,
};

/// The README's program, compiled with the doc tests.
#[cfg(all(doctest, not(feature = "async-trait"), not(feature = "cluster")))]
#[doc = include_str!("../README.md")]
struct Readme;
