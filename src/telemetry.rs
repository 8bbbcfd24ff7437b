//! What the library tells of itself: the catalogue of its events, and the trait of those who count them.
//!
//! One place, because operators build searches and alerts on these names; a name that stands here does not
//! change without a line in the changelog. Each event is one [`TelemetryEvent`]; it becomes one record of
//! `tracing`, as the table says, and goes to every [`Collector`] of the session's configuration
//! ([`ConfigBuilder::collector`](crate::config::ConfigBuilder::collector)). What a session has counted by
//! itself is in [`Session::metrics`](crate::Session::metrics).
//!
//! Every record has the field `session`: the platform's name, and in a pool the connection id behind it, as in
//! `deribit/main`. Those of `mainstay::limit` have `limiter` instead, since a [`Limiter`](crate::Limiter) may be
//! shared by many sessions: a session's own bears the session's name. Those of `mainstay::gate` have
//! `gate`, the name of a [`Gate`](crate::Gate), likewise. Those of `mainstay::pool` have `pool`, the
//! name of a [`Pool`](crate::Pool), which has collectors of its own. Times end in `_us` and are in microseconds.
//! Fields in parentheses are absent where there is nothing to say. `closed` is of level info where the end was asked for here
//! (`cause = "local"`).
//!
//! | target | level | event | further fields |
//! |---|---|---|---|
//! | `mainstay::session` | info | `state changed` | `state` (`epoch`) |
//! | `mainstay::session` | info | `reconnected` | `epoch` `down_us` |
//! | `mainstay::session` | info | `ownership received` | `owner` `streams` `waiting` `under_way_us` (`epoch`) |
//! | `mainstay::connection` | info | `upgraded` | `host` `port` `connect_time_us` `dns_us` `tcp_us` `tls_us` `upgrade_us` |
//! | `mainstay::connection` | info | `opened` | `epoch` `host` `port` `connect_time_us` |
//! | `mainstay::connection` | warn | `closed` | `epoch` `host` `port` `cause` `detail` `open_us` |
//! | `mainstay::connection` | warn | `not opened` | `cause` `detail` |
//! | `mainstay::connection` | info | `attempt postponed` | `why` (`wait_us`) |
//! | `mainstay::connection` | info | `endpoint changed` | `endpoint` `previous` `score` `why` |
//! | `mainstay::message` | trace | `received` | `epoch` `frames` `bytes` |
//! | `mainstay::message` | trace | `sent` | `epoch` `frames` `bytes` |
//! | `mainstay::heartbeat` | debug | `pong` | `epoch` `rtt_us` |
//! | `mainstay::heartbeat` | debug | `answered` | `epoch` |
//! | `mainstay::heartbeat` | warn | `missed` | `epoch` `quiet_us` |
//! | `mainstay::request` | debug | `tracked` | `epoch` `id` `method` `in_flight` (`limit_us`) |
//! | `mainstay::request` | debug | `resolved` | `epoch` `id` `in_flight` `round_trip_us` |
//! | `mainstay::request` | debug | `answered late` | `epoch` `id` `in_flight` `round_trip_us` |
//! | `mainstay::request` | warn | `timed out` | `id` `method` `limit_us` `in_flight` |
//! | `mainstay::request` | warn | `lost` | `epoch` `count` `ids` `cause` |
//! | `mainstay::subscription` | debug | `added` | `channel` `count` |
//! | `mainstay::subscription` | debug | `removed` | `channel` `count` |
//! | `mainstay::subscription` | info | `restored` | `epoch` `count` `channels` |
//! | `mainstay::subscription` | warn | `restoration failed` | `epoch` `channel` |
//! | `mainstay::subscription` | warn | `stale` | `epoch` `channel` `rung` `quiet_us` |
//! | `mainstay::subscription` | info | `fresh` | `epoch` `channel` `quiet_us` |
//! | `mainstay::session` | info | `market said` | `market` `who` |
//! | `mainstay::gap` | warn | `gap` | `epoch` `cause` `subscriptions` |
//! | `mainstay::queue` | warn | `filling` | `queue` `waiting` `capacity` (`bytes`) (`max_bytes`) (`channel`) |
//! | `mainstay::limit` | trace | `consumed` | `pool` `count` `cost` `tokens` |
//! | `mainstay::limit` | trace | `refilled` | `pool` `before` `after` `refill` `every_us` |
//! | `mainstay::limit` | debug | `queued` | `pool` `queued` `capacity` |
//! | `mainstay::limit` | warn | `queue full` | `pool` `capacity` |
//! | `mainstay::limit` | warn | `expired` | `pool` `count` |
//! | `mainstay::limit` | info | `pressure changed` | `pool` `level` `previous` `queued` `capacity` |
//! | `mainstay::limit` | warn | `limited by the venue` | `rest_us` |
//! | `mainstay::gate` | warn | `breaker changed` | `endpoint` `state` `previous` |
//! | `mainstay::pool` | debug | `routed` | `pool_size` `health` `selected` |
//! | `mainstay::pool` | debug | `health` | `pool_size` `avg_health` |
//! | `mainstay::pool` | warn | `failover` | `attempt` `failed` `reason` |
//! | `mainstay::pool` | error | `hook panicked` | `connection` `hook` |
//! | `mainstay::recording` | warn | `recording interrupted` | `path` `operation` `error` `remedy` |
//! | `mainstay::error` | debug | `occurred` | `context` `reason` |
//! | `mainstay::hook` | error | `hook failed` | `hook` `detail` |
//! | `mainstay::telemetry` | error | `collector panicked` | `during` |
//!
//! Frames are told of in batches, those of one turn of the connection's loop, never one by one. `reason` is
//! a heading of [`error::guide`](crate::error::guide), `cause` the label of a
//! [`CloseReason`](crate::close::CloseReason) or [`GapCause`](crate::close::GapCause); both are constant words.
//! Channels and connection ids are shown as they are: keep credentials out of names.
//!
//! # Spans
//!
//! | span | target | level | from, to | fields |
//! |---|---|---|---|---|
//! | `rpc` | `mainstay::request` | info | the call, its answer or its error | `otel.name` `otel.kind` `otel.status_code` `rpc.system.name` `rpc.method` `rpc.response.status_code` `jsonrpc.protocol.version` `jsonrpc.request.id` `server.address` `server.port` `error.type` `fate` |
//! | `connect` | `mainstay::connection` | info | an attempt, the live session or the failure | `session` `otel.kind` `otel.status_code` `server.address` `server.port` `epoch` `error.type` |
//! | `connect.dns` `connect.tcp` `connect.tls` `connect.upgrade` `connect.auth` `connect.restore` `connect.first_data` | `mainstay::connection` | info | a part of the attempt | `otel.status_code` `error.type` |
//! | `outage` | `mainstay::session` | info | the loss of a live session, live again or the session's end | `session` `otel.status_code` `cause` `attempts` `epoch` `ended_by` |
//! | `gap` | `mainstay::gap` | debug | what one subscription misses, the interruption until it goes on | `session` `channel` `cause` `epoch` |
//! | `loss` | `mainstay::gap` | debug | what one subscription loses while its stream goes on, the first lost message until it has caught up | `session` `channel` `cause` `lost` |
//! | `batch` | `mainstay::message` | debug | a batch of received frames while it is handed to its subscribers | `session` `epoch` `frames` `bytes` |
//! | `message` | `mainstay::actor` | debug | an actor at work on one control message | `otel.name` `session` `actor.name` `actor.id` `message` |
//!
//! - `rpc` is a child of its caller's span, and is called by the method's name (`otel.name`). The session's own
//!   requests are children of the part of `connect` that makes them; a renewal's are roots. `fate` is
//!   `answered`, `not_sent`, `unknown`, or `given_up` if the caller dropped its future; `error.type` is the
//!   venue's error number or a heading of [`error::guide`](crate::error::guide). A batch has a span for each call.
//! - `outage` is the root of one trace: the attempts are its children, and `closed`, `not opened`, `gap` and
//!   `reconnected` are events in it. It, and each attempt, follow from the supervisor's `child.start`, and that follows
//!   from it. A close of our own that ends the session is none.
//! - `connect.auth` are all steps of the platform's opening; it and `connect.restore` are absent without a
//!   platform, `connect.first_data` also without the limit of that name, `connect.dns` with a connector of the user's.
//! - `gap` is a root that follows from the outage, if it is part of one: there is one for each subscription that is
//!   interrupted. `epoch` is the connection on which it goes on, and is absent if it does not.
//! - `loss` is a root and follows from nothing, since its cause lies in the program (`lagged`: the consumer is slow) or in the
//!   messages (`undecodable`, `sequence_break`). There is at most one a second for each subscription and each of the two,
//!   however many messages and gaps it stands for. What a slow consumer loses ends when less than three fifths of its queue
//!   are taken, what it finds itself with its next batch, and both with what comes after a second, so that a flood that
//!   lasts has one span after the other. `lost` are the messages lost since the one before it ended.
//! - After a break that only a fresh subscription mends there is a `gap` from the break until the snapshot has come.
//! - `message` is a root, and follows from the span that the message was sent in, if there was one; `message` is
//!   its kind. It is called by actor and kind (`otel.name`). The Recorder has none.
//! - `batch` there is for those who ask, one in as many as they say
//!   ([`batch_spans`](crate::config::ConfigBuilder::batch_spans)); it is a root.
//! - There is no span for a data frame, and none is made that no subscriber wants. Waiting at a gate is part of `connect`.
//!
//! # Coming from `zen_websocket` or `websockex_nova`
//!
//! | their event | here | what differs |
//! |---|---|---|
//! | `connection.upgrade`, `connection.websocket_upgrade` | `upgraded` | host and port instead of the url, whose query may hold a credential; headers neither |
//! | `connection.open`, `connection.close` | `opened`, `closed`, `not opened` | the durations are `connect_time_us` and `open_us`; session and epoch are the connection's id |
//! | `connection.reconnected` | `reconnected` | |
//! | `ownership_transfer.received` | `ownership received` | of [`Session::hand_over`](crate::Session::hand_over); clones of a handle need none, and the socket keeps its owner |
//! | `message.sent`, `message.received` | `sent`, `received` | for a batch: a record for each frame costs more than the frame. Frames' types and order are in a recording, the time to the consumer in [`Statistics::delivery`](crate::Statistics) |
//! | `error.occurred` | `occurred` | |
//! | `heartbeat.pong` | `pong`, `answered`, `missed` | the type is the event's name: ours, the venue's, and none |
//! | `rate_limiter.consume`, `.refill` | `consumed`, `refilled` | a refill is noticed by who comes next; no timer ticks for it |
//! | `rate_limiter.queue`, `.queue_full`, `.pressure` | `queued`, `queue full`, `pressure changed` | the ratio is `queued` to `capacity` |
//! | `request_correlator.track`, `.resolve` | `tracked`, `resolved` | the count is `in_flight` |
//! | `request_correlator.timeout` | `timed out` | the count is `in_flight`, without it |
//! | `request_correlator.fail_all` | `lost` | the `ids` are of one connection |
//! | `pool.route`, `pool.health` | `routed`, `health` | `selected` is a connection id; a session that is not live counts 0 in the mean, not 100 |
//! | `pool.failover` | `failover` | the connection id instead of a process |
//! | `subscription_manager.add`, `.remove` | `added`, `removed` | |
//! | `subscription_manager.restore`, `subscription.restored`, `.restoration_failed` | `restored`, `restoration failed` | the venue's confirmation, not our request |
//!
//! | "warn at 0.8" of the buffers that their documents promise | `filling` | nobody is throttled: what happens to a full queue is its own rule, see [`Overflow`](crate::config::Overflow) |
//!
//! `filling` is told of once when four fifths of a queue are taken, of its items or of its bytes, and again when less than three
//! fifths were taken meanwhile, at most once a second for each queue. `queue` is `messages` (those that wait for a
//! consumer, with the `channel`), `offline` (what waits for the session to be live) or `requests` (what waits to be
//! written). The limiter's own queue has `pressure changed`.
//!
//! The supervisors' own events have the target `supervisors`; see that crate.
//!
//! Invariants: no payload, no credential, no header value, no query of a url is ever a field; a collector
//! that panics harms nobody.

mod event;
pub(crate) mod spans;

#[cfg(test)]
mod catalogue;

use std::fmt;

pub use event::TelemetryEvent;

/// Target of faults of a user's hooks.
pub const HOOK: &str = "mainstay::hook";
/// Target of session-wide events.
pub const SESSION: &str = "mainstay::session";
/// Target of events about one connection.
pub const CONNECTION: &str = "mainstay::connection";
/// Target of events about rate limits.
pub const LIMIT: &str = "mainstay::limit";
/// Target of events about a gate, through which attempts to connect pass.
pub const GATE: &str = "mainstay::gate";
/// Target of events about a pool of sessions.
pub const POOL: &str = "mainstay::pool";
/// Target of batches of frames.
pub const MESSAGE: &str = "mainstay::message";
/// Target of events about a connection's heartbeats.
pub const HEARTBEAT: &str = "mainstay::heartbeat";
/// Target of events about requests.
pub const REQUEST: &str = "mainstay::request";
/// Target of events about subscriptions.
pub const SUBSCRIPTION: &str = "mainstay::subscription";
/// Target of events about a session's recording.
pub const RECORDING: &str = "mainstay::recording";
/// Target of queues that fill up.
pub const QUEUE: &str = "mainstay::queue";
/// Target of announced gaps.
pub const GAP: &str = "mainstay::gap";
/// Target of errors, whether somebody was told of them or not.
pub const ERROR: &str = "mainstay::error";
/// Target of spans about actors' messages.
pub const ACTOR: &str = "mainstay::actor";
/// Target of what goes wrong with telemetry itself.
pub const TELEMETRY: &str = "mainstay::telemetry";

/// Hears every event of the sessions that it is configured for, to count or to export it.
///
/// It is called where the thing happens, also in the connection's own loop, there once for a batch of
/// frames: let it count and return, and do slow work elsewhere. Should it panic, the panic is contained
/// and reported, and it is called again for the next event.
///
/// ```
/// use std::sync::atomic::{AtomicU64, Ordering};
/// use mainstay::telemetry::{Collector, TelemetryEvent};
///
/// #[derive(Debug, Default)]
/// struct Losses(AtomicU64);
///
/// impl Collector for Losses {
///     fn on_event(&self, _session: &str, event: &TelemetryEvent<'_>) {
///         if let TelemetryEvent::Closed { .. } = event {
///             self.0.fetch_add(1, Ordering::Relaxed);
///         }
///     }
/// }
/// ```
pub trait Collector: fmt::Debug + Send + Sync + 'static {
    /// Something has happened in the session of this name, or in the limiter, gate or pool of this name if the
    /// event's target is [`LIMIT`], [`GATE`] or [`POOL`].
    fn on_event(&self, session: &str, event: &TelemetryEvent<'_>);
}
