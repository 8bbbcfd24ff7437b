//! JSON-RPC 2.0 messages: requests and notifications written, responses read.
//!
//! Apart from the envelope because this runs once for each request that somebody made, not once for
//! each frame, and may take the time to check.
//!
//! Invariants: what is written is valid JSON whatever the method's name; a response is read without
//! copying its result; an error names what was wrong and never quotes the frame. Absent on purpose:
//! batches (section 6), which no venue accepts.

use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::error::{DecodeError, ErrorObject};

/// A response (section 5).
#[derive(Debug, Clone)]
pub struct Response<'f> {
    /// The request that it answers; `None` if the id is not one that the session gives out, such as
    /// the null of an answer to a request that the server could not read.
    pub id: Option<u64>,
    /// The result, unparsed, or the error object. A result of `null` is a result.
    pub outcome: Result<&'f RawValue, ErrorObject>,
}

/// Writes a request. Without `params` the member is left out.
///
/// ```
/// let request = mainstay::protocol::json_rpc::request(7, "public/test", None);
/// assert_eq!(request, r#"{"jsonrpc":"2.0","id":7,"method":"public/test"}"#);
/// ```
#[must_use]
pub fn request(id: u64, method: &str, params: Option<&RawValue>) -> String {
    let mut text = String::with_capacity(capacity(method, params));
    text.push_str(r#"{"jsonrpc":"2.0","id":"#);
    push_number(&mut text, id);
    text.push_str(r#","method":"#);
    push_rest(&mut text, method, params);
    text
}

/// Writes a notification, which nobody answers. Without `params` the member is left out.
#[must_use]
pub fn notification(method: &str, params: Option<&RawValue>) -> String {
    let mut text = String::with_capacity(capacity(method, params));
    text.push_str(r#"{"jsonrpc":"2.0","method":"#);
    push_rest(&mut text, method, params);
    text
}

/// Reads a response.
///
/// A `null` beside the other member counts as absent, as JSON-RPC 1.0 writes it.
///
/// # Errors
///
/// A [`DecodeError`] if the frame is not an object, has both `result` and `error` or neither, or an
/// error without a code.
pub fn response(frame: &[u8]) -> Result<Response<'_>, DecodeError> {
    let members: Members<'_> = serde_json::from_slice(frame).map_err(|error| refuse(&error))?;
    let id = members.id.and_then(|id| id.get().parse().ok());
    let error = members.error.filter(|error| error.get() != "null");
    let outcome = match (members.result, error) {
        (Some(result), None) => Ok(result),
        (Some(result), Some(_)) if result.get() != "null" => {
            return Err(DecodeError::new(EXPECTED, "both a result and an error"));
        }
        (_, Some(error)) => Err(serde_json::from_str(error.get())
            .map_err(|_| DecodeError::new(EXPECTED, "an error object without a code"))?),
        (None, None) => return Err(DecodeError::new(EXPECTED, "neither a result nor an error")),
    };
    Ok(Response { id, outcome })
}

#[derive(Deserialize)]
struct Members<'f> {
    #[serde(borrow, default, deserialize_with = "present")]
    id: Option<&'f RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    result: Option<&'f RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    error: Option<&'f RawValue>,
}

/// Keeps a `null` apart from an absent member.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    Deserialize::deserialize(deserializer).map(Some)
}

/// `serde_json`'s own texts may quote the frame.
fn refuse(error: &serde_json::Error) -> DecodeError {
    let detail = match error.classify() {
        serde_json::error::Category::Eof => "it ends too early",
        serde_json::error::Category::Data => "not an object, or a member twice",
        serde_json::error::Category::Syntax | serde_json::error::Category::Io => "not json",
    };
    DecodeError::new(EXPECTED, format!("{detail}, at column {}", error.column()))
}

fn capacity(method: &str, params: Option<&RawValue>) -> usize {
    64 + method.len() + params.map_or(0, |params| params.get().len())
}

fn push_rest(text: &mut String, method: &str, params: Option<&RawValue>) {
    push_string(text, method);
    if let Some(params) = params {
        text.push_str(r#","params":"#);
        text.push_str(params.get());
    }
    text.push('}');
}

fn push_number(text: &mut String, mut number: u64) {
    // The longest number has 20 digits.
    let mut digits = [b'0'; 20];
    let mut start = digits.len();
    loop {
        start -= 1;
        digits[start] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    text.extend(digits[start..].iter().map(|digit| char::from(*digit)));
}

/// Writes a string with the escapes that RFC 8259, section 7 demands.
fn push_string(text: &mut String, string: &str) {
    text.push('"');
    if string
        .bytes()
        .all(|byte| byte >= 0x20 && byte != b'"' && byte != b'\\')
    {
        text.push_str(string);
    } else {
        for character in string.chars() {
            match character {
                '"' => text.push_str("\\\""),
                '\\' => text.push_str("\\\\"),
                '\0'..='\u{1f}' => text.push_str(&format!("\\u{:04x}", u32::from(character))),
                other => text.push(other),
            }
        }
    }
    text.push('"');
}

const EXPECTED: &str = "json-rpc response";
