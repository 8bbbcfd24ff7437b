//! A venue that repeats what it was told: in errors, close reasons, refusals, notifications.

use std::error::Error;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mainstay::config::Record;
use mainstay::error::{ConnectError, DecodeError, RequestError};
use mainstay::hooks::{Hooks, LogHook};
use mainstay::platform::{Batch, Call, Grant, Moment, Platform, Step};
use mainstay::protocol::recording::Direction;
use mainstay::supervisors::Backoff;
use mainstay::telemetry::{Collector, TelemetryEvent};
use mainstay::testing::{Matcher, Script, ScriptedServer};
use mainstay::{Channel, Config, Frame, Notice, SessionSpec, Why};
use serde_json::json;
use serde_json::value::RawValue;
use tracing_subscriber::fmt::format::FmtSpan;

use crate::Log;

const LONG: Duration = Duration::from_secs(20);
const SECRET: &str = "a-secret-with-\"quotes\"-77";
const KEY: &str = "api-identity-2201";
const HEADER: &str = "Bearer header-token-3302";
const QUERY: &str = "query-token-4403";
const TOKEN: &str = "granted-token-5504";

/// Logs in with a key and a secret, and is granted a token.
#[derive(Debug)]
struct Parrot;

impl Platform for Parrot {
    fn name(&self) -> &str {
        "parrot"
    }

    fn opening(&self) -> Vec<Step> {
        vec![Step::Authenticate]
    }

    fn authenticate(&self, _moment: &Moment) -> Option<Call> {
        let params = json!({ "kind": "login", "id": KEY, "proof": { "secret": SECRET } });
        Call::new("login", &params).ok()
    }

    fn granted(&self, result: &RawValue) -> Result<Grant, DecodeError> {
        match result.get().contains("token") {
            true => Ok(Grant::default()),
            // A platform that quotes, which it should not.
            false => Err(DecodeError::new("grant", result.get())),
        }
    }

    fn subscribe(&self, channels: &[Arc<str>]) -> Vec<Batch> {
        let batch = |channel: &Arc<str>| {
            let call = Call::new("subscribe", &json!({ "channel": &**channel })).ok()?;
            Some(Batch::new(call, vec![Arc::clone(channel)]))
        };
        channels.iter().filter_map(batch).collect()
    }
}

/// Everything that is told in words.
#[derive(Debug, Default)]
struct Words(Mutex<String>);

impl Words {
    fn say(&self, words: impl AsRef<str>) {
        let mut said = self.0.lock().expect("nobody panics");
        said.push_str(words.as_ref());
        said.push('\n');
    }
}

impl Collector for Words {
    fn on_event(&self, session: &str, event: &TelemetryEvent<'_>) {
        self.say(format!("{session} {event:?}"));
    }
}

#[derive(Debug)]
struct Diary(Arc<Words>);

impl LogHook for Diary {
    fn on_message(&self, direction: Direction, frame: &Frame) {
        self.0.say(format!("{direction:?} {:?}", frame.as_text()));
    }
}

fn chain(error: &dyn Error) -> String {
    let source = error.source().map(chain).unwrap_or_default();
    format!("{error:?} {error} {source}")
}

#[tokio::test]
async fn what_a_venue_repeats_of_our_credentials_reaches_nobody() {
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_span_events(FmtSpan::FULL)
        .with_writer(log.clone())
        .with_ansi(false)
        .finish();
    let _logging = tracing::subscriber::set_default(subscriber);
    let everything = format!("{SECRET} {KEY} {HEADER} {QUERY} {TOKEN}");
    let words = Arc::new(Words::default());

    let login = || Matcher::method("login");
    let refused = Script::refuse(
        503,
        &[("x-you-said", HEADER)],
        format!("not with {HEADER} and {QUERY}"),
    );
    let first = Script::new()
        .expect(login())
        .reply(json!({ "token_type": "bearer", "access_token": TOKEN }))
        .expect_method("subscribe")
        .reply_error(-2, &*everything)
        .await_message(Matcher::method("trade"))
        .answer({
            let everything = everything.clone();
            move |text| {
                let request: serde_json::Value = serde_json::from_str(text).ok()?;
                let error =
                    json!({ "code": -1, "message": everything, "data": { "you": everything } });
                Some(json!({ "jsonrpc": "2.0", "id": request["id"], "error": error }).to_string())
            }
        })
        .send_json(json!({ "jsonrpc": "2.0", "method": "note", "params": everything }))
        .await_message(Matcher::method("go"))
        .close(4000, format!("{SECRET} {KEY} {TOKEN}"));
    // A grant that cannot be read, and a login that is refused for good.
    let second = Script::new()
        .expect(login())
        .reply(format!("{KEY} {SECRET}"));
    let third = Script::new().expect(login()).reply_error(13, &*everything);
    let server = ScriptedServer::builder().scripts([refused, first, second, third]);
    let server = server.start().await.expect("a server");

    let file = std::env::temp_dir().join(format!("mainstay-echoes-{}", std::process::id()));
    let config = Config::builder(format!("{}?token={QUERY}", server.url()))
        .header("authorization", HEADER)
        .retry_first(true)
        .backoff(Backoff::new(
            Duration::from_millis(5),
            Duration::from_millis(20),
        ))
        .record(Record::to(&file))
        .collector(words.clone())
        .build()
        .expect("valid");
    let hooks = Hooks::new().log(Diary(Arc::clone(&words)));
    let spec = SessionSpec::new(|| Parrot).hooks(hooks);
    let session = spec.start_with(config).await.expect("a session");
    session.live().await.expect("live after the refusal");
    let mut observer = session.observe(1024);

    let channel = Channel::<Frame>::new("private");
    let error = session.subscribe(channel).await.expect_err("refused");
    words.say(chain(&error));
    let mut messages = session.messages();
    let error = session.call(Call::bare("trade"), LONG).await;
    let error = error.expect_err("refused");
    let RequestError::Answered {
        error: answered, ..
    } = &error
    else {
        panic!("{error:?}")
    };
    assert!(answered.message.contains("[redacted]"), "{answered}");
    words.say(answered.data.as_ref().expect("data").get());
    words.say(chain(&error));
    session.notify("go", &json!([])).await.expect("written");

    let reason = tokio::time::timeout(LONG, session.ended()).await;
    let reason = reason.expect("in time");
    words.say(format!("{reason:?} {reason}"));
    while let Ok(Some(event)) = tokio::time::timeout(LONG, messages.next()).await {
        // The user's own data comes as it is; what is told about the connection does not.
        if !matches!(event, mainstay::Event::Data(_)) {
            words.say(format!("{event:?}"));
        }
    }
    for step in session.history() {
        words.say(format!("{step:?}"));
        if let Why::Closed(reason) = &step.why {
            words.say(reason.to_string());
        }
        if let Why::Closed(mainstay::close::CloseReason::NotOpened(error)) = &step.why
            && let ConnectError::Refused { response } = &**error
        {
            let body = String::from_utf8_lossy(&response.body).into_owned();
            assert_eq!(body, "not with [redacted] and [redacted]");
            words.say(format!("{body} {:?} {:?}", response.headers, error));
        }
    }
    session.shutdown().await;
    let inspection = session.inspect().await;
    words.say(format!("{inspection} {inspection:?}"));
    words.say(serde_json::to_string(&inspection).expect("json"));
    words.say(format!("{session:?} {:?}", session.channel_states()));
    drop((session, messages));
    let mut notices = 0;
    while let Ok(Some(notice)) = tokio::time::timeout(LONG, observer.next()).await {
        notices += 1;
        words.say(format!("{notice:?}"));
        if let Notice::Unauthorized { detail, .. } = notice {
            words.say(detail);
        }
    }
    assert!(notices > 3, "{notices}");
    let recording = std::fs::read_to_string(&file).expect("a recording");
    std::fs::remove_file(&file).expect("it is there");
    assert!(recording.contains("trade") && recording.contains("[redacted]"));

    let told = words.0.lock().expect("nobody panics").clone();
    assert!(told.contains("[redacted]"), "{told}");
    let escaped = SECRET.replace('"', "\\\"");
    let twice = escaped.replace('\\', "\\\\");
    let secrets = [SECRET, &escaped, &twice, KEY, "header-token", QUERY, TOKEN];
    for secret in secrets {
        assert!(!told.contains(secret), "{secret} was told: {told}");
        assert!(!recording.contains(secret), "{secret} was recorded");
    }
    log.shows_none_of(&secrets);
}
