//! Every variant of every error is explained, and every explanation leads somewhere.
//!
//! The functions named `every_*` match without a wildcard: a new variant does not compile until it stands
//! in the list above its match.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::error::{HttpResponse, Kept, Phase};

const SECOND: Duration = Duration::from_secs(1);

fn io(kind: io::ErrorKind) -> Arc<io::Error> {
    Arc::new(io::Error::from(kind))
}

fn word() -> String {
    "word".to_owned()
}

fn config() -> ConfigErrors {
    ConfigError::new("queue.capacity", "0", "give a number from 1").into()
}

fn refused_with(status: u16) -> ConnectError {
    let status = http::StatusCode::from_u16(status).unwrap();
    let response = HttpResponse::new(status, http::HeaderMap::new(), bytes::Bytes::new());
    ConnectError::Refused {
        response: Box::new(response),
    }
}

fn every_connect_error() -> Vec<ConnectError> {
    let mut all = vec![
        ConnectError::Config { source: config() },
        ConnectError::Record {
            source: RecordError::Taken {
                path: word().into(),
            },
        },
        ConnectError::Dns {
            host: word(),
            source: io(io::ErrorKind::NotFound),
        },
        ConnectError::Tcp {
            address: word(),
            source: io(io::ErrorKind::ConnectionRefused),
        },
        ConnectError::Tcp {
            address: word(),
            source: io(io::ErrorKind::NetworkUnreachable),
        },
        ConnectError::Tls {
            host: word(),
            source: io(io::ErrorKind::InvalidData),
        },
        ConnectError::Certificate {
            host: word(),
            source: Arc::new(rustls::CertificateError::Expired.into()),
        },
        ConnectError::Handshake { detail: word() },
        ConnectError::Io {
            phase: Phase::Upgrade,
            source: io(io::ErrorKind::BrokenPipe),
        },
    ];
    let statuses = [
        200, 301, 400, 401, 403, 404, 407, 408, 410, 418, 425, 426, 429, 500, 503,
    ];
    all.extend(statuses.map(refused_with));
    let phases = [
        Phase::Socket,
        Phase::Gate,
        Phase::Dns,
        Phase::Tcp,
        Phase::Tls,
        Phase::Upgrade,
        Phase::Auth,
        Phase::FirstData,
    ];
    all.extend(phases.map(|phase| ConnectError::Timeout {
        phase,
        limit: SECOND,
    }));
    for error in &all {
        match error {
            ConnectError::Config { .. }
            | ConnectError::Record { .. }
            | ConnectError::Timeout { .. }
            | ConnectError::Dns { .. }
            | ConnectError::Tcp { .. }
            | ConnectError::Tls { .. }
            | ConnectError::Certificate { .. }
            | ConnectError::Refused { .. }
            | ConnectError::Handshake { .. }
            | ConnectError::Io { .. } => {}
        }
    }
    all
}

fn every_recovery() -> Vec<Recovery> {
    let all = vec![
        Recovery::Retry,
        Recovery::RetryAfter(SECOND),
        Recovery::Reauthenticate,
        Recovery::Reconcile,
        Recovery::Stop,
    ];
    for recovery in &all {
        match recovery {
            Recovery::Retry
            | Recovery::RetryAfter(_)
            | Recovery::Reauthenticate
            | Recovery::Reconcile
            | Recovery::Stop => {}
        }
    }
    all
}

fn every_close_reason() -> Vec<CloseReason> {
    let mut all = vec![
        CloseReason::Local { reason: word() },
        CloseReason::Reconnect,
        CloseReason::FailBack,
        CloseReason::Hook {
            reason: word(),
            ends: false,
        },
        CloseReason::Hook {
            reason: word(),
            ends: true,
        },
        CloseReason::Eof,
        CloseReason::Io {
            kind: io::ErrorKind::ConnectionReset,
            detail: word(),
        },
        CloseReason::Protocol { detail: word() },
        CloseReason::NotUtf8,
        CloseReason::TooBig { detail: word() },
        CloseReason::Silent { quiet: SECOND },
        CloseReason::Mute {
            channel: word(),
            quiet: SECOND,
        },
        CloseReason::WriteStalled { waited: SECOND },
        CloseReason::ActorEnded {
            actor: word(),
            reason: word(),
        },
    ];
    let codes = (999..=1016).chain([3000, 3001, 4000, 4999]).map(Some);
    all.extend(codes.chain([None]).map(|code| CloseReason::Peer {
        code,
        reason: word(),
    }));
    let opened = every_connect_error().into_iter();
    all.extend(opened.map(|error| CloseReason::NotOpened(Arc::new(error))));
    let judged = every_recovery().into_iter();
    all.extend(judged.map(|recovery| CloseReason::NotEstablished {
        step: word(),
        detail: word(),
        recovery,
    }));
    for reason in &all {
        match reason {
            CloseReason::Peer { .. }
            | CloseReason::Local { .. }
            | CloseReason::Reconnect
            | CloseReason::FailBack
            | CloseReason::Hook { .. }
            | CloseReason::Eof
            | CloseReason::Io { .. }
            | CloseReason::Protocol { .. }
            | CloseReason::TooBig { .. }
            | CloseReason::NotUtf8
            | CloseReason::Silent { .. }
            | CloseReason::Mute { .. }
            | CloseReason::WriteStalled { .. }
            | CloseReason::NotOpened(_)
            | CloseReason::NotEstablished { .. }
            | CloseReason::ActorEnded { .. } => {}
        }
    }
    all
}

fn every_record_error() -> Vec<RecordError> {
    let (path, folder) = (|| word().into(), || word().into());
    let all = vec![
        RecordError::Taken { path: path() },
        RecordError::NoFolder {
            path: path(),
            folder: folder(),
        },
        RecordError::NotInFolder {
            path: path(),
            folder: folder(),
        },
        RecordError::IsFolder { path: path() },
    ];
    for error in &all {
        match error {
            RecordError::Taken { .. }
            | RecordError::NoFolder { .. }
            | RecordError::NotInFolder { .. }
            | RecordError::IsFolder { .. } => {}
        }
    }
    all
}

fn every_start_error() -> Vec<StartError> {
    let mut all = vec![
        StartError::Config(config()),
        StartError::Timeout(SECOND),
        StartError::Tree(word()),
    ];
    all.extend(every_record_error().into_iter().map(StartError::Record));
    all.extend(every_connect_error().into_iter().map(StartError::Connect));
    all.extend(every_close_reason().into_iter().map(StartError::Closed));
    all.extend(
        every_recovery()
            .into_iter()
            .map(|recovery| StartError::Refused {
                step: word(),
                detail: word(),
                recovery,
            }),
    );
    for error in &all {
        match error {
            StartError::Config(_)
            | StartError::Record(_)
            | StartError::Connect(_)
            | StartError::Closed(_)
            | StartError::Refused { .. }
            | StartError::Timeout(_)
            | StartError::Tree(_) => {}
        }
    }
    all
}

fn every_wait_error() -> Vec<WaitError> {
    let mut all = vec![WaitError::Timeout {
        awaited: "live",
        limit: SECOND,
        found: "down",
    }];
    all.extend(every_end_reason().into_iter().map(WaitError::Ended));
    for error in &all {
        match error {
            WaitError::Timeout { .. } | WaitError::Ended(_) => {}
        }
    }
    all
}

fn every_subscribe_error() -> Vec<SubscribeError> {
    let all = vec![
        SubscribeError::Rejected {
            channel: word(),
            detail: word(),
        },
        SubscribeError::Timeout {
            channel: word(),
            limit: SECOND,
        },
        SubscribeError::Ended { channel: word() },
    ];
    for error in &all {
        match error {
            SubscribeError::Rejected { .. }
            | SubscribeError::Timeout { .. }
            | SubscribeError::Ended { .. } => {}
        }
    }
    all
}

fn every_unsubscribe_error() -> Vec<UnsubscribeError> {
    let all = vec![
        UnsubscribeError::Rejected {
            channel: word(),
            detail: word(),
        },
        UnsubscribeError::Timeout {
            channel: word(),
            limit: SECOND,
        },
        UnsubscribeError::ConnectionLost { channel: word() },
    ];
    for error in &all {
        match error {
            UnsubscribeError::Rejected { .. }
            | UnsubscribeError::Timeout { .. }
            | UnsubscribeError::ConnectionLost { .. } => {}
        }
    }
    all
}

fn every_limit_error() -> Vec<LimitError> {
    let all = vec![
        LimitError::QueueFull { capacity: 100 },
        LimitError::TooDear { cost: 2, most: 1 },
        LimitError::Expired { waited: SECOND },
    ];
    for error in &all {
        match error {
            LimitError::QueueFull { .. }
            | LimitError::TooDear { .. }
            | LimitError::Expired { .. } => {}
        }
    }
    all
}

fn deadline() -> UnknownCause {
    UnknownCause::Deadline {
        limit: SECOND,
        turn: Some(SECOND),
    }
}

fn every_not_sent() -> Vec<RequestError> {
    let mut causes = vec![
        NotSentCause::NotLive,
        NotSentCause::Full,
        NotSentCause::TooLate,
        NotSentCause::Hook,
        NotSentCause::Over,
    ];
    causes.extend(every_limit_error().into_iter().map(NotSentCause::Limit));
    for cause in &causes {
        match cause {
            NotSentCause::NotLive
            | NotSentCause::Limit(_)
            | NotSentCause::Full
            | NotSentCause::TooLate
            | NotSentCause::Hook
            | NotSentCause::Over => {}
        }
    }
    let kept = causes.into_iter().map(|cause| Kept::new(cause, word()));
    kept.map(|kept| kept.of(word())).collect()
}

fn every_unknown_cause() -> Vec<UnknownCause> {
    let all = vec![
        UnknownCause::ConnectionLost(CloseReason::Eof),
        deadline(),
        UnknownCause::Unreconciled {
            first: Box::new(deadline()),
            detail: word(),
        },
    ];
    for cause in &all {
        match cause {
            UnknownCause::ConnectionLost(_)
            | UnknownCause::Deadline { .. }
            | UnknownCause::Unreconciled { .. } => {}
        }
    }
    all
}

fn every_error_object() -> Vec<ErrorObject> {
    let codes = [-32700, -32600, -32601, -32602, -32603, -32000, 0, 10_009];
    let object = |code| ErrorObject {
        code,
        message: word(),
        data: None,
    };
    codes.map(object).into()
}

fn every_request_error() -> Vec<RequestError> {
    let mut all = vec![
        RequestError::Undecodable {
            method: word(),
            source: DecodeError::new("answer", "word"),
        },
        RequestError::NotExecuted {
            method: word(),
            cause: deadline(),
        },
        RequestError::Unencodable {
            method: word(),
            detail: word(),
        },
    ];
    all.extend(every_not_sent());
    all.extend(
        every_error_object()
            .into_iter()
            .map(|error| RequestError::Answered {
                method: word(),
                error,
            }),
    );
    all.extend(
        every_unknown_cause()
            .into_iter()
            .map(|cause| RequestError::Unknown {
                method: word(),
                cause,
            }),
    );
    for error in &all {
        match error {
            RequestError::Answered { .. }
            | RequestError::Undecodable { .. }
            | RequestError::NotSent { .. }
            | RequestError::Unknown { .. }
            | RequestError::NotExecuted { .. }
            | RequestError::Unencodable { .. } => {}
        }
    }
    all
}

fn every_pool_error() -> Vec<PoolError> {
    let source = || Kept::new(NotSentCause::NotLive, word()).of(word());
    let all = vec![
        PoolError::NoSessions,
        PoolError::NoneLive {
            sessions: 2,
            limit: SECOND,
        },
        PoolError::Unencodable(source()),
        PoolError::Request {
            connection: word(),
            source: source(),
        },
        PoolError::Exhausted {
            attempts: 3,
            source: source(),
        },
    ];
    for error in &all {
        match error {
            PoolError::NoSessions
            | PoolError::NoneLive { .. }
            | PoolError::Unencodable(_)
            | PoolError::Request { .. }
            | PoolError::Exhausted { .. } => {}
        }
    }
    all
}

fn every_add_error() -> Vec<AddError> {
    let all = vec![
        AddError::Duplicate(DuplicateId::new("a")),
        AddError::NotLive {
            connection: word(),
            endpoint: word(),
            source: StartError::Timeout(SECOND),
        },
        AddError::Ended,
    ];
    for error in &all {
        match error {
            AddError::Duplicate(_) | AddError::NotLive { .. } | AddError::Ended => {}
        }
    }
    all
}

fn every_end_reason() -> Vec<EndReason> {
    let mut all = vec![
        EndReason::Shutdown,
        EndReason::Exhausted(word()),
        EndReason::Lagged,
        EndReason::Refused(word()),
        EndReason::NotRestored,
    ];
    all.extend(every_close_reason().into_iter().map(EndReason::Fatal));
    for reason in &all {
        match reason {
            EndReason::Shutdown
            | EndReason::Fatal(_)
            | EndReason::Exhausted(_)
            | EndReason::Lagged
            | EndReason::Refused(_)
            | EndReason::NotRestored => {}
        }
    }
    all
}

fn every_explanation() -> Vec<Explanation> {
    let mut all = vec![
        config().explain(),
        ConfigError::new("url", "", "give a host").explain(),
        DecodeError::new("answer", "word").explain(),
        DuplicateId::new("a").explain(),
    ];
    all.extend(every_pool_error().iter().map(PoolError::explain));
    all.extend(every_add_error().iter().map(AddError::explain));
    all.extend(every_connect_error().iter().map(ConnectError::explain));
    all.extend(every_close_reason().iter().map(CloseReason::explain));
    all.extend(every_record_error().iter().map(RecordError::explain));
    all.extend(every_start_error().iter().map(StartError::explain));
    all.extend(every_subscribe_error().iter().map(SubscribeError::explain));
    let unsubscribe = every_unsubscribe_error();
    all.extend(unsubscribe.iter().map(UnsubscribeError::explain));
    all.extend(every_limit_error().iter().map(LimitError::explain));
    all.extend(every_wait_error().iter().map(WaitError::explain));
    all.extend(every_unknown_cause().iter().map(UnknownCause::explain));
    all.extend(every_error_object().iter().map(ErrorObject::explain));
    all.extend(every_request_error().iter().map(RequestError::explain));
    all.extend(every_end_reason().iter().map(EndReason::explain));
    all
}

#[test]
fn every_error_has_a_message_a_suggestion_and_a_link() {
    for explanation in every_explanation() {
        assert!(!explanation.message.is_empty(), "{explanation:?}");
        assert!(!explanation.suggestion.is_empty(), "{explanation:?}");
        let anchor = format!("#{}", explanation.code);
        assert!(explanation.docs.starts_with("https://"), "{explanation:?}");
        assert!(explanation.docs.ends_with(&anchor), "{explanation:?}");
    }
}

/// Whether a text says more than that something is so: it names a value, an option or what to do.
fn is_bare(message: &str) -> bool {
    let value = message.contains(|c: char| c.is_ascii_digit() || matches!(c, '"' | '_'));
    let told = message.contains(": ") || message.contains("; ") || message.contains(", ");
    let words = message.split_whitespace().count();
    !(value || told || words >= 4)
}

#[test]
fn no_text_is_bare() {
    assert!(is_bare("session is over") && is_bare("shut down"));
    for explanation in every_explanation() {
        let message = &explanation.message;
        assert!(!is_bare(message), "{message}");
        assert!(
            explanation.suggestion.split_whitespace().count() >= 3,
            "{explanation}"
        );
    }
}

#[test]
fn an_attempt_that_takes_too_long_names_its_option() {
    for error in every_connect_error() {
        let ConnectError::Timeout { phase, .. } = error else {
            continue;
        };
        let suggestion = error.explain().suggestion;
        let named = suggestion.contains("limits.") || phase == Phase::Socket;
        assert!(named, "{suggestion}");
    }
}

#[test]
fn every_code_is_a_heading_of_the_guide_and_every_heading_is_a_code() {
    // Two chapters are of errors of higher floors; `tests/architecture.rs` holds those against their sources.
    let mut chapter = "";
    let mut headings = BTreeSet::new();
    for line in include_str!("../guide.md").lines() {
        chapter = line.strip_prefix("# ").unwrap_or(chapter);
        let above = [
            "Recordings, books and probes",
            "A program that shows itself",
        ];
        if !above.contains(&chapter) {
            headings.extend(line.strip_prefix("## "));
        }
    }
    let codes: BTreeSet<&str> = every_explanation()
        .iter()
        .map(|explanation| explanation.code)
        .collect();
    assert_eq!(codes, headings);
}

#[test]
fn a_cause_is_in_the_message_and_decides_the_suggestion() {
    let error = StartError::Connect(refused_with(401));
    let explanation = error.explain();
    assert_eq!(explanation.category, Category::Authentication);
    assert!(explanation.message.contains("401"), "{explanation}");
    assert!(
        explanation.suggestion.contains("credentials"),
        "{explanation}"
    );
}

#[test]
fn all_options_of_a_configuration_are_in_its_explanation() {
    let errors = crate::Config::builder("http://h")
        .outbound_capacity(0)
        .build()
        .expect_err("refused");
    let text = errors.explain().to_string();
    assert!(
        text.contains("url") && text.contains("outbound_capacity"),
        "{text}"
    );
}

/// Each as `{:#}`, beside its explanation.
fn every_line() -> Vec<(String, Explanation)> {
    fn lines<E: fmt::Display>(
        all: Vec<E>,
        explain: impl Fn(&E) -> Explanation,
    ) -> Vec<(String, Explanation)> {
        let line = |error: &E| (format!("{error:#}"), explain(error));
        all.iter().map(line).collect()
    }
    [
        lines(every_pool_error(), PoolError::explain),
        lines(every_add_error(), AddError::explain),
        lines(every_connect_error(), ConnectError::explain),
        lines(every_start_error(), StartError::explain),
        lines(every_subscribe_error(), SubscribeError::explain),
        lines(every_unsubscribe_error(), UnsubscribeError::explain),
        lines(every_limit_error(), LimitError::explain),
        lines(every_wait_error(), WaitError::explain),
        lines(every_unknown_cause(), UnknownCause::explain),
        lines(every_error_object(), ErrorObject::explain),
        lines(every_request_error(), RequestError::explain),
        lines(every_end_reason(), EndReason::explain),
    ]
    .concat()
}

#[test]
fn an_error_tells_all_its_causes_in_one_line_when_asked_to() {
    for (line, explanation) in every_line() {
        assert_eq!(line, explanation.message);
    }
}

#[test]
fn an_end_without_a_connection_says_why_there_was_none() {
    for error in every_connect_error() {
        let expected = format!("not opened: {}", chain(&error));
        let reason = CloseReason::NotOpened(Arc::new(error));
        assert_eq!(reason.to_string(), expected);
    }
}

#[test]
fn a_refusal_names_the_venues_code_without_its_cause() {
    for error in every_error_object() {
        let (code, method) = (error.code, word());
        let text = RequestError::Answered { method, error }.to_string();
        assert!(text.ends_with(&format!("with error {code}")), "{text}");
    }
}

#[test]
fn what_was_not_sent_is_tried_again_unless_it_never_passes() {
    for error in every_not_sent() {
        let RequestError::NotSent { cause, .. } = &error else {
            panic!("{error:?}")
        };
        let never = matches!(
            cause,
            NotSentCause::Over | NotSentCause::Limit(LimitError::TooDear { .. })
        );
        assert_eq!(error.recovery() == Recovery::Stop, never, "{error:?}");
    }
}
