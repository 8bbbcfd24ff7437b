//! What each method of the venue does.
//!
//! A file of its own because it is the table one compares with the venue's documentation.
//!
//! Invariants: private methods look at the token first; nothing a client sends is trusted to have
//! any shape; results list only what really happened.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::super::heartbeat::Heartbeat;
use super::super::venue::Order;
use super::answers::of_currency;
use super::{CancelScope, End, Failure, Outcome, Session, Subscription};

/// The version that `public/hello` and `public/test` tell.
const VERSION: &str = "1.2.26";

impl Session {
    pub(super) fn carry_out(&mut self, method: &str, params: &Value, now: Instant) -> Outcome {
        // Those of which more follows than an answer, and those about tokens.
        match method {
            "public/auth" => {
                let mut outcome = Outcome::of(self.auth(params, now));
                outcome.delay = self.knobs.delay_auth;
                return outcome;
            }
            "public/exchange_token" => return Outcome::of(self.exchange(params, now)),
            "public/fork_token" => return Outcome::of(self.fork(params, now)),
            "public/subscribe" => return self.subscribe(params, false, now),
            "private/subscribe" => return self.subscribe(params, true, now),
            _ => {}
        }
        if method.starts_with("private/")
            && let Err(failure) = self.permit(params, now)
        {
            return Outcome::of(Err(failure));
        }
        if method == "private/logout" {
            self.logged_out = true;
            self.tokens = None;
            let mut outcome = Outcome::of(Ok(Value::Null));
            outcome.silent = true;
            outcome.end = Some(End::Close {
                code: 1000,
                reason: "logout".to_owned(),
            });
            return outcome;
        }
        Outcome::of(self.simple(method, params, now))
    }

    /// The methods that are answered and no more.
    fn simple(&mut self, method: &str, params: &Value, now: Instant) -> Result<Value, Failure> {
        if let Some(answer) = self.ask(method, params) {
            return answer;
        }
        match method {
            "public/hello" => Ok(json!({ "version": VERSION })),
            "public/test" => {
                if let Some(heartbeat) = &mut self.heartbeat {
                    heartbeat.on_test();
                }
                match params["expected_result"].as_str() {
                    Some("exception") => Err(Failure::new(11094, "internal_server_error")),
                    _ => Ok(json!({ "version": VERSION })),
                }
            }
            "public/set_heartbeat" => self.set_heartbeat(params, now),
            "public/disable_heartbeat" => {
                self.heartbeat = None;
                Ok(json!("ok"))
            }
            "public/unsubscribe" | "private/unsubscribe" => {
                let channels = channels(params)?;
                let removed = channels
                    .into_iter()
                    .filter(|channel| self.subscriptions.remove(channel).is_some());
                Ok(removed.collect::<Vec<_>>().into())
            }
            "public/unsubscribe_all" | "private/unsubscribe_all" => {
                self.subscriptions.clear();
                Ok(json!("ok"))
            }
            "private/enable_cancel_on_disconnect" => self.set_cancel_on_disconnect(params, true),
            "private/disable_cancel_on_disconnect" => self.set_cancel_on_disconnect(params, false),
            "private/get_cancel_on_disconnect" => {
                let scope = CancelScope::of(params)?;
                let enabled = self.cancel_on_disconnect == Some(scope);
                Ok(json!({ "scope": scope.word(), "enabled": enabled }))
            }
            "private/buy" => self.place("buy", params),
            "private/sell" => self.place("sell", params),
            "private/edit" => self.edit(params),
            "private/close_position" => Err(Failure::new(10010, "already_closed")),
            "private/cancel" => {
                let id = params["order_id"].as_str().unwrap_or_default();
                let mut gone = self.cancel_orders(|order| order.id == id);
                gone.pop()
                    .ok_or_else(|| Failure::new(10004, "order_not_found"))
            }
            "private/cancel_all" => Ok(json!(self.cancel_orders(|_| true).len())),
            "private/cancel_all_by_currency" => {
                let wanted = params["currency"].as_str().unwrap_or_default();
                let gone = self.cancel_orders(|order| of_currency(&order.instrument, wanted));
                Ok(json!(gone.len()))
            }
            "private/cancel_all_by_instrument" => {
                let wanted = params["instrument_name"].as_str().unwrap_or_default();
                Ok(json!(
                    self.cancel_orders(|order| order.instrument == wanted).len()
                ))
            }
            "private/cancel_by_label" => {
                let wanted = params["label"].as_str().unwrap_or_default();
                Ok(json!(
                    self.cancel_orders(|order| order.label == wanted).len()
                ))
            }
            _ => Err(Failure::new(-32601, "Method not found")),
        }
    }

    /// Whether a private method may be called now.
    fn permit(&self, params: &Value, now: Instant) -> Result<(), Failure> {
        let unauthorized = || Failure {
            data: Some(json!({ "reason": "invalid_token" })),
            ..Failure::new(13009, "unauthorized")
        };
        let Some(tokens) = &self.tokens else {
            return Err(match params.get("access_token") {
                Some(_) => unauthorized(),
                None => Failure::new(10000, "authorization_required"),
            });
        };
        let given = &params["access_token"];
        let ours = given.is_null() || given.as_str() == Some(tokens.access.as_str());
        match ours && tokens.good(now) {
            true => Ok(()),
            false => Err(unauthorized()),
        }
    }

    fn set_heartbeat(&mut self, params: &Value, now: Instant) -> Result<Value, Failure> {
        /// The least interval the venue accepts, in seconds.
        const LEAST: f64 = 10.0;
        /// A day; longer ones are heartbeats nobody would see.
        const MOST: f64 = 86_400.0;
        let interval = params["interval"].as_f64().unwrap_or_default();
        if !(LEAST..=MOST).contains(&interval) {
            return Err(Failure::parameter("interval", "must be at least 10"));
        }
        let settings = &self.shared.settings;
        let interval = Duration::from_secs_f64(interval) / settings.heartbeat_scale;
        let heartbeat = Heartbeat::new(interval, settings.test_request_grace, now);
        self.heartbeat = Some(heartbeat);
        Ok(json!("ok"))
    }

    fn set_cancel_on_disconnect(&mut self, params: &Value, on: bool) -> Result<Value, Failure> {
        let scope = CancelScope::of(params)?;
        self.cancel_on_disconnect = on.then_some(scope);
        self.shared.set_cancels_on_disconnect(self.id, on);
        Ok(json!("ok"))
    }

    fn subscribe(&mut self, params: &Value, private: bool, now: Instant) -> Outcome {
        let channels = match channels(params) {
            Ok(channels) => channels,
            Err(failure) => return Outcome::of(Err(failure)),
        };
        let authorized = match private {
            // A wrong or expired token is an error, none at all an empty list.
            true => match self.permit(params, now) {
                Ok(()) => true,
                Err(failure) if failure.code == 13009 => return Outcome::of(Err(failure)),
                Err(_) => return Outcome::of(Ok(json!([]))),
            },
            false => self.authorized(now),
        };
        if !authorized && channels.iter().any(|channel| channel.ends_with(".raw")) {
            let message = "raw_subscriptions_not_available_for_unauthorized";
            return Outcome::of(Err(Failure::new(13778, message)));
        }
        let label = params["label"].as_str().filter(|label| label.len() <= 16);
        let label = label.filter(|_| private).map(str::to_owned);
        // The market stands still until the first notifications are made, so that none is missed
        // and none comes twice.
        let shared = std::sync::Arc::clone(&self.shared);
        let venue = shared.venue();
        let mut subscribed = Vec::new();
        let mut firsts = Vec::new();
        for channel in channels {
            let forbidden = channel.starts_with("user.") && !(private && authorized);
            if forbidden || !venue.has_channel(&channel) || self.knobs.omitted.contains(&channel) {
                continue;
            }
            let subscription = Subscription {
                since: venue.number(),
                label: label.clone(),
            };
            let quiet = self.knobs.muted || self.knobs.silenced.contains(&channel);
            if let Some(data) = venue.first(&channel).filter(|_| !quiet) {
                firsts.push(super::notification(&channel, &data, label.as_deref()));
            }
            self.subscriptions.insert(channel.clone(), subscription);
            subscribed.push(channel);
        }
        drop(venue);
        // The venue answers in an order of its own.
        subscribed.reverse();
        let mut outcome = Outcome::of(Ok(subscribed.into()));
        outcome.notifications = firsts;
        outcome
    }

    fn place(&mut self, direction: &'static str, params: &Value) -> Result<Value, Failure> {
        let instrument = params["instrument_name"].as_str().unwrap_or_default();
        let amount = params["amount"].as_f64().filter(|amount| *amount > 0.0);
        let Some(amount) = amount else {
            return Err(Failure::parameter("amount", "must be above 0"));
        };
        let price = params["price"].as_f64();
        let label = params["label"].as_str().unwrap_or_default();
        let placed = self
            .shared
            .venue()
            .place(self.id, instrument, direction, amount, price, label);
        let Some((order, tick)) = placed else {
            return Err(Failure::new(10020, "invalid_or_unsupported_instrument"));
        };
        self.shared.publish(tick);
        Ok(json!({ "order": order, "trades": [] }))
    }

    fn edit(&mut self, params: &Value) -> Result<Value, Failure> {
        let id = params["order_id"].as_str().unwrap_or_default();
        let (amount, price) = (params["amount"].as_f64(), params["price"].as_f64());
        let edited = self.shared.venue().edit(id, amount, price);
        let Some((order, tick)) = edited else {
            return Err(Failure::new(10004, "order_not_found"));
        };
        self.shared.publish(tick);
        Ok(json!({ "order": order, "trades": [] }))
    }

    fn cancel_orders(&self, which: impl Fn(&Order) -> bool) -> Vec<Value> {
        let (gone, tick) = self.shared.venue().cancel(which);
        self.shared.publish(tick);
        gone
    }
}

/// The list of channels of a request.
fn channels(params: &Value) -> Result<Vec<String>, Failure> {
    let wrong = || Failure::parameter("channels", "must be a list of strings");
    let list = params["channels"].as_array().ok_or_else(wrong)?;
    list.iter()
        .map(|channel| channel.as_str().map(str::to_owned).ok_or_else(wrong))
        .collect()
}
