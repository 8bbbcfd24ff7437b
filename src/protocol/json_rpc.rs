//! JSON-RPC 2.0 messages: requests and notifications written, responses read.
//!
//! Apart from the envelope because this runs once for each request that somebody made, not once for
//! each frame, and may take the time to check.
//!
//! Invariants: what is written is valid JSON whatever the method's name; a response is read without
//! copying its result; an error names what was wrong and never quotes the frame.

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

/// Writes a batch (section 6) of requests and notifications that have been written already. It must not be
/// empty.
///
/// ```
/// use mainstay::protocol::json_rpc::{batch, notification, request};
///
/// let batch = batch([request(1, "sum", None), notification("hello", None)]);
/// let expected = concat!(
///     r#"[{"jsonrpc":"2.0","id":1,"method":"sum"},"#,
///     r#"{"jsonrpc":"2.0","method":"hello"}]"#,
/// );
/// assert_eq!(batch, expected);
/// ```
#[must_use]
pub fn batch(messages: impl IntoIterator<Item = String>) -> String {
    let mut text = String::from("[");
    for (index, message) in messages.into_iter().enumerate() {
        if index > 0 {
            text.push(',');
        }
        text.push_str(&message);
    }
    text.push(']');
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
    // Looked at once, and not again for each member.
    let members = match std::str::from_utf8(frame) {
        Ok(text) => serde_json::from_str(text),
        Err(_) => serde_json::from_slice(frame),
    };
    let members: Members<'_> = members.map_err(|error| refuse(&error))?;
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json, value::to_raw_value};

    use super::*;

    fn outcome(frame: &str) -> Result<Result<String, i64>, DecodeError> {
        let outcome = response(frame.as_bytes())?.outcome;
        Ok(outcome
            .map(|result| result.get().to_owned())
            .map_err(|error| error.code))
    }

    #[test]
    fn a_request_carries_its_parameters_unchanged() {
        let params = to_raw_value(&json!({"channels": ["a"]})).unwrap();
        assert_eq!(
            request(u64::MAX, "public/subscribe", Some(&params)),
            r#"{"jsonrpc":"2.0","id":18446744073709551615,"method":"public/subscribe","params":{"channels":["a"]}}"#
        );
        assert_eq!(
            notification("hello", Some(&params)),
            r#"{"jsonrpc":"2.0","method":"hello","params":{"channels":["a"]}}"#
        );
    }

    #[test]
    fn a_null_result_is_a_result() {
        assert_eq!(
            outcome(r#"{"id":1,"result":null}"#).unwrap(),
            Ok("null".to_owned())
        );
        assert_eq!(
            outcome(r#"{"id":1,"result":null,"error":null}"#).unwrap(),
            Ok("null".to_owned())
        );
    }

    #[test]
    fn an_error_may_lack_its_message() {
        assert_eq!(
            outcome(r#"{"id":1,"error":{"code":-32600}}"#).unwrap(),
            Err(-32600)
        );
        assert_eq!(
            outcome(r#"{"id":1,"result":null,"error":{"code":1}}"#).unwrap(),
            Err(1)
        );
        assert_eq!(
            response(br#"{"id":null,"error":{"code":1,"data":{"a":1}}}"#)
                .unwrap()
                .id,
            None
        );
    }

    #[test]
    fn what_is_no_response_is_refused_without_being_quoted() {
        for frame in [
            r#"{"id":1}"#,
            r#"{"id":1,"error":null}"#,
            r#"{"id":1,"result":"secret","error":{"code":1}}"#,
            r#"{"id":1,"error":"secret"}"#,
            r#"{"id":1,"error":{"message":"secret"}}"#,
            r#"{"id":1,"result":"secret""#,
            r#"{"id":1,"result":1,"result":2}"#,
            r#""secret""#,
            "secret",
            "",
        ] {
            let error = outcome(frame).unwrap_err();
            assert!(!error.to_string().contains("secret"), "{error}");
        }
    }

    proptest! {
        #[test]
        fn whatever_is_written_can_be_read(id: u64, method: String, param: String) {
            let params = to_raw_value(std::slice::from_ref(&param)).unwrap();
            let text = request(id, &method, Some(&params));
            let expected = json!({"jsonrpc": "2.0", "id": id, "method": method, "params": [param]});
            prop_assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), expected);
        }

        #[test]
        fn no_frame_makes_it_panic(frame: Vec<u8>) {
            let _ = response(&frame);
        }
    }
}
