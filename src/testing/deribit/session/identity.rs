//! Who the client is: logging in, renewing, another account, another session.
//!
//! A file of its own because these are the methods that give tokens out.
//!
//! Invariants: a refresh token is good once, whatever it is used for; what is granted replaces what the
//! connection had.

use serde_json::{Value, json};
use tokio::time::Instant;

use super::super::tokens::{Tokens, signature};
use super::{Failure, Session};

impl Session {
    pub(super) fn auth(&mut self, params: &Value, now: Instant) -> Result<Value, Failure> {
        let word = |name: &str| params[name].as_str().unwrap_or_default();
        let settings = &self.shared.settings;
        let unauthorized = || Failure::new(13009, "unauthorized");
        let invalid = || Failure::new(13004, "invalid_credentials");
        match word("grant_type") {
            "client_credentials" => {
                let known = word("client_id") == settings.client_id
                    && word("client_secret") == settings.client_secret;
                known.then_some(()).ok_or_else(invalid)?;
                self.subject = None;
            }
            "client_signature" => {
                if word("client_id") != settings.client_id {
                    return Err(invalid());
                }
                let timestamp = match &params["timestamp"] {
                    Value::Number(number) => number.to_string(),
                    Value::String(text) => text.clone(),
                    _ => return Err(Failure::parameter("timestamp", "must be a number")),
                };
                let (secret, nonce, data) = (&settings.client_secret, word("nonce"), word("data"));
                let right = signature(secret, &timestamp, nonce, data);
                if right.as_deref() != Some(word("signature")) {
                    return Err(unauthorized());
                }
            }
            "refresh_token" => {
                self.check_refresh(params)?;
            }
            _ => return Err(Failure::parameter("grant_type", "must be a known one")),
        }
        let scope = match word("scope") {
            "" => "connection mainaccount",
            scope => scope,
        };
        let mut result = self.grant(scope, now);
        if let Some(state) = params.get("state") {
            result["state"] = state.clone();
        }
        Ok(result)
    }

    /// `public/exchange_token`: the connection becomes the subaccount's.
    pub(super) fn exchange(&mut self, params: &Value, now: Instant) -> Result<Value, Failure> {
        self.check_refresh(params)?;
        let Some(subject) = params["subject_id"].as_u64() else {
            return Err(Failure::parameter("subject_id", "must be a number"));
        };
        self.subject = Some(subject);
        Ok(self.grant("connection", now))
    }

    /// `public/fork_token`: the connection becomes a named session.
    pub(super) fn fork(&mut self, params: &Value, now: Instant) -> Result<Value, Failure> {
        self.check_refresh(params)?;
        let name = params["session_name"].as_str().unwrap_or_default();
        if name.is_empty() {
            return Err(Failure::parameter("session_name", "must be a text"));
        }
        let mut result = self.grant(&format!("session:{name}"), now);
        result["sid"] = json!(name);
        Ok(result)
    }

    fn check_refresh(&self, params: &Value) -> Result<(), Failure> {
        let given = params["refresh_token"].as_str().unwrap_or_default();
        let tokens = self.tokens.as_ref();
        let ours = tokens.is_some_and(|tokens| tokens.refresh == given);
        match ours && !self.knobs.refuse_refresh {
            true => Ok(()),
            false => Err(Failure::new(13009, "unauthorized")),
        }
    }

    /// Fresh tokens for the connection.
    fn grant(&mut self, scope: &str, now: Instant) -> Value {
        let life = self.shared.settings.token_life;
        let tokens = Tokens::new(self.id, life, now);
        let result = json!({
            "access_token": tokens.access,
            "refresh_token": tokens.refresh,
            "token_type": "bearer",
            "expires_in": life.as_secs() + u64::from(life.subsec_nanos() > 0),
            "scope": scope,
            "enabled_features": [],
        });
        self.tokens = Some(tokens);
        result
    }
}
