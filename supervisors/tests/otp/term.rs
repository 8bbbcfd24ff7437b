//! How a script is written as an Erlang term, for the driver and for whoever reads a difference.
//!
//! Invariants: what is written is what `oracle.erl` reads, and nothing of a script is left out.

use std::fmt;

use crate::script::{Call, Child, End, Flags, Kind, Limit, Manner, Outcome, Script, Step};

/// `[a,b]`.
fn list<T: fmt::Display>(items: impl IntoIterator<Item = T>) -> String {
    let items: Vec<String> = items.into_iter().map(|item| item.to_string()).collect();
    format!("[{}]", items.join(","))
}

impl fmt::Display for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{{script,{},{},\n  {},\n  {}}}",
            self.seed,
            self.flags,
            list(&self.children),
            list(&self.steps)
        )
    }
}

impl fmt::Display for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{{{},{},{}}}",
            self.strategy, self.intensity, self.auto_shutdown
        )
    }
}

impl fmt::Display for Child {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{{{},{},{},{},{},{}}}",
            self.id, self.restart, self.significant, self.shutdown, self.kind, self.manner
        )
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kill => f.write_str("brutal_kill"),
            Self::Millis(millis) => millis.fmt(f),
            Self::Infinite => f.write_str("infinity"),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Worker => f.write_str("worker"),
            Self::Supervisor(flags, children) => {
                write!(f, "{{supervisor,{flags},{}}}", list(children))
            }
        }
    }
}

impl fmt::Display for Manner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Polite => "polite",
            Self::Stubborn => "stubborn",
            Self::Failing => "failing",
        })
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Normal => "normal",
            Self::Shutdown => "shutdown",
            Self::Done => "done",
            Self::Error => "error",
            Self::Crash => "crash",
            Self::Killed => "killed",
        })
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plan(path, outcomes) => write!(f, "{{plan,{},{}}}", list(path), list(outcomes)),
            Self::Boot => f.write_str("boot"),
            Self::Advance => f.write_str("advance"),
            Self::Ends(path, end) => write!(f, "{{ends,{},{end}}}", list(path)),
            Self::Together(ends) => {
                let ends = ends.iter().map(|(id, end)| format!("{{{id},{end}}}"));
                write!(f, "{{together,{}}}", list(ends))
            }
            Self::On(path, call) => write!(f, "{{on,{},{call}}}", list(path)),
            Self::Check(auto, children) => write!(f, "{{check,{auto},{}}}", list(children)),
            Self::Stop => f.write_str("stop"),
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ok => f.write_str("ok"),
            Self::Fail => f.write_str("fail"),
            Self::FailThen(call) => write!(f, "{{fail,{call}}}"),
            Self::FailWhile(id, end) => write!(f, "{{fail,{{ends,{id},{end}}}}}"),
            Self::Ignore => f.write_str("ignore"),
        }
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start(child) => write!(f, "{{start_child,{child}}}"),
            Self::Terminate(id) => write!(f, "{{terminate_child,{id}}}"),
            Self::Restart(id) => write!(f, "{{restart_child,{id}}}"),
            Self::Delete(id) => write!(f, "{{delete_child,{id}}}"),
            Self::Spec(id) => write!(f, "{{get_childspec,{id}}}"),
        }
    }
}
