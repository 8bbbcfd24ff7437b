//! Which subscribers listen to which channel, and the reader's own copy of that.
//!
//! The table changes rarely and is read for every frame: it is replaced whole, and a reader works on a
//! snapshot which it renews between batches. In that copy it also collects a batch per channel.
//!
//! Invariants: a frame is delivered to every subscriber of its channel or, without one, to those that
//! listen to everything else; within a channel the order of arrival is kept.

use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use arc_swap::ArcSwap;

use super::subscriber::{BATCH, Delivered, Subscriber};
use crate::frame::Frame;
use crate::protocol::continuity::Epoch;

/// The shared table.
#[derive(Debug, Default)]
pub(crate) struct Routes {
    table: ArcSwap<Table>,
    /// Serialises writers; readers never take it.
    writing: Mutex<()>,
}

/// One state of the table.
#[derive(Debug, Default, Clone)]
pub(crate) struct Table {
    channels: HashMap<Arc<str>, Vec<Arc<Subscriber>>>,
    everything_else: Vec<Arc<Subscriber>>,
}

impl Routes {
    /// Adds a subscriber.
    pub(crate) fn add(&self, subscriber: &Arc<Subscriber>) {
        self.add_all([subscriber]);
    }

    /// Adds subscribers, all in one step.
    pub(crate) fn add_all<'s>(&self, subscribers: impl IntoIterator<Item = &'s Arc<Subscriber>>) {
        self.change(|table| {
            for subscriber in subscribers {
                let list = match &subscriber.channel {
                    Some(channel) => table.channels.entry(Arc::clone(channel)).or_default(),
                    None => &mut table.everything_else,
                };
                list.push(Arc::clone(subscriber));
            }
        });
    }

    /// Removes a subscriber. Whether it was there.
    pub(crate) fn remove(&self, subscriber: &Arc<Subscriber>) -> bool {
        self.remove_all([subscriber]) == [true]
    }

    /// Removes subscribers, all in one step. Whether each was there.
    pub(crate) fn remove_all<'s>(
        &self,
        subscribers: impl IntoIterator<Item = &'s Arc<Subscriber>>,
    ) -> Vec<bool> {
        let subscribers: Vec<_> = subscribers.into_iter().collect();
        let mut found = Vec::with_capacity(subscribers.len());
        if subscribers.is_empty() {
            return found;
        }
        self.change(|table| {
            for subscriber in subscribers {
                found.push(table.take_out(subscriber));
            }
        });
        found
    }

    /// The table as it is now.
    pub(crate) fn snapshot(&self) -> Arc<Table> {
        self.table.load_full()
    }

    fn change(&self, change: impl FnOnce(&mut Table)) {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut table = Table::clone(&self.table.load());
        change(&mut table);
        self.table.store(Arc::new(table));
    }
}

impl Table {
    /// Removes a subscriber. Whether it was there.
    fn take_out(&mut self, subscriber: &Arc<Subscriber>) -> bool {
        let list = match &subscriber.channel {
            Some(channel) => self.channels.get_mut(channel),
            None => Some(&mut self.everything_else),
        };
        let Some(list) = list else { return false };
        let before = list.len();
        list.retain(|other| !Arc::ptr_eq(other, subscriber));
        let found = list.len() < before;
        if let Some(channel) = subscriber.channel.as_ref().filter(|_| list.is_empty()) {
            self.channels.remove(channel);
        }
        found
    }

    /// Every subscriber.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Arc<Subscriber>> {
        self.channels
            .values()
            .flatten()
            .chain(&self.everything_else)
    }

    /// The subscribers of one channel.
    pub(crate) fn of(&self, channel: &str) -> &[Arc<Subscriber>] {
        self.channels.get(channel).map_or(&[], Vec::as_slice)
    }
}

/// How many wrong guesses in a row at what comes next it takes, after as many right ones, until none is made.
const TRUSTED: u8 = 4;

/// Bytes read between two looks at who holds on to what was read for others.
const LOOK: u64 = 16 * 1024 * 1024;

/// The reader's copy, in which a batch is collected per channel.
#[derive(Debug)]
pub(crate) struct Sorter {
    table: Arc<Table>,
    /// Position of a channel in `bins`; the last bin is everything else.
    index: HashMap<Arc<[u8]>, usize, foldhash::fast::RandomState>,
    bins: Vec<Bin>,
    /// What the bins' channels are called, one behind the other: looked at for every frame, and so kept close.
    names: Vec<u8>,
    /// Of each bin but the last.
    ways: Vec<Way>,
    /// How far it is to be trusted that a channel is followed by the one that followed it before.
    trust: u8,
    /// The bin of the frame before: what comes next is often the same.
    last: Option<usize>,
    /// `head` with that channel's name behind it, once two in a row were of it. Empty as long as nothing can be recognised.
    beginning: Vec<u8>,
    /// What stands before the channel's name in this venue's notifications. Empty until one was seen.
    head: Vec<u8>,
    /// Whether every name in the index stands in JSON as it is, so that bytes may be compared.
    plain: bool,
    /// Bins that hold something, in the order in which they began to.
    filled: Vec<usize>,
    /// Whether a bin holds as much as a queue has room for beyond its rule.
    full: bool,
    /// What had been read at the last look at who holds on to it.
    looked: u64,
}

/// Where a bin's channel is found, and what has come behind it.
#[derive(Debug)]
struct Way {
    /// Where its name stands in `names`.
    name: Range<u32>,
    /// The bin of the frame that came behind the last one of this channel.
    follower: u32,
}

/// What has come for one channel. Of hundreds none is in the nearest cache, so that each is one line of it.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Bin {
    subscribers: Vec<Arc<Subscriber>>,
    frames: VecDeque<Frame>,
    /// Of their payloads.
    bytes: usize,
}

impl Bin {
    fn of(subscribers: &[Arc<Subscriber>]) -> Self {
        Self {
            subscribers: subscribers.to_vec(),
            ..Self::default()
        }
    }

    fn clear(&mut self) {
        self.frames.clear();
        self.bytes = 0;
    }
}

impl Sorter {
    /// A copy of the table as it is now.
    pub(crate) fn new(routes: &Routes) -> Self {
        let mut sorter = Self {
            table: Arc::default(),
            index: HashMap::default(),
            bins: vec![Bin::default()],
            names: Vec::new(),
            ways: Vec::new(),
            trust: 0,
            last: None,
            head: Vec::new(),
            beginning: Vec::new(),
            plain: true,
            filled: Vec::new(),
            full: false,
            looked: 0,
        };
        sorter.build(routes.snapshot());
        sorter
    }

    /// Renews the copy if the table has changed. Only between batches.
    pub(crate) fn renew(&mut self, routes: &Routes) {
        let current = routes.table.load();
        if !Arc::ptr_eq(&current, &self.table) {
            let current = Arc::clone(&current);
            self.build(current);
        }
    }

    /// The bin of a channel; without subscribers of its own, that of everything else.
    pub(crate) fn place(&mut self, channel: Option<&str>) -> usize {
        let rest = self.bins.len() - 1;
        let Some(channel) = channel else { return rest };
        self.bin(channel.as_bytes()).unwrap_or(rest)
    }

    /// From here on frames that begin with `head` are [recognised](Self::recognise).
    pub(crate) fn learn(&mut self, head: &[u8]) {
        self.head.clear();
        self.head.extend_from_slice(head);
        self.beginning.clear();
    }

    /// The bin of a frame that begins as the notification did from which this was [learnt](Self::learn), if its
    /// channel has subscribers.
    #[inline(always)]
    pub(crate) fn recognise(&mut self, frame: &[u8]) -> Option<usize> {
        if !self.beginning.is_empty()
            && let Some(rest) = frame.strip_prefix(self.beginning.as_slice())
            && matches!(rest, [b'"', b',' | b'}', ..])
        {
            return self.last;
        }
        self.recognise_another(frame)
    }

    /// Whether anything can be recognised.
    fn learnt(&self) -> bool {
        self.plain && !self.head.is_empty()
    }

    /// The same for a channel that is not the last one's.
    fn recognise_another(&mut self, frame: &[u8]) -> Option<usize> {
        if !self.learnt() {
            return None;
        }
        let rest = frame.strip_prefix(self.head.as_slice())?;
        if let Some((place, name)) = self.expected()
            && let Some(end) = rest.strip_prefix(name)
            && matches!(end, [b'"', b',' | b'}', ..])
        {
            self.came_as_expected(place, rest.get(..name.len()).unwrap_or_default());
            return Some(place);
        }
        let end = memchr::memchr(b'"', rest)?;
        let (name, rest) = rest.split_at(end);
        match rest.get(1) {
            Some(b',' | b'}') => self.bin(name),
            _ => None,
        }
    }

    /// The bin that is expected next, and its channel's name: channels that a venue tells of in turn come in one order
    /// again and again, and to look whether a name is there costs less than to look where it is.
    #[inline]
    fn expected(&self) -> Option<(usize, &[u8])> {
        if self.trust == 0 {
            return None;
        }
        let place = self.ways.get(self.last?)?.follower as usize;
        let name = &self.ways.get(place)?.name;
        let name = self.names.get(name.start as usize..name.end as usize)?;
        Some((place, name))
    }

    fn bin(&mut self, channel: &[u8]) -> Option<usize> {
        let place = *self.index.get(channel)?;
        self.came(place, channel);
        Some(place)
    }

    /// The same as [`Self::came`] for the bin that was [expected](Self::expected).
    #[inline(always)]
    fn came_as_expected(&mut self, place: usize, channel: &[u8]) {
        if self.last == Some(place) {
            self.came(place, channel);
        } else {
            self.trust = (self.trust + 1).min(TRUSTED);
            self.last = Some(place);
            self.beginning.clear();
        }
    }

    /// A frame of this bin's channel has come.
    #[inline]
    fn came(&mut self, place: usize, channel: &[u8]) {
        if let Some(way) = self.last.and_then(|last| self.ways.get_mut(last)) {
            let next = u32::try_from(place).unwrap_or(u32::MAX);
            if way.follower == next {
                self.trust = (self.trust + 1).min(TRUSTED);
            } else {
                way.follower = next;
                self.trust = self.trust.saturating_sub(1);
            }
        }
        if self.last == Some(place) {
            if self.beginning.is_empty() && self.learnt() {
                self.beginning.extend_from_slice(&self.head);
                self.beginning.extend_from_slice(channel);
            }
        } else {
            self.last = Some(place);
            self.beginning.clear();
        }
    }

    /// An empty slot at the end of a bin, for a frame with a payload of so many bytes, which is to be put there. `None` if
    /// nobody listens.
    #[inline(always)]
    pub(crate) fn open(&mut self, place: usize, bytes: usize) -> Option<&mut Frame> {
        let bin = self.bins.get_mut(place)?;
        if bin.subscribers.is_empty() {
            return None;
        }
        if bin.frames.is_empty() {
            self.filled.push(place);
        }
        bin.bytes += bytes;
        self.full |= bin.frames.len() + 1 >= BATCH;
        bin.frames.push_back(Frame::EMPTY);
        bin.frames.back_mut()
    }

    /// Puts a frame into a bin. Whether anybody listens; if not, the frame is dropped.
    pub(crate) fn put(&mut self, place: usize, frame: Frame) -> bool {
        match self.open(place, frame.payload().len()) {
            Some(slot) => {
                *slot = frame;
                true
            }
            None => false,
        }
    }

    /// Whether one subscriber's part of the batch is as large as it may be: the batch is to be handed out.
    pub(crate) fn is_full(&self) -> bool {
        self.full
    }

    /// Hands the batch out. Calls `told` for each subscriber of which there is something to tell, and `blocked` for
    /// each that now asks the reader to wait.
    pub(crate) fn deliver(
        &mut self,
        epoch: Epoch,
        received: Instant,
        read: u64,
        mut told: impl FnMut(&Subscriber, Delivered),
        mut blocked: impl FnMut(&Arc<Subscriber>),
    ) {
        let mut noted = |subscriber: &Arc<Subscriber>, delivered: Delivered| {
            if delivered.is_notable() {
                told(subscriber, delivered);
            }
            if delivered.full && subscriber.blocks().is_some() {
                blocked(subscriber);
            }
        };
        self.full = false;
        for place in self.filled.drain(..) {
            let bin = &mut self.bins[place];
            if let Some((last, others)) = bin.subscribers.split_last() {
                for subscriber in others {
                    let mut frames = bin.frames.clone();
                    let delivered =
                        subscriber.deliver(&mut frames, bin.bytes, epoch, received, read);
                    noted(subscriber, delivered);
                }
                let delivered = last.deliver(&mut bin.frames, bin.bytes, epoch, received, read);
                noted(last, delivered);
            }
            bin.clear();
        }
        if read.saturating_sub(self.looked) >= LOOK {
            self.looked = read;
            let subscribers = self.bins.iter().flat_map(|bin| &bin.subscribers);
            subscribers.for_each(|subscriber| subscriber.let_go(read));
        }
    }

    /// Throws the batch away.
    pub(crate) fn discard(&mut self) {
        self.full = false;
        for place in self.filled.drain(..) {
            self.bins[place].clear();
        }
    }

    fn build(&mut self, table: Arc<Table>) {
        self.index.clear();
        self.plain = table.channels.keys().all(|name| is_plain(name));
        self.last = None;
        self.beginning.clear();
        self.bins.clear();
        self.filled.clear();
        self.full = false;
        self.trust = 0;
        self.names.clear();
        self.ways.clear();
        let position = |names: &Vec<u8>| u32::try_from(names.len()).unwrap_or(u32::MAX);
        for (channel, subscribers) in &table.channels {
            let start = position(&self.names);
            self.names.extend_from_slice(channel.as_bytes());
            self.ways.push(Way {
                name: start..position(&self.names),
                follower: u32::MAX,
            });
            self.index
                .insert(Arc::from(channel.as_bytes()), self.bins.len());
            self.bins.push(Bin::of(subscribers));
        }
        self.bins.push(Bin::of(&table.everything_else));
        self.table = table;
    }
}

/// Whether a name has the same bytes as a JSON string (RFC 8259, section 7).
fn is_plain(name: &str) -> bool {
    !name
        .bytes()
        .any(|byte| matches!(byte, b'"' | b'\\' | 0..=0x1f))
}

#[cfg(test)]
mod tests;
