//! A response as most peers write it.
//!
//! Apart from the reading of any response because a thousand callers may wait behind it: what it must say has one layout,
//! and what else is in it is looked at once.
//!
//! Invariants: what is read here is read alike by a parser (a property test holds it to that); the rest says nothing.

use super::{Response, plain};
use crate::protocol::envelope;

const HEAD: &str = r#"{"jsonrpc":"2.0","id":"#;
const RESULT: &str = r#","result":"#;

/// A result, and whatever members behind it need no second look. `None` says nothing.
pub(super) fn response(text: &str) -> Option<Response<'_>> {
    let text = text.strip_prefix(HEAD)?;
    let (id, behind) = envelope::scan_number(text.as_bytes())?;
    let text = text.get(text.len() - behind.len()..)?;
    let (result, behind) = plain::value(text.strip_prefix(RESULT)?)?;
    is_rest(behind).then_some(Response {
        id: Some(id),
        outcome: Ok(result),
    })
}

/// Whether this ends an object, and what members it has are ones that we do not know: `,"usOut":17,"testnet":true}`.
fn is_rest(behind: &[u8]) -> bool {
    let mut rest = behind;
    while let Some(member) = rest.strip_prefix(b",\"") {
        let Some(behind) = unknown(member) else {
            return false;
        };
        rest = behind;
    }
    rest == b"}"
}

/// What is behind a member, but for the quote that begins its name.
fn unknown(member: &[u8]) -> Option<&[u8]> {
    let value = plain::string(member)?;
    match member.strip_suffix(value)? {
        b"id\"" | b"result\"" | b"error\"" => None,
        _ => plain::skip(value.strip_prefix(b":")?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn most_responses_need_no_second_look() {
        for frame in [
            r#"{"jsonrpc":"2.0","id":1,"result":{"a":"}"}}"#,
            r#"{"jsonrpc":"2.0","id":1,"result":[],"usIn":17,"usOut":18,"usDiff":1,"testnet":true}"#,
        ] {
            assert!(response(frame).is_some(), "{frame}");
        }
        assert!(response(r#"{"jsonrpc":"2.0","id":1,"result":[],"error":null}"#).is_none());
    }
}
