//! A sequence of items in which data lies side by side.
//!
//! Apart from the queue because it only holds. A message is a few words, a gap many; where every message is
//! an item of its own, most of what a queue moves is room for gaps that never come. Here messages stand in
//! one deque, and marks beside it say how many of them came together, and what stands between them. The run in front
//! stands by itself: for a consumer that keeps up it is the only one, and no mark is looked at.
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
    /// Stands before all `marks`. Where there is none, `marks` may begin with a run all the same.
    first: Option<Run>,
    marks: VecDeque<Mark>,
    /// How many of `marks` are no runs.
    controls: usize,
}

/// So many messages that came by one connection and were read at one instant.
#[derive(Debug, Clone, Copy)]
pub(super) struct Run {
    pub(super) count: usize,
    pub(super) epoch: Epoch,
    pub(super) received: Instant,
}

impl Run {
    fn is_of(&self, epoch: Epoch, received: Instant) -> bool {
        self.epoch == epoch && self.received == received
    }
}

/// What stands in a sequence.
#[derive(Debug)]
pub(super) enum Mark {
    Run(Run),
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
            first: None,
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
        self.len() == 0
    }

    /// The messages among them, the first one first.
    pub fn data(&self) -> impl ExactSizeIterator<Item = &T> + DoubleEndedIterator {
        self.data.iter()
    }

    /// The same, to be put in other words.
    pub fn data_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.data.iter_mut()
    }

    /// When the first message among them was read.
    #[must_use]
    pub fn received(&self) -> Option<Instant> {
        if let Some(run) = &self.first {
            return Some(run.received);
        }
        self.marks.iter().find_map(|mark| match mark {
            Mark::Run(Run { received, .. }) | Mark::Newest { received, .. } => Some(*received),
            Mark::Gap(_) | Mark::Resynced(_) | Mark::Ended(_) => None,
        })
    }

    /// Takes the first item out if it is a message that stands for itself alone: what nearly all are.
    #[inline(always)]
    pub fn pop_data(&mut self) -> Option<(T, Epoch, Instant)> {
        if self.first.is_none() && !self.marks.is_empty() {
            self.begin_run();
        }
        let run = self.first.as_mut()?;
        let (epoch, received) = (run.epoch, run.received);
        run.count -= 1;
        let last = run.count == 0;
        let payload = self.data.pop_front()?;
        if last {
            self.end_run();
        }
        Some((payload, epoch, received))
    }

    /// The first mark becomes the first run if it is one. Kept out of what is done for each message, as is
    /// [`Self::end_run`].
    #[inline(never)]
    fn begin_run(&mut self) {
        if let (None, Some(Mark::Run(run))) = (&self.first, self.marks.front()) {
            self.first = Some(*run);
            self.marks.pop_front();
        }
    }

    /// The first run has been taken. Where no message is left the next one takes the place of the first in memory.
    #[inline(never)]
    fn end_run(&mut self) {
        self.first = None;
        if self.data.is_empty() {
            self.data.clear();
        }
    }

    /// The first run becomes the first mark, for who looks at marks alone.
    fn mark_run(&mut self) {
        if let Some(run) = self.first.take() {
            self.marks.push_front(Mark::Run(run));
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
            Mark::Run(_) => return None,
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
                self.begin_run();
                match &mut self.first {
                    Some(run) if run.is_of(epoch, received) => run.count += 1,
                    _ => {
                        self.mark_run();
                        self.first = Some(Run {
                            count: 1,
                            epoch,
                            received,
                        });
                    }
                }
                return;
            }
            Item::Gap(gap) => Mark::Gap(gap),
            Item::Resynced(resynced) => Mark::Resynced(resynced),
            Item::Ended(reason) => Mark::Ended(reason),
        };
        self.controls += 1;
        self.mark_run();
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

    /// What stands in front, if that is no message.
    pub(super) fn front_mut(&mut self) -> Option<&mut Mark> {
        match self.first {
            Some(_) => None,
            None => self.marks.front_mut(),
        }
    }

    /// The last mark behind the first run.
    pub(super) fn back_mut(&mut self) -> Option<&mut Mark> {
        self.marks.back_mut()
    }

    /// Moves messages from the front of these to the end of `others`, up to `limit` of them and none across a
    /// mark of another kind. How many they were.
    pub(super) fn move_run(&mut self, others: &mut Self, limit: usize) -> usize {
        self.begin_run();
        let Some(run) = &mut self.first else {
            return 0;
        };
        let moved = limit.min(run.count);
        if moved == 0 {
            return 0;
        }
        let (epoch, received) = (run.epoch, run.received);
        run.count -= moved;
        if run.count == 0 {
            self.first = None;
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
        self.mark_run();
        let mut before = 0;
        let mut at = 0;
        for (index, mark) in self.marks.iter_mut().enumerate() {
            at = index;
            let Mark::Run(Run { count, .. }) = mark else {
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
            Some(Mark::Run(_) | Mark::Newest { .. } | Mark::Resynced(_) | Mark::Ended(_))
            | None => None,
        }
    }

    /// The mark at a place that was found by [`Self::take`].
    pub(super) fn mark_mut(&mut self, at: usize) -> Option<&mut Mark> {
        self.marks.get_mut(at)
    }

    /// So many messages are appended.
    #[inline]
    fn count(&mut self, more: usize, epoch: Epoch, received: Instant) {
        let run = Run {
            count: more,
            epoch,
            received,
        };
        if more > 0 && self.is_empty() {
            self.first = Some(run);
        } else if more > 0 {
            self.count_behind(run);
        }
    }

    #[inline(never)]
    fn count_behind(&mut self, run: Run) {
        let last = match self.marks.back_mut() {
            Some(Mark::Run(last)) => Some(last),
            Some(_) => None,
            None => self.first.as_mut(),
        };
        match last {
            Some(last) if last.is_of(run.epoch, run.received) => last.count += run.count,
            _ => self.marks.push_back(Mark::Run(run)),
        }
    }

    /// Takes up to `limit` messages out of the run that stands behind a gap in front and its end, if it does, and
    /// has both told: `folded` gets the gap, its end, what is known of the run, and when the message was read that stands
    /// behind those taken. Not the last message, and not the last before a mark of another kind.
    pub(super) fn fold_run(
        &mut self,
        limit: usize,
        folded: impl FnOnce(&mut Gap, &mut Resynced, Run, Instant),
    ) -> Option<std::collections::vec_deque::Drain<'_, T>> {
        if self.first.is_some() {
            return None;
        }
        let next = match self.marks.get(3) {
            Some(Mark::Run(next)) => Some(next.received),
            _ => None,
        };
        let mut front = self.marks.iter_mut();
        let (Some(Mark::Gap(gap)), Some(Mark::Resynced(resynced)), Some(Mark::Run(run))) =
            (front.next(), front.next(), front.next())
        else {
            return None;
        };
        let (taken, next) = match next {
            _ if limit < run.count => (limit, run.received),
            Some(next) => (run.count, next),
            None => (run.count - 1, run.received),
        };
        if taken == 0 {
            return None;
        }
        folded(
            gap,
            resynced,
            Run {
                count: taken,
                ..*run
            },
            next,
        );
        run.count -= taken;
        if run.count == 0 {
            self.marks.remove(2);
        }
        Some(self.data.drain(..taken))
    }
}

impl<T> Default for Items<T> {
    fn default() -> Self {
        Self::new()
    }
}
