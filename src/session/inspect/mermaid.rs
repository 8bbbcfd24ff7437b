//! Inspections as Mermaid flowcharts: each session a box around its connection, its subscriptions and its tree.
//!
//! For documents and tickets that draw those.
//!
//! Invariants: nodes are numbered, so that no name of ours meets a word of Mermaid's; of a label's own text only
//! letters, digits and spaces are written as they are, all else is an entity.

use std::collections::BTreeSet;
use std::fmt::Write;

use mainstay_supervisors::TreeSnapshot;

use super::SessionInspection;
use super::text::Short;

/// A chart in the making.
#[derive(Debug, Default)]
pub(crate) struct Chart {
    lines: String,
    /// Lines that each tree brings along, and of which the chart needs one.
    classes: BTreeSet<String>,
    /// Numbers boxes, nodes and trees.
    count: usize,
}

/// How a node is coloured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tone {
    Well,
    Ill,
}

impl SessionInspection {
    /// The session as a [Mermaid](https://mermaid.js.org) flowchart, to be pasted where those are drawn. Texts are
    /// escaped: a channel's name can hold anything.
    #[must_use]
    pub fn to_mermaid(&self) -> String {
        let mut chart = Chart::default();
        chart.session(&self.platform, self);
        chart.finish()
    }
}

impl Chart {
    /// Draws a session.
    pub(crate) fn session(&mut self, name: &str, seen: &SessionInspection) {
        let title = format!("{name}: {} in epoch {}", seen.status, seen.epoch);
        self.open(&title);
        let tone = if seen.ready.ok { Tone::Well } else { Tone::Ill };
        let connection = match &seen.connection {
            Some(open) => format!("open for {}", Short(open.open_for)),
            None => format!("not open, {} attempts", seen.connect_attempts),
        };
        let endpoint = self.node(&[&seen.endpoint, &connection], tone);
        for one in &seen.subscriptions {
            let tone = match one.interrupted_for {
                Some(_) => Tone::Ill,
                None => Tone::Well,
            };
            let age = match one.stale_for {
                Some(age) => format!("last data {} ago", Short(age)),
                None => "no data yet".to_owned(),
            };
            let losses = format!(
                "{} queued, {} gaps, {} lost",
                one.queued, one.gaps, one.lost
            );
            let name = one.channel.as_deref().unwrap_or("everything else");
            let node = self.node(&[name, &age, &losses], tone);
            self.line(format_args!("{endpoint} --> {node}"));
        }
        if let Some(tree) = &seen.tree {
            self.tree(tree);
        }
        self.close();
    }

    /// Opens a box.
    pub(crate) fn open(&mut self, title: &str) {
        let (number, title) = (self.number(), escape(title));
        self.line(format_args!("subgraph b{number}[\"{title}\"]"));
    }

    /// Closes the box that was opened last.
    pub(crate) fn close(&mut self) {
        self.line(format_args!("end"));
    }

    /// Draws a node; tells its name.
    fn node(&mut self, label: &[&str], tone: Tone) -> String {
        let name = format!("x{}", self.number());
        let label: Vec<String> = label.iter().map(|line| escape(line)).collect();
        let (label, class) = (label.join("<br/>"), tone.class());
        self.line(format_args!("{name}(\"{label}\"):::{class}"));
        self.classes.insert(format!("    {}", tone.definition()));
        name
    }

    /// Draws a tree. Its own numbers are told from another tree's by what is put in front of them.
    pub(crate) fn tree(&mut self, tree: &TreeSnapshot) {
        let prefix = format!("t{}", self.number());
        for line in tree.to_mermaid().lines().skip(1) {
            let line = line.trim_start();
            if line.starts_with("classDef") {
                self.classes.insert(format!("    {line}"));
                continue;
            }
            // A label holds no `>`: all that is neither letter, digit nor blank is an entity there.
            let line = line.replace("--> n", &format!("--> {prefix}n"));
            self.line(format_args!("{prefix}{line}"));
        }
    }

    /// The chart's text.
    pub(crate) fn finish(self) -> String {
        let mut out = String::from("flowchart TD\n");
        out.push_str(&self.lines);
        for class in self.classes {
            out.push_str(&class);
            out.push('\n');
        }
        out
    }

    fn number(&mut self) -> usize {
        self.count += 1;
        self.count
    }

    fn line(&mut self, text: std::fmt::Arguments<'_>) {
        // Writing to a string does not fail.
        let _ = writeln!(self.lines, "    {text}");
    }
}

impl Tone {
    fn class(self) -> &'static str {
        match self {
            Self::Well => "well",
            Self::Ill => "ill",
        }
    }

    fn definition(self) -> &'static str {
        match self {
            Self::Well => "classDef well fill:#d3f9d8,stroke:#2f9e44,color:#212529",
            Self::Ill => "classDef ill fill:#ffe8cc,stroke:#e8590c,color:#212529",
        }
    }
}

/// Mermaid's entities are `#` and the number of the character.
fn escape(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        if c.is_alphanumeric() || c == ' ' {
            out.push(c);
        } else {
            // Writing to a string does not fail.
            let _ = write!(out, "#{};", u32::from(c));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::{Chart, Tone, escape};

    #[test]
    fn what_mermaid_would_read_is_an_entity() {
        assert_eq!(escape("a b1"), "a b1");
        assert_eq!(escape("\"]-->"), "#34;#93;#45;#45;#62;");
        assert_eq!(escape("a\nb"), "a#10;b");
    }

    #[test]
    fn boxes_and_nodes_are_numbered_and_a_class_is_defined_once() {
        let mut chart = Chart::default();
        chart.open("one");
        let (a, b) = (
            chart.node(&["a"], Tone::Well),
            chart.node(&["b"], Tone::Well),
        );
        assert_ne!(a, b);
        chart.close();
        let text = chart.finish();
        assert_eq!(text.matches("classDef well").count(), 1);
        assert!(text.contains("subgraph b1[\"one\"]"), "{text}");
    }
}
