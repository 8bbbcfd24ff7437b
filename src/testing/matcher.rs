//! What a test expects a message to be.
//!
//! A file of its own because scripts, connections and servers all ask the same question of a
//! message.
//!
//! Invariant: a matcher looks at one text message and at nothing else.

use std::fmt;
use std::sync::Arc;

use regex_lite::Regex;
use serde_json::Value;

/// Tells whether a text message is the expected one.
#[derive(Clone)]
#[non_exhaustive]
pub enum Matcher {
    /// Any message.
    Any,
    /// Exactly this text.
    Exact(String),
    /// A text with this inside.
    Contains(String),
    /// A text in which this pattern is found; made by [`Matcher::regex`].
    Regex(Pattern),
    /// JSON that has at least these members with these values; objects are compared member by
    /// member at every depth, everything else must be equal.
    Json(Value),
    /// A JSON-RPC request of this method.
    Method(String),
    /// Whatever the function accepts.
    Predicate(Arc<dyn Fn(&str) -> bool + Send + Sync>),
}

/// A regular expression that could be read.
#[derive(Clone)]
pub struct Pattern(Regex);

/// A regular expression could not be read.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the pattern {pattern:?} cannot be read")]
#[non_exhaustive]
pub struct PatternError {
    /// The pattern.
    pub pattern: String,
    /// What is wrong with it.
    #[source]
    pub source: regex_lite::Error,
}

impl Matcher {
    /// A matcher that finds `pattern` anywhere in a text, in the syntax of the crate `regex-lite`;
    /// `^` and `$` tie it to the text's ends.
    ///
    /// # Errors
    ///
    /// [`PatternError`] if it cannot be read.
    pub fn regex(pattern: &str) -> Result<Self, PatternError> {
        match Regex::new(pattern) {
            Ok(regex) => Ok(Self::Regex(Pattern(regex))),
            Err(source) => Err(PatternError {
                pattern: pattern.to_owned(),
                source,
            }),
        }
    }

    /// A matcher that asks `accept`.
    pub fn predicate(accept: impl Fn(&str) -> bool + Send + Sync + 'static) -> Self {
        Self::Predicate(Arc::new(accept))
    }

    /// A matcher for the JSON-RPC method `method`.
    pub fn method(method: impl Into<String>) -> Self {
        Self::Method(method.into())
    }

    /// Whether `text` is what is expected.
    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Exact(expected) => text == expected,
            Self::Contains(part) => text.contains(part.as_str()),
            Self::Regex(Pattern(regex)) => regex.is_match(text),
            Self::Json(expected) => {
                serde_json::from_str(text).is_ok_and(|found| includes(&found, expected))
            }
            Self::Method(method) => serde_json::from_str::<Value>(text)
                .is_ok_and(|found| found["method"].as_str() == Some(method.as_str())),
            Self::Predicate(accept) => accept(text),
        }
    }
}

impl fmt::Debug for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("any message"),
            Self::Exact(text) => write!(f, "the message {text:?}"),
            Self::Contains(part) => write!(f, "a message with {part:?}"),
            Self::Regex(pattern) => write!(f, "a message that matches {pattern:?}"),
            Self::Json(value) => write!(f, "a message with {value}"),
            Self::Method(method) => write!(f, "a request of {method}"),
            Self::Predicate(_) => f.write_str("a message accepted by a function"),
        }
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/{}/", self.0.as_str())
    }
}

impl From<&str> for Matcher {
    fn from(text: &str) -> Self {
        Self::Exact(text.to_owned())
    }
}

impl From<String> for Matcher {
    fn from(text: String) -> Self {
        Self::Exact(text)
    }
}

impl From<Value> for Matcher {
    fn from(value: Value) -> Self {
        Self::Json(value)
    }
}

fn includes(found: &Value, expected: &Value) -> bool {
    match (found, expected) {
        (Value::Object(found), Value::Object(expected)) => {
            expected.iter().all(|(key, expected)| {
                found
                    .get(key)
                    .is_some_and(|found| includes(found, expected))
            })
        }
        _ => found == expected,
    }
}
