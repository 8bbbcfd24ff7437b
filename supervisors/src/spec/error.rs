//! What can be wrong with a spec.
//!
//! Apart because these texts are for whoever wrote the spec, and are read when it is refused.
//!
//! Invariants: each names the child, where there is one, and the remedy.

use crate::backoff::BackoffError;
use crate::id::ChildId;
use crate::policy::AutoShutdown;

/// What is wrong with a spec.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SpecError {
    /// Two children have one id.
    #[error("child id {child} is used twice; give each child of a supervisor its own")]
    DuplicateId {
        /// That id.
        child: ChildId,
    },
    /// One address is to reach two children, and would follow now one, now the other.
    #[error("child {child} has the address of child {other}; give each an `Address` of its own")]
    SharedAddress {
        /// The later of the two.
        child: ChildId,
        /// The earlier one.
        other: ChildId,
    },
    /// A supervisor's name says nothing.
    #[error("the supervisor's name is \"\", which is empty; give it one, or none for `root`")]
    EmptyName,
    /// A supervisor's name would look like a path.
    #[error(
        "the supervisor's name {name:?} has a `/` in it, which separates the parts of a path; use another character, such as `:`"
    )]
    SlashInName {
        /// That name.
        name: String,
    },
    /// A supervisor's name would forge lines in a log.
    #[error(
        "the supervisor's name {name:?} has a control character in it; use characters that can be printed"
    )]
    ControlInName {
        /// That name.
        name: String,
    },
    /// A child has no name.
    #[error("a child id is \"\", which is empty; give the child a name")]
    EmptyId,
    /// A child's name would look like a path.
    #[error(
        "child id {child:?} has a `/` in it, which separates the parts of a path; use another character, such as `:`"
    )]
    SlashInId {
        /// That id.
        child: ChildId,
    },
    /// A child's name would forge lines in a log.
    #[error("child id {child:?} has a control character in it; use characters that can be printed")]
    ControlInId {
        /// That id.
        child: ChildId,
    },
    /// A permanent child never ends for good, so it cannot be significant.
    #[error("child {child} is significant and permanent; make it transient or temporary")]
    SignificantPermanent {
        /// That child.
        child: ChildId,
    },
    /// A significant child without effect.
    #[error(
        "child {child} is significant but its supervisor never shuts down for it; set `auto_shutdown`"
    )]
    SignificantNever {
        /// That child.
        child: ChildId,
    },
    /// No start could ever be quick enough.
    #[error("start timeout of child {child} is zero; give it time")]
    ZeroStartTimeout {
        /// That child.
        child: ChildId,
    },
    /// No callback could ever be quick enough.
    #[error("watchdog of child {child} is zero; give it time, or none")]
    ZeroWatchdog {
        /// That child.
        child: ChildId,
    },
    /// The children of a dynamic supervisor are not significant, so none can end it.
    #[error(
        "`auto_shutdown` is {mode:?}, but a dynamic supervisor never shuts down for a child; leave it at `Never`"
    )]
    DynamicAutoShutdown {
        /// What it is set to.
        mode: AutoShutdown,
    },
    /// The children of a dynamic supervisor are started by request.
    #[error(
        "child {child} is listed in the spec of a dynamic supervisor; start it with `start_child`"
    )]
    DynamicChild {
        /// That child.
        child: ChildId,
    },
    /// A partitioned supervisor without partitions.
    #[error("there are zero partitions; a partitioned supervisor needs at least one")]
    NoPartitions,
    /// A partition that would be gone for good with its first end.
    #[error(
        "partition {partition} is temporary, but keys are routed to it for good; make it permanent or transient"
    )]
    TemporaryPartition {
        /// Which, from zero on.
        partition: usize,
    },
    /// No restart could ever be within the window.
    #[error("intensity window is zero; to allow no restart, set `max_restarts` to zero")]
    ZeroWindow,
    /// The address is for other messages than the child's, or the child is a task or a supervisor.
    #[error(
        "address of child {child} is for another message type; use its actor's, or a `SupervisorAddress` for a supervisor"
    )]
    AddressType {
        /// That child.
        child: ChildId,
    },
    /// A child's backoff makes no sense.
    #[error("the backoff of child {child} makes no sense; change what the source names")]
    Backoff {
        /// That child.
        child: ChildId,
        /// What is wrong with it.
        source: BackoffError,
    },
    /// A sub-supervisor's spec is wrong.
    #[error("the spec of sub-supervisor {child} makes no sense; change what the source names")]
    Nested {
        /// That sub-supervisor.
        child: ChildId,
        /// What is wrong with it.
        source: Box<SpecError>,
    },
}
