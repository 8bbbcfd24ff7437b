//! What a session knows to be secret, and how it is taken out of what a peer says.
//!
//! Its own file because a peer may repeat anything that it was told, in an error, a close reason or a refusal, and
//! whoever reads those should not have to think of that.
//!
//! Invariants: nothing is learned that a peer could make up; what is taken for a secret is long enough not to stand in
//! ordinary words; a text without a secret is handed back as it is.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::fmt;

use bytes::Bytes;
use data_encoding::BASE64;
use serde_json::Value;

use super::recording::{DEFAULT_MEMBERS, REDACTED};
use crate::frame::Frame;

/// The secrets of one session.
#[derive(Clone)]
pub struct Secrets {
    /// Of the configuration: for as long as the session is.
    fixed: Vec<String>,
    /// Of requests and grants: the latest.
    learned: VecDeque<String>,
    /// As they are, and as JSON writes them.
    forms: Vec<String>,
}

impl Default for Secrets {
    fn default() -> Self {
        Self::new()
    }
}

impl Secrets {
    /// None.
    #[must_use]
    pub fn new() -> Self {
        Self {
            fixed: Vec::new(),
            learned: VecDeque::new(),
            forms: Vec::new(),
        }
    }

    /// A header of the opening handshake, or a member of the URL's query: secret if its name says so.
    pub fn add_named(&mut self, name: &str, value: &str) {
        if !tells(name) {
            return;
        }
        let mut found = vec![value.to_owned()];
        // "Bearer x", "a=x; b=y", and the password in what RFC 7617 makes of it.
        for part in value.split([' ', ';', ',']) {
            let part = part.trim();
            let padded = part.trim_end_matches('=').len();
            found.push(match part[..padded].find('=') {
                Some(at) => part[at + 1..].to_owned(),
                None => part.to_owned(),
            });
            if let Ok(pair) = BASE64.decode(part.as_bytes())
                && let Ok(pair) = String::from_utf8(pair)
                && let Some((_, password)) = pair.split_once(':')
            {
                found.push(password.to_owned());
            }
        }
        found.retain(|value| value.len() >= SHORTEST);
        self.fixed.extend(found);
        self.renew();
    }

    /// The parameters of a request that bears credentials. Whether there was anything new.
    pub fn learn_request(&mut self, params: &str) -> bool {
        self.learn(params, |name| !OPEN.contains(&name))
    }

    /// What a venue granted. Whether there was anything new.
    pub fn learn_grant(&mut self, result: &str) -> bool {
        self.learn(result, |name| DEFAULT_MEMBERS.contains(&name))
    }

    fn learn(&mut self, json: &str, secret: impl Fn(&str) -> bool) -> bool {
        let Ok(json) = serde_json::from_str::<Value>(json) else {
            return false;
        };
        let mut found = Vec::new();
        texts(&json, "", &mut |name, text| {
            if text.len() >= SHORTEST && secret(&name.to_ascii_lowercase()) {
                found.push(text.to_owned());
            }
        });
        let mut news = false;
        for text in found {
            if self.fixed.contains(&text) || self.learned.contains(&text) {
                continue;
            }
            news = true;
            if self.learned.len() == LEARNED {
                self.learned.pop_front();
            }
            self.learned.push_back(text);
        }
        if news {
            self.renew();
        }
        news
    }

    /// The text without the secrets in it.
    #[must_use]
    pub fn clean<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let mut cleaned = Cow::Borrowed(text);
        for form in &self.forms {
            if let Some(without) = without(&cleaned, form) {
                cleaned = Cow::Owned(without);
            }
        }
        cleaned
    }

    /// The bytes without the secrets in them; of what is no text nothing is left if there is one.
    #[must_use]
    pub fn clean_bytes(&self, bytes: Bytes) -> Bytes {
        match std::str::from_utf8(&bytes) {
            Ok(text) => match self.clean(text) {
                Cow::Borrowed(_) => bytes,
                Cow::Owned(cleaned) => cleaned.into(),
            },
            Err(_) if self.may_be_in(&bytes) => Bytes::from_static(REDACTED.as_bytes()),
            Err(_) => bytes,
        }
    }

    /// The frame without the secrets in it.
    #[must_use]
    pub fn clean_frame(&self, frame: Frame) -> Frame {
        match frame {
            Frame::Text(text) => match self.clean(&text) {
                Cow::Borrowed(_) => Frame::Text(text),
                Cow::Owned(cleaned) => Frame::text(cleaned),
            },
            Frame::Binary(bytes) => Frame::Binary(self.clean_bytes(bytes)),
            Frame::Ping(bytes) => Frame::Ping(self.clean_bytes(bytes)),
            Frame::Pong(bytes) => Frame::Pong(self.clean_bytes(bytes)),
            Frame::Close(Some((code, reason))) => {
                let reason = self.clean(&reason).into_owned();
                Frame::Close(Some((code, reason)))
            }
            Frame::Close(None) => Frame::Close(None),
        }
    }

    /// Whether one may be in these bytes, which may be many payloads; where none is, cleaning changes nothing.
    #[must_use]
    pub fn may_be_in(&self, bytes: &[u8]) -> bool {
        self.forms.iter().any(|form| holds(bytes, form))
    }

    /// Whether there is nothing to be taken out of anything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.fixed.is_empty() && self.learned.is_empty()
    }

    fn renew(&mut self) {
        self.forms.clear();
        for secret in self.fixed.iter().chain(&self.learned) {
            let json = serde_json::to_string(secret).unwrap_or_default();
            let escaped = json.trim_matches('"');
            self.forms.push(secret.clone());
            if escaped != secret && !escaped.is_empty() {
                self.forms.push(escaped.to_owned());
            }
        }
        // The longest first: one may be a part of another.
        self.forms.sort_by_key(|form| std::cmp::Reverse(form.len()));
        self.forms.dedup();
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secrets")
            .field("fixed", &self.fixed.len())
            .field("learned", &self.learned.len())
            .finish()
    }
}

/// Secrets of requests and grants that are kept; each renewal brings a few.
const LEARNED: usize = 64;
/// A shorter text may be any word.
const SHORTEST: usize = 6;
/// A longer text is no word, wherever it stands.
const LONG: usize = 16;
/// Members of a login that say what it is and not who asks.
const OPEN: [&str; 8] = [
    "grant_type",
    "scope",
    "method",
    "type",
    "op",
    "channel",
    "channels",
    "event",
];
/// What is in the name of a header, or of a member of a query, whose value is secret.
const TELLING: [&str; 10] = [
    "auth",
    "token",
    "secret",
    "key",
    "pass",
    "sign",
    "cookie",
    "jwt",
    "credential",
    "session",
];

fn tells(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    TELLING.iter().any(|word| name.contains(word))
}

fn holds(bytes: &[u8], form: &str) -> bool {
    memchr::memmem::find(bytes, form.as_bytes()).is_some()
}

/// The text without this secret; `None` if it is not there. A short one is only taken for one where it is a word of
/// its own and no member's name.
fn without(text: &str, form: &str) -> Option<String> {
    let mut cleaned = String::new();
    let mut kept = 0;
    for (at, _) in text.match_indices(form) {
        let end = at + form.len();
        let (before, behind) = (&text[..at], &text[end..]);
        let joins = |c: char| c.is_alphanumeric() || c == '_';
        let is_part = before.ends_with(joins) || behind.starts_with(joins);
        let is_name = before.ends_with('"')
            && behind
                .strip_prefix('"')
                .is_some_and(|behind| behind.trim_start().starts_with(':'));
        if form.len() < LONG && (is_part || is_name) {
            continue;
        }
        cleaned.push_str(&text[kept..at]);
        cleaned.push_str(REDACTED);
        kept = end;
    }
    if kept == 0 {
        return None;
    }
    cleaned.push_str(&text[kept..]);
    Some(cleaned)
}

/// Every text in `json`, with the name of the member that it is in, however deep.
fn texts<'j>(json: &'j Value, name: &'j str, see: &mut dyn FnMut(&'j str, &'j str)) {
    match json {
        Value::String(text) => see(name, text),
        Value::Array(items) => items.iter().for_each(|item| texts(item, name, see)),
        Value::Object(members) => members
            .iter()
            .for_each(|(name, value)| texts(value, name, see)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_login_says_is_taken_out_of_what_is_said_after_it() {
        let mut secrets = Secrets::new();
        assert!(secrets.is_empty());
        let login = r#"{"grant_type":"client_credentials","client_id":"who-12345",
            "client_secret":"a-very-long-secret","nested":[{"pin":"no"},"deep-secret"]}"#;
        assert!(secrets.learn_request(login));
        assert!(!secrets.learn_request(login), "nothing new");
        let said = r#"no a-very-long-secret for who-12345 by client_credentials: "deep-secret" no"#;
        assert_eq!(
            secrets.clean(said),
            r#"no [redacted] for [redacted] by client_credentials: "[redacted]" no"#
        );
        assert!(matches!(secrets.clean("nothing"), Cow::Borrowed("nothing")));
        let debug = format!("{secrets:?}");
        assert!(!debug.contains("secret\""), "{debug}");
    }

    #[test]
    fn of_a_grant_only_tokens_are_secret() {
        let mut secrets = Secrets::new();
        let grant = r#"{"access_token":"token-1111","token_type":"bearer","scope":"mainaccount"}"#;
        assert!(secrets.learn_grant(grant));
        assert_eq!(
            secrets.clean("bearer token-1111 of mainaccount"),
            "bearer [redacted] of mainaccount"
        );
    }

    #[test]
    fn headers_and_queries_are_judged_by_their_names() {
        let mut secrets = Secrets::new();
        // RFC 7617, section 2.
        secrets.add_named("Authorization", "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
        secrets.add_named("cookie", "sid=abcdef-1; theme=darkest");
        secrets.add_named("listenKey", "a-listen-key");
        secrets.add_named("streams", "btcusdt@trade");
        secrets.add_named("x-key", "short");
        let said = "open sesame, QWxhZGRpbjpvcGVuIHNlc2FtZQ==, abcdef-1, a-listen-key, btcusdt@trade, short";
        assert_eq!(
            secrets.clean(said),
            "[redacted], [redacted], [redacted], [redacted], btcusdt@trade, short"
        );
    }

    #[test]
    fn a_short_secret_is_a_word_of_its_own_and_a_long_one_stands_anywhere() {
        let mut secrets = Secrets::new();
        assert!(secrets.learn_request(r#"{"client_secret":"secret","id":"abcdefghijklmnop"}"#));
        let json = r#"{"client_secret":"secret","secret" : 1,"note":"a secret, secrets"}"#;
        assert_eq!(
            secrets.clean(json),
            r#"{"client_secret":"[redacted]","secret" : 1,"note":"a [redacted], secrets"}"#
        );
        assert_eq!(secrets.clean("xabcdefghijklmnopx"), "x[redacted]x");
        let binary = Bytes::from_static(b"\xff abcdefghijklmnop");
        assert_eq!(&secrets.clean_bytes(binary)[..], REDACTED.as_bytes());
    }

    #[test]
    fn of_very_many_the_latest_are_known() {
        let mut secrets = Secrets::new();
        secrets.add_named("token", "of-the-url");
        for number in 0..1000 {
            assert!(secrets.learn_request(&format!(r#"["number-{number}"]"#)));
        }
        assert_eq!(
            secrets.clean("of-the-url number-999"),
            "[redacted] [redacted]"
        );
        assert_eq!(secrets.clean("number-1!"), "number-1!");
        assert_eq!(secrets.learned.len(), LEARNED);
    }
}
