//! A sequence of items in which data lies side by side.
//!
//! Apart from the queue because it only holds. A message is a few words, a gap many; where every message is
//! an item of its own, most of what a queue moves is room for gaps that never come. Here messages stand in
//! one deque, and marks beside it say how many of them came together, and what stands between them.
//!
//! Invariants: the runs' counts add up to the data; no run is empty; two runs of one epoch and one instant do
//! not stand next to each other.

use std::collections::VecDeque;
use std::time::Instant;

use super::{Epoch, Gap, Item, Resynced};
use crate::error::EndReason;

/// A sequence of [`Item`]s.
#[derive(Debug)]
pub struct Items<T> {
    data: VecDeque<T>,
    marks: VecDeque<Mark>,
    /// How many of `marks` are no runs.
    controls: usize,
}

/// What stands in a sequence.
#[derive(Debug)]
pub(super) enum Mark {
    /// So many messages that came by one connection and were read at one instant.
    Run {
        count: usize,
        epoch: Epoch,
        received: Instant,
    },
    /// One message that stands for older ones of its key.
    Newest {
        epoch: Epoch,
        received: Instant,
        replaced: u64,
    },
    Gap(Gap),
    Resynced(Resynced),
    Ended(EndReason),
}

impl<T> Items<T> {
    /// An empty sequence.
    #[must_use]
    pub fn new() -> Self {
        Self {
            data: VecDeque::new(),
            marks: VecDeque::new(),
            controls: 0,
        }
    }

    /// How many items there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.data.len() + self.controls
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.marks.is_empty()
    }

    /// The messages among them, the first one first.
    pub fn data(&self) -> impl ExactSizeIterator<Item = &T> + DoubleEndedIterator {
        self.data.iter()
    }

    /// When the first message among them was read.
    #[must_use]
    pub fn received(&self) -> Option<Instant> {
        self.marks.iter().find_map(|mark| match mark {
            Mark::Run { received, .. } | Mark::Newest { received, .. } => Some(*received),
            Mark::Gap(_) | Mark::Resynced(_) | Mark::Ended(_) => None,
        })
    }

    /// Takes the first item out if it is a message that stands for itself alone: what nearly all are.
    #[inline]
    pub fn pop_data(&mut self) -> Option<(T, Epoch, Instant)> {
        let Some(Mark::Run {
            count,
            epoch,
            received,
        }) = self.marks.front_mut()
        else {
            return None;
        };
        let (epoch, received) = (*epoch, *received);
        *count -= 1;
        if *count == 0 {
            self.pop_mark();
        }
        Some((self.data.pop_front()?, epoch, received))
    }

    /// Takes the first mark out. Where none is left the next one takes its place in memory. Done once for a batch, and
    /// kept out of what is done for each message.
    #[inline(never)]
    fn pop_mark(&mut self) {
        if self.marks.len() == 1 {
            self.marks.clear();
        } else {
            self.marks.pop_front();
        }
    }

    /// Whether all of them are messages that stand for themselves alone.
    pub(super) fn is_plain(&self) -> bool {
        self.controls == 0
    }

    /// Takes the first item out.
    pub fn pop_front(&mut self) -> Option<Item<T>> {
        match self.pop_data() {
            Some((payload, epoch, received)) => Some(Item::Data {
                payload,
                epoch,
                received,
                replaced: 0,
            }),
            None => self.pop_control(),
        }
    }

    #[cold]
    fn pop_control(&mut self) -> Option<Item<T>> {
        let item = match self.marks.pop_front()? {
            // Taken by `pop_data`.
            Mark::Run { .. } => return None,
            Mark::Newest {
                epoch,
                received,
                replaced,
            } => {
                return Some(Item::Data {
                    payload: self.data.pop_front()?,
                    epoch,
                    received,
                    replaced,
                });
            }
            Mark::Gap(gap) => Item::Gap(gap),
            Mark::Resynced(resynced) => Item::Resynced(resynced),
            Mark::Ended(reason) => Item::Ended(reason),
        };
        self.controls -= 1;
        Some(item)
    }

    /// Appends messages of one epoch that were read at one instant, and leaves `data` empty.
    pub(super) fn append(&mut self, data: &mut VecDeque<T>, epoch: Epoch, received: Instant) {
        self.count(data.len(), epoch, received);
        if self.data.is_empty() {
            // Nothing is moved but two pointers.
            std::mem::swap(&mut self.data, data);
        } else {
            self.data.append(data);
        }
    }

    /// Appends an item.
    pub(super) fn push_back(&mut self, item: Item<T>) {
        let mark = match item {
            Item::Data {
                payload,
                epoch,
                received,
                replaced,
            } => {
                match replaced {
                    0 => self.count(1, epoch, received),
                    replaced => self.marks.push_back(Mark::Newest {
                        epoch,
                        received,
                        replaced,
                    }),
                }
                self.data.push_back(payload);
                return;
            }
            Item::Gap(gap) => Mark::Gap(gap),
            Item::Resynced(resynced) => Mark::Resynced(resynced),
            Item::Ended(reason) => Mark::Ended(reason),
        };
        self.controls += 1;
        self.marks.push_back(mark);
    }

    /// Puts an item that was the first one in front of the others again.
    pub(super) fn push_front(&mut self, item: Item<T>) {
        let mark = match item {
            Item::Data {
                payload,
                epoch,
                received,
                // Nothing that is queued stands for others: the queue knows that beside it.
                replaced: _,
            } => {
                self.data.push_front(payload);
                match self.marks.front_mut() {
                    Some(Mark::Run {
                        count,
                        epoch: same,
                        received: at,
                    }) if *same == epoch && *at == received => *count += 1,
                    _ => self.marks.push_front(Mark::Run {
                        count: 1,
                        epoch,
                        received,
                    }),
                }
                return;
            }
            Item::Gap(gap) => Mark::Gap(gap),
            Item::Resynced(resynced) => Mark::Resynced(resynced),
            Item::Ended(reason) => Mark::Ended(reason),
        };
        self.controls += 1;
        self.marks.push_front(mark);
    }

    /// Takes the last item out if it is the end of a gap. Whether it was.
    pub(super) fn pop_back_resynced(&mut self) -> bool {
        let ends = matches!(self.marks.back(), Some(Mark::Resynced(_)));
        if ends {
            self.marks.pop_back();
            self.controls -= 1;
        }
        ends
    }

    /// The first mark.
    pub(super) fn front_mut(&mut self) -> Option<&mut Mark> {
        self.marks.front_mut()
    }

    /// The last mark.
    pub(super) fn back_mut(&mut self) -> Option<&mut Mark> {
        self.marks.back_mut()
    }

    /// Moves messages from the front of these to the end of `others`, up to `limit` of them and none across a
    /// mark of another kind. How many they were.
    pub(super) fn move_run(&mut self, others: &mut Self, limit: usize) -> usize {
        let Some(Mark::Run {
            count,
            epoch,
            received,
        }) = self.marks.front_mut()
        else {
            return 0;
        };
        let moved = limit.min(*count);
        if moved == 0 {
            return 0;
        }
        let (epoch, received) = (*epoch, *received);
        *count -= moved;
        if *count == 0 {
            self.marks.pop_front();
        }
        if moved == self.data.len() {
            others.append(&mut self.data, epoch, received);
        } else {
            others.count(moved, epoch, received);
            others.data.extend(self.data.drain(..moved));
        }
        moved
    }

    /// Takes the message at `place` out of the middle. With it, where it stood between the end of a gap and the next
    /// gap, and nothing stands there any more, the place of that gap among the marks.
    pub(super) fn take(&mut self, place: usize) -> Option<(T, Option<usize>)> {
        let payload = self.data.remove(place)?;
        let mut before = 0;
        let mut at = 0;
        for (index, mark) in self.marks.iter_mut().enumerate() {
            at = index;
            let Mark::Run { count, .. } = mark else {
                continue;
            };
            if before + *count > place {
                *count -= 1;
                if *count > 0 {
                    return Some((payload, None));
                }
                break;
            }
            before += *count;
        }
        self.marks.remove(at);
        let ends = |at: usize| matches!(self.marks.get(at), Some(Mark::Resynced(_)));
        let gap = matches!(self.marks.get(at), Some(Mark::Gap(_)));
        let between = gap && at.checked_sub(1).is_some_and(ends);
        Some((payload, between.then_some(at)))
    }

    /// Takes the end of a gap and the next gap, which stands at `gap`, out. That next one.
    pub(super) fn take_between(&mut self, gap: usize) -> Option<Gap> {
        let end = gap.checked_sub(1)?;
        let taken = self.marks.remove(gap);
        self.marks.remove(end);
        self.controls -= 2;
        match taken {
            Some(Mark::Gap(gap)) => Some(gap),
            Some(Mark::Run { .. } | Mark::Newest { .. } | Mark::Resynced(_) | Mark::Ended(_))
            | None => None,
        }
    }

    /// The mark at a place.
    pub(super) fn mark_mut(&mut self, at: usize) -> Option<&mut Mark> {
        self.marks.get_mut(at)
    }

    fn count(&mut self, more: usize, epoch: Epoch, received: Instant) {
        match self.marks.back_mut() {
            _ if more == 0 => {}
            Some(Mark::Run {
                count,
                epoch: same,
                received: at,
            }) if *same == epoch && *at == received => *count += more,
            _ => self.marks.push_back(Mark::Run {
                count: more,
                epoch,
                received,
            }),
        }
    }
}

impl<T> Default for Items<T> {
    fn default() -> Self {
        Self::new()
    }
}
