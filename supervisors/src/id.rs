//! How children, incarnations and places in a tree are named.
//!
//! Its own file because every other file speaks these names and none of them owns them.
//!
//! Invariants: an id is local to its supervisor and never a process-global name; a generation grows
//! by one with each start and is never given twice to the same child; no part of a path is empty or has a
//! `/` or a control character in it, so that a path can be taken apart again and forges no line of a log.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

/// What is known of children, by their ids: looked up ten times for each restart, and ids are short.
pub(crate) type ById<V> = HashMap<ChildId, V, foldhash::fast::RandomState>;

/// The name of a child, unique among the children of one supervisor. It is not empty and has no `/`, which
/// separates the parts of a [`SupervisorPath`], and no control character; a spec with another is refused.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChildId(Arc<str>);

impl ChildId {
    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ChildId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ChildId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

impl From<&str> for ChildId {
    fn from(id: &str) -> Self {
        Self(id.into())
    }
}

impl From<String> for ChildId {
    fn from(id: String) -> Self {
        Self(id.into())
    }
}

impl From<&ChildId> for ChildId {
    fn from(id: &ChildId) -> Self {
        id.clone()
    }
}

/// What keeps a name from being a part of a path.
pub(crate) enum Unfit {
    Empty,
    /// It has a `/` in it.
    Divided,
    /// It has a control character in it.
    Unprintable,
}

/// Whether a name can be a part of a path.
pub(crate) fn part_of_path(name: &str) -> Result<(), Unfit> {
    match name {
        "" => Err(Unfit::Empty),
        name if name.contains('/') => Err(Unfit::Divided),
        name if name.chars().any(char::is_control) => Err(Unfit::Unprintable),
        _ => Ok(()),
    }
}

/// Which incarnation of a child; the first one is 1.
///
/// Numbering goes on when the enclosing supervisor is restarted, because its spec is re-used: a
/// generation seen on a message tells for good which incarnation sent it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Generation(pub u64);

impl Generation {
    pub(crate) fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Where a supervisor or child stands in its tree: `root/child/grandchild`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SupervisorPath(Arc<str>);

impl SupervisorPath {
    pub(crate) fn root(name: &str) -> Self {
        Self(name.into())
    }

    /// The path of the child `id` of the supervisor standing here.
    #[must_use]
    pub fn child(&self, id: &ChildId) -> Self {
        Self([self.as_str(), "/", id.as_str()].concat().into())
    }

    /// The path as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SupervisorPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for SupervisorPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}
