//! `public/auth`: how a session proves who it is, and for how long the venue believes it.
//!
//! Apart because this is the only file that handles secrets.
//!
//! Invariants: [`Secret`] and [`Credentials`] have no `Debug` and no `Display`, and leave this file
//! only inside a [`Call`], which shows neither; an error names the field that is wrong, never its
//! value. Deliberately absent: the access token, since a socket that has authenticated needs none.

use std::time::{Duration, UNIX_EPOCH};

use data_encoding::HEXLOWER;
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::Sha256;

use super::request;
use crate::error::DecodeError;
use crate::platform::Moment;
use crate::protocol::call::{Call, Grant};

/// A text that is never shown.
#[derive(Clone, Serialize)]
#[serde(transparent)]
pub(super) struct Secret(String);

impl Secret {
    pub(super) fn new(text: String) -> Self {
        Self(text)
    }

    pub(super) fn reveal(&self) -> &str {
        &self.0
    }

    pub(super) fn is_blank(&self) -> bool {
        self.0.trim().is_empty()
    }
}

/// An API key and what to ask with it.
#[derive(Clone)]
pub(super) struct Credentials {
    client_id: String,
    client_secret: Secret,
    scope: Option<String>,
    /// Whether the secret signs instead of being sent.
    signs: bool,
}

impl Credentials {
    pub(super) fn new(client_id: String, client_secret: Secret, scope: Option<String>) -> Self {
        Self {
            client_id,
            client_secret,
            scope,
            signs: false,
        }
    }

    /// The same, whose secret signs and is never sent.
    pub(super) fn signing(self, signs: bool) -> Self {
        Self { signs, ..self }
    }

    /// The request that authenticates a connection at this moment.
    pub(super) fn authenticate(&self, moment: &Moment) -> Call {
        if self.signs {
            return self.sign(moment);
        }
        request(
            AUTH,
            &Auth::ClientCredentials {
                client_id: &self.client_id,
                client_secret: &self.client_secret,
                scope: self.scope.as_deref(),
            },
        )
    }

    /// HMAC-SHA-256 by the secret over time, nonce and data, each on a line; the data are empty.
    fn sign(&self, moment: &Moment) -> Call {
        let since = moment.now.duration_since(UNIX_EPOCH).unwrap_or_default();
        let timestamp = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
        let nonce = format!("{:016x}", moment.random);
        let mut mac = Hmac::<Sha256>::new_from_slice(self.client_secret.reveal().as_bytes())
            .expect("HMAC takes a key of any length");
        mac.update(format!("{timestamp}\n{nonce}\n").as_bytes());
        let signature = HEXLOWER.encode(&mac.finalize().into_bytes());
        request(
            AUTH,
            &Auth::ClientSignature {
                client_id: &self.client_id,
                timestamp,
                signature: &signature,
                nonce: &nonce,
                data: "",
                scope: self.scope.as_deref(),
            },
        )
    }
}

/// Whom a session becomes with the token that its credentials brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Identity {
    /// A subaccount, by its number.
    Subaccount(u64),
    /// A session of this name, which outlives connections.
    Fork(String),
}

impl Identity {
    fn request(&self, refresh_token: &Secret) -> Call {
        match self {
            Self::Subaccount(subject_id) => request(
                "public/exchange_token",
                &Exchange {
                    refresh_token,
                    subject_id: *subject_id,
                },
            ),
            Self::Fork(session_name) => request(
                "public/fork_token",
                &Fork {
                    refresh_token,
                    session_name,
                },
            ),
        }
    }
}

/// Reads the result of `public/auth`, whether of credentials or of a renewal, or of what made another
/// identity of it: all have one form.
pub(super) fn granted(
    result: &RawValue,
    identity: Option<&Identity>,
) -> Result<Grant, DecodeError> {
    // Raw first: the decoder's own texts would repeat a value of the wrong type.
    let answer: Answer<'_> = serde_json::from_str(result.get())
        .map_err(|_| DecodeError::new(EXPECTED, "not an object, or a field twice"))?;
    let expires_in = answer
        .expires_in
        .and_then(|raw| serde_json::from_str::<u32>(raw.get()).ok())
        .filter(|seconds| *seconds > 0)
        .ok_or_else(|| {
            DecodeError::new(EXPECTED, "expires_in is not a number of seconds above zero")
        })?;
    let refresh_token = answer
        .refresh_token
        .and_then(|raw| serde_json::from_str::<Secret>(raw.get()).ok())
        .filter(|token| !token.is_blank())
        .ok_or_else(|| DecodeError::new(EXPECTED, "refresh_token is not a text"))?;
    let renewal = request(
        AUTH,
        &Auth::RefreshToken {
            refresh_token: &refresh_token,
        },
    );
    let lasts = Duration::from_secs(u64::from(expires_in));
    let grant = Grant::new(Some(lasts), Some(renewal));
    Ok(match identity {
        Some(identity) => grant.then(identity.request(&refresh_token)),
        None => grant,
    })
}

const AUTH: &str = "public/auth";
const EXPECTED: &str = "authorization";

#[derive(Serialize)]
#[serde(tag = "grant_type", rename_all = "snake_case")]
enum Auth<'a> {
    ClientCredentials {
        client_id: &'a str,
        client_secret: &'a Secret,
        #[serde(skip_serializing_if = "Option::is_none")]
        scope: Option<&'a str>,
    },
    ClientSignature {
        client_id: &'a str,
        /// Milliseconds since 1970.
        timestamp: u64,
        signature: &'a str,
        nonce: &'a str,
        data: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        scope: Option<&'a str>,
    },
    RefreshToken {
        refresh_token: &'a Secret,
    },
}

#[derive(Serialize)]
struct Exchange<'a> {
    refresh_token: &'a Secret,
    subject_id: u64,
}

#[derive(Serialize)]
struct Fork<'a> {
    refresh_token: &'a Secret,
    session_name: &'a str,
}

#[derive(Deserialize)]
struct Answer<'r> {
    #[serde(borrow)]
    expires_in: Option<&'r RawValue>,
    #[serde(borrow)]
    refresh_token: Option<&'r RawValue>,
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(json: &str) -> Box<RawValue> {
        RawValue::from_string(json.to_owned()).unwrap()
    }

    fn granted_to(result: &RawValue) -> Result<Grant, DecodeError> {
        granted(result, None)
    }

    #[test]
    fn another_identity_is_asked_for_with_the_token_that_came() {
        let answer = raw(r#"{"expires_in":9,"refresh_token":"t0ken"}"#);
        for (identity, method, params) in [
            (
                Identity::Subaccount(7),
                "public/exchange_token",
                r#"{"refresh_token":"t0ken","subject_id":7}"#,
            ),
            (
                Identity::Fork("maker".to_owned()),
                "public/fork_token",
                r#"{"refresh_token":"t0ken","session_name":"maker"}"#,
            ),
        ] {
            let grant = granted(&answer, Some(&identity)).unwrap();
            let then = grant.then.unwrap();
            assert_eq!(then.method(), method);
            assert_eq!(then.params().unwrap().get(), params);
            assert!(!format!("{then:?}").contains("t0ken"));
        }
    }

    fn credentials(scope: Option<&str>) -> Credentials {
        let secret = Secret::new("s3cret".to_owned());
        Credentials::new("id".to_owned(), secret, scope.map(str::to_owned))
    }

    fn moment() -> Moment {
        Moment::new(UNIX_EPOCH + Duration::from_millis(1_576_074_319_000), 7)
    }

    /// The expected value comes from an independent implementation (`openssl dgst -sha256 -hmac`).
    #[test]
    fn a_secret_that_signs_is_not_sent() {
        let call = credentials(Some("connection"))
            .signing(true)
            .authenticate(&moment());
        assert_eq!(
            call.params().unwrap().get(),
            concat!(
                r#"{"grant_type":"client_signature","client_id":"id","timestamp":1576074319000,"#,
                r#""signature":"cb39f1cf86fabbb1962fa7a0c1cf18969fae22da3f2e48f601e451dbaaee4abf","#,
                r#""nonce":"0000000000000007","data":"","scope":"connection"}"#
            )
        );
    }

    #[test]
    fn credentials_become_an_auth_request() {
        let call = credentials(None).authenticate(&moment());
        assert_eq!(call.method(), "public/auth");
        assert_eq!(
            call.params().unwrap().get(),
            r#"{"grant_type":"client_credentials","client_id":"id","client_secret":"s3cret"}"#
        );
    }

    #[test]
    fn a_scope_is_asked_for() {
        let call = credentials(Some("session:maker")).authenticate(&moment());
        assert!(
            call.params()
                .unwrap()
                .get()
                .ends_with(r#","scope":"session:maker"}"#)
        );
    }

    #[test]
    fn a_grant_lasts_as_long_as_the_venue_says_and_is_renewed_with_its_token() {
        for seconds in [4, 900, 31_536_000, 315_360_000] {
            let grant = granted_to(&raw(&format!(
                r#"{{"access_token":"a","expires_in":{seconds},"refresh_token":"r3fresh\n",
                    "scope":"connection mainaccount","token_type":"bearer","enabled_features":[]}}"#
            )))
            .unwrap();
            assert_eq!(grant.lasts, Some(Duration::from_secs(seconds)));
            let renewal = grant.renewal.unwrap();
            assert_eq!(renewal.method(), "public/auth");
            assert_eq!(
                renewal.params().unwrap().get(),
                r#"{"grant_type":"refresh_token","refresh_token":"r3fresh\n"}"#
            );
        }
    }

    #[test]
    fn a_life_that_is_no_positive_number_is_an_error_that_names_the_field() {
        for life in [
            "0",
            "-1",
            "1.5",
            "\"900\"",
            "null",
            "{}",
            "18446744073709551616",
        ] {
            let answer = raw(&format!(
                r#"{{"expires_in":{life},"refresh_token":"t0ken"}}"#
            ));
            let error = granted_to(&answer).unwrap_err();
            assert!(error.detail.starts_with("expires_in "), "{life}: {error}");
        }
        assert!(granted_to(&raw(r#"{"refresh_token":"t0ken"}"#)).is_err());
    }

    #[test]
    fn a_missing_or_odd_refresh_token_is_an_error_that_names_the_field() {
        for token in ["null", "17", "\"\"", "[\"t0ken\"]"] {
            let answer = raw(&format!(r#"{{"expires_in":900,"refresh_token":{token}}}"#));
            let error = granted_to(&answer).unwrap_err();
            assert_eq!(error.detail, "refresh_token is not a text", "{token}");
        }
        assert!(granted_to(&raw(r#"{"expires_in":900}"#)).is_err());
    }

    #[test]
    fn a_result_that_is_no_object_is_an_error() {
        for result in ["null", "\"ok\"", "[]", "900"] {
            assert!(granted_to(&raw(result)).is_err(), "{result}");
        }
    }

    #[test]
    fn no_error_and_no_debug_shows_a_token() {
        let answers = [
            r#"{"expires_in":"t0ken","refresh_token":"t0ken"}"#,
            r#"{"expires_in":900,"refresh_token":{"t0ken":1}}"#,
            r#"{"refresh_token":"t0ken","refresh_token":"t0ken"}"#,
            r#""t0ken""#,
        ];
        for answer in answers {
            let error = granted_to(&raw(answer)).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("t0ken"));
        }
        let grant = granted_to(&raw(r#"{"expires_in":9,"refresh_token":"t0ken"}"#)).unwrap();
        assert!(!format!("{grant:?} {:?}", grant.renewal).contains("t0ken"));
        assert!(!format!("{:?}", credentials(None).authenticate(&moment())).contains("s3cret"));
    }
}
