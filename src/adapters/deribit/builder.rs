//! Collects the options of a [`Deribit`] and checks them once.
//!
//! Apart because some options hang together (cancel-on-disconnect needs credentials) and can only
//! be judged when all are known; a [`Deribit`] that exists is right.
//!
//! Invariants: nothing is clamped or ignored, what cannot work is refused with the option, the value
//! and the remedy; a secret never gets into an error or into `Debug`.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::authorization::{Credentials, Identity, Secret};
use super::{Client, Deribit, Tier};
use crate::error::ConfigError;

/// The venue advises 30 s to 60 s.
pub(super) const DEFAULT_HEARTBEAT: Duration = Duration::from_secs(30);

/// The venue refuses less (`public/set_heartbeat`).
const SHORTEST_HEARTBEAT: Duration = Duration::from_secs(10);

/// How often the venue's clock is asked.
pub(super) const DEFAULT_TIME_SYNC: Duration = Duration::from_secs(300);

/// More often than this the venue's clock is not asked.
const SHORTEST_TIME_SYNC: Duration = Duration::from_secs(1);

/// What to do when the whole platform is locked (`public/status`), as it is during maintenance. A part
/// that is locked stops nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WhenLocked {
    /// The connection is given up and tried again every 30 s; a start fails, naming `public/status`,
    /// unless the configuration retries the first connection.
    Wait,
    /// Go on: market data may flow, orders will be refused.
    Proceed,
}

/// Which orders are cancelled when the connection is lost (`private/enable_cancel_on_disconnect`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Scope {
    /// Those that were placed over this connection.
    Connection,
    /// All orders of the account; the setting stays on for the account's later connections.
    Account,
}

/// Collects the options of a [`Deribit`]; `build` checks them.
#[derive(Clone)]
#[must_use = "a builder does nothing until `build`"]
pub struct DeribitBuilder {
    client: Client,
    heartbeat: Duration,
    credentials: Option<(String, Secret)>,
    signed: bool,
    authorization_scope: Option<String>,
    identity: Option<Identity>,
    cancel_on_disconnect: Option<Scope>,
    tier: Tier,
    when_locked: Option<WhenLocked>,
    time_sync: Duration,
}

impl Default for DeribitBuilder {
    fn default() -> Self {
        Self {
            client: Client::ours(),
            heartbeat: DEFAULT_HEARTBEAT,
            credentials: None,
            signed: false,
            authorization_scope: None,
            identity: None,
            cancel_on_disconnect: None,
            tier: Tier::Fourth,
            when_locked: None,
            time_sync: DEFAULT_TIME_SYNC,
        }
    }
}

impl fmt::Debug for DeribitBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeribitBuilder").finish_non_exhaustive()
    }
}

impl DeribitBuilder {
    /// The API key. Default none: public data only.
    pub fn credentials(
        mut self,
        client_id: impl Into<String>,
        client_secret: impl Into<String>,
    ) -> Self {
        self.credentials = Some((client_id.into(), Secret::new(client_secret.into())));
        self
    }

    /// Whether the secret signs each login (`client_signature`, HMAC-SHA-256) instead of being sent with it.
    /// The venue then refuses a login whose time is too far from its own. Default no.
    pub fn signed(mut self, signed: bool) -> Self {
        self.signed = signed;
        self
    }

    /// What the session asks to be allowed, as the venue's space separated words, for example
    /// `session:maker trade:read_write`. Default: what the key allows, for this connection
    /// (`connection`).
    ///
    /// A `session:NAME` lives on across connections; the venue allows 16 of them per key.
    pub fn authorization_scope(mut self, scope: impl Into<String>) -> Self {
        self.authorization_scope = Some(scope.into());
        self
    }

    /// How often the venue says something on a quiet line. Default 30 s; whole seconds, at least 10.
    /// Shorter notices a dead line sooner; each answer that the venue asks for costs 500 credits.
    pub fn heartbeat(mut self, interval: Duration) -> Self {
        self.heartbeat = interval;
        self
    }

    /// Lets the venue cancel orders when the connection is lost. Default: orders stay.
    ///
    /// Needs credentials with `account:read_write`. It is set again on every new connection.
    pub fn cancel_on_disconnect(mut self, scope: Scope) -> Self {
        self.cancel_on_disconnect = Some(scope);
        self
    }

    /// How fast the account may send orders. Default [`Tier::Fourth`], the usual one. The session keeps to
    /// the venue's limits by itself ([`rate_limits`](super::rate_limits)).
    pub fn tier(mut self, tier: Tier) -> Self {
        self.tier = tier;
        self
    }

    /// Makes the session act for a subaccount, by its number (`public/exchange_token`), on every connection
    /// and after every login. Default: for the account of the key. Excludes [`DeribitBuilder::fork`].
    pub fn subaccount(mut self, subject_id: u64) -> Self {
        self.identity = Some(Identity::Subaccount(subject_id));
        self
    }

    /// Makes the session a named one, which outlives connections (`public/fork_token`), on every connection
    /// and after every login. The venue allows 16 names per key. Default: none. Excludes
    /// [`DeribitBuilder::subaccount`]; the later call counts.
    pub fn fork(mut self, session_name: impl Into<String>) -> Self {
        self.identity = Some(Identity::Fork(session_name.into()));
        self
    }

    /// What to do when the whole platform is locked. Default: wait if there are credentials, else proceed.
    pub fn when_locked(mut self, when_locked: WhenLocked) -> Self {
        self.when_locked = Some(when_locked);
        self
    }

    /// How often the venue's clock is asked (`public/get_time`), beside once per connection. Default: every 5
    /// minutes; at least 1 s. Read the result from [`Session::venue_time`](crate::Session::venue_time).
    pub fn time_sync(mut self, every: Duration) -> Self {
        self.time_sync = every;
        self
    }

    /// Introduces the program to the venue (`public/hello`). Default: as this library.
    pub fn client(mut self, name: impl Into<String>, version: impl Into<String>) -> Self {
        self.client = Client {
            name: name.into(),
            version: version.into(),
        };
        self
    }

    /// Checks every option and returns the platform.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] names the first option that cannot work, its value, and what to write instead.
    ///
    /// ```
    /// use mainstay::adapters::deribit::Deribit;
    /// use std::time::Duration;
    ///
    /// let error = Deribit::builder().heartbeat(Duration::from_secs(5)).build().unwrap_err();
    /// assert_eq!(error.option, "heartbeat");
    /// ```
    pub fn build(self) -> Result<Deribit, ConfigError> {
        check_heartbeat(self.heartbeat)?;
        check_not_blank("client name", &self.client.name)?;
        check_not_blank("client version", &self.client.version)?;
        if self.time_sync < SHORTEST_TIME_SYNC {
            let remedy = format!("give at least {SHORTEST_TIME_SYNC:?}");
            let value = format!("{:?}", self.time_sync);
            return Err(ConfigError::new("time_sync", value, remedy));
        }
        if let Some(Identity::Fork(name)) = &self.identity {
            check_not_blank("fork", name)?;
        }
        if let Some(scope) = &self.authorization_scope {
            check_not_blank("authorization_scope", scope)?;
        }
        let credentials = match (self.credentials, &self.authorization_scope) {
            (Some((id, secret)), _) => {
                let remedy = "give the client id and the client secret of an API key";
                if id.trim().is_empty() {
                    return Err(ConfigError::new("client id", "empty", remedy));
                }
                if secret.is_blank() {
                    return Err(ConfigError::new("client secret", "empty", remedy));
                }
                Some(Credentials::new(id, secret, self.authorization_scope).signing(self.signed))
            }
            (None, Some(scope)) => {
                let remedy = "give credentials too, or leave it out";
                return Err(ConfigError::new("authorization_scope", scope, remedy));
            }
            (None, None) => None,
        };
        if let (Some(identity), None) = (&self.identity, &credentials) {
            let (option, value) = match identity {
                Identity::Subaccount(subject_id) => ("subaccount", subject_id.to_string()),
                Identity::Fork(name) => ("fork", format!("{name:?}")),
            };
            let remedy = "give credentials too, or leave it out";
            return Err(ConfigError::new(option, value, remedy));
        }
        if let (Some(scope), None) = (self.cancel_on_disconnect, &credentials) {
            let remedy = "give credentials too, or leave it out";
            return Err(ConfigError::new(
                "cancel_on_disconnect",
                format!("{scope:?}"),
                remedy,
            ));
        }
        let otherwise = match &credentials {
            Some(_) => WhenLocked::Wait,
            None => WhenLocked::Proceed,
        };
        Ok(Deribit {
            client: self.client,
            heartbeat: self.heartbeat,
            credentials,
            identity: self.identity,
            cancel_on_disconnect: self.cancel_on_disconnect,
            tier: self.tier,
            when_locked: self.when_locked.unwrap_or(otherwise),
            time_sync: self.time_sync,
        })
    }
}

fn check_heartbeat(interval: Duration) -> Result<(), ConfigError> {
    let remedy = if interval < SHORTEST_HEARTBEAT {
        format!("give at least {SHORTEST_HEARTBEAT:?}, the venue refuses less")
    } else if interval.subsec_nanos() != 0 {
        "give whole seconds, the venue knows no others".to_owned()
    } else {
        return Ok(());
    };
    Err(ConfigError::new(
        "heartbeat",
        format!("{interval:?}"),
        remedy,
    ))
}

fn check_not_blank(option: &'static str, value: &str) -> Result<(), ConfigError> {
    if value.trim().is_empty() {
        return Err(ConfigError::new(
            option,
            format!("{value:?}"),
            "give a text, or leave it out",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_heartbeat_below_ten_seconds_is_refused_with_value_and_remedy() {
        let error = Deribit::builder()
            .heartbeat(Duration::from_millis(9_999))
            .build()
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "heartbeat cannot be \"9.999s\": give at least 10s, the venue refuses less"
        );
        assert!(
            Deribit::builder()
                .heartbeat(Duration::from_secs(10))
                .build()
                .is_ok()
        );
    }

    #[test]
    fn a_heartbeat_of_broken_seconds_is_refused_and_not_rounded() {
        let error = Deribit::builder()
            .heartbeat(Duration::from_millis(10_500))
            .build()
            .unwrap_err();
        assert_eq!(
            (&*error.option, error.value.as_str()),
            ("heartbeat", "10.5s")
        );
    }

    #[test]
    fn cancel_on_disconnect_without_credentials_is_refused() {
        let error = Deribit::builder()
            .cancel_on_disconnect(Scope::Account)
            .build()
            .unwrap_err();
        assert_eq!(
            (&*error.option, error.value.as_str()),
            ("cancel_on_disconnect", "Account")
        );
    }

    #[test]
    fn another_identity_without_credentials_is_refused() {
        let error = Deribit::builder().subaccount(7).build().unwrap_err();
        assert_eq!((&*error.option, error.value.as_str()), ("subaccount", "7"));
        let error = Deribit::builder().fork("maker").build().unwrap_err();
        assert_eq!(error.option, "fork");
        let error = Deribit::builder()
            .credentials("i", "s")
            .fork(" ")
            .build()
            .unwrap_err();
        assert_eq!(error.option, "fork");
    }

    #[test]
    fn the_venues_clock_is_not_asked_all_the_time() {
        let error = Deribit::builder()
            .time_sync(Duration::from_millis(999))
            .build()
            .unwrap_err();
        assert_eq!(
            (&*error.option, error.value.as_str()),
            ("time_sync", "999ms")
        );
    }

    #[test]
    fn an_authorization_scope_without_credentials_is_refused() {
        let error = Deribit::builder()
            .authorization_scope("session:maker")
            .build()
            .unwrap_err();
        assert_eq!(error.option, "authorization_scope");
    }

    #[test]
    fn blank_texts_are_refused() {
        for (builder, option) in [
            (Deribit::builder().credentials("", "s3cret"), "client id"),
            (Deribit::builder().credentials("id", " \n"), "client secret"),
            (Deribit::builder().client(" ", "1.0"), "client name"),
            (Deribit::builder().client("bot", ""), "client version"),
            (
                Deribit::builder()
                    .credentials("id", "s")
                    .authorization_scope(""),
                "authorization_scope",
            ),
        ] {
            let error = builder.build().unwrap_err();
            assert_eq!(error.option, option);
            assert!(!format!("{error} {error:?}").contains("s3cret"));
        }
    }

    #[test]
    fn options_may_come_in_any_order() {
        let built = Deribit::builder()
            .cancel_on_disconnect(Scope::Connection)
            .credentials("i", "s");
        assert!(built.build().is_ok());
    }
}
