//! What each method costs, as a list of patterns.
//!
//! Apart because venues' price lists are the part that users rewrite.
//!
//! Invariants: the first pattern that fits decides; what none fits costs the default.

use std::borrow::Cow;

use super::Weight;

/// A price list. The first entry that fits a method decides.
///
/// ```
/// use mainstay::config::Costs;
///
/// let costs = Costs::new(5).exact("private/buy", 15).prefix("public/", 1);
/// assert_eq!(costs.weigh("private/buy").cost, 15);
/// assert_eq!(costs.weigh("public/ticker").cost, 1);
/// assert_eq!(costs.weigh("private/edit").cost, 5);
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Costs {
    entries: Vec<(Pattern, Weight)>,
    otherwise: Weight,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Pattern {
    Exact(Cow<'static, str>),
    Prefix(Cow<'static, str>),
    Containing(Cow<'static, str>),
}

impl Pattern {
    fn fits(&self, method: &str) -> bool {
        match self {
            Self::Exact(name) => method == name,
            Self::Prefix(start) => method.starts_with(&**start),
            Self::Containing(part) => method.contains(&**part),
        }
    }
}

impl Costs {
    /// Every method costs this, unless an entry says otherwise.
    #[must_use]
    pub fn new(otherwise: impl Into<Weight>) -> Self {
        Self {
            entries: Vec::new(),
            otherwise: otherwise.into(),
        }
    }

    /// The method of this name.
    #[must_use]
    pub fn exact(self, method: impl Into<Cow<'static, str>>, weight: impl Into<Weight>) -> Self {
        self.entry(Pattern::Exact(method.into()), weight.into())
    }

    /// Methods whose name begins so.
    #[must_use]
    pub fn prefix(self, start: impl Into<Cow<'static, str>>, weight: impl Into<Weight>) -> Self {
        self.entry(Pattern::Prefix(start.into()), weight.into())
    }

    /// Methods whose name contains this.
    #[must_use]
    pub fn containing(self, part: impl Into<Cow<'static, str>>, weight: impl Into<Weight>) -> Self {
        self.entry(Pattern::Containing(part.into()), weight.into())
    }

    /// What a request of `method` costs.
    #[must_use]
    pub fn weigh(&self, method: &str) -> Weight {
        self.entries
            .iter()
            .find(|(pattern, _)| pattern.fits(method))
            .map_or(self.otherwise, |(_, weight)| *weight)
    }

    /// Every weight on the list.
    pub(super) fn weights(&self) -> impl Iterator<Item = Weight> + '_ {
        let listed = self.entries.iter().map(|(_, weight)| *weight);
        listed.chain([self.otherwise])
    }

    fn entry(mut self, pattern: Pattern, weight: Weight) -> Self {
        self.entries.push((pattern, weight));
        self
    }
}
