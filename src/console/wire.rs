//! The words of the console's protocol on the server's side.
//!
//! Apart from the connection because the table in the module's documentation is a promise about these.
//!
//! Invariant: what is read here was written by a stranger.

use serde::{Deserialize, Serialize};

use crate::inspect::Inspection;

/// What a client asks.
#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Request {
    Inspect { id: u64 },
    Reconnect { id: u64, session: String },
    Kill { id: u64, actor: String },
}

/// What it is told.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Answer<'a> {
    Hello {
        protocol: &'static str,
        version: u32,
        program: String,
        process: u32,
        reconnect: bool,
        kill: bool,
    },
    Inspection {
        id: u64,
        inspection: &'a Inspection,
    },
    Done {
        id: u64,
        detail: String,
    },
    Refused {
        id: Option<u64>,
        reason: String,
    },
}
