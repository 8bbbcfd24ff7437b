//! The venue behind a fault script: what it knows over all connections, and what it answers.
//!
//! It speaks JSON-RPC 2.0: `subscribe` and `unsubscribe` with `channels`, `order` with a number, `find` with that
//! number; anything else is answered by `"ok"`. Apart from the connections because its numbers, its limit and
//! its bans are one for all of them.
//!
//! Invariants: each message has a number that no other has, and they rise by one within a connection; an order
//! that was received is carried out, whatever becomes of its answer.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::Instant;

use super::log::{FaultEntryKind, Log};
use super::script::{Afterwards, FaultScript, FaultStep, Punishment};
use crate::testing::door::Shutter;

/// What becomes of one connection.
#[derive(Debug, Clone, Default)]
pub(super) struct Plan {
    pub(super) steps: Vec<FaultStep>,
    /// For how long the port is closed when it ends.
    pub(super) refuse: Duration,
}

#[derive(Debug)]
pub(super) struct Venue {
    pub(super) log: Log,
    pub(super) script: FaultScript,
    plans: Vec<Plan>,
    /// Set when the listener stands.
    pub(super) shutter: Mutex<Option<Shutter>>,
    /// The number of the message sent last.
    number: AtomicU64,
    limit: Mutex<Asked>,
    /// How many connections have had their steps played.
    pub(super) played: watch::Sender<usize>,
}

#[derive(Debug, Default)]
struct Asked {
    /// When each request of the present window came.
    at: VecDeque<Instant>,
    /// Until when the upgrade is refused.
    banned: Option<Instant>,
}

/// A request, as far as the venue reads it.
#[derive(Debug, Deserialize)]
struct Request {
    id: Option<Value>,
    method: String,
    #[serde(default)]
    params: Value,
}

/// What the venue does about a text message.
#[derive(Debug, Default)]
pub(super) struct Judgement {
    /// What it answers; an order's answer bears its number.
    pub(super) answer: Option<(String, Option<u64>)>,
    pub(super) subscribed: Vec<String>,
    pub(super) unsubscribed: Vec<String>,
    /// The connection is closed with this code.
    pub(super) close: Option<u16>,
}

/// For ever, as far as any test is concerned.
const EVER: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

impl Venue {
    pub(super) fn new(script: FaultScript) -> Self {
        // The first plan is for the time before anybody comes.
        let mut plans = vec![Plan::default()];
        for connection in &script.connections {
            match (&connection.steps[..], plans.last_mut()) {
                ([FaultStep::Refuse(time)], Some(last)) => last.refuse += *time,
                (steps, _) => plans.push(Plan {
                    steps: steps.to_vec(),
                    refuse: Duration::ZERO,
                }),
            }
        }
        if let (Afterwards::Refuse, Some(last)) = (script.then, plans.last_mut()) {
            last.refuse = EVER;
        }
        Self {
            log: Log::default(),
            script,
            plans,
            shutter: Mutex::new(None),
            number: AtomicU64::new(0),
            limit: Mutex::default(),
            played: watch::Sender::new(0),
        }
    }

    /// How many connections the script has steps for.
    pub(super) fn planned(&self) -> usize {
        self.plans.len() - 1
    }

    /// What becomes of connection `id`; of number 0, what happens before the first one.
    pub(super) fn plan(&self, id: u64) -> Plan {
        let index = usize::try_from(id).unwrap_or(usize::MAX);
        let found = self.plans.get(index);
        let last = match self.script.then {
            Afterwards::RepeatLast => self.plans.last(),
            Afterwards::Serve | Afterwards::Refuse => None,
        };
        found.or(last).cloned().unwrap_or_default()
    }

    /// Closes the port behind a connection, if the script says so.
    pub(super) async fn shut_behind(&self, plan: &Plan) {
        if plan.refuse.is_zero() {
            return;
        }
        let shutter = self
            .shutter
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        if let Some(shutter) = shutter {
            shutter.shut(plan.refuse).await;
        }
    }

    /// The steps of one more connection have been played.
    pub(super) fn played(&self, id: u64) {
        self.log.write(id, FaultEntryKind::Played);
        self.played.send_modify(|played| *played += 1);
    }

    /// A connection begins: what was said meanwhile is missing from it.
    pub(super) fn skip(&self) {
        self.number.fetch_add(1000, Ordering::SeqCst);
    }

    /// The number of the message sent last.
    pub(super) fn number(&self) -> u64 {
        self.number.load(Ordering::SeqCst)
    }

    /// The next message of `channel`, and its number.
    pub(super) fn message(&self, channel: &str, pad: usize) -> (u64, String) {
        let number = self.number.fetch_add(1, Ordering::SeqCst) + 1;
        let pad = "x".repeat(pad);
        let data = json!({ "n": number, "pad": pad });
        let params = json!({ "channel": channel, "data": data });
        let text = json!({ "jsonrpc": "2.0", "method": "subscription", "params": params });
        (number, text.to_string())
    }

    /// For how long the upgrade is refused still.
    pub(super) fn ban(&self, now: Instant) -> Option<Duration> {
        let asked = self.limit.lock().unwrap_or_else(PoisonError::into_inner);
        let left = asked.banned?.saturating_duration_since(now);
        (!left.is_zero()).then_some(left)
    }

    /// What is done about `text`, which came on connection `id`.
    pub(super) fn judge(&self, id: u64, text: &str, now: Instant) -> Judgement {
        let received = text.to_owned();
        self.log
            .write(id, FaultEntryKind::Received { text: received });
        let Ok(request) = serde_json::from_str::<Request>(text) else {
            return Judgement::default();
        };
        if let Some(punishment) = self.punishment(now) {
            self.log.write(id, FaultEntryKind::Punished);
            return match punishment {
                Punishment::Close(code) => Judgement {
                    close: Some(code),
                    ..Judgement::default()
                },
                Punishment::Error(code) => Judgement {
                    answer: Some((error(&request.id, code, "too many requests"), None)),
                    ..Judgement::default()
                },
            };
        }
        self.carry_out(id, &request)
    }

    fn carry_out(&self, id: u64, request: &Request) -> Judgement {
        let channels = || -> Vec<String> {
            let listed = request.params["channels"].as_array();
            let names = listed.into_iter().flatten();
            names
                .filter_map(|name| name.as_str().map(str::to_owned))
                .collect()
        };
        let mut judgement = Judgement::default();
        let number = request.params["order"].as_u64();
        let result = match (request.method.as_str(), number) {
            ("subscribe", _) => {
                judgement.subscribed = channels();
                for channel in &judgement.subscribed {
                    let channel = channel.clone();
                    self.log.write(id, FaultEntryKind::Subscribed { channel });
                }
                json!(judgement.subscribed)
            }
            ("unsubscribe", _) => {
                judgement.unsubscribed = channels();
                json!(judgement.unsubscribed)
            }
            ("order", Some(order)) => {
                self.log.write(id, FaultEntryKind::Executed { order });
                json!({ "order": order })
            }
            ("find", Some(order)) => match self.log.has_executed(order) {
                true => json!({ "order": order }),
                false => Value::Null,
            },
            _ => json!("ok"),
        };
        let order = number.filter(|_| request.method == "order");
        if request.id.is_some() {
            let answer = json!({ "jsonrpc": "2.0", "id": request.id, "result": result });
            judgement.answer = Some((answer.to_string(), order));
        }
        judgement
    }

    fn punishment(&self, now: Instant) -> Option<Punishment> {
        let limit = self.script.limit.as_ref()?;
        let mut asked = self.limit.lock().unwrap_or_else(PoisonError::into_inner);
        while asked.at.front().is_some_and(|at| *at + limit.per <= now) {
            asked.at.pop_front();
        }
        if asked.at.len() < limit.requests {
            asked.at.push_back(now);
            return None;
        }
        if !limit.ban.is_zero() {
            asked.banned = Some(now + limit.ban);
        }
        Some(limit.punish)
    }
}

/// The answer that says no to `text`, if it is a request.
pub(super) fn denial(text: &str, code: i64, message: &str) -> Option<String> {
    let request: Request = serde_json::from_str(text).ok()?;
    request
        .id
        .is_some()
        .then(|| error(&request.id, code, message))
}

/// The channel and the number of a channel's message, whatever stands before and behind it; 0 where there is none.
pub(super) fn forged(bytes: &[u8]) -> Option<(String, u64)> {
    let begin = bytes.iter().position(|byte| *byte == b'{')?;
    let end = bytes.iter().rposition(|byte| *byte == b'}')?;
    let message: Value = serde_json::from_slice(bytes.get(begin..=end)?).ok()?;
    let params = &message["params"];
    let number = params["data"]["n"].as_u64().unwrap_or(0);
    Some((params["channel"].as_str()?.to_owned(), number))
}

fn error(id: &Option<Value>, code: i64, message: &str) -> String {
    let error = json!({ "code": code, "message": message });
    json!({ "jsonrpc": "2.0", "id": id, "error": error }).to_string()
}
