//! The connection itself and its tokens: greeting, heartbeats, cancel-on-disconnect, subscriptions by
//! hand, logging in, other accounts, logging out.
//!
//! A session does most of this by itself, on every connection; what is done by hand here is forgotten
//! when the connection ends.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{SHORT, USUAL};
use crate::adapters::deribit::Scope;
use crate::adapters::deribit::authorization::Secret;

crate::rpc! {
    /// Introduces the program (`public/hello`).
    pub fn hello(client_name: &str, client_version: &str) -> Version = "public/hello", idempotent,
        within SHORT;
    /// Asks for a sign of life; with `exception` the venue answers with an error (`public/test`).
    pub fn test(expected_result: Option<&str>) -> Version = "public/test", idempotent,
        within Duration::from_secs(2);
    /// Asks for heartbeats every so many seconds, at least 10; the result is `ok`. The session sets its
    /// own (`public/set_heartbeat`).
    pub fn set_heartbeat(interval: u64) -> String = "public/set_heartbeat", idempotent, within USUAL;
    /// Asks for no more heartbeats; the result is `ok` (`public/disable_heartbeat`).
    pub fn disable_heartbeat() -> String = "public/disable_heartbeat", idempotent, within USUAL;
    /// Subscribes by hand; the result is what was really subscribed, and it may be less than asked.
    /// [`Session::subscribe`](crate::Session::subscribe) restores what it subscribes, this does not
    /// (`public/subscribe`).
    pub fn subscribe(channels: &[&str]) -> Vec<String> = "public/subscribe", idempotent, within USUAL;
    /// As [`subscribe`], for channels that need credentials; without them the result is empty and no error
    /// (`private/subscribe`).
    pub fn subscribe_private(channels: &[&str]) -> Vec<String> = "private/subscribe", idempotent,
        within USUAL;
    /// Unsubscribes by hand; the result is what was really unsubscribed (`public/unsubscribe`).
    pub fn unsubscribe(channels: &[&str]) -> Vec<String> = "public/unsubscribe", idempotent,
        within USUAL;
    /// As [`unsubscribe`], for channels that need credentials (`private/unsubscribe`).
    pub fn unsubscribe_private(channels: &[&str]) -> Vec<String> = "private/unsubscribe", idempotent,
        within USUAL;
    /// Unsubscribes from every channel, behind the session's back; the result is `ok`
    /// (`public/unsubscribe_all`).
    pub fn unsubscribe_all() -> String = "public/unsubscribe_all", idempotent, within USUAL;
    /// As [`unsubscribe_all`], with credentials (`private/unsubscribe_all`).
    pub fn unsubscribe_all_private() -> String = "private/unsubscribe_all", idempotent, within USUAL;
    /// Switches cancel-on-disconnect on; the result is `ok`. To have it on after each reconnect use
    /// [`DeribitBuilder::cancel_on_disconnect`](crate::adapters::deribit::DeribitBuilder::cancel_on_disconnect)
    /// (`private/enable_cancel_on_disconnect`).
    pub fn enable_cancel_on_disconnect(scope: Option<Scope>) -> String
        = "private/enable_cancel_on_disconnect", idempotent, within USUAL;
    /// Switches it off; the result is `ok` (`private/disable_cancel_on_disconnect`).
    pub fn disable_cancel_on_disconnect(scope: Option<Scope>) -> String
        = "private/disable_cancel_on_disconnect", idempotent, within USUAL;
    /// Whether it is on (`private/get_cancel_on_disconnect`).
    pub fn cancel_on_disconnect(scope: Option<Scope>) -> CancelOnDisconnect
        = "private/get_cancel_on_disconnect", idempotent, within USUAL;
    /// Logs in, or renews, by hand: from now on the connection acts with these tokens, until it ends or
    /// the session renews its own (`public/auth`).
    pub fn authenticate(params: &Login) -> Tokens = "public/auth", at_most_once,
        within Duration::from_secs(30);
    /// Tokens for a subaccount, by its number. For a session that acts for the subaccount, also after
    /// reconnecting, use [`DeribitBuilder::subaccount`](crate::adapters::deribit::DeribitBuilder::subaccount)
    /// (`public/exchange_token`).
    pub fn exchange_token(refresh_token: &Token, subject_id: u64) -> Tokens
        = "public/exchange_token", at_most_once, within Duration::from_secs(30);
    /// Tokens of a named session, which outlives connections; the venue allows 16 for each key. For a session that forks by
    /// itself use [`DeribitBuilder::fork`](crate::adapters::deribit::DeribitBuilder::fork)
    /// (`public/fork_token`).
    pub fn fork_token(refresh_token: &Token, session_name: &str) -> Tokens
        = "public/fork_token", at_most_once, within Duration::from_secs(30);
    /// Logs out. The venue does not answer but closes the connection, and cancel-on-disconnect does not
    /// fire: orders stay. Tokens become invalid unless `invalidate_token` is false. Give it to
    /// [`Session::shutdown_after`](crate::Session::shutdown_after), which does not reconnect
    /// (`private/logout`).
    pub fn logout(invalidate_token: Option<bool>) -> serde::de::IgnoredAny = "private/logout",
        at_most_once, within SHORT;
}

/// The version of the venue's API.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct Version {
    /// Such as `1.2.26`.
    pub version: String,
}

/// Whether orders are cancelled when the connection is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct CancelOnDisconnect {
    /// Which orders it is about.
    pub scope: Scope,
    /// Whether it is on.
    pub enabled: bool,
}

/// How to log in by hand. `Debug` shows nothing of it.
#[derive(Clone, Serialize)]
pub struct Login {
    #[serde(flatten)]
    grant: Grant,
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<String>,
}

#[derive(Clone, Serialize)]
#[serde(tag = "grant_type", rename_all = "snake_case")]
enum Grant {
    ClientCredentials {
        client_id: String,
        client_secret: Secret,
    },
    RefreshToken {
        refresh_token: Token,
    },
}

impl Login {
    /// With an API key.
    #[must_use]
    pub fn credentials(client_id: impl Into<String>, client_secret: impl Into<String>) -> Self {
        Self {
            grant: Grant::ClientCredentials {
                client_id: client_id.into(),
                client_secret: Secret::new(client_secret.into()),
            },
            scope: None,
        }
    }

    /// With a refresh token, which is good for one renewal.
    #[must_use]
    pub fn refresh(token: &Token) -> Self {
        Self {
            grant: Grant::RefreshToken {
                refresh_token: token.clone(),
            },
            scope: None,
        }
    }

    /// What to ask for, as the venue's space separated words.
    #[must_use]
    pub fn scope(mut self, scope: impl Into<String>) -> Self {
        self.scope = Some(scope.into());
        self
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Login([redacted])")
    }
}

/// A token. `Debug` does not show it.
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Token(Secret);

impl Token {
    /// A token from elsewhere.
    #[must_use]
    pub fn new(token: impl Into<String>) -> Self {
        Self(Secret::new(token.into()))
    }

    /// The token itself, for handing it to somebody else. Keep it out of logs.
    #[must_use]
    pub fn reveal(&self) -> &str {
        self.0.reveal()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token([redacted])")
    }
}

/// What the venue granted.
#[derive(Debug, Clone, Deserialize)]
#[non_exhaustive]
pub struct Tokens {
    /// For private methods over other connections.
    pub access_token: Token,
    /// For renewal, exchange and forking.
    pub refresh_token: Token,
    /// How long the access token is good, in seconds.
    pub expires_in: u64,
    /// What it allows, as the venue's space separated words.
    #[serde(default)]
    pub scope: String,
    /// The session's id, of named sessions.
    pub sid: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_is_written_as_the_venue_reads_it_and_never_shown() {
        let login = Login::credentials("id7", "s3cret").scope("session:x");
        let call = authenticate(&login);
        assert_eq!(
            call.call().unwrap().params().unwrap().get(),
            r#"{"grant_type":"client_credentials","client_id":"id7","client_secret":"s3cret","scope":"session:x"}"#
        );
        let refresh = authenticate(&Login::refresh(&Token::new("t0ken")));
        assert_eq!(
            refresh.call().unwrap().params().unwrap().get(),
            r#"{"grant_type":"refresh_token","refresh_token":"t0ken"}"#
        );
        let exchange = exchange_token(&Token::new("t0ken"), 7);
        assert_eq!(
            exchange.call().unwrap().params().unwrap().get(),
            r#"{"refresh_token":"t0ken","subject_id":7}"#
        );
        let tokens: Tokens = serde_json::from_str(
            r#"{"access_token":"t0ken","refresh_token":"t0ken","expires_in":9,"token_type":"bearer"}"#,
        )
        .unwrap();
        let shown = format!(
            "{login:?} {call:?} {refresh:?} {exchange:?} {tokens:?} {:?}",
            exchange.call()
        );
        for secret in ["id7", "s3cret", "t0ken"] {
            assert!(!shown.contains(secret), "{shown}");
        }
        assert_eq!(tokens.refresh_token.reveal(), "t0ken");
    }
}
