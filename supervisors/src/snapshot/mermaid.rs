//! A snapshot as a Mermaid flowchart.
//!
//! For documents and tickets that draw those; nothing of an exit's text is in it.
//!
//! Invariants: nodes are numbered in the order they are met, so that no id of ours meets a word of
//! Mermaid's; of a label's own text only letters, digits and spaces are written as they are, and what
//! joins two of them; all else is an entity, so that neither Mermaid nor the Markdown it reads labels
//! as finds anything in it.

use std::fmt::Write;

use super::{NodeStatus, TreeSnapshot};
use crate::policy::ChildKind;

pub(super) fn render(tree: &TreeSnapshot) -> String {
    let mut chart = Chart::default();
    chart.node(tree);
    let mut out = String::from("flowchart TD\n");
    out.push_str(&chart.nodes);
    out.push_str(&chart.edges);
    for status in chart.statuses {
        let (name, style) = (status.name(), style(status));
        line(
            &mut out,
            format_args!("classDef {name} {style},color:#212529"),
        );
    }
    out
}

fn style(status: NodeStatus) -> &'static str {
    match status {
        NodeStatus::Starting => "fill:#d0ebff,stroke:#1971c2",
        NodeStatus::Running => "fill:#d3f9d8,stroke:#2f9e44",
        NodeStatus::Stopping => "fill:#fff3bf,stroke:#f08c00",
        NodeStatus::Restarting => "fill:#ffe8cc,stroke:#e8590c",
        NodeStatus::Idle => "fill:#f1f3f5,stroke:#868e96",
        NodeStatus::Parked => "fill:#ffc9c9,stroke:#c92a2a",
        NodeStatus::Unreachable => "fill:#ffe3e3,stroke:#e03131,stroke-dasharray:4",
    }
}

#[derive(Default)]
struct Chart {
    nodes: String,
    edges: String,
    count: usize,
    /// Those that were met, in this order.
    statuses: Vec<NodeStatus>,
}

impl Chart {
    /// Draws the node and what stands beneath it; tells the node's number.
    fn node(&mut self, node: &TreeSnapshot) -> usize {
        let number = self.count;
        self.count += 1;
        let (open, close) = match node.kind {
            ChildKind::Supervisor => ("[[", "]]"),
            ChildKind::Worker => ("(", ")"),
        };
        let label = label(node);
        let class = node.status.name();
        if !self.statuses.contains(&node.status) {
            self.statuses.push(node.status);
        }
        line(
            &mut self.nodes,
            format_args!("n{number}{open}\"{label}\"{close}:::{class}"),
        );
        for child in &node.children {
            let below = self.node(child);
            line(&mut self.edges, format_args!("n{number} --> n{below}"));
        }
        number
    }
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a string does not fail.
    let _ = writeln!(out, "    {text}");
}

fn label(node: &TreeSnapshot) -> String {
    let mut lines = vec![escape(node.id.as_str())];
    if let Some(strategy) = node.strategy {
        lines.push(strategy.name().to_owned());
    }
    lines.push(format!("{} gen {}", node.status, node.generation));
    if let Some(uptime) = node.uptime {
        lines.push(format!("up {uptime:.1?}"));
    }
    if node.restarts > 0 {
        lines.push(format!("restarts {}", node.restarts));
    }
    if let Some((used, limit)) = node.window {
        lines.push(format!("window {used}/{limit}"));
    }
    if let Some(due) = node.next_restart {
        lines.push(format!("next in {due:.1?}"));
    }
    if let Some(age) = node.handler_age {
        lines.push(format!("in a callback for {age:.1?}"));
    }
    if let Some(depth) = node.queue_depth.filter(|depth| *depth > 0) {
        lines.push(format!("queued {depth}"));
    }
    if let Some(reason) = &node.last_exit {
        lines.push(format!("last exit {}", reason.kind()));
    }
    lines.join("<br/>")
}

/// Mermaid's entities are `#` and the number of the character.
fn escape(text: &str) -> String {
    let mut out = String::new();
    let mut before = None;
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        let joins = matches!(c, '_' | '-' | '/')
            && before.is_some_and(char::is_alphanumeric)
            && rest.peek().is_some_and(|after| after.is_alphanumeric());
        if c.is_alphanumeric() || c == ' ' || joins {
            out.push(c);
        } else {
            // Writing to a string does not fail.
            let _ = write!(out, "#{};", u32::from(c));
        }
        before = Some(c);
    }
    out
}

#[cfg(test)]
mod tests {

    use proptest::prelude::*;

    use super::super::tests::{failed, root, worker};
    use super::escape;
    use crate::snapshot::TreeSnapshot;

    #[test]
    fn a_tree_is_drawn_in_start_order() {
        let crashed = TreeSnapshot {
            restarts: 2,
            last_exit: Some(failed("secret")),
            ..worker("end")
        };
        let below = TreeSnapshot {
            id: "be_low".into(),
            ..root([worker("deep")])
        };
        let drawn = root([crashed, below]).to_mermaid();
        assert_eq!(
            drawn,
            "flowchart TD\n    \
             n0[[\"top<br/>one_for_all<br/>running gen 1<br/>up 1.5s<br/>window 1/3\"]]:::running\n    \
             n1(\"end<br/>running gen 1<br/>up 1.5s<br/>restarts 2<br/>last exit failed\"):::running\n    \
             n2[[\"be_low<br/>one_for_all<br/>running gen 1<br/>up 1.5s<br/>window 1/3\"]]:::running\n    \
             n3(\"deep<br/>running gen 1<br/>up 1.5s\"):::running\n    \
             n0 --> n1\n    \
             n2 --> n3\n    \
             n0 --> n2\n    \
             classDef running fill:#d3f9d8,stroke:#2f9e44,color:#212529\n"
        );
    }

    #[test]
    fn what_mermaid_or_markdown_would_read_is_an_entity() {
        assert_eq!(escape("a_b-c/d e"), "a_b-c/d e");
        assert_eq!(escape("_a_"), "#95;a#95;");
        assert_eq!(escape("1. \"x\""), "1#46; #34;x#34;");
        assert_eq!(escape("#quot;`"), "#35;quot#59;#96;");
        assert_eq!(escape("a\nb"), "a#10;b");
    }

    proptest! {
        /// Decoded again, a label is what it was.
        #[test]
        fn nothing_of_an_id_is_lost(text in any::<String>()) {
            let mut found = String::new();
            let escaped = escape(&text);
            let mut rest = escaped.as_str();
            while let Some(at) = rest.find('#') {
                found.push_str(&rest[..at]);
                let (number, after) = rest[at + 1..].split_once(';').unwrap();
                found.push(char::from_u32(number.parse().unwrap()).unwrap());
                rest = after;
            }
            found.push_str(rest);
            prop_assert_eq!(found, text);
        }
    }
}
