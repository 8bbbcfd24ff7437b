//! What is wanted, as plain data that leaves the session.
//!
//! Apart from the ledger because it outlives it: it is written to a file or sent to another process, and wanted
//! again there.
//!
//! Invariants: names only; nothing of a connection, a consumer or a credential.

use serde::{Deserialize, Serialize};

/// The channels that a session's user wants, in the order of the wishes. With `serde` it is an object with the one
/// member `channels`; unknown members are refused.
///
/// ```
/// use mainstay::protocol::subscriptions::Wishes;
///
/// let wishes: Wishes = ["trades", "ticker"].into_iter().collect();
/// let text = serde_json::to_string(&wishes)?;
/// assert_eq!(text, r#"{"channels":["trades","ticker"]}"#);
/// assert_eq!(serde_json::from_str::<Wishes>(&text)?, wishes);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Wishes {
    /// Their names.
    pub channels: Vec<String>,
}

impl<S: AsRef<str>> FromIterator<S> for Wishes {
    fn from_iter<I: IntoIterator<Item = S>>(names: I) -> Self {
        let names = names.into_iter();
        let channels = names.map(|name| name.as_ref().to_owned()).collect();
        Self { channels }
    }
}
