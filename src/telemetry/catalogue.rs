//! The records that are made, held against the catalogue that is published.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tracing::field::{Field, Visit};
use tracing::{Event, Metadata, Subscriber, span};

use super::TelemetryEvent as Kind;

/// Target, level, name and fields of each record.
type Record = (String, String, String, BTreeSet<String>);

#[derive(Clone, Default)]
struct Capture(Arc<Mutex<Vec<Record>>>);

#[derive(Default)]
struct Reading {
    message: String,
    fields: BTreeSet<String>,
}

impl Visit for Reading {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        match field.name() {
            "message" => self.message = format!("{value:?}"),
            name => {
                self.fields.insert(name.to_owned());
            }
        }
    }
}

impl Subscriber for Capture {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        panic!("a span was opened")
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut reading = Reading::default();
        event.record(&mut reading);
        let metadata = event.metadata();
        self.0.lock().unwrap().push((
            metadata.target().to_owned(),
            metadata.level().as_str().to_lowercase(),
            reading.message,
            reading.fields,
        ));
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

const TIME: Duration = Duration::from_millis(1);

/// One kind after the other: a new one is not forgotten here, since this would not compile.
fn after(kind: &Kind<'_>) -> Option<Kind<'static>> {
    let (epoch, id, cause, detail, channel) = (1, 65_536, "eof", "the end", "trades");
    let (pool, capacity) = ("requests", 4);
    let (frames, bytes, count, in_flight, method) = (2, 30, 4, 5, "sum");
    Some(match kind {
        Kind::StateChanged { epoch: None, .. } => Kind::StateChanged {
            state: "live",
            epoch: Some(1),
        },
        Kind::StateChanged { .. } => Kind::Reconnected { epoch, down: TIME },
        Kind::Reconnected { .. } => Kind::OwnershipReceived {
            owner: "heir",
            epoch: None,
            streams: 1,
            waiting: 2,
            under_way: TIME,
        },
        Kind::OwnershipReceived { epoch: None, .. } => Kind::OwnershipReceived {
            owner: "heir",
            epoch: Some(1),
            streams: 1,
            waiting: 2,
            under_way: TIME,
        },
        Kind::OwnershipReceived { .. } => Kind::Upgraded {
            host: "localhost",
            port: 443,
            dns: TIME,
            tcp: TIME,
            tls: TIME,
            upgrade: TIME,
        },
        Kind::Upgraded { .. } => Kind::Opened {
            epoch,
            host: "localhost",
            port: 443,
            connect_time: TIME,
        },
        Kind::Opened { .. } => Kind::Closed {
            epoch,
            host: "localhost",
            port: 443,
            cause,
            detail,
            open: TIME,
        },
        Kind::Closed { .. } => Kind::NotOpened { cause, detail },
        Kind::NotOpened { .. } => Kind::AttemptPostponed {
            why: "breaker",
            wait: None,
        },
        Kind::AttemptPostponed { wait: None, .. } => Kind::AttemptPostponed {
            why: "limit",
            wait: Some(TIME),
        },
        Kind::AttemptPostponed { .. } => Kind::EndpointChanged {
            endpoint: "wss://b.example/",
            previous: "wss://a.example/",
            score: 100,
            why: "failover",
        },
        Kind::EndpointChanged { .. } => Kind::BreakerChanged {
            endpoint: "a.example:443",
            state: "open",
            previous: "closed",
        },
        Kind::BreakerChanged { .. } => Kind::Received {
            epoch,
            frames,
            bytes,
        },
        Kind::Received { .. } => Kind::Sent {
            epoch,
            frames,
            bytes,
        },
        Kind::Sent { .. } => Kind::Pong { epoch, rtt: TIME },
        Kind::Pong { .. } => Kind::HeartbeatAnswered { epoch },
        Kind::HeartbeatAnswered { .. } => Kind::HeartbeatMissed { epoch, quiet: TIME },
        Kind::HeartbeatMissed { .. } => Kind::RequestTracked {
            epoch,
            id,
            method,
            in_flight,
            limit: None,
        },
        Kind::RequestTracked { limit: None, .. } => Kind::RequestTracked {
            epoch,
            id,
            method,
            in_flight,
            limit: Some(TIME),
        },
        Kind::RequestTracked { .. } => Kind::RequestResolved {
            epoch,
            id,
            in_flight,
            round_trip: TIME,
        },
        Kind::RequestResolved { .. } => Kind::RequestAnsweredLate {
            epoch,
            id,
            in_flight,
            round_trip: TIME,
        },
        Kind::RequestAnsweredLate { .. } => Kind::RequestTimedOut {
            id,
            method,
            limit: TIME,
            in_flight,
        },
        Kind::RequestTimedOut { .. } => Kind::RequestsLost {
            epoch,
            ids: &[65_536, 131_073],
            cause,
        },
        Kind::RequestsLost { .. } => Kind::SubscriptionAdded { channel, count },
        Kind::SubscriptionAdded { .. } => Kind::SubscriptionRemoved { channel, count },
        Kind::SubscriptionRemoved { .. } => Kind::SubscriptionsRestored {
            epoch,
            channels: &[],
        },
        Kind::SubscriptionsRestored { .. } => Kind::RestorationFailed { epoch, channel },
        Kind::RestorationFailed { .. } => Kind::ChannelStale {
            epoch,
            channel,
            rung: "stale",
            quiet: TIME,
        },
        Kind::ChannelStale { .. } => Kind::ChannelFresh {
            epoch,
            channel,
            quiet: TIME,
        },
        Kind::ChannelFresh { .. } => Kind::MarketSaid {
            market: "closed",
            who: "venue",
        },
        Kind::MarketSaid { .. } => Kind::Gap {
            epoch,
            cause,
            subscriptions: count,
        },
        Kind::Gap { .. } => Kind::QueueFilling {
            queue: "requests",
            channel: None,
            waiting: 4,
            capacity: 5,
            bytes: None,
            max_bytes: None,
        },
        Kind::QueueFilling { channel: None, .. } => Kind::QueueFilling {
            queue: "messages",
            channel: Some(channel),
            waiting: 4,
            capacity: 5,
            bytes: Some(40),
            max_bytes: Some(100),
        },
        Kind::QueueFilling { .. } => Kind::LimitConsumed {
            pool,
            count: 1,
            cost: 2,
            tokens: 3,
        },
        Kind::LimitConsumed { .. } => Kind::LimitRefilled {
            pool,
            before: 0,
            after: 2,
            refill: 1,
            every: TIME,
        },
        Kind::LimitRefilled { .. } => Kind::LimitQueued {
            pool,
            queued: 1,
            capacity,
        },
        Kind::LimitQueued { .. } => Kind::LimitQueueFull { pool, capacity },
        Kind::LimitQueueFull { .. } => Kind::LimitExpired { pool, count: 1 },
        Kind::LimitExpired { .. } => Kind::LimitPressure {
            pool,
            level: "low",
            previous: "none",
            queued: 1,
            capacity,
        },
        Kind::LimitPressure { .. } => Kind::LimitedByVenue { rest: TIME },
        Kind::LimitedByVenue { .. } => Kind::RecordingInterrupted {
            path: "here",
            operation: "open",
            error: "no",
            remedy: "look",
        },
        Kind::RecordingInterrupted { .. } => Kind::ErrorOccurred {
            context: "connect",
            reason: "connect-dns",
        },
        Kind::ErrorOccurred { .. } => Kind::HookFailed {
            hook: "error.on_loss",
            detail: "it panicked",
        },
        Kind::HookFailed { .. } => Kind::PoolRouted {
            pool_size: 2,
            health: 90,
            selected: "a",
        },
        Kind::PoolRouted { .. } => Kind::PoolHealth {
            pool_size: 2,
            avg_health: 45.0,
        },
        Kind::PoolHealth { .. } => Kind::PoolFailover {
            attempt: 1,
            failed: "a",
            reason: "request-not-sent",
        },
        Kind::PoolFailover { .. } => Kind::PoolHookPanicked {
            connection: "a",
            hook: "on_connect",
        },
        Kind::PoolHookPanicked { .. } => Kind::CollectorPanicked { during: "opened" },
        Kind::CollectorPanicked { .. } => return None,
    })
}

fn recorded(kind: &Kind<'_>) -> Record {
    let capture = Capture::default();
    tracing::subscriber::with_default(capture.clone(), || kind.record("venue"));
    let [record] = std::mem::take(&mut *capture.0.lock().unwrap())
        .try_into()
        .expect("one record");
    record
}

/// A row's level, fields, and those fields that may be absent.
#[derive(Debug, Default, PartialEq)]
struct Row {
    level: String,
    fields: BTreeSet<String>,
    optional: BTreeSet<String>,
}

/// The table in the doc of `telemetry`, by target and name.
fn published() -> BTreeMap<(String, String), Row> {
    let rows = include_str!("../telemetry.rs").lines();
    let rows = rows.filter(|line| line.starts_with("//! | `mainstay::"));
    rows.map(|row| {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let bare = |cell: &str| cell.trim_matches('`').to_owned();
        let mut found = Row {
            level: cells[2].to_owned(),
            ..Row::default()
        };
        for field in cells[4].split(' ') {
            if let Some(field) = field.strip_prefix('(') {
                found.optional.insert(bare(field.trim_end_matches(')')));
            } else {
                found.fields.insert(bare(field));
            }
        }
        let who = match bare(cells[1]).as_str() {
            super::LIMIT => "limiter",
            super::GATE => "gate",
            super::POOL => "pool",
            _ => "session",
        };
        found.fields.insert(who.to_owned());
        ((bare(cells[1]), bare(cells[3])), found)
    })
    .collect()
}

#[test]
fn an_end_that_was_asked_for_is_no_warning() {
    let closed = |cause| Kind::Closed {
        epoch: 1,
        host: "localhost",
        port: 443,
        cause,
        detail: "",
        open: TIME,
    };
    let level = |cause| recorded(&closed(cause)).1;
    assert_eq!(
        (level("local"), level("eof")),
        ("info".into(), "warn".into())
    );
}

#[test]
fn every_event_is_one_record_as_published_and_nothing_else_is_published() {
    let mut published = published();
    let first = Kind::StateChanged {
        state: "down",
        epoch: None,
    };
    let mut seen: BTreeMap<(String, String), Row> = BTreeMap::new();
    for kind in std::iter::successors(Some(first), after) {
        let (target, level, name, fields) = recorded(&kind);
        assert_eq!(
            (target.as_str(), name.as_str()),
            (kind.target(), kind.name())
        );
        let row = published
            .get(&(target.clone(), name.clone()))
            .unwrap_or_else(|| panic!("{target} {name} is not in the table"));
        assert_eq!(level, row.level, "{name}");
        assert!(row.fields.is_subset(&fields), "{name}: {fields:?}");
        let optional: BTreeSet<String> = fields.difference(&row.fields).cloned().collect();
        let whole = seen.entry((target, name)).or_default();
        whole.level = level;
        whole.fields.clone_from(&row.fields);
        whole.optional.extend(optional);
    }
    for (key, row) in seen {
        assert_eq!(published.remove(&key), Some(row), "{key:?}");
    }
    assert!(
        published.is_empty(),
        "published and never made: {published:?}"
    );
}
