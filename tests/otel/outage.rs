//! What a collector has to have received of an outage: one trace, from the loss to the live session.

use opentelemetry_proto::tonic::common::v1::any_value;
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use opentelemetry_proto::tonic::trace::v1::{Span, status::StatusCode};

use super::receiver::Received;
use super::text;

fn spans(received: &Received) -> Vec<&Span> {
    let resources = received.traces.iter().flat_map(|one| &one.resource_spans);
    let scopes = resources.flat_map(|one| &one.scope_spans);
    scopes.flat_map(|one| &one.spans).collect()
}

fn records(received: &Received) -> Vec<&LogRecord> {
    let resources = received.logs.iter().flat_map(|one| &one.resource_logs);
    let scopes = resources.flat_map(|one| &one.scope_logs);
    scopes.flat_map(|one| &one.log_records).collect()
}

fn is_error(span: &Span) -> bool {
    let status = span.status.as_ref();
    status.is_some_and(|status| status.code() == StatusCode::Error)
}

/// There is an outage that took so many attempts, all but the last of which failed.
pub(crate) fn assert_an_outage_has_attempts(received: &Received, attempts: usize) {
    let spans = spans(received);
    let outages = spans.iter().filter(|one| one.name == "outage");
    let found = outages.clone().any(|outage| {
        let mut within: Vec<&&Span> = spans
            .iter()
            .filter(|one| one.parent_span_id == outage.span_id)
            .collect();
        within.sort_by_key(|one| one.start_time_unix_nano);
        let failed = within.iter().take_while(|one| is_error(one)).count();
        within.len() == attempts && failed + 1 == attempts
    });
    assert!(found, "{:?}", outages.collect::<Vec<_>>());
    let told = records(received);
    let told = told.iter().filter(|one| !one.trace_id.is_empty()).count();
    assert!(told > 0, "records lead to traces");
}

/// The outage that began with the venue's end: its attempts are its children, in order, the last of them the one
/// that led to a live session; the gap and its end are told within it; it is linked to the supervisor's restart.
pub(crate) fn assert_the_outage_is_one_trace(received: &Received) {
    let spans = spans(received);
    let mut outages: Vec<&&Span> = spans.iter().filter(|one| one.name == "outage").collect();
    outages.sort_by_key(|one| one.start_time_unix_nano);
    assert_eq!(
        outages.len(),
        2,
        "the venue's end and the panic: {outages:?}"
    );
    let outage = outages[0];
    assert!(outage.parent_span_id.is_empty(), "a root");
    assert_eq!(text(&outage.attributes, "session"), Some("deribit"));
    assert_eq!(text(&outage.attributes, "ended_by"), Some("live"));
    let events: Vec<&str> = outage.events.iter().map(|one| one.name.as_str()).collect();
    for event in ["closed", "gap", "not opened", "reconnected"] {
        assert!(events.contains(&event), "{event} in {events:?}");
    }

    let trace = spans.iter().filter(|one| one.trace_id == outage.trace_id);
    let trace: Vec<&&Span> = trace.collect();
    let children = |of: &Span| {
        let within = trace.iter().filter(|one| one.parent_span_id == of.span_id);
        let mut within: Vec<&&&Span> = within.collect();
        within.sort_by_key(|one| one.start_time_unix_nano);
        within.into_iter().map(|one| **one).collect::<Vec<&Span>>()
    };
    let attempts = children(outage);
    assert!(attempts.len() >= 3, "two fail, one is live: {attempts:?}");
    assert!(
        attempts.iter().all(|one| one.name == "connect"),
        "{attempts:?}"
    );
    let (last, failed) = attempts.split_last().expect("attempts");
    for attempt in failed {
        assert!(is_error(attempt), "{attempt:?}");
        assert_eq!(
            children(attempt).last().expect("a part").name,
            "connect.tcp"
        );
    }
    assert!(!is_error(last), "{last:?}");
    let parts: Vec<&str> = children(last).iter().map(|one| one.name.as_str()).collect();
    for part in [
        "connect.tcp",
        "connect.upgrade",
        "connect.auth",
        "connect.first_data",
        "connect.restore",
    ] {
        assert!(parts.contains(&part), "{part} in {parts:?}");
    }
    assert!(
        last.end_time_unix_nano <= outage.end_time_unix_nano,
        "live at its end"
    );
    // The venue is asked again for what was wanted, in the part that restores.
    let restore = children(last);
    let restore = restore.iter().find(|one| one.name == "connect.restore");
    let asked = children(restore.expect("a part"));
    assert!(
        asked.iter().any(|one| one.name.contains("subscribe")),
        "{asked:?}"
    );

    // From the supervisor's restart, which is a trace of its own.
    let link = outage.links.first().expect("a link");
    let start = spans.iter().find(|one| one.span_id == link.span_id);
    let start = start.expect("the linked span has arrived, too");
    assert_eq!(start.name, "child.start");
    let mut around = *start;
    while let Some(wider) = spans
        .iter()
        .find(|one| one.span_id == around.parent_span_id)
    {
        around = wider;
    }
    assert_eq!(around.name, "child.restart");

    assert!(
        start
            .links
            .iter()
            .any(|link| link.span_id == outage.span_id),
        "and back: {start:?}"
    );
    // Each subscription tells what it missed, and of what that was part.
    let gaps = spans.iter().filter(|one| one.name == "gap");
    let of_it = gaps.filter(|gap| {
        gap.links
            .iter()
            .any(|link| link.trace_id == outage.trace_id)
    });
    let channels: Vec<_> = of_it.map(|gap| text(&gap.attributes, "channel")).collect();
    assert_eq!(channels.len(), 2, "the ticker and the book: {channels:?}");

    // What a slow consumer loses is a root of its own, with how much that was.
    let losses = spans.iter().filter(|one| one.name == "loss");
    let losses: Vec<&&Span> = losses.collect();
    assert!(!losses.is_empty(), "the book's consumer is slow");
    for loss in losses {
        assert!(loss.parent_span_id.is_empty() && loss.links.is_empty());
        assert_eq!(text(&loss.attributes, "cause"), Some("lagged"));
    }

    // What an actor did is linked to whoever sent for it.
    let messages = spans
        .iter()
        .filter(|one| text(&one.attributes, "actor.id").is_some());
    assert!(messages.clone().all(|one| one.parent_span_id.is_empty()));
    assert!(
        messages.clone().any(|one| !one.links.is_empty()),
        "messages are linked"
    );

    // Every record of the loss leads to the trace.
    for body in ["closed", "gap", "reconnected"] {
        let told = records(received).into_iter().any(|record| {
            let said = record.body.as_ref().and_then(|body| body.value.as_ref());
            let said = matches!(said, Some(any_value::Value::StringValue(said)) if said == body);
            said && record.trace_id == outage.trace_id
        });
        assert!(told, "the record {body} has the trace's id");
    }
}
