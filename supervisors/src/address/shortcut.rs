//! What a thread remembers of the incarnations it casts to.
//!
//! To look at who is up without a lock takes two steps that other threads' processors have to agree
//! to, and to count a message takes a third; beside a cast they can be felt. So a thread that has cast to one
//! incarnation several times remembers it, and counts for itself.
//!
//! Invariants: what is remembered is used only while the address still shows the same [`Mark`], which no two
//! incarnations share; a count has one writer, the thread, and none is lost when it forgets; a thread remembers
//! [`PLACES`] incarnations at most, and of each nothing but its actor's cell, so that it keeps no record and
//! no address.

use std::cell::RefCell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use ractor::{ActorCell, Message, MessagingErr};

use crate::id::Generation;
use crate::runtime::record::lock;

/// How many incarnations a thread remembers.
const PLACES: usize = 8;
/// How many casts in a row, of those that would take the same place, make one worth remembering.
const WORTH: u32 = 8;

static MARKS: AtomicU64 = AtomicU64::new(1);

thread_local! {
    static MEMORY: RefCell<[Memory; PLACES]> = const {
        RefCell::new([const { Memory { known: None, asked: Mark::NOBODY, times: 0 } }; PLACES])
    };
}

/// An incarnation at an address, or nobody. Never given twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark(u64);

impl Mark {
    pub(super) const NOBODY: Self = Self(0);

    /// One that nobody had.
    pub(super) fn new() -> Self {
        Self(MARKS.fetch_add(1, Ordering::Relaxed))
    }

    /// Where a thread looks for it.
    #[inline]
    fn place(self) -> usize {
        (self.0 % PLACES as u64) as usize
    }
}

/// Who is up at an address, for a glance.
#[derive(Debug)]
pub(super) struct Sign(AtomicU64);

impl Sign {
    pub(super) fn new() -> Self {
        Self(AtomicU64::new(Mark::NOBODY.0))
    }

    #[inline]
    pub(super) fn shown(&self) -> Mark {
        Mark(self.0.load(Ordering::Acquire))
    }

    pub(super) fn show(&self, mark: Mark) {
        self.0.store(mark.0, Ordering::SeqCst);
    }

    /// Shows nobody, unless it is somebody else who is shown.
    pub(super) fn clear(&self, mark: Mark) {
        // It shows a later one then.
        let _ = self
            .0
            .compare_exchange(mark.0, Mark::NOBODY.0, Ordering::SeqCst, Ordering::SeqCst);
    }
}

/// Messages that went into one mailbox from one address.
#[derive(Debug, Default)]
pub(super) struct Sent {
    /// By those who do not count for themselves, and by those who have forgotten it.
    others: AtomicU64,
    tallies: Mutex<Vec<Arc<Tally>>>,
}

/// Those of one thread. Alone on its cache line.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Tally(AtomicU64);

impl Sent {
    pub(super) fn count_one(&self) {
        self.others.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn total(&self) -> u64 {
        let tallies = lock(&self.tallies);
        let theirs = tallies.iter().map(|tally| tally.0.load(Ordering::Relaxed));
        // Under the lock, where none passes from a tally to the others.
        theirs.fold(self.others.load(Ordering::Relaxed), u64::saturating_add)
    }
}

/// An incarnation as a thread remembers it.
struct Shortcut {
    mark: Mark,
    cell: ActorCell,
    generation: Generation,
    tally: Arc<Tally>,
    sent: Arc<Sent>,
}

impl Drop for Shortcut {
    fn drop(&mut self) {
        let mut tallies = lock(&self.sent.tallies);
        tallies.retain(|tally| !Arc::ptr_eq(tally, &self.tally));
        let counted = self.tally.0.load(Ordering::Relaxed);
        self.sent.others.fetch_add(counted, Ordering::Relaxed);
    }
}

struct Memory {
    known: Option<Shortcut>,
    /// Who was asked for last and is not known, and how often in a row.
    asked: Mark,
    times: u32,
}

/// What became of a message.
pub(super) enum Tried<M> {
    Sent(Generation),
    /// It was not taken.
    Refused(M),
    /// The thread remembers no such incarnation.
    Unknown(M),
}

/// Sends to an incarnation that the thread remembers.
#[inline]
pub(super) fn send<M: Message>(mark: Mark, message: M) -> Tried<M> {
    let mut message = Some(message);
    let tried = MEMORY.try_with(|memory| {
        let memory = memory.try_borrow().ok()?;
        let known = memory[mark.place()].known.as_ref()?;
        if known.mark != mark {
            return None;
        }
        match known.cell.send_message(message.take()?) {
            Ok(()) => {
                let counted = known.tally.0.load(Ordering::Relaxed) + 1;
                known.tally.0.store(counted, Ordering::Relaxed);
            }
            Err(MessagingErr::SendErr(refused)) => message = Some(refused),
            // As for those who are found at their address.
            Err(_) => {}
        }
        Some(known.generation)
    });
    // Nothing is remembered by a thread that is ending.
    let generation = tried.ok().flatten();
    match (message, generation) {
        (None, generation) => Tried::Sent(generation.unwrap_or_default()),
        (Some(message), Some(_)) => Tried::Refused(message),
        (Some(message), None) => Tried::Unknown(message),
    }
}

/// An incarnation was cast to that the thread does not remember.
pub(super) fn note(mark: Mark, cell: &ActorCell, generation: Generation, sent: &Arc<Sent>) {
    let forgotten = MEMORY.try_with(|memory| {
        // A message that casts while it is being cast is not worth more.
        let mut memory = memory.try_borrow_mut().ok()?;
        let memory = &mut memory[mark.place()];
        if memory.asked != mark {
            memory.asked = mark;
            memory.times = 0;
        }
        memory.times += 1;
        if memory.times < WORTH {
            return None;
        }
        memory.times = 0;
        let tally = Arc::<Tally>::default();
        lock(&sent.tallies).push(tally.clone());
        memory.known.replace(Shortcut {
            mark,
            cell: cell.clone(),
            generation,
            tally,
            sent: sent.clone(),
        })
    });
    // Only now, where dropping it may do what it likes.
    drop(forgotten);
}

#[cfg(test)]
mod tests {
    use ractor::{Actor, ActorProcessingErr, ActorRef};

    use super::*;

    struct Sink;

    struct Grain;
    crate::message!(Grain);

    #[cfg_attr(feature = "async-trait", ractor::async_trait)]
    impl Actor for Sink {
        type Msg = Grain;
        type State = ();
        type Arguments = ();

        async fn pre_start(&self, _: ActorRef<Grain>, (): ()) -> Result<(), ActorProcessingErr> {
            Ok(())
        }
    }

    /// Until it is remembered.
    fn learn(mark: Mark, cell: &ActorCell, sent: &Arc<Sent>) {
        for _ in 0..WORTH {
            assert!(matches!(send(mark, Grain), Tried::Unknown(Grain)));
            note(mark, cell, Generation(1), sent);
        }
    }

    #[tokio::test]
    async fn what_is_cast_to_often_is_remembered_and_counted() {
        let (actor, _) = Actor::spawn(None, Sink, ()).await.unwrap();
        let (mark, sent) = (Mark::new(), Arc::default());
        learn(mark, &actor, &sent);
        for _ in 0..5 {
            assert!(matches!(send(mark, Grain), Tried::Sent(Generation(1))));
        }
        assert_eq!(sent.total(), 5);
        assert!(matches!(send(Mark::new(), Grain), Tried::Unknown(Grain)));
        actor.stop_and_wait(None, None).await.unwrap();
        assert!(matches!(send(mark, Grain), Tried::Refused(Grain)));
        assert_eq!(sent.total(), 5);
    }

    #[tokio::test]
    async fn what_was_counted_outlives_the_memory_of_it() {
        let (actor, _) = Actor::spawn(None, Sink, ()).await.unwrap();
        let (first, sent) = (Mark::new(), Arc::default());
        learn(first, &actor, &sent);
        assert!(matches!(send(first, Grain), Tried::Sent(_)));
        let second = loop {
            let second = Mark::new();
            if second.place() == first.place() {
                break second;
            }
        };
        learn(second, &actor, &Arc::default());
        assert!(matches!(send(first, Grain), Tried::Unknown(Grain)));
        assert!(lock(&sent.tallies).is_empty());
        assert_eq!(sent.total(), 1);
        let (cell, other) = (actor.get_cell(), sent.clone());
        let thread = std::thread::spawn(move || {
            learn(first, &cell, &other);
            assert!(matches!(send(first, Grain), Tried::Sent(_)));
            assert_eq!(other.total(), 2);
        });
        thread.join().unwrap();
        assert!(lock(&sent.tallies).is_empty());
        assert_eq!(sent.total(), 2);
        actor.stop(None);
    }

    /// Two in turn at one place of the memory do not drive each other out.
    #[tokio::test]
    async fn who_is_cast_to_now_and_then_is_not_remembered() {
        let (actor, _) = Actor::spawn(None, Sink, ()).await.unwrap();
        let sent = Arc::default();
        let place = Mark::new().place();
        let mut marks = std::iter::repeat_with(Mark::new).filter(|mark| mark.place() == place);
        let (first, second) = (marks.next().unwrap(), marks.next().unwrap());
        for _ in 0..10 * WORTH {
            note(first, &actor, Generation(1), &sent);
            note(second, &actor, Generation(1), &sent);
        }
        assert!(lock(&sent.tallies).is_empty());
        actor.stop(None);
    }
}
