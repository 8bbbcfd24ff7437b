//! What a program says, as the view understands it.
//!
//! Apart from the library's own types because whoever speaks may be of another version, or may lie: every field
//! may be missing, and no text reaches the terminal as it came.
//!
//! Invariants: a [`Text`] holds no character that moves a cursor or turns a line around, and is short; what is no
//! message of ours is [`Message::Garbage`].

use std::collections::BTreeMap;

use serde::Deserialize;

/// Characters of a text that are kept.
const LONGEST: usize = 300;

/// A text that may be shown.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(from = "String")]
pub(crate) struct Text(String);

impl From<String> for Text {
    fn from(text: String) -> Self {
        let shown = |c: char| match c {
            // Marks that turn the direction of what follows would have one name look like another.
            '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => '·',
            c if c.is_control() => '·',
            c => c,
        };
        Self(text.chars().take(LONGEST).map(shown).collect())
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        text.to_owned().into()
    }
}

impl Text {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for Text {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(&self.0)
    }
}

/// One line of a program's.
#[derive(Debug, Clone, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum Message {
    Hello(Hello),
    Inspection {
        inspection: Box<Inspection>,
    },
    Done {
        #[serde(default)]
        detail: Text,
    },
    Refused {
        #[serde(default)]
        reason: Text,
    },
    #[serde(other)]
    Garbage,
}

impl Message {
    /// A line, whatever it is.
    pub(crate) fn read(line: &[u8]) -> Self {
        serde_json::from_slice(line).unwrap_or(Self::Garbage)
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct Hello {
    pub(crate) version: u32,
    pub(crate) program: Text,
    pub(crate) process: u32,
    pub(crate) reconnect: bool,
    pub(crate) kill: bool,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Inspection {
    pub(crate) sessions: Vec<Session>,
    pub(crate) pools: Vec<Pool>,
    pub(crate) trees: Vec<Node>,
}

impl Inspection {
    /// Every session, those of pools too.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Session> {
        let pooled = self.pools.iter().flat_map(|pool| &pool.sessions);
        self.sessions.iter().chain(pooled)
    }

    pub(crate) fn session(&self, id: &str) -> Option<&Session> {
        self.all().find(|session| session.id.as_str() == id)
    }
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Pool {
    pub(crate) name: Text,
    pub(crate) ready: Ready,
    pub(crate) health: Health,
    pub(crate) sessions: Vec<Session>,
    pub(crate) tree: Option<Node>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Health {
    pub(crate) sessions: Vec<Scored>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Scored {
    pub(crate) id: Text,
    pub(crate) score: Option<u64>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Ready {
    pub(crate) ok: bool,
    pub(crate) reason: Option<Text>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Session {
    pub(crate) id: Text,
    pub(crate) endpoint: Text,
    pub(crate) status: Text,
    pub(crate) ready: Ready,
    pub(crate) epoch: u64,
    pub(crate) connection: Option<Connection>,
    pub(crate) history: Vec<Step>,
    pub(crate) requests: Requests,
    pub(crate) channels: Vec<Channel>,
    pub(crate) subscriptions: Vec<Subscription>,
    pub(crate) statistics: Statistics,
    pub(crate) tree: Option<Node>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Connection {
    pub(crate) open_for_ms: u64,
    pub(crate) round_trip_us: Option<u64>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Step {
    pub(crate) number: u64,
    pub(crate) ago_ms: u64,
    pub(crate) from: Text,
    pub(crate) to: Text,
    pub(crate) why: Text,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Requests {
    pub(crate) in_flight: u64,
    pub(crate) queued: u64,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Channel {
    pub(crate) channel: Text,
    pub(crate) status: Text,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Subscription {
    pub(crate) channel: Option<Text>,
    pub(crate) stale_for_ms: Option<u64>,
    pub(crate) interrupted_for_ms: Option<u64>,
    pub(crate) queued: u64,
    pub(crate) gaps: u64,
    pub(crate) lost: u64,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Statistics {
    pub(crate) frames_in: u64,
    pub(crate) gaps: BTreeMap<String, u64>,
    pub(crate) restarts: BTreeMap<String, u64>,
    pub(crate) recent_requests: Option<Recent>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Recent {
    pub(crate) last_us: u64,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Node {
    pub(crate) path: Text,
    pub(crate) id: Text,
    pub(crate) kind: Text,
    pub(crate) strategy: Option<Text>,
    pub(crate) restart: Option<Text>,
    pub(crate) status: Text,
    pub(crate) generation: u64,
    pub(crate) actor: Option<Text>,
    pub(crate) uptime_ms: Option<u64>,
    pub(crate) restarts: u64,
    pub(crate) window_used: Option<u64>,
    pub(crate) window_limit: Option<u64>,
    pub(crate) last_exit: Option<Exit>,
    pub(crate) handled: u64,
    pub(crate) queue_depth: Option<u64>,
    pub(crate) children: Vec<Node>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Exit {
    pub(crate) reason: Text,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Message, Text};

    #[test]
    fn a_text_neither_moves_the_cursor_nor_turns_a_line_around() {
        let text = Text::from("a\u{1b}[2J\r\n\u{202e}b\u{9b}c");
        assert_eq!(text.as_str(), "a·[2J···b·c");
        assert_eq!(Text::from("x".repeat(9999)).as_str().len(), 300);
    }

    #[test]
    fn what_is_missing_is_nothing_and_what_is_new_is_ignored() {
        let line =
            br#"{"type":"inspection","new":1,"inspection":{"sessions":[{"id":"a","x":[]}]}}"#;
        let Message::Inspection { inspection } = Message::read(line) else {
            panic!("an inspection");
        };
        assert_eq!(inspection.sessions[0].id.as_str(), "a");
        let deep = [
            b"{\"type\":\"inspection\",\"inspection\":{\"trees\":".to_vec(),
            b"[{\"children\":".repeat(9999),
        ]
        .concat();
        assert!(matches!(Message::read(&deep), Message::Garbage));
    }

    proptest! {
        #[test]
        fn no_line_panics(line in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Message::read(&line);
        }
    }
}
