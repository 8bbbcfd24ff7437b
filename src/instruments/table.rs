//! The table itself: each metric with where its numbers come from.
//!
//! Apart from what reads it because this is what changes when there is more to tell.
//!
//! Invariant: a row's attributes are those that its function gives, in this order.

use super::{Instrument, Source};
use crate::protocol::breaker::BreakerState;

/// Every metric of the library.
pub const TABLE: &[Instrument] = &[
    Instrument {
        name: "mainstay.session.connections",
        unit: "{connection}",
        attributes: &["session", "state"],
        description: "Sessions by where their connection stands; those of one name together.",
        source: Source::UpDownCounter(|look, tell| {
            for (name, tally) in &look.sessions {
                for (state, count) in &tally.held.sessions {
                    tell.of(*count, &[name.into(), (*state).into()]);
                }
            }
        }),
    },
    Instrument {
        name: "mainstay.session.opened",
        unit: "{connection}",
        attributes: &["session"],
        description: "Connections that opened.",
        source: Source::Counter(|look, tell| {
            tell.per_session(look, |counted| counted.opened);
        }),
    },
    Instrument {
        name: "mainstay.session.not_opened",
        unit: "{attempt}",
        attributes: &["session"],
        description: "Attempts that led to no connection.",
        source: Source::Counter(|look, tell| {
            tell.per_session(look, |counted| counted.not_opened);
        }),
    },
    Instrument {
        name: "mainstay.session.reconnects",
        unit: "{reconnect}",
        attributes: &["session", "layer", "cause"],
        description: "Times that a connection was sought again, by who seeks it and what ended the one before, or the attempt.",
        source: Source::Counter(|look, tell| {
            for (name, tally) in &look.sessions {
                for ((layer, cause), count) in &tally.counted.reconnects {
                    let attributes = [name.into(), (*layer).into(), (*cause).into()];
                    tell.of(*count, &attributes);
                }
            }
        }),
    },
    Instrument {
        name: "mainstay.session.outage.duration",
        unit: "s",
        attributes: &["session"],
        description: "From the loss of a live session until it was live again.",
        source: Source::Histogram(|tally| &tally.counted.times.outages, LONG),
    },
    Instrument {
        name: "mainstay.session.io",
        unit: "By",
        attributes: &["session", "network.io.direction"],
        description: "Payload read from sockets and handed to them.",
        source: Source::Counter(|look, tell| {
            tell.per_direction(look, |counted| (counted.bytes_in, counted.bytes_out));
        }),
    },
    Instrument {
        name: "mainstay.session.frames",
        unit: "{frame}",
        attributes: &["session", "network.io.direction"],
        description: "Frames read from sockets and handed to them.",
        source: Source::Counter(|look, tell| {
            tell.per_direction(look, |counted| (counted.frames_in, counted.frames_out));
        }),
    },
    Instrument {
        name: "mainstay.session.round_trip",
        unit: "s",
        attributes: &["session"],
        description: "Round trips of our own pings.",
        source: Source::Histogram(|tally| &tally.counted.times.round_trip, SHORT),
    },
    Instrument {
        name: "mainstay.subscription.gaps",
        unit: "{gap}",
        attributes: &["session", "cause"],
        description: "Gaps that subscriptions were told of.",
        source: Source::Counter(|look, tell| {
            tell.per_word(look, |counted| &counted.gaps);
        }),
    },
    Instrument {
        name: "mainstay.subscription.lost_messages",
        unit: "{message}",
        attributes: &["session", "cause"],
        description: "Messages known to be missing, as consumers were told; what a lost connection would have brought is unknown.",
        source: Source::Counter(|look, tell| {
            tell.per_word(look, |counted| &counted.lost);
        }),
    },
    Instrument {
        name: "mainstay.subscription.channels",
        unit: "{channel}",
        attributes: &["session", "state"],
        description: "Channels that are wanted, and those of them that the venue has confirmed on the open connection.",
        source: Source::UpDownCounter(|look, tell| {
            for (name, tally) in &look.sessions {
                let (wanted, confirmed) = tally.held.channels;
                tell.size(wanted, &[name.into(), "wanted".into()]);
                tell.size(confirmed, &[name.into(), "confirmed".into()]);
            }
        }),
    },
    Instrument {
        name: "mainstay.subscription.delivery",
        unit: "s",
        attributes: &["session"],
        description: "From the socket read to the consumer; one for each batch that a consumer takes.",
        source: Source::Histogram(|tally| &tally.counted.times.delivery, SHORT),
    },
    Instrument {
        name: "mainstay.request.fates",
        unit: "{request}",
        attributes: &["session", "fate"],
        description: "Requests by what became of them, the session's own included.",
        source: Source::Counter(|look, tell| {
            tell.per_word(look, |counted| &counted.fates);
        }),
    },
    Instrument {
        name: "mainstay.request.duration",
        unit: "s",
        attributes: &["session"],
        description: "From handing a request over to its answer.",
        source: Source::Histogram(|tally| &tally.counted.times.requests, SHORT),
    },
    Instrument {
        name: "mainstay.request.in_flight",
        unit: "{request}",
        attributes: &["session"],
        description: "Requests written and not answered.",
        source: Source::UpDownCounter(|look, tell| {
            for (name, tally) in &look.sessions {
                tell.size(tally.held.in_flight, &[name.into()]);
            }
        }),
    },
    Instrument {
        name: "mainstay.queue.depth",
        unit: "{item}",
        attributes: &["session", "queue"],
        description: "What waits: messages for consumers, requests to be written or for a live session, control frames to be looked at.",
        source: Source::UpDownCounter(|look, tell| {
            for (name, tally) in &look.sessions {
                let held = &tally.held;
                tell.size(held.messages, &[name.into(), "messages".into()]);
                tell.size(held.requests, &[name.into(), "requests".into()]);
                tell.size(held.control, &[name.into(), "control".into()]);
                tell.size(held.offline, &[name.into(), "offline".into()]);
            }
        }),
    },
    Instrument {
        name: "mainstay.queue.pressure",
        unit: "1",
        attributes: &["session", "queue"],
        description: "How full the fullest queue of its kind is, of what it may hold.",
        source: Source::Gauge(|look, tell| {
            for (name, tally) in &look.sessions {
                for (queue, share) in &tally.held.fullest {
                    tell.of(*share, &[name.into(), (*queue).into()]);
                }
            }
        }),
    },
    Instrument {
        name: "mainstay.endpoint.score",
        unit: "{point}",
        attributes: &["session", "endpoint"],
        description: "How well an endpoint has served lately, from 0 to 100: the next attempt goes to the best.",
        source: Source::Gauge(|look, tell| {
            for (name, tally) in &look.sessions {
                for (index, score) in tally.held.scores.iter().enumerate() {
                    let place = index.to_string();
                    tell.of(f64::from(*score), &[name.into(), place.as_str().into()]);
                }
            }
        }),
    },
    Instrument {
        name: "mainstay.limiter.queued",
        unit: "{request}",
        attributes: &["limiter", "pool"],
        description: "Requests, or attempts, that wait for a limiter's leave.",
        source: Source::UpDownCounter(|look, tell| {
            for (name, status) in &look.limiters {
                for pool in &status.pools {
                    tell.size(pool.queued, &[name.into(), pool.name.as_str().into()]);
                }
            }
        }),
    },
    Instrument {
        name: "mainstay.limiter.pressure",
        unit: "1",
        attributes: &["limiter", "pool"],
        description: "How full a limiter's queue is, of what it may hold.",
        source: Source::Gauge(|look, tell| {
            for (name, status) in &look.limiters {
                for pool in &status.pools {
                    let full = pool.queued as f64 / pool.queue_capacity.max(1) as f64;
                    tell.of(full, &[name.into(), pool.name.as_str().into()]);
                }
            }
        }),
    },
    Instrument {
        name: "mainstay.limiter.tokens",
        unit: "1",
        attributes: &["limiter", "pool"],
        description: "What could be sent at once, of what a limiter's pool can hold.",
        source: Source::Gauge(|look, tell| {
            for (name, status) in &look.limiters {
                for pool in &status.pools {
                    let left = pool.tokens as f64 / pool.capacity.max(1) as f64;
                    tell.of(left, &[name.into(), pool.name.as_str().into()]);
                }
            }
        }),
    },
    Instrument {
        name: "mainstay.gate.waiting",
        unit: "{attempt}",
        attributes: &["gate"],
        description: "Attempts to connect that wait at a gate.",
        source: Source::UpDownCounter(|look, tell| {
            for (name, status) in &look.gates {
                tell.size(status.waiting, &[name.into()]);
            }
        }),
    },
    Instrument {
        name: "mainstay.gate.breaker",
        unit: "{breaker}",
        attributes: &["gate", "state"],
        description: "1 for the state that a gate's circuit breaker is in, of several endpoints' the worst off, 0 for the others.",
        source: Source::UpDownCounter(|look, tell| {
            for (name, status) in &look.gates {
                let Some(breaker) = status.breaker else {
                    continue;
                };
                for state in BREAKER {
                    let is = i64::from(breaker == state);
                    let label = state.label().replace(' ', "_");
                    tell.of(is, &[name.into(), label.as_str().into()]);
                }
            }
        }),
    },
    Instrument {
        name: "mainstay.supervisor.restarts",
        unit: "{restart}",
        attributes: &["session", "actor"],
        description: "Restarts by actor, those after a lost connection included.",
        source: Source::Counter(|look, tell| {
            for (name, tally) in &look.sessions {
                for (actor, count) in &tally.counted.restarts {
                    tell.of(*count, &[name.into(), actor.as_str().into()]);
                }
            }
        }),
    },
    Instrument {
        name: "mainstay.supervisor.intensity",
        unit: "1",
        attributes: &["session", "supervisor"],
        description: "How much of its restart intensity a supervisor has used; above 1 it gives up.",
        source: Source::Gauge(|look, tell| {
            for (name, tally) in &look.sessions {
                for (path, used) in &tally.held.intensities {
                    tell.of(*used, &[name.into(), path.as_str().into()]);
                }
            }
        }),
    },
];

/// Every attribute, and its values.
pub const ATTRIBUTES: &[(&str, &str)] = &[
    (
        "session",
        "the session's name in events: the platform's, and in a pool the connection id behind it",
    ),
    (
        "state",
        "of a connection: `initialized` `connecting` `establishing` `live` `down` `reconnecting` `ended`; of channels: \
         `wanted` `confirmed`; of a breaker: `closed` `open` `half_open`",
    ),
    (
        "layer",
        "`client` or `adapter`: who seeks the connection again",
    ),
    (
        "cause",
        "the label of a `CloseReason` or of a `GapCause`, such as `reset` or `lagged`",
    ),
    ("fate", "`answered` `not_sent` `unknown` `given_up`"),
    ("network.io.direction", "`receive` `transmit`"),
    (
        "queue",
        "`messages` (for consumers), `requests` (to be written), `control` (frames to be looked at), `offline` (requests \
         that wait for a live session)",
    ),
    (
        "endpoint",
        "its place in the configuration, from 0: the endpoint that is preferred, then the fallbacks",
    ),
    (
        "limiter",
        "the limiter's name in events; a gate's own is its name and `/attempts`",
    ),
    ("pool", "the name of one of the limiter's pools"),
    ("gate", "the gate's name in events"),
    ("actor", "a child's id, such as `transport`"),
    (
        "supervisor",
        "a supervisor's path, such as `deribit/connection`",
    ),
];

const BREAKER: [BreakerState; 3] = [
    BreakerState::Closed,
    BreakerState::Open,
    BreakerState::HalfOpen,
];

/// From a tenth of a millisecond to ten seconds.
const SHORT: &[f64] = &[
    0.0001, 0.000_25, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    5.0, 10.0,
];

/// From ten milliseconds to an hour.
const LONG: &[f64] = &[
    0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0,
];
