//! The events themselves, and the record that each becomes.
//!
//! Apart from the catalogue because that is read by people; `catalogue` holds the two together.
//!
//! Invariants: an event is plain data, borrowed from where it happened; one record for each; what nobody
//! records is not formatted.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tracing::{debug, error, info, trace, warn};

/// Something that has happened in a session. The table of [`telemetry`](super) has their names.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the fields are those of the table")]
pub enum TelemetryEvent<'a> {
    /// The session is in another state.
    StateChanged {
        state: &'static str,
        epoch: Option<u64>,
    },
    /// The session is live again, after `down` without being so.
    Reconnected { epoch: u64, down: Duration },
    /// Another owner, who calls itself `owner`, has the session, `under_way` after the one before let go of it;
    /// `waiting` messages were kept for it in the queues of `streams` subscriptions.
    OwnershipReceived {
        owner: &'a str,
        epoch: Option<u64>,
        streams: usize,
        waiting: usize,
        under_way: Duration,
    },
    /// The opening handshake has succeeded; from the first question to the name server to here it took
    /// the sum of the four phases.
    Upgraded {
        host: &'a str,
        port: u16,
        dns: Duration,
        tcp: Duration,
        tls: Duration,
        upgrade: Duration,
    },
    /// A connection is open, `connect_time` after the first question to the name server.
    Opened {
        epoch: u64,
        host: &'a str,
        port: u16,
        connect_time: Duration,
    },
    /// A connection has ended, having been open for `open`.
    Closed {
        epoch: u64,
        host: &'a str,
        port: u16,
        cause: &'static str,
        detail: &'a str,
        open: Duration,
    },
    /// An attempt did not lead to a connection.
    NotOpened {
        cause: &'static str,
        detail: &'a str,
    },
    /// An attempt to connect waits at the gate, for `why`: `limit` or `breaker`. For how long, if that is known.
    AttemptPostponed {
        why: &'static str,
        wait: Option<Duration>,
    },
    /// The session tries another endpoint than the time before, `score` being how it stands. `why` is `failover`, or
    /// `fail_back` where a preferred one answers again.
    EndpointChanged {
        endpoint: &'a str,
        previous: &'a str,
        score: u8,
        why: &'static str,
    },
    /// A gate's circuit breaker for `endpoint`, a host and port, is in another state.
    BreakerChanged {
        endpoint: &'a str,
        state: &'static str,
        previous: &'static str,
    },
    /// A batch of frames was read; `bytes` of payload.
    Received { epoch: u64, frames: u64, bytes: u64 },
    /// A batch of frames was handed to the socket; `bytes` of payload. Pongs that answer pings are not among them.
    Sent { epoch: u64, frames: u64, bytes: u64 },
    /// A heartbeat's ping was answered.
    Pong { epoch: u64, rtt: Duration },
    /// A heartbeat of the venue's was answered.
    HeartbeatAnswered { epoch: u64 },
    /// Nothing arrived for `quiet`, and a ping went unanswered: the connection is given up.
    HeartbeatMissed { epoch: u64, quiet: Duration },
    /// A request is written and waits for its answer, with `in_flight` others and itself.
    RequestTracked {
        epoch: u64,
        id: u64,
        method: &'a str,
        in_flight: usize,
        limit: Option<Duration>,
    },
    /// A request was answered, `round_trip` after it was written.
    RequestResolved {
        epoch: u64,
        id: u64,
        in_flight: usize,
        round_trip: Duration,
    },
    /// A request was answered, `round_trip` after it was written, when its caller had gone.
    RequestAnsweredLate {
        epoch: u64,
        id: u64,
        in_flight: usize,
        round_trip: Duration,
    },
    /// A request that was written has not been answered within its limit; `in_flight` others still wait.
    RequestTimedOut {
        id: u64,
        method: &'a str,
        limit: Duration,
        in_flight: usize,
    },
    /// The connection ended before these requests were answered, by their ids.
    RequestsLost {
        epoch: u64,
        ids: &'a [u64],
        cause: &'static str,
    },
    /// The user wants one channel more; `count` in all.
    SubscriptionAdded { channel: &'a str, count: usize },
    /// The user wants one channel less; `count` are left.
    SubscriptionRemoved { channel: &'a str, count: usize },
    /// The venue has confirmed channels again that an earlier connection had.
    SubscriptionsRestored {
        epoch: u64,
        channels: &'a [Arc<str>],
    },
    /// The venue refuses for good what an earlier connection had.
    RestorationFailed { epoch: u64, channel: &'a str },
    /// A channel's data is late: none for `quiet`. `rung` is what is done about it now: `stale` (nothing yet),
    /// `resubscribe`, `probe` or `reconnect`.
    ChannelStale {
        epoch: u64,
        channel: &'a str,
        rung: &'static str,
        quiet: Duration,
    },
    /// Data of a channel that was stale comes again, after `quiet` without any.
    ChannelFresh {
        epoch: u64,
        channel: &'a str,
        quiet: Duration,
    },
    /// Somebody has said that the market is `open` or `closed`; `who`: `venue` or `user`.
    MarketSaid {
        market: &'static str,
        who: &'static str,
    },
    /// Subscriptions were told that they may have missed something.
    Gap {
        epoch: u64,
        cause: &'static str,
        subscriptions: usize,
    },
    /// Four fifths of a queue are taken, of its items or of its bytes; `queue`: `messages`, `offline` or `requests`.
    QueueFilling {
        queue: &'static str,
        channel: Option<&'a str>,
        waiting: usize,
        capacity: usize,
        bytes: Option<usize>,
        max_bytes: Option<usize>,
    },
    /// Requests were paid for out of a limiter's pool, `count` at once; `tokens` are left.
    LimitConsumed {
        pool: &'a str,
        count: u64,
        cost: u64,
        tokens: u64,
    },
    /// Time has given back to a limiter's pool, `refill` for every `every`; noticed by who comes next.
    LimitRefilled {
        pool: &'a str,
        before: u64,
        after: u64,
        refill: u64,
        every: Duration,
    },
    /// A request has to wait for its turn, and is one of `queued`.
    LimitQueued {
        pool: &'a str,
        queued: usize,
        capacity: usize,
    },
    /// A request was refused because the queue for its turn is full.
    LimitQueueFull { pool: &'a str, capacity: usize },
    /// Requests whose turn did not come in time were not sent.
    LimitExpired { pool: &'a str, count: u64 },
    /// A limiter's queue is fuller, or emptier, by a level.
    LimitPressure {
        pool: &'a str,
        level: &'static str,
        previous: &'static str,
        queued: usize,
        capacity: usize,
    },
    /// The venue says that we are too fast: all but the reserved lane rests.
    LimitedByVenue { rest: Duration },
    /// The disk refuses the recording, or writes it (`operation` is `queue`) less fast than frames come, which are left out.
    RecordingInterrupted {
        path: &'a str,
        operation: &'static str,
        error: &'a str,
        remedy: &'static str,
    },
    /// An error, by its heading in the guide. `context` is `connect`, `connection`, `request` or `subscription`.
    ErrorOccurred {
        context: &'static str,
        reason: &'static str,
    },
    /// A hook of the user's panicked, or asked for what could not be done.
    HookFailed { hook: &'static str, detail: &'a str },
    /// A pool has chosen the session that a request goes to, `selected` by its connection id, out of
    /// `pool_size`; `health` is its score.
    PoolRouted {
        pool_size: usize,
        health: u8,
        selected: &'a str,
    },
    /// A pool was asked how it is: the mean of its sessions' scores, where one that is not live counts 0.
    PoolHealth { pool_size: usize, avg_health: f64 },
    /// An attempt, counted from 1, has not led to an answer on the session `failed`, and the request may go to
    /// another one. `reason` is a heading of the guide, or `slow` if the first one is still waited for.
    PoolFailover {
        attempt: u32,
        failed: &'a str,
        reason: &'static str,
    },
    /// A hook of a pool's user panicked; `hook` is `on_connect` or `on_disconnect`.
    PoolHookPanicked {
        connection: &'a str,
        hook: &'static str,
    },
    /// A collector panicked at the event of this name; told to `tracing` alone.
    CollectorPanicked { during: &'static str },
}

impl TelemetryEvent<'_> {
    /// Its name, as in the table; unique together with its target.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::StateChanged { .. } => "state changed",
            Self::Reconnected { .. } => "reconnected",
            Self::OwnershipReceived { .. } => "ownership received",
            Self::Upgraded { .. } => "upgraded",
            Self::Opened { .. } => "opened",
            Self::Closed { .. } => "closed",
            Self::NotOpened { .. } => "not opened",
            Self::Received { .. } => "received",
            Self::Sent { .. } => "sent",
            Self::Pong { .. } => "pong",
            Self::HeartbeatAnswered { .. } => "answered",
            Self::HeartbeatMissed { .. } => "missed",
            Self::RequestTracked { .. } => "tracked",
            Self::RequestResolved { .. } => "resolved",
            Self::RequestAnsweredLate { .. } => "answered late",
            Self::RequestTimedOut { .. } => "timed out",
            Self::RequestsLost { .. } => "lost",
            Self::SubscriptionAdded { .. } => "added",
            Self::SubscriptionRemoved { .. } => "removed",
            Self::SubscriptionsRestored { .. } => "restored",
            Self::RestorationFailed { .. } => "restoration failed",
            Self::ChannelStale { .. } => "stale",
            Self::ChannelFresh { .. } => "fresh",
            Self::MarketSaid { .. } => "market said",
            Self::Gap { .. } => "gap",
            Self::QueueFilling { .. } => "filling",
            Self::LimitConsumed { .. } => "consumed",
            Self::LimitRefilled { .. } => "refilled",
            Self::LimitQueued { .. } => "queued",
            Self::LimitQueueFull { .. } => "queue full",
            Self::LimitExpired { .. } => "expired",
            Self::LimitPressure { .. } => "pressure changed",
            Self::LimitedByVenue { .. } => "limited by the venue",
            Self::AttemptPostponed { .. } => "attempt postponed",
            Self::EndpointChanged { .. } => "endpoint changed",
            Self::BreakerChanged { .. } => "breaker changed",
            Self::RecordingInterrupted { .. } => "recording interrupted",
            Self::ErrorOccurred { .. } => "occurred",
            Self::HookFailed { .. } => "hook failed",
            Self::PoolRouted { .. } => "routed",
            Self::PoolHealth { .. } => "health",
            Self::PoolFailover { .. } => "failover",
            Self::PoolHookPanicked { .. } => "hook panicked",
            Self::CollectorPanicked { .. } => "collector panicked",
        }
    }

    /// Its target, as in the table.
    #[must_use]
    pub fn target(&self) -> &'static str {
        match self {
            Self::StateChanged { .. }
            | Self::Reconnected { .. }
            | Self::MarketSaid { .. }
            | Self::OwnershipReceived { .. } => super::SESSION,
            Self::Upgraded { .. }
            | Self::Opened { .. }
            | Self::Closed { .. }
            | Self::NotOpened { .. } => super::CONNECTION,
            Self::Received { .. } | Self::Sent { .. } => super::MESSAGE,
            Self::Pong { .. } | Self::HeartbeatAnswered { .. } | Self::HeartbeatMissed { .. } => {
                super::HEARTBEAT
            }
            Self::RequestTracked { .. }
            | Self::RequestResolved { .. }
            | Self::RequestAnsweredLate { .. }
            | Self::RequestTimedOut { .. }
            | Self::RequestsLost { .. } => super::REQUEST,
            Self::SubscriptionAdded { .. }
            | Self::SubscriptionRemoved { .. }
            | Self::SubscriptionsRestored { .. }
            | Self::ChannelStale { .. }
            | Self::ChannelFresh { .. }
            | Self::RestorationFailed { .. } => super::SUBSCRIPTION,
            Self::Gap { .. } => super::GAP,
            Self::QueueFilling { .. } => super::QUEUE,
            Self::LimitConsumed { .. }
            | Self::LimitRefilled { .. }
            | Self::LimitQueued { .. }
            | Self::LimitQueueFull { .. }
            | Self::LimitExpired { .. }
            | Self::LimitPressure { .. }
            | Self::LimitedByVenue { .. } => super::LIMIT,
            Self::AttemptPostponed { .. } | Self::EndpointChanged { .. } => super::CONNECTION,
            Self::BreakerChanged { .. } => super::GATE,
            Self::RecordingInterrupted { .. } => super::RECORDING,
            Self::ErrorOccurred { .. } => super::ERROR,
            Self::HookFailed { .. } => super::HOOK,
            Self::PoolRouted { .. }
            | Self::PoolHealth { .. }
            | Self::PoolFailover { .. }
            | Self::PoolHookPanicked { .. } => super::POOL,
            Self::CollectorPanicked { .. } => super::TELEMETRY,
        }
    }

    /// Makes its record, of the session of this name, or of the limiter, gate or pool if it is one's event.
    pub(crate) fn record(&self, session: &str) {
        let (limiter, gate, pool_name) = (session, session, session);
        // Level, target and message are part of a call site, so there is one for each.
        macro_rules! record {
            ($level:ident, $target:ident, $name:literal, $($field:ident = $value:expr),* $(,)?) => {
                $level!(target: super::$target, session, $($field = $value,)* $name)
            };
        }
        macro_rules! limit {
            ($level:ident, $name:literal, $($field:ident = $value:expr),* $(,)?) => {
                $level!(target: super::LIMIT, limiter, $($field = $value,)* $name)
            };
        }
        macro_rules! pool {
            ($level:ident, $name:literal, $($field:ident = $value:expr),* $(,)?) => {
                $level!(target: super::POOL, pool = pool_name, $($field = $value,)* $name)
            };
        }
        match *self {
            Self::StateChanged { state, epoch } => {
                record!(info, SESSION, "state changed", epoch = epoch, state = state);
            }
            Self::Reconnected { epoch, down } => {
                record!(
                    info,
                    SESSION,
                    "reconnected",
                    epoch = epoch,
                    down_us = micros(down)
                );
            }
            Self::OwnershipReceived {
                owner,
                epoch,
                streams,
                waiting,
                under_way,
            } => record!(
                info,
                SESSION,
                "ownership received",
                epoch = epoch,
                owner = owner,
                streams = streams,
                waiting = waiting,
                under_way_us = micros(under_way),
            ),
            Self::Upgraded {
                host,
                port,
                dns,
                tcp,
                tls,
                upgrade,
            } => record!(
                info,
                CONNECTION,
                "upgraded",
                host = host,
                port = port,
                connect_time_us = micros(dns + tcp + tls + upgrade),
                dns_us = micros(dns),
                tcp_us = micros(tcp),
                tls_us = micros(tls),
                upgrade_us = micros(upgrade),
            ),
            Self::Opened {
                epoch,
                host,
                port,
                connect_time,
            } => record!(
                info,
                CONNECTION,
                "opened",
                epoch = epoch,
                host = host,
                port = port,
                connect_time_us = micros(connect_time),
            ),
            Self::Closed {
                epoch,
                host,
                port,
                cause,
                detail,
                open,
            } => {
                macro_rules! closed {
                    ($level:ident) => {
                        record!(
                            $level,
                            CONNECTION,
                            "closed",
                            epoch = epoch,
                            host = host,
                            port = port,
                            cause = cause,
                            detail = detail,
                            open_us = micros(open),
                        )
                    };
                }
                match cause {
                    // Our own end, which was asked for.
                    "local" => closed!(info),
                    _ => closed!(warn),
                }
            }
            Self::NotOpened { cause, detail } => {
                record!(
                    warn,
                    CONNECTION,
                    "not opened",
                    cause = cause,
                    detail = detail
                );
            }
            Self::Received {
                epoch,
                frames,
                bytes,
            } => {
                record!(
                    trace,
                    MESSAGE,
                    "received",
                    epoch = epoch,
                    frames = frames,
                    bytes = bytes
                );
            }
            Self::Sent {
                epoch,
                frames,
                bytes,
            } => record!(
                trace,
                MESSAGE,
                "sent",
                epoch = epoch,
                frames = frames,
                bytes = bytes
            ),
            Self::Pong { epoch, rtt } => {
                record!(
                    debug,
                    HEARTBEAT,
                    "pong",
                    epoch = epoch,
                    rtt_us = micros(rtt)
                );
            }
            Self::HeartbeatAnswered { epoch } => {
                record!(debug, HEARTBEAT, "answered", epoch = epoch);
            }
            Self::HeartbeatMissed { epoch, quiet } => {
                record!(
                    warn,
                    HEARTBEAT,
                    "missed",
                    epoch = epoch,
                    quiet_us = micros(quiet)
                );
            }
            Self::RequestTracked {
                epoch,
                id,
                method,
                in_flight,
                limit,
            } => record!(
                debug,
                REQUEST,
                "tracked",
                epoch = epoch,
                id = id,
                method = method,
                in_flight = in_flight,
                limit_us = limit.map(micros),
            ),
            Self::RequestResolved {
                epoch,
                id,
                in_flight,
                round_trip,
            } => record!(
                debug,
                REQUEST,
                "resolved",
                epoch = epoch,
                id = id,
                in_flight = in_flight,
                round_trip_us = micros(round_trip),
            ),
            Self::RequestAnsweredLate {
                epoch,
                id,
                in_flight,
                round_trip,
            } => record!(
                debug,
                REQUEST,
                "answered late",
                epoch = epoch,
                id = id,
                in_flight = in_flight,
                round_trip_us = micros(round_trip),
            ),
            Self::RequestTimedOut {
                id,
                method,
                limit,
                in_flight,
            } => record!(
                warn,
                REQUEST,
                "timed out",
                id = id,
                method = method,
                limit_us = micros(limit),
                in_flight = in_flight,
            ),
            Self::RequestsLost { epoch, ids, cause } => record!(
                warn,
                REQUEST,
                "lost",
                epoch = epoch,
                count = ids.len(),
                ids = tracing::field::display(List(ids)),
                cause = cause
            ),
            Self::SubscriptionAdded { channel, count } => {
                record!(
                    debug,
                    SUBSCRIPTION,
                    "added",
                    channel = channel,
                    count = count
                );
            }
            Self::SubscriptionRemoved { channel, count } => {
                record!(
                    debug,
                    SUBSCRIPTION,
                    "removed",
                    channel = channel,
                    count = count
                );
            }
            Self::SubscriptionsRestored { epoch, channels } => record!(
                info,
                SUBSCRIPTION,
                "restored",
                epoch = epoch,
                count = channels.len(),
                channels = tracing::field::display(List(channels)),
            ),
            Self::RestorationFailed { epoch, channel } => record!(
                warn,
                SUBSCRIPTION,
                "restoration failed",
                epoch = epoch,
                channel = channel,
            ),
            Self::ChannelStale {
                epoch,
                channel,
                rung,
                quiet,
            } => record!(
                warn,
                SUBSCRIPTION,
                "stale",
                epoch = epoch,
                channel = channel,
                rung = rung,
                quiet_us = micros(quiet)
            ),
            Self::ChannelFresh {
                epoch,
                channel,
                quiet,
            } => record!(
                info,
                SUBSCRIPTION,
                "fresh",
                epoch = epoch,
                channel = channel,
                quiet_us = micros(quiet)
            ),
            Self::MarketSaid { market, who } => {
                record!(info, SESSION, "market said", market = market, who = who);
            }
            Self::Gap {
                epoch,
                cause,
                subscriptions,
            } => record!(
                warn,
                GAP,
                "gap",
                epoch = epoch,
                cause = cause,
                subscriptions = subscriptions,
            ),
            Self::QueueFilling {
                queue,
                channel,
                waiting,
                capacity,
                bytes,
                max_bytes,
            } => record!(
                warn,
                QUEUE,
                "filling",
                queue = queue,
                channel = channel,
                waiting = waiting,
                capacity = capacity,
                bytes = bytes,
                max_bytes = max_bytes,
            ),
            Self::LimitConsumed {
                pool,
                count,
                cost,
                tokens,
            } => limit!(
                trace,
                "consumed",
                pool = pool,
                count = count,
                cost = cost,
                tokens = tokens,
            ),
            Self::LimitRefilled {
                pool,
                before,
                after,
                refill,
                every,
            } => limit!(
                trace,
                "refilled",
                pool = pool,
                before = before,
                after = after,
                refill = refill,
                every_us = micros(every),
            ),
            Self::LimitQueued {
                pool,
                queued,
                capacity,
            } => limit!(
                debug,
                "queued",
                pool = pool,
                queued = queued,
                capacity = capacity,
            ),
            Self::LimitQueueFull { pool, capacity } => {
                limit!(warn, "queue full", pool = pool, capacity = capacity);
            }
            Self::LimitExpired { pool, count } => {
                limit!(warn, "expired", pool = pool, count = count);
            }
            Self::LimitPressure {
                pool,
                level,
                previous,
                queued,
                capacity,
            } => limit!(
                info,
                "pressure changed",
                pool = pool,
                level = level,
                previous = previous,
                queued = queued,
                capacity = capacity,
            ),
            Self::LimitedByVenue { rest } => {
                limit!(warn, "limited by the venue", rest_us = micros(rest));
            }
            Self::AttemptPostponed { why, wait } => record!(
                info,
                CONNECTION,
                "attempt postponed",
                why = why,
                wait_us = wait.map(micros),
            ),
            Self::EndpointChanged {
                endpoint,
                previous,
                score,
                why,
            } => record!(
                info,
                CONNECTION,
                "endpoint changed",
                endpoint = endpoint,
                previous = previous,
                score = score,
                why = why,
            ),
            Self::BreakerChanged {
                endpoint,
                state,
                previous,
            } => warn!(
                target: super::GATE,
                gate,
                endpoint = endpoint,
                state = state,
                previous = previous,
                "breaker changed"
            ),
            Self::RecordingInterrupted {
                path,
                operation,
                error,
                remedy,
            } => record!(
                warn,
                RECORDING,
                "recording interrupted",
                path = path,
                operation = operation,
                error = error,
                remedy = remedy,
            ),
            Self::ErrorOccurred { context, reason } => {
                record!(debug, ERROR, "occurred", context = context, reason = reason);
            }
            Self::HookFailed { hook, detail } => {
                record!(error, HOOK, "hook failed", hook = hook, detail = detail);
            }
            Self::PoolRouted {
                pool_size,
                health,
                selected,
            } => pool!(
                debug,
                "routed",
                pool_size = pool_size,
                health = health,
                selected = selected,
            ),
            Self::PoolHealth {
                pool_size,
                avg_health,
            } => pool!(
                debug,
                "health",
                pool_size = pool_size,
                avg_health = avg_health,
            ),
            Self::PoolFailover {
                attempt,
                failed,
                reason,
            } => pool!(
                warn,
                "failover",
                attempt = attempt,
                failed = failed,
                reason = reason,
            ),
            Self::PoolHookPanicked { connection, hook } => {
                pool!(error, "hook panicked", connection = connection, hook = hook);
            }
            Self::CollectorPanicked { during } => {
                record!(error, TELEMETRY, "collector panicked", during = during);
            }
        }
    }
}

/// Names or ids in a row; of very many the first.
struct List<'a, T>(&'a [T]);

impl<T: fmt::Display> fmt::Display for List<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, name) in self.0.iter().take(LISTED).enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}{name}")?;
        }
        match self.0.len().saturating_sub(LISTED) {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

/// So many names or ids stand in one record; the event has all of them.
const LISTED: usize = 1000;

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
