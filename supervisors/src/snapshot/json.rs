//! A snapshot as JSON, and the little of JSON that this takes.
//!
//! The fields are a contract, written down at `TreeSnapshot::to_json`; a library that writes one kind of
//! document does not need one that reads and writes all.
//!
//! Invariants: the output is one line of valid JSON (RFC 8259) whatever the texts hold; every field is
//! written, in one order.

use std::fmt::{Display, Write};
use std::time::{Duration, SystemTime};

use super::TreeSnapshot;

pub(super) fn render(tree: &TreeSnapshot) -> String {
    let mut out = String::new();
    node(&mut out, tree);
    out
}

fn node(out: &mut String, node: &TreeSnapshot) {
    let exit = node.last_exit.as_deref();
    let (used, limit) = node.window.unzip();
    Object::open(out)
        .field("path", text(node.path.as_str()))
        .field("id", text(node.id.as_str()))
        .field("kind", text(node.kind.name()))
        .field("strategy", opt(node.strategy, |it| text(it.name())))
        .field("restart", opt(node.restart, |it| text(it.name())))
        .field("status", text(node.status.name()))
        .field("generation", number(node.generation.0))
        .field("actor", opt(node.actor, |it| text(it.to_string())))
        .field("started_at_unix_ms", opt(node.started_at, since_1970))
        .field("uptime_ms", opt(node.uptime, millis))
        .field("restarts", number(node.restarts))
        .field("window_used", opt(used, number))
        .field("window_limit", opt(limit, number))
        .field("attempts", number(node.attempts))
        .field("next_restart_ms", opt(node.next_restart, millis))
        .field(
            "last_exit",
            opt(exit, |it| {
                move |out: &mut String| {
                    Object::open(out)
                        .field("kind", text(it.kind()))
                        .field("reason", text(it.to_string()))
                        .close();
                }
            }),
        )
        .field("handled", number(node.handled))
        .field("busy_ms", millis(node.busy))
        .field("handler_age_ms", opt(node.handler_age, millis))
        .field("queue_depth", opt(node.queue_depth, number))
        .field("children", |out: &mut String| {
            out.push('[');
            for (at, child) in node.children.iter().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                self::node(out, child);
            }
            out.push(']');
        })
        .close();
}

/// Writes one value.
trait Value: FnOnce(&mut String) {}

impl<F: FnOnce(&mut String)> Value for F {}

struct Object<'a> {
    out: &'a mut String,
    separator: char,
}

impl<'a> Object<'a> {
    fn open(out: &'a mut String) -> Self {
        Self {
            out,
            separator: '{',
        }
    }

    /// `name` needs no escapes.
    fn field(self, name: &str, value: impl Value) -> Self {
        self.out.push(self.separator);
        self.out.push('"');
        self.out.push_str(name);
        self.out.push_str("\":");
        value(self.out);
        Self {
            separator: ',',
            ..self
        }
    }

    /// An object that has a field.
    fn close(self) {
        self.out.push('}');
    }
}

fn opt<T, V: Value>(value: Option<T>, write: impl FnOnce(T) -> V) -> impl Value {
    let value = value.map(write);
    move |out: &mut String| match value {
        Some(value) => value(out),
        None => out.push_str("null"),
    }
}

fn number(value: impl Display + Into<u64>) -> impl Value {
    move |out: &mut String| {
        // Writing to a string does not fail.
        let _ = write!(out, "{value}");
    }
}

fn millis(value: Duration) -> impl Value {
    number(u64::try_from(value.as_millis()).unwrap_or(u64::MAX))
}

/// A clock that stands before 1970 is not known to stand anywhere.
fn since_1970(at: SystemTime) -> impl Value {
    opt(at.duration_since(SystemTime::UNIX_EPOCH).ok(), millis)
}

fn text(value: impl AsRef<str>) -> impl Value {
    move |out: &mut String| {
        out.push('"');
        for c in value.as_ref().chars() {
            match c {
                '"' => out.push_str("\\\""),
                '\\' => out.push_str("\\\\"),
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\t' => out.push_str("\\t"),
                // Section 7: all below U+0020 must be escaped, and nothing else.
                '\0'..='\u{1f}' => {
                    let _ = write!(out, "\\u{:04x}", u32::from(c));
                }
                c => out.push(c),
            }
        }
        out.push('"');
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::{Duration, SystemTime};

    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::super::tests::{failed, root, worker};
    use crate::exit::ExitReason;
    use crate::policy::Restart;
    use crate::snapshot::{NodeStatus, TreeSnapshot};

    fn parsed(tree: &TreeSnapshot) -> Value {
        serde_json::from_str(&tree.to_json()).expect("valid JSON")
    }

    #[test]
    fn the_fields_are_those_of_the_contract() {
        let child = TreeSnapshot {
            restart: Some(Restart::Transient),
            status: NodeStatus::Restarting,
            actor: None,
            started_at: None,
            uptime: None,
            restarts: 5,
            attempts: 2,
            next_restart: Some(Duration::from_micros(250_900)),
            last_exit: Some(failed("out of \"ink\"")),
            handled: 12,
            busy: Duration::from_millis(34),
            handler_age: Some(Duration::from_millis(56)),
            queue_depth: Some(78),
            ..worker("printer")
        };
        let printer = json!({
            "path": "top/printer",
            "id": "printer",
            "kind": "worker",
            "strategy": null,
            "restart": "transient",
            "status": "restarting",
            "generation": 1,
            "actor": null,
            "started_at_unix_ms": null,
            "uptime_ms": null,
            "restarts": 5,
            "window_used": null,
            "window_limit": null,
            "attempts": 2,
            "next_restart_ms": 250,
            "last_exit": { "kind": "failed", "reason": "failed: out of \"ink\"" },
            "handled": 12,
            "busy_ms": 34,
            "handler_age_ms": 56,
            "queue_depth": 78,
            "children": [],
        });
        assert_eq!(
            parsed(&root([child])),
            json!({
                "path": "top",
                "id": "top",
                "kind": "supervisor",
                "strategy": "one_for_all",
                "restart": null,
                "status": "running",
                "generation": 1,
                "actor": "0.7",
                "started_at_unix_ms": 1_700_000_000_123_u64,
                "uptime_ms": 1500,
                "restarts": 0,
                "window_used": 1,
                "window_limit": 3,
                "attempts": 0,
                "next_restart_ms": null,
                "last_exit": null,
                "handled": 0,
                "busy_ms": 0,
                "handler_age_ms": null,
                "queue_depth": null,
                "children": [printer],
            })
        );
    }

    #[test]
    fn what_cannot_be_a_number_of_milliseconds_is_still_json() {
        let odd = TreeSnapshot {
            started_at: SystemTime::UNIX_EPOCH.checked_sub(Duration::from_secs(1)),
            uptime: Some(Duration::MAX),
            ..worker("odd")
        };
        assert_eq!(parsed(&odd)["started_at_unix_ms"], Value::Null);
        assert_eq!(parsed(&odd)["uptime_ms"], json!(u64::MAX));
    }

    proptest! {
        #[test]
        fn any_text_comes_back_as_it_was(
            ids in proptest::collection::vec(any::<String>(), 0..4),
            reason in any::<String>(),
            low in proptest::collection::vec(0u8..0x30, 0..20),
        ) {
            let reason = reason + &String::from_utf8(low).unwrap();
            let tree = root(ids.iter().map(|id| TreeSnapshot {
                last_exit: Some(Arc::new(ExitReason::Stopped { reason: Some(reason.clone()) })),
                ..worker(id)
            }));
            let found = parsed(&tree);
            let children = found["children"].as_array().unwrap();
            prop_assert_eq!(children.len(), ids.len());
            for (child, id) in children.iter().zip(&ids) {
                prop_assert_eq!(child["id"].as_str().unwrap(), id);
                let path = format!("top/{}", id);
                prop_assert_eq!(child["path"].as_str().unwrap(), path);
                let told = format!("stopped: {}", reason);
                prop_assert_eq!(child["last_exit"]["reason"].as_str().unwrap(), told);
            }
        }
    }
}
