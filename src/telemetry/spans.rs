//! The spans of a session: their names, levels and fields, in one place. The table is the doc of `telemetry`.
//!
//! Apart from the events because a span is open for a while, and because who opens one has to keep it.
//! Names and fields of a request are those of OpenTelemetry's conventions for JSON-RPC, those of a connection
//! say where it goes to in the same words.
//!
//! Invariants: a span that nobody listens to costs one look at a flag, and no value of it is made; no
//! parameter, result, header or query of a url is ever a field.

use std::fmt;

use tracing::field::Empty;
use tracing::level_filters::LevelFilter;
use tracing::span::Id;
use tracing::{Span, debug_span, info_span};

use super::{ACTOR, CONNECTION, GAP, MESSAGE, REQUEST, SESSION};

/// A part of a connection's opening.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Resolving the host name.
    Dns,
    /// The TCP handshake.
    Tcp,
    /// The TLS handshake.
    Tls,
    /// The opening handshake of RFC 6455.
    Upgrade,
    /// The steps of the platform's opening, authentication among them.
    Auth,
    /// Subscribing what is wanted.
    Restore,
    /// Waiting for the first frame.
    FirstData,
}

/// The parent of a new span.
#[derive(Debug, Clone)]
pub(crate) enum Parent {
    /// The span that the caller is in.
    Caller,
    /// This one; none of its own if `None`.
    Is(Option<Id>),
}

/// A request, from the call to its answer.
pub(crate) fn request(parent: Parent, method: &str, host: &str, port: u16) -> Span {
    macro_rules! rpc {
        ($($parent:tt)*) => {
            info_span!(
                target: REQUEST,
                $($parent)*
                "rpc",
                otel.name = method,
                otel.kind = "client",
                otel.status_code = Empty,
                rpc.system.name = "jsonrpc",
                rpc.method = method,
                rpc.response.status_code = Empty,
                jsonrpc.protocol.version = "2.0",
                jsonrpc.request.id = Empty,
                server.address = host,
                server.port = port,
                "error.type" = Empty,
                fate = Empty,
            )
        };
    }
    match parent {
        Parent::Caller => rpc!(),
        Parent::Is(parent) => rpc!(parent: parent,),
    }
}

/// One attempt to connect, until the session is live or the attempt has failed.
pub(crate) fn connect(parent: Option<Id>, session: &str, host: &str, port: u16) -> Span {
    info_span!(
        target: CONNECTION,
        parent: parent,
        "connect",
        session,
        otel.kind = "client",
        otel.status_code = Empty,
        server.address = host,
        server.port = port,
        epoch = Empty,
        "error.type" = Empty,
    )
}

/// A part of an attempt to connect.
pub(crate) fn stage(parent: Option<Id>, stage: Stage) -> Span {
    macro_rules! part {
        ($name:literal) => {
            info_span!(
                target: CONNECTION,
                parent: parent,
                $name,
                otel.status_code = Empty,
                "error.type" = Empty,
            )
        };
    }
    match stage {
        Stage::Dns => part!("connect.dns"),
        Stage::Tcp => part!("connect.tcp"),
        Stage::Tls => part!("connect.tls"),
        Stage::Upgrade => part!("connect.upgrade"),
        Stage::Auth => part!("connect.auth"),
        Stage::Restore => part!("connect.restore"),
        Stage::FirstData => part!("connect.first_data"),
    }
}

/// The time from a loss until the session is live again or has ended.
pub(crate) fn outage(session: &str, cause: &str) -> Span {
    info_span!(
        target: SESSION,
        parent: None,
        "outage",
        session,
        otel.status_code = Empty,
        cause,
        attempts = Empty,
        epoch = Empty,
        ended_by = Empty,
    )
}

/// Whether anybody may listen to the usual spans; asked as [`hears_debug`] is.
pub(crate) fn hears_info() -> bool {
    LevelFilter::current() >= LevelFilter::INFO
}

/// Whether anybody may listen to the finer spans, of actors' messages, single gaps and stretches of losses. No question to the subscriber: where layers have
/// filters of their own, `span_enabled!` leaves its answer behind, and the thread's next span or record is lost.
pub(crate) fn hears_debug() -> bool {
    LevelFilter::current() >= LevelFilter::DEBUG
}

/// An actor, of this name and id, at work on one control message of this kind.
pub(crate) fn message(
    session: &str,
    (actor, id): (&'static str, &dyn fmt::Display),
    message: &dyn fmt::Display,
) -> Span {
    debug_span!(
        target: ACTOR,
        parent: None,
        "message",
        otel.name = %format_args!("{actor} {message}"),
        session,
        actor.name = actor,
        actor.id = %id,
        %message,
    )
}

/// A batch of received frames, while it is handed to its subscribers.
pub(crate) fn batch(session: &str, epoch: u64, frames: usize, bytes: usize) -> Span {
    debug_span!(
        target: MESSAGE,
        parent: None,
        "batch",
        session,
        epoch,
        frames,
        bytes,
    )
}

/// What one subscription misses, from the interruption until it goes on.
pub(crate) fn gap(session: &str, channel: Option<&str>, cause: &str) -> Span {
    debug_span!(
        target: GAP,
        parent: None,
        "gap",
        session,
        channel,
        cause,
        epoch = Empty,
    )
}

/// A stretch in which one subscription loses messages while its stream goes on.
pub(crate) fn loss(session: &str, channel: Option<&str>, cause: &str) -> Span {
    debug_span!(
        target: GAP,
        parent: None,
        "loss",
        session,
        channel,
        cause,
        lost = Empty,
    )
}

/// What the span is about has failed with `kind`, a constant word or a number.
pub(crate) fn failed(span: &Span, kind: &str) {
    span.record("error.type", kind);
    span.record("otel.status_code", "ERROR");
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use tracing::span::{Attributes, Record};
    use tracing::{Event, Metadata, Subscriber};

    use super::*;

    struct All;

    impl Subscriber for All {
        fn enabled(&self, _: &Metadata<'_>) -> bool {
            true
        }
        fn new_span(&self, _: &Attributes<'_>) -> Id {
            Id::from_u64(1)
        }
        fn record(&self, _: &Id, _: &Record<'_>) {}
        fn record_follows_from(&self, _: &Id, _: &Id) {}
        fn event(&self, _: &Event<'_>) {}
        fn enter(&self, _: &Id) {}
        fn exit(&self, _: &Id) {}
    }

    type Row = (String, String, BTreeSet<String>);

    /// The table in the doc of `telemetry`, by the span's name.
    fn published() -> BTreeMap<String, Row> {
        let text = include_str!("../telemetry.rs");
        let (_, table) = text.split_once("//! # Spans").expect("the chapter");
        let rows = table.lines().skip_while(|line| !line.contains("|---"));
        let rows = rows.skip(1).take_while(|line| line.starts_with("//! |"));
        let bare = |cell: &str| cell.trim().trim_matches('`').to_owned();
        let mut found = BTreeMap::new();
        for row in rows {
            let cells: Vec<&str> = row.split('|').collect();
            let fields: BTreeSet<String> = cells[5].split_whitespace().map(bare).collect();
            for name in cells[1].split_whitespace() {
                let row = (bare(cells[2]), bare(cells[3]), fields.clone());
                found.insert(bare(name), row);
            }
        }
        found
    }

    #[test]
    fn every_span_is_as_published_and_nothing_else_is_published() {
        let spans = tracing::subscriber::with_default(All, || {
            vec![
                request(Parent::Caller, "sum", "localhost", 443),
                request(Parent::Is(None), "sum", "localhost", 443),
                connect(None, "venue", "localhost", 443),
                stage(None, Stage::Dns),
                stage(None, Stage::Tcp),
                stage(None, Stage::Tls),
                stage(None, Stage::Upgrade),
                stage(None, Stage::Auth),
                stage(None, Stage::Restore),
                stage(None, Stage::FirstData),
                outage("venue", "eof"),
                message("venue", ("client", &"0.7"), &"Abandon"),
                gap("venue", Some("book"), "eof"),
                loss("venue", Some("book"), "lagged"),
                batch("venue", 1, 2, 3),
            ]
        });
        let made: BTreeMap<String, Row> = spans
            .iter()
            .map(|span| {
                let metadata = span.metadata().expect("enabled");
                let fields = metadata.fields().iter();
                let row = (
                    metadata.target().to_owned(),
                    metadata.level().as_str().to_lowercase(),
                    fields.map(|field| field.name().to_owned()).collect(),
                );
                (metadata.name().to_owned(), row)
            })
            .collect();
        assert_eq!(made, published());
    }

    #[test]
    fn a_span_that_nobody_listens_to_is_none() {
        assert!(request(Parent::Caller, "sum", "localhost", 443).is_disabled());
        assert!(outage("venue", "eof").is_disabled());
        assert!(message("venue", ("client", &"0.7"), &"Abandon").is_disabled());
        assert!(gap("venue", None, "eof").is_disabled());
        assert!(loss("venue", None, "lagged").is_disabled());
    }
}
