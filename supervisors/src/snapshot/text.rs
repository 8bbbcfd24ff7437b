//! A snapshot as indented text.
//!
//! For people at a terminal; programs take the JSON.
//!
//! Invariants: one line per node, whatever its texts hold; what is zero or unknown is left out, and so is
//! what only a comparison over time can tell (messages handled, time spent on them).

use std::fmt;

use super::TreeSnapshot;

pub(super) fn render(tree: &TreeSnapshot, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    line(tree, f)?;
    beneath(tree, f, "")
}

fn beneath(node: &TreeSnapshot, f: &mut fmt::Formatter<'_>, indent: &str) -> fmt::Result {
    for (at, child) in node.children.iter().enumerate() {
        let last = at + 1 == node.children.len();
        write!(f, "\n{indent}{}", if last { "└─ " } else { "├─ " })?;
        line(child, f)?;
        let deeper = format!("{indent}{}", if last { "   " } else { "│  " });
        beneath(child, f, &deeper)?;
    }
    Ok(())
}

fn line(node: &TreeSnapshot, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    write!(f, "{}", OneLine(node.id.as_str()))?;
    if let Some(strategy) = node.strategy {
        write!(f, " [{}]", strategy.name())?;
    }
    write!(f, " {} #{}", node.status, node.generation)?;
    if let Some(uptime) = node.uptime {
        write!(f, " up {uptime:.1?}")?;
    }
    if node.restarts > 0 {
        write!(f, " restarts {}", node.restarts)?;
    }
    if let Some((used, limit)) = node.window {
        write!(f, " window {used}/{limit}")?;
    }
    if let Some(due) = node.next_restart {
        write!(f, " next in {due:.1?}")?;
        if node.attempts > 1 {
            write!(f, " (attempt {})", node.attempts)?;
        }
    }
    if let Some(age) = node.handler_age {
        write!(f, " in a callback for {age:.1?}")?;
    }
    if let Some(depth) = node.queue_depth.filter(|depth| *depth > 0) {
        write!(f, " queued {depth}")?;
    }
    if let Some(reason) = &node.last_exit {
        write!(f, " last exit: {}", OneLine(&reason.to_string()))?;
    }
    Ok(())
}

/// A text without what would break its line, or the terminal.
struct OneLine<'a>(&'a str);

impl fmt::Display for OneLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|c| {
            if c.is_control() {
                write!(f, "{}", c.escape_default())
            } else {
                write!(f, "{c}")
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::tests::{failed, root, worker};
    use crate::snapshot::{NodeStatus, TreeSnapshot};

    #[test]
    fn a_node_is_one_line_whatever_its_texts_hold() {
        let failed = TreeSnapshot {
            status: NodeStatus::Restarting,
            uptime: None,
            restarts: 4,
            attempts: 3,
            next_restart: Some(Duration::from_millis(250)),
            last_exit: Some(failed("no\nline")),
            ..worker("a\tb\u{1b}[31m")
        };
        let busy = TreeSnapshot {
            handler_age: Some(Duration::from_secs(2)),
            queue_depth: Some(9),
            ..worker("busy")
        };
        assert_eq!(
            root([busy, failed]).to_string(),
            "top [one_for_all] running #1 up 1.5s window 1/3\n\
             ├─ busy running #1 up 1.5s in a callback for 2.0s queued 9\n\
             └─ a\\tb\\u{1b}[31m restarting #1 restarts 4 next in 250.0ms (attempt 3) \
             last exit: failed: no\\nline"
        );
    }
}
