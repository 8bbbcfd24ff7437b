//! The venue's side of one connection: authentication, subscriptions, heartbeats, and the faults
//! that were injected into them.
//!
//! A file of its own because it does no input or output: `connection` feeds it messages, ticks,
//! faults and time, and carries out its actions. What each method does is in `requests`, what each fault does in `faults`.
//!
//! Invariants: every request is answered once unless a fault says otherwise; private data flows only
//! while the access token is good; a channel's notifications follow its subscription; after
//! [`Action::End`] nothing else is to be done.

mod answers;
mod faults;
mod identity;
mod requests;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::LogEvent;
use super::fault::Knobs;
use super::heartbeat::{Due, Heartbeat};
use super::shared::Shared;
use super::tokens::Tokens;
use super::venue::{Tick, microseconds};

/// What the socket's owner has to do.
#[derive(Debug)]
#[must_use]
pub(super) enum Action {
    Send(String),
    /// Send, but only then. What follows does not wait for it.
    SendAfter(Duration, String),
    End(End),
}

/// How the connection is ended by the venue.
#[derive(Debug)]
pub(super) enum End {
    /// A close frame and the closing handshake.
    Close { code: u16, reason: String },
    /// TCP is closed without a close frame.
    HangUp,
    /// TCP is reset.
    Reset,
    /// Nothing is read or written any more.
    Silent,
}

#[derive(Debug)]
pub(super) struct Session {
    id: u64,
    shared: Arc<Shared>,
    knobs: Knobs,
    next: Next,
    tokens: Option<Tokens>,
    subscriptions: HashMap<String, Subscription>,
    heartbeat: Option<Heartbeat>,
    /// When the client said something last; counts only without heartbeats.
    received: Instant,
    cancel_on_disconnect: Option<CancelScope>,
    /// The subaccount that the connection acts for.
    subject: Option<u64>,
    /// Whether the client has logged out, so that its orders stay.
    logged_out: bool,
}

/// Which orders go when the connection does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CancelScope {
    Connection,
    Account,
}

impl CancelScope {
    fn of(params: &Value) -> Result<Self, Failure> {
        match params.get("scope").map(Value::as_str) {
            None | Some(Some("connection")) => Ok(Self::Connection),
            Some(Some("account")) => Ok(Self::Account),
            Some(_) => Err(Failure::parameter("scope", "must be connection or account")),
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Connection => "connection",
            Self::Account => "account",
        }
    }
}

#[derive(Debug)]
struct Subscription {
    /// The tick that had happened when the channel was subscribed.
    since: u64,
    label: Option<String>,
}

/// Faults that wait for the next thing of their kind.
#[derive(Debug, Default)]
struct Next {
    /// A request's error, and whether the connection is closed after it.
    error: Option<(Failure, bool)>,
    lose_answer: bool,
    twice: bool,
    out_of_order: bool,
    /// The answer held back by `out_of_order`.
    held: Option<String>,
    lost: HashSet<String>,
    doubled: HashSet<String>,
}

/// An error object to be.
#[derive(Debug, Clone)]
struct Failure {
    code: i64,
    message: String,
    data: Option<Value>,
}

impl Failure {
    fn new(code: i64, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            data: None,
        }
    }

    fn parameter(param: &str, reason: &str) -> Self {
        Self {
            data: Some(json!({ "param": param, "reason": reason })),
            ..Self::new(-32602, "Invalid params")
        }
    }
}

/// What a request comes to.
#[derive(Debug)]
struct Outcome {
    result: Result<String, Failure>,
    /// Notifications that belong to it.
    notifications: Vec<String>,
    delay: Duration,
    end: Option<End>,
    /// For `logout`.
    silent: bool,
}

impl Outcome {
    fn of(result: Result<Value, Failure>) -> Self {
        Self {
            result: result.map(|value| value.to_string()),
            notifications: Vec::new(),
            delay: Duration::ZERO,
            end: None,
            silent: false,
        }
    }
}

#[derive(Debug, Deserialize)]
struct Request<'a> {
    #[serde(borrow, default)]
    id: Option<&'a RawValue>,
    method: Option<String>,
    #[serde(default)]
    params: Option<Value>,
}

impl Session {
    pub(super) fn new(id: u64, shared: Arc<Shared>, now: Instant) -> Self {
        Self {
            id,
            knobs: shared.knobs(),
            shared,
            next: Next::default(),
            tokens: None,
            subscriptions: HashMap::new(),
            heartbeat: None,
            received: now,
            cancel_on_disconnect: None,
            subject: None,
            logged_out: false,
        }
    }

    /// A text message arrived.
    pub(super) fn on_text(&mut self, text: &str, now: Instant) -> Vec<Action> {
        let started = microseconds();
        self.on_received(now);
        let request = match serde_json::from_str::<Request<'_>>(text) {
            Ok(request) => request,
            // A batch, or anything else that is JSON but no object, is not a request.
            Err(_) if serde_json::from_str::<&RawValue>(text).is_ok() => {
                return self.reject(Failure::new(-32600, "Invalid Request"), None, started);
            }
            Err(_) => return self.reject(Failure::new(-32700, "Parse error"), None, started),
        };
        let id = request.id.map(RawValue::get);
        let scalar = id.filter(|id| !id.starts_with(['[', '{']));
        let (Some(id), Some(method)) = (scalar, request.method) else {
            let failure = Failure::new(-32600, "Invalid Request");
            return self.reject(failure, scalar, started);
        };
        let params = match request.params {
            None | Some(Value::Null) => json!({}),
            Some(params @ Value::Object(_)) => params,
            Some(_) => {
                let failure = Failure::new(-32602, "Invalid params");
                return self.reject(failure, Some(id), started);
            }
        };
        let outcome = self.judge(&method, &params, now);
        self.shared.write(
            self.id,
            LogEvent::Request {
                method,
                params: redacted(params),
                error: outcome.result.as_ref().err().map(|failure| failure.code),
            },
        );
        self.answer(id, outcome, started)
    }

    /// Something other than a text message arrived.
    pub(super) fn on_received(&mut self, now: Instant) {
        self.received = now;
        if let Some(heartbeat) = &mut self.heartbeat {
            heartbeat.on_message(now);
        }
    }

    /// A period of the market went by.
    pub(super) fn on_tick(&mut self, tick: &Tick, now: Instant) -> Vec<Action> {
        if self.knobs.muted {
            return Vec::new();
        }
        let private = self.authorized(now);
        let mut actions = Vec::new();
        for update in &tick.updates {
            let Some(subscription) = self.subscriptions.get(&update.channel) else {
                continue;
            };
            let channel = update.channel.as_str();
            if tick.number <= subscription.since
                || self.knobs.silenced.contains(channel)
                || (channel.starts_with("user.") && !private)
                || self.next.lost.remove(channel)
            {
                continue;
            }
            let text = notification(channel, &update.data, subscription.label.as_deref());
            if self.next.doubled.remove(channel) {
                actions.push(Action::Send(text.clone()));
            }
            actions.push(Action::Send(text));
        }
        actions
    }

    /// When time alone brings something about.
    pub(super) fn next_timeout(&self) -> Instant {
        match &self.heartbeat {
            Some(heartbeat) => heartbeat.next_timeout(),
            None => self.received + self.shared.settings.idle_limit,
        }
    }

    /// Time has passed.
    pub(super) fn on_timeout(&mut self, now: Instant) -> Vec<Action> {
        let Some(heartbeat) = &mut self.heartbeat else {
            return match now >= self.received + self.shared.settings.idle_limit {
                true => vec![Action::End(End::HangUp)],
                false => Vec::new(),
            };
        };
        match heartbeat.on_timeout(now) {
            Due::Nothing => Vec::new(),
            Due::Heartbeat | Due::TestRequest if self.knobs.no_heartbeats => {
                heartbeat.on_test();
                Vec::new()
            }
            Due::Heartbeat => vec![Action::Send(heartbeat_text("heartbeat"))],
            Due::TestRequest => vec![Action::Send(heartbeat_text("test_request"))],
            Due::GiveUp if self.knobs.skip_test_request_check => {
                heartbeat.on_test();
                Vec::new()
            }
            // The venue "closes the connection at once": no close frame.
            Due::GiveUp => vec![Action::End(End::HangUp)],
        }
    }

    fn authorized(&self, now: Instant) -> bool {
        self.tokens.as_ref().is_some_and(|tokens| tokens.good(now))
    }

    /// Applies the faults that concern any request, then carries it out.
    fn judge(&mut self, method: &str, params: &Value, now: Instant) -> Outcome {
        if let Some((failure, last)) = self.next.error.take() {
            let mut outcome = Outcome::of(Err(failure));
            outcome.end = last.then_some(End::HangUp);
            return outcome;
        }
        if self.knobs.ignored.contains(method) {
            let mut outcome = Outcome::of(Ok(Value::Null));
            outcome.silent = true;
            return outcome;
        }
        if let Some(code) = self.knobs.failing.get(method) {
            return Outcome::of(Err(Failure::new(*code, "told to fail")));
        }
        if !self.shared.pay(method, now) {
            let mut outcome = Outcome::of(Err(Failure::new(10028, "too_many_requests")));
            outcome.end = Some(End::HangUp);
            return outcome;
        }
        self.carry_out(method, params, now)
    }

    /// Puts the answer and what belongs to it in the order that the faults ask for.
    fn answer(&mut self, id: &str, outcome: Outcome, started: u64) -> Vec<Action> {
        let mut actions = Vec::new();
        let notifications = outcome.notifications.into_iter().map(Action::Send);
        let mut answers = Vec::new();
        if !outcome.silent && !std::mem::take(&mut self.next.lose_answer) {
            let text = self.envelope(Some(id), &outcome.result, started);
            if std::mem::take(&mut self.next.out_of_order) {
                answers.extend(self.next.held.replace(text));
            } else {
                if std::mem::take(&mut self.next.twice) {
                    answers.push(text.clone());
                }
                answers.push(text);
                answers.extend(self.next.held.take());
            }
        }
        let answers = answers
            .into_iter()
            .map(|text| match outcome.delay.is_zero() {
                true => Action::Send(text),
                false => Action::SendAfter(outcome.delay, text),
            });
        if self.knobs.notification_first {
            actions.extend(notifications);
            actions.extend(answers);
        } else {
            actions.extend(answers);
            actions.extend(notifications);
        }
        actions.extend(outcome.end.map(Action::End));
        actions
    }

    fn reject(&mut self, failure: Failure, id: Option<&str>, started: u64) -> Vec<Action> {
        self.shared.write(
            self.id,
            LogEvent::Rejected {
                error: failure.code,
            },
        );
        vec![Action::Send(self.envelope(id, &Err(failure), started))]
    }

    /// An answer in the key order of the venue.
    fn envelope(&self, id: Option<&str>, result: &Result<String, Failure>, started: u64) -> String {
        let id = id.map_or_else(String::new, |id| format!(r#""id":{id},"#));
        let body = match result {
            Ok(result) => format!(r#""result":{result}"#),
            Err(failure) => {
                let message = Value::from(failure.message.as_str());
                let data = failure.data.as_ref();
                let data = data.map_or_else(String::new, |data| format!(r#","data":{data}"#));
                let code = failure.code;
                format!(r#""error":{{"code":{code},"message":{message}{data}}}"#)
            }
        };
        let ended = microseconds().max(started);
        let (taken, testnet) = (ended - started, self.shared.settings.testnet);
        format!(
            r#"{{"jsonrpc":"2.0",{id}{body},"usIn":{started},"usOut":{ended},"usDiff":{taken},"testnet":{testnet}}}"#
        )
    }

    /// The first notification of a subscribed channel, if it has one.
    fn first(&self, channel: &str) -> Option<String> {
        let subscription = self.subscriptions.get(channel)?;
        if self.knobs.muted || self.knobs.silenced.contains(channel) {
            return None;
        }
        let data = self.shared.venue().first(channel)?;
        Some(notification(channel, &data, subscription.label.as_deref()))
    }
}

impl Drop for Session {
    /// The connection is over, in whatever way: orders go where the client wished it so.
    fn drop(&mut self) {
        if let Some(scope) = self.cancel_on_disconnect
            && !self.logged_out
        {
            let id = self.id;
            let mut venue = self.shared.venue();
            let (gone, tick) = venue.cancel(|order| match scope {
                CancelScope::Connection => order.connection == id,
                CancelScope::Account => true,
            });
            venue.note_cancelled_on_disconnect(gone.len());
            drop(venue);
            self.shared.publish(tick);
            let count = gone.len();
            self.shared.write(id, LogEvent::OrdersCancelled { count });
        }
        self.shared.leave(self.id);
    }
}

fn notification(channel: &str, data: &str, label: Option<&str>) -> String {
    let channel = Value::from(channel);
    let label = label.map_or_else(String::new, |label| {
        format!(r#","label":{}"#, Value::from(label))
    });
    format!(
        r#"{{"jsonrpc":"2.0","method":"subscription","params":{{"channel":{channel},"data":{data}{label}}}}}"#
    )
}

fn heartbeat_text(kind: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","method":"heartbeat","params":{{"type":"{kind}"}}}}"#)
}

/// The parameters without anything that proves who somebody is.
fn redacted(mut params: Value) -> Value {
    const SECRETS: [&str; 5] = [
        "client_secret",
        "access_token",
        "refresh_token",
        "signature",
        "token",
    ];
    for secret in SECRETS {
        if let Some(value) = params.get_mut(secret) {
            *value = Value::from("[redacted]");
        }
    }
    params
}
