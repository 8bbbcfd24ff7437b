//! Conflation: where the queue is full, only the newest message of a key is kept.
//!
//! Apart from the queue because only one rule needs it, and because keys are read, and counted, from the moment on
//! at which the queue is first full until it is empty again: whoever keeps up pays nothing for having a key.
//!
//! Invariants:
//! - what is left stands in the order of its arrival: the newer message stays where it came, the older one goes;
//! - the newest message of a key goes only where every other message that is queued is the newest of its key, too;
//! - what went is told by the next message of its key that is popped (`replaced`), or in the `missed` of a gap.
//!   Deliberately absent: a newer message in the older one's place. Keys would take turns more fairly, and numbers,
//!   times of arrival and epochs would run backwards.

use std::borrow::Cow;
use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::Arc;

use super::super::items::Mark;
use super::{ContinuityQueue, Tail, joined};

/// Reads the key of a message.
type KeyOf<T> = dyn for<'m> Fn(&'m T) -> Option<Cow<'m, [u8]>> + Send + Sync;

/// Which message is the newest of its key.
pub(super) struct Conflation<T> {
    key_of: Box<KeyOf<T>>,
    /// One for each message that is queued, in the same order, while keys are counted.
    entries: VecDeque<Entry>,
    /// How many queued messages each key has, at least one.
    counts: HashMap<Arc<[u8]>, usize>,
    /// How many queued messages are not the newest of their key.
    superseded: usize,
    /// Whether keys are counted. Set where the queue is full, cleared where it is empty.
    counting: bool,
    /// How many messages newer ones have taken the place of, as has been told or will be.
    conflated: u64,
}

#[derive(Debug)]
struct Entry {
    /// `None` for a message without a key, which nothing replaces.
    key: Option<Arc<[u8]>>,
    /// How many older messages of its key went since the one before it.
    replaced: u64,
}

impl<T> Conflation<T> {
    pub(super) fn new(
        key_of: impl for<'m> Fn(&'m T) -> Option<Cow<'m, [u8]>> + Send + Sync + 'static,
    ) -> Self {
        Self {
            key_of: Box::new(key_of),
            entries: VecDeque::new(),
            counts: HashMap::new(),
            superseded: 0,
            counting: false,
            conflated: 0,
        }
    }

    pub(super) fn is_counting(&self) -> bool {
        self.counting
    }

    pub(super) fn conflated(&self) -> u64 {
        self.conflated
    }

    /// Counts the keys of what is queued, if that is not done yet.
    fn begin<'m>(&mut self, data: impl Iterator<Item = &'m T>)
    where
        T: 'm,
    {
        if self.counting {
            return;
        }
        self.counting = true;
        for payload in data {
            let key = self.intern(payload);
            self.append(key, 0);
        }
    }

    /// The key of a message, the same pointer for the same bytes as long as one with it is queued.
    fn intern(&self, payload: &T) -> Option<Arc<[u8]>> {
        let key = (self.key_of)(payload)?;
        match self.counts.get_key_value(&*key) {
            Some((known, _)) => Some(Arc::clone(known)),
            None => Some(Arc::from(&*key)),
        }
    }

    fn append(&mut self, key: Option<Arc<[u8]>>, replaced: u64) {
        if let Some(key) = &key {
            let count = self.counts.entry(Arc::clone(key)).or_insert(0);
            self.superseded += usize::from(*count > 0);
            *count += 1;
        }
        self.entries.push_back(Entry { key, replaced });
    }

    /// The first message goes. How many it stood for beside itself.
    pub(super) fn pop_front(&mut self) -> u64 {
        let Some(entry) = self.entries.pop_front() else {
            return 0;
        };
        self.forget(&entry);
        if self.entries.is_empty() {
            self.counting = false;
        }
        entry.replaced
    }

    /// A message that the queue has dropped had taken the place of so many, which are missing, too.
    pub(super) fn miss(&mut self, replaced: u64) {
        self.conflated -= replaced;
    }

    /// The place of the message that goes first: the oldest with the key of the one that comes, else the oldest that
    /// is not the newest of its key.
    fn victim(&self, coming: Option<&Arc<[u8]>>) -> Option<usize> {
        if let Some(coming) = coming.filter(|key| self.counts.contains_key(*key)) {
            let same = |entry: &Entry| {
                entry
                    .key
                    .as_ref()
                    .is_some_and(|key| Arc::ptr_eq(key, coming))
            };
            return self.entries.iter().position(same);
        }
        if self.superseded == 0 {
            return None;
        }
        let superseded = |entry: &Entry| {
            let key = entry.key.as_ref();
            key.is_some_and(|key| self.counts.get(key).is_some_and(|count| *count > 1))
        };
        self.entries.iter().position(superseded)
    }

    /// The message at `place` goes. How many the one that comes stands for instead, if none of its key stands
    /// behind it.
    fn take(&mut self, place: usize) -> u64 {
        let Some(entry) = self.entries.remove(place) else {
            return 0;
        };
        self.forget(&entry);
        self.conflated += 1;
        let replaced = entry.replaced + 1;
        let same = |next: &&mut Entry| match (&next.key, &entry.key) {
            (Some(next), Some(key)) => Arc::ptr_eq(next, key),
            (_, None) | (None, _) => false,
        };
        match self.entries.range_mut(place..).find(same) {
            Some(next) => {
                next.replaced += replaced;
                0
            }
            None => replaced,
        }
    }

    fn forget(&mut self, entry: &Entry) {
        let Some(key) = &entry.key else { return };
        let Some(count) = self.counts.get_mut(key) else {
            return;
        };
        if *count > 1 {
            *count -= 1;
            self.superseded -= 1;
        } else {
            self.counts.remove(key);
        }
    }
}

impl<T> fmt::Debug for Conflation<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Conflation")
            .field("keys", &self.counts.len())
            .field("superseded", &self.superseded)
            .field("conflated", &self.conflated)
            .finish_non_exhaustive()
    }
}

impl<T> ContinuityQueue<T> {
    /// Makes room for `payload`, which is about to be appended, if it can be made by messages that are not the
    /// newest of their key, and takes its key down.
    pub(super) fn conflate(&mut self, payload: &T) {
        let Some(mut conflation) = self.conflation.take() else {
            return;
        };
        conflation.begin(self.items.data());
        let key = conflation.intern(payload);
        let mut replaced = 0;
        while !self.has_room() {
            let Some(place) = conflation.victim(key.as_ref()) else {
                break;
            };
            replaced += conflation.take(place);
            self.discard(place);
        }
        // Its key may have been forgotten with the last message that had it; it is the same pointer still.
        conflation.append(key, replaced);
        self.conflation = Some(conflation);
    }

    /// Takes the message at `place` out. Where nothing is left between the end of a gap and the next gap, they are
    /// one.
    fn discard(&mut self, place: usize) {
        let Some((payload, between)) = self.items.take(place) else {
            return;
        };
        self.bytes -= (self.weigh)(&payload);
        let Some(at) = between else { return };
        let inner = match self.items.mark_mut(at) {
            Some(Mark::Gap(inner)) => (inner.since, inner.missed),
            _ => return,
        };
        let outer = at.checked_sub(2);
        let since = match outer.and_then(|outer| self.items.mark_mut(outer)) {
            Some(Mark::Gap(outer)) => outer.since,
            // The consumer knows of the first one, and would not hear of what is missing in the second.
            _ if inner.1.is_some() => return,
            _ => self.told_since.unwrap_or(inner.0),
        };
        let Some(second) = self.items.take_between(at) else {
            return;
        };
        if let Some(Mark::Gap(first)) = outer.and_then(|outer| self.items.mark_mut(outer)) {
            *first = joined(Some(first.clone()), second);
        }
        match self.items.mark_mut(at - 1) {
            Some(Mark::Resynced(resynced)) => {
                resynced.length += inner.0.saturating_duration_since(since);
            }
            _ => {
                if let Tail::Interrupted { since: open, .. } = &mut self.tail {
                    *open = since.min(*open);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
