//! The shell: a ractor actor that owns a machine and carries out its actions.
//!
//! ```text
//! supervisor   the actor: feeds its inbox to the machine, carries out actions, never waits
//!   household  what it shares with its keepers, who do its work where nobody else is at it
//!   keeper     a task per incarnation: start, readiness, end, stop with limits, kill, abandon
//!     launch   calls the factory and spawns, in the keeper's task, where it can be given up
//!       wrapper  the actor around the user's actor: sees how callbacks truly end
//! ```
//!
//! Apart from the machine so that everything that touches ractor, tokio and the clock is here.
//!
//! Invariants: no callback of the supervisor waits for a child; the supervisor learns of ends from
//! keepers alone, never from ractor's events, so that events of strangers, monitors, dead
//! incarnations and forgers cannot move it; an incarnation is replaced only after its task has
//! ended and its state is dropped, unless it was abandoned, its start was given up and does not yield,
//! or the drop of its state takes more than a second: each is reported, and the replacement then stands
//! beside what is left.

pub(crate) mod blueprint;
pub(crate) mod foreign;
pub(crate) mod household;
pub(crate) mod inbox;
pub(crate) mod keeper;
pub(crate) mod keys;
pub(crate) mod launch;
pub(crate) mod local;
pub(crate) mod record;
pub(crate) mod supervisor;
pub(crate) mod task;
pub(crate) mod telemetry;
pub(crate) mod timesheet;
pub(crate) mod wrapper;
