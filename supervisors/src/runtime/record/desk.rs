//! What is put on a keeper's desk: orders, deadlines, what the wrapper saw, and the way to another task.
//!
//! Apart because it is between the keeper and those who have news for it, and nobody else reads it.
//!
//! Invariants: whoever has news notes it before looking for a keeper that is lent; the keeper is woken
//! after each note, and looks at all of them.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Poll, Waker};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::{Notes, Record, lock};
use crate::runtime::keeper::{GRACE, Keeper};
use crate::shutdown::StopOrder;

/// A keeper whose task is running the user's code.
pub(super) struct Lent {
    keeper: Keeper,
    /// Dropped when that task yields: whoever waits for it hears.
    waiting: Vec<oneshot::Sender<()>>,
}

/// What a keeper is told: end it so; the text is for the actor.
pub(crate) type Command = (StopOrder, Arc<str>);

impl Record {
    /// Has the keeper end it. One that is done has reported, and reads it no more.
    pub(crate) fn command(self: &Arc<Self>, order: StopOrder, text: Arc<str>) {
        let mut notes = lock(&self.notes);
        let order = match notes.command.take() {
            Some(unread) => unread.0.tightened(order, Duration::ZERO),
            None => order,
        };
        notes.command = Some(Box::new((order, text)));
        self.relieve(&mut notes, order.grace, None);
        drop(notes);
        self.desk.wake();
    }

    /// Has the keeper give the start up, which takes longer than this.
    pub(crate) fn expire(self: &Arc<Self>, limit: Duration) {
        let mut notes = lock(&self.notes);
        self.overdue.store(true, Ordering::SeqCst);
        self.relieve(&mut notes, GRACE, Some(limit));
        drop(notes);
        self.desk.wake();
    }

    /// It is up. A keeper that gave the start up kills what it no longer hears.
    pub(crate) fn note_ready(&self) {
        self.ready.store(true, Ordering::SeqCst);
        self.desk.wake();
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.ready.load(Ordering::SeqCst)
    }

    pub(crate) fn is_overdue(&self) -> bool {
        self.overdue.load(Ordering::SeqCst)
    }

    /// Has the keeper look up: the doom has come.
    pub(crate) fn doomed(self: &Arc<Self>) {
        self.relieve(&mut lock(&self.notes), GRACE, None);
        self.desk.wake();
    }

    /// Keeps the keeper while its task runs the user's code; not when there is something for it to read.
    pub(crate) fn lend(&self, keeper: Keeper) -> Result<(), Keeper> {
        let mut notes = lock(&self.notes);
        // Whoever has news tells it before looking for a keeper that is lent, under this lock.
        if notes.command.is_some() || self.is_overdue() || keeper.doom.has_come() {
            return Err(keeper);
        }
        notes.lent = Some(Box::new(Lent {
            keeper,
            waiting: Vec::new(),
        }));
        Ok(())
    }

    /// Gives the keeper back, unless somebody else has it.
    pub(crate) fn take_back(&self) -> Option<Keeper> {
        let lent = lock(&self.notes).lent.take();
        lent.map(|lent| lent.keeper)
    }

    /// A keeper that cannot look up because the user's code does not yield is relieved.
    fn relieve(self: &Arc<Self>, notes: &mut Notes, grace: Duration, overdue: Option<Duration>) {
        let Some(lent) = &mut notes.lent else {
            return;
        };
        // Without a runtime nothing goes on anyway.
        let Ok(runtime) = Handle::try_current() else {
            return;
        };
        self.cancel_start();
        let (back, returned) = oneshot::channel();
        lent.waiting.push(back);
        let record = self.clone();
        runtime.spawn(async move {
            // It returned, and sees to it itself.
            if timeout(grace, returned).await.is_ok() {
                return;
            }
            let next = record
                .take_back()
                .and_then(|keeper| keeper.relieve(overdue));
            if let Some(next) = next {
                next.await;
            }
        });
    }

    pub(crate) fn take_command(&self) -> Option<Command> {
        lock(&self.notes).command.take().map(|command| *command)
    }

    /// Has the keeper, and nobody else, woken when something is new on its desk. To be looked at after.
    pub(crate) fn wake_at_news(&self, keeper: &Waker) {
        self.desk.register(keeper);
    }

    /// Waits until there is no state any more. Only the keeper may wait.
    pub(crate) async fn emptied(&self) {
        poll_fn(|context| {
            self.wake_at_news(context.waker());
            if self.is_full() {
                Poll::Pending
            } else {
                Poll::Ready(())
            }
        })
        .await;
    }

    pub(crate) fn note_full(&self) {
        self.full.store(true, Ordering::SeqCst);
    }

    pub(crate) fn note_dropping(&self) {
        self.dropping.store(true, Ordering::SeqCst);
        self.desk.wake();
    }

    pub(crate) fn note_emptied(&self) {
        self.full.store(false, Ordering::SeqCst);
        self.desk.wake();
    }

    /// Whether there is a state that was not dropped yet.
    pub(crate) fn is_full(&self) -> bool {
        self.full.load(Ordering::SeqCst)
    }

    /// Whether the task is at its end, but for the drop of the state.
    pub(crate) fn is_dropping(&self) -> bool {
        self.dropping.load(Ordering::SeqCst)
    }

    pub(crate) fn cancel_start(&self) {
        self.cancelled.store(true, Ordering::SeqCst);
    }

    pub(crate) fn start_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::SeqCst)
    }
}
