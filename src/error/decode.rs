//! How a message that cannot be read is told: where, and of what kind.
//!
//! Apart from the requests' errors because messages of channels, answers and logins are all told like this, and because
//! serde's own texts repeat what they choked on.
//!
//! Invariants: no value of the payload is in a text, nor a name in it that is no plain word; a message that can be read
//! pays nothing: only one that could not is read a second time, to find the member.

use std::fmt::Write;

use serde::Deserialize;
use serde_json::error::Category;
use serde_path_to_error::{Path, Segment};

use super::Recovery;

/// A message did not have the form that it should have.
#[derive(Debug, Clone, thiserror::Error)]
#[error("not a valid {expected}: {detail}")]
#[non_exhaustive]
pub struct DecodeError {
    /// What was expected.
    pub expected: &'static str,
    /// What was wrong, without the payload.
    pub detail: String,
}

impl DecodeError {
    /// What serde_json found wrong with `expected`: where and of what kind, without the payload. [`DecodeError::json_as`]
    /// also names the member.
    #[must_use]
    pub fn json(expected: &'static str, error: &serde_json::Error) -> Self {
        Self::new(expected, describe(error))
    }

    /// [`DecodeError::json`] with the member at which reading `json` as a `T` failed with `error`, such as
    /// `data.legs[1].price`. Reads it once more to find that, so ask only when it has failed.
    ///
    /// ```
    /// use mainstay::error::DecodeError;
    ///
    /// #[derive(Debug, serde::Deserialize)]
    /// struct Trade {
    ///     price: f64,
    /// }
    ///
    /// let json = br#"[{"price":1.5},{"price":"a secret"}]"#;
    /// let error = serde_json::from_slice::<Vec<Trade>>(json).unwrap_err();
    /// assert_eq!(
    ///     DecodeError::json_as::<Vec<Trade>>("list of trades", json, &error).to_string(),
    ///     "not a valid list of trades: [1].price: invalid type: string, expected f64, at line 1, column 34",
    /// );
    /// ```
    #[cold]
    #[must_use]
    pub fn json_as<'de, T: Deserialize<'de>>(
        expected: &'static str,
        json: &'de [u8],
        error: &serde_json::Error,
    ) -> Self {
        let what = describe(error);
        if error.classify() != Category::Data {
            return Self::new(expected, what);
        }
        let mut reader = serde_json::Deserializer::from_slice(json);
        let again: Result<T, _> = serde_path_to_error::deserialize(&mut reader);
        let member = again.err().map(|error| member(error.path()));
        match member.filter(|member| !member.is_empty()) {
            Some(member) => Self::new(expected, format!("{member}: {what}")),
            None => Self::new(expected, what),
        }
    }

    /// Names what was expected and what was wrong with it; the payload does not belong in it.
    pub fn new(expected: &'static str, detail: impl Into<String>) -> Self {
        Self {
            expected,
            detail: detail.into(),
        }
    }
}

impl DecodeError {
    /// A person has to compare the type with what the peer sends.
    #[must_use]
    pub fn recovery(&self) -> Recovery {
        Recovery::Stop
    }
}

/// What was wrong, and where, without the value.
fn describe(error: &serde_json::Error) -> String {
    let (line, column) = (error.line(), error.column());
    let what = match error.classify() {
        Category::Io | Category::Syntax => "not json".to_owned(),
        Category::Eof => "json that ends too early".to_owned(),
        Category::Data => {
            let text = error.to_string();
            kind(&text).unwrap_or_else(|| "a value of another type".to_owned())
        }
    };
    format!("{what}, at line {line}, column {column}")
}

/// What serde says of a value without the value itself. `None` for what is not one of serde's own texts: a user's may
/// repeat anything.
fn kind(text: &str) -> Option<String> {
    let text = text.rsplit_once(" at line ").map_or(text, |(text, _)| text);
    for named in ["missing field `", "duplicate field `"] {
        // These name a member of our own type.
        if let Some(name) = text.strip_prefix(named) {
            let name = name.strip_suffix('`').filter(|name| is_plain(name))?;
            return Some(format!("{named}{name}`"));
        }
    }
    for wrong in ["invalid type: ", "invalid value: "] {
        if let Some(rest) = text.strip_prefix(wrong) {
            // A text may hold anything, also these words; what is expected stands last.
            let (found, expected) = rest.rsplit_once(", expected ")?;
            let found = found.split(['`', '"']).next()?.trim_end();
            // A custom value is told in the user's own words.
            let found = FOUND.contains(&found).then_some(found)?;
            return Some(format!("{wrong}{found}, expected {expected}"));
        }
    }
    ["unknown variant", "unknown field", "invalid length"]
        .into_iter()
        .find(|wrong| text.starts_with(wrong))
        .map(str::to_owned)
}

/// What serde calls the kinds of values.
const FOUND: [&str; 8] = [
    "boolean",
    "integer",
    "floating point",
    "number",
    "string",
    "null",
    "sequence",
    "map",
];

/// The way to the member, of which the last steps are shown.
fn member(path: &Path) -> String {
    const STEPS: usize = 12;
    let steps: Vec<&Segment> = path.iter().collect();
    let mut text = String::new();
    for step in &steps[steps.len().saturating_sub(STEPS)..] {
        match step {
            Segment::Seq { index } => {
                // Writing to a text does not fail.
                let _ = write!(text, "[{index}]");
                continue;
            }
            Segment::Map { key: name } | Segment::Enum { variant: name } => {
                text.push_str(if text.is_empty() { "" } else { "." });
                text.push_str(if is_plain(name) { name } else { "?" });
            }
            Segment::Unknown => text.push_str(if text.is_empty() { "?" } else { ".?" }),
        }
    }
    text
}

/// Whether it is a name as types have them, and no key that somebody made.
fn is_plain(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    (1..=32).contains(&name.len()) && name.chars().all(plain)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[allow(dead_code, reason = "only read from json")]
    struct Part {
        price: f64,
        side: Option<Side>,
        #[serde(default)]
        more: HashMap<String, u8>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Side {
        Buy,
    }

    fn failure(json: &str) -> String {
        let error = serde_json::from_str::<Vec<Part>>(json).unwrap_err();
        DecodeError::json_as::<Vec<Part>>("parts", json.as_bytes(), &error).detail
    }

    #[test]
    fn what_cannot_be_read_is_told_by_its_member_and_never_by_its_value() {
        let key = "k".repeat(33);
        for (json, expected) in [
            ("s3cret", "not json, at line 1, column 1"),
            (
                r#"[{"price":"#,
                "json that ends too early, at line 1, column 10",
            ),
            (
                r#"{"s3cret":1}"#,
                "invalid type: map, expected a sequence, at line 1, column 0",
            ),
            (
                r#"[{"s3cret":1}]"#,
                "[0]: missing field `price`, at line 1, column 13",
            ),
            (
                r#"[{"price":", expected s3cret, expected"}]"#,
                "[0].price: invalid type: string, expected f64, at line 1, column 39",
            ),
            (
                r#"[{"price":1,"side":"s3cret"}]"#,
                "[0].side: unknown variant, at line 1, column 27",
            ),
            (
                r#"[{"price":1,"price":2}]"#,
                "[0]: duplicate field `price`, at line 1, column 19",
            ),
            (
                r#"[{"price":1,"more":{"name":4711}}]"#,
                "[0].more.name: invalid value: integer, expected u8, at line 1, column 31",
            ),
            (
                &format!(r#"[{{"price":1,"more":{{"{key}":4711}}}}]"#),
                "[0].more.?: invalid value: integer, expected u8, at line 1, column 60",
            ),
        ] {
            assert_eq!(failure(json), expected, "{json}");
        }
    }

    #[test]
    fn a_text_that_is_not_serdes_own_is_not_repeated() {
        for text in [
            "s3cret",
            "missing field `s3cret and more`",
            "invalid type: my s3cret, expected a word",
            "invalid value: 4711",
        ] {
            assert_eq!(kind(text), None, "{text}");
        }
    }
}
