//! The names under which the library speaks to `tracing`: targets and fields.
//!
//! One place, because operators build searches and alerts on them; a name that stands here does not
//! change without a line in the changelog.
//!
//! | target | level | event | fields |
//! |---|---|---|---|
//! | `mainstay::session` | info | state changed | `session`, `state` |
//! | `mainstay::connection` | info | opened | `session`, `epoch` |
//! | `mainstay::connection` | warn | closed | `session`, `epoch`, `cause`, `detail` |
//! | `mainstay::connection` | warn | not opened | `session`, `cause`, `detail` |
//! | `mainstay::limit` | info | pressure changed | `limiter`, `pool`, `level`, `previous`, `queued`, `capacity` |
//! | `mainstay::limit` | warn | limited by the venue | `limiter`, `rest` |
//! | `mainstay::recording` | warn | recording interrupted | `session`, `path`, `operation`, `error` |
//! | `mainstay::gap` | warn | gap | `session`, `epoch`, `cause`, `subscriptions` |
//!
//! The supervisors' own events have the target `supervisors`; see that crate.
//!
//! Invariants: no payload, no credential, no header value is ever a field.

/// Target of session-wide events.
pub const SESSION: &str = "mainstay::session";
/// Target of events about one connection.
pub const CONNECTION: &str = "mainstay::connection";
/// Target of events about rate limits.
pub const LIMIT: &str = "mainstay::limit";
/// Target of events about a session's recording.
pub const RECORDING: &str = "mainstay::recording";
/// Target of announced gaps.
pub const GAP: &str = "mainstay::gap";
